//! What a session may show after a switch of which nobody knows whether it was applied. Two bytes; knows no session.

/// A switch that timed out: its background may show up now or later.
///
/// The request may still sit in a socket of a stalled service when the next one is acknowledged, so one
/// acknowledgement does not settle it. The second one does: it was sent a whole period after the service had
/// answered on a newer connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Doubt(pub(super) u16);

impl Doubt {
    pub(super) const NONE: Doubt = Doubt(u16::MAX);
    /// Several different backgrounds are in doubt.
    const MANY: u16 = 0x7ffe;
    const SEEN_ACK: u16 = 0x8000;

    pub(super) fn add(self, background: u16) -> Self {
        match self.value() {
            None => Doubt(background),
            Some(same) if same == background => Doubt(background),
            Some(_) => Doubt(Doubt::MANY),
        }
    }

    pub(super) fn acknowledged(self) -> Self {
        if self.0 & Doubt::SEEN_ACK != 0 {
            Doubt::NONE
        } else {
            Doubt(self.0 | Doubt::SEEN_ACK)
        }
    }

    /// The doubtful background, or [`Doubt::MANY`].
    pub(super) fn value(self) -> Option<u16> {
        (self != Doubt::NONE).then_some(self.0 & !Doubt::SEEN_ACK)
    }

    pub(super) fn is_many(self) -> bool {
        self.value() == Some(Doubt::MANY)
    }
}
