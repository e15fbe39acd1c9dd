//! Local files whose digest is known and which have not changed since, and text that platforms extracted.

use super::{Registry, rows};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::model::{Digest, Fingerprint, Identity, PlatformId};
use crate::store::{Session, bind};

impl Registry {
    /// The identity of an unchanged local file, without reading it. Blocking.
    pub fn recall_source(&self, fingerprint: Fingerprint) -> Result<Option<Identity>> {
        self.sources.read_blocking(move |session| recall(session, &fingerprint))
    }

    /// Notes what a local file holds, without waiting for the disk.
    ///
    /// The path is kept to find the bytes again. Whether the digest may be trusted later follows from how long the
    /// file had been at rest at that moment.
    pub fn remember_source(&self, fingerprint: Fingerprint, path: Option<String>, identity: &Identity) {
        let (digest, mime, now) = (identity.digest, identity.mime.clone(), self.now());
        self.sources.write_soon(move |session| remember(session, &fingerprint, &digest, &mime, path.as_deref(), now));
    }

    /// Paths of this machine that held this content when last seen, newest first.
    pub async fn source_paths(&self, digest: &Digest) -> Result<Vec<String>> {
        let hex = digest.hex();
        self.sources
            .read(move |session| {
                let sql =
                    "SELECT path FROM known_sources WHERE file_hash = ?1 AND path IS NOT NULL ORDER BY seen_at DESC";
                session.rows(sql, bind![&hex])?.iter().map(|row| row.get(0)).collect()
            })
            .await
    }

    /// Text that `platform` extracted from this content with this generation of its parser.
    pub async fn extracted_text(&self, digest: &Digest, platform: &PlatformId, epoch: &str) -> Result<Option<String>> {
        let (hex, platform, epoch) = (digest.hex(), platform.clone(), epoch.to_owned());
        self.store
            .read(move |session| {
                let row = session.row(
                    "SELECT content FROM extracted_texts WHERE file_hash = ?1 AND platform = ?2 AND parser_epoch = ?3",
                    bind![&hex, rows::stored(&platform), &epoch],
                )?;
                row.map(|row| row.get(0)).transpose()
            })
            .await
    }

    pub async fn keep_text(&self, digest: &Digest, platform: &PlatformId, epoch: &str, text: &str) -> Result<()> {
        let (hex, platform, epoch, text) = (digest.hex(), platform.clone(), epoch.to_owned(), text.to_owned());
        let now = self.now();
        self.write("keep-text", move |session| {
            session.execute(
                "INSERT INTO extracted_texts (file_hash, platform, parser_epoch, content, fetched_at)
                     VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (file_hash, platform, parser_epoch)
                     DO UPDATE SET content = excluded.content, fetched_at = excluded.fetched_at",
                bind![&hex, rows::stored(&platform), &epoch, &text, now],
            )?;
            Ok(())
        })
        .await
    }
}

fn recall(session: &mut Session<'_>, fingerprint: &Fingerprint) -> Result<Option<Identity>> {
    let row = session.row(
        "SELECT file_hash, mime_type, seen_at FROM known_sources
          WHERE device = ?1 AND inode = ?2 AND file_size = ?3 AND mtime_ns = ?4 AND ctime_ns = ?5",
        bind![
            fingerprint.device.cast_signed(),
            fingerprint.inode.cast_signed(),
            fingerprint.size,
            fingerprint.mtime_ns,
            fingerprint.ctime_ns,
        ],
    )?;
    let Some(row) = row else { return Ok(None) };
    if !fingerprint.is_settled(row.get::<Timestamp>(2)?) {
        return Ok(None);
    }
    let digest = rows::digest_of(&row.get::<String>(0)?)?;
    Ok(Some(Identity { digest, size: fingerprint.size, mime: row.get(1)? }))
}

fn remember(
    session: &mut Session<'_>,
    fingerprint: &Fingerprint,
    digest: &Digest,
    mime: &str,
    path: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    session.execute(
        "INSERT INTO known_sources (device, inode, file_size, mtime_ns, ctime_ns, file_hash, mime_type, path, seen_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (device, inode) DO UPDATE SET
             file_size = excluded.file_size, mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns,
             file_hash = excluded.file_hash, mime_type = excluded.mime_type, path = excluded.path,
             seen_at = excluded.seen_at",
        bind![
            fingerprint.device.cast_signed(),
            fingerprint.inode.cast_signed(),
            fingerprint.size,
            fingerprint.mtime_ns,
            fingerprint.ctime_ns,
            &digest.hex(),
            mime,
            path,
            now,
        ],
    )?;
    Ok(())
}
