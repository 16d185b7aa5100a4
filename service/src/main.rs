//! The command line: parses, resolves the settings, sets up the log, builds the runtime, runs. Exit codes: 0 done, 64 a bad
//! setting (before anything is bound), 1 anything else.

#![expect(clippy::print_stdout, reason = "what was asked for goes to stdout")]

use anyhow::Context;
use backdrop_service::config::{Config, LogForm, Raw};
use backdrop_service::{FEATURES, VERSION, app, priority};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// A bad command line or setting, as `sysexits.h` names it.
const EXIT_USAGE: u8 = 64;
/// Threads for file operations.
const BLOCKING_THREADS_MAX: usize = 16;

#[derive(Parser)]
#[command(
    name = "backdrop-service",
    version,
    about = "Virtual backgrounds for a million sessions out of a few shared textures"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT
    Serve(Box<Raw>),
    /// Take a folder of JPEG, PNG and WebP files into the data directory, while no service runs on it
    Import {
        /// Folder of pictures
        dir: PathBuf,
        #[command(flatten)]
        raw: Box<Raw>,
    },
    /// Say which build this is
    Version {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { EXIT_USAGE } else { 0 };
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    match cli.command {
        Command::Serve(raw) => with_config(*raw, serve),
        Command::Import { dir, raw } => with_config(*raw, |config| import(&config, &dir)),
        Command::Version { json } => version(json),
    }
}

fn with_config(raw: Raw, run: impl FnOnce(Config) -> anyhow::Result<ExitCode>) -> ExitCode {
    let config = match Config::resolve(raw) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("backdrop-service: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if let Err(error) = log(&config) {
        eprintln!("backdrop-service: log-level: {error}");
        return ExitCode::from(EXIT_USAGE);
    }
    run(config).unwrap_or_else(|error| {
        // Once: the log goes to the same place, unless its level leaves this out.
        if tracing::enabled!(tracing::Level::ERROR) {
            tracing::error!("{error:#}");
        } else {
            eprintln!("backdrop-service: {error:#}");
        }
        ExitCode::FAILURE
    })
}

/// The error's text holds what it stems from.
fn log(config: &Config) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log_level)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match config.log {
        LogForm::Text => builder.with_ansi(false).init(),
        LogForm::Json => builder.json().init(),
    }
    Ok(())
}

fn runtime(config: &Config) -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.threads)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("http")
        .on_thread_start(|| {
            // A refusal costs latency on a busy CPU and nothing else.
            let _ = priority::be_prompt();
        })
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

fn serve(config: Config) -> anyhow::Result<ExitCode> {
    let runtime = runtime(&config)?;
    let grace = config.http.drain_timeout;
    let outcome = runtime.block_on(app::serve(config));
    runtime.shutdown_timeout(grace);
    outcome?;
    Ok(ExitCode::SUCCESS)
}

fn import(config: &Config, dir: &std::path::Path) -> anyhow::Result<ExitCode> {
    let (mut taken, mut failed) = (0, 0);
    runtime(config)?
        .block_on(app::import(
            config,
            dir,
            |at, all, imported| match &imported.outcome {
                Ok((id, version)) => {
                    taken += 1;
                    println!("[{at}/{all}] {} → {id} v{version}", imported.file);
                }
                Err(cause) => {
                    failed += 1;
                    eprintln!("[{at}/{all}] {}: {cause}", imported.file);
                }
            },
        ))
        .with_context(|| format!("importing {}", dir.display()))?;
    println!("{taken} imported, {failed} failed");
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn version(json: bool) -> ExitCode {
    if json {
        println!(
            "{}",
            serde_json::json!({ "version": VERSION, "features": FEATURES })
        );
    } else {
        println!("backdrop-service {VERSION} {}", FEATURES.join(" "));
    }
    ExitCode::SUCCESS
}
