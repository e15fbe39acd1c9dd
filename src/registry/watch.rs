//! Work that several watchers share, and what they find.

use std::time::Duration;

use super::{Registry, new_id, rows};
use crate::error::Result;
use crate::model::Replica;
use crate::store::{Id, Row, bind};

/// Checks that are noted in one transaction.
const AT_ONCE: usize = 1_000;

/// How a replica was found to be.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    pub replica: Replica,
    /// "healthy", "lost", "differs" or "unusable".
    pub status: &'static str,
    pub evidence: Option<String>,
    pub response_time: Duration,
}

impl Registry {
    /// Takes a task for as long as it may take, if it is due and nobody is at it.
    pub async fn take_task(&self, name: &str, at_most: Duration) -> Result<bool> {
        let (name, owner, now) = (name.to_owned(), self.owner.clone(), self.now());
        self.write("take-task", move |session| {
            let taken = session.execute(
                "INSERT INTO watch_tasks (name, owner, lease_until, due_at) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, lease_until = excluded.lease_until
                      WHERE watch_tasks.due_at <= ?4 AND watch_tasks.lease_until <= ?4",
                bind![&name, &*owner, now.plus(at_most), now],
            )?;
            Ok(taken == 1)
        })
        .await
    }

    /// Gives a task back; it is due again after a while.
    pub async fn end_task(&self, name: &str, again_in: Duration) -> Result<()> {
        let (name, owner, now) = (name.to_owned(), self.owner.clone(), self.now());
        self.write("end-task", move |session| {
            let sql = "UPDATE watch_tasks SET lease_until = ?3, due_at = ?4 WHERE name = ?1 AND owner = ?2";
            session.execute(sql, bind![&name, &*owner, now, now.plus(again_in)]).map(drop)
        })
        .await
    }

    /// Notes how replicas were found to be: each whose health has changed gets a row; gives those.
    pub async fn note_health(&self, checks: Vec<HealthCheck>) -> Result<Vec<HealthCheck>> {
        let mut changed = Vec::new();
        for some in checks.chunks(AT_ONCE) {
            changed.extend(self.note_some(some.to_vec()).await?);
        }
        Ok(changed)
    }

    async fn note_some(&self, checks: Vec<HealthCheck>) -> Result<Vec<HealthCheck>> {
        let now = self.now();
        self.write("note-some", move |session| {
                let mut changed = Vec::new();
                for check in checks {
                    let row = session.row(
                        "SELECT r.id, r.file_id, (SELECT h.status FROM file_health_checks h WHERE h.registry_id = r.id
                                                   ORDER BY h.checked_at DESC LIMIT 1)
                           FROM platform_file_registry r WHERE r.platform = ?1 AND r.platform_file_id = ?2",
                        bind![rows::stored(&check.replica.platform), &check.replica.remote_id],
                    )?;
                    let Some(row) = row else { continue };
                    let (id, file_id, before) = (text(&row, 0)?, text(&row, 1)?, text(&row, 2)?);
                    if before.as_deref() == Some(check.status) {
                        continue;
                    }
                    let took = u64::try_from(check.response_time.as_millis()).unwrap_or(u64::MAX);
                    session.execute(
                        "INSERT INTO file_health_checks (id, registry_id, status, error_message, response_time_ms, checked_at)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                        bind![Id(&new_id()), id.as_deref().map(Id), check.status, check.evidence.as_deref(), took, now],
                    )?;
                    session.execute(
                        "UPDATE file_uploads SET health_status = ?2, last_health_check = ?3 WHERE id = ?1",
                        bind![file_id.as_deref().map(Id), check.status, now],
                    )?;
                    changed.push(check);
                }
                Ok(changed)
            })
            .await
    }
}

fn text(row: &Row, index: usize) -> Result<Option<String>> {
    row.get(index)
}
