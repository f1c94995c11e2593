//! `narthex run`.

use narthex_engine::Source;

use crate::args::RunArgs;
use crate::exit::Exit;
use crate::serve::{Serve, config_file, serve};

/// Serves a file.
pub fn run(args: &RunArgs) -> Exit {
    match config_file(args.file.as_ref().or(args.config.as_ref())) {
        Ok(path) => serve(Serve {
            source: Source::File(path),
            default_admin: true,
            upgradable: true,
            welcome: None,
            hint: None,
            log_level: None,
        }),
        Err(exit) => exit,
    }
}
