//! Calls of gRPC (the protocol's "gRPC over HTTP/2"): how long a client waits, and failures of ours in the form that it reads: a
//! head with `grpc-status` and nothing behind it.

use narthex_message::FieldId;
use narthex_message::validate::is_token_byte;

use crate::fail::Failure;
use crate::handle::Exchange;

/// Digits of a `grpc-timeout`.
const DIGITS: usize = 8;

const UNKNOWN: u8 = 2;
const DEADLINE_EXCEEDED: u8 = 4;
const PERMISSION_DENIED: u8 = 7;
const RESOURCE_EXHAUSTED: u8 = 8;
const UNIMPLEMENTED: u8 = 12;
const INTERNAL: u8 = 13;
const UNAVAILABLE: u8 = 14;
const UNAUTHENTICATED: u8 = 16;

/// The media type.
pub(crate) const NAME: &[u8] = b"application/grpc";

/// What follows `name` in a media type of it: `+proto`, or nothing; `None` if it is another. Parameters are left out.
pub(crate) fn suffix<'v>(value: &'v [u8], name: &[u8]) -> Option<&'v [u8]> {
    let (own, rest) = value.split_at_checked(name.len())?;
    let end = rest.iter().position(|b| matches!(b, b';' | b' '));
    let (suffix, parameters) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
    let good = match suffix {
        [] => true,
        [b'+', form @ ..] => !form.is_empty() && form.iter().all(|b| is_token_byte(*b)),
        _ => false,
    };
    let ends = matches!(parameters.trim_ascii_start(), [] | [b';', ..]);
    (good && ends && own.eq_ignore_ascii_case(name)).then_some(suffix)
}

/// `application/grpc`, or that with a message form (`+proto`) or parameters.
fn is_content_type(value: &[u8]) -> bool {
    suffix(value, NAME).is_some()
}

/// A `grpc-timeout` in milliseconds, rounded up; `None` if it is none.
fn timeout_ms(value: &[u8]) -> Option<u64> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => n.saturating_mul(3_600_000),
        b'M' => n.saturating_mul(60_000),
        b'S' => n.saturating_mul(1_000),
        b'm' => n,
        b'u' => n.div_ceil(1_000),
        b'n' => n.div_ceil(1_000_000),
        _ => return None,
    })
}

/// The `grpc-status` of a failure, by the protocol's table of HTTP statuses, but where more is known.
fn status(failure: Failure) -> u8 {
    match failure {
        Failure::UpstreamTimeout | Failure::UpstreamStalled => DEADLINE_EXCEEDED,
        Failure::BodyTooLarge => RESOURCE_EXHAUSTED,
        failure => match failure.status() {
            400 => INTERNAL,
            401 => UNAUTHENTICATED,
            403 => PERMISSION_DENIED,
            404 => UNIMPLEMENTED,
            429 | 502 | 503 | 504 => UNAVAILABLE,
            _ => UNKNOWN,
        },
    }
}

impl Exchange<'_> {
    /// Does the client call by gRPC, be it by a translation?
    #[inline]
    pub(crate) fn calls_grpc(&self) -> bool {
        let by_itself = || {
            self.client.h2.is_some()
                && self.facts.is_some()
                && self
                    .head()
                    .get(FieldId::ContentType)
                    .is_some_and(is_content_type)
        };
        self.web.is_some() || by_itself()
    }

    /// The status of this failure, if the client calls by gRPC.
    pub(crate) fn grpc_status(&self, failure: Failure) -> Option<u8> {
        self.calls_grpc().then(|| status(failure))
    }

    /// How long a client of gRPC waits from now, in milliseconds.
    pub(crate) fn grpc_timeout(&self) -> Option<u64> {
        if !self.calls_grpc() {
            return None;
        }
        timeout_ms(self.head().named(b"grpc-timeout").next()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        for good in [
            "application/grpc",
            "application/grpc+proto",
            "Application/gRPC; a=b",
        ] {
            assert!(is_content_type(good.as_bytes()), "{good}");
        }
        for bad in [
            "application/grpc-web",
            "application/grpcx",
            "application/json",
            "application/grp",
        ] {
            assert!(!is_content_type(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn timeouts() {
        for (text, ms) in [
            ("1H", Some(3_600_000)),
            ("2M", Some(120_000)),
            ("3S", Some(3_000)),
            ("250m", Some(250)),
            ("1u", Some(1)),
            ("1500000n", Some(2)),
            ("99999999H", Some(359_999_996_400_000)),
            ("123456789S", None),
            ("S", None),
            ("", None),
            ("-1S", None),
            ("1", None),
            ("1s", None),
        ] {
            assert_eq!(timeout_ms(text.as_bytes()), ms, "{text}");
        }
    }

    #[test]
    fn statuses() {
        use narthex_upstream::ConnectErrorKind;
        for (failure, code) in [
            (Failure::UpstreamTimeout, 4),
            (Failure::NoRoute, 12),
            (Failure::Denied, 7),
            (Failure::NoServer, 14),
            (Failure::Connect(ConnectErrorKind::Timeout), 14),
            (Failure::UpstreamClosed { sent: true }, 14),
            (Failure::BodyTooLarge, 8),
            (Failure::Rewrite, 2),
        ] {
            assert_eq!(status(failure), code, "{failure:?}");
        }
    }
}
