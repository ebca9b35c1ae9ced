//! The admin endpoint: what a running server measures, over HTTP, for Prometheus, probes and people. It changes nothing.
//!
//! ```text
//!   client --GET--> thread `admin-worker-0` (a server of its own, on epoll) --asks--> Operator, Handle
//! ```
//!
//! It is a second [`Server`] in the process, with one worker, and `endpoint::Endpoint` is its service. So whoever drips a
//! request or does not read an answer meets the same deadlines and limits as everywhere else, and no thread of the data
//! path ever waits for it. It listens before the server that it tells of has started: then it is not ready.

mod client;
mod endpoint;
mod metrics;
mod page;
mod process;
mod request;

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::config::{Acceptors, AdminAddress, Engine, Listen, ListenAddress, Process};
use crate::control::Operator;
use crate::server::{Server, StartError};
pub use client::{GetError, Response, get};
use endpoint::Endpoint;
pub use metrics::{CONTENT_TYPE, text as metrics_text};

/// How long a client may take to send its request, or to take some of the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The endpoint, while it is served. Dropping it ends it.
#[derive(Debug)]
pub struct Admin {
    server: Server,
    operator: Arc<OnceLock<Arc<Operator>>>,
}

impl Admin {
    /// Listens, and answers that nothing is ready yet.
    ///
    /// # Errors
    /// Why it cannot listen, or has no thread.
    pub fn start(AdminAddress(address): &AdminAddress) -> Result<Self, StartError> {
        let operator = Arc::<OnceLock<Arc<Operator>>>::default();
        let server = Server::builder(Endpoint::new(Arc::clone(&operator)))
            .listen(Listen::Address(address.clone()))
            .process(|process| {
                process.threads.workers = Some(NonZeroUsize::MIN);
                process.threads.acceptors = Acceptors::Auto;
                process.threads.prefix = "admin-".to_owned();
                process.max_connections = NonZeroUsize::new(Process::ADMIN_CLIENTS);
                process.drain_timeout = Duration::ZERO;
                // It counts no memory as locked, and is as good for this.
                process.engine = Engine::Epoll;
                process.ring.buffers = NonZeroU32::new(Process::ADMIN_CLIENTS as u32);
                process.ring.buffer_bytes = 4096;
            })
            .frontend(|frontend| {
                frontend.name = "admin".to_owned();
                frontend.timeouts.first_byte = PATIENCE;
                frontend.timeouts.idle = PATIENCE;
                frontend.timeouts.write_stall = Some(PATIENCE);
            })
            .start()?;
        Ok(Self { server, operator })
    }

    /// From now on it tells of this server. Only the first counts.
    pub fn tell_of(&self, operator: &Arc<Operator>) {
        // A second one would be a mistake of the program, and changes nothing.
        let _ = self.operator.set(Arc::clone(operator));
    }

    /// Where it listens, with the port that the kernel chose.
    pub fn addresses(&self) -> Vec<ListenAddress> {
        self.server.addresses()
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.server.handle().stop();
    }
}
