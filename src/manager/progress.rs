//! How far an upload has come; read from outside while it runs.

use std::sync::{Arc, Mutex};

use serde::Serialize;

use crate::content::Progress;
use crate::model::PlatformId;

/// What is happening to one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// For its turn, or for another caller with the same file.
    Waiting,
    Sending,
    /// Looking on the platform for an upload whose reply was lost.
    Reconciling,
    Sent,
    AlreadyThere,
    Failed,
}

/// One target of an upload.
#[derive(Clone, Debug, Serialize)]
pub struct Transfer {
    pub platform: PlatformId,
    pub name: String,
    /// Bytes handed to the network in the current attempt.
    pub sent: u64,
    /// Bytes in all.
    pub total: u64,
    pub phase: Phase,
}

/// The transfers of one call; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Transfers(Arc<Mutex<Vec<(Transfer, Progress)>>>);

/// One target's place in [`Transfers`].
#[derive(Clone, Debug)]
pub(super) struct Tracker {
    all: Transfers,
    index: usize,
    pub(super) progress: Progress,
}

impl Transfers {
    pub fn snapshot(&self) -> Vec<Transfer> {
        self.with(|all| {
            let sent =
                |(transfer, progress): &(Transfer, Progress)| Transfer { sent: progress.sent(), ..transfer.clone() };
            all.iter().map(sent).collect()
        })
    }

    /// Starts over: what was tracked before is forgotten.
    pub(super) fn clear(&self) {
        self.with(Vec::clear);
    }

    pub(super) fn track(&self, platform: &PlatformId, name: &str, total: u64) -> Tracker {
        let progress = Progress::default();
        let transfer =
            Transfer { platform: platform.clone(), name: name.to_owned(), sent: 0, total, phase: Phase::Waiting };
        let index = self.with(|all| {
            all.push((transfer, progress.clone()));
            all.len() - 1
        });
        Tracker { all: self.clone(), index, progress }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Vec<(Transfer, Progress)>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

impl Tracker {
    pub(super) fn enter(&self, phase: Phase) {
        self.all.with(|all| {
            if let Some((transfer, _)) = all.get_mut(self.index) {
                transfer.phase = phase;
            }
        });
    }
}
