//! The faults of a scenario: which kind takes which key, and whether times and sizes make sense.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::check::{Checked, FAILPOINTS, Source, one_of};
use super::raw::{RawFault, Text};
use super::{Amount, FaultKind, FaultPlan, Load, Place, Press, Rate};
use crate::units;

/// Connections that one fault may have: each is a port of loopback, of which there are 28,000 unless the host has others.
const CLIENTS_MAX: u64 = 20_000;

/// A kind of fault: its word, and the keys that it takes beside name, kind, at and for.
#[derive(Debug, Clone, Copy)]
struct Kind {
    word: &'static str,
    takes: &'static [&'static str],
}

const fn kind(word: &'static str, takes: &'static [&'static str]) -> (&'static str, Kind) {
    (word, Kind { word, takes })
}

const KINDS: [(&str, Kind); 12] = [
    kind(
        "memory_hog",
        &["amount", "textures", "ramp", "pulse", "placement"],
    ),
    kind("burst", &["amount", "textures", "rate"]),
    kind("page_cache", &["amount", "textures", "placement"]),
    kind("limit_shrink", &["to", "steps"]),
    kind("archive_corrupt", &[]),
    kind("oversized_body", &["amount"]),
    kind("cpu_hog", &["threads", "placement"]),
    kind("failpoint", &["failpoint", "action"]),
    kind("stop", &[]),
    kind("slow_clients", &["clients"]),
    kind("connection_flood", &["connections"]),
    kind("kill", &["restart_within"]),
];

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
            let momentary = kind.is_momentary();
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
        let kind = self.choice(&raw.kind, "kind of fault", &KINDS)?;
        self.only_takes(kind, raw)?;
        Ok(match kind.word {
            "memory_hog" => FaultKind::MemoryHog {
                amount: self.needed_amount(span, raw)?,
                place: match &raw.placement {
                    None => Place::Sibling,
                    Some(text) => {
                        let places = [
                            ("sibling", Place::Sibling),
                            ("child", Place::Child),
                            ("same", Place::Service),
                        ];
                        self.choice(text, "place of a memory hog", &places)?
                    }
                },
                ramp: raw
                    .ramp
                    .as_ref()
                    .map(|t| self.duration(t))
                    .transpose()?
                    .unwrap_or(Duration::from_secs(2)),
                pulse: raw.pulse.as_ref().map(|t| self.pulse(t)).transpose()?,
            },
            "burst" => FaultKind::Burst {
                amount: self.needed_amount(span.clone(), raw)?,
                rate: self.rate(&self.needed(
                    span,
                    &raw.rate,
                    "rate",
                    "rate = \"0.8x\" or \"600MiB\"",
                )?)?,
            },
            "page_cache" => FaultKind::PageCache {
                amount: self.needed_amount(span, raw)?,
                place: match &raw.placement {
                    None => Place::Sibling,
                    Some(text) => {
                        let places = [("sibling", Place::Sibling), ("service", Place::Service)];
                        self.choice(text, "place of page cache", &places)?
                    }
                },
            },
            "limit_shrink" => FaultKind::LimitShrink {
                to: self.share_or_bytes(&self.needed(
                    span,
                    &raw.to,
                    "to",
                    "to = \"60%\" or \"256MiB\"",
                )?)?,
                steps: self.counted(&raw.steps, 64, 1)?,
            },
            "archive_corrupt" => FaultKind::ArchiveCorrupt,
            "oversized_body" => {
                let mend = "amount = \"40%\" or \"128MiB\"";
                let amount = self.needed(span, &raw.amount, "amount", mend)?;
                FaultKind::OversizedBody {
                    amount: self.share_or_bytes(&amount)?,
                }
            }
            "cpu_hog" => FaultKind::CpuHog {
                threads: self.counted(&raw.threads, 256, 1)?,
                press: match &raw.placement {
                    None => Press::Service,
                    Some(text) => {
                        let places = [("service", Press::Service), ("anywhere", Press::Anywhere)];
                        self.choice(text, "place of a CPU hog", &places)?
                    }
                },
            },
            "failpoint" => {
                let mend = "failpoint = \"store.load.error\"";
                let name = self.needed(span.clone(), &raw.failpoint, "failpoint", mend)?;
                let known = FAILPOINTS.map(|f| (f, f));
                let mend = "action = \"10%return\"";
                FaultKind::Failpoint {
                    failpoint: self
                        .choice(&name, "failpoint of the service", &known)?
                        .to_owned(),
                    action: self.needed(span, &raw.action, "action", mend)?.into_inner(),
                }
            }
            "stop" => FaultKind::Stop,
            "slow_clients" => FaultKind::SlowClients {
                clients: self.needed_count(span, &raw.clients, "clients")?,
            },
            "connection_flood" => FaultKind::ConnectionFlood {
                connections: self.needed_count(span, &raw.connections, "connections")?,
            },
            _ => FaultKind::Kill {
                restart_within: self.duration(&self.needed(
                    span,
                    &raw.restart_within,
                    "restart_within",
                    "restart_within = \"10s\"",
                )?)?,
            },
        })
    }

    fn pulse(&self, text: &Text) -> Checked<Duration> {
        let pulse = self.duration(text)?;
        if (Duration::from_millis(20)..=Duration::from_secs(60)).contains(&pulse) {
            return Ok(pulse);
        }
        self.wrong(text.span(), "this pulse is out of range", "20ms to 60s")
    }

    fn needed(
        &self,
        span: Range<usize>,
        text: &Option<Text>,
        key: &str,
        mend: &str,
    ) -> Checked<Text> {
        match text {
            Some(text) => Ok(text.clone()),
            None => self.missing(span, key, mend),
        }
    }

    fn needed_amount(&self, span: Range<usize>, raw: &RawFault) -> Checked<Amount> {
        let mend = "amount = \"floor\", \"50%\" or \"128MiB\"";
        self.amount(&self.needed(span, &raw.amount, "amount", mend)?, raw)
    }

    fn needed_count(
        &self,
        span: Range<usize>,
        number: &Option<Spanned<i64>>,
        key: &str,
    ) -> Checked<u32> {
        match number {
            Some(number) => Ok(self.count(number, CLIENTS_MAX)? as u32),
            None => self.missing(span, key, &format!("{key} = 100")),
        }
    }

    fn counted(&self, number: &Option<Spanned<i64>>, max: u64, default: u32) -> Checked<u32> {
        let count = number.as_ref().map(|n| self.count(n, max)).transpose()?;
        Ok(count.map_or(default, |n| n as u32))
    }

    fn only_takes(&self, kind: Kind, raw: &RawFault) -> Checked<()> {
        let text = |t: &Option<Text>| t.as_ref().map(Spanned::span);
        let number = |n: &Option<Spanned<i64>>| n.as_ref().map(Spanned::span);
        let given = [
            ("amount", text(&raw.amount)),
            ("textures", number(&raw.textures)),
            ("ramp", text(&raw.ramp)),
            ("pulse", text(&raw.pulse)),
            ("rate", text(&raw.rate)),
            ("to", text(&raw.to)),
            ("steps", number(&raw.steps)),
            ("placement", text(&raw.placement)),
            ("threads", number(&raw.threads)),
            ("clients", number(&raw.clients)),
            ("connections", number(&raw.connections)),
            ("failpoint", text(&raw.failpoint)),
            ("action", text(&raw.action)),
            ("restart_within", text(&raw.restart_within)),
        ];
        for (key, span) in given {
            if let (Some(span), false) = (span, kind.takes.contains(&key)) {
                let message = format!("a fault of kind `{}` does not take `{key}`", kind.word);
                let mend = match kind.takes {
                    [] => "nothing beside name, kind, at and for".to_owned(),
                    takes => format!("beside name, kind, at and for: {}", one_of(takes)),
                };
                return self.wrong(span, message, mend);
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
        self.share_or_bytes(text)
    }

    /// A share of the limit or a size.
    fn share_or_bytes(&self, text: &Text) -> Checked<Amount> {
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
                "a share of the limit `50%`, a size `128MiB`, or for an `amount` `floor`: the limit less the service's computed floor",
            ),
        }
    }

    fn rate(&self, text: &Text) -> Checked<Rate> {
        let wrong = || {
            self.wrong(
                text.span(),
                format!("`{}` is no rate", text.get_ref()),
                "a multiple of the service's reaction bound, `0.8x`, or a size per second, `600MiB`",
            )
        };
        match text.get_ref().strip_suffix('x').map(str::parse::<f64>) {
            Some(Ok(times)) if times > 0.0 && times <= 1000.0 => Ok(Rate::Bound(times)),
            Some(_) => wrong(),
            None => match units::parse_bytes(text.get_ref()) {
                Ok(bytes) if bytes > 0 => Ok(Rate::Bytes(bytes)),
                _ => wrong(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_can_name_is_what_records_and_series_name() {
        assert_eq!(KINDS.map(|(word, _)| word), FaultKind::WORDS);
    }
}
