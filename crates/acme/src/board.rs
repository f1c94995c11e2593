//! What is known of every certificate, for whoever asks: the command line, the metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

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

/// All of them.
#[derive(Debug, Default)]
pub struct Board(Mutex<BTreeMap<String, Entry>>);

impl Board {
    /// A copy, by name.
    pub fn list(&self) -> Vec<Entry> {
        self.lock().values().cloned().collect()
    }

    pub(crate) fn set(&self, entry: Entry) {
        self.lock().insert(entry.name.clone(), entry);
    }

    pub(crate) fn keep(&self, wanted: impl Fn(&str) -> bool) {
        self.lock().retain(|name, _| wanted(name));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
