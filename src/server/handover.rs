//! What a server does so that another process takes its place, and when it takes another's: its listening sockets, its
//! connections, and what they are counted in. What is said between the processes, others know.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::control::Steering;
use super::error::{ServerError, StartError};
use super::figures::Figures;
use super::{AccessLogs, Handle, Heritage, Server, start};
use crate::config::{Config, Frontend};
use crate::connection::suspended::{Place, Record, Suspended};
use crate::dispatch::{ConnectionLimit, FrontendId};
use crate::listener::{Inherited, Listener, Origin};
use crate::metrics::FrontendTimes;
use crate::process::NoThread;
use crate::service::{Builtin, Service};
use crate::upstream::Lease;

/// Between two looks whether nothing is accepted any more.
const STEP: Duration = Duration::from_millis(1);

/// How long a thread that was late may take to go on with a connection.
const LATE: Duration = Duration::from_secs(10);

/// How long a change of the server waits for an upgrade under way.
const HOLD_LIMIT: Duration = Duration::from_secs(30);

/// A socket that is listened on, and what it is here.
#[derive(Debug, Clone)]
pub struct OpenSocket {
    /// What it is here.
    pub origin: Origin,
    /// The socket.
    pub listener: Arc<Listener>,
}

/// A frontend, and what serves its connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Offer {
    /// Its name.
    pub frontend: String,
    /// What serves its connections, in one word.
    pub service: String,
    /// Whether they are passed on to a backend.
    pub is_proxied: bool,
}

/// How many connections a server has, by what limits them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OpenCounts {
    /// Of the process.
    pub process: usize,
    /// Of each frontend.
    pub frontends: Vec<(String, usize)>,
    /// Of each upstream and address of a backend.
    pub backends: Vec<(String, String, usize)>,
}

/// Some sockets are still accepted on, or have connections that no worker has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StillAccepting {
    /// So many.
    pub sockets: usize,
}

impl fmt::Display for StillAccepting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "connections that were accepted on {} sockets still wait for a place under max-connections, or a \
             thread is stuck",
            self.sockets
        )
    }
}

impl std::error::Error for StillAccepting {}

/// What [`Control`](super::control::Control) knows of it, whatever the service is.
pub(super) trait HandOver {
    /// The sockets that are listened on.
    fn sockets(&self) -> Vec<OpenSocket>;

    /// Tells the threads to accept nobody any more, and to refuse nobody.
    /// What is returned is held by others until they do, and the last connection has been placed.
    fn stop_accepting(&mut self) -> Arc<()>;

    /// The process that handed sockets over has given them up.
    fn keep_sockets(&self);

    /// Accepts again on those of these sockets that exist.
    fn accept_again(&mut self, is_wanted: &dyn Fn(&Arc<Listener>) -> bool);

    /// Frontends with what serves them, in the order of the configuration.
    fn offers(&self) -> Vec<Offer>;

    /// Whether a connection of this frontend, suspended elsewhere, could go on here.
    fn makes_sense(&self, frontend: &str, record: &Record) -> bool;

    /// Asks all workers for connections of these frontends, at most so many of each: where they come from.
    fn ask_to_suspend(&self, of: &[String], most: usize) -> Vec<mpsc::Receiver<Suspended>>;

    /// Has a worker go on with these connections: where those come back that it does not know what to do with.
    /// `None` if it takes nothing.
    fn tell_to_resume(
        &self,
        worker: usize,
        connections: Vec<Suspended>,
    ) -> Option<mpsc::Receiver<Suspended>>;

    /// The number of a frontend, and where its connections are counted.
    fn limit_of(&self, frontend: &str) -> Option<(FrontendId, Arc<ConnectionLimit>)>;

    /// Connections of each frontend, those included that are removed.
    fn open_by_frontend(&self) -> Vec<(String, usize)>;

    /// How long the connections of each frontend have taken.
    fn times_by_frontend(&self) -> Vec<(String, Arc<FrontendTimes>)>;

    /// The sockets that are listened on, or will be.
    fn listeners(&self) -> Vec<Arc<Listener>>;
}

impl<S: Service> HandOver for Steering<S> {
    fn sockets(&self) -> Vec<OpenSocket> {
        self.controller.open_sockets()
    }

    fn stop_accepting(&mut self) -> Arc<()> {
        self.controller.stop_accepting()
    }

    fn keep_sockets(&self) {
        self.controller.keep_sockets();
    }

    fn accept_again(&mut self, is_wanted: &dyn Fn(&Arc<Listener>) -> bool) {
        self.controller.accept_again(is_wanted, &self.shared);
    }

    fn offers(&self) -> Vec<Offer> {
        self.controller.offers(self.prepared.as_ref())
    }

    fn makes_sense(&self, frontend: &str, record: &Record) -> bool {
        self.controller.makes_sense(frontend, record)
    }

    fn ask_to_suspend(&self, of: &[String], most: usize) -> Vec<mpsc::Receiver<Suspended>> {
        self.controller.ask_to_suspend(of, most)
    }

    fn tell_to_resume(
        &self,
        worker: usize,
        connections: Vec<Suspended>,
    ) -> Option<mpsc::Receiver<Suspended>> {
        self.controller.tell_to_resume(worker, connections)
    }

    fn limit_of(&self, frontend: &str) -> Option<(FrontendId, Arc<ConnectionLimit>)> {
        self.controller.limit_of(frontend)
    }

    fn open_by_frontend(&self) -> Vec<(String, usize)> {
        self.controller.open_by_frontend()
    }

    fn times_by_frontend(&self) -> Vec<(String, Arc<FrontendTimes>)> {
        self.controller.times_by_frontend()
    }

    fn listeners(&self) -> Vec<Arc<Listener>> {
        match &self.prepared {
            Some(prepared) => prepared.listeners(),
            None => self.controller.open_sockets().into_iter().map(|it| it.listener).collect(),
        }
    }
}

/// A server whose threads run, and that listens nowhere yet. Dropping it ends it.
#[derive(Debug)]
pub struct Ready(Option<Server>);

impl Ready {
    fn server(&self) -> &Server {
        self.0.as_ref().expect("it is there until it is served or dropped")
    }

    /// Steers and observes the server.
    pub fn handle(&self) -> Handle {
        self.server().handle()
    }

    /// Listens: this cannot fail.
    pub fn serve(mut self) -> Server {
        self.handle().control.lock().open();
        self.0.take().expect("it is there until it is served or dropped")
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        if let Some(server) = self.0.take() {
            server.handle().stop();
            // It has served nobody, so there is nothing to tell.
            let _: Result<(), ServerError> = server.join();
        }
    }
}

impl Server {
    /// Makes a server ready to listen, with the services that are here, on sockets that this process was given where
    /// their address or their name fits.
    ///
    /// # Errors
    /// Why it does not start; then nothing of it runs.
    pub fn prepare(config: &Config, inherited: &Inherited) -> Result<Ready, StartError> {
        Self::prepare_after(config, Heritage::of(inherited))
    }

    /// The same for one that takes the place of another, from which this comes.
    ///
    /// # Errors
    /// Why it does not start; then nothing of it runs.
    pub fn prepare_after(config: &Config, heritage: Heritage) -> Result<Ready, StartError> {
        let services = |frontend: &Frontend| Arc::new(Builtin::of(&frontend.protocol));
        let with = (AccessLogs::default(), heritage);
        Ok(Ready(Some(start::prepare(config, Box::new(services), with)?)))
    }

    /// The same for another service.
    ///
    /// # Errors
    /// Why it does not start; then nothing of it runs.
    pub(crate) fn prepare_with<S: Service>(
        config: &Config,
        service: S,
        inherited: &Inherited,
    ) -> Result<Ready, StartError> {
        let service = Arc::new(service);
        let with = (AccessLogs::default(), Heritage::of(inherited));
        Ok(Ready(Some(start::prepare(config, Box::new(move |_| Arc::clone(&service)), with)?)))
    }
}

impl Handle {
    /// The sockets that are listened on, in the order of the configuration and, for each address, of the threads.
    pub fn sockets(&self) -> Vec<OpenSocket> {
        self.control.lock().sockets()
    }

    /// Accepts nobody any more, and refuses nobody: whoever connects waits in the accept queues. Whoever has been
    /// accepted is with a worker when this returns. What listens stays open as long as the caller has it.
    ///
    /// # Errors
    /// Not all of it has come to that within `limit`; it may be waited for again, or be [undone](Self::accept_again).
    pub fn stop_accepting(&self, limit: Duration) -> Result<(), StillAccepting> {
        let deadline = Instant::now() + limit;
        let stops = self.control.lock().stop_accepting();
        loop {
            let sockets = Arc::strong_count(&stops) - 1;
            if sockets == 0 {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(StillAccepting { sockets });
            }
            thread::sleep(STEP);
        }
    }

    /// Accepts again on those of these sockets that are still open.
    /// In a server that drains meanwhile they are drained.
    pub fn accept_again(&self, is_wanted: impl Fn(&Arc<Listener>) -> bool) {
        self.control.lock().accept_again(&is_wanted);
    }

    /// Connections begin to be on their way between this process and another, or no longer are. Until then threads go on
    /// although the server drains, and nothing else changes it.
    pub fn hold(&self, held: bool) {
        self.shared.lifecycle.hold(held);
    }

    /// The process that handed sockets over has given them up: they are this one's, and get the options of their
    /// frontends.
    pub fn keep_sockets(&self) {
        self.control.lock().keep_sockets();
    }

    /// Frontends with what serves them, in the order of the configuration.
    pub fn offers(&self) -> Vec<Offer> {
        self.control.lock().offers()
    }

    /// How many connections there are, by what limits them.
    pub fn open_counts(&self) -> OpenCounts {
        let of_upstream = |upstream: Arc<crate::upstream::Upstream>| {
            let name = upstream.name().to_owned();
            let endpoints = upstream.endpoints();
            let count = move |endpoint: &Arc<crate::upstream::Endpoint>| {
                (name.clone(), endpoint.address().to_string(), endpoint.open())
            };
            endpoints.iter().map(count).filter(|(.., open)| *open > 0).collect::<Vec<_>>()
        };
        let frontends = self.control.lock().open_by_frontend();
        OpenCounts {
            process: self.open(),
            frontends: frontends.into_iter().filter(|(_, open)| *open > 0).collect(),
            backends: self.upstreams().into_iter().flat_map(of_upstream).collect(),
        }
    }

    /// Takes connections of these frontends off their threads, at most so many of each thread. What cannot be moved
    /// now stays where it is. Each comes with the name of its frontend; it is to be [resumed](Self::resume), or
    /// dropped once somebody else has it.
    pub fn suspend(&self, of: &[String], most: usize, limit: Duration) -> Vec<(String, Suspended)> {
        let deadline = Instant::now() + limit;
        let (names, from) = {
            let control = self.control.lock();
            (control.names(), control.ask_to_suspend(of, most))
        };
        let mut all = Vec::new();
        for (worker, connections) in from.into_iter().enumerate() {
            let left = || deadline.saturating_duration_since(Instant::now());
            while let Ok(suspended) = connections.recv_timeout(left()) {
                let name = names.get(&suspended.frontend).cloned().unwrap_or_default();
                all.push((name, suspended));
            }
            if Instant::now() >= deadline {
                self.resume_later(worker, connections);
            }
        }
        all
    }

    /// A thread takes too long: what it still sends goes back to it.
    fn resume_later(&self, worker: usize, late: mpsc::Receiver<Suspended>) {
        let handle = self.clone();
        let resume = move || {
            while let Ok(suspended) = late.recv() {
                let told = handle.control.lock().tell_to_resume(worker, vec![suspended]);
                if told.is_none_or(|back| back.recv_timeout(LATE).is_ok()) {
                    tracing::error!("upgrade: a connection could not go on and is closed");
                }
            }
        };
        if let Err(error) = thread::Builder::new().name("upgrade-late".to_owned()).spawn(resume) {
            tracing::error!("{}", NoThread::new(&error));
        }
    }

    /// Waits as long as connections are on their way between this process and another, within a limit: whoever changes
    /// the server comes after that.
    pub(super) fn wait_while_held(&self) {
        let deadline = Instant::now() + HOLD_LIMIT;
        while self.shared.lifecycle.is_held() && Instant::now() < deadline {
            thread::sleep(STEP);
        }
    }

    /// Whether a connection of this frontend, suspended elsewhere, could go on here.
    pub fn makes_sense(&self, frontend: &str, record: &Record) -> bool {
        self.control.lock().makes_sense(frontend, record)
    }

    /// A place for a connection that comes from elsewhere, whether there is room for it or not, and the number of its
    /// frontend.
    pub fn place_for(&self, frontend: &str) -> Option<(FrontendId, Place)> {
        let (id, limit) = self.control.lock().limit_of(frontend)?;
        limit.take(1);
        self.shared.connection_limit.take(1);
        let mut place = Place::counted(&limit);
        place.and_counted(&self.shared.connection_limit);
        Some((id, place))
    }

    /// Goes on with connections that are on no thread, spread over the workers. Returns how many make no sense here,
    /// or went to a thread that takes nothing: these are closed.
    pub fn resume(&self, connections: Vec<Suspended>, limit: Duration) -> usize {
        let workers = self.inboxes.len().max(1);
        let mut open: Vec<usize> = self.inboxes.iter().map(|inbox| inbox.load().open()).collect();
        let mut shares: Vec<Vec<Suspended>> = (0..workers).map(|_| Vec::new()).collect();
        for suspended in connections {
            let least = (0..workers).min_by_key(|worker| open[*worker]).unwrap_or(0);
            open[least] += 1;
            shares[least].push(suspended);
        }
        let deadline = Instant::now() + limit;
        let mut lost = 0;
        let mut answers = Vec::new();
        for (worker, share) in shares.into_iter().enumerate().filter(|(_, it)| !it.is_empty()) {
            let count = share.len();
            match self.control.lock().tell_to_resume(worker, share) {
                Some(back) => answers.push(back),
                None => lost += count,
            }
        }
        for back in answers {
            let left = || deadline.saturating_duration_since(Instant::now());
            while back.recv_timeout(left()).is_ok() {
                lost += 1;
            }
        }
        lost
    }

    /// Counts connections that another process still has as if they were here: limits hold for both together.
    pub fn reserve(&self, reserved: &mut Reserved, counts: &OpenCounts) {
        reserved.process.set(counts.process, &self.shared.connection_limit);
        self.before.set_open(counts.process);
        let control = self.control.lock();
        for (name, count) in reserved.missing_in(counts) {
            if let Some((_, limit)) = control.limit_of(&name) {
                reserved.frontends.entry(name).or_default().set(count, &limit);
            }
        }
        drop(control);
        let upstreams = self.upstreams();
        let mut before = std::mem::take(&mut reserved.leases);
        for (upstream, address, count) in &counts.backends {
            let key = (upstream.clone(), address.clone());
            let mut leases = before.remove(&key).unwrap_or_default();
            let found = upstreams.iter().find(|it| it.name() == upstream);
            if let Some(found) = found {
                let more = count.saturating_sub(leases.len());
                leases.extend((0..more).filter_map(|_| found.lease_open(address)));
            }
            leases.truncate(*count);
            reserved.leases.insert(key, leases);
        }
        // Acceptors may wait for places that are free now, and nobody else tells them.
        self.shared.lifecycle.wake_all();
    }
}

/// Connections that another process still has, counted here. All are given back when this is dropped. And what it has
/// counted, as far as that is known here.
#[derive(Debug, Default)]
pub struct Reserved {
    process: Counted,
    frontends: HashMap<String, Counted>,
    leases: HashMap<(String, String), Vec<Lease>>,
    pub(super) heard: Figures,
}

impl Reserved {
    /// The counts of all frontends that are known of, those included that have none any more.
    fn missing_in(&self, counts: &OpenCounts) -> Vec<(String, usize)> {
        let gone = self.frontends.keys().filter(|known| {
            let is_it = |(name, _): &(String, usize)| name == *known;
            !counts.frontends.iter().any(is_it)
        });
        let gone = gone.map(|name| (name.clone(), 0));
        counts.frontends.iter().cloned().chain(gone).collect()
    }
}

/// Places under a limit.
#[derive(Debug, Default)]
struct Counted {
    count: usize,
    limit: Option<Arc<ConnectionLimit>>,
}

impl Counted {
    fn set(&mut self, count: usize, limit: &Arc<ConnectionLimit>) {
        // A frontend that was removed and is there again has another one.
        if let Some(other) = self.limit.as_ref().filter(|own| !Arc::ptr_eq(own, limit)) {
            other.release(std::mem::take(&mut self.count));
        }
        match count.checked_sub(self.count) {
            Some(more) => limit.take(more),
            None => limit.release(self.count - count),
        }
        self.count = count;
        self.limit = Some(Arc::clone(limit));
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(limit) = &self.limit {
            limit.release(self.count);
        }
    }
}
