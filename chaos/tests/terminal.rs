//! What a person sees while a run goes on, through the whole runner with a stand-in for service and simulator: a block on a terminal,
//! plain lines on one that cannot go back.

use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::Stdio;

mod standin;

use standin::{Bench, KILLED, SCENARIO, faulty};

/// Not a test: what the stand-in's scripts start.
#[test]
#[ignore = "started by the other tests"]
fn stands_in() {
    standin::run();
}

const HOG: &str = r#"[[fault]]
name = "presses"
kind = "memory_hog"
amount = "12MiB"
ramp = "500ms"
at = "4s"
for = "2s"
"#;

/// A terminal of 40 lines of 120: the person's end and the program's.
#[expect(unsafe_code, reason = "std opens no terminals")]
fn terminal() -> (File, OwnedFd) {
    let (mut ours, mut theirs) = (-1, -1);
    let size = libc::winsize {
        ws_row: 40,
        ws_col: 120,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let none = std::ptr::null_mut();
    // SAFETY: both numbers are valid for writes, the size for reads, and the others may be null.
    let opened = unsafe { libc::openpty(&raw mut ours, &raw mut theirs, none, none.cast(), &size) };
    assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: both were just opened, and are nobody else's.
    unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) }
}

/// Runs the scenario before a terminal of this kind: the exit code, and what was shown.
fn shown(scenario: &str, kind: &str, no_colour: &str) -> (Option<i32>, String) {
    let bench = Bench::new(scenario);
    let (mut screen, theirs) = terminal();
    let mut command = bench.command();
    command
        .env("TERM", kind)
        .env("NO_COLOR", no_colour)
        .stdout(Stdio::null())
        .stderr(theirs);
    let mut child = command.spawn().expect("the runner");
    // With its end of the terminal, so that ours ends with the runner.
    drop(command);
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        // Linux ends it by an error once nobody has the other end.
        let _ = screen.read_to_end(&mut all);
        String::from_utf8_lossy(&all).into_owned()
    });
    let code = child.wait().expect("it ends").code();
    (code, reader.join().expect("read"))
}

#[test]
fn a_terminal_shows_progress_pressure_faults_and_how_the_expectations_stand() {
    let (code, text) = shown(&faulty(HOG), "xterm-256color", "");
    assert_eq!(code, Some(0), "{text}");
    for part in [
        "/10 s",
        "of 96 MiB; service ",
        ", hog 1",
        "next presses at 4 s",
        "faults  presses",
        "\x1b[32m\u{2713}\x1b[0m no-kill",
        "small: held",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(text.contains("\x1b[1A"), "it is redrawn in place\n{text}");
}

#[test]
fn without_colour_there_is_none() {
    let (code, text) = shown(&format!("{SCENARIO}{KILLED}"), "xterm-256color", "1");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("\u{2713} no-kill"), "{text}");
    assert!(!text.contains("\x1b[32m"), "{text}");
}

#[test]
fn a_terminal_that_cannot_go_back_gets_plain_lines() {
    let (code, text) = shown(&faulty(HOG), "dumb", "");
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
    for part in ["1 scenario, seed 7", "small", " held, ", " / 96 MiB | "] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}
