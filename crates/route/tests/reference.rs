//! The router against a loop over the written routes, on generated configurations and requests.

#![allow(clippy::unwrap_used)] // what the reference can't do fails the test

mod common;

use common::*;
use narthex_config::model::{
    Condition, HostPattern, IpSet, Matcher, PathPattern, Route, Segment, Site, ValueMatch,
};
use narthex_route::{Found, Router, Verdict};
use proptest::prelude::*;
use proptest::sample::select;
use regex_automata::meta::Regex;

// ---- the reference: as plain as can be, straight from the model

fn reference_site(sites: &[Site], listener: usize, host: &str) -> Option<usize> {
    let score = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(name) if name == host => Some(1000),
        HostPattern::Wildcard(name)
            if host.len() > name.len() + 1 && host.ends_with(&format!(".{name}")) =>
        {
            Some(name.len() + 1)
        }
        HostPattern::Any => Some(0),
        _ => None,
    };
    let mut best: Option<(usize, usize)> = None;
    for (index, site) in sites.iter().enumerate() {
        if !site.listeners.is_empty() && !site.listeners.contains(&listener) {
            continue;
        }
        for score in site.hosts.iter().filter_map(score) {
            if best.is_none_or(|(top, _)| score > top) {
                best = Some((score, index));
            }
        }
    }
    best.map(|(_, index)| index)
}

fn full_match(regex: &str, text: &[u8]) -> bool {
    Regex::new(&format!("^(?:{regex})$"))
        .unwrap()
        .is_match(text)
}

fn reference_path(pattern: &PathPattern, path: &str) -> bool {
    if !path.starts_with('/') {
        return false;
    }
    match pattern {
        PathPattern::Exact(p) => p == path,
        PathPattern::Prefix(p) if p == "/" => true,
        PathPattern::Prefix(p) => path == p || path.starts_with(&format!("{p}/")),
        PathPattern::Regex(r) => full_match(r, path.as_bytes()),
        PathPattern::Segments(pieces) => {
            let parts: Vec<&str> = path[1..].split('/').collect();
            let open = matches!(pieces.last(), Some(Segment::Rest(_)));
            let fixed = if open {
                &pieces[..pieces.len() - 1]
            } else {
                &pieces[..]
            };
            let long_enough = if open {
                parts.len() >= fixed.len()
            } else {
                parts.len() == fixed.len()
            };
            long_enough
                && fixed.iter().zip(&parts).all(|(piece, part)| match piece {
                    Segment::Literal(text) => text == part,
                    _ => !part.is_empty(),
                })
        }
    }
}

fn reference_value(want: &ValueMatch, value: &str) -> bool {
    match want {
        ValueMatch::Present => true,
        ValueMatch::Exact(text) => text == value,
        ValueMatch::Prefix(text) => value.starts_with(text.as_str()),
        ValueMatch::Regex(regex) => full_match(regex, value.as_bytes()),
    }
}

fn reference_condition(condition: &Condition, r: &Request) -> bool {
    let headers = |name: &str| -> Vec<String> {
        let same = r
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name));
        same.map(|(_, v)| String::from_utf8(v.clone()).unwrap())
            .collect()
    };
    let pairs = |text: &str, by: &str, name: &str| -> Vec<String> {
        let split = text.split(by).filter_map(|p| p.split_once('='));
        split
            .filter(|(n, _)| n.trim() == name)
            .map(|(_, v)| v.trim().to_owned())
            .collect()
    };
    match condition {
        Condition::Header(name, want) => headers(name).iter().any(|v| reference_value(want, v)),
        Condition::Cookie(name, want) => headers("cookie")
            .iter()
            .flat_map(|f| pairs(f, ";", name))
            .any(|v| reference_value(want, &v)),
        Condition::Query(name, want) => pairs(&r.query, "&", name)
            .iter()
            .any(|v| reference_value(want, v)),
        Condition::Client(set) => set.contains(r.client),
        // Requests here have none.
        Condition::Certificate(..) => false,
        Condition::Not(inner) => !reference_condition(inner, r),
        Condition::Any(all) => all.iter().any(|c| reference_condition(c, r)),
    }
}

fn reference_route(routes: &[Route], r: &Request) -> Option<usize> {
    routes.iter().map(|route| &route.matcher).position(|m| {
        m.path.as_ref().is_none_or(|p| reference_path(p, &r.path))
            && (m.methods.is_empty() || m.methods.contains(&r.method))
            && m.conditions.iter().all(|c| reference_condition(c, r))
    })
}

// ---- generated configurations: few words, so that they meet

fn paths() -> impl Strategy<Value = String> {
    let segment = select(vec!["a", "b", "c", "ab", "", "a", "b"]);
    prop_oneof![
        9 => prop::collection::vec(segment, 1..5).prop_map(|s| format!("/{}", s.join("/"))),
        1 => Just("*".to_owned()),
    ]
}

fn patterns() -> impl Strategy<Value = Option<PathPattern>> {
    let piece = || select(vec!["a", "b", "c", "ab", "{1}", "{2}", ""]);
    let segments =
        (prop::collection::vec(piece(), 1..5), any::<bool>()).prop_map(|(pieces, open)| {
            let mut all: Vec<Segment> = Vec::new();
            for (i, p) in pieces.iter().enumerate() {
                all.push(if p.starts_with('{') {
                    Segment::Capture(format!("c{i}"))
                } else {
                    Segment::Literal((*p).to_owned())
                });
            }
            if open {
                all.push(Segment::Rest("rest".into()));
            }
            PathPattern::Segments(all)
        });
    let plain = || paths().prop_filter("a path", |p| p.starts_with('/'));
    prop_oneof![
        1 => Just(None),
        3 => plain().prop_map(|p| Some(PathPattern::Exact(p))),
        3 => plain().prop_map(|p| {
            let trimmed = p.trim_end_matches('/');
            Some(PathPattern::Prefix(if trimmed.is_empty() { "/".into() } else { trimmed.into() }))
        }),
        4 => segments.prop_map(Some),
        1 => select(vec!["/a.*", "/(a|b)/[abc]", ".*/c", "/a|/b", "/(?<x>[^/]*)/b/?"]).prop_map(|r| Some(PathPattern::Regex(r.into()))),
    ]
}

fn value() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![
        Just(ValueMatch::Present),
        select(vec!["1", "2", "12"]).prop_map(|v| ValueMatch::Exact(v.into())),
        select(vec!["1", "2"]).prop_map(|v| ValueMatch::Prefix(v.into())),
        select(vec!["1+", "[12]"]).prop_map(|v| ValueMatch::Regex(v.into())),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    let name = || select(vec!["x", "y"]).prop_map(str::to_owned);
    let leaf = prop_oneof![
        (name(), value()).prop_map(|(n, v)| Condition::Header(n, v)),
        (name(), value()).prop_map(|(n, v)| Condition::Cookie(n, v)),
        (name(), value()).prop_map(|(n, v)| Condition::Query(n, v)),
        select(vec!["10.0.0.0/8", "10.1.0.0/16"])
            .prop_map(|n| Condition::Client(IpSet(vec![n.parse().unwrap()]))),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|c| Condition::Not(Box::new(c))),
            prop::collection::vec(inner, 0..3).prop_map(Condition::Any),
        ]
    })
}

fn some_methods() -> impl Strategy<Value = Vec<String>> {
    prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec(select(vec!["GET", "POST"]).prop_map(str::to_owned), 1..3),
    ]
}

fn routes() -> impl Strategy<Value = Vec<Route>> {
    let conditions =
        prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(condition(), 1..3)];
    let one = (patterns(), some_methods(), conditions).prop_map(|(path, methods, conditions)| {
        route(Matcher {
            path,
            methods,
            conditions,
        })
    });
    prop::collection::vec(one, 0..14)
}

const HOSTS: [&str; 8] = [
    "a.test",
    "b.test",
    "x.a.test",
    "y.x.a.test",
    "z.y.x.a.test",
    "test",
    "other",
    "xa.test",
];

fn sites() -> impl Strategy<Value = Vec<Site>> {
    let host = prop_oneof![
        select(HOSTS.to_vec()).prop_map(str::to_owned),
        select(vec!["*.test", "*.a.test", "*.x.a.test", "*"]).prop_map(str::to_owned),
    ];
    let one = (
        prop::collection::vec(host, 1..4),
        prop::collection::vec(0usize..3, 0..3),
        routes(),
    );
    let one = one.prop_map(|(hosts, listeners, routes)| {
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        Site {
            listeners,
            ..site(&hosts, routes)
        }
    });
    prop::collection::vec(one, 0..6)
}

fn requests() -> impl Strategy<Value = Request> {
    let number = || select(vec!["1", "2", "12", "3"]);
    let names = || select(vec!["x", "y"]);
    let header = (
        select(vec!["X", "y", "Cookie", "cookie"]),
        names(),
        number(),
    )
        .prop_map(|(n, k, v)| {
            let value = if n.eq_ignore_ascii_case("cookie") {
                format!("{k}={v}; z=1")
            } else {
                v.to_owned()
            };
            (n.to_owned(), value.into_bytes())
        });
    let client = select(vec![
        "10.0.0.1",
        "10.1.0.1",
        "::ffff:10.1.0.1",
        "2001:db8::1",
    ]);
    let query = prop::collection::vec((names(), number()), 0..3);
    (
        select(HOSTS.to_vec()),
        paths(),
        select(vec!["GET", "POST", "get"]),
        client,
        query,
        prop::collection::vec(header, 0..4),
    )
        .prop_map(|(host, path, method, client, query, headers)| Request {
            host: host.into(),
            path,
            method: method.into(),
            client: client.parse().unwrap(),
            query: query
                .iter()
                .map(|(n, v)| format!("{n}={v}"))
                .collect::<Vec<_>>()
                .join("&"),
            headers,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn finds_what_a_loop_would(
        sites in sites(),
        requests in prop::collection::vec(requests(), 1..12),
        listener in 0usize..4,
    ) {
        let router = Router::from_sites(&sites).unwrap();
        for request in &requests {
            let site = reference_site(&sites, listener, &request.host);
            let route = site.and_then(|s| reference_route(&sites[s].routes, request));
            let found = router.find(listener, &request.query());
            let got = match found {
                Found::Route { site, route, .. } => (Some(site), Some(route)),
                Found::NoRoute { site } => (Some(site), None),
                Found::NoSite => (None, None),
            };
            prop_assert_eq!(got, (site, route), "{:?}", request);
            let told = router.explain(listener, &request.query());
            prop_assert_eq!((told.site, told.route), (site, route));
            let won = told.verdicts.iter().position(|v| *v == Verdict::Won);
            prop_assert_eq!(won, route);
        }
    }

    #[test]
    fn one_site_with_many_routes(routes in routes(), paths in prop::collection::vec(paths(), 1..20)) {
        let router = Router::from_sites(&[site(&["*"], routes.clone())]).unwrap();
        for path in paths {
            let request = get("h", &path);
            prop_assert_eq!(ask(&router, &request).1, reference_route(&routes, &request), "{}", path);
        }
    }

    /// Captures put back into the pattern give the path.
    #[test]
    fn captures_rebuild_the_path(pattern in patterns(), path in paths()) {
        let Some(PathPattern::Segments(pieces)) = &pattern else { return Ok(()) };
        let router = Router::from_sites(&[site(&["*"], vec![route(Matcher { path: pattern.clone(), ..Matcher::default() })])]).unwrap();
        let request = get("h", &path);
        if let Found::Route { site, route, captures } = router.find(0, &request.query()) {
            let text = |name: &str| router.captured(site, route, &captures, &path, name).unwrap().to_owned();
            let rebuilt: String = pieces.iter().map(|p| match p {
                Segment::Literal(l) => format!("/{l}"),
                Segment::Capture(n) => format!("/{}", text(n)),
                Segment::Rest(n) => format!("/{}", text(n)),
            }).collect();
            prop_assert!(rebuilt == path || rebuilt == format!("{path}/"), "{} is not {}", rebuilt, path);
        }
    }
}
