//! What became of one entry, as both forms and a request for one session tell it.

use crate::flyweight::Unavailable;
use crate::metrics::{Label, SwitchResult};
use crate::sessions::SessionError;

/// What became of one entry; the numbers stand in the binary form, the names in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Done.
    Ok = 0,
    /// Stale, unknown, or of another tenant.
    SessionNotFound = 1,
    /// The background was never there.
    FlyweightUnknown = 2,
    /// The background was removed.
    Gone = 3,
    /// No room now.
    Shed = 4,
    /// The entry is of the wrong shape.
    BadEntry = 5,
    /// The service failed.
    Internal = 6,
}

impl Code {
    /// Every code, in the order of their numbers.
    pub const ALL: [Code; 7] = [
        Code::Ok,
        Code::SessionNotFound,
        Code::FlyweightUnknown,
        Code::Gone,
        Code::Shed,
        Code::BadEntry,
        Code::Internal,
    ];

    /// Name in JSON, the same as the metric's label.
    #[must_use]
    pub fn name(self) -> &'static str {
        SwitchResult::ALL[self as usize].name()
    }
}

impl From<SessionError> for Code {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::NotFound => Self::SessionNotFound,
            SessionError::Full | SessionError::Exhausted => Self::Shed,
            SessionError::Injected => Self::Internal,
        }
    }
}

impl From<Unavailable> for Code {
    fn from(error: Unavailable) -> Self {
        match error {
            Unavailable::Unknown => Self::FlyweightUnknown,
            Unavailable::Gone => Self::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_the_metric_name_the_same() {
        assert_eq!(Code::ALL.len(), SwitchResult::ALL.len());
        assert!(
            Code::ALL
                .iter()
                .enumerate()
                .all(|(at, code)| *code as usize == at)
        );
        let names = Code::ALL.map(Code::name);
        assert_eq!(
            names,
            [
                "ok",
                "session_not_found",
                "flyweight_unknown",
                "gone",
                "shed",
                "bad_entry",
                "internal"
            ]
        );
    }
}
