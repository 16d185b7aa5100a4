//! The controls of a scenario: overrides on top of it, the faults they keep and their own, and the outcome demanded.

use std::ops::Range;

use super::check::{Checked, Source, one_of};
use super::protection::{PROTECTIONS, is_switch, switch};
use super::raw::{RawControl, Text};
use super::{BuildKind, ControlPlan, Expect, FaultPlan, KILLS_FIGURE, Load, Outcome, Target};

impl Source<'_> {
    pub(super) fn control(
        &self,
        span: Range<usize>,
        raw: &RawControl,
        (target, load, faults, expects): (&Target, &Load, &[FaultPlan], &[Expect]),
    ) -> Checked<ControlPlan> {
        let name = self.name(&raw.name, "control")?;
        let target = self.target(span.clone(), &raw.target, Some(target))?;
        let load = self.load(span, &raw.load, Some(load))?;
        let kept = self.control_faults(raw, &load, faults)?;
        let late = |f: &&FaultPlan| f.end() > load.duration;
        if let Some(fault) = kept.iter().find(late) {
            let message = format!("fault `{}` ends after the load of this control", fault.name);
            return self.wrong(
                raw.name.span(),
                message,
                "a longer load, or `faults` without it",
            );
        }
        let windows = load
            .windows
            .iter()
            .filter(|w| w.to <= load.duration)
            .cloned()
            .collect();
        let load = Load { windows, ..load };
        let expected = self.outcome(&raw.expected, expects)?;
        if target.args.iter().any(|a| is_switch(a)) && target.build != BuildKind::Controls {
            let message =
                "the switches that turn protections off exist only in the `controls` build";
            return self.wrong(raw.name.span(), message, "target.build = \"controls\"");
        }
        let protection = raw
            .protection
            .as_ref()
            .map(|text| self.protection(text, &target, (&expected, expects)))
            .transpose()?;
        Ok(ControlPlan {
            name,
            story: raw.story.trim().to_owned(),
            target,
            load,
            faults: kept,
            expected,
            protection,
        })
    }

    /// A mutant lacks exactly the protection that it names, and is caught by a kill or by an expectation.
    fn protection(
        &self,
        text: &Text,
        target: &Target,
        (expected, expects): (&Outcome, &[Expect]),
    ) -> Checked<&'static str> {
        let protection = self.choice(text, "protection", &PROTECTIONS.map(|p| (p, p)))?;
        let switch = switch(protection);
        let off: Vec<_> = target.args.iter().filter(|a| is_switch(a)).collect();
        if off != [&switch] {
            let message =
                format!("the mutant of `{protection}` must lack that protection and no other");
            return self.wrong(
                text.span(),
                message,
                format!("target.args = [\"{switch}\"]"),
            );
        }
        match expected {
            Outcome::Deviated(_) => Ok(protection),
            Outcome::Killed if expects.iter().any(|e| e.figure == KILLS_FIGURE) => Ok(protection),
            Outcome::Killed => self.wrong(
                text.span(),
                "that nothing is killed while the protection is on is not expected anywhere",
                format!("an [[expect]] table on `{KILLS_FIGURE}`"),
            ),
            _ => self.wrong(
                text.span(),
                "a mutant is caught by a kill or by an expectation",
                "expected = \"killed\" or \"deviated:EXPECTATION\"",
            ),
        }
    }

    /// Those of the scenario that the control keeps, and its own.
    fn control_faults(
        &self,
        raw: &RawControl,
        load: &Load,
        faults: &[FaultPlan],
    ) -> Checked<Vec<FaultPlan>> {
        let mut kept = match &raw.faults {
            None => faults.to_vec(),
            Some(names) => {
                let known: Vec<_> = faults.iter().map(|f| (f.name.as_str(), f)).collect();
                let kept: Checked<Vec<_>> = names
                    .iter()
                    .map(|n| self.choice(n, "fault of this scenario", &known))
                    .collect();
                kept?.into_iter().cloned().collect()
            }
        };
        for (own, raw) in self.faults(&raw.fault, load)?.into_iter().zip(&raw.fault) {
            if kept.iter().any(|k: &FaultPlan| k.name == own.name) {
                let span = raw.get_ref().name.span();
                let mend = "a name of its own, or `faults` without the scenario's";
                return self.wrong(span, "a fault that the control keeps has this name", mend);
            }
            kept.push(own);
        }
        Ok(kept)
    }

    fn outcome(&self, text: &Text, expects: &[Expect]) -> Checked<Outcome> {
        match text.get_ref().as_str() {
            "killed" => Ok(Outcome::Killed),
            "sheds" => Ok(Outcome::Sheds),
            "inconclusive" => Ok(Outcome::Inconclusive),
            "inconclusive:fault-did-not-act" => Ok(Outcome::FaultsIdle),
            other => match other.strip_prefix("deviated:") {
                Some(name) if expects.iter().any(|e| e.name == name) => {
                    Ok(Outcome::Deviated(name.to_owned()))
                }
                Some(name) => {
                    let names: Vec<_> = expects.iter().map(|e| e.name.as_str()).collect();
                    self.wrong(
                        text.span(),
                        format!("there is no expectation `{name}`"),
                        one_of(&names),
                    )
                }
                None => self.wrong(
                    text.span(),
                    format!("`{other}` is no outcome"),
                    "`killed`, `sheds`, `inconclusive`, `inconclusive:fault-did-not-act` or `deviated:EXPECTATION`",
                ),
            },
        }
    }
}
