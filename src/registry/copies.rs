//! Which contents have a kept copy, and when it was last looked at.

use std::time::Duration;

use super::{Registry, rows};
use crate::audit::Event;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::model::Digest;
use crate::store::{Row, bind};

/// A kept copy, as noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptCopy {
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    pub checked_at: Option<Timestamp>,
}

impl Registry {
    pub async fn is_kept(&self, digest: &Digest) -> Result<bool> {
        let hex = digest.hex();
        self.store
            .read(move |session| {
                Ok(session.row("SELECT 1 FROM kept_copies WHERE file_hash = ?1", bind![&hex])?.is_some())
            })
            .await
    }

    pub async fn note_kept(&self, digest: &Digest, size: u64) -> Result<()> {
        let digest = *digest;
        self.audited("note-kept", move |session, audit| {
            let added = session.execute(
                "INSERT INTO kept_copies (file_hash, file_size, kept_at, checked_at) VALUES (?1, ?2, ?3, ?3)
                 ON CONFLICT (file_hash) DO NOTHING",
                bind![&digest.hex(), size, audit.now],
            )?;
            match added {
                0 => Ok(()),
                _ => audit.note(session, &Event { bytes: Some(size), ..Event::of("copy.keep", &digest) }),
            }
        })
        .await
    }

    /// Whether a content is on a platform, noted or not; or noted, and known, on its way to one, or noted of late.
    pub async fn needs_copy(&self, digest: &Digest, young: Duration) -> Result<bool> {
        let (hex, lately) = (digest.hex(), self.now().minus(young));
        self.store
            .read(move |session| {
                let sql = "SELECT 1 WHERE EXISTS (SELECT 1 FROM platform_file_registry WHERE file_hash = ?1 AND status = 'active')
                              OR EXISTS (SELECT 1 FROM kept_copies k WHERE k.file_hash = ?1 AND (k.kept_at > ?2
                                   OR EXISTS (SELECT 1 FROM file_hashes WHERE file_hash = ?1)
                                   OR EXISTS (SELECT 1 FROM upload_intents WHERE file_hash = ?1 AND state = 'sending')))";
                Ok(session.row(sql, bind![&hex, lately])?.is_some())
            })
            .await
    }

    /// There is no copy any more: `why` is "removed", "damaged" or "missing".
    pub async fn forget_kept(&self, digest: &Digest, why: &'static str) -> Result<()> {
        let digest = *digest;
        self.audited("forget-kept", move |session, audit| {
            session.execute("DELETE FROM kept_copies WHERE file_hash = ?1", bind![&digest.hex()])?;
            audit.note(session, &Event { reason: Some(why), ..Event::of("copy.drop", &digest) })
        })
        .await
    }

    /// Copies that were looked at longest ago.
    pub async fn kept_copies(&self, most: u64) -> Result<Vec<KeptCopy>> {
        self.store
            .read(move |session| {
                let sql = "SELECT file_hash, file_size, checked_at FROM kept_copies ORDER BY checked_at LIMIT ?1";
                let copy = |row: &Row| {
                    let digest = rows::digest_of(&row.get::<String>(0)?)?;
                    Ok(KeptCopy { digest, size: row.get(1)?, checked_at: row.get(2)? })
                };
                session.rows(sql, bind![most])?.iter().map(copy).collect()
            })
            .await
    }

    pub async fn note_checked(&self, digest: &Digest) -> Result<()> {
        let (hex, now) = (digest.hex(), self.now());
        self.write("note-checked", move |session| {
            session.execute("UPDATE kept_copies SET checked_at = ?2 WHERE file_hash = ?1", bind![&hex, now])
        })
        .await
        .map(drop)
    }
}
