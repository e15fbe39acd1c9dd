//! The conformance suite of a platform: what every one must do, whatever it is like behind the trait.

use bytes::Bytes;
use exai_files::error::{Delivery, ErrorKind, Result};
use exai_files::model::{ByteStream, ContentKind, FileObject, Purpose};
use exai_files::platform::{Deleted, FilesApi, ListQuery, OpenAiCompatible, Platform, Upload};
use exai_files::transport::Timeouts;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

use crate::world::{DEADLINE, PLATFORMS, World};

fn body(bytes: &[u8]) -> ByteStream {
    stream::iter([Ok(Bytes::copy_from_slice(bytes))]).boxed()
}

async fn put(api: &FilesApi, name: &str, purpose: &str, bytes: &[u8]) -> Result<FileObject> {
    api.upload(Upload {
        name: name.into(),
        purpose: Purpose::new(purpose),
        mime: "text/plain".into(),
        length: bytes.len() as u64,
        body: body(bytes),
        deadline: soon(),
    })
    .await
}

fn soon() -> Instant {
    Instant::now() + DEADLINE
}

fn usual_purpose(api: &FilesApi) -> String {
    api.capabilities().purpose(None, "a.txt", "text/plain").unwrap().wire.clone()
}

#[tokio::test]
async fn a_file_is_put_listed_described_and_deleted() {
    let world = World::new();
    for (name, simulated) in PLATFORMS {
        let api = world.api(name, Timeouts::default());
        let purpose = Purpose::new(&usual_purpose(&api));
        let object = put(&api, "报告 \"q\".txt", purpose.as_str(), b"hello").await.unwrap();
        assert_eq!((object.size, object.name.as_deref()), (Some(5), Some("报告 \"q\".txt")), "{name}");
        assert!(object.status.is_usable() && object.created_at.is_some(), "{name}");
        assert_eq!(
            world.files(simulated)[0]["sha256"],
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
            "{name}"
        );

        let listed = api.list(&ListQuery::default(), soon()).await.unwrap();
        assert_eq!(listed.iter().map(|file| file.id.as_str()).collect::<Vec<_>>(), [object.id.as_str()], "{name}");
        let described = api.get(&object.id, Some(&purpose), soon()).await.unwrap();
        assert_eq!((described.id, described.size), (object.id.clone(), Some(5)), "{name}");

        assert_eq!(api.delete(&object.id, soon()).await.unwrap(), Deleted::Now, "{name}");
        assert_eq!(api.delete(&object.id, soon()).await.unwrap(), Deleted::AlreadyGone, "{name}");
        let gone = api.get(&object.id, Some(&purpose), soon()).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound, "{name}");
    }
}

#[tokio::test]
async fn a_missing_file_is_gone_however_the_platform_says_so() {
    let world = World::with(json!({"zai": {"not_found": "1214"}}));
    let api = world.api("zai", Timeouts::default());
    assert_eq!(api.delete("agent_1_0", soon()).await.unwrap(), Deleted::AlreadyGone);
}

#[tokio::test]
async fn listing_walks_every_page_and_every_purpose() {
    let world = World::with(json!({"moonshot": {"page_size": 3}, "zai": {"purposes": "lenient"}}));
    for (name, _) in PLATFORMS {
        let api = world.api(name, Timeouts::default());
        let mut ids = Vec::new();
        for number in 0..25 {
            ids.push(put(&api, &format!("{number}.txt"), &usual_purpose(&api), b"x").await.unwrap().id);
        }
        ids.push(put(&api, "b.jsonl", "batch", b"{}").await.unwrap().id);
        let mut listed: Vec<String> =
            api.list(&ListQuery::default(), soon()).await.unwrap().into_iter().map(|file| file.id).collect();
        ids.sort();
        listed.sort();
        assert_eq!(listed, ids, "{name}");
    }
}

#[tokio::test]
async fn content_says_what_it_is() {
    let world = World::with(json!({"zai": {"purposes": "lenient"}}));
    for (name, purpose, kind) in [
        ("moonshot", "file-extract", ContentKind::ExtractedText),
        ("zhipu", "file-extract", ContentKind::ExtractedText),
        ("moonshot", "batch", ContentKind::Bytes),
        ("zai", "batch", ContentKind::Bytes),
        ("zhipu", "batch", ContentKind::Bytes),
    ] {
        let api = world.api(name, Timeouts::default());
        let bytes = "{\"a\": \"中文\"}\n".as_bytes();
        let object = put(&api, "a.jsonl", purpose, bytes).await.unwrap();
        let content = api.content(&object.id, &Purpose::new(purpose), soon()).await.unwrap().collect().await.unwrap();
        assert_eq!(content.kind, kind, "{name} {purpose}");
        match kind {
            ContentKind::ExtractedText => {
                assert_eq!(content.text.as_deref().map(str::trim), Some("{\"a\": \"中文\"}"), "{name}")
            }
            _ => assert_eq!((&content.bytes[..], content.text), (bytes, None), "{name}"),
        }
    }
}

/// What each way of breaking says about whether the file may be there.
#[tokio::test]
async fn a_failed_upload_says_whether_it_may_have_been_stored() {
    let timeouts =
        Timeouts { answer: Duration::from_millis(200), stall: Duration::from_millis(200), ..Timeouts::default() };
    for (fault, kind, delivery) in [
        (json!({"kind": "lost_reply"}), ErrorKind::Unavailable, Delivery::Unknown),
        (json!({"kind": "lost_request"}), ErrorKind::Unavailable, Delivery::Unknown),
        (json!({"kind": "stall"}), ErrorKind::TimedOut, Delivery::Unknown),
        (json!({"kind": "truncated_body", "keep": 5}), ErrorKind::Unavailable, Delivery::Unknown),
        (json!({"kind": "reset", "at_byte": 5}), ErrorKind::Unavailable, Delivery::Unknown),
        (json!({"kind": "html", "status": 200}), ErrorKind::ContractDrift, Delivery::Unknown),
        (json!({"kind": "html", "status": 504}), ErrorKind::TimedOut, Delivery::Unknown),
        (json!({"kind": "status", "status": 500, "body": {}}), ErrorKind::Unavailable, Delivery::Doubtful),
        (json!({"kind": "ok_error"}), ErrorKind::Unavailable, Delivery::Doubtful),
        (json!({"kind": "status", "status": 429, "body": {}}), ErrorKind::RateLimited, Delivery::NotStored),
        (json!({"kind": "status", "status": 400, "body": {}}), ErrorKind::InvalidRequest, Delivery::NotStored),
    ] {
        let world = World::new();
        world.fault("zai", "upload", json!({"next": 1}), fault.clone());
        let error = put(&world.api("zai", timeouts.clone()), "a.txt", "agent", b"hello").await.unwrap_err();
        assert_eq!((error.kind(), error.delivery()), (kind, delivery), "{fault}: {error:?}");
    }
}

#[tokio::test]
async fn nobody_there_means_nothing_was_stored() {
    let world = World::new();
    let api = world.api("moonshot", Timeouts::default());
    drop(world);
    let error = put(&api, "a.txt", "file-extract", b"hello").await.unwrap_err();
    assert_eq!((error.kind(), error.delivery()), (ErrorKind::Unavailable, Delivery::NotStored), "{error:?}");
}

#[tokio::test]
async fn the_length_is_always_stated_and_the_key_never_logged() {
    let world = World::with(json!({"moonshot": {"reject_chunked": true}}));
    put(&world.api("moonshot", Timeouts::default()), "a.txt", "file-extract", &[b'x'; 700_000]).await.unwrap();
    let truth = &world.truth("upload")[0];
    assert!(truth["request_headers"]["content-length"].as_str().is_some(), "{truth}");
    assert!(!truth.to_string().contains("sk-simulator"));
}

#[tokio::test]
async fn an_answer_that_comes_in_pieces_is_read_to_its_end() {
    let world = World::with(json!({"moonshot": {"max_files": 10_000}}));
    for number in 0..300 {
        world.admin("POST", "/files/moonshot", json!({"filename": format!("{number}.txt"), "purpose": "image"}));
    }
    let api = world.api("moonshot", Timeouts::default());
    world.fault("moonshot", "list", json!({"next": 1}), json!({"kind": "delay", "body_ms": 30}));
    assert_eq!(api.list(&ListQuery::default(), soon()).await.unwrap().len(), 300, "in two halves");
    world.fault("moonshot", "list", json!({"next": 1}), json!({"kind": "drip", "bytes_per_second": 400_000}));
    assert_eq!(api.list(&ListQuery::default(), soon()).await.unwrap().len(), 300, "in drops");
}

#[tokio::test]
async fn ids_cannot_leave_their_place_in_the_path() {
    let world = World::new();
    let api = world.api("moonshot", Timeouts::default());
    for id in ["", ".", "..", "a/b", "../admin/reset", "a?b", "a#b", "a b", "a%2fb", "é"] {
        let error = api.get(id, None, soon()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{id:?}");
    }
    assert!(world.truth("get").is_empty(), "nothing was asked");
}

#[test]
fn purposes_are_accepted_in_every_spelling_or_refused_with_the_list() {
    let world = World::new();
    let spellings =
        ["file-extract", "assistants", "vision", "batch", "batch_output", "lambda", "fine-tune", "agent", "file"];
    let refused = |name: &str| {
        let api = world.api(name, Timeouts::default());
        spellings
            .into_iter()
            .filter(|s| api.capabilities().purpose(Some(s), "a.txt", "text/plain").is_err())
            .collect::<Vec<_>>()
    };
    assert_eq!(refused("moonshot"), ["fine-tune"]);
    assert_eq!(refused("zai"), ["batch_output", "lambda"]);
    assert_eq!(refused("zhipu"), ["batch_output", "lambda"]);
    let api = world.api("zhipu", Timeouts::default());
    let error = api.capabilities().purpose(Some("retrieval"), "a.txt", "text/plain").unwrap_err();
    assert!(error.to_string().contains("knowledge_id") && error.hint().unwrap().contains("agent"), "{error}");
}

#[tokio::test]
async fn a_platform_of_ones_own_is_a_table() {
    let world = World::new();
    let table: OpenAiCompatible = serde_json::from_value(json!({
        "base_url": world.simulator.urls().moonshot,
        "purposes": [{"name": "file-extract", "aliases": ["text"], "content": "extracted-text"}],
    }))
    .unwrap();
    let profile = table.profile("mine").unwrap();
    assert_eq!(profile.capabilities.purpose(Some("text"), "a.txt", "text/plain").unwrap().wire, "file-extract");
    let unknown: std::result::Result<OpenAiCompatible, _> =
        serde_json::from_value(json!({"base_url": "x", "colour": 1}));
    assert!(unknown.is_err());
    assert_eq!(world.admin("GET", "/health", Value::Null)["ok"], true);
}
