//! How a remote call is made survivable: circuit breaker, pace, then the request, then (only where it is safe) again.
//!
//! The only place that retries; the HTTP client and the platforms never do. One [`Resilience`] per platform and
//! account, so that one platform's bad day stays its own.

mod breaker;
mod circuit_breaker;
mod pace;
mod rate_limiter;
mod retry;
mod retry_budget;
mod rooms;
mod slowness;
mod state;

use std::sync::Arc;

use futures_util::future::{join_all, try_join_all};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};

use retry_budget::RetryBudget;
use rooms::{Room, Rooms};

use crate::error::{Error, ErrorKind, Result, Retry};
use crate::metrics::{self, metrics, observe};
use crate::model::{AccountId, Operation, PlatformId};

pub use breaker::{Breaker, BreakerHealth, BreakerPermit};
pub use circuit_breaker::{
    BreakerSettings, BreakerState, CircuitBreaker, Mode, Outcome, Permit as CircuitPermit, Refusal, Report, Transition,
    Window,
};
pub use pace::{Ask, Grant, Lane, Pace, PaceAnswer, PaceHealth, PaceStep, Rate, Rates};
pub use rate_limiter::RateLimiter;
pub use retry::RetryPolicy;
pub use retry_budget::{BudgetHealth, Counts, Spending};
pub use slowness::note_wait;
pub use state::{Database, Memory, Redis, RedisOptions, SharedState, StateBackend, Step};

/// How calls of one account are made survivable.
#[derive(Clone, Copy, Debug)]
pub struct ResilienceOptions {
    pub retry: RetryPolicy,
    pub rates: Rates,
    /// Requests in flight, of this process.
    pub concurrency: usize,
    /// Of all processes together.
    pub account_concurrency: Option<u32>,
    pub breaker: BreakerSettings,
}

/// How one account of a platform has been.
#[derive(Clone, Debug, serde::Serialize)]
pub struct AccountHealth {
    /// One for each operation.
    pub breakers: Vec<OperationHealth>,
    pub pace: PaceHealth,
    pub budget: BudgetHealth,
    /// Requests of this process that are under way.
    pub in_flight: usize,
}

/// How one operation has been.
#[derive(Clone, Debug, serde::Serialize)]
pub struct OperationHealth {
    pub operation: &'static str,
    #[serde(flatten)]
    pub breaker: BreakerHealth,
}

/// Leave to send one request; dropping it gives its place to the next.
#[derive(Debug)]
pub struct Permit {
    breaker: BreakerPermit,
    requests: metrics::Requests,
    _places: [Option<OwnedSemaphorePermit>; 2],
    _room: Option<Room>,
}

impl Permit {
    /// Runs the request and tells the circuit breaker how it ended.
    pub async fn run<T>(self, request: impl Future<Output = Result<T>>) -> Result<T> {
        let begun = Instant::now();
        let answer = self.breaker.run(request).await;
        let outcome = answer.as_ref().err().map_or("success", |error| error.kind().name());
        observe(&metrics().request_duration.get_or_create(&self.requests), begun.elapsed());
        metrics().requests.get_or_create(&self.requests.ended(outcome)).inc();
        answer
    }
}

#[derive(Debug)]
pub struct Resilience {
    /// Names the platform in errors.
    label: String,
    account: metrics::Account,
    retry: RetryPolicy,
    limiter: Arc<RateLimiter>,
    budget: RetryBudget,
    /// One for each operation: bytes that cannot go up must not stop deletes.
    breakers: [Arc<Breaker>; Operation::ALL.len()],
    in_flight: Arc<Semaphore>,
    /// What bulk work may have of it.
    bulk_in_flight: Arc<Semaphore>,
    rooms: Rooms,
    concurrency: usize,
}

impl Resilience {
    pub fn new(platform: &PlatformId, account: &AccountId, options: &ResilienceOptions, shared: &SharedState) -> Self {
        let breaker_of = |operation| {
            let name = format!("{platform} {account} {operation}");
            Arc::new(Breaker::new(name, options.breaker, shared.clone()))
        };
        let concurrency = options.concurrency.max(1);
        let alias = metrics::Account { platform: platform.to_string(), account_alias: account.to_string() };
        alias.begin();
        Resilience {
            breakers: Operation::ALL.map(breaker_of),
            label: platform.to_string(),
            account: alias,
            retry: options.retry,
            limiter: RateLimiter::new(format!("pace/{platform}/{account}"), options.rates, shared.clone()),
            budget: RetryBudget::new(format!("budget/{platform}/{account}"), options.retry.budget, shared.clone()),
            in_flight: Arc::new(Semaphore::new(concurrency)),
            bulk_in_flight: Arc::new(Semaphore::new((concurrency * 4 / 5).max(1))),
            rooms: Rooms::new(format!("rooms/{platform}/{account}"), options.account_concurrency, shared.clone()),
            concurrency,
        }
    }

    /// Sends until it works, until repeating cannot help, or until the deadline.
    ///
    /// # Errors
    /// The last attempt's error, with one line per attempt; a local `RateLimited` when the account's pace leaves no
    /// room before the deadline.
    pub async fn call<T, Sending>(
        &self,
        operation: Operation,
        deadline: Instant,
        send: impl Fn() -> Sending,
    ) -> Result<T>
    where
        Sending: Future<Output = Result<T>>,
    {
        let mut attempts = self.attempts(deadline);
        loop {
            let permit = attempts.admitted(self.admit(operation, deadline).await)?;
            let error = match permit.run(send()).await {
                Ok(value) => {
                    self.budget.succeeded();
                    return Ok(value);
                }
                Err(error) => error,
            };
            let again = error.is_retryable(operation);
            attempts.pause(error, again).await?;
        }
    }

    /// For callers whose attempts are more than one request; they [`admit`](Self::admit) each one themselves.
    pub fn attempts(&self, deadline: Instant) -> Attempts<'_> {
        Attempts { resilience: self, deadline, failed: Vec::new() }
    }

    /// Waits for this request's turn.
    ///
    /// # Errors
    /// `CircuitOpen` at once while the platform is left in peace; `RateLimited` at once when no turn can come before
    /// the deadline; `TimedOut` when too many requests are in flight until then.
    pub async fn admit(&self, ask: impl Into<Ask>, deadline: Instant) -> Result<Permit> {
        let ask = ask.into();
        if Instant::now() >= deadline {
            return Err(self.still_queued());
        }
        let _waiting = self.account.waiting();
        let breaker = &self.breakers[ask.operation as usize];
        breaker.check().await?;
        let places = match timeout_at(deadline, self.places(ask.lane)).await {
            Ok(Ok(places)) => places,
            _ => return Err(self.still_queued()),
        };
        let room = self.rooms.enter(deadline).await.map_err(|_| self.still_queued())?;
        self.pace(ask, deadline).await?;
        let requests = self.account.requests(ask.operation.as_str());
        let permit = Permit { breaker: breaker.permit().await?, requests, _places: places, _room: room };
        self.budget.count();
        metrics().retry_budget.get_or_create(&self.account).set(i64::from(self.budget.health().tokens));
        Ok(permit)
    }

    /// This process' own places, first come first served; bulk work queues among itself, and never takes all.
    async fn places(&self, lane: Lane) -> Result<[Option<OwnedSemaphorePermit>; 2], AcquireError> {
        let of_bulk = match lane {
            Lane::Bulk => Some(self.bulk_in_flight.clone().acquire_owned().await?),
            Lane::Interactive => None,
        };
        Ok([of_bulk, Some(self.in_flight.clone().acquire_owned().await?)])
    }

    /// What breakers, limits and the retry budget are doing. Asks no platform.
    pub async fn health(&self) -> AccountHealth {
        let breakers = join_all(self.breakers.iter().map(|breaker| breaker.health())).await;
        AccountHealth {
            breakers: Operation::ALL
                .into_iter()
                .zip(breakers)
                .map(|(operation, breaker)| OperationHealth { operation: operation.as_str(), breaker })
                .collect(),
            pace: self.limiter.health().await,
            budget: self.budget.health(),
            in_flight: self.concurrency - self.in_flight.available_permits(),
        }
    }

    /// Why a request of this kind would be refused now, if it would.
    pub async fn refusal(&self, operation: Operation) -> Option<Error> {
        self.breakers[operation as usize].check().await.err()
    }

    /// Sets what an operator wants of one operation's breaker, or of all.
    ///
    /// # Errors
    /// `Registry` when it could not be shared.
    pub async fn set_mode(&self, operation: Option<Operation>, mode: Mode) -> Result<()> {
        try_join_all(self.breakers_of(operation).map(|breaker| breaker.set_mode(mode))).await.map(drop)
    }

    /// Closes one operation's breaker, or all, and forgets what they counted.
    ///
    /// # Errors
    /// `Registry` when it could not be shared.
    pub async fn reset(&self, operation: Option<Operation>) -> Result<()> {
        try_join_all(self.breakers_of(operation).map(|breaker| breaker.reset())).await.map(drop)
    }

    fn breakers_of(&self, operation: Option<Operation>) -> impl Iterator<Item = &Arc<Breaker>> {
        Operation::ALL
            .iter()
            .zip(&self.breakers)
            .filter(move |(each, _)| operation.is_none_or(|o| o == **each))
            .map(|(_, breaker)| breaker)
    }

    /// Waits for the turn of a further request of an operation that was admitted already.
    ///
    /// # Errors
    /// `RateLimited` at once when no turn can come before the deadline.
    pub async fn pace(&self, ask: impl Into<Ask>, deadline: Instant) -> Result<()> {
        let patience = deadline.saturating_duration_since(Instant::now());
        let waited = self.limiter.turn(ask.into(), patience).await.map_err(|wait| self.too_fast(wait))?;
        observe(&metrics().limiter_wait.get_or_create(&self.account), waited);
        if !waited.is_zero() {
            tracing::info!(platform = %self.label, ?waited, "waited for the account's pace");
        }
        Ok(())
    }

    /// A platform that says "slow down" says it to all requests of the account, of every process. (Our own refusals
    /// have no context.)
    async fn heed(&self, error: &Error) {
        if error.kind() == ErrorKind::RateLimited && error.context().is_some() {
            self.limiter.throttled(error.retry_after()).await;
        }
    }

    fn too_fast(&self, wait: std::time::Duration) -> Error {
        Error::new(
            ErrorKind::RateLimited,
            format!(
                "{} has no turn left before the deadline: the next comes in {:.1} s",
                self.label,
                wait.as_secs_f64()
            ),
        )
        .with_hint("allow more time, or set the account's real `tier` or `requests_per_minute`")
        .with_retry(Retry::Never, Some(wait))
    }

    fn still_queued(&self) -> Error {
        Error::new(ErrorKind::TimedOut, format!("{} had no room for this request before the deadline", self.label))
            .with_hint("allow more time, or raise the platform's `concurrency`")
    }
}

/// The failed attempts of one call.
#[derive(Debug)]
pub struct Attempts<'r> {
    resilience: &'r Resilience,
    deadline: Instant,
    failed: Vec<String>,
}

impl Attempts<'_> {
    /// A refusal to go on after failures carries their history.
    pub fn admitted<T>(&mut self, admission: Result<T>) -> Result<T> {
        admission.map_err(|refusal| refusal.with_attempts(std::mem::take(&mut self.failed)))
    }

    /// Pauses before the next attempt: full jitter, or what the platform asked for.
    ///
    /// # Errors
    /// `error` itself, with the history of the call, when there is no next attempt.
    pub async fn pause(&mut self, error: Error, again: bool) -> Result<()> {
        self.resilience.heed(&error).await;
        self.failed.push(error.message().to_owned());
        let number = u32::try_from(self.failed.len()).unwrap_or(u32::MAX);
        let pause = self.resilience.retry.pause(number, &error).filter(|_| again);
        match pause.filter(|pause| Instant::now() + *pause < self.deadline) {
            // An upload that may have arrived is looked for, whatever that costs; a new credential is no load to speak of.
            Some(_)
                if error.retry() != Retry::Afresh
                    && !self.resilience.budget.allows(&error)
                    && !error.is_ambiguous() =>
            {
                metrics().retries_refused.get_or_create(&self.resilience.account).inc();
                tracing::warn!(platform = %self.resilience.label, "not repeated: the retry budget is spent");
                Err(error.with_attempts(std::mem::take(&mut self.failed)))
            }
            Some(pause) => {
                metrics().retries.get_or_create(&self.resilience.account).inc();
                tracing::info!(platform = %self.resilience.label, attempt = number, ?pause, error = %error.message(), "retrying");
                sleep(pause).await;
                Ok(())
            }
            None => Err(error.with_attempts(std::mem::take(&mut self.failed))),
        }
    }
}
