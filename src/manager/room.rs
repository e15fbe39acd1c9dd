//! Room on an account for one more file: known before anything is sent, and made where that is wished for.

use serde::Serialize;
use tokio::time::Instant;

use super::{Connection, Manager};
use crate::content::Source;
use crate::error::{Error, ErrorKind, Result};
use crate::model::AccountId;
use crate::policy::quota::{Amount, Quota, Victim, WhenFull, in_order};
use crate::registry::{Gone, Usage};

/// A copy that is taken off an account to make room.
#[derive(Debug, Serialize)]
pub struct Eviction {
    pub account: AccountId,
    #[serde(flatten)]
    pub victim: Victim,
}

impl Manager {
    /// Sees to it that one of the accounts has room for so many bytes, by taking copies off the first where that is wished.
    ///
    /// # Errors
    /// `QuotaExceeded` when none has, and none is to be made or can be; `TooLarge` when no room would be enough.
    pub(super) async fn have_room(
        &self,
        accounts: &[&Connection],
        size: u64,
        when_full: WhenFull,
        deadline: Instant,
    ) -> Result<()> {
        loop {
            let evictions = self.to_evict(accounts, size, when_full).await?;
            let mut is_made = true;
            for eviction in evictions {
                is_made &= self.evict(&eviction.victim, deadline).await?;
            }
            if is_made {
                return Ok(());
            }
        }
    }

    /// What would have to go for that. Nothing where there is room.
    ///
    /// # Errors
    /// As [`have_room`](Self::have_room).
    pub(super) async fn to_evict(
        &self,
        accounts: &[&Connection],
        size: u64,
        when_full: WhenFull,
    ) -> Result<Vec<Eviction>> {
        let mut first = None;
        for connection in accounts {
            let quota = quota_of(connection);
            if quota == Quota::default() {
                return Ok(Vec::new());
            }
            let held = self.held(connection, quota, size).await?;
            let excess = quota.excess(held, size);
            if excess == Amount::default() {
                return Ok(Vec::new());
            }
            first = first.or(Some((*connection, quota, held, excess)));
        }
        let Some((connection, quota, held, excess)) = first else { return Ok(Vec::new()) };
        match when_full {
            _ if !quota.takes(size) => Err(never_fits(connection, size)),
            WhenFull::Refuse => Err(full(connection, quota, held)),
            _ => self.victims(connection, when_full, excess).await,
        }
    }

    /// By what this process remembers, unless that says it is full: others may have deleted something meanwhile.
    async fn held(&self, connection: &Connection, quota: Quota, size: u64) -> Result<Amount> {
        let (platform, account) = (connection.platform.id(), connection.platform.account());
        let amount = |usage: Usage| Amount { files: usage.files, bytes: usage.bytes };
        let remembered = amount(self.usage_of(platform).await?.get(account).copied().unwrap_or_default());
        if quota.excess(remembered, size) == Amount::default() {
            return Ok(remembered);
        }
        self.usage.forget(platform);
        Ok(amount(self.usage_of(platform).await?.get(account).copied().unwrap_or_default()))
    }

    async fn victims(&self, connection: &Connection, when_full: WhenFull, excess: Amount) -> Result<Vec<Eviction>> {
        let (platform, account) = (connection.platform.id(), connection.platform.account());
        let (mut chosen, mut made) = (Vec::new(), Amount::default());
        for victim in in_order(self.registry.evictable(platform, account).await?, when_full) {
            if made.files >= excess.files && made.bytes >= excess.bytes {
                break;
            }
            if self.can_be_made_anew(&victim).await? {
                made = Amount { files: made.files + 1, bytes: made.bytes + victim.size };
                chosen.push(Eviction { account: account.clone(), victim });
            }
        }
        match made.files >= excess.files && made.bytes >= excess.bytes {
            true => Ok(chosen),
            false => Err(Error::new(
                ErrorKind::QuotaExceeded,
                format!("{platform} is full, and what it holds is held, or could not be uploaded again"),
            )
            .with_hint("keep copies (copies.place), release what is pinned or leased, or delete files")),
        }
    }

    /// Whether its bytes are to be had without its platform.
    async fn can_be_made_anew(&self, victim: &Victim) -> Result<bool> {
        let Victim { digest, size, .. } = victim;
        if let Some(blobs) = &self.blobs
            && self.registry.is_kept(digest).await?
            && blobs.is_whole(digest, *size, false).await?
        {
            return Ok(true);
        }
        for path in self.registry.source_paths(digest).await? {
            if self.holds_bytes(Source::Path(path.into()), digest).await {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// `false` when somebody has begun to hold it, or takes it off for themselves.
    async fn evict(&self, victim: &Victim, deadline: Instant) -> Result<bool> {
        if !self.registry.begin_evict(&victim.digest, &victim.replica).await? {
            return Ok(false);
        }
        self.delete_replica(&victim.replica, Gone::Evicted, deadline).await?;
        tracing::info!(platform = %victim.replica.platform, file = %victim.digest, "taken off its platform to make room");
        Ok(true)
    }
}

fn quota_of(connection: &Connection) -> Quota {
    let capabilities = connection.platform.capabilities();
    Quota {
        files: capabilities.max_files.as_ref().map(|fact| fact.value),
        bytes: capabilities.max_total_bytes.as_ref().map(|fact| fact.value),
    }
}

fn full(connection: &Connection, quota: Quota, held: Amount) -> Error {
    let platform = connection.platform.id();
    let most = |most: Option<u64>| most.map_or("any number".to_owned(), |most| most.to_string());
    Error::new(
        ErrorKind::QuotaExceeded,
        format!(
            "{platform} is full: {} of {} files, {} of {} bytes",
            held.files,
            most(quota.files),
            held.bytes,
            most(quota.bytes)
        ),
    )
    .with_hint("delete files there, or let others make room: `when_full`")
}

fn never_fits(connection: &Connection, size: u64) -> Error {
    let platform = connection.platform.id();
    Error::new(ErrorKind::TooLarge, format!("{size} bytes are more than {platform} holds at all"))
        .with_hint("use another platform, or split the file")
}
