//! One file to one platform: claim it, send it, settle it.
//!
//! No platform takes an idempotency key, so an upload whose reply was lost is never simply repeated: the
//! platform is searched for it first (`orphan`).

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::Manager;
use super::progress::{Phase, Tracker};
use super::spread::is_the_accounts_own;
use super::upload::{Prepared, Target};
use crate::clock::Timestamp;
use crate::content::Progress;
use crate::error::{Delivery, Error, ErrorKind, Result, Retry};
use crate::model::{FileObject, Operation, Origin, RemoteStatus, Replica};
use crate::platform::Upload;
use crate::registry::{Claim, HeldIntent, Intent, RENEW_EVERY, Settlement};
use crate::resilience::Ask;

/// Pauses between two looks at someone else's claim.
const CLAIM_POLL: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_millis(250);

/// Pauses between two looks at a file that is still being processed.
pub(super) const READY_POLL: std::ops::RangeInclusive<Duration> = Duration::from_millis(250)..=Duration::from_secs(5);

/// How long a status word that nobody documents is taken for "not yet".
pub(super) const UNKNOWN_STATUS_PATIENCE: Duration = Duration::from_secs(20);

/// What the platform now has, and how we know.
struct Stored {
    object: FileObject,
    origin: Origin,
}

/// A sending that nobody confirmed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unanswered {
    /// When we stopped hearing of it.
    pub(super) ended_at: Timestamp,
    /// Whether the platform may still store it: not once it has answered, even with a failure.
    pub(super) may_come_late: bool,
}

impl Manager {
    pub(super) async fn place(
        &self,
        file: &Prepared,
        target: &Target<'_>,
        tracker: &Tracker,
        deadline: Instant,
    ) -> Result<Replica> {
        if let Some(replica) = self.already_there(target, file) {
            self.registry.note_use(&replica);
            return Ok(replica);
        }
        let turn = self.in_flight.turn(&target.intent.placement);
        let _turn = timeout_at(deadline, turn).await.map_err(|_| still_held(target))?;
        let mut accounts = self.by_room(&target.accounts, file.identity.size).await?;
        if self.holding(target, file).is_none() {
            self.have_room(&accounts, file.identity.size, target.when_full, deadline).await?;
        }
        loop {
            let target = Target { accounts: accounts.clone(), ..target.on(accounts[0]) };
            let claim = match self.claim(&target, deadline).await? {
                Claimed::AlreadyThere(replica) => {
                    self.registry.note_use(&replica);
                    return Ok(replica);
                }
                Claimed::Ours(claim) => claim,
            };
            // It may have been begun on another account already.
            let target = target.on(self.account(&claim.placement.platform, &claim.placement.account)?);
            match self.carry_out(file, &target, claim, tracker, deadline).await {
                Err(error) if accounts.len() > 1 && is_the_accounts_own(&error) => {
                    let (platform, account) = (target.connection.platform.id(), target.connection.platform.account());
                    tracing::warn!(%platform, %account, %error, "trying another account");
                    accounts.retain(|other| other.platform.account() != account);
                }
                outcome => return outcome,
            }
        }
    }

    async fn carry_out(
        &self,
        file: &Prepared,
        target: &Target<'_>,
        mut claim: Box<HeldIntent>,
        tracker: &Tracker,
        deadline: Instant,
    ) -> Result<Replica> {
        let (progress, size) = (tracker.progress.clone(), file.identity.size);
        // A body that never left whole cannot have been stored.
        claim.may_be_stored_if(move || progress.sent() >= size);
        let outcome = tokio::select! {
            outcome = self.deliver(file, target, &claim, tracker, deadline) => outcome,
            lost = self.keep_claim(&claim) => Err(lost),
        };
        let replica = match outcome {
            Ok(stored) => self.settle(target, claim, stored, deadline).await?,
            Err(error) => return Err(self.give_up(target, claim, error).await),
        };
        self.usage.add(&replica.platform, &replica.account, file.identity.size);
        Ok(replica)
    }

    /// Notes a failure; what may have been stored is left for the next caller to look for.
    async fn give_up(&self, target: &Target<'_>, mut claim: Box<HeldIntent>, error: Error) -> Error {
        if error.is_ambiguous() {
            claim.note_may_be_stored();
            return error;
        }
        let noted = match error.kind() {
            // Another one has it.
            ErrorKind::Conflict => Ok(()),
            _ if target.is_recovery => self.registry.leave_open(&claim).await,
            _ => self.registry.fail(&claim, &error).await,
        };
        if let Err(unnoted) = noted {
            tracing::warn!(error = %unnoted, "a failed upload could not be noted; its claim runs out by itself");
        }
        claim.done();
        error
    }

    /// The commonest case: nothing to do and nothing to write.
    pub(super) fn already_there(&self, target: &Target<'_>, file: &Prepared) -> Option<Replica> {
        let now = self.clock.now();
        let owner = &target.intent.owner;
        let known = file.known.as_ref().filter(|record| {
            record.name == file.source.name
                && record.trashed_at.is_none()
                && target.intent.keep.is_met_by(record.keep_until)
                && (owner.is_none() || record.owner == *owner)
        })?;
        known.replicas.iter().find(|replica| target.is_met_by(replica) && replica.is_live(now)).cloned()
    }

    async fn claim(&self, target: &Target<'_>, deadline: Instant) -> Result<Claimed> {
        let mut pause = *CLAIM_POLL.start();
        loop {
            let chosen = target.connection.platform.account();
            let others = target.accounts.iter().map(|other| other.platform.account()).filter(|other| *other != chosen);
            match self.registry.intend(target.intent.clone(), others.cloned().collect()).await? {
                Claim::AlreadyThere(replica) => return Ok(Claimed::AlreadyThere(*replica)),
                Claim::Ours(intent) => return Ok(Claimed::Ours(intent)),
                Claim::Held if Instant::now() + pause >= deadline => return Err(still_held(target)),
                Claim::Held => sleep(pause).await,
            }
            pause = (pause * 2).min(*CLAIM_POLL.end());
        }
    }

    /// Keeps the claim alive; ends only when another one has it.
    async fn keep_claim(&self, intent: &Intent) -> Error {
        loop {
            sleep(RENEW_EVERY).await;
            match self.registry.renew(intent).await {
                Err(lost) if lost.kind() == ErrorKind::Conflict => return lost,
                Err(error) => tracing::warn!(%error, "a claim could not be renewed; trying again"),
                Ok(()) => {}
            }
        }
    }

    /// Sends until the file is there for certain, or certainly not.
    async fn deliver(
        &self,
        file: &Prepared,
        target: &Target<'_>,
        intent: &Intent,
        tracker: &Tracker,
        deadline: Instant,
    ) -> Result<Stored> {
        if let Some(object) = self.uploaded_by_tool(target, deadline).await {
            return Ok(Stored { object, origin: Origin::Adopted });
        }
        // An earlier holder's bytes may have arrived: an unanswered sending of its own, as it were.
        let left = intent.taken_from.as_ref();
        if let Some(id) = left.and_then(|left| left.stored_as.as_deref())
            && let Some(object) = self.still_there(target, id, deadline).await?
        {
            return self.await_ready(target, intent, Stored { object, origin: Origin::Adopted }, deadline).await;
        }
        let mut unanswered = left.map(|left| Unanswered { ended_at: left.ended_at, may_come_late: true });
        let mut sends = 0;
        let mut attempts = target.connection.resilience.attempts(deadline);
        let outcome = loop {
            match self.attempt(file, target, intent, tracker, deadline, &mut unanswered, &mut sends).await {
                Ok(stored) => break Ok(stored),
                Err(error) => {
                    if let Err(error) = attempts.pause(error, true).await {
                        break Err(error);
                    }
                }
            }
        };
        let stored = match (outcome, unanswered) {
            (Err(error), Some(sending)) => {
                tracker.enter(Phase::Reconciling);
                self.last_look(target, intent, sending, deadline, error).await?
            }
            (outcome, _) => outcome?,
        };
        self.await_ready(target, intent, stored, deadline).await
    }

    /// What an earlier holder knew to be stored, if it still is.
    pub(super) async fn still_there(
        &self,
        target: &Target<'_>,
        id: &str,
        deadline: Instant,
    ) -> Result<Option<FileObject>> {
        match self.remote(target.connection, id, Some(&target.intent.placement.purpose), deadline).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.with_delivery(Delivery::Doubtful)),
        }
    }

    /// Looks for what an unanswered sending left, if there was one; else sends.
    #[expect(clippy::too_many_arguments, reason = "the state of one loop, in the only function it calls")]
    async fn attempt(
        &self,
        file: &Prepared,
        target: &Target<'_>,
        intent: &Intent,
        tracker: &Tracker,
        deadline: Instant,
        unanswered: &mut Option<Unanswered>,
        sends: &mut u32,
    ) -> Result<Stored> {
        if let Some(sending) = *unanswered {
            tracker.enter(Phase::Reconciling);
            if let Some(object) = self.find_orphan(target, intent, sending, deadline).await? {
                return Ok(Stored { object, origin: Origin::Adopted });
            }
            *unanswered = None;
        }
        if *sends >= self.options.upload_sends {
            return Err(sends_used_up(target, *sends));
        }
        let ask = Ask { operation: Operation::Upload, lane: target.lane, bytes: file.identity.size };
        let permit = target.connection.resilience.admit(ask, deadline).await?;
        self.registry.sending(intent).await?;
        tracker.enter(Phase::Sending);
        // The permit ends with the request: it may be the account's only one.
        let outcome = permit.run(self.send_once(file, target, intent, &tracker.progress, deadline)).await;
        match outcome {
            Ok(object) => {
                let object = self.check_size(target, object, file.identity.size, deadline).await?;
                Ok(Stored { object, origin: Origin::Sent })
            }
            Err(error) if error.is_ambiguous() => {
                let may_come_late = error.delivery() == Delivery::Unknown;
                *unanswered = Some(Unanswered { ended_at: self.clock.now(), may_come_late });
                *sends += 1;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Attempts are used up but the last one may have arrived: look once more before saying so.
    async fn last_look(
        &self,
        target: &Target<'_>,
        intent: &Intent,
        sending: Unanswered,
        deadline: Instant,
        error: Error,
    ) -> Result<Stored> {
        match self.find_orphan(target, intent, sending, deadline).await {
            Ok(Some(object)) => Ok(Stored { object, origin: Origin::Adopted }),
            Ok(None) => Err(error.with_delivery(Delivery::NotStored)),
            Err(_) => Err(outcome_unknown(target, error)),
        }
    }

    async fn send_once(
        &self,
        file: &Prepared,
        target: &Target<'_>,
        intent: &Intent,
        progress: &Progress,
        deadline: Instant,
    ) -> Result<FileObject> {
        target
            .connection
            .platform
            .upload(Upload {
                name: intent.remote_name.clone(),
                purpose: intent.placement.purpose.clone(),
                mime: file.identity.mime.clone(),
                length: file.identity.size,
                body: file.source.stream(file.identity.digest, progress.clone()),
                deadline,
            })
            .await
    }

    /// A copy of another number of bytes than were sent is worth nothing.
    async fn check_size(
        &self,
        target: &Target<'_>,
        object: FileObject,
        sent: u64,
        deadline: Instant,
    ) -> Result<FileObject> {
        let Some(stored) = object.size.filter(|stored| *stored != sent) else { return Ok(object) };
        self.clean_up(target, &object.id, deadline).await?;
        let platform = target.connection.platform.id();
        Err(Error::new(
            ErrorKind::Integrity,
            format!("{platform} stored {stored} bytes of the {sent} sent; that copy was removed"),
        )
        .with_hint("call upload again")
        .with_retry(Retry::Once, None))
    }

    /// Waits while the platform processes the file.
    async fn await_ready(
        &self,
        target: &Target<'_>,
        intent: &Intent,
        mut stored: Stored,
        deadline: Instant,
    ) -> Result<Stored> {
        if !stored.object.status.is_usable() {
            self.registry
                .stored(intent, &stored.object.id)
                .await
                .map_err(|error| error.with_delivery(Delivery::Doubtful))?;
        }
        let begun = Instant::now();
        let mut pause = *READY_POLL.start();
        loop {
            match &stored.object.status {
                RemoteStatus::Ready | RemoteStatus::Unstated => return Ok(stored),
                RemoteStatus::Failed | RemoteStatus::Deleted => {
                    return self.undo_rejected(target, stored, deadline).await;
                }
                RemoteStatus::Unknown(word) if begun.elapsed() > UNKNOWN_STATUS_PATIENCE => {
                    tracing::warn!(platform = %target.connection.platform.id(), status = %word, "unknown status word; taking the file as usable");
                    return Ok(stored);
                }
                // Stored and bound, but not ready in time: the record is true, and says when it was verified.
                _ if Instant::now() + pause >= deadline => return Ok(stored),
                _ => sleep(pause).await,
            }
            pause = (pause * 2).min(*READY_POLL.end());
            let asked =
                self.remote(target.connection, &stored.object.id, Some(&target.intent.placement.purpose), deadline);
            match asked.await {
                Ok(object) => stored.object = object,
                // It is stored all the same, and forgetting that would store it twice.
                Err(error) => {
                    tracing::warn!(platform = %target.connection.platform.id(), file = %stored.object.id, %error, "cannot tell whether a file is ready yet");
                    return Ok(stored);
                }
            }
        }
    }

    /// Removes a copy that is of no use. Where that fails, the copy stays on the platform unbound, and the error says so.
    async fn clean_up(&self, target: &Target<'_>, id: &str, deadline: Instant) -> Result<()> {
        self.remove(target.connection, id, deadline).await.map_err(|cause| {
            let platform = target.connection.platform.id();
            Error::new(
                ErrorKind::Integrity,
                format!(
                    "{platform} stored {:?} as {id}, which is of no use and could not be removed: {}",
                    target.intent.name,
                    cause.message()
                ),
            )
            .with_hint("delete it in the platform's console")
            .with_source(cause)
        })
    }

    async fn undo_rejected(&self, target: &Target<'_>, stored: Stored, deadline: Instant) -> Result<Stored> {
        self.clean_up(target, &stored.object.id, deadline).await?;
        let why = stored.object.status_details.unwrap_or_else(|| stored.object.status.to_string());
        let platform = target.connection.platform.id();
        Err(Error::new(
            ErrorKind::ContentRejected,
            format!("{platform} could not process {:?}: {why}", target.intent.name),
        )
        .with_hint("check that the file opens and has text in it, or use another purpose"))
    }

    /// Binds what was found on the platform after its sender was gone.
    pub(super) async fn bind_found(
        &self,
        target: &Target<'_>,
        claim: Box<HeldIntent>,
        object: FileObject,
        deadline: Instant,
    ) -> Result<Replica> {
        let object = self.check_size(target, object, claim.size, deadline).await?;
        let found = Stored { object, origin: Origin::Adopted };
        let stored = self.await_ready(target, &claim, found, deadline).await?;
        self.settle(target, claim, stored, deadline).await
    }

    async fn settle(
        &self,
        target: &Target<'_>,
        mut claim: Box<HeldIntent>,
        stored: Stored,
        deadline: Instant,
    ) -> Result<Replica> {
        let settlement = self.settlement(target, &claim, stored);
        claim.note_may_be_stored();
        let settled = self.registry.settle(&claim, &target.intent, settlement.clone()).await;
        match settled {
            Ok(replica) => {
                claim.done();
                self.tell_tool(&target.intent.placement.digest, &replica).await;
                Ok(replica)
            }
            Err(error) if error.kind() == ErrorKind::Conflict => {
                let replica = self.settle_after_all(target, settlement, deadline).await?;
                // Where it is still ours there is nothing left to be looked for.
                let _ = self.registry.fail(&claim, &error).await;
                claim.done();
                Ok(replica)
            }
            Err(error) => Err(error),
        }
    }

    /// Someone took our claim over while we were sending. If theirs is another copy, it stands and ours goes; if they
    /// have given up meanwhile, ours is the one. Until that is known nothing is deleted: they may be adopting it.
    async fn settle_after_all(
        &self,
        target: &Target<'_>,
        settlement: Settlement,
        deadline: Instant,
    ) -> Result<Replica> {
        match self.claim(target, deadline).await? {
            Claimed::AlreadyThere(winner) => {
                if winner.remote_id != settlement.remote_id {
                    self.remove(target.connection, &settlement.remote_id, deadline).await?;
                }
                Ok(winner)
            }
            Claimed::Ours(mut claim) => {
                claim.note_may_be_stored();
                let replica = self.registry.settle(&claim, &target.intent, settlement).await?;
                claim.done();
                Ok(replica)
            }
        }
    }

    fn settlement(&self, target: &Target<'_>, intent: &Intent, stored: Stored) -> Settlement {
        let object = stored.object;
        let created_at = object.created_at.unwrap_or_else(|| self.clock.now());
        Settlement {
            remote_id: object.id,
            remote_name: object.name.unwrap_or_else(|| intent.remote_name.clone()),
            content: target.content,
            created_at,
            expires_at: object.expires_at.or_else(|| target.retention.map(|age| created_at.plus(age))),
            raw: object.raw,
            origin: stored.origin,
        }
    }
}

enum Claimed {
    AlreadyThere(Replica),
    Ours(Box<HeldIntent>),
}

fn still_held(target: &Target<'_>) -> Error {
    let platform = target.connection.platform.id();
    Error::new(ErrorKind::TimedOut, format!("another caller is still uploading {:?} to {platform}", target.intent.name))
        .with_hint("call upload again, or allow more time")
}

fn sends_used_up(target: &Target<'_>, sends: u32) -> Error {
    let platform = target.connection.platform.id();
    Error::new(
        ErrorKind::Unavailable,
        format!("{platform} lost its reply to {:?} {sends} times and stored none of them", target.intent.name),
    )
    .with_hint("call upload again later")
}

fn outcome_unknown(target: &Target<'_>, cause: Error) -> Error {
    let platform = target.connection.platform.id();
    Error::new(
        ErrorKind::OutcomeUnknown,
        format!("{platform} may or may not have stored {:?}: {}", target.intent.name, cause.message()),
    )
    .with_hint("call upload again: it looks for the file on the platform before it sends anything")
    .with_delivery(Delivery::Unknown)
    .with_attempts(cause.attempts().to_vec())
    .with_source(cause)
}
