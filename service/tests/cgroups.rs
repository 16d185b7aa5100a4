//! A real memory cgroup around the real service: a limit that is lowered while it runs, and clean page cache beside it. Needs root and a
//! writable memory controller (v1, or v2 with the controller delegated); says so and passes where there is none, unless
//! `BACKDROP_TESTS_SKIP_NOTHING=1` says that there must be.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use support::*;

const MIB: u64 = 1 << 20;
/// Samples within which a new limit is seen: the limit is looked at every 100 ms, samples come 10 ms apart at least, and one may have
/// looked just before.
const ADOPTION_SAMPLES: u64 = 12;

/// A cgroup with a limit and two leaves below it, removed at the end.
struct Cage {
    dir: PathBuf,
    v2: bool,
}

impl Cage {
    /// `None`, with the reason told: there can be no cgroup here.
    fn new(name: &str, limit: u64) -> Option<Self> {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let v2 = Path::new("/sys/fs/cgroup");
        let controllers = std::fs::read_to_string(v2.join("cgroup.controllers"));
        let (root, is_v2) = if v1.join("memory.limit_in_bytes").exists() {
            (v1, false)
        } else if controllers
            .is_ok_and(|names| names.split_whitespace().any(|name| name == "memory"))
        {
            (v2, true)
        } else {
            skipped(&format!("no memory controller at {}", v2.display()));
            return None;
        };
        let cage = Self {
            dir: root.join(format!("backdrop-test-{name}-{}", std::process::id())),
            v2: is_v2,
        };
        match cage.make(limit) {
            Ok(()) => Some(cage),
            Err(error) => {
                skipped(&format!("{}: {error}", cage.dir.display()));
                None
            }
        }
    }

    fn make(&self, limit: u64) -> std::io::Result<()> {
        std::fs::create_dir(&self.dir)?;
        if self.v2 {
            // Fails in a group that holds processes of its own, which the root may.
            drop(std::fs::write(
                self.dir.join("../cgroup.subtree_control"),
                "+memory",
            ));
            std::fs::write(self.dir.join("cgroup.subtree_control"), "+memory")?;
        }
        self.limit(limit)?;
        std::fs::create_dir(self.leaf("service"))?;
        std::fs::create_dir(self.leaf("reader"))
    }

    fn leaf(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn limit(&self, bytes: u64) -> std::io::Result<()> {
        let file = if self.v2 {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        };
        std::fs::write(self.dir.join(file), bytes.to_string())
    }

    fn usage(&self) -> u64 {
        let file = if self.v2 {
            "memory.current"
        } else {
            "memory.usage_in_bytes"
        };
        let text = std::fs::read_to_string(self.dir.join(file)).expect("usage");
        text.trim().parse().expect("a number")
    }

    fn stat(&self, key: &str) -> u64 {
        let key = if self.v2 {
            key.to_owned()
        } else {
            format!("total_{key}")
        };
        let text = std::fs::read_to_string(self.dir.join("memory.stat")).expect("statistics");
        let row = text
            .lines()
            .find_map(|line| line.strip_prefix(&key)?.strip_prefix(' '));
        row.and_then(|value| value.trim().parse().ok())
            .expect("a number")
    }

    fn kills(&self) -> u64 {
        let file = if self.v2 {
            "service/memory.events"
        } else {
            "service/memory.oom_control"
        };
        let text = std::fs::read_to_string(self.dir.join(file)).expect("events");
        let row = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        row.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    }

    /// A shell that moves itself into a leaf and becomes what its arguments say.
    fn inside(&self, leaf: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
            .arg(self.leaf(leaf).join("cgroup.procs"));
        command
    }

    fn service(&self, dir: &Path, arguments: &[&str]) -> Service {
        let mut command = self.inside("service");
        command.arg(env!("CARGO_BIN_EXE_backdrop-service"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BACKDROP_")) {
            command.env_remove(name);
        }
        Service::start_as(command, dir, arguments)
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        for dir in [self.leaf("service"), self.leaf("reader"), self.dir.clone()] {
            // A process that was killed a moment ago may still be on its way out.
            for _ in 0..1000 {
                if !dir.exists() || std::fs::remove_dir(&dir).is_ok() {
                    break;
                }
                std::thread::yield_now();
            }
        }
    }
}

fn number(memory: &serde_json::Value, path: &str) -> u64 {
    memory
        .pointer(path)
        .and_then(serde_json::Value::as_u64)
        .unwrap_or_else(|| panic!("no {path}"))
}

/// Uploads pictures of 8 MiB of pixels each and has every one loaded.
fn fill(service: &Service, pictures: u8) -> String {
    let mut client = service.client();
    let made = client.post("/v1/sessions", json!({})).ok().json();
    let session = made["session"].as_str().expect("an id").to_owned();
    for number in 0..pictures {
        let id = format!("wall-{number}");
        client
            .put(
                &format!("/v1/backgrounds/{id}"),
                jpeg(1920, 1080, [number, 90, 10]),
            )
            .ok();
        client
            .put(
                &format!("/v1/sessions/{session}/background"),
                json!({"background": id}).to_string(),
            )
            .ok();
        client
            .get(&format!("/v1/sessions/{session}/frame?width=64&height=64"))
            .ok();
    }
    session
}

#[test]
fn a_limit_lowered_while_it_runs_is_adopted_at_once_and_nobody_is_killed() {
    let Some(cage) = Cage::new("limit", 448 * MIB) else {
        return;
    };
    let dir = scratch();
    let mut service = cage.service(dir.path(), &["--request-timeout", "50s"]);
    assert_eq!(number(&service.memory(), "/limit_bytes"), 448 * MIB);
    let session = fill(&service, 40);
    let full = number(&service.memory(), "/textures/ledger_bytes");
    assert!(full > 200 * MIB, "the cache holds only {full}");
    let goal = 224 * MIB;
    let mut held = 448 * MIB;
    let mut slowest = 0;
    // v1 refuses a limit below usage: one step after the other, each to just above what is in use. v2 takes any, and then kills.
    poll("the last step", || {
        let next = goal
            .max((cage.usage() + 8 * MIB).next_multiple_of(MIB))
            .max(held.saturating_sub(48 * MIB));
        if next < held && cage.limit(next).is_ok() {
            // Asked for once the limit is there, so that it does not matter when this process runs; it may be seen by then.
            let there = number(&service.memory(), "/samples");
            let adopted = poll("the adoption", || {
                let memory = service.memory();
                (number(&memory, "/limit_bytes") == next).then_some(memory)
            });
            let seen = number(&adopted, "/limit_sample");
            slowest = slowest.max(seen.saturating_sub(there));
            held = next;
        }
        (held == goal).then_some(())
    });
    eprintln!("each step of the limit was adopted within {slowest} samples");
    assert!(slowest <= ADOPTION_SAMPLES, "{slowest} samples");
    poll("normal again below the new limit", || {
        let memory = service.memory();
        (memory["state"] == json!("normal") && number(&memory, "/pressure_bytes") < goal * 85 / 100)
            .then_some(())
    });
    assert!(service.is_alive() && cage.kills() == 0);
    let memory = service.memory();
    assert!(number(&memory, "/textures/ledger_bytes") < full);
    let reasons = memory["transitions"].to_string();
    assert!(reasons.contains("limit_lowered"), "{reasons}");
    assert!(service.metric("backdrop_flyweight_shrinks_total{result=\"reached\"}") > 0.0);
    service
        .client()
        .get(&format!("/v1/sessions/{session}/frame?width=64&height=64"))
        .ok();
}

#[test]
fn clean_page_cache_read_three_times_causes_no_shedding() {
    const FILE: u64 = 320 * MIB;
    let Some(cage) = Cage::new("cache", 256 * MIB) else {
        return;
    };
    // Not below /tmp, which may be memory itself.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let file = dir.path().join("clean");
    let written = Command::new("dd")
        .args(["if=/dev/zero", "bs=1M", "oflag=direct", "status=none"])
        .arg(format!("of={}", file.display()))
        .arg(format!("count={}", FILE / MIB))
        .status();
    if !written.is_ok_and(|status| status.success()) {
        let dir = dir.path().display();
        skipped(&format!(
            "no file can be written past the page cache in {dir}"
        ));
        return;
    }
    let mut service = cage.service(dir.path(), &["--request-timeout", "50s"]);
    fill(&service, 6);
    let before = service.memory();
    assert_eq!(before["state"], json!("normal"));
    // A part that fits is read three times, so that its pages are active; then all of it, so that the limit is reached.
    for (reads, megabytes) in [(3, 96), (1, FILE / MIB)] {
        for _ in 0..reads {
            let read = cage
                .inside("reader")
                .args(["dd", "of=/dev/null", "bs=1M", "status=none"])
                .arg(format!("if={}", file.display()))
                .arg(format!("count={megabytes}"))
                .status();
            assert!(read.expect("dd runs").success());
        }
    }
    let (active, usage) = (cage.stat("active_file"), cage.usage());
    eprintln!(
        "{} MiB of active page cache, {} MiB in use of 256",
        active / MIB,
        usage / MIB
    );
    assert!(active > 32 * MIB && usage > 240 * MIB, "{active} {usage}");
    let seen = number(&service.memory(), "/samples");
    let after = poll("samples of the full group", || {
        let memory = service.memory();
        (number(&memory, "/samples") > seen + 20).then_some(memory)
    });
    assert!(number(&after, "/usage_bytes") > 240 * MIB);
    assert!(number(&after, "/pressure_bytes") < 200 * MIB);
    assert_eq!(after["transitions"], json!([]));
    assert_eq!(
        (
            number(&after, "/reclaims"),
            number(&after, "/textures/resident")
        ),
        (0, 6)
    );
    assert!(service.is_alive() && cage.kills() == 0);
}
