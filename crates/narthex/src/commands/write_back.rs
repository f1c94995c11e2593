//! `narthex config diff --write`: changes of the running process, written into the files.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use narthex_config::Environment;
use narthex_config::edit::{Edit, Prop, apply};
use narthex_config::problem::render_human;
use narthex_config::source::{Entry, FileSystem, Loader, RealFiles};
use narthex_engine::drift::Line;

use crate::commands::config::replace;
use crate::exit::{Exit, complain, say, show};

/// Writes every change that can be written.
pub fn run(file: &Path, lines: &[Line]) -> Exit {
    let loaded = Loader::new(RealFiles).load(file);
    if !loaded.problems.is_empty() {
        show(&render_human(&loaded.problems, &loaded.sources));
        return Exit::Usage;
    }
    let edits: Vec<Result<Edit, String>> = lines.iter().map(edit).collect();
    let possible: Vec<Edit> = edits.iter().flatten().cloned().collect();
    let edited = apply(&loaded, &possible);
    let texts: HashMap<PathBuf, &str> = edited
        .files
        .iter()
        .map(|(file, text)| (loaded.sources.name(*file).into(), text.as_str()))
        .collect();
    if let Err(problems) = check(file, &texts) {
        show(&problems);
        complain("nothing was written: with these changes the file could not be served");
        return Exit::No;
    }
    for (path, text) in &texts {
        match replace(path, text) {
            Exit::Ok => say(format!("{} is written\n", path.display())),
            exit => return exit,
        }
    }
    if !texts.is_empty() {
        say("`narthex reload` takes note of it\n");
    }
    told(lines, &edits, edited.left)
}

/// Names what could not be written.
fn told(lines: &[Line], edits: &[Result<Edit, String>], left: Vec<Option<String>>) -> Exit {
    let mut left = left.into_iter();
    let mut exit = Exit::Ok;
    for (line, edit) in lines.iter().zip(edits) {
        let why = match edit {
            Ok(_) => left.next().flatten(),
            Err(why) => Some(why.clone()),
        };
        if let Some(why) = why {
            complain(format!("upstream \"{}\": {line}: {why}", line.upstream));
            exit = Exit::No;
        }
    }
    exit
}

fn edit(line: &Line) -> Result<Edit, String> {
    let (upstream, server) = (line.upstream.clone(), line.server.clone());
    let mut props = Vec::new();
    if let Some(weight) = line.weight.filter(|w| line.change != "added" || *w != 1) {
        props.push(("weight", Prop::Int(weight)));
    }
    if line.backup {
        props.push(("backup", Prop::True));
    }
    if let Some(priority) = line.priority {
        props.push(("priority", Prop::Int(u32::from(priority))));
    }
    if let Some(zone) = &line.zone {
        props.push(("zone", Prop::Text(zone.clone())));
    }
    if let Some(state) = &line.state {
        props.push(("state", Prop::Text(state.clone())));
    }
    if line.seconds_left.is_some() {
        return Err("it ends by itself, and is not written".to_owned());
    }
    match line.change.as_str() {
        "added" => Ok(Edit::Add {
            upstream,
            server,
            props,
        }),
        "removed" => Ok(Edit::Remove { upstream, server }),
        _ => match props.pop() {
            Some(prop) => Ok(Edit::Set {
                upstream,
                server,
                prop,
            }),
            None => Err("this version does not know this change".to_owned()),
        },
    }
}

/// The disk, with other texts in some files.
struct Edited<'a>(&'a HashMap<PathBuf, &'a str>);

impl FileSystem for Edited<'_> {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        match self.0.get(path) {
            Some(text) => Ok(text.as_bytes().to_vec()),
            None => RealFiles.read(path, limit),
        }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        RealFiles.list(directory)
    }
}

/// Could the files be served with these texts?
fn check(file: &Path, texts: &HashMap<PathBuf, &str>) -> Result<(), String> {
    let var = |name: &str| std::env::var(name).ok();
    let environment = Environment {
        cores: 1,
        var: &var,
        files: &Edited(texts),
        unbuilt: false,
    };
    let loaded = narthex_config::load(file, &environment);
    match loaded.config {
        Some(_) => Ok(()),
        None => Err(render_human(&loaded.problems, &loaded.sources)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(value: serde_json::Value) -> Line {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_differs_is_written_and_the_rest_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("narthex.kdl");
        let text = "version 1\nlisten \":80\"\n// kept\nupstream \"u\" {\n  server \"10.0.0.1:80\" // one\n  server \"10.0.0.2:80\"\n}\n\
                    site \"*\" { proxy \"u\" }\n";
        std::fs::write(&file, text).unwrap();
        let lines = [
            line(
                json!({"upstream": "u", "server": "10.0.0.1:80", "change": "weight", "weight": 4}),
            ),
            line(json!({"upstream": "u", "server": "10.0.0.2:80", "change": "removed"})),
            line(
                json!({"upstream": "u", "server": "10.0.0.3:80", "change": "added", "weight": 1, "state": "down"}),
            ),
        ];
        assert_eq!(run(&file, &lines), Exit::Ok);
        let written = std::fs::read_to_string(&file).unwrap();
        let expected = text
            .replace("\"10.0.0.1:80\" //", "\"10.0.0.1:80\" weight=4 //")
            .replace("\"10.0.0.2:80\"", "\"10.0.0.3:80\" state=\"down\"");
        assert_eq!(written, expected);
        // The second time there is nothing to be done for two of them, which is said.
        assert_eq!(run(&file, &lines), Exit::No);

        let lines = [line(
            json!({"upstream": "u", "server": "10.0.0.1:80", "change": "state", "state": "drain", "seconds_left": 9}),
        )];
        assert_eq!(run(&file, &lines), Exit::No);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), written);
    }

    #[test]
    fn what_could_not_be_served_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("narthex.kdl");
        let text = "version 1\nlisten \":80\"\nupstream \"u\" {\n  server \"10.0.0.1:80\"\n}\nsite \"*\" { proxy \"u\" }\n";
        std::fs::write(&file, text).unwrap();
        let last = [line(
            json!({"upstream": "u", "server": "10.0.0.1:80", "change": "removed"}),
        )];
        assert_eq!(run(&file, &last), Exit::No);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
}
