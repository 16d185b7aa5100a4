//! Who comes first on a busy CPU: the threads that answer requests run promptly, those that decode and archive give way.
//!
//! Best effort, for the calling thread alone: a refusal is returned and the thread goes on as it was. On other systems than
//! Linux priorities belong to whole processes, and nothing is done. Knows nothing of what the threads do.

/// What a prompt thread may run on before another one's turn: the least that Linux accepts. Work of one request takes less.
#[cfg(target_os = "linux")]
const PROMPT_SLICE_NS: u64 = 100_000;

/// Adds to the niceness of the calling thread.
#[cfg(target_os = "linux")]
pub fn give_way(by: i32) -> std::io::Result<()> {
    // SAFETY: no memory is passed. On Linux, `PRIO_PROCESS` with 0 means the calling thread.
    checked(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, niceness() + by) }.into())
}

/// Asks for short turns, and for them at once: since Linux 6.12 a thread that wakes takes the CPU from one with a longer slice,
/// where niceness alone lets the other finish its turn of some milliseconds (`sched_setattr(2)`, `sched_runtime` of a normal
/// thread). Older kernels ignore it.
#[cfg(target_os = "linux")]
pub fn be_prompt() -> std::io::Result<()> {
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: libc::SCHED_OTHER as u32,
        flags: 0,
        nice: niceness(),
        priority: 0,
        runtime_ns: PROMPT_SLICE_NS,
        deadline_ns: 0,
        period_ns: 0,
    };
    // SAFETY: the kernel reads `size` bytes of the structure, which lives until the call returns; 0 is the calling thread.
    checked(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })
}

/// `struct sched_attr` of `linux/sched/types.h`, first version.
#[cfg(target_os = "linux")]
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

#[cfg(target_os = "linux")]
fn niceness() -> i32 {
    // SAFETY: no memory is passed.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

#[cfg(target_os = "linux")]
fn checked(result: libc::c_long) -> std::io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// Elsewhere nothing is done.
#[cfg(not(target_os = "linux"))]
pub fn give_way(_by: i32) -> std::io::Result<()> {
    Ok(())
}

/// Elsewhere nothing is done.
#[cfg(not(target_os = "linux"))]
pub fn be_prompt() -> std::io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_the_calling_thread_becomes_nicer() {
        let before = niceness();
        let inside = std::thread::spawn(|| {
            give_way(3).expect("a thread may always become nicer");
            niceness()
        });
        assert_eq!(inside.join().expect("thread"), (before + 3).min(19));
        assert_eq!(niceness(), before);
    }

    #[test]
    fn promptness_keeps_the_niceness() {
        let inside = std::thread::spawn(|| {
            give_way(2).expect("a thread may always become nicer");
            let before = niceness();
            be_prompt().expect("sched_setattr");
            (before, niceness())
        });
        let (before, after) = inside.join().expect("thread");
        assert_eq!(before, after);
    }
}
