//! Getting new tokens for old ones, so that no token is lost and none is used twice.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::OAuthParts;
use super::server::{AuthorizationServer, Refused};
use super::tokens::Tokens;
use super::turns::{Fence, Spent, Turn, Turns};
use crate::clock::Clock;
use crate::credentials::fingerprint;
use crate::credentials::keys::Keys;
use crate::credentials::stores::{CredentialStore, Slot, Stored};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::model::Secret;

/// How soon it is looked again whether another process has refreshed; it grows up to the second.
const LOOKS_AFTER: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// After a refresh that failed while the old token is still good, the next one waits for this.
const PAUSE: Duration = Duration::from_secs(30);

/// Times that a server which answers with 429 or 5xx is asked in one go (kimi-cli), and the first pause between.
const ASKS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// All of that within this: well before the turn ends, by whosever clock.
const WITHIN: Duration = Duration::from_secs(40);

/// What access tokens are had with.
#[derive(Debug)]
pub(super) enum Grant {
    RefreshToken,
    /// A client's own secret: each use is as good as the first.
    ClientSecret(Keys),
}

#[derive(Debug)]
pub(super) struct Refresher {
    slot: Slot,
    pub server: AuthorizationServer,
    grant: Grant,
    kept: Arc<dyn CredentialStore>,
    turns: Turns,
    clock: Arc<dyn Clock>,
    /// Spreads the refreshes of many processes: 0 to 1.
    jitter: f64,
    state: Mutex<State>,
    /// Of many tasks, one looks for a token.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    known: Option<Known>,
    /// The fingerprint of one that the platform would not have.
    refused: Option<String>,
    not_before: Option<Instant>,
    /// Given by the server, and not kept yet.
    unkept: Option<Unkept>,
}

#[derive(Clone, Debug)]
struct Unkept {
    tokens: Tokens,
    /// The fingerprint of those that they are for.
    replaces: Option<String>,
    fence: Fence,
    is_forced: bool,
}

/// Tokens as this process knows them.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub tokens: Tokens,
    fingerprint: String,
    since: Instant,
    /// It came of a refusal, and has not been accepted yet: another one would help nobody.
    is_forced: bool,
}

impl Refresher {
    pub fn new(parts: OAuthParts, grant: Grant) -> Self {
        let OAuthParts { slot, server, kept, turns, clock } = parts;
        let turns = Turns::new(turns, format!("{slot} in {}", kept.name()));
        let (state, looking) = (Mutex::default(), tokio::sync::Mutex::new(()));
        Refresher { slot, server, grant, kept, turns, clock, jitter: rand::random(), state, looking }
    }

    // ===== what this process knows =====

    /// A token that needs no looking for, or that is good while somebody looks.
    pub fn good_enough(&self) -> Option<Known> {
        let known = self.usable()?;
        (!self.is_due(&known) || self.looking.try_lock().is_err()).then_some(known)
    }

    /// The known token, if it was not refused and has life left.
    fn usable(&self) -> Option<Known> {
        let state = self.state();
        let known = state.known.as_ref()?;
        let is_refused = state.refused.as_deref() == Some(&known.fingerprint);
        let is_alive = known.tokens.is_alive(self.clock.now(), known.since.elapsed());
        (is_alive && (!is_refused || known.is_forced)).then(|| known.clone())
    }

    /// Whether it is time to replace it.
    fn is_due(&self, known: &Known) -> bool {
        let may_ask = self.state().not_before.is_none_or(|not_before| not_before <= Instant::now());
        may_ask && known.tokens.is_due(self.clock.now(), known.since.elapsed(), self.jitter)
    }

    /// Takes over what the store holds, if it is of use.
    fn adopt(&self, tokens: &Tokens) -> Option<Known> {
        let is_refused = self.state().refused.as_deref() == Some(&tokens.fingerprint());
        if !is_refused && tokens.is_alive(self.clock.now(), Duration::ZERO) {
            self.know(tokens.clone(), false);
        }
        self.usable().filter(|known| !self.is_due(known))
    }

    fn know(&self, tokens: Tokens, is_forced: bool) -> Known {
        let mut state = self.state();
        let fingerprint = tokens.fingerprint();
        if let Some(known) = state.known.as_ref().filter(|known| known.fingerprint == fingerprint) {
            return known.clone();
        }
        let known = Known { tokens, fingerprint, since: Instant::now(), is_forced };
        (state.known, state.not_before) = (Some(known.clone()), None);
        known
    }

    /// The platform would not have this one. Whether another one may help.
    pub fn refuse(&self, fingerprint: String) -> bool {
        let mut state = self.state();
        match &state.known {
            Some(known) if known.fingerprint == fingerprint => {
                let helps = !known.is_forced;
                state.refused = Some(fingerprint);
                helps
            }
            // Another one has come meanwhile.
            _ => true,
        }
    }

    /// The platform had this one.
    pub fn accept(&self, credential: &Secret) {
        let mut state = self.state();
        if let Some(known) = state.known.as_mut().filter(|known| known.is_forced)
            && known.tokens.access_token.expose() == credential.expose()
        {
            known.is_forced = false;
        }
    }

    /// As if the platform had refused what is kept.
    pub async fn refuse_stored(&self) -> Result<()> {
        let stored = self.stored().await?;
        let mut state = self.state();
        (state.known, state.refused) = (None, stored.map(|tokens| tokens.fingerprint()));
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    // ===== how it comes by another one =====

    /// A token that was not refused and is not about to end; the old one while it lasts, if there is no other.
    pub async fn fresh(self: Arc<Self>) -> Result<Known> {
        let _one = self.looking.lock().await;
        let before = self.usable();
        if let Some(known) = before.as_ref().filter(|known| !self.is_due(known)) {
            return Ok(known.clone());
        }
        match (self.look().await, before) {
            (Err(error), Some(known)) => {
                tracing::warn!(slot = %self.slot, %error, "credentials: not refreshed; the old token is used while it is good");
                self.state().not_before = Some(Instant::now() + PAUSE);
                Ok(known)
            }
            (outcome, _) => outcome,
        }
    }

    /// In the store, where another process may have put one; else at the server, when it is our turn.
    async fn look(&self) -> Result<Known> {
        let (mut pause, longest) = LOOKS_AFTER;
        loop {
            if let Some(known) = self.keep().await? {
                return Ok(known);
            }
            let stored = self.stored().await?;
            if let Some(known) = stored.as_ref().and_then(|tokens| self.adopt(tokens)) {
                return Ok(known);
            }
            let spending = self.spending(stored.as_ref())?;
            match self.turns.take(spending.as_deref(), self.clock.now()).await? {
                Turn::Ours(fence) if self.has_changed(stored.as_ref()).await? => {
                    self.turns.give_back(fence, Spent::Not).await?;
                }
                Turn::Ours(fence) => {
                    if let Some(known) = self.spend(stored, fence).await? {
                        return Ok(known);
                    }
                }
                Turn::Theirs => {
                    if let Some(known) = self.usable() {
                        return Ok(known);
                    }
                    tokio::time::sleep(pause.mul_f64(1.0 + rand::random::<f64>())).await;
                    pause = (pause * 2).min(longest);
                }
                Turn::Dead => return Err(self.reauth("its last refreshes were cut short")),
            }
        }
    }

    /// Gets new tokens for the old ones, and keeps them before anybody uses them. None when another process was faster.
    async fn spend(&self, old: Option<Tokens>, fence: Fence) -> Result<Option<Known>> {
        let replaces = old.as_ref().map(Tokens::fingerprint);
        let (spent, error) = match self.ask(old.as_ref()).await {
            Ok(mut tokens) => {
                // A server that does not rotate them names none.
                tokens.refresh_token = tokens.refresh_token.or(old.and_then(|old| old.refresh_token));
                self.take_in(tokens, replaces, fence);
                failpoint("refresh", "answered")?;
                return self.keep().await;
            }
            Err(_) if !self.turns.is_ours(fence).await? && self.has_changed(old.as_ref()).await? => return Ok(None),
            Err(refused @ Refused::No { .. }) if refused.is_verdict() && self.needs_login() => {
                (Spent::InVain, self.reauth(refused.error().message()))
            }
            Err(Refused::Unknown(error)) => (Spent::Unknown, error),
            Err(other) => (Spent::Not, other.error()),
        };
        self.turns.give_back(fence, spent).await?;
        Err(error)
    }

    /// From here on they are not lost while the process lives.
    fn take_in(&self, tokens: Tokens, replaces: Option<String>, fence: Fence) {
        let mut state = self.state();
        let is_forced = state.refused.is_some() && state.refused == replaces;
        state.unkept = Some(Unkept { tokens, replaces, fence, is_forced });
    }

    async fn ask(&self, old: Option<&Tokens>) -> std::result::Result<Tokens, Refused> {
        let secret = match &self.grant {
            Grant::ClientSecret(keys) => Some(keys.current().await.map_err(Refused::Unspent)?.secret),
            Grant::RefreshToken => old.and_then(|old| old.refresh_token.clone()),
        };
        let secret = secret.ok_or_else(|| Refused::Unspent(self.reauth("there is no refresh token")))?;
        let (mut pause, until) = (FIRST_PAUSE, Instant::now() + WITHIN);
        for _ in 1..ASKS {
            match self.ask_once(&secret, until).await {
                Err(Refused::Unspent(error)) if Instant::now() + pause < until => {
                    tracing::debug!(slot = %self.slot, %error, "credentials: asking again");
                }
                outcome => return outcome,
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.ask_once(&secret, until).await
    }

    async fn ask_once(&self, secret: &Secret, until: Instant) -> std::result::Result<Tokens, Refused> {
        failpoint("refresh", "send").map_err(Refused::Unspent)?;
        match self.grant {
            Grant::RefreshToken => self.server.refresh(secret, &*self.clock, until).await,
            Grant::ClientSecret(_) => self.server.of_client(secret, &*self.clock, until).await,
        }
    }

    /// Names what a refresh would use up, if it uses anything up.
    fn spending(&self, stored: Option<&Tokens>) -> Result<Option<String>> {
        if !self.needs_login() {
            return Ok(None);
        }
        let stored = stored.ok_or_else(|| self.reauth("nobody has logged in"))?;
        let token = stored.refresh_token.as_ref().ok_or_else(|| self.reauth("there is no refresh token"))?;
        Ok(Some(fingerprint(token)))
    }

    fn needs_login(&self) -> bool {
        matches!(self.grant, Grant::RefreshToken)
    }

    fn reauth(&self, why: &str) -> Error {
        let slot = &self.slot;
        Error::new(ErrorKind::ReauthRequired, format!("the login of {slot} cannot be used: {why}"))
            .with_hint(format!("`exai-files auth login {} --account {}` logs in anew", slot.platform, slot.account))
    }

    // ===== what is kept =====

    async fn stored(&self) -> Result<Option<Tokens>> {
        let (kept, slot) = (self.kept.clone(), self.slot.clone());
        match blocking(move || kept.get(&slot)).await? {
            Some(Stored::Tokens(tokens)) => Ok(Some(tokens)),
            Some(Stored::ApiKey(_)) => Err(self.reauth("an API key is kept in its place")),
            None => Ok(None),
        }
    }

    async fn has_changed(&self, since: Option<&Tokens>) -> Result<bool> {
        Ok(self.stored().await?.map(|tokens| tokens.fingerprint()) != since.map(Tokens::fingerprint))
    }

    /// Keeps what the server has given; what could not be kept then is kept now. None where it is of no use any more.
    async fn keep(&self) -> Result<Option<Known>> {
        let Some(Unkept { tokens, replaces, fence, is_forced }) = self.state().unkept.clone() else { return Ok(None) };
        if self.stored().await?.map(|stored| stored.fingerprint()) != replaces {
            // Somebody has logged in anew, or was faster.
            self.state().unkept = None;
            return Ok(None);
        }
        let (kept, slot, stored) = (self.kept.clone(), self.slot.clone(), Stored::Tokens(tokens.clone()));
        blocking(move || kept.put(&slot, &stored)).await?;
        failpoint("refresh", "kept")?;
        self.state().unkept = None;
        self.turns.give_back(fence, Spent::Well).await?;
        tracing::debug!(slot = %self.slot, "credentials: refreshed");
        Ok(Some(self.know(tokens, is_forced)))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Cancelled, "the client was closed while it fetched a credential"))
    })
}
