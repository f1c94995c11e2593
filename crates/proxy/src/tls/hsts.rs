//! `Strict-Transport-Security` (RFC 6797), on every answer that goes out over HTTPS.

use std::fmt::Write as _;

use narthex_config::model::Hsts;
use narthex_message::Edits;

use crate::handle::Exchange;

/// The field's value.
pub(crate) fn value(hsts: &Hsts) -> String {
    let mut text = format!("max-age={}", hsts.max_age.as_secs());
    for (on, word) in [
        (hsts.subdomains, "includeSubDomains"),
        (hsts.preload, "preload"),
    ] {
        if on {
            let _ = write!(text, "; {word}");
        }
    }
    text
}

impl Exchange<'_> {
    /// Adds it, where the site has it and the client came by HTTPS: without, a browser must not believe it.
    pub(crate) fn add_hsts(&self, edits: &mut Edits) {
        if !self.identity.https {
            return;
        }
        let site = self.site.and_then(|s| self.rt.runtime.sites.get(s));
        if let Some(value) = site.and_then(|s| s.hsts.as_ref()) {
            edits.set("Strict-Transport-Security", value.as_bytes());
        }
    }
}
