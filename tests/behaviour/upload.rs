//! The main job: exactly once, whatever happens. The simulator's truth log is the judge.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use exai_files::content::Source;
use exai_files::error::ErrorKind;
use exai_files::manager::{EnsureRequest, Manager, ManagerOptions, Transfers, UploadRequest};
use exai_files::model::{Origin, PlatformId};
use exai_files::transport::Timeouts;
use serde_json::{Value, json};

use crate::world::{DEADLINE, World, request, upload};

fn memory() -> &'static Path {
    Path::new(":memory:")
}

fn path_request(path: &Path, to: &[&str]) -> UploadRequest {
    UploadRequest { source: Source::Path(path.to_owned()), name: None, ..request("", "", to) }
}

#[tokio::test]
async fn a_second_upload_of_the_same_bytes_sends_nothing_and_says_so() {
    let world = World::new();
    let manager = world.manager(memory());
    let first = upload(&manager, request("hello", "a.txt", &["moonshot", "zai"])).await.unwrap();
    assert!(first.replicas.iter().all(|replica| replica.origin == Origin::Sent));
    let again = upload(&manager, request("hello", "other name.txt", &["moonshot", "zai"])).await.unwrap();
    assert!(again.replicas.iter().all(|replica| replica.origin == Origin::AlreadyThere));
    assert_eq!((again.name.as_str(), again.digest), ("a.txt", first.digest));
    assert_eq!(world.truth("upload").len(), 2);
}

#[tokio::test]
async fn purposes_are_placements_of_one_content() {
    let world = World::new();
    let manager = world.manager(memory());
    for purpose in ["file-extract", "batch", "file-extract"] {
        let wanted = UploadRequest { purpose: Some(purpose.into()), ..request("{}", "a.jsonl", &["moonshot"]) };
        upload(&manager, wanted).await.unwrap();
    }
    assert_eq!(world.files("moonshot").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_with_the_same_file_make_one_remote_file() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    // Two managers on one registry file stand for two processes; tests_py has real ones.
    let managers = [0, 1].map(|_| Arc::new(world.manager(&directory.path().join("r.db"))));
    let calls = (0..32).map(|number| {
        let manager: Arc<Manager> = managers[number % 2].clone();
        tokio::spawn(async move { upload(&manager, request("the same", "same.txt", &["moonshot"])).await.unwrap() })
    });
    let mut ids = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        ids.push(call.await.unwrap().replicas[0].remote_id.clone());
    }
    ids.dedup();
    assert_eq!((ids.len(), world.files("moonshot").len(), world.truth("upload").len()), (1, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_uploads_with_lost_replies_are_stored_exactly_once() {
    let world = World::with(json!({"moonshot": {"max_files": 100_000}}));
    world.fault("moonshot", "upload", json!({"rate": 0.2}), json!({"kind": "lost_reply"}));
    world.fault("moonshot", "upload", json!({"rate": 0.0625}), json!({"kind": "lost_request"}));
    let manager = Arc::new(world.manager_with(
        memory(),
        ManagerOptions { upload_sends: 5, ..ManagerOptions::default() },
        Timeouts::default(),
    ));
    let calls: Vec<_> = (0..1_000)
        .map(|number: u32| {
            let manager = manager.clone();
            let wanted = UploadRequest {
                deadline: Duration::from_secs(120),
                ..request(number.to_be_bytes(), "n.txt", &["moonshot"])
            };
            tokio::spawn(async move {
                upload(&manager, UploadRequest { purpose: Some("image".into()), ..wanted }).await.unwrap()
            })
        })
        .collect();
    let mut bound = Vec::new();
    for call in calls {
        bound.push(call.await.unwrap().replicas[0].remote_id.clone());
    }
    let mut copies: HashMap<String, u32> = HashMap::new();
    let stored = world.files("moonshot");
    for file in &stored {
        *copies.entry(file["sha256"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!((copies.len(), stored.len()), (1_000, 1_000), "lost or stored twice");
    let there: Vec<&str> = stored.iter().map(|file| file["id"].as_str().unwrap()).collect();
    assert!(bound.iter().all(|id| there.contains(&id.as_str())), "every id we hand out exists");
    let outcomes = world.truth("upload");
    let count = |outcome: &str| outcomes.iter().filter(|entry| entry["outcome"] == outcome).count();
    assert!(count("lost_reply") > 100 && count("lost_request") > 20, "the faults really fired");
}

#[tokio::test]
async fn an_upload_that_arrived_is_adopted_and_one_that_did_not_is_sent_again() {
    for (fault, origin) in [
        (json!({"kind": "lost_reply"}), Origin::Adopted),
        (json!({"kind": "truncated_body", "keep": 3}), Origin::Adopted),
        (json!({"kind": "lost_request"}), Origin::Sent),
        (json!({"kind": "html", "status": 504}), Origin::Sent),
        (json!({"kind": "reset", "at_byte": 1, "of": "request"}), Origin::Sent),
        (json!({"kind": "status", "status": 503, "body": {}}), Origin::Sent),
        (json!({"kind": "rate_limited", "seconds": 0}), Origin::Sent),
    ] {
        for (platform, simulated) in [("moonshot", "moonshot"), ("zai", "zai")] {
            let world = World::new();
            world.fault(simulated, "upload", json!({"next": 1}), fault.clone());
            let record = upload(&world.manager(memory()), request("hello", "a.txt", &[platform])).await.unwrap();
            assert_eq!(record.replicas[0].origin, origin, "{platform} {fault}");
            let stored = world.files(simulated);
            assert_eq!(
                (stored.len(), &stored[0]["id"]),
                (1, &json!(record.replicas[0].remote_id)),
                "{platform} {fault}"
            );
        }
    }
}

#[tokio::test]
async fn a_renamed_or_late_listed_upload_is_still_recognised() {
    let world = World::with(json!({"moonshot": {"list_delay_seconds": 0.03}}));
    world.admin(
        "POST",
        "/files/moonshot",
        json!({"filename": "a~ftze3os7wc.txt", "text": "someone else's", "purpose": "image"}),
    );
    world.fault("moonshot", "upload", json!({"next": 1}), json!({"kind": "lost_reply"}));
    let record = upload(&world.manager(memory()), request("hello", "a.txt", &["moonshot"])).await.unwrap();
    assert_eq!(record.replicas[0].origin, Origin::Adopted);
    assert_eq!(record.replicas[0].remote_name, "a~ftze3os7wc (1).txt");
    assert_eq!(world.files("moonshot").len(), 2);
}

#[tokio::test]
async fn look_alikes_of_other_people_are_neither_adopted_nor_deleted() {
    let world = World::new();
    for _ in 0..50 {
        world.admin("POST", "/files/moonshot", json!({"filename": "a.txt", "text": "HELLO"}));
    }
    world.fault("moonshot", "upload", json!({"next": 1}), json!({"kind": "lost_request"}));
    let record = upload(&world.manager(memory()), request("hello", "a.txt", &["moonshot"])).await.unwrap();
    assert_eq!((record.replicas[0].origin, world.files("moonshot").len()), (Origin::Sent, 51));
}

#[tokio::test]
async fn billing_and_quota_are_not_retried() {
    for (platform, simulated, fault, kind) in [
        ("zai", "zai", json!({"kind": "error", "code": "1113"}), ErrorKind::Billing),
        ("zai", "zai", json!({"kind": "error", "code": "1308"}), ErrorKind::QuotaExceeded),
        ("moonshot", "moonshot", json!({"kind": "error", "type": "exceeded_current_quota_error"}), ErrorKind::Billing),
    ] {
        let world = World::new();
        world.fault(simulated, "upload", json!("always"), fault);
        let error = upload(&world.manager(memory()), request("hello", "a.txt", &[platform])).await.unwrap_err();
        assert_eq!((error.kind(), world.truth("upload").len(), error.attempts().len()), (kind, 1, 1), "{error:?}");
    }
}

#[tokio::test]
async fn a_mixed_outcome_says_which_and_the_next_call_sends_only_what_is_missing() {
    let world = World::new();
    let manager = world.manager(memory());
    world.fault("zai", "upload", json!({"next": 1}), json!({"kind": "error", "code": "1113"}));
    let error = upload(&manager, request("hello", "a.txt", &["moonshot", "zai"])).await.unwrap_err();
    let partial = error.partial_upload().unwrap();
    assert_eq!(error.kind(), ErrorKind::PartialUpload);
    assert_eq!(partial.record.replicas.len(), 1);
    assert_eq!(partial.failures[0].1.kind(), ErrorKind::Billing);
    upload(&manager, request("hello", "a.txt", &["moonshot", "zai"])).await.unwrap();
    assert_eq!((world.files("moonshot").len(), world.files("zai").len(), world.truth("upload").len()), (1, 1, 3));
}

#[tokio::test]
async fn an_expired_replica_is_never_handed_out_again() {
    let world = World::new();
    let manager = world.manager(memory());
    let first = upload(&manager, request("hello", "a.txt", &["zai"])).await.unwrap();
    assert!(first.replicas[0].expires_at.is_some(), "Z.ai keeps files for 180 days");
    world.admin("POST", "/clock", json!({"advance": 181 * 86_400}));
    let ensured =
        manager.ensure(&first.digest.to_string(), ensure_request("zai", Duration::ZERO), &Transfers::default()).await;
    assert_eq!(ensured.unwrap_err().kind(), ErrorKind::NotFound, "gone, and its bytes came from memory");
}

fn ensure_request(platform: &str, max_age: Duration) -> EnsureRequest {
    EnsureRequest { max_age, ..EnsureRequest::new(PlatformId::new(platform).unwrap(), DEADLINE) }
}

#[tokio::test]
async fn ensure_asks_the_platform_only_when_it_has_not_lately() {
    let world = World::new();
    let manager = world.manager(memory());
    let first = upload(&manager, request("hello", "a.txt", &["moonshot"])).await.unwrap();
    for (max_age, asked) in [(Duration::from_secs(60), 0), (Duration::ZERO, 1)] {
        let replica =
            manager.ensure("a.txt", ensure_request("moonshot", max_age), &Transfers::default()).await.unwrap();
        assert_eq!((&replica.remote_id, world.truth("get").len()), (&first.replicas[0].remote_id, asked));
    }
}

#[tokio::test]
async fn an_unchanged_file_is_not_read_again_and_a_changed_one_is() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.bin");
    std::fs::write(&path, vec![b'x'; 100_000]).unwrap();
    let manager = world.manager(memory());
    upload(&manager, path_request(&path, &["zai"])).await.unwrap();
    std::fs::write(&path, vec![b'y'; 100_000]).unwrap();
    let changed = upload(&manager, path_request(&path, &["zai"])).await.unwrap();
    assert_eq!((changed.replicas[0].origin, world.files("zai").len()), (Origin::Sent, 2));
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_sent_leaves_no_wrong_copy() {
    let world = World::with(json!({"moonshot": {"bandwidth_bits_per_second": 80_000_000}}));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.bin");
    std::fs::write(&path, vec![b'x'; 8 << 20]).unwrap();
    let manager = Arc::new(world.manager(memory()));
    let transfers = Transfers::default();
    let sending = tokio::spawn({
        let (manager, transfers, path) = (manager.clone(), transfers.clone(), path.clone());
        async move {
            manager
                .upload(
                    UploadRequest { purpose: Some("image".into()), ..path_request(&path, &["moonshot"]) },
                    &transfers,
                )
                .await
        }
    });
    // Half a megabyte is on its way: overwrite the last byte, with the times put back.
    while transfers.snapshot().first().is_none_or(|transfer| transfer.sent < 512 * 1024) {
        tokio::task::yield_now().await;
    }
    let times = std::fs::metadata(&path).unwrap().modified().unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"y", (8 << 20) - 1).unwrap();
    file.set_modified(times).unwrap();
    let record = sending.await.unwrap().unwrap();
    let stored = world.files("moonshot");
    assert_eq!(stored.len(), 1, "planned again once, and no copy of a mixture");
    assert_eq!(format!("sha256:{}", stored[0]["sha256"].as_str().unwrap()), record.digest.to_string());
}

#[tokio::test]
async fn a_cancelled_upload_can_be_repeated_at_once_and_leaves_one_copy() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let manager = Arc::new(world.manager(&directory.path().join("r.db")));
    world.fault("moonshot", "upload", json!({"next": 1}), json!({"kind": "stall"}));
    let stalled = tokio::spawn({
        let manager = manager.clone();
        async move { upload(&manager, request("hello", "a.txt", &["moonshot"])).await }
    });
    while world.truth("upload").is_empty() {
        tokio::task::yield_now().await;
    }
    stalled.abort();
    assert!(stalled.await.unwrap_err().is_cancelled());
    upload(&manager, request("hello", "a.txt", &["moonshot"])).await.unwrap();
    assert_eq!(world.files("moonshot").len(), 1);
}

#[tokio::test]
async fn a_dead_process_is_taken_over_and_what_it_stored_is_adopted() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("r.db");
    world.fault("moonshot", "upload", json!({"next": 1}), json!({"kind": "lost_reply"}));
    world.fault("moonshot", "list", json!({"next": 100}), json!({"kind": "status", "status": 400, "body": {}}));
    let error = upload(&world.manager(&path), request("hello", "a.txt", &["moonshot"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error:?}");
    world.admin("DELETE", "/faults", Value::Null);
    let record = upload(&world.manager(&path), request("hello", "a.txt", &["moonshot"])).await.unwrap();
    assert_eq!((record.replicas[0].origin, world.files("moonshot").len()), (Origin::Adopted, 1));
}

#[tokio::test]
async fn processing_is_waited_for_and_unknown_words_are_not_waited_for_for_ever() {
    let world = World::with(json!({"moonshot": {"processing_seconds": 0.3}}));
    upload(&world.manager(memory()), request("hello", "a.txt", &["moonshot"])).await.unwrap();
    assert!(!world.truth("get").is_empty(), "it was asked until it was ready");
}

#[tokio::test]
async fn text_is_fetched_once_and_survives_the_platforms_copy() {
    let world = World::new();
    let manager = world.manager(memory());
    upload(&manager, request("hello", "a.txt", &["moonshot"])).await.unwrap();
    for _ in 0..2 {
        assert_eq!(manager.text("a.txt", None, DEADLINE).await.unwrap(), "hello");
    }
    manager.delete("a.txt", None, DEADLINE).await.unwrap();
    assert_eq!(manager.text("a.txt", None, DEADLINE).await.unwrap(), "hello");
    assert_eq!(world.truth("content").len(), 1);
}

#[tokio::test]
async fn a_download_appears_whole_or_not_at_all() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let manager = world.manager(memory());
    let bytes = "{\"line\": 1}\n".repeat(50_000);
    upload(&manager, request(bytes.clone(), "b.jsonl", &["moonshot"])).await.unwrap();
    world.fault("moonshot", "content", json!({"next": 1}), json!({"kind": "truncated_body", "keep": 100_000}));
    let broken = manager.download("b.jsonl", directory.path(), None, DEADLINE).await.unwrap_err();
    assert_eq!(broken.kind(), ErrorKind::Unavailable);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left of it");
    let done = manager.download("b.jsonl", directory.path(), None, DEADLINE).await.unwrap();
    assert!(done.is_original && std::fs::read_to_string(&done.path).unwrap() == bytes);
}

#[tokio::test]
async fn a_deadline_covers_queue_retries_and_transfer() {
    let world = World::new();
    world.fault("moonshot", "upload", json!("always"), json!({"kind": "stall"}));
    let begun = std::time::Instant::now();
    let wanted = UploadRequest { deadline: Duration::from_millis(300), ..request("hello", "a.txt", &["moonshot"]) };
    let error = upload(&world.manager(memory()), wanted).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::OutcomeUnknown | ErrorKind::TimedOut), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn ensure_gives_the_copy_for_the_purpose_that_was_asked_for() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    std::fs::write(&path, "{}\n").unwrap();
    let manager = world.manager(memory());
    let batch = UploadRequest { purpose: Some("batch".into()), ..path_request(&path, &["moonshot"]) };
    let first = upload(&manager, batch).await.unwrap();
    let extract = EnsureRequest { purpose: Some("file-extract".into()), ..ensure_request("moonshot", Duration::MAX) };
    let replica = manager.ensure("a.jsonl", extract, &Transfers::default()).await.unwrap();
    assert_eq!(replica.purpose.as_str(), "file-extract");
    assert_ne!(replica.remote_id, first.replicas[0].remote_id);
}

#[tokio::test]
async fn a_delete_that_may_have_been_heard_is_not_undone_by_a_later_refusal() {
    let world = World::new();
    let manager = world.manager(memory());
    upload(&manager, request("hello", "a.txt", &["moonshot"])).await.unwrap();
    world.fault("moonshot", "delete", json!({"next": 1}), json!({"kind": "lost_reply"}));
    let refusal = json!({"kind": "status", "status": 403, "body": {"error": {"message": "no", "type": "permission_denied_error"}}});
    world.fault("moonshot", "delete", json!("always"), refusal);
    let error = manager.delete("a.txt", None, DEADLINE).await.unwrap_err();
    assert!(error.is_ambiguous(), "{error:?}");
    assert!(manager.get("a.txt").await.unwrap().replicas.is_empty(), "the platform does not have it any more");
}
