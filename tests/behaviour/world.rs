//! A simulator and clients of it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use exai_files::audit::AuditOptions;
use exai_files::clock::{Clock, SystemClock};
use exai_files::content::Source;
use exai_files::credentials::{ApiKey, KeySource};
use exai_files::error::Result;
use exai_files::manager::{Connection, Manager, ManagerOptions, Transfers, UploadRequest};
use exai_files::model::{AccountId, FileRecord, PlatformId, Secret};
use exai_files::platform::{Fact, FilesApi, Profile, moonshot, zai, zhipu};
use exai_files::registry::Registry;
use exai_files::resilience::{
    BreakerSettings, Database, Memory, Rate, Rates, Resilience, ResilienceOptions, RetryPolicy, SharedState,
};
use exai_files::simulator::{FaultProxy, Options, Simulator};
use exai_files::store::{Location, Store};
use exai_files::transport::{HttpClient, HttpOptions, Timeouts};
use serde_json::{Value, json};

use crate::databases;

pub const DEADLINE: Duration = Duration::from_secs(20);

/// The profiles of the simulator, as (our name, its name).
pub const PLATFORMS: [(&str, &str); 3] = [("moonshot", "moonshot"), ("zai", "zai"), ("zhipu", "zhipu_cn")];

/// Tests of other things fail more often than any platform.
const NEVER_OPEN: BreakerSettings = BreakerSettings { failure_rate: 101, slow_rate: 101, ..BreakerSettings::DEFAULT };

const OPTIONS: ResilienceOptions = ResilienceOptions {
    retry: RetryPolicy { max_attempts: 5, base: Duration::from_millis(5), cap: Duration::from_secs(16), budget: 100 },
    rates: Rates { requests: None, uploads: None, upload_bytes: None },
    concurrency: 32,
    account_concurrency: None,
    breaker: NEVER_OPEN,
};

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn resilience(platform: &str, account: &str, shared: &SharedState, options: &ResilienceOptions) -> Arc<Resilience> {
    let (platform, account) = (PlatformId::new(platform).unwrap(), AccountId::new(account));
    Arc::new(Resilience::new(&platform, &account, options, shared))
}

pub fn seed() -> u64 {
    let seed = std::env::var("EXAI_FILES_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    println!("seed {seed} (EXAI_FILES_SEED)"); // shown by the test runner for failing tests
    seed
}

pub struct World {
    pub simulator: Simulator,
    pub breaker: BreakerSettings,
    /// What clients made from now on reach the platforms through.
    pub proxy: Option<FaultProxy>,
}

impl World {
    pub fn new() -> Self {
        Self::with(json!({}))
    }

    pub fn with(settings: Value) -> Self {
        let seed = seed();
        let simulator = Simulator::start(Options { seed, settings, ..Options::default() }).unwrap();
        World { simulator, breaker: NEVER_OPEN, proxy: None }
    }

    /// The same, behind a fault proxy.
    pub fn behind_proxy(self) -> Self {
        World { proxy: Some(FaultProxy::start(self.address(), seed()).unwrap()), ..self }
    }

    /// Of the simulator itself.
    pub fn address(&self) -> SocketAddr {
        self.simulator.urls().admin.trim_start_matches("http://").trim_end_matches("/admin").parse().unwrap()
    }

    fn reached_at(&self, url: &str) -> String {
        let there = self.proxy.as_ref().map_or(self.address(), FaultProxy::address);
        url.replace(&self.address().to_string(), &there.to_string())
    }

    pub fn admin(&self, method: &str, path: &str, body: Value) -> Value {
        self.simulator.admin(method, path, (!body.is_null()).then_some(body)).unwrap()
    }

    pub fn fault(&self, platform: &str, operation: &str, when: Value, fault: Value) {
        self.admin(
            "POST",
            "/faults",
            json!({"platform": platform, "operation": operation, "when": when, "fault": fault}),
        );
    }

    pub fn truth(&self, operation: &str) -> Vec<Value> {
        self.admin("GET", &format!("/truth?operation={operation}"), Value::Null).as_array().unwrap().clone()
    }

    pub fn files(&self, platform: &str) -> Vec<Value> {
        self.admin("GET", &format!("/files?platform={platform}"), Value::Null).as_array().unwrap().clone()
    }

    /// A client of one platform, by our name for it.
    pub fn api(&self, name: &str, timeouts: Timeouts) -> FilesApi {
        self.api_of(
            "default",
            name,
            timeouts,
            resilience(name, "default", &SharedState::new(Memory::new(clock())), &OPTIONS),
        )
    }

    fn api_of(&self, account: &str, name: &str, timeouts: Timeouts, resilience: Arc<Resilience>) -> FilesApi {
        let urls = self.simulator.urls();
        let (mut profile, base_url, key): (Profile, _, _) = match name {
            "moonshot" => (moonshot("intl").unwrap(), &urls.moonshot, "sk-simulator"),
            "zai" => (zai().unwrap(), &urls.zai, "simulator.zai-secret"),
            _ => (zhipu().unwrap(), &urls.zhipu_cn, "simulator.zhipu-secret"),
        };
        profile.capabilities.base_url = self.reached_at(base_url);
        let http = HttpClient::new(&HttpOptions { timeouts, ..HttpOptions::default() }).unwrap();
        let key = Arc::new(ApiKey::new(KeySource::given(Secret::new(key), "a test")).unwrap());
        FilesApi::new(profile, AccountId::new(account), http, key, Arc::new(SystemClock), resilience)
    }

    pub fn manager(&self, registry: &Path) -> Manager {
        self.manager_with(registry, ManagerOptions::default(), Timeouts::default())
    }

    pub fn manager_with(&self, registry: &Path, options: ManagerOptions, timeouts: Timeouts) -> Manager {
        self.build("default", registry, options, timeouts, &OPTIONS)
    }

    /// As another account, by its name; the simulator gives it the same files.
    pub fn manager_of(&self, account: &str, registry: &Path) -> Manager {
        self.build(account, registry, ManagerOptions::default(), Timeouts::default(), &OPTIONS)
    }

    /// One request at a time on each platform.
    pub fn narrow_manager(&self, registry: &Path) -> Manager {
        let narrow = ResilienceOptions { concurrency: 1, ..OPTIONS };
        self.build("default", registry, ManagerOptions::default(), Timeouts::default(), &narrow)
    }

    /// At most `requests` in any second, by all managers on the same registry.
    pub fn paced_manager(&self, requests: u32, registry: &Path) -> Manager {
        let rate = Rate { requests, window: Duration::from_secs(1) };
        let paced = ResilienceOptions { rates: Rates { requests: Some(rate), ..OPTIONS.rates }, ..OPTIONS };
        self.build("default", registry, ManagerOptions::default(), Timeouts::default(), &paced)
    }

    /// With a registry of its own; only breakers, limits and budgets are shared.
    pub fn manager_on(&self, shared: SharedState) -> Manager {
        let store = databases::open(&databases::place(Path::new(":memory:")));
        self.connect("default", store, &shared, ManagerOptions::default(), Timeouts::default(), &OPTIONS)
    }

    /// On a database as it is.
    pub fn manager_in(&self, location: &Location) -> Manager {
        let store = databases::open(location);
        let shared = SharedState::new(Database::new(store.clone(), clock()));
        self.connect("default", store, &shared, ManagerOptions::default(), Timeouts::default(), &OPTIONS)
    }

    fn build(
        &self,
        account: &str,
        registry: &Path,
        options: ManagerOptions,
        timeouts: Timeouts,
        resilience_options: &ResilienceOptions,
    ) -> Manager {
        let store = databases::open(&databases::place(registry));
        let shared = SharedState::new(Database::new(store.clone(), clock()));
        self.connect(account, store, &shared, options, timeouts, resilience_options)
    }

    fn connect(
        &self,
        account: &str,
        store: Store,
        shared: &SharedState,
        options: ManagerOptions,
        timeouts: Timeouts,
        resilience_options: &ResilienceOptions,
    ) -> Manager {
        let guarded = ResilienceOptions { breaker: self.breaker, ..*resilience_options };
        let connections = PLATFORMS.map(|(name, _)| {
            let resilience = resilience(name, account, shared, &guarded);
            Connection {
                platform: Arc::new(self.api_of(account, name, timeouts.clone(), resilience.clone())),
                resilience,
                purpose: None,
                when_full: None,
                // The simulator shows a file at once, so a lost upload need not be waited for.
                commit_horizon: Duration::from_millis(60),
            }
        });
        let sources = databases::open(&Location::file(":memory:"));
        Manager::new(Registry::new(store, sources, clock()), clock(), options, connections)
    }
}

/// An upload of bytes, with everything else as usual.
pub fn request(bytes: impl Into<Vec<u8>>, name: &str, to: &[&str]) -> UploadRequest {
    UploadRequest {
        name: Some(name.to_owned()),
        to: to.iter().map(|name| PlatformId::new(name).unwrap()).collect(),
        ..UploadRequest::new(Source::Bytes(bytes.into().into()), DEADLINE)
    }
}

pub async fn upload(manager: &Manager, request: UploadRequest) -> Result<FileRecord> {
    manager.upload(request, &Transfers::default()).await
}

/// A client of moonshot and zai, wherever the simulator is.
pub fn manager_at(moonshot_url: &str, zai_url: &str, store: Store) -> Manager {
    client_of(moonshot_url, zai_url, store, AuditOptions::default())
}

/// The same, with its audit log kept so.
pub fn client_of(moonshot_url: &str, zai_url: &str, store: Store, audit: AuditOptions) -> Manager {
    let connections = [connection_at("moonshot", moonshot_url), connection_at("zai", zai_url)];
    let sources = databases::open(&Location::file(":memory:"));
    let registry = Registry::new(store, sources, clock()).with_audit(audit);
    Manager::new(registry, clock(), ManagerOptions::default(), connections)
}

pub fn connection_at(name: &str, url: &str) -> Connection {
    connection_of(name, url, clock(), None)
}

/// The same, by that clock, and with an account that holds at most so many files.
pub fn connection_of(name: &str, url: &str, clock: Arc<dyn Clock>, most_files: Option<u64>) -> Connection {
    let (mut profile, key) = match name {
        "zai" => (zai().unwrap(), "simulator.zai-secret"),
        _ => (moonshot("intl").unwrap(), "sk-simulator"),
    };
    profile.capabilities.base_url = url.to_owned();
    profile.capabilities.max_files = Some(Fact::new(most_files.unwrap_or(u64::MAX), "the test", "2026-11-25"));
    let http = HttpClient::new(&HttpOptions::default()).unwrap();
    let key = Arc::new(ApiKey::new(KeySource::given(Secret::new(key), "a test")).unwrap());
    let resilience = resilience(name, "default", &SharedState::new(Memory::new(clock.clone())), &OPTIONS);
    let api = FilesApi::new(profile, AccountId::new("default"), http, key, clock, resilience.clone());
    Connection {
        platform: Arc::new(api),
        resilience,
        purpose: None,
        when_full: None,
        commit_horizon: Duration::from_millis(60),
    }
}
