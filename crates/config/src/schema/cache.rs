//! Keys of the cache: the store at the top level, the rule in a site, a policy or a route.

use super::Kind::{
    AnyText, Bool, Duration, DurationOrZero, Int, Of, Size, SizeOrNone, Status, Text, Word,
};
use super::site::CONDITIONS;
use super::{NODE, NodeSpec, arg, prop};

/// The store of the process.
pub(crate) const STORE: NodeSpec = NodeSpec {
    name: "cache",
    doc: "Where cached answers are kept, of every route with a `cache` of its own.",
    props: &[prop(
        "memory",
        Size,
        "\"256MiB\"",
        "Memory for them: bodies, heads and bookkeeping.",
    )],
    children: &[&TIERS],
    example: r#"cache memory="1GiB" { disk "/var/cache/narthex" size="10GiB" }"#,
    ..NODE
};

static TIERS: [NodeSpec; 1] = [NodeSpec {
    name: "disk",
    doc: "What is asked for more than once is kept in files, too, and found again after a restart or an upgrade. Default: in \
          memory only.",
    args: &[arg("directory", Of("directory"))],
    props: &[prop(
        "size",
        Size,
        "",
        "Bytes on disk at most, `8MiB` at least. Another size takes effect at the next start.",
    )
    .required()],
    example: r#"disk "/var/cache/narthex" size="10GiB""#,
    ..NODE
}];

/// The rule.
pub(crate) const RULE: NodeSpec = NodeSpec {
    name: "cache",
    doc: "Keep answers that HTTP lets a shared cache keep, and answer with them (see `docs/cache.md`). It replaces the whole rule \
          of a less specific block; `cache #false`: nothing is cached.",
    args: &[arg("on", Bool).optional("#true")],
    props: &[
        prop(
            "profile",
            Word(&["safe", "rfc9111"]),
            "\"safe\"",
            "How much of what the RFC allows is done: `rfc9111` is all of it, guessed lifetimes included.",
        ),
        prop(
            "ttl",
            Duration,
            "",
            "Lifetime of an answer that says nothing of its own. Default: such an answer is not kept.",
        ),
        prop(
            "ttl-override",
            Duration,
            "",
            "Lifetime whatever the origin says, of answers that it lets be kept.",
        ),
        prop("ttl-max", Duration, "", "No lifetime is longer."),
        prop(
            "stale-while-revalidate",
            DurationOrZero,
            "",
            "Serve stale for so long while the origin is asked anew, if the origin does not say how long.",
        ),
        prop(
            "stale-if-error",
            DurationOrZero,
            "",
            "Serve stale for so long while the origin fails, if the origin does not say how long.",
        ),
        prop(
            "hit-for-miss",
            DurationOrZero,
            "\"120s\"",
            "For so long requests for what could not be kept do not wait for each other.",
        ),
        prop(
            "object-max",
            Size,
            "\"64MiB\"",
            "Largest answer that is kept.",
        ),
        prop(
            "slice",
            Size,
            "",
            "Fetch and keep what is larger in slices of so many bytes, from 64KiB to 64MiB: for video and disk images. Default: whole.",
        ),
        prop(
            "quota",
            SizeOrNone,
            "\"none\"",
            "Memory for this site's answers; its own go when it is full.",
        ),
        prop(
            "lock-wait",
            Duration,
            "\"5s\"",
            "A request waits so long for another's that asks the same; then it asks the origin itself.",
        ),
        prop(
            "lock-age",
            Duration,
            "\"30s\"",
            "Nobody waits for a request that has been under way so long without a head.",
        ),
        prop(
            "vary-max",
            Int(1, 10_000),
            "64",
            "Variants of one URL (`Vary`) that are kept.",
        ),
        prop(
            "tags-from",
            Of("field names"),
            "\"Surrogate-Key,Cache-Tag\"",
            "Response fields that name tags to purge by, with commas between.",
        ),
        prop(
            "strip-set-cookie",
            Bool,
            "#false",
            "Take `Set-Cookie` out of answers that are kept, instead of not keeping them.",
        ),
        prop(
            "store-compressed",
            Bool,
            "#false",
            "Ask the origin for gzip, keep one answer for all clients, and decode it for those that do not take gzip.",
        ),
        prop(
            "status-field",
            Bool,
            "#true",
            "Tell in `Cache-Status` how an answer came about.",
        ),
    ],
    children: &[&PARTS],
    example: r#"cache ttl="1d" stale-while-revalidate="1h" tags-from="Surrogate-Key""#,
    ..NODE
};

static PARTS: [NodeSpec; 4] = [
    NodeSpec {
        name: "key",
        doc: "What tells one answer from another, beside scheme, host, port and path.",
        children: &[&KEY],
        example: r#"key { query except="utm_source,fbclid"; header "X-Country" }"#,
        ..NODE
    },
    NodeSpec {
        name: "negative",
        doc: "Keep answers of these statuses that say nothing of their own.",
        args: &[arg("status", Status).many()],
        props: &[prop("ttl", Duration, "", "For so long.").required()],
        repeat: true,
        example: r#"negative 404 410 ttl="10s""#,
        ..NODE
    },
    NodeSpec {
        name: "bypass",
        doc: "Requests for which any of these holds go to the origin, and nothing is kept of them.",
        children: &[&CONDITIONS],
        example: r#"bypass { cookie "session" present=#true; header "X-Preview" }"#,
        ..NODE
    },
    NodeSpec {
        name: "purge",
        doc: "Clients that may say `PURGE`. Default: nobody; to everybody else it is a method like any other.",
        args: &[arg("network", Of("IP address or network")).many()],
        example: r#"purge "10.0.0.0/8""#,
        ..NODE
    },
];

static KEY: [NodeSpec; 7] = [
    NodeSpec {
        name: "query",
        doc: "Parameters that are part of it: `all`, `none`, or some.",
        args: &[arg("which", Word(&["all", "none"])).optional("\"all\"")],
        props: &[
            prop(
                "only",
                Of("parameters"),
                "",
                "These, with commas between; no others.",
            ),
            prop(
                "except",
                Of("parameters"),
                "",
                "All but these, with commas between.",
            ),
        ],
        example: r#"query except="utm_source,fbclid""#,
        ..NODE
    },
    NodeSpec {
        name: "sort-query",
        doc: "Parameters in order of their names, whatever order they came in. Default: #false.",
        args: &[arg("on", Bool).optional("#true")],
        example: "sort-query",
        ..NODE
    },
    NodeSpec {
        name: "strip-tracking",
        doc: "Leave out `utm_*`, `gclid`, `fbclid` and their like. Default: #false.",
        args: &[arg("on", Bool).optional("#true")],
        example: "strip-tracking",
        ..NODE
    },
    NodeSpec {
        name: "header",
        doc: "Request fields whose values are part of it.",
        args: &[arg("name", Text).many()],
        example: r#"header "X-Country""#,
        ..NODE
    },
    NodeSpec {
        name: "cookie",
        doc: "Cookies whose values are part of it.",
        args: &[arg("name", Text).many()],
        example: r#"cookie "currency""#,
        ..NODE
    },
    NodeSpec {
        name: "device",
        doc: "`phone`, `tablet` or `desktop`, by `User-Agent`. Default: #false.",
        args: &[arg("on", Bool).optional("#true")],
        example: "device",
        ..NODE
    },
    NodeSpec {
        name: "language",
        doc: "The best of these languages by `Accept-Language`; the first if none fits.",
        args: &[arg("language", AnyText).many()],
        example: r#"language "en" "de""#,
        ..NODE
    },
];
