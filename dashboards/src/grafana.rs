//! The part of Grafana's Classic (v1) dashboard schema that we use, typed so that a panel without a unit or a
//! description does not compile. Field names are Grafana's.

use serde::Serialize;
use serde_json::Value;

/// Version of the Classic schema that these types follow.
pub const SCHEMA_VERSION: u32 = 41;

/// A dashboard file.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dashboard {
    /// Stable id in URLs.
    pub uid: String,
    /// Heading.
    pub title: String,
    /// What it is for.
    pub description: String,
    /// Tags.
    pub tags: Vec<String>,
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Raised by Grafana on each save; ours is always 1.
    pub version: u32,
    /// May be changed in the browser; ours are provisioned from files, and a change there would be lost.
    pub editable: bool,
    /// 1: one crosshair for all panels.
    pub graph_tooltip: u8,
    /// Reload interval.
    pub refresh: String,
    /// Shown time.
    pub time: TimeRange,
    /// `browser` or `utc`.
    pub timezone: String,
    /// To the other dashboards.
    pub links: Vec<Link>,
    /// Variables.
    pub templating: ListOf<Variable>,
    /// Annotation queries.
    pub annotations: ListOf<Annotation>,
    /// Panels and rows.
    pub panels: Vec<Panel>,
}

/// A link in the head of a dashboard.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// Shown words.
    pub title: String,
    /// Where it leads, with variables.
    pub url: String,
    /// What is there.
    pub tooltip: String,
    /// `link`: to the URL.
    #[serde(rename = "type")]
    pub kind: String,
    /// Grafana's name of the icon.
    pub icon: String,
    /// Only of links to all dashboards with a tag.
    pub tags: Vec<String>,
    /// Only of links to several dashboards.
    pub as_dropdown: bool,
    /// In a tab of its own.
    pub target_blank: bool,
    /// Hands every variable on; ours stand in the URL, since not every dashboard has the same jobs.
    pub include_vars: bool,
    /// Hands the time range on.
    pub keep_time: bool,
}

/// `{"list": [...]}`.
#[derive(Debug, Clone, Serialize)]
pub struct ListOf<T> {
    /// Members.
    pub list: Vec<T>,
}

/// A time range.
#[derive(Debug, Clone, Serialize)]
pub struct TimeRange {
    /// e.g. `now-15m`.
    pub from: String,
    /// e.g. `now`.
    pub to: String,
}

/// Reference to a data source.
#[derive(Debug, Clone, Serialize)]
pub struct Datasource {
    /// `prometheus`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its id, or a variable.
    pub uid: String,
}

impl Datasource {
    /// The Prometheus that the viewer picked.
    #[must_use]
    pub fn picked() -> Self {
        Self {
            kind: "prometheus".into(),
            uid: "${datasource}".into(),
        }
    }
}

/// A variable of the dashboard.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Variable {
    /// Name without `$`.
    pub name: String,
    /// Shown name.
    pub label: String,
    /// `datasource` or `query`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Query text, or the plugin for a data source variable.
    pub query: String,
    /// Where a query goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datasource: Option<Datasource>,
    /// 2: asked again when the time range changes; 1: on load.
    pub refresh: u8,
    /// Has the entry `All`.
    pub include_all: bool,
    /// What `All` stands for in a query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all_value: Option<String>,
    /// Several may be picked.
    pub multi: bool,
    /// Value picked at first; Grafana picks one where there is none.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub current: Value,
}

/// An annotation query.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Annotation {
    /// Shown name.
    pub name: String,
    /// Where it goes.
    pub datasource: Datasource,
    /// Drawn at first.
    pub enable: bool,
    /// PromQL; a sample that exists is an annotation.
    pub expr: String,
    /// Resolution of the query.
    pub step: String,
    /// Colour of line and icon.
    pub icon_color: String,
    /// Label names that become tags.
    pub tag_keys: String,
    /// Text, with `{{label}}`.
    pub title_format: String,
}

/// A panel or a row.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Panel {
    /// Unique in the dashboard.
    pub id: u32,
    /// `timeseries`, `stat`, `state-timeline` or `row`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Heading.
    pub title: String,
    /// What it shows and what to make of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Place.
    pub grid_pos: GridPos,
    /// Where its queries go; rows have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datasource: Option<Datasource>,
    /// Queries; rows have none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Target>,
    /// How values are shown; rows have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_config: Option<FieldConfig>,
    /// Options of the panel's kind.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub options: Value,
    /// Rows only: folded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collapsed: Option<bool>,
    /// Rows only: the panels of one that is folded; ours are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub panels: Option<Vec<Panel>>,
    /// Why its queries may find nothing in a whole run. None: a query that finds nothing is a defect.
    #[serde(skip)]
    pub quiet: Option<Quiet>,
}

/// An event that a panel waits for. No part of Grafana's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quiet {
    /// Why there is nothing without it.
    pub why: &'static str,
    /// PromQL without variables that is above zero once it has happened: then the panel must find something after all.
    pub event: &'static str,
}

/// Place of a panel on the grid of 24 columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GridPos {
    /// Column of the left edge.
    pub x: u32,
    /// Row of the top edge.
    pub y: u32,
    /// Columns.
    pub w: u32,
    /// Rows, about 38 pixels each.
    pub h: u32,
}

/// One query.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// `A`, `B`, ...
    pub ref_id: String,
    /// PromQL.
    pub expr: String,
    /// Name in the legend, with `{{label}}`.
    pub legend_format: String,
    /// Where it goes.
    pub datasource: Datasource,
    /// Over time.
    pub range: bool,
    /// Only the latest value.
    pub instant: bool,
}

/// How values are shown.
#[derive(Debug, Clone, Serialize)]
pub struct FieldConfig {
    /// For every series.
    pub defaults: FieldDefaults,
    /// For some series.
    pub overrides: Vec<Override>,
}

/// How every series is shown.
#[derive(Debug, Clone, Serialize)]
pub struct FieldDefaults {
    /// Grafana's name of the unit.
    pub unit: String,
    /// Bottom of the axis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Top of the axis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Words for values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mappings: Vec<Value>,
    /// Colours by value.
    pub thresholds: Value,
    /// What picks the colour.
    pub color: Value,
    /// Options of the panel's kind.
    pub custom: Value,
}

/// How one series is shown.
#[derive(Debug, Clone, Serialize)]
pub struct Override {
    /// Which.
    pub matcher: Value,
    /// How.
    pub properties: Vec<Value>,
}
