//! What may be written after `narthex cache`.

use std::net::IpAddr;

use clap::{Args as ClapArgs, Subcommand};

use super::WhomArgs;

/// The cache of the running process.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
A purge has taken effect when the command returns: on every core, for what is still being fetched, too. Takedowns survive
reloads; a restart forgets them, as it forgets what is stored, unless the cache has a directory (`disk`).

Why is this page not a hit, and away with it:
  narthex cache why http://shop.example/list
  narthex cache purge http://shop.example/list

Exit codes: 0 done, 1 refused (no such address, no token, ...), 2 no process answers.")]
pub struct CacheArgs {
    #[command(subcommand)]
    pub command: CacheCommand,
    #[command(flatten)]
    pub whom: WhomArgs,
}

/// A request to ask about.
#[derive(Debug, Clone, ClapArgs)]
pub struct LookArgs {
    /// The URL, such as http://shop.example/list?page=2
    #[arg(value_name = "URL")]
    pub url: String,
    /// Method
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    pub method: String,
    /// A header line `Name: value`; once or more
    #[arg(short = 'H', long = "header", value_name = "LINE")]
    pub headers: Vec<String>,
    /// The client's address
    #[arg(long, value_name = "IP")]
    pub client: Option<IpAddr>,
    /// The listener's name, such as `:8080`
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
}

/// An address, or the beginning of addresses.
#[derive(Debug, Clone, ClapArgs)]
#[group(required = true, multiple = false)]
pub struct AddressArgs {
    /// The URL. With a query only that one; without, whatever the query
    #[arg(value_name = "URL")]
    pub url: Option<String>,
    /// Every URL that begins so
    #[arg(long, value_name = "URL")]
    pub prefix: Option<String>,
}

/// What to forget.
#[derive(Debug, Clone, ClapArgs)]
#[group(required = true, multiple = false)]
pub struct PurgeArgs {
    /// The URL: its path, whatever the scheme, port, query, route and variant
    #[arg(value_name = "URL")]
    pub url: Option<String>,
    /// Every URL that begins so
    #[arg(long, value_name = "URL")]
    pub prefix: Option<String>,
    /// Everything of a host
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Everything with this tag (of `Surrogate-Key`, `Cache-Tag`)
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
    /// Everything
    #[arg(long)]
    pub all: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// What the cache holds, and what happened in it
    #[command(after_help = "Exit codes: 0 shown, 2 no process answers.")]
    Stats,
    /// What is stored of a URL's path: age, lifetime, size, variants, validators, tags
    #[command(after_help = "\
Example: narthex cache get http://shop.example/list

Exit codes: 0 something is stored, 1 nothing is, 2 no process answers.")]
    Get(LookArgs),
    /// Why a request is no hit, and what would make it one
    #[command(after_help = "\
Examples:
  narthex cache why http://shop.example/list
  narthex cache why http://shop.example/list -H 'Cookie: session=1'

Exit codes: 0 it is a hit, 1 it is not, 2 no process answers.")]
    Why(LookArgs),
    /// Forget what is stored
    #[command(after_help = "\
Examples:
  narthex cache purge http://shop.example/list
  narthex cache purge --prefix http://shop.example/images/
  narthex cache purge --tag product-17 --soft      stale now, and asked anew when it is wanted

Exit codes: 0 done, 1 refused, 2 no process answers.")]
    Purge {
        #[command(flatten)]
        what: PurgeArgs,
        /// It becomes stale instead of going: `stale-while-revalidate` serves it while the origin is asked
        #[arg(long)]
        soft: bool,
    },
    /// Take a URL down: it is answered with 451 or 410 at once, whatever is stored, and what is stored goes
    #[command(after_help = "\
Examples:
  narthex cache block http://shop.example/p/17 --reason 'court order 12/34'
  narthex cache block --prefix http://shop.example/old/ --status 410 --reason gone --for 30d

Exit codes: 0 done, 1 refused, 2 no process answers.")]
    Block {
        #[command(flatten)]
        what: AddressArgs,
        /// 451 (for legal reasons) or 410 (gone)
        #[arg(long, value_name = "STATUS", default_value = "451", value_parser = ["451", "410"])]
        status: String,
        /// Why, for the list and the log; clients do not see it
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// So long; without it until it is taken back
        #[arg(long = "for", value_name = "DURATION")]
        lasts: Option<String>,
    },
    /// Take a takedown back, named as it was blocked
    #[command(after_help = "Example: narthex cache unblock http://shop.example/p/17")]
    Unblock(AddressArgs),
    /// Everything that is blocked
    #[command(after_help = "Exit codes: 0 shown, 2 no process answers.")]
    Blocks,
}
