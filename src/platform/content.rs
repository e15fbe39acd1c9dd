//! What a file's content is when it comes back.

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use serde_json::Value;

use super::{CollectedContent, RemoteContent};
use crate::error::Result;
use crate::model::ContentKind;

impl std::fmt::Debug for RemoteContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RemoteContent({})", self.kind.as_str())
    }
}

impl RemoteContent {
    pub(super) fn whole(kind: ContentKind, bytes: Bytes) -> Self {
        RemoteContent { kind, stream: stream::iter([Ok(bytes)]).boxed() }
    }

    /// Reads it to its end, and extracted text out of its wrapper.
    pub async fn collect(mut self) -> Result<CollectedContent> {
        let mut bytes = BytesMut::new();
        while let Some(piece) = self.stream.next().await {
            bytes.extend_from_slice(&piece?);
        }
        let bytes = bytes.freeze();
        let text = (self.kind == ContentKind::ExtractedText).then(|| unwrapped(&bytes));
        Ok(CollectedContent { kind: self.kind, bytes, text })
    }
}

/// Both vendors wrap extracted text in `{"content", "file_type", "filename", "title", "type"}` (platform_api.md
/// §1A.5), although one documents plain text.
fn unwrapped(bytes: &Bytes) -> String {
    let wrapper: Option<Value> = serde_json::from_slice(bytes).ok();
    match wrapper.as_ref().and_then(|wrapper| wrapper.get("content")).and_then(Value::as_str) {
        Some(text) => text.to_owned(),
        None => String::from_utf8_lossy(bytes).into_owned(),
    }
}
