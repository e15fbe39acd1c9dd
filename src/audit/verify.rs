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
    /// The number of the next record.
    next: u64,
    /// The hash of the last one; not known of one that is missing.
    prev: Option<Hash>,
    is_whole: bool,
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
        next: 0,
        prev: Some([0; 32]),
        is_whole: true,
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
        match self.findings.len() {
            MOST => self.findings.push(Finding { seq: None, what: "there is more that is not told here".to_owned() }),
            found if found < MOST => self.findings.push(Finding { seq: seq.into(), what: what.into() }),
            _ => {}
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
        let seq = stored.seq;
        if seq != self.next {
            let (first, last) = (self.next, seq.saturating_sub(1));
            let said = if first == last {
                format!("record {first} is missing")
            } else {
                format!("records {first} to {last} are missing")
            };
            self.find(first, said);
            // All that is hashed with it differs; what else was done to the log must not drown in that.
            (self.prev, self.is_whole) = (None, false);
        }
        self.next = seq + 1;
        match serde_json::from_str::<Map<String, Value>>(&stored.record) {
            Ok(record) => self.check(seq, stored, &record),
            Err(_) => self.find(seq, format!("record {seq} is not JSON")),
        }
        let hash = leaf(stored.record.as_bytes());
        self.prev = Some(hash);
        let completed = self.tree.push(hash);
        if self.is_whole {
            self.check_tiles(&completed);
        }
        let size = self.next;
        for checkpoint in self.checkpoints.remove(&size).unwrap_or_default() {
            self.compared += 1;
            if !self.is_whole || checkpoint.root != hex(&self.tree.root()) {
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
        if self.prev.is_some_and(|prev| text("prev") != Some(hex(&prev).as_str())) {
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
            let what = match size > self.next {
                true => format!("{size} records were signed, and only {} are left", self.next),
                false => format!("the records before {size} are not those that were signed"),
            };
            self.find(self.next.min(size), what);
        }
        let ends_late = |(level, number): &&(u64, u64)| (number + 1) * log::leaves_of(*level) > size_since;
        let late = self.tiles.keys().find(ends_late).copied().filter(|_| self.is_whole);
        if let Some((level, number)) = late {
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
