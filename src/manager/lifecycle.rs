//! How long files are wanted; archiving and erasing them.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::Manager;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AccountId, Digest, FileRecord, Keep, PlatformId, Replica};
use crate::registry::Erased;

/// That nothing is left of a file.
#[derive(Debug, Serialize)]
pub struct Erasure {
    pub digest: Digest,
    /// The copies that were there until now.
    pub replicas: Vec<ErasedReplica>,
    pub had_copy: bool,
    #[serde(flatten)]
    pub rows: Erased,
}

/// One of them.
#[derive(Debug, Serialize)]
pub struct ErasedReplica {
    pub platform: PlatformId,
    pub account: AccountId,
    pub remote_id: String,
    /// Its platform says, asked for it again, that it is gone; else it took the delete, and cannot be asked.
    pub is_confirmed: bool,
}

impl Manager {
    /// Says how long a file is wanted.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn keep(&self, reference: &str, keep: Keep) -> Result<FileRecord> {
        let record = self.registry.resolve(reference).await?;
        self.registry.set_keep(&record.digest, keep).await
    }

    /// Takes a file off all platforms, or one, and keeps our copy of it.
    ///
    /// # Errors
    /// `Conflict` when no whole copy is kept: nothing is deleted then; else as [`delete`](Self::delete).
    pub async fn archive(
        &self,
        reference: &str,
        platform: Option<&PlatformId>,
        within: Duration,
    ) -> Result<FileRecord> {
        let record = self.registry.resolve(reference).await?;
        let is_whole = match &self.blobs {
            Some(blobs) => blobs.is_whole(&record.digest, record.size, true).await?,
            None => false,
        };
        if !is_whole {
            return Err(Error::new(ErrorKind::Conflict, format!("no copy of {:?} is kept", record.name))
                .with_hint("set copies.place and upload it again; `exai-files copies check` looks at the copies"));
        }
        // Another client may have kept it, or somebody may have wanted it gone before.
        self.registry.note_kept(&record.digest, record.size).await?;
        self.take_off_platforms(&record.digest.to_string(), platform, within).await
    }

    /// Removes everything of a file for good: its copies on every platform, our copy, texts, names and all else that is
    /// known of it. The audit log keeps that it was there, by its digest.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while it is held, being uploaded, or on an account that is not connected; else as
    /// [`delete`](Self::delete). What was removed stays so, and erasing it again goes on.
    pub async fn erase(&self, reference: &str, within: Duration) -> Result<Erasure> {
        let record = self.registry.resolve(reference).await?;
        if let Some(stranger) = record.replicas.iter().find(|replica| !self.is_ours(replica)) {
            return Err(not_connected(stranger));
        }
        // Nobody is given it any more, and what holds it is asked before anything is removed.
        self.registry.trash(&record.digest).await?;
        self.erase_trashed(record.digest, "asked for", Instant::now() + within).await
    }

    /// The same for a file whose time in the trash is over.
    ///
    /// # Errors
    /// As [`erase`](Self::erase); `Conflict` also when it was taken out of the trash.
    pub(crate) async fn purge(&self, digest: &Digest, within: Duration) -> Result<Erasure> {
        self.erase_trashed(*digest, "its time in the trash is over", Instant::now() + within).await
    }

    async fn erase_trashed(&self, digest: Digest, why: &'static str, deadline: Instant) -> Result<Erasure> {
        let had_copy = self.registry.is_kept(&digest).await?;
        if had_copy && self.blobs.is_none() {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("a copy of {digest} is kept where this client does not look"),
            )
            .with_hint("set `copies.place` as it was when the copy was made"));
        }
        let replicas = self.erase_replicas(&digest, deadline).await?;
        self.registry.forget_sources(&digest).await?;
        // The registry has the last word; what a crash leaves of the copy after that, `collect_copies` removes.
        let rows = self.registry.erase(&digest, why).await?;
        if let Some(blobs) = &self.blobs {
            blobs.remove(&digest).await?;
        }
        self.registry.drop_kept(&digest).await?;
        Ok(Erasure { digest, replicas, had_copy, rows })
    }

    async fn erase_replicas(&self, digest: &Digest, deadline: Instant) -> Result<Vec<ErasedReplica>> {
        let doomed = self.registry.begin_erase(digest).await?;
        let mut erased = Vec::with_capacity(doomed.len());
        for replica in doomed {
            let gone = self.take_off_one(&replica, deadline).await?;
            let is_confirmed = gone == crate::registry::Gone::Deleted;
            self.registry.mark_gone(&replica, gone).await?;
            let Replica { platform, account, remote_id, .. } = replica;
            erased.push(ErasedReplica { platform, account, remote_id, is_confirmed });
        }
        Ok(erased)
    }
}

fn not_connected(replica: &Replica) -> Error {
    let (platform, account) = (&replica.platform, &replica.account);
    Error::new(ErrorKind::Conflict, format!("it is on {platform} as {account}, which is not connected"))
        .with_hint("connect that account, or delete it there and reconcile")
}
