//! Pairs that are moved at random moments between two threads of the simulated kernel, while both of their ends send,
//! stall, and say their last: each byte arrives once and in order, the FIN behind the last of them.

use fastrand::Rng;

use super::thread::Thread;
use super::*;
use crate::connection::suspended::Suspended;
use crate::ring::simulated::{Faults, Listener, Network, RemoteEnd, RemoteRead, Simulated, Sizes};

const PAIRS: usize = 6;
const STEPS: usize = 60_000;
/// Whose a connection to the backend is, before its first byte.
const UNKNOWN: usize = usize::MAX;
const HEADER: &[u8] = b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n";

/// The byte at a place of what an end of a pair says. The first one of a client says whose it is.
fn byte(pair: usize, end: End, place: usize) -> u8 {
    match (end, place) {
        (Client, 0) => pair as u8,
        _ => (place * 31 + place / 250 + pair * 7 + end as usize * 101) as u8,
    }
}

/// One end, as it is outside.
struct Peer {
    remote: RemoteEnd,
    pair: usize,
    end: End,
    /// What it says before its bytes, that is for the proxy.
    header: &'static [u8],
    /// Bytes that it says in all, and has said.
    all: usize,
    said: usize,
    heard: usize,
    finished: bool,
    over: Option<RemoteRead>,
}

impl Peer {
    fn new(remote: RemoteEnd, (pair, end): (usize, End), all: usize) -> Self {
        let header = &[];
        Self { remote, pair, end, header, all, said: 0, heard: 0, finished: false, over: None }
    }

    /// Says some more, at most so much.
    fn say(&mut self, most: usize) {
        if !self.header.is_empty() {
            let count = self.remote.write(&self.header[..most.min(self.header.len())]);
            self.header = &self.header[count..];
            return;
        }
        if self.pair == UNKNOWN {
            return;
        }
        let end = self.all.min(self.said + most);
        let bytes: Vec<u8> =
            (self.said..end).map(|place| byte(self.pair, self.end, place)).collect();
        self.said += if bytes.is_empty() { 0 } else { self.remote.write(&bytes) };
        if self.said == self.all && !self.finished {
            self.remote.finish();
            self.finished = true;
        }
    }

    /// Hears some more, and checks it.
    fn hear(&mut self, most: usize) {
        if self.pair == UNKNOWN {
            return;
        }
        match self.remote.read(most) {
            RemoteRead::Bytes(bytes) => {
                for told in bytes {
                    let expected = byte(self.pair, self.end.other(), self.heard);
                    assert_eq!(
                        told, expected,
                        "byte {} to {:?} {}",
                        self.heard, self.end, self.pair
                    );
                    self.heard += 1;
                }
            }
            RemoteRead::Nothing => {}
            over => {
                self.over = Some(over);
            }
        }
    }
}

struct World {
    rng: Rng,
    network: Network,
    front: Listener,
    back: Listener,
    threads: [Thread<Simulated>; 2],
    /// Whether they are of one process.
    shares: bool,
    /// Whether connections may break.
    breaks: bool,
    peers: Vec<Peer>,
    /// What each end of each pair says in all.
    all: Vec<[usize; 2]>,
    moved: usize,
    refused: usize,
}

fn thread(network: &Network, rng: &mut Rng, settings: ProxySettings) -> Thread<Simulated> {
    let sizes = Sizes {
        completion_entries: 64,
        buffers: rng.usize(4..24),
        buffer_bytes: 256,
        receive_credit: rng.bool(),
    };
    let ring = network.ring("thread", &sizes).unwrap();
    let pipes = if rng.bool() { 4 } else { 0 };
    Thread::new(ring, settings, Splicing { pipes, patience: 2 })
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let breaks = seed % 4 == 3;
        let drawn = Faults::from_seed(&mut rng);
        let faults = Faults {
            accept_loses: 0,
            accept_interrupted: 0,
            accept_shortage: 0,
            open_fails: 0,
            no_port: 0,
            breaks: if breaks { 3 } else { 0 },
            ..drawn
        };
        let network = Network::new(seed, faults);
        let (front, back) = (network.listen(100), network.listen(100));
        let (most, has_header) = (rng.usize(1..8), rng.bool());
        let shares = rng.bool();
        let make = || {
            upstream(|config| {
                config.backends = vec![back.address().to_string().parse().unwrap()];
                config.max_connections = std::num::NonZeroUsize::new(most);
            })
        };
        let (first, limit) = (make(), Arc::new(ConnectionLimit::new(99)));
        let second = if shares { Arc::clone(&first) } else { make() };
        let threads = [first, second].map(|upstream| {
            let limit =
                if shares { Arc::clone(&limit) } else { Arc::new(ConnectionLimit::new(99)) };
            let trusted =
                if has_header { vec!["127.0.0.0/8".parse().unwrap()] } else { Vec::new() };
            let preread = PrereadRules { trusted, ..PrereadRules::default() };
            let mut settings =
                ProxySettings { upstreams: vec![upstream], preread, limit, ..settings() };
            let long = Duration::from_secs(900);
            let timeouts = &mut settings.timeouts;
            (timeouts.preread, timeouts.connect, timeouts.queue) = (long, long, long);
            (timeouts.idle, timeouts.write_stall, timeouts.half_closed) = (long, long, long);
            (settings.queue, settings.budget_bytes) = (PAIRS, 1500);
            thread(&network, &mut rng, settings)
        });
        let mut all = [rng.usize(1..20_000), rng.usize(0..20_000)];
        let all = (0..PAIRS).map(|_| {
            rng.shuffle(&mut all);
            [all[0].max(1), all[1]]
        });
        let all: Vec<_> = all.collect();
        let peers = (0..PAIRS).map(|pair| {
            let address = ([127, 0, 0, 9], 1000 + pair as u16).into();
            let remote = network.dial_from(address, front.port(), (1000, 1000), None);
            let header = if has_header { HEADER } else { &[] };
            Peer { header, ..Peer::new(remote, (pair, Client), all[pair][0]) }
        });
        let peers = peers.collect();
        let (moved, refused) = (0, 0);
        Self { rng, front, back, threads, shares, breaks, peers, all, moved, refused, network }
    }

    fn step(&mut self) {
        let which = self.rng.usize(0..2);
        match self.rng.u8(0..12) {
            0..4 => self.threads[which].turn(Duration::from_micros(300)),
            4..6 => {
                let most = self.rng.usize(1..2000);
                let peer = self.rng.usize(0..self.peers.len());
                self.peers[peer].say(most);
            }
            6..8 => {
                let most = self.rng.usize(1..2000);
                let peer = self.rng.usize(0..self.peers.len());
                self.peers[peer].hear(most);
            }
            8 => self.come(which),
            9 => {
                let slot = self.rng.u32(0..PAIRS as u32);
                let begun = self.threads[which].suspend(slot);
                self.refused += usize::from(!begun);
            }
            10 => self.move_from(which),
            _ if self.breaks && self.rng.u8(0..200) == 0 => {
                let peer = self.rng.usize(0..self.peers.len());
                self.peers[peer].remote.reset();
            }
            _ => {}
        }
    }

    /// Connections come: to a thread, and to the backend, who is told whose it is by the first byte.
    fn come(&mut self, which: usize) {
        if let Some(socket) = self.front.take() {
            self.threads[which].adopt(socket);
        }
        if let Some(remote) = self.back.take_remote() {
            self.peers.push(Peer::new(remote, (UNKNOWN, Backend), 0));
        }
        for peer in self.peers.iter_mut().filter(|peer| peer.pair == UNKNOWN) {
            if let RemoteRead::Bytes(first) = peer.remote.read(1) {
                peer.pair = first[0].into();
                (peer.all, peer.heard) = (self.all[peer.pair][1], 1);
            }
        }
    }

    fn move_from(&mut self, which: usize) {
        for suspended in self.threads[which].take() {
            self.moved += 1;
            self.go_on(which, suspended);
        }
    }

    fn go_on(&mut self, which: usize, suspended: Suspended) {
        match self.rng.u8(0..3) {
            0 => self.threads[which].resume(suspended),
            _ if self.shares => self.threads[1 - which].resume(suspended),
            _ => self.threads[1 - which].resume_told(suspended),
        }
    }

    fn is_over(&self) -> bool {
        let backends = self.peers.iter().filter(|peer| peer.end == Backend).count();
        let ended = self.peers.iter().all(|peer| peer.over.is_some());
        let open: usize = self.threads.iter().map(|thread| thread.proxy.open()).sum();
        let moving: usize = self.threads.iter().map(|thread| thread.proxy.suspending()).sum();
        ended && open + moving == 0 && (self.breaks || backends == PAIRS)
    }

    /// An end that heard a FIN has heard all; without breaks each hears one.
    fn check(&self) {
        for peer in &self.peers {
            let who = (peer.end, peer.pair);
            if peer.over == Some(RemoteRead::End) && peer.pair != UNKNOWN {
                let all = self.all[peer.pair][peer.end.other() as usize];
                assert_eq!(peer.heard, all, "a FIN too early to {who:?}");
            }
            assert!(self.breaks || peer.over == Some(RemoteRead::End), "{who:?}: {:?}", peer.over);
        }
    }
}

/// How many were moved, and how often that was not possible.
fn run(seed: u64) -> (usize, usize) {
    let mut world = World::new(seed);
    world.network.allow_drops(false);
    let mut steps = 0;
    while !world.is_over() {
        for peer in world.peers.iter_mut().filter(|peer| peer.pair == UNKNOWN) {
            // A client that is gone before its first byte was passed on.
            if let over @ (RemoteRead::End | RemoteRead::Reset) = peer.remote.read(0) {
                peer.over = Some(over);
            }
        }
        world.step();
        steps += 1;
        if steps == STEPS {
            let left = world.peers.iter().filter(|peer| peer.over.is_none());
            let left: Vec<_> =
                left.map(|it| (it.end, it.pair, it.said, it.heard, it.all)).collect();
            let open = world.threads.each_ref().map(|thread| thread.proxy.open());
            panic!("seed {seed}: {left:?}, {open:?} open, {} moved", world.moved);
        }
    }
    for _ in 0..20 {
        world.threads.iter_mut().for_each(|thread| thread.turn(Duration::from_millis(20)));
    }
    world.check();
    assert_eq!(world.network.violation(), None);
    world.threads.iter_mut().for_each(|thread| thread.is_empty());
    (world.moved, world.refused)
}

#[test]
fn each_byte_arrives_once_however_often_a_pair_moves() {
    let (from, count) = match std::env::var("MOVING_SEED") {
        Ok(seed) => (seed.parse().unwrap(), 1),
        Err(_) => (0, 40),
    };
    let mut moved = 0;
    for seed in from..from + count {
        let (pairs, _) = std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|panic| {
            eprintln!("MOVING_SEED={seed}");
            std::panic::resume_unwind(panic)
        });
        moved += pairs;
    }
    assert!(count == 1 || moved > 40 * 20, "{moved} were moved");
}
