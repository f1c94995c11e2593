//! The head of a request as a server gets it: our own line, the client's fields, what we say of the client.

use std::rc::Rc;
use std::task::Poll;

use narthex_config::model::{ForwardedStyle, RouteSettings, UpstreamHost};
use narthex_message::field::BELIEVED;
use narthex_message::head::Version;
use narthex_message::{Body, FieldId, FieldSet, Method, RequestFacts, Span, base64, validate};
use narthex_mux::MuxStream;
use narthex_net::{proxy_header, rt, websocket};
use narthex_upstream::{Connection, Lease};
use narthex_wire::h1::encode::{self, Keep};
use narthex_wire::h2;

use crate::grpc_web::Form;
use crate::handle::Exchange;
use crate::identity;

/// A change of protocol that a server was asked for.
pub(crate) struct Asked {
    pub(crate) protocol: Vec<u8>,
    /// `Sec-WebSocket-Accept` that it must answer with, if the key is ours.
    pub(crate) proof: Option<String>,
}

impl Exchange<'_> {
    /// Writes the request's head for this server into `work.up`. The protocol, if a change is asked for.
    pub(crate) fn write_head(
        &mut self,
        lease: &Lease,
        connection: &Connection,
    ) -> Option<Box<Asked>> {
        let mut out = std::mem::take(&mut self.work.up);
        out.clear();
        let upgrading = self.write_head_to(lease, connection, &mut out);
        self.work.up = out;
        upgrading
    }

    /// Sends the request's head on a server's stream. False: there was no room for it after all, and nothing was sent.
    /// `tunnel`: asks for one, by extended CONNECT.
    pub(crate) fn open_stream(
        &mut self,
        lease: &Lease,
        stream: &Rc<MuxStream>,
        tunnel: Option<&Asked>,
    ) -> bool {
        let (Some(facts), Some(route)) = (self.facts, self.route_config()) else {
            return false;
        };
        let settings = &route.settings;
        let (mut path, mut authority) = (Vec::new(), Vec::new());
        self.write_target(&mut path);
        self.write_host(settings, lease, &mut authority);
        let mut block = Vec::with_capacity(512);
        let request = h2::encode::Request {
            method: if tunnel.is_some() {
                b"CONNECT"
            } else {
                self.sent_method()
            },
            scheme: if lease.settings().encryption.is_some() {
                b"https"
            } else {
                b"http"
            },
            authority: &authority,
            path: &path,
            protocol: tunnel.map(|asked| asked.protocol.as_slice()),
        };
        h2::encode::request(&request, &mut block);
        let mut keep = self.kept(settings);
        if tunnel.is_some() {
            keep = keep.without(FieldSet::of(&[FieldId::SecWebSocketKey]));
        }
        if let Some(web) = &self.web {
            keep = keep.without(FieldSet::of(&[FieldId::ContentType, FieldId::Accept]));
            h2::encode::line("content-type", &web.upwards(), &mut block);
        }
        h2::encode::fields(self.head(), keep, &self.work.edits, &mut block);
        let mut lines = Vec::with_capacity(256);
        self.write_ours(settings, &mut lines);
        h2::encode::lines(&lines, &mut block);
        if facts.trailers || self.web.is_some() {
            h2::encode::line("te", b"trailers", &mut block);
        }
        let length = match self.body_upwards(true) {
            Body::None if tunnel.is_some() => None,
            Body::None => Some(0),
            Body::Length(n) => {
                h2::encode::content_length(n, &mut block);
                Some(n).filter(|_| !self.may_trail())
            }
            Body::Chunked | Body::UntilClose => None,
        };
        self.work.up.clear();
        stream.open(&block, length, facts.method == Method::Head)
    }

    /// Has the client's stream of HTTP/2 not ended with the head, whatever length that announced?
    pub(crate) fn goes_on(&self) -> bool {
        let facts = self.facts.filter(|f| f.version == Version::Http2);
        facts.is_some_and(|f| f.body != Body::None) && !self.work.index.ended
    }

    /// Is the request's body Base64 that is to be read?
    pub(crate) fn is_web_text(&self) -> bool {
        self.web.as_ref().is_some_and(|web| web.asked == Form::Text)
    }

    /// May trailers follow a body, whatever its length?
    fn may_trail(&self) -> bool {
        match &self.buffered {
            Some(_) => !self.work.request_trailers.is_empty(),
            None => self.goes_on(),
        }
    }

    /// How a server is told the body's length. `h2`: it has a place for trailers behind any. Of HTTP/1 only chunks have: they are
    /// used where trailers are there or announced, or are all that can follow.
    #[inline]
    pub(crate) fn body_upwards(&self, h2: bool) -> Body {
        let body = self.facts.map_or(Body::None, |f| f.body);
        let announced = self.work.index.present.has(FieldId::Trailer);
        match (&self.buffered, body) {
            (Some(_), _) if !h2 && self.may_trail() => Body::Chunked,
            (Some(buffered), _) => Body::Length(buffered.len()),
            (None, Body::Length(n)) if !h2 && self.goes_on() && (n == 0 || announced) => {
                Body::Chunked
            }
            // Base64 is longer than what it says.
            (None, Body::Length(1..)) if self.is_web_text() => Body::Chunked,
            (None, body) => body,
        }
    }

    /// The tunnel that a server of HTTP/2 is asked for, if it offers any (RFC 8441): a WebSocket, by a client of either version. A
    /// client of HTTP/1.1 must have sent a key (RFC 6455 4.1), which is answered here.
    pub(crate) async fn tunnel_by(&self, stream: &MuxStream, within_ms: u64) -> Option<Asked> {
        let (facts, route) = (self.facts?, self.route_config()?);
        let protocol = allowed_upgrade(facts.upgrade?.of(&self.work.input), &route.settings)?;
        let key = self.head().get(FieldId::SecWebSocketKey);
        let key = key.and_then(|key| base64::decode(std::str::from_utf8(key).ok()?));
        let has_key = key.is_some_and(|key| key.len() == 16);
        if !protocol.eq_ignore_ascii_case(b"websocket")
            || !facts.body.is_empty()
            || facts.method != Method::Get
            || facts.version != Version::Http2 && !has_key
        {
            return None;
        }
        let ends = rt::now_ms().saturating_add(within_ms);
        let offered = std::future::poll_fn(|_| match stream.poll_offers_connect() {
            Poll::Pending if self.client.stream.poll_dead().is_ready() => Poll::Ready(false),
            Poll::Pending => rt::poll_deadline(ends).map(|()| false),
            known @ Poll::Ready(_) => known,
        });
        offered.await.then(|| Asked {
            protocol: protocol.to_ascii_lowercase(),
            proof: None,
        })
    }

    /// The client's method; what is fetched for the cache is a GET, also if a HEAD has found it stale.
    fn sent_method(&self) -> &[u8] {
        match &self.caching {
            Some(caching) if caching.is_behind() => b"GET",
            _ => self.head().method(),
        }
    }

    /// Which of the client's fields a server gets.
    pub(crate) fn kept(&self, settings: &RouteSettings) -> Keep {
        let nominates = self.facts.is_some_and(|f| f.nominates);
        let mut keep = Keep::request(nominates, settings.underscore_headers);
        if self.version() == Version::Http2 {
            // The key of a WebSocket is ours there.
            keep = keep.without(FieldSet::of(&[FieldId::SecWebSocketKey]));
        }
        let forwards = matches!(
            settings.forwarded,
            ForwardedStyle::XForwarded | ForwardedStyle::Both
        );
        if self.identity.trusted_peer && forwards {
            keep.with(BELIEVED)
        } else {
            keep
        }
    }

    /// What we say of the client, and of ourselves: whole lines.
    #[inline(always)]
    fn write_ours(&self, settings: &RouteSettings, out: &mut Vec<u8>) {
        let Some(facts) = self.facts else { return };
        identity::write_forwarding(
            settings.forwarded,
            &self.identity,
            self.client.peer,
            facts.authority.of(&self.work.input),
            self.head(),
            out,
        );
        self.write_client_certificate(out);
        let id = &self.rt.runtime.config.request_id;
        if id.enabled {
            encode::id_line(&self.rt.runtime.id_start, self.id(), out);
        }
        out.extend_from_slice(match facts.version {
            Version::Http2 => b"Via: 2.0 narthex\r\n",
            Version::Http11 => b"Via: 1.1 narthex\r\n",
            Version::Http10 => b"Via: 1.0 narthex\r\n",
        });
    }

    #[inline(always)]
    fn write_head_to(
        &self,
        lease: &Lease,
        connection: &Connection,
        out: &mut Vec<u8>,
    ) -> Option<Box<Asked>> {
        let (Some(facts), Some(route)) = (self.facts, self.route_config()) else {
            return None;
        };
        let settings = &route.settings;
        let head = self.head();
        if let (Some(version), true) = (lease.settings().proxy_protocol, connection.fresh()) {
            self.write_proxy_header(version, out);
        }
        out.extend_from_slice(self.sent_method());
        out.push(b' ');
        self.write_target(out);
        out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
        self.write_host(settings, lease, out);
        out.extend_from_slice(b"\r\n");
        encode::fields(head, self.kept(settings), &self.work.edits, out);
        self.write_ours(settings, out);
        let asked = match facts.upgrade {
            Some(upgrade) => self.write_upgrade(&facts, upgrade, settings, out),
            None => None,
        };
        // A body that was announced is announced again, in our own framing (RFC 9112 6); an empty one keeps its zero.
        encode::framing(self.body_upwards(false), out);
        out.extend_from_slice(b"\r\n");
        asked
    }

    /// Asks for the change of protocol that the client wants, if the route allows it.
    #[cold]
    fn write_upgrade(
        &self,
        facts: &RequestFacts,
        upgrade: Span,
        settings: &RouteSettings,
        out: &mut Vec<u8>,
    ) -> Option<Box<Asked>> {
        let protocol = allowed_upgrade(upgrade.of(&self.work.input), settings)
            .filter(|_| facts.body.is_empty())?;
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: ");
        out.extend_from_slice(protocol);
        out.extend_from_slice(b"\r\n");
        let mut proof = None;
        if facts.version == Version::Http2 {
            let key = base64::encode(&websocket::key());
            encode::line("Sec-WebSocket-Key", key.as_bytes(), out);
            proof = Some(base64::encode(&websocket::proof(&key)));
        }
        Some(Box::new(Asked {
            protocol: protocol.to_vec(),
            proof,
        }))
    }

    #[inline(always)]
    fn write_target(&self, out: &mut Vec<u8>) {
        let path = match &self.target.path {
            Some(changed) => changed.as_bytes(),
            None => self.path.bytes(&self.work),
        };
        out.extend_from_slice(path);
        let query = match &self.target.query {
            Some(changed) => changed.as_deref(),
            None => self.query.map(|q| q.of(&self.work.input)),
        };
        if let Some(query) = query {
            out.push(b'?');
            out.extend_from_slice(query);
        }
    }

    #[inline(always)]
    fn write_host(&self, settings: &RouteSettings, lease: &Lease, out: &mut Vec<u8>) {
        match &settings.host {
            UpstreamHost::Keep => self.write_own_host(lease, out),
            UpstreamHost::Server => out.extend_from_slice(server_host(lease).as_bytes()),
            UpstreamHost::Set(template) => {
                let mut host = Vec::new();
                self.with_values(None, |values| {
                    narthex_filter::template::render(template, values, &mut host)
                });
                if narthex_message::authority::parse(&host).is_ok() {
                    out.extend_from_slice(&host)
                } else {
                    self.write_own_host(lease, out)
                }
            }
        }
    }

    /// The host as asked, canonical, with its port as given.
    #[inline(always)]
    fn write_own_host(&self, lease: &Lease, out: &mut Vec<u8>) {
        let raw = self
            .facts
            .map_or(&[][..], |f| f.authority.of(&self.work.input));
        if raw.is_empty() {
            out.extend_from_slice(server_host(lease).as_bytes());
            return;
        }
        let host = self.host.bytes(&self.work);
        out.extend_from_slice(host);
        // The same length: there is no port.
        if raw.len() != host.len()
            && let Ok(parsed) = narthex_message::authority::parse(raw)
            && let Some(port) = parsed.port
        {
            out.push(b':');
            encode::decimal(u64::from(port), out);
        }
    }

    fn write_proxy_header(&self, version: u8, out: &mut Vec<u8>) {
        use narthex_net::accept::Peer;
        let destination = self
            .rt
            .runtime
            .config
            .listeners
            .get(self.listener)
            .and_then(|l| match &l.address {
                narthex_config::model::Address::Tcp(a) => Some(*a),
                _ => None,
            });
        match (self.client.peer, destination, version) {
            (Peer::Tcp(source), Some(to), 1) => proxy_header::encode_v1(source, to, out),
            (Peer::Tcp(source), Some(to), _) => proxy_header::encode_v2(source, to, out),
            (_, _, 1) => proxy_header::encode_v1_unknown(out),
            _ => proxy_header::encode_v2_unknown(out),
        }
    }
}

/// Does the route allow a change to this protocol?
pub(crate) fn allows_upgrade(protocol: &[u8], settings: &RouteSettings) -> bool {
    allowed_upgrade(protocol, settings).is_some()
}

/// The first protocol of the list that the route allows.
fn allowed_upgrade<'a>(value: &'a [u8], settings: &RouteSettings) -> Option<&'a [u8]> {
    validate::tokens(value).find(|t| {
        settings
            .upgrade
            .iter()
            .any(|a| a.as_bytes().eq_ignore_ascii_case(t))
    })
}

/// Name and port of a server, as a `Host`.
fn server_host(lease: &Lease) -> String {
    match lease.target() {
        narthex_net::dial::Target::Tcp(_) => lease.name().to_owned(),
        narthex_net::dial::Target::Unix(_) => "localhost".to_owned(),
    }
}
