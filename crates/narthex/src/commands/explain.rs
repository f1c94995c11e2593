//! `narthex explain`: asks the running process, or a file.

use narthex_engine::Source;
use narthex_engine::command::{ExplainRequest, Explanation};

use crate::args::ExplainArgs;
use crate::client::{ask, places};
use crate::commands::control::{field, unanswered};
use crate::exit::{Exit, complain, say, show};

/// Explains a request.
pub fn run(args: &ExplainArgs) -> Exit {
    let request = match request(args) {
        Ok(request) => request,
        Err(why) => {
            complain(why);
            return Exit::Usage;
        }
    };
    match &args.config {
        Some(path) => offline(Source::File(path.clone()), &request, args.json),
        None => online(args, &request),
    }
}

fn request(args: &ExplainArgs) -> Result<ExplainRequest, String> {
    let headers = args
        .headers
        .iter()
        .map(|line| header(line))
        .collect::<Result<_, _>>()?;
    Ok(ExplainRequest {
        method: args.method.clone(),
        url: args.url.clone(),
        headers,
        client: args.client,
        listener: args.listener.clone(),
    })
}

pub(super) fn header(line: &str) -> Result<(String, String), String> {
    match line.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err(format!(
            "\"{line}\" is no header line; write it as 'Name: value'"
        )),
    }
}

fn offline(source: Source, request: &ExplainRequest, json: bool) -> Exit {
    let outcome = source.examine();
    let Some(config) = outcome.config else {
        show(&outcome.human);
        return if outcome.readable {
            Exit::No
        } else {
            Exit::Usage
        };
    };
    match narthex_engine::explain::offline(config, request) {
        Ok(explanation) => told(&explanation, json),
        Err(why) => {
            complain(why);
            Exit::No
        }
    }
}

fn online(args: &ExplainArgs, request: &ExplainRequest) -> Exit {
    let body = match serde_json::to_string(request) {
        Ok(body) => body,
        Err(error) => return unanswered(&error.to_string()),
    };
    let places = places(&args.admin, None);
    match ask(&places, "POST", "/explain", "application/json", Some(&body)) {
        Ok(answer) if answer.status == 200 => {
            match serde_json::from_str::<Explanation>(&answer.body) {
                Ok(explanation) => told(&explanation, args.json),
                Err(_) => unanswered(
                    "the answer is not what this version expects; is the running process of another version?",
                ),
            }
        }
        Ok(answer) => {
            complain(field(&answer, "error"));
            Exit::No
        }
        Err(why) => unanswered(&format!("{why}\nor ask a file: --config narthex.kdl")),
    }
}

fn told(explanation: &Explanation, json: bool) -> Exit {
    if json {
        say(format!("{:#}\n", explanation.details));
    } else {
        say(&explanation.text);
    }
    Exit::Ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_lines_are_split_at_the_first_colon() {
        assert_eq!(
            header("X-A:  b:c ").unwrap(),
            ("X-A".to_owned(), "b:c".to_owned())
        );
        assert_eq!(header("X-A:").unwrap(), ("X-A".to_owned(), String::new()));
        assert!(header("X-A").is_err());
        assert!(header(": b").is_err());
    }
}
