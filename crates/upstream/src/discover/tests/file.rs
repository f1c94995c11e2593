//! Files of servers.

use std::path::{Path, PathBuf};

use narthex_config::model::Discover;

use super::*;

/// A directory of its own, which is removed at the end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("narthex-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// As editors do it: a new file in the place of the old one.
    fn replace(&self, name: &str, text: &str) {
        std::fs::write(self.file("new"), text).unwrap();
        std::fs::rename(self.file("new"), self.file(name)).unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn listed(path: &Path) -> Upstream {
    let mut upstream = Upstream::new("u");
    let path = path.to_owned();
    upstream.discover = vec![Discover::File { path }];
    upstream
}

fn follow(upstream: Upstream) -> (Arc<Cluster>, Discovery) {
    let fleet = Fleet::new(1);
    let clusters = fleet.reconcile(&[upstream]);
    let discovery = Discovery::start(&fleet).unwrap();
    assert!(discovery.wait_for_answers(LONGEST));
    (Arc::clone(&clusters[0]), discovery)
}

#[test]
fn a_file_is_read_at_the_start_and_followed() {
    let place = Place::new("file-followed");
    place.replace(
        "servers.kdl",
        "server \"127.0.0.1:1\" weight=3\nserver \"127.0.0.2:2\"\n",
    );
    let (cluster, _discovery) = follow(listed(&place.file("servers.kdl")));
    assert_eq!(servers(&cluster), ["127.0.0.1:1", "127.0.0.2:2"]);
    assert_eq!(cluster.set().members[0].weight, 3);
    let kept = Arc::clone(&cluster.set().members[1].endpoint);

    // In its place, and written over.
    place.replace(
        "servers.kdl",
        "server \"127.0.0.2:2\"\nserver \"127.0.0.3:3\"",
    );
    until("the new file is read", || {
        servers(&cluster) == ["127.0.0.2:2", "127.0.0.3:3"]
    });
    assert!(Arc::ptr_eq(&kept, &cluster.set().members[0].endpoint));
    std::fs::write(place.file("servers.kdl"), "server \"127.0.0.4:4\"").unwrap();
    until("what was written over is read", || {
        servers(&cluster) == ["127.0.0.4:4"]
    });
    // None at all is what it says.
    std::fs::write(place.file("servers.kdl"), "// none now\n").unwrap();
    until("there is none", || servers(&cluster).is_empty());
}

#[test]
fn a_file_that_is_gone_or_broken_takes_no_server_away() {
    let place = Place::new("file-broken");
    place.replace("servers.json", r#"["127.0.0.1:1"]"#);
    let (cluster, _discovery) = follow(listed(&place.file("servers.json")));
    let status = |up| {
        until("its condition is told", || cluster.sources()[0].up == up);
        assert_eq!(servers(&cluster), ["127.0.0.1:1"]);
    };
    place.replace("servers.json", r#"["127.0.0.1:1", "#);
    status(false);
    assert!(cluster.sources()[0].why.as_ref().unwrap().contains("JSON"));
    place.replace("servers.json", r#"["127.0.0.1:1"]"#);
    status(true);
    std::fs::remove_file(place.file("servers.json")).unwrap();
    status(false);
    place.replace("servers.json", r#"["127.0.0.2:2"]"#);
    until("it is back", || servers(&cluster) == ["127.0.0.2:2"]);
}

#[test]
fn a_pipe_is_no_file_and_holds_nobody_up() {
    let place = Place::new("file-pipe");
    let mut mkfifo = std::process::Command::new("mkfifo");
    assert!(
        mkfifo
            .arg(place.file("servers.kdl"))
            .status()
            .unwrap()
            .success()
    );
    let (cluster, _discovery) = follow(listed(&place.file("servers.kdl")));
    let why = cluster.sources()[0].why.clone().unwrap();
    assert_eq!(why, "this is not a regular file");
}

#[test]
fn a_bad_entry_is_counted_and_the_others_are_taken() {
    let place = Place::new("file-entries");
    place.replace(
        "servers.kdl",
        "server \"127.0.0.1:1\"\nserver \"nonsense\"\nserver \"127.0.0.9:9\"\n",
    );
    let mut upstream = listed(&place.file("servers.kdl"));
    let address = ServerAddress::Ip("127.0.0.9:9".parse().unwrap());
    upstream.servers = vec![Server::new("127.0.0.9:9", address)];
    let (cluster, _discovery) = follow(upstream);
    assert_eq!(servers(&cluster), ["127.0.0.9:9", "127.0.0.1:1"]);
    let status = cluster.sources();
    assert_eq!((status[0].up, status[0].servers), (true, 2));
    assert_eq!(status[0].skipped, [("duplicate", 1), ("invalid", 1)]);
    // The same mistakes are not counted again.
    place.replace(
        "servers.kdl",
        "server \"127.0.0.2:2\"\nserver \"nonsense\"\nserver \"127.0.0.9:9\"\n",
    );
    until("it is read again", || {
        servers(&cluster) == ["127.0.0.9:9", "127.0.0.2:2"]
    });
    assert_eq!(
        cluster.sources()[0].skipped,
        [("duplicate", 1), ("invalid", 1)]
    );
}

#[test]
fn a_name_in_a_list_is_resolved() {
    let place = Place::new("file-name");
    place.replace("servers.kdl", "server \"localhost:80\"");
    let (cluster, _discovery) = follow(listed(&place.file("servers.kdl")));
    until("it has addresses", || {
        servers(&cluster).contains(&"127.0.0.1:80".to_owned())
    });
}

#[test]
fn a_server_that_comes_back_soon_is_the_same() {
    let place = Place::new("file-back");
    place.replace(
        "servers.kdl",
        "server \"127.0.0.1:1\"\nserver \"127.0.0.2:2\"",
    );
    let (cluster, _discovery) = follow(listed(&place.file("servers.kdl")));
    let kept = Arc::clone(&cluster.set().members[1].endpoint);
    place.replace("servers.kdl", "server \"127.0.0.1:1\"");
    until("it is gone", || servers(&cluster).len() == 1);
    place.replace(
        "servers.kdl",
        "server \"127.0.0.2:2\"\nserver \"127.0.0.1:1\"",
    );
    until("it is back", || servers(&cluster).len() == 2);
    assert!(Arc::ptr_eq(&kept, &cluster.set().members[0].endpoint));
}

#[test]
fn a_reload_keeps_what_was_found_and_forgets_what_is_not_wanted() {
    let place = Place::new("file-reload");
    place.replace("servers.kdl", "server \"127.0.0.1:1\"");
    let fleet = Fleet::new(1);
    let mut upstream = listed(&place.file("servers.kdl"));
    let cluster = Arc::clone(&fleet.reconcile(std::slice::from_ref(&upstream))[0]);
    let discovery = Discovery::start(&fleet).unwrap();
    assert!(discovery.wait_for_answers(LONGEST));
    upstream.connections.max = 7;
    fleet.reconcile(std::slice::from_ref(&upstream));
    assert_eq!(servers(&cluster), ["127.0.0.1:1"]);
    upstream.discover.clear();
    fleet.reconcile(&[upstream]);
    assert!(servers(&cluster).is_empty());
}
