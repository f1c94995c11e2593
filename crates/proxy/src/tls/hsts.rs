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
        if let Some(value) = self.hsts() {
            edits.set("Strict-Transport-Security", value.as_bytes());
        }
    }

    /// `Strict-Transport-Security` for this client, if the site sends it.
    pub(crate) fn hsts(&self) -> Option<&str> {
        if !self.identity.https {
            return None;
        }
        let site = self.site.and_then(|s| self.rt.runtime.sites.get(s));
        site.and_then(|s| s.hsts.as_deref())
    }
}
