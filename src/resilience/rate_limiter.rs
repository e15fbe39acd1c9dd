//! A reserving sliding log: each request is given the moment at which it may go, and none is promised a moment
//! that would break the limit.
//!
//! A token bucket of N per window lets up to 2N − 1 requests into one window; Moonshot's lowest tier has N = 3.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

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

#[derive(Debug)]
pub struct RateLimiter {
    rate: Option<Rate>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The latest moments given out, oldest first; at most `rate.requests`.
    turns: VecDeque<Instant>,
    paused_until: Option<Instant>,
}

impl RateLimiter {
    /// Without a rate only pauses hold anyone up.
    pub fn new(rate: Option<Rate>) -> Self {
        RateLimiter { rate: rate.filter(|rate| rate.requests > 0), state: Mutex::default() }
    }

    /// The moment at which one request may go, not before `earliest`; or how long until one could when that is past
    /// the deadline (nothing is reserved then).
    pub fn reserve(&self, earliest: Instant, deadline: Instant) -> Result<Instant, Duration> {
        let mut state = self.state();
        let turn = self.turn(&state, earliest, deadline)?;
        if let Some(rate) = self.rate {
            state.turns.push_back(turn);
            while state.turns.len() > rate.requests as usize {
                state.turns.pop_front();
            }
        }
        Ok(turn)
    }

    /// As [`reserve`](Self::reserve), from now on, and reserving nothing.
    pub fn next(&self, deadline: Instant) -> Result<Instant, Duration> {
        self.turn(&self.state(), Instant::now(), deadline)
    }

    fn turn(&self, state: &State, earliest: Instant, deadline: Instant) -> Result<Instant, Duration> {
        let now = Instant::now();
        let mut turn = state.paused_until.map_or(earliest, |until| until.max(earliest)).max(now);
        if let Some(rate) = self.rate {
            let full = state.turns.len() >= rate.requests as usize;
            if let Some(oldest) = state.turns.front().filter(|_| full) {
                turn = turn.max(*oldest + rate.guarded_window());
            }
        }
        if turn > deadline { Err(turn - now) } else { Ok(turn) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Holds everyone up until `until`, if that is later than any earlier pause.
    pub fn pause_until(&self, until: Instant) {
        let mut state = self.state();
        state.paused_until = Some(state.paused_until.map_or(until, |earlier| earlier.max(until)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(1_000_000)
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_window_waits_for_its_oldest_request() {
        let limiter = RateLimiter::new(Some(Rate::per_minute(3)));
        let start = Instant::now();
        let turns: Vec<_> = (0..4).map(|_| limiter.reserve(Instant::now(), far()).unwrap() - start).collect();
        assert_eq!(turns[..3], [Duration::ZERO; 3]);
        assert_eq!(turns[3], Duration::from_millis(60_500));
    }

    #[tokio::test(start_paused = true)]
    async fn no_hope_before_the_deadline_is_said_at_once_and_reserves_nothing() {
        let limiter = RateLimiter::new(Some(Rate::per_minute(1)));
        limiter.reserve(Instant::now(), far()).unwrap();
        let soon = Instant::now() + Duration::from_secs(5);
        assert_eq!(limiter.reserve(Instant::now(), soon), Err(Duration::from_millis(60_500)));
        assert_eq!(limiter.reserve(Instant::now(), far()).unwrap() - Instant::now(), Duration::from_millis(60_500));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_everyone_up() {
        let limiter = RateLimiter::new(None);
        let until = Instant::now() + Duration::from_secs(19);
        limiter.pause_until(until);
        assert_eq!(limiter.reserve(Instant::now(), far()), Ok(until));
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_may_be_asked_for_from_a_later_moment_on() {
        let limiter = RateLimiter::new(Some(Rate::per_minute(1)));
        let later = Instant::now() + Duration::from_secs(7);
        assert_eq!(limiter.reserve(later, far()), Ok(later));
        assert_eq!(limiter.next(far()), Ok(later + Duration::from_millis(60_500)));
        assert_eq!(limiter.next(far()), Ok(later + Duration::from_millis(60_500)), "asking reserves nothing");
    }

    proptest! {
        /// In any window there are at most N turns, and a turn is never later than it has to be.
        #[test]
        fn every_turn_is_exact(limit in 1u32..8, gaps in prop::collection::vec(0u64..40_000, 1..60)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let rate = Rate::per_minute(limit);
                let limiter = RateLimiter::new(Some(rate));
                let mut turns: Vec<Instant> = Vec::new();
                for gap in gaps {
                    tokio::time::advance(Duration::from_millis(gap)).await;
                    let earliest = turns.len().checked_sub(limit as usize)
                        .map_or(Instant::now(), |nth| (turns[nth] + rate.guarded_window()).max(Instant::now()));
                    let turn = limiter.reserve(Instant::now(), far()).unwrap();
                    assert_eq!(turn, earliest);
                    turns.push(turn);
                }
            });
        }
    }
}
