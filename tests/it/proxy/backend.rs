//! Backends of the tests: a thread that accepts and one for each connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::client::{IO_TIMEOUT, reset};
use crate::harness::SOON;

/// A server of the tests. Ends when it is dropped; connections that it has go on.
pub(super) struct Backend {
    address: SocketAddr,
    state: Arc<State>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    over: AtomicBool,
    accepted: AtomicUsize,
    /// What the threads of connections panicked with.
    panics: Mutex<Vec<String>>,
}

impl Backend {
    /// Each connection is served by `serve`, in a thread of its own.
    pub(super) fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::start_on("127.0.0.1:0".parse().expect("it is an address"), serve)
    }

    /// The same at an address that was used before.
    pub(super) fn start_on(
        address: SocketAddr,
        serve: impl Fn(TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("the address is free");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State::default());
        let accepting = thread::spawn({
            let state = Arc::clone(&state);
            move || accept(&listener, &state, &Arc::new(serve))
        });
        Self { address, state, accepting: Some(accepting) }
    }

    /// Sends everything back, and a FIN for a FIN.
    pub(super) fn echo() -> Self {
        Self::start(echo)
    }

    /// Says its name in a line, then sends everything back.
    pub(super) fn named(name: &'static str) -> Self {
        Self::start(move |stream| greet(name, stream))
    }

    /// Hands its connections to the test.
    pub(super) fn handing_over() -> (Self, Connections) {
        let (sender, receiver) = channel();
        let backend = Self::start(move |stream| {
            let _ = sender.send(stream);
        });
        (backend, Connections(receiver))
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// As an operand of `--to`.
    pub(super) fn to(&self) -> String {
        self.address.to_string()
    }

    /// Connections that have come so far.
    pub(super) fn accepted(&self) -> usize {
        self.state.accepted.load(Ordering::SeqCst)
    }

    /// Holds that no connection has been served wrongly.
    #[track_caller]
    pub(super) fn expect_no_panic(&self) {
        let panics = self.state.panics.lock().expect("nobody panics with it");
        assert!(panics.is_empty(), "{panics:#?}");
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect_timeout(&self.address, SOON);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn accept<S>(listener: &TcpListener, state: &Arc<State>, serve: &Arc<S>)
where
    S: Fn(TcpStream) + Send + Sync + 'static,
{
    for stream in listener.incoming() {
        let stream = stream.expect("there are descriptors");
        if state.over.load(Ordering::SeqCst) {
            // The call that ends this, or a connection that came before it: no regular end.
            return reset(stream);
        }
        state.accepted.fetch_add(1, Ordering::SeqCst);
        stream.set_read_timeout(Some(IO_TIMEOUT)).expect("not zero");
        stream.set_write_timeout(Some(IO_TIMEOUT)).expect("not zero");
        stream.set_nodelay(true).expect("it is TCP");
        let (state, serve) = (Arc::clone(state), Arc::clone(serve));
        thread::spawn(move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| serve(stream))) {
                let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                state.panics.lock().expect("nobody panics with it").push(text);
            }
        });
    }
}

/// Sends everything back until the FIN or an error.
pub(super) fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// Says `name` in a line, then sends everything back.
pub(super) fn greet(name: &str, mut stream: TcpStream) {
    if stream.write_all(format!("{name}\n").as_bytes()).is_ok() {
        echo(stream);
    }
}

/// Connections that a backend has got.
pub(super) struct Connections(Receiver<TcpStream>);

impl Connections {
    /// The next one.
    #[track_caller]
    pub(super) fn next(&self) -> TcpStream {
        self.0.recv_timeout(SOON).expect("a connection comes")
    }

    /// Holds that none comes for a while.
    #[track_caller]
    pub(super) fn expect_none(&self) {
        assert!(self.0.recv_timeout(super::A_WHILE).is_err(), "a connection came");
    }
}

/// An address at which connects are refused for as long as this lives.
pub(super) struct Refusing(Socket);

impl Refusing {
    /// Bound, so that nobody else gets the port, and not listening.
    pub(super) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("it is an address");
        socket.bind(&any.into()).expect("a port is free");
        Self(socket)
    }

    pub(super) fn to(&self) -> String {
        let address = self.0.local_addr().expect("it is bound");
        address.as_socket().expect("it is IPv4").to_string()
    }
}

/// An address at which connects get no answer: its accept queue is full and nobody accepts.
pub(super) struct BlackHole {
    listener: Socket,
    _waiting: Vec<TcpStream>,
}

impl BlackHole {
    pub(super) fn new() -> Self {
        const QUIET: Duration = Duration::from_millis(300);
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("it is an address");
        listener.bind(&any.into()).expect("a port is free");
        listener.listen(0).expect("it is bound");
        let address = listener.local_addr().expect("it is bound");
        let address = address.as_socket().expect("it is IPv4");
        let connect = |_| TcpStream::connect_timeout(&address, QUIET).ok();
        let waiting = (0..10).map_while(connect).collect();
        Self { listener, _waiting: waiting }
    }

    pub(super) fn to(&self) -> String {
        let address = self.listener.local_addr().expect("it is bound");
        address.as_socket().expect("it is IPv4").to_string()
    }
}

/// An address that a listener can have again and again: the socket is bound and does not listen, so
/// that nobody else gets the port in between.
pub(super) fn held_address() -> (Socket, SocketAddr) {
    let holder = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    holder.set_reuse_address(true).expect("it can be set");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("it is an address");
    holder.bind(&any.into()).expect("a port is free");
    let address = holder.local_addr().expect("it is bound");
    (holder, address.as_socket().expect("it is IPv4"))
}

/// A backend that is there for a while, gone for a while, and so on; it resets what it has when it
/// goes.
pub(super) struct Flapping {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _holder: Socket,
}

impl Flapping {
    pub(super) fn every(time: Duration) -> Self {
        let (holder, address) = held_address();
        let over = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let over = Arc::clone(&over);
            move || {
                while !over.load(Ordering::SeqCst) {
                    let gone = Arc::new(AtomicBool::new(false));
                    let seen = Arc::clone(&gone);
                    let up = Backend::start_on(address, move |stream| echo_until(stream, &seen));
                    thread::sleep(time);
                    gone.store(true, Ordering::SeqCst);
                    drop(up);
                    thread::sleep(time);
                }
            }
        });
        Self { address, over, thread: Some(thread), _holder: holder }
    }

    pub(super) fn to(&self) -> String {
        self.address.to_string()
    }

    /// It stays, and works.
    pub(super) fn settle(mut self) -> Backend {
        self.end();
        Backend::start_on(self.address, echo)
    }

    fn end(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it does not panic");
        }
    }
}

impl Drop for Flapping {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end();
        }
    }
}

/// Echoes until the peer ends, or resets when `gone` is set.
fn echo_until(mut stream: TcpStream, gone: &AtomicBool) {
    const LOOK: Duration = Duration::from_millis(10);
    stream.set_read_timeout(Some(LOOK)).expect("not zero");
    let mut buffer = [0; 4096];
    while !gone.load(Ordering::SeqCst) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                if stream.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
    reset(stream);
}
