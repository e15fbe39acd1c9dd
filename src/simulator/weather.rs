//! What the connections of a fault proxy go through, as data, and how it strikes each of them.

use std::time::Duration;

use tokio::time::Instant;

use super::faults::Side;
use super::ids::Random;

/// Limited bandwidth moves in slices of this length, and makes up for a timer that is late by no more.
const SLICES_PER_SECOND: u64 = 20;
const SLICE: Duration = Duration::from_millis(1_000 / SLICES_PER_SECOND);

/// What connections go through. The default is a clear sky: bytes pass untouched.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weather {
    /// Share of new connections that are reset at once, from 0 to 1.
    pub refused: f64,
    /// Connections that break in the middle.
    pub resets: Option<Resets>,
    /// Nothing moves, in either direction; what was held goes on its way afterwards.
    pub stalled: bool,
    /// Bytes come in drops.
    pub drip: Option<Drip>,
    /// A connection's response ends after so many bytes, as if the server had closed. Shorter ones are untouched.
    pub response_ends_after: Option<u64>,
    /// Of each connection; 0: no limit.
    pub request_bytes_per_second: u64,
    /// Of each connection; 0: no limit.
    pub response_bytes_per_second: u64,
    /// What every byte takes for one way.
    pub latency: Duration,
}

impl Weather {
    fn bytes_per_second(&self, side: Side) -> u64 {
        match side {
            Side::Request => self.request_bytes_per_second,
            Side::Response => self.response_bytes_per_second,
        }
    }

    pub(super) fn most_at_once(&self, side: Side) -> u64 {
        let drop = self.drip.map_or(u64::MAX, |drip| drip.bytes as u64);
        let slice = self.bytes_per_second(side) / SLICES_PER_SECOND;
        if self.bytes_per_second(side) == 0 { drop.max(1) } else { drop.min(slice).max(1) }
    }

    /// When the next bytes may pass, if these did now and might since `free`.
    pub(super) fn free_after(&self, bytes: usize, side: Side, free: Instant, now: Instant) -> Instant {
        let seconds = match self.bytes_per_second(side) {
            0 => 0.0,
            rate => bytes as f64 / rate as f64,
        };
        let begun = if free + SLICE < now { now } else { free };
        let pause = self.drip.map_or(Duration::ZERO, |drip| drip.pause);
        (begun + Duration::from_secs_f64(seconds)).max(now + pause)
    }
}

/// Connections that are reset, on both sides, in place of a byte that the seed chooses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resets {
    /// Of all connections, from 0 to 1.
    pub share: f64,
    /// The byte is one of the first so many that the connection carries on the way `of`.
    pub within: u64,
    pub of: Side,
}

/// So many bytes at a time, with a pause after each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drip {
    pub bytes: usize,
    pub pause: Duration,
}

/// Three throws of the dice, each in [0, 1). The weather says what they mean.
#[derive(Clone, Copy)]
pub(super) struct Fate {
    refusal: f64,
    reset: f64,
    place: f64,
}

impl Fate {
    pub(super) fn of(seed: u64, number: u64) -> Fate {
        // The seed is mixed first: (1, 2) and (2, 1) are different fates.
        let mut random = Random::new(Random::new(seed).next() ^ number);
        Fate { refusal: random.fraction(), reset: random.fraction(), place: random.fraction() }
    }

    pub(super) fn is_refused(self, weather: &Weather) -> bool {
        self.refusal < weather.refused
    }

    pub(super) fn reset_at(self, weather: &Weather, side: Side) -> Option<u64> {
        let resets = weather.resets.filter(|resets| resets.of == side && self.reset < resets.share)?;
        Some((self.place * resets.within as f64) as u64)
    }
}
