//! From one configuration to the next: what has to be done, as a pure function.
//!
//! Frontends are the same if they have the same name, listening sockets if they have the same address. A socket stays
//! with its accept queue whatever else changes, and goes along when its address moves to another frontend.

use std::collections::HashMap;
use std::fmt;

use crate::config::upstream::Balance;
use crate::config::{Config, Frontend, Limits, Listen, Process, Protocol, SocketOptions};

/// One thing to do. They are done in the order of the variants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Bind to an address.
    Bind {
        /// Whose it is.
        frontend: String,
        /// The address.
        listen: Listen,
    },
    /// Give the connections that come from now on new settings.
    Publish {
        /// Whose they are.
        frontend: String,
    },
    /// Change how many connections there may be; those beyond stay.
    Limit {
        /// In which frontend.
        frontend: String,
    },
    /// Give the socket of an address to another frontend.
    Move {
        /// The address.
        listen: Listen,
        /// Whose it was.
        from: String,
        /// Whose it is.
        to: String,
    },
    /// Change the options of a listening socket.
    Configure {
        /// Whose it is.
        frontend: String,
        /// The address.
        listen: Listen,
    },
    /// Stop listening: nobody new is admitted, the accept queue is served.
    Close {
        /// Whose it was.
        frontend: String,
        /// The address.
        listen: Listen,
    },
    /// Forget a frontend; its connections live on to their end.
    Retire {
        /// Which.
        frontend: String,
    },
}

/// A value that a running server cannot change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// What it is.
    pub what: &'static str,
}

/// A sentence for the operator, as in `frontend web: listen on 127.0.0.1:80`.
impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { frontend, listen } => {
                write!(formatter, "frontend {frontend}: listen on {listen}")
            }
            Self::Publish { frontend } => {
                write!(formatter, "frontend {frontend}: new connections get the new settings")
            }
            Self::Limit { frontend } => {
                write!(formatter, "frontend {frontend}: change max-connections")
            }
            Self::Move { listen, from, to } => {
                write!(formatter, "frontend {to}: take {listen} over from frontend {from}")
            }
            Self::Configure { frontend, listen } => {
                write!(formatter, "frontend {frontend}: change the socket options of {listen}")
            }
            Self::Close { frontend, listen } => {
                write!(formatter, "frontend {frontend}: stop listening on {listen}")
            }
            Self::Retire { frontend } => {
                write!(formatter, "frontend {frontend}: remove; open connections live on")
            }
        }
    }
}

impl fmt::Display for Fixed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: takes a restart; not changed", self.what)
    }
}

/// The steps from `old` to `new`, in the order in which they are done.
pub fn steps(old: &Config, new: &Config) -> Vec<Step> {
    let mut steps: Vec<Step> = frontend_steps(old, new);
    steps.extend(socket_steps(old, new));
    steps.sort_unstable();
    steps
}

/// What differs between two configurations and takes a new process.
pub fn fixed(old: &Config, new: &Config) -> Vec<Fixed> {
    let Process { threads, dispatch, engine, ring, control, admin, sources, .. } = &old.process;
    let now = &new.process;
    let process = [
        ("threads", *threads != now.threads),
        ("dispatch policy", *dispatch != now.dispatch),
        ("engine", *engine != now.engine),
        ("sizes of rings and buffers", *ring != now.ring),
        ("control socket", *control != now.control),
        ("admin endpoint", *admin != now.admin),
        ("number of sources", sources.table != now.sources.table),
    ];
    let names = by_name(old);
    let v6_only = new.frontends.iter().any(|frontend| {
        let before = names.get(frontend.name.as_str());
        before.is_some_and(|it| {
            let keeps = it.listen.iter().any(|listen| frontend.listen.contains(listen));
            keeps && it.socket.v6_only != frontend.socket.v6_only
        })
    });
    let all = process.into_iter().chain([("IPV6_V6ONLY of an address that stays", v6_only)]);
    all.filter(|(_, differs)| *differs).map(|(what, _)| Fixed { what }).collect()
}

fn by_name(config: &Config) -> HashMap<&str, &Frontend> {
    config.frontends.iter().map(|frontend| (frontend.name.as_str(), frontend)).collect()
}

fn frontend_steps(old: &Config, new: &Config) -> Vec<Step> {
    let (before, after) = (by_name(old), by_name(new));
    let mut steps = Vec::new();
    for frontend in &new.frontends {
        let name = || frontend.name.clone();
        let known = before.get(frontend.name.as_str());
        if known.is_none_or(|known| differ((known, old), (frontend, new))) {
            steps.push(Step::Publish { frontend: name() });
        }
        let limit = frontend.limits.max_connections;
        if known.is_some_and(|known| known.limits.max_connections != limit) {
            steps.push(Step::Limit { frontend: name() });
        }
    }
    let gone = old.frontends.iter().filter(|frontend| !after.contains_key(frontend.name.as_str()));
    steps.extend(gone.map(|frontend| Step::Retire { frontend: frontend.name.clone() }));
    steps
}

/// Whether the connections of a frontend go by other settings than before.
fn differ((old, before): (&Frontend, &Config), (new, after): (&Frontend, &Config)) -> bool {
    // Each field by its name, so that none is forgotten that is new.
    let Frontend {
        name: _,
        listen: _,
        socket,
        trusted,
        sources,
        limits,
        timeouts,
        overload,
        access_log,
        protocol,
    } = old;
    let Limits { max_connections: _, rate, budget_bytes } = limits;
    *protocol != new.protocol
        || *timeouts != new.timeouts
        || *trusted != new.trusted
        || *sources != new.sources
        || *rate != new.limits.rate
        || overload.patience() != new.overload.patience()
        || *access_log != new.access_log
        || *budget_bytes != new.limits.budget_bytes
        || socket.nodelay != new.socket.nodelay
        || of_all(before) != of_all(after)
        || needs_source(old, before) != needs_source(new, after)
}

/// What the process says of the sources of all frontends.
fn of_all(config: &Config) -> impl PartialEq {
    let Process { sources, max_per_source, rate_per_source, .. } = &config.process;
    (*sources, *max_per_source, *rate_per_source)
}

/// Whether an upstream of a frontend balances by the client's address, which then has to be asked for.
fn needs_source(frontend: &Frontend, config: &Config) -> bool {
    let Protocol::Proxy(proxy) = &frontend.protocol else { return false };
    let mut upstreams = proxy.upstreams().filter_map(|name| config.upstream(name));
    upstreams.any(|upstream| upstream.balance == Balance::SourceHash)
}

/// An address, its place among equal ones (a port that the kernel chooses may be asked for twice), and whose it
/// is.
fn sockets(config: &Config) -> HashMap<(&Listen, usize), &Frontend> {
    let mut counts: HashMap<&Listen, usize> = HashMap::new();
    let mut all = HashMap::new();
    for frontend in &config.frontends {
        for listen in &frontend.listen {
            let count = counts.entry(listen).or_default();
            all.insert((listen, *count), frontend);
            *count += 1;
        }
    }
    all
}

fn socket_steps(old: &Config, new: &Config) -> Vec<Step> {
    let (before, after) = (sockets(old), sockets(new));
    let mut steps = Vec::new();
    for (socket, frontend) in &after {
        let (listen, name) = (socket.0.clone(), frontend.name.clone());
        match before.get(socket) {
            None => steps.push(Step::Bind { frontend: name, listen }),
            Some(known) => {
                if known.name != name {
                    let (listen, from, to) = (listen.clone(), known.name.clone(), name.clone());
                    steps.push(Step::Move { listen, from, to });
                }
                let accepts_as = known.overload.accepts_as(&frontend.overload);
                if differ_on_a_socket(&known.socket, &frontend.socket) || !accepts_as {
                    steps.push(Step::Configure { frontend: name, listen });
                }
            }
        }
    }
    for (socket, frontend) in before.iter().filter(|(socket, _)| !after.contains_key(*socket)) {
        let (listen, frontend) = (socket.0.clone(), frontend.name.clone());
        steps.push(Step::Close { frontend, listen });
    }
    steps
}

/// Whether options differ that a listening socket can change.
fn differ_on_a_socket(old: &SocketOptions, new: &SocketOptions) -> bool {
    SocketOptions { v6_only: new.v6_only, ..old.clone() } != *new
}

#[cfg(test)]
mod tests;
