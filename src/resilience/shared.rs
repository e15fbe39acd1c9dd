//! What breakers and limits know, as all processes on one registry file see it.

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;

/// The state kept in one database, each piece under a key of its own.
#[derive(Clone, Debug)]
pub struct SharedState(Store);

/// A piece of state: plain data, with a beginning.
pub(super) trait State: Clone + Default + PartialEq + Serialize + DeserializeOwned + Send + 'static {}

impl<S: Clone + Default + PartialEq + Serialize + DeserializeOwned + Send + 'static> State for S {}

impl SharedState {
    pub fn new(store: Store) -> Self {
        SharedState(store)
    }

    pub(super) async fn read<S: State>(&self, key: &str) -> Result<S> {
        let key = key.to_owned();
        self.0.read(move |connection| load(connection, &key)).await
    }

    /// Changes a piece, alone; gives what `step` gave and the piece as it is then.
    pub(super) async fn update<S: State, T: Send + 'static>(
        &self,
        key: &str,
        now: Timestamp,
        step: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<(T, S)> {
        let key = key.to_owned();
        self.0.write(move |connection| apply(connection, &key, now, step)).await
    }

    /// As [`update`](Self::update), without waiting: for the last words of a cancelled call.
    pub(super) fn update_soon<S: State>(&self, key: &str, now: Timestamp, step: impl FnOnce(&mut S) + Send + 'static) {
        let key = key.to_owned();
        self.0.write_soon(move |connection| apply(connection, &key, now, step).map(drop));
    }
}

fn apply<S: State, T>(
    connection: &Connection,
    key: &str,
    now: Timestamp,
    step: impl FnOnce(&mut S) -> T,
) -> Result<(T, S)> {
    let before: S = load(connection, key)?;
    let mut state = before.clone();
    let answer = step(&mut state);
    if state != before {
        save(connection, key, &state, now)?;
    }
    Ok((answer, state))
}

fn load<S: State>(connection: &Connection, key: &str) -> Result<S> {
    let state: Option<String> = connection
        .prepare_cached("SELECT state FROM resilience_state WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?;
    // What a newer version wrote and this one cannot read begins anew.
    Ok(state.and_then(|state| serde_json::from_str(&state).ok()).unwrap_or_default())
}

fn save<S: State>(connection: &Connection, key: &str, state: &S, now: Timestamp) -> Result<()> {
    let state = serde_json::to_string(state)
        .map_err(|error| Error::new(ErrorKind::Registry, format!("{key} cannot be written")).with_source(error))?;
    connection
        .prepare_cached(
            "INSERT INTO resilience_state (key, state, updated_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (key) DO UPDATE SET state = excluded.state, updated_at = excluded.updated_at",
        )?
        .execute(params![key, state, now.0])?;
    Ok(())
}
