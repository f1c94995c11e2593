//! Certificates at the first handshake: whoever shakes hands asks for a name, and this task decides whether it may have one. The
//! [`keeper`](crate::keeper) then obtains it and renews it, as others.
//!
//! What is asked for is bounded everywhere (TL-11): who asks, how often, how many wait, how many names there are.

pub mod book;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::board::{Board, Entry, Owner};
use crate::http::Hook;
use crate::issue::now;
use crate::keeper::{Source, Wanted, places};
use crate::store::{Place, Storage, Store};
use book::{Book, Budget, Known, Refusal, is_name};

/// Time for an answer to whether a name is allowed.
const ASK_MAX: Duration = Duration::from_secs(5);
/// Questions under way.
const ASKS_MAX: usize = 32;
/// After one that failed nobody is asked for so long, in seconds.
const ASK_PAUSE: u64 = 1;
/// Handshakes that wait for one name, and those of one client.
const CALLERS_MAX: usize = 32;
const CLIENT_MAX: usize = 16;
/// How often it is looked for handshakes that have gone, and for what the store's owner has written.
const TICK: Duration = Duration::from_secs(1);
/// How often names are looked through, in seconds.
const REVIEW: u64 = 3_600;
/// The same refusal is told again after so many seconds.
const TELL: u64 = 60;

/// Which names a pattern means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// This one.
    Exact(String),
    /// All below it, of any number of labels.
    Below(String),
    /// All.
    Any,
}

impl Pattern {
    /// How well it fits; `None`: not at all.
    fn fit(&self, name: &str) -> Option<usize> {
        match self {
            Self::Exact(exact) => (exact == name).then_some(usize::MAX),
            Self::Below(zone) => {
                let rest = name.strip_suffix(zone.as_str())?;
                (rest.len() > 1 && rest.ends_with('.')).then_some(zone.len() + 1)
            }
            Self::Any => Some(0),
        }
    }
}

/// What the configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Sites whose certificates come on demand, and who issues them.
    pub sites: Vec<(Pattern, Source)>,
    /// Names that are allowed without asking.
    pub allowed: Vec<Pattern>,
    /// Who is asked: a URL; `domain=NAME` is added to its query, and 200 allows the name.
    pub ask: Option<String>,
    /// First certificates per hour.
    pub per_hour: u32,
    /// The same, for one client.
    pub per_client: u32,
}

impl Rules {
    /// Who issues this name's certificate; `None`: nobody, no site is there for it.
    pub fn source(&self, name: &str) -> Option<&Source> {
        let fitting = self
            .sites
            .iter()
            .filter_map(|(p, s)| Some((p.fit(name)?, s)));
        fitting
            .max_by_key(|(fit, _)| *fit)
            .map(|(_, source)| source)
    }

    fn allows(&self, name: &str) -> bool {
        self.allowed.iter().any(|p| p.fit(name).is_some())
    }

    /// May a name that was allowed once be so still, as far as the configuration goes?
    fn bears(&self, name: &str) -> bool {
        is_name(name) && self.source(name).is_some() && (self.allows(name) || self.ask.is_some())
    }

    fn question(&self, name: &str) -> Option<String> {
        let url = self.ask.as_deref()?.split('#').next()?;
        let join = match url.split_once('?') {
            None => "?",
            Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
            Some(_) => "&",
        };
        // A name that may be asked for has nothing in it that a URL would need to escape.
        Some(format!("{url}{join}domain={name}"))
    }
}

/// A handshake that waits.
pub trait Caller: Send + Sync {
    /// The certificate is served, or there will be none for now.
    fn answer(self: Box<Self>, came: bool);
    /// It does not wait any more.
    fn is_gone(&self) -> bool;
}

/// A name that a handshake asks for.
pub struct Demand {
    /// Lower case, no dot at the end.
    pub name: String,
    /// The client.
    pub client: Option<IpAddr>,
    /// Who waits.
    pub caller: Box<dyn Caller>,
}

/// What the task works with.
pub struct Links {
    /// Where the names are written down.
    pub storage: Arc<dyn Storage>,
    /// What has become of them.
    pub board: Arc<Board>,
    /// The keeper's way to hear of them.
    pub names: watch::Sender<Arc<Vec<Wanted>>>,
    /// When a name was used last, in seconds since 1970.
    pub used: Arc<dyn Fn(&str) -> u64 + Send + Sync>,
}

fn place() -> Place {
    Place::new("on-demand", "names")
}

/// The names that are written down and may have a certificate still, for a start that shows them from its first handshake on.
pub fn stored(storage: &dyn Storage, rules: &Rules) -> Vec<String> {
    let bytes = storage.load(&place()).ok().flatten();
    let names: BTreeMap<String, Known> = bytes
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    names.into_keys().filter(|name| rules.bears(name)).collect()
}

/// Runs until the sender of the rules is gone.
pub async fn run(
    links: Links,
    mut rules: watch::Receiver<Arc<Rules>>,
    demands: &mut mpsc::Receiver<Demand>,
) {
    let mut board = links.board.changes();
    let mut desk = Task {
        store: Store::new(Arc::clone(&links.storage)),
        links,
        rules: rules.borrow_and_update().clone(),
        book: Book::default(),
        loaded: false,
        others: false,
        waiting: HashMap::new(),
        asks: JoinSet::new(),
        hook: None,
        not_before: 0,
        review_at: 0,
        told: HashMap::new(),
    };
    desk.tick().await;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            changed = rules.changed() => {
                if changed.is_err() {
                    return;
                }
                desk.rules = rules.borrow_and_update().clone();
                desk.hook = None;
                desk.review_at = 0;
                desk.tick().await;
            }
            Some(demand) = demands.recv() => desk.demand(demand).await,
            Some(answer) = desk.asks.join_next() => {
                match answer {
                    Ok(answer) => desk.answered(answer).await,
                    Err(end) => tracing::error!("a question ended: {end}"),
                }
            }
            Ok(()) = board.changed() => desk.look(),
            _ = ticks.tick() => desk.tick().await,
        }
    }
}

/// Handshakes that wait for one name.
#[derive(Default)]
struct Wait {
    /// Somebody is being asked; else the certificate is being obtained.
    asking: bool,
    callers: Vec<(Option<IpAddr>, Box<dyn Caller>)>,
}

/// What came of a question.
struct Answer {
    name: String,
    /// Not for a handshake: may it keep its certificate?
    review: bool,
    yes: Result<bool, String>,
}

/// What becomes of a demand.
enum Step {
    Refuse(Refusal),
    Ready,
    Wait,
    Ask(String),
    Begin,
}

struct Task {
    links: Links,
    store: Store,
    rules: Arc<Rules>,
    book: Book,
    /// The names have been read.
    loaded: bool,
    /// The store was another process's when we looked last.
    others: bool,
    waiting: HashMap<String, Wait>,
    asks: JoinSet<Answer>,
    hook: Option<Arc<Hook>>,
    /// Nobody is asked before.
    not_before: u64,
    review_at: u64,
    /// When a refusal was told last.
    told: HashMap<&'static str, u64>,
}

impl Task {
    async fn demand(&mut self, demand: Demand) {
        let Demand {
            name,
            client,
            caller,
        } = demand;
        match self.decide(&name, client, now()) {
            Step::Refuse(why) => {
                self.refused(&name, why, None);
                caller.answer(false);
            }
            Step::Ready => caller.answer(true),
            Step::Wait => self.wait(&name, false, (client, caller)),
            Step::Ask(url) => {
                self.wait(&name, true, (client, caller));
                self.ask(name, url, false);
            }
            Step::Begin => {
                self.wait(&name, false, (client, caller));
                self.begin(&name, client).await;
            }
        }
    }

    fn wait(&mut self, name: &str, asking: bool, caller: (Option<IpAddr>, Box<dyn Caller>)) {
        let wait = self.waiting.entry(name.to_owned()).or_insert_with(|| Wait {
            asking,
            callers: Vec::new(),
        });
        wait.callers.push(caller);
    }

    fn decide(&mut self, name: &str, client: Option<IpAddr>, now: u64) -> Step {
        if !is_name(name) || self.rules.source(name).is_none() {
            return Step::Refuse(Refusal::BadName);
        }
        if !self.loaded {
            return Step::Refuse(Refusal::Failed);
        }
        let everybody = self.waiting.values().flat_map(|w| &w.callers);
        let own = everybody.filter(|(who, _)| who.is_some() && *who == client);
        if own.count() >= CLIENT_MAX {
            return Step::Refuse(Refusal::Busy);
        }
        if let Some(wait) = self.waiting.get(name) {
            return match wait.callers.len() {
                0..CALLERS_MAX => Step::Wait,
                _ => Step::Refuse(Refusal::Busy),
            };
        }
        if self.book.knows(name) {
            if !self.rules.bears(name) {
                return Step::Refuse(Refusal::NotAllowed);
            }
            self.book.note_use(name, now);
            return match outcome(self.links.board.get(name).as_ref(), now) {
                Some(true) => Step::Ready,
                Some(false) => Step::Refuse(Refusal::Failed),
                None => Step::Wait,
            };
        }
        if self.others || self.links.board.owner() == Owner::Other {
            return Step::Refuse(Refusal::Failed);
        }
        if self.rules.allows(name) {
            return Step::Begin;
        }
        let Some(url) = self.rules.question(name) else {
            return Step::Refuse(Refusal::NotAllowed);
        };
        match self.book.remembered(name, now) {
            Some(true) => Step::Begin,
            Some(false) => Step::Refuse(Refusal::NotAllowed),
            None if now < self.not_before => Step::Refuse(Refusal::AskFailed),
            None if self.asks.len() >= ASKS_MAX || !self.book.may_ask(client, now) => {
                Step::Refuse(Refusal::Busy)
            }
            None => Step::Ask(url),
        }
    }

    fn ask(&mut self, name: String, url: String, review: bool) {
        let hook = match &self.hook {
            Some(hook) => Ok(Arc::clone(hook)),
            None => Hook::new(&url).map(Arc::new),
        };
        if let Ok(hook) = &hook {
            self.hook = Some(Arc::clone(hook));
        }
        self.asks.spawn(async move {
            let asked = async { hook?.get(&url, ASK_MAX).await };
            let yes = match asked.await {
                Ok(200) => Ok(true),
                // It is in trouble itself; that is no answer.
                Ok(status @ (429 | 500..)) => Err(format!("answers {status}")),
                Ok(_) => Ok(false),
                Err(why) => Err(why),
            };
            Answer { name, review, yes }
        });
    }

    async fn answered(&mut self, answer: Answer) {
        let now = now();
        let Answer { name, review, yes } = answer;
        if review {
            match yes {
                Ok(true) => self.book.confirm(&name, now),
                Ok(false) if self.book.withdraw(&name, now) => {
                    tracing::info!(name, "not allowed any more, and not used: it goes");
                    self.drop_all(vec![name]).await;
                }
                Ok(false) | Err(_) => {}
            }
            return;
        }
        let client = self.waiting.get(&name);
        let client = client.and_then(|w| w.callers.first()).and_then(|c| c.0);
        match yes {
            Ok(true) => {
                self.book.answered(&name, client, true, now);
                self.begin(&name, client).await;
            }
            Ok(false) => {
                self.book.answered(&name, client, false, now);
                self.refuse(&name, Refusal::NotAllowed, None);
            }
            Err(why) => {
                self.not_before = now.saturating_add(ASK_PAUSE);
                self.refuse(&name, Refusal::AskFailed, Some(&why));
            }
        }
    }

    /// The name is allowed: it is taken in, written down, and obtained.
    async fn begin(&mut self, name: &str, client: Option<IpAddr>) {
        let budget = Budget {
            per_hour: self.rules.per_hour,
            per_client: self.rules.per_client,
        };
        let gone = match self.book.admit(name, client, budget, now()) {
            Ok(gone) => gone,
            Err(why) => return self.refuse(name, why, None),
        };
        // Before anybody acts on it: what is obtained and not known after a restart would be obtained again.
        if let Err(error) = self.save().await {
            self.book.remove(name);
            return self.refuse(name, Refusal::Failed, Some(&error));
        }
        if let Some(wait) = self.waiting.get_mut(name) {
            wait.asking = false;
        }
        tracing::info!(name, "a first handshake: its certificate is obtained");
        self.publish();
        if let Some(gone) = gone {
            tracing::info!(
                name = gone,
                "not used for long: it goes, others need the place"
            );
            self.forget_files(&[gone]).await;
        }
    }

    /// Answers those whose name has, or will not have, its certificate.
    fn look(&mut self) {
        let now = now();
        let board = &self.links.board;
        let done: Vec<(String, bool)> = self
            .waiting
            .iter()
            .filter(|(_, wait)| !wait.asking)
            .filter_map(|(name, _)| Some((name.clone(), outcome(board.get(name).as_ref(), now)?)))
            .collect();
        for (name, came) in done {
            if !came {
                self.refuse(&name, Refusal::Failed, None);
                continue;
            }
            self.links.board.count("obtained");
            for (_, caller) in self.waiting.remove(&name).unwrap_or_default().callers {
                caller.answer(true);
            }
        }
    }

    fn refuse(&mut self, name: &str, why: Refusal, more: Option<&str>) {
        self.refused(name, why, more);
        for (_, caller) in self.waiting.remove(name).unwrap_or_default().callers {
            caller.answer(false);
        }
    }

    /// Counts a refusal. What the operator should know is told, and not told again at once.
    fn refused(&mut self, name: &str, why: Refusal, more: Option<&str>) {
        self.links.board.count(why.word());
        let what = match why {
            Refusal::AskFailed => "whoever allows names does not answer",
            Refusal::Rate => {
                "`per-hour` of `on-demand` is spent: no more first certificates for now"
            }
            Refusal::ClientRate => "a client has spent its `per-client` of `on-demand`",
            Refusal::Full => "there are too many names on demand: one must go before another comes",
            Refusal::Failed if more.is_some() => "the names on demand cannot be written down",
            _ => return tracing::debug!(name, "no certificate on demand: {}", why.word()),
        };
        let now = now();
        let told = self.told.entry(what).or_default();
        if told.saturating_add(TELL) <= now {
            *told = now;
            let more = more.map(|m| format!(": {m}")).unwrap_or_default();
            tracing::warn!(name, "{what}{more}");
        }
    }

    async fn tick(&mut self) {
        self.waiting.retain(|_, wait| {
            wait.callers.retain(|(_, caller)| !caller.is_gone());
            // A question under way is answered; its name is looked up then.
            !wait.callers.is_empty() || wait.asking
        });
        // Once more when it has become ours: its owner may have written until its end.
        let others = self.links.board.owner() == Owner::Other;
        if !self.loaded || others || self.others {
            self.load().await;
        }
        self.others = others;
        // Who shakes hands with a name that was obtained does not come by here.
        self.look();
        let now = now();
        if self.loaded && now >= self.review_at {
            self.review_at = now.saturating_add(REVIEW);
            self.review(now).await;
        }
    }

    async fn load(&mut self) {
        let names = self.store.load_or_none::<BTreeMap<String, Known>>(place());
        match names.await {
            Ok(names) => {
                let names = names.unwrap_or_default();
                if !self.loaded {
                    self.book = Book::of(names, now());
                    self.loaded = true;
                } else if names != *self.book.names() {
                    self.book.follow(names);
                } else {
                    return;
                }
                self.publish();
            }
            Err(error) => {
                let now = now();
                let told = self.told.entry("load").or_default();
                if told.saturating_add(TELL) <= now {
                    *told = now;
                    tracing::error!("no certificate on demand can be obtained: {error}");
                }
            }
        }
    }

    /// Looks through the names: which may not stay, and whose permission is old.
    async fn review(&mut self, now: u64) {
        if self.links.board.owner() == Owner::Other {
            return;
        }
        let names: Vec<String> = self.book.names().keys().cloned().collect();
        for name in &names {
            self.book.note_use(name, (self.links.used)(name).min(now));
            if self.rules.allows(name) {
                self.book.confirm(name, now);
            }
        }
        let (rules, board) = (Arc::clone(&self.rules), Arc::clone(&self.links.board));
        // One that the configuration does not name any more may come back with the next reload: it is kept for a while.
        let serves =
            |name: &str| rules.bears(name) && board.get(name).is_some_and(|e| e.expires.is_some());
        let gone = self.book.forsake(now, serves);
        self.drop_all(gone).await;
        self.publish();
        for name in self.book.stale(now) {
            if self.asks.len() >= ASKS_MAX {
                // The others have their turn soon.
                self.review_at = now.saturating_add(TELL);
                break;
            }
            if let Some(url) = self.rules.question(&name) {
                self.ask(name, url, true);
            }
        }
        if !names.is_empty()
            && let Err(error) = self.save().await
        {
            tracing::error!("the names on demand cannot be written down: {error}");
        }
    }

    async fn drop_all(&mut self, gone: Vec<String>) {
        if gone.is_empty() {
            return;
        }
        for name in &gone {
            tracing::info!(name, "its certificate on demand goes");
        }
        if let Err(error) = self.save().await {
            tracing::error!("the names on demand cannot be written down: {error}");
        }
        self.publish();
        self.forget_files(&gone).await;
    }

    async fn forget_files(&self, gone: &[String]) {
        for place in gone.iter().flat_map(|name| places(name)) {
            if let Err(error) = self.store.remove(place).await {
                tracing::warn!("what a name on demand leaves behind stays: {error}");
            }
        }
    }

    async fn save(&self) -> Result<(), String> {
        let saved = self.store.save(place(), self.book.names()).await;
        saved.map_err(|error| error.to_string())
    }

    /// Tells the keeper.
    fn publish(&self) {
        let names = self.book.names().keys();
        let wanted: Vec<Wanted> = names
            .filter(|name| self.rules.bears(name))
            .filter_map(|name| {
                let source = self.rules.source(name)?.clone();
                Some(Wanted {
                    name: name.clone(),
                    source,
                })
            })
            .collect();
        self.links.names.send_if_modified(|now| {
            let differs = **now != wanted;
            if differs {
                *now = Arc::new(wanted);
            }
            differs
        });
    }
}

/// What has become of a name: it has its certificate, or the attempt has failed and there is a pause. `None`: not decided yet.
fn outcome(entry: Option<&Entry>, now: u64) -> Option<bool> {
    let entry = entry?;
    if entry.expires.is_some() {
        return Some(true);
    }
    (entry.failures > 0 && entry.next > now).then_some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        let internal = |p| (p, Source::Internal);
        let public = Source::Public {
            kinds: Vec::new(),
            contact: None,
        };
        Rules {
            sites: vec![
                internal(Pattern::Any),
                (Pattern::Below("a.example".into()), public),
                internal(Pattern::Exact("x.a.example".into())),
            ],
            allowed: vec![Pattern::Below("a.example".into())],
            ..Rules::default()
        }
    }

    #[test]
    fn the_most_exact_site_has_a_name() {
        let rules = rules();
        let public = |name| matches!(rules.source(name), Some(Source::Public { .. }));
        assert!(public("b.a.example") && public("c.b.a.example"));
        assert!(!public("x.a.example") && !public("a.example") && !public("ba.example"));
        assert!(rules.bears("b.a.example") && !rules.bears("b.example"));
        assert!(Rules::default().source("a.example").is_none());
    }

    #[test]
    fn the_question_is_a_query() {
        let mut rules = rules();
        assert_eq!(rules.question("n.a"), None);
        for (ask, url) in [
            ("http://h/a", "http://h/a?domain=n.a"),
            ("http://h/a?", "http://h/a?domain=n.a"),
            ("http://h/a?x=1", "http://h/a?x=1&domain=n.a"),
            ("http://h/a?x=1&#f", "http://h/a?x=1&domain=n.a"),
        ] {
            rules.ask = Some(ask.to_owned());
            assert_eq!(rules.question("n.a").as_deref(), Some(url));
        }
    }

    #[test]
    fn a_name_is_decided_by_its_certificate_or_by_a_pause() {
        let mut entry = Entry {
            next: 100,
            ..Entry::default()
        };
        assert_eq!(outcome(None, 50), None);
        assert_eq!(outcome(Some(&entry), 50), None);
        entry.failures = 1;
        assert_eq!(outcome(Some(&entry), 50), Some(false));
        // The next authority is asked at once.
        assert_eq!(outcome(Some(&entry), 100), None);
        entry.expires = Some(1);
        assert_eq!(outcome(Some(&entry), 50), Some(true));
    }
}
