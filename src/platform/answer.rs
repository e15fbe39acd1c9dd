//! Reading an answer: is it a success, what does its error say, what file does it describe.
//!
//! Nothing is required on reading but an id: both vendors leave fields out, add undocumented ones and rename.

use bytes::Bytes;
use serde_json::Value;

use crate::clock::Timestamp;
use crate::model::{ContentKind, FileObject, Purpose, RemoteStatus, Secret};
use crate::transport::Response;

/// Unix times above this are in milliseconds (platform_api.md §6B).
const MILLIS_FROM: i64 = 100_000_000_000;

/// Bytes of an unreadable body that are shown to people.
const EXCERPT: usize = 200;

/// An answer read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub json: Option<Value>,
    pub body: Bytes,
    pub is_html: bool,
    pub request_id: Option<String>,
    pub server_date: Option<Timestamp>,
    pub retry_after: Option<String>,
    pub retry_after_ms: Option<String>,
    /// What its request was sent with.
    pub credential: Option<Secret>,
}

impl Answer {
    /// Status and headers; the body is to come.
    pub fn begun(response: &Response) -> Self {
        let header = |name: &'static str| response.header(name).map(str::to_owned);
        Answer {
            status: response.status(),
            json: None,
            body: Bytes::new(),
            is_html: header("content-type").is_some_and(|kind| kind.contains("html")),
            request_id: ["msh-request-id", "x-request-id", "x-log-id"].into_iter().find_map(header),
            server_date: response.server_date(),
            retry_after: header("retry-after"),
            retry_after_ms: header("retry-after-ms"),
            credential: response.credential().cloned(),
        }
    }

    pub fn finish(&mut self, body: Bytes) {
        self.json = serde_json::from_slice(&body).ok();
        self.body = body;
        let named =
            |json: &Value| json.get("request_id").or_else(|| json.get("error")?.get("request_id")).and_then(word);
        self.request_id = self.request_id.take().or_else(|| named(self.json.as_ref()?));
    }

    /// A web framework's own 404: the path is wrong, which says nothing of any file (platform_api.md §4B.2, shape 6).
    pub fn is_unknown_route(&self) -> bool {
        let has = |field: &str| self.json.as_ref().is_some_and(|json| json.get(field).is_some());
        self.status == 404 && has("path") && has("timestamp")
    }

    /// Whether a 2xx answer is what was asked for: text is never a gateway's page, and bytes may be JSON that speaks
    /// of errors, but not a gateway's refusal (platform_api.md §4B.2, shape 4).
    pub fn is_content(&self, kind: ContentKind) -> bool {
        let json = self.json.as_ref();
        match kind {
            ContentKind::Bytes => {
                json.is_none_or(|json| json.get("success") != Some(&Value::Bool(false)) || json.get("code").is_none())
            }
            _ => !self.is_html && json.is_none_or(body_is_success),
        }
    }

    /// 2xx, and a body that does not say otherwise (platform_api.md §4B.2).
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status) && self.json.as_ref().is_none_or(body_is_success)
    }

    /// The platform's own code: a business code, else an error type.
    pub fn code(&self) -> Option<String> {
        let json = self.json.as_ref()?;
        let error = json.get("error");
        [error.and_then(|e| e.get("code")), json.get("code"), error.and_then(|e| e.get("type"))]
            .into_iter()
            .flatten()
            .find_map(word)
            .or_else(|| bracketed_code(&self.message()))
    }

    /// An error type, for platforms that tell cases apart by it.
    pub fn error_type(&self) -> Option<String> {
        self.json.as_ref()?.get("error")?.get("type").and_then(word)
    }

    /// What the platform says, for people; an excerpt of the body where it is no JSON.
    pub fn message(&self) -> String {
        let from_json = self.json.as_ref().and_then(|json| {
            let error = json.get("error");
            [error.and_then(|e| e.get("message")), json.get("message"), json.get("msg"), error]
                .into_iter()
                .flatten()
                .find_map(word)
        });
        from_json.unwrap_or_else(|| excerpt(&self.body))
    }
}

/// A gateway's 200 can be a failure: `error` present, `success` false, or another `code` than 0 or 200.
fn body_is_success(json: &Value) -> bool {
    let code = json.get("code").and_then(|code| code.as_i64().or_else(|| code.as_str()?.parse().ok()));
    json.get("error").is_none_or(Value::is_null)
        && json.get("success").and_then(Value::as_bool) != Some(false)
        && code.is_none_or(|code| code == 0 || code == 200)
}

/// Text or a number, as text; nothing for an empty one.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// `[1308][…]`, the shape of the Anthropic-style base.
fn bracketed_code(message: &str) -> Option<String> {
    let code = message.strip_prefix('[')?.split(']').next()?;
    (code.len() == 4 && code.bytes().all(|byte| byte.is_ascii_digit())).then(|| code.to_owned())
}

fn excerpt(body: &Bytes) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(EXCERPT)]);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() { "an empty answer".to_owned() } else { format!("an answer that is no JSON: {line:?}") }
}

/// A file as any of the platforms describes it; `None` without an id.
pub(super) fn file_object(json: &Value) -> Option<FileObject> {
    let json = json.get("data").filter(|data| data.get("id").is_some()).unwrap_or(json);
    let text = |names: &[&str]| names.iter().find_map(|name| json.get(name).and_then(word));
    Some(FileObject {
        id: text(&["id"])?,
        size: ["bytes", "size_bytes", "size"].iter().find_map(|name| json.get(name).and_then(Value::as_u64)),
        created_at: json.get("created_at").and_then(moment),
        // Zhipu has been seen with `filename: null` beside `fileName` (platform_api.md §1B.4).
        name: text(&["filename", "fileName", "name"]),
        purpose: text(&["purpose"]).map(|purpose| Purpose::new(&purpose)),
        status: RemoteStatus::parse(text(&["status", "extract_status"]).as_deref()),
        status_details: text(&["status_details"]),
        mime: text(&["file_type", "mime_type"]),
        expires_at: json.get("expires_at").and_then(moment),
        raw: json.clone(),
    })
}

fn moment(value: &Value) -> Option<Timestamp> {
    if let Some(text) = value.as_str() {
        return Timestamp::parse_rfc3339(text);
    }
    let number = value.as_i64().filter(|number| *number > 0)?;
    Some(if number > MILLIS_FROM {
        Timestamp(number.saturating_mul(1_000))
    } else {
        Timestamp::from_unix_seconds(number)
    })
}
