//! Peers of HTTP/2 that share nothing with the product: a client and an origin of the crate `h2`, and a server that sends exactly
//! the frames that it is told.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response, StatusCode};
use tokio::net::{TcpListener as AsyncListener, TcpStream as AsyncStream};

use super::{Fnv, PATIENCE};

/// Data sent at once.
const PIECE: usize = 16 << 10;

/// A body of so many bytes, always the same.
pub fn body(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 % 251) as u8).collect()
}

/// What an origin of HTTP/2 has counted.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections so far.
    pub connections: AtomicUsize,
    /// Requests so far, those it refused as a whole included.
    pub requests: AtomicUsize,
    /// Requests at once on one connection, at most.
    pub streams: AtomicUsize,
    /// Requests at once on all connections, at most.
    pub crowd: AtomicUsize,
    under_way: AtomicUsize,
    refused: Mutex<HashSet<String>>,
}

/// An origin of HTTP/2 over TCP.
///
/// `/echo` sends the body back; `/count` its length and hash; `/bytes/N` sends so many; `/crowd/N` waits for so many requests at
/// once; `/204`, `/304`; `/reset/N` resets behind so many bytes; `/refuse-once/NAME` refuses the first. With `x-trailers` the
/// answer has trailers, with `x-length` a length.
pub struct H2Origin {
    addr: SocketAddr,
    /// What it has counted.
    pub counts: Arc<Counts>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl H2Origin {
    /// Which allows so many streams at once per connection.
    pub fn start(streams: u32) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("nonblocking");
        let addr = listener.local_addr().expect("address");
        let counts = Arc::<Counts>::default();
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let shared = Arc::clone(&counts);
        let thread = std::thread::spawn(move || {
            runtime().block_on(async move {
                let listener = AsyncListener::from_std(listener).expect("listener");
                loop {
                    tokio::select! {
                        _ = &mut stopped => return,
                        Ok((socket, _)) = listener.accept() => {
                            tokio::spawn(connection(socket, streams, Arc::clone(&shared)));
                        }
                    }
                }
            });
        });
        Self {
            addr,
            counts,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Where it listens, as a configuration writes it.
    pub fn place(&self) -> String {
        self.addr.to_string()
    }
}

impl Drop for H2Origin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime")
}

async fn connection(socket: AsyncStream, streams: u32, counts: Arc<Counts>) {
    counts.connections.fetch_add(1, Ordering::SeqCst);
    let handshake = h2::server::Builder::new()
        .max_concurrent_streams(streams)
        .initial_window_size(128 << 10)
        .initial_connection_window_size(1 << 20)
        .handshake::<_, Bytes>(socket);
    let Ok(mut connection) = handshake.await else {
        return;
    };
    let here = Arc::new(AtomicUsize::new(0));
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (counts, here) = (Arc::clone(&counts), Arc::clone(&here));
        counts.requests.fetch_add(1, Ordering::SeqCst);
        counts
            .streams
            .fetch_max(here.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let all = counts.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        counts.crowd.fetch_max(all, Ordering::SeqCst);
        tokio::spawn(async move {
            let _ = serve(request, respond, &counts).await;
            here.fetch_sub(1, Ordering::SeqCst);
            counts.under_way.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// The number at a path's end.
fn number(path: &str) -> usize {
    let last = path.rsplit('/').next();
    last.and_then(|n| n.parse().ok()).unwrap_or_default()
}

async fn serve(
    request: Request<RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    counts: &Counts,
) -> Result<(), h2::Error> {
    let (head, mut received) = request.into_parts();
    let path = head.uri.path().to_owned();
    if path.starts_with("/refuse-once/") {
        let first = counts.refused.lock().expect("lock").insert(path.clone());
        if first {
            respond.send_reset(Reason::REFUSED_STREAM);
            return Ok(());
        }
    }
    let content = take(&mut received).await?;
    let trailers = received.trailers().await?;
    let mut response = Response::builder()
        .header("x-method", head.method.as_str())
        .header("x-len", content.len())
        .header("x-hash", Fnv::of(&content).0)
        .header("x-had-trailers", trailers.is_some().to_string());
    if let Some(te) = head.headers.get("te") {
        response = response.header("x-te", te);
    }
    let answer = match path.as_str() {
        "/echo" => content.to_vec(),
        p if p.starts_with("/bytes/") || p.starts_with("/reset/") => body(number(p)),
        p if p.starts_with("/crowd/") => {
            let wanted = number(p);
            let end = tokio::time::Instant::now() + PATIENCE;
            while counts.crowd.load(Ordering::SeqCst) < wanted && tokio::time::Instant::now() < end
            {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Vec::new()
        }
        _ => Vec::new(),
    };
    if path == "/204" || path == "/304" {
        let code = if path == "/204" {
            StatusCode::NO_CONTENT
        } else {
            StatusCode::NOT_MODIFIED
        };
        let response = response.status(code).body(()).expect("response");
        respond.send_response(response, true)?;
        return Ok(());
    }
    let reset = path.starts_with("/reset/");
    if head.headers.contains_key("x-length") || head.method == http::Method::HEAD {
        let len = answer.len() + usize::from(reset) * 1_000;
        response = response.header("content-length", len);
    }
    let response = response.body(()).expect("response");
    if head.method == http::Method::HEAD {
        respond.send_response(response, true)?;
        return Ok(());
    }
    let trailers = head.headers.contains_key("x-trailers").then(|| {
        let mut map = HeaderMap::new();
        map.insert(
            "x-end",
            Fnv::of(&answer).0.to_string().parse().expect("value"),
        );
        map
    });
    let mut out = respond.send_response(response, false)?;
    send(&mut out, &answer, !reset && trailers.is_none()).await?;
    if reset {
        // What was sent before arrives before the reset.
        out.reserve_capacity(PIECE);
        let _ = std::future::poll_fn(|cx| out.poll_capacity(cx)).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        out.send_reset(Reason::INTERNAL_ERROR);
    } else if let Some(trailers) = trailers {
        out.send_trailers(trailers)?;
    }
    Ok(())
}

async fn take(stream: &mut RecvStream) -> Result<Bytes, h2::Error> {
    let mut all = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece?;
        all.extend_from_slice(&piece);
        stream.flow_control().release_capacity(piece.len())?;
    }
    Ok(all.into())
}

async fn send(out: &mut SendStream<Bytes>, bytes: &[u8], end: bool) -> Result<(), h2::Error> {
    let mut rest = Bytes::copy_from_slice(bytes);
    while !rest.is_empty() {
        out.reserve_capacity(rest.len().min(PIECE));
        let Some(room) = std::future::poll_fn(|cx| out.poll_capacity(cx)).await else {
            return Ok(());
        };
        let piece = rest.split_to(room?.min(rest.len()));
        let last = end && rest.is_empty();
        out.send_data(piece, last)?;
        if last {
            return Ok(());
        }
    }
    if end {
        out.send_data(Bytes::new(), true)?;
    }
    Ok(())
}

/// What a client got.
#[derive(Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Fields.
    pub fields: HeaderMap,
    /// The body, as far as it came.
    pub body: Vec<u8>,
    /// Trailers, if it ended with some.
    pub trailers: Option<HeaderMap>,
    /// It did not end well.
    pub broken: Option<String>,
}

impl Reply {
    /// A field's value.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(|v| v.to_str().ok())
    }
}

/// A request of a client.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Method.
    pub method: &'static str,
    /// Path.
    pub path: String,
    /// Fields.
    pub fields: Vec<(&'static str, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Ask {
    /// Without a body.
    pub fn get(path: &str) -> Self {
        Self::new("GET", path, &[])
    }

    /// With one.
    pub fn new(method: &'static str, path: &str, body: &[u8]) -> Self {
        Self {
            method,
            path: path.to_owned(),
            fields: Vec::new(),
            body: body.to_vec(),
        }
    }

    /// And this field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.fields.push((name, value.to_owned()));
        self
    }
}

/// Sends these requests at once, on one connection, and gives the answers in the same order.
pub fn ask_all(addr: SocketAddr, asks: &[Ask]) -> Vec<Result<Reply, h2::Error>> {
    runtime().block_on(async {
        let socket = AsyncStream::connect(addr).await.expect("connect");
        let (client, connection) = h2::client::Builder::new()
            .initial_window_size(256 << 10)
            .initial_connection_window_size(1 << 20)
            .handshake::<_, Bytes>(socket)
            .await
            .expect("handshake");
        tokio::spawn(async move {
            let _ = connection.await;
        });
        let tasks: Vec<_> = asks
            .iter()
            .cloned()
            .map(|ask| tokio::spawn(tokio::time::timeout(PATIENCE * 3, one(client.clone(), ask))))
            .collect();
        let mut replies = Vec::new();
        for task in tasks {
            replies.push(task.await.expect("task").expect("an answer in time"));
        }
        replies
    })
}

/// One request on a connection of its own.
#[track_caller]
pub fn ask(addr: SocketAddr, ask: Ask) -> Reply {
    let reply = ask_all(addr, &[ask]).pop().expect("one");
    reply.unwrap_or_else(|e| panic!("no answer: {e}"))
}

async fn one(client: h2::client::SendRequest<Bytes>, ask: Ask) -> Result<Reply, h2::Error> {
    let mut client = client.ready().await?;
    let mut request = Request::builder()
        .method(ask.method)
        .uri(format!("http://a{}", ask.path));
    for (name, value) in &ask.fields {
        request = request.header(*name, value);
    }
    let request = request.body(()).expect("request");
    let (response, mut out) = client.send_request(request, ask.body.is_empty())?;
    let content = ask.body;
    if !content.is_empty() {
        tokio::spawn(async move {
            let _ = send(&mut out, &content, true).await;
        });
    }
    let (head, mut received) = response.await?.into_parts();
    let mut reply = Reply {
        status: head.status.as_u16(),
        fields: head.headers,
        body: Vec::new(),
        trailers: None,
        broken: None,
    };
    while let Some(piece) = received.data().await {
        match piece {
            Ok(piece) => {
                reply.body.extend_from_slice(&piece);
                received.flow_control().release_capacity(piece.len())?;
            }
            Err(error) => {
                reply.broken = Some(error.to_string());
                return Ok(reply);
            }
        }
    }
    match received.trailers().await {
        Ok(trailers) => reply.trailers = trailers,
        Err(error) => reply.broken = Some(error.to_string()),
    }
    Ok(reply)
}

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("length").to_be_bytes();
    let mut out = len.get(1..).expect("three bytes").to_vec();
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// A frame that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Type.
    pub kind: u8,
    /// Flags.
    pub flags: u8,
    /// Stream.
    pub stream: u32,
    /// Payload.
    pub payload: Vec<u8>,
}

/// One connection of a scripted server; its preface has been read.
pub struct RawConn {
    socket: TcpStream,
    /// The how manieth it is, from 0.
    pub number: usize,
}

impl RawConn {
    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    /// The next frame; `None` at the end.
    pub fn frame(&mut self) -> Option<Frame> {
        let mut head = [0_u8; 9];
        self.socket.read_exact(&mut head).ok()?;
        let [a, b, c, kind, flags, s @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.socket.read_exact(&mut payload).ok()?;
        Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes(s),
            payload,
        })
    }

    /// The stream of the next request: of the next HEADERS.
    pub fn request(&mut self) -> Option<u32> {
        self.until(1).map(|f| f.stream)
    }

    /// The next frame of this type.
    pub fn until(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.frame()?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// Answers 200 to it, and nothing else.
    pub fn ok(&mut self, stream: u32) {
        self.send(&frame(1, 5, stream, &[0x88]));
    }

    /// Answers 200 to everything, to the end.
    pub fn serve(&mut self) {
        while let Some(stream) = self.request() {
            self.ok(stream);
        }
    }
}

/// A server that does what a script says with each connection. It has sent no SETTINGS.
pub struct RawServer {
    addr: SocketAddr,
    over: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
}

impl RawServer {
    /// Starts.
    pub fn start(script: impl Fn(&mut RawConn) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let addr = listener.local_addr().expect("address");
        let over = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(AtomicUsize::new(0));
        let (ended, count) = (Arc::clone(&over), Arc::clone(&connections));
        let script = Arc::new(script);
        std::thread::spawn(move || {
            while let Ok((mut socket, _)) = listener.accept() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let number = count.fetch_add(1, Ordering::SeqCst);
                let script = Arc::clone(&script);
                std::thread::spawn(move || {
                    let _ = socket.set_read_timeout(Some(PATIENCE * 2));
                    let mut preface = [0; 24];
                    if socket.read_exact(&mut preface).is_ok() {
                        script(&mut RawConn { socket, number });
                    }
                });
            }
        });
        Self {
            addr,
            over,
            connections,
        }
    }

    /// Where it listens, as a configuration writes it.
    pub fn place(&self) -> String {
        self.addr.to_string()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
    }
}
