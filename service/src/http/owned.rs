//! Creation and switch where each session owns its texture: as the shared path, with a load in between.

use super::Service;
use super::batch::Code;
use crate::flyweight::{LeaseError, Texture};
use crate::sessions::{NO_FLYWEIGHT, SessionError, SessionId, TenantId};
use tokio::time::Instant;

/// Why a session did not get a texture of its own.
#[derive(Debug)]
pub(super) enum Refusal {
    /// As any entry's fate.
    Entry(Code),
    /// The texture is larger than may ever be reserved: coming again does not help.
    NeverFits,
    /// It could not be loaded.
    Fault(LeaseError),
}

impl Refusal {
    /// What it is in a batch, whose codes tell no more than that there was no room.
    pub(super) fn code(&self) -> Code {
        match self {
            Refusal::Entry(code) => *code,
            Refusal::NeverFits => Code::Shed,
            Refusal::Fault(_) => Code::Internal,
        }
    }
}

/// A batch's entries one after the other, until one finds no room or the time is over: those behind it are shed untried. What was done
/// until then is done, and its entries are told so.
#[derive(Debug)]
pub(super) struct Turns {
    until: Instant,
    over: bool,
    failed: bool,
}

impl Turns {
    pub(super) fn until(until: Instant) -> Self {
        Self {
            until,
            over: false,
            failed: false,
        }
    }

    /// Does one entry's work, which must leave nothing behind when it is dropped before its end.
    pub(super) async fn take<T>(
        &mut self,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Code> {
        if self.over {
            return Err(Code::Shed);
        }
        let done = tokio::time::timeout_at(self.until, work).await;
        let refusal = match done {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(refusal)) => refusal,
            Err(_) => Code::Shed.into(),
        };
        // What could never fit says nothing of its neighbours.
        self.over = matches!(refusal, Refusal::Entry(Code::Shed));
        if let Refusal::Fault(cause) = &refusal
            && !std::mem::replace(&mut self.failed, true)
        {
            tracing::error!(%cause, "a batch has entries that failed; of the first");
        }
        Err(refusal.code())
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Refusal::Entry(code)
    }
}

impl From<SessionError> for Refusal {
    fn from(error: SessionError) -> Self {
        Refusal::Entry(error.into())
    }
}

fn refusal_of(error: LeaseError) -> Refusal {
    match &error {
        LeaseError::Unavailable(unavailable) => Code::from(*unavailable).into(),
        LeaseError::TooLarge(_) => Refusal::NeverFits,
        overload if overload.is_overload() => Code::Shed.into(),
        _ => Refusal::Fault(error),
    }
}

impl Service {
    async fn own_texture(&self, flyweight: u32) -> Result<Texture, Refusal> {
        self.flyweights
            .load_private(flyweight)
            .await
            .map_err(refusal_of)
    }

    fn keep_texture(&self, tenant: TenantId, id: SessionId, flyweight: u32, texture: Texture) {
        let Some(exclusive) = &self.exclusive else {
            return;
        };
        // Since its switch the session may have been switched again, or ended, when nobody else would free the texture.
        let still_named = || {
            let now = self.sessions.peek(id, tenant);
            now.is_ok_and(|(named, _)| named == flyweight)
        };
        exclusive.keep_if(id, flyweight, texture, still_named);
    }

    /// Loads first: a session that cannot own its texture keeps the background it has.
    pub(super) async fn switch_exclusive(
        &self,
        tenant: TenantId,
        id: SessionId,
        flyweight: u32,
    ) -> Result<(), Refusal> {
        self.sessions.peek(id, tenant)?;
        let texture = self.own_texture(flyweight).await?;
        self.sessions.switch(id, tenant, flyweight)?;
        self.keep_texture(tenant, id, flyweight, texture);
        Ok(())
    }

    /// A session with a background exists only together with its texture.
    pub(super) async fn create_exclusive(
        &self,
        tenant: TenantId,
        user: u64,
        flyweight: u32,
    ) -> Result<SessionId, Refusal> {
        if flyweight == NO_FLYWEIGHT {
            return Ok(self.create_session(tenant, user, flyweight).await?);
        }
        let texture = self.own_texture(flyweight).await?;
        let id = self.create_session(tenant, user, flyweight).await?;
        self.keep_texture(tenant, id, flyweight, texture);
        Ok(id)
    }
}
