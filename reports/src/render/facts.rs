//! Labelled facts: what a run's verdict and a trial's outcome rest on, and where it ran, each with how good it is.

use crate::format::{Unit, bytes, show};
use crate::record::{Control, Evidence, Fault, Met, RunRecord, ScenarioRecord, Trial, Verdict};

/// How good a fact is; the style sheet has colour and mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// Doubtful.
    Doubt,
    /// Neither.
    Plain,
}

impl Tone {
    /// Good or bad.
    #[must_use]
    pub fn good_if(good: bool) -> Self {
        if good { Self::Good } else { Self::Bad }
    }

    /// CSS class.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Doubt => "doubt",
            Self::Plain => "plain",
        }
    }

    /// Mark that says the same without colour.
    #[must_use]
    pub fn mark(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Bad => "✕",
            Self::Doubt => "?",
            Self::Plain => "",
        }
    }
}

/// A labelled fact.
#[derive(Debug, Clone)]
pub struct Fact {
    /// What it is.
    pub label: String,
    /// Its value, short.
    pub value: String,
    /// Tooltip: the exact value or more words.
    pub title: String,
    /// How good it is.
    pub tone: Tone,
}

impl Fact {
    fn new(label: &str, value: impl Into<String>, tone: Tone) -> Self {
        Self {
            label: label.into(),
            value: value.into(),
            title: String::new(),
            tone,
        }
    }

    fn titled(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }
}

/// What the run's verdict rests on, counted over its scenarios.
#[must_use]
pub fn run_facts(record: &RunRecord) -> Vec<Fact> {
    let scenarios = &record.scenarios;
    let held = scenarios
        .iter()
        .filter(|s| s.verdict == Verdict::Held)
        .count();
    let met = scenarios
        .iter()
        .flat_map(|s| &s.expectations)
        .filter(|e| e.met == Met::Yes)
        .count();
    let expectations = scenarios
        .iter()
        .map(|s| s.expectations.len())
        .sum::<usize>();
    let controls: Vec<&Control> = scenarios.iter().flat_map(|s| &s.controls).collect();
    let as_expected = controls.iter().filter(|c| c.as_expected).count();
    let faults: Vec<&Fault> = scenarios.iter().flat_map(|s| &s.trial.faults).collect();
    let acted = faults.iter().filter(|f| f.acted).count();
    let kills: u64 = scenarios.iter().map(|s| s.evidence.service_oom_kills).sum();
    let late = scenarios
        .iter()
        .filter_map(|s| s.evidence.late_ratio)
        .reduce(f64::max);
    let doubts = scenarios
        .iter()
        .map(|s| s.evidence.doubts.len())
        .sum::<usize>();
    let undone = scenarios
        .iter()
        .all(|s| s.evidence.undone && s.controls.iter().all(|c| c.evidence.undone));
    // Of no scenario nothing was looked at, and nothing is good.
    let checked = |tone| {
        if scenarios.is_empty() {
            Tone::Plain
        } else {
            tone
        }
    };
    let of = |label, part: usize, whole: usize| {
        let tone = if whole == 0 {
            Tone::Plain
        } else {
            Tone::good_if(part == whole)
        };
        Fact::new(label, format!("{part} of {whole}"), tone)
    };
    vec![
        of("Scenarios held", held, scenarios.len()),
        of("Expectations met", met, expectations),
        of("Controls as expected", as_expected, controls.len()),
        Fact::new("Kernel kills", kills.to_string(), kills_tone(scenarios))
            .titled("Kernel OOM kills of the service in the scenarios' own runs; controls are counted apart"),
        of("Faults that acted", acted, faults.len()),
        late.map_or_else(
            || Fact::new("Late sends", "–", Tone::Plain),
            |late| Fact::new("Late sends", show(late, Unit::Ratio).short, Tone::Plain),
        )
        .titled("Highest share of sends that the simulator made late or dropped, of all scenarios"),
        Fact::new("Doubts", doubts.to_string(), if doubts > 0 { Tone::Doubt } else { checked(Tone::Good) })
            .titled("Circumstances that keep a scenario from being believed"),
        Fact::new("Undone and checked", if undone { "yes" } else { "no" }, checked(Tone::good_if(undone))),
    ]
}

/// A kill in a scenario that held nevertheless was asked for by its expectations.
fn stood_still(evidence: &Evidence) -> String {
    match evidence.host_stalls {
        None => "not seen here".to_owned(),
        Some(stalls) if stalls.count == 0 => "never".to_owned(),
        Some(stalls) => format!(
            "{} times, {:.2} s in all, at most {:.0} ms",
            stalls.count,
            stalls.total_s,
            stalls.longest_s * 1e3
        ),
    }
}

fn kills_tone(scenarios: &[ScenarioRecord]) -> Tone {
    let killed: Vec<_> = scenarios
        .iter()
        .filter(|s| s.evidence.service_oom_kills > 0)
        .collect();
    if scenarios.is_empty() {
        Tone::Plain
    } else if killed.is_empty() {
        Tone::Good
    } else if killed.iter().all(|s| s.verdict == Verdict::Held) {
        Tone::Plain
    } else {
        Tone::Bad
    }
}

/// Host and build as facts.
#[must_use]
pub fn place_facts(record: &RunRecord) -> Vec<Fact> {
    let (host, build) = (&record.host, &record.build);
    vec![
        Fact::new("Kernel", host.kernel.as_str(), Tone::Plain),
        Fact::new(
            "Processor",
            format!("{} × {}", host.cpus, host.cpu),
            Tone::Plain,
        ),
        Fact::new("Memory", bytes(host.memory_bytes as f64), Tone::Plain)
            .titled(show(host.memory_bytes as f64, Unit::Bytes).exact),
        Fact::new("Cgroup", host.cgroup.as_str(), Tone::Plain),
        Fact::new("Root", if host.root { "yes" } else { "no" }, Tone::Plain),
        Fact::new("Backdrop", build.version.as_str(), Tone::Plain),
        Fact::new(
            "Commit",
            if build.commit.is_empty() {
                "outside a checkout"
            } else {
                &build.commit
            },
            Tone::Plain,
        ),
    ]
}

/// What the outcome of one trial rests on.
#[must_use]
pub fn evidence_facts(e: &Evidence, trial: &Trial) -> Vec<Fact> {
    let yes_no = |good: bool| if good { "yes" } else { "no" };
    let mut facts = vec![
        Fact::new(
            "Cgroup",
            format!("{} {}", e.cgroup, e.cgroup_path).trim().to_owned(),
            Tone::Plain,
        ),
        Fact::new(
            "Limit, read back",
            if e.limit_bytes == 0 {
                "–".into()
            } else {
                bytes(e.limit_bytes as f64)
            },
            Tone::Plain,
        )
        .titled(show(e.limit_bytes as f64, Unit::Bytes).exact),
        Fact::new("Swap off", yes_no(e.swap_off), Tone::good_if(e.swap_off)),
        Fact::new(
            "Kernel kills: service",
            e.service_oom_kills.to_string(),
            Tone::Plain,
        ),
        Fact::new(
            "Kernel kills: hog",
            e.hog_oom_kills.to_string(),
            match e.hog_oom_kills {
                0 => Tone::Plain,
                _ => Tone::Bad,
            },
        ),
    ];
    for p in &e.service_processes {
        let value = format!("pid {}, start {} ticks: {}", p.pid, p.start_ticks, p.end);
        facts.push(Fact::new("Service process", value, Tone::Plain));
    }
    let share = |v: Option<f64>| v.map_or_else(|| "–".into(), |v| show(v, Unit::Ratio).short);
    facts.push(Fact::new(
        "Late or dropped sends",
        share(e.late_ratio),
        Tone::Plain,
    ));
    facts.push(Fact::new(
        "Simulator's busiest second",
        share(e.simulator_busy_max),
        Tone::Plain,
    ));
    facts.push(
        Fact::new(
            "CPU taken by the hypervisor",
            share(e.host_steal_ratio),
            Tone::Plain,
        )
        .titled(
            "Share of the CPUs' time during the load; above 1 % a missed bound in time is in doubt",
        ),
    );
    facts.push(
        Fact::new("CPUs stood still", stood_still(e), Tone::Plain).titled(
            "Times of 5 ms and more at which nothing ran on a CPU, whatever its priority; where they take 0.5 % of a window, a bound \
             in time that was missed in it is in doubt",
        ),
    );
    facts.push(Fact::new(
        "Faults acted",
        match trial.faults.is_empty() {
            true => "none was planned",
            false => yes_no(e.faults_acted),
        },
        match trial.faults.is_empty() {
            true => Tone::Plain,
            false => Tone::good_if(e.faults_acted),
        },
    ));
    facts.push(Fact::new(
        "Undone and checked",
        yes_no(e.undone),
        Tone::good_if(e.undone),
    ));
    facts.push(Fact::new(
        "CPU placement",
        e.cpu_placement.as_str(),
        Tone::Plain,
    ));
    if let Some(load) = &trial.load {
        facts.push(
            Fact::new("CPUs kept awake", yes_no(load.simulator.cpus_awake), Tone::Plain).titled(
                "Whether idle CPUs were kept from sleeping during the load; one that sleeps wakes late, above all on a virtual machine",
            ),
        );
        let truth = &load.truth;
        let found = truth.lost + truth.stale + truth.wrong + truth.torn;
        let count = |v: u64| show(v as f64, Unit::Count).short;
        let value = format!(
            "{} sessions and {} frames read, {} lost, {} stale, {} wrong, {} torn",
            count(truth.sessions_read + truth.sessions_sampled),
            count(truth.frames_read),
            truth.lost,
            truth.stale,
            truth.wrong,
            truth.torn
        );
        let read = truth.sessions_read + truth.sessions_sampled + truth.frames_read;
        let tone = match read + found {
            0 => Tone::Plain,
            _ => Tone::good_if(found == 0),
        };
        facts.push(Fact::new("Truth checker", value, tone));
    }
    facts.retain(|f| !f.value.is_empty());
    facts
}
