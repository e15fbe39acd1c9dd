//! What to break, as data.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ids::Random;
use super::profile::Profile;

/// One rule: where, when, what.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    /// `null`: all of them.
    #[serde(default)]
    pub platform: Option<Profile>,
    /// upload, list, get, content, delete or any.
    #[serde(default = "any")]
    pub operation: String,
    #[serde(default)]
    pub when: When,
    pub fault: Fault,
    /// Requests that the rule has looked at, and those it broke.
    #[serde(default, skip_deserializing)]
    pub seen: u64,
    #[serde(default, skip_deserializing)]
    pub fired: u64,
}

fn any() -> String {
    "any".into()
}

/// Which of the requests it looks at a rule breaks.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum When {
    #[default]
    Always,
    /// The next so many.
    Next(u64),
    /// The nth from now, once.
    Nth(u64),
    /// Every nth.
    Every(u64),
    /// This share, by the seeded generator.
    Rate(f64),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Fault {
    /// This status and body instead of an answer; nothing is done.
    Status {
        status: u16,
        #[serde(default)]
        body: Value,
        #[serde(default)]
        headers: std::collections::BTreeMap<String, String>,
    },
    /// An error of the platform's own table, by business code or by type.
    Error {
        #[serde(default)]
        code: Option<String>,
        #[serde(default)]
        r#type: Option<String>,
        /// Another message in place of the table's.
        #[serde(default)]
        message: Option<String>,
    },
    /// A body shape of platform_api.md §4B.2, by its number.
    Shape { shape: u8 },
    /// 200 with an error inside.
    OkError,
    /// An HTML page of a gateway.
    Html {
        #[serde(default = "gateway_timeout")]
        status: u16,
    },
    /// Too fast; Moonshot says in words for how long.
    RateLimited {
        #[serde(default = "one_second")]
        seconds: f64,
    },
    /// Done as asked, but the answer comes late: before its first byte, or in the middle of its body.
    Delay {
        #[serde(default)]
        before_ms: u64,
        #[serde(default)]
        body_ms: u64,
    },
    /// Bytes trickle, of the request or of the answer.
    Drip {
        bytes_per_second: u64,
        #[serde(default)]
        of: Side,
    },
    /// The connection is reset after so many bytes of the request's body or of the answer's.
    Reset {
        at_byte: u64,
        #[serde(default)]
        of: Side,
    },
    /// Done as asked, but the connection is reset instead of an answer.
    LostReply,
    /// The connection is reset once the request was read; nothing is done.
    LostRequest,
    /// The answer's body ends early.
    TruncatedBody {
        #[serde(default = "some_bytes")]
        keep: usize,
    },
    /// Chunked requests get a 411.
    RefuseChunked,
    /// The platform's clock is off by so many seconds for this request.
    ClockSkew { seconds: i64 },
    /// Never answers.
    Stall,
}

/// Which way: from the client to the server, or back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Request,
    #[default]
    Response,
}

fn gateway_timeout() -> u16 {
    504
}

fn one_second() -> f64 {
    1.0
}

fn some_bytes() -> usize {
    10
}

impl Fault {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Fault::Status { .. } => "status",
            Fault::Error { .. } => "error",
            Fault::Shape { .. } => "shape",
            Fault::OkError => "ok_error",
            Fault::Html { .. } => "html",
            Fault::RateLimited { .. } => "rate_limited",
            Fault::Delay { .. } => "delay",
            Fault::Drip { .. } => "drip",
            Fault::Reset { .. } => "reset",
            Fault::LostReply => "lost_reply",
            Fault::LostRequest => "lost_request",
            Fault::TruncatedBody { .. } => "truncated_body",
            Fault::RefuseChunked => "refuse_chunked",
            Fault::ClockSkew { .. } => "clock_skew",
            Fault::Stall => "stall",
        }
    }
}

/// The rules in force; the first that fires for a request counts.
#[derive(Default)]
pub(super) struct Faults {
    pub rules: Vec<Rule>,
}

impl Faults {
    pub(super) fn pick(
        &mut self,
        profile: Profile,
        operation: &str,
        random: &std::sync::Mutex<Random>,
    ) -> Option<Fault> {
        self.rules
            .iter_mut()
            .filter(|rule| rule.platform.is_none_or(|platform| platform == profile))
            .filter(|rule| rule.operation == "any" || rule.operation == operation)
            .find_map(|rule| rule.fires(random).then(|| rule.fault.clone()))
    }
}

impl Rule {
    fn fires(&mut self, random: &std::sync::Mutex<Random>) -> bool {
        self.seen += 1;
        let fires = match self.when {
            When::Always => true,
            When::Next(count) => self.seen <= count,
            When::Nth(nth) => self.seen == nth,
            When::Every(nth) => nth > 0 && self.seen.is_multiple_of(nth),
            When::Rate(rate) => super::lock(random).fraction() < rate,
        };
        self.fired += u64::from(fires);
        fires
    }
}
