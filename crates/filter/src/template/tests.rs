//! Rendering.

use super::*;
use crate::testing::{Message, none, template, values};

fn rendered(source: &str, values: &Values<'_>) -> String {
    let mut out = b">".to_vec();
    render(&template(source), values, &mut out);
    String::from_utf8(out.split_off(1)).unwrap()
}

#[test]
fn every_variable() {
    let request = Message::new(&[
        ("X-A", b"first"),
        ("x-a", b"second"),
        ("Cookie", b"s=1; t=\"2\""),
        ("Cookie", b"u=3"),
    ]);
    let response = Message::new(&[("Server", b"origin")]);
    let edits = Edits::default();
    let captures = |name: &str| (name == "rest").then_some("x/y%20z");
    let mut v = values(&captures);
    v.request = Some((request.head(), &edits));
    v.response = Some((404, response.head(), &edits));
    for (source, want) in [
        ("", ""),
        ("plain", "plain"),
        ("{client.ip}:{client.port}", "192.0.2.7:4711"),
        ("{peer.ip} {listener}", "198.51.100.1 web"),
        (
            "{scheme}://{host}|{authority}",
            "https://shop.example|shop.example:8443",
        ),
        ("{method} {uri} {protocol}", "GET /a/b?x=1&y=%2F HTTP/1.1"),
        ("{path}?{query}", "/a/b?x=1&y=%2F"),
        ("{query.x}{query.y}{query.z}", "1/"),
        ("{request.id}", "id-1"),
        ("{request.header.X-A}{request.header.x-b}", "first"),
        ("{cookie.s}{cookie.t}{cookie.u}{cookie.v}", "1\"2\"3"),
        ("{rest}{other}", "x/y%20z"),
        (
            "{site} {route} {upstream} {server}",
            "shop /a/* app 10.0.0.1:80",
        ),
        ("{status} {response.header.server}", "404 origin"),
        ("{time} {time.msec}", "1994-11-06T08:49:37Z 784111777.042"),
        ("{duration.ms}{outcome}", ""),
    ] {
        assert_eq!(rendered(source, &v), want, "{source}");
    }
}

#[test]
fn what_is_missing_is_empty() {
    let mut v = values(&none);
    v.client_ip = None;
    v.peer_ip = None;
    v.query = None;
    let all = "{client.ip}{client.port}{peer.ip}{query}{query.x}{status}{response.header.a}{request.header.a}{cookie.a}{a}";
    assert_eq!(rendered(all, &v), "");
    assert_eq!(rendered("{uri}", &v), "/a/b");
    v.query = Some(b"");
    assert_eq!(rendered("{uri}", &v), "/a/b?");
}

#[test]
fn mapped_addresses_are_written_short() {
    let mut v = values(&none);
    v.client_ip = Some("::ffff:10.1.2.3".parse().unwrap());
    assert_eq!(rendered("{client.ip}", &v), "10.1.2.3");
    v.client_ip = Some("2001:db8::1".parse().unwrap());
    assert_eq!(rendered("{client.ip}", &v), "2001:db8::1");
}

#[test]
fn ac14_inserted_text_is_never_a_template() {
    let request = Message::new(&[("X-A", b"{client.ip}{{x}}"), ("Cookie", b"c={path}")]);
    let edits = Edits::default();
    let mut v = values(&none);
    v.query = Some(b"q=%7Bhost%7D");
    v.request = Some((request.head(), &edits));
    assert_eq!(
        rendered("{request.header.x-a} {cookie.c} {query.q}", &v),
        "{client.ip}{{x}} {path} {host}"
    );
}

#[test]
fn edits_are_read_back() {
    let request = Message::new(&[("Cookie", b"a=1"), ("X-A", b"old")]);
    let mut edits = Edits::default();
    edits.set("X-A", b"new");
    edits.add("Cookie", b"b=2");
    {
        let mut v = values(&none);
        v.request = Some((request.head(), &edits));
        assert_eq!(
            rendered("{cookie.a}{cookie.b}{request.header.x-a}", &v),
            "12new"
        );
    }
    edits.set("cookie", b"c=3");
    let mut v = values(&none);
    v.request = Some((request.head(), &edits));
    assert_eq!(rendered("{cookie.a}{cookie.b}{cookie.c}", &v), "3");
}

#[test]
fn bounded() {
    let long = "x".repeat(MAX_RENDERED / 2);
    let mut v = values(&none);
    v.path = &long;
    assert_eq!(rendered("{path}{path}{path}!", &v).len(), MAX_RENDERED);
}

proptest::proptest! {
    #[test]
    fn ac14_a_value_is_inserted_as_it_is(value in "[ -~]{0,40}") {
        let request = Message::new(&[("X-A", value.as_bytes())]);
        let edits = Edits::default();
        let mut v = values(&none);
        v.request = Some((request.head(), &edits));
        proptest::prop_assert_eq!(rendered("<{request.header.X-A}>", &v), format!("<{value}>"));
    }
}
