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
                    "{source} is good: {} listeners, {} sites, {routes} routes, {} upstreams\n",
                    config.listeners.len(),
                    config.sites.len(),
                    config.upstreams.len()
                ));
            }
            Exit::Ok
        }
        None if outcome.readable => Exit::No,
        None => Exit::Usage,
    }
}
