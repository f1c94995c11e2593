//! `cargo xtask docs`: the pages that the program writes about itself. `--check` compares instead of writing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::args::Args;
use crate::sh;
use crate::totals::Checked;

/// What is generated: arguments of `narthex`, and the file for its output.
const PAGES: &[(&[&str], &str)] = &[
    (&["config", "docs"], "docs/reference/config.md"),
    (&["config", "schema"], "docs/reference/config.schema.json"),
    (
        &["completions", "bash"],
        "docs/reference/completions/narthex.bash",
    ),
    (
        &["completions", "zsh"],
        "docs/reference/completions/_narthex",
    ),
    (
        &["completions", "fish"],
        "docs/reference/completions/narthex.fish",
    ),
];

/// Manual pages, one per command.
const MAN: &str = "docs/reference/man";

/// Does it.
pub fn run(mut args: Args) -> Result<(), String> {
    let only_check = args.flag("--check");
    args.end()?;
    let binary = sh::narthex("dev")?;
    if only_check {
        return match check(&binary) {
            Checked::Passed => Ok(()),
            Checked::Failed(why) | Checked::Skipped(why) => Err(why),
        };
    }
    for (path, text) in generate(&binary)? {
        sh::write(&sh::root().join(&path), &text)?;
        println!("{}", path.display());
    }
    Ok(())
}

/// Is every generated page in the repository what the program would write now?
pub fn check(binary: &Path) -> Checked {
    let pages = match generate(binary) {
        Ok(pages) => pages,
        Err(why) => return Checked::Failed(why),
    };
    let stale: Vec<String> = pages
        .iter()
        .filter(|(path, text)| {
            std::fs::read_to_string(sh::root().join(path))
                .ok()
                .as_deref()
                != Some(text)
        })
        .map(|(path, _)| path.display().to_string())
        .collect();
    if stale.is_empty() {
        Checked::Passed
    } else {
        Checked::Failed(format!(
            "not current: {}; `cargo xtask docs` writes them",
            stale.join(", ")
        ))
    }
}

fn generate(binary: &Path) -> Result<BTreeMap<PathBuf, String>, String> {
    let mut pages = BTreeMap::new();
    for (args, path) in PAGES {
        let text = sh::output(Command::new(binary).args(*args))?;
        pages.insert(PathBuf::from(path), text);
    }
    let work = sh::fresh_dir("docs-man")?;
    sh::output(Command::new(binary).args(["man", "--out"]).arg(&work))?;
    for file in std::fs::read_dir(&work)
        .map_err(|e| e.to_string())?
        .flatten()
    {
        let name = Path::new(MAN).join(file.file_name());
        pages.insert(name, sh::read(&file.path())?);
    }
    Ok(pages)
}
