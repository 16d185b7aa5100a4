//! Faults of memory and limit against the real kernel: what they reach, what is told of them, and that they are undone.
//!
//! Where the host allows no memory cgroup the tests that need one say `skipped:` and why.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use backdrop_chaos::host::{
    CacheHog, CacheHogSpec, Cell, CommandSpec, Hierarchy, Leaf, LimitWatch, Limits, Lowering,
    MemoryHog, MemoryHogSpec, ServiceProcess,
};

const MIB: u64 = 1 << 20;

/// Far beyond what anything here takes; only a hang reaches it.
const HANG: Duration = Duration::from_secs(60);

fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_backdrop-chaos").into()
}

/// A cell, and the right to have one: on v2 finding a place may move processes about, so the tests take turns.
fn cell(test: &str, bytes: u64) -> Option<(MutexGuard<'static, ()>, Hierarchy, Cell)> {
    static TURN: Mutex<()> = Mutex::new(());
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let turn = TURN.lock();
    let hierarchy = match Hierarchy::detect() {
        Ok(hierarchy) => hierarchy,
        Err(error) => {
            // Past the harness, which would swallow it.
            let _ = writeln!(std::io::stderr().lock(), "skipped: {test}: {error}");
            return None;
        }
    };
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("test-{test}-{}-{number}", std::process::id());
    let limits = Limits {
        memory_bytes: bytes,
    };
    let cell = hierarchy.cell(&name, limits).expect("cell");
    Some((turn, hierarchy, cell))
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < HANG, "never happened: {what}");
        #[expect(clippy::disallowed_methods, reason = "the interval of a bounded poll")]
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process that holds this much memory in the service's place.
fn eater(leaf: &Leaf, bytes: u64) -> ServiceProcess {
    let mut spec = CommandSpec::new(program());
    let text = bytes.to_string();
    spec.args = ["hog", "memory", "--bytes", &text, "--ramp-ms", "0"]
        .map(Into::into)
        .to_vec();
    spec.leaf = Some(leaf.clone());
    spec.oom_score_adj = Some(1000);
    let child = ServiceProcess::spawn(&spec).expect("started");
    wait_until("it holds its memory", || {
        leaf.stats().is_ok_and(|stats| stats.anon >= bytes)
    });
    child
}

/// Writes down what was taken, and has whoever lives under the limit give way at the first of it.
struct GivesWay {
    taken: Vec<u64>,
    child: Arc<ServiceProcess>,
}

impl LimitWatch for GivesWay {
    fn accepted(&mut self, limit: u64) {
        if self.taken.is_empty() {
            self.child.kill().expect("killed");
        }
        self.taken.push(limit);
    }

    fn adopted(&self, _: u64) -> bool {
        true
    }
}

#[test]
fn a_limit_follows_usage_down_and_each_one_taken_is_told() {
    let Some((_turn, hierarchy, cell)) = cell("follows", 128 * MIB) else {
        return;
    };
    let service = cell.leaf("service").expect("leaf");
    let child = Arc::new(eater(&service, 80 * MIB));
    let mut watch = GivesWay {
        taken: Vec::new(),
        child: child.clone(),
    };
    let lowering = Lowering {
        patience: HANG,
        room: 8 * MIB,
    };
    let change = cell
        .set_limit_watched(48 * MIB, lowering, &mut watch)
        .expect("lowered");
    assert_eq!(change.to, 48 * MIB);
    assert_eq!(watch.taken.last(), Some(&(48 * MIB)));
    assert!(
        watch.taken.windows(2).all(|w| w[1] < w[0]),
        "{:?}",
        watch.taken
    );
    if hierarchy.word() == "v1" {
        // What was in use, and the room above it: the kernel takes no lower one at first, and one at usage would kill.
        assert!(watch.taken[0] >= 88 * MIB, "{:?}", watch.taken);
    }
    assert_eq!(service.kill_count().expect("count"), 0);
    let raised = cell
        .set_limit_watched(128 * MIB, lowering, &mut ())
        .expect("raised");
    assert_eq!(
        (raised.to, cell.limit().expect("limit")),
        (128 * MIB, 128 * MIB)
    );
}

#[test]
fn page_cache_is_active_clean_charged_to_its_leaf_and_taken_back() {
    let Some((_turn, _hierarchy, cell)) = cell("cache", 128 * MIB) else {
        return;
    };
    let (service, side) = (
        cell.leaf("service").expect("leaf"),
        cell.leaf("hog").expect("leaf"),
    );
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("temporary folder");
    let file = dir.path().join("cache");
    let hog = CacheHog::start(CacheHogSpec {
        program: program(),
        bytes: 48 * MIB,
        passes: 3,
        file: file.clone(),
        leaf: side.clone(),
        cpus: None,
    })
    .expect("hog");
    wait_until("all passes are over", || hog.holding());
    assert!(hog.achieved_bytes() >= 46 * MIB, "{}", hog.achieved_bytes());
    let stats = side.stats().expect("stats");
    assert!(stats.dirty + stats.writeback < MIB, "{stats:?}");
    assert!(stats.anon < 16 * MIB, "its memory is cache: {stats:?}");
    assert!(service.stats().expect("stats").active_file < MIB);
    let report = hog.stop().expect("stopped");
    assert!(
        !report.killed && report.achieved_ratio >= 0.95,
        "{report:?}"
    );
    assert!(!file.exists() && side.pids().expect("pids").is_empty());
    wait_until("the cache is gone", || {
        side.stats().is_ok_and(|stats| stats.active_file < 4 * MIB)
    });
}

#[test]
fn a_file_that_is_there_is_not_made_into_page_cache() {
    let Some((_turn, _hierarchy, cell)) = cell("taken", 64 * MIB) else {
        return;
    };
    let dir = tempfile::tempdir().expect("temporary folder");
    let file = dir.path().join("precious");
    std::fs::write(&file, "mine").expect("written");
    let spec = CacheHogSpec {
        program: program(),
        bytes: MIB,
        passes: 1,
        file: file.clone(),
        leaf: cell.leaf("hog").expect("leaf"),
        cpus: None,
    };
    let error = CacheHog::start(spec).expect_err("somebody's file");
    assert_eq!(error.errno(), Some(libc::EEXIST), "{error}");
    assert_eq!(std::fs::read(&file).expect("read"), b"mine");
}

#[test]
fn a_ramp_tells_its_rate_and_is_never_faster_than_asked() {
    let Some((_turn, _hierarchy, cell)) = cell("rate", 256 * MIB) else {
        return;
    };
    let side = cell.leaf("hog").expect("leaf");
    let hog = MemoryHog::start(MemoryHogSpec {
        program: program(),
        bytes: 96 * MIB,
        ramp: Duration::from_millis(300),
        pulse: None,
        huge_pages: false,
        leaf: side,
        cpus: None,
    })
    .expect("hog");
    wait_until("it holds", || hog.holding());
    let rate = hog.rate_bytes_per_s().expect("it told");
    let asked = 96.0 * MIB as f64 / 0.3;
    assert!(rate > 0.0 && rate <= asked * 1.01, "{rate} of {asked}");
    let report = hog.stop().expect("stopped");
    assert!(
        report.rate_bytes_per_s.is_some() && !report.killed,
        "{report:?}"
    );
}

#[test]
fn a_pulse_gives_its_memory_back_and_takes_it_again() {
    let Some((_turn, _hierarchy, cell)) = cell("pulse", 256 * MIB) else {
        return;
    };
    let side = cell.leaf("hog").expect("leaf");
    let hog = MemoryHog::start(MemoryHogSpec {
        program: program(),
        bytes: 64 * MIB,
        ramp: Duration::ZERO,
        pulse: Some(Duration::from_millis(400)),
        huge_pages: false,
        leaf: side.clone(),
        cpus: None,
    })
    .expect("hog");
    let anon = || side.stats().map_or(u64::MAX, |stats| stats.anon);
    for turn in 0..2 {
        wait_until(&format!("it holds, {turn}"), || anon() >= 63 * MIB);
        wait_until(&format!("it gave all back, {turn}"), || anon() < 8 * MIB);
    }
    let report = hog.stop().expect("stopped");
    assert!(
        !report.killed && report.achieved_ratio >= 0.95,
        "{report:?}"
    );
}
