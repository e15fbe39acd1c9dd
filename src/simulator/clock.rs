//! The simulator's calendar: runs from wherever it is set, or stands still.

use std::sync::Mutex;
use std::time::Instant;

/// Microseconds since 1970.
pub(super) type Micros = i64;

pub(super) struct SimulatedClock(Mutex<State>);

struct State {
    base: Micros,
    since: Instant,
    frozen: bool,
}

impl SimulatedClock {
    pub(super) fn start(now: Option<&str>) -> Result<Self, String> {
        let base = match now {
            Some(text) => parse(text)?,
            None => jiff::Timestamp::now().as_microsecond(),
        };
        Ok(SimulatedClock(Mutex::new(State { base, since: Instant::now(), frozen: false })))
    }

    pub(super) fn now(&self) -> Micros {
        super::lock(&self.0).now()
    }

    pub(super) fn set(&self, now: Micros) {
        let mut state = super::lock(&self.0);
        (state.base, state.since) = (now, Instant::now());
    }

    pub(super) fn freeze(&self, frozen: bool) {
        let mut state = super::lock(&self.0);
        (state.base, state.since, state.frozen) = (state.now(), Instant::now(), frozen);
    }

    pub(super) fn is_frozen(&self) -> bool {
        super::lock(&self.0).frozen
    }
}

impl State {
    fn now(&self) -> Micros {
        if self.frozen { self.base } else { self.base + self.since.elapsed().as_micros() as Micros }
    }
}

pub(super) fn parse(text: &str) -> Result<Micros, String> {
    text.parse::<jiff::Timestamp>()
        .map(jiff::Timestamp::as_microsecond)
        .map_err(|_| format!("{text:?} is not an RFC 3339 time such as 2026-11-23T10:00:00Z"))
}

pub(super) fn rfc3339(micros: Micros) -> String {
    jiff::Timestamp::from_microsecond(micros).map(|t| t.to_string()).unwrap_or_default()
}

/// Whole seconds, as both platforms state creation times.
pub(super) fn seconds(micros: Micros) -> i64 {
    micros.div_euclid(1_000_000)
}
