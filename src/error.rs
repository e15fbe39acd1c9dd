//! One error for the whole crate.
//!
//! Kinds are named for what the caller can do next. Everything a caller, the retry loop or the circuit breaker
//! needs to know is answered by a method ([`Error::is_retryable`], [`Error::retry_after`],
//! [`Error::is_platform_fault`]), so that nobody outside matches on status codes. Python mirrors the kinds one
//! to one in `exai_files/errors.py`.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::model::{FileRecord, Operation, PlatformId};

pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! error_kinds {
    ($($(#[$doc:meta])* $kind:ident),+ $(,)?) => {
        /// What went wrong, by remedy.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorKind { $($(#[$doc])* $kind),+ }

        impl ErrorKind {
            /// Every kind, for completeness tests.
            pub const ALL: &[ErrorKind] = &[$(ErrorKind::$kind),+];

            pub fn name(self) -> &'static str {
                match self { $(ErrorKind::$kind => stringify!($kind)),+ }
            }
        }
    };
}

error_kinds! {
    /// A setting is missing or wrong: mend the configuration.
    Config,
    /// The call itself is wrong: mend the call.
    InvalidRequest,
    /// There is no such local file.
    SourceNotFound,
    /// The local file changed while it was being sent, twice.
    SourceChanged,
    /// The file is larger than the platform takes.
    TooLarge,
    /// The platform has no such verb, or takes no such format or purpose.
    Unsupported,
    /// The platform does not know this key: mend the key.
    Unauthenticated,
    /// Who calls shows no token of theirs, or none that is good.
    InvalidToken,
    /// A login cannot be used any more: a person has to log in anew.
    ReauthRequired,
    /// The key is known but may not do this.
    PermissionDenied,
    /// No such file in the registry or on the platform.
    NotFound,
    /// Something else already holds what this call wants.
    Conflict,
    /// The platform looked at the content and would not have it (filtered, or nothing could be parsed).
    ContentRejected,
    /// Storage, file count or a usage window is full: waiting a moment will not help.
    QuotaExceeded,
    /// Money: balance used up or plan expired.
    Billing,
    /// Too fast: try again after `retry_after`.
    RateLimited,
    /// The platform is down, overloaded or unreachable.
    Unavailable,
    /// It has been so lately, and is left in peace for a while: try again after `retry_after`, or elsewhere.
    CircuitOpen,
    /// The deadline of the call, or one of its phases, ran out.
    TimedOut,
    /// The request may or may not have taken effect, and reconciling could not settle it.
    OutcomeUnknown,
    /// The platform answered something its documentation does not allow.
    ContractDrift,
    /// Bytes are not what the record says.
    Integrity,
    /// Our own store failed.
    Registry,
    /// More would be taken away than the caller allows at once: nothing was done.
    SafetyLimit,
    /// Some platforms took the file and some did not.
    PartialUpload,
    /// The caller cancelled.
    Cancelled,
}

/// Whether the same request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    Never,
    /// One more time at most: a repeat rarely helps.
    Once,
    /// At once, with another credential: the platform has not looked at what was asked.
    Afresh,
    Yes,
    /// Yes, but with the longer delays kept for overload.
    Slowly,
}

/// How far a request got before it failed; decides whether an upload may simply be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Not a byte of the body left, or the platform said no: nothing was stored.
    NotStored,
    /// The platform answered with a failure of its own: it may have stored it, but will not do so later.
    Doubtful,
    /// No answer: the platform may have stored it, or may do so yet.
    Unknown,
}

/// Which platform, doing what, said what.
#[derive(Clone, Debug, Default)]
pub struct PlatformContext {
    pub platform: String,
    pub account: Option<String>,
    pub operation: Option<Operation>,
    /// HTTP status, where an answer arrived.
    pub status: Option<u16>,
    /// The platform's own code or type, as text (`"1302"`, `"rate_limit_reached_error"`).
    pub code: Option<String>,
    pub request_id: Option<String>,
}

/// What an upload to several platforms achieved before it failed on some.
#[derive(Debug)]
pub struct Partial {
    pub record: FileRecord,
    pub failures: Vec<(PlatformId, Error)>,
}

/// The crate's error. Its `Display` is one sentence for a person: what, which, then what to do.
pub struct Error(Box<Details>);

struct Details {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    context: Option<PlatformContext>,
    retry: Retry,
    retry_after: Option<Duration>,
    platform_fault: bool,
    delivery: Delivery,
    size: Option<u64>,
    limit: Option<u64>,
    attempts: Vec<String>,
    partial: Option<Partial>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Details {
            kind,
            message: message.into(),
            hint: None,
            context: None,
            retry: Retry::Never,
            retry_after: None,
            platform_fault: false,
            delivery: Delivery::NotStored,
            size: None,
            limit: None,
            attempts: Vec::new(),
            partial: None,
            source: None,
        }))
    }

    pub fn partial(partial: Partial) -> Self {
        let names: Vec<String> =
            partial.failures.iter().map(|(platform, error)| format!("{platform} ({})", error.message())).collect();
        let held: Vec<&str> = partial.record.replicas.iter().map(|r| r.platform.as_str()).collect();
        let held = if held.is_empty() { "no platform".to_owned() } else { held.join(", ") };
        let mut error = Error::new(
            ErrorKind::PartialUpload,
            format!("{:?} is on {} but not on {}", partial.record.name, held, names.join(", ")),
        )
        .with_hint("call upload again with the same arguments: only the missing platforms are sent to");
        error.0.partial = Some(partial);
        error
    }

    // ===== what a constructor adds =====

    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.0.message = message.into();
        self
    }

    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    pub fn with_context(mut self, context: PlatformContext) -> Self {
        self.0.context = Some(context);
        self
    }

    pub fn with_retry(mut self, retry: Retry, after: Option<Duration>) -> Self {
        self.0.retry = retry;
        self.0.retry_after = after;
        self
    }

    /// Marks the failure as one the circuit breaker counts against the platform.
    pub fn with_platform_fault(mut self, counts: bool) -> Self {
        self.0.platform_fault = counts;
        self
    }

    pub fn with_delivery(mut self, delivery: Delivery) -> Self {
        self.0.delivery = delivery;
        self
    }

    /// The size that was refused and the limit it broke, both in bytes.
    pub fn with_sizes(mut self, size: u64, limit: u64) -> Self {
        self.0.size = Some(size);
        self.0.limit = Some(limit);
        self
    }

    /// One line per earlier attempt of the same call, oldest first.
    pub fn with_attempts(mut self, attempts: Vec<String>) -> Self {
        self.0.attempts = attempts;
        self
    }

    // ===== what a caller may ask =====

    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    pub fn context(&self) -> Option<&PlatformContext> {
        self.0.context.as_ref()
    }

    pub fn size(&self) -> Option<u64> {
        self.0.size
    }

    pub fn limit(&self) -> Option<u64> {
        self.0.limit
    }

    pub fn attempts(&self) -> &[String] {
        &self.0.attempts
    }

    pub fn partial_upload(&self) -> Option<&Partial> {
        self.0.partial.as_ref()
    }

    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// How long the platform asked us to wait, from a header or from the words of its message.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the very same request may be sent again. An upload that may have been stored may not: it is
    /// reconciled first (see `manager::upload`).
    pub fn is_retryable(&self, operation: Operation) -> bool {
        self.0.retry != Retry::Never && !(operation == Operation::Upload && self.is_ambiguous())
    }

    /// Whether the request may have taken effect although it failed.
    pub fn is_ambiguous(&self) -> bool {
        self.0.delivery != Delivery::NotStored
    }

    pub fn delivery(&self) -> Delivery {
        self.0.delivery
    }

    /// What the circuit breaker counts as a failure of the platform.
    pub fn is_platform_fault(&self) -> bool {
        self.0.platform_fault
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(hint) = &self.0.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("context", &self.0.context)
            .field("retry", &self.0.retry)
            .field("retry_after", &self.0.retry_after)
            .field("delivery", &self.0.delivery)
            .finish_non_exhaustive()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
