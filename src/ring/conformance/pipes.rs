//! The contract where bytes go through pipes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;

use super::*;
use crate::sys::Pipe;

/// The tests of this module that any network can be put through.
pub(super) fn tests<R: Ring, N: Network>() -> [fn(Bench<R, N>); 5] {
    [
        goes_through_a_pipe_and_takes_no_buffer,
        tells_the_end_and_resets_of_spliced_sockets,
        tells_a_reset_of_where_a_splice_goes,
        cancels_splices,
        shuts_down_a_splice,
    ]
}

/// The tests of this module that need real sockets.
pub(super) fn tests_on_sockets<R: Ring>() -> [fn(Bench<R, Loopback>); 5] {
    [
        waits_for_a_slow_reader_of_a_pipe,
        waits_on_sockets_that_must_not_block,
        hands_back_what_cannot_be_spliced,
        waits_for_a_peer_that_has_said_its_last,
        cancels_a_send_whose_socket_looks_ready,
    ]
}

/// A connection whose own end does not block.
fn connection<R: Ring, N: Network>(bench: &Bench<R, N>) -> (OwnedFd, N::Peer) {
    let (socket, peer) = bench.network.pair();
    sys::set_nonblocking(socket.as_fd()).unwrap();
    (socket, peer)
}

fn splice(socket: &OwnedFd, pipe: &Pipe, to: &OwnedFd) -> Operation {
    let [socket, to] = [socket, to].map(Descriptor::of);
    Operation::Splice { socket, pipe: PipeEnds::of(pipe), to }
}

fn send(socket: &OwnedFd, pipe: &Pipe, len: usize, more: bool) -> Operation {
    let bytes = Bytes::Pipe { pipe: PipeEnds::of(pipe), len: len as u32 };
    Operation::Send { socket: Descriptor::of(socket), bytes, more }
}

#[track_caller]
fn spliced<R: Ring, N: Network>(bench: &mut Bench<R, N>) -> Result<Spliced, Errno> {
    match bench.next() {
        Completion { more: false, event: Event::Spliced(result), .. } => result,
        other => panic!("no splice, but {other:?}"),
    }
}

fn moved(len: usize) -> Result<Spliced, Errno> {
    Ok(Spliced { len, sent: Ok(len) })
}

fn goes_through_a_pipe_and_takes_no_buffer<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let ((from, mut client), (to, mut server)) = (connection(&bench), connection(&bench));
    let pipe = Pipe::new().unwrap();
    bench.enter(Wait::No);
    let available = bench.ring.buffers().available();
    for part in [&b"first"[..], b"second"] {
        bench.start(1, splice(&from, &pipe, &to));
        bench.nothing_happens();
        client.write_all(part).unwrap();
        assert_eq!(spliced(&mut bench), moved(part.len()));
        let mut read = vec![0; part.len()];
        server.read_exact(&mut read).unwrap();
        assert_eq!(read, part);
    }
    assert_eq!(bench.ring.buffers().available(), available);
    // The same socket may be sent to otherwise in between.
    let bytes = Bytes::Static(b"between");
    bench.start(2, Operation::Send { socket: Descriptor::of(&to), bytes, more: false });
    assert!(matches!(bench.next().event, Event::Sent(Ok(7))));
    client.write_all(b"last").unwrap();
    bench.start(1, splice(&from, &pipe, &to));
    assert_eq!(spliced(&mut bench), moved(4));
    bench.network.send_fin(&client);
    bench.start(1, splice(&from, &pipe, &to));
    assert_eq!(spliced(&mut bench), moved(0));
    bench.start(2, Operation::Shutdown { socket: Descriptor::of(&to), how: Shutdown::Write });
    let mut read = Vec::new();
    server.read_to_end(&mut read).expect("a FIN and no reset");
    assert_eq!(read, b"betweenlast");
}

fn tells_the_end_and_resets_of_spliced_sockets<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let pipe = Pipe::new().unwrap();
    let (to, _server) = connection(&bench);
    let (from, client) = connection(&bench);
    bench.start(1, splice(&from, &pipe, &to));
    bench.network.send_fin(&client);
    assert_eq!(spliced(&mut bench), moved(0));

    let (from, client) = connection(&bench);
    bench.start(1, splice(&from, &pipe, &to));
    bench.network.reset(client);
    assert_eq!(spliced(&mut bench), Err(Errno::ECONNRESET));
}

/// It is not told as a failure of where it comes from, and nothing of it is told as sent.
fn tells_a_reset_of_where_a_splice_goes<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let ((from, mut client), (to, server)) = (connection(&bench), connection(&bench));
    let pipe = Pipe::new().unwrap();
    bench.network.reset(server);
    bench.start(1, splice(&from, &pipe, &to));
    bench.nothing_happens();
    client.write_all(b"lost").unwrap();
    let Ok(Spliced { len: 4, sent: Err(Errno::ECONNRESET | Errno::EPIPE) }) = spliced(&mut bench)
    else {
        panic!("no error of the other socket");
    };
    bench.start(1, Operation::Receive { socket: Descriptor::of(&from), shots: Shots::Once });
    client.write_all(b"more").unwrap();
    assert_eq!(bench.received(), (b"more".to_vec(), false));
}

fn cancels_splices<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let pipe = Pipe::new().unwrap();
    let ((from, mut client), (to, _server)) = (connection(&bench), connection(&bench));
    bench.start(1, splice(&from, &pipe, &to));
    bench.start(2, Operation::Cancel(Kind::Receive));
    bench.nothing_happens();
    bench.start(1, Operation::Cancel(Kind::Receive));
    assert_eq!(spliced(&mut bench), Err(Errno::ECANCELED));
    // The same key may do something else with the socket now.
    bench.start(1, Operation::Receive { socket: Descriptor::of(&from), shots: Shots::Once });
    bench.nothing_happens();
    client.write_all(b"copied").unwrap();
    assert_eq!(bench.received(), (b"copied".to_vec(), false));
}

fn shuts_down_a_splice<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let pipe = Pipe::new().unwrap();
    let ((from, mut client), (to, _server)) = (connection(&bench), connection(&bench));
    bench.start(1, splice(&from, &pipe, &to));
    bench.start(1, Operation::Shutdown { socket: Descriptor::of(&from), how: Shutdown::Both });
    assert_eq!(spliced(&mut bench), moved(0));
    bench.start(1, Operation::Close { socket: from });
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    bench.nothing_happens();
}

/// Moves as much as goes while `to`'s reader does not read. The last send waits.
fn fill<R: Ring>(
    bench: &mut Bench<R, Loopback>,
    (from, client): (&OwnedFd, &mut TcpStream),
    (to, pipe): (&OwnedFd, &Pipe),
) -> usize {
    let mut total = 0;
    for round in 0..1 << 10 {
        client.write_all(&[round as u8; 32 * 1024]).unwrap();
        bench.start(1, splice(from, pipe, to));
        let Spliced { len, sent } = spliced(bench).unwrap();
        total += len;
        let left = len - sent.unwrap();
        if left == 0 {
            continue;
        }
        bench.start(2, send(to, pipe, left, false));
        // A FIN cuts a wait short, and the kernel may find more room yet.
        for _ in 0..4 {
            if bench.completions.is_empty() {
                bench.enter(Wait::For(Duration::from_millis(50)));
            }
        }
        match bench.completions.pop() {
            Some(sent) => assert!(matches!(sent.event, Event::Sent(Ok(all)) if all == left)),
            None => return total,
        }
    }
    panic!("the kernel takes everything");
}

fn waits_for_a_slow_reader_of_a_pipe<R: Ring>(mut bench: Bench<R, Loopback>) {
    let ((from, mut client), (to, server)) = (connection(&bench), connection(&bench));
    let pipe = Pipe::new().unwrap();
    let moved = fill(&mut bench, (&from, &mut client), (&to, &pipe));
    let reader = bench.network.read_meanwhile(server, moved);
    let sent = bench.next();
    assert!(matches!(sent.event, Event::Sent(Ok(_))), "{sent:?}");
    assert_eq!(reader().len(), moved);

    let ((from, mut client), (to, server)) = (connection(&bench), connection(&bench));
    let pipe = Pipe::new().unwrap();
    fill(&mut bench, (&from, &mut client), (&to, &pipe));
    bench.start(2, Operation::Cancel(Kind::Send));
    let cancelled = bench.next();
    assert!(matches!(cancelled.event, Event::Sent(Err(Errno::ECANCELED))), "{cancelled:?}");
    drop(server);
}

/// What is spliced one way is copied the other, so receives and sends wait on these sockets too.
fn waits_on_sockets_that_must_not_block<R: Ring>(mut bench: Bench<R, Loopback>) {
    let (socket, mut client) = connection(&bench);
    for shots in [Shots::Once, MANY] {
        if shots != Shots::Once && !bench.ring.capabilities().receive_credit {
            continue;
        }
        bench.start(1, Operation::Receive { socket: Descriptor::of(&socket), shots });
        bench.nothing_happens();
        client.write_all(b"late").unwrap();
        assert_eq!(bench.received(), (b"late".to_vec(), shots != Shots::Once));
    }
    let bytes: &'static [u8] = Box::leak(vec![5; 16 << 20].into_boxed_slice());
    let bytes = Bytes::Static(bytes);
    let len = bytes.len();
    bench.start(2, Operation::Send { socket: Descriptor::of(&socket), bytes, more: false });
    bench.nothing_happens();
    let reader = bench.network.read_meanwhile(client, len);
    let sent = bench.next();
    assert!(matches!(sent.event, Event::Sent(Ok(all)) if all == len), "{sent:?}");
    assert_eq!(reader().len(), len);
}

/// splice(2) does not get past urgent data, and would never be asked again.
fn hands_back_what_cannot_be_spliced<R: Ring>(mut bench: Bench<R, Loopback>) {
    let pipe = Pipe::new().unwrap();
    let ((from, mut client), (to, _server)) = (connection(&bench), connection(&bench));
    bench.start(1, splice(&from, &pipe, &to));
    socket2::SockRef::from(&client).send_out_of_band(b"!").unwrap();
    client.write_all(b"behind").unwrap();
    assert_eq!(spliced(&mut bench), Err(Errno::EINVAL));
    bench.start(1, Operation::Receive { socket: Descriptor::of(&from), shots: Shots::Once });
    assert_eq!(bench.received(), (b"behind".to_vec(), false));
    bench.start(1, splice(&from, &pipe, &to));
    bench.nothing_happens();
    socket2::SockRef::from(&client).send_out_of_band(b"!").unwrap();
    client.write_all(b"last").unwrap();
    bench.network.send_fin(&client);
    assert_eq!(spliced(&mut bench), Err(Errno::EINVAL));
    bench.start(1, Operation::Receive { socket: Descriptor::of(&from), shots: Shots::Once });
    assert_eq!(bench.received(), (b"last".to_vec(), false));
    bench.start(1, splice(&from, &pipe, &to));
    assert_eq!(spliced(&mut bench), moved(0));
}

/// Its FIN is no room to send, however often one looks.
fn waits_for_a_peer_that_has_said_its_last<R: Ring>(mut bench: Bench<R, Loopback>) {
    let ((from, mut client), (to, server)) = (connection(&bench), connection(&bench));
    let pipe = Pipe::new().unwrap();
    bench.network.send_fin(&server);
    let moved = fill(&mut bench, (&from, &mut client), (&to, &pipe));
    let start = bench.ring.now();
    (0..6).for_each(|_| bench.nothing_happens());
    // One of them may have been cut short by the FIN.
    assert!(bench.ring.now() - start >= Duration::from_millis(100));
    let reader = bench.network.read_meanwhile(server, moved);
    assert!(matches!(bench.next().event, Event::Sent(Ok(_))));
    assert_eq!(reader().len(), moved);
}

fn cancels_a_send_whose_socket_looks_ready<R: Ring>(mut bench: Bench<R, Loopback>) {
    for _ in 0..5 {
        let ((from, mut client), (to, server)) = (connection(&bench), connection(&bench));
        let pipe = Pipe::new().unwrap();
        fill(&mut bench, (&from, &mut client), (&to, &pipe));
        bench.network.send_fin(&server);
        // Many at once, so that the ring submits some before it has seen the others.
        (0..64).for_each(|slot| {
            bench.operations.push(Key::fixed(100 + slot), Operation::Cancel(Kind::Receive));
        });
        bench.start(2, Operation::Cancel(Kind::Send));
        let ended = bench.next();
        // The FIN made it look, and there may have been room.
        let told = matches!(ended.event, Event::Sent(Ok(_) | Err(Errno::ECANCELED)));
        assert!(told && ended.key == Key::fixed(2), "{ended:?}");
        bench.nothing_happens();
    }
}
