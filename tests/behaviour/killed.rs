//! Processes killed at random moments under load: nothing is lost, doubled or forgotten.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use exai_files::manager::{Manager, Transfers, UploadRequest};
use exai_files::model::Digest;
use exai_files::store::Location;
use exai_files::upkeep::recover;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::aftermath::{self, Told, count, judge, let_leases_run_out, recover_all};
use crate::databases::{self, POOLED, new_database};
use crate::world::{DEADLINE, World, manager_at, request, seed};

const CONTENTS: u64 = 40;
const AT_ONCE: u64 = 8;

/// `EXAI_TEST_KILLS` for more.
fn kills(usual: u64) -> u64 {
    std::env::var("EXAI_TEST_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(usual)
}

#[tokio::test(flavor = "multi_thread")]
async fn worker() {
    let Some(Told { moonshot, zai, location, more }) = aftermath::told() else { return };
    let manager = Arc::new(manager_at(&moonshot, &zai, databases::open(&location)));
    let work = (0..AT_ONCE).map(|task| {
        let (manager, mut random) = (manager.clone(), StdRng::seed_from_u64(more["seed"].as_u64().unwrap() + task));
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

async fn survives(location: Location, kills: u64) {
    let world = World::with(json!({"moonshot": {"max_files": 100_000}, "zai": {"max_files": 100_000}}));
    for platform in ["moonshot", "zai"] {
        world.fault(platform, "upload", json!({"rate": 0.02}), json!({"kind": "lost_reply"}));
        world.fault(platform, "upload", json!({"rate": 0.2}), json!({"kind": "delay", "before_ms": 30}));
    }
    let store = databases::open(&location);
    let mut random = StdRng::seed_from_u64(seed());
    for number in 0..kills {
        let more = json!({"seed": number * AT_ONCE});
        let mut child = aftermath::worker("killed::worker", &world, &location, more).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(random.random_range(30..300))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let_leases_run_out(&store).await;
    }
    world.admin("DELETE", "/faults", Value::Null);
    let manager = recover_all(&world, &store, &location).await;
    let held = judge(&world, &store, &manager).await;
    assert!(held.len() > 5, "there was some work: {}", held.len());
    let recovered = count(&store, "SELECT COUNT(*) FROM audit_log WHERE action = 'recover'").await;
    println!("{recovered} recovered");
    assert!(recovered > 10, "something was cut short");
    for number in 0..CONTENTS {
        let digest = Digest(sha2::Sha256::digest(format!("content {number}")).into());
        let again = manager.upload(wanted(number), &Transfers::default()).await.unwrap();
        assert_eq!(again.digest, digest);
    }
    assert_eq!(world.files("moonshot").len() + world.files("zai").len(), CONTENTS as usize);
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
