//! What a reload costs with a thousand frontends and ten thousand backends: its time, what an exchange meanwhile waits
//! at most, memory and descriptors of a frontend. Run by hand; nothing is asserted.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use uring_acceptor::config::upstream::UpstreamConfig;
use uring_acceptor::config::{Config, Frontend, ListenAddress, Protocol, ProxyConfig};
use uring_acceptor::server::{Handle, Server};

const FRONTENDS: usize = 1000;
const BACKENDS_EACH: usize = 10;

fn frontend(name: String, listen: &str, protocol: Protocol) -> Frontend {
    let mut frontend = Frontend::new(name, protocol);
    frontend.listen = vec![listen.parse().expect("it is an address")];
    frontend
}

/// An echo, and so many proxies with an upstream each, whose idle timeout and weights are those of a round.
fn config(proxies: usize, round: u64) -> Config {
    let mut config = Config::default();
    config.process.threads.workers = NonZeroUsize::new(1);
    config.frontends = vec![frontend("echo".into(), "127.0.0.1:0", Protocol::Echo)];
    config.upstreams.clear();
    for number in 0..proxies {
        let name = format!("upstream-{number}");
        let backend = |index: usize| {
            let weight = 1 + round % 7;
            format!("10.{}.{}.{index}:80,weight={weight}", number / 250, number % 250)
        };
        let backends = (1..=BACKENDS_EACH).map(|index| backend(index).parse().expect("a backend"));
        let mut upstream = UpstreamConfig::new(backends.collect());
        upstream.name.clone_from(&name);
        config.upstreams.push(upstream);
        let proxy = Protocol::Proxy(Box::new(ProxyConfig::new(name)));
        let mut proxy = frontend(format!("proxy-{number}"), "127.0.0.1:0", proxy);
        proxy.timeouts.idle = Duration::from_secs(60 + round);
        config.frontends.push(proxy);
    }
    config
}

/// So many proxies to one upstream.
fn shared(proxies: usize) -> Config {
    let mut all = config(proxies, 0);
    all.upstreams.truncate(1);
    for frontend in &mut all.frontends {
        frontend.name = format!("shared-{}", frontend.name);
        if let Protocol::Proxy(proxy) = &mut frontend.protocol {
            proxy.upstream.clone_from(&all.upstreams[0].name);
        }
    }
    all.frontends[0].name = "echo".to_owned();
    all
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("it is there");
    let pages = status.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("it is a number") * 4
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("it is there").count()
}

/// The longest of the exchanges that one connection makes while `act` runs.
fn longest_exchange(handle: &Handle, act: impl FnOnce()) -> Duration {
    let ListenAddress::Tcp(echo) = handle.frontends()[0].addresses[0].clone() else {
        unreachable!("it is no unix socket")
    };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut stream = TcpStream::connect(echo).expect("it listens");
            stream.set_nodelay(true).expect("it can be set");
            let mut longest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                let start = Instant::now();
                stream.write_all(b"x").expect("it is open");
                stream.read_exact(&mut [0]).expect("it is answered");
                longest = longest.max(start.elapsed());
            }
            longest
        });
        std::thread::sleep(Duration::from_millis(200));
        act();
        over.store(true, Ordering::Relaxed);
        client.join().expect("it has ended")
    })
}

fn main() {
    // `cargo test` and `cargo bench -- --test` only look whether it can be run.
    let is_asked = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    if !is_asked("--bench") || is_asked("--test") {
        return;
    }
    let server = Server::start(&config(0, 0)).expect("it starts");
    let handle = server.handle();
    let reload = |what: &str, config: Config| {
        let mut took = Duration::ZERO;
        let longest = longest_exchange(&handle, || {
            let start = Instant::now();
            let reloaded = handle.reload(config).expect("nothing is in the way");
            took = start.elapsed();
            assert!(reloaded.warnings.is_empty(), "{:?}", reloaded.warnings);
        });
        println!("{what}: {took:?}, longest exchange meanwhile {longest:?}");
    };
    println!(
        "nothing: longest exchange {:?}",
        longest_exchange(&handle, || {
            std::thread::sleep(Duration::from_millis(300));
        })
    );
    let measured = |what: &str, config: Config| {
        let (kib, open) = (resident_kib(), descriptors());
        reload(&format!("{FRONTENDS} {what} added"), config);
        println!(
            "each takes {:.1} KiB and {:.1} descriptors",
            (resident_kib() - kib) as f64 / FRONTENDS as f64,
            (descriptors() - open) as f64 / FRONTENDS as f64
        );
    };
    measured("proxies of one upstream", shared(FRONTENDS));
    reload("all of them removed", config(0, 0));
    // Their sockets drain.
    std::thread::sleep(Duration::from_secs(1));
    measured("proxies with an upstream each", config(FRONTENDS, 0));
    for round in 1..=5 {
        reload(&format!("all of them changed, {round}"), config(FRONTENDS, round));
    }
    println!("{} KiB resident, {} descriptors", resident_kib(), descriptors());
    reload("the same again", config(FRONTENDS, 5));
    reload("all of them removed", config(0, 0));
    handle.stop();
    server.join().expect("it has stopped");
}
