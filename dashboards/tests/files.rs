//! The committed dashboards are what the Rust generates, whole, and lead to each other; compose file and provisioning have them.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use support::{dashboards, folder, list, read, text};

#[test]
fn files_are_generated() {
    for (name, content) in backdrop_dashboards::files() {
        assert!(
            read(&name) == content,
            "{name} is old: run `just dashboards`"
        );
    }
}

#[test]
fn panels_have_ids_and_places_of_their_own() {
    for (name, dashboard) in dashboards() {
        let panels: Vec<_> = list(&dashboard["panels"]).collect();
        let ids: BTreeSet<_> = panels
            .iter()
            .map(|panel| panel["id"].as_u64().expect("an id"))
            .collect();
        assert_eq!(ids.len(), panels.len(), "{name}");
        let mut taken = BTreeMap::new();
        for panel in panels {
            let place = |key: &str| panel["gridPos"][key].as_u64().expect("a number");
            let (x, y, w, h) = (place("x"), place("y"), place("w"), place("h"));
            let title = &panel["title"];
            assert!(
                w > 0 && h > 0 && x + w <= 24,
                "{name}: {title} leaves the grid"
            );
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                let other = taken.insert(cell, title);
                assert!(other.is_none(), "{name}: {title} overlaps {other:?}");
            }
        }
    }
}

#[test]
fn axes_begin_at_zero_where_nothing_is_negative() {
    for (name, dashboard) in dashboards() {
        let lines = list(&dashboard["panels"]).filter(|panel| panel["type"] == "timeseries");
        for panel in lines {
            let defaults = &panel["fieldConfig"]["defaults"];
            let log = defaults["custom"]["scaleDistribution"]["type"] == "log";
            let signed = text(&panel["description"]).contains("drift");
            let wanted = if log || signed { None } else { Some(0.0) };
            assert_eq!(
                defaults["min"].as_f64(),
                wanted,
                "{name}: {}",
                panel["title"]
            );
        }
    }
}

#[test]
fn every_dashboard_leads_to_every_other() {
    let all = dashboards();
    let uids: BTreeSet<&str> = all.iter().map(|(_, d)| text(&d["uid"])).collect();
    assert_eq!(uids.len(), all.len());
    for (name, dashboard) in &all {
        let mut linked: BTreeSet<&str> = list(&dashboard["links"])
            .map(|link| text(&link["url"]).trim_start_matches("/d/"))
            .map(|url| url.split('?').next().unwrap_or(url))
            .collect();
        assert!(
            linked.insert(text(&dashboard["uid"])),
            "{name} leads to itself"
        );
        assert_eq!(linked, uids, "{name}");
    }
}

#[test]
fn what_a_chaos_run_does_is_drawn_over_every_dashboard() {
    for (name, dashboard) in dashboards() {
        let drawn: Vec<&str> = list(&dashboard["annotations"]["list"])
            .map(|annotation| text(&annotation["expr"]))
            .collect();
        for metric in [
            "chaos_faults_active",
            "chaos_faults_begun_total",
            "chaos_trials_total",
            "chaos_oom_kills_total",
        ] {
            assert!(
                drawn.iter().any(|expr| expr.contains(metric)),
                "{name}: {metric}"
            );
        }
    }
}

#[test]
fn provisioning_has_the_folder_of_the_dashboards() {
    let compose = read("compose.yaml");
    let mount = "./grafana/dashboards:/etc/grafana/dashboards:ro";
    assert!(
        compose.contains(mount),
        "{mount} is not in the compose file"
    );
    assert!(
        read("grafana/provisioning/dashboards/backdrop.yml")
            .contains("path: /etc/grafana/dashboards")
    );
    // What the configuration names by relative paths, where the mounts put it.
    for mount in [
        "./prometheus:/srv/dashboards/prometheus:ro",
        "../reports/out:/srv/reports/out:ro",
        "./grafana/provisioning:/etc/grafana/provisioning:ro",
    ] {
        assert!(
            compose.contains(mount),
            "{mount} is not in the compose file"
        );
    }
    let targets = read("../chaos/src/targets.rs");
    assert!(targets.contains("\"prometheus-targets.json\""));
    let configuration = read("prometheus/prometheus.yml");
    assert!(configuration.contains("[\"../../reports/out/prometheus-targets.json\"]"));
    let home = compose.lines().find_map(|line| {
        line.trim()
            .strip_prefix("GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH: ")
    });
    let home = home
        .expect("a home dashboard")
        .replace("/etc/grafana", "grafana");
    assert!(folder().join(&home).is_file(), "there is no {home}");
}

/// `$__rate_interval` is made from what the data source says, and what is asked of a recording from the same.
#[test]
fn the_data_source_says_how_often_is_scraped() {
    let said = |file: &str, key: &str| {
        let text = read(file);
        let found = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(key).map(str::to_owned));
        found.unwrap_or_else(|| panic!("{file} has no {key}"))
    };
    let interval = format!("{}s", backdrop_dashboards::run::SCRAPE_S);
    assert_eq!(
        said("prometheus/prometheus.yml", "scrape_interval: "),
        interval
    );
    assert_eq!(
        said(
            "grafana/provisioning/datasources/prometheus.yml",
            "timeInterval: "
        ),
        interval
    );
}
