//! A handshake with a client, from its first byte to a [`Stream`] that encrypts.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::{CommonState, HandshakeKind, ProtocolVersion, ServerConfig};

use super::hello::{Asked, Hello, Progress, alert};
use super::server::{Bundle, ClientIdentity, PolicyId, Profile, ServerTls};
use super::session::Conn;
use super::stream::{HandshakeEnd, TlsStream, discard};
use super::turn::{self, Place};
use super::{ACME_TLS, Version, on_demand, provider};
use crate::rt::{Interest, now_ms, now_us, timeout_at, wall_ms};
use crate::socket::Socket;
use crate::stream::Stream;

/// Alerts that are sent before there is a connection (RFC 8446, section 6.2).
const UNRECOGNIZED_NAME: u8 = 112;
const RECORD_OVERFLOW: u8 = 22;

const IN_THE_CLEAR: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 41\r\n\
    Connection: close\r\n\r\nThis port speaks HTTPS; use https:// URLs";

/// What a handshake with a client came to.
#[derive(Debug, Clone)]
pub struct Handshake {
    /// The protocol inside, if one was agreed.
    pub alpn: Option<Vec<u8>>,
    /// The name that the client asked for: lower case, without a dot at the end. Addresses are no names.
    pub sni: Option<String>,
    /// The version.
    pub version: Version,
    /// The suite, as rustls names it (`TLS13_AES_256_GCM_SHA384`).
    pub suite: &'static str,
    /// Was an earlier session resumed?
    pub resumed: bool,
    /// What it was judged by.
    pub policy: PolicyId,
    /// Who the client is, if it has proved it.
    pub client: Option<Box<ClientIdentity>>,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// As many handshakes as may be are under way on this core.
    #[error("too many handshakes are under way")]
    Busy,
    /// It took too long.
    #[error("the handshake took too long")]
    Deadline,
    /// The peer closed in the middle.
    #[error("the peer closed during the handshake")]
    Closed,
    /// What came is not TLS: a request in the clear, for instance.
    #[error("the peer does not speak TLS")]
    NotTls,
    /// The ClientHello is larger than 64 KiB.
    #[error("the ClientHello is too large")]
    TooLarge,
    /// No site has this name.
    #[error("no site has the name {}", .0.as_deref().unwrap_or("(none)"))]
    UnknownName(Option<String>),
    /// There is no certificate for this name (yet).
    #[error("there is no certificate for {}", .0.as_deref().unwrap_or("(no name)"))]
    NoCertificate(Option<String>),
    /// The client has no certificate, or one that does not hold.
    #[error("the client certificate was refused: {0}")]
    ClientCertificate(rustls::Error),
    /// The server's certificate does not hold.
    #[error("the certificate was refused: {0}")]
    Certificate(rustls::Error),
    /// The peer refused, with this alert.
    #[error("the peer refused: {0}")]
    PeerRefused(rustls::Error),
    /// Something else of the protocol.
    #[error("the handshake failed: {0}")]
    Tls(rustls::Error),
    /// A certificate authority has got the proof it asked for; there is nothing more to be said on this connection.
    #[error("a certificate authority's challenge for {0} was answered")]
    Challenge(String),
    /// The socket failed.
    #[error("the connection failed during the handshake: {0}")]
    Io(io::Error),
    /// TLS is spoken over sockets only.
    #[error("TLS is spoken over sockets only")]
    NotASocket,
    /// The name of the server is none.
    #[error("the server's name is neither a DNS name nor an address")]
    BadName,
}

impl HandshakeError {
    /// A stable word, for metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Deadline => "deadline",
            Self::Closed => "closed",
            Self::NotTls => "not-tls",
            Self::TooLarge => "hello-too-large",
            Self::UnknownName(_) => "unknown-name",
            Self::NoCertificate(_) => "no-certificate",
            Self::ClientCertificate(_) => "client-certificate",
            Self::Certificate(_) => "certificate",
            Self::PeerRefused(_) => "peer-refused",
            Self::Tls(rustls::Error::NoApplicationProtocol) => "alpn",
            Self::Tls(rustls::Error::PeerIncompatible(_)) => "incompatible",
            Self::Tls(_) => "protocol",
            Self::Challenge(_) => "challenge",
            Self::Io(_) => "io",
            Self::NotASocket => "not-a-socket",
            Self::BadName => "bad-name",
        }
    }
}

impl HandshakeError {
    /// Was a client refused because our list of revoked certificates has ended?
    pub fn is_list_expired(&self) -> bool {
        use rustls::CertificateError as E;
        matches!(
            self,
            Self::ClientCertificate(rustls::Error::InvalidCertificate(
                E::ExpiredRevocationList | E::ExpiredRevocationListContext { .. }
            ))
        )
    }

    /// What is wrong with the other side's certificate, in one word: `expired`, `name`, `issuer`, or `other`.
    pub fn certificate_flaw(&self) -> &'static str {
        use rustls::CertificateError as E;
        let (Self::Certificate(rustls::Error::InvalidCertificate(flaw))
        | Self::ClientCertificate(rustls::Error::InvalidCertificate(flaw))) = self
        else {
            return "other";
        };
        match flaw {
            E::Expired | E::ExpiredContext { .. } => "expired",
            E::NotValidForName | E::NotValidForNameContext { .. } => "name",
            E::UnknownIssuer => "issuer",
            _ => "other",
        }
    }
}

/// A handshake with the client at the other end of `stream`, which is a socket. `already_read` are bytes of it that were read
/// with something before (a PROXY header). The deadline is [`crate::rt::now_ms`] time, [`super::server::HANDSHAKE_MS`] from now as a
/// rule; it stands still while a certificate is waited for. `client` is who a certificate on demand is counted for. On an error
/// the connection is closed, after the alert that belongs to it.
pub async fn accept(
    stream: Stream,
    already_read: &[u8],
    tls: &ServerTls,
    mut deadline_ms: u64,
    client: Option<IpAddr>,
) -> Result<(Stream, Handshake), HandshakeError> {
    let Ok(socket) = stream.into_socket() else {
        return Err(HandshakeError::NotASocket);
    };
    let Some(mut place) = Place::take(tls.pending) else {
        return Err(HandshakeError::Busy);
    };
    let mut begun = now_us();
    let mut hello = Hello::default();
    hello.push(already_read);
    let asked = timeout_at(deadline_ms, place.while_kept(open(&socket, &mut hello)))
        .await
        .map_err(|_| HandshakeError::Deadline)??;
    let challenge = challenge(&asked, tls);
    if challenge.is_none() && tls.comes_on_demand(asked.name.as_deref()) {
        // Waiting is no work: whoever has a certificate needs the place more.
        drop(place);
        let since = now_us();
        let came = await_certificate(tls, asked.name.as_deref(), client).await;
        if !came {
            refuse(&socket, UNRECOGNIZED_NAME);
            return Err(HandshakeError::NoCertificate(asked.name));
        }
        let waited = now_us().saturating_sub(since);
        begun = begun.saturating_add(waited);
        deadline_ms = deadline_ms.saturating_add(waited / 1_000);
        place = Place::take(tls.pending).ok_or(HandshakeError::Busy)?;
    }
    let shaking = place.while_kept(shake(socket, hello, tls, asked, challenge));
    let done = timeout_at(deadline_ms, shaking).await;
    drop(place);
    let (stream, mut handshake) = done.map_err(|_| HandshakeError::Deadline)??;
    handshake.took_us = now_us().saturating_sub(begun);
    Ok((stream, handshake))
}

/// Reads the hello, and says what it asks for.
async fn open(socket: &Socket, hello: &mut Hello) -> Result<Asked, HandshakeError> {
    read_hello(socket, hello).await?;
    turn::step().await;
    hello.asked().map_err(|(error, alert)| {
        let _ = socket.try_send(&alert);
        HandshakeError::Tls(error)
    })
}

/// Has the certificate for this name come in time?
async fn await_certificate(tls: &ServerTls, name: Option<&str>, client: Option<IpAddr>) -> bool {
    let (Some(name), Some(on_demand)) = (name, &tls.on_demand) else {
        return false;
    };
    let Some(waiting) = on_demand.desk.ask(name, client) else {
        return false;
    };
    let until = now_ms().saturating_add(on_demand::WAIT_MS);
    let came = timeout_at(until, waiting).await;
    came.is_ok_and(|came| came) && tls.certificates.has(name)
}

async fn shake(
    socket: Socket,
    hello: Hello,
    tls: &ServerTls,
    asked: Asked,
    challenge: Option<Arc<ServerConfig>>,
) -> Result<(Stream, Handshake), HandshakeError> {
    if let Some(config) = challenge {
        return Err(answer(socket, &hello, config, asked).await);
    }
    let name = asked.name;
    // Addresses are not asked for by name: who names nobody asks for the one that he has connected to, if that is a site.
    let by_address = match &name {
        Some(_) => None,
        None => own_address(&socket, tls),
    };
    let wanted = by_address
        .as_ref()
        .map(|(address, _)| address)
        .or(name.as_ref());
    let ready = match &by_address {
        Some((address, _)) if tls.knows(address) => tls.ready_for(Some(address)),
        _ => tls.ready_for(name.as_deref()),
    };
    let Some(ready) = ready else {
        refuse(&socket, UNRECOGNIZED_NAME);
        return Err(HandshakeError::UnknownName(name));
    };
    let shown = match wanted {
        // A site is not shown with the certificate of another one.
        Some(wanted) if tls.knows(wanted) => tls.certificates.serves(wanted),
        _ => tls.certificates.find(name.as_deref()).is_some(),
    };
    if !shown {
        refuse(&socket, UNRECOGNIZED_NAME);
        return Err(HandshakeError::NoCertificate(name));
    }
    let config = match by_address {
        None => Arc::clone(&ready.config),
        Some((_, bundle)) => {
            let mut config = ServerConfig::clone(&ready.config);
            config.cert_resolver = bundle;
            Arc::new(config)
        }
    };
    let stream = start(socket, &hello, config)?;
    drop(hello);
    drive(&stream).await?;
    let client = stream.with_common(|common| {
        let certificate = common.peer_certificates()?.first()?;
        Some(ClientIdentity::of(certificate).map(Box::new))
    });
    let client = match client {
        // Verified, and yet nobody can say who it is.
        Some(None) => {
            return Err(HandshakeError::ClientCertificate(rustls::Error::General(
                "its names cannot be read".into(),
            )));
        }
        Some(Some(identity)) if identity.not_after < now_s() => {
            // Only a session can outlive the certificate that it was begun with, resumed again and again.
            let expired = rustls::CertificateError::Expired;
            return Err(HandshakeError::ClientCertificate(expired.into()));
        }
        Some(identity) => identity,
        None => None,
    };
    let handshake = stream.with_common(|common| Handshake {
        alpn: common.alpn_protocol().map(<[u8]>::to_vec),
        sni: name,
        version: version(common),
        suite: suite_name(common),
        resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
        policy: ready.id,
        client,
        took_us: 0,
    });
    Ok((stream.into(), handshake))
}

/// Reads until the hello is whole.
async fn read_hello(socket: &Socket, hello: &mut Hello) -> Result<(), HandshakeError> {
    loop {
        match hello.progress() {
            Progress::Whole => return Ok(()),
            Progress::NotTls => {
                if hello.bytes().first().is_some_and(u8::is_ascii_uppercase) {
                    // A browser was given http:// for this port; a sentence helps more than a closed connection.
                    let _ = socket.try_send(IN_THE_CLEAR);
                    socket.shutdown_write();
                    discard(socket);
                }
                return Err(HandshakeError::NotTls);
            }
            Progress::TooLarge => {
                refuse(socket, RECORD_OVERFLOW);
                return Err(HandshakeError::TooLarge);
            }
            Progress::More => {}
        }
        let got = crate::scratch::with(|scratch| {
            let room = scratch.get_mut(..hello.room()).unwrap_or_default();
            let n = socket.try_recv(room)?;
            hello.push(room.get(..n).unwrap_or_default());
            Ok(n)
        });
        match got {
            Ok(0) => return Err(HandshakeError::Closed),
            Ok(_) => {}
            Err(e) if io::Error::kind(&e) == io::ErrorKind::WouldBlock => {
                socket.registration().until(Interest::Read).await;
            }
            Err(e) => return Err(HandshakeError::Io(e)),
        }
    }
}

fn start(
    socket: Socket,
    hello: &Hello,
    config: Arc<ServerConfig>,
) -> Result<TlsStream, HandshakeError> {
    let conn = UnbufferedServerConnection::new(config).map_err(HandshakeError::Tls)?;
    Ok(TlsStream::new(socket, Conn::Server(conn), hello.bytes()))
}

/// Works until the handshake is over.
pub(super) async fn drive(stream: &TlsStream) -> Result<(), HandshakeError> {
    loop {
        match stream.handshake() {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(HandshakeEnd::Closed) => return Err(HandshakeError::Closed),
            Err(HandshakeEnd::Io(e)) => return Err(HandshakeError::Io(e)),
            Err(HandshakeEnd::Tls(e)) => {
                stream.give_up();
                return Err(sort(stream, e));
            }
        }
        std::future::poll_fn(|_| stream.poll_ready(Interest::Read)).await;
        turn::step().await;
    }
}

fn sort(stream: &TlsStream, error: rustls::Error) -> HandshakeError {
    match &error {
        rustls::Error::InvalidCertificate(_)
        | rustls::Error::InvalidCertRevocationList(_)
        | rustls::Error::NoCertificatesPresented
            if stream.is_server() =>
        {
            HandshakeError::ClientCertificate(error)
        }
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
            HandshakeError::Certificate(error)
        }
        rustls::Error::AlertReceived(_) => HandshakeError::PeerRefused(error),
        _ => HandshakeError::Tls(error),
    }
}

/// An alert before there is a connection; the end follows.
fn refuse(socket: &Socket, what: u8) {
    // Who does not take seven bytes does not get them.
    let _ = socket.try_send(&alert(what));
    socket.shutdown_write();
}

fn now_s() -> i64 {
    i64::try_from(wall_ms() / 1_000).unwrap_or(i64::MAX)
}

/// The address that the client has connected to and what is shown for it, if it has certificates of its own.
fn own_address(socket: &Socket, tls: &ServerTls) -> Option<(String, Arc<Bundle>)> {
    let address = socket.local_ip()?.to_canonical().to_string();
    let bundle = tls.certificates.own(&address)?;
    Some((address, bundle))
}

/// What is shown to a certificate authority, if this is one that we wait for.
fn challenge(asked: &Asked, tls: &ServerTls) -> Option<Arc<ServerConfig>> {
    if !asked.challenge {
        return None;
    }
    let name = asked.name.as_deref()?;
    let key = tls.challenges.alpn(name, wall_ms() / 1_000)?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(Profile::Intermediate.versions())
        .ok()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Some(Arc::new(config))
}

/// The handshake is the answer; nothing is said inside (RFC 8737, section 3).
async fn answer(
    socket: Socket,
    hello: &Hello,
    config: Arc<ServerConfig>,
    asked: Asked,
) -> HandshakeError {
    let stream = match start(socket, hello, config) {
        Ok(stream) => stream,
        Err(e) => return e,
    };
    match drive(&stream).await {
        Ok(()) => {
            stream.shutdown_write();
            HandshakeError::Challenge(asked.name.unwrap_or_default())
        }
        Err(e) => e,
    }
}

pub(super) fn version(common: &CommonState) -> Version {
    match common.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => Version::Tls12,
        _ => Version::Tls13,
    }
}

pub(super) fn suite_name(common: &CommonState) -> &'static str {
    common
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str())
        .unwrap_or("unknown")
}
