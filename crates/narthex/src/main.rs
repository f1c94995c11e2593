//! The binary: arguments, subcommands, exit codes.

mod args;
mod client;
mod commands;
mod exit;
mod serve;

use std::process::ExitCode;

use args::{Args, Command};
use clap::Parser;

/// One allocator for all: it gives memory back to the system, and threads do not wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let code = match Args::parse().command {
        Command::Run(args) => commands::run::run(&args),
        Command::Proxy(args) => commands::proxy::run(&args),
        Command::Demo(args) => commands::demo::run(&args),
        Command::Check(args) => commands::check::run(&args),
        Command::Config(args) => commands::config::run(&args.command),
        Command::Reload(args) => commands::control::reload(&args),
        Command::Upgrade(args) => commands::control::upgrade(&args),
        Command::Status(args) => commands::control::status(&args),
        Command::Cache(args) => commands::cache::run(&args),
        Command::Upstream(args) => commands::upstream::run(&args),
        Command::Certs(args) => commands::certs::certs(&args),
        Command::Trust(args) => commands::certs::trust(&args),
        Command::Explain(args) => commands::explain::run(&args),
        Command::Completions(args) => commands::meta::completions(&args),
        Command::Man(args) => commands::meta::man(&args),
        Command::Version => commands::meta::version(),
    };
    code.into()
}
