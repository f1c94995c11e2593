//! Asking: the hosts file, then the name servers, both as the system has them at the time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver};

use super::hold::Answer;
use super::srv;

/// Longest wait for one name server.
const PER_SERVER: Duration = Duration::from_secs(2);
/// Longest time for one look-up, whatever the number of name servers.
const PER_LOOKUP: Duration = Duration::from_secs(10);
const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// Whom to ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NameServers {
    /// Those of `/etc/resolv.conf`, read again when the file changes, after `/etc/hosts`.
    #[default]
    System,
    /// These, by UDP and TCP, and no hosts file.
    At(Vec<SocketAddr>),
}

/// Asks name servers; made anew when their configuration changes.
pub(super) struct Asker {
    servers: NameServers,
    read: Option<SystemTime>,
    resolver: Option<TokioResolver>,
    hosts: Hosts,
    hosts_read: Option<SystemTime>,
}

impl Asker {
    pub(super) fn new(servers: NameServers) -> Self {
        Self {
            servers,
            read: None,
            resolver: None,
            hosts: Hosts::default(),
            hosts_read: None,
        }
    }

    /// Others from now on. False if they are the same.
    pub(super) fn change(&mut self, servers: NameServers) -> bool {
        let new = servers != self.servers;
        if new {
            *self = Self::new(servers);
        }
        new
    }

    fn uses_hosts(&self) -> bool {
        matches!(self.servers, NameServers::System)
    }

    /// The resolver for the present configuration; none if there is no name server.
    pub(super) fn resolver(&mut self) -> Option<TokioResolver> {
        let changed = match &self.servers {
            NameServers::System => modified(RESOLV_CONF),
            NameServers::At(_) => None,
        };
        if self.resolver.is_none() || changed != self.read {
            self.read = changed;
            self.resolver = build(&self.servers);
        }
        self.resolver.clone()
    }

    /// What the hosts file says, if anything; for `localhost` if it does not say.
    pub(super) fn known(&mut self, host: &str) -> Option<Vec<IpAddr>> {
        if !self.uses_hosts() {
            return None;
        }
        let name = Name::from_utf8(host).ok()?;
        let changed = modified(HOSTS);
        if changed != self.hosts_read {
            self.hosts_read = changed;
            self.hosts = Hosts::from_system().unwrap_or_default();
        }
        let of = |kind| {
            self.hosts
                .lookup_static_host(&Query::query(name.clone(), kind))
        };
        let found: Vec<IpAddr> = [RecordType::A, RecordType::AAAA]
            .into_iter()
            .filter_map(of)
            .flat_map(|l| {
                let ips = l.answers().iter().filter_map(|r| r.data.ip_addr());
                ips.collect::<Vec<_>>()
            })
            .collect();
        if !found.is_empty() {
            return Some(found);
        }
        // RFC 6761 section 6.3: never asked of the network.
        name.is_localhost()
            .then(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
    }
}

fn modified(path: &str) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|m| m.modified()).ok()
}

fn build(servers: &NameServers) -> Option<TokioResolver> {
    let mut builder = match servers {
        NameServers::System => match TokioResolver::builder_tokio() {
            Ok(builder) => builder,
            Err(error) => {
                tracing::warn!(%error, file = RESOLV_CONF, "no name server is configured: only names in the hosts file resolve");
                return None;
            }
        },
        NameServers::At(servers) => {
            let servers = servers.iter().map(name_server).collect();
            TokioResolver::builder_with_config(
                ResolverConfig::from_parts(None, Vec::new(), servers),
                TokioRuntimeProvider::default(),
            )
        }
    };
    let options = builder.options_mut();
    // The hosts file is ours to read, for it may change; answers are kept by us, with our own bounds.
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = 0;
    options.timeout = options
        .timeout
        .clamp(Duration::from_millis(100), PER_SERVER);
    options.attempts = options.attempts.clamp(1, 3);
    options.try_tcp_on_error = true;
    builder
        .build()
        .inspect_err(|error| tracing::warn!(%error, "name servers cannot be used"))
        .ok()
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut c| {
        c.port = address.port();
        c
    });
    NameServerConfig::new(address.ip(), true, connections.to_vec())
}

/// Asks for the addresses of one family.
pub(super) async fn addresses(
    resolver: &TokioResolver,
    host: &str,
    family: RecordType,
) -> (Answer<IpAddr>, Option<String>) {
    ask(resolver, host, family, |data| data.ip_addr()).await
}

/// Asks for the SRV records of a name.
pub(super) async fn services(
    resolver: &TokioResolver,
    name: &str,
) -> (Answer<srv::Record>, Option<String>) {
    ask(resolver, name, RecordType::SRV, |data| match data {
        RData::SRV(record) => Some(srv::Record {
            priority: record.priority,
            target: host_name(&record.target),
            port: record.port,
            weight: record.weight,
        }),
        _ => None,
    })
    .await
}

/// As we write names: lower case, no final dot but for the root.
fn host_name(name: &Name) -> String {
    let text = name.to_lowercase().to_ascii();
    match text.strip_suffix('.') {
        Some(host) if !host.is_empty() => host.to_owned(),
        _ => text,
    }
}

async fn ask<T>(
    resolver: &TokioResolver,
    host: &str,
    kind: RecordType,
    read: impl Fn(&RData) -> Option<T>,
) -> (Answer<T>, Option<String>) {
    let Ok(name) = Name::from_utf8(host) else {
        return (Answer::Failed, Some("this is no name".to_owned()));
    };
    // A look-up is made because the last answer is old.
    resolver.clear_lookup_cache(name, kind);
    match tokio::time::timeout(PER_LOOKUP, resolver.lookup(host, kind)).await {
        Err(_) => (Answer::Failed, Some("no answer in time".to_owned())),
        Ok(Err(error)) => (classify(&error), Some(error.to_string())),
        Ok(Ok(lookup)) => {
            let found: Vec<T> = lookup
                .answers()
                .iter()
                .filter_map(|r| read(&r.data))
                .collect();
            if found.is_empty() {
                return (Answer::Empty, None);
            }
            let left = lookup
                .valid_until()
                .saturating_duration_since(Instant::now());
            (Answer::Found(found, left), None)
        }
    }
}

fn classify<T>(error: &NetError) -> Answer<T> {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none))
            if none.response_code == ResponseCode::NXDomain =>
        {
            Answer::Missing
        }
        NetError::Dns(DnsError::NoRecordsFound(none))
            if none.response_code == ResponseCode::NoError =>
        {
            Answer::Empty
        }
        _ => Answer::Failed,
    }
}

/// Leaves out addresses that this machine has no route to (IPv6 without IPv6, mostly), unless none is left.
pub(super) fn routable(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let routed: Vec<IpAddr> = addresses
        .iter()
        .copied()
        .filter(|ip| has_route(*ip))
        .collect();
    if routed.is_empty() { addresses } else { routed }
}

fn has_route(ip: IpAddr) -> bool {
    let any: IpAddr = if ip.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    // Connecting a datagram socket asks for the route and sends nothing.
    UdpSocket::bind((any, 0))
        .and_then(|socket| socket.connect((ip, 9)))
        .is_ok()
}
