//! One host, one site (per listener).

use std::collections::HashMap;

use crate::lower::address::host_text;
use crate::model::HostPattern;
use crate::source::Span;

use super::Problems;

/// Hosts so far.
#[derive(Debug, Default)]
pub struct Hosts {
    seen: HashMap<HostPattern, Vec<(Vec<usize>, Span)>>,
}

impl Hosts {
    /// Adds a site's host. `listeners`: empty is all of them.
    pub fn add(
        &mut self,
        problems: &mut Problems,
        host: &HostPattern,
        listeners: &[usize],
        span: Span,
    ) {
        let others = self.seen.entry(host.clone()).or_default();
        let clash = others.iter().find(|(theirs, _)| {
            theirs.is_empty()
                || listeners.is_empty()
                || theirs.iter().any(|l| listeners.binary_search(l).is_ok())
        });
        if let Some((_, first)) = clash {
            problems.error_at(
                "duplicate-host",
                span,
                format!("\"{}\" belongs to another site already", host_text(host)),
                "put the routes into one site, or give the sites different listeners",
                (*first, "the other site"),
            );
            return;
        }
        others.push((listeners.to_vec(), span));
    }
}
