//! A server of one frontend, as a program says it.

use super::{Ready, Server, StartError};
use crate::config::{Config, Frontend, Listen, Process};
use crate::listener::Inherited;
use crate::service::Service;

/// Collects what a server is told before it starts.
#[derive(Debug)]
pub struct Builder<S> {
    service: S,
    process: Process,
    frontend: Frontend,
    /// Whether `frontend.listen` still holds the default address.
    default_listen: bool,
}

impl<S: Service> Builder<S> {
    /// With the default configuration.
    pub(super) fn new(service: S) -> Self {
        let (process, frontend) = (Process::default(), Frontend::default());
        Self { service, process, frontend, default_listen: true }
    }

    /// Listens on this address too. Without any, the default of [`Listen`] is taken.
    #[must_use]
    pub fn listen(mut self, address: Listen) -> Self {
        if std::mem::take(&mut self.default_listen) {
            self.frontend.listen.clear();
        }
        self.frontend.listen.push(address);
        self
    }

    /// Changes what belongs to the process.
    #[must_use]
    pub fn process(mut self, change: impl FnOnce(&mut Process)) -> Self {
        change(&mut self.process);
        self
    }

    /// Changes anything else.
    #[must_use]
    pub fn frontend(mut self, change: impl FnOnce(&mut Frontend)) -> Self {
        change(&mut self.frontend);
        self
    }

    /// Binds all addresses and starts all threads. When this returns, the server accepts. May block
    /// for a second when an address is in use.
    ///
    /// # Errors
    /// Why it does not start; then nothing of it runs.
    pub fn start(self) -> Result<Server, StartError> {
        Ok(self.prepare(&Inherited::default())?.serve())
    }

    /// The same, but for that it does not listen yet.
    pub(crate) fn prepare(self, inherited: &Inherited) -> Result<Ready, StartError> {
        let mut config = Config::of(self.frontend, Vec::new());
        config.process = self.process;
        Server::prepare_with(&config, self.service, inherited)
    }
}
