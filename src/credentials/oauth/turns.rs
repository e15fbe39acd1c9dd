//! Who refreshes: one at a time, of all tasks, processes and hosts that share the registry.
//!
//! A refresh token is good for one use, and a second use ends the login. So that is written down before it is sent: who
//! finds that another one had begun and not ended tries it once more, and then asks for a new login.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::failpoint::failpoint;
use crate::store::{Session, Store, bind};

/// A turn ends by itself after this; nobody waits so long for the server.
pub(super) const LEASE: Duration = Duration::from_secs(60);

/// Times a refresh token is sent without that anybody knows what became of it.
const TRIES: i64 = 2;

/// What came of asking for the turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Ours(Fence),
    /// Somebody else has it.
    Theirs,
    /// This token is spent, and nothing came of it.
    Dead,
}

/// Of all who ever had the turn, the latest has the highest.
pub(super) type Fence = i64;

/// The turns of one account's tokens.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    store: Store,
    /// Where the tokens are kept, and whose they are.
    subject: String,
    owner: String,
}

impl Turns {
    pub fn new(store: Store, subject: String) -> Self {
        let owner = format!("{}-{}", std::process::id(), uuid::Uuid::now_v7().simple());
        Turns { store, subject, owner }
    }

    /// Takes the turn, to spend the token with this fingerprint; without one, nothing is spent.
    pub async fn take(&self, token: Option<&str>, now: Timestamp) -> Result<Turn> {
        let (turns, token) = (self.clone(), token.map(str::to_owned));
        failpoint("refresh", "begin")?;
        let turn = self
            .store
            .write(move |session| {
                let turn = turns.take_in(session, token.as_deref(), now)?;
                failpoint("refresh", "written")?;
                Ok(turn)
            })
            .await?;
        failpoint("refresh", "taken")?;
        Ok(turn)
    }

    fn take_in(&self, session: &mut Session<'_>, token: Option<&str>, now: Timestamp) -> Result<Turn> {
        session.lock(&format!("exai_files refresh {}", self.subject))?;
        let sql = "SELECT fence, owner, lease_until, spending, tries FROM credential_refreshes WHERE subject = ?1";
        let row = session.row(sql, bind![&self.subject])?;
        let (mut fence, mut tries) = (0, 0);
        if let Some(row) = row {
            let (owner, until) = (row.get::<Option<String>>(1)?, row.get::<Option<Timestamp>>(2)?);
            let is_theirs = owner.is_some_and(|owner| owner != self.owner) && until.is_some_and(|until| until > now);
            if is_theirs {
                return Ok(Turn::Theirs);
            }
            fence = row.get(0)?;
            if token.is_some() && row.get::<Option<String>>(3)?.as_deref() == token {
                tries = row.get(4)?;
            }
        }
        if tries >= TRIES {
            return Ok(Turn::Dead);
        }
        let sql = "INSERT INTO credential_refreshes (subject, fence, owner, lease_until, spending, tries)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                   ON CONFLICT (subject) DO UPDATE SET fence = excluded.fence, owner = excluded.owner,
                       lease_until = excluded.lease_until, spending = excluded.spending, tries = excluded.tries";
        session.execute(sql, bind![&self.subject, fence + 1, &self.owner, now.plus(LEASE), token, tries + 1])?;
        Ok(Turn::Ours(fence + 1))
    }

    /// Whether nobody has had the turn since.
    pub async fn is_ours(&self, fence: Fence) -> Result<bool> {
        let subject = self.subject.clone();
        self.store
            .read(move |session| {
                let sql = "SELECT fence FROM credential_refreshes WHERE subject = ?1";
                Ok(session.row(sql, bind![&subject])?.is_some_and(|row| row.get::<i64>(0).ok() == Some(fence)))
            })
            .await
    }

    /// Gives the turn back: the token was spent for another one, was not spent at all, or is dead for good.
    pub async fn give_back(&self, fence: Fence, how: Spent) -> Result<()> {
        let subject = self.subject.clone();
        self.store
            .write(move |session| {
                let spending = match how {
                    Spent::Well => "spending = NULL, tries = 0",
                    Spent::Not => "tries = tries - 1",
                    Spent::Unknown => "tries = tries",
                    Spent::InVain => "tries = 1000000",
                };
                let sql = format!(
                    "UPDATE credential_refreshes SET owner = NULL, lease_until = NULL, {spending}
                     WHERE subject = ?1 AND fence = ?2"
                );
                session.execute(&sql, bind![&subject, fence]).map(drop)
            })
            .await?;
        failpoint("refresh", "given-back")
    }
}

/// What became of a token that was to be spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spent {
    /// There is a new one, and it is kept.
    Well,
    Not,
    Unknown,
    /// The server does not know it any more.
    InVain,
}
