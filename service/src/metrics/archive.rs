//! The archive: the way of evicted textures there and back, and what lies there.

use super::label::{By, labels};
use super::registrar::Registrar;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

labels! {
    /// What became of an attempt to read a texture back from the archive; all but `hit` go on to the decoder.
    ArchiveRead("result") {
        Hit = "hit",
        Absent = "absent",
        Truncated = "truncated",
        Corrupt = "corrupt",
        Error = "error",
        Timeout = "timeout",
        Busy = "busy",
    }
    /// What became of an evicted texture on its way to the archive; all but `ok` and `present` leave it unarchived.
    ArchiveWrite("result") {
        Ok = "ok",
        Present = "present",
        DiskFull = "disk_full",
        Error = "error",
        Paused = "paused",
        TooLarge = "too_large",
        QueueFull = "queue_full",
        Dropped = "dropped",
        TakenBack = "taken_back",
        Overtaken = "overtaken",
    }
    /// Why a file left the archive.
    ArchiveRemoval("reason") { Limit = "limit", Outdated = "outdated", Damaged = "damaged", Leftover = "leftover", }
}

/// Series of the archive.
#[derive(Debug)]
pub struct ArchiveMetrics {
    /// Attempts to read a texture back from the archive.
    pub reads_total: By<ArchiveRead, Counter>,
    /// Evicted textures on their way to the archive.
    pub writes_total: By<ArchiveWrite, Counter>,
    /// Files that left the archive.
    pub removals_total: By<ArchiveRemoval, Counter>,
    /// Time of one read that brought a texture back, checksum included, in seconds.
    pub read_duration_seconds: Histogram,
    /// Time of one write that ended well, in seconds.
    pub write_duration_seconds: Histogram,
    /// Bytes of the archive's files.
    pub bytes: Gauge,
    /// Bytes that the archive may take; 0 when it is off.
    pub limit_bytes: Gauge,
    /// Textures in the archive.
    pub entries: Gauge,
    /// Evicted textures that wait to be written, the one being written included.
    pub queue_textures: Gauge,
    /// Bytes of memory that they still hold.
    pub queue_bytes: Gauge,
}

impl ArchiveMetrics {
    pub(super) fn new(r: &mut Registrar) -> Self {
        Self {
            reads_total: r.counters(
                "archive_reads",
                "Attempts to read a texture back from the archive by result; more truncated, corrupt or error: its disk fails; more timeout or busy: it is slow",
            ),
            writes_total: r.counters(
                "archive_writes",
                "Evicted textures on their way to the archive by result; more disk_full or error: nothing new is archived; more queue_full: evictions outrun the disk",
            ),
            removals_total: r.counters(
                "archive_removals",
                "Files that left the archive by reason; a steady rise of limit: it is smaller than what is asked for",
            ),
            read_duration_seconds: r.work(
                "archive_read_duration_seconds",
                "Time of one read that brought a texture back, checksum included; a rise means a slow disk: a decode may be as fast",
            ),
            write_duration_seconds: r.work(
                "archive_write_duration_seconds",
                "Time of one write of a texture that ended well; a rise means a slow disk, and evicted textures that wait for it",
            ),
            bytes: r.gauge("archive_bytes", "Bytes of the archive's files"),
            limit_bytes: r.gauge(
                "archive_limit_bytes",
                "Bytes that the archive may take, 0 when it is off",
            ),
            entries: r.gauge("archive_entries", "Textures in the archive"),
            queue_textures: r.gauge(
                "archive_queue_textures",
                "Evicted textures that wait to be written, the one being written included",
            ),
            queue_bytes: r.gauge(
                "archive_queue_bytes",
                "Bytes of memory that textures on their way to the archive still hold",
            ),
        }
    }
}
