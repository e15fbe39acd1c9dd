//! Plain data to Python objects.

use bytes::Bytes;
use pyo3::IntoPyObjectExt as _;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use serde::Serialize;
use serde_json::Value;

use super::guards::Permit;
use super::table::Table;
use crate::error::{Error, ErrorKind, Result};
use crate::resilience::BreakerPermit;

/// What an operation gives back.
pub(super) enum Answer {
    Data(Value),
    /// A record together with bytes.
    Content {
        data: Value,
        bytes: Bytes,
    },
    Permit(BreakerPermit),
    Table(Table),
}

impl Answer {
    pub(super) fn of(record: &impl Serialize) -> Result<Answer> {
        Ok(Answer::Data(value(record)?))
    }

    pub(super) fn into_py(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Answer::Data(data) => to_py(py, &data),
            Answer::Table(table) => table.into_py_any(py),
            Answer::Permit(permit) => Permit::new(permit).into_py_any(py),
            Answer::Content { data, bytes } => (to_py(py, &data)?, PyBytes::new(py, &bytes)).into_py_any(py),
        }
    }
}

pub(super) fn value(record: &impl Serialize) -> Result<Value> {
    serde_json::to_value(record)
        .map_err(|error| Error::new(ErrorKind::ContractDrift, "a record cannot be written as JSON").with_source(error))
}

pub(super) fn to_py(py: Python<'_>, value: &Value) -> PyResult<Py<PyAny>> {
    match value {
        Value::Null => Ok(py.None()),
        Value::Bool(flag) => flag.into_py_any(py),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(signed), _) => signed.into_py_any(py),
            (None, Some(unsigned)) => unsigned.into_py_any(py),
            (None, None) => number.as_f64().into_py_any(py),
        },
        Value::String(text) => text.into_py_any(py),
        Value::Array(items) => {
            let items = items.iter().map(|item| to_py(py, item)).collect::<PyResult<Vec<_>>>()?;
            PyList::new(py, items)?.into_py_any(py)
        }
        Value::Object(fields) => {
            let dict = PyDict::new(py);
            for (name, field) in fields {
                dict.set_item(name, to_py(py, field)?)?;
            }
            dict.into_py_any(py)
        }
    }
}
