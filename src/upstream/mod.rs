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
//! An [`UpstreamRegistry`] has all upstreams of a process by name, and the threads that check health, resolve
//! names and tell what the log has suppressed, which never touch the data path. A new configuration is prepared,
//! which may fail and changes nothing, and then applied, which cannot fail: upstreams that stay are changed in
//! place. Everything that decides is a function of events and times: see `balance`, `health`, `ejections` and
//! `changes`.

mod address;
mod background;
mod balance;
mod by_hand;
mod changes;
mod common;
mod counters;
mod ejections;
mod endpoint;
mod error;
mod gauge;
mod health;
mod lease;
mod members;
mod messages;
mod outage;
mod probe;
mod record;
mod registry;
mod resolver;
mod schedule;
mod sources;
mod srv;
mod standing;
mod view;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use fastrand::Rng;

pub use address::EndpointAddress;
pub use by_hand::Difference;
pub use changes::{UpstreamChange, UpstreamChanges, What};
pub use counters::{ConnectFailure, EndpointCounter, EndpointCounters};
pub use endpoint::{Endpoint, EndpointId, EndpointState};
pub use error::{UpstreamError, no_source};
pub use gauge::Connections;
pub use lease::Lease;
pub(crate) use messages::Lack;
pub use record::{AddressRecord, EndpointRecord, MemberRecord, NameRecord, UpstreamRecord};
pub use registry::{Prepared, UpstreamRegistry};
pub use resolver::{Query, Resolve, resolve_by_system, resolve_service_by_system};
pub use sources::try_source;
pub(crate) use sources::{Origin, SourceNumber};
pub use standing::Forced;
pub use view::{NoBackend, View};

use background::Background;
use common::{Common, lock};
use members::{ByHand, Changes, Located, Members};
use resolver::{Found, Resolver, jittered, look_up, look_up_all};
use schedule::Times;

use crate::config::upstream::{ActiveCheck, Backend, Target, UpstreamConfig};
use crate::log::rate_limit::Look;
use crate::metrics::Padded;

/// The endpoints that connections may go to, shared by all workers.
pub struct Upstream {
    /// Tells it apart in the schedules.
    number: u64,
    common: Arc<Common>,
    /// Goes up with each change of the list of those that may be picked, and of the configuration.
    generation: Padded<AtomicU64>,
    members: Mutex<Members>,
    resolver: Arc<Resolver>,
    background: Arc<Background>,
    views: AtomicU64,
    lookups: AtomicU64,
    lookup_failures: AtomicU64,
    fail_open_picks: AtomicU64,
}

/// What those who pick copy when the generation has changed.
struct Snapshot {
    generation: u64,
    endpoints: Arc<[Arc<Endpoint>]>,
    config: Arc<UpstreamConfig>,
}

impl Upstream {
    /// An upstream that checks nothing and resolves its names once. For simulations.
    ///
    /// # Errors
    /// A configuration that is wrong, a name that does not resolve.
    pub fn without_threads(
        config: UpstreamConfig,
        resolve: Box<Resolve>,
    ) -> Result<Arc<Self>, UpstreamError> {
        Self::without_threads_from(config, resolve, Instant::now())
    }

    /// The same for a clock of its own, which is at `start` now.
    ///
    /// # Errors
    /// Those of [`without_threads`](Self::without_threads).
    pub(crate) fn without_threads_from(
        config: UpstreamConfig,
        resolve: Box<Resolve>,
        start: Instant,
    ) -> Result<Arc<Self>, UpstreamError> {
        config.validate()?;
        let resolver = Arc::new(Resolver::new(resolve));
        let located = locate(&resolver, &config.backends, |_| None)?;
        let background = Background::new(false);
        let upstream = Self::new_at(start, Arc::new(config), (resolver, background));
        upstream.members().replace(located, ByHand::Ends);
        upstream.publish_at(&mut upstream.members(), Duration::ZERO, true)?;
        Ok(upstream)
    }

    /// Without endpoints.
    fn new(config: Arc<UpstreamConfig>, parts: (Arc<Resolver>, Arc<Background>)) -> Arc<Self> {
        Self::new_at(Instant::now(), config, parts)
    }

    fn new_at(
        start: Instant,
        config: Arc<UpstreamConfig>,
        (resolver, background): (Arc<Resolver>, Arc<Background>),
    ) -> Arc<Self> {
        Arc::new(Self {
            number: background.number(),
            common: Arc::new(Common::new(config, start)),
            generation: Padded(AtomicU64::new(0)),
            members: Mutex::new(Members::new()),
            resolver,
            background,
            views: AtomicU64::new(0),
            lookups: AtomicU64::new(0),
            lookup_failures: AtomicU64::new(0),
            fail_open_picks: AtomicU64::new(0),
        })
    }

    /// A worker's view.
    pub fn view(self: &Arc<Self>) -> View {
        let number = self.views.fetch_add(1, Ordering::Relaxed);
        View::new(Arc::clone(self), number)
    }

    /// What the log calls it: the pattern of the route that leads to it, or `default`.
    pub fn name(&self) -> &str {
        self.common.name()
    }

    /// What it is told now. What was changed by hand is not in it: [`differences`](Self::differences).
    pub fn config(&self) -> Arc<UpstreamConfig> {
        self.common.config()
    }

    /// All endpoints: of those that are gone, the ones that still have connections.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.members().all()
    }

    /// A lease for a connection that is open already and comes from another process, to the endpoint with this address
    /// as [`EndpointAddress`] writes it, whatever its limit and its state. If there is none, there is one from now on
    /// that gets no connections: it may come back. `None` if that is no address.
    pub fn lease_open(&self, address: &str) -> Option<Lease> {
        let address = EndpointAddress::parse(address)?;
        let mut members = self.members();
        let endpoint = match members.find(&address) {
            Some(known) => Arc::clone(known),
            None => members.add_gone((address.target(), address), &self.common),
        };
        Some(Lease::open(&endpoint, &self.common))
    }

    /// Another process counts the connections of this one under the limits of the endpoints: these may get `spare` more
    /// than they have now, and after another call never more than that said. Returns how many that may be, by address.
    pub(crate) fn narrow(&self, spare: usize) -> Vec<(String, usize)> {
        let all = self.endpoints();
        all.iter().map(|it| (it.address().to_string(), it.narrow(spare))).collect()
    }

    /// No other process counts them any more.
    pub(crate) fn widen(&self) {
        self.members().known().for_each(|endpoint| endpoint.widen());
    }

    /// Replaces the backends. Endpoints whose address stays keep their connections, counters and health; backends
    /// that stay keep draining if they did. Names that are new are resolved, which may take long.
    ///
    /// # Errors
    /// A list that is wrong or a name that does not resolve; everything stays as it was.
    pub fn replace_backends(self: &Arc<Self>, backends: &[Backend]) -> Result<(), UpstreamError> {
        UpstreamConfig { backends: backends.to_vec(), ..(*self.config()).clone() }.validate()?;
        let known = |target: &Target| self.members().addresses_of(target);
        let located = locate(&self.resolver, backends, known)?;
        let mut members = self.members();
        let config = UpstreamConfig { backends: backends.to_vec(), ..(*self.config()).clone() };
        self.common.set_config(Arc::new(config));
        members.replace(located, ByHand::Stays);
        self.publish(&mut members)
    }

    /// Becomes what a new configuration says, in place. What was done by hand ends.
    fn change(
        self: &Arc<Self>,
        config: Arc<UpstreamConfig>,
        located: Vec<Located>,
    ) -> (Changes, Result<(), UpstreamError>) {
        let mut members = self.members();
        // What is there from the start needs no slow start against each other.
        let now = if self.generation() == 0 { Duration::ZERO } else { self.now() };
        members.replace(located, ByHand::Ends);
        members.retired = false;
        let checks_end = config.active.check == ActiveCheck::None;
        self.common.set_config(config);
        if checks_end {
            members.all().iter().for_each(|endpoint| endpoint.forget_checks(now));
        }
        self.make_public(&mut members, now, true)
    }

    /// Whether a configuration says what it is, and nothing was done by hand.
    fn is_as_in(&self, config: &UpstreamConfig) -> bool {
        *self.config() == *config && self.differences().is_empty()
    }

    /// Nothing is checked or looked up any more. Views and leases that there are go on.
    fn retire(&self) {
        // Under the lock, so that nobody who changes the members schedules something again.
        let mut members = self.members();
        members.retired = true;
        self.background.forget(self.number);
    }

    /// Whether it has connections, or somebody besides its registry holds it.
    fn is_in_use(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1 || self.endpoints().iter().any(|endpoint| endpoint.open() > 0)
    }

    fn catch_up(&self, look: Look) {
        // The cause before what follows from it.
        self.endpoints().iter().for_each(|endpoint| endpoint.catch_up(look));
        self.common.catch_up(look);
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

    /// Makes a change of the members visible, and tells the log of it.
    fn publish(
        self: &Arc<Self>,
        members: &mut MutexGuard<'_, Members>,
    ) -> Result<(), UpstreamError> {
        self.publish_at(members, self.now(), false)
    }

    fn publish_at(
        self: &Arc<Self>,
        members: &mut MutexGuard<'_, Members>,
        now: Duration,
        is_new: bool,
    ) -> Result<(), UpstreamError> {
        let (changes, grown) = self.make_public(members, now, is_new);
        changes.lines().for_each(|line| tracing::info!("{line}"));
        grown
    }

    /// Makes a change of the members or of the configuration visible to those who pick, and to the threads. What is
    /// wrong then is that a thread cannot be started.
    fn make_public(
        self: &Arc<Self>,
        members: &mut MutexGuard<'_, Members>,
        now: Duration,
        is_other_config: bool,
    ) -> (Changes, Result<(), UpstreamError>) {
        let changes = members.rebuild(&self.common, now);
        let serving = members.serving();
        // Whoever is forced up or down is healthy or not from now on.
        self.common.note_members(serving, Instant::now());
        if changes.are_none() && !is_other_config {
            return (changes, Ok(()));
        }
        let ids: Vec<EndpointId> = serving.iter().map(|endpoint| endpoint.id()).collect();
        self.common.ejections().set_members(&ids);
        // Under the lock of the members, so that whoever reads both gets what belongs together.
        self.generation.0.fetch_add(1, Ordering::Release);
        (changes, self.schedule(members))
    }

    /// Gives the threads what there is to do, and starts those that are missing.
    fn schedule(self: &Arc<Self>, members: &Members) -> Result<(), UpstreamError> {
        if members.retired {
            return Ok(());
        }
        let (config, now, mut rng) = (self.config(), Instant::now(), Rng::new());
        let checked = match config.active.check {
            ActiveCheck::None => &[],
            _ => &members.serving()[..],
        };
        let check = |endpoint: &Arc<Endpoint>| {
            (endpoint.id(), (Arc::downgrade(self), Arc::clone(endpoint)))
        };
        let latest = now + jittered(config.active.interval, &mut rng);
        let times = Times { first: now, latest };
        self.background.checks.set(self.number, checked.iter().map(check).collect(), times);
        let name = |target: &Target| (target.clone(), Arc::downgrade(self));
        let again = now + jittered(config.resolve_interval, &mut rng);
        let times = Times { first: again, latest: again };
        self.background.lookups.set(self.number, members.names().map(name).collect(), times);
        self.background.scale(self.background.needs()).map_err(UpstreamError::Thread)
    }

    /// Looks a name up again. When that fails, its endpoints stay.
    fn refresh_name(self: &Arc<Self>, target: &Target) {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        let answer = look_up(&self.resolver, target);
        if self.background.lookups.is_stopped() {
            return;
        }
        let mut members = self.members();
        let Some(lookup) = members.lookup_mut(target) else { return };
        match answer {
            Ok(addresses) => {
                if lookup.succeeded() {
                    tracing::info!("backend {target} resolves again");
                }
                members.set_addresses(target, &addresses);
                if let Err(error) = self.publish(&mut members) {
                    tracing::error!("backend {target} has new addresses: {error}");
                }
            }
            Err(cause) => {
                self.lookup_failures.fetch_add(1, Ordering::Relaxed);
                if lookup.failed(Instant::now()) {
                    tracing::warn!(
                        "backend {target} cannot be resolved, its last addresses stay: {cause}"
                    );
                }
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        let members = self.members();
        Snapshot {
            generation: self.generation(),
            endpoints: Arc::clone(members.serving()),
            config: self.config(),
        }
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

    fn count_fail_open_pick(&self) {
        self.fail_open_picks.fetch_add(1, Ordering::Relaxed);
    }
}

/// What is to be found out about backends before they become members. Names that nobody knows are looked up, which
/// may take long.
fn locate(
    resolver: &Resolver,
    backends: &[Backend],
    known: impl Fn(&Target) -> Option<Vec<Found>>,
) -> Result<Vec<Located>, UpstreamError> {
    let names = backends.iter().map(|backend| &backend.target).filter(|it| it.is_looked_up());
    let unknown: Vec<_> = names.filter(|target| known(target).is_none()).cloned().collect();
    let found = look_up_all(resolver, &unknown)?;
    let located = backends.iter().map(|backend| {
        let target = &backend.target;
        let addresses =
            target.is_looked_up().then(|| found.get(target).cloned().or_else(|| known(target)));
        Located { backend: backend.clone(), addresses: addresses.flatten().unwrap_or_default() }
    });
    Ok(located.collect())
}

impl fmt::Debug for Upstream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Upstream").field("config", &self.config()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
