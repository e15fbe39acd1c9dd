//! Looking things up, and noting what is gone.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::{Value, json};

use super::{Placement, Registry, rows};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AccountId, Digest, FileRecord, PlatformId, Replica};

/// Fewest characters of a digest that are taken as a short form of it.
const SHORTEST_PREFIX: usize = 6;

/// Which files to list. Empty fields do not filter.
#[derive(Clone, Debug, Default)]
pub struct FileFilter {
    /// Only files with a live replica there.
    pub platform: Option<PlatformId>,
    /// Only files whose name contains this.
    pub name: Option<String>,
    /// Only files first handed over at or after this.
    pub created_after: Option<Timestamp>,
    /// Continue after this file (newest first).
    pub after: Option<Digest>,
    pub limit: u32,
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
        self.store.read_blocking(move |connection| rows::find_record(connection, &digest))
    }

    /// The record behind what a person wrote: a digest, a unique start of one, a remote id, or a file's name.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when several files fit.
    pub async fn resolve(&self, reference: &str) -> Result<FileRecord> {
        let reference = reference.trim().to_owned();
        self.store.read(move |connection| resolve(connection, &reference)).await
    }

    /// Files, newest first.
    pub async fn list(&self, filter: FileFilter) -> Result<Vec<FileRecord>> {
        let now = self.now();
        self.store.read(move |connection| list(connection, &filter, now)).await
    }

    /// The live replica for this placement, if there is one.
    pub async fn live_replica(&self, placement: &Placement) -> Result<Option<Replica>> {
        let (placement, now) = (placement.clone(), self.now());
        let replica = self.store.read(move |connection| rows::active_replica(connection, &placement)).await?;
        Ok(replica.filter(|replica| replica.is_live(now)))
    }

    /// Remote ids of a platform that the registry explains, whatever name its account had at the time.
    pub async fn bound_ids(&self, platform: &PlatformId) -> Result<HashSet<String>> {
        let platform = platform.to_string();
        self.store
            .read(move |connection| {
                let sql = "SELECT platform_file_id FROM platform_file_registry WHERE platform = ?1";
                let mut statement = connection.prepare_cached(sql)?;
                let ids = statement.query_map([platform], |row| row.get(0))?.collect::<Result<_, _>>()?;
                Ok(ids)
            })
            .await
    }

    /// Whether a remote id has a row, alive or not.
    pub async fn knows_remote(&self, platform: &PlatformId, id: &str) -> Result<bool> {
        let (platform, id) = (platform.to_string(), id.to_owned());
        self.store
            .read(move |connection| {
                let sql = "SELECT 1 FROM platform_file_registry WHERE platform = ?1 AND platform_file_id = ?2";
                Ok(connection.prepare_cached(sql)?.exists([platform, id])?)
            })
            .await
    }

    /// The first row of `file_uploads` for a content, as the existing tool reads it.
    pub async fn upload_row(&self, digest: &Digest) -> Result<Option<Value>> {
        let hex = digest.hex();
        self.store
            .read(move |connection| {
                let row = connection
                    .prepare_cached(
                        "SELECT f.id, f.filename, f.file_size, f.mime_type, f.created_at
                           FROM file_hashes h JOIN file_uploads f ON f.id = h.original_file_id WHERE h.file_hash = ?1",
                    )?
                    .query_row([&hex], |row| {
                        Ok(json!({
                            "id": row.get::<_, String>(0)?, "filename": row.get::<_, String>(1)?,
                            "file_size": row.get::<_, u64>(2)?, "mime_type": row.get::<_, Option<String>>(3)?,
                            "created_at": Timestamp(row.get(4)?).to_string(), "file_hash": hex,
                            "is_duplicate": false, "original_file_id": null, "deduplication_checked": true,
                        }))
                    })
                    .optional()?;
                Ok(row)
            })
            .await
    }

    pub async fn usage(&self, platform: &PlatformId, account: &AccountId) -> Result<Usage> {
        let key = (platform.to_string(), account.to_string());
        self.store
            .read(move |connection| {
                let usage = connection
                    .prepare_cached(
                        "SELECT COUNT(*), COALESCE(SUM(file_size), 0) FROM platform_file_registry
                          WHERE platform = ?1 AND account = ?2 AND status = 'active'",
                    )?
                    .query_row(params![key.0, key.1], |row| Ok(Usage { files: row.get(0)?, bytes: row.get(1)? }))?;
                Ok(usage)
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
    ) -> Result<Vec<Replica>> {
        let (hex, now) = (digest.hex(), self.now());
        let wanted: Vec<_> = accounts.into_iter().filter(|(id, _)| platform.is_none_or(|p| p == id)).collect();
        self.store
            .write(move |connection| {
                let mut doomed = Vec::new();
                for (platform, account) in &wanted {
                    connection
                        .prepare_cached(
                            "UPDATE platform_file_registry SET status = 'deleting', updated_at = ?4
                              WHERE file_hash = ?1 AND platform = ?2 AND account = ?3 AND status = 'active'
                                AND (expires_at IS NULL OR expires_at > ?4)",
                        )?
                        .execute(params![hex, platform.as_str(), account.as_str(), now.0])?;
                    doomed.extend(rows::replicas_being_deleted(connection, &hex, platform, account)?);
                }
                Ok(doomed)
            })
            .await
    }

    /// The platform kept a replica that was to be deleted. Where another one has taken its place meanwhile, it stays
    /// marked, and the next delete removes it.
    pub async fn keep(&self, replica: &Replica) -> Result<()> {
        let (platform, id, now) = (replica.platform.to_string(), replica.remote_id.clone(), self.now());
        self.store
            .write(move |connection| {
                connection
                    .prepare_cached(
                        "UPDATE OR IGNORE platform_file_registry SET status = 'active', updated_at = ?3
                          WHERE platform = ?1 AND platform_file_id = ?2 AND status = 'deleting'",
                    )?
                    .execute(params![platform, id, now.0])?;
                Ok(())
            })
            .await
    }

    /// Notes that a replica is gone from its platform.
    pub async fn mark_deleted(&self, replica: &Replica) -> Result<()> {
        let (platform, id, now) = (replica.platform.to_string(), replica.remote_id.clone(), self.now());
        self.store
            .write(move |connection| {
                connection
                    .prepare_cached(
                        "UPDATE platform_file_registry SET status = 'deleted', updated_at = ?3
                          WHERE platform = ?1 AND platform_file_id = ?2",
                    )?
                    .execute(params![platform, id, now.0])?;
                Ok(())
            })
            .await
    }

    /// Notes that the platform has just confirmed a replica.
    pub async fn mark_verified(&self, replica: &Replica) -> Result<()> {
        let (platform, id, now) = (replica.platform.to_string(), replica.remote_id.clone(), self.now());
        self.store
            .write(move |connection| {
                connection
                    .prepare_cached(
                        "UPDATE platform_file_registry
                            SET last_verified = ?3, verification_count = verification_count + 1, updated_at = ?3
                          WHERE platform = ?1 AND platform_file_id = ?2",
                    )?
                    .execute(params![platform, id, now.0])?;
                Ok(())
            })
            .await
    }
}

fn resolve(connection: &Connection, reference: &str) -> Result<FileRecord> {
    let mut hits = Vec::new();
    if let Ok(digest) = reference.parse::<Digest>() {
        hits.push(digest.hex());
    }
    if hits.is_empty() {
        hits = by_prefix(connection, reference)?;
    }
    for sql in [
        "SELECT DISTINCT file_hash FROM platform_file_registry WHERE platform_file_id = ?1 AND status = 'active'",
        "SELECT DISTINCT file_hash FROM file_uploads WHERE filename = ?1",
    ] {
        if hits.is_empty() {
            hits = strings(connection, sql, reference)?;
        }
    }
    match hits.as_slice() {
        [hex] => rows::find_record(connection, &rows::digest_of(hex)?)?.ok_or_else(|| unknown(reference)),
        [] => Err(unknown(reference)),
        several => Err(Error::new(ErrorKind::Conflict, format!("{reference:?} fits {} files", several.len()))
            .with_hint("name the file by its digest, which the list of files shows")),
    }
}

fn by_prefix(connection: &Connection, reference: &str) -> Result<Vec<String>> {
    let prefix = reference.strip_prefix("sha256:").unwrap_or(reference).to_ascii_lowercase();
    if prefix.len() < SHORTEST_PREFIX || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(Vec::new());
    }
    strings(
        connection,
        "SELECT file_hash FROM file_hashes WHERE file_hash >= ?1 AND file_hash < ?1 || 'g' LIMIT 3",
        &prefix,
    )
}

fn strings(connection: &Connection, sql: &str, parameter: &str) -> Result<Vec<String>> {
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_map([parameter], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

fn unknown(reference: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("no file {reference:?} is known")).with_hint(
        "use a digest, at least six characters of one, a remote id or the exact name, as the list of files shows them",
    )
}

fn list(connection: &Connection, filter: &FileFilter, now: Timestamp) -> Result<Vec<FileRecord>> {
    let after = match &filter.after {
        Some(digest) => position(connection, digest)?,
        None => None,
    };
    let mut statement = connection.prepare_cached(
        "SELECT h.file_hash FROM file_hashes h
          WHERE (?1 IS NULL OR EXISTS (SELECT 1 FROM platform_file_registry p WHERE p.file_hash = h.file_hash
                                          AND p.platform = ?1 AND p.status = 'active'
                                          AND (p.expires_at IS NULL OR p.expires_at > ?6)))
            AND (?2 IS NULL OR EXISTS (SELECT 1 FROM file_uploads f WHERE f.file_hash = h.file_hash
                                          AND instr(folded(f.filename), folded(?2)) > 0))
            AND (?3 IS NULL OR h.created_at >= ?3)
            AND (?4 IS NULL OR (h.created_at, h.id) < (?4, ?5))
          ORDER BY h.created_at DESC, h.id DESC LIMIT ?7",
    )?;
    let key = params![
        filter.platform.as_ref().map(PlatformId::as_str),
        filter.name,
        filter.created_after.map(|at| at.0),
        after.as_ref().map(|(at, _)| *at),
        after.as_ref().map(|(_, id)| id.as_str()),
        now.0,
        filter.limit
    ];
    let digests = statement.query_map(key, |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let mut records = Vec::with_capacity(digests.len());
    for hex in digests {
        records.extend(rows::find_record(connection, &rows::digest_of(&hex)?)?);
    }
    Ok(records)
}

fn position(connection: &Connection, digest: &Digest) -> Result<Option<(i64, String)>> {
    let position = connection
        .prepare_cached("SELECT created_at, id FROM file_hashes WHERE file_hash = ?1")?
        .query_row([digest.hex()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(position)
}
