//! What the router promises, by example.

#![allow(clippy::unwrap_used)] // a router that can't be built fails the test

mod common;

use common::*;
use narthex_config::model::{Condition, IpSet, Site, ValueMatch};
use narthex_route::{Found, Router, Verdict};

fn router(sites: Vec<Site>) -> Router {
    Router::from_sites(&sites).unwrap()
}

/// The route of a site for every host.
fn taken(routes: Vec<narthex_config::model::Route>, request: &Request) -> Option<usize> {
    ask(&router(vec![site(&["*"], routes)]), request).1
}

fn captured(pattern: &str, path: &str) -> Vec<(String, String)> {
    let router = router(vec![site(&["*"], vec![self::path(pattern)])]);
    let Found::Route {
        site,
        route,
        captures,
    } = router.find(0, &get("h", path).query())
    else {
        return Vec::new();
    };
    let names = router.capture_names(site, route).iter();
    names
        .filter_map(|n| {
            Some((
                n.to_string(),
                router.captured(site, route, &captures, path, n)?.to_owned(),
            ))
        })
        .collect()
}

#[test]
fn exact_host_before_longest_wildcard_before_default() {
    let all = vec![path("")];
    let router = router(vec![
        site(&["*"], all.clone()),
        site(&["*.example.com"], all.clone()),
        site(&["*.b.example.com", "other.test"], all.clone()),
        site(&["x.b.example.com"], all),
    ]);
    for (host, want) in [
        ("x.b.example.com", 3),
        ("y.b.example.com", 2),
        ("z.y.b.example.com", 2),
        ("b.example.com", 1),
        ("a.b.c.example.com", 1),
        ("example.com", 0),
        ("xexample.com", 0),
        ("other.test", 2),
        ("a.other.test", 0),
        ("[::1]", 0),
        ("10.0.0.1", 0),
        ("", 0),
    ] {
        assert_eq!(
            ask(&router, &get(host, "/")),
            (Some(want), Some(0)),
            "{host}"
        );
    }
}

#[test]
fn a_site_answers_on_its_listeners_only() {
    let mut first = site(&["a.test", "*"], vec![path("")]);
    first.listeners = vec![1];
    let mut second = site(&["a.test"], vec![path("")]);
    second.listeners = vec![0, 2];
    let router = router(vec![first, second]);
    assert_eq!(router.site(0, "a.test"), Some(1));
    assert_eq!(router.site(1, "a.test"), Some(0));
    assert_eq!(router.site(2, "a.test"), Some(1));
    assert_eq!(router.site(3, "a.test"), None);
    assert_eq!(router.site(0, "b.test"), None);
    assert_eq!(router.site(1, "b.test"), Some(0));
    assert_eq!(router.find(0, &get("b.test", "/").query()), Found::NoSite);
}

#[test]
fn ac02_written_hosts_take_the_form_of_asked_ones() {
    let router = router(vec![site(
        &["Example.COM.", "[0:0::1]", "*.WILD.test"],
        vec![path("")],
    )]);
    for host in ["example.com", "[::1]", "a.wild.test"] {
        assert_eq!(router.site(0, host), Some(0), "{host}");
    }
}

#[test]
fn ac02_many_hosts_are_told_apart_as_few_are() {
    let sites = (0..500)
        .map(|i| site(&[&format!("Host-{i}.test")], vec![path("")]))
        .collect();
    let router = router(sites);
    for i in 0..500 {
        assert_eq!(router.site(0, &format!("host-{i}.test")), Some(i));
    }
    assert_eq!(router.site(0, "host-500.test"), None);
}

#[test]
fn the_first_written_wins_whatever_its_kind() {
    let kinds = ["/a/b", "/a/*", "/a/{x}", "/{y*}", "~/a/.*", ""];
    for shift in 0..kinds.len() {
        let routes: Vec<_> = (0..kinds.len())
            .map(|i| path(kinds[(i + shift) % kinds.len()]))
            .collect();
        assert_eq!(
            taken(routes, &get("h", "/a/b")),
            Some(0),
            "{} first",
            kinds[shift]
        );
    }
}

#[test]
fn the_next_lowest_is_tried_when_a_condition_fails() {
    let routes = vec![
        when("/a/b", vec![header("x", "1")]),
        when("/{p}/b", vec![header("x", "2")]),
        when("", vec![header("x", "3")]),
        when("/a/*", vec![header("x", "4")]),
        path("~/a/b"),
        path("/a/b"),
    ];
    for (value, want) in [("1", 0), ("2", 1), ("3", 2), ("4", 3), ("5", 4)] {
        assert_eq!(
            taken(routes.clone(), &get("h", "/a/b").with("X", value)),
            Some(want)
        );
    }
}

#[test]
fn path_patterns() {
    for (pattern, yes, no) in [
        (
            "/a/b",
            &["/a/b"][..],
            &["/a", "/a/b/", "/a/bc", "/A/b", "/a%2Fb", "//a/b"][..],
        ),
        ("/a/", &["/a/"], &["/a", "/a//"]),
        ("/", &["/"], &["//", "/a", "*"]),
        (
            "/api/*",
            &["/api", "/api/", "/api/x/y", "/api//x"],
            &["/apix", "/ap", "/", "/api%2Fx", "//api"],
        ),
        ("/*", &["/", "/a", "//", "/a/b"], &["*"]),
        (
            "/u/{id}/x",
            &["/u/5/x", "/u/%2F/x"],
            &["/u//x", "/u/5/x/", "/u/5", "/u/5/y", "/u/5/6/x"],
        ),
        ("/u/{id}", &["/u/5"], &["/u/", "/u", "/u/5/"]),
        ("/u/{id}/", &["/u/5/"], &["/u/5", "/u//"]),
        (
            "/old/{rest*}",
            &["/old", "/old/", "/old/a/b"],
            &["/older", "/"],
        ),
        ("/{rest*}", &["/", "/a/b"], &["*"]),
        (r"~/v\d+/.*", &["/v1/", "/v22/x"], &["/v/", "/v1", "x/v1/"]),
        ("~.*", &["/"], &["*"]),
        ("", &["/", "*", "/a"], &[]),
    ] {
        for path in yes {
            assert_eq!(
                taken(vec![self::path(pattern)], &get("h", path)),
                Some(0),
                "{path} is {pattern}"
            );
        }
        for path in no {
            assert_eq!(
                taken(vec![self::path(pattern)], &get("h", path)),
                None,
                "{path} is not {pattern}"
            );
        }
    }
}

#[test]
fn ac16_written_patterns_take_the_form_of_asked_paths() {
    for (pattern, path) in [
        ("/%61dmin", "/admin"),
        ("/a%2fb", "/a%2Fb"),
        ("/a%2fb/*", "/a%2Fb/c"),
        ("/caf\u{e9}/*", "/caf%C3%A9/x"),
        ("/x y/{id}", "/x%20y/1"),
        ("/api/", "/api/"),
        ("/a/./b", "/a/b"),
    ] {
        assert_eq!(
            taken(vec![self::path(pattern)], &get("h", path)),
            Some(0),
            "{pattern}"
        );
    }
    let mut merging = site(&["*"], vec![path("/a//b")]);
    merging.merge_slashes = true;
    let router = router(vec![merging]);
    assert!(router.merge_slashes(0));
    assert_eq!(ask(&router, &get("h", "/a/b")).1, Some(0));
}

#[test]
fn captures() {
    let pairs = |list: &[(&str, &str)]| {
        list.iter()
            .map(|(n, t)| ((*n).into(), (*t).into()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        captured("/u/{id}/x/{rest*}", "/u/4%2F2/x/a/b/"),
        pairs(&[("id", "4%2F2"), ("rest", "a/b/")])
    );
    assert_eq!(captured("/old/{rest*}", "/old"), pairs(&[("rest", "")]));
    assert_eq!(captured("/old/{rest*}", "/old/"), pairs(&[("rest", "")]));
    assert_eq!(
        captured("/{a}/{b}", "/1/2"),
        pairs(&[("a", "1"), ("b", "2")])
    );
    assert_eq!(
        captured(r"~/v(?<major>\d+)(\.(?<minor>\d+))?/(?<rest>.*)", "/v2/x"),
        pairs(&[("major", "2"), ("rest", "x")])
    );
    assert_eq!(captured("/a/*", "/a/b"), pairs(&[]));
}

#[test]
fn ac15_methods_are_case_sensitive() {
    let routes = || vec![methods("/a", &["GET", "PURGE"])];
    for (method, want) in [
        ("GET", Some(0)),
        ("PURGE", Some(0)),
        ("get", None),
        ("POST", None),
        ("GETS", None),
    ] {
        let mut request = get("h", "/a");
        request.method = method.into();
        assert_eq!(taken(routes(), &request), want, "{method}");
    }
}

#[test]
fn ac06_every_value_is_looked_at() {
    let some = |c: Condition| vec![when("", vec![c])];
    let deny = || some(Condition::Not(Box::new(header("X-Role", "bad"))));
    let twice = get("h", "/").with("x-role", "good").with("X-ROLE", "bad");
    assert_eq!(taken(deny(), &twice), None);
    assert_eq!(
        taken(deny(), &get("h", "/").with("x-role", "good,bad")),
        Some(0),
        "a list is one value"
    );
    assert_eq!(taken(deny(), &get("h", "/")), Some(0));

    let cookie = || some(Condition::Cookie("c".into(), ValueMatch::Exact("2".into())));
    assert_eq!(
        taken(
            cookie(),
            &get("h", "/")
                .with("Cookie", "c=1; d=2")
                .with("cookie", "c=2")
        ),
        Some(0)
    );
    assert_eq!(
        taken(cookie(), &get("h", "/").with("Cookie", "c=1; d=2")),
        None
    );

    let query = || {
        some(Condition::Query(
            "q".into(),
            ValueMatch::Exact("a b".into()),
        ))
    };
    for (text, want) in [
        ("q=1&%71=a+b", Some(0)),
        ("q=a%20b", Some(0)),
        ("q=a", None),
        ("", None),
    ] {
        let mut request = get("h", "/");
        request.query = text.into();
        assert_eq!(taken(query(), &request), want, "{text}");
    }
}

#[test]
fn values() {
    let role = |m: ValueMatch| vec![when("", vec![Condition::Header("r".into(), m)])];
    for (want, yes, no) in [
        (ValueMatch::Present, &["", "x"][..], &[][..]),
        (ValueMatch::Exact("Ab".into()), &["Ab"], &["ab", "Abc", ""]),
        (
            ValueMatch::Prefix("Ab".into()),
            &["Ab", "Abc"],
            &["A", "xAb"],
        ),
        (
            ValueMatch::Regex("a+".into()),
            &["a", "aa"],
            &["ba", "ab", ""],
        ),
    ] {
        for value in yes {
            assert_eq!(
                taken(role(want.clone()), &get("h", "/").with("R", value)),
                Some(0),
                "{value} {want:?}"
            );
        }
        for value in no {
            assert_eq!(
                taken(role(want.clone()), &get("h", "/").with("R", value)),
                None,
                "{value} {want:?}"
            );
        }
        assert_eq!(taken(role(want.clone()), &get("h", "/")), None);
    }
}

#[test]
fn client_addresses_mapped_ones_too() {
    let inside = Condition::Client(IpSet(vec![
        "10.0.0.0/8".parse().unwrap(),
        "2001:db8::/32".parse().unwrap(),
    ]));
    for (client, want) in [
        ("10.1.2.3", true),
        ("::ffff:10.1.2.3", true),
        ("2001:db8::1", true),
        ("11.0.0.1", false),
    ] {
        let mut request = get("h", "/");
        request.client = client.parse().unwrap();
        let routes = vec![when("", vec![inside.clone()])];
        assert_eq!(taken(routes, &request).is_some(), want, "{client}");
    }
}

#[test]
fn any_and_not_nest() {
    let either = Condition::Any(vec![
        header("a", "1"),
        Condition::Not(Box::new(header("b", "1"))),
    ]);
    let routes = vec![when("", vec![either])];
    assert_eq!(taken(routes.clone(), &get("h", "/").with("b", "1")), None);
    assert_eq!(
        taken(routes.clone(), &get("h", "/").with("b", "1").with("a", "1")),
        Some(0)
    );
    assert_eq!(taken(routes, &get("h", "/")), Some(0));
    assert_eq!(
        taken(vec![when("", vec![Condition::Any(vec![])])], &get("h", "/")),
        None,
        "any of nothing"
    );
}

#[test]
fn explain_tells_why_each_lost() {
    let router = router(vec![site(
        &["a.test"],
        vec![
            path("/other/*"),
            methods("/api/*", &["POST", "PUT"]),
            when("/api/*", vec![header("X-Beta", "1")]),
            path("/api/{x}"),
            path(""),
            path("~/b"),
        ],
    )]);
    let told = router.explain(0, &get("a.test", "/api/x").query());
    assert_eq!((told.site, told.route), (Some(0), Some(3)));
    let text: Vec<String> = told.verdicts.iter().map(ToString::to_string).collect();
    assert_eq!(
        text,
        [
            "lost: path `/api/x` is not `/other/*`",
            "lost: method GET is not POST or PUT",
            "lost: it does not hold that header `X-Beta` equals `1`",
            "won",
            "matches too, but route 4 above it was first",
            "lost: path `/api/x` is not `~ /b`",
        ]
    );
    assert_eq!(router.explain(0, &get("b.test", "/").query()).site, None);
    let none = router.explain(0, &get("a.test", "*").query());
    assert_eq!(
        none.verdicts.get(4),
        Some(&Verdict::Won),
        "`*` is taken by a route without path"
    );
}

#[test]
fn what_cannot_be_built_says_where() {
    let long = "/x".repeat(65);
    let many = (0..17)
        .map(|i| format!("{{c{i}}}"))
        .collect::<Vec<_>>()
        .join("/");
    let many = format!("/{many}");
    for (pattern, part) in [
        ("~(", "regular expression `(` is refused"),
        ("/a/../../b", "climbs above the root"),
        ("/a?b", "`?`"),
        ("/{rest*}/x", "must be last"),
        ("/{a}/{a}", "there twice"),
        ("/{a}/.", "not one segment"),
        ("/{a}/..", "above the root"),
        (long.as_str(), "more than 64 segments"),
        (many.as_str(), "at most 16"),
    ] {
        let error = Router::from_sites(&[site(&["a.test"], vec![path(pattern)])])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("t.kdl:2: site `a.test`, route `r`: "),
            "{error}"
        );
        assert!(error.contains(part), "{error}");
    }
    for host in ["a..b", "a:80", "a/b", ""] {
        let error = Router::from_sites(&[site(&[host], vec![])])
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("t.kdl:1: site "), "{error}");
    }
}

#[test]
fn hostile_requests_cost_steps_not_squares() {
    // Deep paths and hosts of nothing but dots walk to their end once.
    let router = router(vec![site(
        &["*.a.b", "*"],
        vec![path("/{a}/{b}/x"), path("/a/b/y"), path("/*")],
    )]);
    let deep = "/a".repeat(4000);
    assert_eq!(
        ask(&router, &get(&"a.".repeat(127), &deep)),
        (Some(0), Some(2))
    );
    assert_eq!(
        ask(&router, &get("h", &"/".repeat(8000))),
        (Some(0), Some(2))
    );
}
