//! A site (one or more hosts) and its routes (a condition and what happens).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::{CacheRule, Filter, Hsts, IpSet, Origin, Priority, SiteTls, Template};

/// One or more hosts and their routes.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Site {
    /// First host as written; the name in logs and metrics.
    pub name: String,
    /// Hosts in canonical form.
    pub hosts: Vec<HostPattern>,
    /// Indices of [`super::Config::listeners`] this site answers on; empty means all.
    pub listeners: Vec<usize>,
    /// Routes in written order; first match wins. A site-level `proxy` is a last route that matches everything.
    pub routes: Vec<Route>,
    /// Index of the access log, if one is on.
    pub access_log: Option<usize>,
    /// `//` in a path is merged to `/`, for matching and forwarding alike.
    pub merge_slashes: bool,
    /// Pages instead of our own errors (and, with `intercept`, the origin's).
    pub error_pages: Vec<ErrorPage>,
    /// Its certificates and policy; `None`: it answers on no listener with TLS, or has no name to be certified.
    pub tls: Option<SiteTls>,
    /// `Strict-Transport-Security`, if it is sent.
    pub hsts: Option<Hsts>,
    /// Where it was written.
    pub origin: Origin,
}

/// A host of a site. Precedence: exact, longest wildcard, default.
#[derive(Debug, Clone, Serialize, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// `example.com`: lower case, no trailing dot, no port.
    Exact(String),
    /// `*.example.com`: one or more labels below; holds `example.com`.
    Wildcard(String),
    /// `*`.
    Any,
}

/// A condition and what happens.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Route {
    /// Name in logs, metrics and `explain`: written `name=`, else the path pattern as written, else `*`.
    pub name: String,
    /// When.
    pub matcher: Matcher,
    /// Listener's, then site's, then `use`d, then the route's own, in that order; responses run in reverse.
    pub filters: Vec<Filter>,
    /// What.
    pub action: Action,
    /// Everything that is not a step.
    pub settings: RouteSettings,
    /// Where it was written.
    pub origin: Origin,
}

/// All parts must hold. Empty parts hold always.
#[derive(Debug, Clone, Serialize, PartialEq, Default)]
pub struct Matcher {
    /// Path pattern on the canonical path; `None` matches every path (and `OPTIONS *`).
    pub path: Option<PathPattern>,
    /// Case-sensitive methods; empty is any.
    pub methods: Vec<String>,
    /// Conditions, all of which must hold.
    pub conditions: Vec<Condition>,
}

/// How a path is matched. All but `Regex` are on the canonical path's text.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub enum PathPattern {
    /// `/a/b` only.
    Exact(String),
    /// `/api/*`: `/api` and everything under it. Holds `/api`; `/` for `/*`.
    Prefix(String),
    /// Segments with captures: `/u/{id}/x`, `/old/{rest*}`.
    Segments(Vec<Segment>),
    /// A regular expression (linear time, anchored at both ends); named groups are captures.
    Regex(String),
}

/// One segment of a pattern.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub enum Segment {
    /// This text.
    Literal(String),
    /// Exactly one non-empty segment.
    Capture(String),
    /// The rest, slashes included, may be empty; last only.
    Rest(String),
}

/// A condition beside path and method.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub enum Condition {
    /// Some value of this header matches. Every value is looked at separately.
    Header(String, ValueMatch),
    /// A cookie of this name matches.
    Cookie(String, ValueMatch),
    /// A query parameter of this name matches (compared after percent-decoding).
    Query(String, ValueMatch),
    /// Client address (after trusted proxies) is in the set.
    Client(IpSet),
    /// The client has proved to be somebody by a certificate, and this of it matches.
    Certificate(CertificatePart, ValueMatch),
    /// Negation.
    Not(Box<Condition>),
    /// Any of them.
    Any(Vec<Condition>),
}

/// What of a client's verified certificate is looked at.
#[derive(Debug, Clone, Copy, Serialize, PartialEq, Eq)]
pub enum CertificatePart {
    /// As `{tls.client.subject}`.
    Subject,
    /// As `{tls.client.issuer}`.
    Issuer,
    /// Hexadecimal.
    Serial,
    /// SHA-256, hexadecimal.
    Fingerprint,
}

/// What a value must be.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub enum ValueMatch {
    /// Present, whatever it is.
    Present,
    /// Equal, byte for byte.
    Exact(String),
    /// Starts with.
    Prefix(String),
    /// Regular expression, anchored.
    Regex(String),
}

/// What a route does.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub enum Action {
    /// Forward to an upstream (index into [`super::Config::upstreams`]).
    Proxy(usize),
    /// Forward to one of several, by weight.
    Split(Split),
    /// 30x.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// The `Location`.
        to: Template,
    },
    /// A fixed answer.
    Respond {
        /// 200..=599.
        status: u16,
        /// `Content-Type`; default `text/plain; charset=utf-8`.
        content_type: String,
        /// Body.
        body: Template,
    },
}

/// Weighted choice of upstream.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Split {
    /// Sticky by this value's hash; random without it.
    pub by: Option<Template>,
    /// Upstream index and weight (weights sum to 10,000).
    pub to: Vec<(usize, u32)>,
}

/// Everything of a route that is not a step.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct RouteSettings {
    /// Largest request body; `None` is unlimited (streaming).
    pub body_max: Option<u64>,
    /// Which forwarding headers are written.
    pub forwarded: ForwardedStyle,
    /// `Host` sent upstream.
    pub host: UpstreamHost,
    /// Buffer the request before an attempt starts.
    pub buffer_request: Option<Buffering>,
    /// Take the answer at once and feed the client from the buffer.
    pub buffer_response: Option<Buffering>,
    /// Protocols a client may upgrade to (lower case). Default: `websocket` only.
    pub upgrade: Vec<String>,
    /// Rewrite `Location`, `Refresh` and cookie domain/path that name the origin.
    pub rewrite_response_urls: bool,
    /// Remove `Server` and `X-Powered-By` of the origin.
    pub hide_origin: bool,
    /// Field names with `_` are passed on (`unsafe-underscore-headers`).
    pub underscore_headers: bool,
    /// Bodies on GET, HEAD, DELETE are refused.
    pub reject_body_on_get: bool,
    /// gRPC-Web of clients is translated to gRPC.
    pub grpc_web: bool,
    /// A tunnel (upgrade) without a byte in either direction ends after this; 1 h.
    pub tunnel_idle: Duration,
    /// Who waits less.
    pub priority: Priority,
    /// What of the answers is cached; none: nothing.
    pub cache: Option<Box<CacheRule>>,
}

/// Which forwarding headers are written. The client's copies are always removed unless the peer is trusted.
#[derive(Debug, Clone, Copy, Serialize, PartialEq, Eq)]
pub enum ForwardedStyle {
    /// `X-Forwarded-For`, `-Proto`, `-Host`, `X-Real-IP`: default.
    XForwarded,
    /// RFC 7239 `Forwarded`.
    Forwarded,
    /// Both.
    Both,
    /// None.
    Off,
}

/// `Host` sent upstream.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub enum UpstreamHost {
    /// The client's: default.
    Keep,
    /// The server's own name and port.
    Server,
    /// This.
    Set(Template),
}

/// Spoon feeding.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Buffering {
    /// Bytes kept in memory.
    pub memory: u64,
    /// Then up to this many in an unlinked file; 0 is none (then backpressure applies).
    pub disk: u64,
    /// Directory of that file.
    pub directory: PathBuf,
}

/// A page instead of an error.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct ErrorPage {
    /// Statuses it stands for; `(500, 599)` ranges, inclusive.
    pub statuses: Vec<(u16, u16)>,
    /// Read when the configuration is loaded.
    #[serde(serialize_with = "body_len")]
    pub body: Arc<Vec<u8>>,
    /// `Content-Type`, from the file name's ending.
    pub content_type: String,
    /// File it came from.
    pub file: PathBuf,
    /// Also instead of the origin's own body with such a status.
    pub intercept: bool,
}

fn body_len<S: serde::Serializer>(b: &Arc<Vec<u8>>, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&format!("{} bytes", b.len()))
}

impl Default for RouteSettings {
    fn default() -> Self {
        Self {
            body_max: None,
            forwarded: ForwardedStyle::XForwarded,
            host: UpstreamHost::Keep,
            buffer_request: None,
            buffer_response: None,
            upgrade: vec!["websocket".to_owned()],
            rewrite_response_urls: true,
            hide_origin: true,
            underscore_headers: false,
            reject_body_on_get: false,
            grpc_web: false,
            tunnel_idle: Duration::from_hours(1),
            priority: Priority::Normal,
            cache: None,
        }
    }
}
