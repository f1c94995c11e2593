//! Edits of servers: what stands in the file before and after, with everything around it untouched.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says so by failing

use narthex_config::edit::{Edit, Prop, apply};
use narthex_config::source::{Loader, MemoryFiles};

fn add(upstream: &str, server: &str, props: &[(&'static str, Prop)]) -> Edit {
    Edit::Add {
        upstream: upstream.to_owned(),
        server: server.to_owned(),
        props: props.to_vec(),
    }
}

fn remove(upstream: &str, server: &str) -> Edit {
    Edit::Remove {
        upstream: upstream.to_owned(),
        server: server.to_owned(),
    }
}

fn set(upstream: &str, server: &str, prop: (&'static str, Prop)) -> Edit {
    Edit::Set {
        upstream: upstream.to_owned(),
        server: server.to_owned(),
        prop,
    }
}

/// The main file after the edits, all of which must be possible.
#[track_caller]
fn edited(text: &str, edits: &[Edit]) -> String {
    let loaded = Loader::new(MemoryFiles::default()).load_text("narthex.kdl", text);
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    let edited = apply(&loaded, edits);
    assert!(edited.left.iter().all(Option::is_none), "{:?}", edited.left);
    let [(_, after)] = <[_; 1]>::try_from(edited.files).unwrap();
    let again = Loader::new(MemoryFiles::default()).load_text("narthex.kdl", after.as_str());
    assert!(again.problems.is_empty(), "{after}\n{:?}", again.problems);
    after
}

const FILE: &str = r#"version 1
// The shop.
upstream "shop" {
    balance "round-robin"
    server "10.0.0.1:80" weight=2   // the old one
    server "10.0.0.2:80"            // the new one
    /* a long story */
    health-check "/healthz"
}
upstream "one" { server "10.1.0.1:80"; server "10.1.0.2:80" }
"#;

#[test]
fn a_property_is_changed_or_added_where_it_belongs() {
    let after = edited(
        FILE,
        &[
            set("shop", "10.0.0.1:80", ("weight", Prop::Int(5))),
            set("shop", "10.0.0.2:80", ("state", Prop::Text("drain".into()))),
            set("shop", "10.0.0.2:80", ("weight", Prop::Int(3))),
            set("one", "10.1.0.1:80", ("weight", Prop::Int(4))),
        ],
    );
    let expected = FILE
        .replace("weight=2 ", "weight=5 ")
        .replace(
            "\"10.0.0.2:80\" ",
            "\"10.0.0.2:80\" state=\"drain\" weight=3 ",
        )
        .replace("\"10.1.0.1:80\";", "\"10.1.0.1:80\" weight=4;");
    assert_eq!(after, expected);
}

#[test]
fn a_server_goes_with_its_line_and_its_remark() {
    let after = edited(FILE, &[remove("shop", "10.0.0.1:80")]);
    let line = "    server \"10.0.0.1:80\" weight=2   // the old one\n";
    assert_eq!(after, FILE.replace(line, ""));
    let after = edited(FILE, &[remove("one", "10.1.0.1:80")]);
    assert_eq!(after, FILE.replace("server \"10.1.0.1:80\"; ", ""));
    let after = edited(FILE, &[remove("one", "10.1.0.2:80")]);
    assert_eq!(after, FILE.replace("server \"10.1.0.2:80\" ", ""));
}

#[test]
fn a_new_server_stands_below_the_others() {
    let props = [("weight", Prop::Int(2)), ("backup", Prop::True)];
    let after = edited(
        FILE,
        &[
            add("shop", "10.0.0.3:80", &props),
            add("shop", "10.0.0.4:80", &[]),
            add("one", "10.1.0.3:80", &[]),
        ],
    );
    let expected = FILE
        .replace(
            "    /* a long",
            "    server \"10.0.0.3:80\" weight=2 backup=#true\n    server \"10.0.0.4:80\"\n    /* a long",
        )
        .replace("\"10.1.0.2:80\" }", "\"10.1.0.2:80\"; server \"10.1.0.3:80\" }");
    assert_eq!(after, expected);
}

#[test]
fn the_last_of_a_line_gives_way_to_another() {
    let after = edited(
        FILE,
        &[
            remove("one", "10.1.0.2:80"),
            add("one", "10.1.0.3:80", &[]),
            set("one", "10.1.0.1:80", ("weight", Prop::Int(2))),
        ],
    );
    let line = r#"upstream "one" { server "10.1.0.1:80" weight=2; server "10.1.0.3:80"; }"#;
    assert!(after.contains(line), "{after}");
}

#[test]
fn everything_at_once() {
    let after = edited(
        FILE,
        &[
            remove("shop", "10.0.0.2:80"),
            add("shop", "10.0.0.3:80", &[]),
            set("shop", "10.0.0.1:80", ("weight", Prop::Int(9))),
        ],
    );
    let expected = FILE.replace("weight=2 ", "weight=9 ").replace(
        "    server \"10.0.0.2:80\"            // the new one\n",
        "    server \"10.0.0.3:80\"\n",
    );
    assert_eq!(after, expected);
}

#[test]
fn an_included_file_is_edited_where_it_is() {
    let files = MemoryFiles::new([
        ("conf/narthex.kdl", "version 1\ninclude \"up/*.kdl\"\n"),
        (
            "conf/up/a.kdl",
            "upstream \"a\" {\n  include \"a.servers\"\n}",
        ),
        ("conf/up/a.servers", "server \"10.0.0.1:80\""),
    ]);
    let loaded = Loader::new(files).load(std::path::Path::new("conf/narthex.kdl"));
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    let edits = [
        add("a", "10.0.0.2:80", &[]),
        set("a", "10.0.0.1:80", ("weight", Prop::Int(2))),
    ];
    let edited = apply(&loaded, &edits);
    let [(file, text)] = <[_; 1]>::try_from(edited.files).unwrap();
    assert!(loaded.sources.name(file).ends_with("a.servers"));
    assert_eq!(
        text,
        "server \"10.0.0.1:80\" weight=2\nserver \"10.0.0.2:80\"\n"
    );
}

#[test]
fn what_cannot_be_written_is_left_with_a_reason() {
    let loaded = Loader::new(MemoryFiles::default()).load_text("narthex.kdl", FILE);
    let edited = apply(
        &loaded,
        &[
            remove("10.0.0.9:80", "10.0.0.9:80"),
            set("shop", "10.0.0.9:80", ("weight", Prop::Int(2))),
            add("shop", "10.0.0.1:80", &[]),
        ],
    );
    assert!(edited.files.is_empty());
    let why: Vec<String> = edited.left.into_iter().flatten().collect();
    assert!(why[0].contains("write `upstream"), "{why:?}");
    assert!(why[1].contains("no file has this server"), "{why:?}");
    assert!(why[2].contains("already"), "{why:?}");

    let json =
        r#"{"version": 1, "upstream": {"args": "a", "children": [{"server": "10.0.0.1:80"}]}}"#;
    let loaded = Loader::new(MemoryFiles::default()).load_text("narthex.json", json);
    let edited = apply(&loaded, &[remove("a", "10.0.0.1:80")]);
    assert!(edited.files.is_empty());
    assert!(
        edited.left[0].as_ref().unwrap().contains("JSON"),
        "{:?}",
        edited.left
    );
}

/// A server of a made-up file: its number, whether it has a weight, how it is set apart from the next.
type Made = (u8, Option<u8>, u8);

fn made(servers: &[Made]) -> String {
    let mut out = String::from("version 1\nlisten \":80\"\nupstream \"u\" { balance \"random\"\n");
    for (n, weight, layout) in servers {
        let weight = weight.map_or_else(String::new, |w| format!(" weight={w}"));
        let end = match layout {
            0 => "\n",
            1 => "; ",
            2 => " // remark; server \"x\"\n",
            3 => " /* remark } */;\n\n",
            4 => " \\\n   backup=#true\n",
            _ => "\n  /- server \"10.9.9.9:80\"\n\t",
        };
        out.extend(["  server \"10.0.0.", &n.to_string(), ":80\"", &weight, end]);
    }
    out.push_str("}\nsite \"*\" { proxy \"u\" }\n");
    out
}

/// Name, weight and state of every server, sorted.
fn servers(text: &str) -> Vec<(String, u32, String)> {
    let files = MemoryFiles::default();
    let var = |_: &str| None;
    let env = narthex_config::Environment {
        cores: 1,
        var: &var,
        files: &files,
        unbuilt: true,
    };
    let loaded = narthex_config::load_text("narthex.kdl", text, &env);
    let config = loaded
        .config
        .unwrap_or_else(|| panic!("{text}\n{:?}", loaded.problems));
    let all = config.upstreams[0].servers.iter();
    let mut out: Vec<_> = all
        .map(|s| (s.name.clone(), s.weight, format!("{:?}", s.order)))
        .collect();
    out.sort();
    out
}

proptest::proptest! {
    /// Whatever the layout and the edits: the file then has the servers that were meant, and can be read.
    #[test]
    fn any_edits_of_any_layout(
        file in proptest::collection::btree_map(0..8_u8, (proptest::option::of(1..9_u8), 0..6_u8), 1..6),
        gone in proptest::collection::btree_set(0..8_u8, 0..3),
        come in proptest::collection::btree_set(10..14_u8, 1..3),
        weights in proptest::collection::btree_map(0..8_u8, 1..9_u32, 0..4),
        drained in proptest::option::of(0..8_u8),
    ) {
        let list: Vec<Made> = file.iter().map(|(n, (weight, layout))| (*n, *weight, *layout)).collect();
        let text = made(&list);
        let before = servers(&text);
        let name = |n: u8| format!("10.0.0.{n}:80");
        let mut edits = Vec::new();
        let mut expected = before.clone();
        for n in come {
            edits.push(add("u", &name(n), &[("weight", Prop::Int(3))]));
            expected.push((name(n), 3, "Ready".to_owned()));
        }
        for (n, weight) in weights {
            if let Some(server) = expected.iter_mut().find(|s| s.0 == name(n) && !gone.contains(&n)) {
                edits.push(set("u", &name(n), ("weight", Prop::Int(weight))));
                server.1 = weight;
            }
        }
        if let Some(server) = drained.and_then(|n| expected.iter_mut().find(|s| s.0 == name(n) && !gone.contains(&n))) {
            edits.push(set("u", &server.0, ("state", Prop::Text("drain".into()))));
            server.2 = "Drain".to_owned();
        }
        for n in gone.iter().filter(|n| file.contains_key(n)) {
            edits.push(remove("u", &name(*n)));
            expected.retain(|s| s.0 != name(*n));
        }
        expected.sort();
        proptest::prop_assert_eq!(servers(&edited(&text, &edits)), expected);
    }
}
