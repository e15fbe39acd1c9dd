//! What is cut short, late or answered by someone else: nothing is lost, doubled, or said to be what it is not.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use exai_files::content::Source;
use exai_files::error::ErrorKind;
use exai_files::manager::{EnsureRequest, ManagerOptions, Transfers, UploadRequest};
use exai_files::model::{Origin, PlatformId};
use exai_files::transport::Timeouts;
use serde_json::json;

use crate::world::{DEADLINE, World, request, upload};

fn memory() -> &'static Path {
    Path::new(":memory:")
}

fn platform(name: &str) -> PlatformId {
    PlatformId::new(name).unwrap()
}

#[tokio::test]
async fn the_horizon_begins_when_the_answer_is_given_up_not_when_the_bytes_left() {
    // The answer takes longer than anyone waits, and the file is listed only a little after that.
    let world = World::with(json!({"moonshot": {"list_delay_seconds": 0.23}}));
    world.fault("moonshot", "upload", json!({"next": 1}), json!({"kind": "delay", "before_ms": 10_000}));
    let impatient = Timeouts { answer: Duration::from_millis(200), ..Timeouts::default() };
    let manager = world.manager_with(memory(), ManagerOptions::default(), impatient);
    let record = upload(&manager, request("hello", "a.txt", &["moonshot"])).await.unwrap();
    assert_eq!((record.replicas[0].origin, world.files("moonshot").len()), (Origin::Adopted, 1));
}

#[tokio::test]
async fn a_listing_asked_for_before_the_horizon_is_not_the_last_look_however_late_it_answers() {
    let world = World::with(json!({"moonshot": {"list_delay_seconds": 0.03}}));
    world.fault("moonshot", "upload", json!({"next": 1}), json!({"kind": "lost_reply"}));
    world.fault("moonshot", "list", json!({"next": 1}), json!({"kind": "delay", "before_ms": 150}));
    let record = upload(&world.manager(memory()), request("hello", "a.txt", &["moonshot"])).await.unwrap();
    assert_eq!((record.replicas[0].origin, world.files("moonshot").len()), (Origin::Adopted, 1));
}

#[tokio::test]
async fn a_stored_file_whose_readiness_nobody_can_tell_is_not_sent_again() {
    let world = World::with(json!({"moonshot": {"processing_seconds": 60}}));
    world.fault("moonshot", "get", json!("always"), json!({"kind": "error", "type": "resource_not_found_error"}));
    let manager = world.manager(memory());
    for origin in [Origin::Sent, Origin::AlreadyThere] {
        let record = upload(&manager, request("hello", "a.txt", &["moonshot"])).await.unwrap();
        assert_eq!((record.replicas[0].origin, world.files("moonshot").len()), (origin, 1));
    }
}

#[tokio::test]
async fn a_copy_being_deleted_is_never_handed_out_and_the_next_delete_finishes_it() {
    let world = World::new();
    let manager = world.manager(memory());
    upload(&manager, request("hello", "a.txt", &["moonshot"])).await.unwrap();
    world.fault("moonshot", "delete", json!({"next": 100}), json!({"kind": "lost_request"}));
    manager.delete("a.txt", None, DEADLINE).await.unwrap_err();
    assert!(manager.get("a.txt").await.unwrap().replicas.is_empty(), "nobody knows whether it is still there");
    world.admin("DELETE", "/faults", serde_json::Value::Null);
    manager.delete("a.txt", None, DEADLINE).await.unwrap();
    assert!(world.files("moonshot").is_empty());
    assert_eq!(manager.delete("a.txt", None, DEADLINE).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_refused_delete_leaves_the_copy_as_it_was() {
    let world = World::new();
    let manager = world.manager(memory());
    upload(&manager, request("hello", "a.txt", &["moonshot"])).await.unwrap();
    world.fault("moonshot", "delete", json!({"next": 1}), json!({"kind": "status", "status": 403, "body": {}}));
    let error = manager.delete("a.txt", None, DEADLINE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert_eq!(manager.get("a.txt").await.unwrap().replicas.len(), 1);
}

#[tokio::test]
async fn a_page_of_someone_else_is_no_word_that_a_file_is_gone() {
    for status in [200, 404] {
        let world = World::new();
        let manager = world.manager(memory());
        upload(&manager, request("hello", "a.txt", &["moonshot"])).await.unwrap();
        for operation in ["delete", "get"] {
            world.fault("moonshot", operation, json!("always"), json!({"kind": "html", "status": status}));
        }
        manager.delete("a.txt", None, DEADLINE).await.unwrap_err();
        let ask = EnsureRequest::new(platform("moonshot"), DEADLINE);
        manager.ensure("a.txt", ask, &Transfers::default()).await.unwrap_err();
        assert_eq!(world.files("moonshot").len(), 1);
    }
}

#[tokio::test]
async fn a_page_of_someone_else_is_no_text_of_a_file() {
    let world = World::new();
    let manager = world.manager(memory());
    upload(&manager, request("hello", "a.txt", &["moonshot"])).await.unwrap();
    world.fault("moonshot", "content", json!({"next": 1}), json!({"kind": "html", "status": 200}));
    let error = manager.text("a.txt", None, DEADLINE).await;
    // Asked again (once) or refused, but never kept as the text.
    assert!(error.is_err() || error.is_ok_and(|text| text == "hello"));
    assert_eq!(manager.text("a.txt", None, DEADLINE).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_damaged_copy_is_removed_even_when_the_account_allows_one_request_at_a_time() {
    let world = World::new();
    let ghost = json!({"id": "ghost", "object": "file", "bytes": 3, "filename": "a.txt", "purpose": "file-extract", "status": "ready"});
    world.fault("moonshot", "upload", json!({"next": 1}), json!({"kind": "status", "status": 200, "body": ghost}));
    let manager = world.narrow_manager(memory());
    let begun = Instant::now();
    let record = upload(&manager, request("hello", "a.txt", &["moonshot"])).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!((world.truth("delete").len(), world.files("moonshot").len()), (1, 1));
    assert_ne!(record.replicas[0].remote_id, "ghost");
}

#[tokio::test]
async fn copies_of_another_account_are_left_alone() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("r.db");
    let (ours, theirs) = (world.manager(&path), world.manager_of("theirs", &path));
    upload(&theirs, request("hello", "a.txt", &["moonshot"])).await.unwrap();
    assert_eq!(ours.text("a.txt", None, DEADLINE).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(ours.delete("a.txt", None, DEADLINE).await.unwrap_err().kind(), ErrorKind::NotFound);
    upload(&ours, request("hello", "a.txt", &["moonshot"])).await.unwrap();
    ours.delete("a.txt", None, DEADLINE).await.unwrap();
    let left = theirs.get("a.txt").await.unwrap().replicas;
    assert_eq!((left.len(), left[0].account.as_str(), world.files("moonshot").len()), (1, "theirs", 1));
}

#[tokio::test]
async fn a_short_deadline_is_kept_while_another_task_sends_the_same_file() {
    let world = World::new();
    world.fault("moonshot", "upload", json!("always"), json!({"kind": "stall"}));
    let manager = Arc::new(world.manager(memory()));
    let first = tokio::spawn({
        let manager = manager.clone();
        async move { upload(&manager, request("hello", "a.txt", &["moonshot"])).await }
    });
    while world.truth("upload").is_empty() {
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    let hasty = UploadRequest { deadline: Duration::from_millis(100), ..request("hello", "a.txt", &["moonshot"]) };
    assert_eq!(upload(&manager, hasty).await.unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    first.abort();
}

#[tokio::test]
async fn a_call_cancelled_at_any_point_holds_no_claim() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let manager = Arc::new(world.manager(&directory.path().join("r.db")));
    for steps in 0..60 {
        let name = format!("{steps}.txt");
        let call = tokio::spawn({
            let (manager, wanted) = (manager.clone(), request(name.clone(), &name, &["moonshot"]));
            async move { upload(&manager, wanted).await }
        });
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
        call.abort();
        let again = UploadRequest { deadline: Duration::from_secs(5), ..request(name.clone(), &name, &["moonshot"]) };
        upload(&manager, again).await.unwrap_or_else(|error| panic!("cancelled after {steps} steps: {error}"));
    }
    assert_eq!(world.files("moonshot").len(), 60, "one each");
}

#[tokio::test]
async fn a_file_written_a_moment_ago_is_found_again_when_its_copy_is_lost() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fresh.txt");
    std::fs::write(&path, "fresh").unwrap();
    let manager = world.manager(memory());
    let wanted = UploadRequest { source: Source::Path(path), name: None, ..request("", "", &["moonshot"]) };
    let first = upload(&manager, wanted).await.unwrap().replicas[0].remote_id.clone();
    world.admin("DELETE", &format!("/files/moonshot/{first}"), serde_json::Value::Null);
    let ask = EnsureRequest::new(platform("moonshot"), DEADLINE);
    let healed = manager.ensure("fresh.txt", ask, &Transfers::default()).await.unwrap();
    assert_ne!(healed.remote_id, first);
    assert_eq!(world.files("moonshot").len(), 1);
}

#[tokio::test]
async fn without_tags_a_name_that_looks_renamed_is_recognised_too() {
    let world = World::new();
    world.fault("moonshot", "upload", json!({"next": 1}), json!({"kind": "lost_reply"}));
    let untagged = ManagerOptions { tag_names: false, ..ManagerOptions::default() };
    let manager = world.manager_with(memory(), untagged, Timeouts::default());
    let record = upload(&manager, request("hello", "report (1).txt", &["moonshot"])).await.unwrap();
    assert_eq!((record.replicas[0].origin, world.files("moonshot").len()), (Origin::Adopted, 1));
}

#[tokio::test]
async fn a_large_download_may_take_longer_than_a_small_request() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let short = Timeouts { total: Duration::from_millis(200), ..Timeouts::default() };
    let manager = world.manager_with(memory(), ManagerOptions::default(), short);
    let bytes = "{\"line\": 1}\n".repeat(20_000);
    upload(&manager, request(bytes.clone(), "b.jsonl", &["moonshot"])).await.unwrap();
    let slow = json!({"kind": "drip", "bytes_per_second": 400_000, "of": "response"});
    world.fault("moonshot", "content", json!({"next": 1}), slow);
    let done = manager.download("b.jsonl", directory.path(), None, DEADLINE).await.unwrap();
    assert_eq!(done.size, bytes.len() as u64);
}

#[tokio::test]
async fn closing_ends_the_calls_that_run_and_leaves_nothing_claimed() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("r.db");
    world.fault("moonshot", "upload", json!({"next": 1}), json!({"kind": "stall"}));
    let manager = Arc::new(world.manager(&path));
    let call = tokio::spawn({
        let manager = manager.clone();
        async move { manager.until_closed(upload(&manager, request("hello", "a.txt", &["moonshot"]))).await }
    });
    while world.truth("upload").is_empty() {
        tokio::task::yield_now().await;
    }
    manager.close().await;
    assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    let late = manager.until_closed(manager.get("a.txt")).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Registry);
    upload(&world.manager(&path), request("hello", "a.txt", &["moonshot"])).await.unwrap();
    assert_eq!(world.files("moonshot").len(), 1);
}
