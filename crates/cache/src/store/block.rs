//! Takedowns: addresses that are answered with a status and a reason, whatever is stored.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Addresses that are blocked, at most.
pub const BLOCKS_MAX: usize = 4_096;
/// Bytes of a reason; the rest is left out.
const REASON_MAX: usize = 256;

/// What is blocked.
#[derive(Debug, Clone, Copy)]
pub struct Pattern<'a> {
    /// Canonical host.
    pub host: &'a str,
    /// Canonical path: of one address, or what begins so. With `?` and a query only that query, otherwise any.
    pub path: &'a [u8],
    /// Everything that begins so.
    pub is_prefix: bool,
}

/// A takedown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// The answer's status: 451 or 410.
    pub status: u16,
    /// Why, for the log and the list.
    pub reason: Box<str>,
    /// Until when (Unix ms); none: until it is taken back.
    pub until_ms: Option<u64>,
}

/// One line of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Canonical host.
    pub host: Box<str>,
    /// Path, or its beginning.
    pub path: Box<[u8]>,
    /// It is a beginning.
    pub is_prefix: bool,
    /// What is answered.
    pub blocked: Arc<Blocked>,
}

/// There are [`BLOCKS_MAX`] already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl std::fmt::Display for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{BLOCKS_MAX} addresses are blocked already; take one back, or block a prefix that covers several"
        )
    }
}

impl std::error::Error for Full {}

/// Every takedown.
#[derive(Debug, Default)]
pub struct Blocks {
    /// So that nobody looks for one if there is none.
    count: AtomicUsize,
    hosts: RwLock<HashMap<Box<str>, Host>>,
}

#[derive(Debug, Default)]
struct Host {
    exact: HashMap<Box<[u8]>, Arc<Blocked>>,
    /// By length, so that a path is looked up once for each.
    prefixes: BTreeMap<usize, HashMap<Box<[u8]>, Arc<Blocked>>>,
}

impl Blocks {
    /// Is there none?
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Adds one, or changes it.
    pub fn add(&self, pattern: Pattern<'_>, mut blocked: Blocked, now_ms: u64) -> Result<(), Full> {
        let end = blocked.reason.floor_char_boundary(REASON_MAX);
        if end < blocked.reason.len() {
            blocked.reason = blocked.reason.get(..end).unwrap_or_default().into();
        }
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        if self.count() >= BLOCKS_MAX {
            for host in hosts.values_mut() {
                host.retain(|blocked| !blocked.is_over(now_ms));
            }
            hosts.retain(|_, host| host.len() > 0);
            let is_there = hosts
                .get(pattern.host)
                .is_some_and(|host| host.get(pattern).is_some());
            if !is_there && hosts.values().map(Host::len).sum::<usize>() >= BLOCKS_MAX {
                return Err(Full);
            }
        }
        let host = hosts.entry(pattern.host.into()).or_default();
        host.table(pattern)
            .insert(pattern.path.into(), Arc::new(blocked));
        self.set_count(&hosts);
        Ok(())
    }

    /// Takes one back. `false`: there is none.
    pub fn remove(&self, pattern: Pattern<'_>) -> bool {
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        let Some(host) = hosts.get_mut(pattern.host) else {
            return false;
        };
        let is_removed = host.table(pattern).remove(pattern.path).is_some();
        host.prefixes.retain(|_, prefixes| !prefixes.is_empty());
        hosts.retain(|_, host| host.len() > 0);
        self.set_count(&hosts);
        is_removed
    }

    fn set_count(&self, hosts: &HashMap<Box<str>, Host>) {
        let count = hosts.values().map(Host::len).sum();
        self.count.store(count, Ordering::Release);
    }

    /// The one that an address is answered with.
    pub fn find(
        &self,
        host: &str,
        path: &[u8],
        query: Option<&[u8]>,
        now_ms: u64,
    ) -> Option<Arc<Blocked>> {
        if self.count() == 0 {
            return None;
        }
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        let host = hosts.get(host)?;
        let address = query.map(|query| [path, b"?", query].concat());
        let address = address.as_deref().unwrap_or(path);
        let holds = |blocked: &&Arc<Blocked>| !blocked.is_over(now_ms);
        let exact = [path, address]
            .into_iter()
            .find_map(|path| host.exact.get(path).filter(holds));
        exact
            .or_else(|| host.prefix(address).find(holds))
            .map(Arc::clone)
    }

    /// All of them.
    pub fn list(&self) -> Vec<Block> {
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        let mut list = Vec::new();
        for (name, host) in hosts.iter() {
            let exact = host.exact.iter().map(|block| (block, false));
            let prefixes = host.prefixes.values().flatten().map(|block| (block, true));
            list.extend(
                exact
                    .chain(prefixes)
                    .map(|((path, blocked), is_prefix)| Block {
                        host: name.clone(),
                        path: path.clone(),
                        is_prefix,
                        blocked: Arc::clone(blocked),
                    }),
            );
        }
        list
    }
}

impl Blocked {
    fn is_over(&self, now_ms: u64) -> bool {
        self.until_ms.is_some_and(|until| until <= now_ms)
    }
}

impl Host {
    fn table(&mut self, pattern: Pattern<'_>) -> &mut HashMap<Box<[u8]>, Arc<Blocked>> {
        if pattern.is_prefix {
            self.prefixes.entry(pattern.path.len()).or_default()
        } else {
            &mut self.exact
        }
    }

    fn get(&self, pattern: Pattern<'_>) -> Option<&Arc<Blocked>> {
        if pattern.is_prefix {
            self.prefixes.get(&pattern.path.len())?.get(pattern.path)
        } else {
            self.exact.get(pattern.path)
        }
    }

    fn prefix(&self, address: &[u8]) -> impl Iterator<Item = &Arc<Blocked>> {
        self.prefixes
            .iter()
            .filter_map(|(&length, prefixes)| prefixes.get(address.get(..length)?))
    }

    fn len(&self) -> usize {
        self.exact.len() + self.prefixes.values().map(HashMap::len).sum::<usize>()
    }

    fn retain(&mut self, keep: impl Fn(&Blocked) -> bool) {
        self.exact.retain(|_, blocked| keep(blocked));
        for prefixes in self.prefixes.values_mut() {
            prefixes.retain(|_, blocked| keep(blocked));
        }
        self.prefixes.retain(|_, prefixes| !prefixes.is_empty());
    }
}
