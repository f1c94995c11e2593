//! Sites and routes: levels merged, names resolved.

use std::collections::HashMap;
use std::sync::Arc;

use crate::check::shadow::Shadows;
use crate::check::slashes;
use crate::model::{
    Action, Address, ErrorPage, Filter, HostPattern, Hsts, Matcher, Part, Route, Site, SiteTls,
    Template, Upstream, UpstreamProtocol, Var,
};
use crate::problem::did_you_mean;
use crate::raw::{Item, Val};
use crate::secret;
use crate::source::Span;

use super::access_log::{self, AccessLogs};
use super::action::{self, Written};
use super::context::Context;
use super::filters::{self, Step};
use super::listener::{Group, Listeners};
use super::settings::{self, Patch};
use super::template::{Used, variable_help};
use super::upstream::Upstreams;
use super::{address, matcher, tls};

/// Routes of one site.
pub const MAX_ROUTES: usize = 10_000;
/// Hosts of one site.
const MAX_HOSTS: usize = 10_000;
/// Largest error page, in bytes.
const MAX_PAGE: u64 = 1 << 20;

/// Filters and settings of one block.
#[derive(Debug, Default)]
pub struct Level {
    steps: Vec<Step>,
    patch: Patch,
}

impl Level {
    fn read(ctx: &mut Context<'_>, item: &Item<'_>) -> Self {
        Self {
            steps: filters::steps(ctx, &item.children),
            patch: settings::patch(ctx, &item.children),
        }
    }
}

/// Policies by name.
#[derive(Debug, Default)]
pub struct Policies {
    list: Vec<(String, Span, Level, bool)>,
    by_name: HashMap<String, usize>,
}

impl Policies {
    /// Reads every `policy`.
    pub fn read(ctx: &mut Context<'_>, items: &[Item<'_>]) -> Self {
        let mut all = Self::default();
        for item in items {
            let Some((name, span)) = item.arg_text(0) else {
                continue;
            };
            if let Some(first) = all.by_name.get(name).and_then(|i| all.list.get(*i)) {
                let message = format!("two policies are called \"{name}\"");
                ctx.problems.error_at(
                    "duplicate-name",
                    span,
                    message,
                    "give each a name of its own",
                    (first.1, "the first one"),
                );
            }
            let level = Level::read(ctx, item);
            all.by_name.entry(name.to_owned()).or_insert(all.list.len());
            all.list.push((name.to_owned(), span, level, false));
        }
        all
    }

    /// The policies that the `use` lines of a block name.
    fn used(&mut self, ctx: &mut Context<'_>, item: &Item<'_>) -> Vec<usize> {
        let mut out = Vec::new();
        for (name, span) in item.all("use").flat_map(|u| u.texts().collect::<Vec<_>>()) {
            match self.by_name.get(name) {
                Some(index) if out.contains(index) => {
                    ctx.warning(
                        "duplicate-use",
                        span,
                        format!("\"{name}\" is used twice here"),
                        "keep one of them",
                    );
                }
                Some(index) => {
                    out.push(*index);
                    if let Some(policy) = self.list.get_mut(*index) {
                        policy.3 = true;
                    }
                }
                None => {
                    let near = did_you_mean(name, self.by_name.keys().map(String::as_str));
                    let help = near.map_or_else(
                        || format!("write `policy \"{name}\" {{ ... }}` at the top level"),
                        |n| format!("did you mean \"{n}\"?"),
                    );
                    ctx.error(
                        "unresolved-name",
                        span,
                        format!("no policy is called \"{name}\""),
                        help,
                    );
                }
            }
        }
        out
    }

    fn levels<'s>(&'s self, indices: &'s [usize]) -> impl Iterator<Item = &'s Level> {
        indices
            .iter()
            .filter_map(|i| self.list.get(*i))
            .map(|p| &p.2)
    }

    /// Warns of policies that nobody uses.
    pub fn warn_unused(&self, ctx: &mut Context<'_>) {
        for (name, span, _, used) in &self.list {
            if !used {
                ctx.warning(
                    "unused-policy",
                    *span,
                    format!("nobody uses the policy \"{name}\""),
                    format!("write `use \"{name}\"` in a site or route, or remove it"),
                );
            }
        }
    }
}

/// What all sites share.
pub struct Shared<'s> {
    /// Names.
    pub upstreams: &'s mut Upstreams,
    /// Names.
    pub policies: &'s mut Policies,
    /// Names.
    pub listeners: &'s Listeners,
    /// Logs in use.
    pub logs: &'s mut AccessLogs,
    /// The log of a site that writes none.
    pub default_log: Option<crate::model::AccessLog>,
}

/// A site of the file: one of the model per group of listeners that treat requests differently.
pub fn read(ctx: &mut Context<'_>, shared: &mut Shared<'_>, item: &Item<'_>) -> Option<Vec<Site>> {
    let hosts = hosts(ctx, item);
    let listeners = shared.listeners.resolve(ctx, item);
    let log = match item.child("access-log") {
        Some(log) => access_log::read(ctx, log),
        None => shared.default_log.clone(),
    };
    let access_log = log.map(|l| shared.logs.index(&l));
    let error_pages = item
        .all("error-page")
        .filter_map(|p| error_page(ctx, p))
        .collect();
    let own = Level::read(ctx, item);
    let used = shared.policies.used(ctx, item);
    let drafts = drafts(ctx, shared, item);
    let (site_tls, hsts) = encryption(ctx, shared.listeners, item, &hosts, &listeners);
    let site = Site {
        name: hosts.first().map(address::host_text).unwrap_or_default(),
        hosts,
        listeners: Vec::new(),
        routes: Vec::new(),
        access_log,
        merge_slashes: item.child("merge-slashes").is_some_and(Item::switch),
        error_pages,
        tls: site_tls,
        hsts,
        origin: ctx.origin(item.span),
    };
    let wrote_listeners = item.all("listen").next().is_some();
    if wrote_listeners && listeners.is_empty() {
        return None; // every one of them is unknown, and reported
    }
    let outer = Outer {
        own: &own,
        used: &used,
        policies: shared.policies,
        upstreams: &shared.upstreams.list,
    };
    Some(per_group(
        ctx,
        shared.listeners,
        &site,
        &listeners,
        item,
        |ctx, group| {
            // Sized at once: a collected `Vec` would hold room for four routes in each of many sites.
            let mut routes = Vec::with_capacity(drafts.len());
            routes.extend(drafts.iter().filter_map(|d| d.merge(ctx, &outer, group)));
            if !site.merge_slashes {
                let spans: Vec<Span> = drafts.iter().map(|d| d.span).collect();
                slashes::check(&mut ctx.problems, &routes, &spans);
            }
            routes
        },
    ))
}

/// `tls` and `hsts` of a site on these listeners.
fn encryption(
    ctx: &mut Context<'_>,
    all: &Listeners,
    item: &Item<'_>,
    hosts: &[HostPattern],
    on: &[usize],
) -> (Option<SiteTls>, Option<Hsts>) {
    let written = tls::site(ctx, item, hosts);
    let hsts = item.child("hsts").and_then(|h| tls::hsts(ctx, h));
    let (encrypted, plain) = all.serving(on);
    if encrypted.is_empty() {
        for name in ["tls", "hsts"] {
            if let Some(line) = item.all(name).next() {
                ctx.warning(
                    "unused-key",
                    line.span,
                    format!("`{name}` does nothing: this site is on no listener with TLS"),
                    "write `listen \":443\" { tls }`",
                );
            }
        }
    }
    let required = item
        .all("tls")
        .flat_map(|t| t.all("client-certificate"))
        .find(|c| matches!(c.arg_text(0), Some(("required", _))));
    if let (Some(required), Some(open)) = (required, plain.first()) {
        ctx.error(
            "certificate-on-plain",
            required.span,
            format!(
                "without TLS there is no client certificate, and \"{}\" serves this site without",
                open.name
            ),
            "write `listen` in the site, with the listeners that have `tls`",
        );
    }
    if encrypted.is_empty() {
        return (None, None);
    }
    (written.or_else(|| tls::unwritten(hosts)), hsts)
}

/// The levels above a route.
struct Outer<'s> {
    own: &'s Level,
    used: &'s [usize],
    policies: &'s Policies,
    upstreams: &'s [Upstream],
}

/// Listeners may run filters of their own, and a route's list is complete: one site per such group.
fn per_group(
    ctx: &mut Context<'_>,
    all: &Listeners,
    site: &Site,
    chosen: &[usize],
    item: &Item<'_>,
    mut routes: impl FnMut(&mut Context<'_>, &Group) -> Vec<Route>,
) -> Vec<Site> {
    let every: Vec<usize> = (0..all.list.len()).collect();
    let on = if chosen.is_empty() { &every } else { chosen };
    let mut out = Vec::new();
    let mut redirected = false;
    for (index, group) in all.groups.iter().enumerate() {
        let members: Vec<usize> = on
            .iter()
            .copied()
            .filter(|l| all.group_of.get(*l) == Some(&index))
            .collect();
        if members.is_empty() {
            continue;
        }
        if group.redirect {
            redirected = true;
            continue;
        }
        let whole = chosen.is_empty() && members.len() == all.list.len();
        let listeners = if whole { Vec::new() } else { members };
        out.push(Site {
            listeners,
            routes: routes(ctx, group),
            ..site.clone()
        });
    }
    if out.is_empty() && redirected {
        ctx.warning(
            "unreachable-site",
            item.name_span,
            "no listener serves this site: each of them only redirects to HTTPS",
            "write another `listen`, such as `listen \":443\" { tls }`",
        );
    }
    out
}

/// The sites that answer on listeners with `redirect-to-https`: one for each group of them.
pub fn redirect_sites(listeners: &Listeners) -> Vec<Site> {
    let groups = listeners
        .groups
        .iter()
        .enumerate()
        .filter(|(_, g)| g.redirect);
    groups
        .filter_map(|(index, group)| redirect_site(listeners, index, group))
        .collect()
}

/// Where clients find HTTPS, if nobody says.
fn https_port(listeners: &Listeners) -> Option<u16> {
    let ports = listeners.list.iter().filter(|l| l.tls.is_some());
    let ports: Vec<u16> = ports
        .filter_map(|l| match l.address {
            Address::Tcp(address) => Some(address.port()),
            _ => None,
        })
        .collect();
    let usual = ports.iter().find(|port| **port == 443);
    usual.or(ports.first()).copied()
}

fn redirect_site(listeners: &Listeners, index: usize, group: &Group) -> Option<Site> {
    let members: Vec<usize> = (0..listeners.list.len())
        .filter(|l| listeners.group_of.get(*l) == Some(&index))
        .collect();
    let origin = listeners.list.get(*members.first()?)?.origin.clone();
    let port = group.redirect_port.or_else(|| https_port(listeners));
    let port = port.filter(|port| *port != 443).map(|p| format!(":{p}"));
    let mut parts = vec![Part::Text("https://".to_owned()), Part::Var(Var::Host)];
    parts.extend(port.clone().map(Part::Text));
    parts.push(Part::Var(Var::Uri));
    let to = Template {
        source: format!("https://{{host}}{}{{uri}}", port.unwrap_or_default()),
        parts,
    };
    let route = Route {
        name: "redirect-to-https".to_owned(),
        matcher: Matcher::default(),
        filters: group.steps.iter().map(|s| s.filter.clone()).collect(),
        action: Action::Redirect { status: 308, to },
        settings: crate::model::RouteSettings::default(),
        origin: origin.clone(),
    };
    let whole = members.len() == listeners.list.len();
    Some(Site {
        name: "*".to_owned(),
        hosts: vec![HostPattern::Any],
        listeners: if whole { Vec::new() } else { members },
        routes: vec![route],
        access_log: None,
        merge_slashes: false,
        error_pages: Vec::new(),
        tls: None,
        hsts: None,
        origin,
    })
}

fn hosts(ctx: &mut Context<'_>, item: &Item<'_>) -> Vec<HostPattern> {
    let mut out = Vec::new();
    for (text, span) in item.texts() {
        match address::host(text) {
            Ok(host) => out.push(host),
            Err((message, help)) => ctx.error("bad-host", span, message, help),
        }
    }
    if item.args.len() > MAX_HOSTS {
        ctx.error(
            "too-many",
            item.name_span,
            format!("a site has at most {MAX_HOSTS} hosts"),
            "write several sites, or a wildcard",
        );
    }
    out
}

fn error_page(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<ErrorPage> {
    let statuses: Vec<(u16, u16)> = item
        .args
        .iter()
        .filter_map(|a| match a.val {
            Val::Statuses(from, to) => Some((from, to)),
            _ => None,
        })
        .collect();
    let (text, span) = item.text("file")?;
    let file = ctx.beside(span, text);
    let body = match secret::read(ctx, &file, MAX_PAGE) {
        Ok(body) => body,
        Err((message, help)) => {
            ctx.error("unreadable-file", span, message, help);
            return None;
        }
    };
    let content_type = content_type(text).to_owned();
    let intercept = item.bool("intercept").unwrap_or(false);
    Some(ErrorPage {
        statuses,
        body: Arc::new(body),
        content_type,
        file,
        intercept,
    })
}

fn content_type(file: &str) -> &'static str {
    let ending = file
        .rsplit_once('.')
        .map_or("", |(_, e)| e)
        .to_ascii_lowercase();
    match ending.as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "json" => "application/json",
        "xml" => "application/xml",
        "svg" => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

/// A route before it is merged with the levels above.
struct Draft {
    name: String,
    read: matcher::Read,
    level: Level,
    used: Vec<usize>,
    written: Written,
    span: Span,
}

fn drafts(ctx: &mut Context<'_>, shared: &mut Shared<'_>, item: &Item<'_>) -> Vec<Draft> {
    let mut shadows = Shadows::default();
    let count = item.all("route").count();
    let mut out = Vec::with_capacity(count.min(MAX_ROUTES) + 1);
    if count > MAX_ROUTES {
        ctx.error(
            "too-many",
            item.name_span,
            format!("a site has at most {MAX_ROUTES} routes"),
            "write captures or regular expressions, or several sites",
        );
    }
    for route in item.all("route").take(MAX_ROUTES) {
        let draft = draft(ctx, shared, route);
        if !draft.read.broken && !route.broken {
            shadows.check(&mut ctx.problems, &draft.read.matcher, draft.span);
        }
        if draft.written.action.is_some() {
            out.push(draft);
        }
    }
    if let Some(written) = action::read(ctx, shared.upstreams, &item.children) {
        shadows.check(&mut ctx.problems, &Matcher::default(), written.span);
        let span = written.span;
        let read = matcher::Read::default();
        out.push(Draft {
            name: "*".to_owned(),
            read,
            level: Level::default(),
            used: Vec::new(),
            written,
            span,
        });
    } else if count == 0 && !item.broken {
        ctx.error(
            "no-action",
            item.name_span,
            "this site does nothing",
            "write `proxy \"127.0.0.1:3000\"`, `route`, `redirect` or `respond` in its block",
        );
    }
    out
}

fn draft(ctx: &mut Context<'_>, shared: &mut Shared<'_>, item: &Item<'_>) -> Draft {
    let read = matcher::read(ctx, item);
    let level = Level::read(ctx, item);
    let used = shared.policies.used(ctx, item);
    let written = action::read(ctx, shared.upstreams, &item.children).unwrap_or_else(|| {
        if !item.broken {
            let help = "write `proxy`, `redirect`, `respond` or `split` in its block";
            ctx.error("no-action", item.name_span, "this route does nothing", help);
        }
        Written {
            action: None,
            uses: Vec::new(),
            span: item.span,
            answers: false,
        }
    });
    if written.answers {
        warn_unreachable(ctx, &level, &written);
    }
    let name = match item.text("name") {
        Some((name, span)) => {
            super::upstream::check_name(ctx, name, span);
            name.to_owned()
        }
        None => read.written.clone().unwrap_or_else(|| "*".to_owned()),
    };
    Draft {
        name,
        read,
        level,
        used,
        written,
        span: item.span,
    }
}

/// Steps and settings that only matter to a request that is sent on.
fn warn_unreachable(ctx: &mut Context<'_>, level: &Level, written: &Written) {
    let related = (written.span, "this route answers by itself");
    for step in &level.steps {
        if matches!(
            step.filter,
            Filter::RequestHeaders(_) | Filter::StripPrefix(_) | Filter::AddPrefix(_)
        ) {
            let help = "leave it out, or `proxy` the request";
            ctx.problems.warning_at(
                "unreachable-filter",
                step.span,
                "this step never matters: nothing is sent on",
                help,
                related,
            );
        }
    }
    for (name, span) in &level.patch.upstream_only {
        let message = format!("`{name}` never matters: nothing is sent on");
        ctx.problems.warning_at(
            "unreachable-filter",
            *span,
            message,
            "leave it out, or `proxy` the request",
            related,
        );
    }
}

impl Draft {
    fn merge(&self, ctx: &mut Context<'_>, outer: &Outer<'_>, group: &Group) -> Option<Route> {
        let site_used: Vec<&Level> = outer.policies.levels(outer.used).collect();
        let own_used: Vec<&Level> = outer
            .policies
            .levels(&self.used)
            .filter(|l| !site_used.iter().any(|s| std::ptr::eq(*s, *l)))
            .collect();
        let mut steps: Vec<&[Step]> = vec![&group.steps, &outer.own.steps];
        steps.extend(
            site_used
                .iter()
                .chain(&own_used)
                .map(|l| l.steps.as_slice()),
        );
        steps.push(&self.level.steps);
        let steps = filters::merge(&steps);

        let mut patches: Vec<&Patch> = site_used.iter().map(|l| &l.patch).collect();
        patches.push(&outer.own.patch);
        patches.extend(own_used.iter().map(|l| &l.patch));
        patches.push(&self.level.patch);

        let uses = steps
            .iter()
            .flat_map(|s| &s.uses)
            .chain(patches.iter().flat_map(|p| &p.uses))
            .chain(&self.written.uses);
        for used in uses {
            self.check_bound(ctx, used);
        }
        warn_after_wall(ctx, &steps);
        let settings = settings::merge(&patches);
        if settings.grpc_web {
            self.check_grpc_web(ctx, outer.upstreams, &patches);
        }
        Some(Route {
            name: self.name.clone(),
            matcher: self.read.matcher.clone(),
            filters: steps.into_iter().map(|s| s.filter.clone()).collect(),
            action: self.written.action.clone()?,
            settings,
            origin: ctx.origin(self.span),
        })
    }

    /// gRPC is spoken by HTTP/2 only.
    fn check_grpc_web(&self, ctx: &mut Context<'_>, upstreams: &[Upstream], patches: &[&Patch]) {
        let written = patches.iter().flat_map(|p| &p.upstream_only);
        let Some((_, span)) = written.rev().find(|(name, _)| *name == "grpc-web") else {
            return;
        };
        let to: Vec<usize> = match &self.written.action {
            Some(Action::Proxy(to)) => vec![*to],
            Some(Action::Split(split)) => split.to.iter().map(|(to, _)| *to).collect(),
            _ => return,
        };
        let speaks = |to: &usize| {
            let upstream = upstreams.get(*to);
            upstream.is_none_or(|u| u.protocol != UpstreamProtocol::Http1)
        };
        if !to.iter().all(speaks) {
            ctx.problems.error_at(
                "needs-h2",
                *span,
                "gRPC-Web needs servers that are spoken HTTP/2 to",
                "write `protocol \"h2\"` in the upstream",
                (self.written.span, "these are spoken HTTP/1.1 to"),
            );
        }
    }

    fn check_bound(&self, ctx: &mut Context<'_>, used: &Used) {
        if self.read.captures.contains(&used.name) || self.read.broken {
            return;
        }
        let message = if self.read.captures.is_empty() {
            format!(
                "`{{{}}}` is not a variable, and the path captures nothing",
                used.name
            )
        } else {
            format!(
                "`{{{}}}` is neither a variable nor captured by the path",
                used.name
            )
        };
        let help = variable_help(&used.name, &self.read.captures);
        ctx.problems.error_at(
            "unbound-capture",
            used.span,
            message,
            help,
            (self.span, "the route"),
        );
    }
}

/// `deny` of everything, with steps behind it.
fn warn_after_wall(ctx: &mut Context<'_>, steps: &[&Step]) {
    let wall = steps
        .iter()
        .position(|s| matches!(&s.filter, Filter::Deny(set) if covers_all(set)));
    let Some(wall) = wall else { return };
    if let (Some(wall), Some(next)) = (steps.get(wall), steps.get(wall + 1)) {
        ctx.problems.warning_at(
            "unreachable-filter",
            next.span,
            "no request gets here: everyone is denied before",
            "move it up, or deny fewer",
            (wall.span, "denies everyone"),
        );
    }
}

fn covers_all(set: &crate::model::IpSet) -> bool {
    let whole = |v4: bool| {
        set.0
            .iter()
            .any(|n| n.prefix_len() == 0 && n.addr().is_ipv4() == v4)
    };
    whole(true) && whole(false)
}
