//! What the registry remembers, and when it may be believed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use exai_files::clock::{Clock, TestClock, Timestamp};
use exai_files::error::ErrorKind;
use exai_files::model::{
    AccountId, ContentKind, Digest, FileRecord, Fingerprint, Identity, Keep, Origin, PlatformId, Purpose, Replica,
    ReplicaStatus,
};
use exai_files::registry::{Claim, FileFilter, NewIntent, Placement, Registry, Settlement};
use exai_files::store::Location;

use crate::databases::{POOLED, new_database, open};

#[tokio::test]
async fn a_digest_is_believed_only_if_the_file_had_been_at_rest_when_it_was_read() {
    let clock = TestClock::at(Timestamp::from_unix_seconds(1_800_000_000));
    let registry = Registry::open(Path::new(":memory:"), Arc::new(clock.clone())).unwrap();
    let written = clock.now().0 * 1_000;
    let fingerprint = Fingerprint { device: 1, inode: 2, size: 5, mtime_ns: written, ctime_ns: written };
    let digest = Digest([7; 32]);
    let identity = Identity { digest, size: 5, mime: "text/plain".into() };
    for (rest, believed) in [(Duration::from_millis(500), false), (Duration::from_secs(2), true)] {
        clock.set(Timestamp(written / 1_000).plus(rest));
        registry.remember_source(fingerprint, Some("/a/report.txt".into()), &identity);
        // Writes are in order: once this one is done, so is that one.
        registry.keep_text(&digest, &PlatformId::new("moonshot").unwrap(), "1", "text").await.unwrap();
        let recalled = tokio::task::spawn_blocking({
            let registry = registry.clone();
            move || registry.recall_source(fingerprint).unwrap()
        });
        assert_eq!(recalled.await.unwrap(), believed.then(|| identity.clone()), "{rest:?} after it was written");
        assert_eq!(registry.source_paths(&digest).await.unwrap(), ["/a/report.txt"], "its bytes are found in any case");
    }
}

fn known(number: u8, platform: &str) -> FileRecord {
    let at = Timestamp::from_unix_seconds(1_700_000_000 + i64::from(number / 2));
    let name = format!("Bericht {number}.PDF");
    let replica = Replica {
        platform: PlatformId::new(platform).unwrap(),
        account: AccountId::new("default"),
        purpose: Purpose::new("file-extract"),
        remote_id: format!("file-{number}"),
        remote_name: name.clone(),
        status: ReplicaStatus::Active,
        content: ContentKind::ExtractedText,
        created_at: at,
        verified_at: at,
        expires_at: (number == 7).then_some(Timestamp(1)),
        used_at: None,
        origin: Origin::AlreadyThere,
    };
    let identity = Identity { digest: Digest([number; 32]), size: number.into(), mime: "application/pdf".to_owned() };
    FileRecord { replicas: vec![replica], ..FileRecord::new(identity, name, at) }
}

async fn registers_and_lists(location: Location) {
    let clock = TestClock::at(Timestamp::from_unix_seconds(1_800_000_000));
    let registry = Registry::new(open(&location), open(&Location::file(":memory:")), Arc::new(clock));
    let files: Vec<FileRecord> = (0..100).map(|n| known(n, if n % 3 == 0 { "zai" } else { "moonshot" })).collect();
    registry.register(files[..60].to_vec()).await.unwrap();
    registry.register(files.clone()).await.unwrap();
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = registry.list(FileFilter { after, limit: 7, ..FileFilter::default() }).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.digest);
        pages.extend(page);
    }
    let mut found = pages.clone();
    found.sort_by_key(|record| record.digest.hex());
    assert_eq!(format!("{found:?}"), format!("{files:?}"), "each once, as it was");
    assert!(pages.is_sorted_by_key(|record| std::cmp::Reverse(record.created_at)));
    let count = async |filter: FileFilter| registry.list(FileFilter { limit: 1_000, ..filter }).await.unwrap().len();
    let zai = Some(PlatformId::new("zai").unwrap());
    assert_eq!(count(FileFilter { platform: zai, ..FileFilter::default() }).await, 34);
    let moonshot = Some(PlatformId::new("moonshot").unwrap());
    assert_eq!(count(FileFilter { platform: moonshot, ..FileFilter::default() }).await, 65, "one has expired");
    assert_eq!(count(FileFilter { name: Some("bericht 9".into()), ..FileFilter::default() }).await, 11);
    let created_after = Some(Timestamp::from_unix_seconds(1_700_000_040));
    assert_eq!(count(FileFilter { created_after, ..FileFilter::default() }).await, 20);
}

#[tokio::test]
async fn what_is_known_from_elsewhere_is_taken_in_once_and_listed_page_by_page() {
    registers_and_lists(Location::file(":memory:")).await;
    registers_and_lists(Location::Postgres(new_database(POOLED))).await;
}

fn to_be_placed() -> NewIntent {
    let placement = Placement {
        digest: Digest([3; 32]),
        platform: PlatformId::new("moonshot").unwrap(),
        account: AccountId::default(),
        purpose: Purpose::new("file-extract"),
    };
    let (name, mime) = ("a.txt".to_owned(), "text/plain".to_owned());
    NewIntent {
        placement,
        remote_name: name.clone(),
        name,
        size: 5,
        mime,
        owner: None,
        needed_until: None,
        keep: Keep::AsItIs,
    }
}

fn stored_as(id: &str) -> Settlement {
    Settlement {
        remote_id: id.to_owned(),
        remote_name: "a.txt".to_owned(),
        content: ContentKind::Opaque,
        created_at: Timestamp(1),
        expires_at: None,
        raw: serde_json::Value::Null,
        origin: Origin::Sent,
    }
}

/// A copy found on the platform and a sending of the same content: one of the two is bound, and the other one is told.
async fn binds_one_of_two(location: Location) {
    let clock = TestClock::at(Timestamp::from_unix_seconds(1_800_000_000));
    let registry = Registry::new(open(&location), open(&Location::file(":memory:")), Arc::new(clock.clone()));
    let new = to_be_placed();
    let Claim::Ours(claim) = registry.intend(new.clone(), Vec::new()).await.unwrap() else { panic!("it is free") };
    let refused = registry.adopt(new.clone(), stored_as("found"), None).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "it is being sent: {refused}");
    clock.advance(Duration::from_secs(31));
    let unbound = registry.adopt(new.clone(), stored_as("found"), Some(Timestamp(1))).await.unwrap_err();
    assert_eq!(unbound.kind(), ErrorKind::Conflict, "it was seen otherwise: {unbound}");
    registry.adopt(new.clone(), stored_as("found"), None).await.unwrap();
    let late = registry.settle(&claim, &new, stored_as("sent")).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict, "{late}");
    let again = registry.intend(new.clone(), Vec::new()).await.unwrap();
    assert!(matches!(again, Claim::AlreadyThere(replica) if replica.remote_id == "found"));
    assert_eq!(registry.expected(&new.placement.platform, &new.placement.account).await.unwrap(), []);
}

#[tokio::test]
async fn of_a_copy_that_is_found_and_one_that_is_sent_only_one_is_bound() {
    binds_one_of_two(Location::file(":memory:")).await;
    binds_one_of_two(Location::Postgres(new_database(POOLED))).await;
}
