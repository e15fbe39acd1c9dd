//! What the registry says an account holds, to be compared with what its platform lists.

use std::collections::HashSet;
use std::time::Duration;

use super::{NewIntent, Placement, Registry, Settlement, claims, expiry, rows, settle};
use crate::audit::Event;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AccountId, ContentKind, Digest, FileObject, PlatformId, Replica, ReplicaStatus};
use crate::store::{Json, Row, Session, Value, bind};

/// A file whose sending ended without an answer longer ago has come, or will not.
const EXPECTED_FOR: Duration = Duration::from_secs(3_600);

/// Ids named in one statement.
const AT_ONCE: usize = 1_000;

/// One replica, alive or not, with what is known of its content.
#[derive(Clone, Debug)]
pub struct Holding {
    pub replica: Replica,
    /// The tool's rows may be of a content that nobody has hashed.
    pub digest: Option<Digest>,
    /// Bytes.
    pub size: Option<u64>,
    /// When the row was last written.
    pub changed_at: Timestamp,
}

/// A file that may be on its way to an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub remote_name: String,
    pub size: u64,
}

impl Registry {
    /// The replicas that an account should have, and those it should not, of which something is `listed`.
    ///
    /// Rows of what is gone stay and become many, so they are not read unless somebody sees the file.
    pub async fn holdings(
        &self,
        platform: &PlatformId,
        account: &AccountId,
        mut listed: Vec<String>,
    ) -> Result<Vec<Holding>> {
        let (platform, account) = (platform.clone(), account.clone());
        self.store
            .read(move |session| {
                let mut held =
                    holdings_where(session, &platform, &account, "status IN ('active', 'deleting', 'retired')", &[])?;
                let known: HashSet<&str> = held.iter().map(|held| held.replica.remote_id.as_str()).collect();
                listed.retain(|id| !known.contains(id.as_str()));
                for ids in listed.chunks(AT_ONCE) {
                    let places: Vec<String> = (3..ids.len() + 3).map(|number| format!("?{number}")).collect();
                    let are_listed = format!("platform_file_id IN ({})", places.join(", "));
                    held.extend(holdings_where(session, &platform, &account, &are_listed, ids)?);
                }
                Ok(held)
            })
            .await
    }

    /// What is being sent to an account, or was of late and nobody knows yet how it ended.
    pub async fn expected(&self, platform: &PlatformId, account: &AccountId) -> Result<Vec<Expected>> {
        let (platform, account, now) = (platform.clone(), account.clone(), self.now());
        self.store
            .read(move |session| {
                let sql = "SELECT remote_name, file_size FROM upload_intents
                            WHERE platform = ?1 AND account = ?2 AND state = 'sending'
                              AND (lease_until > ?3 OR updated_at > ?4)";
                let late = now.minus(EXPECTED_FOR);
                let open = session.rows(sql, bind![rows::stored(&platform), account.as_str(), now, late])?;
                open.iter().map(|row| Ok(Expected { remote_name: row.get(0)?, size: row.get(1)? })).collect()
            })
            .await
    }

    /// Notes that a platform showed these files as they should be, when it was `asked_at`.
    pub async fn confirm(&self, platform: &PlatformId, ids: Vec<String>, asked_at: Timestamp) -> Result<()> {
        let (platform, now) = (platform.clone(), asked_at);
        self.write("confirm", move |session| {
            ids.chunks(AT_ONCE).try_for_each(|ids| confirm(session, &platform, ids, now))
        })
        .await
    }

    /// Whether the row of a remote file is as it was: last written then, or not there.
    pub async fn is_unchanged(&self, platform: &PlatformId, id: &str, changed_at: Option<Timestamp>) -> Result<bool> {
        let (platform, id) = (platform.clone(), id.to_owned());
        self.store.read(move |session| Ok(last_written(session, &platform, &id)? == changed_at)).await
    }

    /// Gives a replica another status, if nobody has written its row since.
    ///
    /// # Errors
    /// `Conflict` when somebody has.
    pub async fn turn(&self, replica: &Replica, changed_at: Option<Timestamp>, into: ReplicaStatus) -> Result<()> {
        let (replica, now) = (replica.clone(), self.now());
        self.audited("turn", move |session, audit| {
            let changed = session.rows(
                "UPDATE platform_file_registry SET status = ?1, updated_at = ?2
                      WHERE platform = ?3 AND platform_file_id = ?4 AND status = ?5
                        AND COALESCE(updated_at, created_at) = ?6 RETURNING file_hash",
                bind![
                    into.as_str(),
                    now,
                    rows::stored(&replica.platform),
                    &replica.remote_id,
                    replica.status.as_str(),
                    changed_at
                ],
            )?;
            let Some(row) = changed.first() else { return Err(changed_meanwhile()) };
            let hex: Option<String> = row.get(0)?;
            let event = Event {
                digest: hex.map(|hex| rows::digest_of(&hex)).transpose()?,
                details: &[("from", replica.status.as_str()), ("into", into.as_str())],
                ..of_replica(if into == ReplicaStatus::Deleted { "lose" } else { "turn" }, &replica)
            };
            audit.note(session, &event)
        })
        .await
    }

    /// Binds a file that is on a platform already to a content. `changed_at` is when the row that there may be of it was
    /// last written.
    ///
    /// # Errors
    /// `Conflict` when the content has another live replica there or is being sent, or somebody has bound the file.
    pub async fn adopt(
        &self,
        new: NewIntent,
        settlement: Settlement,
        changed_at: Option<Timestamp>,
    ) -> Result<Replica> {
        let now = self.now();
        self.audited("adopt", move |session, audit| {
            let hex = new.placement.digest.hex();
            session.lock(&hex)?;
            if last_written(session, &new.placement.platform, &settlement.remote_id)? != changed_at {
                return Err(changed_meanwhile());
            }
            expiry::retire_expired(session, audit, &new.placement)?;
            if let Some(other) = rows::active_replica(session, &new.placement, None)? {
                return Err(another_copy(&other));
            }
            claims::close_dead(session, &new.placement, now)?;
            let file_id = settle::name_content(session, &new, now, None)?;
            settle::insert_replica(session, &new.placement, new.size, &file_id, &settlement, now)?;
            let Placement { digest, platform, account, .. } = &new.placement;
            audit.note(
                session,
                &Event {
                    platform: Some(platform),
                    account: Some(account),
                    remote_id: Some(&settlement.remote_id),
                    bytes: Some(new.size),
                    ..Event::of("adopt", digest)
                },
            )?;
            Ok(settle::replica(&new.placement, settlement, now))
        })
        .await
    }

    /// Takes a platform's word for a replica: its name, dates and size there, and what it is for.
    ///
    /// # Errors
    /// `Conflict` when the content has another live replica for the same purpose or is being sent for it, or somebody has
    /// written the row since `changed_at`.
    pub async fn believe(
        &self,
        replica: &Replica,
        changed_at: Option<Timestamp>,
        digest: Option<Digest>,
        object: &FileObject,
        content: ContentKind,
    ) -> Result<()> {
        let (replica, object, now) = (replica.clone(), object.clone(), self.now());
        self.audited("believe", move |session, audit| {
            let purpose = object.purpose.clone().unwrap_or_else(|| replica.purpose.clone());
            if let Some(digest) = digest.filter(|_| purpose != replica.purpose) {
                let (platform, account) = (replica.platform.clone(), replica.account.clone());
                let placement = Placement { digest, platform, account, purpose: purpose.clone() };
                session.lock(&digest.hex())?;
                claims::close_dead(session, &placement, now)?;
                if let Some(other) = rows::active_replica(session, &placement, None)? {
                    return Err(another_copy(&other));
                }
            }
            let raw = object.raw.to_string();
            let changed = session.execute(
                "UPDATE platform_file_registry
                        SET remote_name = COALESCE(?3, remote_name), file_size = COALESCE(?4, file_size),
                            remote_created_at = COALESCE(?5, remote_created_at), expires_at = COALESCE(?6, expires_at),
                            purpose = ?9, content_kind = CASE WHEN purpose = ?9 THEN content_kind ELSE ?10 END,
                            platform_metadata = ?7, last_verified = ?8, updated_at = ?8,
                            verification_count = COALESCE(verification_count, 0) + 1
                      WHERE platform = ?1 AND platform_file_id = ?2 AND status = 'active'
                        AND COALESCE(updated_at, created_at) = ?11",
                bind![
                    rows::stored(&replica.platform),
                    &replica.remote_id,
                    object.name.as_deref(),
                    object.size,
                    object.created_at,
                    object.expires_at,
                    Json(&raw),
                    now,
                    purpose.as_str(),
                    content.as_str(),
                    changed_at,
                ],
            )?;
            if changed != 1 {
                return Err(changed_meanwhile());
            }
            audit.note(session, &Event { digest, ..of_replica("believe", &replica) })
        })
        .await
    }
}

/// An event of a replica, whatever its content.
pub(super) fn of_replica<'e>(action: &'e str, replica: &'e Replica) -> Event<'e> {
    Event {
        action,
        platform: Some(&replica.platform),
        account: Some(&replica.account),
        remote_id: Some(&replica.remote_id),
        ..Event::default()
    }
}

fn holdings_where(
    session: &mut Session<'_>,
    platform: &PlatformId,
    account: &AccountId,
    condition: &str,
    ids: &[String],
) -> Result<Vec<Holding>> {
    let sql = format!(
        "SELECT {}, file_hash, file_size, COALESCE(updated_at, created_at) FROM platform_file_registry
          WHERE platform = ?1 AND account = ?2 AND {condition}",
        rows::REPLICA_COLUMNS
    );
    let mut values: Vec<Value<'_>> = vec![rows::stored(platform).into(), account.as_str().into()];
    values.extend(ids.iter().map(Value::from));
    session.rows(&sql, &values)?.iter().map(holding).collect()
}

fn holding(row: &Row) -> Result<Holding> {
    let hex: Option<String> = row.get(11)?;
    Ok(Holding {
        replica: rows::replica(row)?,
        digest: hex.map(|hex| rows::digest_of(&hex)).transpose()?,
        size: row.get(12)?,
        changed_at: row.get(13)?,
    })
}

fn confirm(session: &mut Session<'_>, platform: &PlatformId, ids: &[String], now: Timestamp) -> Result<()> {
    let places: Vec<String> = (3..ids.len() + 3).map(|number| format!("?{number}")).collect();
    let sql = format!(
        "UPDATE platform_file_registry
            SET last_verified = ?1, updated_at = ?1, verification_count = COALESCE(verification_count, 0) + 1
          WHERE platform = ?2 AND status = 'active' AND COALESCE(updated_at, created_at) < ?1
            AND platform_file_id IN ({})",
        places.join(", ")
    );
    let mut values: Vec<Value<'_>> = vec![now.into(), rows::stored(platform).into()];
    values.extend(ids.iter().map(Value::from));
    session.execute(&sql, &values).map(drop)
}

fn last_written(session: &mut Session<'_>, platform: &PlatformId, id: &str) -> Result<Option<Timestamp>> {
    let row = session.row(
        "SELECT COALESCE(updated_at, created_at) FROM platform_file_registry
          WHERE platform = ?1 AND platform_file_id = ?2",
        bind![rows::stored(platform), id],
    )?;
    row.map(|row| row.get(0)).transpose()
}

fn changed_meanwhile() -> Error {
    Error::new(ErrorKind::Conflict, "somebody has changed what is known of it meanwhile").with_hint("look again")
}

fn another_copy(other: &Replica) -> Error {
    Error::new(ErrorKind::Conflict, format!("{} has this content already, as {}", other.platform, other.remote_id))
        .with_hint("delete one of the two")
}
