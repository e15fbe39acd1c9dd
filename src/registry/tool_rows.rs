//! Rows that the existing EXAI tool's classes write and read, in its tables and words (dropin_contract.md §1.2, §1.3, §4.1).
//!
//! Tables and columns are data: what is in no table here can neither be written nor asked for. Times are RFC 3339.

use serde_json::{Map, Value as JsonValue};

use super::{Registry, new_id, rows};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Digest, PlatformId};
use crate::store::{Id, Kind, Row, Session, Value, bind};

pub(super) type Columns = &'static [(&'static str, Kind)];

/// What the tool's classes write. Each table has an `id` besides.
pub(super) const TABLES: &[(&str, Columns)] = &[
    (
        "platform_file_registry",
        &[
            ("file_id", Kind::Id),
            ("platform", Kind::Text),
            ("platform_file_id", Kind::Text),
            ("platform_url", Kind::Text),
            ("platform_metadata", Kind::Json),
            ("status", Kind::Text),
            ("last_verified", Kind::Time),
            ("verification_count", Kind::Int),
            ("created_at", Kind::Time),
            ("updated_at", Kind::Time),
        ],
    ),
    (
        "file_health_checks",
        &[
            ("registry_id", Kind::Id),
            ("status", Kind::Text),
            ("error_message", Kind::Text),
            ("error_code", Kind::Text),
            ("response_time_ms", Kind::Int),
            ("http_status_code", Kind::Int),
            ("checked_at", Kind::Time),
        ],
    ),
    (
        "file_lifecycle_sync",
        &[
            ("file_id", Kind::Id),
            ("platform", Kind::Text),
            ("local_status", Kind::Text),
            ("platform_status", Kind::Text),
            ("sync_status", Kind::Text),
            ("sync_error", Kind::Text),
            ("last_sync_at", Kind::Time),
            ("next_sync_at", Kind::Time),
            ("sync_attempt_count", Kind::Int),
            ("created_at", Kind::Time),
            ("updated_at", Kind::Time),
        ],
    ),
    (
        "file_recovery_attempts",
        &[
            ("file_id", Kind::Id),
            ("operation", Kind::Text),
            ("platform", Kind::Text),
            ("attempt_number", Kind::Int),
            ("error_message", Kind::Text),
            ("error_code", Kind::Text),
            ("recovery_strategy", Kind::Text),
            ("status", Kind::Text),
            ("next_retry_at", Kind::Time),
            ("retry_delay_ms", Kind::Int),
            ("created_at", Kind::Time),
            ("completed_at", Kind::Time),
        ],
    ),
    (
        "file_audit_trail",
        &[
            ("file_id", Kind::Id),
            ("operation", Kind::Text),
            ("platform", Kind::Text),
            ("user_id", Kind::Text),
            ("operation_details", Kind::Json),
            ("status", Kind::Text),
            ("error_message", Kind::Text),
            ("error_code", Kind::Text),
            ("duration_ms", Kind::Int),
            ("bytes_transferred", Kind::Int),
            ("created_at", Kind::Time),
        ],
    ),
    (
        "file_hashes",
        &[
            ("file_hash", Kind::Text),
            ("original_file_id", Kind::Id),
            ("file_size", Kind::Int),
            ("content_type", Kind::Text),
            ("duplicate_count", Kind::Int),
            ("created_at", Kind::Time),
            ("updated_at", Kind::Time),
        ],
    ),
];

/// Read only, and written by the notes of hashes and of looks.
const UPLOADS: (&str, Columns) = (
    "file_uploads",
    &[
        ("filename", Kind::Text),
        ("file_size", Kind::Int),
        ("mime_type", Kind::Text),
        ("storage_path", Kind::Text),
        ("user_id", Kind::Text),
        ("metadata", Kind::Json),
        ("file_hash", Kind::Text),
        ("is_duplicate", Kind::Bool),
        ("original_file_id", Kind::Id),
        ("health_status", Kind::Text),
        ("last_health_check", Kind::Time),
        ("deduplication_checked", Kind::Bool),
        ("created_at", Kind::Time),
    ],
);

const REPLICAS: &str = "platform_file_registry";
const HASHES: &str = "file_hashes";

/// Columns that say when a row was made, and are filled where it does not.
const MADE_AT: [&str; 4] = ["created_at", "updated_at", "checked_at", "last_sync_at"];

/// A row, by its columns.
pub type ToolRow = Map<String, JsonValue>;

impl Registry {
    /// Adds a row; gives its `id`. A file that is registered anew on its platform keeps its row.
    ///
    /// # Errors
    /// `InvalidRequest` for a table, column or value that is not the tool's; `Registry`.
    pub async fn add_tool_row(&self, table: &str, row: ToolRow) -> Result<String> {
        let (table, now) = (known(table)?, self.now());
        if table.0 == HASHES {
            return Err(invalid("a hash is noted with its file, by `note_tool_hash`".to_owned()));
        }
        check(table, &row)?;
        self.write("tool-row", move |session| add(session, table, &row, now)).await
    }

    /// Rows where a column has this value, the oldest first.
    ///
    /// # Errors
    /// As [`add_tool_row`](Self::add_tool_row).
    pub async fn tool_rows(&self, table: &str, column: &str, value: &str) -> Result<Vec<ToolRow>> {
        let table = readable(table)?;
        let kind = kind_of(table, column)?;
        let wanted = JsonValue::from(value);
        check_value(column, kind, &wanted)?;
        let (column, wanted) = (column.to_owned(), wanted);
        self.store
            .read(move |session| find(session, table, &format!("{column} = ?1"), &[parameter(kind, &wanted)]))
            .await
    }

    /// Where a file of the tool's is, and was: the rows that name it, or another file of its content.
    ///
    /// # Errors
    /// `InvalidRequest` when the id is no UUID; `Registry`.
    pub async fn tool_platforms(&self, file_id: &str) -> Result<Vec<ToolRow>> {
        let file_id = uuid_of("file_id", file_id)?;
        self.store
            .read(move |session| {
                let wanted = "file_id = ?1 OR file_id IN (SELECT o.id FROM file_uploads o
                     JOIN file_uploads f ON f.file_hash = o.file_hash WHERE f.id = ?1)";
                find(session, &TABLES[0], wanted, bind![Id(&file_id)])
            })
            .await
    }

    /// Adds a row to `file_health_checks`; the copy, and the file it is of, are known to be so since.
    ///
    /// # Errors
    /// As [`add_tool_row`](Self::add_tool_row).
    pub async fn note_tool_health(&self, row: ToolRow) -> Result<String> {
        let (table, now) = (known("file_health_checks")?, self.now());
        check(table, &row)?;
        self.write("tool-health", move |session| note_health(session, table, &row, now)).await
    }

    /// Notes a content's digest for one of the tool's files; says which file has had it first, if another one.
    ///
    /// # Errors
    /// `InvalidRequest` for ids that are no UUIDs, hashes that are none, and a file that has another one; `Registry`.
    pub async fn note_tool_hash(&self, row: ToolRow) -> Result<Option<String>> {
        let (table, now) = (known(HASHES)?, self.now());
        check(table, &row)?;
        let file = HashedFile::of(&row)?;
        self.write("tool-hash", move |session| note_hash(session, &file, now)).await
    }

    /// A copy that nobody has bound is not there any more.
    ///
    /// # Errors
    /// `Registry`.
    pub async fn tool_copy_is_gone(&self, platform: &PlatformId, remote_id: &str) -> Result<()> {
        let (platform, remote_id, now) = (platform.clone(), remote_id.to_owned(), self.now());
        self.write("tool-row", move |session| {
            session
                .execute(
                    "UPDATE platform_file_registry SET status = 'deleted', updated_at = ?3
                      WHERE platform = ?1 AND platform_file_id = ?2 AND status = 'active'",
                    bind![rows::stored(&platform), &remote_id, now],
                )
                .map(drop)
        })
        .await
    }
}

// ===== statements =====

fn add(session: &mut Session<'_>, table: &(&str, Columns), row: &ToolRow, now: Timestamp) -> Result<String> {
    let id = new_id();
    let made_at = JsonValue::from(now.to_string());
    let absent = table.1.iter().filter(|(name, _)| MADE_AT.contains(name) && !row.contains_key(*name));
    let columns: Vec<_> = given(table, row).map(|column| (column, &row[column.0])).collect();
    let columns = columns.into_iter().chain(absent.map(|column| (*column, &made_at)));
    let (mut names, mut places, mut values) = ("id".to_owned(), "?1".to_owned(), bind![Id(&id)].to_vec());
    for ((name, kind), value) in columns {
        values.push(parameter(kind, value));
        names += &format!(", {name}");
        places += &format!(", ?{}", values.len());
    }
    let is_replica = table.0 == REPLICAS;
    let or = match is_replica {
        // What we know of our own replica's state the tool does not know better.
        true => {
            "ON CONFLICT (platform, platform_file_id) DO UPDATE
                SET platform_url = excluded.platform_url, platform_metadata = excluded.platform_metadata,
                    updated_at = excluded.updated_at,
                    file_id = CASE WHEN platform_file_registry.purpose = '' THEN excluded.file_id
                                   ELSE platform_file_registry.file_id END,
                    status = CASE WHEN platform_file_registry.purpose = '' THEN excluded.status
                                  ELSE platform_file_registry.status END"
        }
        false => "",
    };
    let sql = format!("INSERT INTO {} ({names}) VALUES ({places}) {or} RETURNING id", table.0);
    let id: String = session.one(&sql, &values)?.get(0)?;
    if is_replica {
        know_digest(session, &id)?;
        if let Some(Value::Id(file_id)) = row.get("file_id").map(|file_id| parameter(Kind::Id, file_id)) {
            know_file(session, &id, &file_id, now)?;
        }
    }
    Ok(id)
}

/// What the tool registers is known by its digest too; two of its copies of one content are one of ours.
fn know_digest(session: &mut Session<'_>, id: &str) -> Result<()> {
    let sql = "UPDATE platform_file_registry
                  SET file_hash = (SELECT f.file_hash FROM file_uploads f WHERE f.id = file_id),
                      file_size = (SELECT f.file_size FROM file_uploads f WHERE f.id = file_id)
                WHERE id = ?1 AND file_hash IS NULL AND NOT EXISTS (
                    SELECT 1 FROM platform_file_registry r JOIN file_uploads f ON f.file_hash = r.file_hash
                     WHERE f.id = platform_file_registry.file_id AND r.platform = platform_file_registry.platform
                       AND r.account = platform_file_registry.account AND r.purpose = '' AND r.status = 'active')";
    session.execute(sql, bind![Id(id)]).map(drop)
}

/// The tool's file is one more of the content that the copy is of. It has no name here but its id.
fn know_file(session: &mut Session<'_>, copy: &str, file_id: &str, now: Timestamp) -> Result<()> {
    let known = session.row("SELECT file_hash FROM platform_file_registry WHERE id = ?1", bind![Id(copy)])?;
    let Some(hash) = known.map(|row| row.get::<Option<String>>(0)).transpose()?.flatten() else { return Ok(()) };
    let size = session.row("SELECT file_size, content_type FROM file_hashes WHERE file_hash = ?1", bind![&hash])?;
    let Some(size) = size else { return Ok(()) };
    let file = HashedFile { id: file_id.to_owned(), hash, size: size.get(0)?, mime: size.get(1)? };
    add_file(session, &file, now).map(drop)
}

fn note_health(session: &mut Session<'_>, table: &(&str, Columns), row: &ToolRow, now: Timestamp) -> Result<String> {
    let id = add(session, table, row, now)?;
    let text = |name: &str| row.get(name).and_then(JsonValue::as_str).unwrap_or_default();
    let (copy, status) = (text("registry_id"), text("status"));
    session.execute(
        "UPDATE platform_file_registry SET verification_count = COALESCE(verification_count, 0) + 1,
                last_verified = CASE WHEN ?3 THEN ?2 ELSE last_verified END
          WHERE id = ?1",
        bind![Id(copy), now, status == "healthy"],
    )?;
    session.execute(
        "UPDATE file_uploads SET health_status = ?2, last_health_check = ?3
          WHERE id = (SELECT r.file_id FROM platform_file_registry r WHERE r.id = ?1)",
        bind![Id(copy), status, now],
    )?;
    Ok(id)
}

/// A file of the tool's, and what its bytes are.
struct HashedFile {
    id: String,
    hash: String,
    size: i64,
    mime: Option<String>,
}

impl HashedFile {
    fn of(row: &ToolRow) -> Result<Self> {
        let text = |name: &str| row.get(name).and_then(JsonValue::as_str).unwrap_or_default();
        let digest = Digest::from_hex(&text("file_hash").to_lowercase())
            .ok_or_else(|| invalid(format!("file_hash takes 64 hexadecimal digits, not {:?}", text("file_hash"))))?;
        Ok(HashedFile {
            id: uuid_of("original_file_id", text("original_file_id"))?,
            hash: digest.hex(),
            size: row.get("file_size").and_then(JsonValue::as_i64).unwrap_or(0),
            mime: row.get("content_type").and_then(JsonValue::as_str).map(str::to_owned),
        })
    }
}

fn note_hash(session: &mut Session<'_>, file: &HashedFile, now: Timestamp) -> Result<Option<String>> {
    let is_new = add_file(session, file, now)?;
    // Whoever comes second, by however little, is the duplicate.
    let first = session.one(
        "INSERT INTO file_hashes (id, file_hash, original_file_id, file_size, content_type, duplicate_count, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?6)
         ON CONFLICT (file_hash) DO UPDATE
            SET duplicate_count = COALESCE(file_hashes.duplicate_count, 0) + ?7,
                original_file_id = COALESCE(file_hashes.original_file_id, excluded.original_file_id),
                updated_at = excluded.updated_at
         RETURNING original_file_id",
        bind![Id(&new_id()), &file.hash, Id(&file.id), file.size, file.mime.as_deref(), now, i64::from(is_new)],
    )?;
    let original = Some(first.get::<String>(0)?).filter(|original| *original != file.id);
    session.execute(
        "UPDATE file_uploads SET is_duplicate = ?2, original_file_id = ?3, deduplication_checked = ?4 WHERE id = ?1",
        bind![Id(&file.id), original.is_some(), original.as_deref().map(Id), true],
    )?;
    Ok(original)
}

/// Makes the file known by its digest; says whether it was not.
fn add_file(session: &mut Session<'_>, file: &HashedFile, now: Timestamp) -> Result<bool> {
    session.lock(&file.hash)?;
    let known = session.row("SELECT file_hash FROM file_uploads WHERE id = ?1", bind![Id(&file.id)])?;
    match known.map(|row| row.get::<Option<String>>(0)).transpose()? {
        Some(Some(hash)) if hash == file.hash => Ok(false),
        Some(Some(_)) => Err(invalid(format!("the file {} has other bytes", file.id))),
        Some(None) => {
            let sql = "UPDATE file_uploads SET file_hash = ?2, file_size = COALESCE(file_size, ?3) WHERE id = ?1";
            session.execute(sql, bind![Id(&file.id), &file.hash, file.size]).map(|_| true)
        }
        None => {
            let sql = "INSERT INTO file_uploads (id, filename, file_size, mime_type, metadata, file_hash, created_at)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            let metadata = Value::Json("{}".into());
            let mut values = bind![Id(&file.id), &file.id, file.size, file.mime.as_deref()].to_vec();
            values.extend([metadata, (&file.hash).into(), now.into()]);
            session.execute(sql, &values).map(|_| true)
        }
    }
}

fn find(
    session: &mut Session<'_>,
    table: &(&str, Columns),
    wanted: &str,
    values: &[Value<'_>],
) -> Result<Vec<ToolRow>> {
    let names: Vec<_> = table.1.iter().map(|(name, _)| *name).collect();
    let (names, made_at) = (names.join(", "), made_at(table.1));
    let sql = format!("SELECT id, {names} FROM {} WHERE {wanted} ORDER BY {made_at}, id", table.0);
    session.rows(&sql, values)?.iter().map(|row| read(table.1, row)).collect()
}

/// The column that says when a row was made.
pub(super) fn made_at(columns: Columns) -> &'static str {
    let is_there = columns.iter().any(|(name, _)| *name == "created_at");
    if is_there { "created_at" } else { "checked_at" }
}

pub(super) fn read(columns: Columns, row: &Row) -> Result<ToolRow> {
    let mut read = Map::from_iter([("id".to_owned(), row.get::<String>(0)?.into())]);
    for ((name, kind), at) in columns.iter().zip(1..) {
        let value = match kind {
            Kind::Int => row.get::<Option<i64>>(at)?.into(),
            Kind::Bool => row.get::<Option<bool>>(at)?.into(),
            Kind::Time => row.get::<Option<Timestamp>>(at)?.map(|time| time.to_string()).into(),
            Kind::Text | Kind::Id => row.get::<Option<String>>(at)?.into(),
            Kind::Json => {
                row.get::<Option<String>>(at)?.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
            }
        };
        read.insert((*name).to_owned(), value);
    }
    Ok(read)
}

// ===== what may be written =====

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidRequest, message).with_hint("dropin_contract.md §4.1 lists tables and columns")
}

fn known(table: &str) -> Result<&'static (&'static str, Columns)> {
    let found = TABLES.iter().find(|(name, _)| *name == table);
    found.ok_or_else(|| invalid(format!("the existing tool has no table {table:?}")))
}

fn readable(table: &str) -> Result<&'static (&'static str, Columns)> {
    if table == UPLOADS.0 { Ok(&UPLOADS) } else { known(table) }
}

fn kind_of(table: &(&str, Columns), column: &str) -> Result<Kind> {
    let found = table.1.iter().find(|(name, _)| *name == column);
    match found {
        Some((_, kind)) => Ok(*kind),
        None if column == "id" => Ok(Kind::Id),
        None => Err(invalid(format!("{} has no column {column:?}", table.0))),
    }
}

/// The columns a row has a value for.
fn given<'r>(table: &'r (&str, Columns), row: &'r ToolRow) -> impl Iterator<Item = (&'static str, Kind)> + 'r {
    table.1.iter().filter(|(name, _)| row.contains_key(*name)).copied()
}

fn check(table: &(&str, Columns), row: &ToolRow) -> Result<()> {
    row.iter().try_for_each(|(column, value)| check_value(column, kind_of(table, column)?, value))
}

fn check_value(column: &str, kind: Kind, value: &JsonValue) -> Result<()> {
    let text = value.as_str();
    let fits = match kind {
        _ if value.is_null() => true,
        Kind::Int => value.is_i64(),
        Kind::Bool => value.is_boolean(),
        Kind::Text => text.is_some_and(|text| !text.contains('\0')),
        Kind::Time => text.and_then(Timestamp::parse_rfc3339).is_some(),
        Kind::Json => true,
        Kind::Id => return text.map_or(Err(no_uuid(column, &value.to_string())), |id| uuid_of(column, id).map(drop)),
    };
    let what = match kind {
        Kind::Int => "a whole number",
        Kind::Bool => "true or false",
        Kind::Time => "a time (RFC 3339)",
        _ => "text",
    };
    if fits { Ok(()) } else { Err(invalid(format!("{column} takes {what}, not {value}"))) }
}

fn uuid_of(column: &str, id: &str) -> Result<String> {
    let parsed = uuid::Uuid::parse_str(id).map_err(|_| no_uuid(column, id))?;
    Ok(parsed.to_string())
}

fn no_uuid(column: &str, id: &str) -> Error {
    Error::new(ErrorKind::InvalidRequest, format!("{column} takes a UUID, not {id:?}"))
        .with_hint("the id of a row of file_uploads, or any other UUID")
}

fn parameter(kind: Kind, value: &JsonValue) -> Value<'_> {
    let text = value.as_str();
    match kind {
        _ if value.is_null() => Value::Null(kind),
        Kind::Int => value.as_i64().into(),
        Kind::Bool => value.as_bool().into(),
        Kind::Time => text.and_then(Timestamp::parse_rfc3339).into(),
        Kind::Id => Value::Id(text.and_then(|id| uuid_of("id", id).ok()).unwrap_or_default().into()),
        Kind::Text => text.into(),
        Kind::Json => Value::Json(value.to_string().into()),
    }
}
