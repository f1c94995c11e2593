//! Who owns how many bytes: of the whole store, and of a site.
//!
//! An object and a body add what they allocate when they are made and take it away when they are dropped, wherever that happens:
//! what a slow reader still holds of an evicted object is counted until it lets go.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Sites with an account of their own. Further ones share one, without a quota.
const SITES_MAX: usize = 4_096;

/// Bytes of the store.
#[derive(Debug, Default)]
pub struct Total {
    bytes: AtomicU64,
    memory: AtomicU64,
}

/// Bytes of a site.
#[derive(Debug)]
pub struct Site {
    /// Its number.
    pub id: u32,
    bytes: AtomicU64,
    quota: AtomicU64,
    total: Arc<Total>,
}

/// The store's account and those of its sites.
#[derive(Debug)]
pub struct Accounts {
    total: Arc<Total>,
    sites: Mutex<Vec<Arc<Site>>>,
    /// For sites beyond [`SITES_MAX`].
    rest: Arc<Site>,
}

/// What an allocator of size classes (four to a doubling, as mimalloc has) gives for so many bytes.
pub fn allocated(bytes: usize) -> u64 {
    let bytes = bytes as u64;
    match bytes {
        0 => 0,
        1..=64 => bytes.next_multiple_of(16),
        _ => bytes.next_multiple_of((bytes.next_power_of_two() >> 3).max(16)),
    }
}

impl Site {
    fn new(id: u32, total: &Arc<Total>) -> Arc<Self> {
        Arc::new(Self {
            id,
            bytes: AtomicU64::new(0),
            quota: AtomicU64::new(u64::MAX),
            total: Arc::clone(total),
        })
    }

    /// So many bytes more.
    pub fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.total.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes less.
    pub fn sub(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.total.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// What it may have.
    pub fn set_quota(&self, quota: Option<u64>) {
        let quota = quota.unwrap_or(u64::MAX);
        if self.quota.load(Ordering::Relaxed) != quota {
            self.quota.store(quota, Ordering::Relaxed);
        }
    }

    /// It has more than it may have.
    pub fn is_over(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.quota.load(Ordering::Relaxed)
    }
}

impl Total {
    /// There is more than there may be.
    pub fn is_over(&self) -> bool {
        self.bytes() > self.memory()
    }

    /// Bytes in use.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes that may be in use.
    pub fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    /// From now on so many may be in use.
    pub fn set_memory(&self, bytes: u64) {
        self.memory.store(bytes, Ordering::Relaxed);
    }
}

impl Accounts {
    /// With so many bytes of memory.
    pub fn new(memory: u64) -> Self {
        let total = Arc::new(Total::default());
        total.set_memory(memory);
        let rest = Site::new(u32::MAX, &total);
        Self {
            total,
            sites: Mutex::default(),
            rest,
        }
    }

    /// Of everything.
    pub fn total(&self) -> &Total {
        &self.total
    }

    /// Of a site.
    pub fn site(&self, id: u32) -> Arc<Site> {
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        match sites.binary_search_by_key(&id, |site| site.id) {
            Ok(at) => sites
                .get(at)
                .map_or_else(|| Arc::clone(&self.rest), Arc::clone),
            Err(_) if sites.len() >= SITES_MAX => Arc::clone(&self.rest),
            Err(at) => {
                let site = Site::new(id, &self.total);
                sites.insert(at, Arc::clone(&site));
                site
            }
        }
    }

    /// Number and bytes of each site.
    pub fn sites(&self) -> Vec<(u32, u64)> {
        let sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        sites
            .iter()
            .map(|site| (site.id, site.bytes.load(Ordering::Relaxed)))
            .collect()
    }
}
