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
use super::srv;
use crate::config::localhost;
use crate::config::upstream::{Target, Weight};

/// How names are resolved: from a name and a port to socket addresses. It may block.
pub type Resolve = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// How SRV records are asked for: from the name of a service to the answer of a name server. It may block.
pub type Query = dyn Fn(&str) -> io::Result<Vec<u8>> + Send + Sync;

/// How backends are looked up.
pub(super) struct Resolver {
    pub(super) hosts: Box<Resolve>,
    pub(super) services: Box<Query>,
    /// Answers that the process before this one has had: better than none.
    pub(super) known: Mutex<HashMap<Target, Vec<Found>>>,
}

impl Resolver {
    /// Names by `hosts`; services as this machine does.
    pub(super) fn new(hosts: Box<Resolve>) -> Self {
        Self { hosts, services: Box::new(srv::query_by_system), known: Mutex::default() }
    }

    /// From now on these are taken where there is no other answer, or none any more.
    pub(super) fn set_known(&self, known: HashMap<Target, Vec<Found>>) {
        *lock(&self.known) = known;
    }

    /// What is to be taken in place of an answer that failed.
    fn in_place_of(&self, target: &Target, cause: io::Error) -> io::Result<Vec<Found>> {
        let Some(known) = lock(&self.known).get(target).cloned() else { return Err(cause) };
        tracing::warn!(
            "backend {target} cannot be resolved, so it has the addresses that it had in the process before \
             this one: {cause}"
        );
        Ok(known)
    }
}

/// An address of a backend that was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    pub(super) address: SocketAddr,
    /// Of its own; `None` is that of the backend.
    pub(super) weight: Option<Weight>,
}

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

/// The addresses of a service, by the SRV records that the name servers of this machine have.
///
/// # Errors
/// Those of res_query(3); an answer that is wrong; a host that does not resolve.
pub fn resolve_service_by_system(name: &str) -> io::Result<Vec<SocketAddr>> {
    let resolver = Resolver::new(Box::new(resolve_by_system));
    let found = srv::look_up(&resolver, name)?;
    Ok(found.into_iter().map(|found| found.address).collect())
}

/// The addresses of a name, each once and in a fixed order, since servers rotate their answers.
///
/// # Errors
/// Those of the resolver; an answer without an address is one too. Not a name: no addresses.
pub(super) fn look_up(resolver: &Resolver, target: &Target) -> io::Result<Vec<Found>> {
    let mut addresses = match target {
        Target::Name { name, port } => {
            let addresses = (resolver.hosts)(name, port.get())?.into_iter();
            addresses.map(|address| Found { address, weight: None }).collect()
        }
        Target::Srv { name } => srv::look_up(resolver, name)?,
        Target::Socket(_) | Target::Unix(_) => return Ok(Vec::new()),
    };
    addresses.sort_unstable();
    // Of several records for one address the heaviest counts.
    addresses.reverse();
    addresses.dedup_by_key(|found| found.address);
    addresses.reverse();
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
    resolver: &Resolver,
    targets: &[Target],
) -> Result<HashMap<Target, Vec<Found>>, UpstreamError> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let answers = Mutex::new(BTreeMap::new());
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(target) = targets.get(place) else { break };
            let answer = look_up(resolver, target);
            let answer = answer.or_else(|cause| resolver.in_place_of(target, cause));
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
