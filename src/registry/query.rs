//! Finding files by what is known of them, page by page.

use serde::Deserialize;

use super::{Registry, rows};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AccountId, Digest, FileRecord, PlatformId};
use crate::store::{Id, Session, Value, bind};

/// A replica that can be used, of the content `h`; its parameter is the time.
const LIVE: &str = "p.file_hash = h.file_hash AND p.status = 'active' AND (p.expires_at IS NULL OR p.expires_at > {})";

/// How a file is, as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileStatus {
    /// Some platform has it.
    Live,
    /// It is known, and no platform has it now.
    Unplaced,
    /// It was put into the trash, wherever it is.
    Trashed,
}

/// Which files to list. Empty fields do not filter; what is in the trash is only listed when asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileFilter {
    /// Only files with a live replica there.
    pub platform: Option<PlatformId>,
    /// Only files with a live replica of this account.
    pub account: Option<AccountId>,
    /// Only files whose name contains this, in any case.
    pub name: Option<String>,
    /// Only files whose digest begins so.
    pub digest: Option<String>,
    /// Only files with all of these tags.
    pub tags: Vec<String>,
    /// Only files that this one handed over, under any name.
    pub owner: Option<String>,
    pub status: Option<FileStatus>,
    /// Only files first handed over at or after this.
    pub created_after: Option<Timestamp>,
    /// Only files first handed over before this.
    pub created_before: Option<Timestamp>,
    /// Bytes, inclusive.
    pub min_size: Option<u64>,
    /// Bytes, inclusive.
    pub max_size: Option<u64>,
    /// Only files with a live replica that its platform will drop by then.
    pub expires_before: Option<Timestamp>,
    /// Continue after this file (newest first).
    #[serde(skip)]
    pub after: Option<Digest>,
    #[serde(skip)]
    pub limit: u32,
}

impl Registry {
    /// Files, newest first.
    ///
    /// # Errors
    /// `InvalidRequest` when `digest` is no start of one.
    pub async fn list(&self, filter: FileFilter) -> Result<Vec<FileRecord>> {
        let now = self.now();
        self.store.read(move |session| list(session, &filter, now)).await
    }
}

fn list(session: &mut Session<'_>, filter: &FileFilter, now: Timestamp) -> Result<Vec<FileRecord>> {
    let after = match &filter.after {
        Some(digest) => position(session, digest)?,
        None => None,
    };
    let mut wanted = Wanted::default();
    about_content(&mut wanted, filter)?;
    about_names(&mut wanted, filter);
    about_replicas(&mut wanted, filter, now);
    if let Some((at, id)) = &after {
        wanted.that("(h.created_at, h.id) < ({}, {})", [(*at).into(), Id(id).into()]);
    }
    // The page first, by its index, and only then its names: a planner that guesses badly would join them all.
    let sql = format!(
        "SELECT {} FROM (SELECT * FROM file_hashes h WHERE {} ORDER BY h.created_at DESC, h.id DESC LIMIT {}) h
           LEFT JOIN file_uploads f ON f.id = h.original_file_id ORDER BY h.created_at DESC, h.id DESC",
        rows::RECORD_COLUMNS,
        wanted.conditions.join(" AND "),
        filter.limit
    );
    let found = session.rows(&sql, &wanted.values)?;
    rows::records(session, &found)
}

fn position(session: &mut Session<'_>, digest: &Digest) -> Result<Option<(Timestamp, String)>> {
    let row = session.row("SELECT created_at, id FROM file_hashes WHERE file_hash = ?1", bind![&digest.hex()])?;
    row.map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
}

fn about_content<'v>(wanted: &mut Wanted<'v>, filter: &'v FileFilter) -> Result<()> {
    wanted.that("h.original_file_id IS NOT NULL", []);
    wanted.that(
        match filter.status {
            Some(FileStatus::Trashed) => "h.trashed_at IS NOT NULL",
            _ => "h.trashed_at IS NULL",
        },
        [],
    );
    if let Some(start) = &filter.digest {
        let start = digest_start(start)?;
        wanted.that("h.file_hash >= {} AND h.file_hash < {} || 'g'", [start.clone().into(), start.into()]);
    }
    if let Some(at) = filter.created_after {
        wanted.that("h.created_at >= {}", [at.into()]);
    }
    if let Some(at) = filter.created_before {
        wanted.that("h.created_at < {}", [at.into()]);
    }
    if let Some(bytes) = filter.min_size {
        wanted.that("h.file_size >= {}", [bytes.into()]);
    }
    if let Some(bytes) = filter.max_size {
        wanted.that("h.file_size <= {}", [bytes.into()]);
    }
    Ok(())
}

fn digest_start(text: &str) -> Result<String> {
    let start = text.trim().strip_prefix("sha256:").unwrap_or(text.trim()).to_ascii_lowercase();
    match !start.is_empty() && start.len() <= 64 && start.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(start),
        false => Err(Error::new(ErrorKind::InvalidRequest, format!("{text:?} is no start of a digest"))
            .with_hint("give up to 64 hexadecimal characters, with or without \"sha256:\"")),
    }
}

fn about_names<'v>(wanted: &mut Wanted<'v>, filter: &'v FileFilter) {
    if let Some(name) = &filter.name {
        wanted.that(
            "EXISTS (SELECT 1 FROM file_uploads n WHERE n.file_hash = h.file_hash
                        AND strpos(lower(n.filename), lower({})) > 0)",
            [name.into()],
        );
    }
    // What few files have is looked up first, and not asked of each.
    for tag in &filter.tags {
        wanted.that("h.file_hash IN (SELECT t.file_hash FROM file_tags t WHERE t.tag = {})", [tag.into()]);
    }
    if let Some(owner) = &filter.owner {
        wanted.that("h.file_hash IN (SELECT o.file_hash FROM file_uploads o WHERE o.user_id = {})", [owner.into()]);
    }
}

fn about_replicas<'v>(wanted: &mut Wanted<'v>, filter: &'v FileFilter, now: Timestamp) {
    let mut place = String::new();
    let mut values: Vec<Value<'v>> = Vec::new();
    if let Some(platform) = &filter.platform {
        place.push_str(" AND p.platform = {}");
        values.push(rows::stored(platform).into());
    }
    if let Some(account) = &filter.account {
        place.push_str(" AND p.account = {}");
        values.push(account.as_str().into());
    }
    let at_place = |first: Vec<Value<'v>>| first.into_iter().chain(values.clone());
    let live = format!("EXISTS (SELECT 1 FROM platform_file_registry p WHERE {LIVE}{place})");
    match filter.status {
        Some(FileStatus::Unplaced) => wanted.that(&format!("NOT {live}"), at_place(vec![now.into()])),
        Some(FileStatus::Live) => wanted.that(&live, at_place(vec![now.into()])),
        _ if !values.is_empty() => wanted.that(&live, at_place(vec![now.into()])),
        _ => {}
    }
    if let Some(by) = filter.expires_before {
        let expiring = format!(
            "h.file_hash IN (SELECT p.file_hash FROM platform_file_registry p
                              WHERE p.status = 'active' AND p.expires_at > {{}} AND p.expires_at <= {{}}{place})"
        );
        wanted.that(&expiring, at_place(vec![now.into(), by.into()]));
    }
}

/// A statement that grows by what it is asked for: what is left out costs nothing, and each page begins at its place.
#[derive(Default)]
struct Wanted<'v> {
    conditions: Vec<String>,
    values: Vec<Value<'v>>,
}

impl<'v> Wanted<'v> {
    /// `condition` names its parameters `{}`, one after the other.
    fn that(&mut self, condition: &str, values: impl IntoIterator<Item = Value<'v>>) {
        let mut numbered = condition.to_owned();
        for value in values {
            self.values.push(value);
            numbered = numbered.replacen("{}", &format!("?{}", self.values.len()), 1);
        }
        self.conditions.push(numbered);
    }
}
