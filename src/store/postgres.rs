//! A PostgreSQL database, plain or Supabase's, also behind a pooler in transaction mode.
//!
//! Each connection has a thread of its own that takes jobs from one queue. Nothing outlives a transaction: no prepared
//! statement, no setting, no session lock; each statement is one group of messages with its parameters' types
//! (`query_typed`), so that a pooler cannot come between.

mod transport;
mod values;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::location::PostgresOptions;
use super::session::Session;
use super::value::{Row, Value, bind};
use super::{Access, Job};
use crate::error::{Error, ErrorKind, Result, Retry};

use transport::Server;
use values::{columns, parameters, row};

/// A connection that nobody needed for so long is closed.
const IDLE: Duration = Duration::from_secs(30);

/// Pauses between two tries to connect.
const AGAIN: Duration = Duration::from_millis(100);

pub(super) struct Postgres {
    queue: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    connections: usize,
    /// The process that opened it: threads do not survive a fork.
    process: u32,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.queue.server)
    }
}

/// Jobs that wait for a connection, and what the threads that have one share.
struct Queue {
    server: Server,
    timeout: Duration,
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Queued>,
    /// Threads that wait for a job.
    idle: usize,
    threads: usize,
    is_closed: bool,
}

struct Queued {
    job: Job,
    access: Access,
    give_up: Instant,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job; `None` when there has been none for long, or there will be no more.
    fn next(&self) -> Option<Queued> {
        let mut state = self.state();
        loop {
            if let Some(queued) = state.jobs.pop_front() {
                return Some(queued);
            }
            if state.is_closed {
                state.threads -= 1;
                return None;
            }
            state.idle += 1;
            let (woken, waited) = self.arrived.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.jobs.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }
}

impl Postgres {
    /// Connects, and looks at nothing yet.
    pub(super) fn connect(options: &PostgresOptions) -> Result<Self> {
        let server = Server::new(options)?;
        let queue = Queue { server, timeout: options.timeout, state: Mutex::default(), arrived: Condvar::new() };
        Ok(Postgres {
            queue: Arc::new(queue),
            threads: Mutex::default(),
            connections: options.connections.max(1),
            process: std::process::id(),
        })
    }

    pub(super) fn submit(&self, job: Job, access: Access) -> Result<()> {
        if self.process != std::process::id() {
            return Err(super::closed());
        }
        let give_up = Instant::now() + self.queue.timeout;
        let mut state = self.queue.state();
        if state.is_closed {
            return Err(super::closed());
        }
        state.jobs.push_back(Queued { job, access, give_up });
        let needs_thread = state.idle < state.jobs.len() && state.threads < self.connections;
        state.threads += usize::from(needs_thread);
        drop(state);
        self.queue.arrived.notify_one();
        if needs_thread { self.start_thread() } else { Ok(()) }
    }

    fn start_thread(&self) -> Result<()> {
        let queue = self.queue.clone();
        let started = std::thread::Builder::new().name("exai-files-registry".into()).spawn(move || take_jobs(&queue));
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| !thread.is_finished());
        match started {
            Ok(thread) => {
                threads.push(thread);
                Ok(())
            }
            Err(error) => {
                self.queue.state().threads -= 1;
                Err(Error::new(ErrorKind::Registry, "the registry's thread did not start").with_source(error))
            }
        }
    }

    pub(super) fn close(&self) {
        if self.process != std::process::id() {
            return; // a forked child: the threads and connections are the parent's
        }
        self.queue.state().is_closed = true;
        self.queue.arrived.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        threads.into_iter().for_each(super::join);
    }
}

// ===== a thread and its connection =====

fn take_jobs(queue: &Queue) {
    let mut line = Line { server: &queue.server, timeout: queue.timeout, connection: None };
    while let Some(queued) = queue.next() {
        line.run(queued);
    }
}

/// A connection that is made when it is needed, and again when it was lost.
struct Line<'q> {
    server: &'q Server,
    timeout: Duration,
    connection: Option<Connection>,
}

impl Line<'_> {
    fn run(&mut self, queued: Queued) {
        let Queued { job, access, give_up } = queued;
        match self.begin(access, give_up) {
            Err(error) => (job(None).reply)(Err(error)),
            Ok(connection) => {
                let done = job(Some(&mut Session::postgres(connection)));
                let is_good = done.is_good;
                let ended = if access == Access::Read { Ok(()) } else { self.end(is_good) };
                (done.reply)(ended);
            }
        }
        if self.connection.as_ref().is_some_and(Connection::is_lost) {
            self.connection = None;
        }
    }

    /// A connection with, for a write job, a transaction begun. A connection that was lost while it was idle is made
    /// anew: nothing was asked of it yet.
    fn begin(&mut self, access: Access, give_up: Instant) -> Result<&mut Connection> {
        if Instant::now() >= give_up {
            return Err(Error::new(ErrorKind::Registry, "no connection to the registry was free in time")
                .with_hint("do less at a time, or raise `registry.connections` or `registry.timeout`"));
        }
        loop {
            let error = match self.begin_once(access) {
                Ok(()) => break,
                Err(error) => error,
            };
            self.connection = None;
            if error.retry() == Retry::Never || Instant::now() + AGAIN >= give_up {
                return Err(error);
            }
            std::thread::sleep(AGAIN);
        }
        self.connection.as_mut().ok_or_else(super::closed)
    }

    fn begin_once(&mut self, access: Access) -> Result<()> {
        let mut connection = match self.connection.take() {
            Some(connection) if !connection.is_lost() => connection,
            _ => Connection::new(self.server, self.timeout)?,
        };
        match access {
            Access::Read => {}
            // The number tells later what became of a commit that got no answer.
            Access::Write => connection.begin("BEGIN; SELECT txid_current()")?,
            Access::Count => connection.begin("BEGIN; SET LOCAL synchronous_commit TO off; SELECT txid_current()")?,
        }
        self.connection = Some(connection);
        Ok(())
    }

    fn end(&mut self, is_good: bool) -> Result<()> {
        let Some(connection) = &mut self.connection else { return Err(super::closed()) };
        if !is_good {
            // What cannot be undone because the connection is gone is undone with it.
            let _ = connection.batch("ROLLBACK");
            return Ok(());
        }
        match connection.commit() {
            Err(error) if connection.is_lost() => {
                let transaction = connection.transaction;
                self.connection = None;
                self.outcome_of(transaction, error)
            }
            ended => ended,
        }
    }

    /// What became of a transaction whose commit got no answer: the server is asked, never told again.
    fn outcome_of(&mut self, transaction: i64, lost: Error) -> Result<()> {
        let give_up = Instant::now() + self.timeout;
        loop {
            match self.ask_outcome(transaction) {
                Ok(Some(true)) => return Ok(()),
                Ok(Some(false)) => return Err(lost),
                Ok(None) | Err(_) if Instant::now() + AGAIN < give_up => std::thread::sleep(AGAIN),
                _ => {
                    return Err(Error::new(
                        ErrorKind::Registry,
                        "the registry may or may not have been written: its server went away meanwhile",
                    )
                    .with_hint("do it again: what was written is found then")
                    .with_source(lost));
                }
            }
        }
    }

    /// Whether it was committed; `None` while it is under way.
    fn ask_outcome(&mut self, transaction: i64) -> Result<Option<bool>> {
        self.begin_once(Access::Read)?;
        let connection = self.connection.as_mut().ok_or_else(super::closed)?;
        let row = connection.rows("SELECT txid_status(?1)", bind![transaction])?.into_iter().next();
        Ok(match row.map(|row| row.get::<Option<String>>(0)).transpose()?.flatten().as_deref() {
            Some("committed") => Some(true),
            Some("aborted") => Some(false),
            _ => None,
        })
    }
}

/// One connection to the server.
pub(super) struct Connection {
    client: Client,
    /// Drives the connection while somebody waits for it.
    runtime: Runtime,
    timeout: Duration,
    /// Of the transaction that is open.
    transaction: i64,
    /// Whether a statement of it failed: PostgreSQL would answer COMMIT by undoing all, and call that a success.
    has_failed: bool,
    is_stuck: bool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    fn new(server: &Server, timeout: Duration) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::new(ErrorKind::Registry, "no connection could be made").with_source(error))?;
        let client = runtime.block_on(server.connect(timeout))?;
        Ok(Connection { client, runtime, timeout, transaction: 0, has_failed: false, is_stuck: false })
    }

    fn is_lost(&self) -> bool {
        // Lets the connection's task see what happened while nobody waited.
        self.runtime.block_on(tokio::task::yield_now());
        self.is_stuck || self.client.is_closed()
    }

    /// In one round trip; `sql` ends with the question for the transaction's number.
    fn begin(&mut self, sql: &str) -> Result<()> {
        self.has_failed = false;
        let answer = Self::in_time(&self.runtime, self.timeout, &mut self.is_stuck, self.client.simple_query(sql))?;
        let number = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).and_then(|number| number.parse().ok()),
            _ => None,
        });
        self.transaction = number.unwrap_or_default();
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        if self.has_failed {
            let _ = self.batch("ROLLBACK");
            return Err(Error::new(ErrorKind::Registry, "a statement of this transaction had failed"));
        }
        self.batch("COMMIT")
    }

    pub(super) fn execute(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64> {
        let (sql, parameters) = (numbered(sql), parameters(values));
        let asking = self.client.execute_typed(&sql, &parameters);
        let answer = Self::in_time(&self.runtime, self.timeout, &mut self.is_stuck, asking);
        self.has_failed |= answer.is_err();
        answer
    }

    /// As [`execute`](Self::execute), with one array for each column of some rows.
    pub(super) fn execute_columns(&mut self, sql: &str, rows: &[Vec<Value<'_>>]) -> Result<()> {
        let (sql, columns) = (numbered(sql), columns(rows));
        let parameters: Vec<_> =
            columns.iter().map(|(column, ty)| (column as &(dyn ToSql + Sync), ty.clone())).collect();
        let asking = self.client.execute_typed(&sql, &parameters);
        let answer = Self::in_time(&self.runtime, self.timeout, &mut self.is_stuck, asking);
        self.has_failed |= answer.is_err();
        answer.map(drop)
    }

    pub(super) fn rows(&mut self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>> {
        let (sql, parameters) = (numbered(sql), parameters(values));
        let asking = self.client.query_typed(&sql, &parameters);
        let answer = Self::in_time(&self.runtime, self.timeout, &mut self.is_stuck, asking);
        self.has_failed |= answer.is_err();
        answer?.iter().map(row).collect()
    }

    pub(super) fn batch(&mut self, sql: &str) -> Result<()> {
        let asking = self.client.batch_execute(sql);
        let answer = Self::in_time(&self.runtime, self.timeout, &mut self.is_stuck, asking);
        self.has_failed |= answer.is_err();
        answer
    }

    /// As [`batch`](Self::batch), for what may take long: it is waited for however long it takes.
    pub(super) fn patient_batch(&mut self, sql: &str) -> Result<()> {
        let answer = self.runtime.block_on(self.client.batch_execute(sql)).map_err(|error| failed(&error));
        self.has_failed |= answer.is_err();
        answer
    }

    pub(super) fn lock(&mut self, name: &str) -> Result<()> {
        self.rows("SELECT pg_advisory_xact_lock(hashtextextended(?1, 0))::text", bind![name]).map(drop)
    }

    /// A server that does not answer is as good as gone.
    fn in_time<T>(
        runtime: &Runtime,
        timeout: Duration,
        is_stuck: &mut bool,
        asking: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        match runtime.block_on(async { tokio::time::timeout(timeout, asking).await }) {
            Ok(answer) => answer.map_err(|error| failed(&error)),
            Err(_) => {
                *is_stuck = true;
                Err(Error::new(ErrorKind::Registry, "the registry's server does not answer")
                    .with_hint("see whether it is overloaded; `registry.timeout` is how long it is waited for")
                    .with_retry(Retry::Yes, None))
            }
        }
    }
}

/// `?1` is SQLite's way of writing `$1`.
fn numbered(sql: &str) -> String {
    sql.replace('?', "$")
}

/// What went wrong, for people: what to do about it, and whether another connection may help.
fn failed(error: &tokio_postgres::Error) -> Error {
    let Some(told) = error.as_db_error() else { return unreachable(error) };
    let code = told.code();
    let (hint, retry) = match code {
        _ if code.code().starts_with("08") || code.code().starts_with("57P") => {
            ("the server went away; try again", Retry::Yes)
        }
        &SqlState::TOO_MANY_CONNECTIONS => {
            ("lower `registry.connections`, or put a pooler in front of the server", Retry::Yes)
        }
        &SqlState::DISK_FULL => ("the server's disk is full", Retry::Never),
        &SqlState::INSUFFICIENT_PRIVILEGE => ("grant this role what it needs, or use the tables' owner", Retry::Never),
        &SqlState::UNDEFINED_TABLE | &SqlState::UNDEFINED_COLUMN => {
            ("`exai-files db status` says what is missing, `db migrate` makes it", Retry::Never)
        }
        &SqlState::READ_ONLY_SQL_TRANSACTION => ("this is a standby; use the primary's URL", Retry::Yes),
        &SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            ("check the user name and password in `registry.url`", Retry::Never)
        }
        &SqlState::INVALID_CATALOG_NAME => ("check the database name in `registry.url`, or create it", Retry::Never),
        _ => ("see the server's log", Retry::Never),
    };
    Error::new(ErrorKind::Registry, format!("the registry's server refused: {} ({})", told.message(), code.code()))
        .with_hint(hint)
        .with_retry(retry, None)
}

fn unreachable(error: &tokio_postgres::Error) -> Error {
    let mut reason = error.to_string();
    let mut is_distrusted = false;
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        reason = cause.to_string();
        is_distrusted |= is_bad_certificate(cause);
        source = cause.source();
    }
    let (hint, retry) = match is_distrusted {
        true => ("name its authority in `registry.ca_bundle`, and the host as its certificate does", Retry::Never),
        false => ("check `registry.url`, the network and the server", Retry::Yes),
    };
    Error::new(ErrorKind::Registry, format!("the registry's server cannot be reached: {reason}"))
        .with_hint(hint)
        .with_retry(retry, None)
}

fn is_bad_certificate(cause: &(dyn std::error::Error + 'static)) -> bool {
    let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::InvalidCertificate(_)))
}
