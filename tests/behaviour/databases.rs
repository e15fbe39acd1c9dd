//! Every kind of database a registry may be in. PostgreSQL and pgbouncer are started by `.ci/with-postgres`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use exai_files::clock::{Clock as _, SystemClock};
use exai_files::model::Secret;
use exai_files::store::{Location, PostgresOptions, Store};

/// The variables that name the servers.
pub const DIRECT: &str = "EXAI_TEST_POSTGRES";
pub const POOLED: &str = "EXAI_TEST_PGBOUNCER";

pub fn options(url: &str) -> PostgresOptions {
    PostgresOptions { url: Secret::new(url), ca_bundle: None, connections: 4, timeout: Duration::from_secs(20) }
}

/// A new, empty database on one of the servers.
pub fn new_database(server: &str) -> PostgresOptions {
    let url = std::env::var(server).expect("run the tests with .ci/with-postgres, as `make test` does");
    let name = format!("test_{:016x}", rand::random::<u64>());
    let maintenance = Store::connect(&Location::Postgres(options(&std::env::var(DIRECT).unwrap()))).unwrap();
    let sql = format!("CREATE DATABASE {name}");
    maintenance.read_blocking(move |session| session.batch(&sql)).unwrap();
    options(&url.replace("/postgres?", &format!("/{name}?")))
}

/// Where a test's registry is: the file it names or, with EXAI_TEST_STORE=postgres, a database in its place, behind the
/// pooler.
pub fn place(path: &Path) -> Location {
    static DATABASES: LazyLock<Mutex<HashMap<PathBuf, Location>>> = LazyLock::new(Mutex::default);
    match std::env::var("EXAI_TEST_STORE").as_deref() {
        Ok("postgres") => {}
        Ok(other) if other != "sqlite" => panic!("EXAI_TEST_STORE can be sqlite or postgres, not {other}"),
        _ => return Location::file(path),
    }
    let make = || Location::Postgres(new_database(POOLED));
    if path == Path::new(":memory:") {
        return make();
    }
    DATABASES.lock().unwrap().entry(path.to_owned()).or_insert_with(make).clone()
}

/// On a thread of its own: what waits for a database would block a runtime.
pub fn open(location: &Location) -> Store {
    std::thread::scope(|scope| scope.spawn(|| Store::open(location, SystemClock.now()).unwrap()).join().unwrap())
}
