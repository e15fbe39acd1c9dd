//! Names of platforms and accounts: checked strings, so that a third platform edits no enum.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// Spellings that the existing EXAI tool uses for the platforms we know.
const ALIASES: &[(&str, &str)] = &[("kimi", "moonshot"), ("glm", "zai"), ("z.ai", "zai"), ("bigmodel", "zhipu")];

/// Name of a platform: `moonshot`, `zai`, `zhipu`, or one from the configuration.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PlatformId(Arc<str>);

impl PlatformId {
    /// Checks a name and resolves the aliases `kimi` (moonshot) and `glm` (zai).
    pub fn new(name: &str) -> Result<Self> {
        let lower = name.trim().to_ascii_lowercase();
        let name_is_plain = !lower.is_empty()
            && lower.len() <= 50
            && lower.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if !name_is_plain {
            return Err(Error::new(ErrorKind::InvalidRequest, format!("{name:?} is not a platform name"))
                .with_hint("use 1 to 50 letters, digits, '-', '_' or '.', e.g. \"moonshot\""));
        }
        let canonical = ALIASES.iter().find(|(alias, _)| *alias == lower).map_or(lower.as_str(), |(_, name)| name);
        Ok(PlatformId(canonical.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PlatformId {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        PlatformId::new(&name)
    }
}

impl From<PlatformId> for String {
    fn from(id: PlatformId) -> String {
        id.0.to_string()
    }
}

impl fmt::Display for PlatformId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PlatformId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// Our name for one account on a platform; remote ids belong to an account, not to a key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountId(Arc<str>);

impl AccountId {
    pub fn new(name: &str) -> Self {
        AccountId(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for AccountId {
    fn default() -> Self {
        AccountId::new("default")
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
