//! What people say of a file: tags, free metadata, whose it is; and the trash.

use serde::Deserialize;
use serde_json::{Map, Value as JsonValue};

use super::{Registry, holds, rows};
use crate::audit::Event;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Digest, FileRecord};
use crate::store::{Id, Json, Session, bind};

/// Characters of a tag, and of an owner's name.
const LONGEST: usize = 200;

/// Bytes of a file's metadata, as JSON.
const MOST_METADATA: usize = 64 << 10;

/// Changes to what people say of a file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Labels {
    pub tags: Vec<String>,
    /// Tags to take away.
    pub untag: Vec<String>,
    /// Put over what is there; `null` removes a field.
    pub metadata: Map<String, JsonValue>,
    pub owner: Option<String>,
}

impl Labels {
    pub fn is_empty(&self) -> bool {
        *self == Labels::default()
    }

    /// Whether nothing of it would change a file.
    pub fn are_on(&self, record: &FileRecord) -> bool {
        self.tags.iter().all(|tag| record.tags.contains(tag))
            && !self.untag.iter().any(|tag| record.tags.contains(tag))
            && self.owner.as_ref().is_none_or(|owner| record.owner.as_ref() == Some(owner))
            && merged(record.metadata.clone(), &self.metadata) == record.metadata
    }

    /// # Errors
    /// `InvalidRequest` naming what will not do.
    pub fn check(&self) -> Result<()> {
        for (what, text) in
            self.tags.iter().map(|tag| ("tag", tag)).chain(self.owner.iter().map(|name| ("owner", name)))
        {
            let fits =
                !text.trim().is_empty() && text.chars().count() <= LONGEST && !text.chars().any(char::is_control);
            if !fits {
                return Err(Error::new(ErrorKind::InvalidRequest, format!("{text:?} cannot be a file's {what}"))
                    .with_hint(format!("use 1 to {LONGEST} characters, none of them a control character")));
            }
        }
        check_size(&self.metadata)
    }
}

fn check_size(metadata: &Map<String, JsonValue>) -> Result<()> {
    let size = serde_json::to_vec(metadata).map_or(usize::MAX, |json| json.len());
    if size <= MOST_METADATA {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidRequest, format!("metadata of {size} bytes is too much for one file"))
        .with_hint(format!("keep it below {MOST_METADATA} bytes, and put the rest where the file is")))
}

impl Registry {
    /// Changes what is said of a file; saying it again changes nothing.
    ///
    /// # Errors
    /// `InvalidRequest`, see [`Labels::check`]; `NotFound` when the content is not known.
    pub async fn label(&self, digest: &Digest, labels: Labels) -> Result<FileRecord> {
        labels.check()?;
        let digest = *digest;
        self.audited("label", move |session, audit| {
            let labelled = label(session, &digest, &labels)?;
            audit.note(session, &Event::of("label", &digest))?;
            Ok(labelled)
        })
        .await
    }

    /// Puts a file into the trash: it is no longer listed, found by name or used, and nothing else of it changes.
    ///
    /// # Errors
    /// `NotFound` when the content is not known; `Conflict` while a lease or a legal hold keeps it.
    pub async fn trash(&self, digest: &Digest) -> Result<FileRecord> {
        self.set_trashed(*digest, true).await
    }

    /// Takes it out again.
    ///
    /// # Errors
    /// `NotFound` when the content is not known.
    pub async fn restore(&self, digest: &Digest) -> Result<FileRecord> {
        self.set_trashed(*digest, false).await
    }

    async fn set_trashed(&self, digest: Digest, is_trashed: bool) -> Result<FileRecord> {
        self.audited("set-trashed", move |session, audit| {
            session.lock(&digest.hex())?;
            if is_trashed {
                holds::check_free(session, &digest, None, audit.now)?;
            }
            let record = set_trashed(session, &digest, is_trashed.then_some(audit.now), audit.now)?;
            audit.note(session, &Event::of(if is_trashed { "trash" } else { "restore" }, &digest))?;
            Ok(record)
        })
        .await
    }
}

fn label(session: &mut Session<'_>, digest: &Digest, labels: &Labels) -> Result<FileRecord> {
    let hex = digest.hex();
    session.lock(&hex)?;
    let record = rows::find_record(session, digest)?.ok_or_else(|| unknown(digest))?;
    for tag in &labels.tags {
        session.execute(
            "INSERT INTO file_tags (tag, file_hash) VALUES (?1, ?2) ON CONFLICT (tag, file_hash) DO NOTHING",
            bind![tag, &hex],
        )?;
    }
    for tag in &labels.untag {
        session.execute("DELETE FROM file_tags WHERE tag = ?1 AND file_hash = ?2", bind![tag, &hex])?;
    }
    if !labels.metadata.is_empty() {
        let merged = merged(record.metadata, &labels.metadata);
        check_size(&merged)?;
        let json = JsonValue::Object(merged).to_string();
        set_of_original(session, &hex, "metadata", Json(&json).into())?;
    }
    if let Some(owner) = &labels.owner {
        set_of_original(session, &hex, "user_id", owner.into())?;
    }
    rows::find_record(session, digest)?.ok_or_else(|| unknown(digest))
}

fn merged(mut metadata: Map<String, JsonValue>, over: &Map<String, JsonValue>) -> Map<String, JsonValue> {
    for (field, value) in over {
        match value {
            JsonValue::Null => drop(metadata.remove(field)),
            value => drop(metadata.insert(field.clone(), value.clone())),
        }
    }
    metadata
}

/// Changes a column of the row that holds a content's first name.
fn set_of_original(
    session: &mut Session<'_>,
    hex: &str,
    column: &'static str,
    value: crate::store::Value<'_>,
) -> Result<()> {
    let row = session.row("SELECT original_file_id FROM file_hashes WHERE file_hash = ?1", bind![hex])?;
    let Some(id) = row.map(|row| row.get::<Option<String>>(0)).transpose()?.flatten() else { return Ok(()) };
    session.execute(&format!("UPDATE file_uploads SET {column} = ?1 WHERE id = ?2"), &[value, Id(&id).into()])?;
    Ok(())
}

fn set_trashed(
    session: &mut Session<'_>,
    digest: &Digest,
    at: Option<Timestamp>,
    now: Timestamp,
) -> Result<FileRecord> {
    // Into the trash only once: since when it has been there is what counts.
    let changed = match at {
        Some(at) => session.execute(
            "UPDATE file_hashes SET trashed_at = COALESCE(trashed_at, ?2) WHERE file_hash = ?1",
            bind![&digest.hex(), at],
        )?,
        // What it was wanted until is over by then, or is still to come.
        None => session.execute(
            "UPDATE file_hashes SET trashed_at = NULL, keep_until = CASE WHEN keep_until <= ?2 THEN NULL ELSE keep_until END
              WHERE file_hash = ?1",
            bind![&digest.hex(), now],
        )?,
    };
    match rows::find_record(session, digest)?.filter(|_| changed > 0) {
        Some(record) => Ok(record),
        None => Err(unknown(digest)),
    }
}

fn unknown(digest: &Digest) -> Error {
    Error::new(ErrorKind::NotFound, format!("no file {digest} is known")).with_hint("upload it first")
}
