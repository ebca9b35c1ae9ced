//! A running server: its threads, its phases, its numbers.
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::TcpStream;
//! use uring_acceptor::config::ListenAddress;
//! use uring_acceptor::server::Server;
//! use uring_acceptor::service::Echo;
//!
//! // On io_uring, or on epoll where that is refused.
//! let server = Server::builder(Echo).listen("127.0.0.1:0".parse()?).start()?;
//! let ListenAddress::Tcp(address) = server.addresses()[0] else { unreachable!() };
//!
//! let mut client = TcpStream::connect(address)?;
//! client.write_all(b"hello")?;
//! let mut answer = [0; 5];
//! client.read_exact(&mut answer)?;
//! assert_eq!(&answer, b"hello");
//!
//! drop(client);
//! server.handle().shutdown();
//! server.join()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod access_logs;
mod bans;
mod before;
mod binding;
mod builder;
pub(crate) mod command;
pub(crate) mod connections;
mod control;
mod controller;
mod detail;
mod directory;
mod error;
pub(crate) mod event_loop;
mod figures;
mod handover;
mod heartbeat;
mod heritage;
pub(crate) mod lifecycle;
mod listing;
mod messages;
mod orders;
mod plan;
mod queue_watch;
mod service_figures;
pub(crate) mod sockets;
mod start;
mod statistics;
mod steps;
#[cfg(test)]
mod tests;
mod verdict;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, mpsc};
use std::thread::{Builder as ThreadBuilder, JoinHandle};
use std::time::{Duration, Instant};

pub use crate::access_log::OpenError;
pub use crate::connection::{ConnectionId, NoConnectionId, ProcessMark};
pub use crate::listener::Inherited;
pub use bans::{BAN_MAX, BanList, BanPlace, BanRecord, BanStatus};
pub use builder::Builder;
pub use control::Reloaded;
pub use controller::{Adjusted, Adjustment, BackendList};
pub use directory::{FrontendState, FrontendStatus};
pub use error::{ReloadError, ServerError, StartError};
pub use figures::Figures;
pub use handover::{Hold, Offer, OpenCounts, OpenSocket, Ready, Reserved, StillAccepting};
pub use heartbeat::Heartbeat;
pub use heritage::{ByHand, Heritage};
pub use lifecycle::Phase;
pub use plan::{Capacity, capacity, ring_sizes};
use queue_watch::QueueWatch;
pub use queue_watch::{ListenerStatus, NamespaceCounters};
use service_figures::ServiceFigures;
pub use statistics::{QueueStatus, Statistics};
pub use steps::{Fixed, Step, fixed, steps};
pub use verdict::{PauseCause, Verdict};

pub use crate::ring::engine::Chosen;

use crate::config::{Config, ListenAddress};
use crate::connection::Listed;
use crate::dispatch::{InboxSender, skew};
use crate::listener::Listener;
use crate::metrics::{Block, Counter, total};
use crate::process::Alarm;
use crate::service::Service;
use crate::upstream::Upstream;
use access_logs::AccessLogs;
use bans::BanKeeper;
use before::Before;
use control::Control;
use directory::Directory;
use event_loop::Shared;

/// A running server. Dropping it does not stop it: see [`Handle::shutdown`] and [`Server::join`].
#[derive(Debug)]
pub struct Server {
    threads: Vec<JoinHandle<()>>,
    /// One message from each thread that ends.
    ended: mpsc::Receiver<start::Ended>,
    /// The names of the threads that have not sent theirs.
    running: Vec<Option<String>>,
    failure: Option<ServerError>,
    handle: Handle,
}

/// Steers and observes a server, from any thread.
#[derive(Debug, Clone)]
pub struct Handle {
    engine: Chosen,
    shared: Shared,
    /// The counters of each thread, with its name.
    blocks: Vec<(String, Arc<Block>)>,
    inboxes: Vec<InboxSender>,
    directory: Directory,
    logs: AccessLogs,
    control: Steered,
    queues: Arc<QueueWatch>,
    before: Arc<Before>,
    service: ServiceFigures,
    bans: Arc<BanKeeper>,
}

/// Between two tries to look at what is being changed.
const LOCK_STEP: Duration = Duration::from_millis(1);

/// What steers the server, whatever its service is. Clones are the same.
#[derive(Clone)]
struct Steered(Arc<Mutex<dyn Control>>);

impl Steered {
    fn new(control: impl Control + 'static) -> Self {
        Self(Arc::new(Mutex::new(control)))
    }

    /// The same for somebody who does not wait for long: a reload may look up names.
    fn lock_within(&self, limit: Duration) -> Option<MutexGuard<'_, dyn Control + 'static>> {
        let deadline = Instant::now() + limit;
        loop {
            match self.0.try_lock() {
                Ok(control) => return Some(control),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return None,
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_STEP),
            }
        }
    }

    /// One at a time: whoever comes second waits.
    fn lock(&self) -> MutexGuard<'_, dyn Control + 'static> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Steered {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Steered").finish_non_exhaustive()
    }
}

impl Server {
    /// Begins a server for `service` with the default configuration.
    pub fn builder<S: Service>(service: S) -> Builder<S> {
        Builder::new(service)
    }

    /// Starts a server from a whole configuration, with the services that are here.
    ///
    /// # Errors
    /// Why it does not start; then nothing of it runs.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        Ok(Self::prepare(config, &Inherited::default())?.serve())
    }

    /// Starts a server from a whole configuration; every frontend that does not proxy has this service.
    ///
    /// # Errors
    /// Why it does not start; then nothing of it runs.
    pub fn start_with<S: Service>(config: &Config, service: S) -> Result<Self, StartError> {
        Ok(Self::prepare_with(config, service, &Inherited::default())?.serve())
    }

    /// Where it listens, in the order of the configuration, with the ports that the kernel chose.
    pub fn addresses(&self) -> Vec<ListenAddress> {
        self.handle.addresses()
    }

    /// Steers and observes the server.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Threads that have not ended, as far as [`wait`](Self::wait) has seen.
    pub fn running_threads(&self) -> Vec<RunningThread<'_>> {
        // The first threads are the workers, each with its inbox.
        let open = |place| {
            self.handle.inboxes.get(place).map_or(0, |inbox: &InboxSender| inbox.load().open())
        };
        let names = self.running.iter().enumerate();
        names
            .filter_map(|(place, name)| Some((name.as_deref()?, open(place))))
            .map(|(name, open)| RunningThread { name, open })
            .collect()
    }

    fn is_running(&self) -> bool {
        self.running.iter().any(Option::is_some)
    }

    /// The engine that it runs on.
    pub fn engine(&self) -> Chosen {
        self.handle.engine
    }

    /// Waits until the server has ended, or this long. `None` if it has not ended.
    ///
    /// # Errors
    /// Why it stopped on its own.
    pub fn wait(&mut self, timeout: Duration) -> Option<Result<(), ServerError>> {
        let deadline = Instant::now() + timeout;
        while self.is_running() {
            match self.ended.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(ended) => self.note(ended),
                Err(mpsc::RecvTimeoutError::Timeout) => return None,
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        Some(self.finish())
    }

    /// Waits until the server has ended.
    ///
    /// # Errors
    /// Why it stopped on its own.
    pub fn join(mut self) -> Result<(), ServerError> {
        while self.is_running()
            && let Ok(ended) = self.ended.recv()
        {
            self.note(ended);
        }
        self.finish()
    }

    /// A thread has ended.
    fn note(&mut self, ended: start::Ended) {
        self.running[ended.thread] = None;
        self.failure = self.failure.take().or(ended.result.err());
    }

    fn finish(&mut self) -> Result<(), ServerError> {
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
        // Whoever changes the server at this very moment will find that it has ended.
        if let Ok(mut control) = self.handle.control.0.try_lock() {
            control.end();
        }
        let panicked = self.handle.shared.lifecycle.panicked().map(str::to_owned);
        let failure = panicked.map(|thread| ServerError::Panicked { thread });
        let are_lost = self.handle.shared.lifecycle.sockets().are_lost();
        let no_listener = are_lost.then(|| ServerError::NoListener { addresses: self.addresses() });
        failure.or_else(|| self.failure.take()).or(no_listener).map_or(Ok(()), Err)
    }
}

/// A connection as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// What it is [closed](Handle::close) by.
    pub id: ConnectionId,
    /// The name of what it came in through.
    pub frontend: String,
    /// Everything else.
    pub listed: Listed,
}

/// A thread of a server that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunningThread<'a> {
    /// Its name.
    pub name: &'a str,
    /// Connections that it has: those on their way to it included.
    pub open: usize,
}

impl Handle {
    /// Drains: accepts nothing new, serves what is already in the kernel's queue, lets sessions
    /// finish until the drain timeout.
    pub fn shutdown(&self) {
        self.shared.lifecycle.enter(Phase::Draining, Instant::now());
    }

    /// Ends everything at once.
    pub fn stop(&self) {
        self.shared.lifecycle.enter(Phase::Stopping, Instant::now());
    }

    /// Stops the server when a thread that this alarm watches over has panicked;
    /// [`ServerError::Panicked`] names it then.
    pub fn watch(&self, alarm: &Alarm) {
        let lifecycle = Arc::clone(&self.shared.lifecycle);
        alarm.connect(move |thread| lifecycle.fail(thread, Instant::now()));
    }

    /// Starts a thread of the program that the server must not go on without, such as the one that waits
    /// for signals: if it panics the server stops, as by [`watch`](Self::watch).
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn spawn(
        &self,
        name: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let alarm = Alarm::default();
        self.watch(&alarm);
        ThreadBuilder::new().name(name.to_owned()).spawn(alarm.watch(name, run))
    }

    /// How long sessions have to end by themselves once the server drains.
    pub fn drain_timeout(&self) -> Duration {
        self.shared.lifecycle.drain_timeout()
    }

    /// When the drain began; `None` if none did.
    pub fn draining_since(&self) -> Option<Instant> {
        self.shared.lifecycle.drain_until()?.checked_sub(self.shared.lifecycle.drain_timeout())
    }

    /// When the drain is over at the latest; `None` if none has begun.
    pub fn draining_until(&self) -> Option<Instant> {
        self.shared.lifecycle.drain_until()
    }

    /// Since when every thread has to end: the end of the drain timeout, which may be still to come, or
    /// [`stop`](Self::stop) before it. A thread that does not end long after it is stuck.
    pub fn over_since(&self) -> Option<Instant> {
        self.shared.lifecycle.over_since()
    }

    /// Where the server listens, or listened: [`Server::addresses`].
    pub fn addresses(&self) -> Vec<ListenAddress> {
        self.directory.addresses()
    }

    /// The configuration that runs: as it was given, but for what takes a new process.
    pub fn config(&self) -> Config {
        self.control.lock().config().clone()
    }

    /// Changes the running server to another configuration. Everything is checked, resolved and bound before
    /// anything changes. No connection is touched: each lives on with the settings under which it came.
    ///
    /// # Errors
    /// Why nothing has changed.
    pub fn reload(&self, config: Config) -> Result<Reloaded, ReloadError> {
        self.wait_while_held();
        self.control.lock().reload(config)
    }

    /// What [`reload`](Self::reload) would do.
    ///
    /// # Errors
    /// Why it would do nothing, as far as that can be known without binding an address.
    pub fn preview(&self, config: &Config) -> Result<Reloaded, ReloadError> {
        self.control.lock().preview(config)
    }

    /// Lets a frontend accept nobody new, and tells its sessions to end; the others go on.
    ///
    /// # Errors
    /// There is no such frontend, or the whole server drains.
    pub fn drain_frontend(&self, name: &str) -> Result<(), ReloadError> {
        self.wait_while_held();
        self.control.lock().drain(name)
    }

    /// The upstream of this name.
    pub fn upstream(&self, name: &str) -> Option<Arc<Upstream>> {
        self.control.lock().upstream(name)
    }

    /// What connections come in through.
    pub fn frontends(&self) -> Vec<FrontendStatus> {
        self.directory.frontends()
    }

    /// What connections came in through that is removed, while some of them are open.
    pub fn removed_frontends(&self) -> Vec<FrontendStatus> {
        self.directory.removed()
    }

    /// Tells what is wrong with an access log, or that all is well again. To be called every second or so.
    pub fn look_after_logs(&self) {
        self.logs.look();
    }

    /// Opens the files of access logs again, for logs that have been rotated: what is written from now on goes
    /// to the files that have their names now. Returns how many were opened, and what is wrong with those that
    /// were not; they go on where they were.
    pub fn reopen_logs(&self) -> (usize, Vec<OpenError>) {
        self.logs.reopen()
    }

    /// Gives the entries of access logs this long to be written, and tells of those that are lost. To be
    /// called once when the server has ended.
    pub fn finish_logs(&self, limit: Duration) {
        self.logs.finish(limit);
    }

    /// Where the server is in its life.
    pub fn phase(&self) -> Phase {
        self.shared.lifecycle.phase()
    }

    /// The engine that the server runs on.
    pub fn engine(&self) -> Chosen {
        self.engine
    }

    /// Where proxied connections may go, with the state and the counters of every backend, in the order of
    /// the configuration.
    pub fn upstreams(&self) -> Vec<Arc<Upstream>> {
        self.directory.upstreams()
    }

    /// The value of a counter over all threads.
    pub fn counter(&self, counter: Counter) -> u64 {
        let logs = self.logs.blocks();
        let blocks = self.blocks.iter().map(|(_, block)| block).chain(&logs);
        total(blocks.map(AsRef::as_ref), counter).wrapping_add(self.before.counter(counter))
    }

    /// What there is to tell now.
    pub fn statistics(&self) -> Statistics {
        let listeners = self.directory.listeners().into_iter();
        let queue = |listener: Arc<Listener>| {
            let address = listener.address().clone();
            listener.queue().ok().map(|queue| QueueStatus { address, queue })
        };
        Statistics {
            engine: self.engine,
            accepted: self.counter(Counter::Accepted),
            open: self.shared.connection_limit.open(),
            received_bytes: self.counter(Counter::ReceivedBytes),
            sent_bytes: self.counter(Counter::SentBytes),
            skew: skew(self.inboxes.iter().map(InboxSender::load)),
            queues: listeners.filter_map(queue).collect(),
        }
    }
}
