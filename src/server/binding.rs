//! From the addresses of a configuration to sockets that listen.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::error::StartError;
use super::steps::Step;
use crate::config::{Config, ConfigError, Frontend, Listen, ListenAddress};
use crate::listener::{BindError, Given, Inherited, Listener, Sharing, Wanted};

/// An address that is listened on, with one socket for each thread that accepts there.
pub(super) struct Bound<L> {
    pub(super) address: ListenAddress,
    /// By the number of the accepting thread.
    pub(super) sockets: Vec<(usize, L)>,
}

/// Binds to all addresses that these steps ask for, in their order.
///
/// # Errors
/// The first that cannot be listened on; then none is.
pub(super) fn bind_all(
    config: &Config,
    steps: &[Step],
    (acceptors, inherited): (usize, &Inherited),
) -> Result<Vec<Vec<Bound<Arc<Listener>>>>, StartError> {
    let mut wanted = Vec::new();
    let mut seen = HashSet::new();
    for step in steps {
        let Step::Bind { frontend, listen } = step else { continue };
        let found = Wanted::look_up(listen).map_err(|error| StartError::Bind {
            frontend: frontend.clone(),
            listen: listen.clone(),
            error,
        })?;
        let twice = found.addresses().iter().find(|it| !seen.insert((*it).clone()));
        if let Some(address) = twice.filter(|_| !listen.any_port()) {
            return Err(ConfigError::new(format!(
                "listen address {listen}: {address} is given twice; give each address once"
            ))
            .into());
        }
        wanted.push(((frontend, listen), found));
    }
    let frontends: HashMap<&str, &Frontend> =
        config.frontends.iter().map(|frontend| (frontend.name.as_str(), frontend)).collect();
    let bind = |((name, listen), wanted): &((&String, &Listen), Wanted)| {
        bind((frontends[name.as_str()], listen), wanted, (acceptors, inherited)).map_err(|error| {
            StartError::Bind { frontend: (*name).clone(), listen: (*listen).clone(), error }
        })
    };
    wanted.iter().map(bind).collect()
}

/// Binds an address, once for each accepting thread where the kernel can share it out.
fn bind(
    (frontend, listen): (&Frontend, &Listen),
    wanted: &Wanted,
    (acceptors, inherited): (usize, &Inherited),
) -> Result<Vec<Bound<Arc<Listener>>>, BindError> {
    if listen.any_port() {
        let given = inherited.claim_entry(&frontend.name, &listen.to_string());
        if !given.is_empty() {
            return adopt(frontend, given, acceptors);
        }
    }
    let (given, left) = wanted.claim(inherited);
    let is_only = given.is_empty() && frontend.listen.as_slice() == [listen.clone()];
    let named = if is_only { inherited.claim_name(&frontend.name) } else { Vec::new() };
    if !named.is_empty() {
        return adopt(frontend, named, acceptors);
    }
    let mut all = adopt(frontend, given, acceptors)?;
    let Some(wanted) = left else { return Ok(all) };
    let sharing = if acceptors > 1 { Sharing::Found } else { Sharing::Exclusive };
    let bound = wanted.bind(&frontend.socket, sharing)?;
    bound.notice.iter().for_each(|notice| tracing::info!("{notice}"));
    for first in bound.listeners {
        first.pressure().follow(&frontend.overload);
        backlog_warning(&first).iter().for_each(|warning| tracing::warn!("{warning}"));
        // The kernel has chosen a port by now.
        let address = first.address().clone();
        let mut sockets = vec![(0, Arc::new(first))];
        let is_shared = matches!(address, ListenAddress::Tcp(_));
        for thread in 1..if is_shared { acceptors } else { 1 } {
            let copy = Listener::bind(&address, &frontend.socket, Sharing::Join)?;
            copy.pressure().follow(&frontend.overload);
            sockets.push((thread, Arc::new(copy)));
        }
        all.push(Bound { address, sockets });
    }
    Ok(all)
}

/// Listens on sockets that this process was given. Threads beyond their number share them: a socket of one's own
/// could be bound by the user alone who made the first (SO_REUSEPORT).
fn adopt(
    frontend: &Frontend,
    given: Vec<Given>,
    acceptors: usize,
) -> Result<Vec<Bound<Arc<Listener>>>, BindError> {
    let mut all: Vec<Bound<Arc<Listener>>> = Vec::new();
    for given in given {
        let listener = Arc::new(given.listen(&frontend.socket)?);
        listener.pressure().follow(&frontend.overload);
        backlog_warning(&listener).iter().for_each(|warning| tracing::warn!("{warning}"));
        let address = listener.address().clone();
        match all.iter_mut().find(|bound| bound.address == address) {
            Some(bound) => bound.sockets.push((bound.sockets.len() % acceptors, listener)),
            None => all.push(Bound { address, sockets: vec![(0, listener)] }),
        }
    }
    for Bound { address, sockets } in &mut all {
        let threads = if matches!(address, ListenAddress::Tcp(_)) { acceptors } else { 1 };
        let own = sockets.len();
        for thread in own..threads {
            sockets.push((thread, Arc::clone(&sockets[thread % own].1)));
        }
    }
    Ok(all)
}

/// For the operator, when the kernel gave less than was asked for.
pub(super) fn backlog_warning(listener: &Listener) -> Option<String> {
    listener.backlog().warning().map(|warning| format!("{}: {warning}", listener.address()))
}
