//! A proxy on a ring, as a thread has it, and pairs that move from one to another.

use super::*;
use crate::connection::suspended::{Place, Suspended};
use crate::ring::{Ring, Wait};

/// The key that sockets are given back under: of no pair.
const GIVEN_BACK: Key = Key { slot: 77, generation: crate::ring::Generation::FIRST };

pub(super) struct Thread<R: Ring> {
    pub(super) ring: R,
    pub(super) proxy: Proxy,
    pub(super) upstream: Arc<Upstream>,
    pub(super) limit: Arc<ConnectionLimit>,
    pub(super) metrics: Arc<Block>,
    version: VersionId,
    starved: Starved,
    operations: Operations,
    completions: Vec<Completion>,
    given_back: Vec<OwnedFd>,
    start: Instant,
}

impl<R: Ring> Thread<R> {
    pub(super) fn new(ring: R, settings: ProxySettings, splicing: Splicing) -> Self {
        let metrics = Arc::new(Block::default());
        let start = ring.now();
        let receive_credit = ring.capabilities().receive_credit;
        let limits = ThreadLimits { capacity: 16, receive_credit };
        let mut proxy = Proxy::new(limits, splicing, Arc::clone(&metrics), start);
        Self {
            upstream: Arc::clone(&settings.upstreams[0]),
            limit: Arc::clone(&settings.limit),
            version: proxy.publish(Arc::new(settings)).unwrap(),
            ring,
            proxy,
            metrics,
            starved: Starved::default(),
            operations: Operations::default(),
            completions: Vec::new(),
            given_back: Vec::new(),
            start,
        }
    }

    fn act<T>(&mut self, act: impl FnOnce(&mut Proxy, &mut LoopContext<'_>) -> T) -> T {
        let now = self.ring.now();
        let mut cx = LoopContext {
            buffers: self.ring.buffers(),
            operations: &mut self.operations,
            starved: &mut self.starved,
            now,
            millis: Millis::between(self.start, now),
            notes_waits: false,
        };
        act(&mut self.proxy, &mut cx)
    }

    /// One turn: what the kernel has to say, then what the proxy does about it.
    pub(super) fn turn(&mut self, longest: Duration) {
        let now = self.ring.now();
        let due = self.proxy.next_tick(now, Millis::between(self.start, now));
        let wait = Wait::For(sooner(due, self.starved.next()).unwrap_or(longest).min(longest));
        self.ring.enter(&mut self.operations, &mut self.completions, wait).unwrap();
        for completion in std::mem::take(&mut self.completions) {
            match completion.event {
                Event::Released(socket) => self.given_back.push(socket),
                _ => self.act(|proxy, cx| proxy.complete(completion, cx)),
            }
        }
        self.act(|proxy, cx| {
            proxy.tick(cx);
            cx.feed(|key, cx| proxy.ask_again(key, cx));
        });
    }

    pub(super) fn adopt(&mut self, socket: OwnedFd) {
        assert!(self.limit.admit());
        let listener = ListenerId { frontend: FrontendId(0), index: 0 };
        let (version, accepted_at) = (self.version, self.ring.now());
        let accepted = Accepted { socket, listener, accepted_at, pressed: Pressed::default() };
        self.act(|proxy, cx| proxy.adopt(accepted, version, cx));
    }

    pub(super) fn suspend(&mut self, slot: u32) -> bool {
        self.act(|proxy, cx| proxy.suspend(slot, &|_| true, cx))
    }

    /// Those that have become quiet; the ring has given their sockets back.
    pub(super) fn take(&mut self) -> Vec<Suspended> {
        let mut all = self.proxy.take_suspended();
        for suspended in &mut all {
            let count = suspended.sockets.len();
            for socket in suspended.sockets.drain(..) {
                self.operations.push(GIVEN_BACK, Operation::Release { socket });
            }
            while self.given_back.len() < count {
                self.turn(Duration::ZERO);
            }
            suspended.sockets.append(&mut self.given_back);
        }
        all
    }

    pub(super) fn resume(&mut self, suspended: Suspended) {
        let version = self.version;
        let goes_on = self.act(|proxy, cx| proxy.resume(suspended, version, cx).is_ok());
        assert!(goes_on, "it was given back");
    }

    /// As in another process: all that is told of a pair is its record.
    pub(super) fn resume_told(&mut self, suspended: Suspended) {
        assert!(self.limit.admit());
        let told = told(suspended, &self.limit);
        self.resume(told);
    }

    /// Nothing is left of any pair, here or at the backend.
    #[track_caller]
    pub(super) fn is_empty(&mut self) {
        let pool = self.ring.buffers();
        assert_eq!(pool.available(), pool.count(), "a buffer is missing");
        assert_eq!((self.proxy.open(), self.proxy.pipes, self.proxy.suspending()), (0, 0, 0));
        assert_eq!(self.limit.open(), 0);
        assert!(self.upstream.endpoints().iter().all(|endpoint| endpoint.open() == 0));
    }
}

/// What another process is told of a suspended pair: it is counted there, and no longer here.
pub(super) fn told(suspended: Suspended, limit: &Arc<ConnectionLimit>) -> Suspended {
    let Suspended { frontend, record, sockets, place } = suspended;
    drop(place);
    let mut wire = Vec::new();
    ciborium::into_writer(&record, &mut wire).unwrap();
    let record = ciborium::from_reader(&*wire).unwrap();
    Suspended { frontend, record, sockets, place: Place::counted(limit) }
}
