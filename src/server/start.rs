//! From a configuration to running threads.
//!
//! ```text
//!   main thread                          each thread
//!   -----------                          -----------
//!   plan, bind, spawn -- ThreadSpec -->  pin, make a ring
//!                     <-- RingReport --  how to wake it, or why it cannot
//!   connect all inboxes ---- Peers --->  build its state machines, run
//! ```
//!
//! A thread that is not introduced ends, so a start that fails half-way leaves nothing behind. If one of
//! them has no ring, all are spawned again with smaller ones, or on epoll (`ring/engine.rs`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::error::{ServerError, StartError};
use super::event_loop::{EventLoop, Parts, Shared};
use super::lifecycle::{Lifecycle, Phase, Threads};
use super::plan::{self, Machine, Plan, Role};
use super::sockets::Sockets;
use super::work::{Place, Work};
use super::{Handle, Server};
use crate::config::{Config, ConfigError, Listen, ListenAddress};
use crate::dispatch::{
    ConnectionLimit, Dispatcher, Inbox, InboxSender, ListenerId, Parker, WorkerId, inbox,
};
use crate::listener::{Listener, Sharing, Wanted};
use crate::metrics::Block;
use crate::process::NoThread;
use crate::ring::engine::{self, Chosen, Making};
use crate::ring::epoll::Epoll;
use crate::ring::{Refusal, Ring, Sizes};
use crate::sys;

/// Connections that may wait in one inbox. More wait in the kernel's queue.
const INBOX_CAPACITY: usize = 1024;

/// The listeners of one accepting thread, with their places in the configuration.
type Listeners = Vec<(ListenerId, Arc<Listener>)>;

/// What a thread starts with.
#[derive(Clone)]
struct ThreadSpec {
    role: Role,
    /// Its place among the threads.
    place: usize,
    listeners: Listeners,
    block: Arc<Block>,
    /// What all threads are told.
    orders: Orders,
    shared: Shared,
}

/// What all threads are told before they start.
#[derive(Clone)]
struct Orders {
    config: Config,
    max_connections: usize,
    /// Descriptors that each worker has for itself.
    per_worker: usize,
}

/// What a thread reports once it has a ring: how to wake it.
type RingReport = Result<Parker, StartError>;

/// What a thread says when it ends.
pub(super) struct Ended {
    /// Its place among the threads: workers come first.
    pub(super) thread: usize,
    pub(super) result: Result<(), ServerError>,
}

/// What a thread needs of the others.
struct Peers {
    /// Inboxes of the workers.
    senders: Vec<InboxSender>,
    inbox: Inbox,
    /// Index of the worker on this thread.
    home: Option<WorkerId>,
}

/// A thread that has been spawned and waits to be introduced to its peers.
struct ThreadHandle {
    thread: JoinHandle<()>,
    introduce: mpsc::Sender<Peers>,
    parker: Arc<Parker>,
    role: Role,
}

pub(super) fn start<W: Work>(config: &Config, work: Arc<W>) -> Result<Server, StartError> {
    config.validate()?;
    let plan = Plan::new(config, &Machine::prepare()?, work.descriptors())?;
    plan.warning.iter().chain(&plan.crowded).for_each(|warning| tracing::warn!("{warning}"));
    // Before anything is bound: what the machine refuses is told first.
    let choice = engine::choose(config.process.engine)?;
    let (addresses, listeners) = bind(config, plan.acceptors())?;
    let weak = listeners.iter().flatten().map(|(_, listener)| Arc::downgrade(listener)).collect();
    let accepting = listeners.iter().filter(|own| !own.is_empty()).count();
    let sockets = sockets(addresses.len(), &listeners);
    let orders = Orders {
        config: config.clone(),
        max_connections: plan.max_connections,
        per_worker: plan.per_worker,
    };
    let shared = Shared {
        lifecycle: Arc::new(Lifecycle::new(config.process.drain_timeout, accepting, sockets)),
        connection_limit: Arc::new(ConnectionLimit::new(plan.max_connections)),
        queues: listeners.iter().map(Vec::len).sum(),
    };
    let (upstreams, alarms) = (work.upstreams(), work.alarms());
    let (end, ended) = mpsc::channel();
    let specs = specs(&plan.roles, listeners, (&orders, &shared));
    let wanted: Vec<Sizes> = specs.iter().map(sizes).collect();
    let settled = engine::settle(config.process.engine, choice, &wanted, |making| {
        spawn_all(&specs, making, &work, &end)
    })?;
    settled.notice.iter().for_each(|notice| tracing::warn!("{notice}"));
    let (spawned, engine) = (settled.made, settled.engine);
    let mut blocks = work.blocks();
    blocks.extend(specs.into_iter().map(|spec| spec.block));
    let running = spawned.iter().map(|thread| Some(thread.role.name.clone())).collect();
    let (threads, inboxes) = introduce(spawned, &shared.lifecycle);
    let (told, listeners) = (addresses.as_slice().into(), weak);
    let handle = Handle { engine, shared, blocks, addresses: told, inboxes, listeners, upstreams };
    alarms.iter().for_each(|alarm| handle.watch(alarm));
    Ok(Server { addresses, running, threads, ended, failure: None, handle })
}

/// How many sockets each of so many addresses has.
fn sockets(addresses: usize, listeners: &[Listeners]) -> Sockets {
    let mut each = vec![0; addresses];
    listeners.iter().flatten().for_each(|(listener, _)| each[usize::from(listener.0)] += 1);
    Sockets::new(each)
}

/// What each thread starts with. With unix sockets alone, the first of several accepting threads has
/// them all.
fn specs(
    roles: &[Role],
    listeners: Vec<Listeners>,
    (orders, shared): (&Orders, &Shared),
) -> Vec<ThreadSpec> {
    let mut listeners = listeners.into_iter();
    let spec = |(place, role): (usize, &Role)| ThreadSpec {
        role: role.clone(),
        place,
        listeners: role.accepts.then(|| listeners.next()).flatten().unwrap_or_default(),
        block: Arc::default(),
        orders: orders.clone(),
        shared: shared.clone(),
    };
    roles.iter().enumerate().map(spec).collect()
}

/// Spawns all threads with rings that are made in this way. None is left if one of them has no ring.
fn spawn_all<W: Work>(
    specs: &[ThreadSpec],
    making: Making,
    work: &Arc<W>,
    end: &mpsc::Sender<Ended>,
) -> Result<Result<Vec<ThreadHandle>, Refusal>, StartError> {
    let mut spawned = Vec::new();
    for spec in specs {
        match spawn(spec.clone(), making, Arc::clone(work), end.clone()) {
            Ok(thread) => spawned.push(thread),
            Err(error) => {
                dismiss(spawned);
                return if let StartError::Refused(refusal) = error {
                    Ok(Err(refusal))
                } else {
                    Err(error)
                };
            }
        }
    }
    Ok(Ok(spawned))
}

/// Ends threads that have a ring and no peers, and waits until their rings are closed.
fn dismiss(spawned: Vec<ThreadHandle>) {
    for ThreadHandle { thread, introduce, .. } in spawned {
        drop(introduce);
        // A thread that has panicked has said so.
        let _ = thread.join();
    }
}

/// Binds every address, once for each accepting thread where the kernel can share it out.
fn bind(
    config: &Config,
    acceptors: usize,
) -> Result<(Vec<ListenAddress>, Vec<Listeners>), StartError> {
    let sharing = if acceptors > 1 { Sharing::Found } else { Sharing::Exclusive };
    let mut addresses = Vec::new();
    let mut shares: Vec<Listeners> = vec![Vec::new(); acceptors];
    for wanted in look_up(&config.frontends[0].listen)? {
        let bound = wanted.bind(&config.frontends[0].socket, sharing)?;
        bound.notice.iter().for_each(|notice| tracing::info!("{notice}"));
        for first in bound.listeners {
            let listener = ListenerId(addresses.len() as u16);
            if let Some(warning) = first.backlog().warning() {
                tracing::warn!("{}: {warning}", first.address());
            }
            // The kernel has chosen a port by now.
            let address = first.address().clone();
            shares[0].push((listener, Arc::new(first)));
            let copies = if matches!(address, ListenAddress::Tcp(_)) { acceptors } else { 1 };
            for share in &mut shares[1..copies] {
                let copy = Listener::bind(&address, &config.frontends[0].socket, Sharing::Join)?;
                share.push((listener, Arc::new(copy)));
            }
            addresses.push(address);
        }
    }
    Ok((addresses, shares))
}

/// Resolves names. Nothing may be there twice, under whatever names: the second would find it in use.
fn look_up(listen: &[Listen]) -> Result<Vec<Wanted>, StartError> {
    let mut all: Vec<Wanted> = Vec::new();
    for listen in listen {
        let wanted = Wanted::look_up(listen)?;
        let known = |address: &&ListenAddress| {
            !listen.any_port() && all.iter().any(|other| other.addresses().contains(address))
        };
        if let Some(address) = wanted.addresses().iter().find(known) {
            return Err(ConfigError::new(format!(
                "listen address {listen}: {address} is given twice; give each address once"
            ))
            .into());
        }
        all.push(wanted);
    }
    Ok(all)
}

/// Spawns a thread and waits until it has a ring.
fn spawn<W: Work>(
    spec: ThreadSpec,
    making: Making,
    work: Arc<W>,
    end: mpsc::Sender<Ended>,
) -> Result<ThreadHandle, StartError> {
    let role = spec.role.clone();
    let (report, reported) = mpsc::channel();
    let (introduce, peers) = mpsc::channel();
    let thread = thread::Builder::new()
        .name(role.name.clone())
        .spawn(move || main(spec, making, work, (report, peers, end)))
        .map_err(|error| StartError::Thread(NoThread::new(&error)))?;
    let ready: RingReport = reported.recv().unwrap_or_else(|_| {
        // It can only have panicked, and says so on stderr.
        Err(StartError::System { step: "starting a thread", error: sys::Errno::EIO.into() })
    });
    Ok(ThreadHandle { thread, introduce, parker: Arc::new(ready?), role })
}

/// Connects all inboxes and lets all threads run. Returns the inboxes of the workers.
fn introduce(
    spawned: Vec<ThreadHandle>,
    lifecycle: &Lifecycle,
) -> (Vec<JoinHandle<()>>, Vec<InboxSender>) {
    let (senders, inboxes): (Vec<_>, Vec<_>) =
        spawned.iter().map(|each| inbox(INBOX_CAPACITY, Arc::clone(&each.parker))).unzip();
    let (all, accepting) = (parkers(&spawned, |_| true), parkers(&spawned, |role| role.accepts));
    lifecycle.set_threads(Threads { all, accepting });
    let roles = spawned.iter().map(|thread| &thread.role);
    let workers = senders.into_iter().zip(roles).filter(|(_, role)| role.works);
    let senders: Vec<InboxSender> = workers.map(|(sender, _)| sender).collect();
    let mut threads = Vec::new();
    for (index, (spawned, inbox)) in spawned.into_iter().zip(inboxes).enumerate() {
        let home = spawned.role.works.then_some(WorkerId(index));
        // A thread that is gone already has said why.
        let _ = spawned.introduce.send(Peers { senders: senders.clone(), inbox, home });
        threads.push(spawned.thread);
    }
    (threads, senders)
}

fn parkers(threads: &[ThreadHandle], wanted: fn(&Role) -> bool) -> Vec<Arc<Parker>> {
    let wanted = threads.iter().filter(|thread| wanted(&thread.role));
    wanted.map(|thread| Arc::clone(&thread.parker)).collect()
}

/// What connects a thread to those that start and join it.
type StartupChannels = (mpsc::Sender<RingReport>, mpsc::Receiver<Peers>, mpsc::Sender<Ended>);

/// A thread: the one place that knows more than one engine.
fn main<W: Work>(spec: ThreadSpec, making: Making, work: Arc<W>, lines: StartupChannels) {
    let sizes = sizes(&spec);
    let step = "making an epoll instance";
    match making.engine {
        Chosen::Uring => {
            let make = || making.uring(&sizes).map_err(StartError::from);
            serve(make, spec, work, lines);
        }
        Chosen::Epoll => {
            let make = || Epoll::new(&sizes).map_err(|error| StartError::System { step, error });
            serve(make, spec, work, lines);
        }
    }
}

/// A thread on its ring, from its first to its last instruction.
fn serve<R: Ring, W: Work>(
    make: impl FnOnce() -> Result<R, StartError>,
    spec: ThreadSpec,
    work: Arc<W>,
    (report, peers, end): StartupChannels,
) {
    let (name, thread) = (spec.role.name.clone(), spec.place);
    let lifecycle = Arc::clone(&spec.shared.lifecycle);
    let connection_limit = Arc::clone(&spec.shared.connection_limit);
    if let Some(cpu) = spec.role.cpu
        && let Err(error) = sys::pin_to(cpu)
    {
        tracing::warn!("thread '{name}' cannot be pinned to CPU {cpu}: {error}");
    }
    let ring = match make() {
        Ok(ring) => ring,
        Err(why) => return drop(report.send(Err(why))),
    };
    let _ = report.send(Ok(Parker::new(ring.address(), ring.waker())));
    let Ok(peers) = peers.recv() else { return };
    let run = AssertUnwindSafe(|| event_loop(ring, spec, peers, &*work).run());
    let result = match catch_unwind(run) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            let (call, open) = (R::CALL, connection_limit.open());
            Err(ServerError::Ring { thread: name, call, error, open })
        }
        Err(_) => Err(ServerError::Panicked { thread: name }),
    };
    if result.is_err() {
        lifecycle.enter(Phase::Stopping, Instant::now());
    }
    let _ = end.send(Ended { thread, result });
}

fn event_loop<R: Ring, W: Work>(
    ring: R,
    spec: ThreadSpec,
    peers: Peers,
    work: &W,
) -> EventLoop<R, W::Serving, Listener> {
    let ThreadSpec { role, listeners, block, orders, shared, .. } = spec;
    let Peers { senders, inbox, home } = peers;
    let connections = work.serving(Place {
        config: &orders.config,
        capacity: if role.works { orders.max_connections } else { 0 },
        descriptors: if role.works { orders.per_worker } else { 0 },
        capabilities: ring.capabilities(),
        metrics: Arc::clone(&block),
        now: ring.now(),
    });
    let dispatcher = Dispatcher::new(senders, orders.config.process.dispatch, home);
    let parts = Parts { listeners, dispatcher, connections, inbox, metrics: block };
    EventLoop::new(ring, parts, shared)
}

fn sizes(spec: &ThreadSpec) -> Sizes {
    let backlogs = spec.listeners.iter().map(|(_, listener)| listener.backlog().effective);
    let Orders { config, max_connections, .. } = &spec.orders;
    plan::sizes(&config.process.ring, spec.role.works, *max_connections, backlogs)
}
