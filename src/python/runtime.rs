//! The one tokio runtime behind Python: started at first use, counted, and stopped before the interpreter goes.
//!
//! With the stock runtime of pyo3-async-runtimes about one of ten short scripts dies at exit, because a worker
//! thread takes the GIL of an interpreter that is being torn down. So every task that may touch Python is counted,
//! and an `atexit` hook waits for them (GIL released) and stops the runtime while Python is still whole.

use std::any::Any;
use std::cell::OnceCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3_async_runtimes::{TaskLocals, generic};
use tokio::runtime::{Builder, Handle, Runtime};

/// Enough for the network; file work has threads of its own.
const WORKERS: usize = 2;

/// How long the interpreter's exit waits for work in flight.
const EXIT_PATIENCE: Duration = Duration::from_secs(5);

struct State {
    runtime: Option<Runtime>,
    /// The process that started it: threads do not survive a fork.
    process: u32,
    in_flight: usize,
    is_shut_down: bool,
}

static STATE: Mutex<State> = Mutex::new(State { runtime: None, process: 0, in_flight: 0, is_shut_down: false });
static IDLE: Condvar = Condvar::new();
static LOGGING: OnceLock<pyo3_log::ResetHandle> = OnceLock::new();

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The runtime's handle.
///
/// # Errors
/// `RuntimeError` in a forked child of a process that used it, and after interpreter exit has begun.
pub(super) fn handle() -> PyResult<Handle> {
    let mut state = state();
    if state.is_shut_down {
        return Err(PyRuntimeError::new_err("exai_files is shut down: the interpreter is exiting"));
    }
    if state.runtime.is_some() && state.process != std::process::id() {
        return Err(PyRuntimeError::new_err(
            "this process was forked after exai_files was first used; start workers with the \"spawn\" or \
             \"forkserver\" method, or use exai_files in the children only",
        ));
    }
    if let Some(runtime) = &state.runtime {
        return Ok(runtime.handle().clone());
    }
    let runtime = Builder::new_multi_thread().worker_threads(WORKERS).thread_name("exai-files").enable_all().build()?;
    let handle = runtime.handle().clone();
    state.process = std::process::id();
    state.runtime = Some(runtime);
    Ok(handle)
}

/// One counted piece of work.
struct InFlight;

impl InFlight {
    fn enter() -> Self {
        state().in_flight += 1;
        InFlight
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = state();
        state.in_flight -= 1;
        if state.in_flight == 0 {
            IDLE.notify_all();
        }
    }
}

/// Spawns counted work.
pub(super) fn spawn<F>(work: F) -> PyResult<tokio::task::JoinHandle<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let guard = InFlight::enter();
    Ok(handle()?.spawn(async move {
        let output = work.await;
        drop(guard);
        output
    }))
}

/// An awaitable `asyncio.Future` for `work`; cancelling it drops `work`.
pub(super) fn awaitable<'py, F, T>(py: Python<'py>, work: F) -> PyResult<Bound<'py, PyAny>>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'a> IntoPyObject<'a> + Send + 'static,
{
    let handle = handle()?;
    let _entered = handle.enter();
    generic::future_into_py::<Counted, F, T>(py, work)
}

/// Called by `atexit`, before finalization: waits for work in flight, then stops the runtime.
#[pyfunction]
pub(super) fn shutdown(py: Python<'_>) {
    py.detach(|| {
        let runtime = {
            let mut state = state();
            if state.process != std::process::id() {
                // A forked child: the threads are not there to be stopped.
                std::mem::forget(state.runtime.take());
                return;
            }
            state.is_shut_down = true;
            wait_until_idle(state)
        };
        if let Some(runtime) = runtime {
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
    });
}

fn wait_until_idle(mut state: MutexGuard<'_, State>) -> Option<Runtime> {
    let end = Instant::now() + EXIT_PATIENCE;
    while state.in_flight > 0 {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        state = IDLE.wait_timeout(state, left).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
    }
    state.runtime.take()
}

/// Sends the core's log records to Python's `logging`, under `exai_files._core`.
pub(super) fn forward_logs(py: Python<'_>) -> PyResult<()> {
    let logger = pyo3_log::Logger::new(py, pyo3_log::Caching::LoggersAndLevels)?;
    if let Ok(handle) = logger.install() {
        let _ = LOGGING.set(handle);
    }
    Ok(())
}

/// What a log record of ours raised in Python meanwhile: Ctrl-C above all, which Python handles while it logs.
pub(super) fn raised(py: Python<'_>) -> PyResult<()> {
    PyErr::take(py).map_or(Ok(()), Err)
}

/// Forgets cached log levels; call it after changing them.
#[pyfunction]
pub(super) fn reset_logging() {
    if let Some(handle) = LOGGING.get() {
        handle.reset();
    }
}

// ===== what pyo3-async-runtimes asks of a runtime =====

struct Counted;
struct Failed(tokio::task::JoinError);
struct Joined(tokio::task::JoinHandle<()>);

impl generic::JoinError for Failed {
    fn is_panic(&self) -> bool {
        self.0.is_panic()
    }

    fn into_panic(self) -> Box<dyn Any + Send> {
        self.0.into_panic()
    }
}

impl Future for Joined {
    type Output = Result<(), Failed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(Failed)
    }
}

impl generic::Runtime for Counted {
    type JoinError = Failed;
    type JoinHandle = Joined;

    fn spawn<F>(work: F) -> Joined
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = InFlight::enter();
        Joined(Handle::current().spawn(async move {
            work.await;
            drop(guard);
        }))
    }

    fn spawn_blocking<F>(work: F) -> Joined
    where
        F: FnOnce() + Send + 'static,
    {
        let guard = InFlight::enter();
        Joined(Handle::current().spawn_blocking(move || {
            work();
            drop(guard);
        }))
    }
}

tokio::task_local! {
    static LOCALS: OnceCell<TaskLocals>;
}

impl generic::ContextExt for Counted {
    fn scope<F, R>(locals: TaskLocals, work: F) -> Pin<Box<dyn Future<Output = R> + Send>>
    where
        F: Future<Output = R> + Send + 'static,
    {
        let cell = OnceCell::new();
        let _ = cell.set(locals);
        Box::pin(LOCALS.scope(cell, work))
    }

    fn get_task_locals() -> Option<TaskLocals> {
        LOCALS.try_with(|cell| cell.get().cloned()).unwrap_or(None)
    }
}
