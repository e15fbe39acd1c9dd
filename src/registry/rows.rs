//! Rows to records.

use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, params};

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AccountId, ContentKind, Digest, FileRecord, Origin, PlatformId, Purpose, Replica, ReplicaStatus};

const REPLICA_COLUMNS: &str = "platform, account, purpose, platform_file_id, remote_name, status, content_kind,
     remote_created_at, COALESCE(last_verified, created_at), expires_at";

pub(super) fn find_record(connection: &Connection, digest: &Digest) -> Result<Option<FileRecord>> {
    let hex = digest.hex();
    let content = connection
        .prepare_cached(
            "SELECT f.filename, h.file_size, h.content_type, h.created_at
               FROM file_hashes h JOIN file_uploads f ON f.id = h.original_file_id WHERE h.file_hash = ?1",
        )?
        .query_row([&hex], |row| {
            Ok(FileRecord {
                digest: *digest,
                name: row.get(0)?,
                size: row.get(1)?,
                mime: row.get(2)?,
                created_at: Timestamp(row.get(3)?),
                replicas: Vec::new(),
            })
        })
        .optional()?;
    let Some(mut record) = content else { return Ok(None) };
    record.replicas = active_replicas(connection, &hex)?;
    Ok(Some(record))
}

fn active_replicas(connection: &Connection, hex: &str) -> Result<Vec<Replica>> {
    replicas(connection, "file_hash = ?1 AND status = 'active'", params![hex])
}

pub(super) fn replicas_being_deleted(
    connection: &Connection,
    hex: &str,
    platform: &PlatformId,
    account: &AccountId,
) -> Result<Vec<Replica>> {
    let wanted = "file_hash = ?1 AND platform = ?2 AND account = ?3 AND status = 'deleting'";
    replicas(connection, wanted, params![hex, platform.as_str(), account.as_str()])
}

fn replicas(connection: &Connection, wanted: &str, key: &[&dyn ToSql]) -> Result<Vec<Replica>> {
    let sql = format!(
        "SELECT {REPLICA_COLUMNS} FROM platform_file_registry
          WHERE {wanted} ORDER BY platform, account, purpose, created_at"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(key)?;
    let mut replicas = Vec::new();
    while let Some(row) = rows.next()? {
        replicas.push(replica(row)?);
    }
    Ok(replicas)
}

pub(super) fn active_replica(connection: &Connection, placement: &super::Placement) -> Result<Option<Replica>> {
    let sql = format!(
        "SELECT {REPLICA_COLUMNS} FROM platform_file_registry
          WHERE file_hash = ?1 AND platform = ?2 AND account = ?3 AND purpose = ?4 AND status = 'active'"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let key = params![
        placement.digest.hex(),
        placement.platform.as_str(),
        placement.account.as_str(),
        placement.purpose.as_str()
    ];
    let mut rows = statement.query(key)?;
    rows.next()?.map(replica).transpose()
}

fn replica(row: &Row<'_>) -> Result<Replica> {
    let platform: String = row.get(0)?;
    let account: String = row.get(1)?;
    let purpose: String = row.get(2)?;
    let status: String = row.get(5)?;
    let content: String = row.get(6)?;
    Ok(Replica {
        platform: PlatformId::new(&platform).map_err(|_| corrupt("platform", &platform))?,
        account: AccountId::new(&account),
        purpose: Purpose::new(&purpose),
        remote_id: row.get(3)?,
        remote_name: row.get(4)?,
        status: match status.as_str() {
            "active" => ReplicaStatus::Active,
            "deleting" => ReplicaStatus::Deleting,
            "deleted" => ReplicaStatus::Deleted,
            _ => ReplicaStatus::Error,
        },
        content: ContentKind::parse(&content),
        created_at: Timestamp(row.get(7)?),
        verified_at: Timestamp(row.get(8)?),
        expires_at: row.get::<_, Option<i64>>(9)?.map(Timestamp),
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
