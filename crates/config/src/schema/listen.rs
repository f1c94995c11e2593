//! Keys of `listen`.

use super::Kind::{Bool, Duration, DurationOrZero, Int, Of, Rate, Size};
use super::{NODE, NodeSpec, arg, prop, site, tls};

pub(crate) const LISTEN: NodeSpec = NodeSpec {
    name: "listen",
    doc: "Sockets that accept clients; several addresses share the block. `:80` is every address, IPv6 and IPv4. \
          Without any `listen`: `:443` with `tls`, and `:80` with `redirect-to-https`.",
    args: &[arg("address", Of("listen address")).many()],
    children: &[&KEYS, &[site::HEADER, site::ALLOW, site::DENY]],
    repeat: true,
    example: r#"listen ":80" "unix:/run/narthex/http.sock""#,
    ..NODE
};

static KEYS: [NodeSpec; 14] = [
    tls::LISTENER,
    tls::PROTOCOLS,
    tls::HTTP2,
    NodeSpec {
        name: "backlog",
        doc: "Connections the kernel holds until they are accepted. Default: 4096.",
        args: &[arg("connections", Int(1, 65_535))],
        example: "backlog 4096",
        ..NODE
    },
    NodeSpec {
        name: "ipv6-only",
        doc: "An IPv6 socket takes no IPv4 clients.",
        args: &[arg("on", Bool).optional("#true")],
        example: "ipv6-only",
        ..NODE
    },
    NodeSpec {
        name: "mode",
        doc: "Mode of a unix socket. Default: \"0660\".",
        args: &[arg("mode", Of("file mode"))],
        example: r#"mode "0660""#,
        ..NODE
    },
    NodeSpec {
        name: "proxy-protocol",
        doc: "Read a PROXY protocol header (version 1 or 2) first. Peers outside `from` are refused unless `optional`.",
        props: &[
            prop(
                "from",
                Of("networks"),
                "",
                "Peers that send it; several with commas between.",
            )
            .required(),
            prop(
                "optional",
                Bool,
                "#false",
                "Serve other peers as plain clients.",
            ),
            prop(
                "timeout",
                Duration,
                "\"1s\"",
                "Longest wait for the header.",
            ),
        ],
        example: r#"proxy-protocol from="10.0.0.0/8""#,
        ..NODE
    },
    NodeSpec {
        name: "connections",
        doc: "Connections of this listener.",
        props: &[
            prop(
                "max",
                Int(0, 100_000_000),
                "0",
                "0: only the process's limit.",
            ),
            prop(
                "per-client",
                Int(0, 100_000_000),
                "0",
                "Per client address (per /64 for IPv6) on this listener, instead of the process's limit; 0: the process's limit.",
            ),
            prop(
                "requests",
                Int(1, 4_000_000_000),
                "10000",
                "Requests before the connection is closed.",
            ),
            prop(
                "max-age",
                DurationOrZero,
                "\"0s\"",
                "The answer after it says `Connection: close`; `0s`: none.",
            ),
        ],
        example: r#"connections max=10000 max-age="1h""#,
        ..NODE
    },
    NodeSpec {
        name: "timeout",
        doc: "Time bounds on a client connection.",
        props: &[
            prop(
                "header",
                Duration,
                "\"10s\"",
                "From the first byte to the end of the head; then 408.",
            ),
            prop(
                "body",
                Duration,
                "\"30s\"",
                "Longest pause inside a request body; then 408.",
            ),
            prop(
                "send",
                Duration,
                "\"30s\"",
                "Longest pause of a client that does not read.",
            ),
            prop("keep-alive", Duration, "\"60s\"", "Idle connection."),
            prop(
                "linger",
                DurationOrZero,
                "\"2s\"",
                "Lingering close: at most this long.",
            ),
            prop(
                "linger-bytes",
                Size,
                "\"64KiB\"",
                "Lingering close: at most this much.",
            ),
        ],
        example: r#"timeout header="10s" keep-alive="60s""#,
        ..NODE
    },
    NodeSpec {
        name: "min-rate",
        doc: "Rate a request body must keep. `0B/s`: none. Default: \"240B/s\".",
        args: &[arg("rate", Rate).optional("\"240B/s\"")],
        props: &[prop("after", DurationOrZero, "\"30s\"", "Grace.")],
        example: r#"min-rate "240B/s" after="30s""#,
        ..NODE
    },
    NodeSpec {
        name: "tcp",
        doc: "Socket options of client connections.",
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
        ],
        example: r#"tcp keepalive="60s" user-timeout="30s""#,
        ..NODE
    },
    NodeSpec {
        name: "health",
        doc: "Endpoints for an orchestrator, answered before any site. Default: none.",
        props: &[
            prop("live", Of("url path"), "", "200 while the process lives."),
            prop(
                "ready",
                Of("url path"),
                "",
                "200 while ready, 503 while draining or shedding.",
            ),
        ],
        example: r#"health live="/livez" ready="/readyz""#,
        ..NODE
    },
    NodeSpec {
        name: "limits",
        doc: "Sizes, the same for every protocol.",
        props: &[
            prop("request-line", Size, "\"8KiB\"", "Then 414."),
            prop("field", Size, "\"8KiB\"", "One field line; then 431."),
            prop(
                "head",
                Size,
                "\"32KiB\"",
                "The whole head, 32 bytes added per field; then 431.",
            ),
            prop(
                "fields",
                Int(1, 10_000),
                "100",
                "Number of fields; then 431.",
            ),
            prop("trailers", Size, "\"8KiB\"", "The trailer section."),
            prop(
                "trailer-fields",
                Int(0, 10_000),
                "32",
                "Number of trailer fields.",
            ),
            prop(
                "chunk-extension",
                Size,
                "\"256B\"",
                "Chunk extensions, per chunk.",
            ),
            prop(
                "response-head",
                Size,
                "\"64KiB\"",
                "An origin's head; then 502.",
            ),
            prop(
                "response-fields",
                Int(1, 10_000),
                "200",
                "An origin's fields; then 502.",
            ),
            prop(
                "informational",
                Int(0, 1_000),
                "16",
                "1xx answers passed on per request; then 502.",
            ),
        ],
        example: r#"limits head="64KiB" fields=200"#,
        ..NODE
    },
    NodeSpec {
        name: "redirect-to-https",
        doc: "Every request on this listener is answered 308 to the same address with `https`.",
        args: &[arg("on", Bool).optional("#true")],
        props: &[prop(
            "port",
            Int(1, 65_535),
            "",
            "The port of HTTPS that clients see, where ports are mapped. Default: 443 if a listener with `tls` has it, else that of the \
             first one with `tls`.",
        )],
        example: "redirect-to-https",
        ..NODE
    },
];
