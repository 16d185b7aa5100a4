//! Taking one thing back, and checking that it is gone. Taking back what is not there succeeds.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Component, Path};
use std::time::Duration;

use super::error::HostError;
use super::process::ProcessId;
use super::undo::Undo;
use super::{files, ours, sys, tree, v2};

/// Time that a killed process has to vanish.
const DIE_WITHIN: Duration = Duration::from_secs(5);

/// Time that an admin listener has to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Takes one back; what was done, in words.
pub fn take_back(undo: &Undo) -> Result<String, HostError> {
    match undo {
        Undo::Cgroup { path } => {
            let removed = tree::remove(path)?;
            Ok(format!(
                "cgroup {} removed, {} processes killed in it",
                path.display(),
                removed.killed.len()
            ))
        }
        Undo::Homecoming { from, to } => {
            v2::bring_home(from, to)?;
            Ok(format!("processes moved back to {}", to.display()))
        }
        Undo::Undelegate { at } => Ok(if v2::give_back(at)? {
            format!("memory controller taken back at {}", at.display())
        } else {
            format!("memory controller left at {}: in use", at.display())
        }),
        Undo::Process { process, what } => end_process(*process, what),
        Undo::Continue { process } => let_go_on(*process),
        Undo::Failpoint { admin, name } => failpoint_off(admin, name),
        Undo::Targets { path, address } => forget_targets(path, address),
        Undo::Folder { path } => remove_folder(path),
    }
}

/// Empties the list of targets of a runner at this address. A list that does not name it is another runner's, or nobody's.
fn forget_targets(path: &Path, address: &str) -> Result<String, HostError> {
    let (what, quoted) = (path.display(), format!("\"{address}\""));
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        other => other.map_err(HostError::io("reading", path))?,
    };
    // Nothing but such a list is ever overwritten.
    if !text.starts_with('[') || !text.contains(&quoted) {
        return Ok(format!("{what} names no {address}"));
    }
    std::fs::write(path, "[]").map_err(HostError::io("emptying", path))?;
    Ok(format!("{what} emptied"))
}

/// Kills this very process, whoever else may have its pid by now.
fn end_process(process: ProcessId, what: &str) -> Result<String, HostError> {
    let name = format!("{what} (pid {})", process.pid);
    let failed = |why: std::io::Error| HostError::NotUndone {
        what: name.clone(),
        why: why.to_string(),
    };
    let fd = match sys::PidFd::open(process.pid) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
            return Ok(format!("{name} had ended"));
        }
        other => other.map_err(failed)?,
    };
    // Only now, with the pid held fast, is the comparison sound.
    if !files::lives(process) {
        return Ok(format!("{name} had ended"));
    }
    match fd.signal(libc::SIGKILL) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
        other => other.map_err(failed)?,
    }
    if fd.ended(Some(DIE_WITHIN)).map_err(failed)? {
        return Ok(format!("{name} killed"));
    }
    Err(HostError::NotUndone {
        what: name,
        why: "SIGKILL had no effect".to_owned(),
    })
}

/// Continues this very process; one that is not stopped, or gone, is none the worse for it.
fn let_go_on(process: ProcessId) -> Result<String, HostError> {
    let name = format!("process {}", process.pid);
    let failed = |why: std::io::Error| HostError::NotUndone {
        what: format!("stop of {name}"),
        why: why.to_string(),
    };
    let fd = match sys::PidFd::open(process.pid) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
            return Ok(format!("{name} had ended"));
        }
        other => other.map_err(failed)?,
    };
    if !files::lives(process) {
        return Ok(format!("{name} had ended"));
    }
    match fd.signal(libc::SIGCONT) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(format!("{name} had ended")),
        other => other
            .map(|()| format!("{name} told to go on"))
            .map_err(failed),
    }
}

/// Removes a folder that is named in full and lies in a marked folder of ours; of that one, what is left if that is the mark.
fn remove_folder(path: &Path) -> Result<String, HostError> {
    let plain = path
        .components()
        .skip(1)
        .all(|c| matches!(c, Component::Normal(_)));
    if !path.is_absolute() || !plain || path.components().count() < 3 {
        let why = "not a full path two levels below the root".to_owned();
        return Err(HostError::Invalid {
            what: path.display().to_string(),
            why,
        });
    }
    let around = path.parent().unwrap_or(path);
    if std::fs::symlink_metadata(path).is_ok() {
        ours::check_mark(around)?;
        std::fs::remove_dir_all(path).map_err(HostError::io("removing", path))?;
    }
    // Also where its maker was killed after the mark, before the folder.
    ours::unmark_empty(around);
    Ok(format!("folder {} removed", path.display()))
}

/// Turns a failpoint off over the admin listener. Nobody listening means that no failpoint is left either.
fn failpoint_off(admin: &str, name: &str) -> Result<String, HostError> {
    let what = format!("failpoint {name} at {admin}");
    let failed = |why: String| HostError::NotUndone {
        what: what.clone(),
        why,
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !name.chars().all(plain) {
        return Err(failed("its name is odd".to_owned()));
    }
    let address = resolve(admin).ok_or_else(|| failed("the address is odd".to_owned()))?;
    let stream = match TcpStream::connect_timeout(&address, ANSWER_WITHIN) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            return Ok(format!("{what}: nobody listens any more"));
        }
        other => other.map_err(|e| failed(e.to_string()))?,
    };
    let status = delete(stream, admin, name).map_err(|e| failed(e.to_string()))?;
    match status {
        200..=299 | 404 => Ok(format!("{what} is off (answer {status})")),
        _ => Err(failed(format!("answer {status}"))),
    }
}

fn resolve(admin: &str) -> Option<SocketAddr> {
    let plain = admin
        .strip_prefix("http://")
        .unwrap_or(admin)
        .trim_end_matches('/');
    plain.to_socket_addrs().ok()?.next()
}

/// One bare DELETE; its status. By hand, as the reaper has no runtime to drive a client.
fn delete(mut stream: TcpStream, host: &str, name: &str) -> std::io::Result<u16> {
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    let host = host
        .strip_prefix("http://")
        .unwrap_or(host)
        .trim_end_matches('/');
    let request = format!(
        "DELETE /debug/failpoints/{name} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream.take(4096)).read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|s| s.parse().ok());
    status.ok_or_else(|| std::io::Error::other(format!("not an HTTP answer: {line:?}")))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one request and hands back its first line.
    fn admin(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("address").to_string();
        let served = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("accepted");
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).expect("read");
            (&stream).write_all(answer.as_bytes()).expect("answered");
            line
        });
        (address, served)
    }

    fn off(admin: String) -> Result<String, HostError> {
        take_back(&Undo::Failpoint {
            admin,
            name: "store.load.error".to_owned(),
        })
    }

    #[test]
    fn a_failpoint_is_deleted_by_name() {
        let (address, served) = admin("HTTP/1.1 204 No Content\r\n\r\n");
        assert!(off(address).expect("off").contains("204"));
        assert_eq!(
            served.join().expect("served"),
            "DELETE /debug/failpoints/store.load.error HTTP/1.1\r\n"
        );
    }

    #[test]
    fn an_error_of_the_service_is_not_taken_for_undone() {
        let (address, served) = admin("HTTP/1.1 500 Oops\r\n\r\n");
        assert!(off(format!("http://{address}/")).is_err());
        served.join().expect("served");
    }

    #[test]
    fn a_service_that_is_gone_has_no_failpoints() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("address").to_string();
        drop(listener);
        assert!(off(address).expect("off").contains("nobody listens"));
    }

    #[test]
    fn a_pid_of_another_time_is_left_alone() {
        let me = files::process_id(std::process::id()).expect("own stat");
        let earlier = ProcessId {
            start_ticks: me.start_ticks - 1,
            ..me
        };
        assert!(
            end_process(earlier, "an earlier process")
                .expect("fine")
                .contains("had ended")
        );
    }

    #[test]
    fn a_stopped_process_goes_on_and_one_of_another_time_stays_as_it_is() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("started");
        let process = files::process_id(child.id()).expect("it lives");
        let is = |state: char| files::state(process.pid) == Some(state);
        let until = |state| {
            while !is(state) {
                std::thread::yield_now();
            }
        };
        sys::kill(process.pid, libc::SIGSTOP).expect("sent");
        until('T');
        let earlier = ProcessId {
            start_ticks: process.start_ticks - 1,
            ..process
        };
        let told = take_back(&Undo::Continue { process: earlier }).expect("fine");
        assert!(told.contains("had ended") && is('T'), "{told}");
        take_back(&Undo::Continue { process }).expect("told");
        until('S');
        child.kill().expect("killed");
        child.wait().expect("reaped");
        let told = take_back(&Undo::Continue { process }).expect("fine");
        assert!(told.contains("had ended"), "{told}");
    }

    #[test]
    fn folders_near_the_root_or_by_detours_are_refused() {
        for path in ["/", "/tmp", "data", "/tmp/../etc", "tmp/a/b"] {
            assert!(remove_folder(Path::new(path)).is_err(), "{path}");
        }
        assert!(remove_folder(Path::new("/tmp/backdrop-never/made")).is_ok());
    }

    #[test]
    fn targets_go_where_they_still_name_the_runner() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("targets.json");
        let undo = Undo::Targets {
            path: path.clone(),
            address: "127.0.0.1:4100".to_owned(),
        };
        take_back(&undo).expect("a file that is gone names nobody");
        let others = r#"[{"targets":["127.0.0.1:41002"]}]"#;
        std::fs::write(&path, others).expect("written");
        take_back(&undo).expect("left alone");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), others);
        std::fs::write(&path, r#"[{"targets":["127.0.0.1:4100"]}]"#).expect("written");
        take_back(&undo).expect("emptied");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "[]");
    }

    #[test]
    fn a_folder_is_removed_only_where_our_mark_is() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (around, inner) = (dir.path().join("data"), dir.path().join("data/trial"));
        std::fs::create_dir_all(&inner).expect("folder");
        let error = remove_folder(&inner).expect_err("no mark");
        assert!(error.to_string().contains("no mark"), "{error}");
        ours::mark(&around).expect("marked");
        std::fs::write(around.join("kept"), "").expect("file");
        assert!(remove_folder(&inner).is_ok() && !inner.exists() && around.exists());
        std::fs::create_dir(&inner).expect("folder");
        std::fs::remove_file(around.join("kept")).expect("gone");
        assert!(remove_folder(&inner).is_ok());
        assert!(!around.exists(), "with nothing but its mark it goes too");
    }
}
