//! How platforms have been lately, and what an operator does about it.

use serde::Serialize;

use super::Manager;
use crate::error::Result;
use crate::model::{AccountId, Operation, PlatformId};
use crate::resilience::{AccountHealth, Mode};

/// How one platform has been, as seen from here.
#[derive(Debug, Serialize)]
pub struct PlatformHealth<'m> {
    pub platform: &'m PlatformId,
    pub account: &'m AccountId,
    #[serde(flatten)]
    pub health: AccountHealth,
}

impl Manager {
    /// Every connected platform's circuit breakers, limits and retry budget. Asks no platform.
    pub async fn health(&self) -> Vec<PlatformHealth<'_>> {
        let mut health = Vec::with_capacity(self.connections.len());
        for (platform, connections) in self.connections.iter() {
            for connection in connections {
                let account = connection.platform.account();
                health.push(PlatformHealth { platform, account, health: connection.resilience.health().await });
            }
        }
        health
    }

    /// Sets what an operator wants of a platform's breaker, of all accounts, for one operation, or for all of them.
    ///
    /// # Errors
    /// `Config` when the platform is not connected; `Registry` when it could not be shared.
    pub async fn set_breaker(&self, platform: &PlatformId, operation: Option<Operation>, mode: Mode) -> Result<()> {
        for connection in self.accounts(platform)? {
            connection.resilience.set_mode(operation, mode).await?;
        }
        Ok(())
    }

    /// Closes a platform's breaker for one operation, or for all, and forgets what it counted.
    ///
    /// # Errors
    /// As [`set_breaker`](Self::set_breaker).
    pub async fn reset_breaker(&self, platform: &PlatformId, operation: Option<Operation>) -> Result<()> {
        for connection in self.accounts(platform)? {
            connection.resilience.reset(operation).await?;
        }
        Ok(())
    }
}
