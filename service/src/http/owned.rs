//! Creation and switch where each session owns its texture: as the shared path, with a load in between.

use super::Service;
use super::batch::Code;
use crate::flyweight::{LeaseError, Texture};
use crate::sessions::{NO_FLYWEIGHT, SessionId, TenantId};

fn code_of(error: &LeaseError) -> Code {
    match error {
        LeaseError::Unavailable(unavailable) => (*unavailable).into(),
        LeaseError::TooLarge(_) => Code::Shed,
        overload if overload.is_overload() => Code::Shed,
        fault => {
            tracing::debug!(error = %fault, "private load failed");
            Code::Internal
        }
    }
}

impl Service {
    async fn own_texture(&self, flyweight: u32) -> Result<Texture, Code> {
        self.flyweights
            .load_private(flyweight)
            .await
            .map_err(|error| code_of(&error))
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
    ) -> Code {
        if let Err(error) = self.sessions.peek(id, tenant) {
            return error.into();
        }
        let texture = match self.own_texture(flyweight).await {
            Ok(texture) => texture,
            Err(code) => return code,
        };
        match self.sessions.switch(id, tenant, flyweight) {
            Ok(_) => {
                self.keep_texture(tenant, id, flyweight, texture);
                Code::Ok
            }
            Err(error) => error.into(),
        }
    }

    /// A session with a background exists only together with its texture.
    pub(super) async fn create_exclusive(
        &self,
        tenant: TenantId,
        user: u64,
        flyweight: u32,
    ) -> Result<SessionId, Code> {
        if flyweight == NO_FLYWEIGHT {
            return Ok(self.sessions.create(tenant, user, flyweight)?);
        }
        let texture = self.own_texture(flyweight).await?;
        let id = self.sessions.create(tenant, user, flyweight)?;
        self.keep_texture(tenant, id, flyweight, texture);
        Ok(id)
    }
}
