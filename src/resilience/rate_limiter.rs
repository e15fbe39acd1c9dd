//! One account's rate limits at work: one step of the shared state for each turn where there is a rate; where there is
//! none, a look now and then for a pause that the platform asked any process for.
//!
//! While the state cannot be reached, a process takes its part of the rates, and counts what it was given before.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::pace::{Ask, Grant, Pace, PaceAnswer, PaceHealth, PaceStep, Rate, Rates, Turn};
use super::state::SharedState;
use crate::clock::Timestamp;

/// How old this process' picture may be, where there is nothing to reserve.
const FRESH: Duration = Duration::from_millis(100);

/// How often a process that is alone looks whether the others are there again.
const LOOKS_EVERY: Duration = Duration::from_millis(250);

/// Where nobody is let run in time, going late beats not going.
const MOST_TRIES: u32 = 5;

/// How long it keeps to its part once they are: until all of them have told what they took meanwhile.
const UNTIL_ALL_ARE_BACK: Duration = Duration::from_millis(2_500);

#[derive(Debug)]
pub struct RateLimiter {
    key: String,
    rates: Rates,
    shared: SharedState,
    own: Mutex<Own>,
}

/// What this process knows by itself.
#[derive(Debug)]
struct Own {
    window: Duration,
    /// Its turns of the latest window.
    granted: VecDeque<Taken>,
    health: PaceHealth,
    epoch: i64,
    seen_at: Option<Instant>,
    paused_until: Instant,
    alone: Option<Alone>,
}

#[derive(Clone, Copy, Debug)]
struct Taken {
    at: Instant,
    grant: Grant,
    /// Whether the others know of it.
    is_told: bool,
}

/// The state cannot be reached, or does not know yet what was granted.
#[derive(Debug)]
struct Alone {
    pace: Pace,
    back_since: Option<Instant>,
}

impl RateLimiter {
    pub fn new(key: String, rates: Rates, shared: SharedState) -> Arc<Self> {
        let own = Own {
            window: rates.window(),
            granted: VecDeque::new(),
            health: PaceHealth::default(),
            epoch: 0,
            seen_at: None,
            paused_until: Instant::now(),
            alone: None,
        };
        Arc::new(RateLimiter { key, rates, shared, own: Mutex::new(own) })
    }

    /// Waits for a turn; gives how long. One that is cancelled gives its turn back.
    ///
    /// # Errors
    /// How long until a turn could come, at once, when that is longer than `patience`.
    pub async fn turn(self: &Arc<Self>, ask: Ask, patience: Duration) -> Result<Duration, Duration> {
        let (begun, mut turn) = (Instant::now(), Reservation::new(self, ask));
        loop {
            let (asked, left) = (Instant::now(), patience.saturating_sub(begun.elapsed()));
            let wait = match turn.reserve(left).await {
                Ok(wait) => wait,
                // Alone it knows only what it may take for certain; the others may be back at any moment.
                Err(_) if self.own().alone.is_some() && left > LOOKS_EVERY => {
                    sleep(LOOKS_EVERY).await;
                    continue;
                }
                Err(wait) => return Err(wait),
            };
            // Who comes late to one window may be one too many in the next.
            if self.reaches(Instant::now() + wait).await && turn.is_in_time(asked, wait) {
                turn.take();
                self.recall().await;
                return Ok(if wait.is_zero() { Duration::ZERO } else { begun.elapsed() });
            }
        }
    }

    /// Whether the turn came and can be taken; else another one is to be asked for: everyone was paused meanwhile, or
    /// turns are no longer kept where it was given.
    async fn reaches(self: &Arc<Self>, turn: Instant) -> bool {
        let kept = self.own().kept();
        while Instant::now() < turn {
            sleep_until(turn.min(Instant::now() + LOOKS_EVERY)).await;
            self.look_around().await;
            let own = self.own();
            if own.kept() != kept || own.paused_until > turn.max(Instant::now()) {
                return false;
            }
        }
        true
    }

    /// Learns of pauses that another process was asked for, and whether the others are there again.
    async fn look_around(self: &Arc<Self>) {
        match self.shared.paused_for(&self.key) {
            Some(pause) => self.own().hold_until(Instant::now() + pause),
            None if !self.own().is_fresh() => drop(self.step(PaceStep::Look).await),
            None => {}
        }
        self.recall().await;
    }

    /// A turn now, or how long one would take, where nobody needs to be waited for.
    pub fn turn_at_hand(self: &Arc<Self>, ask: Ask) -> Option<Result<(), Duration>> {
        let reserved = self.shared.at_once(self.reserve(ask, rand::random(), Duration::ZERO));
        reserved.map(|reserved| reserved.map(drop))
    }

    /// How long until this request's turn; or how long until one could come, when that is longer than `patience`.
    async fn reserve(self: &Arc<Self>, ask: Ask, id: u64, patience: Duration) -> Result<Duration, Duration> {
        if self.rates == Rates::NONE {
            return self.unless_paused(patience).await;
        }
        self.step(PaceStep::Reserve { ask, patience, id }).await.wait
    }

    /// How long after its turn a request may still leave: most of what the windows are guarded by.
    fn lateness(&self) -> Duration {
        let guards = [self.rates.requests, self.rates.uploads].into_iter().flatten().map(Rate::guard);
        guards.min().map_or(Duration::MAX, |guard| guard * 3 / 4)
    }

    /// Holds every process up for `wait`, and takes less of the limits for a while.
    pub async fn throttled(self: &Arc<Self>, wait: Option<Duration>) {
        if let Some(wait) = wait {
            self.own().hold_until(Instant::now() + wait);
            self.step(PaceStep::Pause(wait)).await;
        }
        if self.rates != Rates::NONE {
            self.step(PaceStep::Throttled).await;
        }
    }

    pub async fn health(self: &Arc<Self>) -> PaceHealth {
        self.step(PaceStep::Look).await.health
    }

    async fn unless_paused(self: &Arc<Self>, patience: Duration) -> Result<Duration, Duration> {
        let is_fresh = self.own().is_fresh();
        if !is_fresh {
            self.step(PaceStep::Look).await;
        }
        let wait = self.own().paused_until.saturating_duration_since(Instant::now());
        if wait <= patience { Ok(wait) } else { Err(wait) }
    }

    /// One step of the state that all share; of this process' own while that is out of reach.
    async fn step(self: &Arc<Self>, step: PaceStep) -> PaceAnswer {
        if self.recall().await {
            match self.shared.pace(&self.key, &self.rates, &step).await {
                Ok(answer) => {
                    self.own().see(&answer);
                    return answer;
                }
                Err(error) => tracing::debug!(%error, "a rate limit could not be shared"),
            }
        }
        let (answer, is_news) = self.own().step(&self.rates, self.shared.processes(), self.shared.now(), &step);
        if is_news {
            self.look_for_others();
        }
        answer
    }

    /// Whether turns are shared. Else it tells of those that this process took lately: once everyone has done so, they
    /// are shared again.
    async fn recall(&self) -> bool {
        let asked_at = Instant::now();
        let untold = match &*self.own() {
            Own { alone: None, .. } => return true,
            own if own.waits_for_others() => return false,
            own => own.granted(|taken| !taken.is_told),
        };
        let is_told = self.shared.pace(&self.key, &self.rates, &PaceStep::Recall(untold)).await.is_ok();
        self.own().told(is_told, asked_at)
    }

    /// Also a process that takes no more turns has to tell of those it took.
    fn look_for_others(self: &Arc<Self>) {
        let looking = look_for_others(Arc::downgrade(self));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(looking);
        }
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One caller's turn, from when it asks until it goes; by one name, so that whoever asks again gives up what it had.
struct Reservation<'l> {
    limiter: &'l Arc<RateLimiter>,
    ask: Ask,
    id: u64,
    /// Whether there may be a turn by this name.
    is_held: bool,
    tries: u32,
}

impl<'l> Reservation<'l> {
    fn new(limiter: &'l Arc<RateLimiter>, ask: Ask) -> Self {
        Reservation { limiter, ask, id: rand::random(), is_held: false, tries: 0 }
    }

    async fn reserve(&mut self, patience: Duration) -> Result<Duration, Duration> {
        // Also while it is asked for: the answer may be lost.
        self.is_held = self.limiter.rates != Rates::NONE;
        let wait = self.limiter.reserve(self.ask, self.id, patience).await;
        self.is_held &= wait.is_ok();
        wait
    }

    /// Whether it can still go. Its turn lies between `asked` and the answer, plus `wait`.
    fn is_in_time(&mut self, asked: Instant, wait: Duration) -> bool {
        self.tries += 1;
        asked.elapsed().saturating_sub(wait) <= self.limiter.lateness() || self.tries >= MOST_TRIES
    }

    fn take(&mut self) {
        self.is_held = false;
        let (id, bytes, turn) = (self.id, self.ask.bytes, Turn::of(self.ask));
        self.limiter.own().take(Grant { age: Duration::ZERO, id, bytes, turn });
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if self.is_held {
            let (limiter, step) = (self.limiter.clone(), PaceStep::Release { ask: self.ask, id: self.id });
            self.limiter.shared.soon(async move {
                limiter.step(step).await;
            });
        }
    }
}

async fn look_for_others(limiter: Weak<RateLimiter>) {
    loop {
        sleep(LOOKS_EVERY).await;
        match limiter.upgrade() {
            Some(limiter) if !limiter.recall().await => {}
            _ => return,
        }
    }
}

impl Own {
    fn granted(&self, wanted: impl Fn(&Taken) -> bool) -> Vec<Grant> {
        let wanted = self.granted.iter().filter(|taken| wanted(taken));
        wanted.map(|taken| Grant { age: taken.at.elapsed(), ..taken.grant }).collect()
    }

    /// Whether the others know all it took, and have yet to tell what they did: there is nothing to ask meanwhile.
    fn waits_for_others(&self) -> bool {
        let since = self.alone.as_ref().and_then(|alone| alone.back_since);
        since.is_some_and(|since| since.elapsed() < UNTIL_ALL_ARE_BACK)
            && self.granted.iter().all(|taken| taken.is_told)
    }

    /// Notes whether the others could be told of what was taken before; whether turns are shared from now on.
    fn told(&mut self, is_told: bool, before: Instant) -> bool {
        let Some(alone) = &mut self.alone else { return true };
        if is_told {
            self.granted.iter_mut().filter(|taken| taken.at <= before).for_each(|taken| taken.is_told = true);
        }
        match (is_told, alone.back_since) {
            (false, _) => alone.back_since = None,
            (true, None) => alone.back_since = Some(Instant::now()),
            (true, Some(since)) if since.elapsed() >= UNTIL_ALL_ARE_BACK => self.alone = None,
            (true, Some(_)) => {}
        }
        self.alone.is_none()
    }

    fn see(&mut self, answer: &PaceAnswer) {
        self.health = answer.health;
        self.epoch = answer.epoch;
        self.seen_at = Some(Instant::now());
        self.hold_until(Instant::now() + answer.health.paused_for);
    }

    fn is_fresh(&self) -> bool {
        self.seen_at.is_some_and(|at| at.elapsed() < FRESH)
    }

    /// Where turns are kept now.
    fn kept(&self) -> (i64, bool) {
        (self.epoch, self.alone.is_some())
    }

    fn hold_until(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(until);
    }

    fn take(&mut self, grant: Grant) {
        self.granted.push_back(Taken { at: Instant::now(), grant, is_told: self.alone.is_none() });
        while self.granted.front().is_some_and(|taken| taken.at.elapsed() > self.window) {
            self.granted.pop_front();
        }
    }

    /// A step of this process alone: with its part of the rates, on top of what it was given already; and if others
    /// may just have used the limit up, only after a window. Also whether it has only just become alone.
    fn step(&mut self, rates: &Rates, processes: u32, now: Timestamp, step: &PaceStep) -> (PaceAnswer, bool) {
        // Half of the rates, and only if what all were given lately, and may be getting now, is less than the other half.
        let part = rates.divided(processes.saturating_mul(2));
        let is_news = self.alone.is_none();
        if is_news {
            self.alone = Some(Alone { pace: self.pace_alone(rates, &part, processes, now), back_since: None });
        }
        let answer = match &mut self.alone {
            Some(alone) => alone.pace.step(&part, now, step),
            None => PaceAnswer { wait: Ok(Duration::ZERO), health: self.health, epoch: self.epoch },
        };
        (answer, is_news)
    }

    fn pace_alone(&self, rates: &Rates, part: &Rates, processes: u32, now: Timestamp) -> Pace {
        let mut pace = Pace::default();
        pace.step(part, now, &PaceStep::Recall(self.granted(|_| true)));
        let most = rates.requests.map_or(u32::MAX, Rate::count);
        if processes > 1 && self.health.used.saturating_add(processes) > most / 2 {
            pace.step(part, now, &PaceStep::Pause(rates.window()));
        }
        let pause = self.paused_until.saturating_duration_since(Instant::now());
        pace.step(part, now, &PaceStep::Pause(pause));
        pace
    }
}
