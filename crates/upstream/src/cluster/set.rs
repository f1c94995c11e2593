//! The making of a server set: from what is written, what lists have and what names stand for, keeping the endpoints that
//! are known.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use narthex_config::model::{Balance, Server, ServerAddress};
use narthex_net::dial::Target;

use super::found::{Listed, Named, is_name};
use super::overlay::Overlay;
use super::{Cluster, Member, ServerSet, Source};
use crate::balance::ring::Ring;
use crate::clock::monotonic_ms;
use crate::discover::srv::Place;
use crate::endpoint::{Endpoint, Identity};
use crate::gate::Gate;

/// Servers of an upstream, of all its sources.
const MAX_MEMBERS: usize = 20_000;
/// A server that is gone is the same server if it comes back within this time.
const REMEMBERED_MS: u64 = 60_000;
/// Servers that are remembered, per upstream.
const REMEMBERED: usize = 1_024;

/// A server to be.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    server: &'a Server,
    /// The list that has it; none is the configuration or the operator.
    list: Option<usize>,
}

/// Servers that went away a moment ago.
#[derive(Debug, Default)]
pub(super) struct Departed(VecDeque<(u64, Arc<Endpoint>)>);

impl Departed {
    fn forget_old(&mut self, now: u64) {
        while self
            .0
            .front()
            .is_some_and(|(at, _)| now.saturating_sub(*at) > REMEMBERED_MS)
        {
            self.0.pop_front();
        }
    }

    fn add(&mut self, now: u64, endpoint: Arc<Endpoint>) {
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((now, endpoint));
    }

    /// Those that are wanted again.
    fn take(&mut self, wanted: impl Fn(&Identity) -> bool) -> Vec<Arc<Endpoint>> {
        let (back, gone): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|(_, e)| wanted(e.identity()));
        self.0 = gone;
        back.into_iter().map(|(_, e)| e).collect()
    }
}

/// What the set is made of.
struct Wanted {
    /// In order, each identity once.
    servers: Vec<WantedServer>,
    /// By list: entries that say what is there already.
    doubled: Vec<HashSet<String>>,
    /// Servers beyond the bound.
    cut: usize,
}

struct WantedServer {
    identity: Identity,
    server: Server,
}

impl Cluster {
    /// Makes the set anew, and tells.
    pub(super) fn rebuild(&self, source: &mut Source) {
        let settings = self.settings.load();
        self.apply_limits(&settings);
        let now = monotonic_ms();
        let Source {
            servers,
            overlay,
            found,
            endpoints,
            departed,
            begun,
        } = source;
        let entries = entries(servers, &found.lists, overlay.added());
        let names = entries.iter().filter(|e| is_name(e.server));
        let names = names.map(|e| e.server.address.clone()).collect();
        let wanted = wanted(entries, &found.names, overlay, settings.dial.source);
        found.needs(names);
        found.doubled(&self.name, wanted.doubled);
        if wanted.cut > 0 {
            tracing::warn!(
                upstream = self.name,
                bound = MAX_MEMBERS,
                left_out = wanted.cut,
                "the upstream has more servers than it may have"
            );
        }
        let identities: HashSet<&Identity> = wanted.servers.iter().map(|w| &w.identity).collect();
        // Beside servers that are at work, a new one begins slowly; at the start all are new, however late their names resolve.
        *begun |= found.is_settled();
        let beside = *begun && !endpoints.is_empty();
        let mut known = std::mem::take(endpoints);
        departed.forget_old(now);
        for endpoint in departed.take(|identity| identities.contains(identity)) {
            known.insert(endpoint.identity().clone(), endpoint);
        }
        let mut members = Vec::with_capacity(wanted.servers.len());
        for WantedServer { identity, server } in wanted.servers {
            let endpoint = known.remove(&identity).unwrap_or_else(|| {
                let sockets = Gate::new(settings.connections.max, settings.connections.queue);
                let id = self.changes.next_id();
                let target = identity.target.clone();
                let endpoint = Endpoint::new(id, &server, target, self.cores, sockets);
                if beside {
                    endpoint.begin_ramp(now);
                }
                Arc::new(endpoint)
            });
            endpoint.set_ramp(&settings.slow_start);
            let queue = settings.connections.queue;
            endpoint.sockets.set_limits(settings.connections.max, queue);
            endpoint.places.set_limits(settings.requests.max, queue);
            endpoint.set_order(server.order);
            endpoints.insert(identity, Arc::clone(&endpoint));
            members.push(Member {
                endpoint,
                weight: server.weight.clamp(1, 1_000),
                backup: server.backup,
                priority: server.priority,
                zone: server.zone.as_deref().map(Arc::from),
            });
        }
        for gone in known.into_values() {
            departed.add(now, gone);
        }
        let ring = matches!(settings.balance, Balance::Hash(_)).then(|| {
            let servers = members
                .iter()
                .map(|m: &Member| (m.endpoint.name(), m.weight));
            Arc::new(Ring::new(servers))
        });
        self.set.store(Arc::new(ServerSet { members, ring }));
        self.version.fetch_add(1, Ordering::Release);
        self.changes.announce(self.id);
    }
}

/// What is written, then what each list has, then what the operator has added.
fn entries<'a>(servers: &'a [Server], lists: &'a [Listed], added: &'a [Server]) -> Vec<Entry<'a>> {
    let listed = lists.iter().enumerate().flat_map(|(index, list)| {
        let servers = list.entries.servers();
        servers.map(move |server| (server, Some(index)))
    });
    let written = servers.iter().map(|server| (server, None));
    let added = added.iter().map(|server| (server, None));
    written
        .chain(listed)
        .chain(added)
        .map(|(server, list)| Entry { server, list })
        .collect()
}

/// Every entry's places, the first entry of each, with what the operator has laid over them.
fn wanted(
    entries: Vec<Entry<'_>>,
    names: &HashMap<ServerAddress, Named>,
    overlay: &Overlay,
    from: Option<IpAddr>,
) -> Wanted {
    let mut wanted = Wanted {
        servers: Vec::with_capacity(entries.len()),
        doubled: Vec::new(),
        cut: 0,
    };
    let mut seen: HashSet<Identity> = HashSet::with_capacity(entries.len());
    for entry in entries {
        let mut doubled = false;
        for (target, mut server) in places(entry.server, names, from) {
            let name = Endpoint::name_of(&server, &target);
            if overlay.is_removed(&server.name, &name) {
                continue;
            }
            (server.weight, server.order) = overlay.lay(&server, &name);
            let address = entry.server.address.clone();
            let identity = Identity { address, target };
            if wanted.servers.len() >= MAX_MEMBERS {
                wanted.cut += 1;
            } else if seen.insert(identity.clone()) {
                wanted.servers.push(WantedServer { identity, server });
            } else {
                doubled = true;
            }
        }
        if let (true, Some(list)) = (doubled, entry.list) {
            if wanted.doubled.len() <= list {
                wanted.doubled.resize_with(list + 1, HashSet::new);
            }
            if let Some(names) = wanted.doubled.get_mut(list) {
                names.insert(entry.server.name.clone());
            }
        }
    }
    wanted
}

/// Where an entry's servers are, and what is true of each. A name's addresses are left out if they cannot be reached from the
/// source address, which is of one family.
fn places(
    server: &Server,
    names: &HashMap<ServerAddress, Named>,
    from: Option<IpAddr>,
) -> Vec<(Target, Server)> {
    match &server.address {
        ServerAddress::Ip(address) => vec![(Target::Tcp(*address), server.clone())],
        ServerAddress::Unix(path) => vec![(Target::Unix(path.clone()), server.clone())],
        ServerAddress::Dns { .. } | ServerAddress::Srv { .. } => names
            .get(&server.address)
            .map(|named| named.places.as_slice())
            .unwrap_or_default()
            .iter()
            .filter(|place| from.is_none_or(|from| from.is_ipv4() == place.address.is_ipv4()))
            .map(|place| (Target::Tcp(place.address), at(server, place)))
            .collect(),
    }
}

/// The server at one place of its name.
fn at(server: &Server, place: &Place) -> Server {
    let mut server = server.clone();
    server.weight = place.weight.unwrap_or(server.weight);
    server.priority = server.priority.saturating_add(place.step).min(15);
    server
}
