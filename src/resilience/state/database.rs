//! State of all processes on one registry: on an SQLite file those of one host, on PostgreSQL those of many.

use std::sync::Arc;

use async_trait::async_trait;

use super::{StateBackend, Step};
use crate::clock::{Clock, Timestamp};
use crate::error::Result;
use crate::store::{Session, Store, bind};

#[derive(Debug)]
pub struct Database {
    store: Store,
    clock: Arc<dyn Clock>,
}

impl Database {
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Database { store, clock }
    }
}

#[async_trait]
impl StateBackend for Database {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn read(&self, key: &str) -> Result<Option<String>> {
        let key = key.to_owned();
        self.store.read(move |session| load(session, &key)).await
    }

    async fn update(&self, key: &str, mut step: Step) -> Result<()> {
        let (key, clock) = (key.to_owned(), self.clock.clone());
        self.store.count(move |session| apply(session, &key, clock.now(), &mut step)).await
    }

    fn update_soon(self: Arc<Self>, key: &str, mut step: Step) {
        let (key, clock) = (key.to_owned(), self.clock.clone());
        self.store.count_soon(move |session| apply(session, &key, clock.now(), &mut step));
    }
}

fn apply(session: &mut Session<'_>, key: &str, now: Timestamp, step: &mut Step) -> Result<()> {
    // What is not there yet cannot be locked by its row.
    session.lock(key)?;
    let Some(kept) = step(load(session, key)?.as_deref(), now) else { return Ok(()) };
    session.execute(
        "INSERT INTO resilience_state (key, state, updated_at) VALUES (?1, ?2, ?3)
         ON CONFLICT (key) DO UPDATE SET state = excluded.state, updated_at = excluded.updated_at",
        bind![key, &kept, now],
    )?;
    Ok(())
}

fn load(session: &mut Session<'_>, key: &str) -> Result<Option<String>> {
    session.row("SELECT state FROM resilience_state WHERE key = ?1", bind![key])?.map(|row| row.get(0)).transpose()
}
