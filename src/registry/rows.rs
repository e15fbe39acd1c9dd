//! Rows to records.

use std::collections::HashMap;

use serde_json::Map;

use super::Placement;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AccountId, ContentKind, Digest, FileRecord, Origin, PlatformId, Purpose, Replica, ReplicaStatus};
use crate::store::{Row, Session, Value, bind};

pub(super) const REPLICA_COLUMNS: &str =
    "platform, account, purpose, platform_file_id, COALESCE(remote_name, ''), status,
     content_kind, COALESCE(remote_created_at, created_at), COALESCE(last_verified, created_at), expires_at, used_at";

/// The same, of a table that is called so in the statement.
pub(super) fn replica_columns(of: &str) -> String {
    format!(
        "{of}.platform, {of}.account, {of}.purpose, {of}.platform_file_id, COALESCE({of}.remote_name, ''), {of}.status,
         {of}.content_kind, COALESCE({of}.remote_created_at, {of}.created_at), COALESCE({of}.last_verified, {of}.created_at),
         {of}.expires_at, {of}.used_at"
    )
}

/// In place of a replica's status.
const TAG: &str = "tag";

/// A time that is not.
const NEVER: &str = "CAST(NULL AS timestamptz)";

/// A platform as the existing EXAI tool's tables call it.
pub(super) fn stored(platform: &PlatformId) -> &str {
    match platform.as_str() {
        "moonshot" => "kimi",
        "zai" => "glm",
        other => other,
    }
}

/// The columns that [`record`] reads: of `h`, a content, and of `f`, its first name.
pub(super) const RECORD_COLUMNS: &str = "h.file_hash, f.filename, h.file_size, h.content_type, h.created_at,
     f.user_id, f.metadata, h.trashed_at, h.keep_until";

pub(super) fn find_record(session: &mut Session<'_>, digest: &Digest) -> Result<Option<FileRecord>> {
    let sql = format!(
        "SELECT {RECORD_COLUMNS} FROM file_hashes h JOIN file_uploads f ON f.id = h.original_file_id
          WHERE h.file_hash = ?1"
    );
    let found = session.rows(&sql, bind![&digest.hex()])?;
    Ok(records(session, &found)?.pop())
}

/// Records with their live replicas and tags, which are asked for all at once.
pub(super) fn records(session: &mut Session<'_>, rows: &[Row]) -> Result<Vec<FileRecord>> {
    let mut records = rows.iter().map(record).collect::<Result<Vec<_>>>()?;
    let digests: Vec<String> = records.iter().map(|record| record.digest.hex()).collect();
    if digests.is_empty() {
        return Ok(records);
    }
    let places: Vec<String> = (1..=digests.len()).map(|number| format!("?{number}")).collect();
    // A tag comes where a replica has its platform, and is told by the status that no replica has: to a server one
    // question costs as much as two answers.
    let sql = format!(
        "SELECT {REPLICA_COLUMNS}, file_hash FROM platform_file_registry WHERE file_hash IN ({0}) AND status = 'active'
         UNION ALL
         SELECT tag, '', '', '', '', '{TAG}', '', {NEVER}, {NEVER}, {NEVER}, {NEVER}, file_hash
           FROM file_tags WHERE file_hash IN ({0})",
        places.join(", ")
    );
    let values: Vec<Value<'_>> = digests.iter().map(Into::into).collect();
    let mut replicas: HashMap<String, Vec<Replica>> = HashMap::new();
    let mut tags: HashMap<String, Vec<String>> = HashMap::new();
    for row in session.rows(&sql, &values)? {
        match row.get::<String>(5)?.as_str() {
            TAG => tags.entry(row.get(11)?).or_default().push(row.get(0)?),
            _ => replicas.entry(row.get(11)?).or_default().push(replica(&row)?),
        }
    }
    for (record, hex) in records.iter_mut().zip(&digests) {
        record.tags = tags.remove(hex).unwrap_or_default();
        record.tags.sort_unstable();
        record.replicas = replicas.remove(hex).unwrap_or_default();
        // By our names of platforms, not by the stored ones.
        let key = |replica: &Replica| {
            (replica.platform.clone(), replica.account.clone(), replica.purpose.clone(), replica.created_at)
        };
        record.replicas.sort_by_cached_key(key);
    }
    Ok(records)
}

fn record(row: &Row) -> Result<FileRecord> {
    Ok(FileRecord {
        digest: digest_of(&row.get::<String>(0)?)?,
        name: row.get::<Option<String>>(1)?.unwrap_or_default(),
        size: row.get(2)?,
        mime: row.get::<Option<String>>(3)?.unwrap_or_else(|| "application/octet-stream".to_owned()),
        created_at: row.get(4)?,
        owner: row.get(5)?,
        metadata: metadata(row.get::<Option<String>>(6)?.as_deref()),
        trashed_at: row.get(7)?,
        keep_until: row.get(8)?,
        tags: Vec::new(),
        replicas: Vec::new(),
    })
}

/// Other programs may have put there what is no object.
fn metadata(json: Option<&str>) -> Map<String, serde_json::Value> {
    let parsed = json.filter(|json| *json != "{}").map(serde_json::from_str);
    parsed.and_then(std::result::Result::ok).unwrap_or_default()
}

pub(super) fn replicas_being_deleted(
    session: &mut Session<'_>,
    hex: &str,
    platform: &PlatformId,
    account: &AccountId,
) -> Result<Vec<Replica>> {
    let wanted = "file_hash = ?1 AND platform = ?2 AND account = ?3 AND status = 'deleting'";
    replicas(session, wanted, bind![hex, stored(platform), account.as_str()])
}

/// The replica that is handed out, if it lives as long as is needed.
pub(super) fn active_replica(
    session: &mut Session<'_>,
    placement: &Placement,
    needed_until: Option<Timestamp>,
) -> Result<Option<Replica>> {
    let wanted = "file_hash = ?1 AND platform = ?2 AND account = ?3 AND purpose = ?4 AND status = 'active'";
    let there = replicas(session, wanted, &place(placement, &placement.digest.hex()))?.into_iter().next();
    Ok(there.filter(|replica| replica.lives_until(needed_until)))
}

/// The parameters ?1 to ?4 that name a placement.
pub(super) fn place<'p>(placement: &'p Placement, hex: &'p str) -> [Value<'p>; 4] {
    [
        hex.into(),
        stored(&placement.platform).into(),
        placement.account.as_str().into(),
        placement.purpose.as_str().into(),
    ]
}

pub(super) fn replicas(session: &mut Session<'_>, wanted: &str, key: &[Value<'_>]) -> Result<Vec<Replica>> {
    let sql = format!(
        "SELECT {REPLICA_COLUMNS} FROM platform_file_registry
          WHERE {wanted} ORDER BY platform, account, purpose, created_at"
    );
    session.rows(&sql, key)?.iter().map(replica).collect()
}

pub(super) fn replica(row: &Row) -> Result<Replica> {
    let platform: String = row.get(0)?;
    let status: String = row.get(5)?;
    Ok(Replica {
        platform: PlatformId::new(&platform).map_err(|_| corrupt("platform", &platform))?,
        account: AccountId::new(&row.get::<String>(1)?),
        purpose: Purpose::new(&row.get::<String>(2)?),
        remote_id: row.get(3)?,
        remote_name: row.get(4)?,
        status: match status.as_str() {
            "active" => ReplicaStatus::Active,
            "deleting" => ReplicaStatus::Deleting,
            "retired" => ReplicaStatus::Retired,
            "deleted" => ReplicaStatus::Deleted,
            _ => ReplicaStatus::Error,
        },
        content: ContentKind::parse(&row.get::<String>(6)?),
        created_at: row.get::<Timestamp>(7)?,
        verified_at: row.get(8)?,
        expires_at: row.get(9)?,
        used_at: row.get(10)?,
        origin: Origin::AlreadyThere,
    })
}

pub(super) fn digest_of(hex: &str) -> Result<Digest> {
    Digest::from_hex(hex).ok_or_else(|| corrupt("file_hash", hex))
}

pub(super) fn corrupt(column: &str, value: &str) -> Error {
    Error::new(ErrorKind::Registry, format!("the registry holds {value:?} as {column}"))
        .with_hint("something else wrote to it; restore it from a backup")
}
