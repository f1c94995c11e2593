//! The keys below a prefix in etcd, by its JSON gateway: read once, then watched from the next revision on.
//!
//! A conversation begins with everything, so that it does not matter what was missed, nor whether it is still the same
//! etcd. It is begun anew every few minutes, and when the revision that we watch from has been compacted away.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use narthex_config::model::{Secret, Server, ServerAddress};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

mod message;

use message::{Event, Everything, Watched};

use super::delta::{Delta, MAX_ENTRIES};
use super::http::{Api, Ask, Lines, MAX_ANSWER};
use super::names::Names;
use super::sink::{Sink, Skipped};
use narthex_message::base64;

/// Everything is read anew so often.
const RENEW: Duration = Duration::from_mins(5);
/// After being told: several changes come together.
const SETTLE: Duration = Duration::from_millis(20);
/// Changes that are taken together at most.
const TOGETHER: usize = 1_000;

/// A member of an etcd, and what is wanted of it.
pub(super) struct Store {
    api: Api,
    /// First key and the end of the range, in Base64.
    range: (String, String),
    login: Option<(String, Secret)>,
}

impl Store {
    pub(super) fn new(
        names: Rc<Names>,
        address: ServerAddress,
        prefix: &str,
        login: Option<(String, Secret)>,
    ) -> Self {
        Self {
            api: Api::new(names, address),
            range: (
                base64::encode(prefix.as_bytes()),
                base64::encode(&end(prefix)),
            ),
            login,
        }
    }

    /// Until it is time to begin anew. `Err`: the member, or our way to it, fails.
    pub(super) async fn follow(&self, sink: &mut Sink) -> Result<(), String> {
        let deadline = Instant::now() + RENEW;
        let token = self.token().await?;
        let all = self.read(token.as_deref()).await?;
        let mut left_out = Unusable::new(all.found.left_out);
        sink.left_out(left_out.all());
        sink.take(Delta::Snapshot(all.found.servers));

        let mut watch = self.watch(token.as_deref(), all.revision).await?;
        while let Ok(line) = timeout_at(deadline, watch.next()).await {
            let (events, goes_on) = together(&mut watch, line?).await?;
            let room = events.iter().any(|e| e.now.is_none());
            if !events.is_empty() {
                let changes = left_out.take(events);
                sink.left_out(left_out.all());
                sink.take(Delta::Changes(changes));
            }
            // Some that were left out may come in now.
            if !goes_on || (room && all.cut > 0) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// For who has to log in. It ends by itself when it is not used, so each conversation gets one of its own.
    async fn token(&self) -> Result<Option<String>, String> {
        let Some((user, password)) = &self.login else {
            return Ok(None);
        };
        let login = json!({ "name": user, "password": password.expose() });
        let ask = Ask::post("/v3/auth/authenticate", login.to_string());
        let answer = self.api.whole(ask, Duration::ZERO).await;
        // What is said of a wrong login is not ours: it may have the password in it.
        let answer = answer.map_err(|why| why.replace(password.expose(), password.reference()))?;
        message::token(&answer.body).map(Some)
    }

    async fn read(&self, token: Option<&str>) -> Result<Everything, String> {
        let (key, range_end) = &self.range;
        let range = json!({ "key": key, "range_end": range_end, "limit": MAX_ENTRIES });
        let ask = with(token, Ask::post("/v3/kv/range", range.to_string()));
        message::everything(&self.api.whole(ask, Duration::ZERO).await?.body)
    }

    async fn watch(&self, token: Option<&str>, revision: u64) -> Result<Lines, String> {
        let (key, range_end) = &self.range;
        let from = revision.saturating_add(1).to_string();
        let watch = json!({ "create_request": { "key": key, "range_end": range_end, "start_revision": from } });
        let ask = with(token, Ask::post("/v3/watch", watch.to_string()));
        // A member that is cut off from the others ends the watch, rather than to keep silent.
        let ask = ask.field("grpc-metadata-hasleader", "true");
        self.api.lines(ask, MAX_ANSWER).await
    }
}

fn with(token: Option<&str>, ask: Ask) -> Ask {
    match token {
        Some(token) => ask.field("authorization", token),
        None => ask,
    }
}

/// This line, and those that come soon after it. False: the watch is over, and what it has missed is not known.
async fn together(watch: &mut Lines, first: Option<Vec<u8>>) -> Result<(Vec<Event>, bool), String> {
    let settled = Instant::now() + SETTLE;
    let (mut line, mut events) = (first, Vec::new());
    loop {
        match message::watched(&line.ok_or("the watch has ended")?)? {
            Watched::Events(more) => events.extend(more),
            Watched::Compacted => return Ok((events, false)),
        }
        if events.len() >= TOGETHER {
            return Ok((events, true));
        }
        match timeout_at(settled, watch.next()).await {
            Ok(next) => line = next?,
            Err(_) => return Ok((events, true)),
        }
    }
}

/// The end of the range of keys that begin with this, which is text: no byte of it is the last one there is.
fn end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

/// The keys whose values are no servers, by key.
struct Unusable(BTreeMap<String, Skipped>);

impl Unusable {
    fn new(all: Vec<Skipped>) -> Self {
        Self(all.into_iter().map(|s| (s.entry.clone(), s)).collect())
    }

    fn all(&self) -> Vec<Skipped> {
        self.0.values().cloned().collect()
    }

    /// Notes who is and who is no longer unusable; what was a server before is none any more.
    fn take(&mut self, events: Vec<Event>) -> Vec<(String, Option<Server>)> {
        let change = |Event { key, now }| match now {
            Some(Err(skipped)) => {
                if self.0.len() < MAX_ENTRIES {
                    self.0.insert(key.clone(), skipped);
                }
                (key, None)
            }
            Some(Ok(server)) => {
                self.0.remove(&key);
                (key, Some(server))
            }
            None => {
                self.0.remove(&key);
                (key, None)
            }
        };
        events.into_iter().map(change).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_a_prefix_ends_behind_it() {
        assert_eq!(end("/a/"), b"/a0");
        assert_eq!(end("\u{7f}"), b"\x80");
        assert_eq!(end("\u{10ffff}"), b"\xf4\x8f\xbf\xc0");
    }
}
