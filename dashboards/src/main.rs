//! `just dashboards`: writes the committed files, asks every panel about a run, draws the answers.

#![expect(clippy::print_stdout, reason = "what was asked for goes to stdout")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use backdrop_dashboards::run::ask::{self, Asked, Variables};
use backdrop_dashboards::run::prometheus::Prometheus;
use backdrop_dashboards::run::{RunError, preview};

const USAGE: &str = "\
just dashboards                      write the committed dashboards again from their Rust source
just dashboards check [RUN]          ask every panel about a run that was recorded, in a real Prometheus
just dashboards preview [RUN [FILE]] draw the answers into one offline page, preview.html in the run's folder
just dashboards schema               write the schema of Grafana's dashboards again from @grafana/schema (needs npm)

RUN is a run's folder and defaults to reports/out/latest.";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        [] => generate(),
        ["check"] => check(&latest()),
        ["check", run] => check(Path::new(run)),
        ["preview"] => draw(&latest(), None),
        ["preview", run] => draw(Path::new(run), None),
        ["preview", run, file] => draw(Path::new(run), Some(Path::new(file))),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(64);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(255)
        }
    }
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn latest() -> PathBuf {
    folder().join("../reports/out/latest")
}

fn generate() -> Result<bool, RunError> {
    for (name, content) in backdrop_dashboards::files() {
        let path = folder().join(name);
        std::fs::write(&path, content)
            .map_err(RunError::while_doing(format!("writing {}", path.display())))?;
        println!("{}", path.display());
    }
    Ok(true)
}

/// The run's folder, and a Prometheus over it.
fn server(run: &Path) -> Result<(PathBuf, Prometheus), RunError> {
    let run = std::fs::canonicalize(run)
        .map_err(RunError::while_doing(format!("reading {}", run.display())))?;
    let name = format!("backdrop-dashboards-{}", std::process::id());
    let server = Prometheus::over(&run, &std::env::temp_dir().join(name))?;
    let extent = server.extent;
    println!(
        "{}: {} scrapes over {} s, {} samples",
        run.display(),
        extent.scrapes,
        (extent.to_ms - extent.from_ms) / 1000,
        extent.samples
    );
    Ok((run, server))
}

/// Whether every panel that must found something.
fn check(run: &Path) -> Result<bool, RunError> {
    let (_, server) = server(run)?;
    let (mut queries, mut quiet, mut failed) = (0, 0, 0);
    for (name, dashboard) in backdrop_dashboards::all() {
        for asked in ask::dashboard(&server, &dashboard)? {
            queries += asked.answers.len();
            for answer in asked.empty() {
                let title = &asked.panel.title;
                match asked.panel.quiet {
                    Some(event) if asked.excused => {
                        quiet += 1;
                        println!("empty  {name}: {title}: {}", event.why);
                    }
                    _ => {
                        failed += 1;
                        println!("FAILED {name}: {title}: nothing for {}", answer.query);
                    }
                }
            }
        }
    }
    println!("{queries} queries, {quiet} without an event to show, {failed} failed");
    Ok(failed == 0)
}

fn draw(run: &Path, file: Option<&Path>) -> Result<bool, RunError> {
    let (run, server) = server(run)?;
    let range_s = (server.extent.to_ms - server.extent.from_ms) / 1000;
    let dashboards = backdrop_dashboards::all();
    let asked: Vec<(_, Vec<Asked<'_>>)> = dashboards
        .iter()
        .map(|(_, dashboard)| Ok((dashboard, ask::dashboard(&server, dashboard)?)))
        .collect::<Result<_, RunError>>()?;
    let name = run.file_name().unwrap_or_default().to_string_lossy();
    let page = preview::page(&name, &server, &asked, Variables::over(range_s).step_s)?;
    let file = file.map_or_else(|| run.join("preview.html"), Path::to_path_buf);
    std::fs::write(&file, page)
        .map_err(RunError::while_doing(format!("writing {}", file.display())))?;
    println!("{}", file.display());
    Ok(true)
}
