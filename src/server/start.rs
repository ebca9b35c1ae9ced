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

use super::access_logs::AccessLogs;
use super::command::Command;
use super::connections::Connections;
use super::control::Steering;
use super::controller::{Controller, Prepared, Services};
use super::directory::Directory;
use super::error::{ServerError, StartError};
use super::event_loop::{EventLoop, Parts, Shared};
use super::lifecycle::{Lifecycle, Phase, Threads};
use super::orders::ThreadLink;
use super::plan::{self, Machine, Role};
use super::queue_watch::QueueWatch;
use super::service_figures::ServiceFigures;
use super::{Handle, Heritage, Server, Steered};
use crate::config::{Config, DispatchPolicy, RingSizes};
use crate::connection::ThreadLimits;
use crate::dispatch::{
    Commands, ConnectionLimit, Dispatcher, Inbox, InboxSender, Mail, Parker, WorkerId, commands,
    inbox, mail,
};
use crate::listener::Listener;
use crate::metrics::Block;
use crate::process::NoThread;
use crate::proxy::Splicing;
use crate::ring::engine::{self, Chosen, Making};
use crate::ring::epoll::Epoll;
use crate::ring::{Refusal, Ring, Sizes};
use crate::service::Service;
use crate::sys;

/// Connections that may wait in one inbox. More wait in the kernel's queue.
const INBOX_CAPACITY: usize = 1024;

/// What a thread starts with.
#[derive(Clone)]
struct ThreadSpec {
    role: Role,
    /// Its place among the threads.
    place: usize,
    block: Arc<Block>,
    sizes: Sizes,
    dispatch: DispatchPolicy,
    /// Connections that memory is reserved for.
    capacity: usize,
    /// Descriptors that it has for itself.
    descriptors: usize,
    shared: Shared,
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
struct Peers<S: Service> {
    /// Inboxes of the workers.
    senders: Vec<InboxSender>,
    inbox: Inbox,
    commands: Commands<Command<S, Listener>>,
    mail: Mail<S::Message>,
    /// Index of the worker on this thread.
    home: Option<WorkerId>,
}

/// A thread that has been spawned and waits to be introduced to its peers.
struct ThreadHandle<S: Service> {
    thread: JoinHandle<()>,
    introduce: mpsc::Sender<Peers<S>>,
    parker: Arc<Parker>,
    role: Role,
}

/// Makes a server whose threads run and wait to be told to listen: [`Control::open`](super::control::Control::open).
/// `logs` may have access logs that are open already.
///
/// # Errors
/// Why it does not start; then nothing of it runs.
pub(super) fn prepare<S: Service>(
    config: &Config,
    services: Services<S>,
    (logs, heritage): (AccessLogs, Heritage),
) -> Result<Server, StartError> {
    config.validate()?;
    let machine = Machine::prepare()?;
    let directory = Directory::default();
    let held = (logs.clone(), directory.clone());
    let mut controller = Controller::new(
        services,
        held,
        config.process.clone(),
        (machine, heritage.inherited.clone()),
    );
    controller.inherit(&heritage);
    // Before anything is bound: what the machine refuses is told first.
    let choice = engine::choose(config.process.engine)?;
    let mut prepared = controller.prepare(config.clone())?;
    let plan = &prepared.plan;
    // A server beside the main one, such as the admin endpoint, has few connections and says nothing of them.
    let is_main = config.process.threads.prefix.is_empty();
    let warnings = plan.warning.iter().chain(&plan.crowded).filter(|_| is_main);
    warnings.for_each(|warning| tracing::warn!("{warning}"));
    let shared = Shared {
        lifecycle: Arc::new(Lifecycle::new(config.process.drain_timeout, plan.acceptors())),
        connection_limit: Arc::new(ConnectionLimit::new(plan.max_connections)),
        queues: Arc::default(),
        refusals: Arc::clone(controller.bans.refusals()),
    };
    shared.lifecycle.set_drain_spread(config.process.drain_spread);
    let (end, ended) = mpsc::channel();
    let specs = specs((&config.process.ring, config.process.dispatch), (&prepared, &shared));
    let wanted: Vec<Sizes> = specs.iter().map(|spec| spec.sizes).collect();
    let settled = engine::settle(config.process.engine, choice, &wanted, |making| {
        spawn_all(&specs, making, &end)
    })?;
    settled.notice.iter().for_each(|notice| tracing::warn!("{notice}"));
    let (spawned, engine) = (settled.made, settled.engine);
    let names = spawned.iter().map(|thread| thread.role.name.clone());
    let blocks = names.zip(specs.into_iter().map(|spec| spec.block)).collect();
    let running = spawned.iter().map(|thread| Some(thread.role.name.clone())).collect();
    let Introduced { threads, inboxes, links } = introduce(spawned, &shared.lifecycle);
    controller.set_threads(links);
    controller.begin(&mut prepared);
    let alarm = controller.registry().alarm().clone();
    let bans = Arc::clone(&controller.bans);
    let steering = Steering { controller, prepared: Some(prepared), shared: shared.clone() };
    let control = Steered::new(steering);
    let handle = Handle {
        engine,
        shared,
        blocks,
        inboxes,
        directory,
        logs,
        control,
        queues: Arc::new(QueueWatch::new()),
        before: Arc::default(),
        service: ServiceFigures::default(),
        bans,
    };
    handle.watch(&alarm);
    handle.watch(handle.logs.alarm());
    Ok(Server { running, threads, ended, failure: None, handle })
}

/// What each thread starts with. With unix sockets alone, the first of several accepting threads has
/// them all.
fn specs(
    (ring, dispatch): (&RingSizes, DispatchPolicy),
    (prepared, shared): (&Prepared, &Shared),
) -> Vec<ThreadSpec> {
    let plan = &prepared.plan;
    let mut accepting = 0..;
    let spec = |(place, role): (usize, &Role)| {
        let number = if role.accepts { accepting.next() } else { None };
        let backlogs = number.map_or_else(Vec::new, |number| prepared.backlogs(number));
        ThreadSpec {
            role: role.clone(),
            place,
            block: Arc::default(),
            sizes: plan::sizes(ring, role.works, plan.max_connections, backlogs.into_iter()),
            dispatch,
            capacity: if role.works { plan.max_connections } else { 0 },
            descriptors: if role.works { plan.per_worker } else { 0 },
            shared: shared.clone(),
        }
    };
    plan.roles.iter().enumerate().map(spec).collect()
}

/// Spawns all threads with rings that are made in this way. None is left if one of them has no ring.
fn spawn_all<S: Service>(
    specs: &[ThreadSpec],
    making: Making,
    end: &mpsc::Sender<Ended>,
) -> Result<Result<Vec<ThreadHandle<S>>, Refusal>, StartError> {
    let mut spawned = Vec::new();
    for spec in specs {
        match spawn(spec.clone(), making, end.clone()) {
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
fn dismiss<S: Service>(spawned: Vec<ThreadHandle<S>>) {
    for ThreadHandle { thread, introduce, .. } in spawned {
        drop(introduce);
        // A thread that has panicked has said so.
        let _ = thread.join();
    }
}

/// Spawns a thread and waits until it has a ring.
fn spawn<S: Service>(
    spec: ThreadSpec,
    making: Making,
    end: mpsc::Sender<Ended>,
) -> Result<ThreadHandle<S>, StartError> {
    let role = spec.role.clone();
    let (report, reported) = mpsc::channel();
    let (introduce, peers) = mpsc::channel();
    let thread = thread::Builder::new()
        .name(role.name.clone())
        .spawn(move || main(spec, making, (report, peers, end)))
        .map_err(|error| StartError::Thread(NoThread::new(&error)))?;
    let ready: RingReport = reported.recv().unwrap_or_else(|_| {
        // It can only have panicked, and says so on stderr.
        Err(StartError::System { step: "starting a thread", error: sys::Errno::EIO.into() })
    });
    Ok(ThreadHandle { thread, introduce, parker: Arc::new(ready?), role })
}

/// All threads, and the ways to them.
struct Introduced<S: Service> {
    threads: Vec<JoinHandle<()>>,
    /// Of the workers.
    inboxes: Vec<InboxSender>,
    /// Of all.
    links: Vec<ThreadLink<S>>,
}

/// Connects all inboxes and lets all threads run.
fn introduce<S: Service>(spawned: Vec<ThreadHandle<S>>, lifecycle: &Lifecycle) -> Introduced<S> {
    let (senders, inboxes): (Vec<_>, Vec<_>) =
        spawned.iter().map(|each| inbox(INBOX_CAPACITY, Arc::clone(&each.parker))).unzip();
    let (all, accepting) = (parkers(&spawned, |_| true), parkers(&spawned, |role| role.accepts));
    lifecycle.set_threads(Threads { all, accepting });
    let roles = spawned.iter().map(|thread| &thread.role);
    let workers = senders.into_iter().zip(roles).filter(|(_, role)| role.works);
    let senders: Vec<InboxSender> = workers.map(|(sender, _)| sender).collect();
    let mut mail =
        mail(S::MESSAGES, parkers(&spawned, |role| role.works).into_iter().map(Some)).into_iter();
    let (mut threads, mut links) = (Vec::new(), Vec::new());
    for (index, (spawned, inbox)) in spawned.into_iter().zip(inboxes).enumerate() {
        let home = spawned.role.works.then_some(WorkerId(index));
        let (sender, commands) = commands(Arc::clone(&spawned.parker));
        // A thread that is gone already has said why.
        let senders = senders.clone();
        let mail = if spawned.role.works { mail.next() } else { None };
        let mail = mail.unwrap_or_else(Mail::none);
        let _ = spawned.introduce.send(Peers { senders, inbox, commands, mail, home });
        threads.push(spawned.thread);
        let Role { name, accepts, works, .. } = spawned.role;
        links.push(ThreadLink { name, accepts, works, sender });
    }
    Introduced { threads, inboxes: senders, links }
}

fn parkers<S: Service>(threads: &[ThreadHandle<S>], wanted: fn(&Role) -> bool) -> Vec<Arc<Parker>> {
    let wanted = threads.iter().filter(|thread| wanted(&thread.role));
    wanted.map(|thread| Arc::clone(&thread.parker)).collect()
}

/// What connects a thread to those that start and join it.
type StartupChannels<S> = (mpsc::Sender<RingReport>, mpsc::Receiver<Peers<S>>, mpsc::Sender<Ended>);

/// A thread: the one place that knows more than one engine.
fn main<S: Service>(spec: ThreadSpec, making: Making, channels: StartupChannels<S>) {
    let sizes = spec.sizes;
    let step = "making an epoll instance";
    match making.engine {
        Chosen::Uring => {
            let make = || making.uring(&sizes).map_err(StartError::from);
            serve(make, spec, channels);
        }
        Chosen::Epoll => {
            let make = || Epoll::new(&sizes).map_err(|error| StartError::System { step, error });
            serve(make, spec, channels);
        }
    }
}

/// A thread on its ring, from its first to its last instruction.
fn serve<R: Ring, S: Service>(
    make: impl FnOnce() -> Result<R, StartError>,
    spec: ThreadSpec,
    (report, peers, end): StartupChannels<S>,
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
    let run = AssertUnwindSafe(|| event_loop(ring, spec, peers).run());
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

fn event_loop<R: Ring, S: Service>(
    ring: R,
    spec: ThreadSpec,
    peers: Peers<S>,
) -> EventLoop<R, S, Listener> {
    let ThreadSpec { role, block, dispatch, capacity, descriptors, shared, .. } = spec;
    let Peers { senders, inbox, commands, mail, home } = peers;
    let receive_credit = ring.capabilities().receive_credit;
    let limits = ThreadLimits { capacity, receive_credit };
    let splicing = Splicing::with_descriptors(descriptors);
    let connections = Connections::new(limits, (splicing, mail), &block, ring.now());
    let dispatcher = Dispatcher::new(senders, dispatch, home);
    let accepts = role.accepts;
    let cpu_time = || sys::thread_cpu_time().ok();
    let parts =
        Parts { accepts, dispatcher, connections, inbox, commands, metrics: block, cpu_time };
    EventLoop::new(ring, parts, shared)
}
