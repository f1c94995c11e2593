//! Files that include files, in memory and on the disk.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod syntax_support;

use std::path::Path;

use narthex_config::problem::Severity;
use narthex_config::source::{Loaded, Loader, MemoryFiles, RealFiles};
use syntax_support::show;

fn load(files: &[(&str, &str)]) -> Loaded {
    let files = files
        .iter()
        .map(|(path, text)| (path.to_string(), text.as_bytes().to_vec()));
    Loader::new(MemoryFiles::new(files)).load(Path::new("main.kdl"))
}

/// `code at file:line:column`.
fn problems(loaded: &Loaded) -> Vec<String> {
    loaded
        .problems
        .iter()
        .map(|problem| format!("{} at {}", problem.code, loaded.sources.place(problem.span)))
        .collect()
}

#[track_caller]
fn fine(files: &[(&str, &str)], expected: &str) -> Loaded {
    let loaded = load(files);
    assert!(loaded.problems.is_empty(), "{:#?}", loaded.problems);
    assert_eq!(show(&loaded.document.nodes), expected);
    loaded
}

#[test]
fn nodes_stand_where_the_include_stood() {
    let loaded = fine(
        &[
            (
                "main.kdl",
                "a\ninclude \"sites/*.kdl\" \"one.json\"\nb { include \"inner.kdl\"; c }",
            ),
            ("sites/20.kdl", "s20"),
            ("sites/10.kdl", "s10\ninclude \"deep/x.kdl\""),
            ("sites/.hidden.kdl", "hidden"),
            ("sites/10.kdl~", "backup"),
            ("sites/deep/x.kdl", "x"),
            ("one.json", r#"[{"j": 1}]"#),
            ("inner.kdl", "i 1"),
        ],
        "\"a\";\"s10\";\"x\";\"s20\";\"j\" 1;\"b\" {\"i\" 1;\"c\";};",
    );
    let places: Vec<String> = loaded
        .document
        .nodes
        .iter()
        .map(|node| loaded.sources.place(node.span).to_string())
        .collect();
    assert_eq!(
        places,
        [
            "main.kdl:1:1",
            "sites/10.kdl:1:1",
            "sites/deep/x.kdl:1:1",
            "sites/20.kdl:1:1",
            "one.json:1:3",
            "main.kdl:3:1"
        ]
    );
}

#[test]
fn nothing_found() {
    let loaded = load(&[("main.kdl", "include \"none.kdl\"\ninclude \"none/*.kdl\"")]);
    assert_eq!(
        problems(&loaded),
        [
            "unreadable-file at main.kdl:1:9",
            "include-nothing at main.kdl:2:9"
        ]
    );
    assert_eq!(loaded.problems[1].severity, Severity::Warning);
    assert_eq!(
        problems(&Loader::new(MemoryFiles::default()).load(Path::new("no.kdl"))),
        ["unreadable-file at no.kdl:1:1"]
    );
}

#[test]
fn mistakes_of_every_file_at_once() {
    let loaded = load(&[
        (
            "main.kdl",
            "include \"a.kdl\"\nx true\ninclude \"b.json\" k=1\ninclude\ninclude 1 \"**/x\"",
        ),
        ("a.kdl", "\n a 10s"),
        ("b.json", "[1]"),
    ]);
    let mut found = problems(&loaded);
    found.sort();
    assert_eq!(
        found,
        [
            "bare-keyword at main.kdl:2:3",
            "include at main.kdl:3:1",
            "include at main.kdl:4:1",
            "include at main.kdl:5:11",
            "include at main.kdl:5:9",
            "json-form at b.json:1:2",
            "number at a.kdl:2:4",
        ]
    );
}

#[test]
fn cycles_are_told() {
    let loaded = load(&[
        ("main.kdl", "include \"a.kdl\""),
        ("a.kdl", "include \"./main.kdl\"\na"),
    ]);
    assert_eq!(problems(&loaded), ["include-cycle at a.kdl:1:9"]);
    assert!(
        loaded.problems[0]
            .help
            .as_ref()
            .unwrap()
            .contains("main.kdl -> a.kdl")
    );
    assert_eq!(show(&loaded.document.nodes), "\"a\";");
}

#[test]
fn one_file_may_be_included_in_several_places() {
    let files = [
        (
            "main.kdl",
            "a { include \"c.kdl\" }\nb { include \"c.kdl\" }",
        ),
        ("c.kdl", "c 10s"),
    ];
    let loaded = load(&files);
    assert_eq!(
        show(&loaded.document.nodes),
        "\"a\" {\"c\" \"10s\";};\"b\" {\"c\" \"10s\";};"
    );
    assert_eq!(problems(&loaded), ["number at c.kdl:1:3"], "told once");
    assert_eq!(loaded.sources.files.len(), 2);
}

#[test]
fn depth_and_number_are_bounded() {
    let chain: Vec<(String, String)> = (0..40)
        .map(|n| {
            (
                format!("f{n}.kdl"),
                format!("n{n}\ninclude \"f{}.kdl\"", n + 1),
            )
        })
        .collect();
    let loaded = Loader::new(MemoryFiles::new(chain)).load(Path::new("f0.kdl"));
    assert_eq!(loaded.problems.len(), 1);
    assert_eq!(loaded.problems[0].code, "include-limit");

    let twice: Vec<(String, String)> = (0..16)
        .map(|n| {
            (
                format!("f{n}.kdl"),
                format!("include \"f{0}.kdl\" \"f{0}.kdl\"", n + 1),
            )
        })
        .collect();
    let twice = twice
        .into_iter()
        .chain([("f16.kdl".to_owned(), "x".to_owned())]);
    let loaded = Loader::new(MemoryFiles::new(twice)).load(Path::new("f0.kdl"));
    assert_eq!(loaded.problems.len(), 1, "{:?}", problems(&loaded));
    assert_eq!(loaded.problems[0].code, "include-limit");

    let deep = "a { ".repeat(40) + "include \"d.kdl\"" + &"}".repeat(40);
    let loaded = load(&[
        ("main.kdl", &deep),
        ("d.kdl", &("b { ".repeat(30) + &"}".repeat(30))),
    ]);
    assert_eq!(loaded.problems[0].code, "too-deep");

    let again = format!("include \"d.kdl\"\n{deep}");
    let loaded = load(&[
        ("main.kdl", &again),
        ("d.kdl", &("b { ".repeat(30) + &"}".repeat(30))),
    ]);
    assert_eq!(problems(&loaded), ["too-deep at d.kdl:1:99"]);
}

#[test]
fn bytes_that_are_no_text() {
    let files = MemoryFiles::new([("main.kdl", b"a 1\nb \"x\xFF\"\nc true".to_vec())]);
    let loaded = Loader::new(files).load(Path::new("main.kdl"));
    assert_eq!(
        problems(&loaded),
        ["not-utf8 at main.kdl:2:5", "bare-keyword at main.kdl:3:3"]
    );
    let files = MemoryFiles::new([("main.kdl", b"\xFF\xFEa\0".to_vec())]);
    let loaded = Loader::new(files).load(Path::new("main.kdl"));
    assert!(loaded.problems[0].help.as_ref().unwrap().contains("UTF-16"));
}

#[test]
fn files_that_are_too_large() {
    let files = MemoryFiles::new([("main.kdl", vec![b' '; (16 << 20) + 1])]);
    let loaded = Loader::new(files).load(Path::new("main.kdl"));
    assert_eq!(problems(&loaded), ["unreadable-file at main.kdl:1:1"]);
    assert!(loaded.problems[0].message.contains("16 MiB"));
}

#[test]
fn texts_without_a_file() {
    let files = MemoryFiles::new([("dir/a.kdl", "a")]);
    let loaded = Loader::new(files).load_text("dir/<stdin>", "include \"a.kdl\"\nb");
    assert_eq!(show(&loaded.document.nodes), "\"a\";\"b\";");
}

#[test]
fn real_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::create_dir(path("sites")).unwrap();
    std::fs::create_dir(path("sites/c.kdl")).unwrap();
    std::fs::write(
        path("main.kdl"),
        "include \"sites/?.kdl\"\ninclude \"sites\"",
    )
    .unwrap();
    std::fs::write(path("sites/b.kdl"), "b").unwrap();
    std::fs::write(path("sites/a.kdl"), "a\ninclude \"../tail.kdl\"").unwrap();
    std::fs::write(path("tail.kdl"), "tail").unwrap();
    let loaded = Loader::new(RealFiles).load(&path("main.kdl"));
    assert_eq!(show(&loaded.document.nodes), "\"a\";\"tail\";\"b\";");
    assert_eq!(loaded.problems.len(), 1, "{:#?}", loaded.problems);
    assert!(
        loaded.problems[0].message.contains("it is a directory"),
        "{}",
        loaded.problems[0].message
    );
}
