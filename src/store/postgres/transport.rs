//! The way to a PostgreSQL server: TCP or a Unix socket, with TLS as its URL asks.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::location::PostgresOptions;
use super::failed;
use crate::error::{Error, ErrorKind, Result};

/// Longest time for a connection to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Server {
    config: Config,
    tls: Option<MakeRustlsConnect>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "postgres://{:?}/{}", self.config.get_hosts(), self.config.get_dbname().unwrap_or_default())
    }
}

impl Server {
    /// # Errors
    /// `Config`: the URL's faults, without its password; a `ca_bundle` that cannot be read.
    pub(super) fn new(options: &PostgresOptions) -> Result<Self> {
        let mut config: Config = options.url.expose().parse().map_err(|error: tokio_postgres::Error| {
            let reason = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            config_error(&format!("the registry's URL cannot be used: {reason}"))
        })?;
        if config.get_hosts().is_empty() {
            return Err(config_error("the registry's URL names no host"));
        }
        config.connect_timeout(CONNECT_TIMEOUT.min(options.timeout)).application_name("exai-files");
        let tls = match config.get_ssl_mode() {
            SslMode::Disable => None,
            _ => Some(MakeRustlsConnect::new(tls(options)?)),
        };
        Ok(Server { config, tls })
    }

    /// A connection, driven by the runtime that this runs in.
    pub(super) async fn connect(&self, timeout: Duration) -> Result<Client> {
        let connecting = async {
            match &self.tls {
                Some(tls) => {
                    let (client, connection) = self.config.connect(tls.clone()).await?;
                    tokio::spawn(connection);
                    Ok(client)
                }
                None => {
                    let (client, connection) = self.config.connect(NoTls).await?;
                    tokio::spawn(connection);
                    Ok(client)
                }
            }
        };
        match tokio::time::timeout(timeout, connecting).await {
            Ok(connected) => connected.map_err(|error: tokio_postgres::Error| failed(&error)),
            Err(_) => Err(Error::new(ErrorKind::Registry, "the registry's server does not answer")
                .with_hint("check `registry.url`, the network and the server")
                .with_retry(crate::error::Retry::Yes, None)),
        }
    }
}

/// Certificates are always checked: by the machine's authorities, or by those of `ca_bundle`.
fn tls(options: &PostgresOptions) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| config_error("TLS cannot be used").with_source(error))?;
    let Some(path) = &options.ca_bundle else {
        let builder = builder
            .with_platform_verifier()
            .map_err(|error| config_error("the machine's certificate authorities cannot be read").with_source(error))?;
        return Ok(builder.with_no_client_auth());
    };
    let unreadable = || config_error("its `ca_bundle` cannot be read").with_hint("name a PEM file");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable().with_source(error))? {
        let certificate = certificate.map_err(|error| unreadable().with_source(error))?;
        roots.add(certificate).map_err(|error| unreadable().with_source(error))?;
    }
    if roots.is_empty() {
        return Err(unreadable());
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn config_error(what: &str) -> Error {
    Error::new(ErrorKind::Config, what.to_owned())
        .with_hint("such as postgres://user:password@host:5432/database?sslmode=require")
}
