//! What a setting may be, and whether a value is that.

use std::time::Duration;

use serde_json::{Value, json};

use crate::model::Reach;

/// What a setting may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Text,
    /// A file or directory; `~` is the home directory.
    Path,
    /// `true` or `false`.
    Flag,
    Count {
        min: u64,
        max: u64,
    },
    /// Seconds as a number, or `"30s"`, `"5m"`, `"1h"`, `"7d"`.
    Seconds {
        min: f64,
    },
    /// Bytes as a number, or `"100 MiB"`.
    Bytes,
    OneOf(&'static [&'static str]),
    /// A list of strings.
    Names,
    /// A program and its arguments.
    Words,
    /// An http(s) base URL without user information.
    BaseUrl,
    /// An http(s) proxy.
    ProxyUrl,
    /// One server, a Sentinel's master or a Cluster; a password is never shown.
    RedisUrl,
    DatabaseUrl,
    /// A list of tables, for `OpenAiCompatible::purposes`.
    Purposes,
    /// Taken from the call only, and never shown.
    Secret,
}

impl Kind {
    /// A value in its plain form: seconds and bytes as numbers.
    ///
    /// # Errors
    /// What it must be instead.
    pub(super) fn check(self, value: &Value) -> Result<Value, String> {
        let text = || value.as_str().filter(|text| !text.is_empty());
        match self {
            Kind::Text | Kind::Path | Kind::Secret => text().map(|text| json!(text)).ok_or("must be text".into()),
            Kind::Flag => value.as_bool().map(|flag| json!(flag)).ok_or("must be true or false".into()),
            Kind::Count { min, max } => {
                let fits = value.as_u64().filter(|count| (min..=max).contains(count));
                fits.map(|count| json!(count)).ok_or_else(|| match max {
                    u64::MAX => format!("must be a whole number from {min}"),
                    max => format!("must be a whole number from {min} to {max}"),
                })
            }
            Kind::Seconds { min } => {
                let seconds = value.as_f64().or_else(|| text().and_then(seconds_of));
                let fits = seconds.filter(|seconds| *seconds >= min && Duration::try_from_secs_f64(*seconds).is_ok());
                fits.map(|seconds| json!(seconds))
                    .ok_or("must be seconds, such as 30, or \"30s\", \"5m\", \"2h\" or \"90d\"".into())
            }
            Kind::Bytes => {
                let bytes = value.as_u64().or_else(|| text().and_then(bytes_of)).filter(|bytes| *bytes > 0);
                bytes.map(|bytes| json!(bytes)).ok_or("must be bytes, such as 1048576 or \"1 MiB\"".into())
            }
            Kind::OneOf(words) => {
                let fits = text().filter(|word| words.contains(word));
                fits.map(|word| json!(word)).ok_or_else(|| format!("must be one of {}", words.join(", ")))
            }
            Kind::Names => {
                let names = value.as_array().filter(|names| names.iter().all(Value::is_string));
                names.map(|names| json!(names)).ok_or("must be a list of names, such as [\"moonshot\"]".into())
            }
            Kind::Words => {
                let words = value.as_array().filter(|words| !words.is_empty() && words.iter().all(Value::is_string));
                words
                    .map(|words| json!(words))
                    .ok_or("must be a program and its arguments, such as [\"pass\", \"show\", \"moonshot\"]".into())
            }
            Kind::BaseUrl => text().ok_or("must be a URL".into()).and_then(base_url).map(Value::String),
            Kind::ProxyUrl => {
                let is_proxy = |text: &&str| {
                    url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
                };
                text().filter(is_proxy).map(|text| json!(text)).ok_or("must be an http:// or https:// URL".into())
            }
            Kind::DatabaseUrl => text().ok_or("must be a URL".into()).and_then(database_url).map(Value::String),
            Kind::RedisUrl => text().ok_or("must be a URL".into()).and_then(redis_url).map(Value::String),
            Kind::Purposes => match value.is_array() {
                true => Ok(value.clone()),
                false => Err("must be a list of tables, each with a name".into()),
            },
        }
    }
}

fn seconds_of(text: &str) -> Option<f64> {
    let (number, unit) = text.trim().split_at(text.trim().find(|c: char| c.is_ascii_alphabetic())?);
    let factor = match unit.trim() {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    number.trim().parse::<f64>().ok().map(|number| number * factor)
}

fn bytes_of(text: &str) -> Option<u64> {
    let (number, unit) = text.trim().split_at(text.trim().find(|c: char| c.is_ascii_alphabetic())?);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "b" => 1,
        "kb" => 1_000,
        "kib" => 1 << 10,
        "mb" => 1_000_000,
        "mib" => 1 << 20,
        "gb" => 1_000_000_000,
        "gib" => 1 << 30,
        _ => return None,
    };
    number.trim().parse::<f64>().ok().filter(|number| *number >= 0.0).map(|number| (number * factor as f64) as u64)
}

fn redis_url(text: &str) -> Result<String, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let (security, servers) = scheme.split_once('+').unwrap_or((scheme, ""));
    if !matches!(security, "redis" | "rediss") || !matches!(servers, "" | "sentinel" | "cluster") {
        return Err("must begin with redis://, rediss://, redis+sentinel:// or redis+cluster://".into());
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    if hosts.split(',').any(str::is_empty) {
        return Err("must name a host".into());
    }
    match (servers, path) {
        ("", _) if hosts.contains(',') => {
            Err("must name one host; redis+sentinel:// and redis+cluster:// take more".into())
        }
        ("sentinel", "") => Err("must end with the master's name, such as /mymaster".into()),
        _ => Ok(text.to_owned()),
    }
}

/// A PostgreSQL URL.
///
/// # Errors
/// What it must be instead.
pub fn database_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
    let rest = rest.ok_or("must begin with postgres:// (or be a `registry.path`)")?;
    if rest.split_once('?').is_some_and(|(_, query)| query.contains("password")) {
        return Err("must carry a password before its host, not after its database".into());
    }
    Ok(text.to_owned())
}

/// A URL with a list of hosts, which no URL parser reads.
pub(super) fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((user, _)) => format!("{scheme}://{}", &rest[user.len() + 1..]),
        _ => text.to_owned(),
    }
}

/// Without a trailing slash, because `//files` is another route on some gateways (platform_api.md §7.2).
pub(super) fn base_url(text: &str) -> Result<String, String> {
    // Parsers do not agree on what these mean.
    if text.contains(['\\', '\t', '\n', '\r']) || text.contains(":///") {
        return Err("must be a URL such as https://api.example.com/v1".into());
    }
    let url = url::Url::parse(text).map_err(|_| "must be a URL such as https://api.example.com/v1")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not carry a user name or password".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not carry a query or a fragment".into());
    }
    let is_loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => Reach::ThisMachine.allows(address.into()),
        Some(url::Host::Ipv6(address)) => Reach::ThisMachine.allows(address.into()),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => return Err("must name a host".into()),
    };
    match url.scheme() {
        "https" => {}
        "http" if is_loopback => {}
        "http" => return Err("must be https: a key would travel in the clear".into()),
        _ => return Err("must be https".into()),
    }
    Ok(text.trim_end_matches('/').to_owned())
}
