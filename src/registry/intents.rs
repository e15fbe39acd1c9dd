//! The journal: intents, leases, fences; `claims` says who may send.
//!
//! An intent is on disk before the first byte leaves. While its lease runs, everyone else waits; when the holder
//! dies, the next one takes it over with a higher fence and reconciles before sending anything.

use std::time::Duration;

use super::claims::{Claimed, claim, settle_account};
use super::expiry::retire_expired;
use super::recovery::{self, Unfinished};
use super::settle::name_content;
use super::{Auditor, Placement, Registry, rows};
use crate::audit::{Decision, Event};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AccountId, Keep, Replica};
use crate::store::{Id, Session, bind};

/// How long a claim outlives a holder that died without a word.
pub const LEASE: Duration = Duration::from_secs(30);

/// How often a holder renews its lease.
pub const RENEW_EVERY: Duration = Duration::from_secs(10);

/// What a caller is about to do.
#[derive(Clone, Debug)]
pub struct NewIntent {
    pub placement: Placement,
    /// The name the content was handed over under.
    pub name: String,
    pub remote_name: String,
    /// Bytes.
    pub size: u64,
    pub mime: String,
    /// Who hands it over.
    pub owner: Option<String>,
    /// A replica that its platform drops before then is not enough.
    pub needed_until: Option<Timestamp>,
    /// How long whoever hands it over wants it.
    pub keep: Keep,
}

/// How far an open intent has got, as it was last noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not a byte has left.
    Planned,
    /// The bytes are on their way, and may have arrived.
    Sending,
    /// They were sent, and nobody knows what became of them.
    Unknown,
    /// The platform has them, by an id that is noted.
    Stored,
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Planned => "planned",
            Phase::Sending => "sending",
            Phase::Unknown => "unknown",
            Phase::Stored => "stored",
        }
    }

    pub(super) fn parse(word: &str) -> Self {
        let all = [Phase::Planned, Phase::Unknown, Phase::Stored];
        all.into_iter().find(|phase| phase.as_str() == word).unwrap_or(Phase::Sending)
    }
}

/// The answer to "may I send this?".
#[derive(Debug)]
pub enum Claim {
    /// A live replica exists; there is nothing to do.
    AlreadyThere(Box<Replica>),
    /// Someone else is at it.
    Held,
    /// Ours to do. With `Intent::taken_from` an earlier holder may have sent it already.
    Ours(Box<HeldIntent>),
}

/// A claim that we hold.
#[derive(Clone, Debug)]
pub struct Intent {
    pub id: String,
    pub placement: Placement,
    pub fence: i64,
    pub remote_name: String,
    pub size: u64,
    /// When the first attempt of any holder began.
    pub first_sent_at: Timestamp,
    /// Of an earlier holder that had sent something, or may have.
    pub taken_from: Option<TakenOver>,
}

/// What an earlier holder of an intent left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenOver {
    /// Until when it may have been sending.
    pub ended_at: Timestamp,
    /// As what its platform has it, where it got so far.
    pub stored_as: Option<String>,
}

/// A claim in someone's hands; dropping it before it is closed gives it back.
///
/// The guard is made where the claim is written, so that a caller who is cancelled meanwhile holds nothing.
pub struct HeldIntent {
    intent: Intent,
    registry: Registry,
    is_closed: bool,
    may_be_stored: bool,
    has_left: Option<Box<dyn Fn() -> bool + Send + Sync>>,
}

impl std::fmt::Debug for HeldIntent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HeldIntent({:?})", self.intent)
    }
}

impl HeldIntent {
    fn new(registry: Registry, intent: Intent) -> Self {
        HeldIntent { may_be_stored: intent.taken_from.is_some(), intent, registry, is_closed: false, has_left: None }
    }

    /// Notes that the bytes may have arrived: whoever comes next has to look for them first.
    pub fn note_may_be_stored(&mut self) {
        self.may_be_stored = true;
    }

    /// Asked when the claim is dropped: whether the bytes may have arrived by then.
    pub fn may_be_stored_if(&mut self, has_left: impl Fn() -> bool + Send + Sync + 'static) {
        self.has_left = Some(Box::new(has_left));
    }

    /// The claim was settled, or failed for good: there is nothing to give back.
    pub fn done(&mut self) {
        self.is_closed = true;
    }
}

impl std::ops::Deref for HeldIntent {
    type Target = Intent;

    fn deref(&self) -> &Intent {
        &self.intent
    }
}

impl Drop for HeldIntent {
    fn drop(&mut self) {
        if !self.is_closed {
            let has_left = self.has_left.as_ref().is_some_and(|has_left| has_left());
            self.registry.abandon(&self.intent, self.may_be_stored || has_left);
        }
    }
}

impl Registry {
    /// Claims `intent.placement`, unless it is already there or claimed by someone alive.
    ///
    /// Where one of the `others`, further accounts of ours, has the content or is being sent it, it is that one's.
    pub async fn intend(&self, mut intent: NewIntent, others: Vec<AccountId>) -> Result<Claim> {
        let (owner, now) = (self.owner.clone(), self.now());
        let registry = self.clone();
        self.audited("intend", move |session, audit| {
            if !others.is_empty() {
                settle_account(session, &mut intent.placement, &others, now)?;
            }
            retire_expired(session, audit, &intent.placement)?;
            if let Some(replica) = rows::active_replica(session, &intent.placement, intent.needed_until)? {
                name_content(session, &intent, now, Some(now))?;
                return Ok(Claim::AlreadyThere(Box::new(replica)));
            }
            match claim(session, &intent, &owner, now)? {
                Claimed::Held => Ok(Claim::Held),
                Claimed::Ours(intent) => Ok(Claim::Ours(Box::new(HeldIntent::new(registry, intent)))),
                Claimed::AlreadyThere(replica) => {
                    name_content(session, &intent, now, Some(now))?;
                    Ok(Claim::AlreadyThere(replica))
                }
            }
        })
        .await
    }

    /// Notes that the bytes are about to be sent, and renews the lease: before the first of them leaves.
    ///
    /// # Errors
    /// `Conflict` when another holder took the intent over meanwhile.
    pub async fn sending(&self, intent: &Intent) -> Result<()> {
        let set = "phase = 'sending', remote_id = NULL, last_sent_at = ?3, attempt = attempt + 1, updated_at = ?3, lease_until = ?4";
        self.update_held("sending", intent, set, self.now()).await
    }

    /// Notes that the platform has it, where binding it must wait until it is ready.
    ///
    /// # Errors
    /// `Conflict` when another holder took the intent over meanwhile.
    pub async fn stored(&self, intent: &Intent, remote_id: &str) -> Result<()> {
        let (id, fence, now, remote_id) = (intent.id.clone(), intent.fence, self.now(), remote_id.to_owned());
        self.write("stored", move |session| {
            let sql = "UPDATE upload_intents SET phase = 'stored', remote_id = ?3, updated_at = ?4, lease_until = ?5
                            WHERE id = ?1 AND fence = ?2 AND state = 'sending'";
            match session.execute(sql, bind![Id(&id), fence, &remote_id, now, now.plus(LEASE)])? {
                1 => Ok(()),
                _ => Err(taken_over()),
            }
        })
        .await
    }

    /// Keeps the claim for another [`LEASE`].
    ///
    /// # Errors
    /// `Conflict` when another holder took the intent over meanwhile.
    pub async fn renew(&self, intent: &Intent) -> Result<()> {
        self.update_held("renew", intent, "updated_at = ?3, lease_until = ?4", self.now()).await
    }

    async fn update_held(&self, name: &'static str, intent: &Intent, set: &'static str, now: Timestamp) -> Result<()> {
        let (id, fence, until) = (intent.id.clone(), intent.fence, now.plus(LEASE));
        self.write(name, move |session| {
            let sql = format!("UPDATE upload_intents SET {set} WHERE id = ?1 AND fence = ?2 AND state = 'sending'");
            match session.execute(&sql, bind![Id(&id), fence, now, until])? {
                1 => Ok(()),
                _ => Err(taken_over()),
            }
        })
        .await
    }

    /// Whether another open intent sends, or sent, a file of the same name and size to the same place: without
    /// tags nobody could tell their files apart.
    pub async fn has_twin(&self, intent: &Intent) -> Result<bool> {
        let intent = intent.clone();
        self.store
            .read(move |session| {
                let Placement { platform, account, purpose, .. } = &intent.placement;
                let twins = session.row(
                    "SELECT 1 FROM upload_intents
                      WHERE platform = ?1 AND account = ?2 AND purpose = ?3 AND remote_name = ?4 AND file_size = ?5
                        AND state = 'sending' AND id <> ?6",
                    bind![
                        rows::stored(platform),
                        account.as_str(),
                        purpose.as_str(),
                        &intent.remote_name,
                        intent.size,
                        Id(&intent.id),
                    ],
                )?;
                Ok(twins.is_some())
            })
            .await
    }

    /// Closes the intent: nothing was stored, and anyone may try again.
    pub async fn fail(&self, intent: &Intent, error: &Error) -> Result<()> {
        let (intent, now) = (intent.clone(), self.now());
        let error =
            Error::new(error.kind(), error.message()).with_context(error.context().cloned().unwrap_or_default());
        self.audited("fail", move |session, audit| {
            close(session, &intent, "failed", Some(error.message()), now)?;
            note_failure(session, audit, &intent, &error)
        })
        .await
    }

    /// Lets go of the claim without waiting for the disk: for callers that were cancelled.
    ///
    /// With `may_be_stored` the next one to come reconciles; without, it starts afresh.
    fn abandon(&self, intent: &Intent, may_be_stored: bool) {
        let (intent, now, audit) = (intent.clone(), self.now(), self.auditor());
        self.store.write_soon(move |session| match may_be_stored {
            false => {
                close(session, &intent, "failed", Some("cancelled"), now)?;
                note_failure(session, &audit, &intent, &Error::new(ErrorKind::Cancelled, "cancelled"))
            }
            true => leave_open(session, &intent, now),
        });
    }

    /// Gives a claim back that is to be taken up again: what was sent may have been stored.
    pub async fn leave_open(&self, intent: &Intent) -> Result<()> {
        let (intent, now) = (intent.clone(), self.now());
        self.write("leave-open", move |session| leave_open(session, &intent, now)).await
    }

    /// Ends a claim that nobody holds: its file goes elsewhere.
    pub async fn end_upload(&self, id: &str, why: &'static str) -> Result<()> {
        let (id, now) = (id.to_owned(), self.now());
        self.write("end-upload", move |session| {
            let sql = "UPDATE upload_intents SET state = 'failed', fence = fence + 1, error = ?3, updated_at = ?2
                        WHERE id = ?1 AND state = 'sending' AND lease_until <= ?2";
            session.execute(sql, bind![Id(&id), now, why]).map(drop)
        })
        .await
    }
}

fn leave_open(session: &mut Session<'_>, intent: &Intent, now: Timestamp) -> Result<()> {
    session
        .execute(
            "UPDATE upload_intents
                SET phase = CASE phase WHEN 'sending' THEN 'unknown' ELSE phase END, lease_until = ?4, updated_at = ?3
              WHERE id = ?1 AND fence = ?2 AND state = 'sending'",
            bind![Id(&intent.id), intent.fence, now, Timestamp(0)],
        )
        .map(drop)
}

fn note_failure(session: &mut Session<'_>, audit: &Auditor, intent: &Intent, error: &Error) -> Result<()> {
    let Placement { digest, platform, account, .. } = &intent.placement;
    audit.note(
        session,
        &Event {
            decision: Decision::Failed,
            platform: Some(platform),
            account: Some(account),
            bytes: Some(intent.size),
            duration: Some(audit.now.since(intent.first_sent_at)),
            error: Some(error),
            ..Event::of("upload", digest)
        },
    )
}

pub(super) fn taken_over() -> Error {
    Error::new(ErrorKind::Conflict, "another process took this upload over")
        .with_hint("call upload again: it returns what the other one did")
}

pub(super) fn close(
    session: &mut Session<'_>,
    intent: &Intent,
    state: &str,
    why: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    let closed = session.execute(
        "UPDATE upload_intents SET state = ?3, error = ?4, updated_at = ?5
          WHERE id = ?1 AND fence = ?2 AND state = 'sending'",
        bind![Id(&intent.id), intent.fence, state, why, now],
    )?;
    match closed {
        1 if intent.fence == 1 => Ok(()),
        // Only what was taken over may have been recovered before.
        1 => recovery::forget(session, Unfinished::Upload, &intent.id),
        _ => Err(taken_over()),
    }
}
