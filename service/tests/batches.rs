//! Batches: both forms, entry by entry, and what concerns a batch as a whole.

mod support;

use serde_json::json;
use support::*;

const NAMES: [&str; 7] = [
    "ok",
    "session_not_found",
    "flyweight_unknown",
    "gone",
    "shed",
    "bad_entry",
    "internal",
];

struct Stage {
    _dir: tempfile::TempDir,
    service: Service,
    client: Client,
    epoch: u64,
    sessions: Vec<u64>,
}

/// Two live backgrounds (indices 0 and 1), a removed one (2), and some sessions.
fn stage(sessions: usize) -> Stage {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let mut client = service.client();
    for (at, id) in ["a", "b", "c"].iter().enumerate() {
        let uploaded = client
            .put(&format!("/v1/backgrounds/{id}"), png(8, 8, [at as u8; 3]))
            .ok()
            .json();
        assert_eq!(uploaded["flyweight"], json!(at));
    }
    client.send("DELETE", "/v1/backgrounds/c", &[], b"").ok();
    let made = client
        .post(
            "/v1/sessions:batchCreate",
            json!({"count": sessions, "background": "a"}),
        )
        .ok()
        .json();
    let ids: Vec<u64> = made["sessions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(from_hex)
        .collect();
    assert_eq!(ids.len(), sessions);
    let epoch = made["epoch"]
        .as_str()
        .and_then(|epoch| epoch.parse().ok())
        .expect("an epoch");
    Stage {
        _dir: dir,
        service,
        client,
        epoch,
        sessions: ids,
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[test]
fn one_bad_entry_never_fails_its_neighbours_and_both_forms_agree() {
    let Stage {
        service,
        mut client,
        epoch,
        sessions,
        _dir,
    } = stage(4);
    let deleted = sessions[3];
    client
        .send(
            "DELETE",
            &format!("/v1/sessions/{}", hex(deleted)),
            &[],
            b"",
        )
        .ok();
    let wanted = [
        (sessions[0], 1, 0),
        (0, 1, 1),
        (deleted, 1, 1),
        (sessions[1], 77, 2),
        (sessions[1], u32::MAX, 2),
        (sessions[1], 2, 3),
        (sessions[2], 0, 0),
    ];
    let records: Vec<_> = wanted
        .iter()
        .map(|(session, flyweight, _)| switch_record(*session, *flyweight))
        .collect();
    let answer = client
        .binary("/v1/sessions:batchSwitch", &batch(1, epoch, &records))
        .ok();
    assert_eq!(answer.header("content-type"), BINARY);
    assert_eq!(
        (&answer.body[..8], u64_at(&answer.body, 8)),
        (&b"BKDP\x01\x81\0\0"[..], epoch)
    );
    let codes: Vec<u8> = wanted.iter().map(|(_, _, code)| *code).collect();
    assert_eq!(&answer.body[16..], codes);

    let entries: Vec<_> = wanted
        .iter()
        .map(|(session, flyweight, _)| json!({"session": hex(*session), "flyweight": flyweight}))
        .collect();
    let body = json!({"epoch": epoch.to_string(), "switches": entries});
    let answer = client.post("/v1/sessions:batchSwitch", body).ok().json();
    let names: Vec<&str> = codes.iter().map(|code| NAMES[usize::from(*code)]).collect();
    assert_eq!(
        (&answer["codes"], &answer["applied"]),
        (&json!(names), &json!(2))
    );

    let mixed = json!({"switches": [
        {"session": hex(sessions[0]), "background": "b"}, 5, {"session": "zz", "background": "b"}, {"session": hex(sessions[1])},
        {"session": hex(sessions[1]), "background": "nowhere"}, {"session": hex(sessions[1]), "background": "b"}]});
    let answer = client.post("/v1/sessions:batchSwitch", mixed).ok().json();
    let expected = [
        "ok",
        "bad_entry",
        "bad_entry",
        "bad_entry",
        "flyweight_unknown",
        "ok",
    ];
    assert_eq!(answer["codes"], json!(expected));
    assert_eq!(
        service.metric("backdrop_switches_total{result=\"ok\"}"),
        6.0
    );
    assert_eq!(
        service.metric("backdrop_switches_total{result=\"bad_entry\"}"),
        3.0
    );
}

#[test]
fn reads_agree_in_both_forms_and_show_every_acknowledged_switch() {
    let Stage {
        mut client,
        epoch,
        sessions,
        service: _service,
        _dir,
    } = stage(3);
    let records: Vec<_> = sessions[..2]
        .iter()
        .map(|session| switch_record(*session, 1))
        .collect();
    client
        .binary("/v1/sessions:batchSwitch", &batch(1, epoch, &records))
        .ok();
    let asked = [sessions[0], sessions[1], sessions[2], 12345];
    let records: Vec<_> = asked
        .iter()
        .map(|session| session.to_le_bytes().to_vec())
        .collect();
    // Reading ignores the epoch of the request and gives the present one.
    let answer = client
        .binary("/v1/sessions:batchRead", &batch(2, 0, &records))
        .ok()
        .body;
    assert_eq!((answer[5], u64_at(&answer, 8)), (0x82, epoch));
    let rows: Vec<[u32; 4]> = answer[16..]
        .chunks_exact(16)
        .map(|row| std::array::from_fn(|at| u32_at(row, at * 4)))
        .collect();
    assert_eq!(
        rows,
        [
            [0, 1, 1, 1],
            [0, 1, 1, 1],
            [0, 0, 1, 0],
            [1, u32::MAX, 0, 0]
        ]
    );

    let ids: Vec<_> = asked
        .iter()
        .map(|session| hex(*session))
        .chain(["nonsense".to_owned()])
        .collect();
    let entries = client
        .post("/v1/sessions:batchRead", json!({"sessions": ids}))
        .ok()
        .json()["entries"]
        .clone();
    assert_eq!(
        entries[0],
        json!({"code": "ok", "session": hex(asked[0]), "background": "b", "flyweight": 1, "version": 1, "switches": 1})
    );
    assert_eq!(
        (&entries[2]["background"], &entries[2]["switches"]),
        (&json!("a"), &json!(0))
    );
    assert_eq!(
        (&entries[3]["code"], &entries[4]["code"]),
        (&json!("session_not_found"), &json!("bad_entry"))
    );
}

#[test]
fn creates_and_deletes_in_both_forms() {
    let Stage {
        service,
        mut client,
        epoch,
        sessions,
        _dir,
    } = stage(2);
    let record = |user: u32, flyweight: u32| [user.to_le_bytes(), flyweight.to_le_bytes()].concat();
    let records = [
        record(1, 0),
        record(2, u32::MAX),
        record(3, 99),
        record(4, 2),
    ];
    let answer = client
        .binary("/v1/sessions:batchCreate", &batch(3, epoch, &records))
        .ok()
        .body;
    let rows: Vec<(u64, u32)> = answer[16..]
        .chunks_exact(12)
        .map(|row| (u64_at(row, 0), u32_at(row, 8)))
        .collect();
    assert!(rows[0].0 != 0 && rows[1].0 != 0);
    assert_eq!(
        rows.iter().map(|row| row.1).collect::<Vec<_>>(),
        [0, 0, 2, 3]
    );
    assert_eq!((rows[2].0, rows[3].0), (0, 0));
    let made = client
        .get(&format!("/v1/sessions/{}", hex(rows[1].0)))
        .ok()
        .json();
    // Later than this was written, whatever the clock says.
    assert!(
        made["changed_unix_s"].as_u64() > Some(1_700_000_000),
        "{made}"
    );
    assert_eq!(
        (&made["user"], &made["flyweight"]),
        (&json!(2), &json!(null))
    );

    let body = json!({"sessions": [{"user": 9, "background": "b"}, {"background": "nowhere"}, 4]});
    let answer = client.post("/v1/sessions:batchCreate", body).ok().json();
    assert_eq!(
        answer["codes"],
        json!(["ok", "flyweight_unknown", "bad_entry"])
    );
    assert_eq!(answer["sessions"][1], json!(null));
    assert_eq!(service.metric("backdrop_sessions"), 5.0);

    let records: Vec<_> = [rows[0].0, rows[0].0, sessions[0]]
        .iter()
        .map(|id| id.to_le_bytes().to_vec())
        .collect();
    let answer = client
        .binary("/v1/sessions:batchDelete", &batch(4, 0, &records))
        .ok()
        .body;
    assert_eq!(&answer[16..], [0, 1, 0]);
    let answer = client.post(
        "/v1/sessions:batchDelete",
        json!({"sessions": [hex(sessions[0]), hex(sessions[1])]}),
    );
    assert_eq!(
        answer.ok().json()["codes"],
        json!(["session_not_found", "ok"])
    );
    assert_eq!(service.metric("backdrop_sessions"), 2.0);
}

#[test]
fn a_stale_epoch_is_refused_whole_and_names_the_present_one() {
    let Stage {
        mut client,
        epoch,
        sessions,
        service: _service,
        _dir,
    } = stage(1);
    let stale = client.binary(
        "/v1/sessions:batchSwitch",
        &batch(1, epoch ^ 1, &[switch_record(sessions[0], 1)]),
    );
    stale.is_problem(409, "stale_epoch");
    assert_eq!(stale.json()["epoch"], json!(epoch.to_string()));
    let entry = json!({"session": hex(sessions[0]), "flyweight": 1});
    client
        .post(
            "/v1/sessions:batchSwitch",
            json!({"epoch": "1", "switches": [entry]}),
        )
        .is_problem(409, "stale_epoch");
    client
        .binary("/v1/sessions:batchCreate", &batch(3, 0, &[vec![0; 8]]))
        .is_problem(409, "stale_epoch");
    let session = client
        .get(&format!("/v1/sessions/{}", hex(sessions[0])))
        .ok()
        .json();
    assert_eq!(
        (&session["background"], &session["switches"]),
        (&json!("a"), &json!(0))
    );
}

#[test]
fn malformed_and_oversize_batches_are_refused_whole() {
    let dir = scratch();
    let service = Service::start(dir.path(), &["--batch-entries-max", "4"]);
    let mut client = service.client();
    let switch = "/v1/sessions:batchSwitch";
    client.binary(switch, b"BKDP").is_problem(400, "bad_batch");
    client
        .binary(switch, &batch(2, 0, &[]))
        .is_problem(400, "bad_batch");
    client
        .binary(switch, &batch(1, 0, &[vec![0; 13]]))
        .is_problem(400, "bad_batch");
    client
        .binary(switch, &batch(1, 0, &vec![vec![0; 12]; 5]))
        .is_problem(413, "batch_too_large");
    client
        .post(switch, json!({"switches": [1, 2, 3, 4, 5]}))
        .is_problem(413, "batch_too_large");
    client.post(switch, "{}").is_problem(400, "bad_batch");
    let create = "/v1/sessions:batchCreate";
    let both = json!({"count": 4, "sessions": [{}, {}, {}, {}]});
    client.post(create, both).is_problem(400, "bad_batch");
    let misspelt = json!({"count": 1, "backgruond": "a"});
    client.post(create, misspelt).is_problem(400, "bad_batch");
    assert_eq!(service.metric("backdrop_sessions"), 0.0);
    client
        .post("/v1/sessions:batchCreate", json!({"count": 5}))
        .is_problem(413, "batch_too_large");
    client
        .send("POST", switch, &[("content-type", "text/plain")], b"x")
        .is_problem(415, "unsupported_media");
}

#[test]
fn the_table_of_sessions_is_bounded() {
    let dir = scratch();
    let service = Service::start(dir.path(), &["--sessions-max", "3"]);
    let mut client = service.client();
    let made = client
        .post("/v1/sessions:batchCreate", json!({"count": 5}))
        .ok()
        .json();
    assert_eq!(made["codes"], json!(["ok", "ok", "ok", "shed", "shed"]));
    let refused = client.post("/v1/sessions", json!({}));
    refused.is_problem(503, "sessions_full");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(
        service.metric("backdrop_shed_total{reason=\"budget\"}"),
        1.0
    );
}
