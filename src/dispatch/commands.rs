//! What a thread is told while it runs: batches of commands over one bounded channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::parker::Parker;

/// Batches that may wait for one thread.
const BATCHES: usize = 16;

/// What a thread is told at once, and where it says that it has done so.
#[derive(Debug)]
struct Batch<C> {
    commands: Vec<C>,
    done: Sender<()>,
}

/// The end of whoever tells a thread what to do.
#[derive(Debug)]
pub struct CommandSender<C> {
    sender: Sender<Batch<C>>,
    parker: Arc<Parker>,
    is_over: Arc<AtomicBool>,
}

/// The thread's end.
#[derive(Debug)]
pub struct Commands<C> {
    receiver: Receiver<Batch<C>>,
    /// Told, and not yet done.
    current: Option<(std::vec::IntoIter<C>, Sender<()>)>,
    is_over: Arc<AtomicBool>,
}

/// What hears that threads have done what they were told.
#[derive(Debug)]
pub struct Done {
    sender: Sender<()>,
    receiver: Receiver<()>,
}

/// Makes the channel to the thread of `parker`.
pub fn commands<C>(parker: Arc<Parker>) -> (CommandSender<C>, Commands<C>) {
    let (sender, receiver) = bounded(BATCHES);
    let is_over = Arc::new(AtomicBool::new(false));
    let sender = CommandSender { sender, parker, is_over: Arc::clone(&is_over) };
    (sender, Commands { receiver, current: None, is_over })
}

impl<C> CommandSender<C> {
    /// Whether a question may be put to the thread: half of the places are kept for what it must not miss.
    pub fn takes_questions(&self) -> bool {
        self.sender.len() < BATCHES / 2
    }

    /// Sends a batch and wakes the thread. False if it has gone, or has not taken what it was told before.
    pub fn send(&self, commands: Vec<C>, done: &Done) -> bool {
        self.offer(commands, done).is_ok()
    }

    /// Whether the thread has ended. One that has takes nothing, and is not stuck.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// The same for what must not be lost.
    ///
    /// # Errors
    /// It comes back.
    pub fn offer(&self, commands: Vec<C>, done: &Done) -> Result<(), Vec<C>> {
        let batch = Batch { commands, done: done.sender.clone() };
        let sent = self.sender.try_send(batch);
        self.parker.wake();
        sent.map_err(|error| error.into_inner().commands)
    }
}

/// A bounded channel keeps what is in it for as long as there are senders: nobody else would drop what a thread
/// that has ended was told.
impl<C> Drop for Commands<C> {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        while self.receiver.try_recv().is_ok() {}
    }
}

impl<C> Commands<C> {
    /// The next thing to do. Says that a batch is done when it is asked for the one after it.
    pub fn take(&mut self) -> Option<C> {
        loop {
            if let Some((commands, done)) = &mut self.current {
                if let Some(command) = commands.next() {
                    return Some(command);
                }
                // Whoever waited may have given up.
                let _ = done.try_send(());
            }
            let batch = self.receiver.try_recv().ok();
            self.current = batch.map(|Batch { commands, done }| (commands.into_iter(), done));
            self.current.as_ref()?;
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.current.is_none() && self.receiver.is_empty()
    }
}

impl Done {
    /// For so many threads at most.
    pub fn new(threads: usize) -> Self {
        let (sender, receiver) = bounded(threads);
        Self { sender, receiver }
    }

    /// Waits until one more thread has done what it was told. False if none has within this time.
    pub fn wait(&self, limit: Duration) -> bool {
        self.receiver.recv_timeout(limit).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::ring::{RingAddress, Waker};

    #[test]
    fn a_batch_is_done_when_all_of_it_is() {
        let null = || Arc::new(File::open("/dev/null").unwrap().into());
        let parker = Parker::new(RingAddress::new(null()), Waker::new(null()));
        let (sender, mut commands) = commands(Arc::new(parker));
        let done = Done::new(1);
        assert!(sender.send(vec![1, 2], &done));
        assert_eq!((commands.take(), commands.take()), (Some(1), Some(2)));
        assert!(!commands.is_empty() && !done.wait(Duration::ZERO));
        assert_eq!(commands.take(), None);
        assert!(commands.is_empty() && done.wait(Duration::ZERO));
        // Nobody takes them.
        let sent = (0..=BATCHES).map(|_| sender.send(vec![], &done)).filter(|sent| *sent).count();
        assert_eq!(sent, BATCHES);
        drop(commands);
        assert!(!sender.send(vec![3], &done));
        assert_eq!(sender.offer(vec![4, 5], &done), Err(vec![4, 5]));
    }

    #[test]
    fn what_a_thread_that_has_ended_was_told_is_dropped() {
        let null = || Arc::new(File::open("/dev/null").unwrap().into());
        let parker = Parker::new(RingAddress::new(null()), Waker::new(null()));
        let (sender, commands) = commands(Arc::new(parker));
        let told = Arc::new(());
        assert!(sender.send(vec![Arc::clone(&told)], &Done::new(1)));
        drop(commands);
        assert_eq!(Arc::strong_count(&told), 1);
    }
}
