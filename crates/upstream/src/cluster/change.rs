//! Changes by the operator, taken while requests run.

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
            servers, overlay, ..
        } = &mut *source;
        let before = overlay.clone();
        let known = Known {
            servers,
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
        self.source().overlay.save()
    }

    /// Takes over what another process was told; what the configuration says by now itself is no change any more.
    pub fn restore_changes(&self, saved: &SavedChanges) {
        let mut source = self.source();
        let Source {
            servers, overlay, ..
        } = &mut *source;
        let mut restored = Overlay::restore(saved);
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
