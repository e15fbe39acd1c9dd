//! One AI platform's file API, behind one trait.
//!
//! A platform is data (a [`Profile`]: capabilities, rules, an error table) for the one HTTP implementation,
//! [`FilesApi`]; adding one is a file here, or a table in the configuration. No retries and no pacing in here: each
//! verb is one attempt, and its error says whether and how it may be repeated.

mod answer;
mod capabilities;
mod content;
mod errors;
mod files_api;
mod moonshot;
mod openai_compatible;
mod retry_after;
mod zai;

use std::fmt;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use tokio::time::Instant;

use crate::error::Result;
use crate::model::{AccountId, ByteStream, ContentKind, FileObject, PlatformId, Purpose};

pub use capabilities::{Capabilities, Fact, PurposeRule, Tier};
pub use errors::{ErrorTable, Meaning, Row};
pub use files_api::{FilesApi, GetRule, ListRule, Profile};
pub use moonshot::{kimi_code, moonshot};
pub use openai_compatible::{OpenAiCompatible, PurposeTable};
pub use zai::{zai, zhipu};

/// What to send, and under which name and purpose.
pub struct Upload {
    pub name: String,
    pub purpose: Purpose,
    pub mime: String,
    /// Bytes that `body` will give, exactly.
    pub length: u64,
    pub body: ByteStream,
    pub deadline: Instant,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({:?}, {}, {} bytes)", self.name, self.purpose, self.length)
    }
}

/// Which files a platform shall list.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Only files of this purpose; `None` lists all, on platforms that need a purpose one after the other.
    pub purpose: Option<Purpose>,
}

/// What deleting found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    Now,
    AlreadyGone,
}

/// A file's content, as the platform gives it back.
pub struct RemoteContent {
    pub kind: ContentKind,
    pub stream: Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>,
}

/// A file's content, read to its end.
#[derive(Clone, Debug)]
pub struct CollectedContent {
    pub kind: ContentKind,
    /// The answer as it came.
    pub bytes: Bytes,
    /// Extracted text, out of its wrapper.
    pub text: Option<String>,
}

/// The file API of one account on one platform.
#[async_trait]
pub trait Platform: Send + Sync {
    fn id(&self) -> &PlatformId;

    fn account(&self) -> &AccountId;

    fn capabilities(&self) -> &Capabilities;

    /// Sends a file.
    ///
    /// # Errors
    /// With a [`Delivery`](crate::error::Delivery) other than `NotStored` the file may be there all the same.
    async fn upload(&self, upload: Upload) -> Result<FileObject>;

    /// Lists every file, walking pages and, where a purpose is needed, purposes.
    async fn list(&self, query: &ListQuery, deadline: Instant) -> Result<Vec<FileObject>>;

    /// Describes one file; where the platform has no such verb, by listing.
    ///
    /// # Errors
    /// `NotFound` when it is not there.
    async fn get(&self, id: &str, purpose: Option<&Purpose>, deadline: Instant) -> Result<FileObject>;

    async fn content(&self, id: &str, purpose: &Purpose, deadline: Instant) -> Result<RemoteContent>;

    /// Deletes one file; not being there is no error.
    async fn delete(&self, id: &str, deadline: Instant) -> Result<Deleted>;
}
