//! `config fmt`: what the canonical form looks like.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use narthex_config::syntax::format;

#[track_caller]
fn check(text: &str, expected: &str) {
    let once = format(text).unwrap();
    assert_eq!(once, expected, "{text:?}");
    assert_eq!(format(&once).unwrap(), expected, "formatting twice");
}

#[test]
fn indents_and_breaks_lines() {
    check(
        "site   \"a\"  k = 1{proxy \"b\" ;tls{  }\n\n\n\n  route{\n}\n}\n\n",
        "site \"a\" k=1 {\n    proxy \"b\"\n    tls {}\n\n    route {}\n}\n",
    );
    check("", "");
    check("\n\n  \n", "");
    check("\u{FEFF}a\r\n\r\n\r\n\r\nb", "a\n\nb\n");
    check("\n\n\na {\n\n\n b\n\n\n}", "a {\n    b\n}\n");
}

#[test]
fn keeps_comments_where_they_were() {
    let text = "\
// head

version 1 // which
/* all */
site \"a\" { // open
    // first

    // second
    proxy \"b\" /* why */ \"c\" // trailing
    // last
}
// foot
";
    check(text, text);
    check("a {// x\nb}//y", "a { // x\n    b\n} //y\n");
    check("a; // x\n", "a // x\n");
    check("a {\n\n  // only\n}", "a {\n    // only\n}\n");
}

#[test]
fn keeps_the_spelling_of_values() {
    let text = "a word \"x\\n\" #\"^/\\d\"# 0xFF 1_000 1.50 #true key=\"v\" \"k\"=#null\n";
    check(text, text);
    let text = "a \"\"\"\n  two\n    lines\n  \"\"\" 1\n";
    check(text, text);
}

#[test]
fn keeps_continued_lines() {
    check(
        "a 1 \\\n 2 \\ // why\n\t3\n",
        "a 1 \\\n    2 \\ // why\n    3\n",
    );
    check(
        "a {\n b 1 \\\n 2 \\\n {\n c\n}\n}",
        "a {\n    b 1 \\\n        2 {\n        c\n    }\n}\n",
    );
    check("a \\\n\nb", "a\nb\n");
}

#[test]
fn keeps_what_is_commented_out() {
    check(
        "/- a 1 {\nb\n}\nc /- 1 /-\nk = 2 /-{ d } { e }",
        "/-a 1 {\n    b\n}\nc /-1 /-k=2 /-{\n    d\n} {\n    e\n}\n",
    );
    check("/- // why\na", "// why\n/-a\n");
}

#[test]
fn comments_in_odd_places_move_but_stay() {
    check("a k /* 1 */ = /* 2 */ 3", "a k=3 /* 1 */ /* 2 */\n");
    check("a k \\ // 1\n = 3", "// 1\na k=3\n");
}

#[test]
fn a_text_with_mistakes_is_not_touched() {
    let problems = format("a 10s\nb true").unwrap_err();
    assert_eq!(
        problems
            .iter()
            .map(|problem| problem.code)
            .collect::<Vec<_>>(),
        ["number", "bare-keyword"]
    );
}
