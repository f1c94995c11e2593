//! Connections per client, over all cores. Touched only when a connection opens or closes.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Shards, so that cores seldom meet at one lock.
const SHARDS: usize = 64;
/// A shard that has room for this many gives none of it back.
const SMALL: usize = 64;

/// An IPv4 address or an IPv6 network of 64 bits: what one client surely has at its command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Client {
    V4(u32),
    V6(u64),
}

impl Client {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.to_bits()),
            IpAddr::V6(ip) => Self::V6((ip.to_bits() >> 64) as u64),
        }
    }
}

type Shard = Mutex<HashMap<Client, u32>>;

/// Open connections of each client. Bounded: at most so many clients at a time.
#[derive(Debug)]
pub struct ClientCounts {
    shards: Box<[Shard]>,
    /// Keyed by a secret, so that no client can choose its shard.
    hasher: RandomState,
    clients: AtomicUsize,
    max_clients: usize,
}

/// A counted connection; counted out when dropped, on whatever thread.
#[derive(Debug)]
#[must_use = "dropping it counts the connection out"]
pub struct Guard {
    counted: Option<(Arc<ClientCounts>, Client)>,
}

impl ClientCounts {
    /// For at most `max_clients` different clients at a time (about 30 bytes each): the limit of connections is enough,
    /// because every client in the table has one.
    pub fn new(max_clients: usize) -> Arc<Self> {
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            hasher: RandomState::new(),
            clients: AtomicUsize::new(0),
            max_clients,
        })
    }

    /// Counts a connection of `ip` in, unless it has `max` already, or is new and the table is full. A `max` of 0 is no
    /// limit, and counts nothing.
    pub fn try_open(self: &Arc<Self>, ip: IpAddr, max: usize) -> Option<Guard> {
        if max == 0 {
            return Some(Guard { counted: None });
        }
        let client = Client::of(ip);
        let mut shard = self
            .shard(client)?
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match shard.entry(client) {
            Entry::Occupied(mut count) => {
                if *count.get() as usize >= max {
                    return None;
                }
                *count.get_mut() += 1;
            }
            Entry::Vacant(new) => {
                if self.clients.fetch_add(1, Ordering::Relaxed) >= self.max_clients {
                    self.clients.fetch_sub(1, Ordering::Relaxed);
                    return None;
                }
                new.insert(1);
            }
        }
        drop(shard);
        Some(Guard {
            counted: Some((Arc::clone(self), client)),
        })
    }

    /// Different clients at present.
    pub fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Counted connections of `ip` (of its /64) at present.
    pub fn open(&self, ip: IpAddr) -> usize {
        let client = Client::of(ip);
        let Some(shard) = self.shard(client) else {
            return 0;
        };
        shard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&client)
            .map_or(0, |n| *n as usize)
    }

    fn shard(&self, client: Client) -> Option<&Shard> {
        // The map uses the low and the highest bits of its own, differently keyed hash.
        self.shards
            .get(self.hasher.hash_one(client) as usize % SHARDS)
    }

    fn close(&self, client: Client) {
        let Some(shard) = self.shard(client) else {
            return;
        };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let Entry::Occupied(mut count) = shard.entry(client) else {
            return;
        };
        if *count.get() > 1 {
            *count.get_mut() -= 1;
            return;
        }
        count.remove();
        self.clients.fetch_sub(1, Ordering::Relaxed);
        // After a crowd has left, so does its memory.
        if shard.capacity() > SMALL && shard.len() < shard.capacity() / 8 {
            let room = shard.len() * 2;
            shard.shrink_to(room);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some((counts, client)) = self.counted.take() {
            counts.close(client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn counts_up_to_the_limit_and_down_again() {
        let counts = ClientCounts::new(10);
        let a = ip("192.0.2.1");
        let mut open: Vec<Guard> = (0..3).map(|_| counts.try_open(a, 3).unwrap()).collect();
        assert!(counts.try_open(a, 3).is_none());
        let b = counts.try_open(ip("192.0.2.2"), 3).unwrap();
        assert_eq!((counts.open(a), counts.clients()), (3, 2));
        open.pop();
        open.push(counts.try_open(a, 3).unwrap());
        // A reload may lower the limit: what is open stays.
        assert!(counts.try_open(a, 1).is_none());
        drop((open, b));
        assert_eq!((counts.open(a), counts.clients()), (0, 0));
        drop(counts.try_open(a, 1).unwrap());
    }

    #[test]
    fn one_client_is_an_address_or_a_network_of_64_bits() {
        let counts = ClientCounts::new(10);
        let _a = counts.try_open(ip("2001:db8:1:2::1"), 1).unwrap();
        assert!(counts.try_open(ip("2001:db8:1:2:ffff::9"), 1).is_none());
        let _b = counts.try_open(ip("2001:db8:1:3::1"), 1).unwrap();
        let _c = counts.try_open(ip("192.0.2.1"), 1).unwrap();
        assert!(counts.try_open(ip("::ffff:192.0.2.1"), 1).is_none());
        let _d = counts.try_open(ip("::1"), 1).unwrap();
        // Not to be taken for the IPv4 address of the same bits.
        let _e = counts.try_open(ip("0:0:c000:201::1"), 1).unwrap();
        assert_eq!(counts.clients(), 5);
    }

    #[test]
    fn the_table_is_bounded_and_gives_memory_back() {
        let counts = ClientCounts::new(10_000);
        let address = |n: u32| IpAddr::V4(n.into());
        let guards: Vec<Guard> = (0..10_000)
            .map(|n| counts.try_open(address(n), 5).unwrap())
            .collect();
        assert!(counts.try_open(address(10_000), 5).is_none(), "full");
        let known = counts.try_open(address(7), 5).unwrap();
        assert_eq!(counts.clients(), 10_000);
        drop((guards, known));
        assert_eq!(counts.clients(), 0);
        let room: usize = counts
            .shards
            .iter()
            .map(|s| s.lock().unwrap().capacity())
            .sum();
        assert!(room <= SHARDS * SMALL, "{room}");
        drop(counts.try_open(address(10_000), 5).unwrap());
    }

    #[test]
    fn no_limit_counts_nothing() {
        let counts = ClientCounts::new(0);
        let _guards: Vec<_> = (0..3)
            .map(|_| counts.try_open(ip("192.0.2.1"), 0).unwrap())
            .collect();
        assert_eq!(counts.clients(), 0);
        assert!(
            counts.try_open(ip("192.0.2.1"), 1).is_none(),
            "no room for anybody"
        );
    }

    #[test]
    fn threads_agree() {
        let counts = ClientCounts::new(100);
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let counts = &counts;
                scope.spawn(move || {
                    for n in 0..5_000 {
                        let guard = counts.try_open(IpAddr::V4(((n + thread) % 8).into()), 3);
                        if let Some(guard) = guard {
                            assert!(counts.open(IpAddr::V4(((n + thread) % 8).into())) <= 3);
                            drop(guard);
                        }
                    }
                });
            }
        });
        assert_eq!(counts.clients(), 0);
    }
}
