//! An event, and the record it makes.

use std::time::Duration;

use serde_json::{Map, Value};

use super::AuditKey;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::model::{AccountId, Actor, Digest, PlatformId};

/// How it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decision {
    #[default]
    Done,
    Failed,
}

impl Decision {
    fn as_str(self) -> &'static str {
        match self {
            Decision::Done => "done",
            Decision::Failed => "failed",
        }
    }
}

/// What happened to what. File names, owners and tags are not in it: names may be personal data, and a digest says which
/// file it is.
#[derive(Clone, Debug, Default)]
pub struct Event<'e> {
    /// Such as "upload", "delete", "lease".
    pub action: &'e str,
    pub decision: Decision,
    pub digest: Option<Digest>,
    pub platform: Option<&'e PlatformId>,
    pub account: Option<&'e AccountId>,
    pub remote_id: Option<&'e str>,
    pub bytes: Option<u64>,
    pub duration: Option<Duration>,
    /// Why it was done, or not.
    pub reason: Option<&'e str>,
    pub error: Option<&'e Error>,
    /// What else there is to say, in few words; no personal data.
    pub details: &'e [(&'e str, &'e str)],
}

impl<'e> Event<'e> {
    pub fn of(action: &'e str, digest: &Digest) -> Self {
        Event { action, digest: Some(*digest), ..Event::default() }
    }

    /// The record, but for its place in the log.
    pub(super) fn record(&self, actor: Option<(&Actor, &AuditKey)>, now: Timestamp) -> Map<String, Value> {
        let mut record = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                record.insert(name.to_owned(), value);
            }
        };
        put("time", Some(now.0.into()));
        put("action", Some(self.action.into()));
        put("decision", Some(self.decision.as_str().into()));
        put("process", Some(std::process::id().into()));
        if let Some((actor, key)) = actor {
            let pseudonym = |text: &Option<String>| text.as_ref().map(|text| key.pseudonym(text).into());
            put("actor", Some(key.pseudonym(&actor.user).into()));
            put("roles", (!actor.roles.is_empty()).then(|| actor.roles.join(" ").into()));
            put("session", pseudonym(&actor.session));
            put("address", pseudonym(&actor.address));
        }
        put("digest", self.digest.map(|digest| digest.hex().into()));
        put("platform", self.platform.map(|platform| platform.as_str().into()));
        put("account", self.account.map(|account| account.as_str().into()));
        put("remote_id", self.remote_id.map(Value::from));
        put("bytes", self.bytes.map(Value::from));
        put("duration_us", self.duration.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX).into()));
        put("reason", self.reason.map(Value::from));
        if let Some(error) = self.error {
            let context = error.context();
            put("error", Some(error.kind().name().into()));
            put("status", context.and_then(|context| context.status).map(Value::from));
            put("code", context.and_then(|context| context.code.clone()).map(Value::from));
            put("request_id", context.and_then(|context| context.request_id.clone()).map(Value::from));
        }
        for (name, value) in self.details {
            put(name, Some((*value).into()));
        }
        record
    }
}
