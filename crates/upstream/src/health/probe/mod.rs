//! One check: a connection, the question, the answer. What is asked is in [`http`], [`tcp`] and [`grpc`].
//!
//! Small strict clients: a server that answers them wrongly is not one to send people to. A check does not count against the
//! server's sockets, so that a server at its limit is not called dead.

mod body;
mod grpc;
mod head;
mod http;
mod tcp;

use std::cell::Cell;
use std::io;

use narthex_config::model::Probe;
use narthex_net::dial::dial;
use narthex_net::scratch;
use narthex_net::stream::Stream;

use super::subjects::Key;
use super::tally::Failure;

/// Bytes received at once.
const RECEIVE_MAX: usize = 16 << 10;

/// What is asked of a server, ready to be sent.
#[derive(Debug)]
pub(super) struct Question {
    what: What,
    /// Goes first on a connection: a PROXY header, or nothing.
    greeting: &'static [u8],
}

#[derive(Debug)]
enum What {
    Http(http::Question),
    Tcp(tcp::Question),
    Grpc(grpc::Question),
}

/// How an exchange on one connection ended.
#[derive(Debug)]
enum Ended {
    /// As it should. `clean`: on a message's end, and the connection may carry another.
    Good { clean: bool },
    /// With a wrong answer.
    Bad(String),
    /// The connection ended before a byte of an answer came.
    Died(String),
}

/// A check's outcome.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) verdict: Result<(), Failure>,
    /// The connection, if another question may be asked on it.
    pub(super) keep: Option<Stream>,
    /// It was made for this question.
    pub(super) fresh: bool,
}

impl Question {
    /// `host` is what `Host` says where the configuration does not say it.
    pub(super) fn new(
        probe: &Probe,
        host: &str,
        proxy_protocol: Option<u8>,
        reuse: bool,
    ) -> Result<Self, String> {
        Ok(Self {
            what: match probe {
                Probe::Http(probe) => What::Http(http::Question::new(probe, host, reuse)?),
                Probe::Tcp(probe) => What::Tcp(tcp::Question::new(probe)),
                Probe::Grpc(probe) => What::Grpc(grpc::Question::new(probe, host)),
            },
            greeting: match proxy_protocol {
                None => b"",
                Some(1) => b"PROXY UNKNOWN\r\n",
                // Version 2, command LOCAL: the connection is the proxy's own.
                Some(_) => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
            },
        })
    }

    async fn exchange(&self, stream: &Stream, fresh: bool) -> Ended {
        let greeting = if fresh { self.greeting } else { b"" };
        match &self.what {
            What::Http(question) => question.exchange(stream, greeting).await,
            What::Tcp(question) => question.exchange(stream, greeting).await,
            What::Grpc(question) => question.exchange(stream, greeting).await,
        }
    }
}

/// Asks, on `kept` if it is still good for it. `connected` says at any time whether there is a connection. The caller bounds
/// the time.
///
/// A kept connection that ends before it has answered says nothing about the server: it is asked again on a new one.
pub(super) async fn ask(
    question: &Question,
    key: &Key,
    kept: Option<Stream>,
    connected: &Cell<bool>,
) -> Asked {
    if let Some(stream) = kept.filter(is_fit) {
        connected.set(true);
        match question.exchange(&stream, false).await {
            Ended::Died(_) => connected.set(false),
            ended => return Asked::new(ended, stream, false),
        }
    }
    let stream = match dial(&key.target, &key.dial).await {
        Ok(stream) => stream,
        Err(error) => {
            return Asked {
                verdict: Err(Failure::Unreachable(format!("connect: {error}"))),
                keep: None,
                fresh: true,
            };
        }
    };
    connected.set(true);
    let stream = match &key.encryption {
        None => stream,
        Some((encryption, name)) => match encryption.begin_check(stream, name).await {
            Ok(stream) => stream,
            Err(error) => {
                return Asked {
                    verdict: Err(Failure::Unreachable(format!("tls: {error}"))),
                    keep: None,
                    fresh: true,
                };
            }
        },
    };
    let ended = question.exchange(&stream, true).await;
    Asked::new(ended, stream, true)
}

impl Asked {
    fn new(ended: Ended, stream: Stream, fresh: bool) -> Self {
        let (verdict, keep) = match ended {
            Ended::Good { clean } => (Ok(()), clean && is_fit(&stream)),
            Ended::Bad(words) | Ended::Died(words) => (Err(Failure::Unwell(words)), false),
        };
        Self {
            verdict,
            keep: keep.then_some(stream),
            fresh,
        }
    }
}

/// Anything that a server says on an idle connection, its end included, makes it unusable. Costs no system call.
fn is_fit(stream: &Stream) -> bool {
    stream.is_idle() && !stream.is_read_ended()
}

/// In the words of a check.
fn lost(error: &io::Error) -> String {
    format!("connection lost: {error}")
}

/// Waits for bytes, and shows them to `take`: none is the end. They are received into the core's buffer, so that a check which
/// waits holds no memory for its answer.
async fn receive<T>(stream: &Stream, mut take: impl FnMut(io::Result<&[u8]>) -> T) -> T {
    loop {
        stream.readable().await;
        let taken = scratch::with(|buffer| {
            let buffer = buffer.get_mut(..RECEIVE_MAX).unwrap_or_default();
            match stream.try_recv(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                Err(error) => Some(take(Err(error))),
                Ok(n) => Some(take(Ok(buffer.get(..n).unwrap_or_default()))),
            }
        });
        if let Some(taken) = taken {
            return taken;
        }
    }
}

/// Sends the greeting and the question, in one system call if there is no greeting.
async fn send(stream: &Stream, greeting: &[u8], question: &[u8]) -> io::Result<()> {
    if !greeting.is_empty() {
        stream.send_all(&[greeting, question].concat()).await
    } else if question.is_empty() {
        Ok(())
    } else {
        stream.send_all(question).await
    }
}
