//! The threads that all upstreams of a process share: they check endpoints, resolve names and tell what the
//! log has suppressed. Each starts when it is first needed; all end with the registry.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::Upstream;
use super::common::lock;
use super::endpoint::{Endpoint, EndpointId};
use super::probe::{Flights, Outcome, probe};
use super::resolver::jittered;
use super::schedule::{Schedule, Times};
use crate::config::upstream::{ActiveCheck, Target};
use crate::process::Alarm;

/// Most checks at a time, over all upstreams: each has a thread. An endpoint that does not answer holds one until its
/// timeout is over.
pub(super) const CHECK_THREADS_MAX: usize = 16;

/// Most of these that check endpoints that are new, or whose last check took longer than [`PROMPT`]. With more
/// such endpoints their checks come later than the interval says; those of the others do not.
const SLOW_CHECKS_MAX: usize = 12;

/// A check that takes longer is a slow one.
const PROMPT: Duration = Duration::from_millis(100);

/// How often suppressed lines are looked at, so how much later than its time one may be told.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// The stack of each of these threads; getaddrinfo(3) wants some.
const STACK_BYTES: usize = 256 * 1024;

/// What the threads do, and the threads.
#[derive(Debug)]
pub(super) struct Background {
    pub(super) checks: Schedule<EndpointId, (Weak<Upstream>, Arc<Endpoint>)>,
    pub(super) lookups: Schedule<Target, Weak<Upstream>>,
    /// Raised by a thread of these that panics.
    pub(super) alarm: Alarm,
    flights: Flights,
    upstreams: AtomicU64,
    threads: Mutex<Threads>,
}

#[derive(Debug, Default)]
struct Threads {
    /// Not before they are wanted, and not after they have been stopped.
    enabled: bool,
    checkers: Vec<JoinHandle<()>>,
    resolver: Option<JoinHandle<()>>,
    /// Nothing is ever sent: dropping the sender ends the thread.
    reporter: Option<(SyncSender<()>, JoinHandle<()>)>,
}

/// For what there have to be threads.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Needs {
    /// Endpoints that are checked.
    pub(super) checked: usize,
    pub(super) has_names: bool,
}

impl Background {
    /// Without threads for ever, unless it is enabled.
    pub(super) fn new(enabled: bool) -> Arc<Self> {
        Arc::new(Self {
            checks: Schedule::new(SLOW_CHECKS_MAX),
            // There is one thread for them.
            lookups: Schedule::new(1),
            alarm: Alarm::default(),
            flights: Flights::default(),
            upstreams: AtomicU64::new(0),
            threads: Mutex::new(Threads { enabled, ..Threads::default() }),
        })
    }

    /// A number for an upstream that no other has.
    pub(super) fn number(&self) -> u64 {
        self.upstreams.fetch_add(1, Ordering::Relaxed)
    }

    /// What is scheduled.
    pub(super) fn needs(&self) -> Needs {
        Needs { checked: self.checks.len(), has_names: self.lookups.len() > 0 }
    }

    /// An upstream has no checks and no look-ups any more. One that is under way changes nothing.
    pub(super) fn forget(&self, upstream: u64) {
        let now = Instant::now();
        let times = Times { first: now, latest: now };
        self.checks.set(upstream, Vec::new(), times);
        self.lookups.set(upstream, Vec::new(), times);
    }

    /// Starts what is missing to check and to resolve.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub(super) fn scale(self: &Arc<Self>, needs: Needs) -> io::Result<()> {
        let mut threads = lock(&self.threads);
        if !threads.enabled {
            return Ok(());
        }
        while threads.checkers.len() < needs.checked.min(CHECK_THREADS_MAX) {
            let name = format!("check-{}", threads.checkers.len());
            let background = Arc::clone(self);
            threads.checkers.push(self.start(name, move || background.check())?);
        }
        if needs.has_names && threads.resolver.is_none() {
            let background = Arc::clone(self);
            threads.resolver = Some(self.start("resolve".into(), move || background.resolve())?);
        }
        Ok(())
    }

    /// Starts the thread that does this about once a second, unless it runs.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub(super) fn report(&self, tell: impl Fn() + Send + 'static) -> io::Result<()> {
        let mut threads = lock(&self.threads);
        if threads.enabled && threads.reporter.is_none() {
            let (over, is_over) = sync_channel(0);
            let thread =
                self.start("log-suppressed".into(), move || every_interval(&is_over, tell))?;
            threads.reporter = Some((over, thread));
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
    pub(super) fn threads(&self) -> usize {
        let threads = lock(&self.threads);
        let others = [threads.resolver.is_some(), threads.reporter.is_some()];
        threads.checkers.len() + others.into_iter().filter(|is_there| *is_there).count()
    }

    #[cfg(test)]
    pub(super) fn checks_under_way(&self) -> usize {
        self.flights.count()
    }

    /// Ends all threads and waits for them; only one that is in a look-up, which nothing can end early,
    /// is left to itself. It changes nothing any more.
    pub(super) fn stop(&self) {
        let Threads { checkers, resolver, reporter, .. } =
            std::mem::take(&mut *lock(&self.threads));
        self.checks.stop();
        self.flights.stop();
        let is_looking = self.lookups.stop();
        let reporter = reporter.map(|(over, thread)| {
            drop(over);
            thread
        });
        let resolver = resolver.filter(|_| !is_looking);
        for thread in checkers.into_iter().chain(resolver).chain(reporter) {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }

    /// A thread that checks.
    fn check(&self) {
        let mut rng = Rng::new();
        while let Some((key, (upstream, endpoint))) = self.checks.next() {
            let Some(upstream) = upstream.upgrade() else {
                self.forget(key.0);
                self.checks.done(&key, Instant::now(), true);
                continue;
            };
            let (start, config) = (Instant::now(), upstream.config());
            // Switched off a moment ago.
            if config.active.check != ActiveCheck::None {
                let outcome =
                    probe((endpoint.address(), &config.sources), &config.active, &self.flights);
                if self.checks.has(&key) {
                    conclude(&upstream, &endpoint, outcome);
                }
            }
            // It may have changed in the meantime.
            let interval = jittered(upstream.config().active.interval, &mut rng);
            self.checks.done(&key, Instant::now() + interval, start.elapsed() <= PROMPT);
        }
    }

    /// The thread that resolves.
    fn resolve(&self) {
        let mut rng = Rng::new();
        while let Some((key, upstream)) = self.lookups.next() {
            let Some(upstream) = upstream.upgrade() else {
                self.forget(key.0);
                self.lookups.done(&key, Instant::now(), true);
                continue;
            };
            upstream.refresh_name(&key.1);
            let interval = jittered(upstream.config().resolve_interval, &mut rng);
            self.lookups.done(&key, Instant::now() + interval, true);
        }
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

fn every_interval(is_over: &Receiver<()>, tell: impl Fn()) {
    while is_over.recv_timeout(TELL_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        tell();
    }
}
