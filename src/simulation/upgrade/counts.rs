//! What a server counts of the one before it, so that limits hold for both.

use std::time::Duration;

use super::super::driver::Driver;
use super::super::server::Reserved;
use super::super::thread::State;
use super::super::workload::Workload;
use super::Stage;
use crate::dispatch::ConnectionLimit;

/// How often the new server hears what the old one still has.
pub(super) const TELL_INTERVAL: Duration = Duration::from_millis(50);

impl<P: Workload> Driver<P> {
    /// The new server hears what the old one has.
    pub(super) fn tell_counts(&mut self, old: usize, new: usize) {
        self.reserve(new, Some(old));
    }

    pub(super) fn reserve(&mut self, server: usize, before: Option<usize>) {
        let kinds = self.workload.kinds();
        let open = |server: usize| {
            let frontends = &self.servers[server].changes.frontends;
            let of =
                |kind| frontends.iter().find(|it| it.kind == kind).map_or(0, |it| it.limit.open());
            (self.servers[server].shared.connection_limit.open(), (0..kinds).map(of).collect())
        };
        let counted = before.map_or_else(|| (0, vec![0; kinds]), open);
        let told = before.map(|before| (before, self.without_backend(before)));
        self.workload.reserve(server, told);
        let reserved = Reserved { process: counted.0, frontends: counted.1 };
        let server_of = &mut self.servers[server];
        let was = std::mem::replace(&mut server_of.reserved, reserved);
        let now = &server_of.reserved;
        set(&server_of.shared.connection_limit, was.process, now.process);
        for frontend in &server_of.changes.frontends {
            let was = was.frontends.get(frontend.kind).copied().unwrap_or_default();
            set(&frontend.limit, was, now.frontends[frontend.kind]);
        }
        if !server_of.is_dead {
            server_of.shared.lifecycle.wake_all();
        }
        self.poll_wakes();
    }

    /// Connections of a server that may still want a backend.
    fn without_backend(&self, server: usize) -> usize {
        let threads = self.threads.iter().filter(|thread| thread.server == server);
        let loops = threads.filter_map(|thread| thread.event_loop.as_ref());
        loops.map(|it| it.connections().without_backend() + it.inbox().len()).sum()
    }

    /// Those that came after another one hear what that still has.
    pub(super) fn follow_counts(&mut self, now: Duration) {
        if self.upgrades.before.is_empty() || now < self.upgrades.told_at {
            return;
        }
        for (new, old) in self.upgrades.before.clone() {
            let mut of_old = self.threads.iter().filter(|thread| thread.server == old);
            // One that is told of one before it goes on to tell of that.
            let is_told = self.upgrades.before.iter().any(|(server, _)| *server == old);
            if !is_told && of_old.all(|thread| thread.state == State::Ended) {
                self.upgrades.before.retain(|(_, before)| *before != old);
                self.reserve(new, None);
                continue;
            }
            let is_going = matches!(self.upgrades.stage, Stage::Going { .. });
            if !is_going || new != self.upgrades.new {
                self.tell_counts(old, new);
            }
        }
        if !self.upgrades.before.is_empty() {
            self.upgrades.told_at = now + TELL_INTERVAL;
            self.network.call_at(self.upgrades.told_at, u32::MAX);
        }
    }
}

fn set(limit: &ConnectionLimit, was: usize, now: usize) {
    match now.checked_sub(was) {
        Some(more) => limit.take(more),
        None => limit.release(was - now),
    }
}
