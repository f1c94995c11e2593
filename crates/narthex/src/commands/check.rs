//! `narthex check`.

use narthex_engine::Source;

use crate::args::CheckArgs;
use crate::exit::{Exit, say, show};
use crate::serve::config_file;

/// Checks a file and shows every problem.
pub fn run(args: &CheckArgs) -> Exit {
    let path = match config_file(args.file.as_ref().or(args.config.as_ref())) {
        Ok(path) => path,
        Err(exit) => return exit,
    };
    let source = Source::File(path);
    let outcome = source.examine();
    if args.json {
        say(format!("{:#}\n", outcome.machine));
    } else if !outcome.human.is_empty() {
        show(&outcome.human);
    }
    match &outcome.config {
        Some(config) => {
            if !args.json {
                let routes: usize = config.sites.iter().map(|site| site.routes.len()).sum();
                say(format!(
                    "{source} is good: {}, {}, {}, {}\n",
                    count(config.listeners.len(), "listener"),
                    count(config.sites.len(), "site"),
                    count(routes, "route"),
                    count(config.upstreams.len(), "upstream")
                ));
            }
            Exit::Ok
        }
        None if outcome.readable => Exit::No,
        None => Exit::Usage,
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
