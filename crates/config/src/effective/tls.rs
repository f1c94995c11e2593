//! What is written about TLS and certificates.

use std::fmt::Write as _;
use std::path::Path;

use crate::lower::address::host_text;
use crate::model::{
    Acme, AcmeAuthority, CertificateFiles, CertificateSource, Challenge, DnsUpdates, Hsts,
    Listener, Protocol, SiteAcme, SiteTls, TlsLevel, TlsTickets, UnknownName, Upstream,
    UpstreamProtocol, UpstreamRoots, UpstreamTls,
};
use crate::schema::pending;

use super::shown;
use super::writer::{Writer, q, time};

pub(super) fn listener(l: &Listener, out: &mut Writer) {
    let defaults = Listener::new("", l.address.clone());
    if let Some(tls) = &l.tls {
        out.block("tls", |out| {
            out.line(policy(tls.level));
            out.line(format!("handshake-timeout {}", time(tls.handshake_timeout)));
            out.line(format!("pending {}", tls.pending));
            let unknown = match tls.unknown_name {
                UnknownName::Refuse => "refuse",
                UnknownName::Default => "default",
            };
            out.line(format!("unknown-name \"{unknown}\""));
        });
    }
    let key = |name| pending::key("listen", name);
    if shown(key("protocols"), &l.protocols, &defaults.protocols) {
        let words: Vec<&str> = l
            .protocols
            .iter()
            .map(|p| match p {
                Protocol::Http1 => "\"http/1.1\"",
                Protocol::Http2 => "\"h2\"",
            })
            .collect();
        out.line(format!("protocols {}", words.join(" ")));
    }
    if shown(key("http2"), &l.http2, &defaults.http2) {
        out.line(format!("http2 streams={}", l.http2.streams));
    }
}

fn policy(level: TlsLevel) -> &'static str {
    match level {
        TlsLevel::Intermediate => "policy \"intermediate\"",
        TlsLevel::Modern => "policy \"modern\"",
    }
}

pub(super) fn site(tls: &SiteTls, out: &mut Writer) {
    let lines = match &tls.source {
        CertificateSource::Files(pairs) => pairs.iter().map(files).collect(),
        CertificateSource::Acme(site) => vec![site_acme(site)],
        CertificateSource::Internal => vec!["tls \"internal\"".to_owned()],
    };
    let has_block = tls.level.is_some() || tls.client.is_some();
    for (index, line) in lines.iter().enumerate() {
        if index > 0 || !has_block {
            out.line(line);
            continue;
        }
        out.block(line, |out| {
            if let Some(level) = tls.level {
                out.line(policy(level));
            }
            if let Some(client) = &tls.client {
                let mode = if client.required {
                    "required"
                } else {
                    "optional"
                };
                let mut text = format!("client-certificate \"{mode}\" ca={}", path(&client.ca));
                if let Some(crl) = &client.crl {
                    let _ = write!(text, " crl={}", path(crl));
                }
                out.line(text);
            }
        });
    }
}

fn path(path: &Path) -> String {
    q(&path.to_string_lossy())
}

fn files(pair: &CertificateFiles) -> String {
    let mut line = format!(
        "tls cert={} key={}",
        path(&pair.certificate),
        path(&pair.key)
    );
    if let Some(ocsp) = &pair.ocsp {
        let _ = write!(line, " ocsp={}", path(ocsp));
    }
    line
}

fn site_acme(site: &SiteAcme) -> String {
    let mail = site
        .email
        .as_ref()
        .map(|m| format!(" acme={}", q(m)))
        .unwrap_or_default();
    let challenge = match site.challenge {
        Challenge::Auto => "auto",
        Challenge::Http01 => "http-01",
        Challenge::TlsAlpn01 => "tls-alpn-01",
        Challenge::Dns01 => "dns-01",
    };
    format!(
        "tls \"acme\"{mail} challenge=\"{challenge}\" on-demand=#{}",
        site.on_demand
    )
}

pub(super) fn hsts(h: &Hsts) -> String {
    format!(
        "hsts #true max-age={} subdomains=#{} preload=#{}",
        time(h.max_age),
        h.subdomains,
        h.preload
    )
}

pub(super) fn upstream(u: &Upstream, out: &mut Writer) {
    if let Some(tls) = &u.tls {
        out.block("tls", |out| encrypted(tls, out));
    }
    let usual = UpstreamProtocol::default();
    if shown(pending::key("upstream", "protocol"), &u.protocol, &usual) {
        let word = match u.protocol {
            UpstreamProtocol::Http1 => "http/1.1",
            UpstreamProtocol::Http2 => "h2",
            UpstreamProtocol::Auto => "auto",
        };
        out.line(format!("protocol \"{word}\""));
    }
}

fn encrypted(tls: &UpstreamTls, out: &mut Writer) {
    match &tls.roots {
        UpstreamRoots::System => out.line("unsafe-no-verify #false"),
        UpstreamRoots::File(file) => out.line(format!("ca {}", path(file))),
        UpstreamRoots::Unverified => out.line("unsafe-no-verify #true"),
    }
    if let Some(name) = &tls.name {
        out.line(format!("name {}", q(name)));
    }
    if let Some(pair) = &tls.certificate {
        out.line(format!(
            "certificate cert={} key={}",
            path(&pair.certificate),
            path(&pair.key)
        ));
    }
}

pub(super) fn tickets(tickets: &TlsTickets, out: &mut Writer) {
    if !shown(
        pending::key("", "tls-tickets"),
        tickets,
        &TlsTickets::default(),
    ) {
        return;
    }
    let secret = tickets
        .secret
        .as_ref()
        .map(|s| format!(" secret={}", q(s.reference())))
        .unwrap_or_default();
    out.line(format!(
        "tls-tickets{secret} rotate={}",
        time(tickets.rotate)
    ));
}

pub(super) fn acme(acme: &Acme, out: &mut Writer) {
    if !shown(pending::key("", "acme"), acme, &Acme::default()) {
        return;
    }
    out.block("acme", |out| {
        if let Some(email) = &acme.email {
            out.line(format!("email {}", q(email)));
        }
        out.line(format!("storage {}", path(&acme.storage)));
        for ca in &acme.authorities {
            out.line(authority(ca));
        }
        if let Some(updates) = &acme.dns {
            out.line(dns(updates));
        }
        if let Some(on_demand) = &acme.on_demand {
            let mut line = String::from("on-demand");
            for name in &on_demand.names {
                let _ = write!(line, " {}", q(&host_text(name)));
            }
            if let Some(ask) = &on_demand.ask {
                let _ = write!(line, " ask={}", q(ask));
            }
            let _ = write!(
                line,
                " per-hour={} per-client={}",
                on_demand.per_hour, on_demand.per_client
            );
            out.line(line);
        }
    });
}

fn authority(ca: &AcmeAuthority) -> String {
    let mut line = format!("ca {}", q(&ca.directory));
    if let Some(roots) = &ca.roots {
        let _ = write!(line, " roots={}", path(roots));
    }
    if let Some(profile) = &ca.profile {
        let _ = write!(line, " profile={}", q(profile));
    }
    if let Some(account) = &ca.account {
        let _ = write!(
            line,
            " eab-id={} eab-key={}",
            q(&account.key_id),
            q(account.key.reference())
        );
    }
    line
}

fn dns(updates: &DnsUpdates) -> String {
    match updates {
        DnsUpdates::Update {
            server,
            zone,
            key_name,
            key,
            algorithm,
        } => {
            let zone = zone
                .as_ref()
                .map(|z| format!(" zone={}", q(z)))
                .unwrap_or_default();
            format!(
                "dns \"update\" server=\"{server}\"{zone} key-name={} key={} algorithm={}",
                q(key_name),
                q(key.reference()),
                q(algorithm)
            )
        }
        DnsUpdates::Exec(program) => format!("dns \"exec\" program={}", path(program)),
        DnsUpdates::Webhook { url, token } => {
            let token = token
                .as_ref()
                .map(|t| format!(" token={}", q(t.reference())))
                .unwrap_or_default();
            format!("dns \"webhook\" url={}{token}", q(url))
        }
    }
}
