//! Logins: tokens are had anew before they end, by one of all who share them, and none is lost or used twice.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use exai_files::clock::{Clock, SystemClock, TestClock, Timestamp};
use exai_files::credentials::{
    AuthorizationServer, CredentialProvider, CredentialStore, DatabaseStore, FileStore, KeySource, MasterKey, OAuth,
    OAuthParts, Polled, Refusal, ServerOptions, Slot, Stored, Tokens,
};
use exai_files::error::{Error, ErrorKind};
use exai_files::model::{AccountId, PlatformId, Secret};
use exai_files::store::{Location, Store};
use exai_files::transport::{HttpClient, HttpOptions};
use serde_json::{Value, json};

use crate::aftermath::{told, worker};
use crate::databases::{self, POOLED, new_database};
use crate::world::World;

/// kimi-cli's id, which the simulator knows.
const CLIENT: &str = "17e5f671-d194-4dfb-9706-5516cb48c098";

fn slot() -> Slot {
    Slot { platform: PlatformId::new("kimi-code").unwrap(), account: AccountId::new("default") }
}

fn server(oauth: &str, client_id: &str) -> AuthorizationServer {
    let options = ServerOptions {
        token_url: format!("{oauth}/api/oauth/token"),
        device_url: Some(format!("{oauth}/api/oauth/device_authorization")),
        client_id: client_id.to_owned(),
        scope: None,
        device: None,
    };
    AuthorizationServer::new(options, HttpOptions::default())
}

fn master_key() -> MasterKey {
    MasterKey::new(KeySource::given(Secret::new("a master key of a test"), "a test"))
}

/// One process's worth of it.
fn login(oauth: &str, store: &Store, clock: Arc<dyn Clock>) -> OAuth {
    let kept = Arc::new(DatabaseStore::new(store.clone(), clock.clone(), master_key()));
    OAuth::of_login(OAuthParts { slot: slot(), server: server(oauth, CLIENT), kept, turns: store.clone(), clock })
}

/// A world whose calendar stands still, and the same calendar for clients.
fn world(settings: Value) -> (World, TestClock) {
    let world = World::with(json!({"kimi_code": settings}));
    let clock = TestClock::at(SystemClock.now());
    world.admin("POST", "/clock", json!({"now": clock.now().to_string(), "freeze": true}));
    (world, clock)
}

fn pass(world: &World, clock: &TestClock, by: Duration) {
    world.admin("POST", "/clock", json!({"advance": by.as_secs_f64()}));
    clock.advance(by);
}

fn memory() -> Store {
    databases::open(&databases::place(Path::new(":memory:")))
}

/// A person logs in.
async fn log_in(world: &World, login: &OAuth, store: &Store, clock: &dyn Clock) -> Tokens {
    let mut code = login.server().device_code(clock).await.unwrap();
    world.admin("POST", "/oauth/approve", json!({"user_code": code.user_code}));
    let Polled::Granted(tokens) = login.server().poll(&mut code, clock).await.unwrap() else { panic!("pending") };
    keep(store, &tokens).await;
    tokens
}

async fn keep(store: &Store, tokens: &Tokens) {
    let (store, stored) = (store.clone(), Stored::Tokens(tokens.clone()));
    let keeping = tokio::task::spawn_blocking(move || {
        DatabaseStore::new(store, Arc::new(SystemClock), master_key()).put(&slot(), &stored)
    });
    keeping.await.unwrap().unwrap();
}

/// Whether the platform knows this access token.
async fn is_good(world: &World, access: &Secret) -> bool {
    let url = format!("{}/files", world.simulator.urls().kimi_code);
    let client = HttpClient::new(&HttpOptions::default()).unwrap();
    let request = exai_files::transport::Request::new(reqwest::Method::GET, url).bearer(access).unwrap();
    client.send(request, tokio::time::Instant::now() + Duration::from_secs(20)).await.unwrap().status() == 200
}

fn refreshes(world: &World) -> u64 {
    let state = world.admin("GET", "/oauth", Value::Null);
    state["logins"].as_array().unwrap().iter().map(|login| login["refreshes"].as_u64().unwrap()).sum()
}

fn is_revoked(world: &World) -> bool {
    let state = world.admin("GET", "/oauth", Value::Null);
    state["logins"].as_array().unwrap().iter().any(|login| login["is_revoked"] == true)
}

fn token_calls(world: &World) -> usize {
    world.truth("token").len()
}

// ===== the device flow =====

#[tokio::test]
async fn a_device_is_logged_in_once_its_code_is_approved() {
    let (world, clock) = world(json!({}));
    let server = server(&world.simulator.urls().kimi_code_oauth, CLIENT);
    let mut code = server.device_code(&clock).await.unwrap();
    assert!(code.uri_complete.as_ref().unwrap().contains(&code.user_code));
    assert_eq!(code.interval, Duration::from_secs(5));
    assert!(matches!(server.poll(&mut code, &clock).await.unwrap(), Polled::Pending(_)));
    // Sooner than it asked for: it wants five seconds more from now on (RFC 8628 §3.5).
    pass(&world, &clock, Duration::from_secs(1));
    let Polled::Pending(interval) = server.poll(&mut code, &clock).await.unwrap() else { panic!("granted") };
    assert_eq!(interval, Duration::from_secs(10));
    pass(&world, &clock, interval);
    world.admin("POST", "/oauth/approve", json!({"user_code": code.user_code}));
    let Polled::Granted(tokens) = server.poll(&mut code, &clock).await.unwrap() else { panic!("pending") };
    assert!(is_good(&world, &tokens.access_token).await);
    assert!(!format!("{tokens:?} {code:?} {server:?}").contains("sim-"), "tokens are shown nowhere");
}

#[tokio::test]
async fn a_code_that_is_declined_or_too_old_says_so() {
    let (world, clock) = world(json!({"device_code_seconds": 60.0}));
    let server = server(&world.simulator.urls().kimi_code_oauth, CLIENT);
    let mut code = server.device_code(&clock).await.unwrap();
    world.admin("POST", "/oauth/deny", json!({}));
    assert_eq!(server.poll(&mut code, &clock).await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    let mut code = server.device_code(&clock).await.unwrap();
    // The server has judged before we would.
    world.admin("POST", "/clock", json!({"advance": 61}));
    assert_eq!(server.poll(&mut code, &clock).await.unwrap_err().kind(), ErrorKind::TimedOut);
    clock.advance(Duration::from_secs(61));
    let calls = token_calls(&world);
    assert_eq!(server.poll(&mut code, &clock).await.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(token_calls(&world), calls, "it is not asked about a code that is too old by our clock");
}

#[tokio::test]
async fn a_login_server_that_is_none_is_told_from_one_that_is_down() {
    let (world, clock) = world(json!({}));
    let down = server("http://127.0.0.1:1", CLIENT).device_code(&clock).await.unwrap_err();
    assert_eq!(down.kind(), ErrorKind::Unavailable, "{down}");
    let server = server(&world.simulator.urls().kimi_code_oauth, CLIENT);
    for (fault, kind) in [
        (json!({"kind": "html", "status": 200}), ErrorKind::ContractDrift),
        (json!({"kind": "status", "status": 200, "body": {"ok": true}}), ErrorKind::ContractDrift),
        (json!({"kind": "status", "status": 503, "body": {}}), ErrorKind::Unavailable),
    ] {
        world.fault("kimi_code", "device", json!({"next": 1}), fault.clone());
        assert_eq!(server.device_code(&clock).await.unwrap_err().kind(), kind, "{fault}");
    }
}

// ===== keeping tokens fresh =====

#[tokio::test]
async fn in_a_day_no_request_goes_out_with_an_expired_token() {
    let (world, clock) = world(json!({}));
    let store = memory();
    let login = login(&world.simulator.urls().kimi_code_oauth, &store, Arc::new(clock.clone()));
    log_in(&world, &login, &store, &clock).await;
    for minute in 0..24 * 60 {
        pass(&world, &clock, Duration::from_secs(60));
        let access = login.credential().await.unwrap();
        assert!(is_good(&world, &access).await, "minute {minute}");
    }
    assert_eq!(world.admin("GET", "/oauth", Value::Null)["expired_uses"], 0);
    // A token lives 15 minutes and is replaced after 10½ to 12.
    assert!((110..=145).contains(&refreshes(&world)), "{} refreshes", refreshes(&world));
    assert!(!is_revoked(&world));
}

#[tokio::test]
async fn a_clock_that_is_wrong_by_five_minutes_does_no_harm() {
    for wrong_by in [-300i64, 300] {
        let (world, clock) = world(json!({}));
        let store = memory();
        let wrong = TestClock::at(Timestamp(clock.now().0 + wrong_by * 1_000_000));
        let login = login(&world.simulator.urls().kimi_code_oauth, &store, Arc::new(wrong.clone()));
        log_in(&world, &login, &store, &wrong).await;
        for _ in 0..240 {
            world.admin("POST", "/clock", json!({"advance": 60}));
            wrong.advance(Duration::from_secs(60));
            assert!(is_good(&world, &login.credential().await.unwrap()).await);
        }
        assert_eq!(world.admin("GET", "/oauth", Value::Null)["expired_uses"], 0, "{wrong_by}");
        assert!(!is_revoked(&world));
        // And one that is set in the middle: a token that is refused is replaced once.
        wrong.set(Timestamp(wrong.now().0 - wrong_by * 1_000_000));
        world.admin("POST", "/clock", json!({"advance": 14 * 60}));
        let access = login.credential().await.unwrap();
        if !is_good(&world, &access).await {
            assert!(login.refused(&access, Refusal::Unknown));
            assert!(is_good(&world, &login.credential().await.unwrap()).await);
        }
        assert!(!is_revoked(&world));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_all_who_share_a_login_one_refreshes() {
    let (world, clock) = world(json!({}));
    let store = memory();
    let url = world.simulator.urls().kimi_code_oauth.clone();
    let processes: Vec<Arc<OAuth>> = (0..8).map(|_| Arc::new(login(&url, &store, Arc::new(clock.clone())))).collect();
    log_in(&world, &processes[0], &store, &clock).await;
    for round in 1..=5 {
        pass(&world, &clock, Duration::from_secs(14 * 60 + 50));
        let asking = (0..64).map(|task| {
            let login = processes[task % processes.len()].clone();
            tokio::spawn(async move { login.credential().await.unwrap() })
        });
        let mut tokens: Vec<String> = Vec::new();
        for asked in asking.collect::<Vec<_>>() {
            tokens.push(asked.await.unwrap().expose().to_owned());
        }
        tokens.dedup();
        assert_eq!(tokens.len(), 1);
        assert_eq!(refreshes(&world), round);
    }
    assert!(!is_revoked(&world));
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_and_never_in_a_loop() {
    let (world, clock) = world(json!({}));
    let store = memory();
    let login = login(&world.simulator.urls().kimi_code_oauth, &store, Arc::new(clock.clone()));
    log_in(&world, &login, &store, &clock).await;
    let first = login.credential().await.unwrap();
    assert!(login.refused(&first, Refusal::Unknown), "another one may help");
    let second = login.credential().await.unwrap();
    assert_ne!(first.expose(), second.expose());
    assert!(login.refused(&first, Refusal::Unknown), "whoever comes late with the first may try the second");
    assert_eq!(login.credential().await.unwrap().expose(), second.expose());
    assert!(!login.refused(&second, Refusal::Unknown), "a third one would help nobody");
    for _ in 0..5 {
        assert_eq!(login.credential().await.unwrap().expose(), second.expose());
        assert!(!login.refused(&second, Refusal::Unknown));
    }
    assert_eq!(refreshes(&world), 1);
    // Once it was accepted, a refusal is news again.
    login.accepted(&second);
    assert!(login.refused(&second, Refusal::Unknown));
    assert_ne!(login.credential().await.unwrap().expose(), second.expose());
    assert_eq!(refreshes(&world), 2);
}

#[tokio::test]
async fn a_login_server_that_is_down_costs_nothing_while_the_old_token_is_good() {
    let (world, clock) = world(json!({}));
    let store = memory();
    let login = login(&world.simulator.urls().kimi_code_oauth, &store, Arc::new(clock.clone()));
    let tokens = log_in(&world, &login, &store, &clock).await;
    login.credential().await.unwrap();
    world.fault("kimi_code", "token", json!("always"), json!({"kind": "lost_request"}));
    pass(&world, &clock, Duration::from_secs(13 * 60));
    assert_eq!(login.credential().await.unwrap().expose(), tokens.access_token.expose());
    let calls = token_calls(&world);
    assert_eq!(login.credential().await.unwrap().expose(), tokens.access_token.expose());
    assert_eq!(token_calls(&world), calls, "it is left in peace for a while");
    pass(&world, &clock, Duration::from_secs(3 * 60));
    let error = login.credential().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    world.admin("DELETE", "/faults", Value::Null);
}

#[tokio::test]
async fn a_server_that_says_come_again_is_asked_again() {
    let (world, clock) = world(json!({}));
    let store = memory();
    let login = login(&world.simulator.urls().kimi_code_oauth, &store, Arc::new(clock.clone()));
    log_in(&world, &login, &store, &clock).await;
    world.fault("kimi_code", "token", json!({"next": 1}), json!({"kind": "status", "status": 503, "body": {}}));
    pass(&world, &clock, Duration::from_secs(20 * 60));
    assert!(is_good(&world, &login.credential().await.unwrap()).await);
    assert_eq!(refreshes(&world), 1);
}

#[tokio::test]
async fn a_reply_that_is_lost_is_tried_for_once_more_and_then_a_person_has_to_log_in() {
    let (world, clock) = world(json!({}));
    let store = memory();
    let login = login(&world.simulator.urls().kimi_code_oauth, &store, Arc::new(clock.clone()));
    log_in(&world, &login, &store, &clock).await;
    let before = token_calls(&world);
    world.fault("kimi_code", "token", json!({"next": 1}), json!({"kind": "lost_reply"}));
    pass(&world, &clock, Duration::from_secs(20 * 60));
    assert_eq!(login.credential().await.unwrap_err().kind(), ErrorKind::Unavailable);
    for _ in 0..3 {
        assert_reauth(&login.credential().await.unwrap_err());
    }
    assert_eq!(token_calls(&world), before + 2, "the old token is sent twice, and never again");
    log_in(&world, &login, &store, &clock).await;
    assert!(is_good(&world, &login.credential().await.unwrap()).await);
}

#[tokio::test]
async fn a_login_that_was_revoked_or_never_made_says_what_to_do() {
    let (world, clock) = world(json!({}));
    let store = memory();
    let login = login(&world.simulator.urls().kimi_code_oauth, &store, Arc::new(clock.clone()));
    assert_reauth(&login.credential().await.unwrap_err());
    log_in(&world, &login, &store, &clock).await;
    world.admin("POST", "/oauth/revoke", Value::Null);
    pass(&world, &clock, Duration::from_secs(20 * 60));
    let before = token_calls(&world);
    for _ in 0..3 {
        assert_reauth(&login.credential().await.unwrap_err());
    }
    assert_eq!(token_calls(&world), before + 1);
}

fn assert_reauth(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::ReauthRequired, "{error}");
    assert!(error.hint().unwrap().contains("exai-files auth login kimi-code"), "{error}");
}

#[tokio::test]
async fn a_cancelled_caller_loses_no_token() {
    let (world, clock) = world(json!({}));
    let store = memory();
    let login = login(&world.simulator.urls().kimi_code_oauth, &store, Arc::new(clock.clone()));
    log_in(&world, &login, &store, &clock).await;
    world.fault("kimi_code", "token", json!({"next": 1}), json!({"kind": "delay", "before_ms": 300}));
    pass(&world, &clock, Duration::from_secs(20 * 60));
    let cancelled = tokio::time::timeout(Duration::from_millis(100), login.credential()).await;
    assert!(cancelled.is_err(), "it was cancelled while the server answered");
    assert!(is_good(&world, &login.credential().await.unwrap()).await);
    assert_eq!(refreshes(&world), 1);
    assert!(!is_revoked(&world));
}

#[tokio::test]
async fn a_client_with_a_secret_gets_tokens_and_shares_them() {
    let (world, clock) = world(json!({}));
    let store = memory();
    let client = |secret: &str| {
        let kept = Arc::new(DatabaseStore::new(store.clone(), Arc::new(clock.clone()), master_key()));
        let parts = OAuthParts {
            slot: slot(),
            server: server(&world.simulator.urls().kimi_code_oauth, "simulator-service"),
            kept,
            turns: store.clone(),
            clock: Arc::new(clock.clone()),
        };
        OAuth::of_client(parts, KeySource::given(Secret::new(secret), "a test"))
    };
    let refused = client("wrong").credential().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthenticated, "{refused}");
    assert!(!refused.message().contains("wrong"));
    let (one, other) = (client("simulator-service-secret"), client("simulator-service-secret"));
    let access = one.credential().await.unwrap();
    assert!(is_good(&world, &access).await);
    assert_eq!(other.credential().await.unwrap().expose(), access.expose());
    pass(&world, &clock, Duration::from_secs(20 * 60));
    assert!(is_good(&world, &other.credential().await.unwrap()).await);
}

#[tokio::test]
async fn tokens_that_cannot_be_kept_are_kept_later_unless_there_are_others_by_then() {
    for is_another_login in [false, true] {
        let (world, clock) = world(json!({}));
        let folder = tempfile::tempdir().unwrap();
        let kept = Arc::new(FileStore::new(folder.path().join("credentials.json"), master_key()));
        let parts = OAuthParts {
            slot: slot(),
            server: server(&world.simulator.urls().kimi_code_oauth, CLIENT),
            kept: kept.clone(),
            turns: memory(),
            clock: Arc::new(clock.clone()),
        };
        let login = OAuth::of_login(parts);
        let granted = async || {
            let mut code = login.server().device_code(&clock).await.unwrap();
            world.admin("POST", "/oauth/approve", json!({"user_code": code.user_code}));
            let Polled::Granted(tokens) = login.server().poll(&mut code, &clock).await.unwrap() else { panic!() };
            Stored::Tokens(tokens)
        };
        kept.put(&slot(), &granted().await).unwrap();
        // A folder in the place of the lock: nobody can write there, not even root.
        let in_the_way = folder.path().join("credentials.lock");
        std::fs::remove_file(&in_the_way).unwrap();
        std::fs::create_dir(&in_the_way).unwrap();
        pass(&world, &clock, Duration::from_secs(20 * 60));
        assert_eq!(login.credential().await.unwrap_err().kind(), ErrorKind::Config);
        std::fs::remove_dir(&in_the_way).unwrap();
        if is_another_login {
            kept.put(&slot(), &granted().await).unwrap();
        }
        let access = login.credential().await.unwrap();
        assert!(is_good(&world, &access).await);
        assert_eq!(refreshes(&world), 1);
        assert!(!is_revoked(&world));
        let Some(Stored::Tokens(stored)) = kept.get(&slot()).unwrap() else { panic!("nothing is kept") };
        assert_eq!(stored.access_token.expose(), access.expose());
    }
}

#[tokio::test]
async fn who_asks_for_new_tokens_gets_new_ones_each_time() {
    let (world, clock) = world(json!({}));
    let store = memory();
    let login = login(&world.simulator.urls().kimi_code_oauth, &store, Arc::new(clock.clone()));
    let first = log_in(&world, &login, &store, &clock).await.fingerprint();
    let (second, third) = (login.renew().await.unwrap().fingerprint(), login.renew().await.unwrap().fingerprint());
    assert!(first != second && second != third);
    assert_eq!(refreshes(&world), 2);
}

// ===== processes that die =====

/// Comes by every moment of a refresh.
const POINTS: [&str; 9] = [
    "refresh/begin",
    "refresh/written",
    "refresh/taken",
    "refresh/send",
    "refresh/answered",
    "credential/written",
    "credential/committed",
    "refresh/kept",
    "refresh/given-back",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_in_a_refresh_costs_one_login_at_most() {
    if let Some(told) = told() {
        let store = databases::open(&told.location);
        let login = login(told.more["oauth"].as_str().unwrap(), &store, Arc::new(SystemClock));
        if let Err(error) = login.renew().await {
            eprintln!("{error}");
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (number, location) in
        [Location::file(folder.path().join("registry.db")), Location::Postgres(new_database(POOLED))]
            .into_iter()
            .enumerate()
    {
        let mut lost = Vec::new();
        for (point, way) in POINTS.into_iter().flat_map(|point| ["kill", "panic", "error"].map(|way| (point, way))) {
            if die(&location, point, way).await {
                lost.push((point, way));
            }
        }
        // Only what the server has said and nobody has written down is lost with the process.
        assert!(lost.iter().all(|(point, _)| ["refresh/answered", "credential/written"].contains(point)), "{lost:?}");
        assert!(lost.contains(&("refresh/answered", "kill")), "{number}: it did not die where it should have");
    }
}

/// Whether a login was lost.
async fn die(location: &Location, point: &str, way: &str) -> bool {
    let world = World::new();
    let oauth = world.simulator.urls().kimi_code_oauth.clone();
    let store = databases::open(location);
    let login = login(&oauth, &store, Arc::new(SystemClock));
    // The tokens of each world are the same.
    store.write(|session| session.execute("DELETE FROM credential_refreshes", &[])).await.unwrap();
    let old = log_in(&world, &login, &store, &SystemClock).await;
    let test = "oauth::a_process_that_dies_in_a_refresh_costs_one_login_at_most";
    let mut command = worker(test, &world, location, json!({"oauth": oauth}));
    let child = command.env("EXAI_FAILPOINT", format!("{point}={way}")).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&format!("failpoint {point}")), "{point} was not come by: {said}");
    let long_ago = if store.is_postgres() { "'epoch'" } else { "0" };
    let sql = format!("UPDATE credential_refreshes SET lease_until = {long_ago}");
    store.write(move |session| session.execute(&sql, &[])).await.unwrap();
    let before = token_calls(&world);
    world.admin("POST", "/oauth/expire", Value::Null);
    login.refused(&old.access_token, Refusal::Unknown);
    let (mut outcome, mut refused) = (login.credential().await, 0);
    // What the dead one has got is stale by now, too.
    while let Ok(access) = &outcome
        && !is_good(&world, access).await
        && refused < 2
    {
        login.refused(access, Refusal::Unknown);
        (outcome, refused) = (login.credential().await, refused + 1);
    }
    assert!(token_calls(&world) <= before + 2, "{point} {way}: it is tried for once");
    match outcome {
        Ok(access) => {
            assert!(is_good(&world, &access).await, "{point} {way}");
            assert!(!is_revoked(&world), "{point} {way}");
            false
        }
        Err(error) => {
            assert_reauth(&error);
            let calls = token_calls(&world);
            assert_reauth(&login.credential().await.unwrap_err());
            assert_eq!(token_calls(&world), calls, "never a loop");
            log_in(&world, &login, &store, &SystemClock).await;
            assert!(is_good(&world, &login.credential().await.unwrap()).await, "{point} {way}");
            true
        }
    }
}

// ===== where they are kept =====

#[test]
fn a_file_of_credentials_is_this_users_alone_and_many_may_write_to_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inner").join("credentials.json");
    let store = FileStore::new(path.clone(), master_key());
    let slot_of = |number: usize| Slot { account: AccountId::new(&format!("account-{number}")), ..slot() };
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (path, slot) = (path.clone(), slot_of(number));
            scope.spawn(move || {
                let key = Stored::ApiKey(Secret::new(format!("sk-secret-{number}")));
                FileStore::new(path, master_key()).put(&slot, &key).unwrap();
            });
        }
    });
    for number in 0..8 {
        let Some(Stored::ApiKey(key)) = store.get(&slot_of(number)).unwrap() else { panic!("{number} is not there") };
        assert_eq!(key.expose(), format!("sk-secret-{number}"));
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("sk-secret"));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    // One account's entry does not open as another's.
    let swapped =
        text.replace("account-0", "account-x").replace("account-1\"", "account-0\"").replace("account-x", "account-1");
    std::fs::write(&path, swapped).unwrap();
    assert_eq!(store.get(&slot_of(0)).unwrap_err().kind(), ErrorKind::Integrity);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(store.get(&slot_of(5)).unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_master_key_opens_what_was_sealed_anew_and_the_old_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let (database, clock) = (memory(), Arc::new(SystemClock));
    let other = || MasterKey::new(KeySource::given(Secret::new("another one"), "a test"));
    let path = folder.path().join("credentials.json");
    let in_database =
        |key| -> Box<dyn CredentialStore> { Box::new(DatabaseStore::new(database.clone(), clock.clone(), key)) };
    let in_file = |key| -> Box<dyn CredentialStore> { Box::new(FileStore::new(path.clone(), key)) };
    for is_in_file in [false, true] {
        let open = |key| if is_in_file { in_file(key) } else { in_database(key) };
        tokio::task::block_in_place(|| {
            let store = open(master_key());
            store.put(&slot(), &Stored::ApiKey(Secret::new("sk-secret"))).unwrap();
            assert_eq!(store.reseal(other()).unwrap(), 1);
            for store in [store, open(other())] {
                assert!(
                    matches!(store.get(&slot()).unwrap(), Some(Stored::ApiKey(key)) if key.expose() == "sk-secret")
                );
            }
            assert_eq!(open(master_key()).get(&slot()).unwrap_err().kind(), ErrorKind::Config);
            assert!(open(other()).remove(&slot()).unwrap());
            assert!(open(other()).get(&slot()).unwrap().is_none());
        });
    }
}
