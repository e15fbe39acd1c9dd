//! Users' tokens: JWTs as the existing EXAI tool issues them (HS256), and whom they name.

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::Value;

use std::time::Duration;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Actor, Secret};

/// RFC 7518 §3.2: a shorter one can be guessed.
const SHORTEST_SECRET: usize = 32;

/// # Errors
/// `Config` when it can be guessed.
pub fn check_secret(secret: &Secret) -> Result<()> {
    match secret.expose().len() >= SHORTEST_SECRET {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::Config,
            format!("a secret for tokens has at least {SHORTEST_SECRET} characters (RFC 7518)"),
        )),
    }
}

/// Which tokens are good.
#[derive(Clone, Debug, Default)]
pub struct TokenRules {
    /// Who must have issued them.
    pub issuer: Option<String>,
    /// Whom they must be for; without one, they may be for anybody.
    pub audience: Option<String>,
    /// How far clocks may be apart.
    pub leeway: Duration,
    /// Until then whoever shows no token, or a bad one, is let in as nobody.
    pub grace_until: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<Value>,
    user_id: Option<Value>,
    exp: Option<f64>,
    iat: Option<f64>,
    nbf: Option<f64>,
    role: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
    session_id: Option<String>,
    jti: Option<String>,
}

/// The name of whoever is let in without a token.
pub const NOBODY: &str = "anonymous";

impl TokenRules {
    /// Whom a token names that was signed with this secret.
    ///
    /// # Errors
    /// `InvalidToken` when there is none, or it is none of ours, too old, from the future, or for somebody else.
    pub fn verify(&self, token: Option<&str>, secret: &Secret, now: Timestamp) -> Result<Actor> {
        let verified = token.filter(|token| !token.is_empty()).ok_or_else(|| refused("there is no token"));
        match verified.and_then(|token| self.actor(token, secret, now)) {
            Err(error) if error.kind() == ErrorKind::InvalidToken && self.grace_until.is_some_and(|end| now < end) => {
                tracing::warn!(
                    reason = error.message(),
                    "a request without a good token was let in: the grace period runs"
                );
                Ok(Actor::new(NOBODY))
            }
            outcome => outcome,
        }
    }

    fn actor(&self, token: &str, secret: &Secret, now: Timestamp) -> Result<Actor> {
        let mut validation = Validation::new(Algorithm::HS256);
        // The time is ours to look at: the library has a clock of its own.
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        validation.required_spec_claims.clear();
        validation.validate_aud = self.audience.is_some();
        if let Some(audience) = &self.audience {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        let key = DecodingKey::from_secret(secret.expose().as_bytes());
        let claims =
            jsonwebtoken::decode::<Claims>(token, &key, &validation).map_err(|error| refused(why(&error)))?.claims;
        self.check_times(&claims, now)?;
        let text = |value: Value| match value {
            Value::String(text) => Some(text),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let user = claims.sub.and_then(text).or_else(|| claims.user_id.and_then(text));
        let actor = Actor {
            user: user.ok_or_else(|| refused("it names nobody: there is no sub"))?,
            roles: claims.role.into_iter().chain(claims.roles).collect(),
            session: claims.session_id.or(claims.jti),
            address: None,
        };
        actor.check().map_err(|error| refused(error.message()))?;
        Ok(actor)
    }

    fn check_times(&self, claims: &Claims, now: Timestamp) -> Result<()> {
        let (now, leeway) = (now.0 as f64 / 1e6, self.leeway.as_secs_f64());
        let ends = claims.exp.ok_or_else(|| refused("it does not say when it ends"))?;
        let made = claims.iat.ok_or_else(|| refused("it does not say when it was made"))?;
        if ends + leeway <= now {
            return Err(refused("it has expired"));
        }
        if made - leeway > now || claims.nbf.is_some_and(|not_before| not_before - leeway > now) {
            return Err(refused("it is from the future: check both clocks"));
        }
        Ok(())
    }
}

/// Nothing that a token says is quoted.
fn why(error: &jsonwebtoken::errors::Error) -> &'static str {
    use jsonwebtoken::errors::ErrorKind as Kind;
    match error.kind() {
        Kind::InvalidSignature => "it was not signed with our secret",
        Kind::InvalidAlgorithm | Kind::InvalidAlgorithmName => "it is not signed with HS256",
        Kind::InvalidIssuer => "it is from another issuer",
        Kind::InvalidAudience => "it is for another audience",
        Kind::MissingRequiredClaim(claim) => match claim.as_str() {
            "aud" => "it does not say whom it is for",
            _ => "it does not say who issued it",
        },
        _ => "it is no token",
    }
}

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::InvalidToken, format!("the user's token is not good: {why}")).with_hint("sign in again")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn rules() -> TokenRules {
        TokenRules { leeway: Duration::from_secs(60), ..TokenRules::default() }
    }

    fn token(claims: &Value) -> String {
        signed(claims, Algorithm::HS256, "a secret of at least 32 characters")
    }

    fn signed(claims: &Value, algorithm: Algorithm, secret: &str) -> String {
        let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&jsonwebtoken::Header::new(algorithm), claims, &key).unwrap()
    }

    fn secret() -> Secret {
        Secret::new("a secret of at least 32 characters")
    }

    fn verify(rules: &TokenRules, token: &str) -> Result<Actor> {
        rules.verify(Some(token), &secret(), Timestamp::from_unix_seconds(NOW))
    }

    #[test]
    fn a_good_token_names_its_user() {
        let claims = json!({"sub": "alice", "exp": NOW + 60, "iat": NOW, "role": "authenticated", "roles": ["admin"],
                            "session_id": "s-1", "aud": "authenticated"});
        let actor = verify(&rules(), &token(&claims)).unwrap();
        assert_eq!((actor.user.as_str(), actor.session.as_deref()), ("alice", Some("s-1")));
        assert_eq!(actor.roles, ["authenticated", "admin"]);
        let with_number = json!({"user_id": 17, "exp": NOW + 60, "iat": NOW});
        assert_eq!(verify(&rules(), &token(&with_number)).unwrap().user, "17");
    }

    #[test]
    fn bad_tokens_are_refused_with_the_reason_and_never_quoted() {
        let good = json!({"sub": "alice", "exp": NOW + 60, "iat": NOW});
        let with = |name: &str, value: Value| {
            let mut claims = good.clone();
            claims[name] = value;
            token(&claims)
        };
        let without = |name: &str| {
            let mut claims = good.clone();
            claims.as_object_mut().unwrap().remove(name);
            token(&claims)
        };
        let none = format!("eyJhbGciOiJub25lIn0.{}.", token(&good).split('.').nth(1).unwrap());
        for (bad, why) in [
            (signed(&good, Algorithm::HS256, "another secret of 32 characters"), "not signed with our secret"),
            (signed(&good, Algorithm::HS512, "a secret of at least 32 characters"), "not signed with HS256"),
            (none, "no token"),
            (with("exp", json!(NOW - 61)), "expired"),
            (with("iat", json!(NOW + 61)), "future"),
            (with("nbf", json!(NOW + 61)), "future"),
            (without("exp"), "when it ends"),
            (without("iat"), "when it was made"),
            (without("sub"), "names nobody"),
            (with("sub", json!("")), "empty"),
            (with("sub", json!("a\nb")), "unprintable"),
            (with("sub", json!({"name": "alice"})), "no token"),
            ("alice".to_owned(), "no token"),
            (String::new(), "there is no token"),
        ] {
            let error = verify(&rules(), &bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidToken);
            assert!(error.message().contains(why), "{why}: {error}");
            assert!(bad.is_empty() || !error.to_string().contains(&bad));
        }
    }

    #[test]
    fn issuer_and_audience_are_looked_at_where_they_are_set() {
        let claims = |issuer: &str, audience: Value| {
            token(&json!({"sub": "alice", "exp": NOW + 60, "iat": NOW, "iss": issuer, "aud": audience}))
        };
        let rules = TokenRules { issuer: Some("exai".into()), audience: Some("files".into()), ..rules() };
        assert!(verify(&rules, &claims("exai", json!(["chat", "files"]))).is_ok());
        assert!(verify(&rules, &claims("exai", json!("chat"))).unwrap_err().message().contains("audience"));
        assert!(verify(&rules, &claims("evil", json!("files"))).unwrap_err().message().contains("issuer"));
        let bare = token(&json!({"sub": "alice", "exp": NOW + 60, "iat": NOW}));
        assert!(verify(&rules, &bare).is_err());
    }

    #[test]
    fn the_grace_period_ends_when_it_says_and_lets_nobody_in_by_name() {
        let rules = TokenRules { grace_until: Some(Timestamp::from_unix_seconds(NOW + 10)), ..rules() };
        let at = |seconds: i64, token: Option<&str>| {
            rules.verify(token, &secret(), Timestamp::from_unix_seconds(NOW + seconds))
        };
        assert_eq!(at(9, None).unwrap().user, NOBODY);
        assert_eq!(at(9, Some("rubbish")).unwrap().user, NOBODY);
        assert_eq!(at(10, None).unwrap_err().kind(), ErrorKind::InvalidToken);
        let good = token(&json!({"sub": "alice", "exp": NOW + 60, "iat": NOW}));
        assert_eq!(at(9, Some(&good)).unwrap().user, "alice");
    }
}
