//! One HTTP client per platform: pool, time-outs, streaming multipart, redaction. No retries, no cookies, no
//! redirects of its own.
//!
//! What it adds to reqwest is the answer to one question that decides whether an upload may be repeated: how far
//! did the request get?

mod error;
mod multipart;
mod resolver;
mod response;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tokio::time::{Instant, sleep_until};

use crate::model::{Reach, Secret};
use resolver::Resolver;

pub use error::{Phase, TransportError, TransportErrorKind};
pub use multipart::{FilePart, Multipart};
pub use response::Response;

/// Makes ring the crypto of every TLS connection in this process. Calling it again does nothing.
pub fn install_crypto() {
    // An earlier choice, ours or the application's, stands.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// How long each phase of a request may take.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeouts {
    pub connect: Duration,
    /// From the last byte of the request to the first of the answer; platforms extract text meanwhile.
    pub answer: Duration,
    /// No byte moving in either direction.
    pub stall: Duration,
    /// For the whole of a small request.
    pub total: Duration,
    /// A body may take as long as this rate needs, on top of `total`.
    pub min_bytes_per_second: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(120),
            stall: Duration::from_secs(30),
            total: Duration::from_secs(180),
            min_bytes_per_second: 32 * 1024,
        }
    }
}

impl Timeouts {
    /// Time for a whole request with a body of `bytes`.
    pub fn total_for(&self, bytes: u64) -> Duration {
        self.total + Duration::from_secs_f64(bytes as f64 / self.min_bytes_per_second.max(1) as f64)
    }
}

/// How to reach a platform.
#[derive(Clone, Debug, Default)]
pub struct HttpOptions {
    pub timeouts: Timeouts,
    /// PEM file with further certificate authorities.
    pub ca_bundle: Option<std::path::PathBuf>,
    /// Proxy URL; default: the usual environment variables.
    pub proxy: Option<String>,
    /// Where names may lead.
    pub reach: Reach,
}

/// What to send.
#[derive(Debug)]
pub struct Request {
    pub method: Method,
    pub url: String,
    pub query: Vec<(&'static str, String)>,
    pub headers: HeaderMap,
    pub body: Option<Body>,
}

/// What a request carries.
#[derive(Debug)]
pub enum Body {
    Multipart(Multipart),
    /// `application/x-www-form-urlencoded`; what it says is nobody else's business.
    Form(Secret),
    /// `application/json`.
    Json(String),
}

impl Request {
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Request { method, url: url.into(), query: Vec::new(), headers: HeaderMap::new(), body: None }
    }

    /// A `POST` of a form.
    pub fn post_form(url: impl Into<String>, fields: &[(&str, &str)]) -> Self {
        Request::new(Method::POST, url).form(fields)
    }

    /// A `POST` of JSON text.
    pub fn post_json(url: impl Into<String>, json: String) -> Self {
        Request { body: Some(Body::Json(json)), ..Request::new(Method::POST, url) }
    }

    /// A `DELETE`.
    pub fn delete(url: impl Into<String>) -> Self {
        Request::new(Method::DELETE, url)
    }

    /// Adds `Authorization: Bearer …`, marked so that nobody prints it.
    ///
    /// # Errors
    /// When the credential contains characters that no header may have.
    pub fn bearer(self, credential: &Secret) -> Result<Self, TransportError> {
        self.secret_header(AUTHORIZATION.as_str(), &Secret::new(format!("Bearer {}", credential.expose())))
    }

    /// Adds a header that nobody prints.
    ///
    /// # Errors
    /// When it contains characters that no header may have.
    pub fn secret_header(mut self, name: &'static str, secret: &Secret) -> Result<Self, TransportError> {
        let mut value = HeaderValue::from_str(secret.expose())
            .map_err(|_| TransportError::unsendable("the key contains characters that no header may have"))?;
        value.set_sensitive(true);
        self.headers.insert(HeaderName::from_static(name), value);
        Ok(self)
    }

    /// Puts fields into the body.
    fn form(mut self, fields: &[(&str, &str)]) -> Self {
        let encoded = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.body = Some(Body::Form(Secret::new(encoded)));
        self
    }

    /// A header of a value that is known when it is sent; characters that no header may have are left out.
    pub fn header_value(mut self, name: &'static str, value: &str) -> Self {
        let plain: String = value.chars().filter(|letter| letter.is_ascii_graphic() || *letter == ' ').collect();
        if let Ok(value) = HeaderValue::from_str(plain.trim()) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    pub fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }
}

/// One pool of connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: reqwest::Client,
    timeouts: Timeouts,
}

impl HttpClient {
    /// # Errors
    /// When the certificate file or the proxy URL cannot be used.
    pub fn new(options: &HttpOptions) -> Result<Self, TransportError> {
        install_crypto();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("exai-files/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(options.timeouts.connect)
            .pool_idle_timeout(Duration::from_secs(60))
            .tcp_nodelay(true)
            .dns_resolver(Arc::new(Resolver::new(options.reach, options.proxy.as_deref())));
        if let Some(path) = &options.ca_bundle {
            for certificate in read_certificates(path)? {
                builder = builder.add_root_certificate(certificate);
            }
        }
        if let Some(proxy) = &options.proxy {
            builder = builder.proxy(
                reqwest::Proxy::all(proxy).map_err(|_| TransportError::unsendable("the proxy URL cannot be used"))?,
            );
        }
        let client = builder.build().map_err(TransportError::connecting)?;
        Ok(HttpClient { client, timeouts: options.timeouts.clone() })
    }

    /// Sends one request and returns once the answer's headers are there.
    ///
    /// # Errors
    /// [`TransportError`], whose [`Phase`] says how far the request got.
    pub async fn send(&self, request: Request, deadline: Instant) -> Result<Response, TransportError> {
        let length = match &request.body {
            Some(Body::Multipart(multipart)) => multipart.content_length(),
            // It leaves in one piece with the headers.
            Some(Body::Form(_) | Body::Json(_)) | None => 0,
        };
        let answer_by = deadline.min(Instant::now() + self.timeouts.total_for(length));
        let sent = Sent::new(length);
        let sending = self.build(request, &sent).send();
        let answer = tokio::select! {
            answer = sending => answer.map_err(|error| sent.failed(error)),
            timeout = sent.watch(&self.timeouts, answer_by) => Err(timeout),
        }?;
        // Its body may be of any size: it has as long as the caller has, while it keeps moving.
        Ok(Response::new(answer, sent.waited(), self.timeouts.stall, deadline))
    }

    fn build(&self, request: Request, sent: &Sent) -> reqwest::RequestBuilder {
        let mut builder = self.client.request(request.method, &request.url).headers(request.headers);
        if !request.query.is_empty() {
            builder = builder.query(&request.query);
        }
        let multipart = match request.body {
            Some(Body::Multipart(multipart)) => multipart,
            Some(Body::Form(form)) => {
                let media = "application/x-www-form-urlencoded";
                return builder.header(CONTENT_TYPE, media).body(form.expose().to_owned());
            }
            Some(Body::Json(json)) => return builder.header(CONTENT_TYPE, "application/json").body(json),
            None => return builder,
        };
        let (content_type, length) = (multipart.content_type(), multipart.content_length());
        let counter = sent.clone();
        let counted = multipart.into_stream().map(move |piece| counter.count(piece));
        builder
            .header(CONTENT_TYPE, content_type)
            .header(CONTENT_LENGTH, length)
            .body(reqwest::Body::wrap_stream(counted))
    }
}

fn read_certificates(path: &std::path::Path) -> Result<Vec<reqwest::Certificate>, TransportError> {
    let unusable = || TransportError::unsendable(format!("the certificates in {path:?} cannot be used"));
    let pem = std::fs::read(path).map_err(|_| unusable())?;
    reqwest::Certificate::from_pem_bundle(&pem).map_err(|_| unusable())
}

/// How much of a request's body has left.
#[derive(Clone, Debug)]
struct Sent {
    bytes: Arc<AtomicU64>,
    /// When the last byte left; without a body, when it began.
    last_at: Arc<std::sync::Mutex<Instant>>,
    local_fault: Arc<std::sync::Mutex<Option<std::io::Error>>>,
    length: u64,
}

impl Sent {
    fn new(length: u64) -> Self {
        Sent {
            bytes: Arc::default(),
            last_at: Arc::new(std::sync::Mutex::new(Instant::now())),
            local_fault: Arc::default(),
            length,
        }
    }

    fn count(&self, piece: std::io::Result<Bytes>) -> std::io::Result<Bytes> {
        match piece {
            Ok(piece) => {
                self.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
                *self.last_at.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Instant::now();
                Ok(piece)
            }
            Err(error) => {
                let told = std::io::Error::from(error.kind());
                *self.local_fault.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error);
                Err(told)
            }
        }
    }

    /// How long ago that was.
    fn waited(&self) -> Duration {
        self.last_at.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).elapsed()
    }

    fn phase(&self) -> Phase {
        match self.bytes.load(Ordering::Relaxed) {
            0 if self.length > 0 => Phase::NotSent,
            sent if sent < self.length => Phase::PartlySent,
            _ => Phase::Sent,
        }
    }

    fn failed(&self, error: reqwest::Error) -> TransportError {
        let fault = self.local_fault.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        match fault {
            Some(fault) => TransportError::local(fault),
            None if error.is_connect() || error.is_builder() => TransportError::connecting(error),
            None => TransportError::broken(self.phase(), error),
        }
    }

    /// Ends when the body has stalled, the answer is overdue or the deadline has come.
    ///
    /// One timer per request looks at a counter, instead of one per piece.
    async fn watch(&self, timeouts: &Timeouts, deadline: Instant) -> TransportError {
        let glance = timeouts.stall.min(timeouts.answer) / 2;
        let (mut seen, mut since) = (self.bytes.load(Ordering::Relaxed), Instant::now());
        loop {
            let patience =
                if self.phase() == Phase::Sent { timeouts.answer } else { timeouts.stall.max(timeouts.connect) };
            let give_up = since + patience;
            // Moving bytes are looked at again well before the patience could end unnoticed.
            sleep_until(give_up.min(deadline).min(Instant::now() + glance)).await;
            let now = self.bytes.load(Ordering::Relaxed);
            if now != seen {
                (seen, since) = (now, Instant::now());
            } else if Instant::now() >= give_up.min(deadline) {
                return TransportError::timed_out(self.phase(), Instant::now() >= deadline, self.waited());
            }
            if Instant::now() >= deadline {
                return TransportError::timed_out(self.phase(), true, self.waited());
            }
        }
    }
}
