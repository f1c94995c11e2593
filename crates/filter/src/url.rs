//! Writing URLs piece by piece. Each piece is encoded for the place where it lands, so that it can't become another
//! part of the URL: a value never ends a host, starts a query or adds a parameter.

/// Where the next byte lands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nothing decides yet: the beginning, or a scheme.
    Start,
    /// After `scheme://`.
    Authority,
    /// In the path.
    Path,
    /// After `?`.
    Query,
    /// After `#`.
    Fragment,
}
