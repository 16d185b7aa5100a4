//! The host side against the real kernel: limits, kills and who is charged with them, hogs, undo after kill -9.
//!
//! Where the host allows no memory cgroup the tests that need one say `skipped:` and why.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use backdrop_chaos::host::{
    Cell, CommandSpec, CpuHog, CpuHogSpec, CpuSet, End, Ending, Hierarchy, HostError, Leaf, Limits,
    MemoryHog, MemoryHogSpec, Reaper, Sampler, SamplerConfig, ServiceProcess, Undo, UndoLog,
    leftovers, mark, warm,
};
use parking_lot::Mutex;

const MIB: u64 = 1 << 20;

/// Far beyond what anything here takes; only a hang reaches it.
const HANG: Duration = Duration::from_secs(60);

/// The runner's binary, which is also the hog and the reaper.
fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_backdrop-chaos").into()
}

/// One hierarchy for all tests at a time: on v2 finding it may move processes about.
fn hierarchy(test: &str) -> Option<Arc<Hierarchy>> {
    static SHARED: Mutex<Weak<Hierarchy>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock();
    if let Some(hierarchy) = shared.upgrade() {
        return Some(hierarchy);
    }
    match Hierarchy::detect() {
        Ok(hierarchy) => {
            let hierarchy = Arc::new(hierarchy);
            *shared = Arc::downgrade(&hierarchy);
            Some(hierarchy)
        }
        Err(error) => {
            // Past the harness, which would swallow it.
            let _ = writeln!(std::io::stderr().lock(), "skipped: {test}: {error}");
            None
        }
    }
}

fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "test-{name}-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

fn cell(hierarchy: &Hierarchy, name: &str, bytes: u64) -> Cell {
    hierarchy
        .cell(
            &unique(name),
            Limits {
                memory_bytes: bytes,
            },
        )
        .expect("cell")
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < HANG, "never happened: {what}");
        #[expect(clippy::disallowed_methods, reason = "the interval of a bounded poll")]
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process that takes this much memory in the service's place.
fn eater(leaf: &Leaf, bytes: u64, ramp_ms: u64) -> CommandSpec {
    let mut spec = CommandSpec::new(program());
    let (bytes, ramp_ms) = (bytes.to_string(), ramp_ms.to_string());
    spec.args = ["hog", "memory", "--bytes", &bytes, "--ramp-ms", &ramp_ms]
        .map(Into::into)
        .to_vec();
    spec.leaf = Some(leaf.clone());
    spec.oom_score_adj = Some(1000);
    spec
}

fn sleeper(leaf: &Leaf) -> CommandSpec {
    let mut spec = CommandSpec::new("/bin/sleep");
    spec.args = vec!["1000".into()];
    spec.leaf = Some(leaf.clone());
    spec
}

fn hog(leaf: &Leaf, bytes: u64, ramp: Duration) -> MemoryHog {
    MemoryHog::start(MemoryHogSpec {
        program: program(),
        bytes,
        ramp,
        pulse: None,
        huge_pages: false,
        leaf: leaf.clone(),
        cpus: None,
    })
    .expect("hog")
}

#[test]
fn the_limit_is_read_back_and_the_cell_goes_away() {
    let Some(hierarchy) = hierarchy("the_limit_is_read_back") else {
        return;
    };
    let cell = cell(&hierarchy, "limit", 64 * MIB);
    assert_eq!(cell.limit().expect("limit"), 64 * MIB);
    assert!(
        cell.swap().off && !cell.swap().how.is_empty(),
        "{:?}",
        cell.swap()
    );
    let service = cell.leaf("service").expect("leaf");
    let sleeper = ServiceProcess::spawn(&sleeper(&service)).expect("started");
    assert_eq!(
        service.pids().expect("pids"),
        [sleeper.id().pid],
        "inside before its first instruction"
    );
    let path = cell.path().to_owned();
    let removed = cell.remove().expect("removed");
    assert_eq!(removed.killed, [sleeper.id().pid]);
    assert!(!path.exists());
    assert_eq!(sleeper.wait(HANG), Some(End::Signalled(libc::SIGKILL)));
}

#[test]
fn a_name_that_is_taken_is_refused_and_left_alone() {
    let Some(hierarchy) = hierarchy("a_name_that_is_taken") else {
        return;
    };
    let name = unique("taken");
    let first = hierarchy
        .cell(
            &name,
            Limits {
                memory_bytes: 64 * MIB,
            },
        )
        .expect("cell");
    let error = hierarchy
        .cell(
            &name,
            Limits {
                memory_bytes: 32 * MIB,
            },
        )
        .expect_err("taken");
    assert_eq!(error.errno(), Some(libc::EEXIST), "{error}");
    assert_eq!(first.limit().expect("still there"), 64 * MIB);
}

#[test]
fn a_service_over_the_limit_is_killed_by_the_kernel_and_counted_in_its_leaf() {
    let Some(hierarchy) = hierarchy("a_service_over_the_limit") else {
        return;
    };
    let cell = cell(&hierarchy, "over", 32 * MIB);
    let (service, other) = (
        cell.leaf("service").expect("leaf"),
        cell.leaf("hog").expect("leaf"),
    );
    let child = ServiceProcess::spawn(&eater(&service, 128 * MIB, 0)).expect("started");
    assert_eq!(child.wait(HANG), Some(End::Signalled(libc::SIGKILL)));
    assert_eq!(child.ending(), Some(Ending::KilledByKernel));
    assert_eq!(
        (
            service.kill_count().expect("count"),
            other.kill_count().expect("count")
        ),
        (1, 0)
    );
}

#[test]
fn the_service_is_the_victim_though_the_hog_is_larger() {
    let Some(hierarchy) = hierarchy("the_service_is_the_victim") else {
        return;
    };
    let cell = cell(&hierarchy, "victim", 96 * MIB);
    let (service, side) = (
        cell.leaf("service").expect("leaf"),
        cell.leaf("hog").expect("leaf"),
    );
    let child = ServiceProcess::spawn(&eater(&service, 24 * MIB, 0)).expect("started");
    wait_until("service holds", || {
        service.stats().is_ok_and(|s| s.anon >= 24 * MIB)
    });
    let hog = hog(&side, 84 * MIB, Duration::from_millis(200));
    assert_eq!(child.wait(HANG), Some(End::Signalled(libc::SIGKILL)));
    assert_eq!(child.ending(), Some(Ending::KilledByKernel));
    // Had the hog been chosen first, its death would have made room for the service. That it may die *as well* is the kernel's
    // way: a victim stops holding others back a moment before its pages are returned (MMF_OOM_SKIP in exit_mmap).
    assert_eq!(service.kill_count().expect("count"), 1);
    drop(hog);
}

#[test]
fn a_killed_hog_is_told_and_does_not_count_for_the_service() {
    let Some(hierarchy) = hierarchy("a_killed_hog_is_told") else {
        return;
    };
    let cell = cell(&hierarchy, "hogkill", 32 * MIB);
    let (service, side) = (
        cell.leaf("service").expect("leaf"),
        cell.leaf("hog").expect("leaf"),
    );
    let mut spec = sleeper(&service);
    spec.oom_score_adj = Some(0);
    let child = ServiceProcess::spawn(&spec).expect("started");
    let hog = hog(&side, 128 * MIB, Duration::from_millis(100));
    wait_until("hog is killed", || hog.killed());
    assert_eq!(
        (
            service.kill_count().expect("count"),
            side.kill_count().expect("count")
        ),
        (0, 1)
    );
    assert_eq!(child.try_wait(), None, "the service lives");
    let report = hog.stop().expect("gone already");
    assert!(report.killed && report.achieved_ratio < 0.5, "{report:?}");
}

#[test]
fn a_ramp_ends_within_two_percent_of_the_request() {
    let Some(hierarchy) = hierarchy("a_ramp_ends_within") else {
        return;
    };
    let cell = cell(&hierarchy, "ramp", 256 * MIB);
    let side = cell.leaf("hog").expect("leaf");
    let hog = hog(&side, 160 * MIB, Duration::from_millis(500));
    wait_until("hog holds", || hog.holding());
    wait_until("the kernel's figures have caught up", || {
        hog.achieved_ratio() >= 0.98
    });
    assert_eq!(hog.reported_bytes(), 160 * MIB);
    let ratio = hog.achieved_ratio();
    assert!((0.98..=1.02).contains(&ratio), "{ratio}");
    let report = hog.stop().expect("stopped");
    assert!(
        !report.killed && report.requested == 160 * MIB,
        "{report:?}"
    );
    assert!(side.pids().expect("pids").is_empty());
}

/// A program that takes the place of the runner's as what warms memory, and does this.
fn warms(dir: &Path, does: &str) -> PathBuf {
    let path = dir.join("warms");
    std::fs::write(&path, format!("#!/bin/sh\n{does}\n")).expect("written");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, executable).expect("set");
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_warmed_until_that_is_done_fails_or_is_given_up() {
    let cpus = CpuSet::allowed().expect("own CPUs");
    let never = std::future::pending;
    let done = warm(&program(), 16 * MIB, &cpus, never()).await;
    assert!(matches!(done, Ok(true)), "{done:?}");
    let dir = tempfile::tempdir().expect("temporary folder");
    let failed = warm(&warms(dir.path(), "exit 3"), MIB, &cpus, never()).await;
    let why = failed.expect_err("it failed").to_string();
    assert!(why.contains("exited 3"), "{why}");
    // It would go on for longer than anybody waits for it.
    let told = dir.path().join("pid");
    let program = warms(
        dir.path(),
        &format!("echo $$ > {}; exec sleep 1000", told.display()),
    );
    let pid = || std::fs::read_to_string(&told).unwrap_or_default();
    let begun = async {
        while !pid().ends_with('\n') {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let given_up = warm(&program, MIB, &cpus, begun).await;
    assert!(matches!(given_up, Ok(false)), "{given_up:?}");
    assert!(!alive(pid().trim()), "its process lives on");
}

#[test]
fn a_limit_is_lowered_as_far_as_usage_allows_and_nobody_is_killed() {
    let Some(hierarchy) = hierarchy("a_limit_is_lowered") else {
        return;
    };
    let cell = cell(&hierarchy, "lower", 128 * MIB);
    let service = cell.leaf("service").expect("leaf");
    let child = ServiceProcess::spawn(&eater(&service, 40 * MIB, 0)).expect("started");
    wait_until("service holds", || {
        service.stats().is_ok_and(|s| s.anon >= 40 * MIB)
    });
    let change = cell.set_limit(64 * MIB, HANG).expect("lowered");
    assert_eq!(
        (change.from, change.to, cell.limit().expect("limit")),
        (128 * MIB, 64 * MIB, 64 * MIB)
    );
    let error = cell
        .set_limit(16 * MIB, Duration::from_millis(300))
        .expect_err("40 MiB are in use");
    assert!(
        matches!(error, HostError::LimitHeld { asked, usage, .. } if asked == 16 * MIB && usage > 16 * MIB),
        "{error}"
    );
    assert!(cell.limit().expect("limit") <= 64 * MIB);
    assert_eq!(
        (child.try_wait(), service.kill_count().expect("count")),
        (None, 0)
    );
    assert_eq!(
        cell.set_limit(128 * MIB, HANG).expect("raised").to,
        128 * MIB
    );
}

#[test]
fn a_cpu_hog_is_measured_by_the_scheduler() {
    let allowed = CpuSet::allowed().expect("own CPUs");
    let cpus = CpuSet::new(allowed.cpus().iter().copied().take(1));
    let hog = CpuHog::start(CpuHogSpec {
        program: program(),
        threads: 2,
        cpus,
        leaf: None,
    })
    .expect("hog");
    wait_until("it ran", || hog.share() > 0.0);
    wait_until("its threads want to run nearly all the time", || {
        hog.achieved_ratio() >= 0.95
    });
    let report = hog.stop().expect("stopped");
    assert!(
        !report.killed && report.achieved > 0 && report.achieved <= report.requested,
        "{report:?}"
    );
}

#[test]
fn the_sampler_sees_what_a_hog_reached() {
    let Some(hierarchy) = hierarchy("the_sampler_sees") else {
        return;
    };
    let cell = cell(&hierarchy, "sampler", 128 * MIB);
    let (service, side) = (
        cell.leaf("service").expect("leaf"),
        cell.leaf("hog").expect("leaf"),
    );
    let child = ServiceProcess::spawn(&eater(&service, 8 * MIB, 0)).expect("started");
    let sampler = Sampler::start(
        SamplerConfig::default(),
        cell.probe(),
        service,
        Some(side.clone()),
    )
    .expect("sampler");
    sampler.watch(Some(child.id()));
    let hog = hog(&side, 64 * MIB, Duration::from_millis(200));
    wait_until("the peak was sampled", || {
        sampler.peaks().hog_usage >= 64 * MIB && sampler.peaks().service_held >= 8 * MIB
    });
    hog.stop().expect("stopped");
    let before = sampler.peaks().samples;
    wait_until("more rows", || sampler.peaks().samples > before + 20);
    let (rows, peaks) = sampler.stop();
    assert_eq!(peaks.failed, 0);
    assert!(rows.iter().any(|r| r.service_cpu_s.is_some()));
    assert!(rows.iter().all(|r| r.limit == 128 * MIB));
    assert_eq!(
        rows.iter().map(|r| r.hog_usage_max).max().unwrap_or(0),
        peaks.hog_usage
    );
    assert!(peaks.cell_usage >= peaks.hog_usage);
}

#[test]
fn the_emulation_kills_and_says_that_it_was_not_the_kernel() {
    let cell = cell(&Hierarchy::emulated(), "emulated", 32 * MIB);
    let service = cell.leaf("service").expect("leaf");
    let child = ServiceProcess::spawn(&eater(&service, 128 * MIB, 200)).expect("started");
    assert_eq!(child.wait(HANG), Some(End::Signalled(libc::SIGKILL)));
    assert_eq!(child.ending(), Some(Ending::KilledByWatchdog));
    assert_eq!(service.kill_count().expect("count"), 1);
}

#[test]
fn even_stopped_processes_are_taken_away() {
    let Some(hierarchy) = hierarchy("even_stopped_processes") else {
        return;
    };
    let cell = cell(&hierarchy, "stopped", 64 * MIB);
    let child =
        ServiceProcess::spawn(&sleeper(&cell.leaf("service").expect("leaf"))).expect("started");
    child.signal(libc::SIGSTOP).expect("stopped");
    let path = cell.path().to_owned();
    drop(cell);
    assert!(!path.exists());
    assert_eq!(child.wait(HANG), Some(End::Signalled(libc::SIGKILL)));
}

/// Name of the variable by which the test below runs this binary again as a runner to be killed.
const PLAY_RUNNER: &str = "BACKDROP_TEST_PLAY_RUNNER";

/// Not a test of its own: plays a runner with a cell, a service, a folder, an undo log and a reaper, then waits to be killed.
#[test]
#[ignore = "run by the test of the reaper"]
fn play_runner() {
    let Some(dir) = std::env::var_os(PLAY_RUNNER).map(PathBuf::from) else {
        return;
    };
    let Some(hierarchy) = hierarchy("play_runner") else {
        return;
    };
    let log = UndoLog::create(&dir.join("state")).expect("log");
    let reaper = Reaper::start(&program(), &log).expect("reaper");
    let name = unique("reaped");
    let data = dir.join("data/trial");
    mark(&dir.join("data")).expect("marked");
    let guards = [
        Undo::Cgroup {
            path: hierarchy.cell_path(&name),
        },
        Undo::Folder { path: data.clone() },
    ]
    .map(|undo| log.record(undo).expect("recorded"));
    let cell = hierarchy
        .cell(
            &name,
            Limits {
                memory_bytes: 64 * MIB,
            },
        )
        .expect("cell");
    std::fs::create_dir(&data).expect("folder");
    let leaf = cell.leaf("service").expect("leaf");
    let service = ServiceProcess::spawn(&sleeper(&leaf)).expect("started");
    let below = cell.leaf_below(&leaf, "hog").expect("leaf");
    let hog = ServiceProcess::spawn(&sleeper(&below)).expect("started");
    let stop = log.record(Undo::Continue {
        process: service.id(),
    });
    service.signal(libc::SIGSTOP).expect("stopped");
    let pids = [service.id().pid, hog.id().pid, reaper.id().pid]
        .map(|pid| pid.to_string())
        .join(" ");
    // A line of its own: the harness has begun one before the test.
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nready {pids} {}", cell.path().display())
        .and_then(|()| out.flush())
        .expect("told");
    #[expect(clippy::disallowed_methods, reason = "waits to be killed")]
    std::thread::sleep(HANG);
    drop((stop, guards));
}

#[test]
fn after_kill_nine_the_reaper_undoes_everything_and_leaves() {
    if hierarchy("after_kill_nine").is_none() {
        return;
    }
    let dir = tempfile::tempdir().expect("temporary folder");
    let myself = std::env::current_exe().expect("own path");
    let mut command = Command::new(myself);
    command
        .args(["--exact", "play_runner", "--ignored", "--nocapture"])
        .env(PLAY_RUNNER, dir.path());
    let mut runner = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("runner");
    let lines = BufReader::new(runner.stdout.take().expect("piped")).lines();
    let ready = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("ready ").map(str::to_owned))
        .expect("ready");
    let words: Vec<_> = ready.split(' ').collect();
    let (service, hog, reaper, cell) = (words[0], words[1], words[2], Path::new(words[3]));
    assert!(cell.exists() && alive(service) && alive(hog) && alive(reaper));
    assert!(
        leftovers(&dir.path().join("state"))
            .expect("listed")
            .is_empty(),
        "it lives"
    );
    runner.kill().expect("killed");
    runner.wait().expect("reaped");
    wait_until("the reaper has left", || !alive(reaper));
    assert!(!cell.exists() && !alive(service) && !alive(hog));
    assert!(!dir.path().join("data").exists());
    assert!(
        leftovers(&dir.path().join("state"))
            .expect("listed")
            .is_empty()
    );
    assert_eq!(
        std::fs::read_dir(dir.path().join("state"))
            .expect("list")
            .count(),
        0,
        "the log is gone too"
    );
}

/// Whether a process that is not our child exists; its zombie does not count.
fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[test]
fn a_panic_with_guards_alive_leaves_nothing() {
    // The emulation stands in where the host allows no cgroup: processes and folders must be gone all the same.
    let hierarchy =
        hierarchy("a_panic: with a real cgroup").unwrap_or_else(|| Arc::new(Hierarchy::emulated()));
    let dir = tempfile::tempdir().expect("temporary folder");
    let (state, data) = (dir.path().join("state"), dir.path().join("data/trial"));
    let (told, seen) = std::sync::mpsc::channel();
    let around = dir.path().join("data");
    let run = std::panic::AssertUnwindSafe(|| {
        let log = UndoLog::create(&state).expect("log");
        let name = unique("panic");
        mark(&around).expect("marked");
        let mut guards = vec![
            log.record(Undo::Folder { path: data.clone() })
                .expect("recorded"),
        ];
        if !hierarchy.is_emulated() {
            let path = hierarchy.cell_path(&name);
            guards.push(log.record(Undo::Cgroup { path }).expect("recorded"));
        }
        let limits = Limits {
            memory_bytes: 64 * MIB,
        };
        let cell = hierarchy.cell(&name, limits).expect("cell");
        std::fs::create_dir(&data).expect("folder");
        let service =
            ServiceProcess::spawn(&sleeper(&cell.leaf("service").expect("leaf"))).expect("started");
        told.send((service.id().pid.to_string(), cell.path().to_owned()))
            .expect("told");
        panic!("planted: {} guards stand", guards.len());
    });
    assert!(std::panic::catch_unwind(run).is_err());
    let (service, cell) = seen.recv().expect("it got as far as that");
    assert!(!alive(&service), "the service lives on");
    assert!(!cell.exists(), "the cgroup stays");
    assert!(!data.exists() && !around.exists(), "the folder stays");
    let left = std::fs::read_dir(&state).expect("list").count();
    assert_eq!(left, 0, "the log stays");
}

/// Name of the variable by which the test below runs this binary again as a service with a client that does not read.
const PLAY_FULL: &str = "BACKDROP_TEST_PLAY_FULL";

/// Not a test of its own: sends into a socket that nobody reads until it is full, then waits to be killed.
#[test]
#[ignore = "run by the test of socket buffers"]
fn play_full_socket() {
    if std::env::var_os(PLAY_FULL).is_none() {
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("address");
    let mut client = std::net::TcpStream::connect(address).expect("connected");
    let served = listener.accept().expect("accepted");
    client.set_nonblocking(true).expect("set");
    while client.write(&[7; 65536]).is_ok() {}
    #[expect(clippy::disallowed_methods, reason = "waits to be killed")]
    std::thread::sleep(HANG);
    drop(served);
}

#[test]
fn full_socket_buffers_are_seen() {
    let Some(hierarchy) = hierarchy("full_socket_buffers") else {
        return;
    };
    let cell = cell(&hierarchy, "sockets", 128 * MIB);
    let service = cell.leaf("service").expect("leaf");
    if !service.counts_sockets() {
        let _ = writeln!(
            std::io::stderr().lock(),
            "skipped: full_socket_buffers: this kernel does not count them"
        );
        return;
    }
    let mut spec = CommandSpec::new(std::env::current_exe().expect("own path"));
    spec.args = ["--exact", "play_full_socket", "--ignored"]
        .map(Into::into)
        .to_vec();
    spec.env = vec![(PLAY_FULL.to_owned(), "1".to_owned())];
    spec.leaf = Some(service.clone());
    let child = ServiceProcess::spawn(&spec).expect("started");
    wait_until("socket buffers are counted", || {
        service.stats().is_ok_and(|s| s.sockets > MIB)
    });
    let stats = service.stats().expect("stats");
    assert!(stats.held() >= stats.anon + stats.sockets);
    assert!(service.kernel_peak().is_some_and(|peak| peak > 0));
    child.kill().expect("killed");
}

#[test]
fn a_runner_that_ends_well_leaves_nothing_and_needs_no_reaper() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let log = UndoLog::create(dir.path()).expect("log");
    let reaper = Reaper::start(&program(), &log).expect("reaper");
    assert!(reaper.alive());
    let pid = reaper.id().pid.to_string();
    assert!(log.undo_all().clean());
    drop(log);
    reaper.dismiss().expect("dismissed");
    assert!(!alive(&pid));
    assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 0);
}

#[test]
fn a_killed_runner_without_a_reaper_is_found_by_the_next_start() {
    let Some(hierarchy) = hierarchy("a_killed_runner_without_a_reaper") else {
        return;
    };
    let dir = tempfile::tempdir().expect("temporary folder");
    // What such a runner leaves: its log, and a cell that nobody owns.
    let orphan = cell(&hierarchy, "orphan", 64 * MIB);
    let path = orphan.path().to_owned();
    let child =
        ServiceProcess::spawn(&sleeper(&orphan.leaf("service").expect("leaf"))).expect("started");
    let entry = serde_json::json!({"open": {"number": 0, "undo": "cgroup", "path": path}});
    let runner = serde_json::json!({"runner": {"pid": std::process::id(), "start_ticks": 1}});
    let log = dir
        .path()
        .join(format!("undo-{}-1.jsonl", std::process::id()));
    std::fs::write(&log, format!("{runner}\n{entry}\n")).expect("written");
    let found = leftovers(dir.path()).expect("listed");
    assert_eq!(found.len(), 1);
    let report = found[0].clean();
    assert!(report.clean() && report.done.len() == 1, "{report:?}");
    assert!(!path.exists() && !log.exists());
    assert_eq!(child.wait(HANG), Some(End::Signalled(libc::SIGKILL)));
    drop(orphan);
}
