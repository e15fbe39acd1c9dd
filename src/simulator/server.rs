//! From a request to an answer, with whatever is to go wrong in between.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::World;
use super::accounts;
use super::admin;
use super::clock::{Micros, rfc3339};
use super::faults::{Fault, Side};
use super::multipart;
use super::operations::Arrived;
use super::profile::Profile;
use super::refusals::{self, Body, Refusal};
use super::replies::{Answer, Good, custom, dated, drops, halves, json_answer, refusal_answer, streamed, whole};
use super::settings::Settings;
use super::truth::Entry;
use super::wire::{Link, Wire};

/// The largest body that is read at all.
const LARGEST: usize = 1 << 30;

/// Headers that the truth log keeps.
const LOGGED_HEADERS: [&str; 13] = [
    "content-length",
    "transfer-encoding",
    "user-agent",
    "kimi-api-version",
    "accept-language",
    "x-stainless-retry-count",
    "content-type",
    "x-msh-platform",
    "x-msh-version",
    "x-msh-device-name",
    "x-msh-device-model",
    "x-msh-os-version",
    "x-msh-device-id",
];

/// The switch for Moonshot's beta contract (platform_api.md §1A.7).
const BETA: &str = "2026-09-01-beta";

pub(super) async fn serve(listener: TcpListener, world: Arc<World>) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(run(stream, world.clone()));
        }
    }
}

/// Serves one client until it leaves, or until a fault resets the connection in its face.
async fn run(stream: TcpStream, world: Arc<World>) {
    let wire = Arc::new(Wire::default());
    let shared = wire.clone();
    let service = service_fn(move |request| -> Pin<Box<dyn Future<Output = _> + Send>> {
        Box::pin(answer(request, world.clone(), shared.clone()))
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let was_cut = tokio::select! {
        _ = std::future::poll_fn(|context| connection.poll_without_shutdown(context)) => false,
        () = wire.reset.notified() => true,
    };
    let mut stream = connection.into_parts().io.into_inner();
    if was_cut {
        // Closing with nothing to linger for sends RST instead of FIN.
        let _ = stream.set_zero_linger();
    } else {
        let _ = stream.shutdown().await;
    }
}

async fn answer(request: Request<Incoming>, world: Arc<World>, wire: Arc<Wire>) -> Result<Answer, Infallible> {
    let outcome = AssertUnwindSafe(route(request, &world, wire)).catch_unwind().await;
    Ok(outcome.unwrap_or_else(|panic| {
        let said =
            panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
        super::lock(&world.panics).push(said.unwrap_or_default());
        json_answer(500, &json!({"error": "the simulator panicked"}))
    }))
}

async fn route(request: Request<Incoming>, world: &World, wire: Arc<Wire>) -> Answer {
    let path = request.uri().path().to_owned();
    if let Some(rest) = path.strip_prefix("/admin") {
        return administer(request, world, rest).await;
    }
    match Profile::of_path(&path) {
        Some((profile, rest)) => Visit::new(world, wire, profile, &request, rest).handle(request).await,
        None => refusal_answer(refusals::shape(6, &path).unwrap_or_else(refusals::unknown_route)),
    }
}

async fn administer(request: Request<Incoming>, world: &World, rest: &str) -> Answer {
    let method = request.method().to_string();
    let target = request.uri().query().map_or(rest.to_owned(), |query| format!("{rest}?{query}"));
    let Ok(body) = request.into_body().collect().await else { return json_answer(400, &json!({"error": "no body"})) };
    let body = body.to_bytes();
    let body = match body.is_empty() {
        true => None,
        false => match serde_json::from_slice(&body) {
            Ok(body) => Some(body),
            Err(error) => return json_answer(400, &json!({"error": format!("the body is not JSON: {error}")})),
        },
    };
    if let Some(bytes) = admin::stored_bytes(world, &method, rest) {
        return whole(200, "application/octet-stream", bytes);
    }
    match admin::handle(world, &method, &target, body) {
        Ok(value) => json_answer(200, &value),
        Err(error) => json_answer(error.status, &json!({"error": error.message})),
    }
}

/// What is asked of a platform.
#[derive(Clone, Debug)]
enum Verb {
    Upload,
    List,
    Get(String),
    Content(String),
    Delete(String),
    /// Kimi Code's login.
    Device,
    Token,
    Other,
}

impl Verb {
    fn of(method: &str, rest: &str) -> Verb {
        let parts: Vec<&str> = rest.split('/').skip(1).collect();
        match (method, parts.as_slice()) {
            ("POST", ["files"]) => Verb::Upload,
            ("GET", ["files"]) => Verb::List,
            ("GET", ["files", id, "content"]) => Verb::Content((*id).to_owned()),
            ("GET", ["files", id]) => Verb::Get((*id).to_owned()),
            ("DELETE", ["files", id]) => Verb::Delete((*id).to_owned()),
            ("POST", ["api", "oauth", "device_authorization"]) => Verb::Device,
            ("POST", ["api", "oauth", "token"]) => Verb::Token,
            _ => Verb::Other,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Verb::Upload => "upload",
            Verb::List => "list",
            Verb::Get(_) => "get",
            Verb::Content(_) => "content",
            Verb::Delete(_) => "delete",
            Verb::Device => "device",
            Verb::Token => "token",
            Verb::Other => "other",
        }
    }
}

/// One request on its way through.
struct Visit<'w> {
    world: &'w World,
    wire: Arc<Wire>,
    profile: Profile,
    verb: Verb,
    settings: Settings,
    fault: Option<Fault>,
    now: Micros,
    english: bool,
    beta: bool,
    query: HashMap<String, String>,
    entry: Entry,
}

impl<'w> Visit<'w> {
    fn new(world: &'w World, wire: Arc<Wire>, profile: Profile, request: &Request<Incoming>, rest: &str) -> Self {
        let verb = Verb::of(request.method().as_str(), rest);
        let settings = world.shelf(profile).settings.clone();
        let fault = super::lock(&world.faults).pick(profile, verb.name(), &world.random);
        let skew = match fault {
            Some(Fault::ClockSkew { seconds }) => seconds * 1_000_000,
            _ => 0,
        };
        let now = world.clock.now() + skew;
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let english =
            profile != Profile::ZhipuCn || header("accept-language").is_some_and(|language| language.starts_with("en"));
        let entry = Entry {
            time: rfc3339(world.clock.now()),
            platform: profile.name(),
            account: "-".into(),
            operation: verb.name(),
            method: request.method().to_string(),
            path: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
            outcome: "refused",
            fault: fault.as_ref().map(Fault::name),
            request_headers: LOGGED_HEADERS
                .into_iter()
                .filter_map(|name| Some((name, header(name)?.to_owned())))
                .collect::<BTreeMap<_, _>>(),
            ..Entry::default()
        };
        Visit {
            beta: !profile.speaks_zai() && header("kimi-api-version") == Some(BETA),
            query: request.uri().query().map(admin::pairs).unwrap_or_default(),
            world,
            wire,
            profile,
            verb,
            settings,
            fault,
            now,
            english,
            entry,
        }
    }

    async fn handle(mut self, request: Request<Incoming>) -> Answer {
        Link::round_trip(&self.settings, &self.wire).await;
        let (head, body) = request.into_parts();
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let is_chunked = header("transfer-encoding").is_some_and(|encoding| encoding.contains("chunked"));
        if is_chunked && (self.settings.reject_chunked || matches!(self.fault, Some(Fault::RefuseChunked))) {
            return self.refuse(Refusal::html(411, "Length Required"));
        }
        let Some(body) = self.receive(body).await else { return self.vanish("aborted").await };
        if matches!(self.verb, Verb::Device | Verb::Token) {
            return self.log_in(&body).await;
        }
        let authorization = header("authorization").map(str::to_owned);
        let content_type = header("content-type").unwrap_or_default().to_owned();
        let account = if self.profile == Profile::KimiCode {
            super::lock(&self.world.oauth).account_of(authorization.as_deref(), self.now)
        } else {
            let mut shelf = self.world.shelf(self.profile);
            let mut known = std::mem::take(&mut shelf.known_keys);
            let account =
                accounts::authenticate(self.profile, &shelf.settings, &mut known, authorization.as_deref(), self.now);
            shelf.known_keys = known;
            account
        };
        let account = match account {
            Ok(account) => account,
            Err(refusal) => return self.refuse(refusal),
        };
        (self.entry.account, self.entry.authenticated) = (account.clone(), true);
        let arrived = match self.verb {
            Verb::Upload => Some(multipart::parse(&content_type, &body).map(|form| self.note_arrival(form))),
            _ => None,
        };
        let entered = self.world.shelf(self.profile).enter(&account, self.now, self.english);
        if let Err(refusal) = entered {
            return self.refuse(refusal);
        }
        let outcome = match self.instead().await {
            Some(refusal) => Err(refusal),
            None => self.perform(&account, arrived),
        };
        if let Some(Fault::Delay { before_ms, .. }) = self.fault {
            sleep(Duration::from_millis(before_ms)).await;
        }
        self.world.shelf(self.profile).leave(&account);
        match outcome {
            Ok(_) if matches!(self.fault, Some(Fault::LostReply)) => self.vanish("lost_reply").await,
            Ok(good) => self.reply(good).await,
            Err(refusal) => self.refuse(refusal),
        }
    }

    /// A request to Kimi Code's OAuth server.
    async fn log_in(mut self, body: &Bytes) -> Answer {
        if let Some(refusal) = self.instead().await {
            return self.refuse(refusal);
        }
        let form = admin::pairs(&String::from_utf8_lossy(body));
        let outcome = {
            let mut oauth = super::lock(&self.world.oauth);
            let mut random = super::lock(&self.world.random);
            match self.verb {
                Verb::Device => oauth.device(&form, &self.settings, &mut random, self.now),
                _ => oauth.token(&form, &self.settings, &mut random, self.now),
            }
        };
        if let Some(Fault::Delay { before_ms, .. }) = self.fault {
            sleep(Duration::from_millis(before_ms)).await;
        }
        match outcome {
            Err(refusal) => self.refuse(refusal),
            Ok((outcome, _)) if matches!(self.fault, Some(Fault::LostReply)) => self.vanish(outcome).await,
            Ok((outcome, granted)) => {
                self.entry.outcome = outcome;
                let body = granted.to_string().into();
                self.reply(Good { status: 200, media: "application/json", body }).await
            }
        }
    }

    /// The request's body, at the pace and to the point the link and the fault allow.
    async fn receive(&self, mut body: Incoming) -> Option<Bytes> {
        let link = &self.world.links[&self.profile];
        let mut pieces: Vec<Bytes> = Vec::new();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame.ok()?.into_data() else { continue };
            length += piece.len();
            link.carry(piece.len(), self.settings.bandwidth_bits_per_second).await;
            match self.fault {
                Some(Fault::Reset { at_byte, of: Side::Request }) if length as u64 >= at_byte => return None,
                Some(Fault::Drip { bytes_per_second, of: Side::Request }) => {
                    sleep(Duration::from_secs_f64(piece.len() as f64 / bytes_per_second.max(1) as f64)).await;
                }
                _ if length > LARGEST => return None,
                _ => {}
            }
            pieces.push(piece);
        }
        if matches!(self.fault, Some(Fault::Reset { of: Side::Request, .. })) {
            return None;
        }
        Some(match pieces.len() {
            1 => pieces.remove(0),
            _ => pieces
                .iter()
                .fold(BytesMut::with_capacity(length), |mut all, piece| {
                    all.extend_from_slice(piece);
                    all
                })
                .freeze(),
        })
    }

    fn note_arrival(&mut self, form: multipart::Form) -> Arrived {
        let digest = form.file.as_ref().map(|file| Sha256::digest(&file.bytes));
        let sha256 = digest.map(|digest| hex(&digest)).unwrap_or_default();
        self.entry.filename = form.file.as_ref().map(|file| file.filename.clone());
        self.entry.bytes = form.file.as_ref().map(|file| file.bytes.len() as u64);
        self.entry.purpose = form.field("purpose").map(str::to_owned);
        self.entry.sha256 = Some(sha256.clone());
        Arrived { form, sha256 }
    }

    /// What the fault, or the incident, answers in place of the platform.
    async fn instead(&mut self) -> Option<Refusal> {
        let rate = self.settings.incident_missing_header_rate;
        if rate > 0.0 && !self.beta && super::lock(&self.world.random).fraction() < rate {
            return Some(refusals::moonshot_invalid("missing required header Kimi-Api-Version"));
        }
        match self.fault.clone()? {
            Fault::Status { status, body, headers } => Some(custom(status, body, headers)),
            Fault::Error { code, r#type, message } => Some(self.documented(code, r#type, message)),
            Fault::Shape { shape } => refusals::shape(shape, &self.entry.path),
            Fault::OkError => Some(match self.profile.speaks_zai() {
                false => Refusal { status: 200, ..refusals::moonshot_type("unexpected_output") },
                true => Refusal { status: 200, ..refusals::in_language("1234", self.english) },
            }),
            Fault::Html { status } => Some(Refusal::html(status, "Gateway")),
            Fault::RateLimited { seconds } => {
                Some(refusals::too_fast(self.profile, "max RPM: 3", seconds, self.english))
            }
            Fault::LostRequest => {
                self.entry.outcome = "lost_request";
                self.log(None);
                let account = self.entry.account.clone();
                self.world.shelf(self.profile).leave(&account);
                self.wire.cut().await
            }
            Fault::Stall => {
                self.entry.outcome = "failed";
                self.log(None);
                let account = self.entry.account.clone();
                self.world.shelf(self.profile).leave(&account);
                std::future::pending().await
            }
            _ => None,
        }
    }

    fn documented(&self, code: Option<String>, kind: Option<String>, message: Option<String>) -> Refusal {
        let mut refusal = match (code, kind) {
            (Some(code), _) => refusals::in_language(&code, self.english),
            (None, kind) => refusals::moonshot_type(kind.as_deref().unwrap_or_default()),
        };
        if let (Some(message), Body::Json(body)) = (message, &mut refusal.body) {
            body["error"]["message"] = json!(message);
        }
        refusal
    }

    fn perform(&mut self, account: &str, arrived: Option<Result<Arrived, String>>) -> Result<Good, Refusal> {
        let mut shelf = self.world.shelf(self.profile);
        for gone in shelf.expire(self.now) {
            self.world.truth.push(Entry {
                time: rfc3339(self.now),
                platform: self.profile.name(),
                account: gone.account,
                operation: "expire",
                file_id: Some(gone.id),
                outcome: "expired",
                ..Entry::default()
            });
        }
        let (status, body) = match self.verb.clone() {
            Verb::Upload => {
                let arrived = match arrived {
                    Some(Ok(arrived)) => arrived,
                    Some(Err(why)) if !self.profile.speaks_zai() => {
                        return Err(refusals::moonshot_invalid(&format!("Invalid request: {why}")));
                    }
                    Some(Err(why)) => return Err(refusals::zai_invalid(&why)),
                    None => return Err(refusals::unknown_route()),
                };
                let mut random = super::lock(&self.world.random);
                let stored = shelf.upload(account, arrived, self.beta, &mut random, self.now)?;
                drop(random);
                self.entry.outcome = "stored";
                (self.entry.file_id, self.entry.filename) = (Some(stored.id.clone()), Some(stored.filename.clone()));
                (if self.beta { 201 } else { 200 }, shelf.describe(&stored, self.beta, self.now))
            }
            Verb::List => {
                let (files, has_more) = shelf.list(account, &self.query, self.now);
                let data: Vec<Value> = files.iter().map(|file| shelf.describe(file, self.beta, self.now)).collect();
                self.entry.outcome = "listed";
                let mut page = json!({"object": "list", "has_more": has_more});
                if !self.profile.speaks_zai() {
                    // Empty strings, not null, on an empty account.
                    page["first_id"] = json!(files.first().map_or("", |file| &file.id));
                    page["last_id"] = json!(files.last().map_or("", |file| &file.id));
                }
                page["data"] = Value::Array(data);
                (200, page)
            }
            Verb::Get(id) if self.settings.get_metadata => {
                self.entry.file_id = Some(id.clone());
                let description = shelf.describe(shelf.get(account, &id)?, self.beta, self.now);
                self.entry.outcome = "read";
                (200, description)
            }
            Verb::Content(id) => {
                self.entry.file_id = Some(id.clone());
                let (media, body) = shelf.content(account, &id)?;
                self.entry.outcome = "read";
                return Ok(Good { status: 200, media, body });
            }
            Verb::Delete(id) => {
                self.entry.file_id = Some(id.clone());
                let gone = shelf.delete(account, &id)?;
                self.entry.outcome = "deleted";
                (self.entry.filename, self.entry.sha256) = (Some(gone.filename), Some(gone.sha256));
                if self.beta {
                    return Ok(Good { status: 204, media: "", body: Bytes::new() });
                }
                (200, json!({"id": id, "object": "file", "deleted": true}))
            }
            Verb::Get(_) | Verb::Device | Verb::Token | Verb::Other if self.profile.speaks_zai() => {
                return Err(refusals::unknown_route());
            }
            Verb::Get(_) | Verb::Device | Verb::Token | Verb::Other => {
                return Err(refusals::moonshot(404, "resource_not_found_error", "没找到对象"));
            }
        };
        Ok(Good { status, media: "application/json; charset=utf-8", body: body.to_string().into() })
    }

    // ===== what goes back =====

    fn log(&mut self, status: Option<u16>) {
        self.entry.status = status;
        self.world.truth.push(std::mem::take(&mut self.entry));
    }

    /// No answer at all: the connection is reset.
    async fn vanish(&mut self, outcome: &'static str) -> Answer {
        self.entry.outcome = outcome;
        self.log(None);
        self.wire.cut().await
    }

    fn refuse(&mut self, refusal: Refusal) -> Answer {
        self.log(Some(refusal.status));
        dated(refusal_answer(refusal), self.now)
    }

    async fn reply(&mut self, good: Good) -> Answer {
        self.log(Some(good.status));
        let bits = self.settings.bandwidth_bits_per_second;
        self.world.links[&self.profile].carry(good.body.len(), bits).await;
        let answer = match &self.fault {
            Some(Fault::Delay { body_ms, .. }) if *body_ms > 0 => {
                let pause = Duration::from_millis(*body_ms);
                streamed(&good, halves(&good.body, pause).boxed())
            }
            Some(Fault::Drip { bytes_per_second, of: Side::Response }) => {
                streamed(&good, drops(&good.body, *bytes_per_second).boxed())
            }
            Some(Fault::Reset { at_byte, of: Side::Response }) => {
                let head = good.body.slice(..good.body.len().min(*at_byte as usize));
                let wire = self.wire.clone();
                // What was written gets a moment to leave before the reset overtakes it.
                let cut = async move {
                    sleep(Duration::from_millis(20)).await;
                    wire.cut_now();
                    std::future::pending().await
                };
                streamed(&good, stream::iter([Ok(head)]).chain(stream::once(cut)).boxed())
            }
            Some(Fault::TruncatedBody { keep }) => {
                let head = good.body.slice(..good.body.len().min(*keep));
                let end = stream::once(async {
                    sleep(Duration::from_millis(20)).await;
                    Err(std::io::Error::other("truncated on purpose"))
                });
                streamed(&good, stream::iter([Ok(head)]).chain(end).boxed())
            }
            _ => whole(good.status, good.media, good.body),
        };
        dated(answer, self.now)
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
