//! What is due next: checks of endpoints, and look-ups of names. One thing is never done twice at the same time.
//!
//! ```text
//!   waiting, by when it is due           under way            waiting again
//!     prompt  ---------------------->    any thread   ---->   prompt, if it was over soon
//!     slow or new  --- at most so many at a time --->         slow, if it took long
//! ```
//!
//! What is new or took long the last time may take so many threads and no more: the others are for what is
//! known to be over soon, so that it never waits for what is slow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use super::common::lock;

/// Names one thing: the number of its upstream, and what it is there.
pub(super) type Key<K> = (u64, K);

/// What is to be done, shared by the threads that do it.
#[derive(Debug)]
pub(super) struct Schedule<K, T> {
    state: Mutex<State<K, T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<K, T> {
    stopped: bool,
    /// By upstream.
    entries: BTreeMap<u64, BTreeMap<K, Entry<T>>>,
    /// Those that wait, by when they are due.
    prompt: BTreeSet<(Instant, Key<K>)>,
    slow: BTreeSet<(Instant, Key<K>)>,
    /// Each with whether it was prompt. It may have left the entries since.
    under_way: BTreeMap<Key<K>, bool>,
    slow_max: usize,
}

#[derive(Debug)]
struct Entry<T> {
    what: T,
    /// `None` while it is under way.
    due: Option<Instant>,
    is_prompt: bool,
}

/// When the things of an upstream are due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// Those that are new.
    pub(super) first: Instant,
    /// The others, at the latest.
    pub(super) latest: Instant,
}

/// What a thread should do.
#[derive(Debug, PartialEq, Eq)]
enum Step<K, T> {
    Do(Key<K>, T),
    WaitUntil(Instant),
    Wait,
    Stop,
}

impl<K: Ord + Clone, T: Clone> State<K, T> {
    fn new(slow_max: usize) -> Self {
        let (stopped, entries, prompt, slow, under_way) = Default::default();
        Self { stopped, entries, prompt, slow, under_way, slow_max }
    }

    fn step(&mut self, now: Instant) -> Step<K, T> {
        if self.stopped {
            return Step::Stop;
        }
        let slow_under_way = self.under_way.values().filter(|is_prompt| !**is_prompt).count();
        let slow = self.slow.first().filter(|_| slow_under_way < self.slow_max);
        let Some((due, key)) = self.prompt.first().into_iter().chain(slow).min().cloned() else {
            return Step::Wait;
        };
        if due > now {
            return Step::WaitUntil(due);
        }
        self.unqueue(&key);
        let entry = self.entry(&key).expect("what is queued is an entry");
        entry.due = None;
        let (what, is_prompt) = (entry.what.clone(), entry.is_prompt);
        self.under_way.insert(key.clone(), is_prompt);
        Step::Do(key, what)
    }

    fn entry(&mut self, (upstream, key): &Key<K>) -> Option<&mut Entry<T>> {
        self.entries.get_mut(upstream)?.get_mut(key)
    }

    fn unqueue(&mut self, key: &Key<K>) {
        let Some(&mut Entry { due: Some(due), is_prompt, .. }) = self.entry(key) else { return };
        let queue = if is_prompt { &mut self.prompt } else { &mut self.slow };
        queue.remove(&(due, key.clone()));
    }

    fn queue(&mut self, key: &Key<K>, due: Instant) {
        let Some(entry) = self.entry(key) else { return };
        entry.due = Some(due);
        let is_prompt = entry.is_prompt;
        let queue = if is_prompt { &mut self.prompt } else { &mut self.slow };
        queue.insert((due, key.clone()));
    }

    /// These of an upstream and no others. Returns false if there were none and are none.
    fn set(&mut self, upstream: u64, things: Vec<(K, T)>, times: Times) -> bool {
        let wanted: BTreeSet<&K> = things.iter().map(|(key, _)| key).collect();
        let old = self.entries.get(&upstream).into_iter().flat_map(BTreeMap::keys);
        let gone: Vec<K> = old.filter(|key| !wanted.contains(key)).cloned().collect();
        let changes = !(gone.is_empty() && things.is_empty());
        for key in gone {
            let key = (upstream, key);
            self.unqueue(&key);
            self.entries.get_mut(&upstream).into_iter().for_each(|of| drop(of.remove(&key.1)));
        }
        if things.is_empty() {
            self.entries.remove(&upstream);
        }
        for (key, what) in things {
            self.set_one((upstream, key), what, times);
        }
        changes
    }

    fn set_one(&mut self, key: Key<K>, what: T, times: Times) {
        match self.entry(&key).map(|entry| entry.due) {
            // It is queued when it is done.
            Some(None) => {}
            Some(Some(due)) => {
                self.unqueue(&key);
                self.queue(&key, due.min(times.latest));
            }
            None => {
                let entry = Entry { what, due: None, is_prompt: false };
                self.entries.entry(key.0).or_default().insert(key.1.clone(), entry);
                if !self.under_way.contains_key(&key) {
                    self.queue(&key, times.first);
                }
            }
        }
    }

    fn done(&mut self, key: &Key<K>, due: Instant, is_prompt: bool) {
        self.under_way.remove(key);
        if let Some(entry) = self.entry(key) {
            entry.is_prompt = is_prompt;
            self.queue(key, due);
        }
    }
}

impl<K: Ord + Clone, T: Clone> Schedule<K, T> {
    /// At most so many things that are not known to be over soon are under way at a time.
    pub(super) fn new(slow_max: usize) -> Self {
        Self { state: Mutex::new(State::new(slow_max)), changed: Condvar::new() }
    }

    /// These things of an upstream and no others are to be done.
    pub(super) fn set(&self, upstream: u64, things: Vec<(K, T)>, times: Times) {
        if lock(&self.state).set(upstream, things, times) {
            self.changed.notify_all();
        }
    }

    /// How many things there are.
    pub(super) fn len(&self) -> usize {
        lock(&self.state).entries.values().map(BTreeMap::len).sum()
    }

    /// Whether it is still to be done, now and later.
    pub(super) fn has(&self, key: &Key<K>) -> bool {
        let mut state = lock(&self.state);
        !state.stopped && state.entry(key).is_some()
    }

    /// Waits for the next thing that is due; `None` when it is stopped.
    pub(super) fn next(&self) -> Option<(Key<K>, T)> {
        let mut state = lock(&self.state);
        loop {
            let now = Instant::now();
            state = match state.step(now) {
                Step::Stop => return None,
                Step::Do(key, what) => return Some((key, what)),
                Step::Wait => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Step::WaitUntil(due) => {
                    let waited = self.changed.wait_timeout(state, due - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// It is over, soon or not, and due again then.
    pub(super) fn done(&self, key: &Key<K>, due: Instant, is_prompt: bool) {
        lock(&self.state).done(key, due, is_prompt);
        self.changed.notify_one();
    }

    pub(super) fn is_stopped(&self) -> bool {
        lock(&self.state).stopped
    }

    /// Ends every wait. Returns true if something is under way.
    pub(super) fn stop(&self) -> bool {
        let mut state = lock(&self.state);
        state.stopped = true;
        self.changed.notify_all();
        !state.under_way.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// Things without a value, on a clock that begins at `start`.
    struct Bench {
        state: State<u8, ()>,
        start: Instant,
    }

    impl Bench {
        fn new(slow_max: usize) -> Self {
            Self { state: State::new(slow_max), start: Instant::now() }
        }

        fn set(&mut self, upstream: u64, keys: &[u8], [first, latest]: [u32; 2]) -> bool {
            let things = keys.iter().map(|key| (*key, ())).collect();
            let [first, latest] = [first, latest].map(|second| self.start + second * S);
            self.state.set(upstream, things, Times { first, latest })
        }

        /// What is begun at that second.
        fn begun(&mut self, second: u32) -> Vec<Key<u8>> {
            let now = self.start + second * S;
            let step = || match self.state.step(now) {
                Step::Do(key, ()) => Some(key),
                _ => None,
            };
            std::iter::from_fn(step).collect()
        }

        fn done(&mut self, key: Key<u8>, due: u32, is_prompt: bool) {
            self.state.done(&key, self.start + due * S, is_prompt);
        }
    }

    #[test]
    fn what_is_due_first_is_done_first_and_nothing_twice_at_a_time() {
        let mut bench = Bench::new(9);
        bench.set(2, &[1], [2, 9]);
        bench.set(1, &[1, 2], [1, 9]);
        assert_eq!(bench.begun(0), []);
        assert_eq!(bench.begun(2), [(1, 1), (1, 2), (2, 1)]);
        assert_eq!(bench.begun(99), [], "all are under way");
        bench.done((1, 2), 5, true);
        assert_eq!(bench.begun(4), []);
        assert_eq!(bench.begun(5), [(1, 2)]);
    }

    #[test]
    fn what_is_slow_or_new_leaves_room_for_what_is_prompt() {
        let mut bench = Bench::new(2);
        bench.set(1, &[1, 2, 3], [0, 9]);
        assert_eq!(bench.begun(0), [(1, 1), (1, 2)], "new ones");
        bench.done((1, 1), 1, true);
        assert_eq!(bench.begun(1), [(1, 3), (1, 1)], "a prompt one takes no place of theirs");
        bench.done((1, 1), 2, true);
        bench.set(2, &[1], [0, 9]);
        assert_eq!(bench.begun(2), [(1, 1)], "both places are taken");
        bench.done((1, 2), 3, false);
        assert_eq!(bench.begun(3), [(2, 1)]);
        bench.done((1, 1), 4, false);
        assert_eq!(bench.begun(4), [], "what was prompt is so no more");
    }

    #[test]
    fn others_come_and_go_and_those_that_stay_keep_their_time() {
        let mut bench = Bench::new(9);
        assert!(!bench.set(1, &[], [0, 0]));
        assert!(bench.set(1, &[1, 2], [3, 9]));
        assert!(bench.set(1, &[2, 3], [5, 9]));
        assert_eq!(bench.begun(4), [(1, 2)]);
        assert_eq!(bench.begun(5), [(1, 3)]);
        assert!(bench.set(1, &[], [0, 0]));
        bench.done((1, 2), 6, true);
        bench.done((1, 3), 6, true);
        assert_eq!(bench.begun(99), []);
    }

    #[test]
    fn a_shorter_interval_brings_the_next_time_forward_and_a_longer_one_does_not_put_it_off() {
        let mut bench = Bench::new(9);
        bench.set(1, &[1], [60, 60]);
        bench.set(1, &[1], [0, 2]);
        assert_eq!((bench.begun(1), bench.begun(2)), (vec![], vec![(1, 1)]));
        bench.done((1, 1), 4, true);
        bench.set(1, &[1], [0, 60]);
        assert_eq!((bench.begun(3), bench.begun(4)), (vec![], vec![(1, 1)]));
    }

    /// Checks that are switched off and on again while one is under way.
    #[test]
    fn what_comes_back_while_it_is_under_way_waits_for_its_end() {
        let mut bench = Bench::new(9);
        bench.set(1, &[1], [0, 9]);
        assert_eq!(bench.begun(0), [(1, 1)]);
        bench.set(1, &[], [0, 0]);
        bench.set(1, &[1], [0, 9]);
        assert_eq!(bench.begun(1), []);
        bench.done((1, 1), 2, true);
        assert_eq!(bench.begun(2), [(1, 1)]);
    }
}
