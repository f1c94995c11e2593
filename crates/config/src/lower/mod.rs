//! From what was written to what the program may rely on: defaults filled in, names resolved, levels merged, addresses and
//! templates parsed.

mod access_log;
mod acme;
mod action;
pub(crate) mod address;
mod cache;
pub(crate) mod context;
mod filters;
mod globals;
mod headers;
mod listener;
mod matcher;
pub(crate) mod path;
mod place;
mod regex;
mod settings;
mod site;
pub(crate) mod template;
pub(crate) mod text;
mod tls;
pub(crate) mod upstream;

use crate::check::hosts::Hosts;
use crate::model::{AccessLog, Config, Site};
use crate::raw::{self, Item, TOP};
use crate::schema;
use crate::source::{FileId, Span};
use crate::syntax::tree::{Document, Node, Scalar};

use access_log::AccessLogs;
use context::Context;
use listener::Listeners;
use site::{Policies, Shared};
use upstream::Upstreams;

/// Sites of one configuration.
pub const MAX_SITES: usize = 100_000;
/// The version of the language.
pub const VERSION: i64 = 1;

/// Keys of the top level, sorted by what they are.
#[derive(Default)]
struct Sorted<'a> {
    globals: Vec<Item<'a>>,
    access_log: Option<Item<'a>>,
    listeners: Vec<Item<'a>>,
    upstreams: Vec<Item<'a>>,
    policies: Vec<Item<'a>>,
    sites: Vec<&'a Node>,
}

/// Lowers a document. The result is usable only if `ctx` holds no error afterwards.
pub fn lower(ctx: &mut Context<'_>, document: &Document) -> Config {
    check_version(ctx, document);
    let sorted = sort(ctx, document);
    let mut config = Config {
        workers: ctx.env.cores.clamp(1, 256),
        ..Config::default()
    };
    for item in &sorted.globals {
        globals::read(ctx, item, &mut config);
    }
    ctx.on_demand = sorted
        .globals
        .iter()
        .any(|item| item.name() == "acme" && item.child("on-demand").is_some());
    let anywhere = sorted.sites.first().map(|s| s.name.span);
    let automatic = is_automatic(ctx, &sorted.sites);
    let listeners = Listeners::read(ctx, &sorted.listeners, anywhere, automatic);
    let mut upstreams = Upstreams::read(ctx, &sorted.upstreams);
    let mut policies = Policies::read(ctx, &sorted.policies);
    let mut logs = AccessLogs::default();
    let default_log = match &sorted.access_log {
        Some(item) => access_log::read(ctx, item),
        None => Some(AccessLog::default()),
    };
    let mut shared = Shared {
        upstreams: &mut upstreams,
        policies: &mut policies,
        listeners: &listeners,
        logs: &mut logs,
        default_log,
    };
    config.sites = sites(ctx, &mut shared, &sorted.sites);
    let redirects = site::redirect_sites(&listeners);
    if !redirects.is_empty() {
        let access_log = shared.default_log.clone().map(|l| shared.logs.index(&l));
        config.sites.extend(
            redirects
                .into_iter()
                .map(|site| Site { access_log, ..site }),
        );
    }
    if ctx.problems.errors() == 0 {
        // A misspelt use would be told twice.
        upstreams.warn_unused(ctx);
        policies.warn_unused(ctx);
    }
    config.access_logs = logs.list;
    config.upstreams = upstreams.list;
    config.listeners = listeners.list;
    check_admin(ctx, &config, &sorted);
    for item in sorted.globals.iter().filter(|i| i.name() == "cache") {
        cache::check_directory(ctx, item, &config);
    }
    config
}

/// Without a `listen`: does anybody need TLS? Whoever has a name that can be certified, or says where certificates come from.
fn is_automatic(ctx: &Context<'_>, sites: &[&Node]) -> bool {
    let acme = ctx.problems.unbuilt || !schema::pending::key("", "acme");
    let mut named = false;
    let mut all_written = true;
    for site in sites {
        let mut children = site.children.iter().flatten();
        let written = children.any(|c| c.name.text == "tls");
        all_written &= written;
        named |= written
            || site
                .args
                .iter()
                .any(|a| !matches!(&a.scalar, Scalar::String(s) if s == "*"));
    }
    named && (acme || all_written)
}

fn sort<'a>(ctx: &mut Context<'_>, document: &'a Document) -> Sorted<'a> {
    let mut sorted = Sorted::default();
    let mut seen = raw::Duplicates::default();
    for node in &document.nodes {
        match node.name.text.as_str() {
            "site" => sorted.sites.push(node),
            "version" | "include" => {}
            _ => {
                let Some(item) = raw::read(node, TOP, &mut ctx.problems) else {
                    continue;
                };
                seen.check(&item, &mut ctx.problems);
                match item.name() {
                    "listen" => sorted.listeners.push(item),
                    "upstream" => sorted.upstreams.push(item),
                    "policy" => sorted.policies.push(item),
                    "access-log" => sorted.access_log = Some(item),
                    _ => sorted.globals.push(item),
                }
            }
        }
    }
    sorted
}

fn sites(ctx: &mut Context<'_>, shared: &mut Shared<'_>, nodes: &[&Node]) -> Vec<Site> {
    if nodes.is_empty() && ctx.problems.errors() == 0 {
        let end = ctx.sources.text(FileId(0)).len();
        let help = "write `site \"example.com\" { proxy \"127.0.0.1:3000\" }`";
        ctx.warning(
            "no-site",
            Span::new(FileId(0), 0, end.min(1)),
            "no site is written: every request is answered 404",
            help,
        );
    }
    if let Some(node) = nodes.get(MAX_SITES) {
        ctx.error(
            "too-many",
            node.name.span,
            format!("there are more than {MAX_SITES} sites"),
            "use wildcards, or several proxies",
        );
    }
    let mut hosts = Hosts::default();
    let mut out = Vec::with_capacity(nodes.len().min(MAX_SITES));
    for node in nodes.iter().take(MAX_SITES) {
        let Some(item) = raw::read(node, TOP, &mut ctx.problems) else {
            continue;
        };
        let Some(read) = site::read(ctx, shared, &item) else {
            continue;
        };
        // One site of the file may be several of the model; a host is compared with the other sites of the file.
        let on = if read.iter().any(|s| s.listeners.is_empty()) {
            Vec::new()
        } else {
            let mut on: Vec<usize> = read
                .iter()
                .flat_map(|s| s.listeners.iter().copied())
                .collect();
            on.sort_unstable();
            on
        };
        if let Some(first) = read.first().filter(|s| s.hosts.len() == item.args.len()) {
            for (host, arg) in first.hosts.iter().zip(&item.args) {
                hosts.add(&mut ctx.problems, host, &on, arg.span);
            }
        }
        out.extend(read);
    }
    out
}

/// `version 1` comes first. Included files may say it too.
fn check_version(ctx: &mut Context<'_>, document: &Document) {
    let mut main_seen: Option<Span> = None;
    for (index, node) in document.nodes.iter().enumerate() {
        let is_version = node.name.text == "version";
        if index == 0 && !is_version {
            let later = document
                .nodes
                .iter()
                .any(|n| n.name.text == "version" && n.name.span.file == node.name.span.file);
            let (message, help) = if later {
                (
                    "`version` must come first",
                    "move `version 1` to the top of the file",
                )
            } else {
                (
                    "the file does not say its version",
                    "write `version 1` as the first line",
                )
            };
            ctx.error("missing-version", node.name.span, message, help);
        }
        if !is_version {
            continue;
        }
        check_one_version(ctx, node);
        if let Some(first) = main_seen.filter(|first| first.file == node.name.span.file) {
            ctx.problems.error_at(
                "duplicate-key",
                node.name.span,
                "`version` is written twice",
                "keep the first one",
                (first, "first written here"),
            );
        }
        main_seen.get_or_insert(node.name.span);
    }
    if document.nodes.is_empty() && ctx.problems.errors() == 0 {
        ctx.error(
            "missing-version",
            Span::default(),
            "the file says nothing",
            "write `version 1` as the first line",
        );
    }
}

fn check_one_version(ctx: &mut Context<'_>, node: &Node) {
    let Some(item) = raw::read(node, TOP, &mut ctx.problems) else {
        return;
    };
    if let (Some(Scalar::Integer(n)), Some(given)) =
        (node.args.first().map(|a| &a.scalar), item.arg(0))
        && *n != i128::from(VERSION)
    {
        let message = format!("version {n} is not known; this Narthex reads version {VERSION}");
        ctx.error(
            "unknown-version",
            given.span,
            message,
            "write `version 1`, or use a newer Narthex",
        );
    }
}

/// The admin socket is no listener.
fn check_admin(ctx: &mut Context<'_>, config: &Config, sorted: &Sorted<'_>) {
    for item in sorted.globals.iter().filter(|i| i.name() == "admin") {
        let Some((text, span)) = item.arg_text(0) else {
            continue;
        };
        let Ok(address) = address::listen(text) else {
            continue;
        };
        let free_port = matches!(&address, crate::model::Address::Tcp(a) if a.port() == 0);
        if !free_port && config.listeners.iter().any(|l| l.address == address) {
            ctx.error(
                "duplicate-listener",
                span,
                format!("\"{text}\" is a `listen` address already"),
                "give the admin socket an address of its own",
            );
        }
    }
}
