//! An origin with a proxy in front of it.

use super::attack::Client;
use super::origin::{Origin, Personality, Seen};
use super::proxy::Proxy;

/// One origin, one proxy.
pub struct Rig {
    /// The proxy; listed first so that it stops before its origin does.
    pub proxy: Proxy,
    /// The origin.
    pub origin: Origin,
}

impl Rig {
    /// `site "*"` that passes everything to the origin.
    #[track_caller]
    pub fn plain() -> Self {
        Self::of("", "proxy \"u\"")
    }

    /// With this inside `listen` and this inside `site "*"`; the upstream is called `u`.
    #[track_caller]
    pub fn of(listen: &str, site: &str) -> Self {
        Self::full(Origin::start(), listen, "", site)
    }

    /// With this inside `upstream "u"` beside its server, too.
    #[track_caller]
    pub fn full(origin: Origin, listen: &str, upstream: &str, site: &str) -> Self {
        let proxy = Proxy::start(&Self::text(&origin, listen, upstream, site));
        Self { proxy, origin }
    }

    /// With an origin of this personality.
    #[track_caller]
    pub fn with_personality(p: Personality) -> Self {
        Self::full(Origin::named("o", p), "", "", "proxy \"u\"")
    }

    /// The configuration text for an origin.
    pub fn text(origin: &Origin, listen: &str, upstream: &str, site: &str) -> String {
        Proxy::config(
            listen,
            &format!(
                "upstream \"u\" {{\n server \"{}\"\n {upstream}\n}}\nsite \"*\" {{\n{site}\n}}",
                origin.place()
            ),
        )
    }

    /// A new connection to the proxy.
    pub fn connect(&self) -> Client {
        self.proxy.connect()
    }

    /// A plain request, answered 200 by the origin: the proxy still lives and nothing foreign is in the way.
    #[track_caller]
    pub fn alive(&self) {
        let id = super::table::fresh_id();
        let r = self.connect().ask(format!(
            "GET /alive HTTP/1.1\r\nHost: a\r\nX-Id: {id}\r\nConnection: close\r\n\r\n"
        ));
        assert_eq!(
            (r.status, r.fields.get("x-id")),
            (200, Some(id)),
            "the victim's answer: {}",
            r.text()
        );
    }

    /// The only request that the origin saw since the last call.
    #[track_caller]
    pub fn one(&self) -> Seen {
        let mut seen = self.origin.take(1);
        assert_eq!(seen.len(), 1, "the origin saw {seen:#?}");
        seen.remove(0)
    }
}
