//! Processes killed at random moments under load: nothing is lost, doubled or forgotten. The simulator is the judge.
//!
//! A worker is this very program, started to run one test that does nothing otherwise.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use exai_files::manager::{Manager, Transfers, UploadRequest};
use exai_files::model::Digest;
use exai_files::store::{Location, Store};
use exai_files::upkeep::recover;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::databases::{self, POOLED, new_database};
use crate::world::{DEADLINE, World, manager_at, request, seed};

/// Tells the program that it is a worker: simulator, registry and seed, as JSON.
const WORKER: &str = "EXAI_TEST_WORKER";

const CONTENTS: u64 = 40;
const AT_ONCE: u64 = 8;

/// `EXAI_TEST_KILLS` for more.
fn kills(usual: u64) -> u64 {
    std::env::var("EXAI_TEST_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(usual)
}

#[tokio::test(flavor = "multi_thread")]
async fn worker() {
    let Ok(told) = std::env::var(WORKER) else { return };
    let told: Value = serde_json::from_str(&told).unwrap();
    let text = |name: &str| told[name].as_str().unwrap().to_owned();
    let location = match text("registry") {
        url if url.starts_with("postgres") => Location::Postgres(databases::options(&url)),
        path => Location::file(path),
    };
    let manager = Arc::new(manager_at(&text("moonshot"), &text("zai"), databases::open(&location)));
    let work = (0..AT_ONCE).map(|task| {
        let (manager, mut random) = (manager.clone(), StdRng::seed_from_u64(told["seed"].as_u64().unwrap() + task));
        tokio::spawn(async move {
            loop {
                one_call(&manager, &mut random).await;
            }
        })
    });
    let work: Vec<_> = work.collect();
    loop {
        let _ = recover(&manager, DEADLINE).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(work.iter().all(|task| !task.is_finished()));
    }
}

fn wanted(number: u64) -> UploadRequest {
    let platform = if number.is_multiple_of(2) { "moonshot" } else { "zai" };
    request(format!("content {number}"), &format!("{number}.txt"), &[platform])
}

/// What goes wrong goes wrong: all that counts is what is there in the end.
async fn one_call(manager: &Manager, random: &mut StdRng) {
    let number = random.random_range(0..CONTENTS);
    match random.random_range(0..4) {
        0 => drop(manager.delete(&format!("{number}.txt"), None, DEADLINE).await),
        _ => drop(manager.upload(wanted(number), &Transfers::default()).await),
    }
}

fn start_worker(world: &World, location: &Location, seed: u64) -> Child {
    let registry = match location {
        Location::Sqlite(path) => path.to_str().unwrap().to_owned(),
        Location::Postgres(options) => options.url.expose().to_owned(),
    };
    let urls = world.simulator.urls();
    let told = json!({"moonshot": urls.moonshot, "zai": urls.zai, "registry": registry, "seed": seed});
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["killed::worker", "--exact"]).env(WORKER, told.to_string());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

async fn survives(location: Location, kills: u64) {
    let world = World::with(json!({"moonshot": {"max_files": 100_000}, "zai": {"max_files": 100_000}}));
    for platform in ["moonshot", "zai"] {
        world.fault(platform, "upload", json!({"rate": 0.02}), json!({"kind": "lost_reply"}));
        world.fault(platform, "upload", json!({"rate": 0.2}), json!({"kind": "delay", "before_ms": 30}));
    }
    let store = databases::open(&location);
    let mut random = StdRng::seed_from_u64(seed());
    for number in 0..kills {
        let mut child = start_worker(&world, &location, number * AT_ONCE);
        tokio::time::sleep(Duration::from_millis(random.random_range(30..300))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let_leases_run_out(&store).await;
    }
    world.admin("DELETE", "/faults", Value::Null);
    let urls = world.simulator.urls();
    let manager = manager_at(&urls.moonshot, &urls.zai, databases::open(&location));
    while !manager.registry().recoveries().await.unwrap().is_empty() {
        recover(&manager, DEADLINE).await.unwrap();
        let_leases_run_out(&store).await;
    }
    assert!(recover(&manager, DEADLINE).await.unwrap().is_empty());
    judge(&world, &store, &manager).await;
}

/// Whoever held them is dead for certain. Deletes and attempts that were begun are old, too.
async fn let_leases_run_out(store: &Store) {
    let long_ago = if store.is_postgres() { "'epoch'" } else { "0" };
    for sql in [
        "UPDATE upload_intents SET lease_until = {} WHERE state = 'sending'",
        "UPDATE platform_file_registry SET updated_at = {} WHERE status = 'deleting'",
        "UPDATE recoveries SET next_try_at = {}",
    ] {
        let sql = sql.replace("{}", long_ago);
        store.write(move |session| session.execute(&sql, &[])).await.unwrap();
    }
}

async fn judge(world: &World, store: &Store, manager: &Manager) {
    let mut remote = BTreeMap::new();
    for (platform, stored) in [("moonshot", "kimi"), ("zai", "glm")] {
        for file in world.files(platform) {
            remote.insert(
                (stored.to_owned(), file["id"].as_str().unwrap().to_owned()),
                file["sha256"].as_str().unwrap().to_owned(),
            );
        }
    }
    let bound = "SELECT platform, platform_file_id, file_hash FROM platform_file_registry WHERE status = 'active'";
    let mut held = BTreeMap::new();
    for row in store.read(move |session| session.rows(bound, &[])).await.unwrap() {
        held.insert((row.get::<String>(0).unwrap(), row.get::<String>(1).unwrap()), row.get::<String>(2).unwrap());
    }
    assert_eq!(held, remote, "what is bound is there, with its bytes, and nothing else is");
    assert!(held.len() > 5, "there was some work: {}", held.len());
    let once: HashSet<_> = held.iter().map(|((platform, _), hash)| (platform, hash)).collect();
    assert_eq!(once.len(), held.len(), "each content once");
    let count =
        async |sql: &'static str| -> u64 { store.read(move |session| session.one(sql, &[])?.get(0)).await.unwrap() };
    assert_eq!(count("SELECT COUNT(*) FROM upload_intents WHERE state = 'sending'").await, 0);
    assert_eq!(count("SELECT COUNT(*) FROM recoveries").await, 0);
    let recovered = count("SELECT COUNT(*) FROM audit_log WHERE action = 'recover'").await;
    println!("{recovered} recovered, {} replicas made", count("SELECT COUNT(*) FROM platform_file_registry").await);
    assert!(recovered > 10, "something was cut short");
    let report = manager.registry().audit().verify(Vec::new(), Some(key())).await.unwrap();
    assert!(report.is_intact, "{report:?}");
    // Each replica came by one record and went by one.
    let came = count("SELECT COUNT(*) FROM audit_log WHERE action IN ('upload', 'renew', 'adopt') AND record LIKE '%\"decision\":\"done\"%'").await;
    assert_eq!(came, count("SELECT COUNT(*) FROM platform_file_registry").await);
    let went = count("SELECT COUNT(*) FROM audit_log WHERE action IN ('delete', 'lose', 'expire') AND record LIKE '%\"decision\":\"done\"%'").await;
    assert_eq!(went, count("SELECT COUNT(*) FROM platform_file_registry WHERE status = 'deleted'").await);
    if !store.is_postgres() {
        let whole = store
            .read(|session| session.one("SELECT integrity_check FROM pragma_integrity_check", &[])?.get::<String>(0));
        assert_eq!(whole.await.unwrap(), "ok");
    }
    for number in 0..CONTENTS {
        let digest = Digest(sha2::Sha256::digest(format!("content {number}")).into());
        let again = manager.upload(wanted(number), &Transfers::default()).await.unwrap();
        assert_eq!(again.digest, digest);
    }
    assert_eq!(world.files("moonshot").len() + world.files("zai").len(), CONTENTS as usize);
}

fn key() -> exai_files::audit::VerifyingKey {
    exai_files::audit::AuditKey::from_seed(&[1; 32]).unwrap().verifying()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_again_and_again_loses_doubles_and_forgets_nothing() {
    let directory = tempfile::tempdir().unwrap();
    survives(Location::file(directory.path().join("r.db")), kills(500)).await;
    assert!(only_the_registry(directory.path()), "no stray files");
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_one_on_postgresql() {
    survives(Location::Postgres(new_database(POOLED)), kills(100)).await;
}

fn only_the_registry(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().all(|entry| entry.unwrap().file_name().to_string_lossy().starts_with("r.db"))
}
