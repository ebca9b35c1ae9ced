//! Which endpoint is checked next. An endpoint is never checked twice at the same time.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use super::endpoint::{Endpoint, EndpointId, lock};

/// The endpoints to check, shared by the threads that check them.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    endpoint: Arc<Endpoint>,
    /// `None` while it is being checked.
    due: Option<Instant>,
}

/// What a thread should do.
enum Step {
    Check(Arc<Endpoint>),
    WaitUntil(Instant),
    Wait,
    Stop,
}

impl State {
    fn step(&mut self, now: Instant) -> Step {
        if self.stopped {
            return Step::Stop;
        }
        let waiting = self.entries.iter_mut().filter(|entry| entry.due.is_some());
        match waiting.min_by_key(|entry| entry.due) {
            None => Step::Wait,
            Some(entry) => match entry.due {
                Some(due) if due > now => Step::WaitUntil(due),
                _ => {
                    entry.due = None;
                    Step::Check(Arc::clone(&entry.endpoint))
                }
            },
        }
    }
}

impl Schedule {
    /// These endpoints and no others are to be checked; those that are new at once.
    pub(super) fn set_endpoints(&self, endpoints: &[Arc<Endpoint>], now: Instant) {
        let mut state = lock(&self.state);
        let mut old = std::mem::take(&mut state.entries);
        let entry = |endpoint: &Arc<Endpoint>| {
            let same = |entry: &Entry| entry.endpoint.id() == endpoint.id();
            match old.iter().position(same) {
                Some(place) => old.swap_remove(place),
                None => Entry { endpoint: Arc::clone(endpoint), due: Some(now) },
            }
        };
        state.entries = endpoints.iter().map(entry).collect();
        self.changed.notify_all();
    }

    /// Waits for the next endpoint that is due; `None` when it is stopped.
    pub(super) fn next(&self) -> Option<Arc<Endpoint>> {
        let mut state = lock(&self.state);
        loop {
            let now = Instant::now();
            state = match state.step(now) {
                Step::Stop => return None,
                Step::Check(endpoint) => return Some(endpoint),
                Step::Wait => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Step::WaitUntil(due) => {
                    let waited = self.changed.wait_timeout(state, due - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// A check is over; the next one is due then.
    pub(super) fn done(&self, endpoint: EndpointId, due: Instant) {
        let mut state = lock(&self.state);
        let mut entries = state.entries.iter_mut();
        if let Some(entry) = entries.find(|entry| entry.endpoint.id() == endpoint) {
            entry.due = Some(due);
        }
        self.changed.notify_one();
    }

    /// Ends every wait.
    pub(super) fn stop(&self) {
        lock(&self.state).stopped = true;
        self.changed.notify_all();
    }
}
