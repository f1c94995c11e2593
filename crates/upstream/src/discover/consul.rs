//! The passing instances of a service in a Consul catalogue, by blocking queries.
//!
//! A query with the index of the last answer is answered when something changes, or when its time is over. The rules for
//! that index are Consul's: one that goes backwards, or is zero, is no index to wait with.

use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::header::HeaderMap;
use narthex_config::model::{Secret, Server, ServerAddress};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::delta::Delta;
use super::http::{Api, Ask, encoded};
use super::names::Names;
use super::sink::{Sink, Skipped};
use super::source::{Found, place, server};

/// A query waits so long for a change. Consul adds up to a sixteenth.
const WAIT: Duration = Duration::from_mins(1);
/// How much later than that an answer may come, beside the usual patience.
const SLACK: Duration = Duration::from_secs(5);
/// From one query to the next, even if every one is answered at once.
const APART: Duration = Duration::from_millis(200);

/// An agent, and what is wanted of it.
pub(super) struct Agent {
    api: Api,
    query: String,
    token: Option<Secret>,
}

impl Agent {
    pub(super) fn new(
        names: Rc<Names>,
        address: ServerAddress,
        service: &str,
        tag: Option<String>,
        datacenter: Option<String>,
        token: Option<Secret>,
    ) -> Self {
        let mut query = format!("/v1/health/service/{}?passing=true", encoded(service));
        for (name, value) in [("tag", tag), ("dc", datacenter)] {
            if let Some(value) = value {
                query = format!("{query}&{name}={}", encoded(&value));
            }
        }
        Self {
            api: Api::new(names, address),
            query,
            token,
        }
    }

    /// Until the agent, or our way to it, fails.
    pub(super) async fn follow(&self, sink: &mut Sink) -> Result<(), String> {
        let mut index = Index::default();
        loop {
            let began = Instant::now();
            let answer = self.ask(index).await?;
            index = index.after(&answer.fields)?;
            let found = instances(&answer.body)?;
            if found.servers.is_empty() && is_filtered(&answer.fields) {
                return Err(
                    "the token may not see the instances: it needs service:read and node:read"
                        .to_owned(),
                );
            }
            sink.left_out(found.left_out);
            sink.take(Delta::Snapshot(found.servers));
            tokio::time::sleep(APART.saturating_sub(began.elapsed())).await;
        }
    }

    async fn ask(&self, index: Index) -> Result<super::http::Answer, String> {
        let (target, longer) = match index {
            Index(0) => (self.query.clone(), Duration::ZERO),
            Index(index) => {
                let wait = WAIT.as_secs();
                let longer = WAIT + WAIT / 16 + SLACK;
                (format!("{}&index={index}&wait={wait}s", self.query), longer)
            }
        };
        let mut ask = Ask::get(target);
        if let Some(token) = &self.token {
            ask = ask.field("x-consul-token", token.expose());
        }
        self.api
            .whole(ask, longer)
            .await
            .map_err(|why| self.without_token(why))
    }

    /// What an agent says of a wrong token may have that token in it.
    fn without_token(&self, why: String) -> String {
        match &self.token {
            Some(token) => why.replace(token.expose(), token.reference()),
            None => why,
        }
    }
}

/// What the last answer was; zero: there is none to wait with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Index(u64);

impl Index {
    fn after(self, fields: &HeaderMap) -> Result<Self, String> {
        let field = fields.get("x-consul-index").and_then(|v| v.to_str().ok());
        let index: u64 = field
            .and_then(|text| text.parse().ok())
            .ok_or("the answer has no X-Consul-Index: is this a Consul agent?")?;
        // Consul: reset when it goes backwards, e.g. when its state was restored. Zero would not wait: one is the least.
        Ok(if index < self.0 {
            Self(0)
        } else {
            Self(index.max(1))
        })
    }
}

/// The token hides something; an anonymous or outdated one hides everything, and the answer looks like a good one.
fn is_filtered(fields: &HeaderMap) -> bool {
    fields
        .get("x-consul-results-filtered-by-acls")
        .is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"true"))
}

#[derive(Debug, Deserialize)]
struct Instance {
    #[serde(rename = "Node")]
    node: Node,
    #[serde(rename = "Service")]
    service: Service,
}

#[derive(Debug, Deserialize)]
struct Node {
    #[serde(rename = "Node")]
    name: String,
    #[serde(rename = "Address", default)]
    address: String,
}

#[derive(Debug, Deserialize)]
struct Service {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Address", default)]
    address: String,
    #[serde(rename = "Port", default)]
    port: u64,
    #[serde(rename = "Weights", default)]
    weights: Option<Weights>,
}

#[derive(Debug, Deserialize)]
struct Weights {
    #[serde(rename = "Passing")]
    passing: u64,
}

/// What an answer says.
fn instances(body: &[u8]) -> Result<Found, String> {
    let list: Vec<Value> = serde_json::from_slice(body)
        .map_err(|error| format!("the list of instances is no JSON array: {error}"))?;
    let mut found = Found::default();
    for (index, instance) in list.into_iter().enumerate() {
        let invalid = |entry, why| Skipped {
            reason: "invalid",
            entry,
            why,
        };
        match Instance::deserialize(instance) {
            Ok(instance) => {
                let key = format!("{}/{}", instance.node.name, instance.service.id);
                let said = one(&instance).map_err(|why| invalid(key.clone(), why));
                found.say(key, said);
            }
            Err(error) => {
                let why = format!("this is no description of an instance: {error}");
                found
                    .left_out
                    .push(invalid(format!("instance {}", index + 1), why));
            }
        }
    }
    Ok(found)
}

fn one(instance: &Instance) -> Result<Server, String> {
    let host = match instance.service.address.as_str() {
        "" => &instance.node.address,
        own => own,
    };
    if host.is_empty() {
        return Err("neither the service nor its node has an address".to_owned());
    }
    if instance.service.port == 0 {
        return Err("the service is registered without a port".to_owned());
    }
    let mut properties = Map::new();
    if let Some(weights) = &instance.service.weights {
        properties.insert("weight".to_owned(), weights.passing.into());
    }
    server(place(host, instance.service.port), properties)
}

#[cfg(test)]
mod tests;
