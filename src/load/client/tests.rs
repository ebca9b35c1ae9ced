//! The client by hand-written completions.

use std::fs::File;

use super::*;
use crate::load::plan::testing::plan;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";

/// Completions come in any order: here the answer and the server's FIN before the word that the
/// connection is there.
#[test]
fn a_fin_that_is_seen_before_the_handshake_ends_the_operation() {
    let now = Instant::now();
    let mut plan = plan(Mode::Http { requests_per_connection: Some(1) });
    plan.close = CloseStyle::Server;
    plan.pace = Pace::Closed { connections: 1 };
    plan.count = Some(1);
    let protocol = Protocol::new(&plan);
    let mut client = Client::new(Arc::new(plan), protocol, (0, now), true);
    let mut pool = BufferPool::new(2, 1024).unwrap();
    let mut operations = Operations::default();
    let key = Key::fixed(0);
    client.turn(&mut Turn { buffers: &mut pool, operations: &mut operations, now });
    let mut buffer = pool.take().unwrap();
    pool.write(&mut buffer, 0, ANSWER);
    let socket = File::open("/dev/null").unwrap().into();
    let events = [
        Event::Opened(Ok(socket)),
        Event::Sent(Ok(40)),
        Event::Received(Ok(Received::Bytes { buffer, len: ANSWER.len() })),
        Event::Received(Ok(Received::End)),
        Event::Connected(Ok(())),
    ];
    for event in events {
        let mut turn = Turn { buffers: &mut pool, operations: &mut operations, now };
        client.complete(Completion { key, more: false, event }, &mut turn);
    }
    assert_eq!((client.recorder.completed, client.recorder.failed), (1, 0));
    let last = operations.drain().last().map(|(_, operation)| operation);
    assert!(matches!(last, Some(Operation::Close { .. })), "{last:?}");
    assert_eq!(client.active, 0);
}
