//! Lowers the priority of the calling thread. The one place of this part with `unsafe`.

/// Adds to the niceness of the calling thread, on Linux alone of its process. Best effort: a refusal is returned, and
/// the thread goes on as it was.
#[cfg(target_os = "linux")]
pub fn lower_this_thread(by: i32) -> std::io::Result<()> {
    // SAFETY: no memory is passed. On Linux, `PRIO_PROCESS` with 0 means the calling thread.
    let refused = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, by) } != 0;
    if refused {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Elsewhere priorities belong to whole processes; nothing is done.
#[cfg(not(target_os = "linux"))]
pub fn lower_this_thread(_by: i32) -> std::io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    fn niceness() -> i32 {
        // SAFETY: no memory is passed.
        unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
    }

    #[test]
    fn only_the_calling_thread_becomes_nicer() {
        let before = niceness();
        let target = (before + 5).min(19);
        let inside = std::thread::spawn(move || {
            super::lower_this_thread(target).unwrap();
            niceness()
        });
        assert_eq!(inside.join().unwrap(), target);
        assert_eq!(niceness(), before);
    }
}
