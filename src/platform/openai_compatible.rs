//! Any other platform with an OpenAI-shaped file API, described as data.

use serde::Deserialize;

use super::capabilities::{Capabilities, Fact, PurposeRule};
use super::errors::{ErrorTable, Row};
use super::files_api::{GetRule, ListRule, Profile};
use crate::error::{ErrorKind, Result, Retry};
use crate::model::{ContentKind, PlatformId};

/// One table of the configuration: everything that differs from OpenAI's own API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenAiCompatible {
    pub base_url: String,
    /// The first one takes files whose call names none.
    #[serde(default)]
    pub purposes: Vec<PurposeTable>,
    #[serde(default)]
    pub list_needs_purpose: bool,
    #[serde(default = "yes")]
    pub has_get: bool,
    /// Bytes per file.
    #[serde(default)]
    pub max_file_bytes: Option<u64>,
    #[serde(default)]
    pub max_files: Option<u64>,
    #[serde(default)]
    pub retention_days: Option<u64>,
}

/// One purpose of such a platform.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PurposeTable {
    pub name: String,
    #[serde(default)]
    pub aliases: Vec<String>,
    #[serde(default = "opaque")]
    pub content: ContentKind,
    #[serde(default)]
    pub max_bytes: Option<u64>,
}

fn yes() -> bool {
    true
}

fn opaque() -> ContentKind {
    ContentKind::Opaque
}

impl OpenAiCompatible {
    /// # Errors
    /// `InvalidRequest` for a bad name.
    pub fn profile(&self, name: &str) -> Result<Profile> {
        let fact = |value: Option<u64>| value.map(|value| Fact::new(value, "your configuration", ""));
        Ok(Profile {
            capabilities: Capabilities {
                platform: PlatformId::new(name)?,
                region: String::new(),
                base_url: self.base_url.clone(),
                revision: "your configuration".into(),
                purposes: self.purpose_rules(),
                defaults: Vec::new(),
                refused: Vec::new(),
                max_file_bytes: fact(self.max_file_bytes),
                max_files: fact(self.max_files),
                max_total_bytes: None,
                retention_days: fact(self.retention_days),
                tiers: None,
                has_get: self.has_get,
                list_needs_purpose: self.list_needs_purpose,
                parser_epoch: None,
            },
            get: if self.has_get { GetRule::Native } else { GetRule::Emulated },
            list: if self.list_needs_purpose { ListRule::EachPurpose } else { ListRule::All },
            errors: ErrorTable { rows: ERRORS },
        })
    }

    /// OpenAI's own purposes (platform_api.md §9.1) unless the table names others.
    fn purpose_rules(&self) -> Vec<PurposeRule> {
        let rule = |table: &PurposeTable| PurposeRule {
            wire: table.name.clone(),
            aliases: table.aliases.clone(),
            content: table.content,
            max_bytes: table.max_bytes,
            listable: true,
            documented: true,
            ..PurposeRule::default()
        };
        if !self.purposes.is_empty() {
            return self.purposes.iter().map(rule).collect();
        }
        ["user_data", "assistants", "vision", "batch", "fine-tune", "evals"]
            .map(|name| {
                let content =
                    if matches!(name, "batch" | "fine-tune") { ContentKind::Bytes } else { ContentKind::Opaque };
                rule(&PurposeTable { name: name.into(), aliases: Vec::new(), content, max_bytes: None })
            })
            .into()
    }
}

/// OpenAI's error codes that say more than their status.
const ERRORS: &[Row] = &[
    Row {
        status: 429,
        code: "insufficient_quota",
        text: "",
        kind: ErrorKind::Billing,
        retry: Retry::Never,
        breaker: false,
    },
    Row { status: 400, code: "", text: "", kind: ErrorKind::InvalidRequest, retry: Retry::Never, breaker: false },
];
