//! `Location`, `Content-Location`, `Refresh` and `Set-Cookie` of a response: what names the origin is rewritten.

use narthex_message::{Edits, Head};

/// By which names the origin may call itself, and what the client knows it as.
#[derive(Debug, Clone, Copy)]
pub struct UrlMap<'a> {
    /// Names and addresses, with and without port, by which the origin may call itself; the `Host` sent to it too.
    pub server_hosts: &'a [&'a str],
    /// `http` or `https`, as the client speaks it.
    pub public_scheme: &'a str,
    /// Host and port as the client asked.
    pub public_authority: &'a str,
    /// What `strip-prefix` removed; empty if nothing.
    pub public_prefix: &'a str,
    /// What `add-prefix` added; empty if nothing.
    pub upstream_prefix: &'a str,
}

/// Rewrites what in the response names the origin.
pub fn rewrite_urls(head: Head<'_>, edits: &mut Edits, map: &UrlMap<'_>) {
    let _ = (head, edits, map);
}
