//! A service whose sessions do all that sessions can do.

use std::sync::Arc;
use std::time::Duration;

use super::QUESTION_BYTES;
use super::books::{Books, Number, To};
use crate::service::{
    Action, CloseReason, ConnectionInfo, Input, Mailbox, Outbox, Parsed, PartialMessage, Service,
    WorkerInfo,
};
use crate::simulation::scenario::BUDGET_MAX_BYTES;

/// How long a session waits for an answer that somebody had no room to send. Longer than late threads may take.
const IN_VAIN: Duration = Duration::from_secs(2);

/// Bytes that a stream writes at a time.
const CHUNK_BYTES: usize = 300;

/// What a question is answered with.
pub(super) fn answer(what: u8, number: u8) -> Vec<u8> {
    match what {
        b's' => stream(0, number).collect(),
        _ => vec![what, number],
    }
}

/// How long that is.
pub(super) fn answer_bytes(what: u8, number: u8) -> usize {
    if what == b's' { stream_bytes(number) } else { 2 }
}

fn stream_bytes(number: u8) -> usize {
    1 + usize::from(number) * 8
}

/// The bytes of a stream from one of them on.
fn stream(from: usize, number: u8) -> impl Iterator<Item = u8> {
    (from..stream_bytes(number)).map(move |index| (index % 251) as u8 ^ number)
}

/// What a session or a worker is told.
#[derive(Debug)]
pub(super) enum Letter {
    /// Is to be answered.
    Question(Number, Mailbox<Letter>),
    Answer(Number),
}

/// What a session waits for, to answer it with a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    Nothing,
    Answer(Number, u8),
    Timer(u8),
    /// Room for more of a stream, of which so many bytes are written.
    Room(usize, u8),
}

#[derive(Debug)]
pub(super) struct Session {
    number: Number,
    mailbox: Mailbox<Letter>,
    partial: PartialMessage,
    waits: Waits,
    /// What it waited for with a letter: `m` or `w`.
    asked: u8,
}

/// What the sessions of a worker share.
#[derive(Debug)]
pub(super) struct Local {
    worker: usize,
    workers: Vec<Mailbox<Letter>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Post {
    books: Arc<Books>,
}

impl Post {
    pub(super) fn new(books: Arc<Books>) -> Self {
        Self { books }
    }

    /// Answers what has come, as far as that goes without waiting.
    fn go_on(
        &self,
        session: &mut Session,
        local: &Local,
        input: &[u8],
        outbox: &mut Outbox,
    ) -> Action {
        let mut partial = std::mem::take(&mut session.partial);
        let fed = partial.feed(input, 1 << 20, |bytes| {
            let [what, number, ..] = *bytes else { return Parsed::Needs(QUESTION_BYTES) };
            match self.act(session, local, (what, number), outbox) {
                Some(action) => Parsed::Stop { handled: QUESTION_BYTES, with: action },
                None => Parsed::Message(QUESTION_BYTES),
            }
        });
        session.partial = partial;
        let fed = fed.expect("there is no limit");
        fed.stopped.unwrap_or(Action::Continue)
    }

    /// Answers one question; what is to be done if that has to wait.
    fn act(
        &self,
        session: &mut Session,
        local: &Local,
        (what, number): (u8, u8),
        outbox: &mut Outbox,
    ) -> Option<Action> {
        match what {
            b'm' | b'w' if self.ask(session, local, (what, number)) => {
                outbox.timer(IN_VAIN);
                Some(Action::Pause)
            }
            b't' => {
                session.waits = Waits::Timer(number);
                outbox.timer(Duration::from_millis(number.into()));
                Some(Action::Pause)
            }
            b's' => Some(self.write(session, (0, number), outbox)),
            _ => {
                outbox.write(&answer(what, number));
                None
            }
        }
    }

    /// Asks somebody else. False if that cannot be: then it is answered at once.
    fn ask(&self, session: &mut Session, local: &Local, (what, number): (u8, u8)) -> bool {
        let (to, mailbox) = if what == b'w' {
            let index = usize::from(number) % local.workers.len();
            (To::Worker(index), local.workers[index].clone())
        } else {
            let Some((other, mailbox)) = self.books.anybody(number) else { return false };
            (To::Session(other), mailbox)
        };
        let question = self.books.asks(session.number, to);
        if mailbox.send(Letter::Question(question, session.mailbox.clone())).is_err() {
            self.books.unsent(question);
            return false;
        }
        (session.waits, session.asked) = (Waits::Answer(question, number), what);
        true
    }

    fn reply(&self, question: Number, to: &Mailbox<Letter>) {
        if to.send(Letter::Answer(question)).is_err() {
            self.books.unanswered(question);
        }
    }

    /// Writes a part of a stream.
    fn write(
        &self,
        session: &mut Session,
        (written, number): (usize, u8),
        outbox: &mut Outbox,
    ) -> Action {
        let part: Vec<u8> = stream(written, number).take(CHUNK_BYTES).collect();
        outbox.write(&part);
        let written = written + part.len();
        if written < stream_bytes(number) {
            session.waits = Waits::Room(written, number);
            return Action::More;
        }
        session.waits = Waits::Nothing;
        Action::Continue
    }

    /// What was waited for is there.
    fn resume(
        &self,
        session: &mut Session,
        local: &Local,
        (what, number): (u8, u8),
        outbox: &mut Outbox,
    ) -> Action {
        session.waits = Waits::Nothing;
        outbox.write(&answer(what, number));
        self.go_on(session, local, b"", outbox)
    }
}

impl Service for Post {
    type Session = Session;
    type Message = Letter;
    type Local = Local;

    /// So few that some find no room.
    const MESSAGES: usize = 4;

    fn name(&self) -> &str {
        "post"
    }

    fn local(&self, worker: &WorkerInfo<'_, Letter>) -> Local {
        self.books.local(worker.index());
        Local { worker: worker.index(), workers: worker.mailboxes().to_vec() }
    }

    fn open(&self, _: &mut Local, connection: &ConnectionInfo<'_, Letter>) -> Session {
        let mailbox = connection.mailbox();
        let number = self.books.opened(&mailbox);
        let partial = PartialMessage::default();
        Session { number, mailbox, partial, waits: Waits::Nothing, asked: b'm' }
    }

    fn data(
        &self,
        session: &mut Session,
        local: &mut Local,
        input: &Input<'_>,
        outbox: &mut Outbox,
    ) -> Action {
        if session.waits != Waits::Nothing {
            self.books.wrong(|| format!("{session:?} is given input"));
        }
        self.go_on(session, local, input.bytes(), outbox)
    }

    fn half_closed(&self, session: &mut Session, _: &mut Local, _: &mut Outbox) -> Action {
        if session.waits != Waits::Nothing {
            self.books.wrong(|| format!("{session:?} is told of the end of its input"));
        }
        Action::Close
    }

    fn message(
        &self,
        session: &mut Session,
        local: &mut Local,
        letter: Letter,
        outbox: &mut Outbox,
    ) -> Action {
        match letter {
            Letter::Question(question, from) => {
                self.books.got(question, To::Session(session.number));
                self.reply(question, &from);
                Action::Await
            }
            Letter::Answer(question) => {
                self.books.answered(question);
                let Waits::Answer(mine, number) = session.waits else {
                    self.books.wrong(|| format!("{session:?} is told the answer to {question}"));
                    return Action::Await;
                };
                if mine != question {
                    self.books.wrong(|| format!("{session:?} is told the answer to {question}"));
                }
                outbox.cancel_timer();
                self.resume(session, local, (session.asked, number), outbox)
            }
        }
    }

    fn local_message(&self, local: &mut Local, letter: Letter) {
        if let Letter::Question(question, from) = letter {
            self.books.got(question, To::Worker(local.worker));
            self.reply(question, &from);
        }
    }

    fn undelivered(&self, _: &mut Local, letter: Letter) {
        if let Letter::Question(question, from) = letter {
            self.books.given_back(question);
            self.reply(question, &from);
        }
    }

    fn writable(&self, session: &mut Session, local: &mut Local, outbox: &mut Outbox) -> Action {
        let Waits::Room(written, number) = session.waits else {
            self.books.wrong(|| format!("{session:?} is told that there is room"));
            return Action::Abort;
        };
        if outbox.unsent() > BUDGET_MAX_BYTES / 2 {
            let unsent = outbox.unsent();
            self.books.wrong(|| format!("{session:?} is to write although {unsent} bytes wait"));
        }
        match self.write(session, (written, number), outbox) {
            Action::Continue => self.go_on(session, local, b"", outbox),
            more => more,
        }
    }

    fn timeout(&self, session: &mut Session, local: &mut Local, outbox: &mut Outbox) -> Action {
        let (what, number) = match session.waits {
            Waits::Timer(number) => (b't', number),
            Waits::Answer(question, number) => {
                self.books.in_vain(question);
                (session.asked, number)
            }
            Waits::Nothing | Waits::Room(..) => {
                self.books.wrong(|| format!("a timer runs down for {session:?}"));
                return Action::Await;
            }
        };
        self.resume(session, local, (what, number), outbox)
    }

    fn closed(&self, session: Session, _: &mut Local, _: CloseReason) {
        if session.mailbox.is_open() {
            self.books.wrong(|| format!("{session:?} has ended, and its mailbox is open"));
        }
        self.books.closed(session.number);
    }
}
