//! Whether a thread may wait, and how long.

use std::time::{Duration, Instant};

use super::{EventLoop, ListeningSocket, QUEUE_POLL};
use crate::connection::sooner;
use crate::ring::{Ring, Wait};
use crate::service::Service;

impl<R: Ring, S: Service, L: ListeningSocket> EventLoop<R, S, L> {
    /// Says that this thread is about to wait, looks once more for work, and decides how long.
    pub(super) fn park(&mut self, now: Instant) -> Wait {
        if self.acceptor.wants_wake() {
            self.inbox.pause();
            self.acceptor.turn(now, &mut self.operations);
        }
        let parked = self.inbox.park();
        self.is_told = !self.commands.is_empty();
        if !parked {
            return Wait::No;
        }
        if self.is_told || !self.listings.is_empty() || self.connections.has_mail() {
            self.inbox.resume();
            return Wait::No;
        }
        // Later only: at the end of the drain timeout this thread is ahead of the others.
        if self.shared.lifecycle.phase() > self.phase {
            return Wait::No;
        }
        self.longest_wait(now).map_or(Wait::Forever, Wait::For)
    }

    /// Until the next moment at which there is something to do unasked.
    fn longest_wait(&self, now: Instant) -> Option<Duration> {
        let until = |moment: Instant| moment.saturating_duration_since(now);
        let feed = self.starved.next().filter(|_| self.connections.open() > 0);
        let tick = sooner(self.connections.next_tick(now, self.millis), feed);
        let rest = self.acceptor.next_turn();
        let line = self.acceptor.next_line();
        let watch = self.acceptor.next_watch();
        let drain = self.shared.lifecycle.drain_until().filter(|end| *end > now);
        let polls = self.closes && !self.listeners.is_empty() || self.is_asked();
        let poll = polls.then_some(QUEUE_POLL);
        let moments = [rest, line, watch, drain].map(|moment| moment.map(until));
        moments.into_iter().chain([tick, poll]).flatten().min()
    }
}
