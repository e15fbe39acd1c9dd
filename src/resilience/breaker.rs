//! One circuit breaker at work.
//!
//! Its truth is in the shared state. Each process looks at it again when its own picture is older than [`FRESH`], sends
//! failures at once and successes once a second: a healthy platform costs next to nothing.

use std::sync::Arc;
#[cfg(not(test))]
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rand::Rng as _;
#[cfg(test)]
use shuttle::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::circuit_breaker::{
    self, BreakerSettings, BreakerState, CircuitBreaker, Mode, Outcome, Refusal, Report, Transition,
};
use super::slowness;
use super::state::SharedState;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::metrics::{Named, Transitions, metrics};

/// How old a process' picture of a shared breaker may be.
const FRESH: Duration = Duration::from_millis(100);

/// An account that is throttled for so long and so often without a break has met a wall, not a limit.
const WALL: (Duration, u32) = (Duration::from_secs(60), 10);

/// What a platform asks for is heeded, within these bounds.
const PEACE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);

/// A process that is alone opens after fewer failures; not after fewer than this.
const FEWEST_CALLS: u32 = 5;

/// How long successes may wait to be told.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// What a breaker is doing, and why.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct BreakerHealth {
    pub state: BreakerState,
    /// Results in the window, while it is closed.
    pub calls: u32,
    pub failures: u32,
    pub slow: u32,
    pub open_until: Option<Timestamp>,
    /// The latest failure that counted, as this process saw it.
    pub last_error: Option<String>,
}

#[derive(Debug)]
pub struct Breaker {
    /// As people call what it guards: "moonshot upload".
    name: String,
    key: String,
    settings: BreakerSettings,
    shared: SharedState,
    picture: Mutex<Picture>,
}

/// What this process knows of the breaker.
#[derive(Debug)]
struct Picture {
    circuit: CircuitBreaker,
    /// As it was shared last: what was found out alone is for nobody else.
    shared: CircuitBreaker,
    seen_at: Option<Instant>,
    /// Successes of the current generation that were not told yet.
    untold: u32,
    told_at: Instant,
    last_error: Option<String>,
    /// Since when nothing but throttling was heard, and how often.
    throttled: Option<(Instant, u32)>,
}

/// Leave to send one request. How it ended must be told; a permit that is dropped says nothing about the platform.
#[derive(Debug)]
pub struct BreakerPermit {
    breaker: Arc<Breaker>,
    permit: circuit_breaker::Permit,
    given_at: Instant,
    is_settled: bool,
}

impl Breaker {
    /// Those with the same name share what they know.
    pub fn new(name: String, settings: BreakerSettings, shared: SharedState) -> Self {
        let picture = Picture {
            circuit: CircuitBreaker::default(),
            shared: CircuitBreaker::default(),
            seen_at: None,
            untold: 0,
            told_at: Instant::now(),
            last_error: None,
            throttled: None,
        };
        Breaker {
            key: format!("breaker/{}", name.replace(' ', "/")),
            name,
            settings,
            shared,
            picture: Mutex::new(picture),
        }
    }

    /// Whether asking for a permit now would be in vain: before waiting for anything else.
    ///
    /// # Errors
    /// `CircuitOpen`.
    pub(super) async fn check(&self) -> Result<()> {
        self.refresh().await;
        let refusal = self.picture().circuit.refusal(&self.settings, self.shared.now());
        refusal.map_or(Ok(()), |refusal| Err(self.open_error(refusal)))
    }

    /// # Errors
    /// `CircuitOpen`.
    pub async fn permit(self: &Arc<Self>) -> Result<BreakerPermit> {
        if let Some(permit) = self.permit_seen() {
            return permit;
        }
        self.refresh().await;
        if let Some(permit) = self.permit_seen() {
            return permit;
        }
        let token = rand::rng().random();
        let granted = self.update(move |circuit, settings, now| circuit.acquire(settings, now, token)).await;
        self.tell(granted.1, None);
        self.granted(granted.0)
    }

    /// A permit, or a refusal, where nobody needs to be waited for.
    pub fn permit_at_hand(self: &Arc<Self>) -> Option<Result<BreakerPermit>> {
        self.permit_seen().or_else(|| self.shared.at_once(self.permit()))
    }

    /// By this process' picture, while it is fresh. Most calls take this way, so it asks the time only once.
    fn permit_seen(self: &Arc<Self>) -> Option<Result<BreakerPermit>> {
        let (picture, at) = (self.picture(), Instant::now());
        if !picture.is_fresh(at) {
            return None;
        }
        if let Some(permit) = picture.circuit.free_permit() {
            drop(picture);
            return Some(Ok(self.given(permit, at)));
        }
        let refusal = picture.circuit.refusal(&self.settings, self.shared.now())?;
        drop(picture);
        Some(Err(self.open_error(refusal)))
    }

    fn granted(self: &Arc<Self>, granted: Result<circuit_breaker::Permit, Refusal>) -> Result<BreakerPermit> {
        match granted {
            Ok(permit) => Ok(self.given(permit, Instant::now())),
            Err(refusal) => Err(self.open_error(refusal)),
        }
    }

    fn given(self: &Arc<Self>, permit: circuit_breaker::Permit, given_at: Instant) -> BreakerPermit {
        BreakerPermit { breaker: self.clone(), permit, given_at, is_settled: false }
    }

    /// # Errors
    /// `Registry` when it could not be shared: then nothing has changed.
    pub async fn set_mode(&self, mode: Mode) -> Result<()> {
        self.operate(move |circuit, now| circuit.set_mode(now, mode)).await
    }

    /// # Errors
    /// As [`set_mode`](Self::set_mode).
    pub async fn reset(&self) -> Result<()> {
        self.operate(CircuitBreaker::reset).await
    }

    /// What an operator does is done for all, or not at all.
    async fn operate(
        &self,
        mut step: impl FnMut(&mut CircuitBreaker, Timestamp) -> Option<Transition> + Send + 'static,
    ) -> Result<()> {
        let shared = self.picture().shared.clone();
        let step = move |circuit: &mut CircuitBreaker, now| {
            circuit.catch_up(&shared);
            step(circuit, now)
        };
        let (change, circuit) = self.shared.update(&self.key, step).await?;
        self.see(circuit);
        self.tell(change, None);
        Ok(())
    }

    pub async fn health(&self) -> BreakerHealth {
        self.refresh().await;
        let picture = self.picture();
        let tally = picture.circuit.tally();
        BreakerHealth {
            state: picture.circuit.state(),
            calls: tally.calls,
            failures: tally.failures,
            slow: tally.slow,
            open_until: picture.circuit.open_until(),
            last_error: picture.last_error.clone(),
        }
    }

    async fn report(self: &Arc<Self>, permit: circuit_breaker::Permit, outcome: Outcome, error: Option<&str>) {
        if self.keeps(permit, outcome) {
            return;
        }
        let told = self.clone().told(permit, outcome, self.to_be_told(outcome, error));
        match outcome {
            // It is no news.
            Outcome::Success if !permit.is_probe() => self.shared.later(told),
            _ => told.await,
        }
    }

    async fn told(self: Arc<Self>, permit: circuit_breaker::Permit, outcome: Outcome, successes: u32) {
        let report = self.update(move |circuit, settings, now| {
            circuit.report_successes(settings, now, permit, successes);
            circuit.report(settings, now, permit, outcome)
        });
        self.reported(report.await);
    }

    fn reported(&self, report: Report) {
        match report {
            Report::Counted => {}
            Report::Late => drop(metrics().late_results.get_or_create(&self.labels()).inc()),
            Report::Changed(change) => {
                let why = self.picture().last_error.clone();
                self.tell(Some(change), why.as_deref());
            }
        }
    }

    /// Whether a result says nothing, or nothing yet: successes wait to be told together.
    fn keeps(&self, permit: circuit_breaker::Permit, outcome: Outcome) -> bool {
        if permit.is_probe() {
            return false;
        }
        let mut picture = self.picture();
        if picture.circuit.is_past(permit) {
            metrics().late_results.get_or_create(&self.labels()).inc();
            return true;
        }
        let waits = outcome == Outcome::Success && picture.told_at.elapsed() < TOLD_WITHIN;
        picture.untold += u32::from(waits);
        waits || outcome == Outcome::Ignored
    }

    /// How many earlier successes are told together with a result.
    fn to_be_told(&self, outcome: Outcome, error: Option<&str>) -> u32 {
        let mut picture = self.picture();
        if let Some(error) = error.filter(|_| outcome == Outcome::Failure) {
            picture.last_error = Some(error.to_owned());
        }
        picture.told_at = Instant::now();
        std::mem::take(&mut picture.untold)
    }

    /// Changes the shared breaker; where that fails, this process' own picture, so that no call fails because of it.
    async fn update<T: Send + 'static>(
        &self,
        step: impl FnMut(&mut CircuitBreaker, &BreakerSettings, Timestamp) -> T + Clone + Send + 'static,
    ) -> T {
        let (settings, shared, mut then) = (self.settings, self.picture().shared.clone(), step.clone());
        let step_from_newest = move |circuit: &mut CircuitBreaker, now| {
            circuit.catch_up(&shared);
            then(circuit, &settings, now)
        };
        match self.shared.update(&self.key, step_from_newest).await {
            Ok((answer, circuit)) => {
                self.see(circuit);
                answer
            }
            Err(error) => {
                tracing::debug!(%error, "a circuit breaker could not be shared");
                self.update_alone(step)
            }
        }
    }

    /// With its part of what all would need to find out.
    fn update_alone<T>(&self, mut step: impl FnMut(&mut CircuitBreaker, &BreakerSettings, Timestamp) -> T) -> T {
        let processes = self.shared.processes();
        let minimum_calls =
            (self.settings.minimum_calls / processes).max(FEWEST_CALLS.min(self.settings.minimum_calls));
        let settings = BreakerSettings { minimum_calls, ..self.settings };
        let mut picture = self.picture();
        picture.seen_at = Some(Instant::now());
        let answer = step(&mut picture.circuit, &settings, self.shared.now());
        metrics().breaker_state.get_or_create(&self.labels()).set(picture.circuit.state() as i64);
        answer
    }

    fn see(&self, circuit: CircuitBreaker) {
        let state = circuit.state();
        if self.picture().see(circuit) {
            metrics().breaker_state.get_or_create(&self.labels()).set(state as i64);
        }
    }

    async fn refresh(&self) {
        if self.picture().is_fresh(Instant::now()) {
            return;
        }
        let ours = self.picture().shared.generation();
        match self.shared.read::<CircuitBreaker>(&self.key).await {
            // The state was lost, or is that of a server that lagged; what we know is newer.
            Ok(circuit) if circuit.generation() < ours => self.update(|_, _, _| ()).await,
            Ok(circuit) => self.see(circuit),
            Err(error) => {
                tracing::debug!(%error, "a circuit breaker could not be read");
                self.picture().seen_at = Some(Instant::now());
            }
        }
    }

    fn tell(&self, change: Option<Transition>, why: Option<&str>) {
        let Some(Transition { from, to }) = change else { return };
        let breaker = self.name.clone();
        metrics().breaker_transitions.get_or_create(&Transitions { breaker, to: to.as_str() }).inc();
        match to {
            BreakerState::Open => tracing::warn!(breaker = %self.name, %from, why, "circuit breaker opened"),
            _ => tracing::info!(breaker = %self.name, %from, %to, "circuit breaker changed"),
        }
    }

    /// Whether an account has been refused so long and so often that there is more to it than its pace.
    fn has_met_a_wall(&self, error: &Error) -> bool {
        let mut picture = self.picture();
        if error.kind() != ErrorKind::RateLimited || error.context().is_none() {
            picture.throttled = None;
            return false;
        }
        let (since, times) = picture.throttled.get_or_insert((Instant::now(), 0));
        *times += 1;
        since.elapsed() >= WALL.0 && *times >= WALL.1
    }

    fn labels(&self) -> Named {
        Named { breaker: self.name.clone() }
    }

    fn open_error(&self, refusal: Refusal) -> Error {
        let why =
            self.picture().last_error.as_ref().map_or(String::new(), |last| format!("; its latest failure: {last}"));
        let hint = match refusal.retry_in {
            Some(wait) => format!("try again in {:.1} s, or elsewhere", wait.as_secs_f64()),
            None => "an operator has opened its circuit breaker: reset it, or go elsewhere".to_owned(),
        };
        Error::new(ErrorKind::CircuitOpen, format!("{} is left in peace for now{why}", self.name))
            .with_hint(hint)
            .with_retry(Retry::Never, refusal.retry_in)
    }

    fn picture(&self) -> MutexGuard<'_, Picture> {
        self.picture.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Picture {
    /// Whether it is another one than before.
    fn see(&mut self, circuit: CircuitBreaker) -> bool {
        let is_news = self.seen_at.is_none() || circuit.generation() != self.circuit.generation();
        if is_news {
            self.untold = 0;
        }
        self.shared.clone_from(&circuit);
        self.circuit = circuit;
        self.seen_at = Some(Instant::now());
        is_news
    }

    fn is_fresh(&self, now: Instant) -> bool {
        self.seen_at.is_some_and(|at| now.duration_since(at) < FRESH)
    }
}

impl BreakerPermit {
    /// Runs the request, keeps a probe's lease meanwhile, and tells how it ended.
    pub(super) async fn run<T>(self, request: impl Future<Output = Result<T>>) -> Result<T> {
        let (waited, answer) = slowness::timed(self.keep(request)).await;
        let outcome = match &answer {
            Err(error) if self.breaker.has_met_a_wall(error) => Outcome::Failure,
            Err(error) => outcome_of(error),
            Ok(_) if waited > self.breaker.settings.slow_call => Outcome::Slow,
            Ok(_) => Outcome::Success,
        };
        if answer.is_ok() {
            self.breaker.picture().throttled = None;
        }
        let error = answer.as_ref().err();
        match error.and_then(peace_asked_for) {
            Some(wait) => self.leave_in_peace(wait, error.map(Error::message)).await,
            None => self.settle(outcome, error.map(Error::message)).await,
        }
        answer
    }

    /// Tells how the request ended; `error` is for people.
    pub async fn settle(mut self, outcome: Outcome, error: Option<&str>) {
        // Said first: a result is told once, even if the telling is cancelled.
        self.is_settled = true;
        self.breaker.report(self.permit, outcome, error).await;
    }

    /// Opens the breaker for as long as the platform asked to be left alone.
    async fn leave_in_peace(mut self, wait: Duration, error: Option<&str>) {
        self.is_settled = true;
        let (breaker, permit) = (&self.breaker, self.permit);
        breaker.to_be_told(Outcome::Failure, error);
        let report = breaker.update(move |circuit, _, now| circuit.open_for(now, permit, wait)).await;
        breaker.reported(report);
    }

    /// As [`settle`](Self::settle), where nobody needs to be waited for; else the permit comes back.
    pub fn settle_at_hand(mut self, outcome: Outcome, error: Option<&str>) -> Result<(), Self> {
        self.is_settled = self.breaker.keeps(self.permit, outcome);
        if !self.is_settled {
            let (breaker, permit) = (self.breaker.clone(), self.permit);
            self.is_settled = breaker.shared.at_once(breaker.report(permit, outcome, error)).is_some();
        }
        if self.is_settled { Ok(()) } else { Err(self) }
    }

    /// How long ago it was given.
    pub fn elapsed(&self) -> Duration {
        self.given_at.elapsed()
    }

    /// A longer call than this is slow, by the breaker's settings.
    pub fn slow_call(&self) -> Duration {
        self.breaker.settings.slow_call
    }

    async fn keep<T>(&self, request: impl Future<Output = T>) -> T {
        if !self.permit.is_probe() {
            return request.await;
        }
        let (breaker, permit) = (&self.breaker, self.permit);
        let every = (breaker.settings.probe_lease / 3).max(Duration::from_millis(1));
        let renewing = async {
            loop {
                tokio::time::sleep(every).await;
                breaker.update(move |circuit, settings, now| circuit.renew(settings, now, permit)).await;
            }
        };
        tokio::select! {
            answer = request => answer,
            never = renewing => never,
        }
    }
}

impl Drop for BreakerPermit {
    fn drop(&mut self) {
        if !self.is_settled && self.permit.is_probe() {
            let (settings, permit) = (self.breaker.settings, self.permit);
            self.breaker.shared.update_soon(&self.breaker.key, move |circuit: &mut CircuitBreaker, now| {
                circuit.report(&settings, now, permit, Outcome::Ignored);
            });
        }
    }
}

/// How long a platform that is down asked to be left alone.
fn peace_asked_for(error: &Error) -> Option<Duration> {
    let asked = error.retry_after().filter(|_| error.kind() == ErrorKind::Unavailable && error.context().is_some())?;
    (asked >= *PEACE.start()).then(|| asked.min(*PEACE.end()))
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

#[cfg(test)]
mod tests {
    //! All orders of threads that a seeded search finds: these tests' locks are those of `shuttle`.

    use shuttle::future::block_on;
    use shuttle::sync::atomic::{AtomicU32, Ordering};
    use shuttle::thread;

    use super::super::circuit_breaker::Window;
    use super::super::state::Memory;
    use super::*;
    use crate::clock::TestClock;

    const SCHEDULES: usize = 20_000;

    const SETTINGS: BreakerSettings = BreakerSettings {
        window: Window::Calls(2),
        minimum_calls: 2,
        failure_rate: 100,
        wait: Duration::from_secs(1),
        wait_cap: Duration::from_secs(1),
        probes: 1,
        successes_to_close: 1,
        ..BreakerSettings::DEFAULT
    };

    fn fail_twice(breaker: &Arc<Breaker>) {
        for _ in 0..2 {
            if let Ok(permit) = block_on(breaker.permit()) {
                block_on(permit.settle(Outcome::Failure, Some("down")));
            }
        }
    }

    /// Tries it out, as one of at most one at a time, and fails.
    fn probe(breaker: &Arc<Breaker>, at_work: &AtomicU32) {
        let Ok(permit) = block_on(breaker.permit()) else { return };
        if permit.permit.is_probe() {
            assert_eq!(at_work.fetch_add(1, Ordering::SeqCst), 0, "two probes of one permit");
            at_work.fetch_sub(1, Ordering::SeqCst);
        }
        block_on(permit.settle(Outcome::Failure, Some("down")));
    }

    #[test]
    fn in_every_order_late_successes_close_nothing_and_probes_keep_to_their_number() {
        shuttle::check_random(
            || {
                let clock = Arc::new(TestClock::at(Timestamp::from_unix_seconds(1_800_000_000)));
                let shared = SharedState::new(Memory::new(clock.clone()));
                let breaker = Arc::new(Breaker::new("search".into(), SETTINGS, shared));
                let at_work = Arc::new(AtomicU32::new(0));
                let early: Vec<_> = (0..2).filter_map(|_| block_on(breaker.permit()).ok()).collect();
                let late = thread::spawn(move || {
                    for permit in early {
                        block_on(permit.settle(Outcome::Success, None));
                    }
                });
                let probing: Vec<_> = (0..2)
                    .map(|_| {
                        let (breaker, clock, at_work) = (breaker.clone(), clock.clone(), at_work.clone());
                        thread::spawn(move || {
                            fail_twice(&breaker);
                            clock.advance(Duration::from_secs(1));
                            probe(&breaker, &at_work);
                        })
                    })
                    .collect();
                late.join().expect("it ends");
                probing.into_iter().for_each(|thread| thread.join().expect("it ends"));
                fail_twice(&breaker);
                let state = block_on(breaker.health()).state;
                assert_ne!(state, BreakerState::Closed, "only failures were told of late");
            },
            SCHEDULES,
        );
    }
}
