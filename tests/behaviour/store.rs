//! The database layer: one suite for every kind, many writers, nothing half done.

use exai_files::clock::Timestamp;
use exai_files::error::{Error, ErrorKind, Result};
use exai_files::store::{Id, Json, Location, Row, Session, Store, bind};
use serde_json::json;
use tokio::task::JoinSet;

use crate::databases::{DIRECT, POOLED, new_database, open};

async fn conforms(location: &Location) {
    let store = open(location);
    store.write(|s| s.batch("CREATE TABLE counted (n BIGINT PRIMARY KEY)")).await.unwrap();
    a_failed_job_undoes_its_own_writes_only(&store).await;
    values_come_back_as_they_went(&store).await;
    both_understand_the_same(&store).await;
    many_writers_lose_nothing(&store).await;
    store.close();
    let error = store.write(|_| Ok(())).await.unwrap_err();
    assert_eq!((error.kind(), error.hint()), (ErrorKind::Registry, Some("open a new client")));
}

fn insert(session: &mut Session<'_>, number: i64) -> Result<u64> {
    session.execute("INSERT INTO counted VALUES (?1)", bind![number])
}

async fn a_failed_job_undoes_its_own_writes_only(store: &Store) {
    let (good, bad, wrong) = tokio::join!(
        store.write(|s| insert(s, 1)),
        store.write(|s| {
            insert(s, 2)?;
            Err::<(), _>(Error::new(ErrorKind::Conflict, "changed my mind"))
        }),
        store.write(|s| {
            insert(s, 3)?;
            s.execute("INSERT INTO nowhere VALUES (1)", &[])
        }),
    );
    assert_eq!(good.unwrap(), 1);
    assert_eq!(bad.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::Registry);
    let rows = store.read(|s| s.rows("SELECT n FROM counted", &[])).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<i64>(0).unwrap()).collect::<Vec<_>>(), [1]);
}

async fn values_come_back_as_they_went(store: &Store) {
    let (id, at) = ("0192f0c1-2345-7abc-8def-0123456789ab", Timestamp(1_800_000_000_123_456));
    let raw = json!({"name": "会议纪要.txt", "size": 7}).to_string();
    let row: Row = store
        .write(move |s| {
            s.execute(
                "INSERT INTO file_uploads (id, filename, file_size, metadata, file_hash, is_duplicate, original_file_id, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                bind![Id(id), "会议纪要.txt", u64::MAX, Json(&raw), "ab", true, None::<Id<'_>>, at],
            )?;
            s.one("SELECT id, filename, file_size, metadata, is_duplicate, original_file_id, created_at FROM file_uploads", &[])
        })
        .await
        .unwrap();
    assert_eq!(row.get::<String>(0).unwrap(), id);
    assert_eq!(row.get::<String>(1).unwrap(), "会议纪要.txt");
    assert_eq!(row.get::<i64>(2).unwrap(), i64::MAX, "what does not fit is the most there can be");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&row.get::<String>(3).unwrap()).unwrap()["size"], 7);
    assert!(row.get::<bool>(4).unwrap());
    assert_eq!(row.get::<Option<String>>(5).unwrap(), None);
    assert_eq!(row.get::<Timestamp>(6).unwrap(), at);
    assert_eq!(row.get::<bool>(0).unwrap_err().kind(), ErrorKind::Registry);
}

async fn both_understand_the_same(store: &Store) {
    let found =
        store.read(|s| s.one("SELECT strpos(lower(?1), lower(?2)), strpos(?1, 'x')", bind!["MÜLLER-Ωmega", "ÜLLER-ω"]));
    let found = found.await.unwrap();
    assert_eq!((found.get::<i64>(0).unwrap(), found.get::<i64>(1).unwrap()), (2, 0));
    let nul = json!({"name": "a\0b"}).to_string();
    let kept = store.write(move |s| {
        s.execute(
            "INSERT INTO file_uploads (id, filename, file_size, metadata, file_hash, created_at) VALUES (?1, ?2, 1, ?3, 'cd', ?4)",
            bind![Id("0192f0c1-2345-7abc-8def-0123456789ac"), "a\0b", Json(&nul), Timestamp(1)],
        )?;
        s.row("SELECT 1 FROM file_uploads WHERE filename = ?1", bind!["a\0b"])
    });
    assert!(kept.await.unwrap().is_some(), "what holds a NUL is kept, and found");
}

async fn many_writers_lose_nothing(store: &Store) {
    let mut writing = JoinSet::new();
    for number in 100..200 {
        let store = store.clone();
        writing.spawn(async move {
            store
                .write(move |s| {
                    s.lock("the sum")?;
                    let sum: i64 = s.one("SELECT CAST(SUM(n) AS BIGINT) FROM counted", &[])?.get(0)?;
                    insert(s, number)?;
                    Ok(sum)
                })
                .await
                .unwrap()
        });
    }
    let mut seen = writing.join_all().await;
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 100, "each saw what the one before it wrote");
}

#[tokio::test]
async fn an_sqlite_file_conforms() {
    let directory = tempfile::tempdir().unwrap();
    conforms(&Location::file(directory.path().join("r.db"))).await;
}

#[tokio::test]
async fn sqlite_in_memory_conforms() {
    conforms(&Location::file(":memory:")).await;
}

#[tokio::test]
async fn postgresql_conforms() {
    conforms(&Location::Postgres(new_database(DIRECT))).await;
}

#[tokio::test]
async fn postgresql_behind_a_pooler_conforms() {
    conforms(&Location::Postgres(new_database(POOLED))).await;
}

#[tokio::test]
async fn two_connections_see_each_others_commits_and_migrate_once() {
    let directory = tempfile::tempdir().unwrap();
    let location = Location::file(directory.path().join("r.db"));
    let (one, two) = (open(&location), open(&location));
    one.write(|s| s.batch("CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (7)")).await.unwrap();
    let seen: i64 = two.read(|s| s.one("SELECT n FROM t", &[])?.get(0)).await.unwrap();
    let twice = "SELECT COUNT(*) - MAX(version) FROM schema_migrations";
    let twice: i64 = two.read(move |s| s.one(twice, &[])?.get(0)).await.unwrap();
    assert_eq!((seen, twice), (7, 0));
}

fn opened_by_many(location: &Location) {
    let all_at_once = std::sync::Barrier::new(8);
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                all_at_once.wait();
                open(location);
            });
        }
    });
}

#[test]
fn many_may_create_one_database_at_the_same_time() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..20 {
        opened_by_many(&Location::file(directory.path().join(format!("{round}.db"))));
    }
    for server in [DIRECT, POOLED] {
        opened_by_many(&Location::Postgres(new_database(server)));
    }
}

#[test]
fn what_is_no_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notes.txt");
    std::fs::write(&path, "this is no database, but long enough to have a header of its own").unwrap();
    let error = Store::open(&Location::file(path), Timestamp(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Registry);
    assert!(error.to_string().contains("registry.path"), "{error}");
}

#[tokio::test]
async fn a_registry_of_a_newer_version_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = Location::file(directory.path().join("r.db"));
    for (location, journal) in
        [(file, "schema_migrations"), (Location::Postgres(new_database(DIRECT)), "exai_files_migrations")]
    {
        let store = open(&location);
        let sql = format!("INSERT INTO {journal} (version, name, checksum, applied_at) VALUES (99, 'later', 'x', ?1)");
        store.write(move |s| s.execute(&sql, bind![Timestamp(1)])).await.unwrap();
        store.close();
        let error = Store::open(&location, Timestamp(1)).unwrap_err();
        assert!(error.to_string().contains("newer"), "{error}");
    }
}
