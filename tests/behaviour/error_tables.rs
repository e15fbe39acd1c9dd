//! Every row of platform_api.md §4, said by the simulator and understood by the client.

use exai_files::error::{Error, ErrorKind, Retry};
use exai_files::model::Operation;
use exai_files::platform::{ListQuery, Platform};
use exai_files::transport::Timeouts;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::world::{DEADLINE, World};

/// What a platform said, as the client understands it in a listing.
async fn understood(world: &World, platform: &str, fault: Value) -> Error {
    let simulated = if platform == "zhipu" { "zhipu_cn" } else { platform };
    world.admin("DELETE", "/faults", Value::Null);
    world.fault(simulated, "list", json!({"next": 1}), fault);
    let api = world.api(platform, Timeouts::default());
    let query = ListQuery { purpose: Some(exai_files::model::Purpose::new("agent")) };
    api.list(&query, Instant::now() + DEADLINE).await.unwrap_err()
}

type Row = (&'static str, Value, ErrorKind, Retry, bool);

async fn check(platform: &str, rows: Vec<Row>) {
    let world = World::new();
    for (name, fault, kind, retry, breaker) in rows {
        let error = understood(&world, platform, fault).await;
        let seen = (error.kind(), error.retry(), error.is_platform_fault());
        assert_eq!(seen, (kind, retry, breaker), "{platform} {name}: {error:?}");
        assert_eq!(error.is_retryable(Operation::List), retry != Retry::Never, "{name}");
        assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{name}: nothing a person can do");
        assert!(!error.to_string().contains("simulator.") && !error.to_string().contains("sk-"), "{name} shows a key");
        assert_eq!(error.context().unwrap().platform, platform, "{name}");
    }
}

/// §4A: status, type and message.
#[tokio::test]
async fn moonshot_says_and_we_understand() {
    use ErrorKind::*;
    let said = |status: u16, kind: &str, message: &str| json!({"kind": "status", "status": status, "body": {"error": {"message": message, "type": kind}}});
    let limit = |text: &str| {
        said(429, "rate_limit_reached_error", &format!("Your account org-x<ak-y> request reached organization {text}"))
    };
    check("moonshot", vec![
        ("content_filter", said(400, "content_filter", "considered high risk"), ContentRejected, Retry::Never, false),
        ("invalid", said(400, "invalid_request_error", "Invalid request: details"), InvalidRequest, Retry::Never, false),
        ("purpose", said(400, "invalid_request_error", "Invalid purpose: vision, only `file-extract` accepted"), InvalidRequest, Retry::Never, false),
        ("too large", said(400, "invalid_request_error", "File size is too large, max file size is 100MB, please confirm and re-upload the file"), TooLarge, Retry::Never, false),
        ("empty", said(400, "invalid_request_error", "File size is zero, please confirm and re-upload the file"), InvalidRequest, Retry::Never, false),
        ("file count", said(400, "invalid_request_error", "The number of files you have uploaded exceeded the max file count 1000, please delete previous uploaded files"), QuotaExceeded, Retry::Never, false),
        ("tokens", said(400, "invalid_request_error", "Input token length too long"), InvalidRequest, Retry::Never, false),
        ("model tokens", said(400, "invalid_request_error", "Your request exceeded model token limit : 8192"), InvalidRequest, Retry::Never, false),
        ("nothing parsed", said(400, "invalid_request_error", "text extract error: 没有解析出内容"), ContentRejected, Retry::Never, false),
        ("type", said(400, "invalid_request_error", "不支持的文件类型"), ContentRejected, Retry::Never, false),
        ("missing header", said(400, "invalid_request_error", "missing required header Kimi-Api-Version"), Unavailable, Retry::Once, false),
        ("authentication", said(401, "invalid_authentication_error", "Invalid Authentication"), Unauthenticated, Retry::Never, false),
        ("key", said(401, "incorrect_api_key_error", "Incorrect API key provided"), Unauthenticated, Retry::Never, false),
        ("permission", said(403, "permission_denied_error", "The API you are accessing is not open"), PermissionDenied, Retry::Never, false),
        ("ip", said(403, "permission_denied_error", "Your IP is not allowed to access this organization"), PermissionDenied, Retry::Never, false),
        ("not found", said(404, "resource_not_found_error", "Not found the model x or Permission denied"), NotFound, Retry::Never, false),
        ("overloaded", said(429, "engine_overloaded_error", "The engine is currently overloaded, please try again later"), Unavailable, Retry::Slowly, true),
        ("balance", said(429, "exceeded_current_quota_error", "Your account is suspended"), Billing, Retry::Never, false),
        ("concurrency", limit("max concurrency: 1, please try again after 1 seconds"), RateLimited, Retry::Yes, false),
        ("rpm", limit("max RPM: 3, please try again after 19 seconds"), RateLimited, Retry::Yes, false),
        ("tpm", limit("TPM rate limit, current:1, limit:2"), RateLimited, Retry::Yes, false),
        ("tpd", limit("TPD rate limit, current:1, limit:2"), QuotaExceeded, Retry::Never, false),
        ("client closed", said(499, "client_closed_request", "client closed request"), Cancelled, Retry::Never, false),
        ("extract", said(500, "server_error", "Failed to extract file: x"), ContentRejected, Retry::Once, true),
        ("state", said(500, "unexpected_output", "invalid state transition"), Unavailable, Retry::Yes, true),
        ("empty type", said(500, "", "extract task failed: failed"), ContentRejected, Retry::Once, true),
        ("bad video", said(500, "server_error", "InternalServerError"), Unavailable, Retry::Once, true),
        ("unavailable", said(503, "server_unavailable", "The server is temporarily unavailable"), Unavailable, Retry::Yes, true),
        ("gateway page", json!({"kind": "html", "status": 504}), TimedOut, Retry::Yes, true),
        ("membership (Kimi Code)", said(402, "", "membership"), Billing, Retry::Never, false),
        ("usage window (Kimi Code)", said(403, "permission_error", "You have reached your 5-hour usage limit"), QuotaExceeded, Retry::Never, false),
        ("too many (Kimi Code)", said(429, "rate_limit_error", "We're receiving too many requests"), RateLimited, Retry::Yes, false),
    ])
    .await;
}

/// §4B.3: business codes.
#[tokio::test]
async fn zai_and_zhipu_say_and_we_understand() {
    use ErrorKind::*;
    let groups: &[(&[&str], ErrorKind, Retry, bool)] = &[
        (&["1000", "1001", "1002", "1005", "1111"], Unauthenticated, Retry::Never, false),
        (&["1100"], Unavailable, Retry::Once, true),
        (&["1110", "1112", "1121", "1220", "1311", "1315"], PermissionDenied, Retry::Never, false),
        (&["1113", "1309", "1314"], Billing, Retry::Never, false),
        (&["1120", "1200", "1230", "1234", "500"], Unavailable, Retry::Yes, true),
        (&["1210", "1212", "1213", "1214", "1215", "1261"], InvalidRequest, Retry::Never, false),
        (&["1211"], NotFound, Retry::Never, false),
        (&["1221", "1222"], Unsupported, Retry::Never, false),
        (&["1231"], Conflict, Retry::Never, false),
        (&["1300", "1301"], ContentRejected, Retry::Never, false),
        (&["1302", "1303"], RateLimited, Retry::Yes, false),
        (&["1313"], RateLimited, Retry::Never, false),
        (&["1304", "1308", "1310", "1316", "1317", "1318", "1319", "1320", "1321"], QuotaExceeded, Retry::Never, false),
        (&["1305", "1312"], Unavailable, Retry::Slowly, true),
        // A key that is sent as it is cannot be made anew; a JWT can (see `credentials`).
        (&["1003", "1004"], Unauthenticated, Retry::Never, false),
    ];
    for platform in ["zai", "zhipu"] {
        let rows = groups.iter().flat_map(|(codes, kind, retry, breaker)| {
            codes.iter().map(|code| (*code, json!({"kind": "error", "code": code}), *kind, *retry, *breaker))
        });
        check(platform, rows.collect()).await;
    }
}

/// §4B.1 and §4C: statuses alone.
#[tokio::test]
async fn a_status_says_enough_when_nothing_else_does() {
    use ErrorKind::*;
    let rows: Vec<(u16, ErrorKind, Retry, bool)> = vec![
        (400, InvalidRequest, Retry::Never, false),
        (401, Unauthenticated, Retry::Never, false),
        (403, PermissionDenied, Retry::Never, false),
        (404, NotFound, Retry::Never, false),
        (408, TimedOut, Retry::Yes, false),
        (409, Conflict, Retry::Yes, false),
        (413, TooLarge, Retry::Never, false),
        (422, InvalidRequest, Retry::Never, false),
        (425, Conflict, Retry::Yes, false),
        (429, RateLimited, Retry::Yes, false),
        (434, PermissionDenied, Retry::Never, false),
        (435, TooLarge, Retry::Never, false),
        (500, Unavailable, Retry::Yes, true),
        (502, Unavailable, Retry::Yes, true),
        (503, Unavailable, Retry::Yes, true),
        (529, Unavailable, Retry::Yes, true),
    ];
    for platform in ["moonshot", "zai"] {
        let named = rows.iter().map(|(status, kind, retry, breaker)| {
            ("status", json!({"kind": "status", "status": status, "body": {}}), *kind, *retry, *breaker)
        });
        check(platform, named.collect()).await;
    }
}

/// §4B.2: every shape an error body was seen in.
#[tokio::test]
async fn every_body_shape_is_read() {
    use ErrorKind::*;
    let shape = |number: u8| json!({"kind": "shape", "shape": number});
    check(
        "zai",
        vec![
            ("1 error object", shape(1), InvalidRequest, Retry::Never, false),
            ("2 with request id", shape(2), InvalidRequest, Retry::Never, false),
            ("3 flat, code as number", shape(3), InvalidRequest, Retry::Never, false),
            ("4 200, unknown route", shape(4), Unsupported, Retry::Never, false),
            ("5 200, success false", shape(5), Unauthenticated, Retry::Never, false),
            ("6 Spring", shape(6), Unsupported, Retry::Never, false),
            ("7 200, knowledge base", shape(7), ContractDrift, Retry::Never, true),
            ("8 200, parser", shape(8), ContractDrift, Retry::Never, true),
            ("9 code in brackets", shape(9), QuotaExceeded, Retry::Never, false),
            ("10 HTML", shape(10), Unavailable, Retry::Yes, true),
            ("11 200, overloaded", shape(11), Unavailable, Retry::Slowly, true),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_the_platform_said_is_kept() {
    let world = World::new();
    let error = understood(&world, "zai", json!({"kind": "shape", "shape": 2})).await;
    let context = error.context().unwrap();
    assert_eq!((context.status, context.code.as_deref()), (Some(400), Some("1214")));
    assert_eq!(context.request_id.as_deref(), Some("2026041314372115099c8b3a024339"));
    assert_eq!(context.operation, Some(Operation::List));
}

#[tokio::test]
async fn a_wait_is_read_from_the_words_and_from_the_header() {
    let world = World::new();
    let words = understood(&world, "moonshot", json!({"kind": "rate_limited", "seconds": 19})).await;
    assert_eq!(words.retry_after().unwrap().as_secs(), 19);
    let header = json!({"kind": "status", "status": 429, "body": {}, "headers": {"retry-after": "1.5"}});
    assert_eq!(understood(&world, "zai", header).await.retry_after().unwrap().as_millis(), 1_500);
}
