//! One canonical path for matching and forwarding (AC-01): no spelling is denied under one form and reaches the same
//! resource under another.
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

use std::collections::BTreeSet;

use narthex_e2e::kit::canon::canonical_path;
use narthex_e2e::kit::craft::get;
use narthex_e2e::kit::rig::Rig;

/// Some 400 spellings of, around and beside `/admin`.
fn corpus() -> Vec<String> {
    let mut all: BTreeSet<String> = BTreeSet::new();
    let names = [
        "admin",
        "Admin",
        "ADMIN",
        "%61dmin",
        "%61%64%6d%69%6e",
        "%41dmin",
        "ad%6Din",
        "ad%6din",
        "admi%6e",
        "admin%20",
        "admin.",
        "admin%2e",
        "admin;",
        "admin;x=y",
        "admin%3b",
        "admin%00",
        "admin%0a",
        "admin%09",
        "admin%7f",
        "admin%25",
        "%2561dmin",
        "admin%c0%af",
        "admin%c0%ae",
        "admin%E2%80%8B",
        "admin~",
        "admin%7e",
        "admin*",
        "admin%2a",
        "admin'",
        "admin%27",
        "admin\"",
        "admin%22",
        "admin|",
        "admin%7c",
        "admin^",
        "admin{",
        "admin<",
        "admin:",
        "admin@",
        "admin,",
        "admin+",
        "admin$",
        "admin!",
        "admin()",
        "admin[",
        "admin]",
        "adm%",
        "adm%2",
        "adm%zz",
        "adm\\in",
        "adm%5cin",
    ];
    for name in names {
        for form in [
            "/{}", "/{}/", "/{}/x", "//{}", "/./{}", "/x/../{}", "/%2e/{}",
        ] {
            all.insert(form.replace("{}", name));
        }
    }
    for s in [
        "/",
        "//",
        "///",
        "/.",
        "/./",
        "/..",
        "/../",
        "/../admin",
        "/x/../../admin",
        "/%2e%2e/admin",
        "/x/%2e%2e/admin",
        "/x/%2E%2E/admin",
        "/x/.%2e/admin",
        "/x/%2e./admin",
        "/x/%2e%2e%2fadmin",
        "/x/..%2fadmin",
        "/x/..%2Fadmin",
        "/x%2f..%2fadmin",
        "/x%2fadmin",
        "/x/..;/admin",
        "/x/..;a=b/admin",
        "/x/.;/admin",
        "/;/admin",
        "/;x/admin",
        "/x/%2e%2e;/admin",
        "/x/...//admin",
        "/x/..../admin",
        "/x/. ./admin",
        "/x/%252e%252e/admin",
        "/%252e/admin",
        "/x/..\\admin",
        "/x\\..\\admin",
        "/\\admin",
        "/%5cadmin",
        "/%2fadmin",
        "/%2Fadmin",
        "/%2f%2fadmin",
        "//admin//",
        "/x//../admin",
        "/x/..//admin",
        "/x/y/../../admin",
        "/x/./../admin",
        "/x/.././admin",
        "/admin/..",
        "/admin/../admin",
        "/admin/.",
        "/admin/./",
        "/admin/x/..",
        "/admin/%2e",
        "/admin/%2e%2e",
        "/admin%2f",
        "/admin%2fx",
        "/admin%2F..",
        "/admin/..%2f",
        "/admin/..;/",
        "/adminx",
        "/xadmin",
        "/admi",
        "/administrator",
        "/admin-x",
        "/admin_x",
        "/admin.x",
        "/admin.html",
        "/public/../admin/x",
        "/public/%2e%2e/admin/x",
        "/%c0%ae%c0%ae/admin",
        "/%uff0e/admin",
        "/%e0%80%ae/admin",
        "/x/%c0%ae%c0%ae/admin",
        "/x/%2e%2e%5cadmin",
        "/.admin",
        "/..admin",
        "/...",
        "/.../admin",
        "/admin?",
        "/admin?x",
        "/admin?/../x",
        "/x?/../admin",
        "/admin%3f",
        "/admin%3Fx",
        "/admin%23",
        "/admin#x",
        "*",
        "admin",
        "/a dmin",
        "/admin\t",
    ] {
        all.insert(s.to_owned());
    }
    all.into_iter().collect()
}

/// What the origin may see for a target, or `None` where the proxy must refuse.
fn expected(target: &str) -> Option<String> {
    let fine = target
        .bytes()
        .all(|b| (0x21..0x7f).contains(&b) && b != b'#');
    if !fine {
        return None;
    }
    let (path, query) = target
        .split_once('?')
        .map_or((target, None), |(p, q)| (p, Some(q)));
    let path = String::from_utf8(canonical_path(path.as_bytes())?).unwrap();
    Some(query.map_or(path.clone(), |q| format!("{path}?{q}")))
}

/// CVE-2019-9901, CVE-2021-29492 (Envoy), CVE-2025-32431, 2025-66490, 2026-40912 (Traefik), CVE-2026-27587 (Caddy) ...
#[test]
fn every_spelling_is_matched_as_it_is_forwarded() {
    let corpus = corpus();
    assert!(corpus.len() >= 400, "{}", corpus.len());
    let matchers = [
        (
            "exact",
            "route path=\"/admin\" { respond 403 \"no\" }",
            Box::new(|p: &str| p == "/admin") as Box<dyn Fn(&str) -> bool>,
        ),
        (
            "prefix",
            "route path=\"/admin/*\" { respond 403 \"no\" }",
            Box::new(|p: &str| p == "/admin" || p.starts_with("/admin/")),
        ),
        (
            "segments",
            "route path=\"/admin/{rest*}\" { respond 403 \"no\" }",
            Box::new(|p: &str| p.starts_with("/admin/")),
        ),
        (
            "regex",
            "route path-regex=#\"/admin(/.*)?\"# { respond 403 \"no\" }",
            Box::new(|p: &str| p == "/admin" || p.starts_with("/admin/")),
        ),
        (
            "deny",
            "route path=\"/admin/*\" { deny \"0.0.0.0/0\"; proxy \"u\" }",
            Box::new(|p: &str| p == "/admin" || p.starts_with("/admin/")),
        ),
    ];
    let mut failures = Vec::new();
    for (kind, route, denied) in &matchers {
        let rig = Rig::of("", &format!("{route}\nproxy \"u\""));
        let mut c = rig.connect();
        for target in &corpus {
            c.send(get(target, ""));
            let answer = c.read_response("GET");
            let status = answer.as_ref().map_or(0, |r| r.status);
            let seen = rig.origin.take(usize::from(status == 200));
            if answer.as_ref().map_or(true, |r| r.says_close()) {
                c = rig.connect();
            }
            let arrived: Vec<&str> = seen.iter().map(|s| s.target.as_str()).collect();
            let ok = match expected(target) {
                None => status == 400 && arrived.is_empty(),
                Some(want) => {
                    let path = want.split('?').next().unwrap();
                    // `/admin/{rest*}` may or may not hold `/admin` itself; both are consistent with forwarding.
                    let open = *kind == "segments" && path == "/admin";
                    let is_denied = denied(path);
                    (status == 403 && arrived.is_empty() && (is_denied || open))
                        || (status == 200 && arrived == [want.as_str()] && (!is_denied || open))
                }
            };
            if !ok {
                failures.push(format!(
                    "{kind} {target}: {status}, origin saw {arrived:?}, expected {:?}",
                    expected(target)
                ));
            }
        }
    }
    let n = failures.len();
    failures.truncate(40);
    assert!(n == 0, "{n} failures:\n{}", failures.join("\n"));
}

/// With `merge-slashes`, `//` is `/` for matching and forwarding alike; without it, for neither.
#[test]
fn merge_slashes_is_for_both() {
    for merge in [true, false] {
        let rig = Rig::of(
            "",
            &format!("merge-slashes #{merge}\nroute path=\"/a/b\" {{ respond 403 }}\nproxy \"u\""),
        );
        for target in ["/a/b", "//a/b", "/a//b", "///a///b"] {
            let r = rig.connect().ask(get(target, ""));
            let seen = rig.origin.take(usize::from(r.status == 200));
            if merge || target == "/a/b" {
                assert_eq!((r.status, seen.len()), (403, 0), "{target}, merge {merge}");
            } else {
                assert_eq!((r.status, seen[0].target.as_str()), (200, target));
            }
        }
    }
}

/// Stripping and rewriting act on the canonical path, and what they make is canonical too.
#[test]
fn strip_and_rewrite_after_canonicalisation() {
    let rig = Rig::of(
        "",
        "route path=\"/api/*\" { strip-prefix \"/api\"; proxy \"u\" }\n\
         route path=\"/old/{rest*}\" { rewrite \"/new/{rest}\"; proxy \"u\" }\n\
         route path=\"/add/*\" { strip-prefix \"/add\"; add-prefix \"/v2\"; proxy \"u\" }\n\
         route path=\"/u/{id}/x\" { rewrite \"/user?id={id}\"; proxy \"u\" }\n\
         route path=\"/re/*\" { rewrite-regex #\"^/re/(.*)$\"# with=\"/done/$1\"; proxy \"u\" }\n\
         proxy \"u\"",
    );
    for (target, want) in [
        ("/api", "/"),
        ("/api/", "/"),
        ("/api/x?q=1", "/x?q=1"),
        ("/apix", "/apix"),
        ("/api/%61", "/a"),
        ("/x/../api/y", "/y"),
        ("/%61pi/y", "/y"),
        ("/api//y", "//y"),
        ("/api/a%2Fb", "/a%2Fb"),
        ("/old/a/b", "/new/a/b"),
        ("/old/a%2fb", "/new/a%2Fb"),
        ("/old/", "/new/"),
        ("/old/x?y", "/new/x?y"),
        ("/add/x", "/v2/x"),
        ("/re/a/b?c", "/done/a/b?c"),
        ("/u/7/x", "/user?id=7"),
    ] {
        let r = rig.connect().ask(get(target, ""));
        assert_eq!(r.status, 200, "{target}");
        let seen = rig.one();
        assert_eq!(seen.target, want, "{target}");
    }
    // A capture can't make a path that the proxy would have refused.
    for target in [
        "/old/..",
        "/old/../../etc",
        "/old/%2e%2e/%2e%2e/x",
        "/api/..%2f..",
        "/old/..%2fx",
    ] {
        let r = rig.connect().ask(get(target, ""));
        let seen = rig.origin.take(usize::from(r.status == 200));
        assert!(
            r.status == 400 || !seen[0].target.contains(".."),
            "{target}: {} {:?}",
            r.status,
            seen
        );
    }
}
