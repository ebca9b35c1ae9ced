//! Source rules at accept: who comes in, who waits for a turn, who is refused, and what is counted then.

use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU32;

use super::super::admission::descriptors_of;
use super::*;
use crate::config::{Refusal, SourceRules, SourceSizes};
use crate::sources::{Gate, Held, Rules, Sources};

/// A bench with these rules, and connections of 127.0.0.1.
struct Ruled {
    bench: Bench,
    sources: Arc<Sources>,
    admission: Arc<Admission>,
    listener: TcpListener,
    clients: Vec<TcpStream>,
}

impl Ruled {
    fn new(change: impl FnOnce(&mut SourceRules)) -> Self {
        let mut config = SourceRules::default();
        change(&mut config);
        let sources: Arc<Sources> = Arc::default();
        let rules = Rules::new(&config, SourceSizes::default()).map(Arc::new);
        let gates = [Gate::new(rules, Arc::clone(&sources)), Gate::new(None, Arc::default())];
        let admission = Arc::new(Admission::new(gates, &[], None).refusing(config.refuse));
        let setup =
            Setup { admission: Arc::clone(&admission), capacity: 5_000, ..Setup::default() };
        let mut bench = Bench::new(Setup { limit: 5_000, ..setup });
        bench.turn();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { bench, sources, admission, listener, clients: Vec::new() }
    }

    /// So many connections come.
    fn come(&mut self, count: usize) -> Vec<Asked> {
        for _ in 0..count {
            self.clients.push(TcpStream::connect(self.listener.local_addr().unwrap()).unwrap());
            let (socket, _) = self.listener.accept().unwrap();
            self.bench.complete(0, true, Ok(socket.into()));
        }
        self.turn()
    }

    /// What is asked for, but for wakes.
    fn turn(&mut self) -> Vec<Asked> {
        let mut operations = Operations::default();
        self.bench.acceptor.turn(self.bench.now, &mut operations);
        self.bench.acceptor.close_refused(self.bench.now, &mut operations);
        let asked = operations.drain().map(|(key, operation)| self.bench.asked(key, &operation));
        asked.filter(|asked| matches!(asked, Asked::Reset | Asked::Close)).collect()
    }

    fn admitted(&self) -> Vec<Held> {
        let all = self.bench.dispatched();
        self.bench.inboxes[0].closed(all.len());
        all.iter().map(|accepted| accepted.held).collect()
    }
}

#[test]
fn a_connection_above_the_limit_is_refused_and_its_place_comes_back() {
    for (refusal, expected) in [(Refusal::Reset, Asked::Reset), (Refusal::Close, Asked::Close)] {
        let mut it = Ruled::new(|rules| {
            rules.max_per_source = NonZeroU32::new(2);
            rules.refuse = refusal;
        });
        assert_eq!(it.come(3), [expected]);
        let admitted = it.admitted();
        assert_eq!((admitted.len(), it.bench.count(Counter::AcceptRefused)), (2, 1));
        it.admission.release(admitted[0]);
        assert_eq!(it.come(2), [expected]);
        assert_eq!(it.admitted().len(), 1);
    }
}

/// Whoever is refused since too many wait already has used nothing up, and is not counted.
#[test]
fn those_for_whom_the_queue_of_the_delayed_has_no_room_cost_their_source_nothing() {
    let kept = descriptors_of(&Refusal::Delay);
    let mut it = Ruled::new(|rules| {
        rules.rate_per_source = Some("1000/s burst 1".parse().unwrap());
        rules.refuse = Refusal::Delay;
    });
    assert_eq!(it.come(1 + kept), []);
    assert_eq!((it.admitted().len(), it.bench.acceptor.refusals.kept()), (1, kept));
    assert_eq!(it.come(50), [Asked::Reset; 50]);
    // Each comes in at its turn, one in a millisecond, and no turn is lost to those that were refused.
    for turn in 1..=kept {
        it.bench.pass(1);
        assert_eq!(it.turn(), []);
        assert_eq!(it.admitted().len(), 1, "turn {turn}");
    }
    it.bench.pass(1);
    assert_eq!(it.come(1), []);
    assert_eq!(it.admitted().len(), 1, "the next one need not wait");
    let listing = it.sources.list(Default::default(), 10, it.bench.now);
    assert_eq!(listing.sources[0].open, 2 + kept as u32, "all that came in, and nobody else");
}

/// It lingers for a second: a reset might overtake the reply.
#[test]
fn a_reply_is_sent_before_the_connection_is_closed() {
    use std::io::Read;
    let mut it = Ruled::new(|rules| {
        rules.max_per_source = NonZeroU32::new(1);
        rules.refuse = Refusal::Reply(b"busy".into());
    });
    assert_eq!(it.come(2), []);
    let mut told = [0; 4];
    it.clients[1].read_exact(&mut told).unwrap();
    assert_eq!(&told, b"busy");
    it.bench.pass(1_001);
    assert_eq!(it.turn(), [Asked::Close]);
}
