//! How long files are wanted, what is to be decided over, and that nothing is left of one.

use serde::Serialize;

use super::{Registry, holds, rows};
use crate::audit::Event;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Digest, FileRecord, Keep};
use crate::policy::retention::Held;
use crate::store::{Id, Session, bind};

/// Files decided over at a time.
const PAGE: usize = 500;

/// A file, with what is to be known for a decision over it.
#[derive(Clone, Debug)]
pub struct Considered {
    pub file: FileRecord,
    pub holds: Vec<Held>,
    pub has_copy: bool,
}

/// A page of files, newest first, and where the next one begins.
#[derive(Debug, Default)]
pub struct ConsideredPage {
    pub files: Vec<Considered>,
    pub next: Option<Position>,
}

/// Where a page ended.
#[derive(Clone, Debug)]
pub struct Position(Timestamp, String);

/// What was left of a file in the registry, and is not any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Erased {
    pub names: u64,
    pub texts: u64,
    /// Copies that were on platforms, today or earlier.
    pub copies: u64,
}

impl Registry {
    /// Says until when a file is wanted.
    ///
    /// # Errors
    /// `NotFound` when the content is not known.
    pub async fn set_keep(&self, digest: &Digest, keep: Keep) -> Result<FileRecord> {
        let digest = *digest;
        self.audited("set-keep", move |session, audit| {
            let hex = digest.hex();
            if keep != Keep::AsItIs {
                let sql = "UPDATE file_hashes SET keep_until = ?2, updated_at = ?3 WHERE file_hash = ?1";
                session.execute(sql, bind![&hex, keep.until(), audit.now])?;
            }
            let until = keep.until().map_or_else(|| "for ever".to_owned(), |until| until.to_string());
            audit.note(session, &Event { details: &[("until", &until)], ..Event::of("keep", &digest) })?;
            rows::find_record(session, &digest)?.ok_or_else(|| unknown(&digest))
        })
        .await
    }

    /// Files to be decided over, newest first: all, or only those whose own time, or time in the trash, is over.
    pub async fn considered(
        &self,
        due: Option<(Timestamp, Option<Timestamp>)>,
        after: Option<Position>,
    ) -> Result<ConsideredPage> {
        let now = self.now();
        self.store.read(move |session| page(session, due, after, now)).await
    }

    /// What holds a file now, for a decision.
    pub async fn held(&self, digest: &Digest) -> Result<Vec<Held>> {
        let (digest, now) = (*digest, self.now());
        self.store.read(move |session| held(session, &digest, now)).await
    }

    /// Forgets all of a file that is on no platform: its names, texts, tags, and where it was.
    ///
    /// # Errors
    /// `Conflict` while it is held, on a platform or on its way to one; `NotFound`.
    pub async fn erase(&self, digest: &Digest, why: &'static str) -> Result<Erased> {
        let digest = *digest;
        self.audited("erase", move |session, audit| {
            let hex = digest.hex();
            session.lock(&hex)?;
            holds::check_free(session, &digest, None, audit.now)?;
            check_trashed(session, &hex)?;
            check_placed_nowhere(session, &hex)?;
            let erased = erase(session, &hex)?;
            let Erased { names, texts, copies } = erased;
            let details = [("names", names.to_string()), ("texts", texts.to_string()), ("copies", copies.to_string())];
            let details = details.each_ref().map(|(name, count)| (*name, count.as_str()));
            audit.note(session, &Event { reason: Some(why), details: &details, ..Event::of("erase", &digest) })?;
            Ok(erased)
        })
        .await
    }

    /// Forgets where this machine has seen a content.
    pub async fn forget_sources(&self, digest: &Digest) -> Result<u64> {
        let hex = digest.hex();
        let sql = "DELETE FROM known_sources WHERE file_hash = ?1";
        self.sources.write(move |session| session.execute(sql, bind![&hex])).await
    }
}

fn page(
    session: &mut Session<'_>,
    due: Option<(Timestamp, Option<Timestamp>)>,
    after: Option<Position>,
    now: Timestamp,
) -> Result<ConsideredPage> {
    let (at, id) = after.map_or((Timestamp(i64::MAX >> 8), String::new()), |Position(at, id)| (at, id));
    // The largest id of all, where a page begins at the beginning.
    let id = if id.is_empty() { "ffffffff-ffff-ffff-ffff-ffffffffffff".to_owned() } else { id };
    let (is_due, until, trashed_until) = match due {
        None => ("TRUE", now, now),
        Some((until, Some(trashed))) => ("(keep_until <= ?3 OR trashed_at <= ?4)", until, trashed),
        Some((until, None)) => ("keep_until <= ?3 AND trashed_at IS NULL AND ?4 = ?4", until, until),
    };
    let sql = format!(
        "SELECT {}, h.id FROM (SELECT * FROM file_hashes WHERE original_file_id IS NOT NULL AND {is_due}
                  AND (created_at, id) < (?1, ?2) ORDER BY created_at DESC, id DESC LIMIT {PAGE}) h
           LEFT JOIN file_uploads f ON f.id = h.original_file_id ORDER BY h.created_at DESC, h.id DESC",
        rows::RECORD_COLUMNS
    );
    let values = bind![at, Id(&id), until, trashed_until];
    let mut found = session.rows(&sql, if is_due == "TRUE" { &values[..2] } else { values })?;
    let last = found.last().map(|row| Ok::<_, Error>(Position(row.get(4)?, row.get(9)?))).transpose()?;
    let last = last.filter(|_| found.len() == PAGE);
    // Other programs may have removed the row of its name.
    found.retain(|row| row.get::<Option<String>>(1).is_ok_and(|name| name.is_some()));
    let files = rows::records(session, &found)?;
    let mut considered = Vec::with_capacity(files.len());
    for file in files {
        let holds = held(session, &file.digest, now)?;
        let sql = "SELECT 1 FROM kept_copies WHERE file_hash = ?1 AND gone IS NULL";
        let has_copy = session.row(sql, bind![&file.digest.hex()])?.is_some();
        considered.push(Considered { file, holds, has_copy });
    }
    Ok(ConsideredPage { next: last, files: considered })
}

fn held(session: &mut Session<'_>, digest: &Digest, now: Timestamp) -> Result<Vec<Held>> {
    let holds = holds::holds_of(session, digest, now)?;
    Ok(holds.into_iter().map(|h| Held { kind: h.kind, platform: h.platform, until: h.until }).collect())
}

/// Somebody may have taken it out of the trash, or uploaded it again, meanwhile.
pub(super) fn check_trashed(session: &mut Session<'_>, hex: &str) -> Result<()> {
    let row = session.row("SELECT trashed_at IS NOT NULL FROM file_hashes WHERE file_hash = ?1", bind![hex])?;
    match row.map(|row| row.get::<bool>(0)).transpose()? {
        Some(true) => Ok(()),
        Some(false) => {
            Err(Error::new(ErrorKind::Conflict, "it is in use again").with_hint("put it into the trash first"))
        }
        None => {
            Err(Error::new(ErrorKind::NotFound, "nothing is known of this content").with_hint("it was erased already"))
        }
    }
}

fn check_placed_nowhere(session: &mut Session<'_>, hex: &str) -> Result<()> {
    let there = session.row(
        "SELECT platform, account FROM platform_file_registry
          WHERE file_hash = ?1 AND status IN ('active', 'deleting', 'retired', 'error')",
        bind![hex],
    )?;
    if let Some(row) = there {
        let (platform, account): (String, String) = (row.get(0)?, row.get(1)?);
        return Err(Error::new(ErrorKind::Conflict, format!("it is on {platform} as {account} still"))
            .with_hint("delete it there first; `exai-files recover` ends a delete that was cut short"));
    }
    let open = "SELECT 1 FROM upload_intents WHERE file_hash = ?1 AND state = 'sending'";
    match session.row(open, bind![hex])? {
        Some(_) => Err(Error::new(ErrorKind::Conflict, "it is being uploaded").with_hint("erase it again afterwards")),
        None => Ok(()),
    }
}

fn erase(session: &mut Session<'_>, hex: &str) -> Result<Erased> {
    let mut delete = |sql: &str| session.execute(sql, bind![hex]);
    delete("DELETE FROM file_tags WHERE file_hash = ?1")?;
    delete("DELETE FROM holds WHERE file_hash = ?1")?;
    // Until the copy itself is removed.
    delete("UPDATE kept_copies SET gone = 'removed' WHERE file_hash = ?1")?;
    let texts = delete("DELETE FROM extracted_texts WHERE file_hash = ?1")?;
    delete(
        "DELETE FROM file_health_checks WHERE registry_id IN
             (SELECT id FROM platform_file_registry WHERE file_hash = ?1)",
    )?;
    delete(
        "DELETE FROM file_recovery_attempts WHERE subject IN
             (SELECT id FROM upload_intents WHERE file_hash = ?1
              UNION ALL SELECT id FROM platform_file_registry WHERE file_hash = ?1
              UNION ALL SELECT id FROM moves WHERE file_hash = ?1)",
    )?;
    delete("DELETE FROM moves WHERE file_hash = ?1")?;
    delete("DELETE FROM user_files WHERE file_hash = ?1")?;
    delete("DELETE FROM upload_intents WHERE file_hash = ?1")?;
    let copies = delete("DELETE FROM platform_file_registry WHERE file_hash = ?1")?;
    delete("DELETE FROM file_hashes WHERE file_hash = ?1")?;
    delete("UPDATE file_uploads SET original_file_id = NULL WHERE file_hash = ?1")?;
    let names = delete("DELETE FROM file_uploads WHERE file_hash = ?1")?;
    Ok(Erased { names, texts, copies })
}

fn unknown(digest: &Digest) -> Error {
    Error::new(ErrorKind::NotFound, format!("no file {digest} is known")).with_hint("the list of files shows them")
}

/// How long the content of a row is wanted, once somebody hands it over again: the longer of both.
pub(super) fn keep_longer(session: &mut Session<'_>, hex: &str, known: Option<Timestamp>, keep: Keep) -> Result<()> {
    let longer = match (known, keep) {
        (None, _) | (_, Keep::AsItIs) => return Ok(()),
        (Some(known), Keep::Until(until)) if until <= known => return Ok(()),
        (Some(_), keep) => keep.until(),
    };
    session.execute("UPDATE file_hashes SET keep_until = ?2 WHERE file_hash = ?1", bind![hex, longer]).map(drop)
}
