//! A platform's accounts and their keys.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{AccountConfig, Config};
use crate::credentials::{KeySource, fingerprint};
use crate::model::{AccountId, PlatformId, Secret};

impl Config {
    /// The account of the platform's own key, where there is one, and those that have a table of their own.
    pub(super) fn accounts(&self, platform: &str, faults: &mut Vec<String>) -> Vec<AccountConfig> {
        let own = self.text(&format!("platforms.{platform}.account")).unwrap_or("default").to_owned();
        let named = self.named_accounts(platform);
        let mut accounts: Vec<AccountConfig> = Vec::with_capacity(named.len() + 1);
        if !named.contains(&own)
            && let Some(key) = self.key(&format!("platforms.{platform}"), &self.key_variables(platform), faults)
        {
            accounts.push(self.account(platform, &own, key));
        }
        for name in named {
            let path = format!("platforms.{platform}.accounts.{name}");
            let mut variables = self.account_key_variables(platform, &name);
            if name == own {
                variables.extend(self.key_variables(platform));
            }
            let faults_before = faults.len();
            let mut key = self.key(&path, &variables, faults);
            if name == own && !self.is_kept_elsewhere(&path) {
                // A key that the platform's own settings give is this account's, before any variable.
                key = self.given_key(&format!("platforms.{platform}"), faults).or(key);
            }
            match key {
                Some(key) => match accounts.iter().find(|other| is_same(&other.key, &key)) {
                    Some(other) => faults.push(format!("{path}: its key is the key of {}, too", other.id)),
                    None => accounts.push(self.account(platform, &name, key)),
                },
                None if faults.len() == faults_before => {
                    let variables = variables.join(" or ");
                    faults.push(format!("{path}: there is no key; set {variables}, api_key_file or api_key_command"));
                }
                None => {}
            }
        }
        accounts
    }

    fn named_accounts(&self, platform: &str) -> BTreeSet<String> {
        let prefix = format!("platforms.{platform}.accounts.");
        let names = self.values.keys().filter_map(|path| path.strip_prefix(&prefix)?.split('.').next());
        names.map(str::to_owned).collect()
    }

    /// With the account's own settings, and else the platform's.
    fn account(&self, platform: &str, name: &str, key: KeySource) -> AccountConfig {
        let count = |setting: &str| {
            let own = self.count(&format!("platforms.{platform}.accounts.{name}.{setting}"));
            own.or_else(|| self.count(&format!("platforms.{platform}.{setting}")))
        };
        let narrow = |setting: &str| count(setting).and_then(|count| u32::try_from(count).ok());
        AccountConfig {
            id: AccountId::new(name),
            key,
            tier: count("tier"),
            requests_per_minute: narrow("requests_per_minute"),
            uploads_per_minute: narrow("uploads_per_minute"),
            upload_bytes_per_second: count("upload_bytes_per_second"),
            concurrency: count("concurrency").and_then(|count| usize::try_from(count).ok()),
            account_concurrency: narrow("account_concurrency"),
            max_files: count("max_files"),
            max_total_bytes: count("max_total_bytes"),
        }
    }

    /// The names that SDKs and the existing tool use, unless the settings name one.
    pub(super) fn key_variables(&self, platform: &str) -> Vec<String> {
        if let Some(variable) = self.text(&format!("platforms.{platform}.api_key_env")) {
            return vec![variable.to_owned()];
        }
        match platform {
            "moonshot" => vec!["MOONSHOT_API_KEY".into(), "KIMI_API_KEY".into()],
            "zai" => vec!["ZAI_API_KEY".into(), "GLM_API_KEY".into()],
            "zhipu" => vec!["ZHIPUAI_API_KEY".into()],
            other => vec![format!("{}_API_KEY", variable_part(other))],
        }
    }

    fn account_key_variables(&self, platform: &str, name: &str) -> Vec<String> {
        if let Some(variable) = self.text(&format!("platforms.{platform}.accounts.{name}.api_key_env")) {
            return vec![variable.to_owned()];
        }
        let usual = if platform == "zhipu" { "ZHIPUAI".to_owned() } else { variable_part(platform) };
        vec![format!("{usual}_API_KEY_{}", variable_part(name))]
    }

    /// From the call, or the file or the command that the settings name.
    fn given_key(&self, path: &str, faults: &mut Vec<String>) -> Option<KeySource> {
        if let Some(giver) = self.givers.get(path) {
            return Some(KeySource::Asked(giver.clone()));
        }
        if let Some(key) = self.text(&format!("{path}.api_key")) {
            return Some(KeySource::given(Secret::new(key), "the call"));
        }
        if let Some(words) = self.words(&format!("{path}.api_key_command")) {
            return Some(KeySource::Command(words));
        }
        let file = format!("{path}.api_key_file");
        let (_, origin) = self.values.get(&file)?;
        let source = KeySource::File(self.path(&file)?);
        match source.read() {
            Ok(_) => Some(source),
            Err(error) => {
                faults.push(format!("{origin}: {file}: {}", error.message()));
                None
            }
        }
    }

    fn key(&self, path: &str, variables: &[String], faults: &mut Vec<String>) -> Option<KeySource> {
        if self.is_kept_elsewhere(path) || self.values.contains_key(&format!("{path}.api_key")) {
            return self.given_key(path, faults);
        }
        let set = variables.iter().find_map(|variable| {
            let key = self.env.get(variable).map(|key| key.trim()).filter(|key| !key.is_empty())?;
            Some((variable, Secret::new(key)))
        });
        set.map(|(variable, key)| KeySource::given(key, format!("variable {variable}")))
    }

    /// In a file or behind a command.
    fn is_kept_elsewhere(&self, path: &str) -> bool {
        ["api_key_file", "api_key_command"].iter().any(|name| self.values.contains_key(&format!("{path}.{name}")))
    }
}

/// Where an account's key comes from, and whether it is there. Never the key.
#[derive(Clone, Debug, Serialize)]
pub struct CredentialStatus {
    pub platform: PlatformId,
    /// `None` where there is no key.
    pub account: Option<AccountId>,
    /// The place: "variable MOONSHOT_API_KEY", "file /etc/key", "command pass", "the call".
    pub source: Option<String>,
    /// Tells keys apart: 8 hexadecimal characters. Of a command it is known only when it was run.
    pub fingerprint: Option<String>,
    /// What is wrong, or where a key would be looked for.
    pub problem: Option<String>,
}

impl Config {
    /// How each account comes by its key. With `runs_commands`, commands and functions are run for that. Blocking.
    pub fn credentials(&self, runs_commands: bool) -> Vec<CredentialStatus> {
        let mut statuses = Vec::new();
        for platform in &self.platforms {
            let nothing = CredentialStatus {
                platform: platform.id.clone(),
                account: None,
                source: None,
                fingerprint: None,
                problem: None,
            };
            for account in &platform.accounts {
                let is_read = runs_commands || !account.key.is_asked();
                let (fingerprint, problem) = match is_read.then(|| account.key.read()).transpose() {
                    Ok(key) => (key.as_ref().map(fingerprint), None),
                    Err(error) => (None, Some(error.message().to_owned())),
                };
                let (account, source) = (Some(account.id.clone()), Some(account.key.to_string()));
                statuses.push(CredentialStatus { account, source, fingerprint, problem, ..nothing.clone() });
            }
            if platform.accounts.is_empty() {
                let variables = platform.key_variables.join(" or ");
                let problem = Some(format!("no key: set {variables}, api_key_file or api_key_command"));
                statuses.push(CredentialStatus { problem, ..nothing });
            }
        }
        statuses
    }
}

/// A command is not run to find that out.
fn is_same(one: &KeySource, other: &KeySource) -> bool {
    match (one, other) {
        (KeySource::Command(one), KeySource::Command(other)) => one == other,
        _ if one.is_asked() || other.is_asked() => false,
        _ => one.read().is_ok_and(|one| other.read().is_ok_and(|other| one.expose() == other.expose())),
    }
}

/// As a part of a variable's name.
fn variable_part(name: &str) -> String {
    name.to_ascii_uppercase().replace(['-', '.'], "_")
}
