//! The database layer: one SQLite file that all processes of a host may share.
//!
//! One thread owns the writing connection and commits whatever has queued up as one transaction, so that many
//! small commits cost one sync; a job's caller hears of it only after that commit. Readers have connections of
//! their own (WAL: they never wait for the writer).

mod migrations;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tokio::sync::oneshot;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// How long a process waits for another one's write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(15);

/// Jobs that may share one commit.
const BATCH: usize = 64;

const READERS: usize = 2;

type Reply = Box<dyn FnOnce(Result<()>) + Send>;
/// Runs in the open transaction; without one (it could not begin) it only makes its reply.
type Job = Box<dyn FnOnce(Option<&Connection>) -> Reply + Send>;

/// A handle to the database; clones share it.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    path: PathBuf,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
    readers: Mutex<Vec<Connection>>,
    in_memory: bool,
    /// The process that opened it: neither threads nor SQLite connections survive a fork.
    process: u32,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({:?})", self.0.path)
    }
}

impl Store {
    /// Opens (and, where needed, creates and migrates) the database at `path`; `:memory:` keeps it in memory.
    ///
    /// Blocking: it touches the disk.
    ///
    /// # Errors
    /// `Registry` when the file cannot be opened, is no SQLite database, or was written by a newer version.
    pub fn open(path: &Path, now: Timestamp) -> Result<Self> {
        let in_memory = path == Path::new(":memory:");
        if !in_memory {
            create_parent(path)?;
        }
        let cannot = |error: rusqlite::Error| cannot_open(path, error);
        let mut writer = when_free(|| connect(path, in_memory)).map_err(cannot)?;
        migrations::migrate(&mut writer, now).map_err(|error| error.into_registry_error(path))?;
        let readers = (0..if in_memory { 0 } else { READERS })
            .map(|_| connect_reader(path))
            .collect::<Result<Vec<_>, _>>()
            .map_err(cannot)?;

        let (jobs, queue) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("exai-files-registry".into())
            .spawn(move || write_jobs(writer, &queue))
            .map_err(|error| {
                Error::new(ErrorKind::Registry, "the registry's thread did not start").with_source(error)
            })?;
        Ok(Store(Arc::new(Inner {
            path: path.to_owned(),
            jobs: Mutex::new(Some(jobs)),
            writer: Mutex::new(Some(thread)),
            readers: Mutex::new(readers),
            in_memory,
            process: std::process::id(),
        })))
    }

    /// Runs `job` in a write transaction and returns once it is on disk.
    ///
    /// The job sees all earlier writes; an error from it undoes its own writes only.
    pub async fn write<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.submit(job, move |outcome| {
            let _ = reply.send(outcome);
        })?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Queues `job` without waiting for it: for the last words of a cancelled call.
    pub fn write_soon<F>(&self, job: F)
    where
        F: FnOnce(&Connection) -> Result<()> + Send + 'static,
    {
        let queued = self.submit(job, |outcome| {
            if let Err(error) = outcome {
                tracing::warn!(%error, "registry: a cancelled call could not be noted");
            }
        });
        if let Err(error) = queued {
            tracing::debug!(%error, "registry: closed before a cancelled call could be noted");
        }
    }

    /// Runs `query` on a reading connection, without waiting for writers.
    pub async fn read<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let store = self.clone();
        let work = tokio::task::spawn_blocking(move || store.read_blocking(query));
        work.await.unwrap_or_else(|_| Err(closed()))
    }

    /// As [`read`](Self::read), for callers that are on a blocking thread already.
    pub fn read_blocking<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        if self.0.in_memory {
            // There is one connection, and the writer has it.
            let (reply, answer) = mpsc::sync_channel(1);
            self.submit(query, move |outcome| {
                let _ = reply.send(outcome);
            })?;
            return answer.recv().unwrap_or_else(|_| Err(closed()));
        }
        let connection = self.0.take_reader()?;
        let outcome = query(&connection);
        self.0.give_back(connection);
        outcome
    }

    /// Finishes what is queued and closes the file. Later calls fail.
    pub fn close(&self) {
        self.0.close();
    }

    fn submit<T, F, R>(&self, job: F, reply: R) -> Result<()>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
        R: FnOnce(Result<T>) + Send + 'static,
    {
        let job: Job = Box::new(move |connection| {
            let outcome = connection.map(|connection| in_savepoint(connection, job));
            Box::new(move |committed| reply(committed.and_then(|()| outcome.unwrap_or_else(|| Err(closed())))))
        });
        let jobs = self.0.jobs.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or_else(closed)
    }
}

impl Inner {
    fn take_reader(&self) -> Result<Connection> {
        let pooled = self.readers.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop();
        match pooled {
            Some(connection) => Ok(connection),
            None => connect_reader(&self.path).map_err(|error| cannot_open(&self.path, error)),
        }
    }

    fn give_back(&self, connection: Connection) {
        let mut readers = self.readers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if readers.len() < READERS {
            readers.push(connection);
        }
    }

    fn close(&self) {
        self.jobs.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let thread = self.writer.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let readers = std::mem::take(&mut *self.readers.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        if self.process != std::process::id() {
            // A forked child: there is no thread to wait for, and the connections are the parent's.
            std::mem::forget((thread, readers));
            return;
        }
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

fn create_parent(path: &Path) -> Result<()> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return Ok(()) };
    std::fs::create_dir_all(parent).map_err(|error| {
        Error::new(ErrorKind::Registry, format!("the registry's directory {parent:?} cannot be made: {error}"))
            .with_hint("set `registry.path` to a place this user may write to")
            .with_source(error)
    })
}

/// Tries again while another process changes the journal mode: for that SQLite answers "locked" at once, whatever
/// the busy time-out says.
fn when_free<T>(mut open: impl FnMut() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    let give_up = std::time::Instant::now() + BUSY_TIMEOUT;
    loop {
        match open() {
            Err(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
                    && std::time::Instant::now() < give_up =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            outcome => return outcome,
        }
    }
}

fn connect(path: &Path, in_memory: bool) -> rusqlite::Result<Connection> {
    let connection = if in_memory { Connection::open_in_memory()? } else { Connection::open(path)? };
    connection.busy_timeout(BUSY_TIMEOUT)?;
    if !in_memory {
        // The pragma answers with the mode it got; on file systems without shared memory that is not WAL, and
        // then SQLite still works, only slower.
        let _mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    }
    // FULL: an acknowledged upload survives a power cut, so it is never sent again.
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;")?;
    prepare(connection)
}

/// What every connection has: SQLite's own `lower` knows ASCII only.
fn prepare(connection: Connection) -> rusqlite::Result<Connection> {
    connection.set_prepared_statement_cache_capacity(64);
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("folded", 1, flags, |context| {
        Ok(context.get::<Option<String>>(0)?.map(|text| text.to_lowercase()))
    })?;
    Ok(connection)
}

fn connect_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA foreign_keys = ON;")?;
    prepare(connection)
}

fn write_jobs(mut connection: Connection, queue: &mpsc::Receiver<Job>) {
    while let Ok(first) = queue.recv() {
        let batch = std::iter::once(first).chain(std::iter::from_fn(|| queue.try_recv().ok())).take(BATCH);
        let (replies, outcome) = write_batch(&mut connection, batch);
        for reply in replies {
            reply(outcome.as_ref().copied().map_err(|error| write_failed(&error.to_string())));
        }
    }
}

fn write_batch(connection: &mut Connection, batch: impl Iterator<Item = Job>) -> (Vec<Reply>, rusqlite::Result<()>) {
    match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Ok(transaction) => {
            let replies = batch.map(|job| job(Some(&transaction))).collect();
            (replies, transaction.commit())
        }
        Err(error) => (batch.map(|job| job(None)).collect(), Err(error)),
    }
}

fn in_savepoint<T>(connection: &Connection, job: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    connection.execute_batch("SAVEPOINT job").map_err(|error| write_failed(&error.to_string()))?;
    let outcome = job(connection);
    let end = if outcome.is_ok() { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" };
    connection.execute_batch(end).map_err(|error| write_failed(&error.to_string()))?;
    outcome
}

fn write_failed(why: &str) -> Error {
    Error::new(ErrorKind::Registry, format!("the registry could not be written: {why}"))
        .with_hint("check the disk and that nothing else holds the database")
}

fn closed() -> Error {
    Error::new(ErrorKind::Registry, "the registry is closed").with_hint("open a new client")
}

fn cannot_open(path: &Path, error: rusqlite::Error) -> Error {
    Error::new(ErrorKind::Registry, format!("the registry {path:?} cannot be opened: {error}"))
        .with_hint("set `registry.path` to a SQLite file this user may write to")
        .with_source(error)
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Error::new(ErrorKind::Registry, format!("the registry failed: {error}")).with_source(error)
    }
}
