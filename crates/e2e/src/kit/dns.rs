//! A name server that says what it is told to say, by UDP and TCP, written from RFC 1035 and RFC 2782.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Longest answer by UDP; a longer one is cut off, so that it is asked for by TCP.
const MAX_UDP: usize = 1232;

/// What it does with questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    /// Answers from its records.
    #[default]
    Well,
    /// `NXDOMAIN`, whatever the name.
    Missing,
    /// `SERVFAIL`.
    Failing,
    /// Takes questions and says nothing.
    Silent,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// `A`.
    A(Ipv4Addr),
    /// `SRV`.
    Srv {
        /// Lower is first.
        priority: u16,
        /// Share.
        weight: u16,
        /// Port.
        port: u16,
        /// Name.
        target: String,
    },
}

#[derive(Default)]
struct State {
    mood: Mood,
    ttl: u32,
    /// By name; what a name has at the n-th question for it, in turn.
    names: HashMap<String, Vec<Vec<Record>>>,
    questions: usize,
    turns: HashMap<(String, u16), usize>,
}

/// A running name server; its threads end with the test.
pub struct Dns {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Dns {
    /// On a free port of 127.0.0.1, without records, with a time to live of 1 s.
    pub fn start() -> Self {
        let (tcp, udp) = sockets();
        let address = udp.local_addr().expect("local address");
        let state = Arc::new(Mutex::new(State {
            ttl: 1,
            ..State::default()
        }));
        let for_udp = Arc::clone(&state);
        std::thread::spawn(move || serve_udp(&udp, &for_udp));
        let for_tcp = Arc::clone(&state);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = tcp.accept() {
                let state = Arc::clone(&for_tcp);
                std::thread::spawn(move || serve_tcp(stream, &state));
            }
        });
        Self { address, state }
    }

    /// Where it answers.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// What it does from now on.
    pub fn mood(&self, mood: Mood) {
        lock(&self.state).mood = mood;
    }

    /// Time to live of what it says from now on, in seconds.
    pub fn ttl(&self, seconds: u32) {
        lock(&self.state).ttl = seconds;
    }

    /// The records of a name from now on.
    pub fn set(&self, name: &str, records: Vec<Record>) {
        self.alternate(name, vec![records]);
    }

    /// The records of a name from now on: another of these at every question.
    pub fn alternate(&self, name: &str, turns: Vec<Vec<Record>>) {
        lock(&self.state).names.insert(name.to_owned(), turns);
    }

    /// Questions so far.
    pub fn questions(&self) -> usize {
        lock(&self.state).questions
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same number for both, which somebody else may have for one of them.
fn sockets() -> (TcpListener, UdpSocket) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("name server");
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().expect("local address")) {
            return (tcp, udp);
        }
    }
}

fn serve_udp(socket: &UdpSocket, state: &Mutex<State>) {
    let mut buffer = [0; 1500];
    while let Ok((n, from)) = socket.recv_from(&mut buffer) {
        let question = buffer.get(..n).unwrap_or_default();
        let Some(mut said) = answer(question, &mut lock(state), false) else {
            continue;
        };
        if said.len() > MAX_UDP {
            let Some(cut) = answer(question, &mut lock(state), true) else {
                continue;
            };
            said = cut;
        }
        let _ = socket.send_to(&said, from);
    }
}

fn serve_tcp(mut stream: TcpStream, state: &Mutex<State>) {
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut question).is_err() {
            return;
        }
        let Some(said) = answer(&question, &mut lock(state), false) else {
            continue;
        };
        let length = u16::try_from(said.len()).expect("length of an answer");
        let framed = [&length.to_be_bytes(), said.as_slice()].concat();
        if stream.write_all(&framed).is_err() {
            return;
        }
    }
}

/// Name, type, and the question's end.
fn read(question: &[u8]) -> Option<(String, u16, usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let n = usize::from(*question.get(at)?);
        at += 1;
        if n == 0 {
            break;
        }
        let label = question.get(at..at + n)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += n;
    }
    let kind = question.get(at..at + 2)?;
    Some((
        labels.join("."),
        u16::from_be_bytes([kind[0], kind[1]]),
        at + 4,
    ))
}

fn answer(question: &[u8], state: &mut State, cut_off: bool) -> Option<Vec<u8>> {
    let (name, kind, end) = read(question)?;
    let id = question.get(..2)?;
    let asked = question.get(12..end)?;
    if !cut_off {
        state.questions += 1;
    }
    let (code, records) = match state.mood {
        Mood::Silent => return None,
        Mood::Failing => (2, Vec::new()),
        Mood::Missing => (3, Vec::new()),
        Mood::Well => match state.names.get(&name) {
            None => (3, Vec::new()),
            Some(turns) => {
                let turn = state.turns.entry((name, kind)).or_default();
                let now = turns.get(*turn % turns.len()).cloned().unwrap_or_default();
                if !cut_off {
                    *turn += 1;
                }
                (0, now)
            }
        },
    };
    let records = records.iter().filter(|_| !cut_off);
    let data: Vec<Vec<u8>> = records.filter_map(|r| wire(r, kind)).collect();
    let flags = if cut_off { 0x87 } else { 0x85 };
    let mut said = id.to_vec();
    said.extend([flags, 0x80 | code, 0, 1]);
    said.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
    said.extend([0; 4]);
    said.extend(asked);
    for data in data {
        said.extend([0xc0, 12]);
        said.extend(kind.to_be_bytes());
        said.extend([0, 1]);
        said.extend(state.ttl.to_be_bytes());
        said.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        said.extend(data);
    }
    Some(said)
}

/// A record's data, if it is of this type.
fn wire(record: &Record, kind: u16) -> Option<Vec<u8>> {
    match record {
        Record::A(ip) => (kind == 1).then(|| ip.octets().to_vec()),
        Record::Srv {
            priority,
            weight,
            port,
            target,
        } => (kind == 33).then(|| {
            let mut data: Vec<u8> = [priority, weight, port]
                .iter()
                .flat_map(|n| n.to_be_bytes())
                .collect();
            for label in target.split('.') {
                data.push(u8::try_from(label.len()).expect("length of a label"));
                data.extend(label.bytes());
            }
            data.push(0);
            data
        }),
    }
}
