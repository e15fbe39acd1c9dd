//! Kept copies: whether they are there and whole, and those that nothing needs any more.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use crate::blobs::Blobs;
use crate::error::{Error, ErrorKind, Result};
use crate::manager::Manager;
use crate::model::Digest;
use crate::registry::Unkept;

/// A copy is left alone for so long after it was noted: somebody may be about to use it.
const YOUNG: Duration = Duration::from_secs(3_600);

/// What a look at the copies found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CopyCheck {
    /// Copies looked for, and those of them that were read.
    pub checked: u64,
    pub read: u64,
    pub bytes_read: u64,
    pub missing: Vec<Digest>,
    /// They hold other bytes, which are left to be looked at.
    pub damaged: Vec<Digest>,
}

/// What was removed, or would be.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CopyCollection {
    pub removed: Vec<Digest>,
    pub bytes: u64,
}

/// Looks whether every copy is there, and reads those that were read longest ago: this part of them (0 to 1), or as many
/// as there is time for. Those that are missing or damaged are not relied on, until a later look finds them whole again.
///
/// # Errors
/// `Config` where no copies are kept; `Registry`, also when there is no such bucket: then no copy is given up;
/// `TimedOut` when they could not even be listed.
pub async fn check_copies(manager: &Manager, part: f64, within: Duration) -> Result<CopyCheck> {
    let (blobs, deadline) = (kept(manager)?, Instant::now() + within);
    let copies = manager.registry().kept_copies().await?;
    let to_read = (copies.len() as f64 * part.clamp(0.0, 1.0)).ceil() as usize;
    // One listing, not a question for each: and a bucket that is not there is no empty one.
    let listed = timeout_at(deadline, blobs.list()).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::TimedOut, "the kept copies could not be listed in the time given")
            .with_hint("see why the store of `copies.place` is slow, or give more time"))
    })?;
    let sizes: HashMap<Digest, u64> = listed.into_iter().map(|blob| (blob.digest, blob.size)).collect();
    let mut found = CopyCheck::default();
    for (number, copy) in copies.iter().enumerate() {
        found.checked += 1;
        let is_whole = match sizes.get(&copy.digest) {
            None => {
                manager.registry().forget_kept(&copy.digest, Unkept::Missing).await?;
                found.missing.push(copy.digest);
                continue;
            }
            Some(size) if *size != copy.size => Some(false),
            Some(_) if number < to_read || copy.is_lost => {
                let reading = blobs.is_whole(&copy.digest, copy.size, true);
                timeout_at(deadline, reading).await.ok().transpose()?
            }
            Some(_) => None,
        };
        match is_whole {
            Some(true) => {
                found.read += 1;
                found.bytes_read += copy.size;
                manager.registry().note_kept(&copy.digest, copy.size).await?;
                manager.registry().note_checked(&copy.digest).await?;
            }
            Some(false) => {
                manager.registry().forget_kept(&copy.digest, Unkept::Damaged).await?;
                found.damaged.push(copy.digest);
            }
            None => {}
        }
    }
    Ok(found)
}

/// Removes copies that nobody needs any more: of files that somebody has deleted or erased, and what was kept for an upload
/// that no platform took, or whose writer died. Only what this registry has noted: others may keep copies in the same place.
///
/// # Errors
/// `Config` where no copies are kept; `Registry`.
pub async fn collect_copies(manager: &Manager, dry_run: bool) -> Result<CopyCollection> {
    let (blobs, registry) = (kept(manager)?, manager.registry());
    let mut done = CopyCollection::default();
    for copy in registry.unneeded_copies(YOUNG).await? {
        if !dry_run {
            blobs.remove(&copy.digest).await?;
            registry.drop_kept(&copy.digest).await?;
        }
        done.bytes += copy.size;
        done.removed.push(copy.digest);
    }
    done.bytes += blobs.remove_unfinished(manager.clock().now().minus(YOUNG), dry_run).await?;
    Ok(done)
}

fn kept(manager: &Manager) -> Result<&Blobs> {
    manager.blobs().ok_or_else(|| {
        Error::new(ErrorKind::Config, "no copies are kept")
            .with_hint("set copies.place to a folder, or s3://bucket/prefix")
    })
}
