//! A real `redis-server` of one test's own, on a free port of the loopback.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use exai_files::model::Secret;
use exai_files::resilience::{Redis, RedisOptions};

pub struct RedisServer {
    child: Child,
    pub port: u16,
    arguments: Vec<String>,
    directory: tempfile::TempDir,
}

impl RedisServer {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With further words of its command line.
    pub fn with(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let port = free_port();
        let child = spawn(port, &arguments, &directory);
        let server = RedisServer { child, port, arguments, directory };
        server.wait_until_up();
        server
    }

    /// One that watches others, as its file says.
    pub fn sentinel(settings: &std::path::Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let child = Command::new("redis-server")
            .arg(settings)
            .args(["--sentinel", "--port", &port.to_string(), "--bind", "127.0.0.1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is not installed");
        let server = RedisServer { child, port, arguments: Vec::new(), directory };
        server.wait_until_up();
        server
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// As one process is connected with it.
    pub fn backend(&self) -> Redis {
        backend(&self.url())
    }

    /// One command through `redis-cli`, and its answer.
    pub fn cli(&self, words: &[&str]) -> String {
        cli(self.port, words)
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// On the same port again, with nothing in it.
    pub fn restart(&mut self) {
        self.child = spawn(self.port, &self.arguments, &self.directory);
        self.wait_until_up();
    }

    /// `STOP` hangs it, `CONT` lets it go on.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    fn wait_until_up(&self) {
        let begun = Instant::now();
        while self.cli(&["ping"]).trim().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(20), "redis-server does not come up");
            std::thread::yield_now();
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn backend(url: &str) -> Redis {
    patient_backend(url, Duration::from_millis(50))
}

/// One that waits for its server, however busy the machine.
pub fn patient_backend(url: &str, timeout: Duration) -> Redis {
    let namespace = "test".to_owned();
    Redis::new(&RedisOptions {
        url: Secret::new(url),
        namespace,
        ca_bundle: None::<PathBuf>,
        timeout,
        existing_tool_keys: false,
    })
    .unwrap()
}

pub fn cli(port: u16, words: &[&str]) -> String {
    let output = Command::new("redis-cli").args(["-p", &port.to_string()]).args(words).output();
    String::from_utf8_lossy(&output.expect("redis-cli is not installed").stdout).into_owned()
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn spawn(port: u16, arguments: &[String], directory: &tempfile::TempDir) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(arguments)
        .current_dir(directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is not installed")
}
