//! Numbered, checksummed steps from an empty database to today's schema.
//!
//! Table and column names that the existing EXAI tool knows keep their names and meaning (dropin_contract.md
//! §4.1); the rest is ours. SQLite keeps times as whole microseconds since 1970, PostgreSQL as `timestamptz`.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::session::Session;
use super::value::bind;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;

struct Migration {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

/// The steps of one kind of database, and where it keeps those that were taken.
struct Steps {
    journal: &'static str,
    steps: &'static [Migration],
}

const SQLITE: Steps = Steps {
    journal: "schema_migrations",
    steps: &[
        Migration { version: 1, name: "files, contents, replicas, intents", sql: include_str!("sqlite/0001.sql") },
        Migration { version: 2, name: "state of breakers and limits", sql: include_str!("sqlite/0002.sql") },
        Migration { version: 3, name: "platforms by the tool's names; indexes", sql: include_str!("sqlite/0003.sql") },
        Migration { version: 4, name: "tags, trash, queries", sql: include_str!("sqlite/0004.sql") },
        Migration {
            version: 5,
            name: "audit, recovery, health, holds, kept copies",
            sql: include_str!("sqlite/0005.sql"),
        },
        Migration {
            version: 6,
            name: "how long files are wanted, when they are used",
            sql: include_str!("sqlite/0006.sql"),
        },
        Migration { version: 7, name: "what an account holds; moves", sql: include_str!("sqlite/0007.sql") },
        Migration { version: 8, name: "credentials", sql: include_str!("sqlite/0008.sql") },
        Migration { version: 9, name: "what the tool's classes write", sql: include_str!("sqlite/0009.sql") },
    ],
};

/// Other programs call theirs `schema_migrations` too, and may be in the same database.
const POSTGRES: Steps = Steps {
    journal: "exai_files_migrations",
    steps: &[
        Migration {
            version: 1,
            name: "the tool's tables, replicas, intents, texts, state",
            sql: include_str!("postgres/0001.sql"),
        },
        Migration {
            version: 2,
            name: "tags, trash, queries; history by month",
            sql: include_str!("postgres/0002.sql"),
        },
        Migration {
            version: 3,
            name: "audit, recovery, health, holds, kept copies",
            sql: include_str!("postgres/0003.sql"),
        },
        Migration {
            version: 4,
            name: "how long files are wanted, when they are used",
            sql: include_str!("postgres/0004.sql"),
        },
        Migration { version: 5, name: "what an account holds; moves", sql: include_str!("postgres/0005.sql") },
        Migration { version: 6, name: "credentials", sql: include_str!("postgres/0006.sql") },
    ],
};

/// Makes many processes that open one database at the same time take turns.
const LOCK: &str = "exai_files migrations";

/// Tables of the existing EXAI tool.
const OF_THE_TOOL: &[&str] = &[
    "file_uploads",
    "file_hashes",
    "platform_file_registry",
    "file_health_checks",
    "file_lifecycle_sync",
    "file_recovery_attempts",
    "file_audit_trail",
];

/// What must be there, whatever else is: drift is what is missing of it.
const EXPECTED: &[(&str, &[&str])] = &[
    ("file_uploads", &["id", "filename", "file_size", "mime_type", "file_hash", "is_duplicate", "original_file_id"]),
    (
        "file_hashes",
        &["id", "file_hash", "original_file_id", "file_size", "content_type", "duplicate_count", "trashed_at"],
    ),
    ("file_tags", &["tag", "file_hash"]),
    (
        "platform_file_registry",
        &["id", "file_id", "file_hash", "platform", "account", "purpose", "platform_file_id", "status", "expires_at"],
    ),
    ("upload_intents", &["id", "file_hash", "platform", "account", "purpose", "state", "fence", "lease_until"]),
    ("extracted_texts", &["file_hash", "platform", "parser_epoch", "content"]),
    ("resilience_state", &["key", "state", "updated_at"]),
    ("audit_log", &["seq", "happened_at", "action", "file_hash", "record"]),
    ("audit_tiles", &["level", "number", "hash"]),
    ("audit_checkpoints", &["size", "note", "created_at"]),
    ("recoveries", &["kind", "subject", "attempts", "next_try_at", "is_dead"]),
    ("file_recovery_attempts", &["id", "operation", "attempt_number", "recovery_strategy", "status", "subject"]),
    ("file_health_checks", &["id", "registry_id", "status", "checked_at"]),
    ("file_lifecycle_sync", &["id", "file_id", "platform", "local_status", "platform_status", "sync_status"]),
    ("file_audit_trail", &["id", "file_id", "operation", "platform", "status", "operation_details"]),
    ("holds", &["id", "file_hash", "kind", "platform", "until"]),
    ("watch_tasks", &["name", "owner", "lease_until", "due_at"]),
    ("kept_copies", &["file_hash", "file_size", "kept_at"]),
    ("stored_credentials", &["platform", "account", "sealed", "updated_at"]),
    ("credential_refreshes", &["subject", "fence", "owner", "lease_until", "spending", "tries"]),
];

/// The steps that a database has yet to take.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Tables of the existing EXAI tool that would be taken over, with their rows.
    pub adopts: Vec<String>,
    pub steps: Vec<PlannedStep>,
}

#[derive(Clone, Debug, Serialize)]
pub struct PlannedStep {
    pub version: i64,
    pub name: &'static str,
    pub sql: &'static str,
}

/// How a database is.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub database: String,
    /// Steps taken, and known.
    pub version: i64,
    pub latest: i64,
    /// Bytes.
    pub size: u64,
    /// Tables and columns that should be there and are not.
    pub drift: Vec<String>,
}

fn of(session: &Session<'_>) -> &'static Steps {
    if session.is_postgres() { &POSTGRES } else { &SQLITE }
}

/// Brings a database up to date. Safe to run from many processes at once, and again.
pub(super) fn migrate(session: &mut Session<'_>, now: Timestamp, adopt: bool) -> Result<()> {
    session.lock(LOCK)?;
    let plan = plan(session)?;
    if !plan.adopts.is_empty() && !adopt {
        let tables = plan.adopts.join(", ");
        return Err(Error::new(
            ErrorKind::Registry,
            format!("this database holds tables of the EXAI tool ({tables}) that were not adopted yet"),
        )
        .with_hint(
            "`exai-files db plan` shows what would be changed, `exai-files db migrate` does it; no row is lost",
        ));
    }
    if plan.steps.is_empty() {
        return Ok(());
    }
    let Steps { journal, .. } = of(session);
    let (number, time) = if session.is_postgres() { ("bigint", "timestamptz") } else { ("INTEGER", "INTEGER") };
    session.batch(&format!(
        "CREATE TABLE IF NOT EXISTS {journal} (
            version {number} PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at {time} NOT NULL)"
    ))?;
    for step in &plan.steps {
        session.patient_batch(step.sql)?;
        session.execute(
            &format!("INSERT INTO {journal} (version, name, checksum, applied_at) VALUES (?1, ?2, ?3, ?4)"),
            bind![step.version, step.name, checksum(step.sql), now],
        )?;
        tracing::info!(version = step.version, name = step.name, "registry: schema step taken");
    }
    Ok(())
}

/// # Errors
/// `Registry` when the database was made by a newer version, or by other steps of the same numbers.
pub(super) fn plan(session: &mut Session<'_>) -> Result<Plan> {
    let Steps { steps, .. } = of(session);
    let applied = applied(session)?;
    for (version, checksum) in &applied {
        let known = steps.iter().find(|step| step.version == *version).ok_or_else(|| newer(*version))?;
        if self::checksum(known.sql) != *checksum {
            return Err(changed(*version));
        }
    }
    let mut adopts = Vec::new();
    let may_adopt = applied.is_empty() && session.is_postgres();
    for table in OF_THE_TOOL.iter().filter(|_| may_adopt) {
        if !columns(session, table)?.is_empty() {
            adopts.push((*table).to_owned());
        }
    }
    let to_take = steps.iter().skip(applied.len());
    let steps = to_take.map(|step| PlannedStep { version: step.version, name: step.name, sql: step.sql }).collect();
    check_ids(session, &adopts)?;
    Ok(Plan { adopts, steps })
}

/// # Errors
/// As [`plan`].
pub(super) fn status(session: &mut Session<'_>, database: String) -> Result<Status> {
    let plan = plan(session)?;
    let latest = of(session).steps.last().map_or(0, |step| step.version);
    let size = size(session)?;
    let mut drift = Vec::new();
    for (table, expected) in EXPECTED.iter().filter(|_| plan.steps.is_empty()) {
        let there = columns(session, table)?;
        match there.is_empty() {
            true => drift.push(format!("no table {table}")),
            false => {
                let missing = expected.iter().filter(|column| !there.iter().any(|name| name == *column));
                drift.extend(missing.map(|column| format!("no column {table}.{column}")));
            }
        }
    }
    let pending = i64::try_from(plan.steps.len()).unwrap_or(i64::MAX);
    Ok(Status { database, version: latest - pending, latest, size, drift })
}

/// Bytes of the whole database.
pub(super) fn size(session: &mut Session<'_>) -> Result<u64> {
    let size = match session.is_postgres() {
        true => "SELECT pg_database_size(current_database())",
        false => "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
    };
    session.one(size, &[])?.get(0)
}

fn applied(session: &mut Session<'_>) -> Result<Vec<(i64, String)>> {
    let Steps { journal, .. } = of(session);
    if columns(session, journal)?.is_empty() {
        return Ok(Vec::new());
    }
    let rows = session.rows(&format!("SELECT version, checksum FROM {journal} ORDER BY version"), &[])?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// The names of a table's columns; none when there is no such table.
fn columns(session: &mut Session<'_>, table: &str) -> Result<Vec<String>> {
    let sql = match session.is_postgres() {
        true => {
            "SELECT column_name::text FROM information_schema.columns
              WHERE table_schema = current_schema() AND table_name = ?1"
        }
        false => "SELECT name FROM pragma_table_info(?1)",
    };
    session.rows(sql, bind![table])?.iter().map(|row| row.get(0)).collect()
}

/// A table of the tool's whose ids are no UUIDs cannot be referred to by ours.
fn check_ids(session: &mut Session<'_>, adopts: &[String]) -> Result<()> {
    for table in adopts {
        let row = session.row(
            "SELECT data_type::text FROM information_schema.columns
              WHERE table_schema = current_schema() AND table_name = ?1 AND column_name = 'id'",
            bind![table],
        )?;
        let kind = row.map(|row| row.get::<String>(0)).transpose()?;
        if kind.as_deref() != Some("uuid") {
            let has = kind.map_or("no id".to_owned(), |kind| format!("an id of type {kind}"));
            return Err(Error::new(ErrorKind::Registry, format!("the table {table} has {has}, and cannot be adopted"))
                .with_hint("rename it, or use another database: the registry needs ids of type uuid there"));
        }
    }
    Ok(())
}

fn checksum(sql: &str) -> String {
    Digest(Sha256::digest(sql).into()).hex()
}

fn newer(version: i64) -> Error {
    Error::new(ErrorKind::Registry, format!("the registry has schema {version}, written by a newer exai-files"))
        .with_hint("upgrade this one, or set another `registry.path`")
}

fn changed(version: i64) -> Error {
    Error::new(ErrorKind::Registry, format!("the registry was made by another variant of schema step {version}"))
        .with_hint("restore it from a backup, or set another `registry.path`")
}
