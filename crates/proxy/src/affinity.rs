//! Where a request belongs: the key of a hash, the server that its cookie names; and the cookie of a client that has none.

use narthex_config::model::{Balance, SameSite, Secure, Sticky};
use narthex_message::{FieldId, cookie};
use narthex_net::rt;
use narthex_upstream::balance::ring;
use narthex_upstream::{CoreCluster, Lease, Tag};

use crate::handle::Exchange;

/// Cookies of one name that are looked at.
const COOKIES: usize = 8;

/// Where a request belongs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Affinity {
    /// What a hash chooses by.
    pub(crate) key: Option<u64>,
    /// The server that its cookie names.
    pub(crate) tag: Option<Tag>,
    /// The upstream has cookies.
    sticky: bool,
    /// Half of the cookie's time is over.
    renew: bool,
}

impl Exchange<'_> {
    /// Where the request belongs among the servers of this upstream.
    #[inline]
    pub(crate) fn affinity(&self, cluster: &CoreCluster) -> Affinity {
        if cluster.is_plain() {
            return Affinity::default();
        }
        self.affinity_to(cluster)
    }

    #[inline(never)]
    fn affinity_to(&self, cluster: &CoreCluster) -> Affinity {
        let settings = cluster.settings();
        let mut affinity = Affinity::default();
        if let Balance::Hash(hash) = &settings.balance {
            let mut value = Vec::new();
            self.with_values(None, |values| {
                narthex_filter::template::render(&hash.by, values, &mut value);
            });
            affinity.key = (!value.is_empty()).then(|| ring::key(&value));
        }
        if let Some(sticky) = &settings.sticky {
            affinity.sticky = true;
            // As it came: a filter that takes it from the origin does not take it from us.
            let fields = self.head().all(FieldId::Cookie);
            // Another one of the name may come before ours: of another path, or forged to take ours away.
            let opened = fields
                .flat_map(|field| cookie::values(field, &sticky.cookie))
                .take(COOKIES)
                .find_map(|value| cluster.open(value, minutes()));
            if let Some(opened) = opened {
                affinity.tag = Some(opened.tag);
                affinity.renew = u64::from(opened.age) * 120 > sticky.ttl.as_secs();
            }
        }
        affinity
    }

    /// A server was chosen: its cookie is set, if the client has not this one already.
    #[inline]
    pub(crate) fn chosen(&mut self, cluster: &CoreCluster, lease: &Lease, affinity: &Affinity) {
        if affinity.sticky {
            self.give_cookie(cluster, lease, affinity);
        }
    }

    #[inline(never)]
    fn give_cookie(&mut self, cluster: &CoreCluster, lease: &Lease, affinity: &Affinity) {
        self.cookie = None;
        let (Some(sticky), Some((tag, value))) =
            (&lease.settings().sticky, cluster.seal(lease, minutes()))
        else {
            return;
        };
        if affinity.renew || affinity.tag != Some(tag) {
            self.cookie = Some(set_cookie(sticky, &value, self.identity.https).into_bytes());
        }
    }
}

/// The value of `Set-Cookie` (RFC 6265 4.1).
fn set_cookie(sticky: &Sticky, value: &str, https: bool) -> String {
    let same_site = match sticky.same_site {
        SameSite::Lax => "Lax",
        SameSite::Strict => "Strict",
        SameSite::None => "None",
    };
    let secure = match sticky.secure {
        Secure::Always => true,
        Secure::Never => false,
        Secure::Auto => https,
    };
    format!(
        "{}={value}; Path={}; Max-Age={}; HttpOnly; SameSite={same_site}{}",
        sticky.cookie,
        sticky.path,
        sticky.ttl.as_secs(),
        if secure { "; Secure" } else { "" }
    )
}

/// Since 1970.
fn minutes() -> u32 {
    u32::try_from(rt::wall_ms() / 60_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_says_what_is_configured() {
        let mut sticky = Sticky::new("s");
        assert_eq!(
            set_cookie(&sticky, "v", false),
            "s=v; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"
        );
        assert!(set_cookie(&sticky, "v", true).ends_with("; Secure"));
        sticky.secure = Secure::Never;
        sticky.same_site = SameSite::Strict;
        sticky.path = "/cart".to_owned();
        assert_eq!(
            set_cookie(&sticky, "v", true),
            "s=v; Path=/cart; Max-Age=86400; HttpOnly; SameSite=Strict"
        );
    }
}
