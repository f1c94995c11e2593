//! Keys of `upstream`.

use super::Kind::{
    AnyText, Bool, Duration, DurationOrZero, Int, Of, Percent, Regex, Secret, Size, Text,
    TextOrFalse, Word,
};
use super::{NODE, NodeSpec, arg, prop, tls};

pub(crate) const UPSTREAM: NodeSpec = NodeSpec {
    name: "upstream",
    doc: "A named group of servers and how they are used.",
    args: &[arg("name", Of("name"))],
    children: &[&KEYS],
    repeat: true,
    example: r#"upstream "api" { server "10.0.0.1:8080"; server "10.0.0.2:8080" weight=2 }"#,
    ..NODE
};

static KEYS: [NodeSpec; 21] = [
    tls::UPSTREAM,
    tls::PROTOCOL,
    NodeSpec {
        name: "balance",
        doc: "Which server takes the next request. Default: `least-requests`, the fewest in flight by weight.",
        args: &[arg(
            "policy",
            Word(&[
                "least-requests",
                "round-robin",
                "least-time",
                "random",
                "hash",
            ]),
        )],
        props: &[
            prop(
                "by",
                Of("key"),
                "",
                "`hash` only, required: `client-ip`, `path`, `header:NAME`, `cookie:NAME`, `query:NAME`, or a template.",
            ),
            prop(
                "bound",
                Percent,
                "",
                "`hash` only: a server takes at most so much more than the mean of requests in flight. Default: `25%`; `0%`: no \
                 bound.",
            ),
        ],
        example: r#"balance "round-robin""#,
        ..NODE
    },
    NodeSpec {
        name: "spill-over",
        doc: "A priority (or the servers of a zone) with less than this share of its weight available hands the rest of its \
              load to the next. Default: `0%`, only when nothing of it is available.",
        args: &[arg("below", Percent)],
        example: r#"spill-over "70%""#,
        ..NODE
    },
    NodeSpec {
        name: "panic-threshold",
        doc: "With less than this share of all weight available, servers that look ill are used as well, for the few that are \
              left would go down next. Default: `20%`.",
        args: &[arg("below", Percent)],
        example: r#"panic-threshold "20%""#,
        ..NODE
    },
    NodeSpec {
        name: "prefer-zone",
        doc: "Servers of our own `zone` first. Default: `#true`, which means something where zones are written.",
        args: &[arg("on", Bool).optional("#true")],
        example: "prefer-zone #false",
        ..NODE
    },
    NodeSpec {
        name: "sticky",
        doc: "A signed cookie keeps a client at its server, while that is available or draining.",
        args: &[arg("cookie", Of("cookie name")).optional("")],
        props: &[
            prop(
                "secret",
                Secret,
                "",
                "Key of the signature; the same on every proxy. Default: drawn at the start, so that a restart forgets.",
            ),
            prop(
                "ttl",
                Duration,
                "\"1d\"",
                "Good for so long, renewed in use.",
            ),
            prop("path", Of("url path"), "\"/\"", "`Path` of the cookie."),
            prop(
                "same-site",
                Word(&["lax", "strict", "none"]),
                "\"lax\"",
                "`SameSite` of the cookie.",
            ),
            prop(
                "secure",
                Word(&["auto", "always", "never"]),
                "\"auto\"",
                "`Secure` of the cookie; `auto`: if the client came by HTTPS.",
            ),
        ],
        example: r#"sticky "cart" secret="env:STICKY" ttl="1d""#,
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
            prop(
                "priority",
                Int(0, 15),
                "0",
                "A lower one comes first; backups are the last.",
            ),
            prop("zone", Text, "", "Where it is; see `prefer-zone`."),
            prop(
                "state",
                Word(&["ready", "drain", "down"]),
                "\"ready\"",
                "`drain`: only for who belongs to it (`sticky`); `down`: for nobody.",
            ),
            prop(
                "resolve",
                Word(&["srv"]),
                "",
                "`srv`: the address is a name with SRV records, which say ports, weights and order. A port in the address is for \
                 the name's own addresses, while it has none.",
            ),
        ],
        repeat: true,
        example: r#"server "10.0.0.1:8080" weight=2"#,
        ..NODE
    },
    NodeSpec {
        name: "discover",
        doc: "Servers are also learnt from here, and come and go while the process runs. If the source fails, its last state is \
              kept; a bad entry is left out, named in the log and counted. `file`: a list of servers that is watched. `docker`: \
              containers with the label `narthex.upstream=SERVICE` that run and are not found unhealthy; further labels \
              `narthex.port`, `weight`, `priority`, `backup`, `zone` are as those of `server`. `consul`: the passing instances \
              of a service, their weights as registered; tested with a stand-in only, not yet with Consul itself. `etcd`: each \
              key below a prefix is a server, its value `address:port` or an object as in a JSON list; version 3.4 or later. \
              Consul and etcd are spoken to without TLS.",
        args: &[arg("source", Word(&["file", "docker", "consul", "etcd"]))],
        props: &[
            prop(
                "path",
                Of("file"),
                "",
                "`file`, required: `server` lines, or a JSON array if it ends in `.json`; watched.",
            ),
            prop(
                "socket",
                Of("server address"),
                "",
                "`docker`: the engine. Default: `unix:/var/run/docker.sock`.",
            ),
            prop(
                "service",
                Text,
                "",
                "`docker`: value of the containers' label `narthex.upstream`; `consul`: the service. Default: the upstream's name.",
            ),
            prop(
                "network",
                Text,
                "",
                "`docker`: whose address is used; required if a container is in several.",
            ),
            prop(
                "port",
                Int(1, 65_535),
                "",
                "`docker`: for containers without the label `narthex.port`. Default: the only TCP port that it exposes.",
            ),
            prop(
                "address",
                Of("server address"),
                "",
                "`consul`, default `127.0.0.1:8500`; `etcd`, default `127.0.0.1:2379`.",
            ),
            prop("tag", Text, "", "`consul`: an instance must have it."),
            prop(
                "datacenter",
                Text,
                "",
                "`consul`: instead of the agent's own.",
            ),
            prop("token", Secret, "", "`consul`: the ACL token."),
            prop(
                "prefix",
                Text,
                "",
                "`etcd`, required: each key below it is a server.",
            ),
            prop("user", Text, "", "`etcd`, with `password`."),
            prop("password", Secret, "", "`etcd`, with `user`."),
        ],
        repeat: true,
        example: r#"discover "file" path="servers.kdl""#,
        ..NODE
    },
    NodeSpec {
        name: "health-check",
        doc: "Ask each server again and again: for this path, `tcp` for a connection, or `grpc` for a call of gRPC's health \
              service (with `protocol \"h2\"`). Without it, or `#false`: only what requests show.",
        args: &[arg("path", TextOrFalse)],
        children: &[&HEALTH],
        props: &[
            prop(
                "interval",
                Duration,
                "\"2s\"",
                "Between checks, with 10% jitter.",
            ),
            prop(
                "recovery",
                Duration,
                "\"500ms\"",
                "The same for an unhealthy server, if that is less.",
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
                Of("status set"),
                "\"200-399\"",
                "What counts as a success: statuses and ranges, with commas between.",
            ),
            prop(
                "host",
                Of("host header"),
                "",
                "`Host` of the check. Default: the server's name.",
            ),
            prop(
                "method",
                Of("method"),
                "\"GET\"",
                "`GET`, `HEAD`, `OPTIONS`, ...",
            ),
            prop(
                "service",
                Text,
                "\"\"",
                "`grpc` only: the service asked about. Default: the server as a whole.",
            ),
            prop(
                "port",
                Int(1, 65_535),
                "",
                "Asked at this port instead of the server's own.",
            ),
            prop(
                "reuse",
                Bool,
                "#true",
                "The connection is kept for the next checks of a healthy server.",
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
            prop(
                "outliers",
                Bool,
                "#true",
                "Also a server whose rate of success is far below the group's.",
            ),
        ],
        example: r#"eject errors=5 within="10s" for="30s" at-most="50%""#,
        ..NODE
    },
    NodeSpec {
        name: "slow-start",
        doc: "A server that comes back, or is added, takes up its share over this time. `0s`: at once.",
        args: &[arg("over", DurationOrZero).optional("\"10s\"")],
        props: &[prop(
            "from",
            Percent,
            "\"10%\"",
            "The share of its weight that it begins with.",
        )],
        example: r#"slow-start "30s" from="10%""#,
        ..NODE
    },
    NodeSpec {
        name: "connections",
        doc: "Connections to each server, in the whole process.",
        props: &[
            prop("max", Int(0, 10_000_000), "0", "0: no limit."),
            prop(
                "total",
                Int(0, 10_000_000),
                "0",
                "To all servers together; 0: no limit.",
            ),
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
        name: "requests",
        doc: "Requests under way, in the whole process. Who finds no room waits as for a connection.",
        props: &[
            prop(
                "max",
                Int(0, 10_000_000),
                "0",
                "At each server; 0: no limit.",
            ),
            prop(
                "total",
                Int(0, 10_000_000),
                "0",
                "At all servers together; 0: no limit.",
            ),
        ],
        example: "requests max=100 total=2000",
        ..NODE
    },
    NodeSpec {
        name: "adaptive-concurrency",
        doc: "A limit of requests under way at all servers together that follows what they can take, by the time to the response \
              head. Who finds no room waits for a moment; then 503 `upstream-overload`.",
        props: &[
            prop("min", Int(1, 1_000_000), "10", "Never below."),
            prop("max", Int(1, 1_000_000), "10000", "Never above."),
            prop(
                "tolerance",
                Percent,
                "\"50%\"",
                "Slower than at its best by so much, an upstream has room for more; beyond, the limit falls.",
            ),
            prop(
                "wait",
                DurationOrZero,
                "\"250ms\"",
                "Longest wait for room, if `queue-timeout` is not less; `0s`: refused at once.",
            ),
        ],
        example: r#"adaptive-concurrency min=10 max=2000 tolerance="50%" wait="250ms""#,
        ..NODE
    },
    NodeSpec {
        name: "hedge",
        doc: "Send an idempotent request, without a body or with one that was taken whole, to a second server as well if the \
              first has not begun to answer in time; the first answer counts, and the other server's connection is closed.",
        props: &[
            prop(
                "after",
                Duration,
                "",
                "In time is this, from the end of the request.",
            )
            .required(),
            prop(
                "budget",
                Percent,
                "\"5%\"",
                "Second attempts as a share of the requests that could have one. They spend of `retry budget`, too.",
            ),
        ],
        example: r#"hedge after="200ms" budget="5%""#,
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
                "`connect`, `reset`, `timeout`, and statuses 500 to 599, with commas between; or `none`.",
            ),
            prop(
                "try-timeout",
                DurationOrZero,
                "\"0s\"",
                "For one attempt, from its connection to its response head, while another may follow and `on` has `timeout`; `0s`: `timeout response`.",
            ),
            prop(
                "within",
                DurationOrZero,
                "\"0s\"",
                "For all attempts together, from the first to the response head, the time that the client takes for its body apart; `0s`: no bound.",
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

static HEALTH: [NodeSpec; 4] = [
    NodeSpec {
        name: "header",
        doc: "A field of the check's request.",
        args: &[arg("name", Of("header name")), arg("value", AnyText)],
        repeat: true,
        example: r#"header "X-Check" "1""#,
        ..NODE
    },
    NodeSpec {
        name: "body",
        doc: "What the first 64 KiB of the answer must have in them.",
        props: &[
            prop("contains", Text, "", "This text."),
            prop("regex", Regex, "", "A match of this."),
        ],
        example: r#"body contains="ok""#,
        ..NODE
    },
    NodeSpec {
        name: "send",
        doc: "`tcp` only: sent when the connection is open.",
        args: &[arg("text", Text)],
        example: r#"send "PING\r\n""#,
        ..NODE
    },
    NodeSpec {
        name: "expect",
        doc: "`tcp` only: what the answer must begin with.",
        args: &[arg("text", Text)],
        example: r#"expect "+PONG""#,
        ..NODE
    },
];
