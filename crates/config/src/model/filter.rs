//! A filter: one step on a request or response. A closed set, matched exhaustively.

use serde::Serialize;

use super::{IpSet, Template};

/// One step.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub enum Filter {
    /// Header operations on the request sent upstream.
    RequestHeaders(Vec<HeaderOp>),
    /// Header operations on the response sent to the client.
    ResponseHeaders(Vec<HeaderOp>),
    /// Remove this prefix (segment-wise, canonical) from the path; a path that lacks it is left alone.
    StripPrefix(String),
    /// Put this before the path.
    AddPrefix(String),
    /// Replace the path (and query, if the template has `?`).
    Rewrite(Template),
    /// Replace matches of a regex in the path.
    RewriteRegex {
        /// Linear-time regular expression on the canonical path.
        pattern: String,
        /// `$1`, `$name` as in the `regex` crate.
        with: String,
    },
    /// Only these client addresses pass; others get 403.
    Allow(IpSet),
    /// These client addresses get 403.
    Deny(IpSet),
}

/// One header operation.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct HeaderOp {
    /// What.
    pub action: HeaderAction,
    /// Field name as written (a valid token, not a framing or hop-by-hop name).
    pub name: String,
    /// Value; empty for `Remove`.
    pub value: Template,
}

/// What is done to a header.
#[derive(Debug, Clone, Copy, Serialize, PartialEq, Eq)]
pub enum HeaderAction {
    /// Replace all, or add.
    Set,
    /// Add one more line.
    Add,
    /// Remove all.
    Remove,
    /// Set only if absent.
    Default,
}
