//! Names are looked up, and what they stand for is checked, just before a connection is made: what a name stood for
//! earlier says nothing.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::model::Reach;

#[derive(Clone, Debug)]
pub(super) struct Resolver {
    reach: Reach,
    /// Names of proxies, which may be anywhere, and look up the others themselves.
    proxies: Vec<String>,
}

impl Resolver {
    /// `proxy` besides those that the environment names.
    pub fn new(reach: Reach, proxy: Option<&str>) -> Self {
        let variables = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
        let named = variables.into_iter().filter_map(|name| std::env::var(name).ok());
        let host = |proxy: String| Some(url::Url::parse(&proxy).ok()?.host_str()?.to_owned());
        Resolver { reach, proxies: named.chain(proxy.map(str::to_owned)).filter_map(host).collect() }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let is_proxy = resolver.proxies.iter().any(|proxy| proxy == name.as_str());
            let allowed: Vec<SocketAddr> =
                found.iter().filter(|at| is_proxy || resolver.reach.allows(at.ip())).copied().collect();
            match found.first().filter(|_| allowed.is_empty()) {
                Some(at) => Err(refused(name.as_str(), at).into()),
                None => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

fn refused(name: &str, at: &SocketAddr) -> Error {
    let why = format!("{name} leads to {}, and a platform is not there; allow_private_addresses allows it", at.ip());
    Error::new(ErrorKind::PermissionDenied, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_leads_where_it_may_and_nowhere_else() {
        for (reach, is_allowed) in [(Reach::Public, false), (Reach::ThisMachine, true), (Reach::Private, true)] {
            let found = Resolver::new(reach, None).resolve("localhost".parse().unwrap()).await;
            assert_eq!(found.is_ok(), is_allowed, "{reach:?}");
        }
        let proxy = Resolver::new(Reach::Public, Some("http://localhost:3128"));
        assert!(proxy.resolve("localhost".parse().unwrap()).await.is_ok(), "a proxy may be anywhere");
    }
}
