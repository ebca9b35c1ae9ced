//! Bytes that are not copied.

use super::*;

const MUCH: [u8; BUFFER_BYTES / 2] = [7; BUFFER_BYTES / 2];
const LITTLE: usize = BUFFER_BYTES / 8 - 1;

fn splicing(pipes: usize) -> Bench {
    let splicing = Splicing { pipes, patience: 2 };
    let settings = ProxySettings { upstreams: vec![upstream(|_| {})], ..settings() };
    Bench::on_thread(settings, LIMITS, splicing)
}

fn piped(end: End, len: usize) -> (End, Asked) {
    (end, Asked::SendPiped { len: len as u32, more: false })
}

/// A backend has said much twice, and all of it has been sent.
#[track_caller]
fn told_much(bench: &mut Bench) -> Key {
    let key = bench.pair();
    assert_eq!(bench.input(key, Backend, &MUCH), [(Client, Send(MUCH.to_vec()))]);
    assert_eq!(bench.sent(key, Client, MUCH.len()), []);
    assert_eq!(bench.last_input(key, Backend, &MUCH), [(Client, Send(MUCH.to_vec()))]);
    key
}

#[test]
fn who_sends_much_again_and_again_is_spliced_once_all_is_sent() {
    let mut bench = splicing(1);
    let key = told_much(&mut bench);
    assert_eq!(bench.sent(key, Client, MUCH.len()), [(Backend, Asked::Splice)]);
    assert_eq!(bench.spliced(key, Backend, 9000), [piped(Client, 9000)]);
    // While something waits in the pipe nothing more goes in.
    assert_eq!(bench.pass(1), []);
    assert_eq!(bench.sent(key, Client, 9000), [(Backend, Asked::Splice)]);
    assert_eq!(bench.count(Counter::SplicedBytes), 9000);
    assert_eq!(bench.count(Counter::ReceivedBytes), 9000 + 2 * MUCH.len() as u64);
    assert_eq!(bench.pool.free(), BUFFERS);
    // The other direction is copied.
    let asked = bench.last_input(key, Client, b"x");
    assert_eq!(asked, [(Client, many(BUDGET_BYTES - 1)), (Backend, Send(b"x".to_vec()))]);
}

#[test]
fn what_has_gone_on_is_not_sent_again() {
    let mut bench = splicing(1);
    let key = told_much(&mut bench);
    bench.sent(key, Client, MUCH.len());
    let sent = bench.count(Counter::SentBytes);
    assert_eq!(bench.spliced_on(key, Backend, (9000, Ok(9000))), [(Backend, Asked::Splice)]);
    assert_eq!(bench.spliced_on(key, Backend, (9000, Ok(2000))), [piped(Client, 7000)]);
    assert_eq!(bench.sent(key, Client, 7000), [(Backend, Asked::Splice)]);
    assert_eq!(bench.count(Counter::SplicedBytes), 18_000);
    assert_eq!(bench.count(Counter::SentBytes), sent + 18_000);
}

#[test]
fn who_cannot_be_sent_to_ends_the_pair() {
    let mut bench = splicing(1);
    let key = told_much(&mut bench);
    bench.sent(key, Client, MUCH.len());
    let asked = bench.spliced_on(key, Backend, (9000, Err(Errno::EPIPE)));
    assert_eq!(asked, [(Client, Asked::Cancel(Kind::Receive))]);
    let asked = bench.on(key, Client, Event::Received(Err(Errno::ECANCELED)));
    assert_eq!(operations(asked), [Reset, Reset]);
    assert_eq!(bench.count(Counter::ClosedByReset), 1);
}

#[test]
fn the_end_of_what_is_spliced_is_passed_on() {
    let mut bench = splicing(1);
    let key = told_much(&mut bench);
    bench.sent(key, Client, MUCH.len());
    bench.spliced(key, Backend, 100);
    assert_eq!(bench.sent(key, Client, 100), [(Backend, Asked::Splice)]);
    let fin = (Client, Asked::Shutdown(Shutdown::Write));
    assert_eq!(bench.spliced(key, Backend, 0), [fin]);
    // Its pipe is free for another.
    let other = told_much(&mut bench);
    assert_eq!(bench.sent(other, Client, MUCH.len()), [(Backend, Asked::Splice)]);
    assert_eq!(operations(bench.fin(key, Client)), [Close, Close]);
    assert_eq!(bench.count(Counter::ClosedByBackend), 1);
}

#[test]
fn who_sends_little_again_and_again_is_copied_again() {
    let mut bench = splicing(1);
    let key = told_much(&mut bench);
    bench.sent(key, Client, MUCH.len());
    assert_eq!(bench.spliced(key, Backend, LITTLE), [piped(Client, LITTLE)]);
    assert_eq!(bench.sent(key, Client, LITTLE), [(Backend, Asked::Splice)]);
    bench.spliced(key, Backend, LITTLE);
    assert_eq!(bench.sent(key, Client, LITTLE), [(Backend, all())]);
    // Its pipe is free for another.
    let key = told_much(&mut bench);
    assert_eq!(bench.sent(key, Client, MUCH.len()), [(Backend, Asked::Splice)]);
}

#[test]
fn those_beyond_the_limit_are_copied_until_a_pipe_is_free() {
    let mut bench = splicing(1);
    let first = told_much(&mut bench);
    assert_eq!(bench.sent(first, Client, MUCH.len()), [(Backend, Asked::Splice)]);
    let second = bench.pair();
    bench.input(second, Backend, &MUCH);
    bench.sent(second, Client, MUCH.len());
    let asked = bench.last_input(second, Backend, &MUCH);
    assert_eq!(asked[1..], [(Backend, many(BUDGET_BYTES - MUCH.len() as u32))]);
    bench.sent(second, Client, MUCH.len());
    bench.receive_fails(first, Client, Errno::ECONNRESET);
    assert_eq!(
        bench.on(first, Backend, Event::Spliced(Err(Errno::ECANCELED))),
        [(Client, Reset), (Client, Reset)]
    );
    bench.last_input(second, Backend, &MUCH);
    assert_eq!(bench.sent(second, Client, MUCH.len()), [(Backend, Asked::Splice)]);
}

#[test]
fn with_bytes_in_the_pipe_the_end_is_a_reset() {
    let mut bench = splicing(1);
    let key = told_much(&mut bench);
    bench.sent(key, Client, MUCH.len());
    bench.spliced(key, Backend, 5000);
    let asked = bench.pass(5000);
    assert!(asked.contains(&(Client, Asked::Cancel(Kind::Send))), "{asked:?}");
    bench.on(key, Client, Event::Sent(Err(Errno::ECANCELED)));
    let asked = bench.on(key, Client, Event::Received(Err(Errno::ECANCELED)));
    assert_eq!(operations(asked), [Reset, Reset]);
}

#[test]
fn what_cannot_be_spliced_is_copied() {
    let mut bench = splicing(1);
    let key = told_much(&mut bench);
    assert_eq!(bench.sent(key, Client, MUCH.len()), [(Backend, Asked::Splice)]);
    let refused = Event::Spliced(Err(Errno::EINVAL));
    assert_eq!(bench.on(key, Backend, refused), [(Backend, all())]);
}

#[test]
fn a_pipe_through_which_nothing_moves_is_given_up() {
    let mut bench = splicing(1);
    let key = told_much(&mut bench);
    assert_eq!(bench.sent(key, Client, MUCH.len()), [(Backend, Asked::Splice)]);
    assert_eq!(bench.pass(900), []);
    assert_eq!(bench.pass(1100), [(Backend, Asked::Cancel(Kind::Receive))]);
    let cancelled = Event::Spliced(Err(Errno::ECANCELED));
    assert_eq!(bench.on(key, Backend, cancelled), [(Backend, all())]);
    let other = told_much(&mut bench);
    assert_eq!(bench.sent(other, Client, MUCH.len()), [(Backend, Asked::Splice)]);
}

#[test]
fn a_pipe_that_was_to_be_used_next_is_given_up_too() {
    let mut bench = splicing(1);
    let key = bench.pair();
    for _ in 0..2 {
        bench.input(key, Backend, &MUCH);
        bench.sent(key, Client, MUCH.len());
    }
    assert_eq!(bench.pass(1100), []);
    let other = told_much(&mut bench);
    assert_eq!(bench.sent(other, Client, MUCH.len()), [(Backend, Asked::Splice)]);
}
