//! Finishing what another process began and did not end.

use std::time::Duration;

use tokio::time::Instant;

use super::Manager;
use super::bytes::Found;
use super::progress::Transfers;
use super::send::Unanswered;
use super::upload::{Target, UploadRequest};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AccountId, Origin, PlatformId, Replica};
use crate::registry::{Claim, Gone, OpenUpload};
use crate::resilience::Lane;

/// How an upload that was cut short ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// It is where it was to be.
    Placed { strategy: &'static str },
    /// Nothing was stored, and its bytes are not to be had: it counts as never made.
    Undone,
    /// Somebody else is at it, or has ended it.
    NotOurs,
}

impl Manager {
    /// Finishes an upload: adopts what the platform has of it, sends it where its bytes are still to be had, or undoes it.
    ///
    /// # Errors
    /// Those of the platform, and of the kept copies: nothing is known for certain yet, and it is to be tried again.
    pub(crate) async fn finish_upload(&self, open: &OpenUpload, within: Duration) -> Result<Ending> {
        let deadline = Instant::now() + within;
        let placement = &open.new.placement;
        let to = (&placement.platform, Some(&placement.account), Some(placement.purpose.as_str()));
        let (found, unanswered) = self.bytes_of(&placement.digest).await?;
        for found in found {
            let min_ttl = open.new.needed_until.map(|until| until.since(self.clock.now()));
            let upload = UploadRequest { min_ttl, ..again(open, &found, to, deadline) };
            if self.holds_bytes(found.source.clone(), &placement.digest).await {
                let record = self.upload(upload, &Transfers::default()).await?;
                let is_it = |r: &&Replica| r.platform == placement.platform && r.purpose == placement.purpose;
                let origin = record.replicas.iter().find(is_it).map(|replica| replica.origin);
                return Ok(match origin {
                    Some(Origin::Adopted) => Ending::Placed { strategy: "adopt" },
                    Some(Origin::AlreadyThere) => {
                        self.registry.end_upload(&open.id, "another one made it").await?;
                        Ending::NotOurs
                    }
                    _ => Ending::Placed { strategy: found.strategy },
                });
            }
        }
        match unanswered {
            Some(error) => Err(error),
            None => self.finish_without_bytes(open, deadline).await,
        }
    }

    /// Puts a file whose upload is given up on the first other platform that takes it, of those that are configured.
    ///
    /// # Errors
    /// `because`, when there is none, or when the platform that was meant may have the file yet: that is still to be found
    /// out.
    pub(crate) async fn fall_back(&self, open: &OpenUpload, because: Error, within: Duration) -> Result<Ending> {
        let (deadline, placement) = (Instant::now() + within, &open.new.placement);
        let Ok((found, _)) = self.bytes_of(&placement.digest).await else { return Err(because) };
        for platform in self.recovery_fallback().iter().filter(|other| **other != placement.platform) {
            for found in &found {
                let upload =
                    UploadRequest { is_recovery: false, ..again(open, found, (platform, None, None), deadline) };
                if !self.holds_bytes(found.source.clone(), &placement.digest).await {
                    continue;
                }
                match self.upload(upload, &Transfers::default()).await {
                    Ok(_) if because.is_ambiguous() => {
                        let meanwhile = format!("{}; {platform} has it meanwhile", because.message());
                        return Err(because.with_message(meanwhile));
                    }
                    Ok(_) => {
                        self.registry.end_upload(&open.id, "placed on another platform").await?;
                        return Ok(Ending::Placed { strategy: "fallback-platform" });
                    }
                    Err(error) => tracing::warn!(%platform, %error, "it does not take the file either"),
                }
            }
        }
        Err(because)
    }

    async fn finish_without_bytes(&self, open: &OpenUpload, deadline: Instant) -> Result<Ending> {
        let placement = &open.new.placement;
        let connection = self.account(&placement.platform, &placement.account)?;
        let capabilities = connection.platform.capabilities();
        let target = Target {
            connection,
            accounts: vec![connection],
            intent: open.new.clone(),
            content: capabilities.rule(placement.purpose.as_str()).map(|rule| rule.content).unwrap_or_default(),
            lane: Lane::Bulk,
            when_full: connection.when_full.unwrap_or_default(),
            is_recovery: true,
            retention: capabilities.retention(),
        };
        let Claim::Ours(mut claim) = self.registry.intend(open.new.clone(), Vec::new()).await? else {
            return Ok(Ending::NotOurs);
        };
        // Until the search has ended nobody may take it for never sent.
        let Some(left) = claim.taken_from.clone() else {
            self.undo(&mut claim).await?;
            return Ok(Ending::Undone);
        };
        claim.note_may_be_stored();
        let stored = match &left.stored_as {
            Some(id) => self.still_there(&target, id, deadline).await?,
            None => None,
        };
        let found = match stored {
            Some(object) => Some(object),
            None => {
                let sending = Unanswered { ended_at: left.ended_at, may_come_late: true };
                self.find_orphan(&target, &claim, sending, deadline).await?
            }
        };
        match found {
            Some(object) => {
                self.bind_found(&target, claim, object, deadline).await?;
                Ok(Ending::Placed { strategy: "adopt" })
            }
            None => {
                self.undo(&mut claim).await?;
                Ok(Ending::Undone)
            }
        }
    }

    async fn undo(&self, claim: &mut crate::registry::HeldIntent) -> Result<()> {
        let error =
            Error::new(ErrorKind::NotFound, "it was cut short, nothing was stored, and its bytes are not to be had");
        self.registry.fail(claim, &error).await?;
        claim.done();
        Ok(())
    }

    /// Deletes a copy again whose deletion was cut short.
    ///
    /// # Errors
    /// Those of the platform.
    pub(crate) async fn finish_delete(&self, replica: &Replica, within: Duration) -> Result<()> {
        self.delete_replica(replica, Gone::Deleted, Instant::now() + within).await
    }
}

/// An upload as it was begun, to a platform, account and purpose.
fn again(
    open: &OpenUpload,
    found: &Found,
    (platform, account, purpose): (&PlatformId, Option<&AccountId>, Option<&str>),
    deadline: Instant,
) -> UploadRequest {
    UploadRequest {
        name: Some(open.new.name.clone()),
        to: vec![platform.clone()],
        account: account.cloned(),
        purpose: purpose.map(str::to_owned),
        owner: open.new.owner.clone(),
        keep: open.new.keep,
        lane: Lane::Bulk,
        is_recovery: true,
        ..UploadRequest::new(found.source.clone(), deadline.saturating_duration_since(Instant::now()))
    }
}
