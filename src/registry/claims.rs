//! Who may send: an open claim of a placement is begun, found held, or taken over from a holder that died.

use super::intents::{Intent, LEASE, NewIntent, Phase, RENEW_EVERY, TakenOver};
use super::recovery::{self, Unfinished};
use super::{Placement, new_id, rows};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AccountId, Keep, Replica};
use crate::store::{Id, Session, bind};

/// "For ever" in the journal, where nothing means that nothing was said.
const FOR_EVER: Timestamp = Timestamp(i64::MAX >> 8);

fn noted(keep: Keep) -> Option<Timestamp> {
    match keep {
        Keep::AsItIs => None,
        Keep::Forever => Some(FOR_EVER),
        Keep::Until(at) => Some(at.min(FOR_EVER)),
    }
}

pub(super) fn keep_of(noted: Option<Timestamp>) -> Keep {
    match noted {
        None => Keep::AsItIs,
        Some(FOR_EVER) => Keep::Forever,
        Some(at) => Keep::Until(at),
    }
}

/// A content goes to one account of a platform, whoever uploads it and whichever account they would have chosen.
pub(super) fn settle_account(
    session: &mut Session<'_>,
    placement: &mut Placement,
    others: &[AccountId],
    now: Timestamp,
) -> Result<()> {
    let hex = placement.digest.hex();
    let [digest, platform, _, purpose] = rows::place(placement, &hex);
    session.lock(&format!("{hex} {} {}", placement.platform, placement.purpose))?;
    // In one statement: between two, what was being sent may have become a replica.
    let rows = session.rows(
        "SELECT account FROM platform_file_registry
          WHERE file_hash = ?1 AND platform = ?2 AND purpose = ?3 AND status = 'active'
            AND (expires_at IS NULL OR expires_at > ?4)
         UNION ALL
         SELECT account FROM upload_intents
          WHERE file_hash = ?1 AND platform = ?2 AND purpose = ?3 AND state = 'sending'",
        &[digest, platform, purpose, now.into()],
    )?;
    let holders = rows.iter().map(|row| Ok(AccountId::new(&row.get::<String>(0)?))).collect::<Result<Vec<_>>>()?;
    let is_ours = |holder: &&AccountId| **holder == placement.account || others.contains(holder);
    if let Some(holder) = holders.iter().find(is_ours) {
        placement.account = holder.clone();
    }
    Ok(())
}

struct OpenIntent {
    id: String,
    fence: i64,
    lease_until: Timestamp,
    remote_name: String,
    first_sent_at: Timestamp,
    updated_at: Timestamp,
    phase: Phase,
    remote_id: Option<String>,
}

impl OpenIntent {
    /// Until when its holder may have been sending: it let go then, or it died before renewing its lease again.
    fn ended_at(&self) -> Timestamp {
        self.updated_at.max(self.lease_until.minus(LEASE - RENEW_EVERY))
    }

    /// What there is to be looked for; nothing where nothing was sent.
    fn left(&self) -> Option<TakenOver> {
        let stored_as = self.remote_id.clone().filter(|_| self.phase == Phase::Stored);
        (self.phase != Phase::Planned).then(|| TakenOver { ended_at: self.ended_at(), stored_as })
    }
}

pub(super) enum Claimed {
    AlreadyThere(Box<Replica>),
    /// Someone alive has it.
    Held,
    Ours(Intent),
}

pub(super) fn claim(session: &mut Session<'_>, new: &NewIntent, owner: &str, now: Timestamp) -> Result<Claimed> {
    match open_intent(session, &new.placement)? {
        Some(open) if open.lease_until > now => Ok(Claimed::Held),
        Some(open) => take_over(session, open, new, owner, now),
        None => begin(session, new, owner, now),
    }
}

fn open_intent(session: &mut Session<'_>, placement: &Placement) -> Result<Option<OpenIntent>> {
    let row = session.row(
        "SELECT id, fence, lease_until, remote_name, first_sent_at, updated_at, phase, remote_id FROM upload_intents
          WHERE file_hash = ?1 AND platform = ?2 AND account = ?3 AND purpose = ?4 AND state = 'sending'",
        &rows::place(placement, &placement.digest.hex()),
    )?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(OpenIntent {
        id: row.get(0)?,
        fence: row.get(1)?,
        lease_until: row.get(2)?,
        remote_name: row.get(3)?,
        first_sent_at: row.get(4)?,
        updated_at: row.get(5)?,
        phase: Phase::parse(&row.get::<String>(6)?),
        remote_id: row.get(7)?,
    }))
}

fn take_over(
    session: &mut Session<'_>,
    open: OpenIntent,
    new: &NewIntent,
    owner: &str,
    now: Timestamp,
) -> Result<Claimed> {
    let taken = session.execute(
        "UPDATE upload_intents SET owner = ?3, fence = fence + 1, lease_until = ?4, updated_at = ?5
          WHERE id = ?1 AND fence = ?2 AND state = 'sending'",
        bind![Id(&open.id), open.fence, owner, now.plus(LEASE), now],
    )?;
    if taken == 0 {
        return Ok(Claimed::Held); // another one was faster
    }
    Ok(Claimed::Ours(Intent {
        taken_from: open.left(),
        id: open.id,
        placement: new.placement.clone(),
        fence: open.fence + 1,
        remote_name: open.remote_name,
        size: new.size,
        first_sent_at: open.first_sent_at,
    }))
}

fn begin(session: &mut Session<'_>, new: &NewIntent, owner: &str, now: Timestamp) -> Result<Claimed> {
    let (id, hex) = (new_id(), new.placement.digest.hex());
    let [digest, platform, account, purpose] = rows::place(&new.placement, &hex);
    let begun = session.execute(
        "INSERT INTO upload_intents (file_hash, platform, account, purpose, id, state, owner, fence, lease_until,
                                     attempt, remote_name, file_size, first_sent_at, last_sent_at, created_at, updated_at,
                                     phase, filename, mime_type, user_id, keep_until, needed_until)
         VALUES (?1, ?2, ?3, ?4, ?5, 'sending', ?6, 1, ?7, 0, ?8, ?9, ?10, ?10, ?10, ?10, 'planned', ?11, ?12, ?13, ?14, ?15)
         ON CONFLICT (file_hash, platform, account, purpose) WHERE state = 'sending' DO NOTHING",
        &[
            digest,
            platform,
            account,
            purpose,
            Id(&id).into(),
            owner.into(),
            now.plus(LEASE).into(),
            (&new.remote_name).into(),
            new.size.into(),
            now.into(),
            (&new.name).into(),
            (&new.mime).into(),
            new.owner.as_deref().into(),
            noted(new.keep).into(),
            new.needed_until.into(),
        ],
    )?;
    if begun == 0 {
        return Ok(Claimed::Held);
    }
    // Whoever had the claim until just now may have settled it after we looked: then there is nothing to do.
    if let Some(replica) = rows::active_replica(session, &new.placement, new.needed_until)? {
        session.execute("DELETE FROM upload_intents WHERE id = ?1", bind![Id(&id)])?;
        return Ok(Claimed::AlreadyThere(Box::new(replica)));
    }
    Ok(Claimed::Ours(Intent {
        id,
        placement: new.placement.clone(),
        fence: 1,
        remote_name: new.remote_name.clone(),
        size: new.size,
        first_sent_at: now,
        taken_from: None,
    }))
}

/// Ends an open claim whose holder is dead, for good: what it may have sent is bound, or found as an orphan.
///
/// # Errors
/// `Conflict` while the holder is alive.
pub(super) fn close_dead(session: &mut Session<'_>, placement: &Placement, now: Timestamp) -> Result<()> {
    match open_intent(session, placement)? {
        None => Ok(()),
        Some(open) if open.lease_until > now => {
            Err(Error::new(ErrorKind::Conflict, "this content is being sent there").with_hint("look again later"))
        }
        Some(open) => {
            session.execute(
                "UPDATE upload_intents SET state = 'failed', fence = fence + 1, error = 'bound by another', updated_at = ?2
                  WHERE id = ?1 AND state = 'sending'",
                bind![Id(&open.id), now],
            )?;
            recovery::forget(session, Unfinished::Upload, &open.id)
        }
    }
}
