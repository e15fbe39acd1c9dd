//! What the registry remembers, and when it may be believed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use exai_files::clock::{Clock, TestClock, Timestamp};
use exai_files::model::{
    AccountId, ContentKind, Digest, FileRecord, Fingerprint, Identity, Origin, PlatformId, Purpose, Replica,
    ReplicaStatus,
};
use exai_files::registry::{FileFilter, Registry};
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
