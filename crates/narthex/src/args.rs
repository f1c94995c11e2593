//! What may be written after `narthex`, and the help that teaches it.

pub mod cache;
pub mod upstream;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

const AFTER_HELP: &str = "\
First steps:
  narthex demo                                       see it work: three origins and a proxy
  narthex proxy --listen :8080 --to 127.0.0.1:3000   in front of an application, without a file
  narthex proxy --tls 3000                           the same, and with HTTPS
  narthex check narthex.kdl                          is this file right? says where not
  narthex run narthex.kdl                            serve it

Exit codes:
  0    done, and well (`run`: stopped gracefully)
  1    the answer is no: problems in the configuration, a refused reload, a start that failed
  2    the question was wrong: bad arguments, a file that cannot be read, no process that answers
  130  `run`, `proxy`, `demo`: a second signal stopped it at once; what was in flight was cut

Signals to a running process:
  SIGHUP            reload            SIGTERM, SIGINT   stop gracefully; the second time at once
  SIGUSR1           reopen access logs SIGUSR2          upgrade";

/// A reverse proxy: it decides where each request goes, protects, observes, and explains what it did.
#[derive(Debug, Parser)]
#[command(name = "narthex", version, after_help = AFTER_HELP, max_term_width = 100, disable_help_subcommand = false)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a configuration
    Run(RunArgs),
    /// Serve without a file: one address in front of one or more servers
    Proxy(ProxyArgs),
    /// See it work: three small origins, a proxy in front of them, and what to try
    Demo(DemoArgs),
    /// Check a configuration and show every problem at once
    Check(CheckArgs),
    /// Format, show, describe and migrate configurations
    Config(ConfigArgs),
    /// Make the running process read its files again; says what changed, or why nothing did
    Reload(ReloadArgs),
    /// Replace the running program by the one that is installed now, without a lost request
    Upgrade(UpgradeArgs),
    /// How is the running process?
    Status(StatusArgs),
    /// Servers of the running process: list, add, remove, drain, weight, ...
    Upstream(upstream::UpstreamArgs),
    /// The cache of the running process: what is stored, why something is no hit, purges, takedowns
    Cache(cache::CacheArgs),
    /// Certificates that the running process obtains by itself: issuer, end, next attempt, trouble
    Certs(CertsArgs),
    /// Print the root certificate of the internal authority, for clients to trust
    Trust(TrustArgs),
    /// Which route takes a request, and why the others don't
    Explain(ExplainArgs),
    /// Completions for a shell
    Completions(CompletionsArgs),
    /// Manual pages
    #[command(hide = true)]
    Man(ManArgs),
    /// The version
    Version,
}

/// Serve a configuration.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Without a FILE, ./narthex.kdl is served if it exists, else /etc/narthex/narthex.kdl.

Examples:
  narthex run narthex.kdl
  sudo narthex run /etc/narthex/narthex.kdl     binds port 80, then becomes the `user` of the file

As a service: packaging/narthex.service (systemd, Type=notify-reload). In a container it runs as PID 1.
Exit codes: 0 stopped gracefully, 1 it could not start or has failed, 2 the file cannot be read, 130 a second signal.")]
pub struct RunArgs {
    /// The file (KDL, or JSON with the ending .json)
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The same as FILE
    #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
    pub config: Option<PathBuf>,
}

/// Serve without a file.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  narthex proxy 3000
  narthex proxy --tls 3000                    https://localhost:8443/ and http://localhost:8080/
  narthex proxy --listen :8080 --to 127.0.0.1:3000
  narthex proxy --listen :8080 --to 127.0.0.1:3000 --to 127.0.0.1:3001 --access-log json
  narthex proxy --listen 127.0.0.1:8080 --to unix:/run/app.sock --admin 127.0.0.1:9180

With --tls clients speak HTTP/1.1 or HTTP/2 on the encrypted port, as they like; on the plain one HTTP/2 by prior knowledge.
Certificates come from an authority of this machine's own; how clients come to trust it is said at the start.

The file that says the same: add --print. Exit codes as for `run`.")]
pub struct ProxyArgs {
    /// A server, as with --to: `3000`, `127.0.0.1:3000`
    #[arg(value_name = "SERVER", required_unless_present = "to")]
    pub servers: Vec<String>,
    /// Where clients connect: `:8080`, `127.0.0.1:8080`, `[::1]:8080`, `unix:/path`
    #[arg(short, long, value_name = "ADDRESS", default_value = ":8080")]
    pub listen: String,
    /// A server; once or more. Requests go to the one with the fewest in flight
    #[arg(short, long = "to", value_name = "SERVER")]
    pub to: Vec<String>,
    /// Also serve HTTPS
    #[arg(long)]
    pub tls: bool,
    /// Where clients of HTTPS connect
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = ":8443",
        requires = "tls"
    )]
    pub https: String,
    /// A name that clients of HTTPS use, beside `localhost`; once or more
    #[arg(long = "name", value_name = "NAME", requires = "tls")]
    pub names: Vec<String>,
    /// Where the authority is kept [default: /var/lib/narthex for root, else ~/.local/state/narthex]
    #[arg(long, value_name = "DIRECTORY", requires = "tls")]
    pub storage: Option<PathBuf>,
    /// Threads that serve [default: one for each core of this machine]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,
    /// One line per request, on standard output
    #[arg(long, value_name = "FORMAT", default_value = "off")]
    pub access_log: AccessLogArg,
    /// Also answer `status`, `explain` and /metrics here: `127.0.0.1:9180` or `unix:/path`
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<String>,
    /// Cache what may be cached. `--cache=rfc9111`: everything that HTTP allows, guessed lifetimes included
    #[arg(long, value_name = "PROFILE", num_args = 0..=1, require_equals = true, default_missing_value = "safe")]
    pub cache: Option<CacheArg>,
    /// Keep it in files of this directory, too, so that a restart finds it [default SIZE: 10GiB]
    #[arg(long, value_name = "DIRECTORY[:SIZE]", requires = "cache")]
    pub cache_disk: Option<String>,
    /// Print the configuration file that says the same, and do nothing else
    #[arg(long)]
    pub print: bool,
}

/// How much is cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CacheArg {
    /// What origins say explicitly, but nothing with a cookie, and no errors
    Safe,
    /// Everything that RFC 9111 allows a shared cache
    Rfc9111,
}

/// Shape of the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AccessLogArg {
    /// One JSON object a line
    Json,
    /// NCSA combined
    Combined,
    /// None
    Off,
}

/// See it work.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Ctrl-C stops it. Exit codes: 0 stopped, 1 it could not start, 130 a second Ctrl-C."
)]
pub struct DemoArgs {
    /// Port of the proxy; a free one if it is taken
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// Port of the admin address; a free one if it is taken
    #[arg(long, default_value_t = 9180)]
    pub admin_port: u16,
    /// Show every request
    #[arg(long)]
    pub access_log: bool,
}

/// Check a configuration.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Every problem is shown at once, with its place and what to write instead. Nothing is bound, nothing is changed.

Exit codes: 0 the file can be served (warnings included), 1 it has problems, 2 it cannot be read.")]
pub struct CheckArgs {
    /// The file; as for `run` when it is left out
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The same as FILE
    #[arg(short, long, value_name = "FILE", conflicts_with = "file", hide = true)]
    pub config: Option<PathBuf>,
    /// A JSON array of problems, for editors and pipelines
    #[arg(long)]
    pub json: bool,
}

/// Work with configurations.
#[derive(Debug, ClapArgs)]
pub struct ConfigArgs {
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What to do with a configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Put files into the one common shape
    #[command(
        after_help = "Exit codes: 0 done (--check: nothing to do), 1 --check found a difference, 2 a file cannot be read or parsed."
    )]
    Fmt {
        /// Files to rewrite; `-` reads standard input and writes standard output
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        /// Change nothing; exit 1 if something would change
        #[arg(long)]
        check: bool,
    },
    /// Print a configuration
    #[command(
        after_help = "Secrets are shown by reference, never by value. Exit codes: 0, 1 problems, 2 it cannot be read."
    )]
    Show {
        /// The file; as for `run` when it is left out
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// The same as FILE
        #[arg(short, long, value_name = "FILE", conflicts_with = "file", hide = true)]
        config: Option<PathBuf>,
        /// With every default that applies
        #[arg(long)]
        effective: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// What differs between the running process and the files
    #[command(after_help = "\
Shows changes that were made at run time (`narthex upstream`) and are not written, and edits of the files that are not
loaded yet. With --write the changes are written into the files: only the lines of the servers concerned are touched.
What cannot be written stays and is named: servers that were found, drains for a time, files in JSON.

Exit codes: 0 nothing differs (--write: all is written), 1 something does (--write: something could not be written),
2 no process answers, or a file cannot be written.")]
    Diff {
        #[command(flatten)]
        admin: AdminArgs,
        /// Find the admin address in this file
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Write the changes into the files
        #[arg(long, conflicts_with = "json")]
        write: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of the JSON form
    Schema,
    /// Bring a file to the current version of the language
    #[command(
        after_help = "Exit codes: 0 done or nothing to do, 2 the file cannot be read or names a version that is not known."
    )]
    Migrate {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Rewrite the file instead of printing
        #[arg(long)]
        write: bool,
    },
    /// Print the reference manual of the language
    Docs,
}

/// Where the running process answers.
#[derive(Debug, Clone, ClapArgs)]
pub struct AdminArgs {
    /// Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`
    ///
    /// Left out: $NARTHEX_ADMIN, then the first `admin` of the configuration, then the usual places. A token for a TCP
    /// address is taken from $NARTHEX_ADMIN_TOKEN.
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<String>,
}

/// Whom a family of commands asks, and how it answers.
#[derive(Debug, Clone, ClapArgs)]
pub struct WhomArgs {
    /// Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`
    ///
    /// Left out: $NARTHEX_ADMIN, then the first `admin` of the configuration, then the usual places. A token for a TCP
    /// address is taken from $NARTHEX_ADMIN_TOKEN.
    #[arg(long, value_name = "ADDRESS", global = true)]
    pub admin: Option<String>,
    /// Find the admin address in this file
    #[arg(short, long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// The answer as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// Reload the running process.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Returns when every core serves the new configuration. What is in flight finishes on the old one. A file with problems
changes nothing.

Exit codes: 0 reloaded, 1 refused (the old configuration serves on), 2 no process answers.")]
pub struct ReloadArgs {
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Find the admin address in this file
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Replace the running program.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
The running process starts the program at its own path, with its own arguments, and hands it the listening sockets and what
it knows of the servers. When the new process is ready it serves; the old one finishes what is in flight, within `shutdown
upgrade-grace`. If the new one ends, has problems with the configuration or is not ready in time, it is ended and the old one
serves on as if nothing had been.

SIGUSR2 does the same. A container's process 1 cannot be replaced: start a new container.

Exit codes: 0 the new process serves, 1 rolled back or refused (the old process serves on), 2 no process answers.")]
pub struct UpgradeArgs {
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Find the admin address in this file
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Seconds until the new process must be ready
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub timeout: u64,
    /// The answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// How is the running process?
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Exit codes: 0 it is ready, 1 it answers and is not ready, 2 no process answers."
)]
pub struct StatusArgs {
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Find the admin address in this file
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Certificates of the running process.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Exit codes: 0 it answers, 1 it refuses to, 2 no process answers.")]
pub struct CertsArgs {
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Find the admin address in this file
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// The root of the internal authority.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Read from the storage that the configuration names, or that --storage says; no process is asked.

Examples:
  narthex trust > /usr/local/share/ca-certificates/narthex.crt && update-ca-certificates
  curl --cacert <(narthex trust) https://c.internal/

Exit codes: 0 printed, 1 there is none yet, or it cannot be read, 2 the configuration cannot be read.")]
pub struct TrustArgs {
    /// The configuration; as for `run` when it is left out
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the authority is kept, instead of a configuration: what `narthex proxy --tls` says
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "config")]
    pub storage: Option<PathBuf>,
}

/// Which route takes a request.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Asks the running process, whose answer includes the health of servers; with --config it asks a file and no process.
Both use the matcher of the data path.

Examples:
  narthex explain GET http://shop.example.com/api/x -H 'X-Beta: 1'
  narthex explain POST http://shop.example.com/login --client 203.0.113.9 --config narthex.kdl

Exit codes: 0 explained, 1 the request cannot be explained or the file has problems, 2 no process answers.")]
pub struct ExplainArgs {
    /// Method, such as GET
    #[arg(value_name = "METHOD")]
    pub method: String,
    /// The URL, such as http://shop.example.com/api/x?y=1
    #[arg(value_name = "URL")]
    pub url: String,
    /// A header line `Name: value`; once or more
    #[arg(short = 'H', long = "header", value_name = "LINE")]
    pub headers: Vec<String>,
    /// The client's address
    #[arg(long, value_name = "IP")]
    pub client: Option<IpAddr>,
    /// The listener's name, such as `:8080`
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
    /// Ask this file instead of the running process
    #[arg(short, long, value_name = "FILE", conflicts_with = "admin")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub admin: AdminArgs,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Completions for a shell.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example: narthex completions bash > /etc/bash_completion.d/narthex")]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Manual pages.
#[derive(Debug, ClapArgs)]
pub struct ManArgs {
    /// Write one page per command here; without it the main page goes to standard output
    #[arg(long, value_name = "DIRECTORY")]
    pub out: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(args: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from([&["narthex"], args].concat())
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_commands_of_the_manual_parse() {
        for args in [
            &["run", "--config", "narthex.kdl"][..],
            &["run", "narthex.kdl"],
            &["run"],
            &[
                "proxy",
                "--listen",
                ":8080",
                "--to",
                "127.0.0.1:3000",
                "--workers",
                "2",
                "--access-log",
                "json",
            ],
            &["proxy", "3000"],
            &["proxy", "--tls", "3000"],
            &["proxy", "--cache", "--cache-disk", "/a:1GiB", "3000"],
            &[
                "proxy",
                "--tls",
                "--https",
                ":443",
                "--name",
                "a.test",
                "--storage",
                "s",
                "--to",
                "3000",
            ],
            &["trust", "--storage", "s"],
            &["check", "narthex.kdl", "--json"],
            &["check", "--config", "narthex.kdl"],
            &["config", "fmt", "--check", "a.kdl", "b.kdl"],
            &["config", "show", "--effective", "--json"],
            &["config", "schema"],
            &["config", "migrate", "a.kdl"],
            &["config", "docs"],
            &["reload", "--admin", "unix:/run/narthex/admin.sock"],
            &["status", "--json"],
            &[
                "explain",
                "GET",
                "http://a/b",
                "-H",
                "X: 1",
                "-H",
                "Y: 2",
                "--client",
                "::1",
            ],
            &["upstream", "list"],
            &["upstream", "list", "api", "--watch", "--admin", "unix:/x"],
            &["upstream", "--json", "list"],
            &[
                "upstream",
                "add",
                "api",
                "10.0.0.9:80",
                "--weight",
                "2",
                "--backup",
                "--state",
                "drain",
            ],
            &["upstream", "remove", "api", "10.0.0.9:80"],
            &["upstream", "weight", "api", "10.0.0.9:80", "5"],
            &[
                "upstream",
                "drain",
                "api",
                "10.0.0.9:80",
                "--for",
                "10m",
                "--wait",
            ],
            &["upstream", "undrain", "api", "10.0.0.9:80"],
            &["upstream", "up", "api", "10.0.0.9:80"],
            &["upstream", "down", "api", "10.0.0.9:80"],
            &["upstream", "reset", "api"],
            &["upstream", "audit"],
            &["cache", "stats"],
            &["cache", "get", "http://a/b", "--json"],
            &["cache", "why", "http://a/b", "-H", "Range: bytes=0-1"],
            &["cache", "purge", "http://a/b", "--soft"],
            &["cache", "purge", "--prefix", "http://a/b/"],
            &["cache", "purge", "--host", "a"],
            &["cache", "purge", "--tag", "red"],
            &["cache", "purge", "--all", "--admin", "unix:/x"],
            &["cache", "block", "http://a/b", "--reason", "order 12"],
            &[
                "cache",
                "block",
                "--prefix",
                "http://a/b/",
                "--status",
                "410",
                "--reason",
                "x",
                "--for",
                "30d",
            ],
            &["cache", "unblock", "http://a/b"],
            &["cache", "blocks"],
            &["config", "diff"],
            &["config", "diff", "--write"],
            &["completions", "bash"],
            &["man"],
            &["version"],
            &["demo"],
        ] {
            assert!(
                parse(args).is_ok(),
                "{args:?}: {}",
                parse(args).unwrap_err()
            );
        }
    }

    #[test]
    fn wrong_arguments_exit_2() {
        for args in [
            &["proxy", "--listen", ":80"][..],
            &["proxy", "--https", ":443", "3000"],
            &["proxy", "--name", "a.test", "3000"],
            &["proxy", "--cache-disk", "/a", "3000"],
            &["trust", "--storage", "s", "--config", "f"],
            &["proxy", "--listen", ":80", "--to", "x", "--workers", "0"],
            &["proxy", "--listen", ":80", "--to", "x", "--workers", "257"],
            &["run", "a.kdl", "--config", "b.kdl"],
            &["explain", "GET"],
            &["cache", "purge"],
            &["cache", "purge", "http://a/b", "--all"],
            &["cache", "block", "http://a/b"],
            &[
                "cache",
                "block",
                "http://a/b",
                "--status",
                "404",
                "--reason",
                "x",
            ],
            &[
                "explain", "GET", "http://a", "--config", "f", "--admin", "unix:/x",
            ],
            &["runn"],
        ] {
            assert_eq!(parse(args).unwrap_err().exit_code(), 2, "{args:?}");
        }
    }

    #[test]
    fn a_typo_is_met_with_a_suggestion() {
        let text = parse(&["chekc"]).unwrap_err().to_string();
        assert!(text.contains("'check'"), "{text}");
    }
}
