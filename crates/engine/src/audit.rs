//! Who changed what: a line in the log for every change, and the last ones kept to be shown.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::start::unix_now;

/// Changes that are kept.
const KEPT: usize = 1_000;
/// Refusals among them: who may do nothing cannot push out what was done.
const REFUSED: usize = 250;
/// Refusals that are logged in a minute, at most.
const LOGGED: u32 = 60;
/// Longest text of a field that a client chose, in characters.
const LONGEST: usize = 256;

/// Who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// Somebody on this machine, by a unix socket.
    Unix {
        /// User.
        uid: u32,
        /// Process, if the system says.
        pid: Option<i32>,
    },
    /// Somebody by TCP.
    Tcp(SocketAddr),
    /// Nobody: a time was over.
    Clock,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix {
                uid,
                pid: Some(pid),
            } => write!(f, "uid {uid} (pid {pid})"),
            Self::Unix { uid, pid: None } => write!(f, "uid {uid}"),
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Clock => f.write_str("the clock"),
        }
    }
}

/// Something that was done, or was to be done and refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// Who.
    pub who: Who,
    /// What was asked.
    pub what: String,
    /// Of which upstream; empty if it is about no upstream.
    pub upstream: String,
    /// Of which server; empty if it is about none.
    pub server: String,
    /// What it was.
    pub before: String,
    /// What it is.
    pub after: String,
    /// Why not, if it was refused.
    pub refused: Option<String>,
}

/// An entry of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Seconds since 1970.
    pub at: u64,
    /// Who.
    pub who: String,
    /// What was asked.
    pub what: String,
    /// Of which upstream; empty if it is about no upstream.
    pub upstream: String,
    /// Of which server; empty if it is about none.
    pub server: String,
    /// What it was.
    pub before: String,
    /// What it is.
    pub after: String,
    /// Why not, if it was refused.
    pub refused: Option<String>,
    /// So many times in a row, within a minute; more than once only what was refused.
    pub times: u64,
}

/// The list. Cheap to clone; one per process.
#[derive(Debug, Clone, Default)]
pub struct Audit(Arc<Mutex<List>>);

#[derive(Debug, Default)]
struct List {
    entries: VecDeque<Entry>,
    /// Of them.
    refused: usize,
    /// Refusals of this minute since 1970.
    minute: (u64, u32),
}

impl Audit {
    /// Logs it and keeps it. A refusal like the one before is only counted, and others are logged so often and no more, so
    /// that nobody can fill the log with them.
    pub fn note(&self, deed: Deed) {
        let entry = Entry {
            at: unix_now(),
            who: deed.who.to_string(),
            what: short(&deed.what),
            upstream: short(&deed.upstream),
            server: short(&deed.server),
            before: deed.before,
            after: deed.after,
            refused: deed.refused,
            times: 1,
        };
        let mut list = self.list();
        if let Some(last) = list.entries.back_mut()
            && last.is_again(&entry, &deed.who)
        {
            last.times += 1;
            return;
        }
        list.log(&entry);
        list.keep(entry);
    }

    /// The last changes, oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        self.list().entries.iter().cloned().collect()
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    fn log(&mut self, entry: &Entry) {
        let minute = entry.at / 60;
        if entry.refused.is_some() {
            if self.minute.0 != minute {
                self.minute = (minute, 0);
            }
            self.minute.1 = self.minute.1.saturating_add(1);
            if self.minute.1 == LOGGED {
                tracing::warn!(target: "audit", "many changes are refused; further ones are not logged in this minute");
            }
            if self.minute.1 >= LOGGED {
                return;
            }
        }
        entry.log();
    }

    fn keep(&mut self, entry: Entry) {
        let oldest = match entry.refused {
            Some(_) if self.refused >= REFUSED => {
                self.entries.iter().position(|e| e.refused.is_some())
            }
            _ => (self.entries.len() >= KEPT).then_some(0),
        };
        let gone = oldest.and_then(|at| self.entries.remove(at));
        self.refused -= usize::from(gone.is_some_and(|e| e.refused.is_some()));
        self.refused += usize::from(entry.refused.is_some());
        self.entries.push_back(entry);
    }
}

impl Entry {
    /// The same refusal within a minute; another port or process is nobody else.
    fn is_again(&self, next: &Self, who: &Who) -> bool {
        let same_one = match who {
            Who::Tcp(address) => self.who.starts_with(&format!("{}:", host(address))),
            Who::Unix { uid, .. } => self
                .who
                .strip_prefix(&format!("uid {uid}"))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')),
            Who::Clock => false,
        };
        let what = (&self.what, &self.upstream, &self.server, &self.refused);
        same_one
            && next.refused.is_some()
            && what == (&next.what, &next.upstream, &next.server, &next.refused)
            && next.at.saturating_sub(self.at) < 60
    }

    fn log(&self) {
        let (who, what) = (&self.who, &self.what);
        let (upstream, server) = (&self.upstream, &self.server);
        let (before, after) = (&self.before, &self.after);
        match &self.refused {
            None => {
                tracing::info!(target: "audit", who, what, upstream, server, before, after, "changed");
            }
            Some(why) => {
                tracing::warn!(target: "audit", who, what, upstream, server, why, "change refused");
            }
        }
    }
}

fn host(address: &SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    }
}

fn short(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deed(port: u16, refused: Option<&str>) -> Deed {
        Deed {
            who: Who::Tcp(([127, 0, 0, 1], port).into()),
            what: "PATCH".to_owned(),
            upstream: "api".to_owned(),
            server: "a:80".to_owned(),
            before: "ready".to_owned(),
            after: "drain".to_owned(),
            refused: refused.map(str::to_owned),
        }
    }

    #[test]
    fn refusals_in_a_row_are_one_entry_and_changes_are_not() {
        let audit = Audit::default();
        for port in 0..100 {
            audit.note(deed(port, Some("no token")));
        }
        audit.note(deed(1, None));
        audit.note(deed(1, None));
        let times: Vec<u64> = audit.entries().iter().map(|e| e.times).collect();
        assert_eq!(times, [100, 1, 1]);
    }

    #[test]
    fn another_user_is_somebody_else() {
        let audit = Audit::default();
        for uid in [10, 1, 1] {
            let mut deed = deed(1, Some("no such server"));
            deed.who = Who::Unix {
                uid,
                pid: Some(uid.cast_signed() * 7),
            };
            audit.note(deed);
        }
        let entries = audit.entries();
        let who: Vec<_> = entries.iter().map(|e| (&*e.who, e.times)).collect();
        assert_eq!(who, [("uid 10 (pid 70)", 1), ("uid 1 (pid 7)", 2)]);
    }

    #[test]
    fn who_may_do_nothing_cannot_push_out_what_was_done() {
        let audit = Audit::default();
        audit.note(deed(1, None));
        for n in 0..10 * KEPT {
            let mut deed = deed(1, Some("no token"));
            deed.what = format!("POST /{n}");
            audit.note(deed);
        }
        let entries = audit.entries();
        assert_eq!(entries.len(), 1 + REFUSED);
        assert_eq!(entries[0].refused, None);
        assert_eq!(entries[REFUSED].what, format!("POST /{}", 10 * KEPT - 1));
        for _ in 0..KEPT {
            audit.note(deed(1, None));
        }
        assert_eq!(audit.entries().len(), KEPT);
        audit.note(deed(1, Some("no token")));
        assert_eq!(audit.entries().len(), KEPT);
    }

    #[test]
    fn the_list_is_bounded_and_so_is_what_a_client_chose() {
        let audit = Audit::default();
        for n in 0..KEPT + 10 {
            let mut deed = deed(1, None);
            deed.server = format!("{n} {}", "x".repeat(10_000));
            audit.note(deed);
        }
        let entries = audit.entries();
        assert_eq!(entries.len(), KEPT);
        assert!(entries.iter().all(|e| e.server.len() <= LONGEST));
        assert!(entries[0].server.starts_with("10 "));
    }
}
