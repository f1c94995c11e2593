//! Keys of `upstream`.

use super::Kind::{Bool, Duration, DurationOrZero, Int, Of, Percent, Size, TextOrFalse, Word};
use super::{NODE, NodeSpec, arg, prop};

pub(crate) const UPSTREAM: NodeSpec = NodeSpec {
    name: "upstream",
    doc: "A named group of servers and how they are used.",
    args: &[arg("name", Of("name"))],
    children: &[&KEYS],
    repeat: true,
    example: r#"upstream "api" { server "10.0.0.1:8080"; server "10.0.0.2:8080" weight=2 }"#,
    ..NODE
};

static KEYS: [NodeSpec; 10] = [
    NodeSpec {
        name: "balance",
        doc: "Which server takes the next request. Default: `least-requests`, the fewest in flight by weight.",
        args: &[arg("policy", Word(&["least-requests", "round-robin"]))],
        example: r#"balance "round-robin""#,
        ..NODE
    },
    NodeSpec {
        name: "server",
        doc: "One address: `ip:port`, `name:port` (resolved again and again, every address is a server), `unix:/path`.",
        args: &[arg("address", Of("server address"))],
        props: &[
            prop("weight", Int(1, 1000), "1", "Share of requests."),
            prop(
                "backup",
                Bool,
                "#false",
                "Used only when no other is available.",
            ),
        ],
        repeat: true,
        example: r#"server "10.0.0.1:8080" weight=2"#,
        ..NODE
    },
    NodeSpec {
        name: "health-check",
        doc: "Ask each server for this path again and again. Without it, or `#false`: only what requests show.",
        args: &[arg("path", TextOrFalse)],
        props: &[
            prop(
                "interval",
                Duration,
                "\"2s\"",
                "Between checks, with 10% jitter.",
            ),
            prop("timeout", Duration, "\"2s\"", "For one check."),
            prop(
                "healthy",
                Int(1, 1000),
                "2",
                "Successes in a row that make a server healthy.",
            ),
            prop(
                "unhealthy",
                Int(1, 1000),
                "3",
                "Failures in a row that make it unhealthy.",
            ),
            prop(
                "status",
                Of("status range"),
                "\"200-399\"",
                "What counts as a success.",
            ),
            prop(
                "host",
                Of("host header"),
                "",
                "`Host` of the check. Default: the server's name.",
            ),
        ],
        example: r#"health-check "/healthz" interval="2s" healthy=2 unhealthy=3"#,
        ..NODE
    },
    NodeSpec {
        name: "eject",
        doc: "Take a server out when requests fail. `eject #false`: never.",
        args: &[arg("on", Bool).optional("#true")],
        props: &[
            prop("errors", Int(1, 1_000_000), "5", "So many failures ..."),
            prop("within", Duration, "\"10s\"", "... in this time ..."),
            prop(
                "for",
                Duration,
                "\"30s\"",
                "... put it out for this long, doubled up to ten times while it keeps failing.",
            ),
            prop(
                "at-most",
                Percent,
                "\"50%\"",
                "Share of the servers that may be out by this.",
            ),
        ],
        example: r#"eject errors=5 within="10s" for="30s" at-most="50%""#,
        ..NODE
    },
    NodeSpec {
        name: "connections",
        doc: "Connections to each server, in the whole process.",
        props: &[
            prop("max", Int(0, 10_000_000), "0", "0: no limit."),
            prop(
                "queue",
                Int(0, 10_000_000),
                "1000",
                "Requests that may wait for a connection.",
            ),
            prop(
                "queue-timeout",
                Duration,
                "\"2s\"",
                "Longest wait; then 503.",
            ),
            prop("idle", Int(0, 1_000_000), "256", "Idle connections kept."),
        ],
        example: r#"connections max=512 queue=1000 queue-timeout="2s""#,
        ..NODE
    },
    NodeSpec {
        name: "retry",
        doc: "Another attempt when one failed and nothing can happen twice.",
        props: &[
            prop(
                "attempts",
                Int(0, 100),
                "2",
                "Further attempts after the first; 0: none.",
            ),
            prop(
                "budget",
                Percent,
                "\"20%\"",
                "Retries as a share of requests.",
            ),
            prop(
                "on",
                Of("retry reasons"),
                "\"connect,reset\"",
                "`connect`, `reset`, and statuses 500 to 599, with commas between; or `none`.",
            ),
            prop(
                "body-max",
                Size,
                "\"64KiB\"",
                "Request bodies up to this size are kept for another attempt.",
            ),
        ],
        example: r#"retry attempts=2 budget="20%" on="connect,reset,502,503""#,
        ..NODE
    },
    NodeSpec {
        name: "timeout",
        doc: "Time bounds toward a server.",
        props: &[
            prop(
                "connect",
                Duration,
                "\"3s\"",
                "Then 504, or another server.",
            ),
            prop(
                "response",
                Duration,
                "\"60s\"",
                "From the request's end to the response head; then 504.",
            ),
            prop(
                "body",
                Duration,
                "\"30s\"",
                "Longest pause inside a response body, or of a server that does not read.",
            ),
            prop("idle", Duration, "\"30s\"", "Idle connection in the pool."),
        ],
        example: r#"timeout connect="3s" response="60s""#,
        ..NODE
    },
    NodeSpec {
        name: "proxy-protocol",
        doc: "Send a PROXY protocol header of this version on each new connection. Default: none.",
        args: &[arg("version", Int(1, 2))],
        example: "proxy-protocol 2",
        ..NODE
    },
    NodeSpec {
        name: "source",
        doc: "Local address to connect from. Default: the kernel's choice.",
        args: &[arg("address", Of("ip address"))],
        example: r#"source "10.0.0.5""#,
        ..NODE
    },
    NodeSpec {
        name: "tcp",
        doc: "Socket options of connections to servers.",
        props: &[
            prop(
                "keepalive",
                DurationOrZero,
                "\"60s\"",
                "Probes after this idle time; `0s`: off.",
            ),
            prop(
                "user-timeout",
                DurationOrZero,
                "\"30s\"",
                "`TCP_USER_TIMEOUT`; `0s`: the kernel's.",
            ),
            prop(
                "mark",
                Int(0, u32::MAX as i64),
                "",
                "`SO_MARK`, for policy routing.",
            ),
        ],
        example: r#"tcp keepalive="60s" mark=7"#,
        ..NODE
    },
];
