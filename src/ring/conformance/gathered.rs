//! Sends of several parts.

use super::shared::long;
use super::*;
use crate::shared::SharedBytes;

/// The tests of this module that any network can be put through.
pub(super) fn tests<R: Ring, N: Network>() -> [fn(Bench<R, N>); 4] {
    [
        parts_of_all_kinds_come_in_their_order,
        parts_and_the_close_behind_them,
        parts_stay_until_they_are_sent,
        tells_parts_of_a_peer_that_has_gone,
    ]
}

/// The tests of this module that need real sockets.
pub(super) fn tests_on_sockets<R: Ring>() -> [fn(Bench<R, Loopback>); 2] {
    [a_cancel_among_parts_tells_what_went, parts_wait_on_a_socket_that_must_not_block]
}

/// The most parts that one send has, of all kinds, one of them long; and all their bytes.
fn parts<R: Ring, N: Network>(bench: &mut Bench<R, N>, long: &[u8]) -> (Bytes, Buffer, Vec<u8>) {
    let mut buffer = bench.ring.buffers().take().unwrap();
    bench.ring.buffers().write(&mut buffer, 0, b"..pooled");
    let pooled = Bytes::Pool(bench.ring.buffers().range(&buffer, 2..8));
    let mut shared = SharedBytes::new(long.to_vec()).first(long.len());
    shared.skip(1);
    let mut gathered = vec![Bytes::Static(b"static"), Bytes::Shared(shared), pooled];
    let mut all = [b"static", &long[1..], b"pooled"].concat();
    while gathered.len() < GATHERED_MAX {
        gathered.push(Bytes::Static(b"!"));
        all.push(b'!');
    }
    (Bytes::Gathered(gathered.into()), buffer, all)
}

fn send(socket: &OwnedFd, bytes: Bytes) -> Operation {
    Operation::Send { socket: Descriptor::of(socket), bytes, more: false }
}

fn parts_of_all_kinds_come_in_their_order<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let (socket, mut client) = bench.network.pair();
    for _ in 0..3 {
        let (bytes, buffer, all) = parts(&mut bench, b"_shared");
        bench.start(7, send(&socket, bytes));
        let sent = bench.next();
        assert!(matches!(sent.event, Event::Sent(Ok(len)) if len == all.len()), "{sent:?}");
        let mut read = vec![0; all.len()];
        client.read_exact(&mut read).unwrap();
        assert_eq!(read, all);
        bench.ring.buffers().recycle(buffer);
    }
}

fn parts_and_the_close_behind_them<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let (socket, mut client) = bench.network.pair();
    let (bytes, buffer, all) = parts(&mut bench, b"_shared");
    bench.start(7, Operation::SendAndClose { socket, bytes });
    assert!(matches!(bench.next().event, Event::Sent(Ok(len)) if len == all.len()));
    let mut read = Vec::new();
    client.read_to_end(&mut read).unwrap();
    assert_eq!(read, all);
    bench.ring.buffers().recycle(buffer);
}

/// More than the sockets hold, so it is sent in many goes.
fn parts_stay_until_they_are_sent<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let (socket, client) = bench.network.pair();
    let (bytes, buffer, all) = parts(&mut bench, &long());
    bench.start(7, send(&socket, bytes));
    bench.nothing_happens();
    let reader = bench.network.read_meanwhile(client, all.len());
    let sent = bench.next();
    assert!(matches!(sent.event, Event::Sent(Ok(len)) if len == all.len()), "{sent:?}");
    assert!(reader() == all, "other bytes came");
    bench.ring.buffers().recycle(buffer);
}

fn tells_parts_of_a_peer_that_has_gone<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let (socket, client) = bench.network.pair();
    bench.network.reset(client);
    bench.nothing_happens();
    let (bytes, buffer, _) = parts(&mut bench, b"_shared");
    bench.start(7, send(&socket, bytes));
    let failed = bench.next();
    assert!(
        matches!(failed.event, Event::Sent(Err(Errno::EPIPE | Errno::ECONNRESET))),
        "{failed:?}"
    );
    bench.ring.buffers().recycle(buffer);
}

/// As those are that bytes are spliced to, or files sent. Several sends, to one that reads little by little.
fn parts_wait_on_a_socket_that_must_not_block<R: Ring>(mut bench: Bench<R, Loopback>) {
    const SENDS: usize = 20;
    let block = SharedBytes::new(long()[..15_000].to_vec());
    let (socket, mut peer) = std::os::unix::net::UnixStream::pair().unwrap();
    sys::set_nonblocking(socket.as_fd()).unwrap();
    let reader = std::thread::spawn(move || {
        let (mut all, mut some) = (Vec::new(), [0; 3000]);
        loop {
            match peer.read(&mut some).unwrap() {
                0 => return all,
                count => all.extend_from_slice(&some[..count]),
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    let socket = OwnedFd::from(socket);
    for _ in 0..SENDS {
        let parts = (0..4).map(|_| Bytes::Shared(block.first(block.len()))).collect();
        bench.start(7, send(&socket, Bytes::Gathered(parts)));
        let sent = bench.next();
        assert!(matches!(sent.event, Event::Sent(Ok(60_000))), "{sent:?}");
    }
    drop(socket);
    assert!(reader.join().unwrap() == block.repeat(4 * SENDS), "other bytes came");
}

fn a_cancel_among_parts_tells_what_went<R: Ring>(mut bench: Bench<R, Loopback>) {
    let (socket, client) = bench.network.pair();
    let (bytes, buffer, all) = parts(&mut bench, &long());
    bench.start(7, send(&socket, bytes));
    bench.nothing_happens();
    bench.start(7, Operation::Cancel(Kind::Send));
    let cancelled = bench.next();
    let Event::Sent(Ok(gone)) = cancelled.event else { panic!("{cancelled:?}") };
    assert!((1..all.len()).contains(&gone), "{gone} bytes went");
    bench.ring.buffers().recycle(buffer);
    let rest = SharedBytes::new(all[gone..].to_vec());
    bench.start(7, send(&socket, Bytes::Shared(rest.first(rest.len()))));
    let reader = bench.network.read_meanwhile(client, all.len());
    assert!(matches!(bench.next().event, Event::Sent(Ok(len)) if len == rest.len()));
    assert!(reader() == all, "other bytes came");
}
