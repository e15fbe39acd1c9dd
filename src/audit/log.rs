//! The log in the database: giving records their places, reading them, signing where it stands.

use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::note::Checkpoint;
use super::tree::{self, Hash, hex};
use super::{AuditLog, VerifyingKey};
use crate::clock::Timestamp;
use crate::draft::Draft;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::store::{Row, Session, Value as Parameter, bind};

/// Leaves of a tile; each level's tiles have as many of the one below.
pub(super) const TILE: u64 = 256;

/// Levels of tiles that are kept: 256 and 65,536 leaves.
pub(super) const LEVELS: u64 = 2;

/// Leaves of a tile of a level.
pub(super) fn leaves_of(level: u64) -> u64 {
    (0..level).fold(1, |leaves, _| leaves * TILE)
}

/// Records that take their places in one transaction.
const AT_ONCE: usize = 5_000;

/// One writer at a time continues the chain.
const LOCK: &str = "exai_files audit";

const COLUMNS: &str = "seq, happened_at, action, file_hash, record";

/// A record as it is in the log.
#[derive(Clone, Debug, Serialize)]
pub struct AuditRecord {
    pub seq: u64,
    #[serde(rename = "time")]
    pub happened_at: Timestamp,
    pub action: String,
    /// Of the file it is about, in hexadecimal.
    pub digest: Option<String>,
    /// The record itself: canonical JSON (RFC 8785).
    pub record: String,
}

/// Which records.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditFilter {
    /// In hexadecimal.
    pub digest: Option<String>,
    pub action: Option<String>,
    /// Only what this user did.
    pub actor: Option<String>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// Only records after this one, from the oldest on; else the newest.
    pub after: Option<i64>,
    pub limit: u32,
}

// ===== writing =====

/// Takes a record in: at its place where there is one writer at a time, else for [`seal`] to give it one.
pub(super) fn append(session: &mut Session<'_>, record: Map<String, Value>) -> Result<()> {
    if session.is_postgres() {
        let text = Value::Object(record).to_string();
        return session.execute("INSERT INTO audit_pending (record) VALUES (?1)", bind![text]).map(drop);
    }
    place(session, vec![record])
}

/// Gives records that were set down their places. Where another process is at it, `is_patient` waits for it.
pub(super) fn seal(session: &mut Session<'_>, is_patient: bool) -> Result<()> {
    if !session.is_postgres() {
        return Ok(());
    }
    if is_patient {
        session.lock(LOCK)?;
    } else {
        let sql = "SELECT pg_try_advisory_xact_lock(hashtextextended(?1, 0))";
        if !session.one(sql, bind![LOCK])?.get::<bool>(0)? {
            return Ok(());
        }
    }
    loop {
        let sql = format!(
            "WITH taken AS (DELETE FROM audit_pending WHERE id IN
                                (SELECT id FROM audit_pending ORDER BY id LIMIT {AT_ONCE}) RETURNING id, record)
             SELECT record FROM taken ORDER BY id"
        );
        let taken = session.rows(&sql, &[])?;
        let count = taken.len();
        let records = taken.iter().map(|row| parse(&row.get::<String>(0)?)).collect::<Result<Vec<_>>>()?;
        place(session, records)?;
        failpoint("seal", "placed")?;
        if count < AT_ONCE {
            return Ok(());
        }
    }
}

fn parse(text: &str) -> Result<Map<String, Value>> {
    serde_json::from_str(text)
        .map_err(|error| Error::new(ErrorKind::Registry, "a record of the audit log cannot be read").with_source(error))
}

/// Puts records at the log's end, which nobody else is doing.
fn place(session: &mut Session<'_>, records: Vec<Map<String, Value>>) -> Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let last = session.row("SELECT seq, record FROM audit_log ORDER BY seq DESC LIMIT 1", &[])?;
    let (mut seq, mut prev, mut rows) = (0, [0; 32], Vec::with_capacity(records.len()));
    match last {
        Some(last) => {
            seq = last.get::<u64>(0)? + 1;
            prev = tree::leaf(last.get::<String>(1)?.as_bytes());
        }
        None => {
            let time = records[0].get("time").cloned().unwrap_or_default();
            let mut begin = Map::new();
            begin.insert("action".to_owned(), "audit.begin".into());
            begin.insert("log".to_owned(), format!("{:032x}", rand::random::<u128>()).into());
            begin.insert("time".to_owned(), time);
            rows.push(row(begin, &mut seq, &mut prev)?);
        }
    }
    for record in records {
        rows.push(row(record, &mut seq, &mut prev)?);
    }
    session.insert("audit_log (seq, happened_at, action, file_hash, record)", &rows, "")?;
    keep_tiles(session, seq - rows.len() as u64, seq)
}

fn row<'r>(mut record: Map<String, Value>, seq: &mut u64, prev: &mut Hash) -> Result<Vec<Parameter<'r>>> {
    let time = record.get("time").and_then(Value::as_i64).unwrap_or_default();
    let text = |name: &str| record.get(name).and_then(Value::as_str).map(str::to_owned);
    let (action, digest) = (text("action").unwrap_or_default(), text("digest"));
    record.insert("seq".to_owned(), (*seq).into());
    record.insert("prev".to_owned(), hex(prev).into());
    let record = canonical(&Value::Object(record));
    let row = vec![(*seq).into(), Timestamp(time).into(), action.into(), digest.into(), record.clone().into()];
    *prev = tree::leaf(record.as_bytes());
    *seq += 1;
    Ok(row)
}

/// RFC 8785, of objects without fractions: a map of ours is in the order of its keys.
pub(super) fn canonical(record: &Value) -> String {
    record.to_string()
}

/// Keeps the roots of whole tiles, so that nobody has to hash the whole log.
fn keep_tiles(session: &mut Session<'_>, before: u64, after: u64) -> Result<()> {
    for number in before / TILE..after / TILE {
        let leaves = leaves(session, number * TILE, (number + 1) * TILE)?;
        keep_tile(session, 1, number, &tree::root_of(&leaves))?;
        if (number + 1).is_multiple_of(TILE) {
            let above = number / TILE;
            let parts = tiles(session, 1, above * TILE, (above + 1) * TILE)?;
            keep_tile(session, 2, above, &tree::root_of(&parts))?;
        }
    }
    Ok(())
}

fn keep_tile(session: &mut Session<'_>, level: u64, number: u64, root: &Hash) -> Result<()> {
    let sql = "INSERT INTO audit_tiles (level, number, hash) VALUES (?1, ?2, ?3)
               ON CONFLICT (level, number) DO UPDATE SET hash = excluded.hash";
    session.execute(sql, bind![level, number, hex(root)]).map(drop)
}

// ===== reading =====

pub(super) fn leaves(session: &mut Session<'_>, from: u64, to: u64) -> Result<Vec<Hash>> {
    let sql = "SELECT record FROM audit_log WHERE seq >= ?1 AND seq < ?2 ORDER BY seq";
    let rows = session.rows(sql, bind![from, to])?;
    let leaves = rows.iter().map(|row| Ok(tree::leaf(row.get::<String>(0)?.as_bytes()))).collect::<Result<Vec<_>>>()?;
    if leaves.len() as u64 == to - from { Ok(leaves) } else { Err(broken()) }
}

pub(super) fn tiles(session: &mut Session<'_>, level: u64, from: u64, to: u64) -> Result<Vec<Hash>> {
    let sql = "SELECT hash FROM audit_tiles WHERE level = ?1 AND number >= ?2 AND number < ?3 ORDER BY number";
    let rows = session.rows(sql, bind![level, from, to])?;
    let hash = |row: &Row| crate::model::Digest::from_hex(&row.get::<String>(0)?).map(|d| d.0).ok_or_else(broken);
    let hashes = rows.iter().map(hash).collect::<Result<Vec<_>>>()?;
    if hashes.len() as u64 == to - from { Ok(hashes) } else { Err(broken()) }
}

fn broken() -> Error {
    Error::new(ErrorKind::Integrity, "the audit log has a gap").with_hint("`exai-files audit verify` says where")
}

pub(super) fn size(session: &mut Session<'_>) -> Result<u64> {
    session.one("SELECT COALESCE(MAX(seq) + 1, 0) FROM audit_log", &[])?.get(0)
}

pub(super) fn log_id(session: &mut Session<'_>) -> Result<String> {
    let row = session.row("SELECT record FROM audit_log WHERE seq = 0", &[])?;
    let first = row.map(|row| row.get::<String>(0)).transpose()?.map(|text| parse(&text)).transpose()?;
    let id = first.as_ref().and_then(|record| record.get("log")).and_then(Value::as_str);
    id.map(str::to_owned).ok_or_else(broken)
}

pub(super) fn records_from(session: &mut Session<'_>, from: u64, limit: u64) -> Result<Vec<AuditRecord>> {
    let sql = format!("SELECT {COLUMNS} FROM audit_log WHERE seq >= ?1 ORDER BY seq LIMIT {limit}");
    session.rows(&sql, bind![from])?.iter().map(record).collect()
}

fn record(row: &Row) -> Result<AuditRecord> {
    Ok(AuditRecord {
        seq: row.get(0)?,
        happened_at: row.get(1)?,
        action: row.get(2)?,
        digest: row.get(3)?,
        record: row.get(4)?,
    })
}

fn find(session: &mut Session<'_>, filter: &AuditFilter, actor: Option<&str>) -> Result<Vec<AuditRecord>> {
    let mut wanted = vec!["seq > ?1".to_owned()];
    let mut values: Vec<Parameter<'_>> = vec![filter.after.unwrap_or(-1).into()];
    let mut add = |condition: &str, value: Option<Parameter<'static>>| {
        if let Some(value) = value {
            values.push(value);
            wanted.push(format!("{condition} ?{}", values.len()));
        }
    };
    add("file_hash =", filter.digest.clone().map(Into::into));
    add("action =", filter.action.clone().map(Into::into));
    add("record LIKE", actor.map(|pseudonym| format!("%\"actor\":\"{pseudonym}\"%").into()));
    add("happened_at >=", filter.since.map(Into::into));
    add("happened_at <", filter.until.map(Into::into));
    let order = if filter.after.is_some() { "" } else { "DESC" };
    let sql = format!(
        "SELECT {COLUMNS} FROM audit_log WHERE {} ORDER BY seq {order} LIMIT {}",
        wanted.join(" AND "),
        filter.limit.max(1)
    );
    let mut found = session.rows(&sql, &values)?.iter().map(record).collect::<Result<Vec<_>>>()?;
    found.sort_by_key(|record| record.seq);
    Ok(found)
}

impl AuditLog {
    /// Records that fit, the oldest first.
    ///
    /// # Errors
    /// `Registry`; `Config` without a key, where a user's records are wanted.
    pub async fn query(&self, filter: AuditFilter) -> Result<Vec<AuditRecord>> {
        self.seal().await?;
        let actor = match &filter.actor {
            Some(user) => Some(self.options.key.as_ref().ok_or_else(no_key)?.pseudonym(user)),
            None => None,
        };
        self.store.read(move |session| find(session, &filter, actor.as_deref())).await
    }

    /// Writes every record to a file, one line each, whole or not at all; gives their number.
    ///
    /// # Errors
    /// `Registry`; `InvalidRequest` when the file cannot be written.
    pub async fn export(&self, to: &Path) -> Result<u64> {
        self.seal().await?;
        let to = to.to_owned();
        self.store.read(move |session| export(session, &to)).await
    }

    /// Signs what the log is now, keeps that, and adds it to the file that is kept elsewhere. Nothing is done where
    /// nothing has happened since the last one.
    ///
    /// # Errors
    /// `Config` without a key; `Registry` when it could not be kept.
    pub async fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        self.seal().await?;
        let log = self.clone();
        self.store
            .write(move |session| {
                session.lock(LOCK)?;
                let key = log.options.key.as_ref().ok_or_else(no_key)?;
                let size = size(session)?;
                let last = "SELECT COALESCE(MAX(size), 0) FROM audit_checkpoints";
                if size <= session.one(last, &[])?.get::<u64>(0)? {
                    return Ok(None);
                }
                let root = super::proof::root(session, 0, size)?;
                let checkpoint = Checkpoint::sign(&log_id(session)?, size, &root, key);
                let now = log.clock.now();
                session.execute(
                    "INSERT INTO audit_checkpoints (size, note, created_at) VALUES (?1, ?2, ?3)",
                    bind![size, &checkpoint.note, now],
                )?;
                failpoint("checkpoint", "signed")?;
                if let Some(path) = &log.options.checkpoint_file {
                    add_to(path, &checkpoint.note).map_err(|error| unwritable(path, error))?;
                }
                failpoint("checkpoint", "filed")?;
                Ok(Some(checkpoint))
            })
            .await
    }

    /// The last checkpoint and when it was made.
    ///
    /// # Errors
    /// `Registry`.
    pub async fn last_checkpoint(&self) -> Result<Option<(Checkpoint, Timestamp)>> {
        self.store
            .read(|session| {
                let row =
                    session.row("SELECT note, created_at FROM audit_checkpoints ORDER BY size DESC LIMIT 1", &[])?;
                let Some(row) = row else { return Ok(None) };
                let made_at = row.get(1)?;
                Ok(Checkpoint::parse(&row.get::<String>(0)?).map(|last| (last, made_at)))
            })
            .await
    }

    /// Records in the log.
    ///
    /// # Errors
    /// `Registry`.
    pub async fn size(&self) -> Result<u64> {
        self.seal().await?;
        self.store.read(size).await
    }

    /// The key that checkpoints are to be checked with.
    ///
    /// # Errors
    /// `Config` without one.
    pub fn verifying_key(&self) -> Result<VerifyingKey> {
        Ok(self.options.key.as_ref().ok_or_else(no_key)?.verifying())
    }
}

fn no_key() -> Error {
    Error::new(ErrorKind::Config, "this audit log has no key").with_hint("set audit.key_file")
}

fn add_to(path: &Path, note: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(format!("{note}\n").as_bytes())?;
    file.sync_all()
}

fn unwritable(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::InvalidRequest, format!("{path:?} cannot be written: {error}"))
        .with_hint("name a file in a folder that this user may write to")
        .with_source(error)
}

fn export(session: &mut Session<'_>, to: &Path) -> Result<u64> {
    let cannot = |error| unwritable(to, error);
    let mut draft = Draft::of(to, 0o600).map_err(cannot)?;
    let count = write_records(session, &mut std::io::BufWriter::new(draft.file()), to)?;
    failpoint("export", "drafted")?;
    draft.publish().map_err(cannot)?;
    failpoint("export", "published")?;
    Ok(count)
}

fn write_records(session: &mut Session<'_>, writer: &mut impl std::io::Write, to: &Path) -> Result<u64> {
    let mut count = 0;
    loop {
        let page = records_from(session, count, AT_ONCE as u64)?;
        for record in &page {
            writeln!(writer, "{}", record.record).map_err(|error| unwritable(to, error))?;
        }
        count = page.last().map_or(count, |last| last.seq + 1);
        if page.len() < AT_ONCE {
            writer.flush().map_err(|error| unwritable(to, error))?;
            return Ok(count);
        }
    }
}
