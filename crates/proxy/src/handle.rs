//! One request, from its first byte to its record in the log.
//!
//! read the head -> validate -> who is asking -> canonical host and path -> route -> request filters -> answer or forward
//! -> drain or close -> one record, for every outcome.

use std::io;
use std::rc::Rc;
use std::task::Poll;

use narthex_config::model::{Action, CertificatePart, Protocol, Route, Site};
use narthex_filter::chain::{Target, Verdict};
use narthex_filter::values::Values;
use narthex_message::authority;
use narthex_message::head::Version;
use narthex_message::path::{self, Canonical};
use narthex_message::{Head, Method, Reject, RequestFacts, Span, validate};
use narthex_net::rt;
use narthex_net::scratch;
use narthex_route::{Fields, Query, Router};
use narthex_upstream::Admission;
use narthex_wire::h1::scan::{self, Progress};

use crate::account::Account;
use crate::cache::Caching;
use crate::connection::{Client, Next};
use crate::context::context;
use crate::core::{CoreProxy, CoreRuntime};
use crate::fail::Failure;
use crate::grpc_web;
use crate::host_cache::Known;
use crate::identity::{self, Identity};
use crate::late;
use crate::max_forwards;
use crate::record::Story;
use crate::request_head::allows_upgrade;
use crate::runtime::{ListenerPlan, RoutePlan};
use crate::spool::SpooledBody;
use crate::tls::Session;
use crate::trailer;
use crate::work::Work;

/// Bytes asked for when a head is expected: enough for any usual one, little enough to copy what follows it.
const HEAD_READ: usize = 16 * 1024;

/// One request under way.
pub(crate) struct Exchange<'c> {
    pub(crate) proxy: &'c Rc<CoreProxy>,
    pub(crate) client: &'c mut Client,
    pub(crate) rt: Rc<CoreRuntime>,
    pub(crate) listener: usize,
    /// The listener is gone from the configuration: this is the connection's last request.
    pub(crate) retired: bool,
    pub(crate) work: Box<Work>,
    /// What is held in buffers.
    pub(crate) account: Account<'c>,
    pub(crate) facts: Option<RequestFacts>,
    pub(crate) identity: Identity,
    /// Canonical host; where it stands.
    pub(crate) host: Text,
    /// Canonical path; where it stands.
    pub(crate) path: Text,
    /// Query, in the input.
    pub(crate) query: Option<Span>,
    /// Path and query after the filters, if they changed them.
    pub(crate) target: Target,
    pub(crate) site: Option<usize>,
    pub(crate) route: Option<usize>,
    pub(crate) request_id: [u8; 32],
    /// The request's own identity, kept from a trusted peer: in the input.
    pub(crate) given_id: Option<Span>,
    /// The request's body, if it was taken whole before it is forwarded.
    pub(crate) buffered: Option<SpooledBody>,
    /// The request's place among those of its upstream.
    pub(crate) admission: Admission,
    /// How much of the body has been taken from the client.
    pub(crate) upload: Upload,
    /// The call by gRPC-Web that is translated.
    pub(crate) web: Option<Box<grpc_web::Call>>,
    /// Value of a `Set-Cookie` that the answer carries for us.
    pub(crate) cookie: Option<Vec<u8>>,
    pub(crate) story: Story,
    /// What the cache has to do with it, while the origin is asked.
    pub(crate) caching: Option<Box<Caching>>,
}

/// How much of a request's body has been taken from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upload {
    Untouched,
    Partly,
    Whole,
}

/// A piece of text that is usually just a range of the input.
#[derive(Debug, Clone)]
pub(crate) enum Text {
    /// In the request's bytes, which are canonical as they are.
    Input(Span),
    /// Rewritten.
    Owned(String),
    /// In `Work::path`.
    Path,
}

impl Default for Text {
    fn default() -> Self {
        Self::Input(Span::default())
    }
}

impl Text {
    /// The bytes: for writing, where nothing asks whether they are UTF-8 (they are ASCII).
    pub(crate) fn bytes<'a>(&'a self, work: &'a Work) -> &'a [u8] {
        match self {
            Self::Input(span) => span.of(&work.input),
            Self::Owned(text) => text.as_bytes(),
            Self::Path => work.path.as_bytes(),
        }
    }

    pub(crate) fn of<'a>(&'a self, work: &'a Work) -> &'a str {
        self.within(&work.input, &work.path)
    }

    /// As [`Text::of`], of the parts of the work that it may stand in.
    fn within<'a>(&'a self, input: &'a [u8], path: &'a str) -> &'a str {
        match self {
            Self::Input(span) => std::str::from_utf8(span.of(input)).unwrap_or_default(),
            Self::Owned(text) => text,
            Self::Path => path,
        }
    }
}

/// Counts a request under way.
pub(crate) struct Busy<'a>(&'a CoreProxy);

impl<'a> Busy<'a> {
    pub(crate) fn new(proxy: &'a CoreProxy) -> Self {
        proxy.busy.set(proxy.busy.get() + 1);
        Self(proxy)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get().saturating_sub(1));
    }
}

/// Serves one request of a connection.
pub(crate) async fn exchange(proxy: &Rc<CoreProxy>, client: &mut Client) -> Next {
    let mut work = proxy.take_work();
    // The pool's buffer stays with the work: an idle connection owns none.
    if !client.input.is_empty() {
        work.input.extend_from_slice(&client.input);
        client.input = Vec::new();
    }
    let Some(mut exchange) = Exchange::of(proxy, client, work) else {
        return Next::Close;
    };
    let _busy = Busy::new(proxy);
    let next = exchange.run().await;
    exchange.end(next);
    proxy.give_work(exchange.work);
    next
}

/// Serves one request whose head is in `work` already: of a stream of HTTP/2. `refused`: it is too large.
pub(crate) async fn exchange_of(
    proxy: &Rc<CoreProxy>,
    client: &mut Client,
    work: Box<Work>,
    refused: Option<Reject>,
) -> Next {
    let Some(mut exchange) = Exchange::of(proxy, client, work) else {
        return Next::Reset;
    };
    let _busy = Busy::new(proxy);
    exchange.work.taken = exchange.work.input.len();
    let next = match refused {
        Some(reject) => exchange.fail(Failure::Reject(reject)).await,
        None => exchange.serve().await,
    };
    let next = exchange.end_stream(next);
    exchange.record();
    proxy.give_work(exchange.work);
    next
}

/// How a client begins that knows that we speak HTTP/2 (RFC 9113 3.4): its first line.
const HTTP2_LINE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// What is to be done with a request that has been routed.
enum Plan {
    /// A fixed answer or redirect.
    Answer,
    /// Forward to this upstream.
    Forward(usize),
    /// Answer from the cache, or forward.
    Cached(usize),
    /// 200 or 503 for a probe.
    Probe(bool),
    /// `OPTIONS` that must not go further.
    LastHop,
    /// The cache forgets what a GET of it has got.
    Purge,
    /// What a certificate authority asks for.
    Token(std::sync::Arc<str>),
}

impl<'c> Exchange<'c> {
    /// A request that begins. `None`: its listener is gone, and so is the configuration before this one. Made where it stays,
    /// in its caller's future: it is large.
    #[inline(always)]
    pub(crate) fn of(
        proxy: &'c Rc<CoreProxy>,
        client: &'c mut Client,
        work: Box<Work>,
    ) -> Option<Self> {
        let (rt, listener, live) = proxy.runtime_for(client.listener)?;
        Some(Self {
            story: Story::new(rt::now_us()),
            proxy,
            client,
            rt,
            listener,
            retired: !live,
            work,
            account: proxy.ledger.open(),
            facts: None,
            identity: Identity {
                ip: None,
                port: 0,
                trusted_peer: false,
                https: false,
            },
            host: Text::default(),
            path: Text::default(),
            query: None,
            target: Target::default(),
            site: None,
            route: None,
            request_id: [b'0'; 32],
            given_id: None,
            buffered: None,
            web: None,
            cookie: None,
            admission: Admission::default(),
            upload: Upload::Untouched,
            caching: None,
        })
    }
}

impl Exchange<'_> {
    async fn run(&mut self) -> Next {
        let read = match self.take_head() {
            Some(read) => read,
            None => self.read_head().await,
        };
        match read {
            Ok(true) => {}
            Ok(false) => {
                self.story.silent = true;
                return Next::Close;
            }
            Err(_) if self.is_http2() => {
                self.story.silent = true;
                self.client.input = std::mem::take(&mut self.work.input);
                return Next::Http2;
            }
            Err(failure) => return self.fail(failure).await,
        }
        self.serve().await
    }

    /// Is a version spoken here that the listener does not?
    fn speaks_otherwise(&self) -> bool {
        self.client.h2.is_none() && self.plan().is_some_and(|plan| !plan.h1)
    }

    /// Has the client begun as one does that knows that we speak HTTP/2 (RFC 9113 3.3)?
    fn is_http2(&self) -> bool {
        self.client.requests == 0 && self.work.input.starts_with(HTTP2_LINE) && self.speaks_http2()
    }

    /// The same, as far as it has come: HTTP/1's scanner would refuse it before it is whole.
    fn may_become_http2(&self) -> bool {
        self.client.requests == 0 && HTTP2_LINE.starts_with(&self.work.input) && self.speaks_http2()
    }

    fn speaks_http2(&self) -> bool {
        let listener = self.rt.runtime.config.listeners.get(self.listener);
        !self.client.is_secure() && listener.is_some_and(|l| l.protocols.contains(&Protocol::Http2))
    }

    /// The end of an answer on a stream of HTTP/2: with trailers if there are any, or so that it does not look complete.
    fn end_stream(&mut self, next: Next) -> Next {
        let Some(stream) = &self.client.h2 else {
            return next;
        };
        let cut = next == Next::Close && self.story.failure.is_some();
        if cut || next == Next::Reset {
            return Next::Reset;
        }
        let mut block = std::mem::take(&mut self.work.down);
        block.clear();
        if !self.work.response_trailers.is_empty() {
            let limits = self.plan().map(|p| p.bounds.trailer_limits);
            if let Some(limits) = limits {
                let mut lines = Vec::new();
                trailer::copy(&self.work.response_trailers, &limits, &mut lines);
                narthex_wire::h2::encode::lines(&lines, &mut block);
            }
        }
        stream.finish(&block);
        self.work.down = block;
        next
    }

    /// The head is here.
    async fn serve(&mut self) -> Next {
        self.client.requests = self.client.requests.saturating_add(1);
        match self.decide() {
            Ok(Plan::Forward(upstream)) => self.forward(upstream).await,
            Ok(Plan::Cached(upstream)) => rt::Recycled::new(|| self.cached(upstream)).await,
            Ok(Plan::Answer) => self.answer_route().await,
            Ok(Plan::Probe(ready)) => self.answer_probe(ready).await,
            Ok(Plan::LastHop) => self.answer_options().await,
            Ok(Plan::Purge) => self.answer_purge().await,
            Ok(Plan::Token(answer)) => self.answer_token(&answer).await,
            Err(failure) => self.fail(failure).await,
        }
    }

    pub(crate) fn plan(&self) -> Option<&ListenerPlan> {
        self.rt.runtime.listeners.get(self.listener)
    }

    #[inline]
    pub(crate) fn site_config(&self) -> Option<&Site> {
        self.rt.runtime.config.sites.get(self.site?)
    }

    #[inline]
    pub(crate) fn route_config(&self) -> Option<&Route> {
        self.site_config()?.routes.get(self.route?)
    }

    pub(crate) fn route_plan(&self) -> Option<&RoutePlan> {
        self.rt
            .runtime
            .sites
            .get(self.site?)?
            .routes
            .get(self.route?)
    }

    pub(crate) fn head(&self) -> Head<'_> {
        Head::new(&self.work.input, &self.work.index)
    }

    pub(crate) fn version(&self) -> Version {
        self.facts.map_or(Version::Http11, |f| f.version)
    }

    /// Takes what there is of a head into `work.input`, and says what it is; `None` if more must come. False: the client left
    /// before it sent anything.
    #[inline(always)]
    fn take_head(&mut self) -> Option<Result<bool, Failure>> {
        loop {
            if !self.work.input.is_empty() && !self.may_become_http2() {
                let Some(plan) = self.rt.runtime.listeners.get(self.listener) else {
                    return Some(Ok(false));
                };
                let work = &mut *self.work;
                match scan::request(&work.input, &mut work.index, &plan.head_limits) {
                    Ok(Progress::Complete(end)) => {
                        work.taken = end;
                        return Some(Ok(true));
                    }
                    Ok(Progress::Partial) => {}
                    Err(reject) => return Some(Err(Failure::Reject(reject))),
                }
            }
            match self.receive() {
                Ok(1..) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return None,
                // The end, or an error.
                Ok(0) | Err(_) => {
                    return Some(if self.work.input.is_empty() {
                        Ok(false)
                    } else {
                        Err(Failure::ClientGone)
                    });
                }
            }
        }
    }

    /// Waits for a whole head. False: the client left, or kept silent, before it sent anything.
    async fn read_head(&mut self) -> Result<bool, Failure> {
        let Some(header_ms) = self.plan().map(|plan| plan.header_ms) else {
            return Ok(false);
        };
        // Absolute: counted from the connection's start for its first request, from the first byte for the others.
        let from = if self.client.requests == 0 {
            self.client.opened_ms
        } else {
            rt::now_ms()
        };
        let deadline = from.saturating_add(header_ms);
        loop {
            if !self.wait_for_more(deadline).await? {
                // A connection that never said anything is closed without a word.
                return if self.work.input.is_empty() {
                    Ok(false)
                } else {
                    Err(Failure::Reject(Reject::HeadTimeout))
                };
            }
            if let Some(read) = self.take_head() {
                return read;
            }
        }
    }

    /// Waits for more of the head; false if the time is over.
    async fn wait_for_more(&self, deadline: u64) -> Result<bool, Failure> {
        let wait = |this: &mut &Self, _: &mut std::task::Context<'_>| {
            if this.client.stream.poll_readable().is_ready() {
                return Poll::Ready(Ok(true));
            }
            rt::poll_deadline(deadline).map(|()| Ok(false))
        };
        let mut this = self;
        std::future::poll_fn(|cx| {
            self.account
                .poll(&mut this, cx, wait, |this| this.work.held())
        })
        .await
    }

    /// Takes what has arrived, by way of the scratch buffer: the request's memory is as large as what came.
    #[inline(always)]
    fn receive(&mut self) -> io::Result<usize> {
        scratch::with(|buffer| {
            let area = buffer.get_mut(..HEAD_READ).unwrap_or_default();
            let n = self.client.stream.try_recv(area)?;
            self.work
                .input
                .extend_from_slice(area.get(..n).unwrap_or_default());
            Ok(n)
        })
    }

    /// Everything up to the first wait: what is asked, by whom, of whom, and what we do about it.
    fn decide(&mut self) -> Result<Plan, Failure> {
        let facts = validate::request(self.head()).map_err(Failure::Reject)?;
        self.facts = Some(facts);
        if self.speaks_otherwise() {
            return Err(Failure::Reject(Reject::Version));
        }
        self.identity = identity::identify(
            self.client.peer,
            &self.rt.runtime.config.trusted_proxies,
            self.head(),
        );
        self.identity.https |= self.client.is_secure();
        self.name_request();
        self.disbelieve();
        let site = self.canonical_host(&facts)?;
        if let Some(ready) = self.probe(&facts) {
            return Ok(Plan::Probe(ready));
        }
        if let Some(answer) = self.challenge(&facts) {
            return Ok(Plan::Token(answer));
        }
        let site = site.ok_or(Failure::NoSite)?;
        if !self.may_ask(site) {
            return Err(Failure::Misdirected);
        }
        self.site = Some(site);
        self.canonical_path(&facts, self.rt.router.merge_slashes(site))?;
        self.not_blocked()?;
        if facts.method == Method::Other && self.may_purge(&facts) {
            return Ok(Plan::Purge);
        }
        self.find_route(site)?;
        self.web = self.called_by_web();
        let rt = Rc::clone(&self.rt);
        let route = rt
            .runtime
            .config
            .sites
            .get(site)
            .and_then(|s| s.routes.get(self.route?))
            .ok_or(Failure::NoRoute)?;
        if late::refuses(&rt.runtime.config, route.settings.priority) {
            let metrics = &self.proxy.shared.metrics;
            metrics.shed(self.proxy.core, route.settings.priority);
            return Err(Failure::Overload);
        }
        if let (Some(max), validate::Body::Length(length)) = (route.settings.body_max, facts.body)
            && length > max
        {
            return Err(Failure::BodyTooLarge);
        }
        let bodyless = matches!(facts.method, Method::Get | Method::Head | Method::Delete);
        if route.settings.reject_body_on_get
            && bodyless
            && (!facts.body.is_empty() || self.goes_on())
        {
            return Err(Failure::Reject(Reject::BodyNotAllowed));
        }
        if facts.version == Version::Http2
            && let Some(protocol) = facts.upgrade
            && !allows_upgrade(protocol.of(&self.work.input), &route.settings)
        {
            return Err(Failure::Reject(Reject::Connect));
        }
        self.filter_request()?;
        let forwards = matches!(route.action, Action::Proxy(_) | Action::Split(_));
        if forwards && facts.method == Method::Options && self.is_last_hop() {
            return Ok(Plan::LastHop);
        }
        let forward = match route.settings.cache {
            Some(_) => Plan::Cached,
            None => Plan::Forward,
        };
        match &route.action {
            Action::Proxy(upstream) => Ok(forward(*upstream)),
            Action::Split(split) => Ok(forward(self.choose(split))),
            Action::Redirect { .. } | Action::Respond { .. } => Ok(Plan::Answer),
        }
    }

    fn is_last_hop(&mut self) -> bool {
        let mut edits = std::mem::take(&mut self.work.edits);
        let last = max_forwards::is_used_up(self.head(), &mut edits);
        self.work.edits = edits;
        last
    }

    /// The request's identity: a trusted peer's, if that is configured and it is sane, else our own.
    #[inline]
    fn name_request(&mut self) {
        let rule = &self.rt.runtime.config.request_id;
        if !rule.enabled {
            return;
        }
        if rule.trust && self.identity.trusted_peer {
            let sane = |v: &[u8]| {
                !v.is_empty() && v.len() <= 128 && v.iter().all(|&b| validate::is_token_byte(b))
            };
            let found = self.work.index.fields.iter().find(|f| {
                f.name
                    .of(&self.work.input)
                    .eq_ignore_ascii_case(rule.header.as_bytes())
                    && sane(f.value.of(&self.work.input))
            });
            self.given_id = found.map(|f| f.value);
        }
        if self.given_id.is_none() {
            self.request_id = self.proxy.request_id();
        }
    }

    pub(crate) fn id(&self) -> &[u8] {
        match self.given_id {
            Some(span) => span.of(&self.work.input),
            None => &self.request_id,
        }
    }

    /// The canonical host, and the site that answers for it.
    #[inline]
    fn canonical_host(&mut self, facts: &RequestFacts) -> Result<Option<usize>, Failure> {
        let raw = facts.authority.of(&self.work.input);
        // HTTP/1.0 knew no Host: such a request is for the default site.
        let absent = !self.work.index.present.has(narthex_message::FieldId::Host);
        if raw.is_empty() && absent && facts.version == Version::Http10 {
            return Ok(self.rt.router.site(self.listener, ""));
        }
        let start = facts.authority.start as usize;
        if let Some(known) = self.rt.hosts.borrow().get(self.listener, raw) {
            self.host = Text::Input(Span::new(start, start + known.host_len));
            return Ok(known.site);
        }
        let parsed = authority::parse(raw).map_err(|_| Failure::Reject(Reject::HostInvalid))?;
        let site = self.rt.router.site(self.listener, &parsed.host);
        self.host = match parsed.host {
            std::borrow::Cow::Borrowed(host) => {
                // Borrowed from the front of the raw authority.
                let host_len = host.len();
                let known = Known { host_len, site };
                self.rt.hosts.borrow_mut().put(self.listener, raw, known);
                Text::Input(Span::new(start, start + host_len))
            }
            std::borrow::Cow::Owned(host) => Text::Owned(host),
        };
        Ok(site)
    }

    /// Is this a liveness or readiness probe of the listener? The answer, if so.
    #[inline]
    fn probe(&self, facts: &RequestFacts) -> Option<bool> {
        let listener = self.rt.runtime.config.listeners.get(self.listener)?;
        if listener.liveness.is_none() && listener.readiness.is_none()
            || !matches!(facts.method, Method::Get | Method::Head)
        {
            return None;
        }
        let (path, _) = path::split_target(facts.path.of(&self.work.input));
        let is = |probe: &Option<String>| probe.as_ref().is_some_and(|p| p.as_bytes() == path);
        if is(&listener.liveness) {
            return Some(true);
        }
        is(&listener.readiness).then(|| self.proxy.shared.is_ready() && !self.proxy.is_draining())
    }

    #[inline(always)]
    fn canonical_path(&mut self, facts: &RequestFacts, merge_slashes: bool) -> Result<(), Failure> {
        let bad = Failure::Reject(Reject::Path);
        if facts.asks_server() {
            self.path = Text::Owned("*".to_owned());
            return Ok(());
        }
        let target = facts.path.of(&self.work.input);
        if target.contains(&b'#') {
            return Err(Failure::Reject(Reject::Target));
        }
        let (raw, query) = path::split_target(target);
        let start = facts.path.start as usize;
        let raw_span = Span::new(start, start + raw.len());
        self.query =
            query.map(|q| Span::new(start + raw.len() + 1, start + raw.len() + 1 + q.len()));
        // An absolute target without path.
        if raw.is_empty() {
            self.path = Text::Owned("/".to_owned());
            return Ok(());
        }
        let mut out = std::mem::take(&mut self.work.path);
        let canonical = path::canonicalise(raw_span.of(&self.work.input), merge_slashes, &mut out);
        self.work.path = out;
        self.path = match canonical.map_err(|_| bad)? {
            Canonical::Unchanged => Text::Input(raw_span),
            Canonical::Rewritten => Text::Path,
        };
        Ok(())
    }

    #[inline(always)]
    fn find_route(&mut self, site: usize) -> Result<(), Failure> {
        // The rest of the work is lent to the query.
        let work = &mut *self.work;
        let head = Head::new(&work.input, &work.index);
        let fields = HeadFields {
            head,
            tls: self.client.tls.as_deref(),
        };
        let query = Query {
            host: "",
            path: self.path.within(&work.input, &work.path),
            method: method_name(self.facts, head),
            client: self.identity.ip.unwrap_or(NOBODY),
            query: self.query.map_or(&[][..], |q| q.of(&work.input)),
            fields: &fields,
        };
        let route = self
            .rt
            .router
            .route_into(site, &query, &mut work.captures)
            .ok_or(Failure::NoRoute)?;
        self.route = Some(route);
        Ok(())
    }

    /// Lends what the router asks of a request.
    #[inline]
    pub(crate) fn with_query<T>(&self, f: impl FnOnce(&Router, &Query<'_>) -> T) -> T {
        let work = &*self.work;
        let head = Head::new(&work.input, &work.index);
        let path = self.path.within(&work.input, &work.path);
        let method = method_name(self.facts, head);
        let query = self.query.map(|q| q.of(&work.input));
        self.with_query_of(head, method, path, query, f)
    }

    /// As [`Exchange::with_query`], of another target or method.
    #[inline]
    pub(crate) fn with_query_of<T>(
        &self,
        head: Head<'_>,
        method: &str,
        path: &str,
        query: Option<&[u8]>,
        f: impl FnOnce(&Router, &Query<'_>) -> T,
    ) -> T {
        let fields = HeadFields {
            head,
            tls: self.client.tls.as_deref(),
        };
        let query = Query {
            host: "",
            path,
            method,
            client: self.identity.ip.unwrap_or(NOBODY),
            query: query.unwrap_or_default(),
            fields: &fields,
        };
        f(&self.rt.router, &query)
    }

    #[inline]
    fn filter_request(&mut self) -> Result<(), Failure> {
        if !self.route_plan().is_some_and(|p| p.chain.has_request()) {
            return Ok(());
        }
        self.run_request_filters()
    }

    #[inline(never)]
    fn run_request_filters(&mut self) -> Result<(), Failure> {
        let rt = Rc::clone(&self.rt);
        let Some(plan) = self
            .site
            .and_then(|s| rt.runtime.sites.get(s))
            .and_then(|s| s.routes.get(self.route?))
        else {
            return Ok(());
        };
        let mut edits = std::mem::take(&mut self.work.edits);
        let mut target = Target::default();
        let verdict = self.with_values(None, |values| {
            plan.chain.request(values, &mut edits, &mut target)
        });
        self.work.edits = edits;
        self.target = target;
        match verdict {
            Verdict::Continue => Ok(()),
            Verdict::Refused => Err(Failure::Denied),
            Verdict::Broken => Err(Failure::Rewrite),
        }
    }

    /// Weighted choice: by a value's hash if one is named, else by chance.
    fn choose(&self, split: &narthex_config::model::Split) -> usize {
        let random = match &split.by {
            Some(template) => {
                let mut value = Vec::new();
                self.with_values(None, |values| {
                    narthex_filter::template::render(template, values, &mut value)
                });
                if value.is_empty() {
                    self.proxy.random()
                } else {
                    fnv(&value)
                }
            }
            None => self.proxy.random(),
        };
        let mut at = (random >> 11) % 10_000;
        for (upstream, weight) in &split.to {
            let weight = u64::from(*weight);
            if at < weight {
                return *upstream;
            }
            at -= weight;
        }
        split.to.last().map_or(0, |(upstream, _)| *upstream)
    }

    /// Lends everything that a template may ask for.
    pub(crate) fn with_values<T>(
        &self,
        response: Option<(u16, Head<'_>, &narthex_message::Edits)>,
        f: impl FnOnce(&Values<'_>) -> T,
    ) -> T {
        context(self, &self.work, &self.work.edits, response, f)
    }

    /// The request's record; what has come of the next request is kept with the connection.
    #[inline]
    fn end(&mut self, next: Next) {
        self.record();
        let rest = self.work.rest();
        if next == Next::Keep && !rest.is_empty() {
            self.client.input = rest.to_vec();
        }
    }

    /// May the connection carry another request, as far as we are concerned?
    #[inline]
    pub(crate) fn keeps_alive(&self) -> bool {
        let Some(plan) = self.plan() else {
            return false;
        };
        let Some(listener) = self.rt.runtime.config.listeners.get(self.listener) else {
            return false;
        };
        self.facts.is_some_and(|f| f.keep_alive)
            && !self.retired
            && !self.proxy.is_draining()
            && self.client.requests < listener.connections.requests
            && (plan.max_age_ms == 0
                || rt::now_ms().saturating_sub(self.client.opened_ms) < plan.max_age_ms)
            && !self.proxy.ends_keep_alive()
    }
}

/// Who asks over a unix socket.
const NOBODY: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn method_name(facts: Option<RequestFacts>, head: Head<'_>) -> &str {
    facts
        .and_then(|f| f.method.name())
        .unwrap_or_else(|| std::str::from_utf8(head.method()).unwrap_or_default())
}

/// Header fields as the router asks for them.
struct HeadFields<'a> {
    head: Head<'a>,
    tls: Option<&'a Session>,
}

impl Fields for HeadFields<'_> {
    fn each(&self, name: &str, each: &mut dyn FnMut(&[u8]) -> bool) {
        for value in self.head.named(name.as_bytes()) {
            if !each(value) {
                return;
            }
        }
    }

    fn certificate(&self, part: CertificatePart) -> &str {
        let Some(client) = self.tls.and_then(|tls| tls.client.as_ref()) else {
            return "";
        };
        match part {
            CertificatePart::Subject => &client.subject,
            CertificatePart::Issuer => &client.issuer,
            CertificatePart::Serial => &client.serial,
            CertificatePart::Fingerprint => &client.fingerprint,
        }
    }
}

/// FNV-1a: the same value always gets the same choice.
fn fnv(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for &b in bytes {
        hash = (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^ (hash >> 29)
}
