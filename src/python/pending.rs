//! One operation, begun when Python awaits it or waits for it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::convert::Answer;
use super::{errors, runtime};
use crate::error::Result;

/// How often a blocking wait looks for Ctrl-C and calls `tick`.
const SLICE: Duration = Duration::from_millis(50);

type Work = Pin<Box<dyn Future<Output = Result<Answer>> + Send>>;

/// The result of one call that has not been made yet: `await` it, or call `wait()`. Once.
#[pyclass(frozen, module = "exai_files._core")]
pub(super) struct Pending(Mutex<Option<Work>>);

impl Pending {
    pub(super) fn new(work: impl Future<Output = Result<Answer>> + Send + 'static) -> Self {
        Pending(Mutex::new(Some(Box::pin(work))))
    }

    fn take(&self) -> PyResult<Work> {
        let work = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        work.ok_or_else(|| PyRuntimeError::new_err("this call was made already"))
    }
}

#[pymethods]
impl Pending {
    /// Makes the call and blocks until it is done, calling `tick()` about twenty times a second.
    ///
    /// Ctrl-C, and anything `tick` raises, cancels the call.
    #[pyo3(signature = (tick=None))]
    fn wait(&self, py: Python<'_>, tick: Option<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        let work = self.take()?;
        let (done, outcome) = sync_channel(1);
        let task = runtime::spawn(async move {
            let _ = done.send(work.await);
        })?;
        let outcome = Mutex::new(outcome); // a receiver may move to the detached section only when it is Sync
        let next = || outcome.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).recv_timeout(SLICE);
        loop {
            match py.detach(next) {
                Ok(outcome) => return errors::answer(py, outcome),
                Err(RecvTimeoutError::Disconnected) => return Err(PyRuntimeError::new_err("the call was dropped")),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let interrupted = py.check_signals().and_then(|()| match &tick {
                Some(tick) => tick.call0(py).map(drop),
                None => Ok(()),
            });
            if let Err(interrupted) = interrupted {
                task.abort();
                return Err(interrupted);
            }
        }
    }

    fn __await__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let work = self.take()?;
        let future = runtime::awaitable(py, async move {
            let outcome = work.await;
            Python::attach(|py| errors::answer(py, outcome))
        })?;
        future.call_method0("__await__")
    }
}
