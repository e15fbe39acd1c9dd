//! One SQLite file that all processes of a host may share, or one in memory.
//!
//! One thread owns the writing connection and commits whatever has queued up as one transaction, so that many
//! small commits cost one sync; a job's caller hears of it only after that commit. Counters have a writer of their own,
//! which does not wait for the disk. Readers have connections of their own (WAL: they never wait for the writer).

use std::path::{Path, PathBuf};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use rusqlite::functions::FunctionFlags;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, Statement, ToSql, TransactionBehavior};

use super::session::Session;
use super::value::{Cell, Row, Value};
use super::{Access, Done, Job, migrations};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// How long a process waits for another one's write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(15);

/// How often it looks whether it has ended. SQLite's own pauses grow, and whoever has waited longest waits on.
const LOOKS_EVERY: Duration = Duration::from_millis(1);

/// Jobs that may share one commit.
const BATCH: usize = 64;

/// Connections kept open for readers; more are opened while more read.
const READERS: usize = 4;

/// Bytes that are written anew in a second or two.
const MOST_COMPACTED: u64 = 256 << 20;

/// A file of which this part is free is written anew without it.
const WORTH_COMPACTING: u64 = 4;

pub(super) struct Sqlite {
    path: PathBuf,
    journal: Writer,
    /// None in memory: there is but one connection.
    counters: Option<Writer>,
    readers: Mutex<Vec<Connection>>,
    in_memory: bool,
    /// The process that opened it: neither threads nor SQLite connections survive a fork.
    process: u32,
}

/// A thread with a connection, and the way to it.
struct Writer {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Writer {
    fn start(connection: Connection) -> Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("exai-files-registry".into())
            .spawn(move || write_jobs(connection, &queue))
            .map_err(|error| {
                Error::new(ErrorKind::Registry, "the registry's thread did not start").with_source(error)
            })?;
        Ok(Writer { jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)) })
    }

    fn submit(&self, job: Job) -> Result<()> {
        let jobs = self.jobs.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or_else(super::closed)
    }

    /// Lets it finish what is queued. What is left has to be waited for.
    fn close(&self) -> Option<std::thread::JoinHandle<()>> {
        self.jobs.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        self.thread.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
    }
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.path)
    }
}

impl Sqlite {
    /// Opens (and, where needed, creates and migrates) the database at `path`; `:memory:` keeps it in memory.
    pub(super) fn open(path: &Path, now: Timestamp) -> Result<Self> {
        let in_memory = path == Path::new(":memory:");
        if !in_memory {
            create_parent(path)?;
        }
        let cannot = |error: rusqlite::Error| cannot_open(path, error);
        let writer = when_free(|| connect(path, in_memory, "FULL")).map_err(cannot)?;
        // Tables that others refer to are made anew by some steps.
        writer.execute_batch("PRAGMA foreign_keys = OFF; BEGIN IMMEDIATE").map_err(cannot)?;
        migrations::migrate(&mut Session::sqlite(&writer), now, true)
            .map_err(|error| if error.hint().is_some() { error } else { cannot_use(path, error) })?;
        writer.execute_batch("COMMIT; PRAGMA foreign_keys = ON").map_err(cannot)?;
        let readers = (0..if in_memory { 0 } else { READERS })
            .map(|_| connect_reader(path))
            .collect::<Result<Vec<_>, _>>()
            .map_err(cannot)?;

        let counters = match in_memory {
            true => None,
            false => Some(Writer::start(connect(path, false, "NORMAL").map_err(cannot)?)?),
        };
        Ok(Sqlite {
            path: path.to_owned(),
            journal: Writer::start(writer)?,
            counters,
            readers: Mutex::new(readers),
            in_memory,
            process: std::process::id(),
        })
    }

    pub(super) fn submit(&self, job: Job, access: Access) -> Result<()> {
        match &self.counters {
            Some(counters) if access == Access::Count => counters.submit(job),
            _ => self.journal.submit(job),
        }
    }

    /// Runs a question on a reading connection. Blocking. Gives it back where there is but one, which the writer has.
    pub(super) fn read<T, F>(&self, query: F) -> Result<Result<T>, F>
    where
        F: FnOnce(&mut Session<'_>) -> Result<T>,
    {
        if self.in_memory {
            return Err(query);
        }
        Ok(self.take_reader().and_then(|connection| {
            let outcome = query(&mut Session::sqlite(&connection));
            self.give_back(connection);
            outcome
        }))
    }

    /// Gives the space of removed rows back to the disk, where it is worth it, and takes the planner's figures.
    pub(super) fn compact(&self) -> Result<()> {
        if self.in_memory {
            return Ok(());
        }
        let connection = connect(&self.path, false, "FULL").map_err(|error| cannot_open(&self.path, error))?;
        let pages = |pragma| connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, u64>(0));
        let (free, all) = (pages("freelist_count")?, pages("page_count")?);
        // Others wait meanwhile, and not for ever: what is left in a large file is used again.
        if free * WORTH_COMPACTING > all && (all - free) * pages("page_size")? < MOST_COMPACTED {
            connection.execute_batch("VACUUM")?;
        }
        connection.execute_batch("PRAGMA optimize")?;
        Ok(())
    }

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

    /// One connection after the other: of two that close at the same time neither is the last, which writes what the log
    /// holds into the database and removes the log.
    pub(super) fn close(&self) {
        let readers = std::mem::take(&mut *self.readers.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        let is_ours = self.process == std::process::id();
        match is_ours {
            true => drop(readers),
            // A forked child: the connections are the parent's, and there is no thread to wait for.
            false => std::mem::forget(readers),
        }
        for writer in self.counters.iter().chain([&self.journal]) {
            match writer.close() {
                Some(thread) if is_ours => super::join(thread),
                thread => std::mem::forget(thread),
            }
        }
    }
}

// ===== statements =====

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null(_) => ValueRef::Null,
            Value::Int(number) => ValueRef::Integer(*number),
            Value::Bool(flag) => ValueRef::Integer((*flag).into()),
            Value::Time(at) => ValueRef::Integer(at.0),
            Value::Text(text) | Value::Id(text) | Value::Json(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

fn prepared<'c>(connection: &'c Connection, sql: &str) -> Result<rusqlite::CachedStatement<'c>> {
    Ok(connection.prepare_cached(sql)?)
}

pub(super) fn execute(connection: &Connection, sql: &str, values: &[Value<'_>]) -> Result<u64> {
    let changed = prepared(connection, sql)?.execute(rusqlite::params_from_iter(values))?;
    Ok(changed as u64)
}

pub(super) fn rows(connection: &Connection, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>> {
    let mut statement = prepared(connection, sql)?;
    let columns = Statement::column_count(&statement);
    let mut found = statement.query(rusqlite::params_from_iter(values))?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        rows.push(Row((0..columns).map(|index| Ok(cell(row.get_ref(index)?))).collect::<Result<_>>()?));
    }
    Ok(rows)
}

fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(number) => Cell::Int(number),
        ValueRef::Real(number) => Cell::Real(number),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Cell::Text(String::from_utf8_lossy(bytes).into_owned()),
    }
}

// ===== connections =====

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

/// Whether to look once more, after so many looks.
fn waits(looks: i32) -> bool {
    std::thread::sleep(LOOKS_EVERY);
    u128::from(looks.unsigned_abs()) * LOOKS_EVERY.as_millis() < BUSY_TIMEOUT.as_millis()
}

fn connect(path: &Path, in_memory: bool, synchronous: &str) -> rusqlite::Result<Connection> {
    let mut connection = if in_memory { Connection::open_in_memory()? } else { Connection::open(path)? };
    connection.busy_handler(Some(waits))?;
    if !in_memory {
        // The pragma answers with the mode it got; on file systems without shared memory that is not WAL, and
        // then SQLite still works, only slower.
        let _mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    }
    // FULL: an acknowledged upload survives a power cut, so it is never sent again.
    connection.execute_batch(&format!(
        "PRAGMA synchronous = {synchronous}; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384;"
    ))?;
    prepare(connection)
}

/// What every connection has: SQLite's own `lower` knows ASCII only, and it has no `strpos`.
fn prepare(connection: Connection) -> rusqlite::Result<Connection> {
    connection.set_prepared_statement_cache_capacity(64);
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("lower", 1, flags, |context| {
        Ok(context.get::<Option<String>>(0)?.map(|text| text.to_lowercase()))
    })?;
    connection.create_scalar_function("strpos", 2, flags, |context| {
        let (text, part) = (context.get::<Option<String>>(0)?, context.get::<Option<String>>(1)?);
        let found = text.zip(part).map(|(text, part)| text.find(&part).map_or(0, |at| text[..at].chars().count() + 1));
        Ok(found.map(|at| i64::try_from(at).unwrap_or(i64::MAX)))
    })?;
    Ok(connection)
}

fn connect_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_handler(Some(waits))?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA foreign_keys = ON;")?;
    prepare(connection)
}

// ===== the writer =====

fn write_jobs(mut connection: Connection, queue: &mpsc::Receiver<Job>) {
    while let Ok(first) = queue.recv() {
        let batch = std::iter::once(first).chain(std::iter::from_fn(|| queue.try_recv().ok())).take(BATCH);
        let (done, outcome) = write_batch(&mut connection, batch);
        for done in done {
            (done.reply)(outcome.as_ref().copied().map_err(write_failed));
        }
    }
}

fn write_batch(connection: &mut Connection, batch: impl Iterator<Item = Job>) -> (Vec<Done>, rusqlite::Result<()>) {
    match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Ok(transaction) => {
            let done = batch.map(|job| in_savepoint(&transaction, job)).collect();
            (done, transaction.commit())
        }
        Err(error) => (batch.map(|job| job(None)).collect(), Err(error)),
    }
}

/// A job that fails undoes what it wrote, and nothing else.
fn in_savepoint(connection: &Connection, job: Job) -> Done {
    if let Err(error) = connection.execute_batch("SAVEPOINT job") {
        return job(None).failed(write_failed(&error));
    }
    let done = job(Some(&mut Session::sqlite(connection)));
    let end = if done.is_good { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" };
    match connection.execute_batch(end) {
        Ok(()) => done,
        Err(error) => done.failed(write_failed(&error)),
    }
}

fn write_failed(why: &rusqlite::Error) -> Error {
    Error::new(ErrorKind::Registry, format!("the registry could not be written: {why}"))
        .with_hint("check the disk and that nothing else holds the database")
}

fn cannot_open(path: &Path, error: rusqlite::Error) -> Error {
    cannot_use(path, error.into())
}

fn cannot_use(path: &Path, error: Error) -> Error {
    Error::new(ErrorKind::Registry, format!("the registry {path:?} cannot be opened: {}", error.message()))
        .with_hint("set `registry.path` to a SQLite file this user may write to")
        .with_source(error)
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Error::new(ErrorKind::Registry, format!("the registry failed: {error}")).with_source(error)
    }
}
