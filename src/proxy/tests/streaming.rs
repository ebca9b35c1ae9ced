//! A pair that streams both ways through the kernel, moved from ring to ring and back while its peers check every byte.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::thread::Thread;
use super::*;
use crate::connection::suspended::{Record, Suspended};
use crate::ring::epoll::Epoll;
use crate::ring::uring::Uring;
use crate::ring::{Refusal, Ring, Sizes};

const MOVES: usize = 200;
const SIZES: Sizes =
    Sizes { submission_entries: 64, completion_entries: 256, buffers: 32, buffer_bytes: 4096 };
const LIMIT: Duration = Duration::from_secs(60);

/// So many bytes in a row are all different.
const PERIOD: usize = 251;
const CHUNK_BYTES: usize = 64 * 1024;

/// The bytes of a direction, as many as a chunk has from any place on; see [`from`].
fn told(end: End) -> Vec<u8> {
    let bytes = (0..CHUNK_BYTES + PERIOD).map(|place| (place % PERIOD) as u8);
    bytes.map(|byte| byte ^ (end as u8 * 0x55)).collect()
}

/// So many of them from a place on.
fn from(told: &[u8], place: usize, count: usize) -> &[u8] {
    &told[place % PERIOD..][..count]
}

/// Says bytes until it is told to stop, then its last. Returns how many.
fn say(mut stream: TcpStream, end: End, stop: &Arc<AtomicBool>) -> JoinHandle<usize> {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let (mut said, mut rng) = (0, fastrand::Rng::with_seed(end as u64));
        let told = told(end);
        while !stop.load(Ordering::Relaxed) {
            let count = rng.usize(1..CHUNK_BYTES);
            stream.write_all(from(&told, said, count)).unwrap();
            said += count;
        }
        stream.shutdown(Shutdown::Write).unwrap();
        said
    })
}

/// Hears and checks all that the other end says, with pauses. Returns how many bytes.
fn hear(mut stream: TcpStream, end: End) -> JoinHandle<usize> {
    std::thread::spawn(move || {
        let (mut heard, mut rng) = (0, fastrand::Rng::with_seed(7));
        let (told, mut bytes) = (told(end), vec![0; CHUNK_BYTES]);
        loop {
            let count = stream.read(&mut bytes).unwrap();
            let is_right = bytes[..count] == *from(&told, heard, count);
            assert!(is_right, "from byte {heard} on, {count} from {end:?}");
            heard += count;
            if count == 0 {
                return heard;
            }
            if rng.u8(0..4) == 0 {
                std::thread::sleep(Duration::from_micros(rng.u64(0..2000)));
            }
        }
    })
}

/// Suspends the pair of one thread, whatever it is doing.
fn take<R: Ring>(from: &mut Thread<R>) -> Suspended {
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < LIMIT, "it does not move");
        for slot in 0..from.proxy.slots() {
            from.suspend(slot);
        }
        if let Some(suspended) = from.take().pop() {
            return suspended;
        }
        from.turn(Duration::from_millis(1));
    }
}

/// Bytes that a suspended pair owes.
fn unsent(suspended: &Suspended) -> usize {
    let Record::Pair(record) = &suspended.record else { panic!("{suspended:?}") };
    record.sides.iter().map(|side| side.unsent.len()).sum()
}

fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

fn settings_to(back: &TcpListener) -> ProxySettings {
    let backend = back.local_addr().unwrap().to_string().parse().unwrap();
    let upstream = upstream(|config| config.backends = vec![backend]);
    let mut settings = ProxySettings { upstreams: vec![upstream], ..settings() };
    settings.budget_bytes = 40_000;
    settings
}

fn streams<A: Ring, B: Ring>(one: A, other: B, pipes: usize) {
    let back = TcpListener::bind("127.0.0.1:0").unwrap();
    let splicing = Splicing { pipes, patience: 2 };
    let mut one = Thread::new(one, settings_to(&back), splicing);
    let mut other = Thread::new(other, settings_to(&back), splicing);
    let (client, front) = connected();
    one.adopt(front.into());
    back.set_nonblocking(true).unwrap();
    let began = Instant::now();
    let server = loop {
        assert!(began.elapsed() < LIMIT, "it does not connect");
        one.turn(Duration::from_millis(1));
        if let Ok((server, _)) = back.accept() {
            break server;
        }
    };
    server.set_nonblocking(false).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let copy = |stream: &TcpStream| stream.try_clone().unwrap();
    let said = [say(copy(&client), Client, &stop), say(copy(&server), Backend, &stop)];
    let heard = [hear(server, Client), hear(client, Backend)];
    let mut rng = fastrand::Rng::with_seed(1);
    let mut owed = 0;
    for _ in 0..MOVES / 2 {
        (0..rng.usize(0..12)).for_each(|_| one.turn(Duration::from_millis(1)));
        let suspended = take(&mut one);
        owed += usize::from(unsent(&suspended) > 0);
        other.resume_told(suspended);
        (0..rng.usize(0..12)).for_each(|_| other.turn(Duration::from_millis(1)));
        let suspended = take(&mut other);
        owed += usize::from(unsent(&suspended) > 0);
        one.resume_told(suspended);
    }
    stop.store(true, Ordering::Relaxed);
    let began = Instant::now();
    while one.proxy.open() > 0 {
        assert!(began.elapsed() < LIMIT, "it does not end");
        one.turn(Duration::from_millis(1));
    }
    // The closes are on their way to the kernel still.
    one.turn(Duration::ZERO);
    assert_eq!(said.map(|it| it.join().unwrap()), heard.map(|it| it.join().unwrap()));
    assert!(owed > MOVES / 20, "{owed} times there was anything unsent");
    for metrics in [&one.metrics, &other.metrics] {
        assert_eq!(metrics.get(Counter::SplicedBytes) > 0, pipes > 0);
    }
    one.is_empty();
    other.is_empty();
}

fn uring() -> Option<Uring> {
    match Uring::new(&SIZES) {
        Ok(ring) => Some(ring),
        Err(Refusal::Step { step, errno }) => panic!("{step}: {errno}"),
        Err(refusal) => {
            eprintln!("SKIPPED: {refusal}");
            None
        }
    }
}

#[test]
fn between_rings_on_epoll() {
    for pipes in [0, 4] {
        streams(Epoll::new(&SIZES).unwrap(), Epoll::new(&SIZES).unwrap(), pipes);
    }
}

#[test]
fn between_rings_on_io_uring() {
    for pipes in [0, 4] {
        let (Some(one), Some(other)) = (uring(), uring()) else { return };
        streams(one, other, pipes);
    }
}

#[test]
fn from_one_engine_to_the_other_and_back() {
    for pipes in [0, 4] {
        let Some(one) = uring() else { return };
        streams(one, Epoll::new(&SIZES).unwrap(), pipes);
    }
}
