//! Where a database is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::Secret;

/// An SQLite file, or a PostgreSQL server.
#[derive(Clone, Debug)]
pub enum Location {
    /// `:memory:` is kept in memory.
    Sqlite(PathBuf),
    Postgres(PostgresOptions),
}

/// How to reach a PostgreSQL database.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database?sslmode=require`; a pooler in transaction mode will do.
    pub url: Secret,
    /// PEM file of the authority that signed the server's certificate, in place of the machine's.
    pub ca_bundle: Option<PathBuf>,
    /// Connections of this process.
    pub connections: usize,
    /// For a connection to be free, and for each answer.
    pub timeout: Duration,
}

impl Location {
    /// A file, or `:memory:`.
    pub fn file(path: impl AsRef<Path>) -> Self {
        Location::Sqlite(path.as_ref().to_owned())
    }
}
