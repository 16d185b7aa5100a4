//! The TOML of a scenario as it is written: every value with its place, nothing resolved.
//!
//! Unknown keys are errors everywhere. Units, names and relations between keys are `check`'s business.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

/// A text with its place.
pub type Text = Spanned<String>;
/// A number with its place.
pub type Number = Spanned<f64>;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawScenario {
    pub name: Text,
    pub title: String,
    pub story: String,
    pub controls_of: Option<Text>,
    pub target: Spanned<RawTarget>,
    pub load: Spanned<RawLoad>,
    #[serde(default)]
    pub fault: Vec<Spanned<RawFault>>,
    #[serde(default)]
    pub expect: Vec<Spanned<RawExpect>>,
    #[serde(default)]
    pub control: Vec<Spanned<RawControl>>,
    #[serde(default)]
    pub abort: Vec<Spanned<RawAbort>>,
    pub steady: Option<RawSteady>,
    pub recovery: Option<RawRecovery>,
}

/// `[target]`, and `[control.target]` where every key overrides (`args` are appended).
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTarget {
    pub build: Option<Text>,
    pub memory_limit: Option<Text>,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// `[load]`, and `[control.load]` where every key overrides (`args` are appended).
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLoad {
    pub scenario: Option<Text>,
    pub sessions: Option<Spanned<i64>>,
    pub period: Option<Text>,
    pub duration: Option<Text>,
    pub gateways: Option<Spanned<i64>>,
    pub previews_per_second: Option<Number>,
    pub preview_size: Option<Text>,
    pub background_count: Option<Spanned<i64>>,
    pub zipf: Option<Number>,
    pub windows: Option<BTreeMap<String, Text>>,
    #[serde(default)]
    pub args: Vec<String>,
}

/// `[[fault]]`: keys of every kind; which kind takes which is checked later.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawFault {
    pub name: Text,
    pub kind: Text,
    pub at: Text,
    #[serde(rename = "for")]
    pub lasts: Option<Text>,
    pub amount: Option<Text>,
    pub textures: Option<Spanned<i64>>,
    pub ramp: Option<Text>,
    pub pulse: Option<Text>,
    pub rate: Option<Text>,
    pub to: Option<Text>,
    pub steps: Option<Spanned<i64>>,
    pub placement: Option<Text>,
    pub threads: Option<Spanned<i64>>,
    pub clients: Option<Spanned<i64>>,
    pub connections: Option<Spanned<i64>>,
    pub failpoint: Option<Text>,
    pub action: Option<Text>,
    pub restart_within: Option<Text>,
}

/// `[[expect]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawExpect {
    pub name: Text,
    pub text: String,
    pub figure: Text,
    pub relation: Text,
    pub bound: Number,
    pub unit: Text,
}

/// `[[abort]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAbort {
    pub name: Text,
    pub figure: Text,
    pub above: Number,
    pub unit: Text,
    #[serde(rename = "for")]
    pub lasts: Option<Text>,
}

/// `[[control]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawControl {
    pub name: Text,
    pub story: String,
    pub expected: Text,
    /// The protection that is off, where the control is its mutant.
    pub protection: Option<Text>,
    #[serde(default)]
    pub target: RawTarget,
    #[serde(default)]
    pub load: RawLoad,
    /// Names of the faults that the control keeps; all of them without this key.
    pub faults: Option<Vec<Text>>,
    /// Faults that only the control has.
    #[serde(default)]
    pub fault: Vec<Spanned<RawFault>>,
}

/// `[steady]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSteady {
    pub from: Option<Text>,
    pub rate_ratio: Option<Number>,
    pub p99_ms: Option<Number>,
}

/// `[recovery]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRecovery {
    pub after: Text,
    pub rate_ratio: Number,
    pub p99_ms: Number,
    pub hit_ratio_points: Option<Number>,
    pub working_set_ratio: Option<Number>,
}
