//! The commented example, written from the table of settings.

use std::fmt::Write as _;

use super::kind::Kind;
use super::schema::{PLATFORM, SETTINGS, Setting};

/// What fits on a line.
const WIDE: usize = 116;

const HEAD: &str = r#"# exai-files: every setting, with its default. Uncomment what you change.
# Read from EXAI_FILES_CONFIG, ./exai-files.toml or <config directory>/exai-files/config.toml.
# Stronger than this file: EXAI_FILES_RETRY__MAX_ATTEMPTS=3 (two underscores between levels), and the call itself.
# Keys do not stand here: MOONSHOT_API_KEY, ZAI_API_KEY and ZHIPUAI_API_KEY hold them, or what api_key_env and
# api_key_file name.
"#;

const TAIL: &str = r#"
# A platform of your own:
# [platforms.example]
# kind = "openai-compatible"
# base_url = "https://api.example.com/v1"
# purposes = [{ name = "user_data" }, { name = "batch", content = "bytes" }]

# Several accounts of one platform: a new file goes to the one with most room, and is used with the one that has it.
# Their keys are in MOONSHOT_API_KEY_TEAM_B, or where api_key_env or api_key_file says; what else is not set is the
# platform's. The platform's own key, where there is one, is of the account "default".
# [platforms.moonshot.accounts.team_b]
# tier = 3

# What differs in production; chosen by EXAI_ENV=production.
# [profile.production]
# deadline = 120
# [profile.production.platforms.moonshot]
# tier = 3
"#;

pub(super) fn example() -> String {
    let mut text = HEAD.to_owned();
    let mut table = "";
    for setting in SETTINGS.iter().filter(|setting| setting.kind != Kind::Secret) {
        let (level, name) = setting.path.rsplit_once('.').unwrap_or(("", setting.path));
        if level != table {
            table = level;
            let _ = write!(text, "\n[{}]\n", level.replace('*', example_of(level)));
        }
        let given = format!("# {name} = {}", value(setting));
        let _ = match given.len() + setting.doc.len() < WIDE {
            true => writeln!(text, "{given}  # {}", setting.doc),
            false => writeln!(text, "# {}\n{given}", setting.doc),
        };
    }
    text + TAIL
}

/// A name that stands for all of a level.
fn example_of(level: &str) -> &'static str {
    match level.split('.').next() {
        Some("lifecycle") => "reports",
        Some("quotas") => "alice",
        _ => "moonshot",
    }
}

/// What is more telling than something of the right kind.
const EXAMPLES: [(&str, &str); 16] = [
    ("registry.path", ":memory:"),
    ("copies.place", "/var/lib/exai-files/copies"),
    ("copies.endpoint", "http://127.0.0.1:8333"),
    ("audit.actor", "nightly-job"),
    ("access.jwt_issuer", "exai"),
    ("access.jwt_audience", "files"),
    ("access.grace_until", "2027-01-31T00:00:00Z"),
    ("api_key_vault", "moonshot"),
    ("oauth_token_url", "https://auth.example.com/token"),
    ("oauth_device_url", "https://auth.example.com/device"),
    ("oauth_client_id", "my-client"),
    ("oauth_scope", "files"),
    ("rules.*.tag", "report"),
    ("rules.*.platform", "zai"),
    ("rules.*.keep_within", "90d"),
    ("api_key_env", "MOONSHOT_API_KEY"),
];

/// The default, or something of the right kind.
fn value(setting: &Setting) -> String {
    let own = EXAMPLES.iter().find(|(path, _)| setting.path.ends_with(path));
    if let (Some((_, example)), "") = (own, setting.default) {
        return format!("{example:?}");
    }
    match (setting.default, setting.kind) {
        ("", Kind::Path) => format!("\"/etc/exai-files/{}\"", setting.path.trim_start_matches(PLATFORM)),
        ("", Kind::Words) => "[\"pass\", \"show\", \"moonshot\"]".into(),
        ("", Kind::BaseUrl) => "\"https://api.moonshot.cn/v1\"".into(),
        ("", Kind::OneOf(words)) => format!("{:?}", words[0]),
        ("", Kind::DatabaseUrl) => "\"postgres://localhost/exai_files\"".into(),
        ("", Kind::RedisUrl) => "\"redis://localhost:6379\"".into(),
        ("", Kind::ProxyUrl) => "\"http://proxy.example.com:3128\"".into(),
        ("", Kind::Text) => "\"file-extract\"".into(),
        ("", Kind::Count { min, .. }) => min.max(1).to_string(),
        ("", Kind::Seconds { .. }) => "30".into(),
        ("", Kind::Bytes) => "\"100 MiB\"".into(),
        ("", _) => "\"\"".into(),
        (default, _) => default.to_owned(),
    }
}
