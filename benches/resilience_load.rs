//! Load for breakers and limits: what many processes together send, and what an outage does to others.
//!
//! `resilience_load limit STATE PROCESSES REQUESTS WINDOW SECONDS` - so many processes list files as fast as one limit
//! lets them; the simulator's log says what arrived.
//! `resilience_load outage SECONDS` - one platform is gone under 50 callers; the other has 50 of its own.
//! `resilience_load loss STATE SECONDS` - calls well within their limit, each timed, one line of milliseconds a second.
//! `resilience_load admit` - one permit taken and reported, in memory.
//!
//! STATE is a Redis URL or a path. Each prints one JSON object.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use exai_files::clock::{Clock, SystemClock, Timestamp};
use exai_files::credentials::{ApiKey, KeySource};
use exai_files::manager::{Connection, Manager, ManagerOptions};
use exai_files::metrics::metrics;
use exai_files::model::{AccountId, PlatformId, Secret};
use exai_files::platform::{FilesApi, Profile, moonshot, zai};
use exai_files::registry::Registry;
use exai_files::resilience::{
    Breaker, BreakerSettings, Database, Memory, Outcome, Rate, Rates, Redis, RedisOptions, Resilience,
    ResilienceOptions, RetryPolicy, SharedState,
};
use exai_files::simulator::{Options, Simulator};
use exai_files::store::{Location, Store};
use exai_files::transport::{HttpClient, HttpOptions};
use serde_json::{Value, json};

type Outcomes<T> = Result<T, Box<dyn Error + Send + Sync>>;

const WITHIN: Duration = Duration::from_secs(120);

fn main() -> Outcomes<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let printed = match words.as_slice() {
        ["limit", state, processes, requests, window, seconds] => {
            limit(state, processes.parse()?, requests, window, seconds)?
        }
        ["limit-worker", url, state, requests, window, from, until] => {
            let rate = Rate { requests: requests.parse()?, window: Duration::from_secs_f64(window.parse()?) };
            runtime()?.block_on(limit_worker(url, state, rate, Timestamp(from.parse()?), Timestamp(until.parse()?)))?
        }
        ["outage", seconds] => runtime()?.block_on(outage(Duration::from_secs_f64(seconds.parse()?)))?,
        ["loss", state, seconds] => runtime()?.block_on(loss(state, seconds.parse()?))?,
        ["admit"] => admit(),
        _ => return Err("see the head of benches/resilience_load.rs".into()),
    };
    println!("{printed}");
    Ok(())
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

fn state(place: &str) -> Outcomes<SharedState> {
    if !place.contains("://") {
        return Ok(SharedState::new(Database::new(
            Store::open(&Location::file(place), SystemClock.now())?,
            Arc::new(SystemClock),
        )));
    }
    let timeout = Duration::from_millis(40);
    let options = RedisOptions {
        url: Secret::new(place),
        namespace: "load".into(),
        ca_bundle: None,
        timeout,
        existing_tool_keys: false,
    };
    Ok(SharedState::new(Redis::new(&options)?))
}

fn manager(urls: &[(&str, &str)], shared: &SharedState, rates: Rates, breaker: BreakerSettings) -> Outcomes<Manager> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = Store::open(&Location::file(":memory:"), clock.now())?;
    let options =
        ResilienceOptions { retry: RetryPolicy::default(), rates, concurrency: 50, account_concurrency: None, breaker };
    let mut connections = Vec::new();
    for (name, url) in urls {
        let (mut profile, key): (Profile, _) = match *name {
            "moonshot" => (moonshot("intl")?, "sk-load"),
            _ => (zai()?, "load.secret-of-load"),
        };
        (*url).clone_into(&mut profile.capabilities.base_url);
        let account = AccountId::new("default");
        let resilience = Arc::new(Resilience::new(&PlatformId::new(name)?, &account, &options, shared));
        let key = Arc::new(ApiKey::new(KeySource::given(Secret::new(key), "a test"))?);
        let http = HttpClient::new(&HttpOptions::default())?;
        connections.push(Connection {
            platform: Arc::new(FilesApi::new(profile, account, http, key, clock.clone(), resilience.clone())),
            resilience,
            purpose: None,
            when_full: None,
            commit_horizon: Duration::ZERO,
        });
    }
    Ok(Manager::new(Registry::new(store.clone(), store, clock.clone()), clock, ManagerOptions::default(), connections))
}

// ===== many processes under one limit =====

fn limit(place: &str, processes: usize, requests: &str, window: &str, seconds: &str) -> Outcomes<Value> {
    let simulator = Simulator::start(Options::default())?;
    // Time for all of them to start; then they begin together.
    let from = SystemClock.now().plus(Duration::from_secs(5));
    let until = from.plus(Duration::from_secs_f64(seconds.parse()?));
    let url = &simulator.urls().moonshot;
    let workers: Vec<_> = (0..processes)
        .map(|_| {
            Command::new(std::env::current_exe()?)
                .args(["limit-worker", url, place, requests, window, &from.0.to_string(), &until.0.to_string()])
                .stdout(Stdio::piped())
                .spawn()
        })
        .collect::<Result<_, _>>()?;
    let (mut counts, mut lost, mut failed) = (Vec::new(), 0, 0);
    for worker in workers {
        let told: Value = serde_json::from_slice(&worker.wait_with_output()?.stdout)?;
        counts.push(told["calls"].as_f64().unwrap_or_default());
        failed += told["failed"].as_u64().unwrap_or_default();
        lost += told["state_lost"].as_u64().unwrap_or_default();
    }
    let log = simulator.admin("GET", "/truth?operation=list", None)?;
    let moments =
        log.as_array().into_iter().flatten().filter_map(|entry| Timestamp::parse_rfc3339(entry["time"].as_str()?));
    let mut arrived: Vec<Timestamp> = moments.collect();
    arrived.sort();
    let (most, window) = (requests.parse::<usize>()?, Duration::from_secs_f64(window.parse()?));
    let worst =
        arrived.iter().map(|from| arrived.iter().filter(|at| *at >= from && **at < from.plus(window)).count()).max();
    let (Some(first), Some(last)) = (arrived.first(), arrived.last()) else { return Err("nothing arrived".into()) };
    let took = last.since(*first).as_secs_f64();
    // A window's worth may go at once; from then on it is the limit's pace that counts.
    let steady = arrived.iter().filter(|at| **at >= first.plus(window)).count() as f64;
    let possible = most as f64 * (took / window.as_secs_f64() - 1.0);
    let (sum, squares) = counts.iter().fold((0.0, 0.0), |(sum, squares), count| (sum + count, squares + count * count));
    Ok(json!({
        "processes": processes, "limit": most, "window": window.as_secs_f64(), "arrived": arrived.len(),
        "seconds": took, "most_in_a_window": worst, "failed": failed, "utilisation": steady / possible,
        "jain": sum * sum / (counts.len() as f64 * squares), "times_state_was_lost": lost,
    }))
}

async fn limit_worker(url: &str, place: &str, rate: Rate, from: Timestamp, until: Timestamp) -> Outcomes<Value> {
    let rates = Rates { requests: Some(rate), ..Rates::default() };
    let manager = manager(&[("moonshot", url)], &state(place)?, rates, BreakerSettings::DEFAULT)?;
    let (moonshot, mut calls, mut failed) = (PlatformId::new("moonshot")?, 0_u64, 0_u64);
    manager.health().await;
    tokio::time::sleep(from.since(SystemClock.now())).await;
    let lost_before = metrics().state_lost.get();
    while SystemClock.now() < until {
        let within = until.since(SystemClock.now()).max(Duration::from_millis(1));
        match manager.list_remote(&moonshot, None, within).await {
            Ok(_) => calls += 1,
            // Its turn would be after the end.
            Err(error) if error.kind() == exai_files::error::ErrorKind::RateLimited => break,
            Err(_) => failed += 1,
        }
    }
    Ok(json!({"calls": calls, "failed": failed, "state_lost": metrics().state_lost.get() - lost_before}))
}

// ===== one platform's outage =====

/// What callers of one platform did, second by second.
#[derive(Default)]
struct Tally {
    done: AtomicU64,
    tried: AtomicU64,
}

async fn outage(length: Duration) -> Outcomes<Value> {
    let simulator = Arc::new(Simulator::start(Options::default())?);
    let urls = simulator.urls();
    let shared = SharedState::new(Memory::new(Arc::new(SystemClock)));
    let manager = manager(
        &[("moonshot", &urls.moonshot), ("zai", &urls.zai)],
        &shared,
        Rates::default(),
        BreakerSettings::DEFAULT,
    )?;
    let manager = Arc::new(manager);
    let (dead, well) = (Arc::new(Tally::default()), Arc::new(std::sync::Mutex::new(Vec::<(Instant, Duration)>::new())));
    for _ in 0..50 {
        tokio::spawn(call_dead(manager.clone(), dead.clone()));
        tokio::spawn(call_well(manager.clone(), well.clone()));
    }
    let (before, down, after) = (Duration::from_secs(8), length, Duration::from_secs(12));
    let mut seconds = Vec::new();
    let begun = Instant::now();
    let asked = || async {
        let simulator = simulator.clone();
        let log = tokio::task::spawn_blocking(move || {
            simulator.admin("GET", "/truth?operation=list&platform=moonshot", None)
        });
        Outcomes::Ok(log.await??.as_array().map_or(0, Vec::len))
    };
    let (mut is_down, mut asked_before, mut tried_before) = (false, 0, 0);
    let (mut asked_down, mut tried_down) = (0, 0);
    let mut last = 0;
    while begun.elapsed() < before + down + after {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let done = dead.done.load(Ordering::Relaxed);
        seconds.push((begun.elapsed().as_secs_f64(), (done - last) * 2));
        last = done;
        let should = (before..before + down).contains(&begun.elapsed());
        if should != is_down {
            let (asked_now, tried_now) = (asked().await?, dead.tried.load(Ordering::Relaxed));
            match should {
                true => {
                    (asked_before, tried_before) = (asked_now, tried_now);
                    let fault = json!({"platform": "moonshot", "when": "always", "fault": {"kind": "status", "status": 503, "body": {}}});
                    simulator.admin("POST", "/faults", Some(fault))?;
                }
                false => {
                    (asked_down, tried_down) = (asked_now - asked_before, tried_now - tried_before);
                    simulator.admin("DELETE", "/faults", None)?;
                }
            }
            is_down = should;
        }
    }
    let rate = |from: f64, to: f64| {
        let rates: Vec<u64> = seconds.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, rate)| *rate).collect();
        rates.iter().sum::<u64>() as f64 / rates.len().max(1) as f64
    };
    let (start, end) = (before.as_secs_f64(), (before + down).as_secs_f64());
    let usual = rate(3.0, start);
    let back = seconds.iter().find(|(at, rate)| *at > end && *rate as f64 >= 0.95 * usual).map(|(at, _)| at - end);
    let timed = well.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    let p99 = |from: Duration, to: Duration| {
        let mut took: Vec<Duration> = timed
            .iter()
            .filter(|(at, _)| (from..to).contains(&at.duration_since(begun)))
            .map(|(_, took)| *took)
            .collect();
        took.sort();
        took.get(took.len() * 99 / 100).map_or(0.0, |took| took.as_secs_f64() * 1000.0)
    };
    Ok(json!({
        "outage_seconds": length.as_secs_f64(), "callers": 50,
        "requests_during": asked_down, "calls_during": tried_down,
        "requests_per_call": asked_down as f64 / tried_down.max(1) as f64,
        "usual_per_second": usual, "seconds_until_95_percent": back,
        "others_p99_before_ms": p99(Duration::from_secs(3), before), "others_p99_during_ms": p99(before, before + down),
    }))
}

/// As a worker would: when it is refused, it does something else for a moment.
async fn call_dead(manager: Arc<Manager>, tally: Arc<Tally>) {
    let moonshot = PlatformId::new("moonshot").unwrap_or_else(|_| unreachable!("a known name"));
    loop {
        tally.tried.fetch_add(1, Ordering::Relaxed);
        match manager.list_remote(&moonshot, None, Duration::from_secs(5)).await {
            Ok(_) => drop(tally.done.fetch_add(1, Ordering::Relaxed)),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn call_well(manager: Arc<Manager>, timed: Arc<std::sync::Mutex<Vec<(Instant, Duration)>>>) {
    let zai = PlatformId::new("zai").unwrap_or_else(|_| unreachable!("a known name"));
    loop {
        let begun = Instant::now();
        if manager.list_remote(&zai, None, WITHIN).await.is_ok() {
            timed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((begun, begun.elapsed()));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

// ===== Redis going away =====

async fn loss(place: &str, seconds: u64) -> Outcomes<Value> {
    let simulator = Simulator::start(Options::default())?;
    let rates = Rates { requests: Some(Rate { requests: 1_000, window: Duration::from_secs(2) }), ..Rates::default() };
    let manager =
        manager(&[("moonshot", &simulator.urls().moonshot)], &state(place)?, rates, BreakerSettings::DEFAULT)?;
    let moonshot = PlatformId::new("moonshot")?;
    let (begun, mut slowest, mut failed, mut calls) = (Instant::now(), BTreeMap::<u64, f64>::new(), 0_u64, 0_u64);
    while begun.elapsed() < Duration::from_secs(seconds) {
        let call = Instant::now();
        failed += u64::from(manager.list_remote(&moonshot, None, WITHIN).await.is_err());
        let took = call.elapsed().as_secs_f64() * 1000.0;
        let second = slowest.entry(begun.elapsed().as_secs()).or_default();
        *second = second.max(took);
        calls += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(json!({"calls": calls, "failed": failed, "slowest_ms_by_second": slowest.values().collect::<Vec<_>>()}))
}

// ===== one permit =====

fn admit() -> Value {
    const ROUNDS: u32 = 2_000_000;
    let shared = SharedState::new(Memory::new(Arc::new(SystemClock)));
    let breaker = Arc::new(Breaker::new("load".into(), BreakerSettings::DEFAULT, shared));
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        if let Some(Ok(permit)) = breaker.permit_at_hand() {
            let _ = permit.settle_at_hand(Outcome::Success, None);
        }
    }
    json!({"admit_and_record_ns": begun.elapsed().as_nanos() as f64 / f64::from(ROUNDS)})
}
