//! What lies between client and platform: the connection a request came over, and the link all of them share.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::settings::Settings;

/// What a request may do to the connection it came over.
#[derive(Default)]
pub(super) struct Wire {
    pub reset: Notify,
    used: AtomicBool,
}

impl Wire {
    /// Resets the connection; the request's answer is never sent. Does not return.
    pub(super) async fn cut(&self) -> ! {
        self.reset.notify_one();
        std::future::pending().await
    }

    pub(super) fn cut_now(&self) {
        self.reset.notify_one();
    }

    fn is_first_request(&self) -> bool {
        !self.used.swap(true, Ordering::Relaxed)
    }
}

/// A platform's network link: bandwidth shared by all, and the time light takes.
#[derive(Default)]
pub(super) struct Link(Mutex<Option<Instant>>);

impl Link {
    /// One round trip for a request, two for the first on its connection.
    pub(super) async fn round_trip(settings: &Settings, wire: &Wire) {
        let trips = if wire.is_first_request() { 2 } else { 1 };
        if settings.round_trip_ms > 0 {
            sleep(Duration::from_millis(settings.round_trip_ms) * trips).await;
        }
    }

    /// Waits until so many bytes have passed.
    pub(super) async fn carry(&self, bytes: usize, bits_per_second: u64) {
        if bits_per_second == 0 {
            return;
        }
        let passed = {
            let mut free = super::lock(&self.0);
            let start = free.map_or_else(Instant::now, |free| free.max(Instant::now()));
            let passed = start + Duration::from_secs_f64(bytes as f64 * 8.0 / bits_per_second as f64);
            *free = Some(passed);
            passed
        };
        sleep_until(passed).await;
    }
}
