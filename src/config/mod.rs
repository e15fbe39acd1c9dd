//! What is set, where it comes from, and whether it is right: read once, every fault reported at once.
//!
//! Precedence: call > environment > profile > file > default. Keys never stand in settings, only the names of the
//! variables and files that hold them.

mod access;
mod accounts;
mod example;
mod kind;
mod layers;
mod lifecycle;
mod login;
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::credentials::{KeyGiver, KeySource};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AccountId, PlatformId, Reach, Secret};
use crate::policy::quota::WhenFull;
use crate::policy::retention::Rule;
use crate::policy::token::TokenRules;
use crate::policy::user_quota::UserQuotas;

pub use kind::database_url;
pub use layers::Origin;
pub use login::{Auth, OAuthConfig, StoreConfig, StoreKind};

use kind::Kind;
use layers::Layers;
use schema::SETTINGS;

/// The platforms that need no `kind`.
const BUILT_IN: [&str; 4] = ["kimi-code", "moonshot", "zai", "zhipu"];

/// Where settings are read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A configuration file; default: `EXAI_FILES_CONFIG`, `./exai-files.toml`, the user's.
    pub file: Option<PathBuf>,
    pub env: BTreeMap<String, String>,
    /// From the call, nested as in the file; the only layer that may carry `platforms.*.api_key`.
    pub overrides: Value,
    /// Who gives the key of a platform or an account, by the path of its table. There `api_key` says that there is one.
    pub givers: BTreeMap<String, Arc<dyn KeyGiver>>,
}

/// One setting in force.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EffectiveSetting {
    pub path: String,
    pub value: Value,
    /// For people: `default`, `exai-files.toml:12`, `environment variable …`, `the call`.
    pub origin: String,
}

/// Everything that can be set, checked.
#[derive(Clone, Debug)]
pub struct Config {
    values: BTreeMap<String, (Value, Origin)>,
    env: BTreeMap<String, String>,
    givers: BTreeMap<String, Arc<dyn KeyGiver>>,
    pub registry: PathBuf,
    pub default_platforms: Vec<PlatformId>,
    pub recovery_fallback: Vec<PlatformId>,
    pub deadline: Duration,
    pub platforms: Vec<PlatformConfig>,
    /// Where breakers, limits and budgets of many hosts meet.
    pub redis_url: Option<Secret>,
    pub registry_url: Option<Secret>,
    /// Id and secret of the key to an S3-compatible store, from the usual variables.
    pub s3_key: Option<(Secret, Secret)>,
    /// How long files stay, by the names of the rules.
    pub rules: Vec<Rule>,
    /// Who runs this process.
    pub user: Option<String>,
    /// Where `auth login` keeps what it fetches.
    pub store: StoreConfig,
    /// Which users' tokens are good.
    pub tokens: TokenRules,
    /// What they are signed with.
    pub jwt_secret: Option<KeySource>,
    /// What each user may have on platforms.
    pub quotas: UserQuotas,
}

/// One platform's settings.
#[derive(Clone, Debug)]
pub struct PlatformConfig {
    pub id: PlatformId,
    pub region: String,
    pub base_url: Option<String>,
    /// Where its names may lead.
    pub reach: Reach,
    pub auth: Auth,
    /// Where the names of its login server may lead.
    pub login_reach: Reach,
    pub purpose: Option<String>,
    pub when_full: Option<WhenFull>,
    pub commit_horizon: Option<Duration>,
    /// `None` for the built-in platforms.
    pub compatible: Option<Value>,
    /// Variables that may hold its own key, the first that is set counts.
    pub key_variables: Vec<String>,
    /// Those without a key are connected if one is kept for them.
    pub accounts: Vec<AccountConfig>,
}

/// One account of a platform.
#[derive(Clone, Debug)]
pub struct AccountConfig {
    pub id: AccountId,
    /// `None` where no setting and no variable gives one.
    pub key: Option<KeySource>,
    /// Variables that may hold it; the first that is set counts.
    pub key_variables: Vec<String>,
    /// Whether the settings have a table for it: then it is a fault that there is no key.
    pub is_named: bool,
    pub tier: Option<u64>,
    pub requests_per_minute: Option<u32>,
    pub uploads_per_minute: Option<u32>,
    pub upload_bytes_per_second: Option<u64>,
    pub concurrency: Option<usize>,
    pub account_concurrency: Option<u32>,
    pub max_files: Option<u64>,
    pub max_total_bytes: Option<u64>,
}

impl Config {
    /// Reads all layers.
    ///
    /// # Errors
    /// `Config`, with one line for each fault: where it is, what it is, what to do.
    pub fn load(sources: Sources) -> Result<Config> {
        let mut layers = Layers::defaults();
        read_file(&sources, &mut layers);
        layers.add_environment(&sources.env);
        layers.add_call(&sources.overrides);
        let mut faults = std::mem::take(&mut layers.faults);
        let mut config = Config {
            registry: PathBuf::new(),
            default_platforms: Vec::new(),
            recovery_fallback: Vec::new(),
            deadline: Duration::ZERO,
            platforms: Vec::new(),
            redis_url: None,
            registry_url: None,
            s3_key: None,
            rules: Vec::new(),
            user: None,
            tokens: TokenRules::default(),
            jwt_secret: None,
            quotas: UserQuotas::default(),
            store: StoreConfig { kind: StoreKind::Database, file: PathBuf::new(), master_key: None },
            values: layers.values,
            env: sources.env,
            givers: sources.givers,
        };
        config.fill(&mut faults);
        config.forget_secrets();
        match faults.as_slice() {
            [] => Ok(config),
            faults => {
                Err(Error::new(ErrorKind::Config, format!("the configuration is wrong:\n  {}", faults.join("\n  ")))
                    .with_hint("`exai-files config example` prints every setting"))
            }
        }
    }

    /// Keys live on in `PlatformConfig::key` alone, passwords in `redis_url` and `registry_url`.
    fn forget_secrets(&mut self) {
        self.env.clear();
        for (path, (value, _)) in &mut self.values {
            match schema::find(path).map(|setting| setting.kind) {
                Some(Kind::Secret) => *value = Value::from("set"),
                Some(Kind::RedisUrl | Kind::DatabaseUrl) => {
                    *value = Value::from(kind::without_password(value.as_str().unwrap_or_default()));
                }
                _ => {}
            }
        }
    }

    /// A complete, commented configuration file.
    pub fn example() -> String {
        example::example()
    }

    /// Every setting in force, secrets withheld.
    pub fn settings(&self) -> Vec<EffectiveSetting> {
        let withheld = |path: &str, value: &Value| match path {
            "http.proxy" => Value::from(without_user_info(value.as_str().unwrap_or_default())),
            path if path.ends_with("_command") => without_arguments(value),
            _ => value.clone(),
        };
        self.values
            .iter()
            .map(|(path, (value, origin))| EffectiveSetting {
                path: path.clone(),
                value: withheld(path, value),
                origin: origin.to_string(),
            })
            .collect()
    }

    // ===== typed access, for `connect` =====

    pub fn flag(&self, path: &str) -> bool {
        self.value(path).and_then(Value::as_bool).unwrap_or_default()
    }

    pub fn count(&self, path: &str) -> Option<u64> {
        self.value(path).and_then(Value::as_u64)
    }

    pub fn duration(&self, path: &str) -> Option<Duration> {
        self.value(path).and_then(Value::as_f64).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        self.value(path).and_then(Value::as_str)
    }

    /// A program and its arguments.
    pub fn words(&self, path: &str) -> Option<Vec<String>> {
        let words = self.value(path)?.as_array()?;
        Some(words.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    pub fn path(&self, path: &str) -> Option<PathBuf> {
        self.text(path).map(expand_home)
    }

    fn value(&self, path: &str) -> Option<&Value> {
        self.values.get(path).map(|(value, _)| value)
    }

    // ===== from values to fields =====

    fn fill(&mut self, faults: &mut Vec<String>) {
        self.deadline = self.duration("deadline").unwrap_or(Duration::from_secs(600));
        match self.path("registry.path").or_else(|| self.default_registry()) {
            Some(path) => self.registry = path,
            None => faults.push("default: registry.path: this user has no data directory; set it".into()),
        }
        let probes = self.count("breaker.permitted_calls_in_half_open_state");
        if let (Some((needed, origin)), Some(probes)) = (self.values.get("breaker.successes_to_close"), probes)
            && needed.as_u64() > Some(probes)
        {
            faults.push(format!("{origin}: breaker.successes_to_close: must be at most breaker.permitted_calls_in_half_open_state, {probes}: it would never close"));
        }
        self.redis_url = self.text("redis.url").map(Secret::new);
        self.registry_url = self.text("registry.url").map(Secret::new);
        let variable = |name: &str| self.env.get(name).filter(|value| !value.is_empty());
        self.s3_key = variable("AWS_ACCESS_KEY_ID")
            .zip(variable("AWS_SECRET_ACCESS_KEY"))
            .map(|(id, secret)| (Secret::new(id), Secret::new(secret)));
        self.user = self.text("audit.actor").map(str::to_owned).or_else(|| variable("USER").cloned());
        let is_in_bucket = self.text("copies.place").is_some_and(|place| place.starts_with("s3://"));
        if is_in_bucket && self.s3_key.is_none() {
            faults.push("copies.place: a bucket needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".into());
        }
        self.store = self.store();
        self.tokens = self.token_rules(faults);
        self.jwt_secret = self.jwt_secret(faults);
        self.quotas = self.user_quotas();
        self.platforms = self.platform_names().iter().filter_map(|name| self.platform(name, faults)).collect();
        self.default_platforms = self.named_platforms("default_platforms", faults);
        self.recovery_fallback = self.named_platforms("recovery.fallback", faults);
        self.rules = self.rules(faults);
    }

    fn default_registry(&self) -> Option<PathBuf> {
        let home = self.env.get("XDG_DATA_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
        Some(home.or_else(dirs::data_dir)?.join("exai-files").join("registry.db"))
    }

    fn platform_names(&self) -> BTreeSet<String> {
        let named = self.values.keys().filter_map(|path| path.strip_prefix("platforms.")?.split('.').next());
        named.chain(BUILT_IN).map(str::to_owned).collect()
    }

    fn named_platforms(&self, setting: &str, faults: &mut Vec<String>) -> Vec<PlatformId> {
        let Some((Value::Array(names), origin)) = self.values.get(setting) else { return Vec::new() };
        let known = |id: &PlatformId| self.platforms.iter().any(|platform| platform.id == *id);
        let mut ids = Vec::new();
        for name in names.iter().filter_map(Value::as_str) {
            match PlatformId::new(name) {
                Ok(id) if known(&id) => ids.push(id),
                _ => faults.push(format!(
                    "{origin}: {setting}: no platform {name:?}; add [platforms.{name}] with kind and base_url"
                )),
            }
        }
        ids
    }

    fn platform(&self, name: &str, faults: &mut Vec<String>) -> Option<PlatformConfig> {
        let of = |setting: &str| format!("platforms.{name}.{setting}");
        let origin =
            self.values.iter().find(|(path, _)| path.starts_with(&of(""))).map(|(_, (_, origin))| origin.to_string());
        let origin = origin.unwrap_or_else(|| "default".into());
        let id = PlatformId::new(name)
            .map_err(|error| faults.push(format!("{origin}: platforms.{name}: {}", error.message())))
            .ok()?;
        if self.value(&of("enabled")).and_then(Value::as_bool) == Some(false) {
            return None;
        }
        let built_in = BUILT_IN.contains(&name);
        if !built_in && (self.text(&of("kind")).is_none() || self.text(&of("base_url")).is_none()) {
            let near = BUILT_IN.iter().find(|known| strsim::levenshtein(known, name) <= 2);
            let suggestion = near.map_or(String::new(), |near| format!("; did you mean platforms.{near}?"));
            faults.push(format!("{origin}: platforms.{name}: a platform of your own needs kind = \"openai-compatible\" and a base_url{suggestion}"));
            return None;
        }
        for (path, (_, origin)) in self.values.iter().filter(|(path, _)| path.starts_with(&of(""))) {
            match (path.rsplit('.').next(), name) {
                (Some("tier"), "moonshot") | (Some("region"), "moonshot" | "kimi-code") => {}
                (Some("tier"), _) => faults.push(format!("{origin}: {path}: only moonshot has one")),
                (Some("region"), _) => faults.push(format!("{origin}: {path}: only moonshot and kimi-code have one")),
                _ => {}
            }
        }
        let auth = self.auth(name, faults);
        let login_url = match &auth {
            Auth::OAuth(server) | Auth::ClientCredentials(server) => Some(server.token_url.as_str()),
            Auth::Key | Auth::Jwt => None,
        };
        let login_reach = self.reach(name, "oauth_token_url", login_url, faults);
        let reach = self.reach(name, "base_url", self.text(&of("base_url")), faults);
        Some(PlatformConfig {
            reach,
            login_reach,
            region: self.text(&of("region")).unwrap_or(if name == "kimi-code" { "cn" } else { "intl" }).to_owned(),
            base_url: self.text(&of("base_url")).map(str::to_owned),
            purpose: self.text(&of("purpose")).map(str::to_owned),
            when_full: self.text(&of("when_full")).and_then(|word| WhenFull::parse(word).ok()),
            commit_horizon: self.duration(&of("commit_horizon")),
            compatible: (!built_in).then(|| self.compatible(name)),
            key_variables: self.key_variables(name),
            accounts: self.accounts(name, &auth, faults),
            auth,
            id,
        })
    }

    /// Where a URL of a platform may lead: where its vendor says, unless the settings say otherwise.
    fn reach(&self, name: &str, setting: &str, url: Option<&str>, faults: &mut Vec<String>) -> Reach {
        let path = format!("platforms.{name}.{setting}");
        let Some(url) = url.and_then(|url| url::Url::parse(url).ok()) else { return Reach::Public };
        let literal = match url.host() {
            Some(url::Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(url::Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            _ => None,
        };
        let is_here = literal.is_some_and(|address| Reach::ThisMachine.allows(address));
        let reach = match self.flag(&format!("platforms.{name}.allow_private_addresses")) {
            _ if is_here || url.host_str() == Some("localhost") => Reach::ThisMachine,
            true => Reach::Private,
            false => Reach::Public,
        };
        if let Some(address) = literal.filter(|address| !reach.allows(*address)) {
            faults.push(format!("{path}: {address} is no public address; allow_private_addresses = true allows those of your own network"));
        }
        reach
    }

    /// The settings that describe a platform of the user's own.
    fn compatible(&self, name: &str) -> Value {
        let names =
            ["base_url", "purposes", "list_needs_purpose", "has_get", "max_file_bytes", "max_files", "retention_days"];
        let given = names.iter().filter_map(|setting| {
            Some(((*setting).to_owned(), self.value(&format!("platforms.{name}.{setting}"))?.clone()))
        });
        Value::Object(given.collect())
    }
}

fn read_file(sources: &Sources, layers: &mut Layers) {
    let named = sources
        .file
        .clone()
        .or_else(|| sources.env.get("EXAI_FILES_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from));
    let is_named = named.is_some();
    let Some(path) = named.or_else(|| usual_files(&sources.env).into_iter().find(|path| path.is_file())) else {
        return;
    };
    let profile = sources.env.get("EXAI_ENV").map(String::as_str).filter(|name| !name.is_empty());
    match std::fs::read_to_string(&path) {
        Ok(text) => layers.add_file(&path, &text, profile),
        Err(error) if is_named => {
            layers.faults.push(format!("{}: the configuration file cannot be read: {error}", path.display()))
        }
        Err(error) => layers.faults.push(format!("{}: cannot be read: {error}", path.display())),
    }
}

fn usual_files(env: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let home = env.get("XDG_CONFIG_HOME").filter(|path| !path.is_empty()).map(PathBuf::from).or_else(dirs::config_dir);
    let user = home.map(|home| home.join("exai-files").join("config.toml"));
    std::iter::once(PathBuf::from("exai-files.toml")).chain(user).collect()
}

fn expand_home(text: &str) -> PathBuf {
    match (text.strip_prefix("~/"), dirs::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(text),
    }
}

/// What a command is told may be a secret.
fn without_arguments(words: &Value) -> Value {
    words.get(0).into_iter().cloned().chain([Value::from("…")]).collect()
}

fn without_user_info(text: &str) -> String {
    match url::Url::parse(text) {
        Ok(mut url) if url.password().is_some() || !url.username().is_empty() => {
            let _ = url.set_username("");
            let _ = url.set_password(None);
            url.to_string()
        }
        _ => text.to_owned(),
    }
}

/// Number of settings that there are, for the completeness test of the example.
pub fn setting_paths() -> Vec<&'static str> {
    SETTINGS.iter().filter(|setting| setting.kind != Kind::Secret).map(|setting| setting.path).collect()
}
