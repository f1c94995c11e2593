//! Keys of `site`, `policy` and `route`: the filters, the settings, the actions, the conditions.

use super::Kind::{
    AnyText, Bool, Duration, Int, Of, Regex, Share, SizeOrNone, Status, Template, Text,
    TextOrFalse, Word,
};
use super::{NODE, NodeSpec, arg, cache, globals, prop, tls};

pub(crate) const SITE: NodeSpec = NodeSpec {
    name: "site",
    doc: "One or more hosts and their routes. `*.example.com` is one or more labels below; `*` is every host no other site has.",
    args: &[arg("host", Of("host")).many()],
    children: &[&SITE_KEYS, &USE, &FILTERS, &SETTINGS, &ACTIONS],
    repeat: true,
    example: r#"site "example.com" "www.example.com" { proxy "127.0.0.1:3000" }"#,
    ..NODE
};

pub(crate) const POLICY: NodeSpec = NodeSpec {
    name: "policy",
    doc: "Filters and settings under a name, for `use`.",
    args: &[arg("name", Of("name"))],
    children: &[&FILTERS, &SETTINGS],
    repeat: true,
    example: r#"policy "public" { body max="1MiB" }"#,
    ..NODE
};

static USE: [NodeSpec; 1] = [NodeSpec {
    name: "use",
    doc: "Apply policies: their filters run after the site's and before the route's own, their settings give way to what is \
          written here.",
    args: &[arg("policy", Of("name")).many()],
    repeat: true,
    example: r#"use "public""#,
    ..NODE
}];

static SITE_KEYS: [NodeSpec; 7] = [
    tls::SITE,
    tls::HSTS,
    NodeSpec {
        name: "listen",
        doc: "Serve this site on these listeners only, written as in `listen`. Default: on all.",
        args: &[arg("listener", Of("listen address")).many()],
        repeat: true,
        example: r#"listen ":8080""#,
        ..NODE
    },
    globals::ACCESS_LOG,
    NodeSpec {
        name: "merge-slashes",
        doc: "`//` in a path is `/`, for matching and forwarding alike. Default: #false.",
        args: &[arg("on", Bool).optional("#true")],
        example: "merge-slashes #true",
        ..NODE
    },
    NodeSpec {
        name: "error-page",
        doc: "A page instead of the proxy's own error, read when the file is loaded.",
        args: &[arg("status", Status).many()],
        props: &[
            prop(
                "file",
                Of("file"),
                "",
                "The page, from the configuration file's directory.",
            )
            .required(),
            prop(
                "intercept",
                Bool,
                "#false",
                "Also instead of the origin's body with such a status.",
            ),
        ],
        repeat: true,
        example: r#"error-page 502 503 "500-599" file="pages/5xx.html" intercept=#true"#,
        ..NODE
    },
    NodeSpec {
        name: "route",
        doc: "A condition and what happens. Routes are tried in the order written; the first that matches wins.",
        props: &[
            prop(
                "path",
                Of("path pattern"),
                "",
                "`/exact`, `/under/*`, `/u/{id}/x`, `/old/{rest*}`, on the canonical path. Default: every path.",
            ),
            prop(
                "path-regex",
                Regex,
                "",
                "The whole canonical path, instead of `path`; named groups are captures.",
            ),
            prop(
                "method",
                Of("methods"),
                "",
                "With commas between. Default: any.",
            ),
            prop(
                "name",
                Text,
                "",
                "In logs, metrics and `explain`. Default: the path as written, else `*`.",
            ),
        ],
        children: &[&WHEN, &USE, &FILTERS, &SETTINGS, &ACTIONS],
        repeat: true,
        example: r#"route path="/api/*" method="GET,POST" { proxy "api" }"#,
        ..NODE
    },
];

static WHEN: [NodeSpec; 1] = [NodeSpec {
    name: "when",
    doc: "Conditions beside path and method, all of which must hold.",
    children: &[&CONDITIONS],
    repeat: true,
    example: r#"when { header "X-Beta" "1"; cookie "beta" "on" }"#,
    ..NODE
}];

const PREFIX: super::PropSpec = prop("prefix", Text, "", "Starts with this.");
const REGEX: super::PropSpec = prop("regex", Regex, "", "The whole value matches.");
const PRESENT: super::PropSpec = prop(
    "present",
    Bool,
    "",
    "`#true`: there, whatever it says (as without a value).",
);

/// What `when`, `not` and `any` take.
pub static CONDITIONS: [NodeSpec; 7] = [
    NodeSpec {
        name: "header",
        doc: "Some value of this field.",
        args: &[
            arg("name", Of("header name")),
            arg("value", AnyText).optional(""),
        ],
        props: &[PREFIX, REGEX, PRESENT],
        repeat: true,
        example: r#"header "X-Beta" "1""#,
        ..NODE
    },
    NodeSpec {
        name: "cookie",
        doc: "A cookie of this name.",
        args: &[arg("name", Text), arg("value", AnyText).optional("")],
        props: &[PREFIX, REGEX, PRESENT],
        repeat: true,
        example: r#"cookie "beta" prefix="on""#,
        ..NODE
    },
    NodeSpec {
        name: "query",
        doc: "A query parameter of this name, after percent-decoding.",
        args: &[arg("name", Text), arg("value", AnyText).optional("")],
        props: &[PREFIX, REGEX, PRESENT],
        repeat: true,
        example: r#"query "debug" present=#true"#,
        ..NODE
    },
    NodeSpec {
        name: "client",
        doc: "The client's address, after trusted proxies.",
        args: &[arg("network", Of("network")).many()],
        repeat: true,
        example: r#"client "10.0.0.0/8""#,
        ..NODE
    },
    NodeSpec {
        name: "client-certificate",
        doc: "The client has proved to be somebody by a certificate (see `tls client-certificate`), and this of it matches.",
        args: &[
            arg(
                "part",
                Word(&["subject", "issuer", "serial", "fingerprint"]),
            )
            .optional("\"subject\""),
            arg("value", AnyText).optional(""),
        ],
        props: &[PREFIX, REGEX, PRESENT],
        repeat: true,
        example: r#"client-certificate "subject" "CN=ops""#,
        ..NODE
    },
    NodeSpec {
        name: "not",
        doc: "Not all of these hold.",
        children: &[&CONDITIONS],
        repeat: true,
        example: r#"not { client "10.0.0.0/8" }"#,
        ..NODE
    },
    NodeSpec {
        name: "any",
        doc: "At least one of these holds.",
        children: &[&CONDITIONS],
        repeat: true,
        example: r#"any { header "A"; header "B" }"#,
        ..NODE
    },
];

static HEADER_OPS: [NodeSpec; 4] = [
    NodeSpec {
        name: "set",
        doc: "Replace every line of this field, or add one.",
        args: &[arg("name", Of("header name")), arg("value", Template)],
        repeat: true,
        example: r#"set "X-Client" "{client.ip}""#,
        ..NODE
    },
    NodeSpec {
        name: "add",
        doc: "Add one more line.",
        args: &[arg("name", Of("header name")), arg("value", Template)],
        repeat: true,
        example: r#"add "Vary" "Origin""#,
        ..NODE
    },
    NodeSpec {
        name: "default",
        doc: "Set only if it is not there.",
        args: &[arg("name", Of("header name")), arg("value", Template)],
        repeat: true,
        example: r#"default "Cache-Control" "no-store""#,
        ..NODE
    },
    NodeSpec {
        name: "remove",
        doc: "Remove every line of this field.",
        args: &[arg("name", Of("header name")).many()],
        repeat: true,
        example: r#"remove "X-Powered-By""#,
        ..NODE
    },
];

const REPLACE: super::PropSpec = prop(
    "replace",
    Bool,
    "#false",
    "Drop the rules of this kind that the levels above wrote.",
);

pub(crate) const HEADER: NodeSpec = NodeSpec {
    name: "header",
    doc: "Operations on the header of the request sent on, or of the response sent back, in the order written.",
    args: &[arg("side", Word(&["request", "response"]))],
    props: &[REPLACE],
    children: &[&HEADER_OPS],
    repeat: true,
    example: r#"header response { set "X-Frame-Options" "DENY"; remove "X-Debug" }"#,
};

pub(crate) const ALLOW: NodeSpec = NodeSpec {
    name: "allow",
    doc: "Only these client addresses pass; others get 403.",
    args: &[arg("network", Of("network")).many()],
    props: &[REPLACE],
    repeat: true,
    example: r#"allow "10.0.0.0/8" "::1""#,
    ..NODE
};

pub(crate) const DENY: NodeSpec = NodeSpec {
    name: "deny",
    doc: "These client addresses get 403.",
    args: &[arg("network", Of("network")).many()],
    props: &[REPLACE],
    repeat: true,
    example: r#"deny "192.0.2.0/24""#,
    ..NODE
};

/// Steps, run in the order written; responses in reverse.
pub static FILTERS: [NodeSpec; 7] = [
    HEADER,
    ALLOW,
    DENY,
    NodeSpec {
        name: "strip-prefix",
        doc: "Remove these leading segments from the path; a path without them is left alone.",
        args: &[arg("prefix", Of("url path"))],
        repeat: true,
        example: r#"strip-prefix "/api""#,
        ..NODE
    },
    NodeSpec {
        name: "add-prefix",
        doc: "Put this before the path.",
        args: &[arg("prefix", Of("url path"))],
        repeat: true,
        example: r#"add-prefix "/v2""#,
        ..NODE
    },
    NodeSpec {
        name: "rewrite",
        doc: "Replace the path, and the query if there is a `?`.",
        args: &[arg("path", Template)],
        repeat: true,
        example: r#"rewrite "/new/{rest}""#,
        ..NODE
    },
    NodeSpec {
        name: "rewrite-regex",
        doc: "Replace matches of a regular expression in the path.",
        args: &[arg("pattern", Regex)],
        props: &[prop("with", AnyText, "", "`$1`, `$name`: groups.").required()],
        repeat: true,
        example: r##"rewrite-regex #"^/a/(.*)$"# with="/b/$1""##,
        ..NODE
    },
];

/// Everything of a route that is not a step.
pub static SETTINGS: [NodeSpec; 13] = [
    cache::RULE,
    NodeSpec {
        name: "priority",
        doc: "Who waits less for a server that is full, and who is refused first when the proxy itself is busy. Default: \
              `normal`.",
        args: &[arg("class", Word(&["high", "normal", "low"]))],
        example: r#"priority "low""#,
        ..NODE
    },
    NodeSpec {
        name: "body",
        doc: "The request body.",
        props: &[prop(
            "max",
            SizeOrNone,
            "\"none\"",
            "Largest; then 413. `none`: unlimited, streamed.",
        )],
        example: r#"body max="1MiB""#,
        ..NODE
    },
    NodeSpec {
        name: "forwarded",
        doc: "Which forwarding headers are written. The client's own copies are removed unless the peer is trusted. \
              Default: `x-forwarded`.",
        args: &[arg(
            "style",
            Word(&["x-forwarded", "forwarded", "both", "off"]),
        )],
        example: r#"forwarded "both""#,
        ..NODE
    },
    NodeSpec {
        name: "host",
        doc: "`Host` sent on: the client's (`keep`), the server's own (`server`), or this text. Default: `keep`.",
        args: &[arg("host", Template)],
        example: r#"host "server""#,
        ..NODE
    },
    NodeSpec {
        name: "buffer",
        doc: "Take a whole request before an attempt starts, or an answer at once, and feed the slow side from the buffer. \
              Default: neither, streaming.",
        props: &[
            prop(
                "request",
                SizeOrNone,
                "\"none\"",
                "Memory for a request body.",
            ),
            prop(
                "response",
                SizeOrNone,
                "\"none\"",
                "Memory for a response body.",
            ),
            prop(
                "disk",
                SizeOrNone,
                "\"none\"",
                "Then up to this much in an unlinked file.",
            ),
            prop(
                "directory",
                Of("file"),
                "\"/var/tmp\"",
                "Directory of that file.",
            ),
        ],
        example: r#"buffer request="64KiB" response="256KiB" disk="1GiB""#,
        ..NODE
    },
    NodeSpec {
        name: "upgrade",
        doc: "Protocols a client may upgrade to; `upgrade #false`: none. Default: `websocket`.",
        args: &[arg("protocol", TextOrFalse).many()],
        example: r#"upgrade "websocket""#,
        ..NODE
    },
    NodeSpec {
        name: "rewrite-urls",
        doc: "Rewrite `Location`, `Refresh` and cookie domains and paths that name the origin. Default: #true.",
        args: &[arg("on", Bool).optional("#true")],
        example: "rewrite-urls #false",
        ..NODE
    },
    NodeSpec {
        name: "hide-origin",
        doc: "Remove the origin's `Server` and `X-Powered-By`. Default: #true.",
        args: &[arg("on", Bool).optional("#true")],
        example: "hide-origin #false",
        ..NODE
    },
    NodeSpec {
        name: "unsafe-underscore-headers",
        doc: "Pass on field names with `_`, which many applications confuse with `-`. Default: #false.",
        args: &[arg("on", Bool).optional("#true")],
        example: "unsafe-underscore-headers",
        ..NODE
    },
    NodeSpec {
        name: "reject-body-on-get",
        doc: "Refuse bodies on GET, HEAD and DELETE. Default: #false.",
        args: &[arg("on", Bool).optional("#true")],
        example: "reject-body-on-get",
        ..NODE
    },
    NodeSpec {
        name: "grpc-web",
        doc: "Translate gRPC-Web, binary and text, to gRPC; other requests pass as they are. The upstream needs `protocol \"h2\"`, or \
              \"auto\". Answers to preflights (CORS) are another route's. Default: #false.",
        args: &[arg("on", Bool).optional("#true")],
        example: "grpc-web",
        ..NODE
    },
    NodeSpec {
        name: "tunnel",
        doc: "An upgraded connection.",
        props: &[prop(
            "idle",
            Duration,
            "\"1h\"",
            "Ends without a byte in either direction for this long.",
        )],
        example: r#"tunnel idle="1h""#,
        ..NODE
    },
];

/// What a route does: exactly one of these. In a site: a last route that matches everything.
pub static ACTIONS: [NodeSpec; 4] = [
    NodeSpec {
        name: "proxy",
        doc: "Forward to an upstream, if one has this name, or to these addresses.",
        args: &[arg("upstream", Of("upstream or address")).many()],
        example: r#"proxy "127.0.0.1:3000""#,
        ..NODE
    },
    NodeSpec {
        name: "redirect",
        doc: "Answer with a redirect.",
        args: &[arg("to", Template)],
        props: &[prop(
            "status",
            Int(301, 308),
            "308",
            "301, 302, 303, 307 or 308.",
        )],
        example: r#"redirect "/new/{rest}" status=308"#,
        ..NODE
    },
    NodeSpec {
        name: "respond",
        doc: "A fixed answer.",
        args: &[
            arg("status", Int(200, 599)),
            arg("body", Template).optional("\"\""),
        ],
        props: &[prop(
            "type",
            Text,
            "\"text/plain; charset=utf-8\"",
            "`Content-Type`.",
        )],
        example: r#"respond 200 "hello {client.ip}""#,
        ..NODE
    },
    NodeSpec {
        name: "split",
        doc: "Forward to one of several, by share.",
        props: &[prop(
            "by",
            Of("split key"),
            "",
            "Sticky by `client-ip`, `cookie:NAME`, `header:NAME`, `query:NAME` or a template. Default: at random.",
        )],
        children: &[&SPLIT_KEYS],
        example: r#"split by="cookie:visitor" { to "web" "95%"; to "web-next" "5%" }"#,
        ..NODE
    },
];

static SPLIT_KEYS: [NodeSpec; 1] = [NodeSpec {
    name: "to",
    doc: "An upstream (or address) and its share; the shares make 100%.",
    args: &[
        arg("upstream", Of("upstream or address")),
        arg("share", Share),
    ],
    repeat: true,
    example: r#"to "web" "95%""#,
    ..NODE
}];
