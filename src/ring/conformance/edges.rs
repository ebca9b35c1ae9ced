//! The contract where it is easily broken: descriptors that come back, cancels, fairness, errors.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use socket2::{Domain, SockAddr, Socket, Type};

use super::*;

/// The tests of this module.
pub(super) fn tests<R: Ring>() -> [fn(Bench<R, Loopback>); 16] {
    [
        a_descriptor_that_comes_back_is_a_new_one,
        a_listener_may_be_closed_once_nothing_is_in_flight,
        cancels_each_kind,
        a_send_that_is_cut_short_tells_what_went_out,
        a_receive_behind_a_connect_waits_for_it,
        a_failed_connect_fails_what_waits_behind_it,
        what_came_before_a_reset_is_received_though_the_connect_is_told_late,
        a_connect_that_is_cancelled_ends,
        a_broken_listener_ends_its_accept,
        a_peer_that_never_stops_holds_up_nobody,
        an_accept_may_start_again,
        what_is_there_already_does_not_wait,
        a_full_unix_queue_is_waited_for,
        the_end_behind_the_last_bytes_is_not_missed,
        what_completes_at_once_does_not_hide_what_comes,
        without_a_buffer_a_receive_ends_though_nothing_has_come,
    ]
}

fn once(socket: Descriptor) -> Operation {
    Operation::Receive { socket, shots: Shots::Once }
}

fn opened<R: Ring>(bench: &mut Bench<R, Loopback>, domain: Domain) -> OwnedFd {
    bench.start(40, Operation::Open { domain });
    match bench.next().event {
        Event::Opened(Ok(socket)) => socket,
        other => panic!("no socket: {other:?}"),
    }
}

/// Accepted by the ring, used, closed through the ring; then the same number is another connection,
/// of which nothing may be known, and on which nothing of the old one may be reported.
fn a_descriptor_that_comes_back_is_a_new_one<R: Ring>(mut bench: Bench<R, Loopback>) {
    let (listener, address) = listener();
    let accept = Operation::Accept { listener: Descriptor::of(&listener), shots: MANY };
    bench.start(0, accept);
    let mut numbers = std::collections::HashSet::new();
    for round in 1..20 {
        let mut client = TcpStream::connect(address).unwrap();
        let accepted = bench.next();
        assert!(accepted.more, "{accepted:?}");
        let Event::Accepted(Ok(socket)) = accepted.event else { panic!("{accepted:?}") };
        numbers.insert(socket.as_raw_fd());
        bench.start(round, once(Descriptor::of(&socket)));
        bench.nothing_happens();
        client.write_all(b"now").unwrap();
        assert_eq!(bench.received(), (b"now".to_vec(), false));
        // Unread bytes and a FIN: events that nobody may see any more.
        client.write_all(b"unread").unwrap();
        drop(client);
        bench.start(round, Operation::Close { socket });
        bench.nothing_happens();
    }
    assert!(numbers.len() < 19, "no number came back, so this shows nothing");
}

/// Its number comes back as a connection that another ring may have accepted.
fn a_listener_may_be_closed_once_nothing_is_in_flight<R: Ring>(mut bench: Bench<R, Loopback>) {
    let (listener, _) = listener();
    let accept = Operation::Accept { listener: Descriptor::of(&listener), shots: MANY };
    bench.start(0, accept);
    bench.nothing_happens();
    bench.start(0, Operation::Cancel(Kind::Accept));
    assert!(!bench.next().more);
    let number = listener.as_raw_fd();
    let (socket, mut client) = pair();
    drop(listener);
    // dup(2) takes the lowest number that is free.
    let copies: Vec<OwnedFd> = (0..64).map(|_| socket.try_clone().unwrap().into()).collect();
    let Some(copy) = copies.iter().find(|copy| copy.as_raw_fd() == number) else { return };
    bench.start(1, once(Descriptor::of(copy)));
    bench.nothing_happens();
    client.write_all(b"reused").unwrap();
    assert_eq!(bench.received(), (b"reused".to_vec(), false));
}

/// The error behind it is that of the next send.
fn a_send_that_is_cut_short_tells_what_went_out<R: Ring>(mut bench: Bench<R, Loopback>) {
    const READ: usize = 10_000;
    let (socket, mut client) = pair();
    let socket = Descriptor::of(&socket);
    let bytes: &'static [u8] = Box::leak(vec![5; 16 << 20].into_boxed_slice());
    let send = |bytes| Operation::Send { socket, bytes: Bytes::Static(bytes), more: false };
    bench.start(1, send(bytes));
    bench.nothing_happens();
    client.read_exact(&mut [0; READ]).unwrap();
    Loopback.reset(client);
    let cut = bench.next();
    let told = matches!(cut.event, Event::Sent(Ok(sent)) if (READ..bytes.len()).contains(&sent));
    assert!(told && !cut.more, "{cut:?}");
    bench.start(1, send(&bytes[READ..]));
    let rest = bench.next();
    let gone = [Errno::ECONNRESET, Errno::EPIPE];
    assert!(matches!(rest.event, Event::Sent(Err(errno)) if gone.contains(&errno)), "{rest:?}");
}

fn cancels_each_kind<R: Ring>(mut bench: Bench<R, Loopback>) {
    let (socket, mut client) = pair();
    let socket_id = Descriptor::of(&socket);
    bench.start(1, Operation::Receive { socket: socket_id, shots: Shots::Once });
    bench.start(2, Operation::Cancel(Kind::Receive));
    bench.nothing_happens();
    bench.start(1, Operation::Cancel(Kind::Receive));
    let last = bench.next();
    assert_eq!((last.key, last.more), (Key::fixed(1), false));
    assert!(matches!(last.event, Event::Received(Err(Errno::ECANCELED))), "{last:?}");

    let bytes: &'static [u8] = Box::leak(vec![5; 16 << 20].into_boxed_slice());
    bench.start(1, Operation::Send { socket: socket_id, bytes: Bytes::Static(bytes), more: false });
    bench.nothing_happens();
    bench.start(1, Operation::Cancel(Kind::Send));
    let last = bench.next();
    // What had gone is told instead of the cancel, to the byte.
    let told = match last.event {
        Event::Sent(Ok(sent)) => Some(sent),
        Event::Sent(Err(Errno::ECANCELED)) => Some(0),
        _ => None,
    };
    assert!(told.is_some_and(|sent| sent < 16 << 20) && !last.more, "{last:?}");
    drop(socket);
    let mut came = Vec::new();
    client.read_to_end(&mut came).unwrap();
    assert_eq!(told, Some(came.len()));

    let (listener, address) = listener();
    let accept = || Operation::Accept { listener: Descriptor::of(&listener), shots: Shots::Once };
    (0..3).for_each(|_| bench.start(7, accept()));
    bench.start(7, Operation::Cancel(Kind::Accept));
    for _ in 0..3 {
        let last = bench.next();
        let cancelled = matches!(last.event, Event::Accepted(Err(Errno::ECANCELED)));
        assert!(cancelled && !last.more, "{last:?}");
    }
    // Nothing was taken from the queue, and nothing is.
    let _client = TcpStream::connect(address).unwrap();
    bench.nothing_happens();
}

fn a_receive_behind_a_connect_waits_for_it<R: Ring>(mut bench: Bench<R, Loopback>) {
    let (listener, address) = listener();
    let socket = opened(&mut bench, Domain::IPV4);
    let socket_id = Descriptor::of(&socket);
    let connect = Operation::Connect { socket: socket_id, address: Box::new(address.into()) };
    bench.operations.push(Key::fixed(4), connect);
    bench.operations.push(Key::fixed(5), once(socket_id));
    let connected = bench.next();
    assert!(matches!(connected.event, Event::Connected(Ok(()))), "{connected:?}");
    bench.nothing_happens();
    let mut server = listener.accept().unwrap().0;
    server.write_all(b"hello").unwrap();
    assert_eq!(bench.received(), (b"hello".to_vec(), false));
}

fn a_failed_connect_fails_what_waits_behind_it<R: Ring>(mut bench: Bench<R, Loopback>) {
    let (listener, address) = listener();
    drop(listener);
    let socket = opened(&mut bench, Domain::IPV4);
    let socket_id = Descriptor::of(&socket);
    let connect = Operation::Connect { socket: socket_id, address: Box::new(address.into()) };
    bench.operations.push(Key::fixed(4), connect);
    bench.operations.push(Key::fixed(5), once(socket_id));
    let mut ends = [bench.next(), bench.next()];
    ends.sort_by_key(|end| end.key.slot);
    assert!(matches!(ends[0].event, Event::Connected(Err(Errno::ECONNREFUSED))), "{ends:?}");
    // The end of a stream that never was, or the error.
    let failed = matches!(ends[1].event, Event::Received(Err(_) | Ok(Received::End)));
    assert!(failed && !ends[1].more, "{ends:?}");
}

/// The handshake takes a while, since the queue of the listener is full. When the ring is entered next,
/// the connection has come and gone, and its connect may tell of the reset.
fn what_came_before_a_reset_is_received_though_the_connect_is_told_late<R: Ring>(
    mut bench: Bench<R, Loopback>,
) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let _in_the_queue = TcpStream::connect(address.as_socket().unwrap()).unwrap();
    let socket = opened(&mut bench, Domain::IPV4);
    let id = Descriptor::of(&socket);
    let connect = Operation::Connect { socket: id, address: Box::new(address) };
    bench.operations.push(Key::fixed(1), connect);
    bench.start(2, Operation::Receive { socket: id, shots: MANY });
    listener.accept().unwrap();
    let (peer, _) = listener.accept().unwrap();
    (&peer).write_all(b"answer").unwrap();
    Loopback.reset(peer.into());
    let (mut got, mut connected, mut end) = (Vec::new(), None, None);
    while connected.is_none() || end.is_none() {
        match bench.next().event {
            Event::Connected(result) => connected = Some(result),
            Event::Received(Ok(Received::Bytes { buffer, len })) => {
                got.extend_from_slice(bench.ring.buffers().bytes(&buffer, 0..len));
                bench.ring.buffers().recycle(buffer);
            }
            Event::Received(result) => end = Some(result),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(got, b"answer", "{connected:?} {end:?}");
}

/// A connect to a listener whose queue is full hangs.
fn a_connect_that_is_cancelled_ends<R: Ring>(mut bench: Bench<R, Loopback>) {
    let socket = socket2::Socket::new(Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap();
    let _first = TcpStream::connect(address.as_socket().unwrap()).unwrap();
    let client = opened(&mut bench, Domain::IPV4);
    let connect =
        Operation::Connect { socket: Descriptor::of(&client), address: Box::new(address) };
    bench.start(4, connect);
    bench.nothing_happens();
    bench.start(4, Operation::Cancel(Kind::Connect));
    let end = bench.next();
    assert_eq!((end.key, end.more), (Key::fixed(4), false));
    assert!(matches!(end.event, Event::Connected(Err(Errno::ECANCELED))), "{end:?}");
    bench.start(4, Operation::Close { socket: client });
    bench.nothing_happens();
}

fn a_broken_listener_ends_its_accept<R: Ring>(mut bench: Bench<R, Loopback>) {
    // A connected socket is none that listens: accept(2) says EINVAL.
    let (socket, _client) = pair();
    for shots in [MANY, Shots::Once] {
        bench.start(2, Operation::Accept { listener: Descriptor::of(&socket), shots });
        let end = bench.next();
        assert!(!end.more && matches!(end.event, Event::Accepted(Err(Errno::EINVAL))), "{end:?}");
    }
    bench.nothing_happens();
}

fn a_peer_that_never_stops_holds_up_nobody<R: Ring>(mut bench: Bench<R, Loopback>) {
    if !bench.ring.capabilities().receive_credit {
        return;
    }
    let (loud, mut shouting) = pair();
    let (quiet, mut whispering) = pair();
    shouting.set_nonblocking(true).unwrap();
    let mut shout = move || match shouting.write(&[7; 1 << 16]) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("{error}"),
        _ => {}
    };
    shout();
    whispering.write_all(b"psst").unwrap();
    let shots = Shots::Many { credit_bytes: 1 << 30 };
    let (loud, quiet) = (Descriptor::of(&loud), Descriptor::of(&quiet));
    let shout_on = || (Key::fixed(1), Operation::Receive { socket: loud, shots });
    let whisper = || (Key::fixed(2), once(quiet));
    let start =
        |bench: &mut Bench<R, Loopback>, (key, operation)| bench.operations.push(key, operation);
    start(&mut bench, shout_on());
    start(&mut bench, whisper());
    for _ in 0..50 {
        bench.enter(Wait::No);
        let mut again = [false; 2];
        for completion in std::mem::take(&mut bench.completions) {
            match completion.event {
                Event::Received(Ok(Received::Bytes { buffer, .. })) => {
                    if completion.key == Key::fixed(2) {
                        return;
                    }
                    bench.ring.buffers().recycle(buffer);
                    again[1] |= !completion.more;
                }
                Event::Received(Err(Errno::ENOBUFS)) => {
                    again[usize::from(completion.key == Key::fixed(1))] = true;
                }
                other => panic!("{other:?}"),
            }
        }
        // Who found no buffer asks first.
        if again[0] {
            start(&mut bench, whisper());
        }
        if again[1] {
            start(&mut bench, shout_on());
        }
        shout();
    }
    panic!("the quiet peer was never heard");
}

/// After its last completion, for whatever reason, with connections waiting and without.
fn an_accept_may_start_again<R: Ring>(mut bench: Bench<R, Loopback>) {
    let (listener, address) = listener();
    let accept = |shots| Operation::Accept { listener: Descriptor::of(&listener), shots };
    let _clients: Vec<_> = (0..4).map(|_| TcpStream::connect(address).unwrap()).collect();
    for _ in 0..4 {
        bench.start(1, accept(Shots::Once));
        let accepted = bench.next();
        assert!(!accepted.more && matches!(accepted.event, Event::Accepted(Ok(_))));
    }
    for _ in 0..3 {
        bench.start(1, accept(MANY));
        bench.nothing_happens();
        bench.start(1, Operation::Cancel(Kind::Accept));
        assert!(!bench.next().more);
    }
    bench.start(1, accept(MANY));
    bench.nothing_happens();
    let _late = TcpStream::connect(address).unwrap();
    assert!(matches!(bench.next().event, Event::Accepted(Ok(_))));
}

fn what_is_there_already_does_not_wait<R: Ring>(mut bench: Bench<R, Loopback>) {
    let (socket, mut client) = pair();
    client.write_all(b"all").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let start = std::time::Instant::now();
    bench.operations.push(Key::fixed(1), once(Descriptor::of(&socket)));
    // Far longer than a machine is ever late.
    bench.enter(Wait::For(Duration::from_secs(600)));
    assert_eq!(bench.received(), (b"all".to_vec(), false));
    bench.operations.push(Key::fixed(1), once(Descriptor::of(&socket)));
    bench.enter(Wait::Forever);
    assert_eq!(bench.received(), (Vec::new(), false));
    assert!(start.elapsed() < Duration::from_secs(300), "it slept with a completion in hand");
}

/// connect(2) to a unix socket waits while the accept queue is full.
fn a_full_unix_queue_is_waited_for<R: Ring>(mut bench: Bench<R, Loopback>) {
    let path = std::env::temp_dir().join(format!("ring-{}-{:p}", std::process::id(), &bench));
    let listener = UnixListener::bind(&path).unwrap();
    socket2::SockRef::from(&listener).listen(0).unwrap();
    let _first = UnixStream::connect(&path).unwrap();
    let client = opened(&mut bench, Domain::UNIX);
    let address = SockAddr::unix(&path).unwrap();
    let client_id = Descriptor::of(&client);
    let connect = Operation::Connect { socket: client_id, address: Box::new(address) };
    bench.start(4, connect);
    bench.nothing_happens();
    drop(listener.accept().unwrap());
    let connected = bench.next();
    assert!(matches!(connected.event, Event::Connected(Ok(()))), "{connected:?}");
    let bytes = Bytes::Static(b"through");
    bench.start(5, Operation::Send { socket: client_id, bytes, more: false });
    let sent = bench.next();
    assert!(matches!(sent.event, Event::Sent(Ok(7))), "{sent:?}");
    let mut read = [0; 7];
    listener.accept().unwrap().0.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"through");
    std::fs::remove_file(&path).unwrap();
}

/// The bytes and the FIN may be one event.
fn the_end_behind_the_last_bytes_is_not_missed<R: Ring>(mut bench: Bench<R, Loopback>) {
    for _ in 0..10 {
        let (socket, mut client) = pair();
        bench.start(1, once(Descriptor::of(&socket)));
        bench.nothing_happens();
        client.write_all(b"last").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(bench.received(), (b"last".to_vec(), false));
        bench.start(1, once(Descriptor::of(&socket)));
        assert_eq!(bench.received(), (Vec::new(), false));
        bench.start(1, Operation::Close { socket: socket.into() });
    }
}

fn what_completes_at_once_does_not_hide_what_comes<R: Ring>(mut bench: Bench<R, Loopback>) {
    let (waiting, mut waking) = pair();
    bench.start(1, once(Descriptor::of(&waiting)));
    bench.nothing_happens();
    waking.write_all(b"here").unwrap();
    let (busy, _peer) = pair();
    for _ in 0..50 {
        let bytes = Bytes::Static(b"busy");
        bench.start(2, Operation::Send { socket: Descriptor::of(&busy), bytes, more: false });
        let found = |own: &Completion| own.key == Key::fixed(1);
        if bench.completions.iter().any(found) {
            return;
        }
        bench.completions.clear();
    }
    panic!("in 50 turns nobody looked");
}

fn without_a_buffer_a_receive_ends_though_nothing_has_come<R: Ring>(mut bench: Bench<R, Loopback>) {
    let (full, mut client) = pair();
    let mut held = Vec::new();
    while held.len() < bench.ring.buffers().count() {
        client.write_all(b"more").unwrap();
        bench.start(1, once(Descriptor::of(&full)));
        match bench.next().event {
            Event::Received(Ok(Received::Bytes { buffer, .. })) => held.push(buffer),
            other => panic!("{other:?}"),
        }
    }
    let (silent, _peer) = pair();
    bench.start(1, once(Descriptor::of(&silent)));
    let end = bench.next();
    assert!(!end.more && matches!(end.event, Event::Received(Err(Errno::ENOBUFS))), "{end:?}");
    held.into_iter().for_each(|buffer| bench.ring.buffers().recycle(buffer));
}
