//! `narthex completions`, `man` and `version`: the program about itself.

use std::io::Write;
use std::path::Path;

use clap::CommandFactory;

use crate::args::{Args, CompletionsArgs, ManArgs};
use crate::exit::{Exit, complain, say};

/// Completions for a shell.
pub fn completions(args: &CompletionsArgs) -> Exit {
    let mut out = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "narthex", &mut out);
    say(String::from_utf8_lossy(&out));
    Exit::Ok
}

/// Manual pages.
pub fn man(args: &ManArgs) -> Exit {
    let result = match &args.out {
        Some(directory) => pages(directory),
        None => page(&mut std::io::stdout().lock()),
    };
    match result {
        Ok(()) => Exit::Ok,
        Err(error) => {
            let place = args.out.as_deref().unwrap_or(Path::new("standard output"));
            complain(format!("cannot write to {}: {error}", place.display()));
            Exit::No
        }
    }
}

/// A page per command; the directory is made when it isn't there.
fn pages(directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Args::command(), directory)
}

fn page(out: &mut impl Write) -> std::io::Result<()> {
    clap_mangen::Man::new(Args::command()).render(out)
}

/// The version.
pub fn version() -> Exit {
    say(format!("narthex {}\n", env!("CARGO_PKG_VERSION")));
    Exit::Ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_names_the_exit_codes() {
        let mut out = Vec::new();
        page(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("Exit codes"), "{text}");
    }

    #[test]
    fn the_directory_of_the_manual_is_made() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("a/b");
        pages(&directory).unwrap();
        assert!(directory.join("narthex.1").is_file());
    }
}
