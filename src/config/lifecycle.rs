//! Rules about how long files stay, from their settings.

use std::collections::BTreeSet;

use super::Config;
use super::schema::RULE;
use crate::model::PlatformId;
use crate::policy::retention::{Rule, Then};

impl Config {
    pub(super) fn rules(&self, faults: &mut Vec<String>) -> Vec<Rule> {
        let of_rules = self.values.keys().filter_map(|path| path.strip_prefix(RULE.trim_end_matches("*.")));
        let names: BTreeSet<&str> = of_rules.filter_map(|rest| rest.split('.').next()).collect();
        names.into_iter().filter_map(|name| self.rule(name, faults)).collect()
    }

    fn rule(&self, name: &str, faults: &mut Vec<String>) -> Option<Rule> {
        let of = |setting: &str| RULE.replace('*', name) + setting;
        let text = |setting: &str| self.text(&of(setting)).map(str::to_owned);
        let platform = text("platform");
        let id = platform.as_deref().map(PlatformId::new).transpose();
        let is_known = |id: &PlatformId| self.platforms.iter().any(|platform| platform.id == *id);
        if let Some(platform) = platform.filter(|_| !id.as_ref().is_ok_and(|id| id.as_ref().is_some_and(is_known))) {
            faults.push(format!("{}platform: there is no platform {platform:?}", of("")));
            return None;
        }
        let rule = Rule {
            name: name.to_owned(),
            tag: text("tag"),
            platform: id.ok().flatten(),
            keep_last: self.count(&of("keep_last")),
            keep_within: self.duration(&of("keep_within")),
            then: match text("then").as_deref() {
                Some("archive") => Then::Archive,
                Some("trash") => Then::Trash,
                _ => Then::Delete,
            },
        };
        if rule.platform.is_some() && rule.then == Then::Trash {
            faults.push(format!(
                "{}then: a file is in the trash everywhere, not on one platform: leave platform out, or say delete or archive",
                of("")
            ));
        }
        if rule.keep_last.is_none() && rule.keep_within.is_none() {
            faults.push(format!(
                "{}: a rule needs keep_last, keep_within or both: else it keeps nothing",
                of("").trim_end_matches('.')
            ));
        }
        Some(rule)
    }
}
