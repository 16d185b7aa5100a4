//! `GET /metrics` for a Prometheus, on a loopback port: what simulator and runner have in common beside the record, since
//! neither serves anything else.
//!
//! One thread answers one request after the other and closes each connection. A client that dawdles is given up after a
//! second, so that it delays the next one by no more; nothing here touches the threads that measure.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Time for a client to send its request, and again to take the answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// The one type of an answer that is none of an error.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A listener that answers scrapes until it is dropped.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    /// Listens on `address`, whose port may be 0 for a free one; `text` makes the exposition of each scrape.
    ///
    /// # Errors
    /// The address is not on loopback (`InvalidInput`), the port is taken, or no thread is to be had.
    pub fn start(
        address: SocketAddr,
        text: impl Fn() -> String + Send + 'static,
    ) -> io::Result<Self> {
        if !address.ip().is_loopback() {
            let words = format!("{address} is not on loopback, and metrics ask for no token");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, words));
        }
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let ended = Arc::new(AtomicBool::new(false));
        let stop = ended.clone();
        let serve = move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Acquire) {
                    break;
                }
                // A client that broke off is nobody's error, and the next one is served all the same.
                let _ = stream.and_then(|stream| answer(stream, &text));
            }
        };
        let thread = std::thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(serve)?;
        Ok(Self {
            address,
            ended,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // The thread sits in accept; a connection of our own wakes it.
        let woken = TcpStream::connect_timeout(&self.address, PATIENCE);
        if woken.is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: TcpStream, text: &impl Fn() -> String) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = head(&mut stream)?;
    let mut words = head.split_ascii_whitespace();
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let path = target.split('?').next().unwrap_or("");
    let (status, kind, body) = match (method, path) {
        ("GET", "/metrics") => ("200 OK", OPEN_METRICS, text()),
        ("GET", _) => ("404 Not Found", "text/plain", "see /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "text/plain", "GET\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

/// The request up to its empty line.
fn head(stream: &mut TcpStream) -> io::Result<String> {
    let give_up = Instant::now() + PATIENCE;
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let left = give_up.saturating_duration_since(Instant::now());
        if left.is_zero() || head.len() > HEAD_BYTES_MAX {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => head.extend_from_slice(&piece[..read]),
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Endpoint {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Endpoint::start(any, || "a 1\n# EOF\n".to_owned()).expect("a free port")
    }

    fn ask(endpoint: &Endpoint, request: &str) -> String {
        let mut stream = TcpStream::connect(endpoint.address()).expect("it listens");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    #[test]
    fn a_scrape_is_answered_and_nothing_else_is() {
        let endpoint = start();
        let answer = ask(&endpoint, "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text")
        );
        assert!(answer.ends_with("\r\n\r\na 1\n# EOF\n"), "{answer}");
        assert!(ask(&endpoint, "GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
        assert!(ask(&endpoint, "POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
    }

    #[test]
    fn who_breaks_off_or_sends_too_much_stops_nobody() {
        let endpoint = start();
        drop(TcpStream::connect(endpoint.address()).expect("it listens"));
        let mut flood = TcpStream::connect(endpoint.address()).expect("it listens");
        // It may be cut off while it sends.
        let _ = flood.write_all(&vec![b'a'; 4 * HEAD_BYTES_MAX]);
        let answer = ask(&endpoint, "GET /metrics?x=1 HTTP/1.1\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    #[test]
    fn it_ends_with_its_owner_and_stays_on_loopback() {
        let endpoint = start();
        let address = endpoint.address();
        drop(endpoint);
        assert!(TcpStream::connect(address).is_err());
        let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let refused = Endpoint::start(everywhere, String::new).expect_err("not loopback");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }
}
