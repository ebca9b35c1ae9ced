//! What each thread is told by one change of the server, and waiting until it is done.

use std::time::Duration;

use super::command::Command;
use crate::dispatch::{CommandSender, Done};
use crate::listener::Listener;

/// How long a thread may take to do what it is told. One that takes longer is named; it does so when it comes to it.
const APPLY_LIMIT: Duration = Duration::from_secs(5);

/// A thread as the controller knows it.
pub(super) struct ThreadLink<S> {
    pub(super) name: String,
    pub(super) accepts: bool,
    pub(super) works: bool,
    pub(super) sender: CommandSender<Command<S, Listener>>,
}

/// What each thread is told: first, and once all have been sent that. A connection of a new frontend may come to a
/// thread as soon as another one listens for it.
pub(super) struct Orders<S> {
    first: Vec<Vec<Command<S, Listener>>>,
    batches: Vec<Vec<Command<S, Listener>>>,
    /// The places of the accepting threads.
    accepting: Vec<usize>,
    pub(super) warnings: Vec<String>,
}

impl<S> Orders<S> {
    pub(super) fn new(threads: &[ThreadLink<S>]) -> Self {
        let places = threads.iter().enumerate().filter(|(_, thread)| thread.accepts);
        Self {
            first: threads.iter().map(|_| Vec::new()).collect(),
            batches: threads.iter().map(|_| Vec::new()).collect(),
            accepting: places.map(|(place, _)| place).collect(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn everywhere_first(&mut self, command: impl Fn() -> Command<S, Listener>) {
        self.first.iter_mut().for_each(|batch| batch.push(command()));
    }

    pub(super) fn everywhere(&mut self, command: impl Fn() -> Command<S, Listener>) {
        self.batches.iter_mut().for_each(|batch| batch.push(command()));
    }

    pub(super) fn push_to_acceptor(&mut self, number: usize, command: Command<S, Listener>) {
        self.batches[self.accepting[number]].push(command);
    }

    /// Sends them, and waits until they are followed if that is wanted. Returns what did not go as it should.
    pub(super) fn send(self, threads: &[ThreadLink<S>], wait: bool) -> Vec<String> {
        let mut warnings = self.warnings;
        for (thread, batch) in threads.iter().zip(self.first).filter(|(_, it)| !it.is_empty()) {
            // One that takes nothing is named below.
            thread.sender.send(batch, &Done::new(1));
        }
        let all: Vec<(&str, Done)> = threads
            .iter()
            .zip(self.batches)
            .filter_map(|(thread, batch)| {
                let done = Done::new(1);
                let name = thread.name.as_str();
                if thread.sender.send(batch, &done) {
                    return Some((name, done));
                }
                if !thread.sender.is_over() {
                    warnings.push(format!("thread '{name}' takes nothing; it may be stuck"));
                }
                None
            })
            .collect();
        for (name, done) in all.iter().filter(|_| wait) {
            if !done.wait(APPLY_LIMIT) {
                warnings.push(format!(
                    "thread '{name}' has not answered within {}; it may be stuck",
                    humantime::format_duration(APPLY_LIMIT)
                ));
            }
        }
        warnings
    }
}
