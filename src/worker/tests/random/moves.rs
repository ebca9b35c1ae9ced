//! Two threads, and connections that move from one to the other, or back to where they were, at any moment.

use std::sync::atomic::Ordering;

use super::super::*;
use super::kernel::{Kernel, Peer, UNKNOWN};
use super::service::Chatter;
use super::{Choices, end, step};
use crate::connection::suspended::{Place, Record, SessionRecord, Suspended};

impl Kernel {
    /// Begins to suspend a connection, or several.
    fn suspend(&mut self, choices: &mut Choices) {
        let slots = self.worker.slots();
        if slots == 0 {
            return;
        }
        let (first, all) = (choices.below(slots as usize) as u32, choices.one_in(8));
        let slots = if all { 0..slots } else { first..first + 1 };
        for slot in slots {
            let (before, open) = (self.worker.suspending(), self.worker.open());
            let mut begun = false;
            self.act(|worker, cx| begun = worker.suspend(slot, &|_| true, cx));
            if !begun {
                assert_eq!((self.worker.suspending(), self.worker.open()), (before, open));
            }
        }
    }

    /// What the worker has given up is in no thread any more.
    pub(super) fn take_suspended(&mut self) {
        for suspended in self.worker.take_suspended() {
            let socket = Descriptor::of(&suspended.sockets[0]);
            let index = self.peers.iter().position(|peer| peer.owns(socket)).expect("it was here");
            let peer = self.peers.swap_remove(index);
            assert!(!peer.in_flight(), "{peer:?} left with something in flight");
            if peer.key != UNKNOWN {
                self.gone.push(peer.key);
            }
            self.left.push((peer, suspended));
        }
    }

    /// One of those that have left, by a draw.
    fn departs(&mut self, choices: &mut Choices) -> Option<(Peer, Suspended)> {
        let some = !self.left.is_empty();
        some.then(|| self.left.swap_remove(choices.below(self.left.len())))
    }

    /// A connection comes from the other thread, or comes back. If it is refused it may still go anywhere.
    fn arrives(&mut self, (mut peer, mut suspended): (Peer, Suspended)) {
        assert!(self.limit.admit());
        suspended.place = Place::counted(&self.limit);
        let before = travelled(&mut suspended);
        (peer.key, peer.starved) = (UNKNOWN, false);
        self.came += 1;
        self.peers.push(peer);
        let (version, mut refused) = (self.version, None);
        self.tell(|worker, cx| refused = worker.resume(suspended, version, cx).err());
        if let Some(suspended) = refused {
            assert!(self.operations.is_empty(), "it has asked for something, and was refused");
            assert_eq!(record(&suspended), &before);
            let peer = self.peers.pop().expect("it was put there");
            self.left.push((peer, suspended));
        }
        self.obey();
    }

    /// What is being cancelled ends by that.
    fn settle(&mut self) {
        let is_cancelled = |peer: &Peer| peer.receive_cancelled || peer.send_cancelled;
        while let Some(index) = self.peers.iter().position(is_cancelled) {
            if self.peers[index].receive_cancelled {
                self.received(index, false, Err(Errno::ECANCELED));
            } else {
                self.complete_send(index, true, None);
            }
        }
        assert_eq!(
            self.worker.suspending(),
            0,
            "nothing is in flight on it, and it does not leave"
        );
    }
}

fn record(suspended: &Suspended) -> &SessionRecord {
    let Record::Session(record) = &suspended.record else { panic!("{suspended:?}") };
    record
}

/// Its record goes as it goes to another process.
fn travelled(suspended: &mut Suspended) -> SessionRecord {
    let mut bytes = Vec::new();
    ciborium::into_writer(&suspended.record, &mut bytes).unwrap();
    suspended.record = ciborium::from_reader(&bytes[..]).unwrap();
    record(suspended).clone()
}

/// See the module.
pub(super) struct Threads {
    service: Arc<Chatter>,
    kernels: [Kernel; 2],
}

impl Threads {
    pub(super) fn new(choices: &mut Choices) -> Self {
        let service = Arc::default();
        let kernels = [(); 2].map(|()| Kernel::new(&service, choices));
        Self { service, kernels }
    }

    pub(super) fn step(&mut self, choices: &mut Choices) {
        let at = choices.below(2);
        match choices.below(16) {
            0..=10 => step(&mut self.kernels[at], choices),
            11..=13 => self.kernels[at].suspend(choices),
            14 if choices.one_in(4) => {
                self.service.refuses.store(true, Ordering::Relaxed);
                self.arrive(at, choices);
                self.service.refuses.store(false, Ordering::Relaxed);
            }
            _ => self.arrive(at, choices),
        }
    }

    /// One that has left a thread comes to the same one or to the other.
    fn arrive(&mut self, from: usize, choices: &mut Choices) {
        let to = choices.below(2);
        if let Some(moving) = self.kernels[from].departs(choices) {
            self.kernels[from].moved += 1;
            self.kernels[to].arrives(moving);
        }
    }

    /// Everybody is somewhere, and then it ends.
    pub(super) fn end(mut self, ending: usize) {
        for from in 0..2 {
            self.kernels[from].settle();
            while let Some(moving) = self.kernels[from].left.pop() {
                let to = moving.0.id % 2;
                self.kernels[from].moved += 1;
                self.kernels[to].arrives(moving);
            }
        }
        self.kernels.iter_mut().for_each(|kernel| end(kernel, ending));
        let opened: u64 = self.kernels.iter().map(Kernel::opened).sum();
        assert_eq!(opened, self.service.opened() as u64);
    }
}
