use hyper::header::HeaderValue;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn instance(node: &str, id: &str, address: &str, port: u64) -> Value {
    json!({
        "Node": { "ID": "x", "Node": node, "Address": "10.0.0.9", "Datacenter": "dc1" },
        "Service": { "ID": id, "Service": "api", "Tags": [], "Address": address, "Port": port, "Weights": { "Passing": 3, "Warning": 1 } },
        "Checks": [],
    })
}

fn read(list: &Value) -> Found {
    instances(list.to_string().as_bytes()).unwrap()
}

#[test]
fn the_service_s_own_address_comes_before_that_of_its_node() {
    let found = read(&json!([
        instance("n1", "a", "10.0.0.1", 80),
        instance("n2", "a", "", 81),
        instance("n3", "a", "2001:db8::1", 82),
        instance("n4", "a", "web.internal", 83),
    ]));
    let names: Vec<&str> = found.servers.iter().map(|(_, s)| s.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "10.0.0.1:80",
            "10.0.0.9:81",
            "[2001:db8::1]:82",
            "web.internal:83"
        ]
    );
    assert_eq!(found.servers[0].0, "n1/a");
    assert!(found.servers.iter().all(|(_, s)| s.weight == 3));
    assert_eq!(found.left_out, []);
}

#[test]
fn a_bad_instance_is_named_and_the_others_are_taken() {
    let mut heavy = instance("n4", "a", "10.0.0.4", 80);
    heavy["Service"]["Weights"]["Passing"] = 60_000.into();
    let mut plain = instance("n5", "a", "10.0.0.5", 80);
    plain["Service"]["Weights"] = Value::Null;
    let found = read(&json!([
        instance("n1", "a", "10.0.0.1", 80),
        7,
        instance("n2", "a", "10.0.0.2", 0),
        instance("n3", "a", "no host", 80),
        heavy,
        { "Node": { "Node": "x" } },
        plain,
    ]));
    let names: Vec<&str> = found.servers.iter().map(|(_, s)| s.name.as_str()).collect();
    assert_eq!(names, ["10.0.0.1:80", "10.0.0.5:80"]);
    let left_out: Vec<&str> = found.left_out.iter().map(|s| s.entry.as_str()).collect();
    assert_eq!(
        left_out,
        ["instance 2", "n2/a", "n3/a", "n4/a", "instance 6"]
    );
    assert!(found.left_out[1].why.contains("without a port"));
    assert!(
        found.left_out[3].why.contains("1000"),
        "{:?}",
        found.left_out[3]
    );
}

fn fields(index: Option<&str>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    if let Some(index) = index {
        fields.insert("x-consul-index", HeaderValue::from_str(index).unwrap());
    }
    fields
}

#[test]
fn an_index_goes_forward_or_begins_anew() {
    for (before, said, after) in [
        (0, "7", 7),
        (7, "7", 7),
        (7, "9", 9),
        (7, "6", 0),
        (0, "0", 1),
        (1, "0", 0),
    ] {
        assert_eq!(
            Index(before).after(&fields(Some(said))),
            Ok(Index(after)),
            "{before}, {said}"
        );
    }
    for said in [
        None,
        Some(""),
        Some("-1"),
        Some("x"),
        Some("99999999999999999999"),
    ] {
        assert!(
            Index(1)
                .after(&fields(said))
                .unwrap_err()
                .contains("X-Consul-Index")
        );
    }
}

#[test]
fn an_answer_that_is_none_is_a_failure() {
    for body in ["", "{}", "null", "[", "<html>"] {
        assert!(instances(body.as_bytes()).is_err(), "{body}");
    }
    assert_eq!(instances(b"[]"), Ok(Found::default()));
}

proptest! {
    /// Whatever comes, it is an answer or an error, and every entry is a server or named.
    #[test]
    fn damaged_answers_are_taken(at in 0..600_usize, cut in 0..40_usize, put in "[ -~]{0,12}") {
        let good = json!([instance("n1", "a", "10.0.0.1", 80), instance("n2", "b", "", 81)]).to_string();
        let mut damaged = good.into_bytes();
        let at = at.min(damaged.len());
        let end = (at + cut).min(damaged.len());
        damaged.splice(at..end, put.bytes());
        if let Ok(found) = instances(&damaged) {
            let entries: Vec<Value> = serde_json::from_slice(&damaged).unwrap();
            prop_assert_eq!(found.servers.len() + found.left_out.len(), entries.len());
        }
    }

    #[test]
    fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = instances(&bytes);
    }
}
