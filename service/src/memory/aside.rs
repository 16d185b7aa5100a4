//! Off the async workers: what may take milliseconds, above all giving large memory back to the kernel.
//!
//! A worker of the runtime serves thousands of connections, and each millisecond that it spends unmapping is one that a switch waits.
//! It knows no budget and no memory: only on which kind of thread it runs.

use std::cell::Cell;

use tokio::runtime::Handle;

thread_local! {
    /// Set while a thread of the runtime does work that was put aside.
    static ASIDE: Cell<bool> = const { Cell::new(false) };
}

struct Mark(bool);

impl Drop for Mark {
    fn drop(&mut self) {
        ASIDE.set(self.0);
    }
}

/// Whether this thread must not be kept: it drives a runtime, and is not one that the runtime keeps for work that takes its time.
pub fn on_worker() -> bool {
    !ASIDE.get() && Handle::try_current().is_ok()
}

fn marked<R>(work: impl FnOnce() -> R) -> R {
    let _mark = Mark(ASIDE.replace(true));
    work()
}

/// Does `work` on a thread that may be kept, and waits for it without keeping this one. `None`: it panicked, or the runtime is
/// ending. Once begun it goes on to its end, also when the caller goes away.
pub async fn run<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Option<R> {
    let done = tokio::task::spawn_blocking(move || marked(work)).await;
    done.inspect_err(|error| {
        if error.is_panic() {
            tracing::error!(%error, "work put aside panicked");
        }
    })
    .ok()
}

/// Drops what holds much memory: here, or elsewhere where this thread must not be kept.
pub fn discard(value: impl Send + 'static) {
    match Handle::try_current() {
        Ok(runtime) if on_worker() => {
            // Refused by a runtime that ends, the value is dropped with the closure.
            drop(runtime.spawn_blocking(move || marked(|| drop(value))));
        }
        _ => drop(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::ThreadId;

    /// Says on which thread it was dropped.
    struct Dropped(Sender<ThreadId>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.send(std::thread::current().id());
        }
    }

    fn value() -> (Dropped, Receiver<ThreadId>) {
        let (sender, receiver) = channel();
        (Dropped(sender), receiver)
    }

    #[test]
    fn outside_a_runtime_things_are_dropped_where_they_are() {
        let (value, dropped) = value();
        assert!(!on_worker());
        discard(value);
        assert_eq!(dropped.try_recv(), Ok(std::thread::current().id()));
    }

    #[tokio::test]
    async fn a_worker_drops_nothing_large_and_a_thread_put_aside_does() {
        let here = std::thread::current().id();
        assert!(on_worker());
        let (first, dropped) = value();
        discard(first);
        let (second, nested) = value();
        let there = run(move || {
            assert!(!on_worker());
            discard(second);
            std::thread::current().id()
        })
        .await;
        assert_eq!(nested.try_recv().ok(), there, "no second hop");
        let thread = run(move || dropped.recv().ok()).await.flatten();
        assert!(thread.is_some_and(|thread| thread != here));
        assert!(on_worker());
    }
}
