//! What holds after every step, when nothing moves, and at the end.

use std::time::Duration;

use super::driver::{Driver, State};
use super::workload::{Moment, Workload};
use crate::metrics::{Block, Counter, total};
use crate::server::Phase;
use crate::server::connections::Connections;
use crate::service::Service;

/// Turns within [`SPIN_WINDOW`] that bring nothing, above which a thread spins.
const TURNS_IN_VAIN: usize = 500;
/// How soon a worker looks again whether there are buffers.
const FEED_INTERVAL: Duration = Duration::from_millis(5);
/// How often, and with which pauses, a descriptor that is held at the end is looked at again.
const HELD_LOOKS: usize = 1000;
const HELD_PAUSE: Duration = Duration::from_millis(1);
/// See [`TURNS_IN_VAIN`].
const SPIN_WINDOW: Duration = Duration::from_millis(2);

impl<P: Workload> Driver<P> {
    /// After every step.
    pub(super) fn check_step(&mut self) -> Result<(), String> {
        if let Some(violation) = self.network.violation() {
            return Err(violation);
        }
        let (open, limit) =
            (self.shared.connection_limit.open(), self.shared.connection_limit.limit());
        // A frontend may have so many; those that its listeners were moved to count for themselves.
        if let Some(full) = self.changes.limits.iter().find(|limit| limit.open() > limit.limit()) {
            let (open, limit) = (full.open(), full.limit());
            return Err(format!("{open} connections of a frontend are open, its limit is {limit}"));
        }
        if open > limit {
            return Err(format!("{open} connections are open, the limit is {limit}"));
        }
        if self.network.elapsed() > self.scenario.patience() {
            return Err(self.stuck());
        }
        self.workload.check_step(self.network.now())
    }

    /// After a step of a thread.
    pub(super) fn check_thread(&mut self, index: usize) -> Result<(), String> {
        let loads: usize = self.senders.iter().map(|sender| sender.load().open()).sum();
        let open = self.shared.connection_limit.open();
        // What comes to a worker that has stopped is closed without being counted.
        if loads != open && !self.is_stopping() {
            return Err(format!(
                "the workers' gauges say {loads} open, connection_limit says {open}"
            ));
        }
        let thread = &mut self.threads[index];
        if !matches!(thread.state, State::Start(_)) {
            return Ok(());
        }
        let Some(event_loop) = &mut thread.event_loop else { return Ok(()) };
        if let Some(worker) = thread.worker {
            let connections = event_loop.connections().open();
            let truth = connections + event_loop.inbox().len();
            let gauge = self.senders[worker].load().open();
            if truth != gauge {
                return Err(format!("{} has {truth} connections, not {gauge}", thread.name));
            }
            if connections > self.shared.connection_limit.limit() {
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

    /// When all threads wait and nothing is under way: whoever could go on has been forgotten.
    pub(super) fn check_quiet(&mut self) -> Result<(), String> {
        if let Some(violation) = self.network.violation() {
            return Err(violation);
        }
        let room = self.shared.connection_limit.headroom() > 0;
        let mut buffers_left = true;
        let mut inboxes_full = true;
        for thread in &mut self.threads {
            let Some(event_loop) = &mut thread.event_loop else { continue };
            if !event_loop.inbox().is_empty() {
                return Err(format!("{} sleeps over a full inbox", thread.name));
            }
            if event_loop.is_told() {
                return Err(format!("{} sleeps over what it is told", thread.name));
            }
            keeps_what_it_needs(&thread.name, event_loop.connections())?;
            if thread.worker.is_some() {
                inboxes_full &= event_loop.inbox().len() >= self.scenario.inbox;
                buffers_left &= crate::ring::Ring::buffers(event_loop.ring().0).available() > 0;
            }
        }
        self.check_acceptors(room, inboxes_full)?;
        // A worker that runs out of buffers asks one after the other.
        let soon = self.network.elapsed() + FEED_INTERVAL;
        let patient = self.first_deadline().is_none_or(|deadline| deadline > soon);
        let loops = self.threads.iter().filter_map(|thread| thread.event_loop.as_ref());
        let pairs = loops.map(|event_loop| event_loop.connections().pairs()).sum();
        let ending = self.is_stopping();
        let moment = Moment { network: &self.network, scenario: &self.scenario, ending };
        let may_wait = self.workload.check_quiet(pairs, moment)?;
        match self.network.forgotten() {
            Some(connection) if buffers_left && patient && !may_wait => {
                Err(format!("nothing will ever happen to c{connection}"))
            }
            _ => Ok(()),
        }
    }

    /// Whether an acceptor has forgotten what it could do.
    fn check_acceptors(&self, room: bool, inboxes_full: bool) -> Result<(), String> {
        for thread in &self.threads {
            let Some(event_loop) = &thread.event_loop else { continue };
            let (acceptor, name) = (event_loop.acceptor(), &thread.name);
            if acceptor.is_full() && room && !inboxes_full {
                return Err(format!("{name} sleeps although there is room for what it holds"));
            }
            let rests = acceptor.next_turn().is_some();
            if self.shared.lifecycle.phase() != Phase::Serving
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
        // A child process of this one holds copies of all descriptors until its exec.
        let mut looks = (0..HELD_LOOKS).map(|_| self.network.sweep());
        let held = looks.find(|held| {
            let none = *held == 0;
            if !none {
                std::thread::sleep(HELD_PAUSE);
            }
            none
        });
        if held.is_none() {
            let held = self.network.sweep();
            return Err(format!("{held} descriptors were leaked"));
        }
        let open = self.shared.connection_limit.open();
        if open > 0 && !self.is_stopping() {
            return Err(format!("{open} connections are still counted as open"));
        }
        let left = self.changes.limits.iter().find(|limit| limit.open() > 0);
        if let Some(limit) = left.filter(|_| !self.is_stopping()) {
            let open = limit.open() as isize;
            return Err(format!("{open} connections are still counted as open by their frontend"));
        }
        let blocks: Vec<&Block> = self.threads.iter().map(|thread| thread.block.as_ref()).collect();
        let count = |counter| total(blocks.iter().copied(), counter);
        let ended: u64 = Counter::ALL
            .into_iter()
            .filter(|counter| counter.name().starts_with("closed_"))
            .map(count)
            .sum();
        let opened = count(Counter::Opened);
        if ended != opened {
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
