//! What a controller does so that another process takes the server's place, and when it takes another's.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};

use super::{Controller, Prepared, Running};
use crate::config::{Frontend, ListenAddress, Protocol};
use crate::connection::suspended::{Record, SessionStage, Suspended};
use crate::dispatch::{ConnectionLimit, Done, FrontendId, ListenerId};
use crate::listener::{Listener, Origin};
use crate::metrics::FrontendTimes;
use crate::server::binding::backlog_warning;
use crate::server::command::{Command, Suspend};
use crate::server::error::StartError;
use crate::server::event_loop::Shared;
use crate::server::handover::{Offer, OpenSocket};
use crate::server::heritage::Heritage;
use crate::server::orders::{Orders, ThreadLink};
use crate::service::Service;
use crate::upstream::Upstream;

impl Prepared {
    /// The sockets that will be listened on.
    pub(in crate::server) fn listeners(&self) -> Vec<Arc<Listener>> {
        let sockets = self.bound.iter().flatten().flat_map(|bound| &bound.sockets);
        sockets.map(|(_, socket)| Arc::clone(socket)).collect()
    }
}

impl<S: Service> Controller<S> {
    /// The sockets that are listened on, in the order of the configuration and, for each address, of the threads.
    pub(in crate::server) fn open_sockets(&self) -> Vec<OpenSocket> {
        let mut all: Vec<OpenSocket> = Vec::new();
        for frontend in &self.config.frontends {
            let Some(running) = self.running.get(&frontend.name) else { continue };
            let mut entries: HashMap<String, u32> = HashMap::new();
            for listened in &running.listened {
                let listen = listened.listen.to_string();
                let entry = entries.entry(listen.clone()).or_default();
                let sockets = listened.bound.iter().flat_map(|(_, bound)| &bound.sockets);
                for listener in sockets.filter_map(|(_, socket)| socket.upgrade()) {
                    // Threads may share one.
                    if all.iter().any(|known| Arc::ptr_eq(&known.listener, &listener)) {
                        continue;
                    }
                    let origin = Origin {
                        frontend: frontend.name.clone(),
                        listen: listen.clone(),
                        entry: *entry,
                        is_kept: listener.is_kept(),
                        file: listener.file(),
                    };
                    all.push(OpenSocket { origin, listener });
                }
                *entry += 1;
            }
        }
        all
    }

    /// An address may be in use by this server, or by the process that this one takes over from.
    pub(super) fn with_own_addresses(&self, error: StartError) -> StartError {
        let StartError::Bind { frontend, listen, error } = error else { return error };
        let own = self.open_sockets().into_iter().map(|it| it.listener.address().clone());
        let own: Vec<ListenAddress> = own.chain(self.inherited.addresses()).collect();
        StartError::Bind { frontend, listen, error: error.of_one_that_listens_on(&own) }
    }

    /// Tells the threads to accept nobody any more, and to refuse nobody.
    /// What is returned is held by others until the last connection that was accepted has been placed.
    ///
    /// # Errors
    /// These threads take nothing, and may accept.
    pub(in crate::server) fn stop_accepting(&mut self) -> Result<Arc<()>, Vec<String>> {
        let stops = Arc::new(());
        let takes_nothing = |thread: &&ThreadLink<S>| {
            let stop = Command::StopAccepting(Arc::clone(&stops));
            !thread.sender.send(vec![stop], &Done::new(1)) && !thread.sender.is_over()
        };
        let stuck = self.threads.iter().filter(takes_nothing).map(|it| it.name.clone());
        match stuck.collect::<Vec<String>>() {
            stuck if stuck.is_empty() => Ok(stops),
            stuck => Err(stuck),
        }
    }

    /// The process that handed sockets over has given them up: they are this one's, and get the options of their
    /// frontends.
    pub(in crate::server) fn keep_sockets(&self) {
        self.inherited.make_own();
        for frontend in &self.config.frontends {
            let running = self.running.get(&frontend.name);
            let listened = running.into_iter().flat_map(|running| &running.listened);
            let sockets = listened.flat_map(|it| &it.bound).flat_map(|(_, bound)| &bound.sockets);
            for socket in sockets.filter_map(|(_, socket)| socket.upgrade()) {
                if !socket.is_handed_over() {
                    continue;
                }
                socket.make_own();
                if let Err(error) = socket.configure(&frontend.socket) {
                    tracing::warn!("{error}");
                }
                backlog_warning(&socket).iter().for_each(|warning| tracing::warn!("{warning}"));
            }
        }
    }

    /// Accepts again on those of these sockets that exist.
    pub(in crate::server) fn accept_again(
        &mut self,
        is_wanted: &dyn Fn(&Arc<Listener>) -> bool,
        shared: &Shared,
    ) {
        let mut orders = Orders::new(&self.threads);
        for running in self.running.values() {
            accept_again(running, is_wanted, (&mut orders, shared));
        }
        let warnings = orders.send(&self.threads, true);
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    }

    /// The frontends of this configuration, or of the one that runs, with what serves them.
    pub(in crate::server) fn offers(&self, prepared: Option<&Prepared>) -> Vec<Offer> {
        let config = prepared.map_or(&self.config, |prepared| &prepared.config);
        let service = |frontend: &Frontend| match &frontend.protocol {
            Protocol::Proxy(_) => frontend.protocol.name().to_owned(),
            _ => (self.services)(frontend).name().to_owned(),
        };
        let offer = |frontend: &Frontend| Offer {
            frontend: frontend.name.clone(),
            service: service(frontend),
            is_proxied: matches!(frontend.protocol, Protocol::Proxy(_)),
        };
        config.frontends.iter().map(offer).collect()
    }

    /// Whether a connection of this frontend, suspended elsewhere, could go on here.
    pub(in crate::server) fn makes_sense(&self, frontend: &str, record: &Record) -> bool {
        let Some(frontend) = self.config.frontends.iter().find(|it| it.name == frontend) else {
            return false;
        };
        match (&frontend.protocol, record) {
            (Protocol::Proxy(proxy), Record::Pair(pair)) => {
                proxy.upstreams().any(|upstream| upstream == pair.upstream)
            }
            (Protocol::Proxy(_), _) | (_, Record::Pair(_)) => false,
            (_, Record::Session(session)) => {
                let service = self.serving.get(&frontend.name);
                matches!(session.stage, SessionStage::Preread { .. })
                    || service.is_some_and(|it| can_resume(&**it, &session.session))
            }
        }
    }

    /// Asks all threads for connections of these frontends, at most so many of each: where they come from.
    pub(in crate::server) fn ask_to_suspend(
        &self,
        of: &[String],
        most: usize,
    ) -> Vec<mpsc::Receiver<Suspended>> {
        let numbers = of.iter().filter_map(|name| self.running.get(name)).map(|it| it.id);
        let of: Arc<HashSet<FrontendId>> = Arc::new(numbers.collect());
        let ask = |thread: &super::ThreadLink<S>| {
            let (to, from) = mpsc::channel();
            let suspend = Suspend { of: Arc::clone(&of), most, to };
            // One that takes nothing keeps what it has.
            thread.sender.send(vec![Command::Suspend(suspend)], &Done::new(1));
            from
        };
        self.threads.iter().filter(|thread| thread.works).map(ask).collect()
    }

    /// Has a thread go on with these connections: where those come back that it does not know what to do with.
    ///
    /// # Errors
    /// It takes nothing, and all come back.
    pub(in crate::server) fn tell_to_resume(
        &self,
        thread: usize,
        connections: Vec<Suspended>,
    ) -> Result<mpsc::Receiver<Suspended>, Vec<Suspended>> {
        let workers: Vec<_> = self.threads.iter().filter(|thread| thread.works).collect();
        let Some(thread) = workers.get(thread % workers.len().max(1)) else {
            return Err(connections);
        };
        let (refused, back) = mpsc::channel();
        match thread.sender.offer(vec![Command::Resume(connections, refused)], &Done::new(1)) {
            Ok(()) => Ok(back),
            Err(mut commands) => match commands.pop() {
                Some(Command::Resume(connections, _)) => Err(connections),
                _ => unreachable!("nothing else was offered"),
            },
        }
    }

    /// The number of a frontend, and where its connections are counted.
    pub(in crate::server) fn limit_of(
        &self,
        frontend: &str,
    ) -> Option<(FrontendId, Arc<ConnectionLimit>)> {
        self.running.get(frontend).map(|running| (running.id, Arc::clone(&running.limit)))
    }

    /// Connections of each frontend, those included that are removed.
    pub(in crate::server) fn open_by_frontend(&self) -> Vec<(String, usize)> {
        // One that was removed and is there again has a name with another.
        let mut open: BTreeMap<String, usize> = BTreeMap::new();
        for running in self.running.values().chain(&self.retired) {
            *open.entry(running.name.clone()).or_default() += running.limit.open();
        }
        open.into_iter().collect()
    }

    /// Upstreams that a reload has removed and that have connections.
    pub(in crate::server) fn retired_upstreams(&self) -> Vec<Arc<Upstream>> {
        self.upstreams.retired()
    }

    /// How long the connections of each frontend have taken.
    pub(in crate::server) fn times_by_frontend(&self) -> Vec<(String, Arc<FrontendTimes>)> {
        self.running.values().map(|it| (it.name.clone(), Arc::clone(&it.times))).collect()
    }

    /// What there is to know of the process before this one, before it is prepared.
    pub(in crate::server) fn inherit(&mut self, heritage: &Heritage) {
        self.drained.clone_from(&heritage.drained);
        self.upstreams.know(&heritage.names);
    }

    /// Frontends that were drained by hand in the process before this one are so from the start: they listen nowhere,
    /// and connections that come from there are told to end.
    pub(super) fn stay_drained(&mut self, orders: &mut Orders<S>) {
        self.drained.retain(|name| self.running.contains_key(name));
        for running in self.drained.iter().filter_map(|name| self.running.get(name)) {
            running.limit.set_limit(usize::MAX);
            let id = running.id;
            orders.everywhere(|| Command::Drain(id));
        }
    }
}

/// Whether a service can go on with a session. One that panics cannot.
fn can_resume<S: Service>(service: &S, session: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| service.can_resume(session))).unwrap_or(false)
}

fn accept_again<S>(
    running: &Running,
    is_wanted: &dyn Fn(&Arc<Listener>) -> bool,
    (orders, shared): (&mut Orders<S>, &Shared),
) {
    for (index, bound) in running.listened.iter().flat_map(|it| &it.bound) {
        let listener = ListenerId { frontend: running.id, index: *index };
        for (thread, socket) in &bound.sockets {
            let Some(socket) = socket.upgrade().filter(|socket| is_wanted(socket)) else {
                continue;
            };
            shared.lifecycle.sockets().add(listener, 1);
            let listening = running.listening(listener, socket);
            orders.push_to_acceptor(*thread, Command::Listen(listening));
        }
    }
}
