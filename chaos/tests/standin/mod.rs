//! A stand-in for service and simulator, by the name it is started under: just enough of both for the runner's own tests, which
//! force with it what a real service would hardly do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

mod bench;
mod memory;
mod service;
mod simulator;

#[allow(unused_imports, reason = "each test binary uses its own part")]
pub use bench::{Bench, KILLED, LOSES, SCENARIO, faulty, nothing_left, of_all_trials, tell};

/// Variable that carries the command line, one word a line.
const WORDS: &str = "BACKDROP_STANDIN";

/// Writes scripts under the names of all binaries into a folder. Each becomes this test binary, which runs the one ignored
/// test `test` that calls [`run`].
pub fn install(dir: &Path, test: &str) {
    let exe = std::env::current_exe().unwrap();
    let binaries = [
        ("service", ""),
        ("service-failpoints", "\"failpoints\""),
        ("service-controls", "\"chaos-controls\""),
        ("simulator", ""),
    ];
    for (name, features) in binaries {
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = version ] && echo '{{\"version\":\"0\",\"features\":[{features}]}}' && exit\n\
             all=\"$*\"; case \"$all\" in *--schedule-hash*) all=${{all#*--seed }}; echo \"schedule-${{all%% *}}\"; exit;; esac\n\
             {WORDS}=$(printf '%s\\n' {name} \"$@\")\nexport {WORDS}\nexec '{}' --exact {test} --ignored --nocapture\n",
            exe.display()
        );
        let path = dir.join(format!("backdrop-{name}"));
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// Stands in for the binary whose command line the environment carries; nothing without one.
pub fn run() {
    let Ok(words) = std::env::var(WORDS) else {
        return;
    };
    let args: Vec<String> = words.lines().map(str::to_owned).collect();
    match args[0].as_str() {
        "simulator" => simulator::run(&args),
        service::TWIN => service::twin(),
        _ => service::run(&args),
    }
}

fn flag<'a>(args: &'a [String], name: &str) -> Option<&'a str> {
    args.iter()
        .position(|a| a == name)
        .and_then(|i| args.get(i + 1))
        .map(String::as_str)
}

fn has(args: &[String], name: &str) -> bool {
    args.iter().any(|a| a == name)
}
