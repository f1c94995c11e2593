//! Addresses, networks, hosts: text to data. Each function says what is wrong and what to write instead.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use crate::model::{Address, HostPattern, IpSet, ServerAddress};
use crate::source::Span;

use super::context::Context;

/// What is wrong, what to do.
pub type Wrong = (String, String);

/// Longest path of a unix socket (`sun_path` less its NUL).
const MAX_UNIX_PATH: usize = 107;

fn unix_path(path: &str) -> Result<PathBuf, Wrong> {
    if !path.starts_with('/') {
        return Err((
            format!("\"unix:{path}\" is not an absolute path"),
            "write \"unix:/run/name.sock\"".to_owned(),
        ));
    }
    if path.len() > MAX_UNIX_PATH || path.contains('\0') {
        return Err((
            format!("this socket path is longer than {MAX_UNIX_PATH} bytes"),
            "use a shorter path".to_owned(),
        ));
    }
    Ok(PathBuf::from(path))
}

fn port(text: &str) -> Option<u16> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// Where to listen: `:80`, `127.0.0.1:80`, `[::1]:80`, `unix:/run/x.sock`, `fd:name`.
pub fn listen(text: &str) -> Result<Address, Wrong> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_path(path).map(Address::Unix);
    }
    if let Some(name) = text.strip_prefix("fd:") {
        let good = !name.is_empty()
            && name.len() <= 255
            && name.bytes().all(|b| b.is_ascii_graphic() && b != b':');
        return if good {
            Ok(Address::Inherited(name.to_owned()))
        } else {
            Err((
                format!("\"{text}\" names no inherited socket"),
                "write \"fd:name\" or \"fd:0\"".to_owned(),
            ))
        };
    }
    if let Some(port) = text.strip_prefix(':').and_then(port) {
        return Ok(Address::Tcp(SocketAddr::new(
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            port,
        )));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Address::Tcp(address));
    }
    Err((
        format!("\"{text}\" is not an address to listen on"),
        listen_help(text),
    ))
}

fn listen_help(text: &str) -> String {
    if port(text).is_some() {
        return format!("write \":{text}\"");
    }
    if let Some(rest) = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
    {
        return format!(
            "write \"{}\" without the scheme",
            rest.trim_end_matches('/')
        );
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return format!("write \"{}\"", SocketAddr::new(ip, 80));
    }
    match text.rsplit_once(':') {
        Some(("*", p)) if port(p).is_some() => format!("write \":{p}\", which is every address"),
        Some(("localhost", p)) if port(p).is_some() => {
            format!("write \"127.0.0.1:{p}\" or \"[::1]:{p}\"")
        }
        Some((_, p)) if port(p).is_some() => {
            format!("a name cannot be listened on: write \":{p}\" or an IP address")
        }
        _ => {
            "write \":80\", \"127.0.0.1:80\", \"[::1]:80\", \"unix:/run/name.sock\" or \"fd:name\""
                .to_owned()
        }
    }
}

impl ServerAddress {
    /// Reads `10.0.0.1:80`, `[::1]:80`, `name:80` or `unix:/run/x.sock`; or says what is wrong and what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        server(text).map_err(|(message, help)| format!("{message}; {help}"))
    }
}

/// Where a server is: `10.0.0.1:80`, `[::1]:80`, `name:80`, `unix:/run/x.sock`.
pub fn server(text: &str) -> Result<ServerAddress, Wrong> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_path(path).map(ServerAddress::Unix);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.port() {
            0 => Err((
                format!("\"{text}\" has port 0"),
                "write the port the server listens on".to_owned(),
            )),
            _ => Ok(ServerAddress::Ip(plain(address))),
        };
    }
    if let Some((host, p)) = text.rsplit_once(':')
        && let Some(port) = port(p).filter(|p| *p > 0)
        && is_host_name(host)
    {
        return Ok(ServerAddress::Dns {
            host: host.trim_end_matches('.').to_ascii_lowercase(),
            port,
        });
    }
    Err((
        format!("\"{text}\" is not the address of a server"),
        server_help(text),
    ))
}

/// `[::ffff:10.0.0.1]:80` is `10.0.0.1:80`, and one server with it.
fn plain(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(four) if address.is_ipv6() => (four, address.port()).into(),
        _ => address,
    }
}

/// A name whose SRV records say where: `_http._tcp.example.com`, `api.internal`; with a port for the name's own addresses.
pub fn srv(text: &str) -> Result<ServerAddress, Wrong> {
    let (name, fallback) = match text.rsplit_once(':') {
        Some((name, p)) => (name, port(p).filter(|p| *p > 0).map(Some)),
        None => (text, Some(None)),
    };
    match fallback {
        Some(port) if is_host_name(name) => Ok(ServerAddress::Srv {
            name: name.trim_end_matches('.').to_ascii_lowercase(),
            port,
        }),
        _ => Err((
            format!("\"{text}\" is not a name that can have SRV records"),
            "write a name such as \"_http._tcp.example.com\" or \"api.internal:8080\"".to_owned(),
        )),
    }
}

/// The address as the language writes it.
pub fn server_text(address: &ServerAddress) -> String {
    match address {
        ServerAddress::Ip(address) => address.to_string(),
        ServerAddress::Unix(path) => format!("unix:{}", path.display()),
        ServerAddress::Dns { host, port } => format!("{host}:{port}"),
        ServerAddress::Srv { name, port } => match port {
            Some(port) => format!("{name}:{port}"),
            None => name.clone(),
        },
    }
}

fn server_help(text: &str) -> String {
    if let Some(rest) = text.strip_prefix("http://") {
        let rest = rest.split('/').next().unwrap_or_default();
        return if rest.contains(':') {
            format!("write \"{rest}\"")
        } else {
            format!("write \"{rest}:80\"")
        };
    }
    if text.starts_with("https://") {
        return "TLS to servers is not built yet in this version; write a plain \"address:port\""
            .to_owned();
    }
    if port(text).is_some() {
        return format!("write \"127.0.0.1:{text}\"");
    }
    if let Some(p) = text.strip_prefix(':').filter(|p| port(p).is_some()) {
        return format!("write \"127.0.0.1:{p}\"");
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return format!(
            "write \"{}\" (with the server's port)",
            SocketAddr::new(ip, 80)
        );
    }
    if let Some((host, _)) = text.split_once('/') {
        return format!("a server has no path; write \"{host}\" and `add-prefix` for the path");
    }
    if is_host_name(text) {
        return format!("write \"{text}:80\" (with the server's port)");
    }
    "write \"10.0.0.1:8080\", \"[::1]:8080\", \"name:8080\" or \"unix:/run/app.sock\"".to_owned()
}

/// A DNS name; the last label is not a number, so that a mistyped IP address is none.
pub fn is_host_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && l.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    let last_is_number = name
        .rsplit('.')
        .next()
        .is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    !name.is_empty() && name.len() <= 253 && name.split('.').all(label) && !last_is_number
}

/// `10.0.0.0/8`, `10.0.0.1`, `2001:db8::/32`.
pub fn network(text: &str) -> Result<IpNet, Wrong> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(ip.to_canonical()));
    }
    let Ok(net) = text.parse::<IpNet>() else {
        let help = match text.split_once('/') {
            Some((ip, _)) if ip.parse::<IpAddr>().is_ok() => {
                format!("write \"{ip}\" or \"{ip}/24\"")
            }
            _ => "write \"10.0.0.0/8\", \"192.0.2.7\" or \"2001:db8::/32\"".to_owned(),
        };
        return Err((format!("\"{text}\" is not a network"), help));
    };
    if net.addr() != net.network() {
        return Err((
            format!("\"{text}\" has bits set beyond its length"),
            format!(
                "write \"{}\" for the network, or \"{}\" for the one address",
                net.trunc(),
                net.addr()
            ),
        ));
    }
    if let IpAddr::V6(v6) = net.addr()
        && let (Some(v4), true) = (v6.to_ipv4_mapped(), net.prefix_len() >= 96)
    {
        return Err((
            format!("\"{text}\" is IPv4 in IPv6 clothes"),
            format!("write \"{v4}/{}\"", net.prefix_len() - 96),
        ));
    }
    Ok(net)
}

/// Reads networks, reporting those that are none.
pub fn networks<'a>(ctx: &mut Context<'_>, texts: impl Iterator<Item = (&'a str, Span)>) -> IpSet {
    let mut set = IpSet::default();
    for (text, span) in texts {
        match network(text) {
            Ok(net) if set.0.contains(&net) => {
                ctx.warning(
                    "duplicate-network",
                    span,
                    format!("\"{text}\" is there twice"),
                    "keep one of them",
                );
            }
            Ok(net) => set.0.push(net),
            Err((message, help)) => ctx.error("bad-network", span, message, help),
        }
    }
    set
}

/// A site's host: `example.com`, `*.example.com`, `*`, an IP address.
pub fn host(text: &str) -> Result<HostPattern, Wrong> {
    if text == "*" {
        return Ok(HostPattern::Any);
    }
    if let Some(ip) = literal_ip(text) {
        return Ok(HostPattern::Exact(ip));
    }
    let (wildcard, name) = match text.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, text),
    };
    if !is_host_name(name) {
        return Err((format!("\"{text}\" is not a host"), host_help(text)));
    }
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    Ok(if wildcard {
        HostPattern::Wildcard(name)
    } else {
        HostPattern::Exact(name)
    })
}

/// IPv6 keeps its brackets, as in a `Host` field.
fn literal_ip(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().ok().map(|ip| format!("[{ip}]"));
    }
    if let Ok(ip) = text.parse::<Ipv6Addr>() {
        return Some(format!("[{ip}]"));
    }
    text.parse::<Ipv4Addr>().ok().map(|ip| ip.to_string())
}

fn host_help(text: &str) -> String {
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', ':']).next().unwrap_or_default();
        return format!("write \"{host}\"");
    }
    if let Some((host, path)) = text.split_once('/') {
        return format!("write \"{host}\" and `route path=\"/{path}\"` inside");
    }
    if let Some((host, p)) = text.rsplit_once(':')
        && port(p).is_some()
    {
        return format!("write \"{host}\"; the port belongs to `listen \":{p}\"`");
    }
    if !text.is_ascii() {
        return "write it as DNS does, in Punycode (\"xn--...\")".to_owned();
    }
    if text.contains('*') {
        return "`*` stands only at the beginning: \"*.example.com\", or alone for every host"
            .to_owned();
    }
    "write \"example.com\", \"*.example.com\" or \"*\"".to_owned()
}

/// The host as the language writes it.
pub fn host_text(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Wildcard(name) => format!("*.{name}"),
        HostPattern::Any => "*".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_the_one_that_it_maps() {
        let same = |a: &str, b: &str| server(a).unwrap() == server(b).unwrap();
        assert!(same("[::ffff:10.0.0.1]:80", "10.0.0.1:80"));
        assert!(!same("[::10.0.0.1]:80", "10.0.0.1:80"));
        let scoped = "[fe80::1%3]:80".parse().unwrap();
        assert_eq!(server("[fe80::1%3]:80").unwrap(), ServerAddress::Ip(scoped));
    }

    #[test]
    fn addresses() {
        assert_eq!(
            listen(":80").unwrap(),
            Address::Tcp("[::]:80".parse().unwrap())
        );
        assert!(listen("8080").unwrap_err().1.contains("\":8080\""));
        assert!(matches!(
            server("api.internal:80").unwrap(),
            ServerAddress::Dns { port: 80, .. }
        ));
        assert!(server("10.0.0.256:80").is_err());
        assert!(
            server("http://10.0.0.1:80/x")
                .unwrap_err()
                .1
                .contains("\"10.0.0.1:80\"")
        );
        assert!(network("10.0.0.1/8").unwrap_err().1.contains("10.0.0.0/8"));
        assert_eq!(
            host("*.Example.com.").unwrap(),
            HostPattern::Wildcard("example.com".into())
        );
        assert!(
            host("example.com:80")
                .unwrap_err()
                .1
                .contains("listen \":80\"")
        );
    }
}
