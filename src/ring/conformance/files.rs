//! Sends from files.

use std::fs::File;
use std::net::TcpStream;
use std::sync::Arc;

use super::shared::long;
use super::*;
use crate::shared::FilePart;
use crate::sys::testing::file_of;

/// The tests of this module that any network can be put through.
pub(super) fn tests<R: Ring, N: Network>() -> [fn(Bench<R, N>); 3] {
    [
        sends_part_of_a_file_between_other_bytes,
        tells_where_a_file_ends,
        tells_of_a_peer_that_has_gone,
    ]
}

/// The tests of this module that need real sockets.
pub(super) fn tests_on_sockets<R: Ring>() -> [fn(Bench<R, Loopback>); 6] {
    [
        holds_back_what_more_follows,
        waits_for_a_slow_reader_of_a_file,
        counts_what_went_before_a_cancel,
        waits_for_a_reader_that_has_said_its_last,
        ends_a_file_that_waits_with_its_connection,
        many_files_are_sent_at_once,
    ]
}

fn send(socket: &OwnedFd, part: &FilePart) -> Operation {
    let bytes = Bytes::File(Box::new(part.clone()));
    Operation::Send { socket: Descriptor::of(socket), bytes, more: false }
}

fn file(bytes: &[u8]) -> Arc<File> {
    Arc::new(file_of(bytes))
}

#[track_caller]
fn sent<R: Ring, N: Network>(bench: &mut Bench<R, N>) -> Result<usize, Errno> {
    match bench.next() {
        Completion { more: false, event: Event::Sent(result), .. } => result,
        other => panic!("no send, but {other:?}"),
    }
}

/// Sends until nothing is left.
#[track_caller]
fn send_all<R: Ring, N: Network>(bench: &mut Bench<R, N>, socket: &OwnedFd, mut part: FilePart) {
    while !part.is_empty() {
        bench.start(1, send(socket, &part));
        let count = sent(bench).unwrap();
        assert!(count > 0);
        part.skip(count);
    }
}

fn sends_part_of_a_file_between_other_bytes<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let (socket, mut client) = bench.network.pair();
    let part = FilePart::new(file(&long()), 1000..21_000);
    // An engine that waits for events of the socket already hears of no other.
    bench.start(2, Operation::Receive { socket: Descriptor::of(&socket), shots: Shots::Once });
    bench.nothing_happens();
    for text in [b"head", b"tail"] {
        let (socket_id, bytes) = (Descriptor::of(&socket), Bytes::Static(text));
        bench.start(1, Operation::Send { socket: socket_id, bytes, more: false });
        assert_eq!(sent(&mut bench), Ok(4));
        if text == b"head" {
            send_all(&mut bench, &socket, part.clone());
        }
    }
    let mut read = vec![0; 4 + part.len() + 4];
    client.read_exact(&mut read).unwrap();
    assert!(read == [b"head", &long()[1000..21_000], b"tail"].concat(), "other bytes came");
}

fn tells_where_a_file_ends<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let (socket, client) = bench.network.pair();
    let mut part = FilePart::new(file(b"short"), 1..100);
    bench.start(1, send(&socket, &part));
    assert_eq!(sent(&mut bench), Ok(4));
    part.skip(4);
    bench.start(1, send(&socket, &part));
    assert_eq!(sent(&mut bench), Err(Errno::ENODATA));
    assert_eq!(bench.network.read_meanwhile(client, 4)(), b"hort");
}

fn tells_of_a_peer_that_has_gone<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let (socket, client) = bench.network.pair();
    bench.network.reset(client);
    bench.nothing_happens();
    bench.start(1, send(&socket, &FilePart::new(file(b"bytes"), 0..5)));
    let failed = sent(&mut bench).unwrap_err();
    assert!([Errno::EPIPE, Errno::ECONNRESET].contains(&failed), "{failed:?}");
}

/// Until its last part is sent; otherwise what comes behind it would be held back too.
fn holds_back_what_more_follows<R: Ring>(mut bench: Bench<R, Loopback>) {
    let (socket, mut client) = bench.network.pair();
    let part = FilePart::new(file(b"twice"), 0..5);
    for more in [true, false] {
        let bytes = Bytes::File(Box::new(part.clone()));
        let socket_id = Descriptor::of(&socket);
        bench.start(1, Operation::Send { socket: socket_id, bytes, more });
        assert_eq!(sent(&mut bench), Ok(5));
        assert_eq!(socket2::SockRef::from(&socket).tcp_cork().unwrap(), more);
    }
    let mut read = [0; 10];
    client.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"twicetwice");
}

/// Sends from a file to a peer that does not read until nothing goes any more. Returns what is left, of which a send
/// is in flight.
fn fill<R: Ring>(bench: &mut Bench<R, Loopback>, socket: &OwnedFd) -> FilePart {
    let bytes = long();
    let mut part = FilePart::new(file(&bytes), 0..bytes.len() as u64);
    loop {
        bench.start(1, send(socket, &part));
        // What is tried on a thread takes a while.
        for _ in 0..10 {
            if bench.completions.is_empty() {
                bench.enter(Wait::For(Duration::from_millis(20)));
            }
        }
        match bench.completions.pop() {
            None => return part,
            Some(Completion { event: Event::Sent(Ok(count)), .. }) => part.skip(count),
            Some(other) => panic!("{other:?}"),
        }
    }
}

fn waits_for_a_slow_reader_of_a_file<R: Ring>(mut bench: Bench<R, Loopback>) {
    let (socket, client) = bench.network.pair();
    let mut part = fill(&mut bench, &socket);
    let reader = bench.network.read_meanwhile(client, long().len());
    part.skip(sent(&mut bench).unwrap());
    send_all(&mut bench, &socket, part);
    assert!(reader() == long(), "other bytes came");
}

/// So the rest can be sent by anybody.
fn counts_what_went_before_a_cancel<R: Ring>(mut bench: Bench<R, Loopback>) {
    let (socket, client) = bench.network.pair();
    let mut part = fill(&mut bench, &socket);
    bench.start(1, Operation::Cancel(Kind::Send));
    match sent(&mut bench) {
        Ok(count) => part.skip(count),
        Err(errno) => assert_eq!(errno, Errno::ECANCELED),
    }
    bench.nothing_happens();
    let reader = bench.network.read_meanwhile(client, long().len());
    send_all(&mut bench, &socket, part);
    assert!(reader() == long(), "other bytes came");
}

/// Its FIN is no room to send, however often one looks.
fn waits_for_a_reader_that_has_said_its_last<R: Ring>(mut bench: Bench<R, Loopback>) {
    let (socket, client) = bench.network.pair();
    bench.network.send_fin(&client);
    let mut part = fill(&mut bench, &socket);
    let (start, before) = (bench.ring.now(), bench.ring.counts().system_calls);
    for _ in 0..10 {
        bench.enter(Wait::For(Duration::from_millis(20)));
    }
    let calls = bench.ring.counts().system_calls - before;
    assert!(bench.ring.now() - start >= Duration::from_millis(100) && calls < 100, "{calls} calls");
    let reader = bench.network.read_meanwhile(client, long().len());
    part.skip(sent(&mut bench).unwrap());
    send_all(&mut bench, &socket, part);
    assert!(reader() == long(), "other bytes came");
}

fn ends_a_file_that_waits_with_its_connection<R: Ring>(mut bench: Bench<R, Loopback>) {
    let (socket, client) = bench.network.pair();
    fill(&mut bench, &socket);
    bench.network.reset(client);
    let failed = sent(&mut bench).unwrap_err();
    assert!([Errno::EPIPE, Errno::ECONNRESET].contains(&failed), "{failed:?}");

    let (socket, _client) = bench.network.pair();
    fill(&mut bench, &socket);
    let shutdown = Operation::Shutdown { socket: Descriptor::of(&socket), how: Shutdown::Both };
    bench.start(1, shutdown);
    assert_eq!(sent(&mut bench), Err(Errno::EPIPE));
}

/// More than there are threads for them, and cancelled in any state.
fn many_files_are_sent_at_once<R: Ring>(mut bench: Bench<R, Loopback>) {
    const COUNT: u32 = 20;
    let bytes = long();
    let part = FilePart::new(file(&bytes), 0..bytes.len() as u64);
    let pairs: Vec<(OwnedFd, TcpStream)> = (0..COUNT).map(|_| bench.network.pair()).collect();
    for (slot, (socket, _)) in (0..).zip(&pairs) {
        bench.operations.push(Key::fixed(slot), send(socket, &part));
        if slot % 2 == 0 {
            bench.operations.push(Key::fixed(slot), Operation::Cancel(Kind::Send));
        }
    }
    let mut told = Vec::new();
    while told.len() < COUNT as usize {
        let completion = bench.next();
        assert!(
            matches!(completion.event, Event::Sent(Ok(1..) | Err(Errno::ECANCELED))),
            "{completion:?}"
        );
        told.push(completion.key.slot);
    }
    told.sort_unstable();
    assert!(told.into_iter().eq(0..COUNT), "one completion each");
}
