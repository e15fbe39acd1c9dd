//! Every failpoint, with the process killed, a panic or an error there: afterwards all is as if it had not happened, or
//! as if it had gone on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use exai_files::audit::{AuditKey, AuditOptions};
use exai_files::blobs::{self, Blobs};
use exai_files::clock::{Clock as _, SystemClock, Timestamp};
use exai_files::manager::{Connection, EnsureRequest, Manager, Transfers, UploadRequest};
use exai_files::model::{AccountId, FileRecord, HoldKind, Identity, Keep, PlatformId, Purpose};
use exai_files::registry::{Claim, Labels, NewIntent, Placement};
use exai_files::store::{Location, Store, bind};
use exai_files::upkeep::{
    OnlyLocal, OnlyRemote, ReconcileRequest, Watch, WatchRequest, check_copies, collect_copies, find_recovery,
    reconcile, recover,
};
use serde_json::json;
use sha2::Digest as _;

use crate::aftermath::{self, Told, judge, let_leases_run_out, recover_all};
use crate::databases::{self, POOLED, new_database};
use crate::world::{DEADLINE, World, client_of, connection_at, manager_at, request, upload};

const WAYS: [&str; 3] = ["kill", "panic", "error"];

/// What a process does that comes by every failpoint.
struct Script {
    manager: Manager,
    /// Of another tool that uses the same account.
    stranger: Manager,
    zai: Connection,
    store: Store,
    folder: PathBuf,
    run: String,
}

fn platform(name: &str) -> PlatformId {
    PlatformId::new(name).unwrap()
}

impl Script {
    fn new(told: &Told) -> Self {
        let folder = PathBuf::from(told.more["folder"].as_str().unwrap());
        let store = databases::open(&told.location);
        let audit = AuditOptions {
            key: Some(AuditKey::from_seed(&[1; 32]).unwrap()),
            checkpoint_file: Some(folder.join("checkpoints")),
            ..AuditOptions::default()
        };
        let copies = Blobs::open(&blobs::Place::Folder(folder.join("copies"))).unwrap();
        Script {
            manager: client_of(&told.moonshot, &told.zai, store.clone(), audit).with_copies(copies),
            stranger: manager_at(&told.moonshot, &told.zai, databases::open(&Location::file(":memory:"))),
            zai: connection_at("zai", &told.zai),
            store,
            folder,
            run: told.more["run"].as_str().unwrap().to_owned(),
        }
    }

    fn name(&self, what: &str) -> String {
        format!("{what}-{}.txt", self.run)
    }

    fn bytes(&self, what: &str) -> String {
        format!("the {what} of run {}", self.run)
    }

    async fn put(&self, what: &str, to: &[&str]) -> exai_files::error::Result<FileRecord> {
        upload(&self.manager, request(self.bytes(what), &self.name(what), to)).await
    }

    async fn sql(&self, sql: &'static str, name: String) {
        let _ = self.store.write(move |session| session.execute(sql, bind![&name])).await;
    }

    /// What a process that died left of an upload.
    async fn leave_behind(&self, what: &str) {
        let bytes = self.bytes(what);
        let new = NewIntent {
            placement: Placement {
                digest: exai_files::model::Digest(sha2::Sha256::digest(&bytes).into()),
                platform: platform("moonshot"),
                account: AccountId::new("default"),
                purpose: Purpose::new("file-extract"),
            },
            name: self.name(what),
            remote_name: self.name(what),
            size: bytes.len() as u64,
            mime: "text/plain".into(),
            owner: None,
            needed_until: None,
            keep: Keep::AsItIs,
        };
        if let Ok(Claim::Ours(claim)) = self.manager.registry().intend(new, Vec::new()).await {
            let _ = self.manager.registry().sending(&claim).await;
            std::mem::forget(claim);
        }
        let_leases_run_out(&self.store).await;
    }

    /// One step after the other; what fails fails, and the next ones go on.
    async fn run(self: Arc<Self>) {
        macro_rules! step {
            ($script:ident, $work:expr) => {{
                let $script = self.clone();
                let _ = tokio::spawn(async move {
                    let _done = $work;
                })
                .await;
            }};
        }
        step!(s, AuditKey::load_or_make(&s.folder.join(format!("key-{}", s.run))));
        step!(s, s.put("file", &["moonshot", "zai"]).await);
        step!(s, s.renew().await);
        step!(s, s.move_about().await);
        step!(s, s.hold().await);
        step!(s, s.label().await);
        step!(s, s.read().await);
        step!(s, s.manager.delete(&s.name("file"), Some(&platform("moonshot")), DEADLINE).await);
        step!(s, s.recover().await);
        step!(s, s.adopt().await);
        step!(s, s.watch().await);
        step!(s, s.keep_copies().await);
        step!(s, s.keep_the_log().await);
        step!(s, s.register().await);
    }

    async fn renew(&self) {
        let soon = SystemClock.now().plus(Duration::from_secs(60));
        let name = self.name("file");
        let sql = "UPDATE platform_file_registry SET expires_at = ?2 WHERE platform = 'glm' AND remote_name = ?1";
        let _ = self.store.write(move |session| session.execute(sql, bind![&name, soon])).await;
        let _ = self.manager.ensure(&self.name("file"), ensure_on("zai"), &Transfers::default()).await;
    }

    async fn move_about(&self) {
        let _ = self.put("moved", &["moonshot"]).await;
        let (name, there) = (self.name("moved"), platform("moonshot"));
        let _ = self.manager.relocate(&name, &there, ensure_on("zai"), &Transfers::default()).await;
        // And back, but the process dies before it begins.
        if let Ok(record) = self.manager.get(&name).await
            && let Some(replica) = record.replicas.first()
            && let Ok(held) = self.manager.registry().begin_move(&record.digest, replica, &there, None).await
        {
            let _ = held.renew().await;
            std::mem::forget(held);
            let_leases_run_out(&self.store).await;
            let _ = recover(&self.manager, DEADLINE).await;
        }
    }

    async fn hold(&self) {
        let life = Duration::from_secs(60);
        let leased = self.manager.lease(&self.name("file"), ensure_on("zai"), life, &Transfers::default()).await;
        if let Ok((_, lease)) = leased {
            let _ = self.manager.extend_lease(&lease.id, life).await;
            let _ = self.manager.registry().release(&lease.id).await;
        }
        if let Ok(pin) = self.manager.hold(&self.name("file"), HoldKind::Pin, None).await {
            let _ = self.manager.registry().release(&pin.id).await;
        }
    }

    async fn label(&self) {
        let labels = Labels { tags: vec!["failpoint".into()], ..Labels::default() };
        let _ = self.manager.label(&self.name("file"), labels).await;
        let _ = self.manager.trash(&self.name("file")).await;
        let _ = self.manager.restore(&self.name("file")).await;
    }

    async fn read(&self) {
        let _ = self.manager.text(&self.name("file"), Some(&platform("moonshot")), DEADLINE).await;
        let to = self.folder.join(format!("download-{}", self.run));
        let _ = self.manager.download(&self.name("file"), &to, Some(&platform("moonshot")), DEADLINE).await;
    }

    async fn recover(&self) {
        self.leave_behind("left").await;
        let _ = recover(&self.manager, DEADLINE).await;
        // Another one is taken up again, and then given up for good.
        self.leave_behind("abandoned").await;
        let digest = exai_files::model::Digest(sha2::Sha256::digest(self.bytes("abandoned")).into());
        if let Ok(recovery) = find_recovery(&self.manager, &digest.hex()).await {
            let _ = self.manager.registry().retry_recovery(&recovery).await;
            let _ = self.manager.registry().abandon_recovery(&recovery).await;
        }
        let _ = self.put("doomed", &["moonshot"]).await;
        if let Ok(record) = self.manager.get(&self.name("doomed")).await {
            let accounts = vec![(platform("moonshot"), AccountId::new("default"))];
            let _ = self.manager.registry().begin_delete(&record.digest, None, accounts, None).await;
            let_leases_run_out(&self.store).await;
            let _ = recover(&self.manager, DEADLINE).await;
        }
    }

    async fn adopt(&self) {
        let line = format!("{{\"run\": {:?}}}\n", self.run);
        let batch = request(line, &format!("foreign-{}.jsonl", self.run), &["moonshot"]);
        let _ = upload(&self.stranger, UploadRequest { purpose: Some("batch".into()), ..batch }).await;
        let _ = reconcile_all(&self.manager).await;
    }

    async fn watch(&self) {
        if self.put("lost", &["zai"]).await.is_ok()
            && let Ok(record) = self.manager.get(&self.name("lost")).await
            && let Some(replica) = record.replicas.first()
        {
            let _ = self.zai.platform.delete(&replica.remote_id, tokio::time::Instant::now() + DEADLINE).await;
            // What is new may be missing from a listing, and is not taken for lost.
            let (hex, long_ago) = (record.digest.hex(), Timestamp(1));
            let sql = "UPDATE platform_file_registry SET updated_at = ?2, remote_created_at = ?2 WHERE file_hash = ?1";
            let _ = self.store.write(move |session| session.execute(sql, bind![&hex, long_ago])).await;
        }
        let_leases_run_out(&self.store).await;
        let mut watch = Watch::new(WatchRequest { heal: true, ..WatchRequest::default() });
        let _ = watch.pass(&self.manager, DEADLINE).await;
    }

    async fn keep_copies(&self) {
        let copy = |hex: &str| self.folder.join("copies/sha256").join(&hex[..2]).join(hex);
        let hex = |what: &str| exai_files::model::Digest(sha2::Sha256::digest(self.bytes(what)).into()).hex();
        let _ = std::fs::write(copy(&hex("file")), "damaged");
        let _ = check_copies(&self.manager, 1.0, DEADLINE).await;
        if let Ok(file) = std::fs::File::options().append(true).open(copy(&hex("file"))) {
            let _ = file.set_modified(std::time::SystemTime::now() - Duration::from_secs(7_200));
        }
        let _ = collect_copies(&self.manager, false).await;
    }

    async fn keep_the_log(&self) {
        let log = self.manager.registry().audit();
        let _ = log.checkpoint().await;
        let _ = log.export(&self.folder.join(format!("export-{}", self.run))).await;
    }

    async fn register(&self) {
        let bytes = self.bytes("registered");
        let digest = exai_files::model::Digest(sha2::Sha256::digest(&bytes).into());
        let identity = Identity { digest, size: bytes.len() as u64, mime: "text/plain".into() };
        let record = FileRecord::new(identity, self.name("registered"), Timestamp(0));
        let _ = self.manager.registry().register(vec![record]).await;
        self.sql("UPDATE file_hashes SET trashed_at = NULL WHERE file_hash = ?1", digest.hex()).await;
    }
}

fn ensure_on(name: &str) -> EnsureRequest {
    EnsureRequest { min_ttl: Duration::from_secs(3_600), ..EnsureRequest::new(platform(name), DEADLINE) }
}

/// What the stranger has put there is adopted, and what it has deleted is noted.
async fn reconcile_all(manager: &Manager) -> exai_files::error::Result<()> {
    let request = ReconcileRequest {
        only_remote: OnlyRemote::Adopt,
        only_local: OnlyLocal::Forget,
        ..ReconcileRequest::default()
    };
    reconcile(manager, &request, DEADLINE).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn worker() {
    let Some(told) = aftermath::told() else { return };
    let script = Arc::new(Script::new(&told));
    script.clone().run().await;
    script.put("last", &["moonshot", "zai"]).await.expect("it is as usable as before");
    println!("usable");
}

/// Points that share a simulator and a registry: judging them takes longer the more there were.
const TOGETHER: usize = 8;

/// Such places at a time: each mostly waits.
const AT_ONCE: usize = 3;

async fn survives_all(location_in: fn(&Path) -> Location) {
    let points = all_points(location_in);
    println!("{} failpoints: {points:?}", points.len());
    assert!(points.len() >= 40);
    let places: Vec<_> = points.chunks(TOGETHER).map(<[_]>::to_vec).collect();
    let share = |of: usize| places.iter().skip(of).step_by(AT_ONCE).cloned().collect::<Vec<_>>();
    let workers: Vec<_> = (0..AT_ONCE).map(|of| tokio::spawn(survive(location_in, share(of)))).collect();
    for worker in workers {
        worker.await.unwrap();
    }
}

async fn survive(location_in: fn(&Path) -> Location, places: Vec<Vec<String>>) {
    for points in places {
        let place = Place::new(location_in);
        for point in points {
            for way in WAYS {
                place.survives(&point, way).await;
            }
        }
    }
}

fn all_points(location_in: fn(&Path) -> Location) -> Vec<String> {
    let (points, is_usable) = Place::new(location_in).run_worker("trace", "trace");
    assert!(is_usable, "{points:?}");
    points.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

/// A simulator, a registry and a folder.
struct Place {
    world: World,
    folder: tempfile::TempDir,
    location: Location,
    store: Store,
}

impl Place {
    fn new(location_in: fn(&Path) -> Location) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = location_in(folder.path());
        let world = World::with(json!({"moonshot": {"max_files": 100_000}, "zai": {"max_files": 100_000}}));
        Place { world, store: databases::open(&location), folder, location }
    }

    /// Runs the script in a process of its own; says by which failpoints it came, and whether it ended well.
    fn run_worker(&self, set: &str, run: &str) -> (Vec<String>, bool) {
        let more = json!({"folder": self.folder.path(), "run": run});
        let mut command = aftermath::worker("failpoints::worker", &self.world, &self.location, more);
        command.env("EXAI_FAILPOINT", set).stderr(Stdio::piped()).stdout(Stdio::piped());
        let ended = tokio::task::block_in_place(|| command.output().unwrap());
        let said = String::from_utf8_lossy(&ended.stderr);
        let points = said.lines().filter_map(|line| line.strip_prefix("failpoint ")).map(str::to_owned).collect();
        (points, String::from_utf8_lossy(&ended.stdout).contains("usable"))
    }

    async fn survives(&self, point: &str, way: &str) {
        let what = format!("{point}={way}");
        println!("{what}");
        let run = format!("{}-{way}", point.replace('/', "-"));
        let (come_by, is_usable) = self.run_worker(&what, &run);
        assert!(come_by.iter().any(|name| name == point), "{what} was not come by");
        assert_eq!(is_usable, way != "kill", "{what}");
        let manager = recover_all(&self.world, &self.store, &self.location).await;
        reconcile_all(&manager).await.unwrap();
        judge(&self.world, &self.store, &manager).await;
        write_again(&manager, self.folder.path(), &run).await;
    }
}

/// What is written to the same place takes over what was left there.
async fn write_again(manager: &Manager, folder: &Path, run: &str) {
    let file = request(format!("the file of run {run}"), "again.txt", &["moonshot", "zai"]);
    let record = upload(manager, file).await.unwrap();
    assert_eq!(record.replicas.len(), 2);
    let (digest, to) = (record.digest.to_string(), folder.join(format!("download-{run}")));
    manager.download(&digest, &to, Some(&platform("moonshot")), DEADLINE).await.unwrap();
    manager.registry().audit().export(&folder.join(format!("export-{run}"))).await.unwrap();
    AuditKey::load_or_make(&folder.join(format!("key-{run}"))).unwrap();
    assert_eq!(strays(folder), Vec::<String>::new());
}

/// Files that nobody asked for.
fn strays(folder: &Path) -> Vec<String> {
    let named = |path: PathBuf| path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
    let all = walk(folder).into_iter().map(named);
    let wanted = |name: &String| {
        ["r.db", "checkpoints", "key-", "download-", "export-"].iter().any(|start| name.starts_with(start))
            || name.starts_with("copies/") && name.rsplit('/').next().is_some_and(|name| name.len() == 64)
    };
    all.filter(|name| !wanted(name)).collect()
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn at_every_failpoint_it_may_die_panic_or_fail() {
    survives_all(|folder| Location::file(folder.join("r.db"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgresql_too() {
    survives_all(|_| Location::Postgres(new_database(POOLED))).await;
}
