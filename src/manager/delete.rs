//! Take a file off platforms.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::{Connection, Manager};
use crate::error::{Delivery, Error, ErrorKind, Result};
use crate::model::{FileRecord, Operation, PlatformId, Replica};
use crate::registry::{Gone, Unkept};

impl Manager {
    /// Deletes a file from `platform`, or from everywhere; a copy that is gone already counts as deleted.
    ///
    /// Returns the record as it is afterwards. From the first moment on no copy in question is handed out any more;
    /// one whose deletion was cut short is asked for again by the next delete.
    ///
    /// # Errors
    /// `NotFound` when it is on none of them; the first refusing platform's error, after all were asked.
    pub async fn delete(&self, reference: &str, platform: Option<&PlatformId>, within: Duration) -> Result<FileRecord> {
        self.delete_copies(reference, platform, None, within).await
    }

    /// The same, of only the copy with this id.
    pub(super) async fn delete_copies(
        &self,
        reference: &str,
        platform: Option<&PlatformId>,
        remote_id: Option<&str>,
        within: Duration,
    ) -> Result<FileRecord> {
        let record = self.take_off(reference, platform, remote_id, within).await?;
        // What somebody wanted on no platform any more needs no copy: `collect_copies` removes it.
        if record.replicas.is_empty() && self.registry.is_kept(&record.digest).await? {
            self.registry.forget_kept(&record.digest, Unkept::Removed).await?;
        }
        Ok(record)
    }

    /// The same, but our copy of the file stays.
    pub(crate) async fn take_off_platforms(
        &self,
        reference: &str,
        platform: Option<&PlatformId>,
        within: Duration,
    ) -> Result<FileRecord> {
        self.take_off(reference, platform, None, within).await
    }

    async fn take_off(
        &self,
        reference: &str,
        platform: Option<&PlatformId>,
        remote_id: Option<&str>,
        within: Duration,
    ) -> Result<FileRecord> {
        let deadline = Instant::now() + within;
        let mut record = self.registry.resolve(reference).await?;
        if let Some(platform) = platform {
            self.accounts(platform)?;
        }
        let ours = self.connections.iter().flat_map(|(id, all)| all.iter().map(move |one| (id, one)));
        let accounts = ours.map(|(id, connection)| (id.clone(), connection.platform.account().clone())).collect();
        let doomed = self.registry.begin_delete(&record.digest, platform, accounts, remote_id).await?;
        if doomed.is_empty() {
            return Err(not_there(&record, platform));
        }
        let mut outcome = Ok(());
        for replica in &doomed {
            outcome = outcome.and(self.delete_replica(replica, Gone::Deleted, deadline).await);
        }
        outcome?;
        let is_doomed = |r: &Replica| doomed.iter().any(|d| (&d.platform, &d.remote_id) == (&r.platform, &r.remote_id));
        record.replicas.retain(|replica| !is_doomed(replica));
        Ok(record)
    }

    /// Deletes a copy that is handed out no more, `why` being ours to delete it.
    pub(super) async fn delete_replica(&self, replica: &Replica, why: Gone, deadline: Instant) -> Result<()> {
        let gone = self.take_off_one(replica, deadline).await?;
        self.registry.mark_gone(replica, if why == Gone::Evicted { why } else { gone }).await
    }

    /// Removes a copy from its platform. What the platform keeps for certain is handed out again.
    pub(super) async fn take_off_one(&self, replica: &Replica, deadline: Instant) -> Result<Gone> {
        let connection = self.holder(replica)?;
        let outcome = self.remove(connection, &replica.remote_id, deadline).await;
        if let Err(error) = &outcome
            && !error.is_ambiguous()
        {
            self.registry.keep(replica, error).await?;
        }
        outcome?;
        self.usage.forget(&replica.platform);
        self.see_it_gone(connection, replica, deadline).await
    }

    /// A platform's word that it deleted a file is looked into, where it can be asked for one.
    ///
    /// # Errors
    /// `Unavailable` when it shows the file still: it stays marked, and is deleted again later.
    async fn see_it_gone(&self, connection: &Connection, replica: &Replica, deadline: Instant) -> Result<Gone> {
        if !connection.platform.capabilities().has_get {
            return Ok(Gone::Accepted);
        }
        match self.is_gone(replica, deadline).await {
            Ok(true) => Ok(Gone::Deleted),
            Ok(false) => {
                let (platform, id) = (&replica.platform, &replica.remote_id);
                Err(Error::new(ErrorKind::Unavailable, format!("{platform} still shows {id} after it was deleted"))
                    .with_hint("it is deleted again later; `exai-files recover` does so at once"))
            }
            // It took the delete; that it cannot be asked now changes nothing of that.
            Err(_) => Ok(Gone::Accepted),
        }
    }

    /// Removes a remote file; not being there is success.
    pub(crate) async fn remove(&self, connection: &Connection, id: &str, deadline: Instant) -> Result<()> {
        // Whatever the last attempt says, an earlier one without an answer may have been heard.
        let may_be_gone = AtomicBool::new(false);
        let attempt = || async {
            let outcome = connection.platform.delete(id, deadline).await;
            if outcome.as_ref().is_err_and(Error::is_ambiguous) {
                may_be_gone.store(true, Ordering::Relaxed);
            }
            outcome
        };
        match connection.resilience.call(Operation::Delete, deadline, attempt).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) if may_be_gone.into_inner() => Err(error.with_delivery(Delivery::Unknown)),
            outcome => outcome.map(drop),
        }
    }
}

pub(super) fn not_there(record: &FileRecord, platform: Option<&PlatformId>) -> Error {
    let place = platform.map_or("any platform".to_owned(), ToString::to_string);
    Error::new(ErrorKind::NotFound, format!("{:?} is not on {place}", record.name))
        .with_hint("its record shows where it is; other accounts' copies are not touched")
}
