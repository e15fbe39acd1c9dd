//! The other side of the counter: truth, stored files, faults, clock, settings.

use base64::Engine as _;
use std::collections::HashMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::World;
use super::accounts;
use super::clock::{parse, rfc3339};
use super::faults::{Fault, Rule};
use super::ids::{self, Random};
use super::oauth::{self, OAuth};
use super::operations::{Shelf, Stored};
use super::profile::Profile;
use super::refusals;
use super::settings::Settings;

/// Why an administrative request was refused.
#[derive(Debug)]
pub struct AdminError {
    /// As HTTP says it.
    pub status: u16,
    pub message: String,
}

impl std::fmt::Display for AdminError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for AdminError {}

type Outcome = Result<Value, AdminError>;

fn bad(message: impl Into<String>) -> AdminError {
    AdminError { status: 400, message: message.into() }
}

pub(super) fn handle(world: &World, method: &str, target: &str, body: Option<Value>) -> Outcome {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = pairs(query);
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let body = body.unwrap_or(Value::Null);
    match (method, parts.as_slice()) {
        ("GET", ["truth"]) => {
            let after = query.get("after").and_then(|after| after.parse().ok()).unwrap_or(0);
            let fits = |wanted: Option<&String>, is: &str| wanted.is_none_or(|wanted| wanted == is);
            let entries = world.truth.select(|entry| {
                entry.seq > after
                    && fits(query.get("platform"), entry.platform)
                    && fits(query.get("operation"), entry.operation)
            });
            Ok(json!(entries))
        }
        ("GET", ["files"]) => files(world, query.get("platform").map(String::as_str)),
        ("GET", ["files", platform, id, "bytes"]) => {
            let bytes = stored(world, platform, id)?;
            Ok(json!(base64::engine::general_purpose::STANDARD.encode(bytes)))
        }
        ("POST", ["files", platform]) => seed_file(world, profile(platform)?, &body),
        ("DELETE", ["files", platform, id]) => {
            let gone = world.shelf(profile(platform)?).remove(id);
            gone.map(|file| describe(&file)).ok_or_else(|| not_there(id))
        }
        ("GET", ["oauth"]) => Ok(super::lock(&world.oauth).describe()),
        ("POST", ["oauth", what]) => {
            let fields = object(&body, &["user_code", "user"])?;
            let text = |name: &str| fields.get(name).and_then(Value::as_str);
            let mut oauth = super::lock(&world.oauth);
            match *what {
                "approve" => oauth.decide(text("user_code"), Some(text("user").unwrap_or(oauth::USER))).map_err(bad)?,
                "deny" => oauth.decide(text("user_code"), None).map_err(bad)?,
                "expire" => oauth.expire_access_tokens(),
                "revoke" => oauth.revoke_logins(),
                _ => return Err(bad("what can be done to logins is approve, deny, expire and revoke")),
            }
            Ok(oauth.describe())
        }
        ("GET", ["faults"]) => Ok(json!(super::lock(&world.faults).rules)),
        ("POST", ["faults"]) => add_faults(world, body),
        ("DELETE", ["faults"]) => {
            super::lock(&world.faults).rules.clear();
            Ok(Value::Null)
        }
        ("GET", ["clock"]) => Ok(clock(world)),
        ("POST", ["clock"]) => set_clock(world, &body),
        ("GET", ["settings"]) => Ok(Profile::ALL
            .into_iter()
            .map(|p| (p.name().to_owned(), json!(world.shelf(p).settings)))
            .collect::<Map<_, _>>()
            .into()),
        ("GET", ["settings", platform]) => Ok(json!(world.shelf(profile(platform)?).settings)),
        ("POST", ["settings"]) => apply_settings(world, &body).map(|()| Value::Null),
        ("POST", ["settings", platform]) => {
            change_settings(world, profile(platform)?, &body)?;
            Ok(json!(world.shelf(profile(platform)?).settings))
        }
        ("POST", ["reset"]) => {
            reset(world);
            Ok(Value::Null)
        }
        ("GET", ["health"]) => {
            let panics = super::lock(&world.panics).clone();
            Ok(json!({"ok": panics.is_empty(), "panics": panics}))
        }
        _ => Err(AdminError {
            status: 404,
            message: format!(
                "no {method} {path}; there are truth, files, oauth, faults, clock, settings, reset and health"
            ),
        }),
    }
}

/// The parameters of a query.
pub(super) fn pairs(query: &str) -> HashMap<String, String> {
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

/// A stored file's bytes, when that is what is asked for over HTTP.
pub(super) fn stored_bytes(world: &World, method: &str, path: &str) -> Option<Bytes> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match (method, parts.as_slice()) {
        ("GET", ["files", platform, id, "bytes"]) => stored(world, platform, id).ok(),
        _ => None,
    }
}

fn stored(world: &World, platform: &str, id: &str) -> Result<Bytes, AdminError> {
    let shelf = world.shelf(profile(platform)?);
    shelf.files.get(id).and_then(|file| file.bytes.clone()).ok_or_else(|| not_there(id))
}

fn not_there(id: &str) -> AdminError {
    AdminError { status: 404, message: format!("no file {id:?} is stored") }
}

fn profile(name: &str) -> Result<Profile, AdminError> {
    Profile::named(name).ok_or_else(|| AdminError {
        status: 404,
        message: format!("no platform {name:?}; there are moonshot, zai, kimi_code and zhipu_cn"),
    })
}

fn describe(file: &Stored) -> Value {
    json!({
        "id": file.id, "account": file.account, "filename": file.filename, "purpose": file.purpose, "mime": file.mime,
        "bytes": file.size, "sha256": file.sha256, "created_at": rfc3339(file.created),
        "expires_at": file.expires.map(rfc3339),
    })
}

fn files(world: &World, platform: Option<&str>) -> Outcome {
    let mut all = Vec::new();
    for profile in Profile::ALL {
        if platform.is_some_and(|name| name != profile.name()) {
            continue;
        }
        let shelf = world.shelf(profile);
        let mut files: Vec<&Stored> = shelf.files.values().collect();
        files.sort_by_key(|file| file.number);
        for file in files {
            let mut described = describe(file);
            described["platform"] = json!(profile.name());
            all.push(described);
        }
    }
    match platform {
        Some(name) => profile(name).map(|_| json!(all)),
        None => Ok(json!(all)),
    }
}

/// A file that someone else put there.
fn seed_file(world: &World, profile: Profile, body: &Value) -> Outcome {
    let known = ["filename", "purpose", "text", "base64", "key", "created_at", "mime"];
    let fields = object(body, &known)?;
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let bytes: Bytes = match (text("base64"), text("text")) {
        (Some(encoded), _) => {
            base64::engine::general_purpose::STANDARD.decode(encoded).map_err(|_| bad("base64 is not base64"))?.into()
        }
        (None, content) => content.unwrap_or("seeded").to_owned().into(),
    };
    let purpose = text("purpose").unwrap_or(if profile.speaks_zai() { "agent" } else { "file-extract" }).to_owned();
    let created = text("created_at").map(parse).transpose().map_err(bad)?.unwrap_or_else(|| world.clock.now());
    let mut shelf = world.shelf(profile);
    let id = ids::file_id(&mut super::lock(&world.random), profile, shelf.settings.id_style, &purpose, created);
    let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let file = shelf.put(Stored {
        id,
        account: accounts::account(text("key").unwrap_or(profile.default_key())),
        filename: text("filename").unwrap_or("seeded.txt").to_owned(),
        purpose,
        mime: text("mime").unwrap_or("text/plain").to_owned(),
        size: bytes.len() as u64,
        sha256,
        text: std::str::from_utf8(&bytes).ok().map(str::to_owned),
        bytes: Some(bytes),
        created,
        expires: None,
        number: 0,
    });
    Ok(describe(&file))
}

fn add_faults(world: &World, body: Value) -> Outcome {
    let rules = if body.is_array() { body } else { Value::Array(vec![body]) };
    let rules: Vec<Rule> = serde_json::from_value(rules).map_err(|error| bad(format!("no such fault: {error}")))?;
    for rule in &rules {
        check_rule(rule)?;
    }
    super::lock(&world.faults).rules.extend(rules);
    Ok(Value::Null)
}

fn check_rule(rule: &Rule) -> Result<(), AdminError> {
    let operations = ["any", "upload", "list", "get", "content", "delete", "device", "token", "other"];
    if !operations.contains(&rule.operation.as_str()) {
        return Err(bad(format!("no operation {:?}; there are {}", rule.operation, operations.join(", "))));
    }
    match &rule.fault {
        Fault::Error { code: Some(code), .. } if !refusals::is_code(code) => {
            Err(bad(format!("no business code {code:?} in platform_api.md §4B.3")))
        }
        Fault::Error { code: None, r#type: Some(kind), .. } if !refusals::is_type(kind) => {
            Err(bad(format!("no error type {kind:?} in platform_api.md §4A")))
        }
        Fault::Shape { shape } if refusals::shape(*shape, "").is_none() => {
            Err(bad("shapes are 1 to 11, as in platform_api.md §4B.2"))
        }
        Fault::Status { status, .. } | Fault::Html { status } if !(200..=599).contains(status) => {
            Err(bad(format!("no HTTP status {status}")))
        }
        _ => Ok(()),
    }
}

fn clock(world: &World) -> Value {
    json!({"now": rfc3339(world.clock.now()), "frozen": world.clock.is_frozen()})
}

fn set_clock(world: &World, body: &Value) -> Outcome {
    let fields = object(body, &["now", "advance", "freeze"])?;
    if let Some(now) = fields.get("now") {
        world.clock.set(parse(now.as_str().unwrap_or_default()).map_err(bad)?);
    }
    if let Some(advance) = fields.get("advance") {
        let seconds = advance.as_f64().ok_or_else(|| bad("advance is a number of seconds"))?;
        world.clock.set(world.clock.now() + (seconds * 1e6) as i64);
    }
    if let Some(freeze) = fields.get("freeze") {
        world.clock.freeze(freeze.as_bool().ok_or_else(|| bad("freeze is true or false"))?);
    }
    Ok(clock(world))
}

/// Settings by profile name.
pub(super) fn apply_settings(world: &World, body: &Value) -> Result<(), AdminError> {
    let fields = body.as_object().ok_or_else(|| bad("settings are an object with a key for each platform"))?;
    for (name, settings) in fields {
        change_settings(world, profile(name)?, settings)?;
    }
    Ok(())
}

/// Changes what is named; `tier` stands for Moonshot's requests per minute and concurrency.
fn change_settings(world: &World, profile: Profile, body: &Value) -> Result<(), AdminError> {
    let mut changes = body.as_object().cloned().ok_or_else(|| bad("settings are an object"))?;
    let tier = changes.remove("tier");
    let mut shelf = world.shelf(profile);
    let mut merged = json!(shelf.settings);
    if let Some(settings) = merged.as_object_mut() {
        settings.extend(changes);
    }
    let mut settings: Settings =
        serde_json::from_value(merged).map_err(|error| bad(format!("no such setting: {error}")))?;
    if let Some(tier) = tier.as_ref().and_then(Value::as_u64) {
        settings.apply_tier(tier as usize).map_err(bad)?;
    }
    shelf.settings = settings;
    Ok(())
}

/// Everything as at the start, with the settings kept.
fn reset(world: &World) {
    for profile in Profile::ALL {
        let mut shelf = world.shelf(profile);
        let settings = shelf.settings.clone();
        *shelf = Shelf::new(profile);
        shelf.settings = settings;
    }
    *super::lock(&world.random) = Random::new(world.seed);
    super::lock(&world.faults).rules.clear();
    super::lock(&world.panics).clear();
    *super::lock(&world.oauth) = OAuth::default();
    world.truth.clear();
}

fn object<'b>(body: &'b Value, known: &[&str]) -> Result<&'b Map<String, Value>, AdminError> {
    static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    let fields = match body {
        Value::Null => return Ok(&EMPTY),
        body => body.as_object().ok_or_else(|| bad("the body is an object"))?,
    };
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        Some(unknown) => Err(bad(format!("no field {unknown:?}; there are {}", known.join(", ")))),
        None => Ok(fields),
    }
}
