//! What the existing EXAI tool and we tell each other of contents we have: `dedup:{sha256}` in Redis
//! (dropin_contract.md §1.3), for as long as old and new processes run side by side.
//!
//! A note is a hint. What it says is there is asked for before it is believed; that it says nothing means nothing.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::Manager;
use super::upload::Target;
use crate::model::{AccountId, Digest, FileObject, PlatformId, Replica};
use crate::resilience::SharedState;

/// How long the tool believes a note.
const LIFE: Duration = Duration::from_secs(3_600);

fn key(digest: &Digest) -> String {
    format!("dedup:{}", digest.hex())
}

/// The tool's names of platforms.
fn provider(platform: &PlatformId) -> Option<&'static str> {
    match platform.as_str() {
        "moonshot" => Some("kimi"),
        "zai" => Some("glm"),
        _ => None,
    }
}

impl Manager {
    /// Tells the existing tool what is uploaded, and looks at what it says, where `state` is shared with it.
    #[must_use]
    pub fn beside_existing_tool(self, state: SharedState) -> Self {
        Manager { existing_tool: Some(state), ..self }
    }

    /// A file the tool has uploaded of this content, if the platform still has it just so.
    pub(super) async fn uploaded_by_tool(&self, target: &Target<'_>, deadline: Instant) -> Option<FileObject> {
        let placement = &target.intent.placement;
        // The tool knows one account of each provider.
        if placement.account != AccountId::new("default") {
            return None;
        }
        let note = self.existing_tool.as_ref()?.tool_note(&key(&placement.digest)).await?;
        let id = remote_id(&serde_json::from_str(&note).ok()?, &placement.platform)?;
        if self.registry.knows_remote(&placement.platform, &id).await.ok()? {
            return None;
        }
        let object = self.remote(target.connection, &id, Some(&placement.purpose), deadline).await.ok()?;
        let is_same = object.size == Some(target.intent.size) && object.status.is_usable();
        (is_same && object.purpose.as_ref().is_none_or(|purpose| *purpose == placement.purpose)).then_some(object)
    }

    /// Tells the tool that this content is there.
    pub(super) async fn tell_tool(&self, digest: &Digest, replica: &Replica) {
        let (Some(state), Some(provider)) = (&self.existing_tool, provider(&replica.platform)) else { return };
        let Ok(Some(mut row)) = self.registry.upload_row(digest).await else { return };
        row["provider"] = provider.into();
        row["provider_file_id"] = replica.remote_id.as_str().into();
        let note = json!({"is_duplicate": true, "original_file": row, "cached_at": self.clock.now().to_string()});
        state.leave_tool_note(&key(digest), &note.to_string(), LIFE).await;
    }
}

/// The id a note has for a platform; rows of the tool's several schemas name it differently (§4.3).
fn remote_id(note: &Value, platform: &PlatformId) -> Option<String> {
    let row = note.get("original_file")?;
    let text = |name: &str| row.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let of_provider = text("provider_file_id").filter(|_| text("provider") == provider(platform));
    let of_moonshot = text("moonshot_file_id").filter(|_| platform.as_str() == "moonshot");
    of_provider.or(of_moonshot).map(str::to_owned)
}
