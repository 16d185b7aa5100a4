//! The readers on texts and drawn hosts.

use super::drawn::Host;
use super::*;

const MOUNTS_V1: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
    35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
    41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
const MOUNTS_V2: &str =
    "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
const MOUNTS_CONTAINER: &str =
    "900 800 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
const CGROUP_V1: &str = "9:name=systemd:/\n4:memory:/bench/run/service\n0::/\n";
const CGROUP_V2: &str = "0::/user.slice/bench/service\n";
const STAT_V1: &str = "cache 100\nactive_file 1\ninactive_file 2\nhierarchical_memory_limit 402653184\n\
    total_cache 5000\ntotal_dirty 100\ntotal_writeback 50\ntotal_inactive_file 3000\ntotal_active_file 1000\n";
const STAT_V2: &str = "anon 7000\nfile 4000\nkernel 10\nfile_dirty 100\nfile_writeback 50\ninactive_file 3000\nactive_file 1000\n";

#[test]
fn pressure_leaves_out_clean_page_cache_only() {
    let v1 = usage_v1("10000\n", STAT_V1).expect("v1");
    assert_eq!(v1.pressure(), 10_000 - (4_000 - 150));
    let v2 = usage_v2("10000\n", STAT_V2).expect("v2");
    assert_eq!(v1, v2);
    let racing = Usage {
        usage: 100,
        active_file: 500,
        ..Usage::default()
    };
    assert_eq!(
        racing.pressure(),
        0,
        "counters read at different moments are clamped"
    );
    let dirty = Usage {
        usage: 100,
        active_file: 10,
        dirty: 50,
        ..Usage::default()
    };
    assert_eq!(dirty.pressure(), 100);
}

#[test]
fn limits_that_are_none() {
    assert_eq!(limit("max\n"), None);
    assert_eq!(limit("9223372036854771712\n"), None);
    assert_eq!(limit("402653184\n"), Some(402_653_184));
    assert_eq!(limit("garbage"), None);
}

#[test]
fn finds_the_own_group_in_v1_v2_and_a_container() {
    let v1 = locate(MOUNTS_V1, CGROUP_V1, |_| true).expect("v1");
    assert_eq!(
        (v1.version, v1.own),
        (
            Version::V1,
            PathBuf::from("/sys/fs/cgroup/memory/bench/run/service")
        )
    );
    let v2 = locate(MOUNTS_V2, CGROUP_V2, |_| true).expect("v2");
    assert_eq!(
        (v2.version, v2.own),
        (
            Version::V2,
            PathBuf::from("/sys/fs/cgroup/user.slice/bench/service")
        )
    );
    let hidden =
        locate(MOUNTS_CONTAINER, "4:memory:/docker/abc/leaf\n", |_| true).expect("container");
    assert_eq!(hidden.own, PathBuf::from("/sys/fs/cgroup/memory/leaf"));
    let foreign = locate(MOUNTS_CONTAINER, "4:memory:/elsewhere\n", |_| true).expect("container");
    assert_eq!(foreign.own, foreign.mount);
    let gone =
        locate(MOUNTS_V1, CGROUP_V1, |path| path.ends_with("memory")).expect("vanished group");
    assert_eq!(gone.own, gone.mount);
    assert_eq!(locate("", "", |_| true), None);
}

#[test]
fn the_tightest_level_applies_and_the_nearest_of_equals() {
    let location = locate(MOUNTS_V1, CGROUP_V1, |_| true).expect("location");
    let limits = |own: Option<u64>, run: Option<u64>, bench: Option<u64>| {
        limiting_level(&location, move |level| {
            match level.file_name().and_then(|name| name.to_str()) {
                Some("service") => own,
                Some("run") => run,
                Some("bench") => bench,
                _ => None,
            }
        })
        .map(|(level, bytes)| {
            (
                level
                    .file_name()
                    .map(|name| name.to_string_lossy().into_owned())
                    .unwrap_or_default(),
                bytes,
            )
        })
    };
    assert_eq!(limits(None, None, None), None);
    assert_eq!(
        limits(None, Some(384), Some(1000)),
        Some(("run".into(), 384))
    );
    assert_eq!(
        limits(Some(500), Some(384), None),
        Some(("run".into(), 384))
    );
    assert_eq!(
        limits(Some(384), Some(384), None),
        Some(("service".into(), 384))
    );
    assert_eq!(
        limits(None, Some(500), Some(384)),
        Some(("bench".into(), 384))
    );
}

#[test]
fn v1_reads_foreign_usage_and_follows_a_moving_limit() {
    let host = Host::new(Version::V1);
    host.write("cg/run/memory.limit_in_bytes", "400000\n");
    host.write("cg/run/memory.usage_in_bytes", "300000\n");
    host.write(
        "cg/run/memory.stat",
        "total_active_file 0\ntotal_inactive_file 100000\ntotal_dirty 0\ntotal_writeback 0\n",
    );
    host.write(
        "cg/run/service/memory.limit_in_bytes",
        "9223372036854771712\n",
    );
    host.write("cg/run/service/memory.usage_in_bytes", "150000\n");
    host.write(
        "cg/run/service/memory.stat",
        "total_active_file 30000\ntotal_inactive_file 0\ntotal_dirty 0\ntotal_writeback 0\n",
    );
    let mut probe = host.probe(None);
    let reading = probe.read().expect("reading");
    assert_eq!(
        reading,
        Reading {
            limit: 400_000,
            usage: 300_000,
            pressure: 200_000,
            working_set: 200_000,
            own: 120_000,
            rss: 60 << 10
        }
    );
    assert_eq!(reading.foreign(), 80_000);
    host.write("cg/run/memory.limit_in_bytes", "250000\n");
    probe.refresh_limit().expect("limit");
    assert_eq!(probe.limit(), 250_000);
}

#[test]
fn an_explicit_share_of_the_limit_is_held_against_the_own_memory_only() {
    let host = Host::new(Version::V1);
    host.write("cg/run/memory.limit_in_bytes", "400000\n");
    host.write("cg/run/memory.usage_in_bytes", "300000\n");
    host.write("cg/run/memory.stat", STAT_V1);
    host.write("cg/run/service/memory.usage_in_bytes", "150000\n");
    host.write("cg/run/service/memory.stat", STAT_V1);
    let mut probe = host.probe(Some(123_456));
    probe.refresh_limit().expect("limit");
    let reading = probe.read().expect("reading");
    let own = 40 << 10;
    assert_eq!(
        (reading.limit, reading.pressure, reading.own),
        (123_456, own, own)
    );
    assert_eq!(reading.foreign(), 0, "the neighbours have the rest");
    let above = host.probe(Some(500_000)).read().expect("reading");
    assert_eq!(
        (above.limit, above.usage),
        (500_000, 300_000),
        "no share of anything: the cgroup's usage counts"
    );
}

#[test]
fn v1_heeds_a_limit_above_what_is_visible() {
    let host = Host::new(Version::V1);
    let stat = |limit: u64| format!("hierarchical_memory_limit {limit}\n{STAT_V1}");
    host.write("cg/memory.usage_in_bytes", "90000\n");
    host.write("cg/memory.stat", &stat(100_000));
    host.write("cg/run/memory.limit_in_bytes", "400000\n");
    host.write("cg/run/service/memory.usage_in_bytes", "50000\n");
    host.write("cg/run/service/memory.stat", &stat(100_000));
    let probe = host.probe(None);
    assert_eq!(probe.limit(), 100_000);
    assert_eq!(probe.read().expect("reading").usage, 90_000);
    host.write("cg/run/service/memory.stat", &stat(400_000));
    assert_eq!(host.probe(None).limit(), 400_000, "that of a visible level");
    assert_eq!(hierarchical_limit(&stat(i64::MAX as u64)), None);
}

#[test]
fn v2_takes_the_lower_of_high_and_max() {
    let host = Host::new(Version::V2);
    host.write("cg/run/memory.high", "300000\n");
    host.write("cg/run/memory.max", "400000\n");
    host.write("cg/run/memory.current", "200000\n");
    host.write("cg/run/memory.stat", STAT_V2);
    host.write("cg/run/service/memory.max", "max\n");
    host.write("cg/run/service/memory.current", "200000\n");
    host.write("cg/run/service/memory.stat", STAT_V2);
    let reading = host.probe(None).read().expect("reading");
    assert_eq!((reading.limit, reading.foreign()), (300_000, 0));
    host.write("cg/run/memory.high", "max\n");
    assert_eq!(host.probe(None).limit(), 400_000);
}

#[test]
fn without_a_limit_the_host_counts_and_in_its_own_group_the_neighbour_is_foreign() {
    let host = Host::new(Version::V1);
    let reading = host.probe(None).read().expect("reading");
    assert_eq!(
        (reading.limit, reading.own, reading.foreign()),
        (1000 << 10, 40 << 10, 0)
    );
    host.write("cg/run/service/memory.limit_in_bytes", "400000\n");
    host.write("cg/run/service/memory.usage_in_bytes", "300000\n");
    host.write("cg/run/service/memory.stat", STAT_V1);
    let reading = host.probe(None).read().expect("reading");
    assert_eq!(reading.own, 40 << 10);
    assert_eq!(reading.foreign(), reading.pressure - (40 << 10));
}

#[test]
fn this_host_can_be_read() {
    let probe = Probe::detect(None).expect("probe");
    let reading = probe.read().expect("reading");
    assert!(reading.rss > 0 && reading.limit > reading.rss);
    assert!(!probe.source().is_empty());
}
