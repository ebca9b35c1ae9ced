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
use std::sync::RwLock;

use uring_acceptor::server::Server;
use uring_acceptor::service::{Action, ConnectionInfo, Input, Outbox, Responder};

/// Longest line, so that no peer can make its session grow without end.
const LINE_LIMIT_BYTES: usize = 4096;

/// The store is shared by all connections of all workers.
#[derive(Default)]
struct Store(RwLock<HashMap<Vec<u8>, Vec<u8>>>);

impl Responder for Store {
    /// The beginning of a line whose end has not come yet.
    type Session = Vec<u8>;

    fn name(&self) -> &str {
        "store"
    }

    fn open(&self, _: &ConnectionInfo<'_>) -> Vec<u8> {
        Vec::new()
    }

    fn data(&self, partial: &mut Vec<u8>, input: &Input<'_>, outbox: &mut Outbox) -> Action {
        let mut action = Action::Await;
        for piece in input.bytes().split_inclusive(|byte| *byte == b'\n') {
            partial.extend_from_slice(piece);
            if partial.len() > LINE_LIMIT_BYTES {
                outbox.write(b"ERROR line too long\n");
                return Action::Linger;
            }
            if piece.ends_with(b"\n") {
                action = self.answer(partial.trim_ascii(), outbox);
                partial.clear();
            }
            if action == Action::Close {
                break;
            }
        }
        action
    }
}

impl Store {
    fn answer(&self, line: &[u8], outbox: &mut Outbox) -> Action {
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
                return Action::Close;
            }
            _ => outbox.send_static(b"ERROR SET key value | GET key | QUIT\n"),
        }
        Action::Continue
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
