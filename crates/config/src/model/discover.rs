//! Where an upstream's servers are learnt from, beside those that are written.

use std::path::PathBuf;

use serde::Serialize;

use super::{Secret, ServerAddress};

/// A source of servers.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub enum Discover {
    /// A file that is watched: `server` lines (KDL), or a JSON array.
    File {
        /// Where; `.json` is JSON.
        path: PathBuf,
    },
    /// Containers of a Docker engine that carry the label `narthex.upstream=SERVICE`.
    Docker {
        /// The engine's unix socket; `/var/run/docker.sock`.
        socket: PathBuf,
        /// Value of the label; the upstream's name by default.
        service: String,
        /// Network whose address is used; without it a container must be in one only.
        network: Option<String>,
        /// Port, where a container has no label `narthex.port`; without both it must expose one only.
        port: Option<u16>,
    },
    /// A service of a Consul catalogue; its passing instances.
    Consul {
        /// The agent's HTTP API; `127.0.0.1:8500`.
        address: ServerAddress,
        /// Name of the service; the upstream's name by default.
        service: String,
        /// An instance must have this tag.
        tag: Option<String>,
        /// Instead of the agent's own.
        datacenter: Option<String>,
        /// ACL token.
        token: Option<Secret>,
    },
    /// The keys below a prefix in etcd.
    Etcd {
        /// The JSON gateway of a member; `127.0.0.1:2379`.
        address: ServerAddress,
        /// Prefix; each key below it is a server.
        prefix: String,
        /// User and password.
        login: Option<(String, Secret)>,
    },
}

impl Discover {
    /// The source's word in the language, in logs and in metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Docker { .. } => "docker",
            Self::Consul { .. } => "consul",
            Self::Etcd { .. } => "etcd",
        }
    }
}
