//! What platforms drop when its time is over: noted once it is gone, and told, or made anew, before.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::manager::{EnsureRequest, Manager, Transfers};
use crate::model::Replica;
use crate::policy::quota::WhenFull;
use crate::registry::Expiring;

/// How long before its end a copy is renewed, or told.
const BEFORE: Duration = Duration::from_secs(7 * 86_400);

/// Room for the time that renewing takes.
const MORE: Duration = Duration::from_secs(3_600);

/// A copy that ends soon, and what became of that: the one in its place, or why there is none.
#[derive(Debug)]
pub(super) struct Ending {
    pub expiring: Expiring,
    pub renewed: Option<Result<Replica>>,
}

/// Notes what has expired; renews what is about to, where that is wished. A full account has no room for that.
///
/// # Errors
/// `Registry`.
pub(super) async fn keep_from_expiring(manager: &Manager, renew: bool, within: Duration) -> Result<Vec<Ending>> {
    let deadline = Instant::now() + within;
    manager.registry().retire_all_expired().await?;
    let (by, mut endings) = (manager.clock().now().plus(BEFORE), Vec::<Ending>::new());
    loop {
        let page = manager.registry().expiring(by, endings.last().map(|ending| &ending.expiring)).await?;
        if page.is_empty() {
            return Ok(endings);
        }
        for expiring in page {
            let is_time = Instant::now() < deadline;
            let renewed = match renew && is_time {
                true => Some(anew(manager, &expiring, deadline).await),
                false => None,
            };
            endings.push(Ending { expiring, renewed });
        }
    }
}

async fn anew(manager: &Manager, expiring: &Expiring, deadline: Instant) -> Result<Replica> {
    let Replica { platform, account, purpose, expires_at, .. } = &expiring.replica;
    let is_long_enough = manager.retention(platform).is_some_and(|retention| retention > BEFORE * 2);
    if !is_long_enough {
        return Err(Error::new(ErrorKind::Unsupported, format!("{platform} keeps no file for two weeks")));
    }
    let now = manager.clock().now();
    let request = EnsureRequest {
        account: Some(account.clone()),
        purpose: Some(purpose.as_str().to_owned()),
        max_age: Duration::MAX,
        min_ttl: expires_at.map_or(BEFORE, |at| at.since(now)) + MORE,
        when_full: Some(WhenFull::Refuse),
        ..EnsureRequest::new(platform.clone(), deadline.saturating_duration_since(Instant::now()))
    };
    manager.ensure(&expiring.digest.to_string(), request, &Transfers::default()).await
}
