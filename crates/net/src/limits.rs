//! What the system allows us: open files, memory.

use std::fs;
use std::path::{Component, Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Stands for "no limit".
const UNLIMITED: u64 = u64::MAX;

/// Raises the soft limit of open files to the hard one. Gives both as they are then; an unlimited one is `u64::MAX`.
pub fn raise_nofile() -> (u64, u64) {
    let limit = getrlimit(Resource::Nofile);
    // Even without a limit the kernel's own bound per process holds.
    let highest = limit.maximum.or_else(nr_open);
    if limit.current < highest || (limit.current.is_some() && highest.is_none()) {
        // If it is refused, the limits that are told are the old ones.
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: highest,
                maximum: limit.maximum,
            },
        );
    }
    let now = getrlimit(Resource::Nofile);
    (
        now.current.unwrap_or(UNLIMITED),
        now.maximum.unwrap_or(UNLIMITED),
    )
}

fn nr_open() -> Option<u64> {
    number(Path::new("/proc/sys/fs/nr_open"))
}

/// Bytes of memory that this process may use: the tightest limit of its cgroup and those above (version 2 or 1), the
/// machine's memory if there is none or if that is less. `None` if the system does not say.
pub fn memory_limit() -> Option<u64> {
    memory_limit_below(Path::new("/"))
}

fn memory_limit_below(root: &Path) -> Option<u64> {
    let cgroup = cgroup_limit(root);
    let physical = physical_memory(root);
    cgroup.into_iter().chain(physical).min()
}

fn physical_memory(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn cgroup_limit(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    // Lines are "number:controllers:path"; version 2 has number 0 and no controllers.
    let limits = text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        if controllers.is_empty() {
            tightest(
                &root.join("sys/fs/cgroup"),
                path,
                &["memory.max", "memory.high"],
            )
        } else if controllers.split(',').any(|c| c == "memory") {
            tightest(
                &root.join("sys/fs/cgroup/memory"),
                path,
                &["memory.limit_in_bytes"],
            )
        } else {
            None
        }
    });
    limits.min()
}

/// The least limit on the way from `mount` down to `path`. In a container the path may be the host's and lead nowhere
/// here; then the mount itself is ours.
fn tightest(mount: &Path, path: &str, files: &[&str]) -> Option<u64> {
    let mut at = PathBuf::from(mount);
    let below = Path::new(path).components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    let mut places = vec![at.clone()];
    for name in below {
        at.push(name);
        places.push(at.clone());
    }
    places
        .iter()
        .flat_map(|place| files.iter().filter_map(|file| number(&place.join(file))))
        .min()
}

/// The number in a file; `None` for "max" and anything else.
fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Asks the kernel for no huge pages. The memory of an idle connection is a few hundred bytes, scattered: two-megabyte pages
/// would keep whole ones resident for it. True if the kernel agreed.
pub fn avoid_huge_pages() -> bool {
    crate::sockopt::disable_huge_pages()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    const MEMINFO: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:       16384 kB\nMemFree:        1 kB\n",
    );
    const PHYSICAL: u64 = 16 << 20;

    fn limit(files: &[(&str, &str)]) -> Option<u64> {
        memory_limit_below(machine(files).path())
    }

    #[test]
    fn memory_of_every_kind_of_machine() {
        let v2 = ("proc/self/cgroup", "0::/system.slice/narthex.service\n");
        let v1 = (
            "proc/self/cgroup",
            "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n1:name=systemd:/\n",
        );
        let own = "sys/fs/cgroup/system.slice/narthex.service/memory.max";
        let slice = "sys/fs/cgroup/system.slice/memory.max";
        assert_eq!(limit(&[]), None);
        assert_eq!(limit(&[MEMINFO]), Some(PHYSICAL));
        assert_eq!(limit(&[MEMINFO, v2]), Some(PHYSICAL));
        assert_eq!(limit(&[MEMINFO, v2, (own, "max\n")]), Some(PHYSICAL));
        assert_eq!(limit(&[MEMINFO, v2, (own, "5000000\n")]), Some(5_000_000));
        assert_eq!(
            limit(&[MEMINFO, v2, (own, "5000000\n"), (slice, "4000000\n")]),
            Some(4_000_000)
        );
        assert_eq!(
            limit(&[MEMINFO, v2, (own, "max\n"), (slice, "4000000\n")]),
            Some(4_000_000)
        );
        let high = "sys/fs/cgroup/system.slice/narthex.service/memory.high";
        assert_eq!(
            limit(&[MEMINFO, v2, (own, "5000000\n"), (high, "4500000\n")]),
            Some(4_500_000)
        );
        // More than the machine has is no limit.
        assert_eq!(
            limit(&[MEMINFO, v2, (own, "99999999999\n")]),
            Some(PHYSICAL)
        );
        // A container sees its own group as the root of the mount.
        assert_eq!(
            limit(&[MEMINFO, v2, ("sys/fs/cgroup/memory.max", "7000000\n")]),
            Some(7_000_000)
        );
        let v1_file = "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes";
        assert_eq!(
            limit(&[MEMINFO, v1, (v1_file, "6000000\n")]),
            Some(6_000_000)
        );
        assert_eq!(
            limit(&[MEMINFO, v1, (v1_file, "9223372036854771712\n")]),
            Some(PHYSICAL)
        );
        assert_eq!(
            limit(&[MEMINFO, ("proc/self/cgroup", "nonsense\n0::/../../etc\n")]),
            Some(PHYSICAL)
        );
    }

    #[test]
    fn this_machine_has_memory_and_files() {
        assert!(memory_limit().unwrap() > 1 << 20);
        let (soft, hard) = raise_nofile();
        assert!(soft > 0 && soft <= hard);
        assert_eq!(raise_nofile(), (soft, hard), "nothing left to raise");
    }
}
