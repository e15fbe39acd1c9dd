//! What time asks for, as Python holds it: recovery, kept copies, the audit log.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use pyo3::prelude::*;
use serde_json::json;

use super::convert::{Answer, value};
use super::errors::raise;
use super::pending::Pending;
use super::{client, runtime};
use crate::audit::{AuditFilter, read_checkpoints};
use crate::error::Error;
use crate::manager::Manager;
use crate::model::{Keep, PlatformId};
use crate::upkeep::{
    apply_lifecycle, check_copies, collect_copies, explain_lifecycle, explain_recovery, find_recovery, recover,
};

/// What one pass of the recovery in the background may take.
const PASS: Duration = Duration::from_secs(300);

/// Recovers at once and then every so often, for as long as there is the manager.
pub(super) fn recover_regularly(manager: &Arc<Manager>, every: Duration) -> PyResult<()> {
    let manager: Weak<Manager> = Arc::downgrade(manager);
    runtime::handle()?.spawn(async move {
        while let Some(manager) = manager.upgrade() {
            let pass = manager.until_closed(recover(&manager, PASS)).await;
            match pass {
                Ok(_) => {}
                Err(_) if manager.is_closed() => return,
                Err(error) => tracing::warn!(%error, "what was cut short could not be looked for"),
            }
            drop(manager);
            tokio::time::sleep(every).await;
        }
    });
    Ok(())
}

fn pending<F>(manager: &Arc<Manager>, work: F) -> Pending
where
    F: Future<Output = Result<Answer, Error>> + Send + 'static,
{
    let manager = manager.clone();
    Pending::new(async move { manager.until_closed(work).await })
}

/// What was cut short.
#[pyclass(frozen, module = "exai_files._core")]
pub(super) struct Recovery(pub(super) Arc<Manager>);

#[pymethods]
impl Recovery {
    fn run(&self, within: f64) -> Pending {
        let (manager, within) = (self.0.clone(), client::seconds(within));
        pending(&self.0, async move { Answer::of(&recover(&manager, within).await?) })
    }

    fn list(&self) -> Pending {
        let manager = self.0.clone();
        pending(&self.0, async move { Answer::of(&manager.registry().recoveries().await?) })
    }

    fn explain(&self, id: String) -> Pending {
        let manager = self.0.clone();
        pending(&self.0, async move {
            let (recovery, attempts) = explain_recovery(&manager, &id).await?;
            let mut explained = value(&recovery)?;
            explained["history"] = value(&attempts)?;
            Ok(Answer::Data(explained))
        })
    }

    fn retry(&self, id: String) -> Pending {
        let manager = self.0.clone();
        pending(&self.0, async move {
            let recovery = find_recovery(&manager, &id).await?;
            Answer::of(&manager.registry().retry_recovery(&recovery).await?)
        })
    }

    fn abandon(&self, id: String) -> Pending {
        let manager = self.0.clone();
        pending(&self.0, async move {
            let recovery = find_recovery(&manager, &id).await?;
            Answer::of(&manager.registry().abandon_recovery(&recovery).await?)
        })
    }
}

/// One who watches; remembers what it has told.
#[pyclass(frozen, module = "exai_files._core")]
pub(super) struct Watch {
    pub(super) manager: Arc<Manager>,
    pub(super) watch: Arc<tokio::sync::Mutex<crate::upkeep::Watch>>,
}

#[pymethods]
impl Watch {
    /// Does what is due; gives what is to be told.
    fn look(&self, within: f64) -> Pending {
        let (manager, watch, within) = (self.manager.clone(), self.watch.clone(), client::seconds(within));
        pending(&self.manager, async move { Answer::of(&watch.lock().await.pass(&manager, within).await?) })
    }
}

/// `None`: as it is; endless: for ever; else so many seconds from now.
pub(super) fn keep(manager: &Manager, seconds: Option<f64>) -> Keep {
    match seconds {
        None => Keep::AsItIs,
        Some(seconds) if seconds.is_infinite() => Keep::Forever,
        Some(seconds) => Keep::Until(manager.clock().now().plus(client::seconds(seconds))),
    }
}

/// How long files stay.
#[pyclass(frozen, module = "exai_files._core")]
pub(super) struct Lifecycle {
    pub(super) manager: Arc<Manager>,
    /// Of each call that names none.
    pub(super) deadline: Duration,
}

impl Lifecycle {
    fn within(&self, timeout: Option<f64>) -> Result<Duration, Error> {
        timeout.map_or(Ok(self.deadline), client::timeout)
    }
}

#[pymethods]
impl Lifecycle {
    fn apply(&self, dry_run: bool, timeout: Option<f64>) -> Pending {
        let (manager, within) = (self.manager.clone(), self.within(timeout));
        pending(&self.manager, async move { Answer::of(&apply_lifecycle(&manager, dry_run, within?).await?) })
    }

    fn explain(&self, reference: String) -> Pending {
        let manager = self.manager.clone();
        pending(&self.manager, async move { Answer::of(&explain_lifecycle(&manager, &reference).await?) })
    }

    fn keep(&self, reference: String, keep_for: f64) -> Pending {
        let manager = self.manager.clone();
        let keep = keep(&manager, Some(keep_for));
        pending(&self.manager, async move { Answer::of(&manager.keep(&reference, keep).await?) })
    }

    fn archive(&self, reference: String, platform: Option<&str>, timeout: Option<f64>) -> Pending {
        let (manager, within) = (self.manager.clone(), self.within(timeout));
        let platform = platform.map(PlatformId::new).transpose();
        pending(
            &self.manager,
            async move { Answer::of(&manager.archive(&reference, platform?.as_ref(), within?).await?) },
        )
    }

    fn erase(&self, reference: String, timeout: Option<f64>) -> Pending {
        let (manager, within) = (self.manager.clone(), self.within(timeout));
        pending(&self.manager, async move { Answer::of(&manager.erase(&reference, within?).await?) })
    }
}

/// The kept copies.
#[pyclass(frozen, module = "exai_files._core")]
pub(super) struct Copies(pub(super) Arc<Manager>);

#[pymethods]
impl Copies {
    /// `part`: of the copies that are read, 0 to 1.
    fn check(&self, part: f64, within: f64) -> Pending {
        let (manager, within) = (self.0.clone(), client::seconds(within));
        pending(&self.0, async move { Answer::of(&check_copies(&manager, part, within).await?) })
    }

    fn collect(&self, dry_run: bool) -> Pending {
        let manager = self.0.clone();
        pending(&self.0, async move { Answer::of(&collect_copies(&manager, dry_run).await?) })
    }
}

/// The audit log.
#[pyclass(frozen, module = "exai_files._core")]
pub(super) struct Audit(pub(super) Arc<Manager>);

#[pymethods]
impl Audit {
    /// The filter has the fields of `AuditFilter`.
    fn query(&self, filter_json: &str) -> Pending {
        let (manager, filter) = (self.0.clone(), client::given::<AuditFilter>(filter_json));
        pending(&self.0, async move { Answer::of(&manager.registry().audit().query(filter?).await?) })
    }

    fn export(&self, to: PathBuf) -> Pending {
        let manager = self.0.clone();
        pending(&self.0, async move { Answer::of(&manager.registry().audit().export(&to).await?) })
    }

    /// `checkpoints`: signed notes from elsewhere, one after the other.
    fn verify(&self, checkpoints: Option<String>, key: Option<String>) -> Pending {
        let manager = self.0.clone();
        pending(&self.0, async move {
            let checkpoints = checkpoints.as_deref().map_or(Ok(Vec::new()), read_checkpoints)?;
            let key = key.as_deref().map(str::parse).transpose()?;
            Answer::of(&manager.registry().audit().verify(checkpoints, key).await?)
        })
    }

    fn prove(&self, seq: u64) -> Pending {
        let manager = self.0.clone();
        pending(&self.0, async move { Answer::of(&manager.registry().audit().prove(seq).await?) })
    }

    fn checkpoint(&self) -> Pending {
        let manager = self.0.clone();
        pending(&self.0, async move {
            let audit = manager.registry().audit();
            audit.checkpoint().await?;
            match audit.last_checkpoint().await? {
                Some((last, made_at)) => Ok(Answer::Data(
                    json!({"size": last.size, "root": last.root, "note": last.note, "created_at": made_at}),
                )),
                None => Answer::of(&()),
            }
        })
    }

    fn key(&self, py: Python<'_>) -> PyResult<String> {
        let key = self.0.registry().audit().verifying_key();
        key.map(|key| key.to_string()).map_err(|error| raise(py, &error))
    }
}
