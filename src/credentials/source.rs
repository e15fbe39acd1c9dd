//! Where a key is kept, and reading it from there.

use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::error::{Error, ErrorKind, Result};
use crate::model::Secret;

/// How long a command may take: it may ask a person.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked whether it has ended.
const LOOKS_EVERY: Duration = Duration::from_millis(5);

/// No key is longer than this, in bytes.
const LONGEST: u64 = 64 << 10;

/// What names of variables that hold secrets have in them: a command needs none of ours.
const SECRETS: [&str; 6] = ["API_KEY", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "DATABASE_URL", "DB_URL", "REDIS_URL"];

/// Where a key is kept.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// It stays as it is while the process runs; `by` says who gave it, for people.
    Given { key: Secret, by: String },
    /// A file that nobody else may read. It is read again when it changes.
    File(PathBuf),
    /// What a command prints, as its words. It is run at the first call, and again when its key is refused.
    Command(Vec<String>),
    /// What somebody gives who is asked, likewise.
    Asked(Arc<dyn KeyGiver>),
    /// A secret of the registry's Supabase Vault, by its name: to be asked for once the registry is open.
    Vault(String),
}

/// Somebody who gives a key when asked.
pub trait KeyGiver: Send + Sync + fmt::Debug {
    /// For people, such as "function tokens.current".
    fn name(&self) -> String;

    /// A key, or why there is none, to be read after "it". Blocking.
    fn give(&self) -> std::result::Result<Secret, String>;
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::Given { by, .. } => f.write_str(by),
            KeySource::File(path) => write!(f, "file {}", path.display()),
            // Its arguments may say where a key is, and are nobody's business.
            KeySource::Command(words) => write!(f, "command {}", words.first().map_or("", String::as_str)),
            KeySource::Asked(giver) => f.write_str(&giver.name()),
            KeySource::Vault(name) => write!(f, "vault secret {name}"),
        }
    }
}

/// A file as it was when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    length: u64,
    modified_at: SystemTime,
}

impl KeySource {
    pub fn given(key: Secret, by: impl Into<String>) -> Self {
        KeySource::Given { key, by: by.into() }
    }

    /// Reads it. Blocking.
    ///
    /// # Errors
    /// `Config`, saying why it cannot be had.
    pub fn read(&self) -> Result<Secret> {
        let read = match self {
            KeySource::Given { key, .. } => Ok(key.clone()),
            KeySource::File(path) => read_file(path),
            KeySource::Command(words) => run(words),
            KeySource::Asked(giver) => giver.give().and_then(|key| trimmed(key.expose())),
            KeySource::Vault(_) => Err("is only there while the registry is open".to_owned()),
        };
        read.map_err(|why| {
            Error::new(ErrorKind::Config, format!("the key of {self} cannot be had: it {why}"))
                .with_hint("`exai-files auth status` shows where each key comes from")
        })
    }

    /// Whether reading it may take long, or ask a person.
    pub fn is_asked(&self) -> bool {
        matches!(self, KeySource::Command(_) | KeySource::Asked(_) | KeySource::Vault(_))
    }

    /// Whether another key may come from there.
    pub(super) fn may_change(&self) -> bool {
        !matches!(self, KeySource::Given { .. })
    }

    /// Of a file: how it is now.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        let KeySource::File(path) = self else { return None };
        let there = std::fs::metadata(path).ok()?;
        Some(Stamp { inode: there.ino(), length: there.len(), modified_at: there.modified().ok()? })
    }
}

/// A key file that others may read is no secret.
fn read_file(path: &Path) -> std::result::Result<Secret, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err("may be read by others; chmod 600 it".to_owned());
    }
    trimmed(&std::fs::read_to_string(path).map_err(unreadable)?)
}

fn trimmed(text: &str) -> std::result::Result<Secret, String> {
    match text.trim() {
        "" => Err("is empty".to_owned()),
        key => Ok(Secret::new(key)),
    }
}

fn run(words: &[String]) -> std::result::Result<Secret, String> {
    let [program, arguments @ ..] = words else { return Err("names no program".to_owned()) };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| SECRETS.iter().any(|secret| name.contains(secret))) {
            command.env_remove(name);
        }
    }
    let mut child = command.spawn().map_err(|error| format!("cannot be run: {error}"))?;
    let Some(mut output) = child.stdout.take() else { return Err("has no output".to_owned()) };
    let reading = std::thread::spawn(move || {
        let mut text = zeroize::Zeroizing::new(String::new());
        output.by_ref().take(LONGEST).read_to_string(&mut text).map(|_| text)
    });
    wait(&mut child)?;
    match reading.join() {
        Ok(Ok(text)) => trimmed(&text),
        _ => Err("does not print text".to_owned()),
    }
}

fn wait(child: &mut Child) -> std::result::Result<(), String> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("ended with {status}")),
            Ok(None) if Instant::now() < give_up => std::thread::sleep(LOOKS_EVERY),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("took longer than {} s", PATIENCE.as_secs()));
            }
            Err(error) => return Err(format!("cannot be waited for: {error}")),
        }
    }
}
