//! Where a content's bytes are to be had again: a kept copy, the paths it was uploaded from.

use std::time::Duration;

use super::Manager;
use super::upload::{Prepared, UploadRequest};
use crate::blobs::{Blobs, Fetched};
use crate::content::{Progress, Source};
use crate::error::{Error, Result};
use crate::model::Digest;

/// Bytes that should be those of a content; whoever reads them checks.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) source: Source,
    /// How they were found, for the record.
    pub(super) strategy: &'static str,
    /// Keeps a fetched copy for as long as it is needed.
    _fetched: Option<Fetched>,
}

impl Manager {
    /// Keeps copies of what is uploaded from now on, to heal from.
    #[must_use]
    pub fn with_copies(self, blobs: Blobs) -> Self {
        Manager { blobs: Some(blobs), ..self }
    }

    pub(crate) fn blobs(&self) -> Option<&Blobs> {
        self.blobs.as_ref()
    }

    /// The places where a content's bytes may be, the surest first, and why its copy cannot be had now if it may be there.
    pub(super) async fn bytes_of(&self, digest: &Digest) -> Result<(Vec<Found>, Option<Error>)> {
        let (mut found, mut unanswered) = (Vec::new(), None);
        if let Some(blobs) = &self.blobs {
            match blobs.fetch(digest).await {
                Ok(Some(fetched)) => {
                    let source = Source::Spool(fetched.path.clone());
                    found.push(Found { source, strategy: "reupload-from-copy", _fetched: Some(fetched) });
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "a kept copy cannot be had");
                    unanswered = Some(error);
                }
            }
        }
        for path in self.registry.source_paths(digest).await? {
            found.push(Found { source: Source::Path(path.into()), strategy: "reupload-from-path", _fetched: None });
        }
        Ok((found, unanswered))
    }

    /// Whether a source holds the bytes of a content now. It is read only if it has changed since it was last read.
    pub(super) async fn holds_bytes(&self, source: Source, digest: &Digest) -> bool {
        let request = UploadRequest { name: Some(digest.hex()), ..UploadRequest::new(source, Duration::ZERO) };
        self.prepare(&request, &[]).await.is_ok_and(|file| file.identity.digest == *digest)
    }

    /// Keeps a copy of a file that is about to be sent, where copies are kept.
    pub(super) async fn keep_copy(&self, file: &Prepared) -> Result<()> {
        let Some(blobs) = &self.blobs else { return Ok(()) };
        let (digest, size) = (file.identity.digest, file.identity.size);
        if self.registry.is_kept(&digest).await? {
            return Ok(());
        }
        self.registry.begin_keep(&digest, size).await?;
        match blobs.keep(&digest, size, file.source.stream(digest, Progress::default())).await {
            Ok(()) => self.registry.note_kept(&digest, size).await,
            Err(error) => {
                self.registry.forget_begun(&digest).await?;
                Err(error)
            }
        }
    }
}
