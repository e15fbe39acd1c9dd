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
mod tests {
    //! The scripts' own text, in a Lua of its own with a Redis of a few tables and a clock that we set.

    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;
    use std::rc::Rc;

    use mlua::{Function, Lua, LuaSerdeExt as _, MultiValue, Table, Value as LuaValue};
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;
    use crate::model::Operation;
    use crate::resilience::pace::{Ask, Lane, Pace};

    #[derive(Default)]
    struct Server {
        now: Cell<i64>,
        strings: RefCell<BTreeMap<String, String>>,
        hashes: RefCell<BTreeMap<String, BTreeMap<String, String>>>,
        sets: RefCell<BTreeMap<String, BTreeMap<String, i64>>>,
    }

    impl Server {
        fn call(&self, lua: &Lua, command: &[String]) -> mlua::Result<LuaValue> {
            let word = |index: usize| command[index].clone();
            let mut sets = self.sets.borrow_mut();
            let mut hashes = self.hashes.borrow_mut();
            match command[0].as_str() {
                "TIME" => {
                    let now = self.now.get();
                    return lua.to_value(&[(now / 1_000_000).to_string(), (now % 1_000_000).to_string()]);
                }
                "GET" => return lua.to_value(&self.strings.borrow().get(&word(1)).cloned()).map(nil_is_false),
                "SET" => drop(self.strings.borrow_mut().insert(word(1), word(2))),
                "HGETALL" => {
                    let flat = hashes.entry(word(1)).or_default().iter().flat_map(|(k, v)| [k.clone(), v.clone()]);
                    return lua.to_value(&flat.collect::<Vec<_>>());
                }
                "HSET" => drop(hashes.entry(word(1)).or_default().insert(word(2), word(3))),
                "HDEL" => command[2..].iter().for_each(|field| {
                    hashes.entry(word(1)).or_default().remove(field);
                }),
                "ZREM" => {
                    let removed = sets.entry(word(1)).or_default().remove(&word(2));
                    return Ok(LuaValue::Integer(removed.is_some().into()));
                }
                "DEL" => drop(sets.remove(&word(1))),
                "ZADD" => drop(sets.entry(word(1)).or_default().insert(word(3), word(2).parse().unwrap())),
                "ZREMRANGEBYSCORE" => {
                    let most: i64 = word(3).parse().unwrap();
                    sets.entry(word(1)).or_default().retain(|_, score| *score > most);
                }
                "ZRANGE" => {
                    let set = sets.entry(word(1)).or_default();
                    let most = word(3).parse().unwrap_or(i64::MAX);
                    let within = set.iter().filter(|(_, score)| **score <= most);
                    let mut members: Vec<_> = within.map(|(member, score)| (*score, member.clone())).collect();
                    members.sort();
                    let flat = members.into_iter().flat_map(|(score, member)| [member, score.to_string()]);
                    return lua.to_value(&flat.collect::<Vec<_>>());
                }
                "PEXPIRE" => {}
                other => panic!("the test's Redis has no {other}"),
            }
            Ok(LuaValue::Nil)
        }
    }

    /// As Redis does.
    fn nil_is_false(value: LuaValue) -> LuaValue {
        if value.is_nil() || value.is_null() { LuaValue::Boolean(false) } else { value }
    }

    fn script(lua: &Lua, server: &Rc<Server>, text: &str) -> Function {
        let server = server.clone();
        let call = lua.create_function(move |lua, words: MultiValue| {
            let words: Vec<String> = words.iter().map(|word| word.to_string().unwrap()).collect();
            server.call(lua, &words)
        });
        let decode =
            lua.create_function(|lua, text: String| lua.to_value(&serde_json::from_str::<Value>(&text).unwrap()));
        let (redis, cjson) = (lua.create_table().unwrap(), lua.create_table().unwrap());
        redis.set("call", call.unwrap()).unwrap();
        cjson.set("decode", decode.unwrap()).unwrap();
        lua.globals().set("redis", redis).unwrap();
        lua.globals().set("cjson", cjson).unwrap();
        lua.load(text).into_function().unwrap()
    }

    fn run(lua: &Lua, function: &Function, keys: &[&str], arguments: &[&str]) -> Vec<String> {
        lua.globals().set("KEYS", keys).unwrap();
        lua.globals().set("ARGV", arguments).unwrap();
        let answer: Table = function.call(()).unwrap();
        answer.sequence_values::<LuaValue>().map(|value| value.unwrap().to_string().unwrap()).collect()
    }

    fn random_rates(random: &mut StdRng) -> Rates {
        let mut rate = |most| Rate { requests: random.random_range(1..most), window: Duration::from_secs(2) };
        let (requests, uploads) = (rate(12), rate(5));
        Rates {
            requests: random.random_bool(0.8).then_some(requests),
            uploads: random.random_bool(0.5).then_some(uploads),
            upload_bytes: random.random_bool(0.5).then(|| random.random_range(1..5_000)),
        }
    }

    /// `asked` are the turns that were asked for lately.
    fn random_step(random: &mut StdRng, asked: &[(Ask, u64)]) -> PaceStep {
        let operation = if random.random_bool(0.5) { Operation::Upload } else { Operation::List };
        let lane = if random.random_bool(0.3) { Lane::Bulk } else { Lane::Interactive };
        let ask = Ask { operation, lane, bytes: random.random_range(0..3_000) };
        match random.random_range(0..100) {
            0..2 => PaceStep::Look,
            2..4 => PaceStep::Throttled,
            4..6 => PaceStep::Pause(Duration::from_millis(random.random_range(0..1_000))),
            6..20 if !asked.is_empty() => {
                let (ask, id) = asked[asked.len() - 1 - random.random_range(0..asked.len().min(5))];
                match random.random_bool(0.5) {
                    true => PaceStep::Release { ask, id },
                    false => PaceStep::Reserve { ask, patience: Duration::from_secs(3), id },
                }
            }
            _ => PaceStep::Reserve {
                ask,
                patience: Duration::from_millis(random.random_range(0..6_000)),
                id: random.random(),
            },
        }
    }

    #[test]
    fn the_script_takes_the_same_steps() {
        let seed = std::env::var("EXAI_FILES_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
        println!("seed {seed} (EXAI_FILES_SEED)");
        let mut random = StdRng::seed_from_u64(seed);
        for round in 0..60 {
            let (lua, server, rates) = (Lua::new(), Rc::new(Server::default()), random_rates(&mut random));
            let function = script(&lua, &server, include_str!("pace.lua"));
            let (mut pace, mut asked) = (Pace::default(), Vec::new());
            server.now.set(1_800_000_000_000_000);
            for number in 0..500 {
                server.now.set(server.now.get() + random.random_range(1..400_000));
                let step = random_step(&mut random, &asked);
                if let PaceStep::Reserve { ask, id, .. } = step {
                    asked.push((ask, id));
                }
                let expected = pace.step(&rates, Timestamp(server.now.get()), &step);
                let question = question(&rates, &step, None).to_string();
                let told = run(&lua, &function, &["log", "facts"], &[&question]);
                let wait = Duration::from_micros(told[0].parse().unwrap());
                let is_granted = told[1] == "1" || !matches!(step, PaceStep::Reserve { .. });
                let answer = PaceAnswer {
                    wait: if is_granted { Ok(wait) } else { Err(wait) },
                    health: PaceHealth {
                        used: told[4].parse().unwrap(),
                        share: told[5].parse().unwrap(),
                        paused_for: Duration::from_micros(told[6].parse().unwrap()),
                    },
                    epoch: 0,
                };
                assert_eq!(answer, expected, "round {round}, step {number}: {step:?} with {rates:?}");
            }
        }
    }

    #[test]
    fn a_lost_or_stepped_log_is_whole_again_after_a_window() {
        let (lua, server) = (Lua::new(), Rc::new(Server::default()));
        let function = script(&lua, &server, include_str!("pace.lua"));
        let rates = Rates { requests: Some(Rate { requests: 5, window: Duration::from_secs(2) }), ..Rates::NONE };
        let ask = |epoch: Option<(i64, i64)>| {
            let id = rand::random();
            let step = PaceStep::Reserve { ask: Operation::List.into(), patience: Duration::from_secs(60), id };
            let known = epoch.map(|(number, now)| Epoch::new(number, Timestamp(now)));
            let mut question = question(&rates, &step, known);
            if epoch.is_none() {
                question["is_new"] = true.into();
            }
            let mut told = run(&lua, &function, &["log", "facts"], &[&question.to_string()]);
            if told[7] == STEPPED.to_string() {
                question["confirmed"] = true.into();
                told = run(&lua, &function, &["log", "facts"], &[&question.to_string()]);
            }
            let wait = (told[1] == "1").then(|| told[0].parse::<u64>().unwrap());
            (wait, told[2].parse::<i64>().unwrap(), told[7].parse::<u8>().unwrap())
        };
        let start = 1_800_000_000_000_000;
        server.now.set(start);
        let (wait, epoch, made_of_it) = ask(None);
        assert_eq!((wait, made_of_it), (Some(0), 0));
        server.sets.borrow_mut().clear();
        server.hashes.borrow_mut().clear();
        server.now.set(start + 1_000);
        let (wait, next, made_of_it) = ask(Some((epoch, start)));
        assert_eq!((wait, next, made_of_it), (None, start + 1_000, NOT_WHOLE), "what was granted is not known");
        assert_eq!(ask(None).0, Some(2_050_000), "newcomers wait");
        for step in [3_600_000_000, -3_600_000_000] {
            let (_, epoch, _) = ask(None);
            let before = server.now.get();
            server.now.set(before + step);
            let (wait, next, made_of_it) = ask(Some((epoch, before)));
            assert_eq!((wait, next, made_of_it), (None, before + step, NOT_WHOLE), "after a step of the clock");
            server.now.set(server.now.get() + 10_000_000);
            assert_eq!(ask(Some((next, server.now.get()))).0, Some(0), "and then all is well");
        }
    }

    /// Clients in every order of their questions: no change is lost, and none is made twice.
    #[test]
    fn changes_by_swapping_are_never_lost() {
        let mut random = StdRng::seed_from_u64(11);
        let (lua, server) = (Lua::new(), Rc::new(Server::default()));
        let function = script(&lua, &server, include_str!("swap.lua"));
        let (mut seen, mut done) = (vec![String::new(); 8], [0; 8]);
        while done.iter().any(|done| *done < 200) {
            let client = random.random_range(0..8);
            if done[client] == 200 {
                continue;
            }
            let next = seen[client].parse::<u64>().unwrap_or(0) + 1;
            let told = run(&lua, &function, &["piece"], &[&seen[client], &next.to_string(), "1000"]);
            done[client] += i32::from(told[0] == "1");
            seen[client] = if told[0] == "1" { next.to_string() } else { told[2].clone() };
        }
        assert_eq!(server.strings.borrow()["piece"], "1600");
    }
}
