//! A batch in JSON: what is accepted is JSON, lists no more than is allowed, and took no more than was reserved to read it.

use backdrop_service::http::batch::{Operation, json};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::peak;

const OPERATIONS: [Operation; 4] = [
    Operation::Switch,
    Operation::Read,
    Operation::Create,
    Operation::Delete,
];
const ENTRIES_MAX: usize = 100;

/// The text of an error, and what the parser keeps for itself.
const FIXED_BYTES: u64 = 64 * 1024;

/// The lists of a body as another reader sees them.
#[derive(Deserialize)]
struct Lists {
    switches: Option<Vec<IgnoredAny>>,
    sessions: Option<Vec<IgnoredAny>>,
}

/// Whether some operation accepts it.
///
/// # Panics
/// Where a promise is broken.
pub fn check(body: &[u8]) -> bool {
    let accepted = OPERATIONS.iter().filter(|&&of| check_as(body, of)).count();
    accepted > 0
}

fn check_as(body: &[u8], operation: Operation) -> bool {
    let entry_bytes = size_of::<json::Entry<'_>>() as u64;
    let reserved = ENTRIES_MAX as u64 * entry_bytes + json::escaped_bytes_max(body);
    peak::reset();
    let parsed = json::parse(body, operation, ENTRIES_MAX);
    let peak = peak::bytes();
    assert!(
        peak <= reserved + FIXED_BYTES + peak::GRAIN,
        "took {peak} bytes of {reserved}"
    );
    let Ok(batch) = parsed else { return false };
    assert!(batch.answers() <= ENTRIES_MAX);
    let lists: Lists = serde_json::from_slice(body).expect("what is accepted is JSON");
    let list = match operation {
        Operation::Switch => lists.switches,
        _ => lists.sessions,
    };
    let listed = batch.entries.as_ref().map(Vec::len);
    assert_eq!(listed, list.map(|list| list.len()), "{operation:?}");
    true
}
