//! The pace of one account: a reserving sliding log for each limit, plain data and pure steps in time.
//!
//! Each request is given the moment at which it may go, and none is promised a moment that would break a limit. A
//! token bucket of N per window lets up to 2N − 1 requests into one window; Moonshot's lowest tier has N = 3.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::model::Operation;

/// Moments that processes note out of order differ by less than this; more is a clock set back.
const CLOCK_STEP: Duration = Duration::from_secs(5);

/// At most `requests` in any `window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub requests: u32,
    pub window: Duration,
}

impl Rate {
    pub fn per_minute(requests: u32) -> Self {
        Rate { requests, window: Duration::from_secs(60) }
    }

    /// The window plus what requests may bunch up by on their way: leaving in time is not arriving in time.
    fn guarded_window(self) -> Duration {
        self.window + (self.window / 120).max(Duration::from_millis(50))
    }
}

/// The rates of one account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of requests of every kind.
    pub requests: Option<Rate>,
    /// Of uploads alone, on top of `requests`.
    pub uploads: Option<Rate>,
}

/// The turns given out lately.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    requests: Log,
    uploads: Log,
    paused_until: Option<Timestamp>,
    /// The latest moment anyone came.
    seen_at: Timestamp,
}

/// The latest turns of one limit, oldest first; at most as many as the rate allows in a window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Log(VecDeque<Timestamp>);

impl Pace {
    /// The moment at which a request may go; or how long until one could, when that is past `latest`. Nothing is
    /// reserved then, of either limit.
    pub fn reserve(
        &mut self,
        rates: &Rates,
        operation: Operation,
        now: Timestamp,
        latest: Timestamp,
    ) -> Result<Timestamp, Duration> {
        let uploads = rates.uploads.filter(|_| operation == Operation::Upload);
        self.heal(now);
        let free = self.paused_until.map_or(now, |until| until.max(now));
        let turn = free.max(self.requests.next(rates.requests)).max(self.uploads.next(uploads));
        if turn > latest {
            return Err(turn.since(now));
        }
        self.requests.note(rates.requests, turn);
        self.uploads.note(uploads, turn);
        Ok(turn)
    }

    /// Holds everyone up until `until`, if that is later than any earlier pause.
    pub fn pause_until(&mut self, until: Timestamp) {
        self.paused_until = Some(self.paused_until.map_or(until, |earlier| earlier.max(until)));
    }

    /// A clock that was set back takes everything it had measured back with it.
    fn heal(&mut self, now: Timestamp) {
        let back = self.seen_at.since(now);
        if back > CLOCK_STEP {
            let moments = self.requests.0.iter_mut().chain(&mut self.uploads.0).chain(&mut self.paused_until);
            moments.for_each(|moment| *moment = moment.minus(back));
            self.seen_at = now;
        }
        self.seen_at = self.seen_at.max(now);
    }
}

impl Log {
    /// The first moment that breaks no limit.
    fn next(&self, rate: Option<Rate>) -> Timestamp {
        let Some(rate) = rate else { return Timestamp(i64::MIN) };
        let is_full = self.0.len() >= rate.requests as usize;
        let oldest = self.0.front().filter(|_| is_full);
        oldest.map_or(Timestamp(i64::MIN), |oldest| oldest.plus(rate.guarded_window()))
    }

    fn note(&mut self, rate: Option<Rate>, turn: Timestamp) {
        let Some(rate) = rate else { return };
        self.0.push_back(turn);
        while self.0.len() > rate.requests as usize {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp(1_800_000_000_000_000);
    const FAR: Timestamp = Timestamp(i64::MAX);

    fn after(millis: u64) -> Timestamp {
        START.plus(Duration::from_millis(millis))
    }

    fn requests(rate: Rate) -> Rates {
        Rates { requests: Some(rate), uploads: None }
    }

    #[test]
    fn a_full_window_waits_for_its_oldest_request() {
        let (mut pace, rates) = (Pace::default(), requests(Rate::per_minute(3)));
        let turns: Vec<_> = (0..4).map(|_| pace.reserve(&rates, Operation::List, START, FAR).unwrap()).collect();
        assert_eq!(turns, [START, START, START, after(60_500)]);
    }

    #[test]
    fn no_hope_before_the_deadline_is_said_at_once_and_reserves_nothing() {
        let (mut pace, rates) = (Pace::default(), requests(Rate::per_minute(1)));
        pace.reserve(&rates, Operation::List, START, FAR).unwrap();
        let hopeless = pace.reserve(&rates, Operation::List, START, after(5_000));
        assert_eq!(hopeless, Err(Duration::from_millis(60_500)));
        assert_eq!(pace.reserve(&rates, Operation::List, START, FAR), Ok(after(60_500)));
    }

    #[test]
    fn an_upload_that_has_no_turn_takes_none_of_other_requests() {
        let rates = Rates { requests: Some(Rate::per_minute(2)), uploads: Some(Rate::per_minute(1)) };
        let mut pace = Pace::default();
        pace.reserve(&rates, Operation::Upload, START, FAR).unwrap();
        pace.reserve(&rates, Operation::Upload, START, after(1_000)).unwrap_err();
        assert_eq!(pace.reserve(&rates, Operation::List, START, after(1_000)), Ok(START));
    }

    #[test]
    fn a_pause_holds_everyone_up() {
        let mut pace = Pace::default();
        pace.pause_until(after(19_000));
        pace.pause_until(after(7_000));
        assert_eq!(pace.reserve(&Rates::default(), Operation::Get, START, FAR), Ok(after(19_000)));
    }

    #[test]
    fn a_clock_set_back_an_hour_lets_nobody_wait_longer() {
        let (mut pace, rates) = (Pace::default(), requests(Rate::per_minute(2)));
        let later = START.plus(Duration::from_secs(3_600));
        for _ in 0..2 {
            pace.reserve(&rates, Operation::List, later, FAR).unwrap();
        }
        pace.pause_until(later.plus(Duration::from_secs(3)));
        assert_eq!(pace.reserve(&rates, Operation::List, START, FAR), Ok(after(60_500)));
    }

    proptest! {
        /// In any window there are at most N turns, and a turn is never later than it has to be.
        #[test]
        fn every_turn_is_exact(limit in 1u32..8, gaps in prop::collection::vec(0u64..40_000, 1..60)) {
            let rate = Rate::per_minute(limit);
            let (mut pace, mut now, mut turns) = (Pace::default(), START, Vec::<Timestamp>::new());
            for gap in gaps {
                now = now.plus(Duration::from_millis(gap));
                let earliest = turns.len().checked_sub(limit as usize)
                    .map_or(now, |nth| turns[nth].plus(rate.guarded_window()).max(now));
                let turn = pace.reserve(&requests(rate), Operation::List, now, FAR).unwrap();
                prop_assert_eq!(turn, earliest);
                turns.push(turn);
            }
        }
    }
}
