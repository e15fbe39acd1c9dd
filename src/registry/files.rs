//! Looking things up, and noting what is gone.

use std::collections::HashMap;

use serde_json::json;

use super::holdings::of_replica;
use super::holds;
use super::recovery::{self, Unfinished};
use super::{Registry, lifecycle, rows};
use crate::audit::{Decision, Event};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AccountId, Digest, FileRecord, PlatformId, Replica};
use crate::store::{Row, Session, Value, bind};

/// Fewest characters of a digest that are taken as a short form of it.
const SHORTEST_PREFIX: usize = 6;

/// Why a replica is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// We deleted it, and its platform says that it is gone.
    Deleted,
    /// We deleted it, and its platform, which cannot be asked for it, took that.
    Accepted,
    /// Its platform does not have it any more, and that was not our doing.
    Lost,
    /// To make room for others.
    Evicted,
}

impl Gone {
    fn action(self) -> &'static str {
        match self {
            Gone::Deleted | Gone::Accepted => "delete",
            Gone::Lost => "lose",
            Gone::Evicted => "evict",
        }
    }

    fn reason(self) -> Option<&'static str> {
        match self {
            Gone::Deleted => Some("gone when asked for again"),
            Gone::Accepted => Some("the platform took it; it cannot be asked"),
            Gone::Lost | Gone::Evicted => None,
        }
    }
}

/// What an account has to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coming {
    pub expiring: [u64; 2],
    pub added_lately: u64,
}

/// What an account holds, as far as the registry knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub files: u64,
    pub bytes: u64,
}

impl Registry {
    /// What is known of a content. Blocking.
    pub fn find(&self, digest: &Digest) -> Result<Option<FileRecord>> {
        let digest = *digest;
        self.store.read_blocking(move |session| rows::find_record(session, &digest))
    }

    /// The record behind what a person wrote: a digest, a unique start of one, a remote id, or a file's name. What begins
    /// with `sha256:` is a digest, and never the name of another file.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when several files fit.
    pub async fn resolve(&self, reference: &str) -> Result<FileRecord> {
        let reference = reference.trim().to_owned();
        self.store.read(move |session| resolve(session, &reference)).await
    }

    /// Whether the registry explains a remote id, alive or not, whatever name its account had at the time.
    pub async fn knows_remote(&self, platform: &PlatformId, id: &str) -> Result<bool> {
        let (platform, id) = (platform.clone(), id.to_owned());
        self.store
            .read(move |session| {
                let sql = "SELECT 1 FROM platform_file_registry WHERE platform = ?1 AND platform_file_id = ?2";
                Ok(session.row(sql, bind![rows::stored(&platform), &id])?.is_some())
            })
            .await
    }

    /// The first row of `file_uploads` for a content, as the existing tool reads it.
    pub async fn upload_row(&self, digest: &Digest) -> Result<Option<serde_json::Value>> {
        let hex = digest.hex();
        self.store
            .read(move |session| {
                let row = session.row(
                    "SELECT f.id, f.filename, f.file_size, f.mime_type, f.created_at
                       FROM file_hashes h JOIN file_uploads f ON f.id = h.original_file_id WHERE h.file_hash = ?1",
                    bind![&hex],
                )?;
                let Some(row) = row else { return Ok(None) };
                Ok(Some(json!({
                    "id": row.get::<String>(0)?, "filename": row.get::<Option<String>>(1)?,
                    "file_size": row.get::<Option<u64>>(2)?, "mime_type": row.get::<Option<String>>(3)?,
                    "created_at": row.get::<Timestamp>(4)?.to_string(), "file_hash": hex,
                    "is_duplicate": false, "original_file_id": null, "deduplication_checked": true,
                })))
            })
            .await
    }

    /// How many files of an account expire by each of two moments, and how many came since another.
    pub async fn coming(
        &self,
        platform: &PlatformId,
        account: &AccountId,
        by: [Timestamp; 2],
        since: Timestamp,
    ) -> Result<Coming> {
        let (platform, account) = (platform.clone(), account.clone());
        self.store
            .read(move |session| {
                let row = session.one(
                    "SELECT COUNT(CASE WHEN expires_at <= ?3 THEN 1 END), COUNT(CASE WHEN expires_at <= ?4 THEN 1 END),
                            COUNT(CASE WHEN created_at > ?5 THEN 1 END)
                       FROM platform_file_registry WHERE platform = ?1 AND account = ?2 AND status = 'active'",
                    bind![rows::stored(&platform), account.as_str(), by[0], by[1], since],
                )?;
                Ok(Coming { expiring: [row.get(0)?, row.get(1)?], added_lately: row.get(2)? })
            })
            .await
    }

    /// The content of a replica, where it is known.
    pub async fn digest_of(&self, replica: &Replica) -> Result<Option<Digest>> {
        let replica = replica.clone();
        self.store
            .read(move |session| {
                let sql = "SELECT file_hash FROM platform_file_registry WHERE platform = ?1 AND platform_file_id = ?2";
                digest_in(&session.rows(sql, bind![rows::stored(&replica.platform), &replica.remote_id])?)
            })
            .await
    }

    /// What each account of a platform holds.
    pub async fn usage(&self, platform: &PlatformId) -> Result<HashMap<AccountId, Usage>> {
        let platform = platform.clone();
        self.store
            .read(move |session| {
                let rows = session.rows(
                    "SELECT account, COUNT(*), CAST(COALESCE(SUM(file_size), 0) AS BIGINT) FROM platform_file_registry
                      WHERE platform = ?1 AND status IN ('active', 'deleting', 'retired') GROUP BY account",
                    bind![rows::stored(&platform)],
                )?;
                let usage = |row: &Row| {
                    Ok((AccountId::new(&row.get::<String>(0)?), Usage { files: row.get(1)?, bytes: row.get(2)? }))
                };
                rows.iter().map(usage).collect()
            })
            .await
    }

    /// Stops handing out a content's replicas that are about to be deleted, and gives them; those of an earlier
    /// delete that was cut short are among them.
    pub async fn begin_delete(
        &self,
        digest: &Digest,
        platform: Option<&PlatformId>,
        accounts: Vec<(PlatformId, AccountId)>,
        remote_id: Option<&str>,
    ) -> Result<Vec<Replica>> {
        let (hex, now, remote_id) = (digest.hex(), self.now(), remote_id.map(str::to_owned));
        let wanted: Vec<_> = accounts.into_iter().filter(|(id, _)| platform.is_none_or(|p| p == id)).collect();
        let (digest, platform) = (*digest, platform.cloned());
        self.write("begin-delete", move |session| {
            session.lock(&hex)?;
            holds::check_free(session, &digest, platform.as_ref(), now)?;
            let mut doomed = Vec::new();
            for (platform, account) in &wanted {
                session.execute(
                    "UPDATE platform_file_registry SET status = 'deleting', updated_at = ?4
                          WHERE file_hash = ?1 AND platform = ?2 AND account = ?3 AND status = 'active'
                            AND (expires_at IS NULL OR expires_at > ?4) AND (?5 IS NULL OR platform_file_id = ?5)",
                    bind![&hex, rows::stored(platform), account.as_str(), now, remote_id.as_deref()],
                )?;
                doomed.extend(rows::replicas_being_deleted(session, &hex, platform, account)?);
                doomed.retain(|replica| remote_id.as_ref().is_none_or(|id| *id == replica.remote_id));
            }
            Ok(doomed)
        })
        .await
    }

    /// The same for all copies there are, wherever they are: their content is to be erased.
    ///
    /// # Errors
    /// `Conflict` when it is held.
    pub async fn begin_erase(&self, digest: &Digest) -> Result<Vec<Replica>> {
        let (digest, now) = (*digest, self.now());
        self.write("begin-erase", move |session| {
            let hex = digest.hex();
            session.lock(&hex)?;
            holds::check_free(session, &digest, None, now)?;
            lifecycle::check_trashed(session, &hex)?;
            let sql = "UPDATE platform_file_registry SET status = 'deleting', updated_at = ?2
                        WHERE file_hash = ?1 AND status IN ('active', 'retired', 'error')";
            session.execute(sql, bind![&hex, now])?;
            rows::replicas(session, "file_hash = ?1 AND status = 'deleting'", bind![&hex])
        })
        .await
    }

    /// The platform kept a replica that was to be deleted. Where another one has taken its place meanwhile, it stays
    /// marked, and the next delete removes it.
    pub async fn keep(&self, replica: &Replica, why: &Error) -> Result<()> {
        let error = Error::new(why.kind(), why.message()).with_context(why.context().cloned().unwrap_or_default());
        let replica = replica.clone();
        self.audited("keep", move |session, audit| {
            let changed = session.rows(
                "UPDATE platform_file_registry SET status = 'active', updated_at = ?3
              WHERE platform = ?1 AND platform_file_id = ?2 AND status = 'deleting'
                AND NOT EXISTS (SELECT 1 FROM platform_file_registry other
                                 WHERE other.file_hash = platform_file_registry.file_hash
                                   AND other.platform = platform_file_registry.platform
                                   AND other.account = platform_file_registry.account
                                   AND other.purpose = platform_file_registry.purpose AND other.status = 'active')
              RETURNING file_hash, id",
                bind![rows::stored(&replica.platform), &replica.remote_id, audit.now],
            )?;
            forget_deletes(session, &changed)?;
            let digest = digest_in(&changed)?;
            let event =
                Event { decision: Decision::Failed, digest, error: Some(&error), ..of_replica("delete", &replica) };
            audit.note(session, &event)
        })
        .await
    }

    /// Notes that a replica is gone from its platform.
    pub async fn mark_gone(&self, replica: &Replica, why: Gone) -> Result<()> {
        let replica = replica.clone();
        self.audited("mark-gone", move |session, audit| {
            let sql = "UPDATE platform_file_registry SET status = 'deleted', updated_at = ?3
                        WHERE platform = ?1 AND platform_file_id = ?2 AND status <> 'deleted' RETURNING file_hash, id";
            let changed = session.rows(sql, &key(&replica, audit.now))?;
            if changed.is_empty() {
                return Ok(());
            }
            forget_deletes(session, &changed)?;
            let digest = digest_in(&changed)?;
            audit.note(session, &Event { digest, reason: why.reason(), ..of_replica(why.action(), &replica) })
        })
        .await
    }

    /// Notes that the platform has just confirmed a replica.
    pub async fn mark_verified(&self, replica: &Replica) -> Result<()> {
        let (replica, now) = (replica.clone(), self.now());
        self.write("mark-verified", move |session| {
                let sql = "UPDATE platform_file_registry
                              SET last_verified = ?3, verification_count = COALESCE(verification_count, 0) + 1, updated_at = ?3
                            WHERE platform = ?1 AND platform_file_id = ?2";
                session.execute(sql, &key(&replica, now)).map(drop)
            })
            .await
    }
}

/// The parameters that name a replica's row, and the time.
fn key(replica: &Replica, now: Timestamp) -> [Value<'_>; 3] {
    [rows::stored(&replica.platform).into(), (&replica.remote_id).into(), now.into()]
}

/// What became of a delete that may have been cut short before is known now.
fn forget_deletes(session: &mut Session<'_>, changed: &[Row]) -> Result<()> {
    changed.iter().try_for_each(|row| recovery::forget(session, Unfinished::Delete, &row.get::<String>(1)?))
}

/// The content of the row that was changed, where it is known.
fn digest_in(changed: &[Row]) -> Result<Option<Digest>> {
    let hex = changed.first().map(|row| row.get::<Option<String>>(0)).transpose()?.flatten();
    hex.map(|hex| rows::digest_of(&hex)).transpose()
}

fn resolve(session: &mut Session<'_>, reference: &str) -> Result<FileRecord> {
    let mut hits = Vec::new();
    if let Ok(digest) = reference.parse::<Digest>() {
        hits.push(digest.hex());
    }
    if hits.is_empty() {
        hits = by_prefix(session, reference)?;
    }
    if hits.is_empty() && !reference.starts_with("sha256:") {
        hits = by_id_or_name(session, reference)?;
    }
    match hits.as_slice() {
        [hex] => rows::find_record(session, &rows::digest_of(hex)?)?.ok_or_else(|| unknown(reference)),
        [] => Err(unknown(reference)),
        several => Err(Error::new(ErrorKind::Conflict, format!("{reference:?} fits {} files", several.len()))
            .with_hint("name the file by its digest, which the list of files shows")),
    }
}

fn by_id_or_name(session: &mut Session<'_>, reference: &str) -> Result<Vec<String>> {
    for sql in [
        "SELECT DISTINCT file_hash FROM platform_file_registry
          WHERE platform_file_id = ?1 AND status = 'active' AND file_hash IS NOT NULL",
        "SELECT DISTINCT f.file_hash FROM file_uploads f JOIN file_hashes h ON h.file_hash = f.file_hash
          WHERE f.filename = ?1 AND h.trashed_at IS NULL",
        "SELECT DISTINCT file_hash FROM file_uploads WHERE filename = ?1 AND file_hash IS NOT NULL",
    ] {
        let hits = strings(session, sql, reference)?;
        if !hits.is_empty() {
            return Ok(hits);
        }
    }
    Ok(Vec::new())
}

fn by_prefix(session: &mut Session<'_>, reference: &str) -> Result<Vec<String>> {
    let prefix = reference.strip_prefix("sha256:").unwrap_or(reference).to_ascii_lowercase();
    if prefix.len() < SHORTEST_PREFIX || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(Vec::new());
    }
    strings(
        session,
        "SELECT file_hash FROM file_hashes WHERE file_hash >= ?1 AND file_hash < ?1 || 'g' LIMIT 3",
        &prefix,
    )
}

fn strings(session: &mut Session<'_>, sql: &str, parameter: &str) -> Result<Vec<String>> {
    session.rows(sql, bind![parameter])?.iter().map(|row| row.get(0)).collect()
}

fn unknown(reference: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("no file {reference:?} is known")).with_hint(
        "use a digest, at least six characters of one, a remote id or the exact name, as the list of files shows them",
    )
}
