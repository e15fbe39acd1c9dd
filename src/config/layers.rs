//! The layers that settings come from, each value with its origin: default, file, profile, environment, call.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use toml::de::{DeTable, DeValue};

use super::kind::{self, Kind};
use super::schema::{self, SETTINGS, Setting};
use crate::model::PlatformId;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File { path: PathBuf, line: usize },
    Profile { name: String, path: PathBuf, line: usize },
    Environment { name: String },
    Call,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Profile { name, path, line } => write!(f, "{}:{line} [profile.{name}]", path.display()),
            Origin::Environment { name } => write!(f, "environment variable {name}"),
            Origin::Call => f.write_str("the call"),
        }
    }
}

/// Values by path, the strongest layer's last; and what was wrong with any layer.
#[derive(Debug, Default)]
pub(super) struct Layers {
    pub values: BTreeMap<String, (Value, Origin)>,
    pub faults: Vec<String>,
}

/// Prefix of variables that stand for a setting.
const PREFIX: &str = "EXAI_FILES_";

/// Variables with that prefix that are no settings.
const NOT_SETTINGS: [&str; 2] = ["EXAI_FILES_CONFIG", "EXAI_FILES_DISABLE_PROGRESS"];

/// Base URLs under the names that SDKs and the existing tool use.
const WELL_KNOWN: [(&str, &str); 5] = [
    ("KIMI_BASE_URL", "platforms.moonshot.base_url"),
    ("MOONSHOT_BASE_URL", "platforms.moonshot.base_url"),
    ("GLM_API_URL", "platforms.zai.base_url"),
    ("ZAI_BASE_URL", "platforms.zai.base_url"),
    ("ZHIPUAI_BASE_URL", "platforms.zhipu.base_url"),
];

impl Layers {
    pub(super) fn defaults() -> Self {
        let mut layers = Layers::default();
        for setting in SETTINGS.iter().filter(|setting| !setting.path.contains('*')) {
            if let Some(Ok(value)) = setting.default().map(|value| setting.kind.check(&value)) {
                layers.values.insert(setting.path.to_owned(), (value, Origin::Default));
            }
        }
        layers
    }

    // ===== file =====

    pub(super) fn add_file(&mut self, path: &Path, text: &str, profile: Option<&str>) {
        let table = match DeTable::parse(text) {
            Ok(table) => table,
            Err(error) => {
                let line = error.span().map_or(1, |span| line_of(text, span.start));
                self.faults.push(format!("{}:{line}: this is no TOML: {}", path.display(), error.message()));
                return;
            }
        };
        let file = File { path, text };
        let mut profiles = BTreeMap::new();
        for (key, value) in table.get_ref() {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("profile", DeValue::Table(tables)) => {
                    profiles.extend(tables.iter().map(|(name, table)| (name.get_ref().to_string(), table)));
                }
                (name, value) => self.add_toml(&file, name, value, key.span().start, None),
            }
        }
        // Every profile is checked; the chosen one also counts, and last.
        for (name, table) in &profiles {
            let mut checked = Layers::default();
            checked.add_profile(&file, name, table.get_ref());
            self.faults.append(&mut checked.faults);
            if Some(name.as_str()) == profile {
                self.values.extend(checked.values);
            }
        }
        if let Some(wanted) = profile.filter(|wanted| !profiles.is_empty() && !profiles.contains_key(*wanted)) {
            let known: Vec<&str> = profiles.keys().map(String::as_str).collect();
            self.faults.push(format!(
                "environment variable EXAI_ENV: {} has no [profile.{wanted}], only {}",
                path.display(),
                known.join(", ")
            ));
        }
    }

    fn add_profile(&mut self, file: &File<'_>, name: &str, value: &DeValue<'_>) {
        let DeValue::Table(table) = value else { return };
        for (key, value) in table {
            self.add_toml(file, key.get_ref(), value.get_ref(), key.span().start, Some(name));
        }
    }

    fn add_toml(&mut self, file: &File<'_>, path: &str, value: &DeValue<'_>, at: usize, profile: Option<&str>) {
        let is_level = schema::find(path).is_none();
        if let (DeValue::Table(table), true) = (value, is_level) {
            for (key, value) in table {
                self.add_toml(file, &format!("{path}.{}", key.get_ref()), value.get_ref(), key.span().start, profile);
            }
            return;
        }
        let (path_of_file, line) = (file.path.to_owned(), line_of(file.text, at));
        let origin = match profile {
            Some(name) => Origin::Profile { name: name.to_owned(), path: path_of_file, line },
            None => Origin::File { path: path_of_file, line },
        };
        self.add(path, &plain(value), origin);
    }

    // ===== environment =====

    pub(super) fn add_environment(&mut self, environment: &BTreeMap<String, String>) {
        for (name, path) in WELL_KNOWN {
            if let Some(value) = environment.get(name).filter(|value| !value.is_empty()) {
                self.add(path, &Value::String(value.clone()), Origin::Environment { name: name.to_owned() });
            }
        }
        for (name, value) in environment {
            let Some(rest) = name.strip_prefix(PREFIX).filter(|_| !NOT_SETTINGS.contains(&name.as_str())) else {
                continue;
            };
            let path = rest.to_ascii_lowercase().replace("__", ".");
            let value = schema::find(&path).map_or(Value::Null, |setting| from_text(setting, value));
            self.add(&path, &value, Origin::Environment { name: name.clone() });
        }
    }

    // ===== call =====

    pub(super) fn add_call(&mut self, overrides: &Value) {
        self.add_json("", overrides);
    }

    fn add_json(&mut self, path: &str, value: &Value) {
        match value {
            Value::Object(fields) if schema::find(path).is_none() => {
                for (name, value) in fields {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    self.add_json(&path, value);
                }
            }
            Value::Null => {}
            value => self.add(path, value, Origin::Call),
        }
    }

    // ===== one value =====

    fn add(&mut self, path: &str, value: &Value, origin: Origin) {
        let path = canonical(path);
        let Some(setting) = schema::find(&path) else {
            let suggestion = schema::nearest(&path).map_or(String::new(), |near| format!("; did you mean {near}?"));
            self.faults.push(format!("{origin}: {path}: unknown setting{suggestion}"));
            return;
        };
        if setting.kind == Kind::Secret && origin != Origin::Call {
            self.faults.push(format!("{origin}: {path}: keys do not belong into settings; name a variable with api_key_env or a file with api_key_file"));
            return;
        }
        let is_in_file = matches!(origin, Origin::File { .. } | Origin::Profile { .. });
        let has_password = |text: &str| kind::without_password(text) != text;
        let is_url = matches!(setting.kind, Kind::RedisUrl | Kind::DatabaseUrl);
        if is_url && is_in_file && value.as_str().is_some_and(has_password) {
            let variable = format!("{PREFIX}{}", path.to_ascii_uppercase().replace('.', "__"));
            self.faults.push(format!(
                "{origin}: {path}: passwords do not belong into files; set the whole URL in the variable {variable}"
            ));
            return;
        }
        match setting.kind.check(value) {
            Ok(value) => {
                self.values.insert(path, (value, origin));
            }
            Err(must) => self.faults.push(format!("{origin}: {path}: {must}{}", shown(setting, value))),
        }
    }
}

struct File<'f> {
    path: &'f Path,
    text: &'f str,
}

/// `platforms.kimi.tier` is `platforms.moonshot.tier`.
fn canonical(path: &str) -> String {
    let renamed = path.strip_prefix("platforms.").and_then(|rest| rest.split_once('.')).and_then(|(name, rest)| {
        let id = PlatformId::new(name).ok()?;
        Some(format!("platforms.{id}.{rest}"))
    });
    renamed.unwrap_or_else(|| path.to_owned())
}

/// The refused value, where it cannot be a secret.
fn shown(setting: &Setting, value: &Value) -> String {
    match (setting.kind, value) {
        (Kind::Secret | Kind::BaseUrl | Kind::ProxyUrl | Kind::RedisUrl | Kind::DatabaseUrl, _) => String::new(),
        (_, Value::String(text)) if text.len() > 40 => String::new(),
        (_, value) => format!(", not {value}"),
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

fn plain(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or(Value::Null, Value::from)
        }
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Value::Null, Value::from),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(moment) => Value::String(moment.to_string()),
        DeValue::Array(items) => items.iter().map(|item| plain(item.get_ref())).collect(),
        DeValue::Table(table) => Value::Object(
            table.iter().map(|(key, value)| (key.get_ref().to_string(), plain(value.get_ref()))).collect(),
        ),
    }
}

/// A variable's text as the setting's type; what does not fit is left for `check` to refuse.
fn from_text(setting: &Setting, text: &str) -> Value {
    match setting.kind {
        Kind::Flag => match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Value::Bool(true),
            "0" | "false" | "no" | "off" => Value::Bool(false),
            _ => Value::String(text.to_owned()),
        },
        Kind::Names => text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(Value::from).collect(),
        Kind::Count { .. } | Kind::Bytes => text.trim().parse::<u64>().map_or_else(|_| Value::from(text), Value::from),
        Kind::Seconds { .. } => text.trim().parse::<f64>().map_or_else(|_| Value::from(text), Value::from),
        Kind::Purposes => serde_json::from_str(text).unwrap_or(Value::Null),
        Kind::Words => serde_json::from_str(text).unwrap_or_else(|_| text.split_whitespace().collect()),
        _ => Value::String(text.to_owned()),
    }
}
