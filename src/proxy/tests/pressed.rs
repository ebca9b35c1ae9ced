//! Pairs that end so that others are served.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;
use crate::config::{Patience, Refusal};
use crate::dispatch::Shed;
use crate::sources::Admission;

fn evict(bench: &mut Bench) -> usize {
    bench
        .act(|proxy, cx| {
            proxy.evict(FrontendId(0), cx);
        })
        .len()
}

#[test]
fn a_pair_that_owes_no_answer_makes_room() {
    let mut bench = Bench::new();
    let key = bench.pair();
    bench.pass(900);
    assert_eq!(evict(&mut bench), 0, "not for a second");
    bench.pass(200);
    bench.input(key, Client, b"question");
    bench.sent(key, Backend, 8);
    bench.pass(2_000);
    assert_eq!(evict(&mut bench), 0, "the answer is still to come");
    bench.input(key, Backend, b"answer");
    bench.sent(key, Client, 6);
    bench.pass(1_000);
    assert!(evict(&mut bench) > 0);
    bench.fin(key, Client);
    bench.fin(key, Backend);
    bench.all_ended(Counter::ClosedByEviction);
}

#[test]
fn a_client_that_has_gone_while_it_waited_gets_no_backend() {
    let patience = Some(Patience { limit: Duration::ZERO, half_close: true });
    let settings = ProxySettings { patience, ..settings() };
    let mut bench = Bench::with(settings, vec![upstream(|_| {})], PrereadRules::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    drop(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let (socket, _) = listener.accept().unwrap();
    // The FIN is there, and the wait longer than the tick of any kernel.
    std::thread::sleep(Duration::from_millis(50));
    let asked = bench.adopt_socket(socket.into());
    assert!(!asked.iter().any(|(_, _, asked)| *asked == Open), "{asked:?}");
    bench.all_ended(Counter::ClosedDeadOnArrival);
}

#[test]
fn a_client_that_has_waited_too_long_in_an_overload_gets_no_backend() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for (refusal, expected) in [
        (Refusal::Reset, Asked::Reset),
        (Refusal::Close, Asked::Close),
        (Refusal::Reply(b"busy".into()), Asked::Close),
    ] {
        let admission = Arc::new(Admission::default().refusing(refusal.clone()));
        let settings = ProxySettings { admission, ..settings() };
        let mut bench = Bench::with(settings, vec![upstream(|_| {})], PrereadRules::default());
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"a request").unwrap();
        let (socket, _) = listener.accept().unwrap();
        let shed = Some(Shed::new(Duration::ZERO, Arc::default()));
        let pressed = Pressed { shed, ..Pressed::default() };
        let asked = bench.adopt_pressed(socket.into(), pressed);
        let asked: Vec<_> = asked.into_iter().map(|(_, _, asked)| asked).collect();
        assert_eq!(asked, [expected]);
        bench.all_ended(Counter::ClosedByShed);
        if let Refusal::Reply(reply) = refusal {
            let mut told = Vec::new();
            client.read_to_end(&mut told).expect("nothing was left unread");
            assert_eq!(told, reply);
        }
    }
}
