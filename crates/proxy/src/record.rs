//! What is known of a request when it ends: one record in the access log, one count in the metrics, for every outcome.

use narthex_message::head::Version;
use narthex_message::{FieldId, path};
use narthex_net::rt;
use narthex_observe::access_log::Record;
use narthex_upstream::ServerHandle;

use crate::cache::Shown;
use crate::core::CoreRuntime;
use crate::fail::Failure;
use crate::handle::Exchange;

/// The story of an exchange, as it is told at its end.
pub(crate) struct Story {
    started_us: u64,
    /// Nothing was asked: nothing is told.
    pub(crate) silent: bool,
    pub(crate) status: u16,
    pub(crate) sent: u64,
    pub(crate) body_sent: u64,
    pub(crate) received: u64,
    pub(crate) attempts: u32,
    pub(crate) upstream: Option<usize>,
    pub(crate) endpoint: Option<ServerHandle>,
    pub(crate) attempt_us: u64,
    pub(crate) attempt_ended_us: u64,
    pub(crate) failure: Option<Failure>,
    /// How the cache had part in it.
    pub(crate) cache: Option<Shown>,
}

impl Story {
    pub(crate) fn new(now_us: u64) -> Self {
        Self {
            started_us: now_us,
            silent: false,
            status: 0,
            sent: 0,
            body_sent: 0,
            received: 0,
            attempts: 0,
            upstream: None,
            endpoint: None,
            attempt_us: 0,
            attempt_ended_us: 0,
            failure: None,
            cache: None,
        }
    }

    pub(crate) fn upstream_name<'a>(&self, rt: &'a CoreRuntime) -> &'a str {
        self.upstream
            .and_then(|u| rt.clusters.get(u))
            .map_or("", |(c, _)| c.name())
    }

    pub(crate) fn server(&self) -> &str {
        self.endpoint.as_ref().map_or("", ServerHandle::name)
    }

    /// Microseconds of the last attempt, if there was one.
    fn upstream_us(&self, now_us: u64) -> Option<u64> {
        if self.attempts == 0 {
            return None;
        }
        let end = if self.attempt_ended_us == 0 {
            now_us
        } else {
            self.attempt_ended_us
        };
        Some(end.saturating_sub(self.attempt_us))
    }
}

impl Exchange<'_> {
    /// Tells the story, once.
    pub(crate) fn record(&self) {
        if self.story.silent {
            return;
        }
        let now_us = rt::now_us();
        let micros = now_us.saturating_sub(self.story.started_us);
        let core = self.proxy.core;
        let metrics = &self.proxy.shared.metrics;
        metrics.bytes_out.add(core, self.story.sent);
        if self.story.received > 0 {
            metrics.bytes_in.add(core, self.story.received);
        }
        if let Some(failure) = self.story.failure {
            self.proxy.failed(failure.word(), failure.fault());
        }
        if let Some(plan) = self.route_plan() {
            plan.metrics.ended(core, self.story.status, micros);
            if let (Some(cache), Some(shown)) = (&plan.cache, self.story.cache) {
                let fetch_us = self.story.upstream_us(now_us);
                cache.ended(core, shown, self.story.body_sent, fetch_us);
            }
        } else if let Some(site) = self.site.and_then(|s| self.rt.runtime.sites.get(s)) {
            site.no_route.ended(core, self.story.status, micros);
        } else {
            self.proxy.no_site.ended(core, self.story.status, micros);
        }
        if let (Some(upstream), Some(us)) = (self.story.upstream, self.story.upstream_us(now_us))
            && let Some((_, metrics)) = self.rt.clusters.get(upstream)
        {
            metrics.duration.observe(core, us);
            if self.story.attempts > 1 {
                metrics
                    .retries
                    .add(core, u64::from(self.story.attempts - 1));
            }
        }
        self.log(now_us, micros);
    }

    /// The site's access log; the first log of the configuration for requests that no site takes.
    fn log(&self, now_us: u64, micros: u64) {
        let log = match self.site_config() {
            Some(site) => site.access_log,
            None => self
                .rt
                .runtime
                .config
                .sites
                .iter()
                .find_map(|s| s.access_log),
        };
        let Some(log) = log else { return };
        let Some(handle) = self.rt.logs.get(log) else {
            return;
        };
        let head = self.head();
        let target = self
            .facts
            .map_or(head.target(), |f| f.path.of(&self.work.input));
        let (path, query) = path::split_target(target);
        let failure = self.story.failure;
        let mut record = Record {
            time_ms: rt::wall_ms(),
            client: self
                .identity
                .ip
                .or_else(|| crate::identity::peer_ip(self.client.peer)),
            client_port: self.identity.port,
            user: b"",
            method: head.method(),
            scheme: if self.identity.https { "https" } else { "http" },
            authority: self
                .facts
                .map_or(&[][..], |f| f.authority.of(&self.work.input)),
            path,
            query,
            tls: self.client.tls.as_ref().map(|tls| tls.record()),
            protocol: match self.version() {
                Version::Http10 => "HTTP/1.0",
                Version::Http11 => "HTTP/1.1",
                Version::Http2 => "HTTP/2.0",
            },
            status: self.story.status,
            bytes_sent: self.story.body_sent,
            bytes_received: self.story.received,
            duration_us: micros,
            upstream: self.story.upstream_name(&self.rt),
            server: self.story.server(),
            attempts: self.story.attempts,
            upstream_us: self.story.upstream_us(now_us),
            cache: self.story.cache.map_or("", Shown::word),
            request_id: if self.rt.runtime.config.request_id.enabled && self.facts.is_some() {
                self.id()
            } else {
                b""
            },
            site: self.site_config().map_or("", |s| &s.name),
            route: self.route_config().map_or("", |r| &r.name),
            outcome: failure.map_or("ok", Failure::outcome),
            fault: failure.map_or("none", Failure::fault),
            reason: failure.map_or("", Failure::word),
            user_agent: head.get(FieldId::UserAgent).unwrap_or_default(),
            referer: head.get(FieldId::Referer).unwrap_or_default(),
            extras: &[],
        };
        let Some((_, plan)) = self.rt.runtime.logs.get(log) else {
            return;
        };
        if plan.extras.is_empty() {
            handle.borrow_mut().log(&record);
            return;
        }
        let values: Vec<Vec<u8>> = plan.extras.iter().map(|t| self.extra(t)).collect();
        let extras: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        record.extras = &extras;
        handle.borrow_mut().log(&record);
    }

    fn extra(&self, template: &narthex_config::model::Template) -> Vec<u8> {
        let mut out = Vec::new();
        self.with_values(None, |values| {
            narthex_filter::template::render(template, values, &mut out)
        });
        out
    }
}
