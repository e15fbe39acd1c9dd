//! Sealing what is kept: the master key opens it, and nothing else does.
//!
//! From the master key's text, which may be a person's passphrase, argon2id makes an age identity (X25519); what is
//! sealed is an age file, so that it can be opened without this package too.

use std::collections::HashMap;
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, MutexGuard};

use age::x25519::Identity;
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use zeroize::Zeroizing;

use super::KeySource;
use crate::draft::Draft;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Secret;

/// What a sealed text begins with; argon2id's figures go with it.
const MARK: &str = "exai-files-sealed-1";

/// 64 MiB, three passes, one lane: some 0.15 s and nothing for a machine full of guessers (reliability.md §6.1).
const COST: (u32, u32, u32) = (64 << 10, 3, 1);

const SALT: usize = 16;

type Salt = [u8; SALT];

/// Seals and opens.
#[derive(Clone)]
pub struct MasterKey {
    source: Arc<KeySource>,
    /// Where it is made when it is needed and not there.
    makes: Option<Arc<Path>>,
    identities: Arc<Mutex<Identities>>,
}

/// Making one takes long, so they are kept; sealing uses the salt that was met last.
#[derive(Default)]
struct Identities {
    by_salt: HashMap<Salt, Identity>,
    latest: Option<Salt>,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.source)
    }
}

impl MasterKey {
    pub fn new(source: KeySource) -> Self {
        MasterKey { source: Arc::new(source), makes: None, identities: Arc::default() }
    }

    /// One that is kept nowhere.
    pub fn random() -> Self {
        MasterKey::new(KeySource::given(random_text(), "this process"))
    }

    /// The key in a file, which is made when something is to be sealed and it is not there.
    pub fn in_file(path: &Path) -> Self {
        MasterKey { makes: Some(path.into()), ..MasterKey::new(KeySource::File(path.to_owned())) }
    }

    /// Where it comes from.
    pub fn source(&self) -> &KeySource {
        &self.source
    }

    /// # Errors
    /// `Config` when the key cannot be had, or made.
    pub fn seal(&self, text: &Secret) -> Result<String> {
        if let Some(path) = self.makes.as_deref().filter(|path| !path.exists()) {
            make(path).map_err(|error| {
                Error::new(ErrorKind::Config, format!("the master key {} cannot be made: {error}", path.display()))
                    .with_hint("set credentials.master_key_file")
            })?;
        }
        let salt = self.identities().latest.unwrap_or_else(rand::random);
        let recipient = self.identity(salt)?.to_public();
        let sealed = age::encrypt(&recipient, text.expose().as_bytes())
            .map_err(|error| Error::new(ErrorKind::Config, "a credential could not be sealed").with_source(error))?;
        Ok(format!("{MARK} {} {}", BASE64.encode(salt), BASE64.encode(sealed)))
    }

    /// # Errors
    /// `Config` when the key cannot be had or is another one; `Integrity` when the text was altered.
    pub fn open(&self, sealed: &str) -> Result<Secret> {
        let altered = || Error::new(ErrorKind::Integrity, "a sealed credential was altered").with_hint("log in anew");
        let parts: Vec<&str> = sealed.split(' ').collect();
        let [MARK, salt, sealed] = parts[..] else { return Err(altered()) };
        let decoded = |text| BASE64.decode(text).map_err(|_| altered());
        let (salt, sealed) = (Salt::try_from(decoded(salt)?).map_err(|_| altered())?, decoded(sealed)?);
        let opened = age::decrypt(&self.identity(salt)?, &sealed).map(Zeroizing::new).map_err(|error| match error {
            age::DecryptError::NoMatchingKeys => Error::new(
                ErrorKind::Config,
                format!("the credentials were sealed with another master key than that of {}", self.source),
            )
            .with_hint("set credentials.master_key_file, or log in anew"),
            _ => altered(),
        })?;
        String::from_utf8(opened.to_vec()).map(Secret::new).map_err(|_| altered())
    }

    fn identity(&self, salt: Salt) -> Result<Identity> {
        let mut identities = self.identities();
        identities.latest = Some(salt);
        if let Some(identity) = identities.by_salt.get(&salt) {
            return Ok(identity.clone());
        }
        let identity = derive(&self.source.read()?, &salt)?;
        identities.by_salt.insert(salt, identity.clone());
        Ok(identity)
    }

    fn identities(&self) -> MutexGuard<'_, Identities> {
        self.identities.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn derive(passphrase: &Secret, salt: &Salt) -> Result<Identity> {
    let unusable = || Error::new(ErrorKind::Config, "the master key cannot be used");
    let (memory, passes, lanes) = COST;
    let params = Params::new(memory, passes, lanes, Some(32)).map_err(|_| unusable())?;
    let mut secret = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.expose().as_bytes(), salt, secret.as_mut())
        .map_err(|_| unusable())?;
    let prefix = bech32::Hrp::parse("age-secret-key-").map_err(|_| unusable())?;
    let encoded = bech32::encode::<bech32::Bech32>(prefix, secret.as_ref()).map_err(|_| unusable())?;
    Identity::from_str(&Zeroizing::new(encoded.to_uppercase())).map_err(|_| unusable())
}

fn random_text() -> Secret {
    Secret::new(BASE64.encode(rand::random::<[u8; 32]>()))
}

/// Whole or not at all: another process may be making it too.
fn make(path: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let mut draft = Draft::of(path, 0o600)?;
    writeln!(draft.file(), "{}", random_text().expose())?;
    match draft.publish_new() {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> MasterKey {
        MasterKey::new(KeySource::given(Secret::new(text), "a test"))
    }

    #[test]
    fn what_is_sealed_is_opened_by_the_same_key_alone() {
        let one = key("correct horse");
        let sealed = one.seal(&Secret::new("sk-secret")).unwrap();
        assert!(!sealed.contains("sk-secret"));
        assert_eq!(key("correct horse").open(&sealed).unwrap().expose(), "sk-secret");
        assert_eq!(key("battery staple").open(&sealed).unwrap_err().kind(), ErrorKind::Config);
    }

    #[test]
    fn a_sealed_text_that_was_altered_is_refused() {
        let key = key("correct horse");
        let sealed = key.seal(&Secret::new("sk-secret")).unwrap();
        let at = sealed.rfind(' ').unwrap() + 1;
        let bytes = BASE64.decode(&sealed[at..]).unwrap();
        for position in 0..bytes.len() {
            let mut other = bytes.clone();
            other[position] ^= 1;
            let altered = format!("{}{}", &sealed[..at], BASE64.encode(other));
            assert!(key.open(&altered).is_err(), "byte {position}");
        }
        for text in ["", "exai-files-sealed-1", "exai-files-sealed-1 AA== AA==", "exai-files-sealed-2 x y"] {
            assert_eq!(key.open(text).unwrap_err().kind(), ErrorKind::Integrity, "{text:?}");
        }
    }

    #[test]
    fn a_key_file_is_made_for_this_user_alone_and_then_kept() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("master-key");
        let sealed = MasterKey::in_file(&path).seal(&Secret::new("a")).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(MasterKey::in_file(&path).open(&sealed).unwrap().expose(), "a");
    }
}
