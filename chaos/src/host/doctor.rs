//! What this host can do, what it lacks, and how to mend it.

use std::path::Path;
use std::time::Duration;

use backdrop_reports::record::Host;

use super::cgroup::{Hierarchy, Limits};
use super::cpu::{CpuSet, Placement};
use super::error::HostError;
use super::process::{CommandSpec, End, ServiceProcess};
use super::{files, mounts, scope, steal, sys, tree};

/// Memory that the default suite needs beside its limits: simulator, runner and page cache, bytes.
const MEMORY_MIN: u64 = 2 << 30;

/// Open files that the largest scenario needs: connections, logs and kernel files.
const OPEN_FILES_MIN: u64 = 4096;
/// Descriptors that are left for everything but the clients of faults.
const OPEN_FILES_OWN: u64 = 256;

/// Time that a helper program may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Whether a check is content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckState {
    /// Fine.
    Good,
    /// Runs are possible but weaker.
    Weak,
    /// Runs are not possible, or prove nothing.
    Bad,
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Short name.
    pub name: &'static str,
    /// Content or not.
    pub state: CheckState,
    /// What was found, in words.
    pub found: String,
    /// What to do about it; empty when good.
    pub mend: String,
}

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            state: CheckState::Good,
            found: found.into(),
            mend: String::new(),
        }
    }

    fn weak(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            name,
            state: CheckState::Weak,
            found: found.into(),
            mend: mend.into(),
        }
    }

    fn bad(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            name,
            state: CheckState::Bad,
            found: found.into(),
            mend: mend.into(),
        }
    }
}

/// Looks at everything a run needs, by doing it once in small where that is the only proof.
#[must_use]
pub fn doctor() -> Vec<Check> {
    let mut checks = cgroup();
    checks.extend([
        user(),
        oom_score(),
        cpus(),
        quiet(),
        wake_latency(),
        memory(),
        huge_pages(),
        kernel(),
        open_files_check(),
    ]);
    checks
}

/// Makes a cell and takes it away again.
fn cgroup() -> Vec<Check> {
    let hierarchy = match Hierarchy::detect() {
        Ok(hierarchy) => hierarchy,
        Err(error) => {
            let (found, mend) = match error {
                HostError::NoHierarchy { tried, mend } => {
                    (format!("none can be made: {}", tried.join("; ")), mend)
                }
                other => (other.to_string(), "run as root".to_owned()),
            };
            if scope::offered() {
                let mend = format!(
                    "none needed: a run starts over by itself in a scope (`{}`)",
                    scope::words()
                );
                return vec![Check::weak("cgroup", found, mend)];
            }
            return vec![Check::bad("cgroup", found, mend)];
        }
    };
    let place = format!("{} under {}", hierarchy.word(), hierarchy.base().display());
    let name = format!("doctor-{}-{}", std::process::id(), tree::serial());
    match hierarchy.cell(
        &name,
        Limits {
            memory_bytes: 64 << 20,
        },
    ) {
        Ok(cell) => {
            let how = cell.swap().how.clone();
            let swap = if cell.swap().off {
                Check::good("swap", how)
            } else {
                let mend = "`swapoff -a` for the time of the run, or boot with swapaccount=1: \
                            a limit that swap evades makes every verdict inconclusive";
                Check::bad("swap", how, mend)
            };
            let tried = cell
                .leaf("service")
                .and_then(|leaf| leaf.stats())
                .and_then(|_| cell.remove());
            let made = match tried {
                Ok(_) => Check::good(
                    "cgroup",
                    format!("{place}: a limit was set, read back and removed"),
                ),
                Err(error) => Check::bad("cgroup", format!("{place}: {error}"), "see the error"),
            };
            vec![made, swap]
        }
        Err(error) => vec![Check::bad(
            "cgroup",
            format!("{place}: {error}"),
            "see the error",
        )],
    }
}

fn user() -> Check {
    match sys::effective_user() {
        0 => Check::good("user", "root"),
        user => Check::weak(
            "user",
            format!("user {user}, not root"),
            "fine where the cgroup check is good; else run as root",
        ),
    }
}

/// Starts a child at the score that the service gets.
fn oom_score() -> Check {
    let mut spec = CommandSpec::new("/bin/sh");
    spec.args = [
        "-c",
        "read score < /proc/self/oom_score_adj && [ \"$score\" = 1000 ]",
    ]
    .map(Into::into)
    .to_vec();
    spec.oom_score_adj = Some(1000);
    let end = ServiceProcess::spawn(&spec).map(|child| child.wait(ANSWER_WITHIN));
    match end {
        Ok(Some(End::Exited(0))) => Check::good("oom_score_adj", "a child runs at +1000"),
        other => {
            let mend = "without it the hog may be killed in the service's place, which makes a run inconclusive";
            let why = match other {
                Ok(Some(end)) => format!("it {end}"),
                Ok(None) => "it did not end".to_owned(),
                Err(error) => error.to_string(),
            };
            let found = format!("a child cannot be put at +1000: {why}");
            Check::bad("oom_score_adj", found, mend)
        }
    }
}

fn cpus() -> Check {
    match CpuSet::allowed() {
        Ok(cpus) => {
            let placement = Placement::decide(&cpus);
            if placement.apart {
                Check::good("CPUs", placement.words)
            } else {
                Check::weak("CPUs", placement.words, "give the run two CPUs or more")
            }
        }
        Err(error) => Check::bad(
            "CPUs",
            error.to_string(),
            "sched_getaffinity must be allowed",
        ),
    }
}

/// Share of the CPUs that others may take before a run's figures suffer.
const OTHERS_MAX: f64 = 0.10;
/// Share that a hypervisor may take of CPUs that are all wanted; a trial wants about half of them.
const STOLEN_MAX: f64 = 0.02;
/// How long is looked for who else is there.
const LOOK_FOR: Duration = Duration::from_millis(1000);

/// Whether CPUs are free, and given when they are wanted.
fn quiet() -> Check {
    const NAME: &str = "busy host";
    let Ok(cpus) = CpuSet::allowed() else {
        return Check::weak(NAME, "the CPUs are not known", "see the check of CPUs");
    };
    let before = files::cpu_times();
    #[expect(clippy::disallowed_methods, reason = "what is measured is this time")]
    std::thread::sleep(LOOK_FOR);
    let used = before.zip(files::cpu_times()).map(|(a, b)| b.busy_since(a));
    let stolen = steal::probe(&cpus, LOOK_FOR);
    busy(NAME, used, stolen)
}

/// What these shares mean.
fn busy(name: &'static str, used: Option<f64>, stolen: Option<f64>) -> Check {
    let percent = |share: Option<f64>| {
        share.map_or_else(|| "?".to_owned(), |share| format!("{:.0} %", share * 100.0))
    };
    let found = format!(
        "others use {} of the CPUs, a hypervisor takes {} of them when all are wanted",
        percent(used),
        percent(stolen)
    );
    let too_much = |share: Option<f64>, most: f64| share.is_some_and(|share| share > most);
    if too_much(used, OTHERS_MAX) {
        let mend = "end what else runs (`top` names it): it takes the CPUs of service and simulator, and more trials are tried again or inconclusive";
        return Check::weak(name, found, mend);
    }
    if too_much(stolen, STOLEN_MAX) {
        let mend = "a quieter host, or another hour: what is taken makes bounds in time unknown, and trials are tried again";
        return Check::weak(name, found, mend);
    }
    Check::good(name, found)
}

/// Whether the simulator can keep idle CPUs from sleeping.
fn wake_latency() -> Check {
    const NAME: &str = "wake latency";
    match std::fs::File::options()
        .write(true)
        .open("/dev/cpu_dma_latency")
    {
        Ok(_) => Check::good(NAME, "idle CPUs are kept awake while a load is measured"),
        Err(error) => Check::weak(
            NAME,
            format!("/dev/cpu_dma_latency: {error}: idle CPUs sleep, and wake late"),
            "run as root; without it more sends are late, above all on a virtual machine, and more runs inconclusive",
        ),
    }
}

fn memory() -> Check {
    match available_memory() {
        Some(bytes) if bytes >= MEMORY_MIN => {
            Check::good("memory", format!("{} available", mib(bytes)))
        }
        Some(bytes) => {
            let mend = format!(
                "free {} or more: the host itself must not be what runs out",
                mib(MEMORY_MIN)
            );
            Check::weak("memory", format!("{} available", mib(bytes)), mend)
        }
        None => Check::weak(
            "memory",
            "/proc/meminfo has no MemAvailable",
            "a kernel since 3.14",
        ),
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Bytes that the host can still give, its caches included.
#[must_use]
pub fn available_memory() -> Option<u64> {
    meminfo("MemAvailable")
}

/// Bytes that can still be written in this folder, or in the nearest one above it that is there.
#[must_use]
pub fn available_disk(dir: &Path) -> Option<u64> {
    let whole = std::path::absolute(dir).ok()?;
    let there = whole.ancestors().find(|path| path.exists())?;
    sys::free_bytes(there).ok()
}

/// Memory that the host cannot give any more, by all of it, 0..=1.
#[must_use]
pub fn used_memory_ratio() -> Option<f64> {
    let all = meminfo("MemTotal").filter(|all| *all > 0)?;
    let left = available_memory()?;
    Some(all.saturating_sub(left) as f64 / all as f64)
}

fn meminfo(key: &str) -> Option<u64> {
    files::kib_field(&std::fs::read_to_string("/proc/meminfo").ok()?, key)
}

fn huge_pages() -> Check {
    let text =
        std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let chosen = text
        .split('[')
        .nth(1)
        .and_then(|t| t.split(']').next())
        .unwrap_or("not built in");
    match chosen {
        "madvise" | "never" => Check::good("huge pages", chosen),
        "always" => {
            let mend = "`echo madvise > /sys/kernel/mm/transparent_hugepage/enabled`";
            Check::weak(
                "huge pages",
                "always: resident memory rounds up to 2 MiB anywhere, peaks read higher",
                mend,
            )
        }
        other => Check::weak(
            "huge pages",
            other,
            "large textures unmap slower without; figures differ a little",
        ),
    }
}

fn kernel() -> Check {
    let release = kernel_release();
    match version(&release) {
        Some(v) if v >= (5, 4) => Check::good("kernel", release),
        _ => Check::bad(
            "kernel",
            release,
            "5.4 or newer: older ones lack pidfd or the kill counters",
        ),
    }
}

fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|p| p.parse().ok());
    Some((parts.next()??, parts.next()??))
}

/// Files that this process may have open.
#[must_use]
pub fn open_files() -> Option<u64> {
    sys::open_files_limit().ok().map(|(soft, _)| soft)
}

/// Open files that the runner may have beside what it needs itself.
#[must_use]
pub fn spare_files() -> u64 {
    open_files()
        .unwrap_or(u64::MAX)
        .saturating_sub(OPEN_FILES_OWN)
}

fn open_files_check() -> Check {
    match sys::open_files_limit() {
        Ok((soft, _)) if soft >= OPEN_FILES_MIN => {
            Check::good("open files", format!("{soft} allowed"))
        }
        Ok((soft, hard)) if hard >= OPEN_FILES_MIN => Check::weak(
            "open files",
            format!("{soft} allowed, {hard} on request"),
            format!("`ulimit -n {OPEN_FILES_MIN}`"),
        ),
        Ok((soft, hard)) => {
            let mend =
                format!("raise the hard limit to {OPEN_FILES_MIN} (limits.conf, or LimitNOFILE=)");
            Check::bad(
                "open files",
                format!("{soft} allowed, at most {hard}"),
                mend,
            )
        }
        Err(error) => Check::weak("open files", error.to_string(), "see the error"),
    }
}

/// The host as the run record has it. `hierarchy` is what the run uses; `lacking` why it is the emulation, if it is.
#[must_use]
pub fn host_facts(hierarchy: &Hierarchy, lacking: Option<&HostError>) -> Host {
    Host {
        kernel: kernel_release(),
        cpu: cpu_model(),
        cpus: CpuSet::allowed().map_or(0, |cpus| {
            u32::try_from(cpus.cpus().len()).unwrap_or(u32::MAX)
        }),
        memory_bytes: meminfo("MemTotal").unwrap_or(0),
        cgroup: hierarchy.word().to_owned(),
        root: sys::effective_user() == 0,
        lacks: lacks(hierarchy, lacking),
    }
}

fn cpu_model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    // ARM kernels name no model; the machine's own name stands in.
    let model = text.lines().find_map(|l| {
        l.strip_prefix("model name")?
            .split_once(':')
            .map(|(_, v)| v.trim().to_owned())
    });
    model.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// What is missing, what was used instead and what that means for the verdict.
fn lacks(hierarchy: &Hierarchy, lacking: Option<&HostError>) -> Vec<String> {
    let mut lacks = Vec::new();
    if let Some(why) = scope::entered() {
        lacks.push(format!(
            "{why}; the run was started over in a scope of the user's systemd, which changes no verdict"
        ));
    }
    if hierarchy.is_emulated() {
        let why = lacking.map_or_else(|| "no memory cgroup".to_owned(), ToString::to_string);
        lacks.push(format!(
            "{why}: a watchdog samples resident memory and kills in the kernel's place; \
             OOM outcomes are inconclusive unless --allow-emulated"
        ));
    }
    if let Ok(devices) = mounts::swap_devices()
        && !devices.is_empty()
    {
        lacks.push(format!(
            "swap is on ({}): kept away from the cgroup, the rest of the host may still swap",
            devices.join(", ")
        ));
    }
    if let Ok(cpus) = CpuSet::allowed()
        && !Placement::decide(&cpus).apart
    {
        lacks.push(
            "one CPU: simulator and service share it, latency figures include each other"
                .to_owned(),
        );
    }
    if !Path::new("/sys/kernel/mm/transparent_hugepage/enabled").exists() {
        lacks.push("no transparent huge pages: large textures unmap slower".to_owned());
    }
    lacks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_that_is_not_content_says_what_to_do() {
        let checks = doctor();
        for check in &checks {
            assert!(!check.found.is_empty(), "{check:?}");
            assert_eq!(
                check.mend.is_empty(),
                check.state == CheckState::Good,
                "{check:?}"
            );
        }
        assert!(checks.len() >= 8);
    }

    #[test]
    fn a_busy_host_is_told_and_a_quiet_one_is_good() {
        let state = |used, stolen| busy("busy host", used, stolen).state;
        assert_eq!(state(Some(0.05), Some(0.01)), CheckState::Good);
        assert_eq!(state(Some(0.5), Some(0.0)), CheckState::Weak);
        assert_eq!(state(Some(0.0), Some(0.3)), CheckState::Weak);
        assert_eq!(
            state(None, None),
            CheckState::Good,
            "what is not known is no fault"
        );
        let told = busy("busy host", Some(0.5), Some(0.3)).found;
        assert!(told.contains("50 %") && told.contains("30 %"), "{told}");
    }

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(version("6.12.9+bpo-amd64"), Some((6, 12)));
        assert!(version("5.10.0-21-amd64") > Some((5, 4)));
        assert_eq!(version("odd"), None);
    }

    #[test]
    fn a_host_without_cgroups_is_told_what_that_means() {
        let lacking = HostError::NoHierarchy {
            tried: vec!["v2: not mounted".to_owned()],
            mend: "none".to_owned(),
        };
        let host = host_facts(&Hierarchy::emulated(), Some(&lacking));
        assert_eq!(host.cgroup, "emulated");
        assert!(
            host.lacks
                .iter()
                .any(|l| l.contains("inconclusive") && l.contains("v2: not mounted")),
            "{host:?}"
        );
        assert!(
            host.cpus > 0
                && host.memory_bytes > 0
                && !host.kernel.is_empty()
                && !host.cpu.is_empty()
        );
    }
}
