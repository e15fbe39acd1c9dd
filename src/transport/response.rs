//! An answer whose body is still on its way.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{HeaderMap, HeaderName};
use tokio::time::{Instant, timeout_at};

use super::error::{Phase, TransportError};
use crate::clock::Timestamp;
use crate::model::Secret;

/// Status and headers, and a body to be read.
#[derive(Debug)]
pub struct Response {
    inner: reqwest::Response,
    waited: Duration,
    stall: Duration,
    deadline: Instant,
    credential: Option<Secret>,
}

impl Response {
    pub(super) fn new(inner: reqwest::Response, waited: Duration, stall: Duration, deadline: Instant) -> Self {
        Response { inner, waited, stall, deadline, credential: None }
    }

    /// Notes what its request was sent with: an answer may be about that.
    #[must_use]
    pub fn to(self, credential: Secret) -> Self {
        Response { credential: Some(credential), ..self }
    }

    pub fn credential(&self) -> Option<&Secret> {
        self.credential.as_ref()
    }

    /// How long its headers took, from the request's last byte.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    pub fn status(&self) -> u16 {
        self.inner.status().as_u16()
    }

    pub fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    pub fn header(&self, name: impl Into<&'static str>) -> Option<&str> {
        self.inner.headers().get(HeaderName::from_static(name.into()))?.to_str().ok()
    }

    /// The server's clock, from its `Date` header (whole seconds).
    pub fn server_date(&self) -> Option<Timestamp> {
        let date = httpdate::parse_http_date(self.header("date")?).ok()?;
        let since = date.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(Timestamp::from_unix_seconds(i64::try_from(since.as_secs()).ok()?))
    }

    /// The next piece of the body, or `None` at its end.
    pub async fn next_piece(&mut self) -> Result<Option<Bytes>, TransportError> {
        let give_up = (Instant::now() + self.stall).min(self.deadline);
        match timeout_at(give_up, self.inner.chunk()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => Err(TransportError::broken(Phase::BodyLost, error)),
            Err(_) => Err(TransportError::timed_out(Phase::BodyLost, give_up == self.deadline, Duration::ZERO)),
        }
    }

    /// The beginning of the body, and whether that is all of it: at least `limit` bytes otherwise.
    pub async fn read_ahead(&mut self, limit: usize) -> Result<(Bytes, bool), TransportError> {
        let mut head = BytesMut::new();
        while head.len() < limit {
            match self.next_piece().await? {
                Some(piece) => head.extend_from_slice(&piece),
                None => return Ok((head.freeze(), true)),
            }
        }
        Ok((head.freeze(), false))
    }

    /// The whole body; more than `limit` bytes are cut off (they are nobody's answer to a question of ours).
    pub async fn read(mut self, limit: usize) -> Result<Bytes, TransportError> {
        // Asked now: later it is what is left, not what there was.
        let length = self.inner.content_length();
        let mut body = BytesMut::new();
        while let Some(piece) = self.next_piece().await? {
            if length == Some(piece.len() as u64) {
                return Ok(piece);
            }
            let room = limit.saturating_sub(body.len());
            body.extend_from_slice(&piece[..piece.len().min(room)]);
            if body.len() >= limit {
                break;
            }
        }
        Ok(body.freeze())
    }
}
