//! One thing is said to many sessions of a worker: they share the bytes, and each takes them at its own pace.

use std::collections::VecDeque;
use std::fmt;

use super::{Mailbox, Outbox, SendError, SharedBytes};

/// What is said to everybody who has subscribed, in the order in which it was published. It belongs into what the sessions
/// of a worker share ([`Service::Local`](super::Service::Local)); a topic for all workers is one in each of them, and
/// [mailboxes of workers](super::WorkerInfo::mailboxes) between them.
///
/// Bytes that are published are collected. A subscriber is told that there is something, once, however much is published
/// before it [reads](Self::read): then it sends all of it at once, from memory that it shares with the others. So the
/// channel of the worker holds one message for each subscription at most; give it more places than there may be of these, in
/// all topics ([`Service::MESSAGES`](super::Service::MESSAGES)). One for whom it had none is told when this topic is read or
/// published to again.
///
/// One that does not read for so long that what it has missed is kept no more has [lagged](Lagged) behind.
///
/// ```
/// use uring_acceptor::service::{
///     Action, ConnectionInfo, Input, Mailbox, Outbox, Service, Subscription, Topic, WorkerInfo,
/// };
/// use uring_acceptor::testing::Harness;
///
/// /// What one says is heard by all who are connected.
/// struct Shout;
///
/// /// There is something to read.
/// struct News;
///
/// impl Service for Shout {
///     type Session = Subscription;
///     type Message = News;
///     type Local = Topic<News>;
///
///     fn name(&self) -> &str { "shout" }
///     fn local(&self, _: &WorkerInfo<'_, News>) -> Topic<News> { Topic::new(1024 * 1024, || News) }
///     fn open(&self, topic: &mut Topic<News>, connection: &ConnectionInfo<'_, News>) -> Subscription {
///         topic.subscribe(connection.mailbox())
///     }
///     fn data(
///         &self, _: &mut Subscription, topic: &mut Topic<News>, input: &Input<'_>, _: &mut Outbox,
///     ) -> Action {
///         topic.publish(&[input.bytes()]);
///         Action::Continue
///     }
///     fn message(
///         &self, place: &mut Subscription, topic: &mut Topic<News>, _: News, outbox: &mut Outbox,
///     ) -> Action {
///         if topic.read(place, outbox).is_err() { Action::Abort } else { Action::Await }
///     }
///     fn closed(
///         &self, place: Subscription, topic: &mut Topic<News>, _: uring_acceptor::service::CloseReason,
///     ) {
///         topic.unsubscribe(place);
///     }
/// }
///
/// let mut harness = Harness::new(Shout);
/// let (one, other) = (harness.connect(), harness.connect());
/// harness.send(one, b"hello");
/// assert_eq!(harness.received(other), b"hello");
/// ```
pub struct Topic<M> {
    news: fn() -> M,
    /// What was published since the last block was closed.
    open: Vec<u8>,
    /// Those that somebody has not read.
    blocks: VecDeque<Block>,
    /// The number of the first of them.
    first: u64,
    /// Bytes of all of them.
    bytes: usize,
    limit_bytes: usize,
    subscribers: Vec<Option<Subscriber<M>>>,
    free: Vec<usize>,
    /// How many subscribers know of nothing to read.
    idle: usize,
    /// How many have ever subscribed.
    count: u64,
    /// Places of those that the channel had no room to tell, the first of them first.
    late: VecDeque<usize>,
}

struct Block {
    bytes: SharedBytes,
    /// How many subscribers have not read it.
    unread: usize,
}

struct Subscriber<M> {
    number: u64,
    mailbox: Mailbox<M>,
    standing: Standing,
    /// The number of the block that it reads next.
    next: u64,
}

/// What a subscriber knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// There is nothing to read.
    Idle,
    /// It is on its way to read.
    Told,
    /// The channel had no room to tell it.
    Late,
}

/// The place of a session among the subscribers of a topic.
#[derive(Debug, PartialEq, Eq)]
pub struct Subscription {
    place: usize,
    number: u64,
}

/// Something was said that the subscriber has missed for good. What becomes of it is the service's to choose: to be closed, or
/// to go on with what is published from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lagged {
    /// How many blocks it has missed.
    pub blocks: u64,
}

impl fmt::Display for Lagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the subscriber was too slow and has missed {} blocks", self.blocks)
    }
}

impl std::error::Error for Lagged {}

impl<M> Topic<M> {
    /// A topic that keeps what subscribers have not read yet, up to `limit_bytes`. `news` makes the message by which one is
    /// told that there is something to read.
    pub fn new(limit_bytes: usize, news: fn() -> M) -> Self {
        Self {
            news,
            open: Vec::new(),
            blocks: VecDeque::new(),
            first: 0,
            bytes: 0,
            limit_bytes,
            subscribers: Vec::new(),
            free: Vec::new(),
            idle: 0,
            count: 0,
            late: VecDeque::new(),
        }
    }

    /// How many have subscribed.
    pub fn len(&self) -> usize {
        self.subscribers.len() - self.free.len()
    }

    /// Whether nobody has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// From now on the session of this mailbox hears what is published.
    pub fn subscribe(&mut self, mailbox: Mailbox<M>) -> Subscription {
        // What was published before is none of its business.
        self.close_block();
        if self.free.is_empty() {
            self.forget_gone();
        }
        self.count += 1;
        let (number, next) = (self.count, self.end());
        let subscriber = Some(Subscriber { number, mailbox, standing: Standing::Idle, next });
        self.idle += 1;
        let place = if let Some(place) = self.free.pop() {
            self.subscribers[place] = subscriber;
            place
        } else {
            self.subscribers.push(subscriber);
            self.subscribers.len() - 1
        };
        Subscription { place, number }
    }

    /// It hears nothing more. To be called when its session is closed; one that ends otherwise, by a panic or since it is moved to
    /// another process, is forgotten in time.
    pub fn unsubscribe(&mut self, subscription: Subscription) {
        let Subscription { place, number } = subscription;
        if self.subscribers[place].as_ref().is_some_and(|it| it.number == number) {
            self.remove(place);
        }
    }

    fn remove(&mut self, place: usize) {
        // What is being filled is for the others.
        self.close_block();
        let Some(subscriber) = self.subscribers[place].take() else { return };
        match subscriber.standing {
            Standing::Idle => self.idle -= 1,
            Standing::Told => {}
            Standing::Late => self.late.retain(|late| *late != place),
        }
        self.free.push(place);
        self.have_read(subscriber.next);
    }

    /// Removes those whose sessions have ended without saying so.
    fn forget_gone(&mut self) {
        for place in 0..self.subscribers.len() {
            let is_gone = |it: &Subscriber<M>| !it.mailbox.is_open();
            if self.subscribers[place].as_ref().is_some_and(is_gone) {
                self.remove(place);
            }
        }
    }

    /// Says `parts`, one behind the other, to all who have subscribed. Returns how many these are.
    pub fn publish(&mut self, parts: &[&[u8]]) -> usize {
        if !self.is_empty() {
            parts.iter().for_each(|part| self.open.extend_from_slice(part));
            self.tell();
        }
        self.len()
    }

    /// Puts what a subscriber has not read into its outbox.
    ///
    /// # Errors
    /// It has missed something, and all that is kept: what is published from now on it reads again.
    pub fn read(&mut self, subscription: &Subscription, outbox: &mut Outbox) -> Result<(), Lagged> {
        self.close_block();
        self.heard(subscription.place);
        let end = self.end();
        let Some(subscriber) = self.subscriber(subscription) else { return Ok(()) };
        let next = std::mem::replace(&mut subscriber.next, end);
        let Some(unread) = next.checked_sub(self.first) else {
            self.have_read(self.first);
            return Err(Lagged { blocks: end - next });
        };
        let blocks = self.blocks.iter().skip(unread as usize);
        blocks.for_each(|block| outbox.send_shared(&block.bytes));
        self.have_read(next);
        Ok(())
    }

    fn subscriber(&mut self, subscription: &Subscription) -> Option<&mut Subscriber<M>> {
        let subscriber = self.subscribers[subscription.place].as_mut();
        subscriber.filter(|it| it.number == subscription.number)
    }

    /// The number of the block that is being filled.
    fn end(&self) -> u64 {
        self.first + self.blocks.len() as u64
    }

    fn close_block(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let bytes = SharedBytes::new(std::mem::take(&mut self.open));
        self.bytes += bytes.len();
        self.blocks.push_back(Block { bytes, unread: self.len() });
        if self.bytes > self.limit_bytes {
            self.make_room();
        }
    }

    /// Drops what somebody has not read. It may be somebody who has gone.
    fn make_room(&mut self) {
        self.forget_gone();
        while self.bytes > self.limit_bytes && self.blocks.len() > 1 {
            self.drop_oldest();
        }
    }

    /// A subscriber has read, or never will, what is from this block on.
    fn have_read(&mut self, from: u64) {
        let unread = from.saturating_sub(self.first) as usize;
        self.blocks.iter_mut().skip(unread).for_each(|block| block.unread -= 1);
        while self.blocks.front().is_some_and(|oldest| oldest.unread == 0) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.blocks.pop_front() {
            self.bytes -= oldest.bytes.len();
            self.first += 1;
        }
    }

    /// Tells those that there is something who do not know it yet.
    fn tell(&mut self) {
        // Those whom it had no room for may all have waited for sessions that have gone.
        self.tell_late();
        if self.idle == 0 {
            return;
        }
        for (place, subscriber) in self.subscribers.iter_mut().enumerate() {
            if let Some(subscriber) = subscriber
                && subscriber.standing == Standing::Idle
            {
                subscriber.standing = subscriber.tell((self.news)());
                if subscriber.standing == Standing::Late {
                    self.late.push_back(place);
                }
            }
        }
        self.idle = 0;
    }

    /// A subscriber comes to read: it has taken a message from the channel, so there is room to tell one that is late.
    fn heard(&mut self, place: usize) {
        if let Some(subscriber) = &mut self.subscribers[place]
            && subscriber.standing == Standing::Told
        {
            subscriber.standing = Standing::Idle;
            self.idle += 1;
        }
        self.tell_late();
    }

    fn tell_late(&mut self) {
        while let Some(late) = self.late.front().copied() {
            let Some(subscriber) = &mut self.subscribers[late] else { return };
            subscriber.standing = subscriber.tell((self.news)());
            if subscriber.standing == Standing::Late {
                return;
            }
            self.late.pop_front();
        }
    }
}

impl<M> Subscriber<M> {
    fn tell(&self, news: M) -> Standing {
        match self.mailbox.send(news) {
            Err(SendError::Full(_)) => Standing::Late,
            // One that has gone is about to be unsubscribed.
            Ok(()) | Err(SendError::Gone(_)) => Standing::Told,
        }
    }
}

impl<M> fmt::Debug for Topic<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic")
            .field("subscribers", &self.len())
            .field("blocks", &self.blocks.len())
            .field("bytes", &(self.bytes + self.open.len()))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::{Mail, mail};
    use crate::ring::Key;

    fn key(slot: u32) -> Key {
        Key::fixed(slot)
    }

    struct Room {
        topic: Topic<()>,
        mail: Mail<()>,
    }

    impl Room {
        fn new(limit_bytes: usize, messages: usize) -> Self {
            let mail = mail(messages, [None]).remove(0);
            Self { topic: Topic::new(limit_bytes, || ()), mail }
        }

        fn join(&mut self, slot: u32) -> Subscription {
            self.topic.subscribe(self.mail.mailbox(key(slot)))
        }

        /// Who is told next that there is something.
        fn told(&self) -> Option<u32> {
            self.mail.take().map(|(to, ())| to.session().unwrap().slot)
        }

        fn read(&mut self, subscription: &Subscription) -> Result<Vec<u8>, Lagged> {
            let mut outbox = Outbox::default();
            self.topic.read(subscription, &mut outbox).map(|()| outbox.render(b""))
        }
    }

    #[test]
    fn each_subscriber_is_told_once_and_reads_all() {
        let mut room = Room::new(1000, 10);
        let ann = room.join(1);
        assert_eq!(room.topic.publish(&[b"a", b"b"]), 1);
        let bob = room.join(2);
        assert_eq!(room.topic.publish(&[b"c"]), 2);
        assert_eq!((room.told(), room.told(), room.told()), (Some(1), Some(2), None));
        assert_eq!(room.read(&ann).unwrap(), b"abc");
        assert_eq!(room.topic.publish(&[b"d"]), 2);
        assert_eq!((room.told(), room.told()), (Some(1), None));
        assert_eq!(room.read(&bob).unwrap(), b"cd");
        assert_eq!(room.read(&ann).unwrap(), b"d");
        assert_eq!(room.read(&ann).unwrap(), b"");
        assert_eq!((room.topic.blocks.len(), room.topic.bytes), (0, 0));
    }

    #[test]
    fn one_that_lags_behind_has_missed_something_and_nobody_else_has() {
        let mut room = Room::new(8, 10);
        let (quick, slow) = (room.join(1), room.join(2));
        for _ in 0..4 {
            room.topic.publish(&[b"1234"]);
            assert_eq!(room.read(&quick).unwrap(), b"1234");
        }
        assert!(room.topic.bytes <= 8, "{:?}", room.topic);
        assert_eq!(room.read(&slow), Err(Lagged { blocks: 4 }));
        room.topic.publish(&[b"5"]);
        assert_eq!(room.read(&slow).unwrap(), b"5");
        assert_eq!(room.read(&quick).unwrap(), b"5");
        assert_eq!(room.topic.bytes, 0);
    }

    #[test]
    fn a_session_that_ends_without_a_word_is_forgotten() {
        let mut room = Room::new(1000, 10);
        let stays = room.join(0);
        for _ in 0..100 {
            let mailbox = room.mail.mailbox(key(1));
            let _ = room.topic.subscribe(mailbox.clone());
            mailbox.close();
        }
        assert!(room.topic.len() <= 2, "{:?}", room.topic);
        for _ in 0..300 {
            room.topic.publish(&[b"12345678"]);
            assert_eq!(room.read(&stays).unwrap(), b"12345678");
        }
        assert_eq!((room.topic.len(), room.topic.bytes), (1, 0));
    }

    #[test]
    fn one_larger_than_the_limit_is_kept_until_the_next() {
        let mut room = Room::new(2, 10);
        let one = room.join(1);
        room.topic.publish(&[b"123456"]);
        assert_eq!(room.read(&one).unwrap(), b"123456");
    }

    #[test]
    fn whom_the_channel_had_no_room_to_tell_is_told_when_somebody_has_read() {
        let mut room = Room::new(1000, 1);
        let all = [room.join(0), room.join(1), room.join(2)];
        room.topic.publish(&[b"x"]);
        for place in 0..3 {
            assert_eq!(room.told(), Some(place));
            assert_eq!(room.read(&all[place as usize]).unwrap(), b"x");
        }
        assert_eq!((room.told(), room.topic.bytes), (None, 0));
    }

    #[test]
    fn what_only_those_who_have_left_had_not_read_is_freed() {
        let mut room = Room::new(1000, 1);
        let (gone, late, stays) = (room.join(0), room.join(1), room.join(2));
        room.topic.publish(&[b"x"]);
        room.topic.unsubscribe(gone);
        room.topic.unsubscribe(late);
        assert_eq!(room.told(), Some(0));
        assert_eq!(room.read(&stays).unwrap(), b"x");
        assert_eq!((room.topic.len(), room.topic.bytes), (1, 0));
        let again = room.join(3);
        assert_eq!(again.place, 1);
        room.topic.unsubscribe(again);
        room.topic.unsubscribe(stays);
        assert_eq!((room.topic.publish(&[b"y"]), room.topic.is_empty()), (0, true));
        assert_eq!((room.topic.open.len(), room.topic.blocks.len()), (0, 0));
    }
}
