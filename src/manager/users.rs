//! On whose behalf things are done, and what they may have.

use super::Manager;
use super::upload::Prepared;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::UserUsage;

impl Manager {
    /// What a user has on the platforms, and may have; the one who calls, where none is named.
    ///
    /// # Errors
    /// `InvalidRequest` when nobody is named; `Registry`.
    pub async fn quota_of(&self, user: Option<&str>) -> Result<UserUsage> {
        let user = user.map_or_else(|| self.user(), Ok)?;
        self.registry.usage_of(user, self.options.quotas.of(user)).await
    }

    /// Where there are quotas, nothing is uploaded of whom nobody knows, and nothing beyond them.
    pub(super) async fn admit_user(&self, file: &Prepared) -> Result<()> {
        if !self.options.quotas.are_set() {
            return Ok(());
        }
        let user = self.user()?;
        let limits = self.options.quotas.of(user);
        self.registry.admit(user, &file.identity.digest, file.identity.size, limits).await
    }

    /// From now on the file counts by where it is, or is on its way to.
    pub(super) async fn end_admission(&self, file: &Prepared) {
        let Some(user) = self.user().ok().filter(|_| self.options.quotas.are_set()) else { return };
        if let Err(error) = self.registry.end_admission(user, &file.identity.digest).await {
            tracing::debug!(%error, "a user's file counts a while longer than it is there");
        }
    }

    fn user(&self) -> Result<&str> {
        self.registry.audit().actor().map(|actor| actor.user.as_str()).ok_or_else(|| {
            Error::new(ErrorKind::InvalidRequest, "users have quotas here, and nobody says who calls")
                .with_hint("use `client.acting_as`, or set audit.actor")
        })
    }
}
