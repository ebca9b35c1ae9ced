//! A running server as it is changed and asked, whatever its service is.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};

use super::Handle;
use super::command::Command;
use super::controller::{Adjusted, Adjustment, BackendList, Controller, Prepared};
use super::error::{ReloadError, StartError};
use super::event_loop::Shared;
use super::handover::HandOver;
use super::lifecycle::Phase;
use super::orders::ThreadLink;
use super::steps::{Fixed, Step, fixed};
use crate::config::{Config, NetworksFile};
use crate::connection::{ConnectionId, Listed};
use crate::dispatch::{Done, FrontendId};
use crate::service::Service;
use crate::upstream::{Upstream, UpstreamChanges, UpstreamRegistry};

/// What a reload has done, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reloaded {
    /// What has been done with frontends and their sockets.
    pub steps: Vec<Step>,
    /// What has changed of upstreams.
    pub upstreams: UpstreamChanges,
    /// What differs and takes a new process; all else is in place.
    pub fixed: Vec<Fixed>,
    /// What did not go as it should, one line each.
    pub warnings: Vec<String>,
}

/// A running server, as it is changed. Behind it is a [`Service`] that nobody here knows.
pub(crate) trait Control: HandOver + Send {
    /// The configuration that runs.
    fn config(&self) -> &Config;

    /// Listens, with what was made ready for the start.
    fn open(&mut self);

    /// Changes the server to another configuration. Nothing has changed if that fails.
    fn reload(&mut self, config: Config) -> Result<Reloaded, ReloadError>;

    /// What [`reload`](Self::reload) would do. Names are resolved; nothing is bound.
    fn preview(&self, config: &Config) -> Result<Reloaded, ReloadError>;

    /// Changes the backends of some upstreams, and nothing else. Nothing has changed if that fails.
    fn replace_backends(&mut self, lists: &[BackendList]) -> Result<Reloaded, ReloadError>;
    fn replace_networks(&mut self, of: &NetworksFile) -> Result<Reloaded, ReloadError>;

    /// Lets a frontend accept nobody new, and tells its sessions to end.
    fn drain(&mut self, frontend: &str) -> Result<(), ReloadError>;

    /// Changes a value by hand, until the next reload.
    fn adjust(&mut self, adjustment: &Adjustment) -> Result<Adjusted, ReloadError>;

    /// The upstream of this name.
    fn upstream(&self, name: &str) -> Option<Arc<Upstream>>;

    /// Asks all threads for their connections: where they come from, thread by thread.
    fn ask_for_connections(&mut self) -> Vec<mpsc::Receiver<Vec<Listed>>>;

    /// Asks a thread to close a connection: where it says whether it was there.
    fn ask_to_close(&mut self, id: ConnectionId) -> mpsc::Receiver<bool>;

    /// The names of frontends by their numbers, those included that are removed and still have connections.
    fn names(&self) -> HashMap<FrontendId, String>;

    /// The server has ended: nothing is checked or resolved any more, and what was suppressed is told.
    fn end(&mut self);
}

/// A controller with what it steers.
pub(super) struct Steering<S: Service> {
    pub(super) controller: Controller<S>,
    /// What it starts with, until it is told to.
    pub(super) prepared: Option<Prepared>,
    pub(super) shared: Shared,
}

impl<S: Service> Control for Steering<S> {
    fn config(&self) -> &Config {
        &self.controller.config
    }

    fn open(&mut self) {
        if let Some(prepared) = self.prepared.take() {
            self.controller.apply(prepared, &self.shared);
        }
    }

    fn reload(&mut self, config: Config) -> Result<Reloaded, ReloadError> {
        self.is_serving()?;
        let prepared = self.controller.prepare(config)?;
        Ok(self.controller.apply(prepared, &self.shared))
    }

    fn preview(&self, config: &Config) -> Result<Reloaded, ReloadError> {
        config.validate().map_err(StartError::from)?;
        let prepared = self.controller.upstreams.prepare(&config.upstreams);
        let upstreams = prepared.map_err(StartError::from)?;
        Ok(Reloaded {
            steps: self.controller.steps_to(config),
            upstreams: upstreams.changes().clone(),
            fixed: fixed(&self.controller.config, config),
            warnings: upstreams.warnings().to_vec(),
        })
    }

    fn replace_backends(&mut self, lists: &[BackendList]) -> Result<Reloaded, ReloadError> {
        self.is_serving()?;
        self.controller.replace_backends(lists, &self.shared)
    }

    fn replace_networks(&mut self, of: &NetworksFile) -> Result<Reloaded, ReloadError> {
        self.is_serving()?;
        Ok(self.controller.replace_networks(of))
    }

    fn drain(&mut self, frontend: &str) -> Result<(), ReloadError> {
        self.is_serving()?;
        let warnings = self.controller.drain(frontend)?;
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        Ok(())
    }

    fn adjust(&mut self, adjustment: &Adjustment) -> Result<Adjusted, ReloadError> {
        self.is_serving()?;
        self.controller.adjust(adjustment, &self.shared)
    }

    fn upstream(&self, name: &str) -> Option<Arc<Upstream>> {
        self.controller.upstreams.get(name)
    }

    fn ask_for_connections(&mut self) -> Vec<mpsc::Receiver<Vec<Listed>>> {
        let ask = |thread: &ThreadLink<S>| {
            let (to, parts) = mpsc::channel();
            // A thread that takes nothing answers nothing.
            if thread.sender.takes_questions() {
                thread.sender.send(vec![Command::List(to)], &Done::new(1));
            }
            parts
        };
        self.controller.threads.iter().map(ask).collect()
    }

    fn ask_to_close(&mut self, id: ConnectionId) -> mpsc::Receiver<bool> {
        let (closed, answer) = mpsc::channel();
        let thread = self.controller.threads.get(usize::from(id.thread));
        if let Some(thread) = thread.filter(|thread| thread.sender.takes_questions()) {
            thread.sender.send(vec![Command::Close(id.key, closed)], &Done::new(1));
        }
        answer
    }

    fn names(&self) -> HashMap<FrontendId, String> {
        let Controller { running, retired, .. } = &self.controller;
        let current = running.iter().map(|(name, running)| (running.id, name.clone()));
        retired.iter().map(|it| (it.id, it.name.clone())).chain(current).collect()
    }

    fn end(&mut self) {
        self.controller.upstreams = UpstreamRegistry::new();
    }
}

impl<S: Service> Steering<S> {
    fn is_serving(&self) -> Result<(), ReloadError> {
        match self.shared.lifecycle.phase() {
            Phase::Serving => Ok(()),
            Phase::Draining | Phase::Stopping => Err(ReloadError::Draining),
        }
    }
}

impl Handle {
    /// Makes these the backends of upstreams, each of which is named once, as a reload would that changes nothing
    /// else: their addresses that stay keep connections, counters and health, and what was done by hand to these
    /// upstreams ends. One that is not there is left out.
    ///
    /// # Errors
    /// Why nothing has changed.
    pub fn replace_backends(&self, lists: &[BackendList]) -> Result<Reloaded, ReloadError> {
        self.wait_while_held();
        self.control.lock().replace_backends(lists)
    }

    /// Lets in through the frontends whose rules name this file whom its networks let in, from the next connection on,
    /// as a reload would that changes nothing else. What was done by hand stays.
    ///
    /// # Errors
    /// The server drains.
    pub fn replace_networks(&self, of: &NetworksFile) -> Result<Reloaded, ReloadError> {
        self.wait_while_held();
        self.control.lock().replace_networks(of)
    }

    /// Changes a value by hand. It lasts until the next reload, whose configuration wins.
    ///
    /// # Errors
    /// There is no such frontend, the value cannot be, or the whole server drains.
    pub fn adjust(&self, adjustment: &Adjustment) -> Result<Adjusted, ReloadError> {
        self.wait_while_held();
        self.control.lock().adjust(adjustment)
    }

    /// Connections that are open or on their way to a worker.
    pub fn open(&self) -> usize {
        self.shared.connection_limit.open()
    }

    /// Open connections of all frontends together, at most.
    pub fn max_connections(&self) -> usize {
        self.shared.connection_limit.limit()
    }
}
