//! One suite for every place that state may be kept in; and what becomes of calls when Redis is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use exai_files::clock::{Clock as _, SystemClock};
use exai_files::error::ErrorKind;
use exai_files::model::{AccountId, Operation, Origin, PlatformId, Secret};
use exai_files::resilience::{
    Ask, Breaker, BreakerSettings, BreakerState, Database, Memory, Mode, Outcome, PaceStep, Rate, RateLimiter, Rates,
    Redis, RedisOptions, Resilience, ResilienceOptions, RetryPolicy, SharedState, StateBackend, Step, Window,
};
use exai_files::store::{Location, Store};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::databases::{POOLED, new_database, open};
use crate::redis_server::{RedisServer, backend, cli, free_port, patient_backend};
use crate::world::{World, request, upload};

/// Two processes on the same state.
type Pair = [Arc<dyn StateBackend>; 2];

fn memory() -> Pair {
    let one: Arc<dyn StateBackend> = Arc::new(Memory::new(Arc::new(SystemClock)));
    [one.clone(), one]
}

fn sqlite(directory: &tempfile::TempDir) -> Pair {
    let open = || {
        let store = Store::open(&Location::file(directory.path().join("r.db")), SystemClock.now()).unwrap();
        Arc::new(Database::new(store, Arc::new(SystemClock))) as Arc<dyn StateBackend>
    };
    [open(), open()]
}

fn postgresql() -> Pair {
    let location = Location::Postgres(new_database(POOLED));
    let one = || Arc::new(Database::new(open(&location), Arc::new(SystemClock))) as Arc<dyn StateBackend>;
    [one(), one()]
}

fn redis(url: &str) -> Pair {
    let open = || Arc::new(patient_backend(url, Duration::from_secs(10)));
    [open(), open()]
}

fn adds_one() -> Step {
    Box::new(|before, _| Some((before.map_or(0, |text| text.parse::<u64>().unwrap()) + 1).to_string()))
}

fn reserve(patience: Duration) -> PaceStep {
    PaceStep::Reserve { ask: Operation::List.into(), patience, id: rand::random() }
}

async fn conforms(pair: Pair) {
    let [one, other] = &pair;
    pieces_are_kept(one, other).await;
    no_change_is_lost(&pair).await;
    a_window_holds_no_more_than_its_limit(&pair).await;
    let shared = pair.clone().map(SharedState::from);
    tokio::join!(
        cancelled_waiters_give_their_turns_back(&shared),
        a_pause_holds_up_those_who_have_their_turn(&shared),
        rooms_are_those_of_all_processes(&shared),
    );
    let rates = Rates { requests: Some(Rate::per_minute(10)), ..Rates::default() };
    one.pace("pauses", &rates, &PaceStep::Pause(Duration::from_secs(9))).await.unwrap();
    one.pace("pauses", &rates, &PaceStep::Throttled).await.unwrap();
    let seen = other.pace("pauses", &rates, &PaceStep::Look).await.unwrap();
    assert_eq!(seen.health.share, 700);
    assert!((8.0..=9.0).contains(&seen.health.paused_for.as_secs_f64()), "{seen:?}");
    let hopeless = other.pace("pauses", &rates, &reserve(Duration::from_secs(1))).await.unwrap();
    assert!(hopeless.wait.is_err_and(|wait| wait > Duration::from_secs(8)), "{hopeless:?}");
}

async fn pieces_are_kept(one: &Arc<dyn StateBackend>, other: &Arc<dyn StateBackend>) {
    assert_eq!(one.read("piece").await.unwrap(), None);
    one.update("piece", Box::new(|before, _| before.is_none().then(|| "kept".to_owned()))).await.unwrap();
    assert_eq!(other.read("piece").await.unwrap().as_deref(), Some("kept"));
    other.update("piece", Box::new(|_, _| None)).await.unwrap();
    assert_eq!(one.read("piece").await.unwrap().as_deref(), Some("kept"));
    assert!(one.now().since(other.now()) < Duration::from_secs(1), "one clock for all");
    one.clone().update_soon("soon", adds_one());
    let begun = Instant::now();
    while other.read("soon").await.unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

async fn no_change_is_lost(pair: &Pair) {
    let mut changes = JoinSet::new();
    for number in 0..8 {
        let backend = pair[number % 2].clone();
        changes.spawn(async move {
            for _ in 0..25 {
                while backend.update("count", adds_one()).await.is_err() {}
            }
        });
    }
    changes.join_all().await;
    assert_eq!(pair[0].read("count").await.unwrap().as_deref(), Some("200"));
}

async fn a_window_holds_no_more_than_its_limit(pair: &Pair) {
    let rates = Rates { requests: Some(Rate { requests: 20, window: Duration::from_secs(1) }), ..Rates::default() };
    let (mut turns, begun) = (JoinSet::new(), Instant::now());
    for number in 0..60 {
        let backend = pair[number % 2].clone();
        turns.spawn(async move {
            let asked = begun.elapsed();
            let answer = backend.pace("turns", &rates, &reserve(Duration::from_secs(60))).await.unwrap();
            // Between its earliest and its latest, which lie apart by as long as the answer took.
            let wait = answer.wait.unwrap();
            (asked + wait, begun.elapsed() + wait)
        });
    }
    let mut turns = turns.join_all().await;
    turns.sort();
    for window in turns.windows(21) {
        assert!(window[20].1.saturating_sub(window[0].0) >= Duration::from_secs(1), "{window:?}");
    }
    assert!(turns[59].0.saturating_sub(turns[0].1) < Duration::from_millis(3_400), "and no less than it could");
}

async fn cancelled_waiters_give_their_turns_back(shared: &[SharedState; 2]) {
    let rates = Rates { requests: Some(Rate::per_minute(2)), ..Rates::default() };
    let [one, other] = shared.clone().map(|shared| RateLimiter::new("cancelled".to_owned(), rates, shared));
    let (ask, hour) = (Ask::from(Operation::List), Duration::from_secs(3_600));
    for limiter in [&one, &other] {
        assert_eq!(limiter.turn(ask, hour).await, Ok(Duration::ZERO));
    }
    let mut waiting = JoinSet::new();
    for number in 0..20 {
        let limiter = [&one, &other][number % 2].clone();
        waiting.spawn(async move { limiter.turn(ask, hour).await });
    }
    let becomes = async |used| {
        let becoming = async {
            while one.health().await.used != used {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), becoming).await.unwrap_or_else(|_| panic!("never {used}"));
    };
    becomes(22).await;
    waiting.shutdown().await;
    becomes(2).await;
    let next = other.turn(ask, Duration::from_secs(1)).await.unwrap_err();
    assert!(next < Duration::from_secs(61), "the next turn is the first, not the twentieth: {next:?}");
}

async fn a_pause_holds_up_those_who_have_their_turn(shared: &[SharedState; 2]) {
    let requests = Some(Rate { requests: 1, window: Duration::from_secs(2) });
    let rates = Rates { requests, ..Rates::default() };
    let [one, other] = shared.clone().map(|shared| RateLimiter::new("paused".to_owned(), rates, shared));
    let (ask, hour, begun) = (Ask::from(Operation::List), Duration::from_secs(3_600), Instant::now());
    one.turn(ask, hour).await.unwrap();
    let waiting = tokio::spawn(async move { one.turn(ask, hour).await.map(|_| Instant::now()) });
    other.throttled(Some(Duration::from_secs(3))).await;
    let went = waiting.await.unwrap().unwrap().duration_since(begun);
    // The pause is by the machine's clock, which may be set right meanwhile by some milliseconds; this is not.
    assert!(went >= Duration::from_millis(2_900), "it went after {went:?}, while everyone was paused");
}

async fn rooms_are_those_of_all_processes(shared: &[SharedState; 2]) {
    let options = ResilienceOptions {
        retry: RetryPolicy::default(),
        rates: Rates::default(),
        concurrency: 8,
        account_concurrency: Some(2),
        breaker: BreakerSettings::DEFAULT,
    };
    let (platform, account) = (PlatformId::new("moonshot").unwrap(), AccountId::new("default"));
    let processes = shared.clone().map(|shared| Arc::new(Resilience::new(&platform, &account, &options, &shared)));
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut calls = JoinSet::new();
    for number in 0..12 {
        let (process, inside, most) = (processes[number % 2].clone(), inside.clone(), most.clone());
        calls.spawn(async move {
            let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
            let permit = process.admit(Operation::List, deadline).await.unwrap();
            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            inside.fetch_sub(1, Ordering::SeqCst);
            drop(permit);
        });
    }
    while let Some(done) = calls.join_next().await {
        done.unwrap();
    }
    assert!(most.load(Ordering::SeqCst) <= 2, "{} at once", most.load(Ordering::SeqCst));
}

#[tokio::test]
async fn memory_conforms() {
    conforms(memory()).await;
}

#[tokio::test]
async fn sqlite_conforms() {
    conforms(sqlite(&tempfile::tempdir().unwrap())).await;
}

#[tokio::test]
async fn postgresql_conforms() {
    conforms(postgresql()).await;
}

#[tokio::test]
async fn redis_conforms() {
    let server = RedisServer::start();
    conforms(redis(&server.url())).await;
    let keys = server.cli(&["keys", "*"]);
    assert!(keys.lines().all(|key| key.starts_with("test:")), "{keys}");
}

#[tokio::test]
async fn redis_with_a_password_conforms() {
    let server = RedisServer::with(&["--requirepass", "s3cret"]);
    conforms(redis(&format!("redis://:s3cret@127.0.0.1:{}", server.port))).await;
    let without = server.backend();
    assert!(without.read("piece").await.is_err());
}

#[tokio::test]
async fn redis_that_forgot_the_scripts_conforms() {
    let server = RedisServer::start();
    let [one, other] = redis(&server.url());
    pieces_are_kept(&one, &other).await;
    server.cli(&["script", "flush"]);
    a_window_holds_no_more_than_its_limit(&[one, other]).await;
}

#[tokio::test]
async fn a_cluster_conforms() {
    let bus = free_port().to_string();
    let server = RedisServer::with(&["--cluster-enabled", "yes", "--cluster-port", &bus]);
    let slots: Vec<String> = (0..16_384).map(|slot| slot.to_string()).collect();
    for some in slots.chunks(4_096) {
        let words: Vec<&str> = ["cluster", "addslots"].into_iter().chain(some.iter().map(String::as_str)).collect();
        server.cli(&words);
    }
    let begun = Instant::now();
    while !server.cli(&["cluster", "info"]).contains("cluster_state:ok") {
        assert!(begun.elapsed() < Duration::from_secs(20), "the cluster does not come up");
    }
    conforms(redis(&format!("redis+cluster://127.0.0.1:{}", server.port))).await;
}

#[tokio::test]
async fn a_sentinel_names_the_master_and_its_successor() {
    let mut master = RedisServer::start();
    let replica = RedisServer::with(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let directory = tempfile::tempdir().unwrap();
    let settings = directory.path().join("sentinel.conf");
    let watched = format!(
        "sentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n",
        master.port
    );
    std::fs::write(&settings, watched).unwrap();
    let sentinel = RedisServer::sentinel(&settings);
    let begun = Instant::now();
    while !cli(sentinel.port, &["sentinel", "replicas", "main"]).contains(&replica.port.to_string()) {
        assert!(begun.elapsed() < Duration::from_secs(20), "the sentinel does not see the replica");
    }
    let url = format!("redis+sentinel://127.0.0.1:{}/main", sentinel.port);
    let [one, other] = redis(&url);
    pieces_are_kept(&one, &other).await;
    master.kill();
    let begun = Instant::now();
    while one.update("after", adds_one()).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody follows the master");
        tokio::task::yield_now().await;
    }
    assert_eq!(replica.cli(&["exists", "test:{after}"]).trim(), "1");
}

#[tokio::test]
async fn a_redis_url_with_a_fault_is_refused_without_its_password() {
    for url in [
        "http://localhost",
        "redis",
        "redis://",
        "redis+sentinel://host:1",
        "redis+tower://host",
        "redis://a:1,b:2",
        "redis://:s3cret@:nonsense",
        "redis://host:notaport",
    ] {
        let options = RedisOptions {
            url: Secret::new(url),
            namespace: "test".to_owned(),
            ca_bundle: None,
            timeout: Duration::from_millis(50),
            existing_tool_keys: false,
        };
        let fault = Redis::new(&options).unwrap_err().to_string();
        assert!(!fault.contains("s3cret"), "{fault}");
        assert!(fault.contains("Redis URL"), "{fault}");
    }
}

// ===== managers on Redis =====

#[tokio::test]
async fn a_redis_that_dies_hangs_or_never_was_fails_no_call() {
    let (mut server, world) = (RedisServer::start(), World::new());
    let manager = world.manager_on(SharedState::new(server.backend()));
    let send_some = async || {
        for _ in 0..20 {
            let name = format!("{}.txt", rand::random::<u64>());
            upload(&manager, request(name.clone(), &name, &["moonshot"])).await.unwrap();
        }
    };
    send_some().await;
    server.signal("STOP");
    send_some().await;
    server.signal("CONT");
    server.kill();
    send_some().await;
    server.restart();
    send_some().await;
    assert_eq!(world.files("moonshot").len(), 80);
    let never = world.manager_on(SharedState::new(backend(&format!("redis://127.0.0.1:{}", free_port()))));
    upload(&never, request("hello", "a.txt", &["moonshot"])).await.unwrap();
}

#[tokio::test]
async fn what_an_operator_set_is_seen_by_others_on_redis_and_survives_its_loss() {
    let (mut server, world) = (RedisServer::start(), World::new());
    let [one, other] = [(); 2].map(|()| world.manager_on(SharedState::new(server.backend())));
    let moonshot = PlatformId::new("moonshot").unwrap();
    one.set_breaker(&moonshot, None, Mode::ForcedOpen).await.unwrap();
    let is_open = async || {
        let health = other.health().await;
        let moonshot = health.iter().find(|health| *health.platform == moonshot).unwrap();
        moonshot.health.breakers.iter().all(|each| each.breaker.state == BreakerState::ForcedOpen)
    };
    assert!(is_open().await);
    server.kill();
    assert!(is_open().await, "what was known last still holds");
    let unheard = one.reset_breaker(&moonshot, None).await.unwrap_err();
    assert_eq!(unheard.kind(), ErrorKind::Registry, "what an operator does is done for all or not at all");
    server.restart();
    let newcomer = world.manager_on(SharedState::new(server.backend()));
    let told = timeout(Duration::from_secs(20), async {
        loop {
            assert!(is_open().await, "and does not go with what Redis forgot");
            let health = newcomer.health().await;
            let of_moonshot = health.iter().find(|health| *health.platform == moonshot).unwrap();
            if of_moonshot.health.breakers.iter().all(|each| each.breaker.state == BreakerState::ForcedOpen) {
                break;
            }
        }
    });
    told.await.expect("one who knew it tells the empty Redis");
}

// ===== beside the existing tool =====

/// Opens at the second failure, for a minute.
const SETTINGS: BreakerSettings = BreakerSettings {
    window: Window::Calls(2),
    minimum_calls: 2,
    wait: Duration::from_secs(60),
    ..BreakerSettings::DEFAULT
};

fn beside_tool(server: &RedisServer) -> Redis {
    let options = RedisOptions {
        url: Secret::new(server.url()),
        namespace: "test".to_owned(),
        ca_bundle: None,
        timeout: Duration::from_secs(1),
        existing_tool_keys: true,
    };
    Redis::new(&options).unwrap()
}

fn tool_says(server: &RedisServer, key: &str) -> Value {
    serde_json::from_str(&server.cli(&["GET", key])).unwrap_or_default()
}

#[tokio::test]
async fn the_existing_tools_breaker_and_ours_follow_each_other() {
    let server = RedisServer::start();
    let breaker = |name: &str| {
        let shared = SharedState::new(beside_tool(&server));
        Arc::new(Breaker::new(name.to_owned(), SETTINGS, shared))
    };
    let (ours, uploads) = (breaker("search"), breaker("moonshot default upload"));
    for breaker in [&ours, &uploads] {
        for _ in 0..2 {
            breaker.permit().await.unwrap().settle(Outcome::Failure, Some("down")).await;
        }
        assert_eq!(breaker.health().await.state, BreakerState::Open);
    }
    for key in ["circuit_breaker:search", "circuit_breaker:provider_kimi"] {
        let told = tool_says(&server, key);
        assert_eq!((&told["state"], &told["timeout"]), (&json!("OPEN"), &json!(60.0)), "{key}: {told}");
        let fields =
            ["state", "failures", "successes", "last_failure_time", "last_state_change", "timeout", "half_open_calls"];
        assert_eq!(told.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>().len(), fields.len());
        assert!(fields.iter().all(|field| told.get(field).is_some()), "{told}");
    }
    // The tool closes one, as it would, and opens another that nobody here knew of.
    let now = SystemClock.now().unix_millis() as f64 / 1e3;
    let closed = json!({"state": "CLOSED", "failures": 0, "successes": 0, "last_failure_time": null,
                        "last_state_change": now + 0.1, "timeout": 60, "half_open_calls": 0});
    server.cli(&["SETEX", "circuit_breaker:search", "86400", &closed.to_string()]);
    let open = json!({"state": "OPEN", "failures": 5, "successes": 0, "last_failure_time": now,
                      "last_state_change": now, "timeout": 60, "half_open_calls": 0});
    server.cli(&["SETEX", "circuit_breaker:other", "86400", &open.to_string()]);
    let becomes = async |breaker: &Arc<Breaker>, state| {
        let becoming = async { while breaker.health().await.state != state {} };
        timeout(Duration::from_secs(20), becoming).await.unwrap_or_else(|_| panic!("never {state}"));
    };
    becomes(&ours, BreakerState::Closed).await;
    let other = breaker("other");
    becomes(&other, BreakerState::Open).await;
    assert!(other.permit().await.is_err());
    other.reset().await.unwrap();
    assert_eq!(tool_says(&server, "circuit_breaker:other")["state"], "CLOSED");
}

#[tokio::test]
async fn what_the_existing_tool_uploaded_is_not_sent_again_and_it_hears_of_ours() {
    let (server, world) = (RedisServer::start(), World::new());
    let plain = world.manager_on(SharedState::new(server.backend()));
    let record = upload(&plain, request("of the tool", "tool.txt", &["moonshot"])).await.unwrap();
    let (hex, id) = (record.digest.hex(), &record.replicas[0].remote_id);
    let said = |id: &str| {
        let row = json!({"id": "1", "filename": "tool.txt", "provider": "kimi", "provider_file_id": id});
        json!({"is_duplicate": true, "original_file": row, "cached_at": "2026-11-24T00:00:00"}).to_string()
    };
    let beside = || {
        let state = SharedState::new(beside_tool(&server));
        world.manager_on(state.clone()).beside_existing_tool(state)
    };
    server.cli(&["SETEX", &format!("dedup:{hex}"), "3600", &said(id)]);
    let adopted = upload(&beside(), request("of the tool", "mine.txt", &["moonshot"])).await.unwrap();
    assert_eq!((&adopted.replicas[0].remote_id, adopted.replicas[0].origin), (id, Origin::Adopted));
    assert_eq!(world.files("moonshot").len(), 1);
    let heard = tool_says(&server, &format!("dedup:{hex}"));
    assert_eq!((&heard["is_duplicate"], &heard["original_file"]["filename"]), (&json!(true), &json!("mine.txt")));
    // What it says is a hint: of a file that is gone, and of one that was never there, nothing comes.
    for (content, note) in
        [("gone", said("no-such-file")), ("no", r#"{"is_duplicate":false,"original_file":null}"#.into())]
    {
        let digest = upload(&plain, request(content, "new.txt", &["zai"])).await.unwrap().digest.hex();
        server.cli(&["SETEX", &format!("dedup:{digest}"), "3600", &note]);
        let sent = upload(&beside(), request(content, "new.txt", &["moonshot"])).await.unwrap();
        assert_eq!(sent.replicas[0].origin, Origin::Sent);
    }
}
