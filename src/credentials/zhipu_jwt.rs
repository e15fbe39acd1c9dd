//! Zhipu's JWT, made from an `id.secret` key (platform_api.md §3.2).
//!
//! `exp` and `timestamp` are in milliseconds, not in RFC 7519's seconds. A token lives 210 s and is renewed after
//! 180 s; when the platform finds one expired all the same, the machine's clock is wrong and the platform's is used.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::hmac;

use super::keys::Keys;
use super::{CredentialProvider, KeySource, Refusal};
use crate::clock::{Clock, Timestamp};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Secret;

/// What both Python SDKs ask for (`_jwt_token.py`).
const LIFE: Duration = Duration::from_millis(210_000);

/// What both Python SDKs keep a token for.
const RENEW_AFTER: Duration = Duration::from_secs(180);

/// PyJWT's header, keys sorted.
const HEADER: &str = r#"{"alg":"HS256","sign_type":"SIGN","typ":"JWT"}"#;

pub struct ZhipuJwt {
    keys: Keys,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// Microseconds the platform's clock is ahead of ours, as far as that has mattered.
    offset: i64,
}

struct Token {
    made_at: Timestamp,
    token: Secret,
    /// The fingerprint of the key it was made from.
    of: String,
}

impl std::fmt::Debug for ZhipuJwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ZhipuJwt({:?})", self.keys)
    }
}

impl ZhipuJwt {
    /// # Errors
    /// `Config` when a given key is not of the form `id.secret`; others are read at the first call.
    pub fn new(source: KeySource, clock: Arc<dyn Clock>) -> Result<Self> {
        if let KeySource::Given { key, .. } = &source {
            parts(key)?;
        }
        Ok(ZhipuJwt { keys: Keys::new(source), clock, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn parts(key: &Secret) -> Result<(&str, &str)> {
    let parts: Vec<&str> = key.expose().split('.').collect();
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    match parts[..] {
        [id, secret] if plain(id) && plain(secret) => Ok((id, secret)),
        _ => Err(malformed()),
    }
}

fn sign(key: &Secret, now: Timestamp) -> Result<Secret> {
    let (id, secret) = parts(key)?;
    let (exp, timestamp) = (now.plus(LIFE).unix_millis(), now.unix_millis());
    let payload = format!(r#"{{"api_key":"{id}","exp":{exp},"timestamp":{timestamp}}}"#);
    let signed = format!("{}.{}", BASE64.encode(HEADER), BASE64.encode(payload));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
    Ok(Secret::new(format!("{signed}.{}", BASE64.encode(signature))))
}

fn malformed() -> Error {
    Error::new(ErrorKind::Config, "the API key is not of the form \"id.secret\", which a JWT is made from")
        .with_hint("copy it again from the platform's console, or set auth = \"key\"")
}

#[async_trait]
impl CredentialProvider for ZhipuJwt {
    async fn credential(&self) -> Result<Secret> {
        let key = self.keys.current().await?;
        let mut state = self.state();
        let now = Timestamp(self.clock.now().0 + state.offset);
        // A clock set back makes tokens of the future: make a new one then, too.
        let is_fresh =
            |made: &&Token| made.of == key.fingerprint && made.made_at <= now && now.since(made.made_at) < RENEW_AFTER;
        if let Some(made) = state.token.as_ref().filter(is_fresh) {
            return Ok(made.token.clone());
        }
        let token = sign(&key.secret, now)?;
        state.token = Some(Token { made_at: now, token: token.clone(), of: key.fingerprint });
        Ok(token)
    }

    fn refused(&self, credential: &Secret, why: Refusal) -> bool {
        let mut state = self.state();
        // Another call that used the same one may have said so already.
        let made = state.token.take();
        match why {
            Refusal::Expired { server_time } => {
                if let Some(server_time) = server_time {
                    state.offset = server_time.0 - self.clock.now().0;
                }
                true
            }
            Refusal::Unknown => match made {
                Some(made) if made.token.expose() == credential.expose() => self.keys.refuse(&made.of),
                _ => self.keys.may_change(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::TestClock;

    const KEY: &str = "0123456789abcdef0123456789abcdef.AbCdEfGhIjKlMnOp";

    fn at(millis: i64) -> (TestClock, ZhipuJwt) {
        let clock = TestClock::at(Timestamp(millis * 1_000));
        let jwt = ZhipuJwt::new(KeySource::given(Secret::new(KEY), "a test"), Arc::new(clock.clone())).unwrap();
        (clock, jwt)
    }

    /// The vector of platform_api.md §3.2, made with PyJWT 2.8.
    #[tokio::test]
    async fn the_token_is_the_one_the_official_sdk_makes() {
        let (_, jwt) = at(1_700_000_000_000);
        assert_eq!(
            jwt.credential().await.unwrap().expose(),
            "eyJhbGciOiJIUzI1NiIsInNpZ25fdHlwZSI6IlNJR04iLCJ0eXAiOiJKV1QifQ.eyJhcGlfa2V5IjoiMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYiLCJleHAiOjE3MDAwMDAyMTAwMDAsInRpbWVzdGFtcCI6MTcwMDAwMDAwMDAwMH0.nsSQyrzRaA2b3nnVZmJyhzwI5HiD_OX42RnnG1C6mp0"
        );
    }

    #[tokio::test]
    async fn a_token_is_renewed_ahead_of_its_expiry() {
        let (clock, jwt) = at(1_700_000_000_000);
        let first = jwt.credential().await.unwrap();
        clock.advance(Duration::from_secs(179));
        assert_eq!(jwt.credential().await.unwrap().expose(), first.expose());
        clock.advance(Duration::from_secs(1));
        assert_ne!(jwt.credential().await.unwrap().expose(), first.expose());
    }

    #[tokio::test]
    async fn a_refused_token_takes_over_the_platforms_clock() {
        let (_, jwt) = at(1_700_000_000_000);
        let token = jwt.credential().await.unwrap();
        let server_time = Some(Timestamp::from_unix_seconds(1_700_000_600));
        assert!(jwt.refused(&token, Refusal::Expired { server_time }));
        let token = jwt.credential().await.unwrap();
        let payload = BASE64.decode(token.expose().split('.').nth(1).unwrap()).unwrap();
        assert!(String::from_utf8(payload).unwrap().contains("\"timestamp\":1700000600000"));
    }

    #[tokio::test]
    async fn all_calls_that_shared_a_refused_token_may_try_again() {
        let (_, jwt) = at(1_700_000_000_000);
        let token = jwt.credential().await.unwrap();
        let expired = Refusal::Expired { server_time: None };
        assert!(jwt.refused(&token, expired) && jwt.refused(&token, expired));
        let token = jwt.credential().await.unwrap();
        assert!(!jwt.refused(&token, Refusal::Unknown), "there is no other key");
    }

    #[test]
    fn malformed_keys_are_refused_without_being_shown() {
        for key in ["", "abc", "a.b.c", ".b", "a.", "a b.c"] {
            let error =
                ZhipuJwt::new(KeySource::given(Secret::new(key), "a test"), Arc::new(crate::clock::SystemClock))
                    .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(key.is_empty() || !format!("{error} {error:?}").contains(&format!("{key:?}")));
        }
    }
}
