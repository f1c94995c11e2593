//! Problems for machines.

use serde_json::{Value, json};

use super::Problem;
use crate::source::{Sources, Span};

/// An array of `{severity, code, message, file, line, column, end_line, end_column, help, related}`. Lines and columns
/// count from 1, columns in characters; `end_column` is one past the last. `help` and `related` may be null; `related` has
/// `message` and the place.
pub fn render_json(problems: &[Problem], sources: &Sources) -> Value {
    problems
        .iter()
        .map(|problem| one(problem, sources))
        .collect()
}

fn one(problem: &Problem, sources: &Sources) -> Value {
    let mut object = json!({
        "severity": problem.severity.word(),
        "code": problem.code,
        "message": problem.message,
        "help": problem.help,
        "related": problem.related.as_ref().map(|(span, message)| {
            let mut related = json!({ "message": message });
            add_place(&mut related, *span, sources);
            related
        }),
    });
    add_place(&mut object, problem.span, sources);
    object
}

fn add_place(object: &mut Value, span: Span, sources: &Sources) {
    let (line, column) = sources.line_col(span);
    let (end_line, end_column) = sources.end_line_col(span);
    if let Some(object) = object.as_object_mut() {
        object.insert("file".into(), sources.name(span.file).into());
        object.insert("line".into(), line.into());
        object.insert("column".into(), column.into());
        object.insert("end_line".into(), end_line.into());
        object.insert("end_column".into(), end_column.into());
    }
}
