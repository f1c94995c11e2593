//! What is known of every certificate, for whoever asks: the command line, the metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

/// How a certificate stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Who is asked for it.
    pub authority: String,
    /// Who issued the one that serves.
    pub issuer: Option<String>,
    /// Until when that is good: seconds since 1970.
    pub expires: Option<u64>,
    /// When the next attempt is due: seconds since 1970.
    pub next: u64,
    /// Attempts that failed since the last one that did not.
    pub failures: u32,
    /// Why the last one failed.
    pub last_error: Option<String>,
}

/// Whose the store is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Owner {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// Ours.
    Us,
    /// Another process's, which obtains and renews.
    Other,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Board {
    entries: Mutex<BTreeMap<String, Entry>>,
    owner: Mutex<Owner>,
    /// What came of names on demand.
    demands: Mutex<BTreeMap<&'static str, u64>>,
    changes: watch::Sender<u64>,
}

impl Board {
    /// A copy, by name.
    pub fn list(&self) -> Vec<Entry> {
        lock(&self.entries).values().cloned().collect()
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<Entry> {
        lock(&self.entries).get(name).cloned()
    }

    /// Whose the store is.
    pub fn owner(&self) -> Owner {
        *lock(&self.owner)
    }

    /// What came of names on demand, by a stable word.
    pub fn demands(&self) -> Vec<(&'static str, u64)> {
        lock(&self.demands).iter().map(|(w, n)| (*w, *n)).collect()
    }

    pub(crate) fn count(&self, word: &'static str) {
        *lock(&self.demands).entry(word).or_default() += 1;
    }

    pub(crate) fn owned(&self, owner: Owner) {
        *lock(&self.owner) = owner;
    }

    /// Changes whenever entries may have.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn tell(&self) {
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(crate) fn set(&self, entry: Entry) {
        lock(&self.entries).insert(entry.name.clone(), entry);
    }

    pub(crate) fn keep(&self, wanted: impl Fn(&str) -> bool) {
        lock(&self.entries).retain(|name, _| wanted(name));
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
