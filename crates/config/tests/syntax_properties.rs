//! Whatever the text: no panic, spans inside of it and on character boundaries, a tree no larger than the text, and a
//! formatter that changes nothing but the looks.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod syntax_support;

use narthex_config::problem::{Problem, render_human, render_human_colored, render_json};
use narthex_config::source::{FileId, Sources, Span};
use narthex_config::syntax::tree::Node;
use narthex_config::syntax::{Document, format, json, parse};
use proptest::prelude::*;
use syntax_support::{document, show, soup};

fn spans(nodes: &[Node], out: &mut Vec<Span>) {
    for node in nodes {
        out.extend([node.span, node.name.span]);
        out.extend(node.args.iter().map(|value| value.span));
        out.extend(
            node.props
                .iter()
                .flat_map(|(key, value)| [key.span, value.span]),
        );
        spans(node.children.as_deref().unwrap_or_default(), out);
    }
}

fn sound(text: &str, document: &Document, problems: &[Problem]) -> Result<(), TestCaseError> {
    let mut all = Vec::new();
    spans(&document.nodes, &mut all);
    prop_assert!(
        all.len() <= 4 * text.len() + 4,
        "{} spans for {} bytes",
        all.len(),
        text.len()
    );
    all.extend(problems.iter().map(|problem| problem.span));
    all.extend(
        problems
            .iter()
            .filter_map(|problem| problem.related.as_ref())
            .map(|(span, _)| *span),
    );
    for span in all {
        prop_assert!(span.start <= span.end);
        prop_assert!(
            text.get(span.start as usize..span.end as usize).is_some(),
            "{span:?} in {text:?}"
        );
    }
    let mut sources = Sources::default();
    sources.add("t", text);
    let human = render_human(problems, &sources);
    prop_assert!(
        human
            .chars()
            .all(|character| character == '\n' || !character.is_control()),
        "{human:?}"
    );
    render_human_colored(problems, &sources);
    render_json(problems, &sources);
    Ok(())
}

fn check(text: &str) -> Result<(), TestCaseError> {
    let mut problems = Vec::new();
    let document = parse(FileId(0), text, &mut problems);
    sound(text, &document, &problems)?;
    prop_assert_eq!(format(text).is_ok(), problems.is_empty());

    let mut problems = Vec::new();
    let document = json::to_document(FileId(0), text, &mut problems);
    sound(text, &document, &problems)
}

fn formats(text: &str) -> Result<(), TestCaseError> {
    let mut problems = Vec::new();
    let before = parse(FileId(0), text, &mut problems);
    if !problems.is_empty() {
        return Ok(());
    }
    let once = format(text).map_err(|problems| TestCaseError::fail(format!("{problems:?}")))?;
    let after = parse(FileId(0), &once, &mut problems);
    prop_assert!(problems.is_empty(), "{:?}\n{}\n{:?}", text, once, problems);
    prop_assert_eq!(
        show(&before.nodes),
        show(&after.nodes),
        "{:?}\n{}",
        text,
        once
    );
    let twice = format(&once).map_err(|problems| TestCaseError::fail(format!("{problems:?}")))?;
    prop_assert_eq!(&once, &twice, "{:?}", text);
    for comment in ["// c", "// d", "/* c */", "/* a /* b */ */"] {
        prop_assert_eq!(
            text.matches(comment).count(),
            once.matches(comment).count(),
            "{}: {:?}\n{}",
            comment,
            text,
            once
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in any::<String>()) {
        check(&text)?;
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn soups(text in soup()) {
        check(&text)?;
        formats(&text)?;
    }

    #[test]
    fn documents_cut_anywhere(text in document(), cut in any::<prop::sample::Index>()) {
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        check(&text[..*cut.get(&places)])?;
        check(&text[*cut.get(&places)..])?;
    }

    #[test]
    fn formatting_changes_nothing_but_the_looks(text in document()) {
        formats(&text)?;
    }

    #[test]
    fn json_loses_nothing(text in document()) {
        let mut problems = Vec::new();
        let mut before = parse(FileId(0), &text, &mut problems);
        if problems.is_empty() {
            let written = serde_json::to_string(&json::from_document(&before)).unwrap();
            let mut after = json::to_document(FileId(0), &written, &mut problems);
            prop_assert!(problems.is_empty(), "{}: {:?}", written, problems);
            sort_properties(&mut before.nodes);
            sort_properties(&mut after.nodes);
            prop_assert_eq!(show(&before.nodes), show(&after.nodes), "{}", written);
        }
    }

    #[test]
    fn json_cut_anywhere(text in document(), cut in any::<prop::sample::Index>()) {
        let document = parse(FileId(0), &text, &mut Vec::new());
        let written = json::from_document(&document).to_string();
        let places: Vec<usize> = written.char_indices().map(|(at, _)| at).collect();
        check(&written[..*cut.get(&places)])?;
    }
}

/// Their order means nothing, and JSON objects do not keep it.
fn sort_properties(nodes: &mut [Node]) {
    for node in nodes {
        node.props
            .sort_by(|(left, _), (right, _)| left.text.cmp(&right.text));
        sort_properties(node.children.as_deref_mut().unwrap_or_default());
    }
}

/// A problem is marked by whole characters, also where an indentation is missing before one of two bytes.
#[test]
fn a_missing_indentation_before_a_long_character() {
    check("a \"\"\"\n\u{e9}\n  \"\"\"\n").unwrap();
}
