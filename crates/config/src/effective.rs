//! The effective configuration: everything that applies, every default spelled out, policies and levels merged.
//!
//! [`render`] writes it as a file of the language that loads to the same model; [`json`] writes the model as data. Secrets
//! stay references.

mod cache;
mod listeners;
mod sites;
mod tls;
mod upstreams;
mod writer;

use std::fmt::Write as _;

use serde_json::Value;

use crate::model::{AccessLog, AccessLogFormat, Address, Config, IpSet, LogTarget, MemoryCap};
use crate::schema::pending;
use writer::{Writer, q, size, time};

/// The effective configuration as a file.
pub fn render(config: &Config) -> String {
    let mut out = Writer::default();
    process(config, &mut out);
    for listener in &config.listeners {
        listeners::listener(listener, &mut out);
    }
    for upstream in &config.upstreams {
        upstreams::upstream(upstream, &mut out);
    }
    for site in &config.sites {
        sites::site(config, site, &mut out);
    }
    out.finish()
}

/// The effective configuration as data.
pub fn json(config: &Config) -> Value {
    serde_json::to_value(config).unwrap_or_default()
}

/// Is anything cached?
fn caches(config: &Config) -> bool {
    let mut routes = config.sites.iter().flat_map(|s| &s.routes);
    routes.any(|r| r.settings.cache.is_some())
}

fn process(config: &Config, out: &mut Writer) {
    out.line("version 1");
    out.line(format!("workers {}", config.workers));
    if let Some(identity) = &config.identity {
        let group = identity
            .group
            .as_ref()
            .map(|g| format!(" group={}", q(g)))
            .unwrap_or_default();
        out.line(format!("user {}{group}", q(&identity.user)));
    }
    out.line(format!(
        "memory max=\"{}\"",
        match config.memory {
            MemoryCap::Percent(n) => format!("{n}%"),
            MemoryCap::Bytes(n) => size(n),
        }
    ));
    out.line(format!(
        "connections max={} per-client={}",
        config.connections_max, config.connections_per_client
    ));
    let defaults = Config::default();
    let mut shutdown = format!("shutdown grace={}", time(config.shutdown_grace));
    if shown(
        pending::prop("shutdown", "upgrade-grace"),
        &config.upgrade_grace,
        &defaults.upgrade_grace,
    ) {
        let _ = write!(shutdown, " upgrade-grace={}", time(config.upgrade_grace));
    }
    out.line(shutdown);
    if shown(
        pending::key("", "shed"),
        &config.shed_latency,
        &defaults.shed_latency,
    ) {
        out.line(format!("shed latency={}", time(config.shed_latency)));
    }
    if let Some(zone) = &config.zone {
        out.line(format!("zone {}", q(zone)));
    }
    if !config.resolver.is_empty() {
        let servers: Vec<String> = config.resolver.iter().map(|a| q(&a.to_string())).collect();
        out.line(format!("resolver {}", servers.join(" ")));
    }
    if !config.trusted_proxies.is_empty() {
        out.line(format!(
            "trusted-proxies {}",
            networks(&config.trusted_proxies)
        ));
    }
    let id = &config.request_id;
    out.line(format!(
        "request-id #{} header={} trust=#{}",
        id.enabled,
        q(&id.header),
        id.trust
    ));
    let format = if config.log.json { "json" } else { "text" };
    out.line(format!(
        "log level={} format=\"{format}\"",
        q(&config.log.level)
    ));
    tls::tickets(&config.tls_tickets, out);
    tls::acme(&config.acme, out);
    if config.cache != defaults.cache || caches(config) {
        cache::store(&config.cache, out);
    }
    if let Some(file) = &config.pid_file {
        out.line(format!("pid-file {}", q(&file.to_string_lossy())));
    }
    for admin in &config.admin {
        let mode = matches!(admin.address, Address::Unix(_))
            .then(|| format!(" mode=\"{:04o}\"", admin.mode));
        let token = admin
            .token
            .as_ref()
            .map(|t| format!(" token={}", q(t.reference())));
        let address = q(&address(&admin.address));
        out.line(format!(
            "admin {address}{}{}",
            mode.unwrap_or_default(),
            token.unwrap_or_default()
        ));
    }
}

/// Is a value written? Every one is, but for a default that the program does not honour yet.
fn shown<T: PartialEq>(pending: bool, value: &T, default: &T) -> bool {
    !pending || value != default
}

/// An address as the language writes it.
fn address(address: &Address) -> String {
    match address {
        Address::Tcp(tcp) => tcp.to_string(),
        Address::Unix(path) => format!("unix:{}", path.display()),
        Address::Inherited(name) => format!("fd:{name}"),
    }
}

/// Networks as arguments.
fn networks(set: &IpSet) -> String {
    set.0
        .iter()
        .map(|n| q(&n.to_string()))
        .collect::<Vec<_>>()
        .join(" ")
}

fn access_log(log: Option<&AccessLog>) -> String {
    let Some(log) = log else {
        return "access-log \"off\"".to_owned();
    };
    let shape = match &log.format {
        AccessLogFormat::Json => "\"json\"".to_owned(),
        AccessLogFormat::Combined => "\"combined\"".to_owned(),
        AccessLogFormat::Template(t) => format!("template={}", q(&t.source)),
    };
    let path = match &log.target {
        LogTarget::Stdout => "stdout".to_owned(),
        LogTarget::Stderr => "stderr".to_owned(),
        LogTarget::File(path) => path.to_string_lossy().into_owned(),
    };
    let buffer = size(log.buffer as u64);
    format!(
        "access-log {shape} path={} buffer=\"{buffer}\" flush={}",
        q(&path),
        time(log.flush)
    )
}
