//! Kimi Code's OAuth server (platform_api.md §3.3): the device flow of RFC 8628 and refresh tokens that rotate, and
//! for clients with a secret the client-credentials grant.
//!
//! A refresh token that comes a second time revokes all that its login gave (RFC 9700 §4.14.2).

use std::collections::HashMap;

use serde_json::{Value, json};

use super::accounts;
use super::clock::Micros;
use super::ids::Random;
use super::refusals::{self, Refusal};
use super::settings::Settings;

/// Who logs in where nobody is named.
pub(super) const USER: &str = "simulator.kimi-code-user";

/// kimi-cli's own id.
const CLIENT: &str = "17e5f671-d194-4dfb-9706-5516cb48c098";

/// A client with a secret, for the client-credentials grant.
const SERVICE: (&str, &str) = ("simulator-service", "simulator-service-secret");

const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

const LETTERS: &[u8] = b"ABCDEFGHJKMNPQRSTVWXYZ23456789";

#[derive(Default)]
pub(super) struct OAuth {
    devices: HashMap<String, Device>,
    access: HashMap<String, Access>,
    refresh: HashMap<String, Refresh>,
    logins: Vec<Login>,
    /// Access tokens that were used after their end.
    expired_uses: u64,
}

struct Device {
    user_code: String,
    ends: Micros,
    /// Seconds between two questions; each that comes too soon adds five.
    interval: u64,
    asked: Option<Micros>,
    decision: Decision,
}

enum Decision {
    Pending,
    Approved(String),
    Denied,
}

struct Access {
    login: usize,
    ends: Micros,
}

struct Refresh {
    login: usize,
    is_spent: bool,
}

/// All that one login, or one client with a secret, was given.
struct Login {
    user: String,
    refreshes: u64,
    is_revoked: bool,
}

type Form = HashMap<String, String>;

/// What was granted, and the word for it in the truth log.
type Granted = Result<(&'static str, Value), Refusal>;

fn refused(status: u16, error: &str, description: &str) -> Refusal {
    Refusal::json(status, json!({"error": error, "error_description": description}))
}

impl OAuth {
    /// `device_authorization`.
    pub(super) fn device(&mut self, form: &Form, settings: &Settings, random: &mut Random, now: Micros) -> Granted {
        known_client(form)?;
        let (code, user_code) = (random.hex(40), random.letters(LETTERS, 8));
        let uri = "https://www.kimi.com/code/authorize_device";
        let reply = json!({
            "device_code": code, "user_code": user_code, "verification_uri": uri,
            "verification_uri_complete": format!("{uri}?user_code={user_code}"),
            "expires_in": settings.device_code_seconds, "interval": settings.poll_seconds,
        });
        let ends = now + micros(settings.device_code_seconds);
        let (interval, decision) = (settings.poll_seconds, Decision::Pending);
        self.devices.insert(code, Device { user_code, ends, interval, asked: None, decision });
        Ok(("begun", reply))
    }

    /// `token`, by any of the three grants.
    pub(super) fn token(&mut self, form: &Form, settings: &Settings, random: &mut Random, now: Micros) -> Granted {
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        match field("grant_type") {
            "client_credentials" if (field("client_id"), field("client_secret")) == SERVICE => {
                self.logins.push(Login { user: SERVICE.0.to_owned(), refreshes: 0, is_revoked: false });
                let (_, mut reply) = self.grant(self.logins.len() - 1, settings, random, now);
                if let Some(reply) = reply.as_object_mut() {
                    reply.remove("refresh_token");
                }
                Ok(("granted", reply))
            }
            "client_credentials" => Err(refused(401, "invalid_client", "client authentication failed")),
            DEVICE_GRANT => {
                known_client(form)?;
                let user = self.ask(field("device_code"), now)?;
                self.devices.remove(field("device_code"));
                self.logins.push(Login { user, refreshes: 0, is_revoked: false });
                Ok(self.grant(self.logins.len() - 1, settings, random, now))
            }
            "refresh_token" => {
                known_client(form)?;
                let login = self.spend(field("refresh_token"))?;
                self.logins[login].refreshes += 1;
                let (_, reply) = self.grant(login, settings, random, now);
                Ok(("refreshed", reply))
            }
            _ => Err(refused(400, "unsupported_grant_type", "no such grant")),
        }
    }

    /// Whether a person has approved a device; who, then.
    fn ask(&mut self, code: &str, now: Micros) -> Result<String, Refusal> {
        let Some(device) = self.devices.get_mut(code) else {
            return Err(refused(400, "expired_token", "the device code is not known"));
        };
        let is_early = device.asked.is_some_and(|asked| now - asked < micros(device.interval as f64) - 500_000);
        device.asked = Some(now);
        match &device.decision {
            _ if device.ends <= now => Err(refused(400, "expired_token", "the device code has expired")),
            Decision::Denied => Err(refused(400, "access_denied", "the person said no")),
            _ if is_early => {
                device.interval += 5;
                Err(refused(400, "slow_down", "asked too often"))
            }
            Decision::Pending => Err(refused(400, "authorization_pending", "the person has not decided yet")),
            Decision::Approved(user) => Ok(user.clone()),
        }
    }

    /// Takes a refresh token, once.
    fn spend(&mut self, token: &str) -> Result<usize, Refusal> {
        let dead = |why| refused(401, "invalid_grant", why);
        let Some(refresh) = self.refresh.get_mut(token) else { return Err(dead("the refresh token is not known")) };
        let login = refresh.login;
        if self.logins[login].is_revoked {
            return Err(dead("the login was revoked"));
        }
        if std::mem::replace(&mut refresh.is_spent, true) {
            self.logins[login].is_revoked = true;
            return Err(dead("the refresh token was used before: the login is revoked"));
        }
        Ok(login)
    }

    fn grant(&mut self, login: usize, settings: &Settings, random: &mut Random, now: Micros) -> (&'static str, Value) {
        let (access, refresh) = (format!("sim-access-{}", random.hex(40)), format!("sim-refresh-{}", random.hex(40)));
        let ends = now + micros(settings.access_token_seconds);
        self.access.insert(access.clone(), Access { login, ends });
        self.refresh.insert(refresh.clone(), Refresh { login, is_spent: false });
        let reply = json!({
            "access_token": access, "refresh_token": refresh, "expires_in": settings.access_token_seconds,
            "scope": "kimi-code", "token_type": "Bearer",
        });
        ("granted", reply)
    }

    /// The account behind an `Authorization` header.
    pub(super) fn account_of(&mut self, header: Option<&str>, now: Micros) -> Result<String, Refusal> {
        let token = header.and_then(|header| header.strip_prefix("Bearer "));
        let token = token.ok_or_else(|| refusals::moonshot_type("invalid_authentication_error"))?;
        let unknown = || refusals::moonshot_type("incorrect_api_key_error");
        let access = self.access.get(token).ok_or_else(unknown)?;
        let login = &self.logins[access.login];
        if access.ends <= now {
            self.expired_uses += 1;
            return Err(unknown());
        }
        if login.is_revoked { Err(unknown()) } else { Ok(accounts::account(&login.user)) }
    }

    // ===== what a test does =====

    /// A person's decision about a device; about the only one, where none is named.
    pub(super) fn decide(&mut self, user_code: Option<&str>, user: Option<&str>) -> Result<(), String> {
        let is_meant = |device: &&mut Device| {
            matches!(device.decision, Decision::Pending) && user_code.is_none_or(|code| code == device.user_code)
        };
        let device = self.devices.values_mut().find(is_meant).ok_or("no device waits to be approved")?;
        device.decision = user.map_or(Decision::Denied, |user| Decision::Approved(user.to_owned()));
        Ok(())
    }

    /// From now on no access token given so far is good.
    pub(super) fn expire_access_tokens(&mut self) {
        self.access.clear();
    }

    pub(super) fn revoke_logins(&mut self) {
        self.logins.iter_mut().for_each(|login| login.is_revoked = true);
    }

    pub(super) fn describe(&self) -> Value {
        let logins: Vec<Value> = self
            .logins
            .iter()
            .map(|login| {
                let account = accounts::account(&login.user);
                json!({"account": account, "refreshes": login.refreshes, "is_revoked": login.is_revoked})
            })
            .collect();
        let waiting: Vec<&str> = self
            .devices
            .values()
            .filter(|device| matches!(device.decision, Decision::Pending))
            .map(|device| device.user_code.as_str())
            .collect();
        json!({"logins": logins, "waiting": waiting, "expired_uses": self.expired_uses})
    }
}

fn known_client(form: &Form) -> Result<(), Refusal> {
    match form.get("client_id").map(String::as_str) {
        Some(CLIENT) => Ok(()),
        _ => Err(refused(401, "invalid_client", "no such client")),
    }
}

fn micros(seconds: f64) -> Micros {
    (seconds * 1e6) as Micros
}
