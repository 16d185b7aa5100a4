//! Faults as they happen: each waits for its time, acts, shows that it acted, and is undone.
//!
//! A fault never fails the run: what goes wrong is in its proof, and the verdict makes of it what it must.

use std::sync::Arc;
use std::time::Duration;

use backdrop_reports::record;
use bytes::Bytes;
use hyper::Method;
use tokio::time::Instant;

use crate::host::{CpuHog, CpuHogSpec, CpuSet, Ending, HogReport, HostError, Undo, UndoGuard};
use crate::probes::BeforeKill;
use crate::rig::{Rig, Stop};
use crate::scenario::{Amount, FaultKind, FaultPlan, Place, Press, Rate};
use crate::service::ServiceSpec;
use crate::units::{self, show_bytes};
use crate::verdict::HOG_RATIO_MIN;

mod archive;
mod body;
mod clients;
mod limit;
mod memory;
mod stop;

pub use memory::floor_bytes;

/// How long before a burst its memory is made to be at hand.
const WARM_AHEAD: Duration = Duration::from_secs(3);

/// The clock of one trial's faults.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// First planned send.
    pub start: Instant,
    /// The same, milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

impl Clock {
    /// Seconds after the first planned send, now.
    #[must_use]
    pub fn now_s(&self) -> f64 {
        (units::unix_ms_now() as f64 - self.unix_ms as f64) / 1e3
    }
}

/// A fault that has not begun.
#[must_use]
pub fn planned(plan: &FaultPlan) -> record::Fault {
    record::Fault {
        name: plan.name.clone(),
        kind: plan.kind.word().to_owned(),
        requested: requested(plan),
        achieved_ratio: None,
        from_s: plan.at.as_secs_f64(),
        to_s: plan.end().as_secs_f64(),
        acted: false,
        began: false,
        proof: "it never began".to_owned(),
        undone: true,
    }
}

fn requested(plan: &FaultPlan) -> String {
    match &plan.kind {
        FaultKind::MemoryHog {
            amount,
            place,
            ramp,
            pulse,
        } => {
            let turns = pulse.map_or_else(String::new, |pulse| format!(", in turns of {pulse:?}"));
            let place = match place {
                Place::Sibling => "",
                Place::Child => ", in a leaf below the service's",
                Place::Service => ", in the service's leaf",
            };
            format!("{}, over a ramp of {ramp:?}{turns}{place}", words(*amount))
        }
        FaultKind::Burst { amount, rate } => {
            let rate = match rate {
                Rate::Bound(times) => format!("{times} times the service's reaction bound"),
                Rate::Bytes(bytes) => format!("{}/s", show_bytes(*bytes)),
            };
            format!("{} at {rate}", words(*amount))
        }
        FaultKind::PageCache { amount, place } => {
            let place = match place {
                Place::Service | Place::Child => "the service's leaf",
                Place::Sibling => "a leaf beside the service's",
            };
            format!("{} of active page cache in {place}", words(*amount))
        }
        FaultKind::LimitShrink { to, steps } => {
            format!("a limit of {} in steps: {steps}", words(*to))
        }
        FaultKind::ArchiveCorrupt => "a byte of every file of the archive".to_owned(),
        FaultKind::OversizedBody { amount } => format!("bodies of {}", words(*amount)),
        FaultKind::CpuHog { threads, press } => {
            let place = match press {
                Press::Service => "the service's CPUs",
                Press::Anywhere => "all CPUs",
            };
            format!("{threads} spinning on {place}")
        }
        FaultKind::Failpoint { failpoint, action } => format!("{failpoint} = {action}"),
        FaultKind::Stop => "SIGSTOP, and SIGCONT when it is over".to_owned(),
        FaultKind::SlowClients { clients } => format!("{clients} clients, a byte at a time"),
        FaultKind::ConnectionFlood { connections } => {
            format!("{connections} connections on which nothing is asked")
        }
        FaultKind::Kill { restart_within } => {
            format!("SIGKILL, ready again within {restart_within:?}")
        }
    }
}

fn words(amount: Amount) -> String {
    match amount {
        Amount::Floor { textures } => {
            format!("the limit less the service's floor with {textures} textures")
        }
        Amount::Share(share) => format!("{:.0} % of the limit", share * 100.0),
        Amount::Bytes(bytes) => show_bytes(bytes),
    }
}

/// Waits for the fault's time, does it, undoes it.
pub async fn run(
    plan: FaultPlan,
    rig: Arc<Rig>,
    spec: ServiceSpec,
    clock: Clock,
    stop: Stop,
) -> record::Fault {
    let mut fault = planned(&plan);
    if matches!(plan.kind, FaultKind::Burst { .. }) {
        if !stop
            .sleep_until(clock.start + plan.at.saturating_sub(WARM_AHEAD))
            .await
        {
            return fault;
        }
        match memory::warm(&rig, &stop).await {
            Ok(true) => {}
            Ok(false) => return fault,
            Err(why) => {
                fault.proof = why;
                return fault;
            }
        }
    }
    if !stop.sleep_until(clock.start + plan.at).await {
        return fault;
    }
    (fault.from_s, fault.began) = (clock.now_s(), true);
    rig.note("fault", format!("{}: {}", plan.name, fault.requested));
    let standing = rig.exposed.fault(&plan.kind);
    let until = clock.start + plan.end();
    match &plan.kind {
        FaultKind::MemoryHog {
            amount,
            place,
            ramp,
            pulse,
        } => {
            let pace = (*ramp, *pulse);
            let wanted = (*amount, *place);
            memory::hog(&rig, wanted, pace, (until, &stop), &mut fault).await;
        }
        FaultKind::Burst { amount, rate } => {
            memory::burst(&rig, *amount, *rate, (until, &stop), &mut fault).await;
        }
        FaultKind::PageCache { amount, place } => {
            let wanted = (*amount, *place);
            memory::page_cache(&rig, &spec, wanted, (until, &stop), &mut fault).await;
        }
        FaultKind::LimitShrink { to, steps } => {
            limit::shrink(&rig, *to, *steps, (until, &stop), &mut fault).await;
        }
        FaultKind::ArchiveCorrupt => {
            archive::corrupt(&spec, (until, &stop), &mut fault).await;
        }
        FaultKind::OversizedBody { amount } => {
            body::oversized(&rig, *amount, (until, &stop), &mut fault).await;
        }
        FaultKind::CpuHog { threads, press } => {
            cpu_hog(&rig, *threads, *press, until, &stop, &mut fault).await
        }
        FaultKind::Failpoint { failpoint, action } => {
            failpoint_fault(&rig, failpoint, action, until, &stop, &mut fault).await;
        }
        FaultKind::Stop => stop::stop(&rig, (until, &stop), &mut fault).await,
        FaultKind::SlowClients { clients } => {
            clients::slow(&rig, *clients, (until, &stop), &mut fault).await;
        }
        FaultKind::ConnectionFlood { connections } => {
            clients::flood(&rig, *connections, (until, &stop), &mut fault).await;
        }
        FaultKind::Kill { restart_within } => {
            kill(&rig, &spec, *restart_within, (clock, &stop), &mut fault).await;
        }
    }
    // A kill is over when the service is ready again, before what survived it is looked for.
    if !matches!(plan.kind, FaultKind::Kill { .. }) {
        fault.to_s = clock.now_s();
    }
    drop(standing);
    rig.exposed.fault_over(fault.acted);
    rig.note("fault", format!("{} over: {}", plan.name, fault.proof));
    fault
}

async fn cpu_hog(
    rig: &Rig,
    threads: u32,
    press: Press,
    until: Instant,
    stop: &Stop,
    fault: &mut record::Fault,
) {
    let cpus = match press {
        Press::Service => rig.placement.hog.clone(),
        Press::Anywhere => CpuSet::new(
            rig.placement
                .service
                .cpus()
                .iter()
                .chain(rig.placement.simulator.cpus())
                .copied(),
        ),
    };
    let spec = CpuHogSpec {
        program: rig.program.clone(),
        threads,
        cpus,
        leaf: None,
    };
    let hog = match CpuHog::start(spec) {
        Ok(hog) => hog,
        Err(e) => {
            fault.proof = format!("it could not be started: {e}");
            return;
        }
    };
    let guard = rig.undo.record(Undo::Process {
        process: hog.id(),
        what: "CPU hog".into(),
    });
    stop.sleep_until(until).await;
    let share = hog.share();
    let report = tokio::task::block_in_place(|| hog.stop());
    settle(guard, &report, fault);
    if let Ok(report) = report {
        fault.achieved_ratio = Some(report.achieved_ratio);
        fault.acted = report.achieved_ratio >= HOG_RATIO_MIN && !report.killed;
        fault.proof = format!(
            "it ran or wanted to run {:.0} % of the time and got {:.0} % of its CPUs{}",
            report.achieved_ratio * 100.0,
            share * 100.0,
            fate(&report)
        );
    }
}

/// What became of a hog before its time, for its proof.
fn fate(report: &HogReport) -> &'static str {
    if report.killed {
        ", then it was killed"
    } else {
        ""
    }
}

/// A hog that was stopped and seen gone needs no undo; one that was not is undone by its guard.
fn settle(
    guard: Result<UndoGuard, HostError>,
    report: &Result<HogReport, HostError>,
    fault: &mut record::Fault,
) {
    match report {
        Ok(_) => {
            let settled = guard.and_then(UndoGuard::settled);
            fault.undone = settled.is_ok();
        }
        Err(e) => {
            fault.proof = format!("it could not be ended: {e}");
            fault.undone = guard.and_then(UndoGuard::undo).is_ok();
        }
    }
}

async fn failpoint_fault(
    rig: &Rig,
    name: &str,
    action: &str,
    until: Instant,
    stop: &Stop,
    fault: &mut record::Fault,
) {
    let Some(service) = rig.service() else {
        fault.proof = "the service is gone".to_owned();
        return;
    };
    let admin = service.admin;
    let path = format!("/debug/failpoints/{name}");
    let guard = rig.undo.record(Undo::Failpoint {
        admin: admin.addr.to_string(),
        name: name.to_owned(),
    });
    let before = admin.failpoint_triggers(name).await.ok();
    match admin
        .send(
            Method::PUT,
            &path,
            "text/plain",
            Bytes::from(action.to_owned()),
        )
        .await
    {
        Ok(answer) if answer.ok() => {}
        Ok(answer) => {
            let code = answer
                .problem_code()
                .unwrap_or_else(|| "no code".to_owned());
            fault.proof = format!("the service answered {} {code}", answer.status);
            fault.undone = guard.and_then(UndoGuard::settled).is_ok();
            return;
        }
        Err(e) => {
            fault.proof = e.to_string();
            // It may have been armed all the same.
            let undo = || guard.and_then(UndoGuard::undo);
            fault.undone = tokio::task::block_in_place(undo).is_ok();
            return;
        }
    }
    stop.sleep_until(until).await;
    let after = admin.failpoint_triggers(name).await.ok();
    // A restart sets the count back; a count that could not be read proves nothing.
    let triggers = before.zip(after).map(|(b, a)| a.saturating_sub(b));
    let off = admin.send(Method::DELETE, &path, "", Bytes::new()).await;
    fault.undone = off.is_ok_and(|a| a.ok()) && !admin.failpoint_active(name).await.unwrap_or(true);
    if fault.undone {
        fault.undone = guard.and_then(UndoGuard::settled).is_ok();
    }
    fault.acted = triggers.is_some_and(|n| n > 0);
    fault.proof = triggers.map_or_else(
        || "how often it fired could not be read".to_owned(),
        |n| format!("it fired {n} times"),
    );
}

async fn kill(
    rig: &Rig,
    spec: &ServiceSpec,
    restart_within: Duration,
    (clock, stop): (Clock, &Stop),
    fault: &mut record::Fault,
) {
    fault.to_s = fault.from_s;
    let Some(service) = rig.service() else {
        fault.proof = "the service is gone".to_owned();
        return;
    };
    let before = BeforeKill::prepare(&service.public).await;
    let intended = rig.intend_end();
    let killed_at = Instant::now();
    let _ = service.process.kill();
    let wait = || service.process.wait(Duration::from_secs(10));
    let _ = tokio::task::block_in_place(wait);
    rig.bury(&service);
    let refused = service.public.get("/healthz").await.is_err();
    let ending = service.process.ending();
    let by_us = matches!(ending, Some(Ending::KilledByRunner(_)));
    if ending.is_some() && !by_us {
        rig.crashed(&service, "the service ended by itself before it was killed");
    }
    fault.acted = by_us && refused;
    fault.proof = format!(
        "SIGKILL sent, process {}, connections {}",
        match ending {
            Some(_) if by_us => "gone",
            Some(_) => "gone before it",
            None => "still there",
        },
        if refused { "refused" } else { "still answered" }
    );
    drop(service);
    // A trial that is broken off, or interrupted, waits for nobody; what was started ends with the rig.
    let restarted = tokio::select! {
        restarted = rig.start_service(spec, restart_within) => restarted,
        () = stop.wait() => {
            fault.to_s = clock.now_s();
            fault.proof.push_str(", its restart was not waited for");
            return;
        }
    };
    fault.to_s = clock.now_s();
    // An outage that did not end has no length; that the service did not come back is noted by the rig.
    if restarted.is_ok() {
        rig.notes.lock().probes.outage_s = Some(killed_at.elapsed().as_secs_f64());
    }
    drop(intended);
    match (restarted, before) {
        (Ok(service), Ok(before)) => match before.compare(&service.public).await {
            Ok((uploads, ids)) => {
                let mut notes = rig.notes.lock();
                notes.probes.uploads = Some(uploads);
                notes.probes.stale_ids = Some(ids);
            }
            Err(e) => rig.note(
                "runner",
                format!("what survived could not be asked for: {e}"),
            ),
        },
        (Err(e), _) => {
            fault.undone = false;
            rig.note("runner", format!("no restart: {e}"));
        }
        (_, Err(e)) => rig.note(
            "runner",
            format!("nothing was acknowledged before the kill: {e}"),
        ),
    }
}
