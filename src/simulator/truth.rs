//! What really happened, for tests to judge by.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use serde::Serialize;

/// Entries kept: a million, some hundred megabytes; the oldest go first.
const KEPT: usize = 1_000_000;

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Entry {
    pub seq: u64,
    /// RFC 3339, on the simulator's clock.
    pub time: String,
    pub platform: &'static str,
    /// Eight hexadecimal characters of the key's SHA-256; never the key.
    pub account: String,
    pub operation: &'static str,
    pub method: String,
    pub path: String,
    /// `null` when no status was sent.
    pub status: Option<u16>,
    pub file_id: Option<String>,
    pub filename: Option<String>,
    pub purpose: Option<String>,
    /// Bytes of the file that were received.
    pub bytes: Option<u64>,
    pub sha256: Option<String>,
    /// stored, listed, read, deleted, expired, refused, lost_reply, lost_request, aborted or failed.
    pub outcome: &'static str,
    pub fault: Option<&'static str>,
    pub authenticated: bool,
    pub request_headers: BTreeMap<&'static str, String>,
}

#[derive(Default)]
pub(super) struct TruthLog(Mutex<Log>);

#[derive(Default)]
struct Log {
    entries: VecDeque<Entry>,
    next: u64,
}

impl TruthLog {
    pub(super) fn push(&self, mut entry: Entry) {
        let mut log = super::lock(&self.0);
        log.next += 1;
        entry.seq = log.next;
        if log.entries.len() == KEPT {
            log.entries.pop_front();
        }
        log.entries.push_back(entry);
    }

    pub(super) fn select(&self, keep: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        super::lock(&self.0).entries.iter().filter(|entry| keep(entry)).cloned().collect()
    }

    pub(super) fn clear(&self) {
        super::lock(&self.0).entries.clear();
    }
}
