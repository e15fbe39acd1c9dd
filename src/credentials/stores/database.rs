//! Credentials in the registry's database, for all who share it and have the master key.

use std::sync::{Arc, Mutex};

use super::{CredentialStore, Slot, Stored};
use crate::clock::Clock;
use crate::credentials::sealing::MasterKey;
use crate::error::Result;
use crate::failpoint::failpoint;
use crate::store::{Row, Store, bind};

#[derive(Debug)]
pub struct DatabaseStore {
    store: Store,
    clock: Arc<dyn Clock>,
    key: Mutex<MasterKey>,
}

const PUT: &str = "INSERT INTO stored_credentials (platform, account, sealed, updated_at) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (platform, account) DO UPDATE SET sealed = excluded.sealed, updated_at = excluded.updated_at";

impl DatabaseStore {
    pub fn new(store: Store, clock: Arc<dyn Clock>, key: MasterKey) -> Self {
        DatabaseStore { store, clock, key: Mutex::new(key) }
    }

    fn key(&self) -> MasterKey {
        self.key.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn sealed(&self, slot: &Slot) -> Result<Option<String>> {
        let slot = slot.clone();
        self.store.read_blocking(move |session| {
            let sql = "SELECT sealed FROM stored_credentials WHERE platform = ?1 AND account = ?2";
            session.row(sql, bind![slot.platform.as_str(), slot.account.as_str()])?.map(|row| row.get(0)).transpose()
        })
    }
}

impl CredentialStore for DatabaseStore {
    fn name(&self) -> String {
        "the registry".to_owned()
    }

    fn get(&self, slot: &Slot) -> Result<Option<Stored>> {
        let Some(sealed) = self.sealed(slot)? else { return Ok(None) };
        Stored::from_json(&self.key().open(&sealed)?, slot).map(Some)
    }

    fn put(&self, slot: &Slot, stored: &Stored) -> Result<()> {
        let (slot, sealed, now) = (slot.clone(), self.key().seal(&stored.to_json(slot))?, self.clock.now());
        self.store.write_blocking(move |session| {
            session.execute(PUT, bind![slot.platform.as_str(), slot.account.as_str(), &sealed, now])?;
            failpoint("credential", "written")
        })?;
        failpoint("credential", "committed")
    }

    fn remove(&self, slot: &Slot) -> Result<bool> {
        let slot = slot.clone();
        self.store.write_blocking(move |session| {
            let sql = "DELETE FROM stored_credentials WHERE platform = ?1 AND account = ?2";
            Ok(session.execute(sql, bind![slot.platform.as_str(), slot.account.as_str()])? > 0)
        })
    }

    fn kept(&self, of: &[Slot]) -> Result<Vec<Slot>> {
        let rows = self.store.read_blocking(|session| {
            session
                .rows("SELECT platform, account FROM stored_credentials", &[])?
                .iter()
                .map(name)
                .collect::<Result<Vec<_>>>()
        })?;
        let is_kept = |slot: &&Slot| {
            rows.iter()
                .any(|(platform, account)| *platform == slot.platform.as_str() && *account == slot.account.as_str())
        };
        Ok(of.iter().filter(is_kept).cloned().collect())
    }

    fn reseal(&self, with: MasterKey) -> Result<usize> {
        let (old, new, now) = (self.key(), with.clone(), self.clock.now());
        let count = self.store.write_blocking(move |session| {
            session.lock("exai_files credentials")?;
            let rows = session.rows("SELECT platform, account, sealed FROM stored_credentials", &[])?;
            for row in &rows {
                let ((platform, account), sealed) = (name(row)?, row.get::<String>(2)?);
                let resealed = new.seal(&old.open(&sealed)?)?;
                session.execute(PUT, bind![&platform, &account, &resealed, now])?;
            }
            Ok(rows.len())
        })?;
        *self.key.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = with;
        Ok(count)
    }
}

fn name(row: &Row) -> Result<(String, String)> {
    Ok((row.get(0)?, row.get(1)?))
}
