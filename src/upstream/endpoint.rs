//! One address of a backend, with what all workers know about it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, num::NonZeroUsize};

use socket2::SockAddr;

use super::address::EndpointAddress;
use super::balance::{self, Candidate, WEIGHT_UNIT};
use super::counters::{ConnectFailure, EndpointCounter, EndpointCounters};
use super::ejections::Ejections;
use super::health::{Checked, FailedConnect, Passive, Verdict, ramped};
use crate::config::upstream::{ActiveHealth, PassiveHealth, Target, UpstreamConfig, Weight};
use crate::metrics::Padded;
use crate::planted::{self, Bug};

/// Names an endpoint within its upstream. It is not used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(pub(super) u64);

impl fmt::Display for EndpointId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What an endpoint is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndpointState {
    /// It gets connections.
    Up,
    /// Health checks fail.
    Down,
    /// Connects have failed, and its time is not over.
    Ejected,
    /// It gets no new connections, by the operator's wish or because its name no longer has this
    /// address. Those it has live on.
    Draining,
}

/// What all endpoints of an upstream share.
#[derive(Debug)]
pub(super) struct Common {
    epoch: Instant,
    max_connections: Option<NonZeroUsize>,
    active: ActiveHealth,
    passive: PassiveHealth,
    slow_start: Duration,
    ejections: Mutex<Ejections>,
}

impl Common {
    pub(super) fn new(config: &UpstreamConfig, epoch: Instant) -> Self {
        Self {
            epoch,
            max_connections: config.max_connections,
            active: config.active.clone(),
            passive: config.passive.clone(),
            slow_start: config.slow_start,
            ejections: Mutex::new(Ejections::new(config.passive.ejected_percent_max)),
        }
    }

    /// Since the start of the upstream.
    pub(super) fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.epoch)
    }

    pub(super) fn ejections(&self) -> MutexGuard<'_, Ejections> {
        lock(&self.ejections)
    }
}

/// A thread that panics leaves nothing half done behind these locks: each holds plain numbers.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One address of a backend. It keeps its gauge, its counters and its health as long as its address
/// stays, however often its name is resolved.
#[derive(Debug)]
pub struct Endpoint {
    id: EndpointId,
    target: Target,
    address: EndpointAddress,
    sock_addr: SockAddr,
    seed: u64,
    common: Arc<Common>,
    weight: AtomicU32,
    draining: AtomicBool,
    /// Connections that are open or being opened.
    open: Padded<AtomicUsize>,
    counters: EndpointCounters,
    checked: Mutex<Checked>,
    passive: Mutex<Passive>,
    /// What `checked` and `passive` say, for those who pick; times in nanoseconds since the start.
    is_up: AtomicBool,
    ejected_until: AtomicU64,
    /// When it came up or back; zero if it always was there.
    up_since: AtomicU64,
    /// True if a success would change `passive`.
    has_failed: AtomicBool,
}

/// What makes a new endpoint.
#[derive(Debug)]
pub(super) struct NewEndpoint {
    pub(super) id: EndpointId,
    pub(super) target: Target,
    pub(super) address: EndpointAddress,
    /// Since the start of the upstream: zero for those that were there from the start, which are
    /// all new and need no slow start against each other.
    pub(super) came: Duration,
}

impl Endpoint {
    pub(super) fn new(new: NewEndpoint, common: &Arc<Common>) -> io::Result<Self> {
        Ok(Self {
            id: new.id,
            target: new.target,
            sock_addr: new.address.to_sock_addr()?,
            seed: balance::seed(&new.address.to_string()),
            address: new.address,
            common: Arc::clone(common),
            weight: AtomicU32::new(Weight::default().get()),
            draining: AtomicBool::new(false),
            open: Padded(AtomicUsize::new(0)),
            counters: EndpointCounters::default(),
            checked: Mutex::new(Checked::unknown(&common.active)),
            passive: Mutex::new(Passive::default()),
            is_up: AtomicBool::new(true),
            ejected_until: AtomicU64::new(0),
            up_since: AtomicU64::new(nanos(new.came)),
            has_failed: AtomicBool::new(false),
        })
    }

    /// Its name within the upstream.
    pub fn id(&self) -> EndpointId {
        self.id
    }

    /// What it was made from.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Where it is.
    pub fn address(&self) -> &EndpointAddress {
        &self.address
    }

    /// Where it is, as connect(2) takes it.
    pub fn sock_addr(&self) -> &SockAddr {
        &self.sock_addr
    }

    /// The weight as configured.
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Connections that are open or being opened.
    pub fn open(&self) -> usize {
        self.open.0.load(Ordering::Relaxed)
    }

    /// What has been counted.
    pub fn counters(&self) -> &EndpointCounters {
        &self.counters
    }

    /// What it is doing at `now`.
    pub fn state(&self, now: Instant) -> EndpointState {
        if self.is_draining() {
            EndpointState::Draining
        } else if !self.is_up.load(Ordering::Relaxed) {
            EndpointState::Down
        } else if self.is_ejected(self.common.since_start(now)) {
            EndpointState::Ejected
        } else {
            EndpointState::Up
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn is_ejected(&self, now: Duration) -> bool {
        nanos(now) < self.ejected_until.load(Ordering::Relaxed)
    }

    /// Neither down nor ejected.
    pub(super) fn is_well(&self, now: Duration) -> bool {
        let is_up = self.is_up.load(Ordering::Relaxed) || planted::is(Bug::DownPicked);
        is_up && !self.is_ejected(now)
    }

    pub(super) fn is_full(&self) -> bool {
        self.common.max_connections.is_some_and(|max| self.open() >= max.get())
    }

    /// As a policy sees it at `now`.
    pub(super) fn candidate(&self, index: usize, now: Duration) -> Candidate {
        let weight = u64::from(self.weight()) * WEIGHT_UNIT;
        let since = self.up_since.load(Ordering::Relaxed);
        let weight = match since {
            0 => weight,
            _ => {
                let age = Duration::from_nanos(nanos(now).saturating_sub(since));
                ramped(weight, age, self.common.slow_start)
            }
        };
        Candidate { index, weight, open: self.open() as u64, seed: self.seed }
    }

    /// Takes one unit of the gauge, unless it is full.
    pub(super) fn acquire(&self) -> bool {
        let max = self.common.max_connections.map_or(usize::MAX, NonZeroUsize::get);
        let more = |open: usize| (open < max).then_some(open + 1);
        self.open.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Gives it back.
    pub(super) fn release(&self) {
        let before = self.open.0.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "{} was released more often than acquired", self.address);
    }

    pub(super) fn set_weight(&self, weight: Weight) {
        self.weight.store(weight.get(), Ordering::Relaxed);
    }

    /// Returns true if that is a change.
    pub(super) fn set_draining(&self, draining: bool) -> bool {
        self.draining.swap(draining, Ordering::Relaxed) != draining
    }

    /// It is back at `now` after it had been away.
    pub(super) fn returned(&self, now: Duration) {
        self.up_since.store(nanos(now).max(1), Ordering::Relaxed);
    }

    /// A connect succeeded.
    pub(super) fn connected(&self) {
        self.counters.count(EndpointCounter::Connects);
        if self.has_failed.load(Ordering::Relaxed) {
            lock(&self.passive).succeeded();
            self.has_failed.store(false, Ordering::Relaxed);
        }
    }

    /// A connect failed.
    pub(super) fn connect_failed(&self, kind: ConnectFailure, connect: FailedConnect) {
        self.counters.count(kind.counter());
        if !kind.blames_endpoint() {
            return;
        }
        match self.judge(connect) {
            Verdict::Stays => {}
            Verdict::Withheld => self.counters.count(EndpointCounter::EjectionsWithheld),
            Verdict::Ejected(span) => {
                self.counters.count(EndpointCounter::Ejections);
                let span = humantime::format_duration(span);
                tracing::warn!("backend {self} is ejected for {span}: connects fail ({kind:?})");
            }
        }
    }

    fn judge(&self, connect: FailedConnect) -> Verdict {
        let mut ejections = self.common.ejections();
        let mut passive = lock(&self.passive);
        let has_room = || ejections.has_room(connect.failed);
        let verdict = passive.failed(connect, &self.common.passive, has_room);
        self.has_failed.store(!passive.is_clean(), Ordering::Relaxed);
        if let Verdict::Ejected(_) = verdict {
            ejections.eject(self.id, passive.until());
            self.ejected_until.store(nanos(passive.until()), Ordering::Relaxed);
            self.up_since.store(nanos(passive.until()), Ordering::Relaxed);
        }
        verdict
    }

    /// A check ended at `now`: well, or with what was wrong.
    pub(super) fn checked(&self, outcome: Result<(), String>, now: Duration) {
        let passed = outcome.is_ok();
        self.counters.count(match passed {
            true => EndpointCounter::ChecksPassed,
            false => EndpointCounter::ChecksFailed,
        });
        let mut checked = lock(&self.checked);
        let before = checked.is_up();
        *checked = checked.after(passed, &self.common.active);
        let after = checked.is_up();
        if before == after {
            return;
        }
        if after {
            self.returned(now);
        }
        self.is_up.store(after, Ordering::Relaxed);
        drop(checked);
        self.tell_check(outcome);
    }

    fn tell_check(&self, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => {
                self.counters.count(EndpointCounter::CameUp);
                tracing::info!("backend {self} is up: health checks pass");
            }
            Err(cause) => {
                self.counters.count(EndpointCounter::WentDown);
                tracing::warn!("backend {self} is down: {cause}");
            }
        }
    }
}

/// The backend as configured, and the address when that says more.
impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Name { .. } => write!(formatter, "{} ({})", self.target, self.address),
            Target::Socket(_) | Target::Unix(_) => self.target.fmt(formatter),
        }
    }
}

/// 2^64 ns are 584 years.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
