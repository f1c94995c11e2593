//! SRV records.

use super::*;

fn by_srv(port: Option<u16>) -> Upstream {
    let mut upstream = Upstream::new("u");
    let name = "_http._tcp.api.test".to_owned();
    upstream.servers = vec![Server::new(
        &name,
        ServerAddress::Srv {
            name: name.clone(),
            port,
        },
    )];
    upstream
}

/// Address, weight and priority.
fn members(cluster: &Cluster) -> Vec<String> {
    cluster
        .set()
        .members
        .iter()
        .map(|m| format!("{} {} {}", m.endpoint.target(), m.weight, m.priority))
        .collect()
}

const NAMES: &[(&str, &str)] = &[
    ("a.api.test", "127.0.0.1"),
    ("b.api.test", "127.0.0.2"),
    ("b.api.test", "127.0.0.3"),
    ("_http._tcp.api.test", "127.0.0.9"),
];

#[test]
fn ports_weights_and_priorities_are_the_records() {
    let services = vec![
        (10, 6, 8001, "a.api.test"),
        (20, 4, 8002, "b.api.test"),
        (20, 4, 0, "a.api.test"),
        (20, 4, 8003, "gone.api.test"),
    ];
    let (_fleet, clusters, dns, discovery) = start(
        &[by_srv(None)],
        Behaviour::Services(services.clone(), NAMES.to_vec()),
    );
    assert!(discovery.wait_for_answers(LONGEST));
    assert_eq!(
        members(&clusters[0]),
        [
            "127.0.0.1:8001 6 0",
            "127.0.0.2:8002 2 1",
            "127.0.0.3:8002 2 1"
        ]
    );
    let status = clusters[0].sources();
    assert_eq!(status[0].source, "srv:_http._tcp.api.test");
    assert_eq!((status[0].up, status[0].servers), (true, 3));
    assert_eq!(status[0].skipped, [("no-address", 1), ("no-place", 1)]);

    // A record less; the ones that stay are the same servers.
    let kept = Arc::clone(&clusters[0].set().members[0].endpoint);
    dns.does(Behaviour::Services(services[..1].to_vec(), NAMES.to_vec()));
    until("the second target is gone", || {
        members(&clusters[0]) == ["127.0.0.1:8001 6 0"]
    });
    assert!(Arc::ptr_eq(&kept, &clusters[0].set().members[0].endpoint));

    // The name server fails, then says that there is no such name: both are no reason to let servers go at once.
    for code in [2, 3] {
        dns.does(Behaviour::Code(code));
        let asked = dns.questions();
        until("it was asked again", || dns.questions() >= asked + 4);
        until("the failure is told", || !clusters[0].sources()[0].up);
        assert_eq!(members(&clusters[0]), ["127.0.0.1:8001 6 0"]);
    }
    dns.does(Behaviour::Services(services, NAMES.to_vec()));
    until("everything is there again", || {
        members(&clusters[0]).len() == 3
    });
}

/// The servers are never away between the records' answer and those of their targets.
#[test]
fn an_upgrade_takes_no_server_away() {
    let learnt = ["127.0.0.1:8001"];
    let records = vec![(10, 6, 8001, "a.api.test")];
    let good = Behaviour::Services(records, NAMES.to_vec());
    for (behaviour, up) in [
        (good.clone(), true),
        (Behaviour::Code(2), false),
        (Behaviour::Code(3), false),
        (
            Behaviour::Services(vec![(10, 6, 8001, "gone.api.test")], Vec::new()),
            false,
        ),
    ] {
        let (_fleet, cluster, dns, discovery) = start_after(&[by_srv(None)], &learnt, behaviour);
        let version = cluster.version();
        assert!(discovery.wait_for_answers(LONGEST));
        assert_eq!(cluster.sources()[0].up, up);
        assert_eq!(members(&cluster), ["127.0.0.1:8001 6 0"]);
        assert_eq!(cluster.version(), version);
        dns.does(Behaviour::Services(
            vec![(10, 6, 8002, "b.api.test")],
            NAMES.to_vec(),
        ));
        if !up {
            until("the answer is believed", || members(&cluster).len() == 2);
        }
    }
}

#[test]
fn without_records_the_names_own_addresses_stand_in_if_a_port_is_written() {
    let own = Behaviour::Services(Vec::new(), NAMES.to_vec());
    let (_fleet, clusters, dns, discovery) = start(&[by_srv(Some(80))], own.clone());
    assert!(discovery.wait_for_answers(LONGEST));
    assert_eq!(members(&clusters[0]), ["127.0.0.9:80 1 0"]);
    dns.does(Behaviour::Services(
        vec![(1, 1, 81, "a.api.test")],
        NAMES.to_vec(),
    ));
    until("the records take over", || {
        members(&clusters[0]) == ["127.0.0.1:81 1 0"]
    });

    let (_fleet, clusters, _dns, discovery) = start(&[by_srv(None)], own);
    assert!(discovery.wait_for_answers(LONGEST));
    assert!(members(&clusters[0]).is_empty());
}

#[test]
fn more_records_than_are_taken_are_cut_and_counted() {
    let services: Vec<_> = (0..300).map(|i| (1, 1, 1000 + i, "a.api.test")).collect();
    let (_fleet, clusters, _dns, discovery) = start(
        &[by_srv(None)],
        Behaviour::Services(services, NAMES.to_vec()),
    );
    assert!(discovery.wait_for_answers(LONGEST));
    until("the targets have addresses", || {
        members(&clusters[0]).len() == 256
    });
    assert_eq!(clusters[0].sources()[0].skipped, [("too-many", 1)]);
}
