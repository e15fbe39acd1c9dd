//! The database layer: an SQLite file for the processes of one host, or PostgreSQL for those of many.
//!
//! Whoever uses it hands over jobs: a write job is one transaction, and its caller hears of it only once that is
//! committed. Jobs are written once, for both ([`Session`]).

mod location;
mod maintenance;
mod migrations;
mod postgres;
mod session;
mod sqlite;
mod value;

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::error::{Error, ErrorKind, Result};

pub use location::{Location, PostgresOptions};
pub use maintenance::Maintenance;
pub use migrations::{Plan, Status};
pub use session::Session;
pub use value::{Cell, FromCell, Id, Json, Kind, Row, Typed, Value, bind};

/// Clocks of hosts that share a database; a claim is renewed 20 s before it runs out.
const MOST_APART: Duration = Duration::from_secs(10);

/// A handle to the database; clones share it.
#[derive(Clone, Debug)]
pub struct Store(Arc<Engine>);

enum Engine {
    Sqlite(sqlite::Sqlite),
    Postgres(postgres::Postgres),
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Engine::Sqlite(engine) => engine.fmt(f),
            Engine::Postgres(engine) => engine.fmt(f),
        }
    }
}

/// What a job does with the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    /// What must survive a power cut: its caller hears of it once it has.
    Write,
    /// Counters: they survive the process, and may lose their last moments in a power cut.
    Count,
}

/// Runs in a session; without one (there is none to be had) it only makes its reply.
type Job = Box<dyn FnOnce(Option<&mut Session<'_>>) -> Done + Send>;

/// What became of a job, before its transaction has ended.
struct Done {
    /// Whether what it wrote is to be kept.
    is_good: bool,
    /// Told how the transaction ended.
    reply: Box<dyn FnOnce(Result<()>) + Send>,
}

impl Done {
    /// The same, but its caller is told that it failed.
    fn failed(self, error: Error) -> Self {
        Done { is_good: false, reply: Box::new(move |ended| (self.reply)(ended.and(Err(error)))) }
    }
}

impl Store {
    /// Opens the database, and brings its schema up to date where nobody needs to be asked.
    ///
    /// Blocking: it touches the disk or the network.
    ///
    /// # Errors
    /// `Registry` when it cannot be opened, this machine's clock is more than 10 s from the server's, the database is no such database, was written by a newer version, or holds tables of the
    /// existing EXAI tool that were not adopted yet.
    pub fn open(location: &Location, now: Timestamp) -> Result<Self> {
        match location {
            Location::Sqlite(path) => Ok(Store(Arc::new(Engine::Sqlite(sqlite::Sqlite::open(path, now)?)))),
            Location::Postgres(_) => {
                let store = Store::connect(location)?;
                store.check_clock()?;
                store.migrate(now, false)?;
                Ok(store)
            }
        }
    }

    /// Connects to the database as it is, for [`plan`](Self::plan), [`migrate`](Self::migrate) and
    /// [`status`](Self::status). An SQLite file is made and brought up to date all the same.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for the schema.
    pub fn connect(location: &Location) -> Result<Self> {
        Ok(Store(Arc::new(match location {
            Location::Sqlite(path) => Engine::Sqlite(sqlite::Sqlite::open(path, SystemClock.now())?),
            Location::Postgres(options) => Engine::Postgres(postgres::Postgres::connect(options)?),
        })))
    }

    /// Hosts that share a database tell by their own clocks whether another one's claim has run out.
    ///
    /// # Errors
    /// `Registry` when this machine's is too far from the server's for that.
    fn check_clock(&self) -> Result<()> {
        let asked = SystemClock.now();
        let there: Timestamp = self.read_blocking(|session| session.one("SELECT clock_timestamp()", &[])?.get(0))?;
        let answered = SystemClock.now();
        let apart = asked.since(there).max(there.since(answered));
        if apart > MOST_APART {
            let seconds = apart.as_secs_f64();
            return Err(Error::new(
                ErrorKind::Registry,
                format!("this machine's clock is {seconds:.0} s from that of the registry's server"),
            )
            .with_hint("set it by the network (NTP): claims of other machines would be taken for dead ones"));
        }
        Ok(())
    }

    /// The steps that the schema has yet to take. Blocking.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn plan(&self) -> Result<Plan> {
        self.read_blocking(migrations::plan)
    }

    /// Takes them, in one transaction; with `adopt`, also the one that takes over tables of the EXAI tool. Blocking.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn migrate(&self, now: Timestamp, adopt: bool) -> Result<()> {
        self.write_blocking(move |session| migrations::migrate(session, now, adopt))
    }

    /// As [`write`](Self::write), for threads that may wait.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_blocking<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Session<'_>) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = mpsc::sync_channel(1);
        self.submit(Access::Write, job, move |outcome| {
            let _ = reply.send(outcome);
        })?;
        answer.recv().unwrap_or_else(|_| Err(closed()))
    }

    /// How the database is. Blocking.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn status(&self) -> Result<Status> {
        let database = format!("{:?}", self.0);
        self.read_blocking(move |session| migrations::status(session, database))
    }

    /// Runs `job` in a write transaction and returns once it is on disk.
    ///
    /// The job sees all earlier writes; an error from it undoes its own writes only.
    ///
    /// # Errors
    /// The job's own; `Registry` when it could not be written or, with PostgreSQL, no connection was free in time.
    pub async fn write<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Session<'_>) -> Result<T> + Send + 'static,
    {
        self.answered(Access::Write, job).await
    }

    /// As [`write`](Self::write), without waiting for the disk: for counters.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn count<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Session<'_>) -> Result<T> + Send + 'static,
    {
        self.answered(Access::Count, job).await
    }

    async fn answered<T, F>(&self, access: Access, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Session<'_>) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.submit(access, job, move |outcome| {
            let _ = reply.send(outcome);
        })?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Queues `job` without waiting for it: for the last words of a cancelled call.
    pub fn write_soon<F>(&self, job: F)
    where
        F: FnOnce(&mut Session<'_>) -> Result<()> + Send + 'static,
    {
        self.queued(Access::Write, job);
    }

    /// As [`write_soon`](Self::write_soon), for counters.
    pub fn count_soon<F>(&self, job: F)
    where
        F: FnOnce(&mut Session<'_>) -> Result<()> + Send + 'static,
    {
        self.queued(Access::Count, job);
    }

    fn queued<F>(&self, access: Access, job: F)
    where
        F: FnOnce(&mut Session<'_>) -> Result<()> + Send + 'static,
    {
        let queued = self.submit(access, job, |outcome| {
            if let Err(error) = outcome {
                tracing::warn!(%error, "registry: a cancelled call could not be noted");
            }
        });
        if let Err(error) = queued {
            tracing::debug!(%error, "registry: closed before a cancelled call could be noted");
        }
    }

    /// Runs `query` without waiting for writers.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn read<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Session<'_>) -> Result<T> + Send + 'static,
    {
        if matches!(*self.0, Engine::Postgres(_)) {
            return self.answered(Access::Read, query).await;
        }
        let store = self.clone();
        let work = tokio::task::spawn_blocking(move || store.read_blocking(query));
        work.await.unwrap_or_else(|_| Err(closed()))
    }

    /// As [`read`](Self::read), for callers that are on a blocking thread already.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_blocking<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Session<'_>) -> Result<T> + Send + 'static,
    {
        let query = match &*self.0 {
            Engine::Sqlite(engine) => match engine.read(query) {
                Ok(outcome) => return outcome,
                Err(query) => query,
            },
            Engine::Postgres(_) => query,
        };
        let (reply, answer) = mpsc::sync_channel(1);
        self.submit(Access::Read, query, move |outcome| {
            let _ = reply.send(outcome);
        })?;
        answer.recv().unwrap_or_else(|_| Err(closed()))
    }

    /// Whether it is PostgreSQL, where many write at the same time.
    pub fn is_postgres(&self) -> bool {
        matches!(*self.0, Engine::Postgres(_))
    }

    /// Finishes what is queued and closes the database. Later calls fail.
    pub fn close(&self) {
        self.0.close();
    }

    fn submit<T, F, R>(&self, access: Access, work: F, reply: R) -> Result<()>
    where
        T: Send + 'static,
        F: FnOnce(&mut Session<'_>) -> Result<T> + Send + 'static,
        R: FnOnce(Result<T>) + Send + 'static,
    {
        let job: Job = Box::new(move |session| {
            let outcome = session.map(|session| guarded(|| work(session)));
            let is_good = matches!(outcome, Some(Ok(_)));
            let reply = move |ended: Result<()>| reply(ended.and_then(|()| outcome.unwrap_or_else(|| Err(closed()))));
            Done { is_good, reply: Box::new(reply) }
        });
        match &*self.0 {
            Engine::Sqlite(engine) => engine.submit(job, access),
            Engine::Postgres(engine) => engine.submit(job, access),
        }
    }
}

impl Engine {
    fn close(&self) {
        match self {
            Engine::Sqlite(engine) => engine.close(),
            Engine::Postgres(engine) => engine.close(),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

/// Waits for a thread to end. The last user of a store may be a job, and then it is this thread itself that closes it.
fn join(thread: JoinHandle<()>) {
    if thread.thread().id() != std::thread::current().id() {
        let _ = thread.join();
    }
}

/// A job that panics has failed, and takes neither its thread nor the jobs of others with it.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Registry, "a step of the registry panicked; nothing of it was written")
            .with_hint("this is a fault of exai-files: please report it with the panic's message"))
    })
}

fn closed() -> Error {
    Error::new(ErrorKind::Registry, "the registry is closed").with_hint("open a new client")
}
