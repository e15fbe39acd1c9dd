//! Taking in many files that are known from elsewhere.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::{Registry, new_id, rows};
use crate::audit::Event;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::model::{FileRecord, Replica};
use crate::store::{Id, Session, Value, bind};

/// From so many new files on the planner's figures may be wrong enough to matter.
const MANY: u64 = 5_000;

/// Digests asked for in one statement.
const AT_ONCE: usize = 1_000;

const NAMES: &str = "file_uploads (id, filename, file_size, mime_type, file_hash, is_duplicate, deduplication_checked,
                                   created_at, user_id, metadata)";
const CONTENTS: &str = "file_hashes (id, file_hash, original_file_id, file_size, content_type, duplicate_count,
                                     created_at, updated_at, trashed_at, keep_until)";
const REPLICAS: &str = "platform_file_registry (id, file_id, file_hash, platform, account, purpose, platform_file_id,
                                                platform_metadata, remote_name, content_kind, file_size, status,
                                                last_verified, verification_count, remote_created_at, expires_at,
                                                created_at, updated_at)";

impl Registry {
    /// Takes in files with their replicas, all or none. What is known already stays as it is, but for replicas that are
    /// new.
    pub async fn register(&self, files: Vec<FileRecord>) -> Result<()> {
        let (now, count) = (self.now(), files.len() as u64);
        self.audited("register", move |session, audit| {
            register(session, &files, now)?;
            audit.note(
                session,
                &Event { action: "import", details: &[("files", &count.to_string())], ..Event::default() },
            )
        })
        .await?;
        let unseen = self.unseen.fetch_add(count, Ordering::Relaxed) + count;
        if unseen >= MANY && self.store.catch_up_planner(unseen).await? {
            self.unseen.store(0, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The rows of a batch, by table.
#[derive(Default)]
struct Batch<'f> {
    names: Vec<Vec<Value<'f>>>,
    contents: Vec<Vec<Value<'f>>>,
    tags: Vec<Vec<Value<'f>>>,
    replicas: Vec<Vec<Value<'f>>>,
    /// Contents that are there without a name, and the name's row they get.
    unnamed: Vec<(&'f str, String)>,
}

/// The row of a content's first name.
enum Name {
    /// There is no such content.
    None,
    /// There is, and another program gave it no name.
    Missing,
    Of(String),
}

fn register(session: &mut Session<'_>, files: &[FileRecord], now: Timestamp) -> Result<()> {
    let mut files: Vec<(String, &FileRecord)> = files.iter().map(|file| (file.digest.hex(), file)).collect();
    // Neighbours in the batch are then neighbours in the indexes.
    files.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut names = known(session, &files)?;
    let mut batch = Batch::default();
    for (hex, file) in &files {
        let name = names.entry(hex).or_insert(Name::None);
        let name_id = match name {
            Name::Of(id) => id.clone(),
            none => {
                let id = new_id();
                batch.add_name(hex, file, &id);
                match none {
                    Name::Missing => batch.unnamed.push((hex, id.clone())),
                    _ => batch.add_content(hex, file, &id, now),
                }
                *none = Name::Of(id.clone());
                id
            }
        };
        for replica in &file.replicas {
            batch.replicas.push(replica_row(replica, file, hex, &name_id, now));
        }
    }
    session.insert(NAMES, &batch.names, "")?;
    session.insert(CONTENTS, &batch.contents, "ON CONFLICT (file_hash) DO NOTHING")?;
    for (hex, id) in &batch.unnamed {
        session.execute("UPDATE file_hashes SET original_file_id = ?1 WHERE file_hash = ?2", bind![Id(id), *hex])?;
    }
    session.insert("file_tags (tag, file_hash)", &batch.tags, "ON CONFLICT (tag, file_hash) DO NOTHING")?;
    session.insert(REPLICAS, &batch.replicas, "ON CONFLICT DO NOTHING")
}

/// Those that have a content.
fn known<'f>(session: &mut Session<'_>, files: &'f [(String, &FileRecord)]) -> Result<HashMap<&'f str, Name>> {
    let mut known = HashMap::new();
    for chunk in files.chunks(AT_ONCE) {
        let places: Vec<String> = (1..=chunk.len()).map(|number| format!("?{number}")).collect();
        let sql =
            format!("SELECT file_hash, original_file_id FROM file_hashes WHERE file_hash IN ({})", places.join(", "));
        let values: Vec<Value<'_>> = chunk.iter().map(|(hex, _)| hex.into()).collect();
        for row in session.rows(&sql, &values)? {
            let hex: String = row.get(0)?;
            if let Ok(at) = chunk.binary_search_by(|(other, _)| other.cmp(&hex)) {
                let name = row.get::<Option<String>>(1)?.map_or(Name::Missing, Name::Of);
                known.insert(chunk[at].0.as_str(), name);
            }
        }
    }
    Ok(known)
}

impl<'f> Batch<'f> {
    fn add_name(&mut self, hex: &'f str, file: &'f FileRecord, id: &str) {
        let metadata = match file.metadata.is_empty() {
            true => "{}".into(),
            false => serde_json::Value::Object(file.metadata.clone()).to_string().into(),
        };
        self.names.push(vec![
            Value::Id(id.to_owned().into()),
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
    }

    fn add_content(&mut self, hex: &'f str, file: &'f FileRecord, name_id: &str, now: Timestamp) {
        self.contents.push(vec![
            Value::Id(new_id().into()),
            hex.into(),
            Value::Id(name_id.to_owned().into()),
            file.size.into(),
            (&file.mime).into(),
            0_i64.into(),
            file.created_at.into(),
            now.into(),
            file.trashed_at.into(),
            file.keep_until.into(),
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
