//! Running a table of byte strings against the proxy and holding it to the model: the right answers, the connection
//! closed after a rejection, and at the origin exactly the requests that the model predicts.

use std::sync::atomic::{AtomicU64, Ordering};

use super::attack::{Client, End as ConnEnd, Transcript};
use super::canon::canonical_target;
use super::http::Fields;
use super::model::{self, End, Outcome};
use super::origin::Seen;
use super::rig::Rig;
use super::{PATIENCE, show};

/// An id that no other request has.
pub fn fresh_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("n{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What a row expects beyond the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Whatever the model says.
    Model,
    /// The model must say "reject", or the table itself is wrong.
    Reject,
    /// The model must accept everything.
    Accept,
}

/// Runs rows one after the other and collects every failure.
pub struct Table<'a> {
    rig: &'a Rig,
    failures: Vec<String>,
    rows: usize,
}

impl<'a> Table<'a> {
    /// An empty table.
    pub fn new(rig: &'a Rig) -> Self {
        rig.origin.take(0);
        Self {
            rig,
            failures: Vec::new(),
            rows: 0,
        }
    }

    /// A row that must be rejected.
    pub fn reject(&mut self, bytes: impl AsRef<[u8]>) {
        self.row(Want::Reject, bytes.as_ref());
    }

    /// A row that must pass.
    pub fn accept(&mut self, bytes: impl AsRef<[u8]>) {
        self.row(Want::Accept, bytes.as_ref());
    }

    /// A row judged by the model alone.
    pub fn judge(&mut self, bytes: impl AsRef<[u8]>) {
        self.row(Want::Model, bytes.as_ref());
    }

    /// Sends `bytes` on a new connection and compares.
    pub fn row(&mut self, want: Want, bytes: &[u8]) {
        self.rows += 1;
        let predicted = model::read(bytes);
        let rejects = matches!(predicted.end, End::Reject { .. });
        if (want == Want::Reject) != rejects && want != Want::Model {
            self.fail(
                bytes,
                &format!(
                    "THE TABLE IS WRONG: it wants {want:?}, the model says {:?}",
                    predicted.end
                ),
            );
            return;
        }
        let transcript = self.talk(bytes, &predicted);
        if let Err(why) = judge_answers(&transcript, &predicted) {
            self.fail(
                bytes,
                &format!(
                    "{why}; model: {:?}; answers {:?}",
                    predicted.end,
                    transcript.statuses()
                ),
            );
        }
        // What was answered by the origin has been recorded by it; the rest would come in vain or late.
        let answered = transcript
            .responses
            .iter()
            .filter(|r| r.status < 300)
            .count();
        let mut seen = self.rig.origin.take(predicted.requests.len().min(answered));
        // A cut attempt of an earlier row may have been recorded late.
        seen.retain(|s| {
            s.complete || s.garbage.is_some() || s.id().is_none_or(|id| mentions(bytes, &id))
        });
        if let Err(why) = judge_origin(&seen, &predicted) {
            self.fail(
                bytes,
                &format!(
                    "{why}; model: {:?}; answers {:?}",
                    predicted.end,
                    transcript.statuses()
                ),
            );
        }
    }

    fn talk(&self, bytes: &[u8], predicted: &Outcome) -> Transcript {
        let mut c = self.rig.connect();
        c.patience = PATIENCE / 3;
        c.send(bytes);
        // A rejection must end the connection by itself; everything else is ended by us.
        if !matches!(predicted.end, End::Reject { .. } | End::Closed) {
            c.half_close();
        }
        let names: Vec<String> = predicted
            .requests
            .iter()
            .map(|r| String::from_utf8_lossy(&r.method).into_owned())
            .collect();
        let mut methods: Vec<&str> = names.iter().map(String::as_str).collect();
        // A refused HEAD is one still: its answer has no content.
        if methods.is_empty()
            && bytes
                .strip_prefix(b"\r\n")
                .unwrap_or(bytes)
                .starts_with(b"HEAD ")
        {
            methods.push("HEAD");
        }
        c.read_all(&methods)
    }

    /// Records a failure of a row.
    pub fn fail(&mut self, bytes: &[u8], why: &str) {
        self.failures.push(format!("{}\n    {why}", show(bytes)));
    }

    /// The victim is still served, nothing came late, and no row failed.
    #[track_caller]
    pub fn finish(self) {
        self.rig.alive();
        let late: Vec<Seen> = self
            .rig
            .origin
            .take(1)
            .into_iter()
            .filter(|s| s.target != "/alive")
            .collect();
        assert!(
            late.is_empty(),
            "the origin saw requests that came late: {late:#?}"
        );
        let n = self.failures.len();
        let text = self
            .failures
            .into_iter()
            .take(
                std::env::var("NARTHEX_E2E_SHOW")
                    .ok()
                    .and_then(|v| v.parse().ok())
                    .unwrap_or(25),
            )
            .collect::<Vec<_>>()
            .join("\n  ");
        assert!(n == 0, "{n} of {} rows failed:\n  {text}", self.rows);
    }
}

/// Does the row hold this id?
fn mentions(bytes: &[u8], id: &str) -> bool {
    bytes.windows(id.len().max(1)).any(|w| w == id.as_bytes())
}

/// The answers: one 2xx for each accepted request, then what the end demands.
pub fn judge_answers(t: &Transcript, p: &Outcome) -> Result<(), String> {
    if let Some(f) = &t.fault {
        return Err(format!("unreadable answer: {f}"));
    }
    let accepted = p.requests.len();
    let early = t
        .responses
        .iter()
        .take(accepted)
        .position(|r| !(200..300).contains(&r.status));
    if early.is_some() || t.responses.len() < accepted {
        return Err(format!("expected {accepted} accepted requests"));
    }
    for (r, q) in t.responses.iter().zip(&p.requests) {
        let (sent, got) = (
            q.fields.get("x-id").unwrap_or_default(),
            r.fields.get("x-id").unwrap_or_default(),
        );
        if sent != got {
            return Err(format!(
                "an answer for {got:?} reached the sender of {sent:?}"
            ));
        }
    }
    let more: Vec<u16> = t.statuses().into_iter().skip(accepted).collect();
    match &p.end {
        End::Reject { status, .. } => {
            if more.len() != 1 || !status.contains(&more[0]) {
                return Err(format!(
                    "expected one rejection of {status:?}, got {more:?}"
                ));
            }
            if t.end == ConnEnd::Open {
                return Err("the connection stayed open after a rejection".to_owned());
            }
            if !t.responses.last().is_some_and(|r| r.says_close()) {
                return Err("the rejection lacks `Connection: close`".to_owned());
            }
        }
        End::Incomplete { .. } => {
            if more.len() > 1 || more.iter().any(|s| !matches!(s, 400 | 408)) {
                return Err(format!("an unfinished message was answered with {more:?}"));
            }
        }
        End::Clean | End::Closed => {
            if !more.is_empty() {
                return Err(format!("answers nobody asked for: {more:?}"));
            }
        }
    }
    if t.end == ConnEnd::Open {
        Err("the connection stayed open".to_owned())
    } else {
        Ok(())
    }
}

/// The smuggling rule at the origin.
pub fn judge_origin(seen: &[Seen], p: &Outcome) -> Result<(), String> {
    if let Some(g) = seen.iter().find_map(|s| s.garbage.as_ref()) {
        return Err(format!("the origin was sent garbage: {g}"));
    }
    let unfinished_ok = match p.end {
        End::Reject { in_body, .. } | End::Incomplete { in_body } => usize::from(in_body),
        End::Clean | End::Closed => 0,
    };
    let complete: Vec<&Seen> = seen.iter().filter(|s| s.complete).collect();
    let cut = seen.len() - complete.len();
    if cut > unfinished_ok {
        return Err(format!(
            "the origin got {cut} unfinished requests: {:?}",
            targets(seen)
        ));
    }
    if complete.len() != p.requests.len() {
        return Err(format!(
            "the origin saw {:?}, expected {} requests",
            targets(seen),
            p.requests.len()
        ));
    }
    for (s, q) in complete.iter().zip(&p.requests) {
        same_request(s, q)?;
    }
    Ok(())
}

fn targets(seen: &[Seen]) -> Vec<String> {
    seen.iter()
        .map(|s| {
            format!(
                "{} {} ({})",
                s.method,
                s.target,
                if s.complete { "whole" } else { "cut" }
            )
        })
        .collect()
}

/// Method, target, body and end-to-end fields arrived as sent.
pub fn same_request(s: &Seen, q: &model::Request) -> Result<(), String> {
    if s.method.as_bytes() != q.method {
        return Err(format!(
            "method {} instead of {}",
            s.method,
            show(&q.method)
        ));
    }
    let target = model::absolute(&q.target).map_or(q.target.as_slice(), |(_, rest)| rest);
    let target = if target.starts_with(b"/") || target == b"*" {
        target.to_vec()
    } else {
        [b"/", target].concat()
    };
    let target = if target == b"*" {
        target
    } else {
        canonical_target(&target).unwrap_or_default()
    };
    if s.target.as_bytes() != target {
        return Err(format!("target {} instead of {}", s.target, show(&target)));
    }
    if s.body != q.body {
        return Err(format!(
            "body {} instead of {}",
            show(&s.body),
            show(&q.body)
        ));
    }
    let (got, want) = (model::end_to_end(&s.fields), model::end_to_end(&q.fields));
    if got != want {
        return Err(format!(
            "fields {} instead of {}",
            show_fields(&got),
            show_fields(&want)
        ));
    }
    Ok(())
}

fn show_fields(f: &[(Vec<u8>, Vec<u8>)]) -> String {
    f.iter()
        .map(|(n, v)| format!("{}: {}", show(n), show(v)))
        .collect::<Vec<_>>()
        .join("; ")
}

/// Sends bytes on a new connection and returns everything that came back; half-closes when told.
pub fn exchange(rig: &Rig, bytes: impl AsRef<[u8]>, half_close: bool) -> Transcript {
    let mut c: Client = rig.connect();
    c.send(bytes);
    if half_close {
        c.half_close();
    }
    c.read_all(&[])
}

/// Fields from pairs, for building expectations.
pub fn fields(pairs: &[(&str, &str)]) -> Fields {
    Fields(
        pairs
            .iter()
            .map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec()))
            .collect(),
    )
}
