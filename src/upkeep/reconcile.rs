//! Reconcile: what each account holds, compared with what the registry says, and made to agree as far as the caller's
//! policies go.
//!
//! A listing alone is no proof. Before a replica is given up its platform is asked for it by id, or lists without it a
//! second time; before a remote file is deleted it must be old enough that no other process can be about to bind it.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::compare::{Difference, Sides, Sign};
use super::decide::{Action, ReconcileRequest, check_cap, decide};
use crate::content::{local_name, read_tag};
use crate::error::{Error, ErrorKind, Result};
use crate::manager::{Connection, EnsureRequest, Manager, Transfers};
use crate::model::{AccountId, Digest, FileObject, Operation, Origin, PlatformId, Replica, ReplicaStatus};
use crate::registry::{FileFilter, Gone, NewIntent, Placement, Settlement};

/// A difference and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    #[serde(flatten)]
    pub difference: Difference,
    /// Done, or (`is_done` is false) to be done.
    pub action: Action,
    pub is_done: bool,
    /// Why it was not done.
    pub obstacle: Option<String>,
}

/// What was found, and done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Reconciliation {
    /// Files that agree.
    pub equal: u64,
    pub steps: Vec<Step>,
    /// Accounts whose platform could not be asked, and why; nothing was concluded about them.
    pub unasked: Vec<Unasked>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Unasked {
    pub platform: PlatformId,
    pub account: AccountId,
    pub why: String,
}

/// Compares every account with the registry and does what the request allows. Doing it again finds nothing new.
///
/// # Errors
/// `Config` for a platform or account that is not connected; `SafetyLimit` when an account would lose more than
/// `max_delete`: then nothing was changed on any; `Registry`. A platform that cannot be asked is no error.
pub async fn reconcile(manager: &Manager, request: &ReconcileRequest, within: Duration) -> Result<Reconciliation> {
    let deadline = Instant::now() + within;
    let mut found = Reconciliation::default();
    let mut compared = Vec::new();
    for connection in chosen(manager, request)? {
        match sides(manager, connection, deadline).await? {
            Ok(sides) => {
                let steps = plan(manager, connection, request, &sides, &mut found).await?;
                compared.push((connection, sides.asked_at, steps));
            }
            Err(error) => found.unasked.push(Unasked {
                platform: connection.platform.id().clone(),
                account: connection.platform.account().clone(),
                why: error.message().to_owned(),
            }),
        }
    }
    for (connection, asked_at, mut steps) in compared {
        if !request.dry_run {
            let confirmed = |step: &&Step| step.difference.sign == Sign::Equal;
            let ids = steps.iter().filter(confirmed).map(|step| step.difference.remote_id.clone()).collect();
            manager.registry().confirm(connection.platform.id(), ids, asked_at).await?;
            let missing = Missing::of(connection, &steps, deadline).await;
            for step in steps.iter_mut().filter(|step| step.action != Action::None) {
                match carry_out(manager, connection, step, &missing, deadline).await {
                    Ok(()) => step.is_done = true,
                    Err(error) => step.obstacle = Some(error.message().to_owned()),
                }
            }
        }
        steps.retain(|step| request.with_equal || step.difference.sign != Sign::Equal);
        found.steps.extend(steps);
    }
    Ok(found)
}

fn chosen<'m>(manager: &'m Manager, request: &ReconcileRequest) -> Result<Vec<&'m Connection>> {
    let platforms = match request.platforms.is_empty() {
        true => manager.connected(),
        false => request.platforms.clone(),
    };
    let mut connections = Vec::new();
    for (number, platform) in platforms.iter().enumerate() {
        if platforms[..number].contains(platform) {
            continue;
        }
        connections.extend(manager.accounts_or(platform, request.account.as_ref())?);
    }
    Ok(connections)
}

/// Both sides of one account; the inner error is the platform's.
async fn sides(manager: &Manager, connection: &Connection, deadline: Instant) -> Result<Result<Sides>> {
    let (platform, account) = (connection.platform.id().clone(), connection.platform.account().clone());
    let asked_at = manager.clock().now();
    let listed = match connection.list_all(deadline).await {
        Ok(listed) => listed,
        Err(error) => return Ok(Err(error)),
    };
    // Our side second, and what is on its way before what is there: what is bound meanwhile is explained by one of them.
    let expected = manager.registry().expected(&platform, &account).await?;
    let ids = listed.iter().map(|object| object.id.clone()).collect();
    let held = manager.registry().holdings(&platform, &account, ids).await?;
    Ok(Ok(Sides { platform, account, asked_at, listed, held, expected }))
}

// ===== deciding =====

async fn plan(
    manager: &Manager,
    connection: &Connection,
    request: &ReconcileRequest,
    sides: &Sides,
    found: &mut Reconciliation,
) -> Result<Vec<Step>> {
    let now = manager.clock().now();
    let mut steps = Vec::new();
    for mut difference in sides.compare() {
        found.equal += u64::from(difference.sign == Sign::Equal);
        if difference.sign == Sign::OnlyRemote && difference.digest.is_none() {
            difference.digest = told_by_name(manager, &difference).await?;
        }
        let (action, obstacle) = decide(connection, request, &difference, now);
        steps.push(Step { difference, action, is_done: false, obstacle });
    }
    check_cap(request, sides, &steps)?;
    Ok(steps)
}

/// The known content that a remote name carries the tag of.
async fn told_by_name(manager: &Manager, difference: &Difference) -> Result<Option<Digest>> {
    let Some((_, start)) = read_tag(&difference.name) else { return Ok(None) };
    let filter = FileFilter { digest: Some(start), limit: 2, ..FileFilter::default() };
    let fitting = manager.registry().list(filter).await?;
    match fitting.as_slice() {
        [file] if difference.size.is_none_or(|size| size == file.size) => Ok(Some(file.digest)),
        _ => Ok(None),
    }
}

// ===== doing =====

/// How to tell whether a platform has certainly lost a file.
enum Missing {
    /// It is asked for each.
    Ask,
    /// It cannot be: what a second listing still shows.
    ListedAgain(HashSet<String>),
    /// That failed.
    Unknown(String),
}

impl Missing {
    async fn of(connection: &Connection, steps: &[Step], deadline: Instant) -> Missing {
        let is_wanted = steps.iter().any(|step| step.difference.sign == Sign::OnlyLocal && step.action.takes_away());
        if connection.platform.capabilities().has_get || !is_wanted {
            return Missing::Ask;
        }
        match connection.list_all(deadline).await {
            Ok(files) => Missing::ListedAgain(files.into_iter().map(|file| file.id).collect()),
            Err(error) => Missing::Unknown(error.message().to_owned()),
        }
    }

    /// # Errors
    /// `Conflict` when it is there after all; the platform's when it cannot be asked.
    async fn check(&self, manager: &Manager, replica: &Replica, deadline: Instant) -> Result<()> {
        let is_gone = match self {
            Missing::Ask => manager.is_gone(replica, deadline).await?,
            Missing::ListedAgain(listed) => !listed.contains(&replica.remote_id),
            Missing::Unknown(why) => {
                let what = format!("the platform could not be asked a second time: {why}");
                return Err(Error::new(ErrorKind::Unavailable, what));
            }
        };
        match is_gone {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Conflict, "the platform has it after all")),
        }
    }
}

async fn carry_out(
    manager: &Manager,
    connection: &Connection,
    step: &Step,
    missing: &Missing,
    deadline: Instant,
) -> Result<()> {
    let difference = &step.difference;
    let changed_at = difference.changed_at;
    match (step.action, &difference.remote, &difference.local) {
        (Action::Adopt, Some(object), _) => adopt(manager, connection, difference, object, deadline).await,
        (Action::Delete, Some(object), _) => {
            if !manager.registry().is_unchanged(&difference.platform, &object.id, changed_at).await? {
                return Err(Error::new(ErrorKind::Conflict, "somebody has bound it meanwhile"));
            }
            manager.remove(connection, &object.id, deadline).await?;
            match &difference.local {
                Some(replica) => manager.registry().mark_gone(replica, Gone::Accepted).await,
                None => Ok(()),
            }
        }
        (Action::Believe, Some(object), Some(replica)) => {
            let rule =
                object.purpose.as_ref().and_then(|purpose| connection.platform.capabilities().rule(purpose.as_str()));
            let content = rule.map(|rule| rule.content).unwrap_or_default();
            manager.registry().believe(replica, changed_at, difference.digest, object, content).await
        }
        (Action::Forget, _, Some(replica)) => {
            missing.check(manager, replica, deadline).await?;
            manager.registry().turn(replica, changed_at, ReplicaStatus::Deleted).await
        }
        (Action::Reupload, None, Some(replica)) => {
            missing.check(manager, replica, deadline).await?;
            if Instant::now() >= deadline {
                return Err(Error::new(ErrorKind::TimedOut, "there is no time left to make it anew"));
            }
            manager.registry().turn(replica, changed_at, ReplicaStatus::Deleted).await?;
            make_anew(manager, difference, replica, deadline).await.map(drop)
        }
        (Action::Reupload, Some(object), Some(replica)) => {
            // It is not handed out any more; where no other can be made, it is better than none.
            manager.registry().turn(replica, changed_at, ReplicaStatus::Deleting).await?;
            match make_anew(manager, difference, replica, deadline).await {
                Ok(new) if new.remote_id != object.id => {
                    manager.remove(connection, &object.id, deadline).await?;
                    manager.registry().mark_gone(replica, Gone::Accepted).await
                }
                Ok(_) => Ok(()),
                Err(error) => {
                    manager.registry().keep(replica, &error).await?;
                    Err(error)
                }
            }
        }
        _ => Ok(()),
    }
}

async fn make_anew(
    manager: &Manager,
    difference: &Difference,
    replica: &Replica,
    deadline: Instant,
) -> Result<Replica> {
    let digest = difference.digest.ok_or_else(|| Error::new(ErrorKind::NotFound, "its content is not known"))?;
    let purpose = replica.purpose.as_str();
    let request = EnsureRequest {
        account: Some(replica.account.clone()),
        purpose: (!purpose.is_empty()).then(|| purpose.to_owned()),
        max_age: Duration::MAX,
        is_recovery: true,
        ..EnsureRequest::new(replica.platform.clone(), deadline.saturating_duration_since(Instant::now()))
    };
    manager.ensure(&digest.to_string(), request, &Transfers::default()).await
}

async fn adopt(
    manager: &Manager,
    connection: &Connection,
    difference: &Difference,
    object: &FileObject,
    deadline: Instant,
) -> Result<()> {
    let Some(purpose) = &object.purpose else { return Ok(()) };
    let (digest, size) = match (difference.digest, object.size) {
        (Some(digest), Some(size)) => (digest, size),
        (Some(digest), None) => {
            let known = manager.get(&digest.to_string()).await?;
            (digest, known.size)
        }
        (None, _) => read(connection, object, deadline).await?,
    };
    if manager.is_gone_remote(connection, &object.id, purpose, deadline).await? {
        return Err(Error::new(ErrorKind::NotFound, "the platform does not have it any more"));
    }
    let name = read_tag(&difference.name).map_or_else(|| difference.name.clone(), |(name, _)| name);
    let name = local_name(&name).unwrap_or_else(|| digest.hex()[..12].to_owned());
    let capabilities = connection.platform.capabilities();
    let created_at = object.created_at.unwrap_or_else(|| manager.clock().now());
    let new = NewIntent {
        placement: Placement {
            digest,
            platform: difference.platform.clone(),
            account: difference.account.clone(),
            purpose: purpose.clone(),
        },
        name,
        remote_name: difference.name.clone(),
        size,
        mime: object.mime.clone().unwrap_or_else(|| "application/octet-stream".to_owned()),
        owner: None,
        needed_until: None,
        keep: crate::model::Keep::AsItIs,
    };
    let settlement = Settlement {
        remote_id: object.id.clone(),
        remote_name: difference.name.clone(),
        content: capabilities.rule(purpose.as_str()).map(|rule| rule.content).unwrap_or_default(),
        created_at,
        expires_at: object.expires_at.or_else(|| capabilities.retention().map(|age| created_at.plus(age))),
        raw: object.raw.clone(),
        origin: Origin::Adopted,
    };
    manager.registry().adopt(new, settlement, difference.changed_at).await.map(drop)
}

/// Digest and size of what the platform gives back.
async fn read(connection: &Connection, object: &FileObject, deadline: Instant) -> Result<(Digest, u64)> {
    let Some(purpose) = &object.purpose else {
        return Err(Error::new(ErrorKind::Unsupported, "the platform does not say what it is for"));
    };
    let mut content = connection
        .resilience
        .call(Operation::Content, deadline, || async {
            connection.platform.content(&object.id, purpose, deadline).await
        })
        .await?;
    let (mut hasher, mut size) = (Sha256::new(), 0);
    while let Some(piece) = content.stream.next().await {
        let piece = piece?;
        size += piece.len() as u64;
        hasher.update(&piece);
    }
    if object.size.is_some_and(|stated| stated != size) {
        return Err(Error::new(ErrorKind::Integrity, "the platform gave back another number of bytes than it states"));
    }
    Ok((Digest(hasher.finalize().into()), size))
}
