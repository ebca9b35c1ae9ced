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
mod lists;
mod metrics;
mod page;
mod process;
mod request;
mod writer;

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::config::{Acceptors, AdminAddress, Engine, Listen, ListenAddress, Process};
use crate::control::Operator;
use crate::listener::Inherited;
use crate::process::NoThread;
use crate::server::{Handle, Ready, Server, StartError};
pub use client::{GetError, Response, get};
use endpoint::Endpoint;
pub use metrics::{CONTENT_TYPE, text as metrics_text};

/// How long a client may take to send its request, or to take some of the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a client may take from the first to the last byte of an exchange: whoever takes a byte now and then does not
/// hold a place for ever.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(60);

/// Between two looks for those who take longer.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long its thread may take to tell of its connections or to close one, and to end.
const THREAD_LIMIT: Duration = Duration::from_secs(1);

/// The endpoint, while it is served. Dropping it ends it, within a second.
#[derive(Debug)]
pub struct Admin {
    server: Server,
    operator: Arc<OnceLock<Arc<Operator>>>,
    /// Dropped to end the thread that closes whoever takes too long.
    _end: mpsc::Sender<()>,
}

impl Admin {
    /// Makes it ready to listen, on a socket that this process was given if one has its address.
    ///
    /// # Errors
    /// Why it cannot listen.
    pub fn prepare(
        AdminAddress(address): &AdminAddress,
        inherited: &Inherited,
    ) -> Result<ReadyAdmin, StartError> {
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
            .prepare(inherited)?;
        Ok(ReadyAdmin { server, operator })
    }

    #[cfg(test)]
    fn start_with(
        address: &AdminAddress,
        limits: (Duration, Duration),
    ) -> Result<Self, StartError> {
        Self::prepare(address, &Inherited::default())?.serve_with(limits)
    }

    /// Steers the server behind it.
    pub fn handle(&self) -> Handle {
        self.server.handle()
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

/// The endpoint, before it listens. Dropping it ends it.
#[derive(Debug)]
pub struct ReadyAdmin {
    server: Ready,
    operator: Arc<OnceLock<Arc<Operator>>>,
}

impl ReadyAdmin {
    /// Listens, and answers that nothing is ready yet.
    ///
    /// # Errors
    /// It has no thread.
    pub fn serve(self) -> Result<Admin, StartError> {
        self.serve_with((EXCHANGE_LIMIT, LOOK_INTERVAL))
    }

    fn serve_with(self, (limit, interval): (Duration, Duration)) -> Result<Admin, StartError> {
        let (end, ended) = mpsc::channel();
        let handle = self.server.handle();
        let look = move || {
            while ended.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                close_older(&handle, limit);
            }
        };
        let spawned = self.server.handle().spawn("admin-limit", look);
        spawned.map_err(|error| StartError::Thread(NoThread::new(&error)))?;
        Ok(Admin { server: self.server.serve(), operator: self.operator, _end: end })
    }
}

/// Closes connections that are open for longer than this.
fn close_older(handle: &Handle, limit: Duration) {
    if handle.statistics().open == 0 {
        return;
    }
    let all = handle.connections(THREAD_LIMIT).unwrap_or_default();
    for connection in all.iter().filter(|it| it.listed.age >= limit) {
        handle.close(connection.id, THREAD_LIMIT);
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.server.handle().stop();
        // The file of a unix socket goes with the thread that listens. Why it stopped has been told.
        let _ = self.server.wait(THREAD_LIMIT);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const SOON: Duration = Duration::from_secs(20);

    /// On a unix socket, with its path.
    fn admin(name: &str, limit: Duration) -> (Admin, std::path::PathBuf) {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let address = format!("unix:{}", path.display()).parse().unwrap();
        (Admin::start_with(&address, (limit, 10 * MS)).unwrap(), path)
    }

    #[test]
    fn whoever_drips_a_request_for_ever_is_closed() {
        let (_admin, path) = admin("admin-drip", 100 * MS);
        let mut client = UnixStream::connect(&path).unwrap();
        let begun = Instant::now();
        client.write_all(b"GET / HTTP/1.1\r\nA: ").unwrap();
        while client.write_all(b"a").is_ok() {
            assert!(begun.elapsed() < SOON, "it is still open");
            std::thread::sleep(5 * MS);
        }
    }

    #[test]
    fn whoever_is_soon_gets_an_answer() {
        let (_admin, path) = admin("admin-soon", SOON);
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("starting\n"), "{answer}");
    }

    #[test]
    fn the_file_of_its_socket_goes_with_it() {
        let (admin, path) = admin("admin-file", SOON);
        assert!(path.exists());
        let _open = UnixStream::connect(&path).unwrap();
        drop(admin);
        assert!(!path.exists());
    }
}
