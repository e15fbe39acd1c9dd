//! Recover: what was cut short is finished or undone, by whoever comes first.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result, Retry};
use crate::manager::{Ending, Manager};
use crate::model::{AccountId, Digest, Operation, PlatformId};
use crate::registry::{Attempt, Outcome, PastAttempt, Recovery, Unfinished};

/// Pauses before the next attempts; the last one goes on.
const PAUSES: [u64; 5] = [1, 2, 4, 8, 16];

/// One upload or delete, and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct RecoveryStep {
    pub kind: Unfinished,
    pub id: String,
    pub digest: Option<Digest>,
    pub platform: PlatformId,
    pub account: AccountId,
    pub attempt: u64,
    pub result: RecoveryResult,
    pub strategy: &'static str,
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RecoveryResult {
    /// What was begun is done.
    Finished,
    /// It counts as never begun.
    Undone,
    /// Somebody else ended it.
    Gone,
    /// To be tried again.
    Failed,
    /// Nothing was tried: its platform is left in peace.
    Waiting,
    /// Given up, until a person says otherwise.
    Dead,
}

/// Tries everything that is due, once. Harmless to run in many processes at once.
///
/// # Errors
/// `Registry`. What a platform does not do is in the steps.
pub async fn recover(manager: &Manager, within: Duration) -> Result<Vec<RecoveryStep>> {
    let deadline = Instant::now() + within;
    let mut steps = Vec::new();
    manager.registry().forget_ended().await?;
    let left = || deadline.saturating_duration_since(Instant::now());
    for open in manager.registry().open_uploads().await? {
        let place = &open.new.placement;
        let of = Subject {
            kind: Unfinished::Upload,
            id: &open.id,
            digest: Some(place.digest),
            platform: &place.platform,
            account: &place.account,
        };
        let finish = async |number| match manager.finish_upload(&open, left()).await {
            Err(error) if pause_after(&error, number, manager.recovery_attempts()).is_none() => {
                manager.fall_back(&open, error, left()).await
            }
            ended => ended,
        };
        steps.extend(of.attempt(manager, Operation::Upload, finish).await?);
    }
    for open in manager.registry().open_moves().await? {
        let of = Subject {
            kind: Unfinished::Move,
            id: &open.id,
            digest: Some(open.digest),
            platform: &open.from,
            account: &open.account,
        };
        let finish = async |_| manager.finish_move(&open, left()).await;
        steps.extend(of.attempt(manager, Operation::Delete, finish).await?);
    }
    for open in manager.registry().open_deletes().await? {
        let place = &open.replica;
        let of = Subject {
            kind: Unfinished::Delete,
            id: &open.id,
            digest: manager.registry().digest_of(place).await?,
            platform: &place.platform,
            account: &place.account,
        };
        let finish =
            async |_| manager.finish_delete(place, left()).await.map(|()| Ending::Placed { strategy: "delete-again" });
        steps.extend(of.attempt(manager, Operation::Delete, finish).await?);
    }
    Ok(steps)
}

struct Subject<'s> {
    kind: Unfinished,
    id: &'s str,
    digest: Option<Digest>,
    platform: &'s PlatformId,
    account: &'s AccountId,
}

impl Subject<'_> {
    /// One attempt, if another process is not at it: of its number, from 1 on.
    async fn attempt(
        &self,
        manager: &Manager,
        operation: Operation,
        finish: impl AsyncFnOnce(u64) -> Result<Ending>,
    ) -> Result<Option<RecoveryStep>> {
        // Another process may be connected with that account.
        let Ok(refusal) = manager.refusal(self.platform, self.account, operation).await else { return Ok(None) };
        let begun = manager.registry().begin_attempt(self.kind, self.id, self.digest, self.platform).await?;
        let Some(attempt) = begun else { return Ok(None) };
        let is_waiting = refusal.is_some();
        let ended = match refusal {
            Some(refusal) => Err(again(&refusal)),
            None => finish(attempt.number).await,
        };
        self.end(manager, attempt, is_waiting, ended).await.map(Some)
    }

    async fn end(
        &self,
        manager: &Manager,
        attempt: Attempt,
        is_waiting: bool,
        ended: Result<Ending>,
    ) -> Result<RecoveryStep> {
        let number = attempt.number;
        let (result, outcome) = match ended {
            Ok(Ending::Placed { strategy }) => (RecoveryResult::Finished, Outcome::Finished { strategy }),
            Ok(Ending::Undone) => (RecoveryResult::Undone, Outcome::Finished { strategy: "undo" }),
            Ok(Ending::NotOurs) => (RecoveryResult::Gone, Outcome::Finished { strategy: "none" }),
            Err(error) if is_waiting => {
                let again_in = error.retry_after().unwrap_or(Duration::from_secs(1));
                (RecoveryResult::Waiting, Outcome::Waiting { strategy: "wait-for-breaker", error, again_in })
            }
            Err(error) => match pause_after(&error, number, manager.recovery_attempts()) {
                Some(pause) => {
                    (RecoveryResult::Failed, Outcome::Failed { strategy: "back-off", error, again_in: Some(pause) })
                }
                None => (RecoveryResult::Dead, Outcome::Failed { strategy: "give-up", error, again_in: None }),
            },
        };
        let (strategy, error) = match &outcome {
            Outcome::Finished { strategy } => (*strategy, None),
            Outcome::Failed { strategy, error, .. } | Outcome::Waiting { strategy, error, .. } => {
                (*strategy, Some(error.message().to_owned()))
            }
        };
        manager.registry().end_attempt(attempt, self.digest, outcome).await?;
        let (platform, account) = (self.platform.clone(), self.account.clone());
        Ok(RecoveryStep {
            kind: self.kind,
            id: self.id.to_owned(),
            digest: self.digest,
            platform,
            account,
            attempt: number,
            result,
            strategy,
            error,
        })
    }
}

fn again(refusal: &Error) -> Error {
    Error::new(refusal.kind(), refusal.message()).with_retry(Retry::Yes, refusal.retry_after())
}

/// `None` when it is of no use to try again: its platform's last word, or one attempt too many. That a search must wait
/// for its platform's horizon does not count.
fn pause_after(error: &Error, number: u64, most: u64) -> Option<Duration> {
    if error.kind() != ErrorKind::TimedOut && (number >= most || is_refused(error)) {
        return None;
    }
    let index = usize::try_from(number).unwrap_or(usize::MAX).clamp(1, PAUSES.len()) - 1;
    let pause = Duration::from_secs(PAUSES[index]);
    Some(error.retry_after().unwrap_or_default().max(pause))
}

/// What did not come from a platform, such as a store of copies that is down, may end.
fn is_refused(error: &Error) -> bool {
    error.context().is_some() && error.retry() == Retry::Never && !error.is_ambiguous()
}

/// A recovery by the start of its id, or by its file.
///
/// # Errors
/// `NotFound`; `Conflict` when several fit.
pub async fn find_recovery(manager: &Manager, id: &str) -> Result<Recovery> {
    let all = manager.registry().recoveries().await?;
    let fits = |recovery: &&Recovery| {
        recovery.id.starts_with(id)
            || recovery.digest.is_some_and(|digest| digest.hex().starts_with(id.trim_start_matches("sha256:")))
    };
    let fitting: Vec<&Recovery> = all.iter().filter(fits).collect();
    match fitting.as_slice() {
        [one] if !id.is_empty() => Ok((*one).clone()),
        [] => Err(Error::new(ErrorKind::NotFound, format!("nothing unfinished is called {id:?}"))
            .with_hint("`exai-files recover list` shows what there is")),
        several => Err(Error::new(ErrorKind::Conflict, format!("{id:?} fits {} of them", several.len()))
            .with_hint("give more of the id")),
    }
}

/// One of them with all that was tried.
///
/// # Errors
/// As [`find_recovery`].
pub async fn explain_recovery(manager: &Manager, id: &str) -> Result<(Recovery, Vec<PastAttempt>)> {
    let recovery = find_recovery(manager, id).await?;
    let attempts = manager.registry().attempts_at(&recovery.id).await?;
    Ok((recovery, attempts))
}
