//! Lifecycle: what rules, time limits and the trash say of files is done, or said in advance, or explained for one.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::manager::Manager;
use crate::model::{Digest, FileRecord, Replica};
use crate::policy::retention::{Departure, Fate, Retention, Step, Subject, obstacle};
use crate::registry::Considered;

/// One file that goes, and what became of that.
#[derive(Debug, Serialize)]
pub struct LifecycleStep {
    pub digest: Digest,
    pub name: String,
    #[serde(flatten)]
    pub departure: Departure,
    pub is_done: bool,
    /// Why it could not be done; it is tried again at the next pass.
    pub error: Option<String>,
}

/// Does what is due. With `dry_run`, only says what that is.
///
/// # Errors
/// `Registry`. What a platform does not do is in the steps.
pub async fn apply_lifecycle(manager: &Manager, dry_run: bool, within: Duration) -> Result<Vec<LifecycleStep>> {
    let deadline = Instant::now() + within;
    let mut steps = due(manager).await?;
    for step in steps.iter_mut().filter(|step| !dry_run && step.departure.obstacle.is_none()) {
        if Instant::now() >= deadline {
            break;
        }
        match carry_out(manager, step, deadline.saturating_duration_since(Instant::now())).await {
            Ok(()) => step.is_done = true,
            // Also those of the store of copies, which may be of this one only.
            Err(error) => step.error = Some(error.message().to_owned()),
        }
    }
    Ok(steps)
}

async fn due(manager: &Manager) -> Result<Vec<LifecycleStep>> {
    let mut steps = Vec::new();
    each(manager, false, |considered, fate| {
        for departure in fate.departures {
            let (digest, name) = (considered.file.digest, considered.file.name.clone());
            steps.push(LifecycleStep { digest, name, departure, is_done: false, error: None });
        }
        true
    })
    .await?;
    Ok(steps)
}

/// Why a file stays, or goes.
///
/// # Errors
/// `NotFound`.
pub async fn explain_lifecycle(manager: &Manager, reference: &str) -> Result<Fate> {
    let wanted = manager.get(reference).await?.digest;
    let mut found = None;
    each(manager, true, |considered, fate| {
        if considered.file.digest == wanted {
            found = Some(fate);
        }
        found.is_none()
    })
    .await?;
    found.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{reference:?} is gone")).with_hint("look again"))
}

/// Decides over files, newest first, until `told` has heard enough. Without rules only those whose time is over count.
async fn each(manager: &Manager, is_about_all: bool, mut told: impl FnMut(&Considered, Fate) -> bool) -> Result<()> {
    let (rules, trash_period, now) = (manager.rules(), manager.trash_period(), manager.clock().now());
    let long_ago: Option<Timestamp> = trash_period.map(|period| now.minus(period));
    let due = (rules.is_empty() && !is_about_all).then_some((now, long_ago));
    let (mut retention, mut next) = (Retention::new(rules, trash_period, now), None);
    loop {
        let page = manager.registry().considered(due, next).await?;
        for considered in &page.files {
            let Considered { file, holds, has_copy } = considered;
            let fate = retention.decide(&Subject { file, holds, has_copy: *has_copy });
            if !told(considered, fate) {
                return Ok(());
            }
        }
        next = page.next;
        if next.is_none() {
            return Ok(());
        }
    }
}

async fn carry_out(manager: &Manager, step: &LifecycleStep, within: Duration) -> Result<()> {
    let (reference, platform) = (step.digest.to_string(), step.departure.platform.as_ref());
    // Others had their turn first, and somebody may hold it by now.
    if let Some(held) = obstacle(platform, &manager.registry().held(&step.digest).await?) {
        return Err(Error::new(ErrorKind::Conflict, held).with_hint("release it first"));
    }
    match step.departure.step {
        Step::Delete => unless_gone(manager, step, manager.delete(&reference, platform, within).await).await,
        Step::Archive => unless_gone(manager, step, manager.archive(&reference, platform, within).await).await,
        Step::Trash => manager.trash(&reference).await.map(drop),
        Step::Expire => {
            let now = manager.clock().now();
            if manager.get(&reference).await?.keep_until.is_none_or(|until| until > now) {
                return Err(
                    Error::new(ErrorKind::Conflict, "it is wanted for longer by now").with_hint("nothing to do")
                );
            }
            // Whoever takes it out of the trash again has its copy still.
            unless_gone(manager, step, manager.take_off_platforms(&reference, None, within).await).await?;
            manager.trash(&reference).await.map(drop)
        }
        Step::Purge => manager.purge(&step.digest, within).await.map(drop),
    }
}

/// Somebody else may have taken it away meanwhile; or it is where only somebody else can.
async fn unless_gone(manager: &Manager, step: &LifecycleStep, outcome: Result<FileRecord>) -> Result<()> {
    let Err(error) = outcome else { return Ok(()) };
    if error.kind() != ErrorKind::NotFound {
        return Err(error);
    }
    let record = manager.get(&step.digest.to_string()).await?;
    let there =
        |replica: &&Replica| step.departure.platform.as_ref().is_none_or(|platform| replica.platform == *platform);
    match record.replicas.iter().find(there) {
        None => Ok(()),
        Some(Replica { platform, account, .. }) => {
            Err(Error::new(ErrorKind::Conflict, format!("it is on {platform} as {account}, which is not connected")))
        }
    }
}
