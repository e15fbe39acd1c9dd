//! Move a file from one platform to another: it is there before it is taken away here.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::ensure::EnsureRequest;
use super::progress::Transfers;
use super::recover::Ending;
use super::{Manager, delete};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{FileRecord, PlatformId};
use crate::registry::{HeldMove, Move, RENEW_EVERY};

impl Manager {
    /// Puts a file where `request` says and then takes it off `from`; returns the record as it is afterwards.
    ///
    /// A call that is cancelled or fails leaves the file where it was, at least. One whose process dies is finished by
    /// the next recovery.
    ///
    /// # Errors
    /// `InvalidRequest` when both are the same; `NotFound` when it is not on `from`; `Conflict` when it is leased there
    /// or under legal hold; else as [`ensure`](Self::ensure) and [`delete`](Self::delete).
    pub async fn relocate(
        &self,
        reference: &str,
        from: &PlatformId,
        request: EnsureRequest,
        transfers: &Transfers,
    ) -> Result<FileRecord> {
        let record = self.usable(reference).await?;
        if *from == request.platform {
            return Err(Error::new(
                ErrorKind::InvalidRequest,
                format!("{:?} is to go from {from} to {from}", record.name),
            )
            .with_hint("name two platforms"));
        }
        self.accounts(from)?;
        let now = self.clock.now();
        let there = record.replicas.iter().find(|r| r.platform == *from && self.is_ours(r) && r.is_live(now));
        let there = there.ok_or_else(|| delete::not_there(&record, Some(from)))?;
        let held = self.registry.begin_move(&record.digest, there, &request.platform, request.purpose.clone()).await?;
        let moved = tokio::select! {
            moved = self.carry_over(&record, from, request, transfers) => moved?,
            never = keep_move(&held) => match never {},
        };
        held.end().await?;
        Ok(moved)
    }

    async fn carry_over(
        &self,
        record: &FileRecord,
        from: &PlatformId,
        request: EnsureRequest,
        transfers: &Transfers,
    ) -> Result<FileRecord> {
        let (reference, deadline) = (record.digest.to_string(), Instant::now() + request.deadline);
        // The copy that stays is asked for, whatever we remember of it.
        let request = EnsureRequest { max_age: Duration::ZERO, ..request };
        self.ensure(&reference, request, transfers).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        match self.take_off_platforms(&reference, Some(from), left).await {
            // Somebody else has, meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => self.registry.resolve(&reference).await,
            taken_off => taken_off,
        }
    }

    /// Finishes a move that was cut short; one of a file that cannot be put there any more counts as never begun.
    ///
    /// # Errors
    /// Those of the platforms, of the registry and of the kept copies: it is to be tried again.
    pub(crate) async fn finish_move(&self, open: &Move, within: Duration) -> Result<Ending> {
        let record = self.registry.resolve(&open.digest.to_string()).await?;
        let purpose = open.purpose.as_ref().map(|purpose| purpose.as_str().to_owned());
        let request = EnsureRequest { purpose, ..EnsureRequest::new(open.to.clone(), within) };
        match self.carry_over(&record, &open.from, request, &Transfers::default()).await {
            Ok(_) => {
                self.registry.end_move(&open.id).await?;
                Ok(Ending::Placed { strategy: "move-again" })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.registry.drop_move(&open.id).await?;
                Ok(Ending::Undone)
            }
            Err(error) => Err(error),
        }
    }
}

/// Until it is dropped.
async fn keep_move(held: &HeldMove) -> std::convert::Infallible {
    loop {
        sleep(RENEW_EVERY).await;
        if let Err(error) = held.renew().await {
            tracing::warn!(%error, "a move could not be noted as under way; trying again");
        }
    }
}
