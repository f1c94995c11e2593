//! What certificate authorities ask for: answers to HTTP-01, certificates for TLS-ALPN-01. Bounded, and forgotten in time.
//!
//! Who obtains certificates writes, who answers reads. Only what is here is answered; every other request for a path of the same
//! look takes the normal way (TL-10).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::sign::CertifiedKey;

use super::names::canonical;

/// Answers of each kind that are kept.
pub const MAX: usize = 10_000;
/// Longest token and key authorization, in bytes.
pub const MAX_TOKEN: usize = 512;

/// Too many answers, or one that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// [`MAX`] are there, none of them old.
    #[error("there are {MAX} challenges under way; try again when some have ended")]
    Full,
    /// [`MAX_TOKEN`].
    #[error("a challenge's token or answer is longer than {MAX_TOKEN} bytes or empty")]
    TooLong,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Http {
    host: Box<str>,
    token: Box<str>,
}

#[derive(Debug, Clone)]
struct Until<T> {
    value: T,
    until: u64,
}

#[derive(Debug, Clone, Default)]
struct Table {
    http: HashMap<Http, Until<Arc<str>>>,
    alpn: HashMap<Box<str>, Until<Arc<CertifiedKey>>>,
}

/// The live answers. Times are seconds since 1970.
#[derive(Debug, Default)]
pub struct Challenges {
    table: ArcSwap<Table>,
    /// Somebody is asked. Written by one change at a time.
    used: AtomicBool,
    changing: Mutex<()>,
}

impl Challenges {
    /// None.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// `host` answers `/.well-known/acme-challenge/<token>` with `answer` until then.
    pub fn put_http(
        &self,
        host: &str,
        token: &str,
        answer: &str,
        now: u64,
        until: u64,
    ) -> Result<(), Refused> {
        let one = (host.to_owned(), token.to_owned(), answer.to_owned());
        self.put_http_all(&[one], now, until)
    }

    /// The same for several (host, token, answer): all or none.
    pub fn put_http_all(
        &self,
        answers: &[(String, String, String)],
        now: u64,
        until: u64,
    ) -> Result<(), Refused> {
        let sound = |text: &str| !text.is_empty() && text.len() <= MAX_TOKEN;
        let mut entries = Vec::with_capacity(answers.len());
        for (host, token, answer) in answers {
            if !sound(token) || !sound(answer) || !sound(host) {
                return Err(Refused::TooLong);
            }
            let key = Http {
                host: canonical(host).into(),
                token: token.as_str().into(),
            };
            let value: Arc<str> = answer.as_str().into();
            entries.push((key, Until { value, until }));
        }
        self.change(now, |table| {
            table.http.extend(entries);
            if table.http.len() > MAX {
                return Err(Refused::Full);
            }
            Ok(())
        })
    }

    /// The order has ended, well or not.
    pub fn remove_http(&self, host: &str, token: &str) {
        let key = Http {
            host: canonical(host).into(),
            token: token.into(),
        };
        let _ = self.change(0, |table| {
            table.http.remove(&key);
            Ok(())
        });
    }

    /// Is nobody asked at present? Costs one load: requests on the data path look here first.
    pub fn is_empty(&self) -> bool {
        !self.used.load(Ordering::Acquire)
    }

    /// The answer to exactly this token for exactly this host (canonical: lower case, without a dot at the end, without a port).
    pub fn http(&self, host: &str, token: &str, now: u64) -> Option<Arc<str>> {
        let table = self.table.load();
        if table.http.is_empty() || token.len() > MAX_TOKEN || host.len() > MAX_TOKEN {
            return None;
        }
        let key = Http {
            host: host.into(),
            token: token.into(),
        };
        let found = table.http.get(&key)?;
        (now < found.until).then(|| Arc::clone(&found.value))
    }

    /// A handshake for `name` with `acme-tls/1` alone is shown this certificate until then. It is no [`Certificate`]: its critical
    /// extension is known to authorities only, and the checks made there refuse it.
    ///
    /// [`Certificate`]: super::server::Certificate
    pub fn put_alpn(
        &self,
        name: &str,
        certificate: &Arc<CertifiedKey>,
        now: u64,
        until: u64,
    ) -> Result<(), Refused> {
        if name.is_empty() || name.len() > MAX_TOKEN {
            return Err(Refused::TooLong);
        }
        let key: Box<str> = canonical(name).into();
        self.change(now, |table| {
            if table.alpn.len() >= MAX && !table.alpn.contains_key(&key) {
                return Err(Refused::Full);
            }
            let value = Arc::clone(certificate);
            table.alpn.insert(key.clone(), Until { value, until });
            Ok(())
        })
    }

    /// The order has ended, well or not.
    pub fn remove_alpn(&self, name: &str) {
        let name = canonical(name);
        let _ = self.change(0, |table| {
            table.alpn.remove(name.as_str());
            Ok(())
        });
    }

    pub(super) fn alpn(&self, name: &str, now: u64) -> Option<Arc<CertifiedKey>> {
        let table = self.table.load();
        let found = table.alpn.get(name)?;
        (now < found.until).then(|| Arc::clone(&found.value))
    }

    /// One change, which also forgets what is over. Nothing changes if it is refused.
    fn change(
        &self,
        now: u64,
        change: impl FnOnce(&mut Table) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&self.table.load());
        table.http.retain(|_, answer| now < answer.until);
        table.alpn.retain(|_, answer| now < answer.until);
        change(&mut table)?;
        let used = !(table.http.is_empty() && table.alpn.is_empty());
        self.table.store(Arc::new(table));
        self.used.store(used, Ordering::Release);
        Ok(())
    }
}
