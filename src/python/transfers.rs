//! How far uploads have come, as Python asks for it while they run.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::convert::{to_py, value};
use super::errors::raise;
use crate::manager::{Transfer, Transfers};

/// How far an upload has come; made before the call, read while it runs.
#[pyclass(frozen, module = "exai_files._core", name = "Transfers")]
pub(super) struct TransferList(pub(super) Transfers);

#[pymethods]
impl TransferList {
    #[new]
    fn new() -> Self {
        TransferList(Transfers::default())
    }

    /// One dictionary per target: platform, name, sent, total (bytes), phase.
    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let describe = |transfer: Transfer| {
            let data = value(&transfer).map_err(|error| raise(py, &error))?;
            Ok(to_py(py, &data)?.cast_bound::<PyDict>(py)?.clone())
        };
        self.0.snapshot().into_iter().map(describe).collect()
    }
}
