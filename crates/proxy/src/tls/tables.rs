//! What the listeners of a configuration shake hands with.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use narthex_config::model::{
    self, CertificateSource, Config, HostPattern, Listener, Protocol, Site, TlsLevel,
};
use narthex_net::tls::server::{
    Bundle, Certificate, Certificates, ClientAuth, OnDemand, Policy, Profile, ServerTls,
    ServerTlsParts, UnknownName,
};
use narthex_net::tls::{H2, HTTP_11, PolicyId, Problem};
use narthex_observe::metrics::Registry;

use super::files::{Loader, Stamp, covers};
use super::shared::{Table, TlsShared, unix_now};
use super::{Guard, HandshakeMetrics};
use crate::runtime::{BuildError, millis};

/// TLS of every listener.
pub(crate) struct Tables {
    listeners: Vec<Option<ListenerTls>>,
    loader: Mutex<Loader>,
    /// Some site asks clients for certificates: what clients say of themselves in fields is removed from every request.
    asks_clients: bool,
}

/// TLS of one listener.
pub(crate) struct ListenerTls {
    pub(crate) server: Arc<ServerTls>,
    pub(crate) handshake_ms: u64,
    pub(crate) metrics: HandshakeMetrics,
    table: Arc<Table>,
    guards: Vec<(PolicyId, Guard)>,
    /// By site: which of the guards is its own.
    sites: Vec<u16>,
}

/// What has become of a certificate whose files have changed.
#[derive(Debug)]
pub struct Refreshed {
    /// Its file.
    pub file: PathBuf,
    /// It is in use; or why the one before it stays.
    pub result: Result<(), Problem>,
}

impl Tables {
    pub(crate) fn build(
        config: &Config,
        shared: &TlsShared,
        registry: &Registry,
    ) -> Result<Self, BuildError> {
        let mut loader = Loader::default();
        let mut listeners = Vec::with_capacity(config.listeners.len());
        for (index, listener) in config.listeners.iter().enumerate() {
            listeners.push(match &listener.tls {
                Some(tls) => Some(ListenerTls::build(
                    config,
                    index,
                    (listener, tls),
                    shared,
                    registry,
                    &mut loader,
                )?),
                None => None,
            });
        }
        warn_of_dates(&loader);
        Ok(Self {
            listeners,
            loader: Mutex::new(loader),
            asks_clients: config
                .sites
                .iter()
                .any(|s| s.tls.as_ref().is_some_and(|t| t.client.is_some())),
        })
    }

    pub(crate) fn listener(&self, index: usize) -> Option<&ListenerTls> {
        self.listeners.get(index)?.as_ref()
    }

    /// Does some site ask clients for certificates?
    pub(crate) fn asks_clients(&self) -> bool {
        self.asks_clients
    }

    /// Looks whether files of certificates have changed, and uses what they hold now. Reads files: not for a core.
    pub(crate) fn refresh(&self, config: &Config) -> Vec<Refreshed> {
        let mut loader = self.loader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = Vec::new();
        for (files, loaded) in &mut loader.certificates {
            let now = Stamp::of(files);
            if loaded.stamp == now || loaded.failed.as_ref() == Some(&now) {
                continue;
            }
            let result = Certificate::load(files).map(|new| {
                loaded.certificate = Arc::new(new);
                loaded.stamp = now.clone();
            });
            loaded.failed = result.is_err().then_some(now);
            out.push(Refreshed {
                file: files.cert.clone(),
                result,
            });
        }
        if out.iter().any(|r| r.result.is_ok()) {
            for (index, listener) in self.listeners.iter().enumerate() {
                if let Some(listener) = listener {
                    let (names, default) = bundles(config, index, |pair| loader.known(pair));
                    listener.table.certificates.set(&names);
                    listener.table.certificates.set_default(default);
                }
            }
        }
        out
    }
}

fn warn_of_dates(loader: &Loader) {
    let now = i64::try_from(unix_now()).unwrap_or(i64::MAX);
    for (files, loaded) in &loader.certificates {
        if let Some(problem) = loaded.certificate.problem_at(now, Some(&files.cert)) {
            tracing::warn!("{problem}");
        }
    }
}

/// The sites that a listener answers for, with their places.
fn sites_of(config: &Config, listener: usize) -> impl Iterator<Item = (usize, &Site)> {
    config
        .sites
        .iter()
        .enumerate()
        .filter(move |(_, s)| s.listeners.is_empty() || s.listeners.contains(&listener))
}

/// The certificates that are files: by name, and what is shown to who names nobody: that of the site for every host, else the
/// first.
fn bundles(
    config: &Config,
    listener: usize,
    load: impl Fn(&model::CertificateFiles) -> Option<Arc<Certificate>>,
) -> (Vec<(String, Bundle)>, Option<Bundle>) {
    let mut names = Vec::new();
    let mut taken = HashSet::new();
    let (mut default, mut first) = (None, None);
    for (_, site) in sites_of(config, listener) {
        let Some(CertificateSource::Files(pairs)) = site.tls.as_ref().map(|t| &t.source) else {
            continue;
        };
        let all: Vec<Arc<Certificate>> = pairs.iter().filter_map(&load).collect();
        for host in &site.hosts {
            let mut own: Vec<_> = all
                .iter()
                .filter(|c| covers(c.names(), host))
                .cloned()
                .collect();
            if own.is_empty() {
                own.clone_from(&all);
            }
            let bundle = Bundle::new(own);
            first.get_or_insert_with(|| bundle.clone());
            match name_of(host) {
                // Where two sites claim one host, the first has it, as in the router.
                Some(name) if taken.insert(name.clone()) => names.push((name, bundle)),
                Some(_) => {}
                None => default = default.or(Some(bundle)),
            }
        }
    }
    (names, default.or(first))
}

/// A host as `net::tls` names it; `None` for every host.
fn name_of(host: &HostPattern) -> Option<String> {
    match host {
        // An address of IPv6 has brackets in `Host` alone.
        HostPattern::Exact(name) => Some(
            name.strip_prefix('[')
                .and_then(|name| name.strip_suffix(']'))
                .unwrap_or(name)
                .to_owned(),
        ),
        HostPattern::Wildcard(zone) => Some(format!("*.{zone}")),
        HostPattern::Any => None,
    }
}

impl ListenerTls {
    fn build(
        config: &Config,
        index: usize,
        (listener, tls): (&Listener, &model::ListenerTls),
        shared: &TlsShared,
        registry: &Registry,
        loader: &mut Loader,
    ) -> Result<Self, BuildError> {
        let usual = Policy {
            profile: profile(tls.level),
            clients: ClientAuth::None,
            alpn: alpn(listener),
        };
        let mut guards = vec![(usual.id(), Guard::of(&usual))];
        let mut sites = vec![0; config.sites.len()];
        let mut policies = Vec::new();
        let mut taken = HashSet::new();
        let mut default = usual.clone();
        let mut on_demand = OnDemand {
            desk: Arc::clone(shared.desk()),
            names: HashSet::new(),
            any: false,
        };
        for (at, site) in sites_of(config, index) {
            let failed = |problem| BuildError::Tls {
                origin: site.origin.clone(),
                problem,
            };
            let policy = policy_of(site, &usual, loader).map_err(failed)?;
            load_files(site, loader).map_err(failed)?;
            let id = policy.id();
            let known = guards.iter().position(|(known, _)| *known == id);
            let guard = known.unwrap_or_else(|| {
                guards.push((id, Guard::of(&policy)));
                guards.len() - 1
            });
            if let Some(place) = sites.get_mut(at) {
                *place = u16::try_from(guard).map_err(|_| BuildError::Policies)?;
            }
            let comes = comes_on_demand(site);
            for host in &site.hosts {
                match name_of(host) {
                    Some(name) if taken.insert(name.clone()) => {
                        if comes {
                            on_demand.names.insert(name.clone());
                        }
                        policies.push((name, policy.clone()));
                    }
                    Some(_) => {}
                    None => {
                        default = policy.clone();
                        on_demand.any = comes;
                    }
                }
            }
        }
        let (names, shown) = bundles(config, index, |pair| loader.known(pair));
        let certificates = Certificates::new();
        let by_file = names.iter().map(|(name, _)| name.clone()).collect();
        certificates.replace(names, shown);
        let table = Arc::new(Table {
            certificates: Arc::clone(&certificates),
            by_file,
        });
        shared.enter(&table);
        let failed = |problem| BuildError::Tls {
            origin: listener.origin.clone(),
            problem,
        };
        let server = ServerTls::new(ServerTlsParts {
            policies,
            default: Some(default),
            unknown_name: match tls.unknown_name {
                model::UnknownName::Refuse => UnknownName::Refuse,
                model::UnknownName::Default => UnknownName::Default,
            },
            certificates,
            tickets: shared.tickets(&config.tls_tickets).map_err(failed)?,
            challenges: Arc::clone(shared.challenges()),
            pending: tls.pending,
            on_demand: (on_demand.any || !on_demand.names.is_empty()).then_some(on_demand),
        })
        .map_err(failed)?;
        Ok(Self {
            server: Arc::new(server),
            handshake_ms: millis(tls.handshake_timeout),
            metrics: HandshakeMetrics::new(registry, &listener.name),
            table,
            guards,
            sites,
        })
    }

    /// What a handshake under this policy has met.
    pub(crate) fn met(&self, policy: PolicyId) -> Option<Guard> {
        self.guards
            .iter()
            .find(|(id, _)| *id == policy)
            .map(|(_, guard)| *guard)
    }

    /// What a site demands.
    pub(crate) fn demands(&self, site: usize) -> Option<Guard> {
        let guard = usize::from(*self.sites.get(site)?);
        self.guards.get(guard).map(|(_, guard)| *guard)
    }
}

/// Are the certificates of this site obtained at the first handshake?
fn comes_on_demand(site: &Site) -> bool {
    matches!(
        site.tls.as_ref().map(|t| &t.source),
        Some(CertificateSource::Acme(acme)) if acme.on_demand
    )
}

fn profile(level: TlsLevel) -> Profile {
    match level {
        TlsLevel::Intermediate => Profile::Intermediate,
        TlsLevel::Modern => Profile::Modern,
    }
}

fn alpn(listener: &Listener) -> Vec<Vec<u8>> {
    let names = listener.protocols.iter().map(|p| match p {
        Protocol::Http1 => HTTP_11.to_vec(),
        Protocol::Http2 => H2.to_vec(),
    });
    names.collect()
}

fn policy_of(site: &Site, usual: &Policy, loader: &mut Loader) -> Result<Policy, Problem> {
    let mut policy = usual.clone();
    let Some(tls) = &site.tls else {
        return Ok(policy);
    };
    if let Some(level) = tls.level {
        policy.profile = profile(level);
    }
    if let Some(client) = &tls.client {
        let ca = loader.client_ca(client)?;
        policy.clients = if client.required {
            ClientAuth::Required(ca)
        } else {
            ClientAuth::Optional(ca)
        };
    }
    Ok(policy)
}

fn load_files(site: &Site, loader: &mut Loader) -> Result<(), Problem> {
    if let Some(CertificateSource::Files(pairs)) = site.tls.as_ref().map(|t| &t.source) {
        for pair in pairs {
            loader.certificate(pair)?;
        }
    }
    Ok(())
}
