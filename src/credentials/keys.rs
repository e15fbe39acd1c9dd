//! The key of an account as it is now: one that is replaced where it is kept is used without a restart.

use std::sync::{Arc, Mutex, MutexGuard};

use super::fingerprint;
use super::source::{KeySource, Stamp};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Secret;

/// A key that was read, and the file as it was then.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub secret: Secret,
    pub fingerprint: String,
    stamp: Option<Stamp>,
}

#[derive(Debug, Default)]
struct State {
    known: Option<Key>,
    /// The fingerprint of one that its platform does not know.
    refused: Option<String>,
}

#[derive(Debug)]
pub(super) struct Keys {
    source: Arc<KeySource>,
    state: Mutex<State>,
    /// Many may want it at once, and one reads.
    reading: tokio::sync::Mutex<()>,
}

impl Keys {
    pub fn new(source: KeySource) -> Self {
        Keys { source: Arc::new(source), state: Mutex::default(), reading: tokio::sync::Mutex::new(()) }
    }

    /// The key that is to be used now.
    ///
    /// # Errors
    /// `Config` when it cannot be had; `Unauthenticated` when its platform has refused it, and there is no other.
    pub async fn current(&self) -> Result<Key> {
        if let Some(key) = self.usable() {
            return Ok(key);
        }
        let _one = self.reading.lock().await;
        if let Some(key) = self.usable() {
            return Ok(key);
        }
        let (source, stamp) = (self.source.clone(), self.source.stamp());
        let reading = tokio::task::spawn_blocking(move || source.read());
        let secret = reading.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Cancelled, "the client was closed while it fetched a key"))
        })?;
        let key = Key { fingerprint: fingerprint(&checked(&secret)?), secret, stamp };
        let mut state = self.state();
        state.known = Some(key.clone());
        match state.refused.as_deref() == Some(&key.fingerprint) {
            false => Ok(key),
            true => Err(Error::new(
                ErrorKind::Unauthenticated,
                format!("the platform does not know the key {}, and {} gives no other", key.fingerprint, self.source),
            )
            .with_hint("put a key there that the platform knows; it is used at the next call")),
        }
    }

    /// The platform does not know this key. Whether it may be worth to ask for the current one.
    pub fn refuse(&self, fingerprint: &str) -> bool {
        let mut state = self.state();
        match &state.known {
            // Another one has come meanwhile.
            Some(known) if known.fingerprint != fingerprint => true,
            _ => {
                state.refused = Some(fingerprint.to_owned());
                self.source.may_change()
            }
        }
    }

    pub fn may_change(&self) -> bool {
        self.source.may_change()
    }

    fn usable(&self) -> Option<Key> {
        let state = self.state();
        let known = state.known.as_ref()?;
        let is_refused = self.source.may_change() && state.refused.as_deref() == Some(&known.fingerprint);
        (!is_refused && known.stamp == self.source.stamp()).then(|| known.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// # Errors
/// `Config` when it is empty or has characters that no header may have.
pub(crate) fn checked(key: &Secret) -> Result<Secret> {
    if key.expose().is_empty() || !key.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::new(ErrorKind::Config, "the API key is empty or has blanks or other unsendable characters")
            .with_hint("copy it again from the platform's console, without quotes or line ends"));
    }
    Ok(key.clone())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::path::Path;

    use super::*;

    fn write(path: &Path, text: &str) {
        let _ = std::fs::remove_file(path);
        let mut open = std::fs::OpenOptions::new();
        let mut file = open.write(true).create_new(true).mode(0o600).open(path).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    }

    #[tokio::test]
    async fn a_key_that_is_replaced_in_its_file_is_used_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, "sk-first\n");
        let keys = Keys::new(KeySource::File(path.clone()));
        let first = keys.current().await.unwrap();
        assert_eq!(first.secret.expose(), "sk-first");
        write(&path, "sk-second\n");
        let second = keys.current().await.unwrap();
        assert_eq!(second.secret.expose(), "sk-second");
        assert!(keys.refuse(&first.fingerprint), "that was the old one: the new one may be known");
        assert_eq!(keys.current().await.unwrap().fingerprint, second.fingerprint);
    }

    #[tokio::test]
    async fn a_refused_key_is_not_sent_again_until_there_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, "sk-revoked");
        let keys = Keys::new(KeySource::File(path.clone()));
        let revoked = keys.current().await.unwrap();
        assert!(keys.refuse(&revoked.fingerprint), "another one may be there by now");
        let error = keys.current().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        assert!(!error.message().contains("sk-revoked"), "{error}");
        write(&path, "sk-good");
        assert_eq!(keys.current().await.unwrap().secret.expose(), "sk-good");
    }

    #[tokio::test]
    async fn a_command_is_run_once_and_again_when_its_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let count = folder.path().join("count");
        let script = format!("echo >> {0}; echo \"sk-$(wc -l < {0})\"", count.display());
        let keys = Keys::new(KeySource::Command(vec!["sh".into(), "-c".into(), script]));
        let (one, two) = tokio::join!(keys.current(), keys.current());
        assert_eq!((one.unwrap().secret.expose(), two.unwrap().secret.expose()), ("sk-1", "sk-1"));
        let first = keys.current().await.unwrap();
        assert!(keys.refuse(&first.fingerprint));
        assert_eq!(keys.current().await.unwrap().secret.expose(), "sk-2");
    }

    #[tokio::test]
    async fn what_gives_no_key_says_why_and_never_what_it_printed() {
        for (words, said) in [
            (vec!["/nonexistent/program"], "cannot be run"),
            (vec!["false"], "ended with"),
            (vec!["true"], "is empty"),
            (vec!["sh", "-c", "echo sk-with blank"], "unsendable"),
        ] {
            let words = words.into_iter().map(str::to_owned).collect();
            let error = Keys::new(KeySource::Command(words)).current().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().contains(said) && !error.message().contains("sk-with"), "{error}");
        }
        assert!(!Keys::new(KeySource::Given { key: Secret::new("k"), by: "the call".into() }).refuse("x"));
    }
}
