//! Settings: precedence, origins, and every fault at once with what to do about it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use exai_files::config::{AccountConfig, Config, Sources, setting_paths};
use exai_files::error::{ErrorKind, Result};
use serde_json::{Value, json};

struct Given {
    _home: tempfile::TempDir,
    sources: Sources,
}

fn given(toml: &str, env: &[(&str, &str)], call: Value) -> Given {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("settings.toml");
    std::fs::write(&file, toml).unwrap();
    let env: BTreeMap<String, String> =
        env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Given { sources: Sources { file: Some(file), env, overrides: call, ..Sources::default() }, _home: home }
}

fn load(toml: &str, env: &[(&str, &str)], call: Value) -> Result<Config> {
    Config::load(given(toml, env, call).sources)
}

#[test]
fn the_call_beats_the_environment_beats_the_profile_beats_the_file_beats_the_default() {
    let toml = "deadline = 1\n[profile.production]\ndeadline = 2\n";
    let (profile, variable) = (("EXAI_ENV", "production"), ("EXAI_FILES_DEADLINE", "3"));
    for (seconds, origin, toml, env, call) in [
        (600, "default", "", vec![], json!({})),
        (1, "settings.toml:1", toml, vec![], json!({})),
        (2, "settings.toml:3 [profile.production]", toml, vec![profile], json!({})),
        (3, "environment variable EXAI_FILES_DEADLINE", toml, vec![profile, variable], json!({})),
        (4, "the call", toml, vec![profile, variable], json!({"deadline": 4})),
    ] {
        let config = load(toml, &env, call).unwrap();
        assert_eq!(config.deadline, Duration::from_secs(seconds));
        let shown = config.settings().into_iter().find(|setting| setting.path == "deadline").unwrap();
        assert!(shown.origin.ends_with(origin), "{} is not {origin}", shown.origin);
    }
}

#[test]
fn every_fault_is_said_at_once_with_its_place_and_a_suggestion() {
    let toml = "retry.max_atempts = 3\ndeadline = \"soon\"\n[upload]\nparanoid = 1\n[platforms.moonshot]\ntier = 9\n";
    let error = load(toml, &[("EXAI_FILES_HTTP__STALL_TIMEOUTS", "3")], json!({"platforms": {"zai": {"tier": 1}}}))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    for said in [
        "settings.toml:1: retry.max_atempts: unknown setting; did you mean retry.max_attempts?",
        "settings.toml:2: deadline: must be seconds, such as 30, or \"30s\", \"5m\", \"2h\" or \"90d\", not \"soon\"",
        "settings.toml:4: upload.paranoid: must be true or false, not 1",
        "settings.toml:6: platforms.moonshot.tier: must be a whole number from 0 to 5, not 9",
        "environment variable EXAI_FILES_HTTP__STALL_TIMEOUTS: http.stall_timeouts: unknown setting; did you mean http.stall_timeout?",
        "the call: platforms.zai.tier: only moonshot has one",
    ] {
        assert!(error.message().contains(said), "{said}\nis not in\n{}", error.message());
    }
}

#[test]
fn wrong_settings_are_refused() {
    for (name, toml, said) in [
        ("no TOML", "deadline = = 3", "this is no TOML"),
        ("unknown table", "[colours]\nred = 1", "unknown setting"),
        ("negative", "deadline = -1", "must be seconds"),
        ("bytes", "upload.memory_limit = \"4 apples\"", "must be bytes"),
        ("a list", "default_platforms = \"moonshot\"", "must be a list"),
        ("unknown default platform", "default_platforms = [\"mars\"]", "no platform \"mars\""),
        ("plain http", "[platforms.moonshot]\nbase_url = \"http://api.example.com/v1\"", "must be https"),
        (
            "user in URL",
            "[platforms.moonshot]\nbase_url = \"https://u:p@api.example.com\"",
            "must not carry a user name",
        ),
        ("query in URL", "[platforms.moonshot]\nbase_url = \"https://api.example.com?x=1\"", "must not carry a query"),
        ("no URL", "[platforms.moonshot]\nbase_url = \"moonshot\"", "must be a URL"),
        ("other scheme", "[platforms.moonshot]\nbase_url = \"ftp://api.example.com\"", "must be https"),
        ("region", "[platforms.moonshot]\nregion = \"eu\"", "must be one of intl, cn"),
        ("misspelt platform", "[platforms.moonshoot]\nconcurrency = 1", "did you mean platforms.moonshot?"),
        ("own platform without kind", "[platforms.mine]\nbase_url = \"https://api.example.com\"", "needs kind"),
        (
            "bad platform name",
            "[platforms.\"a b\"]\nkind = \"openai-compatible\"\nbase_url = \"https://a.example\"",
            "is not a platform name",
        ),
        ("key file", "[platforms.zai]\napi_key_file = \"/nonexistent/key\"", "cannot be read"),
        ("auth", "[platforms.zai]\nauth = \"basic\"", "must be one of key, jwt, oauth, client-credentials"),
        ("login", "[platforms.zai]\nauth = \"oauth\"", "needs oauth_token_url and oauth_client_id"),
        ("attempts", "retry.max_attempts = 0", "from 1 to 20"),
        ("profile", "[profile.test]\ndeadline = \"x\"", "[profile.test]: deadline"),
    ] {
        let error = load(toml, &[], json!({})).unwrap_err();
        assert!(error.message().contains(said), "{name}: {said:?} is not in {}", error.message());
    }
    let missing =
        Config::load(Sources { file: Some(PathBuf::from("/nonexistent.toml")), ..Sources::default() }).unwrap_err();
    assert!(missing.message().contains("cannot be read"));
    let profile = load("[profile.production]\ndeadline = 1", &[("EXAI_ENV", "prod")], json!({})).unwrap_err();
    assert!(profile.message().contains("no [profile.prod], only production"), "{profile}");
}

#[test]
fn keys_in_settings_are_refused_and_never_shown() {
    let canary = "sk-canary-0123456789";
    let error = load(&format!("[platforms.moonshot]\napi_key = \"{canary}\""), &[], json!({})).unwrap_err();
    assert!(error.message().contains("api_key_env") && !format!("{error} {error:?}").contains(canary));
    let config = load("", &[], json!({"platforms": {"moonshot": {"api_key": canary}}})).unwrap();
    assert!(!format!("{:?} {:?}", config.settings(), config).contains(canary));
    assert_eq!(accounts(&config, "moonshot")[0].key.as_ref().unwrap().read().unwrap().expose(), canary);
}

#[test]
fn a_key_file_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("key");
    std::fs::write(&path, "sk-from-file\n").unwrap();
    let call = json!({"platforms": {"moonshot": {"api_key_file": path}}});
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(load("", &[], call.clone()).unwrap_err().message().contains("chmod 600"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = load("", &[], call).unwrap();
    assert_eq!(accounts(&config, "moonshot")[0].key.as_ref().unwrap().read().unwrap().expose(), "sk-from-file");
}

#[test]
fn keys_and_urls_come_under_every_name_in_use() {
    let key_of = |name: &str, env: &[(&str, &str)]| {
        let config = load("", env, json!({})).unwrap();
        accounts(&config, name)[0].key.as_ref().map(|key| key.read().unwrap().expose().to_owned())
    };
    for (variable, platform) in [
        ("MOONSHOT_API_KEY", "moonshot"),
        ("KIMI_API_KEY", "moonshot"),
        ("ZAI_API_KEY", "zai"),
        ("GLM_API_KEY", "zai"),
        ("ZHIPUAI_API_KEY", "zhipu"),
    ] {
        assert_eq!(key_of(platform, &[(variable, "abc.def")]).as_deref(), Some("abc.def"), "{variable}");
    }
    assert_eq!(key_of("moonshot", &[]), None);
    let env = [("ZAI_BASE_URL", "https://proxy.example/v4/"), ("KIMI_API_KEY", "sk-1")];
    let config = load("[platforms.kimi]\nconcurrency = 3", &env, json!({})).unwrap();
    assert_eq!(accounts(&config, "moonshot")[0].concurrency, Some(3), "kimi is moonshot");
    let of = |name: &str| config.platforms.iter().find(|p| p.id.as_str() == name).unwrap();
    assert_eq!(of("zai").base_url.as_deref(), Some("https://proxy.example/v4"));
}

#[test]
fn an_account_has_its_own_settings_and_key_and_else_the_platforms() {
    let toml = "[platforms.moonshot]\nconcurrency = 3\nmax_files = 50\n[platforms.moonshot.accounts.team-b]\ntier = 4\n\
                max_files = 10\n[platforms.zai.accounts.only]\napi_key_env = \"THE_KEY\"\n";
    let env = [("MOONSHOT_API_KEY", "sk-1"), ("MOONSHOT_API_KEY_TEAM_B", "sk-2"), ("THE_KEY", "a.b")];
    let config = load(toml, &env, json!({})).unwrap();
    let shown: Vec<_> = ["moonshot", "zai"]
        .iter()
        .flat_map(|name| accounts(&config, name).iter().filter(|account| account.key.is_some()))
        .map(|a| {
            let key = a.key.as_ref().unwrap().read().unwrap();
            (a.id.to_string(), key.expose().to_owned(), a.tier, a.concurrency, a.max_files)
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("default".into(), "sk-1".into(), None, Some(3), Some(50)),
            ("team-b".into(), "sk-2".into(), Some(4), Some(3), Some(10)),
            ("only".into(), "a.b".into(), None, None, None),
        ]
    );
    let twice = [("MOONSHOT_API_KEY", "sk-1"), ("MOONSHOT_API_KEY_TEAM_B", "sk-1"), ("THE_KEY", "a.b")];
    let error = load(toml, &twice, json!({})).unwrap_err();
    assert!(error.message().contains("accounts.team-b: its key is the key of default, too"), "{error}");
    assert!(!error.message().contains("sk-1"));
    for (toml, said) in [
        (
            "[platforms.zai.accounts.b]\ntier = 1\napi_key_env = \"K\"",
            "platforms.zai.accounts.b.tier: only moonshot has one",
        ),
        ("[platforms.moonshot.accounts.b]\nregion = \"cn\"", "platforms.moonshot.accounts.b.region: unknown setting"),
        ("[platforms.moonshot.accounts.b]\ntier = 9", "accounts.b.tier: must be a whole number from 0 to 5"),
    ] {
        let error = load(toml, &[("K", "a.b")], json!({})).unwrap_err();
        assert!(error.message().contains(said), "{error}");
    }
}

fn accounts<'c>(config: &'c Config, platform: &str) -> &'c [AccountConfig] {
    &config.platforms.iter().find(|p| p.id.as_str() == platform).unwrap().accounts
}

#[test]
fn the_example_is_complete_short_and_right() {
    let example = Config::example();
    assert!(example.lines().count() < 200, "{} lines", example.lines().count());
    assert!(load(&example, &[], json!({})).is_ok(), "as it stands");
    for path in setting_paths() {
        let name = path.rsplit('.').next().unwrap();
        assert!(example.contains(&format!("# {name} = ")), "{path} is missing");
    }
    // Uncommented, every default is one that would be accepted where it stands.
    let settings = example.lines().map(|line| {
        let setting = line.strip_prefix("# ").map(|rest| rest.split("  # ").next().unwrap_or(rest));
        setting.filter(|setting| setting.contains(" = ") && !setting.contains(": ")).unwrap_or(line)
    });
    let uncommented: Vec<&str> = settings
        .take_while(|line| !line.contains("A platform of your own"))
        .filter(|line| {
            // These belong to other platforms than the one the example shows.
            let others = ["kind", "auth", "api_key_file", "ca_bundle", "root =", "jwt_secret_file"];
            !others.iter().any(|start| line.starts_with(start))
        })
        .collect();
    let loaded = load(&uncommented.join("\n"), &[], json!({}));
    assert!(loaded.is_ok(), "{}\n{}", loaded.unwrap_err(), uncommented.join("\n"));
}

#[test]
fn a_breaker_that_could_never_close_and_a_proxy_nobody_speaks_to_are_refused() {
    for (file, said) in [
        ("[breaker]\nsuccesses_to_close = 4", "it would never close"),
        ("[breaker]\nfailure_rate_threshold = 0", "from 1 to 100"),
        ("[breaker]\nsliding_window_type = \"count\"", "one of time, calls"),
        ("[breaker]\nwait_duration = 5", "wait_duration_in_open_state"),
        ("[http]\nproxy = \"ftp://user:hunter2@proxy\"", "http://"),
    ] {
        let error = load(file, &[], json!({})).unwrap_err();
        assert!(error.message().contains(said), "{file}: {error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
