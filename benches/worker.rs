//! The worker's state machine by hand-written completions: no kernel, and the connections are
//! descriptors of /dev/null, which are never closed but used again.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use uring_acceptor::config::Frontend;
use uring_acceptor::connection::{LoopContext, Millis, Starved, ThreadLimits, VersionId};
use uring_acceptor::dispatch::{Accepted, ConnectionLimit, FrontendId, ListenerId, Mail};
use uring_acceptor::metrics::Block;
use uring_acceptor::ring::{BufferPool, Completion, Event, Key, Operation, Operations, Received};
use uring_acceptor::service::http::Http;
use uring_acceptor::service::{Echo, Service};
use uring_acceptor::worker::{SessionSettings, Worker};

const CONNECTIONS: usize = 1024;
const BUFFERS: usize = 64;
const BUFFER_BYTES: usize = 4096;

const KEPT: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const LAST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A worker and the kernel that it believes to have.
struct Bench<S: Service> {
    worker: Worker<S>,
    version: VersionId,
    starved: Starved,
    pool: BufferPool,
    operations: Operations,
    asked: Vec<(Key, Operation)>,
    /// The only connection, while the worker does not have it.
    socket: Option<OwnedFd>,
    now: Instant,
}

impl<S: Service> Bench<S> {
    fn new(service: S) -> Self {
        let Frontend { limits, timeouts, .. } = Frontend::default();
        let settings = SessionSettings {
            service: Arc::new(service),
            budget_bytes: limits.budget_bytes,
            timeouts: timeouts.sessions(),
            frontend: FrontendId(0),
            patience: None,
            trusted: Vec::new(),
            limit: Arc::new(ConnectionLimit::new(usize::MAX)),
            admission: Arc::default(),
            times: Arc::default(),
            log: None,
        };
        let limits = ThreadLimits { capacity: CONNECTIONS, receive_credit: true };
        let mut worker = Worker::new(limits, Mail::none(), Arc::new(Block::default()));
        Self {
            version: worker.publish(Arc::new(settings)).expect("it is the first"),
            worker,
            starved: Starved::default(),
            pool: BufferPool::new(BUFFERS, BUFFER_BYTES).expect("memory can be mapped"),
            operations: Operations::default(),
            asked: Vec::new(),
            socket: Some(File::open("/dev/null").expect("/dev/null is there").into()),
            now: Instant::now(),
        }
    }

    fn act(&mut self, act: impl FnOnce(&mut Worker<S>, &mut LoopContext<'_>)) {
        let (buffers, operations) = (&mut self.pool, &mut self.operations);
        let (starved, now, millis) =
            (&mut self.starved, self.now, Millis::between(self.now, self.now));
        act(
            &mut self.worker,
            &mut LoopContext { buffers, operations, starved, now, millis, notes_waits: false },
        );
        self.asked.extend(self.operations.drain());
    }

    fn complete(&mut self, key: Key, event: Event) {
        let completion = Completion { key, more: false, event };
        self.act(|worker, cx| worker.complete(completion, cx));
    }

    fn adopt(&mut self) {
        let socket = self.socket.take().expect("the worker has given it back");
        let listener = ListenerId { frontend: FrontendId(0), index: 0 };
        let accepted = Accepted::new(socket, listener, self.now);
        let version = self.version;
        self.act(|worker, cx| worker.adopt(accepted, version, cx));
    }

    /// Does what the worker has asked for: receives bring `inputs` and, after them, the FIN.
    fn serve(&mut self, inputs: &[&[u8]]) {
        let mut inputs = inputs.iter();
        while let Some((key, operation)) = self.asked.pop() {
            match operation {
                Operation::Receive { .. } => {
                    let received = match inputs.next() {
                        Some(bytes) => self.bytes(bytes),
                        None => Received::End,
                    };
                    self.complete(key, Event::Received(Ok(received)));
                }
                Operation::Send { bytes, .. } => self.complete(key, Event::Sent(Ok(bytes.len()))),
                Operation::SendAndClose { socket, bytes } => {
                    self.socket = Some(socket);
                    self.complete(key, Event::Sent(Ok(bytes.len())));
                }
                Operation::Close { socket } => self.socket = Some(socket),
                _ => {}
            }
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> Received {
        let mut buffer = self.pool.take().expect("every buffer has come back");
        self.pool.write(&mut buffer, 0, bytes);
        Received::Bytes { buffer, len: bytes.len() }
    }

    /// A whole connection that says `inputs`.
    fn life(&mut self, inputs: &[&[u8]]) {
        self.adopt();
        self.serve(inputs);
        assert_eq!((self.worker.open(), self.worker.take_closed()), (0, 1));
    }

    fn measure(&mut self, criterion: &mut Criterion, name: &str, inputs: &[&[u8]]) {
        criterion.bench_function(name, |bencher| bencher.iter(|| self.life(inputs)));
        assert_eq!(self.pool.free(), BUFFERS, "a buffer was lost");
    }
}

/// The table of connections, through the worker: a slot is taken, found at each completion and given
/// back, with nothing or much beside it; and a completion for a connection that is no more.
fn table(criterion: &mut Criterion) {
    let mut bench = Bench::new(Echo);
    bench.measure(criterion, "worker: adopt, end and close, alone", &[]);
    let gone = Key::fixed(0);
    criterion.bench_function("worker: a completion that is too late", |bencher| {
        bencher.iter(|| bench.complete(gone, Event::Received(Ok(Received::End))));
    });
    assert_eq!(bench.worker.open(), 0);
    for _ in 1..CONNECTIONS {
        bench.socket = Some(File::open("/dev/null").expect("/dev/null is there").into());
        bench.adopt();
    }
    // They are silent.
    bench.asked.clear();
    bench.socket = Some(File::open("/dev/null").expect("/dev/null is there").into());
    let beside = CONNECTIONS - 1;
    let name = format!("worker: adopt, end and close, beside {beside}");
    criterion.bench_function(&name, |bencher| {
        bencher.iter(|| {
            bench.adopt();
            bench.serve(&[]);
            assert_eq!((bench.worker.open(), bench.worker.take_closed()), (beside, 1));
        });
    });
}

fn lives(criterion: &mut Criterion) {
    let mut echo = Bench::new(Echo);
    echo.measure(criterion, "worker: echo, silent", &[]);
    echo.measure(criterion, "worker: echo, one exchange", &[&[7; 64]]);
    echo.measure(criterion, "worker: echo, 16 exchanges", &[&[7_u8; 64][..]; 16]);
    let mut http = Bench::new(Http::new(b"hello\n"));
    http.measure(criterion, "worker: http, the server closes", &[LAST]);
    http.measure(criterion, "worker: http, the client closes", &[KEPT]);
}

criterion_group!(benches, table, lives);
criterion_main!(benches);
