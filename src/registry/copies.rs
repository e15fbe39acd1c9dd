//! Which contents have a kept copy, and when it was last looked at.

use std::time::Duration;

use super::{Registry, rows};
use crate::audit::Event;
use crate::error::Result;
use crate::model::Digest;
use crate::store::{Row, bind};

/// A kept copy, as noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptCopy {
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// It was missing or damaged the last time.
    pub is_lost: bool,
}

/// Why a noted copy is not to be relied on. What this registry has not noted is not its own: others may keep theirs in the
/// same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unkept {
    /// Nobody needs it: it may be removed.
    Removed,
    /// It was not there; a place that is not mounted looks so, too.
    Missing,
    Damaged,
}

impl Unkept {
    fn as_str(self) -> &'static str {
        match self {
            Unkept::Removed => "removed",
            Unkept::Missing => "missing",
            Unkept::Damaged => "damaged",
        }
    }
}

impl Registry {
    pub async fn is_kept(&self, digest: &Digest) -> Result<bool> {
        let hex = digest.hex();
        self.store
            .read(move |session| {
                let sql = "SELECT 1 FROM kept_copies WHERE file_hash = ?1 AND gone IS NULL";
                Ok(session.row(sql, bind![&hex])?.is_some())
            })
            .await
    }

    /// Notes that a copy is about to be written: what a process that dies leaves of it is ours to remove.
    pub async fn begin_keep(&self, digest: &Digest, size: u64) -> Result<()> {
        let (hex, now) = (digest.hex(), self.now());
        self.write("begin-keep", move |session| {
            let sql = "INSERT INTO kept_copies (file_hash, file_size, kept_at, gone) VALUES (?1, ?2, ?3, 'begun')
                       ON CONFLICT (file_hash) DO UPDATE SET kept_at = excluded.kept_at";
            session.execute(sql, bind![&hex, size, now]).map(drop)
        })
        .await
    }

    /// Notes that a copy could not be written, and nothing is there.
    pub async fn forget_begun(&self, digest: &Digest) -> Result<()> {
        let hex = digest.hex();
        self.write("forget-begun", move |session| {
            session.execute("DELETE FROM kept_copies WHERE file_hash = ?1 AND gone = 'begun'", bind![&hex]).map(drop)
        })
        .await
    }

    /// Notes that a copy is there, and whole.
    pub async fn note_kept(&self, digest: &Digest, size: u64) -> Result<()> {
        let digest = *digest;
        self.audited("note-kept", move |session, audit| {
            let added = session.execute(
                "INSERT INTO kept_copies (file_hash, file_size, kept_at, checked_at) VALUES (?1, ?2, ?3, ?3)
                 ON CONFLICT (file_hash) DO UPDATE SET gone = NULL, kept_at = excluded.kept_at, checked_at = excluded.checked_at
                  WHERE kept_copies.gone IS NOT NULL",
                bind![&digest.hex(), size, audit.now],
            )?;
            match added {
                0 => Ok(()),
                _ => audit.note(session, &Event { bytes: Some(size), ..Event::of("copy.keep", &digest) }),
            }
        })
        .await
    }

    /// Noted copies that nobody needs: of contents that are on no platform and not on their way to one, and are not kept
    /// for themselves, or not known any more. None that was noted in the last `young`.
    pub async fn unneeded_copies(&self, young: Duration) -> Result<Vec<KeptCopy>> {
        let lately = self.now().minus(young);
        self.store
            .read(move |session| {
                let sql = "SELECT file_hash, file_size, gone IN ('missing', 'damaged') FROM kept_copies k WHERE kept_at <= ?1
                    AND NOT EXISTS (SELECT 1 FROM platform_file_registry p
                                     WHERE p.file_hash = k.file_hash AND p.status IN ('active', 'deleting', 'retired'))
                    AND NOT EXISTS (SELECT 1 FROM upload_intents i WHERE i.file_hash = k.file_hash AND i.state = 'sending')
                    AND (gone IN ('removed', 'begun')
                         OR NOT EXISTS (SELECT 1 FROM file_hashes h WHERE h.file_hash = k.file_hash))";
                session.rows(sql, bind![lately])?.iter().map(copy).collect()
            })
            .await
    }

    /// A copy is not to be relied on any more.
    pub async fn forget_kept(&self, digest: &Digest, why: Unkept) -> Result<()> {
        let digest = *digest;
        self.audited("forget-kept", move |session, audit| {
            let sql = "UPDATE kept_copies SET gone = ?2 WHERE file_hash = ?1 AND (gone IS NULL OR gone <> ?2)";
            match session.execute(sql, bind![&digest.hex(), why.as_str()])? {
                0 => Ok(()),
                _ => audit.note(session, &Event { reason: Some(why.as_str()), ..Event::of("copy.drop", &digest) }),
            }
        })
        .await
    }

    /// A copy that nobody needed has been removed.
    pub async fn drop_kept(&self, digest: &Digest) -> Result<()> {
        let digest = *digest;
        self.audited("drop-kept", move |session, audit| {
            match session.execute("DELETE FROM kept_copies WHERE file_hash = ?1", bind![&digest.hex()])? {
                0 => Ok(()),
                _ => audit.note(session, &Event::of("copy.remove", &digest)),
            }
        })
        .await
    }

    /// Copies that should be there, those that were looked at longest ago first.
    pub async fn kept_copies(&self) -> Result<Vec<KeptCopy>> {
        self.store
            .read(move |session| {
                let sql = "SELECT file_hash, file_size, gone IS NOT NULL FROM kept_copies
                            WHERE gone IS NULL OR gone IN ('missing', 'damaged') ORDER BY checked_at";
                session.rows(sql, &[])?.iter().map(copy).collect()
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

fn copy(row: &Row) -> Result<KeptCopy> {
    let is_lost: Option<bool> = row.get(2)?;
    Ok(KeptCopy {
        digest: rows::digest_of(&row.get::<String>(0)?)?,
        size: row.get(1)?,
        is_lost: is_lost.unwrap_or_default(),
    })
}
