//! What is known of a local file.

use super::Digest;
use crate::clock::Timestamp;

/// A file written to less than this ago may be written to again without its times changing.
const RACY_MICROS: i64 = 1_000_000;

/// What the file system says of a file; unchanged means unread since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
}

impl Fingerprint {
    /// Whether the times are old enough that a later write must have changed them.
    pub fn is_settled(&self, now: Timestamp) -> bool {
        let newest = self.mtime_ns.max(self.ctime_ns) / 1_000;
        newest < now.0 - RACY_MICROS
    }
}

/// What one pass over the bytes tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub digest: Digest,
    pub size: u64,
    pub mime: String,
}
