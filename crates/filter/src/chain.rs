//! The filters of one route, in order.

use std::fmt;

use narthex_config::model::{Filter, HeaderOp, IpSet};
use narthex_message::{Edits, path as message_path};

use crate::header::{self, Side};
use crate::path::PathStep;
use crate::template::View;
use crate::values::Values;

/// The filters of one route, built once. Clone it for each core: regular expressions then share no scratch memory.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    request: Vec<RequestStep>,
    /// In the order they run, which is the reverse of the written one.
    response: Vec<Vec<HeaderOp>>,
    prefixes: Prefixes,
}

/// What a chain takes from the front of a path and puts there.
#[derive(Debug, Clone, Default)]
struct Prefixes {
    public: String,
    upstream: String,
    /// A rewrite that can't be read backwards.
    opaque: bool,
}

impl Prefixes {
    fn follow(&mut self, filter: &Filter) {
        match filter {
            Filter::StripPrefix(prefix) if self.upstream.is_empty() => {
                self.public.push_str(prefix.trim_end_matches('/'));
            }
            // Takes back what was added before, whole segments of it, or nothing.
            Filter::StripPrefix(prefix) => {
                if let Some(rest) = message_path::strip_prefix(&self.upstream, prefix) {
                    self.upstream = rest.trim_end_matches('/').to_owned();
                }
            }
            Filter::AddPrefix(prefix) => {
                self.upstream.insert_str(0, prefix.trim_end_matches('/'));
            }
            Filter::Rewrite(_) | Filter::RewriteRegex { .. } => self.opaque = true,
            _ => {}
        }
    }
}

/// A filter on the way in.
#[derive(Debug, Clone)]
enum RequestStep {
    Headers(Vec<HeaderOp>),
    Allow(IpSet),
    Deny(IpSet),
    Path(PathStep),
}

/// The current path and query as filters have left them; `None` is unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Canonical path.
    pub path: Option<String>,
    /// Query without `?`; the inner `None` is "no query".
    pub query: Option<Option<Vec<u8>>>,
}

/// What becomes of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Continue,
    /// The client's address may not pass: 403.
    Refused,
    /// A rewrite made something that is no canonical path or no query: 500.
    Broken,
}

/// Why a chain can't be built. The configuration has checked for this, so it is our fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildError {
    /// Index of the filter, from 0.
    pub filter: usize,
    /// What is wrong and what to do.
    pub reason: String,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "filter {}: {}", self.filter + 1, self.reason)
    }
}

impl std::error::Error for BuildError {}

impl Target {
    /// What `new` changes is changed.
    fn merge(&mut self, new: Self) {
        if new.path.is_some() {
            self.path = new.path;
        }
        if new.query.is_some() {
            self.query = new.query;
        }
    }
}

impl RequestStep {
    /// `None` for a filter on the response.
    fn build(filter: &Filter) -> Result<Option<Self>, String> {
        Ok(Some(match filter {
            Filter::RequestHeaders(ops) => Self::Headers(header::checked(ops, Side::Request)),
            Filter::ResponseHeaders(_) => return Ok(None),
            Filter::StripPrefix(prefix) => Self::Path(PathStep::Strip(prefix.clone())),
            Filter::AddPrefix(prefix) => Self::Path(PathStep::Add(prefix.clone())),
            Filter::Rewrite(template) => Self::Path(PathStep::rewrite(template)?),
            Filter::RewriteRegex { pattern, with } => Self::Path(PathStep::regex(pattern, with)?),
            Filter::Allow(set) => Self::Allow(set.clone()),
            Filter::Deny(set) => Self::Deny(set.clone()),
        }))
    }
}

impl Chain {
    /// Checks and compiles the filters of a route, in written order.
    pub fn build(filters: &[Filter]) -> Result<Self, BuildError> {
        let mut chain = Self::default();
        for (filter, written) in filters.iter().enumerate() {
            chain.prefixes.follow(written);
            if let Filter::ResponseHeaders(ops) = written {
                chain.response.push(header::checked(ops, Side::Response));
            } else if let Some(step) =
                RequestStep::build(written).map_err(|reason| BuildError { filter, reason })?
            {
                chain.request.push(step);
            }
        }
        chain.response.reverse();
        Ok(chain)
    }

    /// What it strips from the front of a path and what it adds there: [`crate::UrlMap::public_prefix`] and
    /// [`crate::UrlMap::upstream_prefix`]. Both empty behind a `rewrite`, which can't be read backwards.
    pub fn prefixes(&self) -> (&str, &str) {
        if self.prefixes.opaque {
            return ("", "");
        }
        (&self.prefixes.public, &self.prefixes.upstream)
    }

    /// Does it do nothing?
    pub fn is_empty(&self) -> bool {
        !self.has_request() && !self.has_response()
    }

    /// Does it do something to a request?
    pub fn has_request(&self) -> bool {
        !self.request.is_empty()
    }

    /// Does it do something to a response?
    pub fn has_response(&self) -> bool {
        !self.response.is_empty()
    }

    /// Runs the filters on a request, in written order. Each sees the headers, path and query that those before it left.
    pub fn request(&self, values: &Values<'_>, edits: &mut Edits, target: &mut Target) -> Verdict {
        for step in &self.request {
            let mut view = View::of(values);
            if let Some(path) = &target.path {
                view.path = path;
            }
            if let Some(query) = &target.query {
                view.query = query.as_deref();
            }
            match step {
                RequestStep::Headers(ops) => header::apply(ops, Side::Request, &view, edits),
                RequestStep::Allow(set) if !values.client_ip.is_some_and(|ip| set.contains(ip)) => {
                    return Verdict::Refused;
                }
                RequestStep::Deny(set) if values.client_ip.is_some_and(|ip| set.contains(ip)) => {
                    return Verdict::Refused;
                }
                RequestStep::Allow(_) | RequestStep::Deny(_) => {}
                RequestStep::Path(step) => {
                    view.request = view.request.map(|(head, _)| (head, &*edits));
                    match step.apply(&view) {
                        Ok(new) => target.merge(new),
                        Err(_) => return Verdict::Broken,
                    }
                }
            }
        }
        Verdict::Continue
    }

    /// Runs the filters on a response, in reverse order; the operations of one filter run as written.
    pub fn response(&self, values: &Values<'_>, edits: &mut Edits) {
        for ops in &self.response {
            header::apply(ops, Side::Response, &View::of(values), edits);
        }
    }
}

#[cfg(test)]
mod tests;
