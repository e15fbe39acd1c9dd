//! The jobs that time asks for: making what the registry says true again.

mod compare;
mod reconcile;

pub use compare::{Difference, Sign};
pub use reconcile::{Cap, OnlyLocal, OnlyRemote, ReconcileRequest, Reconciliation, Step, Winner, reconcile};
