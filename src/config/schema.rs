//! The one table of settings. Reading, checking, suggesting, showing and the example all follow from it.

use serde_json::Value;

use super::kind::Kind;

/// One row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    /// Levels parted by dots; `*` is the name of a platform, or of a rule.
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
    "api_key_command",
    "api_key_vault",
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

/// Those of one user's quota.
pub(super) const USER: &str = "quotas.users.*.";

/// And those of a rule about how long files stay.
pub(super) const RULE: &str = "lifecycle.rules.*.";

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
        "recovery.fallback",
        Kind::Names,
        "[]",
        "Where else an upload may go that was cut short and cannot be finished where it was meant to be: the first that takes it.",
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
    setting(
        "access.jwt_secret_file",
        Kind::Path,
        "",
        "Verifies users' tokens (HS256). Default: JWT_SECRET_KEY, SUPABASE_JWT_SECRET or JWT_SECRET.",
    ),
    setting("access.jwt_secret_command", Kind::Words, "", "Command that prints it, as words."),
    setting("access.jwt_issuer", Kind::Text, "", "Who must have issued them. Default: JWT_ISSUER; else anybody."),
    setting("access.jwt_audience", Kind::Text, "", "Whom they must be for. Default: JWT_AUDIENCE; else anybody."),
    setting("access.jwt_leeway", Kind::Seconds { min: 0.0 }, "60", "How far clocks may be apart."),
    setting(
        "access.grace_until",
        Kind::Text,
        "",
        "Until then (RFC 3339) whoever shows no good token is let in as \"anonymous\". It does not start anew with a process.",
    ),
    setting(
        "quotas.max_files",
        Kind::Count { min: 0, max: u64::MAX },
        "",
        "Files that each user may have on platforms.",
    ),
    setting("quotas.max_bytes", Kind::Bytes, "", "Bytes, likewise."),
    setting("quotas.max_file_bytes", Kind::Bytes, "", "The largest file of theirs."),
    setting("quotas.users.*.max_files", Kind::Count { min: 0, max: u64::MAX }, "", "Of one user, in place of those."),
    setting("quotas.users.*.max_bytes", Kind::Bytes, "", "Likewise."),
    setting("quotas.users.*.max_file_bytes", Kind::Bytes, "", "Likewise."),
    setting(
        "credentials.store",
        Kind::OneOf(&["database", "file", "keyring"]),
        "\"database\"",
        "Where `auth login` keeps keys and tokens: the registry or a file, sealed; or the system's keyring (extra \"keyring\").",
    ),
    setting("credentials.file", Kind::Path, "", "That file. Default: credentials.json beside the registry's file."),
    setting(
        "credentials.master_key_file",
        Kind::Path,
        "",
        "What they are sealed with: a key or a passphrase. Default: EXAI_FILES_MASTER_KEY, else made beside the registry's file.",
    ),
    setting("credentials.master_key_command", Kind::Words, "", "Command that prints it, as words."),
    setting(
        "lifecycle.trash_period",
        Kind::Seconds { min: 0.0 },
        "\"30d\"",
        "How long files stay in the trash before all of them goes for good.",
    ),
    setting("lifecycle.rules.*.tag", Kind::Text, "", "Only files with this tag. Default: all."),
    setting("lifecycle.rules.*.platform", Kind::Text, "", "Only copies on this platform. Default: everywhere."),
    setting("lifecycle.rules.*.keep_last", Kind::Count { min: 1, max: u64::MAX }, "", "The newest so many stay."),
    setting(
        "lifecycle.rules.*.keep_within",
        Kind::Seconds { min: 1.0 },
        "",
        "Files handed over or used so lately stay, such as \"90d\".",
    ),
    setting(
        "lifecycle.rules.*.then",
        Kind::OneOf(&["delete", "archive", "trash"]),
        "\"delete\"",
        "Others are taken off their platforms (delete), likewise where a copy is kept (archive), or put into the trash.",
    ),
    setting("platforms.*.enabled", Kind::Flag, "true", "Whether to connect to it."),
    setting("platforms.*.kind", Kind::OneOf(&["openai-compatible"]), "", "For platforms of your own."),
    setting(
        "platforms.*.region",
        Kind::OneOf(&["intl", "cn"]),
        "",
        "moonshot (default intl) and kimi-code (default cn, which is kimi.com); keys are not interchangeable.",
    ),
    setting("platforms.*.base_url", Kind::BaseUrl, "", "In place of the platform's own."),
    setting("platforms.*.account", Kind::Text, "\"default\"", "Your name for the account; remote ids belong to it."),
    setting("platforms.*.api_key_env", Kind::Text, "", "Variable that holds the key."),
    setting(
        "platforms.*.api_key_file",
        Kind::Path,
        "",
        "File that holds the key, readable by nobody else. One that is replaced is used at the next call.",
    ),
    setting(
        "platforms.*.api_key_command",
        Kind::Words,
        "",
        "Command that prints the key, as words; run at the first call, and again when the platform refuses its key.",
    ),
    setting(
        "platforms.*.api_key_vault",
        Kind::Text,
        "",
        "Name of the key in the registry's Supabase Vault; the registry's role has to be allowed to read the view.",
    ),
    setting("platforms.*.api_key", Kind::Secret, "", ""),
    setting(
        "platforms.*.allow_private_addresses",
        Kind::Flag,
        "false",
        "Whether base_url may lead into the own network (10.0.0.0/8 and the like); never where clouds keep credentials.",
    ),
    setting(
        "platforms.*.auth",
        Kind::OneOf(&["key", "jwt", "oauth", "client-credentials"]),
        "",
        "Send the key itself, a JWT made from it (zai, zhipu), or tokens of a login (default of kimi-code) or a client.",
    ),
    setting(
        "platforms.*.oauth_token_url",
        Kind::BaseUrl,
        "",
        "Where tokens are had, for auth = \"oauth\" and \"client-credentials\". Default: kimi-code's own.",
    ),
    setting("platforms.*.oauth_device_url", Kind::BaseUrl, "", "Where a device login begins (RFC 8628), likewise."),
    setting("platforms.*.oauth_client_id", Kind::Text, "", "Who asks; a client's secret is the account's key."),
    setting("platforms.*.oauth_scope", Kind::Text, "", "What is asked for. Default: nothing in particular."),
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
    setting(
        "platforms.*.when_full",
        Kind::OneOf(&["refuse", "evict-lru", "evict-smallest"]),
        "\"refuse\"",
        "When the account is full: refuse, or take off what was used longest ago, or what is smallest, of what can be made anew.",
    ),
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
    if let Some((_, setting)) = path.strip_prefix("lifecycle.rules.").and_then(|rest| rest.split_once('.')) {
        return format!("{RULE}{setting}");
    }
    // Users' names may have dots in them.
    if let Some((_, setting)) = path.strip_prefix("quotas.users.").and_then(|rest| rest.rsplit_once('.')) {
        return format!("{USER}{setting}");
    }
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
    let named = ["platforms.", "lifecycle.rules.", "quotas.users."].iter().find_map(|level| path.strip_prefix(level));
    let name = named.and_then(|rest| rest.split('.').next()).unwrap_or("*");
    Some(best.path.replace('*', name))
}

impl Setting {
    pub(super) fn default(&self) -> Option<Value> {
        serde_json::from_str(self.default).ok()
    }
}
