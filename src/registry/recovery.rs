//! What was cut short: intents whose holder is gone and deletes nobody knows the end of, and the attempts to finish them.
//!
//! Many may recover at the same time: an attempt is begun by one of them ([`Registry::begin_attempt`]), and what it may do
//! is guarded by the intent's own fence, or is harmless to do twice.

use std::time::Duration;

use serde::Serialize;

use super::claims::keep_of;
use super::intents::{LEASE, NewIntent, Phase};
use super::{Placement, Registry, new_id, rows};
use crate::audit::{Decision, Event};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AccountId, Digest, PlatformId, Purpose, Replica};
use crate::store::{Id, Row, Session, bind};

/// What kind of work was cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unfinished {
    Upload,
    Delete,
    Move,
}

impl Unfinished {
    pub fn as_str(self) -> &'static str {
        match self {
            Unfinished::Upload => "upload",
            Unfinished::Delete => "delete",
            Unfinished::Move => "move",
        }
    }

    fn parse(word: &str) -> Result<Self> {
        let all = [Unfinished::Upload, Unfinished::Delete, Unfinished::Move];
        all.into_iter().find(|kind| kind.as_str() == word).ok_or_else(|| rows::corrupt("kind", word))
    }
}

/// An upload whose holder is gone.
#[derive(Clone, Debug)]
pub struct OpenUpload {
    pub id: String,
    pub new: NewIntent,
    pub phase: Phase,
}

/// A delete that was begun and not ended.
#[derive(Clone, Debug)]
pub struct OpenDelete {
    /// Of the replica's row.
    pub id: String,
    pub replica: Replica,
}

/// One attempt, begun.
#[derive(Clone, Debug)]
pub struct Attempt {
    kind: Unfinished,
    subject: String,
    row: String,
    /// From 1 on.
    pub number: u64,
}

/// How an attempt ended.
#[derive(Debug)]
pub enum Outcome {
    Finished {
        strategy: &'static str,
    },
    /// It is tried again after a while or, with `None`, no more.
    Failed {
        strategy: &'static str,
        error: Error,
        again_in: Option<Duration>,
    },
    /// Nothing was tried, such as while a breaker is open: that does not count.
    Waiting {
        strategy: &'static str,
        error: Error,
        again_in: Duration,
    },
}

/// Something that is being recovered, or was given up.
#[derive(Clone, Debug, Serialize)]
pub struct Recovery {
    pub kind: Unfinished,
    /// Names it to `retry`, `abandon` and `explain`.
    pub id: String,
    pub digest: Option<Digest>,
    pub platform: PlatformId,
    pub account: AccountId,
    pub name: Option<String>,
    pub attempts: u64,
    pub next_try_at: Option<Timestamp>,
    pub error: Option<String>,
    /// Given up: nobody tries again until a person says so.
    pub is_dead: bool,
    pub since: Timestamp,
}

/// One attempt of the past.
#[derive(Clone, Debug, Serialize)]
pub struct PastAttempt {
    pub number: u64,
    pub strategy: Option<String>,
    pub status: String,
    pub error: Option<String>,
    pub error_code: Option<String>,
    pub next_retry_at: Option<Timestamp>,
    pub at: Timestamp,
}

const OPEN_UPLOADS: &str = "i.state = 'sending' AND i.lease_until <= ?1";
/// Whoever was given a copy that has been replaced since may use it for a day yet, and for as long as they lease it.
const OPEN_DELETES: &str = "((i.status = 'deleting' AND i.updated_at <= ?1) OR (i.status = 'retired' AND i.updated_at <= ?3
      AND NOT EXISTS (SELECT 1 FROM holds h WHERE h.file_hash = i.file_hash AND h.kind = 'lease' AND h.platform = i.platform
                         AND (h.until IS NULL OR h.until > ?2))))";
pub(super) const OPEN_MOVES: &str = "i.lease_until <= ?1";
const RETIRED_FOR: Duration = Duration::from_secs(86_400);

/// Of these, those that nobody has given up or is to wait with.
pub(super) fn due(kind: Unfinished) -> String {
    format!(
        "NOT EXISTS (SELECT 1 FROM recoveries r
                      WHERE r.kind = '{}' AND r.subject = i.id AND (r.is_dead OR r.next_try_at > ?2))
         ORDER BY i.updated_at LIMIT 100",
        kind.as_str()
    )
}

impl Registry {
    /// Uploads whose holder is gone and that are due to be tried, the oldest first, at most a hundred.
    pub async fn open_uploads(&self) -> Result<Vec<OpenUpload>> {
        let now = self.now();
        self.store
            .read(move |session| {
                let sql = format!(
                    "SELECT i.id, i.file_hash, i.platform, i.account, i.purpose, i.filename, i.remote_name, i.file_size,
                            i.mime_type, i.user_id, i.phase, i.keep_until, i.needed_until
                       FROM upload_intents i WHERE {OPEN_UPLOADS} AND {}",
                    due(Unfinished::Upload)
                );
                session.rows(&sql, bind![now, now])?.iter().map(open_upload).collect()
            })
            .await
    }

    /// Deletes begun a while ago and copies replaced a day ago that are due to be tried, the oldest first, at most a
    /// hundred.
    pub async fn open_deletes(&self) -> Result<Vec<OpenDelete>> {
        let now = self.now();
        self.store
            .read(move |session| {
                let sql = format!(
                    "SELECT {}, id FROM platform_file_registry i WHERE {OPEN_DELETES} AND {}",
                    rows::REPLICA_COLUMNS,
                    due(Unfinished::Delete)
                );
                let open = session.rows(&sql, bind![now.minus(LEASE), now, now.minus(RETIRED_FOR)])?;
                open.iter().map(|row| Ok(OpenDelete { replica: rows::replica(row)?, id: row.get(11)? })).collect()
            })
            .await
    }

    /// Begins an attempt; `None` when another one is at it.
    pub async fn begin_attempt(
        &self,
        kind: Unfinished,
        subject: &str,
        digest: Option<Digest>,
        platform: &PlatformId,
    ) -> Result<Option<Attempt>> {
        let (subject, platform, now) = (subject.to_owned(), platform.clone(), self.now());
        self.write("begin-attempt", move |session| {
                let claimed = session.row(
                    "INSERT INTO recoveries (kind, subject, attempts, next_try_at, is_dead, created_at, updated_at)
                     VALUES (?1, ?2, 1, ?3, ?4, ?5, ?5)
                     ON CONFLICT (kind, subject) DO UPDATE
                        SET attempts = recoveries.attempts + 1, next_try_at = excluded.next_try_at, updated_at = ?5
                      WHERE recoveries.next_try_at <= ?5 AND NOT recoveries.is_dead
                     RETURNING attempts",
                    bind![kind.as_str(), Id(&subject), now.plus(LEASE), false, now],
                )?;
                let Some(claimed) = claimed else { return Ok(None) };
                let (row, number) = (new_id(), claimed.get::<u64>(0)?);
                let file_id = file_id(session, digest)?;
                session.execute(
                    "INSERT INTO file_recovery_attempts (id, file_id, operation, platform, attempt_number, status, created_at, subject)
                     VALUES (?1, ?2, ?3, ?4, ?5, 'pending', ?6, ?7)",
                    bind![
                        Id(&row),
                        file_id.as_deref().map(Id),
                        kind.as_str(),
                        rows::stored(&platform),
                        number,
                        now,
                        Id(&subject)
                    ],
                )?;
                Ok(Some(Attempt { kind, subject, row, number }))
            })
            .await
    }

    /// Notes how an attempt ended.
    pub async fn end_attempt(&self, attempt: Attempt, digest: Option<Digest>, outcome: Outcome) -> Result<()> {
        self.audited("end-attempt", move |session, audit| {
            let now = audit.now;
            let (status, strategy, error, again_in, counts) = match &outcome {
                Outcome::Finished { strategy } => ("succeeded", *strategy, None, None, true),
                Outcome::Failed { strategy, error, again_in } => ("failed", *strategy, Some(error), *again_in, true),
                Outcome::Waiting { strategy, error, again_in } => ("waiting", *strategy, Some(error), Some(*again_in), false),
            };
            let (message, code) = (error.map(Error::message), error.map(|error| error.kind().name()));
            let again_at = again_in.map(|pause| now.plus(pause));
            let pause = again_in.map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
            session.execute(
                "UPDATE file_recovery_attempts
                    SET status = ?2, recovery_strategy = ?3, error_message = ?4, error_code = ?5, next_retry_at = ?6,
                        retry_delay_ms = ?7, completed_at = ?8
                  WHERE id = ?1",
                bind![Id(&attempt.row), status, strategy, message, code, again_at, pause, now],
            )?;
            match error {
                None => forget(session, attempt.kind, &attempt.subject)?,
                Some(_) => drop(session.execute(
                    "UPDATE recoveries
                        SET next_try_at = ?3, error = ?4, error_code = ?5, is_dead = ?6, updated_at = ?7, attempts = attempts - ?8
                      WHERE kind = ?1 AND subject = ?2",
                    bind![
                        attempt.kind.as_str(),
                        Id(&attempt.subject),
                        again_at.unwrap_or(now),
                        message,
                        code,
                        again_at.is_none(),
                        now,
                        i64::from(!counts)
                    ],
                )?),
            }
            audit.note(session, &Event {
                action: "recover",
                decision: if error.is_some() { Decision::Failed } else { Decision::Done },
                digest,
                error,
                reason: Some(strategy),
                details: &[("of", attempt.kind.as_str()), ("attempt", &attempt.number.to_string())],
                ..Event::default()
            })
        })
        .await
    }

    /// All that is unfinished: under way again, to be tried, or given up.
    pub async fn recoveries(&self) -> Result<Vec<Recovery>> {
        let now = self.now();
        self.store
            .read(move |session| {
                let of = "r.attempts, r.next_try_at, r.error, r.is_dead";
                let uploads = format!(
                    "SELECT 'upload', i.id, i.file_hash, i.platform, i.account, i.filename, i.created_at, {of}
                       FROM upload_intents i LEFT JOIN recoveries r ON r.kind = 'upload' AND r.subject = i.id
                      WHERE {OPEN_UPLOADS}"
                );
                let deletes = format!(
                    "SELECT 'delete', i.id, i.file_hash, i.platform, i.account, i.remote_name, i.updated_at, {of}
                       FROM platform_file_registry i LEFT JOIN recoveries r ON r.kind = 'delete' AND r.subject = i.id
                      WHERE {OPEN_DELETES}"
                );
                let moves = format!(
                    "SELECT 'move', i.id, i.file_hash, i.from_platform, i.account, f.filename, i.created_at, {of}
                       FROM moves i LEFT JOIN recoveries r ON r.kind = 'move' AND r.subject = i.id
                       LEFT JOIN file_hashes h ON h.file_hash = i.file_hash
                       LEFT JOIN file_uploads f ON f.id = h.original_file_id
                      WHERE {OPEN_MOVES}"
                );
                let mut found = session.rows(&uploads, bind![now])?;
                found.extend(session.rows(&moves, bind![now])?);
                found.extend(session.rows(&deletes, bind![now.minus(LEASE), now, now.minus(RETIRED_FOR)])?);
                let mut found = found.iter().map(recovery).collect::<Result<Vec<_>>>()?;
                found.sort_by_key(|recovery| recovery.since);
                Ok(found)
            })
            .await
    }

    /// Forgets attempts at what has been ended meanwhile by somebody who did not know of them.
    pub async fn forget_ended(&self) -> Result<()> {
        const ENDED: &str = "(kind = 'upload' AND NOT EXISTS
                 (SELECT 1 FROM upload_intents i WHERE i.id = recoveries.subject AND i.state = 'sending'))
             OR (kind = 'delete' AND NOT EXISTS
                 (SELECT 1 FROM platform_file_registry i WHERE i.id = recoveries.subject AND i.status IN ('deleting', 'retired')))
             OR (kind = 'move' AND NOT EXISTS (SELECT 1 FROM moves i WHERE i.id = recoveries.subject))";
        let some = self.store.read(|session| {
            Ok(session.row(&format!("SELECT 1 FROM recoveries WHERE {ENDED} LIMIT 1"), &[])?.is_some())
        });
        if some.await? {
            self.write("forget-ended", |session| {
                session.execute(&format!("DELETE FROM recoveries WHERE {ENDED}"), &[])
            })
            .await?;
        }
        Ok(())
    }

    /// Every attempt at one of them, the oldest first.
    pub async fn attempts_at(&self, id: &str) -> Result<Vec<PastAttempt>> {
        let id = id.to_owned();
        self.store
            .read(move |session| {
                let sql = "SELECT attempt_number, recovery_strategy, status, error_message, error_code, next_retry_at, created_at
                             FROM file_recovery_attempts WHERE subject = ?1 ORDER BY created_at";
                let past = |row: &Row| {
                    Ok(PastAttempt {
                        number: row.get(0)?,
                        strategy: row.get(1)?,
                        status: row.get(2)?,
                        error: row.get(3)?,
                        error_code: row.get(4)?,
                        next_retry_at: row.get(5)?,
                        at: row.get(6)?,
                    })
                };
                session.rows(sql, bind![Id(&id)])?.iter().map(past).collect()
            })
            .await
    }

    /// Lets one that was given up, or waits, be tried again at once.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn retry_recovery(&self, recovery: &Recovery) -> Result<()> {
        let (recovery, now) = (recovery.clone(), self.now());
        self.audited("retry-recovery", move |session, audit| {
            session.execute(
                "UPDATE recoveries SET next_try_at = ?3, attempts = 0, is_dead = ?4, updated_at = ?3
                  WHERE kind = ?1 AND subject = ?2",
                bind![recovery.kind.as_str(), Id(&recovery.id), now, false],
            )?;
            audit.note(session, &Event { digest: recovery.digest, action: "recover.retry", ..Event::default() })
        })
        .await
    }

    /// Gives one up for good. An upload counts as never made, though its platform may have it; a copy that was to be
    /// deleted is handed out no more; a file that was to be moved stays where it is.
    ///
    /// # Errors
    /// `Conflict` when it is under way again.
    pub async fn abandon_recovery(&self, recovery: &Recovery) -> Result<()> {
        let (recovery, now) = (recovery.clone(), self.now());
        self.audited("abandon-recovery", move |session, audit| {
            let sql = match recovery.kind {
                Unfinished::Upload => {
                    "UPDATE upload_intents SET state = 'failed', fence = fence + 1, error = 'abandoned', updated_at = ?2
                      WHERE id = ?1 AND state = 'sending' AND lease_until <= ?2"
                }
                Unfinished::Delete => {
                    "UPDATE platform_file_registry SET status = 'error', updated_at = ?2
                      WHERE id = ?1 AND status IN ('deleting', 'retired')"
                }
                Unfinished::Move => "DELETE FROM moves WHERE id = ?1 AND lease_until <= ?2",
            };
            if session.execute(sql, bind![Id(&recovery.id), now])? == 0 {
                return Err(Error::new(ErrorKind::Conflict, "it is under way again").with_hint("look again"));
            }
            forget(session, recovery.kind, &recovery.id)?;
            audit.note(
                session,
                &Event {
                    digest: recovery.digest,
                    action: "recover.abandon",
                    platform: Some(&recovery.platform),
                    account: Some(&recovery.account),
                    ..Event::default()
                },
            )
        })
        .await
    }
}

pub(super) fn forget(session: &mut Session<'_>, kind: Unfinished, subject: &str) -> Result<()> {
    let sql = "DELETE FROM recoveries WHERE kind = ?1 AND subject = ?2";
    session.execute(sql, bind![kind.as_str(), Id(subject)]).map(drop)
}

/// The row of a content's first name.
fn file_id(session: &mut Session<'_>, digest: Option<Digest>) -> Result<Option<String>> {
    let Some(digest) = digest else { return Ok(None) };
    let row = session.row("SELECT original_file_id FROM file_hashes WHERE file_hash = ?1", bind![&digest.hex()])?;
    Ok(row.map(|row| row.get::<Option<String>>(0)).transpose()?.flatten())
}

fn open_upload(row: &Row) -> Result<OpenUpload> {
    let remote_name: String = row.get(6)?;
    Ok(OpenUpload {
        id: row.get(0)?,
        new: NewIntent {
            placement: Placement {
                digest: rows::digest_of(&row.get::<String>(1)?)?,
                platform: platform(row, 2)?,
                account: AccountId::new(&row.get::<String>(3)?),
                purpose: Purpose::new(&row.get::<String>(4)?),
            },
            name: row.get::<Option<String>>(5)?.unwrap_or_else(|| remote_name.clone()),
            remote_name,
            size: row.get(7)?,
            mime: row.get::<Option<String>>(8)?.unwrap_or_else(|| "application/octet-stream".to_owned()),
            owner: row.get(9)?,
            needed_until: row.get(12)?,
            keep: keep_of(row.get(11)?),
        },
        phase: Phase::parse(&row.get::<String>(10)?),
    })
}

fn recovery(row: &Row) -> Result<Recovery> {
    let hex: Option<String> = row.get(2)?;
    Ok(Recovery {
        kind: Unfinished::parse(&row.get::<String>(0)?)?,
        id: row.get(1)?,
        digest: hex.map(|hex| rows::digest_of(&hex)).transpose()?,
        platform: platform(row, 3)?,
        account: AccountId::new(&row.get::<String>(4)?),
        name: row.get(5)?,
        since: row.get(6)?,
        attempts: row.get::<Option<u64>>(7)?.unwrap_or_default(),
        next_try_at: row.get(8)?,
        error: row.get(9)?,
        is_dead: row.get::<Option<bool>>(10)?.unwrap_or_default(),
    })
}

fn platform(row: &Row, index: usize) -> Result<PlatformId> {
    let name: String = row.get(index)?;
    PlatformId::new(&name).map_err(|_| rows::corrupt("platform", &name))
}
