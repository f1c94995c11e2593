//! A played Consul agent, from the published API: health of a service, blocking queries with `X-Consul-Index`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::sock::Sock;
use super::stand_in::{Asked, Shared, StandIn, answer};

/// What it does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Mood {
    /// As it should.
    #[default]
    Well,
    /// Closes connections.
    Dead,
    /// Has no leader: 500.
    Failing,
    /// Takes questions and says nothing.
    Silent,
    /// Answers this, with a good head.
    Says(String),
    /// Hides everything from the token, and says so as Consul does.
    Hiding,
}

struct State {
    index: u64,
    instances: Vec<Value>,
    mood: Mood,
}

/// A running agent.
pub struct Consul {
    address: SocketAddr,
    inside: StandIn<State>,
}

impl Consul {
    /// Without instances, at index 10.
    pub fn start() -> Self {
        let state = State {
            index: 10,
            instances: Vec::new(),
            mood: Mood::Well,
        };
        let (inside, address) = StandIn::tcp(state, serve);
        Self { address, inside }
    }

    /// Where it answers.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// These are the passing instances from now on.
    pub fn set(&self, instances: Vec<Value>) {
        self.inside.change(|state| {
            state.index += 1;
            state.instances = instances;
        });
    }

    /// Its state is another one: these instances, and this index, lower than before.
    pub fn restore(&self, index: u64, instances: Vec<Value>) {
        self.inside.change(|state| {
            state.index = index;
            state.instances = instances;
        });
    }

    /// What it does from now on, with questions that wait, too.
    pub fn mood(&self, mood: Mood) {
        let silent = mood == Mood::Silent;
        self.inside.change(|state| state.mood = mood);
        // Nobody can tell such a question from one for which nothing happens.
        if silent {
            self.inside.cut();
        }
    }

    /// Questions so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.inside.asked()
    }
}

/// An instance as `/v1/health/service` has it. With an empty address it has that of its node, 127.0.0.1.
pub fn instance(id: &str, address: &str, port: u16, weight: u32) -> Value {
    json!({
        "Node": { "ID": "40e4a748-2192-161a-0510-9bf59fe950b5", "Node": "n1", "Address": "127.0.0.1", "Datacenter": "dc1" },
        "Service": {
            "ID": id, "Service": "api", "Tags": ["v2"], "Address": address, "Port": port,
            "Weights": { "Passing": weight, "Warning": 1 }, "Meta": {}, "EnableTagOverride": false,
        },
        "Checks": [{ "Node": "n1", "CheckID": "serfHealth", "Status": "passing", "ServiceID": "" }],
    })
}

fn serve(shared: &Shared<State>, asked: &Asked, sock: &mut Sock) -> io::Result<()> {
    let index: Option<u64> = asked.query("index").and_then(|i| i.parse().ok());
    let state = match index {
        // A blocking query: until the index is another one, or its time is over.
        Some(index) => shared.when(Duration::from_mins(1), |s| {
            s.index != index || s.mood != Mood::Well
        }),
        None => shared.now(),
    };
    let (index, mood, instances) = (state.index, state.mood.clone(), state.instances.clone());
    drop(state);
    let fields = format!("X-Consul-Index: {index}\r\nX-Consul-Knownleader: true\r\n");
    match mood {
        Mood::Well => answer(sock, 200, &fields, &Value::Array(instances).to_string()),
        Mood::Dead => Ok(()),
        Mood::Failing => answer(sock, 500, "", "No cluster leader"),
        Mood::Silent => {
            drop(shared.when(Duration::from_mins(5), |s| s.mood != Mood::Silent));
            Ok(())
        }
        Mood::Says(body) => answer(sock, 200, &fields, &body),
        Mood::Hiding => {
            let fields = format!("{fields}X-Consul-Results-Filtered-By-ACLs: true\r\n");
            answer(sock, 200, &fields, "[]")
        }
    }
}
