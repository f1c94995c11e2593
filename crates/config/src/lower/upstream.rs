//! Upstreams: named ones, and anonymous ones of a literal `proxy "address"`.

use std::collections::HashMap;

use crate::check::Problems;
use crate::model::{Adaptive, Balance, HashBalance, Hedge, Order, Retry, Server, Upstream};
use crate::problem::did_you_mean;
use crate::raw::{Item, Val};
use crate::source::Span;

use super::context::{Context, set};
use super::{address, path, template, tls};

mod discover;
mod health;
mod sticky;

/// Servers of one upstream.
pub const MAX_SERVERS: usize = 10_000;

/// All upstreams, by name.
#[derive(Debug, Default)]
pub struct Upstreams {
    /// Named ones in written order, then anonymous ones in the order of their use.
    pub list: Vec<Upstream>,
    by_name: HashMap<String, usize>,
    written: Vec<(Span, bool)>,
    named: usize,
}

impl Upstreams {
    /// Reads every `upstream`.
    pub fn read(ctx: &mut Context<'_>, items: &[Item<'_>]) -> Self {
        let mut all = Self::default();
        for item in items {
            let Some((name, span)) = item.arg_text(0) else {
                continue;
            };
            if let Some(first) = all.by_name.get(name) {
                let first = all.written.get(*first).map(|w| w.0).unwrap_or_default();
                ctx.problems.error_at(
                    "duplicate-name",
                    span,
                    format!("two upstreams are called \"{name}\""),
                    "give each a name of its own",
                    (first, "the first one"),
                );
            }
            check_name(ctx, name, span);
            let upstream = upstream(ctx, item, name);
            all.by_name.entry(name.to_owned()).or_insert(all.list.len());
            all.list.push(upstream);
            all.written.push((span, false));
        }
        all.named = all.list.len();
        all
    }

    /// The upstream that `proxy` or `to` means by these texts.
    pub fn resolve(&mut self, ctx: &mut Context<'_>, texts: &[(&str, Span)]) -> Option<usize> {
        if let [(name, _)] = texts
            && let Some(index) = self.by_name.get(*name).copied()
        {
            if let Some(written) = self.written.get_mut(index) {
                written.1 = true;
            }
            return Some(index);
        }
        let mut servers: Vec<Server> = Vec::with_capacity(texts.len());
        let mut good = true;
        for (text, span) in texts {
            match address::server(text) {
                Ok(address) => servers.push(Server::new(*text, address)),
                Err(wrong) => {
                    good = false;
                    self.unresolved(ctx, text, *span, texts.len() > 1, wrong.1);
                }
            }
        }
        let first = texts.first().map(|t| t.1)?;
        check_servers(
            ctx,
            &servers,
            &texts.iter().map(|t| t.1).collect::<Vec<_>>(),
        );
        good.then(|| self.anonymous(ctx, servers, first))
    }

    fn unresolved(
        &self,
        ctx: &mut Context<'_>,
        text: &str,
        span: Span,
        several: bool,
        address_help: String,
    ) {
        if several && self.by_name.contains_key(text) {
            let message = format!("\"{text}\" is an upstream, and an upstream stands alone");
            return ctx.error(
                "unresolved-name",
                span,
                message,
                "use `split` to share between upstreams",
            );
        }
        let message = format!("\"{text}\" is neither an upstream of this file nor an address");
        let near = did_you_mean(text, self.by_name.keys().map(String::as_str));
        let help = match near {
            Some(near) => format!("did you mean \"{near}\"?"),
            None if text.contains(['.', ':', '/']) => address_help,
            None => format!(
                "write `upstream \"{text}\" {{ server \"address:port\" }}`, or {address_help}"
            ),
        };
        ctx.error("unresolved-name", span, message, help);
    }

    fn anonymous(&mut self, ctx: &Context<'_>, servers: Vec<Server>, span: Span) -> usize {
        let name = servers
            .iter()
            .map(|s| s.name.as_str())
            .collect::<Vec<_>>()
            .join(",");
        if let Some(index) = self.by_name.get(&name) {
            return *index;
        }
        let index = self.list.len();
        self.by_name.insert(name.clone(), index);
        self.list.push(Upstream {
            servers,
            origin: ctx.origin(span),
            ..Upstream::new(name)
        });
        index
    }

    /// Warns of upstreams that nobody uses.
    pub fn warn_unused(&self, ctx: &mut Context<'_>) {
        for (upstream, (span, used)) in self.list.iter().zip(&self.written).take(self.named) {
            if !used {
                ctx.warning(
                    "unused-upstream",
                    *span,
                    format!("nobody uses the upstream \"{}\"", upstream.name),
                    format!(
                        "write `proxy \"{}\"` in a route, or remove it",
                        upstream.name
                    ),
                );
            }
        }
    }
}

/// A name for logs and metrics: short and printable.
pub fn check_name(ctx: &mut Context<'_>, name: &str, span: Span) {
    if name.len() > 1024 || name.chars().any(char::is_control) {
        ctx.error(
            "bad-name",
            span,
            "this name has control characters or is too long",
            "write a short printable name",
        );
    }
}

fn check_servers(ctx: &mut Context<'_>, servers: &[Server], spans: &[Span]) {
    let mut seen = HashMap::new();
    for (server, span) in servers.iter().zip(spans) {
        if let Some(first) = seen.insert(&server.address, *span) {
            ctx.problems.warning_at(
                "duplicate-server",
                *span,
                format!("the server \"{}\" is there twice", server.name),
                "use weight= to give a server a larger share",
                (first, "the first time"),
            );
        }
    }
}

fn upstream(ctx: &mut Context<'_>, item: &Item<'_>, name: &str) -> Upstream {
    let mut up = Upstream {
        origin: ctx.origin(item.span),
        ..Upstream::new(name)
    };
    for child in &item.children {
        read(ctx, child, &mut up);
    }
    if let Some(check) = item.child("health-check") {
        health::check_protocol(ctx, check, &up);
    }
    for hedge in item.all("hedge") {
        check_hedge(ctx, hedge, &up);
    }
    if let (Some(tls), Some(header)) = (item.child("tls"), item.child("proxy-protocol")) {
        ctx.problems.error_at(
            "conflict",
            header.span,
            "a PROXY header in front of TLS is not built yet in this version",
            "leave one of them out",
            (tls.span, "TLS"),
        );
    }
    let lines = item.all("server").count();
    if lines == 0 && item.all("discover").count() == 0 && !item.broken {
        ctx.error(
            "no-server",
            item.name_span,
            format!("the upstream \"{name}\" has no server"),
            "write `server \"address:port\"` in its block",
        );
    } else if !up.servers.is_empty()
        && up.discover.is_empty()
        && up.servers.iter().all(|s| s.backup)
        && up.servers.len() == lines
    {
        ctx.warning(
            "only-backups",
            item.name_span,
            "every server of this upstream is a backup",
            "leave `backup` out on one of them",
        );
    }
    if lines > MAX_SERVERS {
        ctx.error(
            "too-many",
            item.name_span,
            format!("an upstream has at most {MAX_SERVERS} servers"),
            "split it",
        );
    }
    let spans: Vec<Span> = item
        .all("server")
        .filter_map(|s| s.arg(0))
        .map(|a| a.span)
        .collect();
    if spans.len() == up.servers.len() {
        check_servers(ctx, &up.servers, &spans);
    }
    up
}

fn read(ctx: &mut Context<'_>, item: &Item<'_>, up: &mut Upstream) {
    match item.name() {
        "balance" => set(&mut up.balance, balance(ctx, item)),
        "spill-over" => set(&mut up.ranks.spill_over, percent(item)),
        "panic-threshold" => set(&mut up.ranks.panic, percent(item)),
        "prefer-zone" => up.ranks.prefer_zone = item.switch(),
        "sticky" => up.sticky = sticky::read(ctx, item, &up.name),
        "server" => up.servers.extend(server(&mut ctx.problems, item)),
        "discover" => up.discover.extend(discover::read(ctx, item, &up.name)),
        "health-check" => up.health = health::read(ctx, item),
        "eject" => eject(ctx, item, up),
        "slow-start" => {
            if let Some(Val::Duration(over)) = item.arg(0).map(|a| &a.val) {
                up.slow_start.over = *over;
            }
            set(&mut up.slow_start.from, item.percent("from"));
        }
        "requests" => {
            set(&mut up.requests.max, item.int("max"));
            set(&mut up.requests.total, item.int("total"));
        }
        "adaptive-concurrency" => up.requests.adaptive = Some(adaptive(ctx, item)),
        "hedge" => {
            up.hedge = item.duration("after").map(|after| Hedge {
                after,
                budget: item.percent("budget").unwrap_or(5),
            });
        }
        "connections" => {
            set(&mut up.connections.max, item.int("max"));
            set(&mut up.connections.total, item.int("total"));
            set(&mut up.connections.queue, item.int("queue"));
            set(
                &mut up.connections.queue_timeout,
                item.duration("queue-timeout"),
            );
            set(&mut up.connections.idle, item.int("idle"));
        }
        "retry" => retry(ctx, item, &mut up.retry),
        "timeout" => {
            set(&mut up.timeouts.connect, item.duration("connect"));
            set(&mut up.timeouts.response, item.duration("response"));
            set(&mut up.timeouts.body_idle, item.duration("body"));
            set(&mut up.timeouts.idle, item.duration("idle"));
        }
        "tls" => up.tls = Some(tls::upstream(ctx, item)),
        "protocol" => up.protocol = tls::upstream_protocol(item),
        "proxy-protocol" => up.proxy_protocol = item.arg(0).and_then(|a| a.int()),
        "source" => {
            if let Some((text, span)) = item.arg_text(0) {
                match text.parse() {
                    Ok(ip) => up.source = Some(ip),
                    Err(_) => ctx.error(
                        "bad-address",
                        span,
                        format!("\"{text}\" is not an IP address"),
                        "write an address of this machine, such as \"10.0.0.5\"",
                    ),
                }
            }
        }
        "tcp" => {
            set(&mut up.tcp_keepalive, item.duration("keepalive"));
            set(&mut up.tcp_user_timeout, item.duration("user-timeout"));
            if let Some(mark) = item.int("mark") {
                up.mark = Some(mark);
            }
        }
        _ => {}
    }
}

fn percent(item: &Item<'_>) -> Option<u8> {
    match item.arg(0)?.val {
        Val::Share(share) => u8::try_from(share / 100).ok(),
        _ => None,
    }
}

fn balance(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<Balance> {
    let (policy, span) = item.arg_text(0)?;
    if policy != "hash" {
        if let Some((name, given)) = item.props.first() {
            ctx.error(
                "unused-key",
                given.span,
                format!("`{name}=` belongs to `balance \"hash\"`"),
                "leave it out",
            );
        }
        return Some(match policy {
            "round-robin" => Balance::RoundRobin,
            "least-time" => Balance::LeastTime,
            "random" => Balance::Random,
            _ => Balance::LeastRequests,
        });
    }
    let Some((text, place)) = item.text("by") else {
        if !item.broken {
            ctx.error(
                "missing-value",
                span,
                "`balance \"hash\"` needs `by=`",
                "for example: balance \"hash\" by=\"cookie:cart\"",
            );
        }
        return None;
    };
    let mut uses = Vec::new();
    let by = template::hash_key(ctx, text, place, &mut uses)?;
    if let Some(used) = uses.first() {
        ctx.error(
            "unknown-variable",
            used.span,
            format!(
                "`{{{}}}` is a route's, and an upstream serves several",
                used.name
            ),
            "use a header, a cookie, a query parameter, the path or the client's address",
        );
        return None;
    }
    Some(Balance::Hash(HashBalance {
        by,
        bound: item.percent("bound").unwrap_or(25),
    }))
}

fn adaptive(ctx: &mut Context<'_>, item: &Item<'_>) -> Adaptive {
    let mut limits = Adaptive::default();
    set(&mut limits.min, item.int("min"));
    set(&mut limits.max, item.int("max"));
    set(&mut limits.tolerance, item.percent("tolerance"));
    set(&mut limits.wait, item.duration("wait"));
    if limits.min > limits.max {
        ctx.error(
            "out-of-range",
            item.span,
            format!("min={} is more than max={}", limits.min, limits.max),
            "write a `min` that is not above `max`",
        );
    }
    limits
}

/// One `server` line, wherever it stands.
pub(crate) fn server(problems: &mut Problems, item: &Item<'_>) -> Option<Server> {
    let (text, span) = item.arg_text(0)?;
    let parsed = match item.text("resolve") {
        Some(_) => address::srv(text),
        None => address::server(text),
    };
    let address = match parsed {
        Ok(address) => address,
        Err((message, help)) => {
            problems.error("bad-address", span, message, help);
            return None;
        }
    };
    let mut server = Server::new(text, address);
    set(&mut server.weight, item.int("weight"));
    set(&mut server.backup, item.bool("backup"));
    set(&mut server.priority, item.int("priority"));
    server.zone = item.text("zone").map(|(zone, _)| zone.to_owned());
    server.order = match item.text("state") {
        Some(("drain", _)) => Order::Drain,
        Some(("down", _)) => Order::Down,
        _ => Order::Ready,
    };
    if server.backup
        && let (Some(given), true) = (item.prop("priority"), server.priority > 0)
    {
        problems.warning(
            "unused-key",
            given.span,
            "a backup comes after every priority",
            "leave one of them out",
        );
    }
    Some(server)
}

fn eject(ctx: &mut Context<'_>, item: &Item<'_>, up: &mut Upstream) {
    set(&mut up.eject.errors, item.int("errors"));
    set(&mut up.eject.within, item.duration("within"));
    set(&mut up.eject.for_, item.duration("for"));
    set(&mut up.eject.at_most, item.percent("at-most"));
    set(&mut up.eject.outliers, item.bool("outliers"));
    if !item.switch() {
        if let Some((name, given)) = item.props.first() {
            ctx.warning(
                "unused-key",
                given.span,
                format!("`{name}=` does nothing: `eject #false` never ejects"),
                "leave it out",
            );
        }
        up.eject.errors = 0;
    }
}

fn retry(ctx: &mut Context<'_>, item: &Item<'_>, retry: &mut Retry) {
    retry_bounds(item, retry);
    reasons(ctx, item, retry);
    if let Some(value) = item.prop("try-timeout")
        && !retry.try_timeout.is_zero()
        && !retry.on_timeout
    {
        ctx.warning(
            "unused-key",
            value.span,
            "`try-timeout=` is for retries on `timeout`, which `on` does not name",
            "write on=\"connect,reset,timeout\", or leave it out",
        );
    }
}

fn retry_bounds(item: &Item<'_>, retry: &mut Retry) {
    set(&mut retry.attempts, item.int("attempts"));
    set(&mut retry.budget, item.percent("budget"));
    set(&mut retry.body_max, item.bytes("body-max"));
    set(&mut retry.try_timeout, item.duration("try-timeout"));
    set(&mut retry.within, item.duration("within"));
}

/// A second attempt that would begin when the first is given up already.
fn check_hedge(ctx: &mut Context<'_>, item: &Item<'_>, up: &Upstream) {
    let (Some(after), Some(given)) = (item.duration("after"), item.prop("after")) else {
        return;
    };
    let bounds = [
        ("timeout response", up.timeouts.response),
        ("retry within", up.retry.within),
    ];
    let first = bounds
        .into_iter()
        .find(|(_, bound)| !bound.is_zero() && after >= *bound);
    if let Some((name, _)) = first {
        ctx.warning(
            "unused-key",
            given.span,
            format!("`after=` is never reached: `{name}` is not longer"),
            "write a shorter time, such as that within which 95% of the requests are answered",
        );
    }
}

/// What is tried again.
fn reasons(ctx: &mut Context<'_>, item: &Item<'_>, retry: &mut Retry) {
    let Some((text, span)) = item.text("on") else {
        return;
    };
    (retry.on_connect, retry.on_reset, retry.on_timeout) = (false, false, false);
    retry.on_status.clear();
    if text == "none" {
        return;
    }
    for word in text.split(',').map(str::trim) {
        match (word, word.parse::<u16>()) {
            ("connect", _) => retry.on_connect = true,
            ("reset", _) => retry.on_reset = true,
            ("timeout", _) => retry.on_timeout = true,
            (_, Ok(status)) if (500..=599).contains(&status) => retry.on_status.push(status),
            _ => {
                let help = did_you_mean(word, ["connect", "reset", "timeout"]).map_or_else(
                    || {
                        "write `connect`, `reset`, `timeout` or statuses from 500 to 599, with commas between"
                            .to_owned()
                    },
                    |w| format!("did you mean `{w}`?"),
                );
                let offset = word.as_ptr() as usize - text.as_ptr() as usize;
                let place =
                    super::place::within(ctx.sources, span, text, offset, word.len().max(1));
                ctx.error(
                    "bad-retry",
                    place,
                    format!("\"{word}\" is nothing to retry on"),
                    help,
                );
            }
        }
    }
    retry.on_status.sort_unstable();
    retry.on_status.dedup();
}

/// Checks the path of a health endpoint.
pub fn endpoint(ctx: &mut Context<'_>, item: &Item<'_>, name: &str) -> Option<String> {
    let (text, span) = item.text(name)?;
    path::literal(ctx, text, span)
}
