//! A server that is written as a name: its addresses, or what its SRV records say, go into the upstream.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use narthex_config::model::ServerAddress;
use tokio::sync::{Notify, watch};

use super::follow::Task;
use super::hold::{AGAIN, Answer, Held, MISSING_MS};
use super::names::{Known, Names};
use super::sink::{Sink, Skipped};
use super::srv::{self, Place, Record};
use super::system::services;
use crate::clock::monotonic_ms;

/// Never returns while the name can be followed.
pub(super) async fn run(names: Rc<Names>, name: ServerAddress, sink: Sink) {
    match name {
        ServerAddress::Dns { host, port } => addresses(&names, &host, port, sink).await,
        ServerAddress::Srv { name, port } => Services::new(names, name, port, sink).run().await,
        ServerAddress::Ip(_) | ServerAddress::Unix(_) => {}
    }
}

async fn addresses(names: &Rc<Names>, host: &str, port: u16, mut sink: Sink) {
    let before: Vec<IpAddr> = sink.before().iter().map(|p| p.address.ip()).collect();
    let mut known = names.follow(host, &before);
    loop {
        let now = known.borrow_and_update().clone();
        if now.answered {
            plain(&mut sink, &now, port);
        }
        if known.changed().await.is_err() {
            return;
        }
    }
}

/// Every address at one port.
fn plain(sink: &mut Sink, now: &Known, port: u16) {
    let place = |ip: &IpAddr| Place::plain(SocketAddr::new(*ip, port));
    sink.left_out(cut(now.cut));
    sink.places(now.addresses.iter().map(place).collect());
    match &now.failing {
        Some(why) => sink.lost(why),
        None => sink.well(),
    }
}

fn cut(records: usize) -> Vec<Skipped> {
    let skipped = Skipped {
        reason: "too-many",
        entry: format!("{records} records"),
        why: "the answer has more records than are taken".to_owned(),
    };
    (records > 0).then_some(skipped).into_iter().collect()
}

/// A name that is followed, and who is told that it says something new.
struct Target {
    known: watch::Receiver<Known>,
    _bell: Task,
}

/// One name with SRV records.
struct Services {
    names: Rc<Names>,
    name: String,
    /// Port of the name's own addresses, while it has no records.
    port: Option<u16>,
    sink: Sink,
    records: Held<Record, { srv::RECORDS }>,
    targets: HashMap<String, Target>,
    /// A target says something new.
    bell: Rc<Notify>,
    failing: Option<String>,
    /// Another process has found servers: they stay until we have found them ourselves, or until then (monotonic ms).
    before: Option<u64>,
}

impl Services {
    fn new(names: Rc<Names>, name: String, port: Option<u16>, sink: Sink) -> Self {
        let before = (!sink.before().is_empty()).then(|| monotonic_ms().saturating_add(MISSING_MS));
        Self {
            names,
            name,
            port,
            before,
            sink,
            records: Held::default(),
            targets: HashMap::new(),
            bell: Rc::new(Notify::new()),
            failing: None,
        }
    }

    async fn run(mut self) {
        let names = Rc::clone(&self.names);
        loop {
            let pause = self.look().await;
            let pause = names.pause(pause);
            let mut pause = std::pin::pin!(pause);
            loop {
                self.tell();
                tokio::select! {
                    () = &mut pause => break,
                    () = self.bell.notified() => {}
                }
            }
        }
    }

    /// Asks for the records; says when to ask again.
    async fn look(&mut self) -> Duration {
        let (answer, why) = match self.names.resolver() {
            Some(resolver) => services(&resolver, &self.name).await,
            None => (
                Answer::Failed,
                Some("no name server is configured".to_owned()),
            ),
        };
        self.failing = match &answer {
            Answer::Found(..) => None,
            Answer::Failed | Answer::Empty | Answer::Missing => {
                Some(why.unwrap_or_else(|| "the name has no SRV record".to_owned()))
            }
        };
        let failed = answer == Answer::Failed;
        let pause = self.records.take(answer, monotonic_ms());
        // A name server that fails does not say that there are no records.
        let own = self.records.records().is_empty()
            && !failed
            && (self.before.is_none() || self.records.is_gone(monotonic_ms()));
        let mut wanted: Vec<String> = self
            .records
            .records()
            .iter()
            .filter(|r| srv::is_usable(r))
            .map(|r| r.target.clone())
            .collect();
        if self.port.is_some() && (own || self.is_standing_in()) {
            wanted.push(self.name.clone());
        }
        self.follow(wanted);
        match self.records.records() {
            // Somebody is waiting for them.
            [] => pause.min(AGAIN),
            _ if self.before.is_some() => pause.min(AGAIN),
            _ => pause,
        }
    }

    /// The name's own addresses are in use.
    fn is_standing_in(&self) -> bool {
        self.records.records().is_empty() && self.targets.contains_key(&self.name)
    }

    fn follow(&mut self, wanted: Vec<String>) {
        self.targets.retain(|host, _| wanted.contains(host));
        for host in wanted {
            let (names, bell) = (&self.names, &self.bell);
            self.targets.entry(host).or_insert_with_key(|host| {
                let known = names.follow(host, &[]);
                let (mut heard, bell) = (known.clone(), Rc::clone(bell));
                let ring = async move {
                    while heard.changed().await.is_ok() {
                        bell.notify_one();
                    }
                };
                Target {
                    known,
                    _bell: Task::spawn(ring),
                }
            });
        }
    }

    /// Hands over what records and targets say now, once there is something to say.
    fn tell(&mut self) {
        let known: HashMap<&str, Known> = self
            .targets
            .iter()
            .map(|(host, target)| (host.as_str(), target.known.borrow().clone()))
            .collect();
        if self.waits(&known) {
            let nowhere = known.values().find_map(|k| k.failing.clone());
            if let Some(why) = self.failing.clone().or(nowhere) {
                self.sink.lost(&why);
            }
            return;
        }
        self.before = None;
        if let (Some(port), true) = (self.port, self.is_standing_in()) {
            if let Some(own) = known.get(self.name.as_str()).filter(|k| k.answered) {
                plain(&mut self.sink, own, port);
            }
            return;
        }
        let records = self.records.records();
        let places = srv::places(records, |target| {
            known.get(target).map_or(&[], |k| &k.addresses)
        });
        let mut left_out = cut(self.records.cut());
        left_out.extend(records.iter().filter_map(|r| unusable(r, &known)));
        self.sink.left_out(left_out);
        self.sink.places(places);
        match &self.failing {
            Some(why) => self.sink.lost(why),
            // The first word is said when the targets have addresses, or are known to have none.
            None if known.values().all(|k| k.answered) => self.sink.well(),
            None => {}
        }
    }
}

impl Services {
    /// Is what another process has found better than what we have?
    fn waits(&self, known: &HashMap<&str, Known>) -> bool {
        let Some(until) = self.before else {
            return false;
        };
        let now = monotonic_ms();
        if known.is_empty() {
            // A failure holds for ever, and what does not exist is believed after a while.
            return !self.records.is_gone(now);
        }
        now < until && known.values().any(|k| k.addresses.is_empty())
    }
}

/// Why a record says no place.
fn unusable(record: &Record, known: &HashMap<&str, Known>) -> Option<Skipped> {
    let (reason, why) = if !srv::is_usable(record) {
        (
            "no-place",
            "the record says that nothing is there".to_owned(),
        )
    } else {
        let target = known.get(record.target.as_str())?;
        if !target.answered || !target.addresses.is_empty() {
            return None;
        }
        let why = target.failing.clone();
        ("no-address", why.unwrap_or_default())
    };
    Some(Skipped {
        reason,
        entry: format!("{}:{}", record.target, record.port),
        why,
    })
}
