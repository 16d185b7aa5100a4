//! Where no cgroup can be made: start over inside a scope of the user's systemd, which delegates one.
//!
//! The program replaces itself, once; a mark in the environment keeps it from doing so again and carries the reason.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::error::HostError;

/// Set inside a scope of ours to why one was needed.
const WHY: &str = "BACKDROP_CHAOS_SCOPE";

/// What makes a scope with a memory controller of its own.
const ARGS: [&str; 7] = [
    "--user",
    "--scope",
    "--quiet",
    "-p",
    "Delegate=yes",
    "-p",
    "MemoryAccounting=yes",
];

/// Time that systemd may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Why this process was started over in a scope; none if it was not.
#[must_use]
pub fn entered() -> Option<String> {
    std::env::var(WHY).ok()
}

/// The command line by which a person enters a scope.
#[must_use]
pub fn words() -> String {
    format!("systemd-run {}", ARGS.join(" "))
}

/// Whether systemd hands this user such a scope: asked by running `true` in one.
#[must_use]
pub fn offered() -> bool {
    let mut command = Command::new("systemd-run");
    command
        .args(ARGS)
        .arg("true")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else {
        return false;
    };
    let begun = Instant::now();
    while begun.elapsed() < ANSWER_WITHIN {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            #[expect(
                clippy::disallowed_methods,
                reason = "the interval of a bounded poll of a child"
            )]
            Ok(None) => std::thread::sleep(Duration::from_millis(20)),
            Err(_) => return false,
        }
    }
    // No answer is an answer: no session bus to ask.
    let _ = child.kill();
    let _ = child.wait();
    false
}

/// Starts this program over in a scope, if one is offered and this is not one already. Returns only if it did not.
/// `why` is what kept the program from making a cgroup where it is.
///
/// # Errors
/// The program could not be replaced.
pub fn enter(program: &Path, why: &str) -> Result<(), HostError> {
    if entered().is_some() || !offered() {
        return Ok(());
    }
    let cause = command(program, std::env::args_os().skip(1), why).exec();
    Err(HostError::Spawn {
        program: "systemd-run".into(),
        cause,
    })
}

fn command(program: &Path, args: impl IntoIterator<Item = OsString>, why: &str) -> Command {
    let mut command = Command::new("systemd-run");
    command.args(ARGS).arg("--").arg(program).args(args);
    command.env(WHY, why);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_starts_over_with_its_own_words_and_the_reason() {
        let command = command(Path::new("/x/chaos"), ["run".into(), "a b".into()], "no v2");
        let words: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
        assert_eq!(words[..2], ["--user", "--scope"]);
        assert_eq!(words[7..], ["--", "/x/chaos", "run", "a b"]);
        let why = command.get_envs().find(|(name, _)| *name == WHY);
        assert_eq!(why.and_then(|(_, v)| v), Some("no v2".as_ref()));
    }
}
