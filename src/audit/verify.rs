//! Reading the whole log again, and saying what is not as it was written.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::log::{self, AuditRecord, LEVELS};
use super::note::Checkpoint;
use super::tree::{Growing, Hash, hex, leaf};
use super::{AuditLog, VerifyingKey};
use crate::error::Result;
use crate::store::Session;

/// Records read at a time.
const PAGE: u64 = 10_000;

/// Findings that are told; what follows from one would drown it.
const MOST: usize = 100;

/// Something that is not as it was written.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The first record it concerns, where one can be named.
    pub seq: Option<u64>,
    pub what: String,
}

/// What a look through the whole log found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub records: u64,
    /// Of the tree, in hexadecimal.
    pub root: String,
    /// Checkpoints that were compared, and how many of them came from elsewhere.
    pub checkpoints: u64,
    pub external_checkpoints: u64,
    pub is_intact: bool,
    pub findings: Vec<Finding>,
}

impl AuditLog {
    /// Compares the log with itself, its checkpoints, and those from elsewhere, which are the only ones that show
    /// whether its end was cut off or all of it written anew. `key`: whose signatures to believe; default: this log's.
    ///
    /// # Errors
    /// `Registry`; `Config` without any key.
    pub async fn verify(&self, external: Vec<Checkpoint>, key: Option<VerifyingKey>) -> Result<Report> {
        self.seal().await?;
        let key = key.map_or_else(|| self.verifying_key(), Ok)?;
        self.store.read(move |session| verify(session, &external, &key)).await
    }
}

struct Verifier {
    tree: Growing,
    prev: Hash,
    log: String,
    /// By size.
    checkpoints: BTreeMap<u64, Vec<Checkpoint>>,
    /// By level and number.
    tiles: BTreeMap<(u64, u64), String>,
    compared: u64,
    findings: Vec<Finding>,
}

fn verify(session: &mut Session<'_>, external: &[Checkpoint], key: &VerifyingKey) -> Result<Report> {
    let mut own = Vec::new();
    for row in session.rows("SELECT size, note FROM audit_checkpoints ORDER BY size", &[])? {
        own.push((row.get::<u64>(0)?, row.get::<String>(1)?));
    }
    let mut verifier = Verifier {
        tree: Growing::default(),
        prev: [0; 32],
        log: log::log_id(session).unwrap_or_default(),
        checkpoints: BTreeMap::new(),
        tiles: BTreeMap::new(),
        compared: 0,
        findings: Vec::new(),
    };
    // Others go on writing: what is compared is the log as it is now, and a tile comes with the last of its records.
    let size = log::size(session)?;
    for row in session.rows("SELECT level, number, hash FROM audit_tiles", &[])? {
        verifier.tiles.insert((row.get(0)?, row.get(1)?), row.get(2)?);
    }
    verifier.take_checkpoints(own, external, key);
    let mut from = 0;
    while from < size {
        let page = log::records_from(session, from, PAGE.min(size - from))?;
        page.iter().filter(|record| record.seq < size).for_each(|record| verifier.take(record));
        from = page.last().map_or(size, |last| last.seq + 1);
    }
    let size_since = log::size(session)?;
    Ok(verifier.report(external.len() as u64, size_since))
}

impl Verifier {
    fn find(&mut self, seq: impl Into<Option<u64>>, what: impl Into<String>) {
        if self.findings.len() < MOST {
            self.findings.push(Finding { seq: seq.into(), what: what.into() });
        }
    }

    fn take_checkpoints(&mut self, own: Vec<(u64, String)>, external: &[Checkpoint], key: &VerifyingKey) {
        let mut all = Vec::new();
        for (size, note) in own {
            match Checkpoint::parse(&note).filter(|checkpoint| checkpoint.size == size) {
                Some(checkpoint) => all.push(checkpoint),
                None => self.find(None, format!("the checkpoint of {size} records is not one")),
            }
        }
        all.extend(external.iter().cloned());
        for checkpoint in all {
            if !checkpoint.is_signed_by(key) {
                let size = checkpoint.size;
                self.find(None, format!("the checkpoint of {size} records is not signed by this key"));
            } else if checkpoint.log != self.log {
                self.find(0, format!("a checkpoint is of another log, {}", checkpoint.log));
            } else {
                self.checkpoints.entry(checkpoint.size).or_default().push(checkpoint);
            }
        }
    }

    fn take(&mut self, stored: &AuditRecord) {
        let seq = self.tree.size();
        if stored.seq != seq {
            self.find(seq, format!("record {seq} is missing: {} follows", stored.seq));
        }
        match serde_json::from_str::<Map<String, Value>>(&stored.record) {
            Ok(record) => self.check(seq, stored, &record),
            Err(_) => self.find(seq, format!("record {seq} is not JSON")),
        }
        let hash = leaf(stored.record.as_bytes());
        self.prev = hash;
        let completed = self.tree.push(hash);
        self.check_tiles(&completed);
        let size = self.tree.size();
        for checkpoint in self.checkpoints.remove(&size).unwrap_or_default() {
            self.compared += 1;
            if checkpoint.root != hex(&self.tree.root()) {
                self.find(None, format!("the records before {size} are not those that were signed"));
            }
        }
    }

    fn check(&mut self, seq: u64, stored: &AuditRecord, record: &Map<String, Value>) {
        let text = |name: &str| record.get(name).and_then(Value::as_str);
        let number = |name: &str| record.get(name).and_then(Value::as_i64);
        if log::canonical(&Value::Object(record.clone())) != stored.record {
            self.find(seq, format!("record {seq} is not written as it was"));
        }
        if number("seq").and_then(|stated| u64::try_from(stated).ok()) != Some(seq) {
            self.find(seq, format!("record {seq} says that it is another one"));
        }
        if text("prev") != Some(hex(&self.prev).as_str()) {
            self.find(seq, format!("record {seq} does not follow the one before it"));
        }
        if seq == 0 && (text("action") != Some("audit.begin") || text("log").is_none()) {
            self.find(seq, "the first record does not begin a log");
        }
        let is_as_shown = text("action") == Some(stored.action.as_str())
            && text("digest") == stored.digest.as_deref()
            && number("time") == Some(stored.happened_at.0);
        if !is_as_shown {
            self.find(seq, format!("the columns of record {seq} say something else than it does"));
        }
    }

    /// `completed` are the subtrees that the last leaf was the last of: of 2, 4, 8 … leaves.
    fn check_tiles(&mut self, completed: &[Hash]) {
        let size = self.tree.size();
        for level in 1..=LEVELS {
            let leaves = log::leaves_of(level);
            let Some(root) = completed.get(leaves.ilog2() as usize - 1).filter(|_| size.is_multiple_of(leaves)) else {
                return;
            };
            let number = size / leaves - 1;
            if self.tiles.remove(&(level, number)) != Some(hex(root)) {
                self.find(
                    size - leaves,
                    format!("the kept hash of records {} to {} is wrong", size - leaves, size - 1),
                );
            }
        }
    }

    fn report(mut self, external: u64, size_since: u64) -> Report {
        let records = self.tree.size();
        for size in std::mem::take(&mut self.checkpoints).into_keys() {
            self.find(records, format!("{size} records were signed, and only {records} are left"));
        }
        let ends_late = |(level, number): &&(u64, u64)| (number + 1) * log::leaves_of(*level) > size_since;
        if let Some((level, number)) = self.tiles.keys().find(ends_late).copied() {
            let first = number * log::leaves_of(level);
            self.find(first.min(records), "hashes are kept of records that are not there");
        }
        Report {
            records,
            root: hex(&self.tree.root()),
            checkpoints: self.compared,
            external_checkpoints: external,
            is_intact: self.findings.is_empty(),
            findings: self.findings,
        }
    }
}
