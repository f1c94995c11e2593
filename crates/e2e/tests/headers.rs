//! Header fields that belong to the proxy: nomination by `Connection` (H1-33), identity and forwarding headers (AC-03,
//! AC-04, AC-05), the client's address through chains.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::format_collect,
    clippy::format_push_string,
    reason = "request bytes are written to be read"
)]

use narthex_e2e::kit::attack::Client;
use narthex_e2e::kit::craft::{cases, get, sized};
use narthex_e2e::kit::origin::Origin;
use narthex_e2e::kit::proxy::Proxy;
use narthex_e2e::kit::rig::Rig;

/// Framing, routing and proxy-owned names: nomination must not remove them.
const NEVER: &[&str] = &[
    "Host",
    "Content-Length",
    "Transfer-Encoding",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Real-IP",
    "X-Request-Id",
    "Authorization",
    "Cookie",
    "Cache-Control",
];

/// CVE-2022-45059 (Varnish), CVE-2024-45410 and CVE-2026-29054 (Traefik), CVE-2025-48865 (Fabio), CVE-2021-33197 (Go).
#[test]
fn h1_33_nomination_never_removes_what_is_ours() {
    let rig = Rig::of(
        "",
        "header request { set \"X-Auth-Proxy\" \"trusted\" }\nproxy \"u\"",
    );
    for name in NEVER {
        for spelled in cases(name) {
            for list in [
                spelled.clone(),
                format!("close, {spelled}"),
                format!("{spelled},keep-alive"),
                format!(" {spelled} ,, x"),
            ] {
                let extra = match *name {
                    "Authorization" => "Authorization: Basic eA==\r\n",
                    "Cookie" => "Cookie: a=b\r\n",
                    "Cache-Control" => "Cache-Control: no-store\r\n",
                    _ => "",
                };
                let r = rig.connect().ask(sized(
                    "/n",
                    &format!("Connection: {list}\r\n{extra}"),
                    "abc",
                ));
                assert_eq!(r.status, 200, "{list}");
                let seen = rig.one();
                assert_eq!(seen.body, b"abc", "{list}");
                for ours in [
                    "host",
                    "x-forwarded-for",
                    "x-forwarded-proto",
                    "x-forwarded-host",
                    "x-real-ip",
                    "x-auth-proxy",
                ] {
                    assert_eq!(
                        seen.fields.all(ours).len(),
                        1,
                        "{list}: {ours} in {:?}",
                        seen.fields
                    );
                }
                if matches!(*name, "Authorization" | "Cookie" | "Cache-Control") {
                    assert!(seen.fields.has(name), "{list}: {:?}", seen.fields);
                }
            }
        }
    }
}

/// Headers that the proxy's own rules set are computed after removal.
#[test]
fn h1_33_nomination_of_headers_that_rules_set() {
    let rig = Rig::of(
        "",
        "header request { set \"X-User\" \"proxy\"; add \"X-Tag\" \"proxy\" }\nproxy \"u\"",
    );
    for name in ["X-User", "X-Tag"] {
        for spelled in cases(name) {
            rig.connect().ask(get(
                "/",
                &format!("Connection: {spelled}\r\n{spelled}: client\r\n"),
            ));
            let seen = rig.one();
            let values = seen.fields.all(name);
            assert!(
                values.contains(&&b"proxy"[..]),
                "{spelled}: {:?}",
                seen.fields
            );
            assert!(
                !values.contains(&&b"client"[..]),
                "{spelled} was nominated and is hop-by-hop: {:?}",
                seen.fields
            );
        }
    }
}

/// Unknown nominated names are dropped, and so are the hop-by-hop ones, nominated or not. 60 names in four cases.
#[test]
fn h1_33_nominated_unknown_names_are_dropped() {
    let rig = Rig::plain();
    let names: Vec<String> = (0..56)
        .map(|n| format!("X-Priv-{n}"))
        .chain(["X-A".into(), "Secret".into(), "Foo-Bar".into(), "Z".into()])
        .collect();
    for name in &names {
        for spelled in cases(name) {
            let lower = spelled.to_lowercase();
            rig.connect().ask(get(
                "/",
                &format!("Connection: {spelled}\r\n{lower}: 1\r\nX-Stays: 2\r\n"),
            ));
            let seen = rig.one();
            assert!(
                !seen.fields.has(&spelled) && seen.fields.has("x-stays"),
                "{spelled}: {:?}",
                seen.fields
            );
        }
    }
    for (name, value) in [
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("TE", "gzip"),
        ("Upgrade", "foo"),
        ("Proxy-Authorization", "Basic x"),
        ("HTTP2-Settings", "AAA"),
        ("Trailer", "X-T"),
    ] {
        rig.connect().ask(get("/", &format!("{name}: {value}\r\n")));
        let seen = rig.one();
        if name != "Trailer" && name != "Proxy-Authorization" {
            assert!(!seen.fields.has(name), "{name}: {:?}", seen.fields);
        }
        assert!(
            !seen.fields.has_token("connection", name),
            "{:?}",
            seen.fields
        );
    }
}

/// CVE-2026-30851 (Caddy), CVE-2026-33433 and 54763 (Traefik), CVE-2025-64484 (oauth2-proxy): every spelling of an owned name.
#[test]
fn identity_headers_of_the_client_are_removed() {
    let rig = Rig::of(
        "",
        "header request { set \"X-Auth-User\" \"from-proxy\" }\nproxy \"u\"",
    );
    let spellings = |name: &str| {
        let mut all: Vec<String> = cases(name).into();
        all.extend(cases(&name.replace('-', "_")));
        all.extend(cases(&name.replacen('-', "_", 1)));
        all.push(name.replace('-', "."));
        all
    };
    for name in [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Real-IP",
        "Forwarded",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Server",
        "X-Forwarded-Uri",
        "X-Request-Id",
    ] {
        for spelled in spellings(name) {
            for (before, after) in [
                ("", ""),
                ("X-Forwarded-For: 1.1.1.1\r\n", ""),
                ("", "X-Forwarded-For: 1.1.1.1\r\n"),
                ("Connection: X-Other\r\n", ""),
            ] {
                rig.connect().ask(get(
                    "/",
                    &format!("{before}{spelled}: evil-value\r\n{after}"),
                ));
                let seen = rig.one();
                for (n, v) in &seen.fields.0 {
                    let (n, v) = (String::from_utf8_lossy(n), String::from_utf8_lossy(v));
                    assert!(
                        !v.contains("evil-value") && !v.contains("1.1.1.1"),
                        "{spelled} reached the origin as {n}: {v}"
                    );
                }
            }
        }
    }
    for spelled in spellings("X-Auth-User") {
        rig.connect().ask(get(
            "/",
            &format!("{spelled}: evil-value\r\n{spelled}: evil-value\r\n"),
        ));
        let seen = rig.one();
        assert_eq!(
            seen.fields.all("x-auth-user"),
            vec![&b"from-proxy"[..]],
            "{spelled}"
        );
        for (n, v) in &seen.fields.0 {
            let folded = String::from_utf8_lossy(n).replace(['_', '.'], "-");
            assert!(
                !folded.eq_ignore_ascii_case("x-auth-user") || v == b"from-proxy",
                "{spelled}: {:?}",
                seen.fields
            );
        }
    }
}

/// AC-05: names with `_` are dropped unless the route says otherwise.
#[test]
fn underscore_names_are_dropped() {
    let rig = Rig::of(
        "",
        "route path=\"/keep\" { unsafe-underscore-headers #true; proxy \"u\" }\nproxy \"u\"",
    );
    rig.connect().ask(get(
        "/drop",
        "X_Any: 1\r\nx-fine: 2\r\nContent_Length: 5\r\n",
    ));
    let seen = rig.one();
    assert!(
        !seen.fields.has("x_any")
            && !seen.fields.has("content_length")
            && seen.fields.has("x-fine"),
        "{:?}",
        seen.fields
    );
    rig.connect().ask(get("/keep", "X_Any: 1\r\n"));
    assert!(rig.one().fields.has("x_any"));
}

/// What the origin is told about the client, when nobody in between is trusted.
#[test]
fn forwarding_headers_are_right() {
    for (style, xff, fwd) in [
        ("x-forwarded", true, false),
        ("forwarded", false, true),
        ("both", true, true),
        ("off", false, false),
    ] {
        let rig = Rig::of("", &format!("forwarded \"{style}\"\nproxy \"u\""));
        rig.connect().ask("GET / HTTP/1.1\r\nHost: Shop.Example:8080\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Forwarded-Proto: https\r\n\r\n");
        let seen = rig.one();
        let get = |n: &str| seen.header(n);
        assert_eq!(
            get("x-forwarded-for").as_deref(),
            xff.then_some("127.0.0.1"),
            "{style}"
        );
        assert_eq!(
            get("x-forwarded-proto").as_deref(),
            xff.then_some("http"),
            "{style}"
        );
        assert_eq!(
            get("x-real-ip").as_deref(),
            xff.then_some("127.0.0.1"),
            "{style}"
        );
        assert_eq!(get("forwarded").is_some(), fwd, "{style}");
        if let Some(f) = get("forwarded") {
            assert!(
                f.contains("for=127.0.0.1") && f.contains("proto=http") && !f.contains("6.6.6.6"),
                "{f}"
            );
        }
        if xff {
            assert!(
                get("x-forwarded-host")
                    .unwrap()
                    .eq_ignore_ascii_case("shop.example:8080")
            );
        }
    }
}

/// The address that the origin is told (`X-Real-IP`) for a chain in `X-Forwarded-For`.
fn real_ip(c: &mut Client, rig: &Rig, chain: &str) -> String {
    let fields: String = chain
        .split('|')
        .map(|v| format!("X-Forwarded-For: {v}\r\n"))
        .collect();
    c.ask(get("/", &fields));
    rig.one().header("x-real-ip").unwrap_or_default()
}

fn trusting() -> Rig {
    let origin = Origin::start();
    let config = format!(
        "{}\ntrusted-proxies \"127.0.0.0/8\" \"10.0.0.0/8\" \"2001:db8::/32\"\n",
        Rig::text(&origin, "", "", "proxy \"u\"")
    );
    Rig {
        proxy: Proxy::start(&config),
        origin,
    }
}

/// GHSA-7jmw (Traefik, mapped IPv6), CVE-2024-45806 (Envoy), CVE-2025-31698 (ATS): 80 chains.
#[test]
fn client_address_through_trusted_proxies() {
    let rig = trusting();
    let mut c = rig.connect();
    let v4 = "203.0.113.7";
    let mut rows: Vec<(String, &str)> = vec![
        // Right to left, the first that is not trusted.
        (v4.into(), v4),
        (format!("6.6.6.6, {v4}"), v4),
        (format!("6.6.6.6,{v4}"), v4),
        (format!("6.6.6.6 ,\t{v4} "), v4),
        (format!("6.6.6.6, {v4}, 10.1.1.1"), v4),
        (format!("{v4}, 10.1.1.1, 10.2.2.2"), v4),
        (format!("10.9.9.9, {v4}, 10.1.1.1"), v4),
        (format!("127.0.0.1, {v4}"), v4),
        (format!("::1, {v4}"), v4),
        (format!("unknown, {v4}"), v4),
        (format!("garbage, {v4}"), v4),
        // Two lines are one list.
        (format!("6.6.6.6|{v4}"), v4),
        (format!("{v4}|10.1.1.1"), v4),
        // Mapped IPv6 is the IPv4 address.
        (format!("::ffff:{v4}"), v4),
        (format!("{v4}, ::ffff:10.1.1.1"), v4),
        (format!("{v4}, ::FFFF:10.1.1.1"), v4),
        ("2001:db9::1".into(), "2001:db9::1"),
        ("2001:db9::1, 2001:db8::1".into(), "2001:db9::1"),
        ("2001:0DB9:0::1".into(), "2001:db9::1"),
        ("[2001:db9::1]".into(), "2001:db9::1"),
        ("[2001:db9::1]:443".into(), "2001:db9::1"),
        (format!("{v4}:1234"), v4),
        (format!("{v4}, 10.1.1.1:80"), v4),
    ];
    // A malformed element stops the walk: the last address that was believed remains, or the peer; never the attacker's.
    for bad in [
        "unknown",
        "_hidden",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "1.2.3.4/8",
        "0x7f.1",
        "2130706433",
        "-",
        "a b",
        "::g",
        "[::1",
        "1.2.3.4:",
        "1.2.3.4:x",
        "1.2.3.4:99999",
        "\"1.2.3.4\"",
        "for=1.2.3.4",
        "01.2.3.4",
        "1.2.3.04",
        "%31.2.3.4",
        "localhost",
    ] {
        rows.push((format!("6.6.6.6, {bad}, 10.1.1.1"), "10.1.1.1"));
        rows.push((format!("6.6.6.6, {bad}"), "127.0.0.1"));
    }
    // All trusted: the leftmost.
    rows.push(("10.1.1.1, 10.2.2.2".into(), "10.1.1.1"));
    let mut failures = Vec::new();
    for (chain, want) in rows {
        let got = real_ip(&mut c, &rig, &chain);
        // A trailing port with nothing in it and quoted forms may be read either way, but never as the attacker's 6.6.6.6.
        let lenient = chain.contains("1.2.3.4:") || chain.contains('"');
        let stopped = want == "10.1.1.1" && got == "127.0.0.1";
        if got != want && !stopped && !(lenient && got == "1.2.3.4") {
            failures.push(format!("{chain:?}: {got}, expected {want}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // Long chains are bounded, and the attacker's end of them is not believed.
    for hops in [49, 51, 500] {
        let chain = format!("6.6.6.6, {}", vec!["10.1.1.1"; hops].join(", "));
        let got = real_ip(&mut c, &rig, &chain);
        assert!(
            got == "10.1.1.1" || (hops < 50 && got == "6.6.6.6"),
            "{hops} hops: {got}"
        );
    }
}

/// What only the first proxy can know is passed on from a trusted peer, and from nobody else; look-alikes from neither.
#[test]
fn trusted_peers_say_how_the_client_came() {
    let said = [
        ("X-Forwarded-Host", "public.example"),
        ("X-Forwarded-Port", "443"),
        ("X-Forwarded-Prefix", "/app"),
        ("X-Forwarded-Scheme", "https"),
        ("X-Forwarded-Server", "edge"),
        ("X-Forwarded-Ssl", "on"),
    ];
    for (rig, trusted) in [(trusting(), true), (Rig::plain(), false)] {
        for (name, value) in said {
            for spelled in cases(name) {
                rig.connect().ask(get(
                    "/",
                    &format!("{spelled}: {value}\r\nConnection: {name}\r\n"),
                ));
                let seen = rig.one();
                let got = seen.header(name);
                if trusted {
                    assert_eq!(got.as_deref(), Some(value), "{spelled}");
                } else {
                    assert_ne!(got.as_deref(), Some(value), "{spelled}");
                }
                assert_eq!(seen.fields.all("x-forwarded-host").len(), 1, "{spelled}");
            }
            for alike in [
                name.replace('-', "_"),
                name.replace('-', "."),
                name.replacen('-', "_", 1),
            ] {
                rig.connect()
                    .ask(get("/", &format!("{alike}: {value}\r\n")));
                assert!(!rig.one().fields.has(&alike), "{alike}");
            }
        }
    }
}

/// HTTP/1.0 without `Host`: there is no host to tell of.
#[test]
fn no_host_is_not_an_empty_one() {
    let rig = Rig::of("", "forwarded \"both\"\nproxy \"u\"");
    rig.connect().ask("GET / HTTP/1.0\r\n\r\n");
    let seen = rig.one();
    assert!(!seen.fields.has("x-forwarded-host"), "{:?}", seen.fields);
    let forwarded = seen.header("forwarded").unwrap();
    assert_eq!(forwarded, "for=127.0.0.1;proto=http");
}

/// Peers that nobody trusts are the client, whatever they say.
#[test]
fn client_address_of_untrusted_peers() {
    let rig = Rig::plain();
    let mut c = rig.connect();
    for chain in [
        "6.6.6.6",
        "6.6.6.6, 127.0.0.1",
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "10.0.0.1, 10.0.0.2",
        "unknown",
        "",
        ",",
        "6.6.6.6|7.7.7.7",
        "\"6.6.6.6\"",
    ] {
        assert_eq!(real_ip(&mut c, &rig, chain), "127.0.0.1", "{chain}");
    }
    for name in [
        "X-Real-IP",
        "CF-Connecting-IP",
        "True-Client-IP",
        "X-Client-IP",
        "X-Cluster-Client-IP",
        "Forwarded",
    ] {
        c.ask(get("/", &format!("{name}: 6.6.6.6\r\n")));
        assert_eq!(
            rig.one().header("x-real-ip").as_deref(),
            Some("127.0.0.1"),
            "{name}"
        );
    }
}

/// A trusted peer's chain is continued, not replaced.
#[test]
fn trusted_chains_are_continued() {
    let rig = trusting();
    rig.connect().ask(get(
        "/",
        "X-Forwarded-For: 203.0.113.7, 10.1.1.1\r\nX-Forwarded-Proto: https\r\n",
    ));
    let seen = rig.one();
    let chain = seen.header("x-forwarded-for").unwrap();
    assert!(
        chain.contains("203.0.113.7") && chain.ends_with("127.0.0.1"),
        "{chain}"
    );
    assert_eq!(seen.header("x-forwarded-proto").as_deref(), Some("https"));
}

/// Header rules: set, add, remove, default, variables, in written order, on both ways.
#[test]
fn header_rules() {
    let rig = Rig::of(
        "",
        "header request { set \"X-Set\" \"v\"; add \"X-Add\" \"two\"; remove \"X-Gone\"; set \"X-Ip\" \"{client.ip}\"; set \"X-Path\" \"{method} {path}\" }\n\
         header response { set \"X-Frame-Options\" \"DENY\"; remove \"X-Secret\"; add \"X-More\" \"b\" }\n\
         route path=\"/r/*\" { header request { set \"X-Set\" \"route\" }; proxy \"u\" }\n\
         proxy \"u\"",
    );
    rig.origin.otherwise(narthex_e2e::kit::origin::answer(
        "HTTP/1.1 200 OK\r\nX-Secret: 1\r\nX-More: a\r\nContent-Length: 0\r\n\r\n",
    ));
    let r = rig.connect().ask(get(
        "/p?q",
        "X-Set: client\r\nX-Add: one\r\nX-Gone: 1\r\nx-gone: 2\r\n",
    ));
    let seen = rig.one();
    assert_eq!(seen.fields.all("x-set"), vec![&b"v"[..]]);
    assert_eq!(seen.fields.all("x-add"), vec![&b"one"[..], b"two"]);
    assert!(!seen.fields.has("x-gone"));
    assert_eq!(seen.header("x-ip").as_deref(), Some("127.0.0.1"));
    assert_eq!(seen.header("x-path").as_deref(), Some("GET /p"));
    assert_eq!(r.fields.get("x-frame-options").as_deref(), Some("DENY"));
    assert!(!r.fields.has("x-secret"));
    assert_eq!(r.fields.all("x-more"), vec![&b"a"[..], b"b"]);
    rig.connect().ask(get("/r/x", ""));
    assert_eq!(
        rig.one().fields.all("x-set"),
        vec![&b"route"[..]],
        "a route adds to its site"
    );
}

/// `X-Request-Id` is ours, the same for origin, client and log.
#[test]
fn request_ids() {
    let rig = Rig::plain();
    let r = rig.connect().ask(get("/", "X-Request-Id: forged\r\n"));
    let seen = rig.one();
    let ids = seen.fields.all("x-request-id");
    assert_eq!(ids.len(), 1, "{:?}", seen.fields);
    assert_ne!(ids[0], b"forged");
    assert_eq!(
        r.fields
            .get("x-request-id")
            .map(String::into_bytes)
            .as_deref(),
        Some(ids[0])
    );
}
