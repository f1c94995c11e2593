//! The schema and the manual say what the program does.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says so by failing
#![allow(clippy::format_collect)] // short texts

mod common;

use common::{environment, lines, read};
use narthex_config::schema::{self, Groups, Kind, NodeSpec};
use narthex_config::source::FileId;
use narthex_config::{load_text, syntax};
use regex_automata::meta::Regex;
use serde_json::{Value, json};

fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn the_manual_is_up_to_date() {
    let path = root().join("docs/reference/config.md");
    let now = schema::reference_markdown();
    if std::env::var("NARTHEX_GOLDEN").is_ok_and(|v| v == "write") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &now).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == now,
        "docs/reference/config.md is out of date: NARTHEX_GOLDEN=write cargo test -p narthex-config"
    );
}

/// As much of JSON Schema as ours uses.
fn valid(root: &Value, schema: &Value, value: &Value) -> bool {
    if schema == &json!(false) {
        return false;
    }
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root
            .pointer(reference.trim_start_matches('#'))
            .unwrap_or_else(|| panic!("{reference}"));
        return valid(root, target, value);
    }
    if let Some(all) = schema["anyOf"].as_array() {
        return all.iter().any(|s| valid(root, s, value));
    }
    if let Some(words) = schema["enum"].as_array() {
        return words.contains(value);
    }
    if let Some(constant) = schema.get("const") {
        return constant == value;
    }
    match schema["type"].as_str() {
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.as_i64().is_some_and(|n| {
            schema["minimum"].as_i64().is_none_or(|m| n >= m)
                && schema["maximum"].as_i64().is_none_or(|m| n <= m)
        }),
        Some("string") => value.as_str().is_some_and(|s| {
            s.len() as u64 >= schema["minLength"].as_u64().unwrap_or(0)
                && schema["pattern"]
                    .as_str()
                    .is_none_or(|p| Regex::new(p).unwrap().is_match(s))
        }),
        Some("array") => value
            .as_array()
            .is_some_and(|items| valid_array(root, schema, items)),
        Some("object") => value.as_object().is_some_and(|members| {
            let known = |key: &String| schema["properties"].get(key);
            members
                .iter()
                .all(|(k, v)| known(k).is_some_and(|s| valid(root, s, v)))
                && schema["required"]
                    .as_array()
                    .is_none_or(|r| r.iter().all(|k| members.contains_key(k.as_str().unwrap())))
        }),
        other => panic!("{other:?} in {schema}"),
    }
}

fn valid_array(root: &Value, schema: &Value, items: &[Value]) -> bool {
    let first = schema["prefixItems"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    items.len() as u64 >= schema["minItems"].as_u64().unwrap_or(0)
        && items
            .iter()
            .enumerate()
            .all(|(i, v)| valid(root, first.get(i).unwrap_or(&schema["items"]), v))
}

fn to_json(text: &str) -> Value {
    syntax::json::from_document(&syntax::parse(FileId::default(), text, &mut Vec::new()))
}

#[test]
fn the_schema_takes_what_the_program_takes() {
    let schema = schema::json_schema();
    let text = std::fs::read_to_string(root().join("examples/full.kdl")).unwrap();
    let machine = to_json(&text);
    assert!(valid(&schema, &schema, &machine));
    for (right, wrong) in [
        ("proxy \"web\"", "porxy \"web\""),
        ("\"10s\"", "\"10sec\""),
        ("weight=2", "wieght=2"),
        ("weight=2", "weight=0"),
        ("\"least-requests\"", "\"least\""),
        ("version 1", "version"),
        ("query \"debug\"", "qeury \"debug\""),
    ] {
        assert!(text.contains(right), "{right}");
        let machine = to_json(&text.replacen(right, wrong, 1));
        assert!(
            !valid(&schema, &schema, &machine),
            "the schema takes {wrong}"
        );
    }
}

#[test]
fn json_loads_to_the_same_model() {
    let text = std::fs::read_to_string(root().join("examples/full.kdl")).unwrap();
    let from_kdl = read(&text).config.unwrap();
    let machine = to_json(&text).to_string();
    let loaded = environment(|env| load_text("narthex.json", machine, env));
    let from_json = loaded
        .config
        .as_ref()
        .unwrap_or_else(|| panic!("{}", lines(&loaded)));
    // Everything but where it was written.
    let strip = |c| narthex_config::effective::render(c);
    assert_eq!(strip(&from_kdl), strip(from_json));
}

fn every_key(groups: Groups, visit: &mut impl FnMut(&'static NodeSpec)) {
    for spec in groups.iter().flat_map(|g| g.iter()) {
        visit(spec);
        if !matches!(spec.name, "when" | "not" | "any") {
            every_key(spec.children, visit);
        }
    }
}

#[test]
fn the_table_is_well_formed() {
    every_key(schema::TOP, &mut |spec| {
        assert!(
            !spec.doc.is_empty() && !spec.example.is_empty(),
            "{} has no manual",
            spec.name
        );
        let mut problems = Vec::new();
        let document = syntax::parse(FileId::default(), spec.example, &mut problems);
        assert!(
            problems.is_empty(),
            "the example of {} is not KDL: {problems:?}",
            spec.name
        );
        assert_eq!(
            document.nodes[0].name.text, spec.name,
            "the example of {}",
            spec.name
        );
        assert!(
            spec.args.iter().rev().skip(1).all(|a| !a.many),
            "{}",
            spec.name
        );
        assert!(schema::later(spec.name).is_none(), "{} is built", spec.name);
        for prop in spec.props {
            assert!(schema::later(prop.name).is_none(), "{} is built", prop.name);
            assert!(!prop.required || prop.default.is_empty(), "{}", prop.name);
        }
    });
}

/// A block with every default of the table written out.
fn spelled_out(spec: &NodeSpec, first: &str) -> Option<String> {
    let props: Vec<String> = spec
        .props
        .iter()
        .filter(|p| !p.default.is_empty())
        .map(|p| format!("{}={}", p.name, p.default))
        .collect();
    let args: Vec<&str> = spec
        .args
        .iter()
        .map(|a| a.default)
        .filter(|d| !d.is_empty())
        .collect();
    (!props.is_empty()).then(|| {
        format!(
            "{} {first} {} {}\n",
            spec.name,
            args.join(" "),
            props.join(" ")
        )
    })
}

#[test]
fn the_defaults_of_the_manual_are_the_defaults_of_the_program() {
    let block = |groups: Groups, skip: &[&str]| -> String {
        groups
            .iter()
            .flat_map(|g| g.iter())
            .filter(|s| s.children.is_empty() || s.name == "health-check")
            .filter(|s| !skip.contains(&s.name))
            .filter_map(|s| {
                spelled_out(
                    s,
                    if s.name == "health-check" {
                        "\"/h\""
                    } else {
                        ""
                    },
                )
            })
            .collect()
    };
    let find = |name: &str| schema::find(schema::TOP, name).unwrap();
    let top = block(schema::TOP, &["version", "workers", "user", "admin"]);
    let listen = block(
        find("listen").children,
        &["proxy-protocol", "allow", "deny"],
    );
    let upstream = block(
        find("upstream").children,
        &[
            "adaptive-concurrency",
            "balance",
            "discover",
            "hedge",
            "server",
            "sticky",
        ],
    );
    static SETTINGS: Groups = &[&schema::SETTINGS];
    let settings = block(SETTINGS, &[]);
    let text = |top: &str, listen: &str, upstream: &str, settings: &str, health: &str| {
        format!(
            "version 1\n{top}\nlisten \":80\" {{\n{listen}\n}}\nupstream \"u\" {{\n server \"10.0.0.1:1\"\n{health}\n{upstream}\n}}\n\
             site \"*\" {{\n{settings}\nproxy \"u\"\n}}\n"
        )
    };
    let written = read(&text(&top, &listen, &upstream, &settings, ""));
    let silent = read(&text("", "", "", "", "health-check \"/h\""));
    let written = written
        .config
        .as_ref()
        .unwrap_or_else(|| panic!("{}", lines(&written)));
    let show = narthex_config::effective::render;
    assert_eq!(show(written), show(silent.config.as_ref().unwrap()));
    // What was compared is not nothing.
    for part in [&top, &listen, &upstream, &settings] {
        assert!(part.lines().count() >= 3, "{part}");
    }
}

#[test]
fn words_of_the_table_are_read() {
    // Every word a `Word` lists is accepted by the program.
    every_key(schema::TOP, &mut |spec| {
        for kind in spec
            .props
            .iter()
            .map(|p| p.kind)
            .chain(spec.args.iter().map(|a| a.kind))
        {
            if let Kind::Word(words) = kind {
                assert!(!words.is_empty(), "{}", spec.name);
            }
        }
    });
}
