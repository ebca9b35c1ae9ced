//! A protocol of one's own: a tiny key-value store that speaks lines.
//!
//! ```text
//!   SET key value   ->  OK
//!   GET key         ->  the value, or NONE
//!   QUIT            ->  BYE, and the connection closes
//! ```
//!
//! `cargo run --release --example custom_service -- 127.0.0.1:7002`, then
//! `printf 'SET a 1\nGET a\nQUIT\n' | nc -N 127.0.0.1 7002`.

use std::collections::HashMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::sync::RwLock;

use uring_acceptor::server::Server;
use uring_acceptor::service::{
    Action, ConnectionInfo, Input, Outbox, PartialMessage, Pending, Responder, TooLong,
};

/// Longest line, so that no peer can make its session grow without end.
const LINE_LIMIT_BYTES: usize = 4096;

/// The store is shared by all connections of all workers.
#[derive(Default)]
struct Store(RwLock<HashMap<Vec<u8>, Vec<u8>>>);

impl Responder for Store {
    /// The beginning of a line whose end has not come yet.
    type Session = PartialMessage;

    fn name(&self) -> &str {
        "store"
    }

    fn open(&self, _: &ConnectionInfo<'_>) -> PartialMessage {
        PartialMessage::default()
    }

    fn data(&self, partial: &mut PartialMessage, input: &Input<'_>, outbox: &mut Outbox) -> Action {
        let answered = partial
            .lines(input.bytes(), LINE_LIMIT_BYTES, |line| self.answer(line.trim_ascii(), outbox));
        match answered {
            Ok(fed) => fed.stopped.unwrap_or(fed.action()),
            Err(TooLong { .. }) => {
                outbox.send_static(b"ERROR line too long\n");
                Action::Linger
            }
        }
    }

    /// A line that has begun has to end within the header timeout.
    fn pending(&self, partial: &PartialMessage) -> Pending {
        if partial.is_empty() { Pending::Nothing } else { Pending::Head }
    }

    /// An upgrade of the program takes its open connections along.
    fn suspend(&self, partial: &PartialMessage) -> Option<Vec<u8>> {
        Some(partial.bytes().to_vec())
    }

    fn resume(&self, bytes: &[u8]) -> Option<PartialMessage> {
        Some(bytes.to_vec().into())
    }
}

impl Store {
    /// Breaks with how the connection ends.
    fn answer(&self, line: &[u8], outbox: &mut Outbox) -> ControlFlow<Action> {
        let mut words = line.splitn(3, |byte| *byte == b' ');
        match (words.next(), words.next(), words.next()) {
            (Some(b"SET"), Some(key), Some(value)) => {
                self.0.write().expect("no panic").insert(key.to_vec(), value.to_vec());
                outbox.send_static(b"OK\n");
            }
            (Some(b"GET"), Some(key), None) => match self.0.read().expect("no panic").get(key) {
                // An outbox is a writer too; it never fails.
                Some(value) => {
                    let _ = outbox.write_all(value);
                    outbox.write(b"\n");
                }
                None => outbox.send_static(b"NONE\n"),
            },
            (Some(b"QUIT"), None, None) => {
                outbox.send_static(b"BYE\n");
                return ControlFlow::Break(Action::Close);
            }
            _ => outbox.send_static(b"ERROR SET key value | GET key | QUIT\n"),
        }
        ControlFlow::Continue(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7002".into());
    let server = Server::builder(Store::default()).listen(address.parse()?).start()?;
    for address in server.addresses() {
        println!("listening {address} store");
    }
    server.join()?;
    Ok(())
}
