//! What a platform will do with a file.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A purpose as one platform spells it on the wire (`file-extract`, `agent`, `batch` …).
///
/// People write many spellings; `Capabilities::purpose` turns any accepted one into the platform's own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Purpose(Arc<str>);

impl Purpose {
    pub fn new(wire: &str) -> Self {
        Purpose(wire.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}
