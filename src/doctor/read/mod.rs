//! Asks the kernel: /proc, the control groups, a few system calls and a child process.

mod control_group;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;

use super::exercise::{Exercise, Step};
use super::facts::{Bytes, Capabilities, Facts, Rehearsal, Sysctls, Trial};
use crate::config::{Config, Engine, Listen};
use crate::listener::{Backlog, BindError, Sharing, Wanted};
use crate::ring::engine::{self, Notice};
use crate::ring::{OLDEST_KERNEL, Refusal, Sizes, uring};
use crate::server::ring_sizes;
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

    /// `CapEff:` of /proc/self/status, in hexadecimal digits.
    fn capabilities(&self) -> Option<Capabilities> {
        let status = self.text("proc/self/status")?;
        let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(digits.trim(), 16).ok().map(Capabilities)
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
    pub fn read(config: Config, listen: &[Listen], probe: &mut Command) -> std::io::Result<Self> {
        let root = Root(PathBuf::from("/"));
        let ring = ask_for_a_ring();
        let (cpus, nofile) = (sys::allowed_cpus()?, sys::nofile()?);
        let exercise = exercise(&ring, probe);
        let rehearsal = rehearse(&exercise, &ring_sizes(&config, &cpus, nofile.hard));
        Ok(Self {
            kernel: root
                .kernel()
                .or_else(|| Some(sys::release().ok()?.to_string()))
                .unwrap_or_default(),
            exercise: without_memory(exercise, rehearsal),
            rehearsal,
            ring,
            epoll: sys::epoll_create1().map(drop).map_err(|error| Errno::of(&error)),
            seccomp: root.seccomp(),
            capabilities: root.capabilities(),
            packet_filter: packet_filter(),
            cpus,
            nofile,
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

/// The rings of a server, once the child has shown that making one kills nobody.
fn rehearse(exercise: &Exercise, wanted: &[Sizes]) -> Option<Rehearsal> {
    exercise.of(Step::Rings)?;
    let bytes = wanted.iter().map(uring::locked_bytes).sum();
    Some(Rehearsal { wanted: Bytes(bytes), notice: engine::rehearse(Engine::Auto, wanted) })
}

/// What the child met for want of memory is no fault of an operation: a server would not try it.
fn without_memory(exercise: Exercise, rehearsal: Option<Rehearsal>) -> Exercise {
    match rehearsal {
        Some(Rehearsal { notice: Some(Notice::Epoll(Refusal::Memory)), .. }) => {
            Exercise::not_done("there is no memory for rings")
        }
        _ => exercise,
    }
}

/// Tried, since not every kernel wants a capability for it.
fn packet_filter() -> Result<(), Errno> {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| Errno::of(&error))?;
    sys::refuse_syns(socket.as_fd()).map_err(|error| Errno::of(&error))
}

fn trial(address: &Listen, config: &Config) -> Trial {
    let (outcome, notice) = match tried(address, config) {
        Ok((backlog, notice)) => (Ok(backlog), notice),
        Err(error) => (Err(error), None),
    };
    Trial { address: address.clone(), outcome, notice }
}

/// All addresses of a name have the same backlog: it is a limit of the machine.
fn tried(address: &Listen, config: &Config) -> Result<(Backlog, Option<String>), BindError> {
    let bound = Wanted::look_up(address)?.bind(&config.frontends[0].socket, Sharing::Exclusive)?;
    Ok((bound.listeners[0].backlog(), bound.notice))
}

#[cfg(test)]
mod tests;
