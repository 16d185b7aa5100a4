//! What `report` offers on kept runs, and `chaos` in part: its flags, and what each prints and exits with.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::compare;
use crate::error::ReportError;
use crate::history;
use crate::read::{locate, read_record};
use crate::render::{self, link, side_by_side, terminal};
use crate::scorecard;

/// Examples and exit codes of `compare`.
pub const COMPARE_HELP: &str = "\
Several runs of the same load differ by themselves. So a figure is called better or worse only if both runs
were repeated (`chaos run --repeat 5` or more) and the whole 95 % confidence interval of its change (exact,
Mann-Whitney) lies beyond the noise, the same only if it lies within. With fewer rounds all but equal values
are unclear. What was planned otherwise, or ran on another host or build, is not compared.

Figures that an expectation reads decide the exit; the others are hints. Of many figures a few differ by chance,
so the exit says worse only with 95 % confidence for all that decide together (Holm): four rounds each can show
that for up to 3 such figures, five for 12, six for 46. Rounds on a busy host, or whose load ended early, are
left out of what a clock gave; since that flatters their side, no word in its favour then stands.

Exit codes: 0 no figure that decides is worse, 1 one is, 2 unclear, 64 wrong usage, 65 not a run record or a newer one,
66 no such file, 73 a file could not be written.";

/// Flags of `compare`.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// What is compared with: folder of a run, or a run.json.
    #[arg(value_name = "RUN_A")]
    pub before: PathBuf,
    /// What is compared.
    #[arg(value_name = "RUN_B")]
    pub after: PathBuf,
    /// Changes up to so many percent of the first run's value are noise.
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = percent)]
    pub noise: f64,
    /// Print JSON instead of tables.
    #[arg(long)]
    pub json: bool,
    /// Write a page with both runs' charts beside each other.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Flags of `trend`.
#[derive(Debug, Clone, Args)]
pub struct TrendArgs {
    /// Scenario by name.
    #[arg(value_name = "SCENARIO")]
    pub scenario: String,
    /// One figure alone, run by run: switch_p99_ms, or switch_p99_ms.pressed for that window.
    #[arg(long, value_name = "NAME")]
    pub figure: Option<String>,
    /// Folder of the kept runs, of which the newest 200 are looked at.
    #[arg(long, value_name = "DIR", default_value = "reports/out")]
    pub out: PathBuf,
    /// Write a page with a chart of each figure.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Flags of `scorecard`.
#[derive(Debug, Clone, Args)]
pub struct ScorecardArgs {
    /// Folder of the kept runs, of which the newest 200 are looked at, and of the benchmarks' figures.
    #[arg(long, value_name = "DIR", default_value = "reports/out")]
    pub out: PathBuf,
    /// Where to write the page; by default scorecard/index.html in that folder, which reports link to.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').trim().parse::<f64>() {
        Ok(percent) if (0.0..=1000.0).contains(&percent) => Ok(percent),
        _ => Err("right would be a percentage such as 5, of 0 to 1000".to_owned()),
    }
}

/// What is to be printed, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// For standard output.
    pub text: String,
    /// Exit code.
    pub exit: u8,
}

/// Compares two runs.
///
/// # Errors
/// A record could not be read, or the page not be written.
pub fn compare(args: &CompareArgs) -> Result<Said, ReportError> {
    let (before, after) = (read_record(&args.before)?, read_record(&args.after)?);
    let comparison = compare::compare(&before, &after, args.noise / 100.0);
    if let Some(path) = &args.html {
        let home = link::home(path);
        let report = |run: &Path| link::to_report(home, link::home(&locate(run).ok()?));
        let reports = [report(&args.before), report(&args.after)];
        let page = side_by_side::render(&comparison, [&before, &after], reports)?;
        render::write_file(path, page.as_bytes())?;
    }
    let text = if args.json {
        serde_json::to_string_pretty(&comparison).map_err(ReportError::Json)? + "\n"
    } else {
        terminal::comparison(&comparison) + &written(args.html.as_deref())
    };
    let exit = comparison.outcome.exit();
    Ok(Said { text, exit })
}

/// Shows a scenario over the kept runs.
///
/// # Errors
/// No run has it, the folder could not be read, or the page not be written.
pub fn trend(args: &TrendArgs) -> Result<Said, ReportError> {
    let trend = history::trend(&args.out, &args.scenario, args.figure.as_deref())?;
    if let Some(path) = &args.html {
        let page = render::trend::render(&trend, link::home(path))?;
        render::write_file(path, page.as_bytes())?;
    }
    let text = terminal::trend(&trend) + &written(args.html.as_deref());
    Ok(Said { text, exit: 0 })
}

/// Writes the scorecard's page.
///
/// # Errors
/// The folder of the runs could not be read, or the page not be written.
pub fn scorecard(args: &ScorecardArgs) -> Result<Said, ReportError> {
    let scorecard = scorecard::of(&args.out)?;
    let file = match &args.html {
        Some(file) => file.clone(),
        None => args.out.join(render::scorecard::FILE),
    };
    let home = link::home(&file);
    render::make_dir(home)?;
    let page = render::scorecard::render(&scorecard, home)?;
    render::write_file(&file, page.as_bytes())?;
    let text = terminal::scorecard(&scorecard) + &written(Some(&file));
    Ok(Said { text, exit: 0 })
}

fn written(page: Option<&Path>) -> String {
    page.map_or_else(String::new, |path| format!("{}\n", path.display()))
}
