//! The machine form: the same documents as JSON.
//!
//! A list of nodes is an array; a node is an object with one key, its name; what is behind the key says the rest:
//!
//! | JSON | KDL |
//! |---|---|
//! | `{"version": 1}` | `version 1` |
//! | `{"compress": ["zstd", "br"]}` | `compress "zstd" "br"` |
//! | `{"tls": []}` | `tls` |
//! | `{"site": {"args": ["a.example"], "props": {"k": true}, "children": [...]}}` | `site "a.example" k=#true { ... }` |
//!
//! `args` may be a single value. Where every name occurs once, a list may be one object with several keys, read in
//! written order. Numbers that JSON cannot write are `{"number": "#inf"}`. See `docs/reference/json.md`.

mod reader;

use serde_json::{Map, Value as Plain, json};

use self::reader::{Json, Spanned};
use super::numbers;
use super::tree::{Document, Node, Scalar, Text, Value};
use super::{MAX_DEPTH, TOO_DEEP};
use crate::problem::Problem;
use crate::source::{FileId, Span};

const HELP_NODE: &str = "write {\"name\": value}, {\"name\": [values]} or {\"name\": {\"args\": [], \"props\": {}, \"children\": []}}";

/// Reads the JSON form. Spans point into `text`. A text that is no JSON gives one problem and an empty document; nodes that
/// do not fit the form are each reported and left out.
pub fn to_document(file: FileId, text: &str, problems: &mut Vec<Problem>) -> Document {
    to_document_at_depth(file, text, 0, problems)
}

/// [`to_document`] for a text that is included `depth` blocks deep.
pub(crate) fn to_document_at_depth(
    file: FileId,
    text: &str,
    depth: usize,
    problems: &mut Vec<Problem>,
) -> Document {
    match reader::read(file, text) {
        Ok(json) => Document {
            nodes: Mapper {
                problems,
                reported: 0,
            }
            .nodes(json, depth),
        },
        Err(problem) => {
            problems.push(problem);
            Document::default()
        }
    }
}

/// Writes the JSON form. Nothing is lost but the order of properties, which means nothing.
pub fn from_document(document: &Document) -> Plain {
    nodes_to_json(&document.nodes)
}

struct Mapper<'p> {
    problems: &'p mut Vec<Problem>,
    reported: usize,
}

impl Mapper<'_> {
    fn wrong(&mut self, span: Span, message: impl Into<String>, help: &str) {
        self.report("json-form", span, message, help);
    }

    fn report(&mut self, code: &'static str, span: Span, message: impl Into<String>, help: &str) {
        self.reported += 1;
        if self.reported <= super::MAX_PROBLEMS {
            self.problems
                .push(Problem::error(code, span, message).with_help(help));
        }
    }

    fn nodes(&mut self, list: Spanned, depth: usize) -> Vec<Node> {
        if depth > MAX_DEPTH {
            let message = format!("blocks are nested more than {MAX_DEPTH} deep");
            self.report(TOO_DEEP, list.span, message, "move inner parts out");
            return Vec::new();
        }
        match list.json {
            Json::Array(items) => items
                .into_iter()
                .filter_map(|item| self.item(item, depth))
                .collect(),
            Json::Object(members) => members
                .into_iter()
                .map(|(name, body)| self.node(name, body, depth))
                .collect(),
            _ => {
                self.wrong(list.span, "this must be an array of nodes", HELP_NODE);
                Vec::new()
            }
        }
    }

    fn item(&mut self, item: Spanned, depth: usize) -> Option<Node> {
        let span = item.span;
        if let Json::Object(members) = item.json
            && let Ok([(name, body)]) = <[(Text, Spanned); 1]>::try_from(members)
        {
            return Some(self.node(name, body, depth));
        }
        self.wrong(
            span,
            "a node is an object with one key, its name",
            HELP_NODE,
        );
        None
    }

    fn node(&mut self, name: Text, body: Spanned, depth: usize) -> Node {
        let mut node = Node {
            span: name.span,
            name,
            args: Vec::new(),
            props: Vec::new(),
            children: None,
        };
        match body.json {
            Json::Array(items) => node.args = self.values(items),
            Json::Object(members) => {
                for (key, value) in members {
                    match key.text.as_str() {
                        "args" => node.args = self.args(value),
                        "props" => node.props = self.props(value),
                        "children" => node.children = Some(self.nodes(value, depth + 1)),
                        _ => {
                            let message = format!(
                                "`{}` is not part of a node",
                                super::Parser::quote(&key.text)
                            );
                            self.wrong(key.span, message, "the keys are args, props and children; settings stand inside of props or children");
                        }
                    }
                }
            }
            _ => node.args = self.value(body).into_iter().collect(),
        }
        let end = node.args.last().map_or(node.span.end, |last| last.span.end);
        let end = node
            .props
            .last()
            .map_or(end, |(_, last)| last.span.end.max(end));
        node.span.end = end.max(node.span.end);
        node
    }

    fn args(&mut self, value: Spanned) -> Vec<Value> {
        match value.json {
            Json::Array(items) => self.values(items),
            _ => self.value(value).into_iter().collect(),
        }
    }

    fn values(&mut self, items: Vec<Spanned>) -> Vec<Value> {
        items
            .into_iter()
            .filter_map(|item| self.value(item))
            .collect()
    }

    fn props(&mut self, value: Spanned) -> Vec<(Text, Value)> {
        match value.json {
            Json::Object(members) => members
                .into_iter()
                .filter_map(|(key, value)| Some((key, self.value(value)?)))
                .collect(),
            _ => {
                self.wrong(
                    value.span,
                    "`props` must be an object",
                    "write {\"key\": value}",
                );
                Vec::new()
            }
        }
    }

    fn value(&mut self, value: Spanned) -> Option<Value> {
        let span = value.span;
        let scalar = match value.json {
            Json::Null => Scalar::Null,
            Json::Bool(flag) => Scalar::Bool(flag),
            Json::Number(number) => number,
            Json::String(text) => Scalar::String(text),
            Json::Object(members) => return self.number(span, &members),
            Json::Array(_) => {
                self.wrong(
                    span,
                    "a value cannot be an array",
                    "write the values one after the other in `args`",
                );
                return None;
            }
        };
        Some(Value { scalar, span })
    }

    /// `{"number": "#inf"}`.
    fn number(&mut self, span: Span, members: &[(Text, Spanned)]) -> Option<Value> {
        let scalar = match members {
            [
                (
                    key,
                    Spanned {
                        json: Json::String(text),
                        ..
                    },
                ),
            ] if key.text == "number" => match text.as_str() {
                "#inf" => Some(Scalar::Float(f64::INFINITY)),
                "#-inf" => Some(Scalar::Float(f64::NEG_INFINITY)),
                "#nan" => Some(Scalar::Float(f64::NAN)),
                _ => numbers::parse(text)
                    .ok()
                    .filter(|_| numbers::looks_like_number(text)),
            },
            _ => None,
        };
        if scalar.is_none() {
            self.wrong(
                span,
                "a value cannot be an object",
                "nodes inside of this one stand in its `children`",
            );
        }
        scalar.map(|scalar| Value { scalar, span })
    }
}

fn nodes_to_json(nodes: &[Node]) -> Plain {
    nodes.iter().map(node_to_json).collect()
}

fn node_to_json(node: &Node) -> Plain {
    let args: Vec<Plain> = node
        .args
        .iter()
        .map(|value| scalar_to_json(&value.scalar))
        .collect();
    let body = if node.props.is_empty() && node.children.is_none() {
        match <[Plain; 1]>::try_from(args) {
            // An object behind the name would be read as the long form.
            Ok([only]) if !only.is_object() => only,
            Ok(one) => Plain::from(one.to_vec()),
            Err(args) => Plain::from(args),
        }
    } else {
        long_form(node, args)
    };
    let mut object = Map::new();
    object.insert(node.name.text.clone(), body);
    Plain::Object(object)
}

fn long_form(node: &Node, args: Vec<Plain>) -> Plain {
    let mut body = Map::new();
    if !args.is_empty() {
        body.insert("args".into(), Plain::from(args));
    }
    if !node.props.is_empty() {
        let props = node
            .props
            .iter()
            .map(|(key, value)| (key.text.clone(), scalar_to_json(&value.scalar)));
        body.insert("props".into(), Plain::Object(props.collect()));
    }
    if let Some(children) = &node.children {
        body.insert("children".into(), nodes_to_json(children));
    }
    Plain::Object(body)
}

fn scalar_to_json(scalar: &Scalar) -> Plain {
    match scalar {
        Scalar::String(text) => Plain::from(text.as_str()),
        Scalar::Bool(flag) => Plain::from(*flag),
        Scalar::Null => Plain::Null,
        Scalar::Integer(number) => match (i64::try_from(*number), u64::try_from(*number)) {
            (Ok(small), _) => Plain::from(small),
            (_, Ok(small)) => Plain::from(small),
            _ => json!({ "number": number.to_string() }),
        },
        Scalar::Float(number) if number.is_nan() => json!({ "number": "#nan" }),
        Scalar::Float(number) if *number == f64::INFINITY => json!({ "number": "#inf" }),
        Scalar::Float(number) if *number == f64::NEG_INFINITY => json!({ "number": "#-inf" }),
        Scalar::Float(number) => Plain::from(*number),
    }
}
