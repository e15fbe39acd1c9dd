//! The registry's database itself: its schema, and how it is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pyo3::prelude::*;
use serde_json::Value;

use super::client::configured;
use super::convert::{to_py, value};
use super::errors::raise;
use crate::clock::{Clock as _, SystemClock};
use crate::connect::location;
use crate::error::Result;
use crate::store::Store;

#[pyclass(frozen, module = "exai_files._core")]
pub(super) struct Database(Store);

#[pymethods]
impl Database {
    /// Reads the configuration and connects; changes nothing.
    #[new]
    #[pyo3(signature = (config_file, environment, overrides_json))]
    fn new(
        py: Python<'_>,
        config_file: Option<PathBuf>,
        environment: BTreeMap<String, String>,
        overrides_json: &str,
    ) -> PyResult<Self> {
        let connected = py.detach(|| {
            let config = configured(config_file, environment, overrides_json)?;
            Store::connect(&location(&config))
        });
        connected.map(Database).map_err(|error| raise(py, &error))
    }

    fn plan(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.answer(py, |store| value(&store.plan()?))
    }

    fn migrate(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.answer(py, |store| {
            store.migrate(SystemClock.now(), true)?;
            value(&store.status()?)
        })
    }

    fn status(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.answer(py, |store| value(&store.status()?))
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }
}

impl Database {
    fn answer(&self, py: Python<'_>, ask: impl FnOnce(&Store) -> Result<Value> + Send) -> PyResult<Py<PyAny>> {
        let answer = py.detach(|| ask(&self.0)).map_err(|error| raise(py, &error))?;
        to_py(py, &answer)
    }
}
