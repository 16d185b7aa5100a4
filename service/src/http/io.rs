//! A stream that fails when it makes no progress for too long, in either direction, and that ends so that its peer gets the last
//! answer. It knows bytes only.
//!
//! A socket that is closed while bytes of its peer wait unread is reset, and a reset throws away what the peer has not read yet:
//! the very answer that said why its upload was refused. So the stream is closed for writing first, and what still comes is read and
//! thrown away, for a bounded time and number of bytes.
//!
//! hyper bounds the time of a request's head; nothing bounds a peer that stops reading its answer, or one that sends a
//! single byte and waits while the protocol is still being guessed. The clock is looked at lazily: progress stores an
//! instant, and only the timer's own expiry compares.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Bytes that are thrown away at once.
const DISCARD_BYTES: usize = 16 * 1024;
/// Reads for which a lingering stream keeps its worker.
const DISCARD_READS: usize = 16;

/// How a stream ends.
#[derive(Debug, Clone)]
pub struct Ending {
    /// Set by whoever leaves bytes of the peer unread: only then is there a reset to avoid.
    pub unread: Arc<AtomicBool>,
    /// Longest time to wait for the peer's end.
    pub time_max: Duration,
    /// Most bytes to throw away meanwhile.
    pub bytes_max: u64,
    /// Shown the beginning of each write; may give another text that is sent in place of all of it, being the last.
    pub rewrite: fn(&[u8]) -> Option<String>,
}

/// A text on its way in place of a write.
#[derive(Debug)]
struct Rewritten {
    text: String,
    sent: usize,
    stands_for: usize,
}

/// Wraps a stream.
#[derive(Debug)]
pub struct IdleTimeout<S> {
    stream: S,
    limit: Duration,
    progress: Instant,
    timer: Pin<Box<Sleep>>,
    ending: Ending,
    rewritten: Option<Rewritten>,
    /// Bytes thrown away since the stream was closed for writing.
    discarded: Option<u64>,
}

impl<S> IdleTimeout<S> {
    /// Starts with the full time.
    pub fn new(stream: S, limit: Duration, ending: Ending) -> Self {
        Self {
            stream,
            limit,
            progress: Instant::now(),
            timer: Box::pin(tokio::time::sleep(limit)),
            ending,
            rewritten: None,
            discarded: None,
        }
    }

    fn progressed(&mut self) {
        self.progress = Instant::now();
    }

    /// Pending until the limit has passed since the last progress.
    fn poll_expired(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            ready!(self.timer.as_mut().poll(context));
            let due = self.progress + self.limit;
            if due <= Instant::now() {
                return Poll::Ready(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "connection made no progress",
                ));
            }
            self.timer.as_mut().reset(due);
        }
    }

    fn outcome<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match polled {
            Poll::Ready(done) => {
                self.progressed();
                Poll::Ready(done)
            }
            Poll::Pending => self.poll_expired(context).map(Err),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for IdleTimeout<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_read(context, buf);
        this.outcome(context, polled)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> IdleTimeout<S> {
    /// Sends the other text, if this write is to be replaced by one. `None`: it is not.
    fn poll_rewritten(
        &mut self,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<Option<io::Result<usize>>> {
        if self.rewritten.is_none() {
            let Some(text) = (self.ending.rewrite)(buf) else {
                return Poll::Ready(None);
            };
            self.ending.unread.store(true, Ordering::Relaxed);
            self.rewritten = Some(Rewritten {
                text,
                sent: 0,
                stands_for: buf.len(),
            });
        }
        while let Some(rewritten) = &mut self.rewritten {
            let left = &rewritten.text.as_bytes()[rewritten.sent..];
            if left.is_empty() {
                let written = rewritten.stands_for.min(buf.len());
                self.rewritten = None;
                return Poll::Ready(Some(Ok(written)));
            }
            match ready!(Pin::new(&mut self.stream).poll_write(context, left)) {
                Ok(0) => return Poll::Ready(Some(Err(io::ErrorKind::WriteZero.into()))),
                Ok(sent) => rewritten.sent += sent,
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        Poll::Ready(None)
    }

    /// Throws away what comes until the peer ends, too.
    fn poll_linger(&mut self, context: &mut Context<'_>, mut discarded: u64) -> Poll<()> {
        let mut scratch = [std::mem::MaybeUninit::uninit(); DISCARD_BYTES];
        for _ in 0..DISCARD_READS {
            let mut buf = ReadBuf::uninit(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(context, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    discarded += buf.filled().len() as u64;
                    self.discarded = Some(discarded);
                    if discarded > self.ending.bytes_max {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.timer.as_mut().poll(context),
            }
        }
        // Others' turn; time counts here, too.
        if self.timer.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for IdleTimeout<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = match this.poll_rewritten(context, buf) {
            Poll::Ready(None) => Pin::new(&mut this.stream).poll_write(context, buf),
            Poll::Ready(Some(written)) => Poll::Ready(written),
            Poll::Pending => Poll::Pending,
        };
        this.outcome(context, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let first = bufs.first().map_or(&[][..], |buf| buf);
        let polled = match this.poll_rewritten(context, first) {
            Poll::Ready(None) => Pin::new(&mut this.stream).poll_write_vectored(context, bufs),
            Poll::Ready(Some(written)) => Poll::Ready(written),
            Poll::Pending => Poll::Pending,
        };
        this.outcome(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_flush(context);
        this.outcome(context, polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let discarded = match this.discarded {
            Some(discarded) => discarded,
            None => {
                ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
                if !this.ending.unread.load(Ordering::Relaxed) {
                    return Poll::Ready(Ok(()));
                }
                let until = Instant::now() + this.ending.time_max;
                this.timer.as_mut().reset(until);
                *this.discarded.insert(0)
            }
        };
        this.poll_linger(context, discarded).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const LIMIT: Duration = Duration::from_secs(5);

    fn ending(unread: bool) -> Ending {
        Ending {
            unread: Arc::new(AtomicBool::new(unread)),
            time_max: Duration::from_secs(2),
            bytes_max: 100,
            rewrite: |text| text.starts_with(b"bad").then(|| "worse".to_owned()),
        }
    }

    fn wrap<S: AsyncRead + AsyncWrite + Unpin>(stream: S, unread: bool) -> IdleTimeout<S> {
        IdleTimeout::new(stream, LIMIT, ending(unread))
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_peer_still_sends_is_thrown_away_within_bounds() {
        for (sent, ends, took) in [(99, true, 0), (99, false, 2), (200, false, 0)] {
            let (mut peer, stream) = tokio::io::duplex(1024);
            let mut stream = wrap(stream, true);
            stream.write_all(b"no").await.expect("open");
            peer.write_all(&vec![0; sent]).await.expect("open");
            if ends {
                peer.shutdown().await.expect("open");
            }
            let start = Instant::now();
            stream.shutdown().await.expect("ends");
            assert_eq!(start.elapsed(), Duration::from_secs(took), "{sent} {ends}");
            let mut answer = [0; 2];
            peer.read_exact(&mut answer).await.expect("the answer");
            assert_eq!(&answer, b"no");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_unread_bytes_the_end_is_at_once() {
        let (_peer, stream) = tokio::io::duplex(16);
        let start = Instant::now();
        wrap(stream, false).shutdown().await.expect("ends");
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_may_be_replaced_as_a_whole() {
        let (mut peer, stream) = tokio::io::duplex(3);
        let mut stream = wrap(stream, false);
        let writing = async move {
            stream.write_all(b"good").await?;
            stream.write_all(b"bad news").await?;
            stream.shutdown().await
        };
        let mut read = String::new();
        let (written, _) = tokio::join!(writing, peer.read_to_string(&mut read));
        written.expect("open");
        assert_eq!(read, "goodworse");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_cut_off_after_the_limit() {
        let (_peer, stream) = tokio::io::duplex(16);
        let start = Instant::now();
        let error = wrap(stream, false).read_u8().await.expect_err("times out");
        assert_eq!(
            (error.kind(), start.elapsed()),
            (io::ErrorKind::TimedOut, LIMIT)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn progress_starts_the_time_anew() {
        let (mut peer, stream) = tokio::io::duplex(16);
        let mut stream = wrap(stream, false);
        for byte in 0..4 {
            let late = async {
                tokio::time::sleep(Duration::from_secs(4)).await;
                peer.write_u8(byte).await
            };
            let (read, written) = tokio::join!(stream.read_u8(), late);
            assert_eq!(read.expect("in time"), byte);
            written.expect("open");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_stops_reading_is_cut_off() {
        let (_peer, stream) = tokio::io::duplex(16);
        let mut stream = wrap(stream, false);
        let error = stream.write_all(&[0; 64]).await.expect_err("times out");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
