//! Files as we know them ([`FileRecord`], [`Replica`]) and as a platform describes them ([`FileObject`]).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{AccountId, Digest, PlatformId, Purpose};
use crate::clock::Timestamp;

/// What a platform gives back when asked for a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContentKind {
    /// The bytes that were uploaded.
    Bytes,
    /// Text that the platform made of them. Not a copy of the file.
    ExtractedText,
    /// Nothing: the platform keeps it to itself.
    Opaque,
}

impl ContentKind {
    pub fn as_str(self) -> &'static str {
        match self {
            ContentKind::Bytes => "bytes",
            ContentKind::ExtractedText => "extracted-text",
            ContentKind::Opaque => "opaque",
        }
    }

    pub fn parse(text: &str) -> Self {
        match text {
            "bytes" => ContentKind::Bytes,
            "extracted-text" => ContentKind::ExtractedText,
            _ => ContentKind::Opaque,
        }
    }
}

/// Whether a file on a platform can be used yet, read from whatever word the platform says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteStatus {
    Ready,
    Pending,
    Failed,
    Deleted,
    /// The platform says nothing about it (Z.ai): usable as far as anyone can tell.
    Unstated,
    /// A word nobody has documented; treated as pending, with a cap on the waiting.
    Unknown(String),
}

impl RemoteStatus {
    /// Every status word in use: Moonshot (`ready`, before 2026 `ok`), Zhipu's Java SDK and OpenAI
    /// (platform_api.md §1A.3, §1B.4, §9.1).
    pub fn parse(word: Option<&str>) -> Self {
        match word.map(str::to_ascii_lowercase).as_deref() {
            None | Some("") => RemoteStatus::Unstated,
            Some("ready" | "ok" | "processed" | "uploaded" | "active" | "completed") => RemoteStatus::Ready,
            Some("processing" | "pending" | "uploading" | "created" | "running" | "in_progress") => {
                RemoteStatus::Pending
            }
            Some("error" | "failed") => RemoteStatus::Failed,
            Some("deleted" | "deleting") => RemoteStatus::Deleted,
            Some(other) => RemoteStatus::Unknown(other.to_owned()),
        }
    }

    pub fn is_usable(&self) -> bool {
        matches!(self, RemoteStatus::Ready | RemoteStatus::Unstated)
    }
}

impl fmt::Display for RemoteStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RemoteStatus::Ready => "ready",
            RemoteStatus::Pending => "pending",
            RemoteStatus::Failed => "failed",
            RemoteStatus::Deleted => "deleted",
            RemoteStatus::Unstated => "unstated",
            RemoteStatus::Unknown(word) => word,
        })
    }
}

impl Serialize for RemoteStatus {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A platform's own description of a file, harmonised; what it really said is in `raw`.
#[derive(Clone, Debug, Serialize)]
pub struct FileObject {
    pub id: String,
    /// Size in bytes, where the platform says it.
    pub size: Option<u64>,
    pub created_at: Option<Timestamp>,
    pub name: Option<String>,
    pub purpose: Option<Purpose>,
    pub status: RemoteStatus,
    pub status_details: Option<String>,
    pub mime: Option<String>,
    pub expires_at: Option<Timestamp>,
    pub raw: serde_json::Value,
}

/// How a replica came to be known in the call that returned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// This call sent the bytes.
    Sent,
    /// It was there already: nothing was sent.
    AlreadyThere,
    /// Found on the platform after a lost reply, and taken over.
    Adopted,
}

impl Origin {
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Sent => "sent",
            Origin::AlreadyThere => "already-there",
            Origin::Adopted => "adopted",
        }
    }
}

/// Our view of whether a replica is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaStatus {
    Active,
    /// Its deletion was begun, and nobody knows yet how it ended.
    Deleting,
    /// Another one has taken its place; it is removed once nobody needs it.
    Retired,
    Deleted,
    Error,
}

impl ReplicaStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            ReplicaStatus::Active => "active",
            ReplicaStatus::Deleting => "deleting",
            ReplicaStatus::Retired => "retired",
            ReplicaStatus::Deleted => "deleted",
            ReplicaStatus::Error => "error",
        }
    }
}

/// One copy of a file on one platform and account, for one purpose.
#[derive(Clone, Debug, Serialize)]
pub struct Replica {
    pub platform: PlatformId,
    pub account: AccountId,
    pub purpose: Purpose,
    /// The platform's id: an opaque string.
    pub remote_id: String,
    /// The name it has there; platforms may rename (Moonshot does on a clash, since 2026-08-31).
    pub remote_name: String,
    pub status: ReplicaStatus,
    /// What this platform will give back for it.
    pub content: ContentKind,
    pub created_at: Timestamp,
    /// When the platform last confirmed it.
    pub verified_at: Timestamp,
    /// When the platform will drop it; `None` where no retention is stated.
    pub expires_at: Option<Timestamp>,
    /// When somebody was last given it, to the hour.
    pub used_at: Option<Timestamp>,
    pub origin: Origin,
}

impl Replica {
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.status == ReplicaStatus::Active && self.expires_at.is_none_or(|at| at > now)
    }

    /// Whether its platform keeps it until then at least, as far as is stated.
    pub fn lives_until(&self, needed_until: Option<Timestamp>) -> bool {
        self.expires_at.zip(needed_until).is_none_or(|(expires_at, until)| expires_at >= until)
    }
}

/// One content we know: its digest, and where it is.
#[derive(Clone, Debug, Serialize)]
pub struct FileRecord {
    pub digest: Digest,
    /// The name it was first given.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// MIME type, from the bytes where they tell, else from the name.
    pub mime: String,
    pub created_at: Timestamp,
    /// Who handed it over first, where that was said.
    pub owner: Option<String>,
    pub tags: Vec<String>,
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Since when it is in the trash; it is not used then.
    pub trashed_at: Option<Timestamp>,
    /// Until when it is wanted; it goes then. `None`: for ever.
    pub keep_until: Option<Timestamp>,
    pub replicas: Vec<Replica>,
}

impl FileRecord {
    /// A content nobody has placed or said anything of.
    /// When somebody last handed it over or was given a copy of it, to the hour.
    pub fn used_at(&self) -> Timestamp {
        let used = self.replicas.iter().filter_map(|replica| replica.used_at);
        used.fold(self.created_at, Timestamp::max)
    }

    pub fn new(identity: super::Identity, name: String, created_at: Timestamp) -> Self {
        FileRecord {
            digest: identity.digest,
            name,
            size: identity.size,
            mime: identity.mime,
            created_at,
            owner: None,
            tags: Vec::new(),
            metadata: serde_json::Map::new(),
            trashed_at: None,
            keep_until: None,
            replicas: Vec::new(),
        }
    }
}
