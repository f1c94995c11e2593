//! Chains: order, what later steps see, what is refused.

use ipnet::IpNet;
use narthex_config::model::HeaderAction::{self, Add, Default as IfAbsent, Remove, Set};
use proptest::prelude::*;

use super::*;
use crate::testing::{Message, lines, none, template, values};

fn op(action: HeaderAction, name: &str, value: &str) -> HeaderOp {
    HeaderOp {
        action,
        name: name.into(),
        value: template(value),
    }
}

fn ips(nets: &[&str]) -> IpSet {
    IpSet(nets.iter().map(|n| n.parse::<IpNet>().unwrap()).collect())
}

fn chain(filters: &[Filter]) -> Chain {
    Chain::build(filters).unwrap()
}

/// Runs a chain on a request with these fields; verdict, lines, target.
fn run(
    filters: &[Filter],
    fields: &[(&str, &[u8])],
    path: &str,
    query: &[u8],
) -> (Verdict, Vec<String>, Target) {
    let (message, empty) = (Message::new(fields), Edits::default());
    let mut v = values(&none);
    v.path = path;
    v.query = Some(query);
    v.request = Some((message.head(), &empty));
    let (mut edits, mut target) = (Edits::default(), Target::default());
    let verdict = chain(filters).request(&v, &mut edits, &mut target);
    (verdict, lines(&edits), target)
}

#[test]
fn what_it_has() {
    let request = Filter::StripPrefix("/a".into());
    let response = Filter::ResponseHeaders(vec![op(Set, "X", "1")]);
    for (filters, req, resp) in [
        (vec![], false, false),
        (vec![request.clone()], true, false),
        (vec![response.clone()], false, true),
        (vec![request, response], true, true),
    ] {
        let chain = chain(&filters);
        assert_eq!(
            (chain.has_request(), chain.has_response(), chain.is_empty()),
            (req, resp, !req && !resp)
        );
    }
}

#[test]
fn prefixes_read_backwards() {
    let strip = |p: &str| Filter::StripPrefix(p.into());
    let add = |p: &str| Filter::AddPrefix(p.into());
    for (filters, want) in [
        (vec![], ("", "")),
        (vec![strip("/a")], ("/a", "")),
        (vec![strip("/a"), strip("/b/")], ("/a/b", "")),
        (vec![add("/v1"), add("/v2/")], ("", "/v2/v1")),
        (vec![strip("/a"), add("/v1")], ("/a", "/v1")),
        (vec![add("/v1/x"), strip("/v1")], ("", "/x")),
        (vec![add("/v1"), strip("/v1")], ("", "")),
        (vec![add("/v1"), strip("/v")], ("", "/v1")),
        (
            vec![strip("/a"), Filter::Rewrite(template("/x{path}"))],
            ("", ""),
        ),
        (vec![Filter::Deny(ips(&[])), add("/v1")], ("", "/v1")),
    ] {
        assert_eq!(chain(&filters).prefixes(), want, "{filters:?}");
    }
}

#[test]
fn header_actions() {
    let ops = vec![
        op(Set, "X-Set", "a"),
        op(Add, "X-Old", "b"),
        op(IfAbsent, "X-Old", "no"),
        op(IfAbsent, "X-New", "c"),
        op(IfAbsent, "x-new", "no"),
        op(Add, "X-Gone", "no"),
        op(Remove, "x-gone", ""),
        op(IfAbsent, "X-Gone", "{request.header.x-gone}d"),
    ];
    let (_, lines, _) = run(
        &[Filter::RequestHeaders(ops)],
        &[("X-Old", b"o"), ("X-Gone", b"g")],
        "/",
        b"",
    );
    assert_eq!(lines, ["X-Set: a", "X-Old: b", "X-New: c", "X-Gone: d"]);
}

#[test]
fn later_steps_see_earlier_ones_across_levels() {
    let filters = [
        Filter::RequestHeaders(vec![
            op(Set, "X-A", "1"),
            op(Set, "X-B", "{request.header.x-a}2"),
        ]),
        Filter::StripPrefix("/api".into()),
        Filter::RequestHeaders(vec![
            op(Set, "X-A", "{request.header.X-B}3 {path}"),
            op(Remove, "X-B", ""),
        ]),
        Filter::AddPrefix("/v1".into()),
        Filter::Rewrite(template("{path}/{request.header.x-c}?{query}&p=1")),
        Filter::RewriteRegex {
            pattern: "/v1".into(),
            with: "/v2".into(),
        },
        Filter::RequestHeaders(vec![op(Set, "X-Uri", "{uri} {query.p}")]),
    ];
    let (verdict, lines, target) = run(&filters, &[("X-A", b"0"), ("X-C", b"c")], "/api/x", b"q=1");
    assert_eq!(verdict, Verdict::Continue);
    assert_eq!(lines, ["X-A: 123 /x", "X-Uri: /v2/x/c?q=1&p=1 1"]);
    assert_eq!(target.path.as_deref(), Some("/v2/x/c"));
    assert_eq!(target.query, Some(Some(b"q=1&p=1".to_vec())));
}

#[test]
fn a_target_that_was_changed_before_is_where_it_starts() {
    let chain = chain(&[Filter::AddPrefix("/v1".into())]);
    let mut target = Target {
        path: Some("/new".into()),
        query: Some(None),
    };
    assert_eq!(
        chain.request(&values(&none), &mut Edits::default(), &mut target),
        Verdict::Continue
    );
    assert_eq!(
        target,
        Target {
            path: Some("/v1/new".into()),
            query: Some(None)
        }
    );
}

#[test]
fn a_broken_rewrite_stops() {
    let filters = [
        Filter::Rewrite(template("/x/{query.q}")),
        Filter::RequestHeaders(vec![op(Set, "X", "1")]),
    ];
    let (verdict, lines, _) = run(&filters, &[], "/", b"q=..");
    assert_eq!((verdict, lines.len()), (Verdict::Broken, 0));
}

#[test]
fn responses_run_in_reverse() {
    let filters = [
        Filter::ResponseHeaders(vec![
            op(Set, "X-Last", "listener {response.header.x-last}"),
            op(Add, "X-Order", "3"),
        ]),
        Filter::ResponseHeaders(vec![
            op(Add, "X-Order", "1"),
            op(Add, "X-Order", "2"),
            op(Set, "X-Last", "route {status}"),
        ]),
    ];
    let (message, empty) = (Message::new(&[("X-Last", b"origin")]), Edits::default());
    let mut v = values(&none);
    v.response = Some((200, message.head(), &empty));
    let mut edits = Edits::default();
    chain(&filters).response(&v, &mut edits);
    assert_eq!(
        lines(&edits),
        [
            "X-Order: 1",
            "X-Order: 2",
            "X-Last: listener route 200",
            "X-Order: 3"
        ]
    );
}

#[test]
fn a_response_sees_what_was_done_to_the_request() {
    let (request, response, empty) = (
        Message::new(&[("X-A", b"old")]),
        Message::new(&[]),
        Edits::default(),
    );
    let mut done = Edits::default();
    done.set("X-A", b"new");
    let mut v = values(&none);
    v.request = Some((request.head(), &done));
    v.response = Some((200, response.head(), &empty));
    let mut edits = Edits::default();
    chain(&[Filter::ResponseHeaders(vec![op(
        Set,
        "X-Echo",
        "{request.header.x-a}",
    )])])
    .response(&v, &mut edits);
    assert_eq!(lines(&edits), ["X-Echo: new"]);
}

#[test]
fn allow_and_deny() {
    let allow = |nets: &[&str]| Filter::Allow(ips(nets));
    let deny = |nets: &[&str]| Filter::Deny(ips(nets));
    let none_matches = None;
    for (filters, ip, want) in [
        (
            vec![allow(&["192.0.2.0/24"])],
            Some("192.0.2.7"),
            Verdict::Continue,
        ),
        (
            vec![allow(&["192.0.2.0/24"])],
            Some("::ffff:192.0.2.7"),
            Verdict::Continue,
        ),
        (
            vec![allow(&["192.0.2.0/24"])],
            Some("192.0.3.7"),
            Verdict::Refused,
        ),
        (
            vec![allow(&["192.0.2.0/24"])],
            none_matches,
            Verdict::Refused,
        ),
        (vec![allow(&[])], Some("192.0.2.7"), Verdict::Refused),
        (
            vec![deny(&["2001:db8::/32"])],
            Some("2001:db8::1"),
            Verdict::Refused,
        ),
        (
            vec![deny(&["2001:db8::/32"])],
            Some("2001:db9::1"),
            Verdict::Continue,
        ),
        (vec![deny(&["0.0.0.0/0"])], none_matches, Verdict::Continue),
        (
            vec![allow(&["10.0.0.0/8"]), allow(&["10.1.0.0/16"])],
            Some("10.2.0.1"),
            Verdict::Refused,
        ),
        (
            vec![allow(&["10.0.0.0/8"]), deny(&["10.2.0.0/16"])],
            Some("10.2.0.1"),
            Verdict::Refused,
        ),
        (
            vec![deny(&["10.2.0.0/16"]), allow(&["10.0.0.0/8"])],
            Some("10.1.0.1"),
            Verdict::Continue,
        ),
    ] {
        let mut v = values(&none);
        v.client_ip = ip.map(|ip| ip.parse().unwrap());
        let got = chain(&filters).request(&v, &mut Edits::default(), &mut Target::default());
        assert_eq!(got, want, "{filters:?} {ip:?}");
    }
}

#[test]
fn a_value_that_would_split_the_message_is_left_out() {
    for query in [
        &b"q=a%0d%0aX-Evil:%201"[..],
        b"q=%0a",
        b"q=%0d%0a",
        b"q=a%00",
        b"q=%7f",
        b"q=%1b[0m",
    ] {
        let ops = vec![
            op(Set, "X-Q", "{query.q}"),
            op(Add, "X-R", "r{query.q}"),
            op(IfAbsent, "X-S", "{query.q}s"),
        ];
        let (verdict, lines, _) = run(
            &[Filter::RequestHeaders(ops)],
            &[("X-Q", b"client's own")],
            "/",
            query,
        );
        assert_eq!(verdict, Verdict::Continue);
        assert!(lines.is_empty(), "{lines:?}");
    }
}

#[test]
fn set_removes_the_clients_own_even_if_ours_cannot_be() {
    let (message, empty) = (Message::new(&[("X-User", b"root")]), Edits::default());
    let mut v = values(&none);
    v.query = Some(b"u=%0a");
    v.request = Some((message.head(), &empty));
    let mut edits = Edits::default();
    let filters = [Filter::RequestHeaders(vec![op(Set, "X-User", "{query.u}")])];
    chain(&filters).request(&v, &mut edits, &mut Target::default());
    assert_eq!(edits.get(message.head(), b"x-user"), None);
}

#[test]
fn nothing_makes_no_line_unless_it_is_written() {
    let ops = vec![
        op(Set, "X-A", "{query.no}"),
        op(Set, "X-B", ""),
        op(Add, "X-C", " {query.no}\t"),
        op(Set, "X-D", " d{query.no} "),
    ];
    let (_, lines, _) = run(&[Filter::RequestHeaders(ops)], &[], "/", b"");
    assert_eq!(lines, ["X-B:", "X-D: d"]);
}

#[test]
fn a_value_that_is_too_long_is_left_out() {
    let long = format!("q={}", "x".repeat(header::MAX_VALUE + 1));
    let (_, lines, _) = run(
        &[Filter::RequestHeaders(vec![op(Set, "X", "{query.q}")])],
        &[],
        "/",
        long.as_bytes(),
    );
    assert!(lines.is_empty());
    let (_, lines, _) = run(
        &[Filter::RequestHeaders(vec![op(Set, "X", "{query.q}")])],
        &[],
        "/",
        &long.as_bytes()[..long.len() - 1],
    );
    assert_eq!(lines.len(), 1);
}

#[test]
fn errors_say_where() {
    let error = Chain::build(&[
        Filter::StripPrefix("/a".into()),
        Filter::RewriteRegex {
            pattern: "(".into(),
            with: String::new(),
        },
    ])
    .unwrap_err();
    assert_eq!(error.filter, 1);
    assert!(
        error
            .to_string()
            .starts_with("filter 2: `rewrite-regex \"(\"`"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn no_header_holds_a_line_break(query in "q=(%0d|%0a|%00|%09|%20|[ -~]){0,12}", prefix in "[a-z ]{0,3}") {
        let ops = vec![op(Set, "X-Q", &format!("{prefix}{{query.q}}"))];
        let (_, lines, _) = run(&[Filter::RequestHeaders(ops)], &[], "/", query.as_bytes());
        for line in lines {
            prop_assert!(line.starts_with("X-Q:"));
            prop_assert!(!line.bytes().any(|b| b < 0x20 && b != b'\t' || b == 0x7F), "{:?}", line);
        }
    }
}
