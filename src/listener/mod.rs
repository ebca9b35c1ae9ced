//! A bound, listening socket and the truth about its queue.
//!
//! ```text
//!   bind() --> admitting --- stop_admitting() ---> draining --- drop ---> closed
//!              new and queued                      queued and half-open
//!              connections are accepted            connections are accepted
//! ```
//!
//! The socket is blocking, although nobody ever blocks on it: an io_uring accept waits for a
//! connection on either kind on Linux 6.18 (seen), but older kernels ended it with EAGAIN on an
//! O_NONBLOCK listener. A TCP socket is never shut down, which would reset its queue: whoever has
//! accepts armed on it cancels them, reaps the last completion and drops the `Listener`.

mod backlog;
mod error;
mod inherited;
mod lookup;
mod pressure;
mod queue_waits;
mod socket_file;
mod syn_filter;
mod tcp;
mod unix;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use socket2::Socket;

use crate::config::{ListenAddress, SocketOptions, UnixAddress};
use crate::metrics::Pauses;
use crate::sys;

pub use backlog::{Backlog, expected as expected_backlog};
pub use error::BindError;
pub use inherited::{Given, Inherited, OWN_PREFIX, Origin, own_name};
pub use lookup::{Bound, Wanted};
pub use pressure::{Pressure, PressureRules};
pub use queue_waits::QueueWaits;

use error::Failure;
pub use socket_file::Identity as FileIdentity;
use socket_file::SocketFile;
use syn_filter::SynFilter;

/// How long an address that is in use is tried again. A ring that ends releases its sockets a
/// little after its process, so that a restart finds its own address taken (seen on 6.18).
const IN_USE_RETRY_FOR: Duration = Duration::from_secs(1);

/// Between two tries.
const IN_USE_RETRY_STEP: Duration = Duration::from_millis(20);

/// Who else may listen on the address. A unix socket cannot be shared: there all are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody.
    Exclusive,
    /// Nobody yet, but others may join later, with SO_REUSEPORT; the kernel then spreads connections
    /// over all of them. Another server that listens there already is an error, although it may
    /// share too: half of the connections would be its.
    Found,
    /// Joins those that listen there already.
    Join,
}

/// Who may connect to a unix socket with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Whom the umask lets.
    ByUmask,
    /// The user of this process, and root.
    Owner,
}

/// What is in the accept queue now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptQueue {
    /// Completed connections that nobody has accepted yet; `None` for a unix socket, whose queue
    /// the kernel does not tell.
    pub waiting: Option<u32>,
    /// The backlog in force. The queue is full with one connection more than this.
    pub limit: u32,
    /// SYNs and completed handshakes that this listener dropped since it was made, for whatever
    /// reason: an overflow only if the queue was at its limit. It wraps. `None` for a unix socket,
    /// whose clients wait instead.
    pub drops: Option<u32>,
}

/// A listening socket. Dropping it closes the socket, which resets what is still in its queue.
#[derive(Debug)]
pub struct Listener {
    /// Before `socket`, so that it is dropped first: see [`SocketFile`].
    file: Option<SocketFile>,
    /// Whether somebody else keeps it open, see [`Inherited`].
    is_kept: AtomicBool,
    /// Whether that is so whatever happens: it belongs to a supervisor.
    is_of_others: bool,
    /// Whether it came from the process before this one.
    is_handed_over: bool,
    /// Whether another process accepts on it, and this one does not.
    is_given_away: AtomicBool,
    drops_before: u32,
    socket: Socket,
    address: ListenAddress,
    backlog: Mutex<Backlog>,
    waits: Arc<QueueWaits>,
    pauses: Arc<Pauses>,
    syn_filter: SynFilter,
    pressure: Arc<Pressure>,
}

impl Listener {
    /// Binds and listens. An address that is in use is tried again for up to a second, during which
    /// the call blocks. A unix socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// The reason why the address cannot be listened on; its text is for the operator.
    pub fn bind(
        address: &ListenAddress,
        options: &SocketOptions,
        sharing: Sharing,
    ) -> Result<Self, BindError> {
        Self::patiently(address, || Self::try_bind(address, options, sharing))
    }

    /// The same for a unix socket that is for its owner alone: its file has mode 0600 from its first moment. (An
    /// abstract name has no permissions.)
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_private(name: &UnixAddress, options: &SocketOptions) -> Result<Self, BindError> {
        let address = ListenAddress::Unix(name.clone());
        Self::patiently(&address, || unix::listen(name, options, Access::Owner))
    }

    fn patiently(
        address: &ListenAddress,
        bind: impl Fn() -> Result<Self, Failure>,
    ) -> Result<Self, BindError> {
        let deadline = Instant::now() + IN_USE_RETRY_FOR;
        loop {
            match bind() {
                Err(failure) if failure.is_in_use() && Instant::now() < deadline => {
                    thread::sleep(IN_USE_RETRY_STEP);
                }
                result => return result.map_err(|failure| failure.at(address)),
            }
        }
    }

    fn try_bind(
        address: &ListenAddress,
        options: &SocketOptions,
        sharing: Sharing,
    ) -> Result<Self, Failure> {
        match address {
            ListenAddress::Tcp(address) => tcp::listen(*address, options, sharing),
            ListenAddress::Unix(name) => unix::listen(name, options, Access::ByUmask),
        }
    }

    /// Where it listens, with the port that the kernel chose if none was configured.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// The length of the accept queue, as asked for and as given.
    pub fn backlog(&self) -> Backlog {
        // Whoever panicked with it has left it whole.
        *self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the options of a socket that listens, its backlog included; what is in the accept queue stays.
    /// Whether an IPv6 wildcard takes IPv4 cannot be changed.
    ///
    /// # Errors
    /// Those of setsockopt(2) and listen(2), with what was tried.
    pub fn configure(&self, options: &SocketOptions) -> Result<(), BindError> {
        let configured = match self.address {
            ListenAddress::Tcp(_) => tcp::configure(&self.socket, options),
            ListenAddress::Unix(_) => unix::configure(&self.socket, options),
        };
        let backlog = configured.map_err(|failure| failure.at(&self.address))?;
        *self.backlog.lock().unwrap_or_else(PoisonError::into_inner) = backlog;
        if matches!(self.address, ListenAddress::Tcp(_)) {
            self.waits.look_at_one_in(options.queue_wait_sample);
        }
        Ok(())
    }

    /// Whether connections wait too long, and what is done about it.
    pub fn pressure(&self) -> &Arc<Pressure> {
        &self.pressure
    }

    /// Whether TCP_DEFER_ACCEPT is on. Then the ACK that ends a handshake counts as a drop.
    pub fn drops_what_it_defers(&self) -> bool {
        sys::tcp_defer_accept(self.socket.as_fd()).is_ok_and(|seconds| seconds > 0)
    }

    /// What the kernel had dropped before this process got the socket.
    pub fn drops_before(&self) -> u32 {
        self.drops_before
    }

    /// How long connections have waited in the queue.
    pub fn waits(&self) -> &Arc<QueueWaits> {
        &self.waits
    }

    /// How long it was not accepted on.
    pub fn pauses(&self) -> &Arc<Pauses> {
        &self.pauses
    }

    /// Whether it is a unix socket whose file has been removed, so that nobody finds it any more.
    pub fn is_lost(&self) -> bool {
        self.file.as_ref().is_some_and(SocketFile::is_gone)
    }

    /// Which file the socket was bound to, if this process is to remove that.
    pub fn file(&self) -> Option<FileIdentity> {
        self.file.as_ref().map(SocketFile::identity)
    }

    /// Whether somebody waits to be accepted, of whatever kind the socket is. Nobody, as far as can be seen, at a unix
    /// socket that has [stopped admitting](Self::stop_admitting).
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn is_waited_at(&self) -> io::Result<bool> {
        let events = sys::POLLIN | sys::POLLRDHUP;
        let mut polled = [sys::Polled::new(self.socket.as_fd(), events)];
        sys::poll(&mut polled, Some(Duration::ZERO))?;
        Ok(polled[0].ready & events == sys::POLLIN)
    }

    /// What is in the accept queue now.
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn queue(&self) -> io::Result<AcceptQueue> {
        match self.address {
            ListenAddress::Tcp(_) => tcp::queue(&self.socket),
            ListenAddress::Unix(_) => Ok(unix::queue(self.backlog())),
        }
    }

    /// Whether somebody else keeps the socket open, so that whatever waits in its queue is accepted by whoever is
    /// given it next. Such a listener is not told to stop admitting, but dropped.
    pub fn is_kept(&self) -> bool {
        self.is_kept.load(Ordering::Acquire)
    }

    /// Another process listens on it from now on, and does what there is to do about its file.
    pub fn give_away(&self) {
        self.is_given_away.store(true, Ordering::Release);
        self.is_kept.store(true, Ordering::Release);
        self.file.iter().for_each(|file| file.give_away(true));
    }

    /// Whether it was [given away](Self::give_away).
    pub fn is_given_away(&self) -> bool {
        self.is_given_away.load(Ordering::Acquire)
    }

    /// The process that it was handed over by has given it up: it is as good as one that was made here.
    pub fn make_own(&self) {
        self.is_given_away.store(false, Ordering::Release);
        self.is_kept.store(self.is_of_others, Ordering::Release);
        self.file.iter().for_each(|file| file.give_away(false));
    }

    /// Whether another process that it came from may still take it back.
    pub fn is_handed_over(&self) -> bool {
        self.is_handed_over
    }

    /// Makes it such as io_uring accepts on: another process that had it may have left it otherwise, and it is the same
    /// for both.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub fn make_blocking(&self) -> io::Result<()> {
        self.socket.set_nonblocking(false)
    }

    /// Refuses connections that have not begun, while those that have can still be accepted: call
    /// it, accept what comes, then drop the listener. A handshake whose last segment is under way
    /// when the queue is first seen empty needs a round trip more; dropping the listener before
    /// that resets it.
    ///
    /// With CAP_NET_ADMIN a TCP client meets silence and tries again, at the listener that comes after
    /// this one; without, it is refused, and an established connection is safe all the same. The path
    /// of a unix socket is removed, which frees it for the listener that comes after, and the socket
    /// refuses: an accept on its empty queue fails with EINVAL from then on. An abstract name is free
    /// once the listener is dropped.
    ///
    /// # Errors
    /// Those of setsockopt(2), unlink(2) or shutdown(2).
    pub fn stop_admitting(&self) -> io::Result<()> {
        match self.address {
            ListenAddress::Tcp(_) => self.syn_filter.drain(|| tcp::refuse(&self.socket)),
            ListenAddress::Unix(_) => unix::refuse(&self.socket, self.file.as_ref()),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests;
