//! Clients that are a burden by themselves: slow ones, which send and take a byte at a time, and a flood of connections on which nothing
//! is asked.
//!
//! Both end with their sockets: there is nothing on the host to undo but what the kernel closes with them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backdrop_reports::record;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::admin::Listener;
use crate::host;
use crate::observed::ClientsSeen;
use crate::rig::{Rig, Stop};
use crate::verdict::HOG_RATIO_MIN;

/// Time between two bytes of a slow client.
const PACE: Duration = Duration::from_millis(200);
/// Time before a client that was turned away comes again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Time for a connection to come about.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Descriptors that are left for everything else.
const FILES_SPARE: u64 = 256;
/// What a slow reader keeps of an answer: the kernel doubles it.
const WINDOW_BYTES: u32 = 2048;
/// Between two looks at how many are open.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the clients of one fault have seen together.
#[derive(Debug, Default)]
struct Tally {
    open: AtomicU64,
    opened: AtomicU64,
    /// Attempts to connect that came to nothing.
    failed: AtomicU64,
    /// Closed by the other side.
    cut: AtomicU64,
    /// Sent or taken.
    bytes: AtomicU64,
}

/// One more is open until it is dropped.
struct Open<'a>(&'a Tally);

impl<'a> Open<'a> {
    fn new(tally: &'a Tally) -> Self {
        tally.opened.fetch_add(1, Ordering::Relaxed);
        tally.open.fetch_add(1, Ordering::Relaxed);
        Self(tally)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a client does with its connection.
#[derive(Debug, Clone)]
enum Manner {
    /// Sends the head of a request a byte at a time.
    Sends,
    /// Asks for this path and takes the answer a byte at a time.
    Takes(String),
    /// Nothing.
    Idles,
}

/// Clients that send heads, and take pictures, a byte at a time; half of them each.
pub(super) async fn slow(
    rig: &Rig,
    clients: u32,
    time: (Instant, &Stop),
    fault: &mut record::Fault,
) {
    let Some(service) = rig.service() else {
        fault.proof = "the service is gone".to_owned();
        return;
    };
    // Without a picture all of them send.
    let picture = service.public.backgrounds().await.ok();
    let picture = picture.and_then(|all| all.first().map(|b| format!("/v1/backgrounds/{}", b.id)));
    let manner = |n: u32| match &picture {
        Some(path) if n % 2 == 1 => Manner::Takes(path.clone()),
        _ => Manner::Sends,
    };
    let addr = service.public.addr;
    drop(service);
    let Some(seen) = crowd(addr, (clients, manner), time, fault).await else {
        return;
    };
    let all = seen.open_max as f64 / f64::from(clients);
    fault.achieved_ratio = Some(all.min(1.0));
    fault.acted = all >= HOG_RATIO_MIN && seen.bytes >= u64::from(clients);
    fault.proof = format!(
        "{} of {clients} clients connected at a time, {} attempts to connect failed, {} bytes sent or taken one by one, {} connections closed by the service",
        seen.open_max, seen.failed, seen.bytes, seen.cut
    );
    rig.notes.lock().probes.slow_clients = Some(seen);
}

/// Connections on which nothing is asked.
pub(super) async fn flood(
    rig: &Rig,
    connections: u32,
    time: (Instant, &Stop),
    fault: &mut record::Fault,
) {
    let Some(service) = rig.service() else {
        fault.proof = "the service is gone".to_owned();
        return;
    };
    let (addr, admin) = (service.public.addr, service.admin);
    drop(service);
    let before = counted(&admin).await;
    // Half-way it is seen by the service's own count, too.
    let half = Instant::now() + (time.0.saturating_duration_since(Instant::now())) / 2;
    let during = async {
        match time.1.sleep_until(half).await {
            true => counted(&admin).await,
            false => None,
        }
    };
    let manner = |_| Manner::Idles;
    let (seen, during) = tokio::join!(crowd(addr, (connections, manner), time, fault), during);
    let Some(seen) = seen else { return };
    let more = before.zip(during).map(|(before, during)| during - before);
    // One that is turned away was there, too: each client comes again a second later.
    let reached = (seen.open_max + seen.cut).min(u64::from(connections));
    let all = reached as f64 / f64::from(connections);
    fault.achieved_ratio = Some(all);
    let noticed = seen.cut > 0 || more.is_some_and(|more| more >= 1.0);
    fault.acted = all >= HOG_RATIO_MIN && noticed;
    fault.proof = format!(
        "{} of {connections} connections open at a time, {} attempts to connect failed, {} closed by the service, which counted {}",
        seen.open_max,
        seen.failed,
        seen.cut,
        more.map_or_else(
            || "nothing that could be read".to_owned(),
            |n| format!("{n:.0} more")
        ),
    );
    rig.notes.lock().probes.flood = Some(seen);
}

/// Connections that the service itself counts.
async fn counted(admin: &Listener) -> Option<f64> {
    admin.scrape().await.ok()?.connections
}

/// So many clients at once until the time is over; those that are turned away come again. None if they cannot be, which the proof says.
async fn crowd(
    addr: SocketAddr,
    (clients, manner): (u32, impl Fn(u32) -> Manner),
    (until, stop): (Instant, &Stop),
    fault: &mut record::Fault,
) -> Option<ClientsSeen> {
    let allowed = host::open_files().unwrap_or(u64::MAX);
    if u64::from(clients) + FILES_SPARE > allowed {
        fault.proof = format!(
            "{clients} connections and what else is open are more than the {allowed} open files that the runner may have: `ulimit -n` raises that"
        );
        return None;
    }
    let tally = Arc::new(Tally::default());
    let mut all = JoinSet::new();
    for n in 0..clients {
        all.spawn(client(addr, manner(n), tally.clone()));
    }
    let mut open_max = 0;
    loop {
        open_max = open_max.max(tally.open.load(Ordering::Relaxed));
        let next = (Instant::now() + LOOK_EVERY).min(until);
        if !stop.sleep_until(next).await || next >= until {
            break;
        }
    }
    // Their sockets are closed when their tasks are gone.
    all.shutdown().await;
    fault.undone = tally.open.load(Ordering::Relaxed) == 0;
    Some(ClientsSeen {
        open_max,
        opened: tally.opened.load(Ordering::Relaxed),
        failed: tally.failed.load(Ordering::Relaxed),
        cut: tally.cut.load(Ordering::Relaxed),
        bytes: tally.bytes.load(Ordering::Relaxed),
    })
}

/// One client for as long as it is let.
async fn client(addr: SocketAddr, manner: Manner, tally: Arc<Tally>) {
    loop {
        let connected = tokio::time::timeout(CONNECT_WITHIN, connect(addr, &manner)).await;
        match connected {
            Ok(Ok(stream)) => {
                let _open = Open::new(&tally);
                stay(stream, &manner, &tally).await;
                tally.cut.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Err(_)) | Err(_) => {
                tally.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

async fn connect(addr: SocketAddr, manner: &Manner) -> std::io::Result<TcpStream> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if matches!(manner, Manner::Takes(_)) {
        // Otherwise the kernel would take the whole answer for it at once.
        socket.set_recv_buffer_size(WINDOW_BYTES)?;
    }
    socket.connect(addr).await
}

/// Returns when the other side has closed the connection.
async fn stay(mut stream: TcpStream, manner: &Manner, tally: &Tally) {
    let took = || tally.bytes.fetch_add(1, Ordering::Relaxed);
    match manner {
        Manner::Idles => {
            let _ = stream.read(&mut [0; 1]).await;
        }
        Manner::Takes(path) => {
            let head = format!("GET {path} HTTP/1.1\r\nhost: slow\r\n\r\n");
            if stream.write_all(head.as_bytes()).await.is_err() {
                return;
            }
            while let Ok(1..) = stream.read(&mut [0; 1]).await {
                took();
                tokio::time::sleep(PACE).await;
            }
        }
        Manner::Sends => {
            let (mut answer, mut head) = stream.split();
            let mut first = [0; 1];
            let sending = async {
                let begin = b"GET /healthz HTTP/1.1\r\nhost: slow\r\nx-slow: ";
                // A header without end, as long as it is taken.
                for byte in begin.iter().copied().chain(std::iter::repeat(b'a')) {
                    if head.write_all(&[byte]).await.is_err() {
                        return;
                    }
                    took();
                    tokio::time::sleep(PACE).await;
                }
            };
            tokio::select! {
                () = sending => {}
                // It may say so, or just close.
                _ = answer.read(&mut first) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::rig::Stopper;

    fn fault() -> record::Fault {
        let plan = crate::scenario::library::find("memory-hog").expect("a scenario");
        super::super::planned(&plan.faults[0])
    }

    /// What a crowd sees of a server that does this with each connection.
    async fn seen(
        clients: u32,
        manner: Manner,
        serve: impl Fn(std::net::TcpStream) + Send + 'static,
    ) -> (ClientsSeen, record::Fault) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        std::thread::spawn(move || listener.incoming().flatten().for_each(serve));
        let (_stopper, stop) = Stopper::new();
        let mut fault = fault();
        // Ample for all of them to connect on a busy host; their pace is far slower than what they would be let.
        let until = Instant::now() + Duration::from_secs(2);
        let seen = crowd(
            addr,
            (clients, |_| manner.clone()),
            (until, &stop),
            &mut fault,
        )
        .await;
        (seen.expect("few enough"), fault)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn clients_that_are_let_stay_and_are_gone_afterwards() {
        let (seen, fault) = seen(8, Manner::Idles, std::mem::forget).await;
        assert_eq!((seen.open_max, seen.opened, seen.cut), (8, 8, 0));
        assert!(fault.undone);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn those_that_are_turned_away_are_counted() {
        let (seen, _) = seen(4, Manner::Idles, drop).await;
        assert!(seen.cut >= 4, "{seen:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn slow_ones_send_and_take_byte_by_byte() {
        let (sent, _) = seen(2, Manner::Sends, std::mem::forget).await;
        assert!((2..=40).contains(&sent.bytes), "{sent:?}");
        let (taken, _) = seen(2, Manner::Takes("/x".into()), |mut stream| {
            let mut head = [0; 8];
            stream.read_exact(&mut head).expect("it asks");
            assert_eq!(&head, b"GET /x H");
            stream.write_all(&[7; 1000]).expect("it listens");
            std::mem::forget(stream);
        })
        .await;
        assert!((2..=40).contains(&taken.bytes), "{taken:?}");
    }

    #[tokio::test]
    async fn more_than_may_be_open_is_said() {
        let (_stopper, stop) = Stopper::new();
        let mut fault = fault();
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        let time = (Instant::now(), &stop);
        let seen = crowd(addr, (u32::MAX, |_| Manner::Idles), time, &mut fault).await;
        assert_eq!(seen, None);
        assert!(fault.proof.contains("ulimit -n"), "{}", fault.proof);
    }
}
