//! What a connection keeps when it moves.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};

use super::*;
use crate::access_log::AccessLog;
use crate::config::LogFormat;

/// Moves it to another thread, which may have begun at another time.
fn other(bench: &Bench, script: Script, later: u64) -> Bench {
    let mut other = Bench::new(script);
    other.now = bench.now + Duration::from_millis(later);
    other.start = other.now - Duration::from_secs(later % 7);
    other
}

/// One that came to `to` and is counted there.
fn arrives(to: &mut Bench, mut suspended: Suspended) -> (Key, Vec<Asked>) {
    assert!(to.limit.admit());
    to.adopted += 1;
    suspended.place = Place::counted(&to.limit);
    to.resume(suspended)
}

fn silent() -> Script {
    Script { data: |_, _| Action::Continue, ..Script::default() }
}

#[test]
fn what_is_left_of_each_deadline() {
    // Nothing has come yet; nothing more comes.
    let cases: [(&[u8], u64, u64, CloseReason); 2] = [
        (b"", 700, 300, CloseReason::FirstByteTimeout),
        (b"x", 2000, 1000, CloseReason::IdleTimeout),
    ];
    for (input, before, left, reason) in cases {
        let mut bench = Bench::new(silent());
        let key = bench.connect();
        if !input.is_empty() {
            bench.input(key, false, input);
        }
        bench.pass(before);
        let suspended = bench.moved(key);
        assert_eq!(record(&suspended).idle, Duration::from_millis(before));
        let mut to = other(&bench, silent(), 12_345);
        let (key, _) = arrives(&mut to, suspended);
        assert_eq!(to.pass(left - 1), []);
        assert_eq!(to.pass(71), [(key, shut(Shutdown::Both))]);
        to.end(key);
        to.ended(reason);
    }
}

/// That it is sent the same bytes again is no progress.
#[test]
fn what_is_left_of_a_stall() {
    let mut bench = Bench::new(Script::default());
    let (key, _) = bench.connect_with(b"unread");
    bench.pass(1500);
    bench.suspend(key);
    bench.receive_fails(key, CANCELLED);
    bench.send_fails(key, CANCELLED);
    let suspended = bench.taken();
    let mut to = other(&bench, Script::default(), 5);
    let (key, asked) = arrives(&mut to, suspended);
    assert_eq!(asked[0], Send(b"unread".to_vec()));
    assert_eq!(to.pass(499), []);
    assert_eq!(to.pass(71), [(key, CancelReceive), (key, CancelSend)]);
    to.send_fails(key, CANCELLED);
    to.receive_fails(key, CANCELLED);
    to.ended(CloseReason::WriteStall);
}

#[test]
fn what_is_left_of_lingering() {
    let mut bench = Bench::new(obedient());
    let (key, _) = bench.connect_with(b"l");
    bench.sent(key, 1);
    bench.pass(300);
    let suspended = bench.moved(key);
    let mut to = other(&bench, obedient(), 50);
    let (key, _) = arrives(&mut to, suspended);
    assert_eq!(to.pass(199), []);
    assert_eq!(to.pass(71), [(key, shut(Shutdown::Both))]);
    to.end(key);
    to.ended(CloseReason::ServiceClosed);
}

/// A deadline that has passed on the way ends it with the next tick, not before it has come.
#[test]
fn a_deadline_that_passed_on_the_way() {
    let mut bench = Bench::new(silent());
    let key = bench.connect();
    let mut suspended = bench.moved(key);
    let Record::Session(record) = &mut suspended.record else { panic!("{suspended:?}") };
    record.idle = Duration::from_secs(1 << 40);
    record.age = Duration::from_secs(1 << 40);
    let (key, asked) = bench.resume(suspended);
    assert_eq!(asked, [ONCE]);
    assert_eq!(bench.pass(10), [(key, shut(Shutdown::Both))]);
    bench.end(key);
    bench.ended(CloseReason::FirstByteTimeout);
}

/// Gives what is written to whoever waits for it.
struct Pipe(Sender<Vec<u8>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.send(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.8 1111 2222\r\n";

/// Logs what ends, and trusts this machine to say who its clients are.
fn logging(bench: &mut Bench, log: Option<LogSink>) {
    let trusted = vec!["127.0.0.0/8".parse().unwrap()];
    let settings = SessionSettings { trusted, log, ..settings(Arc::clone(&bench.script)) };
    bench.limit = Arc::clone(&settings.limit);
    bench.version = bench.worker.publish(Arc::new(settings)).unwrap();
}

fn pair() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0.into(), client)
}

#[test]
fn the_access_log_hears_of_one_connection() {
    let (entries, written) = channel();
    let (sink, log) =
        AccessLog::new(LogFormat::Json, "test".into(), Box::new(Pipe(entries))).unwrap();
    let mut bench = Bench::new(Script::default());
    logging(&mut bench, Some(sink.clone()));
    let (socket, _client) = pair();
    let key = bench.adopt_socket(socket)[0].0;
    bench.pass(100);
    bench.input(key, false, &[HEADER, b"before"].concat());
    bench.pass(400);
    assert_eq!(bench.suspend(key), [CancelReceive, CancelSend]);
    bench.receive_fails(key, CANCELLED);
    bench.sent(key, 2);
    let suspended = bench.taken();
    assert!(bench.worker.told.is_empty() && bench.worker.notes.remove(key).is_none());
    assert_eq!(record(&suspended).told, Some(SocketAddr::from(([192, 0, 2, 7], 1111))));

    let mut to = other(&bench, Script::default(), 1000);
    logging(&mut to, Some(sink));
    let (key, _) = arrives(&mut to, suspended);
    let client = to.worker.listed(key.slot, to.millis()).unwrap().client;
    assert_eq!(client, Some(SocketAddr::from(([192, 0, 2, 7], 1111))));
    to.pass(250);
    to.sent(key, 4);
    to.input(key, false, b"behind");
    to.sent(key, 6);
    to.end(key);
    to.ended(CloseReason::PeerClosed);
    drop((bench, to));
    assert_eq!(log.finish(Duration::from_secs(10)), 0);
    let lines = String::from_utf8(written.into_iter().flatten().collect()).unwrap();
    let entry: serde_json::Value = serde_json::from_str(&lines).expect("one entry");
    assert_eq!(entry["client"], "192.0.2.7:1111", "{entry}");
    let bytes = [&entry["from_client_bytes"], &entry["to_client_bytes"]];
    assert_eq!(bytes, [&12, &12], "{entry}");
    // The time on the way between the two is not known to either.
    let times = [&entry["first_byte_ms"], &entry["total_ms"]];
    assert_eq!(times, [&100.0, &750.0], "{entry}");
}

/// A PROXY header moves as long as it is all in one place: still to come, or behind.
#[test]
fn a_header_that_is_still_to_come() {
    let mut bench = Bench::new(Script {
        open: |info| assert_eq!((info.listener(), info.peer().unwrap().port()), (0, 1111)),
        ..Script::default()
    });
    logging(&mut bench, None);
    let (socket, _client) = pair();
    let key = bench.adopt_socket(socket)[0].0;
    let suspended = bench.moved(key);
    let SessionRecord { stage, session, told, .. } = record(&suspended);
    assert_eq!((*stage, session.len(), *told), (SessionStage::Preread { listener: 0 }, 0, None));
    assert!(bench.worker.prereads.is_empty());
    let (key, asked) = bench.resume(suspended);
    assert_eq!(asked, [ONCE]);

    // A part of it comes with the cancel: what has come is nowhere else, so it goes on here.
    assert_eq!(bench.suspend(key), [CancelReceive]);
    assert_eq!(bench.input(key, false, &HEADER[..10]), [ONCE]);
    assert_eq!((bench.worker.suspending(), bench.worker.take_suspended().len()), (0, 0));
    bench.stays(key);

    // The rest comes.
    let asked = bench.input(key, false, &[&HEADER[10..], b"payload"].concat());
    assert_eq!(asked[0], Send(b"payload".to_vec()));
    bench.sent(key, 7);
    bench.end(key);
    bench.ended(CloseReason::PeerClosed);
    assert!(bench.worker.prereads.is_empty() && bench.worker.told.is_empty());
}

/// All of it comes with the cancel.
#[test]
fn a_header_that_comes_with_the_cancel() {
    let mut bench = Bench::new(Script::default());
    logging(&mut bench, None);
    let (socket, _client) = pair();
    let key = bench.adopt_socket(socket)[0].0;
    assert_eq!(bench.suspend(key), [CancelReceive]);
    assert_eq!(bench.input(key, false, &[HEADER, b"payload"].concat()), []);
    let suspended = bench.taken();
    let SessionRecord { stage, unsent, told, .. } = record(&suspended);
    assert_eq!((*stage, &unsent[..]), (SessionStage::Open, &b"payload"[..]));
    assert_eq!(*told, Some(SocketAddr::from(([192, 0, 2, 7], 1111))));
}

/// It is counted until somebody has taken it over and closed it, or it is dropped.
#[test]
fn its_place_under_the_limit() {
    let mut bench = Bench::new(Script::default());
    let (one, two) = (bench.connect(), bench.connect());
    let dropped = bench.moved(one);
    let resumed = bench.moved(two);
    assert_eq!((bench.limit.open(), bench.worker.open()), (2, 0));
    drop(dropped);
    assert_eq!(bench.limit.open(), 1);
    let (key, _) = bench.resume(resumed);
    assert_eq!(bench.limit.open(), 1);
    bench.end(key);
    assert_eq!((bench.limit.open(), bench.worker.take_closed()), (0, 1));
    assert_eq!(bench.told(), [(1, CloseReason::PeerClosed)]);
}

/// How long it waited to be accepted, if somebody looked.
#[test]
fn its_wait_in_the_queue() {
    let mut bench = Bench::new(Script::default());
    bench.notes_waits = true;
    let (socket, _client) = pair();
    let key = bench.adopt_socket(socket)[0].0;
    let waited = bench.worker.listed(key.slot, bench.millis()).unwrap().waited;
    assert!(waited.is_some());
    let suspended = bench.moved(key);
    assert_eq!((record(&suspended).waited, bench.worker.waits.get(key)), (waited, None));
    let (key, _) = bench.resume(suspended);
    assert_eq!(bench.worker.listed(key.slot, bench.millis()).unwrap().waited, waited);
}

#[test]
fn its_age() {
    let mut bench = Bench::new(silent());
    let (key, _) = bench.connect_with(b"x");
    bench.pass(2000);
    let suspended = bench.moved(key);
    let (key, _) = bench.resume(suspended);
    bench.pass(500);
    let listed = bench.worker.listed(key.slot, bench.millis()).unwrap();
    assert_eq!((listed.age.as_millis(), listed.idle.as_millis()), (2500, 2500));
}
