//! Folders that look like cgroups, without a kernel behind them.

use std::fs;
use std::time::Duration;

use super::super::mounts::Mount;
use super::place::usable;
use super::*;

/// A folder with the files of a cgroup; what the kernel would add to new folders is not there.
fn folder(path: &Path, controllers: &str, subtree: &str, procs: &str) {
    fs::create_dir_all(path).expect("folder");
    for (name, text) in [
        ("cgroup.controllers", controllers),
        ("cgroup.subtree_control", subtree),
        ("cgroup.procs", procs),
    ] {
        fs::write(path.join(name), text).expect("file");
    }
}

fn mount(at: &Path) -> Mount {
    Mount {
        root: "/".to_owned(),
        at: at.to_owned(),
        kind: "cgroup2".to_owned(),
        options: vec![],
    }
}

#[test]
fn a_tree_without_the_memory_controller_says_so_of_each_place() {
    let dir = tempfile::tempdir().expect("temporary folder");
    folder(dir.path(), "cpu pids", "cpu", "");
    folder(&dir.path().join("a/b"), "cpu", "", "1\n");
    folder(&dir.path().join("a"), "cpu", "cpu", "");
    let mut tried = vec![];
    assert!(find(&[mount(dir.path())], "0::/a/b\n", &mut tried).is_none());
    assert_eq!(tried.len(), 4, "{tried:?}");
    assert!(
        tried.iter().all(|t| t.contains("memory controller")),
        "{tried:?}"
    );
}

#[test]
fn asking_for_the_controller_writes_the_subtree_file() {
    let dir = tempfile::tempdir().expect("temporary folder");
    folder(dir.path(), "cpu memory", "cpu", "");
    // The probe fails for want of a kernel that fills the new folder: what was asked before stands in the plain file, which
    // does not answer by listing the controller, so that giving back finds nothing to give.
    let error = usable(dir.path()).expect_err("no kernel here");
    assert!(error.to_string().contains("memory.max"), "{error}");
    assert_eq!(
        fs::read_to_string(dir.path().join("cgroup.subtree_control")).expect("file"),
        "+memory"
    );
    let left: Vec<_> = fs::read_dir(dir.path())
        .expect("list")
        .filter_map(Result::ok)
        .filter(|e| e.path().is_dir())
        .collect();
    assert!(left.is_empty(), "the probe's folder is gone: {left:?}");
}

#[test]
fn the_controller_is_given_back_unless_somebody_uses_it() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let subtree = dir.path().join("cgroup.subtree_control");
    let child = dir.path().join("child");
    folder(dir.path(), "memory", "memory ", "");
    folder(&child, "memory", "", "");
    fs::write(child.join("memory.max"), "1000").expect("file");
    assert!(!give_back(dir.path()).expect("looked"), "a limit is set");
    fs::write(child.join("memory.max"), "max").expect("file");
    fs::write(child.join("cgroup.subtree_control"), "memory").expect("file");
    assert!(!give_back(dir.path()).expect("looked"), "handed on");
    fs::write(child.join("cgroup.subtree_control"), "").expect("file");
    assert!(give_back(dir.path()).expect("given back"));
    assert_eq!(fs::read_to_string(subtree).expect("file"), "-memory");
}

#[test]
fn a_smaller_limit_further_up_is_found() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let cell = dir.path().join("outer/cell");
    fs::create_dir_all(&cell).expect("folder");
    fs::write(dir.path().join("outer/memory.max"), "1000000\n").expect("file");
    fs::write(dir.path().join("outer/memory.high"), "max\n").expect("file");
    assert!(no_smaller_ancestor(&cell, 900_000).is_ok());
    assert!(matches!(
        no_smaller_ancestor(&cell, 2_000_000),
        Err(HostError::SmallerAbove { got: 1_000_000, .. })
    ));
}

#[test]
fn figures_of_a_leaf() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let stat = "anon 10\nfile 20\nkernel 30\nkernel_stack 1\nsock 4\nshmem 2\nfile_dirty 5\nfile_writeback 6\n\
                inactive_file 7\nactive_file 8\n";
    for (name, text) in [
        ("memory.current", "64\n"),
        ("memory.stat", stat),
        (
            "memory.events.local",
            "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n",
        ),
        ("memory.events", "oom_kill 77\n"),
    ] {
        fs::write(dir.path().join(name), text).expect("file");
    }
    let stats = LeafFiles::open(dir.path())
        .and_then(|f| f.stats())
        .expect("figures");
    let expected = LeafStats {
        usage: 64,
        anon: 10,
        file: 20,
        shmem: 2,
        active_file: 8,
        inactive_file: 7,
        dirty: 5,
        writeback: 6,
        kernel: 30,
        sockets: 4,
        oom_kills: 1,
    };
    assert_eq!(stats, expected);
    assert_eq!(stats.held(), 44);
}

#[test]
fn before_the_kernel_field_its_parts_are_added_up() {
    let stats =
        parse_stat("anon 1\nfile 2\nkernel_stack 3\nslab 4\npagetables 5\n").expect("parsed");
    assert_eq!(stats.kernel, 12);
}

#[test]
fn lowering_leaves_high_open_and_max_set() {
    let dir = tempfile::tempdir().expect("temporary folder");
    for (name, text) in [
        ("memory.max", "8192000"),
        ("memory.high", "max"),
        ("memory.current", "4096"),
    ] {
        fs::write(dir.path().join(name), text).expect("file");
    }
    // Plain files keep the tail of a longer text: equal lengths avoid that.
    let change = set_limit(
        dir.path(),
        4_096_000,
        Lowering::within(Duration::ZERO),
        &mut (),
    )
    .expect("lowered");
    assert_eq!(
        (change.from, change.to, change.steps),
        (8_192_000, 4_096_000, 1)
    );
    assert!(
        fs::read_to_string(dir.path().join("memory.high"))
            .expect("file")
            .starts_with("max")
    );
}

#[test]
fn a_limit_below_usage_is_not_forced() {
    let dir = tempfile::tempdir().expect("temporary folder");
    for (name, text) in [
        ("memory.max", "8192000"),
        ("memory.high", "max"),
        ("memory.current", "6000000"),
    ] {
        fs::write(dir.path().join(name), text).expect("file");
    }
    let error = set_limit(
        dir.path(),
        4_096_000,
        Lowering::within(Duration::ZERO),
        &mut (),
    )
    .expect_err("held");
    assert!(
        matches!(
            error,
            HostError::LimitHeld {
                usage: 6_000_000,
                got: 8_192_000,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(
        fs::read_to_string(dir.path().join("memory.max")).expect("file"),
        "8192000"
    );
}

/// Knows what was accepted, and adopts nothing.
#[derive(Default)]
struct Deaf(Vec<u64>);

impl LimitWatch for Deaf {
    fn accepted(&mut self, limit: u64) {
        self.0.push(limit);
    }
    fn adopted(&self, _: u64) -> bool {
        false
    }
}

#[test]
fn a_limit_that_nobody_adopts_is_not_enforced() {
    let dir = tempfile::tempdir().expect("temporary folder");
    for (name, text) in [
        ("memory.max", "8192000"),
        ("memory.high", "max"),
        ("memory.current", "4096"),
    ] {
        fs::write(dir.path().join(name), text).expect("file");
    }
    let mut deaf = Deaf::default();
    let lowering = Lowering::within(Duration::ZERO);
    let error = set_limit(dir.path(), 4_096_000, lowering, &mut deaf).expect_err("held");
    assert!(matches!(error, HostError::LimitHeld { .. }), "{error}");
    assert_eq!(deaf.0, [4_096_000], "it was told of all the same");
    assert_eq!(
        fs::read_to_string(dir.path().join("memory.max")).expect("file"),
        "8192000"
    );
}

#[test]
fn page_cache_that_can_be_dropped_does_not_hold_a_limit() {
    let dir = tempfile::tempdir().expect("temporary folder");
    for (name, text) in [
        ("memory.max", "9192000"),
        ("memory.high", "max"),
        ("memory.current", "6000000"),
        (
            "memory.stat",
            "active_file 3000000\ninactive_file 2000000\nfile_dirty 100\n",
        ),
    ] {
        fs::write(dir.path().join(name), text).expect("file");
    }
    let lowering = Lowering::within(Duration::ZERO);
    let change = set_limit(dir.path(), 4_096_000, lowering, &mut ()).expect("lowered");
    assert_eq!(change.to, 4_096_000);
}
