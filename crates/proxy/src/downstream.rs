//! The client's side of a response: the head is made from the model, the length is said in our own words, nothing of the
//! origin's connection or name gets through.

use narthex_config::model::ServerAddress;
use narthex_filter::urls::{self, UrlMap};
use narthex_message::head::Version;
use narthex_message::{Body, Edits, FieldId, FieldSet, Head, Method, ResponseFacts, base64};
use narthex_net::dial::Target;
use narthex_net::websocket;
use narthex_upstream::Lease;
use narthex_wire::h1::encode::{self, Keep};

use crate::cache::Turn;
use crate::client_head::ClientHead;
use crate::context::context;
use crate::handle::Exchange;
use crate::relay::{Begun, Downstream};
use crate::work::Work;

/// Names that tell what the origin runs on.
pub(crate) const ORIGIN_TELLS: FieldSet = FieldSet::of(&[FieldId::Server, FieldId::XPoweredBy]);

/// Where an origin's own name may stand.
const NAMING: FieldSet = FieldSet::of(&[
    FieldId::Location,
    FieldId::ContentLocation,
    FieldId::Refresh,
    FieldId::SetCookie,
]);

/// Makes response heads for one exchange's client.
pub(crate) struct ToClient<'e, 'c> {
    pub(crate) exchange: &'e Exchange<'c>,
    pub(crate) lease: &'e Lease,
    /// Decided with the head: the connection can carry another request.
    pub(crate) keep: bool,
}

impl Downstream for ToClient<'_, '_> {
    fn informational(&mut self, head: Head<'_>, facts: &ResponseFacts, out: &mut Vec<u8>) {
        if self.goes_on() {
            return;
        }
        let start = out.len();
        let mut to = self.exchange.client_head(out);
        to.status(facts.status, head.index.reason.of(head.bytes));
        let keep = Keep::response(facts.nominates).without(ORIGIN_TELLS);
        to.fields(head, keep, &Edits::default());
        to.end();
        if let Some(stream) = &self.exchange.client.h2 {
            stream.inform(out.get(start..).unwrap_or_default());
            out.truncate(start);
        }
    }

    fn trailers(&self, request: &Work, out: &mut Vec<u8>) {
        self.exchange.write_trailers(request, out);
    }

    fn go_on(&mut self, out: &mut Vec<u8>) {
        if !self.goes_on() {
            self.exchange.write_continue(out);
        }
    }

    fn is_awaited(&self) -> bool {
        let caching = self.exchange.caching.as_ref();
        caching.is_some_and(|c| c.is_awaited())
    }

    fn begin(
        &mut self,
        request: &Work,
        head: Head<'_>,
        facts: &ResponseFacts,
        upload_done: bool,
        edits: &mut Edits,
        out: &mut Vec<u8>,
    ) -> Begun {
        let ex = self.exchange;
        ex.admission.answered();
        edits.clear();
        if facts.status == 101 {
            let sent = self.switching(request, head, out);
            return Begun {
                framing: Body::None,
                replaced: false,
                web: None,
                sent,
                fill: None,
            };
        }
        self.keep = upload_done && ex.keeps_alive();
        if let Some(begun) = ex.caching.as_ref().and_then(|c| c.begin_rest(head, facts)) {
            return begun;
        }
        let settings = ex.route_config().map(|r| &r.settings);
        if settings.is_some_and(|s| s.rewrite_response_urls)
            && head.index.present.intersects(NAMING)
        {
            self.rewrite_urls(request, head, edits);
        }
        let (mut fill, mut shown) = (None, None);
        if let Some(caching) = &ex.caching {
            match ex.turn(
                caching,
                request,
                head,
                facts,
                edits,
                self.page(facts).is_some(),
            ) {
                Turn::Origin(writer, how) => {
                    caching.show(how);
                    (fill, shown) = (writer, Some(how));
                }
                Turn::Stored => {
                    return Begun {
                        framing: Body::None,
                        replaced: true,
                        web: None,
                        sent: 0,
                        fill: None,
                    };
                }
            }
        }
        if let Some(begun) = self.intercepted(facts, out) {
            return begun;
        }
        if let Some(plan) = ex.route_plan().filter(|p| p.chain.has_response()) {
            let none = Edits::default();
            context(
                ex,
                request,
                &request.edits,
                Some((facts.status, head, &none)),
                |values| {
                    plan.chain.response(values, edits);
                },
            );
        }
        ex.add_hsts(edits);
        let goes_on = head.index.version == Version::Http2 && !head.index.ended;
        let by_web = ex.web.as_ref().and_then(|web| {
            let own = head.get(FieldId::ContentType)?;
            Some((web.downwards(Some(own))?, web.wanted))
        });
        let (body, by_web) = match by_web {
            Some((content_type, form)) => {
                edits.set("Content-Type", &content_type);
                // Trailers are a part of it.
                (if goes_on { Body::Chunked } else { facts.body }, Some(form))
            }
            None => (facts.body, None),
        };
        let framing = self.framing(body, goes_on);
        let start = out.len();
        let mut to = ex.client_head(out);
        to.status(facts.status, head.index.reason.of(head.bytes));
        let mut keep = Keep::response(facts.nominates);
        if settings.is_some_and(|s| s.hide_origin) {
            keep = keep.without(ORIGIN_TELLS);
        }
        to.fields(head, keep, edits);
        if !head.index.present.has(FieldId::Date) {
            to.line("Date", &ex.proxy.date());
        }
        let id = &ex.rt.runtime.config.request_id;
        if id.enabled {
            let value = ex
                .given_id
                .map_or(&ex.request_id[..], |s| s.of(&request.input));
            to.id(&id.header, &ex.rt.runtime.id_start, value);
        }
        if let Some(shown) = shown {
            ex.write_cache_status(shown, &mut to);
        }
        if let Some(cookie) = &ex.cookie {
            to.line("Set-Cookie", cookie);
        }
        self.write_framing(facts, framing, &mut to);
        to.connection(ex.connection_line(self.keep));
        to.end();
        Begun {
            framing,
            replaced: false,
            web: by_web,
            sent: ex.begin_stream(out, start, length(framing, goes_on)),
            fill,
        }
    }
}

impl ToClient<'_, '_> {
    /// The client has got a head, and the beginning of a body.
    fn goes_on(&self) -> bool {
        let caching = self.exchange.caching.as_ref();
        caching.is_some_and(|caching| caching.goes_on())
    }

    /// `101`: the origin's words, with the connection's fields made anew. On a stream of HTTP/2 it is 200 (RFC 8441 5). Bytes
    /// that have been sent already.
    fn switching(&self, request: &Work, head: Head<'_>, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        let ex = self.exchange;
        let mut to = ex.client_head(out);
        let keep = Keep::response(false).without(ORIGIN_TELLS);
        if ex.client.h2.is_some() {
            // The proof that the server has understood a key is for us: the client has sent none.
            let mut edits = Edits::default();
            edits.remove("Sec-WebSocket-Accept");
            to.status(200, b"");
            to.fields(head, keep, &edits);
        } else {
            to.status(101, head.index.reason.of(head.bytes));
            to.fields(head, keep, &Edits::default());
            to.connection(b"Connection: Upgrade\r\n");
            to.line(
                "Upgrade",
                head.get(FieldId::Upgrade).unwrap_or(b"websocket"),
            );
            let asked = Head::new(&request.input, &request.index);
            if head.index.version == Version::Http2
                && let Some(key) = asked.get(FieldId::SecWebSocketKey)
                && let Ok(key) = std::str::from_utf8(key)
            {
                // The server has seen no key: it has agreed by its status.
                let proof = base64::encode(&websocket::proof(key));
                to.line("Sec-WebSocket-Accept", proof.as_bytes());
            }
        }
        to.end();
        ex.begin_stream(out, start, None)
    }

    /// How the client is told the body's length.
    fn framing(&mut self, body: Body, goes_on: bool) -> Body {
        match (body, self.exchange.version()) {
            (Body::None, _) => Body::None,
            // Nothing, and perhaps trailers: a length would leave no place for them.
            (Body::Length(0), Version::Http11)
                if goes_on && self.exchange.facts.is_some_and(|f| f.trailers) =>
            {
                Body::Chunked
            }
            (Body::Length(n), _) => Body::Length(n),
            (Body::Chunked | Body::UntilClose, Version::Http11) => Body::Chunked,
            // Bytes as they are: the end of the stream is said when the exchange ends.
            (Body::Chunked | Body::UntilClose, Version::Http2) => Body::UntilClose,
            // HTTP/1.0 knows no chunks: the end of the connection is the end of the body.
            (Body::Chunked | Body::UntilClose, Version::Http10) => {
                self.keep = false;
                Body::UntilClose
            }
        }
    }

    fn write_framing(&self, facts: &ResponseFacts, framing: Body, to: &mut ClientHead<'_>) {
        let head_request = self
            .exchange
            .facts
            .is_some_and(|f| f.method == Method::Head);
        if facts.body == Body::None {
            // HEAD and 304 tell the length of what a GET would have got; 204 has none (RFC 9110 8.6).
            if let Some(n) = facts.announced
                && (head_request || facts.status == 304)
            {
                to.length(n);
            }
            return;
        }
        to.framing(framing);
    }

    fn page(&self, facts: &ResponseFacts) -> Option<&narthex_config::model::ErrorPage> {
        let site = self.exchange.site_config()?;
        if site.error_pages.is_empty() {
            return None;
        }
        narthex_filter::error_page::find_intercept(&site.error_pages, facts.status)
    }

    /// The site's page instead of the origin's error.
    fn intercepted(&mut self, facts: &ResponseFacts, out: &mut Vec<u8>) -> Option<Begun> {
        let ex = self.exchange;
        let page = self.page(facts)?;
        let start = out.len();
        let content = ex.facts.is_none_or(|f| f.method != Method::Head);
        let mut to = ex.client_head(out);
        to.status(facts.status, encode::reason(facts.status).as_bytes());
        to.line("Date", &ex.proxy.date());
        to.line("Content-Type", page.content_type.as_bytes());
        to.length(page.body.len() as u64);
        to.connection(ex.connection_line(self.keep));
        to.end();
        let follows = if content { page.body.len() as u64 } else { 0 };
        let sent = ex.begin_stream(out, start, Some(follows));
        if content {
            out.extend_from_slice(&page.body);
        }
        Some(Begun {
            framing: Body::Length(page.body.len() as u64),
            replaced: true,
            web: None,
            sent,
            fill: None,
        })
    }

    fn rewrite_urls(&self, request: &Work, head: Head<'_>, edits: &mut Edits) {
        let ex = self.exchange;
        let authority = ex.facts.map_or("", |f| {
            std::str::from_utf8(f.authority.of(&request.input)).unwrap_or_default()
        });
        let names = self.origin_names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (public_prefix, upstream_prefix) =
            ex.route_plan().map_or(("", ""), |p| p.chain.prefixes());
        urls::rewrite_urls(
            head,
            edits,
            &UrlMap {
                server_hosts: &names,
                public_scheme: if ex.identity.https { "https" } else { "http" },
                public_authority: authority,
                public_prefix,
                upstream_prefix,
            },
        );
    }

    /// The names by which the origin may call itself.
    fn origin_names(&self) -> Vec<String> {
        let mut names = vec![
            self.lease.name().to_owned(),
            self.lease.target().to_string(),
        ];
        if let Target::Tcp(address) = self.lease.target() {
            names.push(address.ip().to_string());
        }
        let ex = self.exchange;
        if let Some(upstream) = ex
            .story
            .upstream
            .and_then(|u| ex.rt.runtime.config.upstreams.get(u))
        {
            for server in &upstream.servers {
                if let ServerAddress::Dns { host, port } = &server.address {
                    names.push(host.clone());
                    names.push(format!("{host}:{port}"));
                }
            }
        }
        names
    }
}

/// The length of what follows a head, if its last byte is the end. `goes_on`: trailers may follow, whatever the length.
fn length(framing: Body, goes_on: bool) -> Option<u64> {
    match framing {
        Body::None => Some(0),
        Body::Length(n) if !goes_on => Some(n),
        Body::Length(_) | Body::Chunked | Body::UntilClose => None,
    }
}
