//! Watch: recovery, health, leases and checkpoints, over and over, shared by all that watch.
//!
//! An account's health is read from one listing, so that a thousand files cost a request or two and not a thousand. What
//! is missing from it is asked for once more before it is taken for lost.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::check::{Verdict, check_replica};
use super::compare::Sign;
use super::decide::{Cap, OnlyLocal, ReconcileRequest};
use super::expire::{Ending, keep_from_expiring};
use super::lifecycle::{LifecycleStep, apply_lifecycle};
use super::reconcile::{Step, reconcile};
use super::recover::{RecoveryStep, recover};
use super::status::status;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::manager::{EnsureRequest, Manager, Transfers};
use crate::metrics::{Notices, metrics};
use crate::model::{AccountId, Digest, FileRecord, PlatformId};
use crate::registry::{Expiring, HealthCheck, Registry};
use crate::resilience::BreakerState;

/// How often each is due.
const RECOVER_EVERY: Duration = Duration::from_secs(30);
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);
const EXPIRY_EVERY: Duration = Duration::from_secs(3_600);
const LIFECYCLE_EVERY: Duration = Duration::from_secs(3_600);
const SHOWN_EVERY: Duration = Duration::from_secs(60);
const LEASES_EVERY: Duration = Duration::from_secs(60);

/// A watcher that died is replaced after this.
const AT_MOST: Duration = Duration::from_secs(600);

/// What recovery may take of a pass: the others have their work, too.
const RECOVERY: Duration = Duration::from_secs(120);

/// A platform that hangs must not keep the others from being looked after.
const LOOK: Duration = Duration::from_secs(60);

/// From this part of a quota on it is told.
const FILLING: f64 = 0.9;

/// What a watcher does about what it finds.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatchRequest {
    /// Seconds between two looks at an account.
    pub every: f64,
    /// Make lost files anew, in place of only noting that they are gone.
    pub heal: bool,
    /// Files that may be given up at one look: more is more likely a platform's mistake.
    pub max_lost: u64,
    /// Copies of an account that are read back at one look, those read longest ago first.
    pub samples: u64,
}

impl Default for WatchRequest {
    fn default() -> Self {
        WatchRequest { every: 300.0, heal: false, max_lost: 100, samples: 0 }
    }
}

/// What may be told: see [`Notice::event`].
const EVENTS: [&str; 12] = [
    "lost",
    "healed",
    "damaged",
    "renewed",
    "lease-failed",
    "unreachable",
    "breaker-open",
    "quota",
    "expiring",
    "recovered",
    "gone",
    "not-gone",
];

/// Something to be told.
#[derive(Clone, Debug, Serialize)]
pub struct Notice {
    /// "lost", "healed", "damaged", "renewed", "lease-failed", "unreachable", "breaker-open", "quota", "expiring", "recovered",
    /// "gone" or "not-gone" (what rules and time limits take away).
    pub event: &'static str,
    pub platform: Option<PlatformId>,
    pub account: Option<AccountId>,
    pub digest: Option<Digest>,
    pub remote_id: Option<String>,
    pub what: String,
}

/// What a watcher remembers between two passes.
#[derive(Debug, Default)]
pub struct Watch {
    request: WatchRequest,
    /// Breakers that were open, and accounts that were filling: each is told once.
    told: BTreeSet<String>,
    /// When the metrics were last set.
    shown_at: Option<Instant>,
}

impl Watch {
    /// Counts every event from now on, from none: an increase is seen only of what was there before.
    pub fn new(request: WatchRequest) -> Self {
        for event in EVENTS {
            drop(metrics().notices.get_or_create(&Notices { event }));
        }
        Watch { request, told: BTreeSet::new(), shown_at: None }
    }

    /// Does what is due and nobody else is doing; gives what is to be told.
    ///
    /// # Errors
    /// `Registry`, when there is nothing to tell: what was found out is told, whatever fails after it. What a platform does
    /// not do is told, too.
    pub async fn pass(&mut self, manager: &Manager, within: Duration) -> Result<Vec<Notice>> {
        let deadline = Instant::now() + within;
        let left = || deadline.saturating_duration_since(Instant::now());
        let (registry, mut pass) = (manager.registry(), Pass::default());
        let recovery = recovered(manager, left().min(RECOVERY));
        pass.take(in_turn(registry, "recover", RECOVER_EVERY, recovery).await);
        for (platform, account) in manager.all_accounts() {
            if left().is_zero() {
                break;
            }
            let name = format!("health/{platform}/{account}");
            let look = self.look(manager, &platform, &account, left().min(LOOK));
            pass.take(in_turn(registry, &name, self.next_look(), look).await);
        }
        pass.take(in_turn(registry, "leases", LEASES_EVERY, keep_leases(manager, left())).await);
        let endings = keep_from_expiring(manager, self.request.heal, left());
        let endings = in_turn(registry, "expiry", EXPIRY_EVERY, endings).await;
        pass.take(endings.map(|endings| self.told_of(endings)));
        let steps = apply_lifecycle(manager, false, left());
        let steps = in_turn(registry, "lifecycle", LIFECYCLE_EVERY, steps).await;
        pass.take(steps.map(lifecycle_notices));
        if registry.audit().verifying_key().is_ok() {
            let checkpoint = in_turn(registry, "checkpoint", CHECKPOINT_EVERY, registry.audit().checkpoint());
            pass.take(checkpoint.await.map(|_| Vec::new()));
        }
        pass.take(Ok(self.told_breakers(manager).await));
        pass.take(self.told_quotas(manager).await);
        if self.shown_at.is_none_or(|at| at.elapsed() >= SHOWN_EVERY) {
            pass.take(status(manager).await.map(|_| Vec::new()));
            self.shown_at = Some(Instant::now());
        }
        pass.end()
    }

    /// A tenth more or less, so that watchers and accounts do not keep step.
    fn next_look(&self) -> Duration {
        let every = self.request.every.clamp(1.0, 1e9);
        Duration::from_secs_f64(every * rand::random_range(0.9..1.1))
    }

    async fn look(
        &self,
        manager: &Manager,
        platform: &PlatformId,
        account: &AccountId,
        within: Duration,
    ) -> Result<Vec<Notice>> {
        let request = ReconcileRequest {
            platforms: vec![platform.clone()],
            account: Some(account.clone()),
            only_local: if self.request.heal { OnlyLocal::Reupload } else { OnlyLocal::Forget },
            max_delete: Cap::Files(self.request.max_lost),
            with_equal: true,
            ..ReconcileRequest::default()
        };
        let here = |event, what| Notice {
            event,
            platform: Some(platform.clone()),
            account: Some(account.clone()),
            digest: None,
            remote_id: None,
            what,
        };
        let begun = Instant::now();
        let found = match reconcile(manager, &request, within).await {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::SafetyLimit => {
                return Ok(vec![here("lost", error.message().to_owned())]);
            }
            Err(error) => return Err(error),
        };
        let mut notices: Vec<Notice> =
            found.unasked.iter().map(|unasked| here("unreachable", unasked.why.clone())).collect();
        let response_time = begun.elapsed();
        let mut checks = Vec::with_capacity(found.steps.len());
        for step in &found.steps {
            let is_given_up = is_given_up(manager, step).await?;
            checks.extend(check(step, is_given_up, response_time));
        }
        for changed in manager.registry().note_health(checks).await? {
            let HealthCheck { replica, status, evidence, .. } = changed;
            let event = match status {
                "lost" if self.request.heal && is_healed(&found.steps, &replica.remote_id) => "healed",
                "lost" => "lost",
                "healthy" => continue,
                _ => "damaged",
            };
            let digest = manager.registry().digest_of(&replica).await?;
            let what = evidence.unwrap_or_else(|| format!("{platform} does not have {} any more", replica.remote_id));
            notices.push(Notice { digest, remote_id: Some(replica.remote_id), ..here(event, what) });
        }
        match self.sample(manager, platform, account, begun + within).await {
            Ok(sampled) => notices.extend(sampled),
            Err(error) => tracing::warn!(%platform, %error, "copies could not be read back"),
        }
        Ok(notices)
    }

    /// Reads some copies back, and tells of those that are not what they should be.
    async fn sample(
        &self,
        manager: &Manager,
        platform: &PlatformId,
        account: &AccountId,
        deadline: Instant,
    ) -> Result<Vec<Notice>> {
        let mut notices = Vec::new();
        if self.request.samples == 0 {
            return Ok(notices);
        }
        for (digest, replica) in manager.registry().least_read(platform, account, self.request.samples).await? {
            if Instant::now() >= deadline {
                break;
            }
            // It may be gone by now.
            let Ok(record) = manager.get(&digest.to_string()).await else { continue };
            let found = check_replica(manager, &record, &replica, true, deadline).await?;
            let event = match found.verdict {
                Verdict::Healthy | Verdict::Unknown => continue,
                Verdict::Lost => "lost",
                Verdict::Differs | Verdict::Unusable => "damaged",
            };
            let (platform, account) = (Some(platform.clone()), Some(account.clone()));
            let remote_id = Some(replica.remote_id);
            notices.push(Notice { event, platform, account, digest: Some(digest), remote_id, what: found.evidence });
        }
        Ok(notices)
    }

    async fn told_breakers(&mut self, manager: &Manager) -> Vec<Notice> {
        let mut notices = Vec::new();
        for health in manager.health().await {
            for breaker in &health.health.breakers {
                let key = format!("breaker/{}/{}/{}", health.platform, health.account, breaker.operation);
                let is_open = breaker.breaker.state == BreakerState::Open;
                let what = format!("{} {} is left in peace", health.platform, breaker.operation);
                let (platform, account) = (Some(health.platform.clone()), Some(health.account.clone()));
                let notice = Notice { event: "breaker-open", platform, account, digest: None, remote_id: None, what };
                notices.extend(self.once(key, is_open, notice));
            }
        }
        notices
    }

    async fn told_quotas(&mut self, manager: &Manager) -> Result<Vec<Notice>> {
        let mut notices = Vec::new();
        for info in manager.platforms().await? {
            let most_files = info.capabilities.max_files.as_ref().map(|fact| fact.value);
            let most_bytes = info.capabilities.max_total_bytes.as_ref().map(|fact| fact.value);
            for (of, held, most) in [("files", info.files, most_files), ("bytes", info.bytes, most_bytes)] {
                let Some(most) = most else { continue };
                let is_filling = held as f64 >= most as f64 * FILLING;
                let what = format!("{} holds {held} of {most} {of}", info.platform);
                let (platform, account) = (Some(info.platform.clone()), Some(info.account.clone()));
                let key = format!("quota/{}/{}/{of}", info.platform, info.account);
                let notice = Notice { event: "quota", platform, account, digest: None, remote_id: None, what };
                notices.extend(self.once(key, is_filling, notice));
            }
        }
        Ok(notices)
    }

    fn told_of(&mut self, endings: Vec<Ending>) -> Vec<Notice> {
        // Those that are not among them any more are over, and may be forgotten.
        let now: BTreeSet<String> = endings.iter().map(|ending| ending_key(&ending.expiring)).collect();
        self.told.retain(|key| !key.starts_with(ENDING) || now.contains(key));
        endings.into_iter().filter_map(|ending| self.told_ending(ending)).collect()
    }

    fn told_ending(&mut self, Ending { expiring, renewed }: Ending) -> Option<Notice> {
        let key = ending_key(&expiring);
        let Expiring { digest, name, replica } = expiring;
        let at = replica.expires_at.map(|at| at.to_string()).unwrap_or_default();
        let ends = format!("{} drops {name:?} at {at}", replica.platform);
        let notice = |event, remote_id, what| Notice {
            event,
            platform: Some(replica.platform.clone()),
            account: Some(replica.account.clone()),
            digest: Some(digest),
            remote_id: Some(remote_id),
            what,
        };
        match renewed {
            Some(Ok(new)) => {
                let what = format!("{} has {name:?} as {} now", new.platform, new.remote_id);
                Some(notice("renewed", new.remote_id, what))
            }
            Some(Err(error)) => {
                let what = format!("{ends}: {}", error.message());
                self.once(key, true, notice("expiring", replica.remote_id.clone(), what))
            }
            None => self.once(key, true, notice("expiring", replica.remote_id.clone(), ends)),
        }
    }

    /// The notice when it begins to be so, and again only after it had ended.
    fn once(&mut self, key: String, is_so: bool, notice: Notice) -> Option<Notice> {
        match is_so {
            true => self.told.insert(key).then_some(notice),
            false => {
                self.told.remove(&key);
                None
            }
        }
    }
}

/// What begins the keys of copies that are about to be dropped.
const ENDING: &str = "expiring/";

fn ending_key(expiring: &Expiring) -> String {
    format!("{ENDING}{}/{}", expiring.replica.platform, expiring.replica.remote_id)
}

/// What one pass found out, and what went wrong first.
#[derive(Default)]
struct Pass {
    notices: Vec<Notice>,
    trouble: Option<Error>,
}

impl Pass {
    fn take(&mut self, told: Result<Vec<Notice>>) {
        match told {
            Ok(notices) => self.notices.extend(notices),
            Err(error) => {
                tracing::warn!(%error, "a part of watching failed; it is tried again later");
                self.trouble.get_or_insert(error);
            }
        }
    }

    fn end(self) -> Result<Vec<Notice>> {
        for notice in &self.notices {
            metrics().notices.get_or_create(&Notices { event: notice.event }).inc();
            tracing::info!(event = notice.event, platform = ?notice.platform, "{}", notice.what);
        }
        match self.trouble {
            Some(error) if self.notices.is_empty() => Err(error),
            _ => Ok(self.notices),
        }
    }
}

/// What a task gives, if it is due and nobody else is at it.
async fn in_turn<T: Default>(
    registry: &Registry,
    name: &str,
    every: Duration,
    task: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(turn) = registry.take_turn(name, AT_MOST, every).await? else { return Ok(T::default()) };
    let outcome = task.await;
    turn.end().await?;
    outcome
}

async fn recovered(manager: &Manager, within: Duration) -> Result<Vec<Notice>> {
    let notice = |step: RecoveryStep| Notice {
        event: "recovered",
        what: format!("{} {}: {:?}, {}", step.kind.as_str(), step.id, step.result, step.strategy),
        platform: Some(step.platform),
        account: Some(step.account),
        digest: step.digest,
        remote_id: None,
    };
    Ok(recover(manager, within).await?.into_iter().map(notice).collect())
}

fn lifecycle_notices(steps: Vec<LifecycleStep>) -> Vec<Notice> {
    let told = steps.into_iter().filter(|step| step.is_done || step.error.is_some());
    told.map(|LifecycleStep { digest, departure, error, .. }| Notice {
        event: if error.is_none() { "gone" } else { "not-gone" },
        platform: departure.platform,
        account: None,
        digest: Some(digest),
        remote_id: None,
        what: error.map_or(departure.because.clone(), |error| format!("{}: {error}", departure.because)),
    })
    .collect()
}

/// Whether a replica that its platform does not list is not handed out any more, made anew or not.
async fn is_given_up(manager: &Manager, step: &Step) -> Result<bool> {
    let Step { difference, is_done, .. } = step;
    if difference.sign != Sign::OnlyLocal || *is_done {
        return Ok(*is_done);
    }
    let is_as_before =
        manager.registry().is_unchanged(&difference.platform, &difference.remote_id, difference.changed_at).await?;
    Ok(!is_as_before)
}

fn check(step: &Step, is_given_up: bool, response_time: Duration) -> Option<HealthCheck> {
    let difference = &step.difference;
    let replica = difference.local.clone()?;
    let status = match difference.sign {
        Sign::Equal => "healthy",
        Sign::OnlyLocal if is_given_up => "lost",
        Sign::Differs => "differs",
        Sign::Unreadable => "unusable",
        Sign::OnlyLocal | Sign::OnlyRemote => return None,
    };
    let why = difference.why.join("; ");
    Some(HealthCheck {
        replica,
        status,
        evidence: (!why.is_empty()).then_some(why),
        response_time,
        http_status: None,
        error_code: None,
        bytes_read: None,
    })
}

fn is_healed(steps: &[Step], remote_id: &str) -> bool {
    steps.iter().any(|step| step.difference.remote_id == remote_id && step.is_done)
}

/// What is leased lives until its lease ends, or its platform's retention is renewed in time.
async fn keep_leases(manager: &Manager, within: Duration) -> Result<Vec<Notice>> {
    let (deadline, now) = (Instant::now() + within, manager.clock().now());
    let mut notices = Vec::new();
    for lease in manager.registry().leases().await? {
        let Some(platform) = lease.platform.clone() else { continue };
        let request = EnsureRequest {
            purpose: lease.purpose.as_ref().map(|purpose| purpose.as_str().to_owned()),
            max_age: Duration::MAX,
            min_ttl: needed(manager, &platform, lease.until, now),
            ..EnsureRequest::new(platform.clone(), deadline.saturating_duration_since(Instant::now()))
        };
        // The others took their time, and what nobody needs any more may be gone by now.
        if !manager.registry().is_held(&lease).await? {
            continue;
        }
        let Ok(FileRecord { replicas: before, .. }) = manager.get(&lease.digest.to_string()).await else { continue };
        let ensured = manager.ensure(&lease.digest.to_string(), request, &Transfers::default()).await;
        let told = |event, what| Notice {
            event,
            platform: Some(platform.clone()),
            account: None,
            digest: Some(lease.digest),
            remote_id: None,
            what,
        };
        match ensured {
            Ok(replica) if before.iter().all(|known| known.remote_id != replica.remote_id) => {
                let what = format!("{platform} has it as {} now", replica.remote_id);
                notices.push(Notice { remote_id: Some(replica.remote_id), ..told("renewed", what) });
            }
            Ok(_) => {}
            Err(error) => notices.push(told("lease-failed", error.message().to_owned())),
        }
    }
    Ok(notices)
}

/// How long a leased copy must live yet: to the lease's end, but renewed at the earliest when half its platform's
/// retention is over.
fn needed(manager: &Manager, platform: &PlatformId, until: Option<Timestamp>, now: Timestamp) -> Duration {
    let longest = manager.retention(platform).map_or(Duration::MAX, |retention| retention / 2);
    until.map_or(longest, |until| until.since(now).min(longest))
}
