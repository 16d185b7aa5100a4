//! The `backdrop-simulator` binary: flags in, table out, exit code.
//!
//! Exit: 0 truth clean, 1 violated, 2 inconclusive, 64 usage, 69 service unavailable, 130 interrupted, 255 error.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use backdrop_simulator::cli::{Cli, Errand, LoadArgs, Plan, Scenario};
use backdrop_simulator::shared::{Stop, StopReason};
use backdrop_simulator::{gallery, host, report, run};
use clap::Parser;

const USAGE: u8 = 64;
const ERROR: u8 = 255;
const INTERRUPTED: i32 = 130;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors, and go to standard output.
            let code = if error.use_stderr() { USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let result = match cli.command.errand() {
        Errand::Load(scenario, args) => load(scenario, *args),
        Errand::Draw(args) => gallery::draw_into(&args.out, args.count, args.size.0, args.size.1)
            .map(|paths| {
                say(&format!(
                    "{} backgrounds in {}\n",
                    paths.len(),
                    args.out.display()
                ))
            })
            .context("drawing backgrounds"),
        Errand::Version { json } => Ok(say(&version(json))),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(ERROR)
        }
    }
}

fn version(json: bool) -> String {
    let version = env!("CARGO_PKG_VERSION");
    match json {
        true => format!(
            "{}\n",
            serde_json::json!({"version": version, "features": []})
        ),
        false => format!("backdrop-simulator {version}\n"),
    }
}

/// Writes to standard output; whoever closed it does not want it.
fn say(text: &str) -> u8 {
    let _ = std::io::stdout().write_all(text.as_bytes());
    0
}

fn load(scenario: Scenario, args: LoadArgs) -> anyhow::Result<u8> {
    let plan = match Plan::resolve(scenario, args) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("error: {error}");
            return Ok(USAGE);
        }
    };
    if plan.args.schedule_hash {
        return Ok(say(&format!("{:016x}\n", run::schedule_hash(&plan))));
    }
    if let Some(cpus) = &plan.args.cpus
        && let Err(error) = host::pin(&cpus.0)
    {
        eprintln!("error: {error}");
        return Ok(USAGE);
    }
    let stop = Stop::default();
    interrupt(stop.clone())?;
    let table_to_stderr = plan
        .args
        .events
        .as_ref()
        .is_some_and(|path| path.as_os_str() == "-");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(host::cpus())
        .on_thread_start(host::be_prompt)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    match runtime.block_on(run::run(plan, stop)) {
        Ok(outcome) => {
            let table = report::table(&outcome.report, &outcome.beside);
            if table_to_stderr {
                eprint!("{table}");
            } else {
                say(&table);
            }
            Ok(outcome.exit)
        }
        Err(error) => {
            eprintln!("error: {error}");
            Ok(error.exit_code())
        }
    }
}

/// The first SIGINT ends the load and the report is written, the second ends the process. Installed before goose
/// starts, which then leaves the signal alone.
fn interrupt(stop: Stop) -> anyhow::Result<()> {
    ctrlc::set_handler(move || {
        if !stop.set(StopReason::Interrupted) {
            std::process::exit(INTERRUPTED);
        }
        eprintln!("interrupted: ending the load and tidying up; once more to quit at once");
    })
    .context("installing the SIGINT handler")
}
