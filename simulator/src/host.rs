//! What the simulator asks of its host: affinity, descriptors, priority, its own cost.
//!
//! The only module with `unsafe`: thin calls into libc, each with its own safety line.

use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use thiserror::Error;

/// A host that cannot give what a run needs.
#[derive(Debug, Error)]
pub enum HostError {
    /// The kernel refused the affinity.
    #[error(
        "cannot run on CPUs {cpus:?}: {cause}; give --cpus a list of CPUs that this process may use"
    )]
    Affinity {
        /// CPUs asked for.
        cpus: Vec<usize>,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// The hard limit of open files is below what the run needs.
    #[error(
        "{needed} open files are needed and {limit} are allowed; raise it with `ulimit -n {needed}`, or use fewer --gateways or --connections"
    )]
    Descriptors {
        /// Descriptors that the run needs.
        needed: u64,
        /// The hard limit.
        limit: u64,
    },
}

/// Restricts the process to these CPUs. Call it before any thread is started: threads inherit it.
pub fn pin(cpus: &[usize]) -> Result<(), HostError> {
    // SAFETY: cpu_set_t is plain bits, for which all zero is the valid empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in cpus.iter().filter(|cpu| **cpu < libc::CPU_SETSIZE as usize) {
        // SAFETY: the index is below CPU_SETSIZE, so the bit lies within the set.
        unsafe { libc::CPU_SET(*cpu, &mut set) };
    }
    // SAFETY: the pointer is to a set of the size given, which the kernel only reads.
    let done = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    if done == 0 {
        Ok(())
    } else {
        Err(HostError::Affinity {
            cpus: cpus.to_vec(),
            cause: io::Error::last_os_error(),
        })
    }
}

/// CPUs that this process may use.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Numbers of the CPUs that the calling thread may use; empty where the kernel does not say.
pub fn allowed_cpus() -> Vec<usize> {
    // SAFETY: cpu_set_t is plain bits, for which all zero is the valid empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a set of the size given, which the kernel fills.
    let done = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if done != 0 {
        return Vec::new();
    }
    (0..libc::CPU_SETSIZE as usize)
        // SAFETY: the index is below CPU_SETSIZE, so the bit lies within the set.
        .filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) })
        .collect()
}

/// Where a latency that every wake-up must keep is asked for (the kernel's PM QoS interface), microseconds.
const WAKE_LATENCY: &str = "/dev/cpu_dma_latency";

/// CPUs that poll instead of sleeping while it lives, as cyclictest keeps them. A sleeping CPU wakes late: by its deep idle
/// states on bare metal, and on a virtual machine because the hypervisor has to find a place for it again, which is the
/// measurement's fault and not the service's. The kernel ends it with the file, so also after `kill -9`.
#[derive(Debug)]
pub struct Awake(#[expect(dead_code, reason = "open is what counts")] File);

impl Awake {
    /// Keeps all CPUs awake from now on.
    ///
    /// # Errors
    /// Whatever the kernel answers: without root usually that access is denied.
    pub fn keep() -> io::Result<Self> {
        let mut file = File::options().write(true).open(WAKE_LATENCY)?;
        file.write_all(&0_i32.to_ne_bytes())?;
        Ok(Awake(file))
    }
}

/// Keeps the program in memory from here on, page by page as it is used: a send that has to wait until the program is read from disk
/// again is late. Best effort (`mlockall(2)`, of what is mapped now): without it more sends are late, which is counted.
pub fn stay_in_memory() {
    // SAFETY: no pointers. Memory that is mapped later is left alone, so that no limit on locked memory can fail an allocation.
    unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_ONFAULT) };
}

/// Raises the soft limit of open files to `needed`.
pub fn ensure_descriptors(needed: u64) -> Result<(), HostError> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a valid rlimit that the kernel fills.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0
        || limit.rlim_cur >= needed
    {
        return Ok(());
    }
    let hard = limit.rlim_max;
    limit.rlim_cur = needed;
    // SAFETY: the pointer is to a valid rlimit that the kernel only reads.
    if needed <= hard && unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0 {
        return Ok(());
    }
    Err(HostError::Descriptors {
        needed,
        limit: hard,
    })
}

/// CPU time of the whole process so far.
pub fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a valid timespec that the kernel fills.
    if unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) } != 0 {
        return Duration::ZERO;
    }
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Peak resident set, bytes; zero where the kernel does not say.
pub fn rss_peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| {
            rest.trim()
                .trim_end_matches("kB")
                .trim()
                .parse::<u64>()
                .ok()
        })
        .map_or(0, |kib| kib * 1024)
}

/// Lets the calling thread give way to the ones that send: nice +10. Best effort.
pub fn give_way() {
    // SAFETY: no pointers; 0 is the calling thread on Linux, and a refusal changes nothing.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
}

/// Lets the calling thread send on time on a busy CPU: short turns, and for them at once (`sched_setattr(2)`, `sched_runtime`
/// of a normal thread, Linux 6.12 and newer). Best effort: without it more sends are late, which is counted.
pub fn be_prompt() {
    /// `struct sched_attr` of `linux/sched/types.h`, first version.
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime_ns: u64,
        deadline_ns: u64,
        period_ns: u64,
    }
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: libc::SCHED_OTHER as u32,
        flags: 0,
        // SAFETY: no pointers; 0 is the calling thread.
        nice: unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) },
        priority: 0,
        // The least that Linux accepts.
        runtime_ns: 100_000,
        deadline_ns: 0,
        period_ns: 0,
    };
    // SAFETY: the kernel reads `size` bytes of the structure, which lives until the call returns.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_kept_awake_or_the_kernel_says_why_not() {
        match Awake::keep() {
            Ok(awake) => drop(awake),
            Err(error) => {
                let expected = [
                    io::ErrorKind::PermissionDenied,
                    io::ErrorKind::NotFound,
                    io::ErrorKind::ReadOnlyFilesystem,
                ];
                assert!(expected.contains(&error.kind()), "{error}");
                eprintln!("not seen here: {WAKE_LATENCY}: {error}");
            }
        }
    }

    #[test]
    fn the_host_answers() {
        assert!(cpus() >= 1 && !allowed_cpus().is_empty());
        assert!(cpu_time() > Duration::ZERO);
        assert!(rss_peak_bytes() > 0);
        assert!(ensure_descriptors(16).is_ok());
        assert!(matches!(
            ensure_descriptors(u64::MAX - 1),
            Err(HostError::Descriptors { .. })
        ));
    }
}
