//! The canonical path against a table of spellings, and its laws against generated ones.

#![allow(clippy::unwrap_used)] // a helper that cannot read its table fails the test

use narthex_message::path::{self, Canonical, PathError};
use narthex_message::query;
use proptest::prelude::*;

/// One line of `paths.txt`.
struct Case {
    line: usize,
    raw: Vec<u8>,
    kept: Result<String, String>,
    merged: Result<String, String>,
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [b, tail @ ..] = rest {
        match (b, tail) {
            (b'\\', [b'e', after @ ..]) => rest = after,
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                out.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                rest = after;
            }
            _ => {
                out.push(*b);
                rest = tail;
            }
        }
    }
    out
}

/// Takes `path` or `! word`.
fn outcome<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Result<String, String>> {
    match words.next()? {
        "!" => Some(Err(words.next().unwrap().to_owned())),
        path => Some(Ok(path.to_owned())),
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, text) in include_str!("paths.txt").lines().enumerate() {
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let mut words = text.split_whitespace();
        let raw = unescape(words.next().unwrap());
        let kept = outcome(&mut words).unwrap();
        let merged = match words.next() {
            Some("|") => outcome(&mut words).unwrap(),
            Some(other) => panic!("line {}: {other}", i + 1),
            None => kept.clone(),
        };
        cases.push(Case {
            line: i + 1,
            raw,
            kept,
            merged,
        });
    }
    cases
}

fn run(raw: &[u8], merge: bool) -> Result<String, String> {
    let mut out = "left over from another request".to_owned();
    path::canonical(raw, merge, &mut out)
        .map(str::to_owned)
        .map_err(|e| e.word().to_owned())
}

#[test]
fn ac01_the_table_of_spellings() {
    let cases = cases();
    assert!(cases.len() > 400, "only {} cases were read", cases.len());
    for case in cases {
        assert_eq!(run(&case.raw, false), case.kept, "line {}", case.line);
        assert_eq!(
            run(&case.raw, true),
            case.merged,
            "line {}, slashes merged",
            case.line
        );
    }
}

#[test]
fn ac01_every_result_in_the_table_is_canonical() {
    for case in cases() {
        for (result, merge) in [(case.kept, false), (case.merged, true)] {
            let Ok(text) = result else { continue };
            let mut out = String::new();
            assert_eq!(
                path::canonicalise(text.as_bytes(), merge, &mut out),
                Ok(Canonical::Unchanged),
                "line {}",
                case.line
            );
            assert_eq!(
                path::require_canonical(&text, merge),
                Ok(()),
                "line {}",
                case.line
            );
        }
    }
}

#[test]
fn unchanged_writes_nothing() {
    let mut out = "kept".to_owned();
    assert_eq!(
        path::canonicalise(b"/a/.well-known/b%20c", false, &mut out),
        Ok(Canonical::Unchanged)
    );
    assert_eq!(out, "kept");
}

#[test]
fn unchanged_also_when_it_took_a_closer_look() {
    let mut out = String::new();
    for raw in ["/..hidden", "/.../x", "/a%2F.b", "/.%20"] {
        assert_eq!(
            path::canonicalise(raw.as_bytes(), false, &mut out),
            Ok(Canonical::Unchanged),
            "{raw}"
        );
    }
}

#[test]
fn a_rewrite_must_be_canonical() {
    assert_eq!(path::require_canonical("/new/x", false), Ok(()));
    assert_eq!(path::require_canonical("/new//x", false), Ok(()));
    assert_eq!(
        path::require_canonical("/new//x", true),
        Err(PathError::NotCanonical)
    );
    assert_eq!(
        path::require_canonical("/new/../x", false),
        Err(PathError::NotCanonical)
    );
    assert_eq!(
        path::require_canonical("/new/%61", false),
        Err(PathError::NotCanonical)
    );
    assert_eq!(
        path::require_canonical("/new/ x", false),
        Err(PathError::Space)
    );
    assert_eq!(
        path::require_canonical("/../x", false),
        Err(PathError::AboveRoot)
    );
    assert_eq!(
        path::require_canonical("x", false),
        Err(PathError::NoLeadingSlash)
    );
}

#[test]
fn ac16_written_paths_take_the_same_form() {
    for (written, want) in [
        ("/a b", "/a%20b"),
        ("/café", "/caf%C3%A9"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/%61dmin", "/admin"),
        ("/a/./b", "/a/b"),
        ("/x%2fy", "/x%2Fy"),
    ] {
        assert_eq!(
            path::canonical_written(written, false).as_deref(),
            Ok(want),
            "{written}"
        );
    }
    assert_eq!(path::canonical_written("//a", true).as_deref(), Ok("/a"));
    assert_eq!(
        path::canonical_written("/a?b", false),
        Err(PathError::QueryInPath)
    );
}

#[test]
fn targets_are_split_at_the_first_question_mark() {
    assert_eq!(path::split_target(b"/a"), (&b"/a"[..], None));
    assert_eq!(path::split_target(b"/a?"), (&b"/a"[..], Some(&b""[..])));
    assert_eq!(
        path::split_target(b"/a?b?c"),
        (&b"/a"[..], Some(&b"b?c"[..]))
    );
    assert_eq!(path::split_target(b""), (&b""[..], None));
}

#[test]
fn h1_22_a_fragment_is_refused_wherever_it_is() {
    for target in [&b"/a#b"[..], b"/a#?b", b"/a?b#c", b"/#", b"/?#"] {
        let (p, q) = path::split_target(target);
        let refused = run(p, false).is_err() || q.is_some_and(|q| query::validate(q).is_err());
        assert!(refused, "{}", String::from_utf8_lossy(target));
    }
}

#[test]
fn strip_goes_by_segments() {
    for (path, prefix, want) in [
        ("/api/x", "/api", Some("/x")),
        ("/api", "/api", Some("/")),
        ("/api/", "/api", Some("/")),
        ("/api/", "/api/", Some("/")),
        ("/api", "/api/", Some("/")),
        ("/api//x", "/api", Some("//x")),
        ("/apix", "/api", None),
        ("/api%2Fx", "/api", None),
        ("/ap", "/api", None),
        ("/x/api", "/api", None),
        ("/a/b/c", "/a/b", Some("/c")),
        ("/x", "/", Some("/x")),
        ("/", "/", Some("/")),
    ] {
        assert_eq!(
            path::strip_prefix(path, prefix),
            want,
            "{path} less {prefix}"
        );
    }
}

#[test]
fn join_puts_one_slash() {
    let mut out = "old".to_owned();
    for (prefix, path, want) in [
        ("/a", "/b", "/a/b"),
        ("/a/", "/b", "/a/b"),
        ("/", "/b", "/b"),
        ("/a", "/", "/a/"),
        ("/a", "b", "/a/b"),
        ("", "/b", "/b"),
    ] {
        path::join(prefix, path, &mut out);
        assert_eq!(out, want);
    }
}

#[test]
fn ac10_network_paths_are_told() {
    assert!(path::is_network_path("//evil/x"));
    assert!(!path::is_network_path("/evil//x"));
}

/// Paths made of the pieces that attacks are made of.
fn tricky() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => prop::sample::select(vec![
            "/", "/", "/", ".", "..", "%2e", "%2E", "%2f", "%2F", ";", "a", "b", "%61", "%25", "%c3", "~", "|", "%7c", "//", "/../", "/./",
        ]).prop_map(|s| s.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|b| vec![b]),
    ];
    prop::collection::vec(piece, 0..14).prop_map(|pieces| {
        let mut path = b"/".to_vec();
        path.extend(pieces.concat());
        path
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn canonical_is_a_fixed_point(raw in tricky(), merge: bool) {
        let mut out = String::new();
        if let Ok(once) = path::canonical(&raw, merge, &mut out) {
            prop_assert!(once.len() <= raw.len() * 3);
            let mut again = String::new();
            prop_assert_eq!(path::canonicalise(once.as_bytes(), merge, &mut again), Ok(Canonical::Unchanged));
        }
    }

    #[test]
    fn unchanged_says_true(raw in tricky(), merge: bool) {
        let mut out = String::new();
        match path::canonicalise(&raw, merge, &mut out) {
            Ok(Canonical::Rewritten) => prop_assert_ne!(out.as_bytes(), &raw[..]),
            Ok(Canonical::Unchanged) | Err(_) => prop_assert!(out.is_empty() || out.as_bytes() == &raw[..] || run(&raw, merge).is_err()),
        }
    }

    #[test]
    fn canonical_holds_only_what_it_may(raw in tricky(), merge: bool) {
        let mut out = String::new();
        if let Ok(text) = path::canonical(&raw, merge, &mut out) {
            prop_assert!(text.starts_with('/'));
            prop_assert!(!merge || !text.contains("//"));
            prop_assert!(text.split('/').all(|s| s != "." && s != ".."));
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&b)));
            prop_assert!(!text.contains("%2e") && !text.contains("%2E") && !text.contains("%2f"));
        }
    }

    /// Percent-encoding what needs no encoding never makes another path of it.
    #[test]
    fn an_encoded_spelling_is_the_same_path(raw in tricky(), merge: bool, mask: u64) {
        let mut spelled = Vec::new();
        let mut literal_until = 0;
        for (i, b) in raw.iter().enumerate() {
            if *b == b'%' {
                literal_until = i + 3;
            }
            let free = b.is_ascii_alphanumeric() || b"-._~".contains(b);
            if i >= literal_until && free && mask >> (i % 64) & 1 == 1 {
                spelled.extend(format!("%{b:02x}").bytes());
            } else {
                spelled.push(*b);
            }
        }
        prop_assert_eq!(run(&raw, merge), run(&spelled, merge));
    }

    #[test]
    fn strip_and_join_keep_it_canonical(a in tricky(), b in tricky(), merge: bool) {
        let (mut x, mut y, mut joined) = (String::new(), String::new(), String::new());
        if let (Ok(a), Ok(b)) = (path::canonical(&a, merge, &mut x), path::canonical(&b, merge, &mut y)) {
            path::join(a, b, &mut joined);
            prop_assert_eq!(path::require_canonical(&joined, merge), Ok(()));
            if let Some(rest) = path::strip_prefix(b, a) {
                prop_assert_eq!(path::require_canonical(rest, merge), Ok(()));
            }
            if !a.ends_with('/') {
                prop_assert_eq!(path::strip_prefix(&joined, a), Some(b));
            }
        }
    }

    #[test]
    fn any_bytes_never_panic(raw in prop::collection::vec(any::<u8>(), 0..64), merge: bool) {
        let mut out = String::new();
        let _ = path::canonicalise(&raw, merge, &mut out);
    }
}
