//! Finding files: what the database answers against what plain Rust picks out of the same files.

use std::sync::Arc;
use std::time::Duration;

use exai_files::clock::{TestClock, Timestamp};
use exai_files::error::ErrorKind;
use exai_files::model::{
    AccountId, ContentKind, Digest, FileRecord, Identity, Origin, PlatformId, Purpose, Replica, ReplicaStatus,
};
use exai_files::registry::{FileFilter, FileStatus, Labels, Registry};
use exai_files::store::Location;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

use crate::databases::{POOLED, new_database, open};
use crate::world::seed;

const NOW: Timestamp = Timestamp(1_800_000_000_000_000);
const TAGS: [&str; 3] = ["论文", "paper", "draft"];
const OWNERS: [&str; 2] = ["alice", "bob"];
const PLATFORMS: [&str; 3] = ["moonshot", "zai", "example"];
const ACCOUNTS: [&str; 2] = ["default", "team-b"];

fn one_of<T: Copy>(random: &mut StdRng, all: &[T]) -> T {
    all[random.random_range(0..all.len())]
}

fn file(random: &mut StdRng, number: u16) -> FileRecord {
    let mut digest: [u8; 32] = random.random();
    digest[30..].copy_from_slice(&number.to_be_bytes());
    let identity = Identity { digest: Digest(digest), size: random.random_range(0..20), mime: "text/plain".into() };
    let created_at = NOW.minus(Duration::from_secs(random.random_range(0..50)));
    let name = format!("{}{number}.txt", one_of(random, &["Übung ", "report ", "РЕПОРТ "]));
    let replicas = (0..random.random_range(0..3)).map(|copy| replica(random, number, copy, created_at)).collect();
    FileRecord {
        owner: random.random_bool(0.5).then(|| one_of(random, &OWNERS).to_owned()),
        tags: TAGS.iter().filter(|_| random.random_bool(0.3)).map(|tag| (*tag).to_owned()).collect(),
        trashed_at: random.random_bool(0.2).then_some(NOW),
        replicas,
        ..FileRecord::new(identity, name, created_at)
    }
}

fn replica(random: &mut StdRng, number: u16, copy: u8, created_at: Timestamp) -> Replica {
    Replica {
        platform: PlatformId::new(one_of(random, &PLATFORMS)).unwrap(),
        account: AccountId::new(one_of(random, &ACCOUNTS)),
        purpose: Purpose::new(&format!("purpose-{copy}")),
        remote_id: format!("file-{number}-{copy}"),
        remote_name: "name".into(),
        status: ReplicaStatus::Active,
        content: ContentKind::Opaque,
        created_at,
        verified_at: created_at,
        expires_at: random
            .random_bool(0.6)
            .then(|| NOW.plus(Duration::from_secs(30)).minus(Duration::from_secs(random.random_range(0..60)))),
        used_at: None,
        origin: Origin::AlreadyThere,
    }
}

fn filter(random: &mut StdRng) -> FileFilter {
    let moment = |random: &mut StdRng| NOW.minus(Duration::from_secs(random.random_range(0..50)));
    let mut filter = FileFilter { limit: 10_000, ..FileFilter::default() };
    for _ in 0..random.random_range(0..4) {
        match random.random_range(0..11) {
            0 => filter.platform = Some(PlatformId::new(one_of(random, &PLATFORMS)).unwrap()),
            1 => filter.account = Some(AccountId::new(one_of(random, &ACCOUNTS))),
            2 => filter.name = Some(one_of(random, &["übung", "РЕПОРТ 1", "7.txt", "%"]).to_owned()),
            3 => filter.digest = Some(format!("{:x}", random.random_range(0..16))),
            4 => filter.tags.push(one_of(random, &TAGS).to_owned()),
            5 => filter.owner = Some(one_of(random, &OWNERS).to_owned()),
            6 => filter.status = Some(one_of(random, &[FileStatus::Live, FileStatus::Unplaced, FileStatus::Trashed])),
            7 => filter.created_after = Some(moment(random)),
            8 => filter.created_before = Some(moment(random)),
            9 => {
                (filter.min_size, filter.max_size) =
                    (Some(random.random_range(0..12)), Some(random.random_range(8..20)))
            }
            _ => filter.expires_before = Some(NOW.plus(Duration::from_secs(random.random_range(0..40)))),
        }
    }
    filter
}

fn fits(file: &FileRecord, filter: &FileFilter) -> bool {
    let is_there = |replica: &&Replica| {
        filter.platform.as_ref().is_none_or(|platform| replica.platform == *platform)
            && filter.account.as_ref().is_none_or(|account| replica.account == *account)
            && replica.is_live(NOW)
    };
    let is_live = file.replicas.iter().any(|replica| is_there(&replica));
    let has_place = filter.platform.is_some() || filter.account.is_some();
    let is_expiring =
        |by| file.replicas.iter().filter(is_there).any(|replica| replica.expires_at.is_some_and(|at| at <= by));
    (file.trashed_at.is_some() == (filter.status == Some(FileStatus::Trashed)))
        && match filter.status {
            Some(FileStatus::Live) => is_live,
            Some(FileStatus::Unplaced) => !is_live,
            _ => is_live || !has_place,
        }
        && filter.name.as_ref().is_none_or(|name| file.name.to_lowercase().contains(&name.to_lowercase()))
        && filter.digest.as_ref().is_none_or(|start| file.digest.hex().starts_with(start))
        && filter.tags.iter().all(|tag| file.tags.contains(tag))
        && filter.owner.as_ref().is_none_or(|owner| file.owner.as_ref() == Some(owner))
        && filter.created_after.is_none_or(|at| file.created_at >= at)
        && filter.created_before.is_none_or(|at| file.created_at < at)
        && filter.min_size.is_none_or(|bytes| file.size >= bytes)
        && filter.max_size.is_none_or(|bytes| file.size <= bytes)
        && filter.expires_before.is_none_or(is_expiring)
}

async fn registry(location: &Location) -> Registry {
    Registry::new(open(location), open(&Location::file(":memory:")), Arc::new(TestClock::at(NOW)))
}

async fn answers_as_the_files_do(location: Location, seed: u64) {
    let registry = registry(&location).await;
    let mut random = StdRng::seed_from_u64(seed);
    let files: Vec<FileRecord> = (0..300).map(|number| file(&mut random, number)).collect();
    registry.register(files.clone()).await.unwrap();
    for _ in 0..300 {
        let filter = filter(&mut random);
        let mut expected: Vec<String> =
            files.iter().filter(|file| fits(file, &filter)).map(|file| file.digest.hex()).collect();
        let mut found: Vec<String> =
            registry.list(filter.clone()).await.unwrap().iter().map(|file| file.digest.hex()).collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{filter:?}");
    }
}

#[tokio::test]
async fn any_filter_finds_just_the_files_that_fit() {
    answers_as_the_files_do(Location::file(":memory:"), seed()).await;
    answers_as_the_files_do(Location::Postgres(new_database(POOLED)), seed()).await;
}

async fn says_and_forgets(location: Location) {
    let registry = registry(&location).await;
    let mut random = StdRng::seed_from_u64(seed());
    let known = FileRecord { owner: None, tags: Vec::new(), trashed_at: None, ..file(&mut random, 1) };
    registry.register(vec![known.clone()]).await.unwrap();
    let labels = |json| serde_json::from_value::<Labels>(json).unwrap();
    let said = labels(json!({"tags": ["b", "a", "a"], "metadata": {"n": 1, "deep": {"x": [1, null]}}, "owner": "eve"}));
    for _ in 0..2 {
        let record = registry.label(&known.digest, said.clone()).await.unwrap();
        assert_eq!(
            (record.tags.as_slice(), record.owner.as_deref()),
            (&["a".to_owned(), "b".to_owned()][..], Some("eve"))
        );
        assert_eq!(json!(record.metadata), json!({"n": 1, "deep": {"x": [1, null]}}));
    }
    let less = labels(json!({"untag": ["a", "never there"], "metadata": {"n": null, "m": "é\u{0}"}}));
    let record = registry.label(&known.digest, less).await.unwrap();
    assert_eq!(record.tags, ["b"]);
    assert_eq!(record.metadata["deep"], json!({"x": [1, null]}));
    assert!(!record.metadata.contains_key("n"));
    for wrong in [
        json!({"tags": [""]}),
        json!({"tags": ["two\nlines"]}),
        json!({"owner": " "}),
        json!({"tags": ["x".repeat(201)]}),
        json!({"metadata": {"big": "x".repeat(70_000)}}),
    ] {
        let error = registry.label(&known.digest, labels(wrong.clone())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{wrong}");
    }
    let now = registry.find_now(&known.digest).await;
    assert_eq!(format!("{now:?}"), format!("{record:?}"), "nothing of what was wrong was kept");
    let nobody = Digest([9; 32]);
    assert_eq!(registry.label(&nobody, Labels::default()).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(registry.trash(&nobody).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(registry.restore(&nobody).await.unwrap_err().kind(), ErrorKind::NotFound);
}

trait FindNow {
    async fn find_now(&self, digest: &Digest) -> FileRecord;
}

impl FindNow for Registry {
    async fn find_now(&self, digest: &Digest) -> FileRecord {
        let (registry, digest) = (self.clone(), *digest);
        tokio::task::spawn_blocking(move || registry.find(&digest)).await.unwrap().unwrap().unwrap()
    }
}

#[tokio::test]
async fn what_is_said_of_a_file_stays_until_it_is_taken_back() {
    says_and_forgets(Location::file(":memory:")).await;
    says_and_forgets(Location::Postgres(new_database(POOLED))).await;
}
