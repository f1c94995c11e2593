//! Answers of our own: errors, redirects, fixed responses, probes. Whatever is answered before a request's body has been
//! taken either drains it or closes (CVE-2025-4366 is what happens otherwise).

use narthex_config::model::Action;
use narthex_message::head::Version;
use narthex_message::{Body, Edits, Head, Index, Method};
use narthex_net::rt;
use narthex_wire::h1::encode;

use crate::client_head::ClientHead;
use crate::connection::Next;
use crate::fail::Failure;
use crate::grpc;
use crate::handle::{Exchange, Upload};

/// One answer of our own.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) content_type: &'a str,
    pub(crate) body: &'a [u8],
    pub(crate) location: Option<&'a [u8]>,
    pub(crate) reason: Option<&'static str>,
    /// The connection must not be used again.
    pub(crate) close: bool,
    /// To a client of gRPC: said by this `grpc-status`, in a head alone.
    pub(crate) grpc: Option<u8>,
}

impl Exchange<'_> {
    /// Ends a request that failed before anything was sent.
    pub(crate) async fn fail(&mut self, failure: Failure) -> Next {
        if let Some(caching) = &self.caching {
            if caching.goes_on() {
                // The head is out: nothing can be said any more.
                self.story.failure = Some(failure);
                return Next::Reset;
            }
            if self.stands_in(failure) {
                return Next::Close;
            }
        }
        self.story.failure = Some(failure);
        self.story.status = failure.status();
        if failure == Failure::ClientGone {
            return Next::Close;
        }
        if failure == Failure::Shed {
            self.buffered = None;
            self.work.give_up_buffers();
        }
        // A request that could not be read leaves no boundary behind: nothing after it is looked at.
        let unreadable = matches!(
            failure,
            Failure::Reject(_) | Failure::ClientSlowBody | Failure::Shed | Failure::Misdirected
        );
        let status = failure.status();
        let page = self.site_config().and_then(|site| {
            narthex_filter::error_page::find(&site.error_pages, status)
                .map(|p| (p.content_type.clone(), std::sync::Arc::clone(&p.body)))
        });
        let text;
        let (content_type, body): (&str, &[u8]) = match &page {
            Some((content_type, body)) => (content_type, body.as_slice()),
            None => {
                text = plain_body(status, failure.word(), self.id());
                ("text/plain; charset=utf-8", text.as_slice())
            }
        };
        self.answer(Answer {
            status,
            content_type,
            body,
            location: None,
            reason: Some(failure.word()),
            close: unreadable,
            grpc: self.grpc_status(failure),
        })
        .await
    }

    /// A redirect or a fixed response.
    pub(crate) async fn answer_route(&mut self) -> Next {
        let rt = std::rc::Rc::clone(&self.rt);
        let action = self
            .site
            .and_then(|s| rt.runtime.config.sites.get(s))
            .and_then(|s| s.routes.get(self.route?))
            .map(|r| &r.action);
        let mut text = Vec::new();
        match action {
            Some(Action::Redirect { status, to }) => {
                if !self.with_values(None, |values| {
                    narthex_filter::location::location(to, values, &mut text)
                }) {
                    return self.fail(Failure::Rewrite).await;
                }
                let body = plain_body(*status, "", &[]);
                self.answer(Answer {
                    status: *status,
                    content_type: "text/plain; charset=utf-8",
                    body: &body,
                    location: Some(&text),
                    reason: None,
                    close: false,
                    grpc: None,
                })
                .await
            }
            Some(Action::Respond {
                status,
                content_type,
                body,
            }) => {
                self.with_values(None, |values| {
                    narthex_filter::template::render(body, values, &mut text)
                });
                self.answer(Answer {
                    status: *status,
                    content_type,
                    body: &text,
                    location: None,
                    reason: None,
                    close: false,
                    grpc: None,
                })
                .await
            }
            _ => self.fail(Failure::NoRoute).await,
        }
    }

    /// A probe's answer.
    pub(crate) async fn answer_probe(&mut self, well: bool) -> Next {
        let (status, body): (u16, &[u8]) = if well {
            (200, b"ok\n")
        } else {
            (503, b"not ready\n")
        };
        self.answer(Answer {
            status,
            content_type: "text/plain; charset=utf-8",
            body,
            location: None,
            reason: None,
            close: false,
            grpc: None,
        })
        .await
    }

    /// `OPTIONS` that ends here: there is nothing to say of the origin.
    pub(crate) async fn answer_options(&mut self) -> Next {
        self.answer(Answer {
            status: 204,
            content_type: "",
            body: b"",
            location: None,
            reason: None,
            close: false,
            grpc: None,
        })
        .await
    }

    /// Writes an answer and decides what becomes of the connection.
    pub(crate) async fn answer(&mut self, answer: Answer<'_>) -> Next {
        let drained = self.drain_at_hand();
        let keep = drained && !answer.close && self.keeps_alive();
        let mut out = std::mem::take(&mut self.work.down);
        out.clear();
        self.write_answer(&answer, keep, &mut out);
        let sent = self.send(&out).await;
        self.story.status = answer.status;
        self.story.sent += out.len() as u64;
        self.work.down = out;
        if let Err(failure) = sent {
            self.story.failure.get_or_insert(failure);
            return Next::Close;
        }
        if keep { Next::Keep } else { Next::Linger }
    }

    /// Takes a body that is at hand already; true if the request's end is reached.
    pub(crate) fn drain_at_hand(&mut self) -> bool {
        match self.upload {
            Upload::Whole => return true,
            Upload::Partly => return false,
            Upload::Untouched => {}
        }
        match self.facts.map(|f| f.body) {
            None => false,
            Some(Body::None | Body::Length(0) | Body::UntilClose) => true,
            Some(Body::Length(n)) => {
                let here = self.work.rest().len() as u64;
                if n <= here {
                    self.work.taken += n as usize;
                    self.story.received += n;
                }
                n <= here
            }
            Some(Body::Chunked) => false,
        }
    }

    /// Writes an answer to `out`; what has gone to the client's stream already is not in it.
    fn write_answer(&mut self, answer: &Answer<'_>, keep: bool, out: &mut Vec<u8>) {
        let start = out.len();
        let mut to = self.client_head(out);
        let status = answer.grpc.map_or(answer.status, |_| 200);
        to.status(status, encode::reason(status).as_bytes());
        to.line("Date", &self.proxy.date());
        let bodyless = answer.status == 204 || answer.status == 304 || answer.grpc.is_some();
        if let Some(code) = answer.grpc {
            let reason = answer.reason.unwrap_or_default();
            let message = format!("{} ({reason})", encode::reason(answer.status));
            let by_web = self.web.as_ref().and_then(|web| web.downwards(None));
            to.line("Content-Type", by_web.as_deref().unwrap_or(grpc::NAME));
            if self.client.h2.is_none() {
                to.length(0);
            }
            to.line("Grpc-Status", code.to_string().as_bytes());
            to.line("Grpc-Message", message.as_bytes());
        } else if !bodyless {
            to.line("Content-Type", answer.content_type.as_bytes());
            to.length(answer.body.len() as u64);
        }
        if let Some(location) = answer.location {
            to.line("Location", location);
        }
        if let Some(reason) = answer.reason {
            to.line("Narthex-Reason", reason.as_bytes());
            to.line("Cache-Control", b"no-store");
            if answer.status == 503 {
                to.line("Retry-After", b"1");
            }
            if answer.status == 405 {
                to.line("Allow", b"GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS");
            }
        }
        if self.facts.is_some() && self.rt.runtime.config.request_id.enabled {
            to.line(&self.rt.runtime.config.request_id.header, self.id());
        }
        let edits = self.answer_filters(answer.status);
        for (_, line) in edits.lines() {
            to.lines(line);
        }
        to.connection(self.connection_line(keep));
        to.end();
        self.work.response_edits = Some(edits);
        let content = !bodyless && !self.asks_for_head();
        let follows = if content { answer.body.len() as u64 } else { 0 };
        self.story.sent += self.begin_stream(out, start, Some(follows)) as u64;
        if content {
            out.extend_from_slice(answer.body);
            self.story.body_sent = answer.body.len() as u64;
        }
    }

    /// A head for this client, in its form.
    pub(crate) fn client_head<'o>(&self, out: &'o mut Vec<u8>) -> ClientHead<'o> {
        ClientHead::new(self.client.h2.is_some(), out)
    }

    /// What stands in `out` from `start` on is a head: on HTTP/2 the stream gets it at once. `length`: of what follows, if known.
    /// Bytes that have been sent so.
    pub(crate) fn begin_stream(
        &self,
        out: &mut Vec<u8>,
        start: usize,
        length: Option<u64>,
    ) -> usize {
        let Some(stream) = &self.client.h2 else {
            return 0;
        };
        let block = out.get(start..).unwrap_or_default();
        stream.begin(block, length);
        let sent = block.len();
        out.truncate(start);
        sent
    }

    /// `100 Continue`.
    pub(crate) fn write_continue(&self, out: &mut Vec<u8>) {
        match &self.client.h2 {
            Some(stream) => stream.go_on(),
            None => out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"),
        }
    }

    /// Is it a HEAD, as far as it was read? Its answer has no content, an error's neither (RFC 9110 9.3.2).
    fn asks_for_head(&self) -> bool {
        match self.facts {
            Some(facts) => facts.method == Method::Head,
            None => {
                let input = self.work.input.as_slice();
                input
                    .strip_prefix(b"\r\n")
                    .unwrap_or(input)
                    .starts_with(b"HEAD ")
            }
        }
    }

    /// What the route's response filters add to an answer of ours.
    #[expect(clippy::unnecessary_box_returns, reason = "the box is what is lent")]
    fn answer_filters(&mut self, status: u16) -> Box<Edits> {
        let mut edits = self.work.take_response_edits();
        edits.clear();
        if let Some(plan) = self.route_plan().filter(|p| p.chain.has_response()) {
            let index = Index::default();
            let none = Edits::default();
            let head = Head::new(b"", &index);
            self.with_values(Some((status, head, &none)), |values| {
                plan.chain.response(values, &mut edits)
            });
        }
        self.add_hsts(&mut edits);
        edits
    }

    /// `Connection`, where the version's default is not what we mean.
    pub(crate) fn connection_line(&self, keep: bool) -> &'static [u8] {
        if !keep {
            b"Connection: close\r\n"
        } else if self.version() == Version::Http10 {
            b"Connection: keep-alive\r\n"
        } else {
            b""
        }
    }

    /// Sends all, as long as the client keeps reading.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let idle = self.plan().map_or(0, |p| p.bounds.client_send_idle);
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.client.stream.try_send(rest) {
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    let deadline = rt::now_ms().saturating_add(idle);
                    let late = rt::timeout_at(deadline, self.client.stream.writable())
                        .await
                        .is_err();
                    if late && !self.client.stream.is_held_up() {
                        return Err(Failure::ClientSlowRead);
                    }
                }
                Err(_) => return Err(Failure::ClientGone),
            }
        }
        Ok(())
    }
}

/// A short text for people: what happened, in the words of the log.
fn plain_body(status: u16, word: &str, id: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    encode::decimal(u64::from(status), &mut out);
    out.push(b' ');
    out.extend_from_slice(encode::reason(status).as_bytes());
    if !word.is_empty() {
        out.extend_from_slice(b" (");
        out.extend_from_slice(word.as_bytes());
        out.push(b')');
    }
    if id.iter().any(|&b| b != b'0') {
        out.extend_from_slice(b"\nrequest ");
        out.extend_from_slice(id);
    }
    out.push(b'\n');
    out
}
