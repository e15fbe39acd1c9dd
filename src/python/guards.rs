//! Circuit breakers and rate limits for a user's own calls.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};
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

/// Leave to make one call, on its way to the one who asked for it.
#[pyclass(frozen, module = "exai_files._core")]
pub(super) struct Permit(Mutex<Option<BreakerPermit>>);

impl Permit {
    pub(super) fn new(permit: BreakerPermit) -> Self {
        Permit(Mutex::new(Some(permit)))
    }
}

/// A call that is under way.
struct Entered {
    /// The breaker, and the task in which it was entered.
    by: (usize, usize),
    permit: BreakerPermit,
}

thread_local! {
    /// Calls of this thread that are under way. Each knows its task, so that each is left by the one that entered it;
    /// a `ContextVar` would do the same in three times the time.
    static ENTERED: RefCell<Vec<Entered>> = const { RefCell::new(Vec::new()) };
}

/// Answers `await` at once: an asyncio future that is done.
#[derive(Default)]
struct Ready(Mutex<Option<Py<PyAny>>>);

impl Ready {
    fn with<'py>(&self, py: Python<'py>, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let mut ready = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(ready) = &*ready {
            return Ok(ready.bind(py).clone());
        }
        let future = py.import("asyncio")?.call_method0("get_running_loop")?.call_method0("create_future")?;
        future.call_method1("set_result", (value,))?;
        *ready = Some(future.clone().unbind());
        Ok(future)
    }
}

/// What enters and leaves without Python's help, when nobody needs to be waited for; `guards.py` does the rest.
#[pyclass(frozen, subclass, module = "exai_files._core")]
pub(super) struct CircuitBreaker {
    breaker: Arc<Breaker>,
    /// Exceptions that are failures, and those of them that are not: what `isinstance` takes.
    counts: Py<PyAny>,
    ignores: Py<PyAny>,
    entered: Ready,
    left: Ready,
}

impl CircuitBreaker {
    fn by(&self, py: Python<'_>) -> PyResult<(usize, usize)> {
        Ok((Arc::as_ptr(&self.breaker) as usize, current_task(py)?))
    }

    fn begin(&self, py: Python<'_>, permit: BreakerPermit) -> PyResult<()> {
        let entered = Entered { by: self.by(py)?, permit };
        ENTERED.with_borrow_mut(|all| all.push(entered));
        Ok(())
    }

    /// Whether it could be entered at once.
    fn begin_at_hand(&self, py: Python<'_>) -> PyResult<bool> {
        match self.breaker.permit_at_hand() {
            Some(Ok(permit)) => self.begin(py, permit).map(|()| true),
            Some(Err(error)) => Err(raise(py, &error)),
            None => Ok(false),
        }
    }

    /// Tells how the call ended. What is left to be done, if anything is.
    fn end(&self, py: Python<'_>, error: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Pending>> {
        let by = self.by(py)?;
        let entered = ENTERED.with_borrow_mut(|all| {
            let of_this_task = all.iter().rposition(|entered| entered.by == by);
            let place = of_this_task.or_else(|| all.iter().rposition(|entered| entered.by.0 == by.0))?;
            Some(all.remove(place).permit)
        });
        let Some(permit) = entered else {
            return Err(PyRuntimeError::new_err("a circuit breaker is left where it was not entered"));
        };
        let Some(error) = error else {
            let is_slow = permit.elapsed() > permit.slow_call();
            return Ok(settled(permit, if is_slow { Outcome::Slow } else { Outcome::Success }, None));
        };
        if !error.is_instance(self.counts.bind(py))? || error.is_instance(self.ignores.bind(py))? {
            return Ok(settled(permit, Outcome::Ignored, None));
        }
        let said: String = format!("{}: {}", error.get_type().name()?, error.str()?).chars().take(200).collect();
        Ok(settled(permit, Outcome::Failure, Some(said)))
    }
}

/// The asyncio task that runs in this thread, by its address; 0 where none does.
fn current_task(py: Python<'_>) -> PyResult<usize> {
    static ASYNCIO: PyOnceLock<Asyncio> = PyOnceLock::new();
    let asyncio = match ASYNCIO.get(py) {
        Some(asyncio) => asyncio,
        // Whoever has not imported it has no task.
        None if !py.import("sys")?.getattr("modules")?.contains("asyncio")? => return Ok(0),
        None => ASYNCIO.get_or_try_init(py, || Asyncio::find(py))?,
    };
    asyncio.current_task(py)
}

/// What asyncio knows of tasks.
struct Asyncio {
    running_loop: Py<PyAny>,
    /// The task that each loop is at, before Python 3.14.
    tasks: Option<Py<PyDict>>,
    current_task: Py<PyAny>,
}

thread_local! {
    /// The loop that ran in this thread when it was last asked for, by its address. Asking takes a system call, before
    /// Python 3.12.
    static LOOP: Cell<usize> = const { Cell::new(0) };
}

impl Asyncio {
    fn find(py: Python<'_>) -> PyResult<Self> {
        let (asyncio, tasks) = (py.import("asyncio")?, py.import("asyncio.tasks")?);
        let tasks = tasks.getattr("_current_tasks").ok().and_then(|tasks| tasks.cast_into::<PyDict>().ok());
        Ok(Asyncio {
            running_loop: asyncio.getattr("_get_running_loop")?.unbind(),
            tasks: tasks.map(Bound::unbind),
            current_task: asyncio.getattr("current_task")?.unbind(),
        })
    }

    fn current_task(&self, py: Python<'_>) -> PyResult<usize> {
        let task_of = |tasks: &Bound<'_, PyDict>, of: usize| {
            tasks.iter().find(|(each, _)| each.as_ptr() as usize == of).map(|(_, task)| task.as_ptr() as usize)
        };
        if let Some(tasks) = self.tasks.as_ref().map(|tasks| tasks.bind(py)) {
            if tasks.is_empty() {
                return Ok(0);
            }
            if let Some(task) = task_of(tasks, LOOP.get()) {
                return Ok(task);
            }
        }
        let running = self.running_loop.bind(py).call0()?;
        if running.is_none() {
            return Ok(0);
        }
        LOOP.set(running.as_ptr() as usize);
        match &self.tasks {
            Some(tasks) => Ok(task_of(tasks.bind(py), LOOP.get()).unwrap_or_default()),
            None => Ok(self.current_task.bind(py).call1((running,))?.as_ptr() as usize),
        }
    }
}

#[pymethods]
impl CircuitBreaker {
    #[new]
    #[pyo3(signature = (name, state, *, counts, ignores, calls, seconds, minimum_calls, failure_rate, slow_rate, slow_call, wait, wait_factor, wait_cap, probes, successes_to_close, probe_lease))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of one call, named on both sides")]
    fn new(
        py: Python<'_>,
        name: String,
        state: &State,
        counts: Py<PyAny>,
        ignores: Py<PyAny>,
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
        let breaker = Arc::new(Breaker::new(name, settings, state.0.clone()));
        Ok(CircuitBreaker { breaker, counts, ignores, entered: Ready::default(), left: Ready::default() })
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        if !slf.get().begin_at_hand(py)? {
            let permit = slf.call_method0("permit")?.call_method0("wait")?;
            slf.get().begin_with(py, permit.cast::<Permit>()?.get())?;
        }
        Ok(slf.clone().into_any())
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        error: Option<&Bound<'_, PyAny>>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        match self.end(py, error)? {
            Some(pending) => Bound::new(py, pending)?.call_method0("wait").map(drop),
            None => Ok(()),
        }
    }

    fn __aenter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        match slf.get().begin_at_hand(slf.py())? {
            true => slf.get().entered.with(slf.py(), slf.clone().into_any()),
            false => slf.call_method0("_enter_later"),
        }
    }

    fn __aexit__<'py>(
        &self,
        py: Python<'py>,
        _kind: &Bound<'py, PyAny>,
        error: Option<&Bound<'py, PyAny>>,
        _trace: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match self.end(py, error)? {
            Some(pending) => Ok(Bound::new(py, pending)?.into_any()),
            None => self.left.with(py, py.None().into_bound(py)),
        }
    }

    /// Leave to make one call: a `Permit` for `begin_with`.
    fn permit(&self) -> Pending {
        let breaker = self.breaker.clone();
        Pending::new(async move { Ok(Answer::Permit(breaker.permit().await?)) })
    }

    /// Begins the call that a permit was given for.
    fn begin_with(&self, py: Python<'_>, permit: &Permit) -> PyResult<()> {
        let permit = permit.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        permit.map_or(Ok(()), |permit| self.begin(py, permit))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.counts)?;
        visit.call(&self.ignores)?;
        match self.entered.0.try_lock() {
            Ok(ready) => visit.call(&*ready),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        self.entered.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    }

    #[pyo3(name = "_health")]
    fn health(&self) -> Pending {
        let breaker = self.breaker.clone();
        Pending::new(async move { Answer::of(&breaker.health().await) })
    }

    #[pyo3(name = "_set_mode")]
    fn set_mode(&self, mode: &str) -> Pending {
        let (breaker, parsed) = (self.breaker.clone(), Mode::parse(mode));
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

    #[pyo3(name = "_reset")]
    fn reset(&self) -> Pending {
        let breaker = self.breaker.clone();
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
