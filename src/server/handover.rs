//! What a server does so that another process takes its place, and when it takes another's: its listening sockets, its
//! connections, and what they are counted in. What is said between the processes, others know.

mod sharing;

use std::fmt;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::control::Steering;
use super::error::{ServerError, StartError};
use super::lifecycle::Lifecycle;
use super::service_figures::ServiceFigures;
use super::{AccessLogs, Handle, Heritage, Server, start};
use crate::config::{Config, Frontend};
use crate::connection::suspended::{Record, Suspended};
use crate::dispatch::{ConnectionLimit, FrontendId};
use crate::listener::{Inherited, Listener, Origin};
use crate::metrics::FrontendTimes;
use crate::process::NoThread;
use crate::service::{Builtin, Service};
use crate::upstream::Upstream;
pub use sharing::{OpenCounts, Reserved};

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

/// Some sockets are still accepted on, or have connections that no worker has room for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StillAccepting {
    /// So many.
    pub sockets: usize,
    /// Threads that take nothing that they are told.
    pub threads: Vec<String>,
}

impl fmt::Display for StillAccepting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.threads.is_empty() {
            let names = self.threads.join(", ");
            return write!(formatter, "a thread is stuck, and may still accept: {names}");
        }
        write!(
            formatter,
            "connections that were accepted on {} sockets still wait for a place under max-connections, or a \
             thread is stuck",
            self.sockets
        )
    }
}

impl std::error::Error for StillAccepting {}

/// See [`Handle::hold`].
#[derive(Debug)]
#[must_use = "dropping it ends it"]
pub struct Hold(Arc<Lifecycle>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.hold(false);
    }
}

/// What [`Control`](super::control::Control) knows of it, whatever the service is.
pub(super) trait HandOver {
    /// The sockets that are listened on.
    fn sockets(&self) -> Vec<OpenSocket>;

    /// Tells the threads to accept nobody any more, and to refuse nobody.
    /// What is returned is held by others until they do, and the last connection has been placed.
    ///
    /// # Errors
    /// These threads take nothing, and may accept.
    fn stop_accepting(&mut self) -> Result<Arc<()>, Vec<String>>;

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
    ///
    /// # Errors
    /// It takes nothing, and all come back.
    fn tell_to_resume(
        &self,
        worker: usize,
        connections: Vec<Suspended>,
    ) -> Result<mpsc::Receiver<Suspended>, Vec<Suspended>>;

    /// The number of a frontend, and where its connections are counted.
    fn limit_of(&self, frontend: &str) -> Option<(FrontendId, Arc<ConnectionLimit>)>;

    /// Connections of each frontend, those included that are removed.
    fn open_by_frontend(&self) -> Vec<(String, usize)>;

    /// Upstreams that a reload has removed and that have connections.
    fn retired_upstreams(&self) -> Vec<Arc<Upstream>>;

    /// How long the connections of each frontend have taken.
    fn times_by_frontend(&self) -> Vec<(String, Arc<FrontendTimes>)>;

    /// The sockets that are listened on, or will be.
    fn listeners(&self) -> Vec<Arc<Listener>>;
}

impl<S: Service> HandOver for Steering<S> {
    fn sockets(&self) -> Vec<OpenSocket> {
        self.controller.open_sockets()
    }

    fn stop_accepting(&mut self) -> Result<Arc<()>, Vec<String>> {
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
    ) -> Result<mpsc::Receiver<Suspended>, Vec<Suspended>> {
        self.controller.tell_to_resume(worker, connections)
    }

    fn limit_of(&self, frontend: &str) -> Option<(FrontendId, Arc<ConnectionLimit>)> {
        self.controller.limit_of(frontend)
    }

    fn open_by_frontend(&self) -> Vec<(String, usize)> {
        self.controller.open_by_frontend()
    }

    fn retired_upstreams(&self) -> Vec<Arc<Upstream>> {
        self.controller.retired_upstreams()
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
        let asked = ServiceFigures::of(&service);
        let mut server = start::prepare(config, Box::new(move |_| Arc::clone(&service)), with)?;
        server.handle.service = asked;
        Ok(Ready(Some(server)))
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
        let stops = stops.map_err(|threads| StillAccepting { sockets: 0, threads })?;
        loop {
            let sockets = Arc::strong_count(&stops) - 1;
            if sockets == 0 {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(StillAccepting { sockets, threads: Vec::new() });
            }
            thread::sleep(STEP);
        }
    }

    /// Accepts again on those of these sockets that are still open.
    /// In a server that drains meanwhile they are drained.
    pub fn accept_again(&self, is_wanted: impl Fn(&Arc<Listener>) -> bool) {
        self.control.lock().accept_again(&is_wanted);
    }

    /// Connections begin to be on their way between this process and another. Until the last of what is returned is dropped
    /// threads go on although the server drains, but not when it stops, and nothing else changes it.
    pub fn hold(&self) -> Hold {
        self.shared.lifecycle.hold(true);
        Hold(Arc::clone(&self.shared.lifecycle))
    }

    /// Another process begins to take the place of this one, or has not done so. What is set by hand meanwhile would be
    /// known to nobody.
    pub fn set_being_replaced(&self, is_so: bool) {
        self.shared.lifecycle.set_being_replaced(is_so);
    }

    /// Whether connections are on their way between this process and another.
    pub fn is_held(&self) -> bool {
        self.shared.lifecycle.is_held()
    }

    /// Whether another process is about to take the place of this one.
    pub fn is_being_replaced(&self) -> bool {
        self.shared.lifecycle.is_being_replaced()
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
        // The thread is not to end before it has them back.
        let hold = self.hold();
        let resume = move || {
            while let Ok(suspended) = late.recv() {
                let told = handle.tell_to_resume(worker, vec![suspended]);
                if !told.is_ok_and(|back| back.recv_timeout(LATE).is_err()) {
                    tracing::error!("upgrade: a connection could not go on and is closed");
                }
            }
            drop(hold);
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

    /// Goes on with connections that are on no thread, spread over the workers. Returns how many make no sense here,
    /// or found no thread that takes something: these are closed.
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
            match self.tell_to_resume(worker, share) {
                Ok(back) => answers.push(back),
                Err(share) => lost += share.len(),
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

    /// Has this worker go on with these, or another one: threads of a server that drains end one by one.
    fn tell_to_resume(
        &self,
        worker: usize,
        mut connections: Vec<Suspended>,
    ) -> Result<mpsc::Receiver<Suspended>, Vec<Suspended>> {
        let workers = self.inboxes.len().max(1);
        for next in 0..workers {
            let worker = (worker + next) % workers;
            match self.control.lock().tell_to_resume(worker, connections) {
                Ok(back) => return Ok(back),
                Err(all) => connections = all,
            }
        }
        Err(connections)
    }
}
