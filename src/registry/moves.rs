//! Moves: a file is put on one platform and then taken off another, and which moves are under way is written down, so
//! that one whose process dies is finished.

use super::intents::LEASE;
use super::recovery::OPEN_MOVES;
use super::{Registry, Unfinished, holds, new_id, recovery, rows};
use crate::audit::Event;
use crate::error::Result;
use crate::model::{AccountId, Digest, PlatformId, Purpose, Replica};
use crate::store::{Id, Row, Session, bind};

/// What [`open`] reads.
const COLUMNS: &str = "id, file_hash, from_platform, account, to_platform, purpose";

/// A move that somebody has begun.
#[derive(Clone, Debug)]
pub struct Move {
    pub id: String,
    pub digest: Digest,
    pub from: PlatformId,
    /// Of a copy that is to go.
    pub account: AccountId,
    pub to: PlatformId,
    /// What it is for there; `None` for what its type says.
    pub purpose: Option<Purpose>,
}

/// A move in our hands; one that is dropped before its end counts as never begun.
#[derive(Debug)]
pub struct HeldMove {
    registry: Registry,
    id: String,
    is_over: bool,
}

impl HeldMove {
    /// Keeps others from finishing it for us.
    pub async fn renew(&self) -> Result<()> {
        let (id, until) = (self.id.clone(), self.registry.now().plus(LEASE));
        self.registry
            .write("renew-move", move |session| {
                session.execute("UPDATE moves SET lease_until = ?2 WHERE id = ?1", bind![Id(&id), until]).map(drop)
            })
            .await
    }

    /// Notes that the file is where it was to be, and only there.
    pub async fn end(mut self) -> Result<()> {
        self.registry.end_move(&self.id).await?;
        self.is_over = true;
        Ok(())
    }
}

impl Drop for HeldMove {
    fn drop(&mut self) {
        if !self.is_over {
            let id = std::mem::take(&mut self.id);
            self.registry.store.write_soon(move |session| remove(session, &id));
        }
    }
}

impl Registry {
    /// Writes down that a copy's file is to be on another platform instead.
    ///
    /// # Errors
    /// `Conflict` when it is held where it is.
    pub async fn begin_move(
        &self,
        digest: &Digest,
        of: &Replica,
        to: &PlatformId,
        purpose: Option<String>,
    ) -> Result<HeldMove> {
        let held = HeldMove { registry: self.clone(), id: new_id(), is_over: false };
        let (id, digest, from, account) = (held.id.clone(), *digest, of.platform.clone(), of.account.clone());
        let (to, now) = (to.clone(), self.now());
        self.write("begin-move", move |session| {
            session.lock(&digest.hex())?;
            holds::check_free(session, &digest, Some(&from), now)?;
            session.execute(
                &format!("INSERT INTO moves ({COLUMNS}, lease_until, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)"),
                bind![
                    Id(&id),
                    &digest.hex(),
                    rows::stored(&from),
                    account.as_str(),
                    rows::stored(&to),
                    purpose.as_deref(),
                    now.plus(LEASE),
                    now
                ],
            )
        })
        .await?;
        Ok(held)
    }

    /// Moves whose process is gone, the oldest first, at most a hundred.
    pub async fn open_moves(&self) -> Result<Vec<Move>> {
        let now = self.now();
        self.store
            .read(move |session| {
                let sql =
                    format!("SELECT {COLUMNS} FROM moves i WHERE {OPEN_MOVES} AND {}", recovery::due(Unfinished::Move));
                session.rows(&sql, bind![now, now])?.iter().map(open).collect()
            })
            .await
    }

    /// Notes that a move has been finished.
    pub async fn end_move(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.audited("end-move", move |session, audit| {
            let sql = format!("SELECT {COLUMNS} FROM moves WHERE id = ?1");
            let Some(row) = session.row(&sql, bind![Id(&id)])? else { return Ok(()) };
            let Move { digest, from, account, to, .. } = open(&row)?;
            remove(session, &id)?;
            audit.note(
                session,
                &Event {
                    platform: Some(&from),
                    account: Some(&account),
                    details: &[("to", to.as_str())],
                    ..Event::of("move", &digest)
                },
            )
        })
        .await
    }

    /// Notes that a move counts as never begun.
    pub async fn drop_move(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.write("drop-move", move |session| remove(session, &id)).await
    }
}

fn remove(session: &mut Session<'_>, id: &str) -> Result<()> {
    session.execute("DELETE FROM moves WHERE id = ?1", bind![Id(id)]).map(drop)
}

fn open(row: &Row) -> Result<Move> {
    Ok(Move {
        id: row.get(0)?,
        digest: rows::digest_of(&row.get::<String>(1)?)?,
        from: PlatformId::new(&row.get::<String>(2)?)?,
        account: AccountId::new(&row.get::<String>(3)?),
        to: PlatformId::new(&row.get::<String>(4)?)?,
        purpose: row.get::<Option<String>>(5)?.map(|purpose| Purpose::new(&purpose)),
    })
}
