//! Every page in a headless Chromium: light, dark, on a phone, on paper; by keyboard alone; with no error and no request.

#[path = "support/browser.rs"]
mod browser;
mod support;

use backdrop_reports::compare::compare;
use backdrop_reports::history;
use backdrop_reports::record::{MUTANTS_SUITE, RunRecord, Verdict};
use backdrop_reports::render::chart::{Chart, Role, Series, XAxis, YAxis};
use backdrop_reports::render::sheet::{Group, Part, Sheet};
use backdrop_reports::render::{self, html, side_by_side, trend, write_all};
use backdrop_reports::scorecard;

fn report(record: &RunRecord) -> String {
    html::render(record, Some("../scorecard/index.html")).expect("a page")
}

/// Every verdict, a control that did something else than expected, a suite of mutants, a run that ended before its first scenario.
fn reports() -> Vec<(&'static str, String)> {
    let of = |verdict: Verdict| {
        let mut record = support::deviated();
        record.verdict = verdict;
        record.scenarios[0].verdict = verdict;
        record.scenarios[0].controls[0].as_expected = false;
        record.scenarios[0].evidence.doubts = vec!["the simulator was starved".into()];
        record.exit = verdict.exit();
        record
    };
    let mut mutants = support::run();
    mutants.suite = MUTANTS_SUITE.into();
    mutants.scenarios[0].controls[0].protection = Some("budget".into());
    let mut empty = of(Verdict::Error);
    empty.scenarios.clear();
    vec![
        ("report", report(&support::run())),
        ("deviated", report(&of(Verdict::Deviated))),
        ("inconclusive", report(&of(Verdict::Inconclusive))),
        ("mutants", report(&mutants)),
        ("empty", report(&empty)),
    ]
}

/// Pages over a folder of runs: those of one scenario, and the scorecard, of which some is measured.
fn over_runs() -> Vec<(&'static str, String)> {
    let out = tempfile::tempdir().expect("a folder");
    let pages = out.path().join("scorecard");
    std::fs::create_dir_all(&pages).expect("a folder");
    let none = scorecard::of(out.path()).expect("a folder");
    let none = render::scorecard::render(&none, &pages).expect("a page");
    for second in 0..3 {
        let mut run = support::run();
        run.id = format!("20261122T19340{second}Z-42");
        for (name, peak_mib) in [("million-switch", 204.5), ("exclusive-control", 359.25)] {
            let mut scenario = run.scenarios[0].clone();
            scenario.name = name.into();
            let reached = if name == "million-switch" {
                1_200_000.0
            } else {
                41.0
            };
            scenario.figures.insert("sessions_reached".into(), reached);
            scenario.figures.insert("service_peak_mib".into(), peak_mib);
            let pressed = 3.25 + f64::from(second);
            let figures = &mut scenario.figures;
            figures.insert("switch_p99_ms.pressed".into(), pressed);
            figures.insert("switch_p99_us".into(), 1000.0 * pressed);
            run.scenarios.push(scenario);
        }
        run.scenarios.remove(0);
        write_all(&run, &out.path().join(&run.id)).expect("written");
    }
    let over = history::trend(out.path(), "million-switch", None).expect("a trend");
    let some = scorecard::of(out.path()).expect("a folder");
    assert!(some.counts().0 > 2);
    vec![
        ("trend", trend::render(&over, out.path()).expect("a page")),
        (
            "scorecard",
            render::scorecard::render(&some, &pages).expect("a page"),
        ),
        ("scorecard-none", none),
    ]
}

fn comparison() -> String {
    let (before, after) = (support::run(), support::deviated());
    let both = compare(&before, &after, 0.05);
    let reports = [Some("../run/index.html".to_owned()), None];
    side_by_side::render(&both, [&before, &after], reports).expect("a page")
}

fn sheet() -> String {
    let x: Vec<f64> = (0..600).map(f64::from).collect();
    let wave = |n: usize| {
        x.iter()
            .map(move |x| Some((x / 40.0 + n as f64).sin() + 1.0))
    };
    let line = |n| {
        Series::new(
            format!("series {n}, of a long name"),
            Role::Main,
            wave(n).collect(),
        )
    };
    let chart = |id: &str, lines: usize| {
        let series = (0..lines).map(line).collect();
        Chart::bare(
            id.into(),
            XAxis::Time,
            YAxis::Seconds,
            &x,
            series,
            "no event",
        )
        .titled("A panel", "What it is for.")
    };
    let part = |anchor: &str| Part {
        anchor: anchor.into(),
        title: anchor.to_uppercase(),
        text: "What this dashboard is for.".into(),
        groups: vec![Group {
            title: "Row".into(),
            charts: vec![
                chart(&format!("{anchor}-1"), 12),
                chart(&format!("{anchor}-2"), 0),
            ],
        }],
    };
    let parts = ["overview", "memory", "render", "simulator", "chaos"].map(part);
    let sheet = Sheet::new("Sheet".into(), "Lead.".into(), parts.into()).expect("data");
    sheet.html().expect("a page")
}

#[test]
fn every_page_is_good_to_look_at_and_to_use() {
    let mut pages = reports();
    pages.extend(over_runs());
    pages.push(("compare", comparison()));
    pages.push(("sheet", sheet()));
    browser::check("pages", &pages);
}

/// A page with one flaw, or none.
fn flawed(style: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=en><meta name=viewport content='width=device-width, initial-scale=1'>\
         <link rel=icon href='data:,'><style>a:focus{{outline:2px solid #00f}}{style}</style>\
         <body><p>Text</p><a href='#here' id=here>Link</a>{body}"
    )
}

#[test]
fn what_is_wrong_with_a_page_is_seen() {
    let Some(mut browser) = browser::start("planted flaws") else {
        return;
    };
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("page.html");
    let mut seen = |page: String, look: usize| {
        std::fs::write(&file, page).expect("written");
        browser.wrong(&file, "page", browser::LOOKS[look])
    };
    for look in 0..browser::LOOKS.len() {
        assert_eq!(seen(flawed("", ""), look), Vec::<String>::new());
    }
    let (screen, phone, paper) = (0, 2, 4);
    for (look, style, body, word) in [
        (
            screen,
            "",
            "<script>console.error('oh')</script>",
            "console: ",
        ),
        (screen, "", "<script>throw 1</script>", "threw "),
        (
            screen,
            "",
            "<script>fetch('http://127.0.0.1:9/a')</script>",
            "asks for http://127.0.0.1:9/a",
        ),
        (
            screen,
            "",
            "<img alt='' src='//127.0.0.1:9/b'>",
            "leads to //127.0.0.1:9/b",
        ),
        // Blocked, and so never sent; the attempt is told by the console.
        (
            screen,
            "</style><meta http-equiv=Content-Security-Policy content=\"connect-src 'none'\"><style>",
            "<script>fetch('http://127.0.0.1:9/c')</script>",
            "Content Security Policy",
        ),
        (screen, "p{color:#999}", "", "a contrast of 2.8"),
        (
            1,
            "body{background:#000;color:#222}a{color:#fff}a:focus{outline-color:#fff}",
            "",
            "a contrast of 1.",
        ),
        (
            screen,
            "a:focus{outline:none}",
            "",
            "does not show that it has the focus",
        ),
        (
            screen,
            "a:focus{outline-color:#eee}",
            "",
            "faint focus ring",
        ),
        (
            screen,
            "",
            "<a href='#here' style='position:fixed;left:-500px'>Away</a>",
            "not in sight",
        ),
        (
            screen,
            "",
            "<div inert><button>Held</button></div>",
            "does not reach <button> “Held”",
        ),
        (screen, "", "<button></button>", "has no name"),
        (screen, "", "<a href='#nowhere'>Gone</a>", "leads nowhere"),
        (
            screen,
            "",
            "<p id=here>Twice</p>",
            "two elements are “here”",
        ),
        (
            phone,
            "",
            "<div style='width:600px'>Wide</div>",
            "scrolls sideways",
        ),
        (paper, "body{background:#eee}", "", "paper is 238"),
        (
            paper,
            "",
            "<details><summary>More</summary>Text</details>",
            "is folded",
        ),
        (paper, "", "<button class=copy>Copy</button>", "is printed"),
        (
            paper,
            "",
            "<div class=plot><div class=uplot style='width:1084px'><canvas></canvas></div></div>",
            "is drawn 1084 pixels wide",
        ),
    ] {
        let wrong = seen(flawed(style, body), look);
        assert!(
            wrong.iter().any(|what| what.contains(word)),
            "{body}{style}: {wrong:?}"
        );
    }
}
