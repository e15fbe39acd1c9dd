//! The database layer: many writers, one file, nothing half done.

use std::path::Path;

use exai_files::clock::Timestamp;
use exai_files::error::{Error, ErrorKind};
use exai_files::store::Store;

fn open(path: &Path) -> Store {
    Store::open(path, Timestamp(1)).unwrap()
}

#[tokio::test]
async fn a_failed_job_undoes_its_own_writes_only() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("r.db"));
    store.write(|c| Ok(c.execute_batch("CREATE TABLE t (n INTEGER)")?)).await.unwrap();
    let (good, bad) = tokio::join!(
        store.write(|c| Ok(c.execute("INSERT INTO t VALUES (1)", [])?)),
        store.write(|c| {
            c.execute("INSERT INTO t VALUES (2)", [])?;
            Err::<(), _>(Error::new(ErrorKind::Conflict, "changed my mind"))
        }),
    );
    assert_eq!(good.unwrap(), 1);
    assert_eq!(bad.unwrap_err().kind(), ErrorKind::Conflict);
    let rows: i64 = store.read(|c| Ok(c.query_row("SELECT SUM(n) FROM t", [], |row| row.get(0))?)).await.unwrap();
    assert_eq!(rows, 1);
}

#[tokio::test]
async fn two_connections_see_each_others_commits_and_migrate_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("r.db");
    let (one, two) = (open(&path), open(&path));
    one.write(|c| Ok(c.execute_batch("CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (7)")?)).await.unwrap();
    let seen: i64 = two.read(|c| Ok(c.query_row("SELECT n FROM t", [], |row| row.get(0))?)).await.unwrap();
    let steps: i64 =
        two.read(|c| Ok(c.query_row("SELECT COUNT(*) FROM schema_migrations", [], |row| row.get(0))?)).await.unwrap();
    assert_eq!((seen, steps), (7, 2));
}

#[test]
fn many_may_create_one_database_at_the_same_time() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let path = directory.path().join(format!("{round}.db"));
        let all_at_once = std::sync::Barrier::new(8);
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| {
                    all_at_once.wait();
                    open(&path);
                });
            }
        });
    }
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let store = open(Path::new(":memory:"));
    store.close();
    let error = store.write(|_| Ok(())).await.unwrap_err();
    assert_eq!((error.kind(), error.hint()), (ErrorKind::Registry, Some("open a new client")));
}

#[test]
fn what_is_no_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notes.txt");
    std::fs::write(&path, "this is no database, but long enough to have a header of its own").unwrap();
    let error = Store::open(&path, Timestamp(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Registry);
    assert!(error.to_string().contains("registry.path"), "{error}");
}

#[tokio::test]
async fn a_registry_of_a_newer_version_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("r.db");
    open(&path)
        .write(|c| Ok(c.execute_batch("INSERT INTO schema_migrations VALUES (99, 'later', 'x', 1)")?))
        .await
        .unwrap();
    let error = Store::open(&path, Timestamp(1)).unwrap_err();
    assert!(error.to_string().contains("newer"), "{error}");
}
