//! Rows to records.

use super::Placement;
use crate::bind;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AccountId, ContentKind, Digest, FileRecord, Origin, PlatformId, Purpose, Replica, ReplicaStatus};
use crate::store::{Row, Session, Value};

const REPLICA_COLUMNS: &str = "platform, account, purpose, platform_file_id, COALESCE(remote_name, ''), status,
     content_kind, COALESCE(remote_created_at, created_at), COALESCE(last_verified, created_at), expires_at";

/// A platform as the existing EXAI tool's tables call it.
pub(super) fn stored(platform: &PlatformId) -> &str {
    match platform.as_str() {
        "moonshot" => "kimi",
        "zai" => "glm",
        other => other,
    }
}

pub(super) fn find_record(session: &mut Session<'_>, digest: &Digest) -> Result<Option<FileRecord>> {
    let hex = digest.hex();
    let row = session.row(
        "SELECT f.filename, h.file_size, h.content_type, h.created_at
           FROM file_hashes h JOIN file_uploads f ON f.id = h.original_file_id WHERE h.file_hash = ?1",
        bind![&hex],
    )?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(FileRecord {
        digest: *digest,
        name: row.get::<Option<String>>(0)?.unwrap_or_default(),
        size: row.get(1)?,
        mime: row.get::<Option<String>>(2)?.unwrap_or_else(|| "application/octet-stream".to_owned()),
        created_at: row.get(3)?,
        replicas: replicas(session, "file_hash = ?1 AND status = 'active'", bind![&hex])?,
    }))
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

pub(super) fn active_replica(session: &mut Session<'_>, placement: &Placement) -> Result<Option<Replica>> {
    let wanted = "file_hash = ?1 AND platform = ?2 AND account = ?3 AND purpose = ?4 AND status = 'active'";
    Ok(replicas(session, wanted, &place(placement, &placement.digest.hex()))?.into_iter().next())
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

fn replicas(session: &mut Session<'_>, wanted: &str, key: &[Value<'_>]) -> Result<Vec<Replica>> {
    let sql = format!(
        "SELECT {REPLICA_COLUMNS} FROM platform_file_registry
          WHERE {wanted} ORDER BY platform, account, purpose, created_at"
    );
    session.rows(&sql, key)?.iter().map(replica).collect()
}

fn replica(row: &Row) -> Result<Replica> {
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
            "deleted" => ReplicaStatus::Deleted,
            _ => ReplicaStatus::Error,
        },
        content: ContentKind::parse(&row.get::<String>(6)?),
        created_at: row.get::<Timestamp>(7)?,
        verified_at: row.get(8)?,
        expires_at: row.get(9)?,
        origin: Origin::AlreadyThere,
    })
}

pub(super) fn digest_of(hex: &str) -> Result<Digest> {
    Digest::from_hex(hex).ok_or_else(|| corrupt("file_hash", hex))
}

fn corrupt(column: &str, value: &str) -> Error {
    Error::new(ErrorKind::Registry, format!("the registry holds {value:?} as {column}"))
        .with_hint("something else wrote to it; restore it from a backup")
}
