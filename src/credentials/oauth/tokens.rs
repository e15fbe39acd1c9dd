//! What an authorization server gives.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::Timestamp;
use crate::credentials::fingerprint;
use crate::model::Secret;

/// An access token, when it ends, and what the next one is had with.
///
/// Written down under the names that kimi-cli uses, with times in seconds: its file can be taken over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tokens {
    #[serde(serialize_with = "exposed", deserialize_with = "taken")]
    pub access_token: Secret,
    /// None of a client with a secret: that gets new ones as it likes.
    #[serde(default, serialize_with = "exposed_if_any", deserialize_with = "taken_if_any")]
    pub refresh_token: Option<Secret>,
    #[serde(with = "seconds")]
    pub expires_at: Timestamp,
    /// How long it lives, in seconds.
    pub expires_in: f64,
    #[serde(default)]
    pub scope: Option<String>,
}

/// A share of its life in which nobody counts on an access token any more, and the most that is, in seconds.
const LAST_SHARE: (f64, f64) = (0.05, 30.0);

impl Tokens {
    /// Tells token sets apart.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.access_token)
    }

    pub(super) fn life(&self) -> Duration {
        Duration::try_from_secs_f64(self.expires_in).unwrap_or_default()
    }

    fn obtained_at(&self) -> Timestamp {
        self.expires_at.minus(self.life())
    }

    /// How old it is; not younger than `at_least`, whatever the calendar says.
    fn age(&self, now: Timestamp, at_least: Duration) -> Duration {
        now.since(self.obtained_at()).max(at_least)
    }

    /// Whether it can still be used.
    pub(super) fn is_alive(&self, now: Timestamp, at_least: Duration) -> bool {
        let (share, most) = LAST_SHARE;
        let spare = Duration::from_secs_f64((self.expires_in.max(0.0) * share).min(most));
        self.age(now, at_least) + spare < self.life()
    }

    /// Whether it is time for a new one: at 80 % of its life, or up to a tenth of it sooner, as `jitter` (0 to 1) says.
    pub(super) fn is_due(&self, now: Timestamp, at_least: Duration, jitter: f64) -> bool {
        self.age(now, at_least) >= self.life().mul_f64(0.8 - 0.1 * jitter.clamp(0.0, 1.0))
    }
}

fn exposed<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

fn taken<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}

fn exposed_if_any<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(Secret::expose).serialize(serializer)
}

fn taken_if_any<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|token| !token.is_empty()).map(Secret::new))
}

mod seconds {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::clock::Timestamp;

    pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(at.0 as f64 / 1e6)
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Timestamp, D::Error> {
        Ok(Timestamp((f64::deserialize(deserializer)? * 1e6) as i64))
    }
}
