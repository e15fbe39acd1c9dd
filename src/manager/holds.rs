//! Keeping files: leases, pins, legal holds.

use std::time::Duration;

use super::Manager;
use super::ensure::EnsureRequest;
use super::progress::Transfers;
use crate::error::Result;
use crate::model::{HoldKind, Replica};
use crate::registry::{Hold, Registry};

impl Manager {
    /// Makes sure that a platform has a file and keeps it for so long, and says so to everyone: nobody deletes it there
    /// meanwhile, and watchers renew it and make it anew.
    ///
    /// # Errors
    /// As [`ensure`](Self::ensure).
    pub async fn lease(
        &self,
        reference: &str,
        request: EnsureRequest,
        life: Duration,
        transfers: &Transfers,
    ) -> Result<(Replica, Hold)> {
        let record = self.usable(reference).await?;
        // As far as the platform lets any file live; a watcher renews it after that.
        let longest = self.platform(&request.platform)?.platform.capabilities().retention().unwrap_or(Duration::MAX);
        let min_ttl = request.min_ttl.max(life).min(longest / 2);
        // Held first: what is there already must not go while it is looked at.
        let place = Some((request.platform.clone(), self.purpose_of(&record, &request)?));
        let until = Some(self.clock.now().plus(life));
        let hold = self.registry.hold(HoldKind::Lease, &record.digest, place, None, until).await?;
        let mut begun = Begun { registry: &self.registry, id: &hold.id, is_given: false };
        let replica = self.ensure(&record.digest.to_string(), EnsureRequest { min_ttl, ..request }, transfers).await?;
        begun.is_given = true;
        drop(begun);
        Ok((replica, hold))
    }

    /// Pins a file, or puts it under legal hold, until it is released.
    ///
    /// # Errors
    /// `NotFound` when the file is not known.
    pub async fn hold(&self, reference: &str, kind: HoldKind, reason: Option<String>) -> Result<Hold> {
        let record = self.registry.resolve(reference).await?;
        self.registry.hold(kind, &record.digest, None, reason, None).await
    }

    /// Lets a lease end so long from now.
    ///
    /// # Errors
    /// `NotFound` when it was released, or has run out.
    pub async fn extend_lease(&self, id: &str, life: Duration) -> Result<()> {
        self.registry.extend_lease(id, self.clock.now().plus(life)).await
    }

    /// What holds a file now.
    ///
    /// # Errors
    /// `NotFound` when the file is not known.
    pub async fn holds(&self, reference: &str) -> Result<Vec<Hold>> {
        let record = self.registry.resolve(reference).await?;
        self.registry.holds(&record.digest).await
    }
}

/// A lease that nobody has yet: it ends with the call that was to give it.
struct Begun<'h> {
    registry: &'h Registry,
    id: &'h str,
    is_given: bool,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.is_given {
            self.registry.release_soon(self.id);
        }
    }
}
