//! Messages to the sessions of a worker, and to what they share there: one bounded channel for each worker.
//!
//! A [`Mailbox`] is an address. It may be cloned and used from any thread. The worker itself says when the session behind
//! it has gone, and looks at that again when it takes a message, so a message never comes to another session that has got
//! the same place.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::parker::Parker;
use crate::ring::Key;

/// Where messages for one session go, or those for what the sessions of a worker share. A clone is the same.
pub struct Mailbox<M>(Arc<Address<M>>);

struct Address<M> {
    post: Arc<Post<M>>,
    /// `None`: what sessions share.
    session: Option<Key>,
    is_open: AtomicBool,
}

/// The way to one worker.
struct Post<M> {
    sender: Sender<Letter<M>>,
    /// `None`: whoever takes the messages does not sleep.
    parker: Option<Arc<Parker>>,
}

/// A message, and where it goes.
pub(crate) type Letter<M> = (Mailbox<M>, M);

/// Why a message was not sent. It comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendError<M> {
    /// As many messages wait for the worker as there may.
    Full(M),
    /// The session has ended, or its worker has.
    Gone(M),
}

/// The worker's end.
pub struct Mail<M> {
    post: Arc<Post<M>>,
    receiver: Receiver<Letter<M>>,
    workers: Arc<[Mailbox<M>]>,
    index: usize,
}

/// Makes the channels to the threads of these parkers, each for at most `capacity` messages at a time.
pub fn mail<M>(
    capacity: usize,
    parkers: impl IntoIterator<Item = Option<Arc<Parker>>>,
) -> Vec<Mail<M>> {
    let channel = |parker| {
        let (sender, receiver) = bounded(capacity);
        (Arc::new(Post { sender, parker }), receiver)
    };
    let ends: Vec<_> = parkers.into_iter().map(channel).collect();
    let address = |(post, _): &(Arc<Post<M>>, _)| Mailbox::new(post, None);
    let workers: Arc<[Mailbox<M>]> = ends.iter().map(address).collect();
    let end = |(index, (post, receiver))| {
        let workers = Arc::clone(&workers);
        Mail { post, receiver, workers, index }
    };
    ends.into_iter().enumerate().map(end).collect()
}

impl<M> Mailbox<M> {
    fn new(post: &Arc<Post<M>>, session: Option<Key>) -> Self {
        let post = Arc::clone(post);
        Self(Arc::new(Address { post, session, is_open: AtomicBool::new(true) }))
    }

    /// One behind which there is nobody.
    pub(crate) fn nowhere() -> Self {
        let (sender, _) = bounded(0);
        let mailbox = Self::new(&Arc::new(Post { sender, parker: None }), None);
        mailbox.close();
        mailbox
    }

    /// Puts a message into the channel of the session's worker, and wakes that if it sleeps. Never waits. Messages from
    /// one thread to one worker come in the order in which they were sent.
    ///
    /// A session may end before it gets a message that was sent: then the worker says so
    /// ([`Service::undelivered`](crate::service::Service::undelivered)).
    ///
    /// # Errors
    /// The message comes back: the channel is full, or the session has gone.
    pub fn send(&self, message: M) -> Result<(), SendError<M>> {
        if !self.is_open() {
            return Err(SendError::Gone(message));
        }
        let post = &self.0.post;
        post.sender.try_send((self.clone(), message)).map_err(|error| match error {
            TrySendError::Full((_, message)) => SendError::Full(message),
            TrySendError::Disconnected((_, message)) => SendError::Gone(message),
        })?;
        if let Some(parker) = &post.parker {
            parker.wake_if_parked();
        }
        Ok(())
    }

    /// Whether the session has not ended yet, as far as is known.
    pub fn is_open(&self) -> bool {
        self.0.is_open.load(Ordering::Acquire)
    }

    /// The session has ended. Only its worker says so.
    pub(crate) fn close(&self) {
        self.0.is_open.store(false, Ordering::Release);
    }

    /// Which session it is for; `None`: what sessions share.
    pub(crate) fn session(&self) -> Option<Key> {
        self.0.session
    }
}

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Whether it is the mailbox of the same session.
impl<M> PartialEq for Mailbox<M> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<M> Eq for Mailbox<M> {}

impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { session, is_open, .. } = &*self.0;
        f.debug_struct("Mailbox").field("session", session).field("is_open", is_open).finish()
    }
}

impl<M> SendError<M> {
    /// The message.
    pub fn into_message(self) -> M {
        match self {
            Self::Full(message) | Self::Gone(message) => message,
        }
    }
}

impl<M> fmt::Debug for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Gone(_) => "Gone(..)",
        })
    }
}

impl<M> fmt::Display for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "too many messages wait for this worker",
            Self::Gone(_) => "the session has ended",
        })
    }
}

impl<M> std::error::Error for SendError<M> {}

impl<M> Mail<M> {
    /// Of a thread that nobody tells anything.
    pub fn none() -> Self {
        let (sender, receiver) = bounded(0);
        let post = Arc::new(Post { sender, parker: None });
        let workers = [Mailbox::new(&post, None)].into();
        Self { post, receiver, workers, index: 0 }
    }

    /// The next message, and where it goes.
    pub(crate) fn take(&self) -> Option<Letter<M>> {
        self.receiver.try_recv().ok()
    }

    /// How many messages wait.
    pub(crate) fn len(&self) -> usize {
        self.receiver.len()
    }

    /// A mailbox for the session of this key.
    pub(crate) fn mailbox(&self, session: Key) -> Mailbox<M> {
        Mailbox::new(&self.post, Some(session))
    }

    /// The mailboxes of what sessions share, one for each worker.
    pub(crate) fn workers(&self) -> &[Mailbox<M>] {
        &self.workers
    }

    /// Its place among the workers.
    pub(crate) fn index(&self) -> usize {
        self.index
    }
}

/// A bounded channel keeps what is in it for as long as there are senders. Each mailbox is one, and each message in it
/// has a mailbox.
impl<M> Drop for Mail<M> {
    fn drop(&mut self) {
        self.workers[self.index].close();
        while self.take().is_some() {}
    }
}

impl<M> fmt::Debug for Mail<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mail").field("index", &self.index).field("waiting", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Generation;

    const KEY: Key = Key { slot: 7, generation: Generation::FIRST };

    fn one(capacity: usize) -> Mail<u32> {
        mail(capacity, [None]).pop().unwrap()
    }

    #[test]
    fn a_message_comes_with_its_address() {
        let mail = one(2);
        let mailbox = mail.mailbox(KEY);
        assert_eq!(mailbox.send(1), Ok(()));
        assert_eq!(mail.workers()[0].send(2), Ok(()));
        assert_eq!(mailbox.send(3), Err(SendError::Full(3)));
        assert_eq!(mail.len(), 2);
        let (to, message) = mail.take().unwrap();
        assert_eq!((to.session(), message), (Some(KEY), 1));
        assert!(to == mailbox && to != mail.mailbox(KEY));
        let (to, message) = mail.take().unwrap();
        assert_eq!((to.session(), message), (None, 2));
        assert!(mail.take().is_none());
    }

    #[test]
    fn a_message_to_somebody_who_has_gone_comes_back() {
        let mail = one(2);
        let (mailbox, worker) = (mail.mailbox(KEY), mail.workers()[0].clone());
        mailbox.close();
        assert_eq!(mailbox.send(1), Err(SendError::Gone(1)));
        let mailbox = mail.mailbox(KEY);
        assert_eq!(mailbox.send(2), Ok(()));
        drop(mail);
        for address in [mailbox, worker, Mailbox::nowhere()] {
            assert_eq!(address.send(3).unwrap_err().into_message(), 3);
        }
    }

    #[test]
    fn what_waits_for_a_thread_that_has_ended_is_dropped() {
        let mail = mail::<Arc<()>>(2, [None]).pop().unwrap();
        let (mailbox, message) = (mail.mailbox(KEY), Arc::new(()));
        assert!(mailbox.send(Arc::clone(&message)).is_ok());
        drop(mail);
        assert_eq!(Arc::strong_count(&message), 1);
    }
}
