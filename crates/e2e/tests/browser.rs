//! Chromium as a judge: a page over HTTP/2, many requests at once, an upload, an event stream, WebSockets over both versions, and
//! calls by gRPC-Web.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use narthex_e2e::kit::browser;
use narthex_e2e::kit::grpc::GrpcServer;
use narthex_e2e::kit::h2peer::body;
use narthex_e2e::kit::origin::{Origin, Step, answer};
use narthex_e2e::kit::proxy::Proxy;
use narthex_e2e::kit::tls::Ca;
use narthex_e2e::kit::ws::WsOrigin;
use narthex_e2e::kit::{Fnv, PATIENCE, eventually};
use serde_json::json;

const PAGE: &str = "<!doctype html><title>shop</title><link rel=icon href=data:,><p>hello";
const EVENTS: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

fn chunk(text: &str) -> Step {
    Step::Send(format!("{:x}\r\n{text}\r\n", text.len()).into_bytes())
}

#[test]
fn chromium_is_content() {
    let (origin, sockets, calls) = (Origin::start(), WsOrigin::start(), GrpcServer::start());
    origin.on(
        "/",
        answer(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{PAGE}",
            PAGE.len()
        )),
    );
    origin.on(
        "/events",
        [
            Step::Send(EVENTS.to_vec()),
            chunk("data: one\n\n"),
            Step::Gate("first".into()),
            chunk("data: two\n\n"),
            Step::AwaitEnd,
        ],
    );
    origin.on(
        "/first-event-is-here",
        [Step::Reached("first".into()), Step::Echo(200)],
    );
    let dir = tempfile::tempdir().unwrap();
    Ca::new("root")
        .leaf(&["shop.test"])
        .write(dir.path(), "shop");
    let profile = tempfile::tempdir().unwrap();
    let proxy = Proxy::start_in(
        dir,
        &Proxy::config(
            "tls",
            &format!(
                "listen \"127.0.0.1:@PORT2@\" {{ tls; protocols \"http/1.1\" }}\n\
                 upstream \"calls\" {{ server \"{}\"; protocol \"h2\" }}\n\
                 site \"shop.test\" {{\n tls cert=\"shop.pem\" key=\"shop.key\"\n\
                 route path=\"/t.T/*\" {{ grpc-web; proxy \"calls\" }}\n\
                 route path=\"/ws\" {{ proxy \"{}\" }}\n\
                 proxy \"{}\"\n}}",
                calls.place(),
                sockets.addr(),
                origin.place()
            ),
        ),
    );
    let https = |port: u16| format!("https://shop.test:{port}");
    let found = browser::look(
        profile.path(),
        &https(proxy.addr().port()),
        &https(proxy.addr2().port()),
    );
    assert_eq!(found["page"], "h2", "{found}");
    assert_eq!(found["title"], "shop");
    assert_eq!(found["fetches"], 60, "{found}");
    assert_eq!(found["protocols"], json!(["h2"]));
    assert_eq!(found["upload"], 200);
    assert_eq!(found["events"], json!(["one", "two"]));
    for socket in ["socket", "socketOfHttp1"] {
        assert_eq!(
            found[socket],
            json!({"code": 1000, "echoed": true}),
            "{socket}"
        );
    }
    for (call, kind) in [
        ("unary", "application/grpc-web+proto"),
        ("unaryText", "application/grpc-web-text+proto"),
    ] {
        let call = &found[call];
        assert_eq!(
            (&call["status"], &call["type"]),
            (&json!(200), &json!(kind)),
            "{call}"
        );
        assert_eq!(call["messages"], json!(["hello"]), "{call}");
        let trailers = call["trailers"].as_str().unwrap();
        assert!(trailers.contains("grpc-status: 0\r\n"), "{call}");
    }
    assert_eq!(
        found["stream"]["messages"],
        json!(["0", "1", "2", "3", "4"])
    );
    let failed = found["failed"].to_string();
    assert!(
        failed.contains("grpc-status: 9") || failed.contains("\"head\":\"9\""),
        "{failed}"
    );

    let seen = origin.take(0);
    let upload = seen.iter().find(|s| s.target == "/upload").unwrap();
    assert_eq!(upload.hash, Fnv::of(&body(3_000_000)));
    // The socket over HTTP/2 was one: extended CONNECT.
    let spoken = |path: &str| -> Vec<String> {
        let log = proxy.access_log();
        let of = log.iter().filter(|r| r["path"] == path);
        of.map(|r| r["protocol"].as_str().unwrap().to_owned())
            .collect()
    };
    assert!(
        eventually(PATIENCE, || spoken("/ws").len() == 2),
        "{:?}",
        spoken("/ws")
    );
    let sockets = spoken("/ws");
    assert!(
        sockets.contains(&"HTTP/2.0".into()) && sockets.contains(&"HTTP/1.1".into()),
        "{sockets:?}"
    );
    assert_eq!(spoken("/upload"), ["HTTP/2.0"]);
}
