//! Becoming somebody else after the sockets are open, keeping `CAP_NET_BIND_SERVICE` alone.
//!
//! The calls act on the calling thread: they run before any other thread exists, and threads inherit from their creator.

use std::path::Path;

use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use narthex_config::model::Identity;

/// Why we could not become somebody else.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// No such user.
    #[error(
        "there is no user \"{0}\" in /etc/passwd; name an existing one, or write its number and a group"
    )]
    NoUser(String),
    /// No such group.
    #[error("there is no group \"{0}\" in /etc/group; name an existing one, or write its number")]
    NoGroup(String),
    /// A user number without a group, and no entry that says which.
    #[error("user {0} has no entry in /etc/passwd that says its group; add group=\"...\"")]
    NoGroupOf(u32),
    /// We are not root and are not that user either.
    #[error(
        "only root can become user \"{0}\"; start as root, or remove `user` from the configuration"
    )]
    NotRoot(String),
    /// A system call failed.
    #[error("becoming user \"{user}\" failed at {step}: {error}")]
    Call {
        /// Whom.
        user: String,
        /// Which call.
        step: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
}

/// Numbers of an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Other groups the user is a member of.
    pub groups: Vec<u32>,
}

/// Looks names up in `/etc/passwd` and `/etc/group`. Users of other sources are written as numbers.
pub fn resolve(identity: &Identity) -> Result<Ids, IdentityError> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    resolve_in(identity, &read("/etc/passwd"), &read("/etc/group"))
}

fn resolve_in(identity: &Identity, passwd: &str, group: &str) -> Result<Ids, IdentityError> {
    let number: Option<u32> = identity.user.parse().ok();
    let entry = passwd
        .lines()
        .filter_map(passwd_line)
        .find(|(name, uid, _)| match number {
            Some(number) => *uid == number,
            None => *name == identity.user,
        });
    let uid = match (entry, number) {
        (Some((_, uid, _)), _) => uid,
        (None, Some(number)) => number,
        (None, None) => return Err(IdentityError::NoUser(identity.user.clone())),
    };
    let gid = match &identity.group {
        Some(name) => {
            find_group(name, group).ok_or_else(|| IdentityError::NoGroup(name.clone()))?
        }
        None => entry
            .map(|(_, _, gid)| gid)
            .ok_or(IdentityError::NoGroupOf(uid))?,
    };
    let groups = entry
        .map(|(name, _, _)| groups_of(name, group))
        .unwrap_or_default();
    Ok(Ids { uid, gid, groups })
}

/// `name:x:uid:gid:...`
fn passwd_line(line: &str) -> Option<(&str, u32, u32)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some((name, uid, gid))
}

/// `name:x:gid:member,member`
fn group_line(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let gid = fields.nth(1)?.parse().ok()?;
    Some((name, gid, fields.next().unwrap_or_default()))
}

fn find_group(wanted: &str, group: &str) -> Option<u32> {
    if let Ok(number) = wanted.parse() {
        return Some(number);
    }
    group
        .lines()
        .filter_map(group_line)
        .find(|(name, ..)| *name == wanted)
        .map(|(_, gid, _)| gid)
}

fn groups_of(user: &str, group: &str) -> Vec<u32> {
    let member = |members: &str| members.split(',').any(|m| m == user);
    group
        .lines()
        .filter_map(group_line)
        .filter(|(.., members)| member(members))
        .map(|(_, gid, _)| gid)
        .collect()
}

/// Gives a file that root has made to whom we are about to become, so that it can be removed when privileges are gone.
pub(crate) fn give(path: &Path, identity: &Identity) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // An identity that cannot be resolved is reported where it is assumed.
    if let Ok(ids) = resolve(identity)
        && let Err(error) = std::os::unix::fs::chown(path, Some(ids.uid), Some(ids.gid))
    {
        tracing::warn!(path = %path.display(), %error, "a file stays root's");
    }
}

/// Becomes `identity` for good. Does nothing when we are that user already.
pub fn drop_to(identity: &Identity) -> Result<(), IdentityError> {
    let ids = resolve(identity)?;
    if !rustix::process::geteuid().is_root() {
        if rustix::process::geteuid().as_raw() == ids.uid {
            return Ok(());
        }
        return Err(IdentityError::NotRoot(identity.user.clone()));
    }
    let call = |step, result: rustix::io::Result<()>| {
        result.map_err(|error| IdentityError::Call {
            user: identity.user.clone(),
            step,
            error: error.into(),
        })
    };
    let uid = Uid::from_raw(ids.uid);
    let gid = Gid::from_raw(ids.gid);
    let groups: Vec<Gid> = ids.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    call("setgroups", rustix::thread::set_thread_groups(&groups))?;
    call("setgid", rustix::thread::set_thread_res_gid(gid, gid, gid))?;
    call(
        "keeping capabilities",
        rustix::thread::set_keep_capabilities(true),
    )?;
    call("setuid", rustix::thread::set_thread_res_uid(uid, uid, uid))?;
    if !uid.is_root() {
        // A reload may ask for port 443, of us or of the program that takes over from us one day, which is why the
        // capability is inherited; nothing else of root is needed ever again.
        let keep = CapabilitySet::NET_BIND_SERVICE;
        let sets = CapabilitySets {
            effective: keep,
            permitted: keep,
            inheritable: keep,
        };
        call(
            "dropping capabilities",
            rustix::thread::set_capabilities(None, sets),
        )?;
        call(
            "keeping a capability for upgrades",
            rustix::thread::configure_capability_in_ambient_set(keep, true),
        )?;
    }
    call(
        "keeping capabilities",
        rustix::thread::set_keep_capabilities(false),
    )?;
    call("no_new_privs", rustix::thread::set_no_new_privs(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\n# a comment\nweb:x:33:34::/srv:/bin/false\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nssl:x:50:ftp,web\nftp:x:51:ftp\n";

    fn identity(user: &str, group: Option<&str>) -> Identity {
        Identity {
            user: user.to_owned(),
            group: group.map(str::to_owned),
        }
    }

    #[test]
    fn a_user_brings_its_group_and_memberships() {
        let ids = resolve_in(&identity("web", None), PASSWD, GROUP).unwrap();
        assert_eq!(
            ids,
            Ids {
                uid: 33,
                gid: 34,
                groups: vec![50]
            }
        );
    }

    #[test]
    fn numbers_stand_for_themselves() {
        let ids = resolve_in(&identity("4711", Some("4712")), PASSWD, GROUP).unwrap();
        assert_eq!(
            ids,
            Ids {
                uid: 4711,
                gid: 4712,
                groups: vec![]
            }
        );
        assert_eq!(
            resolve_in(&identity("33", None), PASSWD, GROUP)
                .unwrap()
                .gid,
            34
        );
    }

    #[test]
    fn what_does_not_exist_is_named() {
        let error = resolve_in(&identity("wbe", None), PASSWD, GROUP).unwrap_err();
        assert!(error.to_string().contains("\"wbe\""), "{error}");
        let error = resolve_in(&identity("web", Some("none")), PASSWD, GROUP).unwrap_err();
        assert!(error.to_string().contains("\"none\""), "{error}");
        assert!(matches!(
            resolve_in(&identity("4711", None), PASSWD, GROUP),
            Err(IdentityError::NoGroupOf(4711))
        ));
    }
}
