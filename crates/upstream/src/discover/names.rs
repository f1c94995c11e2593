//! Names and their addresses: one task per name, however many ask for it. It asks again when the answer is old, and ends
//! when nobody follows the name any more.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RecordType;
use tokio::sync::watch;
use tokio::task::spawn_local;

use super::hold::{Answer, Held, next};
use super::system::{Asker, NameServers, addresses, routable};
use crate::clock::monotonic_ms;

/// How often the hosts file is read for a name that it knows.
const HOSTS: Duration = Duration::from_secs(5);
/// Addresses of a name, by family.
const ADDRESSES: usize = 64;

/// What is known of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// There has been an answer, good or bad.
    pub(super) answered: bool,
    /// The last good one, without those that this machine has no route to.
    pub(super) addresses: Vec<IpAddr>,
    /// Addresses beyond the bound.
    pub(super) cut: usize,
    /// Why there is no answer now.
    pub(super) failing: Option<String>,
}

/// The names of this thread.
pub(super) struct Names {
    asker: RefCell<Asker>,
    running: RefCell<HashMap<String, watch::Sender<Known>>>,
    /// Moves when other name servers are to be asked.
    asked: watch::Sender<u64>,
}

impl Names {
    pub(super) fn new(servers: NameServers) -> Rc<Self> {
        Rc::new(Self {
            asker: RefCell::new(Asker::new(servers)),
            running: RefCell::default(),
            asked: watch::channel(0).0,
        })
    }

    /// Asks these from now on, and everything anew.
    pub(super) fn ask_at(&self, servers: NameServers) {
        if self.asker.borrow_mut().change(servers) {
            self.asked.send_modify(|n| *n += 1);
        }
    }

    /// The resolver for the present configuration.
    pub(super) fn resolver(&self) -> Option<TokioResolver> {
        self.asker.borrow_mut().resolver()
    }

    /// Until then, or until other name servers are to be asked.
    pub(super) async fn pause(&self, longest: Duration) {
        let mut asked = self.asked.subscribe();
        tokio::select! {
            () = tokio::time::sleep(longest) => {}
            _ = asked.changed() => {}
        }
    }

    /// What is known of a name, now and later. As long as the result lives, it is resolved again and again. `before` are the
    /// addresses that another process has heard: they hold as our own would.
    pub(super) fn follow(self: &Rc<Self>, host: &str, before: &[IpAddr]) -> watch::Receiver<Known> {
        let mut running = self.running.borrow_mut();
        if let Some(known) = running.get(host) {
            return known.subscribe();
        }
        let (known, follower) = watch::channel(Known {
            addresses: before.to_vec(),
            ..Known::default()
        });
        running.insert(host.to_owned(), known.clone());
        spawn_local(Rc::clone(self).resolve(host.to_owned(), known));
        follower
    }

    async fn resolve(self: Rc<Self>, host: String, known: watch::Sender<Known>) {
        let (four, six) = known.borrow().addresses.iter().partition(|a| a.is_ipv4());
        let mut name = Name {
            host,
            v4: Held::of(four),
            v6: Held::of(six),
        };
        loop {
            let pause = name.look(&self, &known).await;
            tokio::select! {
                () = self.pause(pause) => {}
                () = known.closed() => {}
            }
            if known.receiver_count() == 0 {
                self.running.borrow_mut().remove(&name.host);
                return;
            }
        }
    }
}

struct Name {
    host: String,
    v4: Held<IpAddr, ADDRESSES>,
    v6: Held<IpAddr, ADDRESSES>,
}

impl Name {
    /// Asks once, tells, and says when to ask again.
    async fn look(&mut self, names: &Names, known: &watch::Sender<Known>) -> Duration {
        let host = self.host.as_str();
        let listed = names.asker.borrow_mut().known(host);
        if let Some(mut addresses) = listed {
            addresses.sort_unstable();
            addresses.dedup();
            addresses.truncate(2 * ADDRESSES);
            tell(
                known,
                Known {
                    answered: true,
                    addresses: routable(addresses),
                    ..Known::default()
                },
            );
            return HOSTS;
        }
        let ((four, why), (six, _)) = match names.resolver() {
            Some(resolver) => tokio::join!(
                addresses(&resolver, host, RecordType::A),
                addresses(&resolver, host, RecordType::AAAA)
            ),
            None => (
                (
                    Answer::Failed,
                    Some("no name server is configured".to_owned()),
                ),
                (Answer::Failed, None),
            ),
        };
        let works = matches!(four, Answer::Found(..)) || matches!(six, Answer::Found(..));
        let heard = four != Answer::Failed || six != Answer::Failed;
        let now = monotonic_ms();
        let (after_four, after_six) = (self.v4.take(four, now), self.v6.take(six, now));
        let held = [self.v4.records(), self.v6.records()].concat();
        let before = known.borrow().addresses.clone();
        let failing = (!works).then(|| why.unwrap_or_else(|| "the name has no address".to_owned()));
        tell(
            known,
            Known {
                answered: true,
                addresses: if heard { routable(held) } else { before },
                cut: self.v4.cut() + self.v6.cut(),
                failing,
            },
        );
        Duration::from_millis(next([
            (!self.v4.records().is_empty(), after_four),
            (!self.v6.records().is_empty(), after_six),
        ]))
    }
}

/// Wakes the followers only if there is something new.
fn tell(known: &watch::Sender<Known>, now: Known) {
    known.send_if_modified(|before| {
        let new = *before != now;
        *before = now;
        new
    });
}
