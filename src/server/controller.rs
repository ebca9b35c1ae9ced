//! From a configuration to what threads are told: at the start, and when it changes.
//!
//! ```text
//!   Config --prepare--> sockets bound, logs open, names resolved --apply--> a batch for every thread
//!              |                                                              publish everywhere,
//!              +--> an error, and nothing has changed                         then listen
//! ```

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};

use super::access_logs::AccessLogs;
use super::command::{Command, Listening};
use super::connections::Settings;
use super::directory::{Directory, FrontendStatus};
use super::error::StartError;
use super::event_loop::Shared;
use super::upstreams::Upstreams;
use crate::config::upstream::Balance;
use crate::config::{Config, ConfigError, Frontend, Listen, ListenAddress, Protocol, ProxyConfig};
use crate::dispatch::{CommandSender, ConnectionLimit, Done, FrontendId, ListenerId};
use crate::listener::{Listener, Sharing, Wanted};
use crate::preread::routes::{Pattern, Route, Routes};
use crate::proxy::{PrereadRules, ProxySettings};
use crate::service::Service;
use crate::sys;
use crate::worker::SessionSettings;

/// Where the service of a frontend comes from that is not a proxy.
pub(super) type Services<S> = Box<dyn Fn(&Frontend) -> Arc<S> + Send>;

/// An address of a frontend, with one socket for each thread that accepts there.
pub(super) struct Bound {
    pub(super) address: ListenAddress,
    /// By the number of the accepting thread.
    pub(super) sockets: Vec<(usize, Arc<Listener>)>,
}

/// A frontend that is ready to run.
pub(super) struct Ready<S> {
    config: Frontend,
    settings: Settings<S>,
    limit: Arc<ConnectionLimit>,
    bound: Vec<Bound>,
}

/// A configuration that is ready to run.
pub(super) struct Prepared<S> {
    pub(super) frontends: Vec<Ready<S>>,
}

impl<S> Prepared<S> {
    /// The lengths of the accept queues of one accepting thread.
    pub(super) fn backlogs(&self, thread: usize) -> Vec<u32> {
        let bound = self.frontends.iter().flat_map(|ready| &ready.bound);
        let sockets = bound.flat_map(|bound| &bound.sockets).filter(|(own, _)| *own == thread);
        sockets.map(|(_, socket)| socket.backlog().effective).collect()
    }
}

/// A thread as the controller knows it.
pub(super) struct ThreadLink<S> {
    pub(super) accepts: bool,
    pub(super) sender: CommandSender<Command<S, Listener>>,
}

/// What decides what a server does.
pub(super) struct Controller<S: Service> {
    services: Services<S>,
    upstreams: Upstreams,
    logs: AccessLogs,
    directory: Directory,
    /// Whether the kernel spreads connections over sockets of several threads.
    sharing: Sharing,
    /// Threads that accept.
    acceptors: usize,
}

impl<S: Service> Controller<S> {
    pub(super) fn new(
        services: Services<S>,
        upstreams: Upstreams,
        (logs, directory): (AccessLogs, Directory),
        acceptors: usize,
    ) -> Self {
        let sharing = if acceptors > 1 { Sharing::Found } else { Sharing::Exclusive };
        Self { services, upstreams, logs, directory, sharing, acceptors }
    }

    /// Makes everything ready that a configuration needs; nothing of the running server changes.
    ///
    /// # Errors
    /// What is in the way.
    pub(super) fn prepare(&self, config: &Config) -> Result<Prepared<S>, StartError> {
        let wanted = look_up(config)?;
        let mut frontends = Vec::new();
        for (number, (frontend, wanted)) in config.frontends.iter().zip(wanted).enumerate() {
            let id = FrontendId(number as u16);
            let most = frontend.limits.max_connections.map_or(usize::MAX, usize::from);
            let limit = Arc::new(ConnectionLimit::new(most));
            let settings = self.settings(frontend, (id, &limit))?;
            let bound = wanted.iter().map(|wanted| self.bind(frontend, wanted));
            let bound = bound.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
            frontends.push(Ready { config: frontend.clone(), settings, limit, bound });
        }
        Ok(Prepared { frontends })
    }

    /// Tells all threads what to do from now on.
    pub(super) fn apply(
        &self,
        prepared: Prepared<S>,
        (threads, shared): (&[ThreadLink<S>], &Shared),
    ) {
        let mut batches: Vec<Vec<Command<S, Listener>>> =
            threads.iter().map(|_| Vec::new()).collect();
        let accepting: Vec<usize> =
            (0..threads.len()).filter(|thread| threads[*thread].accepts).collect();
        for (number, ready) in prepared.frontends.iter().enumerate() {
            let frontend = FrontendId(number as u16);
            for batch in &mut batches {
                batch.push(Command::Publish { frontend, settings: ready.settings.clone() });
            }
        }
        let mut statuses = Vec::new();
        for (number, ready) in prepared.frontends.into_iter().enumerate() {
            let frontend = FrontendId(number as u16);
            let queues = ready.bound.iter().map(|bound| bound.sockets.len()).sum();
            let sockets = Arc::new(AtomicUsize::new(queues));
            statuses.push(status(&ready, &*self.services));
            for (index, bound) in ready.bound.into_iter().enumerate() {
                let listener = ListenerId { frontend, index: index as u16 };
                shared.lifecycle.sockets().add(listener, bound.sockets.len());
                for (thread, socket) in bound.sockets {
                    batches[accepting[thread]].push(Command::Listen(Listening {
                        listener,
                        socket,
                        limit: Arc::clone(&ready.limit),
                        queues,
                        sockets: Arc::clone(&sockets),
                    }));
                }
            }
        }
        self.directory.set(statuses, self.upstreams.all());
        let done = Done::new(threads.len());
        for (thread, batch) in threads.iter().zip(batches) {
            thread.sender.send(batch, &done);
        }
    }

    /// What the connections of a frontend go by.
    fn settings(
        &self,
        frontend: &Frontend,
        (id, limit): (FrontendId, &Arc<ConnectionLimit>),
    ) -> Result<Settings<S>, StartError> {
        let limit = Arc::clone(limit);
        let budget_bytes = frontend.limits.budget_bytes;
        let Protocol::Proxy(proxy) = &frontend.protocol else {
            return Ok(Settings::Sessions(Arc::new(SessionSettings {
                service: (self.services)(frontend),
                budget_bytes,
                timeouts: frontend.timeouts.sessions(),
                frontend: id,
                limit,
            })));
        };
        let upstreams = proxy.upstreams().map(|name| self.upstreams.get(name));
        let upstreams = upstreams.collect::<Result<Vec<_>, _>>()?;
        let preread = PrereadRules {
            trusted: proxy.trusted.clone(),
            send: proxy.send_header,
            routes: routes(proxy)?,
            balances_by_source: upstreams.iter().any(|it| it.balance() == Balance::SourceHash),
        };
        Ok(Settings::Pairs(Arc::new(ProxySettings {
            budget_bytes,
            nodelay: frontend.socket.nodelay,
            retries: proxy.retries,
            queue: proxy.queue.get(),
            splice: proxy.splice && sys::block_sigpipe().is_ok(),
            timeouts: proxy.timeouts(&frontend.timeouts),
            preread,
            upstreams,
            log: proxy.access_log.as_ref().map(|log| self.logs.open(log)).transpose()?,
            frontend: id,
            limit,
        })))
    }

    /// Binds an address, once for each accepting thread where the kernel can share it out.
    fn bind(&self, frontend: &Frontend, wanted: &Wanted) -> Result<Vec<Bound>, StartError> {
        let bound = wanted.bind(&frontend.socket, self.sharing)?;
        bound.notice.iter().for_each(|notice| tracing::info!("{notice}"));
        let mut all = Vec::new();
        for first in bound.listeners {
            if let Some(warning) = first.backlog().warning() {
                tracing::warn!("{}: {warning}", first.address());
            }
            // The kernel has chosen a port by now.
            let address = first.address().clone();
            let mut sockets = vec![(0, Arc::new(first))];
            let is_shared = matches!(address, ListenAddress::Tcp(_));
            for thread in 1..if is_shared { self.acceptors } else { 1 } {
                let copy = Listener::bind(&address, &frontend.socket, Sharing::Join)?;
                sockets.push((thread, Arc::new(copy)));
            }
            all.push(Bound { address, sockets });
        }
        Ok(all)
    }
}

fn status<S: Service>(ready: &Ready<S>, services: &dyn Fn(&Frontend) -> Arc<S>) -> FrontendStatus {
    let sockets = ready.bound.iter().flat_map(|bound| &bound.sockets);
    let protocol = match &ready.config.protocol {
        Protocol::Proxy(_) => ready.config.protocol.name().to_owned(),
        _ => services(&ready.config).name().to_owned(),
    };
    FrontendStatus {
        name: ready.config.name.clone(),
        protocol,
        addresses: ready.bound.iter().map(|bound| bound.address.clone()).collect(),
        limit: Arc::clone(&ready.limit),
        listeners: sockets.map(|(_, socket)| Arc::downgrade(socket) as Weak<_>).collect(),
    }
}

/// Names to the place of their upstream.
fn routes(config: &ProxyConfig) -> Result<Option<Routes<u16>>, ConfigError> {
    if config.routes.is_empty() {
        return Ok(None);
    }
    let route = |(index, (pattern, _)): (usize, &(String, _))| {
        let pattern: Pattern = pattern.parse()?;
        Ok(Route { pattern, target: index as u16 + 1 })
    };
    let routes = config.routes.iter().enumerate().map(route);
    let table =
        routes.collect::<Result<Vec<_>, _>>().and_then(|routes| Routes::new(routes, Some(0)));
    table.map(Some).map_err(|error| ConfigError::new(error.to_string()))
}

/// Resolves the names of addresses. Nothing may be there twice, under whatever names: the second would find it
/// in use.
fn look_up(config: &Config) -> Result<Vec<Vec<Wanted>>, StartError> {
    let mut seen: std::collections::HashSet<ListenAddress> = std::collections::HashSet::new();
    let mut look = |listen: &Listen| -> Result<Wanted, StartError> {
        let wanted = Wanted::look_up(listen)?;
        if listen.any_port() {
            return Ok(wanted);
        }
        match wanted.addresses().iter().find(|address| !seen.insert((*address).clone())) {
            None => Ok(wanted),
            Some(address) => Err(ConfigError::new(format!(
                "listen address {listen}: {address} is given twice; give each address once"
            ))
            .into()),
        }
    };
    let each = config.frontends.iter();
    each.map(|frontend| frontend.listen.iter().map(&mut look).collect()).collect()
}
