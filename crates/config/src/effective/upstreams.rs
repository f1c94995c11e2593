//! `upstream` blocks.

use std::fmt::Write as _;

use crate::lower::address;
use crate::model::{
    Balance, BodyMatch, Discover, Eject, HealthCheck, HttpProbe, Order, Probe, Retry, SameSite,
    Secure, Server, ServerAddress, SlowStart, Sticky, Upstream,
};
use crate::schema::pending;

use super::writer::{Writer, q, size, time};
use super::{shown, tls};

pub(super) fn upstream(u: &Upstream, out: &mut Writer) {
    let defaults = Upstream::new("");
    let key = |name| pending::key("upstream", name);
    out.block(format!("upstream {}", q(&u.name)), |out| {
        out.line(balance(&u.balance));
        let (ranks, usual) = (&u.ranks, &defaults.ranks);
        if shown(key("spill-over"), &ranks.spill_over, &usual.spill_over) {
            out.line(format!("spill-over \"{}%\"", ranks.spill_over));
        }
        if shown(key("panic-threshold"), &ranks.panic, &usual.panic) {
            out.line(format!("panic-threshold \"{}%\"", ranks.panic));
        }
        if shown(key("prefer-zone"), &ranks.prefer_zone, &usual.prefer_zone) {
            out.line(format!("prefer-zone #{}", ranks.prefer_zone));
        }
        if let Some(rule) = &u.sticky {
            out.line(sticky(rule));
        }
        for one in &u.servers {
            out.line(server(one));
        }
        for source in &u.discover {
            out.line(discover(source));
        }
        match &u.health {
            None => out.line("health-check #false"),
            Some(check) => health(check, out),
        }
        out.line(eject(&u.eject));
        let usual = SlowStart::default();
        if shown(key("slow-start"), &u.slow_start, &usual) {
            let (over, from) = (time(u.slow_start.over), u.slow_start.from);
            out.line(format!("slow-start {over} from=\"{from}%\""));
        }
        connections(u, &defaults, out);
        out.line(retry(&u.retry));
        if let Some(hedge) = &u.hedge {
            out.line(format!(
                "hedge after={} budget=\"{}%\"",
                time(hedge.after),
                hedge.budget
            ));
        }
        let t = &u.timeouts;
        let (connect, response, body, idle) = (
            time(t.connect),
            time(t.response),
            time(t.body_idle),
            time(t.idle),
        );
        out.line(format!(
            "timeout connect={connect} response={response} body={body} idle={idle}"
        ));
        tls::upstream(u, out);
        if let Some(version) = u.proxy_protocol {
            out.line(format!("proxy-protocol {version}"));
        }
        if let Some(source) = u.source {
            out.line(format!("source \"{source}\""));
        }
        let mark = u.mark.map(|m| format!(" mark={m}")).unwrap_or_default();
        out.line(format!(
            "tcp keepalive={} user-timeout={}{mark}",
            time(u.tcp_keepalive),
            time(u.tcp_user_timeout)
        ));
    });
}

fn balance(balance: &Balance) -> String {
    match balance {
        Balance::RoundRobin => "balance \"round-robin\"".to_owned(),
        Balance::LeastRequests => "balance \"least-requests\"".to_owned(),
        Balance::LeastTime => "balance \"least-time\"".to_owned(),
        Balance::Random => "balance \"random\"".to_owned(),
        Balance::Hash(hash) => format!(
            "balance \"hash\" by={} bound=\"{}%\"",
            q(&hash.by.source),
            hash.bound
        ),
    }
}

fn sticky(s: &Sticky) -> String {
    let secret = s
        .secret
        .as_ref()
        .map(|s| format!(" secret={}", q(s.reference())))
        .unwrap_or_default();
    let same_site = match s.same_site {
        SameSite::Lax => "lax",
        SameSite::Strict => "strict",
        SameSite::None => "none",
    };
    let secure = match s.secure {
        Secure::Auto => "auto",
        Secure::Always => "always",
        Secure::Never => "never",
    };
    format!(
        "sticky {}{secret} ttl={} path={} same-site=\"{same_site}\" secure=\"{secure}\"",
        q(&s.cookie),
        time(s.ttl),
        q(&s.path)
    )
}

fn server(s: &Server) -> String {
    let mut line = format!(
        "server {} weight={} backup=#{}",
        q(&s.name),
        s.weight,
        s.backup
    );
    if shown(pending::prop("server", "priority"), &s.priority, &0) {
        let _ = write!(line, " priority={}", s.priority);
    }
    if let Some(zone) = &s.zone {
        let _ = write!(line, " zone={}", q(zone));
    }
    if shown(pending::prop("server", "state"), &s.order, &Order::Ready) {
        let state = match s.order {
            Order::Ready => "ready",
            Order::Drain => "drain",
            Order::Down => "down",
        };
        let _ = write!(line, " state=\"{state}\"");
    }
    if matches!(s.address, ServerAddress::Srv { .. }) {
        line.push_str(" resolve=\"srv\"");
    }
    line
}

fn discover(source: &Discover) -> String {
    let mut line = format!("discover \"{}\"", source.word());
    let mut say = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            let _ = write!(line, " {name}={}", q(value));
        }
    };
    match source {
        Discover::File { path } => say("path", Some(&path.to_string_lossy())),
        Discover::Docker {
            socket,
            service,
            network,
            port,
        } => {
            say("socket", Some(&format!("unix:{}", socket.display())));
            say("service", Some(service));
            say("network", network.as_deref());
            if let Some(port) = port {
                let _ = write!(line, " port={port}");
            }
        }
        Discover::Consul {
            address,
            service,
            tag,
            datacenter,
            token,
        } => {
            say("address", Some(&address::server_text(address)));
            say("service", Some(service));
            say("tag", tag.as_deref());
            say("datacenter", datacenter.as_deref());
            say("token", token.as_ref().map(|t| t.reference()));
        }
        Discover::Etcd {
            address,
            prefix,
            login,
        } => {
            say("address", Some(&address::server_text(address)));
            say("prefix", Some(prefix));
            say("user", login.as_ref().map(|(user, _)| user.as_str()));
            say("password", login.as_ref().map(|(_, p)| p.reference()));
        }
    }
    line
}

fn health(h: &HealthCheck, out: &mut Writer) {
    let prop = |name| pending::prop("health-check", name);
    let usual = HealthCheck::new("");
    let mut head = match &h.probe {
        Probe::Http(http) => format!("health-check {}", q(&http.path)),
        Probe::Tcp(_) => "health-check \"tcp\"".to_owned(),
        Probe::Grpc(_) => "health-check \"grpc\"".to_owned(),
    };
    let _ = write!(head, " interval={}", time(h.interval));
    if shown(prop("recovery"), &h.recovery, &usual.recovery) {
        let _ = write!(head, " recovery={}", time(h.recovery));
    }
    let _ = write!(
        head,
        " timeout={} healthy={} unhealthy={}",
        time(h.timeout),
        h.healthy,
        h.unhealthy
    );
    if let Probe::Http(http) = &h.probe {
        http_props(http, &mut head);
    }
    if let Probe::Grpc(grpc) = &h.probe {
        let _ = write!(head, " service={}", q(&grpc.service));
        if let Some(host) = &grpc.host {
            let _ = write!(head, " host={}", q(host));
        }
    }
    if let Some(port) = h.port {
        let _ = write!(head, " port={port}");
    }
    if shown(prop("reuse"), &h.reuse, &usual.reuse) {
        let _ = write!(head, " reuse=#{}", h.reuse);
    }
    let lines = health_block(&h.probe);
    if lines.is_empty() {
        out.line(head);
    } else {
        out.block(head, |out| lines.iter().for_each(|line| out.line(line)));
    }
}

fn http_props(http: &HttpProbe, head: &mut String) {
    if shown(
        pending::prop("health-check", "method"),
        &http.method.as_str(),
        &"GET",
    ) {
        let _ = write!(head, " method={}", q(&http.method));
    }
    let statuses: Vec<String> = http
        .status
        .iter()
        .map(|(from, to)| {
            if from == to {
                from.to_string()
            } else {
                format!("{from}-{to}")
            }
        })
        .collect();
    let _ = write!(head, " status=\"{}\"", statuses.join(","));
    if let Some(host) = &http.host {
        let _ = write!(head, " host={}", q(host));
    }
}

fn health_block(probe: &Probe) -> Vec<String> {
    match probe {
        Probe::Grpc(_) => Vec::new(),
        Probe::Http(http) => {
            let mut lines: Vec<String> = http
                .headers
                .iter()
                .map(|(name, value)| format!("header {} {}", q(name), q(value)))
                .collect();
            match &http.body {
                None => {}
                Some(BodyMatch::Contains(text)) => lines.push(format!("body contains={}", q(text))),
                Some(BodyMatch::Regex(pattern)) => lines.push(format!("body regex={}", q(pattern))),
            }
            lines
        }
        Probe::Tcp(tcp) => {
            let line = |name: &str, text: &Option<String>| {
                text.as_ref().map(|t| format!("{name} {}", q(t)))
            };
            line("send", &tcp.send)
                .into_iter()
                .chain(line("expect", &tcp.expect))
                .collect()
        }
    }
}

fn eject(e: &Eject) -> String {
    if e.errors == 0 {
        return "eject #false".to_owned();
    }
    let (within, for_, most) = (time(e.within), time(e.for_), e.at_most);
    let mut line = format!(
        "eject errors={} within={within} for={for_} at-most=\"{most}%\"",
        e.errors
    );
    if shown(pending::prop("eject", "outliers"), &e.outliers, &true) {
        let _ = write!(line, " outliers=#{}", e.outliers);
    }
    line
}

fn connections(u: &Upstream, defaults: &Upstream, out: &mut Writer) {
    let c = &u.connections;
    let mut line = format!("connections max={}", c.max);
    if shown(pending::prop("connections", "total"), &c.total, &0) {
        let _ = write!(line, " total={}", c.total);
    }
    let wait = time(c.queue_timeout);
    let _ = write!(
        line,
        " queue={} queue-timeout={wait} idle={}",
        c.queue, c.idle
    );
    out.line(line);
    let r = &u.requests;
    let limits = |r: &crate::model::UpstreamRequests| (r.max, r.total);
    if shown(
        pending::key("upstream", "requests"),
        &limits(r),
        &limits(&defaults.requests),
    ) {
        out.line(format!("requests max={} total={}", r.max, r.total));
    }
    if let Some(adaptive) = &r.adaptive {
        out.line(format!(
            "adaptive-concurrency min={} max={} tolerance=\"{}%\" wait={}",
            adaptive.min,
            adaptive.max,
            adaptive.tolerance,
            time(adaptive.wait)
        ));
    }
}

fn retry(r: &Retry) -> String {
    let usual = Retry::default();
    let mut on: Vec<String> = Vec::new();
    on.extend(r.on_connect.then(|| "connect".to_owned()));
    on.extend(r.on_reset.then(|| "reset".to_owned()));
    on.extend(r.on_timeout.then(|| "timeout".to_owned()));
    on.extend(r.on_status.iter().map(ToString::to_string));
    let on = if on.is_empty() {
        "none".to_owned()
    } else {
        on.join(",")
    };
    let kept = size(r.body_max);
    let mut line = format!(
        "retry attempts={} budget=\"{}%\" on=\"{on}\" body-max=\"{kept}\"",
        r.attempts, r.budget
    );
    let prop = |name| pending::prop("retry", name);
    if shown(prop("try-timeout"), &r.try_timeout, &usual.try_timeout) {
        let _ = write!(line, " try-timeout={}", time(r.try_timeout));
    }
    if shown(prop("within"), &r.within, &usual.within) {
        let _ = write!(line, " within={}", time(r.within));
    }
    line
}
