//! `site` blocks: routes with their complete filters and settings.

use crate::lower::{address::host_text, path, text};
use crate::model::{
    Action, Buffering, CertificatePart, Condition, Config, ErrorPage, Filter, ForwardedStyle,
    HeaderAction, HeaderOp, PathPattern, Priority, Route, RouteSettings, Site, Split, UpstreamHost,
    ValueMatch,
};
use std::fmt::Write as _;

use crate::schema::pending;

use super::writer::{Writer, q, size, time};
use super::{access_log, networks, tls};

pub(super) fn site(config: &Config, site: &Site, out: &mut Writer) {
    let hosts: Vec<String> = site.hosts.iter().map(|h| q(&host_text(h))).collect();
    out.block(format!("site {}", hosts.join(" ")), |out| {
        if !site.listeners.is_empty() {
            let names = site
                .listeners
                .iter()
                .filter_map(|l| config.listeners.get(*l))
                .map(|l| q(&l.name));
            out.line(format!("listen {}", names.collect::<Vec<_>>().join(" ")));
        }
        out.line(access_log(
            site.access_log.and_then(|l| config.access_logs.get(l)),
        ));
        if let Some(t) = &site.tls {
            tls::site(t, out);
        }
        if let Some(h) = &site.hsts {
            out.line(tls::hsts(h));
        }
        out.line(format!("merge-slashes #{}", site.merge_slashes));
        for page in &site.error_pages {
            out.line(error_page(page));
        }
        for r in &site.routes {
            route(config, r, out);
        }
    });
}

fn error_page(page: &ErrorPage) -> String {
    let statuses: Vec<String> = page
        .statuses
        .iter()
        .map(|(from, to)| {
            if from == to {
                from.to_string()
            } else {
                format!("\"{from}-{to}\"")
            }
        })
        .collect();
    let file = q(&page.file.to_string_lossy());
    format!(
        "error-page {} file={file} intercept=#{}",
        statuses.join(" "),
        page.intercept
    )
}

fn route(config: &Config, route: &Route, out: &mut Writer) {
    let mut head = String::from("route");
    match &route.matcher.path {
        Some(PathPattern::Regex(regex)) => {
            let _ = write!(head, " path-regex={}", q(regex));
        }
        Some(pattern) => {
            let _ = write!(head, " path={}", q(&path::text(pattern)));
        }
        None => {}
    }
    if !route.matcher.methods.is_empty() {
        let _ = write!(head, " method={}", q(&route.matcher.methods.join(",")));
    }
    let _ = write!(head, " name={}", q(&route.name));
    out.block(head, |out| {
        if !route.matcher.conditions.is_empty() {
            out.block("when", |out| {
                route
                    .matcher
                    .conditions
                    .iter()
                    .for_each(|c| condition(c, out));
            });
        }
        route.filters.iter().for_each(|f| filter(f, out));
        settings(&route.settings, out);
        action(config, &route.action, out);
    });
}

pub(super) fn condition(c: &Condition, out: &mut Writer) {
    match c {
        Condition::Header(name, value) => out.line(value_match("header", name, value)),
        Condition::Cookie(name, value) => out.line(value_match("cookie", name, value)),
        Condition::Query(name, value) => out.line(value_match("query", name, value)),
        Condition::Client(set) => out.line(format!("client {}", networks(set))),
        Condition::Certificate(part, value) => {
            let part = match part {
                CertificatePart::Subject => "subject",
                CertificatePart::Issuer => "issuer",
                CertificatePart::Serial => "serial",
                CertificatePart::Fingerprint => "fingerprint",
            };
            out.line(value_match("client-certificate", part, value));
        }
        Condition::Not(inner) => out.block("not", |out| condition(inner, out)),
        Condition::Any(all) => out.block("any", |out| all.iter().for_each(|c| condition(c, out))),
    }
}

fn value_match(key: &str, name: &str, value: &ValueMatch) -> String {
    let name = q(name);
    match value {
        ValueMatch::Present => format!("{key} {name} present=#true"),
        ValueMatch::Exact(text) => format!("{key} {name} {}", q(text)),
        ValueMatch::Prefix(text) => format!("{key} {name} prefix={}", q(text)),
        ValueMatch::Regex(text) => format!("{key} {name} regex={}", q(text)),
    }
}

fn filter(f: &Filter, out: &mut Writer) {
    match f {
        Filter::RequestHeaders(ops) => out.block("header \"request\"", |out| {
            headers(ops, out);
        }),
        Filter::ResponseHeaders(ops) => out.block("header \"response\"", |out| {
            headers(ops, out);
        }),
        Filter::StripPrefix(prefix) => out.line(format!("strip-prefix {}", q(prefix))),
        Filter::AddPrefix(prefix) => out.line(format!("add-prefix {}", q(prefix))),
        Filter::Rewrite(template) => out.line(format!("rewrite {}", q(&template.source))),
        Filter::RewriteRegex { pattern, with } => {
            out.line(format!("rewrite-regex {} with={}", q(pattern), q(with)));
        }
        Filter::Allow(set) => out.line(format!("allow {}", networks(set))),
        Filter::Deny(set) => out.line(format!("deny {}", networks(set))),
    }
}

fn headers(ops: &[HeaderOp], out: &mut Writer) {
    for op in ops {
        header(op, out);
    }
}

fn header(op: &HeaderOp, out: &mut Writer) {
    let name = q(&op.name);
    let value = q(&op.value.source);
    out.line(match op.action {
        HeaderAction::Set => format!("set {name} {value}"),
        HeaderAction::Add => format!("add {name} {value}"),
        HeaderAction::Default => format!("default {name} {value}"),
        HeaderAction::Remove => format!("remove {name}"),
    });
}

fn settings(s: &RouteSettings, out: &mut Writer) {
    let defaults = RouteSettings::default();
    out.line(format!(
        "body max=\"{}\"",
        s.body_max.map_or("none".to_owned(), size)
    ));
    out.line(match s.forwarded {
        ForwardedStyle::XForwarded => "forwarded \"x-forwarded\"",
        ForwardedStyle::Forwarded => "forwarded \"forwarded\"",
        ForwardedStyle::Both => "forwarded \"both\"",
        ForwardedStyle::Off => "forwarded \"off\"",
    });
    out.line(match &s.host {
        UpstreamHost::Keep => "host \"keep\"".to_owned(),
        UpstreamHost::Server => "host \"server\"".to_owned(),
        UpstreamHost::Set(template) => format!("host {}", q(&template.source)),
    });
    out.line(buffer(s));
    if s.upgrade.is_empty() {
        out.line("upgrade #false");
    } else {
        out.line(format!(
            "upgrade {}",
            s.upgrade.iter().map(|u| q(u)).collect::<Vec<_>>().join(" ")
        ));
    }
    out.line(format!("rewrite-urls #{}", s.rewrite_response_urls));
    out.line(format!("hide-origin #{}", s.hide_origin));
    if s.underscore_headers != defaults.underscore_headers {
        out.line("unsafe-underscore-headers");
    }
    out.line(format!("reject-body-on-get #{}", s.reject_body_on_get));
    if s.grpc_web {
        out.line("grpc-web");
    }
    out.line(format!("tunnel idle={}", time(s.tunnel_idle)));
    if let Some(rule) = &s.cache {
        super::cache::rule(rule, out);
    }
    if super::shown(
        pending::key("site", "priority"),
        &s.priority,
        &defaults.priority,
    ) {
        out.line(match s.priority {
            Priority::High => "priority \"high\"",
            Priority::Normal => "priority \"normal\"",
            Priority::Low => "priority \"low\"",
        });
    }
}

fn buffer(s: &RouteSettings) -> String {
    let memory = |b: Option<&Buffering>| b.map_or("none".to_owned(), |b| size(b.memory));
    let (request, response) = (s.buffer_request.as_ref(), s.buffer_response.as_ref());
    let mut out = format!(
        "buffer request=\"{}\" response=\"{}\"",
        memory(request),
        memory(response)
    );
    if let Some(b) = request.or(response) {
        let _ = write!(
            out,
            " disk=\"{}\"",
            if b.disk == 0 {
                "none".to_owned()
            } else {
                size(b.disk)
            }
        );
        if b.disk > 0 {
            let _ = write!(out, " directory={}", q(&b.directory.to_string_lossy()));
        }
    }
    out
}

fn action(config: &Config, action: &Action, out: &mut Writer) {
    let upstream = |index: usize| q(config.upstreams.get(index).map_or("", |u| u.name.as_str()));
    match action {
        Action::Proxy(index) => out.line(format!("proxy {}", upstream(*index))),
        Action::Redirect { status, to } => {
            out.line(format!("redirect {} status={status}", q(&to.source)));
        }
        Action::Respond {
            status,
            content_type,
            body,
        } => {
            out.line(format!(
                "respond {status} {} type={}",
                q(&body.source),
                q(content_type)
            ));
        }
        Action::Split(Split { by, to }) => {
            let by = by
                .as_ref()
                .map(|b| format!(" by={}", q(&b.source)))
                .unwrap_or_default();
            out.block(format!("split{by}"), |out| {
                for (index, share) in to {
                    out.line(format!(
                        "to {} \"{}%\"",
                        upstream(*index),
                        text::percent(*share)
                    ));
                }
            });
        }
    }
}
