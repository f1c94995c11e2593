//! Keys of the top level.

use super::{
    Groups,
    Kind::{Bool, Duration, DurationOrZero, Int, Memory, Of, Secret, Size, Template, Text, Word},
    NODE, NodeSpec, arg, cache, listen, prop, site, tls, upstream,
};

/// The top level of a file.
pub static TOP: Groups = &[
    &PROCESS,
    &LOGS,
    &tls::GLOBALS,
    &[cache::STORE],
    &[listen::LISTEN, upstream::UPSTREAM, site::POLICY, site::SITE],
];

/// `access-log`, at the top level and in a site.
pub(crate) const ACCESS_LOG: NodeSpec = NodeSpec {
    name: "access-log",
    doc: "One record per request, whatever became of it. At the top level: the default of every site.",
    args: &[arg("format", Word(&["json", "combined", "off"])).optional("\"json\"")],
    props: &[
        prop(
            "template",
            Template,
            "",
            "A record of your own instead of a format: text with variables.",
        ),
        prop(
            "path",
            Of("log target"),
            "\"stdout\"",
            "`stdout`, `stderr`, or a file (reopened on SIGUSR1).",
        ),
        prop(
            "buffer",
            Size,
            "\"1MiB\"",
            "Records that may wait for the writer; beyond it they are dropped and counted.",
        ),
        prop("flush", Duration, "\"1s\"", "Longest time a record waits."),
    ],
    example: r#"access-log "json" path="/var/log/narthex/access.log""#,
    ..NODE
};

static LOGS: [NodeSpec; 2] = [
    NodeSpec {
        name: "log",
        doc: "Diagnostics on standard error.",
        props: &[
            prop(
                "level",
                Of("log filter"),
                "\"info\"",
                "`error`, `warn`, `info`, `debug`, `trace`, or a filter such as `narthex_upstream=debug,info`.",
            ),
            prop(
                "format",
                Word(&["text", "json"]),
                "\"text\"",
                "Lines for people or for machines.",
            ),
        ],
        example: r#"log level="info" format="json""#,
        ..NODE
    },
    ACCESS_LOG,
];

static PROCESS: [NodeSpec; 14] = [
    NodeSpec {
        name: "version",
        doc: "The version of the language. The first line of every file.",
        args: &[arg("version", Int(1, i64::MAX))],
        example: "version 1",
        ..NODE
    },
    NodeSpec {
        name: "workers",
        doc: "Data cores, one single-threaded runtime each. Default: the number of cores.",
        args: &[arg("count", Int(1, 256))],
        example: "workers 2",
        ..NODE
    },
    NodeSpec {
        name: "user",
        doc: "Whom to become once the sockets are bound. Default: nobody else.",
        args: &[arg("user", Text)],
        props: &[prop("group", Text, "", "Default: the user's own group.")],
        example: r#"user "narthex" group="narthex""#,
        ..NODE
    },
    NodeSpec {
        name: "memory",
        doc: "Cap on the process's memory and on its buffers. Above it the proxy sheds in order, a stage further every 100 ms: it refuses new connections, closes idle ones, ends keep-alive, aborts the exchanges that hold most (503 `memory`); until 5% below.",
        props: &[prop(
            "max",
            Memory,
            "\"75%\"",
            "Percent of the cgroup's (else the machine's) memory, or a size.",
        )],
        example: r#"memory max="512MiB""#,
        ..NODE
    },
    NodeSpec {
        name: "connections",
        doc: "Client connections in the whole process.",
        props: &[
            prop(
                "max",
                Int(0, 100_000_000),
                "0",
                "0: 80% of half the open-file limit.",
            ),
            prop(
                "per-client",
                Int(0, 100_000_000),
                "1000",
                "Per client address (per /64 for IPv6), over all listeners without a limit of their own; 0: no limit.",
            ),
        ],
        example: "connections max=20000 per-client=1000",
        ..NODE
    },
    NodeSpec {
        name: "shutdown",
        doc: "How a stop behaves.",
        props: &[
            prop(
                "grace",
                DurationOrZero,
                "\"30s\"",
                "Longest wait for what is in flight.",
            ),
            prop(
                "upgrade-grace",
                DurationOrZero,
                "\"1h\"",
                "The same for a process that `narthex upgrade` has replaced.",
            ),
        ],
        example: r#"shutdown grace="30s""#,
        ..NODE
    },
    NodeSpec {
        name: "shed",
        doc: "Requests are refused (503) while a core is so busy that new connections wait for long: those of low priority \
              first, those of high priority never.",
        props: &[prop(
            "latency",
            DurationOrZero,
            "\"1s\"",
            "For long is this; `0s`: never.",
        )],
        example: r#"shed latency="500ms""#,
        ..NODE
    },
    NodeSpec {
        name: "zone",
        doc: "Where this proxy is: upstreams prefer servers of the same `zone`. Default: nowhere.",
        args: &[arg("name", Text)],
        example: r#"zone "eu-1a""#,
        ..NODE
    },
    NodeSpec {
        name: "resolver",
        doc: "Name servers for the names of servers. Default: those of `/etc/resolv.conf`.",
        args: &[arg("address", Of("ip address and port")).many()],
        example: r#"resolver "10.0.0.53:53""#,
        ..NODE
    },
    NodeSpec {
        name: "trusted-proxies",
        doc: "Peers whose `Forwarded` and `X-Forwarded-*` are believed. Default: none.",
        args: &[arg("network", Of("network")).many()],
        repeat: true,
        example: r#"trusted-proxies "10.0.0.0/8" "::1""#,
        ..NODE
    },
    NodeSpec {
        name: "request-id",
        doc: "A name for every request, sent to the origin and to the client. On by default; `request-id #false` switches it off.",
        args: &[arg("on", Bool).optional("#true")],
        props: &[
            prop(
                "header",
                Of("header name"),
                "\"X-Request-Id\"",
                "The field that carries it.",
            ),
            prop(
                "trust",
                Bool,
                "#false",
                "Keep the one a trusted proxy sent; all others are replaced.",
            ),
        ],
        example: r#"request-id header="X-Request-Id" trust=#true"#,
        ..NODE
    },
    NodeSpec {
        name: "pid-file",
        doc: "Written after start, removed at exit. Default: none.",
        args: &[arg("file", Of("file"))],
        example: r#"pid-file "/run/narthex.pid""#,
        ..NODE
    },
    NodeSpec {
        name: "admin",
        doc: "A control socket: status, metrics, reload, explain. On TCP a `token` is asked for whatever changes something; \
              without one the socket must be on loopback and is read-only.",
        args: &[arg("address", Of("listen address"))],
        props: &[
            prop(
                "mode",
                Of("file mode"),
                "\"0600\"",
                "Mode of a unix socket.",
            ),
            prop("token", Secret, "", "Bearer token for calls over TCP."),
        ],
        repeat: true,
        example: r#"admin "unix:/run/narthex/admin.sock" mode="0600""#,
        ..NODE
    },
    NodeSpec {
        name: "include",
        doc: "Other files, in the order of their names, read as if they stood here.",
        args: &[arg("pattern", Of("file pattern")).many()],
        repeat: true,
        example: r#"include "sites/*.kdl""#,
        ..NODE
    },
];
