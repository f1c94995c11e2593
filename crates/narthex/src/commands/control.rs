//! `narthex reload`, `narthex upgrade` and `narthex status`: questions to the running process.

use narthex_engine::Source;
use serde_json::Value;

use crate::args::{ReloadArgs, StatusArgs, UpgradeArgs};
use crate::client::{Answer, ask, places};
use crate::exit::{Exit, complain, say, show};

const JSON: &str = "application/json";

/// Makes the running process read its files again.
pub fn reload(args: &ReloadArgs) -> Exit {
    if let Some(path) = &args.config {
        // The process that runs would refuse it, and a file with problems does not say where that process is.
        let outcome = Source::File(path.clone()).examine();
        if outcome.config.is_none() {
            show(&outcome.human);
            complain("reload refused; the old configuration serves on");
            return Exit::No;
        }
    }
    let places = places(&args.admin, args.config.as_deref());
    let answer = match ask(&places, "POST", "/reload", JSON, Some("{}")) {
        Ok(answer) => answer,
        Err(why) => return unanswered(&why),
    };
    if args.json {
        say(&answer.body);
        return if answer.status == 200 {
            Exit::Ok
        } else {
            Exit::No
        };
    }
    match answer.status {
        200 => {
            say(reloaded(&answer));
            Exit::Ok
        }
        422 => {
            show(&field(&answer, "text"));
            complain("reload refused; the old configuration serves on");
            Exit::No
        }
        _ => {
            complain(field(&answer, "error"));
            Exit::No
        }
    }
}

/// `reloaded in 12 ms`, what changed, and the warnings.
fn reloaded(answer: &Answer) -> String {
    let value: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let report = value.get("report");
    let milliseconds = report
        .and_then(|r| r.get("milliseconds"))
        .and_then(Value::as_u64)
        .unwrap_or_default();
    let warnings = report
        .and_then(|r| r.get("warnings"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let changes = field(answer, "text");
    let line_break = if changes.lines().count() > 1 || changes.starts_with(' ') {
        "\n"
    } else {
        " "
    };
    format!("reloaded in {milliseconds} ms:{line_break}{changes}{warnings}")
}

/// Lets the installed program take over.
pub fn upgrade(args: &UpgradeArgs) -> Exit {
    let places = places(&args.admin, args.config.as_deref());
    let question = format!("{{\"timeout_seconds\": {}}}", args.timeout);
    let answer = match ask(&places, "POST", "/upgrade", JSON, Some(&question)) {
        Ok(answer) => answer,
        Err(why) => return unanswered(&why),
    };
    let done = answer.status == 200;
    if args.json {
        say(&answer.body);
    } else if done {
        say(field(&answer, "text"));
    } else {
        complain(field(&answer, "error"));
        complain("rolled back or refused; the running process serves on");
    }
    if done { Exit::Ok } else { Exit::No }
}

/// How the running process is.
pub fn status(args: &StatusArgs) -> Exit {
    let places = places(&args.admin, args.config.as_deref());
    let accept = if args.json { JSON } else { "text/plain" };
    match ask(&places, "GET", "/status", accept, None) {
        Ok(answer) if answer.status == 200 => {
            say(&answer.body);
            match ask(&places, "GET", "/health/ready", accept, None) {
                Ok(ready) if ready.status == 200 => Exit::Ok,
                _ => Exit::No,
            }
        }
        Ok(answer) => {
            complain(field(&answer, "error"));
            Exit::No
        }
        Err(why) => unanswered(&why),
    }
}

/// Nobody answers.
pub fn unanswered(why: &str) -> Exit {
    complain(why);
    Exit::Usage
}

/// A text of a JSON answer; the whole answer if it is something else.
pub fn field(answer: &Answer, name: &str) -> String {
    let value: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    match value.get(name).and_then(Value::as_str) {
        Some(text) => text.to_owned(),
        None => format!("status {}: {}", answer.status, answer.body.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_tells_what_changed() {
        let body = r#"{"text":"  sites      + b\n","report":{"milliseconds":7,"warnings":""}}"#;
        let answer = Answer {
            status: 200,
            body: body.to_owned(),
        };
        assert_eq!(reloaded(&answer), "reloaded in 7 ms:\n  sites      + b\n");
        let answer = Answer {
            status: 200,
            body: r#"{"text":"nothing changed\n"}"#.to_owned(),
        };
        assert_eq!(reloaded(&answer), "reloaded in 0 ms: nothing changed\n");
    }

    #[test]
    fn an_answer_in_no_json_is_shown_as_it_is() {
        let answer = Answer {
            status: 502,
            body: "oops\n".to_owned(),
        };
        assert_eq!(field(&answer, "error"), "status 502: oops");
    }
}
