//! A scenario in words: what it does, what it expects, and which controls give it teeth.

use std::fmt::Write;

use backdrop_reports::format::stated;
use backdrop_reports::record::Better;

use crate::catalogue;
use crate::scenario::{
    Amount, ControlPlan, FaultKind, FaultPlan, LiveFigure, Load, Outcome, Place, Press, Rate,
    Recovery, Scenario, Target,
};
use crate::units::{show_bytes, show_count, show_duration};
use crate::verdict;

/// Loads whose sessions switch nothing.
const RESTING: [&str; 4] = ["preview", "composite", "cold-herd", "scan"];

/// The whole explanation.
#[must_use]
pub fn scenario(scenario: &Scenario) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{} — {}\n\n{}\n",
        scenario.name, scenario.title, scenario.story
    );
    let _ = writeln!(out, "Target: {}", target(&scenario.target));
    let _ = writeln!(out, "Load: {}", load(&scenario.load));
    if !scenario.faults.is_empty() {
        let _ = writeln!(out, "\nFaults:");
        for f in &scenario.faults {
            let _ = writeln!(out, "  {}: {}", f.name, fault(f));
        }
        let _ = writeln!(out, "  Before the first one: {}", steady(scenario));
    }
    if let Some(r) = &scenario.recovery {
        let _ = writeln!(out, "  Recovered when: {}", recovery(r));
    }
    if !scenario.aborts.is_empty() {
        let _ = writeln!(
            out,
            "\nBroken off, looked at once a second, all faults off at most {} s later:",
            verdict::FAULTS_OFF_MAX_S
        );
        for a in &scenario.aborts {
            let figure = a.figure.word();
            let _ = writeln!(
                out,
                "  {}: {figure} above {} for {} s ({})",
                a.name,
                stated(a.above, a.figure.unit(), figure),
                a.seconds,
                a.figure.meaning()
            );
        }
    }
    let _ = writeln!(out, "\nExpectations:");
    for e in &scenario.expects {
        let _ = writeln!(
            out,
            "  {}: {} ({} {} {})",
            e.name,
            e.text,
            e.figure,
            e.relation.sign(),
            stated(e.bound, &e.unit, &e.figure)
        );
    }
    let _ = writeln!(out, "\nControls:");
    for c in &scenario.controls {
        let _ = writeln!(
            out,
            "  {}: {}\n    {}\n    must come out as: {}",
            c.name,
            c.story,
            changes(scenario, c),
            outcome(&c.expected)
        );
    }
    if let Some(other) = &scenario.controls_of {
        let _ = writeln!(out, "  those of {other} (see `explain {other}`)");
    }
    out
}

/// Every figure that an expectation may read.
#[must_use]
pub fn figures() -> String {
    let mut out =
        String::from("Figures that an expectation may read (with .WINDOW where marked *):\n");
    for f in catalogue::FIGURES {
        let name = format!("{}{}", f.name, if f.windowed { "*" } else { "" });
        let better = match f.better {
            Better::Lower => "; lower is better",
            Better::Higher => "; higher is better",
            Better::Neither => "",
        };
        let _ = writeln!(out, "  {name:<26} {:<12} {}{better}", f.unit, f.meaning);
    }
    out.push_str("\nFigures of the last second, for conditions under which a trial is broken off ([[abort]]):\n");
    for f in LiveFigure::ALL {
        let _ = writeln!(out, "  {:<26} {:<12} {}", f.word(), f.unit(), f.meaning());
    }
    out
}

fn target(target: &Target) -> String {
    let args = if target.args.is_empty() {
        String::new()
    } else {
        format!(", with {}", target.args.join(" "))
    };
    format!(
        "the {} build under a memory limit of {}{args}",
        target.build.word(),
        show_bytes(target.memory_limit)
    )
}

fn load(load: &Load) -> String {
    let switching = if RESTING.contains(&load.scenario.as_str()) {
        String::new()
    } else {
        format!(", each switching every {}", show_duration(load.period))
    };
    let mut out = format!(
        "{} with {} sessions{switching}, for {}, over {} backgrounds",
        load.scenario,
        show_count(load.sessions),
        show_duration(load.duration),
        show_count(u64::from(load.background_count)),
    );
    if load.zipf > 0.0 {
        let _ = write!(out, " with Zipf popularity {}", load.zipf);
    }
    if load.previews_per_second > 0.0 {
        let _ = write!(
            out,
            ", and {} previews/s of {}",
            load.previews_per_second, load.preview_size
        );
    }
    for w in &load.windows {
        let _ = write!(
            out,
            "; window {} {}..{}",
            w.name,
            show_duration(w.from),
            show_duration(w.to)
        );
    }
    out
}

fn fault(fault: &FaultPlan) -> String {
    let what = match &fault.kind {
        FaultKind::MemoryHog {
            amount,
            place,
            ramp,
            pulse,
        } => format!(
            "memory hog {}, {}, ramp {}{}",
            match place {
                Place::Sibling => "beside the service",
                Place::Child => "in a leaf below the service's",
                Place::Service => "in the service's leaf, whose figures count it, too",
            },
            self::amount(amount),
            show_duration(*ramp),
            pulse.map_or_else(String::new, |pulse| {
                let pulse = show_duration(pulse);
                format!(", then given back for {pulse} and taken for {pulse} in turns")
            })
        ),
        FaultKind::Burst { amount, rate } => {
            let rate = match rate {
                Rate::Bound(times) => {
                    format!(
                        "{times} times the reaction bound that the service states for growth from rest"
                    )
                }
                Rate::Bytes(bytes) => format!("{}/s", show_bytes(*bytes)),
            };
            let amount = self::amount(amount);
            format!("burst of allocation beside the service, {amount}, at {rate}")
        }
        FaultKind::PageCache { amount, place } => {
            let place = match place {
                Place::Service | Place::Child => "in the service's leaf",
                Place::Sibling => "beside the service",
            };
            let amount = self::amount(amount);
            format!("active page cache {place} (a file read three times), {amount}")
        }
        FaultKind::LimitShrink { to, steps } => format!(
            "the memory limit is lowered to {} in {steps} steps, each once the service has seen the one before, and raised again",
            self::amount(to)
        ),
        FaultKind::ArchiveCorrupt => {
            "every file of the service's archive is changed on disk by a byte, new ones too"
                .to_owned()
        }
        FaultKind::OversizedBody { amount } => format!(
            "uploads that announce and send a body of {}, one after the other",
            self::amount(amount)
        ),
        FaultKind::CpuHog { threads, press } => {
            let place = match press {
                Press::Service => "the service's CPUs",
                Press::Anywhere => "all CPUs",
            };
            format!("CPU hog, {threads} spinning on {place}")
        }
        FaultKind::Failpoint { failpoint, action } => format!("failpoint {failpoint} = {action}"),
        FaultKind::Stop => "the service is stopped (SIGSTOP) and goes on (SIGCONT)".to_owned(),
        FaultKind::SlowClients { clients } => format!(
            "{clients} clients, half of which send the head of a request and half take a picture, a byte each 200 ms"
        ),
        FaultKind::ConnectionFlood { connections } => format!(
            "{connections} connections on which nothing is asked; those that are turned away come again after a second"
        ),
        FaultKind::Kill { restart_within } => {
            return format!(
                "SIGKILL at {}; restarted on the same data and ports, ready within {}",
                show_duration(fault.at),
                show_duration(*restart_within)
            );
        }
    };
    format!(
        "{what}, from {} to {}",
        show_duration(fault.at),
        show_duration(fault.end())
    )
}

fn amount(amount: &Amount) -> String {
    match amount {
        Amount::Floor { textures } => format!(
            "the limit less the service's floor (what it cannot give back, room for {textures} textures, and the margin that its budget keeps free)"
        ),
        Amount::Share(share) => format!("{:.0} % of the limit", share * 100.0),
        Amount::Bytes(bytes) => show_bytes(*bytes),
    }
}

fn steady(scenario: &Scenario) -> String {
    let s = &scenario.steady;
    let p99 = s
        .p99_ms
        .map_or_else(String::new, |ms| format!(", p99 at most {ms} ms"));
    format!(
        "from {} on at least {:.0} % of the planned rate and nothing failed{p99}",
        show_duration(s.from),
        s.rate_ratio * 100.0
    )
}

fn recovery(r: &Recovery) -> String {
    let mut out = format!(
        "after {} three seconds in a row have at least {:.0} % of the steady rate and a p99 of at most {} ms",
        r.after,
        r.rate_ratio * 100.0,
        r.p99_ms
    );
    if let Some(points) = r.hit_ratio_points {
        let _ = write!(
            out,
            ", a hit ratio at most {points} points below the steady one"
        );
    }
    if let Some(ratio) = r.working_set_ratio {
        let _ = write!(
            out,
            ", and at least {:.0} % of the steady working set resident",
            ratio * 100.0
        );
    }
    out
}

fn changes(scenario: &Scenario, control: &ControlPlan) -> String {
    let mut out = vec![target(&control.target)];
    if control.load != scenario.load {
        out.push(load(&control.load));
    }
    let kept: Vec<_> = scenario
        .faults
        .iter()
        .filter(|f| control.faults.contains(f))
        .map(|f| f.name.as_str())
        .collect();
    if kept.len() < scenario.faults.len() {
        out.push(if kept.is_empty() {
            "without the scenario's faults".to_owned()
        } else {
            format!("only {}", kept.join(", "))
        });
    }
    let own = control
        .faults
        .iter()
        .filter(|f| !scenario.faults.contains(f));
    out.extend(own.map(|f| format!("with {}: {}", f.name, fault(f))));
    out.join("; ")
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Killed => "killed by the kernel, counted in the service's leaf".to_owned(),
        Outcome::Sheds => "sheds: not killed, and work refused".to_owned(),
        Outcome::Inconclusive => {
            "inconclusive: the evidence must not carry a conclusion".to_owned()
        }
        Outcome::FaultsIdle => {
            "inconclusive, because no fault acted and for no other reason".to_owned()
        }
        Outcome::Deviated(name) => format!("expectation {name} fails"),
    }
}
