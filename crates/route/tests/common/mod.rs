//! Sites and requests for tests, in few words.

#![allow(dead_code)] // each test file uses its part

use std::net::{IpAddr, Ipv4Addr};

use narthex_config::model::{
    Action, Condition, HostPattern, Matcher, Origin, PathPattern, Route, RouteSettings, Segment,
    Site, Template, ValueMatch,
};
use narthex_route::{Fields, Found, Query, Router};

pub type Headers = Vec<(String, Vec<u8>)>;

pub fn site(hosts: &[&str], routes: Vec<Route>) -> Site {
    Site {
        name: hosts.first().map_or_else(String::new, |h| (*h).to_owned()),
        hosts: hosts.iter().map(|h| host(h)).collect(),
        listeners: Vec::new(),
        routes,
        access_log: None,
        merge_slashes: false,
        tls: None,
        hsts: None,
        error_pages: Vec::new(),
        origin: Origin {
            file: "t.kdl".into(),
            line: 1,
        },
    }
}

pub fn host(written: &str) -> HostPattern {
    match written.strip_prefix("*.") {
        Some(name) => HostPattern::Wildcard(name.to_owned()),
        None if written == "*" => HostPattern::Any,
        None => HostPattern::Exact(written.to_owned()),
    }
}

pub fn route(matcher: Matcher) -> Route {
    Route {
        name: "r".into(),
        matcher,
        filters: Vec::new(),
        action: Action::Respond {
            status: 200,
            content_type: String::new(),
            body: Template::default(),
        },
        settings: RouteSettings::default(),
        origin: Origin {
            file: "t.kdl".into(),
            line: 2,
        },
    }
}

/// `/a` exact, `/a/*` prefix, `/a/{x}` and `/a/{x*}` segments, `~...` regex, `` any.
pub fn pattern(written: &str) -> Option<PathPattern> {
    if written.is_empty() {
        return None;
    }
    if let Some(regex) = written.strip_prefix('~') {
        return Some(PathPattern::Regex(regex.to_owned()));
    }
    if let Some(prefix) = written.strip_suffix("/*") {
        return Some(PathPattern::Prefix(if prefix.is_empty() {
            "/".to_owned()
        } else {
            prefix.to_owned()
        }));
    }
    if written.contains('{') {
        return Some(PathPattern::Segments(
            written.split('/').skip(1).map(segment).collect(),
        ));
    }
    Some(PathPattern::Exact(written.to_owned()))
}

fn segment(written: &str) -> Segment {
    match written.strip_prefix('{').and_then(|w| w.strip_suffix('}')) {
        None => Segment::Literal(written.to_owned()),
        Some(name) => match name.strip_suffix('*') {
            Some(rest) => Segment::Rest(rest.to_owned()),
            None => Segment::Capture(name.to_owned()),
        },
    }
}

pub fn path(written: &str) -> Route {
    route(Matcher {
        path: pattern(written),
        ..Matcher::default()
    })
}

pub fn when(written: &str, conditions: Vec<Condition>) -> Route {
    route(Matcher {
        path: pattern(written),
        conditions,
        ..Matcher::default()
    })
}

pub fn methods(written: &str, methods: &[&str]) -> Route {
    let methods = methods.iter().map(|m| (*m).to_owned()).collect();
    route(Matcher {
        path: pattern(written),
        methods,
        ..Matcher::default()
    })
}

pub fn header(name: &str, value: &str) -> Condition {
    Condition::Header(name.into(), ValueMatch::Exact(value.into()))
}

/// A request that owns what it asks.
#[derive(Debug, Clone)]
pub struct Request {
    pub host: String,
    pub path: String,
    pub method: String,
    pub client: IpAddr,
    pub query: String,
    pub headers: Headers,
}

pub fn get(host: &str, path: &str) -> Request {
    Request {
        host: host.into(),
        path: path.into(),
        method: "GET".into(),
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        query: String::new(),
        headers: Vec::new(),
    }
}

impl Request {
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn query(&self) -> Query<'_> {
        Query {
            host: &self.host,
            path: &self.path,
            method: &self.method,
            client: self.client,
            query: self.query.as_bytes(),
            fields: &self.headers as &dyn Fields,
        }
    }
}

/// Site and route, on listener 0.
pub fn ask(router: &Router, request: &Request) -> (Option<usize>, Option<usize>) {
    match router.find(0, &request.query()) {
        Found::Route { site, route, .. } => (Some(site), Some(route)),
        Found::NoRoute { site } => (Some(site), None),
        Found::NoSite => (None, None),
    }
}
