//! A client that is closed ends its running calls first, so that each can note how far it got.

use std::sync::Arc;

use tokio::sync::{RwLock, watch};

use crate::error::{Error, ErrorKind, Result};

#[derive(Debug)]
pub(super) struct Calls {
    closing: watch::Sender<bool>,
    /// Shared by running calls; exclusive when the last of them is over.
    running: Arc<RwLock<()>>,
}

impl Default for Calls {
    fn default() -> Self {
        Calls { closing: watch::Sender::new(false), running: Arc::default() }
    }
}

impl Calls {
    /// The outcome of `work`, or `Cancelled` when the client is closed before; `Registry` when it was already.
    pub(super) async fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut closing = self.closing.subscribe();
        if *closing.borrow() {
            return Err(closed(ErrorKind::Registry, "the client is closed"));
        }
        let _running = self.running.clone().read_owned().await;
        tokio::select! {
            biased;
            _ = closing.wait_for(|is_closing| *is_closing) => Err(closed(ErrorKind::Cancelled, "the client was closed while the call ran")),
            outcome = work => outcome,
        }
    }

    pub(super) fn are_over(&self) -> bool {
        *self.closing.borrow()
    }

    /// Ends running calls, refuses further ones, and returns when none is left.
    pub(super) async fn close(&self) {
        self.closing.send_replace(true);
        let _last = self.running.write().await;
    }
}

fn closed(kind: ErrorKind, what: &str) -> Error {
    Error::new(kind, what).with_hint("open a new client")
}
