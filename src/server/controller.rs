//! What decides what a server does: from a configuration to what threads are told, at the start and at each reload.
//!
//! ```text
//!   Config --prepare--> names resolved, sockets bound, logs open --apply--> a batch for every thread:
//!              |                                                            publish everywhere,
//!              +--> an error, and nothing has changed                       then listen, then retire
//! ```

mod adjust;
mod handover;
mod lists;
mod running;
mod settings;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Weak};

pub use adjust::{Adjusted, Adjustment};
pub use lists::BackendList;
pub(super) use running::Running;

use running::Listened;

use super::access_logs::AccessLogs;
use super::bans::BanKeeper;
use super::binding::{Bound, backlog_warning, bind_all};
use super::command::Command;
use super::connections::Settings;
use super::control::Reloaded;
use super::directory::{Directory, FrontendState, FrontendStatus};
use super::error::StartError;
use super::event_loop::Shared;
use super::orders::{Orders, ThreadLink};
use super::plan::{Descriptors, Machine, Plan};
use super::steps::{Step, fixed, steps};
use crate::config::{Config, ConfigError, Frontend, Listen, Process, Protocol};
use crate::dispatch::{ConnectionLimit, FrontendId, ListenerId};
use crate::listener::{Inherited, Listener};
use crate::proxy::Splicing;
use crate::service::Service;
use crate::sources::Sources;
use crate::upstream::{Prepared as PreparedUpstreams, UpstreamRegistry};

/// Where the service of a frontend comes from that is not a proxy.
pub(super) type Services<S> = Box<dyn Fn(&Frontend) -> Arc<S> + Send>;

/// A configuration that is ready to run.
pub(super) struct Prepared {
    config: Config,
    steps: Vec<Step>,
    /// `None` once they are applied.
    upstreams: Option<PreparedUpstreams>,
    /// In the order of the steps that ask for them.
    bound: Vec<Vec<Bound<Arc<Listener>>>>,
    max_connections: usize,
    pub(super) plan: Plan,
}

/// See the module.
pub(super) struct Controller<S: Service> {
    services: Services<S>,
    pub(super) upstreams: UpstreamRegistry,
    logs: AccessLogs,
    directory: Directory,
    pub(super) bans: Arc<BanKeeper>,
    machine: Machine,
    /// Sockets that are listened on rather than bound anew.
    inherited: Inherited,
    pub(super) config: Config,
    pub(super) running: BTreeMap<String, Running>,
    /// Those that were drained by hand; they listen nowhere.
    drained: BTreeSet<String>,
    /// Removed, and not yet forgotten by all threads.
    pub(super) retired: Vec<Running>,
    pub(super) threads: Vec<ThreadLink<S>>,
    /// What is known of the sources of all frontends together.
    pub(super) sources: Arc<Sources>,
    /// Whether a configuration has been applied.
    has_begun: bool,
    /// What serves the connections of each frontend that does not proxy.
    serving: BTreeMap<String, Arc<S>>,
}

impl Prepared {
    /// The lengths of the accept queues of one accepting thread.
    pub(super) fn backlogs(&self, thread: usize) -> Vec<u32> {
        let sockets = self.bound.iter().flatten().flat_map(|bound| &bound.sockets);
        let own = sockets.filter(|(number, _)| *number == thread);
        own.map(|(_, socket)| socket.backlog().effective).collect()
    }
}

impl<S: Service> Controller<S> {
    /// Of a server that does nothing yet.
    pub(super) fn new(
        services: Services<S>,
        (logs, directory): (AccessLogs, Directory),
        process: Process,
        (machine, inherited): (Machine, Inherited),
    ) -> Self {
        let mut config = Config::default();
        config.frontends.clear();
        config.process = process;
        Self {
            services,
            upstreams: UpstreamRegistry::new(),
            logs,
            sources: directory.sources(),
            directory,
            bans: Arc::default(),
            machine,
            inherited,
            config,
            running: BTreeMap::new(),
            drained: BTreeSet::new(),
            retired: Vec::new(),
            threads: Vec::new(),
            has_begun: false,
            serving: BTreeMap::new(),
        }
    }

    pub(super) fn registry(&self) -> &UpstreamRegistry {
        &self.upstreams
    }

    /// The threads run.
    pub(super) fn set_threads(&mut self, threads: Vec<ThreadLink<S>>) {
        self.threads = threads;
    }

    /// Makes everything ready that a configuration needs; nothing of the running server changes.
    ///
    /// # Errors
    /// What is in the way.
    pub(super) fn prepare(&self, config: Config) -> Result<Prepared, StartError> {
        config.validate()?;
        self.check_numbers(&config)?;
        for frontend in &config.frontends {
            if let Protocol::Proxy(proxy) = &frontend.protocol {
                settings::routes(proxy)?;
            }
        }
        let upstreams = self.upstreams.prepare(&config.upstreams)?;
        let plan = self.plan(&config)?;
        for log in config.access_logs() {
            // One that was rotated is followed.
            match !self.has_begun {
                true => self.logs.open(log).map(drop)?,
                false => self.logs.open_again(log)?,
            }
        }
        let steps = self.steps_to(&config);
        let bound = bind_all(&config, &steps, (plan.acceptors(), &self.inherited))
            .map_err(|error| self.with_own_addresses(error))?;
        let sockets = bound.iter().flatten().flat_map(|it| &it.sockets);
        self.bans.cover(sockets.map(|(_, socket)| socket), false);
        Ok(Prepared {
            max_connections: plan.max_connections,
            config,
            steps,
            upstreams: Some(upstreams),
            bound,
            plan,
        })
    }

    /// Frontends that are removed keep their numbers as long as they have connections.
    fn check_numbers(&self, config: &Config) -> Result<(), ConfigError> {
        let is_new = |frontend: &&Frontend| !self.running.contains_key(&frontend.name);
        let new = config.frontends.iter().filter(is_new).count();
        let (used, most) = (self.running.len() + self.retired.len() + new, usize::from(u16::MAX));
        if used <= most {
            return Ok(());
        }
        Err(ConfigError::new(format!(
            "{used} frontends, those included that were removed and still have connections; there may be \
             at most {most}: wait until some have ended"
        )))
    }

    /// What this machine gives a configuration.
    fn plan(&self, config: &Config) -> Result<Plan, ConfigError> {
        let descriptors = Descriptors::of(config, self.upstreams.checks_at_once());
        let mut config = config.clone();
        // Threads stay as they are once they run.
        if !self.threads.is_empty() {
            config.process.threads = self.config.process.threads.clone();
        }
        Plan::new(&config, &self.machine, descriptors)
    }

    /// Knows the frontends and the upstreams that it starts with, before it listens.
    pub(super) fn begin(&mut self, prepared: &mut Prepared) {
        prepared.upstreams.take().into_iter().for_each(|it| drop(self.upstreams.apply(it)));
        self.add_frontends(&prepared.config);
        self.directory.set((Vec::new(), Vec::new()), self.upstreams.all());
    }

    /// Changes the server to what was prepared. Returns what did not go as it should.
    pub(super) fn apply(&mut self, prepared: Prepared, shared: &Shared) -> Reloaded {
        let Prepared { mut config, steps, upstreams, bound, max_connections, plan } = prepared;
        let first = !std::mem::replace(&mut self.has_begun, true);
        let fixed = if first { Vec::new() } else { fixed(&self.config, &config) };
        let upstreams = upstreams.map(|it| self.upstreams.apply(it)).unwrap_or_default();
        self.add_frontends(&config);
        self.admit_as_told(&config, &steps);
        let mut orders = Orders::new(&self.threads);
        let mut bound = bound.into_iter();
        for step in &steps {
            match step {
                Step::Bind { frontend, listen } => {
                    let bound = bound.next().unwrap_or_default();
                    self.listen(frontend, (listen.clone(), bound), (&mut orders, shared));
                }
                Step::Publish { frontend } => self.publish(&config, frontend, &mut orders),
                Step::Limit { frontend } => self.limit(&config, frontend),
                Step::Move { listen, from, to } => {
                    self.move_socket(listen, (from, to), (&mut orders, shared));
                }
                Step::Configure { frontend, listen } => {
                    self.configure(&config, (frontend, listen), &mut orders);
                }
                Step::Close { frontend, listen } => self.close(frontend, listen, &mut orders),
                Step::Retire { frontend } => self.retire(frontend, &mut orders),
            }
        }
        if !first {
            orders.everywhere(|| Command::Splice(Splicing::with_descriptors(plan.per_worker)));
            shared.connection_limit.set_limit(max_connections);
            shared.lifecycle.set_drain_timeout(config.process.drain_timeout);
            shared.lifecycle.set_drain_spread(config.process.drain_spread);
            // What takes a new process is as it was.
            let own = &self.config.process;
            config.process.threads = own.threads.clone();
            (config.process.dispatch, config.process.engine) = (own.dispatch, own.engine);
            config.process.ring = own.ring.clone();
            config.process.control = own.control.clone();
            config.process.admin = own.admin.clone();
            config.process.sources.table = own.sources.table;
        }
        self.config = config;
        if first {
            self.stay_drained(&mut orders);
        }
        let again = if first { BTreeSet::new() } else { std::mem::take(&mut self.drained) };
        again.iter().for_each(|name| self.limit(&self.config, name));
        self.logs.keep(self.config.access_logs());
        self.directory.set((self.statuses(), self.removed()), self.upstreams.all());
        self.bans.cover(self.directory.listeners().iter(), true);
        if !first {
            orders.warnings.extend(plan.warning);
        }
        let warnings = orders.send(&self.threads, !first);
        Reloaded { steps, upstreams, fixed, warnings }
    }

    /// Numbers for the frontends that are new.
    fn add_frontends(&mut self, config: &Config) {
        self.forget_retired();
        let used: HashSet<u16> =
            self.running.values().chain(&self.retired).map(|running| running.id.0).collect();
        let mut free = (0..=u16::MAX).filter(|id| !used.contains(id));
        for frontend in &config.frontends {
            if self.running.contains_key(&frontend.name) {
                continue;
            }
            let id = FrontendId(free.next().expect("there are more numbers than frontends"));
            let most = frontend.limits.max_connections.map_or(usize::MAX, usize::from);
            let running = Running {
                name: frontend.name.clone(),
                id,
                service: String::new(),
                limit: Arc::new(ConnectionLimit::new(most)),
                sources: Arc::default(),
                admission: Arc::default(),
                times: Arc::default(),
                sockets: Arc::default(),
                listened: Vec::new(),
                next_index: 0,
            };
            self.running.insert(frontend.name.clone(), running);
        }
    }

    /// Those that no thread knows any more and that have no connections.
    fn forget_retired(&mut self) {
        self.retired.retain(|it| Arc::strong_count(&it.sockets) > 1 || it.limit.open() > 0);
    }

    fn publish(&mut self, config: &Config, name: &str, orders: &mut Orders<S>) {
        let Some(frontend) = config.frontends.iter().find(|frontend| frontend.name == name) else {
            return;
        };
        let Some(running) = self.running.get(name) else { return };
        let frontend_id = running.id;
        let settings = self.settings(frontend, running);
        let service = match &settings {
            Settings::Sessions(settings) => {
                self.serving.insert(name.to_owned(), Arc::clone(&settings.service));
                settings.service.name().to_owned()
            }
            Settings::Pairs(_) => frontend.protocol.name().to_owned(),
        };
        if let Some(running) = self.running.get_mut(name) {
            running.service = service;
        }
        orders.everywhere_first(|| Command::Publish {
            frontend: frontend_id,
            settings: settings.clone(),
        });
        self.tell_acceptors(name, orders);
    }

    fn limit(&self, config: &Config, name: &str) {
        let frontend = config.frontends.iter().find(|frontend| frontend.name == name);
        if let (Some(frontend), Some(running)) = (frontend, self.running.get(name)) {
            let most = frontend.limits.max_connections.map_or(usize::MAX, usize::from);
            running.limit.set_limit(most);
        }
    }

    fn listen(
        &mut self,
        name: &str,
        (listen, bound): (Listen, Vec<Bound<Arc<Listener>>>),
        (orders, shared): (&mut Orders<S>, &Shared),
    ) {
        let Some(running) = self.running.get_mut(name) else { return };
        let mut listened = Listened { listen, bound: Vec::new() };
        for Bound { address, sockets } in bound {
            let listener = running.next_listener();
            shared.lifecycle.sockets().add(listener, sockets.len());
            let mut weak = Vec::new();
            for (thread, socket) in sockets {
                weak.push((thread, Arc::downgrade(&socket)));
                let listening = running.listening(listener, socket);
                orders.push_to_acceptor(thread, Command::Listen(listening));
            }
            listened.bound.push((listener.index, Bound { address, sockets: weak }));
        }
        running.listened.push(listened);
    }

    /// Gives the socket of an address to another frontend.
    fn move_socket(
        &mut self,
        listen: &Listen,
        (from, to): (&str, &str),
        (orders, shared): (&mut Orders<S>, &Shared),
    ) {
        let Some((old, listened)) = self.running.get_mut(from).and_then(|it| it.take(listen))
        else {
            return;
        };
        let Some(running) = self.running.get_mut(to) else { return };
        let mut moved = Listened { listen: listen.clone(), bound: Vec::new() };
        for (index, bound) in listened.bound {
            let (before, after) = (ListenerId { frontend: old, index }, running.next_listener());
            shared.lifecycle.sockets().rename(before, after);
            for (thread, socket) in &bound.sockets {
                let Some(socket) = socket.upgrade() else { continue };
                let to = running.listening(after, socket);
                orders.push_to_acceptor(*thread, Command::Move { from: before, to });
            }
            moved.bound.push((after.index, bound));
        }
        running.listened.push(moved);
    }

    fn configure(
        &mut self,
        config: &Config,
        (name, listen): (&str, &Listen),
        orders: &mut Orders<S>,
    ) {
        let frontend = config.frontends.iter().find(|frontend| frontend.name == name);
        let (Some(frontend), Some(running)) = (frontend, self.running.get(name)) else { return };
        let listened = running.listened.iter().filter(|listened| listened.listen == *listen);
        for (index, bound) in listened.flat_map(|listened| &listened.bound) {
            let listener = ListenerId { frontend: running.id, index: *index };
            for (place, (thread, socket)) in bound.sockets.iter().enumerate() {
                // Threads may share one.
                let is_done = bound.sockets[..place].iter().any(|(_, known)| known.ptr_eq(socket));
                let Some(socket) = socket.upgrade() else { continue };
                socket.pressure().follow(&frontend.overload);
                match socket.configure(&frontend.socket) {
                    _ if is_done => {}
                    Ok(()) => orders.warnings.extend(backlog_warning(&socket)),
                    Err(error) => orders.warnings.push(error.to_string()),
                }
                let to = running.listening(listener, socket);
                orders.push_to_acceptor(*thread, Command::Move { from: listener, to });
            }
        }
    }

    fn close(&mut self, name: &str, listen: &Listen, orders: &mut Orders<S>) {
        let Some((frontend, listened)) = self.running.get_mut(name).and_then(|it| it.take(listen))
        else {
            return;
        };
        for (index, bound) in listened.bound {
            let listener = ListenerId { frontend, index };
            for (thread, _) in bound.sockets {
                orders.push_to_acceptor(thread, Command::StopListening(listener));
            }
        }
    }

    fn retire(&mut self, name: &str, orders: &mut Orders<S>) {
        let Some(running) = self.running.remove(name) else { return };
        self.serving.remove(name);
        // Who waits in its queues is served, and the address comes free.
        running.limit.set_limit(usize::MAX);
        let (frontend, sockets) = (running.id, Arc::clone(&running.sockets));
        orders.everywhere(|| Command::Retire { frontend, sockets: Arc::clone(&sockets) });
        self.retired.push(running);
    }

    /// In the order of the configuration.
    fn statuses(&self) -> Vec<FrontendStatus> {
        let status = |frontend: &Frontend| {
            let running = self.running.get(&frontend.name)?;
            // A name may be several addresses.
            let mut left: Vec<&Listened> = running.listened.iter().collect();
            let mut ordered = Vec::new();
            for listen in &frontend.listen {
                // One that was drained by hand listens nowhere.
                let Some(place) = left.iter().position(|listened| listened.listen == *listen)
                else {
                    continue;
                };
                ordered.extend(left.remove(place).bound.iter().map(|(_, bound)| bound));
            }
            let sockets = ordered.iter().flat_map(|bound| &bound.sockets);
            // Threads may share one.
            let mut listeners: Vec<Weak<Listener>> = Vec::new();
            for (_, socket) in sockets {
                if !listeners.iter().any(|known| known.ptr_eq(socket)) {
                    listeners.push(Weak::clone(socket));
                }
            }
            Some(FrontendStatus {
                name: frontend.name.clone(),
                service: running.service.clone(),
                state: match self.drained.contains(&frontend.name) {
                    true => FrontendState::Drained,
                    false => FrontendState::Listening,
                },
                listeners,
                addresses: ordered.iter().map(|bound| bound.address.clone()).collect(),
                limit: Arc::clone(&running.limit),
                sources: Arc::clone(&running.sources),
                times: Arc::clone(&running.times),
            })
        };
        self.config.frontends.iter().filter_map(status).collect()
    }

    /// Those that have been removed; they have no listeners.
    fn removed(&self) -> Vec<FrontendStatus> {
        let status = |running: &Running| FrontendStatus {
            name: running.name.clone(),
            service: running.service.clone(),
            state: FrontendState::Removed,
            listeners: Vec::new(),
            addresses: Vec::new(),
            limit: Arc::clone(&running.limit),
            sources: Arc::clone(&running.sources),
            times: Arc::clone(&running.times),
        };
        self.retired.iter().map(status).collect()
    }
}
