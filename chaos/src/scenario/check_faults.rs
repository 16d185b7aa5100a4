//! The faults of a scenario: which kind takes which key, and whether times and sizes make sense.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::check::{Checked, FAILPOINTS, Source, one_of};
use super::raw::{RawFault, Text};
use super::{Amount, FaultKind, FaultPlan, Load, Press};
use crate::units;

impl Source<'_> {
    pub(super) fn faults(&self, raw: &[Spanned<RawFault>], load: &Load) -> Checked<Vec<FaultPlan>> {
        let mut names = BTreeSet::new();
        let mut faults = Vec::new();
        for entry in raw {
            let fault = entry.get_ref();
            let name = self.name(&fault.name, "fault")?;
            if !names.insert(name.clone()) {
                return self.wrong(
                    fault.name.span(),
                    "another fault has this name",
                    "a name of its own",
                );
            }
            let kind = self.fault_kind(entry.span(), fault)?;
            let at = self.duration(&fault.at)?;
            let momentary = matches!(kind, FaultKind::Kill { .. });
            let lasts = match (&fault.lasts, momentary) {
                (Some(text), false) => self.duration(text)?,
                (None, true) => Duration::ZERO,
                (None, false) => return self.missing(entry.span(), "for", "for = \"20s\""),
                (Some(text), true) => {
                    return self.wrong(
                        text.span(),
                        "a kill has no length",
                        "the key `restart_within` instead",
                    );
                }
            };
            if at + lasts > load.duration {
                let mend = format!(
                    "`at` plus `for` of at most {}",
                    units::show_duration(load.duration)
                );
                return self.wrong(fault.at.span(), "the fault ends after the load", mend);
            }
            faults.push(FaultPlan {
                name,
                kind,
                at,
                lasts,
            });
        }
        Ok(faults)
    }

    fn fault_kind(&self, span: Range<usize>, raw: &RawFault) -> Checked<FaultKind> {
        const KINDS: [&str; 4] = ["memory_hog", "cpu_hog", "failpoint", "kill"];
        let kind = self.choice(&raw.kind, "kind of fault", &KINDS.map(|k| (k, k)))?;
        let takes: &[&str] = match kind {
            "memory_hog" => &["amount", "textures", "ramp"],
            "cpu_hog" => &["threads", "placement"],
            "failpoint" => &["failpoint", "action"],
            _ => &["restart_within"],
        };
        self.only_takes(kind, takes, raw)?;
        let need = |text: &Option<Text>, key: &str, mend: &str| match text {
            Some(text) => Ok(text.clone()),
            None => self.missing(span.clone(), key, mend),
        };
        Ok(match kind {
            "memory_hog" => FaultKind::MemoryHog {
                amount: self.amount(
                    &need(
                        &raw.amount,
                        "amount",
                        "amount = \"floor\", \"50%\" or \"128MiB\"",
                    )?,
                    raw,
                )?,
                ramp: raw
                    .ramp
                    .as_ref()
                    .map(|t| self.duration(t))
                    .transpose()?
                    .unwrap_or(Duration::from_secs(2)),
            },
            "cpu_hog" => FaultKind::CpuHog {
                threads: raw
                    .threads
                    .as_ref()
                    .map(|n| self.count(n, 256))
                    .transpose()?
                    .unwrap_or(1) as u32,
                press: match &raw.placement {
                    None => Press::Service,
                    Some(text) => {
                        let places = [("service", Press::Service), ("anywhere", Press::Anywhere)];
                        self.choice(text, "place of a CPU hog", &places)?
                    }
                },
            },
            "failpoint" => {
                let name = need(
                    &raw.failpoint,
                    "failpoint",
                    "failpoint = \"store.load.error\"",
                )?;
                FaultKind::Failpoint {
                    failpoint: self
                        .choice(
                            &name,
                            "failpoint of the service",
                            &FAILPOINTS.map(|f| (f, f)),
                        )?
                        .to_owned(),
                    action: need(&raw.action, "action", "action = \"10%return\"")?.into_inner(),
                }
            }
            _ => FaultKind::Kill {
                restart_within: self.duration(&need(
                    &raw.restart_within,
                    "restart_within",
                    "restart_within = \"10s\"",
                )?)?,
            },
        })
    }

    fn only_takes(&self, kind: &str, takes: &[&str], raw: &RawFault) -> Checked<()> {
        let given = [
            ("amount", raw.amount.as_ref().map(Spanned::span)),
            ("textures", raw.textures.as_ref().map(Spanned::span)),
            ("ramp", raw.ramp.as_ref().map(Spanned::span)),
            ("placement", raw.placement.as_ref().map(Spanned::span)),
            ("threads", raw.threads.as_ref().map(Spanned::span)),
            ("failpoint", raw.failpoint.as_ref().map(Spanned::span)),
            ("action", raw.action.as_ref().map(Spanned::span)),
            (
                "restart_within",
                raw.restart_within.as_ref().map(Spanned::span),
            ),
        ];
        for (key, span) in given {
            if let (Some(span), false) = (span, takes.contains(&key)) {
                let message = format!("a fault of kind `{kind}` does not take `{key}`");
                return self.wrong(
                    span,
                    message,
                    format!("beside name, kind, at and for: {}", one_of(takes)),
                );
            }
        }
        Ok(())
    }

    fn amount(&self, text: &Text, raw: &RawFault) -> Checked<Amount> {
        if text.get_ref() == "floor" {
            let textures = raw
                .textures
                .as_ref()
                .map(|n| self.count(n, 4096))
                .transpose()?
                .unwrap_or(4) as u32;
            return Ok(Amount::Floor { textures });
        }
        if let Some(textures) = &raw.textures {
            return self.wrong(
                textures.span(),
                "`textures` belongs to `amount = \"floor\"`",
                "no `textures` here",
            );
        }
        if let Some(percent) = text.get_ref().strip_suffix('%') {
            return match percent.parse::<f64>() {
                Ok(p) if p > 0.0 && p < 100.0 => Ok(Amount::Share(p / 100.0)),
                _ => self.wrong(
                    text.span(),
                    format!("`{}` is no share of the limit", text.get_ref()),
                    "`1%` to `99%`",
                ),
            };
        }
        match units::parse_bytes(text.get_ref()) {
            Ok(bytes) => Ok(Amount::Bytes(bytes)),
            Err(_) => self.wrong(
                text.span(),
                format!("`{}` is no amount of memory", text.get_ref()),
                "`floor` (the limit less the service's computed floor), a share of the limit `50%`, or a size `128MiB`",
            ),
        }
    }
}
