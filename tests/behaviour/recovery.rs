//! What was cut short is finished or undone: by the next one, by many at once, never twice.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use exai_files::blobs::{Blobs, Place};
use exai_files::clock::{Clock as _, SystemClock, Timestamp};
use exai_files::content::Source;
use exai_files::error::ErrorKind;
use exai_files::manager::{EnsureRequest, Manager, ManagerOptions, Transfers, UploadRequest};
use exai_files::model::{AccountId, Digest, HoldKind, Keep, Origin, PlatformId, Purpose};
use exai_files::registry::{Claim, NewIntent, Phase, Placement, Unfinished};
use exai_files::store::bind;
use exai_files::transport::Timeouts;
use exai_files::upkeep::{RecoveryResult, check_copies, collect_copies, explain_recovery, find_recovery, recover};
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::aftermath::{count, judge, let_leases_run_out, recover_with};
use crate::databases;
use crate::world::{DEADLINE, World, request, upload};

fn ensure_on(platform: &str) -> EnsureRequest {
    EnsureRequest::new(PlatformId::new(platform).unwrap(), DEADLINE)
}

/// Leaves an upload behind as its process' death would: sent, or about to be, and nobody told.
async fn cut_short(world: &World, manager: &Arc<Manager>, wanted: UploadRequest, fault: &str) {
    world.fault("moonshot", "upload", json!({"next": 1}), json!({"kind": fault}));
    let before = world.truth("upload").len();
    let call = tokio::spawn({
        let manager = manager.clone();
        async move { upload(&manager, wanted).await }
    });
    while world.truth("upload").len() == before {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    call.abort();
    let _ = call.await;
    world.admin("DELETE", "/faults", Value::Null);
}

/// Until the last words of a cancelled call are written.
async fn open_uploads(manager: &Manager, count: usize) -> Vec<exai_files::registry::OpenUpload> {
    loop {
        let open = manager.registry().open_uploads().await.unwrap();
        if open.len() == count {
            return open;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn an_upload_whose_bytes_are_gone_is_adopted_or_undone() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let manager = Arc::new(world.manager(&directory.path().join("r.db")));
    // The stall keeps the reply back after the file was stored, or before.
    cut_short(&world, &manager, request("kept", "kept.txt", &["moonshot"]), "stall").await;
    let open = open_uploads(&manager, 1).await;
    assert_eq!(open[0].phase, Phase::Unknown);
    let stored = world.files("moonshot").len();
    let steps = recover(&manager, DEADLINE).await.unwrap();
    let expected = if stored == 1 { RecoveryResult::Finished } else { RecoveryResult::Undone };
    assert_eq!((steps.len(), steps[0].result, steps[0].kind), (1, expected, Unfinished::Upload), "{steps:?}");
    assert!(recover(&manager, DEADLINE).await.unwrap().is_empty(), "nothing is left");
    assert_eq!(world.files("moonshot").len(), stored, "nothing was sent");
    let again = upload(&manager, request("kept", "kept.txt", &["moonshot"])).await.unwrap();
    assert_eq!(world.files("moonshot").len(), 1);
    assert_eq!(again.replicas[0].origin == Origin::AlreadyThere, stored == 1);
}

#[tokio::test]
async fn an_upload_from_a_path_is_finished_by_whoever_comes_first_and_once() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let (registry, path) = (directory.path().join("r.db"), directory.path().join("report.txt"));
    std::fs::write(&path, "a report").unwrap();
    let manager = Arc::new(world.manager(&registry));
    let wanted = UploadRequest { source: Source::Path(path), name: None, ..request("", "", &["moonshot"]) };
    cut_short(&world, &manager, wanted, "stall").await;
    open_uploads(&manager, 1).await;
    // The path is known to the one that read it; the others look at what the platform has.
    let others: Vec<_> = (0..3).map(|_| Arc::new(world.manager(&registry))).collect();
    let all = others.iter().chain([&manager]).map(|manager| {
        let manager = manager.clone();
        tokio::spawn(async move { recover(&manager, DEADLINE).await.unwrap() })
    });
    let mut finished = 0;
    for steps in all.collect::<Vec<_>>() {
        finished += steps.await.unwrap().len();
    }
    assert_eq!(finished, 1, "one of them did it");
    assert!(world.files("moonshot").len() <= 1);
    assert!(manager.registry().recoveries().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_delete_that_was_cut_short_is_done_again() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("r.db");
    let manager = world.manager(&path);
    let placed = upload(&manager, request("hello", "a.txt", &["moonshot"])).await.unwrap();
    let accounts = vec![(placed.replicas[0].platform.clone(), placed.replicas[0].account.clone())];
    manager.registry().begin_delete(&placed.digest, None, accounts, None).await.unwrap();
    assert!(recover(&manager, DEADLINE).await.unwrap().is_empty(), "its process may be alive");
    assert_eq!(world.files("moonshot").len(), 1);
    let store = databases::open(&databases::place(&path));
    let long_ago = "UPDATE platform_file_registry SET updated_at = ?1";
    store.write(move |session| session.execute(long_ago, bind![Timestamp(1)])).await.unwrap();
    let steps = recover(&manager, DEADLINE).await.unwrap();
    assert_eq!((steps.len(), steps[0].kind, steps[0].result), (1, Unfinished::Delete, RecoveryResult::Finished));
    assert!(world.files("moonshot").is_empty());
}

/// What a process left that died before it sent the file at `path`.
async fn leave_planned(manager: &Manager, path: &Path) {
    leave_planned_until(manager, path, None).await;
}

async fn leave_planned_until(manager: &Manager, path: &Path, needed_until: Option<Timestamp>) {
    let bytes = std::fs::read(path).unwrap();
    let new = NewIntent {
        placement: Placement {
            digest: Digest(sha2::Sha256::digest(&bytes).into()),
            platform: PlatformId::new("moonshot").unwrap(),
            account: AccountId::default(),
            purpose: Purpose::new("file-extract"),
        },
        name: "a.txt".to_owned(),
        remote_name: "a.txt".to_owned(),
        size: bytes.len() as u64,
        mime: "text/plain".to_owned(),
        owner: None,
        needed_until,
        keep: Keep::AsItIs,
    };
    let Claim::Ours(claim) = manager.registry().intend(new, Vec::new()).await.unwrap() else { panic!() };
    std::mem::forget(claim);
}

/// A file at `path` that `manager` has sent once, so that it knows where its bytes are.
async fn known(manager: &Manager, path: &Path) {
    std::fs::write(path, "hello").unwrap();
    let wanted = UploadRequest { source: Source::Path(path.to_owned()), name: None, ..request("", "", &["moonshot"]) };
    let record = upload(manager, wanted).await.unwrap();
    manager.delete(&record.digest.to_string(), None, DEADLINE).await.unwrap();
}

#[tokio::test]
async fn what_its_platform_cannot_take_now_stays_to_be_finished() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let registry = directory.path().join("r.db");
    let (manager, store) = (world.manager(&registry), databases::open(&databases::place(&registry)));
    known(&manager, &directory.path().join("a.txt")).await;
    leave_planned(&manager, &directory.path().join("a.txt")).await;
    let_leases_run_out(&store).await;
    world.fault("moonshot", "upload", json!("always"), json!({"kind": "status", "status": 503}));
    let steps = recover(&manager, Duration::from_millis(500)).await.unwrap();
    assert_eq!((steps.len(), steps[0].result, steps[0].strategy), (1, RecoveryResult::Failed, "back-off"), "{steps:?}");
    assert_eq!(open_uploads(&manager, 0).await.len(), 0, "not due yet");
    assert_eq!(manager.registry().recoveries().await.unwrap().len(), 1);
    world.admin("DELETE", "/faults", Value::Null);
    let_leases_run_out(&store).await;
    let steps = recover(&manager, DEADLINE).await.unwrap();
    assert_eq!((steps.len(), steps[0].result, steps[0].attempt), (1, RecoveryResult::Finished, 2), "{steps:?}");
    assert_eq!(world.files("moonshot").len(), 1);
    assert!(manager.registry().recoveries().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_given_up_goes_to_another_platform_where_that_is_wished() {
    let refusal = json!({"kind": "status", "status": 403, "body": {"error": {"message": "no", "type": "permission_denied_error"}}});
    for (fallback, result, strategy) in [
        (vec![], RecoveryResult::Dead, "give-up"),
        (vec!["moonshot", "zai"], RecoveryResult::Finished, "fallback-platform"),
    ] {
        let world = World::new();
        let directory = tempfile::tempdir().unwrap();
        let registry = directory.path().join("r.db");
        let options = ManagerOptions {
            recovery_fallback: fallback.iter().map(|name| PlatformId::new(name).unwrap()).collect(),
            ..ManagerOptions::default()
        };
        let manager =
            world.manager_with(&registry, ManagerOptions { recovery_attempts: 1, ..options }, Timeouts::default());
        known(&manager, &directory.path().join("a.txt")).await;
        leave_planned(&manager, &directory.path().join("a.txt")).await;
        let_leases_run_out(&databases::open(&databases::place(&registry))).await;
        world.fault("moonshot", "upload", json!("always"), refusal.clone());
        let steps = recover(&manager, DEADLINE).await.unwrap();
        assert_eq!((steps.len(), steps[0].result, steps[0].strategy), (1, result, strategy), "{steps:?}");
        assert_eq!(world.files("zai").len(), usize::from(!fallback.is_empty()));
        assert!(recover(&manager, DEADLINE).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_may_be_where_it_was_meant_to_be_is_still_looked_for_after_a_fallback() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.txt");
    let options = ManagerOptions {
        recovery_attempts: 1,
        recovery_fallback: vec![PlatformId::new("zai").unwrap()],
        ..ManagerOptions::default()
    };
    let manager = Arc::new(world.manager_with(&directory.path().join("r.db"), options, Timeouts::default()));
    known(&manager, &path).await;
    let wanted = UploadRequest { source: Source::Path(path), name: None, ..request("", "", &["moonshot"]) };
    cut_short(&world, &manager, wanted, "stall").await;
    open_uploads(&manager, 1).await;
    let refusal = json!({"kind": "status", "status": 403, "body": {"error": {"message": "no", "type": "permission_denied_error"}}});
    world.fault("moonshot", "list", json!("always"), refusal);
    let steps = recover(&manager, DEADLINE).await.unwrap();
    assert_eq!((steps.len(), steps[0].result), (1, RecoveryResult::Dead), "{steps:?}");
    assert!(steps[0].error.as_ref().unwrap().ends_with("zai has it meanwhile"), "{steps:?}");
    assert_eq!(world.files("zai").len(), 1);
    world.admin("DELETE", "/faults", Value::Null);
    let dead = find_recovery(&manager, &steps[0].id).await.unwrap();
    manager.registry().retry_recovery(&dead).await.unwrap();
    assert_eq!(recover(&manager, DEADLINE).await.unwrap()[0].result, RecoveryResult::Finished);
    assert_eq!(world.files("moonshot").len(), 1);
}

#[tokio::test]
async fn a_move_is_finished_by_the_next_one_and_a_cancelled_one_never_was() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let (registry, path) = (directory.path().join("r.db"), directory.path().join("a.txt"));
    let (manager, store) = (Arc::new(world.manager(&registry)), databases::open(&databases::place(&registry)));
    std::fs::write(&path, "hello").unwrap();
    let wanted = UploadRequest { source: Source::Path(path), name: None, ..request("", "", &["moonshot"]) };
    let record = upload(&manager, wanted).await.unwrap();
    let [moonshot, zai] = ["moonshot", "zai"].map(|name| PlatformId::new(name).unwrap());
    let places = || (world.files("moonshot").len(), world.files("zai").len());

    world.fault("zai", "upload", json!("always"), json!({"kind": "stall"}));
    let call = tokio::spawn({
        let (manager, moonshot) = (manager.clone(), moonshot.clone());
        async move { manager.relocate("a.txt", &moonshot, ensure_on("zai"), &Transfers::default()).await }
    });
    while world.truth("upload").len() < 2 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    world.admin("DELETE", "/faults", Value::Null);
    recover_with(&manager, &store).await;
    assert_eq!(places().0, 1);
    assert_eq!(count(&store, "SELECT COUNT(*) FROM moves").await, 0);

    let held = manager.registry().begin_move(&record.digest, &record.replicas[0], &zai, None).await.unwrap();
    std::mem::forget(held);
    assert!(recover(&manager, DEADLINE).await.unwrap().is_empty(), "its process may be alive");
    let_leases_run_out(&store).await;
    let steps = recover(&manager, DEADLINE).await.unwrap();
    assert_eq!((steps.len(), steps[0].kind, steps[0].strategy), (1, Unfinished::Move, "move-again"), "{steps:?}");
    assert_eq!(places(), (0, 1));

    let back = manager.relocate("a.txt", &zai, ensure_on("moonshot"), &Transfers::default()).await.unwrap();
    assert_eq!((places(), back.replicas.len(), &back.replicas[0].platform), ((1, 0), 1, &moonshot));
    judge(&world, &store, &manager).await;
}

#[tokio::test]
async fn a_move_that_cannot_be_leaves_the_file_where_it_is() {
    let world = World::new();
    let manager = world.manager(Path::new(":memory:"));
    upload(&manager, request("hello", "a.txt", &["moonshot"])).await.unwrap();
    let [moonshot, zai] = ["moonshot", "zai"].map(|name| PlatformId::new(name).unwrap());
    let moved = async |from, to: &str| manager.relocate("a.txt", from, ensure_on(to), &Transfers::default()).await;
    assert_eq!(moved(&moonshot, "moonshot").await.unwrap_err().kind(), ErrorKind::InvalidRequest);
    assert_eq!(moved(&zai, "moonshot").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(moved(&moonshot, "zai").await.unwrap_err().kind(), ErrorKind::NotFound, "its bytes are nowhere");
    let hold = manager.hold("a.txt", HoldKind::Legal, None).await.unwrap();
    assert_eq!(moved(&moonshot, "zai").await.unwrap_err().kind(), ErrorKind::Conflict);
    manager.registry().release(&hold.id).await.unwrap();
    assert_eq!((world.files("moonshot").len(), world.files("zai").len()), (1, 0));
    assert!(manager.registry().recoveries().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_cannot_be_finished_is_given_up_told_tried_again_and_abandoned() {
    let world = World::new();
    let options = ManagerOptions { recovery_attempts: 1, ..ManagerOptions::default() };
    let manager = Arc::new(world.manager_with(Path::new(":memory:"), options, Timeouts::default()));
    cut_short(&world, &manager, request("hello", "a.txt", &["moonshot"]), "stall").await;
    open_uploads(&manager, 1).await;
    let refusal = json!({"kind": "status", "status": 403, "body": {"error": {"message": "no", "type": "permission_denied_error"}}});
    world.fault("moonshot", "list", json!("always"), refusal);
    let steps = recover(&manager, DEADLINE).await.unwrap();
    assert_eq!((steps.len(), steps[0].result), (1, RecoveryResult::Dead), "{steps:?}");
    assert!(recover(&manager, DEADLINE).await.unwrap().is_empty(), "given up");
    let (dead, attempts) = explain_recovery(&manager, &steps[0].id[..8]).await.unwrap();
    assert!(dead.is_dead && dead.error.is_some());
    assert_eq!((attempts.len(), attempts[0].strategy.as_deref()), (1, Some("give-up")));
    assert_eq!(attempts[0].error_code.as_deref(), Some("PermissionDenied"));

    manager.registry().retry_recovery(&dead).await.unwrap();
    world.admin("DELETE", "/faults", Value::Null);
    let steps = recover(&manager, DEADLINE).await.unwrap();
    assert!(matches!(steps[0].result, RecoveryResult::Finished | RecoveryResult::Undone), "{steps:?}");

    cut_short(&world, &manager, request("other", "b.txt", &["moonshot"]), "stall").await;
    let open = open_uploads(&manager, 1).await;
    let one = find_recovery(&manager, &open[0].id).await.unwrap();
    manager.registry().abandon_recovery(&one).await.unwrap();
    assert_eq!(find_recovery(&manager, &open[0].id).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_lost_file_is_made_anew_from_its_kept_copy_and_a_damaged_copy_is_not_believed() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("copies");
    let blobs = Blobs::open(&Place::Folder(folder.clone())).unwrap();
    let manager = world.manager(Path::new(":memory:")).with_copies(blobs);
    let placed = upload(&manager, request("precious", "p.txt", &["moonshot"])).await.unwrap();
    let lose = |id: &str| world.admin("DELETE", &format!("/files/moonshot/{id}"), Value::Null);
    lose(&placed.replicas[0].remote_id);
    let healed = manager.ensure("p.txt", ensure_on("moonshot"), &Transfers::default()).await.unwrap();
    assert_ne!(healed.remote_id, placed.replicas[0].remote_id);

    let found = check_copies(&manager, 1.0, DEADLINE).await.unwrap();
    assert_eq!((found.checked, found.read, found.damaged.len()), (1, 1, 0));
    let hex = placed.digest.hex();
    std::fs::write(folder.join("sha256").join(&hex[..2]).join(&hex), "precioux").unwrap();
    lose(&healed.remote_id);
    let error = manager.ensure("p.txt", ensure_on("moonshot"), &Transfers::default()).await.unwrap_err();
    assert_eq!((error.kind(), world.files("moonshot").len()), (ErrorKind::NotFound, 0));
    let found = check_copies(&manager, 1.0, DEADLINE).await.unwrap();
    assert_eq!(found.damaged, [placed.digest]);
    let blob = folder.join("sha256").join(&hex[..2]).join(&hex);
    std::fs::remove_file(&blob).unwrap();
    assert_eq!(check_copies(&manager, 0.0, DEADLINE).await.unwrap().missing, [placed.digest], "and is still");
    std::fs::write(&blob, "precious").unwrap();
    assert_eq!(check_copies(&manager, 0.0, DEADLINE).await.unwrap().read, 1, "what was lost is read");
    manager.ensure("p.txt", ensure_on("moonshot"), &Transfers::default()).await.unwrap();
    assert!(collect_copies(&manager, false).await.unwrap().removed.is_empty());
}

#[tokio::test]
async fn a_copy_that_does_not_live_long_enough_is_renewed_before_the_old_one_goes() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.txt");
    std::fs::write(&path, "hello").unwrap();
    let registry = directory.path().join("r.db");
    let manager = world.manager(&registry);
    let wanted = UploadRequest { source: Source::Path(path), name: None, ..request("", "", &["zai"]) };
    let first = upload(&manager, wanted).await.unwrap().replicas[0].clone();
    let day = Duration::from_secs(86_400);
    let enough = EnsureRequest { min_ttl: day * 30, ..ensure_on("zai") };
    let same = manager.ensure("a.txt", enough, &Transfers::default()).await.unwrap();
    assert_eq!(same.remote_id, first.remote_id, "Z.ai keeps it for 180 days");
    let long = EnsureRequest { min_ttl: day * 179 + Duration::from_secs(86_399), ..ensure_on("zai") };
    world.admin("POST", "/clock", json!({"advance": 10}));
    let longer = EnsureRequest { min_ttl: day * 180 + Duration::from_secs(5), ..long };
    let renewed = manager.ensure("a.txt", longer, &Transfers::default()).await.unwrap();
    assert_ne!(renewed.remote_id, first.remote_id);
    assert!(renewed.expires_at > first.expires_at);
    assert_eq!(manager.get("a.txt").await.unwrap().replicas.len(), 1, "the old one is handed out no more");
    assert_eq!(world.files("zai").len(), 2, "and whoever has its id can use it still");
    assert!(recover(&manager, DEADLINE).await.unwrap().is_empty());
    let store = databases::open(&databases::place(&registry));
    let long_ago = "UPDATE platform_file_registry SET updated_at = ?1 WHERE status = 'retired'";
    store.write(move |session| session.execute(long_ago, bind![Timestamp(1)])).await.unwrap();
    assert_eq!(recover(&manager, DEADLINE).await.unwrap().len(), 1);
    assert_eq!(world.files("zai").len(), 1, "a day later it goes");
    assert_eq!(manager.get("a.txt").await.unwrap().replicas[0].remote_id, renewed.remote_id);
}

#[tokio::test]
async fn a_renewal_that_was_cut_short_is_finished_and_what_was_trashed_since_stays_so() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let registry = directory.path().join("r.db");
    let path = directory.path().join("a.txt");
    let (manager, store) = (world.manager(&registry), databases::open(&databases::place(&registry)));
    known(&manager, &path).await;
    leave_planned(&manager, &path).await;
    manager.trash("a.txt").await.unwrap();
    recover_with(&manager, &store).await;
    assert!(manager.get("a.txt").await.unwrap().trashed_at.is_some(), "it was put there after it was begun");
    manager.restore("a.txt").await.unwrap();
    let first = manager.get("a.txt").await.unwrap().replicas[0].clone();

    let soon = SystemClock.now().plus(Duration::from_secs(60));
    let ends = "UPDATE platform_file_registry SET expires_at = ?1 WHERE status = 'active'";
    store.write(move |session| session.execute(ends, bind![soon])).await.unwrap();
    leave_planned_until(&manager, &path, Some(soon.plus(Duration::from_secs(60)))).await;
    let_leases_run_out(&store).await;
    let steps = recover(&manager, DEADLINE).await.unwrap();
    assert_eq!((steps.len(), steps[0].result), (1, RecoveryResult::Finished), "{steps:?}");
    assert_ne!(manager.get("a.txt").await.unwrap().replicas[0].remote_id, first.remote_id);
    assert!(manager.registry().recoveries().await.unwrap().iter().all(|left| left.kind == Unfinished::Delete));
}

#[tokio::test]
async fn what_was_given_up_on_its_platform_is_erased_too() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let registry = directory.path().join("r.db");
    let (manager, store) = (world.manager(&registry), databases::open(&databases::place(&registry)));
    upload(&manager, request("hello", "a.txt", &["moonshot"])).await.unwrap();
    let given_up = "UPDATE platform_file_registry SET status = 'error'";
    store.write(move |session| session.execute(given_up, &[])).await.unwrap();
    let erased = manager.erase("a.txt", DEADLINE).await.unwrap();
    assert_eq!((erased.replicas.len(), world.files("moonshot").len()), (1, 0));
}

#[tokio::test]
async fn only_this_registrys_copies_are_collected_and_only_what_nobody_needs() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Folder(folder.path().to_owned());
    let with_copies = |manager: Manager| manager.with_copies(Blobs::open(&place).unwrap());
    let registry = folder.path().join("r.db");
    let (manager, store) = (with_copies(world.manager(&registry)), databases::open(&databases::place(&registry)));
    let other = with_copies(world.manager_of("other", Path::new(":memory:")));
    upload(&other, request("of another", "b.txt", &["moonshot"])).await.unwrap();
    let archived = upload(&manager, request("archived", "a.txt", &["moonshot"])).await.unwrap();
    manager.archive("a.txt", None, DEADLINE).await.unwrap();
    let blobs = folder.path().join("sha256");
    let away = folder.path().join("away");
    std::fs::rename(&blobs, &away).unwrap();
    assert_eq!(check_copies(&manager, 0.0, DEADLINE).await.unwrap().missing, [archived.digest], "it is not mounted");
    std::fs::rename(&away, &blobs).unwrap();
    let long_ago = if store.is_postgres() { "'epoch'" } else { "0" };
    let old = format!("UPDATE kept_copies SET kept_at = {long_ago}");
    store.write(move |session| session.execute(&old, &[])).await.unwrap();
    assert!(collect_copies(&manager, false).await.unwrap().removed.is_empty());
    assert_eq!(check_copies(&manager, 0.0, DEADLINE).await.unwrap().read, 1);
    manager.ensure("a.txt", ensure_on("zai"), &Transfers::default()).await.unwrap();
}
