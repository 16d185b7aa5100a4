//! A stream that fails when it makes no progress for too long, in either direction.
//!
//! hyper bounds the time of a request's head; nothing bounds a peer that stops reading its answer, or one that sends a
//! single byte and waits while the protocol is still being guessed. The clock is looked at lazily: progress stores an
//! instant, and only the timer's own expiry compares.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Wraps a stream.
#[derive(Debug)]
pub struct IdleTimeout<S> {
    stream: S,
    limit: Duration,
    progress: Instant,
    timer: Pin<Box<Sleep>>,
}

impl<S> IdleTimeout<S> {
    /// Starts with the full time.
    pub fn new(stream: S, limit: Duration) -> Self {
        Self {
            stream,
            limit,
            progress: Instant::now(),
            timer: Box::pin(tokio::time::sleep(limit)),
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

impl<S: AsyncWrite + Unpin> AsyncWrite for IdleTimeout<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(context, buf);
        this.outcome(context, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(context, bufs);
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
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_cut_off_after_the_limit() {
        let (_peer, stream) = tokio::io::duplex(16);
        let start = Instant::now();
        let error = IdleTimeout::new(stream, LIMIT)
            .read_u8()
            .await
            .expect_err("times out");
        assert_eq!(
            (error.kind(), start.elapsed()),
            (io::ErrorKind::TimedOut, LIMIT)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn progress_starts_the_time_anew() {
        let (mut peer, stream) = tokio::io::duplex(16);
        let mut stream = IdleTimeout::new(stream, LIMIT);
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
        let mut stream = IdleTimeout::new(stream, LIMIT);
        let error = stream.write_all(&[0; 64]).await.expect_err("times out");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
