//! Copies that may make room for others.

use std::time::Duration;

use super::{Registry, rows};
use crate::error::Result;
use crate::model::{AccountId, Digest, PlatformId, Replica};
use crate::policy::quota::Victim;
use crate::store::{Row, bind};

/// Uses are noted to the hour: most hits then write nothing.
const NOTED_EVERY: Duration = Duration::from_secs(3_600);

/// What keeps a copy from making room, whichever policy.
const HELD: &str = "EXISTS (SELECT 1 FROM holds d WHERE d.file_hash = i.file_hash AND (d.until IS NULL OR d.until > ?3)
                       AND (d.kind <> 'lease' OR d.platform IS NULL OR d.platform = i.platform))";

impl Registry {
    /// Notes that somebody is given a copy, without waiting for the disk.
    pub fn note_use(&self, replica: &Replica) {
        let now = self.now();
        if replica.used_at.is_some_and(|at| now.since(at) < NOTED_EVERY) {
            return;
        }
        let (platform, id) = (replica.platform.clone(), replica.remote_id.clone());
        self.store.count_soon(move |session| {
            let sql = "UPDATE platform_file_registry SET used_at = ?3 WHERE platform = ?1 AND platform_file_id = ?2
                          AND (used_at IS NULL OR used_at < ?3)";
            session.execute(sql, bind![rows::stored(&platform), &id, now]).map(drop)
        });
    }

    /// Copies of an account that nobody holds. Whether they can be made anew is not asked.
    pub async fn evictable(&self, platform: &PlatformId, account: &AccountId) -> Result<Vec<Victim>> {
        let (platform, account, now) = (platform.clone(), account.clone(), self.now());
        self.store
            .read(move |session| {
                let sql = format!(
                    "SELECT {}, i.file_hash, i.file_size, COALESCE(f.filename, ''), h.trashed_at IS NOT NULL
                       FROM platform_file_registry i
                       JOIN file_hashes h ON h.file_hash = i.file_hash
                       LEFT JOIN file_uploads f ON f.id = h.original_file_id
                      WHERE i.platform = ?1 AND i.account = ?2 AND i.status = 'active' AND NOT {HELD}",
                    rows::replica_columns("i")
                );
                session.rows(&sql, bind![rows::stored(&platform), account.as_str(), now])?.iter().map(victim).collect()
            })
            .await
    }

    /// Stops handing out a copy that makes room, unless somebody has begun to hold it.
    pub async fn begin_evict(&self, digest: &Digest, replica: &Replica) -> Result<bool> {
        let (platform, id, now) = (replica.platform.clone(), replica.remote_id.clone(), self.now());
        let digest = *digest;
        self.write("begin-evict", move |session| {
            session.lock(&digest.hex())?;
            let sql = format!(
                "UPDATE platform_file_registry AS i SET status = 'deleting', updated_at = ?3
                  WHERE i.platform = ?1 AND i.platform_file_id = ?2 AND i.status = 'active' AND NOT {HELD}"
            );
            Ok(session.execute(&sql, bind![rows::stored(&platform), &id, now])? == 1)
        })
        .await
    }
}

fn victim(row: &Row) -> Result<Victim> {
    Ok(Victim {
        replica: rows::replica(row)?,
        digest: rows::digest_of(&row.get::<String>(11)?)?,
        size: row.get(12)?,
        name: row.get(13)?,
        is_trashed: row.get(14)?,
    })
}
