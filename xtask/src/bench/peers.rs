//! Who is measured: Narthex, and its peers from Debian.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::scenario::Scenario;
use crate::served::Served;
use crate::sh;

/// Where the origin listens; the configurations name it, too.
pub const ORIGIN: &str = "127.0.0.1:9000";

/// Where the server of gRPC listens.
pub const GRPC: &str = "127.0.0.1:9005";

/// A proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Ours.
    Narthex,
    /// Debian's nginx.
    Nginx,
    /// Debian's HAProxy.
    Haproxy,
    /// Debian's Varnish.
    Varnish,
}

impl Peer {
    /// By its name.
    pub fn of(name: &str) -> Result<Self, String> {
        match name {
            "nginx" => Ok(Self::Nginx),
            "haproxy" => Ok(Self::Haproxy),
            "varnish" => Ok(Self::Varnish),
            other => Err(format!(
                "no peer `{other}`; there are nginx, haproxy and varnish"
            )),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Narthex => "narthex",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Varnish => "varnish",
        }
    }

    /// The program that it is.
    pub fn program(self) -> &'static str {
        match self {
            Self::Varnish => "varnishd",
            _ => self.name(),
        }
    }

    /// Is it measured in this scenario?
    pub fn takes_part(self, s: &Scenario) -> bool {
        match self {
            Self::Narthex | Self::Nginx => true,
            Self::Haproxy => !s.cache && !s.grpc,
            Self::Varnish => s.cache,
        }
    }

    /// Where it listens.
    pub fn address(self) -> SocketAddr {
        let port = match self {
            Self::Narthex => 9101,
            Self::Nginx => 9102,
            Self::Haproxy => 9103,
            Self::Varnish => 9104,
        };
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// Its version, in its own words.
    pub fn version(self, narthex: &Path) -> String {
        let (program, flag) = match self {
            Self::Narthex => (narthex.to_owned(), "--version"),
            Self::Nginx => (program("nginx"), "-v"),
            Self::Haproxy => (program("haproxy"), "-v"),
            Self::Varnish => (program("varnishd"), "-V"),
        };
        let Ok(out) = Command::new(program).arg(flag).output() else {
            return self.name().to_owned();
        };
        // nginx says it on standard error.
        let text = [out.stdout, out.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().next().unwrap_or_default();
        line.trim_start_matches("nginx version: ").to_owned()
    }

    /// Starts it as the scenario wants it.
    pub fn start(self, s: &Scenario, work: &Path, narthex: &Path) -> Result<Served, String> {
        let cores = if s.workers == 1 { "1" } else { "" };
        let config = self.config(s, work)?;
        let command = self.command(narthex, &config);
        let log = work.join(format!("{}.log", self.name()));
        Served::start(&command, cores, self.address(), &log)
    }

    /// Its command line.
    pub fn command(self, narthex: &Path, config: &Path) -> Command {
        let mut command = match self {
            Self::Narthex => Command::new(narthex),
            Self::Nginx => Command::new(program("nginx")),
            Self::Haproxy => Command::new(program("haproxy")),
            Self::Varnish => Command::new(program("varnishd")),
        };
        match self {
            Self::Narthex => command.args(["run", "--config"]),
            Self::Nginx => command.arg("-c"),
            Self::Haproxy => command.args(["-db", "-f"]),
            Self::Varnish => command
                // No other user: the working directory may be for ours alone.
                .args(["-j", "none", "-F", "-n"])
                .arg(config.with_file_name("varnish"))
                .arg("-a")
                .arg(self.address().to_string())
                .args(["-s", "malloc,256m", "-p", "thread_pools=1", "-f"]),
        };
        command.arg(config);
        command
    }

    /// Writes its configuration for the scenario.
    pub fn config(self, s: &Scenario, work: &Path) -> Result<PathBuf, String> {
        let file = match self {
            Self::Narthex => "narthex.kdl",
            Self::Nginx => "nginx.conf",
            Self::Haproxy => "haproxy.cfg",
            Self::Varnish => "varnish.vcl",
        };
        let text = sh::read(&sh::root().join("bench").join(file))?;
        let text = match self {
            Self::Narthex => ours(&text, s, work)?,
            Self::Nginx => {
                let (zone, here) = nginx_cache(s, work);
                text.replace("@ACCESS_LOG@", &nginx_log(s, work))
                    .replace("@CACHE_ZONE@", &zone)
                    .replace("@GRPC@", if s.grpc { NGINX_GRPC } else { "" })
                    .replace("@CACHE@", here)
            }
            Self::Varnish => text,
            Self::Haproxy => text
                .replace("@LOG_TO@", haproxy_log(s)[0])
                .replace("@LOG@", haproxy_log(s)[1]),
        };
        let text = text
            .replace("@WORKERS@", &s.workers.to_string())
            .replace("@WORK@", &work.display().to_string());
        let path = work.join(file);
        sh::write(&path, &text)?;
        Ok(path)
    }
}

/// Our own file is a valid one; a variant replaces a line of it, which must be there.
fn ours(text: &str, s: &Scenario, work: &Path) -> Result<String, String> {
    let log = format!(
        "access-log \"combined\" path=\"{}\"",
        work.join("narthex-access.log").display()
    );
    let workers = format!("workers {}", s.workers);
    let mut text = text.to_owned();
    for (from, to, wanted) in [
        ("workers 1", workers.as_str(), s.workers != 1),
        ("access-log \"off\"", log.as_str(), s.log),
        (
            "    proxy \"be\"",
            "    cache ttl=\"1h\"\n    proxy \"be\"",
            s.cache,
        ),
        ("proxy \"be\"", "proxy \"grpc\"", s.grpc),
        (
            "site \"*\"",
            "upstream \"grpc\" {\n    server \"127.0.0.1:9005\"\n    protocol \"h2\"\n}\n\nsite \"*\"",
            s.grpc,
        ),
    ] {
        if wanted {
            if !text.contains(from) {
                return Err(format!("bench/narthex.kdl has no line `{from}`"));
            }
            text = text.replacen(from, to, 1);
        }
    }
    Ok(text)
}

/// nginx at its best: lines are gathered before they are written, as ours are.
fn nginx_log(s: &Scenario, work: &Path) -> String {
    if s.log {
        let file = work.join("nginx-access.log");
        format!("{} combined buffer=64k flush=1s", file.display())
    } else {
        "off".into()
    }
}

/// nginx keeps files; in memory here, as ours are.
fn nginx_cache(s: &Scenario, work: &Path) -> (String, &'static str) {
    if !s.cache {
        return Default::default();
    }
    let shm = Path::new("/dev/shm");
    let dir = if shm.is_dir() { shm } else { work }.join("narthex-bench-cache");
    let _ = std::fs::remove_dir_all(&dir);
    let zone = format!(
        "proxy_cache_path {} levels=1:2 keys_zone=c:8m max_size=256m inactive=1h use_temp_path=off;\n    sendfile on;\n    tcp_nopush on;",
        dir.display()
    );
    (
        zone,
        "proxy_cache c;\n            proxy_cache_valid 200 1h;",
    )
}

const NGINX_GRPC: &str = "location /bench.Echo/ { grpc_pass grpc://grpc; grpc_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }";

/// HAProxy writes a line per request; to its standard output here, which is a file.
fn haproxy_log(s: &Scenario) -> [&'static str; 2] {
    if s.log {
        [
            "log stdout format raw local0",
            "log global\n    option httplog",
        ]
    } else {
        ["", ""]
    }
}

fn program(name: &str) -> PathBuf {
    sh::tool(name).unwrap_or_else(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::scenario::ALL;

    #[test]
    fn our_variants_are_made_from_the_file() {
        let text = sh::read(&sh::root().join("bench/narthex.kdl")).unwrap();
        for s in ALL {
            let made = ours(&text, s, Path::new("/w")).unwrap();
            assert!(
                made.contains(&format!("workers {}", s.workers)),
                "{}",
                s.name
            );
            assert_eq!(made.contains("access-log \"off\""), !s.log, "{}", s.name);
            assert_eq!(made.contains("cache ttl"), s.cache, "{}", s.name);
            assert_eq!(made.contains("proxy \"grpc\""), s.grpc, "{}", s.name);
        }
    }
}
