//! Names to addresses, off the data path. A look at a name that fails changes nothing.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::Upstream;
use super::endpoint::lock;
use crate::config::localhost;
use crate::config::upstream::Target;

/// How names are resolved: from a name and a port to socket addresses. It may block.
pub type Resolve = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Between two log lines about the same name that does not resolve.
pub(super) const FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Intervals differ by up to this part, so that many servers do not ask at the same time.
const JITTER: f64 = 0.1;

/// When a name is looked up the next time, and how it has gone so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lookup {
    pub(super) due: Instant,
    /// When the last failure was logged; `None` after a success.
    logged: Option<Instant>,
}

impl Lookup {
    pub(super) fn new(due: Instant) -> Self {
        Self { due, logged: None }
    }

    /// It has failed at `now`; true if that is worth a line in the log.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        let quiet = self.logged.is_some_and(|logged| now < logged + FAILURE_LOG_INTERVAL);
        if !quiet {
            self.logged = Some(now);
        }
        !quiet
    }

    /// It has succeeded; true if the log said that it failed.
    pub(super) fn succeeded(&mut self) -> bool {
        self.logged.take().is_some()
    }
}

/// getaddrinfo(3): what nsswitch.conf, hosts and resolv.conf of this machine say; localhost is loopback
/// also where they do not say so.
///
/// # Errors
/// Those of getaddrinfo(3).
pub fn resolve_by_system(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    localhost::or_loopback(name, port, (name, port).to_socket_addrs().map(Iterator::collect))
}

/// The addresses of a name, each once and in a fixed order, since servers rotate their answers.
///
/// # Errors
/// Those of `resolve`; an answer without an address is one too. Not a name: no addresses.
pub(super) fn look_up(resolve: &Resolve, target: &Target) -> io::Result<Vec<SocketAddr>> {
    let Target::Name { name, port } = target else { return Ok(Vec::new()) };
    let mut addresses = resolve(name, port.get())?;
    addresses.sort_unstable();
    addresses.dedup();
    match addresses.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::NotFound, "it has no address")),
        false => Ok(addresses),
    }
}

/// An interval, a little shorter or longer.
pub(super) fn jittered(interval: Duration, rng: &mut Rng) -> Duration {
    interval.mul_f64(1.0 + JITTER * (rng.f64() * 2.0 - 1.0))
}

/// Where the resolver's thread waits, and how it is stopped.
#[derive(Debug, Default)]
pub(super) struct Pause {
    state: Mutex<PauseState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct PauseState {
    stopped: bool,
    /// In a lookup, which nothing can end early.
    looking: bool,
}

impl Pause {
    /// Stops the thread. Returns true if it is in a lookup, so that it may last.
    pub(super) fn stop(&self) -> bool {
        let mut state = lock(&self.state);
        state.stopped = true;
        self.changed.notify_all();
        state.looking
    }

    pub(super) fn is_stopped(&self) -> bool {
        lock(&self.state).stopped
    }

    /// Waits until `due`; false if it was stopped.
    fn wait_until(&self, due: Instant) -> bool {
        let state = lock(&self.state);
        let span = due.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(state, span, |state| !state.stopped);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !state.stopped
    }

    /// A lookup begins; false if it must not.
    fn begin(&self) -> bool {
        let mut state = lock(&self.state);
        state.looking = !state.stopped;
        state.looking
    }

    fn end(&self) {
        lock(&self.state).looking = false;
    }
}

/// The resolver's thread.
pub(super) fn run(upstream: &Arc<Upstream>) {
    let pause = upstream.pause();
    loop {
        let now = Instant::now();
        let due = match upstream.next_lookup() {
            Some((target, due)) if due <= now => {
                if !pause.begin() {
                    return;
                }
                upstream.refresh_name(&target);
                pause.end();
                continue;
            }
            Some((_, due)) => due,
            // Names may come with other backends.
            None => now + upstream.resolve_interval(),
        };
        if !pause.wait_until(due) {
            return;
        }
    }
}
