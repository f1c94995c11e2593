//! `listen` blocks.

use crate::model::{Address, Listener};

use super::tls;
use super::writer::{Writer, q, size, time};

pub(super) fn listener(l: &Listener, out: &mut Writer) {
    out.block(format!("listen {}", q(&l.name)), |out| {
        out.line(format!("backlog {}", l.backlog));
        if matches!(l.address, Address::Tcp(a) if a.is_ipv6()) || l.ipv6_only {
            out.line(format!("ipv6-only #{}", l.ipv6_only));
        }
        out.line(format!("mode \"{:04o}\"", l.mode));
        if let Some(p) = &l.proxy_protocol {
            let from: Vec<String> = p.from.0.iter().map(ToString::to_string).collect();
            let (optional, timeout) = (p.optional, time(p.timeout));
            out.line(format!(
                "proxy-protocol from={} optional=#{optional} timeout={timeout}",
                q(&from.join(","))
            ));
        }
        let c = &l.connections;
        out.line(format!(
            "connections max={} per-client={} requests={} max-age={}",
            c.max,
            c.per_client,
            c.requests,
            time(c.max_age)
        ));
        timeouts(l, out);
        out.line(format!(
            "tcp keepalive={} user-timeout={}",
            time(l.tcp.keepalive),
            time(l.tcp.user_timeout)
        ));
        let live = l
            .liveness
            .as_ref()
            .map(|p| format!(" live={}", q(p)))
            .unwrap_or_default();
        let ready = l
            .readiness
            .as_ref()
            .map(|p| format!(" ready={}", q(p)))
            .unwrap_or_default();
        if !live.is_empty() || !ready.is_empty() {
            out.line(format!("health{live}{ready}"));
        }
        limits(l, out);
        tls::listener(l, out);
    });
}

fn timeouts(l: &Listener, out: &mut Writer) {
    let t = &l.timeouts;
    out.line(format!(
        "timeout header={} body={} send={} keep-alive={} linger={} linger-bytes=\"{}\"",
        time(t.header),
        time(t.body_idle),
        time(t.send_idle),
        time(t.keep_alive),
        time(t.linger),
        size(t.linger_bytes),
    ));
    out.line(format!(
        "min-rate \"{}/s\" after={}",
        size(t.min_rate),
        time(t.min_rate_after)
    ));
}

fn limits(l: &Listener, out: &mut Writer) {
    let m = &l.limits;
    let bytes = |n: usize| size(n as u64);
    out.line(format!(
        "limits request-line=\"{}\" field=\"{}\" head=\"{}\" fields={} trailers=\"{}\" trailer-fields={} \
         chunk-extension=\"{}\" response-head=\"{}\" response-fields={} informational={}",
        bytes(m.request_line),
        bytes(m.field),
        bytes(m.head),
        m.fields,
        bytes(m.trailers),
        m.trailer_fields,
        bytes(m.chunk_extension),
        bytes(m.response_head),
        m.response_fields,
        m.informational,
    ));
}
