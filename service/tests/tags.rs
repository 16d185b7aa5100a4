//! Tags of a background: given with an upload, shown with what is known of it, kept over a restart.

mod support;

use serde_json::json;
use support::*;

#[test]
fn tags_are_given_shown_replaced_and_kept() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let mut client = service.client();
    let file = png(16, 16, [1, 2, 3]);
    let made = client
        .put("/v1/backgrounds/beach?tag=warm&tag=evening&tag=warm", &file)
        .ok()
        .json();
    assert_eq!(made["tags"], json!(["evening", "warm"]));
    let plain = client.put("/v1/backgrounds/plain", &file).ok().json();
    assert_eq!(plain["tags"], json!([]));
    client.put("/v1/backgrounds/office?tag=old", &file).ok();
    let replaced = client
        .put("/v1/backgrounds/office?tag=new", png(16, 16, [9; 3]))
        .ok()
        .json();
    assert_eq!(
        (&replaced["version"], &replaced["tags"]),
        (&json!(2), &json!(["new"]))
    );
    service.kill();

    let service = Service::start(dir.path(), &[]);
    let page = service.client().get("/v1/backgrounds").ok().json();
    let rows = page["backgrounds"].as_array().expect("a list");
    let tags: Vec<_> = rows.iter().map(|row| (&row["id"], &row["tags"])).collect();
    let (beach, office, plain) = (json!("beach"), json!("office"), json!("plain"));
    let (warm, new, none) = (json!(["evening", "warm"]), json!(["new"]), json!([]));
    assert_eq!(tags, [(&beach, &warm), (&office, &new), (&plain, &none)]);
}

#[test]
fn tags_are_bounded_in_form_length_and_number() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let file = png(16, 16, [1; 3]);
    let many: Vec<String> = (0..9).map(|number| format!("tag=t{number}")).collect();
    let long = format!("tag={}", "x".repeat(33));
    for bad in ["tag=", "tag=Warm", "tag=a%20b", &long, &many.join("&")] {
        let path = format!("/v1/backgrounds/beach?{bad}");
        // Refused from its head alone, with the body unread: the connection is closed.
        service
            .client()
            .put(&path, &file)
            .is_problem(400, "bad_request");
    }
    let mut client = service.client();
    assert_eq!(
        client.get("/v1/backgrounds/beach").status,
        404,
        "none was kept"
    );
    let path = format!("/v1/backgrounds/beach?{}", many[..8].join("&"));
    let made = client.put(&path, &file).ok().json();
    assert_eq!(made["tags"].as_array().map(Vec::len), Some(8));
}
