//! The journal: claims, leases, fences.
//!
//! An intent is on disk before the first byte leaves. While its lease runs, everyone else waits; when the holder
//! dies, the next one takes it over with a higher fence and reconciles before sending anything.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Placement, Registry, new_id, rows};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{ContentKind, Replica, ReplicaStatus};

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
    pub async fn intend(&self, intent: NewIntent) -> Result<Claim> {
        let (owner, now) = (self.owner.clone(), self.now());
        let registry = self.clone();
        self.store
            .write(move |connection| {
                retire_expired(connection, &intent.placement, now)?;
                if let Some(replica) = rows::active_replica(connection, &intent.placement)? {
                    name_content(connection, &intent, now)?;
                    return Ok(Claim::AlreadyThere(Box::new(replica)));
                }
                let claimed = claim(connection, intent, &owner, now)?;
                Ok(claimed.map_or(Claim::Held, |intent| Claim::Ours(Box::new(HeldIntent::new(registry, intent)))))
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
            .write(move |connection| {
                let sql = format!("UPDATE upload_intents SET {set} WHERE id = ?1 AND fence = ?2 AND state = 'sending'");
                match connection.prepare_cached(&sql)?.execute(params![id, fence, now.0, until.0])? {
                    1 => Ok(()),
                    _ => Err(taken_over()),
                }
            })
            .await
    }

    /// Binds the replica and closes the intent, in one transaction.
    ///
    /// # Errors
    /// `Conflict` when another holder took the intent over meanwhile: then nothing is written.
    pub async fn settle(&self, intent: &Intent, new: &NewIntent, settlement: Settlement) -> Result<Replica> {
        let (intent, new, now) = (intent.clone(), new.clone(), self.now());
        self.store
            .write(move |connection| {
                close(connection, &intent, "bound", None, now)?;
                let file_id = name_content(connection, &new, now)?;
                insert_replica(connection, &intent, &file_id, &settlement, now)?;
                Ok(replica(&intent.placement, settlement, now))
            })
            .await
    }

    /// Whether another open intent sends, or sent, a file of the same name and size to the same place: without
    /// tags nobody could tell their files apart.
    pub async fn has_twin(&self, intent: &Intent) -> Result<bool> {
        let intent = intent.clone();
        self.store
            .read(move |connection| {
                let twins: u64 = connection
                    .prepare_cached(
                        "SELECT COUNT(*) FROM upload_intents
                          WHERE platform = ?1 AND account = ?2 AND purpose = ?3 AND remote_name = ?4 AND file_size = ?5
                            AND state = 'sending' AND id <> ?6",
                    )?
                    .query_row(
                        params![
                            intent.placement.platform.as_str(),
                            intent.placement.account.as_str(),
                            intent.placement.purpose.as_str(),
                            intent.remote_name,
                            intent.size,
                            intent.id
                        ],
                        |row| row.get(0),
                    )?;
                Ok(twins > 0)
            })
            .await
    }

    /// Closes the intent: nothing was stored, and anyone may try again.
    pub async fn fail(&self, intent: &Intent, error: &Error) -> Result<()> {
        let (intent, why, now) = (intent.clone(), error.message().to_owned(), self.now());
        self.store.write(move |connection| close(connection, &intent, "failed", Some(&why), now)).await
    }

    /// Lets go of the claim without waiting for the disk: for callers that were cancelled.
    ///
    /// With `may_be_stored` the next one to come reconciles; without, it starts afresh.
    fn abandon(&self, intent: &Intent, may_be_stored: bool) {
        let (intent, now) = (intent.clone(), self.now());
        self.store.write_soon(move |connection| match may_be_stored {
            false => close(connection, &intent, "failed", Some("cancelled"), now),
            true => {
                connection
                    .prepare_cached(
                        "UPDATE upload_intents SET lease_until = 0, updated_at = ?3
                          WHERE id = ?1 AND fence = ?2 AND state = 'sending'",
                    )?
                    .execute(params![intent.id, intent.fence, now.0])?;
                Ok(())
            }
        });
    }
}

fn taken_over() -> Error {
    Error::new(ErrorKind::Conflict, "another process took this upload over")
        .with_hint("call upload again: it returns what the other one did")
}

/// A replica past its retention is gone, and must not be handed out or block a new one.
fn retire_expired(connection: &Connection, placement: &Placement, now: Timestamp) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE platform_file_registry SET status = 'deleted', updated_at = ?5
              WHERE file_hash = ?1 AND platform = ?2 AND account = ?3 AND purpose = ?4
                AND status = 'active' AND expires_at <= ?5",
        )?
        .execute(params![
            placement.digest.hex(),
            placement.platform.as_str(),
            placement.account.as_str(),
            placement.purpose.as_str(),
            now.0
        ])?;
    Ok(())
}

struct OpenIntent {
    id: String,
    fence: i64,
    lease_until: i64,
    remote_name: String,
    first_sent_at: i64,
    updated_at: i64,
}

impl OpenIntent {
    /// Until when its holder may have been sending: it let go then, or it died before renewing its lease again.
    fn ended_at(&self) -> Timestamp {
        Timestamp(self.updated_at).max(Timestamp(self.lease_until).minus(LEASE - RENEW_EVERY))
    }
}

/// The intent that is now ours; `None` while someone alive has it.
fn claim(connection: &Connection, new: NewIntent, owner: &str, now: Timestamp) -> Result<Option<Intent>> {
    match open_intent(connection, &new.placement)? {
        Some(open) if open.lease_until > now.0 => Ok(None),
        Some(open) => take_over(connection, open, new, owner, now).map(Some),
        None => begin(connection, new, owner, now).map(Some),
    }
}

fn open_intent(connection: &Connection, placement: &Placement) -> Result<Option<OpenIntent>> {
    let open = connection
        .prepare_cached(
            "SELECT id, fence, lease_until, remote_name, first_sent_at, updated_at FROM upload_intents
              WHERE file_hash = ?1 AND platform = ?2 AND account = ?3 AND purpose = ?4 AND state = 'sending'",
        )?
        .query_row(
            params![
                placement.digest.hex(),
                placement.platform.as_str(),
                placement.account.as_str(),
                placement.purpose.as_str()
            ],
            |row| {
                Ok(OpenIntent {
                    id: row.get(0)?,
                    fence: row.get(1)?,
                    lease_until: row.get(2)?,
                    remote_name: row.get(3)?,
                    first_sent_at: row.get(4)?,
                    updated_at: row.get(5)?,
                })
            },
        )
        .optional()?;
    Ok(open)
}

fn take_over(connection: &Connection, open: OpenIntent, new: NewIntent, owner: &str, now: Timestamp) -> Result<Intent> {
    let ended_at = open.ended_at();
    connection
        .prepare_cached(
            "UPDATE upload_intents SET owner = ?2, fence = ?3, lease_until = ?4, updated_at = ?5 WHERE id = ?1",
        )?
        .execute(params![open.id, owner, open.fence + 1, now.plus(LEASE).0, now.0])?;
    Ok(Intent {
        id: open.id,
        placement: new.placement,
        fence: open.fence + 1,
        remote_name: open.remote_name,
        size: new.size,
        first_sent_at: Timestamp(open.first_sent_at),
        taken_from: Some(ended_at),
    })
}

fn begin(connection: &Connection, new: NewIntent, owner: &str, now: Timestamp) -> Result<Intent> {
    let id = new_id();
    connection
        .prepare_cached(
            "INSERT INTO upload_intents (id, file_hash, platform, account, purpose, state, owner, fence, lease_until,
                                         attempt, remote_name, file_size, first_sent_at, last_sent_at, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, 'sending', ?6, 1, ?7, 1, ?8, ?9, ?10, ?10, ?10, ?10)",
        )?
        .execute(params![
            id,
            new.placement.digest.hex(),
            new.placement.platform.as_str(),
            new.placement.account.as_str(),
            new.placement.purpose.as_str(),
            owner,
            now.plus(LEASE).0,
            new.remote_name,
            new.size,
            now.0
        ])?;
    Ok(Intent {
        id,
        placement: new.placement,
        fence: 1,
        remote_name: new.remote_name,
        size: new.size,
        first_sent_at: now,
        taken_from: None,
    })
}

fn close(connection: &Connection, intent: &Intent, state: &str, why: Option<&str>, now: Timestamp) -> Result<()> {
    let closed = connection
        .prepare_cached(
            "UPDATE upload_intents SET state = ?3, error = ?4, updated_at = ?5
              WHERE id = ?1 AND fence = ?2 AND state = 'sending'",
        )?
        .execute(params![intent.id, intent.fence, state, why, now.0])?;
    if closed == 1 { Ok(()) } else { Err(taken_over()) }
}

/// Makes sure the content and this name of it have rows; returns the id of the name's row.
fn name_content(connection: &Connection, new: &NewIntent, now: Timestamp) -> Result<String> {
    let hex = new.placement.digest.hex();
    let known: Option<String> = connection
        .prepare_cached("SELECT id FROM file_uploads WHERE file_hash = ?1 AND filename = ?2")?
        .query_row(params![hex, new.name], |row| row.get(0))
        .optional()?;
    if let Some(id) = known {
        return Ok(id);
    }
    let original: Option<String> = connection
        .prepare_cached("SELECT original_file_id FROM file_hashes WHERE file_hash = ?1")?
        .query_row([&hex], |row| row.get(0))
        .optional()?;
    let id = new_id();
    connection
        .prepare_cached(
            "INSERT INTO file_uploads (id, filename, file_size, mime_type, file_hash, is_duplicate, original_file_id, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![id, new.name, new.size, new.mime, hex, original.is_some(), original, now.0])?;
    connection
        .prepare_cached(
            "INSERT INTO file_hashes (id, file_hash, original_file_id, file_size, content_type, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
             ON CONFLICT (file_hash) DO UPDATE SET duplicate_count = duplicate_count + 1, updated_at = excluded.updated_at",
        )?
        .execute(params![new_id(), hex, id, new.size, new.mime, now.0])?;
    Ok(id)
}

fn insert_replica(
    connection: &Connection,
    intent: &Intent,
    file_id: &str,
    settlement: &Settlement,
    now: Timestamp,
) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO platform_file_registry
                 (id, file_id, file_hash, platform, account, purpose, platform_file_id, platform_metadata, remote_name,
                  content_kind, file_size, status, last_verified, verification_count, remote_created_at, expires_at,
                  created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 'active', ?12, 1, ?13, ?14, ?12, ?12)",
        )?
        .execute(params![
            new_id(),
            file_id,
            intent.placement.digest.hex(),
            intent.placement.platform.as_str(),
            intent.placement.account.as_str(),
            intent.placement.purpose.as_str(),
            settlement.remote_id,
            settlement.raw.to_string(),
            settlement.remote_name,
            settlement.content.as_str(),
            intent.size,
            now.0,
            settlement.created_at.0,
            settlement.expires_at.map(|at| at.0)
        ])?;
    Ok(())
}

fn replica(placement: &Placement, settlement: Settlement, now: Timestamp) -> Replica {
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
