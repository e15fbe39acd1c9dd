//! Credentials in a file of this user's, each sealed with the master key.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::{CredentialStore, Slot, Stored};
use crate::credentials::sealing::MasterKey;
use crate::draft::Draft;
use crate::error::{Error, ErrorKind, Result};

/// The file: readable by this user alone (0600), in a folder that only they may enter (0700).
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
    key: Mutex<MasterKey>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    /// By account.
    sealed: BTreeMap<String, String>,
}

const VERSION: u32 = 1;

impl FileStore {
    pub fn new(path: PathBuf, key: MasterKey) -> Self {
        FileStore { path, key: Mutex::new(key) }
    }

    fn key(&self) -> MasterKey {
        self.key.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn wrong(&self, why: impl std::fmt::Display) -> Error {
        Error::new(ErrorKind::Config, format!("the credentials in {}: {why}", self.path.display()))
            .with_hint("set credentials.file, or log in anew")
    }

    fn read(&self) -> Result<Contents> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Contents { version: VERSION, ..Contents::default() });
            }
            Err(error) => return Err(self.wrong(error)),
        };
        let mode = fs::metadata(&self.path).map_err(|error| self.wrong(error))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(self.wrong("the file may be read by others; chmod 600 it"));
        }
        let contents: Contents = serde_json::from_str(&text).map_err(|_| self.wrong("they cannot be read"))?;
        match contents.version {
            VERSION => Ok(contents),
            other => Err(self.wrong(format_args!("they are of version {other}, which this exai-files does not know"))),
        }
    }

    /// Reads, changes and writes it, while no other process does.
    fn change<T>(&self, change: impl FnOnce(&mut Contents) -> Result<T>) -> Result<T> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| self.wrong(error))?;
        let _alone = lock(&self.path.with_extension("lock")).map_err(|error| self.wrong(error))?;
        let mut contents = self.read()?;
        let outcome = change(&mut contents)?;
        let text = serde_json::to_vec_pretty(&contents).map_err(|error| self.wrong(error))?;
        let written = Draft::of(&self.path, 0o600).and_then(|mut draft| {
            std::io::Write::write_all(draft.file(), &text)?;
            draft.publish()
        });
        written.map_err(|error| self.wrong(error))?;
        Ok(outcome)
    }
}

/// Waits until nobody else holds it; it is let go when the file is dropped.
fn lock(path: &Path) -> std::io::Result<fs::File> {
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    if file.metadata()?.mode() & 0o077 != 0 {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    file.lock()?;
    Ok(file)
}

impl CredentialStore for FileStore {
    fn name(&self) -> String {
        format!("file {}", self.path.display())
    }

    fn get(&self, slot: &Slot) -> Result<Option<Stored>> {
        let contents = self.read()?;
        let Some(sealed) = contents.sealed.get(&slot.to_string()) else { return Ok(None) };
        Stored::from_json(&self.key().open(sealed)?, slot).map(Some)
    }

    fn put(&self, slot: &Slot, stored: &Stored) -> Result<()> {
        self.change(|contents| {
            // The salt that is in use is met, so that one key opens all.
            if let Some(other) = contents.sealed.values().next() {
                let _ = self.key().open(other);
            }
            let sealed = self.key().seal(&stored.to_json(slot))?;
            contents.sealed.insert(slot.to_string(), sealed);
            Ok(())
        })
    }

    fn remove(&self, slot: &Slot) -> Result<bool> {
        self.change(|contents| Ok(contents.sealed.remove(&slot.to_string()).is_some()))
    }

    fn kept(&self, of: &[Slot]) -> Result<Vec<Slot>> {
        let contents = self.read()?;
        Ok(of.iter().filter(|slot| contents.sealed.contains_key(&slot.to_string())).cloned().collect())
    }

    fn reseal(&self, with: MasterKey) -> Result<usize> {
        let count = self.change(|contents| {
            for sealed in contents.sealed.values_mut() {
                *sealed = with.seal(&self.key().open(sealed)?)?;
            }
            Ok(contents.sealed.len())
        })?;
        *self.key.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = with;
        Ok(count)
    }
}
