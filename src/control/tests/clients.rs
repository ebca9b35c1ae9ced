//! One client after another against the state machine of a client, without a server.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use crate::control::client::{ANSWER_TIMEOUT, Client, LINE_MAX_BYTES, REQUEST_TIMEOUT, Wish};

fn pair(now: Instant) -> (Client, UnixStream) {
    let (own, other) = UnixStream::pair().unwrap();
    own.set_nonblocking(true).unwrap();
    (Client::new(1, own, now), other)
}

#[test]
fn lines_come_in_pieces_and_several_at_a_time() {
    let now = Instant::now();
    let (mut client, mut other) = pair(now);
    assert_eq!(client.next(), None);
    other.write_all(b"on").unwrap();
    assert_eq!(client.next(), None);
    other.write_all(b"e\ntwo\nthr").unwrap();
    assert_eq!(client.next(), Some(Wish::Line(b"one".to_vec())));
    client.answer("1\n".to_owned(), now);
    assert!(client.has_line(), "nothing needs to be waited for");
    assert_eq!(client.next(), Some(Wish::Line(b"two".to_vec())));
    client.wait(now);
    assert_eq!(client.next(), None, "one at a time");
    client.answer("2\n".to_owned(), now);
    assert_eq!(client.next(), None);
    drop(other);
    assert_eq!(client.next(), None);
    assert!(client.is_over());
}

/// What is kept of a line without an end is little more than it may have.
#[test]
fn a_line_without_an_end_is_refused() {
    let now = Instant::now();
    let (mut client, other) = pair(now);
    other.set_nonblocking(true).unwrap();
    let mut sent = 0;
    let wish = loop {
        sent += (&other).write(&[b'x'; 8192]).unwrap_or(0);
        if let Some(wish) = client.next() {
            break wish;
        }
        assert!(sent < 2 * LINE_MAX_BYTES + 400_000);
    };
    assert_eq!(wish, Wish::TooLong);
    client.end_with_answer();
    client.answer("no\n".to_owned(), now);
    assert!(client.is_over());
    drop(client);
    let mut told = String::new();
    let _ = (&other).read_to_string(&mut told);
    assert_eq!(told, "no\n");
}

#[test]
fn whoever_does_not_ask_or_read_has_a_deadline() {
    let now = Instant::now();
    let (mut client, mut other) = pair(now);
    assert_eq!(client.deadline(), Some(now + REQUEST_TIMEOUT));
    assert_eq!(client.asking_since(), Some(now));
    // More than the socket's buffers have room for.
    let long = "x".repeat(4 << 20) + "\n";
    client.answer(long.clone(), now);
    assert!(client.wants_to_write() && !client.wants_to_read());
    assert_eq!(client.deadline(), Some(now + ANSWER_TIMEOUT));
    assert_eq!(client.asking_since(), None);
    let reader = std::thread::spawn(move || {
        let mut answer = vec![0; long.len()];
        other.read_exact(&mut answer).map(|()| answer == long.as_bytes())
    });
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    while client.wants_to_write() && Instant::now() < deadline {
        client.write(now);
        std::thread::yield_now();
    }
    assert!(reader.join().unwrap().unwrap());
    client.wait(now);
    assert_eq!(client.deadline(), None, "what takes long is not its fault");
}
