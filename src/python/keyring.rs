//! The system's keyring, through Python's `keyring`.

use pyo3::prelude::*;

use crate::credentials::{CredentialStore, Slot, Stored};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Secret;

/// An object with `name`, `get`, `put` and `remove`.
pub(super) struct Keyring(pub Py<PyAny>);

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyring")
    }
}

impl Keyring {
    fn call<T>(&self, method: &str, arguments: &[&str]) -> Result<T>
    where
        T: for<'a, 'py> FromPyObject<'a, 'py>,
    {
        Python::attach(|py| {
            // What it raises may quote a secret: its type says enough.
            let failed = |why: String| {
                Error::new(ErrorKind::Config, format!("the keyring cannot be used: {why}")).with_hint(
                    "pip install 'exai-files[keyring]' and unlock it, or set credentials.store = \"database\"",
                )
            };
            let arguments = pyo3::types::PyTuple::new(py, arguments).map_err(|error| failed(error.to_string()))?;
            let answer = self.0.bind(py).call_method1(method, arguments);
            let answer = answer.map_err(|error| match error.get_type(py).name() {
                Ok(name) => failed(format!("it raised {name}")),
                Err(_) => failed("it raised an exception".to_owned()),
            })?;
            answer.extract().map_err(|_| failed("it gave something else than was asked for".to_owned()))
        })
    }
}

impl CredentialStore for Keyring {
    fn name(&self) -> String {
        self.call::<String>("name", &[]).unwrap_or_else(|_| "keyring".to_owned())
    }

    fn get(&self, slot: &Slot) -> Result<Option<Stored>> {
        let kept = self.call::<Option<String>>("get", &[&slot.to_string()])?;
        kept.map(|json| Stored::from_json(&Secret::new(json), slot)).transpose()
    }

    fn put(&self, slot: &Slot, stored: &Stored) -> Result<()> {
        self.call::<Py<PyAny>>("put", &[&slot.to_string(), stored.to_json(slot).expose()]).map(drop)
    }

    fn remove(&self, slot: &Slot) -> Result<bool> {
        self.call("remove", &[&slot.to_string()])
    }

    fn kept(&self, of: &[Slot]) -> Result<Vec<Slot>> {
        let mut kept = Vec::new();
        for slot in of {
            if self.call::<bool>("has", &[&slot.to_string()])? {
                kept.push(slot.clone());
            }
        }
        Ok(kept)
    }
}
