//! What all dashboards have in common: variables, links to each other, and what chaos runs did, drawn over every panel.

use serde_json::{Value, json};

use crate::grafana::{
    Annotation, Dashboard, Datasource, Link, ListOf, Panel, SCHEMA_VERSION, TimeRange, Variable,
};
use crate::queries::{FAULTS, select};

/// Of which program the panels tell; jobs and instances of one mean nothing to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Service,
    Simulator,
    Run,
}

/// A dashboard before its panels.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// File name without its end, and the end of the id in URLs.
    pub name: &'static str,
    title: &'static str,
    description: &'static str,
    of: Of,
}

/// Is it serving?
pub const OVERVIEW: Head = Head {
    name: "overview",
    title: "Backdrop: overview",
    description: "Is it serving: rate, errors and duration of switches and frames, memory against its limit, the process.",
    of: Of::Service,
};
/// Does it fit, and does the cache do its work?
pub const MEMORY: Head = Head {
    name: "memory",
    title: "Backdrop: memory and flyweight",
    description: "Does it fit: memory, budget and governor. Does the cache do its work: textures, loads, evictions, blocks, archive.",
    of: Of::Service,
};
/// What does a frame cost?
pub const RENDER: Head = Head {
    name: "render",
    title: "Backdrop: render",
    description: "What a frame costs and what it waits for, who draws it, and how a GPU does.",
    of: Of::Service,
};
/// What does the load say?
pub const SIMULATOR: Head = Head {
    name: "simulator",
    title: "Backdrop: simulator",
    description: "The load as its sessions see it: latency from the planned time, results, truth, and whether the simulator kept its own plan.",
    of: Of::Simulator,
};
/// What was done, and what came of it?
pub const CHAOS: Head = Head {
    name: "chaos",
    title: "Backdrop: chaos run",
    description: "What a chaos run does and what comes of it: trials, faults, the kernel's view of the cell, the load beside it.",
    of: Of::Run,
};

/// All of them, in the order of their links.
pub const ALL: [Head; 5] = [OVERVIEW, MEMORY, RENDER, SIMULATOR, CHAOS];

impl Head {
    /// With panels.
    #[must_use]
    pub fn over(self, panels: Vec<Panel>) -> Dashboard {
        Dashboard {
            uid: self.uid(),
            title: self.title.into(),
            description: self.description.into(),
            tags: vec!["backdrop".into()],
            schema_version: SCHEMA_VERSION,
            version: 1,
            editable: false,
            graph_tooltip: 1,
            refresh: "5s".into(),
            time: TimeRange {
                from: "now-15m".into(),
                to: "now".into(),
            },
            timezone: "browser".into(),
            links: self.links(),
            templating: ListOf {
                list: self.variables(),
            },
            annotations: ListOf {
                list: self.annotations(),
            },
            panels,
        }
    }

    fn uid(self) -> String {
        format!("backdrop-{}", self.name)
    }

    /// To every other one, with time and data source; with job and instance where those mean the same.
    fn links(self) -> Vec<Link> {
        let others = ALL.into_iter().filter(|other| other.name != self.name);
        others
            .map(|other| {
                let same = if other.of == self.of {
                    "&${job:queryparam}&${instance:queryparam}"
                } else {
                    ""
                };
                Link {
                    title: other.title.trim_start_matches("Backdrop: ").into(),
                    url: format!("/d/{}?${{datasource:queryparam}}{same}", other.uid()),
                    tooltip: other.description.into(),
                    kind: "link".into(),
                    icon: "dashboard".into(),
                    tags: Vec::new(),
                    as_dropdown: false,
                    target_blank: false,
                    include_vars: false,
                    keep_time: true,
                }
            })
            .collect()
    }

    fn variables(self) -> Vec<Variable> {
        let info = match self.of {
            Of::Service => "backdrop_build_info{%}",
            Of::Simulator => "backdrop_simulator_build_info{%}",
            Of::Run => r#"{__name__=~"backdrop_(chaos_|simulator_)?build_info"%}"#,
        };
        let comma = if self.of == Of::Run { "," } else { "" };
        let all = info.replace('%', "").replace("{}", "");
        let of_job = info.replace('%', &format!(r#"{comma}job=~"$job""#));
        let query = |name: &str, label: &str, query: String| Variable {
            name: name.into(),
            label: label.into(),
            kind: "query".into(),
            query,
            datasource: Some(Datasource::picked()),
            refresh: 2,
            include_all: true,
            all_value: Some(".+".into()),
            multi: true,
            current: json!({"selected": true, "text": ["All"], "value": ["$__all"]}),
        };
        vec![
            Variable {
                name: "datasource".into(),
                label: "Data source".into(),
                kind: "datasource".into(),
                query: "prometheus".into(),
                datasource: None,
                refresh: 1,
                include_all: false,
                all_value: None,
                multi: false,
                current: Value::Null,
            },
            query("job", "Job", format!("label_values({all}, job)")),
            query(
                "instance",
                "Instance",
                format!("label_values({of_job}, instance)"),
            ),
        ]
    }

    /// The runner's are those of every run that this Prometheus scrapes; the service's, of the instances shown. The windows are
    /// fixed: annotation queries know no `$__rate_interval`.
    fn annotations(self) -> Vec<Annotation> {
        let grew = |metric: &str, matchers: &str| {
            format!("increase({}[15s]) > 0", select(metric, matchers))
        };
        let mut list = vec![
            annotation(
                "Chaos: faults",
                "orange",
                FAULTS.into(),
                ("kind", "fault: {{kind}}"),
            ),
            annotation(
                "Chaos: trials",
                "blue",
                "changes(backdrop_chaos_trials_total[5s]) > 0".into(),
                ("instance", "a trial began"),
            ),
            annotation(
                "Chaos: kernel killed",
                "dark-red",
                "sum by (leaf) (increase(backdrop_chaos_oom_kills_total[5s])) > 0".into(),
                ("leaf", "OOM kill: {{leaf}}"),
            ),
        ];
        if self.of == Of::Service {
            list.extend([
                annotation(
                    "Chaos: failpoints",
                    "purple",
                    format!(
                        "sum by (failpoint) ({})",
                        grew("failpoint_triggers_total", "")
                    ),
                    ("failpoint", "failpoint {{failpoint}} fired"),
                ),
                annotation(
                    "Service restarted",
                    "red",
                    format!(
                        "resets({}[15s]) > 0",
                        select("process_cpu_seconds_total", "")
                    ),
                    ("instance", "{{instance}} was restarted"),
                ),
                annotation(
                    "Governor left normal",
                    "yellow",
                    grew("governor_transitions_total", r#"to!="normal""#),
                    ("to", "governor: {{to}}"),
                ),
            ]);
        }
        list
    }
}

fn annotation(
    name: &str,
    colour: &str,
    expr: String,
    (tag_keys, title): (&str, &str),
) -> Annotation {
    Annotation {
        name: name.into(),
        datasource: Datasource::picked(),
        enable: true,
        expr,
        step: "1s".into(),
        icon_color: colour.into(),
        tag_keys: tag_keys.into(),
        title_format: title.into(),
    }
}
