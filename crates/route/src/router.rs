//! The router: built from a configuration, asked per request.

use std::fmt;
use std::sync::Arc;

use narthex_config::model::{Config, Origin, Route, Site};

use crate::captures::Captures;
use crate::condition::{Query, Test};
use crate::hosts::Hosts;
use crate::methods::Methods;
use crate::pattern::Pattern;
use crate::regexes::{Collector, Regexes};
use crate::tree::{NONE, Tree};

/// Finds site and route. Cheap to clone; give each core its own clone, so that they share no scratch memory.
#[derive(Debug, Clone)]
pub struct Router {
    pub(crate) shared: Arc<Shared>,
    pub(crate) regexes: Regexes,
}

/// What clones share: read only.
#[derive(Debug)]
pub(crate) struct Shared {
    hosts: Hosts,
    tree: Tree,
    pub(crate) sites: Vec<SiteRules>,
}

/// One site.
#[derive(Debug)]
pub(crate) struct SiteRules {
    /// Empty means all.
    listeners: Box<[usize]>,
    merge_slashes: bool,
    /// Root in the tree, or `NONE`.
    root: u32,
    /// Routes that the tree doesn't hold, ascending: those for every path and those with a regular expression.
    others: Box<[u32]>,
    pub(crate) rules: Box<[Rule]>,
}

/// One route.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) pattern: Pattern,
    captures: Box<[Box<str>]>,
    pub(crate) methods: Methods,
    pub(crate) conditions: Box<[Test]>,
    /// Any of them: the route's cache has no part in it.
    bypass: Box<[Test]>,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // it is returned on the stack and never stored; a box would be an allocation
pub enum Found {
    /// This route of this site.
    Route {
        /// Index into [`Config::sites`].
        site: usize,
        /// Index into [`Site::routes`].
        route: usize,
        /// What its path captured.
        captures: Captures,
    },
    /// No site answers for the host on this listener: 421 or 404, the caller decides.
    NoSite,
    /// The site has no route that matches: 404.
    NoRoute {
        /// Index into [`Config::sites`].
        site: usize,
    },
}

/// Why a router can't be built. The configuration's check should have found it earlier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildError {
    /// Name of the site.
    pub site: String,
    /// Name of the route, if it is about one.
    pub route: Option<String>,
    /// Where that was written.
    pub origin: Origin,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: site `{}`",
            self.origin.file, self.origin.line, self.site
        )?;
        if let Some(route) = &self.route {
            write!(f, ", route `{route}`")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl std::error::Error for BuildError {}

impl Router {
    /// The router of a configuration.
    pub fn build(config: &Config) -> Result<Self, BuildError> {
        Self::from_sites(&config.sites)
    }

    /// The router of these sites. Where two claim one host on one listener, the first has it.
    pub fn from_sites(sites: &[Site]) -> Result<Self, BuildError> {
        let mut regexes = Collector::default();
        let mut hosts = Hosts::default();
        let mut tree = Tree::default();
        let mut rules = Vec::with_capacity(sites.len());
        for (index, site) in sites.iter().enumerate() {
            hosts.add(site, index as u32).map_err(|what| BuildError {
                site: site.name.clone(),
                route: None,
                origin: site.origin.clone(),
                what,
            })?;
            rules.push(SiteRules::build(site, &mut tree, &mut regexes)?);
        }
        Ok(Self {
            shared: Arc::new(Shared {
                hosts,
                tree,
                sites: rules,
            }),
            regexes: regexes.finish(),
        })
    }

    /// The site that answers for a canonical `host` on a listener.
    pub fn site(&self, listener: usize, host: &str) -> Option<usize> {
        let sites = &self.shared.sites;
        let allowed = |site: u32| {
            sites
                .get(site as usize)
                .is_some_and(|s| s.answers_on(listener))
        };
        self.shared
            .hosts
            .find(host, allowed)
            .map(|site| site as usize)
    }

    /// Does this site merge slashes? Ask before the path is made canonical for [`Router::route`].
    pub fn merge_slashes(&self, site: usize) -> bool {
        self.shared.sites.get(site).is_some_and(|s| s.merge_slashes)
    }

    /// The first route of `site` that matches, and what it captured. `q.host` isn't looked at.
    pub fn route(&self, site: usize, q: &Query<'_>) -> Option<(usize, Captures)> {
        let mut captures = Captures::default();
        let route = self.route_into(site, q, &mut captures)?;
        Some((route, captures))
    }

    /// As [`Router::route`], for a caller that keeps the memory of the captures.
    #[inline(always)]
    pub fn route_into(&self, site: usize, q: &Query<'_>, captures: &mut Captures) -> Option<usize> {
        captures.clear();
        let site = self.shared.sites.get(site)?;
        let route = site.find(&self.shared.tree, q, &self.regexes)?;
        let rule = site.rules.get(route)?;
        if !rule.captures.is_empty() {
            *captures = rule.pattern.captures(q.path, &self.regexes);
        }
        Some(route)
    }

    /// Does this request pass by the cache of its route?
    pub fn bypasses_cache(&self, site: usize, route: usize, q: &Query<'_>) -> bool {
        let rule = self.shared.sites.get(site).and_then(|s| s.rules.get(route));
        rule.is_some_and(|r| r.bypass.iter().any(|test| test.holds(q, &self.regexes)))
    }

    /// Site and route in one step, for a path that is canonical with the site's choice of merged slashes.
    pub fn find(&self, listener: usize, q: &Query<'_>) -> Found {
        let Some(site) = self.site(listener, q.host) else {
            return Found::NoSite;
        };
        match self.route(site, q) {
            Some((route, captures)) => Found::Route {
                site,
                route,
                captures,
            },
            None => Found::NoRoute { site },
        }
    }

    /// Names of what a route captures; [`crate::Span::name`] is an index into it.
    pub fn capture_names(&self, site: usize, route: usize) -> &[Box<str>] {
        let rule = self.shared.sites.get(site).and_then(|s| s.rules.get(route));
        rule.map_or(&[], |r| &r.captures)
    }

    /// The text that `name` captured.
    pub fn captured<'p>(
        &self,
        site: usize,
        route: usize,
        captures: &Captures,
        path: &'p str,
        name: &str,
    ) -> Option<&'p str> {
        let index = self
            .capture_names(site, route)
            .iter()
            .position(|n| **n == *name)?;
        captures.text(path, index)
    }
}

impl SiteRules {
    fn build(site: &Site, tree: &mut Tree, regexes: &mut Collector) -> Result<Self, BuildError> {
        let mut root = NONE;
        let mut others = Vec::new();
        let mut rules = Vec::with_capacity(site.routes.len());
        for (index, route) in site.routes.iter().enumerate() {
            let rule =
                Rule::build(route, site.merge_slashes, regexes).map_err(|what| BuildError {
                    site: site.name.clone(),
                    route: Some(route.name.clone()),
                    origin: route.origin.clone(),
                    what,
                })?;
            if matches!(rule.pattern, Pattern::All | Pattern::Regex(..)) {
                others.push(index as u32);
            } else {
                if root == NONE {
                    root = tree.root();
                }
                tree.add(root, index as u32, &rule.pattern);
            }
            rules.push(rule);
        }
        Ok(Self {
            listeners: site.listeners.as_slice().into(),
            merge_slashes: site.merge_slashes,
            root,
            others: others.into(),
            rules: rules.into(),
        })
    }

    fn answers_on(&self, listener: usize) -> bool {
        self.listeners.is_empty() || self.listeners.contains(&listener)
    }

    /// The first route that matches.
    #[inline(always)]
    fn find(&self, tree: &Tree, q: &Query<'_>, regexes: &Regexes) -> Option<usize> {
        let rule = |route: u32| self.rules.get(route as usize);
        let holds = |route: u32| rule(route).is_some_and(|r| r.holds(q, regexes));
        let best = if self.root == NONE {
            NONE
        } else {
            tree.find(self.root, q.path, NONE, &holds)
        };
        for &route in &self.others {
            if route >= best {
                break;
            }
            if rule(route).is_some_and(|r| r.takes(q, regexes)) {
                return Some(route as usize);
            }
        }
        (best != NONE).then_some(best as usize)
    }
}

impl Rule {
    fn build(route: &Route, merge_slashes: bool, regexes: &mut Collector) -> Result<Self, String> {
        let matcher = &route.matcher;
        let (pattern, captures) = Pattern::build(matcher.path.as_ref(), merge_slashes, regexes)?;
        let conditions: Result<Vec<Test>, String> = matcher
            .conditions
            .iter()
            .map(|c| Test::build(c, regexes))
            .collect();
        let bypass: Result<Vec<Test>, String> = route
            .settings
            .cache
            .iter()
            .flat_map(|rule| &rule.bypass)
            .map(|c| Test::build(c, regexes))
            .collect();
        Ok(Self {
            pattern,
            captures: captures.into(),
            methods: Methods::build(&matcher.methods),
            conditions: conditions?.into(),
            bypass: bypass?.into(),
        })
    }

    /// Everything beside the path.
    fn holds(&self, q: &Query<'_>, regexes: &Regexes) -> bool {
        self.methods.take(q.method) && self.conditions.iter().all(|test| test.holds(q, regexes))
    }

    /// Everything.
    #[inline]
    pub(crate) fn takes(&self, q: &Query<'_>, regexes: &Regexes) -> bool {
        self.methods.take(q.method)
            && self.pattern.matches(q.path, regexes)
            && self.conditions.iter().all(|test| test.holds(q, regexes))
    }
}
