//! A configuration against this machine: what runs where, with which limits.

use std::num::{NonZeroU32, NonZeroUsize};

use super::error::StartError;
use crate::acceptor;
use crate::config::{Acceptors, Config, ConfigError, Process, Protocol, RingSizes};
use crate::listener;
use crate::proxy::Splicing;
use crate::ring::Sizes;
use crate::sys::{self, NofileLimit};

/// Descriptors that a server needs besides connections: the standard streams, signals, a dozen spare.
const RESERVED_DESCRIPTORS: usize = 24;
/// Descriptors of one thread: its ring, the ring's address, its eventfd, one spare.
const DESCRIPTORS_PER_THREAD: usize = 4;
/// Descriptors of a control socket: clients, the socket, and what wakes its thread.
const CONTROL_DESCRIPTORS: usize = Process::CONTROL_CLIENTS + 3;
/// Descriptors of the admin endpoint: clients, and a server with one thread.
const ADMIN_DESCRIPTORS: usize = Process::ADMIN_CLIENTS + DESCRIPTORS_PER_THREAD + 2;
/// Descriptors of files that list backends or networks: inotify, what wakes their thread, and the one that is read.
const LIST_DESCRIPTORS: usize = 3;
/// Most workers of which one accepts for all beside its own work. To accept a short connection and hand it over takes
/// a fifth to two fifths of all that it costs, so with so many busy workers the one does little else.
const HOSTING_WORKERS_MAX: usize = 4;
/// Completions that a worker's ring has room for besides those of accepts.
const WORKER_COMPLETIONS: u32 = 4096;
/// Buffers of a worker besides one for each connection that it may have.
const SPARE_BUFFERS: usize = 1024;

/// What a thread does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Role {
    /// The thread's name, at most 15 bytes: pthread_setname_np(3).
    pub(super) name: String,
    /// Where it is pinned.
    pub(super) cpu: Option<usize>,
    pub(super) accepts: bool,
    pub(super) works: bool,
}

/// What runs where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// Workers first, so that the n-th thread is the n-th worker.
    pub(super) roles: Vec<Role>,
    pub(super) max_connections: usize,
    /// Descriptors that each worker has for itself.
    pub(super) per_worker: usize,
    /// Set when max-connections is less than was asked for, since descriptors do not go that far.
    pub(super) warning: Option<String>,
    /// Set when there are more threads than CPUs.
    pub(super) crowded: Option<String>,
}

/// What part of all descriptors the workers may have for themselves, and the threads beside them.
const WORKERS_SHARE: usize = 16;

/// Descriptors that what the threads do takes, beside those of every server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Descriptors {
    pub(super) per_connection: usize,
    /// As far as they go: all workers together get no more than their share of the limit.
    pub(super) per_worker: usize,
    /// Of threads that are no workers, such as those that check backends. As far as they go, too.
    pub(super) beside: usize,
}

impl Descriptors {
    /// What this configuration takes, with so many health checks at a time: a proxied connection has the
    /// client's socket and the backend's, and a spliced direction a pipe.
    pub(super) fn of(config: &Config, checks: usize) -> Self {
        let proxies = config.frontends.iter().filter_map(|frontend| match &frontend.protocol {
            Protocol::Proxy(proxy) => Some(proxy),
            _ => None,
        });
        let (mut per_connection, mut pipes) = (1, 0);
        for proxy in proxies {
            per_connection = 2;
            pipes = if proxy.splice { Splicing::PIPES } else { pipes };
        }
        let control = config.process.control.as_ref().map_or(0, |_| CONTROL_DESCRIPTORS);
        let admin = config.process.admin.as_ref().map_or(0, |_| ADMIN_DESCRIPTORS);
        let files = if config.has_lists() { LIST_DESCRIPTORS } else { 0 };
        let refused =
            config.frontends.iter().map(|it| acceptor::descriptors_of(&it.sources.refuse));
        let beside = checks + control + admin + files + refused.max().unwrap_or(0);
        Self { per_connection, per_worker: 2 * pipes, beside }
    }

    /// One for each connection.
    pub(super) const ONE_EACH: Self = Self { per_connection: 1, per_worker: 0, beside: 0 };

    /// Those that each worker has for itself, of so many in all.
    fn for_each_worker(self, nofile: usize, roles: &[Role]) -> usize {
        let workers = roles.iter().filter(|role| role.works).count().max(1);
        self.per_worker.min(nofile / WORKERS_SHARE / workers)
    }

    /// How many connections so many descriptors leave room for, beside listening sockets.
    fn room(self, nofile: usize, roles: &[Role], sockets: usize) -> usize {
        let workers = roles.iter().filter(|role| role.works).count().max(1);
        let reserve = RESERVED_DESCRIPTORS
            + DESCRIPTORS_PER_THREAD * roles.len()
            + self.for_each_worker(nofile, roles) * workers
            + self.beside.min(nofile / WORKERS_SHARE)
            + sockets;
        nofile.saturating_sub(reserve) / self.per_connection
    }

    fn each(self) -> String {
        match self.per_connection {
            1 => "one descriptor each".to_owned(),
            count => format!("{count} descriptors each"),
        }
    }
}

/// What a plan needs to know of the machine.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    /// CPUs this process may use.
    pub(super) cpus: Vec<usize>,
    /// Descriptors it may have.
    pub(super) nofile: usize,
}

impl Machine {
    /// Reads the machine, and raises the soft limit on descriptors to the hard one.
    pub(super) fn prepare() -> Result<Self, StartError> {
        let system = |step| move |error| StartError::System { step, error };
        let cpus = sys::allowed_cpus().map_err(system("reading the allowed CPUs"))?;
        let NofileLimit { soft, hard } = sys::nofile().map_err(system("reading RLIMIT_NOFILE"))?;
        let raised = if soft < hard { sys::set_nofile_soft(hard) } else { Ok(()) };
        let nofile = if raised.is_ok() { hard } else { soft };
        Ok(Self { cpus, nofile: usize::try_from(nofile).unwrap_or(usize::MAX) })
    }
}

/// What a server with a service is on a machine (a proxy has less than half of the connections, since each
/// takes two descriptors): what follows from its configuration, the CPUs and the descriptors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    /// Threads that receive and send.
    pub workers: usize,
    /// Connections that it has open at most.
    pub max_connections: usize,
    /// Bytes of all receive buffers together, if all of them are used.
    pub buffer_bytes: u64,
    /// Set when this is less than was asked for, since descriptors do not go that far.
    pub warning: Option<String>,
    /// Set when there are more workers, or more acceptors, than CPUs.
    pub crowded: Option<String>,
}

/// What a server with this configuration is where it may use these CPUs and this many descriptors.
///
/// # Errors
/// Why it does not start there.
pub fn capacity(config: &Config, cpus: &[usize], nofile: u64) -> Result<Capacity, ConfigError> {
    let nofile = usize::try_from(nofile).unwrap_or(usize::MAX);
    let plan = Plan::new(config, &Machine { cpus: cpus.to_vec(), nofile }, Descriptors::ONE_EACH)?;
    let workers = plan.roles.iter().filter(|role| role.works).count();
    let each = buffers(&config.process.ring, plan.max_connections) as u64;
    Ok(Capacity {
        workers,
        max_connections: plan.max_connections,
        buffer_bytes: each * workers as u64 * u64::from(config.process.ring.buffer_bytes),
        warning: plan.warning,
        crowded: plan.crowded,
    })
}

/// The rings of a server with this configuration: what it would ask the kernel for. None if it does not
/// start.
pub fn ring_sizes(config: &Config, cpus: &[usize], nofile: u64) -> Vec<Sizes> {
    let nofile = usize::try_from(nofile).unwrap_or(usize::MAX);
    let machine = Machine { cpus: cpus.to_vec(), nofile };
    let Ok(plan) = Plan::new(config, &machine, Descriptors::ONE_EACH) else { return Vec::new() };
    let backlog = config
        .frontends
        .iter()
        .map(|frontend| listener::expected_backlog(&frontend.socket).effective)
        .max()
        .unwrap_or(1);
    let sockets = config.sockets();
    let of = |role: &Role| {
        let backlogs = std::iter::repeat_n(backlog, if role.accepts { sockets } else { 0 });
        sizes(&config.process.ring, role.works, plan.max_connections, backlogs)
    };
    plan.roles.iter().map(of).collect()
}

/// The ring of a thread whose listeners have these backlogs.
pub(super) fn sizes(
    ring: &RingSizes,
    works: bool,
    max_connections: usize,
    backlogs: impl Iterator<Item = u32>,
) -> Sizes {
    Sizes {
        submission_entries: ring.submission_entries,
        completion_entries: completion_entries(ring, works, backlogs),
        buffers: if works { buffers(ring, max_connections) } else { 1 },
        buffer_bytes: if works { ring.buffer_bytes as usize } else { 64 },
    }
}

impl Plan {
    /// # Errors
    /// What the machine cannot give, in the operator's words.
    pub(super) fn new(
        config: &Config,
        machine: &Machine,
        descriptors: Descriptors,
    ) -> Result<Self, ConfigError> {
        let roles = roles(config, machine)?;
        let per_worker = descriptors.for_each_worker(machine.nofile, &roles);
        let sockets = config.sockets() * roles.iter().filter(|role| role.accepts).count();
        let room = |nofile| descriptors.room(nofile, &roles, sockets);
        let least = || (machine.nofile..).find(|nofile| room(*nofile) > 0).unwrap_or(usize::MAX);
        let room = room(machine.nofile);
        // Whoever is accepted beyond that would wait for a descriptor where nobody sees it: in the kernel's
        // queue his own timeouts know it.
        let (max_connections, warning) = match config.process.max_connections {
            _ if room == 0 => return Err(too_few_descriptors(machine.nofile, least())),
            None => (room, None),
            Some(wanted) if wanted.get() > room => {
                (room, Some(descriptor_warning(wanted, (room, descriptors), machine.nofile)))
            }
            Some(wanted) => (wanted.get(), None),
        };
        let crowded = crowded(config, machine.cpus.len());
        Ok(Self { roles, max_connections, per_worker, warning, crowded })
    }

    /// Threads that accept.
    pub(super) fn acceptors(&self) -> usize {
        self.roles.iter().filter(|role| role.accepts).count()
    }
}

fn roles(config: &Config, machine: &Machine) -> Result<Vec<Role>, ConfigError> {
    let workers = config.process.threads.workers.map_or(machine.cpus.len(), NonZeroUsize::get);
    let (dedicated, accepting_workers) = match config.process.threads.acceptors {
        Acceptors::Auto if workers > HOSTING_WORKERS_MAX => (1, 0),
        Acceptors::Auto => (0, 1),
        Acceptors::Inline => (0, workers),
        Acceptors::Dedicated(count) => (count.get(), 0),
    };
    let pinned = config.process.threads.cpus.as_ref();
    if let Some(foreign) = pinned.and_then(|list| foreign_cpu(list.cpus(), &machine.cpus)) {
        let allowed = &machine.cpus;
        return Err(ConfigError::new(format!(
            "the list of CPUs to pin to names CPU {foreign}, which this process may not use; it may \
             use {allowed:?}"
        )));
    }
    let cpu = |thread| pinned.map(|list| list.for_thread(thread));
    let prefix = &config.process.threads.prefix;
    let worker = |index| Role {
        name: format!("{prefix}worker-{index}"),
        cpu: cpu(index),
        accepts: index < accepting_workers,
        works: true,
    };
    let acceptor = |index| Role {
        name: format!("{prefix}acceptor-{index}"),
        cpu: cpu(workers + index),
        accepts: true,
        works: false,
    };
    Ok((0..workers).map(worker).chain((0..dedicated).map(acceptor)).collect())
}

/// One configuration goes to machines of different sizes, and the CPUs of a container change: more
/// threads than CPUs are worth a line, no more.
fn crowded(config: &Config, cpus: usize) -> Option<String> {
    let acceptors = match config.process.threads.acceptors {
        Acceptors::Dedicated(count) => Some(count),
        Acceptors::Auto | Acceptors::Inline => None,
    };
    let asked = [("workers", config.process.threads.workers), ("acceptors", acceptors)];
    let (what, count) =
        asked.into_iter().find(|(_, count)| count.is_some_and(|count| count.get() > cpus))?;
    let count = count.map_or(0, NonZeroUsize::get);
    Some(format!(
        "{what} is {count}, but this process may use {cpus} CPUs: threads take turns, which costs \
         time; {cpus} are enough"
    ))
}

fn foreign_cpu(named: &[usize], allowed: &[usize]) -> Option<usize> {
    named.iter().copied().find(|cpu| !allowed.contains(cpu))
}

fn too_few_descriptors(nofile: usize, least: usize) -> ConfigError {
    ConfigError::new(format!(
        "the limit on open files (RLIMIT_NOFILE) is {nofile}; the server needs at least {least}, with \
         which it has room for one connection; raise it with 'ulimit -n' or LimitNOFILE="
    ))
}

fn descriptor_warning(
    wanted: NonZeroUsize,
    (room, descriptors): (usize, Descriptors),
    nofile: usize,
) -> String {
    let each = descriptors.each();
    format!(
        "max-connections is lowered from {wanted} to {room}: the limit on open files \
         (RLIMIT_NOFILE) of {nofile} leaves room for no more connections, which take {each}; those \
         beyond that wait in the kernel's queue. Raise it with 'ulimit -n' or LimitNOFILE="
    )
}

/// Entries of the completion queue of a thread whose listeners have these backlogs.
fn completion_entries(sizes: &RingSizes, works: bool, backlogs: impl Iterator<Item = u32>) -> u32 {
    let most = *RingSizes::COMPLETION_ENTRIES.end();
    let needed = || {
        let accepts = backlogs.fold(0_u32, |sum, backlog| sum.saturating_add(backlog + 1));
        let work = if works { WORKER_COMPLETIONS } else { 64 };
        accepts.saturating_add(work).min(most).next_power_of_two()
    };
    sizes.completion_entries.map_or_else(needed, NonZeroU32::get)
}

/// Buffers of a worker: one for each connection that it may have, so that peers which do not read
/// cannot take the last one from those that do.
fn buffers(sizes: &RingSizes, max_connections: usize) -> usize {
    let most = *RingSizes::BUFFERS.end() as usize;
    let needed = || max_connections.saturating_add(SPARE_BUFFERS).min(most);
    sizes.buffers.map_or_else(needed, |buffers| buffers.get() as usize)
}

#[cfg(test)]
mod tests;
