//! Where credentials are kept that `auth login` has fetched: one place, which the settings name.

mod database;
mod file;
mod supabase_vault;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::KeyGiver;
use super::oauth::Tokens;
use super::sealing::MasterKey;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AccountId, PlatformId, Secret};

pub use database::DatabaseStore;
pub use file::FileStore;
pub use supabase_vault::VaultSecret;

/// An account of a platform.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    pub platform: PlatformId,
    pub account: AccountId,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.platform, self.account)
    }
}

/// What is kept for an account.
#[derive(Clone, Debug)]
pub enum Stored {
    ApiKey(Secret),
    Tokens(Tokens),
}

/// Keeps credentials. Every call may block.
pub trait CredentialStore: Send + Sync + fmt::Debug {
    /// For people, such as "the registry" or "file ~/credentials".
    fn name(&self) -> String;

    /// # Errors
    /// `Config` when it is locked, or the master key is another one; `Registry`.
    fn get(&self, slot: &Slot) -> Result<Option<Stored>>;

    /// Keeps one in place of what there was. It is durable when this returns.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn put(&self, slot: &Slot, stored: &Stored) -> Result<()>;

    /// Whether there was one.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn remove(&self, slot: &Slot) -> Result<bool>;

    /// Which of these accounts it keeps something for; nothing is unsealed for that.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn kept(&self, of: &[Slot]) -> Result<Vec<Slot>>;

    /// Seals all it keeps with another key; gives how many there were.
    ///
    /// # Errors
    /// As [`get`](Self::get); `Unsupported` where it is not us who seal.
    fn reseal(&self, _with: MasterKey) -> Result<usize> {
        Err(Error::new(ErrorKind::Unsupported, format!("{} has no master key of ours", self.name())))
    }
}

/// A key that is kept, for whoever asks.
#[derive(Debug)]
pub struct StoredKey {
    pub kept: Arc<dyn CredentialStore>,
    pub slot: Slot,
}

impl KeyGiver for StoredKey {
    fn name(&self) -> String {
        self.kept.name()
    }

    fn give(&self) -> std::result::Result<Secret, String> {
        match self.kept.get(&self.slot) {
            Ok(Some(Stored::ApiKey(key))) => Ok(key),
            Ok(_) => Err(format!("has no key of {}", self.slot)),
            Err(error) => Err(format!("cannot be read: {}", error.message())),
        }
    }
}

/// As it is written down.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Written {
    ApiKey {
        slot: String,
        key: String,
    },
    Tokens {
        slot: String,
        #[serde(flatten)]
        tokens: Tokens,
    },
}

impl Stored {
    /// As JSON that says whose it is: taken for another account's, it is refused.
    pub fn to_json(&self, slot: &Slot) -> Secret {
        let slot = slot.to_string();
        let written = match self {
            Stored::ApiKey(key) => Written::ApiKey { slot, key: key.expose().to_owned() },
            Stored::Tokens(tokens) => Written::Tokens { slot, tokens: tokens.clone() },
        };
        Secret::new(serde_json::to_string(&written).unwrap_or_default())
    }

    /// # Errors
    /// `Integrity` when it is no credential, or that of another account.
    pub fn from_json(json: &Secret, slot: &Slot) -> Result<Self> {
        let altered = || {
            Error::new(ErrorKind::Integrity, format!("what is kept for {slot} is not what was kept there"))
                .with_hint(format!("`exai-files auth login {}` fetches it anew", slot.platform))
        };
        // What serde says may quote it.
        let written = serde_json::from_str(json.expose()).map_err(|_| altered())?;
        let (whose, stored) = match written {
            Written::ApiKey { slot, key } => (slot, Stored::ApiKey(Secret::new(key))),
            Written::Tokens { slot, tokens } => (slot, Stored::Tokens(tokens)),
        };
        if whose == slot.to_string() { Ok(stored) } else { Err(altered()) }
    }
}
