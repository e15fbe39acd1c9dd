//! What we know: which content has which replica where, until when, and what was begun but not yet settled.
//!
//! The registry is the judge of "exactly once": a [`Claim`] is granted to one caller at a time, across tasks and
//! processes, and only the holder of the current fence may settle it.

mod claims;
mod copies;
mod eviction;
mod expiry;
mod files;
mod holdings;
mod holds;
mod import;
mod intents;
mod labels;
mod lifecycle;
mod mirror;
mod moves;
mod query;
mod recovery;
mod register;
mod rows;
mod settle;
mod sources;
mod tool_rows;
mod user_quotas;
mod watch;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::audit::{AuditLog, AuditOptions, Event};
use crate::clock::{Clock, Timestamp};
use crate::error::Result;
use crate::failpoint::failpoint;
use crate::model::{AccountId, Actor, Digest, PlatformId, Purpose};
use crate::store::{Location, Session, Store};

pub use copies::{KeptCopy, Unkept};
pub use expiry::Expiring;
pub use files::{Coming, Gone, Usage};
pub use holdings::{Expected, Holding};
pub use holds::Hold;
pub use import::{Import, Reject, ToolRows};
pub use intents::{Claim, HeldIntent, Intent, LEASE, NewIntent, Phase, RENEW_EVERY, TakenOver};
pub use labels::Labels;
pub use lifecycle::{Considered, ConsideredPage, Erased, Position};
pub use mirror::{Outgoing, OutgoingRow, Waiting};
pub use moves::{HeldMove, Move};
pub use query::{FileFilter, FileStatus};
pub use recovery::{Attempt, OpenDelete, OpenUpload, Outcome, PastAttempt, Recovery, Unfinished};
pub use settle::Settlement;
pub use tool_rows::ToolRow;
pub use user_quotas::UserUsage;
pub use watch::{HealthCheck, Turn};

/// Where a content shall be: the unit of "exactly once".
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Placement {
    pub digest: Digest,
    pub platform: PlatformId,
    pub account: AccountId,
    pub purpose: Purpose,
}

/// The registry; clones share it.
#[derive(Clone, Debug)]
pub struct Registry {
    store: Store,
    /// What is known of this machine's own files: in `store` too, where that is this machine's alone.
    sources: Store,
    /// What changes is noted in it, in the same transaction.
    audit: AuditLog,
    clock: Arc<dyn Clock>,
    /// Names this process in claims.
    owner: Arc<str>,
    /// Files registered since the database's planner was last shown how many there are.
    unseen: Arc<AtomicU64>,
}

impl Registry {
    /// Opens the registry file, or one in memory for `:memory:`. Blocking.
    ///
    /// # Errors
    /// `Registry`, see [`Store::open`].
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self> {
        let store = Store::open(&Location::file(path), clock.now())?;
        Ok(Registry::new(store.clone(), store, clock))
    }

    /// The registry of an open database; `sources` keeps what is known of this machine's own files.
    pub fn new(store: Store, sources: Store, clock: Arc<dyn Clock>) -> Self {
        let owner = format!("{}-{}", std::process::id(), uuid::Uuid::now_v7().simple()).into();
        let audit = AuditLog::new(store.clone(), clock.clone(), AuditOptions::default());
        Registry { store, sources, audit, clock, owner, unseen: Arc::default() }
    }

    /// The same, with its audit log kept so.
    #[must_use]
    pub fn with_audit(self, options: AuditOptions) -> Self {
        Registry { audit: AuditLog::new(self.store.clone(), self.clock.clone(), options), ..self }
    }

    /// The same registry, used on somebody's behalf.
    #[must_use]
    pub fn acting_as(&self, actor: Actor) -> Self {
        Registry { audit: self.audit.acting_as(actor), ..self.clone() }
    }

    pub fn audit(&self) -> &AuditLog {
        &self.audit
    }

    /// One transaction; `name` is that of its failpoints.
    async fn write<T, F>(&self, name: &'static str, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Session<'_>) -> Result<T> + Send + 'static,
    {
        failpoint(name, "begin")?;
        let written = self
            .store
            .write(move |session| {
                let done = job(session)?;
                failpoint(name, "written")?;
                Ok(done)
            })
            .await?;
        failpoint(name, "committed")?;
        Ok(written)
    }

    /// A write whose events are noted in its own transaction.
    async fn audited<T, F>(&self, name: &'static str, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Session<'_>, &Auditor) -> Result<T> + Send + 'static,
    {
        let auditor = self.auditor();
        let outcome = self.write(name, move |session| job(session, &auditor)).await;
        self.audit.seal_soon();
        outcome
    }

    /// Notes what was done elsewhere: `tell` is given what notes an event.
    ///
    /// # Errors
    /// `Registry`.
    pub async fn note<F>(&self, name: &'static str, tell: F) -> Result<()>
    where
        F: FnOnce(&mut dyn FnMut(&Event<'_>) -> Result<()>) -> Result<()> + Send + 'static,
    {
        self.audited(name, move |session, audit| tell(&mut |event| audit.note(session, event))).await
    }

    fn auditor(&self) -> Auditor {
        Auditor { audit: self.audit.clone(), now: self.now() }
    }

    pub fn close(&self) {
        self.store.close();
        self.sources.close();
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// Notes what one transaction does.
struct Auditor {
    audit: AuditLog,
    now: Timestamp,
}

impl Auditor {
    fn note(&self, session: &mut Session<'_>, event: &Event<'_>) -> Result<()> {
        self.audit.append(session, event, self.now)
    }
}

/// A new row's id: time-ordered, so that rows of one moment lie together.
fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}
