//! What would happen to a request, by the data path's own parsing and matcher. Serves nothing, changes nothing.

use std::net::IpAddr;

use narthex_message::{authority, path};
use narthex_route::{Query, Verdict};

use crate::runtime::Runtime;

/// A request to explain.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// Case-sensitive.
    pub method: &'a str,
    /// `http://host[:port]/path?query`.
    pub url: &'a str,
    /// Header lines; a `Host` among them stands before the URL's.
    pub headers: &'a [(String, String)],
    /// The client's address, after trusted proxies.
    pub client: IpAddr,
    /// Name of the listener; without it the first whose port the URL names, else the first.
    pub listener: Option<&'a str>,
}

/// Which route takes it, and why the others do not. Indices are those of [`Runtime::config`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The listener it was asked of.
    pub listener: usize,
    /// Canonical host.
    pub host: String,
    /// Canonical path, as matched and forwarded.
    pub path: String,
    /// Without `?`.
    pub query: String,
    /// The site that answers for the host.
    pub site: Option<usize>,
    /// The route that wins.
    pub route: Option<usize>,
    /// For each route of the site: did it win, and if not, why.
    pub verdicts: Vec<(bool, String)>,
    /// What the route's path captured: name and text.
    pub captures: Vec<(String, String)>,
}

impl Runtime {
    /// Explains a request; the error says what is wrong with the question.
    pub fn explain(&self, question: &Question<'_>) -> Result<Explained, String> {
        let (authority, target) = split_url(question.url)?;
        let given = question
            .headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("host"));
        let raw_host = given.map_or(authority, |(_, value)| value);
        let parsed = authority::parse(raw_host.as_bytes())
            .map_err(|_| format!("\"{raw_host}\" is no host: the proxy answers 400"))?;
        let listener = self.listener_of(question.listener, parsed.port_or(80))?;
        let host = parsed.host.to_string();
        let site = self.router().site(listener, &host);

        let (raw_path, query) = path::split_target(target.as_bytes());
        let merge_slashes = site.is_none_or(|site| self.router().merge_slashes(site));
        let mut buffer = String::new();
        let path = path::canonical(raw_path, merge_slashes, &mut buffer).map_err(|error| {
            format!(
                "the path is refused ({}): the proxy answers 400",
                error.word()
            )
        })?;
        let fields: Vec<(String, Vec<u8>)> = question
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().into_bytes()))
            .collect();
        let query = query.unwrap_or_default();
        let asked = Query {
            host: &host,
            path,
            method: question.method,
            client: question.client,
            query,
            fields: &fields,
        };

        let explanation = self.router().explain(listener, &asked);
        let captures = site.and_then(|site| Some((site, self.router().route(site, &asked)?)));
        let captures = captures.map_or_else(Vec::new, |(site, (route, captures))| {
            let names = self.router().capture_names(site, route).iter();
            names
                .enumerate()
                .map(|(index, name)| {
                    (
                        name.to_string(),
                        captures.text(path, index).unwrap_or_default().to_owned(),
                    )
                })
                .collect()
        });
        Ok(Explained {
            listener,
            path: path.to_owned(),
            query: String::from_utf8_lossy(query).into_owned(),
            site: explanation.site,
            route: explanation.route,
            verdicts: explanation
                .verdicts
                .iter()
                .map(|v| (matches!(v, Verdict::Won), v.to_string()))
                .collect(),
            captures,
            host,
        })
    }

    fn listener_of(&self, name: Option<&str>, port: u16) -> Result<usize, String> {
        let listeners = &self.config().listeners;
        if let Some(name) = name {
            let names = || {
                listeners
                    .iter()
                    .map(|l| l.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let found = listeners.iter().position(|l| l.name == name);
            return found.ok_or_else(|| {
                format!("no listener is called \"{name}\"; there are: {}", names())
            });
        }
        let on_port = listeners.iter().position(
            |l| matches!(&l.address, narthex_config::model::Address::Tcp(address) if address.port() == port),
        );
        Ok(on_port.unwrap_or(0))
    }
}

/// A host in its canonical form, without a port.
pub fn host(written: &str) -> Result<String, String> {
    match authority::parse(written.as_bytes()) {
        Ok(parsed) if !written.is_empty() => Ok(parsed.host.to_string()),
        _ => Err(format!(
            "\"{written}\" is no host; write it as shop.example"
        )),
    }
}

/// Authority and target of an absolute URL.
fn split_url(url: &str) -> Result<(&str, &str), String> {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))
        .ok_or_else(|| format!("\"{url}\" is no URL; write it as http://host/path"))?;
    let rest = rest.split('#').next().unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    match target {
        "" => Ok((authority, "/")),
        target if target.starts_with('?') => {
            Err(format!("\"{url}\" has no path; write http://host/?query"))
        }
        target => Ok((authority, target)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_authority_and_target() {
        assert_eq!(split_url("http://a:1/b?c#d").unwrap(), ("a:1", "/b?c"));
        assert_eq!(split_url("https://a").unwrap(), ("a", "/"));
        assert!(split_url("a/b").is_err());
        assert!(split_url("http://a?b").is_err());
    }
}
