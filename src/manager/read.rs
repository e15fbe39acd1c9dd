//! Read a file back, saying honestly what it is: the bytes, or only text that the platform made of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use super::Manager;
use crate::content::local_name;
use crate::draft::Draft;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::model::{ContentKind, Digest, FileRecord, Operation, PlatformId, Replica};
use crate::platform::RemoteContent;

/// What a platform gave back.
#[derive(Clone, Debug)]
pub struct Content {
    pub platform: PlatformId,
    pub kind: ContentKind,
    /// The platform's answer as it came: the file's bytes, or the wrapper around extracted text.
    pub bytes: Bytes,
    /// The extracted text, out of its wrapper.
    pub text: Option<String>,
}

/// A finished download.
#[derive(Clone, Debug, Serialize)]
pub struct Download {
    pub path: PathBuf,
    pub platform: PlatformId,
    pub kind: ContentKind,
    /// Bytes written.
    pub size: u64,
    /// Digest of what was written.
    pub digest: Digest,
    /// Whether these are the very bytes that were uploaded.
    pub is_original: bool,
}

impl Manager {
    /// What `platform` (default: the one that gives most) returns for a file.
    ///
    /// # Errors
    /// `NotFound`; `Unsupported` where the platform gives nothing back for the file's purpose; `Integrity` when
    /// bytes come back other than they were sent.
    pub async fn content(&self, reference: &str, platform: Option<&PlatformId>, within: Duration) -> Result<Content> {
        let deadline = Instant::now() + within;
        let (record, replica) = self.located(reference, platform).await?;
        let content = self.fetch(&record, &replica, deadline).await?;
        if content.kind == ContentKind::Bytes {
            check_digest(&record, &content)?;
        }
        Ok(content)
    }

    /// The text of a file: extracted by the platform (fetched once, then kept), or its bytes where they are text.
    ///
    /// # Errors
    /// As [`content`](Self::content); `Unsupported` when there is no text in it.
    pub async fn text(&self, reference: &str, platform: Option<&PlatformId>, within: Duration) -> Result<String> {
        let deadline = Instant::now() + within;
        let record = self.usable(reference).await?;
        if let Some(text) = self.kept_text(&record, platform).await? {
            return Ok(text);
        }
        let replica = self.choose(&record.replicas, platform, &record.name)?.clone();
        self.registry.note_use(&replica);
        let content = self.fetch(&record, &replica, deadline).await?;
        let text = match content.text {
            Some(text) => text,
            None => String::from_utf8(content.bytes.to_vec()).map_err(|_| no_text(&record, &replica))?,
        };
        if content.kind == ContentKind::ExtractedText {
            self.registry.keep_text(&record.digest, &replica.platform, self.epoch(&replica.platform)?, &text).await?;
        }
        Ok(text)
    }

    /// Writes what a platform returns to `to` (a file, or a directory to put it in under its own name).
    ///
    /// The file appears whole or not at all.
    ///
    /// # Errors
    /// As [`content`](Self::content); `InvalidRequest` when `to` cannot be written.
    pub async fn download(
        &self,
        reference: &str,
        to: &Path,
        platform: Option<&PlatformId>,
        within: Duration,
    ) -> Result<Download> {
        let deadline = Instant::now() + within;
        let (record, replica) = self.located(reference, platform).await?;
        let path = destination(to, &record, replica.content);
        let remote = self.open_remote(&record, &replica, deadline).await?;
        let kind = remote.kind;
        let mut draft = draft_of(&path).await?;
        let written = write_stream(remote, &mut draft).await.map_err(|error| error.at(&path))?;
        let is_original = kind == ContentKind::Bytes && written.1 == record.digest;
        if kind == ContentKind::Bytes && !is_original {
            return Err(other_bytes(&record, &replica.platform));
        }
        if kind == ContentKind::ExtractedText {
            tracing::warn!(name = %record.name, platform = %replica.platform, "this is text the platform extracted, not the file");
        }
        publish(draft, &path).await?;
        Ok(Download { path, platform: replica.platform, kind, size: written.0, digest: written.1, is_original })
    }

    /// The digest of the bytes that a platform gives back for a copy, and their number.
    pub(crate) async fn digest_there(&self, replica: &Replica, deadline: Instant) -> Result<(Digest, u64)> {
        let connection = self.holder(replica)?;
        let content = connection
            .resilience
            .call(Operation::Content, deadline, || async {
                connection.platform.content(&replica.remote_id, &replica.purpose, deadline).await
            })
            .await?;
        let (mut stream, mut size, mut hasher) = (content.stream, 0, Sha256::new());
        while let Some(piece) = stream.next().await {
            let piece = piece?;
            size += piece.len() as u64;
            hasher.update(&piece);
        }
        Ok((Digest(hasher.finalize().into()), size))
    }

    async fn located(&self, reference: &str, platform: Option<&PlatformId>) -> Result<(FileRecord, Replica)> {
        let record = self.usable(reference).await?;
        let replica = self.choose(&record.replicas, platform, &record.name)?.clone();
        self.registry.note_use(&replica);
        Ok((record, replica))
    }

    async fn kept_text(&self, record: &FileRecord, platform: Option<&PlatformId>) -> Result<Option<String>> {
        for name in self.connections.keys().filter(|name| platform.is_none_or(|p| p == *name)) {
            if let Some(text) = self.registry.extracted_text(&record.digest, name, self.epoch(name)?).await? {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    fn epoch(&self, platform: &PlatformId) -> Result<&str> {
        Ok(self.platform(platform)?.platform.capabilities().parser_epoch())
    }

    async fn fetch(&self, record: &FileRecord, replica: &Replica, deadline: Instant) -> Result<Content> {
        let connection = self.holder(replica)?;
        refuse_opaque(record, replica)?;
        let content = connection
            .resilience
            .call(Operation::Content, deadline, || async {
                connection.platform.content(&replica.remote_id, &replica.purpose, deadline).await?.collect().await
            })
            .await?;
        Ok(Content { platform: replica.platform.clone(), kind: content.kind, bytes: content.bytes, text: content.text })
    }

    async fn open_remote(&self, record: &FileRecord, replica: &Replica, deadline: Instant) -> Result<RemoteContent> {
        let connection = self.holder(replica)?;
        refuse_opaque(record, replica)?;
        connection
            .resilience
            .call(Operation::Content, deadline, || async {
                connection.platform.content(&replica.remote_id, &replica.purpose, deadline).await
            })
            .await
    }
}

fn refuse_opaque(record: &FileRecord, replica: &Replica) -> Result<()> {
    if replica.content != ContentKind::Opaque {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        format!("{} gives nothing back for {:?}, uploaded for {}", replica.platform, record.name, replica.purpose),
    )
    .with_hint("ask another platform, or upload it for a purpose whose content can be read"))
}

fn check_digest(record: &FileRecord, content: &Content) -> Result<()> {
    match Digest(Sha256::digest(&content.bytes).into()) == record.digest {
        true => Ok(()),
        false => Err(other_bytes(record, &content.platform)),
    }
}

fn other_bytes(record: &FileRecord, platform: &PlatformId) -> Error {
    Error::new(
        ErrorKind::Integrity,
        format!("{platform} returned other bytes for {:?} than were uploaded", record.name),
    )
    .with_hint("platforms may normalise batch files; take the file from where it came from")
}

fn no_text(record: &FileRecord, replica: &Replica) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("{} holds {:?} as bytes that are not UTF-8 text", replica.platform, record.name),
    )
    .with_hint("use `content` or `download`")
}

/// Extracted text must not look like the file itself.
fn destination(to: &Path, record: &FileRecord, kind: ContentKind) -> PathBuf {
    if !to.is_dir() {
        return to.to_owned();
    }
    // Other programs name files too.
    let name = local_name(&record.name).unwrap_or_else(|| record.digest.hex());
    match kind {
        ContentKind::ExtractedText => to.join(format!("{name}.extracted.json")),
        _ => to.join(name),
    }
}

/// Why a stream did not reach the disk.
enum Unwritten {
    Platform(Error),
    Disk(std::io::Error),
}

impl Unwritten {
    fn at(self, path: &Path) -> Error {
        match self {
            Unwritten::Platform(error) => error,
            Unwritten::Disk(error) => cannot_write(path, error),
        }
    }
}

impl From<std::io::Error> for Unwritten {
    fn from(error: std::io::Error) -> Self {
        Unwritten::Disk(error)
    }
}

async fn draft_of(path: &Path) -> Result<Draft> {
    let to = path.to_owned();
    on_disk(path, move || Draft::of(&to, 0o666)).await
}

async fn write_stream(mut remote: RemoteContent, draft: &mut Draft) -> Result<(u64, Digest), Unwritten> {
    let mut file = tokio::fs::File::from_std(draft.file().try_clone()?);
    let (mut size, mut hasher) = (0, Sha256::new());
    while let Some(piece) = remote.stream.next().await {
        let piece = piece.map_err(Unwritten::Platform)?;
        size += piece.len() as u64;
        hasher.update(&piece);
        file.write_all(&piece).await?;
    }
    file.flush().await?;
    Ok((size, Digest(hasher.finalize().into())))
}

async fn publish(draft: Draft, path: &Path) -> Result<()> {
    failpoint("download", "written")?;
    on_disk(path, move || draft.publish()).await?;
    failpoint("download", "published")
}

async fn on_disk<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|lost| Err(std::io::Error::other(lost))).map_err(|error| cannot_write(path, error))
}

fn cannot_write(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::InvalidRequest, format!("{:?} cannot be written: {error}", path.display()))
        .with_hint("check that the directory exists and this user may write to it")
        .with_source(error)
}
