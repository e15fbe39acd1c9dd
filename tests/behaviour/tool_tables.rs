//! The existing tool's tables as its classes use them (dropin_contract.md §1.2, §1.3): on every database the same.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use exai_files::clock::{TestClock, Timestamp};
use exai_files::error::ErrorKind;
use exai_files::model::Digest;
use exai_files::registry::{FileFilter, Registry, ToolRow, Waiting};
use exai_files::store::{Location, Store, bind};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::databases::{POOLED, new_database, open};
use crate::world::{World, request, upload};

const NOW: Timestamp = Timestamp(1_800_000_000_000_000);
const FILE: &str = "00000000-0000-4000-8000-000000000001";
const OTHER: &str = "00000000-0000-4000-8000-000000000002";
const HASH: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

fn row(value: Value) -> ToolRow {
    value.as_object().unwrap().clone()
}

/// One of each kind.
fn registries() -> Vec<(&'static str, Store, Registry)> {
    let places =
        [("SQLite", Location::file(Path::new(":memory:"))), ("PostgreSQL", Location::Postgres(new_database(POOLED)))];
    let opened = places.map(|(name, place)| {
        let store = open(&place);
        (name, store.clone(), Registry::new(store.clone(), store, Arc::new(TestClock::at(NOW))))
    });
    opened.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_each_table_is_found_as_it_was_written() {
    let now = NOW.to_string();
    let rows = [
        (
            "platform_file_registry",
            "file_id",
            json!({"file_id": FILE, "platform": "kimi", "platform_file_id": "file-1", "platform_url": null,
                   "platform_metadata": {"a": [1, "ü"]}, "status": "active", "verification_count": 0}),
        ),
        (
            "file_health_checks",
            "registry_id",
            json!({"registry_id": FILE, "status": "error", "error_message": "no", "error_code": "not-found",
                   "response_time_ms": 12, "http_status_code": 404, "checked_at": now}),
        ),
        (
            "file_lifecycle_sync",
            "file_id",
            json!({"file_id": FILE, "platform": "glm", "local_status": "active", "platform_status": "unknown",
                   "sync_status": "error", "sync_error": "no", "sync_attempt_count": 3, "next_sync_at": now}),
        ),
        (
            "file_recovery_attempts",
            "file_id",
            json!({"file_id": FILE, "operation": "upload", "platform": null, "attempt_number": 2, "status": "pending",
                   "recovery_strategy": "exponential_backoff", "retry_delay_ms": 2000, "next_retry_at": now}),
        ),
        (
            "file_audit_trail",
            "file_id",
            json!({"file_id": FILE, "operation": "upload", "platform": "kimi", "status": "success", "duration_ms": 7,
                   "user_id": "system", "operation_details": {"why": "test"}, "bytes_transferred": 5_000_000_000_i64}),
        ),
    ];
    for (name, store, registry) in registries() {
        for (table, column, given) in &rows {
            let id = registry.add_tool_row(table, row(given.clone())).await.unwrap();
            let found = registry.tool_rows(table, column, FILE).await.unwrap();
            assert_eq!(found.len(), 1, "{name} {table}");
            assert_eq!(found[0]["id"], json!(id));
            for (column, value) in given.as_object().unwrap() {
                assert_eq!(found[0][column], *value, "{name} {table}.{column}");
            }
            let made_at = if *table == "file_health_checks" { "checked_at" } else { "created_at" };
            assert_eq!(found[0][made_at], json!(now), "{name} {table}");
        }
        drop(store);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_tools_is_refused_and_nothing_is_written() {
    let refused = [
        ("file_uploads", json!({"filename": "a"}), "no table"),
        ("users; DROP TABLE file_hashes", json!({}), "no table"),
        ("file_audit_trail", json!({"file_id": FILE, "operation\"": "x", "status": "s"}), "no column"),
        ("file_audit_trail", json!({"file_id": "not-a-uuid", "operation": "x", "status": "s"}), "UUID"),
        ("file_audit_trail", json!({"file_id": 5, "operation": "x", "status": "s"}), "UUID"),
        ("file_audit_trail", json!({"operation": "a\u{0}b", "status": "s"}), "takes text"),
        ("file_audit_trail", json!({"operation": "a", "status": "s", "duration_ms": 1.5}), "whole number"),
        ("file_audit_trail", json!({"operation": "a", "status": "s", "created_at": "yesterday"}), "RFC 3339"),
    ];
    for (name, _, registry) in registries() {
        for (table, given, why) in &refused {
            let error = registry.add_tool_row(table, row(given.clone())).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{name} {given}: {error}");
            assert!(error.to_string().contains(why), "{name}: {error}");
        }
        // Its columns fit, and the database says no.
        let error = registry.add_tool_row("file_audit_trail", row(json!({"operation": "a"}))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Registry, "{name}");
        assert!(registry.tool_rows("file_audit_trail", "operation", "a").await.unwrap().is_empty(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_registered_twice_is_one_row() {
    for (name, _, registry) in registries() {
        let given = |file: &str| {
            row(json!({"file_id": file, "platform": "kimi", "platform_file_id": "file-1", "platform_metadata": {},
                       "status": "active"}))
        };
        let first = registry.add_tool_row("platform_file_registry", given(FILE)).await.unwrap();
        let second = registry.add_tool_row("platform_file_registry", given(OTHER)).await.unwrap();
        assert_eq!(first, second, "{name}");
        assert!(registry.tool_platforms(FILE).await.unwrap().is_empty(), "{name}");
        assert_eq!(registry.tool_platforms(OTHER).await.unwrap().len(), 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_to_have_a_content_is_its_original_however_many_come_at_once() {
    for (name, _, registry) in registries() {
        let files: Vec<String> = (1..=20).map(|number| format!("00000000-0000-4000-8000-{number:012}")).collect();
        let notes = files.iter().map(|file| {
            let note = row(json!({"file_hash": HASH, "original_file_id": file, "file_size": 7}));
            registry.note_tool_hash(note)
        });
        let originals = futures_util::future::try_join_all(notes).await.unwrap();
        let firsts: Vec<_> = files.iter().zip(&originals).filter(|(_, original)| original.is_none()).collect();
        assert_eq!(firsts.len(), 1, "{name}: {originals:?}");
        let others = originals.iter().flatten();
        assert!(others.clone().count() == 19 && others.clone().all(|original| original == firsts[0].0), "{name}");
        let rows = registry.tool_rows("file_hashes", "file_hash", HASH).await.unwrap();
        assert_eq!((rows.len(), &rows[0]["duplicate_count"]), (1, &json!(19)), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_the_tool_had_first_goes_up_as_any_other() {
    let world = World::new();
    let manager = world.manager(Path::new(":memory:"));
    let (registry, hex) = (manager.registry(), digest(b"had first").hex());
    let noted = row(json!({"file_hash": hex.to_uppercase(), "original_file_id": FILE, "file_size": 9}));
    for _ in 0..2 {
        assert_eq!(registry.note_tool_hash(noted.clone()).await.unwrap(), None);
    }
    let record = upload(&manager, request(b"had first", "a.txt", &["moonshot"])).await.unwrap();
    assert_eq!(record.digest.hex(), hex);
    assert_eq!(manager.list(FileFilter { limit: 10, ..FileFilter::default() }).await.unwrap().len(), 1);
    assert_eq!(registry.tool_platforms(FILE).await.unwrap().len(), 1, "the tool's file is where the content is");
    let rows = registry.tool_rows("file_hashes", "file_hash", &hex).await.unwrap();
    assert_eq!(rows[0]["original_file_id"], FILE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_that_is_none_and_a_files_second_hash_are_refused() {
    let world = World::new();
    let manager = world.manager(Path::new(":memory:"));
    let record = upload(&manager, request(b"ours", "a.txt", &["moonshot"])).await.unwrap();
    let registry = manager.registry();
    let ours = registry.tool_rows("file_uploads", "file_hash", &record.digest.hex()).await.unwrap();
    for (hash, file) in [("not-a-hash", json!(FILE)), (HASH, ours[0]["id"].clone()), (HASH, json!("no uuid"))] {
        let noted = row(json!({"file_hash": hash, "original_file_id": file, "file_size": 7}));
        let error = registry.note_tool_hash(noted).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{hash} {file}: {error}");
    }
    assert_eq!(manager.list(FileFilter { limit: 10, ..FileFilter::default() }).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_a_copy_is_known_of_the_copy_and_of_its_file() {
    let world = World::new();
    let manager = world.manager(Path::new(":memory:"));
    let record = upload(&manager, request(b"looked at", "a.txt", &["moonshot"])).await.unwrap();
    let registry = manager.registry();
    let of_file = |rows: Vec<ToolRow>| (rows[0]["id"].as_str().unwrap().to_owned(), rows[0].clone());
    let (file_id, _) = of_file(registry.tool_rows("file_uploads", "file_hash", &record.digest.hex()).await.unwrap());
    let (copy, before) = of_file(registry.tool_platforms(&file_id).await.unwrap());
    for status in ["unhealthy", "healthy"] {
        let look = row(json!({"registry_id": copy, "status": status, "response_time_ms": 3}));
        registry.note_tool_health(look).await.unwrap();
        let (_, file) = of_file(registry.tool_rows("file_uploads", "id", &file_id).await.unwrap());
        assert_eq!(file["health_status"], status);
        assert!(!file["last_health_check"].is_null());
    }
    let (_, after) = of_file(registry.tool_platforms(&file_id).await.unwrap());
    let count = |row: &ToolRow| row["verification_count"].as_i64().unwrap();
    assert_eq!(count(&after), count(&before) + 2);
    assert!(after["last_verified"].as_str() > before["last_verified"].as_str());
    assert_eq!(registry.tool_rows("file_health_checks", "registry_id", &copy).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_we_uploaded_the_tool_finds_and_what_it_registers_keeps_its_state() {
    let world = World::new();
    let manager = world.manager(Path::new(":memory:"));
    let record = upload(&manager, request(b"known to both", "a.txt", &["moonshot"])).await.unwrap();
    let registry = manager.registry();
    let uploads = registry.tool_rows("file_uploads", "file_hash", &record.digest.hex()).await.unwrap();
    let file_id = uploads[0]["id"].as_str().unwrap();
    let platforms = registry.tool_platforms(file_id).await.unwrap();
    assert_eq!(platforms.len(), 1);
    assert_eq!(platforms[0]["platform"], "kimi");
    assert_eq!(platforms[0]["platform_file_id"], json!(record.replicas[0].remote_id));

    let own = row(json!({"file_id": OTHER, "platform": "kimi", "platform_file_id": record.replicas[0].remote_id,
                         "platform_metadata": {}, "status": "active"}));
    assert_eq!(json!(registry.add_tool_row("platform_file_registry", own).await.unwrap()), platforms[0]["id"]);
    for id in [OTHER, file_id, &OTHER.to_uppercase().replace('-', "")] {
        let found = registry.tool_platforms(id).await.unwrap();
        assert_eq!(found.len(), 1, "by the tool's id and by ours");
        assert_eq!(found[0]["file_id"], json!(file_id), "which stays");
    }
    let again = row(json!({"file_id": file_id, "platform": "kimi", "platform_file_id": record.replicas[0].remote_id,
                           "platform_metadata": {"seen": true}, "status": "archived"}));
    assert_eq!(json!(registry.add_tool_row("platform_file_registry", again).await.unwrap()), platforms[0]["id"]);
    let known = manager.get(&record.digest.to_string()).await.unwrap();
    assert_eq!(known.replicas.len(), 1, "still ours, and there");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_tool_registers_of_a_known_file_is_a_replica_of_it() {
    let world = World::new();
    let manager = world.manager(Path::new(":memory:"));
    let record = upload(&manager, request(b"known", "a.txt", &["moonshot"])).await.unwrap();
    let registry = manager.registry();
    let uploads = registry.tool_rows("file_uploads", "file_hash", &record.digest.hex()).await.unwrap();
    for id in ["g-1", "g-2"] {
        let of_tool = row(json!({"file_id": uploads[0]["id"], "platform": "glm", "platform_file_id": id,
                                 "platform_metadata": {}, "status": "active"}));
        registry.add_tool_row("platform_file_registry", of_tool).await.unwrap();
    }
    let known = manager.get(&record.digest.to_string()).await.unwrap();
    let on_zai: Vec<_> = known.replicas.iter().filter(|replica| replica.platform.as_str() == "zai").collect();
    assert_eq!(on_zai.len(), 1, "of two copies for no purpose, one");
    assert_eq!(registry.tool_platforms(uploads[0]["id"].as_str().unwrap()).await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_has_each_changed_row_once_and_forgets_no_change() {
    let store = open(&Location::file(Path::new(":memory:")));
    let registry = Registry::new(store.clone(), store.clone(), Arc::new(TestClock::at(NOW)));
    let audit = |operation: &str| row(json!({"operation": operation, "status": "success"}));
    let before = registry.add_tool_row("file_audit_trail", audit("before")).await.unwrap();
    assert_eq!(registry.tool_rows_waiting().await.unwrap(), Waiting::default(), "nothing is mirrored yet");
    registry.mirror_tool_rows().await.unwrap();
    registry.mirror_tool_rows().await.unwrap();
    let after = registry.add_tool_row("file_audit_trail", audit("after")).await.unwrap();
    let set = |id: &str, status: &'static str| {
        let id = id.to_owned();
        let sql = "UPDATE file_audit_trail SET status = ?2 WHERE id = ?1";
        store.write_blocking(move |session| session.execute(sql, bind![&id, status])).unwrap();
    };
    set(&before, "failed");

    let outgoing = registry.outgoing_tool_rows(10, &[]).await.unwrap().unwrap();
    assert_eq!(outgoing.table, "file_audit_trail");
    let ids: Vec<_> = outgoing.rows.iter().map(|row| row.row["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, [after.clone(), before.clone()], "by their last change");
    assert_eq!(outgoing.rows[1].row["status"], "failed");

    // It changes while it is on its way.
    set(&after, "partial");
    registry.tool_rows_arrived(&outgoing.rows).await.unwrap();
    let outgoing = registry.outgoing_tool_rows(10, &[]).await.unwrap().unwrap();
    assert_eq!(outgoing.rows.len(), 1);
    assert_eq!(outgoing.rows[0].row["status"], "partial");
    registry.tool_row_refused(&outgoing.rows[0], "23503 no such file").await.unwrap();
    assert!(registry.outgoing_tool_rows(10, &[]).await.unwrap().is_none());
    assert_eq!(registry.tool_rows_waiting().await.unwrap(), Waiting { rows: 1, refused: 1 });
    assert_eq!(registry.retry_refused_tool_rows().await.unwrap(), 1);
    assert!(registry.outgoing_tool_rows(10, &[]).await.unwrap().is_some());
    store.write_blocking(|session| session.execute("DELETE FROM file_audit_trail", &[])).unwrap();
    let outgoing = registry.outgoing_tool_rows(10, &[]).await.unwrap().unwrap();
    assert!(outgoing.are_gone);
    let ids: BTreeSet<_> = outgoing.rows.iter().map(|row| row.row["id"].as_str().unwrap()).collect();
    assert_eq!(ids, BTreeSet::from([before.as_str(), &after]), "also what is there no more");
    registry.tool_rows_arrived(&outgoing.rows).await.unwrap();
    assert_eq!(registry.tool_rows_waiting().await.unwrap(), Waiting::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_that_the_tool_did_not_say_is_known_once_we_have_the_bytes() {
    let world = World::new();
    let manager = world.manager(Path::new(":memory:"));
    let hash = digest(b"nine bytes").hex();
    let noted = row(json!({"file_hash": hash, "original_file_id": FILE}));
    manager.registry().note_tool_hash(noted).await.unwrap();
    upload(&manager, request(b"nine bytes", "a.txt", &["moonshot"])).await.unwrap();
    assert_eq!(manager.get(&hash).await.unwrap().size, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_referred_to_is_written_first_and_removed_last() {
    let store = open(&Location::file(Path::new(":memory:")));
    let registry = Registry::new(store.clone(), store.clone(), Arc::new(TestClock::at(NOW)));
    registry.mirror_tool_rows().await.unwrap();
    let copy = row(json!({"platform": "kimi", "platform_file_id": "f", "platform_metadata": {}, "status": "active"}));
    let copy = registry.add_tool_row("platform_file_registry", copy).await.unwrap();
    registry.note_tool_health(row(json!({"registry_id": copy, "status": "healthy"}))).await.unwrap();
    let file = row(json!({"file_hash": HASH, "original_file_id": FILE, "file_size": 1}));
    registry.note_tool_hash(file).await.unwrap();
    let sent = async || {
        let mut tables = Vec::new();
        while let Some(outgoing) = registry.outgoing_tool_rows(10, &[]).await.unwrap() {
            registry.tool_rows_arrived(&outgoing.rows).await.unwrap();
            tables.push(outgoing.table);
        }
        tables
    };
    let order = ["file_hashes", "platform_file_registry", "file_health_checks"];
    assert_eq!(sent().await, order);
    for table in order {
        store.write_blocking(move |session| session.execute(&format!("DELETE FROM {table}"), &[])).unwrap();
    }
    assert_eq!(sent().await, order.into_iter().rev().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_mirrors_at_a_time() {
    let store = open(&Location::file(Path::new(":memory:")));
    let clock = Arc::new(TestClock::at(NOW));
    let registry = Registry::new(store.clone(), store.clone(), clock.clone());
    let turn = registry.take_mirror(Duration::from_secs(60)).await.unwrap().unwrap();
    assert!(registry.take_mirror(Duration::from_secs(60)).await.unwrap().is_none());
    turn.end().await.unwrap();
    let turn = registry.take_mirror(Duration::from_secs(60)).await.unwrap().expect("and at once");
    turn.run_out();
    assert!(registry.take_mirror(Duration::from_secs(60)).await.unwrap().is_none(), "what was sent may still arrive");
    clock.advance(Duration::from_secs(61));
    assert!(registry.take_mirror(Duration::from_secs(60)).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_our_own_uploads_write_is_mirrored_too_and_a_server_is_not() {
    let world = World::new();
    let manager = world.manager(Path::new(":memory:"));
    if std::env::var("EXAI_TEST_STORE").as_deref() == Ok("postgres") {
        let refused = manager.registry().mirror_tool_rows().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Config);
        return;
    }
    manager.registry().mirror_tool_rows().await.unwrap();
    upload(&manager, request(b"mirrored", "a.txt", &["moonshot"])).await.unwrap();
    let mut tables = Vec::new();
    while let Some(outgoing) = manager.registry().outgoing_tool_rows(10, &[]).await.unwrap() {
        manager.registry().tool_rows_arrived(&outgoing.rows).await.unwrap();
        tables.push(outgoing.table);
    }
    assert!(tables.contains(&"file_hashes") && tables.contains(&"platform_file_registry"), "{tables:?}");
}

#[test]
fn a_file_of_the_version_before_keeps_every_row_and_its_guard() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.db");
    {
        let connection = rusqlite::Connection::open(&path).unwrap();
        for number in 1..=8 {
            let step = std::fs::read_to_string(format!("src/store/migrations/sqlite/{number:04}.sql")).unwrap();
            connection.execute_batch(&step).unwrap();
        }
        let hex = digest(b"old").hex();
        connection
            .execute_batch(&format!(
                "CREATE TABLE schema_migrations (version INTEGER PRIMARY KEY, name TEXT, checksum TEXT, applied_at INTEGER);
                 INSERT INTO file_uploads (id, filename, file_size, file_hash, created_at)
                 VALUES ('{FILE}', 'old.txt', 3, '{hex}', 1);
                 INSERT INTO file_hashes (id, file_hash, original_file_id, file_size, created_at, updated_at, keep_until)
                 VALUES ('{OTHER}', '{hex}', '{FILE}', 3, 1, 1, 1900000000000000);
                 INSERT INTO platform_file_registry (id, file_id, file_hash, platform, account, purpose, platform_file_id,
                     remote_name, content_kind, file_size, remote_created_at, created_at, updated_at, used_at)
                 VALUES ('{OTHER}', '{FILE}', '{hex}', 'kimi', 'default', 'file-extract', 'f-1', 'old.txt',
                         'extracted-text', 3, 1, 1, 1, 5);"
            ))
            .unwrap();
        for number in 1..=8 {
            let step = std::fs::read_to_string(format!("src/store/migrations/sqlite/{number:04}.sql")).unwrap();
            let checksum = digest(step.as_bytes()).hex();
            let noted = "INSERT INTO schema_migrations VALUES (?1, '', ?2, 1)";
            connection.execute(noted, rusqlite::params![number, checksum]).unwrap();
        }
    }
    let store = Store::open(&Location::file(&path), NOW).unwrap();
    let rows = store
        .read_blocking(|session| {
            session.rows(
                "SELECT r.id, r.used_at, h.keep_until, f.filename FROM platform_file_registry r
                   JOIN file_hashes h ON h.file_hash = r.file_hash JOIN file_uploads f ON f.id = r.file_id",
                bind![],
            )
        })
        .unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].get::<i64>(1).unwrap(), 5);
    assert_eq!(rows[0].get::<i64>(2).unwrap(), 1_900_000_000_000_000);
    drop(store);
    let connection = rusqlite::Connection::open(&path).unwrap();
    let twice = connection.execute_batch(
        "INSERT INTO platform_file_registry (id, file_hash, platform, purpose, platform_file_id, created_at, updated_at)
         SELECT 'x', file_hash, platform, purpose, 'f-2', 1, 1 FROM platform_file_registry",
    );
    assert!(twice.is_err_and(|error| error.to_string().contains("UNIQUE")), "the guard is there");
}
