//! A scenario written down again as TOML: another one's target, load and expectations under faults of their own.
//!
//! What comes out is read by `check` as any other file, and gives the very faults that went in.

use std::fmt::Write;

use toml::{Table, Value};

use super::{Amount, FaultKind, FaultPlan, Place, Press, Rate, Scenario, Target, library};
use crate::catalogue;
use crate::units::show_duration;

/// Parts of the base that go over as they are.
const KEPT: [&str; 4] = ["target", "load", "steady", "abort"];

/// What the new scenario is called.
#[derive(Debug, Clone, Copy)]
pub struct Called<'a> {
    /// Name on the command line.
    pub name: &'a str,
    /// One line for people.
    pub title: &'a str,
    /// What it shows.
    pub story: &'a str,
}

/// The base under other faults: its target, load and steady state, and what it expects of any trial. What it expects of its own
/// faults goes, its bands of recovery with it; its controls count for the new one, too.
#[must_use]
pub fn with_faults(base: &Scenario, called: Called<'_>, faults: &[FaultPlan]) -> String {
    // It was parsed before, or there were no scenario.
    let written: Table = base.text.parse().unwrap_or_default();
    let mut out = String::new();
    pair(&mut out, "name", called.name);
    pair(&mut out, "title", called.title);
    pair(&mut out, "story", called.story);
    pair(&mut out, "controls_of", lender(base));
    for key in KEPT {
        if let Some(part) = written.get(key) {
            let mut part = part.clone();
            if key == "target" {
                as_it_is(&mut part, &base.target);
            }
            section(&mut out, key, part);
        }
    }
    for fault in faults {
        out.push_str("\n[[fault]]\n");
        self::fault(&mut out, fault);
    }
    let expects = written.get("expect").and_then(Value::as_array);
    let asked = |expect: &&Value| {
        let figure = expect.get("figure").and_then(Value::as_str);
        figure.is_some_and(|figure| !catalogue::is_of_faults(figure))
    };
    let kept: Vec<_> = expects.into_iter().flatten().filter(asked).collect();
    let kept = kept.into_iter().cloned().collect();
    section(&mut out, "expect", Value::Array(kept));
    out
}

/// The service as the base has it by now: it may lack a protection that it has in its file.
fn as_it_is(part: &mut Value, target: &Target) {
    let Some(part) = part.as_table_mut() else {
        return;
    };
    part.insert("build".to_owned(), target.build.word().into());
    if !target.args.is_empty() {
        part.insert("args".to_owned(), target.args.clone().into());
    }
}

/// Who has the controls: the base, or whom it borrows them from. A file is named by its path in full, so that the new one may lie
/// anywhere.
fn lender(base: &Scenario) -> String {
    let whole = |path: &str| match library::is_embedded(path) {
        true => path.to_owned(),
        false => std::path::absolute(path).map_or(path.to_owned(), |p| p.display().to_string()),
    };
    match &base.controls_of {
        Some(other) if base.controls.is_empty() => whole(other),
        _ if library::ships(&base.name, &base.origin) => base.name.clone(),
        _ => whole(&base.origin),
    }
}

fn section(out: &mut String, key: &str, value: Value) {
    let table = Table::from_iter([(key.to_owned(), value)]);
    // What was parsed can be written; writing to a String cannot fail.
    let _ = write!(out, "\n{table}");
}

fn pair(out: &mut String, key: &str, value: impl Into<Value>) {
    let _ = writeln!(out, "{key} = {}", value.into());
}

fn fault(out: &mut String, fault: &FaultPlan) {
    pair(out, "name", fault.name.as_str());
    pair(out, "kind", fault.kind.word());
    pair(out, "at", show_duration(fault.at));
    if !fault.kind.is_momentary() {
        pair(out, "for", show_duration(fault.lasts));
    }
    match &fault.kind {
        FaultKind::MemoryHog {
            amount: bytes,
            place,
            ramp,
            pulse,
        } => {
            amount(out, "amount", *bytes);
            pair(out, "placement", hog_place(*place));
            pair(out, "ramp", show_duration(*ramp));
            if let Some(pulse) = pulse {
                pair(out, "pulse", show_duration(*pulse));
            }
        }
        FaultKind::Burst {
            amount: bytes,
            rate,
        } => {
            amount(out, "amount", *bytes);
            let rate = match rate {
                Rate::Bound(times) => format!("{times}x"),
                Rate::Bytes(bytes) => format!("{bytes}B"),
            };
            pair(out, "rate", rate);
        }
        FaultKind::PageCache {
            amount: bytes,
            place,
        } => {
            amount(out, "amount", *bytes);
            let place = match place {
                Place::Sibling => "sibling",
                // The schema offers no other.
                Place::Service | Place::Child => "service",
            };
            pair(out, "placement", place);
        }
        FaultKind::LimitShrink { to, steps } => {
            amount(out, "to", *to);
            pair(out, "steps", i64::from(*steps));
        }
        FaultKind::ArchiveCorrupt => {}
        FaultKind::OversizedBody { amount: bytes } => amount(out, "amount", *bytes),
        FaultKind::CpuHog { threads, press } => {
            pair(out, "threads", i64::from(*threads));
            let press = match press {
                Press::Service => "service",
                Press::Anywhere => "anywhere",
            };
            pair(out, "placement", press);
        }
        FaultKind::Failpoint { failpoint, action } => {
            pair(out, "failpoint", failpoint.as_str());
            pair(out, "action", action.as_str());
        }
        FaultKind::Stop => {}
        FaultKind::SlowClients { clients } => pair(out, "clients", i64::from(*clients)),
        FaultKind::ConnectionFlood { connections } => {
            pair(out, "connections", i64::from(*connections));
        }
        FaultKind::Kill { restart_within } => {
            pair(out, "restart_within", show_duration(*restart_within));
        }
    }
}

fn hog_place(place: Place) -> &'static str {
    match place {
        Place::Service => "same",
        Place::Child => "child",
        Place::Sibling => "sibling",
    }
}

fn amount(out: &mut String, key: &str, amount: Amount) {
    match amount {
        Amount::Floor { textures } => {
            pair(out, key, "floor");
            pair(out, "textures", i64::from(textures));
        }
        // To a hundredth of a per cent, as it is written.
        Amount::Share(share) => pair(out, key, format!("{}%", (share * 1e6).round() / 1e4)),
        Amount::Bytes(bytes) => pair(out, key, format!("{bytes}B")),
    }
}
