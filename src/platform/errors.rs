//! From what a platform said to what it means: one table per platform, one general rule behind them.

use crate::error::{ErrorKind, Retry};

/// One row of a platform's table. Zero or empty fields fit everything.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// HTTP status.
    pub status: u16,
    /// The platform's code or type.
    pub code: &'static str,
    /// Part of the message, in lower case. Only where no code tells cases apart.
    pub text: &'static str,
    pub kind: ErrorKind,
    pub retry: Retry,
    /// Whether a circuit breaker counts it against the platform.
    pub breaker: bool,
}

/// A platform's rows, the first fitting one counts.
#[derive(Clone, Copy, Debug)]
pub struct ErrorTable {
    pub rows: &'static [Row],
}

/// What a failed answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    pub kind: ErrorKind,
    pub retry: Retry,
    pub breaker: bool,
}

impl ErrorTable {
    /// `is_html`: the answer came from a gateway, not from the API.
    pub fn meaning(&self, status: u16, code: Option<&str>, message: &str, is_html: bool) -> Meaning {
        if is_html && status < 500 {
            return Meaning { kind: ErrorKind::Unavailable, retry: Retry::Yes, breaker: true };
        }
        let text = message.to_lowercase();
        let fits = |row: &&Row| {
            (row.status == 0 || row.status == status)
                && (row.code.is_empty() || code == Some(row.code))
                && (row.text.is_empty() || text.contains(row.text))
        };
        match self.rows.iter().find(fits) {
            Some(row) => Meaning { kind: row.kind, retry: row.retry, breaker: row.breaker },
            None => general(status),
        }
    }
}

/// platform_api.md §4C: what a status means when nobody says more.
fn general(status: u16) -> Meaning {
    let (kind, retry, breaker) = match status {
        200..=299 => (ErrorKind::ContractDrift, Retry::Never, true),
        300..=399 => (ErrorKind::ContractDrift, Retry::Never, false),
        401 => (ErrorKind::Unauthenticated, Retry::Never, false),
        402 => (ErrorKind::Billing, Retry::Never, false),
        403 | 434 => (ErrorKind::PermissionDenied, Retry::Never, false),
        404 | 410 => (ErrorKind::NotFound, Retry::Never, false),
        405 | 501 => (ErrorKind::Unsupported, Retry::Never, false),
        408 => (ErrorKind::TimedOut, Retry::Yes, false),
        409 | 425 => (ErrorKind::Conflict, Retry::Yes, false),
        413 | 435 => (ErrorKind::TooLarge, Retry::Never, false),
        429 => (ErrorKind::RateLimited, Retry::Yes, false),
        504 => (ErrorKind::TimedOut, Retry::Yes, true),
        500.. => (ErrorKind::Unavailable, Retry::Yes, true),
        _ => (ErrorKind::InvalidRequest, Retry::Never, false),
    };
    Meaning { kind, retry, breaker }
}
