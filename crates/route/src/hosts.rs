//! Which site answers for a host: exact name, then the longest wildcard, then the default; a site that is bound to
//! other listeners is passed over.

use narthex_config::model::{HostPattern, Site};
use narthex_message::authority;

use crate::table::Table;

/// Owners in the table.
const EXACT: u32 = 0;
const WILDCARD: u32 = 1;

/// Marks a value in the table as an index into `shared` instead of a site.
const SHARED: u32 = 1 << 31;

/// All hosts of all sites.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    /// Name to its site, or with [`SHARED`] to an index into `shared`.
    table: Table,
    /// Sites that have one name, in written order: they are on different listeners.
    shared: Vec<Vec<u32>>,
    /// Sites that answer for every host.
    any: Vec<u32>,
    /// Most labels of a wildcard's name: longer suffixes of a host need no look.
    wildcard_labels: usize,
}

impl Hosts {
    /// Notes the hosts of `site`, whose index is `index`.
    pub(crate) fn add(&mut self, site: &Site, index: u32) -> Result<(), String> {
        for host in &site.hosts {
            match host {
                HostPattern::Any => self.any.push(index),
                HostPattern::Exact(name) => self.name(EXACT, &canonical(name)?, index),
                HostPattern::Wildcard(name) => {
                    let name = canonical(name)?;
                    self.wildcard_labels = self.wildcard_labels.max(name.split('.').count());
                    self.name(WILDCARD, &name, index);
                }
            }
        }
        Ok(())
    }

    fn name(&mut self, owner: u32, name: &str, site: u32) {
        match self.table.get(owner, name.as_bytes()) {
            None => self.table.insert(owner, name.as_bytes(), site),
            Some(at) if at & SHARED != 0 => {
                if let Some(sites) = self.shared.get_mut((at & !SHARED) as usize) {
                    sites.push(site);
                }
            }
            Some(first) => {
                let at = self.shared.len() as u32;
                self.shared.push(vec![first, site]);
                self.table.insert(owner, name.as_bytes(), at | SHARED);
            }
        }
    }

    /// The site for a canonical `host` among those that `allowed` lets pass.
    pub(crate) fn find(&self, host: &str, allowed: impl Fn(u32) -> bool) -> Option<u32> {
        self.look(EXACT, host, &allowed)
            .or_else(|| self.wildcard(host, &allowed))
            .or_else(|| self.any.iter().copied().find(|site| allowed(*site)))
    }

    fn look(&self, owner: u32, name: &str, allowed: &impl Fn(u32) -> bool) -> Option<u32> {
        let at = self.table.get(owner, name.as_bytes())?;
        if at & SHARED == 0 {
            return Some(at).filter(|site| allowed(*site));
        }
        let sites = self.shared.get((at & !SHARED) as usize)?;
        sites.iter().copied().find(|site| allowed(*site))
    }

    /// Cuts labels off the front; the first hit is the longest.
    fn wildcard(&self, host: &str, allowed: &impl Fn(u32) -> bool) -> Option<u32> {
        if self.wildcard_labels == 0 {
            return None;
        }
        let mut labels = host.bytes().filter(|b| *b == b'.').count();
        let mut rest = host;
        while let Some((_, parent)) = rest.split_once('.') {
            if labels <= self.wildcard_labels
                && let Some(site) = self.look(WILDCARD, parent, allowed)
            {
                return Some(site);
            }
            rest = parent;
            labels = labels.saturating_sub(1);
        }
        None
    }
}

/// The name in the form that requests are brought to.
fn canonical(written: &str) -> Result<String, String> {
    match authority::parse(written.as_bytes()) {
        Ok(parsed) if parsed.port.is_none() && !written.ends_with(':') => {
            Ok(parsed.host.into_owned())
        }
        Ok(_) => Err(format!(
            "the host `{written}` has a port; sites are told apart by name only"
        )),
        Err(e) => Err(format!("the host `{written}` can never match: {e}")),
    }
}
