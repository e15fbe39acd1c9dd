//! An upload that may go to any platform that is well.

use std::path::Path;

use exai_files::error::{ErrorKind, Result};
use exai_files::manager::{Because, Choice, Manager, Transfers, UploadRequest};
use exai_files::model::{FileRecord, PlatformId};
use exai_files::resilience::Mode;
use serde_json::json;

use crate::world::{World, request};

fn platform(name: &str) -> PlatformId {
    PlatformId::new(name).unwrap()
}

async fn anywhere(manager: &Manager, name: &str, prefer: &[&str]) -> Result<(FileRecord, Choice)> {
    let prefer: Vec<PlatformId> = prefer.iter().map(|name| platform(name)).collect();
    manager.upload_to_any(request(name, name, &[]), &prefer, &Transfers::default()).await
}

#[tokio::test]
async fn the_preferred_platform_is_the_first_choice() {
    let world = World::new();
    let manager = world.manager(Path::new(":memory:"));
    let (record, choice) = anywhere(&manager, "a.txt", &["zai", "moonshot"]).await.unwrap();
    assert_eq!(choice, Choice { platform: platform("zai"), because: Because::First, passed_over: [].into() });
    assert_eq!(record.replicas.len(), 1);
    let (_, again) = anywhere(&manager, "a.txt", &["moonshot"]).await.unwrap();
    assert_eq!((again.platform, again.because), (platform("zai"), Because::AlreadyThere), "nothing is sent twice");
    assert_eq!(world.truth("upload").len(), 1);
}

#[tokio::test]
async fn one_that_is_left_in_peace_is_passed_over_and_not_asked() {
    let world = World::new();
    let manager = world.manager(Path::new(":memory:"));
    manager.set_breaker(&platform("zai"), None, Mode::ForcedOpen).await.unwrap();
    let (_, choice) = anywhere(&manager, "a.txt", &["zai", "moonshot"]).await.unwrap();
    assert_eq!((choice.platform, choice.because), (platform("moonshot"), Because::NextBest));
    assert!(choice.passed_over[&platform("zai")].contains("left in peace"), "{:?}", choice.passed_over);
    assert!(world.files("zai").is_empty());
}

#[tokio::test]
async fn one_that_fails_makes_it_the_turn_of_the_next() {
    let world = World::new();
    let manager = world.manager(Path::new(":memory:"));
    world.fault("zai", "upload", json!("always"), json!({"kind": "status", "status": 503, "body": {}}));
    let (record, choice) = anywhere(&manager, "a.txt", &["zai", "moonshot"]).await.unwrap();
    assert_eq!(choice.platform, platform("moonshot"));
    assert!(choice.passed_over[&platform("zai")].contains("zai"), "{:?}", choice.passed_over);
    assert_eq!(record.replicas.len(), 1);
}

#[tokio::test]
async fn one_that_cannot_take_the_file_is_passed_over_and_if_none_can_the_first_says_why() {
    let world = World::new();
    let manager = world.manager(Path::new(":memory:"));
    let (_, choice) = anywhere(&manager, "a.jsonl", &["moonshot", "zai"]).await.unwrap();
    assert_eq!(choice.because, Because::First);
    let wanted = UploadRequest { purpose: Some("nonsense".to_owned()), ..request("hello", "b.txt", &[]) };
    let refused = manager.upload_to_any(wanted, &[platform("moonshot")], &Transfers::default()).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::InvalidRequest | ErrorKind::Unsupported), "{refused:?}");
    assert!(refused.to_string().contains("moonshot"), "{refused}");
    let unknown = anywhere(&manager, "c.txt", &["mars"]).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn what_is_wrong_with_the_call_is_tried_nowhere_else() {
    let world = World::new();
    let manager = world.manager(Path::new(":memory:"));
    let empty = manager.upload_to_any(request("", "a.txt", &[]), &[], &Transfers::default()).await.unwrap_err();
    assert_eq!(empty.kind(), ErrorKind::InvalidRequest);
    assert!(world.truth("upload").is_empty());
}
