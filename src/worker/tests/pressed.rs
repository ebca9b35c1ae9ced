//! Connections that end so that others are served.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering;

use super::*;
use crate::config::{Patience, Refusal};
use crate::dispatch::Shed;

fn evict(bench: &mut Bench) -> Vec<(Key, Asked)> {
    bench.act(|worker, cx| {
        worker.evict(FrontendId(0), cx);
    })
}

/// A connection that has been answered.
fn answered(bench: &mut Bench) -> Key {
    let (key, asked) = bench.connect_with(b"echo");
    assert_eq!(asked[0], Send(b"echo".to_vec()));
    bench.sent(key, 4);
    key
}

#[test]
fn the_connection_that_has_been_idle_for_longest_is_closed() {
    let mut bench = Bench::new(Script::default());
    let first = answered(&mut bench);
    bench.pass(100);
    let second = answered(&mut bench);
    bench.pass(800);
    assert_eq!(evict(&mut bench), [], "none has been idle for a second");
    // The first has something to say, and what it is told is still being sent.
    bench.input(first, true, b"echo");
    bench.pass(900);
    assert_eq!(evict(&mut bench), [(second, Asked::Shutdown(Shutdown::Both))]);
    assert_eq!(bench.end(second), [Close]);
    assert_eq!(bench.told(), [(1, CloseReason::Evicted)]);
    assert_eq!(bench.count(Counter::ClosedByEviction), 1);
    bench.pass(900);
    assert_eq!(evict(&mut bench), [], "it is being sent to");
    bench.sent(first, 4);
    assert_eq!(evict(&mut bench), [], "which was progress");
    bench.pass(1_000);
    assert_eq!(evict(&mut bench), [(first, Asked::Shutdown(Shutdown::Both))]);
    assert_eq!(evict(&mut bench), [], "it is closed already");
}

#[test]
fn the_connections_of_other_frontends_stay() {
    let mut bench = Bench::new(Script::default());
    answered(&mut bench);
    bench.pass(2_000);
    let asked = bench.act(|worker, cx| assert!(!worker.evict(FrontendId(7), cx)));
    assert_eq!((asked, bench.worker.open()), (vec![], 1));
}

#[test]
fn a_client_that_has_gone_while_it_waited_is_not_served() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for (limit, dead) in [(Duration::ZERO, true), (Duration::from_secs(3600), false)] {
        let mut bench = Bench::new(Script::default());
        let patience = Some(Patience { limit, half_close: true });
        let settings = SessionSettings {
            patience,
            limit: Arc::clone(&bench.limit),
            ..settings(Arc::clone(&bench.script))
        };
        bench.version = bench.worker.publish(Arc::new(settings)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        drop(client);
        // The FIN is there, and the wait longer than the tick of any kernel.
        std::thread::sleep(Duration::from_millis(50));
        let asked = bench.adopt_socket(socket.into());
        let expected = if dead { Close } else { ONCE };
        assert_eq!(asked.into_iter().map(|(_, asked)| asked).collect::<Vec<_>>(), [expected]);
        assert_eq!(bench.count(Counter::ClosedDeadOnArrival), u64::from(dead));
        if dead {
            bench.nothing_left();
            assert_eq!(bench.told(), [], "it had no session");
        }
    }
}

/// In an overload: in the way that its frontend refuses, and before a service is told.
#[test]
fn a_client_that_has_waited_too_long_in_an_overload_is_shed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hour = Duration::from_secs(3600);
    for (refusal, from, expected) in [
        (Refusal::Reset, Duration::ZERO, Asked::Reset),
        (Refusal::Delay, Duration::ZERO, Asked::Reset),
        (Refusal::Close, Duration::ZERO, Close),
        (Refusal::Reply(b"busy".into()), Duration::ZERO, Close),
        (Refusal::Reset, hour, ONCE),
    ] {
        let mut bench = Bench::new(Script::default());
        let admission = Admission::default().refusing(refusal.clone());
        let settings = SessionSettings {
            admission: Arc::new(admission),
            limit: Arc::clone(&bench.limit),
            ..settings(Arc::clone(&bench.script))
        };
        bench.version = bench.worker.publish(Arc::new(settings)).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(&[b'?'; 10_000]).unwrap();
        let (socket, _) = listener.accept().unwrap();
        let count = Arc::default();
        let pressed =
            Pressed { shed: Some(Shed::new(from, Arc::clone(&count))), ..Pressed::default() };
        let asked = bench.adopt_pressed(socket.into(), pressed);
        assert_eq!(asked.into_iter().map(|(_, asked)| asked).collect::<Vec<_>>(), [expected]);
        let is_shed = from.is_zero();
        assert_eq!(bench.count(Counter::ClosedByShed), u64::from(is_shed));
        assert_eq!(count.load(Ordering::Relaxed), u64::from(is_shed));
        if is_shed {
            bench.nothing_left();
            assert_eq!(bench.told(), [], "it had no session");
        }
        if refusal == Refusal::Reply(b"busy".into()) {
            let mut told = Vec::new();
            client.read_to_end(&mut told).expect("nothing was left unread");
            assert_eq!(told, b"busy");
        }
    }
}
