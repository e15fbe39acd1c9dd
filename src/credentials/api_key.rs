//! A key that is sent as it is: Moonshot's `sk-…`, Z.ai's `id.secret` (platform_api.md §3.1).

use async_trait::async_trait;

use super::{CredentialProvider, fingerprint};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Secret;

#[derive(Debug)]
pub struct ApiKey {
    key: Secret,
    fingerprint: String,
}

impl ApiKey {
    /// # Errors
    /// `Config` when the key is empty or has characters that no header may have.
    pub fn new(key: Secret) -> Result<Self> {
        if key.expose().is_empty() || !key.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::new(
                ErrorKind::Config,
                "the API key is empty or has blanks or other unsendable characters",
            )
            .with_hint("copy it again from the platform's console, without quotes or line ends"));
        }
        Ok(ApiKey { fingerprint: fingerprint(&key), key })
    }
}

#[async_trait]
impl CredentialProvider for ApiKey {
    async fn credential(&self) -> Result<Secret> {
        Ok(self.key.clone())
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn renew(&self, _server_time: Option<Timestamp>) -> bool {
        false
    }
}
