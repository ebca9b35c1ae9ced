//! A thousand reloads while clients connect, exchange and transfer: nobody is refused, reset or cut, no byte is wrong,
//! and nothing grows.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use uring_acceptor::config::upstream::{Balance, UpstreamConfig};
use uring_acceptor::config::{Config, Engine, Frontend, Protocol, ProxyConfig};
use uring_acceptor::server::Server;

const RELOADS: usize = 1000;
/// Reloads before the first look at descriptors and memory.
const WARM_UP: usize = 100;
/// How long a client waits for anything.
const SOON: Duration = Duration::from_secs(20);
/// What memory may grow by from the warm-up to the end.
const GROWTH_BYTES: u64 = 24 * 1024 * 1024;

/// Ports below those that the kernel gives to clients, one of which may be taken at any time.
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Addresses that nobody listens on, as far as that can be known.
fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    [(); N].map(|()| {
        loop {
            let number = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
            let offset = (std::process::id() as u16).wrapping_mul(7).wrapping_add(number);
            let port = PORTS.start + offset % PORTS.len() as u16;
            if let Ok(listener) = std::net::TcpListener::bind(("127.0.0.1", port)) {
                return listener.local_addr().expect("it is bound");
            }
        }
    })
}

fn frontend(name: &str, at: SocketAddr, protocol: Protocol) -> Frontend {
    let mut frontend = Frontend::new(name, protocol);
    frontend.listen = vec![at.to_string().parse().expect("it is an address")];
    frontend
}

/// The configuration of a round: echo and proxy stay, two swap their addresses, one comes and goes, upstreams change.
fn config(engine: Engine, at: &[SocketAddr; 8], round: usize) -> Config {
    let [echo, proxy, one, other, ..] = *at;
    // The one before may still be draining.
    let extra = at[4 + round / 3 % 4];
    let (first, second) = if round.is_multiple_of(2) { (one, other) } else { (other, one) };
    let mut config = Config::default();
    config.process.engine = engine;
    config.process.threads.workers = NonZeroUsize::new(2);
    config.frontends = vec![
        frontend("echo", echo, Protocol::Echo),
        frontend("proxy", proxy, Protocol::Proxy(Box::new(ProxyConfig::new("echoes")))),
        frontend("first", first, Protocol::Echo),
        frontend("second", second, Protocol::Echo),
    ];
    config.frontends[0].timeouts.idle = Duration::from_secs(60 + round as u64 % 5);
    if round % 3 == 1 {
        config.frontends.push(frontend(&format!("extra-{}", round % 7), extra, Protocol::Discard));
    }
    let backend = |weight: usize| format!("{echo},weight={}", weight + 1);
    let backends = vec![backend(round % 4).parse().expect("it is a backend")];
    let mut upstream = UpstreamConfig::new(backends);
    upstream.name = "echoes".to_owned();
    upstream.balance = [Balance::LeastConnections, Balance::SourceHash][round % 2];
    config.upstreams = vec![upstream];
    config
}

/// What several clients see until they are told to end.
#[derive(Default)]
struct Clients {
    over: AtomicBool,
    connections: AtomicU64,
    exchanges: AtomicU64,
}

impl Clients {
    fn connect(&self, to: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(to).expect("nobody is refused");
        stream.set_read_timeout(Some(SOON)).expect("it can be set");
        self.connections.fetch_add(1, Ordering::Relaxed);
        stream
    }

    fn exchange(&self, stream: &mut TcpStream, bytes: &[u8]) {
        stream.write_all(bytes).expect("nobody is cut");
        let mut back = vec![0; bytes.len()];
        stream.read_exact(&mut back).expect("nobody is reset");
        assert!(back == bytes, "wrong bytes");
        self.exchanges.fetch_add(1, Ordering::Relaxed);
    }

    fn while_it_lasts(&self, mut act: impl FnMut(u8)) {
        let mut round = 0_u8;
        while !self.over.load(Ordering::Relaxed) {
            act(round);
            round = round.wrapping_add(1);
        }
    }

    /// Connect, one exchange, close.
    fn short(&self, to: SocketAddr) {
        self.while_it_lasts(|round| {
            let mut stream = self.connect(to);
            self.exchange(&mut stream, &[round; 64]);
        });
    }

    /// One connection, exchanges of this size, from before the first reload until after the last.
    fn long(&self, to: SocketAddr, size: usize) {
        let mut stream = self.connect(to);
        self.while_it_lasts(|round| self.exchange(&mut stream, &vec![round; size]));
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("it is there").count()
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("it is there");
    let pages: u64 = status.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("it is a number");
    pages * 4096
}

fn reload_under_load(engine: Engine) {
    let at = free_addresses::<8>();
    let server = Server::start(&config(engine, &at, 0)).expect("it starts");
    let handle = server.handle();
    let clients = Clients::default();
    std::thread::scope(|scope| {
        let [echo, proxy, one, other, ..] = at;
        let clients = &clients;
        let running: Vec<ScopedJoinHandle<'_, ()>> = vec![
            scope.spawn(move || clients.short(echo)),
            scope.spawn(move || clients.short(proxy)),
            scope.spawn(move || clients.short(one)),
            scope.spawn(move || clients.short(other)),
            scope.spawn(move || clients.long(one, 100)),
            scope.spawn(move || clients.long(proxy, 100)),
            scope.spawn(move || clients.long(proxy, 300_000)),
        ];
        let mut before = (0, 0);
        for round in 1..=RELOADS {
            let reloaded =
                handle.reload(config(engine, &at, round)).expect("nothing is in the way");
            assert!(reloaded.warnings.is_empty() && reloaded.fixed.is_empty(), "{reloaded:?}");
            assert!(!reloaded.steps.is_empty());
            if round == WARM_UP {
                before = (descriptors(), resident_bytes());
            }
            if running.iter().any(ScopedJoinHandle::is_finished) {
                break;
            }
        }
        let (descriptors_before, bytes_before) = before;
        let (descriptors, bytes) = (descriptors(), resident_bytes());
        clients.over.store(true, Ordering::Relaxed);
        running.into_iter().for_each(|client| client.join().expect("it saw nothing of it"));
        // Clients come and go: a few more or less are no leak, one for each reload would be.
        assert!(descriptors < descriptors_before + 50, "{descriptors_before}, then {descriptors}");
        assert!(bytes < bytes_before + GROWTH_BYTES, "{bytes_before}, then {bytes}");
    });
    let connections = clients.connections.load(Ordering::Relaxed);
    assert!(connections > 100 && clients.exchanges.load(Ordering::Relaxed) > connections);
    println!("{engine:?}: {RELOADS} reloads under {connections} connections");
    handle.shutdown();
    server.join().expect("it has drained");
}

#[test]
fn a_thousand_reloads_touch_nobody() {
    reload_under_load(Engine::Auto);
    reload_under_load(Engine::Epoll);
}
