//! What a lookup costs: `cargo run --release -p narthex-route --example cost`. Prints nanoseconds per lookup for growing
//! numbers of sites and routes, and for the canonical forms that come before it. Numbers to read, not a test.

#![allow(clippy::expect_used)] // a router that can't be built ends the example

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use narthex_config::model::{
    Action, Condition, HostPattern, Matcher, Origin, PathPattern, Route, RouteSettings, Segment,
    Site, Template, ValueMatch,
};
use narthex_message::{authority, path};
use narthex_route::{Fields, Query, Router};

/// Lookups per batch, and batches per measurement. The fastest batch is told: the others met other work on the machine.
const BATCH: u32 = 10_000;
const BATCHES: u32 = 200;

/// One field, as small as it gets.
struct One;

impl Fields for One {
    fn each(&self, name: &str, each: &mut dyn FnMut(&[u8]) -> bool) {
        if name.eq_ignore_ascii_case("x-beta") {
            each(b"1");
        }
    }
}

fn route(path: Option<PathPattern>, conditions: Vec<Condition>) -> Route {
    Route {
        name: "r".into(),
        matcher: Matcher {
            path,
            methods: vec!["GET".into()],
            conditions,
        },
        filters: Vec::new(),
        action: Action::Respond {
            status: 200,
            content_type: String::new(),
            body: Template::default(),
        },
        settings: RouteSettings::default(),
        origin: Origin::default(),
    }
}

fn site(host: HostPattern, routes: Vec<Route>) -> Site {
    Site {
        name: String::new(),
        hosts: vec![host],
        listeners: Vec::new(),
        routes,
        access_log: None,
        merge_slashes: false,
        tls: None,
        hsts: None,
        error_pages: Vec::new(),
        origin: Origin::default(),
    }
}

fn query<'a>(host: &'a str, path: &'a str) -> Query<'a> {
    Query {
        host,
        path,
        method: "GET",
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        query: b"",
        fields: &One,
    }
}

/// Asks in turn for each of `asked`.
fn measure(what: &str, router: &Router, asked: &[(String, String)]) {
    let mut asks = asked.iter().cycle();
    timed(what, || {
        if let Some((host, path)) = asks.next() {
            black_box(router.find(0, black_box(&query(host, path))));
        }
    });
}

fn timed(what: &str, mut run: impl FnMut()) {
    let batch = |_| {
        let start = Instant::now();
        for _ in 0..BATCH {
            run();
        }
        start.elapsed()
    };
    let fastest = (0..BATCHES).map(batch).min().unwrap_or_default();
    let each = fastest.as_nanos() as f64 / f64::from(BATCH);
    println!("{what:<58} {each:8.1} ns");
}

/// `count` numbers below `below`, scattered.
fn scattered(count: usize, below: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |i| i.wrapping_mul(7_919) % below)
}

fn sites(count: usize) {
    let written: Vec<Site> = (0..count)
        .map(|i| {
            let name = format!("site-{i}.example.com");
            let host = if i % 10 == 9 {
                HostPattern::Wildcard(name)
            } else {
                HostPattern::Exact(name)
            };
            site(
                host,
                vec![
                    route(Some(PathPattern::Prefix("/api".into())), Vec::new()),
                    route(None, Vec::new()),
                ],
            )
        })
        .collect();
    let start = Instant::now();
    let router = Router::from_sites(&written).expect("a router");
    let built = start.elapsed();
    let ask = |i: usize, path: &str| {
        let below = if i % 10 == 9 { "www." } else { "" };
        (format!("{below}site-{i}.example.com"), path.to_owned())
    };
    let hot = [ask(count / 2, "/api/v1/users")];
    let all: Vec<_> = scattered(10_000, count)
        .map(|i| ask(i, "/api/v1/users"))
        .collect();
    let none: Vec<_> = scattered(10_000, count)
        .map(|i| (format!("no-{i}.example.org"), "/".to_owned()))
        .collect();
    measure(&format!("{count} sites: the same one"), &router, &hot);
    measure(&format!("{count} sites: 10,000 of them"), &router, &all);
    measure(&format!("{count} sites: none"), &router, &none);
    println!("{:<58} {:8.1} ms", "  built in", built.as_secs_f64() * 1e3);
}

/// Exact, prefix, capture and conditional routes in turn, and a catch-all.
fn mixed(i: usize) -> Route {
    let text = |s: &str| s.to_owned();
    match i % 4 {
        0 => route(
            Some(PathPattern::Exact(format!("/page/{i}/index.html"))),
            Vec::new(),
        ),
        1 => route(Some(PathPattern::Prefix(format!("/api/v{i}"))), Vec::new()),
        2 => route(
            Some(PathPattern::Segments(vec![
                Segment::Literal(text("tenant")),
                Segment::Capture(text("id")),
                Segment::Literal(format!("r{i}")),
                Segment::Rest(text("rest")),
            ])),
            Vec::new(),
        ),
        _ => {
            let beta = Condition::Header(text("X-Beta"), ValueMatch::Exact(text("1")));
            route(Some(PathPattern::Prefix(format!("/beta/{i}"))), vec![beta])
        }
    }
}

fn asked_path(i: usize) -> String {
    match i % 4 {
        0 => format!("/page/{i}/index.html"),
        1 => format!("/api/v{i}/users/42"),
        2 => format!("/tenant/acme/r{i}/a/b"),
        _ => format!("/beta/{i}/x"),
    }
}

fn routes(count: usize) {
    let mut written: Vec<Route> = (0..count).map(mixed).collect();
    written.push(route(None, Vec::new()));
    let router = Router::from_sites(&[site(HostPattern::Any, written)]).expect("a router");
    let host = || "www.example.com".to_owned();
    for (kind, name) in ["exact", "prefix", "captures", "header"]
        .iter()
        .enumerate()
        .take(count)
    {
        let of_kind = scattered(40_000, count).filter(|i| i % 4 == kind);
        let asked: Vec<_> = of_kind.map(|i| (host(), asked_path(i))).collect();
        measure(&format!("{count} routes: {name}"), &router, &asked);
    }
    measure(
        &format!("{count} routes: none but the last"),
        &router,
        &[(host(), "/tenant/acme/none/x".to_owned())],
    );
}

fn main() {
    println!("canonical forms");
    let mut out = String::new();
    timed("path, 24 bytes, canonical", || {
        black_box(path::canonical(black_box(b"/api/v1/users/42/profile"), false, &mut out).is_ok());
    });
    timed("path, 30 bytes, rewritten", || {
        black_box(
            path::canonical(
                black_box(b"/api/%76%31/./users/42/profile"),
                false,
                &mut out,
            )
            .is_ok(),
        );
    });
    timed("host, 15 bytes, canonical", || {
        black_box(authority::parse(black_box(b"www.example.com")).is_ok());
    });
    println!("hosts (two routes each, a prefix that wins)");
    for count in [1, 100, 100_000] {
        sites(count);
    }
    println!("paths (one site)");
    for count in [1, 10, 10_000] {
        routes(count);
    }
}
