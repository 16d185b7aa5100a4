//! What a reservation is as a value: bytes in the books until it is dropped.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Budget, Purpose, ReserveError};

/// Bytes reserved for a purpose, given back on drop.
#[must_use = "a dropped charge is given back at once"]
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    purpose: Purpose,
    bytes: u64,
}

/// Bytes together with their charge: dropped in this order.
struct Covered<B> {
    bytes: B,
    _charge: Charge,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Covered<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

impl Charge {
    /// `bytes` of the budget, which has admitted them.
    pub(super) fn of(budget: &Arc<Budget>, purpose: Purpose, bytes: u64) -> Self {
        Self {
            budget: Arc::clone(budget),
            purpose,
            bytes,
        }
    }

    /// `bytes`, with this charge until their last clone is gone.
    pub fn cover(self, bytes: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        Bytes::from_owner(Covered {
            bytes,
            _charge: self,
        })
    }

    /// Bytes charged.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What for.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Grows (which may be refused, and then changes nothing) or gives a part back.
    pub fn resize(&mut self, bytes: u64) -> Result<(), ReserveError> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self
                .budget
                .admit_reclaiming(self.purpose, more)
                .inspect_err(|_| self.budget.count_shed())?,
            None => self.budget.release(self.purpose, self.bytes - bytes),
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Grows to `bytes`, waiting up to `wait` for room; a refusal changes nothing. Never shrinks.
    pub async fn grow(&mut self, bytes: u64, wait: Duration) -> Result<(), ReserveError> {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 {
            let more = self.budget.reserve(self.purpose, more, wait).await?;
            self.merge(more);
        }
        Ok(())
    }

    /// Takes `bytes` of it (or all, if less) into a charge of its own.
    pub fn split(&mut self, bytes: u64) -> Charge {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Charge::of(&self.budget, self.purpose, bytes)
    }

    /// Adds another charge of the same budget; it takes this one's purpose.
    pub fn merge(&mut self, other: Charge) {
        debug_assert!(
            Arc::ptr_eq(&self.budget, &other.budget),
            "charges of two budgets"
        );
        let mut other = other.transfer(self.purpose);
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// The same bytes under another purpose. Never refused: nothing is allocated by it.
    pub fn transfer(mut self, purpose: Purpose) -> Charge {
        self.transfer_to(purpose);
        self
    }

    /// The same in place.
    #[inline]
    pub fn transfer_to(&mut self, purpose: Purpose) {
        if purpose != self.purpose {
            self.rebook(purpose);
        }
    }

    fn rebook(&mut self, purpose: Purpose) {
        let mut ledger = self.budget.ledger.lock();
        ledger.sub(self.purpose, self.bytes);
        ledger.add(purpose, self.bytes);
        drop(ledger);
        self.purpose = purpose;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.release(self.purpose, self.bytes);
    }
}
