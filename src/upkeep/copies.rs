//! Kept copies: whether they are there and whole, and those that nothing needs any more.

use std::collections::HashSet;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::blobs::Blobs;
use crate::error::{Error, ErrorKind, Result};
use crate::manager::Manager;
use crate::model::Digest;

/// A copy without a row is left alone for so long: somebody may be about to note it.
const YOUNG: Duration = Duration::from_secs(3_600);

/// What a look at the copies found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CopyCheck {
    /// Copies looked for, and those of them that were read.
    pub checked: u64,
    pub read: u64,
    pub bytes_read: u64,
    pub missing: Vec<Digest>,
    /// They hold other bytes. They are noted as no copies any more, and what lies there is left to be looked at.
    pub damaged: Vec<Digest>,
}

/// What was removed, or would be.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CopyCollection {
    pub removed: Vec<Digest>,
    pub bytes: u64,
}

/// Looks whether every copy is there, and reads those that were read longest ago: this part of them (0 to 1), or as many
/// as there is time for.
///
/// # Errors
/// `Config` where no copies are kept; `Registry`.
pub async fn check_copies(manager: &Manager, part: f64, within: Duration) -> Result<CopyCheck> {
    let (blobs, deadline) = (kept(manager)?, Instant::now() + within);
    let copies = manager.registry().kept_copies(u64::MAX >> 1).await?;
    let to_read = (copies.len() as f64 * part.clamp(0.0, 1.0)).ceil() as usize;
    let mut found = CopyCheck::default();
    for (number, copy) in copies.iter().enumerate() {
        let with_bytes = number < to_read && Instant::now() < deadline;
        found.checked += 1;
        if blobs.size(&copy.digest).await?.is_none() {
            manager.registry().forget_kept(&copy.digest, "missing").await?;
            found.missing.push(copy.digest);
        } else if !blobs.is_whole(&copy.digest, copy.size, with_bytes).await? {
            manager.registry().forget_kept(&copy.digest, "damaged").await?;
            found.damaged.push(copy.digest);
        } else if with_bytes {
            found.read += 1;
            found.bytes_read += copy.size;
            manager.registry().note_checked(&copy.digest).await?;
        }
    }
    Ok(found)
}

/// Removes copies of contents that nobody knows any more.
///
/// # Errors
/// `Config` where no copies are kept; `Registry`.
pub async fn collect_copies(manager: &Manager, dry_run: bool) -> Result<CopyCollection> {
    let blobs = kept(manager)?;
    let kept: HashSet<Digest> =
        manager.registry().kept_copies(u64::MAX >> 1).await?.into_iter().map(|copy| copy.digest).collect();
    let now = manager.clock().now();
    let mut done = CopyCollection::default();
    for blob in blobs.list().await? {
        if kept.contains(&blob.digest) || now.since(blob.written_at) < YOUNG {
            continue;
        }
        if !dry_run {
            blobs.remove(&blob.digest).await?;
        }
        done.bytes += blob.size;
        done.removed.push(blob.digest);
    }
    Ok(done)
}

fn kept(manager: &Manager) -> Result<&Blobs> {
    manager.blobs().ok_or_else(|| {
        Error::new(ErrorKind::Config, "no copies are kept")
            .with_hint("set copies.place to a folder, or s3://bucket/prefix")
    })
}
