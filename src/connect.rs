//! From settings to a working [`Manager`]: which platforms are reached how, and with what patience.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::audit::{AuditKey, AuditOptions};
use crate::auth::{Auth, UserTokens, opened, remedy, slot_of};
use crate::blobs::{Blobs, Place, S3Options};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, AccountConfig, Config, OAuthConfig, PlatformConfig, StoreKind};
use crate::content::SourcePolicy;
use crate::credentials::{
    ApiKey, AuthorizationServer, CredentialProvider, CredentialStore, DatabaseStore, FileStore, KeySource, KimiDevice,
    MasterKey, OAuth, OAuthParts, ServerOptions, Slot, StoredKey, ZhipuJwt,
};
use crate::error::{Error, ErrorKind, Result};
use crate::manager::{Connection, Manager, ManagerOptions};
use crate::model::Reach;
use crate::platform::{Capabilities, Fact, FilesApi, OpenAiCompatible, Profile, kimi_code, moonshot, zai, zhipu};
use crate::registry::Registry;
use crate::resilience::{
    BreakerSettings, Database, Rate, Rates, Redis, RedisOptions, Resilience, ResilienceOptions, RetryPolicy,
    SharedState, Window,
};
use crate::store::{Location, PostgresOptions, Store};
use crate::transport::{HttpClient, HttpOptions, Timeouts};

/// Requests in flight where nobody publishes a number.
const CONCURRENCY: usize = 8;

/// A tier may allow a thousand; more than this helps no single process.
const MOST_CONCURRENT: usize = 32;

/// What a configuration leads to.
#[derive(Debug)]
pub struct Connected {
    pub manager: Manager,
    pub auth: Auth,
}

/// Opens the registry and connects every platform that has a key. `keyring` is the system's, where the settings want it.
///
/// # Errors
/// `Config` for keys and files that cannot be used; `Registry`.
pub fn connect(config: &Config, keyring: Option<Arc<dyn CredentialStore>>) -> Result<Connected> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    if let Some(root) = config.path("upload.root").filter(|root| !root.is_dir()) {
        return Err(Error::new(ErrorKind::Config, format!("upload.root: there is no directory {root:?}"))
            .with_hint("make it, or name another one"));
    }
    let store = Store::open(&location(config), clock.now())?;
    // On a server that many hosts share, what is known of one host's files is of no use to the others.
    let sources = match config.registry_url {
        Some(_) => Store::open(&Location::file(&config.registry), clock.now())?,
        None => store.clone(),
    };
    let shared = shared_state(config, &store, &clock)?;
    let kept = credential_store(config, &store, &clock, keyring)?;
    let platforms = opened_platforms(config, &store);
    let keys = Credentials { config, kept: kept.clone(), store: store.clone(), clock: clock.clone() };
    let found = kept.kept(&unkeyed(&platforms))?;
    let (mut connections, mut logins, mut missing_keys) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    for (platform, account) in all_accounts(&platforms) {
        let credentials = keys.of(platform, account, &mut logins)?;
        if account.key.is_some() || found.contains(&slot_of(platform, account)) {
            connections.push(connection(config, platform, account, credentials, &shared, &clock)?);
            continue;
        }
        let remedy = remedy(platform, account);
        if account.is_named {
            tracing::warn!(platform = %platform.id, account = %account.id, remedy, "an account without a key is not used");
        }
        missing_keys.entry(platform.id.clone()).or_insert(remedy);
    }
    let registry = Registry::new(store, sources, clock.clone()).with_audit(audit_options(config)?);
    let tokens =
        UserTokens { rules: config.tokens.clone(), secret: config.jwt_secret.clone(), printed: OnceLock::new() };
    let auth = Auth::new(platforms.clone(), logins, kept, tokens, registry.clone(), clock.clone());
    let options = ManagerOptions { missing_keys, ..options(config) };
    let manager = Manager::new(registry, clock, options, connections).beside_existing_tool(shared);
    let manager = match copies(config)? {
        Some(place) => manager.with_copies(Blobs::open(&place)?),
        None => manager,
    };
    Ok(Connected { manager, auth })
}

/// Where `auth login` keeps what it fetches.
fn credential_store(
    config: &Config,
    store: &Store,
    clock: &Arc<dyn Clock>,
    keyring: Option<Arc<dyn CredentialStore>>,
) -> Result<Arc<dyn CredentialStore>> {
    let is_in_memory = config.registry_url.is_none() && config.registry == Path::new(":memory:");
    let key = match &config.store.master_key {
        Some(source) => MasterKey::new(source.clone()),
        None if is_in_memory && config.store.kind == StoreKind::Database => MasterKey::random(),
        None => MasterKey::in_file(&config.registry.with_extension("master-key")),
    };
    match (config.store.kind, keyring) {
        (StoreKind::Database, _) => Ok(Arc::new(DatabaseStore::new(store.clone(), clock.clone(), key))),
        (StoreKind::File, _) => Ok(Arc::new(FileStore::new(config.store.file.clone(), key))),
        (StoreKind::Keyring, Some(keyring)) => Ok(keyring),
        (StoreKind::Keyring, None) => Err(Error::new(ErrorKind::Config, "credentials.store: there is no keyring here")
            .with_hint("pip install 'exai-files[keyring]', or keep them in the database or a file")),
    }
}

/// The settings' platforms, with keys that are in the registry's database within reach.
fn opened_platforms(config: &Config, store: &Store) -> Vec<PlatformConfig> {
    let mut platforms = config.platforms.clone();
    for account in platforms.iter_mut().flat_map(|platform| &mut platform.accounts) {
        account.key = account.key.take().map(|key| opened(key, store));
    }
    platforms
}

fn all_accounts(platforms: &[PlatformConfig]) -> impl Iterator<Item = (&PlatformConfig, &AccountConfig)> {
    platforms.iter().flat_map(|platform| platform.accounts.iter().map(move |account| (platform, account)))
}

/// Accounts that only what is kept can connect.
fn unkeyed(platforms: &[PlatformConfig]) -> Vec<Slot> {
    let unkeyed = all_accounts(platforms).filter(|(_, account)| account.key.is_none());
    unkeyed.map(|(platform, account)| slot_of(platform, account)).collect()
}

/// Gives each account what it shows its platform.
struct Credentials<'c> {
    config: &'c Config,
    kept: Arc<dyn CredentialStore>,
    store: Store,
    clock: Arc<dyn Clock>,
}

impl Credentials<'_> {
    /// A login is noted in `logins`, too.
    fn of(
        &self,
        platform: &PlatformConfig,
        account: &AccountConfig,
        logins: &mut BTreeMap<Slot, Arc<OAuth>>,
    ) -> Result<Arc<dyn CredentialProvider>> {
        let slot = slot_of(platform, account);
        let kept = || KeySource::Asked(Arc::new(StoredKey { kept: self.kept.clone(), slot: slot.clone() }));
        let key = account.key.clone().unwrap_or_else(kept);
        let of_platform = |error: Error| {
            Error::new(error.kind(), format!("{}: {}", platform.id, error.message()))
                .with_hint(error.hint().unwrap_or_default())
        };
        Ok(match &platform.auth {
            config::Auth::Key => Arc::new(ApiKey::new(key).map_err(of_platform)?),
            config::Auth::Jwt => Arc::new(ZhipuJwt::new(key, self.clock.clone()).map_err(of_platform)?),
            config::Auth::OAuth(server) => {
                let login = Arc::new(OAuth::of_login(self.parts(platform, slot.clone(), server)));
                logins.insert(slot, login.clone());
                login
            }
            config::Auth::ClientCredentials(server) => {
                Arc::new(OAuth::of_client(self.parts(platform, slot, server), key))
            }
        })
    }

    fn device_id_file(&self) -> Option<PathBuf> {
        let registry = &self.config.registry;
        (registry != Path::new(":memory:")).then(|| registry.with_file_name("device-id"))
    }

    fn parts(&self, platform: &PlatformConfig, slot: Slot, server: &OAuthConfig) -> OAuthParts {
        let options = ServerOptions {
            token_url: server.token_url.clone(),
            device_url: server.device_url.clone(),
            client_id: server.client_id.clone(),
            scope: server.scope.clone(),
            device: (platform.id.as_str() == "kimi-code").then(|| KimiDevice::new(self.device_id_file())),
        };
        let http = HttpOptions { reach: platform.login_reach, ..http_options(self.config) };
        OAuthParts {
            slot,
            server: AuthorizationServer::new(options, http),
            kept: self.kept.clone(),
            turns: self.store.clone(),
            clock: self.clock.clone(),
        }
    }
}

/// The audit log of a configuration; its key is made where there is none yet, and not kept for a registry in memory.
///
/// # Errors
/// `Config` when the key cannot be used.
pub fn audit_options(config: &Config) -> Result<AuditOptions> {
    let is_in_memory = config.registry_url.is_none() && config.registry == Path::new(":memory:");
    let key = match config.path("audit.key_file") {
        Some(path) => AuditKey::load_or_make(&path)?,
        None if is_in_memory => AuditKey::random()?,
        None => AuditKey::load_or_make(&config.registry.with_extension("audit-key"))?,
    };
    Ok(AuditOptions {
        key: Some(key),
        actor: config.user.clone(),
        checkpoint_file: config.path("audit.checkpoint_file"),
    })
}

fn copies(config: &Config) -> Result<Option<Place>> {
    let Some(place) = config.text("copies.place") else { return Ok(None) };
    let Some(bucket) = place.strip_prefix("s3://") else {
        return Ok(config.path("copies.place").map(Place::Folder));
    };
    let (bucket, prefix) = bucket.split_once('/').unwrap_or((bucket, ""));
    let Some((access_key_id, secret_access_key)) = config.s3_key.clone() else { return Ok(None) };
    Ok(Some(Place::S3(S3Options {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        region: config.text("copies.region").unwrap_or("us-east-1").to_owned(),
        endpoint: config.text("copies.endpoint").map(str::to_owned),
        access_key_id,
        secret_access_key,
    })))
}

/// What a platform can do, connected or not.
///
/// # Errors
/// `Config` when no such platform is configured.
pub fn capabilities(config: &Config, name: &str) -> Result<Capabilities> {
    let id = crate::model::PlatformId::new(name)?;
    let platform = config.platforms.iter().find(|platform| platform.id == id).ok_or_else(|| {
        let known: Vec<&str> = config.platforms.iter().map(|platform| platform.id.as_str()).collect();
        Error::new(ErrorKind::Config, format!("there is no platform {name:?}"))
            .with_hint(format!("there are {}", known.join(", ")))
    })?;
    Ok(profile(platform)?.capabilities)
}

/// Where the registry is: on the server that is named, else in the file.
pub fn location(config: &Config) -> Location {
    let Some(url) = &config.registry_url else { return Location::file(&config.registry) };
    Location::Postgres(PostgresOptions {
        url: url.clone(),
        ca_bundle: config.path("registry.ca_bundle"),
        connections: config.count("registry.connections").and_then(|count| usize::try_from(count).ok()).unwrap_or(4),
        timeout: config.duration("registry.timeout").unwrap_or(Duration::from_secs(30)),
    })
}

fn options(config: &Config) -> ManagerOptions {
    ManagerOptions {
        source: SourcePolicy {
            root: config.path("upload.root"),
            memory_limit: config.count("upload.memory_limit").unwrap_or(4 << 20),
        },
        paranoid: config.flag("upload.paranoid"),
        tag_names: config.flag("upload.tag_names"),
        rules: config.rules.clone(),
        trash_period: config.duration("lifecycle.trash_period"),
        recovery_fallback: config.recovery_fallback.clone(),
        recovery_attempts: config.count("recovery.max_attempts").unwrap_or(10),
        upload_sends: config.count("retry.upload_sends").and_then(|sends| u32::try_from(sends).ok()).unwrap_or(4),
        default_platforms: config.default_platforms.clone(),
        missing_keys: BTreeMap::new(),
        quotas: config.quotas.clone(),
    }
}

/// What breakers, limits and budgets know: in Redis where there is one, else in the registry.
fn shared_state(config: &Config, store: &Store, clock: &Arc<dyn Clock>) -> Result<SharedState> {
    let Some(url) = &config.redis_url else { return Ok(SharedState::new(Database::new(store.clone(), clock.clone()))) };
    let options = RedisOptions {
        url: url.clone(),
        namespace: config.text("redis.namespace").unwrap_or("exai_files").to_owned(),
        ca_bundle: config.path("redis.ca_bundle"),
        timeout: config.duration("redis.timeout").unwrap_or(Duration::from_millis(40)),
        existing_tool_keys: config.flag("redis.existing_tool_keys"),
    };
    Ok(SharedState::new(Redis::new(&options)?))
}

fn connection(
    config: &Config,
    platform: &PlatformConfig,
    account: &AccountConfig,
    credentials: Arc<dyn CredentialProvider>,
    shared: &SharedState,
    clock: &Arc<dyn Clock>,
) -> Result<Connection> {
    let mut profile = profile(platform)?;
    set_quota(&mut profile.capabilities, account);
    let http = HttpClient::new(&HttpOptions { reach: platform.reach, ..http_options(config) }).map_err(|error| {
        Error::new(ErrorKind::Config, format!("{}: {error}", platform.id))
            .with_hint("check the `http` settings")
            .with_source(error)
    })?;
    let options = resilience_options(config, platform, account, &profile.capabilities);
    let resilience = Arc::new(Resilience::new(&platform.id, &account.id, &options, shared));
    let api = FilesApi::new(profile, account.id.clone(), http, credentials, clock.clone(), resilience.clone());
    Ok(Connection {
        resilience,
        platform: Arc::new(api),
        purpose: platform.purpose.clone(),
        when_full: platform.when_full,
        commit_horizon: platform
            .commit_horizon
            .or_else(|| config.duration("retry.commit_horizon"))
            .unwrap_or(Duration::from_secs(120)),
    })
}

/// What the configuration says an account may hold, in place of what the platform publishes.
fn set_quota(capabilities: &mut Capabilities, account: &AccountConfig) {
    let as_of = capabilities.revision.clone();
    let stated = |count: u64| Fact::new(count, "the configuration", &as_of);
    capabilities.max_files = account.max_files.map(stated).or(capabilities.max_files.take());
    capabilities.max_total_bytes = account.max_total_bytes.map(stated).or(capabilities.max_total_bytes.take());
}

fn profile(platform: &PlatformConfig) -> Result<Profile> {
    let mut profile = match (platform.id.as_str(), &platform.compatible) {
        (name, Some(table)) => {
            let table: OpenAiCompatible = serde_json::from_value(table.clone()).map_err(|error| {
                Error::new(ErrorKind::Config, format!("platforms.{name}: {error}"))
                    .with_hint("`exai-files config example` shows such a table")
            })?;
            table.profile(name)?
        }
        ("zai", None) => zai()?,
        ("zhipu", None) => zhipu()?,
        ("kimi-code", None) => kimi_code(&platform.region)?,
        (_, None) => moonshot(&platform.region)?,
    };
    if let Some(base_url) = &platform.base_url {
        profile.capabilities.base_url.clone_from(base_url);
    }
    Ok(profile)
}

/// What every connection of a configuration has in common.
pub fn http_options(config: &Config) -> HttpOptions {
    let defaults = Timeouts::default();
    HttpOptions {
        timeouts: Timeouts {
            connect: config.duration("http.connect_timeout").unwrap_or(defaults.connect),
            answer: config.duration("http.answer_timeout").unwrap_or(defaults.answer),
            stall: config.duration("http.stall_timeout").unwrap_or(defaults.stall),
            total: config.duration("http.total_timeout").unwrap_or(defaults.total),
            min_bytes_per_second: config.count("http.min_bytes_per_second").unwrap_or(defaults.min_bytes_per_second),
        },
        ca_bundle: config.path("http.ca_bundle"),
        proxy: config.text("http.proxy").map(str::to_owned),
        reach: Reach::default(),
    }
}

fn breaker_settings(config: &Config) -> BreakerSettings {
    let defaults = BreakerSettings::DEFAULT;
    let count = |name: &str, default: u32| {
        config.count(&format!("breaker.{name}")).and_then(|count| u32::try_from(count).ok()).unwrap_or(default)
    };
    let seconds = |name: &str, default| config.duration(&format!("breaker.{name}")).unwrap_or(default);
    let window_size = config.count("breaker.sliding_window_size").unwrap_or(50);
    BreakerSettings {
        window: match config.text("breaker.sliding_window_type") {
            Some("time") => Window::Time(Duration::from_secs(window_size)),
            _ => Window::Calls(u32::try_from(window_size).unwrap_or(u32::MAX)),
        },
        minimum_calls: count("minimum_number_of_calls", defaults.minimum_calls),
        failure_rate: count("failure_rate_threshold", defaults.failure_rate),
        slow_rate: count("slow_call_rate_threshold", defaults.slow_rate),
        slow_call: seconds("slow_call_duration_threshold", defaults.slow_call),
        wait: seconds("wait_duration_in_open_state", defaults.wait),
        wait_factor: f64::from(count("wait_factor", 2)),
        wait_cap: seconds("max_wait_duration_in_open_state", defaults.wait_cap),
        probes: count("permitted_calls_in_half_open_state", defaults.probes),
        successes_to_close: count("successes_to_close", defaults.successes_to_close),
        ..defaults
    }
}

fn retry_policy(config: &Config) -> RetryPolicy {
    let defaults = RetryPolicy::default();
    RetryPolicy {
        max_attempts: config
            .count("retry.max_attempts")
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(defaults.max_attempts),
        base: config.duration("retry.base").unwrap_or(defaults.base),
        cap: config.duration("retry.cap").unwrap_or(defaults.cap),
        budget: config.count("retry.budget").and_then(|percent| u32::try_from(percent).ok()).unwrap_or(defaults.budget),
    }
}

/// The account's pace: as set, else the lowest tier the vendor publishes.
///
/// The vendor's tiers say nothing about another base URL, so there only what is set counts.
fn resilience_options(
    config: &Config,
    platform: &PlatformConfig,
    account: &AccountConfig,
    capabilities: &Capabilities,
) -> ResilienceOptions {
    let wanted = account.tier.or_else(|| platform.base_url.is_none().then_some(0));
    let tier = capabilities
        .tiers
        .as_ref()
        .and_then(|tiers| tiers.value.iter().find(|tier| Some(u64::from(tier.tier)) == wanted));
    let requests = account.requests_per_minute.or_else(|| tier.map(|tier| tier.requests_per_minute));
    let concurrency = tier.map(|tier| (tier.concurrency as usize).min(MOST_CONCURRENT));
    ResilienceOptions {
        retry: retry_policy(config),
        breaker: breaker_settings(config),
        rates: Rates {
            requests: requests.filter(|count| *count > 0).map(Rate::per_minute),
            uploads: account.uploads_per_minute.filter(|count| *count > 0).map(Rate::per_minute),
            upload_bytes: account.upload_bytes_per_second,
        },
        concurrency: account.concurrency.or(concurrency).unwrap_or(CONCURRENCY),
        account_concurrency: account.account_concurrency.or_else(|| tier.map(|tier| tier.concurrency)),
    }
}
