//! The audit log: written with each change, and any tampering found.

use std::path::Path;
use std::sync::Arc;

use exai_files::audit::{AuditFilter, AuditKey, AuditLog, AuditOptions, Checkpoint, Event, read_checkpoints};
use exai_files::clock::SystemClock;
use exai_files::model::Digest;
use exai_files::store::{Location, Session, Store, bind};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;

use crate::databases::{POOLED, new_database, open, place};
use crate::world::{DEADLINE, World, request, seed, upload};

const RECORDS: u64 = 700;

fn log_in(store: &Store, seed: u8) -> AuditLog {
    let key = AuditKey::from_seed(&[seed; 32]).unwrap();
    let options = AuditOptions { key: Some(key), actor: Some("mallory@example.com".into()), checkpoint_file: None };
    AuditLog::new(store.clone(), Arc::new(SystemClock), options)
}

/// Notes events from `from` on, many in one transaction.
async fn fill(store: &Store, log: &AuditLog, from: u64, to: u64) {
    for begin in (from..to).step_by(100) {
        let log = log.clone();
        let noted = store.write(move |session| {
            (begin..(begin + 100).min(to)).try_for_each(|number| {
                let event = Event { bytes: Some(number), ..Event::of("upload", &Digest([(number % 256) as u8; 32])) };
                log.append(session, &event, exai_files::clock::Timestamp(1_800_000_000_000_000 + number as i64))
            })
        });
        noted.await.unwrap();
    }
    log.seal().await.unwrap();
}

#[tokio::test]
async fn whatever_changes_is_noted_in_order_and_names_nobody() {
    let world = World::new();
    let manager = world.manager(Path::new(":memory:"));
    upload(&manager, request("hello", "secret-name.txt", &["moonshot"])).await.unwrap();
    manager.trash("secret-name.txt").await.unwrap();
    manager.restore("secret-name.txt").await.unwrap();
    manager.delete("secret-name.txt", None, DEADLINE).await.unwrap();
    let audit = manager.registry().audit();
    let records = audit.query(AuditFilter { limit: 100, ..AuditFilter::default() }).await.unwrap();
    let actions: Vec<&str> = records.iter().map(|record| record.action.as_str()).collect();
    assert_eq!(actions, ["audit.begin", "upload", "trash", "restore", "delete"]);
    assert!(records.iter().all(|record| !record.record.contains("secret-name")));
    let last: Value = serde_json::from_str(&records[4].record).unwrap();
    assert_eq!(last["reason"], "gone when asked for again");
    let of_uploads = AuditFilter { action: Some("upload".into()), limit: 5, ..AuditFilter::default() };
    assert_eq!(audit.query(of_uploads).await.unwrap().len(), 1);
}

#[tokio::test]
async fn persons_are_named_by_pseudonyms() {
    let store = open(&Location::file(":memory:"));
    let log = log_in(&store, 1);
    fill(&store, &log, 0, 3).await;
    for record in log.query(AuditFilter { limit: 10, ..AuditFilter::default() }).await.unwrap() {
        assert!(!record.record.contains("mallory"), "{}", record.record);
        assert!(record.action == "audit.begin" || record.record.contains("\"actor\":\""));
    }
}

#[tokio::test]
async fn records_are_proved_by_the_tree_and_checkpoints_read_again() {
    let store = open(&place(Path::new(":memory:")));
    let log = log_in(&store, 1);
    fill(&store, &log, 0, 1_000).await;
    let checkpoint = log.checkpoint().await.unwrap().unwrap();
    assert_eq!(
        read_checkpoints(&format!("{0}\n{0}", checkpoint.note)).unwrap(),
        [checkpoint.clone(), checkpoint.clone()]
    );
    assert!(log.checkpoint().await.unwrap().is_none(), "nothing has happened since");
    for seq in [0, 1, 255, 256, 511, 767, 999, 1_000] {
        let proof = log.prove(seq).await.unwrap();
        let mut hash = leaf(&proof.record);
        let (mut index, mut last) = (proof.index, proof.size - 1);
        for sibling in &proof.path {
            let sibling = Digest::from_hex(sibling).unwrap().0;
            // RFC 9162 §2.1.3.2
            if index % 2 == 1 || index == last {
                hash = node(&sibling, &hash);
                while index % 2 == 0 && index != 0 {
                    (index, last) = (index / 2, last / 2);
                }
            } else {
                hash = node(&hash, &sibling);
            }
            (index, last) = (index / 2, last / 2);
        }
        assert_eq!(Digest(hash).hex(), checkpoint.root, "record {seq}");
        assert!(serde_json::to_string(&proof).unwrap().len() < 3_000);
    }
}

fn leaf(record: &str) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    Sha256::new().chain_update([0]).chain_update(record).finalize().into()
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

// ===== tampering =====

/// What someone who may write to the database does, at a place in the log.
type Tamper = fn(&mut Session<'_>, u64) -> exai_files::error::Result<u64>;

const TAMPERING: &[(&str, Tamper)] = &[
    ("edits a field", |s, at| {
        s.execute(
            "UPDATE audit_log SET record = replace(record, '\"bytes\":', '\"bytes\":9') WHERE seq = ?1",
            bind![at],
        )
    }),
    ("edits the time", |s, at| {
        s.execute("UPDATE audit_log SET record = replace(record, '\"time\":1', '\"time\":2') WHERE seq = ?1", bind![at])
    }),
    ("edits the action", |s, at| {
        s.execute("UPDATE audit_log SET record = replace(record, '\"upload\"', '\"delete\"'), action = 'delete' WHERE seq = ?1", bind![at])
    }),
    ("adds white space", |s, at| {
        s.execute("UPDATE audit_log SET record = replace(record, ',', ', ') WHERE seq = ?1", bind![at])
    }),
    ("empties a record", |s, at| s.execute("UPDATE audit_log SET record = '{}' WHERE seq = ?1", bind![at])),
    ("writes what is no JSON", |s, at| s.execute("UPDATE audit_log SET record = 'x' WHERE seq = ?1", bind![at])),
    ("deletes one", |s, at| s.execute("DELETE FROM audit_log WHERE seq = ?1", bind![at])),
    ("cuts the end off", |s, at| s.execute("DELETE FROM audit_log WHERE seq >= ?1", bind![at])),
    ("cuts the beginning off", |s, at| s.execute("DELETE FROM audit_log WHERE seq <= ?1", bind![at])),
    ("deletes one and closes the gap", |s, at| {
        s.execute("DELETE FROM audit_log WHERE seq = ?1", bind![at])?;
        (at + 1..=RECORDS)
            .try_fold(0, |_, seq| s.execute("UPDATE audit_log SET seq = ?1 - 1 WHERE seq = ?1", bind![seq]))
    }),
    ("swaps two", |s, at| {
        s.execute("UPDATE audit_log SET seq = -1 WHERE seq = ?1", bind![at])?;
        s.execute("UPDATE audit_log SET seq = ?1 WHERE seq = ?1 - 1", bind![at])?;
        s.execute("UPDATE audit_log SET seq = ?1 - 1 WHERE seq = -1", bind![at])
    }),
    ("doubles one at the end", |s, at| {
        s.execute(
            "INSERT INTO audit_log (seq, happened_at, action, file_hash, record)
                   SELECT ?2, happened_at, action, file_hash, record FROM audit_log WHERE seq = ?1",
            bind![at, RECORDS + 1],
        )
    }),
    ("puts one over another", |s, at| {
        s.execute(
            "UPDATE audit_log SET record = (SELECT record FROM audit_log WHERE seq = ?1 - 1) WHERE seq = ?1",
            bind![at],
        )
    }),
    ("hides whose it is", |s, at| s.execute("UPDATE audit_log SET file_hash = NULL WHERE seq = ?1", bind![at])),
    ("hides what it is", |s, at| s.execute("UPDATE audit_log SET action = 'label' WHERE seq = ?1", bind![at])),
    ("edits a kept hash", |s, at| {
        s.execute("UPDATE audit_tiles SET hash = ?2 WHERE level = 1 AND number = ?1 % 2", bind![at, "00".repeat(32)])
    }),
    ("drops a kept hash", |s, at| s.execute("DELETE FROM audit_tiles WHERE level = 1 AND number = ?1 % 2", bind![at])),
    ("edits a checkpoint", |s, _| s.execute("UPDATE audit_checkpoints SET note = replace(note, '7', '8')", &[])),
    ("writes all of it anew from there on", |s, at| rewrite(s, at)),
];

/// As well as it can be done: chain and tree are right again, and the checkpoints of its own are gone.
fn rewrite(session: &mut Session<'_>, at: u64) -> exai_files::error::Result<u64> {
    let mut records = Vec::new();
    for row in session.rows("SELECT record FROM audit_log WHERE seq >= ?1 ORDER BY seq", bind![at])? {
        records.push(row.get::<String>(0)?);
    }
    let before = session.one("SELECT record FROM audit_log WHERE seq = ?1 - 1", bind![at])?;
    let mut prev = leaf(&before.get::<String>(0)?);
    for (number, text) in records.iter().enumerate() {
        let mut record: Value = serde_json::from_str(text).unwrap();
        record["prev"] = Digest(prev).hex().into();
        record["bytes"] = if number == 0 { 1_000_000.into() } else { record["bytes"].clone() };
        let text = record.to_string();
        prev = leaf(&text);
        session.execute("UPDATE audit_log SET record = ?2 WHERE seq = ?1", bind![at + number as u64, &text])?;
    }
    session.execute("DELETE FROM audit_tiles", &[])?;
    session.execute("DELETE FROM audit_checkpoints", &[])
}

async fn every_tampering_is_found(location: Location, positions: u64) {
    let store = open(&location);
    let log = log_in(&store, 1);
    // Record 0 begins the log.
    fill(&store, &log, 0, RECORDS).await;
    let kept_elsewhere = log.checkpoint().await.unwrap().unwrap();
    let intact = log.verify(vec![kept_elsewhere.clone()], None).await.unwrap();
    assert!(intact.is_intact && intact.checkpoints == 2 && intact.records == RECORDS + 1, "{intact:?}");
    let mut random = StdRng::seed_from_u64(seed());
    for (what, tamper) in TAMPERING {
        for _ in 0..positions {
            let at = random.random_range(2..RECORDS - 1);
            let found = tampered(&store, &log, *tamper, at, &kept_elsewhere).await;
            assert!(!found.is_empty(), "somebody {what} at {at}, and nobody sees it");
        }
    }
    let others = log_in(&store, 2);
    assert!(!others.verify(vec![kept_elsewhere], None).await.unwrap().is_intact, "signed by another key");
}

/// What is found; everything is as it was afterwards.
async fn tampered(store: &Store, log: &AuditLog, tamper: Tamper, at: u64, external: &Checkpoint) -> Vec<String> {
    let tables = ["audit_log", "audit_tiles", "audit_checkpoints"];
    let copy = move |session: &mut Session<'_>| {
        tables.iter().try_for_each(|t| {
            session.batch(&format!("DROP TABLE IF EXISTS was_{t}; CREATE TABLE was_{t} AS SELECT * FROM {t}"))
        })
    };
    store.write(copy).await.unwrap();
    store.write(move |session| tamper(session, at).map(drop)).await.unwrap();
    let report = log.verify(vec![external.clone()], None).await.unwrap();
    let back = move |session: &mut Session<'_>| {
        tables.iter().try_for_each(|t| {
            session.batch(&format!("DELETE FROM {t}; INSERT INTO {t} SELECT * FROM was_{t}; DROP TABLE was_{t}"))
        })
    };
    store.write(back).await.unwrap();
    report.findings.into_iter().map(|finding| finding.what).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_tamper_with_it_is_found_against_a_checkpoint_kept_elsewhere() {
    // More of them for a release: EXAI_TEST_POSITIONS=200.
    let positions = std::env::var("EXAI_TEST_POSITIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(5);
    every_tampering_is_found(Location::file(":memory:"), positions).await;
    every_tampering_is_found(Location::Postgres(new_database(POOLED)), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_write_at_once_leave_one_chain_without_a_gap() {
    for location in [Location::file(":memory:"), Location::Postgres(new_database(POOLED))] {
        let store = open(&location);
        let log = log_in(&store, 1);
        let writers = (0..8).map(|_| {
            let (store, log) = (store.clone(), log.clone());
            tokio::spawn(async move {
                for number in 0..50 {
                    let log = log.clone();
                    let event = move |session: &mut Session<'_>| {
                        log.append(
                            session,
                            &Event::of("upload", &Digest([number; 32])),
                            exai_files::clock::Timestamp(1),
                        )
                    };
                    store.write(event).await.unwrap();
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        let report = log.verify(Vec::new(), None).await.unwrap();
        assert!(report.is_intact && report.records == 401, "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_verified_while_others_write() {
    let directory = tempfile::tempdir().unwrap();
    for location in [Location::file(directory.path().join("r.db")), Location::Postgres(new_database(POOLED))] {
        let store = open(&location);
        let log = log_in(&store, 1);
        fill(&store, &log, 0, 500).await;
        let writing = tokio::spawn({
            let (store, log) = (store.clone(), log.clone());
            async move { fill(&store, &log, 500, 6_000).await }
        });
        while !writing.is_finished() {
            log.checkpoint().await.unwrap();
            let report = log.verify(Vec::new(), None).await.unwrap();
            assert!(report.is_intact, "{report:?}");
        }
        writing.await.unwrap();
    }
}
