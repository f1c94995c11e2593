//! `discover`.

use std::path::PathBuf;

use crate::lower::address;
use crate::lower::context::Context;
use crate::model::{Discover, ServerAddress};
use crate::raw::Item;
use crate::secret;

const DOCKER: &str = "unix:/var/run/docker.sock";
const CONSUL: &str = "127.0.0.1:8500";
const ETCD: &str = "127.0.0.1:2379";

pub(super) fn read(ctx: &mut Context<'_>, item: &Item<'_>, upstream: &str) -> Option<Discover> {
    let (source, _) = item.arg_text(0)?;
    let takes = properties(source);
    for (name, given) in item.props.iter().filter(|(name, _)| !takes.contains(name)) {
        let message = format!("`discover \"{source}\"` has no property `{name}`");
        let help = format!("it takes {}", takes.join("=, ") + "=");
        ctx.error("unknown-key", given.span, message, help);
    }
    let own = |name: &str| item.text(name).map(|(text, _)| text.to_owned());
    let service = || own("service").unwrap_or_else(|| upstream.to_owned());
    match source {
        "file" => {
            let (path, span) = required(ctx, item, "path")?;
            let path = ctx.beside(span, path);
            Some(Discover::File { path })
        }
        "docker" => match at(ctx, item, "socket", DOCKER)? {
            ServerAddress::Unix(socket) => Some(Discover::Docker {
                socket,
                service: service(),
                network: own("network"),
                port: item.int("port"),
            }),
            _ => {
                ctx.error(
                    "bad-address",
                    item.prop("socket").map_or(item.span, |g| g.span),
                    "the engine is asked over a unix socket only",
                    format!("write \"{DOCKER}\""),
                );
                None
            }
        },
        "consul" => Some(Discover::Consul {
            address: at(ctx, item, "address", CONSUL)?,
            service: service(),
            tag: own("tag"),
            datacenter: own("datacenter"),
            token: item
                .text("token")
                .and_then(|(reference, span)| secret::resolve(ctx, reference, span)),
        }),
        _ => etcd(ctx, item),
    }
}

fn etcd(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<Discover> {
    let address = at(ctx, item, "address", ETCD)?;
    let (prefix, _) = required(ctx, item, "prefix")?;
    let password = item
        .text("password")
        .and_then(|(reference, span)| secret::resolve(ctx, reference, span));
    let user = item.text("user").map(|(user, _)| user.to_owned());
    let wrote = |name| item.props.iter().any(|(n, _)| *n == name);
    if wrote("user") != wrote("password") {
        ctx.error(
            "missing-value",
            item.name_span,
            "`user=` and `password=` belong together",
            "write both or neither",
        );
    }
    Some(Discover::Etcd {
        address,
        prefix: prefix.to_owned(),
        login: user.zip(password),
    })
}

fn properties(source: &str) -> &'static [&'static str] {
    match source {
        "file" => &["path"],
        "docker" => &["socket", "service", "network", "port"],
        "consul" => &["address", "service", "tag", "datacenter", "token"],
        _ => &["address", "prefix", "user", "password"],
    }
}

fn required<'a>(
    ctx: &mut Context<'_>,
    item: &Item<'a>,
    name: &'static str,
) -> Option<(&'a str, crate::source::Span)> {
    let found = item.text(name);
    if found.is_none() && !item.broken {
        ctx.error(
            "missing-value",
            item.name_span,
            format!("this `discover` needs `{name}=`"),
            match name {
                "path" => "for example: discover \"file\" path=\"servers.kdl\"",
                _ => "for example: discover \"etcd\" prefix=\"/services/api/\"",
            },
        );
    }
    found
}

/// Where the source is.
fn at(ctx: &mut Context<'_>, item: &Item<'_>, name: &str, usual: &str) -> Option<ServerAddress> {
    let Some((text, span)) = item.text(name) else {
        return match usual.strip_prefix("unix:") {
            Some(path) => Some(ServerAddress::Unix(PathBuf::from(path))),
            None => address::server(usual).ok(),
        };
    };
    if text.starts_with("https://") {
        ctx.error(
            "not-built-yet",
            span,
            "TLS to a source of servers is not built yet in this version",
            "write a plain \"address:port\", and let a local agent or proxy speak TLS",
        );
        return None;
    }
    match address::server(text) {
        Ok(address) => Some(address),
        Err((message, help)) => {
            ctx.error("bad-address", span, message, help);
            None
        }
    }
}
