use proptest::prelude::*;

use super::*;
use crate::discover::system::NameServers;

/// What Docker 20.10 says of a container in a network of its own and of one in the machine's.
const RECORDED: &str = r#"[{"Id":"94d352513ecb8c48dafc7a48d72c32d0393379798086da9ba7f448d474984a26","Names":["/bb"],"Image":"pause:1","ImageID":"sha256:88144c72aa226396d1f98a5bdcaea2fdbcde7b46488fc4e229871e38e92058e2","Command":"/pause","Created":1795880866,"Ports":[{"PrivatePort":8080,"Type":"tcp"}],"Labels":{"narthex.upstream":"api"},"State":"running","Status":"Up 3 seconds (healthy)","HostConfig":{"NetworkMode":"nb"},"NetworkSettings":{"Networks":{"nb":{"IPAMConfig":null,"Links":null,"Aliases":null,"NetworkID":"f04d","EndpointID":"3dc5","Gateway":"172.17.0.1","IPAddress":"172.17.0.2","IPPrefixLen":16,"IPv6Gateway":"","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,"MacAddress":"02:42:ac:11:00:02","DriverOpts":null}}},"Mounts":[]},{"Id":"20ca5641615dac7e805775c270c659325e0634d567f6161677a44c95aaf29fab","Names":["/aa"],"Image":"pause:1","ImageID":"sha256:88144c72aa226396d1f98a5bdcaea2fdbcde7b46488fc4e229871e38e92058e2","Command":"/pause","Created":1795880866,"Ports":[],"Labels":{"narthex.port":"80","narthex.upstream":"api","narthex.weight":"3"},"State":"running","Status":"Up Less than a second","HostConfig":{"NetworkMode":"host"},"NetworkSettings":{"Networks":{"host":{"IPAMConfig":null,"Links":null,"Aliases":null,"NetworkID":"880a","EndpointID":"d976","Gateway":"","IPAddress":"","IPPrefixLen":0,"IPv6Gateway":"","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,"MacAddress":"","DriverOpts":null}}},"Mounts":[]}]"#;

fn engine(network: Option<&str>, port: Option<u16>) -> Engine {
    let names = Names::new(NameServers::At(Vec::new()));
    let network = network.map(str::to_owned);
    Engine::new(names, "/none".into(), "api".to_owned(), network, port)
}

fn container(change: impl FnOnce(&mut Value)) -> Value {
    let mut container = json!({
        "Id": "0123456789abcdef", "Names": ["/web"], "State": "running", "Status": "Up 2 hours",
        "Labels": { "narthex.upstream": "api" }, "Ports": [{ "PrivatePort": 8080, "Type": "tcp" }],
        "NetworkSettings": { "Networks": { "front": { "IPAddress": "10.1.0.1", "GlobalIPv6Address": "" } } },
    });
    change(&mut container);
    container
}

fn read(engine: &Engine, container: Value) -> Found {
    engine
        .containers(json!([container]).to_string().as_bytes())
        .unwrap()
}

fn server_of(engine: &Engine, change: impl FnOnce(&mut Value)) -> Server {
    let found = read(engine, container(change));
    assert_eq!(found.left_out, []);
    found.servers.into_iter().next().unwrap().1
}

fn left_out(engine: &Engine, change: impl FnOnce(&mut Value)) -> Skipped {
    let found = read(engine, container(change));
    assert_eq!(found.servers, []);
    found.left_out.into_iter().next().unwrap()
}

#[test]
fn an_engine_s_list_is_read() {
    let found = engine(None, None).containers(RECORDED.as_bytes()).unwrap();
    let names: Vec<(&str, u32)> = found
        .servers
        .iter()
        .map(|(_, s)| (s.name.as_str(), s.weight))
        .collect();
    assert_eq!(names, [("172.17.0.2:8080", 1), ("127.0.0.1:80", 3)]);
    assert_eq!(found.left_out, []);
}

#[test]
fn labels_say_what_the_server_is() {
    let server = server_of(&engine(None, None), |c| {
        c["Labels"] = json!({
            "narthex.upstream": "api", "narthex.port": "81", "narthex.weight": "7", "narthex.priority": "2",
            "narthex.zone": "a", "com.docker.compose.project": "x",
        });
    });
    assert_eq!(server.name, "10.1.0.1:81");
    assert_eq!(
        (server.weight, server.priority, server.zone.as_deref()),
        (7, 2, Some("a"))
    );
    assert!(
        server_of(&engine(None, None), |c| c["Labels"]["narthex.backup"] =
            "true".into())
        .backup
    );
    for (label, text, why) in [
        ("narthex.port", "http", "65535"),
        ("narthex.port", "0", "65535"),
        ("narthex.weight", "much", "no number"),
        ("narthex.weight", "5000", "1000"),
        ("narthex.backup", "yes", "neither"),
        ("narthex.wieght", "1", "not known"),
    ] {
        let skipped = left_out(&engine(None, None), |c| c["Labels"][label] = text.into());
        assert_eq!((skipped.reason, skipped.entry.as_str()), ("invalid", "web"));
        assert!(skipped.why.contains(why), "{}", skipped.why);
    }
}

#[test]
fn the_port_is_the_label_s_or_ours_or_the_only_one() {
    assert_eq!(server_of(&engine(None, Some(9)), |_| {}).name, "10.1.0.1:9");
    let both = json!([{ "PrivatePort": 80, "Type": "tcp", "PublicPort": 8000, "IP": "0.0.0.0" },
                      { "PrivatePort": 80, "Type": "tcp", "PublicPort": 8000, "IP": "::" },
                      { "PrivatePort": 53, "Type": "udp" }]);
    assert_eq!(
        server_of(&engine(None, None), |c| c["Ports"] = both).name,
        "10.1.0.1:80"
    );
    for ports in [
        json!([]),
        Value::Null,
        json!([{ "PrivatePort": 80, "Type": "tcp" }, { "PrivatePort": 81, "Type": "tcp" }]),
    ] {
        let skipped = left_out(&engine(None, None), |c| c["Ports"] = ports);
        assert!(skipped.why.contains("narthex.port"), "{}", skipped.why);
    }
}

#[test]
fn the_network_is_the_one_that_is_meant_or_the_only_one() {
    let both = || json!({ "back": { "IPAddress": "10.2.0.1" }, "front": { "IPAddress": "", "GlobalIPv6Address": "fd00::1" } });
    let networks =
        |networks: Value| move |c: &mut Value| c["NetworkSettings"]["Networks"] = networks;
    assert_eq!(
        server_of(&engine(Some("back"), None), networks(both())).name,
        "10.2.0.1:8080"
    );
    assert_eq!(
        server_of(&engine(Some("front"), None), networks(both())).name,
        "[fd00::1]:8080"
    );
    for (engine, networks_of, why) in [
        (engine(None, None), both(), "back, front"),
        (
            engine(Some("other"), None),
            both(),
            "not in the network other",
        ),
        (engine(None, None), json!({}), "no network"),
        (engine(None, None), Value::Null, "no network"),
        (
            engine(None, None),
            json!({ "none": { "IPAddress": "" } }),
            "no address",
        ),
        (engine(None, None), json!({ "front": null }), "no address"),
    ] {
        let skipped = left_out(&engine, networks(networks_of));
        assert_eq!(skipped.reason, "no-address");
        assert!(skipped.why.contains(why), "{}", skipped.why);
    }
}

#[test]
fn only_who_runs_and_is_not_ill_is_a_server() {
    let status = |status: &str| {
        read(
            &engine(None, None),
            container(|c| c["Status"] = status.into()),
        )
    };
    assert_eq!(status("Up 3 minutes (healthy)").servers.len(), 1);
    assert_eq!(status("Up 3 minutes (health: starting)"), Found::default());
    let ill = status("Up 3 minutes (unhealthy)");
    assert_eq!(
        (ill.servers.len(), ill.left_out[0].reason),
        (0, "unhealthy")
    );
    for state in ["paused", "exited", "restarting", "created", ""] {
        let found = read(
            &engine(None, None),
            container(|c| c["State"] = state.into()),
        );
        assert_eq!(found, Found::default(), "{state}");
    }
}

#[test]
fn what_is_no_container_is_named_and_the_others_are_taken() {
    let list = json!([7, container(|_| {}), { "Names": ["/x"] }]);
    let found = engine(None, None)
        .containers(list.to_string().as_bytes())
        .unwrap();
    assert_eq!(found.servers.len(), 1);
    let left_out: Vec<&str> = found.left_out.iter().map(|s| s.entry.as_str()).collect();
    assert_eq!(left_out, ["container 1", "container 3"]);
    for body in ["", "{}", "null", "[", "{\"message\":\"x\"}"] {
        assert!(
            engine(None, None).containers(body.as_bytes()).is_err(),
            "{body}"
        );
    }
}

proptest! {
    /// Whatever comes, it is a list or an error.
    #[test]
    fn damaged_lists_are_taken(at in 0..2400_usize, cut in 0..60_usize, put in "[ -~]{0,12}") {
        let mut damaged = RECORDED.as_bytes().to_vec();
        let at = at.min(damaged.len());
        let end = (at + cut).min(damaged.len());
        damaged.splice(at..end, put.bytes());
        if let Ok(found) = engine(None, None).containers(&damaged) {
            prop_assert!(found.servers.len() + found.left_out.len() <= 3);
        }
    }

    #[test]
    fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = engine(None, None).containers(&bytes);
    }
}
