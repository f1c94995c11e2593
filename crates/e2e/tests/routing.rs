//! Routing as a user sees it: sites, paths, conditions, redirects, fixed answers, error pages, balancing.
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

use narthex_e2e::kit::attack::Response;
use narthex_e2e::kit::craft::get;
use narthex_e2e::kit::origin::{Origin, Personality, answer, echo};
use narthex_e2e::kit::proxy::Proxy;
use narthex_e2e::kit::rig::Rig;

fn ask(proxy: &Proxy, host: &str, target: &str, fields: &str) -> Response {
    proxy.connect().ask(format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n"
    ))
}

/// AC-02: case, port and final dot name the same site; exact beats the longest wildcard beats the default.
#[test]
fn sites_by_host() {
    let proxy = Proxy::start(&Proxy::config(
        "",
        "site \"example.com\" { respond 200 \"exact\" }\n\
         site \"*.example.com\" { respond 200 \"wild\" }\n\
         site \"*.deep.example.com\" { respond 200 \"deeper\" }\n\
         site \"one.example.com\" \"two.example.org\" { respond 200 \"several\" }\n\
         site \"[::1]\" { respond 200 \"v6\" }\n\
         site \"192.0.2.1\" { respond 200 \"v4\" }\n\
         site \"*\" { respond 200 \"default\" }",
    ));
    for (host, want) in [
        ("example.com", "exact"),
        ("EXAMPLE.com", "exact"),
        ("example.com.", "exact"),
        ("example.com:8080", "exact"),
        ("Example.Com.:80", "exact"),
        ("a.example.com", "wild"),
        ("a.b.example.com", "wild"),
        ("A.EXAMPLE.COM.", "wild"),
        ("x.deep.example.com", "deeper"),
        ("deep.example.com", "wild"),
        ("a.b.deep.example.com", "deeper"),
        ("one.example.com", "several"),
        ("two.example.org", "several"),
        ("xexample.com", "default"),
        ("example.com.evil.org", "default"),
        ("com", "default"),
        ("one.example.org", "default"),
        (".example.com", "400"),
        ("[::1]", "v6"),
        ("[::1]:8080", "v6"),
        ("[0:0:0:0:0:0:0:1]", "v6"),
        ("192.0.2.1", "v4"),
        ("192.0.2.1:1", "v4"),
        ("192.0.2.2", "default"),
    ] {
        let r = ask(&proxy, host, "/", "");
        let got = if r.status == 400 {
            "400".to_owned()
        } else {
            r.text()
        };
        assert_eq!(got, want, "{host}");
    }
}

/// A host that no site has, without a default site.
#[test]
fn unknown_hosts() {
    let origin = Origin::start();
    let proxy = Proxy::start(&Proxy::config(
        "",
        &format!("site \"example.com\" {{ proxy \"{}\" }}", origin.place()),
    ));
    let r = ask(&proxy, "other.example", "/", "");
    assert!(matches!(r.status, 404 | 421), "{}", r.status);
    assert!(origin.seen().is_empty());
    assert_eq!(ask(&proxy, "example.com", "/", "").status, 200);
}

/// More than a hundred hosts are looked up like one (CVE-2026-27588, Caddy).
#[test]
fn many_hosts() {
    let sites: String = (0..500)
        .map(|n| format!("site \"h{n}.example\" {{ respond 200 \"{n}\" }}\n"))
        .collect::<Vec<_>>()
        .concat();
    let proxy = Proxy::start(&Proxy::config("", &sites));
    for n in [0, 99, 100, 101, 255, 256, 499] {
        for host in [
            format!("h{n}.example"),
            format!("H{n}.EXAMPLE"),
            format!("h{n}.example.:80"),
        ] {
            assert_eq!(ask(&proxy, &host, "/", "").text(), n.to_string(), "{host}");
        }
    }
}

#[test]
fn paths_in_written_order() {
    let proxy = Proxy::start(&Proxy::config(
        "",
        "site \"*\" {\n\
         route path=\"/exact\" { respond 200 \"exact\" }\n\
         route path=\"/api/*\" { respond 200 \"prefix\" }\n\
         route path=\"/u/{id}/posts/{post}\" { respond 200 \"{id}-{post}\" }\n\
         route path=\"/files/{rest*}\" { respond 200 \"rest={rest}\" }\n\
         route path-regex=#\"/v(?<n>\\d+)(/.*)?\"# { respond 200 \"v{n}\" }\n\
         route path=\"/api/late\" { respond 200 \"never\" }\n\
         route method=\"POST\" { respond 200 \"post\" }\n\
         respond 404 \"none\"\n}",
    ));
    for (target, want) in [
        ("/exact", "exact"),
        ("/exact/", "none"),
        ("/exact?q", "exact"),
        ("/api", "prefix"),
        ("/api/", "prefix"),
        ("/api/late", "prefix"),
        ("/apix", "none"),
        ("/u/7/posts/9", "7-9"),
        ("/u/7/posts/", "none"),
        ("/u//posts/9", "none"),
        ("/u/a%2Fb/posts/9", "a%2Fb-9"),
        ("/u/7/posts/9/x", "none"),
        ("/files/a/b", "rest=a/b"),
        ("/files/", "rest="),
        ("/v12/x", "v12"),
        ("/v12", "v12"),
        ("/v", "none"),
        ("/xv1", "none"),
        ("/Exact", "none"),
        ("/", "none"),
    ] {
        assert_eq!(ask(&proxy, "a", target, "").text(), want, "{target}");
    }
    assert_eq!(
        proxy
            .connect()
            .ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            .text(),
        "post"
    );
    assert_eq!(
        proxy
            .connect()
            .ask("post / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            .text(),
        "none",
        "methods are case-sensitive"
    );
}

/// AC-06: every value is looked at separately.
#[test]
fn conditions() {
    let proxy = Proxy::start(&Proxy::config(
        "",
        "site \"*\" {\n\
         route { when { header \"X-A\" \"1\"; query \"q\" \"x\" }; respond 200 \"both\" }\n\
         route { when { header \"X-Any\" }; respond 200 \"present\" }\n\
         route { when { header \"X-Pre\" prefix=\"ab\" }; respond 200 \"prefix\" }\n\
         route { when { header \"X-Re\" regex=#\"a+\"# }; respond 200 \"regex\" }\n\
         route { when { cookie \"beta\" \"on\" }; respond 200 \"cookie\" }\n\
         route { when { query \"debug\" }; respond 200 \"query\" }\n\
         route { when { client \"192.0.2.0/24\" }; respond 200 \"never\" }\n\
         route { when { any { header \"X-1\"; header \"X-2\" } }; respond 200 \"any\" }\n\
         route { when { not { header \"X-Skip\" }; header \"X-Not\" }; respond 200 \"not\" }\n\
         respond 404 \"none\"\n}",
    ));
    for (target, fields, want) in [
        ("/?q=x", "X-A: 1\r\n", "both"),
        ("/", "X-A: 1\r\n", "none"),
        ("/?q=x", "", "none"),
        ("/?q=%78", "X-A: 1\r\n", "both"),
        ("/?q=y&q=x", "X-A: 0\r\nX-A: 1\r\n", "both"),
        ("/", "x-any:\r\n", "present"),
        ("/", "X-Pre: abc\r\n", "prefix"),
        ("/", "X-Pre: xabc\r\n", "none"),
        ("/", "X-Re: aaa\r\n", "regex"),
        ("/", "X-Re: aab\r\n", "none"),
        ("/", "Cookie: beta=on\r\n", "cookie"),
        ("/", "Cookie: a=b; beta=on\r\n", "cookie"),
        ("/", "Cookie: xbeta=on\r\n", "none"),
        ("/", "Cookie: beta=off\r\n", "none"),
        ("/", "Cookie: a=b\r\nCookie: beta=on\r\n", "cookie"),
        ("/?debug", "", "query"),
        ("/?debug=0", "", "query"),
        ("/?xdebug", "", "none"),
        ("/", "X-2: y\r\n", "any"),
        ("/", "X-Not: y\r\n", "not"),
        ("/", "X-Not: y\r\nX-Skip: y\r\n", "none"),
    ] {
        assert_eq!(
            ask(&proxy, "a", target, fields).text(),
            want,
            "{target} {fields:?}"
        );
    }
}

/// AC-10: a redirect never leaves for another host because of what the client wrote.
#[test]
fn redirects() {
    let proxy = Proxy::start(&Proxy::config(
        "",
        "site \"*\" {\n\
         route path=\"/old/{rest*}\" { redirect \"/new/{rest}\" status=308 }\n\
         route path=\"/far\" { redirect \"https://other.example/\" status=302 }\n\
         route path=\"/host/*\" { redirect \"https://{host}{uri}\" status=301 }\n\
         route path=\"/root/{rest*}\" { redirect \"/{rest}\" }\n\
         respond 404\n}",
    ));
    for (target, status, want) in [
        ("/old/a?q", 308, "/new/a"),
        ("/far", 302, "https://other.example/"),
        ("/host/x?y=z", 301, "https://shop.example/host/x?y=z"),
        ("/old/", 308, "/new/"),
    ] {
        let r = ask(&proxy, "shop.example", target, "");
        let location = r.fields.get("location").unwrap_or_default();
        assert_eq!(r.status, status, "{target}");
        assert!(
            location == want || location == format!("{want}?q"),
            "{target}: {location}"
        );
    }
    for target in [
        "/root//evil.example",
        "/root/%2Fevil.example",
        "/root/%5cevil.example",
        "/root/\\evil.example",
        "/root//evil.example/%2e%2e",
        "/root///evil.example",
    ] {
        let r = ask(&proxy, "shop.example", target, "");
        let location = r.fields.get("location").unwrap_or_default();
        assert!(
            !location.starts_with("//") && !location.starts_with("/\\") && !location.contains('\r'),
            "{target}: {location}"
        );
    }
}

#[test]
fn fixed_answers() {
    let proxy = Proxy::start(&Proxy::config(
        "",
        "site \"*\" {\n route path=\"/text\" { respond 200 \"hi {client.ip} {host}\" }\n route path=\"/html\" { respond 503 \"<p>\" type=\"text/html\" }\n route path=\"/empty\" { respond 204 }\n respond 404\n}",
    ));
    let r = ask(&proxy, "shop.example", "/text", "");
    assert_eq!(
        (r.status, r.text().as_str()),
        (200, "hi 127.0.0.1 shop.example")
    );
    assert!(
        r.fields
            .get("content-type")
            .unwrap()
            .starts_with("text/plain")
    );
    let r = ask(&proxy, "a", "/html", "");
    assert_eq!(
        (r.status, r.fields.get("content-type").as_deref()),
        (503, Some("text/html"))
    );
    assert_eq!(ask(&proxy, "a", "/empty", "").status, 204);
    let mut c = proxy.connect();
    c.send("HEAD /text HTTP/1.1\r\nHost: shop.example\r\n\r\nGET /text HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    let head = c.read_response("HEAD").unwrap();
    assert_eq!(head.fields.get("content-length").as_deref(), Some("25"));
    assert_eq!(c.read_response("GET").unwrap().body_len, 25);
}

#[test]
fn error_pages() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("404.html"), "<h1>not here</h1>").unwrap();
    std::fs::write(dir.path().join("5xx.json"), "{\"sorry\":true}").unwrap();
    let origin = Origin::start();
    origin
        .on("/404", echo(404))
        .on("/500", echo(500))
        .on("/200", echo(200))
        .on("/bad", answer("garbage\r\n\r\n"));
    let config = Proxy::config(
        "",
        &format!(
            "upstream \"u\" {{ server \"{}\" }}\nsite \"*\" {{\n error-page 404 file=\"404.html\"\n error-page \"500-599\" file=\"5xx.json\" intercept=#true\n route path=\"/none\" {{ respond 404 }}\n proxy \"u\"\n}}",
            origin.place()
        ),
    );
    let proxy = Proxy::start_in(dir, &config);
    let r = ask(&proxy, "a", "/404", "");
    assert!(
        r.text().starts_with("GET /404"),
        "without `intercept` the origin's own page stays: {}",
        r.text()
    );
    let r = ask(&proxy, "a", "/500", "");
    assert_eq!(
        (
            r.status,
            r.text().as_str(),
            r.fields.get("content-type").as_deref()
        ),
        (500, "{\"sorry\":true}", Some("application/json"))
    );
    let r = ask(&proxy, "a", "/bad", "");
    assert_eq!((r.status, r.text().as_str()), (502, "{\"sorry\":true}"));
    assert_eq!(ask(&proxy, "a", "/200", "").status, 200);
    let mut c = proxy.connect();
    c.send("HEAD /500 HTTP/1.1\r\nHost: a\r\n\r\nGET /200 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(c.read_response("HEAD").unwrap().status, 500);
    assert_eq!(
        c.read_response("GET").unwrap().status,
        200,
        "an intercepted answer to HEAD leaves the connection in order"
    );
}

/// No origin name leaks in `Location`, `Refresh` or cookies; `Server` and `X-Powered-By` are removed.
#[test]
fn origin_names_do_not_leak() {
    let rig = Rig::of("", "host \"server\"\nproxy \"u\"");
    let o = rig.origin.place();
    let ip = rig.origin.addr().ip().to_string();
    rig.origin.on(
        "/r",
        answer(format!(
            "HTTP/1.1 302 Found\r\nLocation: http://{o}/next?x\r\nRefresh: 5; url=http://{o}/later\r\nSet-Cookie: a=b; Domain={ip}; Path=/\r\nServer: secret/1.0\r\nX-Powered-By: magic\r\nContent-Length: 0\r\n\r\n"
        )),
    );
    rig.origin.on("/out", answer("HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n"));
    let r = ask(&rig.proxy, "shop.example:8080", "/r", "");
    for (name, value) in &r.fields.0 {
        let (name, value) = (
            String::from_utf8_lossy(name),
            String::from_utf8_lossy(value),
        );
        assert!(!value.contains(&o), "{name}: {value}");
    }
    let location = r.fields.get("location").unwrap();
    assert!(
        location.ends_with("/next?x")
            && (location.starts_with('/') || location.contains("shop.example:8080")),
        "{location}"
    );
    assert!(
        !r.fields.has("x-powered-by")
            && r.fields.get("server").is_none_or(|s| !s.contains("secret"))
    );
    assert_eq!(
        ask(&rig.proxy, "a", "/out", "")
            .fields
            .get("location")
            .as_deref(),
        Some("https://elsewhere.example/")
    );
    assert_eq!(
        rig.origin.seen()[0].header("host").as_deref(),
        Some(o.as_str()),
        "`host \"server\"`"
    );
}

#[test]
fn host_kept_or_set() {
    for (setting, want) in [
        ("", "Shop.Example:8080"),
        ("host \"keep\"", "Shop.Example:8080"),
        ("host \"{host}.internal\"", "shop.example.internal"),
    ] {
        let rig = Rig::of("", &format!("{setting}\nproxy \"u\""));
        ask(&rig.proxy, "Shop.Example:8080", "/", "");
        let host = rig.one().header("host").unwrap();
        assert!(host.eq_ignore_ascii_case(want), "{setting}: {host}");
    }
}

#[test]
fn balancing_by_weight() {
    let origins: Vec<Origin> = (0..2)
        .map(|n| Origin::named(&format!("o{n}"), Personality::Strict))
        .collect();
    let proxy = Proxy::start(
        &Proxy::config(
            "",
            &format!("upstream \"u\" {{ balance \"round-robin\"; server \"{}\" weight=3; server \"{}\" weight=1 }}\nsite \"*\" {{ proxy \"u\" }}", origins[0].place(), origins[1].place()),
        )
        .replace("workers 2", "workers 1"),
    );
    let mut c = proxy.connect();
    let first = (0..80)
        .filter(|_| c.ask(get("/", "")).fields.get("x-origin").as_deref() == Some("o0"))
        .count();
    assert_eq!(first, 60, "3:1 of 80");
}

/// A sticky split sends one visitor to one side, and honours the weights.
#[test]
fn splits() {
    let origins: Vec<Origin> = (0..2)
        .map(|n| Origin::named(&format!("o{n}"), Personality::Strict))
        .collect();
    let proxy = Proxy::start(&Proxy::config(
        "",
        &format!(
            "site \"*\" {{ split by=\"cookie:visitor\" {{ to \"{}\" \"90%\"; to \"{}\" \"10%\" }} }}",
            origins[0].place(),
            origins[1].place()
        ),
    ));
    let who = |v: usize| {
        ask(&proxy, "a", "/", &format!("Cookie: visitor=v{v}\r\n"))
            .fields
            .get("x-origin")
            .unwrap()
    };
    let sides: Vec<String> = (0..200).map(who).collect();
    for (v, side) in sides.iter().enumerate().take(20) {
        assert_eq!(&who(v), side, "visitor {v} changed sides");
    }
    let minor = sides.iter().filter(|s| *s == "o1").count();
    assert!(
        (5..=45).contains(&minor),
        "{minor} of 200 on the side of 10%"
    );
}

#[test]
fn access_by_client_address() {
    let rig = Rig::of(
        "",
        "route path=\"/mine\" { allow \"127.0.0.0/8\"; proxy \"u\" }\nroute path=\"/theirs\" { allow \"192.0.2.0/24\"; proxy \"u\" }\nroute path=\"/not\" { deny \"127.0.0.1\"; proxy \"u\" }\nproxy \"u\"",
    );
    for (path, status) in [("/mine", 200), ("/theirs", 403), ("/not", 403), ("/", 200)] {
        assert_eq!(
            ask(&rig.proxy, "a", path, "X-Forwarded-For: 192.0.2.7\r\n").status,
            status,
            "{path}"
        );
    }
}
