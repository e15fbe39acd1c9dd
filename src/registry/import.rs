//! Taking over what the existing EXAI tool noted in its other tables (dropin_contract.md §4.4).
//!
//! Columns differ from one installation to the next, so rows are read whole, as JSON, and by the names that any variant
//! has. What a file was uploaded for the tool does not note: such a replica is known, and stands in for nothing until
//! its platform has said it (`reconcile`).

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;
use serde_json::Value as JsonValue;

use super::{Registry, rows};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{
    AccountId, ContentKind, Digest, FileRecord, Identity, Origin, PlatformId, Purpose, Replica, ReplicaStatus,
};
use crate::store::{Session, Store, Value, bind};

/// Files registered, and looked for, at a time.
const AT_ONCE: usize = 5_000;

/// Tables that are read; `file_uploads` only for names.
const TABLES: [&str; 5] = ["files", "file_uploads", "file_hashes", "provider_file_uploads", "file_id_mappings"];

/// What an import found, and took in.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Import {
    /// Contents that are new here, and those that were known.
    pub contents: u64,
    pub known_contents: u64,
    /// Replicas, likewise.
    pub replicas: u64,
    pub known_replicas: u64,
    pub rejects: Vec<Reject>,
}

/// A row that was not taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reject {
    pub table: &'static str,
    pub id: String,
    pub why: String,
}

/// Rows of the tool's tables, as JSON.
#[derive(Debug, Default)]
pub struct ToolRows(HashMap<&'static str, Vec<JsonValue>>);

impl ToolRows {
    /// Reads them from a PostgreSQL database. Blocking.
    ///
    /// # Errors
    /// `InvalidRequest` when there is none of the tables; `Registry`.
    pub fn read(source: &Store) -> Result<ToolRows> {
        let rows = source.read_blocking(|session| {
            if !session.is_postgres() {
                return Err(Error::new(ErrorKind::InvalidRequest, "the EXAI tool's tables are in PostgreSQL")
                    .with_hint("name its database by URL"));
            }
            let is_ours = exists(session, "exai_files_migrations")?;
            let mut found = HashMap::new();
            for table in TABLES {
                // In a database that was adopted these are our own.
                if exists(session, table)? && !(is_ours && table == "file_hashes") {
                    found.insert(table, read_table(session, table)?);
                }
            }
            Ok(found)
        })?;
        match rows.keys().any(|table| *table != "file_uploads") {
            true => Ok(ToolRows(rows)),
            false => Err(Error::new(ErrorKind::InvalidRequest, "that database has none of the EXAI tool's tables")
                .with_hint("looked for files, file_hashes, provider_file_uploads and file_id_mappings")),
        }
    }

    fn of(&self, table: &'static str) -> impl Iterator<Item = Row<'_>> {
        self.0.get(table).into_iter().flatten().map(move |json| Row { table, json })
    }
}

fn exists(session: &mut Session<'_>, table: &str) -> Result<bool> {
    Ok(session.row("SELECT 1 WHERE to_regclass(?1) IS NOT NULL", bind![table])?.is_some())
}

fn read_table(session: &mut Session<'_>, table: &str) -> Result<Vec<JsonValue>> {
    let rows = session.rows(&format!("SELECT to_jsonb(t)::text FROM {table} t"), &[])?;
    let parsed = |row: &crate::store::Row| {
        serde_json::from_str(&row.get::<String>(0)?)
            .map_err(|error| Error::new(ErrorKind::Registry, format!("{table} holds no JSON")).with_source(error))
    };
    rows.iter().map(parsed).collect()
}

impl Registry {
    /// Takes in what is new of some rows; with `dry_run`, only says what that would be. Doing it again changes nothing.
    ///
    /// # Errors
    /// `Registry`.
    pub async fn import(&self, rows: ToolRows, dry_run: bool) -> Result<Import> {
        let mut gathered = Gathered::of(&rows, self.now());
        let mut report = Import::default();
        let mut files: Vec<FileRecord> = std::mem::take(&mut gathered.contents).into_values().collect();
        for files in files.chunks_mut(AT_ONCE) {
            let digests: Vec<String> = files.iter().map(|file| file.digest.hex()).collect();
            let ids = files.iter().flat_map(|file| &file.replicas).map(|replica| replica.remote_id.clone()).collect();
            let known = self.store.read(move |session| Known::of(session, &digests, ids)).await?;
            for file in files.iter_mut() {
                known.sift(file, &mut report, &mut gathered);
            }
            if !dry_run {
                self.register(files.to_vec()).await?;
                let found = known.unhashed(&gathered);
                self.write("import", move |session| link(session, &found)).await?;
            }
        }
        report.rejects = gathered.rejects;
        Ok(report)
    }
}

// ===== reading =====

#[derive(Clone, Copy)]
struct Row<'r> {
    table: &'static str,
    json: &'r JsonValue,
}

impl Row<'_> {
    fn text(&self, names: &[&str]) -> Option<&str> {
        let filled = |name: &&str| self.json.get(*name).and_then(JsonValue::as_str).filter(|text| !text.is_empty());
        names.iter().find_map(filled)
    }

    fn id(&self) -> String {
        match self.json.get("id") {
            Some(JsonValue::String(id)) => id.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }

    fn size(&self) -> Option<u64> {
        ["size_bytes", "file_size_bytes", "file_size"].iter().find_map(|name| self.json.get(*name)?.as_u64())
    }

    fn created_at(&self) -> Option<Timestamp> {
        self.text(&["created_at"]).and_then(Timestamp::parse_rfc3339)
    }

    /// # Errors
    /// Why it cannot be told what content it is of.
    fn digest(&self) -> Result<Digest, String> {
        let hex = self.text(&["sha256", "checksum_sha256", "file_hash"]).ok_or("it has no digest")?;
        Digest::from_hex(&hex.to_ascii_lowercase()).ok_or_else(|| format!("{hex:?} is no SHA-256"))
    }

    /// Whether the tool itself thinks that the file is there.
    ///
    /// # Errors
    /// Why not.
    fn is_there(&self) -> Result<(), String> {
        if let Some(at) = self.text(&["deleted_at"]) {
            return Err(format!("it was deleted at {at}"));
        }
        match self.text(&["upload_status", "status"]) {
            None | Some("completed") => Ok(()),
            Some(other) => Err(format!("its upload is {other}")),
        }
    }

    /// # Errors
    /// Why there is no replica in it.
    fn replica(&self, now: Timestamp) -> Result<Replica, String> {
        let provider = self.text(&["provider"]).ok_or("it names no provider")?;
        let platform = PlatformId::new(provider).map_err(|error| error.message().to_owned())?;
        let remote_id = self.text(&["provider_file_id"]).ok_or("it has no id of the provider's")?;
        let at = self.created_at().unwrap_or(now);
        Ok(Replica {
            platform,
            account: AccountId::default(),
            purpose: Purpose::new(""),
            remote_id: remote_id.to_owned(),
            remote_name: self.text(&["filename", "original_name"]).unwrap_or_default().to_owned(),
            status: ReplicaStatus::Active,
            content: ContentKind::Opaque,
            created_at: at,
            verified_at: at,
            expires_at: None,
            used_at: None,
            origin: Origin::AlreadyThere,
        })
    }
}

/// What the rows say, by content.
struct Gathered {
    contents: BTreeMap<Digest, FileRecord>,
    /// Digests by the tool's ids of files.
    digests: HashMap<String, Digest>,
    /// Names, likewise.
    names: HashMap<String, String>,
    remote_ids: HashMap<(PlatformId, String), Digest>,
    rejects: Vec<Reject>,
    now: Timestamp,
}

impl Gathered {
    fn of(rows: &ToolRows, now: Timestamp) -> Gathered {
        let mut gathered = Gathered {
            contents: BTreeMap::new(),
            digests: HashMap::new(),
            names: HashMap::new(),
            remote_ids: HashMap::new(),
            rejects: Vec::new(),
            now,
        };
        for row in rows.of("file_uploads").chain(rows.of("files")) {
            if let Some(name) = row.text(&["original_name", "filename"]) {
                gathered.names.insert(row.id(), name.to_owned());
            }
        }
        for table in ["files", "file_hashes", "provider_file_uploads", "file_id_mappings"] {
            for row in rows.of(table) {
                if let Err(why) = gathered.take(row) {
                    gathered.reject(row.table, row.id(), why);
                }
            }
        }
        gathered
    }

    fn reject(&mut self, table: &'static str, id: String, why: String) {
        self.rejects.push(Reject { table, id, why });
    }

    fn take(&mut self, row: Row<'_>) -> Result<(), String> {
        let file_id = row.text(&["supabase_file_id", "original_file_id"]).map(str::to_owned);
        let digest = match row.table {
            "file_id_mappings" => {
                let file_id = file_id.as_ref().ok_or("it names no file")?;
                *self.digests.get(file_id).ok_or_else(|| format!("its file {file_id} has no digest"))?
            }
            _ => self.take_content(row, file_id.as_deref())?,
        };
        let of_file = if row.table == "files" { Some(row.id()) } else { file_id };
        self.digests.extend(of_file.map(|id| (id, digest)));
        // A file may be on no platform; the tables of uploads are about nothing else.
        let is_placed = row.text(&["provider_file_id"]).is_some();
        if row.table == "file_hashes" || (row.table == "files" && !is_placed) {
            return Ok(());
        }
        row.is_there()?;
        self.take_replica(row.table, &row.id(), digest, row.replica(self.now)?)
    }

    fn take_content(&mut self, row: Row<'_>, file_id: Option<&str>) -> Result<Digest, String> {
        let digest = row.digest()?;
        if self.contents.contains_key(&digest) {
            return Ok(digest);
        }
        let size = row.size().ok_or("it has no size")?;
        let name =
            row.text(&["original_name", "filename"]).or(file_id.and_then(|id| self.names.get(id)).map(String::as_str));
        // It may be a path, and is a file's name here.
        let name = name.and_then(|name| name.rsplit(['/', '\\']).next()).filter(|name| !name.is_empty());
        let name = name.map_or_else(|| digest.hex()[..12].to_owned(), str::to_owned);
        let mime = row.text(&["mime_type", "content_type"]).unwrap_or("application/octet-stream").to_owned();
        let identity = Identity { digest, size, mime };
        let owner = row.text(&["user_id"]).map(str::to_owned);
        let file = FileRecord { owner, ..FileRecord::new(identity, name, row.created_at().unwrap_or(self.now)) };
        self.contents.insert(digest, file);
        Ok(digest)
    }

    fn take_replica(&mut self, table: &'static str, id: &str, digest: Digest, replica: Replica) -> Result<(), String> {
        match self.remote_ids.entry((replica.platform.clone(), replica.remote_id.clone())) {
            Entry::Occupied(said) if *said.get() == digest => return Ok(()), // another table said so
            Entry::Occupied(said) => return Err(format!("another row has it as a copy of {}", said.get())),
            Entry::Vacant(free) => drop(free.insert(digest)),
        }
        let Some(file) = self.contents.get_mut(&digest) else { return Err("its content is not known".to_owned()) };
        let other = file.replicas.iter().position(|other| other.platform == replica.platform);
        let Some(other) = other else {
            file.replicas.push(replica);
            return Ok(());
        };
        // The tool made second copies; the later one lives longer.
        let older = match file.replicas[other].created_at < replica.created_at {
            true => std::mem::replace(&mut file.replicas[other], replica),
            false => replica,
        };
        let why = format!("{} holds a later copy of the same content than {}", older.platform, older.remote_id);
        self.reject(table, id.to_owned(), why);
        Ok(())
    }
}

// ===== what is new of it =====

/// Tells rows of which nobody knew the content.
fn link(session: &mut Session<'_>, found: &[(PlatformId, String, Digest)]) -> Result<()> {
    for (platform, id, digest) in found {
        let hex = digest.hex();
        session.execute(
            "UPDATE platform_file_registry
                SET file_hash = ?1,
                    file_id = COALESCE(file_id, (SELECT original_file_id FROM file_hashes WHERE file_hash = ?1)),
                    file_size = COALESCE(file_size, (SELECT file_size FROM file_hashes WHERE file_hash = ?1))
              WHERE platform = ?2 AND platform_file_id = ?3 AND file_hash IS NULL",
            bind![&hex, rows::stored(platform), id],
        )?;
    }
    Ok(())
}

/// What the registry has of some contents.
struct Known {
    contents: HashSet<String>,
    /// Remote ids, and the content each is of, where that is known.
    remote_ids: HashMap<(PlatformId, String), Option<String>>,
    /// Contents that have a copy of unknown purpose on a platform.
    unspecific: HashSet<(String, PlatformId)>,
}

impl Known {
    fn of(session: &mut Session<'_>, digests: &[String], ids: Vec<String>) -> Result<Known> {
        let places: Vec<String> = (1..=digests.len()).map(|number| format!("?{number}")).collect();
        let places = places.join(", ");
        let values: Vec<Value<'_>> = digests.iter().map(Into::into).collect();
        let sql =
            format!("SELECT file_hash FROM file_hashes WHERE file_hash IN ({places}) AND original_file_id IS NOT NULL");
        let contents = session.rows(&sql, &values)?.iter().map(|row| row.get(0)).collect::<Result<_>>()?;
        let sql = format!(
            "SELECT {}, file_hash FROM platform_file_registry WHERE file_hash IN ({places})",
            rows::REPLICA_COLUMNS
        );
        let mut unspecific = HashSet::new();
        for row in session.rows(&sql, &values)? {
            let replica = rows::replica(&row)?;
            if replica.purpose.as_str().is_empty() && replica.status == ReplicaStatus::Active {
                unspecific.insert((row.get(11)?, replica.platform));
            }
        }
        let mut remote_ids = HashMap::new();
        for ids in ids.chunks(AT_ONCE) {
            let places: Vec<String> = (1..=ids.len()).map(|number| format!("?{number}")).collect();
            let sql = format!(
                "SELECT platform, platform_file_id, file_hash FROM platform_file_registry WHERE platform_file_id IN ({})",
                places.join(", ")
            );
            let values: Vec<Value<'_>> = ids.iter().map(Into::into).collect();
            for row in session.rows(&sql, &values)? {
                if let Ok(platform) = PlatformId::new(&row.get::<String>(0)?) {
                    remote_ids.insert((platform, row.get(1)?), row.get(2)?);
                }
            }
        }
        Ok(Known { contents, remote_ids, unspecific })
    }

    /// Remote ids in the registry whose content nobody knew, and what the rows say of them.
    fn unhashed(&self, gathered: &Gathered) -> Vec<(PlatformId, String, Digest)> {
        let is_unknown = |(_, hex): &(&(PlatformId, String), &Option<String>)| hex.is_none();
        let told = |((platform, id), _): (&(PlatformId, String), &Option<String>)| {
            let digest = gathered.remote_ids.get(&(platform.clone(), id.clone()))?;
            Some((platform.clone(), id.clone(), *digest))
        };
        self.remote_ids.iter().filter(is_unknown).filter_map(told).collect()
    }

    /// Counts a file, and leaves in it what is new.
    fn sift(&self, file: &mut FileRecord, report: &mut Import, gathered: &mut Gathered) {
        let hex = file.digest.hex();
        match self.contents.contains(&hex) {
            true => report.known_contents += 1,
            false => report.contents += 1,
        }
        file.replicas.retain(|replica| {
            match self.remote_ids.get(&(replica.platform.clone(), replica.remote_id.clone())) {
                Some(Some(other)) if *other != hex => {
                    let why = format!("the registry has {} as a copy of sha256:{other}", replica.remote_id);
                    gathered.reject("platform_file_registry", replica.remote_id.clone(), why);
                    return false;
                }
                Some(_) => {
                    report.known_replicas += 1;
                    return false;
                }
                None => {}
            }
            if self.unspecific.contains(&(hex.clone(), replica.platform.clone())) {
                let why = format!("the registry has another copy of {} on {}", file.digest, replica.platform);
                gathered.reject("platform_file_registry", replica.remote_id.clone(), why);
                return false;
            }
            report.replicas += 1;
            true
        });
    }
}
