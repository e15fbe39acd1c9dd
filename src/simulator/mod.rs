//! Moonshot, Z.ai and Zhipu on loopback: a real HTTP server that behaves as platform_api.md says they do, with
//! faults, quotas, expiry and a clock, and a log of the truth for tests to judge by.
//!
//! It shares nothing with the clients it tests, not even a type: what both believe must be written twice.
//!
//! [`FaultProxy`] is the bad network in front of it, or of any other server.

mod accounts;
mod admin;
mod clock;
mod extract;
mod fault_proxy;
mod faults;
mod ids;
mod multipart;
mod oauth;
mod operations;
mod profile;
mod refusals;
mod replies;
mod server;
mod settings;
mod truth;
mod weather;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::Serialize;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

pub use admin::AdminError;
pub use fault_proxy::{FaultProxy, Traffic};
pub use faults::Side;
pub use weather::{Drip, Resets, Weather};

use clock::SimulatedClock;
use faults::Faults;
use ids::Random;
use oauth::OAuth;
use operations::Shelf;
use profile::Profile;
use truth::TruthLog;

/// How a simulator starts.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// On 127.0.0.1; 0 takes any free one.
    pub port: u16,
    /// Ids and random faults follow from it.
    pub seed: u64,
    /// RFC 3339; the clock starts there and runs on.
    pub now: Option<String>,
    /// By profile name, e.g. `{"moonshot": {"tier": 0}}`; see `settings.rs`.
    pub settings: Value,
}

/// The base URL of each profile.
#[derive(Clone, Debug, Serialize)]
pub struct Urls {
    pub moonshot: String,
    pub zai: String,
    pub kimi_code: String,
    /// Where Kimi Code's users log in.
    pub kimi_code_oauth: String,
    pub zhipu_cn: String,
    pub admin: String,
}

/// Everything the server's connections share.
struct World {
    clock: SimulatedClock,
    random: Mutex<Random>,
    seed: u64,
    shelves: BTreeMap<Profile, Mutex<Shelf>>,
    links: BTreeMap<Profile, wire::Link>,
    faults: Mutex<Faults>,
    oauth: Mutex<OAuth>,
    truth: TruthLog,
    panics: Mutex<Vec<String>>,
}

impl World {
    fn shelf(&self, profile: Profile) -> MutexGuard<'_, Shelf> {
        lock(&self.shelves[&profile])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A port of 127.0.0.1 and a runtime to serve it on.
fn listen(port: u16, threads: usize, name: &str) -> io::Result<(Runtime, TcpListener)> {
    // The port comes first: it may be taken, and tokio forbids to drop a runtime inside another one.
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    let runtime = Builder::new_multi_thread().worker_threads(threads).thread_name(name).enable_all().build()?;
    let listener = {
        let _entered = runtime.enter();
        TcpListener::from_std(listener)?
    };
    Ok((runtime, listener))
}

/// Ends a runtime and drops all that runs on it.
fn end(runtime: Runtime) {
    // On a thread of its own, because tokio forbids to wait for a runtime inside another one.
    let ending = std::thread::spawn(move || runtime.shutdown_timeout(std::time::Duration::from_secs(1)));
    let _ = ending.join();
}

/// A running simulator; dropping it stops it.
pub struct Simulator {
    world: Arc<World>,
    urls: Urls,
    runtime: Option<Runtime>,
}

impl std::fmt::Debug for Simulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Simulator({})", self.urls.admin)
    }
}

impl Simulator {
    /// Starts serving, on a runtime of its own.
    ///
    /// # Errors
    /// `InvalidInput` for settings or a time that make no sense; else what binding the port says.
    pub fn start(options: Options) -> io::Result<Simulator> {
        let invalid = |message: String| io::Error::new(io::ErrorKind::InvalidInput, message);
        let clock = SimulatedClock::start(options.now.as_deref()).map_err(invalid)?;
        let world = Arc::new(World {
            clock,
            random: Mutex::new(Random::new(options.seed)),
            seed: options.seed,
            shelves: Profile::ALL.into_iter().map(|profile| (profile, Mutex::new(Shelf::new(profile)))).collect(),
            links: Profile::ALL.into_iter().map(|profile| (profile, wire::Link::default())).collect(),
            faults: Mutex::default(),
            oauth: Mutex::default(),
            truth: TruthLog::default(),
            panics: Mutex::default(),
        });
        if !options.settings.is_null() {
            admin::apply_settings(&world, &options.settings).map_err(|error| invalid(error.to_string()))?;
        }
        let (runtime, listener) = listen(options.port, 2, "exai-simulator")?;
        let port = listener.local_addr()?.port();
        runtime.spawn(server::serve(listener, world.clone()));
        let base = |profile: Profile| format!("http://127.0.0.1:{port}{}", profile.base_path());
        let urls = Urls {
            moonshot: base(Profile::Moonshot),
            zai: base(Profile::Zai),
            kimi_code: base(Profile::KimiCode),
            kimi_code_oauth: format!("http://127.0.0.1:{port}{}", profile::OAUTH_PATH),
            zhipu_cn: base(Profile::ZhipuCn),
            admin: format!("http://127.0.0.1:{port}/admin"),
        };
        Ok(Simulator { world, urls, runtime: Some(runtime) })
    }

    pub fn urls(&self) -> &Urls {
        &self.urls
    }

    /// What `METHOD {admin}{path}` does over HTTP, without the HTTP.
    ///
    /// # Errors
    /// [`AdminError`] with the status and sentence HTTP would give.
    pub fn admin(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, AdminError> {
        admin::handle(&self.world, method, path, body)
    }

    /// Closes every connection; the port is free afterwards. Calling it again does nothing.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            end(runtime);
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop();
    }
}
