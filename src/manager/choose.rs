//! Put a file on any one platform that is well and can take it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::progress::Transfers;
use super::upload::{Plan, Prepared, UploadRequest};
use super::{Connection, Manager};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{Choices, metrics};
use crate::model::{FileRecord, Operation, PlatformId};

/// A platform that throttles for longer is passed over while there is another.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a file went that might have gone anywhere, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    pub platform: PlatformId,
    pub because: Because,
    /// The platforms that would have come first, and what kept them from it.
    pub passed_over: BTreeMap<PlatformId, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Because {
    AlreadyThere,
    /// The first of those preferred, or of the configured ones.
    First,
    /// The first that was not passed over.
    NextBest,
}

impl Because {
    fn as_str(self) -> &'static str {
        match self {
            Because::AlreadyThere => "already-there",
            Because::First => "first",
            Because::NextBest => "next-best",
        }
    }
}

impl Manager {
    /// What [`upload_to_any`](Self::upload_to_any) would do now, without doing it.
    ///
    /// # Errors
    /// Those that it has before a byte is sent.
    pub async fn plan_for_any(&self, request: &UploadRequest, prefer: &[PlatformId]) -> Result<Plan> {
        let mut choosing = self.choosing(request, prefer).await?;
        let choice = self.next(&mut choosing, request).await?;
        self.plan(&UploadRequest { to: vec![choice.platform], ..request.clone() }).await
    }

    /// Uploads one file to one platform, the first that is well and takes it: where it is already, else of those
    /// preferred, of the configured ones, of all. What keeps a platform from it makes the next one's turn.
    ///
    /// # Errors
    /// As [`upload`](Self::upload), of the first platform, when none takes it.
    pub async fn upload_to_any(
        &self,
        request: UploadRequest,
        prefer: &[PlatformId],
        transfers: &Transfers,
    ) -> Result<(FileRecord, Choice)> {
        let end = Instant::now() + request.deadline;
        let mut choosing = self.choosing(&request, prefer).await?;
        loop {
            let choice = self.next(&mut choosing, &request).await?;
            let to = vec![choice.platform.clone()];
            // One that hangs must leave time for the next.
            let left = end.saturating_duration_since(Instant::now());
            let deadline = if choosing.has_others(&choice.platform) { left / 2 } else { left };
            match self.upload(UploadRequest { to, deadline, ..request.clone() }, transfers).await {
                Ok(record) => {
                    let (platform, because) = (choice.platform.to_string(), choice.because.as_str());
                    tracing::info!(platform, because, "chosen");
                    metrics().choices.get_or_create(&Choices { platform, because }).inc();
                    return Ok((record, choice));
                }
                Err(error) if is_its_own(&error) => choosing.pass_over(choice.platform, error),
                Err(error) => return Err(error),
            }
        }
    }

    async fn choosing(&self, request: &UploadRequest, prefer: &[PlatformId]) -> Result<Choosing> {
        for platform in prefer {
            self.accounts(platform)?;
        }
        let mut candidates: Vec<PlatformId> = Vec::with_capacity(self.connections.len());
        for platform in prefer.iter().chain(&self.options.default_platforms).chain(self.connections.keys()) {
            if self.connections.contains_key(platform) && !candidates.contains(platform) {
                candidates.push(platform.clone());
            }
        }
        let file = self.prepare(request, &[]).await?;
        Ok(Choosing { file, candidates, passed_over: BTreeMap::new(), first_error: None })
    }

    async fn next(&self, choosing: &mut Choosing, request: &UploadRequest) -> Result<Choice> {
        if let Some(platform) = self.platform_with_it(choosing, request) {
            return Ok(choosing.choice(platform, Because::AlreadyThere));
        }
        for platform in choosing.candidates.clone() {
            match self.objection(&platform, &choosing.file, request).await {
                Some(error) => choosing.pass_over(platform, error),
                None if choosing.passed_over.is_empty() => return Ok(choosing.choice(platform, Because::First)),
                None => return Ok(choosing.choice(platform, Because::NextBest)),
            }
        }
        Err(choosing.first_error.take().unwrap_or_else(|| {
            Error::new(ErrorKind::Config, "no platform is connected").with_hint("set a key, e.g. MOONSHOT_API_KEY")
        }))
    }

    fn platform_with_it(&self, choosing: &Choosing, request: &UploadRequest) -> Option<PlatformId> {
        let holds = |platform: &&PlatformId| {
            let target = self.target(platform, &choosing.file, request);
            target.is_ok_and(|target| self.already_there(&target, &choosing.file).is_some())
        };
        choosing.candidates.iter().find(holds).cloned()
    }

    /// Why a platform should not be given this file now.
    async fn objection(&self, platform: &PlatformId, file: &Prepared, request: &UploadRequest) -> Option<Error> {
        let target = match self.target(platform, file, request) {
            Ok(target) => target,
            Err(error) => return Some(error),
        };
        // One account that is well is enough.
        let mut objection = None;
        for connection in &target.accounts {
            objection = complaint(connection).await;
            if objection.is_none() {
                break;
            }
        }
        objection
    }
}

/// Why an account cannot be asked to take a file now.
async fn complaint(connection: &Connection) -> Option<Error> {
    if let Some(refusal) = connection.resilience.refusal(Operation::Upload).await {
        return Some(refusal);
    }
    let pause = connection.resilience.health().await.pace.paused_for;
    (pause > PATIENCE).then(|| {
        let (platform, seconds) = (connection.platform.id(), pause.as_secs_f64());
        Error::new(ErrorKind::RateLimited, format!("{platform} asked for a pause of {seconds:.0} s"))
    })
}

/// A choice that is being made.
struct Choosing {
    file: Prepared,
    /// The best first.
    candidates: Vec<PlatformId>,
    passed_over: BTreeMap<PlatformId, String>,
    first_error: Option<Error>,
}

impl Choosing {
    fn choice(&self, platform: PlatformId, because: Because) -> Choice {
        Choice { platform, because, passed_over: self.passed_over.clone() }
    }

    fn has_others(&self, chosen: &PlatformId) -> bool {
        self.candidates.iter().any(|platform| platform != chosen)
    }

    fn pass_over(&mut self, platform: PlatformId, error: Error) {
        self.candidates.retain(|candidate| *candidate != platform);
        self.passed_over.insert(platform, error.message().to_owned());
        self.first_error.get_or_insert(error);
    }
}

/// Whether another platform may do what this one did not.
fn is_its_own(error: &Error) -> bool {
    use ErrorKind::{
        Billing, CircuitOpen, ContractDrift, PermissionDenied, QuotaExceeded, RateLimited, TimedOut, Unauthenticated,
        Unavailable,
    };
    matches!(
        error.kind(),
        Billing
            | CircuitOpen
            | ContractDrift
            | PermissionDenied
            | QuotaExceeded
            | RateLimited
            | TimedOut
            | Unauthenticated
            | Unavailable
    ) || error.is_platform_fault()
}
