//! What a handshake is judged by: which policy and which certificate for which name.

pub mod certificates;
mod compress;
pub mod identity;
pub(crate) mod load;
pub mod policy;

use std::collections::HashSet;
use std::sync::Arc;

use rustls::ServerConfig;

use super::challenges::Challenges;
use super::names::Names;
use super::on_demand::Desk;
use super::problem::{Problem, ProblemKind};
use super::tickets::TicketKeys;
use crate::rt::wall_ms;
pub use certificates::{Bundle, Certificate, Certificates, Expiry, KeyKind};
pub use identity::ClientIdentity;
pub use load::CertificateFiles;
pub use policy::{ClientAuth, ClientCa, Policy, PolicyId, Profile};

/// Handshakes that may be under way on one core, unless it is set otherwise.
pub const PENDING: usize = 256;
/// Time for a handshake, in milliseconds, unless it is set otherwise.
pub const HANDSHAKE_MS: u64 = 10_000;

/// What happens to a name that no site has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum UnknownName {
    /// The alert `unrecognized_name`.
    #[default]
    Refuse,
    /// The default policy and the default certificate.
    Default,
}

/// What [`ServerTls`] is made from.
pub struct ServerTlsParts {
    /// Names and wildcards (`a.example`, `*.example`: of any number of labels, as for sites) and the policy of each.
    pub policies: Vec<(String, Policy)>,
    /// For handshakes without a name; with [`UnknownName::Default`] also for names that no site has. Without one such
    /// handshakes are refused.
    pub default: Option<Policy>,
    /// What happens to a name that no site has.
    pub unknown_name: UnknownName,
    /// The certificates, shared by all listeners.
    pub certificates: Arc<Certificates>,
    /// The keys of session tickets, shared by the process.
    pub tickets: Arc<TicketKeys>,
    /// What certificate authorities ask for.
    pub challenges: Arc<Challenges>,
    /// Handshakes that may be under way on one core ([`PENDING`]).
    pub pending: usize,
    /// Names whose certificates come while handshakes wait.
    pub on_demand: Option<OnDemand>,
}

/// Certificates at the first handshake.
#[derive(Debug)]
pub struct OnDemand {
    /// Who is asked for them.
    pub desk: Arc<Desk>,
    /// For which names: those of [`ServerTlsParts::policies`], as they are written there. The others have theirs, or have none.
    pub names: HashSet<String>,
    /// Also for every other name, which is then not unknown: it gets the default policy.
    pub any: bool,
}

/// A listener's side of TLS, ready for handshakes. Shared by all cores; never changed, only replaced. Certificates are
/// exchanged below it, in [`Certificates`].
#[derive(Debug)]
pub struct ServerTls {
    policies: Names<(Arc<Ready>, bool)>,
    default: Option<Arc<Ready>>,
    unknown_name: UnknownName,
    pub(super) certificates: Arc<Certificates>,
    pub(super) challenges: Arc<Challenges>,
    pub(super) pending: usize,
    pub(super) on_demand: Option<OnDemand>,
}

/// A policy, ready for handshakes.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) id: PolicyId,
    pub(super) config: Arc<ServerConfig>,
}

impl ServerTls {
    /// Makes what handshakes need. Equal policies share one rustls configuration.
    pub fn new(parts: ServerTlsParts) -> Result<Self, Problem> {
        let mut made: Vec<Arc<Ready>> = Vec::new();
        let mut make = |policy: &Policy| -> Result<Arc<Ready>, Problem> {
            let id = policy.id();
            if let Some(ready) = made.iter().find(|ready| ready.id == id) {
                return Ok(Arc::clone(ready));
            }
            let ready = Arc::new(Ready {
                id,
                config: policy.server_config(&parts.certificates, &parts.tickets)?,
            });
            made.push(Arc::clone(&ready));
            Ok(ready)
        };
        let mut policies = Names::default();
        for (name, policy) in &parts.policies {
            let ready = make(policy)?;
            let comes = parts.on_demand.as_ref();
            let comes = comes.is_some_and(|on_demand| on_demand.names.contains(name));
            if let Some((before, _)) = policies.insert(name, (Arc::clone(&ready), comes))
                && before.id != ready.id
            {
                return Err(Problem::new(
                    None,
                    ProblemKind::Unusable,
                    format!("{name} has two TLS policies on one listener"),
                    "give the name one site, or both sites the same `tls` block",
                ));
            }
        }
        let default = parts.default.as_ref().map(&mut make).transpose()?;
        Ok(Self {
            policies,
            default,
            unknown_name: parts.unknown_name,
            certificates: parts.certificates,
            challenges: parts.challenges,
            pending: parts.pending.max(1),
            on_demand: parts.on_demand,
        })
    }

    /// The policy that a handshake with this name gets, `None` if it is refused. The name of a `Host`, canonical (lower
    /// case, no dot at the end), may be asked for too: TL-02.
    pub fn policy_of(&self, name: Option<&str>) -> Option<PolicyId> {
        self.ready_for(name).map(|ready| ready.id)
    }

    /// Does a site have this name, or a wildcard for it?
    pub(super) fn knows(&self, name: &str) -> bool {
        self.policies.find(name).is_some()
    }

    pub(super) fn ready_for(&self, name: Option<&str>) -> Option<&Arc<Ready>> {
        let Some(name) = name else {
            return self.default.as_ref();
        };
        if let Some((ready, _)) = self.policies.find(name) {
            return Some(ready);
        }
        let any = self.on_demand.as_ref().is_some_and(|o| o.any);
        match self.unknown_name {
            UnknownName::Refuse if !any => None,
            UnknownName::Refuse | UnknownName::Default => self.default.as_ref(),
        }
    }

    /// Does this name get its certificate while handshakes wait, and has none yet? If it has one, its use is noted.
    pub(super) fn comes_on_demand(&self, name: Option<&str>) -> bool {
        let (Some(name), Some(on_demand)) = (name, &self.on_demand) else {
            return false;
        };
        let comes = match self.policies.find(name) {
            Some((_, comes)) => *comes,
            None => on_demand.any,
        };
        comes && !self.certificates.note_use(name, wall_ms() / 1_000)
    }
}
