//! One thread of a server, which takes one step at a time.

use std::sync::Arc;
use std::time::Duration;

use super::listener::SimulatedListener;
use crate::metrics::Block;
use crate::ring::simulated::{Network, Simulated};
use crate::ring::{Ring, Wait};
use crate::server::event_loop::{EventLoop, Next};
use crate::service::Service;

/// Where a thread stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Turn,
    Start(Next),
    /// Until then, or until something comes.
    Wait(Option<Duration>),
    Ended,
}

/// One thread of the server.
pub(super) struct Thread<S: Service> {
    pub(super) name: String,
    /// `None` once it has ended.
    pub(super) event_loop: Option<EventLoop<Simulated, S, SimulatedListener>>,
    pub(super) state: State,
    pub(super) block: Arc<Block>,
    /// Turns in vain, and when the first of them was.
    pub(super) in_vain: (usize, Duration),
    /// Which of the servers it is of.
    pub(super) server: usize,
    /// Index among the workers of its server.
    pub(super) worker: Option<usize>,
}

impl<S: Service> Thread<S> {
    /// Whether it can take a step.
    pub(super) fn is_ready(&mut self, now: Duration) -> bool {
        match self.state {
            State::Ended => false,
            State::Turn | State::Start(_) => true,
            State::Wait(deadline) => {
                let ring = self.event_loop.as_mut().map(|event_loop| event_loop.ring().0);
                deadline.is_some_and(|deadline| deadline <= now)
                    || ring.is_some_and(|ring| ring.is_ready())
            }
        }
    }

    pub(super) fn step(&mut self, network: &Network) -> Result<(), String> {
        let Some(event_loop) = &mut self.event_loop else { return Ok(()) };
        let failed = |failure| format!("{failure:?}");
        match self.state {
            State::Turn => {
                let next = event_loop.turn();
                network.note(&self.name, || format!("turn, then {next:?}"));
                self.state = State::Start(next);
            }
            State::Start(Next::Enter(wait)) => {
                let (ring, operations) = event_loop.ring();
                ring.start(operations);
                self.state = State::Wait(match wait {
                    Wait::No => Some(network.elapsed()),
                    Wait::For(duration) => Some(network.elapsed() + duration),
                    Wait::Forever => None,
                });
            }
            State::Start(Next::End) => {
                event_loop.enter(Wait::No).map_err(failed)?;
                self.end()?;
            }
            State::Wait(_) => {
                event_loop.enter(Wait::No).map_err(failed)?;
                self.state = State::Turn;
            }
            State::Ended => {}
        }
        Ok(())
    }

    /// The thread has ended, and must leave nothing behind.
    fn end(&mut self) -> Result<(), String> {
        self.state = State::Ended;
        let Some(mut event_loop) = self.event_loop.take() else { return Ok(()) };
        let completed = event_loop.completed();
        let (ring, _) = event_loop.ring();
        let (pending, buffers) = (ring.pending() + completed, ring.buffers());
        if pending > 0 {
            return Err(format!("it ended with {pending} operations in flight"));
        }
        if buffers.available() != buffers.count() {
            let lost = buffers.count() - buffers.available();
            return Err(format!("it ended without {lost} of its buffers"));
        }
        Ok(())
    }
}

pub(super) fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
