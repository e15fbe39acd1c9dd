//! One connection of a store, in the hands of a job.
//!
//! Statements are written once, in what both databases understand: parameters `?1`, `?2`; `lower` folds every script,
//! `strpos` finds one text in another.

use super::value::{Row, Value};
use super::{postgres, sqlite};
use crate::error::{Error, ErrorKind, Result};

/// Rows that one statement inserts.
const MOST_ROWS: usize = 10_000;

/// A connection for the length of a job: a write job's statements are one transaction.
#[derive(Debug)]
pub struct Session<'s>(Engine<'s>);

#[derive(Debug)]
enum Engine<'s> {
    Sqlite(&'s rusqlite::Connection),
    Postgres(&'s mut postgres::Connection),
}

impl<'s> Session<'s> {
    pub(super) fn sqlite(connection: &'s rusqlite::Connection) -> Self {
        Session(Engine::Sqlite(connection))
    }

    pub(super) fn postgres(connection: &'s mut postgres::Connection) -> Self {
        Session(Engine::Postgres(connection))
    }

    /// Runs a statement; gives how many rows it changed.
    ///
    /// # Errors
    /// `Registry`.
    pub fn execute(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64> {
        match &mut self.0 {
            Engine::Sqlite(connection) => sqlite::execute(connection, sql, values),
            Engine::Postgres(connection) => connection.execute(sql, values),
        }
    }

    /// Asks a question; gives every row of the answer.
    ///
    /// # Errors
    /// `Registry`.
    pub fn rows(&mut self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>> {
        match &mut self.0 {
            Engine::Sqlite(connection) => sqlite::rows(connection, sql, values),
            Engine::Postgres(connection) => connection.rows(sql, values),
        }
    }

    /// The answer's first row.
    ///
    /// # Errors
    /// `Registry`.
    pub fn row(&mut self, sql: &str, values: &[Value<'_>]) -> Result<Option<Row>> {
        Ok(self.rows(sql, values)?.into_iter().next())
    }

    /// The row that there must be, such as a count.
    ///
    /// # Errors
    /// `Registry`.
    pub fn one(&mut self, sql: &str, values: &[Value<'_>]) -> Result<Row> {
        self.row(sql, values)?.ok_or_else(|| Error::new(ErrorKind::Registry, "the registry gave no answer"))
    }

    /// Inserts many rows: `into` is the table with its columns, `or` what to do about those that are there already.
    ///
    /// # Errors
    /// `Registry`.
    pub fn insert(&mut self, into: &str, rows: &[Vec<Value<'_>>], or: &str) -> Result<()> {
        let Some(first) = rows.first() else { return Ok(()) };
        let places = (1..=first.len()).map(|number| format!("?{number}")).collect::<Vec<_>>().join(", ");
        match &mut self.0 {
            // One at a time costs SQLite nothing, and a server a round trip each.
            Engine::Sqlite(connection) => {
                let sql = format!("INSERT INTO {into} VALUES ({places}) {or}");
                rows.iter().try_for_each(|row| sqlite::execute(connection, &sql, row).map(drop))
            }
            Engine::Postgres(connection) => {
                let sql = format!("INSERT INTO {into} SELECT * FROM unnest({places}) {or}");
                rows.chunks(MOST_ROWS).try_for_each(|rows| connection.execute_columns(&sql, rows))
            }
        }
    }

    /// Runs statements without parameters, `;` between them.
    ///
    /// # Errors
    /// `Registry`.
    pub fn batch(&mut self, sql: &str) -> Result<()> {
        match &mut self.0 {
            Engine::Sqlite(connection) => Ok(connection.execute_batch(sql)?),
            Engine::Postgres(connection) => connection.batch(sql),
        }
    }

    /// As [`batch`](Self::batch), without a limit of time: for changes of the schema.
    ///
    /// # Errors
    /// `Registry`.
    pub(super) fn patient_batch(&mut self, sql: &str) -> Result<()> {
        match &mut self.0 {
            Engine::Sqlite(connection) => Ok(connection.execute_batch(sql)?),
            Engine::Postgres(connection) => connection.patient_batch(sql),
        }
    }

    /// Makes other jobs with the same name wait until this one's transaction has ended. SQLite has one writer anyway.
    ///
    /// # Errors
    /// `Registry`.
    pub fn lock(&mut self, name: &str) -> Result<()> {
        match &mut self.0 {
            Engine::Sqlite(_) => Ok(()),
            Engine::Postgres(connection) => connection.lock(name),
        }
    }

    /// Whether it is PostgreSQL; for the few things that only one of the two has.
    pub fn is_postgres(&self) -> bool {
        matches!(self.0, Engine::Postgres(_))
    }
}
