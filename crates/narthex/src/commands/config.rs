//! `narthex config fmt|show|diff|schema|migrate|docs`.

use std::fs::Metadata;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
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

/// Writes beside the file and renames: nobody sees half of it. A link stays one: what it points to is written.
pub(super) fn replace(file: &Path, text: &str) -> Exit {
    let written = file.canonicalize().and_then(|file| put(&file, text));
    match written {
        Ok(()) => Exit::Ok,
        Err(error) => {
            complain(format!("cannot write {}: {error}", file.display()));
            Exit::Usage
        }
    }
}

fn put(file: &Path, text: &str) -> std::io::Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".narthex-tmp");
    let beside = PathBuf::from(beside);
    // What a program that was ended has left; whatever it is, it is not written to.
    let _ = std::fs::remove_file(&beside);
    let done = fill(&beside, &std::fs::metadata(file)?, text)
        .and_then(|()| std::fs::rename(&beside, file));
    if done.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    done?;
    // The name is as lasting as the text. A file system that cannot do this has done what it can.
    if let Some(Ok(directory)) = file.parent().map(std::fs::File::open) {
        let _ = directory.sync_all();
    }
    Ok(())
}

/// A new file that is on the disk, whole, with the owner and the mode of the old one: a service that may read that may read
/// this, and nobody else even for a moment.
fn fill(new: &Path, old: &Metadata, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(new)?;
    file.write_all(text.as_bytes())?;
    let ours = file.metadata()?;
    if (ours.uid(), ours.gid()) != (old.uid(), old.gid()) {
        fchown(&file, Some(old.uid()), Some(old.gid()))?;
    }
    file.set_permissions(old.permissions())?;
    file.sync_all()
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
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

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

    #[test]
    fn what_is_replaced_keeps_owner_mode_and_links() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("a.kdl"), dir.path().join("link.kdl"));
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        symlink("a.kdl", &link).unwrap();
        // Only root can give it to somebody else.
        let _ = chown(&file, Some(1_234), Some(2_345));
        let before = std::fs::metadata(&file).unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "kept").unwrap();
        symlink(&victim, dir.path().join("a.kdl.narthex-tmp")).unwrap();
        assert_eq!(replace(&link, "new"), Exit::Ok);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "kept");
        let after = std::fs::metadata(&file).unwrap();
        let facts = |m: &Metadata| (m.uid(), m.gid(), m.mode());
        assert_eq!(facts(&after), facts(&before));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn what_cannot_be_written_is_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.kdl");
        std::fs::write(&file, "old").unwrap();
        // Its name is taken by something that cannot be removed as a file.
        std::fs::create_dir(dir.path().join("a.kdl.narthex-tmp")).unwrap();
        assert_eq!(replace(&file, "new"), Exit::Usage);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "old");
        assert_eq!(replace(&dir.path().join("none"), "new"), Exit::Usage);
    }
}
