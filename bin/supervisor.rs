//! What a supervisor such as systemd is told, and what it keeps: sd_notify(3), sd_pid_notify_with_fds(3). Without one
//! nothing is told, and all is the same.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use std::{env, fmt};

use sd_notify::NotifyState;
use uring_acceptor::listener::{Inherited, Listener, own_name};
use uring_acceptor::process;
use uring_acceptor::server::{Handle, Heartbeat, Phase};

/// The supervisor hears of the threads this often within the time after which it takes them for stuck.
const BEATS: u32 = 2;

/// Where it listens.
const ADDRESS: &str = "NOTIFY_SOCKET";

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
    /// What it has, by name: of what a process before this one has given it, nothing is known.
    kept: BTreeMap<String, Vec<Weak<Listener>>>,
    /// Whether it was told that there is no room.
    is_full: bool,
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
    pub(crate) fn ready(handle: Handle, stored: Vec<String>) -> Self {
        let watchdog = sd_notify::watchdog_enabled()
            .filter(|limit| !limit.is_zero())
            .map(|limit| Watchdog { interval: limit / BEATS, heartbeat: handle.heartbeat() });
        let status = status(&handle);
        let mut supervisor =
            Self { handle, status, is_stopping: false, watchdog, store: Store::offered(stored) };
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
        if IS_REPLACED.load(Ordering::Acquire) {
            return;
        }
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
    /// of no use to the next; one that fails leaves them as they are.
    fn store(&mut self) {
        let Some(store) = &mut self.store else { return };
        match self.handle.phase() {
            Phase::Serving => store.follow(self.handle.listeners()),
            _ if self.handle.has_failed() => {}
            _ => store.follow(Vec::new()),
        }
    }
}

/// Takes sockets out of the store that can serve nobody any more, before their addresses are bound to again, and
/// before any come from a process that goes on to use them.
pub(crate) fn restore(inherited: &Inherited) {
    for name in inherited.drop_unusable() {
        tracing::warn!(
            "the socket {name} from the store can serve nobody any more, so it is not used"
        );
        forget(&name);
    }
}

impl Store {
    /// Whether it keeps any: systemd 254 and later says so, before that the unit has to.
    fn offered(stored: Vec<String>) -> Option<Self> {
        let room = env::var("FDSTORE").ok()?.parse().ok().filter(|room| *room > 0)?;
        let kept = stored.into_iter().map(|name| (name, Vec::new())).collect();
        Some(Self { room, kept, is_full: false })
    }

    fn follow(&mut self, listeners: Vec<Arc<Listener>>) {
        let mut wanted: BTreeMap<String, Vec<Arc<Listener>>> = BTreeMap::new();
        for listener in listeners.into_iter().filter(|listener| !listener.is_kept()) {
            wanted.entry(own_name(listener.address())).or_default().push(listener);
        }
        self.kept.retain(|name, kept| {
            let stays = wanted.get(name).is_some_and(|wanted| are_same(kept, wanted));
            if !stays {
                forget(name);
            }
            stays
        });
        for (name, listeners) in wanted {
            let total: usize = self.kept.values().map(Vec::len).sum();
            if self.kept.contains_key(&name) {
                continue;
            }
            if total + listeners.len() > self.room {
                self.tell_full(&name);
            } else if keep(&name, &listeners) {
                self.kept.insert(name, listeners.iter().map(Arc::downgrade).collect());
            }
        }
    }

    fn tell_full(&mut self, name: &str) {
        if !std::mem::replace(&mut self.is_full, true) {
            tracing::warn!(
                "the supervisor keeps at most {} sockets, so clients of {name} and others are refused after a crash; \
                 raise FileDescriptorStoreMax=",
                self.room
            );
        }
    }
}

fn are_same(kept: &[Weak<Listener>], wanted: &[Arc<Listener>]) -> bool {
    let same =
        |(kept, wanted): (&Weak<Listener>, &Arc<Listener>)| kept.as_ptr() == Arc::as_ptr(wanted);
    kept.len() == wanted.len() && kept.iter().zip(wanted).all(same)
}

fn keep(name: &str, listeners: &[Arc<Listener>]) -> bool {
    let sockets: Vec<BorrowedFd<'_>> = listeners.iter().map(|it| it.as_fd()).collect();
    tell_with(&[NotifyState::FdStore, NotifyState::FdName(name)], &sockets)
}

fn forget(name: &str) {
    tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
}

/// Whether another process is the main one, so that this one has nothing to say.
static IS_REPLACED: AtomicBool = AtomicBool::new(false);

/// Tells that another process is the main one from now on.
pub(crate) fn main_process(pid: u32) {
    IS_REPLACED.store(true, Ordering::Release);
    tell(&[NotifyState::MainPid(pid)]);
}

/// A reload begins that the supervisor may have asked for by SIGHUP; it waits until [`reloaded`] is told.
pub(crate) fn reloading() {
    if IS_REPLACED.load(Ordering::Acquire) {
        return;
    }
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!("the time since the start is unknown: {error}"),
    }
}

/// It is over, however it went.
pub(crate) fn reloaded() {
    if IS_REPLACED.load(Ordering::Acquire) {
        return;
    }
    tell(&[NotifyState::Ready]);
}

fn status(handle: &Handle) -> String {
    let (open, most) = (handle.statistics().open, handle.max_connections());
    match handle.phase() {
        Phase::Serving => format!("serving; {open} of {most} connections open"),
        Phase::Draining => format!("draining; {open} connections left"),
        Phase::Stopping => format!("stopping; {open} connections left"),
    }
}

fn tell(state: &[NotifyState<'_>]) {
    tell_with(state, &[]);
}

/// False if it does not hear it: nobody is served worse for it, but it may wait for it, and end the program then.
fn tell_with(state: &[NotifyState<'_>], sockets: &[BorrowedFd<'_>]) -> bool {
    static IS_TOLD: AtomicBool = AtomicBool::new(false);
    let Some(to) = env::var_os(ADDRESS) else { return true };
    let text: String = state.iter().map(|it| format!("{it}\n")).collect();
    let told = process::notify(&to, &text, sockets);
    if let Err(error) = &told {
        let what = format!("the supervisor cannot be told at {ADDRESS}={}", to.display());
        match IS_TOLD.swap(true, Ordering::Relaxed) {
            false => tracing::warn!("{what}: {error}"),
            true => tracing::debug!("{what}: {error}"),
        }
    }
    told.is_ok()
}
