//! Room on an account: whether there is any, and which files make some.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Digest, Replica};

/// What is done when an account is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// The upload is refused.
    #[default]
    Refuse,
    /// What was used longest ago makes room.
    EvictLru,
    /// The smallest files make room: they cost least to be uploaded again.
    EvictSmallest,
}

impl WhenFull {
    /// # Errors
    /// `InvalidRequest` for another word.
    pub fn parse(word: &str) -> Result<Self> {
        match word {
            "refuse" => Ok(WhenFull::Refuse),
            "evict-lru" => Ok(WhenFull::EvictLru),
            "evict-smallest" => Ok(WhenFull::EvictSmallest),
            _ => Err(Error::new(ErrorKind::InvalidRequest, format!("no such thing is done when it is full: {word:?}"))
                .with_hint("use refuse, evict-lru or evict-smallest")),
        }
    }
}

/// Files and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub files: u64,
    pub bytes: u64,
}

/// What an account may hold, where that is stated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    pub files: Option<u64>,
    pub bytes: Option<u64>,
}

impl Quota {
    /// What has to go before one more file of so many bytes fits; nothing where it does.
    pub fn excess(&self, held: Amount, size: u64) -> Amount {
        let over = |held: u64, more: u64, most: Option<u64>| {
            most.map_or(0, |most| held.saturating_add(more).saturating_sub(most))
        };
        Amount { files: over(held.files, 1, self.files), bytes: over(held.bytes, size, self.bytes) }
    }

    /// Whether one file of so many bytes would fit if there were no others.
    pub fn takes(&self, size: u64) -> bool {
        self.excess(Amount::default(), size) == Amount::default()
    }
}

/// A copy that may go: nobody holds it, and it can be made anew.
#[derive(Clone, Debug, Serialize)]
pub struct Victim {
    pub digest: Digest,
    pub name: String,
    /// Bytes.
    pub size: u64,
    pub is_trashed: bool,
    pub replica: Replica,
}

impl Victim {
    fn used_at(&self) -> Timestamp {
        self.replica.used_at.unwrap_or(self.replica.created_at)
    }
}

/// Copies in the order in which they go: those in the trash first.
pub fn in_order(mut copies: Vec<Victim>, when_full: WhenFull) -> Vec<Victim> {
    copies.sort_by_key(|copy| {
        let worth = match when_full {
            WhenFull::EvictSmallest => copy.size,
            WhenFull::EvictLru | WhenFull::Refuse => 0,
        };
        (!copy.is_trashed, worth, copy.used_at(), copy.replica.remote_id.clone())
    });
    copies
}

#[cfg(test)]
mod tests {
    use super::{Amount, Quota};

    #[test]
    fn excess_is_what_has_to_go() {
        let quota = Quota { files: Some(10), bytes: Some(1_000) };
        let excess = |files, bytes, size| {
            let Amount { files, bytes } = quota.excess(Amount { files, bytes }, size);
            (files, bytes)
        };
        assert_eq!(excess(9, 0, 1_000), (0, 0));
        assert_eq!(excess(10, 0, 1), (1, 0));
        assert_eq!(excess(12, 900, 150), (3, 50));
        assert_eq!(excess(0, u64::MAX, 1), (0, u64::MAX - 1_000));
        assert_eq!(Quota::default().excess(Amount { files: u64::MAX, bytes: u64::MAX }, 7), Amount::default());
        assert!(quota.takes(1_000) && !quota.takes(1_001));
    }
}
