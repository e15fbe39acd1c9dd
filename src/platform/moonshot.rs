//! Moonshot (Kimi), both regions. Facts: platform_api.md §1A, §2A, §4A, §5A.

use super::capabilities::{Capabilities, Fact, GIB, MIB, PurposeRule, Tier};
use super::errors::{ErrorTable, Row};
use super::files_api::{GetRule, ListRule, Profile};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::model::{ContentKind, PlatformId};

const READ: &str = "2026-10";
const FILES_PAGE: &str = "platform.kimi.ai/docs/api/files-upload";
const LIMITS_PAGE: &str = "platform.kimi.ai/docs/pricing/limits";

/// Moonshot in region `intl` (api.moonshot.ai) or `cn` (api.moonshot.cn); keys are not interchangeable.
///
/// # Errors
/// `Config` for another region.
pub fn moonshot(region: &str) -> Result<Profile> {
    let base_url = match region {
        "intl" => "https://api.moonshot.ai/v1",
        "cn" => "https://api.moonshot.cn/v1",
        other => {
            return Err(Error::new(ErrorKind::Config, format!("there is no region {other:?}"))
                .with_hint("use \"intl\" or \"cn\""));
        }
    };
    Ok(Profile {
        capabilities: Capabilities {
            platform: PlatformId::new("moonshot")?,
            region: region.to_owned(),
            base_url: base_url.to_owned(),
            revision: "2026-11-23".into(),
            purposes: purposes(),
            defaults: [("image/", "image"), ("video/", "video"), ("jsonl", "batch"), ("*", "file-extract")]
                .map(|(kind, purpose)| (kind.into(), purpose.into()))
                .into(),
            refused: Vec::new(),
            // "100 MB": the larger reading, so that nothing is refused here that Moonshot might take.
            max_file_bytes: Some(Fact::new(100 * MIB, FILES_PAGE, READ)),
            max_files: Some(Fact::new(1_000, FILES_PAGE, READ)),
            max_total_bytes: Some(Fact::new(10 * GIB, FILES_PAGE, READ)),
            retention_days: None,
            tiers: Some(Fact::new(tiers(region), LIMITS_PAGE, "2026-09-03")),
            has_get: true,
            list_needs_purpose: false,
            // Image OCR ended with this change, so older texts may differ.
            parser_epoch: Some(Fact::new("2026-08-31".into(), FILES_PAGE, READ)),
        },
        get: GetRule::Native,
        list: ListRule::All,
        errors: ErrorTable { rows: ERRORS },
    })
}

/// Kimi Code: Moonshot's API behind a login, in region `cn` (api.kimi.com) or `intl` (api.kimi.ai).
///
/// kimi-cli uploads videos to it (platform_api.md §8.3); that its files follow Moonshot's rules otherwise is unverified.
///
/// # Errors
/// `Config` for another region.
pub fn kimi_code(region: &str) -> Result<Profile> {
    let mut profile = moonshot(region)?;
    let ending = if region == "intl" { "ai" } else { "com" };
    profile.capabilities.platform = PlatformId::new("kimi-code")?;
    profile.capabilities.base_url = format!("https://api.kimi.{ending}/coding/v1");
    // The plans of its users are others, and published nowhere.
    profile.capabilities.tiers = None;
    Ok(profile)
}

fn purposes() -> Vec<PurposeRule> {
    let strings = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let open = |wire: &str, aliases: &[&str], content| PurposeRule {
        wire: wire.into(),
        aliases: strings(aliases),
        content,
        listable: true,
        documented: true,
        ..PurposeRule::default()
    };
    vec![
        PurposeRule {
            extensions: strings(&[
                "pdf", "txt", "csv", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "md", "epub", "mobi", "html", "json",
                "log", "dot", "go", "h", "c", "cpp", "cxx", "cc", "cs", "java", "js", "css", "jsp", "php", "py", "py3",
                "asp", "yaml", "yml", "ini", "conf", "ts", "tsx",
            ]),
            ..open("file-extract", &["assistants", "agent", "file", "user_data"], ContentKind::ExtractedText)
        },
        open("image", &["vision"], ContentKind::Opaque),
        open("video", &[], ContentKind::Opaque),
        PurposeRule {
            extensions: strings(&["jsonl"]),
            extensions_closed: true,
            max_files: Some(1_000),
            ..open("batch", &[], ContentKind::Bytes)
        },
        // Named by the server's own error text, not by the documentation (live probe, 2026-05-25).
        PurposeRule { documented: false, ..open("batch_output", &[], ContentKind::Bytes) },
        PurposeRule { documented: false, ..open("lambda", &[], ContentKind::Opaque) },
    ]
}

fn tiers(region: &str) -> Vec<Tier> {
    // (concurrency, requests per minute) for tiers 0 to 5. Whether intl was cut like China in 2026-09 is unknown.
    let table: [(u32, u32); 6] = match region {
        "cn" => [(1, 3), (15, 100), (40, 100), (50, 200), (60, 200), (100, 300)],
        _ => [(1, 3), (50, 200), (100, 500), (200, 5_000), (400, 5_000), (1_000, 10_000)],
    };
    (0..)
        .zip(table)
        .map(|(tier, (concurrency, requests_per_minute))| Tier { tier, requests_per_minute, concurrency })
        .collect()
}

/// platform_api.md §4A, row by row; the first that fits counts.
const ERRORS: &[Row] = {
    use ErrorKind::*;
    const fn row(
        status: u16,
        code: &'static str,
        text: &'static str,
        kind: ErrorKind,
        retry: Retry,
        breaker: bool,
    ) -> Row {
        Row { status, code, text, kind, retry, breaker }
    }
    &[
        row(400, "content_filter", "", ContentRejected, Retry::Never, false),
        row(400, "", "missing required header kimi-api-version", Unavailable, Retry::Once, false),
        row(400, "", "invalid purpose", InvalidRequest, Retry::Never, false),
        row(400, "", "file size is too large", TooLarge, Retry::Never, false),
        row(400, "", "file size is zero", InvalidRequest, Retry::Never, false),
        row(400, "", "exceeded the max file count", QuotaExceeded, Retry::Never, false),
        row(400, "", "text extract error", ContentRejected, Retry::Never, false),
        row(400, "", "不支持的文件类型", ContentRejected, Retry::Never, false),
        row(400, "", "", InvalidRequest, Retry::Never, false),
        row(401, "", "", Unauthenticated, Retry::Never, false),
        row(402, "", "", Billing, Retry::Never, false),
        row(403, "", "usage limit", QuotaExceeded, Retry::Never, false),
        row(403, "", "", PermissionDenied, Retry::Never, false),
        row(404, "", "", NotFound, Retry::Never, false),
        row(429, "engine_overloaded_error", "", Unavailable, Retry::Slowly, true),
        row(429, "exceeded_current_quota_error", "", Billing, Retry::Never, false),
        row(429, "rate_limit_reached_error", "tpd rate limit", QuotaExceeded, Retry::Never, false),
        row(429, "", "", RateLimited, Retry::Yes, false),
        row(499, "", "", Cancelled, Retry::Never, false),
        row(500, "", "extract", ContentRejected, Retry::Once, true),
        row(500, "unexpected_output", "", Unavailable, Retry::Yes, true),
        row(500, "", "internalservererror", Unavailable, Retry::Once, true),
        row(500, "", "", Unavailable, Retry::Yes, true),
        row(503, "", "", Unavailable, Retry::Yes, true),
        row(504, "", "", TimedOut, Retry::Yes, true),
    ]
};
