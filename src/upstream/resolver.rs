//! Names to addresses, off the data path. A look at a name that fails changes nothing.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::common::lock;
use super::error::UpstreamError;
use crate::config::localhost;
use crate::config::upstream::Target;

/// How names are resolved: from a name and a port to socket addresses. It may block.
pub type Resolve = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Between two log lines about the same name that does not resolve.
pub(super) const FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Most new names that are looked up at a time, each on a thread that ends afterwards.
const LOOKUPS_AT_ONCE: usize = 16;

/// The stack of such a thread; getaddrinfo(3) wants some.
const STACK_BYTES: usize = 256 * 1024;

/// Intervals differ by up to this part, so that many servers do not ask at the same time.
const JITTER: f64 = 0.1;

/// How the look-ups of a name have gone.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lookup {
    /// When the last failure was logged; `None` after a success.
    logged: Option<Instant>,
}

impl Lookup {
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

/// The addresses of names, several looked up at a time, each once. It may block.
///
/// # Errors
/// The first of them that has no address; those behind it may not have been looked up.
pub(super) fn look_up_all(
    resolve: &Resolve,
    targets: &[Target],
) -> Result<HashMap<Target, Vec<SocketAddr>>, UpstreamError> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let answers = Mutex::new(BTreeMap::new());
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(target) = targets.get(place) else { break };
            let answer = look_up(resolve, target);
            failed.fetch_or(answer.is_err(), Ordering::Relaxed);
            lock(&answers).insert(place, answer);
        }
    };
    thread::scope(|scope| {
        for _ in 1..targets.len().min(LOOKUPS_AT_ONCE) {
            let thread = thread::Builder::new().name("resolve-new".into()).stack_size(STACK_BYTES);
            // Without it the others do its part.
            let _ = thread.spawn_scoped(scope, work);
        }
        work();
    });
    let answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    let named = answers.into_iter().map(|(place, answer)| {
        let target = targets[place].clone();
        match answer {
            Ok(addresses) => Ok((target, addresses)),
            Err(cause) => Err(UpstreamError::Unresolved { target, cause }),
        }
    });
    named.collect()
}
