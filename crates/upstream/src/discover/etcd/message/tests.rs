use proptest::prelude::*;

use super::*;

/// What etcd 3.4 says, as it was recorded, with keys `/s/a/1` and `/s/a/2`.
const RANGE: &str = r#"{"header":{"cluster_id":"324952591200643719","member_id":"3319814642761637952","revision":"7","raft_term":"2"},"kvs":[{"key":"L3MvYS8x","create_revision":"2","mod_revision":"2","version":"1","value":"MTI3LjAuMC4xOjgw"},{"key":"L3MvYS8y","create_revision":"3","mod_revision":"3","version":"1","value":"bm9uc2Vuc2U="}],"count":"2"}"#;
const EMPTY: &str =
    r#"{"header":{"cluster_id":"3","member_id":"3","revision":"1","raft_term":"2"}}"#;
const CREATED: &str = r#"{"result":{"header":{"cluster_id":"3","member_id":"3","revision":"2","raft_term":"2"},"created":true}}"#;
const PUT: &str = r#"{"result":{"header":{"cluster_id":"3","member_id":"3","revision":"3","raft_term":"2"},"events":[{"kv":{"key":"L3MvYS8x","create_revision":"2","mod_revision":"3","version":"2","value":"MTI3LjAuMC4xOjgw"}},{"kv":{"key":"L3MvYS8y","mod_revision":"3"}}]}}"#;
const DELETE: &str = r#"{"result":{"header":{"cluster_id":"3","member_id":"3","revision":"4","raft_term":"2"},"events":[{"type":"DELETE","kv":{"key":"L3MvYS8x","mod_revision":"4"}}]}}"#;
const COMPACTED: &str = r#"{"result":{"header":{"cluster_id":"3","member_id":"3","raft_term":"2"},"canceled":true,"compact_revision":"3"}}"#;

#[test]
fn everything_is_read_and_what_is_no_server_is_named() {
    let all = everything(RANGE.as_bytes()).unwrap();
    assert_eq!((all.revision, all.cut), (7, 0));
    let found = all.found;
    assert_eq!(found.servers.len(), 1);
    assert_eq!(found.servers[0].0, "/s/a/1");
    assert_eq!(found.servers[0].1.name, "127.0.0.1:80");
    assert_eq!(found.left_out.len(), 1);
    assert_eq!(found.left_out[0].entry, "/s/a/2");
    let empty = everything(EMPTY.as_bytes()).unwrap();
    assert_eq!((empty.revision, empty.found), (1, Found::default()));
    // More than was asked for.
    let more = RANGE.replace("\"count\":\"2\"", "\"more\":true,\"count\":\"9\"");
    let all = everything(more.as_bytes()).unwrap();
    assert_eq!(
        (all.cut, all.found.left_out[0].entry.as_str()),
        (7, "7 keys")
    );
}

#[test]
fn one_broken_pair_does_not_cost_the_others() {
    let text = RANGE
        .replace("bm9uc2Vuc2U=", "!")
        .replace("MTI3LjAuMC4xOjgw", "MTAuMC4wLjE6ODA=");
    let found = everything(text.as_bytes()).unwrap().found;
    assert_eq!(found.servers[0].1.name, "10.0.0.1:80");
    assert_eq!(found.left_out[0].entry, "entry 2");
}

#[test]
fn a_watch_says_what_happened() {
    assert_eq!(watched(CREATED.as_bytes()), Ok(Watched::Events(Vec::new())));
    let Ok(Watched::Events(events)) = watched(PUT.as_bytes()) else {
        panic!("no events");
    };
    assert_eq!(events[0].key, "/s/a/1");
    assert!(matches!(&events[0].now, Some(Ok(server)) if server.name == "127.0.0.1:80"));
    assert!(matches!(&events[1].now, Some(Err(skipped)) if skipped.entry == "/s/a/2"));
    let gone = Event {
        key: "/s/a/1".to_owned(),
        now: None,
    };
    assert_eq!(watched(DELETE.as_bytes()), Ok(Watched::Events(vec![gone])));
    assert_eq!(watched(COMPACTED.as_bytes()), Ok(Watched::Compacted));
}

#[test]
fn a_watch_that_is_over_or_says_something_strange_is_begun_anew() {
    for (line, why) in [
        (
            r#"{"error":{"grpc_code":14,"http_code":503,"message":"no leader","http_status":"x"}}"#,
            "no leader",
        ),
        (
            r#"{"result":{"canceled":true,"cancel_reason":"permission denied"}}"#,
            "permission denied",
        ),
        (
            r#"{"result":{"events":[{"type":"RENAME","kv":{"key":"YQ=="}}]}}"#,
            "RENAME",
        ),
        (r#"{"result":{"events":[{"kv":{"value":"YQ=="}}]}}"#, "key"),
        (r#"{"result":{"events":[{"kv":{"key":"YQ"}}]}}"#, "Base64"),
        ("{}", "nothing"),
        ("", "no message"),
        ("[]", "no message"),
    ] {
        let said = watched(line.as_bytes()).unwrap_err();
        assert!(said.contains(why), "{line}: {said}");
    }
}

#[test]
fn a_value_is_an_address_or_an_object() {
    let ok = |value: &str| entry("k", value.as_bytes()).unwrap();
    assert_eq!(ok(" 10.0.0.1:80\n").name, "10.0.0.1:80");
    assert_eq!(ok("\"10.0.0.1:80\"").name, "10.0.0.1:80");
    let server = ok(
        r#"{"address": "api.internal:80", "weight": 7, "priority": 2, "backup": false, "zone": "a"}"#,
    );
    assert_eq!(
        (server.weight, server.priority, server.zone.as_deref()),
        (7, 2, Some("a"))
    );
    for value in [
        "",
        "nonsense",
        "{",
        "[\"10.0.0.1:80\"]",
        r#"{"address": "10.0.0.1:80", "wieght": 7}"#,
        r#"{"weight": 1}"#,
    ] {
        let skipped = entry("k", value.as_bytes()).unwrap_err();
        assert!(
            !skipped.why.is_empty() && skipped.reason == "invalid",
            "{value}"
        );
    }
    assert!(entry("k", b"\xff").unwrap_err().why.contains("UTF-8"));
}

#[test]
fn keys_stay_apart() {
    assert_eq!(name(b"/a/\xff\n"), "/a/\\xff\\n");
    assert_ne!(name(b"/a/\xff"), name(b"/a/\\xff"));
}

#[test]
fn a_login_gives_a_token() {
    assert_eq!(
        token(br#"{"header":{},"token":"abc.1"}"#).as_deref(),
        Ok("abc.1")
    );
    assert!(token(b"{}").is_err());
    assert!(token(b"geheim").is_err());
}

proptest! {
    /// Whatever comes, it is an answer or an error.
    #[test]
    fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (everything(&bytes), watched(&bytes), token(&bytes), entry("k", &bytes));
    }

    /// A good message with a piece cut out, or another one put in.
    #[test]
    fn damaged_messages_are_taken(which in 0..5_usize, at in 0..400_usize, cut in 0..40_usize, put in "[ -~]{0,12}") {
        let good = [RANGE, PUT, DELETE, COMPACTED, CREATED][which];
        let mut damaged = good.as_bytes().to_vec();
        let at = at.min(damaged.len());
        let end = (at + cut).min(damaged.len());
        damaged.splice(at..end, put.bytes());
        if let Ok(all) = everything(&damaged) {
            // Two keys, maybe one more, and those beyond the limit.
            prop_assert!(all.found.servers.len() + all.found.left_out.len() <= 4);
        }
        let _ = watched(&damaged);
    }
}
