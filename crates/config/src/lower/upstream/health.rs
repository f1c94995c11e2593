//! `health-check`.

use crate::lower::context::{Context, set};
use crate::lower::{headers, place, regex};
use crate::model::{
    BodyMatch, GrpcProbe, HealthCheck, HttpProbe, Probe, TcpProbe, Upstream, UpstreamProtocol,
};
use crate::raw::Item;
use crate::raw::value::status_range;
use crate::source::Span;

/// What only a check by HTTP has.
const HTTP_PROPS: [&str; 3] = ["status", "host", "method"];
/// Longest name of a service, in bytes.
const MAX_SERVICE: usize = 256;
/// Longest text that is sent or expected, in bytes.
const MAX_TEXT: usize = 4 << 10;

/// When all of the upstream has been read: can it be asked so?
pub(super) fn check_protocol(ctx: &mut Context<'_>, item: &Item<'_>, up: &Upstream) {
    let asked = up.health.as_ref().map(|h| &h.probe);
    if matches!(asked, Some(Probe::Grpc(_)))
        && up.protocol != UpstreamProtocol::Http2
        && let Some((_, span)) = item.arg_text(0)
    {
        ctx.error(
            "needs-h2",
            span,
            "a check by gRPC needs servers that are spoken HTTP/2 to",
            "write `protocol \"h2\"` in the upstream, or check by \"tcp\"",
        );
    }
}

pub(super) fn read(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<HealthCheck> {
    let (text, span) = item.arg_text(0)?;
    let probe = match text {
        "tcp" => Probe::Tcp(tcp(ctx, item)),
        "grpc" => Probe::Grpc(grpc(ctx, item)),
        path => Probe::Http(http(ctx, item, path, span)?),
    };
    let mut check = HealthCheck::of(probe);
    check.port = item.int("port");
    set(&mut check.interval, item.duration("interval"));
    set(&mut check.recovery, item.duration("recovery"));
    check.recovery = check.recovery.min(check.interval);
    set(&mut check.timeout, item.duration("timeout"));
    set(&mut check.healthy, item.int("healthy"));
    set(&mut check.unhealthy, item.int("unhealthy"));
    set(&mut check.reuse, item.bool("reuse"));
    if let (false, Some((_, span))) = (matches!(check.probe, Probe::Grpc(_)), item.text("service"))
    {
        let message = "`service=` is for \"grpc\" only";
        ctx.error("unused-key", span, message, "leave it out");
    }
    Some(check)
}

fn grpc(ctx: &mut Context<'_>, item: &Item<'_>) -> GrpcProbe {
    let props = item
        .props
        .iter()
        .filter(|(n, _)| matches!(*n, "status" | "method" | "reuse"));
    let wrong = props
        .map(|(name, given)| (format!("`{name}=`"), given.span))
        .chain(
            item.children
                .iter()
                .map(|c| (format!("`{}`", c.name()), c.name_span)),
        );
    for (what, span) in wrong.collect::<Vec<_>>() {
        let message = format!("{what} is not for \"grpc\"");
        ctx.error("unused-key", span, message, "leave it out");
    }
    let service = item.text("service").map_or("", |(text, span)| {
        if text.len() > MAX_SERVICE {
            ctx.error(
                "out-of-range",
                span,
                format!("this name is longer than {MAX_SERVICE} bytes"),
                "write the service's full name, such as \"shop.v1.Orders\"",
            );
        }
        text
    });
    GrpcProbe {
        service: service.to_owned(),
        host: host(ctx, item),
    }
}

fn tcp(ctx: &mut Context<'_>, item: &Item<'_>) -> TcpProbe {
    let props = item.props.iter().filter(|(n, _)| HTTP_PROPS.contains(n));
    let lines = item
        .children
        .iter()
        .filter(|c| matches!(c.name(), "header" | "body"));
    let wrong = props
        .map(|(name, given)| (format!("`{name}=`"), given.span))
        .chain(lines.map(|c| (format!("`{}`", c.name()), c.name_span)));
    for (what, span) in wrong.collect::<Vec<_>>() {
        let message = format!("{what} is for checks of a path, not for \"tcp\"");
        ctx.error("unused-key", span, message, "leave it out");
    }
    let mut text = |name: &str| {
        let (text, span) = item.child(name)?.arg_text(0)?;
        if text.len() > MAX_TEXT {
            ctx.error(
                "out-of-range",
                span,
                format!("this text is longer than {MAX_TEXT} bytes"),
                "write a shorter one",
            );
        }
        Some(text.to_owned())
    };
    TcpProbe {
        send: text("send"),
        expect: text("expect"),
    }
}

fn http(ctx: &mut Context<'_>, item: &Item<'_>, path: &str, span: Span) -> Option<HttpProbe> {
    if !path.starts_with('/')
        || path
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || !c.is_ascii() || c == '#')
    {
        ctx.error(
            "bad-path",
            span,
            format!("\"{}\" is not a path to ask for", path.escape_default()),
            "write a path such as \"/healthz\", or \"tcp\"",
        );
        return None;
    }
    for child in item
        .children
        .iter()
        .filter(|c| matches!(c.name(), "send" | "expect"))
    {
        ctx.error(
            "unused-key",
            child.name_span,
            format!(
                "`{}` is for \"tcp\", not for checks of a path",
                child.name()
            ),
            "leave it out",
        );
    }
    let mut probe = HttpProbe::new(path);
    set(&mut probe.method, method(ctx, item));
    set(&mut probe.status, statuses(ctx, item));
    probe.host = host(ctx, item);
    probe.headers = item.all("header").filter_map(|h| header(ctx, h)).collect();
    probe.body = item.child("body").and_then(|line| body(ctx, line));
    if probe.method == "HEAD"
        && let (Some(_), Some(line)) = (&probe.body, item.child("body"))
    {
        ctx.error(
            "unused-key",
            line.name_span,
            "the answer to HEAD has no body",
            "write method=\"GET\", or leave `body` out",
        );
    }
    Some(probe)
}

fn method(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<String> {
    let (text, span) = item.text("method")?;
    let good = headers::is_token(text) && text.len() <= 32 && !matches!(text, "CONNECT" | "TRACE");
    if !good || text != text.to_ascii_uppercase() {
        ctx.error(
            "bad-method",
            span,
            format!(
                "\"{}\" is not a method to check with",
                text.escape_default()
            ),
            "write \"GET\", \"HEAD\", \"OPTIONS\" or \"POST\"",
        );
        return None;
    }
    Some(text.to_owned())
}

/// `200-299,401`: sorted, no range twice.
fn statuses(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<Vec<(u16, u16)>> {
    let (text, span) = item.text("status")?;
    let mut ranges = Vec::new();
    for part in text.split(',').map(str::trim) {
        match status_range(part) {
            Some((from, to)) if from >= 200 && to <= 599 && from <= to => ranges.push((from, to)),
            _ => {
                let offset = part.as_ptr() as usize - text.as_ptr() as usize;
                let at = place::within(ctx.sources, span, text, offset, part.len().max(1));
                ctx.error(
                    "not-a-status",
                    at,
                    format!("\"{part}\" is not a range of statuses"),
                    "write \"200-399\" or \"200\", several with commas between",
                );
            }
        }
    }
    ranges.sort_unstable();
    ranges.dedup();
    Some(ranges)
}

fn host(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<String> {
    let (host, span) = item.text("host")?;
    if host
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || !c.is_ascii() || c == '/')
    {
        ctx.error(
            "bad-host",
            span,
            format!("\"{}\" is not a host", host.escape_default()),
            "write a name such as \"example.com\"",
        );
        return None;
    }
    Some(host.to_owned())
}

fn header(ctx: &mut Context<'_>, line: &Item<'_>) -> Option<(String, String)> {
    let ((name, at), (value, value_at)) = (line.arg_text(0)?, line.arg_text(1)?);
    if !headers::check_name(ctx, name, at) {
        return None;
    }
    let ours = ["host", "connection", "content-length", "transfer-encoding"];
    if ours.iter().any(|o| name.eq_ignore_ascii_case(o)) {
        ctx.error(
            "proxy-owned-header",
            at,
            format!("`{name}` of a check is the proxy's"),
            "leave it out; `host=` sets `Host`",
        );
        return None;
    }
    if value.chars().any(|c| c.is_control() && c != '\t') {
        ctx.error(
            "bad-header-value",
            value_at,
            "this value has control characters",
            "leave them out",
        );
        return None;
    }
    Some((name.to_owned(), value.to_owned()))
}

fn body(ctx: &mut Context<'_>, line: &Item<'_>) -> Option<BodyMatch> {
    match (line.text("contains"), line.text("regex")) {
        (Some((text, _)), None) => Some(BodyMatch::Contains(text.to_owned())),
        (None, Some((pattern, span))) => {
            regex::check(ctx, pattern, span, regex::Use::Match)?;
            Some(BodyMatch::Regex(pattern.to_owned()))
        }
        _ if line.broken => None,
        _ => {
            ctx.error(
                "missing-value",
                line.name_span,
                "`body` needs `contains=` or `regex=`, one of them",
                "for example: body contains=\"ok\"",
            );
            None
        }
    }
}
