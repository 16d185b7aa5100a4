//! Writes the committed dashboards again: `cargo run -p backdrop-dashboards`.

#![expect(clippy::print_stdout, reason = "the written files are the output")]

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, content) in backdrop_dashboards::files() {
        let path = folder.join(name);
        if let Err(error) = std::fs::write(&path, content) {
            eprintln!("cannot write {}: {error}", path.display());
            return ExitCode::from(73);
        }
        println!("{}", path.display());
    }
    ExitCode::SUCCESS
}
