//! How long a file is wanted, and why one is kept whatever else is said.

use serde::Serialize;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// Why a file is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldKind {
    /// Somebody uses it on a platform until then: it is kept alive there.
    Lease,
    /// It is not to make room for others.
    Pin,
    /// Nobody may delete it, whatever else is said.
    Legal,
}

impl HoldKind {
    pub fn as_str(self) -> &'static str {
        match self {
            HoldKind::Lease => "lease",
            HoldKind::Pin => "pin",
            HoldKind::Legal => "legal",
        }
    }

    /// # Errors
    /// `InvalidRequest` for another word.
    pub fn parse(word: &str) -> Result<Self> {
        let all = [HoldKind::Lease, HoldKind::Pin, HoldKind::Legal];
        all.into_iter().find(|kind| kind.as_str() == word).ok_or_else(|| {
            Error::new(ErrorKind::InvalidRequest, format!("a file cannot be held by {word:?}"))
                .with_hint("it can be held by a lease, a pin or a legal hold (legal)")
        })
    }
}

/// How long a file is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// As long as was said before; a new one for ever.
    #[default]
    AsItIs,
    Forever,
    Until(Timestamp),
}

impl Keep {
    /// When it ends, if it does.
    pub fn until(self) -> Option<Timestamp> {
        match self {
            Keep::Until(at) => Some(at),
            Keep::Forever | Keep::AsItIs => None,
        }
    }

    /// Whether a file that is wanted so long (`None`: for ever) is wanted long enough.
    pub fn is_met_by(self, known: Option<Timestamp>) -> bool {
        match (self, known) {
            (Keep::AsItIs, _) | (_, None) => true,
            (Keep::Forever, Some(_)) => false,
            (Keep::Until(at), Some(known)) => known >= at,
        }
    }
}
