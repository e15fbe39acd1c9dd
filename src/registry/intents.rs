//! The journal: claims, leases, fences.
//!
//! An intent is on disk before the first byte leaves. While its lease runs, everyone else waits; when the holder
//! dies, the next one takes it over with a higher fence and reconciles before sending anything.

use std::time::Duration;

use super::{Placement, Registry, new_id, rows};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AccountId, ContentKind, Replica, ReplicaStatus};
use crate::store::{Id, Json, Session, bind};

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
    /// Of an earlier holder: until when it may have been sending.
    pub taken_from: Option<Timestamp>,
}

/// A claim in someone's hands; dropping it before it is closed gives it back.
///
/// The guard is made where the claim is written, so that a caller who is cancelled meanwhile holds nothing.
#[derive(Debug)]
pub struct HeldIntent {
    intent: Intent,
    registry: Registry,
    is_closed: bool,
    may_be_stored: bool,
}

impl HeldIntent {
    fn new(registry: Registry, intent: Intent) -> Self {
        HeldIntent { may_be_stored: intent.taken_from.is_some(), intent, registry, is_closed: false }
    }

    /// Notes that the bytes may have arrived: whoever comes next has to look for them first.
    pub fn note_may_be_stored(&mut self) {
        self.may_be_stored = true;
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
            self.registry.abandon(&self.intent, self.may_be_stored);
        }
    }
}

/// What became of an intent: the replica that now exists.
#[derive(Clone, Debug)]
pub struct Settlement {
    pub remote_id: String,
    pub remote_name: String,
    pub content: ContentKind,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    /// The platform's own description.
    pub raw: serde_json::Value,
    pub origin: crate::model::Origin,
}

impl Registry {
    /// Claims `intent.placement`, unless it is already there or claimed by someone alive.
    ///
    /// Where one of the `others`, further accounts of ours, has the content or is being sent it, it is that one's.
    pub async fn intend(&self, mut intent: NewIntent, others: Vec<AccountId>) -> Result<Claim> {
        let (owner, now) = (self.owner.clone(), self.now());
        let registry = self.clone();
        self.store
            .write(move |session| {
                if !others.is_empty() {
                    settle_account(session, &mut intent.placement, &others, now)?;
                }
                retire_expired(session, &intent.placement, now)?;
                if let Some(replica) = rows::active_replica(session, &intent.placement)? {
                    name_content(session, &intent, now, true)?;
                    return Ok(Claim::AlreadyThere(Box::new(replica)));
                }
                match claim(session, &intent, &owner, now)? {
                    Claimed::Held => Ok(Claim::Held),
                    Claimed::Ours(intent) => Ok(Claim::Ours(Box::new(HeldIntent::new(registry, intent)))),
                    Claimed::AlreadyThere(replica) => {
                        name_content(session, &intent, now, true)?;
                        Ok(Claim::AlreadyThere(replica))
                    }
                }
            })
            .await
    }

    /// Notes that the bytes are about to be sent (again), and renews the lease.
    ///
    /// # Errors
    /// `Conflict` when another holder took the intent over meanwhile.
    pub async fn sending(&self, intent: &Intent) -> Result<()> {
        let set = "last_sent_at = ?3, attempt = attempt + 1, updated_at = ?3, lease_until = ?4";
        self.update_held(intent, set, self.now()).await
    }

    /// Keeps the claim for another [`LEASE`].
    ///
    /// # Errors
    /// `Conflict` when another holder took the intent over meanwhile.
    pub async fn renew(&self, intent: &Intent) -> Result<()> {
        self.update_held(intent, "updated_at = ?3, lease_until = ?4", self.now()).await
    }

    async fn update_held(&self, intent: &Intent, set: &'static str, now: Timestamp) -> Result<()> {
        let (id, fence, until) = (intent.id.clone(), intent.fence, now.plus(LEASE));
        self.store
            .write(move |session| {
                let sql = format!("UPDATE upload_intents SET {set} WHERE id = ?1 AND fence = ?2 AND state = 'sending'");
                match session.execute(&sql, bind![Id(&id), fence, now, until])? {
                    1 => Ok(()),
                    _ => Err(taken_over()),
                }
            })
            .await
    }

    /// Binds the replica and closes the intent, in one transaction.
    ///
    /// # Errors
    /// `Conflict` when another holder took the intent over meanwhile, or the content got another replica there: then
    /// nothing is written.
    pub async fn settle(&self, intent: &Intent, new: &NewIntent, settlement: Settlement) -> Result<Replica> {
        let (intent, new, now) = (intent.clone(), new.clone(), self.now());
        self.store
            .write(move |session| {
                session.lock(&intent.placement.digest.hex())?;
                close(session, &intent, "bound", None, now)?;
                let other = rows::active_replica(session, &intent.placement)?;
                if other.is_some_and(|other| other.remote_id != settlement.remote_id) {
                    return Err(taken_over());
                }
                let file_id = name_content(session, &new, now, true)?;
                insert_replica(session, &intent.placement, intent.size, &file_id, &settlement, now)?;
                Ok(replica(&intent.placement, settlement, now))
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
        let (intent, why, now) = (intent.clone(), error.message().to_owned(), self.now());
        self.store.write(move |session| close(session, &intent, "failed", Some(&why), now)).await
    }

    /// Lets go of the claim without waiting for the disk: for callers that were cancelled.
    ///
    /// With `may_be_stored` the next one to come reconciles; without, it starts afresh.
    fn abandon(&self, intent: &Intent, may_be_stored: bool) {
        let (intent, now) = (intent.clone(), self.now());
        self.store.write_soon(move |session| match may_be_stored {
            false => close(session, &intent, "failed", Some("cancelled"), now),
            true => {
                session.execute(
                    "UPDATE upload_intents SET lease_until = ?4, updated_at = ?3
                      WHERE id = ?1 AND fence = ?2 AND state = 'sending'",
                    bind![Id(&intent.id), intent.fence, now, Timestamp(0)],
                )?;
                Ok(())
            }
        });
    }
}

fn taken_over() -> Error {
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

/// A replica past its retention is gone, and must not be handed out or block a new one.
pub(super) fn retire_expired(session: &mut Session<'_>, placement: &Placement, now: Timestamp) -> Result<()> {
    let hex = placement.digest.hex();
    let [digest, platform, account, purpose] = rows::place(placement, &hex);
    session.execute(
        "UPDATE platform_file_registry SET status = 'deleted', updated_at = ?5
          WHERE file_hash = ?1 AND platform = ?2 AND account = ?3 AND purpose = ?4
            AND status = 'active' AND expires_at <= ?5",
        &[digest, platform, account, purpose, now.into()],
    )?;
    Ok(())
}

struct OpenIntent {
    id: String,
    fence: i64,
    lease_until: Timestamp,
    remote_name: String,
    first_sent_at: Timestamp,
    updated_at: Timestamp,
}

impl OpenIntent {
    /// Until when its holder may have been sending: it let go then, or it died before renewing its lease again.
    fn ended_at(&self) -> Timestamp {
        self.updated_at.max(self.lease_until.minus(LEASE - RENEW_EVERY))
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
        "SELECT id, fence, lease_until, remote_name, first_sent_at, updated_at FROM upload_intents
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
        taken_from: Some(open.ended_at()),
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
                                     attempt, remote_name, file_size, first_sent_at, last_sent_at, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, 'sending', ?6, 1, ?7, 1, ?8, ?9, ?10, ?10, ?10, ?10)
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
        ],
    )?;
    if begun == 0 {
        return Ok(Claimed::Held);
    }
    // Whoever had the claim until just now may have settled it after we looked: then there is nothing to do.
    if let Some(replica) = rows::active_replica(session, &new.placement)? {
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
            Ok(())
        }
    }
}

fn close(session: &mut Session<'_>, intent: &Intent, state: &str, why: Option<&str>, now: Timestamp) -> Result<()> {
    let closed = session.execute(
        "UPDATE upload_intents SET state = ?3, error = ?4, updated_at = ?5
          WHERE id = ?1 AND fence = ?2 AND state = 'sending'",
        bind![Id(&intent.id), intent.fence, state, why, now],
    )?;
    if closed == 1 { Ok(()) } else { Err(taken_over()) }
}

/// Makes sure the content and this name of it have rows; returns the id of the name's row. What somebody hands over
/// comes out of the trash.
pub(super) fn name_content(
    session: &mut Session<'_>,
    new: &NewIntent,
    now: Timestamp,
    is_handed_over: bool,
) -> Result<String> {
    let hex = new.placement.digest.hex();
    if let Some(id) = named(session, &hex, new, is_handed_over)? {
        return Ok(id);
    }
    // One content may come from many at the same time, under one name.
    session.lock(&hex)?;
    if let Some(id) = named(session, &hex, new, is_handed_over)? {
        return Ok(id);
    }
    let original = session.row("SELECT original_file_id FROM file_hashes WHERE file_hash = ?1", bind![&hex])?;
    let original = original.map(|row| row.get::<Option<String>>(0)).transpose()?.flatten();
    let id = new_id();
    session.execute(
        "INSERT INTO file_uploads (id, filename, file_size, mime_type, file_hash, is_duplicate, original_file_id,
                                   deduplication_checked, created_at, user_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        bind![
            Id(&id),
            &new.name,
            new.size,
            &new.mime,
            &hex,
            original.is_some(),
            original.as_deref().map(Id),
            true,
            now,
            new.owner.as_deref(),
        ],
    )?;
    session.execute(
        "INSERT INTO file_hashes (id, file_hash, original_file_id, file_size, content_type, duplicate_count, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?6)
         ON CONFLICT (file_hash) DO UPDATE
            SET duplicate_count = COALESCE(file_hashes.duplicate_count, 0) + 1, updated_at = excluded.updated_at,
                trashed_at = CASE WHEN ?7 THEN NULL ELSE file_hashes.trashed_at END,
                original_file_id = COALESCE(file_hashes.original_file_id, excluded.original_file_id)",
        bind![Id(&new_id()), &hex, Id(&id), new.size, &new.mime, now, is_handed_over],
    )?;
    Ok(id)
}

/// The row of this name, if there is one: it may have been in the trash, and nobody's.
fn named(session: &mut Session<'_>, hex: &str, new: &NewIntent, is_handed_over: bool) -> Result<Option<String>> {
    let row = session.row(
        "SELECT f.id, h.trashed_at IS NOT NULL, f.user_id IS NULL
           FROM file_uploads f JOIN file_hashes h ON h.file_hash = f.file_hash
          WHERE f.file_hash = ?1 AND f.filename = ?2",
        bind![hex, &new.name],
    )?;
    let Some(row) = row else { return Ok(None) };
    let id: String = row.get(0)?;
    if is_handed_over && row.get(1)? {
        session.execute("UPDATE file_hashes SET trashed_at = NULL WHERE file_hash = ?1", bind![hex])?;
    }
    if let Some(owner) = new.owner.as_ref().filter(|_| row.get(2).unwrap_or(false)) {
        session.execute("UPDATE file_uploads SET user_id = ?2 WHERE id = ?1", bind![Id(&id), owner])?;
    }
    Ok(Some(id))
}

/// A remote id that has a row already, of a file that was taken for lost, is bound anew.
pub(super) fn insert_replica(
    session: &mut Session<'_>,
    placement: &Placement,
    size: u64,
    file_id: &str,
    settlement: &Settlement,
    now: Timestamp,
) -> Result<()> {
    let (hex, raw) = (placement.digest.hex(), settlement.raw.to_string());
    let [digest, platform, account, purpose] = rows::place(placement, &hex);
    session.execute(
        "INSERT INTO platform_file_registry
             (file_hash, platform, account, purpose, id, file_id, platform_file_id, platform_metadata, remote_name,
              content_kind, file_size, status, last_verified, verification_count, remote_created_at, expires_at,
              created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 'active', ?12, 1, ?13, ?14, ?12, ?12)
         ON CONFLICT (platform, platform_file_id) DO UPDATE
            SET file_hash = excluded.file_hash, account = excluded.account, purpose = excluded.purpose,
                file_id = excluded.file_id, platform_metadata = excluded.platform_metadata,
                remote_name = excluded.remote_name, content_kind = excluded.content_kind,
                file_size = excluded.file_size, status = 'active', last_verified = excluded.last_verified,
                remote_created_at = excluded.remote_created_at, expires_at = excluded.expires_at,
                updated_at = excluded.updated_at",
        &[
            digest,
            platform,
            account,
            purpose,
            Id(&new_id()).into(),
            Id(file_id).into(),
            (&settlement.remote_id).into(),
            Json(&raw).into(),
            (&settlement.remote_name).into(),
            settlement.content.as_str().into(),
            size.into(),
            now.into(),
            settlement.created_at.into(),
            settlement.expires_at.into(),
        ],
    )?;
    Ok(())
}

pub(super) fn replica(placement: &Placement, settlement: Settlement, now: Timestamp) -> Replica {
    Replica {
        platform: placement.platform.clone(),
        account: placement.account.clone(),
        purpose: placement.purpose.clone(),
        remote_id: settlement.remote_id,
        remote_name: settlement.remote_name,
        status: ReplicaStatus::Active,
        content: settlement.content,
        created_at: settlement.created_at,
        verified_at: now,
        expires_at: settlement.expires_at,
        origin: settlement.origin,
    }
}
