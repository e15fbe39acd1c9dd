//! One circuit breaker at work: of one platform, account and operation.
//!
//! Its truth is in the database. Each process looks at it again when its own picture is older than [`FRESH`], sends
//! failures at once and successes once a second: a healthy platform costs next to nothing.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rand::Rng as _;
use tokio::time::Instant;

use super::circuit_breaker::{
    self, BreakerSettings, BreakerState, CircuitBreaker, Mode, Outcome, Refusal, Report, Transition,
};
use super::shared::SharedState;
use crate::clock::{Clock, Timestamp};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::model::{AccountId, Operation, PlatformId};

/// How old a process' picture of a shared breaker may be.
const FRESH: Duration = Duration::from_millis(100);

/// How long successes may wait to be told.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// What a breaker is doing, and why.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct BreakerHealth {
    pub operation: &'static str,
    pub state: BreakerState,
    /// Results in the window, while it is closed.
    pub calls: u32,
    pub failures: u32,
    pub open_until: Option<Timestamp>,
    /// The latest failure that counted, as this process saw it.
    pub last_error: Option<String>,
}

#[derive(Debug)]
pub(super) struct Breaker {
    platform: PlatformId,
    operation: Operation,
    key: String,
    settings: BreakerSettings,
    clock: Arc<dyn Clock>,
    shared: SharedState,
    picture: Mutex<Picture>,
}

/// What this process knows of the breaker.
#[derive(Debug)]
struct Picture {
    circuit: CircuitBreaker,
    taken_at: Option<Instant>,
    /// Successes of the current generation that were not told yet.
    untold: u32,
    told_at: Instant,
    last_error: Option<String>,
}

/// Leave to send one request. How it ended must be told; a permit that is dropped says nothing about the platform.
#[derive(Debug)]
pub(super) struct BreakerPermit {
    breaker: Arc<Breaker>,
    permit: circuit_breaker::Permit,
    is_settled: bool,
}

impl Breaker {
    pub(super) fn new(
        platform: &PlatformId,
        account: &AccountId,
        operation: Operation,
        settings: BreakerSettings,
        clock: Arc<dyn Clock>,
        shared: SharedState,
    ) -> Self {
        let picture = Picture {
            circuit: CircuitBreaker::default(),
            taken_at: None,
            untold: 0,
            told_at: Instant::now(),
            last_error: None,
        };
        Breaker {
            key: format!("breaker/{platform}/{account}/{operation}"),
            platform: platform.clone(),
            operation,
            settings,
            clock,
            shared,
            picture: Mutex::new(picture),
        }
    }

    /// Whether asking for a permit now would be in vain: before waiting for anything else.
    pub(super) async fn check(&self) -> Result<()> {
        self.refresh().await;
        let picture = self.picture();
        match picture.circuit.refusal(&self.settings, self.clock.now()) {
            Some(refusal) => Err(self.open_error(refusal, picture.last_error.as_deref())),
            None => Ok(()),
        }
    }

    /// # Errors
    /// `CircuitOpen`.
    pub(super) async fn permit(self: &Arc<Self>) -> Result<BreakerPermit> {
        let (settings, now, token) = (self.settings, self.clock.now(), rand::rng().random());
        let is_passable = matches!(
            self.picture().circuit.state(),
            BreakerState::Closed | BreakerState::Disabled | BreakerState::MetricsOnly
        );
        let granted = match is_passable {
            true => self.picture().circuit.acquire(&settings, now, token),
            false => self.update(now, move |circuit| circuit.acquire(&settings, now, token)).await,
        };
        self.tell(granted.1, None);
        match granted.0 {
            Ok(permit) => Ok(BreakerPermit { breaker: self.clone(), permit, is_settled: false }),
            Err(refusal) => Err(self.open_error(refusal, self.picture().last_error.as_deref())),
        }
    }

    pub(super) async fn set_mode(&self, mode: Mode) {
        let now = self.clock.now();
        let change = self.update(now, move |circuit| circuit.set_mode(now, mode)).await;
        self.tell(change, None);
    }

    pub(super) async fn reset(&self) {
        let now = self.clock.now();
        let change = self.update(now, move |circuit| circuit.reset(now)).await;
        self.tell(change, None);
    }

    pub(super) async fn health(&self) -> BreakerHealth {
        self.refresh().await;
        let picture = self.picture();
        let tally = picture.circuit.tally();
        BreakerHealth {
            operation: self.operation.as_str(),
            state: picture.circuit.state(),
            calls: tally.calls,
            failures: tally.failures,
            open_until: picture.circuit.open_until(),
            last_error: picture.last_error.clone(),
        }
    }

    async fn report(&self, permit: circuit_breaker::Permit, outcome: Outcome, error: Option<&Error>) {
        let Some(successes) = self.to_be_told(permit, outcome, error) else { return };
        let (settings, now) = (self.settings, self.clock.now());
        let report = self.update(now, move |circuit| {
            for _ in 0..successes {
                circuit.report(&settings, now, permit.unlent(), Outcome::Success);
            }
            circuit.report(&settings, now, permit, outcome)
        });
        if let Report::Changed(change) = report.await {
            let why = self.picture().last_error.clone();
            self.tell(Some(change), why.as_deref());
        }
    }

    /// Whether a result is to be told now, and how many earlier successes with it.
    fn to_be_told(&self, permit: circuit_breaker::Permit, outcome: Outcome, error: Option<&Error>) -> Option<u32> {
        let mut picture = self.picture();
        if let Some(error) = error.filter(|_| outcome == Outcome::Failure) {
            picture.last_error = Some(error.message().to_owned());
        }
        match outcome {
            Outcome::Ignored if !permit.is_probe() => return None,
            Outcome::Success if !permit.is_probe() && picture.told_at.elapsed() < TOLD_WITHIN => {
                picture.untold += 1;
                return None;
            }
            _ => {}
        }
        picture.told_at = Instant::now();
        Some(std::mem::take(&mut picture.untold))
    }

    /// Changes the shared breaker; where that fails, this process' own picture, so that no call fails because of it.
    async fn update<T: Send + 'static>(
        &self,
        now: Timestamp,
        step: impl FnOnce(&mut CircuitBreaker) -> T + Clone + Send + 'static,
    ) -> T {
        match self.shared.update(&self.key, now, step.clone()).await {
            Ok((answer, circuit)) => {
                self.picture().see(circuit);
                answer
            }
            Err(error) => {
                tracing::debug!(%error, "a circuit breaker could not be shared");
                step(&mut self.picture().circuit)
            }
        }
    }

    async fn refresh(&self) {
        if self.picture().taken_at.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        match self.shared.read(&self.key).await {
            Ok(circuit) => self.picture().see(circuit),
            Err(error) => tracing::debug!(%error, "a circuit breaker could not be read"),
        }
    }

    fn tell(&self, change: Option<Transition>, why: Option<&str>) {
        let Some(Transition { from, to }) = change else { return };
        let (platform, operation) = (&self.platform, self.operation);
        match to {
            BreakerState::Open => tracing::warn!(%platform, %operation, %from, why, "circuit breaker opened"),
            _ => tracing::info!(%platform, %operation, %from, %to, "circuit breaker changed"),
        }
    }

    fn open_error(&self, refusal: Refusal, last_error: Option<&str>) -> Error {
        let (platform, operation) = (&self.platform, self.operation);
        let why = last_error.map_or(String::new(), |last| format!("; its latest failure: {last}"));
        let hint = match refusal.retry_in {
            Some(wait) => format!("try again in {:.1} s, or use another platform", wait.as_secs_f64()),
            None => "an operator has opened its circuit breaker: reset it, or use another platform".to_owned(),
        };
        Error::new(ErrorKind::CircuitOpen, format!("{platform} is not asked to {operation} for now{why}"))
            .with_hint(hint)
            .with_retry(Retry::Never, refusal.retry_in)
    }

    fn picture(&self) -> MutexGuard<'_, Picture> {
        self.picture.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Picture {
    fn see(&mut self, circuit: CircuitBreaker) {
        if circuit.generation() != self.circuit.generation() {
            self.untold = 0;
        }
        self.circuit = circuit;
        self.taken_at = Some(Instant::now());
    }
}

impl BreakerPermit {
    /// Runs the request, keeps a probe's lease meanwhile, and tells how it ended.
    pub(super) async fn run<T>(mut self, request: impl Future<Output = Result<T>>) -> Result<T> {
        let outcome = self.keep(request).await;
        let error = outcome.as_ref().err();
        // Said first: a result is told once, even if the telling is cancelled.
        self.is_settled = true;
        self.breaker.report(self.permit, error.map_or(Outcome::Success, outcome_of), error).await;
        outcome
    }

    async fn keep<T>(&self, request: impl Future<Output = T>) -> T {
        if !self.permit.is_probe() {
            return request.await;
        }
        let (breaker, permit) = (&self.breaker, self.permit);
        let every = (breaker.settings.probe_lease / 3).max(Duration::from_millis(1));
        tokio::pin!(request);
        loop {
            tokio::select! {
                outcome = &mut request => return outcome,
                () = tokio::time::sleep(every) => {
                    let (settings, now) = (breaker.settings, breaker.clock.now());
                    breaker.update(now, move |circuit| circuit.renew(&settings, now, permit)).await;
                }
            }
        }
    }
}

impl Drop for BreakerPermit {
    fn drop(&mut self) {
        if !self.is_settled && self.permit.is_probe() {
            let (breaker, permit) = (&self.breaker, self.permit);
            let (settings, now) = (breaker.settings, breaker.clock.now());
            breaker.shared.update_soon(&breaker.key, now, move |circuit: &mut CircuitBreaker| {
                circuit.report(&settings, now, permit, Outcome::Ignored);
            });
        }
    }
}

/// What a failure says of the platform's health, not of the request.
fn outcome_of(error: &Error) -> Outcome {
    use ErrorKind::{Billing, Conflict, PermissionDenied, QuotaExceeded, RateLimited, TimedOut, Unauthenticated};
    let has_answered = error.context().is_some_and(|context| context.status.is_some());
    match error.kind() {
        _ if error.is_platform_fault() => Outcome::Failure,
        // Throttled, not allowed, or not paid for: that is between the account and the platform.
        RateLimited | Unauthenticated | PermissionDenied | Billing | QuotaExceeded | Conflict | TimedOut => {
            Outcome::Ignored
        }
        // It did its job, which was to say no.
        _ if has_answered => Outcome::Success,
        _ => Outcome::Ignored,
    }
}
