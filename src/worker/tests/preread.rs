//! The PROXY header that comes before a session.

use std::net::{SocketAddr, TcpListener, TcpStream};

use super::*;

const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.8 1111 2222\r\n";

/// A service that knows nobody but the client of [`HEADER`].
fn knows(info: &ConnectionInfo<'_, u32>) {
    assert_eq!(info.peer(), Some(SocketAddr::from(([192, 0, 2, 7], 1111))));
}

/// A worker that trusts this network.
fn trusting(trusted: &str, script: Script) -> Bench {
    let mut bench = Bench::new(script);
    let trusted = vec![trusted.parse().unwrap()];
    let settings = SessionSettings { trusted, ..settings(Arc::clone(&bench.script)) };
    bench.limit = Arc::clone(&settings.limit);
    bench.version = bench.worker.publish(Arc::new(settings)).unwrap();
    bench
}

/// The same with a connection from 127.0.0.1.
fn bench(trusted: &str, script: Script) -> (Bench, Key, TcpStream) {
    let mut bench = trusting(trusted, script);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let asked = bench.adopt_socket(listener.accept().unwrap().0.into());
    let [(key, ONCE)] = asked[..] else { panic!("{asked:?} is no single receive") };
    (bench, key, client)
}

fn script() -> Script {
    Script { open: knows, ..Script::default() }
}

#[test]
fn what_comes_behind_a_header_is_the_sessions() {
    let whole = [HEADER, b"payload"].concat();
    for cut in 0..=whole.len() {
        let (mut bench, key, _client) = bench("127.0.0.0/8", script());
        let (one, other) = whole.split_at(cut);
        let mut sent = Vec::new();
        for part in [one, other].into_iter().filter(|part| !part.is_empty()) {
            for asked in bench.input(key, false, part) {
                if let Send(bytes) = asked {
                    bench.sent(key, bytes.len());
                    sent.extend(bytes);
                }
            }
        }
        assert_eq!(sent, b"payload", "cut at {cut}");
        let listed = bench.worker.listed(key.slot, bench.millis()).unwrap();
        assert_eq!(listed.client, Some(SocketAddr::from(([192, 0, 2, 7], 1111))));
        bench.end(key);
        bench.ended(CloseReason::PeerClosed);
        assert!(bench.worker.told.is_empty() && bench.worker.prereads.is_empty());
    }
}

#[test]
fn a_header_that_speaks_for_nobody_leaves_the_peer() {
    let open = |info: &ConnectionInfo<'_, u32>| assert!(info.peer().unwrap().ip().is_loopback());
    let (mut bench, key, _client) = bench("127.0.0.0/8", Script { open, ..Script::default() });
    bench.input(key, false, b"PROXY UNKNOWN\r\n");
    bench.end(key);
    bench.ended(CloseReason::PeerClosed);
}

#[test]
fn a_connection_of_nobody_who_is_trusted_has_no_header() {
    let open = |info: &ConnectionInfo<'_, u32>| assert!(info.peer().unwrap().ip().is_loopback());
    let (mut bench, key, _client) = bench("10.0.0.0/8", Script { open, ..Script::default() });
    assert_eq!(bench.input(key, false, HEADER)[0], Send(HEADER.to_vec()));
}

#[test]
fn what_is_no_header_ends_the_connection_and_no_session_hears_of_it() {
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"P", b""] {
        let (mut bench, key, _client) = bench("127.0.0.0/8", script());
        let mut asked = Vec::new();
        if !bytes.is_empty() {
            asked = bench.input(key, false, bytes);
        }
        if bench.worker.open() > 0 {
            asked = bench.end(key);
        }
        let last = if bytes.is_empty() { Close } else { Asked::Reset };
        assert_eq!(asked, [last]);
        assert!(bench.told().is_empty());
        bench.nothing_left();
        let refused = u64::from(!bytes.is_empty());
        assert_eq!(bench.count(Counter::ClosedByBadProxyHeader), refused);
        assert_eq!(bench.count(Counter::ClosedByPeer), 1 - refused);
        assert!(bench.worker.prereads.is_empty());
    }
}

/// One byte now and then does not help.
#[test]
fn a_header_has_to_be_there_by_the_first_byte_timeout() {
    let (mut bench, key, _client) = bench("127.0.0.0/8", script());
    let timeout = settings(Arc::new(Script::default())).timeouts.first_byte.as_millis() as u64;
    bench.pass(timeout - 1);
    assert_eq!(bench.input(key, false, b"PROXY"), [ONCE]);
    bench.pass(50);
    bench.end(key);
    bench.nothing_left();
    assert_eq!(bench.count(Counter::ClosedByFirstByteTimeout), 1);
}

#[test]
fn a_service_that_panics_behind_a_header_costs_the_connection() {
    let (mut bench, key, _client) =
        bench("127.0.0.0/8", Script { open: |_| panic!("planned"), ..Script::default() });
    bench.input(key, false, HEADER);
    bench.nothing_left();
    assert_eq!((bench.count(Counter::Opened), bench.count(Counter::ClosedByPanic)), (1, 1));
}

#[test]
fn a_connection_that_was_reset_before_its_peer_was_asked_is_closed() {
    let mut bench = trusting("127.0.0.0/8", script());
    // /dev/null has no peer either.
    assert!(matches!(bench.adopt()[..], [(_, Close)]));
    assert_eq!(bench.count(Counter::ClosedByReset), 1);
    bench.nothing_left();
}
