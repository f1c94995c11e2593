//! `upstream` blocks.

use crate::model::{Balance, HealthCheck, Retry, Upstream};

use super::writer::{Writer, q, size, time};

pub(super) fn upstream(u: &Upstream, out: &mut Writer) {
    out.block(format!("upstream {}", q(&u.name)), |out| {
        out.line(match u.balance {
            Balance::RoundRobin => "balance \"round-robin\"",
            Balance::LeastRequests => "balance \"least-requests\"",
        });
        for server in &u.servers {
            out.line(format!(
                "server {} weight={} backup=#{}",
                q(&server.name),
                server.weight,
                server.backup
            ));
        }
        out.line(
            u.health
                .as_ref()
                .map_or("health-check #false".to_owned(), health),
        );
        let e = &u.eject;
        if e.errors == 0 {
            out.line("eject #false");
        } else {
            let (within, for_, most) = (time(e.within), time(e.for_), e.at_most);
            out.line(format!(
                "eject errors={} within={within} for={for_} at-most=\"{most}%\"",
                e.errors
            ));
        }
        let c = &u.connections;
        let wait = time(c.queue_timeout);
        out.line(format!(
            "connections max={} queue={} queue-timeout={wait} idle={}",
            c.max, c.queue, c.idle
        ));
        out.line(retry(&u.retry));
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

fn health(h: &HealthCheck) -> String {
    let host = h
        .host
        .as_ref()
        .map(|h| format!(" host={}", q(h)))
        .unwrap_or_default();
    format!(
        "health-check {} interval={} timeout={} healthy={} unhealthy={} status=\"{}-{}\"{host}",
        q(&h.path),
        time(h.interval),
        time(h.timeout),
        h.healthy,
        h.unhealthy,
        h.status.0,
        h.status.1
    )
}

fn retry(r: &Retry) -> String {
    let mut on: Vec<String> = Vec::new();
    on.extend(r.on_connect.then(|| "connect".to_owned()));
    on.extend(r.on_reset.then(|| "reset".to_owned()));
    on.extend(r.on_status.iter().map(ToString::to_string));
    let on = if on.is_empty() {
        "none".to_owned()
    } else {
        on.join(",")
    };
    let kept = size(r.body_max);
    format!(
        "retry attempts={} budget=\"{}%\" on=\"{on}\" body-max=\"{kept}\"",
        r.attempts, r.budget
    )
}
