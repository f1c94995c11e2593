//! Where a request belongs: the key of a hash, the server that its cookie names.

use narthex_upstream::{CoreCluster, Lease, Tag};

use crate::handle::Exchange;

/// Where a request belongs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Affinity {
    /// What a hash chooses by.
    pub(crate) key: Option<u64>,
    /// The server that its cookie names.
    pub(crate) tag: Option<Tag>,
}

impl Exchange<'_> {
    /// Where the request belongs among the servers of this upstream.
    #[allow(clippy::unused_self)]
    pub(crate) fn affinity(&self, _cluster: &CoreCluster) -> Affinity {
        Affinity::default()
    }

    /// A server was chosen: its cookie is set, if the client has not this one already.
    #[allow(clippy::unused_self)]
    pub(crate) fn chosen(&mut self, _lease: &Lease, _affinity: &Affinity) {}
}
