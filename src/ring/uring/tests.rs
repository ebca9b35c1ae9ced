//! The io_uring engine against the contract, and what only it has.

use super::super::conformance;
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
    let (socket, mut peer) = conformance::pair();
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

/// A send of shared bytes that nobody else has, to a peer that does not read.
fn send_of_abandoned_bytes(ring: &mut Uring, socket: Descriptor) -> std::sync::Weak<Box<[u8]>> {
    let block = crate::shared::SharedBytes::new(vec![7; 16 << 20]);
    let bytes = Bytes::Shared(block.first(block.len()));
    let mut operations = Operations::default();
    operations.push(Key::fixed(1), Operation::Send { socket, bytes, more: false });
    ring.enter(&mut operations, &mut Vec::new(), Wait::No).unwrap();
    block.watch()
}

#[test]
fn a_ring_dropped_in_flight_keeps_the_shared_bytes_that_are_being_sent() {
    let Some(mut ring) = ring(&SIZES) else { return };
    let (socket, _peer) = conformance::pair();
    let watch = send_of_abandoned_bytes(&mut ring, Descriptor::of(&socket));
    assert_eq!(ring.in_flight, 1);
    drop(ring);
    assert!(watch.upgrade().is_some(), "freed, though the kernel may still read them");
}

#[test]
#[should_panic(expected = "two sends of shared bytes are in flight")]
fn a_second_send_of_shared_bytes_under_a_key_is_refused() {
    let pairs = [conformance::pair(), conformance::pair()];
    let Some(mut ring) = ring(&SIZES) else {
        panic!("SKIPPED: two sends of shared bytes are in flight");
    };
    for (socket, _) in &pairs {
        send_of_abandoned_bytes(&mut ring, Descriptor::of(socket));
    }
}

#[test]
fn the_completion_of_another_send_under_the_key_frees_nothing() {
    let Some(mut ring) = ring(&SIZES) else { return };
    let pairs = [conformance::pair(), conformance::pair()];
    let watch = send_of_abandoned_bytes(&mut ring, Descriptor::of(&pairs[0].0));
    let (mut operations, mut completions) = (Operations::default(), Vec::new());
    let socket = Descriptor::of(&pairs[1].0);
    let bytes = Bytes::Static(b"short");
    operations.push(Key::fixed(1), Operation::Send { socket, bytes, more: false });
    ring.enter(&mut operations, &mut completions, Wait::Forever).unwrap();
    assert!(matches!(completions[0].event, Event::Sent(Ok(5))), "{completions:?}");
    assert!(watch.upgrade().is_some(), "freed under the kernel");
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

/// So many sockets are opened in one turn.
fn open_sockets(ring: &mut Uring, count: u32) -> RingCounts {
    let (mut operations, mut completions) = (Operations::default(), Vec::new());
    let open = |slot| (Key::fixed(slot), Operation::Open { domain: socket2::Domain::IPV4 });
    (0..count).map(open).for_each(|(key, operation)| operations.push(key, operation));
    let before = ring.counts();
    while completions.len() < count as usize {
        ring.enter(&mut operations, &mut completions, Wait::For(Duration::from_secs(5))).unwrap();
    }
    let after = ring.counts();
    RingCounts {
        system_calls: after.system_calls - before.system_calls,
        cq_overflows: after.cq_overflows - before.cq_overflows,
    }
}

#[test]
fn a_turn_is_one_system_call_as_long_as_its_queues_have_room() {
    let Some(mut large) = ring(&SIZES) else { return };
    assert_eq!(open_sockets(&mut large, 30), RingCounts { system_calls: 1, cq_overflows: 0 });
    let small = Sizes { submission_entries: 8, completion_entries: 8, ..SIZES };
    let Some(mut small) = ring(&small) else { return };
    let RingCounts { system_calls, cq_overflows } = open_sockets(&mut small, 30);
    assert!(system_calls >= 4 && cq_overflows >= 1, "{system_calls} {cq_overflows}");
}
