//! What sources say, and what it comes to: pure. A source says all there is (*snapshot*) or what changed; what differs is
//! found out here, so that only differences reach the upstream.

use std::collections::{BTreeMap, BTreeSet};

use narthex_config::model::Server;

/// Entries of one source. One that has more is cut, in the order of its keys.
pub(crate) const MAX_ENTRIES: usize = 10_000;

/// What a source says. Each entry stands under a key of the source's own: a path in a key space, a container's number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Delta {
    /// All there is.
    Snapshot(Vec<(String, Server)>),
    /// Entries that are new or say something else now, and such that are gone, in the order in which that happened.
    Changes(Vec<(String, Option<Server>)>),
}

/// What a delta changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) added: usize,
    pub(crate) removed: usize,
    pub(crate) changed: usize,
    /// Left out, because there are more than [`MAX_ENTRIES`].
    pub(crate) skipped: usize,
}

impl Applied {
    /// Did anything?
    pub(crate) fn is_change(self) -> bool {
        self.added + self.removed + self.changed > 0
    }
}

/// What a source has, by its keys.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Entries(BTreeMap<String, Server>);

impl Entries {
    /// In the order of their keys, which is the same whatever way they came.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &Server> {
        self.0.values()
    }

    /// The same with their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Server)> {
        self.0.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn apply(&mut self, delta: Delta) -> Applied {
        let mut applied = Applied::default();
        match delta {
            Delta::Snapshot(entries) => self.replace(entries, &mut applied),
            Delta::Changes(changes) => {
                for (key, server) in changes {
                    match server {
                        Some(server) => self.upsert(key, server, &mut applied),
                        None => applied.removed += usize::from(self.0.remove(&key).is_some()),
                    }
                }
            }
        }
        applied
    }

    fn replace(&mut self, entries: Vec<(String, Server)>, applied: &mut Applied) {
        let entries: BTreeMap<String, Server> = entries.into_iter().collect();
        let keep: BTreeSet<&String> = entries.keys().take(MAX_ENTRIES).collect();
        let before = self.0.len();
        self.0.retain(|key, _| keep.contains(key));
        applied.removed = before - self.0.len();
        for (key, server) in entries {
            self.upsert(key, server, applied);
        }
    }

    fn upsert(&mut self, key: String, server: Server, applied: &mut Applied) {
        let full = self.0.len() >= MAX_ENTRIES;
        match self.0.get_mut(&key) {
            Some(known) if *known == server => {}
            Some(known) => {
                *known = server;
                applied.changed += 1;
            }
            None if full => applied.skipped += 1,
            None => {
                self.0.insert(key, server);
                applied.added += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use narthex_config::model::ServerAddress;
    use proptest::prelude::*;

    use super::*;

    fn server(port: u16, weight: u32) -> Server {
        let address = ServerAddress::Ip(([10, 0, 0, 1], port).into());
        let mut server = Server::new(format!("10.0.0.1:{port}"), address);
        server.weight = weight;
        server
    }

    fn entry() -> impl Strategy<Value = (String, Server)> {
        (0..8_u16, 1..4_u32).prop_map(|(n, weight)| (format!("k{n}"), server(n + 1, weight)))
    }

    fn delta() -> impl Strategy<Value = Delta> {
        prop_oneof![
            1 => proptest::collection::vec(entry(), 0..8).prop_map(Delta::Snapshot),
            4 => proptest::collection::vec(change(), 1..4).prop_map(Delta::Changes),
        ]
    }

    fn change() -> impl Strategy<Value = (String, Option<Server>)> {
        (entry(), proptest::bool::weighted(0.7))
            .prop_map(|((key, server), there)| (key, there.then_some(server)))
    }

    proptest! {
        /// Any order of anything comes to what a plain map comes to, and says so.
        #[test]
        fn deltas_come_to_the_last_state(deltas in proptest::collection::vec(delta(), 0..40)) {
            let mut entries = Entries::default();
            let mut model: BTreeMap<String, Server> = BTreeMap::new();
            for delta in deltas {
                let before = model.clone();
                match delta.clone() {
                    Delta::Snapshot(all) => model = all.into_iter().collect(),
                    Delta::Changes(changes) => for (key, server) in changes {
                        match server {
                            Some(server) => { model.insert(key, server); }
                            None => { model.remove(&key); }
                        }
                    },
                }
                let several = matches!(&delta, Delta::Changes(changes) if changes.len() > 1);
                let applied = entries.apply(delta);
                prop_assert_eq!(&entries.0, &model);
                if several {
                    // Some of them may undo others.
                    prop_assert!(applied.is_change() || before == model);
                    continue;
                }
                prop_assert_eq!(applied.is_change(), before != model);
                let added = model.keys().filter(|k| !before.contains_key(*k)).count();
                let removed = before.keys().filter(|k| !model.contains_key(*k)).count();
                prop_assert_eq!((applied.added, applied.removed, applied.skipped), (added, removed, 0));
            }
        }
    }

    #[test]
    fn a_source_is_bounded_and_what_is_there_stays() {
        let many = |from: usize| {
            let entry = |i| (format!("k{i:06}"), server(1, 1));
            (from..from + MAX_ENTRIES + 5).map(entry).collect()
        };
        let mut entries = Entries::default();
        let applied = entries.apply(Delta::Snapshot(many(0)));
        assert_eq!((applied.added, applied.skipped), (MAX_ENTRIES, 5));
        let applied = entries.apply(Delta::Changes(vec![(
            "another".to_owned(),
            Some(server(1, 1)),
        )]));
        assert_eq!((applied.added, applied.skipped), (0, 1));
        let applied = entries.apply(Delta::Snapshot(many(0)));
        assert!(!applied.is_change(), "{applied:?}");
        entries.apply(Delta::Snapshot(many(100_000)));
        assert_eq!(entries.len(), MAX_ENTRIES);
    }
}
