//! `narthex config fmt|show|diff|schema|migrate|docs`.

use std::io::Read;
use std::path::{Path, PathBuf};

use narthex_config::migrate::Migration;
use narthex_config::problem::render_human;
use narthex_config::source::Sources;
use narthex_engine::Source;

use crate::args::ConfigCommand;
use crate::exit::{Exit, complain, say, show};
use crate::serve::config_file;

/// Largest text that is formatted from standard input.
const STDIN: u64 = 16 << 20;

/// Does it.
pub fn run(command: &ConfigCommand) -> Exit {
    match command {
        ConfigCommand::Fmt { files, check } => worst(files.iter().map(|file| format(file, *check))),
        ConfigCommand::Show {
            file,
            config,
            effective,
            json,
        } => print(file.as_ref().or(config.as_ref()), *effective, *json),
        ConfigCommand::Diff {
            admin,
            config,
            write,
            json,
        } => super::diff::run(admin, config.as_deref(), *write, *json),
        ConfigCommand::Schema => {
            say(format!("{:#}\n", narthex_config::schema::json_schema()));
            Exit::Ok
        }
        ConfigCommand::Migrate { file, write } => migrate(file, *write),
        ConfigCommand::Docs => {
            say(narthex_config::schema::reference_markdown());
            Exit::Ok
        }
    }
}

/// The exit code of several files: a wrong question before a no before an ok.
fn worst(exits: impl Iterator<Item = Exit>) -> Exit {
    exits.fold(Exit::Ok, |worst, exit| match (worst, exit) {
        (Exit::Usage, _) | (_, Exit::Usage) => Exit::Usage,
        (Exit::No, _) | (_, Exit::No) => Exit::No,
        _ => Exit::Ok,
    })
}

fn format(file: &Path, check: bool) -> Exit {
    let stdin = file == Path::new("-");
    let text = match if stdin {
        read_stdin()
    } else {
        std::fs::read_to_string(file)
    } {
        Ok(text) => text,
        Err(error) => return unreadable(file, &error),
    };
    let formatted = match narthex_config::syntax::format(&text) {
        Ok(formatted) => formatted,
        Err(problems) => {
            let mut sources = Sources::default();
            sources.add(file.display().to_string(), text);
            show(&render_human(&problems, &sources));
            return Exit::Usage;
        }
    };
    let same = formatted == text;
    if check {
        if !same {
            say(format!("{} would change\n", file.display()));
            return Exit::No;
        }
    } else if stdin {
        say(formatted);
    } else if !same {
        return replace(file, &formatted);
    }
    Exit::Ok
}

fn read_stdin() -> std::io::Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(STDIN)
        .read_to_string(&mut text)?;
    Ok(text)
}

/// Writes beside the file and renames: nobody sees half of it.
pub(super) fn replace(file: &Path, text: &str) -> Exit {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".narthex-tmp");
    let beside = PathBuf::from(beside);
    let written = std::fs::write(&beside, text)
        .and_then(|()| std::fs::set_permissions(&beside, std::fs::metadata(file)?.permissions()))
        .and_then(|()| std::fs::rename(&beside, file));
    match written {
        Ok(()) => Exit::Ok,
        Err(error) => {
            let _ = std::fs::remove_file(&beside);
            complain(format!("cannot write {}: {error}", file.display()));
            Exit::Usage
        }
    }
}

fn unreadable(file: &Path, error: &std::io::Error) -> Exit {
    complain(format!("cannot read {}: {error}", file.display()));
    Exit::Usage
}

fn print(file: Option<&PathBuf>, effective: bool, json: bool) -> Exit {
    let path = match config_file(file) {
        Ok(path) => path,
        Err(exit) => return exit,
    };
    let outcome = Source::File(path.clone()).examine();
    if !outcome.human.is_empty() {
        show(&outcome.human);
    }
    let Some(config) = outcome.config else {
        return if outcome.readable {
            Exit::No
        } else {
            Exit::Usage
        };
    };
    if json {
        say(format!("{:#}\n", narthex_config::effective::json(&config)));
    } else if effective {
        say(narthex_config::effective::render(&config));
    } else {
        match std::fs::read_to_string(&path)
            .map(|text| narthex_config::syntax::format(&text).unwrap_or(text))
        {
            Ok(text) => say(text),
            Err(error) => return unreadable(&path, &error),
        }
    }
    Exit::Ok
}

fn migrate(file: &Path, write: bool) -> Exit {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => return unreadable(file, &error),
    };
    let migration = narthex_config::migrate::migrate(&text);
    complain(format!("{}: {}", file.display(), migration.message()));
    match migration {
        Migration::Migrated { text, .. } if write => replace(file, &text),
        Migration::Migrated { text, .. } => {
            say(text);
            Exit::Ok
        }
        Migration::Current => Exit::Ok,
        Migration::Newer(_) | Migration::Unknown => Exit::Usage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_several_files_decides() {
        assert_eq!(worst([].into_iter()), Exit::Ok);
        assert_eq!(worst([Exit::Ok, Exit::No, Exit::Ok].into_iter()), Exit::No);
        assert_eq!(
            worst([Exit::No, Exit::Usage, Exit::No].into_iter()),
            Exit::Usage
        );
    }

    #[test]
    fn formatting_twice_changes_nothing_the_second_time() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.kdl");
        std::fs::write(
            &file,
            "version   1\nsite \"*\" {\nproxy   \"127.0.0.1:1\"\n}\n",
        )
        .unwrap();
        assert_eq!(format(&file, true), Exit::No);
        assert_eq!(format(&file, false), Exit::Ok);
        assert_eq!(format(&file, true), Exit::Ok);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_read_is_a_wrong_question() {
        assert_eq!(
            format(Path::new("/nonexistent/narthex.kdl"), false),
            Exit::Usage
        );
        assert_eq!(
            migrate(Path::new("/nonexistent/narthex.kdl"), false),
            Exit::Usage
        );
    }
}
