//! The `acme` block.

use std::path::PathBuf;

use crate::model::{Acme, AcmeAuthority, DnsUpdates, ExternalAccount, OnDemand};
use crate::raw::Item;
use crate::secret;
use crate::source::Span;

use super::context::Context;
use super::{address, tls};

/// CAs that may be written.
const MAX_AUTHORITIES: usize = 8;

/// Reads the block.
pub fn read(ctx: &mut Context<'_>, item: &Item<'_>) -> Acme {
    let mut acme = Acme::default();
    if item.child("ca").is_some() {
        acme.authorities.clear();
    }
    for child in &item.children {
        match child.name() {
            "email" => {
                if let Some((mail, span)) = child.arg_text(0) {
                    tls::check_mail(ctx, mail, span);
                    acme.email = Some(mail.to_owned());
                }
            }
            "storage" => {
                if let Some((text, span)) = child.arg_text(0) {
                    acme.storage = ctx.beside(span, text);
                }
            }
            "ca" => acme.authorities.extend(authority(ctx, child)),
            "dns" => acme.dns = dns(ctx, child),
            _ => acme.on_demand = on_demand(ctx, child),
        }
    }
    if acme.authorities.len() > MAX_AUTHORITIES {
        ctx.error(
            "too-many",
            item.name_span,
            format!("there are at most {MAX_AUTHORITIES} CAs"),
            "leave some out",
        );
    }
    acme
}

fn authority(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<AcmeAuthority> {
    let (text, span) = item.arg_text(0)?;
    let directory = url(ctx, text, span, &["https://"])?;
    let account = match (item.text("eab-id"), item.text("eab-key")) {
        (Some((id, _)), Some((reference, place))) => Some(ExternalAccount {
            key_id: id.to_owned(),
            key: secret::resolve(ctx, reference, place)?,
        }),
        (None, None) => None,
        _ => {
            ctx.error(
                "missing-value",
                item.span,
                "`eab-id=` and `eab-key=` belong together",
                "write both, as the CA gave them",
            );
            None
        }
    };
    Some(AcmeAuthority {
        directory,
        roots: tls::file(ctx, item.text("roots")),
        profile: item.text("profile").map(|(p, _)| p.to_owned()),
        account,
    })
}

/// A URL with one of these beginnings.
fn url(ctx: &mut Context<'_>, text: &str, span: Span, begins: &[&str]) -> Option<String> {
    let rest = begins.iter().find_map(|b| text.strip_prefix(b));
    let good = rest.is_some_and(|rest| {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        !host.is_empty() && !host.contains('@')
    }) && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    if good {
        return Some(text.to_owned());
    }
    let help = format!("write {}host/path", begins.join("host/path or "));
    ctx.error(
        "bad-url",
        span,
        format!("\"{text}\" is not a URL that can be used here"),
        help,
    );
    None
}

fn dns(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<DnsUpdates> {
    let (by, _) = item.arg_text(0)?;
    let (needed, others): (&[&str], &[&str]) = match by {
        "update" => (&["server", "key-name", "key"], &["zone", "algorithm"]),
        "exec" => (&["program"], &[]),
        _ => (&["url"], &["token"]),
    };
    for (name, given) in &item.props {
        if !needed.contains(name) && !others.contains(name) {
            ctx.error(
                "unused-key",
                given.span,
                format!("`{name}=` does not belong to `dns \"{by}\"`"),
                "leave it out",
            );
        }
    }
    for name in needed {
        if !item.props.iter().any(|(n, _)| n == name) {
            ctx.error(
                "missing-value",
                item.span,
                format!("`dns \"{by}\"` needs `{name}=`"),
                format!("for example: {}", item.spec.example),
            );
        }
    }
    let text = |name| item.text(name).map(|(t, _): (&str, _)| t.to_owned());
    match by {
        "update" => {
            let (address, span) = item.text("server")?;
            let Ok(server) = address.parse::<std::net::SocketAddr>() else {
                ctx.error(
                    "bad-address",
                    span,
                    format!("\"{address}\" is not the address of a name server"),
                    "write an IP address and a port, such as \"10.0.0.53:53\"",
                );
                return None;
            };
            let (reference, place) = item.text("key")?;
            Some(DnsUpdates::Update {
                server,
                zone: text("zone"),
                key_name: text("key-name")?,
                key: secret::resolve(ctx, reference, place)?,
                algorithm: text("algorithm").unwrap_or_else(|| "hmac-sha256".to_owned()),
            })
        }
        "exec" => {
            let (program, span) = item.text("program")?;
            let program: PathBuf = ctx.beside(span, program);
            Some(DnsUpdates::Exec(program))
        }
        _ => {
            let (written, span) = item.text("url")?;
            let token = match item.text("token") {
                Some((reference, place)) => Some(secret::resolve(ctx, reference, place)?),
                None => None,
            };
            Some(DnsUpdates::Webhook {
                url: url(ctx, written, span, &["https://", "http://"])?,
                token,
            })
        }
    }
}

fn on_demand(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<OnDemand> {
    let mut names = Vec::new();
    for (text, span) in item.texts() {
        match address::host(text) {
            Ok(crate::model::HostPattern::Any) => ctx.error(
                "bad-host",
                span,
                "whoever names a host here would get a certificate for it, until the CA refuses us",
                "write names, wildcards, or ask=\"http://...\"",
            ),
            Ok(host) => names.push(host),
            Err((message, help)) => ctx.error("bad-host", span, message, help),
        }
    }
    let ask = match item.text("ask") {
        Some((written, span)) => Some(url(ctx, written, span, &["https://", "http://"])?),
        None => None,
    };
    if ask.is_none() && item.args.is_empty() && !item.broken {
        ctx.error(
            "missing-value",
            item.span,
            "`on-demand` allows no name",
            format!("for example: {}", item.spec.example),
        );
    }
    Some(OnDemand {
        ask,
        names,
        per_hour: item.int("per-hour").unwrap_or(100),
        per_client: item.int("per-client").unwrap_or(10),
    })
}
