//! What is to be done about a difference: the caller's policies, and what keeps them from being carried out. Nothing
//! here asks or changes anything.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::compare::{Difference, Sides, Sign};
use super::reconcile::Step;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::manager::Connection;
use crate::model::{AccountId, ContentKind, PlatformId, ReplicaStatus};

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
    pub(super) fn takes_away(self) -> bool {
        matches!(self, Action::Delete | Action::Forget | Action::Reupload)
    }
}

pub(super) fn decide(
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
    let replica = difference.local.as_ref()?;
    (difference.sign == Sign::OnlyLocal && connection.may_not_list_yet(replica, now))
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
    let gives_bytes = rule.is_some_and(|rule| rule.content == ContentKind::Bytes);
    (difference.digest.is_none() && !gives_bytes)
        .then(|| "its content is not known, and the platform does not give it back".to_owned())
}

/// # Errors
/// `SafetyLimit`.
pub(super) fn check_cap(request: &ReconcileRequest, sides: &Sides, steps: &[Step]) -> Result<()> {
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
