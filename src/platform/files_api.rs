//! The one HTTP implementation of an OpenAI-shaped file API; what differs between platforms is its [`Profile`].

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use std::time::Duration;

use reqwest::Method;
use tokio::time::Instant;

use super::answer::{Answer, file_object};
use super::capabilities::Capabilities;
use super::errors::{ErrorTable, Meaning};
use super::retry_after::Hints;
use super::{Deleted, ListQuery, Platform, RemoteContent, Upload};
use crate::clock::Clock;
use crate::credentials::{CredentialProvider, Refusal};
use crate::error::{Delivery, Error, ErrorKind, PlatformContext, Result, Retry};
use crate::failpoint::failpoint;
use crate::model::{AccountId, ContentKind, FileObject, Operation, PlatformId, Purpose, Secret};
use crate::resilience::{Resilience, note_wait};
use crate::transport::{
    Body, FilePart, HttpClient, Multipart, Phase, Request, Response, TransportError, TransportErrorKind,
};

/// Longest answer that is read: a listing of everything an account may hold fits many times.
const LONGEST_ANSWER: usize = 64 << 20;

/// A platform that says nothing for so long after a request's last byte hangs, even if its caller gives up then.
const PATIENCE: Duration = Duration::from_secs(30);

/// JSON up to this size is looked into before it is passed on as a file's content.
const LOOKED_INTO: usize = 64 * 1024;

/// Page size where a platform pages: the most Zhipu takes (platform_api.md §1B.4).
const PAGE: &str = "100";

/// Whether a file can be asked for by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GetRule {
    Native,
    /// There is no such verb: list, and look.
    Emulated,
}

/// What a listing without a purpose gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListRule {
    All,
    /// Nothing: each purpose has to be asked for.
    EachPurpose,
}

/// A platform as data.
#[derive(Clone, Debug)]
pub struct Profile {
    pub capabilities: Capabilities,
    pub get: GetRule,
    pub list: ListRule,
    pub errors: ErrorTable,
}

/// From here on what was asked for may have been done.
fn lost_at(operation: Operation, moment: &str) -> Result<()> {
    failpoint(operation.as_str(), moment).map_err(|error| error.with_delivery(Delivery::Unknown))
}

/// One account on one platform.
#[derive(Debug)]
pub struct FilesApi {
    profile: Profile,
    account: AccountId,
    http: HttpClient,
    credentials: Arc<dyn CredentialProvider>,
    clock: Arc<dyn Clock>,
    /// An operation's first request is admitted by its caller; its further ones keep the pace by this.
    resilience: Arc<Resilience>,
}

impl FilesApi {
    pub fn new(
        profile: Profile,
        account: AccountId,
        http: HttpClient,
        credentials: Arc<dyn CredentialProvider>,
        clock: Arc<dyn Clock>,
        resilience: Arc<Resilience>,
    ) -> Self {
        FilesApi { profile, account, http, credentials, clock, resilience }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.profile.capabilities.base_url)
    }

    fn file_url(&self, id: &str, suffix: &str) -> Result<String> {
        let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:~".contains(&byte));
        match plain && id != "." && id != ".." {
            true => Ok(self.url(&format!("/files/{id}{suffix}"))),
            false => Err(Error::new(ErrorKind::InvalidRequest, format!("{id:?} cannot be a file's id"))
                .with_hint("ids come from `Replica.remote_id` or `list_remote`")),
        }
    }

    /// One request, up to the headers of its answer.
    async fn send(&self, operation: Operation, request: Request, deadline: Instant) -> Result<Response> {
        let credential = self.credential(operation, deadline).await?;
        let request = request.bearer(&credential).map_err(|error| self.transport_error(operation, error))?;
        tracing::debug!(platform = %self.id(), %operation, "sending");
        let response =
            self.http.send(request, deadline).await.map_err(|error| self.transport_error(operation, error))?;
        note_wait(response.waited());
        if response.status() != 401 {
            self.credentials.accepted(&credential);
        }
        Ok(response.to(credential))
    }

    /// It may have to be fetched, and that may have to wait for another process.
    async fn credential(&self, operation: Operation, deadline: Instant) -> Result<Secret> {
        tokio::time::timeout_at(deadline, self.credentials.credential()).await.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::TimedOut,
                format!("{} {operation}: the deadline came before there was a credential", self.id()),
            )
            .with_hint("allow more time with `timeout`")
            .with_context(self.context(operation, None)))
        })
    }

    /// One request and its whole answer, which is a success.
    async fn ask(&self, operation: Operation, request: Request, deadline: Instant) -> Result<Answer> {
        failpoint(operation.as_str(), "send")?;
        let response = self.send(operation, request, deadline).await?;
        lost_at(operation, "answered")?;
        let answer = self.read(operation, response).await?;
        lost_at(operation, "read")?;
        if answer.is_success() { Ok(answer) } else { Err(self.refused(operation, &answer)) }
    }

    async fn read(&self, operation: Operation, response: Response) -> Result<Answer> {
        let mut answer = Answer::begun(&response);
        let body = response.read(LONGEST_ANSWER).await.map_err(|error| self.transport_error(operation, error))?;
        answer.finish(body);
        Ok(answer)
    }

    /// The file an answer describes, or the error that it describes none.
    fn described(&self, operation: Operation, answer: &Answer) -> Result<FileObject> {
        answer.json.as_ref().and_then(file_object).ok_or_else(|| self.drifted(operation, answer))
    }

    // ===== errors =====

    fn context(&self, operation: Operation, answer: Option<&Answer>) -> PlatformContext {
        PlatformContext {
            platform: self.id().to_string(),
            account: Some(self.account.to_string()),
            operation: Some(operation),
            status: answer.map(|answer| answer.status),
            code: answer.and_then(Answer::code),
            request_id: answer.and_then(|answer| answer.request_id.clone()),
        }
    }

    /// A failed answer, by the platform's table.
    fn refused(&self, operation: Operation, answer: &Answer) -> Error {
        let message = answer.message();
        if answer.is_html && (200..300).contains(&answer.status) || answer.status < 300 && answer.json.is_none() {
            return self.drifted(operation, answer);
        }
        let meaning = self.meaning(answer, &message);
        let hints = Hints {
            retry_after_ms: answer.retry_after_ms.as_deref(),
            retry_after: answer.retry_after.as_deref(),
            server_date: answer.server_date,
            message: &message,
            now: self.clock.now(),
        };
        let wait = match meaning.kind {
            ErrorKind::QuotaExceeded => hints.until_reset().or_else(|| hints.wait()),
            _ => hints.wait(),
        };
        let retry = match meaning.kind {
            ErrorKind::Unauthenticated => self.with_another_credential(answer, meaning.retry),
            _ => meaning.retry,
        };
        Error::new(meaning.kind, format!("{} answered {operation} with {}: {message}", self.id(), answer.status))
            .with_hint(hint(meaning.kind, self.id()))
            .with_context(self.context(operation, Some(answer)))
            .with_retry(retry, wait)
            .with_platform_fault(meaning.breaker)
            .with_delivery(delivery(operation, answer.status, meaning))
    }

    /// Whether a refused request is worth a second one: only with another credential, and then once.
    fn with_another_credential(&self, answer: &Answer, retry: Retry) -> Retry {
        let why = match retry {
            Retry::Never => Refusal::Unknown,
            _ => Refusal::Expired { server_time: answer.server_date },
        };
        match answer.credential.as_ref().is_some_and(|refused| self.credentials.refused(refused, why)) {
            true => Retry::Afresh,
            false => Retry::Never,
        }
    }

    fn meaning(&self, answer: &Answer, message: &str) -> Meaning {
        if answer.is_unknown_route() {
            return Meaning { kind: ErrorKind::Unsupported, retry: Retry::Never, breaker: false };
        }
        let codes = [answer.code(), answer.error_type()];
        let by = |code: Option<&str>| self.profile.errors.meaning(answer.status, code, message, answer.is_html);
        let general = by(None);
        // A table may know the code, the type, or neither.
        codes.iter().flatten().map(|code| by(Some(code))).find(|meaning| *meaning != general).unwrap_or(general)
    }

    /// 2xx, but not what the documentation says a success looks like.
    fn drifted(&self, operation: Operation, answer: &Answer) -> Error {
        let what = answer.message();
        let retry = if operation == Operation::Delete { Retry::Never } else { Retry::Once };
        Error::new(
            ErrorKind::ContractDrift,
            format!("{} answered {operation} with {} and {what}", self.id(), answer.status),
        )
        .with_hint("its API may have changed, or a proxy answered in its place")
        .with_context(self.context(operation, Some(answer)))
        .with_retry(retry, None)
        .with_platform_fault(true)
        .with_delivery(match operation {
            Operation::Upload | Operation::Delete => Delivery::Unknown,
            _ => Delivery::NotStored,
        })
    }

    fn transport_error(&self, operation: Operation, error: TransportError) -> Error {
        let (kind, retry, hint) = match &error.kind {
            TransportErrorKind::Local => {
                (ErrorKind::SourceChanged, Retry::Never, "upload it again once nothing writes to it")
            }
            TransportErrorKind::Unsendable(_) => {
                (ErrorKind::Config, Retry::Never, "check the key and the `http` settings")
            }
            TransportErrorKind::TimedOut { deadline: true, .. } => {
                (ErrorKind::TimedOut, Retry::Never, "allow more time with `timeout`")
            }
            TransportErrorKind::TimedOut { .. } => {
                (ErrorKind::TimedOut, Retry::Yes, "try again, or raise the `http` time-outs")
            }
            TransportErrorKind::Connect => {
                (ErrorKind::Unavailable, Retry::Yes, "check the network, the base URL and the proxy")
            }
            TransportErrorKind::Broken => (ErrorKind::Unavailable, Retry::Yes, "try again"),
        };
        let delivery = match (operation, error.phase) {
            (Operation::Upload | Operation::Delete, Phase::Sent | Phase::BodyLost) => Delivery::Unknown,
            (Operation::Upload, Phase::PartlySent) if error.kind != TransportErrorKind::Local => Delivery::Doubtful,
            _ => Delivery::NotStored,
        };
        let ours = match error.kind {
            TransportErrorKind::Local | TransportErrorKind::Unsendable(_) => true,
            // A caller in a hurry says nothing of the platform; one who waited for long does.
            TransportErrorKind::TimedOut { deadline: true, waited } => error.phase != Phase::Sent || waited < PATIENCE,
            _ => false,
        };
        Error::new(kind, format!("{} {operation}: {error}", self.id()))
            .with_hint(hint)
            .with_context(self.context(operation, None))
            .with_retry(retry, None)
            .with_platform_fault(!ours)
            .with_delivery(delivery)
            .with_source(error)
    }

    // ===== listing =====

    async fn list_one(&self, purpose: Option<&str>, deadline: Instant) -> Result<Vec<FileObject>> {
        let mut files: Vec<FileObject> = Vec::new();
        loop {
            if !files.is_empty() {
                self.resilience.pace(Operation::List, deadline).await?;
            }
            let mut request = Request::new(Method::GET, self.url("/files"));
            request.query.extend(purpose.map(|purpose| ("purpose", purpose.to_owned())));
            // Whether Moonshot honours paging is unknown, so nothing is sent until it says there is more.
            if self.profile.list == ListRule::EachPurpose || !files.is_empty() {
                request.query.push(("limit", PAGE.to_owned()));
            }
            request.query.extend(files.last().map(|last| ("after", last.id.clone())));
            let answer = self.ask(Operation::List, request, deadline).await?;
            let (page, has_more) = self.page(&answer)?;
            let is_new = page.last().is_some_and(|last| files.iter().all(|file| file.id != last.id));
            let fresh: Vec<FileObject> = if is_new { page } else { Vec::new() };
            let go_on = has_more && is_new;
            files.extend(fresh);
            if !go_on {
                return Ok(files);
            }
        }
    }

    fn page(&self, answer: &Answer) -> Result<(Vec<FileObject>, bool)> {
        let json = answer.json.as_ref().ok_or_else(|| self.drifted(Operation::List, answer))?;
        let data =
            json.get("data").and_then(|data| data.as_array()).ok_or_else(|| self.drifted(Operation::List, answer))?;
        let has_more = json.get("has_more").and_then(serde_json::Value::as_bool).unwrap_or(false);
        Ok((data.iter().filter_map(file_object).collect(), has_more))
    }

    /// The purposes to ask for, one listing each.
    fn listings(&self, query: &ListQuery) -> Vec<Option<String>> {
        let listable = || self.profile.capabilities.purposes.iter().filter(|rule| rule.listable);
        match (&query.purpose, self.profile.list) {
            (Some(purpose), ListRule::EachPurpose) => vec![Some(purpose.to_string())],
            (None, ListRule::EachPurpose) => listable().map(|rule| Some(rule.wire.clone())).collect(),
            (_, ListRule::All) => vec![None],
        }
    }

    async fn lists(&self, id: &str, deadline: Instant) -> Result<bool> {
        self.resilience.pace(Operation::List, deadline).await?;
        Ok(self.list(&ListQuery::default(), deadline).await?.iter().any(|file| file.id == id))
    }

    fn not_found(&self, operation: Operation, id: &str) -> Error {
        Error::new(ErrorKind::NotFound, format!("{} does not list a file {id:?}", self.id()))
            .with_hint("it was deleted, has expired or belongs to another account")
            .with_context(self.context(operation, None))
    }
}

#[async_trait]
impl Platform for FilesApi {
    fn id(&self) -> &PlatformId {
        &self.profile.capabilities.platform
    }

    fn account(&self) -> &AccountId {
        &self.account
    }

    fn capabilities(&self) -> &Capabilities {
        &self.profile.capabilities
    }

    async fn upload(&self, upload: Upload) -> Result<FileObject> {
        let file = FilePart { name: upload.name, mime: upload.mime, length: upload.length, body: upload.body };
        let mut request = Request::new(Method::POST, self.url("/files"));
        request.body = Some(Body::Multipart(Multipart::new(vec![("purpose", upload.purpose.to_string())], file)));
        let answer = self.ask(Operation::Upload, request, upload.deadline).await?;
        let object = self.described(Operation::Upload, &answer)?;
        lost_at(Operation::Upload, "parsed")?;
        Ok(object)
    }

    async fn list(&self, query: &ListQuery, deadline: Instant) -> Result<Vec<FileObject>> {
        let mut files: Vec<FileObject> = Vec::new();
        for (number, purpose) in self.listings(query).into_iter().enumerate() {
            if number > 0 {
                self.resilience.pace(Operation::List, deadline).await?;
            }
            files.extend(self.list_one(purpose.as_deref(), deadline).await?);
        }
        if let Some(purpose) = &query.purpose {
            files.retain(|file| file.purpose.as_ref().is_none_or(|stated| stated == purpose));
        }
        Ok(files)
    }

    async fn get(&self, id: &str, purpose: Option<&Purpose>, deadline: Instant) -> Result<FileObject> {
        if self.profile.get == GetRule::Emulated {
            let listed = self.list(&ListQuery { purpose: purpose.cloned() }, deadline).await?;
            return listed.into_iter().find(|file| file.id == id).ok_or_else(|| self.not_found(Operation::Get, id));
        }
        let request = Request::new(Method::GET, self.file_url(id, "")?);
        let answer = self.ask(Operation::Get, request, deadline).await?;
        self.described(Operation::Get, &answer)
    }

    async fn content(&self, id: &str, purpose: &Purpose, deadline: Instant) -> Result<RemoteContent> {
        let kind = self.profile.capabilities.rule(purpose.as_str()).map_or(ContentKind::Bytes, |rule| rule.content);
        let request = Request::new(Method::GET, self.file_url(id, "/content")?).header("accept", "*/*");
        let mut response = self.send(Operation::Content, request, deadline).await?;
        if !(200..300).contains(&response.status()) {
            let answer = self.read(Operation::Content, response).await?;
            return Err(self.refused(Operation::Content, &answer));
        }
        let mut answer = Answer::begun(&response);
        let failed = |error| self.transport_error(Operation::Content, error);
        let (head, is_whole) = response.read_ahead(LOOKED_INTO).await.map_err(failed)?;
        if is_whole {
            answer.finish(head);
            return match answer.is_content(kind) {
                true => Ok(RemoteContent::whole(kind, answer.body)),
                false => Err(self.refused(Operation::Content, &answer)),
            };
        }
        let (id, account) = (self.id().to_string(), self.account.to_string());
        let rest = stream::try_unfold(response, move |mut response| {
            let context = PlatformContext {
                platform: id.clone(),
                account: Some(account.clone()),
                operation: Some(Operation::Content),
                ..PlatformContext::default()
            };
            async move {
                let piece = response.next_piece().await.map_err(|error| {
                    Error::new(ErrorKind::Unavailable, format!("{} content: {error}", context.platform))
                        .with_hint("try again")
                        .with_context(context)
                        .with_retry(Retry::Yes, None)
                        .with_platform_fault(true)
                        .with_source(error)
                })?;
                Ok(piece.map(|piece| (piece, response)))
            }
        });
        Ok(RemoteContent { kind, stream: stream::once(async { Ok(head) }).chain(rest).boxed() })
    }

    async fn delete(&self, id: &str, deadline: Instant) -> Result<Deleted> {
        let request = Request::new(Method::DELETE, self.file_url(id, "")?);
        match self.ask(Operation::Delete, request, deadline).await {
            Ok(answer) if says_deleted(&answer) => Ok(Deleted::Now),
            Ok(answer) => Err(self.drifted(Operation::Delete, &answer)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Deleted::AlreadyGone),
            // Whether Zhipu says 404 or "parameter illegal" of a missing file is not documented: look.
            Err(error) if error.kind() == ErrorKind::InvalidRequest && !self.lists(id, deadline).await? => {
                Ok(Deleted::AlreadyGone)
            }
            Err(error) => Err(error),
        }
    }
}

/// `deleted: true`, or nothing at all as some compatible platforms have it (platform_api.md §2).
fn says_deleted(answer: &Answer) -> bool {
    let deleted = answer.json.as_ref().and_then(|json| json.get("deleted"));
    answer.body.is_empty() || deleted.and_then(serde_json::Value::as_bool) == Some(true)
}

/// Whether a failed request may have taken effect all the same.
fn delivery(operation: Operation, status: u16, meaning: Meaning) -> Delivery {
    match (operation, status) {
        (Operation::Upload, 408 | 502 | 504) | (Operation::Delete, 408 | 500..) => Delivery::Unknown,
        (Operation::Upload, 500..) => Delivery::Doubtful,
        // A 200 that says in its body that the platform itself failed.
        (Operation::Upload, 200..300) if meaning.breaker => Delivery::Doubtful,
        _ => Delivery::NotStored,
    }
}

/// What a person can do about each kind.
fn hint(kind: ErrorKind, platform: &PlatformId) -> String {
    match kind {
        ErrorKind::Unauthenticated => format!("check the key of {platform}, and that it belongs to this region"),
        ErrorKind::PermissionDenied => "ask for access in the platform's console".into(),
        ErrorKind::NotFound => "it was deleted, has expired or belongs to another account".into(),
        ErrorKind::Unsupported => "check the base URL: it may lack a path, or this platform has no such verb".into(),
        ErrorKind::TooLarge => "split the file, or use a platform that takes it".into(),
        ErrorKind::QuotaExceeded => "delete files that are no longer needed, or wait for the window to reset".into(),
        ErrorKind::Billing => "recharge or renew the plan in the platform's console".into(),
        ErrorKind::RateLimited => "set the account's real `tier` or `requests_per_minute`".into(),
        ErrorKind::ContentRejected => "check that the file opens and has text in it, or use another purpose".into(),
        ErrorKind::InvalidRequest => "check the purpose and the file's type".into(),
        _ => "try again later".into(),
    }
}
