//! State of one process.

use std::collections::HashMap;
#[cfg(not(test))]
use std::sync::Mutex;
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
#[cfg(test)]
use shuttle::sync::Mutex;

use super::{StateBackend, Step};
use crate::clock::{Clock, Timestamp};
use crate::error::Result;
use crate::resilience::pace::{Pace, PaceAnswer, PaceStep, Rates};

#[derive(Debug)]
pub struct Memory {
    clock: Arc<dyn Clock>,
    pieces: Mutex<HashMap<String, String>>,
    /// As they are: written out at every turn they would cost more than the turn.
    paces: Mutex<HashMap<String, Pace>>,
}

impl Memory {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Memory { clock, pieces: Mutex::default(), paces: Mutex::default() }
    }

    fn apply(&self, key: &str, step: &mut Step) {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = step(pieces.get(key).map(String::as_str), self.now()) {
            pieces.insert(key.to_owned(), kept);
        }
    }
}

#[async_trait]
impl StateBackend for Memory {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn read(&self, key: &str) -> Result<Option<String>> {
        Ok(self.pieces.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    async fn update(&self, key: &str, mut step: Step) -> Result<()> {
        self.apply(key, &mut step);
        Ok(())
    }

    async fn pace(&self, key: &str, rates: &Rates, step: &PaceStep) -> Result<PaceAnswer> {
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pace) = paces.get_mut(key) {
            return Ok(pace.step(rates, self.now(), step));
        }
        Ok(paces.entry(key.to_owned()).or_default().step(rates, self.now(), step))
    }

    fn is_at_hand(&self) -> bool {
        true
    }

    fn update_soon(self: Arc<Self>, key: &str, mut step: Step) {
        self.apply(key, &mut step);
    }
}
