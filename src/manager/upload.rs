//! Put a file on platforms, exactly once each.

use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use tokio::time::Instant;

use super::progress::{Phase, Tracker, Transfers};
use super::room::Eviction;
use super::{Connection, Manager};
use crate::content::{OpenSource, Source, tagged_name};
use crate::error::{Error, ErrorKind, Partial, Result};
use crate::metrics::{Account, metrics};
use crate::model::{AccountId, ContentKind, Digest, FileRecord, Identity, Keep, Origin, PlatformId, Purpose, Replica};
use crate::policy::quota::WhenFull;
use crate::registry::{Labels, NewIntent, Placement};
use crate::resilience::Lane;

/// What to upload, and where to.
#[derive(Clone, Debug)]
pub struct UploadRequest {
    pub source: Source,
    /// The name platforms show; default: the path's last part.
    pub name: Option<String>,
    /// Empty: the configured default platforms.
    pub to: Vec<PlatformId>,
    /// Which account of each platform; default: the one that has it, else the one with most room.
    pub account: Option<AccountId>,
    /// Any accepted spelling; default: by the file's type.
    pub purpose: Option<String>,
    /// Who hands it over.
    pub owner: Option<String>,
    /// What is said of it, once some platform has it.
    pub labels: Labels,
    /// Hash the file even if it has not changed since it was last hashed.
    pub paranoid: bool,
    /// How long a copy that is there must live yet; one that does not is made anew.
    pub min_ttl: Option<Duration>,
    /// How long it is wanted.
    pub keep: Keep,
    /// What is done when an account is full; default: as is configured.
    pub when_full: Option<WhenFull>,
    /// Whether somebody waits for it.
    pub lane: Lane,
    /// It was cut short before: where it fails, it stays to be finished.
    pub is_recovery: bool,
    /// For everything: queues, retries and transfer.
    pub deadline: Duration,
}

impl UploadRequest {
    /// As most are: by somebody who waits, and with nothing special about it.
    pub fn new(source: Source, deadline: Duration) -> Self {
        UploadRequest {
            source,
            name: None,
            to: Vec::new(),
            account: None,
            purpose: None,
            owner: None,
            labels: Labels::default(),
            paranoid: false,
            min_ttl: None,
            keep: Keep::AsItIs,
            when_full: None,
            lane: Lane::Interactive,
            is_recovery: false,
            deadline,
        }
    }
}

/// The file, checked and identified.
pub(super) struct Prepared {
    pub(super) source: OpenSource,
    pub(super) identity: Identity,
    /// The digest was not computed but remembered: the file has not changed since.
    is_recalled: bool,
    /// What the registry knew of this content.
    pub(super) known: Option<FileRecord>,
}

/// One platform to put it on.
#[derive(Clone)]
pub(super) struct Target<'m> {
    /// The account that `intent` is for,
    pub(super) connection: &'m Connection,
    /// and all that may be.
    pub(super) accounts: Vec<&'m Connection>,
    pub(super) intent: NewIntent,
    pub(super) content: ContentKind,
    pub(super) lane: Lane,
    pub(super) when_full: WhenFull,
    pub(super) is_recovery: bool,
    /// The largest age the platform lets a file reach.
    pub(super) retention: Option<Duration>,
}

impl<'m> Target<'m> {
    /// The same, on this account and no other.
    pub(super) fn on(&self, connection: &'m Connection) -> Target<'m> {
        let mut target = Target { connection, accounts: vec![connection], ..self.clone() };
        target.intent.placement.account = connection.platform.account().clone();
        target
    }

    /// Whether a replica is what would be made.
    pub(super) fn is_met_by(&self, replica: &Replica) -> bool {
        let wanted = &self.intent.placement;
        (&replica.platform, &replica.purpose) == (&wanted.platform, &wanted.purpose)
            && replica.lives_until(self.intent.needed_until)
            && self.accounts.iter().any(|connection| *connection.platform.account() == replica.account)
    }
}

/// What an upload would do.
#[derive(Debug, Serialize)]
pub struct Plan {
    pub digest: Digest,
    pub name: String,
    /// Bytes.
    pub size: u64,
    pub mime: String,
    pub targets: Vec<PlannedTarget>,
}

/// What an upload would do on one platform.
#[derive(Debug, Serialize)]
pub struct PlannedTarget {
    pub platform: PlatformId,
    pub account: AccountId,
    pub purpose: Purpose,
    pub remote_name: String,
    /// Nothing would be sent.
    pub is_there: bool,
    /// What would be taken off the account to make room.
    pub evictions: Vec<Eviction>,
}

impl Manager {
    /// What [`upload`](Self::upload) would do, without doing it.
    ///
    /// # Errors
    /// Those that `upload` has before a byte is sent.
    pub async fn plan(&self, request: &UploadRequest) -> Result<Plan> {
        let platforms = self.wanted(&request.to)?;
        let file = self.prepare(request, &platforms).await?;
        let mut targets = Vec::with_capacity(platforms.len());
        for platform in &platforms {
            let target = self.target(platform, &file, request)?;
            let there = self.holding(&target, &file);
            let best = self.by_room(&target.accounts, file.identity.size).await?;
            let evictions = match there {
                Some(_) => Vec::new(),
                None => self.to_evict(&best, file.identity.size, target.when_full).await?,
            };
            let account = there.map_or(best[0].platform.account(), |replica| &replica.account).clone();
            let NewIntent { placement, remote_name, .. } = target.intent;
            targets.push(PlannedTarget {
                platform: platform.clone(),
                account,
                purpose: placement.purpose,
                remote_name,
                is_there: there.is_some(),
                evictions,
            });
        }
        let Prepared { source, identity, .. } = file;
        Ok(Plan { digest: identity.digest, name: source.name, size: identity.size, mime: identity.mime, targets })
    }

    /// Uploads one file; platforms that have it already are not sent anything.
    ///
    /// # Errors
    /// The platform's own error when it was the only target (or all failed alike); `PartialUpload` when some
    /// took it. Bad input is refused before a byte is sent.
    pub async fn upload(&self, request: UploadRequest, transfers: &Transfers) -> Result<FileRecord> {
        let deadline = Instant::now() + request.deadline;
        Labels { owner: request.owner.clone(), ..request.labels.clone() }.check()?;
        match self.upload_once(&request, transfers, deadline).await {
            // Nothing was stored under the old digest: look at the file again, once.
            Err(error) if error.kind() == ErrorKind::SourceChanged => {
                tracing::info!(error = %error.message(), "planning the upload again");
                self.upload_once(&request, transfers, deadline).await
            }
            outcome => outcome,
        }
    }

    async fn upload_once(
        &self,
        request: &UploadRequest,
        transfers: &Transfers,
        deadline: Instant,
    ) -> Result<FileRecord> {
        let platforms = self.wanted(&request.to)?;
        let mut file = self.prepare(request, &platforms).await?;
        let targets = platforms.iter().map(|p| self.target(p, &file, request)).collect::<Result<Vec<_>>>()?;
        self.remember(&file);
        self.admit_user(&file).await?;
        let keeping = tokio::time::timeout_at(deadline, self.keep_copy(&file)).await;
        keeping.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::TimedOut, "the time given ran out while a copy was kept; nothing was sent")
                .with_hint("see why the store of `copies.place` is slow, or give more time"))
        })?;
        transfers.clear();
        let mut placing = Vec::with_capacity(targets.len());
        for target in &targets {
            let tracker = transfers.track(&target.intent.placement.platform, &file.source.name, file.identity.size);
            placing.push(self.place_tracked(&file, target, tracker, deadline));
        }
        let outcomes = join_all(placing).await;
        if request.keep != Keep::AsItIs {
            outcomes.iter().filter_map(|(_, outcome)| outcome.as_ref().ok()).for_each(|r| self.registry.note_use(r));
        }
        self.end_admission(&file).await;
        let is_placed = outcomes.iter().any(|(_, outcome)| outcome.is_ok());
        let is_said = file.known.as_ref().map_or(request.labels.is_empty(), |record| request.labels.are_on(record));
        if is_placed && !is_said {
            file.known = Some(self.registry.label(&file.identity.digest, request.labels.clone()).await?);
        }
        conclude(file, request.owner.clone(), request.keep, outcomes, self.clock.now())
    }

    /// The live replica on one of the accounts, if the file is known to have one.
    pub(super) fn holding<'f>(&self, target: &Target<'_>, file: &'f Prepared) -> Option<&'f Replica> {
        let now = self.clock.now();
        let replicas = file.known.iter().flat_map(|record| &record.replicas);
        replicas.into_iter().find(|replica| target.is_met_by(replica) && replica.is_live(now))
    }

    async fn place_tracked(
        &self,
        file: &Prepared,
        target: &Target<'_>,
        tracker: Tracker,
        deadline: Instant,
    ) -> (PlatformId, Result<Replica>) {
        let outcome = self.place(file, target, &tracker, deadline).await;
        if let Ok(replica) = &outcome {
            count(replica, file.identity.size);
        }
        tracker.enter(match &outcome {
            Ok(replica) if replica.origin == Origin::AlreadyThere => Phase::AlreadyThere,
            Ok(_) => Phase::Sent,
            Err(_) => Phase::Failed,
        });
        (target.intent.placement.platform.clone(), outcome)
    }

    fn wanted(&self, to: &[PlatformId]) -> Result<Vec<PlatformId>> {
        let named = if to.is_empty() { &self.options.default_platforms } else { to };
        let mut platforms: Vec<PlatformId> = Vec::with_capacity(named.len());
        for platform in named {
            if !platforms.contains(platform) {
                platforms.push(platform.clone());
            }
        }
        if platforms.is_empty() {
            return Err(Error::new(ErrorKind::InvalidRequest, "no platform was named")
                .with_hint("say which, e.g. moonshot, or set `default_platforms`"));
        }
        Ok(platforms)
    }

    /// Opens the source, learns its digest, and what is known of that content.
    ///
    /// The file is read only if it is new or has changed, and not at all when no purpose of a platform takes so
    /// much. All of it happens on one blocking thread: hopping between threads would cost more than the work.
    pub(super) async fn prepare(&self, request: &UploadRequest, platforms: &[PlatformId]) -> Result<Prepared> {
        let connected = platforms.iter().map(|p| Ok(self.platform(p)?.platform.clone())).collect::<Result<Vec<_>>>()?;
        let (source, name, policy) = (request.source.clone(), request.name.clone(), self.options.source.clone());
        let (registry, is_paranoid) = (self.registry.clone(), request.paranoid || self.options.paranoid);
        let preparing = tokio::task::spawn_blocking(move || {
            let mut source = OpenSource::open(&source, name.as_deref(), &policy)?;
            for platform in connected {
                platform.capabilities().check_size(&source.name, source.size)?;
            }
            let remembered = match source.fingerprint.filter(|_| !is_paranoid) {
                Some(fingerprint) => registry.recall_source(fingerprint)?,
                None => None,
            };
            let is_recalled = remembered.is_some();
            let identity = remembered.map_or_else(|| source.identify(), Ok)?;
            let known = registry.find(&identity.digest)?;
            Ok(Prepared { source, identity, is_recalled, known })
        });
        preparing
            .await
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Cancelled, "the client was closed while it read a file")))
    }

    /// So that an unchanged file is not read again, and its bytes are found again.
    fn remember(&self, file: &Prepared) {
        if let Some(fingerprint) = file.source.fingerprint.filter(|_| !file.is_recalled) {
            let path = file.source.path.as_ref().and_then(|path| path.to_str()).map(str::to_owned);
            self.registry.remember_source(fingerprint, path, &file.identity);
        }
    }

    pub(super) fn target(&self, platform: &PlatformId, file: &Prepared, request: &UploadRequest) -> Result<Target<'_>> {
        let accounts = self.accounts_or(platform, request.account.as_ref())?;
        let connection = accounts[0];
        let capabilities = connection.platform.capabilities();
        let Prepared { source, identity, .. } = file;
        let purpose = request.purpose.as_deref().or(connection.purpose.as_deref());
        let rule = capabilities.purpose(purpose, &source.name, &identity.mime)?;
        capabilities.check(rule, &source.name, identity.size, &identity.mime)?;
        let placement = Placement {
            digest: identity.digest,
            platform: platform.clone(),
            account: connection.platform.account().clone(),
            purpose: Purpose::new(&rule.wire),
        };
        let remote_name = match self.options.tag_names {
            true => tagged_name(&source.name, &identity.digest),
            false => source.name.clone(),
        };
        Ok(Target {
            connection,
            accounts,
            content: rule.content,
            lane: request.lane,
            when_full: request.when_full.or(connection.when_full).unwrap_or_default(),
            is_recovery: request.is_recovery,
            retention: capabilities.retention(),
            intent: NewIntent {
                placement,
                name: source.name.clone(),
                remote_name,
                size: identity.size,
                mime: identity.mime.clone(),
                owner: request.owner.clone(),
                needed_until: request.min_ttl.map(|ttl| self.clock.now().plus(ttl)),
                keep: request.keep,
            },
        })
    }
}

fn count(replica: &Replica, size: u64) {
    let account = Account { platform: replica.platform.to_string(), account_alias: replica.account.to_string() };
    match replica.origin {
        Origin::AlreadyThere => drop(metrics().dedupe_hits.get_or_create(&account).inc()),
        _ => drop(metrics().upload_bytes.get_or_create(&account).inc_by(size)),
    }
}

/// Turns each target's outcome into the one answer of the call.
fn conclude(
    file: Prepared,
    owner: Option<String>,
    keep: Keep,
    outcomes: Vec<(PlatformId, Result<Replica>)>,
    now: crate::clock::Timestamp,
) -> Result<FileRecord> {
    let Prepared { source, identity, known, .. } = file;
    let keep_until = match &known {
        Some(known) if keep.is_met_by(known.keep_until) => known.keep_until,
        _ => keep.until(),
    };
    let mut record = known.unwrap_or_else(|| FileRecord::new(identity, source.name.clone(), now));
    record.trashed_at = None;
    record.keep_until = keep_until;
    if record.name == source.name {
        record.owner = record.owner.or(owner);
    }
    let (mut failures, mut placed) = (Vec::new(), 0);
    for (platform, outcome) in outcomes {
        match outcome {
            Ok(replica) => {
                placed += 1;
                record.replicas.retain(|r| {
                    (&r.platform, &r.account, &r.purpose) != (&replica.platform, &replica.account, &replica.purpose)
                });
                record.replicas.push(replica);
            }
            Err(error) => failures.push((platform, error)),
        }
    }
    record.replicas.retain(|replica| replica.is_live(now));
    record.replicas.sort_by(|a, b| (&a.platform, &a.account, &a.purpose).cmp(&(&b.platform, &b.account, &b.purpose)));
    let changed = failures.iter().position(|(_, error)| error.kind() == ErrorKind::SourceChanged);
    match (failures.len(), placed) {
        (0, _) => Ok(record),
        (_, 0) if failures.iter().all(|(_, error)| error.kind() == failures[0].1.kind()) => {
            Err(failures.swap_remove(0).1)
        }
        _ => match changed {
            // The file is another one now; what the others were given is still a true copy of what it was.
            Some(index) => Err(failures.swap_remove(index).1),
            None => Err(Error::partial(Partial { record, failures })),
        },
    }
}
