//! One account's rate limits at work. Their truth is in the database: one write for each turn where there is a rate;
//! where there is none, a look now and then for a pause that the platform asked any process for.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::pace::{Pace, Rates};
use super::shared::SharedState;
use crate::clock::{Clock, Timestamp};
use crate::model::{AccountId, Operation, PlatformId};

/// How old this process' picture may be, where there is nothing to reserve.
const FRESH: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct RateLimiter {
    key: String,
    rates: Rates,
    clock: Arc<dyn Clock>,
    shared: SharedState,
    picture: Mutex<Picture>,
}

#[derive(Debug, Default)]
struct Picture {
    pace: Pace,
    taken_at: Option<Instant>,
}

impl RateLimiter {
    pub(super) fn new(
        platform: &PlatformId,
        account: &AccountId,
        rates: Rates,
        shared: SharedState,
        clock: Arc<dyn Clock>,
    ) -> Self {
        RateLimiter { key: format!("pace/{platform}/{account}"), rates, clock, shared, picture: Mutex::default() }
    }

    /// How long until this request's turn; or how long until one could come, when that is longer than `patience`.
    pub(super) async fn reserve(&self, operation: Operation, patience: Duration) -> Result<Duration, Duration> {
        let (rates, now) = (self.rates, self.clock.now());
        let latest = now.plus(patience);
        let turn = if rates == Rates::default() {
            self.refresh().await;
            self.picture().pace.clone().reserve(&rates, operation, now, latest)
        } else {
            self.update(now, move |pace| pace.reserve(&rates, operation, now, latest)).await
        };
        turn.map(|turn| turn.since(now))
    }

    /// Holds every process up for `wait`.
    pub(super) async fn pause(&self, wait: Duration) {
        let now = self.clock.now();
        self.update(now, move |pace| pace.pause_until(now.plus(wait))).await;
    }

    /// Changes the shared log; where that fails, this process' own, so that no call fails because of it.
    async fn update<T: Send + 'static>(
        &self,
        now: Timestamp,
        step: impl FnOnce(&mut Pace) -> T + Clone + Send + 'static,
    ) -> T {
        match self.shared.update(&self.key, now, step.clone()).await {
            Ok((answer, pace)) => {
                *self.picture() = Picture { pace, taken_at: Some(Instant::now()) };
                answer
            }
            Err(error) => {
                tracing::debug!(%error, "a rate limit could not be shared");
                step(&mut self.picture().pace)
            }
        }
    }

    async fn refresh(&self) {
        if self.picture().taken_at.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        match self.shared.read(&self.key).await {
            Ok(pace) => *self.picture() = Picture { pace, taken_at: Some(Instant::now()) },
            Err(error) => tracing::debug!(%error, "a rate limit could not be read"),
        }
    }

    fn picture(&self) -> MutexGuard<'_, Picture> {
        self.picture.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
