//! Questions: what do we know, what do platforms hold, what can they do.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::{Connection, Manager};
use crate::clock::Timestamp;
use crate::error::{ErrorKind, Result};
use crate::model::{AccountId, FileObject, FileRecord, PlatformId, Purpose, Replica};
use crate::platform::Capabilities;
use crate::registry::{FileFilter, Gone, Usage};

/// A connected platform: what it can do, and what the registry says the account holds.
#[derive(Debug, Serialize)]
pub struct PlatformInfo<'m> {
    pub platform: &'m PlatformId,
    pub account: &'m AccountId,
    /// Files and bytes with a live replica, as far as the registry knows.
    pub files: u64,
    pub bytes: u64,
    pub capabilities: &'m Capabilities,
}

impl Manager {
    /// Files of the registry, newest first.
    ///
    /// # Errors
    /// `Config` when the filter names a platform that is not configured.
    pub async fn list(&self, filter: FileFilter) -> Result<Vec<FileRecord>> {
        if let Some(platform) = &filter.platform {
            self.check_known(platform)?;
        }
        self.registry.list(filter).await
    }

    /// One file of the registry, by digest, start of a digest, remote id or name.
    pub async fn get(&self, reference: &str) -> Result<FileRecord> {
        self.registry.resolve(reference).await
    }

    pub async fn platforms(&self) -> Result<Vec<PlatformInfo<'_>>> {
        let mut infos = Vec::with_capacity(self.connections.len());
        for (platform, connections) in self.connections.iter() {
            let usage = self.registry.usage(platform).await?;
            for connection in connections {
                let account = connection.platform.account();
                let Usage { files, bytes } = usage.get(account).copied().unwrap_or_default();
                let capabilities = connection.platform.capabilities();
                infos.push(PlatformInfo { platform, account, files, bytes, capabilities });
            }
        }
        Ok(infos)
    }

    /// Asks the platform whether a replica is still there; notes the answer. `false` when it is gone.
    pub(super) async fn verify(&self, replica: &Replica, within: Duration) -> Result<bool> {
        match self.is_gone(replica, Instant::now() + within).await? {
            true if self.may_not_be_listed_yet(replica)? => Ok(true),
            true => self.note_gone(replica).await,
            false => self.registry.mark_verified(replica).await.map(|()| true),
        }
    }

    /// Whether that a platform does not show a copy may mean that it is too new.
    pub(crate) fn may_not_be_listed_yet(&self, replica: &Replica) -> Result<bool> {
        Ok(self.holder(replica)?.may_not_list_yet(replica, self.clock.now()))
    }

    /// Whether the platform says that it has no such file.
    pub(crate) async fn is_gone(&self, replica: &Replica, deadline: Instant) -> Result<bool> {
        self.is_gone_remote(self.holder(replica)?, &replica.remote_id, &replica.purpose, deadline).await
    }

    pub(crate) async fn is_gone_remote(
        &self,
        connection: &Connection,
        id: &str,
        purpose: &Purpose,
        deadline: Instant,
    ) -> Result<bool> {
        match self.remote(connection, id, Some(purpose), deadline).await {
            Ok(object) => Ok(object.status == crate::model::RemoteStatus::Deleted),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// A platform's own description of a copy.
    pub(crate) async fn describe(&self, replica: &Replica, deadline: Instant) -> Result<FileObject> {
        self.remote(self.holder(replica)?, &replica.remote_id, Some(&replica.purpose), deadline).await
    }

    /// Notes that its platform has lost a copy.
    pub(crate) async fn note_lost(&self, replica: &Replica) -> Result<()> {
        self.note_gone(replica).await.map(drop)
    }

    /// The copies of a file on a platform, or on all, of accounts that are connected.
    ///
    /// # Errors
    /// `NotFound` when there are none.
    pub(crate) fn replicas_on<'r>(
        &self,
        record: &'r FileRecord,
        platform: Option<&PlatformId>,
    ) -> Result<Vec<&'r Replica>> {
        self.choose(&record.replicas, platform, &record.name)?;
        let there = |replica: &&Replica| platform.is_none_or(|id| replica.platform == *id) && self.is_ours(replica);
        Ok(record.replicas.iter().filter(there).collect())
    }

    async fn note_gone(&self, replica: &Replica) -> Result<bool> {
        tracing::warn!(platform = %replica.platform, file = %replica.remote_id, "a file we placed is gone from its platform");
        self.registry.mark_gone(replica, Gone::Lost).await.map(|()| false)
    }
}

impl Connection {
    /// Where a listing is all there is to go by, a new file may not be in it yet.
    pub(crate) fn may_not_list_yet(&self, replica: &Replica, now: Timestamp) -> bool {
        !self.platform.capabilities().has_get && now.since(replica.created_at) < self.commit_horizon
    }
}
