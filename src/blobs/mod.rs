//! Kept copies: contents by their digest, in a local folder or an S3-compatible store.
//!
//! A copy lies at `sha256/ab/abcdef…`. It is written whole or not at all, and over another only where that is damaged: equal
//! digests are equal bytes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Location;
use object_store::{BackoffConfig, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, RetryConfig, WriteMultipart};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::model::{ByteStream, Digest, Secret};

/// What all copies lie under.
const ROOT: &str = "sha256";

/// Copies up to this many bytes are written in one request.
const AT_ONCE: u64 = 8 << 20;

/// Where copies are kept.
#[derive(Clone, Debug)]
pub enum Place {
    Folder(PathBuf),
    S3(S3Options),
}

/// An S3-compatible store.
#[derive(Clone, Debug)]
pub struct S3Options {
    pub bucket: String,
    /// Before each key; "" for none.
    pub prefix: String,
    pub region: String,
    /// Of a store that is not Amazon's, such as `http://127.0.0.1:8333`.
    pub endpoint: Option<String>,
    pub access_key_id: Secret,
    pub secret_access_key: Secret,
}

/// The kept copies; clones share them.
#[derive(Clone, Debug)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    prefix: Location,
    folder: Option<PathBuf>,
    /// The bucket's name, where it is one.
    bucket: Option<String>,
}

/// A copy as a file of this machine; one that was fetched for it is removed with this.
#[derive(Debug)]
pub struct Fetched {
    pub path: PathBuf,
    is_temporary: bool,
}

impl Drop for Fetched {
    fn drop(&mut self) {
        if self.is_temporary {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A copy as the store lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    pub written_at: Timestamp,
}

impl Blobs {
    /// # Errors
    /// `Config` when the place cannot be used.
    pub fn open(place: &Place) -> Result<Self> {
        match place {
            Place::Folder(folder) => Self::in_folder(folder),
            Place::S3(options) => Self::in_bucket(options),
        }
    }

    fn in_folder(folder: &Path) -> Result<Self> {
        let made = std::fs::create_dir_all(folder).map_err(|error| error.to_string());
        let opened = made.and_then(|()| LocalFileSystem::new_with_prefix(folder).map_err(|error| error.to_string()));
        let store = opened.map_err(|why| unusable(&format!("{}: {why}", folder.display())))?;
        let store = Arc::new(store.with_fsync(true).with_automatic_cleanup(true));
        Ok(Blobs { store, prefix: Location::default(), folder: Some(folder.to_owned()), bucket: None })
    }

    fn in_bucket(options: &S3Options) -> Result<Self> {
        if options.bucket.is_empty() {
            return Err(unusable("s3://, which names no bucket"));
        }
        let mut builder = AmazonS3Builder::new()
            .with_retry(patience())
            .with_bucket_name(&options.bucket)
            .with_region(&options.region)
            .with_access_key_id(options.access_key_id.expose())
            .with_secret_access_key(options.secret_access_key.expose());
        if let Some(endpoint) = &options.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
        }
        let store = builder.build().map_err(|error| unusable(&format!("{}: {error}", options.bucket)))?;
        let prefix = Location::from(options.prefix.as_str());
        Ok(Blobs { store: Arc::new(store), prefix, folder: None, bucket: Some(options.bucket.clone()) })
    }

    fn location(&self, digest: &Digest) -> Location {
        let hex = digest.hex();
        self.prefix.clone().join(ROOT).join(&hex[..2]).join(hex.as_str())
    }

    /// The size of a copy, if there is one.
    ///
    /// # Errors
    /// `Registry` when the store does not answer.
    pub async fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        match self.store.head(&self.location(digest)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("asked for", digest, &error)),
        }
    }

    /// Keeps a copy of `size` bytes, unless there is one that holds them.
    ///
    /// # Errors
    /// `Integrity` when the bytes are not those of the digest: nothing is kept then; `Registry` when it cannot be written.
    pub async fn keep(&self, digest: &Digest, size: u64, bytes: ByteStream) -> Result<()> {
        if self.is_whole(digest, size, true).await? {
            return Ok(());
        }
        failpoint("copy", "begin")?;
        if size <= AT_ONCE { self.put(digest, size, bytes).await } else { self.put_in_parts(digest, bytes).await }?;
        failpoint("copy", "stored")
    }

    async fn put(&self, digest: &Digest, size: u64, mut bytes: ByteStream) -> Result<()> {
        let (mut whole, mut hasher) = (Vec::with_capacity(size as usize), Sha256::new());
        while let Some(piece) = bytes.next().await {
            let piece = piece.map_err(|error| unread(digest, error))?;
            hasher.update(&piece);
            whole.extend_from_slice(&piece);
        }
        check(digest, hasher)?;
        // What is there was damaged.
        let payload = PutPayload::from(whole);
        let put = self.store.put_opts(&self.location(digest), payload, PutMode::Overwrite.into()).await;
        put.map(drop).map_err(|error| self.failed("written", digest, &error))
    }

    async fn put_in_parts(&self, digest: &Digest, mut bytes: ByteStream) -> Result<()> {
        let begun = self.store.put_multipart(&self.location(digest)).await;
        let upload = begun.map_err(|error| self.failed("written", digest, &error))?;
        let mut writer = WriteMultipart::new(upload);
        let mut hasher = Sha256::new();
        let outcome = loop {
            match bytes.next().await {
                None => break check(digest, hasher),
                Some(Err(error)) => break Err(unread(digest, error)),
                Some(Ok(piece)) => {
                    hasher.update(&piece);
                    if let Err(error) = writer.wait_for_capacity(4).await {
                        break Err(self.failed("written", digest, &error));
                    }
                    writer.put(piece);
                }
            }
        };
        match outcome {
            Ok(()) => writer.finish().await.map(drop).map_err(|error| self.failed("written", digest, &error)),
            Err(error) => {
                let _ = writer.abort().await;
                Err(error)
            }
        }
    }

    /// A copy as a file. Whether it holds the right bytes is for the reader to check.
    ///
    /// # Errors
    /// `Registry`, also when the store is no folder and the copy cannot be put into the temporary directory.
    pub async fn fetch(&self, digest: &Digest) -> Result<Option<Fetched>> {
        if self.size(digest).await?.is_none() {
            return Ok(None);
        }
        let location = self.location(digest);
        if let Some(folder) = &self.folder {
            return Ok(Some(Fetched { path: folder.join(location.as_ref()), is_temporary: false }));
        }
        let name = format!("exai-files-{}-{}", std::process::id(), uuid::Uuid::now_v7().simple());
        let fetched = Fetched { path: std::env::temp_dir().join(name), is_temporary: true };
        let mut file = private_file(&fetched.path).await.map_err(|error| unspooled(digest, error))?;
        let mut stream = self.read(digest).await?;
        while let Some(piece) = stream.try_next().await.map_err(|error| unread(digest, error))? {
            file.write_all(&piece).await.map_err(|error| unspooled(digest, error))?;
        }
        file.flush().await.map_err(|error| unspooled(digest, error))?;
        Ok(Some(fetched))
    }

    /// # Errors
    /// `NotFound`; `Registry`.
    async fn read(&self, digest: &Digest) -> Result<ByteStream> {
        let got = self.store.get(&self.location(digest)).await.map_err(|error| self.failed("read", digest, &error))?;
        Ok(got.into_stream().map_err(std::io::Error::other).boxed())
    }

    /// Whether a copy is there and, when it is read, holds the bytes of its digest.
    ///
    /// # Errors
    /// `Registry` when the store does not answer.
    pub async fn is_whole(&self, digest: &Digest, size: u64, with_bytes: bool) -> Result<bool> {
        if self.size(digest).await? != Some(size) {
            return Ok(false);
        }
        if !with_bytes {
            return Ok(true);
        }
        let (mut stream, mut hasher) = (self.read(digest).await?, Sha256::new());
        while let Some(piece) = stream.try_next().await.map_err(|error| unread(digest, error))? {
            hasher.update(&piece);
        }
        Ok(check(digest, hasher).is_ok())
    }

    /// Removes a copy; not being there is success.
    ///
    /// # Errors
    /// `Registry`.
    pub async fn remove(&self, digest: &Digest) -> Result<()> {
        failpoint("copy", "remove")?;
        match self.store.delete(&self.location(digest)).await {
            Err(error) if !matches!(error, object_store::Error::NotFound { .. }) => {
                Err(self.failed("removed", digest, &error))
            }
            _ => Ok(()),
        }
    }

    /// Every copy there is.
    ///
    /// # Errors
    /// `Registry`.
    pub async fn list(&self) -> Result<Vec<Blob>> {
        let under = self.prefix.clone().join(ROOT);
        let listed: Vec<_> = self.store.list(Some(&under)).try_collect().await.map_err(|error| {
            let (why, hint) = self.why(&error);
            Error::new(ErrorKind::Registry, format!("the kept copies cannot be listed: {why}")).with_hint(hint)
        })?;
        let blob = |meta: &object_store::ObjectMeta| {
            let digest = Digest::from_hex(meta.location.filename()?)?;
            let written_at = Timestamp(meta.last_modified.timestamp_micros());
            Some(Blob { digest, size: meta.size, written_at })
        };
        Ok(listed.iter().filter_map(blob).collect())
    }

    /// Removes what writers that died left beside the copies, if it was last written `before`; gives its bytes. In a
    /// bucket that is for the bucket's own rules to do.
    ///
    /// # Errors
    /// `Registry`.
    pub async fn remove_unfinished(&self, before: Timestamp, dry_run: bool) -> Result<u64> {
        let Some(folder) = &self.folder else { return Ok(0) };
        let folder = folder.join(ROOT);
        let removing = tokio::task::spawn_blocking(move || {
            let mut bytes = 0;
            for (path, size) in unfinished(&folder, before)? {
                if !dry_run {
                    std::fs::remove_file(path)?;
                }
                bytes += size;
            }
            Ok(bytes)
        });
        let removed = removing.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        removed.map_err(|error| {
            Error::new(ErrorKind::Registry, format!("unfinished copies cannot be removed: {error}"))
                .with_hint("check `copies.place` and the disk")
                .with_source(error)
        })
    }

    fn failed(&self, what: &str, digest: &Digest, error: &object_store::Error) -> Error {
        let (why, hint) = self.why(error);
        Error::new(ErrorKind::Registry, format!("the kept copy of {digest} cannot be {what}: {why}")).with_hint(hint)
    }

    /// What the store's error says, without the page that a server may have sent, and what to do about it.
    fn why(&self, error: &object_store::Error) -> (String, &'static str) {
        let text = error.to_string();
        let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
        if let (Some("NoSuchBucket"), Some(bucket)) = (code, &self.bucket) {
            return (format!("there is no bucket {bucket}"), "make it, or mend `copies.place`");
        }
        let is_refused = text.contains("403 Forbidden") || text.contains("401 Unauthorized");
        let hint = match &self.bucket {
            Some(_) if is_refused => {
                "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they may do in `copies.place`"
            }
            _ => "check `copies.place`, the disk or the store",
        };
        let line = text.split(['\n', '<']).next().unwrap_or_default().trim_end_matches([':', ' ']);
        (code.map_or_else(|| line.to_owned(), |code| format!("{line} ({code})")), hint)
    }
}

/// A store that is down is given a few seconds: somebody may be waiting, and what failed is tried again later.
fn patience() -> RetryConfig {
    let backoff = BackoffConfig { max_backoff: Duration::from_secs(1), ..BackoffConfig::default() };
    RetryConfig { backoff, max_retries: 4, retry_timeout: Duration::from_secs(30) }
}

/// Files that `object_store` had begun to write, and their sizes: it calls them as the copy, `#` and a number.
fn unfinished(folder: &Path, before: Timestamp) -> std::io::Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    let folders = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        folders => folders?,
    };
    for folder in folders {
        for file in std::fs::read_dir(folder?.path())? {
            let file = file?;
            let name = file.file_name();
            let of = name.to_str().and_then(|name| name.split_once('#')).and_then(|(of, _)| Digest::from_hex(of));
            let meta = file.metadata()?;
            let written_at = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            if of.is_some() && Timestamp(0).plus(written_at) < before {
                found.push((file.path(), meta.len()));
            }
        }
    }
    Ok(found)
}

/// Readable by nobody else.
async fn private_file(path: &Path) -> std::io::Result<tokio::fs::File> {
    tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).await
}

fn check(digest: &Digest, hasher: Sha256) -> Result<()> {
    match Digest(hasher.finalize().into()) == *digest {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Integrity, format!("these are not the bytes of {digest}"))
            .with_hint("the file changed while it was read")),
    }
}

fn unusable(why: &str) -> Error {
    Error::new(ErrorKind::Config, format!("copies cannot be kept in {why}"))
        .with_hint("name a folder that this user may write to, or s3://bucket/prefix")
}

fn unread(digest: &Digest, error: std::io::Error) -> Error {
    let kind =
        if error.kind() == std::io::ErrorKind::InvalidData { ErrorKind::SourceChanged } else { ErrorKind::Registry };
    Error::new(kind, format!("the bytes of {digest} cannot be read: {error}"))
        .with_hint("see that the file is there and does not change")
        .with_source(error)
}

fn unspooled(digest: &Digest, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Registry, format!("the kept copy of {digest} cannot be put into a temporary file: {error}"))
        .with_hint("make room in the temporary directory (TMPDIR)")
        .with_source(error)
}
