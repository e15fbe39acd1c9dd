//! What happened, so that nobody can alter it quietly: an append-only log, chained, its records the leaves of an RFC
//! 6962 tree, whose root is signed now and then.
//!
//! A record is written in the transaction of the change it is of. In SQLite, which has one writer at a time, it takes
//! its place in the log there and then; in PostgreSQL, where that would make all writers wait for each other, it is set
//! down and takes its place a moment later ([`AuditLog::seal`]).
//!
//! What cannot be seen: who may write to the database can cut the log's end off, or write all of it anew, unless a
//! checkpoint is kept where they cannot reach it.

mod event;
mod key;
mod log;
mod note;
mod proof;
mod tree;
mod verify;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::{Clock, Timestamp};
use crate::error::Result;
use crate::model::Actor;
use crate::store::{Session, Store};

pub use event::{Decision, Event};
pub use key::{AuditKey, VerifyingKey};
pub use log::{AuditFilter, AuditRecord};
pub use note::{Checkpoint, read_checkpoints};
pub use proof::Proof;
pub use verify::{Finding, Report};

/// Records set down in PostgreSQL are given their places this often, by each process.
const SEAL_EVERY: Duration = Duration::from_millis(250);

/// The log of a database; clones share it.
#[derive(Clone, Debug)]
pub struct AuditLog {
    store: Store,
    clock: Arc<dyn Clock>,
    options: Arc<AuditOptions>,
    /// On whose behalf.
    actor: Option<Arc<Actor>>,
    begun: Instant,
    /// Milliseconds after `begun` when it was last sealed.
    sealed_at: Arc<AtomicU64>,
}

/// How the log is kept.
#[derive(Debug, Default)]
pub struct AuditOptions {
    /// Signs checkpoints, and makes the pseudonyms of persons; without one there are neither.
    pub key: Option<AuditKey>,
    /// Who does what this process does, where nobody else is named.
    pub actor: Option<String>,
    /// Where checkpoints are added, beside the database.
    pub checkpoint_file: Option<PathBuf>,
}

impl AuditLog {
    pub fn new(store: Store, clock: Arc<dyn Clock>, options: AuditOptions) -> Self {
        let actor = options.actor.clone().map(|user| Arc::new(Actor::new(user)));
        AuditLog { store, clock, options: Arc::new(options), actor, begun: Instant::now(), sealed_at: Arc::default() }
    }

    /// The same log, of what is done on somebody's behalf.
    #[must_use]
    pub fn acting_as(&self, actor: Actor) -> Self {
        AuditLog { actor: Some(Arc::new(actor)), ..self.clone() }
    }

    /// Who does what is noted.
    pub fn actor(&self) -> Option<&Actor> {
        self.actor.as_deref()
    }

    /// Notes an event in the transaction of the change it is of.
    ///
    /// # Errors
    /// `Registry`: then the change is not made either.
    pub fn append(&self, session: &mut Session<'_>, event: &Event<'_>, now: Timestamp) -> Result<()> {
        let record = event.record(self.actor.as_deref().zip(self.options.key.as_ref()), now);
        log::append(session, record)
    }

    /// Lets records take their places soon, where that is not done when they are written. Cheap to call often.
    pub fn seal_soon(&self) {
        if !self.store.is_postgres() {
            return;
        }
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = self.sealed_at.load(Ordering::Relaxed);
        let every = u64::try_from(SEAL_EVERY.as_millis()).unwrap_or(u64::MAX);
        let is_due = last == 0 || now >= last.saturating_add(every);
        if is_due && self.sealed_at.compare_exchange(last, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.store.write_soon(|session| log::seal(session, false));
        }
    }

    /// Gives every record that has been written its place.
    ///
    /// # Errors
    /// `Registry`.
    pub async fn seal(&self) -> Result<()> {
        self.store.write(|session| log::seal(session, true)).await
    }
}
