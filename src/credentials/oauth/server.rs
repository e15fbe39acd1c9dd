//! An authorization server, as Kimi Code's is spoken to (platform_api.md §3.3).

use std::sync::OnceLock;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::Tokens;
use super::kimi::KimiDevice;
use crate::clock::{Clock, Timestamp};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::model::Secret;
use crate::transport::{HttpClient, HttpOptions, Phase, Request};

/// Of one request (kimi-code).
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest answer that is read.
const LONGEST: usize = 1 << 20;

/// RFC 8628 §3.2, where the server names none.
const INTERVAL: u64 = 5;

/// How long a device code lives where the server does not say.
const DEVICE_LIFE: f64 = 600.0;

/// Where a client goes, and who it says it is.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    pub token_url: String,
    /// None where there is no device flow.
    pub device_url: Option<String>,
    pub client_id: String,
    pub scope: Option<String>,
    /// Of Kimi Code: told with each request.
    pub device: Option<KimiDevice>,
}

/// Talks to it.
#[derive(Debug)]
pub struct AuthorizationServer {
    options: ServerOptions,
    http_options: HttpOptions,
    /// Made when it is first needed: most clients never log in.
    http: OnceLock<HttpClient>,
}

/// What a person is asked to do.
#[derive(Clone, Debug)]
pub struct DeviceCode {
    pub user_code: String,
    /// Where it is entered, if the server says.
    pub uri: Option<String>,
    /// The same with the code in it.
    pub uri_complete: Option<String>,
    pub expires_at: Timestamp,
    pub interval: Duration,
    device_code: Secret,
}

/// What a server says to a device that asks.
#[derive(Debug)]
pub enum Polled {
    Granted(Tokens),
    /// Ask again after so long.
    Pending(Duration),
}

#[derive(Deserialize)]
struct DeviceReply {
    device_code: String,
    user_code: String,
    verification_uri: Option<String>,
    verification_uri_complete: Option<String>,
    expires_in: Option<f64>,
    interval: Option<u64>,
}

#[derive(Deserialize)]
struct TokenReply {
    access_token: String,
    refresh_token: Option<String>,
    expires_in: Option<f64>,
    scope: Option<String>,
}

/// How a request for tokens failed.
#[derive(Debug)]
pub(super) enum Refused {
    /// The server said no.
    No { status: u16, code: String, why: String },
    /// It did not, and what was sent is as good as before.
    Unspent(Error),
    /// Nobody knows what it did.
    Unknown(Error),
}

impl AuthorizationServer {
    pub fn new(options: ServerOptions, http_options: HttpOptions) -> Self {
        AuthorizationServer { options, http_options, http: OnceLock::new() }
    }

    fn http(&self) -> Result<&HttpClient> {
        if self.http.get().is_none() {
            let client = HttpClient::new(&self.http_options).map_err(|error| {
                Error::new(ErrorKind::Config, format!("the login server: {error}"))
                    .with_hint("check the `http` settings")
                    .with_source(error)
            })?;
            let _ = self.http.set(client);
        }
        self.http.get().ok_or_else(|| Error::new(ErrorKind::Config, "there is no way to the login server"))
    }

    /// Begins the device flow.
    ///
    /// # Errors
    /// `Unsupported` where there is none; `Unavailable`; `ContractDrift`.
    pub async fn device_code(&self, clock: &dyn Clock) -> Result<DeviceCode> {
        let Some(url) = &self.options.device_url else {
            return Err(Error::new(ErrorKind::Unsupported, "this platform has no device login")
                .with_hint("set oauth_device_url, or give it a key"));
        };
        let reply = self.post(url, &[], Instant::now() + PATIENCE).await.map_err(Refused::error)?;
        let reply: DeviceReply = serde_json::from_value(reply).map_err(|_| drifted("names no device code"))?;
        Ok(DeviceCode {
            user_code: reply.user_code,
            uri: reply.verification_uri,
            uri_complete: reply.verification_uri_complete,
            expires_at: clock.now().plus(life(reply.expires_in.unwrap_or(DEVICE_LIFE))),
            interval: Duration::from_secs(reply.interval.unwrap_or(INTERVAL).max(1)),
            device_code: Secret::new(reply.device_code),
        })
    }

    /// Asks once whether the person has decided. Who asks waits for the interval before.
    ///
    /// # Errors
    /// `PermissionDenied` when they said no; `TimedOut` when the code has expired; `Unavailable`; `ContractDrift`.
    pub async fn poll(&self, code: &mut DeviceCode, clock: &dyn Clock) -> Result<Polled> {
        if code.expires_at <= clock.now() {
            return Err(too_late());
        }
        let fields = [
            ("device_code", code.device_code.expose()),
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ];
        match self.tokens(&fields, clock, Instant::now() + PATIENCE).await {
            Ok(tokens) => Ok(Polled::Granted(tokens)),
            Err(Refused::No { code: error, why, .. }) => match error.as_str() {
                "authorization_pending" => Ok(Polled::Pending(code.interval)),
                "slow_down" => {
                    code.interval += Duration::from_secs(5);
                    Ok(Polled::Pending(code.interval))
                }
                "expired_token" => Err(too_late()),
                "access_denied" => Err(Error::new(ErrorKind::PermissionDenied, "the login was declined")
                    .with_hint("begin anew, and approve it")),
                _ => Err(Error::new(ErrorKind::ContractDrift, format!("the login failed with {error}: {why}"))),
            },
            Err(other) => Err(other.error()),
        }
    }

    pub(super) async fn refresh(
        &self,
        token: &Secret,
        clock: &dyn Clock,
        until: std::time::Instant,
    ) -> std::result::Result<Tokens, Refused> {
        self.tokens(&[("grant_type", "refresh_token"), ("refresh_token", token.expose())], clock, until.into()).await
    }

    /// With the client's own secret.
    pub(super) async fn of_client(
        &self,
        secret: &Secret,
        clock: &dyn Clock,
        until: std::time::Instant,
    ) -> std::result::Result<Tokens, Refused> {
        self.tokens(&[("grant_type", "client_credentials"), ("client_secret", secret.expose())], clock, until.into())
            .await
    }

    async fn tokens(
        &self,
        fields: &[(&str, &str)],
        clock: &dyn Clock,
        until: Instant,
    ) -> std::result::Result<Tokens, Refused> {
        let reply = self.post(&self.options.token_url, fields, until).await?;
        let reply: TokenReply =
            serde_json::from_value(reply).map_err(|_| Refused::Unknown(drifted("names no access token")))?;
        let expires_in = reply.expires_in.filter(|seconds| *seconds > 0.0);
        let expires_in = expires_in.ok_or_else(|| Refused::Unknown(drifted("does not say when it ends")))?;
        Ok(Tokens {
            access_token: Secret::new(reply.access_token),
            refresh_token: reply.refresh_token.filter(|token| !token.is_empty()).map(Secret::new),
            // By this machine's clock throughout, whatever the server's says.
            expires_at: clock.now().plus(life(expires_in)),
            expires_in,
            scope: reply.scope,
        })
    }

    async fn post(&self, url: &str, fields: &[(&str, &str)], until: Instant) -> std::result::Result<Value, Refused> {
        let mut all = vec![("client_id", self.options.client_id.as_str())];
        all.extend(self.options.scope.as_deref().map(|scope| ("scope", scope)));
        all.extend(fields);
        let mut request = Request::post_form(url, &all).header("accept", "application/json");
        for (name, value) in self.options.device.iter().flat_map(KimiDevice::headers) {
            request = request.header_value(name, &value);
        }
        let http = self.http().map_err(Refused::Unspent)?;
        let response = http.send(request, until.min(Instant::now() + PATIENCE)).await.map_err(|error| {
            let is_unspent = error.phase == Phase::NotSent;
            let error = unavailable(format!("the login server did not answer: {error}"));
            if is_unspent { Refused::Unspent(error) } else { Refused::Unknown(error) }
        })?;
        let status = response.status();
        let body = response
            .read(LONGEST)
            .await
            .map_err(|error| Refused::Unknown(unavailable(format!("the login server's answer broke off: {error}"))))?;
        let json: Option<Value> = serde_json::from_slice(&body).ok();
        let word = |name: &str| json.as_ref()?.get(name)?.as_str().map(str::to_owned);
        match status {
            200..300 => json.ok_or_else(|| Refused::Unknown(drifted("is no JSON"))),
            429 | 500.. => Err(Refused::Unspent(unavailable(format!("the login server answered with {status}")))),
            _ => Err(Refused::No {
                status,
                code: word("error").unwrap_or_else(|| status.to_string()),
                why: word("error_description").unwrap_or_else(|| "it gave no reason".to_owned()),
            }),
        }
    }
}

impl Refused {
    /// Whether the server has judged what it was sent, and not just the way it was sent (platform_api.md §3.3).
    pub(super) fn is_verdict(&self) -> bool {
        matches!(self, Refused::No { status, code, .. } if matches!(status, 401 | 403) || code == "invalid_grant")
    }

    pub(super) fn error(self) -> Error {
        match self {
            Refused::Unspent(error) | Refused::Unknown(error) => error,
            Refused::No { code, why, .. } => {
                Error::new(ErrorKind::Unauthenticated, format!("the login server refused it with {code}: {why}"))
            }
        }
    }
}

fn life(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

fn unavailable(what: String) -> Error {
    Error::new(ErrorKind::Unavailable, what).with_hint("try again later").with_retry(Retry::Yes, None)
}

fn drifted(what: &str) -> Error {
    Error::new(ErrorKind::ContractDrift, format!("the login server's answer {what}"))
        .with_hint("check oauth_token_url and oauth_device_url, or whether a proxy answered in its place")
}

fn too_late() -> Error {
    Error::new(ErrorKind::TimedOut, "the code has expired before the login was approved").with_hint("begin anew")
}
