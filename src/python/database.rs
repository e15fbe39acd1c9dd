//! The registry's database itself: its schema, and how it is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use serde_json::Value;

use super::client::configured;
use super::convert::{Answer, to_py, value};
use super::errors::raise;
use super::pending::Pending;
use crate::clock::{Clock as _, SystemClock};
use crate::config::database_url;
use crate::connect::location;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Secret;
use crate::registry::{Registry, ToolRows};
use crate::store::{Location, PostgresOptions, Store};

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
            let config = configured(config_file, environment, overrides_json, BTreeMap::new())?;
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

    /// Takes in rows of the EXAI tool's, from another database or from this one.
    fn import_rows(&self, source: Option<String>, dry_run: bool) -> Pending {
        let store = self.0.clone();
        Pending::new(async move {
            let registry = Registry::new(store.clone(), store.clone(), Arc::new(SystemClock));
            let reading = tokio::task::spawn_blocking(move || tool_rows(&store, source.as_deref()));
            let rows = reading.await.unwrap_or_else(|_| Err(dropped()))?;
            Answer::of(&registry.import(rows, dry_run).await?)
        })
    }

    /// Removes old history; `keep` in seconds.
    fn maintain(&self, keep: f64, dry_run: bool) -> Pending {
        let store = self.0.clone();
        Pending::new(async move {
            let keep = Duration::try_from_secs_f64(keep).map_err(|error| {
                Error::new(ErrorKind::InvalidRequest, format!("history cannot be kept for {keep} s")).with_source(error)
            })?;
            let working = tokio::task::spawn_blocking(move || store.maintain(SystemClock.now(), keep, dry_run));
            Answer::of(&working.await.unwrap_or_else(|_| Err(dropped()))?)
        })
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }
}

fn dropped() -> Error {
    Error::new(ErrorKind::Cancelled, "the database was closed meanwhile")
}

fn tool_rows(store: &Store, source: Option<&str>) -> Result<ToolRows> {
    if !store.plan()?.steps.is_empty() {
        return Err(Error::new(ErrorKind::Registry, "the registry's schema is not up to date")
            .with_hint("`exai-files db migrate` brings it there"));
    }
    let Some(url) = source else { return ToolRows::read(store) };
    let url = database_url(url).map_err(|must| Error::new(ErrorKind::InvalidRequest, format!("the source {must}")))?;
    let timeout = Duration::from_secs(60);
    let options = PostgresOptions { url: Secret::new(url), ca_bundle: None, connections: 1, timeout };
    ToolRows::read(&Store::connect(&Location::Postgres(options))?)
}

impl Database {
    fn answer(&self, py: Python<'_>, ask: impl FnOnce(&Store) -> Result<Value> + Send) -> PyResult<Py<PyAny>> {
        let answer = py.detach(|| ask(&self.0)).map_err(|error| raise(py, &error))?;
        to_py(py, &answer)
    }
}
