//! How platforms have been lately, and what an operator does about it.

use serde::Serialize;

use super::Manager;
use crate::error::Result;
use crate::model::{AccountId, Operation, PlatformId};
use crate::resilience::{BreakerHealth, Mode};

/// How one platform has been, as seen from here.
#[derive(Debug, Serialize)]
pub struct PlatformHealth<'m> {
    pub platform: &'m PlatformId,
    pub account: &'m AccountId,
    /// One for each operation.
    pub breakers: Vec<BreakerHealth>,
}

impl Manager {
    /// Every connected platform's circuit breakers. Asks no platform.
    pub async fn health(&self) -> Vec<PlatformHealth<'_>> {
        let mut health = Vec::with_capacity(self.connections.len());
        for (platform, connection) in &self.connections {
            let breakers = connection.resilience.health().await;
            health.push(PlatformHealth { platform, account: connection.platform.account(), breakers });
        }
        health
    }

    /// Sets what an operator wants of a platform's breaker for one operation, or for all of them.
    ///
    /// # Errors
    /// `Config` when the platform is not connected.
    pub async fn set_breaker(&self, platform: &PlatformId, operation: Option<Operation>, mode: Mode) -> Result<()> {
        self.connection(platform)?.resilience.set_mode(operation, mode).await;
        Ok(())
    }

    /// Closes a platform's breaker for one operation, or for all, and forgets what it counted.
    ///
    /// # Errors
    /// `Config` when the platform is not connected.
    pub async fn reset_breaker(&self, platform: &PlatformId, operation: Option<Operation>) -> Result<()> {
        self.connection(platform)?.resilience.reset(operation).await;
        Ok(())
    }
}
