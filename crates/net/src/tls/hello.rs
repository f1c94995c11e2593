//! The ClientHello, read whole before anything is decided: in however many records and segments it comes (SL-12).

use rustls::server::Acceptor;
use rustls::{CipherSuite, PeerIncompatible};

use super::names;

/// Bytes that a client may send until its hello is whole, record headers included. RFC 8446 allows a hello of 128 KiB; those of
/// browsers have 2 KiB.
pub(super) const MAX_HELLO: usize = 64 * 1024;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const RECORD_HEADER: usize = 5;
/// The version of TLS 1.2, and of 1.3 in the extension that names it.
const TLS_12: u16 = 0x0303;
const TLS_13: u16 = 0x0304;
const SUPPORTED_VERSIONS: u16 = 43;
/// What a client adds to its suites that tries again with less than it can (RFC 7507).
const FALLBACK_SCSV: u16 = 0x5600;
/// Alerts (RFC 8446, section 6.2; RFC 7507).
const PROTOCOL_VERSION: u8 = 70;
const INAPPROPRIATE_FALLBACK: u8 = 86;
const MESSAGE_HEADER: usize = 4;
/// Largest plaintext of a record.
const MAX_RECORD: usize = 16 * 1024;

/// What has been read so far.
#[derive(Debug, Default)]
pub(super) struct Hello {
    bytes: Vec<u8>,
    /// Where the next record begins.
    record: usize,
    /// The first bytes of the message, until they say how long it is.
    head: Vec<u8>,
    /// Bytes of the message that whole records have brought.
    have: usize,
}

/// What the bytes so far come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More is needed.
    More,
    /// The message is whole.
    Whole,
    /// This is not TLS: a request in the clear, for instance.
    NotTls,
    /// [`MAX_HELLO`].
    TooLarge,
}

/// What decides on policy and certificate.
#[derive(Debug)]
pub(super) struct Asked {
    /// Canonical.
    pub(super) name: Option<String>,
    /// Is `acme-tls/1` all that it speaks?
    pub(super) challenge: bool,
}

impl Hello {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// How much more may come.
    pub(super) fn room(&self) -> usize {
        MAX_HELLO.saturating_sub(self.bytes.len()).max(1)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn progress(&mut self) -> Progress {
        loop {
            let rest = self.bytes.get(self.record..).unwrap_or_default();
            if rest.first().is_some_and(|kind| *kind != HANDSHAKE)
                || rest.get(1).is_some_and(|major| *major != 3)
            {
                return Progress::NotTls;
            }
            let Some((header, body)) = rest.split_first_chunk::<RECORD_HEADER>() else {
                return self.more();
            };
            let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
            if length == 0 || length > MAX_RECORD {
                return Progress::NotTls;
            }
            let Some(body) = body.get(..length) else {
                return self.more();
            };
            let wanted = MESSAGE_HEADER.saturating_sub(self.head.len());
            self.head
                .extend_from_slice(body.get(..wanted).unwrap_or(body));
            self.have += length;
            self.record += RECORD_HEADER + length;
            if self.head.first() != Some(&CLIENT_HELLO) {
                return Progress::NotTls;
            }
            if let Some([_, a, b, c]) = self.head.first_chunk::<MESSAGE_HEADER>() {
                let message = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
                if message > MAX_HELLO {
                    return Progress::TooLarge;
                }
                if self.have >= MESSAGE_HEADER + message {
                    return Progress::Whole;
                }
            }
        }
    }

    fn more(&self) -> Progress {
        if self.bytes.len() >= MAX_HELLO {
            Progress::TooLarge
        } else {
            Progress::More
        }
    }

    /// The message, out of its records.
    fn message(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(self.have);
        let mut rest = self.bytes.get(..self.record).unwrap_or_default();
        while let Some((header, body)) = rest.split_first_chunk::<RECORD_HEADER>() {
            let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
            let (body, after) = body.split_at(length.min(body.len()));
            message.extend_from_slice(body);
            rest = after;
        }
        message
    }

    /// The versions of the extension that names them.
    fn versions(&self) -> Option<Vec<u16>> {
        let message = self.message();
        let mut rest = Fields(message.get(MESSAGE_HEADER..)?);
        // Version and random; session; suites; compression.
        rest.take(2 + 32)?;
        rest.vector(1)?;
        rest.vector(2)?;
        rest.vector(1)?;
        let mut extensions = Fields(rest.vector(2)?);
        loop {
            let kind = extensions.number(2)?;
            let body = extensions.vector(2)?;
            if kind == usize::from(SUPPORTED_VERSIONS) {
                let pairs = Fields(body).vector(1)?.chunks_exact(2);
                return Some(pairs.filter_map(be16).collect());
            }
        }
    }

    /// Is TLS 1.1 the best that it speaks?
    fn is_old(&self) -> bool {
        let message = self.message();
        let named = message.get(MESSAGE_HEADER..).and_then(be16);
        named.is_some_and(|version| version < TLS_12) && self.versions().is_none()
    }

    /// Reads a whole hello. An error comes with the alert that is to be sent.
    pub(super) fn asked(&self) -> Result<Asked, (rustls::Error, Vec<u8>)> {
        let mut acceptor = Acceptor::default();
        let mut rest = self.bytes.get(..self.record).unwrap_or_default();
        loop {
            let read = acceptor.read_tls(&mut rest).unwrap_or(0);
            match acceptor.accept() {
                Ok(Some(accepted)) => {
                    let hello = accepted.client_hello();
                    // A client that could do better and thinks that we could not: somebody in between has seen to that.
                    let fallen_back = hello
                        .cipher_suites()
                        .contains(&CipherSuite::from(FALLBACK_SCSV));
                    if fallen_back && !self.versions().is_some_and(|v| v.contains(&TLS_13)) {
                        let error = rustls::Error::General("the client has fallen back".into());
                        return Err((error, alert(INAPPROPRIATE_FALLBACK).to_vec()));
                    }
                    let mut protocols = hello.alpn().into_iter().flatten();
                    let challenge =
                        protocols.next() == Some(super::ACME_TLS) && protocols.next().is_none();
                    return Ok(Asked {
                        name: hello.server_name().map(names::canonical),
                        challenge,
                    });
                }
                Ok(None) if read > 0 => {}
                Ok(None) => {
                    let error = rustls::Error::General("the ClientHello is not whole".into());
                    return Err((error, Vec::new()));
                }
                // What a hello of TLS 1.1 lacks is no news: it is the version that is wrong with it.
                Err((rustls::Error::PeerIncompatible(_), _)) if self.is_old() => {
                    let error = PeerIncompatible::Tls12NotOffered.into();
                    return Err((error, alert(PROTOCOL_VERSION).to_vec()));
                }
                Err((error, mut alert)) => {
                    let mut bytes = Vec::new();
                    // Writing into memory does not fail.
                    let _ = alert.write_all(&mut bytes);
                    return Err((error, bytes));
                }
            }
        }
    }
}

fn be16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().copied().map(u16::from_be_bytes)
}

/// A fatal alert, in a record.
pub(super) fn alert(what: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, what]
}

/// Reads a message from outside: nothing is indexed.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, width: usize) -> Option<usize> {
        let bytes = self.take(width)?;
        Some(bytes.iter().fold(0, |sum, b| sum << 8 | usize::from(*b)))
    }

    /// Bytes behind their length, which is so wide.
    fn vector(&mut self, width: usize) -> Option<&'a [u8]> {
        let length = self.number(width)?;
        self.take(length)
    }
}
