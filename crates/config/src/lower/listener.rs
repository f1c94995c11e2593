//! Listeners, and which filters run on each.

use std::collections::HashMap;

use crate::model::{Address, Listener, ListenerTls, ProxyProtocolIn};
use crate::problem::did_you_mean;
use crate::raw::{Item, Val};
use crate::source::Span;

use super::context::{Context, set};
use super::filters::{self, Step};
use super::{address, tls, upstream};

/// Listeners of one configuration.
const MAX_LISTENERS: usize = 1000;

/// All listeners.
#[derive(Debug, Default)]
pub struct Listeners {
    /// In written order.
    pub list: Vec<Listener>,
    /// Index into `groups` of each listener.
    pub group_of: Vec<usize>,
    /// What each group of listeners does before any site.
    pub groups: Vec<Group>,
    by_address: HashMap<Address, (usize, Span)>,
}

/// What a `listen` block does to every request.
#[derive(Debug, Default)]
pub struct Group {
    /// Its filters.
    pub steps: Vec<Step>,
    /// `redirect-to-https`.
    pub redirect: bool,
    /// Its `port`.
    pub redirect_port: Option<u16>,
}

impl Listeners {
    /// Reads every `listen`. Without one, and if TLS is `automatic`: `:80`, which redirects, and `:443` with TLS; else `:80`, with a
    /// warning at `anywhere`.
    pub fn read(
        ctx: &mut Context<'_>,
        items: &[Item<'_>],
        anywhere: Option<Span>,
        automatic: bool,
    ) -> Self {
        let mut all = Self::default();
        for item in items {
            let group = all.group(ctx, item);
            let template = template(ctx, item);
            for (text, span) in item.texts() {
                all.add(ctx, text, span, &template, group);
            }
        }
        if items.is_empty() && automatic {
            all.automatic();
        } else if items.is_empty() {
            all.plain(ctx, anywhere);
        }
        if all.list.len() > MAX_LISTENERS
            && let Some(item) = items.last()
        {
            ctx.error(
                "too-many",
                item.name_span,
                format!("there are more than {MAX_LISTENERS} listeners"),
                "remove some",
            );
        }
        all
    }

    fn group(&mut self, ctx: &mut Context<'_>, item: &Item<'_>) -> usize {
        let steps = filters::steps(ctx, &item.children);
        let redirect = item.child("redirect-to-https").is_some_and(Item::switch);
        let redirect_port = item.child("redirect-to-https").and_then(|r| r.int("port"));
        if let (true, Some(tls)) = (redirect, item.child("tls")) {
            let place = item
                .child("redirect-to-https")
                .map_or(item.span, |r| r.span);
            ctx.problems.error_at(
                "conflict",
                place,
                "this listener speaks HTTPS already",
                "redirect on a plain one, such as `listen \":80\" { redirect-to-https }`",
                (tls.span, "TLS"),
            );
        }
        if let Some(same) = self.groups.iter().position(|g| {
            (g.redirect, g.redirect_port) == (redirect, redirect_port)
                && g.steps
                    .iter()
                    .map(|s| &s.filter)
                    .eq(steps.iter().map(|s| &s.filter))
        }) {
            return same;
        }
        for used in steps.iter().flat_map(|s| &s.uses) {
            let help = super::template::variable_help(&used.name, &[]);
            ctx.error(
                "unbound-capture",
                used.span,
                format!("`{{{}}}` is not a variable", used.name),
                help,
            );
        }
        self.groups.push(Group {
            steps,
            redirect,
            redirect_port,
        });
        self.groups.len() - 1
    }

    fn add(
        &mut self,
        ctx: &mut Context<'_>,
        text: &str,
        span: Span,
        template: &Listener,
        group: usize,
    ) {
        let address = match address::listen(text) {
            Ok(address) => address,
            Err((message, help)) => return ctx.error("bad-address", span, message, help),
        };
        let unknown_port = matches!(address, Address::Tcp(a) if a.port() == 0);
        if let Some((_, first)) = self.by_address.get(&address).filter(|_| !unknown_port) {
            let message = format!("\"{text}\" is listened on twice");
            let related = (*first, "the first time");
            return ctx.problems.error_at(
                "duplicate-listener",
                span,
                message,
                "keep one of them",
                related,
            );
        }
        check_fit(ctx, text, span, &address, template);
        self.by_address
            .insert(address.clone(), (self.list.len(), span));
        self.list.push(Listener {
            name: text.to_owned(),
            address,
            origin: ctx.origin(span),
            ..template.clone()
        });
        self.group_of.push(group);
    }

    /// HTTPS, and a redirect to it.
    fn automatic(&mut self) {
        let group = |redirect| Group {
            redirect,
            ..Group::default()
        };
        for (name, encrypted) in [(":80", false), (":443", true)] {
            let Ok(address) = address::listen(name) else {
                continue;
            };
            self.by_address
                .insert(address.clone(), (self.list.len(), Span::default()));
            self.list.push(Listener {
                tls: encrypted.then(ListenerTls::default),
                ..Listener::new(name, address)
            });
            self.group_of.push(self.groups.len());
            self.groups.push(group(!encrypted));
        }
    }

    fn plain(&mut self, ctx: &mut Context<'_>, anywhere: Option<Span>) {
        if let Ok(address) = address::listen(":80") {
            self.list.push(Listener::new(":80", address));
            self.group_of.push(0);
            self.groups.push(Group::default());
        }
        if let Some(span) = anywhere {
            ctx.warning(
                "no-listen",
                span,
                "no `listen` is written, and no site has a name for a certificate: serving plain HTTP on port 80",
                "write `listen \":80\"` to say so yourself, or name the site \"example.com\"",
            );
        }
    }

    /// Of these listeners (none: all), those that serve sites: with TLS, and without.
    pub fn serving(&self, chosen: &[usize]) -> (Vec<&Listener>, Vec<&Listener>) {
        let serves = |index: usize| {
            let group = self.group_of.get(index).and_then(|g| self.groups.get(*g));
            group.is_some_and(|g| !g.redirect)
        };
        self.list
            .iter()
            .enumerate()
            .filter(|(index, _)| (chosen.is_empty() || chosen.contains(index)) && serves(*index))
            .map(|(_, listener)| listener)
            .partition(|l| l.tls.is_some())
    }

    /// The listeners a site names.
    pub fn resolve(&self, ctx: &mut Context<'_>, item: &Item<'_>) -> Vec<usize> {
        let mut out = Vec::new();
        for (text, span) in item
            .all("listen")
            .flat_map(|l| l.texts().collect::<Vec<_>>())
        {
            let by_name = self.list.iter().position(|l| l.name == text);
            let found = by_name.or_else(|| {
                address::listen(text)
                    .ok()
                    .and_then(|a| self.by_address.get(&a))
                    .map(|(index, _)| *index)
            });
            match found {
                Some(index) => out.push(index),
                None => self.unknown(ctx, text, span),
            }
        }
        out.sort_unstable();
        out.dedup();
        out
    }

    fn unknown(&self, ctx: &mut Context<'_>, text: &str, span: Span) {
        let names = self.list.iter().map(|l| l.name.as_str());
        let help = match did_you_mean(text, names.clone()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!(
                "write `listen \"{text}\"` at the top level; there is {}",
                names
                    .take(20)
                    .map(|n| format!("\"{n}\""))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        };
        ctx.error(
            "unresolved-name",
            span,
            format!("no listener is called \"{text}\""),
            help,
        );
    }
}

fn check_fit(
    ctx: &mut Context<'_>,
    text: &str,
    span: Span,
    address: &Address,
    template: &Listener,
) {
    let ipv6 = matches!(address, Address::Tcp(a) if a.is_ipv6());
    if template.ipv6_only && !ipv6 {
        ctx.warning(
            "unused-key",
            span,
            format!("`ipv6-only` does nothing to \"{text}\""),
            "write it only for IPv6 addresses",
        );
    }
}

/// A listener with everything of the block, but no address.
fn template(ctx: &mut Context<'_>, item: &Item<'_>) -> Listener {
    let mut listener = Listener::new("", Address::Inherited(String::new()));
    for child in &item.children {
        read(ctx, child, &mut listener);
    }
    listener
}

fn read(ctx: &mut Context<'_>, item: &Item<'_>, to: &mut Listener) {
    match item.name() {
        "backlog" => set(&mut to.backlog, item.arg(0).and_then(|a| a.int())),
        "ipv6-only" => to.ipv6_only = item.switch(),
        "mode" => set(
            &mut to.mode,
            item.arg_text(0)
                .and_then(|(text, span)| mode(ctx, text, span)),
        ),
        "proxy-protocol" => to.proxy_protocol = proxy_protocol(ctx, item),
        "connections" => {
            set(&mut to.connections.max, item.int("max"));
            set(&mut to.connections.per_client, item.int("per-client"));
            set(&mut to.connections.requests, item.int("requests"));
            set(&mut to.connections.max_age, item.duration("max-age"));
        }
        "timeout" => {
            set(&mut to.timeouts.header, item.duration("header"));
            set(&mut to.timeouts.body_idle, item.duration("body"));
            set(&mut to.timeouts.send_idle, item.duration("send"));
            set(&mut to.timeouts.keep_alive, item.duration("keep-alive"));
            set(&mut to.timeouts.linger, item.duration("linger"));
            set(&mut to.timeouts.linger_bytes, item.bytes("linger-bytes"));
        }
        "min-rate" => {
            if let Some(Val::Bytes(rate)) = item.arg(0).map(|a| &a.val) {
                to.timeouts.min_rate = *rate;
            }
            set(&mut to.timeouts.min_rate_after, item.duration("after"));
        }
        "tcp" => {
            set(&mut to.tcp.keepalive, item.duration("keepalive"));
            set(&mut to.tcp.user_timeout, item.duration("user-timeout"));
        }
        "health" => {
            to.liveness = upstream::endpoint(ctx, item, "live");
            to.readiness = upstream::endpoint(ctx, item, "ready");
        }
        "limits" => limits(ctx, item, to),
        "tls" => to.tls = Some(tls::listener(item)),
        "protocols" => set(&mut to.protocols, tls::protocols(ctx, item)),
        "http2" => tls::http2(item, &mut to.http2),
        _ => {}
    }
}

/// A file mode as four octal digits.
pub fn mode(ctx: &mut Context<'_>, text: &str, span: Span) -> Option<u32> {
    let octal = (3..=4)
        .contains(&text.len())
        .then(|| u32::from_str_radix(text, 8).ok())
        .flatten();
    match octal.filter(|m| *m <= 0o777 && !text.starts_with('+')) {
        Some(mode) => Some(mode),
        None => {
            ctx.error(
                "bad-mode",
                span,
                format!("\"{text}\" is not a file mode"),
                "write four octal digits such as \"0660\"",
            );
            None
        }
    }
}

fn proxy_protocol(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<ProxyProtocolIn> {
    let (text, span) = item.text("from")?;
    let parts: Vec<(&str, Span)> = text
        .split(',')
        .map(|part| {
            let part = part.trim();
            let offset = part.as_ptr() as usize - text.as_ptr() as usize;
            (
                part,
                super::place::within(ctx.sources, span, text, offset, part.len().max(1)),
            )
        })
        .collect();
    let from = address::networks(ctx, parts.into_iter());
    if from.0.iter().any(|n| n.prefix_len() == 0) {
        ctx.warning(
            "trusts-everyone",
            span,
            "every client may claim any address by a PROXY header",
            "name the networks of your load balancers",
        );
    }
    let timeout = item
        .duration("timeout")
        .unwrap_or(std::time::Duration::from_secs(1));
    Some(ProxyProtocolIn {
        from,
        optional: item.bool("optional").unwrap_or(false),
        timeout,
    })
}

/// Largest head the data path takes in one piece.
const MAX_HEAD: u64 = 112 << 10;

fn limits(ctx: &mut Context<'_>, item: &Item<'_>, to: &mut Listener) {
    let limits = &mut to.limits;
    for (name, slot, max) in [
        ("request-line", &mut limits.request_line, MAX_HEAD),
        ("field", &mut limits.field, MAX_HEAD),
        ("head", &mut limits.head, MAX_HEAD),
        ("trailers", &mut limits.trailers, MAX_HEAD),
        ("chunk-extension", &mut limits.chunk_extension, 64 << 10),
        ("response-head", &mut limits.response_head, MAX_HEAD),
    ] {
        let Some(bytes) = item.bytes(name) else {
            continue;
        };
        match usize::try_from(bytes) {
            Ok(n) if bytes <= max && n > 0 => *slot = n,
            _ => {
                let span = item.prop(name).map_or(item.span, |g| g.span);
                let help = format!("write a size from \"1B\" to \"{}KiB\"", max >> 10);
                ctx.error(
                    "out-of-range",
                    span,
                    format!("`{name}=` is out of range"),
                    help,
                );
            }
        }
    }
    set(&mut limits.fields, item.int("fields"));
    set(&mut limits.trailer_fields, item.int("trailer-fields"));
    set(&mut limits.response_fields, item.int("response-fields"));
    set(&mut limits.informational, item.int("informational"));
}
