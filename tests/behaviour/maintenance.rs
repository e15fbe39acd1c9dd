//! Old history goes, months have partitions, and nothing else is touched.

use std::time::Duration;

use exai_files::clock::Timestamp;
use exai_files::store::{Location, Session, Store};

use crate::databases::{DIRECT, POOLED, new_database, open};

/// 2026-11-25.
const NOW: Timestamp = Timestamp(1_795_564_800_000_000);
const DAY: Duration = Duration::from_secs(86_400);

fn job<T: Send + 'static>(
    store: &Store,
    job: impl FnOnce(&mut Session<'_>) -> exai_files::error::Result<T> + Send + 'static,
) -> T {
    store.read_blocking(job).unwrap()
}

fn count(store: &Store, what: &str) -> i64 {
    let sql = format!("SELECT COUNT(*) FROM {what}");
    job(store, move |session| session.one(&sql, &[])?.get(0))
}

/// So many closed and one open intent, each older than the one before by a day.
fn add_intents(store: &Store, closed: i64) {
    for number in 0..=closed {
        let at = NOW.minus(DAY * u32::try_from(number).unwrap());
        let (state, id) =
            (if number == closed { "sending" } else { "bound" }, format!("00000000-0000-4000-8000-{number:012}"));
        job(store, move |session| {
            session.execute(
                "INSERT INTO upload_intents (id, file_hash, platform, account, purpose, state, owner, fence, lease_until,
                     attempt, remote_name, file_size, first_sent_at, last_sent_at, created_at, updated_at)
                 VALUES (?1, 'a', 'kimi', 'default', 'p', ?2, 'o', 1, ?3, 1, 'n', 1, ?3, ?3, ?3, ?3)",
                exai_files::store::bind![exai_files::store::Id(&id), state, at],
            )
        });
    }
}

fn keeps_what_is_young_or_open(location: &Location) {
    let store = open(location);
    add_intents(&store, 100);
    let planned = store.maintain(NOW, DAY * 30, true).unwrap();
    assert_eq!((planned.removed["upload_intents"], count(&store, "upload_intents")), (69, 101));
    let done = store.maintain(NOW, DAY * 30, false).unwrap();
    assert_eq!((done.removed["upload_intents"], count(&store, "upload_intents")), (69, 32));
    assert_eq!(count(&store, "upload_intents WHERE state = 'sending'"), 1, "whatever its age");
    assert_eq!(store.maintain(NOW, DAY * 30, false).unwrap().removed["upload_intents"], 0);
}

#[test]
fn only_history_that_is_old_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    keeps_what_is_young_or_open(&Location::Postgres(new_database(POOLED)));
    let location = Location::file(directory.path().join("r.db"));
    let store = open(&location);
    fill(&directory.path().join("r.db"));
    let done = store.maintain(NOW, DAY * 30, false).unwrap();
    assert_eq!((done.removed["upload_intents"], count(&store, "upload_intents")), (50_000, 1));
    assert!(done.size_after < done.size_before / 2, "{done:?}");
}

/// 50,000 old intents and a new one, written by another program.
fn fill(path: &std::path::Path) {
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
         INSERT INTO upload_intents (id, file_hash, platform, account, purpose, state, owner, fence, lease_until, attempt,
                remote_name, file_size, first_sent_at, last_sent_at, error, created_at, updated_at)
         SELECT printf('%036d', i), 'a', 'kimi', 'default', 'p', 'bound', 'o', 1, 1, 1, 'n', 1, 1, 1,
                NULL, 1, CASE i WHEN 0 THEN {} ELSE 1 END FROM n;",
        NOW.0
    );
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.execute_batch(&sql).unwrap();
}

const CHECKS: &str = "INSERT INTO file_health_checks (status, checked_at)
     SELECT 'healthy', timestamptz '2026-11-25Z' - d * interval '1 day' FROM generate_series(0, 399) d";
const TRAIL: &str = "INSERT INTO file_audit_trail (operation, status, ip_address, created_at)
     SELECT 'upload', 'success', '10.0.0.1', timestamptz '2026-11-25Z' - d * interval '1 day' FROM generate_series(0, 399) d";
const PARTS: &str = "pg_inherits WHERE inhparent = 'file_health_checks'::regclass";

#[test]
fn health_history_and_audit_trail_are_in_months_and_only_the_first_is_dropped() {
    let store = open(&Location::Postgres(new_database(DIRECT)));
    assert!(count(&store, PARTS) >= 3, "the default, this month and the next");
    job(&store, |session| session.batch(CHECKS));
    job(&store, |session| session.batch(TRAIL));
    let done = store.maintain(NOW, DAY * 500, false).unwrap();
    assert_eq!(done.partitions_dropped, 0);
    assert!(count(&store, PARTS) >= 16, "14 months with rows, the next one, and the default");
    assert_eq!((count(&store, "file_health_checks"), count(&store, "file_audit_trail")), (400, 400));
    assert_eq!(count(&store, "file_health_checks_default"), 0, "each row is in its month");
    assert_eq!(count(&store, "file_health_checks_2026_02"), 28);
    let done = store.maintain(NOW, DAY * 90, false).unwrap();
    assert!(done.partitions_dropped >= 10, "{done:?}");
    assert_eq!((count(&store, "file_health_checks"), count(&store, "file_audit_trail")), (91, 400));
    assert_eq!(store.maintain(NOW, DAY * 90, false).unwrap().partitions_made, 0);
}

const OF_THE_TOOL: &str = "CREATE TABLE file_uploads (id uuid PRIMARY KEY);
    CREATE TABLE file_health_checks (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), registry_id uuid,
        status varchar(50) NOT NULL, error_message text, error_code varchar(50), response_time_ms int,
        http_status_code int, checked_at timestamptz DEFAULT now());
    CREATE INDEX idx_health_status ON file_health_checks (status);
    INSERT INTO file_health_checks (status) SELECT 'healthy' FROM generate_series(1, 7);";

#[test]
fn a_table_of_the_tools_keeps_its_rows_indexes_and_grants_and_one_with_policies_stays_as_it_is() {
    for (more, kind) in [
        ("GRANT SELECT ON file_health_checks TO PUBLIC;", "p"),
        ("ALTER TABLE file_health_checks ENABLE ROW LEVEL SECURITY;", "r"),
        ("CREATE VIEW v AS SELECT * FROM file_health_checks;", "r"),
    ] {
        let location = Location::Postgres(new_database(DIRECT));
        let store = Store::connect(&location).unwrap();
        let sql = format!("{OF_THE_TOOL}{more}");
        job(&store, move |session| session.batch(&sql));
        store.migrate(NOW, true).unwrap();
        store.migrate(NOW, true).unwrap();
        assert_eq!(count(&store, "file_health_checks"), 7);
        let kind_now: String = job(&store, |session| {
            session.one("SELECT relkind::text FROM pg_class WHERE oid = 'file_health_checks'::regclass", &[])?.get(0)
        });
        assert_eq!(kind_now, kind, "{more}");
        assert_eq!(count(&store, "pg_indexes WHERE indexname = 'idx_health_status'"), 1);
        if more.starts_with("GRANT") {
            let granted =
                "information_schema.role_table_grants WHERE table_name = 'file_health_checks' AND grantee = 'PUBLIC'";
            assert_eq!(count(&store, granted), 1);
        }
        job(&store, |session| session.batch("INSERT INTO file_health_checks (status) VALUES ('healthy')"));
        store.maintain(NOW, DAY, false).unwrap();
    }
}
