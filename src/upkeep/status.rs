//! How everything is, in one look: accounts, what expires, what is unfinished, the audit log.

use std::time::Duration;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::manager::Manager;
use crate::metrics::{Account, Within, metrics, set};
use crate::model::{AccountId, PlatformId};

const DAY: Duration = Duration::from_secs(86_400);

/// One account.
#[derive(Clone, Debug, Serialize)]
pub struct AccountStatus {
    pub platform: PlatformId,
    pub account: AccountId,
    /// As far as the registry knows.
    pub files: u64,
    pub bytes: u64,
    /// What its platform publishes, or the configuration says.
    pub most_files: Option<u64>,
    pub most_bytes: Option<u64>,
    /// At the pace of the last seven days; `None` where it does not fill, or nothing is published.
    pub days_to_full: Option<f64>,
    pub expiring_in_a_day: u64,
    pub expiring_in_a_week: u64,
    /// Operations that are left in peace now.
    pub open_breakers: Vec<&'static str>,
}

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub at: Timestamp,
    pub accounts: Vec<AccountStatus>,
    /// Uploads and deletes that were cut short, and those of them that were given up.
    pub unfinished: u64,
    pub given_up: u64,
    pub leases: u64,
    pub audit_records: u64,
    pub last_checkpoint_at: Option<Timestamp>,
    /// Records since then.
    pub unsigned_records: u64,
}

/// Asks the registry, and no platform.
///
/// # Errors
/// `Registry`.
pub async fn status(manager: &Manager) -> Result<Status> {
    let (registry, now) = (manager.registry(), manager.clock().now());
    let mut accounts = Vec::new();
    let health = manager.health().await;
    for info in manager.platforms().await? {
        let (platform, account) = (info.platform.clone(), info.account.clone());
        let counts =
            registry.coming(&platform, &account, [now.plus(DAY), now.plus(DAY * 7)], now.minus(DAY * 7)).await?;
        let most_files = info.capabilities.max_files.as_ref().map(|fact| fact.value);
        let of_account = health.iter().find(|health| (health.platform, health.account) == (&platform, &account));
        let breakers = of_account.into_iter().flat_map(|health| &health.health.breakers);
        let open_breakers =
            breakers.filter(|b| b.breaker.state == crate::resilience::BreakerState::Open).map(|b| b.operation);
        accounts.push(AccountStatus {
            files: info.files,
            bytes: info.bytes,
            most_files,
            most_bytes: info.capabilities.max_total_bytes.as_ref().map(|fact| fact.value),
            days_to_full: most_files.and_then(|most| days_to_full(most, info.files, counts.added_lately)),
            expiring_in_a_day: counts.expiring[0],
            expiring_in_a_week: counts.expiring[1],
            open_breakers: open_breakers.collect(),
            platform,
            account,
        });
    }
    let recoveries = registry.recoveries().await?;
    let (audit_records, last) = (registry.audit().size().await?, registry.audit().last_checkpoint().await?);
    let signed = last.as_ref().map_or(0, |(checkpoint, _)| checkpoint.size);
    let status = Status {
        at: now,
        accounts,
        unfinished: recoveries.len() as u64,
        given_up: recoveries.iter().filter(|recovery| recovery.is_dead).count() as u64,
        leases: registry.leases().await?.len() as u64,
        audit_records,
        last_checkpoint_at: last.map(|(_, made_at)| made_at),
        unsigned_records: audit_records.saturating_sub(signed),
    };
    status.show();
    Ok(status)
}

impl Status {
    /// In the metrics of this process.
    fn show(&self) {
        let all = metrics();
        for account in &self.accounts {
            let (platform, account_alias) = (account.platform.to_string(), account.account.to_string());
            let of = Account { platform: platform.clone(), account_alias: account_alias.clone() };
            set(&all.files.get_or_create(&of), account.files);
            set(&all.bytes.get_or_create(&of), account.bytes);
            set(&all.most_files.get_or_create(&of), account.most_files.unwrap_or_default());
            for (within, files) in [("day", account.expiring_in_a_day), ("week", account.expiring_in_a_week)] {
                let of = Within { platform: platform.clone(), account_alias: account_alias.clone(), within };
                set(&all.expiring.get_or_create(&of), files);
            }
        }
        set(&all.unfinished, self.unfinished);
        set(&all.given_up, self.given_up);
        set(&all.unsigned_records, self.unsigned_records);
        set(&all.last_checkpoint, self.last_checkpoint_at.map_or(0, |at| at.0.unsigned_abs() / 1_000_000));
    }
}

fn days_to_full(most: u64, files: u64, added_in_a_week: u64) -> Option<f64> {
    (added_in_a_week > 0).then(|| most.saturating_sub(files) as f64 / (added_in_a_week as f64 / 7.0))
}
