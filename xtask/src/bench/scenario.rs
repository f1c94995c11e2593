//! What is measured.

/// A scenario.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its short name.
    pub name: &'static str,
    /// In words.
    pub what: &'static str,
    /// What the rig is told, beside target, duration and processes.
    pub order: &'static str,
    /// Threads of the proxy. With more than one nothing is pinned: proxy and generator share all cores.
    pub workers: usize,
    /// Access logs on, on every side.
    pub log: bool,
    /// Hits of a cache; the peers are nginx and Varnish then.
    pub cache: bool,
    /// Unary calls of gRPC, over HTTP/2 on both sides; the peer is nginx (`grpc_pass`) then.
    pub grpc: bool,
    /// Most that CPU per request may be, of nginx and of HAProxy (of Varnish, with a cache).
    pub goals: [Option<f64>; 2],
}

const fn closed(name: &'static str, what: &'static str, order: &'static str) -> Scenario {
    Scenario {
        name,
        what,
        order,
        workers: 1,
        log: false,
        cache: false,
        grpc: false,
        goals: [None, None],
    }
}

/// All of them.
pub const ALL: &[Scenario] = &[
    Scenario {
        goals: [Some(0.80), Some(0.76)],
        ..closed(
            "a",
            "128 B, 64 keep-alive clients",
            "load path=/128 conns=64",
        )
    },
    Scenario {
        goals: [Some(0.90), None],
        ..closed(
            "afix",
            "128 B at 8,000 requests/s (Poisson), 64 clients",
            "load path=/128 conns=64 rate=8000",
        )
    },
    Scenario {
        goals: [Some(0.80), Some(0.76)],
        ..closed(
            "b",
            "10 KiB, 64 keep-alive clients",
            "load path=/10k conns=64",
        )
    },
    Scenario {
        goals: [Some(0.65), None],
        ..closed("c1", "1 MiB, 16 clients", "load path=/1m conns=16")
    },
    Scenario {
        goals: [Some(0.65), None],
        ..closed("c64", "64 MiB, 4 clients", "load path=/64m conns=4")
    },
    Scenario {
        goals: [Some(0.88), None],
        ..closed(
            "d",
            "POST of 100 KiB, 32 clients",
            "load path=/up post=100k conns=32",
        )
    },
    Scenario {
        goals: [Some(1.0), None],
        ..closed(
            "j",
            "128 B, a new connection per request, 64 clients",
            "load path=/128 conns=64 fresh=1",
        )
    },
    closed("i", "9,000 idle connections", "idle path=/128 conns=9000"),
    Scenario {
        log: true,
        goals: [Some(0.88), None],
        ..closed(
            "a-log",
            "as a, with access logs on every side",
            "load path=/128 conns=64",
        )
    },
    Scenario {
        goals: [Some(0.80), None],
        ..closed(
            "e",
            "128 B over TLS 1.3, 64 keep-alive clients",
            "wrk path=/128 conns=64 to=tls",
        )
    },
    Scenario {
        goals: [Some(0.55), None],
        ..closed(
            "f",
            "a full TLS handshake per request, 32 clients",
            "wrk path=/128 conns=32 to=tls close=1",
        )
    },
    Scenario {
        goals: [Some(0.45), Some(0.65)],
        ..closed(
            "g",
            "HTTP/2, 128 B, 10 connections of 32 streams",
            "h2load path=/128 conns=10 streams=32 to=h2c",
        )
    },
    Scenario {
        goals: [Some(0.55), None],
        ..closed(
            "g10k",
            "HTTP/2, 10 KiB, 10 connections of 32 streams",
            "h2load path=/10k conns=10 streams=32 to=h2c",
        )
    },
    Scenario {
        goals: [Some(0.70), None],
        ..closed(
            "g1",
            "HTTP/2, 128 B, 64 connections of one stream",
            "h2load path=/128 conns=64 streams=1 to=h2c",
        )
    },
    Scenario {
        goals: [Some(0.65), None],
        ..closed(
            "eh2",
            "HTTP/2 over TLS 1.3, 128 B, 10 connections of 32 streams",
            "h2load path=/128 conns=10 streams=32 to=tls",
        )
    },
    Scenario {
        grpc: true,
        ..closed(
            "grpc",
            "a unary call of 12 B, 10 connections of 32 streams",
            "h2load path=/bench.Echo/Say.grpc conns=10 streams=32 to=h2c",
        )
    },
    Scenario {
        cache: true,
        goals: [Some(0.50), Some(0.45)],
        ..closed(
            "hit1k",
            "1 KiB from the cache, 64 keep-alive clients",
            "load path=/1k conns=64",
        )
    },
    Scenario {
        cache: true,
        goals: [Some(0.60), Some(0.60)],
        ..closed(
            "hit100k",
            "100 KiB from the cache, 32 clients",
            "load path=/100k conns=32",
        )
    },
    Scenario {
        cache: true,
        goals: [Some(1.0), None],
        ..closed(
            "hit10m",
            "10 MiB from the cache, 8 clients",
            "load path=/10m conns=8",
        )
    },
    Scenario {
        workers: 2,
        ..closed(
            "a-2w",
            "128 B at 8,000 requests/s, 64 clients, two workers on two cores shared with the generator",
            "load path=/128 conns=64 rate=8000 gentle=1",
        )
    },
];

impl Scenario {
    /// Is the load made by a program of others?
    pub fn is_outside(&self) -> bool {
        self.order.contains("to=")
    }

    /// Connections that only wait: memory is measured, not time.
    pub fn is_idle(&self) -> bool {
        self.order.starts_with("idle")
    }
}

/// Those named in `names` (commas); all without.
pub fn chosen(names: Option<&str>) -> Result<Vec<Scenario>, String> {
    let Some(names) = names else {
        return Ok(ALL.to_vec());
    };
    names
        .split(',')
        .map(|name| {
            ALL.iter().find(|s| s.name == name).copied().ok_or_else(|| {
                let all: Vec<&str> = ALL.iter().map(|s| s.name).collect();
                format!("no scenario `{name}`; there are {}", all.join(", "))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose() {
        let names: Vec<&str> = chosen(Some("b,i"))
            .unwrap()
            .iter()
            .map(|s| s.name)
            .collect();
        assert_eq!(names, ["b", "i"]);
        assert!(chosen(Some("zz")).is_err());
        assert_eq!(chosen(None).unwrap().len(), ALL.len());
    }
}
