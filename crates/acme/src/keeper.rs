//! Keeps a certificate for every name that wants one: loads what is stored, obtains what is missing, renews what is due.
//! One task; attempts run beside it, a few at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::authority::Authority;
use crate::board::{Board, Entry, Owner};
use crate::certificate::{Ready, Stored};
use crate::challenge::dns01::Writer;
use crate::challenge::{Answers, Kind};
use crate::internal;
use crate::issue::{self, Failure, Workshop, now};
use crate::renew::{self, Memory};
use crate::store::{Place, Storage, Store};

/// Attempts at once.
const ATTEMPTS_MAX: usize = 4;
/// Of these, at names on demand: what the configuration names does not wait behind strangers.
const ON_DEMAND_MAX: usize = 3;
/// One attempt altogether: [`issue::ATTEMPT_MAX`], and what comes before and after it.
const JOB_MAX: Duration = Duration::from_mins(15);
/// How often a process that does not own the store looks whether it may, and what the owner has put there.
const WATCH_PAUSE: Duration = Duration::from_secs(2);
/// Longest sleep: clocks are set, machines suspended.
const SLEEP_MAX: Duration = Duration::from_mins(10);
/// How long an authority's window is believed at most, and at least, in seconds.
const WINDOW_MAX: u64 = 86_400;
const WINDOW_MIN: u64 = 600;

/// A name that is to have a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Lower case, no dot at the end; `*.` in front for a wildcard.
    pub name: String,
    /// From whom.
    pub source: Source,
}

/// Who issues a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// One of the authorities.
    Public {
        /// How the name may be proven: tried in turn, one per attempt.
        kinds: Vec<Kind>,
        /// Contact of the account, instead of the authority's.
        contact: Option<String>,
    },
    /// Our own.
    Internal,
}

/// What is wanted, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Which names.
    pub wanted: Vec<Wanted>,
    /// Asked in this order, each when the ones before have failed.
    pub authorities: Vec<Authority>,
    /// Who writes DNS records.
    pub dns: Option<Writer>,
    /// How long a new record takes to be seen everywhere.
    pub dns_settle: Duration,
    /// Pause after a first failure; doubled with each further one.
    pub first_pause: Duration,
}

/// Where certificates go.
pub trait Sink: Send + Sync + 'static {
    /// This one serves the name from now on; the one before is forgotten.
    fn install(&self, name: &str, certificate: &Stored);
    /// The name wants none any more.
    fn remove(&self, name: &str);
}

/// What the keeper works with.
#[derive(Clone)]
pub struct Parts {
    /// Keys, certificates, orders, memory.
    pub storage: Arc<dyn Storage>,
    /// Answers to challenges.
    pub answers: Arc<dyn Answers>,
    /// Certificates.
    pub sink: Arc<dyn Sink>,
    /// What is known, for others.
    pub board: Arc<Board>,
}

/// What is stored for a name, if it is fit to be served: for a start that has something to show from its first moment on.
pub fn stored(storage: &dyn Storage, name: &str) -> Option<Stored> {
    let bytes = storage.load(&certificate_place(name)).ok()??;
    let stored: Stored = serde_json::from_slice(&bytes).ok()?;
    stored.ready(name).is_ok().then_some(stored)
}

/// Runs until the sender of the settings is gone. Names on demand come and go beside those of the settings.
pub async fn run(
    parts: Parts,
    mut settings: watch::Receiver<Arc<Settings>>,
    mut on_demand: watch::Receiver<Arc<Vec<Wanted>>>,
) {
    let mut keeper = Keeper {
        store: Store::new(Arc::clone(&parts.storage)),
        parts,
        settings: settings.borrow_and_update().clone(),
        on_demand: on_demand.borrow_and_update().clone(),
        names: BTreeMap::new(),
        jobs: JoinSet::new(),
        making: Arc::default(),
        owner: false,
        told_waiting: false,
    };
    let settings_now = Arc::clone(&keeper.settings);
    keeper.adopt(&settings_now).await;
    loop {
        keeper.turn().await;
        let pause = keeper.pause();
        tokio::select! {
            changed = settings.changed() => {
                if changed.is_err() {
                    return;
                }
                let before = std::mem::replace(&mut keeper.settings, settings.borrow_and_update().clone());
                keeper.adopt(&before).await;
            }
            Ok(()) = on_demand.changed() => {
                keeper.on_demand = on_demand.borrow_and_update().clone();
                let before = Arc::clone(&keeper.settings);
                keeper.adopt(&before).await;
            }
            Some(done) = keeper.jobs.join_next() => {
                match done {
                    Ok(done) => keeper.done(done),
                    // Its name stays busy no longer than the loop below looks.
                    Err(end) => tracing::error!("an attempt at a certificate ended: {end}"),
                }
                keeper.free_lost();
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
}

struct Name {
    source: Source,
    on_demand: bool,
    /// The store has been read.
    loaded: bool,
    current: Option<(Stored, Ready)>,
    memory: Memory,
    busy: bool,
    /// What serves could not be stored: the next end of this process would lose it.
    unstored: bool,
    /// When the authority is asked for its window again.
    window_at: u64,
}

struct Keeper {
    store: Store,
    parts: Parts,
    settings: Arc<Settings>,
    on_demand: Arc<Vec<Wanted>>,
    names: BTreeMap<String, Name>,
    jobs: JoinSet<Done>,
    making: Arc<Making>,
    owner: bool,
    told_waiting: bool,
}

/// Held while something is made that several names share.
#[derive(Default)]
struct Making {
    account: Arc<tokio::sync::Mutex<()>>,
    root: std::sync::Mutex<()>,
}

/// What a job brings back.
struct Done {
    name: String,
    stored: Option<Stored>,
    /// It serves, and is nowhere but in memory.
    unstored: bool,
    memory: Memory,
    window_at: u64,
}

fn certificate_place(name: &str) -> Place {
    Place::new("certificates", name)
}

fn memory_place(name: &str) -> Place {
    Place::new("attempts", name)
}

/// Everything that is stored for a name.
pub(crate) fn places(name: &str) -> [Place; 3] {
    [
        certificate_place(name),
        memory_place(name),
        issue::pending_place(name),
    ]
}

impl Name {
    fn new(source: Source) -> Self {
        Self {
            source,
            on_demand: false,
            loaded: false,
            current: None,
            memory: Memory::default(),
            busy: false,
            unstored: false,
            window_at: 0,
        }
    }

    /// When the next attempt is due.
    fn due(&self, name: &str, now: u64) -> u64 {
        let pause = self.memory.pause_until(now);
        let Some((stored, ready)) = &self.current else {
            return pause;
        };
        let internal = stored.directory == internal::DIRECTORY;
        // One of ours that begins only later was made while our clock was ahead: nobody believes it now.
        let early = internal && ready.from > now;
        let wanted = if internal == (self.source == Source::Internal) && !early && !self.unstored {
            let chance = renew::chance(name, ready.from);
            renew::due(ready.from, ready.until, stored.window, chance)
        } else {
            0
        };
        wanted.max(pause)
    }

    /// When there is something to do: an attempt, or a question for the authority's window.
    fn next(&self, name: &str, now: u64) -> u64 {
        let due = self.due(name, now);
        match &self.current {
            Some(_) => due.min(self.window_at),
            // Without a certificate nobody is asked for its window.
            None => due,
        }
    }
}

impl Keeper {
    /// Follows new settings: names that are gone go, names that are new are read from the store.
    async fn adopt(&mut self, before: &Settings) {
        let settings = Arc::clone(&self.settings);
        let on_demand = Arc::clone(&self.on_demand);
        let on_demand = on_demand.iter().map(|w| (w, true));
        // What the configuration names is the configuration's.
        let wanted: BTreeMap<&str, (&Source, bool)> = on_demand
            .chain(settings.wanted.iter().map(|w| (w, false)))
            .map(|(w, demanded)| (w.name.as_str(), (&w.source, demanded)))
            .collect();
        let sink = Arc::clone(&self.parts.sink);
        self.names.retain(|name, _| {
            let stays = wanted.contains_key(name.as_str());
            if !stays {
                sink.remove(name);
            }
            stays
        });
        self.parts.board.keep(|name| wanted.contains_key(name));
        let soon = now().saturating_add(settings.first_pause.as_secs());
        let how = |s: &Settings| (s.authorities.clone(), s.dns.clone(), s.dns_settle);
        let otherwise = how(before) != how(&settings);
        for (name, (source, on_demand)) in wanted {
            let entry = self
                .names
                .entry(name.to_owned())
                .or_insert_with(|| Name::new(source.clone()));
            let another = entry.source != *source;
            if another && entry.memory.failures == 0 {
                // What was obtained from somebody else is no reason to wait.
                entry.memory.not_before = 0;
            }
            entry.source = source.clone();
            entry.on_demand = on_demand;
            // Who changes how a name is certified may have removed the cause; a reload in a loop is still no way around the pause,
            // and names that come and go are no reason for the others.
            if another || otherwise {
                entry.memory.not_before = entry.memory.not_before.min(soon);
            }
        }
        self.load().await;
    }

    /// Reads what has not been read, and, while another process owns the store, what that has changed.
    async fn load(&mut self) {
        let names: Vec<String> = self
            .names
            .iter()
            .filter(|(_, n)| !n.loaded || !self.owner)
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let stored = self
                .store
                .load_or_none::<Stored>(certificate_place(&name))
                .await;
            let memory = self.store.load_or_none::<Memory>(memory_place(&name)).await;
            let Some(entry) = self.names.get_mut(&name) else {
                continue;
            };
            match (stored, memory) {
                (Ok(stored), Ok(memory)) => {
                    if !entry.loaded {
                        entry.memory = memory.unwrap_or_default();
                    }
                    entry.loaded = true;
                    if let Some(stored) = stored
                        && entry.current.as_ref().is_none_or(|(old, _)| *old != stored)
                    {
                        install(&*self.parts.sink, entry, &name, stored);
                    }
                }
                (Err(error), _) | (_, Err(error)) => {
                    // What cannot be read must not be written over: somebody has to look.
                    let text = error.to_string();
                    if entry.memory.reason.as_deref() != Some(&text) {
                        tracing::error!(name, "no certificate can be obtained: {text}");
                    }
                    entry.memory.reason = Some(text);
                }
            }
        }
        self.publish();
    }

    /// Begins what is due.
    async fn turn(&mut self) {
        if !self.owner {
            match self.store.own().await {
                Ok(true) => {
                    self.owner = true;
                    self.parts.board.owned(Owner::Us);
                    if self.told_waiting {
                        tracing::info!("the certificate store is ours now");
                        // The owner before may have written until its end.
                        for name in self.names.values_mut() {
                            name.loaded = false;
                        }
                    }
                }
                Ok(false) if !self.told_waiting => {
                    self.told_waiting = true;
                    self.parts.board.owned(Owner::Other);
                    tracing::info!(
                        "another process owns the certificate store: it obtains and renews, we use what it stores"
                    );
                }
                Ok(false) => {}
                Err(error) if !self.told_waiting => {
                    self.told_waiting = true;
                    self.parts.board.owned(Owner::Other);
                    tracing::error!("no certificate can be obtained: {error}");
                }
                Err(_) => {}
            }
        }
        if !self.owner || self.names.values().any(|n| !n.loaded) {
            self.load().await;
        }
        if !self.owner {
            return;
        }
        let now = now();
        let mut ready: Vec<(bool, String)> = self
            .names
            .iter()
            .filter(|(name, n)| n.loaded && !n.busy && n.due(name, now) <= now)
            .map(|(name, n)| (n.on_demand, name.clone()))
            .collect();
        ready.sort_unstable();
        let mut demanded = self
            .names
            .values()
            .filter(|n| n.busy && n.on_demand)
            .count();
        for (on_demand, name) in ready {
            if self.jobs.len() >= ATTEMPTS_MAX {
                return;
            }
            if on_demand && demanded >= ON_DEMAND_MAX {
                break;
            }
            demanded += usize::from(on_demand);
            self.begin(&name);
        }
        self.ask_windows(now);
    }

    fn begin(&mut self, name: &str) {
        let Some(entry) = self.names.get_mut(name) else {
            return;
        };
        entry.busy = true;
        let job = Job {
            name: name.to_owned(),
            parts: self.parts.clone(),
            store: self.store.clone(),
            making: Arc::clone(&self.making),
            settings: Arc::clone(&self.settings),
            source: entry.source.clone(),
            old: entry.current.as_ref().map(|(stored, _)| stored.clone()),
            unstored: entry.unstored,
            until: entry.current.as_ref().map(|(_, ready)| ready.until),
            memory: entry.memory.clone(),
        };
        self.jobs.spawn(job.run());
    }

    /// Asks authorities when they want their certificates renewed.
    fn ask_windows(&mut self, now: u64) {
        for (name, entry) in &mut self.names {
            let Some((stored, _)) = &entry.current else {
                continue;
            };
            if entry.busy || entry.window_at > now || self.jobs.len() >= ATTEMPTS_MAX {
                continue;
            }
            let authority = self.settings.authorities.iter();
            let Some(authority) = authority.clone().find(|a| a.directory == stored.directory)
            else {
                entry.window_at = u64::MAX;
                continue;
            };
            entry.busy = true;
            let authority = with_contact(authority, &entry.source);
            let (store, stored) = (self.store.clone(), stored.clone());
            let making = Arc::clone(&self.making.account);
            let (name, memory) = (name.clone(), entry.memory.clone());
            let unstored = entry.unstored;
            self.jobs.spawn(async move {
                let done = ask_window(&store, &making, &authority, name, stored, memory, now).await;
                Done { unstored, ..done }
            });
        }
    }

    fn done(&mut self, done: Done) {
        let Some(entry) = self.names.get_mut(&done.name) else {
            return;
        };
        entry.busy = false;
        entry.unstored = done.unstored;
        entry.memory = done.memory;
        entry.window_at = done.window_at;
        if let Some(stored) = done.stored
            && entry.current.as_ref().is_none_or(|(old, _)| *old != stored)
        {
            install(&*self.parts.sink, entry, &done.name, stored);
        }
        self.publish();
    }

    /// A job that panicked brings nothing back.
    fn free_lost(&mut self) {
        if self.jobs.is_empty() {
            let soon = now().saturating_add(self.settings.first_pause.as_secs().max(1));
            for entry in self.names.values_mut().filter(|n| n.busy) {
                entry.busy = false;
                entry.memory.not_before = entry.memory.not_before.max(soon);
            }
        }
    }

    fn pause(&self) -> Duration {
        if !self.owner || self.names.values().any(|n| !n.loaded) {
            return WATCH_PAUSE;
        }
        let idle = self.names.iter().filter(|(_, n)| !n.busy);
        let now = now();
        let first = idle.map(|(name, n)| n.next(name, now)).min();
        let pause = match first {
            _ if self.jobs.len() >= ATTEMPTS_MAX => SLEEP_MAX,
            Some(first) => Duration::from_secs(first.saturating_sub(now)),
            None => SLEEP_MAX,
        };
        // A second holds seconds that are cut off.
        pause.clamp(Duration::from_millis(200), SLEEP_MAX)
    }

    fn publish(&self) {
        let now = now();
        for (name, entry) in &self.names {
            let authority = match &entry.source {
                Source::Internal => internal::DIRECTORY.to_owned(),
                Source::Public { .. } => self
                    .authority(&entry.memory)
                    .map_or_else(String::new, |a| a.directory.clone()),
            };
            let ready = entry.current.as_ref().map(|(_, ready)| ready);
            self.parts.board.set(Entry {
                name: name.clone(),
                authority,
                issuer: ready.map(|r| r.issuer.clone()),
                expires: ready.map(|r| r.until),
                next: entry.due(name, now),
                failures: entry.memory.failures,
                last_error: entry.memory.reason.clone(),
            });
        }
        self.parts.board.tell();
    }

    fn authority(&self, memory: &Memory) -> Option<&Authority> {
        pick(&self.settings.authorities, memory)
    }
}

fn pick<'a>(authorities: &'a [Authority], memory: &Memory) -> Option<&'a Authority> {
    let index = (memory.authority as usize).checked_rem(authorities.len())?;
    authorities.get(index)
}

fn with_contact(authority: &Authority, source: &Source) -> Authority {
    let mut authority = authority.clone();
    if let Source::Public {
        contact: Some(contact),
        ..
    } = source
    {
        authority.contact = Some(contact.clone());
    }
    authority
}

fn install(sink: &dyn Sink, entry: &mut Name, name: &str, stored: Stored) {
    match stored.ready(name) {
        Ok(ready) => {
            sink.install(name, &stored);
            entry.current = Some((stored, ready));
        }
        Err(error) => {
            tracing::error!(
                name,
                "the stored certificate is of no use: {error}; a new one is obtained"
            );
        }
    }
}

async fn ask_window(
    store: &Store,
    making: &tokio::sync::Mutex<()>,
    authority: &Authority,
    name: String,
    mut stored: Stored,
    memory: Memory,
    now: u64,
) -> Done {
    let window_at = match authority.window(store, making, &stored).await {
        Ok(Some((window, again))) => {
            if stored.window != Some(window) {
                tracing::info!(
                    name,
                    begin = window.0,
                    end = window.1,
                    "the authority says when to renew"
                );
                stored.window = Some(window);
                if let Err(error) = store.save(certificate_place(&name), &stored).await {
                    tracing::error!(name, "{error}");
                }
            }
            now.saturating_add(again.clamp(WINDOW_MIN, WINDOW_MAX))
        }
        Ok(None) => u64::MAX,
        Err(failure) => {
            tracing::debug!(name, "the authority does not say when to renew: {failure}");
            now.saturating_add(WINDOW_MAX / 24)
        }
    };
    Done {
        name,
        stored: Some(stored),
        unstored: false,
        memory,
        window_at,
    }
}

fn has_ended() -> Failure {
    Failure::refused(
        "the certificate that came has ended already; is the clock of this machine right?",
    )
}

/// One attempt, with everything it needs: it outlives changes of the settings.
struct Job {
    name: String,
    parts: Parts,
    store: Store,
    making: Arc<Making>,
    settings: Arc<Settings>,
    source: Source,
    old: Option<Stored>,
    /// That one is to be stored, no other one to be obtained.
    unstored: bool,
    until: Option<u64>,
    memory: Memory,
}

impl Job {
    async fn run(self) -> Done {
        let obtained = match tokio::time::timeout(JOB_MAX, self.obtain()).await {
            Ok(obtained) => obtained,
            Err(_) => Err(Failure::local(format!(
                "the attempt was not done within {} minutes",
                JOB_MAX.as_secs() / 60
            ))),
        };
        let obtained = match obtained {
            Ok(stored) => self.judge(stored).await,
            Err(failure) => Err(failure),
        };
        match obtained {
            Ok((stored, until)) => {
                let kept = self.keep(&stored).await;
                let ended = until <= now();
                // One that cannot be stored still serves, and is what is stored as soon as that can be done.
                let unstored = kept.is_err();
                let memory = match kept {
                    Ok(()) if ended => self.failed(&has_ended()).await,
                    Ok(()) => Memory::content(now(), until, self.settings.first_pause),
                    Err(failure) => self.failed(&failure).await,
                };
                tracing::info!(
                    name = self.name,
                    authority = stored.directory,
                    "a new certificate"
                );
                Done {
                    name: self.name,
                    stored: Some(stored),
                    unstored,
                    memory,
                    window_at: 0,
                }
            }
            Err(failure) => {
                let memory = self.failed(&failure).await;
                Done {
                    name: self.name,
                    stored: None,
                    unstored: self.unstored,
                    memory,
                    window_at: 0,
                }
            }
        }
    }

    async fn obtain(&self) -> Result<Stored, Failure> {
        if let Some(old) = self.old.as_ref().filter(|_| self.unstored) {
            return Ok(old.clone());
        }
        let Source::Public { kinds, .. } = &self.source else {
            let storage = Arc::clone(&self.parts.storage);
            let name = self.name.clone();
            let making = Arc::clone(&self.making);
            let made = tokio::task::spawn_blocking(move || {
                let root = making.root.lock();
                let _root = root.unwrap_or_else(std::sync::PoisonError::into_inner);
                internal::issue(&*storage, &name, now())
            });
            return made.await.map_err(Failure::local)?.map_err(Failure::local);
        };
        let Some(authority) = pick(&self.settings.authorities, &self.memory) else {
            return Err(Failure::local("no certificate authority is named"));
        };
        let kinds: Vec<Kind> = kinds
            .iter()
            .copied()
            .filter(|kind| *kind == Kind::Dns01 || !self.name.starts_with("*."))
            .collect();
        let turn = (self.memory.failures as usize).checked_rem(kinds.len());
        let Some(kind) = turn.and_then(|turn| kinds.get(turn)).copied() else {
            return Err(Failure::local(format!(
                "{} can be proven by dns-01 only, which is not set up",
                self.name
            )));
        };
        let workshop = Workshop {
            store: self.store.clone(),
            making: Arc::clone(&self.making.account),
            answers: Arc::clone(&self.parts.answers),
            dns: self.settings.dns.clone(),
            dns_settle: self.settings.dns_settle,
        };
        let authority = with_contact(authority, &self.source);
        issue::attempt(&workshop, &authority, &self.name, kind, self.old.as_ref()).await
    }

    /// Is what came fit to take the place of what there is? Gives it with its end. One that has ended already is served only where
    /// nothing better is: perhaps it is our clock that is wrong.
    async fn judge(&self, stored: Stored) -> Result<(Stored, u64), Failure> {
        let ready = stored
            .ready(&self.name)
            .map_err(|unfit| Failure::local(format!("what was made is of no use: {unfit}")))?;
        let now = now();
        if ready.until <= now && self.until.is_some_and(|until| until > now) {
            issue::done(&self.store, &self.name).await?;
            return Err(has_ended());
        }
        Ok((stored, ready.until))
    }

    async fn keep(&self, stored: &Stored) -> Result<(), Failure> {
        self.store
            .save(certificate_place(&self.name), stored)
            .await?;
        issue::done(&self.store, &self.name).await?;
        Ok(self.store.remove(memory_place(&self.name)).await?)
    }

    /// Remembers a failure, and says so in the log.
    async fn failed(&self, failure: &Failure) -> Memory {
        let now = now();
        let authorities = u32::try_from(self.settings.authorities.len()).unwrap_or(1);
        let chance = renew::chance(&self.name, now);
        let first = self.settings.first_pause;
        let memory =
            self.memory
                .after(failure.cause, &failure.why, now, authorities, first, chance);
        let authority = match &self.source {
            Source::Internal => None,
            Source::Public { .. } => pick(&self.settings.authorities, &self.memory),
        };
        let authority = authority.map_or(internal::DIRECTORY, |a| a.directory.as_str());
        let pause = memory.not_before.saturating_sub(now);
        match self.until {
            Some(until) if until > now => tracing::warn!(
                name = self.name,
                authority,
                failures = memory.failures,
                again_in_seconds = pause,
                "the certificate is not renewed: {failure}; the one that serves expires in {} hours",
                (until - now) / 3600
            ),
            Some(_) => tracing::error!(
                name = self.name,
                authority,
                failures = memory.failures,
                again_in_seconds = pause,
                "the certificate has expired and is not renewed: {failure}"
            ),
            None => tracing::warn!(
                name = self.name,
                authority,
                failures = memory.failures,
                again_in_seconds = pause,
                "no certificate yet: {failure}"
            ),
        }
        if let Err(error) = self.store.save(memory_place(&self.name), &memory).await {
            tracing::error!(
                name = self.name,
                "what failed cannot be remembered: {error}"
            );
        }
        memory
    }
}
