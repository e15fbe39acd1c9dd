//! How long a request waited for its answer: from its last byte to the answer's first.
//!
//! Whoever sends it notes it; the circuit breaker around the call reads it. The size of a file has no part in it.

use std::cell::Cell;
use std::time::Duration;

tokio::task_local! {
    static WAITED: Cell<Duration>;
}

/// The longest wait noted while `work` ran, and what it gave.
pub(super) async fn timed<T>(work: impl Future<Output = T>) -> (Duration, T) {
    let noting = async {
        let answer = work.await;
        (WAITED.with(Cell::get), answer)
    };
    WAITED.scope(Cell::new(Duration::ZERO), noting).await
}

/// Notes a wait, for the breaker of the call that this runs in.
pub fn note_wait(waited: Duration) {
    let _ = WAITED.try_with(|longest| longest.set(longest.get().max(waited)));
}
