//! Why no thread can be made, with the limits that may be the reason: the kernel names none.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use crate::sys::{self, Errno};

/// That clone(2) has failed, in words for the operator. It is made when it has, since limits change.
#[derive(Debug)]
pub struct NoThread {
    errno: Errno,
    limits: Limits,
}

/// The limits on processes and threads, as far as they can be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Limits {
    /// RLIMIT_NPROC; `None` without a limit.
    user: Option<u64>,
    /// The lowest pids.max of the control groups; `None` without a limit.
    control_group: Option<u64>,
}

impl NoThread {
    /// With the limits as they are now.
    pub fn new(error: &io::Error) -> Self {
        Self { errno: Errno::of(error), limits: Limits::read(Path::new("/")) }
    }
}

impl fmt::Display for NoThread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { errno, limits: Limits { user, control_group } } = self;
        write!(formatter, "no thread can be made: clone(2) failed with {errno}")?;
        if *errno != Errno::EAGAIN {
            return Ok(());
        }
        let number =
            |limit: &Option<u64>| limit.map_or("no limit".to_owned(), |limit| limit.to_string());
        write!(
            formatter,
            "; a limit on processes and threads is reached: of this user ({}: ulimit -u, LimitNPROC= in \
             systemd), of the control group ({}: pids.max, TasksMax= in systemd, the limit on pids in Docker), or of \
             the machine (kernel.threads-max, kernel.pid_max)",
            number(user),
            number(control_group)
        )
    }
}

impl std::error::Error for NoThread {}

impl Limits {
    fn read(root: &Path) -> Self {
        Self { user: sys::nproc().ok().flatten(), control_group: pids_max(root) }
    }
}

/// The lowest pids.max from the group of this process to the root. See cgroups(7).
fn pids_max(root: &Path) -> Option<u64> {
    let membership = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let own = membership.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let mount = match controllers {
            "" => "sys/fs/cgroup",
            _ if controllers.split(',').any(|one| one == "pids") => "sys/fs/cgroup/pids",
            _ => return None,
        };
        Some((mount, path))
    });
    let limits = own.flat_map(|(mount, path)| {
        let folders = Path::new(path.trim_start_matches('/')).ancestors();
        let files = folders.map(|folder| root.join(mount).join(folder).join("pids.max"));
        files
            .filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok())
            .collect::<Vec<_>>()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_named_with_its_value() {
        let limits = Limits { user: Some(100), control_group: None };
        let text = NoThread { errno: Errno::EAGAIN, limits }.to_string();
        for part in ["clone(2) failed with EAGAIN", "(100: ulimit -u", "(no limit: pids.max"] {
            assert!(text.contains(part), "{text}");
        }
        let text = NoThread { errno: Errno::EPERM, limits }.to_string();
        assert!(text.contains("EPERM") && !text.contains("limit"), "{text}");
    }

    #[test]
    fn the_lowest_of_the_control_groups_counts() {
        let root = std::env::temp_dir().join(format!("pids-{}", std::process::id()));
        let write = |file: &str, text: &str| {
            let file = root.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        write("proc/self/cgroup", "3:memory:/other\n0::/a/b\n");
        assert_eq!(pids_max(&root), None);
        write("sys/fs/cgroup/a/b/pids.max", "max\n");
        assert_eq!(pids_max(&root), None);
        write("sys/fs/cgroup/a/pids.max", "70\n");
        assert_eq!(pids_max(&root), Some(70));
        write("proc/self/cgroup", "5:cpu,pids:/c\n0::/a/b\n");
        write("sys/fs/cgroup/pids/c/pids.max", "7\n");
        assert_eq!(pids_max(&root), Some(7));
        fs::remove_dir_all(root).unwrap();
    }
}
