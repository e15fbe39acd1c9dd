//! Within one process, one task at a time works on a placement; the others then find it done.
//!
//! Between processes the registry's claims do the same; this only spares them the polling.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::registry::Placement;

#[derive(Debug, Default)]
pub(super) struct SingleFlight(Mutex<HashMap<Placement, Weak<AsyncMutex<()>>>>);

impl SingleFlight {
    pub(super) async fn turn(&self, placement: &Placement) -> OwnedMutexGuard<()> {
        self.door(placement).lock_owned().await
    }

    fn door(&self, placement: &Placement) -> Arc<AsyncMutex<()>> {
        let mut doors = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(door) = doors.get(placement).and_then(Weak::upgrade) {
            return door;
        }
        if doors.len() >= doors.capacity() / 2 {
            doors.retain(|_, door| door.strong_count() > 0);
        }
        let door = Arc::default();
        doors.insert(placement.clone(), Arc::downgrade(&door));
        door
    }
}
