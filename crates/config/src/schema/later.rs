//! Keys that belong to the language and are not built yet, and words of other proxies.

/// What to do instead of a key that is not built yet; `None` for a key that is not planned either.
pub fn later(name: &str) -> Option<&'static str> {
    Some(match name {
        "http3" | "h3" | "quic" => "leave it out; this version speaks HTTP/1.1 and HTTP/2",
        "compress" => "leave it out; let the origin compress",
        "auth" | "forward-auth" | "basic-auth" | "oidc" | "jwt" => {
            "leave it out; let the origin authenticate, or use `allow`"
        }
        "rate-limit" | "concurrency" => "leave it out; `connections` bounds clients and servers",
        "breaker" => "leave it out; `eject` opens and closes for each server",
        "mirror" | "cors" | "waf" | "wasm" | "fault" | "plugin" | "grpc" | "static" | "files" => {
            "leave it out"
        }
        "stream" | "tcp-site" | "udp" | "sni" | "metrics" | "trace" | "tracing" => "leave it out",
        _ => return None,
    })
}

/// Balancing policies that are not built yet.
pub(crate) const LATER_BALANCE: &[&str] = &[
    "consistent-hash",
    "ip-hash",
    "two-choices",
    "peak-ewma",
    "least-connections",
    "maglev",
    "first",
];

/// Our word for a word of another proxy.
pub fn foreign(name: &str) -> Option<&'static str> {
    Some(match name {
        "location" | "handle" | "path" => "route",
        "proxy_pass" | "reverse_proxy" | "reverse-proxy" | "proxy-pass" | "use_backend"
        | "forward" => "proxy",
        "backend" | "cluster" | "upstreams" | "pool" => "upstream",
        "frontend" | "bind" | "listener" | "port" => "listen",
        "server_name" | "host_name" | "vhost" | "virtual-host" | "virtualhost" => "site",
        "access_log" | "accesslog" => "access-log",
        "error_log" | "logging" => "log",
        "worker_processes" | "threads" | "nbthread" => "workers",
        "client_max_body_size" | "max-body" => "body",
        "return" => "respond",
        "rewrite_regex" | "replace" => "rewrite-regex",
        "add_header" | "set_header" | "proxy_set_header" | "headers" => "header",
        "error_page" | "errors" => "error-page",
        "healthcheck" | "health_check" | "check" => "health-check",
        "set_real_ip_from" | "real-ip" | "trusted_proxies" => "trusted-proxies",
        "snippet" | "middleware" => "policy",
        "ssl" | "ssl_certificate" | "ssl-certificate" | "certificates" => "tls",
        "h2" => "http2",
        "strict-transport-security" => "hsts",
        "timeouts" => "timeout",
        "websocket" => "upgrade",
        _ => return None,
    })
}
