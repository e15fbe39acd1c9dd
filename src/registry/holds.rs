//! What keeps a file: leases for as long as somebody needs it somewhere, pins, legal holds.

use serde::Serialize;

use super::{Auditor, Registry, new_id, rows};
use crate::audit::Event;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Digest, HoldKind, PlatformId, Purpose};
use crate::store::{Id, Row, Session, bind};

/// One reason that a file is kept for.
#[derive(Clone, Debug, Serialize)]
pub struct Hold {
    pub id: String,
    pub kind: HoldKind,
    pub digest: Digest,
    /// Of a lease: where it has to be, and for what.
    pub platform: Option<PlatformId>,
    pub purpose: Option<Purpose>,
    pub reason: Option<String>,
    /// `None` until it is released.
    pub until: Option<Timestamp>,
    pub created_at: Timestamp,
}

const COLUMNS: &str = "id, kind, file_hash, platform, purpose, reason, until, created_at";

impl Registry {
    /// Holds a file.
    ///
    /// # Errors
    /// `Conflict` when it is being deleted from where it should stay.
    pub async fn hold(
        &self,
        kind: HoldKind,
        digest: &Digest,
        place: Option<(PlatformId, Purpose)>,
        reason: Option<String>,
        until: Option<Timestamp>,
    ) -> Result<Hold> {
        let digest = *digest;
        self.audited("hold", move |session, audit| {
            let (platform, purpose) = place.unzip();
            session.lock(&digest.hex())?;
            if kind == HoldKind::Legal {
                check_stays(session, &digest)?;
            }
            let hold = Hold { id: new_id(), kind, digest, platform, purpose, reason, until, created_at: audit.now };
            session.execute(
                &format!("INSERT INTO holds ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"),
                bind![
                    Id(&hold.id),
                    kind.as_str(),
                    &digest.hex(),
                    hold.platform.as_ref().map(rows::stored),
                    hold.purpose.as_ref().map(Purpose::as_str),
                    hold.reason.as_deref(),
                    until,
                    audit.now
                ],
            )?;
            audit.note(
                session,
                &Event {
                    platform: hold.platform.as_ref(),
                    details: &[("kind", kind.as_str())],
                    ..Event::of("hold", &digest)
                },
            )?;
            Ok(hold)
        })
        .await
    }

    /// Gives a lease another end, sooner or later than it had.
    ///
    /// # Errors
    /// `NotFound` when it was released, or has run out: what it held may be gone.
    pub async fn extend_lease(&self, id: &str, until: Timestamp) -> Result<()> {
        let id = checked(id)?;
        self.audited("extend-lease", move |session, audit| {
            let sql = "UPDATE holds SET until = ?2 WHERE id = ?1 AND kind = 'lease' AND until > ?3 RETURNING file_hash";
            let extended = session.rows(sql, bind![Id(&id), until, audit.now])?;
            let Some(row) = extended.first() else { return Err(unknown(&id)) };
            let digest = rows::digest_of(&row.get::<String>(0)?)?;
            audit.note(session, &Event { details: &[("until", &until.to_string())], ..Event::of("extend", &digest) })
        })
        .await
    }

    /// The same as [`release`](Self::release), without waiting for it.
    pub fn release_soon(&self, id: &str) {
        let (id, audit) = (id.to_owned(), self.auditor());
        self.store.write_soon(move |session| release(session, &audit, &id));
    }

    /// Holds it no more.
    ///
    /// # Errors
    /// `NotFound` when it was released already.
    pub async fn release(&self, id: &str) -> Result<()> {
        let id = checked(id)?;
        self.audited("release", move |session, audit| release(session, audit, &id)).await
    }

    /// What holds a file now.
    pub async fn holds(&self, digest: &Digest) -> Result<Vec<Hold>> {
        let (digest, now) = (*digest, self.now());
        self.store.read(move |session| holds_of(session, &digest, now)).await
    }

    /// Whether it has neither been released nor run out.
    pub async fn is_held(&self, hold: &Hold) -> Result<bool> {
        Ok(self.holds(&hold.digest).await?.iter().any(|other| other.id == hold.id))
    }

    /// Leases that are in force, with their files.
    pub async fn leases(&self) -> Result<Vec<Hold>> {
        let now = self.now();
        self.store
            .read(move |session| {
                let sql = format!(
                    "SELECT {COLUMNS} FROM holds WHERE kind = 'lease' AND (until IS NULL OR until > ?1) ORDER BY created_at"
                );
                session.rows(&sql, bind![now])?.iter().map(hold).collect()
            })
            .await
    }
}

pub(super) fn holds_of(session: &mut Session<'_>, digest: &Digest, now: Timestamp) -> Result<Vec<Hold>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM holds WHERE file_hash = ?1 AND (until IS NULL OR until > ?2) ORDER BY created_at"
    );
    session.rows(&sql, bind![&digest.hex(), now])?.iter().map(hold).collect()
}

fn release(session: &mut Session<'_>, audit: &Auditor, id: &str) -> Result<()> {
    let gone = session.rows("DELETE FROM holds WHERE id = ?1 RETURNING file_hash, kind", bind![Id(id)])?;
    let Some(row) = gone.first() else { return Err(unknown(id)) };
    let (digest, kind) = (rows::digest_of(&row.get::<String>(0)?)?, row.get::<String>(1)?);
    audit.note(session, &Event { details: &[("kind", &kind)], ..Event::of("release", &digest) })
}

/// A legal hold is not promised for what is going already.
fn check_stays(session: &mut Session<'_>, digest: &Digest) -> Result<()> {
    let sql = "SELECT platform FROM platform_file_registry WHERE file_hash = ?1 AND status = 'deleting'";
    let Some(row) = session.row(sql, bind![&digest.hex()])? else { return Ok(()) };
    let platform: String = row.get(0)?;
    Err(Error::new(ErrorKind::Conflict, format!("its copy on {platform} is being deleted"))
        .with_hint("wait for that, or upload it again first"))
}

/// Whether a file may be taken away, from this platform or from all.
///
/// # Errors
/// `Conflict` saying what holds it.
pub(super) fn check_free(
    session: &mut Session<'_>,
    digest: &Digest,
    platform: Option<&PlatformId>,
    now: Timestamp,
) -> Result<()> {
    let holds = holds_of(session, digest, now)?;
    let legal = holds.iter().find(|hold| hold.kind == HoldKind::Legal);
    let concerns = |hold: &&Hold| platform.is_none() || hold.platform.is_none() || hold.platform.as_ref() == platform;
    let lease = holds.iter().filter(|hold| hold.kind == HoldKind::Lease).find(concerns);
    let Some(hold) = legal.or(lease) else { return Ok(()) };
    let what = match hold.kind {
        HoldKind::Legal => "it is under legal hold".to_owned(),
        _ => match hold.until {
            Some(until) => format!("somebody has leased it until {until}"),
            None => "somebody has leased it".to_owned(),
        },
    };
    Err(Error::new(ErrorKind::Conflict, format!("{what}, and stays")).with_hint(format!("release {} first", hold.id)))
}

fn hold(row: &Row) -> Result<Hold> {
    let platform: Option<String> = row.get(3)?;
    Ok(Hold {
        id: row.get(0)?,
        kind: HoldKind::parse(&row.get::<String>(1)?)?,
        digest: rows::digest_of(&row.get::<String>(2)?)?,
        platform: platform.map(|name| PlatformId::new(&name)).transpose()?,
        purpose: row.get::<Option<String>>(4)?.map(|purpose| Purpose::new(&purpose)),
        reason: row.get(5)?,
        until: row.get(6)?,
        created_at: row.get(7)?,
    })
}

/// PostgreSQL would not take another text for an id.
fn checked(id: &str) -> Result<String> {
    match uuid::Uuid::parse_str(id) {
        Ok(_) => Ok(id.to_owned()),
        Err(_) => Err(unknown(id)),
    }
}

fn unknown(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("nothing is held by {id:?}")).with_hint("it was released, or has run out")
}
