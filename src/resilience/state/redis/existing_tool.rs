//! Circuit breakers under the key and in the JSON of the existing EXAI tool (dropin_contract.md §1.4), for as long as
//! old and new processes run side by side.
//!
//! Each side keeps a state of its own and follows the other's transitions: the tool's JSON has no room for generations
//! and leases. Which of two transitions is later is told by their times, so clocks must agree as NTP makes them.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::resilience::circuit_breaker::{BreakerState, CircuitBreaker};

/// How long the tool lets a breaker's state live, in seconds.
pub(super) const LIFE: u64 = 86_400;

/// The wait that stands for "until an operator closes it": ten years, in seconds.
const FOR_GOOD: f64 = 315_360_000.0;

/// Times are seconds since 1970, the time-out seconds.
#[derive(Debug, Serialize, Deserialize)]
struct ToolBreaker {
    state: String,
    failures: u32,
    successes: u32,
    last_failure_time: Option<f64>,
    last_state_change: f64,
    timeout: f64,
    half_open_calls: u32,
}

/// The tool's key for a breaker of ours: it has one for each provider, which guards uploads, and those with names of
/// their own.
pub(super) fn breaker_key(key: &str) -> Option<String> {
    let name = match key.strip_prefix("breaker/")? {
        "moonshot/default/upload" => "provider_kimi",
        "zai/default/upload" => "provider_glm",
        name if name.contains('/') => return None,
        name => name,
    };
    Some(format!("circuit_breaker:{name}"))
}

/// Our state after what the tool did, if it did anything since.
pub(super) fn heard(ours: &str, theirs: &str) -> Option<String> {
    let theirs: ToolBreaker = serde_json::from_str(theirs).ok()?;
    let mut circuit: CircuitBreaker = if ours.is_empty() { CircuitBreaker::default() } else { parsed(ours)? };
    let (state, changed_at) = (theirs.state()?, timestamp(theirs.last_state_change));
    let is_news = state != seen_as(circuit.state()) && changed_at.0 > i64::try_from(circuit.generation()).ok()?;
    let until = timestamp(theirs.last_failure_time.unwrap_or(theirs.last_state_change) + theirs.timeout);
    (is_news && circuit.follow(state, changed_at, until)).then(|| serde_json::to_string(&circuit).ok()).flatten()
}

/// What the tool is to see of a state of ours, if that is another transition than it knows.
pub(super) fn told(ours: &str, theirs: &str) -> Option<String> {
    let circuit = parsed(ours)?;
    let known: Option<ToolBreaker> = serde_json::from_str(theirs).ok();
    let is_known = known.is_some_and(|known| {
        known.state() == Some(seen_as(circuit.state())) && known.last_state_change >= seconds(changed_at(&circuit))
    });
    if is_known || circuit.generation() == 0 {
        return None;
    }
    let changed_at = changed_at(&circuit);
    let wait = circuit.open_until().map(|until| seconds(until) - seconds(changed_at));
    let told = ToolBreaker {
        state: word(seen_as(circuit.state())).to_owned(),
        failures: circuit.tally().failures,
        successes: 0,
        last_failure_time: (seen_as(circuit.state()) == BreakerState::Open).then(|| seconds(changed_at)),
        last_state_change: seconds(changed_at),
        // The tool counts whole seconds.
        timeout: wait.unwrap_or(if circuit.state() == BreakerState::ForcedOpen { FOR_GOOD } else { 60.0 }).ceil(),
        half_open_calls: 0,
    };
    serde_json::to_string(&told).ok()
}

impl ToolBreaker {
    fn state(&self) -> Option<BreakerState> {
        let all = [BreakerState::Closed, BreakerState::Open, BreakerState::HalfOpen];
        all.into_iter().find(|state| word(*state) == self.state)
    }
}

fn parsed(ours: &str) -> Option<CircuitBreaker> {
    serde_json::from_str(ours).ok()
}

/// The tool knows three states.
fn seen_as(state: BreakerState) -> BreakerState {
    match state {
        BreakerState::ForcedOpen => BreakerState::Open,
        BreakerState::Disabled | BreakerState::MetricsOnly => BreakerState::Closed,
        automatic => automatic,
    }
}

fn word(state: BreakerState) -> &'static str {
    match state {
        BreakerState::Open => "OPEN",
        BreakerState::HalfOpen => "HALF_OPEN",
        _ => "CLOSED",
    }
}

/// A generation begins at its number, in µs since 1970.
fn changed_at(circuit: &CircuitBreaker) -> Timestamp {
    Timestamp(i64::try_from(circuit.generation()).unwrap_or(i64::MAX))
}

fn timestamp(seconds: f64) -> Timestamp {
    #[expect(clippy::cast_possible_truncation, reason = "a float too large for it saturates")]
    Timestamp((seconds * 1e6) as i64)
}

fn seconds(at: Timestamp) -> f64 {
    at.0 as f64 / 1e6
}
