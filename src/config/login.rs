//! How credentials are had by logging in, and where they are kept.

use std::path::PathBuf;

use super::Config;
use crate::credentials::KeySource;
use crate::model::Secret;

/// How an account shows who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// The key itself.
    Key,
    /// A JWT made from it.
    Jwt,
    /// Access tokens, from a login that a person makes.
    OAuth(OAuthConfig),
    /// Access tokens that a client gets with its own secret, which is the account's key.
    ClientCredentials(OAuthConfig),
}

impl Auth {
    /// As the settings have it.
    pub fn name(&self) -> &'static str {
        match self {
            Auth::Key => "key",
            Auth::Jwt => "jwt",
            Auth::OAuth(_) => "oauth",
            Auth::ClientCredentials(_) => "client-credentials",
        }
    }
}

/// An authorization server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuthConfig {
    pub token_url: String,
    pub device_url: Option<String>,
    pub client_id: String,
    pub scope: Option<String>,
}

/// Where `auth login` keeps what it fetches.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    pub kind: StoreKind,
    pub file: PathBuf,
    /// `None` leaves it to a file beside the registry.
    pub master_key: Option<KeySource>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    Database,
    File,
    Keyring,
}

/// kimi-cli's client, of both regions (platform_api.md §3.3).
const KIMI_CLIENT: &str = "17e5f671-d194-4dfb-9706-5516cb48c098";

impl Config {
    pub(super) fn auth(&self, platform: &str, faults: &mut Vec<String>) -> Auth {
        let path = format!("platforms.{platform}.auth");
        let usual = if platform == "kimi-code" { "oauth" } else { "key" };
        let named = self.text(&path).unwrap_or(usual).to_owned();
        match named.as_str() {
            "jwt" => Auth::Jwt,
            "oauth" => self.oauth(platform, &named, faults).map_or(Auth::Key, Auth::OAuth),
            "client-credentials" => self.oauth(platform, &named, faults).map_or(Auth::Key, Auth::ClientCredentials),
            _ => Auth::Key,
        }
    }

    fn oauth(&self, platform: &str, auth: &str, faults: &mut Vec<String>) -> Option<OAuthConfig> {
        let set = |name: &str| self.text(&format!("platforms.{platform}.oauth_{name}")).map(str::to_owned);
        let kimi = (platform == "kimi-code").then(|| self.kimi_host());
        let token_url = set("token_url").or(kimi.as_ref().map(|host| format!("{host}/api/oauth/token")));
        let client_id = set("client_id").or(kimi.as_ref().map(|_| KIMI_CLIENT.to_owned()));
        let (Some(token_url), Some(client_id)) = (token_url, client_id) else {
            faults.push(format!("platforms.{platform}: auth = \"{auth}\" needs oauth_token_url and oauth_client_id"));
            return None;
        };
        let device_url =
            set("device_url").or(kimi.as_ref().map(|host| format!("{host}/api/oauth/device_authorization")));
        Some(OAuthConfig { token_url, device_url, client_id, scope: set("scope") })
    }

    /// As kimi-cli finds it.
    fn kimi_host(&self) -> String {
        let variable = |name: &str| self.env.get(name).filter(|host| super::kind::base_url(host).is_ok());
        let named = variable("KIMI_CODE_OAUTH_HOST").or_else(|| variable("KIMI_OAUTH_HOST"));
        match (named, self.text("platforms.kimi-code.region")) {
            (Some(host), _) => host.trim_end_matches('/').to_owned(),
            (None, Some("intl")) => "https://auth.kimi.ai".to_owned(),
            _ => "https://auth.kimi.com".to_owned(),
        }
    }

    pub(super) fn store(&self) -> StoreConfig {
        let kind = match self.text("credentials.store") {
            Some("file") => StoreKind::File,
            Some("keyring") => StoreKind::Keyring,
            _ => StoreKind::Database,
        };
        let variable = self.env.get("EXAI_FILES_MASTER_KEY").filter(|key| !key.is_empty());
        let file = self.path("credentials.master_key_file").map(KeySource::File);
        let command = self.words("credentials.master_key_command").map(KeySource::Command);
        let named = variable.map(|key| KeySource::given(Secret::new(key), "variable EXAI_FILES_MASTER_KEY"));
        StoreConfig {
            kind,
            file: self.path("credentials.file").unwrap_or_else(|| self.registry.with_file_name("credentials.json")),
            master_key: command.or(file).or(named),
        }
    }
}
