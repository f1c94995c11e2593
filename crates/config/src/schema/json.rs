//! The JSON Schema of the machine form, from the table of keys.
//!
//! A list of nodes is an array of objects with one key each, or one object where every key occurs once; see
//! [`crate::syntax::json`].

use serde_json::{Map, Value, json};

use super::{ArgSpec, Groups, Kind, NodeSpec, TOP, built_words, pending};

/// The JSON Schema (draft 2020-12) of a configuration in JSON.
pub fn json_schema() -> Value {
    let mut defs = Defs::default();
    let top = defs.block("file", TOP);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Narthex configuration, version 1",
        "description": "The machine form of narthex.kdl. The order of routes and filters is the order of evaluation.",
        "$ref": top,
        "$defs": defs.map,
    })
}

#[derive(Default)]
struct Defs {
    map: Map<String, Value>,
    /// Groups that have been written, by their place in memory, and the prefix of their definitions.
    groups: Vec<(*const NodeSpec, &'static str)>,
}

impl Defs {
    /// The definition of a block with these groups; a reference to it.
    fn block(&mut self, name: &'static str, groups: Groups) -> String {
        let key = format!("{name}.block");
        let reference = format!("#/$defs/{key}");
        if self.map.contains_key(&key) {
            return reference;
        }
        self.map.insert(key.clone(), Value::Null); // taken, so that recursion ends
        let mut nodes = Vec::new();
        let mut members = Map::new();
        for group in groups {
            let prefix = self.group(name, group);
            let home = if name == "file" { "" } else { name };
            for spec in group.iter().filter(|s| !pending::key(home, s.name)) {
                let body = self.node(prefix, spec);
                let node = json!({
                    "type": "object",
                    "properties": { spec.name: { "$ref": body } },
                    "required": [spec.name],
                    "additionalProperties": false,
                });
                nodes.push(node);
                members.insert(spec.name.to_owned(), json!({ "$ref": body }));
            }
        }
        let block = json!({ "anyOf": [
            { "type": "array", "items": { "anyOf": nodes } },
            { "type": "object", "properties": members, "additionalProperties": false },
        ]});
        self.map.insert(key, block);
        reference
    }

    fn group(&mut self, name: &'static str, group: &'static [NodeSpec]) -> &'static str {
        if let Some((_, prefix)) = self.groups.iter().find(|(at, _)| *at == group.as_ptr()) {
            return prefix;
        }
        self.groups.push((group.as_ptr(), name));
        name
    }

    /// The definition of what stands behind a key; a reference to it.
    fn node(&mut self, prefix: &str, spec: &'static NodeSpec) -> String {
        let key = format!("{prefix}.{}", spec.name);
        let reference = format!("#/$defs/{key}");
        if self.map.contains_key(&key) {
            return reference;
        }
        self.map.insert(key.clone(), Value::Null);
        let mut forms = Vec::new();
        let needs_props = spec.props.iter().any(|p| p.required);
        if !needs_props {
            if let [only, ..] = spec.args
                && spec.args.iter().skip(1).all(|a| a.optional)
            {
                forms.push(value(spec, only.kind));
            }
            forms.push(args(spec));
        }
        forms.push(self.long_form(spec));
        self.map
            .insert(key, json!({ "description": spec.doc, "anyOf": forms }));
        reference
    }

    fn long_form(&mut self, spec: &'static NodeSpec) -> Value {
        let mut members = Map::new();
        let mut required: Vec<&str> = Vec::new();
        if let [only, ..] = spec.args {
            let mut forms = vec![args(spec)];
            if spec.args.iter().skip(1).all(|a| a.optional) {
                forms.push(value(spec, only.kind));
            }
            members.insert("args".into(), json!({ "anyOf": forms }));
            if spec.args.iter().any(|a| !a.optional) {
                required.push("args");
            }
        }
        if !spec.props.is_empty() {
            let props: Map<String, Value> = spec
                .props
                .iter()
                .filter(|p| !pending::prop(spec.name, p.name))
                .map(|p| (p.name.to_owned(), described(value(spec, p.kind), p.doc)))
                .collect();
            let needed: Vec<&str> = spec
                .props
                .iter()
                .filter(|p| p.required)
                .map(|p| p.name)
                .collect();
            if !needed.is_empty() {
                required.push("props");
            }
            members.insert(
                "props".into(),
                json!({ "type": "object", "properties": props, "required": needed, "additionalProperties": false }),
            );
        }
        if !spec.children.is_empty() {
            // Blocks are told apart by their key, or by what they take where two share a key.
            let block = self.block(block_name(spec), spec.children);
            members.insert("children".into(), json!({ "$ref": block }));
        }
        json!({ "type": "object", "properties": members, "required": required, "additionalProperties": false })
    }
}

/// `when`, `not` and `any` take the same.
fn block_name(spec: &'static NodeSpec) -> &'static str {
    match spec.name {
        "when" | "not" | "any" => "conditions",
        name => name,
    }
}

fn described(mut schema: Value, doc: &str) -> Value {
    if let Some(object) = schema.as_object_mut() {
        object.insert("description".into(), doc.into());
    }
    schema
}

/// All arguments, as an array.
fn args(spec: &NodeSpec) -> Value {
    let args: &[ArgSpec] = spec.args;
    let least = args.iter().filter(|a| !a.optional).count();
    let values: Vec<Value> = args.iter().map(|a| value(spec, a.kind)).collect();
    match args.last() {
        Some(last) if last.many => {
            json!({ "type": "array", "prefixItems": values, "items": value(spec, last.kind), "minItems": least })
        }
        _ => json!({ "type": "array", "prefixItems": values, "items": false, "minItems": least }),
    }
}

const SIZE: &str = "[0-9]+(B|KiB|MiB|GiB|TiB)";

fn value(spec: &NodeSpec, kind: Kind) -> Value {
    let text = |pattern: &str| json!({ "type": "string", "pattern": format!("^({pattern})$") });
    match kind {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Int(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Duration | Kind::DurationOrZero => text("([0-9]+(ms|s|m|h|d))+"),
        Kind::Size => text(SIZE),
        Kind::SizeOrNone => text(&format!("{SIZE}|none")),
        Kind::Rate => text(&format!("{SIZE}/s")),
        Kind::Percent => text("[0-9]{1,3}(\\.0{1,2})?%"),
        Kind::Share => text("[0-9]{1,3}(\\.[0-9]{1,2})?%"),
        Kind::Memory => text(&format!("[0-9]{{1,3}}%|{SIZE}")),
        Kind::Word(words) => json!({ "enum": built_words(spec.name, words) }),
        Kind::TextOrFalse => {
            json!({ "anyOf": [{ "type": "string", "minLength": 1 }, { "const": false }] })
        }
        Kind::Status => json!({ "anyOf": [
            { "type": "integer", "minimum": 400, "maximum": 599 },
            { "type": "string", "pattern": "^[45][0-9]{2}(-[45][0-9]{2})?$" },
        ]}),
        Kind::Secret => text("(env|file):.+"),
        Kind::AnyText | Kind::Template => json!({ "type": "string" }),
        Kind::Text | Kind::Of(_) | Kind::Regex => json!({ "type": "string", "minLength": 1 }),
    }
}
