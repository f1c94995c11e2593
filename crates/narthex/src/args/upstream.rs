//! What may be written after `narthex upstream`.

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::WhomArgs;

/// Servers of the running process.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
A change takes effect at once, on every core, without a reload; requests under way go to their end. It survives reloads,
and a restart forgets it: `narthex config diff` shows what is changed and not written.

Taking a server out for maintenance:
  narthex upstream drain api 10.0.0.2:8080 --wait     nobody new; returns when nothing is under way
  narthex upstream undrain api 10.0.0.2:8080          back, with a share that grows

A server is meant by the name it is written with. Of a name with several addresses, one can be meant by its address.

Exit codes: 0 done, 1 refused (no such server, somebody else was first, no token, ...), 2 no process answers.")]
pub struct UpstreamArgs {
    #[command(subcommand)]
    pub command: UpstreamCommand,
    #[command(flatten)]
    pub whom: WhomArgs,
}

/// One server.
#[derive(Debug, Clone, ClapArgs)]
pub struct ServerArgs {
    /// The upstream's name
    #[arg(value_name = "UPSTREAM")]
    pub upstream: String,
    /// The server, as it is written; or one address of a name
    #[arg(value_name = "SERVER")]
    pub server: String,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum UpstreamCommand {
    /// Servers with their state and what they are doing
    #[command(after_help = "\
Examples:
  narthex upstream list
  narthex upstream list api --watch

Exit codes: 0 shown, 1 no such upstream, 2 no process answers.")]
    List {
        /// This one only
        #[arg(value_name = "UPSTREAM")]
        upstream: Option<String>,
        /// Again every second, until Ctrl-C
        #[arg(long)]
        watch: bool,
    },
    /// Add a server
    #[command(after_help = "Example: narthex upstream add api 10.0.0.9:8080 --weight 2")]
    Add {
        /// The upstream's name
        #[arg(value_name = "UPSTREAM")]
        upstream: String,
        /// Where it is: `10.0.0.9:8080`, `[fd00::9]:8080`, `name:8080`, `unix:/run/app.sock`
        #[arg(value_name = "ADDRESS")]
        address: String,
        /// Its share of requests
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
        weight: Option<u16>,
        /// Used only when no other is available
        #[arg(long)]
        backup: bool,
        /// 0 to 15; servers of a lower one come first
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=15))]
        priority: Option<u8>,
        /// Where it is, to be compared with the `zone` of the file
        #[arg(long, value_name = "NAME")]
        zone: Option<String>,
        /// What it may be used for
        #[arg(long, value_name = "STATE")]
        state: Option<StateArg>,
    },
    /// Remove a server: nobody new, requests under way to their end
    #[command(after_help = "Example: narthex upstream remove api 10.0.0.9:8080")]
    Remove(ServerArgs),
    /// Give a server another share of requests
    #[command(after_help = "Example: narthex upstream weight api 10.0.0.2:8080 5")]
    Weight {
        #[command(flatten)]
        server: ServerArgs,
        /// Its share; 1 is the usual
        #[arg(value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
        weight: u16,
    },
    /// Send a server nobody new
    #[command(after_help = "\
Examples:
  narthex upstream drain api 10.0.0.2:8080
  narthex upstream drain api 10.0.0.2:8080 --for 10m    then nobody at all, as after `down`
  narthex upstream drain api 10.0.0.2:8080 --wait       returns when nothing is under way

Exit codes: 0 done, 1 refused, 2 no process answers.")]
    Drain {
        #[command(flatten)]
        server: ServerArgs,
        /// After so long the server is `down`
        #[arg(long = "for", value_name = "DURATION")]
        lasts: Option<String>,
        /// Return when nothing is under way at the server
        #[arg(long)]
        wait: bool,
    },
    /// Use a server again, after `drain` or `down`
    #[command(
        visible_alias = "up",
        after_help = "Example: narthex upstream undrain api 10.0.0.2:8080"
    )]
    Undrain(ServerArgs),
    /// Send a server nothing at all; requests under way go to their end
    #[command(after_help = "Example: narthex upstream down api 10.0.0.2:8080")]
    Down(ServerArgs),
    /// Forget every change of an upstream: back to what is written and found
    #[command(after_help = "Example: narthex upstream reset api")]
    Reset {
        /// The upstream's name
        #[arg(value_name = "UPSTREAM")]
        upstream: String,
    },
    /// The last changes: who, what, before, after, or why not
    #[command(after_help = "Exit codes: 0 shown, 2 no process answers.")]
    Audit,
}

/// What a server may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StateArg {
    /// Everything
    Ready,
    /// Nobody new
    Drain,
    /// Nothing
    Down,
}

impl StateArg {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Down => "down",
        }
    }
}
