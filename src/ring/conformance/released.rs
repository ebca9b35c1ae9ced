//! Sockets that a ring gives back, and what it tells of what was under way on them.

use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::time::Instant;

use super::shared::long;
use super::*;
use crate::shared::SharedBytes;

/// The tests of this module that any network can be put through.
pub(super) fn tests<R: Ring, N: Network>() -> [fn(Bench<R, N>); 4] {
    [
        a_released_socket_comes_back_with_the_same_enter,
        no_byte_is_lost_between_a_cancel_and_a_release,
        a_cancelled_send_tells_what_has_gone,
        a_cancelled_send_of_which_nothing_has_gone_says_so,
    ]
}

/// The tests of this module that need real sockets, and another ring.
pub(super) fn tests_on_sockets<R: Ring>() -> [fn(Bench<R, Loopback>, R); 4] {
    [
        a_released_socket_goes_to_another_ring,
        a_released_socket_is_anybodys,
        the_fin_goes_with_the_last_owner,
        nothing_of_a_released_socket_stays_behind,
    ]
}

fn once(socket: &OwnedFd) -> Operation {
    Operation::Receive { socket: Descriptor::of(socket), shots: Shots::Once }
}

fn send(socket: &OwnedFd, bytes: Bytes) -> Operation {
    Operation::Send { socket: Descriptor::of(socket), bytes, more: false }
}

fn pattern() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(long)
}

impl<R: Ring, N: Network> Bench<R, N> {
    #[track_caller]
    fn release(&mut self, slot: u32, socket: OwnedFd) -> OwnedFd {
        let number = socket.as_raw_fd();
        self.operations.push(Key::fixed(slot), Operation::Release { socket });
        self.enter(Wait::Forever);
        let Some(Completion { key, more: false, event: Event::Released(socket) }) =
            self.completions.pop()
        else {
            panic!("it does not come back");
        };
        assert_eq!((key, socket.as_raw_fd()), (Key::fixed(slot), number));
        assert!(self.completions.is_empty(), "{:?}", self.completions);
        socket
    }

    /// Ends what is in flight under a key: what a receive has brought until then.
    #[track_caller]
    fn cancelled_receive(&mut self, slot: u32) -> Vec<u8> {
        self.start(slot, Operation::Cancel(Kind::Receive));
        let mut received = Vec::new();
        loop {
            let completion = self.next();
            match completion.event {
                Event::Received(Ok(Received::Bytes { buffer, len })) => {
                    received.extend_from_slice(self.ring.buffers().bytes(&buffer, 0..len));
                    self.ring.buffers().recycle(buffer);
                }
                Event::Received(Err(Errno::ECANCELED)) => {}
                other => panic!("{other:?}"),
            }
            if !completion.more {
                return received;
            }
        }
    }

    /// The same of a send: how many bytes have gone.
    #[track_caller]
    fn cancelled_send(&mut self, slot: u32) -> Option<usize> {
        self.start(slot, Operation::Cancel(Kind::Send));
        match self.next() {
            Completion { more: false, event: Event::Sent(Ok(sent)), .. } => Some(sent),
            Completion { more: false, event: Event::Sent(Err(Errno::ECANCELED)), .. } => None,
            other => panic!("{other:?}"),
        }
    }

    /// Receives so many bytes.
    #[track_caller]
    fn receives(&mut self, socket: &OwnedFd, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < count {
            self.start(9, once(socket));
            let (bytes, _) = self.received();
            assert!(!bytes.is_empty(), "{} of {count} bytes", all.len());
            all.extend(bytes);
        }
        all
    }
}

/// However long the ring may wait.
fn a_released_socket_comes_back_with_the_same_enter<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let (untouched, _peer) = bench.network.pair();
    let untouched = bench.release(1, untouched);
    let (socket, mut client) = bench.network.pair();
    bench.start(2, once(&socket));
    bench.nothing_happens();
    assert_eq!(bench.cancelled_receive(2), b"");
    let socket = bench.release(2, socket);
    bench.nothing_happens();
    // It may come to a ring again, and this one is one of them.
    client.write_all(b"again").unwrap();
    bench.start(3, once(&socket));
    assert_eq!(bench.received(), (b"again".to_vec(), false));
    bench.start(3, Operation::Close { socket });
    bench.start(3, Operation::Close { socket: untouched });
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
}

/// Whatever the receive has met of them.
fn no_byte_is_lost_between_a_cancel_and_a_release<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let credit = bench.ring.capabilities().receive_credit;
    for round in 0..30_u8 {
        let (socket, mut client) = bench.network.pair();
        let shots = if credit && round % 2 == 0 { MANY } else { Shots::Once };
        bench.start(1, Operation::Receive { socket: Descriptor::of(&socket), shots });
        if round % 3 == 0 {
            bench.nothing_happens();
        }
        let sent: Vec<u8> = (0..100).map(|byte| byte ^ round).collect();
        for part in sent.chunks(40) {
            client.write_all(part).unwrap();
        }
        let mut received = bench.cancelled_receive(1);
        let socket = bench.release(1, socket);
        let left = sent.len() - received.len();
        received.extend(bench.receives(&socket, left));
        assert_eq!(received, sent);
        bench.start(1, Operation::Close { socket });
    }
}

/// The peer reads what has gone, and then what somebody else sends of the rest.
fn a_cancelled_send_tells_what_has_gone<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let bytes = pattern();
    let block = SharedBytes::new(bytes.to_vec());
    let mut told = 0;
    for whole in [Bytes::Static(bytes), Bytes::Shared(block.first(bytes.len()))] {
        let (socket, client) = bench.network.pair();
        bench.start(1, send(&socket, whole));
        bench.nothing_happens();
        let gone = bench.cancelled_send(1).unwrap_or(0);
        assert!(gone < bytes.len(), "the peer has read nothing");
        told += gone;
        let socket = bench.release(1, socket);
        bench.start(2, send(&socket, Bytes::Static(&bytes[gone..])));
        let reader = bench.network.read_meanwhile(client, bytes.len());
        let rest = bench.next();
        assert!(matches!(rest.event, Event::Sent(Ok(sent)) if sent == bytes.len() - gone));
        assert!(reader() == bytes, "{gone} bytes were told");
        bench.start(2, Operation::Close { socket });
    }
    assert!(told > 0, "it always goes in part, and is never told");
}

fn a_cancelled_send_of_which_nothing_has_gone_says_so<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let bytes = pattern();
    let (socket, client) = bench.network.pair();
    bench.start(1, send(&socket, Bytes::Static(bytes)));
    bench.nothing_happens();
    // The kernel may find more room for a while.
    let mut gone = 0;
    let mut tries = 0;
    while let Some(some) = bench.cancelled_send(1) {
        gone += some;
        tries += 1;
        assert!(tries < 100, "there is room for ever");
        bench.start(1, send(&socket, Bytes::Static(&bytes[gone..])));
        bench.nothing_happens();
    }
    let socket = bench.release(1, socket);
    bench.start(2, send(&socket, Bytes::Static(&bytes[gone..gone + 7])));
    let reader = bench.network.read_meanwhile(client, gone + 7);
    assert!(matches!(bench.next().event, Event::Sent(Ok(7))));
    assert!(reader() == bytes[..gone + 7]);
    bench.start(2, Operation::Close { socket });
}

/// With a send that is cut short, and input that nobody has asked for yet.
fn a_released_socket_goes_to_another_ring<R: Ring>(mut bench: Bench<R, Loopback>, other: R) {
    let bytes = pattern();
    let (socket, mut client) = Loopback.pair();
    bench.start(1, once(&socket));
    bench.start(1, send(&socket, Bytes::Static(bytes)));
    bench.nothing_happens();
    let gone = bench.cancelled_send(1).expect("the kernel tells what went before a cancel");
    assert!(gone > 0 && bench.cancelled_receive(1).is_empty());
    client.write_all(b"input").unwrap();
    let socket = bench.release(1, socket);
    let mut other = Bench::new((other, Loopback));
    assert_eq!(other.receives(&socket, 5), b"input");
    let reader = Loopback.read_meanwhile(client.try_clone().unwrap(), bytes.len());
    other.start(1, send(&socket, Bytes::Static(&bytes[gone..])));
    let rest = other.next();
    assert!(matches!(rest.event, Event::Sent(Ok(sent)) if sent == bytes.len() - gone), "{rest:?}");
    assert!(reader() == bytes, "{gone} bytes were told");
    other.start(2, once(&socket));
    bench.nothing_happens();
    other.nothing_happens();
    client.write_all(b"later").unwrap();
    assert_eq!(other.received(), (b"later".to_vec(), false));
    bench.nothing_happens();
    other.start(2, Operation::Close { socket });
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
}

/// Whoever has it reads and writes, or drops it.
fn a_released_socket_is_anybodys<R: Ring>(mut bench: Bench<R, Loopback>, _: R) {
    let (socket, mut client) = Loopback.pair();
    bench.start(1, once(&socket));
    bench.nothing_happens();
    bench.cancelled_receive(1);
    let mut socket = TcpStream::from(bench.release(1, socket));
    socket.set_nonblocking(false).unwrap();
    client.write_all(b"to").unwrap();
    let mut read = [0; 4];
    socket.read_exact(&mut read[..2]).unwrap();
    socket.write_all(b"from").unwrap();
    client.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"from");
    drop(socket);
    assert_eq!(client.read(&mut read).unwrap(), 0);
    bench.nothing_happens();
}

fn the_fin_goes_with_the_last_owner<R: Ring>(mut bench: Bench<R, Loopback>, _: R) {
    let (socket, mut client) = Loopback.pair();
    bench.start(1, once(&socket));
    bench.nothing_happens();
    bench.cancelled_receive(1);
    let socket = bench.release(1, socket);
    let successor = socket.try_clone().unwrap();
    drop(socket);
    bench.nothing_happens();
    client.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let early = client.read(&mut [0; 8]).map_err(|error| error.kind());
    assert_eq!(early, Err(std::io::ErrorKind::WouldBlock));
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    drop(successor);
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
}

/// Somebody else has the connection, so the kernel keeps what is registered for it; and its number is another's soon.
fn nothing_of_a_released_socket_stays_behind<R: Ring>(mut bench: Bench<R, Loopback>, _: R) {
    let (socket, mut client) = Loopback.pair();
    bench.start(1, once(&socket));
    bench.nothing_happens();
    bench.cancelled_receive(1);
    let released = bench.release(1, socket);
    let number = released.as_raw_fd();
    let _successor = released.try_clone().unwrap();
    let quiet = calls_of_a_wait(&mut bench, || {});
    drop(released);
    assert_eq!(calls_of_a_wait(&mut bench, || client.write_all(b"event").unwrap()), quiet);

    let (next, mut next_client) = pair();
    // dup(2) takes the lowest number that is free.
    let copies: Vec<OwnedFd> = (0..64).map(|_| next.try_clone().unwrap().into()).collect();
    let Some(copy) = copies.into_iter().find(|copy| copy.as_raw_fd() == number) else { return };
    bench.start(2, once(&copy));
    bench.nothing_happens();
    client.write_all(b"of the other").unwrap();
    bench.nothing_happens();
    next_client.write_all(b"own").unwrap();
    assert_eq!(bench.received(), (b"own".to_vec(), false));
    bench.start(2, Operation::Close { socket: copy });
}

/// System calls of a wait of 30 ms behind something that happens; it is not cut short.
fn calls_of_a_wait<R: Ring>(bench: &mut Bench<R, Loopback>, happens: impl FnOnce()) -> u64 {
    happens();
    let (start, before) = (Instant::now(), bench.ring.counts().system_calls);
    bench.enter(Wait::For(Duration::from_millis(30)));
    assert!(bench.completions.is_empty() && start.elapsed() >= Duration::from_millis(30));
    bench.ring.counts().system_calls - before
}
