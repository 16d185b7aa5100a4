//! The service is stopped as a whole by SIGSTOP and goes on by SIGCONT: alive for the kernel, silent for everybody else.

use std::time::Duration;

use backdrop_reports::record;
use tokio::time::Instant;

use crate::host::{Undo, UndoGuard, is_stopped};
use crate::rig::{Rig, Stop};

/// Time for the kernel to show a stop, and for an answer once the service goes on.
const SEEN_WITHIN: Duration = Duration::from_secs(2);
/// How often that is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A client that has no answer in this time has seen it.
const SILENCE: Duration = Duration::from_millis(250);

pub(super) async fn stop(rig: &Rig, (until, stop): (Instant, &Stop), fault: &mut record::Fault) {
    let Some(service) = rig.service() else {
        fault.proof = "the service is gone".to_owned();
        return;
    };
    let process = service.process.id();
    let guard = rig.undo.record(Undo::Continue { process });
    // Nobody is to be missed, and nothing to be called a crash, while it stands still.
    let standing = rig.stand_still();
    let sent = service.process.signal(libc::SIGSTOP);
    let stopped = seen(|| is_stopped(process)).await;
    let mut client = service.public;
    client.timeout = SILENCE;
    let silent = client.get("/healthz").await.is_err();
    stop.sleep_until(until).await;
    let _ = service.process.signal(libc::SIGCONT);
    let goes_on = seen(|| !is_stopped(process)).await;
    drop(standing);
    fault.undone = goes_on && guard.and_then(UndoGuard::settled).is_ok();
    fault.acted = sent.is_ok_and(|sent| sent) && stopped && silent;
    let word = |so: bool, yes: &'static str, no: &'static str| if so { yes } else { no };
    fault.proof = format!(
        "SIGSTOP sent, process {}, a client {}; SIGCONT sent, process {}",
        word(stopped, "stopped", "not stopped"),
        word(silent, "had no answer", "was still answered"),
        word(goes_on, "goes on", "still stopped"),
    );
}

/// Whether it becomes so in time.
async fn seen(so: impl Fn() -> bool) -> bool {
    let give_up = Instant::now() + SEEN_WITHIN;
    while !so() {
        if Instant::now() >= give_up {
            return false;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    true
}
