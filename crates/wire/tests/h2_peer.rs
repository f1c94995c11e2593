//! Against the `h2` crate, in memory, both roles: what it sends we understand, what we send it understands.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use narthex_message::{Edits, FieldId, Head, Index};
use narthex_wire::h1::encode::Keep;
use narthex_wire::h2::{Bounds, Connection, ErrorCode, Event, Role, StreamId, encode};
use std::collections::HashMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// A message as the echo server has it so far.
#[derive(Default)]
struct Exchange {
    bytes: Vec<u8>,
    index: Index,
    body: Vec<u8>,
    sent: usize,
    trailers: Option<(Vec<u8>, Index)>,
    ended: bool,
    started: bool,
}

/// Answers every request with its own fields, body and trailers, all of them at once, as windows allow.
struct Echo {
    conn: Connection,
    exchanges: HashMap<StreamId, Exchange>,
    resets: Vec<(StreamId, ErrorCode)>,
}

impl Echo {
    fn new(bounds: Bounds) -> Self {
        Self {
            conn: Connection::new(Role::Server, bounds, 0),
            exchanges: HashMap::new(),
            resets: Vec::new(),
        }
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), narthex_wire::h2::Fatal> {
        loop {
            let received = self.conn.receive(bytes, 0)?;
            bytes = &bytes[received.taken..];
            let Some(event) = received.event else {
                if received.taken == 0 {
                    assert!(bytes.is_empty());
                    return Ok(());
                }
                continue;
            };
            match event {
                Event::Head {
                    stream,
                    end,
                    oversize,
                } => {
                    assert_eq!(oversize, None);
                    let mut e = Exchange {
                        ended: end,
                        ..Exchange::default()
                    };
                    self.conn.take_head(&mut e.bytes, &mut e.index);
                    narthex_message::validate::request(Head::new(&e.bytes, &e.index)).unwrap();
                    self.exchanges.insert(stream, e);
                    self.go_on(stream);
                }
                Event::Data { stream, bytes, end } => {
                    let e = self.exchanges.get_mut(&stream).unwrap();
                    e.body.extend_from_slice(bytes);
                    e.ended |= end;
                    self.conn.consumed(stream, bytes.len());
                    self.go_on(stream);
                }
                Event::Trailers { stream, .. } => {
                    let e = self.exchanges.get_mut(&stream).unwrap();
                    let (mut bytes, mut index) = (Vec::new(), Index::default());
                    self.conn.take_head(&mut bytes, &mut index);
                    e.trailers = Some((bytes, index));
                    e.ended = true;
                    self.go_on(stream);
                }
                Event::Reset { stream, code, .. } => {
                    self.resets.push((stream, code));
                    self.exchanges.remove(&stream);
                    self.conn.release(stream);
                }
                _ => {}
            }
        }
    }

    fn go_on(&mut self, stream: StreamId) {
        let Some(e) = self.exchanges.get_mut(&stream) else {
            return;
        };
        let edits = Edits::default();
        if !e.started {
            e.started = true;
            let head = Head::new(&e.bytes, &e.index);
            let mut block = Vec::new();
            encode::status(200, &mut block);
            encode::line("X-Method", head.method(), &mut block);
            encode::line("X-Target", head.target(), &mut block);
            encode::line(
                "X-Host",
                head.get(FieldId::Host).unwrap_or_default(),
                &mut block,
            );
            encode::fields(head, Keep::response(false), &edits, &mut block);
            assert!(self.conn.head(stream, &block, false, 0));
        }
        let last = e.ended && e.trailers.is_none();
        // Small pieces are an attack to the peer.
        if !e.ended && e.body.len() - e.sent < 1000 {
            return;
        }
        if e.sent < e.body.len() {
            e.sent += self.conn.data(stream, &e.body[e.sent..], last, 0);
        } else if last {
            self.conn.end(stream, 0);
        }
        if e.sent == e.body.len() && e.ended {
            if let Some((bytes, index)) = &e.trailers {
                let mut block = Vec::new();
                encode::fields(
                    Head::new(bytes, index),
                    Keep::response(false),
                    &edits,
                    &mut block,
                );
                assert!(self.conn.head(stream, &block, true, 0));
            }
            assert!(self.conn.is_over(stream));
            self.exchanges.remove(&stream);
            self.conn.release(stream);
        }
    }

    /// Until the peer closes.
    async fn run(mut self, mut io: DuplexStream, most: usize) -> Self {
        let mut buffer = vec![0; most];
        loop {
            while let Some(stream) = self.conn.next_writable() {
                self.go_on(stream);
            }
            let out = std::mem::take(&mut self.conn.out);
            if !out.is_empty() {
                if io.write_all(&out).await.is_err() {
                    return self;
                }
                continue;
            }
            match io.read(&mut buffer).await {
                Ok(0) | Err(_) => return self,
                Ok(n) => {
                    if let Err(fatal) = self.take(&buffer[..n]) {
                        eprintln!("{fatal:?}");
                        let _ = io.write_all(&self.conn.out).await;
                        return self;
                    }
                }
            }
        }
    }
}

/// One request by the `h2` crate's client, and its answer.
async fn ask(
    client: &mut h2::client::SendRequest<Bytes>,
    request: Request<()>,
    body: Option<Vec<u8>>,
    trailers: Option<HeaderMap>,
) -> (Response<()>, Vec<u8>, Option<HeaderMap>) {
    let mut ready = client.clone().ready().await.unwrap();
    let (response, mut send) = ready
        .send_request(request, body.is_none() && trailers.is_none())
        .unwrap();
    let sender = async {
        if let Some(body) = body {
            let mut rest = Bytes::from(body);
            if rest.is_empty() && trailers.is_none() {
                send.send_data(Bytes::new(), true).unwrap();
            }
            send.reserve_capacity(rest.len());
            while !rest.is_empty() {
                let n = std::future::poll_fn(|cx| send.poll_capacity(cx))
                    .await
                    .unwrap()
                    .unwrap();
                let piece = rest.split_to(n.min(rest.len()));
                send.send_data(piece, rest.is_empty() && trailers.is_none())
                    .unwrap();
            }
        }
        if let Some(trailers) = trailers {
            send.send_trailers(trailers).unwrap();
        }
    };
    let receiver = async {
        let (parts, mut body) = response.await.unwrap().into_parts();
        let mut bytes = Vec::new();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            bytes.extend_from_slice(&data);
        }
        let trailers = body.trailers().await.unwrap();
        (Response::from_parts(parts, ()), bytes, trailers)
    };
    tokio::join!(sender, receiver).1
}

fn with_server<F: Future<Output = ()>>(
    most: usize,
    bounds: Bounds,
    test: impl FnOnce(h2::client::SendRequest<Bytes>) -> F,
) -> Echo {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let echo = Echo::new(bounds).run(ours, most);
        let client = async {
            let (client, connection) = h2::client::handshake(theirs).await.unwrap();
            tokio::select! {
                () = test(client) => {},
                end = connection => panic!("the connection has ended: {end:?}"),
            }
        };
        tokio::join!(echo, client).0
    })
}

#[test]
fn requests_of_the_h2_client_are_echoed() {
    for most in [1, 3, 100, 16 << 10] {
        let echo = with_server(most, Bounds::default(), |mut client| async move {
            for i in 0..20usize {
                let mut request = Request::post(format!("http://example.com/a/{i}?b=c"));
                for n in 0..i {
                    request = request.header(format!("x-{n}"), "v".repeat(n * 17));
                }
                let request = request
                    .header("cookie", "a=1")
                    .header("cookie", "b=2")
                    .body(())
                    .unwrap();
                let fields = request.headers().clone();
                let body: Vec<u8> = (0..i * 37).map(|b| b as u8).collect();
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", HeaderValue::from(i));
                let with_trailers = i % 2 == 1;
                let (head, back, got) = ask(
                    &mut client,
                    request,
                    Some(body.clone()),
                    with_trailers.then(|| trailers.clone()),
                )
                .await;
                assert_eq!(head.status(), 200);
                assert_eq!(head.headers()["x-method"], "POST");
                assert_eq!(head.headers()["x-target"], format!("/a/{i}?b=c"));
                assert_eq!(head.headers()["x-host"], "example.com");
                assert_eq!(head.headers()["cookie"], "a=1; b=2");
                for (name, value) in &fields {
                    if name != "cookie" {
                        assert_eq!(head.headers()[name], value);
                    }
                }
                assert_eq!(back, body);
                assert_eq!(got, with_trailers.then_some(trailers));
            }
        });
        assert_eq!(echo.conn.streams(), 0);
        assert_eq!(echo.conn.requests(), 20);
        assert!(echo.resets.is_empty());
    }
}

#[test]
fn large_bodies_both_ways_at_once() {
    let echo = with_server(64 << 10, Bounds::default(), |client| async move {
        let all = (0..20usize).map(|i| {
            let mut client = client.clone();
            async move {
                let body: Vec<u8> = (0..400_000usize).map(|b| (b * i / 7) as u8).collect();
                let request = Request::post("http://example.com/").body(()).unwrap();
                let (_, back, _) = ask(&mut client, request, Some(body.clone()), None).await;
                assert!(back == body, "{i}");
            }
        });
        let mut tasks = tokio::task::JoinSet::new();
        let local = tokio::task::LocalSet::new();
        for one in all {
            tasks.spawn_local_on(one, &local);
        }
        local
            .run_until(async {
                while let Some(done) = tasks.join_next().await {
                    done.unwrap();
                }
            })
            .await;
    });
    assert_eq!(echo.conn.streams(), 0);
}
