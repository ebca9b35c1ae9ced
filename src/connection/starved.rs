//! Receives that found no buffer, of all connections of one thread, in the order in which they will be asked
//! again.

use std::collections::VecDeque;
use std::time::Duration;

use super::LoopContext;
use crate::ring::Key;

/// How soon the next are asked when those before them have left a buffer over: they may have nothing to
/// receive.
pub(crate) const FEED_INTERVAL: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Debug, Default)]
pub struct Starved {
    queue: VecDeque<Key>,
    /// Whether some of them wait although there are buffers.
    feeds_again: bool,
}

impl Starved {
    /// Puts a receive in line, under the key of its operations.
    pub(crate) fn push(&mut self, key: Key) {
        self.queue.push_back(key);
    }

    /// How long until there is somebody to ask unasked.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.feeds_again.then_some(FEED_INTERVAL)
    }
}

impl LoopContext<'_> {
    /// Lets as many starved receives ask again as there are buffers, first come, first served. `ask` says
    /// whether that takes a buffer: a connection may have gone, or want no input for now.
    pub(crate) fn feed(&mut self, mut ask: impl FnMut(Key, &mut LoopContext<'_>) -> bool) {
        let mut buffers = self.buffers.available();
        while buffers > 0
            && let Some(key) = self.starved.queue.pop_front()
        {
            buffers -= usize::from(ask(key, self));
        }
        self.starved.feeds_again = !self.starved.queue.is_empty() && self.buffers.available() > 0;
    }
}
