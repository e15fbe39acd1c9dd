//! Secrets of Supabase Vault, in the registry's PostgreSQL.
//!
//! The view decrypts for whoever may read it, so the registry's role should be allowed that only where keys are kept so.

use crate::credentials::KeyGiver;
use crate::model::Secret;
use crate::store::{Store, bind};

/// One secret, by its name.
#[derive(Debug)]
pub struct VaultSecret {
    pub store: Store,
    pub name: String,
}

impl KeyGiver for VaultSecret {
    fn name(&self) -> String {
        format!("vault secret {}", self.name)
    }

    fn give(&self) -> Result<Secret, String> {
        if !self.store.is_postgres() {
            return Err("needs a registry in PostgreSQL; set registry.url".to_owned());
        }
        let name = self.name.clone();
        let found = self.store.read_blocking(move |session| {
            if session.one("SELECT to_regclass('vault.decrypted_secrets') IS NULL", &[])?.get(0)? {
                return Ok(Err("is not there: the registry's database has no Supabase Vault".to_owned()));
            }
            let sql = "SELECT decrypted_secret FROM vault.decrypted_secrets WHERE name = ?1 ORDER BY created_at DESC";
            let secret: Option<String> = session.row(sql, bind![&name])?.and_then(|row| row.get(0).ok());
            Ok(secret.map(Secret::new).ok_or_else(|| "is not in the vault".to_owned()))
        });
        found.unwrap_or_else(|error| Err(format!("cannot be read: {}", error.message())))
    }
}
