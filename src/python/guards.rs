//! Circuit breakers and rate limits for a user's own calls.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use serde_json::json;

use super::convert::Answer;
use super::errors::raise;
use super::pending::Pending;
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Operation, Secret};
use crate::resilience::{
    Ask, Breaker, BreakerPermit, BreakerSettings, Database, Lane, Memory, Mode, Outcome, Rate, RateLimiter, Rates,
    Redis, RedisOptions, SharedState, Window,
};
use crate::store::{Location, Store};

/// A year; what is meant to be longer is a mistake.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// Where breakers and limits keep what they know.
#[pyclass(frozen, weakref, module = "exai_files._core")]
pub(super) struct State(SharedState);

#[pymethods]
impl State {
    /// In a Redis, in an SQLite file, or (with neither) in this process' memory.
    #[new]
    #[pyo3(signature = (*, url, path, namespace, existing_tool_keys))]
    fn new(
        py: Python<'_>,
        url: Option<&str>,
        path: Option<PathBuf>,
        namespace: String,
        existing_tool_keys: bool,
    ) -> PyResult<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let opened = py.detach(|| match (url, path) {
            (Some(url), _) => {
                let timeout = Duration::from_millis(40);
                let url = Secret::new(url);
                let options = RedisOptions { url, namespace, ca_bundle: None, timeout, existing_tool_keys };
                Ok(SharedState::new(Redis::new(&options)?))
            }
            (None, Some(path)) => {
                Ok(SharedState::new(Database::new(Store::open(&Location::file(path), clock.now())?, clock)))
            }
            (None, None) => Ok(SharedState::new(Memory::new(clock))),
        });
        opened.map(State).map_err(|error: Error| raise(py, &error))
    }
}

/// Leave to make one call; taken by the one who tells how it ended.
#[pyclass(frozen, module = "exai_files._core")]
pub(super) struct Permit {
    permit: Mutex<Option<BreakerPermit>>,
    begun: Instant,
}

impl Permit {
    pub(super) fn new(permit: BreakerPermit) -> Self {
        Permit { permit: Mutex::new(Some(permit)), begun: Instant::now() }
    }

    fn take(&self) -> Option<BreakerPermit> {
        self.permit.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
    }
}

#[pyclass(frozen, module = "exai_files._core")]
pub(super) struct CircuitBreaker(Arc<Breaker>);

#[pymethods]
impl CircuitBreaker {
    #[new]
    #[pyo3(signature = (name, state, *, calls, seconds, minimum_calls, failure_rate, slow_rate, slow_call, wait, wait_factor, wait_cap, probes, successes_to_close, probe_lease))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of one call, named on both sides")]
    fn new(
        py: Python<'_>,
        name: String,
        state: &State,
        calls: Option<u32>,
        seconds: f64,
        minimum_calls: u32,
        failure_rate: u32,
        slow_rate: u32,
        slow_call: f64,
        wait: f64,
        wait_factor: f64,
        wait_cap: f64,
        probes: u32,
        successes_to_close: u32,
        probe_lease: f64,
    ) -> PyResult<Self> {
        let settings = || {
            let seconds = span("seconds", seconds)?;
            Ok(BreakerSettings {
                window: match calls {
                    Some(calls) => Window::Calls(positive("calls", calls)?),
                    None => Window::Time(seconds),
                },
                minimum_calls: positive("minimum_calls", minimum_calls)?,
                failure_rate: percent("failure_rate", failure_rate)?,
                slow_rate: percent("slow_rate", slow_rate)?,
                slow_call: span("slow_call", slow_call)?,
                wait: span("wait", wait)?,
                wait_factor: match wait_factor {
                    factor if (1.0..=100.0).contains(&factor) => factor,
                    factor => return Err(wrong(format!("wait_factor cannot be {factor}"), "give 1 to 100")),
                },
                wait_cap: span("wait_cap", wait_cap)?,
                probes: positive("probes", probes)?,
                successes_to_close: match successes_to_close {
                    needed if (1..=probes).contains(&needed) => needed,
                    needed => {
                        return Err(wrong(
                            format!("successes_to_close cannot be {needed}"),
                            "give 1 to `probes`, or it would never close",
                        ));
                    }
                },
                probe_lease: span("probe_lease", probe_lease)?,
            })
        };
        if name.is_empty() {
            return Err(raise(
                py,
                &wrong("a circuit breaker needs a name".into(), "those with the same name share it"),
            ));
        }
        let settings = settings().map_err(|error| raise(py, &error))?;
        Ok(CircuitBreaker(Arc::new(Breaker::new(name, settings, state.0.clone()))))
    }

    /// A permit, a refusal, or None when others must be asked first: then `permit()`.
    fn permit_at_hand(&self, py: Python<'_>) -> PyResult<Option<Permit>> {
        self.0.permit_at_hand().transpose().map(|permit| permit.map(Permit::new)).map_err(|error| raise(py, &error))
    }

    fn permit(&self) -> Pending {
        let breaker = self.0.clone();
        Pending::new(async move { Ok(Answer::Permit(breaker.permit().await?)) })
    }

    /// Tells that a call went well. None, or what is left to be done.
    fn succeeded(&self, permit: &Permit) -> Option<Pending> {
        let taken = permit.take()?;
        let is_slow = permit.begun.elapsed() > taken.slow_call();
        settled(taken, if is_slow { Outcome::Slow } else { Outcome::Success }, None)
    }

    /// Tells that a call failed, and with what; None: it says nothing. None, or what is left to be done.
    fn failed(&self, permit: &Permit, error: Option<String>) -> Option<Pending> {
        let outcome = if error.is_some() { Outcome::Failure } else { Outcome::Ignored };
        settled(permit.take()?, outcome, error)
    }

    fn health(&self) -> Pending {
        let breaker = self.0.clone();
        Pending::new(async move { Answer::of(&breaker.health().await) })
    }

    fn set_mode(&self, mode: &str) -> Pending {
        let (breaker, parsed) = (self.0.clone(), Mode::parse(mode));
        let mode = parsed.ok_or_else(|| {
            wrong(
                format!("a circuit breaker cannot be {mode:?}"),
                "there are automatic, forced-open, disabled and metrics-only",
            )
        });
        Pending::new(async move {
            breaker.set_mode(mode?).await?;
            Ok(Answer::Data(json!(null)))
        })
    }

    fn reset(&self) -> Pending {
        let breaker = self.0.clone();
        Pending::new(async move {
            breaker.reset().await?;
            Ok(Answer::Data(json!(null)))
        })
    }
}

#[pyclass(frozen, module = "exai_files._core")]
pub(super) struct Limiter {
    name: String,
    limiter: Arc<RateLimiter>,
}

#[pymethods]
impl Limiter {
    #[new]
    fn new(py: Python<'_>, name: String, state: &State, requests: u32, per: f64) -> PyResult<Self> {
        let rates = || {
            let rate = Rate { requests: positive("requests", requests)?, window: span("per", per)? };
            Ok(Rates { requests: Some(rate), ..Rates::default() })
        };
        if name.is_empty() {
            return Err(raise(py, &wrong("a rate limiter needs a name".into(), "those with the same name share it")));
        }
        let rates = rates().map_err(|error| raise(py, &error))?;
        Ok(Limiter { limiter: RateLimiter::new(format!("pace/{name}"), rates, state.0.clone()), name })
    }

    /// Whether there was a turn at once; None when others must be asked, or waited for: then `turn()`.
    fn turn_at_hand(&self, bulk: bool) -> bool {
        self.limiter.turn_at_hand(ask(bulk)).is_some_and(|turn| turn.is_ok())
    }

    /// Waits for a turn, up to `patience` seconds.
    fn turn(&self, bulk: bool, patience: f64) -> Pending {
        let (limiter, name) = (self.limiter.clone(), self.name.clone());
        Pending::new(async move {
            let patience =
                Duration::try_from_secs_f64(patience.max(0.0)).unwrap_or(Duration::from_secs(u32::MAX.into()));
            let waited = limiter.turn(ask(bulk), patience).await.map_err(|wait| too_fast(&name, wait))?;
            Ok(Answer::Data(json!(waited.as_secs_f64())))
        })
    }

    /// Holds everyone up for so many seconds, and takes less of the limit for a while.
    fn throttled(&self, wait: Option<f64>) -> Pending {
        let limiter = self.limiter.clone();
        Pending::new(async move {
            let wait = wait.filter(|wait| *wait != 0.0).map(|wait| span("retry_after", wait)).transpose()?;
            limiter.throttled(wait).await;
            Ok(Answer::Data(json!(null)))
        })
    }

    fn health(&self) -> Pending {
        let limiter = self.limiter.clone();
        Pending::new(async move { Answer::of(&limiter.health().await) })
    }
}

fn settled(permit: BreakerPermit, outcome: Outcome, error: Option<String>) -> Option<Pending> {
    let permit = permit.settle_at_hand(outcome, error.as_deref()).err()?;
    Some(Pending::new(async move {
        permit.settle(outcome, error.as_deref()).await;
        Ok(Answer::Data(json!(null)))
    }))
}

fn ask(bulk: bool) -> Ask {
    let lane = if bulk { Lane::Bulk } else { Lane::Interactive };
    Ask { operation: Operation::Get, lane, bytes: 0 }
}

fn too_fast(name: &str, wait: Duration) -> Error {
    let message = format!("{name} has no turn left in time: the next comes in {:.1} s", wait.as_secs_f64());
    Error::new(ErrorKind::RateLimited, message)
        .with_hint("wait for longer, or call less often")
        .with_retry(crate::error::Retry::Never, Some(wait))
}

fn positive(name: &str, count: u32) -> Result<u32> {
    if count > 0 { Ok(count) } else { Err(wrong(format!("{name} cannot be 0"), "give 1 or more")) }
}

fn percent(name: &str, percent: u32) -> Result<u32> {
    let fits = (1..=101).contains(&percent);
    if fits { Ok(percent) } else { Err(wrong(format!("{name} cannot be {percent} %"), "give 1 to 100; 101 for never")) }
}

fn span(name: &str, seconds: f64) -> Result<Duration> {
    let span = Duration::try_from_secs_f64(seconds).ok().filter(|span| !span.is_zero() && *span <= LONGEST);
    span.ok_or_else(|| {
        wrong(format!("{name} cannot be {seconds} s"), "give a positive number of seconds, up to a year")
    })
}

fn wrong(message: String, hint: &str) -> Error {
    Error::new(ErrorKind::InvalidRequest, message).with_hint(hint)
}
