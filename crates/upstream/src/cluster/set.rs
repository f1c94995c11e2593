//! The making of a server set: from what is written and what names resolve to, keeping the endpoints that are known.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use narthex_config::model::{Balance, Server, ServerAddress};
use narthex_net::dial::Target;

use super::{Cluster, Member, ServerSet, Source};
use crate::balance::ring::Ring;
use crate::clock::monotonic_ms;
use crate::endpoint::{Endpoint, Identity};
use crate::gate::Gate;

impl Cluster {
    /// Makes the set anew, and tells.
    pub(super) fn rebuild(&self, source: &mut Source) {
        let settings = self.settings.load();
        self.apply_limits(&settings);
        let mut members: Vec<Member> = Vec::new();
        // Beside servers that are at work, a new one begins slowly.
        let beside = !source.endpoints.is_empty();
        for server in source.servers.iter().chain(source.overlay.added()) {
            for target in targets(server, &source.resolved) {
                let identity = Identity {
                    address: server.address.clone(),
                    target,
                };
                let name = Endpoint::name_of(server, &identity.target);
                if members.iter().any(|m| *m.endpoint.identity() == identity)
                    || source.overlay.is_removed(&server.name, &name)
                {
                    continue;
                }
                let (weight, order) = source.overlay.lay(server, &name);
                let endpoint = source.endpoints.get(&identity).cloned().unwrap_or_else(|| {
                    let sockets = Gate::new(settings.connections.max, settings.connections.queue);
                    let id = self.changes.next_id();
                    let endpoint =
                        Endpoint::new(id, server, identity.target.clone(), self.cores, sockets);
                    if beside {
                        endpoint.begin_ramp(monotonic_ms());
                    }
                    Arc::new(endpoint)
                });
                endpoint.set_ramp(&settings.slow_start);
                let queue = settings.connections.queue;
                endpoint.sockets.set_limits(settings.connections.max, queue);
                endpoint.places.set_limits(settings.requests.max, queue);
                endpoint.set_order(order);
                members.push(Member {
                    endpoint,
                    weight: weight.clamp(1, 1_000),
                    backup: server.backup,
                    priority: server.priority,
                    zone: server.zone.as_deref().map(Arc::from),
                });
            }
        }
        source.endpoints = members
            .iter()
            .map(|m| (m.endpoint.identity().clone(), Arc::clone(&m.endpoint)))
            .collect();
        let ring = matches!(settings.balance, Balance::Hash(_)).then(|| {
            let servers = members.iter().map(|m| (m.endpoint.name(), m.weight));
            Arc::new(Ring::new(servers))
        });
        self.set.store(Arc::new(ServerSet { members, ring }));
        self.version.fetch_add(1, Ordering::Release);
        self.changes.announce(self.id);
    }
}

fn targets(server: &Server, resolved: &HashMap<(String, u16), Vec<IpAddr>>) -> Vec<Target> {
    match &server.address {
        ServerAddress::Ip(address) => vec![Target::Tcp(*address)],
        ServerAddress::Unix(path) => vec![Target::Unix(path.clone())],
        // Not taken by the language yet.
        ServerAddress::Srv { .. } => Vec::new(),
        ServerAddress::Dns { host, port } => {
            let addresses = resolved
                .get(&(host.clone(), *port))
                .map(Vec::as_slice)
                .unwrap_or_default();
            addresses
                .iter()
                .map(|ip| Target::Tcp(SocketAddr::new(*ip, *port)))
                .collect()
        }
    }
}
