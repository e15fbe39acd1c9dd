//! Reconcile: what each account holds, compared with what the registry says, and made to agree as far as the caller's
//! policies go.
//!
//! A listing alone is no proof. Before a replica is given up its platform is asked for it by id, or lists without it a
//! second time; before a remote file is deleted it must be old enough that no other process can be about to bind it.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::compare::{Difference, Sides, Sign};
use crate::clock::Timestamp;
use crate::content::{local_name, read_tag};
use crate::error::{Error, ErrorKind, Result};
use crate::manager::{Connection, EnsureRequest, Manager, Transfers};
use crate::model::{AccountId, Digest, FileObject, Operation, Origin, PlatformId, Replica, ReplicaStatus};
use crate::registry::{FileFilter, NewIntent, Placement, Settlement};

/// What to do about files that only the platform has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnlyRemote {
    #[default]
    Report,
    /// Bind them, where their content can be told: by the tag in the name, or by its bytes.
    Adopt,
    /// Delete them there.
    Delete,
}

/// What to do about replicas that their platform does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnlyLocal {
    #[default]
    Report,
    /// Note that they are gone.
    Forget,
    /// And upload them again from where they came from.
    Reupload,
}

/// Whose word counts where both sides have a file and differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Winner {
    #[default]
    None,
    /// Of the later creation.
    Newest,
    /// Ours: another content is replaced. A name or a date cannot be changed on a platform.
    Local,
    /// The platform's.
    Platform,
}

/// How many files may be deleted or given up at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cap {
    Files(u64),
    /// Of those that an account holds.
    Percent(u64),
}

impl Default for Cap {
    fn default() -> Self {
        Cap::Files(10)
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReconcileRequest {
    /// Empty: all that are connected.
    pub platforms: Vec<PlatformId>,
    /// Only this account of each.
    pub account: Option<AccountId>,
    pub only_remote: OnlyRemote,
    pub only_local: OnlyLocal,
    pub winner: Winner,
    pub max_delete: Cap,
    /// Seconds; younger remote files are not deleted: somebody may be about to bind them.
    pub min_age: u64,
    /// Say what would be done, and change nothing.
    pub dry_run: bool,
    /// Also list what agrees.
    pub with_equal: bool,
}

impl Default for ReconcileRequest {
    fn default() -> Self {
        ReconcileRequest {
            platforms: Vec::new(),
            account: None,
            only_remote: OnlyRemote::default(),
            only_local: OnlyLocal::default(),
            winner: Winner::default(),
            max_delete: Cap::default(),
            min_age: 3_600,
            dry_run: false,
            with_equal: false,
        }
    }
}

/// What is done about a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    None,
    /// The remote file was bound to its content.
    Adopt,
    /// The remote file is deleted.
    Delete,
    /// The replica is noted as gone.
    Forget,
    /// The replica is noted as gone, and made anew.
    Reupload,
    /// The platform's description is taken over.
    Believe,
}

impl Action {
    /// Whether something is lost by it that a mistaken listing would make us regret.
    fn takes_away(self) -> bool {
        matches!(self, Action::Delete | Action::Forget | Action::Reupload)
    }
}

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
    let held = manager.registry().holdings(&platform, &account).await?;
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

fn decide(
    connection: &Connection,
    request: &ReconcileRequest,
    difference: &Difference,
    now: Timestamp,
) -> (Action, Option<String>) {
    let action = match difference.sign {
        Sign::Equal => Action::None,
        Sign::OnlyRemote => match request.only_remote {
            OnlyRemote::Report => Action::None,
            OnlyRemote::Adopt => Action::Adopt,
            OnlyRemote::Delete => Action::Delete,
        },
        Sign::OnlyLocal => match request.only_local {
            OnlyLocal::Report => Action::None,
            OnlyLocal::Forget => Action::Forget,
            // What cannot be made anew, or was to be deleted, is only gone.
            OnlyLocal::Reupload if difference.digest.is_none() || was_being_deleted(difference) => Action::Forget,
            OnlyLocal::Reupload => Action::Reupload,
        },
        Sign::Differs | Sign::Unreadable => won(request.winner, difference),
    };
    let obstacle = match action {
        Action::Delete => too_young(difference, request, now),
        Action::Adopt => not_adoptable(connection, difference),
        Action::Forget | Action::Reupload => too_new(connection, difference, now),
        Action::None if request.winner != Winner::None => unchangeable(difference),
        _ => None,
    };
    (if obstacle.is_some() { Action::None } else { action }, obstacle)
}

fn won(winner: Winner, difference: &Difference) -> Action {
    // Nothing is taken away that cannot be made anew.
    let ours = match difference.has_other_content && difference.digest.is_some() {
        true => Action::Reupload,
        false => Action::None,
    };
    let is_newer_there = difference
        .remote
        .as_ref()
        .and_then(|remote| remote.created_at)
        .zip(difference.local.as_ref())
        .is_some_and(|(there, local)| there > local.created_at);
    match winner {
        Winner::None => Action::None,
        Winner::Local => ours,
        Winner::Newest if !is_newer_there => ours,
        // What cannot be used wins nothing, and another content is not the one whose digest we know.
        _ if difference.sign == Sign::Unreadable => ours,
        _ if difference.has_other_content && difference.digest.is_some() => Action::None,
        Winner::Newest | Winner::Platform => Action::Believe,
    }
}

fn unchangeable(difference: &Difference) -> Option<String> {
    let why = match difference.sign {
        Sign::Differs | Sign::Unreadable if difference.has_other_content => match difference.digest {
            Some(_) => "its size says that it is another content than ours",
            None => "our content is not known, and could not be made anew",
        },
        Sign::Differs => "what differs cannot be changed on the platform",
        _ => return None,
    };
    Some(why.to_owned())
}

/// Where a listing is all there is to go by, a new file may not be in it yet.
fn too_new(connection: &Connection, difference: &Difference, now: Timestamp) -> Option<String> {
    let horizon = connection.commit_horizon;
    let placed = difference.local.as_ref().map(|replica| replica.created_at)?;
    let is_only_listed = difference.sign == Sign::OnlyLocal && !connection.platform.capabilities().has_get;
    (is_only_listed && now.since(placed) < horizon)
        .then(|| format!("it was placed less than {} s ago: the platform may not list it yet", horizon.as_secs()))
}

fn was_being_deleted(difference: &Difference) -> bool {
    difference.local.as_ref().is_some_and(|replica| replica.status == ReplicaStatus::Deleting)
}

fn too_young(difference: &Difference, request: &ReconcileRequest, now: Timestamp) -> Option<String> {
    match difference.remote.as_ref().and_then(|remote| remote.created_at) {
        None => Some("the platform does not say how old it is".to_owned()),
        Some(at) if now.since(at) < Duration::from_secs(request.min_age) => {
            Some(format!("it is younger than {} s: somebody may be about to bind it", request.min_age))
        }
        Some(_) => None,
    }
}

fn not_adoptable(connection: &Connection, difference: &Difference) -> Option<String> {
    let object = difference.remote.as_ref()?;
    if was_being_deleted(difference) {
        return Some("somebody has begun to delete it".to_owned());
    }
    if !object.status.is_usable() {
        return Some(format!("it is {}", object.status));
    }
    let Some(purpose) = &object.purpose else { return Some("the platform does not say what it is for".to_owned()) };
    let rule = connection.platform.capabilities().rule(purpose.as_str());
    let gives_bytes = rule.is_some_and(|rule| rule.content == crate::model::ContentKind::Bytes);
    (difference.digest.is_none() && !gives_bytes)
        .then(|| "its content is not known, and the platform does not give it back".to_owned())
}

/// # Errors
/// `SafetyLimit`.
fn check_cap(request: &ReconcileRequest, sides: &Sides, steps: &[Step]) -> Result<()> {
    let count = steps.iter().filter(|step| step.action.takes_away()).count() as u64;
    let all = steps.len() as u64;
    let (most, said) = match request.max_delete {
        Cap::Files(files) => (files, format!("{files} files")),
        Cap::Percent(percent) => (all * percent / 100, format!("{percent} % of {all} files")),
    };
    if count <= most || request.dry_run {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::SafetyLimit,
        format!(
            "{count} files of {} ({}) would be deleted or given up, and {said} are allowed; nothing was changed",
            sides.platform, sides.account
        ),
    )
    .with_hint("look at a dry run, and allow more with `max_delete` if that is what you want"))
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
                Some(replica) => manager.registry().mark_deleted(replica).await,
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
            manager.registry().turn(replica, changed_at, ReplicaStatus::Deleted).await?;
            make_anew(manager, difference, replica, deadline).await.map(drop)
        }
        (Action::Reupload, Some(object), Some(replica)) => {
            // It is not handed out any more; where no other can be made, it is better than none.
            manager.registry().turn(replica, changed_at, ReplicaStatus::Deleting).await?;
            match make_anew(manager, difference, replica, deadline).await {
                Ok(new) if new.remote_id != object.id => {
                    manager.remove(connection, &object.id, deadline).await?;
                    manager.registry().mark_deleted(replica).await
                }
                Ok(_) => Ok(()),
                Err(error) => {
                    manager.registry().keep(replica).await?;
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
        platform: replica.platform.clone(),
        account: Some(replica.account.clone()),
        purpose: (!purpose.is_empty()).then(|| purpose.to_owned()),
        max_age: Duration::MAX,
        deadline: deadline.saturating_duration_since(Instant::now()),
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
