//! Work that several watchers share, and what they find.

use std::time::Duration;

use super::{Registry, new_id, rows};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::model::{AccountId, ContentKind, Digest, PlatformId, Replica};
use crate::store::{Id, Row, Session, bind};

/// Checks that are noted in one transaction.
const AT_ONCE: usize = 1_000;

/// How a replica was found to be.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    pub replica: Replica,
    /// "healthy", "lost", "differs", "unusable" or "unknown".
    pub status: &'static str,
    pub evidence: Option<String>,
    pub response_time: Duration,
    /// Of a refusal.
    pub http_status: Option<u16>,
    pub error_code: Option<&'static str>,
    /// 0 where they could not be read.
    pub bytes_read: Option<u64>,
}

/// A task of the watchers that is ours. Given back when it is dropped: a watcher that fails or is cancelled keeps nobody
/// waiting.
#[derive(Debug)]
pub struct Turn {
    registry: Registry,
    name: String,
    owner: String,
    every: Duration,
    /// Not known while it is asked for, and that may be cancelled, too.
    is_taken: bool,
}

impl Turn {
    /// Gives it back, and returns when everybody may see that.
    pub async fn end(mut self) -> Result<()> {
        let end = self.ending();
        self.registry.write("end-turn", end).await?;
        self.is_taken = false;
        Ok(())
    }

    /// Leaves it to run out: what was begun may not be over.
    pub fn run_out(mut self) {
        self.is_taken = false;
    }

    fn ending(&self) -> impl FnOnce(&mut Session<'_>) -> Result<()> + Send + 'static {
        let (name, owner, now) = (self.name.clone(), self.owner.clone(), self.registry.now());
        let due_at = now.plus(self.every);
        move |session| {
            let sql = "UPDATE watch_tasks SET lease_until = ?3, due_at = ?4 WHERE name = ?1 AND owner = ?2";
            session.execute(sql, bind![&name, &owner, now, due_at]).map(drop)
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.is_taken {
            self.registry.store.write_soon(self.ending());
        }
    }
}

impl Registry {
    /// Takes a task for as long as it may take, if it is due and nobody is at it. It is due again `every` so often.
    pub async fn take_turn(&self, name: &str, at_most: Duration, every: Duration) -> Result<Option<Turn>> {
        let (name, owner, now) = (name.to_owned(), new_id(), self.now());
        let mut turn = Turn { registry: self.clone(), name: name.clone(), owner: owner.clone(), every, is_taken: true };
        let taking = self.write("take-turn", move |session| {
            let taken = session.execute(
                "INSERT INTO watch_tasks (name, owner, lease_until, due_at) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, lease_until = excluded.lease_until
                      WHERE watch_tasks.due_at <= ?4 AND watch_tasks.lease_until <= ?4",
                bind![&name, &owner, now.plus(at_most), now],
            )?;
            Ok(taken == 1)
        });
        turn.is_taken = taking.await?;
        Ok(turn.is_taken.then_some(turn))
    }

    /// Notes how replicas were found to be: each whose health has changed gets a row; gives those.
    pub async fn note_health(&self, checks: Vec<HealthCheck>) -> Result<Vec<HealthCheck>> {
        let mut changed = Vec::new();
        for some in checks.chunks(AT_ONCE) {
            changed.extend(self.note_some(some.to_vec()).await?);
        }
        Ok(changed)
    }

    /// Copies of an account whose bytes can be read back, those that were read longest ago first.
    pub async fn least_read(
        &self,
        platform: &PlatformId,
        account: &AccountId,
        most: u64,
    ) -> Result<Vec<(Digest, Replica)>> {
        let (platform, account) = (platform.clone(), account.clone());
        self.store
            .read(move |session| {
                let sql = format!(
                    "SELECT {}, i.file_hash FROM platform_file_registry i
                      WHERE i.platform = ?1 AND i.account = ?2 AND i.status = 'active' AND i.content_kind = ?3
                        AND i.file_hash IS NOT NULL
                      ORDER BY COALESCE((SELECT MAX(h.checked_at) FROM file_health_checks h
                                          WHERE h.registry_id = i.id AND h.bytes_read IS NOT NULL), i.created_at)
                      LIMIT {most}",
                    rows::replica_columns("i")
                );
                let values = bind![rows::stored(&platform), account.as_str(), ContentKind::Bytes.as_str()];
                let found = session.rows(&sql, values)?;
                found.iter().map(|row| Ok((rows::digest_of(&row.get::<String>(11)?)?, rows::replica(row)?))).collect()
            })
            .await
    }

    /// Notes one look at a replica, whatever it found.
    pub async fn note_check(&self, check: HealthCheck) -> Result<()> {
        let now = self.now();
        self.write("note-check", move |session| {
            let Some(row) = replica_row(session, &check.replica)? else { return Ok(()) };
            add_check(session, &check, &row, now)
        })
        .await
    }

    async fn note_some(&self, checks: Vec<HealthCheck>) -> Result<Vec<HealthCheck>> {
        let now = self.now();
        self.write("note-some", move |session| {
            let mut changed = Vec::new();
            for check in checks {
                let Some(row) = replica_row(session, &check.replica)? else { continue };
                // That it is listed says nothing of bytes that were read, and were wrong.
                let is_known_better = row.was_read_wrong && check.status == "healthy" && check.bytes_read.is_none();
                if is_known_better || row.status_before.as_deref() == Some(check.status) {
                    continue;
                }
                add_check(session, &check, &row, now)?;
                changed.push(check);
            }
            Ok(changed)
        })
        .await
    }
}

/// A replica's row, and how it was found to be the last time.
struct ReplicaRow {
    id: Option<String>,
    file_id: Option<String>,
    status_before: Option<String>,
    /// It had other bytes when it was last read.
    was_read_wrong: bool,
}

fn replica_row(session: &mut Session<'_>, replica: &Replica) -> Result<Option<ReplicaRow>> {
    let row = session.row(
        "SELECT r.id, r.file_id, (SELECT h.status FROM file_health_checks h WHERE h.registry_id = r.id
                                   ORDER BY h.checked_at DESC LIMIT 1),
                (SELECT h.status FROM file_health_checks h WHERE h.registry_id = r.id AND h.bytes_read > 0
                  ORDER BY h.checked_at DESC LIMIT 1)
           FROM platform_file_registry r WHERE r.platform = ?1 AND r.platform_file_id = ?2",
        bind![rows::stored(&replica.platform), &replica.remote_id],
    )?;
    let of = |row: Row| {
        let was_read_wrong = row.get::<Option<String>>(3)?.is_some_and(|status| status == "differs");
        Ok(ReplicaRow { id: row.get(0)?, file_id: row.get(1)?, status_before: row.get(2)?, was_read_wrong })
    };
    row.map(of).transpose()
}

fn add_check(session: &mut Session<'_>, check: &HealthCheck, row: &ReplicaRow, now: Timestamp) -> Result<()> {
    let took = u64::try_from(check.response_time.as_millis()).unwrap_or(u64::MAX);
    session.execute(
        "INSERT INTO file_health_checks (id, registry_id, status, error_message, response_time_ms, checked_at,
                                         http_status_code, error_code, bytes_read)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        bind![
            Id(&new_id()),
            row.id.as_deref().map(Id),
            check.status,
            check.evidence.as_deref(),
            took,
            now,
            check.http_status.map(u64::from),
            check.error_code,
            check.bytes_read
        ],
    )?;
    session.execute(
        "UPDATE file_uploads SET health_status = ?2, last_health_check = ?3 WHERE id = ?1",
        bind![row.file_id.as_deref().map(Id), check.status, now],
    )?;
    Ok(())
}
