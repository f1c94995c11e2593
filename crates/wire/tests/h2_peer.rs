//! Against the `h2` crate, in memory, both roles: what it sends we understand, what we send it understands.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use bytes::Bytes;
use h2::server;
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

/// Our client: sends all requests at once, with bodies and trailers, and collects the answers.
struct Asker {
    conn: Connection,
    bodies: HashMap<StreamId, Vec<u8>>,
    sent: HashMap<StreamId, usize>,
    answers: HashMap<StreamId, Answer>,
    left: usize,
}

#[derive(Default)]
struct Answer {
    statuses: Vec<u16>,
    fields: HashMap<String, String>,
    body: Vec<u8>,
    trailers: HashMap<String, String>,
}

fn fields_of(bytes: &[u8], index: &Index) -> HashMap<String, String> {
    let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
    Head::new(bytes, index)
        .fields()
        .map(|(_, name, value)| (text(name), text(value)))
        .collect()
}

impl Asker {
    fn go_on(&mut self, stream: StreamId) {
        let (body, sent) = (&self.bodies[&stream], self.sent.get_mut(&stream).unwrap());
        *sent += self.conn.data(stream, &body[*sent..], false, 0);
        if *sent == body.len() {
            let mut block = Vec::new();
            encode::line("X-Sum", body.len().to_string().as_bytes(), &mut block);
            self.conn.head(stream, &block, true, 0);
            // Once.
            *sent += 1;
        }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        loop {
            let received = self.conn.receive(bytes, 0).unwrap();
            bytes = &bytes[received.taken..];
            match received.event {
                None if received.taken == 0 => return,
                None | Some(Event::Settings) => {}
                Some(Event::Head {
                    stream,
                    end,
                    oversize,
                }) => {
                    assert!(oversize.is_none() && !end);
                    let (mut bytes, mut index) = Default::default();
                    self.conn.take_head(&mut bytes, &mut index);
                    let answer = self.answers.entry(stream).or_default();
                    answer.statuses.push(index.status);
                    answer.fields = fields_of(&bytes, &index);
                }
                Some(Event::Data { stream, bytes, end }) => {
                    assert!(!end);
                    self.answers
                        .get_mut(&stream)
                        .unwrap()
                        .body
                        .extend_from_slice(bytes);
                    self.conn.consumed(stream, bytes.len());
                }
                Some(Event::Trailers { stream, .. }) => {
                    let (mut bytes, mut index) = Default::default();
                    self.conn.take_head(&mut bytes, &mut index);
                    self.answers.get_mut(&stream).unwrap().trailers = fields_of(&bytes, &index);
                    assert!(self.conn.is_over(stream));
                    self.conn.release(stream);
                    self.left -= 1;
                }
                Some(other) => panic!("{other:?}"),
            }
        }
    }
}

/// The `h2` crate's server: 103, then the request's method, path and authority, its body, its trailers.
async fn h2_echo(io: DuplexStream) {
    let mut connection = server::handshake(io).await.unwrap();
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            while let Some(request) = connection.accept().await {
                let (request, mut respond) = request.unwrap();
                tokio::task::spawn_local(async move {
                    let (parts, mut body) = request.into_parts();
                    let early = Response::builder().status(103).body(()).unwrap();
                    respond.send_informational(early).unwrap();
                    let response = Response::builder()
                        .header("x-method", parts.method.as_str())
                        .header("x-uri", parts.uri.to_string())
                        .header("x-long", &parts.headers["x-long"])
                        .body(())
                        .unwrap();
                    let mut send = respond.send_response(response, false).unwrap();
                    while let Some(data) = body.data().await {
                        let mut data = data.unwrap();
                        body.flow_control().release_capacity(data.len()).unwrap();
                        while !data.is_empty() {
                            send.reserve_capacity(data.len());
                            let n = std::future::poll_fn(|cx| send.poll_capacity(cx))
                                .await
                                .unwrap()
                                .unwrap();
                            send.send_data(data.split_to(n.min(data.len())), false)
                                .unwrap();
                        }
                    }
                    let trailers = body.trailers().await.unwrap().unwrap();
                    send.send_trailers(trailers).unwrap();
                });
            }
        })
        .await;
}

#[test]
fn the_h2_server_answers_our_requests() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut bounds = Bounds::default();
    (bounds.head.field, bounds.head.head) = (32 << 10, 64 << 10);
    for most in [1, 7, 64 << 10] {
        runtime.block_on(async {
            let (mut ours, theirs) = tokio::io::duplex(64 << 10);
            let mut asker = Asker {
                conn: Connection::new(Role::Client, bounds, 0),
                bodies: HashMap::new(),
                sent: HashMap::new(),
                answers: HashMap::new(),
                left: 0,
            };
            let size = |i: usize| if most == 1 { i * 10 } else { i * 9000 };
            let asking = async {
                for i in 0..30usize {
                    let mut block = Vec::new();
                    let path = format!("/{i}");
                    let request = encode::Request {
                        method: b"PUT",
                        scheme: b"http",
                        authority: b"example.com",
                        path: path.as_bytes(),
                        protocol: None,
                    };
                    encode::request(&request, &mut block);
                    // With a CONTINUATION, some.
                    encode::line("X-Long", "~".repeat(i % 3 * 9000).as_bytes(), &mut block);
                    let stream = asker.conn.open(&block, false, false, 0).unwrap();
                    asker.bodies.insert(stream, vec![i as u8; size(i)]);
                    asker.sent.insert(stream, 0);
                    asker.left += 1;
                    asker.go_on(stream);
                }
                let mut buffer = vec![0; most];
                while asker.left > 0 {
                    while let Some(stream) = asker.conn.next_writable() {
                        asker.go_on(stream);
                    }
                    let out = std::mem::take(&mut asker.conn.out);
                    if out.is_empty() {
                        let n = ours.read(&mut buffer).await.unwrap();
                        assert!(n > 0);
                        asker.take(&buffer[..n]);
                    } else {
                        // Both ways at once: neither side waits for the other to read.
                        let (mut read, mut write) = tokio::io::split(&mut ours);
                        let mut at = 0;
                        while at < out.len() {
                            tokio::select! {
                                n = write.write(&out[at..]) => at += n.unwrap(),
                                n = read.read(&mut buffer) => asker.take(&buffer[..n.unwrap()]),
                            }
                        }
                    }
                }
            };
            tokio::select! {
                () = asking => {},
                () = h2_echo(theirs) => panic!("the server has ended"),
            }
            for i in 0..30usize {
                let answer = &asker.answers[&(2 * i as u32 + 1)];
                assert_eq!(answer.statuses, [103, 200]);
                assert_eq!(answer.fields["x-method"], "PUT");
                assert_eq!(answer.fields["x-uri"], format!("http://example.com/{i}"));
                assert_eq!(answer.fields["x-long"].len(), i % 3 * 9000);
                assert!(answer.body == vec![i as u8; size(i)]);
                assert_eq!(answer.trailers["x-sum"], size(i).to_string());
            }
            assert_eq!(asker.conn.streams(), 0);
        });
    }
}
