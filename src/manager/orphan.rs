//! Finding out whether an upload without an answer arrived.
//!
//! A file on the platform is taken for ours when its name carries the content's tag (or, with tags off, equals
//! the name sent and was created since), size and purpose agree where the platform states them, and no other
//! row explains it. Such a file is adopted; nothing is ever deleted here.

use std::cmp::Reverse;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Manager;
use super::send::Unanswered;
use super::upload::Target;
use crate::content::tagged_name;
use crate::error::{Delivery, Error, ErrorKind, Result, Retry};
use crate::model::{FileObject, Operation};
use crate::platform::ListQuery;
use crate::registry::Intent;

/// Parts of the commit horizon after which the platform is asked again.
const LOOKS: [f64; 4] = [0.0, 0.1, 0.4, 1.0];

/// Platforms state creation in whole seconds.
const CREATED_SLACK: Duration = Duration::from_secs(2);

impl Manager {
    /// The file that an unanswered sending left on the platform, if it left one.
    ///
    /// # Errors
    /// The listing's error, or `TimedOut` before the horizon has passed: then nobody knows yet.
    pub(super) async fn find_orphan(
        &self,
        target: &Target<'_>,
        intent: &Intent,
        sending: Unanswered,
        deadline: Instant,
    ) -> Result<Option<FileObject>> {
        let ended_at = sending.ended_at;
        let horizon = if sending.may_come_late { target.connection.commit_horizon } else { Duration::ZERO };
        for part in LOOKS {
            let pause = ended_at.plus(horizon.mul_f64(part)).since(self.clock.now());
            if Instant::now() + pause >= deadline {
                return Err(too_early(target, horizon));
            }
            if pause > Duration::from_secs(1) {
                let (platform, wait) = (target.connection.platform.id(), pause.as_secs());
                tracing::warn!(%platform, name = %intent.remote_name, wait, "a reply was lost; looking for the file again in {wait} s before sending it");
            }
            sleep(pause).await;
            let asked_at = self.clock.now();
            if let Some(object) = self.look_for(target, intent, deadline).await? {
                tracing::info!(platform = %target.connection.platform.id(), file = %object.id, "adopting an upload whose reply was lost");
                return Ok(Some(object));
            }
            // What was asked before, and answered after, need not show what came in between.
            if asked_at >= ended_at.plus(horizon) {
                break;
            }
        }
        Ok(None)
    }

    async fn look_for(&self, target: &Target<'_>, intent: &Intent, deadline: Instant) -> Result<Option<FileObject>> {
        let placement = &intent.placement;
        let platform = &target.connection.platform;
        let query = ListQuery { purpose: Some(placement.purpose.clone()) };
        let listed = target
            .connection
            .resilience
            .call(Operation::List, deadline, || async { platform.list(&query, deadline).await })
            .await
            .map_err(|error| error.with_delivery(Delivery::Unknown))?;
        let mut candidates: Vec<FileObject> = listed.into_iter().filter(|object| is_ours(object, intent)).collect();
        if candidates.is_empty() || !is_tagged(intent) && self.registry.has_twin(intent).await? {
            return Ok(None);
        }
        candidates.sort_by_key(|object| Reverse(object.created_at));
        for object in candidates {
            if !self.registry.knows_remote(&placement.platform, &object.id).await? {
                return Ok(Some(object));
            }
        }
        Ok(None)
    }
}

fn is_ours(object: &FileObject, intent: &Intent) -> bool {
    let purpose = &intent.placement.purpose;
    let named = object
        .name
        .as_deref()
        .is_some_and(|name| is_name_of(name, &intent.remote_name) && (is_tagged(intent) || is_recent(object, intent)));
    named
        && object.size.is_none_or(|size| size == intent.size)
        && object.purpose.as_ref().is_none_or(|stated| stated == purpose)
}

fn is_tagged(intent: &Intent) -> bool {
    let tag = tagged_name("", &intent.placement.digest);
    intent.remote_name.contains(&tag)
}

fn is_recent(object: &FileObject, intent: &Intent) -> bool {
    object.created_at.is_some_and(|at| at >= intent.first_sent_at.minus(CREATED_SLACK))
}

/// Whether a platform may show under `name` what was sent as `sent`.
pub fn is_name_of(name: &str, sent: &str) -> bool {
    name == sent || without_rename(name) == sent
}

/// Moonshot turns a second `report.pdf` into `report (1).pdf` (platform_api.md §7.1).
fn without_rename(name: &str) -> String {
    let (stem, extension) = match name.rfind('.') {
        Some(dot) => name.split_at(dot),
        None => (name, ""),
    };
    let original = stem.strip_suffix(')').and_then(|rest| rest.rsplit_once(" (")).and_then(|(original, number)| {
        (!number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())).then_some(original)
    });
    format!("{}{extension}", original.unwrap_or(stem))
}

fn too_early(target: &Target<'_>, horizon: Duration) -> Error {
    let platform = target.connection.platform.id();
    Error::new(
        ErrorKind::TimedOut,
        format!(
            "the deadline came before {platform} could be asked for the last time, {} s after sending",
            horizon.as_secs()
        ),
    )
    .with_hint("call upload again: it looks for the file before it sends anything")
    .with_delivery(Delivery::Unknown)
    .with_retry(Retry::Never, None)
}

#[cfg(test)]
mod tests {
    use super::without_rename;

    #[test]
    fn a_renamed_file_is_recognised() {
        for (remote, original) in [
            ("report.pdf", "report.pdf"),
            ("report (1).pdf", "report.pdf"),
            ("report (12).pdf", "report.pdf"),
            ("report (a).pdf", "report (a).pdf"),
            ("report (1)", "report"),
            ("(1).pdf", "(1).pdf"),
        ] {
            assert_eq!(without_rename(remote), original);
        }
    }
}
