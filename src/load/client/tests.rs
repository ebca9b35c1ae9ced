//! The client by hand-written completions.

use std::io::Write;
use std::os::unix::net::UnixStream;

use super::*;
use crate::load::outcome::{Fault, Phase};
use crate::load::plan::testing::plan;
use crate::load::request::Template;
use crate::ring::{Bytes, Operation, Received};
use crate::sys::Errno;

mod idle;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";
const LAST_ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n";

/// A client without a kernel.
struct Bench {
    client: Client,
    pool: BufferPool,
    now: Instant,
    /// The other ends of its connections, in the order in which these were opened.
    servers: Vec<UnixStream>,
}

impl Bench {
    /// One connection of HTTP, and so many operations.
    fn new(count: u64, change: impl FnOnce(&mut Plan)) -> Self {
        let now = Instant::now();
        let mut plan = plan(Mode::Http { requests_per_connection: None });
        plan.pace = Pace::Closed { connections: 1 };
        plan.count = Some(count);
        change(&mut plan);
        let protocol = Protocol::new(&plan);
        let client = Client::new(Arc::new(plan), protocol, (0, now), true);
        Self { client, pool: BufferPool::new(2, 1024).unwrap(), now, servers: Vec::new() }
    }

    /// Starts what is due; returns what that made.
    fn turn(&mut self) -> Vec<(Key, Operation)> {
        let mut operations = Operations::default();
        let mut turn = Turn { operations: &mut operations, now: self.now };
        self.client.turn(&mut self.pool, &mut turn);
        operations.drain().collect()
    }

    /// Tells of what has happened to a connection, then starts what is due.
    fn tell(&mut self, key: Key, event: Event) -> Vec<(Key, Operation)> {
        let mut operations = Operations::default();
        let mut turn = Turn { operations: &mut operations, now: self.now };
        self.client.complete(Completion { key, more: false, event }, &mut self.pool, &mut turn);
        self.client.turn(&mut self.pool, &mut turn);
        operations.drain().collect()
    }

    fn bytes(&mut self, key: Key, bytes: &[u8]) -> Vec<(Key, Operation)> {
        let mut buffer = self.pool.take().unwrap();
        self.pool.write(&mut buffer, 0, bytes);
        self.tell(key, Event::Received(Ok(Received::Bytes { buffer, len: bytes.len() })))
    }

    fn end(&mut self, key: Key) -> Vec<(Key, Operation)> {
        self.tell(key, Event::Received(Ok(Received::End)))
    }

    /// A connection that is there, with its first requests on their way.
    fn open(&mut self) -> Key {
        let key = opened(&self.turn());
        self.connect(key);
        key
    }

    fn connect(&mut self, key: Key) {
        self.socket(key);
        self.tell(key, Event::Connected(Ok(())));
    }

    /// Gives a connection its socket.
    fn socket(&mut self, key: Key) -> Vec<(Key, Operation)> {
        let (client, server) = UnixStream::pair().unwrap();
        self.servers.push(server);
        self.tell(key, Event::Opened(Ok(client.into())))
    }

    /// What is in flight has gone out.
    fn sent(&mut self, key: Key) -> Vec<(Key, Operation)> {
        let sending = self.client.get(key).and_then(|session| session.sending.as_ref());
        let len = sending.map_or(0, |sending| sending.bytes.len() - sending.sent);
        self.tell(key, Event::Sent(Ok(len)))
    }

    /// Completed, failed, sent again, closed by the server.
    fn counts(&self) -> (u64, u64, u64, u64) {
        let recorder = &self.client.recorder;
        (recorder.completed, recorder.failed, recorder.resent, recorder.closed_by_server)
    }

    #[track_caller]
    fn failed_by(&self, phase: Phase, fault: Fault) {
        assert_eq!(self.client.recorder.faults, [((phase, fault), 1)].into());
    }
}

/// The key of the connection that is opened.
#[track_caller]
fn opened(operations: &[(Key, Operation)]) -> Key {
    let open = |(_, operation): &&(Key, Operation)| matches!(operation, Operation::Open { .. });
    operations.iter().find(open).unwrap_or_else(|| panic!("nothing was opened: {operations:?}")).0
}

fn closes(operations: &[(Key, Operation)]) -> bool {
    operations.iter().any(|(_, operation)| matches!(operation, Operation::Close { .. }))
}

/// How many bytes each send has.
fn sends(operations: &[(Key, Operation)]) -> Vec<usize> {
    let send = |(_, operation): &(Key, Operation)| match operation {
        Operation::Send { bytes, .. } => Some(bytes.len()),
        _ => None,
    };
    operations.iter().filter_map(send).collect()
}

/// Completions come in any order: here the answer and the server's FIN before the word that the
/// connection is there.
#[test]
fn a_fin_that_is_seen_before_the_handshake_ends_the_operation() {
    let mut bench = Bench::new(1, |plan| {
        plan.mode = Mode::Http { requests_per_connection: Some(1) };
        plan.close = CloseStyle::Server;
    });
    let key = opened(&bench.turn());
    bench.socket(key);
    bench.sent(key);
    bench.bytes(key, ANSWER);
    bench.end(key);
    assert!(closes(&bench.tell(key, Event::Connected(Ok(())))));
    assert_eq!(bench.counts(), (1, 0, 0, 0));
    assert!(bench.client.is_done());
}

/// On a busy machine a server has answered and reset the connection before the ring looks how the
/// connect went.
#[test]
fn an_answer_counts_though_the_connect_is_told_of_the_reset_behind_it() {
    for (before, errno) in [
        (&b""[..], Errno::EPIPE),
        (b"", Errno::ECONNRESET),
        (&ANSWER[..9], Errno::ECONNRESET),
        (&ANSWER[..9], Errno::ECONNABORTED),
        (ANSWER, Errno::ECONNABORTED),
    ] {
        let mut bench = Bench::new(1, |_| ());
        let key = opened(&bench.turn());
        bench.socket(key);
        if !before.is_empty() {
            bench.bytes(key, before);
        }
        bench.tell(key, Event::Connected(Err(errno)));
        bench.sent(key);
        if before.len() < ANSWER.len() {
            bench.bytes(key, &ANSWER[before.len()..]);
        }
        bench.end(key);
        assert_eq!((bench.counts().0, bench.counts().1), (1, 0), "{before:?} {errno}");
        assert_eq!(bench.client.recorder.connections, 1, "{before:?} {errno}");
        assert!(bench.client.is_done(), "{before:?} {errno}");
    }
}

#[test]
fn a_reset_behind_the_handshake_without_an_answer_fails_there() {
    let mut bench = Bench::new(1, |_| ());
    let key = opened(&bench.turn());
    bench.socket(key);
    bench.tell(key, Event::Connected(Err(Errno::ECONNRESET)));
    bench.sent(key);
    assert!(closes(&bench.end(key)));
    bench.failed_by(Phase::Send, Fault::Errno(Errno::ECONNRESET));
}

/// Else a busy machine would show as answers cut short.
#[test]
fn a_reset_that_the_connect_was_told_of_is_not_taken_for_an_end() {
    const NO_LENGTH: &[u8] = b"HTTP/1.1 200 OK\r\n\r\nok";
    for part in [&ANSWER[..ANSWER.len() - 1], NO_LENGTH] {
        for late in [false, true] {
            let mut bench = Bench::new(1, |_| ());
            let key = opened(&bench.turn());
            bench.socket(key);
            let reset = Event::Connected(Err(Errno::ECONNRESET));
            if late {
                bench.bytes(key, part);
                bench.end(key);
                bench.tell(key, reset);
            } else {
                bench.tell(key, reset);
                bench.bytes(key, part);
                bench.end(key);
            }
            bench.sent(key);
            bench.failed_by(Phase::Receive, Fault::Errno(Errno::ECONNRESET));
        }
    }
}

#[test]
fn a_kept_connection_that_ends_without_a_byte_sends_the_request_again() {
    for end in [Received::End.into_event(), Event::Received(Err(Errno::ECONNRESET))] {
        let mut bench = Bench::new(2, |_| ());
        let key = bench.open();
        bench.sent(key);
        bench.bytes(key, ANSWER);
        bench.sent(key);
        let next = bench.tell(key, end);
        let again = opened(&next);
        assert!(closes(&next));
        bench.connect(again);
        bench.sent(again);
        bench.bytes(again, ANSWER);
        assert_eq!(bench.counts(), (2, 0, 1, 1));
    }
}

impl Received {
    fn into_event(self) -> Event {
        Event::Received(Ok(self))
    }
}

#[test]
fn a_fresh_connection_that_ends_without_a_byte_is_a_failure() {
    let mut bench = Bench::new(1, |_| ());
    let key = bench.open();
    bench.sent(key);
    assert!(closes(&bench.end(key)));
    bench.failed_by(Phase::Receive, Fault::EarlyEnd);
}

#[test]
fn what_must_not_be_done_twice_is_not_sent_again() {
    let mut bench = Bench::new(2, |plan| {
        let post = Template::get("/").method("POST").unwrap();
        plan.http.as_mut().unwrap().requests = vec![post.render("h", false)];
    });
    let key = bench.open();
    bench.sent(key);
    bench.bytes(key, ANSWER);
    bench.sent(key);
    bench.end(key);
    assert_eq!(bench.counts(), (1, 1, 0, 0));
    assert_eq!(bench.client.recorder.not_resent, 1);
    bench.failed_by(Phase::Receive, Fault::EarlyEnd);
}

#[test]
fn an_announced_close_ends_with_the_servers_fin_before_the_next_connection() {
    let mut bench = Bench::new(2, |_| ());
    let key = bench.open();
    bench.sent(key);
    let meanwhile = bench.bytes(key, LAST_ANSWER);
    assert!(!closes(&meanwhile) && sends(&meanwhile).is_empty(), "{meanwhile:?}");
    let next = bench.end(key);
    assert!(closes(&next));
    opened(&next);
    assert_eq!(bench.counts(), (1, 0, 0, 1));
}

#[test]
fn an_announced_close_without_a_fin_is_not_waited_for_for_ever() {
    let mut bench = Bench::new(2, |_| ());
    let key = bench.open();
    bench.sent(key);
    bench.bytes(key, LAST_ANSWER);
    bench.now += Duration::from_millis(21);
    let shut = |(_, operation): &(Key, Operation)| matches!(operation, Operation::Shutdown { .. });
    assert!(bench.turn().iter().any(shut));
}

#[test]
fn a_second_answer_is_a_failure() {
    let mut bench = Bench::new(1, |_| ());
    let key = bench.open();
    bench.sent(key);
    bench.bytes(key, &[ANSWER, ANSWER].concat());
    bench.failed_by(Phase::Verify, Fault::UnaskedAnswer);
}

#[test]
fn requests_that_wait_together_leave_in_one_send_and_are_answered_in_order() {
    let mut bench = Bench::new(4, |plan| plan.http.as_mut().unwrap().pipeline = 3);
    let key = opened(&bench.turn());
    let first = sends(&bench.socket(key));
    let one = bench.client.protocol.request(0, false).len();
    assert_eq!(first, [3 * one]);
    bench.tell(key, Event::Connected(Ok(())));
    bench.sent(key);
    // Two answers and the beginning of the third; one more operation starts.
    let pieces = [ANSWER, ANSWER, &ANSWER[..9]].concat();
    assert_eq!(sends(&bench.bytes(key, &pieces)), [one]);
    bench.sent(key);
    bench.bytes(key, &[&ANSWER[9..], ANSWER].concat());
    assert_eq!(bench.counts(), (4, 0, 0, 0));
    assert_eq!(bench.pool.free(), 2);
}

#[test]
fn requests_behind_a_last_answer_go_to_another_connection() {
    let mut bench = Bench::new(3, |plan| plan.http.as_mut().unwrap().pipeline = 3);
    let key = bench.open();
    bench.sent(key);
    let moved = opened(&bench.bytes(key, LAST_ANSWER));
    bench.end(key);
    bench.connect(moved);
    bench.sent(moved);
    bench.bytes(moved, &[ANSWER, ANSWER].concat());
    assert_eq!(bench.counts(), (3, 0, 2, 1));
    assert_eq!(bench.pool.free(), 2);
}

/// Else a server that answers nothing would hold up the end of a run once for each of them.
#[test]
fn operations_of_a_silent_connection_time_out_together() {
    let mut bench = Bench::new(3, |plan| plan.http.as_mut().unwrap().pipeline = 3);
    let key = bench.open();
    bench.sent(key);
    bench.now += Duration::from_secs(6);
    bench.turn();
    assert_eq!(bench.counts(), (0, 3, 0, 0));
}

#[test]
fn the_first_byte_is_that_of_the_final_answer() {
    let mut bench = Bench::new(1, |_| ());
    let key = bench.open();
    bench.sent(key);
    bench.bytes(key, b"HTTP/1.1 103 Early Hints\r\n\r\n");
    bench.now += Duration::from_millis(50);
    bench.bytes(key, ANSWER);
    let first_byte = &bench.client.recorder.latencies.first_byte;
    assert!(first_byte.min() >= 49_000_000, "{}", first_byte.min());
}

#[test]
fn an_answer_that_comes_before_the_request_was_read_counts() {
    let mut bench = Bench::new(1, |plan| {
        plan.http.as_mut().unwrap().expect_status = "413".parse().unwrap();
    });
    let key = bench.open();
    bench.tell(key, Event::Sent(Err(Errno::EPIPE)));
    bench.bytes(key, b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n");
    bench.end(key);
    assert_eq!(bench.counts().0, 1);
}

/// io_uring does not tell which error came behind the bytes that went out; the rest meets it.
#[test]
fn a_send_that_is_cut_short_counts_its_bytes_and_goes_on() {
    for pipeline in [1, 3] {
        let mut bench = Bench::new(3, |plan| plan.http.as_mut().unwrap().pipeline = pipeline);
        let key = bench.open();
        let [all] = [pipeline * bench.client.protocol.request(0, false).len()];
        assert_eq!(sends(&bench.tell(key, Event::Sent(Ok(9)))), [all - 9]);
        assert_eq!(sends(&bench.tell(key, Event::Sent(Ok(1)))), [all - 10]);
        bench.tell(key, Event::Sent(Err(Errno::EPIPE)));
        assert_eq!(bench.client.recorder.sent_bytes, 10);
        bench.end(key);
        bench.failed_by(Phase::Send, Fault::Errno(Errno::EPIPE));
        assert_eq!(bench.pool.free(), 2);
    }
}

/// Half of it is not a chunk.
#[test]
fn a_chunk_of_a_stream_that_is_cut_short_has_not_been_sent() {
    let mut bench = Bench::new(1, |plan| {
        (plan.mode, plan.http) = (Mode::Stream { echo: false }, None);
    });
    let key = bench.open();
    bench.tell(key, Event::Sent(Ok(9)));
    assert_eq!(bench.counts(), (0, 0, 0, 0));
    bench.tell(key, Event::Sent(Err(Errno::EPIPE)));
    assert_eq!(bench.counts(), (0, 1, 0, 0));
}

#[test]
fn what_is_cut_off_fails_and_everything_ends_at_once() {
    let mut bench = Bench::new(3, |plan| plan.http.as_mut().unwrap().pipeline = 3);
    let key = bench.open();
    bench.sent(key);
    assert_eq!(bench.client.under_way, 3);
    let mut operations = Operations::default();
    bench.client.cut_off(&mut Turn { operations: &mut operations, now: bench.now });
    assert_eq!((bench.counts(), bench.client.under_way), ((0, 3, 0, 0), 0));
    assert!(closes(&bench.end(key)));
    assert!(bench.client.is_done());
}

#[test]
fn a_wrong_status_leaves_the_connection_as_it_is() {
    let mut bench = Bench::new(2, |_| ());
    let key = bench.open();
    bench.sent(key);
    let next = bench.bytes(key, b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(sends(&next).len(), 1);
    bench.failed_by(Phase::Verify, Fault::WrongStatus);
}

#[test]
fn a_fixed_number_of_connections_is_opened_before_it_is_needed() {
    let arrival = crate::load::plan::Arrival::Uniform;
    let mut bench = Bench::new(1, |plan| {
        plan.pace = Pace::Fixed { connections: 3, rate: 1.0, arrival };
        plan.count = None;
    });
    let opens = bench.turn().iter().filter(|(_, o)| matches!(o, Operation::Open { .. })).count();
    assert_eq!(opens, 3);
    let keys = bench.client.keys();
    let request = |operations: &[(Key, Operation)]| {
        operations.iter().any(|(_, o)| matches!(o, Operation::Send { bytes: Bytes::Static(_), .. }))
    };
    assert!(!request(&bench.socket(keys[1])));
    assert!(request(&bench.tell(keys[1], Event::Connected(Ok(())))));
}
