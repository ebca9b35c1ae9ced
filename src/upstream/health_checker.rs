//! The threads that check the endpoints of an upstream and resolve its names, and how they end.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use fastrand::Rng;

use super::Upstream;
use super::endpoint::{Endpoint, lock};
use super::probe::{Flights, Outcome, probe};
use super::resolver::{self, Pause, jittered};
use super::schedule::Schedule;
use crate::process::Alarm;

/// Most threads that check. With more endpoints than these that do not answer, checks come later
/// than their interval says.
pub(super) const CHECK_THREADS_MAX: usize = 16;

/// The stack of a thread that checks or resolves; getaddrinfo(3) wants some.
const STACK_BYTES: usize = 256 * 1024;

/// Checks endpoints and resolves names: the threads that do so, and what they share.
#[derive(Debug, Default)]
pub(super) struct HealthChecker {
    pub(super) schedule: Schedule,
    pub(super) pause: Pause,
    /// Raised by a thread of these that panics.
    pub(super) alarm: Alarm,
    flights: Flights,
    threads: Mutex<Threads>,
}

#[derive(Debug, Default)]
struct Threads {
    /// Not before it is wanted, and not after it has been stopped.
    enabled: bool,
    checkers: Vec<JoinHandle<()>>,
    resolver: Option<JoinHandle<()>>,
}

impl HealthChecker {
    /// From now on there may be threads.
    pub(super) fn enable(&self) {
        lock(&self.threads).enabled = true;
    }

    /// Starts what is missing for so many endpoints to check, and for names to resolve.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub(super) fn scale(
        &self,
        upstream: &Arc<Upstream>,
        checked: usize,
        has_names: bool,
    ) -> io::Result<()> {
        let mut threads = lock(&self.threads);
        if !threads.enabled {
            return Ok(());
        }
        while threads.checkers.len() < checked.min(CHECK_THREADS_MAX) {
            let name = format!("check-{}", threads.checkers.len());
            let upstream = Arc::clone(upstream);
            threads.checkers.push(self.start(name, move || check(&upstream))?);
        }
        if has_names && threads.resolver.is_none() {
            let upstream = Arc::clone(upstream);
            threads.resolver =
                Some(self.start("resolve".into(), move || resolver::run(&upstream))?);
        }
        Ok(())
    }

    fn start(
        &self,
        name: String,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let run = self.alarm.watch(&name, run);
        thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(run)
    }

    #[cfg(test)]
    pub(super) fn checks_under_way(&self) -> usize {
        self.flights.count()
    }

    /// Ends all threads and waits for them; only one that is in a lookup, which nothing can end early,
    /// is left to itself. It changes nothing any more.
    pub(super) fn stop(&self) {
        let (checkers, resolver) = {
            let mut threads = lock(&self.threads);
            threads.enabled = false;
            (std::mem::take(&mut threads.checkers), threads.resolver.take())
        };
        self.schedule.stop();
        self.flights.stop();
        let is_looking = self.pause.stop();
        for thread in checkers.into_iter().chain(resolver.filter(|_| !is_looking)) {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

/// A thread that checks.
fn check(upstream: &Arc<Upstream>) {
    let checker = upstream.checker();
    let mut rng = Rng::new();
    while let Some(endpoint) = checker.schedule.next() {
        let rules = upstream.active();
        let outcome = probe(endpoint.sock_addr(), rules, &checker.flights);
        if !checker.flights.are_stopped() {
            conclude(upstream, &endpoint, outcome);
        }
        let interval = jittered(rules.interval, &mut rng);
        checker.schedule.done(endpoint.id(), Instant::now() + interval);
    }
}

fn conclude(upstream: &Upstream, endpoint: &Endpoint, outcome: Outcome) {
    let now = Instant::now();
    match outcome {
        Outcome::Passed => upstream.check_ended(endpoint, Ok(()), now),
        Outcome::Failed(cause) => upstream.check_ended(endpoint, Err(cause), now),
        Outcome::Unable => {}
    }
}
