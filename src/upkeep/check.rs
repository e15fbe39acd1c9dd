//! Check: how the copies of one file are, asked of their platforms now.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::error::{ErrorKind, Result};
use crate::manager::Manager;
use crate::model::{AccountId, ContentKind, Digest, FileObject, FileRecord, PlatformId, RemoteStatus, Replica};
use crate::registry::HealthCheck;

/// How a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Healthy,
    /// Its platform does not have it: it is handed out no more.
    Lost,
    /// It is of another size, or has other bytes.
    Differs,
    /// It is there, and its platform could not make anything of it.
    Unusable,
    /// Its platform could not be asked.
    Unknown,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Verdict::Healthy => "healthy",
            Verdict::Lost => "lost",
            Verdict::Differs => "differs",
            Verdict::Unusable => "unusable",
            Verdict::Unknown => "unknown",
        }
    }
}

/// What a look at one copy found.
#[derive(Debug, Serialize)]
pub struct FileHealth {
    pub platform: PlatformId,
    pub account: AccountId,
    pub remote_id: String,
    pub verdict: Verdict,
    /// What it follows from.
    pub evidence: String,
    /// The platform's own word for its state, where it has one.
    pub status: Option<String>,
    /// Bytes, as the platform says.
    pub size: Option<u64>,
    pub expires_at: Option<crate::clock::Timestamp>,
    /// Of the answer, where it was a refusal.
    pub http_status: Option<u16>,
    /// Seconds.
    pub response_time: f64,
    /// Bytes read back and compared, 0 where they could not be; `None` where nothing was to be read.
    pub bytes_read: Option<u64>,
}

/// Looks at a file's copies, on one platform or all. With `read`, also reads back what platforms give back as it was.
///
/// # Errors
/// `NotFound` when the file is not known, or has no copy there; `Registry`. What a platform says is in the verdicts.
pub async fn check_file(
    manager: &Manager,
    reference: &str,
    platform: Option<&PlatformId>,
    read: bool,
    within: Duration,
) -> Result<Vec<FileHealth>> {
    let deadline = Instant::now() + within;
    let record = manager.get(reference).await?;
    let mut healths = Vec::new();
    for replica in manager.replicas_on(&record, platform)? {
        let health = check_replica(manager, &record, replica, read, deadline).await?;
        if health.verdict == Verdict::Healthy {
            manager.registry().mark_verified(replica).await?;
        }
        healths.push(health);
    }
    Ok(healths)
}

/// Looks at one copy, and notes what was found.
pub(super) async fn check_replica(
    manager: &Manager,
    record: &FileRecord,
    replica: &Replica,
    read: bool,
    deadline: Instant,
) -> Result<FileHealth> {
    let begun = Instant::now();
    let asked = manager.describe(replica, deadline).await;
    let response_time = begun.elapsed();
    let mut health = FileHealth {
        platform: replica.platform.clone(),
        account: replica.account.clone(),
        remote_id: replica.remote_id.clone(),
        verdict: Verdict::Healthy,
        evidence: "its platform shows it".to_owned(),
        status: None,
        size: None,
        expires_at: replica.expires_at,
        http_status: None,
        response_time: response_time.as_secs_f64(),
        bytes_read: None,
    };
    let mut error_code = None;
    match asked {
        Ok(object) => health.judge(record, object),
        Err(error) => {
            health.http_status = error.context().and_then(|context| context.status);
            let is_missing = error.kind() == ErrorKind::NotFound;
            let is_new = is_missing && manager.may_not_be_listed_yet(replica)?;
            health.verdict = if is_missing && !is_new { Verdict::Lost } else { Verdict::Unknown };
            health.evidence = match is_new {
                true => "it was placed a moment ago: its platform may not list it yet".to_owned(),
                false => error.message().to_owned(),
            };
            error_code = Some(error.kind().name());
        }
    }
    if read && health.verdict == Verdict::Healthy {
        health.read_back(manager, record, replica, deadline).await;
    }
    if health.verdict == Verdict::Lost {
        manager.note_lost(replica).await?;
    }
    let evidence = (health.verdict != Verdict::Healthy).then(|| health.evidence.clone());
    let check = HealthCheck {
        replica: replica.clone(),
        status: health.verdict.as_str(),
        evidence,
        response_time,
        http_status: health.http_status,
        error_code,
        bytes_read: health.bytes_read,
    };
    manager.registry().note_check(check).await?;
    Ok(health)
}

impl FileHealth {
    fn judge(&mut self, record: &FileRecord, object: FileObject) {
        self.size = object.size;
        self.expires_at = object.expires_at.or(self.expires_at);
        if object.status != RemoteStatus::Unstated {
            self.status = Some(object.status.to_string());
        }
        (self.verdict, self.evidence) = match (&object.status, object.size) {
            (RemoteStatus::Deleted, _) => (Verdict::Lost, "its platform calls it deleted".to_owned()),
            (RemoteStatus::Failed, _) => {
                let why = object.status_details.unwrap_or_else(|| "it could not be processed".to_owned());
                (Verdict::Unusable, why)
            }
            (_, Some(size)) if size != record.size => {
                (Verdict::Differs, format!("it has {size} bytes there, and {} here", record.size))
            }
            (_, Some(size)) => (Verdict::Healthy, format!("its platform shows it, with {size} bytes")),
            (_, None) => (Verdict::Healthy, "its platform shows it".to_owned()),
        };
    }

    async fn read_back(&mut self, manager: &Manager, record: &FileRecord, replica: &Replica, deadline: Instant) {
        if replica.content != ContentKind::Bytes {
            self.evidence += "; it does not give its bytes back";
            return;
        }
        match manager.digest_there(replica, deadline).await {
            Ok((digest, size)) => {
                self.bytes_read = Some(size);
                match digest == record.digest {
                    true => self.evidence += "; its bytes are right",
                    false => (self.verdict, self.evidence) = (Verdict::Differs, other_bytes(digest)),
                }
            }
            Err(error) => {
                self.bytes_read = Some(0);
                (self.verdict, self.evidence) =
                    (Verdict::Unknown, format!("it could not be read: {}", error.message()));
            }
        }
    }
}

fn other_bytes(digest: Digest) -> String {
    format!("it has other bytes there: {digest}")
}
