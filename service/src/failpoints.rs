//! Injection points for faults: their names, their triggers, and the helpers that the parts call.
//!
//! Names read `module.operation.effect` and stand in one list. Every trigger is counted, also under a rate such as
//! `10%return`: a fault that did not fire proves nothing. Without the feature `failpoints` all of this compiles to
//! nothing. It imports no other part; the metric copies the counters when it is scraped.

/// A load from the store fails.
pub const STORE_LOAD_ERROR: &str = "store.load.error";
/// A load from the store waits `return(ms)` milliseconds first.
pub const STORE_LOAD_DELAY: &str = "store.load.delay";
/// An upload or a removal waits `return(ms)` milliseconds before it is made durable.
pub const STORE_WRITE_DELAY: &str = "store.write.delay";
/// A read of the archive fails.
pub const STORE_ARCHIVE_READ_ERROR: &str = "store.archive.read_error";
/// A write of the archive fails.
pub const STORE_ARCHIVE_WRITE_ERROR: &str = "store.archive.write_error";
/// A write of the archive finds the disk full.
pub const STORE_ARCHIVE_DISK_FULL: &str = "store.archive.disk_full";
/// A read or write of the archive waits `return(ms)` milliseconds first.
pub const STORE_ARCHIVE_SLOW: &str = "store.archive.slow";
/// A picture's decoding fails.
pub const CODEC_DECODE_ERROR: &str = "codec.decode.error";
/// A picture's decoding waits `return(ms)` milliseconds first.
pub const CODEC_DECODE_DELAY: &str = "codec.decode.delay";
/// A reservation finds the budget exhausted.
pub const MEMORY_RESERVE_EXHAUSTED: &str = "memory.reserve.exhausted";
/// An eviction pass waits `return(ms)` milliseconds between unlinking and freeing.
pub const FLYWEIGHT_EVICT_DELAY: &str = "flyweight.evict.delay";
/// A switch of a session's background fails as internal error, unapplied.
pub const SESSIONS_SWITCH_ERROR: &str = "sessions.switch.error";
/// A render fails.
pub const FRAMES_RENDER_ERROR: &str = "frames.render.error";
/// A render waits `return(ms)` milliseconds first.
pub const FRAMES_RENDER_DELAY: &str = "frames.render.delay";
/// A composite waits `return(ms)` milliseconds first, and keeps its thread.
pub const FRAMES_COMPOSITE_DELAY: &str = "frames.composite.delay";
/// The GPU's device is destroyed, with a batch of frames under way.
pub const RENDER_GPU_LOST: &str = "render.gpu.lost";

/// Every injection point there is.
pub const ALL: &[&str] = &[
    STORE_LOAD_ERROR,
    STORE_LOAD_DELAY,
    STORE_WRITE_DELAY,
    STORE_ARCHIVE_READ_ERROR,
    STORE_ARCHIVE_WRITE_ERROR,
    STORE_ARCHIVE_DISK_FULL,
    STORE_ARCHIVE_SLOW,
    CODEC_DECODE_ERROR,
    CODEC_DECODE_DELAY,
    MEMORY_RESERVE_EXHAUSTED,
    FLYWEIGHT_EVICT_DELAY,
    SESSIONS_SWITCH_ERROR,
    FRAMES_RENDER_ERROR,
    FRAMES_RENDER_DELAY,
    FRAMES_COMPOSITE_DELAY,
    RENDER_GPU_LOST,
];

/// Those of them that wait, and do nothing without a number of milliseconds.
pub const DELAYS: &[&str] = &[
    STORE_LOAD_DELAY,
    STORE_WRITE_DELAY,
    STORE_ARCHIVE_SLOW,
    CODEC_DECODE_DELAY,
    FLYWEIGHT_EVICT_DELAY,
    FRAMES_RENDER_DELAY,
    FRAMES_COMPOSITE_DELAY,
];

/// The points of this build: all of them with the feature, none without.
pub const BUILT: &[&str] = if cfg!(feature = "failpoints") {
    ALL
} else {
    &[]
};

#[cfg(feature = "failpoints")]
pub use enabled::*;

#[cfg(feature = "failpoints")]
mod enabled {
    use super::{ALL, DELAYS};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    static TRIGGERS: [AtomicU64; ALL.len()] = [const { AtomicU64::new(0) }; ALL.len()];

    /// Longest delay that an action can ask for; a longer one is cut.
    const DELAY_MAX: Duration = Duration::from_secs(60);

    /// Why an action was refused.
    #[derive(Debug, thiserror::Error, PartialEq, Eq)]
    pub enum ConfigureError {
        /// No such injection point.
        #[error("no failpoint is named {0}")]
        UnknownName(String),
        /// The action is not `off` or a `return`, optionally with a rate or a count.
        #[error("action {0:?} is not of the form [P%][N*]return[(ms)] or off")]
        BadAction(String),
        /// The point waits, and a step of the action does not say how long: it would count triggers that delay nothing.
        #[error(
            "action {0:?} does not say how long: a delay is of the form [P%][N*]return(ms), ms from 1, or off"
        )]
        NoDelay(String),
    }

    fn index_of(name: &str) -> Option<usize> {
        ALL.iter().position(|known| *known == name)
    }

    /// The action's argument if the point fires now, counting the trigger.
    fn fire(name: &str) -> Option<Option<String>> {
        fail::eval(name, |argument| {
            if let Some(index) = index_of(name) {
                TRIGGERS[index].fetch_add(1, Ordering::Relaxed);
            }
            argument
        })
    }

    /// Milliseconds as [`configure`] takes them.
    fn milliseconds(argument: &str) -> Option<u64> {
        argument.trim().parse().ok().filter(|ms| *ms > 0)
    }

    fn delay_of(name: &str) -> Option<Duration> {
        let ms = milliseconds(&fire(name)??)?;
        Some(Duration::from_millis(ms).min(DELAY_MAX))
    }

    /// Whether the point fires now.
    #[must_use]
    pub fn hit(name: &str) -> bool {
        fire(name).is_some()
    }

    /// Waits as long as the point's `return(ms)` asks for, without blocking the thread.
    pub async fn delay(name: &str) {
        if let Some(wait) = delay_of(name) {
            tokio::time::sleep(wait).await;
        }
    }

    /// Blocks the calling thread as long as the point's `return(ms)` asks for: only for threads of an own pool.
    pub fn delay_blocking(name: &str) {
        if let Some(wait) = delay_of(name) {
            #[expect(
                clippy::disallowed_methods,
                reason = "the injected fault is a blocked thread"
            )]
            std::thread::sleep(wait);
        }
    }

    /// Sets the action of a point.
    ///
    /// Only `off` and `[P%][N*]return[(ms)]` are taken: fail's own `sleep` and `panic` would block or kill a worker
    /// and escape the count. Several steps may be joined by `->`. Those of [`DELAYS`] need their milliseconds.
    ///
    /// # Errors
    /// An unknown name, or an action of another form.
    pub fn configure(name: &str, action: &str) -> Result<(), ConfigureError> {
        if index_of(name).is_none() {
            return Err(ConfigureError::UnknownName(name.to_owned()));
        }
        let bad = || ConfigureError::BadAction(action.to_owned());
        for step in action.split("->") {
            let task = step.rsplit(['%', '*']).next().unwrap_or(step).trim();
            let (task, argument) = task.split_once('(').unwrap_or((task, ""));
            if task != "off" && task != "return" {
                return Err(bad());
            }
            let waits = || milliseconds(argument.strip_suffix(')')?);
            if task == "return" && DELAYS.contains(&name) && waits().is_none() {
                return Err(ConfigureError::NoDelay(action.to_owned()));
            }
        }
        fail::cfg(name, action).map_err(|_| bad())
    }

    /// Switches a point off.
    ///
    /// # Errors
    /// An unknown name.
    pub fn remove(name: &str) -> Result<(), ConfigureError> {
        if index_of(name).is_none() {
            return Err(ConfigureError::UnknownName(name.to_owned()));
        }
        fail::remove(name);
        Ok(())
    }

    /// How often each point fired since the process started, in the order of [`ALL`].
    #[must_use]
    pub fn triggers() -> Vec<(&'static str, u64)> {
        let counts = TRIGGERS.iter().map(|count| count.load(Ordering::Relaxed));
        ALL.iter().copied().zip(counts).collect()
    }

    /// The actions that are set now, by name.
    #[must_use]
    pub fn actions() -> Vec<(String, String)> {
        fail::list()
    }
}

#[cfg(not(feature = "failpoints"))]
mod disabled {
    /// Never fires in this build.
    #[inline(always)]
    #[must_use]
    pub const fn hit(_name: &str) -> bool {
        false
    }

    /// Never waits in this build.
    #[inline(always)]
    pub async fn delay(_name: &str) {}

    /// Never waits in this build.
    #[inline(always)]
    pub const fn delay_blocking(_name: &str) {}

    /// No point ever fires in this build.
    #[must_use]
    pub const fn triggers() -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

#[cfg(not(feature = "failpoints"))]
pub use disabled::*;
