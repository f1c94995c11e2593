//! Path filters one by one.

use proptest::prelude::*;

use super::*;
use crate::testing::{none, template, values};

fn apply(step: &PathStep, path: &str, query: Option<&str>) -> Result<Target, Broken> {
    let mut v = values(&none);
    v.path = path;
    v.query = query.map(str::as_bytes);
    step.apply(&View::of(&v))
}

fn path_of(step: &PathStep, path: &str) -> Option<String> {
    apply(step, path, None).unwrap().path
}

fn rewrite(source: &str) -> PathStep {
    PathStep::rewrite(&template(source)).unwrap()
}

#[allow(clippy::option_option)] // as in `Target`
fn target(path: &str, query: Option<Option<&str>>) -> Target {
    Target {
        path: Some(path.to_owned()),
        query: query.map(|q| q.map(|q| q.as_bytes().to_vec())),
    }
}

#[test]
fn strip() {
    let step = PathStep::Strip("/api".into());
    for (path, want) in [
        ("/api", Some("/")),
        ("/api/", Some("/")),
        ("/api/x", Some("/x")),
        ("/api//x", Some("//x")),
        ("/apix", None),
        ("/x/api", None),
        ("/API/x", None),
        ("*", None),
    ] {
        assert_eq!(path_of(&step, path).as_deref(), want, "{path}");
    }
}

#[test]
fn add() {
    let step = PathStep::Add("/v1".into());
    assert_eq!(path_of(&step, "/").as_deref(), Some("/v1/"));
    assert_eq!(path_of(&step, "/x").as_deref(), Some("/v1/x"));
    assert_eq!(path_of(&step, "*"), None);
    let long = format!("/{}", "x".repeat(url::MAX_URL));
    assert_eq!(apply(&step, &long, None), Err(Broken));
}

#[test]
fn rewrite_path_and_query() {
    let query = Some("x=1&y=%0d%0a");
    for (source, want) in [
        ("/new", target("/new", None)),
        ("/v2{path}", target("/v2/a%2Fb", None)),
        ("{path}.html", target("/a%2Fb.html", None)),
        ("/new?", target("/new", Some(None))),
        ("/new?a=b", target("/new", Some(Some("a=b")))),
        (
            "/new?{query}&a=b",
            target("/new", Some(Some("x=1&y=%0d%0a&a=b"))),
        ),
        ("/new?p={path}", target("/new", Some(Some("p=/a%252Fb")))),
        ("/new?v={query.y}", target("/new", Some(Some("v=%0D%0A")))),
        ("/v2{uri}", target("/v2/a%2Fb", Some(Some("x=1&y=%0d%0a")))),
        ("/c/{client.ip}/{query.x}", target("/c/192.0.2.7/1", None)),
        (
            "/caf\u{e9} %7e%2f[1]#x",
            target("/caf%C3%A9%20~%2F%5B1%5D%23x", None),
        ),
    ] {
        assert_eq!(
            apply(&rewrite(source), "/a%2Fb", query),
            Ok(want),
            "{source}"
        );
    }
    assert_eq!(
        apply(&rewrite("/x?{query}"), "/a", None),
        Ok(target("/x", Some(None)))
    );
}

#[test]
fn a_rewrite_that_is_no_path_is_broken() {
    for (source, query) in [
        ("/x/{query.q}/y", "q=.."),
        ("/x/{query.q}/y", "q=."),
        ("/x/{query.q}", "q=a/../b"),
        ("/x/{query.q}", "q=%0d%0a"),
        ("/x/{query.q}", "q=%5c"),
        ("/x/{query.q}", "q=%00"),
        ("{query.q}", "q=x"),
    ] {
        assert_eq!(
            apply(&rewrite(source), "/", Some(query)),
            Err(Broken),
            "{source} {query}"
        );
    }
    assert_eq!(apply(&rewrite("/?{query}"), "/", Some("\r\n")), Err(Broken));
}

#[test]
fn templates_that_never_make_a_path_are_not_built() {
    for source in ["/a/../b", "x/{path}", "/a\\b", "/%zz", "/%00", "/../{path}"] {
        let error = PathStep::rewrite(&template(source)).unwrap_err();
        assert!(error.contains(source), "{error}");
    }
}

#[test]
fn regex() {
    for (pattern, with, path, want) in [
        (
            "^/u/([0-9]+)$",
            "/user?id=$1",
            "/u/42",
            target("/user", Some(Some("id=42"))),
        ),
        (
            "(?<a>[^/]+)/(?<b>[^/]+)$",
            "${b}/$a",
            "/x/1/2",
            target("/x/2/1", None),
        ),
        ("o", "0", "/foo/boo", target("/f00/b00", None)),
        ("(a)|(b)", "[$1$2]", "/ab", target("/%5Ba%5D%5Bb%5D", None)),
        ("(x)?y", "${1}z", "/y", target("/z", None)),
        (
            "^/(.*)$",
            "/?p=$1",
            "/a&b=c%26d",
            target("/", Some(Some("p=a%26b%3Dc%26d"))),
        ),
        ("$", "/", "/a", target("/a/", None)),
    ] {
        let step = PathStep::regex(pattern, with).unwrap();
        assert_eq!(
            apply(&step, path, Some("old=1")),
            Ok(want),
            "{pattern} {with}"
        );
    }
    let step = PathStep::regex("^/no", "/yes").unwrap();
    assert_eq!(apply(&step, "/a", None), Ok(Target::default()));
}

#[test]
fn a_regex_that_breaks_the_path() {
    for (pattern, with, path) in [
        ("^/", "", "/a"),
        ("x", "", "/.x./a"),
        ("%2", "%", "/%2F"),
        ("F", "", "/%2F"),
        ("a", ".", "/a/b"),
        ("%2F", "/", "/a/b%2F.x"),
    ] {
        let step = PathStep::regex(pattern, with).unwrap();
        let got = apply(&step, path, None);
        let fine = path == "/a/b%2F.x";
        assert_eq!(got.is_ok(), fine, "{pattern} {with} {path}: {got:?}");
    }
    let step = PathStep::regex("", &"x".repeat(4096)).unwrap();
    assert_eq!(
        apply(&step, &format!("/{}", "a".repeat(8000)), None),
        Err(Broken)
    );
}

#[test]
fn patterns_that_are_not_built() {
    assert!(PathStep::regex("(", "").is_err());
    assert!(PathStep::regex("a", "$1").is_err());
    assert!(PathStep::regex(r"(\pL{200}){200}", "").is_err());
}

#[test]
fn linear_on_what_makes_backtracking_explode() {
    let step = PathStep::regex("^/(a+)+b$", "/c").unwrap();
    let path = format!("/{}", "a".repeat(20_000));
    assert_eq!(apply(&step, &path, None), Ok(Target::default()));
}

proptest! {
    #[test]
    fn what_comes_out_is_canonical(
        path in "/[a-z./%2F;~&=]{0,12}",
        query in "q=[!-\"$-~]{0,12}",
        rest in "[a-z./%2F;]{0,8}",
        at in 0usize..9,
    ) {
        let steps = [
            rewrite("/x{path}"), rewrite("/{rest}"), rewrite("/{rest}.{query.q}"), rewrite("{query.q}"), rewrite("/x?{rest}={query.q}"),
            PathStep::regex("[./]", "$0$0").unwrap(), PathStep::regex("2", "").unwrap(), PathStep::regex("([a-z]+)", "../$1?").unwrap(),
            PathStep::Strip("/a".into()),
        ];
        let mut canonical = String::new();
        let Ok(path) = path::canonical(path.as_bytes(), false, &mut canonical) else { return Ok(()) };
        let captures = |_: &str| Some(rest.as_str());
        let mut v = values(&captures);
        v.path = path;
        v.query = Some(query.as_bytes());
        if let Ok(target) = steps[at].apply(&View::of(&v)) {
            if let Some(path) = target.path {
                prop_assert!(path::require_canonical(&path, false).is_ok(), "{}", path);
            }
            if let Some(Some(query)) = target.query {
                prop_assert!(query::validate(&query).is_ok());
            }
        }
    }
}
