//! Order of the sources, and what is refused.

use super::units::ByteSize;
use super::*;
use parking_lot::Mutex;
use std::io::Write;
use std::sync::Arc;

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

/// What is written there can be read by who made it.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a configuration logs of itself, one JSON object a line.
fn log_of(config: &Config) -> String {
    let written = Shared::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || config.show());
    String::from_utf8(written.0.lock().clone()).expect("text")
}

#[test]
fn settings_are_logged_as_fields_with_their_units() {
    let mut config = Config {
        sessions_max: 9,
        memory_limit: Some(512 << 20),
        ..Config::default()
    };
    config.http.reserve_wait = std::time::Duration::from_millis(125);
    let fields_of = |config: &Config| {
        let mut all = serde_json::Map::new();
        for line in log_of(config).lines() {
            let event: serde_json::Value = serde_json::from_str(line).expect("json");
            all.extend(event["fields"].as_object().expect("fields").clone());
        }
        all
    };
    let fields = fields_of(&config);
    for (name, value) in [
        ("listen", serde_json::json!("127.0.0.1:7080")),
        ("archive", serde_json::json!(".data/archive")),
        ("sessions_max", serde_json::json!(9)),
        ("memory_limit_bytes", serde_json::json!(512 << 20)),
        ("sharing", serde_json::json!("flyweight")),
        ("admin_anywhere", serde_json::json!(false)),
        ("reserve_wait_ms", serde_json::json!(125)),
        ("body_timeout_ms", serde_json::json!(30_000)),
    ] {
        assert_eq!(fields.get(name), Some(&value), "{name}");
    }
    let auto = fields_of(&Config::default());
    assert!(!auto.contains_key("memory_limit_bytes"));
}

#[test]
fn flags_stand_over_the_file_and_the_file_over_defaults() {
    let file = file(
        "sessions-max = 7\nthreads = 3\nbody-bytes-max = \"1MiB\"\nsharing = \"exclusive\"\neviction = \"lrfu\"",
    );
    let flags = Raw {
        config: Some(file.path().to_owned()),
        sessions_max: Some(9),
        ..Raw::default()
    };
    let config = Config::resolve(flags).expect("valid");
    assert_eq!((config.sessions_max, config.threads), (9, 3));
    assert_eq!(
        (config.http.body_bytes_max, config.sharing),
        (1 << 20, Sharing::Exclusive)
    );
    assert_eq!(config.eviction, Eviction::Lrfu);
    assert_eq!(config.flyweights().eviction, Eviction::Lrfu);
    assert_eq!(Config::default().eviction, Eviction::Lru);
    assert_eq!(config.backgrounds_max, Config::default().backgrounds_max);
}

#[test]
fn the_wait_for_reservations_reaches_every_part_that_reserves() {
    let of = |reserve_wait| {
        let raw = Raw {
            reserve_wait,
            ..Raw::default()
        };
        let config = Config::resolve(raw).expect("valid");
        [
            config.http.reserve_wait,
            config.frames().reserve_wait,
            config.flyweights().reserve_wait,
        ]
        .map(|wait| wait.as_millis())
    };
    assert_eq!(of(None), [250, 250, 1000]);
    assert_eq!(of(Some("40ms".parse().expect("a time"))), [40, 40, 160]);
    assert_eq!(of(Some("0".parse().expect("a time"))), [0, 0, 0]);
}

#[test]
fn how_often_memory_is_looked_at_is_part_of_what_is_promised() {
    let of = |interval: &str| {
        let raw = Raw {
            memory_sample_interval: Some(interval.parse().expect("a time")),
            ..Raw::default()
        };
        Config::resolve(raw)
    };
    let usual = Config::default().memory();
    assert_eq!(of("10ms").expect("valid").memory(), usual);
    let times = |interval: &str| {
        let memory = of(interval).expect("valid").memory();
        (memory.fast.as_millis(), memory.slow.as_millis())
    };
    assert_eq!(times("1ms"), (1, 25));
    assert_eq!(times("250ms"), (250, 250), "never the slower one faster");
    let rate = |memory: MemoryConfig| memory.reaction_bound(1 << 30).at_rest.rate_bytes_per_second;
    assert!(rate(of("250ms").expect("valid").memory()) < rate(usual) / 4.0);
    for interval in ["999us", "1001ms"] {
        let refused = of(interval).expect_err("refused").to_string();
        assert!(refused.contains("between 1 ms and 1 s"), "{refused}");
        assert!(refused.contains("memory-sample-interval"), "{refused}");
    }
}

#[test]
fn a_number_out_of_bounds_is_named_with_its_value_and_what_it_may_be() {
    for (raw, text) in [
        (
            Raw {
                render_threads: Some(0),
                ..Raw::default()
            },
            "render-threads is 0, and must lie between 1 and 1024; change it",
        ),
        (
            Raw {
                access_record: Some(2 << 30),
                ..Raw::default()
            },
            "access-record is 2147483648, and must lie between 0 and 1073741824; change it",
        ),
        (
            Raw {
                image_pixels_max: Some(1_000_000_001),
                ..Raw::default()
            },
            "image-pixels-max is 1000000001, and must lie between 1 and 1000000000; change it",
        ),
        (
            Raw {
                sessions_max: Some(0),
                ..Raw::default()
            },
            "sessions-max is 0, and must lie between 1 and",
        ),
    ] {
        let refused = Config::resolve(raw).expect_err("refused").to_string();
        assert!(refused.starts_with(text), "{refused}");
    }
}

#[test]
fn a_bad_setting_names_cause_and_mend() {
    let refused = |raw: Raw| Config::resolve(raw).expect_err("refused").to_string();
    let unknown = file("no-such = 1");
    assert!(
        refused(Raw {
            config: Some(unknown.path().to_owned()),
            ..Raw::default()
        })
        .contains("no-such")
    );
    assert!(
        refused(Raw {
            sharing: Some("both".into()),
            ..Raw::default()
        })
        .contains("flyweight, exclusive")
    );
    assert!(
        refused(Raw {
            eviction: Some("fifo".into()),
            ..Raw::default()
        })
        .contains("lru, lrfu")
    );
    assert!(
        refused(Raw {
            sessions_max: Some(0),
            ..Raw::default()
        })
        .contains("sessions-max")
    );
    assert!(
        refused(Raw {
            body_bytes_max: Some(ByteSize(0)),
            ..Raw::default()
        })
        .contains("body-bytes-max")
    );
    let open = Raw {
        listen: Some("0.0.0.0:0".parse().expect("an address")),
        ..Raw::default()
    };
    assert!(refused(open).contains("--tokens-file"));
}

#[test]
fn tokens_come_from_both_places_and_never_show() {
    let file = file("[[token]]\nsecret = \"hush\"\ntenant = \"acme\"\nroles = [\"catalogue\"]");
    let raw = Raw {
        tokens_file: Some(file.path().to_owned()),
        tokens: Some("quiet=beta, still=gamma:catalogue+catalogue".into()),
        listen: Some("0.0.0.0:0".parse().expect("an address")),
        ..Raw::default()
    };
    let config = Config::resolve(raw).expect("valid");
    let roles: Vec<_> = config
        .tokens
        .iter()
        .map(|token| (token.tenant.as_str(), token.roles.len()))
        .collect();
    assert_eq!(roles, [("beta", 0), ("gamma", 2), ("acme", 1)]);
    let shown = log_of(&config) + &format!("{config:?}");
    assert!(shown.contains("beta,gamma,acme"), "{shown}");
    assert!(
        ["hush", "quiet", "still"]
            .iter()
            .all(|secret| !shown.contains(secret))
    );
}

#[test]
fn an_empty_source_of_tokens_is_refused_and_not_taken_for_none() {
    assert!(tokens_in(file("").path()).is_err());
    assert!(tokens_of(" , ").is_err());
}

#[test]
fn errors_about_tokens_do_not_quote_them() {
    for text in ["hush", "hush=:catalogue", "hush=acme:wizard"] {
        let error = tokens_of(text).expect_err("refused").to_string();
        assert!(!error.contains("hush"), "{error}");
    }
    let broken = file("[[token]]\nsecret = \"hush\ntenant = 1");
    assert!(
        !tokens_in(broken.path())
            .expect_err("refused")
            .to_string()
            .contains("hush")
    );
}

#[test]
fn the_admin_listener_stays_on_loopback_unless_that_is_said() {
    let anywhere = |admin: &str, allowed| Raw {
        admin: Some(admin.parse().expect("an address")),
        admin_anywhere: allowed,
        ..Raw::default()
    };
    let error = Config::resolve(anywhere("0.0.0.0:7081", None)).expect_err("refused");
    assert!(error.to_string().contains("--admin-anywhere"), "{error}");
    for (admin, allowed) in [
        ("0.0.0.0:7081", Some(true)),
        ("127.0.0.1:1", None),
        ("[::1]:1", None),
    ] {
        assert!(Config::resolve(anywhere(admin, allowed)).is_ok(), "{admin}");
    }
}
