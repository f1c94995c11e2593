//! Everything at once: servers come, go, drain, fail and change their weight while requests are under way on two cores.
//! Whatever the order, nobody is given a server that is away, the counters are the leases, and afterwards every policy
//! does what it does without a past.

use std::collections::HashMap;

use narthex_config::model::{HashBalance, Order, Template};
use proptest::prelude::*;

use super::*;
use crate::balance::ring;
use crate::balance::roster::Standing;
use crate::cluster::overlay::Edit;
use crate::endpoint::Endpoint;

/// Servers that there may be.
const SERVERS: u8 = 7;
const CORES: usize = 2;

#[derive(Debug, Clone)]
enum Step {
    /// On this core, with this random number, as a key too, after so many tries.
    Pick(usize, u64, u8),
    /// Of this lease.
    End(usize, Report),
    Abandon(usize),
    Add(u8, u32),
    Remove(u8),
    Weigh(u8, u32),
    Order(u8, Order),
    Check(u8, Active),
    /// Another file: this server is the first one of it, and so many come.
    Reload(u8, u8),
    Reset,
    /// Ejections end, ramps go on.
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    let server = 0..SERVERS;
    let report = prop_oneof![
        Just(Report::Ok),
        Just(Report::Reset),
        Just(Report::Status(503)),
        Just(Report::ConnectFailed)
    ];
    let order = prop_oneof![Just(Order::Ready), Just(Order::Drain), Just(Order::Down)];
    let active = prop_oneof![
        2 => Just(Active::Up),
        1 => Just(Active::Unwell),
        1 => Just(Active::Gone)
    ];
    let weight = prop_oneof![Just(1u32), Just(1_000), 1u32..10];
    prop_oneof![
        12 => (0..CORES, any::<u64>(), 0u8..4).prop_map(|(c, r, t)| Step::Pick(c, r, t)),
        6 => (any::<usize>(), report).prop_map(|(l, r)| Step::End(l, r)),
        1 => any::<usize>().prop_map(Step::Abandon),
        2 => (server.clone(), weight.clone()).prop_map(|(s, w)| Step::Add(s, w)),
        2 => server.clone().prop_map(Step::Remove),
        2 => (server.clone(), weight).prop_map(|(s, w)| Step::Weigh(s, w)),
        2 => (server.clone(), order).prop_map(|(s, o)| Step::Order(s, o)),
        3 => (server.clone(), active).prop_map(|(s, a)| Step::Check(s, a)),
        1 => (server, 1..SERVERS).prop_map(|(s, n)| Step::Reload(s, n)),
        1 => Just(Step::Reset),
        1 => Just(Step::Wait),
    ]
}

fn policies() -> Vec<Balance> {
    let hash = |bound| {
        Balance::Hash(HashBalance {
            by: Template::default(),
            bound,
        })
    };
    vec![
        Balance::RoundRobin,
        Balance::LeastRequests,
        Balance::LeastTime,
        Balance::Random,
        hash(0),
        hash(25),
    ]
}

fn address(n: u8) -> SocketAddr {
    ([127, 0, 0, n + 1], 9).into()
}

fn name(n: u8) -> String {
    address(n).to_string()
}

/// The file with servers `from..from + n`, in a circle.
fn file(balance: &Balance, from: u8, n: u8) -> Upstream {
    let mut config = upstream("u", (0..n).map(|i| address((from + i) % SERVERS)));
    config.balance = balance.clone();
    config.eject.errors = 2;
    config.eject.for_ = Duration::from_millis(1);
    config.slow_start.over = Duration::from_millis(3);
    config.requests.max = usize::from(n.is_multiple_of(3)) * 4;
    for (server, weight) in config
        .servers
        .iter_mut()
        .zip([3, 1, 1_000, 2].into_iter().cycle())
    {
        server.weight = weight;
        server.priority = u8::from(from == 0 && weight == 2);
    }
    config
}

struct Run {
    fleet: Arc<Fleet>,
    cluster: Arc<Cluster>,
    cores: Vec<(Rc<CoreFleet>, Rc<CoreCluster>)>,
    leases: Vec<Lease>,
    seen: HashMap<u64, Arc<Endpoint>>,
    picked: u64,
}

impl Run {
    fn new(balance: &Balance) -> Self {
        let (fleet, clusters) = fleet_of(&[file(balance, 0, 4)], CORES);
        let cores = (0..CORES).map(|core| {
            let core = CoreFleet::new(core, Arc::clone(&fleet));
            let cluster = core.adopt(&clusters[0]);
            (core, cluster)
        });
        Self {
            cores: cores.collect(),
            cluster: Arc::clone(&clusters[0]),
            fleet,
            leases: Vec::new(),
            seen: HashMap::new(),
            picked: 0,
        }
    }

    fn edit(&self, edit: Edit) {
        // What cannot be is refused, which is another test's business.
        let _ = self.cluster.change(None, edit);
    }

    async fn step(&mut self, balance: &Balance, step: &Step) {
        match *step {
            Step::Pick(core, random, tries) => self.pick(core, random, tries),
            Step::End(at, report) => {
                if let Some(lease) = self.take(at) {
                    lease.report(report);
                }
            }
            Step::Abandon(at) => drop(self.take(at)),
            Step::Add(n, weight) => {
                let mut server = crate::testkit::server(address(n));
                server.weight = weight;
                self.edit(Edit::Add(server));
            }
            Step::Remove(n) => self.edit(Edit::Remove(name(n))),
            Step::Weigh(n, weight) => self.set(n, Some(weight), None),
            Step::Order(n, order) => self.set(n, None, Some(order)),
            Step::Check(n, active) => {
                let set = self.cluster.set();
                if let Some(member) = set.members.get(usize::from(n)) {
                    member
                        .endpoint
                        .set_active(&self.cluster, active, Some("test"));
                }
            }
            Step::Reload(from, n) => drop(self.fleet.reconcile(&[file(balance, from, n)])),
            Step::Reset => self.edit(Edit::Reset),
            Step::Wait => rt::sleep_until(rt::now_ms() + 2).await,
        }
        for member in &self.cluster.set().members {
            let endpoint = &member.endpoint;
            self.seen.insert(endpoint.id(), Arc::clone(endpoint));
        }
        let under_way: u64 = self.seen.values().map(|e| e.in_flight()).sum();
        assert_eq!(under_way, self.leases.len() as u64);
        let given: u64 = self.seen.values().map(|e| e.requests()).sum();
        assert_eq!(given, self.picked);
    }

    fn set(&self, n: u8, weight: Option<u32>, order: Option<Order>) {
        self.edit(Edit::Set {
            server: name(n),
            weight,
            order,
            lasts: None,
        });
    }

    fn take(&mut self, at: usize) -> Option<Lease> {
        let at = at.checked_rem(self.leases.len())?;
        Some(self.leases.swap_remove(at))
    }

    fn pick(&mut self, core: usize, random: u64, tries: u8) {
        let mut tried = Tried::NONE;
        for lease in self.leases.iter().take(usize::from(tries)) {
            tried.add(lease);
        }
        let wish = Wish {
            key: (!random.is_multiple_of(5)).then_some(random),
            ..Wish::any(&tried, random)
        };
        let standing = |e: &Endpoint| e.standing(rt::now_ms()).0;
        let away = |s: Standing| matches!(s, Standing::Gone | Standing::Kept | Standing::Closed);
        let set = self.cluster.set();
        match self.cores[core].1.pick(&wish) {
            Ok(lease) => {
                let id = lease.endpoint().id();
                assert!(
                    set.members.iter().any(|m| m.endpoint.id() == id),
                    "it is gone"
                );
                assert!(!away(standing(lease.endpoint())), "{lease:?}");
                self.picked += 1;
                self.leases.push(lease);
            }
            Err(PickError::AllDown) => {
                assert!(set.members.iter().all(|m| away(standing(&m.endpoint))));
            }
            Err(PickError::NoServer) => assert!(set.members.is_empty()),
        }
    }

    /// Everybody is well, nothing is under way, nothing is in its ramp.
    async fn settle(&mut self, config: Upstream) {
        self.leases.clear();
        self.edit(Edit::Reset);
        self.fleet.reconcile(&[config]);
        for member in &self.cluster.set().members {
            for active in [Active::Gone, Active::Up] {
                member
                    .endpoint
                    .set_active(&self.cluster, active, Some("test"));
            }
        }
        rt::sleep_until(rt::now_ms() + 5).await;
        let set = self.cluster.set();
        assert!(set.members.iter().all(|m| m.endpoint.state() == State::Up));
        for endpoint in self.seen.values() {
            assert_eq!(endpoint.in_flight(), 0);
            assert_eq!(endpoint.connections() + endpoint.waiting(), 0);
        }
    }

    /// Nobody is owed anything for what was: each has what is due to it.
    fn is_fair(&self, exact: bool) {
        let set = self.cluster.set();
        let all: usize = set.members.iter().map(|m| m.weight as usize).sum();
        let rounds = if exact { 2 } else { (5_000 / all).max(1) };
        for (_, core) in &self.cores {
            let mut counts: HashMap<u64, usize> = HashMap::new();
            for i in 0..rounds * all {
                let random = ring::key(&i.to_le_bytes());
                let lease = core.pick(&Wish::any(&Tried::NONE, random)).unwrap();
                *counts.entry(lease.endpoint().id()).or_default() += 1;
            }
            for member in &set.members {
                let due = rounds * member.weight as usize;
                let got = counts.get(&member.endpoint.id()).copied().unwrap_or(0);
                let off = got.abs_diff(due);
                let most = if exact { 2 } else { 10 + rounds * all / 25 };
                assert!(off <= most, "{got} of {due} due");
            }
        }
    }

    /// The keys are where they would be without a past.
    fn is_where_it_would_be(&self, config: Upstream) {
        let (fleet, clusters) = fleet_of(&[config], CORES);
        let core = CoreFleet::new(0, fleet);
        let fresh = core.adopt(&clusters[0]);
        for i in 0..200u32 {
            let wish = Wish {
                key: Some(ring::key(&i.to_le_bytes())),
                ..Wish::any(&Tried::NONE, 0)
            };
            let (a, b) = (
                fresh.pick(&wish).unwrap(),
                self.cores[0].1.pick(&wish).unwrap(),
            );
            assert_eq!(a.name(), b.name());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]
    #[test]
    fn whatever_happens_in_whatever_order(steps in prop::collection::vec(step(), 1..120), from in 1..SERVERS, n in 1u8..5) {
        on_core(move || async move {
            for balance in policies() {
                let mut run = Run::new(&balance);
                for step in &steps {
                    run.step(&balance, step).await;
                }
                let mut last = file(&balance, from, n);
                last.requests.max = 0;
                for (server, weight) in last.servers.iter_mut().zip([3, 2, 1, 7]) {
                    server.weight = weight;
                    server.priority = 0;
                }
                run.settle(last.clone()).await;
                match balance {
                    Balance::RoundRobin | Balance::LeastRequests => run.is_fair(true),
                    Balance::Random => run.is_fair(false),
                    Balance::Hash(_) => run.is_where_it_would_be(last),
                    Balance::LeastTime => {}
                }
            }
        });
    }
}
