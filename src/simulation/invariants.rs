//! What holds after every step, when nothing moves, and at the end.

use std::time::Duration;

use super::driver::Driver;
use super::thread::State;
use super::workload::{Moment, Workload};
use crate::metrics::{Block, Counter, total};
use crate::server::Phase;
use crate::server::connections::Connections;
use crate::service::Service;

/// Turns within [`SPIN_WINDOW`] that bring nothing, above which a thread spins.
const TURNS_IN_VAIN: usize = 500;
/// How soon a worker looks again whether there are buffers.
const FEED_INTERVAL: Duration = Duration::from_millis(5);
/// See [`TURNS_IN_VAIN`].
const SPIN_WINDOW: Duration = Duration::from_millis(2);

impl<P: Workload> Driver<P> {
    /// After every step.
    pub(super) fn check_step(&mut self) -> Result<(), String> {
        if let Some(violation) = self.network.violation() {
            return Err(violation);
        }
        // A frontend may have so many; those that its listeners were moved to count for themselves.
        let mut limits = self.servers.iter().flat_map(|server| &server.changes.limits);
        if let Some(full) = limits.find(|limit| limit.open() > limit.limit()) {
            let (open, limit) = (full.open(), full.limit());
            return Err(format!("{open} connections of a frontend are open, its limit is {limit}"));
        }
        self.check_limits()?;
        if self.network.elapsed() > self.scenario.patience() {
            return Err(self.stuck());
        }
        self.workload.check_step(self.network.now())
    }

    /// After a step of a thread.
    pub(super) fn check_thread(&mut self, index: usize) -> Result<(), String> {
        // What comes to a worker that has stopped is closed without being counted.
        if !self.is_stopping() {
            for place in (0..self.servers.len()).filter(|place| !self.servers[*place].is_dead) {
                self.check_gauges(place)?;
            }
        }
        let server = &self.servers[self.threads[index].server];
        let thread = &mut self.threads[index];
        if !matches!(thread.state, State::Start(_)) {
            return Ok(());
        }
        let Some(event_loop) = &mut thread.event_loop else { return Ok(()) };
        if let Some(worker) = thread.worker {
            let connections = event_loop.connections().open();
            let truth = connections + event_loop.inbox().len();
            let gauge = server.senders[worker].load().open();
            if truth != gauge {
                return Err(format!("{} has {truth} connections, not {gauge}", thread.name));
            }
            if connections > server.shared.connection_limit.limit() {
                return Err(format!("{} serves {connections} connections", thread.name));
            }
        }
        let now = self.network.elapsed();
        if event_loop.ring().0.take_progress() || now > thread.in_vain.1 + SPIN_WINDOW {
            thread.in_vain = (0, now);
        }
        thread.in_vain.0 += 1;
        if thread.in_vain.0 > TURNS_IN_VAIN {
            return Err(format!("{} spins", thread.name));
        }
        Ok(())
    }

    /// What a server counts is what it has, and what it counts for another one.
    fn check_gauges(&self, place: usize) -> Result<(), String> {
        let server = &self.servers[place];
        let (loads, off) = (server.loads(), self.off_threads(place));
        let open = server.shared.connection_limit.open();
        let reserved = server.reserved.process;
        if loads + off + reserved == open {
            return Ok(());
        }
        let upgrade = match self.servers.len() {
            1 => String::new(),
            _ => format!(", of server {place}; {off} are on no thread, {reserved} another's"),
        };
        Err(format!("the workers' gauges say {loads} open, connection_limit says {open}{upgrade}"))
    }

    /// When all threads wait and nothing is under way: whoever could go on has been forgotten.
    pub(super) fn check_quiet(&mut self) -> Result<(), String> {
        if let Some(violation) = self.network.violation() {
            return Err(violation);
        }
        let mut buffers_left = true;
        let mut inboxes_full = vec![true; self.servers.len()];
        for thread in &mut self.threads {
            let Some(event_loop) = &mut thread.event_loop else { continue };
            if !event_loop.inbox().is_empty() {
                return Err(format!("{} sleeps over a full inbox", thread.name));
            }
            if event_loop.is_told() {
                return Err(format!("{} sleeps over what it is told", thread.name));
            }
            if event_loop.connections().has_mail() {
                return Err(format!("{} sleeps over messages", thread.name));
            }
            keeps_what_it_needs(&thread.name, event_loop.connections())?;
            if thread.worker.is_some() {
                inboxes_full[thread.server] &= event_loop.inbox().len() >= self.scenario.inbox;
                buffers_left &= crate::ring::Ring::buffers(event_loop.ring().0).available() > 0;
            }
        }
        self.check_acceptors(&inboxes_full)?;
        self.check_owners()?;
        // A worker that runs out of buffers asks one after the other.
        let soon = self.network.elapsed() + FEED_INTERVAL;
        let patient = self.first_deadline().is_none_or(|deadline| deadline > soon);
        let mut pairs: Vec<usize> =
            (0..self.servers.len()).map(|server| self.pairs_off_threads(server)).collect();
        for thread in &self.threads {
            let of = thread.event_loop.as_ref().map(|it| it.connections().pairs());
            pairs[thread.server] += of.unwrap_or_default();
        }
        let ending = self.is_stopping();
        let held = self.upgrades.held();
        let moment = Moment { network: &self.network, scenario: &self.scenario, ending, held };
        let may_wait = self.workload.check_quiet(&pairs, moment)?;
        // Servers have stopped, and the next word has yet to be said.
        let is_moving = ending && !self.upgrades.is_idle();
        match self.network.forgotten() {
            Some(connection) if buffers_left && patient && !may_wait && !is_moving => {
                Err(format!("nothing will ever happen to c{connection}"))
            }
            _ => Ok(()),
        }
    }

    /// Whether an acceptor has forgotten what it could do.
    fn check_acceptors(&self, inboxes_full: &[bool]) -> Result<(), String> {
        for (place, thread) in self.threads.iter().enumerate() {
            let Some(event_loop) = &thread.event_loop else { continue };
            let (server, inboxes_full) =
                (&self.servers[thread.server], inboxes_full[thread.server]);
            let room = server.shared.connection_limit.headroom() > 0;
            let (acceptor, name) = (event_loop.acceptor(), &thread.name);
            if acceptor.is_full() && room && !inboxes_full {
                return Err(format!("{name} sleeps although there is room for what it holds"));
            }
            let rests = acceptor.next_turn().is_some();
            if server.phase() != Phase::Serving
                || self.is_accepted_for(place)
                || acceptor.is_full()
                || !room
                || rests
            {
                continue;
            }
            for listened in event_loop.listeners() {
                let listener = &listened.listening.socket.listener;
                let waiting = listener.waiting();
                if listened.listening.limit.headroom() == 0 {
                    continue;
                }
                if acceptor.holds_back(listened.key) {
                    return Err(format!("{name} sleeps although there is room for what it holds"));
                }
                if waiting > 0 && !listener.is_armed() && !listener.is_failing() {
                    return Err(format!("{name} leaves {waiting} connections in a queue"));
                }
            }
        }
        Ok(())
    }

    /// When nothing will ever happen again, or everything should have been over long ago.
    pub(super) fn stuck(&self) -> String {
        let clients = self.workload.waiting();
        let threads = self.threads.iter().filter(|thread| thread.state != State::Ended);
        let threads: Vec<String> =
            threads.map(|thread| format!("{} {:?}", thread.name, thread.state)).collect();
        format!("these wait for ever: {}; {}", clients.join(", "), threads.join(", "))
    }

    /// Nothing may be left.
    pub(super) fn check_end(&mut self) -> Result<(), String> {
        self.workload.check_end()?;
        let held = self.network.sweep();
        if held > 0 {
            let which = self.network.held().join(", ");
            return Err(format!("{held} descriptors were leaked: {which}"));
        }
        let stopping = self.is_stopping();
        let first = self.servers[0].shared.connection_limit.open();
        if first > 0 && !stopping {
            return Err(format!("{first} connections are still counted as open"));
        }
        let mut limits = self.servers.iter().flat_map(|server| &server.changes.limits);
        if let Some(limit) = limits.find(|limit| limit.open() > 0).filter(|_| !stopping) {
            let open = limit.open() as isize;
            return Err(format!("{open} connections are still counted as open by their frontend"));
        }
        if !stopping {
            self.check_sources_end()?;
            self.check_upgrades_end()?;
        }
        // What was on its way to a server that has stopped is gone.
        if self.any_died() || (stopping && self.servers.len() > 1) {
            return self.check_step();
        }
        let blocks: Vec<&Block> = self.threads.iter().map(|thread| thread.block.as_ref()).collect();
        let count = |counter| total(blocks.iter().copied(), counter);
        let ended: u64 = Counter::ALL
            .into_iter()
            .filter(|counter| counter.name().starts_with("closed_"))
            .map(count)
            .sum();
        let opened = count(Counter::Opened);
        if ended + self.upgrades.lost as u64 != opened {
            return Err(format!("{opened} connections were opened and {ended} ended"));
        }
        self.check_step()
    }
}

/// A version that has neither connections nor connections to come is forgotten.
fn keeps_what_it_needs<S: Service>(
    thread: &str,
    connections: &Connections<S>,
) -> Result<(), String> {
    let (versions, known, open) = (connections.versions(), connections.known(), connections.open());
    if versions <= known + open {
        return Ok(());
    }
    Err(format!("{thread} keeps {versions} versions of {known} frontends with {open} connections"))
}
