//! Whom the checker asks what, for whom: a *subject* is one question to one address, whoever wants to know.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use narthex_config::model::{HealthCheck, ServerAddress};
use narthex_net::dial::{DialOptions, Target};
use narthex_net::stream::Stream;

use super::judge::Asker;
use super::probe::{Asked, Question};
use super::schedule::{CheckId, Ids, Schedule, varied};
use crate::clock::millis;
use crate::cluster::{Cluster, Settings};
use crate::encryption::{self, Encryption};
use crate::endpoint::Endpoint;

/// No check runs more often, in milliseconds.
const INTERVAL_MIN_MS: u64 = 10;
/// A kept connection is renewed when it is as old as this, in milliseconds, a quarter more or less: a server must accept, too.
pub(super) const KEPT_FOR_MS: u64 = 60_000;
/// First questions that come together: so many in a millisecond, so that a start with many servers is no burst.
const FIRST_PER_MS: u64 = 10;

/// What makes two questions the same.
pub(super) struct Key {
    pub(super) target: Target,
    /// What `Host` says where the configuration does not say it.
    host: String,
    pub(super) dial: DialOptions,
    proxy_protocol: Option<u8>,
    health: HealthCheck,
    /// How it is asked in secret, and the name that the server must prove.
    pub(super) encryption: Option<(Encryption, String)>,
}

impl Key {
    fn new(endpoint: &Endpoint, settings: &Settings, health: &HealthCheck) -> Self {
        let mut target = endpoint.target().clone();
        if let (Target::Tcp(address), Some(port)) = (&mut target, health.port) {
            address.set_port(port);
        }
        Self {
            target,
            host: host_of(endpoint),
            // A connection that is asked all the time, and closed when no answer comes, needs no watch of the kernel's.
            dial: DialOptions {
                source: settings.dial.source,
                mark: settings.dial.mark,
                ..DialOptions::default()
            },
            proxy_protocol: settings.proxy_protocol,
            health: health.clone(),
            encryption: settings
                .encryption
                .clone()
                .map(|e| (e, encryption::name_of(endpoint))),
        }
    }

    pub(super) fn health(&self) -> &HealthCheck {
        &self.health
    }

    /// All but how often somebody wants to hear it before he believes it.
    fn parts(&self) -> impl Hash + Eq + '_ {
        let health = &self.health;
        (
            (&self.target, &self.host, &health.probe, health.reuse),
            (health.interval, health.recovery, health.timeout),
            (&self.dial, self.proxy_protocol),
            self.encryption.as_ref().map(|(e, name)| (e.id(), name)),
        )
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

/// The server's name in the configuration.
fn host_of(endpoint: &Endpoint) -> String {
    match &endpoint.identity().address {
        ServerAddress::Ip(address) => address.to_string(),
        ServerAddress::Dns { host, port } => format!("{host}:{port}"),
        ServerAddress::Srv { name, .. } => name.clone(),
        ServerAddress::Unix(_) => "localhost".to_owned(),
    }
}

struct Subject {
    key: Rc<Key>,
    question: Rc<Result<Question, String>>,
    askers: Vec<Asker>,
    kept: Option<Stream>,
    /// It has a place among the kept connections. The place stays its own while it is asked: else those that must connect
    /// would take it meanwhile, and nobody would keep anything for long.
    has_place: bool,
    /// When the present connection is to be renewed.
    renew_at: u64,
    /// It is being asked now.
    asking: bool,
    asked_at: u64,
}

/// One check, to be made.
pub(super) struct Errand {
    pub(super) id: CheckId,
    pub(super) key: Rc<Key>,
    pub(super) question: Rc<Result<Question, String>>,
    pub(super) kept: Option<Stream>,
    /// It may take as long as it may.
    pub(super) doubtful: bool,
}

/// Everybody who is asked.
pub(super) struct Subjects {
    /// When servers are asked that are well.
    pub(super) well: Schedule,
    /// When the others are.
    pub(super) doubtful: Schedule,
    by_id: HashMap<CheckId, Subject, Ids>,
    by_key: HashMap<Rc<Key>, CheckId>,
    /// By cluster, then by endpoint.
    clusters: HashMap<u64, HashMap<u64, CheckId>>,
    /// Places taken by kept connections, and how many there are.
    kept: usize,
    pub(super) kept_max: usize,
    kept_for: u64,
    last_id: CheckId,
    /// First questions placed, and since when.
    first: (u64, u64),
}

impl Subjects {
    /// `kept_for`: so long a connection is kept, in milliseconds, a quarter more or less.
    pub(super) fn new(kept_max: usize, kept_for: u64) -> Self {
        Self {
            well: Schedule::default(),
            doubtful: Schedule::default(),
            by_id: HashMap::default(),
            by_key: HashMap::new(),
            clusters: HashMap::new(),
            kept: 0,
            kept_max,
            kept_for,
            last_id: 0,
            first: (0, 0),
        }
    }

    /// Lets go of clusters that are not among these.
    pub(super) fn keep_only(&mut self, clusters: &[Arc<Cluster>], now: u64) {
        let known: HashSet<u64> = clusters.iter().map(|c| c.id()).collect();
        let gone: Vec<u64> = self.clusters.keys().copied().collect();
        for id in gone.into_iter().filter(|id| !known.contains(id)) {
            self.follow(id, None, now);
        }
    }

    /// Brings what is asked for one cluster to what it wants: work in proportion to its own servers.
    pub(super) fn follow(&mut self, id: u64, cluster: Option<Arc<Cluster>>, now: u64) {
        let cluster = cluster.filter(|c| !c.is_retired());
        let settings = cluster.as_ref().map(|c| c.settings());
        let health = settings.as_ref().and_then(|s| s.health.as_ref());
        let mut before = self.clusters.remove(&id).unwrap_or_default();
        let mut after = HashMap::new();
        if let (Some(cluster), Some(settings), Some(health)) = (&cluster, &settings, health) {
            for member in &cluster.set().members {
                let endpoint = &member.endpoint;
                let key = Key::new(endpoint, settings, health);
                let old = before.remove(&endpoint.id());
                let asker = old.and_then(|old| self.leave(old, id, endpoint.id(), Some(&key)));
                let asker = asker.unwrap_or_else(|| Asker::new(cluster, endpoint));
                let subject = self.join(key, asker.with(health), now);
                after.insert(endpoint.id(), subject);
            }
        }
        for (endpoint, subject) in before {
            if let Some(asker) = self.leave(subject, id, endpoint, None) {
                asker.end();
            }
        }
        if !after.is_empty() {
            self.clusters.insert(id, after);
        }
    }

    /// Takes an asker out; a subject that nobody asks about any more goes, unless it is `staying`.
    fn leave(
        &mut self,
        subject: CheckId,
        cluster: u64,
        endpoint: u64,
        staying: Option<&Key>,
    ) -> Option<Asker> {
        let known = self.by_id.get_mut(&subject)?;
        let at = known.askers.iter().position(|a| a.is(cluster, endpoint))?;
        let asker = known.askers.swap_remove(at);
        if known.askers.is_empty() && staying != Some(&known.key) {
            self.well.remove(subject);
            self.doubtful.remove(subject);
            if let Some(gone) = self.by_id.remove(&subject) {
                self.kept -= usize::from(gone.has_place);
                self.by_key.remove(&gone.key);
            }
        }
        Some(asker)
    }

    fn join(&mut self, key: Key, asker: Asker, now: u64) -> CheckId {
        if let Some(id) = self.by_key.get(&key)
            && let Some(subject) = self.by_id.get_mut(id)
        {
            subject.askers.push(asker);
            return *id;
        }
        self.last_id += 1;
        let id = self.last_id;
        let health = &key.health;
        let question = Question::new(&health.probe, &key.host, key.proxy_protocol, health.reuse);
        let at = self.first_question(now, interval(&key));
        let key = Rc::new(key);
        self.by_key.insert(Rc::clone(&key), id);
        let subject = Subject {
            key,
            question: Rc::new(question),
            askers: vec![asker],
            kept: None,
            has_place: false,
            renew_at: 0,
            asking: false,
            asked_at: 0,
        };
        self.by_id.insert(id, subject);
        self.well.put(id, at);
        id
    }

    /// When a new subject is asked first: at once, and many of them one after the other, within an interval.
    fn first_question(&mut self, now: u64, interval: u64) -> u64 {
        let (count, since) = &mut self.first;
        if now.saturating_sub(*since) > *count / FIRST_PER_MS {
            (*count, *since) = (0, now);
        }
        *count += 1;
        since.saturating_add((*count / FIRST_PER_MS) % interval)
    }

    /// How far the calendar is behind, in milliseconds.
    pub(super) fn late(&self, now: u64) -> u64 {
        let next = [self.well.next(), self.doubtful.next()];
        let oldest = next.into_iter().flatten().min();
        oldest.map_or(0, |at| now.saturating_sub(at))
    }

    /// What there is to do for a subject that is due.
    pub(super) fn begin(&mut self, id: CheckId, now: u64) -> Option<Errand> {
        let subject = self.by_id.get_mut(&id)?;
        subject.asking = true;
        subject.asked_at = now;
        let kept = subject.kept.take().filter(|_| now < subject.renew_at);
        Some(Errand {
            id,
            key: Rc::clone(&subject.key),
            question: Rc::clone(&subject.question),
            kept,
            doubtful: !subject.is_well(),
        })
    }

    /// A check has ended: what it says, and when the next one is; `random` varies the pauses. Says whether somebody is to be
    /// asked earlier than was planned.
    pub(super) fn ended(&mut self, id: CheckId, asked: Asked, now: u64, random: u64) -> bool {
        let Some(subject) = self.by_id.get_mut(&id) else {
            // Nobody wants to know any more.
            return false;
        };
        subject.asking = false;
        let mut returning = Vec::new();
        for asker in &mut subject.askers {
            let verdict = asked.verdict.as_ref().copied();
            let checks = &asker.cluster.checks;
            if verdict.is_ok() {
                &checks.good
            } else {
                &checks.bad
            }
            .fetch_add(1, Ordering::Relaxed);
            if let Some(successes) = asker.note(verdict) {
                returning.push((asker.cluster.id(), successes));
            }
        }
        let well = subject.is_well();
        let others = self.kept - usize::from(subject.has_place);
        subject.kept = asked.keep.filter(|_| well && others < self.kept_max);
        subject.has_place = subject.kept.is_some();
        self.kept = others + usize::from(subject.has_place);
        if asked.fresh {
            // Those that were connected together are not renewed together.
            subject.renew_at =
                now.saturating_add(varied(self.kept_for, 4, random.rotate_right(32)));
        }
        // A first check is as early as can be, and the first word of a server that has not answered well yet comes soon.
        let pause = if well {
            interval(&subject.key)
        } else {
            recovery(&subject.key)
        };
        let at = now.saturating_add(varied(pause, 10, random));
        let earlier = {
            let (calendar, other) = if well {
                (&mut self.well, &mut self.doubtful)
            } else {
                (&mut self.doubtful, &mut self.well)
            };
            let earlier = calendar.next().is_none_or(|next| at < next);
            other.remove(id);
            calendar.put(id, at);
            earlier
        };
        let mut hurried = false;
        for (cluster, successes) in returning {
            hurried |= self.hurry(cluster, successes, now);
        }
        earlier || hurried
    }

    /// A server of this cluster that was down has answered well so many times: those that are behind it are asked now, so
    /// that all come back together and the first does not carry what belongs to all.
    fn hurry(&mut self, cluster: u64, successes: u32, now: u64) -> bool {
        let mut hurried = false;
        for id in self
            .clusters
            .get(&cluster)
            .into_iter()
            .flat_map(HashMap::values)
        {
            let Some(subject) = self.by_id.get(id) else {
                continue;
            };
            let behind = subject
                .askers
                .iter()
                .any(|a| a.is_behind(cluster, successes));
            // Not more often than twice as often as it is anyway.
            let pause = recovery(&subject.key) / 2;
            if behind && !subject.asking && now >= subject.asked_at.saturating_add(pause) {
                hurried |= self.doubtful.soon(*id, now);
            }
        }
        hurried
    }
}

impl Subject {
    fn is_well(&self) -> bool {
        self.askers.iter().all(Asker::is_well)
    }
}

fn interval(key: &Key) -> u64 {
    millis(key.health.interval).max(INTERVAL_MIN_MS)
}

fn recovery(key: &Key) -> u64 {
    millis(key.health.recovery).clamp(INTERVAL_MIN_MS, interval(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Active;
    use crate::fleet::Fleet;
    use crate::health::tally::Failure;
    use crate::testkit::upstream;

    /// Makes pauses of 500 and 2,000 ms neither shorter nor longer.
    const EVEN: u64 = 20_250;

    /// An upstream that is asked about on a clock of our own.
    struct Room {
        subjects: Subjects,
        cluster: Arc<Cluster>,
    }

    impl Room {
        fn new(servers: u8) -> Self {
            let mut config = upstream("u", (1..=servers).map(|n| ([127, 0, 0, n], 80).into()));
            config.health = Some(HealthCheck::new("/"));
            let cluster = Fleet::new(1).reconcile(&[config]).remove(0);
            let mut subjects = Subjects::new(9, KEPT_FOR_MS);
            subjects.follow(cluster.id(), Some(Arc::clone(&cluster)), 0);
            Self { subjects, cluster }
        }

        /// Who is due, by number.
        fn due(&mut self, now: u64) -> Vec<CheckId> {
            let mut due = Vec::new();
            self.subjects.well.due(now, usize::MAX, &mut due);
            self.subjects.doubtful.due(now, usize::MAX, &mut due);
            due
        }

        fn answer(&mut self, id: CheckId, now: u64, good: bool) {
            assert!(self.subjects.begin(id, now).is_some());
            let asked = Asked {
                verdict: if good {
                    Ok(())
                } else {
                    Err(Failure::Unwell(String::new()))
                },
                keep: None,
                fresh: true,
            };
            self.subjects.ended(id, asked, now, EVEN);
        }

        fn all_are(&self, active: Active) -> bool {
            let set = self.cluster.set();
            set.members.iter().all(|m| m.endpoint.active() == active)
        }
    }

    /// Asks all of them until they are down; the last answers came at the time that is said.
    fn all_down(room: &mut Room) -> u64 {
        for now in (0..=1_000).step_by(500) {
            for id in room.due(now) {
                room.answer(id, now, false);
            }
        }
        assert!(room.all_are(Active::Unwell));
        1_000
    }

    #[test]
    fn an_unhealthy_server_is_asked_more_often() {
        let mut room = Room::new(1);
        let down = all_down(&mut room);
        assert!(room.due(down + 499).is_empty());
        assert_eq!(room.due(down + 500), [1]);
        room.answer(1, down + 500, true);
        assert_eq!(room.due(down + 1_000), [1]);
        room.answer(1, down + 1_000, true);
        assert!(room.all_are(Active::Up));
        assert!(room.due(down + 2_999).is_empty());
        assert_eq!(room.due(down + 3_000), [1]);
    }

    #[test]
    fn neighbours_come_back_together() {
        let mut room = Room::new(4);
        let down = all_down(&mut room);
        // The first is asked before the others are due, and answers well: they are due at once.
        let early = down + 300;
        room.subjects.doubtful.put(1, early);
        assert_eq!(room.due(early), [1]);
        room.answer(1, early, true);
        assert_eq!(room.due(early), [2, 3, 4]);
        for id in 2..=4 {
            room.answer(id, early, true);
        }
        assert!(room.due(early).is_empty(), "nobody is behind");
        // The same at its second good answer, and all are up in the same moment.
        let then = early + 300;
        room.subjects.doubtful.put(1, then);
        assert_eq!(room.due(then), [1]);
        room.answer(1, then, true);
        assert_eq!(room.due(then), [2, 3, 4]);
        for id in 2..=4 {
            room.answer(id, then, true);
        }
        assert!(room.all_are(Active::Up));
    }

    #[test]
    fn a_flapping_neighbour_does_not_hurry_the_others_without_end() {
        let mut room = Room::new(3);
        let down = all_down(&mut room);
        let mut asked = 0;
        // The first answers well and badly in turn; the others always badly.
        for now in down..down + 10_000 {
            for id in room.due(now) {
                room.answer(id, now, id == 1 && now / 500 % 2 == 0);
                asked += usize::from(id != 1);
            }
        }
        assert!(asked <= 2 * 2 * 20, "{asked} instead of 40");
    }

    #[test]
    fn first_questions_of_many_are_spread() {
        let mut subjects = Subjects::new(9, KEPT_FOR_MS);
        let times: Vec<u64> = (0..30_000)
            .map(|_| subjects.first_question(7, 2_000))
            .collect();
        assert_eq!(times.first(), Some(&7));
        assert!(times.iter().all(|at| (7..2_007).contains(at)));
        let at_once = times.iter().filter(|at| **at == 7).count();
        assert!(at_once <= 30, "{at_once}");
        assert_eq!(
            subjects.first_question(5_000, 2_000),
            5_000,
            "later: at once"
        );
    }

    #[test]
    fn a_reload_asks_nobody_earlier() {
        let mut room = Room::new(4);
        for id in room.due(0) {
            room.answer(id, 0, true);
        }
        let (id, cluster) = (room.cluster.id(), Arc::clone(&room.cluster));
        room.subjects.keep_only(&[Arc::clone(&cluster)], 1_000);
        room.subjects.follow(id, Some(cluster), 1_000);
        assert!(room.due(1_999).is_empty());
        assert_eq!(room.due(2_000).len(), 4);
    }

    #[test]
    fn nothing_is_left_of_what_nobody_asks() {
        let mut room = Room::new(5);
        let id = room.cluster.id();
        room.subjects.follow(id, None, 10);
        assert!(room.due(u64::MAX).is_empty());
        let subjects = &room.subjects;
        assert!(subjects.by_id.is_empty() && subjects.by_key.is_empty());
        assert!(subjects.clusters.is_empty());
        assert!(room.all_are(Active::Unchecked));
    }
}
