//! `narthex config diff`: what differs between the running process and the files.

use std::fmt::Write as _;
use std::path::Path;

use narthex_engine::drift::Line;
use serde_json::Value;

use crate::args::AdminArgs;
use crate::client::{ask, places};
use crate::commands::control::{field, unanswered};
use crate::commands::write_back;
use crate::exit::{Exit, complain, say, show};

/// Shows it, or writes it down.
pub fn run(admin: &AdminArgs, config: Option<&Path>, write: bool, json: bool) -> Exit {
    let places = places(admin, config);
    let answer = match ask(&places, "GET", "/drift", "application/json", None) {
        Ok(answer) => answer,
        Err(why) => return unanswered(&why),
    };
    if answer.status != 200 {
        complain(field(&answer, "error"));
        return Exit::No;
    }
    let drift: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let lines = lines(&drift);
    if write {
        return match config.or_else(|| Some(Path::new(drift.get("file")?.as_str()?))) {
            Some(file) => write_back::run(file, &lines),
            None => {
                complain("the process was started without a file; name one with --config");
                Exit::Usage
            }
        };
    }
    let unloaded = text(&drift, "unloaded_text");
    let problems = text(&drift, "problems");
    if json {
        say(&answer.body);
    } else {
        say(shown(&lines, unloaded, text(&drift, "source")));
        if !problems.is_empty() {
            show(problems);
            complain("the file has problems: a reload would be refused");
        }
    }
    if lines.is_empty() && unloaded.is_empty() && problems.is_empty() {
        Exit::Ok
    } else {
        Exit::No
    }
}

fn lines(drift: &Value) -> Vec<Line> {
    let changes = drift.get("changes").cloned().unwrap_or_default();
    serde_json::from_value(changes).unwrap_or_default()
}

fn text<'a>(drift: &'a Value, key: &str) -> &'a str {
    drift.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn shown(lines: &[Line], unloaded: &str, source: &str) -> String {
    let mut out = String::new();
    let mut upstream = None;
    for line in lines {
        if upstream != Some(&line.upstream) {
            let _ = writeln!(out, "upstream \"{}\", changed at run time:", line.upstream);
            upstream = Some(&line.upstream);
        }
        let _ = writeln!(out, "  {line}");
    }
    if !unloaded.is_empty() {
        let _ = write!(out, "{source} has edits that are not loaded:\n{unloaded}");
    }
    if out.is_empty() {
        out.push_str("nothing differs\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_stand_below_their_upstream() {
        let drift = json!({"changes": [
            {"upstream": "api", "server": "a:80", "change": "state", "state": "drain", "seconds_left": 60},
            {"upstream": "api", "server": "b:80", "change": "removed"},
            {"upstream": "web", "server": "c:80", "change": "added", "weight": 1},
        ]});
        assert_eq!(
            shown(&lines(&drift), "  sites      + x\n", "narthex.kdl"),
            "upstream \"api\", changed at run time:\n  ~ server \"a:80\" state=\"drain\" (down in 60 s)\n  - server \"b:80\"\n\
             upstream \"web\", changed at run time:\n  + server \"c:80\"\n\
             narthex.kdl has edits that are not loaded:\n  sites      + x\n"
        );
        assert_eq!(shown(&[], "", ""), "nothing differs\n");
    }
}
