//! Python functions that give keys.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use pyo3::prelude::*;

use crate::credentials::KeyGiver;
use crate::model::Secret;

/// A function without arguments that returns a key, or a coroutine that does.
struct KeyFunction {
    function: Py<PyAny>,
    name: String,
}

impl fmt::Debug for KeyFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

pub(super) fn givers(py: Python<'_>, functions: BTreeMap<String, Py<PyAny>>) -> BTreeMap<String, Arc<dyn KeyGiver>> {
    let giver = |(path, function): (String, Py<PyAny>)| {
        let named = function.getattr(py, "__qualname__").and_then(|name| name.extract::<String>(py));
        let name = format!("function {}", named.unwrap_or_else(|_| "of the call".to_owned()));
        (path, Arc::new(KeyFunction { function, name }) as Arc<dyn KeyGiver>)
    };
    functions.into_iter().map(giver).collect()
}

impl KeyGiver for KeyFunction {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn give(&self) -> Result<Secret, String> {
        Python::attach(|py| {
            // What it raises may quote a secret: its type says enough, and its own log the rest.
            let raised = |error: PyErr| match error.get_type(py).name() {
                Ok(name) => format!("raised {name}"),
                Err(_) => "raised an exception".to_owned(),
            };
            let mut given = self.function.bind(py).call0().map_err(raised)?;
            if given.hasattr("__await__").map_err(raised)? {
                given =
                    py.import("asyncio").and_then(|asyncio| asyncio.call_method1("run", (given,))).map_err(raised)?;
            }
            given.extract::<String>().map(Secret::new).map_err(|_| "gives no text".to_owned())
        })
    }
}
