//! Random completions and random workers: nothing that was accepted is lost, the limit is exact, and
//! what may be armed is armed.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::*;
use crate::sys::testing::eventually;

const BACKLOG: usize = 3;

/// What happens next, drawn from a list that proptest makes and shrinks.
struct Choices {
    left: std::vec::IntoIter<u16>,
}

impl Choices {
    /// A number below `count`; zero when the list has ended.
    fn below(&mut self, count: usize) -> usize {
        usize::from(self.left.next().unwrap_or(0)) % count
    }
}

/// One listener as the kernel sees it, and what the errors that it gave ask for.
#[derive(Debug, Default)]
struct Queue {
    many: bool,
    singles: usize,
    cancelled: bool,
    stopped: bool,
    /// Until when it rests, and what had been released before.
    rest: Option<(Instant, usize)>,
    back_off_ms: u64,
}

impl Queue {
    fn in_flight(&self) -> bool {
        self.many || self.singles > 0
    }

    fn ended(&mut self) {
        if !std::mem::take(&mut self.many) {
            self.singles -= 1;
        }
        self.cancelled &= self.in_flight();
    }

    fn failed(&mut self, errno: Errno, now: Instant, released: usize) {
        match reaction(errno).0 {
            Reaction::Retry => {}
            Reaction::Stop => (self.stopped, self.rest) = (true, None),
            Reaction::Pause if self.stopped || self.rest.is_some() => {}
            Reaction::Pause => {
                let pause = self.back_off_ms.clamp(10, 500);
                self.rest = Some((now + Duration::from_millis(pause), released));
                self.back_off_ms = pause * 2;
            }
        }
    }
}

/// The kernel below an acceptor and the workers behind it.
struct World {
    bench: Bench,
    queues: Vec<Queue>,
    /// The clients' ends of everything that was accepted.
    clients: Vec<UnixStream>,
    /// Where each connection that was not served yet stands in the order of arrival.
    arrivals: Vec<(Descriptor, usize)>,
    /// The latest arrival that each worker has seen.
    seen: Vec<usize>,
    served: Vec<(usize, Accepted)>,
    taken: usize,
    /// Places that another acceptor has taken.
    elsewhere: usize,
    closing: bool,
}

impl World {
    fn new(choices: &mut Choices) -> Self {
        let (listeners, workers) = (1 + choices.below(3), 1 + choices.below(3));
        let (limit, capacity) = ([1, 3, 8, 14, 40][choices.below(5)], 1 + choices.below(6));
        let bench = Bench::new(Setup {
            listeners,
            backlog: BACKLOG,
            limit,
            workers,
            capacity,
            ..Setup::default()
        });
        Self {
            bench,
            queues: (0..listeners).map(|_| Queue::default()).collect(),
            clients: Vec::new(),
            arrivals: Vec::new(),
            seen: vec![0; workers],
            served: Vec::new(),
            taken: 0,
            elsewhere: 0,
            closing: false,
        }
    }

    fn step(&mut self, choices: &mut Choices) {
        match choices.below(20) {
            0..=7 => self.deliver(choices),
            8..=12 => self.turn(),
            13..=14 => self.take(choices.below(self.seen.len())),
            15..=16 => self.close_one(choices),
            17 => self.bench.pass([1, 10, 100, 700][choices.below(4)]),
            18 if self.bench.connection_limit.admit() => self.elsewhere += 1,
            _ if self.elsewhere > 0 => {
                self.elsewhere -= 1;
                self.bench.connection_limit.release(1);
            }
            _ => self.turn(),
        }
    }

    fn connection(&mut self, slot: usize, more: bool) {
        let (socket, client) = UnixStream::pair().unwrap();
        client.set_nonblocking(true).unwrap();
        let socket = OwnedFd::from(socket);
        self.arrivals.push((Descriptor::of(&socket), self.clients.len() + 1));
        self.clients.push(client);
        self.queues[slot].back_off_ms = 0;
        if !more {
            self.queues[slot].ended();
        }
        self.bench.complete(slot as u32, more, Ok(socket));
    }

    fn error(&mut self, slot: usize, errno: Errno) {
        let released = self.bench.connection_limit.released();
        self.queues[slot].ended();
        if errno != Errno::ECANCELED {
            self.queues[slot].failed(errno, self.bench.now, released);
        }
        self.bench.error(slot as u32, errno);
    }

    /// Completes something on some listener.
    fn deliver(&mut self, choices: &mut Choices) {
        let busy: Vec<_> = (0..self.queues.len()).filter(|i| self.queues[*i].in_flight()).collect();
        if busy.is_empty() {
            return;
        }
        let slot = busy[choices.below(busy.len())];
        let Queue { many, cancelled, .. } = self.queues[slot];
        match choices.below(16) {
            12 => self.error(slot, Errno::ECONNABORTED),
            13 => self.error(slot, [Errno::EMFILE, Errno::ENOBUFS][choices.below(2)]),
            14 if choices.below(8) == 7 => self.error(slot, Errno::EINVAL),
            6..=15 if cancelled => self.error(slot, Errno::ECANCELED),
            5 | 6 => self.connection(slot, false),
            count => (0..=count % 5).for_each(|_| {
                if self.queues[slot].in_flight() {
                    self.connection(slot, many);
                }
            }),
        }
    }

    fn turn(&mut self) {
        let now = self.bench.now;
        let released = self.bench.connection_limit.released();
        for queue in &mut self.queues {
            queue.rest = queue.rest.filter(|(until, before)| now < *until && *before == released);
        }
        for asked in self.bench.turn() {
            match asked {
                Asked::Many(slot) => self.arm(slot as usize, true),
                Asked::Single(slot) => self.arm(slot as usize, false),
                Asked::Cancel(slot) => {
                    let queue = &mut self.queues[slot as usize];
                    assert!(queue.in_flight() && !queue.cancelled);
                    queue.cancelled = true;
                }
                Asked::Wake | Asked::Reset | Asked::Close => {}
            }
        }
        self.check_progress();
        self.check_counts();
    }

    fn arm(&mut self, slot: usize, many: bool) {
        let headroom = self.bench.connection_limit.headroom();
        let share = headroom / self.queues.len();
        assert!(!self.closing && self.bench.acceptor.held() == 0);
        let queue = &mut self.queues[slot];
        assert!(!queue.stopped && queue.rest.is_none() && !queue.cancelled && !queue.many);
        if many {
            assert!(!queue.in_flight() && share > BACKLOG);
            queue.many = true;
        } else {
            queue.singles += 1;
            assert!(queue.singles <= share.max(1) && queue.singles <= headroom);
        }
    }

    /// What may be armed is armed; what stands still will be woken.
    fn check_progress(&self) {
        let acceptor = &self.bench.acceptor;
        let blocked = acceptor.held() > 0 || self.bench.connection_limit.headroom() == 0;
        for queue in self.queues.iter().filter(|queue| !queue.stopped && !self.closing) {
            let may_be_armed = !blocked && queue.rest.is_none();
            assert!(!may_be_armed || queue.in_flight(), "{queue:?}");
            assert!(may_be_armed || acceptor.wants_wake(), "{queue:?}");
        }
        assert!(acceptor.held() == 0 || acceptor.wants_wake());
        let rests = self.queues.iter().filter_map(|queue| queue.rest.map(|(until, _)| until));
        let next = if self.closing { None } else { rests.min() };
        assert_eq!(acceptor.next_turn(), next);
        let over = (0..self.queues.len()).map(|slot| acceptor.is_over(Key::fixed(slot as u32)));
        assert!(over.eq(self.queues.iter().map(|queue| queue.stopped)));
    }

    /// The numbers are the truth, and the limit is kept.
    fn check_counts(&self) {
        let placed = self.bench.count(Counter::Dispatched) as usize;
        let open = placed - self.taken + self.served.len();
        let Bench { connection_limit, loads, .. } = &self.bench;
        assert_eq!(connection_limit.open(), open + self.elsewhere);
        assert!(connection_limit.open() <= connection_limit.limit());
        assert_eq!(loads.iter().map(|sender| sender.load().open()).sum::<usize>(), open);
        assert_eq!(self.bench.count(Counter::Accepted) as usize, self.clients.len());
        assert_eq!(self.bench.acceptor.held() > 0, placed < self.clients.len());
    }

    /// A worker takes what lies in its inbox.
    fn take(&mut self, worker: usize) {
        while let Some(accepted) = self.bench.inboxes[worker].take() {
            let descriptor = Descriptor::of(&accepted.socket);
            // What was abandoned has left its descriptor to a later one.
            let found = self.arrivals.iter().rposition(|(known, _)| *known == descriptor);
            let (_, arrival) = self.arrivals.remove(found.expect("nobody took it before"));
            assert!(arrival > self.seen[worker], "overtaken");
            self.seen[worker] = arrival;
            self.served.push((worker, accepted));
            self.taken += 1;
        }
    }

    /// A worker closes a connection.
    fn close_one(&mut self, choices: &mut Choices) {
        if !self.served.is_empty() {
            let index = choices.below(self.served.len());
            self.close(index);
        }
    }

    fn close(&mut self, index: usize) {
        let (worker, _) = self.served.swap_remove(index);
        self.bench.inboxes[worker].closed(1);
        self.bench.connection_limit.release(1);
    }

    fn serve_all(&mut self) {
        (0..self.seen.len()).for_each(|worker| self.take(worker));
        (0..self.served.len()).rev().for_each(|index| self.close(index));
    }

    /// Closes and serves what is left, or drops it.
    fn end(&mut self, abandon: bool, choices: &mut Choices) {
        self.closing = true;
        self.bench.connection_limit.release(std::mem::take(&mut self.elsewhere));
        if abandon {
            self.bench.acceptor.abandon();
        } else {
            self.bench.close();
        }
        for _ in 0..100 {
            let turn = self.bench.turn();
            let cancels = turn.iter().all(|asked| matches!(asked, Asked::Cancel(_) | Asked::Wake));
            assert!(cancels, "{turn:?}");
            for slot in 0..self.queues.len() {
                while self.queues[slot].in_flight() {
                    match choices.below(4) {
                        3 => self.connection(slot, false),
                        _ => self.error(slot, Errno::ECANCELED),
                    }
                }
            }
            self.serve_all();
            if self.bench.is_done() {
                break;
            }
        }
        assert!(self.bench.is_done() && !self.bench.acceptor.wants_wake());
        assert_eq!(self.bench.connection_limit.open(), 0);
        assert!(abandon || self.taken == self.clients.len(), "a connection was lost");
        // A child process of another test holds copies of all descriptors until its exec.
        eventually(Duration::from_secs(5), || self.clients.iter_mut().all(is_closed));
    }
}

/// Whether the other end of a client was closed.
fn is_closed(client: &mut UnixStream) -> bool {
    match client.read(&mut [0]) {
        Ok(bytes) => bytes == 0,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            false
        }
    }
}

proptest! {
    #![proptest_config(Config { cases: 1000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn whatever_happens_nothing_is_lost_and_the_limit_is_kept(
        choices in proptest::collection::vec(any::<u16>(), 0..300),
    ) {
        let mut choices = Choices { left: choices.into_iter() };
        let abandon = choices.below(3) == 2;
        let mut world = World::new(&mut choices);
        while choices.left.len() > 20 {
            world.step(&mut choices);
        }
        world.end(abandon, &mut choices);
    }
}
