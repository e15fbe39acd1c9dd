//! State of all processes on one registry file.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{StateBackend, Step};
use crate::clock::{Clock, Timestamp};
use crate::error::Result;
use crate::store::Store;

#[derive(Debug)]
pub struct Sqlite {
    store: Store,
    clock: Arc<dyn Clock>,
}

impl Sqlite {
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Sqlite { store, clock }
    }
}

#[async_trait]
impl StateBackend for Sqlite {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn read(&self, key: &str) -> Result<Option<String>> {
        let key = key.to_owned();
        self.store.read(move |connection| load(connection, &key)).await
    }

    async fn update(&self, key: &str, mut step: Step) -> Result<()> {
        let (key, clock) = (key.to_owned(), self.clock.clone());
        self.store.write(move |connection| apply(connection, &key, clock.now(), &mut step)).await
    }

    fn update_soon(self: Arc<Self>, key: &str, mut step: Step) {
        let (key, clock) = (key.to_owned(), self.clock.clone());
        self.store.write_soon(move |connection| apply(connection, &key, clock.now(), &mut step));
    }
}

fn apply(connection: &Connection, key: &str, now: Timestamp, step: &mut Step) -> Result<()> {
    let Some(kept) = step(load(connection, key)?.as_deref(), now) else { return Ok(()) };
    connection
        .prepare_cached(
            "INSERT INTO resilience_state (key, state, updated_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (key) DO UPDATE SET state = excluded.state, updated_at = excluded.updated_at",
        )?
        .execute(params![key, kept, now.0])?;
    Ok(())
}

fn load(connection: &Connection, key: &str) -> Result<Option<String>> {
    Ok(connection
        .prepare_cached("SELECT state FROM resilience_state WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?)
}
