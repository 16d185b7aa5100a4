//! The alerts as Prometheus itself judges them: `promtool` checks the rules and runs their tests. Where it is not installed (Debian: the
//! package prometheus; or PROMTOOL names it) this says so and proves nothing; `files.rs` still parses every expression.

use std::path::Path;
use std::process::Command;

fn promtool(arguments: &[&str]) -> Option<std::process::Output> {
    let program = std::env::var("PROMTOOL").unwrap_or_else(|_| "promtool".to_owned());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("prometheus");
    match Command::new(&program)
        .args(arguments)
        .current_dir(folder)
        .output()
    {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("SKIPPED: {program}: {error}");
            None
        }
    }
}

#[test]
fn alerts_fire_when_they_should_and_not_before() {
    for arguments in [
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules_test.yml"],
    ] {
        let Some(output) = promtool(&arguments) else {
            return;
        };
        let said = [output.stdout, output.stderr].concat();
        assert!(
            output.status.success(),
            "promtool {arguments:?}: {}",
            String::from_utf8_lossy(&said)
        );
    }
}
