//! How long to pause before the next attempt, and whether there is one.

use std::time::Duration;

use rand::Rng as _;

use crate::error::{Error, Retry};

/// An overloaded platform is given this many times the ordinary pause.
const SLOW_FACTOR: u32 = 4;

/// Full jitter under a doubling ceiling: 1, 2, 4, 8, 16 s with the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included.
    pub max_attempts: u32,
    /// Ceiling of the first pause.
    pub base: Duration,
    /// Ceiling of every pause.
    pub cap: Duration,
    /// Retries that all processes together may add to their requests, in percent; from 100 on, any number.
    pub budget: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy { max_attempts: 5, base: Duration::from_secs(1), cap: Duration::from_secs(16), budget: 10 }
    }
}

impl RetryPolicy {
    /// The pause after failed attempt `number` (from 1), or `None` when repeating is over.
    ///
    /// What the platform asked for beats the jitter, and is never shortened.
    pub fn pause(&self, number: u32, error: &Error) -> Option<Duration> {
        let attempts = match error.retry() {
            Retry::Never => return None,
            Retry::Once => 2,
            Retry::Yes | Retry::Slowly | Retry::Afresh => self.max_attempts,
        };
        if number >= attempts.min(self.max_attempts) {
            return None;
        }
        if error.retry() == Retry::Afresh {
            return Some(Duration::ZERO);
        }
        let jittered = rand::rng().random_range(Duration::ZERO..=self.ceiling(number, error.retry()));
        Some(error.retry_after().map_or(jittered, |asked| asked + jittered.min(self.base)))
    }

    fn ceiling(&self, number: u32, retry: Retry) -> Duration {
        let factor = if retry == Retry::Slowly { SLOW_FACTOR } else { 1 };
        let doublings = 1u32.checked_shl(number.saturating_sub(1)).unwrap_or(u32::MAX);
        self.base.saturating_mul(doublings).saturating_mul(factor).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn failing(retry: Retry, after: Option<Duration>) -> Error {
        Error::new(ErrorKind::Unavailable, "down").with_retry(retry, after)
    }

    #[test]
    fn pauses_lie_under_one_two_four_eight_sixteen_seconds() {
        let policy = RetryPolicy { max_attempts: 9, ..RetryPolicy::default() };
        for (number, ceiling) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 16), (8, 16)] {
            for _ in 0..200 {
                let pause = policy.pause(number, &failing(Retry::Yes, None)).unwrap();
                assert!(pause <= Duration::from_secs(ceiling), "attempt {number}: {pause:?}");
            }
        }
    }

    #[test]
    fn pauses_are_spread_over_the_whole_range() {
        let policy = RetryPolicy::default();
        let mean = (0..4_000).map(|_| policy.pause(3, &failing(Retry::Yes, None)).unwrap().as_secs_f64()).sum::<f64>()
            / 4_000.0;
        assert!((1.8..2.2).contains(&mean), "the mean of full jitter under 4 s is 2 s, not {mean}");
    }

    #[test]
    fn what_the_platform_asks_for_is_never_shortened() {
        let asked = Duration::from_secs(19);
        let pause = RetryPolicy::default().pause(1, &failing(Retry::Yes, Some(asked))).unwrap();
        assert!(pause >= asked && pause <= asked + Duration::from_secs(1));
    }

    #[test]
    fn attempts_end() {
        let policy = RetryPolicy::default();
        assert!(policy.pause(4, &failing(Retry::Yes, None)).is_some());
        assert!(policy.pause(5, &failing(Retry::Yes, None)).is_none());
        assert!(policy.pause(1, &failing(Retry::Once, None)).is_some());
        assert!(policy.pause(2, &failing(Retry::Once, None)).is_none());
        assert!(policy.pause(1, &failing(Retry::Never, None)).is_none());
        assert_eq!(policy.pause(2, &failing(Retry::Afresh, None)), Some(Duration::ZERO));
    }
}
