//! Which account of a platform takes a new file: the one with most room.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::{Connection, Manager};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AccountId, Operation, PlatformId};
use crate::registry::Usage;

/// Counting what accounts hold takes a second for a million files; what this process adds meanwhile is added.
const LIFE: Duration = Duration::from_secs(30);

/// What accounts held when they were last counted.
#[derive(Debug, Default)]
pub(super) struct KnownUsage(Mutex<HashMap<PlatformId, Counted>>);

#[derive(Debug)]
struct Counted {
    at: Instant,
    by_account: HashMap<AccountId, Usage>,
}

impl KnownUsage {
    fn of(&self, platform: &PlatformId) -> Option<HashMap<AccountId, Usage>> {
        let known = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        known.get(platform).filter(|counted| counted.at.elapsed() < LIFE).map(|counted| counted.by_account.clone())
    }

    fn set(&self, platform: &PlatformId, by_account: HashMap<AccountId, Usage>) {
        let mut known = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        known.insert(platform.clone(), Counted { at: Instant::now(), by_account });
    }

    /// Something was taken away: it is counted anew.
    pub(super) fn forget(&self, platform: &PlatformId) {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(platform);
    }

    /// One more file, just sent.
    pub(super) fn add(&self, platform: &PlatformId, account: &AccountId, size: u64) {
        let mut known = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(counted) = known.get_mut(platform) {
            let held = counted.by_account.entry(account.clone()).or_default();
            held.files += 1;
            held.bytes += size;
        }
    }
}

/// In the order in which accounts are preferred.
#[derive(Debug, PartialEq, PartialOrd)]
struct Rank {
    is_full: bool,
    is_refused: bool,
    /// Parts of the quota that are used; 0 where there is none.
    share: f64,
    files: u64,
}

impl Manager {
    /// What the accounts of a platform hold, as counted lately.
    pub(super) async fn usage_of(&self, platform: &PlatformId) -> Result<HashMap<AccountId, Usage>> {
        if let Some(usage) = self.usage.of(platform) {
            return Ok(usage);
        }
        let counted = self.registry.usage(platform).await?;
        self.usage.set(platform, counted.clone());
        Ok(counted)
    }

    /// Accounts by how well they can take so many bytes, the best first.
    pub(super) async fn by_room<'m>(&self, accounts: &[&'m Connection], size: u64) -> Result<Vec<&'m Connection>> {
        let [first, _, ..] = accounts else { return Ok(accounts.to_vec()) };
        let usage = self.usage_of(first.platform.id()).await?;
        let mut ranked = Vec::with_capacity(accounts.len());
        for connection in accounts {
            let held = usage.get(connection.platform.account()).copied().unwrap_or_default();
            ranked.push((rank(connection, held, size).await, *connection));
        }
        ranked.sort_by(|(a, _), (b, _)| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        Ok(ranked.into_iter().map(|(_, connection)| connection).collect())
    }
}

async fn rank(connection: &Connection, held: Usage, size: u64) -> Rank {
    let capabilities = connection.platform.capabilities();
    let share = |held: u64, most: Option<u64>| most.map_or(0.0, |most| held as f64 / most.max(1) as f64);
    let most_files = capabilities.max_files.as_ref().map(|fact| fact.value);
    let most_bytes = capabilities.max_total_bytes.as_ref().map(|fact| fact.value);
    let (files, bytes) = (held.files + 1, held.bytes + size);
    Rank {
        is_full: most_files.is_some_and(|most| files > most) || most_bytes.is_some_and(|most| bytes > most),
        is_refused: connection.resilience.refusal(Operation::Upload).await.is_some(),
        share: share(files, most_files).max(share(bytes, most_bytes)),
        files,
    }
}

/// Whether another account of the same platform may do what this one did not.
pub(super) fn is_the_accounts_own(error: &Error) -> bool {
    use ErrorKind::{Billing, CircuitOpen, PermissionDenied, QuotaExceeded, Unauthenticated};
    matches!(error.kind(), Billing | CircuitOpen | PermissionDenied | QuotaExceeded | Unauthenticated)
}
