//! What must hold once a process has died or failed, and another one has recovered. The simulator is the judge.

use std::collections::{BTreeMap, HashSet};
use std::process::{Command, Stdio};
use std::time::Duration;

use exai_files::audit::{AuditKey, VerifyingKey};
use exai_files::manager::Manager;
use exai_files::store::{Location, Store};
use exai_files::upkeep::recover;
use serde_json::{Value, json};

use crate::databases;
use crate::world::{DEADLINE, World, manager_at};

/// Tells this very program, started to run one test that does nothing otherwise, that it is a worker: simulator,
/// registry and more, as JSON.
const WORKER: &str = "EXAI_TEST_WORKER";

/// A process that runs `test` of this program, told where everything is.
pub fn worker(test: &str, world: &World, location: &Location, more: Value) -> Command {
    let registry = match location {
        Location::Sqlite(path) => path.to_str().unwrap().to_owned(),
        Location::Postgres(options) => options.url.expose().to_owned(),
    };
    let urls = world.simulator.urls();
    let told = json!({"moonshot": urls.moonshot, "zai": urls.zai, "registry": registry, "more": more});
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]).env(WORKER, told.to_string()).env("RUST_BACKTRACE", "0");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// What a worker was told; None where this is no worker.
pub struct Told {
    pub moonshot: String,
    pub zai: String,
    pub location: Location,
    pub more: Value,
}

pub fn told() -> Option<Told> {
    let told: Value = serde_json::from_str(&std::env::var(WORKER).ok()?).unwrap();
    let text = |name: &str| told[name].as_str().unwrap().to_owned();
    let location = match text("registry") {
        url if url.starts_with("postgres") => Location::Postgres(databases::options(&url)),
        path => Location::file(path),
    };
    Some(Told { moonshot: text("moonshot"), zai: text("zai"), location, more: told["more"].clone() })
}

/// Whoever held them is dead for certain. Deletes and attempts that were begun are old, too.
pub async fn let_leases_run_out(store: &Store) {
    let long_ago = if store.is_postgres() { "'epoch'" } else { "0" };
    for sql in [
        "UPDATE upload_intents SET lease_until = {} WHERE state = 'sending'",
        "UPDATE platform_file_registry SET updated_at = {} WHERE status IN ('deleting', 'retired')",
        "UPDATE moves SET lease_until = {}",
        "UPDATE recoveries SET next_try_at = {}",
        "UPDATE watch_tasks SET lease_until = {}, due_at = {}",
        "UPDATE holds SET until = {} WHERE kind = 'lease'",
    ] {
        let sql = sql.replace("{}", long_ago);
        store.write(move |session| session.execute(&sql, &[])).await.unwrap();
    }
}

/// Recovers until there is nothing left to be recovered.
pub async fn recover_all(world: &World, store: &Store, location: &Location) -> Manager {
    let urls = world.simulator.urls();
    let manager = manager_at(&urls.moonshot, &urls.zai, databases::open(location));
    recover_with(&manager, store).await;
    manager
}

/// The same, by a client that there is.
pub async fn recover_with(manager: &Manager, store: &Store) {
    let_leases_run_out(store).await;
    let began = std::time::Instant::now();
    while !manager.registry().recoveries().await.unwrap().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", manager.registry().recoveries().await.unwrap());
        recover(manager, DEADLINE).await.unwrap();
        let_leases_run_out(store).await;
    }
    assert!(recover(manager, DEADLINE).await.unwrap().is_empty());
}

/// How many rows fit.
pub async fn count(store: &Store, sql: &'static str) -> u64 {
    store.read(move |session| session.one(sql, &[])?.get(0)).await.unwrap()
}

/// What is bound is there, with its bytes, and nothing else is; each content once; nothing is open; the log is whole and
/// has one record for each coming and going. Gives what is bound: where, as what, and its content's digest.
pub async fn judge(world: &World, store: &Store, manager: &Manager) -> BTreeMap<(String, String), String> {
    let (mut remote, mut names) = (BTreeMap::new(), BTreeMap::new());
    for (platform, stored) in [("moonshot", "kimi"), ("zai", "glm")] {
        for file in world.files(platform) {
            let text = |name: &str| file[name].as_str().unwrap().to_owned();
            names.insert(text("id"), text("filename"));
            remote.insert((stored.to_owned(), text("id")), text("sha256"));
        }
    }
    let bound = "SELECT platform, platform_file_id, file_hash FROM platform_file_registry WHERE status = 'active'";
    let mut held = BTreeMap::new();
    for row in store.read(move |session| session.rows(bound, &[])).await.unwrap() {
        held.insert((row.get::<String>(0).unwrap(), row.get::<String>(1).unwrap()), row.get::<String>(2).unwrap());
    }
    let (bound, there): (HashSet<_>, HashSet<_>) = (held.iter().collect(), remote.iter().collect());
    let dead: Vec<_> = bound.difference(&there).collect();
    let unexplained: Vec<_> = there.difference(&bound).map(|file| (file, &names[&file.0.1])).collect();
    assert!(
        dead.is_empty() && unexplained.is_empty(),
        "bound and not there: {dead:?}; there and not bound: {unexplained:?}"
    );
    let once: HashSet<_> = held.iter().map(|((platform, _), hash)| (platform, hash)).collect();
    assert_eq!(once.len(), held.len(), "each content once");
    assert_eq!(count(store, "SELECT COUNT(*) FROM upload_intents WHERE state = 'sending'").await, 0);
    assert_eq!(count(store, "SELECT COUNT(*) FROM moves").await, 0);
    assert_eq!(count(store, "SELECT COUNT(*) FROM recoveries").await, 0);
    let report = manager.registry().audit().verify(Vec::new(), Some(verifying_key())).await.unwrap();
    assert!(report.is_intact, "{report:?}");
    let came = "SELECT COUNT(*) FROM audit_log WHERE action IN ('upload', 'renew', 'adopt') AND record LIKE '%\"decision\":\"done\"%'";
    let erased = erased_copies(store).await;
    assert_eq!(count(store, came).await, count(store, "SELECT COUNT(*) FROM platform_file_registry").await + erased);
    let went = "SELECT COUNT(*) FROM audit_log WHERE record LIKE '%\"decision\":\"done\"%'
                   AND (action IN ('delete', 'lose', 'expire', 'evict'))";
    let gone = "SELECT COUNT(*) FROM platform_file_registry WHERE status = 'deleted'";
    assert_eq!(count(store, went).await, count(store, gone).await + erased);
    if !store.is_postgres() {
        let whole = store
            .read(|session| session.one("SELECT integrity_check FROM pragma_integrity_check", &[])?.get::<String>(0));
        assert_eq!(whole.await.unwrap(), "ok");
    }
    held
}

/// Copies whose rows went with all else that was known of their files.
async fn erased_copies(store: &Store) -> u64 {
    let sql = "SELECT record FROM audit_log WHERE action = 'erase'";
    let records = store.read(move |session| session.rows(sql, &[])).await.unwrap();
    let copies = records.iter().map(|row| {
        let record: Value = serde_json::from_str(&row.get::<String>(0).unwrap()).unwrap();
        record["copies"].as_str().unwrap().parse::<u64>().unwrap()
    });
    copies.sum()
}

fn verifying_key() -> VerifyingKey {
    AuditKey::from_seed(&[1; 32]).unwrap().verifying()
}
