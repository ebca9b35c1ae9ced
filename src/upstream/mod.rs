//! Where connections are passed on to: endpoints, how one is chosen, and when one is out.
//!
//! ```text
//!   backends (config) --resolve--> endpoints --health--> those that are well --policy--> a lease
//!   "api:80,weight=2"              10.0.0.1:80           up, not ejected,               taken before
//!   "10.0.9.9:80"                  10.0.0.2:80           not draining, not full         the connect,
//!                                  10.0.9.9:80                                          dropped after
//!                                                                                       the close
//! ```
//!
//! An [`Upstream`] is shared by all workers. Each worker has a [`View`] of it and [picks](View::pick)
//! from that; a pick takes a lock only when the list of endpoints has changed since the last one. The
//! worker tells the [`Lease`] how the connect went, and drops it when the connection has closed.
//!
//! Names are resolved and health is checked on threads of their own, which never touch the data
//! path; they end when the [`UpstreamGuard`] is dropped. Everything that decides is a function of
//! events and times: see `balance`, `health` and `ejections`.

mod address;
mod balance;
mod counters;
mod ejections;
mod endpoint;
mod error;
mod gauge;
mod health;
mod health_checker;
mod lease;
mod members;
mod outage;
mod probe;
mod resolver;
mod schedule;
mod telling;
mod view;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use fastrand::Rng;

pub use address::EndpointAddress;
pub use counters::{ConnectFailure, EndpointCounter, EndpointCounters};
pub use endpoint::{Endpoint, EndpointId, EndpointState};
pub use error::UpstreamError;
pub use gauge::Connections;
pub use lease::Lease;
pub use resolver::{Resolve, resolve_by_system};
pub use view::{NoBackend, View};

use endpoint::{Common, lock};
use health_checker::{CHECK_THREADS_MAX, HealthChecker};
use members::{Changes, Located, Members};
use resolver::{Pause, jittered, look_up};

use crate::config::upstream::{
    ActiveCheck, ActiveHealth, Backend, Balance, Target, UpstreamConfig, WhenAllOut,
};
use crate::log::rate_limit::Look;
use crate::metrics::Padded;
use crate::process::Alarm;

/// The endpoints that connections may go to, shared by all workers.
pub struct Upstream {
    config: UpstreamConfig,
    common: Arc<Common>,
    /// Goes up with each change of the list of those that may be picked.
    generation: Padded<AtomicU64>,
    members: Mutex<Members>,
    resolve: Box<Resolve>,
    checker: HealthChecker,
    views: AtomicU64,
    lookups: AtomicU64,
    lookup_failures: AtomicU64,
    fail_open_picks: AtomicU64,
}

/// Keeps the threads of an upstream running. Dropping it ends them; views and leases still work, but
/// nothing is checked or resolved any more.
#[derive(Debug)]
#[must_use = "dropping it ends health checks and the resolver"]
pub struct UpstreamGuard(Arc<Upstream>);

impl UpstreamGuard {
    /// What is kept running.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.0
    }
}

impl Drop for UpstreamGuard {
    fn drop(&mut self) {
        self.0.checker.stop();
        self.0.catch_up(Look::Last);
    }
}

impl Upstream {
    /// Resolves all names, which may take long, and starts the threads for checks and names.
    ///
    /// # Errors
    /// A configuration that is wrong, a name that does not resolve, a thread that does not start.
    pub fn start(config: UpstreamConfig) -> Result<UpstreamGuard, UpstreamError> {
        Self::start_with(config, Box::new(resolve_by_system))
    }

    /// [`start`](Self::start) with a resolver of your own.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_with(
        config: UpstreamConfig,
        resolve: Box<Resolve>,
    ) -> Result<UpstreamGuard, UpstreamError> {
        let guard = UpstreamGuard(Self::without_threads(config, resolve)?);
        guard.0.checker.enable();
        guard.0.scale_checker(&guard.0.members())?;
        Ok(guard)
    }

    /// An upstream that checks nothing and resolves its names once. For simulations.
    ///
    /// # Errors
    /// A configuration that is wrong, a name that does not resolve.
    pub fn without_threads(
        config: UpstreamConfig,
        resolve: Box<Resolve>,
    ) -> Result<Arc<Self>, UpstreamError> {
        config.validate()?;
        let upstream = Arc::new(Self {
            common: Arc::new(Common::new(&config, Instant::now())),
            generation: Padded(AtomicU64::new(0)),
            members: Mutex::new(Members::new()),
            resolve,
            checker: HealthChecker::default(),
            views: AtomicU64::new(0),
            lookups: AtomicU64::new(0),
            lookup_failures: AtomicU64::new(0),
            fail_open_picks: AtomicU64::new(0),
            config,
        });
        let located = upstream.locate(&upstream.config.backends)?;
        let mut members = upstream.members();
        members.replace(located);
        upstream.publish(&mut members, Duration::ZERO)?;
        drop(members);
        Ok(upstream)
    }

    /// A worker's view.
    pub fn view(self: &Arc<Self>) -> View {
        let number = self.views.fetch_add(1, Ordering::Relaxed);
        View::new(Arc::clone(self), self.config.balance, number)
    }

    /// How an endpoint is chosen.
    pub fn balance(&self) -> Balance {
        self.config.balance
    }

    /// What the log calls it: the pattern of the route that leads to it, or `default`.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// All endpoints: of those that are gone, the ones that still have connections.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.members().all()
    }

    /// Replaces the backends, for a new configuration. Endpoints whose address stays keep their
    /// connections, counters and health; backends that stay keep draining if they did. Names that are
    /// new are resolved, which may take long.
    ///
    /// # Errors
    /// A list that is wrong or a name that does not resolve; everything stays as it was.
    pub fn replace_backends(self: &Arc<Self>, backends: &[Backend]) -> Result<(), UpstreamError> {
        UpstreamConfig::validate_backends(backends)?;
        let located = self.locate(backends)?;
        let mut members = self.members();
        members.replace(located);
        self.publish(&mut members, self.now())
    }

    /// Lets a backend get no new connections, or again. Those it has live on.
    ///
    /// # Errors
    /// There is no such backend.
    pub fn set_draining(
        self: &Arc<Self>,
        target: &Target,
        draining: bool,
    ) -> Result<(), UpstreamError> {
        let mut members = self.members();
        if !members.set_draining(target, draining) {
            return Err(UpstreamError::Unknown(target.clone()));
        }
        self.publish(&mut members, self.now())
    }

    /// Raised by a thread that checks or resolves and panics: from then on nobody does so.
    pub fn alarm(&self) -> &Alarm {
        &self.checker.alarm
    }

    /// Tells the log what was suppressed lest it be flooded, if its time has come: that an endpoint or all of
    /// them failed again, or did so and recovered. Call it about once a second; what is left is told when the
    /// [`UpstreamGuard`] is dropped.
    pub fn tell_suppressed(&self, now: Instant) {
        self.catch_up(Look::At(now));
    }

    fn catch_up(&self, look: Look) {
        // The cause before what follows from it.
        self.endpoints().iter().for_each(|endpoint| endpoint.catch_up(look));
        self.common.catch_up(look);
    }

    /// Most checks of the present endpoints that are under way at a time; each takes a descriptor.
    pub(crate) fn checks_at_once(&self) -> usize {
        match self.config.active.check {
            ActiveCheck::None => 0,
            _ => self.members().serving().len().min(CHECK_THREADS_MAX),
        }
    }

    /// A check of an endpoint has ended, well or with what was wrong, on the clock of
    /// [`View::pick_at`].
    pub(crate) fn check_ended(
        &self,
        endpoint: &Endpoint,
        outcome: Result<(), String>,
        now: Instant,
    ) {
        endpoint.checked(outcome, self.common.since_start(now));
    }

    /// Lookups of names after the start.
    pub fn lookups(&self) -> u64 {
        self.lookups.load(Ordering::Relaxed)
    }

    /// Lookups that failed, so that the last good answer was kept.
    pub fn lookup_failures(&self) -> u64 {
        self.lookup_failures.load(Ordering::Relaxed)
    }

    /// Picks of an endpoint that was out, because all were.
    pub fn fail_open_picks(&self) -> u64 {
        self.fail_open_picks.load(Ordering::Relaxed)
    }

    /// Looks up the backends that are not members yet, without holding a lock.
    fn locate(&self, backends: &[Backend]) -> Result<Vec<Located>, UpstreamError> {
        let mut rng = Rng::new();
        let locate = |backend: &Backend| {
            let backend = backend.clone();
            let is_name = matches!(backend.target, Target::Name { .. });
            if !is_name || self.members().knows(&backend.target) {
                return Ok(Located { backend, answer: None });
            }
            let answer = look_up(&*self.resolve, &backend.target).map_err(|cause| {
                UpstreamError::Unresolved { target: backend.target.clone(), cause }
            })?;
            let due = Instant::now() + jittered(self.config.resolve_interval, &mut rng);
            Ok(Located { backend, answer: Some((answer, due)) })
        };
        backends.iter().map(locate).collect()
    }

    /// Makes a change of the members visible.
    fn publish(
        self: &Arc<Self>,
        members: &mut MutexGuard<'_, Members>,
        now: Duration,
    ) -> Result<(), UpstreamError> {
        let changes = members.rebuild(&self.common, now).map_err(UpstreamError::Address)?;
        if changes.are_none() {
            return Ok(());
        }
        let serving = members.serving();
        let ids: Vec<EndpointId> = serving.iter().map(|endpoint| endpoint.id()).collect();
        self.common.ejections().set_members(&ids);
        self.common.note_members(serving, Instant::now());
        // Under the lock of the members, so that whoever reads both gets what belongs together.
        self.generation.0.fetch_add(1, Ordering::Release);
        let grown = self.scale_checker(members);
        tell(&changes);
        grown
    }

    /// Gives the threads what there is to do, and starts those that are missing.
    fn scale_checker(self: &Arc<Self>, members: &Members) -> Result<(), UpstreamError> {
        let has_names = members.next_lookup().is_some();
        let mut checked = 0;
        if self.config.active.check != ActiveCheck::None {
            checked = members.serving().len();
            self.checker.schedule.set_endpoints(members.serving(), Instant::now());
        }
        self.checker.scale(self, checked, has_names).map_err(UpstreamError::Thread)
    }

    /// Looks a name up again. When that fails, its endpoints stay.
    fn refresh_name(self: &Arc<Self>, target: &Target) {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        let answer = look_up(&*self.resolve, target);
        if self.checker.pause.is_stopped() {
            return;
        }
        let now = Instant::now();
        let mut members = self.members();
        let Some(lookup) = members.lookup_mut(target) else { return };
        lookup.due = now + jittered(self.config.resolve_interval, &mut Rng::new());
        match answer {
            Ok(addresses) => {
                if lookup.succeeded() {
                    tracing::info!("backend {target} resolves again");
                }
                members.set_addresses(target, &addresses);
                if let Err(error) = self.publish(&mut members, self.now()) {
                    tracing::error!("backend {target} has new addresses: {error}");
                }
            }
            Err(cause) => {
                self.lookup_failures.fetch_add(1, Ordering::Relaxed);
                if lookup.failed(now) {
                    tracing::warn!(
                        "backend {target} cannot be resolved, its last addresses stay: {cause}"
                    );
                }
            }
        }
    }

    fn snapshot(&self) -> (u64, Arc<[Arc<Endpoint>]>) {
        let members = self.members();
        (self.generation(), Arc::clone(members.serving()))
    }

    fn next_lookup(&self) -> Option<(Target, Instant)> {
        self.members().next_lookup()
    }

    fn generation(&self) -> u64 {
        self.generation.0.load(Ordering::Acquire)
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        lock(&self.members)
    }

    fn now(&self) -> Duration {
        self.common.since_start(Instant::now())
    }

    fn common(&self) -> &Arc<Common> {
        &self.common
    }

    fn active(&self) -> &ActiveHealth {
        &self.config.active
    }

    fn when_all_out(&self) -> WhenAllOut {
        self.config.when_all_out
    }

    fn resolve_interval(&self) -> Duration {
        self.config.resolve_interval
    }

    fn checker(&self) -> &HealthChecker {
        &self.checker
    }

    fn pause(&self) -> &Pause {
        &self.checker.pause
    }

    fn count_fail_open_pick(&self) {
        self.fail_open_picks.fetch_add(1, Ordering::Relaxed);
    }
}

fn tell(changes: &Changes) {
    for endpoint in &changes.added {
        match endpoint.is_checked() {
            true => tracing::info!("backend {endpoint} added, not yet checked"),
            false => tracing::info!("backend {endpoint} added; its health is not checked"),
        }
    }
    for endpoint in &changes.returned {
        tracing::info!("backend {endpoint} gets connections again");
    }
    for endpoint in &changes.left {
        let open = match endpoint.open() {
            1 => "1 is open".to_owned(),
            count => format!("{count} are open"),
        };
        tracing::info!("backend {endpoint} gets no new connections; {open}");
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Upstream").field("config", &self.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
