//! Answers on the wire: whole, in drops, in halves, or cut short.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::Response;
use hyper::body::Frame;
use serde_json::Value;
use tokio::time::sleep;

use super::clock::{Micros, seconds};
use super::refusals::{Body, Refusal};

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

/// A good answer, before it is put on the wire.
pub(super) struct Good {
    pub status: u16,
    pub media: &'static str,
    pub body: Bytes,
}

type Pieces = futures_util::stream::BoxStream<'static, Result<Bytes, std::io::Error>>;

pub(super) fn halves(
    body: &Bytes,
    pause: Duration,
) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    let (first, second) = (body.slice(..body.len() / 2), body.slice(body.len() / 2..));
    stream::iter([Ok(first)]).chain(stream::once(async move {
        sleep(pause).await;
        Ok(second)
    }))
}

/// Twenty drops a second.
pub(super) fn drops(
    body: &Bytes,
    bytes_per_second: u64,
) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    let size = (bytes_per_second / 20).max(1) as usize;
    let pause = Duration::from_secs_f64(size as f64 / bytes_per_second.max(1) as f64);
    stream::unfold(body.clone(), move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        sleep(pause).await;
        let drop = rest.split_to(rest.len().min(size));
        Some((Ok(drop), rest))
    })
}

pub(super) fn streamed(good: &Good, pieces: Pieces) -> Answer {
    let body = StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync();
    let mut answer = Response::new(body);
    set(&mut answer, "content-length", &good.body.len().to_string());
    finish(answer, good.status, good.media)
}

pub(super) fn whole(status: u16, media: &str, body: Bytes) -> Answer {
    let body = Full::new(body).map_err(|never: Infallible| match never {}).boxed_unsync();
    finish(Response::new(body), status, media)
}

fn finish(mut answer: Answer, status: u16, media: &str) -> Answer {
    if let Ok(status) = hyper::StatusCode::from_u16(status) {
        *answer.status_mut() = status;
    }
    if !media.is_empty() {
        set(&mut answer, "content-type", media);
    }
    answer
}

pub(super) fn json_answer(status: u16, body: &Value) -> Answer {
    whole(status, "application/json; charset=utf-8", body.to_string().into())
}

pub(super) fn refusal_answer(refusal: Refusal) -> Answer {
    let mut answer = match refusal.body {
        Body::Json(body) => json_answer(refusal.status, &body),
        Body::Html(page) => whole(refusal.status, "text/html", page.into()),
    };
    for (name, value) in refusal.headers {
        set(&mut answer, name, &value);
    }
    answer
}

/// A status, body and headers of the test's own.
pub(super) fn custom(status: u16, body: Value, headers: BTreeMap<String, String>) -> Refusal {
    let body = match body {
        Value::String(text) => Body::Html(text),
        json => Body::Json(json),
    };
    let headers = headers.into_iter().map(|(name, value)| (&*name.to_ascii_lowercase().leak(), value)).collect();
    Refusal { status, body, headers }
}

pub(super) fn dated(mut answer: Answer, now: Micros) -> Answer {
    let date = std::time::UNIX_EPOCH + Duration::from_secs(seconds(now).max(0) as u64);
    set(&mut answer, "date", &httpdate::fmt_http_date(date));
    answer
}

fn set(answer: &mut Answer, name: &str, value: &str) {
    use hyper::header::{HeaderName, HeaderValue};
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
        answer.headers_mut().insert(name, value);
    }
}
