//! Fields of a request that change an origin's answer and are in no key (CA-02, CA-06).
//!
//! Frameworks and appliances take the target, the method or the host from fields that nobody keeps in mind. What a client says of
//! itself in those that carry addresses and forwarding is not passed on at all; these are, for the origin may want them. So a
//! request with one of them is passed, and its answer is nobody else's. Addresses that a CDN before us puts into every request
//! (`CF-Connecting-IP` and its like) are not among them: whoever lets an origin write these into pages puts them into the key.

use narthex_config::model::CacheKey;
use narthex_message::{FieldId, Head};

use crate::handle::Exchange;

/// In lower case, in order.
const UNKEYED: &[&str] = &[
    "base-url",
    "destination",
    "front-end-https",
    "http-host",
    "proxy-host",
    "proxy-url",
    "redirect",
    "referer-host",
    "request-uri",
    "uri",
    "url",
    "x-amz-website-redirect-location",
    "x-amzn-cdn-path",
    "x-backend",
    "x-backend-host",
    "x-base-url",
    "x-cache-key",
    "x-cdn-host",
    "x-client-host",
    "x-config",
    "x-context-path",
    "x-custom-ip-authorization",
    "x-debug",
    "x-debug-token",
    "x-destination",
    "x-dev",
    "x-dns-host",
    "x-domain",
    "x-edge-location",
    "x-endpoint",
    "x-env",
    "x-forward-for",
    "x-forward-host",
    "x-forward-proto",
    "x-forwarded",
    "x-forwarded-base-url",
    "x-forwarded-by",
    "x-forwarded-context",
    "x-forwarded-method",
    "x-forwarded-path",
    "x-forwarded-protocol",
    "x-forwarded-request-uri",
    "x-forwarded-root",
    "x-forwarded-url",
    "x-forwarder-for",
    "x-frontend-scheme",
    "x-gateway-host",
    "x-host",
    "x-host-override",
    "x-hostname",
    "x-http-destinationurl",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-http-path-override",
    "x-ingress-host",
    "x-internal",
    "x-location",
    "x-method-override",
    "x-middleware-prefetch",
    "x-middleware-rewrite",
    "x-middleware-subrequest",
    "x-origin-host",
    "x-original-host",
    "x-original-method",
    "x-original-path",
    "x-original-scheme",
    "x-original-uri",
    "x-originating-ip",
    "x-override-url",
    "x-path",
    "x-prefix",
    "x-proto",
    "x-proxy-host",
    "x-proxy-url",
    "x-proxyuser-ip",
    "x-redirect",
    "x-remote-addr",
    "x-remote-ip",
    "x-request-uri",
    "x-requested-path",
    "x-rewrite-path",
    "x-rewrite-uri",
    "x-root",
    "x-route",
    "x-scheme",
    "x-script-name",
    "x-server-name",
    "x-site-url",
    "x-template",
    "x-theme",
    "x-true-ip",
    "x-upstream",
    "x-upstream-host",
    "x-url",
    "x-url-scheme",
    "x-web-host",
    "x-wp-nonce",
];

/// Bytes of the longest of them.
const LONGEST: usize = 31;

impl Exchange<'_> {
    /// Does the request say more than its key?
    pub(super) fn has_unkeyed(&self) -> bool {
        self.cache_rule()
            .is_some_and(|rule| says_more(self.head(), &rule.key))
    }
}

fn says_more(request: Head<'_>, key: &CacheKey) -> bool {
    request
        .fields()
        .filter(|(id, name, _)| *id == FieldId::Other && is_unkeyed(name))
        .any(|(_, name, _)| {
            let is = |kept: &String| name.eq_ignore_ascii_case(kept.as_bytes());
            !key.headers.iter().any(is)
        })
}

fn is_unkeyed(name: &[u8]) -> bool {
    let mut lower = [0u8; LONGEST];
    let Some(lower) = lower.get_mut(..name.len()) else {
        return false;
    };
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    UNKEYED
        .binary_search_by(|known| known.as_bytes().cmp(lower))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_found() {
        for name in UNKEYED {
            assert!(is_unkeyed(name.as_bytes()), "{name}");
            assert!(is_unkeyed(name.to_ascii_uppercase().as_bytes()), "{name}");
            assert!(name.len() <= LONGEST);
        }
        for name in [
            "",
            "accept",
            "x-id",
            "x-hosts",
            "x-amz-website-redirect-locations",
        ] {
            assert!(!is_unkeyed(name.as_bytes()), "{name}");
        }
    }
}
