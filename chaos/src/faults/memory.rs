//! Faults that take memory under the service's limit: a hog along a ramp, a burst at a rate, page cache.

use std::path::PathBuf;
use std::time::Duration;

use backdrop_reports::record;
use tokio::time::Instant;

use super::{fate, settle};
use crate::admin::MemoryReport;
use crate::host::{
    self, CacheHog, CacheHogSpec, HogReport, HostError, Leaf, MemoryHog, MemoryHogSpec, Undo,
    UndoGuard,
};
use crate::observed::BurstSeen;
use crate::rig::{Rig, Stop};
use crate::scenario::{Amount, Place, Rate};
use crate::service::ServiceSpec;
use crate::units::{self, show_bytes};
use crate::verdict::HOG_RATIO_MIN;

/// Bytes of one texture of the drawn backgrounds, as the frame pool hands them out: 1920 × 1080 × 4 in a block of 8 MiB.
const TEXTURE_BYTES: u64 = 8 * units::MIB;
/// Memory that the host keeps while a burst's is warmed.
const WARM_SPARE: u64 = 512 * units::MIB;
/// How often the file of page cache is read; pages read twice are active.
const CACHE_PASSES: u32 = 3;

/// The service's floor: what it cannot give back (its baseline and sessions: all that is no texture and no idle block), room
/// for `textures` textures, and the margin that it keeps free: the part of the limit that its budget never hands out, and
/// at least what lies above its critical watermark.
#[must_use]
pub fn floor_bytes(memory: &MemoryReport, textures: u32) -> u64 {
    let own = memory.pressure_bytes.saturating_sub(memory.foreign_bytes);
    // The ledger counts textures and idle blocks alike: all of it can be given back.
    let kept = own.saturating_sub(memory.textures.ledger_bytes);
    let above_critical = memory.limit_bytes.saturating_sub(memory.critical_bytes);
    let handed_out = memory.budget.ceiling_bytes + memory.baseline_bytes + memory.foreign_bytes;
    let margin = memory
        .limit_bytes
        .saturating_sub(handed_out)
        .max(above_critical);
    kept + u64::from(textures) * TEXTURE_BYTES + margin
}

pub(super) async fn bytes_of(
    rig: &Rig,
    amount: Amount,
    fault: &mut record::Fault,
) -> Result<u64, String> {
    let limit = rig.limit_bytes;
    match amount {
        Amount::Bytes(bytes) => Ok(bytes),
        Amount::Share(share) => Ok((limit as f64 * share) as u64),
        Amount::Floor { textures } => {
            let service = rig.service().ok_or("the service is gone")?;
            let memory = service.admin.memory().await.map_err(|e| e.to_string())?;
            let floor = floor_bytes(&memory, textures);
            if floor + TEXTURE_BYTES > limit {
                return Err(format!(
                    "the floor of {} leaves nothing of {}",
                    show_bytes(floor),
                    show_bytes(limit)
                ));
            }
            fault.requested = format!(
                "{}: the limit less a floor of {}",
                show_bytes(limit - floor),
                show_bytes(floor)
            );
            Ok(limit - floor)
        }
    }
}

/// A process that takes memory along a ramp.
pub(super) async fn hog(
    rig: &Rig,
    (amount, place): (Amount, Place),
    pace: (Duration, Option<Duration>),
    time: (Instant, &Stop),
    fault: &mut record::Fault,
) {
    let bytes = match bytes_of(rig, amount, fault).await {
        Ok(bytes) => bytes,
        Err(why) => return unsized_(fault, &why),
    };
    let leaf = match rig.leaf_of(place) {
        Ok(leaf) => leaf,
        Err(e) => {
            fault.proof = format!("its leaf could not be made: {e}");
            return;
        }
    };
    let wanted = (bytes, false, (&leaf, place));
    let Some(report) = hold(rig, wanted, pace, time, fault).await else {
        return;
    };
    fault.achieved_ratio = Some(report.achieved_ratio);
    fault.acted = report.achieved_ratio >= HOG_RATIO_MIN && !report.killed;
    fault.proof = format!("{}, in {}", reached(&report), leaf.path().display());
}

pub(super) fn unsized_(fault: &mut record::Fault, why: &str) {
    fault.proof = format!("its size could not be computed: {why}");
}

fn reached(report: &HogReport) -> String {
    format!(
        "{} of {} asked for ({:.1} %){}",
        show_bytes(report.achieved),
        show_bytes(report.requested),
        report.achieved_ratio * 100.0,
        fate(report)
    )
}

/// Starts a memory hog, lets it hold (or pulse) until its time is over, and ends it. None if that failed, which the proof says.
async fn hold(
    rig: &Rig,
    (bytes, huge_pages, (leaf, place)): (u64, bool, (&Leaf, Place)),
    (ramp, pulse): (Duration, Option<Duration>),
    (until, stop): (Instant, &Stop),
    fault: &mut record::Fault,
) -> Option<HogReport> {
    let spec = MemoryHogSpec {
        program: rig.program.clone(),
        bytes,
        ramp,
        pulse,
        huge_pages,
        leaf: leaf.clone(),
        cpus: Some(rig.placement.hog.clone()),
    };
    let kills_before = leaf.kill_count().ok();
    let hog = match MemoryHog::start(spec) {
        Ok(hog) => hog,
        Err(e) => {
            fault.proof = format!("it could not be started: {e}");
            return None;
        }
    };
    let guard = rig.undo.record(Undo::Process {
        process: hog.id(),
        what: "memory hog".into(),
    });
    // Where it is by the kernel's word, and not where it was put.
    let placed = leaf.pids().is_ok_and(|pids| pids.contains(&hog.id().pid));
    stop.sleep_until(until).await;
    let report = tokio::task::block_in_place(|| hog.stop());
    settle(guard, &report, fault);
    let report = report.ok()?;
    if report.killed && leaf.kill_count().ok() > kills_before {
        rig.hog_was_killed(place);
    }
    if !placed && !report.killed {
        fault.proof = format!("it was not seen in {}", leaf.path().display());
        return None;
    }
    Some(report)
}

/// Has the host's memory for a burst at hand before its time: under a hypervisor a page costs far more at its first use. False if the
/// trial was over first.
///
/// # Errors
/// There is not as much free, or its process failed; in words.
pub(super) async fn warm(rig: &Rig, stop: &Stop) -> Result<bool, String> {
    // More than a burst takes, since others take some of it first.
    let bytes = rig.limit_bytes + rig.limit_bytes / 4;
    let free = host::available_memory().unwrap_or(0);
    if free < bytes + WARM_SPARE {
        return Err(format!(
            "the host has {} of memory left, too little to have {} at hand",
            show_bytes(free),
            show_bytes(bytes)
        ));
    }
    host::warm(&rig.program, bytes, &rig.placement.hog, stop.wait())
        .await
        .map_err(|e| format!("memory could not be had at hand: {e}"))
}

/// The same, as fast as was asked for.
pub(super) async fn burst(
    rig: &Rig,
    amount: Amount,
    rate: Rate,
    time: (Instant, &Stop),
    fault: &mut record::Fault,
) {
    let bytes = match bytes_of(rig, amount, fault).await {
        Ok(bytes) => bytes,
        Err(why) => return unsized_(fault, &why),
    };
    let (wanted, bound) = match rate {
        Rate::Bytes(bytes) => (bytes as f64, None),
        Rate::Bound(times) => match reaction_bound(rig).await {
            Ok(bound) => (times * bound, Some(bound)),
            Err(why) => {
                fault.proof = why;
                return;
            }
        },
    };
    fault.requested = format!(
        "{} at {}/s{}",
        show_bytes(bytes),
        show_bytes(wanted as u64),
        of(bound)
    );
    let ramp = Duration::from_secs_f64(bytes as f64 / wanted.max(1.0));
    let hog = (bytes, true, (&rig.hog_leaf, Place::Sibling));
    let Some(report) = hold(rig, hog, (ramp, None), time, fault).await else {
        return;
    };
    let rate = report.rate_bytes_per_s.unwrap_or(0.0);
    rig.notes.lock().probes.burst = Some(BurstSeen { rate, bound });
    let as_fast = rate >= HOG_RATIO_MIN * wanted;
    fault.achieved_ratio = Some(report.achieved_ratio);
    fault.acted = report.achieved_ratio >= HOG_RATIO_MIN && as_fast && !report.killed;
    fault.proof = format!("{} at {}/s", reached(&report), show_bytes(rate as u64));
}

fn of(bound: Option<f64>) -> String {
    bound.map_or_else(String::new, |bound| {
        format!(
            ", where the service's reaction bound is {}/s",
            show_bytes(bound as u64)
        )
    })
}

/// The fastest growth that the service promises to survive when it begins at rest, as a burst does, bytes per second.
async fn reaction_bound(rig: &Rig) -> Result<f64, String> {
    let service = rig.service().ok_or("the service is gone")?;
    let memory = service.admin.memory().await.map_err(|e| e.to_string())?;
    memory
        .reaction_bound()
        .ok_or_else(|| {
            "the service does not state its `reaction.at_rest.rate_bytes_per_second` in /debug/memory, so the burst has no rate"
                .to_owned()
        })
}

/// A process that reads a file of its own until the file's page cache is active.
pub(super) async fn page_cache(
    rig: &Rig,
    spec: &ServiceSpec,
    (amount, place): (Amount, Place),
    (until, stop): (Instant, &Stop),
    fault: &mut record::Fault,
) {
    let bytes = match bytes_of(rig, amount, fault).await {
        Ok(bytes) => bytes,
        Err(why) => return unsized_(fault, &why),
    };
    let (folder, hog) = match tokio::task::block_in_place(|| start_cache(rig, spec, bytes, place)) {
        Ok(started) => started,
        Err(e) => {
            fault.proof = format!("it could not be started: {e}");
            return;
        }
    };
    let guard = rig.undo.record(Undo::Process {
        process: hog.id(),
        what: "cache hog".into(),
    });
    stop.sleep_until(until).await;
    let all_read = hog.holding();
    let report = tokio::task::block_in_place(|| hog.stop());
    settle(guard, &report, fault);
    fault.undone &= folder.undo().is_ok();
    if let Ok(report) = report {
        fault.achieved_ratio = Some(report.achieved_ratio);
        fault.acted = all_read && report.achieved_ratio >= HOG_RATIO_MIN && !report.killed;
        let times = if all_read { "" } else { ", and not all of it" };
        fault.proof = format!(
            "{} of active page cache, files read {CACHE_PASSES} times{times}",
            reached(&report)
        );
    }
}

/// The files lie beside the service's data, in the folder that carries the runner's mark, and go with their own guard.
fn start_cache(
    rig: &Rig,
    spec: &ServiceSpec,
    bytes: u64,
    place: Place,
) -> Result<(UndoGuard, CacheHog), HostError> {
    let mut name = spec.data.file_name().unwrap_or_default().to_owned();
    name.push(".page-cache");
    let folder: PathBuf = spec.data.with_file_name(name);
    let guard = rig.undo.record(Undo::Folder {
        path: folder.clone(),
    })?;
    std::fs::create_dir(&folder).map_err(|cause| HostError::Io {
        doing: "making",
        path: folder.clone(),
        cause,
    })?;
    let leaf = match place {
        Place::Service | Place::Child => &rig.service_leaf,
        Place::Sibling => &rig.hog_leaf,
    };
    let hog = CacheHog::start(CacheHogSpec {
        program: rig.program.clone(),
        bytes,
        passes: CACHE_PASSES,
        file: folder.join("cache"),
        leaf: leaf.clone(),
        cpus: Some(rig.placement.hog.clone()),
    })?;
    Ok((guard, hog))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_what_stays_and_textures_and_the_margin() {
        let mib = |n: u64| n * units::MIB;
        let mut memory = MemoryReport {
            limit_bytes: mib(400),
            critical_bytes: mib(380),
            pressure_bytes: mib(300),
            foreign_bytes: mib(10),
            ..MemoryReport::default()
        };
        memory.textures.ledger_bytes = mib(144);
        let kept = mib(300 - 10 - 144);
        memory.budget.ceiling_bytes = mib(400);
        assert_eq!(floor_bytes(&memory, 4), kept + mib(32) + mib(20));
        memory.budget.ceiling_bytes = mib(290);
        memory.baseline_bytes = mib(20);
        assert_eq!(floor_bytes(&memory, 4), kept + mib(32) + mib(80));
    }
}
