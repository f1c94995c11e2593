//! Keys of the top level that are about the process.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::model::{Address, Admin, Config, Identity, MemoryCap};
use crate::raw::{Item, Val};
use crate::secret;

use super::context::{Context, set};
use super::{acme, address, cache, headers, listener, tls};

/// Name servers that may be written.
const MAX_RESOLVERS: usize = 8;

/// Reads one key.
pub fn read(ctx: &mut Context<'_>, item: &Item<'_>, config: &mut Config) {
    match item.name() {
        "workers" => set(&mut config.workers, item.arg(0).and_then(|a| a.int())),
        "user" => {
            if let Some((user, _)) = item.arg_text(0) {
                let group = item.text("group").map(|(g, _)| g.to_owned());
                config.identity = Some(Identity {
                    user: user.to_owned(),
                    group,
                });
            }
        }
        "memory" => match item.prop("max").map(|g| &g.val) {
            Some(Val::Bytes(n)) => config.memory = MemoryCap::Bytes(*n),
            Some(Val::Share(n)) => config.memory = MemoryCap::Percent((n / 100) as u8),
            _ => {}
        },
        "connections" => {
            set(&mut config.connections_max, item.int("max"));
            set(&mut config.connections_per_client, item.int("per-client"));
        }
        "shutdown" => {
            set(&mut config.shutdown_grace, item.duration("grace"));
            set(&mut config.upgrade_grace, item.duration("upgrade-grace"));
        }
        "shed" => set(&mut config.shed_latency, item.duration("latency")),
        "zone" => config.zone = item.arg_text(0).map(|(zone, _)| zone.to_owned()),
        "resolver" => resolver(ctx, item, config),
        "trusted-proxies" => trusted(ctx, item, config),
        "request-id" => request_id(ctx, item, config),
        "log" => log(ctx, item, config),
        "tls-tickets" => tls::tickets(ctx, item, config),
        "cache" => cache::store(ctx, item, &mut config.cache),
        "acme" => config.acme = acme::read(ctx, item),
        "pid-file" => config.pid_file = item.arg_text(0).map(|(p, _)| PathBuf::from(p)),
        "admin" => config.admin.extend(admin(ctx, item)),
        _ => {}
    }
}

fn resolver(ctx: &mut Context<'_>, item: &Item<'_>, config: &mut Config) {
    for (text, span) in item.texts() {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => config.resolver.push(address),
            _ => ctx.error(
                "bad-address",
                span,
                format!("\"{text}\" is not the address of a name server"),
                "write an IP address and a port, such as \"10.0.0.53:53\"",
            ),
        }
    }
    if config.resolver.len() > MAX_RESOLVERS {
        ctx.error(
            "too-many",
            item.name_span,
            format!("there are at most {MAX_RESOLVERS} name servers"),
            "leave some out",
        );
    }
}

fn trusted(ctx: &mut Context<'_>, item: &Item<'_>, config: &mut Config) {
    for (text, span) in item.texts() {
        if address::network(text).is_ok_and(|n| n.prefix_len() == 0) {
            ctx.warning(
                "trusts-everyone",
                span,
                format!("\"{text}\" believes what every client says about its own address"),
                "name the networks of the proxies in front of this one",
            );
        }
    }
    let set = address::networks(ctx, item.texts());
    config.trusted_proxies.0.extend(set.0);
}

fn request_id(ctx: &mut Context<'_>, item: &Item<'_>, config: &mut Config) {
    let id = &mut config.request_id;
    id.enabled = item.switch();
    set(&mut id.trust, item.bool("trust"));
    let Some((name, span)) = item.text("header") else {
        return;
    };
    if !headers::check_name(ctx, name, span) {
        return;
    }
    if headers::is_reserved(name) {
        ctx.error(
            "proxy-owned-header",
            span,
            format!("`{name}` cannot carry the request's id"),
            "write a name such as \"X-Request-Id\"",
        );
        return;
    }
    name.clone_into(&mut config.request_id.header);
}

fn log(ctx: &mut Context<'_>, item: &Item<'_>, config: &mut Config) {
    config.log.json = matches!(item.text("format"), Some(("json", _)));
    let Some((level, span)) = item.text("level") else {
        return;
    };
    let wrong = level.split(',').map(str::trim).find(|d| !directive(d));
    match wrong {
        None => level.clone_into(&mut config.log.level),
        Some(word) => {
            let help = crate::problem::did_you_mean(word, LEVELS.iter().copied()).map_or_else(
                || "write error, warn, info, debug, trace, or target=level pairs with commas between".to_owned(),
                |w| format!("did you mean \"{w}\"?"),
            );
            ctx.error(
                "bad-log-level",
                span,
                format!("\"{word}\" is not a log level"),
                help,
            );
        }
    }
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// `level`, `target=level`.
fn directive(text: &str) -> bool {
    let target = |t: &str| {
        !t.is_empty()
            && t.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':' || b == b'-')
    };
    match text.split_once('=') {
        Some((t, level)) => target(t) && LEVELS.contains(&level),
        None => LEVELS.contains(&text),
    }
}

fn admin(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<Admin> {
    let token = item
        .text("token")
        .and_then(|(reference, span)| secret::resolve(ctx, reference, span));
    let mode = item
        .text("mode")
        .and_then(|(text, span)| listener::mode(ctx, text, span))
        .unwrap_or(0o600);
    let (text, span) = item.arg_text(0)?;
    let address = match address::listen(text) {
        Ok(address) => address,
        Err((message, help)) => {
            ctx.error("bad-address", span, message, help);
            return None;
        }
    };
    let wrote_token = item.props.iter().any(|(name, _)| *name == "token");
    match &address {
        Address::Tcp(tcp) => {
            let loopback = match tcp.ip() {
                IpAddr::V6(v6) => v6.to_canonical().is_loopback(),
                IpAddr::V4(v4) => v4.is_loopback(),
            };
            if !loopback && !wrote_token {
                ctx.error(
                    "admin-open",
                    span,
                    format!("\"{text}\" can be reached from other machines and asks for no token"),
                    "write \"127.0.0.1:9180\", a unix socket, or add token=\"env:NAME\"",
                );
            }
            if let Some((_, span)) = item.text("mode") {
                ctx.warning(
                    "unused-key",
                    span,
                    "`mode=` is for unix sockets",
                    "leave it out",
                );
            }
        }
        Address::Unix(_) if mode & 0o007 != 0 => {
            if let Some((_, span)) = item.text("mode") {
                ctx.warning(
                    "admin-open",
                    span,
                    "every user of this machine may control the proxy",
                    "write mode=\"0600\" or mode=\"0660\"",
                );
            }
        }
        _ => {}
    }
    Some(Admin {
        address,
        mode,
        token,
    })
}
