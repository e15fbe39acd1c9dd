//! Requests of one account in flight, of all processes together.
//!
//! Each has a lease, so that the room of a process that died is free again. While the state cannot be reached, a
//! process has its part of the rooms.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::state::SharedState;
use crate::clock::Timestamp;

/// How long a request outlives a process that died.
const LEASE: Duration = Duration::from_secs(15);

/// Pauses between two looks for a free room.
const POLL: std::ops::RangeInclusive<u64> = 5..=250;

/// Who is in, until when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Leases(BTreeMap<u64, Timestamp>);

impl Leases {
    /// Lets one in, if there is room for it; who is in already stays for longer.
    pub fn enter(&mut self, token: u64, rooms: u32, now: Timestamp) -> bool {
        // One that ends later than a lease lasts is from before the clock was set back.
        self.0.retain(|_, until| *until > now && *until <= now.plus(LEASE * 2));
        let fits = self.0.contains_key(&token) || self.0.len() < rooms as usize;
        if fits {
            self.0.insert(token, now.plus(LEASE));
        }
        fits
    }

    pub fn leave(&mut self, token: u64) {
        self.0.remove(&token);
    }
}

#[derive(Debug)]
pub(super) struct Rooms {
    key: String,
    /// `None`: as many as each process likes.
    limit: Option<u32>,
    shared: SharedState,
    /// Rooms that this process has.
    own: Arc<AtomicU32>,
}

/// One room; free again when dropped.
#[derive(Debug)]
pub(super) struct Room {
    key: String,
    token: u64,
    shared: SharedState,
    own: Arc<AtomicU32>,
    keeping: AbortHandle,
}

impl Rooms {
    pub(super) fn new(key: String, limit: Option<u32>, shared: SharedState) -> Self {
        Rooms { key, limit: limit.map(|limit| limit.max(1)), shared, own: Arc::default() }
    }

    /// Waits for a room; `None` when none is needed.
    ///
    /// # Errors
    /// None was free before the deadline.
    pub(super) async fn enter(&self, deadline: Instant) -> Result<Option<Room>, Full> {
        let Some(limit) = self.limit else { return Ok(None) };
        let room = self.room(limit);
        for number in 0_u32.. {
            if self.fits(room.token, limit).await {
                return Ok(Some(room));
            }
            let longest = (POLL.start() << number.min(16)).min(*POLL.end());
            let pause = Duration::from_millis(rand::random_range(*POLL.start()..=longest));
            if Instant::now() + pause >= deadline {
                return Err(Full);
            }
            sleep(pause).await;
        }
        Err(Full)
    }

    async fn fits(&self, token: u64, limit: u32) -> bool {
        let entering = self.shared.update(&self.key, move |leases: &mut Leases, now| leases.enter(token, limit, now));
        match entering.await {
            Ok((fits, _)) => fits,
            Err(error) => {
                tracing::debug!(%error, "an account's rooms could not be shared");
                self.own.load(Ordering::Relaxed) <= (limit / self.shared.processes()).max(1)
            }
        }
    }

    /// Made before it is had: a caller that is cancelled meanwhile gives it back all the same.
    fn room(&self, limit: u32) -> Room {
        let (key, token, shared) = (self.key.clone(), rand::random(), self.shared.clone());
        let (kept_key, kept) = (key.clone(), shared.clone());
        let keeping = tokio::spawn(async move {
            loop {
                sleep(LEASE / 3).await;
                let renewing = kept.update(&kept_key, move |leases: &mut Leases, now| leases.enter(token, limit, now));
                let _ = renewing.await;
            }
        });
        self.own.fetch_add(1, Ordering::Relaxed);
        Room { key, token, shared, own: self.own.clone(), keeping: keeping.abort_handle() }
    }
}

/// No room was free in time.
#[derive(Debug)]
pub(super) struct Full;

impl Drop for Room {
    fn drop(&mut self) {
        self.keeping.abort();
        self.own.fetch_sub(1, Ordering::Relaxed);
        let token = self.token;
        self.shared.update_soon(&self.key, move |leases: &mut Leases, _| leases.leave(token));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_full_until_one_leaves_or_its_lease_ends() {
        let (mut leases, start) = (Leases::default(), Timestamp::from_unix_seconds(1_800_000_000));
        assert!(leases.enter(1, 2, start) && leases.enter(2, 2, start));
        assert!(!leases.enter(3, 2, start));
        assert!(leases.enter(2, 2, start.plus(LEASE / 2)), "who is in stays");
        assert!(leases.enter(3, 2, start.plus(LEASE)), "the lease of 1 has ended");
        leases.leave(3);
        assert!(leases.enter(4, 2, start.plus(LEASE)));
        let back = start.minus(Duration::from_secs(3_600));
        assert!(leases.enter(5, 1, back), "a clock set back keeps nobody in");
    }
}
