//! Keeping a database small and quick: old history goes, months get their partitions, planners their figures.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::session::Session;
use super::value::bind;
use super::{Engine, Store, migrations};
use crate::clock::Timestamp;
use crate::error::Result;

/// Rows removed in one transaction: writers wait no longer than that.
const AT_ONCE: u64 = 10_000;

/// Nothing younger is history, whatever the caller says.
const YOUNGEST: Duration = Duration::from_secs(86_400);

/// A table that grows with everything that happens: its key, and which of its rows are history at ?1.
struct History {
    table: &'static str,
    key: &'static str,
    is_old: &'static str,
}

/// The audit log is no history to be removed: who keeps it how long is a matter of law.
const HISTORIES: &[History] = &[
    History { table: "upload_intents", key: "id", is_old: "state <> 'sending' AND updated_at < ?1" },
    // An operator's word on a breaker holds until it is taken back, however long ago it was given.
    History { table: "resilience_state", key: "key", is_old: "updated_at < ?1 AND key NOT LIKE 'breaker/%'" },
    History { table: "file_recovery_attempts", key: "id", is_old: "status <> 'pending' AND created_at < ?1" },
    History { table: "file_health_checks", key: "id", is_old: "checked_at < ?1" },
    History { table: "file_lifecycle_sync", key: "id", is_old: "sync_status = 'synced' AND updated_at < ?1" },
    History { table: "holds", key: "id", is_old: "until < ?1" },
];

/// Tables in partitions by month, and the column they go by; whether old months are dropped.
const BY_MONTH: &[(&str, &str, bool)] =
    &[("file_health_checks", "checked_at", true), ("file_audit_trail", "created_at", false)];

/// What was done, or (in a dry run) would be.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Maintenance {
    /// Rows, by table.
    pub removed: BTreeMap<&'static str, u64>,
    pub partitions_made: u64,
    pub partitions_dropped: u64,
    /// Bytes.
    pub size_before: u64,
    pub size_after: u64,
}

impl Store {
    /// Removes history older than `keep`, makes partitions for this month and the next, and lets the database take its
    /// figures. Safe while others work, and to be interrupted. Blocking.
    ///
    /// # Errors
    /// `Registry`.
    pub fn maintain(&self, now: Timestamp, keep: Duration, dry_run: bool) -> Result<Maintenance> {
        // Younger state is in force.
        let before = now.minus(keep.max(YOUNGEST));
        let size_before = self.read_blocking(migrations::size)?;
        let mut done = Maintenance { size_before, ..Maintenance::default() };
        if !dry_run {
            let months = self.write_blocking(move |session| tend_months(session, now, before))?;
            (done.partitions_made, done.partitions_dropped) = months;
        }
        for history in HISTORIES {
            let count = match dry_run {
                true => self.read_blocking(move |session| count_old(session, history, before))?,
                false => self.remove_old(history, before)?,
            };
            done.removed.insert(history.table, count);
        }
        if !dry_run {
            self.settle()?;
        }
        done.size_after = self.read_blocking(migrations::size)?;
        Ok(done)
    }

    /// Shows PostgreSQL's planner how large its tables are, where so many new files make them twice what it believes.
    /// It looks for itself, but only after a minute, and until then reads whole tables. Says whether it did.
    ///
    /// # Errors
    /// `Registry`.
    pub async fn catch_up_planner(&self, new_files: u64) -> Result<bool> {
        if matches!(&*self.0, Engine::Sqlite(_)) {
            return Ok(true);
        }
        self.write(move |session| {
            let known = "SELECT GREATEST(reltuples, 0)::bigint FROM pg_class WHERE oid = 'file_hashes'::regclass";
            let is_outgrown = session.one(known, &[])?.get::<u64>(0)? < new_files * 2;
            if is_outgrown {
                analyze(session)?;
            }
            Ok(is_outgrown)
        })
        .await
    }

    fn remove_old(&self, history: &'static History, before: Timestamp) -> Result<u64> {
        let History { table, key, is_old } = history;
        let sql =
            format!("DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE {is_old} LIMIT {AT_ONCE})");
        let mut removed = 0;
        loop {
            let sql = sql.clone();
            let count = self.write_blocking(move |session| session.execute(&sql, bind![before]))?;
            removed += count;
            if count < AT_ONCE {
                return Ok(removed);
            }
        }
    }

    /// Gives free space back, and the planner its figures.
    fn settle(&self) -> Result<()> {
        match &*self.0 {
            Engine::Sqlite(engine) => engine.compact(),
            Engine::Postgres(_) => self.write_blocking(analyze),
        }
    }
}

/// The figures that PostgreSQL's planner goes by, without which it reads whole tables; it takes them itself in time.
fn analyze(session: &mut Session<'_>) -> Result<()> {
    session.batch("ANALYZE file_uploads; ANALYZE file_hashes; ANALYZE platform_file_registry; ANALYZE file_tags")
}

fn count_old(session: &mut Session<'_>, history: &History, before: Timestamp) -> Result<u64> {
    let sql = format!("SELECT COUNT(*) FROM {} WHERE {}", history.table, history.is_old);
    session.one(&sql, bind![before])?.get(0)
}

fn tend_months(session: &mut Session<'_>, now: Timestamp, before: Timestamp) -> Result<(u64, u64)> {
    let (mut made, mut dropped) = (0, 0);
    let tables = if session.is_postgres() { BY_MONTH } else { &[] };
    for (table, column, is_history) in tables {
        session.row("SELECT exai_files_by_month(?1, ?2, ?3)::text", bind![*table, *column, i64::MAX])?;
        let sql = "SELECT exai_files_make_months(?1, ?2, ?3)";
        made += session.one(sql, bind![*table, *column, now])?.get::<u64>(0)?;
        if *is_history {
            let sql = "SELECT exai_files_drop_months(?1, ?2)";
            dropped += session.one(sql, bind![*table, before])?.get::<u64>(0)?;
        }
    }
    Ok((made, dropped))
}
