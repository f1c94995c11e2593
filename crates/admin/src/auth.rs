//! Who may ask what. Pure.
//!
//! A unix socket is guarded by its file mode. A TCP socket can be reached by every program and every web page on the
//! machine: a page can send requests to a loopback address (CSRF) and, by DNS rebinding, read the answers. So over TCP
//! the `Host` must be a loopback name, an `Origin` must be our own, what changes something needs the token, and bodies
//! must be JSON. Whoever brings the token has proven more than any of that but the last.

use std::net::IpAddr;

/// Over what the request came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Door {
    /// A unix socket.
    Unix,
    /// A TCP socket.
    Tcp {
        /// Only this machine can reach it.
        loopback: bool,
        /// The token, if the configuration sets one.
        token: Option<String>,
    },
}

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Reads, no body.
    Read,
    /// Reads, with a body that asks.
    Ask,
    /// Changes something.
    Change,
}

/// What a request says about itself. A field that occurs twice is given as an empty text, which proves nothing and is no
/// absence either.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    /// `Host`.
    pub host: Option<&'a str>,
    /// `Origin`.
    pub origin: Option<&'a str>,
    /// `Content-Type`.
    pub content_type: Option<&'a str>,
    /// `Authorization`.
    pub authorization: Option<&'a str>,
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// 403: `Host` is no loopback name.
    Host,
    /// 403: another web page asks.
    Origin,
    /// 401: the token is missing or wrong.
    Token,
    /// 403: there is no token that could be right.
    ReadOnly,
    /// 415: the body is not JSON.
    ContentType,
}

impl Denied {
    /// Status.
    pub fn status(self) -> u16 {
        match self {
            Self::Token => 401,
            Self::Host | Self::Origin | Self::ReadOnly => 403,
            Self::ContentType => 415,
        }
    }

    /// What to do.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Host => "Host must be localhost or a loopback address",
            Self::Origin => "requests of other web pages are refused",
            Self::Token => "send Authorization: Bearer with the admin token",
            Self::ReadOnly => {
                "this admin address is read-only: use the unix socket, or set token=\"env:NAME\" on it"
            }
            Self::ContentType => "send Content-Type: application/json",
        }
    }
}

/// May this request pass?
pub fn decide(door: &Door, kind: Kind, facts: &Facts<'_>) -> Result<(), Denied> {
    let Door::Tcp { loopback, token } = door else {
        return Ok(());
    };
    let proven = match (token, facts.authorization) {
        (Some(token), Some(given)) => {
            bearer(given).is_some_and(|given| same(given.as_bytes(), token.as_bytes()))
        }
        _ => false,
    };
    if !proven {
        if !facts.host.is_some_and(is_loopback_name) {
            return Err(Denied::Host);
        }
        if facts
            .origin
            .is_some_and(|origin| !is_own_origin(origin, facts.host))
        {
            return Err(Denied::Origin);
        }
        if kind == Kind::Change && token.is_none() {
            return Err(Denied::ReadOnly);
        }
        if kind == Kind::Change || !loopback {
            return Err(Denied::Token);
        }
    }
    if kind != Kind::Read && !facts.content_type.is_some_and(is_json) {
        return Err(Denied::ContentType);
    }
    Ok(())
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_matches(' '))
}

/// Compares every byte, wherever the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |seen, (a, b)| seen | (a ^ b));
    std::hint::black_box(differences) == 0 && a.len() == b.len()
}

fn is_loopback_name(host: &str) -> bool {
    let name = without_port(host);
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = name
        .strip_prefix('[')
        .and_then(|n| n.strip_suffix(']'))
        .unwrap_or(name);
    bare.parse::<IpAddr>()
        .is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => {
            name
        }
        _ => host,
    }
}

fn is_own_origin(origin: &str, host: Option<&str>) -> bool {
    origin
        .strip_prefix("http://")
        .is_some_and(|rest| host.is_some_and(|host| rest.eq_ignore_ascii_case(host)))
}

fn is_json(content_type: &str) -> bool {
    content_type
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "correct horse";

    fn tcp(loopback: bool, token: Option<&str>) -> Door {
        Door::Tcp {
            loopback,
            token: token.map(str::to_owned),
        }
    }

    fn facts() -> Facts<'static> {
        Facts {
            host: Some("127.0.0.1:9180"),
            content_type: Some("application/json"),
            ..Facts::default()
        }
    }

    fn with_token() -> Facts<'static> {
        Facts {
            authorization: Some("Bearer correct horse"),
            ..facts()
        }
    }

    #[test]
    fn a_unix_socket_is_guarded_by_its_mode() {
        for kind in [Kind::Read, Kind::Ask, Kind::Change] {
            assert_eq!(decide(&Door::Unix, kind, &Facts::default()), Ok(()));
        }
    }

    #[test]
    fn without_a_token_a_loopback_address_is_read_only() {
        let door = tcp(true, None);
        assert_eq!(decide(&door, Kind::Read, &facts()), Ok(()));
        assert_eq!(decide(&door, Kind::Ask, &facts()), Ok(()));
        assert_eq!(decide(&door, Kind::Change, &facts()), Err(Denied::ReadOnly));
        assert_eq!(
            decide(&door, Kind::Change, &with_token()),
            Err(Denied::ReadOnly)
        );
    }

    #[test]
    fn a_change_needs_the_right_token() {
        let door = tcp(true, Some(TOKEN));
        assert_eq!(decide(&door, Kind::Change, &facts()), Err(Denied::Token));
        assert_eq!(decide(&door, Kind::Change, &with_token()), Ok(()));
        for wrong in [
            "Bearer correct hors",
            "Bearer correct horse2",
            "Bearer ",
            "Basic correct horse",
            "correct horse",
        ] {
            let facts = Facts {
                authorization: Some(wrong),
                ..facts()
            };
            assert_eq!(
                decide(&door, Kind::Change, &facts),
                Err(Denied::Token),
                "{wrong}"
            );
        }
        assert_eq!(decide(&door, Kind::Read, &facts()), Ok(()));
    }

    #[test]
    fn another_machine_needs_it_to_read() {
        let door = tcp(false, Some(TOKEN));
        assert_eq!(decide(&door, Kind::Read, &facts()), Err(Denied::Token));
        let elsewhere = Facts {
            host: Some("proxy.example:9180"),
            ..with_token()
        };
        assert_eq!(decide(&door, Kind::Read, &elsewhere), Ok(()));
    }

    #[test]
    fn a_rebound_name_is_refused() {
        let door = tcp(true, Some(TOKEN));
        for host in [
            "evil.example",
            "evil.example:9180",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "",
            "[::2]:1",
        ] {
            let facts = Facts {
                host: Some(host),
                ..facts()
            };
            assert_eq!(
                decide(&door, Kind::Read, &facts),
                Err(Denied::Host),
                "{host}"
            );
        }
        assert_eq!(
            decide(
                &door,
                Kind::Read,
                &Facts {
                    host: None,
                    ..facts()
                }
            ),
            Err(Denied::Host)
        );
        for host in [
            "localhost",
            "LOCALHOST:9180",
            "127.0.0.1",
            "127.8.8.8:1",
            "[::1]:9180",
            "[::1]",
            "[::ffff:127.0.0.1]",
        ] {
            let facts = Facts {
                host: Some(host),
                ..facts()
            };
            assert_eq!(decide(&door, Kind::Read, &facts), Ok(()), "{host}");
        }
    }

    #[test]
    fn another_page_is_refused() {
        let door = tcp(true, None);
        for origin in [
            "https://evil.example",
            "null",
            "http://127.0.0.1:80",
            "https://127.0.0.1:9180",
        ] {
            let facts = Facts {
                origin: Some(origin),
                ..facts()
            };
            assert_eq!(
                decide(&door, Kind::Read, &facts),
                Err(Denied::Origin),
                "{origin}"
            );
        }
        let own = Facts {
            origin: Some("http://127.0.0.1:9180"),
            ..facts()
        };
        assert_eq!(decide(&door, Kind::Read, &own), Ok(()));
    }

    #[test]
    fn a_form_cannot_ask_or_change() {
        for content_type in [
            None,
            Some("text/plain"),
            Some("application/x-www-form-urlencoded"),
            Some("application/jsonx"),
        ] {
            let facts = Facts {
                content_type,
                ..with_token()
            };
            assert_eq!(
                decide(&tcp(true, Some(TOKEN)), Kind::Change, &facts),
                Err(Denied::ContentType)
            );
            assert_eq!(
                decide(&tcp(true, None), Kind::Ask, &facts),
                Err(Denied::ContentType)
            );
        }
        let charset = Facts {
            content_type: Some("Application/JSON; charset=utf-8"),
            ..with_token()
        };
        assert_eq!(
            decide(&tcp(true, Some(TOKEN)), Kind::Change, &charset),
            Ok(())
        );
    }
}
