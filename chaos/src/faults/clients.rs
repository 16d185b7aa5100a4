//! Clients that are a burden by themselves: slow ones, which send and take a byte at a time, and a flood of connections on which nothing
//! is asked.
//!
//! Both end with their sockets: there is nothing on the host to undo but what the kernel closes with them.

use std::collections::VecDeque;
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
use crate::service::Service;
use crate::verdict::HOG_RATIO_MIN;

/// Time between two bytes of a slow client.
const PACE: Duration = Duration::from_millis(200);
/// Time before a client that was turned away comes again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Time for a connection to come about.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// What a slow reader keeps of an answer: the kernel doubles it.
const WINDOW_BYTES: u32 = 2048;
/// Between two looks at how many are open.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Between two looks at what the service says of its connections, and the time for one.
const ASK_EVERY: Duration = Duration::from_millis(250);
const ASK_WITHIN: Duration = Duration::from_secs(1);
/// Looks at most while those of another fault come or go.
const LOOKS_MAX: u32 = 20;
/// Time for the service to see that they are gone.
const GONE_WITHIN: Duration = Duration::from_secs(5);
/// Share of them by which its count must fall then: the load's own connections, which come and go, are in it, too.
const FALL_MIN: f64 = 0.5;

/// What the clients of one fault have seen together.
#[derive(Debug, Default)]
struct Tally {
    /// Open ones of all faults that stand.
    of_all_faults: Arc<AtomicU64>,
    open: AtomicU64,
    /// Clients that are connected, or were turned away and will come again.
    there: AtomicU64,
    opened: AtomicU64,
    /// Attempts to connect that came to nothing.
    failed: AtomicU64,
    /// Closed by the other side.
    cut: AtomicU64,
    /// Sent or taken.
    bytes: AtomicU64,
}

/// One more is counted until it is dropped.
struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
    let Some((seen, noticed)) = press(rig, &service, (clients, manner), time, fault).await else {
        return;
    };
    let all = seen.open_max as f64 / f64::from(clients);
    fault.achieved_ratio = Some(all.min(1.0));
    fault.acted = all >= HOG_RATIO_MIN
        && seen.bytes >= u64::from(clients)
        && noticed.is_some_and(|n| n >= HOG_RATIO_MIN * f64::from(clients));
    fault.proof = format!(
        "{} of {clients} clients connected at a time, {} attempts to connect failed, {} bytes sent or taken one by one, {} connections closed by the service, {}",
        seen.open_max,
        seen.failed,
        seen.bytes,
        seen.cut,
        words(noticed)
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
    let crowd = (connections, |_| Manner::Idles);
    let Some((seen, noticed)) = press(rig, &service, crowd, time, fault).await else {
        return;
    };
    // One that is turned away was there, too: it comes again a second later.
    let all = seen.there_max as f64 / f64::from(connections);
    fault.achieved_ratio = Some(all);
    fault.acted = all >= HOG_RATIO_MIN
        && noticed.is_some_and(|n| n >= HOG_RATIO_MIN * f64::from(connections));
    fault.proof = format!(
        "{} of {connections} connections open at a time, {} with those turned away, {} attempts to connect failed, {} closed by the service, {}",
        seen.open_max,
        seen.there_max,
        seen.failed,
        seen.cut,
        words(noticed)
    );
    rig.notes.lock().probes.flood = Some(seen);
}

fn words(noticed: Option<f64>) -> String {
    match noticed {
        Some(n) => format!(
            "and at a time the service counted {n:.0} more, those it turned away among them"
        ),
        None => "and what the service counted could not be read".to_owned(),
    }
}

/// A crowd, and the most of it that the service itself counted at a time, none if it does not say; afterwards it is asked whether they
/// are gone.
async fn press(
    rig: &Rig,
    service: &Service,
    crowd_of: (u32, impl Fn(u32) -> Manner),
    time: (Instant, &Stop),
    fault: &mut record::Fault,
) -> Option<(ClientsSeen, Option<f64>)> {
    let mut admin = service.admin;
    admin.timeout = ASK_WITHIN;
    let tally = Arc::new(Tally {
        of_all_faults: rig.clients_open.clone(),
        ..Tally::default()
    });
    let mut noticed = look(&admin, &tally).await.map(Noticed::new);
    let asking = async {
        while time
            .1
            .sleep_until((Instant::now() + ASK_EVERY).min(time.0))
            .await
        {
            if let (Some(noticed), Some(now)) = (&mut noticed, look(&admin, &tally).await) {
                noticed.add(now);
            }
            if Instant::now() >= time.0 {
                break;
            }
        }
    };
    let addr = service.public.addr;
    let (seen, ()) = tokio::join!(crowd((addr, &tally), crowd_of, time, fault), asking);
    let seen = seen?;
    if let Some(noticed) = &noticed {
        let gone = gone(&admin, &tally, noticed).await;
        // One that ended has no connections.
        let ended = || service.process.try_wait().is_some();
        fault.undone &= gone || ended();
    }
    Some((seen, noticed.map(|noticed| noticed.most)))
}

/// Whether the service's count falls again in time.
async fn gone(admin: &Listener, tally: &Tally, noticed: &Noticed) -> bool {
    let until = Instant::now() + GONE_WITHIN;
    loop {
        let now = look(admin, tally).await;
        if now.is_some_and(|now| noticed.fell(now)) {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What the service itself says of its connections, less what other faults' clients have open.
async fn look(admin: &Listener, tally: &Tally) -> Option<Look> {
    let own = tally.open.load(Ordering::Relaxed);
    let of_others = || {
        let of_all = tally.of_all_faults.load(Ordering::Relaxed);
        of_all.saturating_sub(tally.open.load(Ordering::Relaxed))
    };
    let mut of_others_before = of_others();
    for _ in 0..LOOKS_MAX {
        let scrape = admin.scrape().await.ok()?;
        let now = of_others();
        if now == std::mem::replace(&mut of_others_before, now) {
            return Some(Look {
                at: Instant::now(),
                own: own as f64,
                open: scrape.connections? - now as f64,
                shed: scrape.connections_shed.unwrap_or(0.0),
            });
        }
    }
    None
}

/// One look.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    /// Open by our own count.
    own: f64,
    /// Open by the service's.
    open: f64,
    /// Turned away by the service so far.
    shed: f64,
}

/// The service's connections while the clients stand.
#[derive(Debug)]
struct Noticed {
    before: Look,
    /// Looks of the time in which a client that is turned away comes once.
    recent: VecDeque<Look>,
    /// Most at one time more than before, those that were turned away since a client's last coming among them.
    most: f64,
    /// The look with the most open.
    highest: Look,
}

impl Noticed {
    fn new(before: Look) -> Self {
        Self {
            before,
            recent: VecDeque::from([before]),
            most: 0.0,
            highest: before,
        }
    }

    fn add(&mut self, now: Look) {
        let old = |look: &Look| now.at.saturating_duration_since(look.at) > AGAIN_AFTER;
        while self.recent.front().is_some_and(old) {
            self.recent.pop_front();
        }
        let turned_away = self.recent.front().map_or(0.0, |then| now.shed - then.shed);
        self.recent.push_back(now);
        // A service that was started anew counts from zero.
        let more = now.open - self.before.open + turned_away.max(0.0);
        self.most = self.most.max(more);
        if now.open > self.highest.open {
            self.highest = now;
        }
    }

    /// Whether they are no longer in the service's count.
    fn fell(&self, now: Look) -> bool {
        let were = (self.highest.open - self.before.open).min(self.highest.own);
        now.open <= self.highest.open - FALL_MIN * were
    }
}

/// So many clients at once until the time is over; those that are turned away come again. None if they cannot be, which the proof says.
async fn crowd(
    (addr, tally): (SocketAddr, &Arc<Tally>),
    (clients, manner): (u32, impl Fn(u32) -> Manner),
    (until, stop): (Instant, &Stop),
    fault: &mut record::Fault,
) -> Option<ClientsSeen> {
    if u64::from(clients) > host::spare_files() {
        let allowed = host::open_files().unwrap_or(u64::MAX);
        fault.proof = format!(
            "{clients} connections and what else is open are more than the {allowed} open files that the runner may have: `ulimit -n` raises that"
        );
        return None;
    }
    let mut all = JoinSet::new();
    for n in 0..clients {
        all.spawn(client(addr, manner(n), tally.clone()));
    }
    let (mut open_max, mut there_max) = (0, 0);
    loop {
        open_max = open_max.max(tally.open.load(Ordering::Relaxed));
        there_max = there_max.max(tally.there.load(Ordering::Relaxed));
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
        there_max,
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
                tally.opened.fetch_add(1, Ordering::Relaxed);
                let _there = Counted::new(&tally.there);
                {
                    let _open = [&tally.open, &*tally.of_all_faults].map(Counted::new);
                    stay(stream, &manner, &tally).await;
                }
                tally.cut.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            Ok(Err(_)) | Err(_) => {
                tally.failed.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
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
        let tally = Arc::default();
        let seen = crowd(
            (addr, &tally),
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
        assert_eq!(seen.there_max, 4, "however often they come: {seen:?}");
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

    #[test]
    fn what_a_service_turns_away_over_and_over_is_not_added_up() {
        let begin = Instant::now();
        let at = |ms: u64, open: f64, shed: f64| Look {
            at: begin + Duration::from_millis(ms),
            own: open - 5.0,
            open,
            shed,
        };
        let mut noticed = Noticed::new(at(0, 5.0, 7.0));
        // Ten of a hundred stay; twenty come again every second and are turned away.
        for second in 0..20 {
            noticed.add(at(second * 1000 + 300, 15.0, 27.0 + 20.0 * second as f64));
            noticed.add(at(second * 1000 + 700, 15.0, 27.0 + 20.0 * second as f64));
        }
        assert_eq!(noticed.most, 30.0);
        // A late look cannot tell how often each of them came.
        noticed.add(at(60_000, 15.0, 9000.0));
        assert_eq!(noticed.most, 30.0);
        noticed.add(at(60_500, 15.0, 9090.0));
        assert_eq!(noticed.most, 100.0);
    }

    #[test]
    fn they_are_gone_when_the_service_counts_as_few_as_before_or_a_few_of_the_loads_more() {
        let look = |open: f64, own: f64| Look {
            at: Instant::now(),
            own,
            open,
            shed: 0.0,
        };
        let mut noticed = Noticed::new(look(10.0, 0.0));
        noticed.add(look(110.0, 100.0));
        assert!(!noticed.fell(look(110.0, 0.0)) && !noticed.fell(look(80.0, 0.0)));
        assert!(noticed.fell(look(10.0, 0.0)) && noticed.fell(look(30.0, 0.0)));
    }

    #[tokio::test]
    async fn more_than_may_be_open_is_said() {
        let (_stopper, stop) = Stopper::new();
        let mut fault = fault();
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        let time = (Instant::now(), &stop);
        let tally = Arc::default();
        let seen = crowd(
            (addr, &tally),
            (u32::MAX, |_| Manner::Idles),
            time,
            &mut fault,
        )
        .await;
        assert_eq!(seen, None);
        assert!(fault.proof.contains("ulimit -n"), "{}", fault.proof);
    }
}
