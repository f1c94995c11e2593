//! `narthex upstream`: the servers of the running process, shown and changed.

use std::time::Duration;

use serde_json::{Value, json};

use crate::args::upstream::{ServerArgs, UpstreamArgs, UpstreamCommand};
use crate::client::Question;
use crate::commands::asking::{Asking, JSON, parsed};
use crate::commands::control::field;
use crate::commands::servers;
use crate::exit::{Exit, say};

/// Between two looks of `--watch`.
const WATCH: Duration = Duration::from_secs(1);
/// Between two looks of `--wait`.
const WAIT: Duration = Duration::from_millis(250);

/// Does it.
pub fn run(args: &UpstreamArgs) -> Exit {
    let asking = Asking::new(&args.whom);
    asking.run(&args.command).unwrap_or_else(|exit| exit)
}

impl Asking {
    fn run(&self, command: &UpstreamCommand) -> Result<Exit, Exit> {
        let order = |server: &ServerArgs, state| self.set(server, &json!({ "state": state }));
        match command {
            UpstreamCommand::List { upstream, watch } => self.list(upstream.as_deref(), *watch),
            UpstreamCommand::Add {
                upstream,
                address,
                weight,
                backup,
                priority,
                zone,
                state,
            } => {
                let mut body = json!({ "address": address, "backup": backup });
                if let Some(weight) = weight {
                    body["weight"] = json!(weight);
                }
                if let Some(priority) = priority {
                    body["priority"] = json!(priority);
                }
                if let Some(zone) = zone {
                    body["zone"] = json!(zone);
                }
                if let Some(state) = state {
                    body["state"] = json!(state.word());
                }
                let path = format!("/upstreams/{}/servers", encoded(upstream));
                self.change("POST", upstream, &path, Some(&body))
            }
            UpstreamCommand::Remove(server) => {
                self.change("DELETE", &server.upstream, &path_of(server), None)
            }
            UpstreamCommand::Weight { server, weight } => {
                self.set(server, &json!({ "weight": weight }))
            }
            UpstreamCommand::Drain {
                server,
                lasts,
                wait,
            } => {
                let mut body = json!({ "state": "drain" });
                if let Some(lasts) = lasts {
                    body["for"] = json!(lasts);
                }
                let exit = self.set(server, &body)?;
                if *wait { self.wait(server) } else { Ok(exit) }
            }
            UpstreamCommand::Undrain(server) => order(server, "ready"),
            UpstreamCommand::Down(server) => order(server, "down"),
            UpstreamCommand::Reset { upstream } => {
                let path = format!("/upstreams/{}/changes", encoded(upstream));
                self.change("DELETE", upstream, &path, None)
            }
            UpstreamCommand::Audit => self.audit(),
        }
    }

    fn list(&self, upstream: Option<&str>, watch: bool) -> Result<Exit, Exit> {
        loop {
            let answer = match upstream {
                Some(upstream) => self.get(&one(upstream))?,
                None => self.get("/upstreams")?,
            };
            if self.json {
                say(&answer.body);
            } else {
                let text = servers::table(&parsed(&answer));
                // Home, and clear what is below: the terminal shows the latest only.
                say(if watch {
                    format!("\x1b[H\x1b[J{text}")
                } else {
                    text
                });
            }
            if !watch {
                return Ok(Exit::Ok);
            }
            rest(WATCH);
        }
    }

    fn audit(&self) -> Result<Exit, Exit> {
        let answer = self.get("/audit")?;
        if self.json {
            say(&answer.body);
        } else {
            say(servers::audit(&parsed(&answer)));
        }
        Ok(Exit::Ok)
    }

    fn set(&self, server: &ServerArgs, body: &Value) -> Result<Exit, Exit> {
        self.change("PATCH", &server.upstream, &path_of(server), Some(body))
    }

    /// Looks, changes what was seen, and says what has changed.
    fn change(
        &self,
        method: &str,
        upstream: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Exit, Exit> {
        let tag = field(&self.get(&one(upstream))?, "tag");
        let body = body.map_or_else(|| "{}".to_owned(), Value::to_string);
        let answer = self.ask(&Question {
            method,
            path,
            accept: JSON,
            body: Some(&body),
            if_match: Some(&tag),
        })?;
        if self.json {
            say(&answer.body);
        } else {
            say(servers::changed(&parsed(&answer)));
        }
        Ok(Exit::Ok)
    }

    /// Returns when nothing is under way at the server.
    fn wait(&self, server: &ServerArgs) -> Result<Exit, Exit> {
        loop {
            let upstream = parsed(&self.get(&one(&server.upstream))?);
            if servers::under_way(&upstream, &server.server) == 0 {
                return Ok(Exit::Ok);
            }
            rest(WAIT);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the process is asked again and again: it tells nobody by itself"
)]
fn rest(time: Duration) {
    std::thread::sleep(time);
}

fn one(upstream: &str) -> String {
    format!("/upstreams/{}", encoded(upstream))
}

fn path_of(server: &ServerArgs) -> String {
    format!(
        "/upstreams/{}/servers/{}",
        encoded(&server.upstream),
        encoded(&server.server)
    )
}

/// One segment of a path (RFC 3986 3.3).
fn encoded(segment: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                out.push(char::from(byte));
            }
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_segment() {
        assert_eq!(encoded("10.0.0.1:80"), "10.0.0.1:80");
        assert_eq!(encoded("unix:/run/a b"), "unix:%2Frun%2Fa%20b");
        assert_eq!(encoded("[::1]:80,x"), "%5B::1%5D:80%2Cx");
    }
}
