//! The state machine of a circuit breaker: closed, open, half-open; plain data and pure steps in time.
//!
//! Two rules set it apart. A permit carries the generation it was granted in, and a result of another generation
//! changes nothing: late successes cannot close a breaker, late failures cannot open one. And half-open permits
//! are leases: a probe whose holder died is free again when its lease ends, so no breaker stays half-open.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// A time window moves on by tenths.
const TENTHS: i64 = 10;

/// Which results count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The latest so many.
    Calls(u32),
    /// Those of the latest so long, in tenths.
    Time(Duration),
}

/// When to open, how long for, and what closes again. Names as in resilience4j where it has the thing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerSettings {
    pub window: Window,
    /// Fewer results than this never open it.
    pub minimum_calls: u32,
    /// Percent of results in the window from which it opens.
    pub failure_rate: u32,
    /// Percent of slow results from which it opens; above 100, slowness never does.
    pub slow_rate: u32,
    /// A request that waits longer for the first byte of its answer, after its own last one, is slow.
    pub slow_call: Duration,
    /// The first wait while open.
    pub wait: Duration,
    /// Each time it opens again without having closed, the wait grows by this factor.
    pub wait_factor: f64,
    /// Where it ends; the first wait is never cut.
    pub wait_cap: Duration,
    /// Half-open permits out at a time.
    pub probes: u32,
    /// Good probes that close it; at most `probes`.
    pub successes_to_close: u32,
    /// A probe that is not heard of for so long is given to someone else.
    pub probe_lease: Duration,
}

impl BreakerSettings {
    pub const DEFAULT: BreakerSettings = BreakerSettings {
        // Under any traffic a total outage is seen after 25 failures; in a window of time it takes as long as that is.
        window: Window::Calls(50),
        minimum_calls: 20,
        failure_rate: 50,
        slow_rate: 100,
        slow_call: Duration::from_secs(60),
        // A few probes every few seconds cost a platform nothing; waiting for minutes would cost its users.
        wait: Duration::from_secs(1),
        wait_factor: 2.0,
        wait_cap: Duration::from_secs(4),
        probes: 3,
        successes_to_close: 2,
        probe_lease: Duration::from_secs(15),
    };

    /// How long it stays open the `nth` time in a row, from 1.
    pub fn wait_of(&self, nth: u32) -> Duration {
        let doublings = i32::try_from(nth.saturating_sub(1)).unwrap_or(i32::MAX);
        let (grown, cap) = (self.wait.as_secs_f64() * self.wait_factor.powi(doublings), self.wait_cap.max(self.wait));
        Duration::try_from_secs_f64(grown).map_or(cap, |wait| wait.min(cap))
    }
}

/// What an operator wants, whatever the results say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    #[default]
    Automatic,
    /// Refuses everything.
    ForcedOpen,
    /// Lets everything through and records nothing.
    Disabled,
    /// Lets everything through and records.
    MetricsOnly,
}

/// What a breaker looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    Closed,
    HalfOpen,
    Open,
    ForcedOpen,
    Disabled,
    MetricsOnly,
}

impl Mode {
    /// The mode behind a word for people: `automatic`, `forced-open`, `disabled` or `metrics-only`.
    pub fn parse(word: &str) -> Option<Self> {
        let all = [Mode::Automatic, Mode::ForcedOpen, Mode::Disabled, Mode::MetricsOnly];
        let words = ["automatic", "forced-open", "disabled", "metrics-only"];
        words.iter().position(|known| *known == word).map(|index| all[index])
    }
}

impl BreakerState {
    pub fn as_str(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::HalfOpen => "half-open",
            BreakerState::Open => "open",
            BreakerState::ForcedOpen => "forced-open",
            BreakerState::Disabled => "disabled",
            BreakerState::MetricsOnly => "metrics-only",
        }
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a call ended, as the breaker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The service did its job, if only to say that the caller is wrong.
    Success,
    /// It did, but too slowly.
    Slow,
    Failure,
    /// Says nothing about the service: throttled, cancelled, not allowed.
    Ignored,
}

/// Leave to make one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    generation: u64,
    /// A half-open one's lease.
    probe: Option<u64>,
}

impl Permit {
    pub fn is_probe(self) -> bool {
        self.probe.is_some()
    }
}

/// Refused; after `retry_in` it is worth asking again (`None`: only an operator opens the way).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub retry_in: Option<Duration>,
}

/// One change of state, told exactly once: to whoever caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    pub from: BreakerState,
    pub to: BreakerState,
}

/// What became of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    Counted,
    /// Of an earlier generation, or of a lease that ran out: nothing changed.
    Late,
    Changed(Transition),
}

/// Counts of results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub calls: u32,
    pub failures: u32,
    pub slow: u32,
}

impl Tally {
    fn add(&mut self, outcome: Outcome) {
        self.calls += 1;
        self.failures += u32::from(outcome == Outcome::Failure);
        self.slow += u32::from(outcome == Outcome::Slow);
    }

    fn remove(&mut self, outcome: Outcome) {
        self.calls -= 1;
        self.failures -= u32::from(outcome == Outcome::Failure);
        self.slow -= u32::from(outcome == Outcome::Slow);
    }

    fn subtract(&mut self, other: Tally) {
        self.calls -= other.calls;
        self.failures -= other.failures;
        self.slow -= other.slow;
    }

    fn exceeds(self, settings: &BreakerSettings) -> bool {
        let reaches = |count: u32, percent: u32| u64::from(count) * 100 >= u64::from(percent) * u64::from(self.calls);
        let minimum = match settings.window {
            Window::Calls(size) => settings.minimum_calls.min(size),
            Window::Time(_) => settings.minimum_calls,
        };
        self.calls >= minimum.max(1)
            && (reaches(self.failures, settings.failure_rate) || reaches(self.slow, settings.slow_rate))
    }
}

/// The results in the window, and their tally.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Results {
    /// Of a window of calls: each outcome, oldest first.
    latest: VecDeque<Outcome>,
    /// Of a window of time: the tally of each tenth of it, oldest first, by its number since 1970.
    tenths: VecDeque<(i64, Tally)>,
    total: Tally,
}

impl Results {
    /// What was counted by another kind of window, before the settings were changed, counts no more.
    fn forget_other_kind(&mut self, window: Window) {
        let is_other = match window {
            Window::Calls(_) => !self.tenths.is_empty(),
            Window::Time(_) => !self.latest.is_empty(),
        };
        if is_other {
            *self = Results::default();
        }
    }

    fn add(&mut self, outcome: Outcome, now: Timestamp, window: Window) {
        self.forget_other_kind(window);
        match window {
            Window::Calls(size) => self.push(outcome, size),
            Window::Time(length) => {
                let tenth = self.forget_before(now, length);
                match self.tenths.back_mut() {
                    Some((last, tally)) if *last >= tenth => tally.add(outcome),
                    _ => {
                        let mut tally = Tally::default();
                        tally.add(outcome);
                        self.tenths.push_back((tenth, tally));
                    }
                }
                self.total.add(outcome);
            }
        }
    }

    fn add_successes(&mut self, count: u32, now: Timestamp, window: Window) {
        self.forget_other_kind(window);
        match window {
            Window::Calls(size) => (0..count.min(size)).for_each(|_| self.push(Outcome::Success, size)),
            Window::Time(_) if count == 0 => {}
            Window::Time(_) => {
                self.add(Outcome::Success, now, window);
                if let Some((_, tally)) = self.tenths.back_mut() {
                    tally.calls += count - 1;
                    self.total.calls += count - 1;
                }
            }
        }
    }

    fn push(&mut self, outcome: Outcome, size: u32) {
        self.latest.push_back(outcome);
        self.total.add(outcome);
        while self.latest.len() > size.max(1) as usize {
            if let Some(oldest) = self.latest.pop_front() {
                self.total.remove(oldest);
            }
        }
    }

    /// Drops what has left the window; gives the number of the current tenth.
    fn forget_before(&mut self, now: Timestamp, length: Duration) -> i64 {
        let micros = i64::try_from(length.as_micros()).unwrap_or(i64::MAX);
        let tenth = now.0.div_euclid((micros / TENTHS).max(1));
        while let Some((oldest, tally)) = self.tenths.front().copied() {
            // One from the future is from before the clock was set back.
            if oldest > tenth - TENTHS && oldest <= tenth {
                break;
            }
            self.tenths.pop_front();
            self.total.subtract(tally);
        }
        tenth
    }
}

impl Default for Phase {
    fn default() -> Self {
        Phase::Closed(Results::default())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Phase {
    Closed(Results),
    /// `wait` is how long it is open in all: a clock set back must not make it longer.
    Open {
        until: Timestamp,
        wait: Duration,
    },
    HalfOpen {
        leases: BTreeMap<u64, Timestamp>,
        succeeded: u32,
    },
}

/// One breaker, at first closed. Its clock may be any that its callers share; steps of it are healed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CircuitBreaker {
    /// Rises with every transition, to the time at least: one whose state was lost never repeats a number.
    generation: u64,
    /// How often it opened since it was last closed.
    opened: u32,
    mode: Mode,
    phase: Phase,
}

impl CircuitBreaker {
    pub fn state(&self) -> BreakerState {
        match (self.mode, &self.phase) {
            (Mode::ForcedOpen, _) => BreakerState::ForcedOpen,
            (Mode::Disabled, _) => BreakerState::Disabled,
            (Mode::MetricsOnly, _) => BreakerState::MetricsOnly,
            (Mode::Automatic, Phase::Closed(_)) => BreakerState::Closed,
            (Mode::Automatic, Phase::Open { .. }) => BreakerState::Open,
            (Mode::Automatic, Phase::HalfOpen { .. }) => BreakerState::HalfOpen,
        }
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The results in the window; none while open or half-open.
    pub fn tally(&self) -> Tally {
        match &self.phase {
            Phase::Closed(results) => results.total,
            _ => Tally::default(),
        }
    }

    /// When an open one lets probes through.
    pub fn open_until(&self) -> Option<Timestamp> {
        match (self.mode, &self.phase) {
            (Mode::Automatic, Phase::Open { until, .. }) => Some(*until),
            _ => None,
        }
    }

    /// What [`acquire`](Self::acquire) would refuse now, changing nothing.
    pub fn refusal(&self, settings: &BreakerSettings, now: Timestamp) -> Option<Refusal> {
        let wait = match (self.mode, &self.phase) {
            (Mode::ForcedOpen, _) => None,
            (Mode::Disabled | Mode::MetricsOnly, _) | (_, Phase::Closed(_)) => return None,
            (_, Phase::Open { until, wait }) => {
                let until = (*until).min(now.plus(*wait));
                (now < until).then(|| until.since(now))
            }
            (_, Phase::HalfOpen { leases, succeeded }) => first_free(leases, *succeeded, settings, now),
        };
        match (self.mode, wait) {
            (Mode::Automatic, None) => None,
            (_, retry_in) => Some(Refusal { retry_in }),
        }
    }

    /// Leave to make one call, where nothing changes by giving it and no time plays a part.
    pub fn free_permit(&self) -> Option<Permit> {
        match (self.mode, &self.phase) {
            (Mode::ForcedOpen, _) => None,
            (Mode::Automatic, Phase::Closed(_)) | (Mode::Disabled | Mode::MetricsOnly, _) => Some(self.permit()),
            (Mode::Automatic, _) => None,
        }
    }

    /// Asks for leave to make one call. `token` names the probe, should it become one; it must be unused.
    pub fn acquire(
        &mut self,
        settings: &BreakerSettings,
        now: Timestamp,
        token: u64,
    ) -> (Result<Permit, Refusal>, Option<Transition>) {
        match self.mode {
            Mode::ForcedOpen => return (Err(Refusal { retry_in: None }), None),
            Mode::Disabled | Mode::MetricsOnly => return (Ok(self.permit()), None),
            Mode::Automatic => {}
        }
        let before = self.state();
        if let Phase::Open { until, wait } = self.phase {
            let until = until.min(now.plus(wait));
            self.phase = Phase::Open { until, wait };
            if now < until {
                return (Err(Refusal { retry_in: Some(until.since(now)) }), None);
            }
            self.enter(now, Phase::HalfOpen { leases: BTreeMap::new(), succeeded: 0 });
        }
        let permit = match &mut self.phase {
            Phase::HalfOpen { leases, succeeded } => lend(leases, *succeeded, settings, now, token)
                .map(|token| Permit { generation: self.generation, probe: Some(token) }),
            _ => Ok(self.permit()),
        };
        (permit, self.changed_from(before))
    }

    /// Tells how a permitted call ended.
    pub fn report(&mut self, settings: &BreakerSettings, now: Timestamp, permit: Permit, outcome: Outcome) -> Report {
        if permit.generation != self.generation {
            return Report::Late;
        }
        let before = self.state();
        match &mut self.phase {
            Phase::Closed(_) if outcome == Outcome::Ignored || self.mode == Mode::Disabled => {}
            Phase::Closed(results) => {
                results.add(outcome, now, settings.window);
                if self.mode == Mode::Automatic && results.total.exceeds(settings) {
                    self.open(settings, now);
                }
            }
            Phase::HalfOpen { leases, succeeded } => {
                let lease = permit.probe.and_then(|token| leases.remove(&token));
                if lease.is_none_or(|until| until <= now) {
                    return Report::Late;
                }
                match outcome {
                    Outcome::Success => *succeeded += 1,
                    Outcome::Failure | Outcome::Slow => self.open(settings, now),
                    Outcome::Ignored => {}
                }
                self.close_if_proven(settings, now);
            }
            Phase::Open { .. } => return Report::Late,
        }
        self.changed_from(before).map_or(Report::Counted, Report::Changed)
    }

    /// Opens for `wait`, if it is still as it was when the call was permitted: so the service asked.
    pub fn open_for(&mut self, now: Timestamp, permit: Permit, wait: Duration) -> Report {
        if permit.generation != self.generation || self.mode != Mode::Automatic {
            return Report::Late;
        }
        let before = self.state();
        self.opened += 1;
        self.enter(now, Phase::Open { until: now.plus(wait), wait });
        self.changed_from(before).map_or(Report::Counted, Report::Changed)
    }

    /// Tells of several good calls at once, of the same generation as `permit`.
    pub fn report_successes(&mut self, settings: &BreakerSettings, now: Timestamp, permit: Permit, count: u32) {
        match &mut self.phase {
            Phase::Closed(results) if permit.generation == self.generation && self.mode != Mode::Disabled => {
                results.add_successes(count, now, settings.window);
            }
            _ => {}
        }
    }

    /// Whether a permit is of an earlier generation: nothing it says counts any more.
    pub fn is_past(&self, permit: Permit) -> bool {
        permit.generation < self.generation
    }

    /// Keeps a probe that is still at work; `false` when its lease is gone.
    pub fn renew(&mut self, settings: &BreakerSettings, now: Timestamp, permit: Permit) -> bool {
        match (&mut self.phase, permit.probe) {
            (Phase::HalfOpen { leases, .. }, Some(token)) if permit.generation == self.generation => {
                let lease = leases.get_mut(&token).filter(|until| **until > now);
                lease.map(|until| *until = now.plus(settings.probe_lease)).is_some()
            }
            _ => false,
        }
    }

    /// Sets what an operator wants. Results of calls begun before no longer count.
    pub fn set_mode(&mut self, now: Timestamp, mode: Mode) -> Option<Transition> {
        let before = self.state();
        if self.mode != mode {
            self.mode = mode;
            self.opened = 0;
            self.enter(now, Phase::default());
        }
        self.changed_from(before)
    }

    /// Closed, automatic, and nothing remembered.
    pub fn reset(&mut self, now: Timestamp) -> Option<Transition> {
        let before = self.state();
        self.mode = Mode::Automatic;
        self.opened = 0;
        self.enter(now, Phase::default());
        self.changed_from(before)
    }

    /// Becomes `other` if that is of a later generation: state that was lost is what anyone still knows of it.
    pub fn catch_up(&mut self, other: &CircuitBreaker) {
        if other.generation > self.generation {
            self.clone_from(other);
        }
    }

    /// Takes over a transition that was made elsewhere, unless an operator has set what is to be. `until` is how long
    /// it stays open.
    pub fn follow(&mut self, state: BreakerState, at: Timestamp, until: Timestamp) -> bool {
        let phase = match state {
            BreakerState::Closed => Phase::default(),
            BreakerState::Open => Phase::Open { until, wait: until.since(at) },
            BreakerState::HalfOpen => Phase::HalfOpen { leases: BTreeMap::new(), succeeded: 0 },
            _ => return false,
        };
        if self.mode != Mode::Automatic {
            return false;
        }
        match state {
            BreakerState::Closed => self.opened = 0,
            BreakerState::Open => self.opened += 1,
            _ => {}
        }
        self.enter(at, phase);
        true
    }

    fn permit(&self) -> Permit {
        Permit { generation: self.generation, probe: None }
    }

    fn open(&mut self, settings: &BreakerSettings, now: Timestamp) {
        self.opened += 1;
        let wait = settings.wait_of(self.opened);
        self.enter(now, Phase::Open { until: now.plus(wait), wait });
    }

    fn close_if_proven(&mut self, settings: &BreakerSettings, now: Timestamp) {
        if let Phase::HalfOpen { succeeded, .. } = self.phase
            && succeeded >= settings.successes_to_close
        {
            self.opened = 0;
            self.enter(now, Phase::default());
        }
    }

    fn enter(&mut self, now: Timestamp, phase: Phase) {
        self.generation = (self.generation + 1).max(u64::try_from(now.0).unwrap_or(0));
        self.phase = phase;
    }

    fn changed_from(&self, from: BreakerState) -> Option<Transition> {
        let to = self.state();
        (from != to).then_some(Transition { from, to })
    }
}

/// How long until a probe's place is free; `None` when one is.
fn first_free(
    leases: &BTreeMap<u64, Timestamp>,
    succeeded: u32,
    settings: &BreakerSettings,
    now: Timestamp,
) -> Option<Duration> {
    let end = now.plus(settings.probe_lease);
    let held = || leases.values().filter(|until| **until > now).map(|until| (*until).min(end));
    let is_full = held().count() + succeeded as usize >= settings.probes as usize;
    is_full.then(|| held().min().map_or(settings.probe_lease, |until| until.since(now)))
}

/// A lease for one more probe, if there is room; leases that ran out make room.
fn lend(
    leases: &mut BTreeMap<u64, Timestamp>,
    succeeded: u32,
    settings: &BreakerSettings,
    now: Timestamp,
    token: u64,
) -> Result<u64, Refusal> {
    if let Some(wait) = first_free(leases, succeeded, settings, now) {
        return Err(Refusal { retry_in: Some(wait) });
    }
    let end = now.plus(settings.probe_lease);
    leases.retain(|_, until| *until > now);
    // As with `until`: a clock set back lengthens no lease.
    leases.values_mut().for_each(|until| *until = (*until).min(end));
    leases.insert(token, end);
    Ok(token)
}
