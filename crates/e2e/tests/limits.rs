//! Limits are exact: at the limit a request passes, one beyond it is refused with the status that says why.
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

use narthex_e2e::kit::attack::{Client, End, Response};
use narthex_e2e::kit::craft::{EVIL, get, request, sized};
use narthex_e2e::kit::origin::Origin;
use narthex_e2e::kit::proxy::Proxy;
use narthex_e2e::kit::rig::Rig;

narthex_e2e::with_1_2_and_8_workers! {
    request_line,
    one_field,
    number_of_fields,
    whole_head,
    body,
    trailers_and_extensions,
    connections_per_client,
    connections_per_client_of_a_listener,
    bodies_on_get_by_choice,
}

/// One request on a connection of its own; a refusal must close it.
#[track_caller]
fn status(rig: &Rig, bytes: impl AsRef<[u8]>) -> u16 {
    let mut c = rig.connect();
    c.send(bytes);
    let r: Response = c.read_response("GET").unwrap();
    if r.status >= 400 {
        // A body that was too large but short enough to be drained leaves the connection in order.
        if r.status == 413 && !r.says_close() {
            assert_eq!(c.ask(get("/next", "")).status, 200);
            return r.status;
        }
        let (rest, end) = c.rest();
        assert!(
            rest.is_empty() && end != End::Open && r.says_close(),
            "after {}: {end:?}",
            r.status
        );
        assert!(r.fields.has("narthex-reason"), "{:?}", r.fields);
    }
    r.status
}

/// The smallest size in `from..to` whose request is refused, found by trying each size near a guess.
fn edge(rig: &Rig, limit: usize, refused: u16, make: impl Fn(usize) -> String) {
    let statuses: Vec<u16> = [limit - 1, limit, limit + 1]
        .iter()
        .map(|n| status(rig, make(*n)))
        .collect();
    assert_eq!(statuses, [200, 200, refused], "around {limit}");
}

fn request_line() {
    for (setting, limit) in [("", 8192), ("limits request-line=\"1KiB\"", 1024)] {
        let rig = Rig::of(setting, "proxy \"u\"");
        // The line end counts.
        let around = "GET / HTTP/1.1\r\n".len();
        edge(&rig, limit, 414, |n| {
            get(&format!("/{}", "a".repeat(n - around)), "")
        });
        edge(&rig, limit, 414, |n| {
            get(&format!("/?{}", "a".repeat(n - around - 1)), "")
        });
        assert_eq!(
            status(&rig, get(&format!("/{}", "a".repeat(100_000)), "")),
            414
        );
    }
}

fn one_field() {
    for (setting, limit) in [("", 8192), ("limits field=\"1KiB\"", 1024)] {
        let rig = Rig::of(setting, "proxy \"u\"");
        edge(&rig, limit, 431, |n| {
            get("/", &format!("X: {}\r\n", "v".repeat(n - 3)))
        });
        edge(&rig, limit, 431, |n| {
            get("/", &format!("{}:v\r\n", "n".repeat(n - 2)))
        });
        // A field without an end is refused before its end.
        let mut c = rig.connect();
        c.send("GET / HTTP/1.1\r\nHost: a\r\nX: ");
        let sent = (0..2000).take_while(|_| c.send("v".repeat(10_000))).count();
        assert!(sent < 2000, "20 MB of one field were swallowed");
    }
}

fn number_of_fields() {
    for (setting, limit) in [("", 100), ("limits fields=10", 10)] {
        let rig = Rig::of(setting, "proxy \"u\"");
        // `Host` and `X-Id` are there already.
        edge(&rig, limit, 431, |n| get("/", &"X: y\r\n".repeat(n - 2)));
        edge(&rig, limit, 431, |n| {
            get("/", &"Cookie: a=b\r\n".repeat(n - 2))
        });
    }
}

fn whole_head() {
    for (setting, limit) in [("", 32 << 10), ("limits head=\"2KiB\"", 2048)] {
        let rig = Rig::of(setting, "proxy \"u\"");
        edge(&rig, limit, 431, head_of);
    }
}

/// A GET whose head counts `n`: its bytes and 32 for each field.
fn head_of(n: usize) -> String {
    let filler = |v: usize| format!("X: {}\r\n", "v".repeat(v));
    let size = |s: &str| s.len() + 32 * (s.matches("\r\n").count() - 2);
    let fixed = "GET / HTTP/1.1\r\nHost: a\r\n";
    let mut head = fixed.to_owned();
    while size(&format!("{head}\r\n")) + 5000 < n {
        head += &filler(4000);
    }
    let missing = n - size(&format!("{head}{}\r\n", filler(0)));
    head + &filler(missing) + "\r\n"
}

fn body() {
    let rig = Rig::of(
        "",
        "body max=\"1KiB\"\nroute path=\"/big\" { body max=\"4KiB\"; proxy \"u\" }\nproxy \"u\"",
    );
    edge(&rig, 1024, 413, |n| sized("/p", "", &"b".repeat(n)));
    edge(&rig, 1024, 413, |n| {
        request(
            "POST",
            "/p",
            "Transfer-Encoding: chunked\r\n",
            &format!("{:x}\r\n{}\r\n0\r\n\r\n", n, "b".repeat(n)),
        )
    });
    edge(&rig, 1024, 413, |n| {
        request(
            "POST",
            "/p",
            "Transfer-Encoding: chunked\r\n",
            &format!("{}0\r\n\r\n", "1\r\nb\r\n".repeat(n)),
        )
    });
    edge(&rig, 4096, 413, |n| sized("/big", "", &"b".repeat(n)));
    // The declared length decides; nothing of such a body is waited for, and none of it is a request.
    rig.origin.take(0);
    let mut c = rig.connect();
    c.send(request("POST", "/p", "Content-Length: 100000\r\n", EVIL));
    let t = c.read_all(&[]);
    assert_eq!(t.statuses(), [413]);
    let mut c = rig.connect();
    c.send(request(
        "POST",
        "/p",
        "Expect: 100-continue\r\nContent-Length: 100000\r\n",
        "",
    ));
    let r = c.read_response("POST").unwrap();
    assert_eq!(
        (r.status, r.interim.len()),
        (413, 0),
        "nobody is asked to send what will be refused"
    );
    assert!(
        rig.origin.take(0).iter().all(|s| !s.complete),
        "a body over the limit looked whole"
    );
}

fn trailers_and_extensions() {
    let rig = Rig::plain();
    let post = |body: String| request("POST", "/t", "Transfer-Encoding: chunked\r\n", &body);
    edge(&rig, 32, 400, |n| {
        post(format!("1\r\nx\r\n0\r\n{}\r\n", "X-T: v\r\n".repeat(n)))
    });
    edge(&rig, 256, 400, |n| {
        post(format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(n - 1)))
    });
}

/// Connections: at most so many for one client, and the rest is served again when they end.
fn connections_per_client() {
    let rig = Rig::of("connections per-client=4", "proxy \"u\"");
    let ask = |c: &mut Client| {
        c.send(get("/", ""));
        c.read_response("GET").ok().map(|r| r.status)
    };
    // The probe that waited for the proxy to start may still be counted.
    let mut held: Vec<Client> = Vec::new();
    while held.len() < 4 {
        let mut c = rig.connect();
        if ask(&mut c) == Some(200) {
            held.push(c);
        }
    }
    let mut extra = rig.connect();
    assert!(
        matches!(ask(&mut extra), None | Some(429 | 503)),
        "a fifth connection is refused"
    );
    for c in &mut held {
        assert_eq!(ask(c), Some(200), "the first four are not disturbed");
    }
    held.clear();
    assert!(
        narthex_e2e::kit::eventually(narthex_e2e::kit::PATIENCE, || ask(&mut rig.connect())
            == Some(200)),
        "room again"
    );
}

/// A listener's own limit counts its own connections: what a client has elsewhere is neither here nor there.
fn connections_per_client_of_a_listener() {
    let origin = Origin::start();
    let text = Rig::text(&origin, "connections per-client=2", "", "proxy \"u\"");
    let second = "listen \"127.0.0.1:@PORT2@\" { connections per-client=2 }";
    let proxy = Proxy::start(&format!("{text}\n{second}\nconnections per-client=1\n"));
    let served = |address| {
        let mut c = Client::connect(address);
        c.send(get("/", ""));
        let ok = c.read_response("GET").is_ok_and(|r| r.status == 200);
        ok.then_some(c)
    };
    let mut held = Vec::new();
    for address in [proxy.addr(), proxy.addr2()] {
        // The probe that waited for the proxy to start may still be counted.
        for _ in 0..2 {
            let mut one = None;
            assert!(narthex_e2e::kit::eventually(
                narthex_e2e::kit::PATIENCE,
                || {
                    one = served(address);
                    one.is_some()
                }
            ));
            held.extend(one);
        }
    }
    assert_eq!(held.len(), 4);
    for address in [proxy.addr(), proxy.addr2()] {
        assert!(served(address).is_none(), "a third connection");
    }
}

fn bodies_on_get_by_choice() {
    let rig = Rig::of("", "reject-body-on-get\nproxy \"u\"");
    for method in ["GET", "HEAD", "DELETE"] {
        let mut c = rig.connect();
        c.send(request(method, "/", "Content-Length: 3\r\n", "abc"));
        let r = c.read_response(method).unwrap();
        assert!(matches!(r.status, 400 | 413), "{method}: {}", r.status);
    }
    assert_eq!(status(&rig, sized("/", "", "abc")), 200);
    assert_eq!(status(&rig, get("/", "Content-Length: 0\r\n")), 200);
}
