//! How a remote call is made survivable: circuit breaker, pace, then the request, then (only where it is safe) again.
//!
//! The only place that retries; the HTTP client and the platforms never do. One [`Resilience`] per platform and
//! account, so that one platform's bad day stays its own.

mod breaker;
mod circuit_breaker;
mod pace;
mod rate_limiter;
mod retry;
mod shared;

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};

use breaker::{Breaker, BreakerPermit};
use rate_limiter::RateLimiter;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AccountId, Operation, PlatformId};

pub use breaker::BreakerHealth;
pub use circuit_breaker::{
    BreakerSettings, BreakerState, CircuitBreaker, Mode, Outcome, Permit as CircuitPermit, Refusal, Report, Transition,
    Window,
};
pub use pace::{Pace, Rate, Rates};
pub use retry::RetryPolicy;
pub use shared::SharedState;

/// What may be asked of one account.
#[derive(Clone, Debug)]
pub struct Limits {
    pub rates: Rates,
    /// Requests in flight, of this process.
    pub concurrency: usize,
}

/// Leave to send one request; dropping it gives its place to the next.
#[derive(Debug)]
pub struct Permit {
    breaker: BreakerPermit,
    _room: OwnedSemaphorePermit,
}

impl Permit {
    /// Runs the request and tells the circuit breaker how it ended.
    pub async fn run<T>(self, request: impl Future<Output = Result<T>>) -> Result<T> {
        self.breaker.run(request).await
    }
}

#[derive(Debug)]
pub struct Resilience {
    /// Names the platform in errors.
    label: String,
    retry: RetryPolicy,
    limiter: RateLimiter,
    /// One for each operation: bytes that cannot go up must not stop deletes.
    breakers: [Arc<Breaker>; Operation::ALL.len()],
    in_flight: Arc<Semaphore>,
}

impl Resilience {
    pub fn new(
        platform: &PlatformId,
        account: &AccountId,
        retry: RetryPolicy,
        limits: &Limits,
        breaker: BreakerSettings,
        shared: &SharedState,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let breaker_of =
            |operation| Arc::new(Breaker::new(platform, account, operation, breaker, clock.clone(), shared.clone()));
        Resilience {
            breakers: Operation::ALL.map(breaker_of),
            label: platform.to_string(),
            retry,
            limiter: RateLimiter::new(platform, account, limits.rates, shared.clone(), clock.clone()),
            in_flight: Arc::new(Semaphore::new(limits.concurrency.max(1))),
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
                Ok(value) => return Ok(value),
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
    pub async fn admit(&self, operation: Operation, deadline: Instant) -> Result<Permit> {
        if Instant::now() >= deadline {
            return Err(self.still_queued());
        }
        let breaker = &self.breakers[operation as usize];
        breaker.check().await?;
        let in_flight = self.in_flight.clone();
        let room = match timeout_at(deadline, in_flight.acquire_owned()).await {
            Ok(Ok(room)) => room,
            _ => return Err(self.still_queued()),
        };
        self.pace(operation, deadline).await?;
        Ok(Permit { breaker: breaker.permit().await?, _room: room })
    }

    /// What each operation's circuit breaker is doing.
    pub async fn health(&self) -> Vec<BreakerHealth> {
        join_all(self.breakers.iter().map(|breaker| breaker.health())).await
    }

    /// Sets what an operator wants of one operation's breaker, or of all.
    pub async fn set_mode(&self, operation: Option<Operation>, mode: Mode) {
        join_all(self.breakers_of(operation).map(|breaker| breaker.set_mode(mode))).await;
    }

    /// Closes one operation's breaker, or all, and forgets what they counted.
    pub async fn reset(&self, operation: Option<Operation>) {
        join_all(self.breakers_of(operation).map(|breaker| breaker.reset())).await;
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
    pub async fn pace(&self, operation: Operation, deadline: Instant) -> Result<()> {
        let patience = deadline.saturating_duration_since(Instant::now());
        let wait = self.limiter.reserve(operation, patience).await.map_err(|wait| self.too_fast(wait))?;
        if !wait.is_zero() {
            tracing::info!(platform = %self.label, ?wait, "waiting for the account's pace");
            sleep(wait).await;
        }
        Ok(())
    }

    /// A platform that says "slow down" says it to all requests of the account, of every process. (Our own refusals
    /// have no context.)
    async fn heed(&self, error: &Error) {
        if let (ErrorKind::RateLimited, Some(wait), Some(_)) = (error.kind(), error.retry_after(), error.context()) {
            self.limiter.pause(wait).await;
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
        .with_retry(crate::error::Retry::Never, Some(wait))
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
        match self.resilience.retry.pause(number, &error).filter(|_| again) {
            Some(pause) if Instant::now() + pause < self.deadline => {
                tracing::info!(platform = %self.resilience.label, attempt = number, ?pause, error = %error.message(), "retrying");
                sleep(pause).await;
                Ok(())
            }
            _ => Err(error.with_attempts(std::mem::take(&mut self.failed))),
        }
    }
}
