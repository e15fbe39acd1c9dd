//! The jobs that time asks for: making what the registry says true again.

mod check;
mod compare;
mod copies;
mod decide;
mod expire;
mod lifecycle;
mod mirror;
mod reconcile;
mod recover;
mod status;
mod watch;

pub use check::{FileHealth, Verdict, check_file};
pub use compare::{Difference, Sign};
pub use copies::{CopyCheck, CopyCollection, check_copies, collect_copies};
pub use decide::{Action, Cap, OnlyLocal, OnlyRemote, ReconcileRequest, Winner};
pub use lifecycle::{LifecycleStep, apply_lifecycle, explain_lifecycle};
pub use mirror::{Mirror, Mirrored};
pub use reconcile::{Reconciliation, Step, Unasked, reconcile};
pub use recover::{RecoveryResult, RecoveryStep, explain_recovery, find_recovery, recover};
pub use status::{AccountStatus, Status, status};
pub use watch::{Notice, Watch, WatchRequest};
