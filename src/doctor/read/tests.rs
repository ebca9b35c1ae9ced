//! Made-up roots: what is read from them, and what is not.

use std::fs;

use super::*;
use crate::doctor::facts::{Capability, ControlGroup};

/// A folder that stands for the root of a machine; removed when it is dropped.
struct Machine(PathBuf);

impl Machine {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let root = std::env::temp_dir().join(format!("doctor-{}-{name}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(root)
    }

    fn root(&self) -> Root {
        Root(self.0.clone())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn proc_is_read() {
    let machine = Machine::new(
        "proc",
        &[
            ("proc/sys/kernel/osrelease", "6.1.0-28-amd64\n"),
            ("proc/sys/net/core/somaxconn", "4096\n"),
            ("proc/sys/fs/file-nr", "704\t0\t1000\n"),
            ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            (
                "proc/self/status",
                "Name:\tx\nCapEff:\t0000000000001400\nSeccomp:\t2\nSeccomp_filters:\t1\n",
            ),
            (
                "proc/self/limits",
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max locked memory         65536                unlimited            bytes     \n",
            ),
        ],
    );
    let root = machine.root();
    assert_eq!(root.kernel().as_deref(), Some("6.1.0-28-amd64"));
    assert_eq!(root.seccomp(), Some(true));
    let own = root.capabilities().unwrap();
    assert!(own.has(Capability::NetAdmin) && own.has(Capability::NetBindService));
    assert!(!own.has(Capability::IpcLock) && !own.has(Capability::SysResource));
    assert_eq!(root.locked_memory(), Some(Bytes(65_536)));
    let sysctls = root.sysctls();
    assert_eq!(sysctls.number("net.core.somaxconn"), Some(4096));
    assert_eq!(sysctls.number("fs.file-nr"), Some(704));
    assert_eq!(sysctls.range("net.ipv4.ip_local_port_range"), Some(32_768..=60_999));
    assert_eq!(sysctls.number("net.ipv4.tcp_syncookies"), None);
}

#[test]
fn what_is_not_there_is_not_known() {
    let root = Root(PathBuf::from("/nonexistent"));
    assert_eq!((root.kernel(), root.seccomp(), root.locked_memory()), (None, None, None));
    assert_eq!((root.sysctls(), root.control_group()), (Sysctls::default(), Default::default()));
}

/// The lowest limit from the group to the root holds.
#[test]
fn control_groups_of_version_2() {
    let machine = Machine::new(
        "v2",
        &[
            ("proc/self/cgroup", "0::/kubepods.slice/pod1/box\n"),
            ("sys/fs/cgroup/kubepods.slice/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/kubepods.slice/pod1/cpu.max", "50000 100000\n"),
            ("sys/fs/cgroup/kubepods.slice/pod1/memory.max", "268435456\n"),
            ("sys/fs/cgroup/kubepods.slice/pod1/box/cpu.max", "200000 100000\n"),
            ("sys/fs/cgroup/kubepods.slice/pod1/box/memory.max", "max\n"),
        ],
    );
    let expected = ControlGroup { memory: Some(Bytes(256 << 20)), cpu_millis: Some(500) };
    assert_eq!(machine.root().control_group(), expected);
}

/// In a container with the path of the host only the root of the hierarchy is mounted.
#[test]
fn control_groups_of_version_1() {
    let machine = Machine::new(
        "v1",
        &[
            ("proc/self/cgroup", "9:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n3:pids:/x\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "150000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n"),
        ],
    );
    let expected = ControlGroup { memory: Some(Bytes(1 << 30)), cpu_millis: Some(1500) };
    assert_eq!(machine.root().control_group(), expected);
    let unlimited = Machine::new(
        "v1-unlimited",
        &[
            ("proc/self/cgroup", "9:cpu,cpuacct:/\n4:memory:/\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ],
    );
    assert_eq!(unlimited.root().control_group(), ControlGroup::default());
}
