//! Page cache: a child that reads a file of our own until its pages are active, charged to the leaf that it runs in.
//!
//! The file is written here, outside of every cell, and its pages are dropped before the child reads them: page cache is
//! charged to whoever brings it in. It is clean then, and the kernel may drop it whenever it likes.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::super::cgroup::Leaf;
use super::super::cpu::CpuSet;
use super::super::error::HostError;
use super::super::process::{CommandSpec, ProcessId, ServiceProcess};
use super::super::sys;
use super::child::HogState;
use super::{ANSWER_WITHIN, HogReport, listen, report_words};

/// Bytes written at once.
const CHUNK_BYTES: usize = 1 << 20;

/// A cache hog to start.
#[derive(Debug, Clone)]
pub struct CacheHogSpec {
    /// The runner's own binary, `std::env::current_exe()`.
    pub program: PathBuf,
    /// Bytes of page cache.
    pub bytes: u64,
    /// How often the file is read; pages read twice are active.
    pub passes: u32,
    /// File that is made for it, on a real file system; it goes with the hog.
    pub file: PathBuf,
    /// Leaf it runs in and is measured by.
    pub leaf: Leaf,
    /// CPUs it is confined to.
    pub cpus: Option<CpuSet>,
}

/// A running cache hog; dropping it ends the process, but leaves the file.
#[derive(Debug)]
pub struct CacheHog {
    spec: CacheHogSpec,
    process: ServiceProcess,
    /// Active page cache of the leaf before.
    base: u64,
    achieved: Arc<AtomicU64>,
    holding: Arc<AtomicBool>,
}

impl CacheHog {
    /// Writes the file and starts the reader; returns as soon as it reads. Blocks for as long as the file takes.
    pub fn start(spec: CacheHogSpec) -> Result<Self, HostError> {
        write(&spec.file, spec.bytes)?;
        let base = active(&spec.leaf);
        let mut command = CommandSpec::new(&spec.program);
        let passes = spec.passes.to_string();
        command.args = ["hog", "cache", "--passes", &passes, "--file"]
            .map(Into::into)
            .to_vec();
        command.args.push(spec.file.clone().into());
        command.cpus = spec.cpus.clone();
        command.leaf = Some(spec.leaf.clone());
        command.oom_score_adj = Some(0);
        let (process, stdout) = ServiceProcess::spawn_piped(&command)?;
        let (achieved, holding) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let begun = listen(stdout, {
            let (achieved, holding, leaf) = (
                Arc::clone(&achieved),
                Arc::clone(&holding),
                spec.leaf.clone(),
            );
            move |word| {
                let now = active(&leaf).saturating_sub(base);
                achieved.fetch_max(now, Ordering::AcqRel);
                holding.fetch_or(word.state == HogState::Holding, Ordering::AcqRel);
            }
        })?;
        let silent = |_| HostError::Subprocess {
            what: "cache hog",
            why: super::unheard(&process),
        };
        begun.recv_timeout(ANSWER_WITHIN).map_err(silent)?;
        Ok(Self {
            spec,
            process,
            base,
            achieved,
            holding,
        })
    }

    /// Which process.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        self.process.id()
    }

    /// All passes are over.
    #[must_use]
    pub fn holding(&self) -> bool {
        self.holding.load(Ordering::Acquire)
    }

    /// Highest active page cache of the leaf so far, above what was there before, by the kernel's own count, bytes.
    #[must_use]
    pub fn achieved_bytes(&self) -> u64 {
        let now = active(&self.spec.leaf).saturating_sub(self.base);
        self.achieved.fetch_max(now, Ordering::AcqRel).max(now)
    }

    /// Ends the reader, drops the cache, deletes the file, and checks that both are gone.
    pub fn stop(self) -> Result<HogReport, HostError> {
        let killed = self.process.try_wait().is_some();
        let achieved = self.achieved_bytes();
        let not_undone = |what: &str, why: String| HostError::NotUndone {
            what: what.to_owned(),
            why,
        };
        let end = self.process.stop(ANSWER_WITHIN)?;
        let end = end.ok_or_else(|| not_undone("cache hog", "SIGKILL had no effect".to_owned()))?;
        let path = &self.spec.file;
        File::open(path)
            .and_then(|file| sys::drop_cache(&file))
            .map_err(HostError::io("dropping the cache of", path))?;
        std::fs::remove_file(path).map_err(HostError::io("removing", path))?;
        let left = active(&self.spec.leaf).saturating_sub(self.base);
        if left > self.spec.bytes / 2 {
            return Err(not_undone(
                "page cache",
                format!("{left} bytes are still active"),
            ));
        }
        let reached = format!(
            "{achieved} of {} bytes of active page cache",
            self.spec.bytes
        );
        Ok(HogReport {
            process: self.id(),
            requested: self.spec.bytes,
            achieved,
            achieved_ratio: achieved as f64 / self.spec.bytes.max(1) as f64,
            rate_bytes_per_s: None,
            killed,
            words: report_words(&self.process, killed, end, reached),
        })
    }
}

/// Active page cache of a leaf, bytes; zero where it cannot be read.
fn active(leaf: &Leaf) -> u64 {
    leaf.stats().map_or(0, |stats| stats.active_file)
}

/// Makes the file, on disk, with none of it in memory. Its content is no hole and does not repeat within a page.
fn write(path: &Path, bytes: u64) -> Result<(), HostError> {
    let mut file = File::create_new(path).map_err(HostError::io("making", path))?;
    let mut chunk = vec![0_u8; CHUNK_BYTES];
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    for part in chunk.chunks_exact_mut(8) {
        word = word.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
        part.copy_from_slice(&word.to_le_bytes());
    }
    let mut left = bytes;
    while left > 0 {
        let part = left.min(CHUNK_BYTES as u64) as usize;
        file.write_all(&chunk[..part])
            .map_err(HostError::io("writing", path))?;
        left -= part as u64;
    }
    file.sync_all()
        .and_then(|()| sys::drop_cache(&file))
        .map_err(HostError::io("syncing", path))
}
