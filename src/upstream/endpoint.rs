//! One address of a backend, with what all workers know about it.

mod record;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use socket2::SockAddr;

use super::address::EndpointAddress;
use super::balance::{self, Candidate, WEIGHT_UNIT};
use super::common::{Common, lock};
use super::counters::{ConnectFailure, EndpointCounter, EndpointCounters};
use super::gauge::{Connections, Gauge};
use super::health::{Checked, FailedConnect, Verdict, ramped};
use super::messages::{Connects, Failure, Lack};
use super::standing::{Forced, Health, Standing};
use crate::config::upstream::{ActiveCheck, PassiveHealth, Target, UpstreamConfig, Weight};
use crate::log::rate_limit::Look;
use crate::sys::Errno;

/// Names an endpoint within its upstream. It is not used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(pub(super) u64);

impl fmt::Display for EndpointId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Of the limit of an endpoint one part in so many, and one place, may be kept for connections without a backend that
/// another process has left here: many of them may want another endpoint, or none.
const SPARE_PART: usize = 8;

/// What an endpoint is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndpointState {
    /// It gets connections, and nothing is known of it: no connect to it and no check has ended.
    Unknown,
    /// It gets connections, and the last connect to it succeeded, or its checks do.
    Up,
    /// It gets connections, although the last connect to it has failed: not enough in a row have to eject it,
    /// or its ejection was withheld, or is over and nobody has got through since.
    Failing,
    /// Health checks fail.
    Down,
    /// Connects have failed, and its time is not over.
    Ejected,
    /// It gets no new connections, by the operator's wish or because its name no longer has this
    /// address. Those it has live on.
    Draining,
}

impl EndpointState {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Unknown, Self::Up, Self::Failing, Self::Down, Self::Ejected, Self::Draining];

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Failing => "failing",
            Self::Down => "down",
            Self::Ejected => "ejected",
            Self::Draining => "draining",
        }
    }
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
    connections: Gauge,
    counters: EndpointCounters,
    checked: Mutex<Health>,
    connects: Mutex<Connects>,
    /// Whether a connect or a check has ever succeeded.
    has_answered: AtomicBool,
    /// What `checked` and the operator say, and what `connects` says, for those who pick; times in nanoseconds
    /// since the start.
    standing: AtomicU8,
    ejected_until: AtomicU64,
    /// When it came up or back: before the start where that was in another process; zero if it always was there.
    up_since: AtomicI64,
    /// Connects that have failed since the last one that has not.
    failures: AtomicU32,
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
    pub(super) fn new(new: NewEndpoint, common: &Arc<Common>) -> Self {
        Self {
            id: new.id,
            target: new.target,
            sock_addr: new.address.to_sock_addr(),
            seed: balance::seed(&new.address.to_string()),
            address: new.address,
            common: Arc::clone(common),
            weight: AtomicU32::new(Weight::default().get()),
            draining: AtomicBool::new(false),
            connections: Gauge::default(),
            counters: EndpointCounters::default(),
            checked: Mutex::default(),
            connects: Mutex::default(),
            has_answered: AtomicBool::new(false),
            standing: AtomicU8::new(Standing::Up as u8),
            ejected_until: AtomicU64::new(0),
            up_since: AtomicI64::new(moment(new.came)),
            failures: AtomicU32::new(0),
        }
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
        self.connections.all()
    }

    /// Connections that are open, and those that are being opened.
    pub fn connections(&self) -> Connections {
        self.connections.get()
    }

    /// What has been counted.
    pub fn counters(&self) -> &EndpointCounters {
        &self.counters
    }

    /// What it is doing at `now`.
    pub fn state(&self, now: Instant) -> EndpointState {
        match self.standing() {
            Standing::ForcedDown => EndpointState::Down,
            _ if self.is_draining() => EndpointState::Draining,
            Standing::Down => EndpointState::Down,
            Standing::ForcedUp => EndpointState::Up,
            Standing::Up => self.state_by_connects(now),
        }
    }

    /// Checks have nothing against it.
    fn state_by_connects(&self, now: Instant) -> EndpointState {
        if self.is_ejected(self.common.since_start(now)) {
            EndpointState::Ejected
        } else if self.failures.load(Ordering::Relaxed) > 0 {
            EndpointState::Failing
        } else if !self.has_answered.load(Ordering::Relaxed) {
            EndpointState::Unknown
        } else {
            EndpointState::Up
        }
    }

    fn standing(&self) -> Standing {
        Standing::of(self.standing.load(Ordering::Relaxed))
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn is_ejected(&self, now: Duration) -> bool {
        nanos(now) < self.ejected_until.load(Ordering::Relaxed)
    }

    /// Whether checks and connections have nothing against it, whatever the time; see `outage`.
    pub(super) fn is_healthy(&self) -> bool {
        let failures = self.failures.load(Ordering::Relaxed);
        let limit = || self.common.config().passive.failures;
        match self.standing() {
            Standing::Up => failures == 0 || limit().is_none_or(|limit| failures < limit.get()),
            Standing::ForcedUp => true,
            Standing::Down | Standing::ForcedDown => false,
        }
    }

    /// Whether its health is checked on a schedule.
    pub(super) fn is_checked(&self) -> bool {
        self.common.config().active.check != ActiveCheck::None
    }

    /// What is learnt from its connections: nothing that ejects it while it is forced up.
    pub(super) fn passive(&self) -> PassiveHealth {
        let rules = self.common.config().passive.clone();
        match self.standing() {
            Standing::ForcedUp => PassiveHealth { failures: None, ..rules },
            _ => rules,
        }
    }

    /// Neither down nor ejected.
    pub(super) fn is_well(&self, now: Duration) -> bool {
        match self.standing() {
            Standing::Up => !self.is_ejected(now),
            Standing::ForcedUp => true,
            Standing::Down | Standing::ForcedDown => false,
        }
    }

    /// Whether it gets no more: it has `max`, or this process its share.
    pub(crate) fn is_full(&self, max: Option<NonZeroUsize>) -> bool {
        self.connections.is_full(max.map_or(usize::MAX, NonZeroUsize::get))
    }

    /// As a policy sees it at `now`, with a slow start of this length.
    pub(super) fn candidate(&self, index: usize, now: Duration, slow_start: Duration) -> Candidate {
        let weight = u64::from(self.weight()) * WEIGHT_UNIT;
        let since = self.up_since.load(Ordering::Relaxed);
        let weight = match since {
            0 => weight,
            _ => {
                let age = moment(now).saturating_sub(since).max(0).cast_unsigned();
                ramped(weight, Duration::from_nanos(age), slow_start)
            }
        };
        Candidate { index, weight, open: self.open() as u64, seed: self.seed }
    }

    /// Takes one unit of the gauge, unless it has `max`.
    pub(super) fn acquire(&self, max: Option<NonZeroUsize>) -> bool {
        self.connections.acquire(max.map_or(usize::MAX, NonZeroUsize::get))
    }

    /// Takes one for a connection that is open, whatever it has. Nothing is learnt from that.
    pub(super) fn acquire_open(&self) {
        self.connections.acquire_open();
    }

    /// Gives it back.
    pub(super) fn release(&self, connecting: bool) {
        self.connections.release(connecting);
    }

    /// It is another process's, with its place.
    pub(super) fn give_away(&self, connecting: bool) {
        self.connections.give_away(connecting);
    }

    /// Another process counts what this one has, and may have: at most `spare` more than now. Returns how many.
    pub(super) fn narrow(&self, spare: usize) -> usize {
        let Some(max) = self.common.config().max_connections else { return self.open() };
        let spare = spare.min(max.get() / SPARE_PART + 1);
        self.connections.narrow(spare, max.get())
    }

    /// No other process counts it any more.
    pub(super) fn widen(&self) {
        self.connections.widen();
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
        self.up_since.store(moment(now).max(1), Ordering::Relaxed);
    }

    /// A connect succeeded.
    pub(super) fn connected(&self) {
        self.connections.connected();
        self.counters.count(EndpointCounter::Connects);
        self.note_answer();
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.recovered();
        }
    }

    /// A look is cheaper than a write that every worker would make for each connection.
    fn note_answer(&self) {
        if !self.has_answered.load(Ordering::Relaxed) {
            self.has_answered.store(true, Ordering::Relaxed);
        }
    }

    /// A connect has succeeded behind some that have not.
    fn recovered(&self) {
        let told = {
            let mut connects = lock(&self.connects);
            self.failures.store(0, Ordering::Relaxed);
            connects.succeeded()
        };
        told.into_iter().for_each(|failures| self.tell_recovery(failures));
        self.common.note_health(self, Instant::now());
    }

    /// A connect failed.
    pub(super) fn connect_failed(&self, errno: Errno, connect: FailedConnect) {
        let kind = ConnectFailure::of(errno);
        self.counters.count(kind.counter());
        let now = self.common.epoch + connect.failed;
        if !kind.blames_endpoint() {
            return self.lacked(now, Lack::Errno(errno), None);
        }
        let failure = self.judge(connect, errno, now);
        match failure.verdict {
            Verdict::Stays => {}
            Verdict::Withheld => self.counters.count(EndpointCounter::EjectionsWithheld),
            Verdict::Ejected(_) => self.counters.count(EndpointCounter::Ejections),
        }
        self.tell_failure(failure, errno);
        self.common.note_health(self, now);
    }

    /// There was no socket for a connect, which waits with so many others.
    pub(super) fn lacked_socket(&self, now: Instant, errno: Errno, waiting: usize) {
        self.lacked(now, Lack::Errno(errno), Some(waiting));
    }

    /// This machine could not connect, for want of something else than a socket.
    pub(super) fn not_connected(&self, now: Instant, lack: Lack) {
        self.counters.count(EndpointCounter::ConnectsLocal);
        self.lacked(now, lack, None);
    }

    fn lacked(&self, now: Instant, lack: Lack, waiting: Option<usize>) {
        let told = lock(&self.common.shortage).ask(now, lack);
        told.into_iter().for_each(|suppressed| self.tell_shortage(lack, waiting, suppressed));
    }

    /// Tells what was suppressed, if that is to be told now.
    pub(super) fn catch_up(&self, look: Look) {
        let late = lock(&self.connects).catch_up(look);
        late.into_iter().for_each(|(late, errno)| self.tell_late(late, errno));
    }

    /// Whether failures may ever eject it, with as many backends as there are.
    pub(super) fn may_be_ejected(&self) -> bool {
        self.common.ejections().may_eject_any()
    }

    fn judge(&self, connect: FailedConnect, errno: Errno, now: Instant) -> Failure {
        let mut ejections = self.common.ejections();
        let mut connects = lock(&self.connects);
        let passive = &mut connects.passive;
        let has_room = || ejections.has_room(connect.failed);
        let verdict = passive.failed(connect, &self.passive(), has_room);
        self.failures.store(passive.failures(), Ordering::Relaxed);
        if let Verdict::Ejected(_) = verdict {
            ejections.eject(self.id, passive.until());
            self.ejected_until.store(nanos(passive.until()), Ordering::Relaxed);
            self.up_since.store(moment(passive.until()), Ordering::Relaxed);
        }
        connects.failed(verdict, errno, now)
    }

    /// A check ended at `now`: well, or with what was wrong. It is forgotten if checks have been switched off
    /// since it began.
    pub(super) fn checked(&self, outcome: Result<(), String>, now: Duration) {
        let passed = outcome.is_ok();
        let mut health = lock(&self.checked);
        // Under the lock, which whoever switches them off takes afterwards.
        let config = self.common.config();
        if config.active.check == ActiveCheck::None {
            return;
        }
        let before = health.checked;
        health.checked = before.after(passed, &config.active);
        let after = health.checked.is_up();
        if after && !before.is_up() {
            self.returned(now);
        }
        self.set_standing(*health);
        drop(health);
        self.counters.count(match passed {
            true => EndpointCounter::ChecksPassed,
            false => EndpointCounter::ChecksFailed,
        });
        if passed {
            self.note_answer();
        }
        self.tell_check(before, outcome.map_or_else(|cause| Err((cause, after)), |()| Ok(after)));
        self.common.note_health(self, self.common.epoch + now);
    }

    /// Checks have been switched off: what they have said counts no more, since none would take it back.
    pub(super) fn forget_checks(&self, now: Duration) {
        let mut health = lock(&self.checked);
        let was_down = !std::mem::replace(&mut health.checked, Checked::Unknown).is_up();
        self.set_standing(*health);
        if was_down {
            self.returned(now);
        }
    }

    /// What the operator says of its health from now on.
    pub(super) fn set_forced(&self, forced: Forced) {
        let mut health = lock(&self.checked);
        health.forced = forced;
        self.set_standing(*health);
    }

    fn set_standing(&self, health: Health) {
        self.standing.store(health.standing() as u8, Ordering::Relaxed);
    }

    /// Counts and tells what a check has changed: it passed or not, with whether the endpoint is up by checks.
    fn tell_check(&self, before: Checked, outcome: Result<bool, (String, bool)>) {
        match outcome {
            Ok(_) if before == Checked::Unknown => {
                tracing::info!("backend {self} is up: its first health check has passed");
            }
            Ok(true) if !before.is_up() => {
                self.counters.count(EndpointCounter::CameUp);
                tracing::info!("backend {self} is up: health checks pass");
            }
            Err((cause, false)) if before.is_up() => {
                self.counters.count(EndpointCounter::WentDown);
                tracing::warn!("backend {self} is down: {cause}");
            }
            _ => {}
        }
    }
}

/// The backend as configured, the address when that says more, and the upstream unless it is the default.
impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Name { .. } | Target::Srv { .. } => {
                write!(formatter, "{} ({})", self.target, self.address)?
            }
            Target::Socket(_) | Target::Unix(_) => self.target.fmt(formatter)?,
        }
        match self.common.name() {
            UpstreamConfig::DEFAULT_NAME => Ok(()),
            upstream => write!(formatter, " of upstream {upstream}"),
        }
    }
}

/// The same where there is something before the start.
fn moment(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// 2^64 ns are 584 years.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
