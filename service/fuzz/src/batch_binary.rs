//! A batch in the compact form: what is accepted is exactly what its entries are written as.

use backdrop_service::http::batch::{Operation, binary};

const OPERATIONS: [Operation; 4] = [
    Operation::Switch,
    Operation::Read,
    Operation::Create,
    Operation::Delete,
];
const ENTRIES_MAX: usize = 100;

/// Whether some operation accepts it.
///
/// # Panics
/// Where a promise is broken.
pub fn check(body: &[u8]) -> bool {
    // The operation stands in the header: it is one of them at most.
    let accepted = OPERATIONS.iter().filter(|&&of| check_as(body, of)).count();
    assert!(accepted <= 1);
    accepted == 1
}

fn check_as(body: &[u8], operation: Operation) -> bool {
    let Ok(batch) = binary::parse(body, operation, ENTRIES_MAX) else {
        return false;
    };
    let entries = batch.len(operation);
    assert!(entries <= ENTRIES_MAX);
    let mut again = b"BKDP\x01".to_vec();
    again.extend([operation as u8, 0, 0]);
    again.extend(batch.epoch.to_le_bytes());
    match operation {
        Operation::Switch => batch.switches().for_each(|(session, flyweight)| {
            again.extend(session.to_le_bytes());
            again.extend(flyweight.to_le_bytes());
        }),
        Operation::Create => batch.creations().for_each(|(user, flyweight)| {
            again.extend(user.to_le_bytes());
            again.extend(flyweight.to_le_bytes());
        }),
        Operation::Read | Operation::Delete => {
            batch
                .sessions()
                .for_each(|session| again.extend(session.to_le_bytes()));
        }
    }
    assert_eq!(again, body);
    let answer = binary::answer(operation, batch.epoch, entries);
    let most = binary::answer_bytes(operation, entries);
    assert!(answer.capacity() >= most, "an answer never grows");
    true
}
