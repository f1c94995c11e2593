//! An origin to be killed: `narthex-e2e-origin ADDRESS NAME RECORD`.
//!
//! Writes `TIME METHOD ID` of each request to RECORD before it answers, takes orders on standard input, one a line, and
//! says `ok` when an order holds. Ends when standard input does, so that it does not outlive its test. The other end is
//! `kit/chaos.rs`.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use narthex_e2e::kit::{Rng, pause};

type Any = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Any> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, name, record] = &args[..] else {
        return Err("usage: narthex-e2e-origin ADDRESS NAME RECORD".into());
    };
    let address: SocketAddr = address.parse()?;
    let listener = TcpListener::bind(address)?;
    let origin = Arc::new(Origin {
        name: name.clone(),
        record: OpenOptions::new().create(true).append(true).open(record)?,
        manner: Mutex::new(Manner::default()),
        changed: Condvar::new(),
    });
    let accepting = (listener.try_clone()?, Arc::clone(&origin));
    std::thread::spawn(move || accept(&accepting.0, &accepting.1));
    println!("ok");
    let mut plugs = Vec::new();
    for order in std::io::stdin().lock().lines() {
        obey(&order?, &origin, &listener, address, &mut plugs)?;
        println!("ok");
    }
    Ok(())
}

struct Origin {
    name: String,
    record: File,
    manner: Mutex<Manner>,
    changed: Condvar,
}

/// How to behave.
#[derive(Clone, Copy)]
struct Manner {
    delay: (u64, u64),
    close: Option<(u64, u64)>,
    status: u16,
    health: u16,
    capacity: usize,
    busy: usize,
    hole: bool,
    /// The acceptor has seen the hole and takes nobody out of the queue any more.
    parked: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            delay: (0, 0),
            close: None,
            status: 200,
            health: 200,
            capacity: 0,
            busy: 0,
            hole: false,
            parked: false,
        }
    }
}

impl Origin {
    fn manner(&self) -> MutexGuard<'_, Manner> {
        self.manner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while this holds of the manner.
    fn wait_while(&self, wrong: impl Fn(&Manner) -> bool) -> MutexGuard<'_, Manner> {
        self.changed
            .wait_while(self.manner(), |m| wrong(m))
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn obey(
    order: &str,
    origin: &Origin,
    listener: &TcpListener,
    address: SocketAddr,
    plugs: &mut Vec<TcpStream>,
) -> Result<(), Any> {
    let mut words = order.split(' ');
    let word = words.next().unwrap_or_default();
    let numbers = words.map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    let mut m = origin.manner();
    match (word, &numbers[..]) {
        ("delay", [from, to]) => m.delay = (*from, *to),
        ("close", [from, to]) => m.close = Some((*from, *to)),
        ("keep", []) => m.close = None,
        ("status", [status]) => m.status = u16::try_from(*status)?,
        ("health", [status]) => m.health = u16::try_from(*status)?,
        ("capacity", [n]) => m.capacity = usize::try_from(*n)?,
        ("hole", [1]) => {
            m.hole = true;
            drop(m);
            plug(origin, listener, address, plugs)?;
        }
        ("hole", [_]) => {
            m.hole = false;
            rustix::net::listen(listener, 1024)?;
            plugs.clear();
        }
        _ => return Err(format!("unknown order: {order}").into()),
    }
    origin.changed.notify_all();
    Ok(())
}

/// Fills the queue of connections, so that the next connect gets no answer.
fn plug(
    origin: &Origin,
    listener: &TcpListener,
    address: SocketAddr,
    plugs: &mut Vec<TcpStream>,
) -> Result<(), Any> {
    // One for the acceptor, which waits for it and then takes no more.
    plugs.push(TcpStream::connect(address)?);
    drop(origin.wait_while(|m| !m.parked));
    // Linux takes a new length for the queue of a socket that listens already. It holds one more than it is told.
    rustix::net::listen(listener, 0)?;
    while plugs.len() < 16 {
        match TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            Ok(plug) => plugs.push(plug),
            Err(_) => break,
        }
    }
    Ok(())
}

fn accept(listener: &TcpListener, origin: &Arc<Origin>) {
    let mut seed = 0;
    loop {
        let Ok((stream, _)) = listener.accept() else {
            continue;
        };
        {
            let mut m = origin.manner();
            m.parked = m.hole;
            drop(m);
            origin.changed.notify_all();
            origin.wait_while(|m| m.hole).parked = false;
        }
        seed += 1;
        let origin = Arc::clone(origin);
        std::thread::spawn(move || {
            // However it ends, the peer sees it.
            let _ = serve(stream, &origin, Rng(seed));
        });
    }
}

/// Requests of one connection.
fn serve(mut stream: TcpStream, origin: &Origin, mut rng: Rng) -> Result<(), Any> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while let Some(request) = read(&mut stream, &mut buffer)? {
        drop(origin.wait_while(|m| m.hole));
        let is_check = request.target == "/healthz";
        if !is_check {
            let at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
            let line = format!("{at} {} {}\n", request.method, request.id);
            (&origin.record).write_all(line.as_bytes())?;
        }
        let m = {
            let mut m = origin.wait_while(|m| m.capacity > 0 && m.busy >= m.capacity);
            m.busy += 1;
            *m
        };
        wait(m.delay, &mut rng);
        {
            let mut m = origin.wait_while(|m| m.hole);
            m.busy -= 1;
        }
        origin.changed.notify_all();
        let status = if is_check { m.health } else { m.status };
        let body = if request.method == "HEAD" {
            ""
        } else {
            &origin.name
        };
        write!(
            stream,
            "HTTP/1.1 {status} Status\r\nX-Origin: {}\r\nX-Id: {}\r\nContent-Length: {}\r\n\r\n{body}",
            origin.name,
            request.id,
            origin.name.len()
        )?;
        if let Some(close) = m.close
            && !(rng.below(2) == 0 && comes_within(&stream, close, &mut rng)?)
        {
            wait(close, &mut rng);
            return Ok(());
        }
    }
    Ok(())
}

fn between((from, to): (u64, u64), rng: &mut Rng) -> Duration {
    let span = usize::try_from(to.saturating_sub(from)).unwrap_or(0);
    Duration::from_micros(from + rng.below(span + 1) as u64)
}

fn wait(range: (u64, u64), rng: &mut Rng) {
    let time = between(range, rng);
    if !time.is_zero() {
        pause(time);
    }
}

/// Does a request come before the connection is to be closed?
fn comes_within(stream: &TcpStream, range: (u64, u64), rng: &mut Rng) -> Result<bool, Any> {
    let end = Instant::now() + between(range, rng);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        stream.set_read_timeout(Some(left))?;
        let peeked = stream.peek(&mut [0]);
        stream.set_read_timeout(None)?;
        match peeked {
            Ok(n) => return Ok(n > 0),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

struct Request {
    method: String,
    target: String,
    id: String,
}

/// The next request, its body read; nothing at the end of the connection. The proxy is trusted to write HTTP: what it
/// writes is judged elsewhere.
fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Option<Request>, Any> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if !fill(stream, buffer)? {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let mut request = Request {
        method: words.next().unwrap_or_default().into(),
        target: words.next().unwrap_or_default().into(),
        id: "-".into(),
    };
    let mut length = 0;
    for (name, value) in lines.filter_map(|l| l.split_once(':')) {
        if name.eq_ignore_ascii_case("x-id") {
            value.trim().clone_into(&mut request.id);
        } else if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("this origin does not read chunks".into());
        }
    }
    while buffer.len() < end + length {
        if !fill(stream, buffer)? {
            return Ok(None);
        }
    }
    buffer.drain(..end + length);
    Ok(Some(request))
}

fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<bool, Any> {
    let mut space = [0; 16 * 1024];
    let n = stream.read(&mut space)?;
    buffer.extend_from_slice(&space[..n]);
    Ok(n > 0)
}
