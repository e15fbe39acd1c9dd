//! The outbox of the existing tool's tables, where they are mirrored elsewhere: which rows are still to be written there.
//!
//! Triggers fill it, in the transaction of each change, whoever makes it. A row is in it once, however often it changes,
//! and is read only when it is sent, so that what arrives is the newest; one that is in it and nowhere else is to be
//! removed. Of an embedded registry only: where the tool's tables are in PostgreSQL, they are that.

use std::time::Duration;

use super::tool_rows::{self, Columns, TABLES, ToolRow};
use super::{Registry, Turn};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Row, Session, bind};

/// Contents, which copies are of.
const FIRST: &str = "file_hashes";

/// Rows of one table that go out together.
#[derive(Debug)]
pub struct Outgoing {
    pub table: &'static str,
    /// They are not here any more, and are not to be there; of each there is the `id`.
    pub are_gone: bool,
    pub rows: Vec<OutgoingRow>,
}

#[derive(Clone, Debug)]
pub struct OutgoingRow {
    /// Of its place in the outbox: another one, if the row has changed since.
    seq: i64,
    pub row: ToolRow,
}

/// How full the outbox is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    pub rows: u64,
    /// Of these, those that were refused, and wait for a person, or for a change of theirs.
    pub refused: u64,
}

impl Registry {
    /// From now on, changes go into the outbox; the first time, every row there is.
    ///
    /// # Errors
    /// `Config` when the registry is a server's; `Registry`.
    pub async fn mirror_tool_rows(&self) -> Result<()> {
        self.write("mirror", |session| {
            if session.is_postgres() {
                return Err(Error::new(ErrorKind::Config, "a registry in PostgreSQL is not mirrored")
                    .with_hint("the tool's tables are in it"));
            }
            TABLES.iter().try_for_each(|(table, columns)| watch(session, table, columns))
        })
        .await
    }

    /// The right to send, for as long as it may take; None while another process has it. Of two that send the same row at
    /// once, the older state might arrive last.
    ///
    /// # Errors
    /// `Registry`.
    pub async fn take_mirror(&self, at_most: Duration) -> Result<Option<Turn>> {
        self.take_turn("mirror", at_most, Duration::ZERO).await
    }

    /// Rows that wait, of one table that is not `without` (or to be removed from it, where that is said), those that have
    /// waited longest, at most so many. Tables that others refer to are written first, and removed from last.
    ///
    /// # Errors
    /// `Registry`.
    pub async fn outgoing_tool_rows(&self, most: usize, without: &[(&str, bool)]) -> Result<Option<Outgoing>> {
        let (first, others): (Vec<_>, Vec<_>) = TABLES.iter().partition(|(table, _)| *table == FIRST);
        let tables: Vec<_> = first.into_iter().chain(others).collect();
        let open = |are_gone| tables.iter().filter(move |(table, _)| !without.contains(&(*table, are_gone))).copied();
        let (written, removed): (Vec<_>, Vec<_>) = (open(false).collect(), open(true).collect());
        self.store
            .read(move |session| {
                for (table, columns) in written {
                    let rows = changed(session, table, columns, most)?;
                    if !rows.is_empty() {
                        return Ok(Some(Outgoing { table, are_gone: false, rows }));
                    }
                }
                for (table, _) in removed.into_iter().rev() {
                    let rows = gone(session, table, most)?;
                    if !rows.is_empty() {
                        return Ok(Some(Outgoing { table, are_gone: true, rows }));
                    }
                }
                Ok(None)
            })
            .await
    }

    /// They have arrived, as they were when they were read.
    ///
    /// # Errors
    /// `Registry`.
    pub async fn tool_rows_arrived(&self, arrived: &[OutgoingRow]) -> Result<()> {
        let seqs: Vec<i64> = arrived.iter().map(|row| row.seq).collect();
        self.write("mirrored", move |session| {
            seqs.iter()
                .try_for_each(|seq| session.execute("DELETE FROM mirror_queue WHERE seq = ?1", bind![*seq]).map(drop))
        })
        .await
    }

    /// It was refused, and stays until it changes.
    ///
    /// # Errors
    /// `Registry`.
    pub async fn tool_row_refused(&self, refused: &OutgoingRow, why: &str) -> Result<()> {
        let (seq, why) = (refused.seq, why.to_owned());
        self.write("mirrored", move |session| {
            session.execute("UPDATE mirror_queue SET error = ?2 WHERE seq = ?1", bind![seq, &why]).map(drop)
        })
        .await
    }

    /// Those that were refused are tried again.
    ///
    /// # Errors
    /// `Registry`.
    pub async fn retry_refused_tool_rows(&self) -> Result<u64> {
        let retry = "UPDATE mirror_queue SET error = NULL WHERE error IS NOT NULL";
        self.write("mirrored", move |session| session.execute(retry, &[])).await
    }

    /// # Errors
    /// `Registry`.
    pub async fn tool_rows_waiting(&self) -> Result<Waiting> {
        self.store
            .read(|session| {
                let row = session.one("SELECT COUNT(*), COUNT(error) FROM mirror_queue", &[])?;
                Ok(Waiting { rows: row.get(0)?, refused: row.get(1)? })
            })
            .await
    }
}

fn changed(session: &mut Session<'_>, table: &str, columns: Columns, most: usize) -> Result<Vec<OutgoingRow>> {
    let names: Vec<_> = columns.iter().map(|(column, _)| format!("t.{column}")).collect();
    let sql = format!(
        "SELECT t.id, {}, q.seq FROM mirror_queue q JOIN {table} t ON t.id = q.row_id
          WHERE q.of_table = ?1 AND q.error IS NULL ORDER BY q.seq LIMIT ?2",
        names.join(", ")
    );
    let found = session.rows(&sql, bind![table, most as u64])?;
    let read = |row| Ok(OutgoingRow { seq: Row::get(row, columns.len() + 1)?, row: tool_rows::read(columns, row)? });
    found.iter().map(read).collect()
}

fn gone(session: &mut Session<'_>, table: &str, most: usize) -> Result<Vec<OutgoingRow>> {
    let sql = format!(
        "SELECT q.row_id, q.seq FROM mirror_queue q
          WHERE q.of_table = ?1 AND q.error IS NULL AND NOT EXISTS (SELECT 1 FROM {table} t WHERE t.id = q.row_id)
          ORDER BY q.seq LIMIT ?2"
    );
    let found = session.rows(&sql, bind![table, most as u64])?;
    let read = |row| Ok(OutgoingRow { seq: Row::get(row, 1)?, row: tool_rows::read(&[], row)? });
    found.iter().map(read).collect()
}

fn watch(session: &mut Session<'_>, table: &str, columns: Columns) -> Result<()> {
    let there = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'trigger' AND name = ?1";
    if session.one(there, bind![format!("mirror_{table}_insert")])?.get::<u64>(0)? > 0 {
        return Ok(());
    }
    for (change, row) in [("insert", "NEW"), ("update", "NEW"), ("delete", "OLD")] {
        session.batch(&format!(
            "CREATE TRIGGER mirror_{table}_{change} AFTER {change} ON {table} BEGIN
                 DELETE FROM mirror_queue WHERE of_table = '{table}' AND row_id = {row}.id;
                 INSERT INTO mirror_queue (of_table, row_id) VALUES ('{table}', {row}.id);
             END"
        ))?;
    }
    let made_at = tool_rows::made_at(columns);
    let all = format!("INSERT INTO mirror_queue (of_table, row_id) SELECT ?1, id FROM {table} ORDER BY {made_at}, id");
    session.execute(&all, bind![table]).map(drop)
}
