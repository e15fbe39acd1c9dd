//! Take a file off platforms.

use std::time::Duration;

use tokio::time::Instant;

use super::{Connection, Manager};
use crate::error::{ErrorKind, Result};
use crate::model::{FileRecord, Operation, PlatformId, Replica};

impl Manager {
    /// Deletes a file from `platform`, or from everywhere; a copy that is gone already counts as deleted.
    ///
    /// Returns the record as it is afterwards.
    ///
    /// # Errors
    /// `NotFound` when it is on none of them; the first refusing platform's error, after all were asked.
    pub async fn delete(&self, reference: &str, platform: Option<&PlatformId>, within: Duration) -> Result<FileRecord> {
        let deadline = Instant::now() + within;
        let mut record = self.registry.resolve(reference).await?;
        self.choose(&record.replicas, platform, &record.name)?;
        let (doomed, kept): (Vec<Replica>, Vec<Replica>) =
            record.replicas.into_iter().partition(|replica| platform.is_none_or(|p| replica.platform == *p));
        record.replicas = kept;
        let mut outcome = Ok(record);
        for replica in doomed {
            if let Err(error) = self.delete_replica(&replica, deadline).await {
                outcome = outcome.and(Err(error));
            }
        }
        outcome
    }

    async fn delete_replica(&self, replica: &Replica, deadline: Instant) -> Result<()> {
        let connection = self.connection(&replica.platform)?;
        self.remove(connection, &replica.remote_id, deadline).await?;
        self.registry.mark_deleted(replica).await
    }

    /// Removes a remote file; not being there is success.
    pub(super) async fn remove(&self, connection: &Connection, id: &str, deadline: Instant) -> Result<()> {
        let outcome = connection
            .resilience
            .call(Operation::Delete, deadline, || async { connection.platform.delete(id, deadline).await })
            .await;
        match outcome {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
