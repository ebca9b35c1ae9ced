//! What a supervisor such as systemd is told, and what it keeps: sd_notify(3), sd_pid_notify_with_fds(3). Without one
//! nothing is told, and all is the same.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;
use std::{env, fmt};

use sd_notify::NotifyState;
use uring_acceptor::listener::{Listener, OWN_PREFIX};
use uring_acceptor::server::{Handle, Heartbeat, Phase};

/// The supervisor hears of the threads this often within the time after which it takes them for stuck.
const BEATS: u32 = 2;

/// What it is told of the server, as long as that runs.
#[derive(Debug)]
pub(crate) struct Supervisor {
    handle: Handle,
    status: String,
    is_stopping: bool,
    watchdog: Option<Watchdog>,
    store: Option<Store>,
}

/// It keeps listening sockets, so that whoever connects while the program is started again after a crash waits in
/// their queues.
#[derive(Debug)]
struct Store {
    /// How many it takes.
    room: usize,
    /// Names of addresses whose sockets it has, and how many those are.
    kept: BTreeMap<String, usize>,
}

/// It wants to hear that the threads are alive.
struct Watchdog {
    interval: Duration,
    heartbeat: Heartbeat,
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Watchdog").field("interval", &self.interval).finish_non_exhaustive()
    }
}

impl Supervisor {
    /// The server serves.
    pub(crate) fn ready(handle: Handle) -> Self {
        let watchdog = sd_notify::watchdog_enabled()
            .map(|limit| Watchdog { interval: limit / BEATS, heartbeat: handle.heartbeat() });
        let status = status(&handle);
        let mut supervisor =
            Self { handle, status, is_stopping: false, watchdog, store: Store::offered() };
        supervisor.store();
        tell(&[NotifyState::Ready, NotifyState::Status(&supervisor.status)]);
        supervisor
    }

    /// How often it is to be [looked](Self::look) at least.
    pub(crate) fn interval(&self) -> Option<Duration> {
        self.watchdog.as_ref().map(|watchdog| watchdog.interval)
    }

    /// Tells what is new. A thread that is stuck is not told to be alive, so the supervisor ends the program.
    pub(crate) fn look(&mut self) {
        if self.watchdog.as_mut().is_some_and(|watchdog| watchdog.heartbeat.is_alive()) {
            tell(&[NotifyState::Watchdog]);
        }
        if self.handle.phase() >= Phase::Draining && !self.is_stopping {
            self.is_stopping = true;
            tell(&[NotifyState::Stopping]);
        }
        self.store();
        let status = status(&self.handle);
        if status != self.status {
            tell(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// Has it keep the sockets that listen, and no others. Those of a server that drains refuse connections, and are
    /// of no use to the next.
    fn store(&mut self) {
        let Some(store) = &mut self.store else { return };
        let is_serving = self.handle.phase() == Phase::Serving;
        store.follow(if is_serving { self.handle.listeners() } else { Vec::new() });
    }
}

impl Store {
    /// Whether it keeps any: systemd 254 and later says so, before that the unit has to.
    fn offered() -> Option<Self> {
        let room = env::var("FDSTORE").ok()?.parse().ok().filter(|room| *room > 0)?;
        Some(Self { room, kept: BTreeMap::new() })
    }

    fn follow(&mut self, listeners: Vec<Arc<Listener>>) {
        let mut wanted: BTreeMap<String, Vec<Arc<Listener>>> = BTreeMap::new();
        for listener in listeners.into_iter().filter(|listener| !listener.is_kept()) {
            wanted.entry(name(&listener)).or_default().push(listener);
        }
        self.kept.retain(|name, count| {
            let stays = wanted.get(name).is_some_and(|listeners| listeners.len() == *count);
            if !stays {
                tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
            }
            stays
        });
        for (name, listeners) in wanted {
            let total: usize = self.kept.values().sum();
            if self.kept.contains_key(&name) || total + listeners.len() > self.room {
                continue;
            }
            let sockets: Vec<BorrowedFd<'_>> = listeners.iter().map(|it| it.as_fd()).collect();
            let state = [NotifyState::FdStore, NotifyState::FdName(&name)];
            match sd_notify::notify_with_fds(&state, &sockets) {
                Ok(()) => drop(self.kept.insert(name, listeners.len())),
                Err(error) => tracing::debug!("the supervisor cannot be given a socket: {error}"),
            }
        }
    }
}

/// What the supervisor calls the sockets of an address. It takes no colon, and 255 bytes.
fn name(listener: &Listener) -> String {
    format!("{OWN_PREFIX}{}", listener.address()).replace(':', "_")
}

/// A reload begins that the supervisor may have asked for by SIGHUP; it waits until [`reloaded`] is told.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!("the time since the start is unknown: {error}"),
    }
}

/// It is over, however it went.
pub(crate) fn reloaded() {
    tell(&[NotifyState::Ready]);
}

fn status(handle: &Handle) -> String {
    let (open, most) = (handle.statistics().open, handle.max_connections());
    match handle.phase() {
        Phase::Serving => {
            format!("serving {} addresses; {open} of {most} connections", handle.addresses().len())
        }
        Phase::Draining => format!("draining; {open} connections left"),
        Phase::Stopping => format!("stopping; {open} connections left"),
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        // Nobody is served worse for it.
        tracing::debug!("the supervisor cannot be told: {error}");
    }
}
