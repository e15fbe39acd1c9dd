//! What each user may have on the platforms.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};
use crate::policy::quota::Amount;

/// One user's limits; what is absent is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct UserLimits {
    pub max_files: Option<u64>,
    pub max_bytes: Option<u64>,
    /// Of one file.
    pub max_file_bytes: Option<u64>,
}

/// Everybody's limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserQuotas {
    pub everybody: UserLimits,
    /// In place of those, setting by setting.
    pub by_user: BTreeMap<String, UserLimits>,
}

impl UserQuotas {
    /// Whether there is any limit at all.
    pub fn are_set(&self) -> bool {
        self.everybody != UserLimits::default() || !self.by_user.is_empty()
    }

    pub fn of(&self, user: &str) -> UserLimits {
        let own = self.by_user.get(user).copied().unwrap_or_default();
        UserLimits {
            max_files: own.max_files.or(self.everybody.max_files),
            max_bytes: own.max_bytes.or(self.everybody.max_bytes),
            max_file_bytes: own.max_file_bytes.or(self.everybody.max_file_bytes),
        }
    }
}

impl UserLimits {
    /// Whether one more file fits, beside what the user has.
    ///
    /// # Errors
    /// `TooLarge` for a file that is too large by itself; `QuotaExceeded`.
    pub fn admit(&self, user: &str, held: Amount, size: u64) -> Result<()> {
        if let Some(limit) = self.max_file_bytes.filter(|limit| size > *limit) {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("{size} bytes are more than {user} may upload at once, {limit}"),
            )
            .with_hint("split the file, or have quotas.max_file_bytes raised")
            .with_sizes(size, limit));
        }
        let over = |held: u64, more: u64, limit: Option<u64>| limit.filter(|limit| held.saturating_add(more) > *limit);
        let full = |what: String, setting: &str| {
            Error::new(ErrorKind::QuotaExceeded, format!("{user} has {what} on the platforms, and may have no more"))
                .with_hint(format!("delete what is not needed, or have quotas.{setting} raised"))
        };
        if let Some(limit) = over(held.files, 1, self.max_files) {
            return Err(full(format!("{} of {limit} files", held.files), "max_files"));
        }
        if let Some(limit) = over(held.bytes, size, self.max_bytes) {
            let error = full(format!("{} of {limit} bytes", held.bytes), "max_bytes");
            return Err(error.with_sizes(size, limit.saturating_sub(held.bytes)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_may_have_so_much_and_no_more() {
        let quotas = UserQuotas {
            everybody: UserLimits { max_files: Some(2), max_bytes: Some(100), max_file_bytes: Some(60) },
            by_user: [("alice".to_owned(), UserLimits { max_files: Some(3), ..UserLimits::default() })].into(),
        };
        let held = Amount { files: 2, bytes: 50 };
        let kind = |user: &str, size: u64| quotas.of(user).admit(user, held, size).map_err(|error| error.kind());
        assert_eq!(kind("bob", 1), Err(ErrorKind::QuotaExceeded));
        assert_eq!(kind("alice", 50), Ok(()));
        assert_eq!(kind("alice", 51), Err(ErrorKind::QuotaExceeded));
        assert_eq!(kind("alice", 61), Err(ErrorKind::TooLarge));
        assert!(UserLimits::default().admit("x", held, u64::MAX).is_ok());
        assert!(quotas.are_set() && !UserQuotas::default().are_set());
    }
}
