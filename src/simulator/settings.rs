//! What can be set per platform. Defaults: platform_api.md §10.

use serde::{Deserialize, Serialize};

use super::profile::Profile;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Purposes {
    /// Those the platform documents.
    Strict,
    /// Those its SDK sends, too.
    Lenient,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum IdStyle {
    Ulid,
    /// Moonshot's, until 2026-08.
    Xid20,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum NotFound {
    #[serde(rename = "404")]
    Status404,
    #[serde(rename = "1214")]
    Code1214,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StoreContent {
    Memory,
    /// Bytes are hashed and dropped, for load tests.
    DigestOnly,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The only keys that are accepted; `null`: any well-formed one, each its own account.
    pub keys: Option<Vec<String>>,
    pub max_file_bytes: u64,
    /// Per account, or (Zhipu) per account and purpose.
    pub max_files: u64,
    pub max_total_bytes: u64,
    /// 0: no limit.
    pub requests_per_minute: u32,
    /// Requests in flight per account; 0: no limit.
    pub concurrency: u32,
    pub purposes: Purposes,
    pub id_style: IdStyle,
    pub get_metadata: bool,
    pub not_found: NotFound,
    /// `filename: null` beside `fileName`.
    pub filename_null: bool,
    pub rename_on_clash: bool,
    pub reject_chunked: bool,
    pub retention_days: Option<f64>,
    /// A new file is listed only after this.
    pub list_delay_seconds: f64,
    /// The word for a file that can be used.
    pub status_word: String,
    /// A new file says `processing_word` for this long.
    pub processing_seconds: f64,
    pub processing_word: String,
    /// Page size of listings that name none.
    pub page_size: u64,
    /// Of the link, shared by all connections; 0: no limit.
    pub bandwidth_bits_per_second: u64,
    /// Added to each request, and once more to each new connection.
    pub round_trip_ms: u64,
    /// Share of requests that meet the incident of 2026-09-02 (§1A.7).
    pub incident_missing_header_rate: f64,
    pub store_content: StoreContent,
    /// Kimi Code's logins: how long an access token lives, unless it is revoked.
    pub access_token_seconds: f64,
    /// How long a person has to approve a device.
    pub device_code_seconds: f64,
    /// How often a device may ask whether that was done.
    pub poll_seconds: u64,
}

impl Settings {
    pub(super) fn of(profile: Profile) -> Self {
        let zai = profile.speaks_zai();
        Settings {
            keys: None,
            max_file_bytes: 100 * MIB,
            max_files: if profile == Profile::Zai { 100 } else { 1_000 },
            max_total_bytes: if zai { u64::MAX } else { 10 * GIB },
            requests_per_minute: 0,
            concurrency: 0,
            purposes: Purposes::Strict,
            id_style: IdStyle::Ulid,
            get_metadata: !zai,
            not_found: NotFound::Status404,
            filename_null: false,
            rename_on_clash: !zai,
            reject_chunked: false,
            retention_days: (profile == Profile::Zai).then_some(180.0),
            list_delay_seconds: 0.0,
            status_word: if zai { String::new() } else { "ready".into() },
            processing_seconds: 0.0,
            processing_word: "processing".into(),
            page_size: if zai { 20 } else { 10_000 },
            bandwidth_bits_per_second: 0,
            round_trip_ms: 0,
            incident_missing_header_rate: 0.0,
            store_content: StoreContent::Memory,
            access_token_seconds: 900.0,
            device_code_seconds: 600.0,
            poll_seconds: 5,
        }
    }

    /// Moonshot's tiers 0 to 5 (§5A, intl): requests per minute and concurrency.
    pub(super) fn apply_tier(&mut self, tier: usize) -> Result<(), String> {
        let tiers = [(3, 1), (200, 50), (500, 100), (5_000, 200), (5_000, 400), (10_000, 1_000)];
        let (requests, concurrency) = tiers.get(tier).ok_or("tier is 0 to 5")?;
        (self.requests_per_minute, self.concurrency) = (*requests, *concurrency);
        Ok(())
    }
}
