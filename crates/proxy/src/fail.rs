//! Every failure of an exchange: its status, its words in the log, whose fault it is, and what the server is blamed for.
//! "Why did a client get 502?" is answered here and nowhere else.

use narthex_message::{BadResponse, Reject};
use narthex_upstream::ConnectErrorKind;
use narthex_upstream::Report;

/// Why an exchange did not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The request is refused as it stands.
    Reject(Reject),
    /// No site answers for this host here.
    NoSite,
    /// The connection was not made for this site.
    Misdirected,
    /// The site has no such route.
    NoRoute,
    /// A filter refused.
    Denied,
    /// The operator has taken the address down: 451 or 410.
    Blocked(u16),
    /// A filter made a path that is not canonical.
    Rewrite,
    /// No server of the upstream can take a request.
    NoServer,
    /// Connecting failed.
    Connect(ConnectErrorKind),
    /// The server closed or reset before it answered; true if bytes of the request had been taken.
    UpstreamClosed { sent: bool },
    /// The server closed or reset inside its answer.
    UpstreamTruncated,
    /// The server did not begin to answer in time.
    UpstreamTimeout,
    /// The server stopped inside its answer, or stopped reading.
    UpstreamStalled,
    /// The server's answer is not HTTP as we take it.
    UpstreamInvalid(BadResponse),
    /// The server answered with a status that is tried again, and no attempt was left.
    UpstreamStatus(u16),
    /// What the server has is not any more what an answer that has begun is part of.
    OriginChanged,
    /// The client went away.
    ClientGone,
    /// The client stopped sending its body.
    ClientSlowBody,
    /// The client stopped reading.
    ClientSlowRead,
    /// The body grew beyond the route's bound.
    BodyTooLarge,
    /// Buffering failed (disk full, for instance).
    Spool,
    /// Memory ran short, and this exchange held much of it.
    Shed,
    /// The core is late, and the request is not important enough.
    Overload,
}

impl Failure {
    /// Status for the client, if one can still be sent.
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::Reject(reject) => reject.status(),
            Self::Misdirected => 421,
            Self::NoSite | Self::NoRoute => 404,
            Self::Denied => 403,
            Self::Blocked(status) => status,
            Self::Rewrite | Self::Spool => 500,
            Self::NoServer | Self::Shed | Self::Overload => 503,
            Self::Connect(kind) => match kind {
                ConnectErrorKind::Timeout => 504,
                ConnectErrorKind::Limit
                | ConnectErrorKind::QueueTimeout
                | ConnectErrorKind::Overload
                | ConnectErrorKind::Exhausted => 503,
                _ => 502,
            },
            Self::UpstreamClosed { .. }
            | Self::UpstreamTruncated
            | Self::UpstreamInvalid(_)
            | Self::OriginChanged => 502,
            Self::UpstreamTimeout | Self::UpstreamStalled => 504,
            Self::UpstreamStatus(status) => status,
            Self::ClientGone => 499,
            Self::ClientSlowBody | Self::ClientSlowRead => 408,
            Self::BodyTooLarge => 413,
        }
    }

    /// How it ended, in one word.
    pub(crate) fn outcome(self) -> &'static str {
        match self {
            Self::Reject(Reject::HeadTimeout | Reject::BodyTimeout)
            | Self::ClientSlowBody
            | Self::ClientSlowRead => "client-timeout",
            Self::Reject(_) | Self::BodyTooLarge | Self::Misdirected => "rejected",
            Self::NoSite | Self::NoRoute => "not-found",
            Self::Denied => "denied",
            Self::Blocked(_) => "blocked",
            Self::Rewrite | Self::Spool => "internal",
            Self::NoServer => "no-server",
            Self::Connect(kind) => match kind {
                ConnectErrorKind::Refused => "upstream-refused",
                ConnectErrorKind::Tls(_) => "upstream-tls",
                ConnectErrorKind::Timeout => "upstream-timeout",
                ConnectErrorKind::Limit
                | ConnectErrorKind::QueueTimeout
                | ConnectErrorKind::Overload
                | ConnectErrorKind::Exhausted => "limited",
                _ => "upstream-unreachable",
            },
            Self::UpstreamClosed { .. } | Self::UpstreamTruncated => "upstream-reset",
            Self::UpstreamTimeout | Self::UpstreamStalled => "upstream-timeout",
            Self::UpstreamInvalid(_) | Self::OriginChanged => "upstream-invalid",
            Self::UpstreamStatus(_) => "upstream-status",
            Self::ClientGone => "client-abort",
            Self::Shed | Self::Overload => "shed",
        }
    }

    /// Whose fault it is.
    pub(crate) fn fault(self) -> &'static str {
        match self {
            Self::Reject(_)
            | Self::Misdirected
            | Self::NoSite
            | Self::NoRoute
            | Self::Denied
            | Self::BodyTooLarge
            | Self::ClientGone
            | Self::ClientSlowBody
            | Self::ClientSlowRead => "client",
            Self::Blocked(_) | Self::Rewrite | Self::Spool | Self::Shed | Self::Overload => "proxy",
            Self::Connect(
                ConnectErrorKind::Limit
                | ConnectErrorKind::QueueTimeout
                | ConnectErrorKind::Overload
                | ConnectErrorKind::Exhausted,
            ) => "proxy",
            _ => "origin",
        }
    }

    /// The reason word: in the log, the metric and `Narthex-Reason`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Reject(reject) => reject.word(),
            Self::Misdirected => "misdirected",
            Self::NoSite => "no-site",
            Self::NoRoute => "no-route",
            Self::Denied => "denied",
            Self::Blocked(_) => "blocked",
            Self::Rewrite => "rewrite",
            Self::NoServer => "no-server",
            Self::Connect(kind) => match kind {
                ConnectErrorKind::Refused => "connect-refused",
                ConnectErrorKind::Tls(word) => word,
                ConnectErrorKind::Timeout => "connect-timeout",
                ConnectErrorKind::Unreachable => "connect-unreachable",
                ConnectErrorKind::Limit => "queue-full",
                ConnectErrorKind::QueueTimeout => "queue-timeout",
                ConnectErrorKind::Overload => "upstream-overload",
                ConnectErrorKind::Exhausted => "out-of-sockets",
                ConnectErrorKind::Other => "connect-failed",
            },
            Self::UpstreamClosed { .. } => "origin-closed",
            Self::UpstreamTruncated => "origin-truncated",
            Self::UpstreamTimeout => "response-timeout",
            Self::UpstreamStalled => "origin-stalled",
            Self::UpstreamStatus(_) => "origin-status",
            Self::UpstreamInvalid(bad) => bad.word(),
            Self::OriginChanged => "origin-changed",
            Self::ClientGone => "client-gone",
            Self::ClientSlowBody => "body-timeout",
            Self::ClientSlowRead => "send-timeout",
            Self::BodyTooLarge => "body-too-large",
            Self::Spool => "spool",
            Self::Shed => "memory",
            Self::Overload => "overload",
        }
    }

    /// What the server is blamed for, if anything.
    pub(crate) fn report(self) -> Option<Report> {
        match self {
            Self::UpstreamClosed { .. } | Self::UpstreamTruncated => Some(Report::Reset),
            Self::UpstreamTimeout | Self::UpstreamStalled => Some(Report::Timeout),
            Self::UpstreamInvalid(_) => Some(Report::Invalid),
            Self::UpstreamStatus(status) => Some(Report::Status(status)),
            _ => None,
        }
    }
}
