//! Where the `Authorization` header comes from.

mod api_key;
mod keys;
mod oauth;
mod sealing;
mod source;
mod stores;
mod zhipu_jwt;

use std::fmt;

use async_trait::async_trait;
use ring::digest::{SHA256, digest};

use crate::clock::Timestamp;
use crate::error::Result;
use crate::model::Secret;

pub use api_key::ApiKey;
pub(crate) use keys::checked;
pub use oauth::{AuthorizationServer, DeviceCode, KimiDevice, OAuth, OAuthParts, Polled, ServerOptions, Tokens};
pub use sealing::MasterKey;
pub use source::{KeyGiver, KeySource};
pub use stores::{CredentialStore, DatabaseStore, FileStore, Slot, Stored, StoredKey, VaultSecret};
pub use zhipu_jwt::ZhipuJwt;

/// Why a platform would not have a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its time is over, by the platform's clock.
    Expired { server_time: Option<Timestamp> },
    /// The platform does not know it.
    Unknown,
}

/// Gives a fresh credential for one account.
#[async_trait]
pub trait CredentialProvider: Send + Sync + fmt::Debug {
    /// What goes behind `Bearer`.
    ///
    /// # Errors
    /// `Config` when it cannot be had; `Unauthenticated` when all there is was refused.
    async fn credential(&self) -> Result<Secret>;

    /// The platform has refused this one. `true` when there may be another by now.
    fn refused(&self, credential: &Secret, why: Refusal) -> bool;

    /// The platform knows this one.
    fn accepted(&self, _credential: &Secret) {}
}

/// Tells keys apart without showing them: 8 hexadecimal characters.
pub fn fingerprint(secret: &Secret) -> String {
    let digest = digest(&SHA256, format!("exai-files fingerprint {}", secret.expose()).as_bytes());
    digest.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}
