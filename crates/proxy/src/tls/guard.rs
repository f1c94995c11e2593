//! Which site may be asked over which connection (TL-02).
//!
//! A handshake was judged by the policy of the name that it asked for; a request names whom it likes. Both must have agreed
//! on the same demands, or the answer is 421 and the connection ends.

use narthex_net::tls::PolicyId;
use narthex_net::tls::server::Policy;

use crate::handle::Exchange;

/// What a policy demands of a connection, protocols inside left out: those may change while a connection lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Guard {
    id: PolicyId,
    asks_clients: bool,
}

impl Guard {
    /// The demands of a policy.
    pub(crate) fn of(policy: &Policy) -> Self {
        let bare = Policy {
            alpn: Vec::new(),
            ..policy.clone()
        };
        Self {
            id: bare.id(),
            asks_clients: policy.asks_clients(),
        }
    }

    /// May a site with the demands `self` be asked over a connection whose handshake met `met`? `same_site`: the
    /// handshake's name is the site's own. With client certificates it must be: a certificate that was shown to one site was not
    /// shown to the other.
    pub(crate) fn is_met_by(self, met: Self, same_site: impl FnOnce() -> bool) -> bool {
        self.id == met.id && (!self.asks_clients || same_site())
    }
}

impl Exchange<'_> {
    /// May this site be asked over the connection that the request came on?
    pub(crate) fn may_ask(&self, site: usize) -> bool {
        let Some(session) = &self.client.tls else {
            return !self.requires_certificate(site);
        };
        let tls = self.rt.runtime.tls.listener(self.listener);
        let demands = tls.and_then(|tls| tls.demands(site));
        let (Some(demands), Some(met)) = (demands, session.met) else {
            return false;
        };
        demands.is_met_by(met, || {
            let asked = session.sni.as_deref().unwrap_or_default();
            self.rt.router.site(self.listener, asked) == Some(site)
        })
    }

    fn requires_certificate(&self, site: usize) -> bool {
        let site = self.rt.runtime.config.sites.get(site);
        site.and_then(|s| s.tls.as_ref()?.client.as_ref())
            .is_some_and(|client| client.required)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use narthex_net::tls::server::Profile;

    #[test]
    fn versions_are_demands_and_protocols_are_not() {
        let old = Policy::default();
        let modern = Policy {
            profile: Profile::Modern,
            ..Policy::default()
        };
        let h2 = Policy {
            alpn: vec![b"h2".to_vec()],
            ..Policy::default()
        };
        let (old, modern, h2) = (Guard::of(&old), Guard::of(&modern), Guard::of(&h2));
        assert!(old.is_met_by(h2, || false));
        assert!(!old.is_met_by(modern, || true));
        assert!(!modern.is_met_by(old, || true));
    }

    #[test]
    fn a_client_certificate_is_for_its_own_site() {
        let guard = Guard {
            asks_clients: true,
            ..Guard::of(&Policy::default())
        };
        assert!(guard.is_met_by(guard, || true));
        assert!(!guard.is_met_by(guard, || false));
    }
}
