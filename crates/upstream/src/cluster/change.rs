//! Changes by the operator, taken while requests run.

use narthex_config::model::Server;

use super::overlay::{Drift, Edit, Edited, Known, Overlay, Refusal, SavedChanges};
use super::{Cluster, Source};
use crate::clock::monotonic_ms;

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeError {
    /// The upstream is no longer at the version that the change is for; it is at this one.
    Stale(u64),
    /// It cannot be.
    Refused(Refusal),
}

impl Cluster {
    /// Makes a change, if the upstream is at the version that is expected, and says at which it is then.
    pub fn change(&self, expect: Option<u64>, edit: Edit) -> Result<(Edited, u64), ChangeError> {
        let mut source = self.source();
        let version = self.version();
        if expect.is_some_and(|expect| expect != version) {
            return Err(ChangeError::Stale(version));
        }
        let addresses: Vec<(String, String)> = self
            .set()
            .members
            .iter()
            .map(|m| {
                (
                    m.endpoint.name().to_owned(),
                    m.endpoint.target().to_string(),
                )
            })
            .collect();
        let Source {
            servers,
            overlay,
            found,
            ..
        } = &mut *source;
        let servers: Vec<Server> = servers.iter().chain(found.servers()).cloned().collect();
        let before = overlay.clone();
        let known = Known {
            servers: &servers,
            addresses: &addresses,
        };
        let edited = overlay
            .edit(known, edit, monotonic_ms())
            .map_err(ChangeError::Refused)?;
        if *overlay != before {
            self.rebuild(&mut source);
        }
        Ok((edited, self.version()))
    }

    /// What the operator has changed, compared with what is written and found.
    pub fn drift(&self) -> Vec<Drift> {
        self.source().overlay.drift()
    }

    /// Everything that the operator has changed, for another process.
    pub fn save_changes(&self) -> SavedChanges {
        let source = self.source();
        source.overlay.save(&source.servers)
    }

    /// Takes over what another process was told; what the configuration says by now itself is no change any more.
    pub fn restore_changes(&self, saved: &SavedChanges) {
        let mut source = self.source();
        let Source {
            servers, overlay, ..
        } = &mut *source;
        let mut restored = Overlay::restore(saved, servers);
        restored.settle(servers, servers);
        if *overlay != restored {
            *overlay = restored;
            self.rebuild(&mut source);
        }
    }

    /// Closes the servers whose drain is over, and says which, and when the next drain is over.
    pub fn end_drains(&self, now: u64) -> (Vec<String>, Option<u64>) {
        let mut source = self.source();
        let (over, next) = source.overlay.expire(now);
        if !over.is_empty() {
            self.rebuild(&mut source);
        }
        (over, next)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::SocketAddr;
    use std::sync::Arc;

    use narthex_config::model::{Order, Server, ServerAddress};

    use super::*;
    use crate::discover::srv::Place;
    use crate::fleet::Fleet;
    use crate::testkit::upstream;

    fn address(n: u8) -> SocketAddr {
        ([127, 0, 0, n], 80).into()
    }

    fn cluster(servers: &[u8]) -> (Arc<Fleet>, Arc<Cluster>) {
        let fleet = Fleet::new(2);
        let servers = servers.iter().map(|n| address(*n));
        let cluster = fleet.reconcile(&[upstream("u", servers)]).remove(0);
        (fleet, cluster)
    }

    fn drain(server: &str) -> Edit {
        Edit::Set {
            server: server.to_owned(),
            weight: None,
            order: Some(Order::Drain),
            lasts: None,
        }
    }

    fn named(name: &str, port: u16) -> Server {
        let address = ServerAddress::Dns {
            host: name.to_owned(),
            port,
        };
        Server::new(format!("{name}:{port}"), address)
    }

    fn orders(cluster: &Cluster) -> Vec<Order> {
        let set = cluster.set();
        set.members.iter().map(|m| m.endpoint.order()).collect()
    }

    #[test]
    fn a_change_moves_the_version_and_no_change_does_not() {
        let (_fleet, cluster) = cluster(&[1, 2]);
        let before = cluster.version();
        let kept = Arc::clone(&cluster.set().members[0].endpoint);
        let (_, version) = cluster
            .change(Some(before), drain(&address(1).to_string()))
            .unwrap();
        assert_eq!((version, cluster.version()), (before + 1, before + 1));
        assert_eq!(orders(&cluster), [Order::Drain, Order::Ready]);
        assert!(Arc::ptr_eq(&kept, &cluster.set().members[0].endpoint));
        let (edited, version) = cluster
            .change(None, drain(&address(1).to_string()))
            .unwrap();
        assert_eq!((edited.before, version), (edited.after, before + 1));
    }

    #[test]
    fn what_was_seen_too_long_ago_is_not_changed() {
        let (_fleet, cluster) = cluster(&[1, 2]);
        let before = cluster.version();
        let name = address(1).to_string();
        let edit = || Edit::Remove(name.clone());
        assert_eq!(
            cluster.change(Some(before + 1), edit()).unwrap_err(),
            ChangeError::Stale(before)
        );
        assert_eq!(cluster.set().members.len(), 2);
        cluster.change(Some(before), edit()).unwrap();
        assert_eq!(cluster.set().members.len(), 1);
    }

    #[test]
    fn a_name_that_is_added_is_resolved_and_each_address_can_be_meant() {
        let (_fleet, cluster) = cluster(&[1]);
        cluster
            .change(None, Edit::Add(named("api.test", 80)))
            .unwrap();
        let name = named("api.test", 80).address;
        assert_eq!(cluster.names(), HashSet::from([name.clone()]));
        let found = [1, 2].map(|n| Place::plain(([10, 0, 0, n], 80).into()));
        cluster.resolved(&name, found.to_vec());
        cluster.change(None, drain("10.0.0.2:80")).unwrap();
        assert_eq!(orders(&cluster), [Order::Ready, Order::Ready, Order::Drain]);
        // Another answer of the name server: who is drained stays it.
        cluster.resolved(&name, vec![found[1].clone()]);
        assert_eq!(orders(&cluster), [Order::Ready, Order::Drain]);
    }

    #[test]
    fn another_process_takes_over_what_was_changed() {
        let (_old_fleet, old) = cluster(&[1, 2]);
        old.change(None, drain(&address(1).to_string())).unwrap();
        old.change(None, Edit::Remove(address(2).to_string()))
            .unwrap();
        let (_new_fleet, new) = cluster(&[1, 2]);
        new.restore_changes(&old.save_changes());
        assert_eq!(new.drift(), old.drift());
        assert_eq!(orders(&new), [Order::Drain]);
    }
}
