//! The jobs that time asks for: making what the registry says true again.

mod compare;
mod decide;
mod reconcile;

pub use compare::{Difference, Sign};
pub use decide::{Action, Cap, OnlyLocal, OnlyRemote, ReconcileRequest, Winner};
pub use reconcile::{Reconciliation, Step, Unasked, reconcile};
