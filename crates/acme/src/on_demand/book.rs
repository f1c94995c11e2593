//! Which names have a certificate on demand, and whether one more may. Pure: times are arguments, in seconds since 1970.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// Names that have certificates on demand.
pub const NAMES_MAX: usize = 10_000;
/// A budget is spent within so long.
const HOUR: u64 = 3_600;
/// How long a permission holds until it is asked for again, and how long a name that lost it may still be in use.
const DAY: u64 = 86_400;
/// A name that serves nobody is forgotten when nobody has asked for it for so long.
const WEEK: u64 = 7 * DAY;
/// If [`NAMES_MAX`] are there, one that was not used for so long makes room.
const MONTH: u64 = 30 * DAY;
/// How long a yes and a no are remembered.
const YES_LIFE: u64 = 600;
const NO_LIFE: u64 = 60;
/// Answers that are remembered, and clients whose refusals are counted.
const ANSWERS_MAX: usize = 4_096;
/// Names of one client that are refused within a minute; then it is not asked for it any more.
const NOES_MAX: u32 = 20;
/// Questions in one second.
const ASKS_PER_SECOND: u32 = 50;

/// A name that has a certificate on demand, or is to have one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// When it was allowed first.
    pub added: u64,
    /// When a handshake asked for it last.
    pub used: u64,
    /// When it was allowed last.
    pub allowed: u64,
}

/// Why a name gets no certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is none that could be certified, or no site is there for it.
    BadName,
    /// Whoever was asked said no.
    NotAllowed,
    /// Whoever is to be asked does not answer.
    AskFailed,
    /// As many names as may within an hour have got one.
    Rate,
    /// The same, for this client.
    ClientRate,
    /// [`NAMES_MAX`].
    Full,
    /// Too many wait, or too much is asked.
    Busy,
    /// The authority, or the store, has failed; it is tried again later.
    Failed,
}

impl Refusal {
    /// A stable word, for metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::BadName => "bad-name",
            Self::NotAllowed => "not-allowed",
            Self::AskFailed => "ask-failed",
            Self::Rate => "rate",
            Self::ClientRate => "client-rate",
            Self::Full => "full",
            Self::Busy => "busy",
            Self::Failed => "failed",
        }
    }
}

/// What may be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// First certificates per hour.
    pub per_hour: u32,
    /// The same, for one client.
    pub per_client: u32,
}

/// Everything that is known of names on demand.
#[derive(Debug, Default)]
pub struct Book {
    names: BTreeMap<String, Known>,
    /// First certificates of the last hour, oldest first.
    spent: VecDeque<(u64, Option<IpAddr>)>,
    /// Answers, and until when they are believed.
    answers: HashMap<String, (bool, u64)>,
    /// Refusals by client, in this minute.
    noes: (u64, HashMap<Option<IpAddr>, u32>),
    /// Questions in this second.
    asked: (u64, u32),
}

/// Whom a client's handshakes are counted for: an address, or a /64 of IPv6.
fn counted(client: Option<IpAddr>) -> Option<IpAddr> {
    Some(match client?.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    })
}

/// Can a public authority certify this at all? Labels of letters, digits and hyphens, at least two of them, the last not a number.
pub fn is_name(name: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253
        && name.contains('.')
        && name.split('.').all(label)
        && !last.bytes().all(|b| b.is_ascii_digit())
}

impl Book {
    /// With the names that are written down. What they have cost within the last hour is remembered, too.
    pub fn of(names: BTreeMap<String, Known>, now: u64) -> Self {
        let mut spent: Vec<u64> = names.values().map(|known| known.added).collect();
        spent.retain(|at| at.saturating_add(HOUR) > now);
        spent.sort_unstable();
        Self {
            names,
            spent: spent.into_iter().map(|at| (at.min(now), None)).collect(),
            ..Self::default()
        }
    }

    /// The names, as they are written down.
    pub fn names(&self) -> &BTreeMap<String, Known> {
        &self.names
    }

    /// Takes over what the store's owner has written down.
    pub fn follow(&mut self, names: BTreeMap<String, Known>) {
        self.names = names;
    }

    /// Is it one of the names?
    pub fn knows(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// A handshake has asked for it.
    pub fn note_use(&mut self, name: &str, at: u64) {
        if let Some(known) = self.names.get_mut(name) {
            known.used = known.used.max(at);
        }
    }

    /// What was said of a name a short while ago.
    pub fn remembered(&self, name: &str, now: u64) -> Option<bool> {
        let (yes, until) = self.answers.get(name)?;
        (now < *until).then_some(*yes)
    }

    /// May somebody be asked on this client's behalf? Counts the question.
    pub fn may_ask(&mut self, client: Option<IpAddr>, now: u64) -> bool {
        let (minute, noes) = &self.noes;
        if *minute == now / 60
            && noes
                .get(&counted(client))
                .is_some_and(|noes| *noes >= NOES_MAX)
        {
            return false;
        }
        if self.asked.0 != now {
            self.asked = (now, 0);
        }
        self.asked.1 += 1;
        self.asked.1 <= ASKS_PER_SECOND
    }

    /// Remembers an answer.
    pub fn answered(&mut self, name: &str, client: Option<IpAddr>, yes: bool, now: u64) {
        if self.answers.len() >= ANSWERS_MAX {
            self.answers.retain(|_, (_, until)| now < *until);
        }
        if self.answers.len() >= ANSWERS_MAX {
            self.answers.clear();
        }
        let life = if yes { YES_LIFE } else { NO_LIFE };
        self.answers
            .insert(name.to_owned(), (yes, now.saturating_add(life)));
        if yes {
            return;
        }
        if self.noes.0 != now / 60 || self.noes.1.len() >= ANSWERS_MAX {
            self.noes = (now / 60, HashMap::new());
        }
        *self.noes.1.entry(counted(client)).or_default() += 1;
    }

    /// Takes in a name that is allowed, if the budgets let it. Gives the name that had to go for it.
    pub fn admit(
        &mut self,
        name: &str,
        client: Option<IpAddr>,
        budget: Budget,
        now: u64,
    ) -> Result<Option<String>, Refusal> {
        while let Some((at, _)) = self.spent.front()
            && at.saturating_add(HOUR) <= now
        {
            self.spent.pop_front();
        }
        if self.spent.len() >= budget.per_hour as usize {
            return Err(Refusal::Rate);
        }
        let client = counted(client);
        let own = self
            .spent
            .iter()
            .filter(|(_, who)| who.is_some() && *who == client);
        if own.count() >= budget.per_client as usize {
            return Err(Refusal::ClientRate);
        }
        let mut gone = None;
        if self.names.len() >= NAMES_MAX {
            let oldest = self.names.iter().min_by_key(|(_, known)| known.used);
            let (oldest, known) = oldest.ok_or(Refusal::Full)?;
            if known.used.saturating_add(MONTH) > now {
                return Err(Refusal::Full);
            }
            let oldest = oldest.clone();
            self.names.remove(&oldest);
            gone = Some(oldest);
        }
        self.spent.push_back((now, client));
        let known = Known {
            added: now,
            used: now,
            allowed: now,
        };
        self.names.insert(name.to_owned(), known);
        Ok(gone)
    }

    /// Names whose permission is to be asked for again.
    pub fn stale(&self, now: u64) -> Vec<String> {
        let stale = |known: &Known| known.allowed.saturating_add(DAY) <= now;
        self.names
            .iter()
            .filter(|(_, known)| stale(known))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// It is allowed still.
    pub fn confirm(&mut self, name: &str, now: u64) {
        if let Some(known) = self.names.get_mut(name) {
            known.allowed = now;
        }
    }

    /// It is not allowed any more. Whoever uses it keeps it until they have not for a day.
    pub fn withdraw(&mut self, name: &str, now: u64) -> bool {
        let unused = |known: &Known| known.used.saturating_add(DAY) <= now;
        if self.names.get(name).is_some_and(unused) {
            self.names.remove(name);
            return true;
        }
        false
    }

    /// It was taken in and could not be written down.
    pub fn remove(&mut self, name: &str) {
        self.names.remove(name);
    }

    /// Takes away names that serve nobody (no certificate, or not allowed any more) and that nobody asks for.
    pub fn forsake(&mut self, now: u64, serves: impl Fn(&str) -> bool) -> Vec<String> {
        let old: Vec<String> = self
            .names
            .iter()
            .filter(|(name, known)| known.used.saturating_add(WEEK) <= now && !serves(name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in &old {
            self.names.remove(name);
        }
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MUCH: Budget = Budget {
        per_hour: 100_000,
        per_client: 100_000,
    };
    const NOW: u64 = 2_000_000_000;

    #[expect(clippy::unnecessary_wraps, reason = "as it is passed on")]
    fn client(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn names_that_nobody_certifies() {
        let long = format!("{}.example.com", "a".repeat(64));
        let longer = format!("{}com", "a.".repeat(126));
        let no = [
            "", "a", "a.", ".a.b", "a..b", "-a.com", "a-.com", "a_b.com", "a.com.", "1.2.3.4",
            "a.1", "*.a.com", "[::1]", "A.com", "a b.com", "a.com/x", "a\0.com", "ä.com", &long,
            &longer,
        ];
        for name in no {
            assert!(!is_name(name), "{name}");
        }
        let widest = format!("{}.com", "a".repeat(63));
        for name in [
            "a.com",
            "xn--bcher-kva.example",
            "1.a.com",
            "a-b.c-d.com",
            &widest,
        ] {
            assert!(is_name(name), "{name}");
        }
    }

    #[test]
    fn budgets_hold_exactly_and_come_back() {
        let budget = Budget {
            per_hour: 3,
            per_client: 2,
        };
        let mut book = Book::default();
        let (a, b) = (client("192.0.2.1"), client("192.0.2.2"));
        assert_eq!(book.admit("1.a", a, budget, NOW), Ok(None));
        assert_eq!(book.admit("2.a", a, budget, NOW), Ok(None));
        assert_eq!(book.admit("3.a", a, budget, NOW), Err(Refusal::ClientRate));
        assert_eq!(book.admit("3.a", b, budget, NOW + 10), Ok(None));
        assert_eq!(
            book.admit("4.a", b, budget, NOW + 3_599),
            Err(Refusal::Rate)
        );
        assert_eq!(book.admit("4.a", b, budget, NOW + 3_600), Ok(None));
        // A restart does not give the hour back.
        let mut book = Book::of(book.names().clone(), NOW + 3_600);
        assert_eq!(book.admit("5.a", a, budget, NOW + 3_600), Ok(None));
        assert_eq!(
            book.admit("6.a", a, budget, NOW + 3_600),
            Err(Refusal::Rate)
        );
    }

    #[test]
    fn one_client_is_an_address_or_a_64() {
        let budget = Budget {
            per_hour: 10,
            per_client: 1,
        };
        let mut book = Book::default();
        assert_eq!(
            book.admit("a.a", client("2001:db8::1"), budget, NOW),
            Ok(None)
        );
        let near = client("2001:db8::ffff:1");
        assert_eq!(
            book.admit("b.a", near, budget, NOW),
            Err(Refusal::ClientRate)
        );
        assert_eq!(
            book.admit("b.a", client("2001:db8:0:1::1"), budget, NOW),
            Ok(None)
        );
        assert_eq!(
            book.admit("c.a", client("192.0.2.1"), budget, NOW),
            Ok(None)
        );
        let mapped = client("::ffff:192.0.2.1");
        assert_eq!(
            book.admit("d.a", mapped, budget, NOW),
            Err(Refusal::ClientRate)
        );
        // Who has no address is counted with everybody only.
        for name in ["e.a", "f.a"] {
            assert_eq!(book.admit(name, None, budget, NOW), Ok(None));
        }
    }

    #[test]
    fn answers_are_remembered_for_a_while_and_not_without_end() {
        let mut book = Book::default();
        book.answered("yes.a", None, true, NOW);
        book.answered("no.a", None, false, NOW);
        assert_eq!(book.remembered("yes.a", NOW + YES_LIFE - 1), Some(true));
        assert_eq!(book.remembered("yes.a", NOW + YES_LIFE), None);
        assert_eq!(book.remembered("no.a", NOW + NO_LIFE - 1), Some(false));
        assert_eq!(book.remembered("no.a", NOW + NO_LIFE), None);
        for n in 0..3 * ANSWERS_MAX {
            book.answered(&format!("{n}.a"), None, false, NOW);
        }
        assert!(book.answers.len() <= ANSWERS_MAX);
    }

    #[test]
    fn who_is_refused_too_often_is_not_asked_for() {
        let mut book = Book::default();
        let (a, b) = (client("192.0.2.1"), client("192.0.2.2"));
        for n in 0..NOES_MAX {
            assert!(book.may_ask(a, NOW + u64::from(n) / 30), "{n}");
            book.answered(&format!("{n}.a"), a, false, NOW);
        }
        assert!(!book.may_ask(a, NOW) && book.may_ask(b, NOW));
        assert!(book.may_ask(a, NOW + 60));
        let mut book = Book::default();
        let asked = (0..100).filter(|_| book.may_ask(b, NOW)).count();
        assert_eq!(asked, ASKS_PER_SECOND as usize);
        assert!(book.may_ask(b, NOW + 1));
    }

    #[test]
    fn the_least_used_makes_room_if_it_is_old() {
        let mut book = Book::default();
        for n in 0..NAMES_MAX {
            book.admit(&format!("{n}.a"), None, MUCH, NOW + n as u64)
                .unwrap();
        }
        let soon = NOW + NAMES_MAX as u64;
        assert_eq!(book.admit("new.a", None, MUCH, soon), Err(Refusal::Full));
        book.note_use("0.a", soon);
        let later = NOW + 1 + MONTH;
        assert_eq!(
            book.admit("new.a", None, MUCH, later),
            Ok(Some("1.a".to_owned()))
        );
        assert!(book.knows("0.a") && book.knows("new.a") && book.names().len() == NAMES_MAX);
    }

    #[test]
    fn what_is_unused_and_not_allowed_goes() {
        let mut book = Book::default();
        for name in ["used.a", "idle.a", "empty.a"] {
            book.admit(name, None, MUCH, NOW).unwrap();
        }
        assert!(book.stale(NOW + DAY - 1).is_empty());
        let later = NOW + DAY;
        book.note_use("used.a", later - 10);
        book.confirm("empty.a", later);
        assert_eq!(book.stale(later), ["idle.a", "used.a"]);
        assert!(!book.withdraw("used.a", later) && book.withdraw("idle.a", later));
        assert_eq!(
            book.forsake(NOW + WEEK, |name| name == "used.a"),
            ["empty.a"]
        );
        assert_eq!(book.names().keys().collect::<Vec<_>>(), ["used.a"]);
        book.remove("used.a");
        assert!(book.names().is_empty());
    }
}
