//! Many upstreams in one process, whose threads are counted.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use uring_acceptor::config::upstream::{ActiveCheck, UpstreamConfig};
use uring_acceptor::upstream::{EndpointState, UpstreamRegistry};

const UPSTREAMS: usize = 1000;

/// The threads of this process by name, without a number behind it.
fn threads() -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").expect("it is there").flatten() {
        // One that has just ended.
        let Ok(name) = std::fs::read_to_string(task.path().join("comm")) else { continue };
        let name = name.trim().trim_end_matches(|digit: char| digit.is_ascii_digit());
        *count.entry(name.to_owned()).or_default() += 1;
    }
    count
}

fn upstream(number: usize, address: SocketAddr) -> UpstreamConfig {
    let backends = [format!("name-{number}.example:80"), address.to_string()];
    let backends = backends.map(|text| text.parse().expect("it is a backend"));
    let mut config = UpstreamConfig::new(backends.to_vec());
    config.name = format!("upstream-{number}");
    config.active.check = ActiveCheck::Connect;
    config.resolve_interval = *UpstreamConfig::RESOLVE_INTERVAL.start();
    config
}

#[test]
fn a_thousand_upstreams_have_no_more_threads_than_one() {
    let listen = |host: u8| {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, host], 0)));
        let listener = listener.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        std::thread::spawn(move || while listener.accept().is_ok() {});
        address
    };
    let (address, named) = (listen(1), listen(2));
    let registry = UpstreamRegistry::with_resolver(Box::new(move |_, _| Ok(vec![named])));
    let configs: Vec<_> = (0..UPSTREAMS).map(|number| upstream(number, address)).collect();
    let changes = registry.apply(registry.prepare(&configs).expect("it is right"));
    assert_eq!(changes.0.len(), UPSTREAMS);
    let deadline = Instant::now() + Duration::from_secs(60);
    let is_checked = || {
        let all = registry.all();
        all.iter().all(|one| {
            let is_up = |state| state == EndpointState::Up;
            one.lookups() > 0 && one.endpoints().iter().all(|end| is_up(end.state(Instant::now())))
        })
    };
    while !is_checked() {
        assert!(Instant::now() < deadline, "all are checked and looked up");
        std::thread::yield_now();
    }
    let threads = threads();
    assert_eq!(threads.get("check-"), Some(&16), "{threads:?}");
    assert_eq!(threads.get("resolve"), Some(&1), "{threads:?}");
    assert_eq!(threads.get("log-suppressed"), Some(&1), "{threads:?}");
    assert_eq!(threads.get("resolve-new"), None, "{threads:?}");
    drop(registry);
    while self::threads().keys().any(|name| name == "check-" || name == "log-suppressed") {
        assert!(Instant::now() < deadline, "they end with the registry");
        std::thread::yield_now();
    }
}
