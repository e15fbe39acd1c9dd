//! What went wrong on the way, and how far the request had come.

use std::fmt;
use std::time::Duration;

/// How far a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not a byte of the body left.
    NotSent,
    /// Part of the body left: no sane server stores it.
    PartlySent,
    /// All of it left; no answer came.
    Sent,
    /// An answer came, but its body broke off.
    BodyLost,
}

/// A request that got no (whole) answer. Holds no URL: those may carry secrets.
#[derive(Debug)]
pub struct TransportError {
    pub phase: Phase,
    pub kind: TransportErrorKind,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportErrorKind {
    /// DNS, TCP or TLS.
    Connect,
    /// The connection ended early.
    Broken,
    /// A phase took too long; `deadline`: it was the caller's. `waited` is how long nothing had come since the last byte
    /// was sent.
    TimedOut { deadline: bool, waited: Duration },
    /// Our own reader of the body failed.
    Local,
    /// The request could not be built.
    Unsendable(String),
}

impl TransportError {
    pub(super) fn unsendable(why: impl Into<String>) -> Self {
        TransportError { phase: Phase::NotSent, kind: TransportErrorKind::Unsendable(why.into()), source: None }
    }

    pub(super) fn connecting(error: reqwest::Error) -> Self {
        TransportError {
            phase: Phase::NotSent,
            kind: TransportErrorKind::Connect,
            source: Some(error.without_url().into()),
        }
    }

    pub(super) fn broken(phase: Phase, error: reqwest::Error) -> Self {
        TransportError { phase, kind: TransportErrorKind::Broken, source: Some(error.without_url().into()) }
    }

    pub(super) fn timed_out(phase: Phase, deadline: bool, waited: Duration) -> Self {
        TransportError { phase, kind: TransportErrorKind::TimedOut { deadline, waited }, source: None }
    }

    pub(super) fn local(error: std::io::Error) -> Self {
        TransportError { phase: Phase::PartlySent, kind: TransportErrorKind::Local, source: Some(error.into()) }
    }

    /// The innermost reason, in the words of whoever gave it, unless those are no words.
    fn reason(&self) -> String {
        let mut reason = String::new();
        let mut source: Option<&(dyn std::error::Error + 'static)> = self.source.as_deref().map(|s| s as _);
        while let Some(error) = source {
            if let Some(why) = tls_error(error).and_then(why_no_tls) {
                return why.to_owned();
            }
            reason = error.to_string();
            source = error.source();
        }
        reason
    }
}

/// An error of TLS, also one that an I/O error carries; those may carry each other.
fn tls_error<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e rustls::Error> {
    match error.downcast_ref::<std::io::Error>() {
        Some(io) => tls_error(io.get_ref()?),
        None => error.downcast_ref(),
    }
}

/// What a server did wrong, where the library has only a name for it.
fn why_no_tls(error: &rustls::Error) -> Option<&'static str> {
    use rustls::{AlertDescription as Alert, CertificateError as Certificate, Error};
    Some(match error {
        Error::InvalidCertificate(Certificate::UnknownIssuer) => {
            "the server's certificate is of an authority that is not trusted, or the chain to it is not whole"
        }
        Error::InvalidCertificate(Certificate::BadSignature) => {
            "the server's signature is not good: it is not its key's, or of an RSA key of less than 2048 bits"
        }
        Error::InvalidCertificate(
            Certificate::UnsupportedSignatureAlgorithmContext { .. }
            | Certificate::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
        ) => "the server's certificate is signed with SHA-1 or another algorithm that is not safe",
        Error::InvalidCertificate(Certificate::Other(other)) if other.to_string().contains("NameConstraint") => {
            "the authority of the server's certificate may not vouch for this name"
        }
        Error::AlertReceived(Alert::ProtocolVersion) | Error::PeerIncompatible(_) => {
            "the server speaks neither TLS 1.2 nor 1.3 as it has to"
        }
        Error::AlertReceived(Alert::UnrecognisedName) => "the server does not know the name it was asked for",
        Error::InvalidMessage(_) => "the server does not speak TLS",
        _ => return None,
    })
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how_far = match self.phase {
            Phase::NotSent => "before anything was sent",
            Phase::PartlySent => "while the body was being sent",
            Phase::Sent => "after the request was sent, before an answer came",
            Phase::BodyLost => "while the answer was being read",
        };
        match &self.kind {
            TransportErrorKind::Connect => write!(f, "no connection could be made ({})", self.reason()),
            TransportErrorKind::Broken => write!(f, "the connection broke {how_far} ({})", self.reason()),
            TransportErrorKind::TimedOut { deadline: true, .. } => write!(f, "the deadline came {how_far}"),
            TransportErrorKind::TimedOut { deadline: false, .. } => write!(f, "nothing moved for too long {how_far}"),
            TransportErrorKind::Local => write!(f, "the file could not be read to its end ({})", self.reason()),
            TransportErrorKind::Unsendable(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for TransportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
