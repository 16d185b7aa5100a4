//! Batches as people write them: whole, with bad entries, too long, mutated.

use super::*;
use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, prop_assert_eq};
use proptest::sample::Index;

#[test]
fn one_bad_entry_leaves_its_neighbours_alone() {
    let body = br#"{"epoch":"12","switches":[
        {"session":"00000001000000ff","background":"beach"},
        {"session":5,"background":"beach"}, 7, null, [1,{"a":2}], "x",
        {"session":"00000001000000fe","flyweight":3},
        {"session":"0000000100\u0030000fd","flyweight":4294967296},
        {"session":"00000001000000fe","flyweight":3,"extra":{"deep":[1]}},
        {"session":"00000001000000fe","flyweight":3,"extra":null},
        {"session":"00000001000000fe","flyweight":3,"user":7}]}"#;
    let batch = parse(body, Operation::Switch, 11).expect("well-formed");
    assert_eq!(batch.epoch, Some(12));
    let entries = batch.entries.expect("listed");
    let bad: Vec<bool> = entries.iter().map(|entry| entry.bad).collect();
    assert_eq!(
        bad,
        [
            false, true, true, true, true, true, false, true, true, true, true
        ]
    );
    assert_eq!(entries[0].target, Target::Name("beach".into()));
    assert_eq!(
        (entries[6].session, &entries[6].target),
        (Some(0x1_0000_00fe), &Target::Index(3))
    );
    assert_eq!(entries[7].session, Some(0x1_0000_00fd));
}

#[test]
fn names_borrow_from_the_body() {
    let batch = parse(
        br#"{"switches":[{"background":"beach"}]}"#,
        Operation::Switch,
        1,
    )
    .expect("well-formed");
    let entries = batch.entries.expect("listed");
    assert!(matches!(
        entries[0].target,
        Target::Name(Cow::Borrowed("beach"))
    ));
}

#[test]
fn the_longest_answers_fit_what_is_reserved_for_them() {
    let longest = Code::ALL.map(|code| code.name().len());
    assert_eq!(
        longest.into_iter().max().map(|name| name + 3),
        Some(CODE_BYTES)
    );
    let id = "x".repeat(64);
    let number = u32::MAX;
    let read = format!(
        r#",{{"code":"session_not_found","session":"{:016x}","background":"{id}","flyweight":{number},"version":{number},"switches":{number}}}"#,
        u64::MAX
    );
    assert!(read.len() <= entry_bytes_max(Operation::Read));
    let mut out = open(u64::MAX, Operation::Switch, 9);
    out.extend_from_slice(format!(",\"applied\":{},\"sessions\":[]", u64::MAX).as_bytes());
    let capacity = out.capacity();
    close_with_codes(&mut out, &[Code::FlyweightUnknown; 9]);
    assert!(out.len() <= capacity && capacity < answer_bytes_max(Operation::Switch, 9));
}

#[test]
fn a_list_never_grows_and_stays_within_what_is_reserved_for_it() {
    for (entry, count) in [
        ("1", 5000),
        (r#"{"session":"00000001000000ff","flyweight":1}"#, 5000),
    ] {
        let list = vec![entry; count].join(",");
        let body = format!(r#"{{"switches":[{list}]}}"#);
        for entries_max in [count, 10 * count] {
            let batch = parse(body.as_bytes(), Operation::Switch, entries_max);
            let entries = batch.expect("well-formed").entries.expect("listed");
            assert_eq!(entries.len(), count);
            assert_eq!(
                entries.capacity(),
                entries_within(body.as_bytes(), entries_max)
            );
            let taken = entries.capacity() * size_of::<Entry<'_>>();
            assert!(taken <= 32 * body.len(), "{taken}");
        }
    }
    assert_eq!(escaped_bytes_max(br#"{"epoch":"1"}"#), 0);
    assert!(escaped_bytes_max(br#"{"epoch":"\u0031"}"#) > 3 * 18);
}

#[test]
fn a_long_text_with_escapes_is_not_copied() {
    let long = "x".repeat(COPIED_BYTES_MAX);
    let body = format!(r#"{{"switches":[{{"background":"\u0061{long}"}}]}}"#);
    let batch = parse(body.as_bytes(), Operation::Switch, 1).expect("well-formed");
    assert!(batch.entries.expect("listed")[0].bad);
}

#[test]
fn an_entry_stays_small() {
    assert!(size_of::<Entry<'_>>() <= 64);
}

#[test]
fn reads_lists_of_ids_and_counts() {
    let batch = parse(
        br#"{"sessions":["00000001000000ff","nope"]}"#,
        Operation::Read,
        2,
    )
    .expect("well-formed");
    let entries = batch.entries.expect("listed");
    assert_eq!(
        (entries[0].session, entries[1].bad),
        (Some(0x1_0000_00ff), true)
    );
    let batch =
        parse(br#"{"count":5,"background":"a"}"#, Operation::Create, 5).expect("well-formed");
    assert_eq!(
        (batch.count, batch.target),
        (Some(5), Target::Name("a".into()))
    );
}

#[test]
fn an_entry_has_its_operations_keys_and_no_others() {
    for (operation, entry, bad) in [
        (Operation::Create, r#"{"user":1,"background":"a"}"#, false),
        (Operation::Create, r#"{"session":"00000001000000ff"}"#, true),
        (Operation::Create, r#""00000001000000ff""#, true),
        (Operation::Read, r#"{"session":"00000001000000ff"}"#, false),
        (
            Operation::Delete,
            r#"{"session":"00000001000000ff","flyweight":1}"#,
            true,
        ),
    ] {
        let body = format!(r#"{{"sessions":[{entry}]}}"#);
        let batch = parse(body.as_bytes(), operation, 1).expect("well-formed");
        assert_eq!(batch.entries.expect("listed")[0].bad, bad, "{entry}");
    }
}

#[test]
fn what_would_be_dropped_is_refused_and_what_is_known_is_named() {
    let detail = |body: &str, operation| {
        let problem = parse(body.as_bytes(), operation, 2).expect_err("refused");
        assert_eq!(problem.kind(), Kind::BadBatch, "{body}");
        problem.detail().to_owned()
    };
    let unknown = detail(r#"{"switches":[],"count":1}"#, Operation::Switch);
    assert!(unknown.contains("none of switches, epoch"), "{unknown}");
    let unknown = detail(r#"{"cuont":1,"sessions":[]}"#, Operation::Create);
    assert!(unknown.contains("count, background"), "{unknown}");
    // Each alone is within the bounds, their sum is not.
    let both = detail(r#"{"count":2,"sessions":[{},{}]}"#, Operation::Create);
    assert!(both.contains("either count or"), "{both}");
    let nobodys = detail(r#"{"background":"a","sessions":[{}]}"#, Operation::Create);
    assert!(nobodys.contains("nobody's"), "{nobodys}");
}

#[test]
fn refuses_what_is_not_a_batch() {
    let kind = |body: &str, operation| {
        parse(body.as_bytes(), operation, 2)
            .err()
            .map(|problem| problem.kind())
    };
    for body in [
        "",
        "[]",
        "{",
        "{}",
        r#"{"switches":5}"#,
        r#"{"switches":[]} x"#,
        r#"{"epoch":{},"switches":[]}"#,
        r#"{"switches":[],"switches":[]}"#,
    ] {
        assert_eq!(
            kind(body, Operation::Switch),
            Some(Kind::BadBatch),
            "{body}"
        );
    }
    assert_eq!(
        kind(r#"{"switches":[1,2,3]}"#, Operation::Switch),
        Some(Kind::BatchTooLarge)
    );
    assert_eq!(
        kind(r#"{"count":3}"#, Operation::Create),
        Some(Kind::BatchTooLarge)
    );
}

/// A body of switches, by index or, without one, by name.
fn switches(entries: &[(u64, Option<u32>)]) -> Vec<u8> {
    let entry = |(id, index): &(u64, Option<u32>)| match index {
        Some(index) => format!(r#"{{"session":"{id:016x}","flyweight":{index}}}"#),
        None => format!(r#"{{"session":"{id:016x}","background":"be\u0061ch"}}"#),
    };
    let entries: Vec<String> = entries.iter().map(entry).collect();
    format!(r#"{{"epoch":"7","switches":[{}]}}"#, entries.join(",")).into_bytes()
}

proptest::proptest! {
    /// Bodies that are whole or nearly so: random text does not get past the first brace.
    #[test]
    fn a_mutated_body_is_read_within_its_bounds_or_refused(
        entries in vec((any::<u64>(), proptest::option::of(any::<u32>())), 0..12),
        mutations in vec((any::<Index>(), any::<u8>()), 0..3),
    ) {
        let whole = switches(&entries);
        let mut mutated = whole.clone();
        for (at, byte) in mutations {
            let at = at.index(mutated.len());
            mutated[at] = byte;
        }
        match parse(&mutated, Operation::Switch, 8) {
            Ok(batch) => {
                prop_assert!(batch.answers() <= 8);
                if mutated == whole {
                    let read = batch.entries.expect("listed");
                    let ids: Vec<_> = read.iter().map(|entry| entry.session).collect();
                    let sent: Vec<_> = entries.iter().map(|(id, _)| Some(*id)).collect();
                    prop_assert_eq!(ids, sent);
                }
            }
            Err(_) => prop_assert!(entries.len() > 8 || mutated != whole),
        }
    }
}
