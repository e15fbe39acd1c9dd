//! The simulator itself: limits, ids, shapes and determinism (platform_api.md §1, §2, §10).

use exai_files::simulator::{Options, Simulator};
use serde_json::{Value, json};

use crate::world::World;

const MULTIPART: &str = "multipart/form-data; boundary=b";

fn form(purpose: &str, filename: &str, content: &str) -> String {
    format!(
        "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{filename}\"\r\n\r\n{content}\r\n\
         --b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n{purpose}\r\n--b--\r\n"
    )
}

struct Caller<'w> {
    client: reqwest::Client,
    world: &'w World,
}

impl<'w> Caller<'w> {
    fn new(world: &'w World) -> Self {
        exai_files::transport::install_crypto();
        Caller { client: reqwest::Client::new(), world }
    }

    fn base(&self, platform: &str) -> (&str, &str) {
        let urls = self.world.simulator.urls();
        match platform {
            "moonshot" => (&urls.moonshot, "sk-simulator"),
            "zai" => (&urls.zai, "simulator.zai-secret"),
            _ => (&urls.zhipu_cn, "simulator.zhipu-secret"),
        }
    }

    async fn call(&self, platform: &str, method: &str, path: &str, body: Option<String>) -> (u16, Value) {
        self.call_with(platform, method, path, body, &[]).await
    }

    async fn call_with(
        &self,
        platform: &str,
        method: &str,
        path: &str,
        body: Option<String>,
        headers: &[(&str, &str)],
    ) -> (u16, Value) {
        let (base, key) = self.base(platform);
        let mut request = self.client.request(method.parse().unwrap(), format!("{base}{path}")).bearer_auth(key);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header("content-type", MULTIPART).body(body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.bytes().await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::String(String::from_utf8_lossy(&body).into_owned())))
    }
}

#[tokio::test]
async fn purposes_sizes_and_counts_are_limited_as_documented() {
    let world = World::with(
        json!({"moonshot": {"max_file_bytes": 10, "max_files": 2}, "zai": {"max_file_bytes": 10, "max_files": 1}}),
    );
    let caller = Caller::new(&world);
    let upload = |platform: &'static str, purpose: &str, content: &str| {
        caller.call(platform, "POST", "/files", Some(form(purpose, "a.txt", content)))
    };
    let said =
        |(status, body): (u16, Value)| (status, body["error"]["message"].as_str().unwrap_or_default().to_owned());

    let (status, message) = said(upload("moonshot", "vision", "x").await);
    assert_eq!(status, 400);
    assert_eq!(
        message,
        "Invalid purpose: vision, only `file-extract`, `batch`, `batch_output`, `lambda`, `image` and `video` accepted"
    );
    assert_eq!(
        said(upload("moonshot", "image", "").await),
        (400, "File size is zero, please confirm and re-upload the file".into())
    );
    assert_eq!(said(upload("moonshot", "image", "12345678901").await).0, 400);
    assert_eq!(said(upload("zai", "agent", "12345678901").await).0, 435);
    assert_eq!(said(upload("zai", "batch", "x").await).0, 400, "intl documents agent alone");
    assert_eq!(upload("zai", "agent", "x").await.0, 200);
    assert_eq!(upload("zai", "agent", "x").await.0, 400);
    assert_eq!((upload("moonshot", "image", "x").await.0, upload("moonshot", "image", "x").await.0), (200, 200));
    assert!(said(upload("moonshot", "image", "x").await).1.contains("max file count 2"));
}

#[tokio::test]
async fn the_beta_header_switches_the_contract() {
    let world = World::new();
    let caller = Caller::new(&world);
    let beta = [("kimi-api-version", "2026-09-01-beta")];
    let (status, object) =
        caller.call_with("moonshot", "POST", "/files", Some(form("file-extract", "a.txt", "hi")), &beta).await;
    assert_eq!((status, &object["size_bytes"], &object["extract_status"]), (201, &json!(2), &json!("ready")));
    assert!(object["created_at"].is_string());
    let path = format!("/files/{}", object["id"].as_str().unwrap());
    assert_eq!(caller.call_with("moonshot", "DELETE", &path, None, &beta).await.0, 204);
}

#[tokio::test]
async fn a_same_name_is_renamed_on_moonshot() {
    let world = World::new();
    let caller = Caller::new(&world);
    let mut names = Vec::new();
    for _ in 0..3 {
        names.push(
            caller.call("moonshot", "POST", "/files", Some(form("image", "r.txt", "x"))).await.1["filename"].clone(),
        );
    }
    assert_eq!(names, ["r.txt", "r (1).txt", "r (2).txt"]);
}

#[tokio::test]
async fn zai_has_no_metadata_and_lists_nothing_without_a_purpose() {
    let world = World::new();
    let caller = Caller::new(&world);
    let (_, object) = caller.call("zai", "POST", "/files", Some(form("agent", "a.txt", "x"))).await;
    let path = format!("/files/{}", object["id"].as_str().unwrap());
    assert_eq!(
        caller.call("zai", "GET", &path, None).await,
        (200, json!({"code": 500, "msg": "404 NOT_FOUND", "success": false}))
    );
    assert_eq!(caller.call("zai", "GET", "/files", None).await.1["data"], json!([]));
    assert_eq!(caller.call("zai", "GET", "/files?purpose=agent", None).await.1["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn keys_are_checked_and_messages_follow_the_language() {
    let world = World::with(json!({"moonshot": {"keys": ["sk-right"]}}));
    let caller = Caller::new(&world);
    assert_eq!(caller.call("moonshot", "GET", "/files", None).await.1["error"]["type"], "incorrect_api_key_error");
    world.fault("zhipu_cn", "list", json!("always"), json!({"kind": "error", "code": "1302"}));
    let chinese = caller.call("zhipu_cn", "GET", "/files?purpose=agent", None).await.1;
    let english =
        caller.call_with("zhipu_cn", "GET", "/files?purpose=agent", None, &[("accept-language", "en-US,en")]).await.1;
    assert_eq!(chinese["error"]["message"], "您的账户已达到速率限制，请您控制请求频率");
    assert_eq!(english["error"]["message"], "Rate limit reached for requests");
}

#[tokio::test]
async fn a_tier_limits_requests_and_says_for_how_long_only_in_words() {
    let world = World::with(json!({"moonshot": {"tier": 0}}));
    let caller = Caller::new(&world);
    world.admin("POST", "/clock", json!({"freeze": true}));
    for _ in 0..3 {
        assert_eq!(caller.call("moonshot", "GET", "/files", None).await.0, 200);
    }
    let (status, body) = caller.call("moonshot", "GET", "/files", None).await;
    assert_eq!(status, 429);
    assert!(
        body["error"]["message"].as_str().unwrap().ends_with("max RPM: 3, please try again after 60 seconds"),
        "{body}"
    );
    world.admin("POST", "/clock", json!({"advance": 60}));
    assert_eq!(caller.call("moonshot", "GET", "/files", None).await.0, 200);
}

#[tokio::test]
async fn files_expire_by_the_clock() {
    let world = World::new();
    let caller = Caller::new(&world);
    caller.call("zai", "POST", "/files", Some(form("agent", "a.txt", "x"))).await;
    world.admin("POST", "/clock", json!({"advance": 180 * 86_400 + 1}));
    assert_eq!(caller.call("zai", "GET", "/files?purpose=agent", None).await.1["data"], json!([]));
    assert_eq!(world.truth("expire").len(), 1);
}

#[tokio::test]
async fn the_same_seed_gives_the_same_ids() {
    let ids = || async {
        let world = World::new();
        world.admin("POST", "/clock", json!({"now": "2026-11-23T10:00:00Z", "freeze": true}));
        let caller = Caller::new(&world);
        let mut ids = Vec::new();
        for (platform, purpose) in
            [("moonshot", "image"), ("zai", "agent"), ("zhipu_cn", "batch"), ("zhipu_cn", "agent")]
        {
            ids.push(
                caller.call(platform, "POST", "/files", Some(form(purpose, "a.jsonl", "x"))).await.1["id"].clone(),
            );
        }
        ids
    };
    let (first, second) = (ids().await, ids().await);
    assert_eq!(first, second);
    let text: Vec<&str> = first.iter().map(|id| id.as_str().unwrap()).collect();
    assert!(text[0].starts_with("file_") && text[0].len() == 31, "{text:?}");
    assert!(text[1].starts_with("agent_1795428000_") && text[2].starts_with("20261123_"), "{text:?}");
}

#[tokio::test]
async fn texts_are_extracted_and_wrapped() {
    let world = World::new();
    let caller = Caller::new(&world);
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/python/exai_files/samples");
    for (file, words) in [
        ("paper.pdf", "handed over once"),
        ("minutes.docx", "nothing is sent twice"),
        ("读我.gbk.txt", "这个文件用 GBK 编码"),
        ("会议纪要.txt", "决定"),
    ] {
        let bytes = std::fs::read(format!("{samples}/{file}")).unwrap();
        let around = form("file-extract", file, "\u{1}");
        let (head, tail) = around.split_once('\u{1}').unwrap();
        let body = [head.as_bytes(), &bytes, tail.as_bytes()].concat();
        let (base, key) = caller.base("moonshot");
        let answer = caller
            .client
            .post(format!("{base}/files"))
            .bearer_auth(key)
            .header("content-type", MULTIPART)
            .body(body)
            .send()
            .await
            .unwrap();
        let object: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        let content =
            caller.call("moonshot", "GET", &format!("/files/{}/content", object["id"].as_str().unwrap()), None).await.1;
        assert!(content["content"].as_str().unwrap().contains(words), "{file}: {content}");
        assert_eq!((&content["filename"], &content["type"]), (&json!(file), &json!("file")));
    }
    let (status, refused) = caller
        .call("moonshot", "POST", "/files", Some(form("file-extract", "scan.pdf", "%PDF-1.4\nno text here")))
        .await;
    assert_eq!((status, &refused["error"]["message"]), (400, &json!("text extract error: 没有解析出内容")));
}

#[test]
fn nonsense_is_refused_with_the_valid_words() {
    let world = World::new();
    for (method, path, body, words) in [
        ("POST", "/faults", json!({"fault": {"kind": "explode"}}), "lost_reply"),
        ("POST", "/faults", json!({"operation": "uplaod", "fault": {"kind": "stall"}}), "upload"),
        ("POST", "/faults", json!({"fault": {"kind": "error", "code": "9999"}}), "9999"),
        ("POST", "/settings/moonshot", json!({"colour": 1}), "max_files"),
        ("POST", "/settings/mars", json!({}), "zhipu_cn"),
        ("POST", "/clock", json!({"now": "yesterday"}), "RFC 3339"),
        ("POST", "/clock", json!({"jump": 1}), "advance"),
        ("GET", "/nothing", Value::Null, "truth"),
    ] {
        let error = world.simulator.admin(method, path, Some(body)).unwrap_err();
        assert!(error.to_string().contains(words), "{path}: {error}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_an_error_inside_a_runtime_too() {
    let world = World::new();
    let taken = Options { port: world.address().port(), ..Options::default() };
    assert_eq!(Simulator::start(taken).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
}
