//! Plain data that every layer shares. No behaviour beyond reading and printing itself.

mod actor;
mod digest;
mod file;
mod hold;
mod platform_id;
mod purpose;
mod reach;
mod secret;
mod source;
mod stream;

pub use actor::Actor;
pub use digest::Digest;
pub use file::{ContentKind, FileObject, FileRecord, Origin, RemoteStatus, Replica, ReplicaStatus};
pub use hold::{HoldKind, Keep};
pub use platform_id::{AccountId, PlatformId};
pub use purpose::Purpose;
pub use reach::Reach;
pub use secret::Secret;
pub use source::{Fingerprint, Identity};
pub use stream::ByteStream;

use std::fmt;

/// What is asked of a platform. Also the class that limits and breakers are kept by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Upload,
    List,
    Get,
    Content,
    Delete,
}

impl Operation {
    pub const ALL: [Operation; 5] =
        [Operation::Upload, Operation::List, Operation::Get, Operation::Content, Operation::Delete];

    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Upload => "upload",
            Operation::List => "list",
            Operation::Get => "get",
            Operation::Content => "content",
            Operation::Delete => "delete",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
