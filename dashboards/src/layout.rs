//! Places panels: rows of 24 columns, ids in order. A panel's kind, unit and queries go in; where it stands and
//! which id it has come out, so that no two overlap.

use serde_json::{Value, json};

use crate::grafana::{
    Datasource, FieldConfig, FieldDefaults, GridPos, Override, Panel, Quiet, Target,
};

const COLUMNS: u32 = 24;

/// A panel before it has a place.
#[derive(Debug, Clone)]
pub struct Draft {
    kind: &'static str,
    title: &'static str,
    description: &'static str,
    unit: &'static str,
    width: u32,
    height: u32,
    targets: Vec<(String, &'static str)>,
    min: Option<f64>,
    max: Option<f64>,
    mappings: Vec<Value>,
    thresholds: Value,
    stacked: bool,
    log: bool,
    bounded: bool,
    overrides: Vec<Override>,
    quiet: Option<Quiet>,
}

impl Draft {
    fn new(
        kind: &'static str,
        title: &'static str,
        unit: &'static str,
        description: &'static str,
    ) -> Self {
        Self {
            kind,
            title,
            description,
            unit,
            width: 8,
            height: 8,
            targets: Vec::new(),
            min: None,
            max: None,
            mappings: Vec::new(),
            thresholds: steps(&[("green", None)]),
            stacked: false,
            log: false,
            bounded: false,
            overrides: Vec::new(),
            quiet: None,
        }
    }

    /// Lines over time, a third of the width.
    #[must_use]
    pub fn lines(title: &'static str, unit: &'static str, description: &'static str) -> Self {
        Self {
            min: Some(0.0),
            ..Self::new("timeseries", title, unit, description)
        }
    }

    /// One number with a small line behind it, a sixth of the width.
    #[must_use]
    pub fn stat(title: &'static str, unit: &'static str, description: &'static str) -> Self {
        Self {
            width: 4,
            height: 4,
            ..Self::new("stat", title, unit, description)
        }
    }

    /// A band of states over time, the whole width.
    #[must_use]
    pub fn states(title: &'static str, description: &'static str) -> Self {
        Self {
            width: COLUMNS,
            height: 4,
            ..Self::new("state-timeline", title, "none", description)
        }
    }

    /// With one more query and its name in the legend.
    #[must_use]
    pub fn query(mut self, legend: &'static str, expr: impl Into<String>) -> Self {
        self.targets.push((expr.into(), legend));
        self
    }

    /// So many columns wide.
    #[must_use]
    pub fn width(mut self, columns: u32) -> Self {
        self.width = columns;
        self
    }

    /// So many grid rows high.
    #[must_use]
    pub fn height(mut self, rows: u32) -> Self {
        self.height = rows;
        self
    }

    /// With a fixed top of the axis.
    #[must_use]
    pub fn max(mut self, max: f64) -> Self {
        self.max = Some(max);
        self
    }

    /// Without a fixed bottom: values below zero are shown.
    #[must_use]
    pub fn signed(mut self) -> Self {
        self.min = None;
        self
    }

    /// Series on top of each other.
    #[must_use]
    pub fn stacked(mut self) -> Self {
        self.stacked = true;
        self
    }

    /// On a logarithmic axis.
    #[must_use]
    pub fn log(mut self) -> Self {
        self.log = true;
        self.min = None;
        self
    }

    /// With colours from given values up; the first has no value.
    #[must_use]
    pub fn thresholds(mut self, colours: &[(&str, Option<f64>)]) -> Self {
        self.thresholds = steps(colours);
        self
    }

    /// With a dashed line at a value that must not be passed.
    #[must_use]
    pub fn bound(mut self, value: f64) -> Self {
        self.bounded = true;
        self.thresholds(&[("transparent", None), ("red", Some(value))])
    }

    /// Its queries find nothing in a run without this event.
    #[must_use]
    pub fn quiet(mut self, quiet: Quiet) -> Self {
        self.quiet = Some(quiet);
        self
    }

    /// With words and colours for the values 0, 1, 2, ...
    #[must_use]
    pub fn words(mut self, words: &[(&str, &str)]) -> Self {
        let options: serde_json::Map<String, Value> = words
            .iter()
            .enumerate()
            .map(|(i, (text, colour))| {
                (
                    i.to_string(),
                    json!({"index": i, "text": text, "color": colour}),
                )
            })
            .collect();
        self.mappings
            .push(json!({"type": "value", "options": options}));
        self
    }

    /// With a dashed line of a given colour, without fill, for the series of that legend; never stacked.
    #[must_use]
    pub fn dashed(mut self, legend: &str, colour: &str) -> Self {
        self.overrides.push(Override {
            matcher: json!({"id": "byName", "options": legend}),
            properties: vec![
                json!({"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}),
                json!({"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}}),
                json!({"id": "custom.fillOpacity", "value": 0}),
                json!({"id": "custom.stacking", "value": {"mode": "none", "group": "A"}}),
            ],
        });
        self
    }

    fn color(&self) -> Value {
        let by_value = self.kind != "timeseries";
        json!({"mode": if by_value { "thresholds" } else { "palette-classic" }})
    }

    fn custom(&self) -> Value {
        match self.kind {
            "timeseries" => json!({
                "drawStyle": "line",
                "lineWidth": 1,
                "fillOpacity": if self.stacked { 30 } else { 8 },
                "showPoints": "never",
                "spanNulls": false,
                "stacking": {"mode": if self.stacked { "normal" } else { "none" }, "group": "A"},
                "thresholdsStyle": {"mode": if self.bounded { "dashed" } else { "off" }},
                "scaleDistribution": if self.log { json!({"type": "log", "log": 10}) } else { json!({"type": "linear"}) },
            }),
            "state-timeline" => json!({"fillOpacity": 70, "lineWidth": 0}),
            _ => json!({}),
        }
    }

    fn options(&self) -> Value {
        match self.kind {
            "timeseries" => json!({
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }),
            "stat" => json!({
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
                "graphMode": "area",
                "colorMode": "value",
                "justifyMode": "auto",
                "textMode": "auto",
                "orientation": "auto",
                "percentChangeColorMode": "standard",
                "showPercentChange": false,
                "wideLayout": true,
            }),
            _ => json!({
                "mergeValues": true,
                "showValue": "auto",
                "alignValue": "left",
                "rowHeight": 0.8,
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": false, "calcs": []},
                "tooltip": {"mode": "single", "sort": "none"},
            }),
        }
    }

    fn place(self, id: u32, grid_pos: GridPos) -> Panel {
        let (color, custom, options) = (self.color(), self.custom(), self.options());
        let target = |(i, (expr, legend)): (usize, (String, &str))| Target {
            ref_id: char::from(b'A' + u8::try_from(i).unwrap_or(25)).to_string(),
            expr,
            legend_format: legend.into(),
            datasource: Datasource::picked(),
            range: true,
            instant: false,
        };
        Panel {
            id,
            kind: self.kind.into(),
            title: self.title.into(),
            description: self.description.into(),
            grid_pos,
            datasource: Some(Datasource::picked()),
            targets: self.targets.into_iter().enumerate().map(target).collect(),
            field_config: Some(FieldConfig {
                defaults: FieldDefaults {
                    unit: self.unit.into(),
                    min: self.min,
                    max: self.max,
                    mappings: self.mappings,
                    thresholds: self.thresholds,
                    color,
                    custom,
                },
                overrides: self.overrides,
            }),
            options,
            collapsed: None,
            panels: None,
            quiet: self.quiet,
        }
    }
}

fn steps(colours: &[(&str, Option<f64>)]) -> Value {
    let steps: Vec<Value> = colours
        .iter()
        .map(|(color, value)| json!({"color": color, "value": value}))
        .collect();
    json!({"mode": "absolute", "steps": steps})
}

/// Panels placed so far.
#[derive(Debug, Default)]
pub struct Layout {
    panels: Vec<Panel>,
    x: u32,
    y: u32,
    line_height: u32,
}

impl Layout {
    /// A heading over the panels that follow.
    #[must_use]
    pub fn row(mut self, title: &str) -> Self {
        self.break_line();
        self.panels.push(Panel {
            id: self.next_id(),
            kind: "row".into(),
            title: title.into(),
            description: String::new(),
            grid_pos: GridPos {
                x: 0,
                y: self.y,
                w: COLUMNS,
                h: 1,
            },
            datasource: None,
            targets: Vec::new(),
            field_config: None,
            options: Value::Null,
            collapsed: Some(false),
            panels: Some(Vec::new()),
            quiet: None,
        });
        self.y += 1;
        self
    }

    /// The next panel, beside the last one if it fits.
    #[must_use]
    pub fn panel(mut self, draft: Draft) -> Self {
        if self.x + draft.width > COLUMNS {
            self.break_line();
        }
        let grid_pos = GridPos {
            x: self.x,
            y: self.y,
            w: draft.width,
            h: draft.height,
        };
        self.x += draft.width;
        self.line_height = self.line_height.max(draft.height);
        let id = self.next_id();
        self.panels.push(draft.place(id, grid_pos));
        self
    }

    /// All of them.
    #[must_use]
    pub fn panels(self) -> Vec<Panel> {
        self.panels
    }

    fn next_id(&self) -> u32 {
        u32::try_from(self.panels.len())
            .unwrap_or(u32::MAX)
            .saturating_add(1)
    }

    fn break_line(&mut self) {
        self.y += self.line_height;
        self.x = 0;
        self.line_height = 0;
    }
}
