//! A platform's accounts and their keys.

use std::collections::BTreeSet;

use super::{AccountConfig, Auth, Config};
use crate::credentials::KeySource;
use crate::model::{AccountId, Secret};

impl Config {
    /// The platform's own account, and those that have a table of their own.
    pub(super) fn accounts(&self, platform: &str, auth: &Auth, faults: &mut Vec<String>) -> Vec<AccountConfig> {
        let own = self.text(&format!("platforms.{platform}.account")).unwrap_or("default").to_owned();
        let named = self.named_accounts(platform);
        let mut accounts: Vec<AccountConfig> = Vec::with_capacity(named.len() + 1);
        let has_key = !matches!(auth, Auth::OAuth(_));
        if !named.contains(&own) {
            let variables = self.key_variables(platform);
            let key = has_key.then(|| self.key(&format!("platforms.{platform}"), &variables, faults)).flatten();
            accounts.push(self.account(platform, &own, key, variables, false));
        }
        for name in named {
            let path = format!("platforms.{platform}.accounts.{name}");
            let mut variables = self.account_key_variables(platform, &name);
            if name == own {
                variables.extend(self.key_variables(platform));
            }
            let mut key = has_key.then(|| self.key(&path, &variables, faults)).flatten();
            if has_key && name == own && !self.is_kept_elsewhere(&path) {
                // A key that the platform's own settings give is this account's, before any variable.
                key = self.given_key(&format!("platforms.{platform}"), faults).or(key);
            }
            let is_twin =
                |other: &&AccountConfig| other.key.as_ref().zip(key.as_ref()).is_some_and(|(a, b)| is_same(a, b));
            match accounts.iter().find(is_twin) {
                Some(other) => faults.push(format!("{path}: its key is the key of {}, too", other.id)),
                None => accounts.push(self.account(platform, &name, key, variables, true)),
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
    fn account(
        &self,
        platform: &str,
        name: &str,
        key: Option<KeySource>,
        key_variables: Vec<String>,
        is_named: bool,
    ) -> AccountConfig {
        let count = |setting: &str| {
            let own = self.count(&format!("platforms.{platform}.accounts.{name}.{setting}"));
            own.or_else(|| self.count(&format!("platforms.{platform}.{setting}")))
        };
        let narrow = |setting: &str| count(setting).and_then(|count| u32::try_from(count).ok());
        AccountConfig {
            id: AccountId::new(name),
            key,
            key_variables,
            is_named,
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

    /// From the call, or what the settings name: a command, a file, the registry's vault.
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
        let Some((_, origin)) = self.values.get(&file) else {
            return self.text(&format!("{path}.api_key_vault")).map(|name| KeySource::Vault(name.to_owned()));
        };
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

    /// In a file, behind a command or in the registry's vault.
    fn is_kept_elsewhere(&self, path: &str) -> bool {
        ["api_key_file", "api_key_command", "api_key_vault"]
            .iter()
            .any(|name| self.values.contains_key(&format!("{path}.{name}")))
    }
}

/// A command is not run to find that out.
fn is_same(one: &KeySource, other: &KeySource) -> bool {
    match (one, other) {
        (KeySource::Command(one), KeySource::Command(other)) => one == other,
        (KeySource::Vault(one), KeySource::Vault(other)) => one == other,
        _ if one.is_asked() || other.is_asked() => false,
        _ => one.read().is_ok_and(|one| other.read().is_ok_and(|other| one.expose() == other.expose())),
    }
}

/// As a part of a variable's name.
fn variable_part(name: &str) -> String {
    name.to_ascii_uppercase().replace(['-', '.'], "_")
}
