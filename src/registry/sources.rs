//! Local files whose digest is known and which have not changed since, and text that platforms extracted.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Registry, rows};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::model::{Digest, Fingerprint, Identity, PlatformId};

impl Registry {
    /// The identity of an unchanged local file, without reading it. Blocking.
    pub fn recall_source(&self, fingerprint: Fingerprint) -> Result<Option<Identity>> {
        self.store.read_blocking(move |connection| recall(connection, &fingerprint))
    }

    /// Notes what a local file holds, without waiting for the disk.
    ///
    /// The path is kept to find the bytes again. Whether the digest may be trusted later follows from how long the
    /// file had been at rest at that moment.
    pub fn remember_source(&self, fingerprint: Fingerprint, path: Option<String>, identity: &Identity) {
        let (digest, mime, now) = (identity.digest, identity.mime.clone(), self.now());
        self.store
            .write_soon(move |connection| remember(connection, &fingerprint, &digest, &mime, path.as_deref(), now));
    }

    /// Paths that held this content when last seen, newest first.
    pub async fn source_paths(&self, digest: &Digest) -> Result<Vec<String>> {
        let hex = digest.hex();
        self.store
            .read(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT path FROM known_sources WHERE file_hash = ?1 AND path IS NOT NULL ORDER BY seen_at DESC",
                )?;
                let paths = statement.query_map([hex], |row| row.get(0))?.collect::<Result<_, _>>()?;
                Ok(paths)
            })
            .await
    }

    /// Text that `platform` extracted from this content with this generation of its parser.
    pub async fn extracted_text(&self, digest: &Digest, platform: &PlatformId, epoch: &str) -> Result<Option<String>> {
        let key = (digest.hex(), platform.to_string(), epoch.to_owned());
        self.store
            .read(move |connection| {
                let text = connection
                    .prepare_cached(
                        "SELECT content FROM extracted_texts WHERE file_hash = ?1 AND platform = ?2 AND parser_epoch = ?3",
                    )?
                    .query_row(params![key.0, key.1, key.2], |row| row.get(0))
                    .optional()?;
                Ok(text)
            })
            .await
    }

    pub async fn keep_text(&self, digest: &Digest, platform: &PlatformId, epoch: &str, text: &str) -> Result<()> {
        let row = (digest.hex(), platform.to_string(), epoch.to_owned(), text.to_owned());
        let now = self.now();
        self.store
            .write(move |connection| {
                connection
                    .prepare_cached(
                        "INSERT INTO extracted_texts (file_hash, platform, parser_epoch, content, fetched_at)
                         VALUES (?1, ?2, ?3, ?4, ?5)
                         ON CONFLICT DO UPDATE SET content = excluded.content, fetched_at = excluded.fetched_at",
                    )?
                    .execute(params![row.0, row.1, row.2, row.3, now.0])?;
                Ok(())
            })
            .await
    }
}

fn recall(connection: &Connection, fingerprint: &Fingerprint) -> Result<Option<Identity>> {
    let known: Option<(String, String, i64)> = connection
        .prepare_cached(
            "SELECT file_hash, mime_type, seen_at FROM known_sources
              WHERE device = ?1 AND inode = ?2 AND file_size = ?3 AND mtime_ns = ?4 AND ctime_ns = ?5",
        )?
        .query_row(
            params![
                fingerprint.device.cast_signed(),
                fingerprint.inode.cast_signed(),
                fingerprint.size,
                fingerprint.mtime_ns,
                fingerprint.ctime_ns
            ],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()?;
    let trusted = known.filter(|(_, _, seen_at)| fingerprint.is_settled(Timestamp(*seen_at)));
    trusted
        .map(|(hex, mime, _)| Ok(Identity { digest: rows::digest_of(&hex)?, size: fingerprint.size, mime }))
        .transpose()
}

fn remember(
    connection: &Connection,
    fingerprint: &Fingerprint,
    digest: &Digest,
    mime: &str,
    path: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO known_sources (device, inode, file_size, mtime_ns, ctime_ns, file_hash, mime_type, path, seen_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (device, inode) DO UPDATE SET
                 file_size = excluded.file_size, mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns,
                 file_hash = excluded.file_hash, mime_type = excluded.mime_type, path = excluded.path,
                 seen_at = excluded.seen_at",
        )?
        .execute(params![
            fingerprint.device.cast_signed(),
            fingerprint.inode.cast_signed(),
            fingerprint.size,
            fingerprint.mtime_ns,
            fingerprint.ctime_ns,
            digest.hex(),
            mime,
            path,
            now.0
        ])?;
    Ok(())
}
