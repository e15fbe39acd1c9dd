//! A PostgreSQL that is stopped, hangs, is full, empty or says no; and commits whose answer is lost.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use exai_files::clock::{Clock as _, SystemClock};
use exai_files::error::{Error, ErrorKind};
use exai_files::model::Secret;
use exai_files::store::{Location, PostgresOptions, Session, Store, bind};

use crate::databases::{self, DIRECT, new_database, open};

const TIMEOUT: Duration = Duration::from_secs(2);

fn impatient(url: &str) -> PostgresOptions {
    PostgresOptions { timeout: TIMEOUT, connections: 2, ..databases::options(url) }
}

/// A server of one test's own.
struct Server {
    home: tempfile::TempDir,
    url: String,
}

impl Server {
    fn start_in(home: tempfile::TempDir) -> Self {
        let url = script("start", home.path());
        Server { home, url }
    }

    fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    fn stop(&self) {
        script("stop", self.home.path());
    }

    fn start_again(&self) {
        script("start", self.home.path());
    }

    /// `STOP` hangs it with all its processes, `CONT` lets them go on.
    fn signal(&self, name: &str) {
        let pids = std::fs::read_to_string(self.home.path().join("data/postmaster.pid")).unwrap();
        let pid = pids.lines().next().unwrap();
        for words in [["pkill", &format!("-{name}"), "-P", pid].as_slice(), &["kill", &format!("-{name}"), pid]] {
            assert!(Command::new(words[0]).args(&words[1..]).status().unwrap().success());
        }
    }

    fn store(&self) -> Store {
        let store = databases::open(&Location::Postgres(impatient(&self.url)));
        store.read_blocking(|s| s.batch("CREATE TABLE IF NOT EXISTS counted (n bigint PRIMARY KEY)")).unwrap();
        store
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The first URL that it prints.
fn script(command: &str, home: &Path) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/.ci/postgres");
    let output = Command::new(script).arg(command).arg(home).output().unwrap();
    assert!(output.status.success() || command == "stop", "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned()
}

async fn insert(store: &Store, number: i64) -> Result<u64, Error> {
    store.write(move |s| s.execute("INSERT INTO counted VALUES (?1)", bind![number])).await
}

async fn is_there(store: &Store, number: i64) -> bool {
    let found = store.read(move |s| s.row("SELECT 1 FROM counted WHERE n = ?1", bind![number])).await;
    found.unwrap().is_some()
}

/// A typed error, with something to do about it, and soon.
async fn refused(store: &Store, number: i64) -> Error {
    let begun = Instant::now();
    let error = insert(store, number).await.unwrap_err();
    assert!(begun.elapsed() < 3 * TIMEOUT, "after {:?}", begun.elapsed());
    assert_eq!(error.kind(), ErrorKind::Registry);
    assert!(error.hint().is_some(), "{error}");
    error
}

async fn back_within_five_seconds(store: &Store, number: i64) {
    let begun = Instant::now();
    while let Err(error) = insert(store, number).await {
        assert!(begun.elapsed() < Duration::from_secs(5), "after {:?}: {error}", begun.elapsed());
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "after {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stops_or_hangs_is_an_error_and_then_is_used_again() {
    let server = Server::start();
    let store = tokio::task::block_in_place(|| server.store());
    insert(&store, 1).await.unwrap();
    server.stop();
    refused(&store, 2).await;
    server.start_again();
    back_within_five_seconds(&store, 3).await;
    server.signal("STOP");
    refused(&store, 4).await;
    server.signal("CONT");
    back_within_five_seconds(&store, 5).await;
    assert!(!is_there(&store, 2).await, "what was refused was not written");
    assert!(is_there(&store, 3).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_empty_forbids_or_is_unknown_says_what_to_do() {
    let options = new_database(DIRECT);
    let store = databases::open(&Location::Postgres(options));
    let claim = async |store: &Store| store.read(|s| s.rows("SELECT id FROM upload_intents", &[])).await.unwrap_err();
    store.read(|s| s.batch("DROP TABLE upload_intents")).await.unwrap();
    let empty = claim(&store).await;
    assert!(empty.hint().unwrap().contains("db status"), "{empty}");
    let drift = tokio::task::block_in_place(|| store.status().unwrap().drift);
    assert_eq!(drift, ["no table upload_intents"]);

    let role = format!("role_{:016x}", rand::random::<u64>());
    let sql = format!("CREATE ROLE {role} LOGIN; CREATE TABLE upload_intents (id uuid)");
    store.read(move |s| s.batch(&sql)).await.unwrap();
    let url = |user: &str, database: &str| {
        let base = std::env::var(DIRECT).unwrap();
        base.replace("postgres@", &format!("{user}@")).replace("/postgres?", &format!("/{database}?"))
    };
    let name: String = store.read(|s| s.one("SELECT current_database()::text", &[])?.get(0)).await.unwrap();
    let forbidden = Store::connect(&Location::Postgres(impatient(&url(&role, &name)))).unwrap();
    let error = claim(&forbidden).await;
    assert!(error.hint().unwrap().contains("grant"), "{error}");
    let unknown = Store::connect(&Location::Postgres(impatient(&url("postgres", "no_such_database")))).unwrap();
    let error = claim(&unknown).await;
    assert!(error.hint().unwrap().contains("database name"), "{error}");
    let nobody = Store::connect(&Location::Postgres(impatient("postgres://postgres:s3cret@127.0.0.1:1/x"))).unwrap();
    let error = claim(&nobody).await;
    assert!(
        error.hint().unwrap().contains("registry.url") && !format!("{error} {error:?}").contains("s3cret"),
        "{error}"
    );
}

/// A small disk of one test's own.
struct Disk(std::path::PathBuf);

impl Disk {
    fn mount(place: &Path) -> Self {
        let mounting = Command::new("mount").args(["-t", "tmpfs", "-o", "size=120m", "tmpfs"]).arg(place).status();
        assert!(mounting.unwrap().success(), "mounting a disk needs root");
        Disk(place.to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whatever still ends has it for as long as it takes.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_disk_is_full_acknowledges_nothing_and_goes_on_when_there_is_room() {
    let home = tempfile::tempdir().unwrap();
    let _disk = Disk::mount(home.path());
    let server = Server::start_in(home);
    let store = tokio::task::block_in_place(|| server.store());
    let wide = "CREATE TABLE wide (text text); ALTER TABLE wide ALTER COLUMN text SET STORAGE EXTERNAL";
    store.read(move |s| s.batch(wide)).await.unwrap();
    let filler = server.home.path().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let fill =
        async |store: &Store| store.write(|s| s.execute("INSERT INTO wide VALUES (repeat('x', 200000))", &[])).await;
    let error = fill(&store).await.unwrap_err();
    assert_eq!((error.kind(), error.hint()), (ErrorKind::Registry, Some("the server's disk is full")), "{error}");
    drop(file);
    std::fs::remove_file(filler).unwrap();
    // The room is there at once, and the server may see it a moment later.
    let began = Instant::now();
    while let Err(error) = fill(&store).await {
        assert!(began.elapsed() < Duration::from_secs(5), "{error}");
    }
    let rows: i64 = store.read(|s| s.one("SELECT COUNT(*) FROM wide", &[])?.get(0)).await.unwrap();
    assert_eq!(rows, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_no_connection_is_free_in_time_that_is_said() {
    let one = PostgresOptions { connections: 1, ..new_database(DIRECT) };
    let store = databases::open(&Location::Postgres(PostgresOptions { timeout: Duration::from_millis(300), ..one }));
    let (go_on, held) = std::sync::mpsc::channel::<()>();
    let (begin, begun) = tokio::sync::oneshot::channel();
    let holding = tokio::spawn({
        let store = store.clone();
        let hold = move |_: &mut Session<'_>| {
            begin.send(()).unwrap();
            held.recv().map_err(|_| unreachable!())
        };
        async move { store.write(hold).await }
    });
    begun.await.unwrap();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.read(|s| s.one("SELECT 1", &[])).await }
    });
    tokio::time::sleep(Duration::from_millis(400)).await;
    go_on.send(()).unwrap();
    holding.await.unwrap().unwrap();
    let error = waiting.await.unwrap().unwrap_err();
    assert!(error.message().contains("no connection") && error.hint().is_some(), "{error}");
}

// ===== commits whose answer is lost =====

const PASS: u8 = 0;
const LOSE_ANSWER: u8 = 1;
const LOSE_QUESTION: u8 = 2;

/// Passes everything on to a server; at a commit it may hang up, before or after the server has heard of it.
fn relay(server: String) -> (String, Arc<AtomicU8>) {
    let (listener, fate) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::new(AtomicU8::new(PASS)));
    let (address, told) = (listener.local_addr().unwrap().to_string(), fate.clone());
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let there = TcpStream::connect(&server).unwrap();
            let (fate, client_too, there_too) = (told.clone(), client.try_clone().unwrap(), there.try_clone().unwrap());
            std::thread::spawn(move || pass_questions(client, there, &fate));
            std::thread::spawn(move || pass_answers(there_too, client_too));
        }
    });
    (address, fate)
}

fn pass_questions(mut client: TcpStream, mut there: TcpStream, fate: &AtomicU8) {
    let mut piece = [0; 65_536];
    while let Ok(length @ 1..) = client.read(&mut piece) {
        let is_commit = piece[..length].windows(6).any(|words| words == b"COMMIT");
        let fate = if is_commit { fate.swap(PASS, Ordering::SeqCst) } else { PASS };
        if fate != PASS {
            client.shutdown(Shutdown::Both).unwrap();
        }
        if fate == LOSE_QUESTION || there.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    let _ = there.shutdown(Shutdown::Both);
}

fn pass_answers(mut there: TcpStream, mut client: TcpStream) {
    let mut piece = [0; 65_536];
    while let Ok(length @ 1..) = there.read(&mut piece) {
        if client.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_without_an_answer_is_asked_about_and_never_repeated() {
    let options = new_database(DIRECT);
    let address = options.url.expose().split('@').nth(1).unwrap().split('/').next().unwrap().to_owned();
    let (relayed, fate) = relay(address.clone());
    let url = options.url.expose().replace(&address, &relayed);
    let store = databases::open(&Location::Postgres(PostgresOptions { connections: 1, ..databases::options(&url) }));
    store.read(|s| s.batch("CREATE TABLE counted (n bigint)")).await.unwrap();
    fate.store(LOSE_ANSWER, Ordering::SeqCst);
    insert(&store, 1).await.expect("it was committed, and that was found out");
    assert_eq!(fate.load(Ordering::SeqCst), PASS);
    fate.store(LOSE_QUESTION, Ordering::SeqCst);
    assert_eq!(insert(&store, 2).await.unwrap_err().kind(), ErrorKind::Registry);
    let rows = store.read(|s| s.rows("SELECT n FROM counted", &[])).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<i64>(0).unwrap()).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn a_certificate_is_checked_and_the_name_in_it() {
    let plain = new_database(DIRECT);
    let ca = std::env::var("EXAI_TEST_CA").unwrap();
    let url = |host: &str| plain.url.expose().replace("127.0.0.1", host).replace("sslmode=disable", "sslmode=require");
    let to = |host: &str, ca_bundle: Option<&str>| {
        let ca_bundle = ca_bundle.map(Into::into);
        Location::Postgres(PostgresOptions { url: Secret::new(url(host)), ca_bundle, ..plain.clone() })
    };
    let store = open(&to("localhost", Some(&ca)));
    let is_encrypted = store
        .read(|session| session.one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[])?.get::<bool>(0));
    assert!(is_encrypted.await.unwrap());
    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(other.path(), OTHER_AUTHORITY).unwrap();
    for (why, location) in [
        ("the machine does not know its authority", to("localhost", None)),
        ("another authority's", to("localhost", other.path().to_str())),
        ("it is not for this name", to("127.0.0.1", Some(&ca))),
    ] {
        let refused =
            std::thread::spawn(move || Store::open(&location, SystemClock.now()).unwrap_err()).join().unwrap();
        assert_eq!(refused.kind(), ErrorKind::Registry, "{why}");
        assert!(refused.to_string().contains("certificate"), "{why}: {refused}");
        assert!(refused.hint().unwrap().contains("ca_bundle"), "{why}: at once, not after many tries");
    }
}

/// Of nobody: its key was thrown away.
const OTHER_AUTHORITY: &str = include_str!("other_authority.pem");
