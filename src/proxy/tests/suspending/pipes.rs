//! Bytes that wait in a pipe.

use std::io::Write;

use super::*;

fn splicing() -> Bench {
    let settings = ProxySettings { upstreams: vec![upstream(|_| {})], ..settings() };
    Bench::on_thread(settings, LIMITS, Splicing { pipes: 1, patience: 1 })
}

/// A backend whose bytes go through a pipe, and what is asked for it.
fn spliced(bench: &mut Bench) -> Key {
    let key = bench.pair();
    bench.last_input(key, Backend, &[7; BUFFER_BYTES]);
    assert_eq!(bench.sent(key, Client, BUFFER_BYTES), [(Backend, Asked::Splice)]);
    key
}

/// As a splice does.
fn fill(bench: &mut Bench, key: Key, bytes: &[u8]) {
    let detail = bench.proxy.table.get_mut(key).unwrap().detail.as_mut().unwrap();
    let pipe = detail.pipes[Backend as usize].as_ref().unwrap();
    std::fs::File::from(pipe.write.try_clone().unwrap()).write_all(bytes).unwrap();
}

#[test]
fn what_waits_in_a_pipe_is_read_out_of_it() {
    for gone in [0, 5] {
        let mut bench = splicing();
        let key = spliced(&mut bench);
        fill(&mut bench, key, &b"0123456789"[gone..]);
        bench.spliced(key, Backend, 10);
        let sent = bench.count(Counter::SentBytes);
        assert_eq!(bench.suspend(key).unwrap(), [(Client, RECEIVE), (Client, SEND)]);
        bench.on(key, Client, cancelled());
        // This one does not tell how much has gone.
        bench.on(key, Client, unsent());
        let suspended = bench.taken();
        assert_eq!(owed(&suspended), [&b"0123456789"[gone..], b""]);
        assert_eq!(bench.count(Counter::SentBytes), sent + gone as u64);
        assert_eq!(bench.proxy.pipes, 0);
        let (_, asked) = bench.resume(suspended);
        assert!(asked.contains(&(Client, Send(b"0123456789"[gone..].to_vec()))), "{asked:?}");
        assert!(!asked.contains(&(Backend, Asked::Splice)), "{asked:?}");
        // Its pipe is free for another.
        spliced(&mut bench);
    }
}

#[test]
fn what_a_splice_brings_with_its_cancel_moves_too() {
    let mut bench = splicing();
    let key = spliced(&mut bench);
    assert_eq!(bench.suspend(key).unwrap(), [(Client, RECEIVE), (Backend, RECEIVE)]);
    bench.on(key, Client, cancelled());
    fill(&mut bench, key, b"left");
    assert_eq!(bench.spliced_on(key, Backend, (9, Ok(5))), []);
    let suspended = bench.taken();
    assert_eq!(owed(&suspended), [&b"left"[..], b""]);
}

/// So it is in the simulator: nothing may be lost, and it goes on as if nothing had been.
#[test]
fn a_pipe_that_is_only_played_keeps_its_pair() {
    let mut bench = splicing();
    let key = spliced(&mut bench);
    bench.suspend(key).unwrap();
    bench.on(key, Client, cancelled());
    let piped = (Client, Asked::SendPiped { len: 4, more: false });
    assert_eq!(bench.spliced_on(key, Backend, (9, Ok(5))), [piped, (Client, ONCE)]);
    assert_eq!(bench.proxy.suspending(), 0);
    assert_eq!(bench.suspend(key), None);
    bench.sent(key, Client, 4);
    assert_eq!(bench.suspend(key).unwrap(), [(Client, RECEIVE), (Backend, RECEIVE)]);
}
