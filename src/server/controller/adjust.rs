//! What the operator changes by hand: a limit, a backlog, a frontend that drains. It lasts until the next reload.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Weak};

use super::{Command, Controller, Listened, Orders, Shared, Step};
use crate::config::{Config, Frontend, Listen};
use crate::listener::Listener;
use crate::server::{ReloadError, StartError};
use crate::service::Service;

/// A value that is set by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adjustment {
    /// Open connections of all frontends together, at most.
    MaxConnections(NonZeroUsize),
    /// Open connections of one frontend, at most.
    FrontendMaxConnections {
        /// Which.
        frontend: String,
        /// How many.
        most: NonZeroUsize,
    },
    /// The length of the accept queues of one frontend.
    Backlog {
        /// Which.
        frontend: String,
        /// How long.
        backlog: NonZeroU32,
    },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjusted {
    /// As it was configured or set before; `None` is the default.
    pub before: Option<usize>,
    /// As it is in force, which may be less than was asked for.
    pub effective: usize,
    /// What did not go as it should, one line each.
    pub warnings: Vec<String>,
}

impl<S: Service> Controller<S> {
    /// Sets a value.
    pub(in crate::server) fn adjust(
        &mut self,
        adjustment: &Adjustment,
        shared: &Shared,
    ) -> Result<Adjusted, ReloadError> {
        match adjustment {
            Adjustment::MaxConnections(most) => self.set_max_connections(*most, shared),
            Adjustment::FrontendMaxConnections { frontend, most } => {
                self.set_limit(frontend, *most)
            }
            Adjustment::Backlog { frontend, backlog } => self.set_backlog(frontend, *backlog),
        }
    }

    fn set_max_connections(
        &mut self,
        most: NonZeroUsize,
        shared: &Shared,
    ) -> Result<Adjusted, ReloadError> {
        let mut config = self.config.clone();
        let before = config.process.max_connections.replace(most);
        let plan = self.plan(&config).map_err(StartError::from)?;
        shared.connection_limit.set_limit(plan.max_connections);
        self.config.process.max_connections = Some(most);
        Ok(Adjusted {
            before: before.map(usize::from),
            effective: plan.max_connections,
            warnings: plan.warning.into_iter().collect(),
        })
    }

    fn set_limit(&mut self, name: &str, most: NonZeroUsize) -> Result<Adjusted, ReloadError> {
        let frontend = self.configured(name)?;
        let before = frontend.limits.max_connections.replace(most);
        self.running[name].limit.set_limit(most.get());
        Ok(Adjusted {
            before: before.map(usize::from),
            effective: most.get(),
            warnings: Vec::new(),
        })
    }

    fn set_backlog(&mut self, name: &str, backlog: NonZeroU32) -> Result<Adjusted, ReloadError> {
        let frontend = self.configured(name)?;
        let before = frontend.socket.backlog.replace(backlog);
        let listened = self.running[name].listened.iter();
        let listens: Vec<_> = listened.map(|listened| listened.listen.clone()).collect();
        let config = self.config.clone();
        let mut orders = Orders::new(&self.threads);
        for listen in &listens {
            self.configure(&config, (name, listen), &mut orders);
        }
        let warnings = orders.send(&self.threads, true);
        let effective = self.sockets(name).map(|socket| socket.backlog().effective).min();
        Ok(Adjusted {
            before: before.map(|backlog| backlog.get() as usize),
            effective: effective.unwrap_or(backlog.get()) as usize,
            warnings,
        })
    }

    /// The sockets of a frontend that are open.
    fn sockets(&self, name: &str) -> impl Iterator<Item = Arc<Listener>> {
        let listened = self.running.get(name).into_iter().flat_map(|it| &it.listened);
        let bound = listened.flat_map(|listened| &listened.bound);
        bound.flat_map(|(_, bound)| &bound.sockets).filter_map(|(_, socket)| Weak::upgrade(socket))
    }

    fn configured(&mut self, name: &str) -> Result<&mut Frontend, ReloadError> {
        // Nothing of it would be in force, and whoever waits in its queues would have to go on waiting.
        if self.drained.contains(name) {
            return Err(ReloadError::Drained { name: name.to_owned() });
        }
        let frontends = &mut self.config.frontends;
        let known = frontends.iter().map(|frontend| frontend.name.clone()).collect();
        let found = frontends.iter_mut().find(|frontend| frontend.name == name);
        found.ok_or(ReloadError::NoFrontend { name: name.to_owned(), known })
    }
}

impl<S: Service> Controller<S> {
    /// Adds what makes unix sockets again whose file is gone: nobody can connect to them.
    fn make_again(&self, steps: &mut Vec<Step>) {
        for (frontend, running) in &self.running {
            for Listened { listen, bound } in &running.listened {
                let mut sockets = bound.iter().flat_map(|(_, bound)| &bound.sockets);
                let is_lost = sockets.any(|(_, it)| it.upgrade().is_some_and(|it| it.is_lost()));
                let is_moving = steps.iter().any(|step| match step {
                    Step::Bind { listen: it, .. }
                    | Step::Move { listen: it, .. }
                    | Step::Close { listen: it, .. } => it == listen,
                    _ => false,
                });
                if !is_lost || is_moving {
                    continue;
                }
                let (frontend, listen) = (frontend.clone(), listen.clone());
                take(
                    steps,
                    &Step::Configure { frontend: frontend.clone(), listen: listen.clone() },
                );
                steps.push(Step::Bind { frontend: frontend.clone(), listen: listen.clone() });
                steps.push(Step::Close { frontend, listen });
            }
        }
    }

    /// Lets a frontend accept nobody new, and tells its sessions to end. Returns what did not go as it should.
    pub(in crate::server) fn drain(&mut self, frontend: &str) -> Result<Vec<String>, ReloadError> {
        let Some(running) = self.running.get_mut(frontend) else {
            let known = self.running.keys().cloned().collect();
            return Err(ReloadError::NoFrontend { name: frontend.to_owned(), known });
        };
        let mut orders = Orders::new(&self.threads);
        for (listener, threads) in running.listeners() {
            for thread in threads {
                orders.push_to_acceptor(thread, Command::StopListening(listener));
            }
        }
        let id = running.id;
        // Who waits in its queues is served, and its addresses come free.
        running.limit.set_limit(usize::MAX);
        running.listened.clear();
        self.drained.insert(frontend.to_owned());
        orders.everywhere(|| Command::Drain(id));
        self.directory.set((self.statuses(), self.removed()), self.upstreams.all());
        Ok(orders.send(&self.threads, true))
    }

    /// The steps from what runs to a configuration: a frontend that was drained by hand listens again, a unix socket
    /// whose file is gone is made again.
    pub(in crate::server) fn steps_to(&self, config: &Config) -> Vec<Step> {
        let mut steps = super::steps(&self.config, config);
        let frontends = self.config.frontends.iter();
        for drained in frontends.filter(|frontend| self.drained.contains(&frontend.name)) {
            let listens = drained.listen.iter();
            listens.for_each(|listen| bind_again(&mut steps, &drained.name, listen));
            // The sessions of a version that drains are told to end: those that come now want another.
            let publish = Step::Publish { frontend: drained.name.clone() };
            if is_in(&drained.name, config) && !steps.contains(&publish) {
                steps.push(publish);
            }
        }
        if !self.has_begun {
            // Those that are so from the start.
            let listens = |step: &Step| matches!(step, Step::Bind { frontend, .. } if self.drained.contains(frontend));
            steps.retain(|step| !listens(step));
        }
        self.make_again(&mut steps);
        steps.sort_unstable();
        steps
    }
}

/// What would be done with the socket of an address that a drained frontend has given up.
fn bind_again(steps: &mut Vec<Step>, drained: &str, listen: &Listen) {
    let frontend = || drained.to_owned();
    if take(steps, &Step::Close { frontend: frontend(), listen: listen.clone() }) {
        return;
    }
    let place = steps.iter().position(|step| {
        matches!(step, Step::Move { listen: moved, from, .. } if from == drained && moved == listen)
    });
    let owner = match place.map(|place| steps.remove(place)) {
        Some(Step::Move { to, .. }) => to,
        _ => frontend(),
    };
    take(steps, &Step::Configure { frontend: owner.clone(), listen: listen.clone() });
    steps.push(Step::Bind { frontend: owner, listen: listen.clone() });
}

/// Takes one such step away, if there is one.
fn take(steps: &mut Vec<Step>, step: &Step) -> bool {
    let place = steps.iter().position(|it| it == step);
    place.map(|place| steps.remove(place)).is_some()
}

fn is_in(name: &str, config: &Config) -> bool {
    config.frontends.iter().any(|frontend| frontend.name == name)
}
