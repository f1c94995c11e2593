//! TLS of listeners, sites and upstreams, and keys of tickets.

use std::path::PathBuf;

use crate::model::{
    CertificateFiles, CertificateSource, Challenge, ClientCertificates, Config, HostPattern, Hsts,
    Http2Limits, ListenerTls, Protocol, SiteAcme, SiteTls, TlsLevel, UnknownName, UpstreamProtocol,
    UpstreamRoots, UpstreamTls, can_be_public,
};
use crate::raw::{Item, Val};
use crate::secret;
use crate::source::Span;

use super::address;
use super::context::{Context, set};

/// Certificates of one site.
const MAX_PAIRS: usize = 8;
/// Largest file of certificates or revocations, in bytes.
const MAX_PEM: u64 = 16 << 20;
/// A ticket key seals for so long at most.
const MAX_ROTATION: std::time::Duration = std::time::Duration::from_hours(12);
/// Least a secret for tickets may have, in bytes.
const MIN_TICKET_SECRET: usize = 32;

/// `tls` of a listener.
pub fn listener(item: &Item<'_>) -> ListenerTls {
    let mut tls = ListenerTls::default();
    for child in &item.children {
        let word = child.arg_text(0).map(|(w, _)| w);
        match child.name() {
            "policy" => set(&mut tls.level, level(word)),
            "handshake-timeout" => {
                if let Some(Val::Duration(time)) = child.arg(0).map(|a| &a.val) {
                    tls.handshake_timeout = *time;
                }
            }
            "pending" => set(&mut tls.pending, child.arg(0).and_then(|a| a.int())),
            "unknown-name" if word == Some("default") => tls.unknown_name = UnknownName::Default,
            _ => {}
        }
    }
    tls
}

fn level(word: Option<&str>) -> Option<TlsLevel> {
    Some(match word? {
        "modern" => TlsLevel::Modern,
        _ => TlsLevel::Intermediate,
    })
}

/// `protocols` of a listener.
pub fn protocols(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<Vec<Protocol>> {
    let mut out = Vec::new();
    for (word, span) in item.texts() {
        let protocol = match word {
            "h2" => Protocol::Http2,
            _ => Protocol::Http1,
        };
        if out.contains(&protocol) {
            let message = format!("\"{word}\" is there twice");
            ctx.error("duplicate-value", span, message, "keep one of them");
        } else {
            out.push(protocol);
        }
    }
    (!out.is_empty()).then_some(out)
}

/// `http2` of a listener.
pub fn http2(item: &Item<'_>, to: &mut Http2Limits) {
    set(&mut to.streams, item.int("streams"));
}

/// What a site writes about TLS; `None`: nothing.
pub fn site(ctx: &mut Context<'_>, item: &Item<'_>, hosts: &[HostPattern]) -> Option<SiteTls> {
    let lines: Vec<&Item<'_>> = item.all("tls").collect();
    let first = *lines.first()?;
    let sources: Vec<(CertificateSource, Span)> = lines
        .iter()
        .filter_map(|line| Some((source(ctx, line)?, line.span)))
        .collect();
    let mut source = join(ctx, sources).unwrap_or_else(|| automatic(hosts));
    if let CertificateSource::Files(pairs) = &mut source
        && pairs.len() > MAX_PAIRS
    {
        ctx.error(
            "too-many",
            first.span,
            format!("a site has at most {MAX_PAIRS} certificates"),
            "one per kind of key is enough; give other names a site of their own",
        );
    }
    let mut tls = SiteTls::new(source);
    for line in &lines {
        for child in &line.children {
            match child.name() {
                "policy" => {
                    once(ctx, child, tls.level.is_some());
                    tls.level = level(child.arg_text(0).map(|(w, _)| w));
                }
                _ => {
                    once(ctx, child, tls.client.is_some());
                    tls.client = client(ctx, child);
                }
            }
        }
    }
    Some(tls)
}

/// What a site has that writes nothing: by ACME what can be, the rest by the local CA. A site for every host has no name that
/// could be certified.
pub fn unwritten(hosts: &[HostPattern]) -> Option<SiteTls> {
    hosts
        .iter()
        .any(|h| *h != HostPattern::Any)
        .then(|| SiteTls::new(automatic(hosts)))
}

fn automatic(hosts: &[HostPattern]) -> CertificateSource {
    let public = hosts.iter().any(|h| match h {
        HostPattern::Exact(name) => can_be_public(name),
        // A wildcard needs a TXT record, which nobody has said where to write.
        HostPattern::Wildcard(_) | HostPattern::Any => false,
    });
    if !public {
        return CertificateSource::Internal;
    }
    CertificateSource::Acme(SiteAcme {
        email: None,
        challenge: Challenge::Auto,
        on_demand: false,
    })
}

fn once(ctx: &mut Context<'_>, item: &Item<'_>, seen: bool) {
    if seen {
        ctx.error(
            "duplicate-key",
            item.name_span,
            format!("`{}` is written in two `tls` of this site", item.name()),
            "it is about all of them: keep one",
        );
    }
}

/// What one line says. `None`: nothing of where certificates come from, or something wrong.
fn source(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<CertificateSource> {
    let word = item.arg_text(0);
    let (cert, key) = (item.text("cert"), item.text("key"));
    let mail = item.text("acme");
    let acme = mail.is_some() || matches!(word, Some(("acme", _)));
    let internal = matches!(word, Some(("internal", _)));
    let files = cert.is_some() || key.is_some();
    if usize::from(acme) + usize::from(internal) + usize::from(files) > 1 {
        ctx.error(
            "conflict",
            item.span,
            "a certificate comes from one place: files, ACME, or the local CA",
            "keep one of them",
        );
        return None;
    }
    let only = [("challenge", acme), ("on-demand", acme), ("ocsp", files)];
    for (name, used) in only {
        if let Some(given) = item.prop(name).filter(|_| !used) {
            let owner = if name == "ocsp" { "`cert=`" } else { "ACME" };
            ctx.error(
                "unused-key",
                given.span,
                format!("`{name}=` belongs to {owner}"),
                "leave it out",
            );
        }
    }
    if let Some((mail, span)) = mail {
        check_mail(ctx, mail, span);
    }
    if let Some(given) = item
        .prop("on-demand")
        .filter(|_| acme && item.bool("on-demand") == Some(true) && !ctx.on_demand)
    {
        ctx.error(
            "missing-value",
            given.span,
            "nobody says which names may get a certificate on demand",
            "write for example: acme { on-demand ask=\"http://127.0.0.1:9000/allowed\" }",
        );
    }
    if files {
        return pair(ctx, item).map(|pair| CertificateSource::Files(vec![pair]));
    }
    if internal {
        return Some(CertificateSource::Internal);
    }
    acme.then(|| {
        CertificateSource::Acme(SiteAcme {
            email: mail.map(|(m, _)| m.to_owned()),
            challenge: match item.text("challenge") {
                Some(("http-01", _)) => Challenge::Http01,
                Some(("tls-alpn-01", _)) => Challenge::TlsAlpn01,
                Some(("dns-01", _)) => Challenge::Dns01,
                _ => Challenge::Auto,
            },
            on_demand: item.bool("on-demand").unwrap_or(false),
        })
    })
}

/// An address for mail: enough to tell it from something else.
pub fn check_mail(ctx: &mut Context<'_>, mail: &str, span: Span) {
    let good = mail
        .split_once('@')
        .is_some_and(|(who, place)| !who.is_empty() && place.contains('.'))
        && !mail.contains(|c: char| c.is_whitespace() || c.is_control());
    if !good {
        ctx.error(
            "bad-mail",
            span,
            format!("\"{mail}\" is not a mail address"),
            "write one such as \"ops@example.com\"",
        );
    }
}

/// `cert=`, `key=` and `ocsp=`.
pub fn pair(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<CertificateFiles> {
    for (have, miss) in [("cert", "key"), ("key", "cert")] {
        if item.prop(have).is_some() && !item.props.iter().any(|(n, _)| *n == miss) {
            ctx.error(
                "missing-value",
                item.span,
                format!("`{have}=` needs `{miss}=` beside it"),
                format!("for example: {}", item.spec.example),
            );
        }
    }
    let certificate = file(ctx, item.text("cert"));
    let key = file(ctx, item.text("key"));
    let ocsp = item
        .spec
        .prop("ocsp")
        .and_then(|_| file(ctx, item.text("ocsp")));
    Some(CertificateFiles {
        certificate: certificate?,
        key: key?,
        ocsp,
    })
}

/// A file that must be there.
pub fn file(ctx: &mut Context<'_>, written: Option<(&str, Span)>) -> Option<PathBuf> {
    let (text, span) = written?;
    let path = ctx.beside(span, text);
    match secret::read(ctx, &path, MAX_PEM) {
        Ok(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => {
            ctx.error(
                "empty-file",
                span,
                format!("{} is empty", path.display()),
                "put the certificate or key there first",
            );
            None
        }
        Ok(_) => Some(path),
        Err((message, help)) => {
            ctx.error("unreadable-file", span, message, help);
            None
        }
    }
}

fn join(
    ctx: &mut Context<'_>,
    sources: Vec<(CertificateSource, Span)>,
) -> Option<CertificateSource> {
    let mut all: Option<(CertificateSource, Span)> = None;
    for (source, span) in sources {
        all = Some(match (all, source) {
            (None, source) => (source, span),
            (
                Some((CertificateSource::Files(mut pairs), first)),
                CertificateSource::Files(more),
            ) => {
                pairs.extend(more);
                (CertificateSource::Files(pairs), first)
            }
            (Some(before), _) => {
                ctx.problems.error_at(
                    "conflict",
                    span,
                    "this site's certificates come from another place already",
                    "keep one of them; only `cert=` and `key=` may be written several times",
                    (before.1, "the first time"),
                );
                before
            }
        });
    }
    all.map(|(source, _)| source)
}

fn client(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<ClientCertificates> {
    let required = matches!(item.arg_text(0), Some(("required", _)));
    let crl = file(ctx, item.text("crl"));
    Some(ClientCertificates {
        required,
        ca: file(ctx, item.text("ca"))?,
        crl,
    })
}

/// `hsts` of a site.
pub fn hsts(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<Hsts> {
    if !item.switch() {
        return None;
    }
    let hsts = Hsts {
        max_age: item
            .duration("max-age")
            .unwrap_or(std::time::Duration::from_hours(365 * 24)),
        subdomains: item.bool("subdomains").unwrap_or(false),
        preload: item.bool("preload").unwrap_or(false),
    };
    let long = hsts.max_age >= std::time::Duration::from_hours(365 * 24);
    if let Some(given) = item
        .prop("preload")
        .filter(|_| hsts.preload && !(hsts.subdomains && long))
    {
        ctx.warning(
            "hsts-preload",
            given.span,
            "the preload list takes only hosts with `subdomains` and a year or more",
            "write subdomains=#true max-age=\"365d\"",
        );
    }
    Some(hsts)
}

/// `tls` of an upstream.
pub fn upstream(ctx: &mut Context<'_>, item: &Item<'_>) -> UpstreamTls {
    let mut tls = UpstreamTls::verified();
    for child in &item.children {
        match child.name() {
            "ca" => {
                if let Some(path) = file(ctx, child.arg_text(0)) {
                    tls.roots = UpstreamRoots::File(path);
                }
            }
            "name" => tls.name = upstream_name(ctx, child),
            "certificate" => tls.certificate = pair(ctx, child),
            _ => {}
        }
    }
    if let Some(unsafe_) = item
        .child("unsafe-no-verify")
        .filter(|child| child.switch())
    {
        if let Some(ca) = item.child("ca") {
            ctx.problems.error_at(
                "conflict",
                unsafe_.span,
                "who takes any certificate needs no CA",
                "leave `unsafe-no-verify` out",
                (ca.span, "the CA"),
            );
        }
        ctx.warning(
            "unverified",
            unsafe_.span,
            "the servers of this upstream prove nothing: whoever sits in between reads and changes everything",
            "write `ca \"file.pem\"` with the CA of the servers instead",
        );
        tls.roots = UpstreamRoots::Unverified;
    }
    tls
}

fn upstream_name(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<String> {
    let (text, span) = item.arg_text(0)?;
    match address::host(text) {
        Ok(HostPattern::Exact(name)) => Some(name),
        Ok(_) => {
            ctx.error(
                "bad-host",
                span,
                format!("\"{text}\" is no name that a server could prove"),
                "write one name, such as \"api.internal\"",
            );
            None
        }
        Err((message, help)) => {
            ctx.error("bad-host", span, message, help);
            None
        }
    }
}

/// `protocol` of an upstream.
pub fn upstream_protocol(item: &Item<'_>) -> UpstreamProtocol {
    match item.arg_text(0) {
        Some(("h2", _)) => UpstreamProtocol::Http2,
        Some(("auto", _)) => UpstreamProtocol::Auto,
        _ => UpstreamProtocol::Http1,
    }
}

/// `tls-tickets`.
pub fn tickets(ctx: &mut Context<'_>, item: &Item<'_>, config: &mut Config) {
    let tickets = &mut config.tls_tickets;
    if let Some(rotate) = item.duration("rotate") {
        tickets.rotate = rotate;
        if rotate > MAX_ROTATION {
            let span = item.prop("rotate").map_or(item.span, |g| g.span);
            ctx.error(
                "out-of-range",
                span,
                "who gets hold of a ticket key reads every session that it has sealed: 12 hours are the most",
                "write \"12h\" or less",
            );
        }
    }
    let Some((reference, span)) = item.text("secret") else {
        return;
    };
    tickets.secret = secret::resolve(ctx, reference, span);
    if let Some(short) = &tickets.secret
        && short.expose().len() < MIN_TICKET_SECRET
    {
        ctx.error(
            "short-secret",
            span,
            format!(
                "the secret {reference} has {} bytes; keys of tickets need {MIN_TICKET_SECRET} or more",
                short.expose().len()
            ),
            "make one with `openssl rand -base64 48`",
        );
    }
}
