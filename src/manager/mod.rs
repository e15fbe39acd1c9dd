//! The jobs a user asks for, each a straight line.

mod browse;
mod bytes;
mod choose;
mod closing;
mod delete;
mod ensure;
mod existing_tool;
mod health;
mod holds;
mod labels;
mod lifecycle;
mod orphan;
mod progress;
mod read;
mod ready;
mod recover;
mod relocate;
mod remote;
mod room;
mod send;
mod single_flight;
mod spread;
mod upload;
mod users;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::blobs::Blobs;
use crate::clock::Clock;
use crate::content::SourcePolicy;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AccountId, Actor, Operation, PlatformId, Replica};
use crate::platform::Platform;
use crate::policy::quota::WhenFull;
use crate::policy::retention::Rule;
use crate::policy::user_quota::UserQuotas;
use crate::registry::Registry;
use crate::resilience::{Resilience, SharedState};

pub use browse::PlatformInfo;
pub use choose::{Because, Choice};
pub use ensure::EnsureRequest;
pub use health::PlatformHealth;
pub use lifecycle::{ErasedReplica, Erasure};
pub use orphan::is_name_of;
pub use progress::{Phase, Transfer, Transfers};
pub use read::{Content, Download};
pub(crate) use recover::Ending;
pub use remote::RemoteListing;
pub use room::Eviction;
pub use upload::{Plan, PlannedTarget, UploadRequest};

use single_flight::SingleFlight;
use spread::KnownUsage;

/// One platform as this process is connected to it.
pub struct Connection {
    pub platform: Arc<dyn Platform>,
    pub resilience: Arc<Resilience>,
    /// The purpose used when a call names none; `None` leaves it to the file's type.
    pub purpose: Option<String>,
    /// What is done when an account is full, where a call says nothing else.
    pub when_full: Option<WhenFull>,
    /// How long after its sending an upload without an answer may still turn up in a listing.
    pub commit_horizon: Duration,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.platform.id())
    }
}

/// How the manager goes about its jobs.
#[derive(Clone, Debug)]
pub struct ManagerOptions {
    pub source: SourcePolicy,
    /// Hash every file again, even an unchanged one.
    pub paranoid: bool,
    /// Put the content tag into remote names.
    pub tag_names: bool,
    /// Times the bytes of one upload may leave at most, when replies get lost.
    pub upload_sends: u32,
    /// Times that what was cut short is tried to be finished.
    pub recovery_attempts: u64,
    /// Where else an upload may go whose recovery is given up.
    pub recovery_fallback: Vec<PlatformId>,
    /// How long files stay.
    pub rules: Vec<Rule>,
    /// How long they stay in the trash; `None` for ever.
    pub trash_period: Option<Duration>,
    /// Where uploads go that name no platform.
    pub default_platforms: Vec<PlatformId>,
    /// Platforms without a key, and what to do about that.
    pub missing_keys: BTreeMap<PlatformId, String>,
    /// What each user may have on platforms.
    pub quotas: UserQuotas,
}

impl Default for ManagerOptions {
    fn default() -> Self {
        ManagerOptions {
            source: SourcePolicy { root: None::<PathBuf>, memory_limit: 4 << 20 },
            paranoid: false,
            tag_names: true,
            upload_sends: 4,
            recovery_attempts: 10,
            recovery_fallback: Vec::new(),
            rules: Vec::new(),
            trash_period: Some(Duration::from_secs(30 * 86_400)),
            default_platforms: Vec::new(),
            missing_keys: BTreeMap::new(),
            quotas: UserQuotas::default(),
        }
    }
}

/// Everything a client can do; clones share all of it.
#[derive(Clone, Debug)]
pub struct Manager {
    registry: Registry,
    clock: Arc<dyn Clock>,
    options: Arc<ManagerOptions>,
    /// By platform, at least one account each.
    connections: Arc<BTreeMap<PlatformId, Vec<Connection>>>,
    usage: Arc<KnownUsage>,
    in_flight: Arc<SingleFlight>,
    calls: Arc<closing::Calls>,
    /// State that the existing EXAI tool may share.
    existing_tool: Option<SharedState>,
    /// Kept copies.
    blobs: Option<Blobs>,
}

impl Manager {
    pub fn new(
        registry: Registry,
        clock: Arc<dyn Clock>,
        options: ManagerOptions,
        connections: impl IntoIterator<Item = Connection>,
    ) -> Self {
        let mut by_platform: BTreeMap<PlatformId, Vec<Connection>> = BTreeMap::new();
        for connection in connections {
            by_platform.entry(connection.platform.id().clone()).or_default().push(connection);
        }
        Manager {
            registry,
            clock,
            options: Arc::new(options),
            connections: Arc::new(by_platform),
            usage: Arc::default(),
            in_flight: Arc::default(),
            calls: Arc::default(),
            existing_tool: None,
            blobs: None,
        }
    }

    /// The same, on somebody's behalf: the audit log has them, and their quota counts.
    ///
    /// # Errors
    /// `InvalidRequest` when it names nobody.
    pub fn acting_as(&self, actor: Actor) -> Result<Self> {
        actor.check()?;
        Ok(Manager { registry: self.registry.acting_as(actor), ..self.clone() })
    }

    /// Makes `work`, one call of this manager, end when the manager is closed.
    ///
    /// # Errors
    /// `Cancelled` then.
    pub async fn until_closed<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.calls.run(work).await
    }

    pub fn is_closed(&self) -> bool {
        self.calls.are_over()
    }

    /// Ends the calls that run, finishes what is being written and closes the registry. Later calls fail.
    pub async fn close(&self) {
        self.calls.close().await;
        let registry = self.registry.clone();
        let _ = tokio::task::spawn_blocking(move || registry.close()).await;
    }

    /// # Errors
    /// `Config` when no such platform is configured, with or without a key.
    fn check_known(&self, platform: &PlatformId) -> Result<()> {
        match self.options.missing_keys.contains_key(platform) {
            true => Ok(()),
            false => self.accounts(platform).map(drop),
        }
    }

    /// The accounts that a platform is connected with, at least one.
    fn accounts(&self, platform: &PlatformId) -> Result<&[Connection]> {
        self.connections.get(platform).map(Vec::as_slice).ok_or_else(|| match self.options.missing_keys.get(platform) {
            Some(remedy) => Error::new(ErrorKind::Config, format!("there is no key for {platform}")).with_hint(remedy),
            None => {
                let known = self.connections.keys().chain(self.options.missing_keys.keys());
                let known: Vec<&str> = known.map(PlatformId::as_str).collect();
                Error::new(ErrorKind::Config, format!("there is no platform {platform:?}"))
                    .with_hint(format!("there are {}; others are added in the configuration", known.join(", ")))
            }
        })
    }

    /// The platforms that are connected.
    pub(crate) fn connected(&self) -> Vec<PlatformId> {
        self.connections.keys().cloned().collect()
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// Every account that is connected.
    pub(crate) fn all_accounts(&self) -> Vec<(PlatformId, AccountId)> {
        let all = self.connections.iter();
        all.flat_map(|(id, accounts)| accounts.iter().map(|one| (id.clone(), one.platform.account().clone()))).collect()
    }

    /// The largest age that a platform lets a file reach, where it states one.
    pub(crate) fn retention(&self, platform: &PlatformId) -> Option<Duration> {
        self.platform(platform).ok()?.platform.capabilities().retention()
    }

    pub(crate) fn rules(&self) -> &[Rule] {
        &self.options.rules
    }

    pub(crate) fn trash_period(&self) -> Option<Duration> {
        self.options.trash_period
    }

    /// Where else an upload may go whose recovery is given up.
    pub(crate) fn recovery_fallback(&self) -> &[PlatformId] {
        &self.options.recovery_fallback
    }

    pub(crate) fn recovery_attempts(&self) -> u64 {
        self.options.recovery_attempts
    }

    /// What keeps an account's operation from being tried now, such as an open breaker.
    ///
    /// # Errors
    /// `Config` when it is not connected.
    pub(crate) async fn refusal(
        &self,
        platform: &PlatformId,
        account: &AccountId,
        operation: Operation,
    ) -> Result<Option<Error>> {
        Ok(self.account(platform, account)?.resilience.refusal(operation).await)
    }

    /// What a platform can do, whichever the account.
    fn platform(&self, platform: &PlatformId) -> Result<&Connection> {
        Ok(&self.accounts(platform)?[0])
    }

    /// One account of a platform.
    fn account(&self, platform: &PlatformId, account: &AccountId) -> Result<&Connection> {
        let accounts = self.accounts(platform)?;
        accounts.iter().find(|c| c.platform.account() == account).ok_or_else(|| {
            let known: Vec<&str> = accounts.iter().map(|c| c.platform.account().as_str()).collect();
            Error::new(ErrorKind::Config, format!("{platform} is not connected as {account}"))
                .with_hint(format!("its accounts are {}", known.join(", ")))
        })
    }

    /// All accounts of a platform, or the one that is named.
    pub(crate) fn accounts_or(&self, platform: &PlatformId, account: Option<&AccountId>) -> Result<Vec<&Connection>> {
        match account {
            Some(account) => Ok(vec![self.account(platform, account)?]),
            None => Ok(self.accounts(platform)?.iter().collect()),
        }
    }

    /// The account that holds it: its id means nothing to another one.
    fn holder(&self, replica: &Replica) -> Result<&Connection> {
        self.account(&replica.platform, &replica.account)
    }

    fn is_ours(&self, replica: &Replica) -> bool {
        self.holder(replica).is_ok()
    }

    /// The replica a question is about: on the platform named, else the one that gives most back.
    fn choose<'r>(&self, replicas: &'r [Replica], platform: Option<&PlatformId>, name: &str) -> Result<&'r Replica> {
        use crate::model::ContentKind::{Bytes, ExtractedText, Opaque};
        if let Some(platform) = platform {
            self.accounts(platform)?;
        }
        let now = self.clock.now();
        let there = |r: &&Replica| r.is_live(now) && self.is_ours(r) && platform.is_none_or(|p| r.platform == *p);
        let rank = |r: &&Replica| match r.content {
            Bytes => 0,
            ExtractedText => 1,
            Opaque => 2,
        };
        replicas.iter().filter(there).min_by_key(rank).ok_or_else(|| {
            let place = platform.map_or("any platform".to_owned(), ToString::to_string);
            Error::new(ErrorKind::NotFound, format!("{name:?} is not on {place}")).with_hint("upload it there first")
        })
    }
}
