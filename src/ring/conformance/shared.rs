//! Sends of bytes that others may let go of at any time.

use std::sync::Weak;

use super::*;
use crate::shared::SharedBytes;

/// More than the socket buffers take, so a send has to wait for its peer.
const LONG: usize = 16 << 20;
const SKIPPED: usize = 1000;

/// What is sent. Copied and compared in one go: byte by byte and unoptimized it takes seconds.
pub(super) fn long() -> Vec<u8> {
    const PERIOD: u8 = 251;
    let mut bytes = (0..PERIOD).collect::<Vec<u8>>().repeat(LONG.div_ceil(PERIOD.into()));
    bytes.truncate(LONG);
    bytes
}

/// A part of a block that nobody else has.
fn abandoned() -> (Bytes, Weak<Box<[u8]>>) {
    let block = SharedBytes::new(long());
    let mut part = block.first(LONG);
    part.skip(SKIPPED);
    (Bytes::Shared(part), block.watch())
}

/// The tests of this module.
pub(super) fn tests<R: Ring, N: Network>() -> [fn(Bench<R, N>); 4] {
    [
        they_stay_until_they_are_sent,
        they_stay_for_the_close_behind_them,
        they_are_freed_when_their_send_is_cancelled,
        many_are_in_flight_at_once,
    ]
}

fn arrive(sent: &Completion, read: &[u8]) {
    assert!(matches!(sent.event, Event::Sent(Ok(len)) if len == LONG - SKIPPED), "{sent:?}");
    assert!(read == &long()[SKIPPED..], "other bytes came");
}

fn they_stay_until_they_are_sent<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let (socket, client) = bench.network.pair();
    let (bytes, watch) = abandoned();
    bench.start(9, Operation::Send { socket: Descriptor::of(&socket), bytes, more: false });
    bench.nothing_happens();
    assert!(watch.upgrade().is_some(), "freed under the kernel");
    let reader = bench.network.read_meanwhile(client, LONG - SKIPPED);
    let sent = bench.next();
    arrive(&sent, &reader());
    assert!(watch.upgrade().is_none(), "kept after the completion");
}

fn they_stay_for_the_close_behind_them<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let (socket, client) = bench.network.pair();
    let (bytes, watch) = abandoned();
    bench.start(9, Operation::SendAndClose { socket, bytes });
    bench.nothing_happens();
    assert!(watch.upgrade().is_some(), "freed under the kernel");
    let reader = bench.network.read_meanwhile(client, LONG - SKIPPED);
    let sent = bench.next();
    arrive(&sent, &reader());
    assert!(watch.upgrade().is_none(), "kept after the completion");
}

fn they_are_freed_when_their_send_is_cancelled<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let (socket, _client) = bench.network.pair();
    let (bytes, watch) = abandoned();
    bench.start(9, Operation::Send { socket: Descriptor::of(&socket), bytes, more: false });
    bench.nothing_happens();
    bench.start(9, Operation::Cancel(Kind::Send));
    let sent = bench.next();
    assert!(sent.key == Key::fixed(9) && !sent.more, "{sent:?}");
    assert!(matches!(sent.event, Event::Sent(_)), "{sent:?}");
    assert!(watch.upgrade().is_none(), "kept after the completion");
}

fn many_are_in_flight_at_once<R: Ring, N: Network>(mut bench: Bench<R, N>) {
    let block = SharedBytes::new(long());
    let watch = block.watch();
    let pairs: Vec<_> = (0..8).map(|_| bench.network.pair()).collect();
    for (slot, (socket, _)) in pairs.iter().enumerate() {
        let bytes = Bytes::Shared(block.first(LONG));
        let socket = Descriptor::of(socket);
        bench.start(slot as u32, Operation::Send { socket, bytes, more: false });
    }
    drop(block);
    bench.nothing_happens();
    for slot in 0..8 {
        assert!(watch.upgrade().is_some(), "freed under the kernel");
        bench.start(slot, Operation::Cancel(Kind::Send));
        assert_eq!(bench.next().key, Key::fixed(slot));
    }
    assert!(watch.upgrade().is_none(), "kept after the last completion");
}
