//! Waiting until a platform has processed a file.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Manager;
use super::send::{READY_POLL, UNKNOWN_STATUS_PATIENCE};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{FileObject, PlatformId, RemoteStatus, Replica};

impl Manager {
    /// Waits until a platform says that a file can be used there.
    ///
    /// # Errors
    /// `NotFound` when it is not there; `ContentRejected` when the platform could make nothing of it; `TimedOut`.
    pub async fn wait_ready(
        &self,
        reference: &str,
        platform: Option<&PlatformId>,
        within: Duration,
    ) -> Result<Replica> {
        let begun = Instant::now();
        let (deadline, record) = (begun + within, self.usable(reference).await?);
        let replica = self.choose(&record.replicas, platform, &record.name)?;
        let mut pause = *READY_POLL.start();
        loop {
            let object = self.describe(replica, deadline).await?;
            match &object.status {
                RemoteStatus::Ready | RemoteStatus::Unstated => break,
                RemoteStatus::Failed | RemoteStatus::Deleted => return Err(rejected(replica, &record.name, object)),
                RemoteStatus::Unknown(_) if begun.elapsed() > UNKNOWN_STATUS_PATIENCE => break,
                status if Instant::now() + pause >= deadline => {
                    let what = format!("{} still says {status} of {:?}", replica.platform, record.name);
                    return Err(Error::new(ErrorKind::TimedOut, what).with_hint("allow more time with `timeout`"));
                }
                _ => sleep(pause).await,
            }
            pause = (pause * 2).min(*READY_POLL.end());
        }
        self.registry.mark_verified(replica).await?;
        Ok(replica.clone())
    }
}

fn rejected(replica: &Replica, name: &str, object: FileObject) -> Error {
    let why = object.status_details.unwrap_or_else(|| object.status.to_string());
    Error::new(ErrorKind::ContentRejected, format!("{} could not process {name:?}: {why}", replica.platform))
        .with_hint("check that the file opens and has text in it, or use another purpose")
}
