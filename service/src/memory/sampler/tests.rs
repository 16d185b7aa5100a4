//! The sampler on drawn hosts.

use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::memory::budget::BudgetConfig;
use crate::memory::cgroup::Version;
use crate::memory::cgroup::drawn::Host;
use crate::memory::governor::GovernorConfig;

const MIB: u64 = 1 << 20;
/// Far beyond any scheduling delay: running into it means that it never happens.
const NEVER: Duration = Duration::from_secs(60);

/// A cgroup of 400 MiB in which the service and a neighbour use so much.
fn draw(host: &Host, own: u64, foreign: u64) {
    let stat = "total_active_file 0\ntotal_inactive_file 0\n";
    host.write("cg/run/memory.stat", stat);
    host.write("cg/run/service/memory.stat", stat);
    host.write("cg/run/service/memory.usage_in_bytes", &own.to_string());
    host.write("cg/run/memory.usage_in_bytes", &(own + foreign).to_string());
}

fn host() -> Host {
    let host = Host::new(Version::V1);
    host.write("proc/meminfo", "MemTotal: 8000000 kB\n");
    host.write("cg/run/memory.limit_in_bytes", &(400 * MIB).to_string());
    draw(&host, 200 * MIB, 0);
    host
}

struct Watched {
    memory: Memory,
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
    shrinks: Receiver<u64>,
    purges: Receiver<()>,
}

fn watch(host: &Host, governor: GovernorConfig) -> Watched {
    let budget = Budget::new(BudgetConfig::default());
    let metrics = Arc::new(Metrics::default());
    let (shrink, shrinks) = channel();
    let (purge, purges) = channel();
    let hooks = Hooks {
        shrink: Box::new(move |bytes| {
            let _ = shrink.send(bytes);
            0
        }),
        trim: Box::new(|| 0),
        purge: Box::new(move || {
            let _ = purge.send(());
        }),
    };
    let config = MemoryConfig {
        governor,
        ..MemoryConfig::default()
    };
    let arena = Arena::new().expect("arena");
    let memory = Memory::start(
        config,
        host.probe(None),
        Arc::clone(&budget),
        arena,
        Arc::clone(&metrics),
        hooks,
    )
    .expect("threads");
    Watched {
        memory,
        budget,
        metrics,
        shrinks,
        purges,
    }
}

fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + NEVER;
    while !done() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn the_ceiling_is_right_from_the_start() {
    let host = host();
    let watched = watch(&host, GovernorConfig::default());
    let ceiling = watched.budget.report().ceiling;
    assert_eq!(
        ceiling,
        (320 - 200) * MIB,
        "four fifths of the limit less what nobody charged"
    );
    let snapshot = watched.memory.snapshot();
    assert_eq!(
        (snapshot.elevated, snapshot.critical),
        (340 * MIB, 380 * MIB)
    );
    assert_eq!(
        (snapshot.reading.own, snapshot.reading.foreign()),
        (200 * MIB, 0)
    );
    assert!(watched.memory.reaction_bound().rate_bytes_per_second > 0.0);
}

#[test]
fn a_neighbour_that_grows_has_memory_given_back_until_it_leaves() {
    let host = host();
    let watched = watch(&host, GovernorConfig::default());
    let textures = watched
        .budget
        .try_reserve(Purpose::Textures, 100 * MIB)
        .expect("fits");
    draw(&host, 200 * MIB, 150 * MIB);
    let to = watched
        .shrinks
        .recv_timeout(NEVER)
        .expect("a demand to shrink");
    assert!(to < 100 * MIB, "{to}");
    watched.purges.recv_timeout(NEVER).expect("a purge");
    until("elevated", || watched.memory.state() == State::Elevated);
    assert!(watched.budget.growth_open());
    draw(&host, 200 * MIB, 190 * MIB);
    until("critical", || watched.memory.state() == State::Critical);
    until("growth closed", || !watched.budget.growth_open());
    draw(&host, 100 * MIB, 0);
    until("normal again", || watched.memory.state() == State::Normal);
    until("growth open", || watched.budget.growth_open());
    let report = watched.memory.report();
    let path: Vec<State> = report
        .transitions
        .iter()
        .map(|transition| transition.to)
        .collect();
    assert_eq!(path.last(), Some(&State::Normal));
    assert!(path.contains(&State::Elevated) && path.contains(&State::Critical));
    assert!(
        report
            .transitions
            .iter()
            .all(|transition| transition.at_unix_ms > 0)
    );
    until("published", || {
        watched
            .metrics
            .governor
            .transitions_total
            .of(GovernorState::Normal)
            .get()
            > 0
    });
    assert!(
        watched
            .metrics
            .governor
            .transitions_total
            .of(GovernorState::Elevated)
            .get()
            > 0
    );
    drop(textures);
}

#[test]
fn a_limit_that_moves_is_followed() {
    let host = host();
    let watched = watch(&host, GovernorConfig::default());
    host.write("cg/run/memory.limit_in_bytes", &(220 * MIB).to_string());
    until("the new limit", || {
        watched.memory.snapshot().reading.limit == 220 * MIB
    });
    until("elevated at 91 %", || {
        watched.memory.state() != State::Normal
    });
}

#[test]
fn switched_off_it_watches_and_does_nothing() {
    let host = host();
    let watched = watch(
        &host,
        GovernorConfig {
            enabled: false,
            ..GovernorConfig::default()
        },
    );
    draw(&host, 200 * MIB, 195 * MIB);
    until("the pressure", || {
        watched.memory.snapshot().reading.pressure == 395 * MIB
    });
    until("another sample", {
        let before = watched.memory.report().samples;
        move || {
            watched.memory.report().samples > before + 3 && watched.memory.state() == State::Normal
        }
    });
}

#[test]
fn files_that_vanish_keep_the_last_figures_in_force() {
    let host = host();
    let watched = watch(&host, GovernorConfig::default());
    host.write("cg/run/memory.usage_in_bytes", "nonsense");
    let before = watched.memory.report().samples;
    until("more samples", || {
        watched.memory.report().samples > before + 3
    });
    assert_eq!(watched.memory.snapshot().reading.usage, 200 * MIB);
}

#[test]
fn bad_settings_are_refused() {
    assert!(MemoryConfig::default().validate().is_ok());
    let slow = MemoryConfig {
        fast: Duration::from_secs(2),
        ..MemoryConfig::default()
    };
    assert_eq!(slow.validate(), Err(MemoryConfigError::Period));
    let late = MemoryConfig {
        slow: Duration::from_millis(100),
        ..MemoryConfig::default()
    };
    assert_eq!(late.validate(), Err(MemoryConfigError::Approach));
    let small = MemoryConfig {
        limit: Some(1),
        ..MemoryConfig::default()
    };
    assert_eq!(small.validate(), Err(MemoryConfigError::Limit(1)));
}
