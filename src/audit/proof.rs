//! Proving to someone who has a checkpoint that a record is in the log.

use serde::Serialize;

use super::AuditLog;
use super::log::{self, LEVELS, TILE};
use super::note::Checkpoint;
use super::tree::{self, Hash, hex};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Session, bind};

/// That a record is in the log a checkpoint is of (RFC 6962 §2.1.1).
#[derive(Clone, Debug, Serialize)]
pub struct Proof {
    pub record: String,
    pub index: u64,
    /// Records of the log then.
    pub size: u64,
    /// From the leaf up, in hexadecimal.
    pub path: Vec<String>,
    /// The signed note.
    pub checkpoint: String,
}

impl AuditLog {
    /// The proof of a record, by the last checkpoint; one is made where the record is younger.
    ///
    /// # Errors
    /// `NotFound` when there is no such record; `Config` without a key; `Registry`.
    pub async fn prove(&self, seq: u64) -> Result<Proof> {
        if self.last_checkpoint().await?.is_none_or(|(last, _)| last.size <= seq) {
            self.checkpoint().await?;
        }
        self.store.read(move |session| prove(session, seq)).await
    }
}

fn prove(session: &mut Session<'_>, seq: u64) -> Result<Proof> {
    let record = session.row("SELECT record FROM audit_log WHERE seq = ?1", bind![seq])?;
    let note =
        session.row("SELECT note FROM audit_checkpoints WHERE size > ?1 ORDER BY size DESC LIMIT 1", bind![seq])?;
    let (Some(record), Some(note)) = (record, note) else {
        return Err(Error::new(ErrorKind::NotFound, format!("the audit log has no record {seq}"))
            .with_hint("`exai-files audit tail` shows the last ones"));
    };
    let note: String = note.get(0)?;
    let Some(Checkpoint { size, .. }) = Checkpoint::parse(&note) else {
        return Err(Error::new(ErrorKind::Integrity, "a checkpoint of the audit log cannot be read"));
    };
    let path = path(session, seq, 0, size)?.iter().map(hex).collect();
    Ok(Proof { record: record.get(0)?, index: seq, size, path, checkpoint: note })
}

fn path(session: &mut Session<'_>, seq: u64, from: u64, to: u64) -> Result<Vec<Hash>> {
    if to - from <= 1 {
        return Ok(Vec::new());
    }
    let middle = from + tree::split(to - from);
    let (mut path, sibling) = match seq < middle {
        true => (path(session, seq, from, middle)?, root(session, middle, to)?),
        false => (path(session, seq, middle, to)?, root(session, from, middle)?),
    };
    path.push(sibling);
    Ok(path)
}

/// The root of the records from `from` up to `to`, a subtree: of whole tiles where there are.
pub(super) fn root(session: &mut Session<'_>, from: u64, to: u64) -> Result<Hash> {
    let count = to - from;
    if count == 0 {
        return Ok(tree::empty());
    }
    for level in 1..=LEVELS {
        let leaves = log::leaves_of(level);
        if count == leaves {
            return Ok(log::tiles(session, level, from / leaves, from / leaves + 1)?[0]);
        }
    }
    if count < TILE {
        return Ok(tree::root_of(&log::leaves(session, from, to)?));
    }
    let middle = from + tree::split(count);
    Ok(tree::node(&root(session, from, middle)?, &root(session, middle, to)?))
}
