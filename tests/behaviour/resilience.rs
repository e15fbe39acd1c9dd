//! One platform's bad day stays its own: the breaker in front of a platform, shared by all that use the database.

use std::path::Path;
use std::time::{Duration, Instant};

use exai_files::error::ErrorKind;
use exai_files::model::{Operation, PlatformId};
use exai_files::resilience::{BreakerSettings, BreakerState, Mode, Window};
use serde_json::{Value, json};

use crate::world::{DEADLINE, World, request, upload};

/// Opens after two failures and tries again after a twentieth of a second.
const QUICK: BreakerSettings = BreakerSettings {
    window: Window::Calls(4),
    minimum_calls: 2,
    wait: Duration::from_millis(50),
    probes: 1,
    successes_to_close: 1,
    ..BreakerSettings::DEFAULT
};

fn world() -> World {
    World { breaker: QUICK, ..World::new() }
}

fn down(world: &World, operation: &str) {
    world.fault("moonshot", operation, json!("always"), json!({"kind": "status", "status": 503, "body": {}}));
}

fn moonshot() -> PlatformId {
    PlatformId::new("moonshot").unwrap()
}

#[tokio::test]
async fn a_platform_that_fails_is_left_in_peace_and_the_other_is_untouched() {
    let world = World { breaker: BreakerSettings { wait: Duration::from_secs(60), ..QUICK }, ..World::new() };
    let manager = world.manager(Path::new(":memory:"));
    upload(&manager, request("before", "b.txt", &["moonshot"])).await.unwrap();
    down(&world, "upload");
    let first = upload(&manager, request("hello", "a.txt", &["moonshot"])).await.unwrap_err();
    assert_eq!(first.kind(), ErrorKind::CircuitOpen, "{first:?}");
    assert!(first.attempts().len() >= 2, "it says what came before: {:?}", first.attempts());
    let (asked, begun) = (world.truth("upload").len(), Instant::now());
    for number in 0..20 {
        let refused = upload(&manager, request(format!("{number}"), "n.txt", &["moonshot"])).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::CircuitOpen);
        assert!(refused.retry_after().is_some_and(|wait| wait <= Duration::from_secs(60)));
        assert!(refused.to_string().contains("503"), "it says why: {refused}");
    }
    assert_eq!(world.truth("upload").len(), asked, "nothing was asked");
    assert!(begun.elapsed() < Duration::from_secs(5), "refusals are prompt: {:?}", begun.elapsed());
    upload(&manager, request("hello", "a.txt", &["zai"])).await.unwrap();
    manager.list_remote(&moonshot(), None, DEADLINE).await.unwrap();
    manager.delete("b.txt", None, DEADLINE).await.unwrap();
}

#[tokio::test]
async fn a_platform_that_asks_for_peace_has_it_from_everyone_for_so_long() {
    let world = world();
    let manager = world.manager(Path::new(":memory:"));
    let fault = json!({"kind": "status", "status": 503, "headers": {"retry-after": "90"}, "body": {}});
    world.fault("moonshot", "list", json!({"next": 1}), fault);
    assert_eq!(manager.list_remote(&moonshot(), None, DEADLINE).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let refused = manager.list_remote(&moonshot(), None, DEADLINE).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::CircuitOpen);
    assert!(refused.retry_after().is_some_and(|wait| wait > Duration::from_secs(80)), "{refused:?}");
    assert_eq!(world.truth("list").len(), 1);
    upload(&manager, request("hello", "a.txt", &["moonshot"])).await.unwrap();
}

#[tokio::test]
async fn a_platform_that_is_back_is_used_again() {
    let world = world();
    let manager = world.manager(Path::new(":memory:"));
    down(&world, "upload");
    upload(&manager, request("hello", "a.txt", &["moonshot"])).await.unwrap_err();
    world.admin("DELETE", "/faults", Value::Null);
    let begun = Instant::now();
    while let Err(error) = upload(&manager, request("hello", "a.txt", &["moonshot"])).await {
        assert_eq!(error.kind(), ErrorKind::CircuitOpen);
        assert!(begun.elapsed() < Duration::from_secs(5));
        tokio::task::yield_now().await;
    }
    let health = manager.health().await;
    let moonshot = health.iter().find(|health| *health.platform == moonshot()).unwrap();
    assert!(moonshot.health.breakers.iter().all(|each| each.breaker.state == BreakerState::Closed));
}

#[tokio::test]
async fn another_process_and_a_restart_know_it_too() {
    let world = World { breaker: BreakerSettings { wait: Duration::from_secs(60), ..QUICK }, ..World::new() };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("r.db");
    let other = world.manager(&path);
    upload(&other, request("before", "b.txt", &["moonshot"])).await.unwrap();
    down(&world, "upload");
    upload(&world.manager(&path), request("hello", "a.txt", &["moonshot"])).await.unwrap_err();
    let asked = world.truth("upload").len();
    for manager in [world.manager(&path), world.manager(&path)] {
        let refused = upload(&manager, request("new", "n.txt", &["moonshot"])).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::CircuitOpen);
    }
    let begun = Instant::now();
    while upload(&other, request("x", "x.txt", &["moonshot"])).await.unwrap_err().kind() != ErrorKind::CircuitOpen {
        assert!(begun.elapsed() < Duration::from_secs(2), "one that was running learns of it");
    }
    assert!(world.truth("upload").len() <= asked + 5);
}

#[tokio::test]
async fn what_says_nothing_of_the_platform_opens_nothing() {
    let world = world();
    let manager = world.manager(Path::new(":memory:"));
    for fault in [
        json!({"kind": "status", "status": 400, "body": {}}),
        json!({"kind": "status", "status": 401, "body": {}}),
        json!({"kind": "status", "status": 403, "body": {}}),
        json!({"kind": "status", "status": 404, "body": {}}),
        json!({"kind": "status", "status": 413, "body": {}}),
        json!({"kind": "error", "type": "exceeded_current_quota_error"}),
        json!({"kind": "rate_limited", "seconds": 0.001}),
    ] {
        world.admin("DELETE", "/faults", Value::Null);
        world.fault("moonshot", "upload", json!("always"), fault.clone());
        for _ in 0..3 {
            let error = upload(&manager, request("hello", "a.txt", &["moonshot"])).await.unwrap_err();
            assert_ne!(error.kind(), ErrorKind::CircuitOpen, "{fault}");
        }
    }
}

#[tokio::test]
async fn an_operator_opens_and_resets_it() {
    let world = world();
    let manager = world.manager(Path::new(":memory:"));
    manager.set_breaker(&moonshot(), Some(Operation::Upload), Mode::ForcedOpen).await.unwrap();
    let refused = upload(&manager, request("hello", "a.txt", &["moonshot"])).await.unwrap_err();
    assert_eq!((refused.kind(), refused.retry_after()), (ErrorKind::CircuitOpen, None));
    manager.reset_breaker(&moonshot(), None).await.unwrap();
    upload(&manager, request("hello", "a.txt", &["moonshot"])).await.unwrap();
    manager.set_breaker(&moonshot(), None, Mode::Disabled).await.unwrap();
    down(&world, "list");
    for _ in 0..5 {
        let error = manager.list_remote(&moonshot(), None, DEADLINE).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "a disabled one refuses nothing");
    }
}

#[tokio::test]
async fn a_cancelled_probe_gives_its_place_back() {
    let world = world();
    let manager = std::sync::Arc::new(world.manager(Path::new(":memory:")));
    down(&world, "list");
    manager.list_remote(&moonshot(), None, DEADLINE).await.unwrap_err();
    world.admin("DELETE", "/faults", Value::Null);
    world.fault("moonshot", "list", json!({"next": 1}), json!({"kind": "stall"}));
    let asked = world.truth("list").len();
    let probe = loop {
        let manager = manager.clone();
        let probe = tokio::spawn(async move { manager.list_remote(&moonshot(), None, DEADLINE).await });
        while world.truth("list").len() == asked && !probe.is_finished() {
            tokio::task::yield_now().await;
        }
        if !probe.is_finished() {
            break probe;
        }
    };
    probe.abort();
    let _ = probe.await;
    let begun = Instant::now();
    while manager.list_remote(&moonshot(), None, DEADLINE).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(5), "sooner than its lease");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_together_keep_the_pace_of_the_account() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("r.db");
    let (limit, each) = (20, 15);
    let mut calls = Vec::new();
    for _ in 0..4 {
        let manager = std::sync::Arc::new(world.paced_manager(limit, &path));
        for _ in 0..each {
            let manager = manager.clone();
            calls.push(tokio::spawn(async move { manager.list_remote(&moonshot(), None, DEADLINE).await.unwrap() }));
        }
    }
    for call in calls {
        call.await.unwrap();
    }
    let mut arrived: Vec<f64> = world.truth("list").iter().map(|entry| seconds(&entry["time"])).collect();
    arrived.sort_by(f64::total_cmp);
    assert_eq!(arrived.len(), 4 * each);
    for window in arrived.windows(limit as usize + 1) {
        let took = window[limit as usize] - window[0];
        // They leave in time; a busy machine may hold one up on its way.
        assert!(took >= 0.9, "{} requests within {took} s", limit + 1);
    }
    let in_all = arrived[arrived.len() - 1] - arrived[0];
    // The first window's go at once; those that wait go one by one.
    assert!(in_all < 10.0, "nobody waited for nothing: {in_all} s for three windows");
}

fn seconds(moment: &Value) -> f64 {
    let text = moment.as_str().unwrap();
    exai_files::clock::Timestamp::parse_rfc3339(text).unwrap().0 as f64 / 1e6
}
