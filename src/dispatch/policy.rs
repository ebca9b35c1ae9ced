//! Which worker a connection should go to.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::AsFd;

use super::{Accepted, InboxSender, WorkerId};
use crate::config::DispatchPolicy;
use crate::sys;

/// How far ahead of the least loaded worker an acceptor's own worker may be at most before it hands over: a
/// hand-over costs a wake.
pub(super) const SLACK_MOST: usize = 32;

/// How an acceptor prefers the worker on its own thread, by [`DispatchPolicy::LeastConnections`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preference {
    /// It may have so many connections more than the least loaded worker, up to a limit.
    Slack(usize),
    /// It gets a connection only while it has fewer than each other worker.
    Last,
}

/// A policy and its memory.
#[derive(Debug)]
pub(super) struct Choice {
    policy: DispatchPolicy,
    home: Option<WorkerId>,
    /// Where the search for the next worker begins, so that ties rotate.
    next: usize,
    /// How the worker at home is preferred.
    preference: Preference,
}

impl Choice {
    pub(super) fn new(policy: DispatchPolicy, home: Option<WorkerId>) -> Self {
        let next = home.map_or(0, |WorkerId(worker)| worker);
        Self { policy, home, next, preference: Preference::Slack(0) }
    }

    pub(super) fn prefer(&mut self, preference: Preference) {
        self.preference = preference;
    }

    /// The preferred worker.
    pub(super) fn worker(&mut self, inboxes: &[InboxSender], accepted: &Accepted) -> usize {
        match self.policy {
            _ if inboxes.len() == 1 => 0,
            DispatchPolicy::LeastConnections => self.least_connections(inboxes),
            DispatchPolicy::RoundRobin => self.rotate(inboxes.len()),
            DispatchPolicy::SourceHash => source_hash(accepted) % inboxes.len(),
            DispatchPolicy::IncomingCpu => incoming_cpu(accepted) % inboxes.len(),
        }
    }

    fn rotate(&mut self, workers: usize) -> usize {
        let worker = self.next % workers;
        self.next = (worker + 1) % workers;
        worker
    }

    fn least_connections(&mut self, inboxes: &[InboxSender]) -> usize {
        let count = inboxes.len();
        let start = self.next;
        let candidates = (0..count).map(|offset| (start + offset) % count);
        let open = |worker: usize| inboxes[worker].load().open();
        let home = self.home.map(|WorkerId(home)| home);
        let comes_last = |worker| home == Some(worker) && self.preference == Preference::Last;
        let least = candidates
            .min_by_key(|worker| (open(*worker), comes_last(*worker)))
            .expect("a server has at least one worker");
        if let (Some(home), Preference::Slack(slack)) = (home, self.preference)
            && open(home) <= open(least) + slack.min(SLACK_MOST)
        {
            return home;
        }
        self.next = (least + 1) % count;
        least
    }
}

/// The same for all connections of one IP address, on every run. A connection whose peer is unknown
/// counts as one address.
fn source_hash(accepted: &Accepted) -> usize {
    let peer = sys::peer_address(accepted.socket.as_fd()).ok().flatten();
    let mut hasher = DefaultHasher::new();
    peer.map(|peer| peer.ip().to_canonical()).hash(&mut hasher);
    hasher.finish() as usize
}

/// CPU n goes to worker n; with fewer workers they wrap around.
fn incoming_cpu(accepted: &Accepted) -> usize {
    sys::incoming_cpu(accepted.socket.as_fd()).map_or(0, |cpu| cpu as usize)
}
