//! The reference manual, from the table of keys.

use std::fmt::Write as _;

use super::{
    ACTIONS, ArgSpec, CONDITIONS, FILTERS, Groups, Kind, NodeSpec, SETTINGS, TOP, built_words,
    later, pending,
};
use crate::lower::template::{FAMILIES, Position, VARIABLES};

const INTRODUCTION: &str = r##"# The configuration, key by key

Generated from the table that the program itself reads by; do not edit. `narthex config schema` prints the same as JSON
Schema, for the machine form (`.json`, see [json.md](json.md)).

A file is KDL 2: one key a line, values in quotes, blocks in braces, `//` before a comment. `version 1` comes first. The
order of routes and filters is the order of evaluation; nothing is sorted. What is not known is an error.

## Values

| | Written | |
|---|---|---|
| duration | `"10s"`, `"250ms"`, `"1m30s"`, `"1h"`, `"7d"` | whole numbers and `ms`, `s`, `m`, `h`, `d` |
| size | `"64KiB"` | whole numbers and `B`, `KiB`, `MiB`, `GiB`, `TiB` |
| rate | `"240B/s"` | a size per second |
| percentage | `"30%"` | whole, unless said otherwise |
| switch | `#true`, `#false` | |
| number | `3` | without quotes, only where there is no unit |
| regular expression | `#"^/v\d+/"#` | in a raw string; linear time, so no look-around and no backreferences |
| secret | `"env:NAME"`, `"file:/run/secrets/x"` | a reference, never the secret; shown by no command |
| template | `"{client.ip}"` | text with [variables](#variables); `{{` and `}}` write braces |
| listen address | `":80"`, `"127.0.0.1:80"`, `"[::1]:80"`, `"unix:/run/x.sock"`, `"fd:name"` | `:80` is every address, IPv6 and IPv4; `fd:` is a socket inherited from systemd |
| server address | `"10.0.0.1:8080"`, `"[::1]:8080"`, `"name:8080"`, `"unix:/run/app.sock"` | |
| network | `"10.0.0.0/8"`, `"192.0.2.7"`, `"2001:db8::/32"` | |
| file | `"pages/5xx.html"` | pages and secrets: from the directory of the file that names them |

## Order

The filters of a request run in this order: the listener's, the site's, those of the policies that the site and then the
route `use`, the route's own. Those of the response run in reverse. `replace=#true` drops what the levels before wrote of
the same kind. Settings are not added up: the route's word counts before its policies', before the site's, before the
site's policies'.
"##;

/// The reference manual in Markdown.
pub fn reference_markdown() -> String {
    let mut out = String::from(INTRODUCTION);
    out.push_str("\n## The top level\n");
    let top = TOP.iter().flat_map(|g| g.iter());
    for spec in top.filter(|s| !pending::key("", s.name)) {
        key(&mut out, 3, spec);
        if !spec.children.is_empty() {
            own_block(&mut out, 4, spec.name, spec.children);
            shared(&mut out, spec.children);
        }
    }
    section(
        &mut out,
        "Filters",
        "Steps on a request or response, in the order written.",
        &FILTERS,
    );
    section(
        &mut out,
        "Settings",
        "What holds for a route and is not a step.",
        &SETTINGS,
    );
    section(
        &mut out,
        "Actions",
        "A route has exactly one. In a site: a last route that matches everything.",
        &ACTIONS,
    );
    section(
        &mut out,
        "Conditions",
        "What `when`, `not` and `any` take.",
        &CONDITIONS,
    );
    variables(&mut out);
    not_built(&mut out);
    out
}

fn section(out: &mut String, title: &str, text: &str, group: &'static [NodeSpec]) {
    let _ = write!(out, "\n## {title}\n\n{text}\n");
    for spec in group.iter().filter(|s| !pending::key(title, s.name)) {
        key(out, 3, spec);
        let groups: Vec<_> = spec
            .children
            .iter()
            .filter(|g| group_name(g).is_none())
            .collect();
        for inner in groups.into_iter().flat_map(|g| g.iter()) {
            key(out, 4, inner);
        }
    }
}

fn group_name(group: &[NodeSpec]) -> Option<&'static str> {
    let named: [(&[NodeSpec], &str); 4] = [
        (&FILTERS, "filters"),
        (&SETTINGS, "settings"),
        (&ACTIONS, "actions"),
        (&CONDITIONS, "conditions"),
    ];
    named
        .iter()
        .find(|(g, _)| g.as_ptr() == group.as_ptr())
        .map(|(_, name)| *name)
}

fn own_block(out: &mut String, level: usize, block: &str, groups: Groups) {
    for group in groups.iter().filter(|g| group_name(g).is_none()) {
        for spec in group.iter().filter(|s| !pending::key(block, s.name)) {
            if level == 4 && is_filter(spec) {
                continue; // `listen` takes some filters; `shared` names them
            }
            key(out, level, spec);
            if !spec.children.is_empty() {
                own_block(out, level + 1, spec.name, spec.children);
                shared(out, spec.children);
            }
        }
    }
}

fn is_filter(spec: &NodeSpec) -> bool {
    FILTERS
        .iter()
        .any(|f| f.name == spec.name && f.doc == spec.doc)
}

fn shared(out: &mut String, groups: Groups) {
    let mut links: Vec<String> = groups
        .iter()
        .filter_map(|g| group_name(g))
        .map(|name| format!("[{name}](#{name})"))
        .collect();
    for group in groups.iter().filter(|g| group_name(g).is_none()) {
        links.extend(
            group
                .iter()
                .filter(|s| is_filter(s))
                .map(|s| format!("[`{0}`](#{0})", s.name)),
        );
    }
    if !links.is_empty() {
        let _ = write!(out, "\nThe block also takes {}.\n", links.join(", "));
    }
}

fn key(out: &mut String, level: usize, spec: &NodeSpec) {
    let _ = write!(
        out,
        "\n{} {}\n\n{}\n",
        "#".repeat(level),
        spec.name,
        spec.doc
    );
    if spec.repeat {
        out.push_str("May be written several times.\n");
    }
    let _ = write!(out, "\n```kdl\n{}\n```\n", spec.example);
    let built = |p: &&super::PropSpec| !pending::prop(spec.name, p.name);
    if spec.args.is_empty() && !spec.props.iter().any(|p| built(&p)) {
        return;
    }
    out.push_str("\n| | Value | Default | |\n|---|---|---|---|\n");
    for arg in spec.args {
        argument(out, spec, arg);
    }
    for prop in spec.props.iter().filter(built) {
        let default = match (prop.required, prop.default) {
            (true, _) => "required".to_owned(),
            (false, "") => String::new(),
            (false, text) => format!("`{text}`"),
        };
        let _ = writeln!(
            out,
            "| `{}=` | {} | {default} | {} |",
            prop.name,
            kind(spec, prop.kind),
            escaped(prop.doc)
        );
    }
}

fn argument(out: &mut String, spec: &NodeSpec, arg: &ArgSpec) {
    let default = match (arg.optional, arg.default) {
        (false, _) => "required".to_owned(),
        (true, "") => String::new(),
        (true, text) => format!("`{text}`"),
    };
    let many = if arg.many { "one or more" } else { "" };
    let _ = writeln!(
        out,
        "| *{}* | {} | {default} | {many} |",
        arg.name,
        kind(spec, arg.kind)
    );
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}

fn kind(spec: &NodeSpec, kind: Kind) -> String {
    match kind {
        Kind::Text | Kind::AnyText => "text".into(),
        Kind::Bool => "switch".into(),
        Kind::Int(1, i64::MAX) => "number".into(),
        Kind::Int(min, max) => format!("number, {min} to {max}"),
        Kind::Duration => "duration".into(),
        Kind::DurationOrZero => "duration, or `\"0s\"`".into(),
        Kind::Size => "size".into(),
        Kind::SizeOrNone => "size, or `\"none\"`".into(),
        Kind::Rate => "rate".into(),
        Kind::Percent => "percentage".into(),
        Kind::Share => "percentage, two decimals".into(),
        Kind::Memory => "percentage or size".into(),
        Kind::Word(words) => built_words(spec.name, words)
            .iter()
            .map(|w| format!("`\"{w}\"`"))
            .collect::<Vec<_>>()
            .join(", "),
        Kind::TextOrFalse => "text, or `#false`".into(),
        Kind::Status => "`404`, `\"500-599\"`".into(),
        Kind::Of(what) => what.into(),
        Kind::Template => "template".into(),
        Kind::Secret => "secret".into(),
        Kind::Regex => "regular expression".into(),
    }
}

fn variables(out: &mut String) {
    out.push_str("\n## Variables\n\nIn templates. What a path captures (`{id}`, `{rest*}`, a named group) is a variable of its route.\n\n");
    out.push_str("| | Known from |\n|---|---|\n");
    for (name, _, since) in VARIABLES {
        let _ = writeln!(out, "| `{{{name}}}` | {} |", position(*since));
    }
    for (family, since) in FAMILIES {
        let _ = writeln!(out, "| `{{{family}NAME}}` | {} |", position(*since));
    }
}

fn position(since: Position) -> &'static str {
    match since {
        Position::Request => "the request",
        Position::Response => "the response",
        Position::Log => "the end (access log)",
    }
}

fn not_built(out: &mut String) {
    out.push_str("\n## Not built yet\n\nThese keys belong to the language and are refused with a remedy until they are built.\n\n");
    for name in ["compress", "auth", "rate-limit"] {
        let _ = writeln!(out, "- `{name}`: {}", later(name).unwrap_or_default());
    }
}
