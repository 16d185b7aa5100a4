//! HTTP/2 without TLS: what hyper's client gets over it, and what a connection is bounded by.

mod support;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use support::*;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A body that may be held back.
#[derive(Default)]
struct Sent {
    held: Option<oneshot::Receiver<()>>,
    bytes: Option<Bytes>,
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(held) = &mut self.held {
            // Let go, or forgotten: both end the wait.
            drop(ready!(Pin::new(held).poll(context)));
            self.held = None;
        }
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}

struct Got {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Got {
    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("json")
    }
}

/// A connection; requests go out in the order in which they are asked.
struct Peer {
    sender: SendRequest<Sent>,
    connection: JoinHandle<hyper::Result<()>>,
}

impl Peer {
    async fn of(service: &Service) -> Self {
        let stream = tokio::net::TcpStream::connect(service.listen).await;
        let stream = TokioIo::new(stream.expect("connects"));
        let (sender, connection) = handshake(TokioExecutor::new(), stream)
            .await
            .expect("HTTP/2");
        Self {
            sender,
            connection: tokio::spawn(connection),
        }
    }

    fn begin(&mut self, method: &str, path: &str, body: Sent) -> impl Future<Output = Got> + use<> {
        self.begin_with(Request::builder(), method, path, body)
    }

    fn begin_with(
        &mut self,
        request: hyper::http::request::Builder,
        method: &str,
        path: &str,
        body: Sent,
    ) -> impl Future<Output = Got> + use<> {
        let uri = format!("http://test{path}");
        let request = request.method(method).uri(uri).body(body).expect("valid");
        let answering = self.sender.send_request(request);
        async {
            let answer = answering.await.expect("an answer");
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            let body = answer.into_body().collect().await.expect("whole");
            Got {
                status,
                headers,
                body: body.to_bytes(),
            }
        }
    }

    async fn ask(&mut self, method: &str, path: &str, body: impl Into<Bytes>) -> Got {
        let body = Sent {
            held: None,
            bytes: Some(body.into()),
        };
        self.begin(method, path, body).await
    }

    async fn get(&mut self, path: &str) -> Got {
        self.begin("GET", path, Sent::default()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_made_switched_and_shown() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let mut peer = Peer::of(&service).await;
    // Longer than the windows: it comes and goes as they open. What follows the end of a JPEG does not matter.
    let mut long = jpeg(64, 64, [10, 200, 30]);
    long.resize(300 << 10, 0);
    let uploaded = peer.ask("PUT", "/v1/backgrounds/long", long.clone()).await;
    assert_eq!(
        (uploaded.status, &uploaded.headers["etag"]),
        (201, &"\"v1\"".parse().expect("a value"))
    );
    assert_eq!(peer.get("/v1/backgrounds/long").await.body, long);

    let made = peer.ask("POST", "/v1/sessions", "{}").await;
    assert_eq!(made.status, 201);
    let session = made.json()["session"].as_str().expect("an id").to_owned();
    let path = format!("/v1/sessions/{session}/background");
    let body = json!({"background": "long"}).to_string();
    let switched = peer.ask("PUT", &path, body).await;
    assert_eq!(switched.json()["background"], json!("long"));
    let frame = peer
        .get(&format!(
            "/v1/sessions/{session}/frame?width=8&height=8&format=rgba"
        ))
        .await;
    assert_eq!((frame.status, frame.body.len()), (200, 8 * 8 * 4));
    assert!(frame.body[1] > 180, "{:?}", &frame.body[..4]);
    let missing = peer.get("/v1/backgrounds/none").await;
    assert_eq!(missing.json()["code"], json!("background_not_found"));

    // More than may be under way at once: the client puts the rest off, and all are answered.
    let asked: Vec<_> = (0..200)
        .map(|_| tokio::spawn(peer.begin("GET", "/healthz", Sent::default())))
        .collect();
    for answer in asked {
        assert_eq!(answer.await.expect("answered").status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_headers_that_is_too_long_is_refused_alone() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let mut peer = Peer::of(&service).await;
    let long = Request::builder().header("x-long", "x".repeat(5 << 10));
    let refused = peer.begin_with(long, "GET", "/healthz", Sent::default());
    assert_eq!(refused.await.status, 431);
    let fits = Request::builder().header("x-long", "x".repeat(3 << 10));
    let taken = peer.begin_with(fits, "GET", "/healthz", Sent::default());
    assert_eq!(taken.await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_streams_under_way_end_and_closes_the_connection() {
    let dir = scratch();
    let mut service = Service::start(dir.path(), &[]);
    let mut peer = Peer::of(&service).await;
    let (let_go, held) = oneshot::channel();
    let file = png(16, 16, [5; 3]);
    let body = Sent {
        held: Some(held),
        bytes: Some(file.clone().into()),
    };
    let late = tokio::spawn(peer.begin("PUT", "/v1/backgrounds/late", body));
    // Asked behind it on the same connection: once this is answered, the other has been taken on.
    assert_eq!(peer.get("/healthz").await.status, 200);
    service.signal("TERM");
    poll("the listener's end", || {
        std::net::TcpStream::connect(service.listen).err()
    });
    let_go.send(()).expect("waited for");
    assert_eq!(late.await.expect("answered").status, 201);
    peer.connection
        .await
        .expect("no panic")
        .expect("a clean end");
    assert_eq!(service.wait().code(), Some(0));
    let service = Service::start(dir.path(), &[]);
    assert_eq!(service.client().get("/v1/backgrounds/late").ok().body, file);
}

/// Kinds of frames and settings, and the code of a refused stream, by RFC 9113.
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_HEADERS: u8 = 4;
const SETTINGS_MAX_CONCURRENT_STREAMS: u16 = 3;
const SETTINGS_INITIAL_WINDOW_SIZE: u16 = 4;
const SETTINGS_MAX_HEADER_LIST_SIZE: u16 = 6;
const REFUSED_STREAM: u32 = 7;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Reads frames until one of `kind` comes that is no acknowledgement: its stream and payload.
fn read_frame(client: &mut Client, kind: u8) -> (u32, Vec<u8>) {
    loop {
        let mut head = [0; 9];
        client.stream().read_exact(&mut head).expect("a frame");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length as usize];
        client.stream().read_exact(&mut payload).expect("whole");
        if head[3] == kind && head[4] & 1 == 0 {
            return (stream, payload);
        }
    }
}

#[test]
fn a_connection_says_its_bounds_and_refuses_the_stream_above_them() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let mut client = service.client();
    let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    hello.extend(frame(SETTINGS, 0, 0, &[]));
    client.stream().write_all(&hello).expect("sent");
    let (_, settings) = read_frame(&mut client, SETTINGS);
    let (settings, _) = settings.as_chunks::<6>();
    let of = |wanted: u16| {
        let set = settings.iter().find(|set| set[..2] == wanted.to_be_bytes());
        set.map(|set| u32::from_be_bytes([set[2], set[3], set[4], set[5]]))
    };
    assert_eq!(of(SETTINGS_MAX_CONCURRENT_STREAMS), Some(128));
    assert_eq!(of(SETTINGS_MAX_HEADER_LIST_SIZE), Some(4 << 10));
    // The protocol's own default need not be said.
    assert_eq!(of(SETTINGS_INITIAL_WINDOW_SIZE).unwrap_or(65_535), 65_535);

    // POST /v1/sessions over http from "test", its body still to come, 129 times.
    let path = b"/v1/sessions";
    let mut head = vec![0x83, 0x86, 0x04, path.len() as u8];
    head.extend_from_slice(path);
    head.extend_from_slice(b"\x01\x04test");
    for stream in (1..=257).step_by(2) {
        let opened = frame(HEADERS, END_HEADERS, stream, &head);
        client.stream().write_all(&opened).expect("sent");
    }
    let (stream, code) = read_frame(&mut client, RST_STREAM);
    assert_eq!((stream, code), (257, REFUSED_STREAM.to_be_bytes().to_vec()));
}
