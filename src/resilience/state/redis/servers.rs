//! Which Redis: one server, a Sentinel's master, or a Cluster; from one URL.

use std::path::PathBuf;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use redis::{
    AsyncCommands as _, AsyncConnectionConfig, Client, FromRedisValue, IntoConnectionInfo as _, RedisConnectionInfo,
    RedisResult, ScriptInvocation, TlsCertificates, TlsMode,
};
use url::Url;

use crate::error::{Error, ErrorKind, Result};
use crate::model::Secret;

/// Of making a connection; of each question the caller decides.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Where the servers are, and how to reach them.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// `redis://[user[:password]@]host[:port][/db]`, or `rediss://…` with TLS;
    /// `redis+sentinel://[user[:password]@]host:port,host:port/master[/db]`; `redis+cluster://…host:port,host:port`.
    pub url: Secret,
    /// Every key begins with it.
    pub namespace: String,
    /// PEM file of the authority that signed the servers' certificates, in place of the machine's.
    pub ca_bundle: Option<PathBuf>,
    /// A server that takes longer to answer is lost.
    pub timeout: Duration,
    /// Whether to read and write the keys of the existing EXAI tool too: `circuit_breaker:{name}`, `dedup:{sha256}`.
    /// They have no namespace, and lie on one server.
    pub existing_tool_keys: bool,
}

/// Servers that were not asked yet.
pub(super) enum Servers {
    One(Box<Client>),
    Sentinel(Box<SentinelClient>),
    Cluster(Box<ClusterClient>),
}

#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// The kinds of URL: how its scheme begins.
enum Kind {
    One,
    Sentinel,
    Cluster,
}

impl RedisOptions {
    /// # Errors
    /// `Config`: the URL's faults, without its password; a `ca_bundle` that cannot be read.
    pub(super) fn servers(&self) -> Result<Servers> {
        let (kind, url) = parse(self.url.expose()).map_err(|fault| config_error(&fault))?;
        if self.existing_tool_keys && matches!(kind, Kind::Cluster) {
            return Err(config_error("the existing tool's keys lie on one server, not in a cluster"));
        }
        if self.ca_bundle.is_some() && matches!(kind, Kind::Sentinel) {
            return Err(config_error("a `ca_bundle` does not reach servers that a Sentinel names")
                .with_hint("add the authority to the machine's certificates"));
        }
        let authority = self.ca_bundle.as_ref().map(std::fs::read).transpose().map_err(|error| {
            config_error("its `ca_bundle` cannot be read").with_hint("name a PEM file").with_source(error)
        })?;
        let tls = TlsCertificates { client_tls: None, root_cert: authority.clone() };
        let one = |client| Servers::One(Box::new(client));
        let servers = match kind {
            Kind::One => match authority {
                Some(_) => Client::build_with_tls(url.as_str(), tls).map(one),
                None => Client::open(url.as_str()).map(one),
            },
            Kind::Sentinel => sentinel(&url).map(|client| Servers::Sentinel(Box::new(client))),
            Kind::Cluster => cluster(&url, authority.map(|_| tls)).map(|client| Servers::Cluster(Box::new(client))),
        };
        servers.map_err(|error| config_error(error.detail().unwrap_or("it cannot be used")).with_source(error))
    }
}

/// The first host stays in the URL; the others of a list wait in its fragment.
fn parse(text: &str) -> std::result::Result<(Kind, Url), String> {
    let (scheme, rest) = text.split_once("://").ok_or("it has no scheme; begin it with redis:// or rediss://")?;
    let (security, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
    let kind = match kind {
        "" => Kind::One,
        "sentinel" => Kind::Sentinel,
        "cluster" => Kind::Cluster,
        _ => return Err(format!("{scheme}:// is not known; there are redis, redis+sentinel and redis+cluster")),
    };
    if !matches!(security, "redis" | "rediss") {
        return Err(format!("{scheme}:// is not known; begin it with redis:// or rediss://"));
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));
    let at = if user.is_empty() { "" } else { "@" };
    let (first, others) = hosts.split_once(',').unwrap_or((hosts, ""));
    if !others.is_empty() && matches!(kind, Kind::One) {
        return Err("it names several hosts; use redis+sentinel:// or redis+cluster://".to_owned());
    }
    if path.is_empty() && matches!(kind, Kind::Sentinel) {
        return Err("it names no master; end it with /name".to_owned());
    }
    let url = Url::parse(&format!("{security}://{user}{at}{first}/{path}#{others}"));
    let url = url.map_err(|_| "it is no URL such as redis://host:6379".to_owned())?;
    match url.host_str().unwrap_or_default() {
        "" => Err("it names no host".to_owned()),
        _ => Ok((kind, url)),
    }
}

/// Each host as a URL of its own.
fn hosts(url: &Url, path: &str) -> Vec<String> {
    let mut base = url.clone();
    base.set_path(path);
    base.set_fragment(None);
    let others = url.fragment().unwrap_or_default().split(',').filter(|host| !host.is_empty());
    let other = |host: &str| {
        let (name, port) = host.rsplit_once(':').unwrap_or((host, ""));
        let mut other = base.clone();
        let _ = (other.set_host(Some(name)), other.set_port(port.parse().ok()));
        other.to_string()
    };
    std::iter::once(base.to_string()).chain(others.map(other)).collect()
}

fn sentinel(url: &Url) -> RedisResult<SentinelClient> {
    let mut path = url.path().trim_start_matches('/').splitn(2, '/');
    let master = path.next().unwrap_or_default().to_owned();
    // What stands before the hosts is for the master; Sentinels are asked without.
    let mut bare = url.clone();
    let _ = (bare.set_username(""), bare.set_password(None));
    let mut of_master = url.clone();
    of_master.set_path(path.next().unwrap_or_default());
    of_master.set_fragment(None);
    let redis: RedisConnectionInfo = of_master.as_str().into_connection_info()?.redis_settings().clone();
    let mut node = SentinelNodeConnectionInfo::default().set_redis_connection_info(redis);
    if url.scheme() == "rediss" {
        node = node.set_tls_mode(TlsMode::Secure);
    }
    SentinelClient::build(hosts(&bare, ""), master, Some(node), SentinelServerType::Master)
}

fn cluster(url: &Url, tls: Option<TlsCertificates>) -> RedisResult<ClusterClient> {
    let builder = ClusterClient::builder(hosts(url, "")).connection_timeout(CONNECT_TIMEOUT).retries(1);
    match tls {
        Some(tls) => builder.certs(tls).build(),
        None => builder.build(),
    }
}

impl Servers {
    pub(super) async fn connect(&mut self) -> RedisResult<Connection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(CONNECT_TIMEOUT));
        match self {
            Servers::One(client) => {
                client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::One)
            }
            Servers::Sentinel(client) => client.get_async_connection_with_config(&config).await.map(Connection::One),
            Servers::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
        }
    }
}

impl Connection {
    /// Runs a script by its name; a server that does not know it is sent its text.
    pub(super) async fn run<T: FromRedisValue>(&mut self, script: &ScriptInvocation<'_>) -> RedisResult<T> {
        match self {
            Connection::One(connection) => script.invoke_async(connection).await,
            Connection::Cluster(connection) => script.invoke_async(connection).await,
        }
    }
}

impl Connection {
    pub(super) async fn get(&mut self, key: &str) -> RedisResult<Option<String>> {
        match self {
            Connection::One(connection) => connection.get(key).await,
            Connection::Cluster(connection) => connection.get(key).await,
        }
    }

    pub(super) async fn set(&mut self, key: &str, value: &str, life: Duration) -> RedisResult<()> {
        match self {
            Connection::One(connection) => connection.set_ex(key, value, life.as_secs()).await,
            Connection::Cluster(connection) => connection.set_ex(key, value, life.as_secs()).await,
        }
    }
}

fn config_error(fault: &str) -> Error {
    Error::new(ErrorKind::Config, format!("the Redis URL cannot be used: {fault}"))
        .with_hint("such as redis://localhost:6379, or redis+sentinel://host:26379,host:26379/mymaster")
}
