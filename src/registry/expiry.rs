//! What platforms drop by themselves when its time is over.

use super::{Auditor, Placement, Registry, rows};
use crate::audit::Event;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::model::{AccountId, Digest, PlatformId, Replica};
use crate::store::{Row, Session, bind};

/// Copies retired, or looked at, in one transaction.
const AT_ONCE: u64 = 500;

/// A copy that its platform drops before its file is wanted no more.
#[derive(Clone, Debug)]
pub struct Expiring {
    pub digest: Digest,
    pub name: String,
    pub replica: Replica,
}

impl Registry {
    /// Notes that copies past their platform's retention are gone; gives their number.
    pub async fn retire_all_expired(&self) -> Result<u64> {
        let mut retired = 0;
        loop {
            let some = self.audited("expire", retire_some).await?;
            retired += some;
            if some < AT_ONCE {
                return Ok(retired);
            }
        }
    }

    /// Copies that their platforms drop by then, of files that are wanted for longer: those that go first, and the next of
    /// them after one of them.
    pub async fn expiring(&self, by: Timestamp, after: Option<&Expiring>) -> Result<Vec<Expiring>> {
        let after = after.and_then(|last| Some((last.replica.expires_at?, last.replica.remote_id.clone())));
        let (at, id) = after.unwrap_or((Timestamp(0), String::new()));
        let now = self.now();
        self.store
            .read(move |session| {
                let sql = format!(
                    "SELECT {}, i.file_hash, COALESCE(f.filename, '')
                       FROM platform_file_registry i JOIN file_hashes h ON h.file_hash = i.file_hash
                       LEFT JOIN file_uploads f ON f.id = h.original_file_id
                      WHERE i.status = 'active' AND i.expires_at > ?1 AND i.expires_at <= ?2 AND h.trashed_at IS NULL
                        AND (h.keep_until IS NULL OR h.keep_until > i.expires_at)
                        AND (i.expires_at, i.platform_file_id) > (?3, ?4)
                      ORDER BY i.expires_at, i.platform_file_id LIMIT {AT_ONCE}",
                    rows::replica_columns("i")
                );
                session.rows(&sql, bind![now, by, at, &id])?.iter().map(expiring).collect()
            })
            .await
    }
}

fn expiring(row: &Row) -> Result<Expiring> {
    let digest = rows::digest_of(&row.get::<String>(11)?)?;
    Ok(Expiring { digest, name: row.get(12)?, replica: rows::replica(row)? })
}

fn retire_some(session: &mut Session<'_>, audit: &Auditor) -> Result<u64> {
    let sql = format!(
        "UPDATE platform_file_registry SET status = 'deleted', updated_at = ?1
          WHERE id IN (SELECT id FROM platform_file_registry WHERE status = 'active' AND expires_at <= ?1 LIMIT {AT_ONCE})
            AND status = 'active'
        RETURNING platform, account, platform_file_id, file_hash"
    );
    let expired = session.rows(&sql, bind![audit.now])?;
    for row in &expired {
        let platform: String = row.get(0)?;
        let platform = PlatformId::new(&platform).map_err(|_| rows::corrupt("platform", &platform))?;
        let digest = row.get::<Option<String>>(3)?.map(|hex| rows::digest_of(&hex)).transpose()?;
        note(session, audit, &platform, &AccountId::new(&row.get::<String>(1)?), &row.get::<String>(2)?, digest)?;
    }
    Ok(expired.len() as u64)
}

/// A replica past its retention is gone, and must not be handed out or block a new one.
pub(super) fn retire_expired(session: &mut Session<'_>, audit: &Auditor, placement: &Placement) -> Result<()> {
    let hex = placement.digest.hex();
    let [digest, platform, account, purpose] = rows::place(placement, &hex);
    let expired = session.rows(
        "UPDATE platform_file_registry SET status = 'deleted', updated_at = ?5
          WHERE file_hash = ?1 AND platform = ?2 AND account = ?3 AND purpose = ?4
            AND status = 'active' AND expires_at <= ?5
        RETURNING platform_file_id",
        &[digest, platform, account, purpose, audit.now.into()],
    )?;
    let Placement { digest, platform, account, .. } = placement;
    expired.iter().try_for_each(|row| note(session, audit, platform, account, &row.get::<String>(0)?, Some(*digest)))
}

fn note(
    session: &mut Session<'_>,
    audit: &Auditor,
    platform: &PlatformId,
    account: &AccountId,
    remote_id: &str,
    digest: Option<Digest>,
) -> Result<()> {
    let (platform, account, remote_id) = (Some(platform), Some(account), Some(remote_id));
    audit.note(session, &Event { action: "expire", digest, platform, account, remote_id, ..Event::default() })
}
