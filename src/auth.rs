//! Logging in and out: who has a key, from where, and putting one where keys are kept.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde::Serialize;

use crate::audit::Event;
use crate::clock::{Clock, Timestamp};
use crate::config::{self, AccountConfig, PlatformConfig};
use crate::credentials::{
    AuthorizationServer, CredentialStore, DeviceCode, KeySource, MasterKey, OAuth, Polled, Slot, Stored, Tokens,
    fingerprint,
};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AccountId, Actor, PlatformId, Secret};
use crate::policy::token::{TokenRules, check_secret};
use crate::registry::Registry;

/// Where an account's key comes from, and whether it is there. Never the key.
#[derive(Clone, Debug, Serialize)]
pub struct CredentialStatus {
    pub platform: PlatformId,
    /// `None` where there is no key.
    pub account: Option<AccountId>,
    /// "key", "jwt", "oauth" or "client-credentials".
    pub method: &'static str,
    /// The place: "variable MOONSHOT_API_KEY", "file /etc/key", "command pass", "the call", "the registry".
    pub source: Option<String>,
    /// Tells keys apart: 8 hexadecimal characters. Of a command it is known only when it was run.
    pub fingerprint: Option<String>,
    /// When the access token of a login ends; it is had anew before.
    pub expires_at: Option<Timestamp>,
    /// What is wrong, or where a key would be looked for.
    pub problem: Option<String>,
}

/// The accounts of a configuration and what they show for it.
#[derive(Debug)]
pub struct Auth {
    platforms: Vec<PlatformConfig>,
    logins: BTreeMap<Slot, Arc<OAuth>>,
    kept: Arc<dyn CredentialStore>,
    tokens: UserTokens,
    registry: Registry,
    clock: Arc<dyn Clock>,
}

/// Which users' tokens are good, and what they are signed with.
#[derive(Debug)]
pub struct UserTokens {
    pub rules: TokenRules,
    pub secret: Option<KeySource>,
    /// A command is run once.
    pub printed: OnceLock<Secret>,
}

impl UserTokens {
    fn secret(&self) -> Result<Secret> {
        let source = self.secret.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Config, "there is no secret to verify tokens with")
                .with_hint("set JWT_SECRET_KEY, access.jwt_secret_file or access.jwt_secret_command")
        })?;
        if let Some(secret) = self.printed.get() {
            return Ok(secret.clone());
        }
        let secret = source.read()?;
        check_secret(&secret)?;
        Ok(if source.is_asked() { self.printed.get_or_init(|| secret).clone() } else { secret })
    }
}

impl Auth {
    /// `platforms` as the settings have them; `logins` of the accounts that use OAuth.
    pub fn new(
        platforms: Vec<PlatformConfig>,
        logins: BTreeMap<Slot, Arc<OAuth>>,
        kept: Arc<dyn CredentialStore>,
        tokens: UserTokens,
        registry: Registry,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Auth { platforms, logins, kept, tokens, registry, clock }
    }

    /// Whom a user's token names.
    ///
    /// # Errors
    /// As [`TokenRules::verify`]; `Config` when there is no secret for that. Blocking.
    pub fn verify(&self, token: Option<&str>) -> Result<Actor> {
        self.tokens.rules.verify(token, &self.tokens.secret()?, self.clock.now())
    }

    /// Where credentials are looked for, in this order; the first that is named counts.
    pub fn order(&self) -> Vec<String> {
        let places = ["the call", "api_key_command", "api_key_file", "api_key_vault", "variables"];
        places.map(str::to_owned).into_iter().chain([self.kept.name()]).collect()
    }

    /// How each account comes by its credential. With `runs_commands`, commands and functions are run for that.
    /// Blocking.
    pub fn status(&self, runs_commands: bool) -> Vec<CredentialStatus> {
        self.platforms
            .iter()
            .flat_map(|platform| platform.accounts.iter().map(move |account| (platform, account)))
            .map(|(platform, account)| self.status_of(platform, account, runs_commands))
            .collect()
    }

    fn status_of(&self, platform: &PlatformConfig, account: &AccountConfig, runs_commands: bool) -> CredentialStatus {
        let mut status = CredentialStatus {
            platform: platform.id.clone(),
            account: Some(account.id.clone()),
            method: platform.auth.name(),
            source: account.key.as_ref().map(ToString::to_string),
            fingerprint: None,
            expires_at: None,
            problem: None,
        };
        match &account.key {
            Some(key) if key.is_asked() && !runs_commands => {}
            Some(key) => match key.read() {
                Ok(key) => status.fingerprint = Some(fingerprint(&key)),
                Err(error) => status.problem = Some(error.message().to_owned()),
            },
            None => match self.kept.get(&slot_of(platform, account)) {
                Ok(Some(stored)) => {
                    status.source = Some(self.kept.name());
                    match stored {
                        Stored::ApiKey(key) => status.fingerprint = Some(fingerprint(&key)),
                        Stored::Tokens(tokens) => {
                            status.fingerprint = Some(tokens.fingerprint());
                            status.expires_at = Some(tokens.expires_at);
                        }
                    }
                }
                Ok(None) => {
                    status.account = account.is_named.then(|| account.id.clone());
                    status.problem = Some(format!("no key: {}", remedy(platform, account)));
                }
                Err(error) => {
                    (status.source, status.problem) = (Some(self.kept.name()), Some(error.message().to_owned()));
                }
            },
        }
        status
    }

    // ===== putting credentials there =====

    /// Begins a device login: what a person has to do.
    ///
    /// # Errors
    /// `Config` when there is no such account; `Unsupported` where there is no such login; `Unavailable`.
    pub async fn begin_login(&self, slot: &Slot) -> Result<DeviceCode> {
        self.server(slot)?.device_code(&*self.clock).await
    }

    /// Waits until the person has decided, and keeps what the server gives then.
    ///
    /// # Errors
    /// `PermissionDenied` when they said no; `TimedOut` when the code has expired; `Unavailable`.
    pub async fn finish_login(&self, slot: &Slot, mut code: DeviceCode) -> Result<Tokens> {
        let server = self.server(slot)?;
        loop {
            tokio::time::sleep(code.interval).await;
            if let Polled::Granted(tokens) = server.poll(&mut code, &*self.clock).await? {
                self.keep(slot, Stored::Tokens(tokens.clone()), "login").await?;
                return Ok(tokens);
            }
        }
    }

    /// Keeps a key, in place of what there was.
    ///
    /// # Errors
    /// `Config` when there is no such account, its key comes from elsewhere, or this is none.
    pub async fn keep_key(&self, slot: &Slot, key: Secret) -> Result<()> {
        let (platform, account) = self.account(slot)?;
        if let config::Auth::OAuth(_) = platform.auth {
            return Err(Error::new(ErrorKind::Config, format!("{slot} is used with a login, and not with a key"))
                .with_hint(format!("log in, or set platforms.{}.auth = \"key\"", slot.platform)));
        }
        if let Some(elsewhere) = &account.key {
            return Err(Error::new(
                ErrorKind::Config,
                format!("the key of {slot} comes from {elsewhere}, before any that is kept"),
            )
            .with_hint("change it there, or take that away first"));
        }
        self.keep(slot, Stored::ApiKey(crate::credentials::checked(&key)?), "login").await
    }

    /// Keeps tokens that another program has fetched, as kimi-cli's file has them.
    ///
    /// # Errors
    /// `Config` when there is no such account, or it has no login; `InvalidRequest` when this is no such file.
    pub async fn keep_tokens(&self, slot: &Slot, json: &Secret) -> Result<Tokens> {
        self.server(slot)?;
        let tokens: Tokens = serde_json::from_str(json.expose()).map_err(|_| {
            Error::new(ErrorKind::InvalidRequest, "there are no tokens in it")
                .with_hint("kimi-cli keeps them in ~/.kimi/credentials/kimi-code.json")
        })?;
        self.keep(slot, Stored::Tokens(tokens.clone()), "login").await?;
        Ok(tokens)
    }

    /// Takes a key from where it is and keeps it; gives that place.
    ///
    /// # Errors
    /// `Config` when there is none.
    pub async fn take_over(&self, slot: &Slot) -> Result<String> {
        let (_, account) = self.account(slot)?;
        let Some(source) = account.key.clone() else {
            return Err(Error::new(ErrorKind::Config, format!("there is no key of {slot} to take over"))
                .with_hint(format!("set {}", account.key_variables.join(" or "))));
        };
        let place = source.to_string();
        let key = blocking(move || source.read()).await?;
        self.keep(slot, Stored::ApiKey(crate::credentials::checked(&key)?), "login").await?;
        Ok(place)
    }

    /// Keeps it no more; gives whether anything was kept. The platform is not told: it has no call for that.
    ///
    /// # Errors
    /// `Config` when there is no such account, or the store cannot be used.
    pub async fn log_out(&self, slot: &Slot) -> Result<bool> {
        self.account(slot)?;
        let (kept, which) = (self.kept.clone(), slot.clone());
        let was_there = blocking(move || kept.remove(&which)).await?;
        if was_there {
            self.note(slot, "logout").await?;
        }
        Ok(was_there)
    }

    /// Gets new tokens of a login now.
    ///
    /// # Errors
    /// `Config` when it has none; `ReauthRequired`; `Unavailable`.
    pub async fn renew(&self, slot: &Slot) -> Result<Tokens> {
        let tokens = self.login(slot)?.renew().await?;
        self.note(slot, "renew").await?;
        Ok(tokens)
    }

    /// Seals what is kept with another master key; gives how many there were.
    ///
    /// # Errors
    /// `Config` when one of the keys cannot be used; `Unsupported` for a keyring.
    pub async fn reseal(&self, with: MasterKey) -> Result<usize> {
        let kept = self.kept.clone();
        blocking(move || kept.reseal(with)).await
    }

    // ===== finding accounts =====

    /// The account that is meant: the named one, else the platform's own.
    ///
    /// # Errors
    /// `Config` when there is no such platform or account.
    pub fn slot(&self, platform: &str, account: Option<&str>) -> Result<Slot> {
        let id = PlatformId::new(platform)?;
        let platform = self.platforms.iter().find(|known| known.id == id).ok_or_else(|| no_platform(&id))?;
        let named = account.map(AccountId::new);
        let account = match &named {
            Some(named) => platform.accounts.iter().find(|account| account.id == *named),
            None => platform.accounts.first(),
        };
        let account = account.ok_or_else(|| {
            let named = named.map(|named| format!(" {named:?}")).unwrap_or_default();
            Error::new(ErrorKind::Config, format!("{} has no account{named}", platform.id))
                .with_hint(format!("add [platforms.{}.accounts.NAME]", platform.id))
        })?;
        Ok(slot_of(platform, account))
    }

    fn account(&self, slot: &Slot) -> Result<(&PlatformConfig, &AccountConfig)> {
        let platform = self.platforms.iter().find(|platform| platform.id == slot.platform);
        let found = platform.and_then(|platform| {
            Some((platform, platform.accounts.iter().find(|account| account.id == slot.account)?))
        });
        found.ok_or_else(|| no_platform(&slot.platform))
    }

    fn login(&self, slot: &Slot) -> Result<&Arc<OAuth>> {
        self.logins.get(slot).ok_or_else(|| {
            Error::new(ErrorKind::Config, format!("{slot} is used with a key, and not with a login"))
                .with_hint(format!("set platforms.{}.auth = \"oauth\"", slot.platform))
        })
    }

    fn server(&self, slot: &Slot) -> Result<&AuthorizationServer> {
        Ok(self.login(slot)?.server())
    }

    async fn keep(&self, slot: &Slot, stored: Stored, action: &'static str) -> Result<()> {
        let (kept, which) = (self.kept.clone(), slot.clone());
        blocking(move || kept.put(&which, &stored)).await?;
        self.note(slot, action).await
    }

    async fn note(&self, slot: &Slot, action: &'static str) -> Result<()> {
        let slot = slot.clone();
        self.registry
            .note("auth", move |note| {
                note(&Event {
                    action,
                    platform: Some(&slot.platform),
                    account: Some(&slot.account),
                    ..Event::default()
                })
            })
            .await
    }
}

pub(crate) fn slot_of(platform: &PlatformConfig, account: &AccountConfig) -> Slot {
    Slot { platform: platform.id.clone(), account: account.id.clone() }
}

/// What a person does about a credential that is not there.
pub(crate) fn remedy(platform: &PlatformConfig, account: &AccountConfig) -> String {
    let login = match account.is_named {
        true => format!("`exai-files auth login {} --account {}`", platform.id, account.id),
        false => format!("`exai-files auth login {}`", platform.id),
    };
    match platform.auth {
        config::Auth::OAuth(_) => format!("log in: {login}"),
        _ => format!(
            "set {}, name an api_key_file or api_key_command, or use {login}",
            account.key_variables.join(" or ")
        ),
    }
}

fn no_platform(id: &PlatformId) -> Error {
    Error::new(ErrorKind::Config, format!("there is no platform {:?}", id.as_str()))
        .with_hint("`exai-files auth status` lists them")
}

/// A key source whose vault is open by now.
pub(crate) fn opened(source: KeySource, store: &crate::store::Store) -> KeySource {
    match source {
        KeySource::Vault(name) => {
            KeySource::Asked(Arc::new(crate::credentials::VaultSecret { store: store.clone(), name }))
        }
        other => other,
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let working = tokio::task::spawn_blocking(work);
    working.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Cancelled, "the client was closed")))
}
