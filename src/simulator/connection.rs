//! One client's connection: served until it ends, or reset in its face; and the link all connections share.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::World;
use super::server;
use super::settings::Settings;

/// What a request may do to the connection it came over.
#[derive(Default)]
pub(super) struct Wire {
    reset: Notify,
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

pub(super) async fn run(stream: TcpStream, world: Arc<World>) {
    let wire = Arc::new(Wire::default());
    let shared = wire.clone();
    let service = service_fn(move |request| -> Pin<Box<dyn Future<Output = _> + Send>> {
        Box::pin(server::answer(request, world.clone(), shared.clone()))
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let was_cut = tokio::select! {
        _ = std::future::poll_fn(|context| connection.poll_without_shutdown(context)) => false,
        () = wire.reset.notified() => true,
    };
    let mut stream = connection.into_parts().io.into_inner();
    if was_cut {
        // Closing with nothing to linger for sends RST instead of FIN.
        let _ = stream.set_zero_linger();
    } else {
        let _ = stream.shutdown().await;
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
