//! Any sequence of calls against a model that is too simple to be wrong.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Op {
    Lead {
        key: usize,
        of: usize,
    },
    Alone {
        key: usize,
    },
    Publish {
        lead: usize,
        of: usize,
        varies: bool,
        tag: usize,
    },
    Refuse {
        lead: usize,
    },
    Fail {
        lead: usize,
    },
    Push {
        writer: usize,
    },
    Finish {
        writer: usize,
    },
    Cut {
        writer: usize,
    },
    Refresh {
        lead: usize,
    },
    Purge {
        what: usize,
        of: usize,
        soft: bool,
    },
    Sweep {
        budget: usize,
    },
    Find {
        key: usize,
        of: usize,
    },
    Pass {
        ms: u64,
    },
}

const KEYS: [&str; 4] = ["a/1", "a/b/1", "a/b/2", "b/1"];
const OF: [&str; 3] = ["x", "y", "z"];
const TAGS: [&[u8]; 2] = [b"red", b"blue"];

fn op() -> impl Strategy<Value = Op> {
    let key = 0..KEYS.len();
    let of = 0..OF.len();
    prop_oneof![
        4 => (key.clone(), of.clone()).prop_map(|(key, of)| Op::Lead { key, of }),
        1 => key.clone().prop_map(|key| Op::Alone { key }),
        4 => (0..4_usize, of.clone(), any::<bool>(), 0..3_usize)
            .prop_map(|(lead, of, varies, tag)| Op::Publish { lead, of, varies, tag }),
        1 => (0..4_usize).prop_map(|lead| Op::Refuse { lead }),
        1 => (0..4_usize).prop_map(|lead| Op::Fail { lead }),
        3 => (0..4_usize).prop_map(|writer| Op::Push { writer }),
        3 => (0..4_usize).prop_map(|writer| Op::Finish { writer }),
        1 => (0..4_usize).prop_map(|writer| Op::Cut { writer }),
        1 => (0..4_usize).prop_map(|lead| Op::Refresh { lead }),
        2 => (0..7_usize, 0..4_usize, any::<bool>()).prop_map(|(what, of, soft)| Op::Purge { what, of, soft }),
        2 => (1..40_usize).prop_map(|budget| Op::Sweep { budget }),
        6 => (key, of).prop_map(|(key, of)| Op::Find { key, of }),
        1 => (0..40_000_u64).prop_map(|ms| Op::Pass { ms }),
    ]
}

/// An object, as the model sees it.
#[derive(Debug, Clone)]
struct Known {
    key: usize,
    /// None: it does not vary.
    of: Option<usize>,
    tag: Option<usize>,
    /// Purges that came after its fetch began.
    hard: bool,
    soft: bool,
    /// It may be here again in the place of one that was cut: then it may be softer than it would have to be.
    back: bool,
    /// Its body, so far.
    body: Vec<u8>,
    whole: bool,
    cut: bool,
}

impl Known {
    fn is_covered_by(&self, what: usize, of: usize) -> bool {
        let (host, path) = KEYS[self.key].split_at(1);
        match what {
            0 => self.key == of,
            1 => host == ["a", "b", "c", "a"][of],
            2 => host == "a" && path.starts_with(["/", "/b", "/b/2", "/c"][of]),
            3 => host == "a" && path == ["/1", "/b/1", "/b/2", "/b"][of],
            4 => self.tag == Some(of % 2),
            5 => true,
            _ => false,
        }
    }
}

struct Fetch {
    key: usize,
    lead: Lead,
    alone: bool,
    begun: u64,
    hard: Vec<(usize, usize)>,
    soft: Vec<(usize, usize)>,
}

#[derive(Default)]
struct World {
    now: u64,
    leads: Vec<Fetch>,
    writers: Vec<(Writer, usize)>,
    /// Every object that was ever published; its number is its body's first byte.
    known: Vec<Known>,
    /// What a whole object has taken the place of, newest last: the model allows either until it is gone.
    objects: HashMap<usize, Arc<Object>>,
}

fn purge(what: usize, of: usize) -> Option<Purge<'static>> {
    Some(match what {
        0 => Purge::Key(key(KEYS[of])),
        1 => Purge::Host(["a", "b", "c", "a"][of]),
        2 => Purge::Prefix {
            host: "a",
            path: [b"/".as_slice(), b"/b", b"/b/2", b"/c"][of],
        },
        3 => Purge::Path {
            host: "a",
            path: [b"/1".as_slice(), b"/b/1", b"/b/2", b"/b"][of],
        },
        4 => Purge::Tag(TAGS[of % 2]),
        5 if of == 0 => Purge::Everything,
        _ => return None,
    })
}

fn take<T>(list: &mut Vec<T>, at: usize) -> Option<T> {
    (!list.is_empty()).then(|| list.remove(at % list.len()))
}

impl World {
    fn run(&mut self, store: &Arc<Store>, op: Op) {
        match op {
            Op::Lead { key: at, of } => {
                if let Ok(lead) = store.lead(&key(KEYS[at]), &mut value(OF[of]), self.now, AGE) {
                    self.fetch(at, lead, false);
                }
            }
            Op::Alone { key: at } => {
                let lead = store.alone(&key(KEYS[at]), self.now);
                self.fetch(at, lead, true);
            }
            Op::Publish {
                lead,
                of,
                varies,
                tag,
            } => self.publish(lead, of, varies, tag),
            Op::Refuse { lead } => {
                if let Some(fetch) = take(&mut self.leads, lead) {
                    fetch.lead.refuse(Why::NoStore, Duration::from_secs(1));
                }
            }
            Op::Fail { lead } => drop(take(&mut self.leads, lead)),
            Op::Push { writer } => {
                let count = self.writers.len().max(1);
                if let Some((writer, number)) = self.writers.get_mut(writer % count) {
                    writer.push(&[*number as u8; 3]).unwrap();
                    self.known[*number]
                        .body
                        .extend_from_slice(&[*number as u8; 3]);
                }
            }
            Op::Finish { writer } => {
                if let Some((writer, number)) = take(&mut self.writers, writer) {
                    writer.finish();
                    self.known[number].whole = true;
                }
            }
            Op::Cut { writer } => {
                if let Some((writer, number)) = take(&mut self.writers, writer) {
                    drop(writer);
                    self.known[number].cut = true;
                    let key = self.known[number].key;
                    let others = self.known.iter_mut().filter(|known| known.key == key);
                    others.for_each(|known| known.back = true);
                }
            }
            Op::Refresh { lead } => self.refresh(store, lead),
            Op::Purge { what, of, soft } => self.purge(store, what, of, soft),
            Op::Sweep { budget } => drop(store.sweep(budget)),
            Op::Find { key, of } => self.find(store, key, of),
            Op::Pass { ms } => self.now += ms,
        }
    }

    fn fetch(&mut self, key: usize, lead: Lead, alone: bool) {
        // only one of a key may be followed at a time, unless it is old: each variant has its own, and there are three
        let begun = self.now;
        let young =
            |fetch: &&Fetch| fetch.key == key && !fetch.alone && begun - fetch.begun <= 30_000;
        let uncovered = |fetch: &&Fetch| fetch.hard.is_empty() && fetch.soft.is_empty();
        let others = self.leads.iter().filter(young).filter(uncovered).count();
        assert!(alone || others <= OF.len(), "{others} fetch {key}");
        self.leads.push(Fetch {
            key,
            lead,
            alone,
            begun,
            hard: Vec::new(),
            soft: Vec::new(),
        });
    }

    fn publish(&mut self, lead: usize, of: usize, varies: bool, tag: usize) {
        if self.known.len() > 250 {
            return;
        }
        let Some(fetch) = take(&mut self.leads, lead) else {
            return;
        };
        let number = self.known.len();
        let mut known = Known {
            key: fetch.key,
            of: varies.then_some(of),
            tag: (tag < 2).then_some(tag),
            hard: false,
            soft: false,
            back: false,
            body: vec![number as u8],
            whole: false,
            cut: false,
        };
        known.hard = fetch
            .hard
            .iter()
            .any(|&(what, of)| known.is_covered_by(what, of));
        known.soft = fetch
            .soft
            .iter()
            .any(|&(what, of)| known.is_covered_by(what, of));
        let mut keep = if varies { vary(&["v"]) } else { keep() };
        keep.tags = known.tag.map(|tag| TAGS[tag].into()).into_iter().collect();
        let variant = format!("v={}", OF[of]);
        let mut writer = fetch
            .lead
            .publish(keep, variant.as_bytes(), ROOM, None)
            .unwrap();
        writer.push(&known.body).unwrap();
        self.known.push(known);
        self.writers.push((writer, number));
    }

    fn refresh(&mut self, store: &Arc<Store>, lead: usize) {
        let Some(fetch) = take(&mut self.leads, lead) else {
            return;
        };
        let Some(old) = store
            .get(&key(KEYS[fetch.key]))
            .into_iter()
            .find(|old| old.body.is_complete())
        else {
            return;
        };
        let number = usize::from(old.body.piece(0).unwrap()[0]);
        let tags = self.known[number].tag.map(|tag| TAGS[tag].into());
        let keep = Keep {
            tags: tags.into_iter().collect(),
            ..keep()
        };
        let known = &self.known[number];
        let hard = fetch
            .hard
            .iter()
            .any(|&(what, of)| known.is_covered_by(what, of));
        let soft = fetch
            .soft
            .iter()
            .any(|&(what, of)| known.is_covered_by(what, of));
        fetch.lead.refresh(&old, keep);
        let known = &mut self.known[number];
        // asked after the purge, it is good again
        known.hard = hard;
        known.soft = soft;
    }

    fn purge(&mut self, store: &Arc<Store>, what: usize, of: usize, soft: bool) {
        let Some(purge) = purge(what, of) else {
            return;
        };
        store.invalidate(&purge, soft);
        for known in self
            .known
            .iter_mut()
            .filter(|known| known.is_covered_by(what, of))
        {
            if soft {
                known.soft = true
            } else {
                known.hard = true
            }
        }
        for fetch in &mut self.leads {
            let list = if soft {
                &mut fetch.soft
            } else {
                &mut fetch.hard
            };
            list.push((what, of));
        }
    }

    fn find(&mut self, store: &Arc<Store>, at: usize, of: usize) {
        let Found::Ready { object, soft } =
            store.find(&key(KEYS[at]), &mut value(OF[of]), self.now)
        else {
            return;
        };
        let mut body = vec![0; 4_096];
        let Poll::Ready(Read::Bytes(count)) = object.body.poll_read(0, &mut body, &mut context())
        else {
            panic!("it is empty")
        };
        let number = usize::from(body[0]);
        let known = &self.known[number];
        assert_eq!(known.key, at, "another key's");
        assert!(known.of.is_none_or(|own| own == of), "another variant's");
        assert!(!known.hard, "it was purged");
        assert!(!known.cut, "it did not come whole");
        assert!(
            known.soft == soft || (known.back && soft),
            "purged softly: {soft}"
        );
        assert_eq!(body[..count], known.body, "wrong bytes");
        assert_eq!(known.whole, object.body.is_complete());
        self.objects.insert(number, object);
        if self.objects.len() > 8 {
            self.objects.clear();
        }
    }

    /// What must be there is there: the newest whole object of each variant that nothing has covered or refused.
    fn end(mut self, store: &Arc<Store>) {
        for at in 0..KEYS.len() {
            for of in 0..OF.len() {
                self.find(store, at, of);
            }
        }
        self.leads.clear();
        for (writer, number) in self.writers.drain(..) {
            drop(writer);
            self.known[number].cut = true;
        }
        assert_eq!(store.stats().fills, 0);
        self.objects.clear();
        store.invalidate(&Purge::Everything, false);
        // one round may be under way
        for _ in 0..2 {
            while !store.sweep(7) {}
        }
        assert_empty(store);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_found_that_may_not_be(ops in prop::collection::vec(op(), 1..120)) {
        let store = Store::new(64 * MIB);
        let mut world = World::default();
        for op in ops {
            world.run(&store, op);
        }
        world.end(&store);
    }
}
