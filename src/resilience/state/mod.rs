//! What breakers, limits and budgets know, for all who share it: one process ([`Memory`]), the processes of one host
//! (the registry's file, [`Database`]), or many hosts ([`Redis`]).
//!
//! State that cannot be reached makes no call fail and none wait: its users go on with what they knew.

mod database;
mod memory;
mod redis;

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::pace::{Pace, PaceAnswer, PaceStep, Rates};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};

pub use database::Database;
pub use memory::Memory;
pub use redis::{Redis, RedisOptions};

/// Changes a piece of state, given as it is (`None`: there is none) and the time; gives what is to be kept (`None`: as
/// it was). It may be called more than once; its last call counts.
pub type Step = Box<dyn FnMut(Option<&str>, Timestamp) -> Option<String> + Send>;

/// Somewhere to keep state, each piece under a key of its own.
#[async_trait]
pub trait StateBackend: Debug + Send + Sync + 'static {
    /// The time, as all who share this state tell it.
    fn now(&self) -> Timestamp;

    /// How many processes share it, this one included, as far as is known.
    fn processes(&self) -> u32 {
        1
    }

    /// Whether nothing here ever waits: each future is ready when it is first asked.
    fn is_at_hand(&self) -> bool {
        false
    }

    /// # Errors
    /// `Registry` when the state cannot be reached, at once.
    async fn read(&self, key: &str) -> Result<Option<String>>;

    /// Changes a piece while nobody else does.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    async fn update(&self, key: &str, step: Step) -> Result<()>;

    /// As [`update`](Self::update), without waiting: for the last words of a cancelled call.
    fn update_soon(self: Arc<Self>, key: &str, step: Step);

    /// What the existing EXAI tool left under a key, where its keys are read too.
    async fn tool_note(&self, _key: &str) -> Option<String> {
        None
    }

    /// Leaves the existing tool a note for a while, where its keys are written too.
    async fn leave_tool_note(&self, _key: &str, _note: &str, _life: Duration) {}

    /// For how long an account is paused, where that is known without asking.
    fn paused_for(&self, _key: &str) -> Option<Duration> {
        None
    }

    /// Takes one step of an account's pace.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    async fn pace(&self, key: &str, rates: &Rates, step: &PaceStep) -> Result<PaceAnswer> {
        let (rates, step) = (*rates, step.clone());
        changed(self, key, move |pace: &mut Pace, now| pace.step(&rates, now, &step)).await.map(|(answer, _)| answer)
    }
}

/// A piece of state: plain data, with a beginning.
pub(super) trait State: Clone + Default + PartialEq + Serialize + DeserializeOwned + Send + 'static {}

impl<S: Clone + Default + PartialEq + Serialize + DeserializeOwned + Send + 'static> State for S {}

/// The state that some breakers, limits and budgets have in common.
#[derive(Clone, Debug)]
pub struct SharedState(Arc<dyn StateBackend>);

impl From<Arc<dyn StateBackend>> for SharedState {
    fn from(backend: Arc<dyn StateBackend>) -> Self {
        SharedState(backend)
    }
}

impl SharedState {
    pub fn new(backend: impl StateBackend) -> Self {
        SharedState(Arc::new(backend))
    }

    pub(super) fn now(&self) -> Timestamp {
        self.0.now()
    }

    /// Does what nobody waits for within a second or so; not all processes at once, after a moment that woke them all.
    pub(super) fn later(&self, work: impl Future<Output = ()> + Send + 'static) {
        if self.0.is_at_hand() {
            let _ = work.now_or_never();
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let delay = Duration::from_micros(rand::random_range(0..1_000_000));
            runtime.spawn(async move {
                tokio::time::sleep(delay).await;
                work.await;
            });
        }
    }

    /// Does what nobody waits for, as soon as may be.
    pub(super) fn soon(&self, work: impl Future<Output = ()> + Send + 'static) {
        if self.0.is_at_hand() {
            let _ = work.now_or_never();
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(work);
        }
    }

    /// What `work` on this state gives, if it need not wait for it; else `work` is not begun.
    pub(super) fn at_once<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.0.is_at_hand().then(|| work.now_or_never()).flatten()
    }

    pub(super) fn processes(&self) -> u32 {
        self.0.processes()
    }

    pub(super) fn paused_for(&self, key: &str) -> Option<Duration> {
        self.0.paused_for(key)
    }

    pub(super) async fn read<S: State>(&self, key: &str) -> Result<S> {
        Ok(parsed(self.0.read(key).await?.as_deref()))
    }

    /// Gives what `step` gave, and the piece as it is then.
    pub(super) async fn update<S: State, T: Send + 'static>(
        &self,
        key: &str,
        step: impl FnMut(&mut S, Timestamp) -> T + Send + 'static,
    ) -> Result<(T, S)> {
        changed(&*self.0, key, step).await
    }

    pub(super) fn update_soon<S: State>(&self, key: &str, mut step: impl FnMut(&mut S, Timestamp) + Send + 'static) {
        self.0.clone().update_soon(key, Box::new(move |before, now| applied(before, now, &mut step).2));
    }

    /// What the existing EXAI tool left under a key, where its keys are read too.
    pub async fn tool_note(&self, key: &str) -> Option<String> {
        self.0.tool_note(key).await
    }

    /// Leaves the existing tool a note for a while, where its keys are written too.
    pub async fn leave_tool_note(&self, key: &str, note: &str, life: Duration) {
        self.0.leave_tool_note(key, note, life).await;
    }

    pub(super) async fn pace(&self, key: &str, rates: &Rates, step: &PaceStep) -> Result<PaceAnswer> {
        self.0.pace(key, rates, step).await
    }
}

async fn changed<B: StateBackend + ?Sized, S: State, T: Send + 'static>(
    backend: &B,
    key: &str,
    mut step: impl FnMut(&mut S, Timestamp) -> T + Send + 'static,
) -> Result<(T, S)> {
    let outcome = Arc::new(Mutex::new(None));
    let told = outcome.clone();
    let step = move |before: Option<&str>, now| {
        let (answer, state, kept) = applied(before, now, &mut step);
        *told.lock().unwrap_or_else(PoisonError::into_inner) = Some((answer, state));
        kept
    };
    backend.update(key, Box::new(step)).await?;
    let outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
    outcome.ok_or_else(|| Error::new(ErrorKind::Registry, format!("{key} was not changed")))
}

fn applied<S: State, T>(
    before: Option<&str>,
    now: Timestamp,
    step: &mut impl FnMut(&mut S, Timestamp) -> T,
) -> (T, S, Option<String>) {
    let before: S = parsed(before);
    let mut state = before.clone();
    let answer = step(&mut state, now);
    let kept = (state != before).then(|| serde_json::to_string(&state).ok()).flatten();
    (answer, state, kept)
}

/// What a newer version wrote and this one cannot read begins anew.
fn parsed<S: State>(text: Option<&str>) -> S {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}
