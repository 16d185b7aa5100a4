//! The `report` binary: renders a run record again, compares two, follows a scenario over the kept ones, writes the scorecard.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use backdrop_reports::command::{self, COMPARE_HELP, CompareArgs, Said, ScorecardArgs, TrendArgs};
use backdrop_reports::error::ReportError;
use backdrop_reports::{read, render, schema};
use clap::{Parser, Subcommand};

/// Renders and compares what chaos runs left behind.
///
/// `chaos run` writes run.json and its renderings into reports/out/<UTC time>-<seed>/ and points
/// reports/out/latest to it. This tool makes the renderings again from run.json: after an update of Backdrop,
/// or from a record that came from another machine. It never judges: the verdict is the record's. It also holds
/// two runs against each other, shows a scenario over all runs that are kept, and what they measured beside the
/// naive way.
#[derive(Parser)]
#[command(name = "report", version, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  report render reports/out/latest             the last run again, in its own folder
  report render run.json --out /tmp/report     a record from elsewhere, into a new folder
  report compare RUN_A RUN_B --html both.html  what became better or worse, and how sure that is
  report trend memory-hog --html trend.html    each figure over the newest 200 runs
  report scorecard                             claims, each with what was measured here for it
  report schema > run-v2.json                  what run.json looks like, for other tools

A run's folder holds run.json (the record), index.html (open it in a browser, no network needed),
junit.xml and ctrf.json (for CI), summary.md (for a job page) and the raw logs.

Exit codes (compare has some of its own): 0 done, 64 wrong usage, 65 not a run record or a newer one, 66 no such file,
73 a file could not be written.";

#[derive(Subcommand)]
enum Command {
    /// Renders index.html, junit.xml, ctrf.json and summary.md from a run.json.
    Render {
        /// Folder of a run, or a run.json.
        #[arg(value_name = "RUN_DIR_OR_JSON")]
        record: PathBuf,
        /// Folder to write to, made if missing; gets a copy of run.json too. By default the one that holds the
        /// run.json.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Holds two runs against each other: change per figure, with a confidence where runs were repeated.
    #[command(after_help = COMPARE_HELP)]
    Compare(CompareArgs),
    /// Shows each figure of a scenario over the kept runs, oldest first.
    Trend(TrendArgs),
    /// Writes a page of what the kept runs and the benchmarks measured beside the naive way.
    Scorecard(ScorecardArgs),
    /// Prints the JSON Schema of run.json.
    Schema,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap's own code for bad usage is 2, which in Backdrop means `inconclusive`.
            let code = if error.use_stderr() { 64 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match run(arguments.command) {
        Ok(said) => {
            // A closed pipe is no reason for another exit code.
            let _ = std::io::stdout().write_all(said.text.as_bytes());
            ExitCode::from(said.exit)
        }
        Err(error) => {
            eprintln!("report: {error}");
            ExitCode::from(error.exit())
        }
    }
}

fn run(command: Command) -> Result<Said, ReportError> {
    let done = |text| Said { text, exit: 0 };
    match command {
        Command::Schema => schema::run_schema().map(done),
        Command::Render { record, out } => render(&record, out.as_deref()).map(done),
        Command::Compare(args) => command::compare(&args),
        Command::Trend(args) => command::trend(&args),
        Command::Scorecard(args) => command::scorecard(&args),
    }
}

fn render(path: &Path, out: Option<&Path>) -> Result<String, ReportError> {
    let file = read::locate(path)?;
    let record = read::read_record(&file)?;
    let dir = out.unwrap_or_else(|| render::link::home(&file));
    render::write_renderings(&record, dir)?;
    let copy = dir.join(read::RECORD_FILE);
    // The bytes as they are: a record of a newer minor version keeps the fields this build does not know.
    if out.is_some() && copy.canonicalize().ok() != file.canonicalize().ok() {
        std::fs::copy(&file, &copy).map_err(|cause| ReportError::Write { path: copy, cause })?;
    }
    Ok(format!(
        "{}: {}\n{}\n",
        record.verdict.word(),
        record.reason,
        dir.join("index.html").display()
    ))
}
