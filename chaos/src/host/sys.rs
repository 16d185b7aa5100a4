//! Every `libc` call of the crate, each behind a safe function.
//!
//! Knows no cgroup and no journal: plain numbers and descriptors in, `io::Result` out.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::time::{Duration, Instant};

/// Turns -1 into the error number's error.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// A pid as the kernel takes it; 0 and negative values would name groups and are refused.
fn positive(pid: u32) -> io::Result<libc::pid_t> {
    match libc::pid_t::try_from(pid) {
        Ok(pid) if pid > 0 => Ok(pid),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Sends a signal to one process.
pub fn kill(pid: u32, signal: i32) -> io::Result<()> {
    // SAFETY: plain numbers.
    check(unsafe { libc::kill(positive(pid)?, signal) }).map(drop)
}

/// Effective user id.
pub fn effective_user() -> u32 {
    // SAFETY: takes and fails nothing.
    unsafe { libc::geteuid() }
}

/// Clock ticks per second of /proc/PID/stat.
pub fn ticks_per_second() -> u64 {
    // SAFETY: takes a constant.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) })
        .unwrap_or(100)
        .max(1)
}

/// Bytes of a page.
pub fn page_bytes() -> usize {
    // SAFETY: takes a constant.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) })
        .unwrap_or(4096)
        .max(1)
}

/// Soft and hard limit of open files.
pub fn open_files_limit() -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is valid for writes.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Bytes that we may still write where this is.
pub fn free_bytes(path: &std::path::Path) -> io::Result<u64> {
    let path = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
    let path = std::ffi::CString::new(path).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: an all-zero statvfs is valid.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends in a zero byte, and `found` is valid for writes.
    check(unsafe { libc::statvfs(path.as_ptr(), &raw mut found) })?;
    Ok(found.f_bavail * found.f_frsize)
}

/// CPUs that the calling thread may use.
pub fn affinity() -> io::Result<Vec<usize>> {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is valid for writes of the size given.
    check(unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) })?;
    // SAFETY: every index is below CPU_SETSIZE.
    Ok((0..cpu_max())
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect())
}

/// Confines one thread (0: the caller).
pub fn set_affinity(thread: u32, cpus: &[usize]) -> io::Result<()> {
    let set = cpu_set(cpus)?;
    let thread = libc::pid_t::try_from(thread).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `set` is valid for reads of the size given.
    check(unsafe { libc::sched_setaffinity(thread, size_of::<libc::cpu_set_t>(), &raw const set) })
        .map(drop)
}

/// Puts the calling thread before every one of normal priority, and behind all others of real-time priority.
pub fn run_in_real_time() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameters are valid for reads; 0 is the calling thread.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) }).map(drop)
}

fn cpu_max() -> usize {
    usize::try_from(libc::CPU_SETSIZE).unwrap_or(1024)
}

fn cpu_set(cpus: &[usize]) -> io::Result<libc::cpu_set_t> {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if cpus.is_empty() || cpus.iter().any(|&cpu| cpu >= cpu_max()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for &cpu in cpus {
        // SAFETY: the index was checked against CPU_SETSIZE.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    Ok(set)
}

/// Has children that end stay until they are looked at. Whoever starts us ignoring SIGCHLD hands that on, and the kernel would
/// then drop every child's end, kills for memory among them, before it could be read.
pub fn keep_ended_children() {
    // SAFETY: SIG_DFL is no handler that could run.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Waits until this child has ended, without reaping it: its pid stays taken.
pub fn wait_without_reaping(pid: u32) -> io::Result<()> {
    loop {
        // SAFETY: an all-zero siginfo_t is valid.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` is valid for writes.
        let result = unsafe {
            libc::waitid(
                libc::P_PID,
                pid,
                &raw mut info,
                libc::WEXITED | libc::WNOWAIT,
            )
        };
        match check(result) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(drop),
        }
    }
}

/// A descriptor for a process, immune to reuse of its pid.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// For the process that has this pid now.
    pub fn open(pid: u32) -> io::Result<Self> {
        // SAFETY: plain numbers; the result is a fresh descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, positive(pid)?, 0) };
        let fd = check(RawFd::try_from(fd).unwrap_or(-1))?;
        // SAFETY: the descriptor is fresh and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Sends a signal to exactly this process.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let none = ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open; a null siginfo is allowed.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                none,
                0,
            )
        };
        check(i32::try_from(result).unwrap_or(-1)).map(drop)
    }

    /// Waits for its end for at most this long, for ever if none; whether it has ended.
    pub fn ended(&self, at_most: Option<Duration>) -> io::Result<bool> {
        let timeout = at_most.map_or(-1, |d| i32::try_from(d.as_millis()).unwrap_or(i32::MAX));
        let mut poll = libc::pollfd {
            fd: self.0.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: `poll` is one valid pollfd.
        match check(unsafe { libc::poll(&raw mut poll, 1, timeout) }) {
            Ok(ready) => Ok(ready > 0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What a child does to itself between fork and exec.
#[derive(Debug, Default)]
pub struct BeforeExec {
    /// `cgroup.procs` of the cgroup it enters, open for writing.
    pub enter: Option<std::fs::File>,
    /// CPUs it is confined to.
    pub cpus: Option<Vec<usize>>,
    /// `oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// SIGKILL it when the *thread* that forks it ends.
    pub die_with_parent: bool,
    /// Give it a session of its own.
    pub own_session: bool,
}

/// Has the command do this in the child. Everything that allocates is done here, before the fork.
pub fn before_exec(command: &mut Command, what: BeforeExec) -> io::Result<()> {
    let cpus = what.cpus.as_deref().map(cpu_set).transpose()?;
    let score = what
        .oom_score_adj
        .map(|score| CString::new(score.to_string()))
        .transpose()?;
    let parent = std::process::id();
    let BeforeExec {
        enter,
        die_with_parent,
        own_session,
        ..
    } = what;
    let hook = move || {
        if own_session {
            // SAFETY: async-signal-safe, no pointers.
            check(unsafe { libc::setsid() })?;
        }
        if die_with_parent {
            // SAFETY: async-signal-safe, plain numbers.
            check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
            // The parent may have died before the call above. SAFETY: async-signal-safe.
            if u32::try_from(unsafe { libc::getppid() }) != Ok(parent) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
        }
        if let Some(procs) = &enter {
            write_all(procs.as_raw_fd(), b"0")?;
        }
        if let Some(cpus) = &cpus {
            // SAFETY: async-signal-safe in practice (a bare system call); the set lives in the closure.
            check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), cpus) })?;
        }
        if let Some(score) = &score {
            set_own_oom_score(score)?;
        }
        // A handler is reset by exec, a mask is not: a child must not inherit a blocked SIGTERM.
        unblock_all()
    };
    // SAFETY: the hook only makes async-signal-safe calls and does not allocate: errors are made of numbers.
    unsafe { command.pre_exec(hook) };
    Ok(())
}

fn unblock_all() -> io::Result<()> {
    // SAFETY: an all-zero sigset_t is then initialised by sigemptyset; both calls are async-signal-safe.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        check(libc::sigprocmask(
            libc::SIG_SETMASK,
            &raw const set,
            ptr::null_mut(),
        ))
        .map(drop)
    }
}

fn set_own_oom_score(score: &CString) -> io::Result<()> {
    // SAFETY: async-signal-safe; the path is a literal that ends in NUL.
    let fd = check(unsafe {
        libc::open(
            c"/proc/self/oom_score_adj".as_ptr(),
            libc::O_WRONLY | libc::O_CLOEXEC,
        )
    })?;
    let written = write_all(fd, score.as_bytes());
    // SAFETY: opened above and used nowhere else.
    unsafe { libc::close(fd) };
    written
}

/// One write, as kernel files want it.
fn write_all(fd: RawFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the slice is valid for reads of its length.
    let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    match usize::try_from(written) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(n) if n < bytes.len() => Err(io::Error::from_raw_os_error(libc::EIO)),
        Ok(_) => Ok(()),
    }
}

/// SIGTERM and SIGINT, blocked for this thread and those it starts, and waited for.
#[derive(Debug)]
pub struct StopSignal(libc::sigset_t);

impl StopSignal {
    /// Blocks them; call it before any thread is started.
    pub fn block() -> io::Result<Self> {
        // SAFETY: the set is initialised by sigemptyset before use and valid throughout.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGTERM);
            libc::sigaddset(&raw mut set, libc::SIGINT);
            check(libc::sigprocmask(
                libc::SIG_BLOCK,
                &raw const set,
                ptr::null_mut(),
            ))?;
            Ok(Self(set))
        }
    }

    /// Waits for one for at most this long, for ever if none; whether it came.
    pub fn wait(&self, at_most: Option<Duration>) -> bool {
        let until = at_most.map(|d| Instant::now() + d);
        loop {
            let left = until.map(|until| timespec(until.saturating_duration_since(Instant::now())));
            let left = left.as_ref().map_or(ptr::null(), ptr::from_ref);
            // SAFETY: the set is initialised; `left` is null or points to a live timespec; no siginfo is asked for.
            let signal = unsafe { libc::sigtimedwait(&raw const self.0, ptr::null_mut(), left) };
            // Being stopped and continued interrupts the wait, but is no signal to stop.
            if signal > 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return signal > 0;
            }
        }
    }
}

fn timespec(time: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(time.subsec_nanos().cast_signed()),
    }
}

/// Has SIGINT, SIGTERM and SIGHUP pass by: what a terminal or a tidy-up sends to a whole group.
pub fn ignore_stop_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: SIG_IGN is no handler that could run.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Has the kernel forget the page cache of a file, as far as it is clean and nobody maps it.
pub fn drop_cache(file: &std::fs::File) -> io::Result<()> {
    // SAFETY: an open descriptor and plain numbers; a length of zero means to the end.
    let error = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    // The error is returned and not left in errno.
    match error {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number)),
    }
}

/// A file whose pages are in memory, and charged to this process's cgroup where nobody else's had them, until this is dropped.
///
/// Locked where the kernel allows that (root, or a `ulimit -l` above the file's size); elsewhere a host that is itself short of memory
/// may take pages back.
#[derive(Debug)]
pub struct ResidentFile {
    start: *mut libc::c_void,
    bytes: usize,
}

// SAFETY: the mapping is never read or written; it is only unmapped, by whichever thread drops it.
unsafe impl Send for ResidentFile {}
// SAFETY: as above; a shared reference gives access to nothing.
unsafe impl Sync for ResidentFile {}

impl ResidentFile {
    /// Reads the file in and keeps it.
    ///
    /// # Errors
    /// It cannot be opened or mapped, or is empty.
    pub fn hold(path: &std::path::Path) -> io::Result<Self> {
        let file = std::fs::File::open(path)?;
        let bytes = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        // SAFETY: a new mapping of an open file, for reading; no address is asked for.
        let start = unsafe {
            let fd = file.as_raw_fd();
            libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ, flags, fd, 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping above. A refusal leaves its pages populated.
        unsafe { libc::mlock(start, bytes) };
        Ok(Self { start, bytes })
    }

    /// How many bytes of it are in memory now, whole pages.
    #[cfg(test)]
    pub fn resident_bytes(&self) -> io::Result<usize> {
        let mut pages = vec![0_u8; self.bytes.div_ceil(page_bytes())];
        // SAFETY: the mapping made in `hold`, and a byte for each of its pages.
        check(unsafe { libc::mincore(self.start, self.bytes, pages.as_mut_ptr()) })?;
        Ok(pages.iter().filter(|&&page| page & 1 == 1).count() * page_bytes())
    }
}

impl Drop for ResidentFile {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `hold`, unmapped once, which unlocks it, too.
        unsafe { libc::munmap(self.start, self.bytes) };
    }
}

/// Private anonymous memory that becomes resident page by page.
#[derive(Debug)]
pub struct Region {
    start: *mut u8,
    bytes: usize,
    touched: usize,
}

impl Region {
    /// Maps without populating. Small pages, so that steps stay small; or huge ones where the kernel has them, which are filled ten
    /// times as fast.
    pub fn map(bytes: usize, huge_pages: bool) -> io::Result<Self> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping; no address is asked for.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, prot, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let advice = match huge_pages {
            true => libc::MADV_HUGEPAGE,
            false => libc::MADV_NOHUGEPAGE,
        };
        // SAFETY: the mapping above; advice may fail on kernels without huge pages, which leaves small ones.
        unsafe { libc::madvise(start, bytes, advice) };
        Ok(Self {
            start: start.cast(),
            bytes,
            touched: 0,
        })
    }

    /// The same as [`Region::touch`] by one system call, several times as fast; page by page where the kernel (before 5.14)
    /// does not offer it.
    pub fn populate(&mut self, upto: usize) -> usize {
        let whole = upto.min(self.bytes) / page_bytes() * page_bytes();
        if whole > self.touched {
            // SAFETY: `touched < whole <= bytes`, both whole pages, so the range lies inside the mapping.
            let result = unsafe {
                let start = self.start.add(self.touched).cast();
                libc::madvise(start, whole - self.touched, libc::MADV_POPULATE_WRITE)
            };
            if result == 0 {
                self.touched = whole;
            }
        }
        // What is no whole page, or was refused.
        self.touch(upto)
    }

    /// Makes the first `upto` bytes resident (never more than there are); bytes resident now.
    pub fn touch(&mut self, upto: usize) -> usize {
        let (upto, page) = (upto.min(self.bytes), page_bytes());
        while self.touched < upto {
            // SAFETY: `touched < bytes`, so the address is inside the mapping; nobody else refers to it.
            unsafe { self.start.add(self.touched).write_volatile(1) };
            self.touched = (self.touched + page).min(self.bytes);
        }
        self.touched
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, unmapped once.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_file_stays_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        let bytes = 64 * page_bytes();
        std::fs::write(&path, vec![7; bytes]).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        file.sync_all().unwrap();
        drop_cache(&file).unwrap();
        let held = ResidentFile::hold(&path).unwrap();
        assert_eq!(held.resident_bytes().unwrap(), bytes);
        drop_cache(&file).unwrap();
        assert_eq!(held.resident_bytes().unwrap(), bytes);
    }

    #[test]
    fn what_is_no_file_with_bytes_is_not_held() {
        let dir = tempfile::tempdir().unwrap();
        let missing = ResidentFile::hold(&dir.path().join("missing")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let empty = dir.path().join("empty");
        std::fs::write(&empty, []).unwrap();
        assert_eq!(
            ResidentFile::hold(&empty).unwrap_err().raw_os_error(),
            Some(libc::EINVAL)
        );
    }
}
