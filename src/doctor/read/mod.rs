//! Asks the kernel: /proc, the control groups, a few system calls and a child process.

mod control_group;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::exercise::Exercise;
use super::facts::{Bytes, Facts, Sysctls, Trial};
use crate::config::{Config, ListenAddress};
use crate::listener::{Listener, Sharing};
use crate::ring::{OLDEST_KERNEL, Refusal, uring};
use crate::sys::{self, Errno};

/// Where /proc and /sys stand; tests put theirs elsewhere.
#[derive(Debug, Clone)]
struct Root(PathBuf);

impl Root {
    /// The text of the file `path`, which is relative.
    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.0.join(path)).ok()
    }

    fn sysctl(&self, name: &str) -> Option<String> {
        self.text(&format!("proc/sys/{}", name.replace('.', "/")))
    }

    fn sysctls(&self) -> Sysctls {
        Sysctls::collect(|name| self.sysctl(name))
    }

    /// The release as uname(2) writes it, patch level and all.
    fn kernel(&self) -> Option<String> {
        self.sysctl("kernel.osrelease").map(|text| text.trim().to_owned())
    }

    /// `Seccomp:` of /proc/self/status is 2 under a filter and 1 in strict mode.
    fn seccomp(&self) -> Option<bool> {
        let status = self.text("proc/self/status")?;
        let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:"))?;
        Some(mode.trim() != "0")
    }

    /// The soft limit of `Max locked memory`; `None` for unlimited too.
    fn locked_memory(&self) -> Option<Bytes> {
        let limits = self.text("proc/self/limits")?;
        let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
        line.split_whitespace().next()?.parse().ok().map(Bytes)
    }
}

impl Facts {
    /// Reads the machine for a server with this configuration. `probe` is the command that runs
    /// [`perform`](super::exercise::perform) in a child process. Each address is listened on for a
    /// moment, as a server would do; with one that is in use the call takes a second.
    ///
    /// # Errors
    /// Those of the system calls that tell the allowed CPUs and the limit on descriptors.
    pub fn read(
        config: Config,
        listen: &[ListenAddress],
        probe: &mut Command,
    ) -> std::io::Result<Self> {
        let root = Root(PathBuf::from("/"));
        let ring = ask_for_a_ring();
        Ok(Self {
            kernel: root
                .kernel()
                .or_else(|| Some(sys::release().ok()?.to_string()))
                .unwrap_or_default(),
            exercise: exercise(&ring, probe),
            ring,
            epoll: sys::epoll_create1().map(drop).map_err(|error| Errno::of(&error)),
            seccomp: root.seccomp(),
            cpus: sys::allowed_cpus()?,
            nofile: sys::nofile()?,
            locked_memory: root.locked_memory(),
            sysctls: root.sysctls(),
            control_group: root.control_group(),
            trials: listen.iter().map(|address| trial(address, &config)).collect(),
            config,
        })
    }
}

/// The probe does not look at the release, below which a ring lacks what is needed.
fn ask_for_a_ring() -> Result<(), Refusal> {
    uring::probe()?;
    match sys::release() {
        Ok(release) if release < OLDEST_KERNEL => Err(Refusal::KernelTooOld(release)),
        _ => Ok(()),
    }
}

fn exercise(ring: &Result<(), Refusal>, probe: &mut Command) -> Exercise {
    match ring {
        Ok(()) => Exercise::observe(probe),
        Err(_) => Exercise::not_done("io_uring is refused"),
    }
}

fn trial(address: &ListenAddress, config: &Config) -> Trial {
    let bound = Listener::bind(address, &config.socket, Sharing::Exclusive);
    Trial { address: address.clone(), outcome: bound.map(|listener| listener.backlog()) }
}

#[cfg(test)]
mod tests;
