//! Where requests go: upstreams, their servers, and the connections to them.
//!
//! Two halves. The *shared* half ([`Fleet`], [`Cluster`], [`Endpoint`]) is one per process, outlives every reload and is
//! keyed by identity: the upstream's name and the server's address. It holds what is true for the whole process: health,
//! passive marking, the number of sockets, counters with one writer per core. The *core* half ([`CoreFleet`],
//! [`CoreCluster`], [`Lease`]) is one per core and never leaves it: the choice of a server, the idle connections, the
//! retry budget.
//!
//! A plain request reads shared memory and writes only its own core's cache lines. Shared counters are written when a
//! connection is opened or closed, locks are taken when something fails or when a limit is reached.

pub mod adaptive;
pub mod balance;
pub mod breaker;
pub mod budget;
mod clock;
pub mod cluster;
pub mod discover;
mod encryption;
pub mod endpoint;
pub mod fleet;
pub mod gate;
pub mod health;
pub mod local;
pub mod outliers;
pub mod state;
pub mod tag;
#[cfg(test)]
mod testkit;
pub mod wish;

pub use crate::clock::monotonic_ms;
pub use crate::cluster::change::ChangeError;
pub use crate::cluster::overlay::{
    Drift, Edit, Edited, Overlay, Refusal, SavedChanges, word as order_word,
};
pub use crate::cluster::{
    Cluster, ClusterStatus, FoundLimit, Member, Milliseconds, ServerSet, Settings, SourceStatus,
};
pub use crate::discover::{Discovery, NameServers};
pub use crate::encryption::Encryption;
pub use crate::endpoint::{Endpoint, EndpointStatus, Report, State};
pub use crate::fleet::Fleet;
pub use crate::gate::QueueFigures;
pub use crate::health::{run_checks, run_outliers};
pub use crate::local::{
    Admission, ConnectError, ConnectErrorKind, Connection, CoreCluster, CoreFleet, Lease, NoHedge,
    PickError, Reserved, ServerHandle, UpstreamStream,
};
pub use crate::state::{FleetCounts, FleetState};
pub use crate::wish::{Tag, Tried, Wish};
