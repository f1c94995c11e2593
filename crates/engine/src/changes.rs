//! What a reload changes: two configurations compared by name, for the operator's eyes. Pure.
//!
//! Lines and indices move when a file is edited above them; neither is a change.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use narthex_config::model::{Action, Config, Listener, Origin, Route, Site, Upstream};
use serde::Serialize;

/// Names that came, went or differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Delta {
    /// Only in the new configuration.
    pub added: Vec<String>,
    /// Only in the old one.
    pub removed: Vec<String>,
    /// In both, and different.
    pub changed: Vec<String>,
}

impl Delta {
    /// Nothing.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// Everything that differs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Sockets.
    pub listeners: Delta,
    /// Sites.
    pub sites: Delta,
    /// Routes, as `site route`.
    pub routes: Delta,
    /// Upstreams.
    pub upstreams: Delta,
    /// Settings of the whole process that took effect, by key.
    pub settings: Vec<&'static str>,
    /// What was not applied and what to do about it.
    pub notes: Vec<String>,
}

impl Changes {
    /// Compares two configurations.
    pub fn between(old: &Config, new: &Config) -> Self {
        let mut names = Names::default();
        let old_sites = sites(old, &mut names);
        let new_sites = sites(new, &mut names);
        Self {
            listeners: delta(&listeners(old), &listeners(new)),
            sites: delta(&old_sites, &new_sites),
            routes: delta(&routes(&old_sites), &routes(&new_sites)),
            upstreams: delta(&upstreams(old), &upstreams(new)),
            settings: settings(old, new),
            notes: notes(old, new),
        }
    }

    /// Nothing differs.
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty()
            && self.sites.is_empty()
            && self.routes.is_empty()
            && self.upstreams.is_empty()
            && self.settings.is_empty()
            && self.notes.is_empty()
    }
}

/// Names listed in full per line; more are counted.
const NAMES_SHOWN: usize = 8;

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "nothing changed");
        }
        for (what, delta) in [
            ("listeners", &self.listeners),
            ("sites", &self.sites),
            ("routes", &self.routes),
            ("upstreams", &self.upstreams),
        ] {
            for (sign, names) in [
                ("+", &delta.added),
                ("-", &delta.removed),
                ("~", &delta.changed),
            ] {
                if !names.is_empty() {
                    writeln!(f, "  {what:<10} {sign} {}", listed(names))?;
                }
            }
        }
        if !self.settings.is_empty() {
            writeln!(f, "  settings   ~ {}", self.settings.join(", "))?;
        }
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        Ok(())
    }
}

fn listed(names: &[String]) -> String {
    let shown = names
        .iter()
        .take(NAMES_SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    match names.len().checked_sub(NAMES_SHOWN) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}

type Named<T> = BTreeMap<String, T>;

fn delta<T: PartialEq>(old: &Named<T>, new: &Named<T>) -> Delta {
    let missing = |from: &Named<T>, other: &Named<T>| {
        from.keys()
            .filter(|name| !other.contains_key(*name))
            .cloned()
            .collect()
    };
    Delta {
        added: missing(new, old),
        removed: missing(old, new),
        changed: old
            .iter()
            .filter(|(name, t)| new.get(*name).is_some_and(|n| n != *t))
            .map(|(n, _)| n.clone())
            .collect(),
    }
}

/// A second thing of one name gets `#2`, so that none is lost.
fn by_name<T>(items: impl Iterator<Item = (String, T)>) -> Named<T> {
    let mut seen: HashMap<String, u32> = HashMap::new();
    items
        .map(|(name, item)| {
            let count = seen
                .entry(name.clone())
                .and_modify(|n| *n += 1)
                .or_insert(1);
            (
                if *count == 1 {
                    name
                } else {
                    format!("{name} #{count}")
                },
                item,
            )
        })
        .collect()
}

fn listeners(config: &Config) -> Named<Listener> {
    by_name(config.listeners.iter().map(|l| {
        (
            l.name.clone(),
            Listener {
                origin: Origin::default(),
                ..l.clone()
            },
        )
    }))
}

fn upstreams(config: &Config) -> Named<Upstream> {
    by_name(config.upstreams.iter().map(|u| {
        (
            u.name.clone(),
            Upstream {
                origin: Origin::default(),
                ..u.clone()
            },
        )
    }))
}

/// Gives every name a number that both configurations agree on, so that indices can be compared.
#[derive(Default)]
struct Names(HashMap<String, usize>);

impl Names {
    fn number(&mut self, kind: &str, name: Option<&str>) -> usize {
        let next = self.0.len();
        *self
            .0
            .entry(format!("{kind} {}", name.unwrap_or_default()))
            .or_insert(next)
    }
}

fn sites(config: &Config, names: &mut Names) -> Named<Site> {
    by_name(
        config
            .sites
            .iter()
            .map(|site| (site.name.clone(), comparable(site, config, names))),
    )
}

/// The site without its place in the file, its indices replaced by numbers that stand for names.
fn comparable(site: &Site, config: &Config, names: &mut Names) -> Site {
    let mut site = Site {
        origin: Origin::default(),
        ..site.clone()
    };
    for listener in &mut site.listeners {
        *listener = names.number(
            "listener",
            config.listeners.get(*listener).map(|l| l.name.as_str()),
        );
    }
    if let Some(log) = &mut site.access_log {
        let written = config.access_logs.get(*log).map(|log| format!("{log:?}"));
        *log = names.number("log", written.as_deref());
    }
    for route in &mut site.routes {
        route.origin = Origin::default();
        let mut upstream = |index: &mut usize| {
            *index = names.number(
                "upstream",
                config.upstreams.get(*index).map(|u| u.name.as_str()),
            );
        };
        match &mut route.action {
            Action::Proxy(index) => upstream(index),
            Action::Split(split) => split.to.iter_mut().for_each(|(index, _)| upstream(index)),
            Action::Redirect { .. } | Action::Respond { .. } => {}
        }
    }
    site
}

/// Routes, named after their site.
fn routes(sites: &Named<Site>) -> Named<&Route> {
    let all = sites
        .iter()
        .flat_map(|(name, site)| site.routes.iter().map(move |route| (name, route)));
    by_name(all.map(|(site, route)| (format!("{site} {}", route.name), route)))
}

fn settings(old: &Config, new: &Config) -> Vec<&'static str> {
    [
        ("memory", old.memory != new.memory),
        (
            "connections",
            old.connections_max != new.connections_max
                || old.connections_per_client != new.connections_per_client,
        ),
        ("shutdown-grace", old.shutdown_grace != new.shutdown_grace),
        ("upgrade-grace", old.upgrade_grace != new.upgrade_grace),
        ("shed", old.shed_latency != new.shed_latency),
        ("zone", old.zone != new.zone),
        ("resolver", old.resolver != new.resolver),
        (
            "trusted-proxies",
            old.trusted_proxies != new.trusted_proxies,
        ),
        ("request-id", old.request_id != new.request_id),
        ("log", old.log.level != new.log.level),
        ("access-log", old.access_logs != new.access_logs),
        ("admin", old.admin != new.admin),
        ("tls-tickets", old.tls_tickets != new.tls_tickets),
        ("acme", old.acme != new.acme),
        (
            "cache",
            old.cache.memory != new.cache.memory
                || old.cache.disk.is_some() != new.cache.disk.is_some(),
        ),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

fn notes(old: &Config, new: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    if old.workers != new.workers {
        notes.push(format!(
            "workers stays {} until a restart; the file now says {}",
            old.workers, new.workers
        ));
    }
    if old.identity != new.identity {
        notes.push("user and group stay as they are until a restart".to_owned());
    }
    if old.log.json != new.log.json {
        notes.push("the format of the diagnostics log stays as it is until a restart".to_owned());
    }
    if let (Some(old), Some(new)) = (&old.cache.disk, &new.cache.disk)
        && old != new
    {
        notes.push(format!(
            "the cache stays in {} with the size that it has until a restart",
            old.directory.display()
        ));
    }
    if old.pid_file != new.pid_file {
        notes.push("pid-file stays where it is until a restart".to_owned());
    }
    notes
}

#[cfg(test)]
mod tests {
    use narthex_config::model::{Address, CacheDisk, HostPattern, Matcher, RouteSettings};

    use super::*;

    fn route(name: &str, action: Action) -> Route {
        Route {
            name: name.to_owned(),
            matcher: Matcher::default(),
            filters: Vec::new(),
            action,
            settings: RouteSettings::default(),
            origin: Origin::default(),
        }
    }

    fn site(name: &str, routes: Vec<Route>) -> Site {
        Site {
            name: name.to_owned(),
            hosts: vec![HostPattern::Exact(name.to_owned())],
            listeners: Vec::new(),
            routes,
            access_log: None,
            merge_slashes: true,
            tls: None,
            hsts: None,
            error_pages: Vec::new(),
            origin: Origin::default(),
        }
    }

    fn listener(port: u16) -> Listener {
        Listener::new(
            format!(":{port}"),
            Address::Tcp(([127, 0, 0, 1], port).into()),
        )
    }

    fn config() -> Config {
        Config {
            listeners: vec![listener(80)],
            upstreams: vec![Upstream::new("api"), Upstream::new("web")],
            sites: vec![site("a.example", vec![route("/*", Action::Proxy(0))])],
            ..Config::default()
        }
    }

    #[test]
    fn moved_lines_and_shifted_indices_are_no_change() {
        let old = config();
        let mut new = config();
        new.sites[0].origin.line = 99;
        new.sites[0].routes[0].origin.line = 100;
        new.upstreams.reverse();
        new.sites[0].routes[0].action = Action::Proxy(1);
        assert_eq!(Changes::between(&old, &new), Changes::default());
        assert_eq!(
            Changes::between(&old, &new).to_string(),
            "nothing changed\n"
        );
    }

    #[test]
    fn another_upstream_changes_the_route_and_its_site() {
        let mut new = config();
        new.sites[0].routes[0].action = Action::Proxy(1);
        let changes = Changes::between(&config(), &new);
        assert_eq!(changes.sites.changed, ["a.example"]);
        assert_eq!(changes.routes.changed, ["a.example /*"]);
        assert!(changes.upstreams.is_empty());
    }

    #[test]
    fn what_comes_and_goes_is_named() {
        let mut new = config();
        new.listeners = vec![listener(81)];
        new.upstreams.push(Upstream::new("next"));
        new.sites
            .push(site("b.example", vec![route("/x", Action::Proxy(2))]));
        new.shutdown_grace *= 2;
        let changes = Changes::between(&config(), &new);
        assert_eq!(
            (changes.listeners.added, changes.listeners.removed),
            (vec![":81".into()], vec![":80".into()])
        );
        assert_eq!(changes.upstreams.added, ["next"]);
        assert_eq!(changes.sites.added, ["b.example"]);
        assert_eq!(changes.routes.added, ["b.example /x"]);
        assert_eq!(changes.settings, ["shutdown-grace"]);
    }

    #[test]
    fn a_cache_on_disk_comes_and_goes_but_does_not_move() {
        let disk = |directory: &str| {
            Some(CacheDisk {
                directory: directory.into(),
                size: 1 << 30,
            })
        };
        let (mut old, mut new) = (config(), config());
        new.cache.disk = disk("/a");
        assert_eq!(Changes::between(&old, &new).settings, ["cache"]);
        old.cache.disk = disk("/b");
        let changes = Changes::between(&old, &new);
        assert!(changes.settings.is_empty());
        assert!(changes.notes[0].contains("stays in /b"), "{changes}");
    }

    #[test]
    fn two_routes_of_one_name_are_both_seen() {
        let mut old = config();
        old.sites[0].routes.push(route("/*", Action::Proxy(0)));
        let mut new = old.clone();
        new.sites[0].routes[1].action = Action::Proxy(1);
        assert_eq!(
            Changes::between(&old, &new).routes.changed,
            ["a.example /* #2"]
        );
    }

    #[test]
    fn what_needs_a_restart_says_so() {
        let mut new = config();
        new.workers = 4;
        let text = Changes::between(&config(), &new).to_string();
        assert!(text.contains("workers stays 1 until a restart"), "{text}");
    }

    #[test]
    fn long_lists_are_counted() {
        let names: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        assert_eq!(listed(&names), "0, 1, 2, 3, 4, 5, 6, 7 and 2 more");
        assert_eq!(listed(&names[..8]), "0, 1, 2, 3, 4, 5, 6, 7");
    }
}
