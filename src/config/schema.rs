//! The one table of settings. Reading, checking, suggesting, showing and the example all follow from it.

use std::time::Duration;

use serde_json::{Value, json};

/// What a setting may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Text,
    /// A file or directory; `~` is the home directory.
    Path,
    /// `true` or `false`.
    Flag,
    Count {
        min: u64,
        max: u64,
    },
    /// Seconds as a number, or `"30s"`, `"5m"`, `"1h"`.
    Seconds {
        min: f64,
    },
    /// Bytes as a number, or `"100 MiB"`.
    Bytes,
    OneOf(&'static [&'static str]),
    /// A list of strings.
    Names,
    /// An http(s) base URL without user information.
    BaseUrl,
    /// An http(s) proxy.
    ProxyUrl,
    /// One server, a Sentinel's master or a Cluster; a password is never shown.
    RedisUrl,
    DatabaseUrl,
    /// A list of tables, for `OpenAiCompatible::purposes`.
    Purposes,
    /// Taken from the call only, and never shown.
    Secret,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    /// Levels parted by dots; `*` is a platform's name.
    pub path: &'static str,
    pub kind: Kind,
    /// As JSON text; `""` for none.
    pub default: &'static str,
    pub doc: &'static str,
}

const fn setting(path: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Setting {
    Setting { path, kind, default, doc }
}

/// Settings of a platform that each of its accounts may have for itself, under `platforms.*.accounts.*`.
pub(super) const OF_AN_ACCOUNT: &[&str] = &[
    "api_key_env",
    "api_key_file",
    "api_key",
    "tier",
    "requests_per_minute",
    "uploads_per_minute",
    "upload_bytes_per_second",
    "concurrency",
    "account_concurrency",
    "max_files",
    "max_total_bytes",
];

/// Where a platform's own settings begin.
pub(super) const PLATFORM: &str = "platforms.*.";

pub(super) const SETTINGS: &[Setting] = &[
    setting("default_platforms", Kind::Names, "[]", "Where uploads go that name no platform."),
    setting("deadline", Kind::Seconds { min: 0.001 }, "600", "Of each call: queues, retries and transfer together."),
    setting("registry.path", Kind::Path, "", "SQLite file, or \":memory:\". Default: in the user's data directory."),
    setting(
        "registry.url",
        Kind::DatabaseUrl,
        "",
        "PostgreSQL in place of the file, for several hosts: postgres://user:password@host/database?sslmode=require.",
    ),
    setting(
        "registry.connections",
        Kind::Count { min: 1, max: 1_000 },
        "4",
        "PostgreSQL: connections of this process, made as they are needed.",
    ),
    setting(
        "registry.timeout",
        Kind::Seconds { min: 0.1 },
        "30",
        "PostgreSQL: for a connection to be free, and for each answer.",
    ),
    setting(
        "registry.ca_bundle",
        Kind::Path,
        "",
        "PEM file of the authority behind the PostgreSQL server's certificate.",
    ),
    setting("upload.root", Kind::Path, "", "When set, nothing outside this directory is uploaded, whatever links say."),
    setting("upload.paranoid", Kind::Flag, "false", "Hash files again even if they have not changed."),
    setting(
        "upload.tag_names",
        Kind::Flag,
        "true",
        "Put a tag of the content into remote names: a lost upload can then be found for certain.",
    ),
    setting(
        "upload.memory_limit",
        Kind::Bytes,
        "\"4 MiB\"",
        "Files up to this size are read once and sent from memory.",
    ),
    setting("http.connect_timeout", Kind::Seconds { min: 0.001 }, "5", "DNS, TCP and TLS."),
    setting(
        "http.answer_timeout",
        Kind::Seconds { min: 0.001 },
        "120",
        "From the last byte sent to the first received; platforms extract text meanwhile.",
    ),
    setting("http.stall_timeout", Kind::Seconds { min: 0.001 }, "30", "No byte moving in either direction."),
    setting(
        "http.total_timeout",
        Kind::Seconds { min: 0.001 },
        "180",
        "Of one request; a body adds its size over `min_bytes_per_second`.",
    ),
    setting("http.min_bytes_per_second", Kind::Bytes, "32768", "The slowest transfer that is waited for."),
    setting("http.ca_bundle", Kind::Path, "", "PEM file with further certificate authorities."),
    setting("http.proxy", Kind::ProxyUrl, "", "Proxy URL. Default: the usual environment variables."),
    setting("retry.max_attempts", Kind::Count { min: 1, max: 20 }, "5", "The first one included."),
    setting(
        "retry.base",
        Kind::Seconds { min: 0.0 },
        "1",
        "Ceiling of the first pause; it doubles, and each pause is drawn below it.",
    ),
    setting("retry.cap", Kind::Seconds { min: 0.0 }, "16", "Ceiling of every pause."),
    setting(
        "retry.budget",
        Kind::Count { min: 0, max: 100 },
        "10",
        "Retries of all processes together, in percent of an account's requests; 100 for no limit.",
    ),
    setting(
        "retry.upload_sends",
        Kind::Count { min: 1, max: 10 },
        "4",
        "Times the bytes of one upload may leave; each time the platform was searched and had nothing.",
    ),
    setting(
        "retry.commit_horizon",
        Kind::Seconds { min: 0.0 },
        "120",
        "How long after its sending a lost upload may still turn up on the platform.",
    ),
    setting(
        "breaker.sliding_window_type",
        Kind::OneOf(&["time", "calls"]),
        "\"calls\"",
        "Results that count: of the latest calls, or of the latest seconds.",
    ),
    setting("breaker.sliding_window_size", Kind::Count { min: 1, max: 100_000 }, "50", "So many calls, or seconds."),
    setting(
        "breaker.minimum_number_of_calls",
        Kind::Count { min: 1, max: 100_000 },
        "20",
        "Fewer results than this never open it.",
    ),
    setting(
        "breaker.failure_rate_threshold",
        Kind::Count { min: 1, max: 100 },
        "50",
        "Percent of failures from which a platform is left in peace, for this operation.",
    ),
    setting(
        "breaker.slow_call_duration_threshold",
        Kind::Seconds { min: 0.001 },
        "60",
        "Longer from the last byte sent to the first received is slow, whatever the file's size.",
    ),
    setting(
        "breaker.slow_call_rate_threshold",
        Kind::Count { min: 1, max: 101 },
        "100",
        "Percent of slow answers from which it is left in peace; 101 for never.",
    ),
    setting("breaker.wait_duration_in_open_state", Kind::Seconds { min: 0.001 }, "1", "How long, at first."),
    setting("breaker.wait_factor", Kind::Count { min: 1, max: 100 }, "2", "The wait grows by it each time in a row,"),
    setting("breaker.max_wait_duration_in_open_state", Kind::Seconds { min: 0.001 }, "4", "up to this."),
    setting(
        "breaker.permitted_calls_in_half_open_state",
        Kind::Count { min: 1, max: 1_000 },
        "3",
        "After the wait, so many calls at a time try it out;",
    ),
    setting(
        "breaker.successes_to_close",
        Kind::Count { min: 1, max: 1_000 },
        "2",
        "so many successes close it, and one failure opens it again.",
    ),
    setting(
        "recovery.every",
        Kind::Seconds { min: 0.0 },
        "30",
        "How often each client looks for what was cut short, in the background and first when it opens; 0 for never.",
    ),
    setting(
        "recovery.max_attempts",
        Kind::Count { min: 1, max: 1_000 },
        "10",
        "Times that what was cut short is tried again before it is given up, until a person says otherwise.",
    ),
    setting(
        "copies.place",
        Kind::Text,
        "",
        "Keep a copy of each file, to heal from: a folder, or s3://bucket/prefix with the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
    ),
    setting("copies.region", Kind::Text, "\"us-east-1\"", "Of the bucket."),
    setting("copies.endpoint", Kind::BaseUrl, "", "Of an S3-compatible store that is not Amazon's."),
    setting(
        "audit.key_file",
        Kind::Path,
        "",
        "Signs the audit log's checkpoints; made where it is not there. Default: beside the registry's file.",
    ),
    setting(
        "audit.checkpoint_file",
        Kind::Path,
        "",
        "Checkpoints are added to it: keep it where who may write to the database cannot.",
    ),
    setting(
        "audit.actor",
        Kind::Text,
        "",
        "Who this process works for; only a pseudonym of it is noted. Default: the user.",
    ),
    setting(
        "redis.url",
        Kind::RedisUrl,
        "",
        "Shares breakers, limits and retry budgets between hosts: redis://, rediss://, redis+sentinel://, redis+cluster://.",
    ),
    setting("redis.namespace", Kind::Text, "\"exai_files\"", "Every key begins with it."),
    setting(
        "redis.timeout",
        Kind::Seconds { min: 0.001 },
        "0.04",
        "A server that takes longer to answer is done without, and looked for once a second.",
    ),
    setting("redis.ca_bundle", Kind::Path, "", "PEM file of the authority behind a rediss:// server's certificate."),
    setting(
        "redis.existing_tool_keys",
        Kind::Flag,
        "false",
        "Read and write the EXAI tool's keys too (circuit_breaker:…, dedup:…): old and new processes know of each other.",
    ),
    setting("platforms.*.enabled", Kind::Flag, "true", "Whether to connect to it."),
    setting("platforms.*.kind", Kind::OneOf(&["openai-compatible"]), "", "For platforms of your own."),
    setting(
        "platforms.*.region",
        Kind::OneOf(&["intl", "cn"]),
        "\"intl\"",
        "moonshot only; keys are not interchangeable.",
    ),
    setting("platforms.*.base_url", Kind::BaseUrl, "", "In place of the platform's own."),
    setting("platforms.*.account", Kind::Text, "\"default\"", "Your name for the account; remote ids belong to it."),
    setting("platforms.*.api_key_env", Kind::Text, "", "Variable that holds the key."),
    setting("platforms.*.api_key_file", Kind::Path, "", "File that holds the key, readable by nobody else."),
    setting("platforms.*.api_key", Kind::Secret, "", ""),
    setting(
        "platforms.*.auth",
        Kind::OneOf(&["key", "jwt"]),
        "\"key\"",
        "zai and zhipu: send the key itself, or a JWT made from it.",
    ),
    setting(
        "platforms.*.tier",
        Kind::Count { min: 0, max: 5 },
        "",
        "moonshot: the account's tier; until you say otherwise 0 (3 requests a minute), at its own base URL.",
    ),
    setting(
        "platforms.*.requests_per_minute",
        Kind::Count { min: 0, max: 1_000_000 },
        "",
        "In place of the tier's; 0 for no limit.",
    ),
    setting(
        "platforms.*.uploads_per_minute",
        Kind::Count { min: 0, max: 1_000_000 },
        "",
        "Uploads alone; 0 for no limit.",
    ),
    setting(
        "platforms.*.upload_bytes_per_second",
        Kind::Bytes,
        "",
        "Bytes of uploads, of all processes together. Default: no limit.",
    ),
    setting(
        "platforms.*.concurrency",
        Kind::Count { min: 1, max: 10_000 },
        "",
        "Requests in flight, of each process. Default: the tier's, at most 32; else 8.",
    ),
    setting(
        "platforms.*.account_concurrency",
        Kind::Count { min: 1, max: 10_000 },
        "",
        "Requests in flight, of all processes together. Default: the tier's; else no limit.",
    ),
    setting("platforms.*.purpose", Kind::Text, "", "Purpose of uploads that name none. Default: by the file's type."),
    setting("platforms.*.commit_horizon", Kind::Seconds { min: 0.0 }, "", "In place of `retry.commit_horizon`."),
    setting("platforms.*.max_file_bytes", Kind::Bytes, "", "openai-compatible: the largest file."),
    setting(
        "platforms.*.max_files",
        Kind::Count { min: 0, max: u64::MAX },
        "",
        "Files that one account may hold, where it is not what the platform publishes.",
    ),
    setting("platforms.*.max_total_bytes", Kind::Bytes, "", "Bytes that one account may hold, likewise."),
    setting(
        "platforms.*.retention_days",
        Kind::Count { min: 1, max: 36_500 },
        "",
        "openai-compatible: when files expire.",
    ),
    setting("platforms.*.has_get", Kind::Flag, "true", "openai-compatible: whether a file can be asked for by its id."),
    setting(
        "platforms.*.list_needs_purpose",
        Kind::Flag,
        "false",
        "openai-compatible: whether each purpose is listed on its own.",
    ),
    setting(
        "platforms.*.purposes",
        Kind::Purposes,
        "[]",
        "openai-compatible: tables of name, aliases, content, max_bytes.",
    ),
];

/// The row for a path, with the platform's name taken for `*`.
pub(super) fn find(path: &str) -> Option<&'static Setting> {
    let pattern = pattern(path);
    SETTINGS.iter().find(|setting| setting.path == pattern)
}

fn pattern(path: &str) -> String {
    match path.strip_prefix("platforms.").and_then(|rest| rest.split_once('.')) {
        Some((_, rest)) => format!("{PLATFORM}{}", of_account(rest).unwrap_or(rest)),
        None => path.to_owned(),
    }
}

/// `tier`, of `accounts.team-b.tier`.
fn of_account(rest: &str) -> Option<&str> {
    let (_, setting) = rest.strip_prefix("accounts.")?.split_once('.')?;
    OF_AN_ACCOUNT.iter().find(|name| **name == setting).copied()
}

/// The setting most like a misspelt one.
pub(super) fn nearest(path: &str) -> Option<String> {
    let pattern = pattern(path);
    let likeness = |known: &Setting| strsim::jaro_winkler(known.path, &pattern);
    let best = SETTINGS
        .iter()
        .filter(|setting| setting.kind != Kind::Secret)
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .filter(|best| likeness(best) > 0.8)?;
    let platform = path.strip_prefix("platforms.").and_then(|rest| rest.split('.').next()).unwrap_or("*");
    Some(best.path.replace('*', platform))
}

impl Setting {
    pub(super) fn default(&self) -> Option<Value> {
        serde_json::from_str(self.default).ok()
    }

    /// The value in its plain form: seconds and bytes as numbers.
    ///
    /// # Errors
    /// What it must be instead.
    pub(super) fn check(&self, value: &Value) -> Result<Value, String> {
        let text = || value.as_str().filter(|text| !text.is_empty());
        match self.kind {
            Kind::Text | Kind::Path | Kind::Secret => text().map(|text| json!(text)).ok_or("must be text".into()),
            Kind::Flag => value.as_bool().map(|flag| json!(flag)).ok_or("must be true or false".into()),
            Kind::Count { min, max } => {
                let fits = value.as_u64().filter(|count| (min..=max).contains(count));
                fits.map(|count| json!(count)).ok_or_else(|| match max {
                    u64::MAX => format!("must be a whole number from {min}"),
                    max => format!("must be a whole number from {min} to {max}"),
                })
            }
            Kind::Seconds { min } => {
                let seconds = value.as_f64().or_else(|| text().and_then(seconds_of));
                let fits = seconds.filter(|seconds| *seconds >= min && Duration::try_from_secs_f64(*seconds).is_ok());
                fits.map(|seconds| json!(seconds)).ok_or("must be seconds, such as 30, \"30s\" or \"5m\"".into())
            }
            Kind::Bytes => {
                let bytes = value.as_u64().or_else(|| text().and_then(bytes_of)).filter(|bytes| *bytes > 0);
                bytes.map(|bytes| json!(bytes)).ok_or("must be bytes, such as 1048576 or \"1 MiB\"".into())
            }
            Kind::OneOf(words) => {
                let fits = text().filter(|word| words.contains(word));
                fits.map(|word| json!(word)).ok_or_else(|| format!("must be one of {}", words.join(", ")))
            }
            Kind::Names => {
                let names = value.as_array().filter(|names| names.iter().all(Value::is_string));
                names.map(|names| json!(names)).ok_or("must be a list of names, such as [\"moonshot\"]".into())
            }
            Kind::BaseUrl => text().ok_or("must be a URL".into()).and_then(base_url).map(Value::String),
            Kind::ProxyUrl => {
                let is_proxy = |text: &&str| {
                    url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
                };
                text().filter(is_proxy).map(|text| json!(text)).ok_or("must be an http:// or https:// URL".into())
            }
            Kind::DatabaseUrl => text().ok_or("must be a URL".into()).and_then(database_url).map(Value::String),
            Kind::RedisUrl => text().ok_or("must be a URL".into()).and_then(redis_url).map(Value::String),
            Kind::Purposes => match value.is_array() {
                true => Ok(value.clone()),
                false => Err("must be a list of tables, each with a name".into()),
            },
        }
    }
}

fn seconds_of(text: &str) -> Option<f64> {
    let (number, unit) = text.trim().split_at(text.trim().find(|c: char| c.is_ascii_alphabetic())?);
    let factor = match unit.trim() {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        _ => return None,
    };
    number.trim().parse::<f64>().ok().map(|number| number * factor)
}

fn bytes_of(text: &str) -> Option<u64> {
    let (number, unit) = text.trim().split_at(text.trim().find(|c: char| c.is_ascii_alphabetic())?);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "b" => 1,
        "kb" => 1_000,
        "kib" => 1 << 10,
        "mb" => 1_000_000,
        "mib" => 1 << 20,
        "gb" => 1_000_000_000,
        "gib" => 1 << 30,
        _ => return None,
    };
    number.trim().parse::<f64>().ok().filter(|number| *number >= 0.0).map(|number| (number * factor as f64) as u64)
}

fn redis_url(text: &str) -> Result<String, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let (security, servers) = scheme.split_once('+').unwrap_or((scheme, ""));
    if !matches!(security, "redis" | "rediss") || !matches!(servers, "" | "sentinel" | "cluster") {
        return Err("must begin with redis://, rediss://, redis+sentinel:// or redis+cluster://".into());
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    if hosts.split(',').any(str::is_empty) {
        return Err("must name a host".into());
    }
    match (servers, path) {
        ("", _) if hosts.contains(',') => {
            Err("must name one host; redis+sentinel:// and redis+cluster:// take more".into())
        }
        ("sentinel", "") => Err("must end with the master's name, such as /mymaster".into()),
        _ => Ok(text.to_owned()),
    }
}

/// A PostgreSQL URL.
///
/// # Errors
/// What it must be instead.
pub fn database_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
    let rest = rest.ok_or("must begin with postgres:// (or be a `registry.path`)")?;
    if rest.split_once('?').is_some_and(|(_, query)| query.contains("password")) {
        return Err("must carry a password before its host, not after its database".into());
    }
    Ok(text.to_owned())
}

/// A URL with a list of hosts, which no URL parser reads.
pub(super) fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((user, _)) => format!("{scheme}://{}", &rest[user.len() + 1..]),
        _ => text.to_owned(),
    }
}

/// Without a trailing slash, because `//files` is another route on some gateways (platform_api.md §7.2).
fn base_url(text: &str) -> Result<String, String> {
    let url = url::Url::parse(text).map_err(|_| "must be a URL such as https://api.example.com/v1")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not carry a user name or password".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not carry a query or a fragment".into());
    }
    let is_loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => return Err("must name a host".into()),
    };
    match url.scheme() {
        "https" => {}
        "http" if is_loopback => {}
        "http" => return Err("must be https: a key would travel in the clear".into()),
        _ => return Err("must be https".into()),
    }
    Ok(text.trim_end_matches('/').to_owned())
}
