//! Lists of servers that come from elsewhere than the configuration: a watched file, a value in a key space. The same
//! `server` lines, or JSON; the same bounds and the same words for what is wrong.
//!
//! An entry that is wrong is left out and named, the others are taken. A text that does not parse at all is wrong as a
//! whole: what it was meant to say is not known.

use std::collections::HashSet;

use serde_json::{Value as Plain, json};

use crate::check::Problems;
use crate::lower::{address, upstream};
use crate::model::{Order, Server, ServerAddress};
use crate::problem::Problem;
use crate::raw::{self, Block};
use crate::schema;
use crate::source::{Sources, Span};
use crate::syntax::tree::{Node, Scalar, Text, Value};

pub use upstream::MAX_SERVERS;

/// What a list says.
#[derive(Debug, Default, PartialEq)]
pub struct List {
    /// In written order, each address once.
    pub servers: Vec<Server>,
    /// What was left out.
    pub skipped: Vec<Skipped>,
}

/// An entry that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// `line 3`, `entry 3`.
    pub place: String,
    /// Why, and what to do.
    pub why: String,
}

/// Reads a list; `name` ends in `.json` if it is JSON. An error is that of the whole text.
pub fn read(name: &str, text: &str) -> Result<List, String> {
    let json = name
        .rsplit_once('.')
        .is_some_and(|(_, kind)| kind.eq_ignore_ascii_case("json"));
    if json {
        from_json(text)
    } else {
        from_kdl(text)
    }
}

/// The address of a server, as `server` takes it.
pub fn address(text: &str) -> Result<ServerAddress, String> {
    address::server(text).map_err(|(message, help)| format!("{message}: {help}"))
}

/// One entry of a JSON list: `"10.0.0.1:80"`, or `{"address": "10.0.0.1:80", "weight": 2}` with the properties of `server`.
pub fn entry(plain: &Plain) -> Result<Server, String> {
    server(&node(plain)?)
}

/// What [`entry`] reads as this server.
pub fn plain(server: &Server) -> Plain {
    let state = match server.order {
        Order::Ready => "ready",
        Order::Drain => "drain",
        Order::Down => "down",
    };
    let mut plain = json!({
        "address": server.name,
        "weight": server.weight,
        "backup": server.backup,
        "priority": server.priority,
        "state": state,
    });
    if let Some(zone) = &server.zone {
        plain["zone"] = zone.as_str().into();
    }
    if matches!(server.address, ServerAddress::Srv { .. }) {
        plain["resolve"] = "srv".into();
    }
    plain
}

fn from_kdl(text: &str) -> Result<List, String> {
    let mut problems = Vec::new();
    let mut sources = Sources::default();
    let file = sources.add("", text);
    let document = crate::syntax::parse(file, text, &mut problems);
    let line = |span: Span| sources.line_col(span).0;
    if let Some(first) = problems.first() {
        return Err(format!("line {}: {}", line(first.span), told(first)));
    }
    let entries = document.nodes.iter().map(|node| {
        let place = format!("line {}", line(node.span));
        (place, server(node))
    });
    Ok(collect(entries))
}

fn from_json(text: &str) -> Result<List, String> {
    let list: Vec<Plain> = serde_json::from_str(text)
        .map_err(|error| format!("this is not a JSON array of servers: {error}"))?;
    let entries = list
        .iter()
        .enumerate()
        .map(|(index, plain)| (format!("entry {}", index + 1), entry(plain)));
    Ok(collect(entries))
}

fn collect(entries: impl Iterator<Item = (String, Result<Server, String>)>) -> List {
    let mut list = List::default();
    let mut known = HashSet::new();
    for (place, server) in entries {
        let why = match server {
            Ok(server) if list.servers.len() >= MAX_SERVERS => format!(
                "\"{}\" is one more than the {MAX_SERVERS} servers that a list may have",
                server.name
            ),
            Ok(server) if known.insert(server.address.clone()) => {
                list.servers.push(server);
                continue;
            }
            Ok(server) => format!(
                "the server \"{}\" is there twice: use weight= to give it a larger share",
                server.name
            ),
            Err(why) => why,
        };
        list.skipped.push(Skipped { place, why });
    }
    list
}

fn server(node: &Node) -> Result<Server, String> {
    let mut problems = Problems::default();
    if node.name.text != "server" {
        return Err(format!(
            "`{}` is no server: write `server \"address:port\"`",
            shortened(&node.name.text)
        ));
    }
    let server = raw::read(node, block(), &mut problems)
        .and_then(|item| upstream::server(&mut problems, &item));
    match (server, problems.errors()) {
        (Some(server), 0) => Ok(server),
        _ => Err(problems.finish().first().map(told).unwrap_or_default()),
    }
}

fn told(problem: &Problem) -> String {
    match &problem.help {
        Some(help) => format!("{}: {help}", problem.message),
        None => problem.message.clone(),
    }
}

fn block() -> Block {
    Block {
        name: "upstream",
        groups: schema::find(schema::TOP, "upstream").map_or(&[], |spec| spec.children),
    }
}

/// As the language would write it, so that one table judges both.
fn node(plain: &Plain) -> Result<Node, String> {
    const FORM: &str = "write \"address:port\", or an object such as {\"address\": \"10.0.0.1:80\", \"weight\": 2}";
    let mut node = Node {
        name: text("server"),
        args: Vec::new(),
        props: Vec::new(),
        children: None,
        span: Span::default(),
    };
    match plain {
        Plain::String(_) => node.args.extend(value(plain)),
        Plain::Object(members) => {
            for (key, plain) in members {
                let Some(value) = value(plain) else {
                    return Err(format!("`{}` is no single value: {FORM}", shortened(key)));
                };
                if key == "address" {
                    node.args.push(value);
                } else {
                    node.props.push((text(key), value));
                }
            }
        }
        _ => return Err(format!("this is no server: {FORM}")),
    }
    if node.args.is_empty() {
        return Err(format!("the address is missing: {FORM}"));
    }
    Ok(node)
}

fn value(plain: &Plain) -> Option<Value> {
    let scalar = match plain {
        Plain::String(text) => Scalar::String(text.clone()),
        Plain::Bool(b) => Scalar::Bool(*b),
        Plain::Null => Scalar::Null,
        Plain::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(n), _) => Scalar::Integer(n.into()),
            (None, Some(n)) => Scalar::Float(n),
            (None, None) => return None,
        },
        Plain::Array(_) | Plain::Object(_) => return None,
    };
    Some(Value {
        scalar,
        span: Span::default(),
    })
}

fn text(text: &str) -> Text {
    Text {
        text: text.to_owned(),
        span: Span::default(),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &List) -> Vec<&str> {
        list.servers.iter().map(|s| s.name.as_str()).collect()
    }

    #[test]
    fn both_forms_say_the_same() {
        let kdl = read(
            "servers.kdl",
            "// ours\nserver \"10.0.0.1:80\" weight=2\nserver \"api.internal:8080\" backup=#true\nserver \"unix:/run/a.sock\"\n",
        )
        .unwrap();
        let json = read(
            "servers.json",
            r#"[{"address": "10.0.0.1:80", "weight": 2}, {"address": "api.internal:8080", "backup": true}, "unix:/run/a.sock"]"#,
        )
        .unwrap();
        assert_eq!(kdl, json);
        assert_eq!(kdl.servers[0].weight, 2);
        assert!(kdl.servers[1].backup && kdl.skipped.is_empty());
    }

    #[test]
    fn a_bad_entry_is_named_and_the_others_are_taken() {
        let kdl = "server \"10.0.0.1:80\"\nserver \"10.0.0.256:80\"\nserver \"10.0.0.2:80\" weight=0\nserve \"x\"\nserver\n\
                   server \"10.0.0.1:80\"\nserver \"10.0.0.3:80\" wieght=2\nserver \"10.0.0.4:80\"";
        let list = read("servers", kdl).unwrap();
        assert_eq!(names(&list), ["10.0.0.1:80", "10.0.0.4:80"]);
        let places: Vec<&str> = list.skipped.iter().map(|s| s.place.as_str()).collect();
        assert_eq!(
            places,
            ["line 2", "line 3", "line 4", "line 5", "line 6", "line 7"]
        );
        assert!(list.skipped[0].why.contains("10.0.0.256:80"), "{list:?}");
        assert!(list.skipped[4].why.contains("twice"), "{list:?}");
        assert!(list.skipped[5].why.contains("weight"), "{list:?}");

        let json = r#"["10.0.0.1:80", 7, {"weight": 2}, {"address": ["a"]}, {"address": "10.0.0.2:80", "weight": -1}, null, "10.0.0.4:80"]"#;
        let list = read("s.JSON", json).unwrap();
        assert_eq!(names(&list), ["10.0.0.1:80", "10.0.0.4:80"]);
        assert_eq!(list.skipped.len(), 5);
        assert_eq!(list.skipped[0].place, "entry 2");
    }

    #[test]
    fn a_text_that_does_not_parse_is_wrong_as_a_whole() {
        for (name, text) in [
            ("s.kdl", "server \"10.0.0.1:80"),
            ("s.kdl", "server \"10.0.0.1:80\"\nserver {"),
            ("s.json", "[\"10.0.0.1:80\""),
            ("s.json", "{\"server\": \"10.0.0.1:80\"}"),
            ("s.json", ""),
        ] {
            assert!(read(name, text).is_err(), "{name} {text}");
        }
        assert!(
            read("s.kdl", "server \"x")
                .unwrap_err()
                .starts_with("line 1")
        );
        assert_eq!(read("s.kdl", "").unwrap(), List::default());
    }

    #[test]
    fn what_is_written_again_reads_the_same() {
        for text in [
            r#""10.0.0.1:80""#,
            r#"{"address": "unix:/run/a.sock", "weight": 7, "backup": true}"#,
            r#"{"address": "api.internal:80", "priority": 3, "zone": "a", "state": "drain"}"#,
            r#"{"address": "_http._tcp.API.internal", "resolve": "srv", "state": "down"}"#,
        ] {
            let server = entry(&serde_json::from_str(text).unwrap()).unwrap();
            assert_eq!(entry(&plain(&server)), Ok(server), "{text}");
        }
    }

    #[test]
    fn a_list_is_bounded() {
        let all: Vec<String> = (0..=MAX_SERVERS)
            .map(|i| format!("\"10.{}.{}.1:80\"", i / 256, i % 256))
            .collect();
        let list = read("s.json", &format!("[{}]", all.join(","))).unwrap();
        assert_eq!((list.servers.len(), list.skipped.len()), (MAX_SERVERS, 1));
    }
}
