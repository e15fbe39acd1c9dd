//! Z.ai (international) and Zhipu (China, open.bigmodel.cn). Facts: platform_api.md §1B, §2B, §4B.

use super::capabilities::{Capabilities, Fact, MIB, PurposeRule};
use super::errors::{ErrorTable, Row};
use super::files_api::{GetRule, ListRule, Profile};
use crate::error::{ErrorKind, Result, Retry};
use crate::model::{ContentKind, PlatformId};

const READ: &str = "2026-10";
const INTL_PAGE: &str = "docs.z.ai/api-reference/agents/file-upload";
const CHINA_PAGE: &str = "docs.bigmodel.cn file API";

const INTL_EXTENSIONS: &[&str] = &["pdf", "doc", "xlsx", "ppt", "txt", "jpg", "png"];
const CHINA_EXTENSIONS: &[&str] = &["pdf", "docx", "doc", "xls", "xlsx", "txt", "png", "jpg", "jpeg", "csv"];

/// Z.ai, international. Its documentation knows one purpose; its SDK sends three more.
pub fn zai() -> Result<Profile> {
    let purposes = vec![
        PurposeRule {
            documented: true,
            // "As listed": .docx or .jpeg are not, and nobody says they are refused.
            extensions: strings(INTL_EXTENSIONS),
            max_files: Some(100),
            ..rule(
                "agent",
                &["file-extract", "assistants", "file", "vision", "user_data", "image"],
                ContentKind::Opaque,
            )
        },
        jsonl(rule("batch", &[], ContentKind::Bytes)),
        jsonl(rule("fine-tune", &[], ContentKind::Opaque)),
        voice(rule("voice-clone-input", &[], ContentKind::Opaque)),
    ];
    let mut profile = profile("zai", "intl", "https://api.z.ai/api/paas/v4", purposes)?;
    // Only what is documented is chosen for anyone; the rest has to be asked for.
    profile.capabilities.defaults = vec![("*".into(), "agent".into())];
    profile.capabilities.max_file_bytes = Some(Fact::new(100 * MIB, INTL_PAGE, READ));
    profile.capabilities.max_files = Some(Fact::new(100, INTL_PAGE, READ));
    profile.capabilities.retention_days = Some(Fact::new(180, INTL_PAGE, READ));
    Ok(profile)
}

/// Zhipu, China.
pub fn zhipu() -> Result<Profile> {
    let documents = |rule: PurposeRule, files| PurposeRule {
        documented: true,
        extensions: strings(CHINA_EXTENSIONS),
        max_bytes: Some(20 * MIB),
        max_image_bytes: Some(5 * MIB),
        max_files: Some(files),
        ..rule
    };
    let purposes = vec![
        documents(rule("agent", &["assistants", "file", "user_data", "vision", "image"], ContentKind::Opaque), 1_000),
        documents(rule("code-interpreter", &[], ContentKind::Opaque), 100),
        PurposeRule { documented: true, max_files: Some(1_000), ..jsonl(rule("batch", &[], ContentKind::Bytes)) },
        // Dropped from the newest pages, still in the republished specification; the old guide gives its limits.
        PurposeRule {
            extensions: strings(&["pdf", "docx", "doc", "xls", "xlsx", "ppt", "pptx", "png", "jpg", "jpeg", "csv"]),
            max_bytes: Some(50 * MIB),
            max_image_bytes: Some(5 * MIB),
            max_files: Some(100),
            ..rule("file-extract", &[], ContentKind::ExtractedText)
        },
        PurposeRule { documented: true, ..voice(rule("voice-clone-input", &[], ContentKind::Opaque)) },
        PurposeRule { max_bytes: Some(512 * MIB), ..jsonl(rule("fine-tune", &[], ContentKind::Opaque)) },
    ];
    let mut profile = profile("zhipu", "cn", "https://open.bigmodel.cn/api/paas/v4", purposes)?;
    profile.capabilities.refused = vec![("retrieval".into(), "a knowledge_id".into())];
    profile.capabilities.max_file_bytes = Some(Fact::new(100 * MIB, CHINA_PAGE, READ));
    profile.capabilities.parser_epoch = Some(Fact::new("file-extract guide".into(), CHINA_PAGE, READ));
    Ok(profile)
}

fn profile(name: &str, region: &str, base_url: &str, purposes: Vec<PurposeRule>) -> Result<Profile> {
    Ok(Profile {
        capabilities: Capabilities {
            platform: PlatformId::new(name)?,
            region: region.to_owned(),
            base_url: base_url.to_owned(),
            revision: "2026-11-23".into(),
            purposes,
            defaults: [
                ("jsonl", "batch"),
                ("audio/mpeg", "voice-clone-input"),
                ("wav", "voice-clone-input"),
                ("*", "agent"),
            ]
            .map(|(kind, purpose)| (kind.into(), purpose.into()))
            .into(),
            refused: Vec::new(),
            max_file_bytes: None,
            max_files: None,
            max_total_bytes: None,
            retention_days: None,
            tiers: None,
            has_get: false,
            list_needs_purpose: true,
            parser_epoch: None,
        },
        get: GetRule::Emulated,
        list: ListRule::EachPurpose,
        errors: ErrorTable { rows: ERRORS },
    })
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn rule(wire: &str, aliases: &[&str], content: ContentKind) -> PurposeRule {
    PurposeRule { wire: wire.into(), aliases: strings(aliases), content, listable: true, ..PurposeRule::default() }
}

fn jsonl(rule: PurposeRule) -> PurposeRule {
    PurposeRule { extensions: strings(&["jsonl"]), extensions_closed: true, ..rule }
}

fn voice(rule: PurposeRule) -> PurposeRule {
    PurposeRule { extensions: strings(&["mp3", "wav"]), extensions_closed: true, ..rule }
}

/// platform_api.md §4B.3 by business code, then §4B.1 by status; the first that fits counts.
const ERRORS: &[Row] = {
    use ErrorKind::*;
    const fn code(code: &'static str, kind: ErrorKind, retry: Retry, breaker: bool) -> Row {
        Row { status: 0, code, text: "", kind, retry, breaker }
    }
    const fn status(status: u16, kind: ErrorKind, retry: Retry, breaker: bool) -> Row {
        Row { status, code: "", text: "", kind, retry, breaker }
    }
    &[
        status(404, NotFound, Retry::Never, false),
        code("401", Unauthenticated, Retry::Never, false),
        code("1000", Unauthenticated, Retry::Never, false),
        code("1001", Unauthenticated, Retry::Never, false),
        code("1002", Unauthenticated, Retry::Never, false),
        code("1003", Unauthenticated, Retry::Once, false),
        code("1004", Unauthenticated, Retry::Once, false),
        code("1005", Unauthenticated, Retry::Never, false),
        code("1100", Unavailable, Retry::Once, true),
        code("1110", PermissionDenied, Retry::Never, false),
        code("1111", Unauthenticated, Retry::Never, false),
        code("1112", PermissionDenied, Retry::Never, false),
        code("1113", Billing, Retry::Never, false),
        code("1120", Unavailable, Retry::Yes, true),
        code("1121", PermissionDenied, Retry::Never, false),
        code("1200", Unavailable, Retry::Yes, true),
        code("1210", InvalidRequest, Retry::Never, false),
        code("1211", NotFound, Retry::Never, false),
        code("1212", InvalidRequest, Retry::Never, false),
        code("1213", InvalidRequest, Retry::Never, false),
        code("1214", InvalidRequest, Retry::Never, false),
        code("1215", InvalidRequest, Retry::Never, false),
        code("1220", PermissionDenied, Retry::Never, false),
        code("1221", Unsupported, Retry::Never, false),
        code("1222", Unsupported, Retry::Never, false),
        code("1230", Unavailable, Retry::Yes, true),
        code("1231", Conflict, Retry::Never, false),
        code("1234", Unavailable, Retry::Yes, true),
        code("1261", InvalidRequest, Retry::Never, false),
        code("1300", ContentRejected, Retry::Never, false),
        code("1301", ContentRejected, Retry::Never, false),
        code("1302", RateLimited, Retry::Yes, false),
        code("1303", RateLimited, Retry::Yes, false),
        code("1304", QuotaExceeded, Retry::Never, false),
        code("1305", Unavailable, Retry::Slowly, true),
        code("1308", QuotaExceeded, Retry::Never, false),
        code("1309", Billing, Retry::Never, false),
        code("1310", QuotaExceeded, Retry::Never, false),
        code("1311", PermissionDenied, Retry::Never, false),
        code("1312", Unavailable, Retry::Slowly, true),
        code("1313", RateLimited, Retry::Never, false),
        code("1314", Billing, Retry::Never, false),
        code("1315", PermissionDenied, Retry::Never, false),
        code("1316", QuotaExceeded, Retry::Never, false),
        code("1317", QuotaExceeded, Retry::Never, false),
        code("1318", QuotaExceeded, Retry::Never, false),
        code("1319", QuotaExceeded, Retry::Never, false),
        code("1320", QuotaExceeded, Retry::Never, false),
        code("1321", QuotaExceeded, Retry::Never, false),
        // HTTP 200 with `{"code":500,"msg":"404 NOT_FOUND"}`: the gateway's word for an unknown route.
        Row { status: 0, code: "500", text: "404 not_found", kind: Unsupported, retry: Retry::Never, breaker: false },
        code("500", Unavailable, Retry::Yes, true),
        status(400, InvalidRequest, Retry::Never, false),
        status(401, Unauthenticated, Retry::Never, false),
        status(403, PermissionDenied, Retry::Never, false),
        status(429, RateLimited, Retry::Yes, false),
        status(434, PermissionDenied, Retry::Never, false),
        status(435, TooLarge, Retry::Never, false),
        status(500, Unavailable, Retry::Yes, true),
    ]
};
