//! Errors to the classes of `exai_files.errors`.

use pyo3::prelude::*;
use serde_json::{Value, json};

use super::convert::{Answer, to_py, value};
use crate::error::{Error, ErrorKind, Result};

/// The name of every kind of error, so that a test can ask for a class for each.
#[pyfunction]
pub(super) fn error_kinds() -> Vec<&'static str> {
    ErrorKind::ALL.iter().map(|kind| kind.name()).collect()
}

pub(super) fn answer(py: Python<'_>, outcome: Result<Answer>) -> PyResult<Py<PyAny>> {
    match outcome {
        Ok(answer) => answer.into_py(py),
        Err(error) => Err(raise(py, &error)),
    }
}

/// The Python exception for `error`; its class is chosen in `errors.py`.
pub(super) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    let built = to_py(py, &details(error))
        .and_then(|details| py.import("exai_files.errors")?.getattr("_from_core")?.call1((details,)));
    match built {
        Ok(exception) => PyErr::from_value(exception),
        Err(failure) => failure,
    }
}

fn details(error: &Error) -> Value {
    let context = error.context().cloned().unwrap_or_default();
    let partial = error.partial_upload().map(|partial| {
        let failures: serde_json::Map<String, Value> =
            partial.failures.iter().map(|(platform, error)| (platform.to_string(), details(error))).collect();
        json!({"record": value(&partial.record).unwrap_or_default(), "failures": failures})
    });
    json!({
        "kind": error.kind().name(),
        "message": error.message(),
        "hint": error.hint(),
        "platform": error.context().map(|c| c.platform.clone()),
        "account": context.account,
        "operation": context.operation.map(|operation| operation.as_str()),
        "status": context.status,
        "code": context.code,
        "request_id": context.request_id,
        "retry_after": error.retry_after().map(|wait| wait.as_secs_f64()),
        "attempts": error.attempts(),
        "size": error.size(),
        "limit": error.limit(),
        "partial": partial,
    })
}
