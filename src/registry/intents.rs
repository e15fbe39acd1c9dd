//! The journal: claims, leases, fences.
//!
//! An intent is on disk before the first byte leaves. While its lease runs, everyone else waits; when the holder
//! dies, the next one takes it over with a higher fence and reconciles before sending anything.

use std::time::Duration;

use super::expiry::retire_expired;
use super::recovery::{self, Unfinished};
use super::settle::name_content;
use super::{Auditor, Placement, Registry, new_id, rows};
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

/// "For ever" in the journal, where nothing means that nothing was said.
const FOR_EVER: Timestamp = Timestamp(i64::MAX >> 8);

fn noted(keep: Keep) -> Option<Timestamp> {
    match keep {
        Keep::AsItIs => None,
        Keep::Forever => Some(FOR_EVER),
        Keep::Until(at) => Some(at.min(FOR_EVER)),
    }
}

pub(super) fn keep_of(noted: Option<Timestamp>) -> Keep {
    match noted {
        None => Keep::AsItIs,
        Some(FOR_EVER) => Keep::Forever,
        Some(at) => Keep::Until(at),
    }
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

/// A content goes to one account of a platform, whoever uploads it and whichever account they would have chosen.
fn settle_account(
    session: &mut Session<'_>,
    placement: &mut Placement,
    others: &[AccountId],
    now: Timestamp,
) -> Result<()> {
    let hex = placement.digest.hex();
    let [digest, platform, _, purpose] = rows::place(placement, &hex);
    session.lock(&format!("{hex} {} {}", placement.platform, placement.purpose))?;
    // In one statement: between two, what was being sent may have become a replica.
    let rows = session.rows(
        "SELECT account FROM platform_file_registry
          WHERE file_hash = ?1 AND platform = ?2 AND purpose = ?3 AND status = 'active'
            AND (expires_at IS NULL OR expires_at > ?4)
         UNION ALL
         SELECT account FROM upload_intents
          WHERE file_hash = ?1 AND platform = ?2 AND purpose = ?3 AND state = 'sending'",
        &[digest, platform, purpose, now.into()],
    )?;
    let holders = rows.iter().map(|row| Ok(AccountId::new(&row.get::<String>(0)?))).collect::<Result<Vec<_>>>()?;
    let is_ours = |holder: &&AccountId| **holder == placement.account || others.contains(holder);
    if let Some(holder) = holders.iter().find(is_ours) {
        placement.account = holder.clone();
    }
    Ok(())
}

struct OpenIntent {
    id: String,
    fence: i64,
    lease_until: Timestamp,
    remote_name: String,
    first_sent_at: Timestamp,
    updated_at: Timestamp,
    phase: Phase,
    remote_id: Option<String>,
}

impl OpenIntent {
    /// Until when its holder may have been sending: it let go then, or it died before renewing its lease again.
    fn ended_at(&self) -> Timestamp {
        self.updated_at.max(self.lease_until.minus(LEASE - RENEW_EVERY))
    }

    /// What there is to be looked for; nothing where nothing was sent.
    fn left(&self) -> Option<TakenOver> {
        let stored_as = self.remote_id.clone().filter(|_| self.phase == Phase::Stored);
        (self.phase != Phase::Planned).then(|| TakenOver { ended_at: self.ended_at(), stored_as })
    }
}

enum Claimed {
    AlreadyThere(Box<Replica>),
    /// Someone alive has it.
    Held,
    Ours(Intent),
}

fn claim(session: &mut Session<'_>, new: &NewIntent, owner: &str, now: Timestamp) -> Result<Claimed> {
    match open_intent(session, &new.placement)? {
        Some(open) if open.lease_until > now => Ok(Claimed::Held),
        Some(open) => take_over(session, open, new, owner, now),
        None => begin(session, new, owner, now),
    }
}

fn open_intent(session: &mut Session<'_>, placement: &Placement) -> Result<Option<OpenIntent>> {
    let row = session.row(
        "SELECT id, fence, lease_until, remote_name, first_sent_at, updated_at, phase, remote_id FROM upload_intents
          WHERE file_hash = ?1 AND platform = ?2 AND account = ?3 AND purpose = ?4 AND state = 'sending'",
        &rows::place(placement, &placement.digest.hex()),
    )?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(OpenIntent {
        id: row.get(0)?,
        fence: row.get(1)?,
        lease_until: row.get(2)?,
        remote_name: row.get(3)?,
        first_sent_at: row.get(4)?,
        updated_at: row.get(5)?,
        phase: Phase::parse(&row.get::<String>(6)?),
        remote_id: row.get(7)?,
    }))
}

fn take_over(
    session: &mut Session<'_>,
    open: OpenIntent,
    new: &NewIntent,
    owner: &str,
    now: Timestamp,
) -> Result<Claimed> {
    let taken = session.execute(
        "UPDATE upload_intents SET owner = ?3, fence = fence + 1, lease_until = ?4, updated_at = ?5
          WHERE id = ?1 AND fence = ?2 AND state = 'sending'",
        bind![Id(&open.id), open.fence, owner, now.plus(LEASE), now],
    )?;
    if taken == 0 {
        return Ok(Claimed::Held); // another one was faster
    }
    Ok(Claimed::Ours(Intent {
        taken_from: open.left(),
        id: open.id,
        placement: new.placement.clone(),
        fence: open.fence + 1,
        remote_name: open.remote_name,
        size: new.size,
        first_sent_at: open.first_sent_at,
    }))
}

fn begin(session: &mut Session<'_>, new: &NewIntent, owner: &str, now: Timestamp) -> Result<Claimed> {
    let (id, hex) = (new_id(), new.placement.digest.hex());
    let [digest, platform, account, purpose] = rows::place(&new.placement, &hex);
    let begun = session.execute(
        "INSERT INTO upload_intents (file_hash, platform, account, purpose, id, state, owner, fence, lease_until,
                                     attempt, remote_name, file_size, first_sent_at, last_sent_at, created_at, updated_at,
                                     phase, filename, mime_type, user_id, keep_until, needed_until)
         VALUES (?1, ?2, ?3, ?4, ?5, 'sending', ?6, 1, ?7, 0, ?8, ?9, ?10, ?10, ?10, ?10, 'planned', ?11, ?12, ?13, ?14, ?15)
         ON CONFLICT (file_hash, platform, account, purpose) WHERE state = 'sending' DO NOTHING",
        &[
            digest,
            platform,
            account,
            purpose,
            Id(&id).into(),
            owner.into(),
            now.plus(LEASE).into(),
            (&new.remote_name).into(),
            new.size.into(),
            now.into(),
            (&new.name).into(),
            (&new.mime).into(),
            new.owner.as_deref().into(),
            noted(new.keep).into(),
            new.needed_until.into(),
        ],
    )?;
    if begun == 0 {
        return Ok(Claimed::Held);
    }
    // Whoever had the claim until just now may have settled it after we looked: then there is nothing to do.
    if let Some(replica) = rows::active_replica(session, &new.placement, new.needed_until)? {
        session.execute("DELETE FROM upload_intents WHERE id = ?1", bind![Id(&id)])?;
        return Ok(Claimed::AlreadyThere(Box::new(replica)));
    }
    Ok(Claimed::Ours(Intent {
        id,
        placement: new.placement.clone(),
        fence: 1,
        remote_name: new.remote_name.clone(),
        size: new.size,
        first_sent_at: now,
        taken_from: None,
    }))
}

/// Ends an open claim whose holder is dead, for good: what it may have sent is bound, or found as an orphan.
///
/// # Errors
/// `Conflict` while the holder is alive.
pub(super) fn close_dead(session: &mut Session<'_>, placement: &Placement, now: Timestamp) -> Result<()> {
    match open_intent(session, placement)? {
        None => Ok(()),
        Some(open) if open.lease_until > now => {
            Err(Error::new(ErrorKind::Conflict, "this content is being sent there").with_hint("look again later"))
        }
        Some(open) => {
            session.execute(
                "UPDATE upload_intents SET state = 'failed', fence = fence + 1, error = 'bound by another', updated_at = ?2
                  WHERE id = ?1 AND state = 'sending'",
                bind![Id(&open.id), now],
            )?;
            recovery::forget(session, Unfinished::Upload, &open.id)
        }
    }
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
