//! The pace of one account: a reserving sliding log, plain data and pure steps in time.
//!
//! Each request is given the moment at which it may go, and none is promised a moment that would break a limit. A
//! token bucket of N per window lets up to 2N − 1 requests into one window; Moonshot's lowest tier has N = 3.
//! `state/redis/pace.lua` takes the very same steps for many hosts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::model::Operation;

/// Moments that processes note out of order differ by less than this; more is a clock set back.
const CLOCK_STEP: Duration = Duration::from_secs(5);

/// A log of more requests than this is kept as one of shorter windows.
const LONGEST_LOG: u32 = 1_000;
const SHORT_LOG: u32 = 100;

/// Requests that have to wait go one by one, this part of an even step apart, in percent: all at once they would come
/// late, each by another bit, and bunch up with the next window's. Fewer than [`FEW`] may.
const SPACING_PERCENT: u32 = 90;
const FEW: u32 = 10;

/// What each lane may take of a limit while the other wants some too, in percent.
const LANE_PERCENT: u32 = 80;

/// A throttled account's limits shrink to this percentage, at most once in [`CUT_EVERY`], never below [`LEAST`].
const CUT_PERCENT: u32 = 70;
const CUT_EVERY: Duration = Duration::from_secs(10);
const LEAST: u32 = 100;
/// And grow by a hundredth of the whole every ten seconds.
const GROWTH: u32 = 10;
const GROWS_EVERY: Duration = Duration::from_secs(10);
const WHOLE: u32 = 1_000;

/// At most `requests` in any `window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rate {
    pub requests: u32,
    pub window: Duration,
}

impl Rate {
    pub fn per_minute(requests: u32) -> Self {
        Rate { requests, window: Duration::from_secs(60) }
    }

    /// A window of very many requests is kept as so many shorter ones, end to end: their logs are short.
    fn parts(self) -> u32 {
        if self.requests <= LONGEST_LOG { 1 } else { self.requests / SHORT_LOG }
    }

    /// Requests in one part.
    pub(super) fn count(self) -> u32 {
        if self.requests <= LONGEST_LOG { self.requests } else { SHORT_LOG }
    }

    /// What requests may bunch up by on their way: leaving in time is not arriving in time.
    pub(super) fn guard(self) -> Duration {
        (self.window / 120).max(Duration::from_millis(50))
    }

    pub(super) fn guarded_window(self) -> Duration {
        self.window + self.guard()
    }

    /// The span of one part.
    pub(super) fn span(self) -> Duration {
        self.guarded_window() / self.parts()
    }

    /// How far apart those go that have to wait.
    pub(super) fn spacing(self) -> Option<Duration> {
        let even = Duration::from_micros(micros(self.span())) / self.count().max(1);
        (self.requests >= FEW).then(|| even * SPACING_PERCENT / 100)
    }
}

/// The rates of one account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of requests of every kind.
    pub requests: Option<Rate>,
    /// Of uploads alone, on top of `requests`.
    pub uploads: Option<Rate>,
    /// Of the bytes of uploads, per second.
    pub upload_bytes: Option<u64>,
}

pub(super) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

impl Rates {
    pub(super) const NONE: Rates = Rates { requests: None, uploads: None, upload_bytes: None };

    /// Whether a turn for this counts against anything.
    fn limit(&self, ask: Ask) -> bool {
        self.requests.is_some()
            || self.uploads.is_some() && ask.operation == Operation::Upload
            || self.cost(ask.bytes).is_some()
    }

    /// How long so many bytes take.
    fn cost(&self, bytes: u64) -> Option<Duration> {
        let per_second = self.upload_bytes.filter(|_| bytes > 0)?;
        let micros = u128::from(bytes) * 1_000_000 / u128::from(per_second.max(1));
        Some(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }

    /// When the bytes of these turns are paid for, if those before them are at `before`.
    fn paid_at(&self, before: Timestamp, turns: &[Reserved]) -> Timestamp {
        turns.iter().fold(before, |paid, Reserved(at, _, _, bytes)| {
            self.cost(*bytes).map_or(paid, |cost| paid.max(*at).plus(cost))
        })
    }

    /// The longest span that any log goes back.
    pub(super) fn span(&self) -> Duration {
        [self.requests, self.uploads].into_iter().flatten().map(Rate::span).max().unwrap_or_default()
    }

    /// The longest window: after it, nothing that was granted before counts any more.
    pub(super) fn window(&self) -> Duration {
        [self.requests, self.uploads].into_iter().flatten().map(Rate::guarded_window).max().unwrap_or_default()
    }

    /// What one of so many processes may take when they cannot agree.
    pub(super) fn divided(self, processes: u32) -> Self {
        let divided = |rate: Rate| match rate.requests / processes.max(1) {
            0 => Rate { requests: 1, window: rate.window * processes / rate.requests.max(1) },
            requests => Rate { requests, ..rate },
        };
        Rates {
            requests: self.requests.map(divided),
            uploads: self.uploads.map(divided),
            upload_bytes: self.upload_bytes.map(|bytes| (bytes / u64::from(processes.max(1))).max(1)),
        }
    }
}

/// Who waits when there is not enough for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lane {
    /// Somebody waits for it. Finds a fifth of each limit free of bulk work.
    #[default]
    Interactive,
    /// May take its time; sure of a fifth of each limit.
    Bulk,
}

/// A request that wants a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    pub operation: Operation,
    pub lane: Lane,
    /// Of an upload.
    pub bytes: u64,
}

impl From<Operation> for Ask {
    fn from(operation: Operation) -> Self {
        Ask { operation, lane: Lane::Interactive, bytes: 0 }
    }
}

/// One turn given out, as its process remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// How long ago its turn was.
    pub age: Duration,
    pub id: u64,
    pub bytes: u64,
    pub(super) turn: Turn,
}

/// What may happen to a pace.
#[derive(Clone, Debug)]
pub enum PaceStep {
    /// Changes nothing.
    Look,
    /// Asks for a turn within `patience`, in place of the one it has by this id.
    Reserve { ask: Ask, patience: Duration, id: u64 },
    /// Gives a turn back that was not taken.
    Release { ask: Ask, id: u64 },
    /// Holds everyone up for so long.
    Pause(Duration),
    /// The platform said that it is too much: there will be less for a while.
    Throttled,
    /// Tells of turns that were given out while the state could not be reached.
    Recall(Vec<Grant>),
}

/// What a pace answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaceAnswer {
    /// How long until the turn; or how long until there could be one, which is longer than the patience. Nothing is
    /// reserved then.
    pub wait: Result<Duration, Duration>,
    pub health: PaceHealth,
    /// The log that a turn was reserved in: another one knows nothing of it.
    pub epoch: i64,
}

/// How an account's limits are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PaceHealth {
    /// Turns in the latest window and ahead.
    pub used: u32,
    /// What is used of the limits since the platform last throttled, in permille.
    pub share: u32,
    /// For how much longer everyone is held up.
    #[serde(serialize_with = "seconds")]
    pub paused_for: Duration,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// The turns given out lately.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// By time.
    turns: Vec<Reserved>,
    /// When the bytes of turns that are forgotten are paid for.
    bytes_paid_at: Timestamp,
    paused_until: Timestamp,
    share: Share,
    /// The latest moment anyone came.
    seen_at: Timestamp,
}

/// One turn: when, what for, whose, and how many bytes it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Reserved(Timestamp, Turn, u64, u64);

/// What a turn was for: which limits it counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Turn(u8);

impl Turn {
    const UPLOAD: u8 = 1;
    const BULK: u8 = 2;

    pub(super) fn of(ask: Ask) -> Self {
        let upload = if ask.operation == Operation::Upload { Turn::UPLOAD } else { 0 };
        let bulk = if ask.lane == Lane::Bulk { Turn::BULK } else { 0 };
        Turn(upload | bulk)
    }

    pub(super) fn bits(self) -> u8 {
        self.0
    }

    fn is_upload(self) -> bool {
        self.0 & Turn::UPLOAD != 0
    }

    fn is_bulk(self) -> bool {
        self.0 & Turn::BULK != 0
    }
}

/// What is used of the limits: less after a throttling, more again with time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Share {
    permille: u32,
    cut_at: Timestamp,
}

impl Default for Share {
    fn default() -> Self {
        Share { permille: WHOLE, cut_at: Timestamp(i64::MIN) }
    }
}

impl Share {
    fn now(&self, now: Timestamp) -> u32 {
        let steps = now.since(self.cut_at).as_micros() / GROWS_EVERY.as_micros();
        u32::try_from(steps)
            .map_or(WHOLE, |steps| self.permille.saturating_add(steps.saturating_mul(GROWTH)).min(WHOLE))
    }

    /// The requests of one burst are throttled together; they say one thing, once.
    fn cut(&mut self, now: Timestamp) {
        if now.since(self.cut_at) >= CUT_EVERY {
            *self = Share { permille: (self.now(now) * CUT_PERCENT / 100).max(LEAST), cut_at: now };
        }
    }
}

/// One limit, and the turns it is about.
struct Limit<'p> {
    turns: Vec<&'p Reserved>,
    count: usize,
    window: Duration,
}

impl Limit<'_> {
    /// The first moment from `turn` on at which one more breaks nothing: any `count` turns that lie within a window
    /// forbid the moments that would make it one too many.
    fn first_free(&self, mut turn: Timestamp) -> Timestamp {
        for run in self.turns.windows(self.count) {
            let (first, last) = (run[0].0, run[self.count - 1].0);
            let is_run = last.since(first) < self.window;
            if is_run && last.minus(self.window) < turn && turn < first.plus(self.window) {
                turn = first.plus(self.window);
            }
        }
        turn
    }
}

/// The first moment from `turn` on that no limit forbids.
fn free_of_all(limits: &[Limit<'_>], mut turn: Timestamp) -> Timestamp {
    loop {
        let free = limits.iter().fold(turn, |turn, limit| limit.first_free(turn));
        if free == turn {
            return turn;
        }
        turn = free;
    }
}

impl Pace {
    /// Takes one step.
    pub fn step(&mut self, rates: &Rates, now: Timestamp, step: &PaceStep) -> PaceAnswer {
        self.heal(now);
        self.forget(rates, now);
        let wait = match step {
            PaceStep::Look => Ok(Duration::ZERO),
            PaceStep::Reserve { ask, patience, id } => {
                self.release(*id);
                self.reserve(rates, now, *ask, *patience, *id)
            }
            PaceStep::Release { id, .. } => {
                self.release(*id);
                Ok(Duration::ZERO)
            }
            PaceStep::Pause(wait) => {
                self.paused_until = self.paused_until.max(now.plus(*wait));
                Ok(Duration::ZERO)
            }
            PaceStep::Throttled => {
                self.share.cut(now);
                Ok(Duration::ZERO)
            }
            PaceStep::Recall(grants) => {
                grants
                    .iter()
                    .for_each(|grant| self.note(Reserved(now.minus(grant.age), grant.turn, grant.id, grant.bytes)));
                Ok(Duration::ZERO)
            }
        };
        PaceAnswer { wait, health: self.health(now), epoch: 0 }
    }

    fn reserve(
        &mut self,
        rates: &Rates,
        now: Timestamp,
        ask: Ask,
        patience: Duration,
        id: u64,
    ) -> Result<Duration, Duration> {
        let turn = self.first_free(rates, now, ask);
        let wait = turn.since(now);
        if wait > patience {
            return Err(wait);
        }
        if rates.limit(ask) {
            self.note(Reserved(turn, Turn::of(ask), id, ask.bytes));
        }
        Ok(wait)
    }

    fn release(&mut self, id: u64) {
        self.turns.retain(|Reserved(_, _, other, _)| *other != id);
    }

    fn first_free(&self, rates: &Rates, now: Timestamp, ask: Ask) -> Timestamp {
        let paid_at = rates.cost(ask.bytes).map_or(now, |_| rates.paid_at(self.bytes_paid_at, &self.turns));
        let mut limits = self.limits(rates, now, ask);
        let wanted = now.max(self.paused_until).max(paid_at);
        // Whoever came before for the same goes before, even where a moment was left free between.
        let last = self.turns.iter().rev().find(|Reserved(_, turn, ..)| *turn == Turn::of(ask));
        let free = free_of_all(&limits, last.map_or(wanted, |last| last.0.max(wanted)));
        match rates.requests.and_then(Rate::spacing).filter(|_| free > wanted) {
            Some(window) => {
                limits.push(Limit { turns: self.turns.iter().collect(), count: 1, window });
                free_of_all(&limits, free)
            }
            None => free,
        }
    }

    /// What limits this request: each is one of the account's, of its uploads, or of a lane.
    fn limits(&self, rates: &Rates, now: Timestamp, ask: Ask) -> Vec<Limit<'_>> {
        let (share, kind) = (self.share.now(now), Turn::of(ask));
        let limit = |rate: Rate, percent: u32, counts: fn(Turn, Turn) -> bool| Limit {
            turns: self.turns.iter().filter(|Reserved(_, turn, ..)| counts(*turn, kind)).collect(),
            count: (rate.count() * share / WHOLE * percent / 100).max(1) as usize,
            window: rate.span(),
        };
        let mut limits = Vec::with_capacity(3);
        if let Some(rate) = rates.requests {
            limits.push(limit(rate, 100, |_, _| true));
            if kind.is_bulk() || self.turns.iter().any(|Reserved(_, turn, ..)| turn.is_bulk()) {
                limits.push(limit(rate, LANE_PERCENT, |turn, kind| turn.is_bulk() == kind.is_bulk()));
            }
        }
        if let Some(rate) = rates.uploads.filter(|_| kind.is_upload()) {
            limits.push(limit(rate, 100, |turn, _| turn.is_upload()));
        }
        limits
    }

    fn note(&mut self, reserved: Reserved) {
        let after = self.turns.partition_point(|other| other.0 <= reserved.0);
        self.turns.insert(after, reserved);
    }

    fn forget(&mut self, rates: &Rates, now: Timestamp) {
        let past = self.turns.partition_point(|turn| turn.0 <= now.minus(rates.span()));
        self.bytes_paid_at = rates.paid_at(self.bytes_paid_at, &self.turns[..past]);
        self.turns.drain(..past);
    }

    fn health(&self, now: Timestamp) -> PaceHealth {
        PaceHealth {
            used: u32::try_from(self.turns.len()).unwrap_or(u32::MAX),
            share: self.share.now(now),
            paused_for: self.paused_until.since(now),
        }
    }

    /// A clock that was set back takes everything it had measured back with it.
    fn heal(&mut self, now: Timestamp) {
        let back = self.seen_at.since(now);
        if back > CLOCK_STEP {
            let known = [&mut self.bytes_paid_at, &mut self.paused_until, &mut self.share.cut_at];
            let moments = self.turns.iter_mut().map(|Reserved(at, ..)| at).chain(known);
            moments.for_each(|moment| *moment = moment.minus(back));
            self.seen_at = now;
        }
        self.seen_at = self.seen_at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp(1_800_000_000_000_000);
    const FAR: Duration = Duration::from_secs(1_000_000_000);

    fn after(millis: u64) -> Timestamp {
        START.plus(Duration::from_millis(millis))
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn requests(rate: Rate) -> Rates {
        Rates { requests: Some(rate), ..Rates::NONE }
    }

    fn reserve(
        pace: &mut Pace,
        rates: &Rates,
        ask: impl Into<Ask>,
        now: Timestamp,
        patience: Duration,
    ) -> Result<Duration, Duration> {
        pace.step(rates, now, &PaceStep::Reserve { ask: ask.into(), patience, id: rand::random() }).wait
    }

    #[test]
    fn a_full_window_waits_for_its_oldest_request() {
        let (mut pace, rates) = (Pace::default(), requests(Rate::per_minute(3)));
        let waits: Vec<_> =
            (0..4).map(|_| reserve(&mut pace, &rates, Operation::List, START, FAR).unwrap().as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 60_500]);
    }

    #[test]
    fn many_that_have_to_wait_go_one_by_one() {
        let (mut pace, rates) = (Pace::default(), requests(Rate { requests: 10, window: Duration::from_secs(10) }));
        let waits: Vec<_> =
            (0..13).map(|_| reserve(&mut pace, &rates, Operation::List, START, FAR).unwrap().as_millis()).collect();
        assert_eq!(waits[..10], [0; 10]);
        assert_eq!(waits[10..], [10_083, 10_990, 11_898]);
    }

    #[test]
    fn nobody_overtakes_who_waits_for_the_same() {
        let (mut pace, rates) = (Pace::default(), requests(Rate { requests: 10, window: Duration::from_secs(10) }));
        let ids: Vec<u64> = (0..12).collect();
        for id in &ids {
            let step = PaceStep::Reserve { ask: Operation::List.into(), patience: FAR, id: *id };
            pace.step(&rates, START, &step).wait.unwrap();
        }
        // Two that have gone were not taken: there is room now, and two who came before.
        for id in &ids[..2] {
            pace.step(&rates, START, &PaceStep::Release { ask: Operation::List.into(), id: *id });
        }
        let wait = reserve(&mut pace, &rates, Operation::List, after(100), FAR).unwrap();
        assert!(wait > millis(10_000), "{wait:?}");
    }

    #[test]
    fn no_hope_before_the_deadline_is_said_at_once_and_reserves_nothing() {
        let (mut pace, rates) = (Pace::default(), requests(Rate::per_minute(1)));
        reserve(&mut pace, &rates, Operation::List, START, FAR).unwrap();
        let hopeless = reserve(&mut pace, &rates, Operation::List, START, millis(5_000));
        assert_eq!(hopeless, Err(millis(60_500)));
        assert_eq!(reserve(&mut pace, &rates, Operation::List, START, FAR), Ok(millis(60_500)));
    }

    #[test]
    fn an_upload_that_has_no_turn_takes_none_of_other_requests() {
        let uploads = Some(Rate::per_minute(1));
        let rates = Rates { uploads, ..requests(Rate::per_minute(2)) };
        let mut pace = Pace::default();
        reserve(&mut pace, &rates, Operation::Upload, START, FAR).unwrap();
        reserve(&mut pace, &rates, Operation::Upload, START, millis(1_000)).unwrap_err();
        assert_eq!(reserve(&mut pace, &rates, Operation::List, START, millis(1_000)), Ok(Duration::ZERO));
    }

    #[test]
    fn others_go_before_an_upload_that_waits_for_long() {
        let rates = Rates { uploads: Some(Rate::per_minute(1)), ..requests(Rate::per_minute(3)) };
        let mut pace = Pace::default();
        reserve(&mut pace, &rates, Operation::Upload, START, FAR).unwrap();
        assert_eq!(reserve(&mut pace, &rates, Operation::Upload, START, FAR), Ok(millis(60_500)));
        assert_eq!(reserve(&mut pace, &rates, Operation::List, START, FAR), Ok(Duration::ZERO));
    }

    #[test]
    fn a_pause_holds_everyone_up() {
        let mut pace = Pace::default();
        pace.step(&Rates::NONE, START, &PaceStep::Pause(millis(19_000)));
        pace.step(&Rates::NONE, START, &PaceStep::Pause(millis(7_000)));
        assert_eq!(reserve(&mut pace, &Rates::NONE, Operation::Get, START, FAR), Ok(millis(19_000)));
    }

    #[test]
    fn a_clock_set_back_an_hour_lets_nobody_wait_longer() {
        let (mut pace, rates) = (Pace::default(), requests(Rate::per_minute(2)));
        let later = START.plus(Duration::from_secs(3_600));
        for _ in 0..2 {
            reserve(&mut pace, &rates, Operation::List, later, FAR).unwrap();
        }
        pace.step(&rates, later, &PaceStep::Pause(millis(3_000)));
        assert_eq!(reserve(&mut pace, &rates, Operation::List, START, FAR), Ok(millis(60_500)));
    }

    #[test]
    fn bytes_are_paid_for_after_they_went() {
        let mut pace = Pace::default();
        let rates = Rates { upload_bytes: Some(1_000), ..Rates::NONE };
        let upload = |bytes| Ask { bytes, ..Operation::Upload.into() };
        assert_eq!(reserve(&mut pace, &rates, upload(5_000), START, FAR), Ok(Duration::ZERO));
        assert_eq!(reserve(&mut pace, &rates, upload(1), after(1_000), FAR), Ok(millis(4_000)));
        assert_eq!(reserve(&mut pace, &rates, Operation::List, after(1_000), FAR), Ok(Duration::ZERO));
    }

    #[test]
    fn whoever_asks_again_or_gives_back_has_and_pays_one_turn() {
        let mut pace = Pace::default();
        let rates = Rates { upload_bytes: Some(1_000), ..requests(Rate::per_minute(2)) };
        let ask = Ask { bytes: 5_000, ..Operation::Upload.into() };
        let reserve =
            |pace: &mut Pace, id| pace.step(&rates, START, &PaceStep::Reserve { ask, patience: FAR, id }).wait;
        assert_eq!(reserve(&mut pace, 1), Ok(Duration::ZERO));
        assert_eq!(reserve(&mut pace, 1), Ok(Duration::ZERO));
        assert_eq!(reserve(&mut pace, 2), Ok(millis(5_000)));
        assert_eq!(reserve(&mut pace, 3), Ok(millis(60_500)));
        assert_eq!(pace.step(&rates, START, &PaceStep::Release { ask, id: 3 }).health.used, 2);
        assert_eq!(pace.step(&rates, START, &PaceStep::Release { ask, id: 2 }).health.used, 1);
        assert_eq!(reserve(&mut pace, 4), Ok(millis(5_000)), "as if 2 and 3 had never asked");
    }

    #[test]
    fn bulk_work_leaves_a_fifth_and_is_left_a_fifth() {
        let (mut pace, rates) = (Pace::default(), requests(Rate::per_minute(10)));
        let bulk = Ask { lane: Lane::Bulk, ..Operation::List.into() };
        let now = |pace: &mut Pace, ask: Ask| {
            (0..10).take_while(|_| reserve(pace, &rates, ask, START, Duration::ZERO).is_ok()).count()
        };
        assert_eq!(now(&mut pace, bulk), 8);
        assert_eq!(now(&mut pace, Operation::List.into()), 2);
        let mut pace = Pace::default();
        reserve(&mut pace, &rates, bulk, START, FAR).unwrap();
        assert_eq!(now(&mut pace, Operation::List.into()), 8);
        assert_eq!(now(&mut pace, bulk), 1);
    }

    #[test]
    fn throttling_is_learnt_once_a_burst_and_forgotten_slowly() {
        let (mut pace, rates) = (Pace::default(), requests(Rate::per_minute(100)));
        let mut share = |at: Timestamp, step| pace.step(&rates, at, &step).health.share;
        assert_eq!(share(START, PaceStep::Look), 1_000);
        assert_eq!(share(START, PaceStep::Throttled), 700);
        assert_eq!(share(after(100), PaceStep::Throttled), 700);
        assert_eq!(share(after(10_000), PaceStep::Look), 710);
        assert_eq!(share(after(10_000), PaceStep::Throttled), 497);
        assert_eq!(share(after(1_000_000), PaceStep::Look), 1_000);
        assert_eq!((1..99).map(|n| share(after(1_000_000 + n * 10_000), PaceStep::Throttled)).min(), Some(100));
        let mut taken = 0;
        while reserve(&mut pace, &rates, Operation::List, after(2_000_000), Duration::ZERO).is_ok() {
            taken += 1;
        }
        assert!((10..20).contains(&taken), "{taken}");
    }

    #[test]
    fn a_high_limit_is_kept_by_shorter_windows() {
        for count in [1_001, 1_500, 4_000] {
            let (mut pace, rates) = (Pace::default(), requests(Rate::per_minute(count)));
            let waits: Vec<Duration> =
                (0..count + 200).map(|_| reserve(&mut pace, &rates, Operation::List, START, FAR).unwrap()).collect();
            let first = waits.iter().filter(|wait| wait.as_secs() < 60).count();
            assert!((count as usize * 9 / 10..=count as usize).contains(&first), "{first} of {count}");
        }
    }

    proptest! {
        /// In any window there are at most N turns, and no turn could be sooner.
        #[test]
        fn every_turn_is_exact(
            limits in (1u32..8, 1u32..4),
            asks in prop::collection::vec((0u64..30_000, any::<bool>()), 1..60),
        ) {
            let uploads = Some(Rate::per_minute(limits.1));
            let rates = Rates { uploads, ..requests(Rate::per_minute(limits.0)) };
            let (mut pace, mut now, mut turns) = (Pace::default(), START, Vec::<(Timestamp, bool)>::new());
            for (gap, is_upload) in asks {
                now = now.plus(millis(gap));
                let operation = if is_upload { Operation::Upload } else { Operation::List };
                let turn = now.plus(reserve(&mut pace, &rates, operation, now, FAR).unwrap());
                let fits = |at: Timestamp| {
                    let mut with = turns.clone();
                    with.push((at, is_upload));
                    keeps(&with, |_| true, limits.0) && (!is_upload || keeps(&with, |upload| upload, limits.1))
                };
                prop_assert!(fits(turn));
                let just_free = turns.iter().map(|(at, _)| at.plus(Rate::per_minute(1).guarded_window()));
                for sooner in just_free.chain([now]).filter(|at| (now..turn).contains(at)) {
                    prop_assert!(!fits(sooner), "{sooner} before {turn}");
                }
                turns.push((turn, is_upload));
            }
        }
    }

    fn keeps(turns: &[(Timestamp, bool)], counts: impl Fn(bool) -> bool, limit: u32) -> bool {
        let window = Rate::per_minute(1).guarded_window();
        let counted: Vec<_> = turns.iter().filter(|(_, upload)| counts(*upload)).map(|(at, _)| *at).collect();
        let within = |from: &Timestamp| counted.iter().filter(|at| *at >= from && **at < from.plus(window)).count();
        counted.iter().all(|from| within(from) <= limit as usize)
    }
}
