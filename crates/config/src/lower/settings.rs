//! Settings as written in one block; a more specific block's word counts.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::{Buffering, CacheRule, ForwardedStyle, Priority, RouteSettings, UpstreamHost};
use crate::raw::{Item, Val};
use crate::source::Span;

use super::cache;
use super::context::Context;
use super::template::{self, Position, Used};

/// What one block says; `None` where it is silent.
#[derive(Debug, Clone, Default)]
pub struct Patch {
    /// Outer: silent; inner: unlimited.
    #[allow(clippy::option_option)] // both are meant, and told apart at once
    body_max: Option<Option<u64>>,
    forwarded: Option<ForwardedStyle>,
    host: Option<UpstreamHost>,
    buffer: Option<(Option<Buffering>, Option<Buffering>)>,
    upgrade: Option<Vec<String>>,
    rewrite_urls: Option<bool>,
    hide_origin: Option<bool>,
    underscore: Option<bool>,
    reject_body: Option<bool>,
    grpc_web: Option<bool>,
    tunnel_idle: Option<Duration>,
    priority: Option<Priority>,
    /// Outer: silent; inner: nothing is cached.
    #[allow(clippy::option_option)] // both are meant, and told apart at once
    cache: Option<Option<Box<CacheRule>>>,
    /// Captures that `host` uses.
    pub uses: Vec<Used>,
    /// Settings that only matter when something is sent on: their places.
    pub upstream_only: Vec<(&'static str, Span)>,
}

/// The settings of a block.
pub fn patch(ctx: &mut Context<'_>, items: &[Item<'_>]) -> Patch {
    let mut patch = Patch::default();
    for item in items {
        read(ctx, item, &mut patch);
    }
    patch
}

fn read(ctx: &mut Context<'_>, item: &Item<'_>, patch: &mut Patch) {
    match item.name() {
        "body" => patch.body_max = item.bytes_or_none("max"),
        "forwarded" => patch.forwarded = item.arg_text(0).map(|(style, _)| forwarded(style)),
        "host" => patch.host = host(ctx, item, &mut patch.uses),
        "buffer" => patch.buffer = buffer(ctx, item),
        "upgrade" => patch.upgrade = Some(upgrade(ctx, item)),
        "rewrite-urls" => patch.rewrite_urls = Some(item.switch()),
        "hide-origin" => patch.hide_origin = Some(item.switch()),
        "unsafe-underscore-headers" => patch.underscore = Some(item.switch()),
        "reject-body-on-get" => patch.reject_body = Some(item.switch()),
        "grpc-web" => patch.grpc_web = Some(item.switch()),
        "tunnel" => patch.tunnel_idle = item.duration("idle"),
        "cache" => patch.cache = Some(cache::rule(ctx, item)),
        "priority" => patch.priority = item.arg_text(0).map(|(class, _)| priority(class)),
        _ => return,
    }
    if matches!(
        item.name(),
        "forwarded"
            | "host"
            | "buffer"
            | "upgrade"
            | "rewrite-urls"
            | "hide-origin"
            | "grpc-web"
            | "tunnel"
            | "priority"
            | "cache"
    ) {
        patch.upstream_only.push((item.name(), item.name_span));
    }
}

fn priority(class: &str) -> Priority {
    match class {
        "high" => Priority::High,
        "low" => Priority::Low,
        _ => Priority::Normal,
    }
}

fn forwarded(style: &str) -> ForwardedStyle {
    match style {
        "forwarded" => ForwardedStyle::Forwarded,
        "both" => ForwardedStyle::Both,
        "off" => ForwardedStyle::Off,
        _ => ForwardedStyle::XForwarded,
    }
}

fn host(ctx: &mut Context<'_>, item: &Item<'_>, uses: &mut Vec<Used>) -> Option<UpstreamHost> {
    let (text, span) = item.arg_text(0)?;
    match text {
        "keep" => return Some(UpstreamHost::Keep),
        "server" => return Some(UpstreamHost::Server),
        _ => {}
    }
    if text.is_empty()
        || text
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || c == '/' || c == '@')
    {
        ctx.error(
            "bad-host",
            span,
            format!("\"{}\" is not a host", text.escape_default()),
            "write \"keep\", \"server\" or \"name\" or \"name:port\"",
        );
        return None;
    }
    template::parse(ctx, text, span, Position::Request, uses).map(UpstreamHost::Set)
}

fn buffer(
    ctx: &mut Context<'_>,
    item: &Item<'_>,
) -> Option<(Option<Buffering>, Option<Buffering>)> {
    if item.prop("request").is_none() && item.prop("response").is_none() {
        if !item.props.iter().any(|(_, g)| g.val == Val::Bad) {
            ctx.error(
                "buffer-without-bound",
                item.name_span,
                "`buffer` says neither what to buffer nor how much",
                "write request=\"64KiB\" or response=\"256KiB\"",
            );
        }
        return None;
    }
    let disk = match item.bytes_or_none("disk") {
        Some(Some(bytes)) => bytes,
        _ => 0,
    };
    let directory = item
        .text("directory")
        .map_or_else(|| PathBuf::from("/var/tmp"), |(d, _)| PathBuf::from(d));
    let side = |name: &str| {
        item.bytes_or_none(name).flatten().map(|memory| Buffering {
            memory,
            disk,
            directory: directory.clone(),
        })
    };
    let (request, response) = (side("request"), side("response"));
    if disk == 0
        && let Some((_, span)) = item.text("directory")
    {
        ctx.warning(
            "unused-key",
            span,
            "`directory=` without `disk=` does nothing",
            "write disk=\"1GiB\", or leave it out",
        );
    }
    Some((request, response))
}

fn upgrade(ctx: &mut Context<'_>, item: &Item<'_>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for given in &item.args {
        match given.val {
            Val::Bool(false) if item.args.len() == 1 => return Vec::new(),
            Val::Bool(_) => ctx.error(
                "bad-upgrade",
                given.span,
                "`#false` stands alone",
                "write `upgrade #false`, or only protocols",
            ),
            Val::Text(text) => out.extend(protocol(ctx, text, given.span)),
            _ => {}
        }
    }
    out.dedup();
    out
}

fn protocol(ctx: &mut Context<'_>, text: &str, span: Span) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let good = lower.split('/').count() <= 2 && lower.split('/').all(super::headers::is_token);
    if !good {
        ctx.error(
            "bad-upgrade",
            span,
            format!("\"{}\" is not a protocol", text.escape_default()),
            "write a name such as \"websocket\"",
        );
        return None;
    }
    if lower == "h2c" || lower.starts_with("tls/") || lower.starts_with("http/") {
        ctx.error(
            "unsafe-upgrade",
            span,
            format!("an upgrade to {lower} would let requests pass by every rule of this file"),
            "leave it out",
        );
        return None;
    }
    Some(lower)
}

/// Applies blocks, the least specific first.
pub fn merge(patches: &[&Patch]) -> RouteSettings {
    let mut settings = RouteSettings::default();
    for patch in patches {
        apply(&mut settings, patch);
    }
    settings
}

fn apply(settings: &mut RouteSettings, patch: &Patch) {
    use super::context::set;
    set(&mut settings.body_max, patch.body_max);
    set(&mut settings.forwarded, patch.forwarded);
    set(&mut settings.host, patch.host.clone());
    if let Some((request, response)) = patch.buffer.clone() {
        settings.buffer_request = request;
        settings.buffer_response = response;
    }
    set(&mut settings.upgrade, patch.upgrade.clone());
    set(&mut settings.rewrite_response_urls, patch.rewrite_urls);
    set(&mut settings.hide_origin, patch.hide_origin);
    set(&mut settings.underscore_headers, patch.underscore);
    set(&mut settings.reject_body_on_get, patch.reject_body);
    set(&mut settings.grpc_web, patch.grpc_web);
    set(&mut settings.tunnel_idle, patch.tunnel_idle);
    set(&mut settings.priority, patch.priority);
    set(&mut settings.cache, patch.cache.clone());
}
