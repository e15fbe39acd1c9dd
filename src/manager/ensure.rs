//! Always a live platform id: known and fresh, verified, or uploaded again.

use std::time::Duration;

use tokio::time::Instant;

use super::Manager;
use super::progress::Transfers;
use super::upload::UploadRequest;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AccountId, FileRecord, PlatformId, Purpose, Replica};
use crate::policy::quota::WhenFull;

/// What must be there, and how sure we want to be.
#[derive(Clone, Debug)]
pub struct EnsureRequest {
    pub platform: PlatformId,
    /// Only of this account.
    pub account: Option<AccountId>,
    /// Any accepted spelling; default: by the file's type.
    pub purpose: Option<String>,
    /// A replica the platform confirmed longer ago than this is asked for again.
    pub max_age: Duration,
    /// How long it must live yet: one that its platform drops before is made anew.
    pub min_ttl: Duration,
    /// What is done when an account is full; default: as is configured.
    pub when_full: Option<WhenFull>,
    /// Where it fails, it stays to be finished.
    pub is_recovery: bool,
    pub deadline: Duration,
}

impl EnsureRequest {
    /// On any account, for what its type says; asked for, whatever we remember.
    pub fn new(platform: PlatformId, deadline: Duration) -> Self {
        EnsureRequest {
            platform,
            account: None,
            purpose: None,
            max_age: Duration::ZERO,
            min_ttl: Duration::ZERO,
            when_full: None,
            is_recovery: false,
            deadline,
        }
    }
}

impl Manager {
    /// A live replica of a file that the registry knows, by digest, start of a digest, remote id or name.
    ///
    /// # Errors
    /// `NotFound` when the platform has lost it and none of the paths it was uploaded from still holds these
    /// bytes; `Registry` when its kept copy cannot be had now; else as [`upload`](Self::upload).
    pub async fn ensure(&self, reference: &str, request: EnsureRequest, transfers: &Transfers) -> Result<Replica> {
        let begun = Instant::now();
        let record = self.usable(reference).await?;
        if let Some(replica) = self.confirmed(&record, &request).await? {
            return Ok(replica);
        }
        let (found, unanswered) = self.bytes_of(&record.digest).await?;
        for found in found {
            let left = request.deadline.saturating_sub(begun.elapsed());
            let upload = UploadRequest {
                name: Some(record.name.clone()),
                to: vec![request.platform.clone()],
                account: request.account.clone(),
                purpose: request.purpose.clone(),
                min_ttl: Some(request.min_ttl),
                when_full: request.when_full,
                is_recovery: request.is_recovery,
                ..UploadRequest::new(found.source.clone(), left)
            };
            if self.holds_bytes(found.source.clone(), &record.digest).await {
                let record = self.upload(upload, transfers).await?;
                let placed = self.fitting(&record, &request)?.cloned();
                return placed.ok_or_else(|| not_long_enough(&record, &request));
            }
        }
        if let Some(error) = unanswered {
            return Err(error);
        }
        Err(Error::new(
            ErrorKind::NotFound,
            format!("{:?} is not on {}, and its bytes are not where they came from", record.name, request.platform),
        )
        .with_hint("upload the file again from where it is now"))
    }

    async fn confirmed(&self, record: &FileRecord, request: &EnsureRequest) -> Result<Option<Replica>> {
        let Some(replica) = self.fitting(record, request)? else { return Ok(None) };
        let is_fresh = self.clock.now().since(replica.verified_at) <= request.max_age;
        match is_fresh || self.verify(replica, request.deadline).await? {
            true => {
                self.registry.note_use(replica);
                Ok(Some(replica.clone()))
            }
            false => Ok(None),
        }
    }

    /// A copy that is where, for what and for as long as is asked.
    fn fitting<'r>(&self, record: &'r FileRecord, request: &EnsureRequest) -> Result<Option<&'r Replica>> {
        let purpose = self.purpose_of(record, request)?;
        let now = self.clock.now();
        let fits = |r: &&Replica| {
            r.platform == request.platform
                && request.account.as_ref().is_none_or(|account| r.account == *account)
                && r.purpose == purpose
                && self.is_ours(r)
                && r.is_live(now)
                && r.lives_until(Some(now.plus(request.min_ttl)))
        };
        Ok(record.replicas.iter().find(fits))
    }

    /// What a file is for on a platform, as the platform says it.
    pub(super) fn purpose_of(&self, record: &FileRecord, request: &EnsureRequest) -> Result<Purpose> {
        let connection = self.platform(&request.platform)?;
        let spelling = request.purpose.as_deref().or(connection.purpose.as_deref());
        let rule = connection.platform.capabilities().purpose(spelling, &record.name, &record.mime)?;
        Ok(Purpose::new(&rule.wire))
    }
}

fn not_long_enough(record: &FileRecord, request: &EnsureRequest) -> Error {
    let (name, platform, seconds) = (&record.name, &request.platform, request.min_ttl.as_secs());
    Error::new(ErrorKind::Unsupported, format!("{platform} has {name:?}, but keeps no file for {seconds} s"))
        .with_hint("ask for less, or lease it: a watcher renews it in time")
}
