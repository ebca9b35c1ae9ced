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

mod error;
pub(crate) mod event_loop;
pub(crate) mod lifecycle;
mod plan;
mod proxying;
pub(crate) mod sockets;
mod start;
mod statistics;
mod telling;
#[cfg(test)]
mod tests;
mod work;

use std::io;
use std::sync::{Arc, Weak, mpsc};
use std::thread::{Builder as ThreadBuilder, JoinHandle};
use std::time::{Duration, Instant};

pub use error::{ServerError, StartError};
pub use lifecycle::Phase;
pub use plan::{Capacity, capacity, ring_sizes};
pub use statistics::{QueueStatus, Statistics};

pub use crate::ring::engine::Chosen;

use crate::config::{Config, Frontend, Listen, ListenAddress, Process};
use crate::dispatch::{InboxSender, skew};
use crate::listener::Listener;
use crate::metrics::{Block, Counter, total};
use crate::process::Alarm;
use crate::proxy::LogSink;
use crate::service::Service;
use crate::upstream::Upstream;
use event_loop::Shared;
use proxying::Proxying;
use work::Serving;

/// Collects what a server is told before it starts.
#[derive(Debug)]
pub struct Builder<S> {
    service: S,
    process: Process,
    frontend: Frontend,
    /// Whether `frontend.listen` still holds the default address.
    default_listen: bool,
}

impl<S: Service> Builder<S> {
    /// Listens on this address too. Without any, the default of [`Listen`] is taken.
    #[must_use]
    pub fn listen(mut self, address: Listen) -> Self {
        if std::mem::take(&mut self.default_listen) {
            self.frontend.listen.clear();
        }
        self.frontend.listen.push(address);
        self
    }

    /// Changes what belongs to the process.
    #[must_use]
    pub fn process(mut self, change: impl FnOnce(&mut Process)) -> Self {
        change(&mut self.process);
        self
    }

    /// Changes anything else.
    #[must_use]
    pub fn frontend(mut self, change: impl FnOnce(&mut Frontend)) -> Self {
        change(&mut self.frontend);
        self
    }

    /// Binds all addresses and starts all threads. When this returns, the server accepts. May block
    /// for a second when an address is in use.
    ///
    /// # Errors
    /// Why it does not start; then nothing of it runs.
    pub fn start(self) -> Result<Server, StartError> {
        let mut config = Config::of(self.frontend, Vec::new());
        config.process = self.process;
        Server::start(&config, self.service)
    }
}

/// A running server. Dropping it does not stop it: see [`Handle::shutdown`] and [`Server::join`].
#[derive(Debug)]
pub struct Server {
    addresses: Vec<ListenAddress>,
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
    blocks: Vec<Arc<Block>>,
    addresses: Arc<[ListenAddress]>,
    inboxes: Vec<InboxSender>,
    listeners: Vec<Weak<Listener>>,
    upstreams: Vec<Arc<Upstream>>,
}

impl Server {
    /// Begins a server for `service` with the default configuration.
    pub fn builder<S: Service>(service: S) -> Builder<S> {
        Builder {
            service,
            process: Process::default(),
            frontend: Frontend::default(),
            default_listen: true,
        }
    }

    /// Starts a server from a whole configuration.
    ///
    /// # Errors
    /// Why it does not start; then nothing of it runs.
    pub fn start<S: Service>(config: &Config, service: S) -> Result<Self, StartError> {
        start::start(config, Arc::new(Serving(Arc::new(service))))
    }

    /// Starts a proxy. `log` gets an entry for
    /// each connection that has ended.
    ///
    /// # Errors
    /// Why it does not start; then nothing of it runs.
    pub fn start_proxy(config: &Config, log: Option<LogSink>) -> Result<Self, StartError> {
        start::start(config, Arc::new(Proxying::new(config, log)?))
    }

    /// Where it listens, in the order of the configuration, with the ports that the kernel chose.
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
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
        let panicked = self.handle.shared.lifecycle.panicked().map(str::to_owned);
        let failure = panicked.map(|thread| ServerError::Panicked { thread });
        let no_listener = || {
            let addresses = self.addresses.clone();
            self.handle
                .shared
                .lifecycle
                .sockets()
                .are_lost()
                .then_some(ServerError::NoListener { addresses })
        };
        failure.or_else(|| self.failure.take()).or_else(no_listener).map_or(Ok(()), Err)
    }
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
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// Where the server is in its life.
    pub fn phase(&self) -> Phase {
        self.shared.lifecycle.phase()
    }

    /// The engine that the server runs on.
    pub fn engine(&self) -> Chosen {
        self.engine
    }

    /// Where a proxy passes connections on to, with the state and the counters of every backend: the
    /// default first, then one for each route. Empty for a service.
    pub fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    /// The value of a counter over all threads.
    pub fn counter(&self, counter: Counter) -> u64 {
        total(self.blocks.iter().map(AsRef::as_ref), counter)
    }

    /// What there is to tell now.
    pub fn statistics(&self) -> Statistics {
        let listeners = self.listeners.iter().filter_map(Weak::upgrade);
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
