//! The `backdrop-chaos` binary. Knows nothing but its helper subcommands.

use std::process::ExitCode;

use backdrop_chaos::host::Helper;
use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    helper: Helper,
}

fn main() -> ExitCode {
    match Cli::parse().helper.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("backdrop-chaos: {error}");
            ExitCode::from(255)
        }
    }
}
