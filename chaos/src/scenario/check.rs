//! From TOML as written to a checked scenario. Every complaint names its place and what would be right.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::raw::{
    Number, RawExpect, RawLoad, RawRecovery, RawScenario, RawSteady, RawTarget, Text,
};
use super::{
    BuildKind, ControlPlan, Expect, FaultPlan, Load, Recovery, Relation, Scenario, ScenarioError,
    SchemaError, Steady, Target, Window,
};
use crate::catalogue;
use crate::units;

/// Load scenarios of the simulator that the runner may ask for.
const LOADS: [&str; 8] = [
    "switch-storm",
    "switch-single",
    "preview",
    "composite",
    "mixed",
    "cold-herd",
    "hot-update",
    "scan",
];
/// Failpoints of the service.
pub(super) const FAILPOINTS: [&str; 16] = [
    "store.load.error",
    "store.load.delay",
    "store.write.delay",
    "store.archive.read_error",
    "store.archive.write_error",
    "store.archive.disk_full",
    "store.archive.slow",
    "codec.decode.error",
    "codec.decode.delay",
    "memory.reserve.exhausted",
    "flyweight.evict.delay",
    "sessions.switch.error",
    "frames.render.error",
    "frames.render.delay",
    "frames.composite.delay",
    "render.gpu.lost",
];
/// What the simulator takes.
const PERIOD_MIN: Duration = Duration::from_millis(10);
const PERIOD_MAX: Duration = Duration::from_secs(3600);
const PREVIEWS_MAX: f64 = 1e6;
const ZIPF_MAX: f64 = 10.0;
/// Longest load phase.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);

pub(super) type Checked<T> = Result<T, SchemaError>;

/// How many controls the scenario of this name has of its own.
type OwnControls<'a> = &'a dyn Fn(&str) -> Result<usize, ScenarioError>;

/// Parses and checks.
pub fn parse(file: &str, text: &str, own_controls: OwnControls<'_>) -> Checked<Scenario> {
    let source = Source {
        file,
        text,
        own_controls,
    };
    source.scenario(raw(file, text)?)
}

/// Parses alone.
pub(super) fn raw(file: &str, text: &str) -> Checked<RawScenario> {
    toml::from_str(text).map_err(|e| {
        let span = e.span().unwrap_or(0..0);
        SchemaError::at(file, text, span, e.message(), "")
    })
}

/// The text that spans point into.
pub(super) struct Source<'a> {
    file: &'a str,
    text: &'a str,
    own_controls: OwnControls<'a>,
}

impl Source<'_> {
    pub(super) fn wrong<T>(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        mend: impl Into<String>,
    ) -> Checked<T> {
        Err(SchemaError::at(self.file, self.text, span, message, mend))
    }

    fn scenario(&self, raw: RawScenario) -> Checked<Scenario> {
        let name = self.name(&raw.name, "scenario")?;
        let target = self.target(raw.target.span(), raw.target.get_ref(), None)?;
        let load = self.load(raw.load.span(), raw.load.get_ref(), None)?;
        let faults = self.faults(&raw.fault, &load)?;
        let expects = self.expects(&raw.expect, &load)?;
        if expects.is_empty() {
            let mend =
                "at least one [[expect]] table with name, text, figure, relation, bound and unit";
            return self.wrong(
                raw.name.span(),
                "a scenario without an expectation proves nothing",
                mend,
            );
        }
        if raw.control.is_empty() && raw.controls_of.is_none() {
            let mend = "a [[control]] table, or `controls_of = \"SCENARIO\"`";
            return self.wrong(
                raw.name.span(),
                "a scenario without a control has no teeth",
                mend,
            );
        }
        if let Some(other) = &raw.controls_of {
            self.has_controls(other)?;
        }
        let mut names = BTreeSet::new();
        let mut controls = Vec::new();
        for control in &raw.control {
            let plan = self.control(
                control.span(),
                control.get_ref(),
                (&target, &load, &faults, &expects),
            )?;
            if !names.insert(plan.name.clone()) {
                return self.wrong(
                    control.get_ref().name.span(),
                    "another control has this name",
                    "a name of its own",
                );
            }
            let is_mutant = |c: &ControlPlan| c.protection.is_some();
            if let (Some(text), true) = (
                &control.get_ref().protection,
                controls.iter().any(is_mutant),
            ) {
                return self.wrong(
                    text.span(),
                    "another control of this scenario is a mutant",
                    "a scenario of its own for each protection",
                );
            }
            controls.push(plan);
        }
        let recovery = raw
            .recovery
            .as_ref()
            .map(|r| self.recovery(r, &faults))
            .transpose()?;
        self.recovery_read(&raw.expect, recovery.is_some())?;
        Ok(Scenario {
            origin: self.file.to_owned(),
            text: self.text.to_owned(),
            name,
            title: raw.title,
            story: raw.story.trim().to_owned(),
            target,
            load,
            faults,
            expects,
            controls,
            aborts: self.aborts(&raw.abort)?,
            controls_of: raw.controls_of.map(Spanned::into_inner),
            steady: self.steady(raw.steady.as_ref())?,
            recovery,
        })
    }

    /// A scenario that leans on another one's controls needs some there.
    fn has_controls(&self, other: &Text) -> Checked<()> {
        let name = other.get_ref();
        match (self.own_controls)(name) {
            Ok(0) => self.wrong(
                other.span(),
                format!("`{name}` has no controls of its own"),
                "a scenario with [[control]] tables: `exclusive-control`",
            ),
            Ok(_) => Ok(()),
            Err(e) => {
                let mend = "a scenario with [[control]] tables: `exclusive-control`";
                self.wrong(other.span(), e.to_string(), mend)
            }
        }
    }

    /// `recovery_s` without bands would never have a sample.
    fn recovery_read(&self, expects: &[Spanned<RawExpect>], has_recovery: bool) -> Checked<()> {
        match expects
            .iter()
            .find(|e| e.get_ref().figure.get_ref() == "recovery_s")
        {
            Some(e) if !has_recovery => self.wrong(
                e.get_ref().figure.span(),
                "`recovery_s` is read, but the scenario does not say what recovered means",
                "a [recovery] table with after, rate_ratio and p99_ms",
            ),
            _ => Ok(()),
        }
    }

    pub(super) fn name(&self, name: &Text, of: &str) -> Checked<String> {
        let text = name.get_ref();
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.is_empty() || text.len() > 40 || !text.chars().all(fits) {
            let mend = "lower-case letters, digits and dashes, at most 40: `million-switch`";
            return self.wrong(name.span(), format!("`{text}` is no name of a {of}"), mend);
        }
        Ok(text.clone())
    }

    pub(super) fn duration(&self, text: &Text) -> Checked<Duration> {
        units::parse_duration(text.get_ref()).or_else(|e| self.unit(text.span(), &e.to_string()))
    }

    fn bytes(&self, text: &Text) -> Checked<u64> {
        units::parse_bytes(text.get_ref()).or_else(|e| self.unit(text.span(), &e.to_string()))
    }

    pub(super) fn unit<T>(&self, span: Range<usize>, error: &str) -> Checked<T> {
        let (message, mend) = error.split_once("; right would be ").unwrap_or((error, ""));
        self.wrong(span, message, mend)
    }

    fn ratio(&self, number: &Number) -> Checked<f64> {
        let value = *number.get_ref();
        if (0.0..=1.0).contains(&value) {
            return Ok(value);
        }
        self.wrong(
            number.span(),
            format!("{value} is no share"),
            "a number from 0 to 1",
        )
    }

    pub(super) fn at_least_zero(&self, number: &Number) -> Checked<f64> {
        self.up_to(number, f64::MAX, "a number from 0 up")
    }

    fn up_to(&self, number: &Number, max: f64, mend: &str) -> Checked<f64> {
        let value = *number.get_ref();
        if (0.0..=max).contains(&value) {
            return Ok(value);
        }
        self.wrong(
            number.span(),
            format!("{value} is out of range"),
            mend.to_owned(),
        )
    }

    pub(super) fn count(&self, number: &Spanned<i64>, max: u64) -> Checked<u64> {
        let value = *number.get_ref();
        match u64::try_from(value) {
            Ok(v) if (1..=max).contains(&v) => Ok(v),
            _ => self.wrong(
                number.span(),
                format!("{value} is out of range"),
                format!("1 to {max}"),
            ),
        }
    }

    pub(super) fn choice<T: Copy>(
        &self,
        text: &Text,
        what: &str,
        choices: &[(&str, T)],
    ) -> Checked<T> {
        if let Some((_, value)) = choices.iter().find(|(word, _)| word == text.get_ref()) {
            return Ok(*value);
        }
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        self.wrong(
            text.span(),
            format!("`{}` is no {what}", text.get_ref()),
            one_of(&words),
        )
    }

    pub(super) fn missing<T>(&self, span: Range<usize>, key: &str, mend: &str) -> Checked<T> {
        self.wrong(
            span.start..span.start + 1,
            format!("the key `{key}` is missing here"),
            mend,
        )
    }

    pub(super) fn target(
        &self,
        span: Range<usize>,
        raw: &RawTarget,
        base: Option<&Target>,
    ) -> Checked<Target> {
        let builds = BuildKind::ALL.map(|b| (b.word(), b));
        let build = match (&raw.build, base) {
            (Some(text), _) => self.choice(text, "build", &builds)?,
            (None, Some(base)) => base.build,
            (None, None) => {
                return self.missing(
                    span,
                    "build",
                    "build = \"plain\", \"failpoints\" or \"controls\"",
                );
            }
        };
        let memory_limit = match (&raw.memory_limit, base) {
            (Some(text), _) => self.bytes(text)?,
            (None, Some(base)) => base.memory_limit,
            (None, None) => return self.missing(span, "memory_limit", "memory_limit = \"384MiB\""),
        };
        if let (Some(text), true) = (&raw.memory_limit, memory_limit < 32 * units::MIB) {
            return self.wrong(
                text.span(),
                "the service does not start below 32 MiB",
                "a limit of 32MiB or more",
            );
        }
        let mut args = base.map(|b| b.args.clone()).unwrap_or_default();
        args.extend(raw.args.iter().cloned());
        let mut env = base.map(|b| b.env.clone()).unwrap_or_default();
        env.extend(raw.env.clone());
        Ok(Target {
            build,
            memory_limit,
            args,
            env,
        })
    }

    pub(super) fn load(
        &self,
        span: Range<usize>,
        raw: &RawLoad,
        base: Option<&Load>,
    ) -> Checked<Load> {
        let scenario = match (&raw.scenario, base) {
            (Some(text), _) => self
                .choice(text, "load of the simulator", &LOADS.map(|l| (l, l)))?
                .to_owned(),
            (None, Some(base)) => base.scenario.clone(),
            (None, None) => {
                return self.missing(span, "scenario", &format!("scenario = {}", one_of(&LOADS)));
            }
        };
        let sessions = match (&raw.sessions, base) {
            (Some(n), _) => self.count(n, 16_000_000)?,
            (None, Some(base)) => base.sessions,
            (None, None) => return self.missing(span, "sessions", "sessions = 1200000"),
        };
        let duration = match (&raw.duration, base) {
            (Some(text), _) => self.duration(text)?,
            (None, Some(base)) => base.duration,
            (None, None) => return self.missing(span, "duration", "duration = \"60s\""),
        };
        if let (Some(text), true) = (
            &raw.duration,
            duration > DURATION_MAX || duration < Duration::from_secs(1),
        ) {
            return self.wrong(text.span(), "this load phase is out of range", "1s to 24h");
        }
        let or = |own: Option<Duration>, base: Option<Duration>, default| {
            own.or(base).unwrap_or(default)
        };
        let period = raw.period.as_ref().map(|t| self.duration(t)).transpose()?;
        if let (Some(text), Some(period)) = (&raw.period, period)
            && !(PERIOD_MIN..=PERIOD_MAX).contains(&period)
        {
            return self.wrong(text.span(), "this period is out of range", "10ms to 1h");
        }
        let count =
            |n: &Option<Spanned<i64>>, max| n.as_ref().map(|n| self.count(n, max)).transpose();
        let number = |n: &Option<Number>, max, mend| {
            let number = n.as_ref().map(|n| self.up_to(n, max, mend));
            number.transpose()
        };
        let mut args = base.map(|b| b.args.clone()).unwrap_or_default();
        args.extend(raw.args.iter().cloned());
        Ok(Load {
            scenario,
            sessions,
            period: or(period, base.map(|b| b.period), Duration::from_secs(3)),
            duration,
            gateways: count(&raw.gateways, 256)?
                .map(|n| n as u32)
                .or(base.map(|b| b.gateways))
                .unwrap_or(16),
            previews_per_second: number(&raw.previews_per_second, PREVIEWS_MAX, "0 to 1000000")?
                .or(base.map(|b| b.previews_per_second))
                .unwrap_or(0.0),
            preview_size: match &raw.preview_size {
                Some(text) => self.preview_size(text)?,
                None => base.map_or_else(|| "640x360".to_owned(), |b| b.preview_size.clone()),
            },
            background_count: count(&raw.background_count, 4096)?
                .map(|n| n as u32)
                .or(base.map(|b| b.background_count))
                .unwrap_or(16),
            zipf: number(&raw.zipf, ZIPF_MAX, "an exponent from 0 to 10")?
                .or(base.map(|b| b.zipf))
                .unwrap_or(0.0),
            windows: match &raw.windows {
                Some(_) => self.windows(raw, duration)?,
                None => base.map(|b| b.windows.clone()).unwrap_or_default(),
            },
            args,
        })
    }

    fn preview_size(&self, text: &Text) -> Checked<String> {
        let side = |s: &str| s.parse::<u32>().is_ok_and(|n| (16..=4096).contains(&n));
        match text.get_ref().split_once('x') {
            Some((w, h)) if side(w) && side(h) => Ok(text.get_ref().clone()),
            _ => self.wrong(
                text.span(),
                format!("`{}` is no size of a picture", text.get_ref()),
                "`640x360`",
            ),
        }
    }

    fn windows(&self, raw: &RawLoad, duration: Duration) -> Checked<Vec<Window>> {
        let mut windows = Vec::new();
        for (name, text) in raw.windows.iter().flatten() {
            let (from, to) = units::parse_range(text.get_ref())
                .or_else(|e| self.unit(text.span(), &e.to_string()))?;
            if to > duration {
                let mend = format!("an end of at most {}", units::show_duration(duration));
                return self.wrong(
                    text.span(),
                    format!("window `{name}` ends after the load"),
                    mend,
                );
            }
            windows.push(Window {
                name: name.clone(),
                from,
                to,
            });
        }
        windows.sort_by_key(|w| w.from);
        Ok(windows)
    }

    fn expects(&self, raw: &[Spanned<RawExpect>], load: &Load) -> Checked<Vec<Expect>> {
        let mut names = BTreeSet::new();
        let mut expects = Vec::new();
        for entry in raw {
            let expect = entry.get_ref();
            let name = self.name(&expect.name, "expectation")?;
            if !names.insert(name.clone()) {
                return self.wrong(
                    expect.name.span(),
                    "another expectation has this name",
                    "a name of its own",
                );
            }
            let unit = self.figure(&expect.figure, load)?;
            if expect.unit.get_ref() != unit {
                let message = format!(
                    "`{}` is not in `{}`",
                    expect.figure.get_ref(),
                    expect.unit.get_ref()
                );
                return self.wrong(expect.unit.span(), message, format!("unit = \"{unit}\""));
            }
            let relations = [Relation::Le, Relation::Ge, Relation::Eq].map(|r| (r.sign(), r));
            expects.push(Expect {
                name,
                text: expect.text.clone(),
                figure: expect.figure.get_ref().clone(),
                relation: self.choice(&expect.relation, "relation", &relations)?,
                bound: *expect.bound.get_ref(),
                unit: unit.to_owned(),
            });
        }
        Ok(expects)
    }

    /// Unit of the figure named, which must exist; a window after a dot must be one of the load's.
    fn figure(&self, text: &Text, load: &Load) -> Checked<&'static str> {
        let (name, window) = match text.get_ref().split_once('.') {
            Some((name, window)) => (name, Some(window)),
            None => (text.get_ref().as_str(), None),
        };
        let Some(spec) = catalogue::find(name) else {
            let near = catalogue::nearest(name);
            return self.wrong(text.span(), format!("there is no figure `{name}`"), near);
        };
        let Some(window) = window else {
            return Ok(spec.unit);
        };
        if !spec.windowed {
            return self.wrong(
                text.span(),
                format!("`{name}` has no windows"),
                format!("figure = \"{name}\""),
            );
        }
        if load.windows.iter().all(|w| w.name != window) {
            let names: Vec<_> = load.windows.iter().map(|w| w.name.as_str()).collect();
            let mend = if names.is_empty() {
                "load.windows.NAME = \"0s..30s\" first".to_owned()
            } else {
                one_of(&names)
            };
            return self.wrong(
                text.span(),
                format!("the load has no window `{window}`"),
                mend,
            );
        }
        Ok(spec.unit)
    }

    fn steady(&self, raw: Option<&RawSteady>) -> Checked<Steady> {
        let default = Steady::default();
        let Some(raw) = raw else { return Ok(default) };
        Ok(Steady {
            from: raw
                .from
                .as_ref()
                .map(|t| self.duration(t))
                .transpose()?
                .unwrap_or(default.from),
            rate_ratio: raw
                .rate_ratio
                .as_ref()
                .map(|n| self.ratio(n))
                .transpose()?
                .unwrap_or(default.rate_ratio),
            p99_ms: raw
                .p99_ms
                .as_ref()
                .map(|n| self.at_least_zero(n))
                .transpose()?,
        })
    }

    fn recovery(&self, raw: &RawRecovery, faults: &[FaultPlan]) -> Checked<Recovery> {
        let known: Vec<_> = faults
            .iter()
            .map(|f| (f.name.as_str(), f.name.as_str()))
            .collect();
        Ok(Recovery {
            after: self
                .choice(&raw.after, "fault of this scenario", &known)?
                .to_owned(),
            rate_ratio: self.ratio(&raw.rate_ratio)?,
            p99_ms: self.at_least_zero(&raw.p99_ms)?,
            hit_ratio_points: raw
                .hit_ratio_points
                .as_ref()
                .map(|n| self.at_least_zero(n))
                .transpose()?,
            working_set_ratio: raw
                .working_set_ratio
                .as_ref()
                .map(|n| self.ratio(n))
                .transpose()?,
        })
    }
}

pub(super) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|w| format!("`{w}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => "none, there is nothing to choose from".to_owned(),
    }
}
