//! Answers that come from elsewhere: each line is a question for something that takes its time, here a task on a tokio runtime that
//! stands for a database. The session pauses meanwhile; its worker serves the others.
//!
//! `cargo run --release --example gateway -- 127.0.0.1:7003`, then `printf 'one\ntwo\n' | nc -N 127.0.0.1 7003`.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use uring_acceptor::server::Server;
use uring_acceptor::service::{
    Action, ConnectionInfo, Input, Mailbox, Outbox, PartialMessage, Service, WorkerInfo,
};

/// The longest question.
const LINE_BYTES: usize = 4096;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks by the tasks of a runtime, which lives on threads of its own.
struct Gateway(Handle);

/// The answer to the question of this number.
struct Answer(u64, Vec<u8>);

struct Session {
    mailbox: Mailbox<Answer>,
    partial: PartialMessage,
    /// How many questions it has asked.
    asked: u64,
}

/// What would ask a database.
async fn look_up(question: Vec<u8>) -> Vec<u8> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    question.to_ascii_uppercase()
}

impl Gateway {
    /// Asks the next question that has come whole.
    fn ask(&self, session: &mut Session, input: &[u8], outbox: &mut Outbox) -> Action {
        let Session { mailbox, partial, asked } = session;
        let fed = partial.lines(input, LINE_BYTES, |line| {
            *asked += 1;
            let (number, question, mailbox) = (*asked, line.to_vec(), mailbox.clone());
            self.0.spawn(async move {
                // A session that has gone needs no answer; one whose channel is full is told by its timer.
                let _ = mailbox.send(Answer(number, look_up(question).await));
            });
            outbox.timer(PATIENCE);
            // What stands behind it waits, so that answers keep their order.
            ControlFlow::Break(())
        });
        match fed {
            Ok(fed) if fed.stopped.is_some() => Action::Pause,
            Ok(_) => Action::Continue,
            Err(too_long) => {
                outbox.write(format!("ERROR {too_long}\n").as_bytes());
                Action::Linger
            }
        }
    }
}

impl Service for Gateway {
    type Session = Session;
    type Message = Answer;
    type Local = ();

    fn name(&self) -> &str {
        "gateway"
    }

    fn local(&self, _: &WorkerInfo<'_, Answer>) {}

    fn open(&self, (): &mut (), connection: &ConnectionInfo<'_, Answer>) -> Session {
        Session { mailbox: connection.mailbox(), partial: PartialMessage::default(), asked: 0 }
    }

    fn data(
        &self,
        session: &mut Session,
        (): &mut (),
        input: &Input<'_>,
        outbox: &mut Outbox,
    ) -> Action {
        self.ask(session, input.bytes(), outbox)
    }

    fn message(
        &self,
        session: &mut Session,
        (): &mut (),
        Answer(number, answer): Answer,
        outbox: &mut Outbox,
    ) -> Action {
        if number != session.asked {
            // It comes too late: that question has been answered by the timer.
            return Action::Await;
        }
        outbox.cancel_timer();
        outbox.write(&answer);
        outbox.write(b"\n");
        self.ask(session, b"", outbox)
    }

    fn timeout(&self, session: &mut Session, (): &mut (), outbox: &mut Outbox) -> Action {
        outbox.write(b"ERROR no answer in time\n");
        session.asked += 1;
        self.ask(session, b"", outbox)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7003".into());
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let server =
        Server::builder(Gateway(runtime.handle().clone())).listen(address.parse()?).start()?;
    for address in server.addresses() {
        println!("listening {address} gateway");
    }
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    server.join()?;
    Ok(())
}
