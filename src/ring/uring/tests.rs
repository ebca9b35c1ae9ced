//! The io_uring engine against the contract, and what only it has.

use super::super::conformance::{self, Network};
use super::*;

const SIZES: Sizes =
    Sizes { submission_entries: 64, completion_entries: 256, buffers: 8, buffer_bytes: 1024 };

/// A ring, or `None` with a line on stderr where the machine refuses.
fn ring(sizes: &Sizes) -> Option<Uring> {
    match Uring::new(sizes) {
        Ok(ring) => Some(ring),
        Err(Refusal::Step { step, errno }) => panic!("{step}: {errno}"),
        Err(refusal) => {
            eprintln!("SKIPPED: {refusal}");
            None
        }
    }
}

#[test]
fn it_keeps_the_contract() {
    conformance::run(|| ring(&SIZES));
}

#[test]
fn it_keeps_the_contract_with_tiny_queues() {
    let tiny = Sizes { submission_entries: 2, completion_entries: 2, ..SIZES };
    conformance::run(|| ring(&tiny));
}

#[test]
fn a_ring_dropped_in_flight_keeps_its_memory_mapped() {
    let Some(mut ring) = ring(&SIZES) else { return };
    let (socket, mut peer) = conformance::Loopback.pair();
    let mut operations = Operations::default();
    let receive = Operation::Receive {
        socket: Descriptor::of(&socket),
        shots: super::super::operation::Shots::Once,
    };
    operations.push(Key::fixed(1), receive);
    ring.enter(&mut operations, &mut Vec::new(), Wait::No).unwrap();
    assert_eq!(ring.in_flight, 1);
    let (_, address) = ring.pool.lend().unwrap();
    drop(ring);
    std::io::Write::write_all(&mut peer, b"late").unwrap();
    // SAFETY: the point of the test: the pool of a ring with a receive in flight stays mapped.
    unsafe { std::ptr::read_volatile(address) };
}

#[test]
fn the_credit_lands_in_the_right_field() {
    let entry = entry::receive(
        Key::fixed(0),
        Descriptor::of(&std::io::stdin()),
        super::super::operation::Shots::Many { credit_bytes: 0x0102_0304 },
    );
    // SAFETY: an entry is 64 plain bytes.
    let bytes: [u8; 64] = unsafe { std::mem::transmute(entry) };
    assert_eq!(bytes[44..48], 0x0102_0304_u32.to_ne_bytes());
}

#[test]
fn a_thread_may_make_and_drop_any_number_of_rings() {
    // The kernel registers 16 ring descriptors of a thread.
    for _ in 0..40 {
        let Some(ring) = ring(&SIZES) else { return };
        drop(ring);
    }
}
