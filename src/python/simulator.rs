//! The simulator as Python holds it; its vocabulary lives in `exai_files/simulator.py`.

use std::sync::Mutex;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::convert::{to_py, value};
use super::errors::raise;
use crate::simulator;

#[pyclass(frozen, module = "exai_files._core")]
pub(super) struct Simulator(Mutex<simulator::Simulator>);

impl Simulator {
    fn with<T>(&self, look: impl FnOnce(&mut simulator::Simulator) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

#[pymethods]
impl Simulator {
    #[new]
    fn new(py: Python<'_>, port: u16, seed: u64, now: Option<String>, settings_json: &str) -> PyResult<Self> {
        let settings = serde_json::from_str(settings_json).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let options = simulator::Options { port, seed, now, settings };
        let started = py.detach(|| simulator::Simulator::start(options));
        Ok(Simulator(Mutex::new(started.map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidInput => PyValueError::new_err(error.to_string()),
            _ => PyErr::from(error),
        })?)))
    }

    /// The base URL of each profile, and of `admin`.
    fn urls<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let urls = value(&self.with(|simulator| simulator.urls().clone())).map_err(|error| raise(py, &error))?;
        Ok(to_py(py, &urls)?.cast_bound::<PyDict>(py)?.clone())
    }

    /// One administrative request; body and answer are JSON.
    #[pyo3(signature = (method, path, body_json=None))]
    fn admin(&self, py: Python<'_>, method: &str, path: &str, body_json: Option<&str>) -> PyResult<String> {
        let body = body_json
            .map(serde_json::from_str)
            .transpose()
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        let answer = py.detach(|| self.with(|simulator| simulator.admin(method, path, body)));
        answer.map(|answer| answer.to_string()).map_err(|error| PyRuntimeError::new_err(error.to_string()))
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.with(simulator::Simulator::stop));
    }
}
