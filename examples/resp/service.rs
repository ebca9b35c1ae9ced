//! Sessions, and what the sessions of a worker share.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use uring_acceptor::service::{
    Action, CloseReason, ConnectionInfo, Input, Mailbox, Outbox, Parsed, PartialMessage, SendError,
    Service, SharedBytes, Subscription, Topic, WorkerInfo,
};

use super::protocol::{Answer, COMMAND_BYTES, Command, Read, read};
use super::shard::Shard;

/// What is published and a subscriber has not read, and what waits for it beside that: one that is slower loses its
/// connection.
const BEHIND_BYTES: usize = 1024 * 1024;

/// How often keys are looked at that end by themselves.
const SWEEP: Duration = Duration::from_secs(1);

/// The service; all that it knows is in its workers.
pub(super) struct Resp;

/// What sessions and workers tell each other.
pub(super) enum Message {
    /// To a worker: do this command, and tell that session the answer.
    Ask { command: Box<[u8]>, from: Mailbox<Message> },
    /// To the session that has asked.
    Answer(Vec<u8>),
    /// To a worker: this was published, as subscribers of this channel see it. Tell that session how many have heard it.
    Published { channel: Box<[u8]>, message: SharedBytes, from: Mailbox<Message> },
    /// To the session that has published: so many more have heard it.
    Heard(usize),
    /// To a subscriber: there is something to read.
    News,
}

/// Of one worker.
pub(super) struct Local {
    index: usize,
    workers: Vec<Mailbox<Message>>,
    shard: Shard,
    topics: HashMap<Box<[u8]>, Topic<Message>>,
}

/// Of one connection.
pub(super) struct Session {
    mailbox: Mailbox<Message>,
    partial: PartialMessage,
    channels: Vec<(Box<[u8]>, Subscription)>,
    /// Workers that have not said yet how many have heard what it published, and how many have so far.
    publishing: (usize, usize),
}

/// Why a session goes no further in what its client has sent.
enum Stop {
    /// An answer comes from elsewhere.
    Pause,
    Quit,
    Wrong(&'static str),
}

impl Local {
    /// The worker that has a key.
    fn owner(&self, key: &[u8]) -> usize {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
        (hash % self.workers.len() as u64) as usize
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        self.shard.len()
    }

    /// Says something to those who have subscribed here. Returns how many they are.
    fn publish(&mut self, channel: &[u8], message: &[u8]) -> usize {
        self.topics.get_mut(channel).map_or(0, |topic| topic.publish(&[message]))
    }
}

/// Lets a session do what its client has sent, as far as that goes.
fn serve(session: &mut Session, local: &mut Local, input: &[u8], outbox: &mut Outbox) -> Action {
    let mut partial = std::mem::take(&mut session.partial);
    let fed = partial.feed(input, COMMAND_BYTES, |bytes| match read(bytes) {
        Read::Needs(bytes) => Parsed::Needs(bytes),
        Read::NeedsLine => Parsed::NeedsByte(b'\n'),
        Read::Wrong(why) => Parsed::Stop { handled: 0, with: Stop::Wrong(why) },
        Read::Command(command) => {
            let raw = &bytes[..command.bytes];
            match execute(session, local, (&command, raw), outbox) {
                Ok(()) => Parsed::Message(command.bytes),
                Err(with) => Parsed::Stop { handled: command.bytes, with },
            }
        }
    });
    session.partial = partial;
    let Ok(fed) = fed else {
        outbox.error("Protocol error: the command is too long");
        return Action::Linger;
    };
    match fed.stopped {
        None => fed.action(),
        Some(Stop::Pause) => Action::Pause,
        Some(Stop::Quit) => Action::Close,
        Some(Stop::Wrong(why)) => {
            outbox.error(&format!("Protocol error: {why}"));
            Action::Linger
        }
    }
}

/// The same for what it has sent while the session waited.
fn go_on(session: &mut Session, local: &mut Local, outbox: &mut Outbox) -> Action {
    match serve(session, local, b"", outbox) {
        Action::Await => Action::Continue,
        action => action,
    }
}

fn execute(
    session: &mut Session,
    local: &mut Local,
    (command, raw): (&Command<'_>, &[u8]),
    outbox: &mut Outbox,
) -> Result<(), Stop> {
    let words = command.words();
    let Some((name, arguments)) = words.split_first() else { return Ok(()) };
    let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
    match arguments {
        [] if is("PING") => outbox.send_static(b"+PONG\r\n"),
        [text] if is("PING") || is("ECHO") => outbox.string(text),
        [] if is("QUIT") => {
            outbox.status("OK");
            return Err(Stop::Quit);
        }
        // Asked by redis-cli before all else.
        [..] if is("COMMAND") => outbox.array(0),
        channels if is("SUBSCRIBE") && !channels.is_empty() => {
            channels.iter().for_each(|channel| subscribe(session, local, channel, outbox));
        }
        channels if is("UNSUBSCRIBE") => unsubscribe(session, local, channels, outbox),
        [channel, text] if is("PUBLISH") => {
            return publish(session, local, (channel, text), outbox);
        }
        [key, others @ ..] => {
            let owner = local.owner(key);
            if is("DEL") && others.iter().any(|other| local.owner(other) != owner) {
                outbox.send_static(b"-CROSSSLOT keys of several workers in one command\r\n");
            } else if owner != local.index {
                return ask(session, &local.workers[owner], raw, outbox);
            } else if !local.shard.execute(words, outbox) {
                unknown(name, outbox);
            } else if is("EXPIRE") || others.len() > 1 && is("SET") {
                outbox.timer(SWEEP);
            }
        }
        [] => unknown(name, outbox),
    }
    Ok(())
}

fn unknown(name: &[u8], answer: &mut impl Answer) {
    let name = name[..name.len().min(64)].escape_ascii();
    answer.error(&format!("unknown command '{name}', or not with these arguments"));
}

/// Has another worker do a command.
fn ask(
    session: &Session,
    worker: &Mailbox<Message>,
    command: &[u8],
    outbox: &mut Outbox,
) -> Result<(), Stop> {
    let ask = Message::Ask { command: command.into(), from: session.mailbox.clone() };
    match worker.send(ask) {
        Ok(()) => return Err(Stop::Pause),
        Err(SendError::Full(_)) => {
            outbox.error("busy: too many commands wait for this key's worker")
        }
        Err(SendError::Gone(_)) => outbox.error("the server is shutting down"),
    }
    Ok(())
}

/// As subscribers see what is published.
fn push_frame(frame: &mut Vec<u8>, channel: &[u8], text: &[u8]) {
    frame.extend_from_slice(b"*3\r\n$7\r\nmessage\r\n");
    frame.string(channel);
    frame.string(text);
}

fn publish(
    session: &mut Session,
    local: &mut Local,
    (channel, text): (&[u8], &[u8]),
    outbox: &mut Outbox,
) -> Result<(), Stop> {
    let mut frame = Vec::with_capacity(channel.len() + text.len() + 64);
    push_frame(&mut frame, channel, text);
    let heard = local.publish(channel, &frame);
    if local.workers.len() == 1 {
        outbox.integer(heard as i64);
        return Ok(());
    }
    let message = SharedBytes::new(frame);
    let others = local.workers.iter().enumerate().filter(|(index, _)| *index != local.index);
    let told = others.filter(|(_, worker)| {
        let (channel, message, from) = (channel.into(), message.clone(), session.mailbox.clone());
        worker.send(Message::Published { channel, message, from }).is_ok()
    });
    session.publishing = (told.count(), heard);
    said_all(session, outbox)
}

/// Answers who has published, once all workers have said how many have heard it.
fn said_all(session: &Session, outbox: &mut Outbox) -> Result<(), Stop> {
    match session.publishing {
        (0, heard) => outbox.integer(heard as i64),
        _ => return Err(Stop::Pause),
    }
    Ok(())
}

fn subscribe(session: &mut Session, local: &mut Local, channel: &[u8], outbox: &mut Outbox) {
    if !session.channels.iter().any(|(name, _)| **name == *channel) {
        let new = || Topic::new(BEHIND_BYTES, || Message::News);
        let topic = local.topics.entry(channel.into()).or_insert_with(new);
        session.channels.push((channel.into(), topic.subscribe(session.mailbox.clone())));
    }
    outbox.array(3);
    outbox.string(b"subscribe");
    outbox.string(channel);
    outbox.integer(session.channels.len() as i64);
}

/// From all, if none is named.
fn unsubscribe(session: &mut Session, local: &mut Local, channels: &[&[u8]], outbox: &mut Outbox) {
    let mut left = |channel: Option<&[u8]>, session: &Session| {
        outbox.array(3);
        outbox.string(b"unsubscribe");
        match channel {
            Some(channel) => outbox.string(channel),
            None => outbox.nothing(),
        }
        outbox.integer(session.channels.len() as i64);
    };
    if channels.is_empty() {
        while let Some((channel, subscription)) = session.channels.pop() {
            leave(local, &channel, subscription);
            left(Some(&channel), session);
        }
        return left(None, session);
    }
    for channel in channels {
        let place = session.channels.iter().position(|(name, _)| **name == **channel);
        if let Some((name, subscription)) = place.map(|place| session.channels.swap_remove(place)) {
            leave(local, &name, subscription);
        }
        left(Some(channel), session);
    }
}

fn leave(local: &mut Local, channel: &[u8], subscription: Subscription) {
    if let Some(topic) = local.topics.get_mut(channel) {
        topic.unsubscribe(subscription);
        if topic.is_empty() {
            local.topics.remove(channel);
        }
    }
}

impl Service for Resp {
    type Session = Session;
    type Message = Message;
    type Local = Local;

    /// As many as there may be sessions, and some.
    const MESSAGES: usize = 64 * 1024;

    fn name(&self) -> &str {
        "resp"
    }

    fn local(&self, worker: &WorkerInfo<'_, Message>) -> Local {
        let (index, workers) = (worker.index(), worker.mailboxes().to_vec());
        Local { index, workers, shard: Shard::default(), topics: HashMap::new() }
    }

    fn open(&self, _: &mut Local, connection: &ConnectionInfo<'_, Message>) -> Session {
        let (mailbox, partial) = (connection.mailbox(), PartialMessage::default());
        Session { mailbox, partial, channels: Vec::new(), publishing: (0, 0) }
    }

    fn data(
        &self,
        session: &mut Session,
        local: &mut Local,
        input: &Input<'_>,
        outbox: &mut Outbox,
    ) -> Action {
        serve(session, local, input.bytes(), outbox)
    }

    fn message(
        &self,
        session: &mut Session,
        local: &mut Local,
        message: Message,
        outbox: &mut Outbox,
    ) -> Action {
        match message {
            Message::News => {
                let may_wait = outbox.unsent() <= BEHIND_BYTES;
                let mut read = session.channels.iter().map(|(channel, subscription)| {
                    let topic = local.topics.get_mut(channel).expect("it has a subscriber");
                    topic.read(subscription, outbox)
                });
                if may_wait && read.all(|read| read.is_ok()) {
                    Action::Await
                } else {
                    Action::Abort
                }
            }
            Message::Answer(bytes) => {
                outbox.write(&bytes);
                go_on(session, local, outbox)
            }
            Message::Heard(count) => {
                session.publishing.0 -= 1;
                session.publishing.1 += count;
                match said_all(session, outbox) {
                    Ok(()) => go_on(session, local, outbox),
                    Err(_) => Action::Pause,
                }
            }
            Message::Ask { .. } | Message::Published { .. } => Action::Await,
        }
    }

    fn local_message(&self, local: &mut Local, message: Message) {
        // Who has gone meanwhile needs no answer.
        match message {
            Message::Ask { command, from } => {
                let mut answer = Vec::new();
                if let Read::Command(command) = read(&command)
                    && !local.shard.execute(command.words(), &mut answer)
                {
                    unknown(command.words()[0], &mut answer);
                }
                let _ = from.send(Message::Answer(answer));
            }
            Message::Published { channel, message, from } => {
                let _ = from.send(Message::Heard(local.publish(&channel, &message)));
            }
            Message::Answer(_) | Message::Heard(_) | Message::News => {}
        }
    }

    fn timeout(&self, _: &mut Session, local: &mut Local, outbox: &mut Outbox) -> Action {
        local.shard.sweep();
        if local.shard.is_ending() {
            outbox.timer(SWEEP);
        }
        Action::Await
    }

    fn closed(&self, session: Session, local: &mut Local, _: CloseReason) {
        for (channel, subscription) in session.channels {
            leave(local, &channel, subscription);
        }
    }
}
