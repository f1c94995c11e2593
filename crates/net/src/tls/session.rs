//! rustls's side of a connection, and what is kept of its bytes: no sockets here, and nobody waits.
//!
//! Ciphertext that waits belongs to bytes that the caller has not been told are gone: he offers them again, as after any short
//! write, and they are not encrypted a second time.

use std::io;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

/// Plaintext of a full record.
pub(super) const RECORD: usize = 16 * 1024;
const RECORD_HEADER: usize = 5;

/// rustls's side of a connection.
pub(super) enum Conn {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// How the peer's direction has ended.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// With `close_notify`: everything has been said.
    Closed,
    /// Without: what was said may not be all.
    Truncated,
    /// The peer broke the protocol.
    Failed(rustls::Error),
}

impl End {
    pub(super) fn report(&self) -> io::Result<usize> {
        match self {
            Self::Closed => Ok(0),
            Self::Truncated => Err(io::ErrorKind::UnexpectedEof.into()),
            Self::Failed(e) => Err(io::Error::new(io::ErrorKind::InvalidData, e.clone())),
        }
    }
}

/// Ciphertext up to `end` is whole records; the last of them carries `plain` bytes of the caller.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    end: usize,
    plain: usize,
}

/// One connection's state and leftovers. Each buffer is freed when it is empty.
pub(super) struct Session {
    pub(super) conn: Conn,
    /// Received, not a whole record (or handshake message) yet.
    pub(super) cipher: Vec<u8>,
    /// Decrypted, not taken yet, from `plain_at` on.
    pub(super) plain: Vec<u8>,
    pub(super) plain_at: usize,
    /// Encrypted, not sent yet, from `out_at` on.
    pub(super) out: Vec<u8>,
    pub(super) out_at: usize,
    pub(super) marks: Vec<Mark>,
    /// Bytes of the caller whose records have been sent and that he has not been told of.
    pub(super) credit: usize,
    pub(super) end: Option<End>,
    /// `close_notify` has been made: nothing more is written.
    pub(super) closing: bool,
}

/// Where plaintext goes: to the caller as far as it fits, then into the connection.
struct Sink<'a> {
    buf: &'a mut [u8],
    n: usize,
    rest: &'a mut Vec<u8>,
}

impl Sink<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let room = self.buf.get_mut(self.n..).unwrap_or_default();
        let fits = if self.rest.is_empty() {
            bytes.len().min(room.len())
        } else {
            0
        };
        let (now, later) = bytes.split_at(fits);
        if let Some(room) = room.get_mut(..fits) {
            room.copy_from_slice(now);
            self.n += fits;
        }
        self.rest.extend_from_slice(later);
    }
}

/// What is wanted once the protocol itself has nothing left to do.
pub(super) enum Job<'a> {
    Nothing,
    /// Encrypt these bytes.
    Encrypt(&'a [u8], &'a mut [u8]),
    CloseNotify(&'a mut [u8]),
}

enum Step {
    /// There may be more to do.
    Again,
    /// The peer has said `close_notify`.
    PeerClosed,
    /// Nothing more without more bytes; so much ciphertext was written for the job.
    Done(Option<usize>),
    /// The record layer will encrypt no more.
    Exhausted,
    Failed(rustls::Error),
}

fn step<D>(
    status: UnbufferedStatus<'_, '_, D>,
    sink: &mut Sink<'_>,
    out: &mut Vec<u8>,
    job: &mut Job<'_>,
) -> (usize, Step) {
    let mut discard = status.discard;
    let state = match status.state {
        Ok(state) => state,
        Err(e) => return (discard, Step::Failed(e)),
    };
    let next = match state {
        ConnectionState::ReadTraffic(mut traffic) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => {
                    discard += record.discard;
                    sink.put(record.payload);
                }
                Some(Err(e)) => break Step::Failed(e),
                None => break Step::Again,
            }
        },
        ConnectionState::EncodeTlsData(mut data) => encode(&mut data, out),
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Step::Again
        }
        ConnectionState::PeerClosed => Step::PeerClosed,
        ConnectionState::WriteTraffic(mut traffic) => {
            let done = match std::mem::replace(job, Job::Nothing) {
                Job::Nothing => return (discard, Step::Done(None)),
                Job::Encrypt(plain, room) => traffic.encrypt(plain, room),
                Job::CloseNotify(room) => traffic.queue_close_notify(room),
            };
            match done {
                Ok(n) => Step::Done(Some(n)),
                Err(EncryptError::EncryptExhausted) => Step::Exhausted,
                // The scratch has room for a batch and more.
                Err(e @ EncryptError::InsufficientSize(_)) => {
                    Step::Failed(rustls::Error::General(e.to_string()))
                }
            }
        }
        ConnectionState::ReadEarlyData(_) => {
            Step::Failed(rustls::Error::General("early data is not offered".into()))
        }
        _ => Step::Done(None),
    };
    (discard, next)
}

fn encode<D>(data: &mut rustls::unbuffered::EncodeTlsData<'_, D>, out: &mut Vec<u8>) -> Step {
    let start = out.len();
    let mut size = 0;
    loop {
        out.resize(start + size, 0);
        match data.encode(out.get_mut(start..).unwrap_or_default()) {
            Ok(n) => {
                out.truncate(start + n);
                return Step::Again;
            }
            Err(EncodeError::InsufficientSize(e)) if e.required_size > size => {
                size = e.required_size;
            }
            Err(e) => {
                out.truncate(start);
                return Step::Failed(rustls::Error::General(e.to_string()));
            }
        }
    }
}

impl Session {
    /// `received` is what has come already.
    pub(super) fn new(conn: Conn, received: &[u8]) -> Self {
        Self {
            conn,
            cipher: received.to_vec(),
            plain: Vec::new(),
            plain_at: 0,
            out: Vec::new(),
            out_at: 0,
            marks: Vec::new(),
            credit: 0,
            end: None,
            closing: false,
        }
    }

    pub(super) fn is_handshaking(&self) -> bool {
        match &self.conn {
            Conn::Server(conn) => conn.is_handshaking(),
            Conn::Client(conn) => conn.is_handshaking(),
        }
    }

    pub(super) fn is_pending(&self) -> bool {
        self.out_at < self.out.len()
    }

    pub(super) fn held(&self) -> &[u8] {
        self.plain.get(self.plain_at..).unwrap_or_default()
    }

    pub(super) fn take_held(&mut self, buf: &mut [u8]) -> usize {
        let held = self.held();
        let n = held.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), held.get(..n)) {
            to.copy_from_slice(from);
        }
        self.plain_at += n;
        if self.plain_at >= self.plain.len() {
            self.plain = Vec::new();
            self.plain_at = 0;
        }
        n
    }

    fn conn_step(
        &mut self,
        window: &mut [u8],
        buf: &mut [u8],
        n: &mut usize,
        job: &mut Job<'_>,
    ) -> (usize, Step) {
        let mut sink = Sink {
            buf,
            n: *n,
            rest: &mut self.plain,
        };
        let stepped = match &mut self.conn {
            Conn::Server(conn) => step(
                conn.process_tls_records(window),
                &mut sink,
                &mut self.out,
                job,
            ),
            Conn::Client(conn) => step(
                conn.process_tls_records(window),
                &mut sink,
                &mut self.out,
                job,
            ),
        };
        *n = sink.n;
        stepped
    }

    /// Lets rustls do all that can be done with these bytes. Gives how many of them it is done with, how many bytes were put into
    /// `buf`, and what came of the job.
    pub(super) fn process(
        &mut self,
        bytes: &mut [u8],
        buf: &mut [u8],
        job: &mut Job<'_>,
    ) -> (usize, usize, Option<usize>) {
        let (mut at, mut n) = (0, 0);
        while !self.is_failed() {
            let window = bytes.get_mut(at..).unwrap_or_default();
            let (discard, step) = self.conn_step(window, buf, &mut n, job);
            match step {
                Step::Again => {}
                Step::PeerClosed => {
                    self.end.get_or_insert(End::Closed);
                }
                Step::Done(made) => return (at + discard, n, made),
                Step::Exhausted => {
                    // rustls has said close_notify.
                    self.closing = true;
                    return (at + discard, n, None);
                }
                Step::Failed(e) => {
                    // Behind what rustls has to say about it nothing is processed any more: it must not be asked to.
                    while self.wants_write() {
                        let window = bytes.get_mut(at..).unwrap_or_default();
                        self.conn_step(window, buf, &mut n, &mut Job::Nothing);
                    }
                    self.end = Some(End::Failed(e));
                }
            }
            at += discard;
        }
        (bytes.len(), n, None)
    }

    pub(super) fn is_failed(&self) -> bool {
        matches!(self.end, Some(End::Failed(_)))
    }

    fn wants_write(&self) -> bool {
        match &self.conn {
            Conn::Server(conn) => conn.wants_write(),
            Conn::Client(conn) => conn.wants_write(),
        }
    }

    /// As [`Session::process`], with the bytes that are kept.
    pub(super) fn process_kept(&mut self, job: &mut Job<'_>) -> Option<usize> {
        let mut kept = std::mem::take(&mut self.cipher);
        let (used, _, made) = self.process(&mut kept, &mut [], job);
        if used >= kept.len() {
            return made;
        }
        kept.drain(..used);
        self.cipher = kept;
        made
    }

    /// So many bytes of `out` have gone.
    pub(super) fn sent(&mut self, n: usize) {
        self.out_at += n;
        let at = self.out_at;
        let whole = self.marks.iter().take_while(|m| m.end <= at).count();
        self.credit += self.marks.drain(..whole).map(|m| m.plain).sum::<usize>();
        if self.out_at >= self.out.len() {
            self.out = Vec::new();
            self.out_at = 0;
            self.marks = Vec::new();
        }
    }

    /// Keeps what the kernel did not take. `pieces` are the plaintexts of `cipher`, each with the length of its records.
    pub(super) fn keep(&mut self, cipher: &[u8], pieces: &[(usize, usize)]) {
        let mut start = self.out.len();
        let mut rest = cipher;
        for (plain, length) in pieces {
            let (piece, after) = rest.split_at(rest.len().min(*length));
            rest = after;
            let ends = record_ends(piece);
            let records = plain.div_ceil(RECORD);
            // What the protocol itself had to say comes first and carries nothing.
            let own = ends.len().saturating_sub(records);
            let mut left = *plain;
            for (i, end) in ends.into_iter().enumerate() {
                let carried = if i < own { 0 } else { left.min(RECORD) };
                left -= carried;
                self.marks.push(Mark {
                    end: start + end,
                    plain: carried,
                });
            }
            start += piece.len();
        }
        self.out.extend_from_slice(cipher);
    }
}

/// Where the records of `bytes` end.
fn record_ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = 0;
    while let Some([_, _, _, a, b]) = bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk::<RECORD_HEADER>())
    {
        at += RECORD_HEADER + usize::from(u16::from_be_bytes([*a, *b]));
        ends.push(at.min(bytes.len()));
    }
    ends
}
