//! Binding a replica: the end of an intent, and the rows that a content and its names have.

use super::intents::{Intent, NewIntent, close, taken_over};
use super::lifecycle::keep_longer;
use super::{Placement, Registry, new_id, rows};
use crate::audit::Event;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::model::{ContentKind, Keep, Origin, Replica, ReplicaStatus};
use crate::store::{Id, Json, Session, bind};

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
    pub origin: Origin,
}

impl Registry {
    /// Binds the replica and closes the intent, in one transaction.
    ///
    /// # Errors
    /// `Conflict` when another holder took the intent over meanwhile, or the content got another replica there: then
    /// nothing is written. One that does not live as long as is needed makes room: it is used no more, and removed later.
    pub async fn settle(&self, intent: &Intent, new: &NewIntent, settlement: Settlement) -> Result<Replica> {
        let (intent, new, now) = (intent.clone(), new.clone(), self.now());
        self.audited("settle", move |session, audit| {
            session.lock(&intent.placement.digest.hex())?;
            close(session, &intent, "bound", None, now)?;
            let other = rows::active_replica(session, &intent.placement, None)?;
            let is_renewed = match other.filter(|other| other.remote_id != settlement.remote_id) {
                None => false,
                Some(other) if other.lives_until(new.needed_until) => return Err(taken_over()),
                Some(other) => retire(session, &other, now).map(|()| true)?,
            };
            let file_id = name_content(session, &new, now, Some(intent.first_sent_at))?;
            insert_replica(session, &intent.placement, intent.size, &file_id, &settlement, now)?;
            let Placement { digest, platform, account, .. } = &intent.placement;
            audit.note(
                session,
                &Event {
                    platform: Some(platform),
                    account: Some(account),
                    remote_id: Some(&settlement.remote_id),
                    bytes: Some(intent.size),
                    duration: Some(now.since(intent.first_sent_at)),
                    details: &[("origin", settlement.origin.as_str()), ("purpose", intent.placement.purpose.as_str())],
                    ..Event::of(if is_renewed { "renew" } else { "upload" }, digest)
                },
            )?;
            Ok(replica(&intent.placement, settlement, now))
        })
        .await
    }
}

/// Another replica takes its place: it is handed out no more.
fn retire(session: &mut Session<'_>, replica: &Replica, now: Timestamp) -> Result<()> {
    session.execute(
        "UPDATE platform_file_registry SET status = 'retired', updated_at = ?3
          WHERE platform = ?1 AND platform_file_id = ?2 AND status = 'active'",
        bind![rows::stored(&replica.platform), &replica.remote_id, now],
    )?;
    Ok(())
}

/// Makes sure the content and this name of it have rows; returns the id of the name's row. What somebody has handed over
/// since it was put into the trash comes out of it.
pub(super) fn name_content(
    session: &mut Session<'_>,
    new: &NewIntent,
    now: Timestamp,
    handed_over_at: Option<Timestamp>,
) -> Result<String> {
    let hex = new.placement.digest.hex();
    if let Some(id) = named(session, &hex, new, handed_over_at)? {
        return Ok(id);
    }
    // One content may come from many at the same time, under one name.
    session.lock(&hex)?;
    if let Some(id) = named(session, &hex, new, handed_over_at)? {
        return Ok(id);
    }
    // Other programs note originals that are in no table of ours.
    let known =
        "SELECT f.id FROM file_hashes h JOIN file_uploads f ON f.id = h.original_file_id WHERE h.file_hash = ?1";
    let original = session.row(known, bind![&hex])?;
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
        "INSERT INTO file_hashes (id, file_hash, original_file_id, file_size, content_type, duplicate_count, created_at, updated_at, keep_until)
         VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?6, ?8)
         ON CONFLICT (file_hash) DO UPDATE
            SET duplicate_count = COALESCE(file_hashes.duplicate_count, 0) + 1, updated_at = excluded.updated_at,
                file_size = excluded.file_size,
                trashed_at = CASE WHEN file_hashes.trashed_at <= ?7 THEN NULL ELSE file_hashes.trashed_at END,
                keep_until = CASE WHEN ?9 THEN file_hashes.keep_until
                                  WHEN ?8 > file_hashes.keep_until THEN ?8
                                  WHEN ?8 IS NULL THEN NULL ELSE file_hashes.keep_until END,
                original_file_id = CASE WHEN ?10 THEN file_hashes.original_file_id ELSE excluded.original_file_id END",
        bind![
            Id(&new_id()),
            &hex,
            Id(&id),
            new.size,
            &new.mime,
            now,
            handed_over_at,
            new.keep.until(),
            handed_over_at.is_none() || new.keep == Keep::AsItIs,
            original.is_some(),
        ],
    )?;
    Ok(id)
}

/// The row of this name, if there is one: it may have been in the trash, and nobody's.
fn named(
    session: &mut Session<'_>,
    hex: &str,
    new: &NewIntent,
    handed_over_at: Option<Timestamp>,
) -> Result<Option<String>> {
    let row = session.row(
        "SELECT f.id, h.trashed_at, f.user_id IS NULL, h.keep_until
           FROM file_uploads f JOIN file_hashes h ON h.file_hash = f.file_hash
          WHERE f.file_hash = ?1 AND f.filename = ?2",
        bind![hex, &new.name],
    )?;
    let Some(row) = row else { return Ok(None) };
    let id: String = row.get(0)?;
    let trashed_at: Option<Timestamp> = row.get(1)?;
    if trashed_at.is_some_and(|at| Some(at) <= handed_over_at) {
        session.execute("UPDATE file_hashes SET trashed_at = NULL WHERE file_hash = ?1", bind![hex])?;
    }
    if handed_over_at.is_some() {
        keep_longer(session, hex, row.get(3)?, new.keep)?;
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
        used_at: None,
        origin: settlement.origin,
    }
}
