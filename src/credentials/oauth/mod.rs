//! OAuth 2: access tokens that are had with a refresh token (device login, RFC 8628), or with a client's own secret.

mod kimi;
mod refresh;
mod server;
mod tokens;
mod turns;

use std::sync::Arc;

use async_trait::async_trait;

use super::keys::Keys;
use super::stores::{CredentialStore, Slot};
use super::{CredentialProvider, KeySource, Refusal, fingerprint};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Secret;
use crate::store::Store;

pub use kimi::KimiDevice;
pub use server::{AuthorizationServer, DeviceCode, Polled, ServerOptions};
pub use tokens::Tokens;

use refresh::{Grant, Known, Refresher};

/// The access tokens of one account: had anew before they end, by one of all who share the registry.
#[derive(Debug)]
pub struct OAuth(Arc<Refresher>);

/// What it works with.
#[derive(Debug)]
pub struct OAuthParts {
    pub slot: Slot,
    pub server: AuthorizationServer,
    /// Where the tokens are kept.
    pub kept: Arc<dyn CredentialStore>,
    /// Where those who share the tokens take turns.
    pub turns: Store,
    pub clock: Arc<dyn Clock>,
}

impl OAuth {
    /// With the refresh token of a login.
    pub fn of_login(parts: OAuthParts) -> Self {
        OAuth(Arc::new(Refresher::new(parts, Grant::RefreshToken)))
    }

    /// With a client's own secret.
    pub fn of_client(parts: OAuthParts, secret: KeySource) -> Self {
        OAuth(Arc::new(Refresher::new(parts, Grant::ClientSecret(Keys::new(secret)))))
    }

    pub fn server(&self) -> &AuthorizationServer {
        &self.0.server
    }

    /// Gets a new access token, whether the old one is still good or not.
    ///
    /// # Errors
    /// As [`credential`](CredentialProvider::credential).
    pub async fn renew(&self) -> Result<Tokens> {
        self.0.refuse_stored().await?;
        Ok(self.fresh().await?.tokens)
    }

    /// Not with the caller: one that is cancelled in the middle would lose what the server has given for the old token.
    async fn fresh(&self) -> Result<Known> {
        let refreshing = tokio::spawn(self.0.clone().fresh());
        refreshing.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Cancelled, "the client was closed while it fetched a credential"))
        })
    }
}

#[async_trait]
impl CredentialProvider for OAuth {
    /// # Errors
    /// `ReauthRequired` when a person has to log in; `Unavailable` when the login server is.
    async fn credential(&self) -> Result<Secret> {
        let known = match self.0.good_enough() {
            Some(known) => known,
            None => self.fresh().await?,
        };
        Ok(known.tokens.access_token)
    }

    fn refused(&self, credential: &Secret, _why: Refusal) -> bool {
        self.0.refuse(fingerprint(credential))
    }

    fn accepted(&self, credential: &Secret) {
        self.0.accept(credential);
    }
}
