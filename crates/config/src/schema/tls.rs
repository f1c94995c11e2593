//! Keys about TLS and certificates.

use super::Kind::{Bool, Duration, Int, Of, Secret, Text, Word};
use super::{NODE, NodeSpec, PropSpec, arg, prop};

const POLICY_WORDS: &[&str] = &["intermediate", "modern"];

const CERT: PropSpec = prop(
    "cert",
    Of("file"),
    "",
    "PEM: the certificate, then its chain.",
);
const KEY: PropSpec = prop(
    "key",
    Of("file"),
    "",
    "PEM: its key; readable by nobody else.",
);

/// `tls` of a listener.
pub(crate) const LISTENER: NodeSpec = NodeSpec {
    name: "tls",
    doc: "TLS ends here. Certificates are the sites'.",
    children: &[&LISTENER_KEYS],
    example: r#"tls { policy "modern" }"#,
    ..NODE
};

static LISTENER_KEYS: [NodeSpec; 4] = [
    NodeSpec {
        name: "policy",
        doc: "`modern`: TLS 1.3 only. `intermediate`: also 1.2 with forward secrecy and authenticated encryption. Of sites that \
              write none. Default: `intermediate`.",
        args: &[arg("policy", Word(POLICY_WORDS))],
        example: r#"policy "modern""#,
        ..NODE
    },
    NodeSpec {
        name: "handshake-timeout",
        doc: "For the whole handshake. Default: \"10s\".",
        args: &[arg("time", Duration)],
        example: r#"handshake-timeout "10s""#,
        ..NODE
    },
    NodeSpec {
        name: "pending",
        doc: "Handshakes under way per worker; more connections are closed. Default: 256.",
        args: &[arg("handshakes", Int(1, 100_000))],
        example: "pending 256",
        ..NODE
    },
    NodeSpec {
        name: "unknown-name",
        doc: "A client that asks for a name no certificate has: `refuse` (alert `unrecognized_name`), or the `default` \
              certificate, which is that of the site `*`, else of the first. Default: `refuse`.",
        args: &[arg("answer", Word(&["refuse", "default"]))],
        example: r#"unknown-name "default""#,
        ..NODE
    },
];

/// `protocols` of a listener.
pub(crate) const PROTOCOLS: NodeSpec = NodeSpec {
    name: "protocols",
    doc: "What clients may speak, in order of preference: by ALPN over TLS; without it a client may start with HTTP/2 (prior \
          knowledge). Default: `h2` and `http/1.1`.",
    args: &[arg("protocol", Word(&["h2", "http/1.1"])).many()],
    example: r#"protocols "http/1.1""#,
    ..NODE
};

/// `http2` of a listener.
pub(crate) const HTTP2: NodeSpec = NodeSpec {
    name: "http2",
    doc: "Bounds of HTTP/2 connections.",
    props: &[prop(
        "streams",
        Int(1, 10_000),
        "100",
        "Requests at once per connection.",
    )],
    example: "http2 streams=100",
    ..NODE
};

/// `tls` of a site.
pub(crate) const SITE: NodeSpec = NodeSpec {
    name: "tls",
    doc: "Where the site's certificates come from: files, ACME, or the local CA (`internal`). Without it, on listeners with \
          `tls`: ACME if one of its names can have a public certificate, else the local CA.",
    args: &[arg("source", Word(&["acme", "internal"])).optional("")],
    props: &[
        CERT,
        KEY,
        prop("ocsp", Of("file"), "", "An OCSP response (DER) to staple."),
        prop("acme", Text, "", "By ACME, with this mail address."),
        prop(
            "challenge",
            Word(&["auto", "http-01", "tls-alpn-01", "dns-01"]),
            "\"auto\"",
            "How control of the names is shown.",
        ),
        prop(
            "on-demand",
            Bool,
            "#false",
            "At the first handshake, if `acme`'s `on-demand` allows the name.",
        ),
    ],
    children: &[&SITE_TLS_KEYS],
    repeat: true,
    example: r#"tls cert="example.pem" key="example.key""#,
};

static SITE_TLS_KEYS: [NodeSpec; 2] = [
    NodeSpec {
        name: "policy",
        doc: "Instead of the listener's.",
        args: &[arg("policy", Word(POLICY_WORDS))],
        example: r#"policy "modern""#,
        ..NODE
    },
    NodeSpec {
        name: "client-certificate",
        doc: "Ask clients for a certificate. The origin gets it as `Client-Cert` (RFC 9440); clients' own fields of that kind \
              are removed.",
        args: &[arg("mode", Word(&["required", "optional"]))],
        props: &[
            prop("ca", Of("file"), "", "PEM: who may have issued it.").required(),
            prop("crl", Of("file"), "", "PEM: which are revoked."),
        ],
        example: r#"client-certificate "required" ca="clients.pem""#,
        ..NODE
    },
];

/// `hsts` of a site.
pub(crate) const HSTS: NodeSpec = NodeSpec {
    name: "hsts",
    doc: "`Strict-Transport-Security` on answers over HTTPS. Default: none.",
    args: &[arg("on", Bool).optional("#true")],
    props: &[
        prop(
            "max-age",
            Duration,
            "\"365d\"",
            "Browsers remember it for so long.",
        ),
        prop("subdomains", Bool, "#false", "`includeSubDomains`."),
        prop("preload", Bool, "#false", "`preload`."),
    ],
    example: "hsts",
    ..NODE
};

/// `tls` of an upstream.
pub(crate) const UPSTREAM: NodeSpec = NodeSpec {
    name: "tls",
    doc: "Connections to the servers are encrypted, and the servers proven: by the system's CAs, under their own names.",
    children: &[&UPSTREAM_KEYS],
    example: r#"tls { ca "ca.pem" }"#,
    ..NODE
};

static UPSTREAM_KEYS: [NodeSpec; 4] = [
    NodeSpec {
        name: "ca",
        doc: "PEM: who must have issued a server's certificate, instead of the system's CAs.",
        args: &[arg("file", Of("file"))],
        example: r#"ca "ca.pem""#,
        ..NODE
    },
    NodeSpec {
        name: "name",
        doc: "The name that is asked for and proven. Default: the server's own.",
        args: &[arg("name", Of("host"))],
        example: r#"name "api.internal""#,
        ..NODE
    },
    NodeSpec {
        name: "certificate",
        doc: "Who we are to a server that asks.",
        props: &[CERT.required(), KEY.required()],
        example: r#"certificate cert="proxy.pem" key="proxy.key""#,
        ..NODE
    },
    NodeSpec {
        name: "unsafe-no-verify",
        doc: "Take any certificate: whoever sits in between reads and changes everything. Default: #false.",
        args: &[arg("on", Bool).optional("#true")],
        example: "unsafe-no-verify",
        ..NODE
    },
];

/// `protocol` of an upstream.
pub(crate) const PROTOCOL: NodeSpec = NodeSpec {
    name: "protocol",
    doc: "What is spoken to the servers; `auto`: what they choose by ALPN. Default: `http/1.1`.",
    args: &[arg("protocol", Word(&["http/1.1", "h2", "auto"]))],
    example: r#"protocol "h2""#,
    ..NODE
};

/// Keys of the top level.
pub(crate) static GLOBALS: [NodeSpec; 2] = [
    NodeSpec {
        name: "tls-tickets",
        doc: "Keys of session tickets.",
        props: &[
            prop(
                "secret",
                Secret,
                "",
                "32 bytes or more, the same on every proxy that shall resume the others' sessions. Default: drawn at the start.",
            ),
            prop(
                "rotate",
                Duration,
                "\"12h\"",
                "A key seals for so long, and opens for two times longer.",
            ),
        ],
        example: r#"tls-tickets secret="file:/etc/narthex/tickets" rotate="12h""#,
        ..NODE
    },
    NodeSpec {
        name: "acme",
        doc: "Certificates by ACME, and the local CA.",
        children: &[&ACME_KEYS],
        example: r#"acme { email "ops@example.com" }"#,
        ..NODE
    },
];

static ACME_KEYS: [NodeSpec; 5] = [
    NodeSpec {
        name: "email",
        doc: "Contact of the accounts. Default: none.",
        args: &[arg("address", Text)],
        example: r#"email "ops@example.com""#,
        ..NODE
    },
    NodeSpec {
        name: "storage",
        doc: "Directory of accounts, certificates and the local CA. Default: \"/var/lib/narthex\".",
        args: &[arg("directory", Of("file"))],
        example: r#"storage "/var/lib/narthex""#,
        ..NODE
    },
    NodeSpec {
        name: "ca",
        doc: "The directory of a CA; the next one is asked when those before fail. Default: Let's Encrypt.",
        args: &[arg("directory", Of("url"))],
        props: &[
            prop(
                "roots",
                Of("file"),
                "",
                "PEM: who must have issued the CA's own certificate, instead of the system's CAs.",
            ),
            prop("profile", Text, "", "Profile of the orders."),
            prop(
                "eab-id",
                Text,
                "",
                "External account binding: the key's id.",
            ),
            prop(
                "eab-key",
                Secret,
                "",
                "External account binding: the key (base64url).",
            ),
        ],
        repeat: true,
        example: r#"ca "https://acme-v02.api.letsencrypt.org/directory" profile="shortlived""#,
        ..NODE
    },
    NodeSpec {
        name: "dns",
        doc: "Where TXT records for `dns-01` are written: by RFC 2136 (`update`), by a program (`exec`), or by a POST (`webhook`).",
        args: &[arg("by", Word(&["update", "exec", "webhook"]))],
        props: &[
            prop(
                "server",
                Of("ip address and port"),
                "",
                "`update`: the primary server.",
            ),
            prop("zone", Text, "", "`update`: the zone. Default: asked for."),
            prop("key-name", Text, "", "`update`: name of the TSIG key."),
            prop("key", Secret, "", "`update`: the TSIG key (base64)."),
            prop(
                "algorithm",
                Word(&["hmac-sha256", "hmac-sha384", "hmac-sha512"]),
                "\"hmac-sha256\"",
                "`update`: of the TSIG key.",
            ),
            prop(
                "program",
                Of("file"),
                "",
                "`exec`: called with `add` or `remove`, the record's name and its value.",
            ),
            prop(
                "url",
                Of("url"),
                "",
                "`webhook`: gets `action`, `name` and `value` as JSON.",
            ),
            prop("token", Secret, "", "`webhook`: bearer token."),
        ],
        example: r#"dns "update" server="10.0.0.53:53" key-name="acme." key="env:TSIG_KEY""#,
        ..NODE
    },
    NodeSpec {
        name: "on-demand",
        doc: "Which names may get a certificate at their first handshake, on sites with `tls acme=\"..\" on-demand=#true`: those \
              written, and those that `ask` allows.",
        args: &[arg("name", Of("host")).optional("").many()],
        props: &[
            prop(
                "ask",
                Of("url"),
                "",
                "Asked with `?domain=NAME`, within 5 s; 200 allows it.",
            ),
            prop(
                "per-hour",
                Int(1, 100_000),
                "100",
                "Names that get their first certificate, per hour.",
            ),
            prop(
                "per-client",
                Int(1, 100_000),
                "10",
                "The same, for the handshakes of one client (a /64 of IPv6).",
            ),
        ],
        example: r#"on-demand "*.customers.example.com" ask="http://127.0.0.1:9000/allowed""#,
        ..NODE
    },
];
