//! Asking the running process for a family of commands.

use serde_json::Value;

use crate::args::{AdminArgs, WhomArgs};
use crate::client::{Answer, Place, Question, places, put};
use crate::commands::control::{field, unanswered};
use crate::exit::{Exit, complain, say};

pub(super) const JSON: &str = "application/json";

/// Whom to ask, and how to answer.
pub(super) struct Asking {
    places: Vec<Place>,
    pub(super) json: bool,
}

impl Asking {
    pub(super) fn new(whom: &WhomArgs) -> Self {
        let admin = AdminArgs {
            admin: whom.admin.clone(),
        };
        Self {
            places: places(&admin, whom.config.as_deref()),
            json: whom.json,
        }
    }

    /// What is at a path.
    pub(super) fn get(&self, path: &str) -> Result<Answer, Exit> {
        self.ask(&Question {
            method: "GET",
            path,
            accept: JSON,
            body: None,
            if_match: None,
        })
    }

    /// The answer, if it is a good one.
    pub(super) fn ask(&self, question: &Question<'_>) -> Result<Answer, Exit> {
        match put(&self.places, question) {
            Ok(answer) if answer.status == 200 => Ok(answer),
            Ok(answer) => {
                if self.json {
                    say(&answer.body);
                } else {
                    complain(field(&answer, "error"));
                }
                Err(Exit::No)
            }
            Err(why) => Err(unanswered(&why)),
        }
    }
}

/// The answer's JSON.
pub(super) fn parsed(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_default()
}
