//! `backdrop-chaos`: parses, hands over, exits with the verdict's code.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context as _;
use backdrop_chaos::cli::{Cli, Command};
use backdrop_chaos::explain;
use backdrop_chaos::host::{self, CheckState, state_dir};
use backdrop_chaos::mutants;
use backdrop_chaos::runner;
use backdrop_chaos::scenario::library;
use backdrop_reports::command::{self, CompareArgs};
use clap::Parser;

/// Exit code of an error, as the verdict `error` has it.
const ERROR: u8 = 255;
/// Exit code of `compare` that was asked for wrongly.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    // Before the first child, and whatever this process is started as: runner, hog or reaper.
    host::keep_ended_children();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => {
            // Help and version are no error; a wrong flag is, and must not read as the verdict 2, inconclusive.
            // `compare` exits as `report compare` does.
            let compares = std::env::args()
                .nth(1)
                .is_some_and(|word| word == "compare");
            let code = match (told.use_stderr(), compares) {
                (false, _) => 0,
                (true, true) => USAGE,
                (true, false) => ERROR,
            };
            let _ = told.print();
            return ExitCode::from(code);
        }
    };
    let filter =
        tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match dispatch(cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::from(ERROR)
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Run(args) => block_on(runner::run(args)),
        Command::Mutants(args) => block_on(runner::mutants(args)),
        Command::Search(args) => block_on(runner::search(args)),
        Command::Replay(args) => block_on(runner::replay(args)),
        Command::Compare(args) => Ok(compare(&args)),
        Command::List => {
            say(&library::list()?);
            Ok(0)
        }
        Command::Explain { name } if name == "figures" => {
            say(&explain::figures());
            Ok(0)
        }
        Command::Explain { name } if name == "mutants" => {
            say(&mutants::explain()?);
            Ok(0)
        }
        Command::Explain { name } => {
            say(&explain::scenario(&library::find(&name)?));
            Ok(0)
        }
        Command::Doctor { clean } => doctor(clean),
        Command::Check { words } => Ok(check(words)),
        Command::Subprocess(subprocess) => {
            subprocess.run()?;
            Ok(0)
        }
    }
}

/// What was asked for. Whoever reads it may have had enough of it, which is no error.
fn say(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Whether this command line would be taken.
fn check(words: Vec<String>) -> u8 {
    let words = std::iter::once("backdrop-chaos".to_owned()).chain(words);
    match Cli::try_parse_from(words).map(|cli| runner::check(&cli.command)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            eprintln!("error: {error}");
            ERROR
        }
        Err(told) => {
            let _ = told.print();
            if told.use_stderr() { ERROR } else { 0 }
        }
    }
}

fn block_on(run: impl Future<Output = Result<u8, runner::RunError>>) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let code = runtime.block_on(run)?;
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    Ok(code)
}

fn compare(args: &CompareArgs) -> u8 {
    match command::compare(args) {
        Ok(said) => {
            say(&said.text);
            said.exit
        }
        Err(error) => {
            eprintln!("error: {error}");
            error.exit()
        }
    }
}

fn doctor(clean: bool) -> anyhow::Result<u8> {
    let mut bad = false;
    for check in host::doctor() {
        let word = match check.state {
            CheckState::Good => "good",
            CheckState::Weak => "weak",
            CheckState::Bad => "bad ",
        };
        bad |= check.state == CheckState::Bad;
        say(&format!("{word}  {:<18} {}\n", check.name, check.found));
        if !check.mend.is_empty() {
            say(&format!("      {:<18} mend: {}\n", "", check.mend));
        }
    }
    for leftover in host::leftovers(&state_dir())? {
        say(&format!(
            "left by a dead runner (pid {}), {}:\n",
            leftover.runner.pid,
            leftover.path.display()
        ));
        for open in &leftover.open {
            say(&format!("      {open}\n"));
        }
        if !clean {
            say("      mend: backdrop-chaos doctor --clean\n");
            bad = true;
            continue;
        }
        let report = leftover.clean();
        report
            .done
            .iter()
            .for_each(|line| say(&format!("      undone: {line}\n")));
        report
            .failed
            .iter()
            .for_each(|line| say(&format!("      NOT undone: {line}\n")));
        bad |= !report.clean();
    }
    Ok(u8::from(bad))
}
