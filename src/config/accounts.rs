//! A platform's accounts and their keys.

use std::collections::BTreeSet;

use super::{AccountConfig, Config, read_key};
use crate::model::{AccountId, Secret};

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
            if name == own && !self.values.contains_key(&format!("{path}.api_key_file")) {
                // A key that the platform's own settings give is this account's, before any variable.
                key = self.given_key(&format!("platforms.{platform}"), faults).or(key);
            }
            match key {
                Some(key) => match accounts.iter().find(|other| other.key.expose() == key.expose()) {
                    Some(other) => faults.push(format!("{path}: its key is the key of {}, too", other.id)),
                    None => accounts.push(self.account(platform, &name, key)),
                },
                None if faults.len() == faults_before => {
                    faults.push(format!("{path}: there is no key; set {} or api_key_file", variables.join(" or ")));
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
    fn account(&self, platform: &str, name: &str, key: Secret) -> AccountConfig {
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

    /// From the call, or the file that the settings name.
    fn given_key(&self, path: &str, faults: &mut Vec<String>) -> Option<Secret> {
        if let Some(key) = self.text(&format!("{path}.api_key")) {
            return Some(Secret::new(key));
        }
        let file = format!("{path}.api_key_file");
        let (_, origin) = self.values.get(&file)?;
        read_key(&self.path(&file)?).map_err(|why| faults.push(format!("{origin}: {file}: {why}"))).ok()
    }

    fn key(&self, path: &str, variables: &[String], faults: &mut Vec<String>) -> Option<Secret> {
        let is_given =
            ["api_key", "api_key_file"].iter().any(|name| self.values.contains_key(&format!("{path}.{name}")));
        if is_given {
            return self.given_key(path, faults);
        }
        let set = variables.iter().find_map(|variable| self.env.get(variable).filter(|key| !key.trim().is_empty()));
        set.map(|key| Secret::new(key.trim()))
    }
}

/// As a part of a variable's name.
fn variable_part(name: &str) -> String {
    name.to_ascii_uppercase().replace(['-', '.'], "_")
}
