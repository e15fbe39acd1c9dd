//! A year in minutes: a thousand files on two platforms, with retention, losses, full accounts and outages.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use exai_files::blobs::{Blobs, Place};
use exai_files::clock::{Clock, SystemClock, Timestamp};
use exai_files::error::ErrorKind;
use exai_files::manager::{EnsureRequest, Manager, ManagerOptions, Transfers, UploadRequest};
use exai_files::model::{Digest, Keep, PlatformId};
use exai_files::policy::quota::WhenFull;
use exai_files::registry::Registry;
use exai_files::store::{Location, Store};
use exai_files::upkeep::{Watch, WatchRequest};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::aftermath::{judge, recover_with};
use crate::databases;
use crate::world::{DEADLINE, World, connection_of, request, seed, upload};

const DAY: Duration = Duration::from_secs(86_400);
const DAYS: u32 = 365;
const FILES: u32 = 1_000;
/// Of each account: too few for all files.
const QUOTA: u64 = 700;
/// Every so many days a platform is down.
const OUTAGE_EVERY: u32 = 13;

/// The machine's clock, ahead of it by as much as has been skipped.
#[derive(Debug, Default)]
struct SkippingClock(AtomicI64);

impl Clock for SkippingClock {
    fn now(&self) -> Timestamp {
        Timestamp(SystemClock.now().0 + self.0.load(Ordering::SeqCst))
    }
}

struct Year {
    world: World,
    clock: Arc<SkippingClock>,
    manager: Manager,
    store: Store,
    random: StdRng,
    /// What became of the calls.
    counts: HashMap<&'static str, u64>,
    _copies: tempfile::TempDir,
}

impl Year {
    fn new() -> Self {
        let quota = json!({"max_files": QUOTA});
        let world = World::with(json!({"moonshot": quota, "zai": quota}));
        let clock = Arc::new(SkippingClock::default());
        let copies = tempfile::tempdir().unwrap();
        let store = databases::open(&databases::place(&copies.path().join("r.db")));
        let urls = world.simulator.urls();
        let connections = [("moonshot", &urls.moonshot), ("zai", &urls.zai)].map(|(name, url)| {
            let mut connection = connection_of(name, url, clock.clone(), Some(QUOTA));
            connection.when_full = Some(WhenFull::EvictLru);
            connection
        });
        let sources = databases::open(&Location::file(":memory:"));
        let registry = Registry::new(store.clone(), sources, clock.clone());
        let blobs = Blobs::open(&Place::Folder(copies.path().join("copies"))).unwrap();
        let manager = Manager::new(registry, clock.clone(), ManagerOptions::default(), connections).with_copies(blobs);
        let random = StdRng::seed_from_u64(seed());
        Year { world, clock, manager, store, random, counts: HashMap::new(), _copies: copies }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn skip(&self, by: Duration) {
        self.clock.0.fetch_add(by.as_micros() as i64, Ordering::SeqCst);
        self.world.admin("POST", "/clock", json!({"advance": by.as_secs_f64()}));
    }

    /// Every tenth is wanted for a quarter only.
    async fn place(&mut self, number: u32) {
        let keep = match number.is_multiple_of(10) {
            true => Keep::Until(self.clock.now().plus(DAY * 90)),
            false => Keep::Forever,
        };
        let wanted = request(bytes(number), &format!("{number}.txt"), &["moonshot", "zai"]);
        upload(&self.manager, UploadRequest { keep, ..wanted }).await.unwrap();
    }

    /// A few files are used, at any time of the day.
    async fn use_some(&mut self, how_many: u32) {
        for _ in 0..how_many {
            let number = self.random.random_range(0..FILES);
            let platform = *["moonshot", "zai"].choose(&mut self.random).unwrap();
            let anywhere = EnsureRequest::new(PlatformId::new(platform).unwrap(), DEADLINE);
            let request = EnsureRequest { min_ttl: DAY, ..anywhere };
            let ensured = self.manager.ensure(&digest(number).to_string(), request, &Transfers::default()).await;
            match ensured {
                Ok(replica) => {
                    let path = format!("/files/{platform}/{}/bytes", replica.remote_id);
                    let there = self.world.simulator.admin("GET", &path, None);
                    let there = there.unwrap_or_else(|_| panic!("{number}.txt: {} is dead", replica.remote_id));
                    assert_eq!(there, BASE64.encode(bytes(number)));
                    let now = self.clock.now();
                    assert!(replica.expires_at.is_none_or(|at| at > now), "used past its expiry");
                    self.count("ensured");
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    assert!(number.is_multiple_of(10), "{number}.txt: {error}");
                    self.count("wanted no more");
                }
                Err(error) => {
                    let is_honest = matches!(error.kind(), ErrorKind::CircuitOpen | ErrorKind::OutcomeUnknown);
                    assert!(error.is_platform_fault() || is_honest, "{error:?}");
                    self.count("platform down");
                }
            }
        }
    }

    /// A platform loses a file, and says nothing.
    fn lose_some(&mut self, how_many: u32) {
        for _ in 0..how_many {
            let platform = *["moonshot", "zai"].choose(&mut self.random).unwrap();
            let files = self.world.files(platform);
            if let Some(file) = files.choose(&mut self.random) {
                self.world.admin("DELETE", &format!("/files/{platform}/{}", file["id"].as_str().unwrap()), Value::Null);
                self.count("lost");
            }
        }
    }

    fn break_something(&mut self, day: u32) {
        self.world.admin("DELETE", "/faults", Value::Null);
        let platform = if day.is_multiple_of(2) { "moonshot" } else { "zai" };
        match day % OUTAGE_EVERY {
            0 => {
                for operation in ["upload", "list", "get", "delete"] {
                    self.world.fault(
                        platform,
                        operation,
                        json!({"rate": 1.0}),
                        json!({"kind": "status", "status": 503}),
                    );
                }
                self.count("outages");
            }
            _ => self.world.fault(platform, "upload", json!({"rate": 0.05}), json!({"kind": "lost_reply"})),
        }
    }

    async fn day(&mut self, day: u32, watch: &mut Watch) {
        self.break_something(day);
        self.skip(DAY / 2);
        self.use_some(5).await;
        self.skip(DAY / 2);
        for notice in watch.pass(&self.manager, DEADLINE * 10).await.unwrap() {
            self.count(notice.event);
        }
        self.use_some(5).await;
        self.lose_some(2);
    }
}

fn bytes(number: u32) -> String {
    format!("file {number}")
}

fn digest(number: u32) -> Digest {
    Digest(sha2::Sha256::digest(bytes(number)).into())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_files_hands_out_no_dead_id_and_leaves_nothing_unexplained() {
    let mut year = Year::new();
    for number in 0..FILES {
        year.place(number).await;
    }
    let mut watch = Watch::new(WatchRequest { heal: true, every: 43_000.0, ..WatchRequest::default() });
    for day in 0..DAYS {
        year.day(day, &mut watch).await;
    }
    year.world.admin("DELETE", "/faults", Value::Null);
    year.skip(DAY * 2);
    watch.pass(&year.manager, DEADLINE * 10).await.unwrap();
    recover_with(&year.manager, &year.store).await;
    println!("{:?}", year.counts);
    let held = judge(&year.world, &year.store, &year.manager).await;
    for what in ["ensured", "lost", "outages", "wanted no more", "platform down", "gone"] {
        assert!(year.counts.contains_key(what), "{what} did not come about: {:?}", year.counts);
    }
    let of = |stored: &str| held.keys().filter(|(platform, _)| platform == stored).count() as u64;
    assert!(of("kimi") <= QUOTA && of("glm") <= QUOTA);
    let evicted = crate::aftermath::count(&year.store, "SELECT COUNT(*) FROM audit_log WHERE action = 'evict'").await;
    let renewed = crate::aftermath::count(&year.store, "SELECT COUNT(*) FROM audit_log WHERE action = 'expire'").await;
    println!("{evicted} evicted, {renewed} expired");
    assert!(evicted > 100 && renewed > 0);
}
