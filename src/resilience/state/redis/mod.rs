//! State of many hosts, in Redis from 6.2: one server, a Sentinel's master, or a Cluster.
//!
//! One script for each step, on the server's clock. A server that is gone, hangs or lags is left alone at once, and
//! looked for once a second.

mod existing_tool;
mod servers;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use redis::{FromRedisValue, Script, ScriptInvocation};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{StateBackend, Step};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::metrics;
use crate::resilience::pace::{PaceAnswer, PaceHealth, PaceStep, Rate, Rates, Turn, micros};

use servers::{Connection, Servers};

pub use servers::RedisOptions;

/// How often a process says that it is there, and looks for a lost server.
const ATTENDS_EVERY: Duration = Duration::from_secs(1);

/// A process that did not say so for this long is gone.
const ATTENDANCE: Duration = Duration::from_secs(5);

/// The very first connection may take longer.
const FIRST_CONTACT: Duration = Duration::from_secs(1);

/// Of state that nobody touches.
const LIFE: Duration = Duration::from_secs(30 * 86_400);

/// Changes that others keep getting ahead of are given up after so many tries.
const TRIES: usize = 16;

/// How often in a row a process that is not let run gives the server another chance.
const STARVED: usize = 8;

/// A log that was last asked so long ago is forgotten there too.
const REMEMBERED: Duration = Duration::from_secs(12 * 3_600);

/// The server's clock may differ by this from what it should be by ours; more is a step.
const CLOCK_STEP: Duration = Duration::from_secs(1);

static SWAP: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("swap.lua")));
static PACE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("pace.lua")));
static ATTEND: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("attend.lua")));

/// Connects by itself when first asked, and again whenever the connection is lost.
pub struct Redis {
    namespace: String,
    timeout: Duration,
    shared: Arc<Shared>,
    /// Taken by the task that keeps the connection.
    servers: Mutex<Option<Servers>>,
    /// Whether the existing tool's keys are read and written too.
    has_existing_tool: bool,
    /// Pieces as they were seen last: most changes then take one question.
    seen: Mutex<HashMap<String, Piece>>,
    epochs: Mutex<HashMap<String, Epoch>>,
}

/// A piece of state, and what the existing tool has of the same; empty where there is none.
#[derive(Clone, Debug, Default, PartialEq)]
struct Piece {
    ours: String,
    theirs: String,
}

impl Piece {
    /// Ours, after what the tool did since.
    fn merged(&self) -> String {
        existing_tool::heard(&self.ours, &self.theirs).unwrap_or_else(|| self.ours.clone())
    }
}

/// What the keeping task and the callers share.
struct Shared {
    connection: watch::Sender<Link>,
    /// How many processes attended, lately: after a flush they come back one by one.
    processes: Mutex<VecDeque<(Instant, u32)>>,
    attends_since: OnceLock<Instant>,
    process: u64,
    /// Until when accounts are paused, by their keys.
    pauses: Mutex<HashMap<String, Instant>>,
    /// The server's time at a moment of ours.
    clock: Mutex<Option<(Timestamp, Instant)>>,
}

#[derive(Clone)]
enum Link {
    Untried,
    Up(Connection),
    Lost,
}

/// The log of an account's turns that this process knows, and when it last did.
#[derive(Clone, Copy)]
struct Epoch {
    number: i64,
    now: Timestamp,
    contact: Instant,
    /// By the wall: `Instant` stands still while a machine sleeps.
    wall: Timestamp,
}

impl Epoch {
    fn new(number: i64, now: Timestamp) -> Self {
        Epoch { number, now, contact: Instant::now(), wall: SystemClock.now() }
    }

    /// What the server's clock should say, if ours can tell.
    fn expected(&self) -> Option<Timestamp> {
        let (elapsed, by_the_wall) = (self.contact.elapsed(), SystemClock.now().since(self.wall));
        (elapsed.abs_diff(by_the_wall) < CLOCK_STEP).then(|| self.now.plus(elapsed))
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Redis {
    /// Asks no server yet.
    ///
    /// # Errors
    /// `Config` when the URL cannot be one of Redis.
    pub fn new(options: &RedisOptions) -> Result<Self> {
        let shared = Shared {
            connection: watch::Sender::new(Link::Untried),
            processes: Mutex::default(),
            attends_since: OnceLock::new(),
            process: rand::random(),
            pauses: Mutex::default(),
            clock: Mutex::default(),
        };
        Ok(Redis {
            namespace: options.namespace.clone(),
            timeout: options.timeout,
            shared: Arc::new(shared),
            has_existing_tool: options.existing_tool_keys,
            servers: Mutex::new(Some(options.servers()?)),
            seen: Mutex::default(),
            epochs: Mutex::default(),
        })
    }

    /// The braces keep all keys of a piece on one node of a cluster.
    fn key(&self, key: &str, part: &str) -> String {
        format!("{}:{{{key}}}{part}", self.namespace)
    }

    /// Runs a script, or says at once that the server is lost.
    async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T> {
        let mut connection = self.connection().await?;
        let answer = pin!(connection.run(script));
        match self.in_time(answer).await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) => {
                self.shared.lose();
                Err(lost().with_source(error))
            }
            None => {
                self.shared.lose();
                Err(lost())
            }
        }
    }

    /// The answer, if it comes in time: the server's time, not that of a process that was not let run meanwhile.
    async fn in_time<T>(&self, mut answer: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        for _ in 0..STARVED {
            let asked = Instant::now();
            if let Ok(answer) = timeout(self.timeout, &mut answer).await {
                return Some(answer);
            }
            if asked.elapsed() < self.timeout * 6 / 5 {
                return None;
            }
        }
        None
    }

    async fn connection(&self) -> Result<Connection> {
        self.keep();
        let mut link = self.shared.connection.subscribe();
        let tried = timeout(FIRST_CONTACT, link.wait_for(|link| !matches!(link, Link::Untried))).await;
        let link = tried.ok().and_then(|link| link.ok()).map(|link| link.clone());
        match link {
            Some(Link::Up(connection)) => Ok(connection),
            _ => {
                self.shared.lose();
                Err(lost())
            }
        }
    }

    /// Starts the task that keeps the connection, once.
    fn keep(&self) {
        if let Some(servers) = locked(&self.servers).take() {
            tokio::spawn(keep(Arc::downgrade(&self.shared), servers, self.namespace.clone()));
        }
    }

    /// Lets those hear of a pause within a second who wait for a turn of their own and ask nobody.
    async fn tell_pause(&self, key: &str, wait: Duration) {
        let mut script = attendance(&self.namespace, self.shared.process);
        script.arg(key).arg(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).min(3_600_000));
        if let Ok(answer) = self.run::<Attendance>(&script).await {
            self.shared.attended(answer);
        }
    }

    async fn ask_pace(&self, key: &str, question: &Value) -> Result<PaceTold> {
        let mut script = PACE.prepare_invoke();
        script.key(self.key(key, ":turns")).key(self.key(key, ":facts")).arg(question.to_string());
        self.run(&script).await
    }

    /// Replaces a piece that is as it was `seen`; else gives it as it is.
    async fn swap(&self, key: &str, seen: &Piece, kept: &str) -> Result<(bool, Piece)> {
        let mut script = SWAP.prepare_invoke();
        let life = u64::try_from(LIFE.as_millis()).unwrap_or(u64::MAX);
        script.key(self.key(key, "")).arg(&seen.ours).arg(kept).arg(life);
        let mut told = None;
        if let Some(key) = existing_tool::breaker_key(key).filter(|_| self.has_existing_tool) {
            told = existing_tool::told(kept, &seen.theirs);
            script.key(key).arg(&seen.theirs).arg(told.as_deref().unwrap_or_default()).arg(existing_tool::LIFE);
        }
        let (is_done, now, ours, theirs): (bool, i64, String, String) = self.run(&script).await?;
        self.shared.set_clock(Timestamp(now));
        let there = match is_done {
            true => Piece { ours: kept.to_owned(), theirs: told.unwrap_or_else(|| seen.theirs.clone()) },
            false => Piece { ours, theirs },
        };
        locked(&self.seen).insert(key.to_owned(), there.clone());
        Ok((is_done, there))
    }
}

/// What `pace.lua` gives.
type PaceTold = (u64, bool, i64, i64, u32, u32, u64, u8);

/// The last word of it.
const STEPPED: u8 = 1;
const NOT_WHOLE: u8 = 2;

#[async_trait]
impl StateBackend for Redis {
    fn now(&self) -> Timestamp {
        self.shared.now()
    }

    fn processes(&self) -> u32 {
        locked(&self.shared.processes).iter().map(|(_, count)| *count).max().unwrap_or(1)
    }

    async fn read(&self, key: &str) -> Result<Option<String>> {
        let (_, there) = self.swap(key, &Piece::default(), "").await?;
        Ok(Some(there.merged()).filter(|there| !there.is_empty()))
    }

    async fn update(&self, key: &str, mut step: Step) -> Result<()> {
        // A guess; when it is wrong, nothing is replaced and the true piece comes back.
        let mut there = locked(&self.seen).get(key).cloned().unwrap_or_default();
        for number in 0..TRIES {
            let before = there.merged();
            let kept = step(Some(before.as_str()).filter(|before| !before.is_empty()), self.now());
            let kept = kept.or_else(|| (before != there.ours).then_some(before)).unwrap_or_default();
            let (is_done, now_there) = self.swap(key, &there, &kept).await?;
            // What changes nothing is right if it was right about what is there.
            if is_done || kept.is_empty() && now_there == there {
                return Ok(());
            }
            there = now_there;
            // Those who got in each other's way should not meet again.
            let apart = rand::random_range(0..=1_u64 << number.min(5));
            sleep(Duration::from_millis(apart)).await;
        }
        Err(Error::new(ErrorKind::Registry, format!("others kept changing {key}")))
    }

    fn update_soon(self: Arc<Self>, key: &str, step: Step) {
        let key = key.to_owned();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { self.update(&key, step).await });
        }
    }

    async fn tool_note(&self, key: &str) -> Option<String> {
        let mut connection = self.connection().await.ok().filter(|_| self.has_existing_tool)?;
        timeout(self.timeout, connection.get(key)).await.ok()?.ok()?
    }

    async fn leave_tool_note(&self, key: &str, note: &str, life: Duration) {
        let connection = self.connection().await.ok().filter(|_| self.has_existing_tool);
        if let Some(mut connection) = connection {
            let _ = timeout(self.timeout, connection.set(key, note, life)).await;
        }
    }

    fn paused_for(&self, key: &str) -> Option<Duration> {
        let until = locked(&self.shared.pauses).get(key).copied();
        Some(until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now())))
    }

    async fn pace(&self, key: &str, rates: &Rates, step: &PaceStep) -> Result<PaceAnswer> {
        let is_new = self.shared.is_new();
        let ask = || {
            let known = locked(&self.epochs).get(key).copied().filter(|epoch| epoch.contact.elapsed() < REMEMBERED);
            let mut question = question(rates, step, known);
            if is_new {
                question["is_new"] = true.into();
            }
            question
        };
        let mut answer = self.ask_pace(key, &ask()).await?;
        if answer.7 == STEPPED {
            let mut question = ask();
            question["confirmed"] = true.into();
            answer = self.ask_pace(key, &question).await?;
        }
        let (wait, is_reserved, number, now, used, share, paused, made_of_it) = answer;
        let (wait, now) = (Duration::from_micros(wait), Timestamp(now));
        self.shared.set_clock(now);
        locked(&self.epochs).insert(key.to_owned(), Epoch::new(number, now));
        if let PaceStep::Pause(wait) = step {
            self.tell_pause(key, *wait).await;
        }
        if made_of_it == NOT_WHOLE && !is_new {
            return Err(Error::new(ErrorKind::Registry, "what was granted lately is not known")
                .with_hint("calls go on with this process' part of the limit"));
        }
        let is_granted = is_reserved || !matches!(step, PaceStep::Reserve { .. });
        Ok(PaceAnswer {
            wait: if is_granted { Ok(wait) } else { Err(wait) },
            health: PaceHealth { used, share, paused_for: Duration::from_micros(paused) },
            epoch: number,
        })
    }
}

/// What `pace.lua` is asked.
fn question(rates: &Rates, step: &PaceStep, epoch: Option<Epoch>) -> Value {
    let window = rates.window();
    let rate = |rate: Rate| {
        let mut limit = json!({"requests": rate.count(), "window": micros(rate.span())});
        // Absent, not null: Lua takes null for true.
        if let Some(spacing) = rate.spacing() {
            limit["spacing"] = micros(spacing).into();
        }
        limit
    };
    let mut question = json!({"span": micros(rates.span()), "window": micros(window), "tolerance": micros(CLOCK_STEP)});
    let mut set = |name: &str, value: Value| question[name] = value;
    for (name, limit) in [("requests", rates.requests), ("uploads", rates.uploads)] {
        if let Some(limit) = limit {
            set(name, rate(limit));
        }
    }
    if let Some(bytes) = rates.upload_bytes {
        set("bytes_per_second", bytes.into());
    }
    if let Some(epoch) = epoch {
        set("epoch", epoch.number.into());
        if let Some(expected) = epoch.expected().filter(|_| epoch.contact.elapsed() < window) {
            set("expected", expected.0.into());
        }
    }
    match step {
        PaceStep::Look => set("op", "look".into()),
        PaceStep::Reserve { ask, id, .. } | PaceStep::Release { ask, id } => {
            set("op", "release".into());
            set("kind", Turn::of(*ask).bits().into());
            set("bytes", ask.bytes.into());
            set("id", id.to_string().into());
            if let PaceStep::Reserve { patience, .. } = step {
                set("op", "reserve".into());
                set("patience", micros(*patience).into());
            }
        }
        PaceStep::Pause(wait) => {
            set("op", "pause".into());
            set("wait", micros(*wait).into());
        }
        PaceStep::Throttled => set("op", "throttled".into()),
        PaceStep::Recall(grants) => {
            let grant = |grant: &crate::resilience::pace::Grant| json!({"age": micros(grant.age), "kind": grant.turn.bits(), "bytes": grant.bytes, "id": grant.id.to_string()});
            set("op", "recall".into());
            set("grants", grants.iter().map(grant).collect());
        }
    }
    question
}

/// Says once a second that this process is there; connects again when that fails. Ends with the last user.
async fn keep(shared: Weak<Shared>, mut servers: Servers, namespace: String) {
    loop {
        let connection = match shared.upgrade().map(|shared| shared.connection.borrow().clone()) {
            None => return,
            Some(Link::Up(connection)) => Some(connection),
            Some(Link::Untried | Link::Lost) => servers.connect().await.ok(),
        };
        let Some(shared) = shared.upgrade() else { return };
        let outcome = match connection {
            Some(mut connection) => {
                let script = attendance(&namespace, shared.process);
                let answer = timeout(FIRST_CONTACT, connection.run::<Attendance>(&script)).await;
                answer.ok().and_then(|answer| answer.ok()).map(|answer| (connection, answer))
            }
            None => None,
        };
        match outcome {
            Some((connection, answer)) => {
                shared.attended(answer);
                shared.find(connection);
            }
            None => shared.lose(),
        }
        drop(shared);
        sleep(ATTENDS_EVERY).await;
    }
}

/// What `attend.lua` gives.
type Attendance = (u32, i64, Vec<(String, i64)>);

fn attendance(namespace: &str, process: u64) -> ScriptInvocation<'static> {
    let mut script = ATTEND.prepare_invoke();
    script.key(format!("{namespace}:{{all}}:processes")).key(format!("{namespace}:{{all}}:pauses")).arg(process);
    script.arg(u64::try_from(ATTENDANCE.as_millis()).unwrap_or(u64::MAX));
    script
}

impl Shared {
    fn find(&self, connection: Connection) {
        let is_news = self.connection.send_if_modified(|link| {
            let is_news = !matches!(link, Link::Up(_));
            if is_news {
                *link = Link::Up(connection);
            }
            is_news
        });
        if is_news {
            tracing::info!("breakers and limits are shared through Redis");
        }
    }

    fn lose(&self) {
        let is_news = self.connection.send_if_modified(|link| {
            let is_news = !matches!(link, Link::Lost);
            *link = Link::Lost;
            is_news
        });
        if is_news {
            metrics().state_lost.inc();
            tracing::warn!("Redis is lost: breakers and limits are this process' own until it is back");
        }
    }

    fn attended(&self, (processes, now, pauses): Attendance) {
        self.attends_since.get_or_init(Instant::now);
        let mut counts = locked(&self.processes);
        // Whoever was away finds the others coming back one by one: as many as before, until they have had the time.
        if counts.back().is_some_and(|(at, _)| at.elapsed() > ATTENDS_EVERY * 2) {
            let before = counts.drain(..).map(|(_, count)| count).max().unwrap_or(1);
            counts.push_back((Instant::now(), before));
        }
        counts.push_back((Instant::now(), processes));
        while counts.front().is_some_and(|(at, _)| at.elapsed() > ATTENDANCE) {
            counts.pop_front();
        }
        drop(counts);
        self.set_clock(Timestamp(now));
        let until = |at: i64| Instant::now() + Timestamp(at.saturating_mul(1_000)).since(Timestamp(now));
        *locked(&self.pauses) = pauses.into_iter().map(|(key, at)| (key, until(at))).collect();
    }

    /// Whether it has not been here for long enough to know how many others there are.
    fn is_new(&self) -> bool {
        self.attends_since.get().is_none_or(|since| since.elapsed() < ATTENDANCE)
    }

    fn set_clock(&self, now: Timestamp) {
        *locked(&self.clock) = Some((now, Instant::now()));
    }

    /// The server's, as far as it is known.
    fn now(&self) -> Timestamp {
        locked(&self.clock).map_or_else(|| SystemClock.now(), |(then, at)| then.plus(at.elapsed()))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lost() -> Error {
    Error::new(ErrorKind::Registry, "Redis cannot be reached").with_hint("calls go on with what this process knows")
}

#[cfg(test)]
mod tests;
