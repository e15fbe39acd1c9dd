//! How much repeating one account can bear: a bucket of tokens in this process, and a share of the requests of all.
//!
//! Back-off spreads retries; only a budget bounds them. During an outage every request would be sent several times.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::state::SharedState;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind};

/// A full bucket, and what a retry takes from it; a success gives back one. (The AWS SDKs' figures.)
const FULL: u32 = 500;
const COST: u32 = 14;
const COST_OF_THROTTLED: u32 = 5;

/// The requests that the share is of.
const WINDOW: Duration = Duration::from_secs(120);
const PARTS: i64 = 10;

/// So many retries within the window are always allowed: few requests say little.
const ALWAYS: u32 = 30;

/// How long this process' counts may wait to be told.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// Requests and retries of the latest two minutes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spending(VecDeque<(i64, Counts)>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub requests: u32,
    pub retries: u32,
}

impl Spending {
    pub fn add(&mut self, now: Timestamp, counts: Counts) {
        let part = now.0.div_euclid(i64::try_from(WINDOW.as_micros()).unwrap_or(i64::MAX) / PARTS);
        // One from the future is from before the clock was set back.
        self.0.retain(|(other, _)| *other > part - PARTS && *other <= part);
        match self.0.back_mut().filter(|(last, _)| *last == part) {
            Some((_, sum)) => *sum = sum.plus(counts),
            None => self.0.push_back((part, counts)),
        }
    }

    pub fn total(&self) -> Counts {
        self.0.iter().fold(Counts::default(), |sum, (_, counts)| sum.plus(*counts))
    }
}

impl Counts {
    fn plus(self, other: Counts) -> Self {
        Counts { requests: self.requests + other.requests, retries: self.retries + other.retries }
    }
}

/// What is left of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BudgetHealth {
    /// Of this process.
    pub tokens: u32,
    /// Of all processes, within two minutes.
    pub requests: u32,
    pub retries: u32,
}

#[derive(Debug)]
pub(super) struct RetryBudget {
    key: String,
    /// Of requests, in percent; from 100 on, anything goes.
    percent: u32,
    shared: SharedState,
    own: Arc<Mutex<Own>>,
}

#[derive(Debug)]
struct Own {
    tokens: u32,
    untold: Counts,
    told_at: Instant,
    /// Of all, as it was told last.
    spending: Spending,
    seen: Counts,
}

impl RetryBudget {
    pub(super) fn new(key: String, percent: u32, shared: SharedState) -> Self {
        let own = Own {
            tokens: FULL,
            untold: Counts::default(),
            told_at: Instant::now(),
            spending: Spending::default(),
            seen: Counts::default(),
        };
        RetryBudget { key, percent, shared, own: Arc::new(Mutex::new(own)) }
    }

    /// Counts a request, before it is sent.
    pub(super) fn count(&self) {
        self.own().untold.requests += 1;
        self.tell();
    }

    pub(super) fn succeeded(&self) {
        let mut own = self.own();
        own.tokens = (own.tokens + 1).min(FULL);
    }

    /// Whether a failed request may be repeated; if so, it is paid for.
    pub(super) fn allows(&self, error: &Error) -> bool {
        let cost = if error.kind() == ErrorKind::RateLimited { COST_OF_THROTTLED } else { COST };
        let mut own = self.own();
        let counts = own.seen.plus(own.untold);
        let share = u64::from(counts.requests) * u64::from(self.percent) / 100;
        let is_within = u64::from(counts.retries) < share.max(u64::from(ALWAYS));
        if self.percent < 100 && (own.tokens < cost || !is_within) {
            return false;
        }
        own.tokens = own.tokens.saturating_sub(cost);
        own.untold.retries += 1;
        true
    }

    pub(super) fn health(&self) -> BudgetHealth {
        let own = self.own();
        let counts = own.seen.plus(own.untold);
        BudgetHealth { tokens: own.tokens, requests: counts.requests, retries: counts.retries }
    }

    /// Nobody waits for it: until it is told, a process goes by what it knows.
    fn tell(&self) {
        let untold = {
            let mut own = self.own();
            if own.told_at.elapsed() < TOLD_WITHIN {
                return;
            }
            own.told_at = Instant::now();
            own.seen = own.seen.plus(own.untold);
            std::mem::take(&mut own.untold)
        };
        let (own, shared, key) = (self.own.clone(), self.shared.clone(), self.key.clone());
        self.shared.later(async move {
            let told = shared.update(&key, move |spending: &mut Spending, now| spending.add(now, untold)).await;
            let mut own = own.lock().unwrap_or_else(PoisonError::into_inner);
            match told {
                Ok(((), spending)) => own.spending = spending,
                Err(_) => own.spending.add(shared.now(), untold),
            }
            own.seen = own.spending.total();
        });
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
