//! What a trial is going to do, as lines that read the same wherever and whenever it is planned, and one hash over them.
//!
//! Everything in scenario and flags that decides what happens or what is measured has its place in a line: units are fixed,
//! durations in microseconds, texts quoted as JSON. Trials of the same lines can be compared; those of the same hash were asked to do
//! the same. What binaries and host make of it is not in a plan.

use std::time::Duration;

use backdrop_reports::record::Plan;
use sha2::{Digest, Sha256};

use crate::scenario::{
    Abort, Amount, FaultKind, FaultPlan, Load, Place, Press, Rate, Recovery, Scenario, Steady,
    Target, Window,
};

/// Changes when lines of the same meaning become others.
const VERSION: &str = "backdrop plan 1";

/// The plan of a scenario's own trial, controls apart. `schedule_hash` is the simulator's word for this load and seed,
/// `photographs` the sum of the files that are shown instead of drawn pictures.
#[must_use]
pub fn of(
    scenario: &Scenario,
    seed: u64,
    schedule_hash: String,
    photographs: Option<&str>,
) -> Plan {
    let steps = steps(scenario, photographs);
    let mut hasher = Sha256::new();
    for line in [VERSION]
        .into_iter()
        .chain(steps.iter().map(String::as_str))
    {
        hasher.update(line);
        hasher.update("\n");
    }
    hasher.update(format!("seed {seed}\nschedule {schedule_hash}\n"));
    Plan {
        hash: hex(&hasher.finalize()),
        schedule_hash,
        steps,
    }
}

/// A hash as it is written.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The lines, without seed and schedule.
#[must_use]
pub fn steps(scenario: &Scenario, photographs: Option<&str>) -> Vec<String> {
    let pictures = photographs.map_or_else(
        || "drawn".to_owned(),
        |sum| format!("photographs sha256={sum}"),
    );
    let mut steps = vec![
        format!("scenario {}", scenario.name),
        target(&scenario.target),
        load(&scenario.load),
        format!("backgrounds {pictures}"),
    ];
    let window = |w: &Window| {
        format!(
            "window {} from_us={} to_us={}",
            w.name,
            us(w.from),
            us(w.to)
        )
    };
    steps.extend(scenario.load.windows.iter().map(window));
    steps.extend(scenario.faults.iter().map(fault));
    steps.push(steady(&scenario.steady));
    steps.extend(scenario.aborts.iter().map(abort));
    steps.extend(scenario.recovery.as_ref().map(recovery));
    steps
}

/// What is not the same in two plans, in words; empty if everything is.
#[must_use]
pub fn differences(before: &Plan, after: &Plan) -> Vec<String> {
    let only = |of: &Plan, not: &Plan, which: &str| -> Vec<String> {
        let missing = of.steps.iter().filter(|step| !not.steps.contains(step));
        missing
            .map(|step| format!("only {which}: {step}"))
            .collect()
    };
    let mut out = only(before, after, "then");
    out.extend(only(after, before, "now"));
    if before.schedule_hash != after.schedule_hash {
        out.push(format!(
            "schedule {} then, {} now",
            before.schedule_hash, after.schedule_hash
        ));
    }
    if out.is_empty() && before.hash != after.hash {
        out.push(format!("plan {} then, {} now", before.hash, after.hash));
    }
    out
}

fn us(duration: Duration) -> u128 {
    duration.as_micros()
}

/// A list or map as JSON: no text in it can pass for another line or key.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn target(target: &Target) -> String {
    format!(
        "target build={} memory_limit_bytes={} args={} env={}",
        target.build.word(),
        target.memory_limit,
        json(&target.args),
        json(&target.env)
    )
}

fn load(load: &Load) -> String {
    format!(
        "load {} sessions={} period_us={} duration_us={} gateways={} previews_per_second={} preview_size={} background_count={} zipf={} args={}",
        load.scenario,
        load.sessions,
        us(load.period),
        us(load.duration),
        load.gateways,
        load.previews_per_second,
        load.preview_size,
        load.background_count,
        load.zipf,
        json(&load.args)
    )
}

/// The line of one fault.
#[must_use]
pub fn fault(fault: &FaultPlan) -> String {
    let what = match &fault.kind {
        FaultKind::MemoryHog {
            amount,
            place,
            ramp,
            pulse,
        } => {
            let pulse = pulse.map_or_else(String::new, |pulse| format!(" pulse_us={}", us(pulse)));
            let amount = self::amount(amount);
            // Beside the service is where all of them were before there was a choice.
            let place = match place {
                Place::Sibling => "",
                Place::Child => " place=child",
                Place::Service => " place=same",
            };
            format!(" amount={amount} ramp_us={}{pulse}{place}", us(*ramp))
        }
        FaultKind::OversizedBody { amount } => format!(" amount={}", self::amount(amount)),
        FaultKind::Burst { amount, rate } => {
            let rate = match rate {
                Rate::Bound(times) => format!("bound:{times}"),
                Rate::Bytes(bytes) => format!("bytes_per_s:{bytes}"),
            };
            format!(" amount={} rate={rate}", self::amount(amount))
        }
        FaultKind::PageCache { amount, place } => {
            let place = match place {
                Place::Service | Place::Child => "service",
                Place::Sibling => "sibling",
            };
            format!(" amount={} place={place}", self::amount(amount))
        }
        FaultKind::LimitShrink { to, steps } => format!(" to={} steps={steps}", amount(to)),
        FaultKind::ArchiveCorrupt => String::new(),
        FaultKind::CpuHog { threads, press } => {
            let press = match press {
                Press::Service => "service",
                Press::Anywhere => "anywhere",
            };
            format!(" threads={threads} press={press}")
        }
        FaultKind::Failpoint { failpoint, action } => {
            format!(" failpoint={failpoint} action={}", json(action))
        }
        FaultKind::Stop => String::new(),
        FaultKind::SlowClients { clients } => format!(" clients={clients}"),
        FaultKind::ConnectionFlood { connections } => format!(" connections={connections}"),
        FaultKind::Kill { restart_within } => format!(" restart_within_us={}", us(*restart_within)),
    };
    format!(
        "fault {} {} at_us={} for_us={}{what}",
        fault.name,
        fault.kind.word(),
        us(fault.at),
        us(fault.lasts)
    )
}

fn amount(amount: &Amount) -> String {
    match amount {
        Amount::Floor { textures } => format!("floor:{textures}"),
        Amount::Share(share) => format!("share:{share}"),
        Amount::Bytes(bytes) => format!("bytes:{bytes}"),
    }
}

fn abort(abort: &Abort) -> String {
    format!(
        "abort {} figure={} above={} for_s={}",
        abort.name,
        abort.figure.word(),
        abort.above,
        abort.seconds
    )
}

fn steady(steady: &Steady) -> String {
    let p99_ms = steady
        .p99_ms
        .map_or_else(|| "none".to_owned(), |ms| ms.to_string());
    format!(
        "steady from_us={} rate_ratio={} p99_ms={p99_ms}",
        us(steady.from),
        steady.rate_ratio
    )
}

fn recovery(r: &Recovery) -> String {
    let or_none = |value: Option<f64>| value.map_or_else(|| "none".to_owned(), |v| v.to_string());
    format!(
        "recovery after={} rate_ratio={} p99_ms={} hit_ratio_points={} working_set_ratio={}",
        r.after,
        r.rate_ratio,
        r.p99_ms,
        or_none(r.hit_ratio_points),
        or_none(r.working_set_ratio)
    )
}
