//! Taking in many files that are known from elsewhere.

use std::collections::HashMap;

use super::{Registry, new_id, rows};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::model::{FileRecord, Replica};
use crate::store::{Session, Value};

/// Digests asked for in one statement.
const AT_ONCE: usize = 1_000;

const NAMES: &str = "file_uploads (id, filename, file_size, mime_type, file_hash, is_duplicate, deduplication_checked,
                                   created_at, user_id, metadata)";
const CONTENTS: &str = "file_hashes (id, file_hash, original_file_id, file_size, content_type, duplicate_count,
                                     created_at, updated_at, trashed_at)";
const REPLICAS: &str = "platform_file_registry (id, file_id, file_hash, platform, account, purpose, platform_file_id,
                                                platform_metadata, remote_name, content_kind, file_size, status,
                                                last_verified, verification_count, remote_created_at, expires_at,
                                                created_at, updated_at)";

/// Other programs leave contents without a name.
const NAMED: &str = "ON CONFLICT (file_hash) DO UPDATE
     SET original_file_id = COALESCE(file_hashes.original_file_id, excluded.original_file_id)";

impl Registry {
    /// Takes in files with their replicas, all or none. What is known already stays as it is, but for replicas that are
    /// new.
    pub async fn register(&self, files: Vec<FileRecord>) -> Result<()> {
        let now = self.now();
        self.store.write(move |session| register(session, &files, now)).await
    }
}

/// The rows of a batch, by table.
#[derive(Default)]
struct Batch<'f> {
    names: Vec<Vec<Value<'f>>>,
    contents: Vec<Vec<Value<'f>>>,
    tags: Vec<Vec<Value<'f>>>,
    replicas: Vec<Vec<Value<'f>>>,
}

fn register(session: &mut Session<'_>, files: &[FileRecord], now: Timestamp) -> Result<()> {
    let mut files: Vec<(String, &FileRecord)> = files.iter().map(|file| (file.digest.hex(), file)).collect();
    // Neighbours in the batch are then neighbours in the indexes.
    files.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut names = known(session, &files)?;
    let mut batch = Batch::default();
    for (hex, file) in &files {
        let name_id = names.entry(hex).or_insert_with(|| {
            let id = new_id();
            batch.add_content(hex, file, &id, now);
            id
        });
        for replica in &file.replicas {
            batch.replicas.push(replica_row(replica, file, hex, name_id, now));
        }
    }
    session.insert(NAMES, &batch.names, "")?;
    session.insert(CONTENTS, &batch.contents, NAMED)?;
    session.insert("file_tags (tag, file_hash)", &batch.tags, "ON CONFLICT (tag, file_hash) DO NOTHING")?;
    session.insert(REPLICAS, &batch.replicas, "ON CONFLICT DO NOTHING")
}

/// Of those that have a content: the row of its first name.
fn known<'f>(session: &mut Session<'_>, files: &'f [(String, &FileRecord)]) -> Result<HashMap<&'f str, String>> {
    let mut known = HashMap::new();
    for chunk in files.chunks(AT_ONCE) {
        let places: Vec<String> = (1..=chunk.len()).map(|number| format!("?{number}")).collect();
        let sql = format!(
            "SELECT file_hash, original_file_id FROM file_hashes
              WHERE file_hash IN ({}) AND original_file_id IS NOT NULL",
            places.join(", ")
        );
        let values: Vec<Value<'_>> = chunk.iter().map(|(hex, _)| hex.into()).collect();
        for row in session.rows(&sql, &values)? {
            let hex: String = row.get(0)?;
            if let Ok(at) = chunk.binary_search_by(|(other, _)| other.cmp(&hex)) {
                known.insert(chunk[at].0.as_str(), row.get(1)?);
            }
        }
    }
    Ok(known)
}

impl<'f> Batch<'f> {
    fn add_content(&mut self, hex: &'f str, file: &'f FileRecord, name_id: &str, now: Timestamp) {
        let metadata = match file.metadata.is_empty() {
            true => "{}".into(),
            false => serde_json::Value::Object(file.metadata.clone()).to_string().into(),
        };
        let name_id = || Value::Id(name_id.to_owned().into());
        self.names.push(vec![
            name_id(),
            (&file.name).into(),
            file.size.into(),
            (&file.mime).into(),
            hex.into(),
            false.into(),
            true.into(),
            file.created_at.into(),
            file.owner.as_deref().into(),
            Value::Json(metadata),
        ]);
        self.contents.push(vec![
            Value::Id(new_id().into()),
            hex.into(),
            name_id(),
            file.size.into(),
            (&file.mime).into(),
            0_i64.into(),
            file.created_at.into(),
            now.into(),
            file.trashed_at.into(),
        ]);
        self.tags.extend(file.tags.iter().map(|tag| vec![tag.into(), hex.into()]));
    }
}

fn replica_row<'f>(
    replica: &'f Replica,
    file: &FileRecord,
    hex: &'f str,
    file_id: &str,
    now: Timestamp,
) -> Vec<Value<'f>> {
    vec![
        Value::Id(new_id().into()),
        Value::Id(file_id.to_owned().into()),
        hex.into(),
        rows::stored(&replica.platform).into(),
        replica.account.as_str().into(),
        replica.purpose.as_str().into(),
        (&replica.remote_id).into(),
        Value::Json("{}".into()),
        (&replica.remote_name).into(),
        replica.content.as_str().into(),
        file.size.into(),
        replica.status.as_str().into(),
        replica.verified_at.into(),
        1_i64.into(),
        replica.created_at.into(),
        replica.expires_at.into(),
        replica.created_at.into(),
        now.into(),
    ]
}
