//! A chat room: each line that one says is heard by all, thousands of them. What is said is laid out once on each worker, and all
//! who are connected there send it from the same memory.
//!
//! `cargo run --release --example chat -- 127.0.0.1:7004`, then `nc 127.0.0.1 7004` several times.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use uring_acceptor::server::Server;
use uring_acceptor::service::{
    Action, CloseReason, ConnectionInfo, Input, Mailbox, Outbox, PartialMessage, Service,
    ServiceMetrics, Subscription, Topic, WorkerInfo,
};

/// The longest line.
const LINE_BYTES: usize = 1024;

/// What is said and somebody has not read, and what waits for it beside that: one that is slower loses its connection.
const BEHIND_BYTES: usize = 4 * 1024 * 1024;

/// How long nobody says anything before all hear that they are still connected.
const QUIET: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Chat {
    lines: AtomicU64,
    /// Who come get the next number as their name.
    guests: AtomicU64,
}

enum Message {
    /// To a worker: this was said.
    Said(Arc<[u8]>),
    /// To a session: there is something to read.
    News,
}

struct Room {
    index: usize,
    workers: Vec<Mailbox<Message>>,
    topic: Topic<Message>,
}

struct Guest {
    name: u64,
    partial: PartialMessage,
    place: Subscription,
}

impl Room {
    /// Says something to all, here and on the other workers.
    fn say(&mut self, line: Vec<u8>) {
        self.topic.publish(&[&line]);
        let line: Arc<[u8]> = line.into();
        for (index, worker) in self.workers.iter().enumerate() {
            if index != self.index {
                // Those there miss it if their worker has more to do than it can: a chat is not a bank.
                let _ = worker.send(Message::Said(Arc::clone(&line)));
            }
        }
    }
}

impl Service for Chat {
    type Session = Guest;
    type Message = Message;
    type Local = Room;

    const MESSAGES: usize = 64 * 1024;

    fn name(&self) -> &str {
        "chat"
    }

    fn metrics(&self, metrics: &mut ServiceMetrics) {
        let lines = self.lines.load(Ordering::Relaxed);
        metrics.counter("lines", "Lines that were said.", lines);
    }

    fn local(&self, worker: &WorkerInfo<'_, Message>) -> Room {
        let topic = Topic::new(BEHIND_BYTES, || Message::News);
        Room { index: worker.index(), workers: worker.mailboxes().to_vec(), topic }
    }

    fn open(&self, room: &mut Room, connection: &ConnectionInfo<'_, Message>) -> Guest {
        let name = self.guests.fetch_add(1, Ordering::Relaxed);
        let place = room.topic.subscribe(connection.mailbox());
        Guest { name, partial: PartialMessage::default(), place }
    }

    fn data(
        &self,
        guest: &mut Guest,
        room: &mut Room,
        input: &Input<'_>,
        outbox: &mut Outbox,
    ) -> Action {
        let name = guest.name;
        let fed = guest.partial.lines(input.bytes(), LINE_BYTES, |line| {
            self.lines.fetch_add(1, Ordering::Relaxed);
            room.say([format!("guest {name}: ").as_bytes(), line, b"\n"].concat());
            ControlFlow::<()>::Continue(())
        });
        match fed {
            Ok(fed) => fed.action(),
            Err(too_long) => {
                outbox.write(format!("ERROR {too_long}\n").as_bytes());
                Action::Linger
            }
        }
    }

    fn message(
        &self,
        guest: &mut Guest,
        room: &mut Room,
        _: Message,
        outbox: &mut Outbox,
    ) -> Action {
        outbox.timer(QUIET);
        let is_slow = outbox.unsent() > BEHIND_BYTES;
        let read = room.topic.read(&guest.place, outbox);
        if is_slow || read.is_err() { Action::Abort } else { Action::Await }
    }

    fn local_message(&self, room: &mut Room, message: Message) {
        if let Message::Said(line) = message {
            room.topic.publish(&[&line]);
        }
    }

    fn timeout(&self, _: &mut Guest, _: &mut Room, outbox: &mut Outbox) -> Action {
        outbox.timer(QUIET);
        outbox.send_static(b"*\n");
        Action::Await
    }

    fn closed(&self, guest: Guest, room: &mut Room, _: CloseReason) {
        room.topic.unsubscribe(guest.place);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7004".into());
    let server = Server::builder(Chat::default())
        .listen(address.parse()?)
        // Whoever listens says nothing for as long as he likes.
        .frontend(|frontend| {
            frontend.timeouts.first_byte = Duration::from_secs(24 * 3600);
            frontend.timeouts.idle = Duration::from_secs(24 * 3600);
        })
        .start()?;
    for address in server.addresses() {
        println!("listening {address} chat");
    }
    server.join()?;
    Ok(())
}
