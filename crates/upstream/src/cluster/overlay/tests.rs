//! The overlay: single changes, and what is left of any run of changes after any other file.

use std::net::SocketAddr;

use narthex_config::model::ServerAddress;
use proptest::prelude::*;

use super::*;

fn server(n: u8) -> Server {
    let address: SocketAddr = ([10, 0, 0, n], 80).into();
    Server::new(address.to_string(), ServerAddress::Ip(address))
}

fn known(servers: &[Server]) -> Known<'_> {
    Known {
        servers,
        addresses: &[],
    }
}

fn set(server: &str, weight: Option<u32>, order: Option<Order>) -> Edit {
    Edit::Set {
        server: server.to_owned(),
        weight,
        order,
        lasts: None,
    }
}

/// What the upstream has, in the end: name, weight, order.
fn effective(overlay: &Overlay, written: &[Server]) -> Vec<(String, u32, Order)> {
    let mut seen = Vec::new();
    let mut out = Vec::new();
    for server in written.iter().chain(overlay.added()) {
        if seen.contains(&&server.address) || overlay.is_removed(&server.name, "") {
            continue;
        }
        seen.push(&server.address);
        let (weight, order) = overlay.lay(server, "");
        out.push((server.name.clone(), weight, order));
    }
    out
}

#[test]
fn an_edit_says_what_was_before_and_after() {
    let file = [server(1), server(2)];
    let mut overlay = Overlay::default();
    let edited = overlay
        .edit(
            known(&file),
            set("10.0.0.1:80", Some(5), Some(Order::Drain)),
            20,
        )
        .unwrap();
    assert_eq!(
        (edited.before.as_str(), edited.after.as_str()),
        ("ready, weight 1", "drain, weight 5")
    );
    assert_eq!(overlay.drift().len(), 2);
    let edited = overlay
        .edit(
            known(&file),
            set("10.0.0.1:80", Some(1), Some(Order::Ready)),
            20,
        )
        .unwrap();
    assert_eq!(edited.after, "ready, weight 1");
    assert!(overlay.is_empty(), "as written is no change: {overlay:?}");
}

#[test]
fn who_is_not_there_is_met_with_a_suggestion() {
    let file = [server(1)];
    let refused = Overlay::default().edit(known(&file), set("10.0.0.1:8", None, None), 20);
    assert_eq!(
        refused,
        Err(Refusal::NoServer(Some("10.0.0.1:80".to_owned())))
    );
}

#[test]
fn the_last_server_stays() {
    let file = [server(1), server(2)];
    let mut overlay = Overlay::default();
    overlay
        .edit(known(&file), Edit::Remove("10.0.0.1:80".to_owned()), 20)
        .unwrap();
    let last = overlay.edit(known(&file), Edit::Remove("10.0.0.2:80".to_owned()), 20);
    assert!(matches!(last, Err(Refusal::Conflict(_))), "{last:?}");
    let weight = overlay.edit(known(&file), set("10.0.0.1:80", Some(2), None), 20);
    assert!(matches!(weight, Err(Refusal::Conflict(_))), "{weight:?}");
}

/// Of names the addresses count, and one that stands for nobody is nobody.
#[test]
fn the_last_address_stays() {
    let named = |name: &str| Server::new(name, ServerAddress::parse(name).unwrap());
    let file = [named("a.test:80"), named("gone.test:80")];
    let addresses = |n: std::ops::RangeInclusive<u8>| -> Vec<(String, String)> {
        let address = |n| {
            (
                format!("a.test:80 (10.0.0.{n}:80)"),
                format!("10.0.0.{n}:80"),
            )
        };
        n.map(address).collect()
    };
    let remove = |overlay: &mut Overlay, addresses: &[(String, String)], server: &str| {
        let known = Known {
            servers: &file,
            addresses,
        };
        overlay.edit(known, Edit::Remove(server.to_owned()), 20)
    };
    let mut overlay = Overlay::default();
    let whole = remove(&mut overlay, &addresses(1..=2), "a.test:80");
    assert!(matches!(whole, Err(Refusal::Conflict(_))), "{whole:?}");
    remove(&mut overlay, &addresses(1..=2), "10.0.0.1:80").unwrap();
    for last in ["10.0.0.2:80", "a.test:80"] {
        let last = remove(&mut overlay, &addresses(2..=2), last);
        assert!(matches!(last, Err(Refusal::Conflict(_))), "{last:?}");
    }
    remove(&mut overlay, &addresses(2..=2), "gone.test:80").unwrap();
}

#[test]
fn what_is_at_its_bound_can_still_be_changed_back() {
    let file: Vec<Server> = (0..=MAX_CHANGES as u16)
        .map(|n| {
            let address: SocketAddr = ([10, 0, 0, 1], n + 1).into();
            Server::new(address.to_string(), ServerAddress::Ip(address))
        })
        .collect();
    let mut overlay = Overlay::default();
    let mut order = |server: &Server, order| {
        overlay.edit(known(&file), set(&server.name, None, Some(order)), 20)
    };
    for server in &file[1..] {
        order(server, Order::Drain).unwrap();
    }
    let more = order(&file[0], Order::Drain);
    assert!(matches!(more, Err(Refusal::Conflict(_))), "{more:?}");
    order(&file[7], Order::Down).unwrap();
    order(&file[7], Order::Ready).unwrap();
    order(&file[0], Order::Drain).unwrap();
    assert_eq!(overlay.drift().len(), MAX_CHANGES);
}

/// Rather than taking it and doing something else.
#[test]
fn a_server_that_comes_back_comes_back_as_it_is_written() {
    let mut file = [server(1), server(2)];
    file[0].priority = 3;
    let mut overlay = Overlay::default();
    overlay
        .edit(known(&file), Edit::Remove("10.0.0.1:80".to_owned()), 20)
        .unwrap();
    let mut backup = server(1);
    backup.backup = true;
    let mut zoned = server(1);
    zoned.zone = Some("z".to_owned());
    let mut first = server(1);
    first.priority = 1;
    for other in [backup, zoned, first] {
        let refused = overlay.edit(known(&file), Edit::Add(other), 20);
        assert!(matches!(refused, Err(Refusal::Conflict(_))), "{refused:?}");
    }
    overlay
        .edit(known(&file), Edit::Add(server(1)), 20)
        .unwrap();
    assert!(overlay.is_empty());
}

#[test]
fn a_server_that_is_removed_can_be_added_again() {
    let file = [server(1), server(2)];
    let mut overlay = Overlay::default();
    overlay
        .edit(known(&file), Edit::Remove("10.0.0.1:80".to_owned()), 20)
        .unwrap();
    let twice = overlay.edit(known(&file), Edit::Add(server(2)), 20);
    assert!(matches!(twice, Err(Refusal::Conflict(_))), "{twice:?}");
    let mut again = server(1);
    again.weight = 7;
    let edited = overlay.edit(known(&file), Edit::Add(again), 20).unwrap();
    assert_eq!(
        (edited.before.as_str(), edited.after.as_str()),
        ("absent", "ready, weight 7")
    );
    assert_eq!(effective(&overlay, &file).len(), 2);
}

#[test]
fn one_address_of_a_name_can_be_meant() {
    let address = ServerAddress::Dns {
        host: "api".to_owned(),
        port: 80,
    };
    let file = [Server::new("api:80", address)];
    let addresses = [1, 2].map(|n| (format!("api:80 (10.0.0.{n}:80)"), format!("10.0.0.{n}:80")));
    let known = Known {
        servers: &file,
        addresses: &addresses,
    };
    let mut overlay = Overlay::default();
    let edited = overlay
        .edit(known, set("10.0.0.2:80", None, Some(Order::Drain)), 20)
        .unwrap();
    assert_eq!(edited.server, "api:80 (10.0.0.2:80)");
    assert_eq!(overlay.lay(&file[0], &addresses[0].0), (1, Order::Ready));
    assert_eq!(overlay.lay(&file[0], &addresses[1].0), (1, Order::Drain));
    overlay
        .edit(known, set("api:80", Some(9), Some(Order::Down)), 20)
        .unwrap();
    assert_eq!(overlay.lay(&file[0], &addresses[0].0), (9, Order::Down));
    assert_eq!(overlay.lay(&file[0], &addresses[1].0), (9, Order::Drain));
    // As the whole name is: nothing more to be said of the address.
    overlay
        .edit(known, set("10.0.0.2:80", None, Some(Order::Down)), 20)
        .unwrap();
    assert_eq!(overlay.drift().len(), 2, "{overlay:?}");
}

#[test]
fn a_drain_with_an_end_turns_into_down() {
    let file = [server(1), server(2)];
    let mut overlay = Overlay::default();
    overlay
        .edit(
            known(&file),
            Edit::Set {
                server: "10.0.0.1:80".to_owned(),
                weight: None,
                order: Some(Order::Drain),
                lasts: Some(Duration::from_millis(30)),
            },
            20,
        )
        .unwrap();
    assert_eq!(overlay.expire(49), (Vec::new(), Some(50)));
    assert_eq!(overlay.lay(&file[0], "").1, Order::Drain);
    assert_eq!(overlay.expire(50), (vec!["10.0.0.1:80".to_owned()], None));
    assert_eq!(overlay.lay(&file[0], "").1, Order::Down);
    assert_eq!(overlay.expire(60), (Vec::new(), None));
}

#[test]
fn memory_is_bounded() {
    let file: Vec<Server> = (0..=255).map(server).collect();
    let mut overlay = Overlay::default();
    for n in 0..MAX_CHANGES {
        let address: SocketAddr = ([10, 1, (n / 250) as u8, (n % 250) as u8], 80).into();
        let new = Server::new(address.to_string(), ServerAddress::Ip(address));
        overlay.edit(known(&file), Edit::Add(new), 20).unwrap();
    }
    let more = overlay.edit(known(&file), set("10.0.0.1:80", Some(3), None), 20);
    assert!(matches!(more, Err(Refusal::Conflict(_))), "{more:?}");
    overlay.edit(known(&file), Edit::Reset, 20).unwrap();
    assert!(overlay.is_empty());
}

#[test]
fn what_the_file_no_longer_has_is_forgotten() {
    let (before, after) = ([server(1), server(2)], [server(2)]);
    let mut overlay = Overlay::default();
    overlay
        .edit(known(&before), set("10.0.0.1:80", Some(3), None), 20)
        .unwrap();
    overlay.settle(&before, &after);
    assert!(overlay.is_empty(), "{overlay:?}");
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::Ready), Just(Order::Drain), Just(Order::Down)]
}

fn any_server() -> impl Strategy<Value = Server> {
    (0..6_u8, 1..4_u32, order()).prop_map(|(n, weight, order)| Server {
        weight,
        order,
        ..server(n)
    })
}

fn any_edit() -> impl Strategy<Value = Edit> {
    let name = || (0..6_u8).prop_map(|n| server(n).name);
    prop_oneof![
        any_server().prop_map(Edit::Add),
        name().prop_map(Edit::Remove),
        (
            name(),
            proptest::option::of(1..4_u32),
            proptest::option::of(order())
        )
            .prop_map(|(server, weight, order)| Edit::Set {
                server,
                weight,
                order,
                lasts: None
            }),
        Just(Edit::Reset),
    ]
}

fn any_file() -> impl Strategy<Value = Vec<Server>> {
    proptest::collection::vec(any_server(), 0..6).prop_map(|mut servers| {
        let mut seen = Vec::new();
        servers.retain(|s| {
            !seen.contains(&s.name) && {
                seen.push(s.name.clone());
                true
            }
        });
        servers
    })
}

proptest! {
    /// Changes survive any reload as they were meant: for servers that are still there and new ones the upstream is the
    /// same whether or not the overlay has taken note of the file; and what it then shows is really a difference.
    #[test]
    fn a_reload_keeps_what_was_changed(
        file in any_file(),
        edits in proptest::collection::vec(any_edit(), 0..12),
        next in any_file(),
    ) {
        let mut overlay = Overlay::default();
        for edit in edits {
            let before = overlay.clone();
            if overlay.edit(known(&file), edit, 20).is_err() {
                prop_assert_eq!(&overlay, &before, "a refused edit changes nothing");
            }
        }
        let saved = serde_json::to_string(&overlay.save(&file)).unwrap();
        let back = Overlay::restore(&serde_json::from_str(&saved).unwrap(), &file);
        prop_assert_eq!(&back, &overlay, "another process knows the same");

        let same = {
            let mut same = overlay.clone();
            same.settle(&file, &file);
            same
        };
        prop_assert_eq!(effective(&same, &file), effective(&overlay, &file));

        let mut settled = overlay.clone();
        settled.settle(&file, &next);
        for server in &next {
            // Added by the operator and now written: it is as the operator said.
            if let Some(added) = overlay.added().iter().find(|a| a.address == server.address) {
                prop_assert_eq!(settled.lay(server, ""), overlay.lay(added, ""));
            } else {
                prop_assert_eq!(settled.lay(server, ""), overlay.lay(server, ""));
                prop_assert_eq!(settled.is_removed(&server.name, ""), overlay.is_removed(&server.name, ""));
            }
        }
        for drift in settled.drift() {
            let of = |name: &str| next.iter().chain(settled.added()).find(|s| s.name == name).cloned();
            match drift {
                Drift::Added(added) => prop_assert!(!next.iter().any(|s| s.address == added.address)),
                Drift::Removed(name) => prop_assert!(of(&name).is_some() || !file.iter().any(|s| s.name == name)),
                Drift::Weight { server, weight } => prop_assert_ne!(of(&server).map(|s| s.weight), Some(weight)),
                Drift::Order { server, order, .. } => prop_assert_ne!(of(&server).map(|s| s.order), Some(order)),
            }
        }
    }
}
