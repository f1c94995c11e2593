//! Scenarios in the manner of the public suite `http-cache-tests`, run against the decisions alone: a cache of one page, an
//! origin that answers by script, a clock that is moved by hand. `suite.txt` says its own form.

use std::fmt::Write as _;

use narthex_config::model::CacheRule;
use narthex_message::{Body, FieldId, Method, ResponseFacts};

use super::testing::{self, Made, NOW, indexed, request, request_facts, rfc9111};
use super::*;

/// As long as the suite's.
const BODY: &str = "0123456789abcdefghijklmnopqrstuvwxyz";
/// Requests of the suite are three seconds apart where they pause.
const PAUSE_MS: u64 = 3000;

#[derive(Default, Clone)]
struct Step<'t> {
    method: &'t str,
    target: &'t str,
    ask: Vec<(&'t str, &'t str)>,
    /// `None`: the origin goes away.
    status: Option<u16>,
    body: Option<&'t str>,
    answer: Vec<(&'t str, &'t str)>,
    expect: &'t str,
    expected: Vec<&'t str>,
    pause: bool,
}

struct Object {
    target: String,
    variant: Vec<u8>,
    keep: Keep,
    body: String,
}

struct Got {
    from: &'static str,
    status: u16,
    /// Head lines.
    head: String,
    body: String,
    /// What the origin saw.
    seen: String,
}

struct Cache<'r> {
    rule: &'r CacheRule,
    now_ms: u64,
    objects: Vec<Object>,
    /// What the origin had sent before.
    before: Vec<(String, String)>,
}

/// What the origin says to these lines.
struct Answer {
    made: Made,
    facts: ResponseFacts,
    body: String,
    fields: Vec<(String, String)>,
}

impl Cache<'_> {
    /// `@N` is a date N seconds from now, `@850:N` in the form of RFC 850.
    fn value(&self, text: &str) -> String {
        let second = self.now_ms / 1000;
        let at = |n: &str| second.saturating_add_signed(n.parse().unwrap());
        let fixdate =
            |n| String::from_utf8(narthex_observe::clock::http_date(at(n)).to_vec()).unwrap();
        if let Some(n) = text.strip_prefix("@850:") {
            let date = fixdate(n);
            let (day, month, year, time) = (&date[5..7], &date[8..11], &date[14..16], &date[17..]);
            let name = [
                "Sunday",
                "Monday",
                "Tuesday",
                "Wednesday",
                "Thursday",
                "Friday",
                "Saturday",
            ]
            .into_iter()
            .find(|name| name.starts_with(&date[..3]))
            .unwrap();
            return format!("{name}, {day}-{month}-{year} {time}");
        }
        text.strip_prefix('@')
            .map_or_else(|| text.to_owned(), fixdate)
    }

    fn origin(&mut self, step: &Step<'_>, seen: &str) -> Option<Answer> {
        let mut status = step.status?;
        let had = |name: &str, line: &str| {
            self.before.iter().any(|(n, v)| {
                n.eq_ignore_ascii_case(name) && seen.contains(&format!("{line}: {v}\n"))
            })
        };
        if step.expect == "etag" || step.expect == "lm" {
            status = if had("ETag", "if-none-match") || had("Last-Modified", "if-modified-since") {
                304
            } else {
                599
            };
        }
        let mut fields: Vec<(String, String)> = step
            .answer
            .iter()
            .map(|(n, v)| ((*n).to_owned(), self.value(v)))
            .collect();
        self.before.clone_from(&fields);
        let mut body = if matches!(status, 204 | 304) {
            ""
        } else {
            step.body.unwrap_or(BODY)
        };
        if let Some((_, length)) = fields.iter().find(|(n, _)| n == "Content-Length") {
            body = body.get(..length.parse().unwrap()).unwrap_or(body);
        }
        if status != 204 && status != 304 && !fields.iter().any(|(n, _)| n == "Content-Length") {
            fields.push(("Content-Length".into(), body.len().to_string()));
        }
        let lines: Vec<_> = fields.iter().map(|(n, v)| (&**n, &**v)).collect();
        let made = testing::response(status, &lines);
        // What the validator refuses is the proxy's 502.
        let method = Method::of(step.method.as_bytes());
        let facts = narthex_message::validate::response(made.head(), method).ok()?;
        Some(Answer {
            made,
            facts,
            body: body.to_owned(),
            fields,
        })
    }

    fn serve(&mut self, step: &Step<'_>) -> Got {
        let ask: Vec<_> = step.ask.iter().map(|(n, v)| (*n, self.value(v))).collect();
        let ask: Vec<_> = ask.iter().map(|(n, v)| (*n, &**v)).collect();
        let made = request(step.method, step.target, &ask);
        let facts = request_facts(made.head());
        let mut seen = String::new();
        for (name, value) in &ask {
            writeln!(seen, "{}: {value}", name.to_ascii_lowercase()).unwrap();
        }
        let Ok(asked) = asks(made.head(), &facts) else {
            return self.unsafely(step, &made, &facts, seen);
        };
        let found = self.objects.iter().position(|o| {
            let mut mine = Vec::new();
            crate::key::variant(&o.keep.vary, made.head(), self.rule, &mut mine);
            o.target == step.target && o.variant == mine
        });
        let Some(found) = found else {
            if asked.only_if_cached {
                return Got {
                    from: "none",
                    status: 504,
                    head: String::new(),
                    body: String::new(),
                    seen,
                };
            }
            return self.fetch(step, &made, &asked, seen);
        };
        let choice = choose(&self.objects[found].keep.meta, &asked, false, self.now_ms);
        if !matches!(choice, Choice::Ask(_))
            && let Some(got) = self.hit(found, &made, "cached")
        {
            return got;
        }
        self.ask_again(found, step, &made, &asked, seen)
    }

    fn ask_again(
        &mut self,
        found: usize,
        step: &Step<'_>,
        made: &Made,
        asked: &Asked,
        mut seen: String,
    ) -> Got {
        let object = &self.objects[found];
        let mut lines = Vec::new();
        if !asked.head && conditional(&object.keep.meta, &object.keep.head, &mut lines) {
            seen.clear();
            for line in String::from_utf8(lines).unwrap().lines() {
                let (name, value) = line.split_once(": ").unwrap();
                writeln!(seen, "{}: {value}", name.to_ascii_lowercase()).unwrap();
            }
            for (name, value) in &step.ask {
                if !name.starts_with("If-") {
                    writeln!(seen, "{}: {value}", name.to_ascii_lowercase()).unwrap();
                }
            }
        }
        let answer = self.origin(step, &seen);
        let failed = answer
            .as_ref()
            .map_or(Failed::Silent, |a| Failed::Said(a.facts.status));
        let (meta, profile) = (self.objects[found].keep.meta, self.rule.profile);
        if serves_on_error(&meta, asked, failed, profile, self.now_ms).is_some() {
            return self.hit(found, made, "cached").unwrap();
        }
        let Some(answer) = answer else {
            return Got {
                from: "origin",
                status: 502,
                head: String::new(),
                body: String::new(),
                seen,
            };
        };
        let stored = indexed(&self.objects[found].keep.head);
        let exchanged = self.exchanged(made, asked, &answer);
        if answer.facts.status == 304 {
            self.objects[found].keep = freshen(stored.head(), &meta, &exchanged).unwrap();
            let mut got = self.hit(found, made, "origin").unwrap();
            got.seen = seen;
            return got;
        }
        if asked.head {
            match freshen_by_head(stored.head(), &meta, &exchanged) {
                ByHead::Update(keep) => self.objects[found].keep = *keep,
                ByHead::Invalidate => drop(self.objects.remove(found)),
                ByHead::Nothing => {}
            }
        }
        self.take(step.target, made, asked, answer, seen)
    }

    fn exchanged<'x>(
        &'x self,
        made: &'x Made,
        asked: &'x Asked,
        answer: &'x Answer,
    ) -> Exchanged<'x> {
        Exchanged {
            request: made.head(),
            asked,
            response: answer.made.head(),
            facts: &answer.facts,
            rule: self.rule,
            sent_ms: self.now_ms,
            received_ms: self.now_ms,
        }
    }

    fn fetch(&mut self, step: &Step<'_>, made: &Made, asked: &Asked, seen: String) -> Got {
        match self.origin(step, &seen) {
            Some(answer) => self.take(step.target, made, asked, answer, seen),
            None => Got {
                from: "origin",
                status: 502,
                head: String::new(),
                body: String::new(),
                seen,
            },
        }
    }

    /// The answer goes to the client, and is stored if it may be.
    fn take(
        &mut self,
        target: &str,
        made: &Made,
        asked: &Asked,
        answer: Answer,
        seen: String,
    ) -> Got {
        if let Ok(keep) = store(&self.exchanged(made, asked, &answer)) {
            self.put(target, made, keep, answer.body.clone());
        }
        Self::passed(answer, seen)
    }

    fn passed(answer: Answer, seen: String) -> Got {
        let mut head = String::new();
        for (name, value) in &answer.fields {
            writeln!(head, "{}: {value}", name.to_ascii_lowercase()).unwrap();
        }
        Got {
            from: "origin",
            status: answer.facts.status,
            head,
            body: answer.body,
            seen,
        }
    }

    fn put(&mut self, target: &str, made: &Made, keep: Keep, body: String) {
        let mut variant = Vec::new();
        crate::key::variant(&keep.vary, made.head(), self.rule, &mut variant);
        self.objects
            .retain(|o| o.target != target || o.variant != variant);
        self.objects.push(Object {
            target: target.to_owned(),
            variant,
            keep,
            body,
        });
    }

    fn unsafely(
        &mut self,
        step: &Step<'_>,
        made: &Made,
        facts: &narthex_message::RequestFacts,
        seen: String,
    ) -> Got {
        let Some(answer) = self.origin(step, &seen) else {
            return Got {
                from: "origin",
                status: 502,
                head: String::new(),
                body: String::new(),
                seen,
            };
        };
        let target = Target {
            https: false,
            host: "example.com",
            port: 80,
            path: step.target.as_bytes(),
        };
        let mut same = false;
        let mut gone = vec![step.target.to_owned()];
        locations(&target, answer.made.head(), |id, place| {
            let place = String::from_utf8(place.to_vec()).unwrap();
            same |= id == FieldId::ContentLocation && place == step.target;
            gone.push(place);
        });
        if invalidates(facts, answer.facts.status) {
            self.objects.retain(|o| !gone.contains(&o.target));
        }
        if facts.method == Method::Post
            && let Ok(keep) = store_post(&self.exchanged(made, &Asked::default(), &answer), same)
        {
            self.put(step.target, made, keep, answer.body.clone());
        }
        Self::passed(answer, seen)
    }

    /// The answer from an object; `None` if it is a part without what is wanted.
    fn hit(&self, found: usize, made: &Made, from: &'static str) -> Option<Got> {
        let object = &self.objects[found];
        let (meta, stored) = (&object.keep.meta, &object.keep.head);
        let mut head = String::new();
        for (_, name, value) in indexed(stored).head().fields() {
            let text = |v: &[u8]| String::from_utf8(v.to_vec()).unwrap();
            writeln!(head, "{}: {}", text(name).to_ascii_lowercase(), text(value)).unwrap();
        }
        writeln!(head, "age: {}", age_s(meta, self.now_ms)).unwrap();
        let seen = String::new();
        let got = |status, body: &str, head: String| {
            Some(Got {
                from,
                status,
                head,
                body: body.to_owned(),
                seen,
            })
        };
        if precondition(made.head(), meta, stored) == Precondition::NotModified {
            return got(304, "", head);
        }
        let length = object.body.len() as u64;
        let (wanted, offset) = match meta.part {
            Some((first, _)) => (part_ranges(made.head(), meta, stored)?, first),
            None => (ranges(made.head(), meta, stored, length), 0),
        };
        match wanted {
            Ranges::One(a, b) => got(
                206,
                &object.body[(a - offset) as usize..=(b - offset) as usize],
                head,
            ),
            Ranges::Unsatisfiable => got(416, "", head),
            Ranges::Whole | Ranges::Many(_) => {
                if let Body::Length(_) = testing::facts(indexed(stored).head()).body {
                    panic!("a length is stored");
                }
                writeln!(head, "content-length: {length}").unwrap();
                got(meta.status, &object.body, head)
            }
        }
    }
}

/// What of a step was not as expected.
fn wrong(step: &Step<'_>, got: &Got) -> Option<String> {
    let from = match step.expect {
        "cached" if got.from == "cached" => true,
        "cached" => false,
        "not_cached" => got.from == "origin",
        "etag" => got.seen.contains("if-none-match: "),
        "lm" => got.seen.contains("if-modified-since: "),
        _ => true,
    };
    if !from {
        return Some(format!("comes from {}, not {}", got.from, step.expect));
    }
    for expected in &step.expected {
        let holds = if let Ok(status) = expected.parse::<u16>() {
            got.status == status
        } else if let Some(body) = expected.strip_prefix("body ") {
            got.body == body
        } else if let Some(name) = expected.strip_prefix('-') {
            !got.head
                .contains(&format!("{}: ", name.to_ascii_lowercase()))
        } else if let Some((name, least)) = expected.split_once(" > ") {
            let lines = got
                .head
                .lines()
                .find_map(|l| l.strip_prefix(&format!("{}: ", name.to_ascii_lowercase())));
            lines.is_some_and(|v| v.parse::<u64>().unwrap() > least.parse().unwrap())
        } else if let Some(line) = expected.strip_prefix("origin ") {
            let (name, value) = line.split_once(": ").unwrap();
            got.seen
                .contains(&format!("{}: {value}\n", name.to_ascii_lowercase()))
        } else {
            let (name, value) = expected.split_once(": ").unwrap();
            let value = value
                .strip_prefix('@')
                .map_or(value.to_owned(), |n| testing::date(n.parse().unwrap()));
            got.head
                .contains(&format!("{}: {value}\n", name.to_ascii_lowercase()))
        };
        if !holds {
            return Some(format!(
                "{expected}: {} {:?}\n{}origin saw: {}",
                got.status, got.body, got.head, got.seen
            ));
        }
    }
    None
}

fn steps(text: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    let mut part = ' ';
    for line in text.lines() {
        let rest = line.get(2..).unwrap_or_default();
        match line.chars().next() {
            Some('>') => {
                let (method, target) = rest.split_once(' ').unwrap();
                steps.push(Step {
                    method,
                    target,
                    status: Some(200),
                    ..Step::default()
                });
                part = '>';
            }
            Some('<') => {
                let step = steps.last_mut().unwrap();
                let (status, body) = rest
                    .split_once(' ')
                    .map_or((rest, None), |(s, b)| (s, Some(b)));
                (step.status, step.body) = (status.parse().ok(), body);
                part = '<';
            }
            Some('=') => {
                steps.last_mut().unwrap().expect = rest;
                part = '=';
            }
            Some('~') => steps.last_mut().unwrap().pause = true,
            Some(' ') => {
                let step = steps.last_mut().unwrap();
                let pair = || {
                    rest.split_once(':')
                        .map(|(n, v)| (n, v.strip_prefix(' ').unwrap_or(v)))
                        .unwrap()
                };
                match part {
                    '>' => step.ask.push(pair()),
                    '<' => step.answer.push(pair()),
                    _ => step.expected.push(rest),
                }
            }
            _ => {}
        }
    }
    steps
}

fn run(rule: &CacheRule, text: &str) -> Result<(), String> {
    let mut cache = Cache {
        rule,
        now_ms: NOW,
        objects: Vec::new(),
        before: Vec::new(),
    };
    for (nth, step) in steps(text).iter().enumerate() {
        let got = cache.serve(step);
        if let Some(wrong) = wrong(step, &got) {
            return Err(format!("request {}: {wrong}", nth + 1));
        }
        if step.pause {
            cache.now_ms += PAUSE_MS;
        }
    }
    Ok(())
}

/// Every scenario, in the profile that allows everything. A name that begins with `!` is one that is not as the suite wants it;
/// `docs/cache.md` says why.
#[test]
fn scenarios() {
    let mut wrong = String::new();
    for scenario in include_str!("suite.txt").split("\n# ").skip(1) {
        let (name, text) = scenario.split_once('\n').unwrap();
        match (run(&rfc9111(), text), name.strip_prefix('!')) {
            (Ok(()), None) | (Err(_), Some(_)) => {}
            (Ok(()), Some(name)) => writeln!(wrong, "{name} has come right").unwrap(),
            (Err(why), None) => writeln!(wrong, "{name}: {why}").unwrap(),
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
