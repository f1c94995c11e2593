//! The check `"grpc"`: a call of `grpc.health.v1.Health/Check`, on a connection of its own.

use std::task::Poll;

use narthex_config::model::GrpcProbe;
use narthex_message::Head;
use narthex_mux::{self as mux, Driver, MuxStream, Owner, Session};
use narthex_net::stream::{Stream, Virtual};
use narthex_wire::h2::{Bounds, ErrorCode, Fatal, Role, encode};

use super::{Ended, lost, send};

/// Longest answer that is looked at, in bytes; a usual one has seven.
const ANSWER_MAX: usize = 4 << 10;
/// `HealthCheckResponse.ServingStatus`.
const SERVING: u64 = 1;

/// The call.
#[derive(Debug)]
pub(super) struct Question {
    host: String,
    /// A `HealthCheckRequest` with its prefix.
    message: Vec<u8>,
}

/// What came of the answer.
#[derive(Debug, Default)]
struct Answer {
    http: u16,
    /// `grpc-status`.
    code: Option<Vec<u8>>,
    message: Vec<u8>,
}

impl Question {
    pub(super) fn new(probe: &GrpcProbe, host: &str) -> Self {
        Self {
            host: probe.host.as_deref().unwrap_or(host).to_owned(),
            message: message(probe.service.as_bytes()),
        }
    }

    pub(super) async fn exchange(&self, socket: &Stream, greeting: &[u8]) -> Ended {
        if let Err(error) = send(socket, greeting, b"").await {
            return Ended::Died(lost(&error));
        }
        let session = Session::new(Role::Client, Bounds::default());
        let stream = session.reserve();
        if !stream.open(&self.head(), Some(self.message.len() as u64), false)
            || stream.try_send(&self.message).ok() != Some(self.message.len())
        {
            return Ended::Bad("the check cannot be sent".to_owned());
        }
        // The connection's task is this one: whatever wakes it has both looked at.
        let mut driver = std::pin::pin!(Driver::new(&session, socket, Asker).run(Vec::new()));
        let mut answer = Answer::default();
        std::future::poll_fn(|cx| {
            let over = driver.as_mut().poll(cx).is_ready();
            match answer.take(&stream) {
                Some(ended) => Poll::Ready(ended),
                None if over => Poll::Ready(Ended::Died(
                    "the connection ended before the answer".to_owned(),
                )),
                None => Poll::Pending,
            }
        })
        .await
    }

    fn head(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(128);
        let request = encode::Request {
            method: b"POST",
            scheme: b"http",
            authority: self.host.as_bytes(),
            path: b"/grpc.health.v1.Health/Check",
            protocol: None,
        };
        encode::request(&request, &mut block);
        for (name, value) in [
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", "narthex-health"),
        ] {
            encode::line(name, value.as_bytes(), &mut block);
        }
        block
    }
}

impl Answer {
    /// Takes what has come; says how it ended, if it did.
    fn take(&mut self, stream: &MuxStream) -> Option<Ended> {
        while let Some(head) = stream.take_head() {
            self.http = head.index.status;
            self.see(&head);
        }
        let mut piece = [0; 512];
        loop {
            match stream.try_recv(&mut piece) {
                Ok(0) => break,
                Ok(n) => {
                    self.message
                        .extend_from_slice(piece.get(..n).unwrap_or_default());
                    if self.message.len() > ANSWER_MAX {
                        return Some(Ended::Bad("the answer is too long".to_owned()));
                    }
                }
                Err(_) if stream.ended_by().is_some() => {
                    let code = stream.ended_by().map_or("", ErrorCode::word);
                    return Some(Ended::Bad(format!("the call was reset: {code}")));
                }
                Err(_) => return None,
            }
        }
        if let Some(trailers) = stream.take_trailers() {
            self.see(&trailers);
        }
        Some(self.verdict())
    }

    fn see(&mut self, head: &mux::Head) {
        let lines = Head::new(&head.bytes, &head.index);
        let code = lines.named(b"grpc-status").next().map(<[u8]>::to_vec);
        self.code = code.or(self.code.take());
    }

    fn verdict(&self) -> Ended {
        if self.http != 200 {
            return Ended::Bad(format!("status {}", self.http));
        }
        match self.code.as_deref() {
            Some(b"0") => {}
            Some(b"5") => return Ended::Bad("the server does not know this service".to_owned()),
            Some(b"12") => return Ended::Bad("the server has no health service".to_owned()),
            Some(code) => return Ended::Bad(format!("grpc-status {}", code.escape_ascii())),
            None => return Ended::Bad("the answer has no grpc-status".to_owned()),
        }
        match serving_status(&self.message) {
            Some(SERVING) => Ended::Good { clean: false },
            Some(0) => Ended::Bad("the service is UNKNOWN".to_owned()),
            Some(2) => Ended::Bad("the service is NOT_SERVING".to_owned()),
            Some(_) => Ended::Bad("the service is not SERVING".to_owned()),
            None => Ended::Bad("the answer is no HealthCheckResponse".to_owned()),
        }
    }
}

/// `HealthCheckRequest { service }` (field 1, a string; left out if empty) behind its prefix of five bytes.
fn message(service: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    if !service.is_empty() {
        field.push(0x0a);
        varint(service.len() as u64, &mut field);
        field.extend_from_slice(service);
    }
    let mut out = vec![0];
    out.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&field);
    out
}

fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

/// `HealthCheckResponse.status` (field 1, an enumeration; 0 if it is left out) of one uncompressed message.
fn serving_status(message: &[u8]) -> Option<u64> {
    let (prefix, mut rest) = message.split_at_checked(5)?;
    let (&0, length) = prefix.split_first()? else {
        return None;
    };
    let length: [u8; 4] = length.try_into().ok()?;
    if rest.len() != u32::from_be_bytes(length) as usize {
        return None;
    }
    let mut status = 0;
    while !rest.is_empty() {
        let key = take_varint(&mut rest)?;
        let skip = match key & 7 {
            0 => {
                let value = take_varint(&mut rest)?;
                if key >> 3 == 1 {
                    status = value;
                }
                0
            }
            1 => 8,
            2 => usize::try_from(take_varint(&mut rest)?).ok()?,
            5 => 4,
            _ => return None,
        };
        rest = rest.get(skip..)?;
    }
    Some(status)
}

/// One call, and no more.
struct Asker;

impl Owner for Asker {
    fn request(&mut self, stream: std::rc::Rc<MuxStream>, _: mux::Head) {
        stream.abort(ErrorCode::PROTOCOL_ERROR);
        stream.release();
    }

    fn must_go(&self, _: &Session, _: Option<u64>, _: u64) -> bool {
        false
    }

    fn next_look(&self, _: Option<u64>) -> Option<u64> {
        None
    }

    fn broken(&self, _: Fatal) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_names_its_service() {
        assert_eq!(message(b""), [0, 0, 0, 0, 0]);
        assert_eq!(message(b"ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = message(&[b'a'; 200]);
        assert_eq!(long.get(..8), Some(&[0, 0, 0, 0, 203, 0x0a, 200, 1][..]));
    }

    #[test]
    fn an_answer_is_read() {
        for (bytes, status) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Some(1)),
            (&[0, 0, 0, 0, 2, 8, 2], Some(2)),
            (&[0, 0, 0, 0, 0], Some(0)),
            // A field that nobody knows yet.
            (&[0, 0, 0, 0, 5, 0x12, 1, b'x', 8, 1], Some(1)),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0, 0, 0, 3, 8, 1], None),
            (&[0, 0, 0, 0, 1, 8], None),
            (&[0, 0, 0, 0, 2, 0x12, 200], None),
            (
                &[
                    0, 0, 0, 0, 11, 8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
                ],
                None,
            ),
            (&[0, 0], None),
            (&[], None),
        ] {
            assert_eq!(serving_status(bytes), status, "{bytes:?}");
        }
    }
}
