//! The contract of `ring/mod.rs` as tests that any engine can be put through, on real sockets or on
//! those of a [`Network`] of its own.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::Domain;

use super::*;

mod edges;
mod files;
mod gathered;
mod pipes;
mod released;
mod shared;

const MANY: Shots = Shots::Many { credit_bytes: 1 << 20 };

/// Where the sockets are that a ring works on, and the other ends of them.
pub(super) trait Network {
    /// A listening socket.
    type Listener: AsFd;
    /// The other end of a connection. Reads and writes wait; dropping it closes it.
    type Peer: Read + Write;

    fn listen(&self) -> (Self::Listener, SocketAddr);
    fn connect(&self, address: SocketAddr) -> Self::Peer;
    /// Takes a connection from the queue, without a ring.
    fn accept(&self, listener: &Self::Listener) -> Self::Peer;
    /// A connection: the ring's end and the other.
    fn pair(&self) -> (OwnedFd, Self::Peer);
    fn send_fin(&self, peer: &Self::Peer);
    fn reset(&self, peer: Self::Peer);
    /// Reads so many bytes while the ring works; what is returned waits for the last of them.
    fn read_meanwhile(
        &self,
        peer: Self::Peer,
        bytes: usize,
    ) -> impl FnOnce() -> Vec<u8> + use<Self>;
}

/// The real sockets of this machine.
pub(super) struct Loopback;

impl Network for Loopback {
    type Listener = TcpListener;
    type Peer = TcpStream;

    fn listen(&self) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn connect(&self, address: SocketAddr) -> TcpStream {
        let client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client
    }

    fn accept(&self, listener: &TcpListener) -> TcpStream {
        listener.accept().unwrap().0
    }

    fn pair(&self) -> (OwnedFd, TcpStream) {
        let (listener, address) = self.listen();
        let client = self.connect(address);
        (self.accept(&listener).into(), client)
    }

    fn send_fin(&self, peer: &TcpStream) {
        peer.shutdown(Shutdown::Write).unwrap();
    }

    fn reset(&self, peer: TcpStream) {
        socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    }

    fn read_meanwhile(
        &self,
        mut peer: TcpStream,
        bytes: usize,
    ) -> impl FnOnce() -> Vec<u8> + use<> {
        let reader = std::thread::spawn(move || {
            let mut read = vec![0; bytes];
            peer.read_exact(&mut read).unwrap();
            read
        });
        || reader.join().unwrap()
    }
}

/// A ring with its queues, and how the tests talk about it.
struct Bench<R: Ring, N: Network> {
    ring: R,
    network: N,
    operations: Operations,
    completions: Vec<Completion>,
}

impl<R: Ring, N: Network> Bench<R, N> {
    fn new((ring, network): (R, N)) -> Self {
        Self { ring, network, operations: Operations::default(), completions: Vec::new() }
    }

    fn start(&mut self, slot: u32, operation: Operation) {
        self.operations.push(Key::fixed(slot), operation);
        self.enter(Wait::No);
    }

    fn enter(&mut self, wait: Wait) {
        self.ring.enter(&mut self.operations, &mut self.completions, wait).unwrap();
    }

    /// The next completion, within five seconds.
    #[track_caller]
    fn next(&mut self) -> Completion {
        for _ in 0..50 {
            if !self.completions.is_empty() {
                return self.completions.remove(0);
            }
            self.enter(Wait::For(Duration::from_millis(100)));
        }
        panic!("nothing completed");
    }

    #[track_caller]
    fn received(&mut self) -> (Vec<u8>, bool) {
        let completion = self.next();
        match completion.event {
            Event::Received(Ok(Received::Bytes { buffer, len })) => {
                let bytes = self.ring.buffers().bytes(&buffer, 0..len).to_vec();
                self.ring.buffers().recycle(buffer);
                (bytes, completion.more)
            }
            Event::Received(Ok(Received::End)) => (Vec::new(), completion.more),
            other => panic!("no receive, but {other:?}"),
        }
    }

    #[track_caller]
    fn nothing_happens(&mut self) {
        self.enter(Wait::For(Duration::from_millis(20)));
        assert!(self.completions.is_empty(), "{:?}", self.completions);
    }
}

/// A connected pair of TCP sockets.
pub(super) fn pair() -> (TcpStream, TcpStream) {
    let (socket, peer) = Loopback.pair();
    (socket.into(), peer)
}

fn listener() -> (TcpListener, SocketAddr) {
    Loopback.listen()
}

/// Runs every test of the contract on real sockets, each on a ring of its own.
pub(super) fn run<R: Ring>(make: impl Fn() -> Option<R>) {
    run_on(|| make().map(|ring| (ring, Loopback)));
    for test in edges::tests()
        .into_iter()
        .chain(pipes::tests_on_sockets())
        .chain(files::tests_on_sockets())
        .chain(gathered::tests_on_sockets())
    {
        let Some(ring) = make() else { return };
        test(Bench::new((ring, Loopback)));
    }
    for test in released::tests_on_sockets() {
        let (Some(ring), Some(other)) = (make(), make()) else { return };
        test(Bench::new((ring, Loopback)), other);
    }
}

/// Runs every test of the contract, each on a ring and a network of its own.
pub(super) fn run_on<R: Ring, N: Network>(make: impl Fn() -> Option<(R, N)>) {
    let tests: [fn(Bench<R, N>); 15] = [
        accepts_many_until_cancelled,
        accepts_once,
        opens_and_connects,
        receives_once_and_takes_no_buffer_before,
        receives_many_up_to_the_credit,
        receives_until_the_buffers_are_gone,
        reports_end_and_reset,
        sends_everything,
        sends_and_closes,
        a_failed_send_and_close_closes_too,
        a_fin_may_follow_the_last_bytes,
        gives_up_with_a_reset,
        shuts_down_what_is_in_flight,
        is_woken_by_threads_and_rings,
        waits_no_longer_than_asked,
    ];
    let others = pipes::tests().into_iter().chain(shared::tests()).chain(released::tests());
    for test in tests.into_iter().chain(others).chain(files::tests()).chain(gathered::tests()) {
        let Some(made) = make() else { return };
        test(Bench::new(made));
    }
}

fn accepts_many_until_cancelled<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let (listener, address) = bench.network.listen();
    bench.start(3, Operation::Accept { listener: Descriptor::of(&listener), shots: MANY });
    let clients: Vec<_> = (0..20).map(|_| bench.network.connect(address)).collect();
    let mut armed = true;
    for _ in &clients {
        if !std::mem::replace(&mut armed, true) {
            bench.start(3, Operation::Accept { listener: Descriptor::of(&listener), shots: MANY });
        }
        let completion = bench.next();
        assert_eq!(completion.key, Key::fixed(3));
        assert!(matches!(completion.event, Event::Accepted(Ok(_))), "{completion:?}");
        armed = completion.more;
    }
    if !armed {
        bench.start(3, Operation::Accept { listener: Descriptor::of(&listener), shots: MANY });
    }
    bench.start(3, Operation::Cancel(Kind::Accept));
    let last = bench.next();
    assert!(!last.more && matches!(last.event, Event::Accepted(Err(Errno::ECANCELED))), "{last:?}");
    bench.nothing_happens();
}

fn accepts_once<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let (listener, address) = bench.network.listen();
    let accept = || Operation::Accept { listener: Descriptor::of(&listener), shots: Shots::Once };
    bench.start(0, accept());
    bench.start(0, accept());
    let clients: Vec<_> = (0..3).map(|_| bench.network.connect(address)).collect();
    for _ in 0..2 {
        let completion = bench.next();
        assert!(!completion.more && matches!(completion.event, Event::Accepted(Ok(_))));
    }
    bench.nothing_happens();
    drop(clients);
    // The third connection is still in the kernel's queue.
    bench.network.accept(&listener);
}

fn opens_and_connects<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let (listener, address) = bench.network.listen();
    let connect = |bench: &mut Bench<R, N>, address: SocketAddr| {
        bench.start(4, Operation::Open { domain: Domain::IPV4 });
        let Event::Opened(Ok(socket)) = bench.next().event else { panic!("no socket") };
        let socket_id = Descriptor::of(&socket);
        let address = Box::new(address.into());
        bench.operations.push(Key::fixed(4), Operation::Connect { socket: socket_id, address });
        let send =
            Operation::Send { socket: socket_id, bytes: Bytes::Static(b"early"), more: false };
        bench.operations.push(Key::fixed(5), send);
        let mut both = [bench.next(), bench.next()];
        both.sort_by_key(|completion| completion.key.slot);
        (socket, both)
    };
    let (_socket, [connected, sent]) = connect(&mut bench, address);
    assert!(matches!(connected.event, Event::Connected(Ok(()))), "{connected:?}");
    assert!(matches!(sent.event, Event::Sent(Ok(5))), "{sent:?}");
    let mut early = [0; 5];
    bench.network.accept(&listener).read_exact(&mut early).unwrap();
    assert_eq!(&early, b"early");
    drop(listener);
    let (_socket, [refused, unsent]) = connect(&mut bench, address);
    assert!(matches!(refused.event, Event::Connected(Err(Errno::ECONNREFUSED))), "{refused:?}");
    assert!(matches!(unsent.event, Event::Sent(Err(_))), "{unsent:?}");
}

fn receives_once_and_takes_no_buffer_before<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let (socket, mut client) = bench.network.pair();
    let receive = || Operation::Receive { socket: Descriptor::of(&socket), shots: Shots::Once };
    bench.enter(Wait::No);
    let free = bench.ring.buffers().free();
    bench.start(1, receive());
    bench.nothing_happens();
    assert_eq!(bench.ring.buffers().free(), free);
    client.write_all(b"once").unwrap();
    assert_eq!(bench.received(), (b"once".to_vec(), false));
    client.write_all(b"unasked").unwrap();
    bench.nothing_happens();
}

fn receives_many_up_to_the_credit<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    if !bench.ring.capabilities().receive_credit {
        return;
    }
    let (socket, mut client) = bench.network.pair();
    let shots = Shots::Many { credit_bytes: 1500 };
    bench.start(1, Operation::Receive { socket: Descriptor::of(&socket), shots });
    for _ in 0..2 {
        client.write_all(&[7; 400]).unwrap();
        assert_eq!(bench.received(), (vec![7; 400], true));
    }
    client.write_all(&[8; 3000]).unwrap();
    let mut received = 800;
    loop {
        let (bytes, more) = bench.received();
        received += bytes.len();
        if !more {
            break;
        }
    }
    let overshoot = received - 1500;
    assert!(overshoot <= bench.ring.buffers().buffer_bytes(), "{received} of 1500 bytes");
    bench.nothing_happens();
}

fn receives_until_the_buffers_are_gone<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let (socket, mut client) = bench.network.pair();
    client.write_all(b"waiting").unwrap();
    let receive = || Operation::Receive { socket: Descriptor::of(&socket), shots: Shots::Once };
    // Every buffer that is not with the kernel is ours, and every one with it gets used up.
    let mut held = Vec::new();
    let count = bench.ring.buffers().count();
    while held.len() < count {
        client.write_all(b"more").unwrap();
        bench.start(1, receive());
        match bench.next().event {
            Event::Received(Ok(Received::Bytes { buffer, .. })) => held.push(buffer),
            other => panic!("{other:?}"),
        }
    }
    client.write_all(b"late").unwrap();
    bench.start(1, receive());
    let starved = bench.next();
    assert!(!starved.more && matches!(starved.event, Event::Received(Err(Errno::ENOBUFS))));
    bench.ring.buffers().recycle(held.pop().unwrap());
    bench.start(1, receive());
    assert_eq!(bench.received(), (b"late".to_vec(), false));
}

fn reports_end_and_reset<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let (socket, client) = bench.network.pair();
    let receive = |socket: &OwnedFd| Operation::Receive {
        socket: Descriptor::of(socket),
        shots: Shots::Once,
    };
    bench.start(1, receive(&socket));
    bench.network.send_fin(&client);
    assert_eq!(bench.received(), (Vec::new(), false));

    let (socket, client) = bench.network.pair();
    bench.start(1, receive(&socket));
    bench.network.reset(client);
    let reset = bench.next();
    assert!(matches!(reset.event, Event::Received(Err(Errno::ECONNRESET))), "{reset:?}");
}

fn sends_everything<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let (socket, client) = bench.network.pair();
    // More than the socket buffers take, so the send has to wait for the peer in between.
    let bytes: &'static [u8] = Box::leak(vec![5; 16 << 20].into_boxed_slice());
    let socket_id = Descriptor::of(&socket);
    bench.start(9, Operation::Send { socket: socket_id, bytes: Bytes::Static(bytes), more: false });
    bench.nothing_happens();
    let reader = bench.network.read_meanwhile(client, bytes.len());
    let sent = bench.next();
    assert!(matches!(sent.event, Event::Sent(Ok(len)) if len == 16 << 20), "{sent:?}");
    assert!(reader().iter().all(|byte| *byte == 5));

    let (socket, mut client) = bench.network.pair();
    let mut buffer = bench.ring.buffers().take().unwrap();
    bench.ring.buffers().write(&mut buffer, 3, b"pool");
    let bytes = Bytes::Pool(bench.ring.buffers().range(&buffer, 3..7));
    bench.start(9, Operation::Send { socket: Descriptor::of(&socket), bytes, more: false });
    assert!(matches!(bench.next().event, Event::Sent(Ok(4))));
    bench.ring.buffers().recycle(buffer);
    let mut read = [0; 4];
    client.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"pool");
}

fn sends_and_closes<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let (socket, mut client) = bench.network.pair();
    let bytes = Bytes::Static(b"farewell");
    bench.start(2, Operation::SendAndClose { socket, bytes });
    let sent = bench.next();
    assert_eq!(sent.key, Key::fixed(2));
    assert!(!sent.more && matches!(sent.event, Event::Sent(Ok(8))), "{sent:?}");
    let mut read = Vec::new();
    client.read_to_end(&mut read).expect("a FIN and no reset");
    assert_eq!(read, b"farewell");
    bench.nothing_happens();
}

fn a_failed_send_and_close_closes_too<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    // The peer never reads, so the send stays in flight until it is cancelled.
    let (socket, mut client) = bench.network.pair();
    let bytes: &'static [u8] = Box::leak(vec![5; 16 << 20].into_boxed_slice());
    let bytes = Bytes::Static(bytes);
    bench.start(2, Operation::SendAndClose { socket, bytes });
    bench.nothing_happens();
    bench.start(2, Operation::Cancel(Kind::Send));
    let sent = bench.next();
    assert!(!sent.more && matches!(sent.event, Event::Sent(_)), "{sent:?}");
    bench.nothing_happens();
    let mut read = Vec::new();
    // The end comes only if the socket was closed; a read timeout is an error.
    client.read_to_end(&mut read).unwrap();
    assert!(read.len() < 16 << 20);
}

fn a_fin_may_follow_the_last_bytes<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let (socket, mut client) = bench.network.pair();
    let socket_id = Descriptor::of(&socket);
    let bytes = Bytes::Static(b"last");
    bench.start(1, Operation::Send { socket: socket_id, bytes, more: true });
    assert!(matches!(bench.next().event, Event::Sent(Ok(4))));
    bench.start(1, Operation::Shutdown { socket: socket_id, how: Shutdown::Write });
    let mut read = Vec::new();
    client.read_to_end(&mut read).expect("a FIN and no reset");
    assert_eq!(read, b"last");
    // The other direction is open.
    client.write_all(b"answer").unwrap();
    bench.start(1, Operation::Receive { socket: socket_id, shots: Shots::Once });
    assert_eq!(bench.received(), (b"answer".to_vec(), false));
}

fn gives_up_with_a_reset<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let (socket, mut client) = bench.network.pair();
    bench.start(1, Operation::Reset { socket });
    bench.nothing_happens();
    let error = client.read(&mut [0; 8]).expect_err("a reset is no end");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

fn shuts_down_what_is_in_flight<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let (socket, mut client) = bench.network.pair();
    let socket_id = Descriptor::of(&socket);
    bench.start(1, Operation::Receive { socket: socket_id, shots: Shots::Once });
    bench.start(1, Operation::Shutdown { socket: socket_id, how: Shutdown::Both });
    assert_eq!(bench.received(), (Vec::new(), false));
    bench.start(1, Operation::Close { socket });
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    bench.nothing_happens();
}

fn is_woken_by_threads_and_rings<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let waker = bench.ring.waker();
    for _ in 0..3 {
        waker.wake();
        waker.wake();
        bench.enter(Wait::Forever);
    }
    let thread = std::thread::spawn(move || waker.wake());
    bench.enter(Wait::Forever);
    thread.join().unwrap();
    let ring = bench.ring.address().descriptor();
    bench.operations.push(Key::fixed(0), Operation::Wake { ring });
    bench.enter(Wait::Forever);
    assert!(bench.completions.is_empty());
}

fn waits_no_longer_than_asked<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let start = bench.ring.now();
    bench.enter(Wait::No);
    bench.enter(Wait::For(Duration::from_millis(30)));
    assert!(bench.ring.now() - start >= Duration::from_millis(30));
}
