//! What the registry remembers, and when it may be believed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use exai_files::clock::{Clock, TestClock, Timestamp};
use exai_files::model::{Digest, Fingerprint, Identity, PlatformId};
use exai_files::registry::Registry;

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
