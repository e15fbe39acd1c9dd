//! The key that checkpoints are signed with, and persons named by.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use ring::hmac;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sha2::{Digest as _, Sha256};

use super::note::NAME;
use crate::draft::Draft;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;

/// What a key file begins with.
const PREFIX: &str = "exai-files-audit-key ";

/// Marks a public key as one of Ed25519, in signed notes.
const ED25519_MARK: u8 = 1;

/// A private key. Shown nowhere.
pub struct AuditKey {
    pair: Ed25519KeyPair,
    pseudonyms: hmac::Key,
}

impl std::fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AuditKey({})", self.verifying())
    }
}

impl AuditKey {
    /// # Errors
    /// `Config` when they make no key.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| unusable("it is no Ed25519 key"))?;
        let of_seed = hmac::Key::new(hmac::HMAC_SHA256, seed);
        let secret = hmac::sign(&of_seed, b"pseudonyms of persons");
        Ok(AuditKey { pair, pseudonyms: hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref()) })
    }

    /// A key that is kept nowhere.
    ///
    /// # Errors
    /// As [`from_seed`](Self::from_seed).
    pub fn random() -> Result<Self> {
        Self::from_seed(&rand::random())
    }

    /// The key in a file, which is made where it is not there.
    ///
    /// # Errors
    /// `Config` when it cannot be made or read, others may read it, or it holds no key.
    pub fn load_or_make(path: &Path) -> Result<Self> {
        let named = |what: String| unusable(&format!("{}: {what}", path.display()));
        if !path.exists() {
            make(path).map_err(|error| named(format!("cannot be made: {error}")))?;
        }
        let mode = fs::metadata(path).map_err(|error| named(format!("cannot be read: {error}")))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(named("may be read by others; chmod 600 it".into()));
        }
        let text = fs::read_to_string(path).map_err(|error| named(format!("cannot be read: {error}")))?;
        let seed = text.trim().strip_prefix(PREFIX).and_then(|seed| BASE64.decode(seed).ok());
        let seed = seed.and_then(|seed| <[u8; 32]>::try_from(seed).ok());
        Self::from_seed(&seed.ok_or_else(|| named("holds no key".into()))?)
    }

    pub fn verifying(&self) -> VerifyingKey {
        let mut public = [0; 32];
        public.copy_from_slice(self.pair.public_key().as_ref());
        VerifyingKey(public)
    }

    pub(super) fn sign(&self, text: &[u8]) -> Vec<u8> {
        self.pair.sign(text).as_ref().to_vec()
    }

    /// The same for the same person, and telling nobody without the key who it is.
    pub(super) fn pseudonym(&self, person: &str) -> String {
        let mac = hmac::sign(&self.pseudonyms, person.as_bytes());
        mac.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Whole or not at all: another process may be making it too.
fn make(path: &Path) -> std::io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let mut draft = Draft::of(path, 0o600)?;
    writeln!(draft.file(), "{PREFIX}{}", BASE64.encode(rand::random::<[u8; 32]>()))?;
    failpoint("key", "drafted").map_err(std::io::Error::other)?;
    match draft.publish_new() {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    }
}

fn unusable(why: &str) -> Error {
    Error::new(ErrorKind::Config, format!("audit.key_file: {why}"))
        .with_hint("name a file that only this user can read")
}

/// A public key, written `exai-files-audit+<id>+<base64>` as signed notes have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyingKey([u8; 32]);

impl VerifyingKey {
    pub(super) fn id(&self) -> [u8; 4] {
        let mut hasher = Sha256::new();
        hasher.update(NAME);
        hasher.update([b'\n', ED25519_MARK]);
        hasher.update(self.0);
        let hash = hasher.finalize();
        [hash[0], hash[1], hash[2], hash[3]]
    }

    pub(super) fn has_signed(&self, text: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(text, signature).is_ok()
    }
}

impl std::fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut marked = vec![ED25519_MARK];
        marked.extend(self.0);
        write!(f, "{NAME}+{:08x}+{}", u32::from_be_bytes(self.id()), BASE64.encode(marked))
    }
}

impl std::str::FromStr for VerifyingKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // Base64 may have a + of its own.
        let public = text.trim().splitn(3, '+').nth(2).and_then(|key| BASE64.decode(key).ok());
        let public = public.filter(|bytes| bytes.first() == Some(&ED25519_MARK));
        let key = public.and_then(|bytes| <[u8; 32]>::try_from(&bytes[1..]).ok()).map(VerifyingKey);
        key.filter(|key| key.to_string() == text.trim()).ok_or_else(|| {
            Error::new(ErrorKind::InvalidRequest, "this is no public key of an audit log")
                .with_hint("`exai-files audit key` prints it")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{AuditKey, VerifyingKey};

    #[test]
    fn every_key_is_read_as_it_is_written() {
        for seed in 0..=255 {
            let key = AuditKey::from_seed(&[seed; 32]).map(|key| key.verifying());
            let read = key.as_ref().map(|key| key.to_string().parse::<VerifyingKey>());
            assert!(matches!((&key, &read), (Ok(key), Ok(Ok(read))) if key == read), "{key:?}");
        }
    }
}
