//! Breakers as all processes on one registry file see them.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::circuit_breaker::CircuitBreaker;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AccountId, Operation, PlatformId};
use crate::store::Store;

/// Which breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BreakerKey {
    pub(super) platform: PlatformId,
    pub(super) account: AccountId,
    pub(super) operation: Operation,
}

/// The breakers of one database.
#[derive(Clone, Debug)]
pub struct SharedBreakers(Store);

impl SharedBreakers {
    pub fn new(store: Store) -> Self {
        SharedBreakers(store)
    }

    pub(super) async fn read(&self, key: &BreakerKey) -> Result<Option<CircuitBreaker>> {
        let key = key.clone();
        self.0.read(move |connection| load(connection, &key)).await
    }

    /// Changes a breaker, alone; gives what `step` gave and the breaker as it is then.
    pub(super) async fn update<T: Send + 'static>(
        &self,
        key: &BreakerKey,
        now: Timestamp,
        step: impl FnOnce(&mut CircuitBreaker) -> T + Send + 'static,
    ) -> Result<(T, CircuitBreaker)> {
        let key = key.clone();
        self.0.write(move |connection| apply(connection, &key, now, step)).await
    }

    /// As [`update`](Self::update), without waiting: for the last words of a cancelled call.
    pub(super) fn update_soon(
        &self,
        key: &BreakerKey,
        now: Timestamp,
        step: impl FnOnce(&mut CircuitBreaker) + Send + 'static,
    ) {
        let key = key.clone();
        self.0.write_soon(move |connection| apply(connection, &key, now, step).map(drop));
    }
}

fn apply<T>(
    connection: &Connection,
    key: &BreakerKey,
    now: Timestamp,
    step: impl FnOnce(&mut CircuitBreaker) -> T,
) -> Result<(T, CircuitBreaker)> {
    let mut breaker = load(connection, key)?.unwrap_or_default();
    let before = breaker.clone();
    let answer = step(&mut breaker);
    if breaker != before {
        save(connection, key, &breaker, now)?;
    }
    Ok((answer, breaker))
}

fn load(connection: &Connection, key: &BreakerKey) -> Result<Option<CircuitBreaker>> {
    let state: Option<String> = connection
        .prepare_cached("SELECT state FROM circuit_breakers WHERE platform = ?1 AND account = ?2 AND operation = ?3")?
        .query_row(params![key.platform.as_str(), key.account.as_str(), key.operation.as_str()], |row| row.get(0))
        .optional()?;
    // One that a newer version wrote begins anew, closed.
    Ok(state.and_then(|state| serde_json::from_str(&state).ok()))
}

fn save(connection: &Connection, key: &BreakerKey, breaker: &CircuitBreaker, now: Timestamp) -> Result<()> {
    let state = serde_json::to_string(breaker)
        .map_err(|error| Error::new(ErrorKind::Registry, "a circuit breaker cannot be written").with_source(error))?;
    connection
        .prepare_cached(
            "INSERT INTO circuit_breakers (platform, account, operation, state, updated_at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (platform, account, operation) DO UPDATE SET state = excluded.state, updated_at = excluded.updated_at",
        )?
        .execute(params![key.platform.as_str(), key.account.as_str(), key.operation.as_str(), state, now.0])?;
    Ok(())
}
