//! Who may call, and what each of them may have.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Config;
use super::schema::USER;
use crate::clock::Timestamp;
use crate::credentials::KeySource;
use crate::model::Secret;
use crate::policy::token::{TokenRules, check_secret};
use crate::policy::user_quota::{UserLimits, UserQuotas};

/// Variables that hold the secret, by the existing tool's name and Supabase's; the first that is set counts.
const SECRETS: [&str; 3] = ["JWT_SECRET_KEY", "SUPABASE_JWT_SECRET", "JWT_SECRET"];

impl Config {
    pub(super) fn token_rules(&self, faults: &mut Vec<String>) -> TokenRules {
        let variable = |name: &str| self.env.get(name).map(|text| text.trim()).filter(|text| !text.is_empty());
        let said = |setting: &str, name: &str| {
            self.text(setting).map(str::to_owned).or_else(|| variable(name).map(str::to_owned))
        };
        let grace_until = self.text("access.grace_until").map(Timestamp::parse_rfc3339);
        if grace_until == Some(None) {
            faults.push("access.grace_until: must be a moment such as \"2026-12-31T00:00:00Z\"".into());
        }
        TokenRules {
            issuer: said("access.jwt_issuer", "JWT_ISSUER"),
            audience: said("access.jwt_audience", "JWT_AUDIENCE"),
            leeway: self.duration("access.jwt_leeway").unwrap_or(Duration::from_secs(60)),
            grace_until: grace_until.flatten(),
        }
    }

    /// A command is not run to find out whether its secret is good.
    pub(super) fn jwt_secret(&self, faults: &mut Vec<String>) -> Option<KeySource> {
        let named = |name: &&str| self.env.get(*name).is_some_and(|secret| !secret.trim().is_empty());
        let variable = SECRETS.into_iter().find(named);
        let given =
            || variable.map(|name| KeySource::given(Secret::new(self.env[name].trim()), format!("variable {name}")));
        let command = self.words("access.jwt_secret_command").map(KeySource::Command);
        let file = self.path("access.jwt_secret_file").map(KeySource::File);
        let source = command.or(file).or_else(given)?;
        let read = if source.is_asked() { Ok(()) } else { source.read().and_then(|secret| check_secret(&secret)) };
        if let Err(error) = read {
            faults.push(format!("{source}: {}", error.message()));
        }
        Some(source)
    }

    pub(super) fn user_quotas(&self) -> UserQuotas {
        let prefix = USER.trim_end_matches("*.");
        let of_users = self.values.keys().filter_map(|path| path.strip_prefix(prefix)?.rsplit_once('.'));
        let users: BTreeSet<&str> = of_users.map(|(user, _)| user).collect();
        let by_user: BTreeMap<String, UserLimits> =
            users.into_iter().map(|user| (user.to_owned(), self.limits(&format!("{prefix}{user}.")))).collect();
        UserQuotas { everybody: self.limits("quotas."), by_user }
    }

    fn limits(&self, of: &str) -> UserLimits {
        let count = |setting: &str| self.count(&format!("{of}{setting}"));
        UserLimits {
            max_files: count("max_files"),
            max_bytes: count("max_bytes"),
            max_file_bytes: count("max_file_bytes"),
        }
    }
}
