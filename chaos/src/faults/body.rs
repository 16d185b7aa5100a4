//! Uploads with a body over the service's limit: a client that announces too much and sends it all the same.
//!
//! The body begins as a picture does, so that nothing but its length speaks against it.

use std::time::Duration;

use backdrop_reports::record;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::memory::{bytes_of, unsized_};
use crate::admin::Listener;
use crate::observed::OversizedSeen;
use crate::rig::{Rig, Stop};
use crate::scenario::Amount;
use crate::units::show_bytes;

/// From the answer to one upload until the next.
const PAUSE: Duration = Duration::from_millis(200);
/// Time for one upload and its answer.
const UPLOAD_MAX: Duration = Duration::from_secs(20);
/// A body is sent in pieces of this many bytes.
const PIECE_BYTES: usize = 64 << 10;
/// Signature, header and first data chunk of a PNG of 1920 × 1080 in RGB.
const PICTURE: &[u8] =
    b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x07\x80\0\0\x04\x38\x08\x02\0\0\0\x67\xb1\x56\x14\
\x7f\xff\xff\xffIDAT";

/// Sends one such upload after the other.
pub(super) async fn oversized(
    rig: &Rig,
    amount: Amount,
    (until, stop): (Instant, &Stop),
    fault: &mut record::Fault,
) {
    let bytes = match bytes_of(rig, amount, fault).await {
        Ok(bytes) => bytes,
        Err(why) => return unsized_(fault, &why),
    };
    let mut seen = OversizedSeen::default();
    while Instant::now() < until {
        let Some(service) = rig.service() else { break };
        let upload = upload(&service.public, bytes);
        let status = tokio::select! {
            status = tokio::time::timeout(UPLOAD_MAX, upload) => status.ok().and_then(Result::ok),
            () = stop.wait() => break,
        };
        seen.offered += 1;
        seen.answered += u64::from(status.is_some());
        seen.refused += u64::from(status == Some(413));
        if !stop.sleep_until(Instant::now() + PAUSE).await {
            break;
        }
    }
    rig.notes.lock().probes.oversized = Some(seen);
    fault.acted = seen.answered > 0;
    fault.proof = format!(
        "{} bodies of {} offered, {} answered, {} of them by 413",
        seen.offered,
        show_bytes(bytes),
        seen.answered,
        seen.refused
    );
}

/// The status of the answer to one upload. What answers early is listened to at once, and gets no more of the body.
async fn upload(public: &Listener, bytes: u64) -> std::io::Result<u16> {
    let (mut answers, mut body) = TcpStream::connect(public.addr).await?.into_split();
    let head = format!(
        "PUT /v1/backgrounds/oversized HTTP/1.1\r\nhost: {}\r\ncontent-type: image/png\r\n\
         content-length: {bytes}\r\nconnection: close\r\n\r\n",
        public.addr
    );
    let sending = async {
        body.write_all(head.as_bytes()).await?;
        let mut left = bytes;
        let mut piece = vec![0; PIECE_BYTES];
        piece[..PICTURE.len()].copy_from_slice(PICTURE);
        while left > 0 {
            let length = left.min(PIECE_BYTES as u64);
            body.write_all(&piece[..length as usize]).await?;
            left -= length;
            piece[..PICTURE.len()].fill(0);
        }
        // All of it is there: the answer is what is waited for.
        std::future::pending::<std::io::Result<u16>>().await
    };
    let answer = async {
        let mut line = [0; 12];
        answers.read_exact(&mut line).await?;
        let status = line.strip_prefix(b"HTTP/1.1 ");
        let status = status.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        status.ok_or_else(|| std::io::Error::other("no status line"))
    };
    tokio::pin!(answer);
    tokio::select! {
        biased;
        status = &mut answer => status,
        // A refusal that closes the connection breaks the sending; its answer may be there all the same.
        _ = sending => answer.await,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// The status that `upload` sees of a server that answers after `after` bytes of head and body.
    async fn seen(bytes: u64, after: usize, answer: &'static str) -> Option<u16> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut got = vec![0; after];
            stream.read_exact(&mut got).expect("so many bytes");
            stream.write_all(answer.as_bytes()).expect("it listens");
            // Until the client has gone, as a server lingers: a reset would take the answer along.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        });
        let status = upload(&Listener::new(addr), bytes).await.ok();
        server.join().expect("the server ends");
        status
    }

    #[tokio::test]
    async fn an_answer_is_heard_before_and_after_the_whole_body() {
        const REFUSED: &str = "HTTP/1.1 413 Content Too Large\r\n\r\n";
        assert_eq!(seen(1 << 40, 200, REFUSED).await, Some(413));
        assert_eq!(
            seen(1 << 20, 1 << 20, "HTTP/1.1 422 x\r\n\r\n").await,
            Some(422)
        );
        assert_eq!(seen(1 << 40, 200, "nothing known\r\n\r\n").await, None);
    }

    #[test]
    fn a_body_begins_as_a_picture_does() {
        assert_eq!(PICTURE.len(), 41);
        assert!(PICTURE.len() < PIECE_BYTES && PICTURE.ends_with(b"IDAT"));
        assert_eq!(PICTURE[16..24], [0, 0, 7, 128, 0, 0, 4, 56]);
    }
}
