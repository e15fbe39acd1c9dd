//! Numbered, checksummed steps from an empty file to today's schema.
//!
//! Table and column names that the existing EXAI tool knows keep their names and meaning (dropin_contract.md
//! §4.1); the rest is ours. Times are whole microseconds since 1970.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior, params};
use sha2::{Digest as _, Sha256};

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind};
use crate::model::Digest;

struct Migration {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "files, contents, replicas, intents", sql: include_str!("migrations/0001.sql") },
    Migration { version: 2, name: "state of breakers and limits", sql: include_str!("migrations/0002.sql") },
];

pub(super) enum MigrationError {
    Sqlite(rusqlite::Error),
    Newer(i64),
    Changed(i64),
}

impl From<rusqlite::Error> for MigrationError {
    fn from(error: rusqlite::Error) -> Self {
        MigrationError::Sqlite(error)
    }
}

impl MigrationError {
    pub(super) fn into_registry_error(self, path: &Path) -> Error {
        match self {
            MigrationError::Sqlite(error) => super::cannot_open(path, error),
            MigrationError::Newer(version) => Error::new(
                ErrorKind::Registry,
                format!("the registry {path:?} has schema {version}, written by a newer exai-files"),
            )
            .with_hint("upgrade this one, or set another `registry.path`"),
            MigrationError::Changed(version) => Error::new(
                ErrorKind::Registry,
                format!("the registry {path:?} was made by another variant of schema step {version}"),
            )
            .with_hint("restore it from a backup, or set another `registry.path`"),
        }
    }
}

/// Brings the database to today's schema. Safe to run from many processes at once, and again.
pub(super) fn migrate(connection: &mut Connection, now: Timestamp) -> Result<(), MigrationError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_migrations (
            version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at INTEGER NOT NULL)",
    )?;
    let applied: Vec<(i64, String)> = transaction
        .prepare("SELECT version, checksum FROM schema_migrations ORDER BY version")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (version, checksum) in &applied {
        let known = MIGRATIONS.iter().find(|m| m.version == *version).ok_or(MigrationError::Newer(*version))?;
        if known.checksum() != *checksum {
            return Err(MigrationError::Changed(*version));
        }
    }
    for migration in MIGRATIONS.iter().skip(applied.len()) {
        transaction.execute_batch(migration.sql)?;
        transaction.execute(
            "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES (?1, ?2, ?3, ?4)",
            params![migration.version, migration.name, migration.checksum(), now.0],
        )?;
    }
    Ok(transaction.commit()?)
}

impl Migration {
    fn checksum(&self) -> String {
        Digest(Sha256::digest(self.sql).into()).hex()
    }
}
