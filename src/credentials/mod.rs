//! Where the `Authorization` header comes from.

mod api_key;
mod zhipu_jwt;

use std::fmt;

use async_trait::async_trait;
use ring::digest::{SHA256, digest};

use crate::clock::Timestamp;
use crate::error::Result;
use crate::model::Secret;

pub use api_key::ApiKey;
pub use zhipu_jwt::ZhipuJwt;

/// Gives a fresh credential for one account.
#[async_trait]
pub trait CredentialProvider: Send + Sync + fmt::Debug {
    /// What goes behind `Bearer`.
    async fn credential(&self) -> Result<Secret>;

    /// Tells keys apart without showing them: 8 hexadecimal characters.
    fn fingerprint(&self) -> &str;

    /// The platform calls the credential expired; `server_time` is its clock. `true` when there will be a new one.
    fn renew(&self, server_time: Option<Timestamp>) -> bool;
}

fn fingerprint(secret: &Secret) -> String {
    let digest = digest(&SHA256, format!("exai-files fingerprint {}", secret.expose()).as_bytes());
    digest.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}
