//! A key that is sent as it is: Moonshot's `sk-…`, Z.ai's `id.secret` (platform_api.md §3.1).

use async_trait::async_trait;

use super::keys::{Keys, checked};
use super::{CredentialProvider, KeySource, Refusal, fingerprint};
use crate::error::Result;
use crate::model::Secret;

#[derive(Debug)]
pub struct ApiKey(Keys);

impl ApiKey {
    /// # Errors
    /// `Config` when a given key is empty or has characters that no header may have; others are read at the first call.
    pub fn new(source: KeySource) -> Result<Self> {
        if let KeySource::Given { key, .. } = &source {
            checked(key)?;
        }
        Ok(ApiKey(Keys::new(source)))
    }
}

#[async_trait]
impl CredentialProvider for ApiKey {
    async fn credential(&self) -> Result<Secret> {
        Ok(self.0.current().await?.secret)
    }

    fn refused(&self, credential: &Secret, _why: Refusal) -> bool {
        self.0.refuse(&fingerprint(credential))
    }
}
