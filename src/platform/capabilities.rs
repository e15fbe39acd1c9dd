//! What a platform can do and where it ends, as dated data.

use std::time::Duration;

use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::model::{ContentKind, PlatformId};

pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;

/// A number somebody published: who, and when it was read.
#[derive(Clone, Debug, Serialize)]
pub struct Fact<T> {
    pub value: T,
    pub source: String,
    pub as_of: String,
}

impl<T> Fact<T> {
    pub fn new(value: T, source: &str, as_of: &str) -> Self {
        Fact { value, source: source.to_owned(), as_of: as_of.to_owned() }
    }
}

/// One purpose and its rules.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PurposeRule {
    /// The word on the wire.
    pub wire: String,
    /// Other spellings that people use for it.
    pub aliases: Vec<String>,
    /// Extensions the platform names, without the dot.
    pub extensions: Vec<String>,
    /// Whether the platform takes no others.
    pub extensions_closed: bool,
    /// Bytes per file.
    pub max_bytes: Option<u64>,
    /// Bytes per image, where images have a limit of their own.
    pub max_image_bytes: Option<u64>,
    /// Files of this purpose per account.
    pub max_files: Option<u64>,
    pub content: ContentKind,
    pub listable: bool,
    /// Whether the platform's own documentation names it.
    pub documented: bool,
}

/// A limit that comes with the money spent.
#[derive(Clone, Debug, Serialize)]
pub struct Tier {
    pub tier: u8,
    pub requests_per_minute: u32,
    pub concurrency: u32,
}

/// Everything we know of one platform.
#[derive(Clone, Debug, Serialize)]
pub struct Capabilities {
    pub platform: PlatformId,
    pub region: String,
    pub base_url: String,
    /// When this table was last checked against its sources.
    pub revision: String,
    pub purposes: Vec<PurposeRule>,
    /// What a file of this type (a MIME type, its start, or an extension) is uploaded for when the call does not
    /// say; the last one takes the rest.
    pub defaults: Vec<(String, String)>,
    /// Purposes the platform has but that need more than a file, and why.
    pub refused: Vec<(String, String)>,
    /// Bytes per file, of any purpose.
    pub max_file_bytes: Option<Fact<u64>>,
    pub max_files: Option<Fact<u64>>,
    pub max_total_bytes: Option<Fact<u64>>,
    pub retention_days: Option<Fact<u64>>,
    pub tiers: Option<Fact<Vec<Tier>>>,
    pub has_get: bool,
    pub list_needs_purpose: bool,
    /// Generation of the text extraction: texts of another one may differ.
    pub parser_epoch: Option<Fact<String>>,
}

impl Default for ContentKind {
    /// What is not documented is not promised.
    fn default() -> Self {
        ContentKind::Opaque
    }
}

impl Capabilities {
    /// The rule for a purpose in any accepted spelling, or for the file's type when none is given.
    ///
    /// # Errors
    /// `InvalidRequest` with the list of valid ones.
    pub fn purpose(&self, spelling: Option<&str>, name: &str, mime: &str) -> Result<&PurposeRule> {
        let Some(spelling) = spelling else { return self.default_purpose(name, mime) };
        let wanted = spelling.trim().to_ascii_lowercase();
        let fits = |rule: &&PurposeRule| rule.wire == wanted || rule.aliases.contains(&wanted);
        if let Some(rule) = self.purposes.iter().find(fits) {
            return Ok(rule);
        }
        let why = self.refused.iter().find(|(purpose, _)| *purpose == wanted).map(|(_, why)| why.as_str());
        let what = match why {
            Some(why) => format!("{} takes {spelling:?} only with more than a file: {why}", self.platform),
            None => format!("{} has no purpose {spelling:?}", self.platform),
        };
        Err(Error::new(ErrorKind::InvalidRequest, what)
            .with_hint(format!("valid are: {}", self.spellings().join(", "))))
    }

    fn default_purpose(&self, name: &str, mime: &str) -> Result<&PurposeRule> {
        let extension = extension(name);
        let fits = |kind: &str| kind == "*" || mime.starts_with(kind) || kind == extension;
        let wire = self.defaults.iter().find(|(kind, _)| fits(kind)).map(|(_, wire)| wire);
        self.purposes.iter().find(|rule| Some(&rule.wire) == wire).or(self.purposes.first()).ok_or_else(|| {
            Error::new(ErrorKind::Config, format!("{} has no purposes", self.platform))
                .with_hint("name them under `purposes` in its table")
        })
    }

    fn spellings(&self) -> Vec<&str> {
        self.purposes
            .iter()
            .flat_map(|rule| std::iter::once(&rule.wire).chain(&rule.aliases))
            .map(String::as_str)
            .collect()
    }

    /// Refuses what the platform is known to refuse, before a byte is sent.
    ///
    /// # Errors
    /// `TooLarge` with the limit, or `Unsupported` for an extension outside a closed list.
    pub fn check(&self, rule: &PurposeRule, name: &str, size: u64, mime: &str) -> Result<()> {
        let image_limit = rule.max_image_bytes.filter(|_| mime.starts_with("image/"));
        let general = self.max_file_bytes.as_ref().map(|fact| fact.value);
        let limit = image_limit.or(rule.max_bytes).or(general).unwrap_or(u64::MAX);
        if size > limit {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("{} takes at most {limit} bytes for {}, and {name:?} has {size}", self.platform, rule.wire),
            )
            .with_hint("split it, or use a platform that takes it")
            .with_sizes(size, limit));
        }
        if rule.extensions_closed && !rule.extensions.contains(&extension(name)) {
            let list = rule.extensions.iter().map(|e| format!(".{e}")).collect::<Vec<_>>().join(", ");
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{} takes {name:?} for {} only as {list}", self.platform, rule.wire),
            )
            .with_hint("convert the file, or use another purpose"));
        }
        Ok(())
    }

    /// Refuses a file that is too large for every purpose, before it is even read.
    ///
    /// # Errors
    /// `TooLarge` with the largest limit.
    pub fn check_size(&self, name: &str, size: u64) -> Result<()> {
        let general = self.max_file_bytes.as_ref().map(|fact| fact.value);
        let of_rule = |rule: &PurposeRule| rule.max_bytes.or(general).unwrap_or(u64::MAX);
        let limit = self.purposes.iter().map(of_rule).max().unwrap_or(u64::MAX);
        if size <= limit {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::TooLarge,
            format!("{} takes at most {limit} bytes, and {name:?} has {size}", self.platform),
        )
        .with_hint("split it, or use a platform that takes it")
        .with_sizes(size, limit))
    }

    pub fn rule(&self, wire: &str) -> Option<&PurposeRule> {
        self.purposes.iter().find(|rule| rule.wire == wire)
    }

    /// How long the platform keeps a file, where it says so.
    pub fn retention(&self) -> Option<Duration> {
        self.retention_days.as_ref().map(|days| Duration::from_secs(days.value * 86_400))
    }

    pub fn parser_epoch(&self) -> &str {
        self.parser_epoch.as_ref().map_or("", |epoch| &epoch.value)
    }
}

fn extension(name: &str) -> String {
    name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default()
}
