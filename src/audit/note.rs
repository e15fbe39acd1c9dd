//! Checkpoints: the log's size and root, signed, in the format of signed notes (C2SP, `signed-note` and
//! `tlog-checkpoint`).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde::Serialize;

use super::key::{AuditKey, VerifyingKey};
use super::tree::{Hash, hex};
use crate::error::{Error, ErrorKind, Result};

/// The signer's name in notes.
pub(super) const NAME: &str = "exai-files-audit";

/// What the first line of a note begins with.
const ORIGIN: &str = "exai-files/audit/";

/// What a log was, at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checkpoint {
    /// The log's id: 32 hexadecimal characters.
    pub log: String,
    /// Records.
    pub size: u64,
    /// Of the RFC 6962 tree, in hexadecimal.
    pub root: String,
    /// The signed note.
    pub note: String,
}

impl Checkpoint {
    pub(super) fn sign(log: &str, size: u64, root: &Hash, key: &AuditKey) -> Self {
        let text = format!("{ORIGIN}{log}\n{size}\n{}\n", BASE64.encode(root));
        let mut signature = key.verifying().id().to_vec();
        signature.extend(key.sign(text.as_bytes()));
        let note = format!("{text}\n\u{2014} {NAME} {}\n", BASE64.encode(signature));
        Checkpoint { log: log.to_owned(), size, root: hex(root), note }
    }

    /// Reads a note, whoever signed it.
    pub(super) fn parse(note: &str) -> Option<Self> {
        let mut lines = note.lines();
        let log = lines.next()?.strip_prefix(ORIGIN)?.to_owned();
        let size = lines.next()?.parse().ok()?;
        let root: Hash = BASE64.decode(lines.next()?).ok()?.try_into().ok()?;
        Some(Checkpoint { log, size, root: hex(&root), note: note.to_owned() })
    }

    pub(super) fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        let Some((text, signatures)) = self.note.split_once("\n\n") else { return false };
        let signed = format!("{text}\n");
        signatures.lines().any(|line| {
            let signature = line.strip_prefix(&format!("\u{2014} {NAME} ")).and_then(|line| BASE64.decode(line).ok());
            signature.is_some_and(|bytes| {
                bytes.len() == 68 && bytes[..4] == key.id() && key.has_signed(signed.as_bytes(), &bytes[4..])
            })
        })
    }
}

/// All notes in a text, one after the other.
///
/// # Errors
/// `InvalidRequest` when there is none, or what is there is none.
pub fn read_checkpoints(text: &str) -> Result<Vec<Checkpoint>> {
    let mut begins: Vec<usize> = text.match_indices(ORIGIN).map(|(at, _)| at).collect();
    begins.retain(|at| *at == 0 || text.as_bytes()[at - 1] == b'\n');
    let ends = begins.iter().skip(1).copied().chain([text.len()]);
    let notes = begins.iter().zip(ends).map(|(begin, end)| format!("{}\n", text[*begin..end].trim_end()));
    let read: Option<Vec<Checkpoint>> = notes.map(|note| Checkpoint::parse(&note)).collect();
    read.filter(|read| !read.is_empty()).ok_or_else(|| {
        Error::new(ErrorKind::InvalidRequest, "there are no checkpoints of an audit log in this")
            .with_hint("name a file that `exai-files audit checkpoint` wrote")
    })
}
