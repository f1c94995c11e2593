//! Discovery against a small name server of our own.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use narthex_config::model::{Server, ServerAddress, Upstream};

use super::Discovery;
use super::srv::Place;

mod file;
mod services;
use crate::cluster::Cluster;
use crate::endpoint::State;
use crate::fleet::Fleet;
use crate::testkit::LONGEST;

/// What the name server does with a question.
#[derive(Clone)]
enum Behaviour {
    /// Answers with these addresses, by their family, and this time to live.
    Addresses(Vec<IpAddr>, u32),
    /// Answers with this code: 2 is SERVFAIL, 3 is NXDOMAIN.
    Code(u8),
    /// Answers one family, fails on the other.
    OnlyFour(Vec<IpAddr>),
    /// So many IPv4 addresses, by TCP only: by UDP the answer is cut off.
    Huge(u8),
    Silence,
    /// SRV records (priority, weight, port, target), and the addresses of names. What is not there does not exist.
    Services(
        Vec<(u16, u16, u16, &'static str)>,
        Vec<(&'static str, &'static str)>,
    ),
}

struct NameServer {
    address: SocketAddr,
    behaviour: Arc<Mutex<Behaviour>>,
    questions: Arc<Mutex<usize>>,
}

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

impl NameServer {
    fn start(behaviour: Behaviour) -> Self {
        // The same number for both, which somebody else may have for one of them.
        let (listener, socket) =
            std::iter::repeat_with(|| TcpListener::bind("127.0.0.1:0").unwrap())
                .find_map(|tcp| {
                    UdpSocket::bind(tcp.local_addr().unwrap())
                        .ok()
                        .map(|udp| (tcp, udp))
                })
                .unwrap();
        let address = socket.local_addr().unwrap();
        let behaviour = Arc::new(Mutex::new(behaviour));
        let questions = Arc::new(Mutex::new(0));
        let (now, count) = (Arc::clone(&behaviour), Arc::clone(&questions));
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((n, from)) = socket.recv_from(&mut buffer) {
                let behaviour = now.lock().unwrap().clone();
                *count.lock().unwrap() += 1;
                let cut_off = matches!(behaviour, Behaviour::Huge(_));
                let behaviour = if cut_off {
                    Behaviour::Code(0)
                } else {
                    behaviour
                };
                if let Some(mut answer) = answer(&buffer[..n], &behaviour) {
                    let too_long = answer.len() > 1232;
                    if too_long {
                        answer.truncate(n);
                        answer[6..8].fill(0);
                    }
                    answer[2] |= if cut_off || too_long { 2 } else { 0 };
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        let now = Arc::clone(&behaviour);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let behaviour = now.lock().unwrap().clone();
                std::thread::spawn(move || serve_tcp(stream, &behaviour));
            }
        });
        Self {
            address,
            behaviour,
            questions,
        }
    }

    fn does(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    fn questions(&self) -> usize {
        *self.questions.lock().unwrap()
    }
}

fn serve_tcp(mut stream: TcpStream, behaviour: &Behaviour) {
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut question).is_err() {
            return;
        }
        let Some(answer) = answer(&question, behaviour) else {
            continue;
        };
        let mut message = (answer.len() as u16).to_be_bytes().to_vec();
        message.extend(answer);
        if stream.write_all(&message).is_err() {
            return;
        }
    }
}

fn answer(question: &[u8], behaviour: &Behaviour) -> Option<Vec<u8>> {
    let mut end = 12;
    while question[end] != 0 {
        end += 1 + usize::from(question[end]);
    }
    end += 5;
    let kind = u16::from_be_bytes([question[end - 4], question[end - 3]]);
    if let Behaviour::Services(services, names) = behaviour {
        return Some(service_answer(question, end, kind, services, names));
    }
    let huge: Vec<IpAddr> = match behaviour {
        Behaviour::Huge(n) => (0..*n).map(|i| IpAddr::from([127, 0, 1, i])).collect(),
        _ => Vec::new(),
    };
    let (code, addresses, ttl): (u8, &[IpAddr], u32) = match behaviour {
        Behaviour::Huge(_) => (0, &huge, 60),
        Behaviour::Silence | Behaviour::Services(..) => return None,
        Behaviour::Code(code) => (*code, &[], 0),
        Behaviour::Addresses(addresses, ttl) => (0, addresses, *ttl),
        Behaviour::OnlyFour(addresses) if kind == A => (0, addresses, 1),
        Behaviour::OnlyFour(_) => (2, &[], 0),
    };
    let records: Vec<Vec<u8>> = addresses
        .iter()
        .filter(|ip| ip.is_ipv4() == (kind == A) && (kind == A || kind == AAAA))
        .map(|ip| match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        })
        .collect();
    Some(message(&question[..end], code, kind, ttl, &records))
}

/// The question up to its end, answered.
fn message(question: &[u8], code: u8, kind: u16, ttl: u32, records: &[Vec<u8>]) -> Vec<u8> {
    let mut message = question[..2].to_vec();
    message.extend([0x81, 0x80 | code, 0, 1]);
    message.extend((records.len() as u16).to_be_bytes());
    message.extend([0, 0, 0, 0]);
    message.extend(&question[12..]);
    for data in records {
        message.extend([0xc0, 12]);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message.extend(ttl.to_be_bytes());
        message.extend((data.len() as u16).to_be_bytes());
        message.extend(data);
    }
    message
}

fn wire_name(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|l| !l.is_empty());
    let mut wire: Vec<u8> = labels
        .flat_map(|l| std::iter::once(l.len() as u8).chain(l.bytes()))
        .collect();
    wire.push(0);
    wire
}

fn service_answer(
    question: &[u8],
    end: usize,
    kind: u16,
    services: &[(u16, u16, u16, &'static str)],
    names: &[(&'static str, &'static str)],
) -> Vec<u8> {
    let asked = question[12..end - 4].to_ascii_lowercase();
    let records: Vec<Vec<u8>> = if kind == SRV && asked == wire_name("_http._tcp.api.test") {
        let record = |(priority, weight, port, target): &(u16, u16, u16, &str)| {
            let numbers = [priority, weight, port].map(|n| n.to_be_bytes());
            [numbers.concat(), wire_name(target)].concat()
        };
        services.iter().map(record).collect()
    } else if kind == A {
        names
            .iter()
            .filter(|(name, _)| asked == wire_name(name))
            .map(|(_, ip)| ip.parse::<std::net::Ipv4Addr>().unwrap().octets().to_vec())
            .collect()
    } else {
        Vec::new()
    };
    let exists = !records.is_empty() || names.iter().any(|(name, _)| asked == wire_name(name));
    message(
        &question[..end],
        if exists { 0 } else { 3 },
        kind,
        1,
        &records,
    )
}

fn ips(text: &str) -> Vec<IpAddr> {
    text.split_whitespace()
        .map(|ip| ip.parse().unwrap())
        .collect()
}

fn named(name: &str, hosts: &[&str]) -> Upstream {
    let mut upstream = Upstream::new(name);
    upstream.servers = hosts
        .iter()
        .map(|host| {
            let address = ServerAddress::Dns {
                host: (*host).to_owned(),
                port: 80,
            };
            Server::new(format!("{host}:80"), address)
        })
        .collect();
    upstream
}

fn servers(cluster: &Cluster) -> Vec<String> {
    cluster
        .set()
        .members
        .iter()
        .map(|m| m.endpoint.target().to_string())
        .collect()
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + LONGEST;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

fn start(
    upstreams: &[Upstream],
    behaviour: Behaviour,
) -> (Arc<Fleet>, Vec<Arc<Cluster>>, NameServer, Discovery) {
    let fleet = Fleet::new(1);
    let clusters = fleet.reconcile(upstreams);
    let name_server = NameServer::start(behaviour);
    fleet.resolve_at(&[name_server.address]);
    let discovery = Discovery::start(&fleet).unwrap();
    (fleet, clusters, name_server, discovery)
}

#[test]
fn every_address_is_a_server_and_changes_are_followed() {
    let (_fleet, clusters, dns, discovery) = start(
        &[named("u", &["api.test"])],
        Behaviour::Addresses(ips("127.0.0.2 127.0.0.1"), 1),
    );
    assert!(discovery.wait_for_answers(LONGEST));
    assert_eq!(servers(&clusters[0]), ["127.0.0.1:80", "127.0.0.2:80"]);
    let kept = Arc::clone(&clusters[0].set().members[1].endpoint);
    let version = clusters[0].version();
    dns.does(Behaviour::Addresses(ips("127.0.0.2 127.0.0.3"), 1));
    until("the set has changed", || clusters[0].version() != version);
    assert_eq!(servers(&clusters[0]), ["127.0.0.2:80", "127.0.0.3:80"]);
    assert!(
        Arc::ptr_eq(&kept, &clusters[0].set().members[0].endpoint),
        "a server that stays is the same server"
    );
    assert!(kept.name().contains("api.test:80"), "{}", kept.name());
}

/// At the start nobody is new: else the name that is resolved first would take the load of all.
#[test]
fn whose_name_is_resolved_last_has_its_whole_share() {
    let mut config = named("u", &["one.test", "two.test"]);
    let written = Server::new(
        "127.0.0.9:80",
        ServerAddress::parse("127.0.0.9:80").unwrap(),
    );
    config.servers.insert(0, written);
    let (_fleet, clusters, dns, discovery) =
        start(&[config], Behaviour::Addresses(ips("127.0.0.1"), 1));
    assert!(discovery.wait_for_answers(LONGEST));
    let states = || -> Vec<_> {
        let members = &clusters[0].set().members;
        members.iter().map(|m| m.endpoint.state()).collect()
    };
    assert_eq!(states(), [State::Up; 3]);
    dns.does(Behaviour::Addresses(ips("127.0.0.1 127.0.0.2"), 1));
    until("both have another address", || states().len() == 5);
    let back = State::Returning;
    assert_eq!(states(), [State::Up, State::Up, back, State::Up, back]);
}

#[test]
fn op_05_a_failing_name_server_takes_no_server_away() {
    let (_fleet, clusters, dns, discovery) = start(
        &[named("u", &["api.test"])],
        Behaviour::Addresses(ips("127.0.0.1 127.0.0.2"), 1),
    );
    assert!(discovery.wait_for_answers(LONGEST));
    let version = clusters[0].version();
    for behaviour in [
        Behaviour::Code(2),
        Behaviour::Code(3),
        Behaviour::OnlyFour(ips("127.0.0.1 127.0.0.2")),
    ] {
        dns.does(behaviour);
        let asked = dns.questions();
        until("it was asked again", || dns.questions() >= asked + 2);
        assert_eq!(servers(&clusters[0]).len(), 2);
    }
    assert_eq!(clusters[0].version(), version);
}

/// As a process that takes over from one which has learnt `servers`.
fn start_after(
    servers: &[Upstream],
    learnt: &[&str],
    behaviour: Behaviour,
) -> (Arc<Fleet>, Arc<Cluster>, NameServer, Discovery) {
    let old = Fleet::new(1);
    let before = old.reconcile(servers).remove(0);
    let name = before.names().into_iter().next().unwrap();
    let place = |text: &&str| Place {
        weight: matches!(name, ServerAddress::Srv { .. }).then_some(6),
        ..Place::plain(text.parse().unwrap())
    };
    before.resolved(&name, learnt.iter().map(place).collect());
    let fleet = Fleet::new(1);
    let cluster = fleet.reconcile(servers).remove(0);
    assert_eq!(fleet.import(&old.export()), 0);
    let dns = NameServer::start(behaviour);
    fleet.resolve_at(&[dns.address]);
    let discovery = Discovery::start(&fleet).unwrap();
    (fleet, cluster, dns, discovery)
}

/// The new process has not heard of anybody yet, and the name server fails just then.
#[test]
fn op_05_an_upgrade_while_the_name_server_fails_takes_no_server_away() {
    let both = ["127.0.0.1:80", "127.0.0.2:80"];
    for behaviour in [
        Behaviour::Code(2),
        Behaviour::Code(3),
        Behaviour::Addresses(Vec::new(), 1),
    ] {
        let config = [named("u", &["api.test"])];
        let (_fleet, cluster, dns, discovery) = start_after(&config, &both, behaviour);
        let version = cluster.version();
        assert!(discovery.wait_for_answers(LONGEST));
        let asked = dns.questions();
        dns.does(Behaviour::Code(2));
        until("it was asked again", || dns.questions() >= asked + 2);
        assert_eq!(
            (servers(&cluster), cluster.version()),
            (both.map(str::to_owned).into(), version)
        );
        assert!(!cluster.sources()[0].up);
        dns.does(Behaviour::Addresses(ips("127.0.0.2"), 1));
        until("the answer is believed", || servers(&cluster) == both[1..]);
    }
}

#[test]
fn op_05_a_name_that_cannot_be_resolved_holds_nobody_up() {
    for behaviour in [Behaviour::Code(3), Behaviour::Code(2)] {
        let (_fleet, clusters, _dns, discovery) = start(&[named("u", &["gone.test"])], behaviour);
        assert!(
            discovery.wait_for_answers(LONGEST),
            "a bad answer is an answer"
        );
        assert!(servers(&clusters[0]).is_empty());
    }
    let (_fleet, clusters, dns, discovery) =
        start(&[named("u", &["slow.test"])], Behaviour::Silence);
    assert!(!discovery.wait_for_answers(Duration::from_millis(100)));
    dns.does(Behaviour::Addresses(ips("127.0.0.9"), 60));
    until("it resolves later", || {
        servers(&clusters[0]) == ["127.0.0.9:80"]
    });
}

#[test]
fn op_05_a_huge_answer_comes_by_tcp_and_is_cut() {
    let (_fleet, clusters, _dns, discovery) =
        start(&[named("u", &["huge.test"])], Behaviour::Huge(200));
    assert!(discovery.wait_for_answers(LONGEST));
    until("the answer is there", || !servers(&clusters[0]).is_empty());
    assert_eq!(servers(&clusters[0]).len(), 64);
}

#[test]
fn names_may_come_later_and_be_shared() {
    let (fleet, first, _dns, discovery) = start(
        &[named("a", &["one.test"])],
        Behaviour::Addresses(ips("127.0.0.4"), 60),
    );
    assert!(discovery.wait_for_answers(LONGEST));
    let both = fleet.reconcile(&[
        named("a", &["one.test"]),
        named("b", &["one.test", "two.test"]),
    ]);
    assert!(Arc::ptr_eq(&first[0], &both[0]));
    assert!(discovery.wait_for_answers(LONGEST));
    until("both names are there", || {
        servers(&both[1]) == ["127.0.0.4:80", "127.0.0.4:80"]
    });
}

#[test]
fn the_source_address_decides_the_family() {
    let mut config = named("u", &["api.test"]);
    config.source = Some("127.0.0.1".parse().unwrap());
    let (_fleet, clusters, _dns, discovery) =
        start(&[config], Behaviour::Addresses(ips("127.0.0.1 ::1"), 60));
    assert!(discovery.wait_for_answers(LONGEST));
    assert_eq!(servers(&clusters[0]), ["127.0.0.1:80"]);
}

#[test]
fn localhost_needs_no_name_server() {
    let fleet = Fleet::new(1);
    let clusters = fleet.reconcile(&[named("u", &["localhost"])]);
    let _discovery = fleet.start_discovery().unwrap();
    assert!(
        servers(&clusters[0]).contains(&"127.0.0.1:80".to_owned()),
        "{:?}",
        servers(&clusters[0])
    );
}
