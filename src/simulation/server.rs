//! One server: what its threads share, and how they are made.

use std::sync::Arc;
use std::time::Duration;

use super::changes::{Changes, Socket};
use super::driver::Driver;
use super::listener::SimulatedListener;
use super::scenario::{Accepting, Scenario};
use super::thread::{State, Thread};
use super::workload::Workload;
use crate::connection::ThreadLimits;
use crate::dispatch::{
    ConnectionLimit, Dispatcher, Done, InboxSender, ListenerId, Mail, Parker, WorkerId, commands,
    inbox, mail,
};
use crate::metrics::Block;
use crate::ring::Ring;
use crate::ring::simulated::Simulated;
use crate::server::Phase;
use crate::server::command::Command;
use crate::server::connections::Connections;
use crate::server::event_loop::{EventLoop, Parts, Shared};
use crate::server::lifecycle::{Lifecycle, Threads};
use crate::service::Service;

/// See the module.
pub(super) struct Server<S> {
    pub(super) shared: Shared,
    /// Of its workers.
    pub(super) senders: Vec<InboxSender>,
    pub(super) changes: Changes<S>,
    /// What wakes from threads depend on, as it was when they were looked for.
    pub(super) woken_for: (Phase, bool),
    /// Whether its process has died.
    pub(super) is_dead: bool,
    pub(super) reserved: Reserved,
}

/// Places that are counted here for connections that another process still has.
#[derive(Debug, Default)]
pub(super) struct Reserved {
    pub(super) process: usize,
    /// Of each kind of frontend.
    pub(super) frontends: Vec<usize>,
}

impl<S> Server<S> {
    fn new(scenario: &Scenario, (changes, senders): (Changes<S>, Vec<InboxSender>)) -> Self {
        let acceptors = match scenario.accepting {
            Accepting::Dedicated | Accepting::FirstWorker => 1,
            Accepting::EachWorker => senders.len(),
        };
        let shared = Shared {
            lifecycle: Arc::new(Lifecycle::new(scenario.drain_timeout, acceptors)),
            connection_limit: Arc::new(ConnectionLimit::new(scenario.max_connections)),
            queues: Arc::default(),
            refusals: Arc::default(),
        };
        Self {
            shared,
            senders,
            changes,
            woken_for: (Phase::Serving, true),
            is_dead: false,
            reserved: Reserved::default(),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.shared.lifecycle.phase()
    }

    /// Connections of its workers.
    pub(super) fn loads(&self) -> usize {
        self.senders.iter().map(|sender| sender.load().open()).sum()
    }
}

impl<P: Workload> Driver<P> {
    /// Makes one more server, which accepts on sockets of its own, or on none. Returns the ports that it listens on,
    /// by the kind of what is there.
    pub(super) fn add_server(
        &mut self,
        changes: Changes<P::Service>,
        (workers, listens): (usize, bool),
    ) -> Vec<Vec<u16>> {
        let accepting = self.scenario.accepting;
        let is_dedicated = accepting == Accepting::Dedicated;
        let dedicated = is_dedicated.then(|| "acceptor-0".to_owned());
        let server = self.servers.len();
        let prefix = if server == 0 { String::new() } else { format!("{server}/") };
        let names = (0..workers).map(|index| format!("worker-{index}")).chain(dedicated);
        let names = names.map(|name| format!("{prefix}{name}"));
        let rings: Vec<(String, Simulated)> = names.map(|name| self.ring(name)).collect();
        let parker = |(_, ring): &(_, Simulated)| Parker::new(ring.address(), ring.waker());
        let all: Vec<Arc<Parker>> = rings.iter().map(parker).map(Arc::new).collect();
        let places = (0..rings.len()).filter(|place| accepting.accepts(*place, workers));
        let parkers = places.map(|place| Arc::clone(&all[place])).collect();
        let inboxes = all.iter().map(|parker| inbox(self.scenario.inbox, Arc::clone(parker)));
        let (senders, inboxes): (Vec<_>, Vec<_>) = inboxes.unzip();
        let senders = senders[..workers].to_vec();
        self.servers.push(Server::new(&self.scenario, (changes, senders)));
        let shared = self.servers[server].shared.clone();
        shared.lifecycle.set_threads(Threads { all: all.clone(), accepting: parkers });
        let done = Done::new(rings.len());
        let parkers = all[..workers].iter().cloned().map(Some);
        let mut mails = mail(P::Service::MESSAGES, parkers).into_iter();
        let mut ports = vec![Vec::new(); self.workload.kinds()];
        for (index, ((name, ring), inbox)) in rings.into_iter().zip(inboxes).enumerate() {
            let accepts = accepting.accepts(index, workers);
            let worker = (index < workers).then_some(index);
            let metrics = Arc::new(Block::default());
            let (sender, commands) = commands(Arc::clone(&all[index]));
            let sockets =
                if accepts && listens { self.listeners(server, index) } else { Vec::new() };
            for (_, listener, socket) in &sockets {
                let frontends = &self.servers[server].changes.frontends;
                ports[frontends[usize::from(listener.frontend.0)].kind].push(socket.port());
            }
            sender.send(self.first_commands(server, sockets), &done);
            self.servers[server].changes.senders.push(sender);
            self.workload.watch(&metrics);
            let mail = if worker.is_some() { mails.next() } else { None };
            let mail = mail.unwrap_or_else(Mail::none);
            let parts = Parts {
                accepts,
                dispatcher: self.dispatcher(server, worker),
                connections: self.connections(&ring, mail, &metrics),
                inbox,
                commands,
                metrics: Arc::clone(&metrics),
                cpu_time: || Some(Duration::ZERO),
            };
            self.threads.push(Thread {
                name,
                event_loop: Some(EventLoop::new(ring, parts, shared.clone())),
                state: State::Turn,
                block: metrics,
                in_vain: (0, Duration::ZERO),
                server,
                worker,
            });
        }
        ports
    }

    fn connections(
        &self,
        ring: &Simulated,
        mail: Mail<<P::Service as Service>::Message>,
        metrics: &Arc<Block>,
    ) -> Connections<P::Service> {
        let receive_credit = ring.capabilities().receive_credit;
        let limits = ThreadLimits { capacity: self.scenario.max_connections, receive_credit };
        Connections::new(limits, (self.workload.splicing(), mail), metrics, ring.now())
    }

    /// What a thread is told before it runs.
    fn first_commands(
        &mut self,
        server: usize,
        sockets: Vec<Socket<Arc<SimulatedListener>>>,
    ) -> Vec<Command<P::Service, SimulatedListener>> {
        let mut commands = Vec::new();
        let Server { changes, shared, .. } = &self.servers[server];
        for frontend in &changes.frontends {
            let settings = self.workload.settings(&self.scenario, &self.network, frontend);
            commands.push(Command::Publish { frontend: frontend.id, settings });
        }
        for (_, listener, socket) in sockets {
            shared.lifecycle.sockets().add(listener, 1);
            let mut frontends = changes.frontends.iter();
            let frontend = frontends.find(|frontend| frontend.id == listener.frontend);
            let listen = frontend.map(|it| Command::Listen(it.listening(listener, socket)));
            commands.extend(listen);
        }
        commands
    }

    fn dispatcher(&self, server: usize, home: Option<usize>) -> Dispatcher {
        Dispatcher::new(
            self.servers[server].senders.clone(),
            self.scenario.policy,
            home.map(WorkerId),
        )
    }

    fn ring(&self, name: String) -> (String, Simulated) {
        let ring = self.network.ring(&name, &self.scenario.sizes);
        (name, ring.expect("the machine has memory and descriptors"))
    }

    /// Binds the sockets of a thread that accepts.
    #[expect(clippy::arc_with_non_send_sync, reason = "real listeners are shared with handles")]
    fn listeners(&mut self, server: usize, thread: usize) -> Vec<Socket<Arc<SimulatedListener>>> {
        let mut sockets = Vec::new();
        for frontend in &mut self.servers[server].changes.frontends {
            for index in 0..self.scenario.listeners as u16 {
                let socket = SimulatedListener::new(&self.network, self.scenario.backlog);
                let socket = Arc::new(socket);
                let listener = ListenerId { frontend: frontend.id, index };
                frontend.sockets.push((thread, listener, Arc::downgrade(&socket)));
                sockets.push((thread, listener, socket));
            }
        }
        sockets
    }
}
