//! Databases in which the existing EXAI tool's tables are (dropin_contract.md §4.1–4.3): each ends at our schema, with
//! every row kept and visible, and the tool's own statements go on working.

use std::sync::Arc;

use exai_files::clock::{SystemClock, Timestamp};
use exai_files::error::ErrorKind;
use exai_files::model::PlatformId;
use exai_files::registry::{FileFilter, Registry};
use exai_files::store::{Location, Store, bind};

use crate::databases::{DIRECT, new_database};
use crate::world::{World, request, upload};

const DIGEST: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const FILE: &str = "00000000-0000-4000-8000-000000000001";
const REPLICA: &str = "00000000-0000-4000-8000-000000000002";

/// As one of the tool's documents has it; its migration then adds columns.
const FILE_UPLOADS: &str =
    "CREATE TABLE file_uploads (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id text NOT NULL,
    filename text NOT NULL, file_size int, mime_type text, storage_path text, moonshot_file_id text,
    created_at timestamptz DEFAULT now(), metadata jsonb);";

const FILES: &str =
    "CREATE TABLE files (id uuid PRIMARY KEY, storage_path text UNIQUE NOT NULL, original_name text NOT NULL,
    mime_type text, size_bytes integer, sha256 text, created_at timestamptz DEFAULT now());";

/// The tool's migration, in our words, with `parent` as the table its foreign keys name.
fn migration(parent: &str) -> String {
    let reference = format!("file_id uuid REFERENCES {parent} (id) ON DELETE CASCADE");
    format!(
        "CREATE TABLE file_hashes (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), file_hash varchar(64) NOT NULL UNIQUE,
             original_file_id uuid REFERENCES {parent} (id) ON DELETE CASCADE, file_size bigint NOT NULL,
             content_type varchar(255), duplicate_count int DEFAULT 0,
             created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now());
         CREATE TABLE platform_file_registry (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), {reference},
             platform varchar(50) NOT NULL, platform_file_id varchar(255) NOT NULL, platform_url text,
             platform_metadata jsonb DEFAULT '{{}}', status varchar(50) DEFAULT 'active', last_verified timestamptz,
             verification_count int DEFAULT 0, created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now(),
             UNIQUE (platform, platform_file_id));
         CREATE TABLE file_health_checks (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
             registry_id uuid REFERENCES platform_file_registry (id) ON DELETE CASCADE, status varchar(50) NOT NULL,
             error_message text, error_code varchar(50), response_time_ms int, http_status_code int,
             checked_at timestamptz DEFAULT now());
         CREATE TABLE file_lifecycle_sync (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), {reference},
             platform varchar(50) NOT NULL, local_status varchar(50) NOT NULL, platform_status varchar(50),
             sync_status varchar(50) DEFAULT 'pending', sync_error text, last_sync_at timestamptz DEFAULT now(),
             next_sync_at timestamptz, sync_attempt_count int DEFAULT 0,
             created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now());
         CREATE TABLE file_recovery_attempts (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), {reference},
             operation varchar(100) NOT NULL, platform varchar(50), attempt_number int NOT NULL DEFAULT 1,
             error_message text, error_code varchar(50), recovery_strategy varchar(100),
             status varchar(50) DEFAULT 'pending', next_retry_at timestamptz, retry_delay_ms int,
             created_at timestamptz DEFAULT now(), completed_at timestamptz);
         CREATE TABLE file_audit_trail (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), {reference},
             operation varchar(100) NOT NULL, platform varchar(50), user_id varchar(255), ip_address inet, user_agent text,
             operation_details jsonb DEFAULT '{{}}', status varchar(50) NOT NULL, error_message text,
             error_code varchar(50), duration_ms int, bytes_transferred bigint, created_at timestamptz DEFAULT now());"
    )
}

const ALTERED: &str =
    "ALTER TABLE file_uploads ADD COLUMN file_hash varchar(64), ADD COLUMN is_duplicate boolean DEFAULT false,
    ADD COLUMN original_file_id uuid REFERENCES file_uploads (id) ON DELETE SET NULL,
    ADD COLUMN health_status varchar(50) DEFAULT 'unknown', ADD COLUMN last_health_check timestamptz,
    ADD COLUMN deduplication_checked boolean DEFAULT false;";

/// Rows as the tool writes them, of one file whose parent is in `parent`.
fn rows(parent: &str) -> String {
    let file = match parent {
        "files" => format!(
            "INSERT INTO files (id, storage_path, original_name, mime_type, size_bytes, sha256)
             VALUES ('{FILE}', 'a/b', 'old report.pdf', 'application/pdf', 7, '{DIGEST}');"
        ),
        _ => format!(
            "INSERT INTO file_uploads (id, user_id, filename, file_size, mime_type, file_hash)
             VALUES ('{FILE}', 'system', 'old report.pdf', 7, 'application/pdf', '{DIGEST}');"
        ),
    };
    format!(
        "{file}
         INSERT INTO platform_file_registry (id, file_id, platform, platform_file_id) VALUES ('{REPLICA}', '{FILE}', 'kimi', 'old-1');
         INSERT INTO platform_file_registry (file_id, platform, platform_file_id) VALUES ('{FILE}', 'glm', 'old-2');
         INSERT INTO file_health_checks (registry_id, status, response_time_ms) VALUES ('{REPLICA}', 'healthy', 100);
         INSERT INTO file_lifecycle_sync (file_id, platform, local_status, sync_status) VALUES ('{FILE}', 'kimi', 'active', 'synced');
         INSERT INTO file_recovery_attempts (file_id, operation, platform, attempt_number, status) VALUES ('{FILE}', 'upload', 'kimi', 1, 'success');
         INSERT INTO file_audit_trail (file_id, operation, status) VALUES ('{FILE}', 'upload', 'success');"
    )
}

const TABLES: [&str; 5] = [
    "platform_file_registry",
    "file_health_checks",
    "file_lifecycle_sync",
    "file_recovery_attempts",
    "file_audit_trail",
];

fn count(store: &Store, table: &str) -> i64 {
    let sql = format!("SELECT COUNT(*) FROM {table}");
    store.read_blocking(move |session| session.one(&sql, &[])?.get(0)).unwrap()
}

fn run(store: &Store, sql: String) {
    store.read_blocking(move |session| session.batch(&sql)).unwrap();
}

/// Adopts a database in which `sql` was run.
fn adopted(sql: &[String]) -> (Location, Store) {
    let location = Location::Postgres(new_database(DIRECT));
    let store = Store::connect(&location).unwrap();
    for sql in sql {
        run(&store, sql.clone());
    }
    let before: Vec<i64> =
        TABLES.iter().filter(|table| exists(&store, table)).map(|table| count(&store, table)).collect();
    let plan = store.plan().unwrap();
    assert!(!plan.adopts.is_empty() && plan.steps[0].sql.contains("ADD COLUMN IF NOT EXISTS"));
    let refused = Store::open(&location, Timestamp(1)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Registry);
    assert!(refused.hint().unwrap().contains("db plan"), "{refused}");
    store.migrate(Timestamp(1_800_000_000_000_000), true).unwrap();
    store.migrate(Timestamp(1_800_000_000_000_001), true).unwrap();
    let status = store.status().unwrap();
    assert_eq!((status.version, status.drift.len()), (status.latest, 0), "{status:?}");
    let after: Vec<i64> = TABLES.iter().map(|table| count(&store, table)).filter(|count| *count > 0).collect();
    assert_eq!(before.into_iter().filter(|count| *count > 0).collect::<Vec<_>>(), after, "every row is kept");
    (location, store)
}

fn exists(store: &Store, table: &str) -> bool {
    let table = table.to_owned();
    let found =
        store.read_blocking(move |session| session.row("SELECT 1 WHERE to_regclass(?1) IS NOT NULL", bind![&table]));
    found.unwrap().is_some()
}

/// The old file is found in every way, new ones go in beside it, and the tool writes on as before.
async fn is_whole(location: Location, store: Store) {
    let registry = tokio::task::block_in_place(|| {
        let sources = Store::open(&Location::file(":memory:"), Timestamp(1)).unwrap();
        Registry::new(Store::open(&location, Timestamp(1)).unwrap(), sources, Arc::new(SystemClock))
    });
    let listed = registry.list(FileFilter { limit: 10, ..FileFilter::default() }).await.unwrap();
    assert_eq!(listed.len(), 1);
    for reference in ["old report.pdf", DIGEST, "old-2"] {
        let record = registry.resolve(reference).await.unwrap();
        let replicas: Vec<_> = record.replicas.iter().map(|r| (r.platform.as_str(), r.remote_id.as_str())).collect();
        assert_eq!((record.name.as_str(), record.size), ("old report.pdf", 7));
        assert_eq!(replicas, [("moonshot", "old-1"), ("zai", "old-2")], "{reference}");
    }
    // Its purpose is not known, so it stands in for nothing: what is uploaded is sent.
    let moonshot = Some(PlatformId::new("moonshot").unwrap());
    assert_eq!(
        registry.list(FileFilter { platform: moonshot, limit: 10, ..FileFilter::default() }).await.unwrap().len(),
        1
    );
    tokio::task::block_in_place(|| {
        run(&store, format!("INSERT INTO file_uploads (id, filename) VALUES ('{REPLICA}', 'new of the tool.txt')"));
        run(&store, format!("INSERT INTO platform_file_registry (file_id, platform, platform_file_id, platform_url, platform_metadata, status)
                             VALUES ('{REPLICA}', 'kimi', 'new-1', NULL, '{{}}', 'active')"));
        let hash = DIGEST.replace('a', "b");
        run(
            &store,
            format!(
                "INSERT INTO file_hashes (file_hash, original_file_id, file_size, content_type, duplicate_count)
                             VALUES ('{hash}', '{REPLICA}', 3, NULL, 0)"
            ),
        );
        run(
            &store,
            format!(
                "UPDATE file_uploads SET file_hash = '{hash}', is_duplicate = false, deduplication_checked = true WHERE id = '{REPLICA}'"
            ),
        );
        run(&store, format!("SELECT increment_duplicate_count('{hash}')"));
        let count: i64 = store
            .read_blocking(move |s| {
                s.one("SELECT duplicate_count FROM file_hashes WHERE file_hash = ?1", bind![&hash])?.get(0)
            })
            .unwrap();
        assert_eq!(count, 1);
    });
    assert_eq!(registry.resolve("new of the tool.txt").await.unwrap().replicas[0].remote_id, "new-1");
    tokio::task::block_in_place(|| {
        let audits = count(&store, "file_audit_trail");
        run(&store, format!("DELETE FROM file_uploads WHERE id = '{FILE}'"));
        assert_eq!(count(&store, "file_audit_trail"), audits, "the audit outlives the file");
    });
    registry.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_migration_was_applied_to_file_uploads() {
    let parent = "file_uploads";
    let (location, store) = tokio::task::block_in_place(|| {
        adopted(&[FILE_UPLOADS.into(), migration(parent), ALTERED.into(), rows(parent)])
    });
    is_whole(location, store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_its_foreign_keys_point_to_files() {
    let parent = "files";
    let (location, store) = tokio::task::block_in_place(|| adopted(&[FILES.into(), migration(parent), rows(parent)]));
    is_whole(location, store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_stopped_half_way() {
    let half: String = migration("file_uploads").split_inclusive(';').take(2).collect();
    let sql = format!(
        "INSERT INTO file_uploads (id, user_id, filename, file_size, mime_type) VALUES ('{FILE}', 'system', 'old report.pdf', 7, 'application/pdf');
         INSERT INTO file_hashes (file_hash, original_file_id, file_size, content_type) VALUES ('{DIGEST}', '{FILE}', 7, 'application/pdf');
         INSERT INTO platform_file_registry (file_id, platform, platform_file_id) VALUES ('{FILE}', 'kimi', 'old-1'), ('{FILE}', 'glm', 'old-2');
         ALTER TABLE file_uploads ADD COLUMN file_hash varchar(64);
         UPDATE file_uploads SET file_hash = '{DIGEST}';"
    );
    let (location, store) = tokio::task::block_in_place(|| adopted(&[FILE_UPLOADS.into(), half, sql]));
    is_whole(location, store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_uploads_go_in_beside_the_old_rows() {
    let parent = "file_uploads";
    let (location, store) = tokio::task::block_in_place(|| {
        adopted(&[FILE_UPLOADS.into(), migration(parent), ALTERED.into(), rows(parent)])
    });
    let world = World::new();
    let manager = world.manager_in(&location);
    let record = upload(&manager, request("new", "new.txt", &["moonshot"])).await.unwrap();
    let again = upload(&manager, request("new", "new.txt", &["moonshot"])).await.unwrap();
    assert_eq!(record.replicas[0].remote_id, again.replicas[0].remote_id);
    let kept = tokio::task::block_in_place(|| {
        let sql = "SELECT platform FROM platform_file_registry WHERE platform_file_id = ?1";
        store.read_blocking(move |s| s.one(sql, bind![&record.replicas[0].remote_id])?.get::<String>(0)).unwrap()
    });
    assert_eq!(kept, "kimi", "by the tool's name for it");
    manager.close().await;
}

#[test]
fn a_table_with_other_ids_is_refused_and_left_alone() {
    let location = Location::Postgres(new_database(DIRECT));
    let store = Store::connect(&location).unwrap();
    run(&store, "CREATE TABLE file_uploads (file_id varchar PRIMARY KEY, file_name text)".into());
    let refused = store.migrate(Timestamp(1), true).unwrap_err();
    assert!(refused.message().contains("file_uploads") && refused.message().contains("no id"), "{refused}");
    assert!(!exists(&store, "upload_intents"));
}
