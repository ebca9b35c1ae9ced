//! The network from outside: what clients, servers elsewhere and whoever drives the world do.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::super::operation::Kind;
use super::Faults;
use super::listener::Listener;
use super::socket::{Listening, Role, SocketId, Stage, Stream};
use super::token::{NEAR, NEAR_PORTS_FROM};
use super::world::{Happening, World};

/// What is at a port on which nobody listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// A reset answers the SYN.
    Refuses,
    /// Nothing answers.
    Swallows,
    /// It accepts, and then neither reads nor writes.
    Silent,
    /// It accepts, and resets a little later.
    Resets,
}

/// A simulated network and the kernel on it. Clones are the same network.
#[derive(Debug, Clone)]
pub struct Network(pub(super) Rc<RefCell<World>>);

impl Network {
    /// A network without sockets; `seed` decides everything that `faults` leaves open.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self(Rc::new(RefCell::new(World::new(seed, faults))))
    }

    /// Keeps a trace from now on.
    pub fn trace(&self) {
        self.0.borrow_mut().trace = Some(String::new());
    }

    /// The trace so far; empty if none is kept.
    pub fn take_trace(&self) -> String {
        self.0.borrow_mut().trace.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Adds a line to the trace, if one is kept.
    pub fn note(&self, who: &str, text: impl FnOnce() -> String) {
        self.0.borrow_mut().note(who, text);
    }

    /// Virtual time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.borrow().now
    }

    /// The same as a moment.
    pub fn now(&self) -> Instant {
        let world = self.0.borrow();
        world.start + world.now
    }

    /// Lets time pass without anything else. What was due meanwhile is late.
    pub fn pass(&self, duration: Duration) {
        self.0.borrow_mut().now += duration;
    }

    /// When something is due next.
    pub fn next_due(&self) -> Option<Duration> {
        self.0.borrow().next_due()
    }

    /// Does what is due next, moving time to it. Returns whom to call, if it is that.
    pub fn run_next(&self) -> Option<u32> {
        self.0.borrow_mut().run_next()
    }

    /// From now on the agenda is run by whoever calls [`run_next`](Self::run_next); entering a ring
    /// only starts and reaps.
    pub fn drive(&self) {
        self.0.borrow_mut().driven = true;
    }

    /// Whether a descriptor may be dropped instead of being closed by an operation.
    pub fn allow_drops(&self, allowed: bool) {
        self.0.borrow_mut().drops_allowed = allowed;
    }

    /// The first breach of the contract that was seen.
    pub fn violation(&self) -> Option<String> {
        self.0.borrow().violation.clone()
    }

    /// Looks for descriptors that were dropped, and returns how many are held.
    pub fn sweep(&self) -> usize {
        self.0.borrow_mut().sweep()
    }

    /// Asks to be called at some time.
    pub fn call_at(&self, when: Duration, whom: u32) {
        self.0.borrow_mut().at(when, Happening::Call(whom));
    }

    /// A listening socket on the next free port.
    pub fn listen(&self, backlog: usize) -> Listener {
        let mut world = self.0.borrow_mut();
        let port = world.next_port;
        world.next_port += 1;
        let listening = Listening {
            port,
            backlog,
            queue: std::collections::VecDeque::new(),
            admitting: true,
            refusing: false,
            watcher: None,
            shortage: None,
            broken: None,
        };
        let id = world.add(Role::Listening(listening), None);
        let descriptor = Some(world.give_out(id));
        drop(world);
        Listener { network: self.clone(), id, port, descriptor }
    }

    /// What happens to connections to a port without a listener.
    pub fn behave(&self, port: u16, behaviour: Behaviour) {
        self.0.borrow_mut().behaviours.insert(port, behaviour);
    }

    /// Begins a connection to a port. `windows` are the bytes that either side takes before the
    /// other has to wait, towards the listener first. `watcher` is called when something changes.
    pub fn dial(&self, port: u16, windows: (usize, usize), watcher: Option<u32>) -> RemoteEnd {
        self.begin(port, Stream::new(windows, watcher, self.elapsed()))
    }

    /// The same from an address, which has to be of 127.0.0.0/8. Whoever accepts the connection can
    /// ask for its addresses.
    pub fn dial_from(
        &self,
        peer: SocketAddr,
        port: u16,
        windows: (usize, usize),
        watcher: Option<u32>,
    ) -> RemoteEnd {
        let addresses = Some((Self::near_address(port), peer));
        self.begin(port, Stream { addresses, ..Stream::new(windows, watcher, self.elapsed()) })
    }

    /// The address that a connection with addresses was made to, on the side that accepts it.
    pub fn near_address(port: u16) -> SocketAddr {
        SocketAddr::from((NEAR, NEAR_PORTS_FROM + port))
    }

    fn begin(&self, port: u16, stream: Stream) -> RemoteEnd {
        let mut world = self.0.borrow_mut();
        let id = world.add(Role::Stream(Box::new(stream)), None);
        world.note("", || format!("c{} dials port {port}", id.0));
        world.dial(id, port);
        drop(world);
        RemoteEnd { network: self.clone(), id }
    }

    /// Whether a send, or the way to a connection, is in flight anywhere.
    pub fn is_sending(&self) -> bool {
        let world = self.0.borrow();
        let sends = |kind| matches!(kind, Kind::Send | Kind::Connect | Kind::Open);
        world.operations.values().any(|operation| sends(operation.what.kind()))
    }

    /// A connection with something to be read about which no operation is in flight, although a ring
    /// has worked on it and no other operation can go on.
    pub fn forgotten(&self) -> Option<usize> {
        let mut world = self.0.borrow_mut();
        if world.operations.values().any(|operation| operation.scheduled) {
            return None;
        }
        world.sockets.iter_mut().position(|socket| {
            let idle = socket.token.is_some() && socket.in_flight.is_empty() && socket.has_owner();
            idle && socket
                .stream()
                .is_some_and(|stream| stream.touched.is_some() && stream.has_news())
        })
    }
}

/// What a read at the remote end brings.
#[derive(Debug, PartialEq, Eq)]
pub enum RemoteRead {
    /// Bytes, at least one.
    Bytes(Vec<u8>),
    /// Nothing yet.
    Nothing,
    /// The FIN.
    End,
    /// A reset.
    Reset,
    /// The handshake has failed.
    Refused,
}

/// The end of a connection that no ring works on. Does nothing when it is dropped.
#[derive(Debug)]
pub struct RemoteEnd {
    pub(super) network: Network,
    pub(super) id: SocketId,
}

impl RemoteEnd {
    /// Its number in the trace.
    pub fn number(&self) -> usize {
        self.id.0
    }

    /// `watcher` is called when something changes; `windows` are as in [`Network::dial`], seen from
    /// the end that a ring works on.
    pub fn watch(&self, watcher: u32, windows: (usize, usize)) {
        self.with(|stream| {
            stream.watcher = Some(watcher);
            (stream.incoming.window, stream.outgoing.window) = windows;
        });
    }

    /// Whether the handshake is complete.
    pub fn is_established(&self) -> bool {
        self.with(|stream| stream.stage == Stage::Established)
    }

    /// Whether the near end has closed it and nothing is left to be read.
    pub fn is_over(&self) -> bool {
        self.with(|stream| {
            let broken = stream.reset || stream.near_reset || stream.stage != Stage::Established;
            let closed = stream.near_closed && stream.outgoing.bytes.is_empty();
            (broken || closed) && stream.stage != Stage::Connecting
        })
    }

    /// Whether the near end has closed it, read or not.
    pub fn is_closed(&self) -> bool {
        self.with(|stream| stream.near_closed)
    }

    /// Whether the near end has closed it over unread bytes.
    pub fn is_reset_by_server(&self) -> bool {
        self.with(|stream| stream.near_reset)
    }

    /// Whether the network has broken it.
    pub fn is_broken(&self) -> bool {
        self.with(|stream| stream.faulted)
    }

    /// Since when a ring has worked on it.
    pub fn worked_on_since(&self) -> Option<Duration> {
        self.with(|stream| stream.touched)
    }

    /// When the near end was last asked for what this end has said.
    pub fn asked_at(&self) -> Option<Duration> {
        self.with(|stream| stream.asked_at)
    }

    /// For how long nothing had moved when the near end began to end it.
    pub fn idle_when_ended(&self) -> Option<Duration> {
        self.with(|stream| stream.ended)
    }

    /// For how long nothing had moved when the near end began to end both directions.
    pub fn idle_when_given_up(&self) -> Option<Duration> {
        self.with(|stream| stream.given_up)
    }

    /// Takes at most so many bytes.
    pub fn read(&self, most: usize) -> RemoteRead {
        let read = self.with(|stream| match stream.stage {
            Stage::Connecting => RemoteRead::Nothing,
            Stage::Failed(_) => RemoteRead::Refused,
            Stage::Established if !stream.outgoing.bytes.is_empty() => {
                RemoteRead::Bytes(stream.outgoing.take(most))
            }
            Stage::Established if stream.near_reset || stream.reset => RemoteRead::Reset,
            Stage::Established if stream.outgoing.fin => RemoteRead::End,
            Stage::Established => RemoteRead::Nothing,
        });
        if let RemoteRead::Bytes(bytes) = &read {
            let mut world = self.network.0.borrow_mut();
            world.note("", || format!("c{} peer reads {}", self.id.0, bytes.len()));
            world.kick(self.id);
        }
        read
    }

    /// Sends as many of the bytes as the window takes, and says how many. What is sent to an end
    /// that is closed comes back as a reset.
    pub fn write(&self, bytes: &[u8]) -> usize {
        let written = self.with(|stream| {
            if stream.stage != Stage::Established || stream.reset || stream.near_reset {
                return 0;
            }
            if stream.near_closed {
                stream.near_reset = true;
                return bytes.len();
            }
            let count = stream.incoming.room().min(bytes.len());
            stream.incoming.bytes.extend(&bytes[..count]);
            count
        });
        if written > 0 {
            let mut world = self.network.0.borrow_mut();
            world.note("", || format!("c{} peer writes {written}", self.id.0));
            world.kick(self.id);
        }
        written
    }

    /// Sends the FIN.
    pub fn finish(&self) {
        self.with(|stream| stream.incoming.fin = true);
        let mut world = self.network.0.borrow_mut();
        world.note("", || format!("c{} peer sends FIN", self.id.0));
        world.kick(self.id);
    }

    /// Resets the connection.
    pub fn reset(&self) {
        self.network.0.borrow_mut().note("", || format!("c{} peer resets", self.id.0));
        self.network.0.borrow_mut().break_off(self.id);
    }

    /// Closes it: with a reset if something is left to be read, otherwise with the FIN.
    pub fn close(&self) {
        let unread = self.with(|stream| {
            stream.far_closed = true;
            !stream.outgoing.bytes.is_empty()
        });
        if unread {
            return self.reset();
        }
        if !self.with(|stream| stream.incoming.fin) {
            self.finish();
        }
        self.network.0.borrow_mut().kick(self.id);
    }

    fn with<T>(&self, look: impl FnOnce(&mut Stream) -> T) -> T {
        look(self.network.0.borrow_mut().stream(self.id))
    }

    /// Lets the network run until `ready`, for at most five virtual seconds.
    fn wait_until(&self, mut ready: impl FnMut() -> bool) -> io::Result<()> {
        let deadline = self.network.elapsed() + Duration::from_secs(5);
        while !ready() {
            match self.network.next_due() {
                Some(due) if due <= deadline => drop(self.network.run_next()),
                _ => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
        Ok(())
    }
}

/// Waits by letting the network run; for tests in which nobody else drives it.
impl io::Read for RemoteEnd {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let mut read = RemoteRead::Nothing;
        self.wait_until(|| {
            read = RemoteEnd::read(self, target.len());
            read != RemoteRead::Nothing
        })?;
        match read {
            RemoteRead::Bytes(bytes) => {
                target[..bytes.len()].copy_from_slice(&bytes);
                Ok(bytes.len())
            }
            RemoteRead::Nothing | RemoteRead::End => Ok(0),
            RemoteRead::Reset | RemoteRead::Refused => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

impl io::Write for RemoteEnd {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        self.wait_until(|| {
            written = RemoteEnd::write(self, bytes);
            written > 0
        })?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
